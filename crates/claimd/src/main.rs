//! claimd: the binary.
#![forbid(unsafe_code)]
mod config;
mod keys;
mod metrics;
mod out;
fn main() {}
