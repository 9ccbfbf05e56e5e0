//! What the command line asks for, but for `serve`.

pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod moving;
pub(crate) mod papers;
mod progress;
mod report;
pub(crate) mod signals;
pub(crate) mod simulate;
