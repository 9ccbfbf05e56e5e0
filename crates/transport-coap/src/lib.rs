//! The CoAP transport: RFC 7252 over UDP, with Block1, Observe, Echo, No-Response and discovery.
//!
//! A POST to `/api/v1/{token}/claim` comes in through [`listener`](CoapTransport), is checked and kept apart from its
//! duplicates in `endpoint.rs`, gets its meaning in `resource.rs`, is decided by [`claim::Intake`], and answered in
//! `reply.rs`. The 2.01 leaves after the claim was recorded, never before.
//!
//! Promises: who has not shown that it receives at its address gets at most a few times the bytes it sent and no state;
//! every table, queue and wait has a bound; no error of the network ends the loop; nothing here logs a message, a path or
//! a credential.
#![deny(unsafe_code)]
#![warn(missing_docs)]

mod config;
mod endpoint;
#[doc(hidden)]
pub mod fuzzing;
mod listener;
mod reply;
mod resource;
mod socket;
mod stats;

pub use config::{Config, ConfigFault, ContentFormats, Limits};
pub use listener::{CoapParts, CoapTransport, Serving};
pub use stats::Stats;
