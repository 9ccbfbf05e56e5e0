//! Backup, restore and migrate: on the store itself, beside a server or without one. What is moved and how is the registry's
//! affair; here is who may, what is shown, and what to do next.

mod backup;
mod migrate;
mod store;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use registry::moving::{MoveError, Store, Trouble, Watch};
use serde_json::Value;

use super::signals;
use crate::cli::Form;
use crate::cli::imports::ProgressForm;
use crate::cli::moving::StoreArgs;
use crate::config::{self, Fault, Settings};
use crate::keys::{self, KeyFault, MasterKeys};
use crate::out::{self, Exit};
use crate::progress::Progress;

pub(crate) use backup::{back_up, restore};
pub(crate) use migrate::migrate;

/// A store as its settings say.
struct Place {
    settings: Settings,
    data_dir: PathBuf,
    store: Store,
    form: Form,
}

/// Why a command ends early; what was to be said was said.
type Done<T = Exit> = Result<T, Exit>;

impl Place {
    fn of(args: &StoreArgs) -> Done<Self> {
        let mut flags = Vec::new();
        if let Some(folder) = &args.data_dir {
            flags.push(("server.data_dir", folder.display().to_string()));
        }
        let loaded = config::load(args.config.config.as_deref(), std::env::vars(), &flags);
        let settings = loaded
            .map_err(|faults| {
                faults.iter().for_each(|fault| out::talk(fault.to_string()));
                Exit::Usage
            })?
            .settings;
        let data_dir = PathBuf::from(&settings.server.data_dir);
        let store = Store::of(&settings.registry, &data_dir, settings.timeouts.store);
        Ok(Self { settings, data_dir, store, form: args.output })
    }

    /// The master key, which must be there: a new one would fit nothing.
    fn keys(&self) -> Done<MasterKeys> {
        let file = self.settings.server.key_file();
        let not_there = || KeyFault {
            path: file.clone(),
            what: "is not there".to_owned(),
            next: "put the key file of this install there, with mode 0600".to_owned(),
        };
        keys::read(&file).and_then(|keys| keys.ok_or_else(not_there)).map_err(|fault| {
            out::error(format!("the master key {} {}", fault.path.display(), fault.what), &fault.next);
            Exit::Usage
        })
    }

    fn json(&self) -> bool {
        match self.form {
            Form::Json => true,
            Form::Table => false,
            Form::Auto => !std::io::stdout().is_terminal(),
        }
    }

    /// The result: one JSON object, or lines of a name and a text.
    fn say(&self, json: &Value, lines: &[(&str, String)]) {
        if self.json() {
            out::data(json.to_string());
        } else {
            lines.iter().for_each(|(name, text)| out::data(format!("{name:<11} {text}")));
        }
    }
}

fn refused(fault: &Fault) -> Exit {
    out::talk(fault.to_string());
    Exit::Usage
}

fn failed(error: &MoveError) -> Exit {
    out::error(&error.what, error.next);
    match error.trouble {
        Trouble::Conflict => Exit::Conflict,
        Trouble::Damaged | Trouble::OtherMaster => Exit::Refused,
        Trouble::Unfit => Exit::Usage,
        Trouble::Unavailable => Exit::Unavailable,
        Trouble::Stopped => Exit::Stopped,
    }
}

fn ended(done: Done) -> Exit {
    done.unwrap_or_else(|exit| exit)
}

/// Shows each step, and stops at the first signal.
struct Shown {
    form: ProgressForm,
    total: Option<u64>,
    step: Option<(&'static str, Progress)>,
    stop: Arc<AtomicBool>,
}

impl Shown {
    /// `total`: rows of a whole step.
    fn new(form: ProgressForm, total: Option<u64>) -> Self {
        Self { form, total, step: None, stop: signals::noted() }
    }

    /// Ends a bar, before something is said.
    fn end(&mut self) {
        self.step = None;
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Watch for Shown {
    fn rows(&mut self, step: &'static str, _table: &'static str, rows: u64) -> bool {
        if self.step.as_ref().is_none_or(|(now, _)| *now != step) {
            // The bar before goes first.
            self.step = None;
            let whole = matches!(step, "reading" | "writing" | "verifying" | "copying");
            self.step = Some((step, Progress::start(self.form, step, self.total.filter(|_| whole))));
        }
        if let Some((_, progress)) = &self.step {
            progress.advance(rows);
        }
        !self.stopped()
    }
}
