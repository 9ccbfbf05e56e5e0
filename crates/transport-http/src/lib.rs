//! The device-side HTTP API, and the HTTP serving code that everything else of claimd's HTTP runs on.
//!
//! A device's `POST /api/v1/{token}/claim` enters in [`listener`], is given its meaning in `routes.rs`, is decided by
//! [`claim::Intake`] and answered in `reply.rs`. Requests outside `/api/v1/` go to whatever `axum::Router` the binary
//! composed ([`Site`]); this crate knows nothing of it but that it answers.
//!
//! Promises: every read and every request has a deadline, every size a bound, and nothing here logs a path, a header or
//! a body, since a device's token is in its path.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod config;
pub mod listener;
mod reply;
mod routes;
mod wait;

pub use config::{Config, Limits};
pub use listener::{Site, serve};
pub use routes::{DeviceApi, DeviceApiParts};
