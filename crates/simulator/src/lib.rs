//! Simulated devices, gateways and owners, over real sockets.
//!
//! This crate knows the wire contracts and nothing else of claimd: it speaks MQTT, CoAP and HTTP to a server like any
//! stranger, so what it sees is what firmware and apps see. [`Device`] submits claims over one transport, [`people`]
//! are makers and owners over the HTTP API, [`run`] plays many of them and [`Report`] says how it went.
//!
//! What is not here: knowledge of claimd's crates, a command line, printing.
#![forbid(unsafe_code)]

pub mod body;
pub mod expect;
pub mod people;
pub mod report;
pub mod run;
pub mod transport;
mod trouble;

pub use body::{Encoding, Secrets};
pub use expect::Expectations;
pub use report::{Report, Tally};
pub use transport::{Addresses, Answer, Device, Manner, Transport};
pub use trouble::Trouble;
