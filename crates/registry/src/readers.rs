//! Reading connections: a few, borrowed for one short read each, so that no reader holds a checkpoint back.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use claim::Unavailable;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

pub(crate) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Semaphore,
    patience: Duration,
}

impl Readers {
    pub(crate) fn open(path: PathBuf, count: usize, patience: Duration) -> rusqlite::Result<Self> {
        let readers = Self { path, idle: Mutex::new(Vec::new()), permits: Semaphore::new(count.max(1)), patience };
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

    /// Runs a read on a thread that may block; bounded in number and in time.
    pub(crate) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Unavailable> {
        let work = async {
            let _permit = self.permits.acquire().await.map_err(|_| Unavailable)?;
            let readers = Arc::clone(self);
            let done = tokio::task::spawn_blocking(move || {
                let idle = readers.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let connection = match idle {
                    Some(connection) => connection,
                    None => readers.connect()?,
                };
                let result = read(&connection);
                // A connection that failed may be broken; the next read makes a fresh one.
                if result.is_ok() {
                    readers.give_back(connection);
                }
                result
            });
            match done.await {
                Ok(Ok(value)) => Ok(value),
                Ok(Err(error)) => {
                    tracing::error!(%error, "a read of the registry failed");
                    Err(Unavailable)
                }
                Err(_) => Err(Unavailable),
            }
        };
        tokio::time::timeout(self.patience, work).await.unwrap_or(Err(Unavailable))
    }
}
