//! Progress of work whose end nobody knows: a spinner on a terminal, a line every five seconds in a pipe.

use std::cell::Cell;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::out;

/// How often a pipe hears of it.
const EVERY: Duration = Duration::from_secs(5);

/// Counts until it is dropped.
pub(super) struct Counting {
    doing: String,
    bar: Option<ProgressBar>,
    done: Cell<u64>,
    said: Cell<Instant>,
}

impl Counting {
    pub(super) fn start(doing: &str) -> Self {
        let bar = out::watched().then(|| {
            let style = ProgressStyle::with_template("{msg} {spinner} {pos}  {per_sec}  {elapsed}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
            ProgressBar::new_spinner().with_style(style).with_message(doing.to_owned())
        });
        Self { doing: doing.to_owned(), bar, done: Cell::new(0), said: Cell::new(Instant::now()) }
    }

    pub(super) fn add(&self, more: u64) {
        self.done.set(self.done.get() + more);
        match &self.bar {
            Some(bar) => bar.inc(more),
            None if self.said.get().elapsed() >= EVERY => {
                self.said.set(Instant::now());
                out::talk(format!("{}: {}", self.doing, self.done.get()));
            }
            None => {}
        }
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
