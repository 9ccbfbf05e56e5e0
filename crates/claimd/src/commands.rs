//! What the command line asks for, but for `serve`.

pub(crate) mod config;
