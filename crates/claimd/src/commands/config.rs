//! `check-config` and `config print`.

use crate::cli::ConfigArgs;
use crate::config;
use crate::out::{self, Exit};

/// Lists every fault, or says that there is none.
pub(crate) fn check(args: &ConfigArgs) -> Exit {
    match config::load(args.config.as_deref(), std::env::vars(), &[]) {
        Ok(_) => {
            out::data("the configuration is good");
            Exit::Done
        }
        Err(faults) => {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            out::talk(faults.join("\n\n"));
            Exit::Usage
        }
    }
}

/// Prints the merged configuration.
pub(crate) fn print(args: &ConfigArgs, redacted: bool, origin: bool) -> Exit {
    match config::load(args.config.as_deref(), std::env::vars(), &[]) {
        Ok(loaded) => {
            out::data(loaded.print(redacted, origin).trim_end());
            Exit::Done
        }
        Err(_) => check(args),
    }
}
