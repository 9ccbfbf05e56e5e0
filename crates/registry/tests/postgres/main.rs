//! The contract batteries of the registry's ports, run against PostgreSQL as `tests/batteries.rs` runs them against SQLite;
//! and what only a server can show.

mod devices;
mod faults;
mod schema;
mod server;
