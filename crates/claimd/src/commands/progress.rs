//! Progress of work that takes longer than a second: a bar on a terminal, a line every five seconds in a pipe.

use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

use crate::out;

/// Shows how far `done` has come until it is dropped.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    ticking: JoinHandle<()>,
}

impl Progress {
    /// `total`: `None` when only time tells.
    pub(super) fn start(what: &str, total: Option<u64>, done: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        let done: Arc<dyn Fn() -> u64 + Send + Sync> = Arc::new(done);
        if !out::watched() {
            let what = what.to_owned();
            let ticking = tokio::spawn(async move {
                loop {
                    tokio::time::sleep(Duration::from_secs(5)).await;
                    match total {
                        Some(total) => out::talk(format!("{what}: {} of {total}", done())),
                        None => out::talk(format!("{what}: {}", done())),
                    }
                }
            });
            return Self { bar: None, ticking };
        }
        let bar = match total {
            Some(total) => {
                ProgressBar::new(total).with_style(style("{msg:<24} {bar:30} {pos}/{len}  {per_sec}  {eta}"))
            }
            None => ProgressBar::new_spinner().with_style(style("{msg:<24} {spinner} {pos}  {per_sec}  {elapsed}")),
        };
        bar.set_message(what.to_owned());
        let shown = bar.clone();
        let ticking = tokio::spawn(async move {
            loop {
                shown.set_position(done());
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        Self { bar: Some(bar), ticking }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.ticking.abort();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
