//! What is made from the command line's own description: completions, manual pages, the version.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::{Cli, VersionForm};
use crate::out::{self, Exit};

pub(crate) fn completions(shell: Shell) -> Exit {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "claimd", &mut text);
    out::data(String::from_utf8_lossy(&text));
    Exit::Done
}

pub(crate) fn version(form: VersionForm) -> Exit {
    let version = env!("CARGO_PKG_VERSION");
    out::data(match form {
        VersionForm::Text => format!("claimd {version}"),
        VersionForm::Json => serde_json::json!({"name": "claimd", "version": version}).to_string(),
    });
    Exit::Done
}

/// `claimd.1`, `claimd-device.1`, `claimd-device-create.1`, and so on.
pub(crate) fn man(folder: &Path) -> Exit {
    let made = std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(Cli::command(), folder));
    match made {
        Ok(()) => {
            out::talk(format!(
                "written to {}; read them with `man -l {}/claimd.1`",
                folder.display(),
                folder.display()
            ));
            Exit::Done
        }
        Err(error) => {
            out::error(format!("`{}`: {error}", folder.display()), "give --out DIR that can be written");
            Exit::Usage
        }
    }
}
