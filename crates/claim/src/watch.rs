//! What happens to a tenant's claims, told live to those who watch: each submission, confirm and unclaim once, with its
//! exact outcome.
//!
//! While nobody watches, telling costs one relaxed load and makes nothing. A viewer has a bounded queue; one that does
//! not keep up misses happenings, is told how many and where, and never makes a claim wait. Nothing is kept for later:
//! what must not be lost is in the audit log. No happening holds a secret or a token.

mod happening;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::{Context, Poll, Waker};

use crate::device::{DeviceName, TenantId};

pub use happening::{By, Happening};
pub(crate) use happening::{confirmed, submitted, unclaimed};

/// Bounds of a [`WatchFeed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchLimits {
    /// Viewers at once, of all tenants.
    pub viewers: usize,
    /// Happenings that wait for one slow viewer. 1 or more.
    pub queue: usize,
}

impl Default for WatchLimits {
    fn default() -> Self {
        // Two full batches of a gateway.
        Self { viewers: 256, queue: 4096 }
    }
}

/// Why nobody more may watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchError {
    /// There are [`WatchLimits::viewers`] already.
    Full,
    /// The node is stopping.
    Closed,
}

/// The node's live feed.
#[derive(Default)]
pub struct WatchFeed {
    limits: WatchLimits,
    /// How many watch; read before anything else, since every claim passes here.
    count: AtomicUsize,
    table: RwLock<Table>,
}

#[derive(Default)]
struct Table {
    closed: bool,
    viewers: Vec<Arc<Viewer>>,
}

/// One who watches, as the feed sees it.
struct Viewer {
    tenant: TenantId,
    /// Only what concerns this device, or what this gateway says for others.
    device: Option<DeviceName>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Entry>,
    closed: bool,
    waker: Option<Waker>,
}

enum Entry {
    Happened(Arc<Happening>),
    Missed(u64),
}

/// What a viewer is shown next.
#[derive(Clone, Debug)]
pub enum Sight {
    /// Something happened.
    Happened {
        /// Its number among all that this viewer was to see, from 1; what was missed is counted.
        number: u64,
        /// What.
        what: Arc<Happening>,
    },
    /// The viewer was too slow: so much happened between what it saw before and what comes next.
    Missed(u64),
}

/// A viewer's end of the feed; it leaves when dropped.
pub struct Viewing {
    feed: Arc<WatchFeed>,
    viewer: Arc<Viewer>,
    seen: u64,
}

impl WatchFeed {
    /// A feed with these bounds.
    pub fn new(limits: WatchLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Watches a tenant from now on: all of it, or what concerns one device (as itself, or as the gateway that speaks).
    pub fn watch(self: &Arc<Self>, tenant: TenantId, device: Option<DeviceName>) -> Result<Viewing, WatchError> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if table.closed {
            return Err(WatchError::Closed);
        }
        if table.viewers.len() >= self.limits.viewers {
            return Err(WatchError::Full);
        }
        let viewer = Arc::new(Viewer { tenant, device, queue: Mutex::default() });
        table.viewers.push(Arc::clone(&viewer));
        self.count.store(table.viewers.len(), Ordering::Relaxed);
        Ok(Viewing { feed: Arc::clone(self), viewer, seen: 0 })
    }

    /// How many watch now.
    pub fn viewers(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether anybody watches: what is only needed for telling need not be found out otherwise.
    pub(crate) fn watched(&self) -> bool {
        self.viewers() > 0
    }

    /// Ends every viewing, and lets nobody in again: the node stops.
    pub fn close(&self) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.closed = true;
        for viewer in &table.viewers {
            viewer.change(|queue| queue.closed = true);
        }
    }

    /// Tells those who watch the tenant; what happened is put together only if there are any.
    pub(crate) fn tell(&self, tenant: TenantId, what: impl FnOnce() -> Happening) {
        if !self.watched() {
            return;
        }
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let mut viewers = table.viewers.iter().filter(|viewer| viewer.tenant == tenant).peekable();
        if viewers.peek().is_none() {
            return;
        }
        let what = Arc::new(what());
        for viewer in viewers.filter(|viewer| viewer.device.as_ref().is_none_or(|device| what.concerns(device))) {
            viewer.change(|queue| queue.push(&what, self.limits.queue));
        }
    }

    fn leave(&self, viewer: &Arc<Viewer>) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.viewers.retain(|other| !Arc::ptr_eq(other, viewer));
        self.count.store(table.viewers.len(), Ordering::Relaxed);
    }
}

impl Viewer {
    fn change(&self, change: impl FnOnce(&mut Queue)) {
        let waker = {
            let mut queue = self.queue();
            change(&mut queue);
            queue.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn push(&mut self, what: &Arc<Happening>, most: usize) {
        let full = self.waiting.len() >= most;
        match self.waiting.back_mut() {
            Some(Entry::Missed(missed)) if full => *missed += 1,
            // The one entry beyond the bound says that there were more.
            _ if full => self.waiting.push_back(Entry::Missed(1)),
            _ => self.waiting.push_back(Entry::Happened(Arc::clone(what))),
        }
    }
}

impl Viewing {
    /// What comes next, when it comes; `None` when the node stops. Nothing is lost by dropping the future.
    pub async fn next(&mut self) -> Option<Sight> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// What waits already.
    pub fn try_next(&mut self) -> Option<Sight> {
        let entry = self.viewer.queue().waiting.pop_front()?;
        Some(self.sight(entry))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Sight>> {
        let mut queue = self.viewer.queue();
        let Some(entry) = queue.waiting.pop_front() else {
            if queue.closed {
                return Poll::Ready(None);
            }
            queue.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        drop(queue);
        Poll::Ready(Some(self.sight(entry)))
    }

    fn sight(&mut self, entry: Entry) -> Sight {
        match entry {
            Entry::Happened(what) => {
                self.seen += 1;
                Sight::Happened { number: self.seen, what }
            }
            Entry::Missed(missed) => {
                self.seen += missed;
                Sight::Missed(missed)
            }
        }
    }
}

impl Drop for Viewing {
    fn drop(&mut self) {
        self.feed.leave(&self.viewer);
    }
}
