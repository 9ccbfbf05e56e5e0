//! Reading connections: a few, borrowed for one short read each, so that no reader holds a checkpoint back.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use claim::Unavailable;
use rusqlite::{Connection, InterruptHandle, OpenFlags};
use tokio::sync::Semaphore;

pub(crate) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
    patience: Duration,
}

impl Readers {
    pub(crate) fn open(path: PathBuf, count: usize, patience: Duration) -> rusqlite::Result<Self> {
        let readers =
            Self { path, idle: Mutex::new(Vec::new()), permits: Arc::new(Semaphore::new(count.max(1))), patience };
        let first = readers.connect()?;
        readers.give_back(first);
        Ok(readers)
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(connection)
    }

    fn give_back(&self, connection: Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }

    /// Runs a read on a thread that may block; bounded in number and in time. One that takes too long is interrupted, and
    /// counts until it has ended.
    pub(crate) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Unavailable> {
        let deadline = tokio::time::Instant::now() + self.patience;
        let permit = tokio::time::timeout_at(deadline, Arc::clone(&self.permits).acquire_owned()).await;
        let permit = permit.map_err(|_| Unavailable)?.map_err(|_| Unavailable)?;
        let readers = Arc::clone(self);
        let running: Arc<Mutex<Option<InterruptHandle>>> = Arc::default();
        let interrupt = Arc::clone(&running);
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let idle = readers.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = match idle {
                Some(connection) => connection,
                None => readers.connect()?,
            };
            *running.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection.get_interrupt_handle());
            let result = read(&connection);
            // From here on an interrupt would hit the next read of this connection.
            *running.lock().unwrap_or_else(PoisonError::into_inner) = None;
            // A connection that failed may be broken; the next read makes a fresh one.
            if result.is_ok() {
                readers.give_back(connection);
            }
            result
        });
        match tokio::time::timeout_at(deadline, done).await {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(error))) => {
                tracing::error!(%error, "a read of the registry failed");
                Err(Unavailable)
            }
            Ok(Err(_)) => Err(Unavailable),
            Err(_) => {
                if let Some(handle) = &*interrupt.lock().unwrap_or_else(PoisonError::into_inner) {
                    handle.interrupt();
                }
                Err(Unavailable)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_read_that_takes_too_long_is_interrupted_and_makes_room() {
        const ENDLESS: &str = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        drop(Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (a)"));
        let readers = Arc::new(Readers::open(path, 1, Duration::from_millis(200)).unwrap());
        let endless = readers.read(|connection| connection.query_row(ENDLESS, [], |row| row.get::<_, i64>(0))).await;
        assert_eq!(endless, Err(Unavailable));
        // The one place is free again: the thread has ended, too.
        let mut answer = Err(Unavailable);
        for _ in 0..50 {
            answer = readers.read(|connection| connection.query_row("SELECT 7", [], |row| row.get::<_, i64>(0))).await;
            if answer.is_ok() {
                break;
            }
        }
        assert_eq!(answer, Ok(7));
    }
}
