//! The audit log as it is read, and its chain. See `crate::audit`.
//!
//! Rows are shown and chained in the order of their positions, and only up to where nothing can turn up in between any more
//! (`horizon.rs`). Of several nodes one at a time goes on with the chains: the one that has the row of `audit_sealing`. What
//! is to be chained is read and hashed before, outside of its transaction, since settled rows never change.

use std::collections::HashMap;
use std::time::Duration;

use claim::audit::{AuditFilter, AuditLog, AuditRow, ChainHash, ChainStretch, Seal};
use claim::{DeviceId, PortFuture, TenantId, Timestamp, Unavailable, UserId};
use tokio_postgres::Row;
use uuid::Uuid;

use super::db::{Db, Fault, Values};
use super::{PostgresRegistry, rows};
use crate::audit::{LAST_BATCH, Link, chain, whatever};

const COLUMNS: &str = "a.seq, a.at, a.tenant, a.actor_kind, a.actor, a.action, a.device, a.outcome, a.reason, \
     a.evidence, a.count, a.charged, a.generation, a.origin, a.request_id";
/// With the row's hash and the one before it in its tenant's chain.
const SEAL: &str = "c.hash, (SELECT p.hash FROM audit_chain p WHERE p.tenant = a.tenant AND p.seq < a.seq \
     ORDER BY p.seq DESC LIMIT 1)";
/// Also by tenant: a row that was moved to another tenant is not sealed there.
const FROM: &str = "audit a LEFT JOIN audit_chain c ON c.seq = a.seq AND c.tenant = a.tenant";
/// How long the sealer waits for transactions that are at work; it comes again soon.
const SEAL_PATIENCE: Duration = Duration::from_millis(200);

fn row(row: &Row) -> Result<AuditRow, Fault> {
    let (kind, actor) = (rows::get::<&str>(row, 3)?, UserId::from_bytes(rows::id(row, 4)?));
    Ok(AuditRow {
        seq: rows::get(row, 0)?,
        at: rows::instant(row, 1)?,
        tenant: TenantId::from_bytes(rows::id(row, 2)?),
        actor: format!("{kind}:{actor}"),
        action: rows::get(row, 5)?,
        device: rows::optional_id(row, 6)?.map(DeviceId::from_bytes),
        outcome: rows::get(row, 7)?,
        reason: rows::get(row, 8)?,
        evidence: rows::get(row, 9)?,
        count: rows::get(row, 10)?,
        charged: rows::get(row, 11)?,
        generation: rows::get(row, 12)?,
        origin: rows::get(row, 13)?,
        request_id: rows::get(row, 14)?,
        seal: None,
    })
}

fn sealed_row(from: &Row) -> Result<AuditRow, Fault> {
    let hash = |column| -> Result<Option<ChainHash>, Fault> {
        Ok(rows::get::<Option<&[u8]>>(from, column)?.map(|hash| ChainHash::from_bytes(whatever(hash))))
    };
    let prev_hash = hash(16)?.unwrap_or(ChainHash::START);
    let hash = hash(15)?;
    Ok(AuditRow { seal: hash.map(|hash| Seal { prev_hash, hash }), ..row(from)? })
}

async fn list(db: &Db, condition: &str, values: Values<'_>) -> Result<Vec<AuditRow>, Fault> {
    let sql = format!("SELECT {COLUMNS}, {SEAL} FROM {FROM} WHERE {condition}");
    db.rows(&sql, values).await?.iter().map(sealed_row).collect()
}

/// A tenant's rows up to `settled`.
async fn filtered(
    db: &Db,
    tenant: TenantId,
    filter: AuditFilter,
    settled: i64,
    most: u32,
) -> Result<Vec<AuditRow>, Fault> {
    let since_time = filter.since_time.map(Timestamp::as_millis);
    let (device, most) = (filter.device.map(|id| id.uuid()), i64::from(most));
    let condition = "a.tenant = $1 AND a.seq > greatest($2, CASE WHEN $3::bigint IS NULL THEN 0 ELSE \
         coalesce((SELECT f.seq - 1 FROM audit f WHERE f.tenant = $1 AND f.at >= $3 ORDER BY f.seq LIMIT 1), \
         9223372036854775807) END) AND ($4::uuid IS NULL OR a.device = $4) AND a.seq <= $5 ORDER BY a.seq LIMIT $6";
    list(db, condition, &[&tenant.uuid(), &filter.since, &since_time, &device, &settled, &most]).await
}

/// Rows up to `settled`, and what is missing among them.
async fn stretch(db: &Db, tenant: TenantId, since: i64, settled: i64, most: u32) -> Result<ChainStretch, Fault> {
    let id = tenant.uuid();
    let condition = "a.tenant = $1 AND a.seq > $2 AND a.seq <= $3 ORDER BY a.seq LIMIT $4";
    let rows = list(db, condition, &[&id, &since, &settled, &i64::from(most)]).await?;
    let last = rows.last().filter(|_| rows.len() == most as usize).map_or(i64::MAX, |row| row.seq);
    let sql = "SELECT c.seq FROM audit_chain c WHERE c.tenant = $1 AND c.seq > $2 AND c.seq <= $3 \
         AND NOT EXISTS (SELECT 1 FROM audit a WHERE a.seq = c.seq AND a.tenant = c.tenant) ORDER BY c.seq LIMIT 1";
    let gone = db.row(sql, &[&id, &since, &last]).await?;
    Ok(ChainStretch { rows, gone: gone.map(|row| rows::get(&row, 0)).transpose()? })
}

/// The newest position that is chained.
async fn sealed_up_to(db: &Db) -> Result<i64, Fault> {
    rows::get(&db.one("SELECT coalesce(max(seq), 0) FROM audit_chain", &[]).await?, 0)
}

/// Hashes that continue the chains.
struct Links {
    /// Good only while the chains end there.
    after: i64,
    links: Vec<Link>,
}

/// The hashes of the next rows up to `settled`.
async fn next_links(db: &Db, settled: i64, most: u32) -> Result<Links, Fault> {
    let after = sealed_up_to(db).await?;
    let sql = format!("SELECT {COLUMNS} FROM audit a WHERE a.seq > $1 AND a.seq <= $2 ORDER BY a.seq LIMIT $3");
    let found = db.rows(&sql, &[&after, &settled, &i64::from(most)]).await?;
    let unsealed = found.iter().map(row).collect::<Result<Vec<_>, _>>()?;
    let heads = heads(db, &unsealed).await?;
    Ok(Links { after, links: chain(&unsealed, heads).ok_or(Fault::Damaged("it has no JSON"))? })
}

/// The ends of the chains that rows continue.
async fn heads(db: &Db, rows: &[AuditRow]) -> Result<HashMap<TenantId, ChainHash>, Fault> {
    let mut tenants: Vec<Uuid> = rows.iter().map(|row| row.tenant.uuid()).collect();
    tenants.sort_unstable();
    tenants.dedup();
    let sql = "SELECT t.id, h.hash FROM unnest($1::uuid[]) AS t (id) CROSS JOIN LATERAL \
         (SELECT hash FROM audit_chain WHERE tenant = t.id ORDER BY seq DESC LIMIT 1) AS h";
    let head = |row: &Row| {
        let hash = ChainHash::from_bytes(whatever(rows::get(row, 1)?));
        Ok((TenantId::from_bytes(rows::id(row, 0)?), hash))
    };
    db.rows(sql, &[&tenants]).await?.iter().map(head).collect()
}

/// Writes hashes down, unless somebody else goes on with the chains, or has since.
async fn append(db: &Db, links: &Links) -> Result<u32, Fault> {
    if db.row("SELECT 1 FROM audit_sealing FOR UPDATE SKIP LOCKED", &[]).await?.is_none()
        || sealed_up_to(db).await? != links.after
    {
        return Ok(0);
    }
    let seqs: Vec<i64> = links.links.iter().map(|(seq, ..)| *seq).collect();
    let tenants: Vec<Uuid> = links.links.iter().map(|(_, tenant, _)| tenant.uuid()).collect();
    let hashes: Vec<&[u8]> = links.links.iter().map(|(.., hash)| hash.as_bytes().as_slice()).collect();
    let sql = "INSERT INTO audit_chain (seq, tenant, hash) SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::bytea[])";
    db.run(sql, &[&seqs, &tenants, &hashes]).await?;
    // Changed, and not locked alone: whoever looked before this commit must not believe what it saw.
    db.run("UPDATE audit_sealing SET seq = $1", &[&seqs.last()]).await?;
    Ok(links.links.len() as u32)
}

impl PostgresRegistry {
    /// Up to where rows are shown; when some transaction is at work for too long, that is what is chained.
    async fn shown_up_to(&self) -> Result<i64, Unavailable> {
        match self.settled_audit(self.core.patience).await? {
            Some(settled) => Ok(settled),
            None => self.read((), |db, ()| Box::pin(sealed_up_to(db))).await,
        }
    }

    /// Chains what is left as far as it is settled, for a node that ends; others go on with what is not.
    pub(crate) async fn seal_the_rest(&self) -> Result<(), Unavailable> {
        while AuditLog::seal(self, LAST_BATCH).await? == LAST_BATCH {}
        Ok(())
    }
}

impl AuditLog for PostgresRegistry {
    fn rows(
        &self,
        tenant: TenantId,
        filter: AuditFilter,
        most: u32,
    ) -> PortFuture<'_, Result<Vec<AuditRow>, Unavailable>> {
        PortFuture::later(async move {
            let args = (tenant, filter, self.shown_up_to().await?, most);
            self.read(args, |db, (tenant, filter, settled, most)| {
                Box::pin(filtered(db, *tenant, *filter, *settled, *most))
            })
            .await
        })
    }

    fn stretch(&self, tenant: TenantId, since: i64, most: u32) -> PortFuture<'_, Result<ChainStretch, Unavailable>> {
        PortFuture::later(async move {
            let args = (tenant, since, self.shown_up_to().await?, most);
            self.read(args, |db, (tenant, since, settled, most)| {
                Box::pin(stretch(db, *tenant, *since, *settled, *most))
            })
            .await
        })
    }

    fn seal(&self, most: u32) -> PortFuture<'_, Result<u32, Unavailable>> {
        PortFuture::later(async move {
            let patience = self.core.patience.min(SEAL_PATIENCE);
            let Some(settled) = self.settled_audit(patience).await? else { return Ok(0) };
            let links = self.read((settled, most), |db, (to, most)| Box::pin(next_links(db, *to, *most))).await?;
            if links.links.is_empty() {
                return Ok(0);
            }
            self.write(links, |db, _, links| Box::pin(append(db, links))).await.map_err(|_| Unavailable)
        })
    }

    fn unsealed(&self) -> PortFuture<'_, Result<u64, Unavailable>> {
        PortFuture::later(self.read((), |db, ()| Box::pin(unsealed(db))))
    }
}

async fn unsealed(db: &Db) -> Result<u64, Fault> {
    let sql = "SELECT count(*) FROM audit WHERE seq > (SELECT coalesce(max(seq), 0) FROM audit_chain)";
    rows::get::<i64>(&db.one(sql, &[]).await?, 0).map(i64::unsigned_abs)
}
