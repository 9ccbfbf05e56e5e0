//! How far something is, for people and for programs. On standard error.

use std::cell::Cell;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use crate::cli::imports::ProgressForm;
use crate::out;

/// Between two lines where no bar is drawn.
const EVERY: Duration = Duration::from_secs(5);

pub(crate) struct Progress {
    what: &'static str,
    form: ProgressForm,
    total: Option<u64>,
    done: Cell<u64>,
    last: Cell<Instant>,
    bar: ProgressBar,
}

impl Progress {
    pub(crate) fn start(form: ProgressForm, what: &'static str, total: Option<u64>) -> Self {
        let drawn = form == ProgressForm::Bar || (form == ProgressForm::Auto && out::watched());
        let target = if drawn { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(total, target);
        let template = "{msg:<24} {bar:30} {pos}/{len}  {per_sec}  {eta}";
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(what);
        let form = if drawn { ProgressForm::Bar } else { form };
        Self { what, form, total, done: Cell::new(0), last: Cell::new(Instant::now()), bar }
    }

    pub(crate) fn advance(&self, by: u64) {
        self.reach(self.done.get() + by);
    }

    pub(crate) fn reach(&self, done: u64) {
        self.done.set(done);
        self.bar.set_position(done);
        if self.last.get().elapsed() < EVERY {
            return;
        }
        self.last.set(Instant::now());
        match (self.form, self.total) {
            (ProgressForm::Json, total) => {
                out::talk(json!({"progress": self.what, "done": done, "total": total}).to_string());
            }
            (ProgressForm::Auto, Some(total)) => out::talk(format!("{}: {done} of {total}", self.what)),
            (ProgressForm::Auto, None) => out::talk(format!("{}: {done}", self.what)),
            (ProgressForm::Bar | ProgressForm::None, _) => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
