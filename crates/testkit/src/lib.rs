//! What tests share: fakes of the ports, fixtures, and one contract battery a port, run against every adapter.
//!
//! Of our crates the library depends on `claim` alone, so that every crate can use it in its tests. Not for production code.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a battery that cannot go on has failed")]

pub mod applications_battery;
pub mod audit_battery;
pub mod cache_battery;
pub mod corpus;
pub mod directory_battery;
pub mod fakes;
pub mod fault_proxy;
pub mod fixtures;
pub mod gateways_battery;
pub mod imports_battery;
pub mod keys_battery;
pub mod ledger_battery;
pub mod manifest;
pub mod outbox_battery;
pub mod postgres;
pub mod rates_battery;
pub mod redis_cluster;
pub mod redis_server;
pub mod registry_battery;
pub mod roles_battery;
pub mod tls;
pub mod wait;

pub use fakes::{
    FakeCache, FakeLedger, FakeRates, FakeRegistry, NoMeter, OpenRates, RecordingListener, RecordingMeter,
};
pub use fixtures::{World, at, confirmation, intake, keyring, origin};
pub use redis_cluster::RedisCluster;
pub use redis_server::RedisServer;
