//! The audit log as it is read, and its chain. Rows get in where changes are made; this module changes none.
//!
//! Rows are chained in the order of their positions, which is the order of their commits: there is one writer. What is to
//! be chained is read and hashed beside the writer, which then only inserts, so that claims wait for nobody's hashes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use claim::audit::{AuditFilter, AuditLog, AuditRow, ChainHash, ChainStretch, Seal, link};
use claim::{DeviceId, PortFuture, TenantId, Unavailable, UserId};
use rusqlite::types::Type;
use rusqlite::{Connection, Error, OptionalExtension, Params, Row, params};
use serde_json::Value;

use crate::rows;
use crate::sqlite::SqliteRegistry;

const COLUMNS: &str = "a.seq, a.at, a.tenant, a.actor_kind, a.actor, a.action, a.device, a.outcome, a.reason, \
     a.evidence, a.count, a.charged, a.generation, a.origin, a.request_id";
/// With the row's hash and the one before it in its tenant's chain.
const SEAL: &str = "c.hash, (SELECT p.hash FROM audit_chain p WHERE p.tenant = a.tenant AND p.seq < a.seq \
     ORDER BY p.seq DESC LIMIT 1)";
/// Also by tenant: a row that was moved to another tenant is not sealed there.
const FROM: &str = "audit a LEFT JOIN audit_chain c ON c.seq = a.seq AND c.tenant = a.tenant";
/// Rows chained in one transaction when the registry is closed.
pub(crate) const LAST_BATCH: u32 = 1_000;

/// Bytes of whatever length as some of the right one: who damages a row must not keep it from being read and found.
pub(crate) fn whatever<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().unwrap_or([0xff; N])
}

fn row(row: &Row<'_>) -> rusqlite::Result<AuditRow> {
    let kind: String = row.get(3)?;
    let actor = UserId::from_bytes(whatever(row.get_ref(4)?.as_blob()?));
    Ok(AuditRow {
        seq: row.get(0)?,
        at: rows::instant(row, 1)?,
        tenant: TenantId::from_bytes(rows::bytes(row, 2)?),
        actor: format!("{kind}:{actor}"),
        action: row.get(5)?,
        device: row.get_ref(6)?.as_blob_or_null()?.map(|id| DeviceId::from_bytes(whatever(id))),
        outcome: row.get(7)?,
        reason: row.get(8)?,
        evidence: row.get(9)?,
        count: row.get(10)?,
        charged: row.get(11)?,
        generation: row.get(12)?,
        origin: row.get(13)?,
        request_id: row.get(14)?,
        seal: None,
    })
}

fn sealed_row(from: &Row<'_>) -> rusqlite::Result<AuditRow> {
    let hash = |column| -> rusqlite::Result<Option<ChainHash>> {
        Ok(from.get_ref(column)?.as_blob_or_null()?.map(|hash| ChainHash::from_bytes(whatever(hash))))
    };
    let prev_hash = hash(16)?.unwrap_or(ChainHash::START);
    let hash = hash(15)?;
    Ok(AuditRow { seal: hash.map(|hash| Seal { prev_hash, hash }), ..row(from)? })
}

fn list(connection: &Connection, condition: &str, values: impl Params) -> rusqlite::Result<Vec<AuditRow>> {
    let sql = format!("SELECT {COLUMNS}, {SEAL} FROM {FROM} WHERE {condition}");
    connection.prepare_cached(&sql)?.query_map(values, sealed_row)?.collect()
}

fn stretch(connection: &Connection, tenant: TenantId, since: i64, most: u32) -> rusqlite::Result<ChainStretch> {
    let rows = list(
        connection,
        "a.tenant = ?1 AND a.seq > ?2 ORDER BY a.seq LIMIT ?3",
        params![tenant.as_bytes(), since, most],
    )?;
    let last = rows.last().filter(|_| rows.len() == most as usize).map_or(i64::MAX, |row| row.seq);
    let gone = connection
        .prepare_cached(
            "SELECT c.seq FROM audit_chain c WHERE c.tenant = ?1 AND c.seq > ?2 AND c.seq <= ?3 \
             AND NOT EXISTS (SELECT 1 FROM audit a WHERE a.seq = c.seq AND a.tenant = c.tenant) ORDER BY c.seq LIMIT 1",
        )?
        .query_row(params![tenant.as_bytes(), since, last], |row| row.get(0))
        .optional()?;
    Ok(ChainStretch { rows, gone })
}

/// The newest position that is chained.
fn sealed_up_to(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("SELECT coalesce(max(seq), 0) FROM audit_chain")?.query_row([], |row| row.get(0))
}

/// Hashes that continue the chains.
struct Links {
    /// Good only while the chains end there.
    after: i64,
    links: Vec<Link>,
}

/// A row's position, its tenant, and its hash.
pub(crate) type Link = (i64, TenantId, ChainHash);

/// The hashes of rows in the order of their positions; `heads` are the ends of their tenants' chains. `None`: a row that has
/// no JSON, which none is.
pub(crate) fn chain(rows: &[AuditRow], mut heads: HashMap<TenantId, ChainHash>) -> Option<Vec<Link>> {
    let mut links = Vec::with_capacity(rows.len());
    for row in rows {
        let prev = heads.get(&row.tenant).copied().unwrap_or(ChainHash::START);
        let Ok(Value::Object(members)) = serde_json::to_value(row) else { return None };
        let hash = link(prev, &members)?;
        heads.insert(row.tenant, hash);
        links.push((row.seq, row.tenant, hash));
    }
    Some(links)
}

/// The hashes of the next rows.
fn next_links(connection: &Connection, most: u32) -> rusqlite::Result<Links> {
    let after = sealed_up_to(connection)?;
    let sql = format!("SELECT {COLUMNS} FROM audit a WHERE a.seq > ?1 ORDER BY a.seq LIMIT ?2");
    let unsealed: Vec<AuditRow> =
        connection.prepare_cached(&sql)?.query_map(params![after, most], row)?.collect::<Result<_, _>>()?;
    let mut heads: HashMap<TenantId, ChainHash> = HashMap::new();
    for row in &unsealed {
        if let Entry::Vacant(head) = heads.entry(row.tenant) {
            head.insert(head_of(connection, row.tenant)?);
        }
    }
    let impossible = || Error::FromSqlConversionFailure(0, Type::Integer, "an audit row that has no JSON".into());
    Ok(Links { after, links: chain(&unsealed, heads).ok_or_else(impossible)? })
}

fn head_of(connection: &Connection, tenant: TenantId) -> rusqlite::Result<ChainHash> {
    let head = connection
        .prepare_cached("SELECT hash FROM audit_chain WHERE tenant = ?1 ORDER BY seq DESC LIMIT 1")?
        .query_row([tenant.as_bytes()], |row| Ok(whatever(row.get_ref(0)?.as_blob()?)))
        .optional()?;
    Ok(head.map_or(ChainHash::START, ChainHash::from_bytes))
}

/// Writes hashes down, unless somebody else has gone on with the chains since.
fn append(connection: &Connection, links: &Links) -> rusqlite::Result<u32> {
    if sealed_up_to(connection)? != links.after {
        return Ok(0);
    }
    let mut insert = connection.prepare_cached("INSERT INTO audit_chain (seq, tenant, hash) VALUES (?1, ?2, ?3)")?;
    for (seq, tenant, hash) in &links.links {
        insert.execute(params![seq, tenant.as_bytes(), hash.as_bytes()])?;
    }
    Ok(links.links.len() as u32)
}

/// Chains what is left; on the writer's own connection, when nothing else is written any more.
pub(crate) fn seal_the_rest(connection: &Connection) -> rusqlite::Result<()> {
    loop {
        let links = next_links(connection, LAST_BATCH)?;
        if links.links.is_empty() {
            return Ok(());
        }
        let transaction = connection.unchecked_transaction()?;
        append(connection, &links)?;
        transaction.commit()?;
    }
}

impl AuditLog for SqliteRegistry {
    fn rows(
        &self,
        tenant: TenantId,
        filter: AuditFilter,
        most: u32,
    ) -> PortFuture<'_, Result<Vec<AuditRow>, Unavailable>> {
        PortFuture::later(self.readers.read(move |connection| {
            list(
                connection,
                "a.tenant = ?1 AND a.seq > max(?2, CASE WHEN ?3 IS NULL THEN 0 ELSE coalesce((SELECT min(f.seq) - 1 \
                 FROM audit f WHERE f.tenant = ?1 AND f.at >= ?3), 9223372036854775807) END) \
                 AND (?4 IS NULL OR a.device = ?4) ORDER BY a.seq LIMIT ?5",
                params![
                    tenant.as_bytes(),
                    filter.since,
                    filter.since_time.map(claim::Timestamp::as_millis),
                    filter.device.as_ref().map(|id| id.as_bytes().as_slice()),
                    most
                ],
            )
        }))
    }

    fn stretch(&self, tenant: TenantId, since: i64, most: u32) -> PortFuture<'_, Result<ChainStretch, Unavailable>> {
        PortFuture::later(self.readers.read(move |connection| stretch(connection, tenant, since, most)))
    }

    fn seal(&self, most: u32) -> PortFuture<'_, Result<u32, Unavailable>> {
        PortFuture::later(async move {
            let links = self.readers.read(move |connection| next_links(connection, most)).await?;
            if links.links.is_empty() {
                return Ok(0);
            }
            self.write(move |connection, _| Ok(append(connection, &links)?)).await.map_err(|_| Unavailable)
        })
    }

    fn unsealed(&self) -> PortFuture<'_, Result<u64, Unavailable>> {
        PortFuture::later(self.readers.read(|connection| {
            let sealed = sealed_up_to(connection)?;
            connection
                .prepare_cached("SELECT count(*) FROM audit WHERE seq > ?1")?
                .query_row([sealed], |row| row.get::<_, i64>(0))
                .map(i64::unsigned_abs)
        }))
    }
}
