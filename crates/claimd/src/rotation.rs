//! Putting a new master key in the place of the old one while everything goes on.
//!
//! In this order, so that an end at any moment leaves everything readable: both keys into the key file; the keyring's root to
//! the new key, with the audit row; from then on the new key seals and both open; everything sealed is sealed anew in
//! small steps; the new key alone into the file. The next start finds two keys in the file and by the root whether to go on
//! or to forget the new one.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use claim::applications::By;
use claim::directory::{Answer, DirectoryError};
use claim::keys::{MasterKeys, MasterRotation};
use claim::{MasterKey, PortFuture};
use registry::{HandOver, Registry, ResealCursor};
use tokio::sync::oneshot;

use crate::keys;

/// Between tries when the registry or the key file cannot be written.
const RETRY: Duration = Duration::from_secs(1);

/// The master key of a running server.
pub(crate) struct Rotation {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Arc<dyn Registry>,
    file: PathBuf,
    master: Mutex<Arc<MasterKey>>,
    going_on: AtomicBool,
    resealed: AtomicU64,
}

impl Rotation {
    /// Takes over what is in the key file, and goes on with a rotation that was not at its end.
    pub(crate) fn start(
        registry: Arc<dyn Registry>,
        file: PathBuf,
        keys: keys::MasterKeys,
    ) -> std::io::Result<Arc<Self>> {
        let handed_over = registry.handed_over();
        let (master, unsettled) = match keys.before {
            Some(before) if !handed_over => {
                tracing::warn!("a rotation of the master key ended before it began; the key before stays");
                keys::replace(&file, &before, None)?;
                (before, false)
            }
            before => (keys.newest, before.is_some()),
        };
        let inner = Arc::new(Inner {
            registry,
            file,
            master: Mutex::new(Arc::new(master)),
            going_on: AtomicBool::new(unsettled),
            resealed: AtomicU64::new(0),
        });
        if unsettled {
            tracing::warn!("a rotation of the master key was not at its end; going on with it");
            tokio::spawn(Arc::clone(&inner).settle());
        }
        Ok(Arc::new(Self { inner }))
    }
}

impl Inner {
    fn master(&self) -> Arc<MasterKey> {
        Arc::clone(&self.master.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Both keys into the file, then the root to the new one.
    async fn begin(&self, by: By) -> Result<(), DirectoryError> {
        let cannot = |error: std::io::Error| {
            tracing::error!(%error, file = %self.file.display(), "the key file cannot be replaced");
            DirectoryError::Refused("the server cannot replace its key file; nothing was changed, see the log")
        };
        let before = self.master();
        let newest = Arc::new(keys::random().map_err(cannot)?);
        self.write(Arc::clone(&newest), Some(Arc::clone(&before))).await.map_err(cannot)?;
        match self.registry.replace_master(&newest, by).await {
            HandOver::Done => {
                *self.master.lock().unwrap_or_else(PoisonError::into_inner) = newest;
                Ok(())
            }
            HandOver::Not => {
                // A file that keeps the unused key is put right by the next rotation or the next start.
                self.write(before, None).await.map_err(cannot)?;
                Err(DirectoryError::Unavailable)
            }
        }
    }

    async fn write(&self, newest: Arc<MasterKey>, before: Option<Arc<MasterKey>>) -> std::io::Result<()> {
        let file = self.file.clone();
        let writing = tokio::task::spawn_blocking(move || keys::replace(&file, &newest, before.as_deref()));
        writing.await.map_err(std::io::Error::other)?
    }

    /// Seals everything anew, then forgets the key before.
    async fn settle(self: Arc<Self>) {
        self.resealed.store(0, Ordering::Relaxed);
        // Until a whole pass finds nothing to do.
        while self.pass().await > 0 {}
        while let Err(error) = self.write(self.master(), None).await {
            tracing::error!(%error, file = %self.file.display(), "the key file cannot be replaced; trying again");
            tokio::time::sleep(RETRY).await;
        }
        self.registry.settle_master();
        tracing::info!(values = self.resealed.load(Ordering::Relaxed), "everything is sealed under the new master key");
        self.going_on.store(false, Ordering::Release);
    }

    async fn pass(&self) -> u64 {
        let (mut values, mut cursor) = (0, ResealCursor::default());
        loop {
            match self.registry.reseal(cursor).await {
                Ok(step) => {
                    values += step.values;
                    self.resealed.fetch_add(step.values, Ordering::Relaxed);
                    match step.next {
                        Some(next) => cursor = next,
                        None => return values,
                    }
                }
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }
}

impl MasterKeys for Rotation {
    fn rotate(&self, by: By) -> Answer<'_, ()> {
        if self.inner.going_on.swap(true, Ordering::AcqRel) {
            return PortFuture::ready(Err(DirectoryError::InUse("a rotation of the master key is going on")));
        }
        let (sender, begun) = oneshot::channel();
        let inner = Arc::clone(&self.inner);
        // By itself: whoever asked may hang up, and half a rotation is none.
        tokio::spawn(async move {
            let result = inner.begin(by).await;
            let goes_on = result.is_ok();
            if !goes_on {
                inner.going_on.store(false, Ordering::Release);
            }
            let _ = sender.send(result);
            if goes_on {
                inner.settle().await;
            }
        });
        PortFuture::later(async { begun.await.unwrap_or(Err(DirectoryError::Unavailable)) })
    }

    fn rotation(&self) -> MasterRotation {
        MasterRotation {
            going_on: self.inner.going_on.load(Ordering::Acquire),
            resealed: self.inner.resealed.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use claim::directory::Directory;
    use claim::{Timestamp, UserId};
    use registry::SqliteRegistry;
    use std::path::Path;

    fn registry(folder: &Path, keys: &keys::MasterKeys) -> Arc<SqliteRegistry> {
        let (newest, before) = (&keys.newest, keys.before.as_ref());
        SqliteRegistry::open(&registry::Config::default(), folder, newest, before, Duration::from_secs(30)).unwrap()
    }

    fn started(folder: &Path) -> (Arc<SqliteRegistry>, Arc<Rotation>) {
        let file = folder.join("master.key");
        let keys = keys::open(&file).unwrap();
        let registry = registry(folder, &keys);
        (registry.clone(), Rotation::start(registry, file, keys).unwrap())
    }

    fn by() -> By {
        By { account: UserId::random(), now: Timestamp::from_millis(0) }
    }

    #[tokio::test]
    async fn one_rotation_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let (_registry, rotation) = started(folder.path());
        rotation.inner.going_on.store(true, Ordering::Release);
        assert!(matches!(rotation.rotate(by()).await, Err(DirectoryError::InUse(_))));
        rotation.inner.going_on.store(false, Ordering::Release);
        assert_eq!(rotation.rotate(by()).await, Ok(()));
    }

    #[tokio::test]
    async fn a_key_file_that_cannot_be_replaced_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (registry, rotation) = started(folder.path());
        let before = std::fs::read(folder.path().join("master.key")).unwrap();
        std::fs::create_dir(folder.path().join("master.key.new")).unwrap();
        assert!(matches!(rotation.rotate(by()).await, Err(DirectoryError::Refused(_))));
        assert_eq!(rotation.rotation(), MasterRotation { going_on: false, resealed: 0 });
        assert_eq!(std::fs::read(folder.path().join("master.key")).unwrap(), before);
        registry.close();
        assert!(registry.ping().await.is_ok());
        std::fs::remove_dir(folder.path().join("master.key.new")).unwrap();
        started(folder.path());
    }

    #[tokio::test]
    async fn a_rotation_that_the_registry_refuses_leaves_the_key_file_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let (registry, rotation) = started(folder.path());
        let before = std::fs::read(folder.path().join("master.key")).unwrap();
        registry.close();
        assert_eq!(rotation.rotate(by()).await, Err(DirectoryError::Unavailable));
        assert_eq!(std::fs::read(folder.path().join("master.key")).unwrap(), before);
    }

    #[tokio::test]
    async fn a_start_forgets_a_key_that_was_never_used() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("master.key");
        let (registry, _rotation) = started(folder.path());
        registry.close();
        let first = keys::open(&file).unwrap().newest;
        keys::replace(&file, &keys::random().unwrap(), Some(&first)).unwrap();
        let (_registry, rotation) = started(folder.path());
        assert_eq!(std::fs::read(&file).unwrap(), first.expose());
        assert!(!rotation.rotation().going_on);
    }
}
