//! Counters that count nothing, counters that remember everything, and a listener that does.

use std::sync::Mutex;

use claim::event::Evidence;
use claim::ports::{AttemptScope, ClaimSource, Meter};
use claim::{DeviceId, StateChange, StateListener, SubmitOutcome, Transport};

use super::lock;

/// Counts nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMeter;

impl Meter for NoMeter {
    fn submission(&self, _: Option<Transport>, _: ClaimSource, _: SubmitOutcome) {}
    fn batch(&self, _: usize) {}
    fn auth_failure(&self, _: Option<Transport>, _: &'static str) {}
    fn confirmation(&self, _: &'static str, _: Evidence) {}
    fn unclaim(&self, _: &'static str, _: &'static str) {}
    fn attempt_blocked(&self, _: AttemptScope) {}
    fn limit_reached(&self, _: &'static str) {}
}

/// One call of a [`Meter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metered {
    /// `submission`
    Submission(Option<Transport>, ClaimSource, SubmitOutcome),
    /// `batch`
    Batch(usize),
    /// `auth_failure`
    AuthFailure(Option<Transport>, &'static str),
    /// `confirmation`
    Confirmation(&'static str, Evidence),
    /// `unclaim`
    Unclaim(&'static str, &'static str),
    /// `attempt_blocked`
    AttemptBlocked(AttemptScope),
    /// `limit_reached`
    LimitReached(&'static str),
}

/// Remembers every call.
#[derive(Default)]
pub struct RecordingMeter {
    calls: Mutex<Vec<Metered>>,
}

impl RecordingMeter {
    /// All calls since the last time this was asked.
    pub fn take(&self) -> Vec<Metered> {
        std::mem::take(&mut lock(&self.calls))
    }

    /// How often exactly this was called.
    pub fn count(&self, call: Metered) -> usize {
        lock(&self.calls).iter().filter(|seen| **seen == call).count()
    }

    fn push(&self, call: Metered) {
        lock(&self.calls).push(call);
    }
}

impl Meter for RecordingMeter {
    fn submission(&self, transport: Option<Transport>, source: ClaimSource, outcome: SubmitOutcome) {
        self.push(Metered::Submission(transport, source, outcome));
    }
    fn batch(&self, entries: usize) {
        self.push(Metered::Batch(entries));
    }
    fn auth_failure(&self, transport: Option<Transport>, reason: &'static str) {
        self.push(Metered::AuthFailure(transport, reason));
    }
    fn confirmation(&self, outcome: &'static str, evidence: Evidence) {
        self.push(Metered::Confirmation(outcome, evidence));
    }
    fn unclaim(&self, by: &'static str, outcome: &'static str) {
        self.push(Metered::Unclaim(by, outcome));
    }
    fn attempt_blocked(&self, scope: AttemptScope) {
        self.push(Metered::AttemptBlocked(scope));
    }
    fn limit_reached(&self, limit: &'static str) {
        self.push(Metered::LimitReached(limit));
    }
}

/// Remembers every state change it is told.
#[derive(Default)]
pub struct RecordingListener {
    changes: Mutex<Vec<StateChange>>,
    revoked: Mutex<Vec<DeviceId>>,
}

impl RecordingListener {
    /// All changes since the last time this was asked.
    pub fn take(&self) -> Vec<StateChange> {
        std::mem::take(&mut lock(&self.changes))
    }

    /// All revocations since the last time this was asked.
    pub fn take_revoked(&self) -> Vec<DeviceId> {
        std::mem::take(&mut lock(&self.revoked))
    }
}

impl StateListener for RecordingListener {
    fn changed(&self, change: &StateChange) {
        lock(&self.changes).push(change.clone());
    }

    fn revoked(&self, device: DeviceId) {
        lock(&self.revoked).push(device);
    }
}
