//! What the domain needs from the world. Each method is one domain verb and atomic by contract; its doc says what a
//! false answer would mean.
//!
//! Each port has one contract battery in `testkit`, run against every adapter.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::device::{Device, DeviceId, DeviceName, TenantId};
use crate::eui::Eui64;
use crate::event::{AuditNote, Evidence, OutboxEvent};
use crate::intake::SubmitOutcome;
use crate::limits::{AttemptBudgets, Budget};
use crate::listing::ListingId;
use crate::origin::{Origin, Transport};
use crate::owner::{CustomerId, UserId};
use crate::policy::GatewayScope;
use crate::secret::{CredentialDigest, SecretDigest};
use crate::time::Timestamp;

/// An answer of a port: either here already, or a boxed future. What memory can answer costs no allocation.
pub enum PortFuture<'a, T> {
    /// The answer, until polled.
    Ready(Option<T>),
    /// The answer comes later.
    Later(Pin<Box<dyn Future<Output = T> + Send + 'a>>),
}

impl<'a, T> PortFuture<'a, T> {
    /// An answer that is here.
    pub fn ready(value: T) -> Self {
        Self::Ready(Some(value))
    }

    /// An answer that comes later.
    pub fn later(future: impl Future<Output = T> + Send + 'a) -> Self {
        Self::Later(Box::pin(future))
    }
}

impl<T: Unpin> Future for PortFuture<'_, T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match self.get_mut() {
            // Like every future, polling again after the answer is the caller's mistake; waiting for ever is its price.
            Self::Ready(value) => value.take().map_or(Poll::Pending, Poll::Ready),
            Self::Later(future) => future.as_mut().poll(cx),
        }
    }
}

/// A store did not answer in time or cannot answer. Nothing is known to have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unavailable;

/// Who announced a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClaimSource {
    /// The device itself.
    Device,
    /// A gateway for it.
    Gateway,
}

impl ClaimSource {
    /// The source's name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            ClaimSource::Device => "device",
            ClaimSource::Gateway => "gateway",
        }
    }
}

/// An announced claim, waiting for its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingClaim {
    /// The tenant whose quota it counts against.
    pub tenant: TenantId,
    /// The device; at most one pending claim each.
    pub device: DeviceId,
    /// Digest of the secret.
    pub digest: SecretDigest,
    /// When it was received; compared with the registry's fence.
    pub received_at: Timestamp,
    /// Valid until just before this instant.
    pub expires_at: Timestamp,
    /// Who announced it.
    pub source: ClaimSource,
}

/// What recording did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// The first for this device.
    New,
    /// It took the place of an older one.
    Replaced,
}

/// Why a claim was not recorded. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// A gateway's claim for a device that has announced itself and is still pending.
    AnnouncedByDevice,
    /// The cache, or the tenant's share of it, is full.
    Full {
        /// When room is likely.
        retry_after: Duration,
    },
    /// The store cannot take it; it may or may not survive. Never acknowledged.
    Unavailable,
}

/// A pending claim as seen at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The claim.
    pub claim: PendingClaim,
    /// Identifies this very claim among all that were ever recorded for the device.
    pub stamp: u64,
}

impl Sighting {
    /// Whether the claim was valid at `now`; a cache also remembers claims for a while after they ended, so that the
    /// right secret can be told that the window is over.
    pub fn live(&self, now: Timestamp) -> bool {
        now < self.claim.expires_at
    }
}

/// The shared store of pending claims. It is evidence, never truth: whatever it loses or repeats, the registry's fence
/// keeps a device from having two owners.
pub trait ClaimCache: Send + Sync {
    /// Records a claim; the newest wins, except that a gateway's never replaces a live one of the device itself.
    ///
    /// Contract: after `Ok` the claim is as durable as configured and every later [`ClaimCache::peek`], on every node
    /// that shares this cache, sees it or something newer. A false `Ok` would be a lost claim. An unexpired claim is never
    /// evicted: a full cache refuses.
    fn record(&self, claim: PendingClaim, now: Timestamp) -> PortFuture<'_, Result<Recorded, RecordError>>;

    /// Records many with one wait; answers in the order given, each as [`ClaimCache::record`] would.
    fn record_batch(
        &self,
        claims: Vec<PendingClaim>,
        now: Timestamp,
    ) -> PortFuture<'_, Vec<Result<Recorded, RecordError>>>;

    /// The device's claim, live or ended up to ten minutes ago. Costs the same whether there is one or not.
    fn peek(&self, device: DeviceId, now: Timestamp) -> PortFuture<'_, Result<Option<Sighting>, Unavailable>>;

    /// Removes exactly the claim that was seen; a newer one stays. Returns whether it was removed.
    fn consume(&self, device: DeviceId, stamp: u64) -> PortFuture<'_, Result<bool, Unavailable>>;

    /// Removes the device's claim, if any, that was received at or before `until`.
    fn withdraw(&self, device: DeviceId, until: Timestamp) -> PortFuture<'_, Result<bool, Unavailable>>;

    /// A tenant's claims that are live at `now`, by device id, those after `after` alone and at most `limit`.
    ///
    /// Contract: a claim that is there from the first page to the last is on exactly one of them. Not for the path of a
    /// claim: it may look at everything that is held, and never holds up those who record for longer than one record does.
    fn pending(
        &self,
        tenant: TenantId,
        after: Option<DeviceId>,
        limit: usize,
        now: Timestamp,
    ) -> PortFuture<'_, Result<Vec<PendingClaim>, Unavailable>>;
}

/// Who tries at what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttemptKeys {
    /// The account.
    pub account: UserId,
    /// The requested name under [`crate::Keyring::attempt_key`].
    pub name: [u8; 16],
}

/// Which budget ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttemptScope {
    /// This account at this device.
    AccountAndDevice,
    /// This account.
    Account,
    /// This device.
    Device,
}

impl AttemptScope {
    /// All scopes, for metrics made once.
    pub const ALL: [AttemptScope; 3] = [Self::AccountAndDevice, Self::Account, Self::Device];

    /// The scope's name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            AttemptScope::AccountAndDevice => "account_and_device",
            AttemptScope::Account => "account",
            AttemptScope::Device => "device",
        }
    }
}

/// A try that was counted before its secret was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Whose.
    pub keys: AttemptKeys,
    /// When; a refund takes back the try of this instant.
    pub at: Timestamp,
    /// Tries left in the tightest budget after this one.
    pub left: u32,
}

/// Why no try was reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReserveError {
    /// A budget is used up.
    Exhausted {
        /// Which.
        scope: AttemptScope,
        /// When the next try is free.
        retry_after: Duration,
    },
    /// The counters cannot be reached: nothing may be evaluated.
    Unavailable,
}

/// Counts wrong secrets; shared by all nodes.
pub trait AttemptLedger: Send + Sync {
    /// Counts a try against all three budgets, or none. Atomic: parallel tries cannot pass a budget together.
    fn reserve(
        &self,
        keys: AttemptKeys,
        budgets: &AttemptBudgets,
        now: Timestamp,
    ) -> PortFuture<'_, Result<Reservation, ReserveError>>;

    /// Takes a reserved try back: the secret was right, or nothing was evaluated.
    fn refund(&self, reservation: Reservation) -> PortFuture<'_, Result<(), Unavailable>>;

    /// Takes back every try at the device with this name, of all accounts and from all three budgets, as if each had been
    /// refunded.
    fn forgive(&self, name: [u8; 16]) -> PortFuture<'_, Result<(), Unavailable>>;
}

/// Too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooOften {
    /// When the next one is admitted.
    pub retry_after: Duration,
}

/// Rates of what devices send. Local to the node and in memory by contract, so it never waits and never fails.
pub trait SubmitRates: Send + Sync {
    /// Admits `cost` messages of a device or gateway, all or none, against `budget`.
    fn admit(&self, device: DeviceId, cost: u32, budget: Budget, now: Timestamp) -> Result<(), TooOften>;

    /// Whether the address is locked out after refused credentials.
    fn address_locked(&self, address: IpAddr, now: Timestamp) -> Result<(), TooOften>;

    /// Counts a refused credential of an address; with the last one that `budget` allows the address is locked for
    /// `lockout`. IPv6 addresses are counted by their /64.
    fn refused_credential(&self, address: IpAddr, budget: Budget, lockout: Duration, now: Timestamp);
}

/// A device found by credential.
#[derive(Clone, Debug)]
pub struct CredentialHolder {
    /// The device, fresh within the look-up cache's age.
    pub device: Arc<Device>,
    /// Digest of the password that must come with it, if the credential has one.
    pub password: Option<SecretDigest>,
}

/// A device as a confirm needs it, read from the store and not from a cache.
#[derive(Clone, Debug)]
pub struct ClaimSubject {
    /// The device.
    pub device: Device,
    /// Digest of the secret by which its present owner took it.
    pub proof: Option<SecretDigest>,
    /// The code or secret its maker stored.
    pub stored_code: Option<StoredCode>,
}

/// A secret stored by the maker, with its window `[from, until)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredCode {
    /// Digest of the secret.
    pub digest: SecretDigest,
    /// Valid from.
    pub from: Option<Timestamp>,
    /// Valid until just before.
    pub until: Option<Timestamp>,
    /// Whether it is a claim code without lower-case letters, which is opened in any letter case (ASCII).
    pub any_case: bool,
}

/// Where a claim is to list the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimTarget {
    /// An application of the new owner.
    pub application: ListingId,
    /// The device's id there; as at home when it is not named.
    pub device: Option<ListingId>,
}

/// What makes the evidence of an ownership change newer than every earlier change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// A pending claim, received then: void unless later than the fence.
    ReceivedAt(Timestamp),
    /// A stored code, read with the device at this generation.
    Generation(i64),
}

impl Freshness {
    /// Which evidence this is.
    pub fn evidence(self) -> Evidence {
        match self {
            Freshness::ReceivedAt(_) => Evidence::PendingClaim,
            Freshness::Generation(_) => Evidence::StoredCode,
        }
    }
}

/// A request to make a customer the owner.
#[derive(Clone, Copy, Debug)]
pub struct AssignOwner<'a> {
    /// The tenant; the device must be its.
    pub tenant: TenantId,
    /// The device.
    pub device: DeviceId,
    /// The new owner.
    pub owner: CustomerId,
    /// Who acts for the owner.
    pub account: UserId,
    /// Digest of the secret that proved it.
    pub proof: SecretDigest,
    /// Against replay.
    pub freshness: Freshness,
    /// Whether devices are claimable without `claimingAllowed`.
    pub allow_by_default: bool,
    /// Whether a claim spends a stored code, where the device's home application does not say.
    pub invalidate_code: bool,
    /// Where to list the device; without it only the owner changes.
    pub target: Option<&'a ClaimTarget>,
    /// Remembered in the same transaction with the answer `ConfirmOutcome::Claimed { .. }.to_remember()`, for a retry
    /// with the same `Idempotency-Key`.
    pub retry: Option<&'a RetryKey>,
    /// When.
    pub now: Timestamp,
    /// For the audit row.
    pub origin: &'a Origin,
}

/// What an assignment did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignment {
    /// The customer is the owner now; committed to disk, with its audit and outbox rows.
    Assigned {
        /// When.
        claimed_at: Timestamp,
        /// The device's new generation.
        generation: i64,
    },
    /// Nothing changed: the device has an owner (perhaps the same one).
    Owned {
        /// Who.
        owner: CustomerId,
        /// Digest of the secret by which that owner took it.
        proof: Option<SecretDigest>,
        /// Since when.
        claimed_at: Timestamp,
        /// The device's generation.
        generation: i64,
    },
    /// Nothing changed: the evidence is older than the fence, or the generation moved on.
    Stale,
    /// Nothing changed: the maker does not allow this device to be claimed.
    NotAllowed,
    /// Nothing changed: the id is in use in the target application, or kept there for a device that was claimed away.
    IdTaken,
    /// Nothing changed: the owner has no such application.
    NoTarget,
    /// Nothing changed: the device is gone.
    Gone,
}

/// A write whose outcome is the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// Nothing was written.
    Unavailable,
    /// It may have been written; reading again did not settle it.
    OutcomeUnknown,
}

/// How much the clocks of nodes that share a registry may differ. What takes ownership away on the word of one clock puts
/// the fence so far ahead: what a node whose clock leads has recorded before is void too (foundations 7.1). A registry of
/// one node has one clock.
pub const ALLOWED_SKEW: Duration = Duration::from_secs(5);

/// A request to take ownership away.
#[derive(Clone, Copy, Debug)]
pub struct ReleaseOwner<'a> {
    /// The tenant; the device must be its.
    pub tenant: TenantId,
    /// The device.
    pub device: DeviceId,
    /// Only if this customer is the owner; `None` for the tenant's admin. Checked inside the write.
    pub holder: Option<CustomerId>,
    /// Who acts.
    pub account: UserId,
    /// Set `claimingAllowed` again, for installs where devices are not claimable by default.
    pub allow_again: bool,
    /// When.
    pub now: Timestamp,
    /// For the audit row.
    pub origin: &'a Origin,
}

/// What a release did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Nobody owns it now; the fence is `fence`.
    Released {
        /// Who owned it.
        previous: CustomerId,
        /// Pending claims received at or before this instant are void.
        fence: Timestamp,
    },
    /// It had no owner. For an admin the fence was moved all the same.
    Unowned {
        /// Pending claims received at or before this instant are void; `None` if nothing was changed.
        fence: Option<Timestamp>,
    },
    /// Someone else owns it.
    NotHolder,
    /// No such device.
    Gone,
}

/// A request to make a device's pending claims void.
#[derive(Clone, Copy, Debug)]
pub struct VoidPending<'a> {
    /// The tenant; the device must be its.
    pub tenant: TenantId,
    /// The device.
    pub device: DeviceId,
    /// Those received at or before this instant.
    pub until: Timestamp,
    /// Who acts.
    pub account: UserId,
    /// When.
    pub now: Timestamp,
    /// For the audit row.
    pub origin: &'a Origin,
}

/// A gateway's request about devices by name.
#[derive(Clone, Debug)]
pub struct ResolveChildren {
    /// The tenant of gateway and devices.
    pub tenant: TenantId,
    /// The gateway.
    pub gateway: DeviceId,
    /// Which devices it may speak for.
    pub scope: GatewayScope,
    /// The names, each once.
    pub names: Vec<DeviceName>,
    /// Profile of devices that are created; an unknown one means `default`.
    pub profile: Option<String>,
    /// New devices it may create in a day, in all.
    pub new_devices: (u32, u32),
    /// When.
    pub now: Timestamp,
}

/// What a name means to a gateway.
#[derive(Clone, Debug)]
pub enum Child {
    /// A device it may speak for.
    Device {
        /// The device.
        device: Arc<Device>,
        /// Whether it was created just now.
        created: bool,
    },
    /// A device it may not speak for.
    Unrelated,
    /// Unknown, and the gateway may create no more.
    NoRoom,
}

/// The key of a request that may be sent again, as digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryKey {
    /// Who sent it.
    pub account: UserId,
    /// Digest of the `Idempotency-Key` header.
    pub key: [u8; 32],
    /// Digest of everything else that matters in the request.
    pub request: [u8; 32],
}

/// A remembered answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Digest of the request it answered.
    pub request: [u8; 32],
    /// The answer, as the domain wrote it.
    pub answer: String,
}

/// The durable truth: which devices exist, who owns them.
pub trait DeviceRegistry: Send + Sync {
    /// The device that holds a credential. May be answered from a look-up cache that every change on this node has
    /// invalidated; a false answer would let a stranger speak as the device.
    fn find_credential(
        &self,
        credential: CredentialDigest,
    ) -> PortFuture<'_, Result<Option<CredentialHolder>, Unavailable>>;

    /// The device's present standing, from the same look-up cache. `None`: deleted.
    fn device(&self, device: DeviceId) -> PortFuture<'_, Result<Option<Arc<Device>>, Unavailable>>;

    /// The same, not older than the question, whatever other nodes did. A registry of one node answers as [`Self::device`]:
    /// nobody else changes it.
    fn device_now(&self, device: DeviceId) -> PortFuture<'_, Result<Option<Arc<Device>>, Unavailable>>;

    /// A device of a tenant by exact name, read from the store. Costs the same whether it exists or not, as far as a
    /// store can promise.
    fn find(&self, tenant: TenantId, name: &DeviceName) -> PortFuture<'_, Result<Option<ClaimSubject>, Unavailable>>;

    /// The name of the tenant's device with this DevEUI; with a JoinEUI only if that is the device's too. Read from the store.
    fn name_of(
        &self,
        tenant: TenantId,
        dev_eui: Eui64,
        join_eui: Option<Eui64>,
    ) -> PortFuture<'_, Result<Option<DeviceName>, Unavailable>>;

    /// Makes a customer the owner by one conditional write: only if the device is unowned, allowed, and the evidence is
    /// fresh. Audit and outbox rows are in its transaction; `claimingAllowed` and `claimingData` are removed by it,
    /// a claim code too if the claim spends it.
    ///
    /// Contract: of any number of concurrent calls at most one is `Assigned`, and that one is on disk when it returns.
    fn assign_owner<'a>(&'a self, request: AssignOwner<'a>) -> PortFuture<'a, Result<Assignment, WriteError>>;

    /// Takes ownership away, if the holder is as asked; moves the fence so that older evidence is void.
    fn release_owner<'a>(&'a self, request: ReleaseOwner<'a>) -> PortFuture<'a, Result<Release, WriteError>>;

    /// Moves the fence of a device without an owner, with audit and outbox rows: pending claims received up to there are
    /// void, whatever a cache brings back. The fence; `None` if nothing was changed: it has an owner, or is gone.
    fn void_pending<'a>(&'a self, request: VoidPending<'a>) -> PortFuture<'a, Result<Option<Timestamp>, WriteError>>;

    /// What names mean to a gateway; unknown ones are created, related, unowned. Answers in the order of the names.
    fn resolve_children(&self, request: ResolveChildren) -> PortFuture<'_, Result<Vec<Child>, Unavailable>>;

    /// The gateways related to a device, for pushes.
    fn gateways_of(&self, device: DeviceId) -> PortFuture<'_, Result<Arc<[DeviceId]>, Unavailable>>;

    /// The remembered answer to an account's `Idempotency-Key` of the last 24 hours.
    fn remembered<'a>(&'a self, key: &'a RetryKey) -> PortFuture<'a, Result<Option<Remembered>, Unavailable>>;

    /// Remembers an answer, unless the key has one already; at most 1,000 an account, the oldest go.
    fn remember<'a>(
        &'a self,
        key: &'a RetryKey,
        answer: String,
        now: Timestamp,
    ) -> PortFuture<'a, Result<(), Unavailable>>;

    /// Writes an audit row of something that changed nothing. Does not wait; a bounded queue, beyond ten a minute of one
    /// kind and actor summed up.
    fn note(&self, note: AuditNote);

    /// Writes the audit row of a charged confirm or of an unlock, never summed up, and resolves when it is committed: the
    /// attempt counters are rebuilt from these rows after a crash, so a guess that was answered but not on record would be a free one.
    fn note_charged(&self, note: AuditNote) -> PortFuture<'_, Result<(), Unavailable>>;
}

/// Events leave the registry by here only.
pub trait Outbox: Send + Sync {
    /// Events after `since`, oldest first, at most `limit`.
    fn tail(&self, since: i64, limit: usize) -> PortFuture<'_, Result<Vec<OutboxEvent>, Unavailable>>;

    /// The newest position, for a node that starts to listen now.
    fn head(&self) -> PortFuture<'_, Result<i64, Unavailable>>;

    /// Resolves when something may have been added.
    fn wake(&self) -> PortFuture<'_, ()>;

    /// Everything up to `seq` has been handed on; rows older than `keep_since` up to there may go.
    fn acknowledge(&self, seq: i64, keep_since: Timestamp) -> PortFuture<'_, Result<(), Unavailable>>;
}

/// Counts outcomes for metrics. Called on hot paths: add to a counter, return.
pub trait Meter: Send + Sync {
    /// A claim message was answered.
    fn submission(&self, transport: Option<Transport>, source: ClaimSource, outcome: SubmitOutcome);
    /// How long a claim message took from receipt to ack; measured by the transport, since the domain has no clock.
    fn submit_seconds(&self, _transport: Transport, _seconds: f64) {}
    /// How long an owner's claim took from request to reply, and how it was answered: `claimed`, `refused`, `rate_limited` or
    /// `unavailable`; measured by the API.
    fn confirm_seconds(&self, _outcome: &'static str, _seconds: f64) {}
    /// A batch of so many entries was read.
    fn batch(&self, entries: usize);
    /// A credential was refused.
    fn auth_failure(&self, transport: Option<Transport>, reason: &'static str);
    /// A confirm was answered.
    fn confirmation(&self, outcome: &'static str, evidence: Evidence);
    /// An unclaim was answered.
    fn unclaim(&self, by: &'static str, outcome: &'static str);
    /// A try was refused for lack of budget.
    fn attempt_blocked(&self, scope: AttemptScope);
    /// A limit was met.
    fn limit_reached(&self, limit: &'static str);
}
