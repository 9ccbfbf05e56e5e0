//! What a maker's admin may do about claims under way: look at them, revoke one, clear the wrong tries at a device. Nothing
//! here gives a device to anybody.

use super::Confirmation;
use crate::device::{DeviceId, DeviceName, TenantId};
use crate::event::{AuditAction, AuditActor, AuditNote, Evidence};
use crate::origin::Origin;
use crate::owner::Actor;
use crate::ports::{ClaimSource, ClaimSubject, Unavailable, VoidPending, WriteError};
use crate::time::Timestamp;

/// A pending claim, for its maker: everything but its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// Which device.
    pub device: DeviceId,
    /// Its name.
    pub name: DeviceName,
    /// Who announced it.
    pub source: ClaimSource,
    /// When.
    pub received_at: Timestamp,
    /// Valid until just before.
    pub expires_at: Timestamp,
}

/// Some of a tenant's pending claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingPage {
    /// By device id; fewer than were asked for where claims are void already.
    pub rows: Vec<Announced>,
    /// Ask for those after this device next; `None`: there are no more.
    pub next: Option<DeviceId>,
}

/// What became of a pending claim that was to be revoked, or of tries that were to be cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OversightOutcome {
    /// It is done, and on record.
    Done {
        /// Which device.
        device: DeviceId,
    },
    /// There is no such device, or nothing of the kind about it.
    Nothing,
    /// A store does not answer; nothing was changed.
    Unavailable,
    /// It may or may not have been done; repeating the request settles it.
    OutcomeUnknown,
}

impl Confirmation {
    /// The tenant's pending claims of devices after `after`, at most `limit`.
    pub async fn pending(
        &self,
        tenant: TenantId,
        after: Option<DeviceId>,
        limit: usize,
        now: Timestamp,
    ) -> Result<PendingPage, Unavailable> {
        let claims = self.parts.cache.pending(tenant, after, limit, now).await?;
        let next = claims.last().filter(|_| claims.len() >= limit).map(|claim| claim.device);
        let mut rows = Vec::with_capacity(claims.len());
        for claim in claims {
            let Some(device) = self.parts.registry.device(claim.device).await? else { continue };
            let fresh = device.claim_reset_at.is_none_or(|fence| claim.received_at > fence);
            if device.owner.is_none() && fresh {
                let (source, received_at, expires_at) = (claim.source, claim.received_at, claim.expires_at);
                rows.push(Announced { device: device.id, name: device.name.clone(), source, received_at, expires_at });
            }
        }
        Ok(PendingPage { rows, next })
    }

    /// Drops a device's pending claim by its maker's word. The registry's fence moves with the audit row, so that the claim
    /// is void whatever the cache brings back; an owner, and a claim announced after this, are untouched.
    pub async fn revoke(&self, actor: Actor, name: &str, origin: &Origin, now: Timestamp) -> OversightOutcome {
        let subject = match self.overseen(actor, name).await {
            Ok(Some(subject)) => subject,
            Ok(None) => return OversightOutcome::Nothing,
            Err(Unavailable) => return OversightOutcome::Unavailable,
        };
        let device = subject.device.id;
        let Ok(sighting) = self.parts.cache.peek(device, now).await else { return OversightOutcome::Unavailable };
        let fresh = |received| subject.device.claim_reset_at.is_none_or(|fence| received > fence);
        let Some(seen) = sighting.filter(|seen| seen.live(now) && fresh(seen.claim.received_at)) else {
            return OversightOutcome::Nothing;
        };
        // A clock that stepped back must not leave the claim in front of its fence.
        let until = now.max(seen.claim.received_at);
        let void = VoidPending { tenant: actor.tenant, device, until, account: actor.account, now, origin };
        match self.parts.registry.void_pending(void).await {
            Ok(Some(fence)) => {
                // Room for others; the fence has already made it void.
                let _ = self.parts.cache.withdraw(device, fence).await;
                OversightOutcome::Done { device }
            }
            // It has found an owner in between.
            Ok(None) => OversightOutcome::Nothing,
            Err(WriteError::Unavailable) => OversightOutcome::Unavailable,
            Err(WriteError::OutcomeUnknown) => OversightOutcome::OutcomeUnknown,
        }
    }

    /// Forgets all wrong tries at a device, whoever made them. On record before it is done: counters that are rebuilt after
    /// a crash leave out what was cleared.
    pub async fn unlock(&self, actor: Actor, name: &str, origin: &Origin, now: Timestamp) -> OversightOutcome {
        let subject = match self.overseen(actor, name).await {
            Ok(Some(subject)) => subject,
            Ok(None) => return OversightOutcome::Nothing,
            Err(Unavailable) => return OversightOutcome::Unavailable,
        };
        let device = &subject.device;
        let key = self.parts.keyring.attempt_key(actor.tenant, device.name.as_str());
        let note = AuditNote {
            at: now,
            tenant: actor.tenant,
            actor: AuditActor::Account(actor.account),
            action: AuditAction::Unlock,
            device: Some(device.id),
            attempt_key: Some(key),
            outcome: "done",
            reason: "tries_cleared",
            evidence: Evidence::None,
            charged: false,
            transport: None,
            request_id: origin.request_id,
        };
        if self.parts.registry.note_charged(note).await.is_err() {
            return OversightOutcome::Unavailable;
        }
        match self.parts.attempts.forgive(key).await {
            Ok(()) => OversightOutcome::Done { device: device.id },
            Err(Unavailable) => OversightOutcome::Unavailable,
        }
    }

    /// A device of the actor's tenant, if the actor is its maker's admin.
    async fn overseen(&self, actor: Actor, name: &str) -> Result<Option<ClaimSubject>, Unavailable> {
        match DeviceName::parse(name) {
            Ok(name) if actor.customer().is_none() => self.parts.registry.find(actor.tenant, &name).await,
            _ => Ok(None),
        }
    }
}
