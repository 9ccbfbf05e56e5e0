//! The clock that all nodes share: the database's.

use std::time::{Duration, Instant};

use claim::Timestamp;

use super::db::Fault;
use super::{Core, rows};

/// The quickest of so many answers is the one that says most: its clock was read at the latest half of its way ago. The first
/// of a connection also prepares the question.
const QUESTIONS: usize = 5;

impl Core {
    /// How far the database's clock is ahead of `now`, milliseconds.
    pub(super) async fn clock_ahead(&self, now: &(dyn Fn() -> Timestamp + Send + Sync)) -> Result<i64, Fault> {
        let work = async {
            let db = self.borrow().await?;
            let mut best: Option<(Duration, i64)> = None;
            for _ in 0..QUESTIONS {
                let (asked, asked_at) = (Instant::now(), now());
                let row = db.one("SELECT (extract(EPOCH FROM clock_timestamp()) * 1000)::bigint", &[]).await?;
                let took = asked.elapsed();
                let ahead = rows::get::<i64>(&row, 0)?.saturating_sub(asked_at.plus(took / 2).as_millis());
                if best.is_none_or(|(least, _)| took < least) {
                    best = Some((took, ahead));
                }
            }
            db.give_back();
            best.map(|(_, ahead)| ahead).ok_or(Fault::Damaged("no clock was read"))
        };
        let late = |_| Err(Fault::NoConnection("no answer in time".to_owned()));
        tokio::time::timeout(self.patience, work).await.unwrap_or_else(late)
    }
}
