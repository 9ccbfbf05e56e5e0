//! Audit rows of what changed nothing: written without anybody waiting, summed up when one actor repeats itself.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use claim::Timestamp;
use claim::event::{AuditActor, AuditNote};
use rusqlite::{Connection, params};

/// Rows of one kind and actor in a minute; more are summed up.
const ROWS_PER_MINUTE: u32 = 10;
/// Kinds and actors told apart at once; beyond it rows are dropped and counted.
const KINDS: usize = 65_536;
const MINUTE_MS: i64 = 60_000;

/// One kind of note of one actor.
type Key = ([u8; 16], &'static str, &'static str);

struct Window {
    began: Timestamp,
    rows: u32,
    /// Notes beyond the bound, and the newest of them.
    sum: Option<Sum>,
}

pub(crate) struct Sum {
    pub(crate) note: AuditNote,
    pub(crate) count: i64,
}

#[derive(Default)]
pub(crate) struct Notes {
    windows: Mutex<HashMap<Key, Window>>,
}

impl Notes {
    /// The rows to write now: the note itself, and sums whose minute is over.
    pub(crate) fn admit(&self, note: AuditNote, dropped: &AtomicU64) -> Vec<(AuditNote, i64)> {
        let key = (actor_of(&note).1, note.action.name(), note.outcome);
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows = Vec::new();
        if windows.len() >= KINDS && !windows.contains_key(&key) {
            windows.retain(|_, window| {
                let over = note.at.as_millis() - window.began.as_millis() >= MINUTE_MS;
                if over && let Some(sum) = window.sum.take() {
                    rows.push((sum.note, sum.count));
                }
                !over
            });
            if windows.len() >= KINDS {
                dropped.fetch_add(1, Ordering::Relaxed);
                return rows;
            }
        }
        let window = windows.entry(key).or_insert(Window { began: note.at, rows: 0, sum: None });
        if note.at.as_millis() - window.began.as_millis() >= MINUTE_MS {
            if let Some(sum) = window.sum.take() {
                rows.push((sum.note, sum.count));
            }
            *window = Window { began: note.at, rows: 0, sum: None };
        }
        if window.rows < ROWS_PER_MINUTE {
            window.rows += 1;
            rows.push((note, 1));
        } else {
            let count = window.sum.as_ref().map_or(0, |sum| sum.count) + 1;
            window.sum = Some(Sum { note, count });
        }
        rows
    }

    /// All sums that were not written yet.
    pub(crate) fn take_sums(&self) -> Vec<Sum> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows.drain().filter_map(|(_, window)| window.sum).collect()
    }
}

/// The kind of a note's actor, and its id.
pub(crate) fn actor_of(note: &AuditNote) -> (&'static str, [u8; 16]) {
    match note.actor {
        AuditActor::Account(id) => ("account", *id.as_bytes()),
        AuditActor::Device(id) => ("device", *id.as_bytes()),
    }
}

pub(crate) fn insert(connection: &Connection, note: &AuditNote, count: i64) -> rusqlite::Result<()> {
    let (kind, actor) = actor_of(note);
    connection
        .prepare_cached(
            "INSERT INTO audit (at, tenant, actor_kind, actor, action, device, outcome, reason, evidence, count, \
             charged, attempt_key, origin, request_id) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?
        .execute(params![
            note.at.as_millis(),
            note.tenant.as_bytes(),
            kind,
            actor,
            note.action.name(),
            note.device.as_ref().map(|id| id.as_bytes().as_slice()),
            note.outcome,
            note.reason,
            note.evidence.name(),
            count,
            note.charged,
            note.attempt_key.as_ref().map(<[u8; 16]>::as_slice),
            note.transport.map_or("api", claim::Transport::name),
            note.request_id.cast_signed()
        ])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use claim::event::{AuditAction, Evidence};
    use claim::{DeviceId, TenantId};

    fn note(at: i64) -> AuditNote {
        AuditNote {
            at: Timestamp::from_millis(at),
            tenant: TenantId::from_bytes([0; 16]),
            actor: AuditActor::Device(DeviceId::from_bytes([1; 16])),
            action: AuditAction::Submit,
            device: None,
            attempt_key: None,
            outcome: "malformed",
            reason: "",
            evidence: Evidence::None,
            charged: false,
            transport: None,
            request_id: 0,
        }
    }

    #[test]
    fn the_eleventh_note_of_a_minute_is_summed_up_and_written_with_the_next_minute() {
        let (notes, dropped) = (Notes::default(), AtomicU64::new(0));
        for _ in 0..10 {
            assert_eq!(notes.admit(note(0), &dropped).len(), 1);
        }
        for _ in 0..7 {
            assert!(notes.admit(note(59_999), &dropped).is_empty());
        }
        let rows = notes.admit(note(60_000), &dropped);
        assert_eq!(rows.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [7, 1]);
    }

    #[test]
    fn what_is_summed_up_at_the_end_is_handed_out() {
        let (notes, dropped) = (Notes::default(), AtomicU64::new(0));
        (0..15).for_each(|_| drop(notes.admit(note(0), &dropped)));
        let sums = notes.take_sums();
        assert_eq!(sums.iter().map(|sum| sum.count).collect::<Vec<_>>(), [5]);
    }
}
