//! The one place where ownership changes hands.
//!
//! A confirm reserves a try, looks at the evidence (the live pending claim first, then the stored code), decides by one
//! conditional write in the registry, and only then drops the pending claim. The order is what makes a crash at any
//! point harmless: the cache is evidence, the registry is truth (invariants 1, 2, 3, 5).

mod outcome;
mod oversight;
mod permission;

use std::borrow::Cow;
use std::sync::Arc;

use crate::device::{DeviceId, DeviceName, TenantId};
use crate::eui::Eui64;
use crate::event::{AuditAction, AuditActor, AuditNote, ClaimState, Evidence};
use crate::limits::AttemptBudgets;
use crate::message;
use crate::origin::Origin;
use crate::owner::{Actor, Authority, CustomerId};
use crate::permissions::ClaimPermission;
use crate::policy::{ClaimPolicy, WindowState, window};
use crate::ports::{
    AssignOwner, Assignment, AttemptKeys, AttemptLedger, ClaimCache, ClaimSubject, ClaimTarget, DeviceRegistry,
    Freshness, Meter, Release, ReleaseOwner, Reservation, ReserveError, RetryKey, Sighting, Unavailable, WriteError,
};
use crate::secret::{ClaimSecret, Keyring, SecretDigest};
use crate::time::Timestamp;
use crate::watch::{self, WatchFeed};

pub use outcome::{ConfirmOutcome, Refusal, RefusalCause, Shown, UnclaimOutcome};
pub use oversight::{Announced, OversightOutcome, PendingPage};

/// What confirmation needs.
pub struct ConfirmationParts {
    /// Truth.
    pub registry: Arc<dyn DeviceRegistry>,
    /// Evidence.
    pub cache: Arc<dyn ClaimCache>,
    /// Wrong tries.
    pub attempts: Arc<dyn AttemptLedger>,
    /// Outcome counters.
    pub meter: Arc<dyn Meter>,
    /// Who watches what happens.
    pub watch: Arc<WatchFeed>,
    /// Digest keys.
    pub keyring: Arc<Keyring>,
    /// Claim rules.
    pub policy: ClaimPolicy,
    /// Budgets of wrong tries.
    pub budgets: AttemptBudgets,
    /// Who may claim.
    pub permission: ClaimPermission,
}

/// See the module's head. Cheap to clone.
#[derive(Clone)]
pub struct Confirmation {
    parts: Arc<ConfirmationParts>,
}

/// How a device is asked for.
#[derive(Clone, Copy, Debug)]
pub enum DeviceRef<'a> {
    /// By its name.
    Name(&'a str),
    /// By what is printed on a LoRaWAN device; a JoinEUI that is given must be the device's.
    Eui {
        /// Its DevEUI.
        dev_eui: Eui64,
        /// Its JoinEUI.
        join_eui: Option<Eui64>,
    },
}

/// An owner's request.
pub struct ConfirmRequest<'a> {
    /// Who asks.
    pub actor: Actor,
    /// For whom a tenant's admin claims, having shown the device's secret as anybody must; a customer's user claims for
    /// that customer alone.
    pub for_customer: Option<CustomerId>,
    /// The device asked for.
    pub device: DeviceRef<'a>,
    /// Where to list the device; without it only its owner changes, the ThingsBoard way.
    pub target: Option<&'a ClaimTarget>,
    /// What the owner shows.
    pub secret: &'a ClaimSecret<'a>,
    /// The request's `Idempotency-Key`, if it has one.
    pub retry: Option<RetryKey>,
}

/// What a secret turned out to be.
enum Proof {
    /// Right, and fresh as said; by this digest.
    Right(Freshness, Option<Sighting>, SecretDigest),
    /// Not good for a claim, for this reason; `right` when the secret itself was right.
    Not { cause: RefusalCause, right: bool },
}

impl Confirmation {
    /// Confirmation over these parts.
    pub fn new(parts: ConfirmationParts) -> Self {
        Self { parts: Arc::new(parts) }
    }

    /// The counters, for what the API measures itself.
    pub fn meter(&self) -> &dyn Meter {
        &*self.parts.meter
    }

    /// Claims a device for the actor's customer.
    ///
    /// [`ConfirmOutcome::Claimed`] is on disk when it is returned. Repeating a request whose answer was lost is safe:
    /// the same customer with the same secret gets [`ConfirmOutcome::AlreadyYours`], and with the same retry key the
    /// first answer.
    pub async fn confirm(&self, request: ConfirmRequest<'_>, origin: &Origin, now: Timestamp) -> ConfirmOutcome {
        // Decided before any look at the device (thingsboard.md 3).
        let customer = match request.actor.claims_for(request.for_customer, self.parts.permission) {
            Ok(customer) => customer,
            Err(missing) => {
                self.forbidden(request.actor, AuditAction::Confirm, missing, origin, now);
                self.show(&request, None, &ConfirmOutcome::Forbidden, origin, now);
                return ConfirmOutcome::Forbidden;
            }
        };
        let (outcome, name) = self.confirm_for(customer, &request, origin, now).await;
        self.show(&request, name, &outcome, origin, now);
        self.parts.meter.confirmation(outcome.name(), outcome.evidence());
        if let (Some(key), Some(answer)) = (&request.retry, outcome.to_remember()) {
            // Best effort: without it a repeat is evaluated again, which is safe.
            let _ = self.parts.registry.remember(key, answer, now).await;
        }
        outcome
    }

    /// Tells those who watch; an EUI that is no device's is shown as it was asked.
    fn show(
        &self,
        request: &ConfirmRequest<'_>,
        name: Option<DeviceName>,
        outcome: &ConfirmOutcome,
        origin: &Origin,
        now: Timestamp,
    ) {
        self.parts.watch.tell(request.actor.tenant, || {
            let device = match (name, request.device) {
                (Some(name), _) => name.shared(),
                (None, DeviceRef::Name(asked)) => message::shown(asked),
                (None, DeviceRef::Eui { dev_eui, .. }) => dev_eui.to_string().into(),
            };
            watch::confirmed(device, &request.actor, outcome, origin, now)
        });
    }

    /// The outcome, and the device's name as far as it was looked at.
    async fn confirm_for(
        &self,
        customer: CustomerId,
        request: &ConfirmRequest<'_>,
        origin: &Origin,
        now: Timestamp,
    ) -> (ConfirmOutcome, Option<DeviceName>) {
        if let Some(key) = &request.retry {
            match self.first_answer(key).await {
                Ok(Some(answer)) => return (answer, None),
                Ok(None) => {}
                Err(Unavailable) => return (ConfirmOutcome::Unavailable, None),
            }
        }
        let actor = &request.actor;
        // A device is counted under its normalised name where there is one, so that spellings and doors share a budget.
        let (name, asked) = match request.device {
            DeviceRef::Name(asked) => (DeviceName::parse(asked).ok(), Cow::Borrowed(asked)),
            DeviceRef::Eui { dev_eui, join_eui } => {
                match self.parts.registry.name_of(actor.tenant, dev_eui, join_eui).await {
                    Ok(name) => (name, Cow::Owned(dev_eui.to_string())),
                    Err(Unavailable) => return (ConfirmOutcome::Unavailable, None),
                }
            }
        };
        let asked = name.as_ref().map_or(&*asked, DeviceName::as_str);
        let keys = AttemptKeys { account: actor.account, name: self.parts.keyring.attempt_key(actor.tenant, asked) };
        let reservation = match self.parts.attempts.reserve(keys, &self.parts.budgets, now).await {
            Ok(reservation) => reservation,
            Err(ReserveError::Exhausted { scope, retry_after }) => {
                self.parts.meter.attempt_blocked(scope);
                let outcome = ConfirmOutcome::RateLimited { scope, retry_after };
                self.parts.registry.note(audit(request, None, keys, &outcome, false, origin, now));
                return (outcome, name);
            }
            Err(ReserveError::Unavailable) => return (ConfirmOutcome::Unavailable, name),
        };
        let (mut outcome, device) = self.evaluate(customer, request, name.as_ref(), reservation, origin, now).await;
        let charged = outcome.charged();
        if !charged {
            // If the refund is lost the budget is tighter than it should be for ten minutes; never wider.
            let _ = self.parts.attempts.refund(reservation).await;
        }
        if !outcome.changed_ownership() {
            let note = audit(request, device, keys, &outcome, charged, origin, now);
            if charged {
                // On record before the guesser hears of it: counters that are lost are counted again from there. What is not
                // on record for certain is not told either, and stays charged.
                if self.parts.registry.note_charged(note).await.is_err() {
                    outcome = ConfirmOutcome::Unavailable;
                }
            } else {
                self.parts.registry.note(note);
            }
        }
        (outcome, name)
    }

    /// The answer the retry key already has.
    async fn first_answer(&self, key: &RetryKey) -> Result<Option<ConfirmOutcome>, Unavailable> {
        let Some(remembered) = self.parts.registry.remembered(key).await? else {
            return Ok(None);
        };
        if remembered.request != key.request {
            return Ok(Some(ConfirmOutcome::RetryKeyReused));
        }
        // An answer that cannot be read back is evaluated again.
        Ok(ConfirmOutcome::recall(&remembered.answer))
    }

    async fn evaluate(
        &self,
        customer: CustomerId,
        request: &ConfirmRequest<'_>,
        name: Option<&DeviceName>,
        reservation: Reservation,
        origin: &Origin,
        now: Timestamp,
    ) -> (ConfirmOutcome, Option<DeviceId>) {
        let left = reservation.left;
        let subject = match self.find(request, name).await {
            Ok(subject) => subject,
            Err(Unavailable) => return (ConfirmOutcome::Unavailable, None),
        };
        // An unknown name costs the same digest, look-up and reread as a known one (threat T3).
        let id = subject.as_ref().map_or(DeviceId::NOBODY, |subject| subject.device.id);
        let shown = ShownSecret::new(request.secret, &self.parts.keyring, request.actor.tenant, id);
        let Ok(sighting) = self.parts.cache.peek(id, now).await else {
            return (ConfirmOutcome::Unavailable, Some(id));
        };
        let proof = subject.as_ref().map(|subject| self.prove(subject, sighting, &shown, now));
        let (subject, proof) = match proof {
            Some(proof @ Proof::Right(..)) => (subject, Some(proof)),
            // The evidence may have been spent between the two reads by a confirm that won; the row then tells.
            _ => match self.find(request, name).await {
                Ok(subject) => {
                    let proof = subject.as_ref().map(|subject| self.prove(subject, sighting, &shown, now));
                    (subject, proof)
                }
                Err(Unavailable) => return (ConfirmOutcome::Unavailable, None),
            },
        };
        let (Some(subject), Some(proof)) = (subject, proof) else {
            let refusal = Refusal { cause: RefusalCause::UnknownName, right: false, owned: false, left };
            return (ConfirmOutcome::Refused(refusal), None);
        };
        let outcome = match subject.device.owner {
            // A stored code is spent and a pending claim consumed by the claim itself, so the proof kept with the owner
            // is what tells the right secret from a wrong one now.
            Some(owner) => {
                let same_proof = subject.proof.is_some_and(|proof| shown.is(proof));
                let claimed_at = subject.device.claimed_at.unwrap_or(now);
                let generation = subject.device.generation;
                self.owned(customer, owner, same_proof, &proof, (claimed_at, generation), id, left)
            }
            None => self.take(customer, request, &subject, proof, left, origin, now).await,
        };
        if let (ConfirmOutcome::AlreadyYours { .. }, Some(key)) = (&outcome, &request.retry)
            && let Ok(Some(answer)) = self.first_answer(key).await
        {
            // The same request won while this one was on its way.
            return (answer, Some(id));
        }
        (outcome, Some(id))
    }

    async fn find(
        &self,
        request: &ConfirmRequest<'_>,
        name: Option<&DeviceName>,
    ) -> Result<Option<ClaimSubject>, Unavailable> {
        match name {
            Some(name) => self.parts.registry.find(request.actor.tenant, name).await,
            // An unknown EUI costs a look-up here as a known one does.
            None => match request.device {
                DeviceRef::Eui { dev_eui, join_eui } => {
                    self.parts.registry.name_of(request.actor.tenant, dev_eui, join_eui).await.map(|_| None)
                }
                DeviceRef::Name(_) => Ok(None),
            },
        }
    }

    /// Compares what was shown with the evidence there is. One request is one try, whichever evidence matches.
    fn prove(&self, subject: &ClaimSubject, sighting: Option<Sighting>, shown: &ShownSecret, now: Timestamp) -> Proof {
        let device = &subject.device;
        let pending = sighting.filter(|seen| device.claim_reset_at.is_none_or(|fence| seen.claim.received_at > fence));
        // With presence the code is the secret, and any announcement shows that somebody is at the device.
        let presence = device.presence && subject.stored_code.is_some();
        let pending_right = !presence && pending.is_some_and(|seen| seen.claim.digest == shown.exact);
        let code = subject.stored_code.map(|code| (code.digest, shown.as_compared(code.any_case)));
        let code_right = code.is_some_and(|(stored, shown)| stored == shown);
        let code_window = subject.stored_code.map(|code| window(code.from, code.until, now));
        if !self.parts.policy.allows(device) && (pending_right || code_right) {
            return Proof::Not { cause: RefusalCause::NotAllowed, right: true };
        }
        let here = pending.filter(|seen| seen.live(now));
        if let Some(seen) = here.filter(|_| pending_right) {
            return Proof::Right(Freshness::ReceivedAt(seen.claim.received_at), Some(seen), shown.exact);
        }
        if let Some((digest, _)) = code.filter(|_| code_right && code_window == Some(WindowState::Open)) {
            if presence && here.is_none() {
                return Proof::Not { cause: RefusalCause::NotPresent, right: true };
            }
            return Proof::Right(Freshness::Generation(device.generation), pending, digest);
        }
        let cause = match (code_right, code_window) {
            (true, Some(WindowState::NotYet)) => RefusalCause::NotYet,
            (true, Some(WindowState::Ended)) => RefusalCause::CodeEnded,
            _ if pending_right => RefusalCause::WindowEnded,
            _ if pending.is_some() || subject.stored_code.is_some() => RefusalCause::WrongSecret,
            _ => RefusalCause::NoEvidence,
        };
        Proof::Not { cause, right: code_right || pending_right }
    }

    /// The answer for a device that has an owner.
    #[expect(clippy::too_many_arguments, reason = "one decision, read in one place; a struct would name nothing")]
    fn owned(
        &self,
        customer: CustomerId,
        owner: CustomerId,
        same_proof: bool,
        proof: &Proof,
        (claimed_at, generation): (Timestamp, i64),
        device: DeviceId,
        left: u32,
    ) -> ConfirmOutcome {
        if owner == customer {
            return ConfirmOutcome::AlreadyYours { device, claimed_at, generation, same_proof };
        }
        let (right, evidence) = match proof {
            Proof::Right(..) => (true, true),
            Proof::Not { cause, right } => (*right, *cause != RefusalCause::NoEvidence),
        };
        let right = right || same_proof;
        // ThingsBoard tells a wrong secret from no evidence on owned devices (its table, thingsboard.md 5.3).
        let cause = if !right && evidence { RefusalCause::WrongSecret } else { RefusalCause::Owned };
        ConfirmOutcome::Refused(Refusal { cause, right, owned: true, left })
    }

    #[expect(clippy::too_many_arguments, reason = "the write needs all that was found out")]
    async fn take(
        &self,
        customer: CustomerId,
        request: &ConfirmRequest<'_>,
        subject: &ClaimSubject,
        proof: Proof,
        left: u32,
        origin: &Origin,
        now: Timestamp,
    ) -> ConfirmOutcome {
        let (freshness, seen, digest) = match proof {
            Proof::Right(freshness, seen, digest) => (freshness, seen, digest),
            Proof::Not { cause, right } => {
                return ConfirmOutcome::Refused(Refusal { cause, right, owned: false, left });
            }
        };
        let device = subject.device.id;
        let assign = AssignOwner {
            tenant: request.actor.tenant,
            device,
            owner: customer,
            account: request.actor.account,
            proof: digest,
            freshness,
            allow_by_default: self.parts.policy.allow_by_default,
            invalidate_code: self.parts.policy.invalidate_code_on_claim,
            target: request.target,
            retry: request.retry.as_ref(),
            now,
            origin,
        };
        let refused = |cause| ConfirmOutcome::Refused(Refusal { cause, right: true, owned: false, left });
        match self.parts.registry.assign_owner(assign).await {
            Ok(Assignment::Assigned { claimed_at, generation }) => {
                if let Some(seen) = seen {
                    // Only this very claim; whatever stays is older than the fence and inert.
                    let _ = self.parts.cache.consume(device, seen.stamp).await;
                }
                ConfirmOutcome::Claimed { device, claimed_at, generation, evidence: freshness.evidence() }
            }
            Ok(Assignment::Owned { owner, proof, claimed_at, generation }) => {
                let same_proof = proof.is_some_and(|proof| proof == digest);
                let right = Proof::Right(freshness, None, digest);
                self.owned(customer, owner, same_proof, &right, (claimed_at, generation), device, left)
            }
            Ok(Assignment::Stale) => refused(RefusalCause::WindowEnded),
            Ok(Assignment::NotAllowed) => refused(RefusalCause::NotAllowed),
            Ok(Assignment::IdTaken) => refused(RefusalCause::IdTaken),
            Ok(Assignment::NoTarget) => refused(RefusalCause::NoTarget),
            Ok(Assignment::Gone) => refused(RefusalCause::UnknownName),
            Err(WriteError::Unavailable) => ConfirmOutcome::Unavailable,
            Err(WriteError::OutcomeUnknown) => ConfirmOutcome::OutcomeUnknown,
        }
    }

    /// Gives ownership back: the owning customer's users who may claim, or the tenant's admin. For anyone else the device
    /// does not exist. Whatever evidence there was before is void afterwards.
    pub async fn unclaim(&self, actor: Actor, name: &str, origin: &Origin, now: Timestamp) -> UnclaimOutcome {
        let shown = || DeviceName::parse(name).map_or_else(|_| message::shown(name), |name| name.shared());
        if self.permit(actor, AuditAction::Unclaim, origin, now).is_err() {
            let outcome = UnclaimOutcome::NotFound;
            self.parts
                .watch
                .tell(actor.tenant, || watch::unclaimed(shown(), &actor, &outcome, "forbidden", origin, now));
            return outcome;
        }
        let (outcome, reason, device) = self.try_unclaim(actor, name, origin, now).await;
        self.parts.watch.tell(actor.tenant, || watch::unclaimed(shown(), &actor, &outcome, reason, origin, now));
        let by = match actor.authority {
            Authority::TenantAdmin => "admin",
            Authority::CustomerUser(_) => "owner",
        };
        self.parts.meter.unclaim(by, outcome.name());
        if !matches!(outcome, UnclaimOutcome::Released { .. } | UnclaimOutcome::Unowned { .. }) {
            self.parts.registry.note(AuditNote {
                at: now,
                tenant: actor.tenant,
                actor: AuditActor::Account(actor.account),
                action: AuditAction::Unclaim,
                device,
                attempt_key: None,
                outcome: outcome.name(),
                reason: outcome.name(),
                evidence: Evidence::None,
                charged: false,
                transport: None,
                request_id: origin.request_id,
            });
        }
        outcome
    }

    async fn try_unclaim(
        &self,
        actor: Actor,
        name: &str,
        origin: &Origin,
        now: Timestamp,
    ) -> (UnclaimOutcome, &'static str, Option<DeviceId>) {
        let Ok(name) = DeviceName::parse(name) else {
            return (UnclaimOutcome::NotFound, "unknown_name", None);
        };
        let device = match self.parts.registry.find(actor.tenant, &name).await {
            Ok(Some(subject)) => subject.device.id,
            Ok(None) => return (UnclaimOutcome::NotFound, "unknown_name", None),
            Err(Unavailable) => return (UnclaimOutcome::Unavailable, "unavailable", None),
        };
        let (outcome, reason) = self.try_release(actor, device, origin, now).await;
        (outcome, reason, Some(device))
    }

    /// As [`Confirmation::unclaim`], for a device known by id.
    pub async fn release(&self, actor: Actor, device: DeviceId, origin: &Origin, now: Timestamp) -> UnclaimOutcome {
        let (outcome, reason) = match self.permit(actor, AuditAction::Unclaim, origin, now) {
            Ok(()) => self.try_release(actor, device, origin, now).await,
            Err(_) => (UnclaimOutcome::NotFound, "forbidden"),
        };
        if self.parts.watch.watched() {
            // Asked for by id; those who watch want the name, as far as the device is the tenant's.
            let known = self.parts.registry.device(device).await.ok().flatten();
            let known = known.filter(|known| known.tenant == actor.tenant);
            self.parts.watch.tell(actor.tenant, || {
                let name = known.map_or_else(|| device.to_string().into(), |known| known.name.shared());
                watch::unclaimed(name, &actor, &outcome, reason, origin, now)
            });
        }
        outcome
    }

    /// The outcome and its exact reason.
    async fn try_release(
        &self,
        actor: Actor,
        device: DeviceId,
        origin: &Origin,
        now: Timestamp,
    ) -> (UnclaimOutcome, &'static str) {
        let release = ReleaseOwner {
            tenant: actor.tenant,
            device,
            holder: actor.customer(),
            account: actor.account,
            allow_again: !self.parts.policy.allow_by_default,
            now,
            origin,
        };
        let (outcome, reason, fence) = match self.parts.registry.release_owner(release).await {
            Ok(Release::Released { previous, fence }) => {
                (UnclaimOutcome::Released { device, previous }, "released", Some(fence))
            }
            Ok(Release::Unowned { fence: Some(fence) }) => (UnclaimOutcome::Unowned { device }, "unowned", Some(fence)),
            Ok(Release::Unowned { fence: None }) => (UnclaimOutcome::NotFound, "no_owner", None),
            Ok(Release::NotHolder) => (UnclaimOutcome::NotFound, "not_holder", None),
            Ok(Release::Gone) => (UnclaimOutcome::NotFound, "unknown_name", None),
            Err(WriteError::Unavailable) => (UnclaimOutcome::Unavailable, "unavailable", None),
            Err(WriteError::OutcomeUnknown) => (UnclaimOutcome::OutcomeUnknown, "outcome_unknown", None),
        };
        if let Some(fence) = fence {
            // Room for others; the fence has already made it void.
            let _ = self.parts.cache.withdraw(device, fence).await;
        }
        (outcome, reason)
    }

    /// The claim state of a device, for its owner or its tenant's admin; `None` for anyone else.
    pub async fn status(&self, actor: Actor, name: &str, now: Timestamp) -> Result<Option<ClaimState>, Unavailable> {
        let Ok(name) = DeviceName::parse(name) else {
            return Ok(None);
        };
        let Some(subject) = self.parts.registry.find(actor.tenant, &name).await? else {
            return Ok(None);
        };
        let device = &subject.device;
        if let Some(owner) = device.owner {
            let visible = actor.customer().is_none_or(|customer| customer == owner);
            return Ok(visible.then(|| ClaimState::Claimed { claimed_at: device.claimed_at.unwrap_or(now) }));
        }
        if actor.customer().is_some() {
            return Ok(None);
        }
        let sighting = self.parts.cache.peek(device.id, now).await?;
        let live = sighting
            .filter(|seen| seen.live(now) && device.claim_reset_at.is_none_or(|fence| seen.claim.received_at > fence));
        Ok(Some(live.map_or(ClaimState::None, |seen| ClaimState::Pending { expires_at: seen.claim.expires_at })))
    }
}

/// What was shown, digested as it was typed and, where that is another text, in upper case: which of the two a stored code
/// is compared with must not show in the time an answer takes.
struct ShownSecret {
    exact: SecretDigest,
    upper: Option<SecretDigest>,
}

impl ShownSecret {
    fn new(secret: &ClaimSecret<'_>, keyring: &Keyring, tenant: TenantId, device: DeviceId) -> Self {
        let upper = secret.to_upper().map(|upper| upper.digest(keyring, tenant, device));
        Self { exact: secret.digest(keyring, tenant, device), upper }
    }

    fn as_compared(&self, any_case: bool) -> SecretDigest {
        self.upper.filter(|_| any_case).unwrap_or(self.exact)
    }

    /// Whether this is what a claim was proved by, as a pending claim or as a stored code.
    fn is(&self, proof: SecretDigest) -> bool {
        proof == self.exact || self.upper.is_some_and(|upper| proof == upper)
    }
}

/// The audit row of a confirm that changed nothing.
fn audit(
    request: &ConfirmRequest<'_>,
    device: Option<DeviceId>,
    keys: AttemptKeys,
    outcome: &ConfirmOutcome,
    charged: bool,
    origin: &Origin,
    now: Timestamp,
) -> AuditNote {
    AuditNote {
        at: now,
        tenant: request.actor.tenant,
        actor: AuditActor::Account(request.actor.account),
        action: AuditAction::Confirm,
        device: device.filter(|id| *id != DeviceId::NOBODY),
        attempt_key: Some(keys.name),
        outcome: outcome.name(),
        reason: outcome.reason(),
        evidence: outcome.evidence(),
        charged,
        transport: None,
        request_id: origin.request_id,
    }
}
