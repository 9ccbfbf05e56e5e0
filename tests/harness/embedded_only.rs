//! The tests that run on the embedded stores whatever the mode, because what they are about is only there. Whoever adds one
//! says here why it cannot be true of PostgreSQL and Redis; `cargo xtask test` prints the list.

/// Name and reason.
pub(crate) const EMBEDDED_ONLY: &[(&str, &str)] = &[];

/// Where a test names an embedded store by itself, in every mode: file, how often, and what of that store it is about.
pub(crate) const NAMED_STORES: &[(&str, usize, &str)] = &[
    ("doctor.rs", 1, "the modes of the files of an embedded registry"),
    ("moving.rs", 2, "backups and moves go from one named store to the other"),
    ("observability.rs", 1, "figures that only claims in memory have"),
];
