//! Who may claim and give back at all, before any look at a device; what is missing goes to the audit log.

use super::Confirmation;
use crate::event::{AuditAction, AuditActor, AuditNote, Evidence};
use crate::origin::Origin;
use crate::owner::Actor;
use crate::permissions::NotPermitted;
use crate::time::Timestamp;

impl Confirmation {
    /// Refuses whoever lacks the permission to claim, and puts on record what is missing. For doors that look at
    /// something before they confirm or unclaim: what is refused here is refused whatever was asked for, and costs no try.
    pub fn permit(
        &self,
        actor: Actor,
        action: AuditAction,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<(), NotPermitted> {
        let permitted = actor.may_claim(self.parts.permission);
        if let Err(missing) = permitted {
            self.forbidden(actor, action, missing, origin, now);
        }
        permitted
    }

    pub(super) fn forbidden(
        &self,
        actor: Actor,
        action: AuditAction,
        missing: NotPermitted,
        origin: &Origin,
        now: Timestamp,
    ) {
        const OUTCOME: &str = "forbidden";
        match action {
            AuditAction::Unclaim => self.parts.meter.unclaim("owner", OUTCOME),
            _ => self.parts.meter.confirmation(OUTCOME, Evidence::None),
        }
        self.parts.registry.note(AuditNote {
            at: now,
            tenant: actor.tenant,
            actor: AuditActor::Account(actor.account),
            action,
            device: None,
            attempt_key: None,
            outcome: OUTCOME,
            reason: missing.text(),
            evidence: Evidence::None,
            charged: false,
            transport: None,
            request_id: origin.request_id,
        });
    }
}
