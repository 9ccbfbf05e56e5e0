//! The journal's closed files: those whose claims are all over are deleted, those that are mostly superseded rewritten.

use std::io;
use std::sync::Arc;
use std::sync::mpsc;

use claim::{DeviceId, Timestamp};

use super::compaction::compact;
use super::record::{PUT_BYTES, Put};
use super::replay::ClosedFile;
use super::running::{Common, lock};
use super::{Folder, JournalError};
use crate::memory::REMEMBERED;

/// Deletes and rewrites closed files.
pub(super) struct Tidier<F> {
    pub(super) common: Arc<Common>,
    pub(super) folder: Arc<Folder>,
    pub(super) current: F,
}

impl<F: Fn(DeviceId, u64) -> bool> Tidier<F> {
    pub(super) fn run(&self, requests: &mpsc::Receiver<(Timestamp, u64)>) {
        while let Ok((now, held)) = requests.recv() {
            if let Err(error) = self.tidy(now, held) {
                tracing::warn!(%error, "the claim journal could not be tidied; it is tried again");
            }
        }
    }

    fn tidy(&self, now: Timestamp, held: u64) -> Result<(), JournalError> {
        let over = |file: &ClosedFile| file.latest_expiry.is_none_or(|latest| latest.plus(REMEMBERED) <= now);
        loop {
            let Some(file) = lock(&self.common.closed).first().filter(|file| over(file)).cloned() else {
                break;
            };
            self.delete(&file)?;
            lock(&self.common.closed).remove(0);
        }
        let files = lock(&self.common.closed).clone();
        let bytes: u64 = files.iter().map(|file| file.bytes).sum();
        let needed = held.saturating_mul(PUT_BYTES as u64);
        if bytes <= needed.saturating_mul(2).max(self.common.options.segment_bytes.saturating_mul(4)) {
            return Ok(());
        }
        let keep = |put: &Put| put.expires_at.plus(REMEMBERED) > now && (self.current)(put.device, put.stamp);
        let Some(snapshot) = compact(&self.folder, &files, &keep, &self.common.stopping)? else {
            return Ok(());
        };
        lock(&self.common.closed).splice(..files.len(), [snapshot]);
        files.iter().try_for_each(|file| self.delete(file))
    }

    fn delete(&self, file: &ClosedFile) -> Result<(), JournalError> {
        let path = self.folder.file(file.kind, file.number);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(JournalError::io(&path, "delete", error)),
            _ => Ok(()),
        }
    }
}
