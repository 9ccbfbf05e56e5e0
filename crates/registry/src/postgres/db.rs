//! A borrowed connection, and what can go wrong on it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};

use claim::Unavailable;
use claim::directory::DirectoryError;
use deadpool_postgres::{HookError, Object, PoolError};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

use super::{Core, PostgresRegistry};

/// Why there is no answer, or a change was not made.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It may not be made; nothing of it was written.
    Refused(DirectoryError),
    /// The database could not.
    Database(Error),
    /// No connection was free or could be made.
    NoConnection(String),
    /// A row does not read back.
    Damaged(&'static str),
    /// Somebody else has made meanwhile what this was to make.
    Overtaken,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(_) => f.write_str("refused"),
            Self::Database(error) => match error.as_db_error() {
                // Its detail may quote a row.
                Some(error) => write!(f, "{} ({})", error.message(), error.code().code()),
                None => f.write_str(&said(error)),
            },
            Self::NoConnection(error) => write!(f, "no connection: {error}"),
            Self::Damaged(what) => write!(f, "a row is damaged: {what}"),
            Self::Overtaken => f.write_str("somebody else was faster"),
        }
    }
}

/// An error with its causes. None of them holds an address or a password.
pub(super) fn said(error: &Error) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

impl From<DirectoryError> for Fault {
    fn from(error: DirectoryError) -> Self {
        Self::Refused(error)
    }
}

impl Fault {
    /// What the server said, if it was the server.
    pub(crate) fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Database(error) => error.code(),
            _ => None,
        }
    }

    /// The constraint that a row would have broken.
    pub(crate) fn constraint(&self) -> Option<&str> {
        match self {
            Self::Database(error) => error.as_db_error()?.constraint(),
            _ => None,
        }
    }

    /// Whether the same may succeed at once: another transaction was in the way, or the connection was an old one.
    pub(super) fn passes(&self) -> bool {
        match self {
            Self::Overtaken => true,
            Self::Database(error) if error.is_closed() => true,
            _ => matches!(
                self.code(),
                // The last two are a server's last words on an old connection.
                Some(
                    &SqlState::T_R_SERIALIZATION_FAILURE
                        | &SqlState::T_R_DEADLOCK_DETECTED
                        | &SqlState::ADMIN_SHUTDOWN
                        | &SqlState::CRASH_SHUTDOWN
                )
            ),
        }
    }
}

/// The work of a read or a change, boxed: it borrows its connection.
pub(crate) type Doing<'a, T> = Pin<Box<dyn Future<Output = Result<T, Fault>> + Send + 'a>>;
/// A read. It captures nothing, so that it can be run again.
pub(crate) type Read<A, T> = for<'a> fn(&'a Db, &'a A) -> Doing<'a, T>;

/// Parameters of a statement.
pub(crate) type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A connection of the pool. Whoever is through with it gives it back; dropped in the middle of something it is closed.
pub(crate) struct Db {
    connection: Option<Object>,
    /// Whether a statement failed; no transaction commits after that.
    failed: AtomicBool,
}

impl Core {
    pub(super) async fn borrow(&self) -> Result<Db, Fault> {
        let connection = self.pool.get().await.map_err(|error| {
            Fault::NoConnection(match &error {
                PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => said(error),
                error => error.to_string(),
            })
        })?;
        Ok(Db { connection: Some(connection), failed: AtomicBool::new(false) })
    }
}

impl Db {
    fn connection(&self) -> Result<&Object, Fault> {
        self.connection.as_ref().ok_or_else(|| Fault::NoConnection("given back".to_owned()))
    }

    /// All rows.
    pub(crate) async fn rows(&self, sql: &str, values: Values<'_>) -> Result<Vec<Row>, Fault> {
        let connection = self.connection()?;
        let work = async { connection.query(&connection.prepare_cached(sql).await?, values).await };
        self.seen(work.await)
    }

    /// The row, if there is one; more than one are an error.
    pub(crate) async fn row(&self, sql: &str, values: Values<'_>) -> Result<Option<Row>, Fault> {
        let connection = self.connection()?;
        let work = async { connection.query_opt(&connection.prepare_cached(sql).await?, values).await };
        self.seen(work.await)
    }

    /// The row that is always there.
    pub(crate) async fn one(&self, sql: &str, values: Values<'_>) -> Result<Row, Fault> {
        self.row(sql, values).await?.ok_or(Fault::Damaged("a row that must be there is missing"))
    }

    /// Changes rows; how many.
    pub(crate) async fn run(&self, sql: &str, values: Values<'_>) -> Result<u64, Fault> {
        let connection = self.connection()?;
        let work = async { connection.execute(&connection.prepare_cached(sql).await?, values).await };
        self.seen(work.await)
    }

    /// Statements without parameters, unprepared.
    pub(crate) async fn batch(&self, sql: &str) -> Result<(), Fault> {
        self.seen(self.connection()?.batch_execute(sql).await)
    }

    fn seen<T>(&self, result: Result<T, Error>) -> Result<T, Fault> {
        if result.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        Ok(result?)
    }

    /// Whether a statement failed on it.
    pub(super) fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Lets others have the connection.
    pub(super) fn give_back(mut self) {
        drop(self.connection.take());
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        // Perhaps inside a transaction, or with an answer still to come: the next one gets a fresh connection.
        if let Some(connection) = self.connection.take() {
            drop(Object::take(connection));
        }
    }
}

/// How often a read is tried again on another connection.
const READS_AGAIN: u32 = 3;

impl PostgresRegistry {
    /// A read, bounded in time; again if its connection turns out to be an old one.
    pub(crate) async fn read<A: Sync, T>(&self, args: A, read: Read<A, T>) -> Result<T, Unavailable> {
        let result = self.reading(&args, read).await;
        result.map_err(|fault| {
            tracing::error!(%fault, "a read of the registry failed");
            Unavailable
        })
    }

    /// As [`PostgresRegistry::read`], with what went wrong.
    pub(super) async fn reading<A: Sync, T>(&self, args: &A, read: Read<A, T>) -> Result<T, Fault> {
        self.core.reading(args, read).await
    }
}

impl Core {
    /// A read, bounded in time; again if its connection turns out to be an old one.
    pub(super) async fn reading<A: Sync, T>(&self, args: &A, read: Read<A, T>) -> Result<T, Fault> {
        let work = async {
            let mut again = READS_AGAIN;
            loop {
                let db = self.borrow().await?;
                match read(&db, args).await {
                    Err(fault) if again > 0 && fault.passes() => again -= 1,
                    result => {
                        db.give_back();
                        return result;
                    }
                }
            }
        };
        let late = || Fault::NoConnection("no answer in time".to_owned());
        tokio::time::timeout(self.patience, work).await.unwrap_or_else(|_| Err(late()))
    }
}
