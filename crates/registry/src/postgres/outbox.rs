//! The outbox: rows written in the transaction of their change, read in order by whoever hands events on. See `crate::outbox`.
//!
//! Parallel transactions draw their positions in one order and commit in another. So the order is that of the writing
//! transactions' ids, and only what is below the oldest transaction under way is read: nothing can come in before it any
//! more. A position is that of its row; when the row is gone, all that was under way beside it is long over, and positions
//! alone tell.

use claim::event::{MakerEvent, OutboxEvent};
use claim::ports::Outbox;
use claim::{CustomerId, DeviceId, PortFuture, TenantId, Timestamp, Unavailable};
use tokio_postgres::Row;
use uuid::Uuid;

use super::db::{Db, Fault};
use super::write::Way;
use super::{PostgresRegistry, rows};
use crate::outbox::{Kind, kind_of};

pub(crate) async fn insert(
    db: &Db,
    tenant: TenantId,
    device: DeviceId,
    name: &str,
    kind: Kind,
    now: Timestamp,
) -> Result<(), Fault> {
    let (text, owner, claimed_at) = kind.parts();
    let sql =
        "INSERT INTO outbox (at, tenant, device, name, kind, owner, claimed_at) VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let owner = owner.map(|owner| owner.uuid());
    db.run(sql, &[&now.as_millis(), &tenant.uuid(), &device.uuid(), &name, &text, &owner, &claimed_at]).await?;
    Ok(())
}

/// A maker's deed, unless it is for the audit log only.
pub(crate) async fn insert_maker(
    db: &Db,
    tenant: TenantId,
    subject: [u8; 16],
    name: &str,
    event: MakerEvent,
    now: Timestamp,
) -> Result<(), Fault> {
    if !event.quiet() {
        let sql = "INSERT INTO outbox (at, tenant, device, name, kind) VALUES ($1, $2, $3, $4, $5)";
        let subject = Uuid::from_bytes(subject);
        db.run(sql, &[&now.as_millis(), &tenant.uuid(), &subject, &name, &event.name()]).await?;
    }
    Ok(())
}

/// Rows that another server wrote, as after a restore, have ids of transactions that are still to come here: they become the
/// oldest.
pub(super) async fn adopt(db: &Db) -> Result<(), Fault> {
    let sql = "UPDATE outbox SET xid = '0' WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())";
    db.run(sql, &[]).await?;
    Ok(())
}

fn event(row: &Row) -> Result<OutboxEvent, Fault> {
    let owner = rows::optional_id(row, 6)?.map(CustomerId::from_bytes);
    Ok(OutboxEvent {
        seq: rows::get(row, 0)?,
        at: rows::instant(row, 1)?,
        tenant: TenantId::from_bytes(rows::id(row, 2)?),
        device: DeviceId::from_bytes(rows::id(row, 3)?),
        name: rows::name(row, 4)?,
        kind: kind_of(rows::get(row, 5)?, owner, rows::optional_instant(row, 7)?),
    })
}

async fn tail(db: &Db, since: i64, limit: i64) -> Result<Vec<OutboxEvent>, Fault> {
    let known = db.row("SELECT xid::text FROM outbox WHERE seq = $1", &[&since]).await?;
    let known: Option<String> = known.map(|row| rows::get(&row, 0)).transpose()?;
    let after = match &known {
        Some(_) => "(xid, seq) > ($3::text::xid8, $1)",
        None => "seq > $1 AND $3::text IS NULL",
    };
    let sql = format!(
        "SELECT seq, at, tenant, device, name, kind, owner, claimed_at FROM outbox \
         WHERE {after} AND xid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY xid, seq LIMIT $2"
    );
    db.rows(&sql, &[&since, &limit, &known]).await?.iter().map(event).collect()
}

async fn head(db: &Db) -> Result<i64, Fault> {
    let sql = "SELECT seq FROM outbox WHERE xid < pg_snapshot_xmin(pg_current_snapshot()) \
         ORDER BY xid DESC, seq DESC LIMIT 1";
    db.row(sql, &[]).await?.map_or(Ok(0), |row| rows::get(&row, 0))
}

/// Never the row of the position itself, nor a newer one: positions must go on growing after the table is emptied.
async fn remove(db: &Db, seq: i64, keep_since: Timestamp) -> Result<(), Fault> {
    let sql = "DELETE FROM outbox WHERE seq IN (SELECT seq FROM outbox \
         WHERE (xid, seq) < (SELECT xid, seq FROM outbox WHERE seq = $1) AND at < $2 ORDER BY xid, seq LIMIT 1000)";
    db.run(sql, &[&seq, &keep_since.as_millis()]).await?;
    Ok(())
}

async fn has_old(db: &Db, seq: i64, keep_since: Timestamp) -> Result<bool, Fault> {
    let sql = "SELECT EXISTS (SELECT 1 FROM outbox WHERE (xid, seq) < (SELECT xid, seq FROM outbox WHERE seq = $1) \
         AND at < $2)";
    rows::get(&db.one(sql, &[&seq, &keep_since.as_millis()]).await?, 0)
}

impl Outbox for PostgresRegistry {
    fn tail(&self, since: i64, limit: usize) -> PortFuture<'_, Result<Vec<OutboxEvent>, Unavailable>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        PortFuture::later(async move {
            let events = self.read((since, limit), |db, (since, limit)| Box::pin(tail(db, *since, *limit))).await?;
            // Whoever is told of an event finds nothing of before it here.
            if !events.is_empty() && self.core.forget_stale().await.is_err() {
                return Err(Unavailable);
            }
            Ok(events)
        })
    }

    fn head(&self) -> PortFuture<'_, Result<i64, Unavailable>> {
        PortFuture::later(self.read((), |db, ()| Box::pin(head(db))))
    }

    fn wake(&self) -> PortFuture<'_, ()> {
        // Registered here and not at the first poll, so that what is committed in between wakes too.
        let mut notified = Box::pin(self.core.shared.wake.notified());
        notified.as_mut().enable();
        PortFuture::Later(notified)
    }

    fn acknowledge(&self, seq: i64, keep_since: Timestamp) -> PortFuture<'_, Result<(), Unavailable>> {
        PortFuture::later(async move {
            let args = (seq, keep_since);
            if !self.read(args, |db, (seq, keep_since)| Box::pin(has_old(db, *seq, *keep_since))).await? {
                return Ok(());
            }
            let removed = self
                .write_as(Way::OneStatement, args, |db, _, (seq, keep_since)| Box::pin(remove(db, *seq, *keep_since)));
            removed.await.map_err(|_| Unavailable)
        })
    }
}
