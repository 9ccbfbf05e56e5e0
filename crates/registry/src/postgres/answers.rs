//! Answers of the makers' ports: reads and changes with their refusals, and pages.

use claim::PortFuture;
use claim::directory::{Answer, DirectoryError, Page, PageRequest};
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use super::PostgresRegistry;
use super::db::{Db, Fault, Read};
use super::rows;
use super::write::Change;
use crate::directory::found;

/// A broken unique index is somebody's name that is taken; anything else is the database's trouble.
pub(crate) fn taken(what: &'static str) -> impl Fn(Fault) -> Fault {
    move |fault| match fault.code() {
        Some(&SqlState::UNIQUE_VIOLATION) => DirectoryError::Taken(what).into(),
        _ => fault,
    }
}

/// A broken reference or check: what was named is gone, or what should go is in use.
pub(crate) fn broken_reference(refusal: DirectoryError) -> impl Fn(Fault) -> Fault {
    move |fault| match fault.code() {
        Some(code) if code.code().starts_with("23") => refusal.clone().into(),
        _ => fault,
    }
}

/// One page of `FROM … WHERE …`, ordered by `order`, with the number of rows in all. `text` is matched anywhere in
/// `order`, in any letter case; LIKE's wildcards in it are taken literally.
pub(crate) async fn page<T>(
    db: &Db,
    select: &str,
    from: &str,
    order: &str,
    values: &[&(dyn ToSql + Sync)],
    request: &PageRequest,
    read: fn(&Row) -> Result<T, Fault>,
) -> Result<Page<T>, Fault> {
    let mut from = from.to_owned();
    let mut values = values.to_vec();
    let pattern = request.text.as_ref().map(|text| {
        let escaped = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        format!("%{escaped}%")
    });
    if let Some(pattern) = &pattern {
        values.push(pattern);
        from.push_str(&format!(" AND {order} ILIKE ${} ESCAPE '\\'", values.len()));
    }
    let total: i64 = rows::get(&db.one(&format!("SELECT count(*) FROM {from}"), &values).await?, 0)?;
    let (size, offset) = (i64::from(request.size), i64::from(request.size) * i64::from(request.page));
    values.push(&size);
    values.push(&offset);
    let (limit, skip) = (values.len() - 1, values.len());
    let sql = format!("SELECT {select} FROM {from} ORDER BY {order} LIMIT ${limit} OFFSET ${skip}");
    let rows = db.rows(&sql, &values).await?.iter().map(read).collect::<Result<_, _>>()?;
    Ok(Page { rows, total: total.unsigned_abs() })
}

impl PostgresRegistry {
    /// A read, as a directory's answer.
    pub(crate) async fn look<A: Send + Sync, T>(&self, args: A, read: Read<A, T>) -> Result<T, DirectoryError> {
        self.reading(&args, read).await.map_err(|fault| match fault {
            Fault::Refused(error) => error,
            fault => {
                tracing::error!(%fault, "a read of the registry failed");
                DirectoryError::Unavailable
            }
        })
    }

    /// A read of one thing that must be there.
    pub(crate) fn look_for<'a, A: Send + Sync + 'a, T: 'a>(
        &'a self,
        what: &'static str,
        args: A,
        read: Read<A, Option<T>>,
    ) -> Answer<'a, T> {
        PortFuture::later(async move { found(self.look(args, read).await?, what) })
    }

    /// A change, as a directory's answer.
    pub(crate) fn change<A, T>(&self, args: A, change: Change<A, T>) -> Answer<'_, T>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
    {
        let written = self.write(args, change);
        PortFuture::later(async move { Ok(written.await?) })
    }
}
