//! The device registry: the durable truth about makers, owners and devices. One SQLite file behind the domain's ports, or one
//! PostgreSQL database that several nodes share (`postgres.rs`).
//!
//! With SQLite one thread writes, everything that queued during its last commit in one transaction; a few connections read.
//! A caller is answered after the commit has reached the disk and after this node's look-up cache has forgotten what changed.
//!
//! No protocol, no HTTP, no claim rule is here; the conditions of an ownership change are part of its one UPDATE.
#![forbid(unsafe_code)]

mod audit;
mod children;
mod claims;
mod config;
mod directory;
pub mod examine;
mod imports;
mod install;
mod keys;
mod listings;
mod lookup;
pub mod moving;
mod notes;
mod outbox;
mod oversight;
mod postgres;
mod readers;
mod roles;
mod rows;
mod schema;
mod sealing;
mod sqlite;
mod writer;

pub use config::{Backend, Config};
pub use install::Registry;
pub use keys::{HandOver, ResealCursor, Resealed};
pub use postgres::{PostgresConfig, PostgresRegistry};
pub use sqlite::{OpenError, SqliteRegistry, Stats};
