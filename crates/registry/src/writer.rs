//! The one writer: a thread that commits in one transaction whatever queued during its last commit, and answers each
//! caller only afterwards.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use claim::directory::DirectoryError;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use crate::lookup::Forget;
use crate::sqlite::{Shared, Stats};

/// Why a change was not made.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It may not be made; nothing of it was written.
    Refused(DirectoryError),
    /// The database could not.
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl From<DirectoryError> for Fault {
    fn from(error: DirectoryError) -> Self {
        Self::Refused(error)
    }
}

/// Why a caller has no answer.
#[derive(Debug)]
pub(crate) enum NotWritten {
    Refused(DirectoryError),
    /// Nothing was written.
    Unavailable,
    /// The commit failed in a way that leaves open whether it happened.
    Unknown,
}

/// What a change leaves behind for after the commit.
#[derive(Default)]
pub(crate) struct After {
    /// What the look-up cache must forget before the caller is answered.
    pub(crate) forget: Vec<Forget>,
    /// Whether an outbox row was written.
    pub(crate) event: bool,
    /// Whether the outbox rows say all that is to be forgotten, to the other nodes too.
    pub(crate) told: bool,
}

/// How the commit went.
#[derive(Clone, Copy, PartialEq)]
enum Commit {
    Done,
    Failed,
    Unknown,
}

type Answer = Box<dyn FnOnce(Commit) + Send>;
type Job = Box<dyn FnOnce(&Connection, &mut After) -> Result<Answer, rusqlite::Error> + Send>;

pub(crate) struct Writer {
    queue: std::sync::Mutex<Option<SyncSender<Job>>>,
    thread: std::sync::Mutex<Option<JoinHandle<()>>>,
    shared: Arc<Shared>,
}

impl Writer {
    pub(crate) fn start(
        connection: Connection,
        shared: Arc<Shared>,
        queue: usize,
        group: usize,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(queue);
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("registry-writer".to_owned())
            .spawn(move || run(&connection, &receiver, &of_thread, group))?;
        Ok(Self { queue: Some(sender).into(), thread: Some(thread).into(), shared })
    }

    /// Queues a change. It runs inside a savepoint, so that a refusal or a failed constraint undoes it alone.
    pub(crate) fn submit<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection, &mut After) -> Result<T, Fault> + Send + 'static,
    ) -> oneshot::Receiver<Result<T, NotWritten>> {
        let (sender, receiver) = oneshot::channel();
        let job: Job = Box::new(move |connection, after| {
            connection.prepare_cached("SAVEPOINT change")?.execute([])?;
            let result = change(connection, after);
            let answer = match result {
                Ok(value) => {
                    connection.prepare_cached("RELEASE change")?.execute([])?;
                    Ok(value)
                }
                Err(fault) => {
                    connection.prepare_cached("ROLLBACK TO change")?.execute([])?;
                    connection.prepare_cached("RELEASE change")?.execute([])?;
                    match fault {
                        Fault::Refused(error) => Err(NotWritten::Refused(error)),
                        Fault::Database(error) => {
                            tracing::error!(%error, "a change of the registry failed");
                            Err(NotWritten::Unavailable)
                        }
                    }
                }
            };
            let answer: Answer = Box::new(move |commit| {
                let answer = match (answer, commit) {
                    (Ok(value), Commit::Done) => Ok(value),
                    (Ok(_), Commit::Failed) => Err(NotWritten::Unavailable),
                    (Ok(_), Commit::Unknown) => Err(NotWritten::Unknown),
                    (Err(error), _) => Err(error),
                };
                // The caller may have given up waiting.
                let _ = sender.send(answer);
            });
            Ok(answer)
        });
        let queue = self.queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match queue.as_ref().map(|queue| queue.try_send(job)) {
            Some(Ok(())) => {
                self.shared.stats.queued.fetch_add(1, Ordering::Relaxed);
            }
            // Full or closed: the job is dropped, and with it the sender, which the caller sees as unavailable.
            Some(Err(TrySendError::Full(_))) => {
                self.shared.stats.refused.fetch_add(1, Ordering::Relaxed);
            }
            Some(Err(TrySendError::Disconnected(_))) | None => {}
        }
        receiver
    }

    /// Commits what is queued, chains what is left of the audit log, and ends the thread.
    pub(crate) fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

fn run(connection: &Connection, queue: &Receiver<Job>, shared: &Shared, group: usize) {
    let mut jobs = Vec::with_capacity(group);
    while let Ok(first) = queue.recv() {
        jobs.push(first);
        jobs.extend(queue.try_iter().take(group.saturating_sub(1)));
        shared.stats.queued.fetch_sub(jobs.len() as u64, Ordering::Relaxed);
        commit(connection, &mut jobs, shared);
    }
    if let Err(error) = crate::audit::seal_the_rest(connection) {
        tracing::error!(%error, "the last rows of the audit log could not be chained; the next start does it");
    }
    // Leaves the file in one piece for whoever copies it.
    let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
}

fn commit(connection: &Connection, jobs: &mut Vec<Job>, shared: &Shared) {
    let (mut after, mut answers) = (After::default(), Vec::with_capacity(jobs.len()));
    let stats: &Stats = &shared.stats;
    let outcome = (|| {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        for job in jobs.drain(..) {
            answers.push(job(connection, &mut after)?);
        }
        Ok::<_, rusqlite::Error>(())
    })();
    let outcome = match outcome {
        Ok(()) => match connection.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([])) {
            Ok(_) => Commit::Done,
            Err(error) => failed(connection, &error, true),
        },
        Err(error) => failed(connection, &error, false),
    };
    jobs.clear();
    if outcome == Commit::Done {
        stats.commits.fetch_add(1, Ordering::Relaxed);
        stats.changes.fetch_add(answers.len() as u64, Ordering::Relaxed);
    } else {
        stats.errors.fetch_add(1, Ordering::Relaxed);
    }
    // Also after an unknown outcome: what may have changed must be read again.
    shared.lookup.forget(&after.forget);
    for answer in answers {
        answer(outcome);
    }
    if after.event {
        shared.wake.notify_waiters();
    }
}

/// What a failed transaction means. A full disk or a locked database has certainly written nothing.
fn failed(connection: &Connection, error: &rusqlite::Error, committing: bool) -> Commit {
    tracing::error!(%error, "the registry could not commit");
    let rolled_back = connection.is_autocommit() || connection.execute_batch("ROLLBACK").is_ok();
    let code = error.sqlite_error_code();
    match code {
        Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::ReadOnly) => {
            Commit::Failed
        }
        _ if committing || !rolled_back => Commit::Unknown,
        _ => Commit::Failed,
    }
}
