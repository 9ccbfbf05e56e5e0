//! The outbox: rows written in the transaction of their change, read in order by whoever hands events on.

use claim::event::{MakerEvent, OutboxEvent, OutboxKind};
use claim::ports::Outbox;
use claim::{CustomerId, DeviceId, PortFuture, TenantId, Timestamp, Unavailable};
use rusqlite::{Connection, Row, params};

use crate::rows;
use crate::sqlite::SqliteRegistry;

/// What a row tells.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Claimed { owner: CustomerId, at: Timestamp },
    Unclaimed,
    CredentialRevoked,
}

impl Kind {
    /// Its name in a row, and what a row of it holds.
    pub(crate) fn parts(self) -> (&'static str, Option<CustomerId>, Option<i64>) {
        match self {
            Self::Claimed { owner, at } => ("claimed", Some(owner), Some(at.as_millis())),
            Self::Unclaimed => ("unclaimed", None, None),
            Self::CredentialRevoked => ("credential_revoked", None, None),
        }
    }
}

pub(crate) fn insert(
    connection: &Connection,
    tenant: TenantId,
    device: DeviceId,
    name: &str,
    kind: Kind,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let (text, owner, claimed_at) = kind.parts();
    connection
        .prepare_cached(
            "INSERT INTO outbox (at, tenant, device, name, kind, owner, claimed_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            now.as_millis(),
            tenant.as_bytes(),
            device.as_bytes(),
            name,
            text,
            owner.as_ref().map(|owner| owner.as_bytes().as_slice()),
            claimed_at
        ])?;
    Ok(())
}

/// A maker's deed, unless it is for the audit log only.
pub(crate) fn insert_maker(
    connection: &Connection,
    tenant: TenantId,
    subject: &[u8; 16],
    name: &str,
    event: MakerEvent,
    now: Timestamp,
) -> rusqlite::Result<()> {
    if !event.quiet() {
        connection
            .prepare_cached("INSERT INTO outbox (at, tenant, device, name, kind) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![now.as_millis(), tenant.as_bytes(), subject, name, event.name()])?;
    }
    Ok(())
}

/// What a row of this name tells.
pub(crate) fn kind_of(name: &str, owner: Option<CustomerId>, claimed_at: Option<Timestamp>) -> OutboxKind {
    match (name, owner, claimed_at) {
        ("claimed", Some(owner), Some(claimed_at)) => OutboxKind::Claimed { owner, claimed_at },
        ("credential_revoked", ..) => OutboxKind::CredentialRevoked,
        (name, ..) => match MakerEvent::ALL.into_iter().find(|event| event.name() == name) {
            Some(event) => OutboxKind::Maker(event),
            None => OutboxKind::Unclaimed,
        },
    }
}

fn event(row: &Row<'_>) -> rusqlite::Result<OutboxEvent> {
    let owner = rows::optional_bytes(row, 6)?.map(CustomerId::from_bytes);
    let kind = kind_of(row.get_ref(5)?.as_str()?, owner, rows::optional_instant(row, 7)?);
    Ok(OutboxEvent {
        seq: row.get(0)?,
        at: rows::instant(row, 1)?,
        tenant: TenantId::from_bytes(rows::bytes(row, 2)?),
        device: DeviceId::from_bytes(rows::bytes(row, 3)?),
        name: rows::name(row, 4)?,
        kind,
    })
}

impl Outbox for SqliteRegistry {
    fn tail(&self, since: i64, limit: usize) -> PortFuture<'_, Result<Vec<OutboxEvent>, Unavailable>> {
        PortFuture::later(self.readers.read(move |connection| {
            connection
                .prepare_cached(
                    "SELECT seq, at, tenant, device, name, kind, owner, claimed_at FROM outbox WHERE seq > ?1 \
                     ORDER BY seq LIMIT ?2",
                )?
                .query_map(params![since, limit as i64], event)?
                .collect()
        }))
    }

    fn head(&self) -> PortFuture<'_, Result<i64, Unavailable>> {
        PortFuture::later(
            self.readers.read(|connection| {
                connection.query_row("SELECT coalesce(max(seq), 0) FROM outbox", [], |row| row.get(0))
            }),
        )
    }

    fn wake(&self) -> PortFuture<'_, ()> {
        // Registered here and not at the first poll, so that what is committed in between wakes too.
        let mut notified = Box::pin(self.shared.wake.notified());
        notified.as_mut().enable();
        PortFuture::Later(notified)
    }

    fn acknowledge(&self, seq: i64, keep_since: Timestamp) -> PortFuture<'_, Result<(), Unavailable>> {
        PortFuture::later(async move {
            let old = self
                .readers
                .read(move |connection| {
                    connection
                        .prepare_cached(
                            "SELECT EXISTS (SELECT 1 FROM outbox WHERE seq <= ?1 AND at < ?2 ORDER BY seq LIMIT 1)",
                        )?
                        .query_row(params![seq, keep_since.as_millis()], |row| row.get::<_, bool>(0))
                })
                .await?;
            if !old {
                return Ok(());
            }
            self.write(move |connection, _| {
                // Never the newest row: positions must go on growing after the table is emptied.
                connection
                    .prepare_cached(
                        "DELETE FROM outbox WHERE seq IN (SELECT seq FROM outbox WHERE seq < ?1 AND at < ?2 \
                         ORDER BY seq LIMIT 1000)",
                    )?
                    .execute(params![seq, keep_since.as_millis()])?;
                Ok(())
            })
            .await
            .map_err(|_| Unavailable)
        })
    }
}
