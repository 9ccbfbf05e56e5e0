//! What the look-up caches of the other nodes must forget. A change writes it in its own transaction; every node reads each
//! row once, as soon as it is told that there is one and each second anyway, and forgets.
//!
//! The outbox holds what becomes final back behind the oldest transaction under way, since its order is promised. Here order
//! means nothing, so nothing waits: a node remembers the snapshot of its last look and reads what was not visible in it.
//! A row of the outbox names a device that changed: a claim and an unclaim write no other.
//!
//! When a node may have missed something (its first look, another server or a restarted one, a long absence, too many rows)
//! it forgets everything.

use std::sync::Arc;
use std::time::{Duration, Instant};

use claim::DeviceId;
use tokio::sync::{Mutex, Notify};

use super::db::{Db, Fault};
use super::write::Way;
use super::{Core, rows};
use crate::lookup::Forget;

/// A node looks this often though nobody tells it to.
const POLL: Duration = Duration::from_secs(1);
/// How long rows are kept. A node that was away for half as long forgets everything.
const KEPT: Duration = Duration::from_secs(3600);
/// Looks between two removals of old rows.
const LOOKS: u32 = 600;
/// Rows of one look; of more everything is forgotten.
const MOST: i64 = 4096;

/// What a node has seen of it.
#[derive(Default)]
pub(super) struct Seen {
    last: Mutex<Option<Look>>,
    /// Somebody committed something.
    pub(super) told: Notify,
}

struct Look {
    snapshot: String,
    /// When the server started: another one may have lost what this one had.
    server: String,
    at: Instant,
}

/// Writes what a change makes stale.
pub(super) async fn insert(db: &Db, stale: &[Forget]) -> Result<(), Fault> {
    let mut what = Vec::with_capacity(stale.len() * 17);
    for stale in stale {
        match stale {
            Forget::Device(id) => entry(&mut what, b'd', id.as_bytes()),
            Forget::Credential(digest) => entry(&mut what, b'c', digest),
            Forget::Gateways(id) => entry(&mut what, b'g', id.as_bytes()),
            Forget::Everything => entry(&mut what, b'*', &[]),
        }
    }
    db.run("INSERT INTO stale (what) VALUES ($1)", &[&what.as_slice()]).await?;
    Ok(())
}

fn entry(what: &mut Vec<u8>, tag: u8, id: &[u8]) {
    what.push(tag);
    what.extend_from_slice(id);
}

/// Reads what [`insert`] wrote. What a newer claimd wrote may be of a kind that is not known here: then it is everything.
fn read(mut what: &[u8], stale: &mut Vec<Forget>) {
    while let Some((tag, rest)) = what.split_first() {
        what = match (tag, rest.split_first_chunk::<16>(), rest.split_first_chunk::<32>()) {
            (b'd', Some((id, rest)), _) => {
                stale.push(Forget::Device(DeviceId::from_bytes(*id)));
                rest
            }
            (b'g', Some((id, rest)), _) => {
                stale.push(Forget::Gateways(DeviceId::from_bytes(*id)));
                rest
            }
            (b'c', _, Some((digest, rest))) => {
                stale.push(Forget::Credential(*digest));
                rest
            }
            _ => return stale.push(Forget::Everything),
        };
    }
}

impl Core {
    /// Forgets what others have changed since the last look. Whatever was committed before this was called is forgotten when
    /// it returns.
    pub(super) async fn forget_stale(&self) -> Result<(), Fault> {
        let mut last = self.seen.last.lock().await;
        let before = last.as_ref().filter(|look| look.at.elapsed() < KEPT / 2);
        let snapshot = before.map(|look| look.snapshot.clone());
        let (look, stale) = self.reading(&snapshot, |db, before| Box::pin(look(db, before.as_deref()))).await?;
        let same = before.is_some_and(|before| before.server == look.server);
        self.shared.lookup.forget(if same { &stale } else { &[Forget::Everything] });
        *last = Some(look);
        Ok(())
    }
}

async fn look(db: &Db, before: Option<&str>) -> Result<(Look, Vec<Forget>), Fault> {
    let at = Instant::now();
    // What a snapshot does not show was committed after it, or is not committed yet.
    let sql = "SELECT pg_current_snapshot()::text, pg_postmaster_start_time()::text, news.what FROM (SELECT 1) one \
         LEFT JOIN ((SELECT '\\x64'::bytea || uuid_send(device) AS what FROM outbox \
         WHERE xid >= pg_snapshot_xmin($1::text::pg_snapshot) \
         AND NOT pg_visible_in_snapshot(xid, $1::text::pg_snapshot) LIMIT $2) \
         UNION ALL (SELECT what FROM stale WHERE xid >= pg_snapshot_xmin($1::text::pg_snapshot) \
         AND NOT pg_visible_in_snapshot(xid, $1::text::pg_snapshot) LIMIT $2)) news ON TRUE";
    let found = db.rows(sql, &[&before, &MOST]).await?;
    let first = found.first().ok_or(Fault::Damaged("a snapshot is missing"))?;
    let look = Look { snapshot: rows::get(first, 0)?, server: rows::get(first, 1)?, at };
    let mut stale = Vec::with_capacity(found.len());
    for row in &found {
        if let Some(what) = rows::get::<Option<&[u8]>>(row, 2)? {
            read(what, &mut stale);
        }
    }
    if found.len() as i64 >= MOST {
        stale = vec![Forget::Everything];
    }
    Ok((look, stale))
}

/// Rows that another server wrote, as after a restore, are of transactions that are still to come here.
pub(super) async fn adopt(db: &Db) -> Result<(), Fault> {
    db.run("DELETE FROM stale WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())", &[]).await?;
    Ok(())
}

/// Looks whenever something may have changed, until it is dropped.
pub(super) async fn follow(core: Arc<Core>) {
    let mut looks: u32 = 0;
    loop {
        if let Err(fault) = core.forget_stale().await {
            tracing::debug!(%fault, "what other nodes changed is not known");
        }
        looks = looks.wrapping_add(1);
        if looks.is_multiple_of(LOOKS) {
            let kept = KEPT.as_millis() as i64;
            let removed = core.write(Way::ReadCommitted, &kept, |db, _, kept| Box::pin(remove(db, *kept)));
            // Or with the next one.
            drop(removed.await);
        }
        let _ = tokio::time::timeout(POLL, core.seen.told.notified()).await;
    }
}

async fn remove(db: &Db, kept: i64) -> Result<u64, Fault> {
    db.run("DELETE FROM stale WHERE at < (extract(EPOCH FROM now()) * 1000)::bigint - $1", &[&kept]).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_everything() {
        let mut stale = Vec::new();
        let mut what = Vec::new();
        entry(&mut what, b'd', &[1; 16]);
        entry(&mut what, b'c', &[2; 32]);
        entry(&mut what, b'g', &[3; 16]);
        read(&what, &mut stale);
        let [Forget::Device(device), Forget::Credential(digest), Forget::Gateways(of)] = stale[..] else {
            panic!("{stale:?}")
        };
        assert_eq!((device.as_bytes(), digest, of.as_bytes()), (&[1; 16], [2; 32], &[3; 16]));
        for unknown in [b"*".as_slice(), b"x", b"d1"] {
            let mut stale = Vec::new();
            read(unknown, &mut stale);
            assert!(matches!(stale[..], [Forget::Everything]), "{unknown:?}: {stale:?}");
        }
    }
}
