//! The contract batteries of the registry's ports, run against PostgreSQL as `tests/batteries.rs` runs them against SQLite;
//! and what only a server can show.

mod audit;
mod devices;
mod directory;
mod faults;
mod imports;
mod keys;
mod listings;
mod lookups;
mod roles;
mod schema;
mod server;
mod tls;
