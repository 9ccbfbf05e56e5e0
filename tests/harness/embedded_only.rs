//! The tests that run on the embedded stores whatever the mode, because what they are about is only there. Whoever adds one
//! says here why it cannot be true of PostgreSQL and Redis; `cargo xtask test` prints the list.

/// Name and reason.
pub(crate) const EMBEDDED_ONLY: &[(&str, &str)] = &[];
