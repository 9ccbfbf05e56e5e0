//! What happened, in the order in which it was done, and the rules that every step of it must keep.
//!
//! The numbers are those of security-and-operations section 6: I1 one owner, I2 a success is durable, I3 an ack is visible,
//! I4 nothing unexpired goes, I5 a miss changes counters only, I6 spent or expired evidence is dead, I8 wrong guesses
//! within their budgets. (I7, audit and outbox in the same transaction, is the store's own: the batteries hold it.)

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use claim::confirmation::{ConfirmOutcome, RefusalCause};
use claim::limits::AttemptBudgets;
use claim::ports::{AssignOwner, AttemptKeys, Freshness, PendingClaim, Reservation, RetryKey};
use claim::{CustomerId, DeviceId, SecretDigest, Timestamp, UserId};

use crate::stores::{Memory, Omitted, Truth};

/// What was seen over a whole run, to know that it was worth looking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) acks: u64,
    pub(crate) claims: u64,
    pub(crate) releases: u64,
    pub(crate) refusals: u64,
    pub(crate) wrong_guesses: u64,
    pub(crate) unknown: u64,
    pub(crate) losses: u64,
    /// Claims of which an answer said so only after a retry.
    pub(crate) settled: u64,
}

impl Seen {
    pub(crate) fn add(&mut self, more: Seen) {
        self.acks += more.acks;
        self.claims += more.claims;
        self.releases += more.releases;
        self.refusals += more.refusals;
        self.wrong_guesses += more.wrong_guesses;
        self.unknown += more.unknown;
        self.losses += more.losses;
        self.settled += more.settled;
    }
}

pub(crate) struct History {
    state: Mutex<State>,
    budgets: AttemptBudgets,
    /// Whether clocks differ by no more than is allowed; beyond it evidence may outlive its time by as much.
    clocks_agree: bool,
}

#[derive(Default)]
struct State {
    /// What happened, a line each; its length is the time of the rules.
    lines: Vec<String>,
    broken: Option<String>,
    names: HashMap<[u8; 16], String>,
    announced: Vec<Announced>,
    submitted: HashMap<[u8; 32], usize>,
    owned: Vec<Owned>,
    released_at: HashMap<DeviceId, usize>,
    lost_at: usize,
    open: Vec<AttemptKeys>,
    /// Retry keys that were answered from memory.
    recalled: HashSet<[u8; 32]>,
    charged: Counts,
    /// What may have been forgotten by a cache that lost what it had while tries were under way.
    slack: Counts,
    seen: Seen,
}

/// A claim in the cache.
struct Announced {
    claim: PendingClaim,
    recorded: usize,
    acked: Option<usize>,
    /// An ownership change came after it.
    void: bool,
    spent: bool,
}

/// A stretch of ownership.
struct Owned {
    device: DeviceId,
    owner: CustomerId,
    until: Option<usize>,
}

#[derive(Default)]
struct Counts {
    pairs: HashMap<AttemptKeys, u32>,
    accounts: HashMap<UserId, u32>,
    devices: HashMap<[u8; 16], u32>,
}

impl Counts {
    fn add(&mut self, keys: AttemptKeys) {
        *self.pairs.entry(keys).or_default() += 1;
        *self.accounts.entry(keys.account).or_default() += 1;
        *self.devices.entry(keys.name).or_default() += 1;
    }

    fn of(&self, keys: AttemptKeys) -> [u32; 3] {
        let pair = self.pairs.get(&keys).copied().unwrap_or_default();
        let account = self.accounts.get(&keys.account).copied().unwrap_or_default();
        [pair, account, self.devices.get(&keys.name).copied().unwrap_or_default()]
    }
}

impl History {
    pub(crate) fn new(budgets: AttemptBudgets, clocks_agree: bool) -> Self {
        Self { state: Mutex::default(), budgets, clocks_agree }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// How somebody is called in the lines.
    pub(crate) fn name(&self, id: [u8; 16], name: &str) {
        self.state().names.insert(id, name.to_owned());
    }

    pub(crate) fn tell(&self, line: String) {
        self.state().tell(line);
    }

    /// A moment, for what is asked from now on.
    pub(crate) fn moment(&self) -> usize {
        self.state().lines.len()
    }

    pub(crate) fn seen(&self) -> Seen {
        self.state().seen
    }

    /// All lines, and the rule that was broken first.
    pub(crate) fn end(&self) -> (Vec<String>, Option<String>) {
        let state = self.state();
        (state.lines.clone(), state.broken.clone())
    }

    pub(crate) fn broken(&self) -> bool {
        self.state().broken.is_some()
    }

    /// A device is about to send this secret, which it never sent before.
    pub(crate) fn submits(&self, digest: SecretDigest) {
        let mut state = self.state();
        let moment = state.lines.len();
        state.submitted.insert(*digest.as_bytes(), moment);
    }

    pub(crate) fn recorded(&self, claim: &PendingClaim) {
        let mut state = self.state();
        let line = format!("recorded {} received {}", state.called(claim.device.as_bytes()), short(claim.received_at));
        state.tell(line);
        let recorded = state.lines.len();
        state.announced.push(Announced { claim: *claim, recorded, acked: None, void: false, spent: false });
    }

    pub(crate) fn acked(&self, device: DeviceId, digest: SecretDigest, expires_at: Timestamp) {
        let mut state = self.state();
        let line = format!("acked {}", state.called(device.as_bytes()));
        state.tell(line);
        state.seen.acks += 1;
        let moment = state.lines.len();
        let heard = state.announced.iter_mut().rev().find(|known| {
            known.claim.device == device && known.claim.digest == digest && known.claim.expires_at == expires_at
        });
        match heard {
            Some(announced) => announced.acked = Some(moment),
            None => state.broke("I3: an ack for what was never recorded"),
        }
    }

    pub(crate) fn removed(&self, claim: &PendingClaim, fence: Option<Timestamp>, omitted: Omitted) {
        let mut state = self.state();
        let line = format!("removed {} received {}", state.called(claim.device.as_bytes()), short(claim.received_at));
        state.tell(line);
        if omitted != Omitted::Fence && fence.is_none_or(|fence| fence < claim.received_at) {
            state.broke("I4, I5: a claim left the cache that no ownership change had made void");
        }
    }

    pub(crate) fn cache_lost(&self, how: &str) {
        let mut state = self.state();
        state.tell(format!("the cache: {how}"));
        state.seen.losses += 1;
        state.lost_at = state.lines.len();
        for keys in std::mem::take(&mut state.open) {
            state.slack.add(keys);
        }
    }

    pub(crate) fn assigned(&self, request: &AssignOwner<'_>) {
        let mut state = self.state();
        let (device, owner) = (request.device, request.owner);
        let line = format!("assigned {} to {}", state.called(device.as_bytes()), state.called(owner.as_bytes()));
        state.tell(line);
        let moment = state.lines.len();
        if state.owner(device).is_some() {
            state.broke("I1: a device that has an owner got another one");
        }
        state.owned.push(Owned { device, owner, until: None });
        state.released_at.insert(device, moment);
        let Freshness::ReceivedAt(received) = request.freshness else { return };
        let proof = request.proof;
        let (mut known, mut spent, mut void, mut alive) = (false, false, true, false);
        for announced in state.announced.iter_mut().filter(|announced| announced.claim.device == device) {
            if announced.claim.received_at == received && announced.claim.digest == proof {
                known = true;
                spent |= announced.spent;
                void &= announced.void;
                alive |= request.now < announced.claim.expires_at;
                announced.spent = true;
            }
            announced.void = true;
        }
        match () {
            () if !known => state.broke("I6: evidence that nobody announced"),
            () if spent => state.broke("I6: a claim that had been spent worked again"),
            () if void && self.clocks_agree => {
                state.broke("I6: a claim from before the last change of ownership worked");
            }
            () if !alive => state.broke("I6: an expired claim worked"),
            () => {}
        }
    }

    pub(crate) fn released(&self, device: DeviceId, previous: CustomerId, fence: Timestamp) {
        let mut state = self.state();
        let called = (state.called(device.as_bytes()), state.called(previous.as_bytes()));
        state.tell(format!("released {} by {}, fence {}", called.0, called.1, short(fence)));
        state.seen.releases += 1;
        let moment = state.lines.len();
        match state.owned.iter_mut().rev().find(|owned| owned.device == device && owned.until.is_none()) {
            Some(owned) if owned.owner == previous => owned.until = Some(moment),
            _ => state.broke("I1: a device was given back by somebody who did not own it"),
        }
        state.released_at.insert(device, moment);
        state.announced.iter_mut().filter(|known| known.claim.device == device).for_each(|known| known.void = true);
    }

    pub(crate) fn reserved(&self, reservation: &Reservation) {
        let mut state = self.state();
        let line = format!("a try is reserved: {}", state.tried(reservation));
        state.tell(line);
        state.open.push(reservation.keys);
    }

    pub(crate) fn refunded(&self, reservation: &Reservation) {
        let mut state = self.state();
        let line = format!("a try is taken back: {}", state.tried(reservation));
        state.tell(line);
        state.close(reservation.keys);
    }

    /// A retry key has its answer already.
    pub(crate) fn recalled(&self, key: &RetryKey) {
        self.state().recalled.insert(key.key);
    }

    /// A node knows its answer to a confirm.
    pub(crate) fn concluded(&self, keys: AttemptKeys, retry: Option<&RetryKey>, outcome: &ConfirmOutcome) {
        let mut state = self.state();
        if retry.is_some_and(|retry| state.recalled.contains(&retry.key)) {
            return;
        }
        if !matches!(outcome, ConfirmOutcome::Refused(refusal) if !refusal.right) {
            return;
        }
        state.close(keys);
        state.charged.add(keys);
        state.seen.wrong_guesses += 1;
        let line = format!("judged wrong: {} at {}", state.called(keys.account.as_bytes()), state.called(&keys.name));
        state.tell(line);
        let budgets = [self.budgets.per_account_and_device, self.budgets.per_account, self.budgets.per_device];
        let (charged, slack) = (state.charged.of(keys), state.slack.of(keys));
        if (0..3).any(|scope| charged[scope] > budgets[scope] + slack[scope]) {
            state.broke(&format!("I8: {charged:?} wrong guesses of {budgets:?}, {slack:?} forgotten"));
        }
    }

    /// An owner heard this, to a question of moment `asked`.
    pub(crate) fn heard(&self, asked: usize, shown: &Shown, outcome: &ConfirmOutcome, again: bool) {
        let mut state = self.state();
        let called = (state.called(shown.owner.as_bytes()), state.called(shown.device.as_bytes()));
        let why = match outcome {
            ConfirmOutcome::Refused(refusal) => refusal.cause.name(),
            other => other.name(),
        };
        state.tell(format!("{} hears of {}: {} ({why})", called.0, called.1, outcome.name()));
        match outcome {
            ConfirmOutcome::Claimed { .. } | ConfirmOutcome::AlreadyYours { .. } => {
                state.seen.claims += 1;
                state.seen.settled += u64::from(again);
                if !state.was_owned(shown.device, asked, |owner| owner == shown.owner) {
                    state.broke("I2: a success that is not in the registry");
                }
            }
            ConfirmOutcome::Refused(refusal) => {
                state.seen.refusals += 1;
                if refusal.cause == RefusalCause::Owned && !state.was_owned(shown.device, asked, |_| true) {
                    state.broke("I2: `owned` of a device that nobody owned");
                }
                if !refusal.owned && state.was_visible(asked, shown) {
                    state.broke("I3: an acked claim was not seen by a confirm that started after its ack");
                }
            }
            ConfirmOutcome::OutcomeUnknown => state.seen.unknown += 1,
            _ => {}
        }
    }

    /// After each step of the simulation; `latest` is what the fastest clock shows.
    pub(crate) fn look(&self, truth: &Truth, memory: &Memory, devices: &[DeviceId], latest: Timestamp) {
        let mut state = self.state();
        for device in devices {
            let row = truth.registry.row(*device).expect("a row");
            if row.owner != state.owner(*device) {
                state.broke("I1, I2: the registry's owner is not who was written last");
            }
            let lost_at = state.lost_at;
            let newest = state.announced.iter().rev().find(|known| known.claim.device == *device);
            let Some(newest) = newest.filter(|known| !known.void && known.recorded > lost_at) else { continue };
            if truth.omitted == Omitted::Fence {
                // What is void cannot be told from what is not.
                continue;
            }
            let alive = latest < newest.claim.expires_at.minus(Duration::from_millis(1))
                && row.claim_reset_at.is_none_or(|fence| fence < newest.claim.received_at);
            if alive && memory.cache.held(*device).is_none_or(|held| held != newest.claim) {
                state.broke("I4: an unexpired claim is gone");
            }
        }
    }
}

/// A confirm, as its owner made it.
pub(crate) struct Shown {
    pub(crate) owner: CustomerId,
    pub(crate) device: DeviceId,
    pub(crate) digest: SecretDigest,
    /// What the node's clock showed.
    pub(crate) at: Timestamp,
}

impl State {
    fn tell(&mut self, line: String) {
        self.lines.push(line);
    }

    fn broke(&mut self, rule: &str) {
        let mut said = rule.to_owned();
        let _ = write!(said, " (line {})", self.lines.len());
        self.broken.get_or_insert(said);
    }

    fn close(&mut self, keys: AttemptKeys) {
        if let Some(place) = self.open.iter().position(|open| *open == keys) {
            self.open.swap_remove(place);
        }
    }

    fn tried(&self, Reservation { keys, at, .. }: &Reservation) -> String {
        format!("{} at {}, {}", self.called(keys.account.as_bytes()), self.called(&keys.name), short(*at))
    }

    fn called(&self, id: &[u8; 16]) -> String {
        self.names.get(id).cloned().unwrap_or_else(|| "?".to_owned())
    }

    fn owner(&self, device: DeviceId) -> Option<CustomerId> {
        let last = self.owned.iter().rev().find(|owned| owned.device == device)?;
        last.until.is_none().then_some(last.owner)
    }

    fn was_owned(&self, device: DeviceId, since: usize, by: impl Fn(CustomerId) -> bool) -> bool {
        let meets = |owned: &Owned| owned.until.is_none_or(|until| until > since);
        self.owned.iter().any(|owned| owned.device == device && meets(owned) && by(owned.owner))
    }

    /// Whether this very secret was acked before the question, is still the device's last word, and nothing has made it
    /// void or lost it since.
    fn was_visible(&self, asked: usize, shown: &Shown) -> bool {
        let Some(newest) = self.announced.iter().rev().find(|known| known.claim.device == shown.device) else {
            return false;
        };
        // A submission that was under way at a change of ownership may be older than the fence; the device repeats.
        let fresh = self.submitted.get(newest.claim.digest.as_bytes()) > self.released_at.get(&shown.device);
        newest.claim.digest == shown.digest
            && newest.acked.is_some_and(|acked| acked <= asked)
            && !newest.void
            && fresh
            && newest.recorded > self.lost_at
            && shown.at < newest.claim.expires_at
    }
}

/// The last digits are what differs.
fn short(at: Timestamp) -> i64 {
    at.as_millis() % 10_000_000
}
