//! The MQTT listener: 3.1.1 and 5 on one port, over TCP and WebSocket.
//!
//! A PUBLISH to `v1/devices/me/claim` comes in through `listener.rs`, is cut into packets and checked in `engine.rs`,
//! gets its meaning in `topic.rs`, is carried through its life in `session.rs`, decided by [`claim::Intake`], and answered
//! in `reply.rs`. The PUBACK leaves after the claim was recorded, never before.
//!
//! Promises: a connection's acks leave in the order of its publishes; every size, queue and wait has a bound; what one
//! client sends ends at most its own connection; nothing here logs a packet, a topic or a credential.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod config;
mod engine;
#[doc(hidden)]
pub mod fuzzing;
mod hub;
mod listener;
mod reply;
mod session;
mod subscriptions;
mod topic;
mod websocket;
mod wire;

pub use config::{Config, Limits, OtherTopics};
pub use hub::Stats;
pub use listener::{MqttParts, MqttTransport, Serving};
