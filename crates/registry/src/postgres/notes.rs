//! Audit rows of what changed nothing: queued without anybody waiting, written by one task, what is queued in one
//! transaction. See `crate::notes`.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use claim::event::AuditNote;
use claim::{PortFuture, Unavailable};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::db::{Db, Fault};
use super::write::Way;
use super::{Core, PostgresRegistry};
use crate::notes::{Notes, actor_of};

/// Notes that may wait; more are dropped and counted.
const QUEUE: usize = 8_192;
/// Notes written together at the most.
const TOGETHER: usize = 128;

type Row = (AuditNote, i64);

/// Notes on their way.
pub(super) struct Queue {
    admission: Notes,
    sender: Mutex<Option<Sender<Row>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    core: Arc<Core>,
}

impl Queue {
    pub(super) fn start(core: &Arc<Core>) -> Self {
        let (sender, receiver) = channel(QUEUE);
        let writer = tokio::spawn(write_all(Arc::clone(core), receiver));
        Self {
            admission: Notes::default(),
            sender: Some(sender).into(),
            writer: Some(writer).into(),
            core: Arc::clone(core),
        }
    }

    fn put(&self, row: Row) {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        // Full, or closed.
        if sender.as_ref().is_none_or(|sender| sender.try_send(row).is_err()) {
            self.core.shared.stats.notes_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) async fn close(&self) {
        for sum in self.admission.take_sums() {
            self.put((sum.note, sum.count));
        }
        drop(self.sender.lock().unwrap_or_else(PoisonError::into_inner).take());
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // Each of its writes is bounded; all of them together are here.
            let _ = tokio::time::timeout(self.core.patience, writer).await;
        }
    }
}

/// Ends when the queue is closed and empty.
async fn write_all(core: Arc<Core>, mut queue: Receiver<Row>) {
    let mut rows = Vec::with_capacity(TOGETHER);
    while queue.recv_many(&mut rows, TOGETHER).await > 0 {
        let count = rows.len() as u64;
        let written = core.write(Way::ReadCommitted, &rows, |db, _, rows| Box::pin(insert_all(db, rows))).await;
        if written.is_err() {
            core.shared.stats.notes_dropped.fetch_add(count, Ordering::Relaxed);
        }
        rows.clear();
    }
}

async fn insert_all(db: &Db, rows: &[Row]) -> Result<(), Fault> {
    for (note, count) in rows {
        insert(db, note, *count).await?;
    }
    Ok(())
}

async fn insert(db: &Db, note: &AuditNote, count: i64) -> Result<(), Fault> {
    let sql = "INSERT INTO audit (at, tenant, actor_kind, actor, action, device, outcome, reason, evidence, count, \
         charged, attempt_key, origin, request_id) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
    let (kind, actor) = actor_of(note);
    db.run(
        sql,
        &[
            &note.at.as_millis(),
            &note.tenant.uuid(),
            &kind,
            &Uuid::from_bytes(actor),
            &note.action.name(),
            &note.device.map(|id| id.uuid()),
            &note.outcome,
            &note.reason,
            &note.evidence.name(),
            &count,
            &note.charged,
            &note.attempt_key.as_ref().map(<[u8; 16]>::as_slice),
            &note.transport.map_or("api", claim::Transport::name),
            &note.request_id.cast_signed(),
        ],
    )
    .await?;
    Ok(())
}

impl PostgresRegistry {
    pub(super) fn admit(&self, note: AuditNote) {
        for row in self.notes.admission.admit(note, &self.core.shared.stats.notes_dropped) {
            self.notes.put(row);
        }
    }

    pub(super) fn charge(&self, note: AuditNote) -> PortFuture<'_, Result<(), Unavailable>> {
        let written = self.write_as(Way::OneStatement, note, |db, _, note| Box::pin(insert(db, note, 1)));
        PortFuture::later(async move { written.await.map_err(|_| Unavailable) })
    }
}
