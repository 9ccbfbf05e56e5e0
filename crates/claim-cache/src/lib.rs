//! Pending claims, attempt counters and submission rates: in this process's memory, with a journal of the claims on disk, or
//! in a store that several nodes share.
//!
//! [`MemoryClaimCache`] is the [`claim::ports::ClaimCache`] of a single node: a sharded map, a coarse expiry ring, a bound
//! that refuses before the ack and never evicts what is unexpired, and a journal from which an acknowledged claim comes
//! back after a crash as far as [`Durability`] says. [`MemoryAttempts`] and [`MemoryRates`] count beside it.
//! [`RedisClaimCache`] and [`RedisAttempts`] are those of several nodes.
//!
//! Not here: any rule about who may claim what, and any protocol.
#![deny(unsafe_code)]
#![warn(missing_docs)]

mod attempts;
mod clock;
mod config;
pub mod journal;
mod memory;
mod rates;
mod redis;

pub use attempts::MemoryAttempts;
pub use clock::SystemClock;
pub use config::{Backend, Config, Durability};
pub use memory::{MemoryClaimCache, OpenError, Stats, Sweeper};
pub use rates::MemoryRates;
pub use redis::{ChargedTries, RedisAttempts, RedisClaimCache, RedisSweeper, StoreFacts, examine};
