//! Up to which position of the audit log nothing can turn up any more.
//!
//! Positions are drawn before they are committed, so a row may become visible behind a later one. Whoever reads on from the last
//! position it saw would never see such a row, and a chain would have a hole where it is. So the last position that was drawn
//! is looked up, then a transaction id is taken: when no older transaction is at work any more, every row up to that position
//! is visible, or never will be. It holds since a transaction has its id before it draws a position: `xid` stands before
//! `seq` in the table, and the sequence hands out no positions ahead.

use std::time::Duration;

use claim::Unavailable;
use tokio::time::Instant;

use super::db::{Db, Fault};
use super::{PostgresRegistry, rows};

/// Between two looks at what is at work; then twice as long each, up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(50);

impl PostgresRegistry {
    /// A position of the audit log up to which every row is visible, or never will be; all that were committed before the call
    /// are. `None`: some transaction, perhaps of somebody else on this server, is at work for longer than `patience`.
    pub(crate) async fn settled_audit(&self, patience: Duration) -> Result<Option<i64>, Unavailable> {
        let deadline = Instant::now() + patience;
        let (position, xid) = self.read((), |db, ()| Box::pin(drawn(db))).await?;
        let mut pause = FIRST;
        while self.read((), |db, ()| Box::pin(oldest_at_work(db))).await? <= xid {
            if Instant::now() + pause > deadline {
                return Ok(None);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST);
        }
        Ok(Some(position))
    }
}

/// The last position that was drawn, then a transaction's id; that transaction is over.
async fn drawn(db: &Db) -> Result<(i64, i64), Fault> {
    let position = db.one("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM audit_seq_seq", &[]).await?;
    // A statement of its own, so that it is taken after the look at the sequence.
    let xid = db.one("SELECT pg_current_xact_id()::text::bigint", &[]).await?;
    Ok((rows::get(&position, 0)?, rows::get(&xid, 0)?))
}

async fn oldest_at_work(db: &Db) -> Result<i64, Fault> {
    rows::get(&db.one("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint", &[]).await?, 0)
}
