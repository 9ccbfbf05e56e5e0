//! Gateways: a batch of claims with a result for each entry, and devices that come and go behind a gateway.
//!
//! The body is read to its end before anything is registered; then entries are independent (thingsboard.md 2.4).

use std::sync::Arc;
use std::time::Duration;

use super::{Denied, Hindrance, Intake, MINUTE, Receipt, Submission, SubmitError, SubmitOutcome};
use crate::device::{AuthenticatedDevice, Device, DeviceName};
use crate::limits::Budget;
use crate::message::{BatchEntry, BodyFormat, ChildMessage, GatewayBatch};
use crate::origin::Origin;
use crate::ports::{Child, ClaimSource, PendingClaim, RecordError, Recorded, ResolveChildren, Unavailable};
use crate::time::Timestamp;
use crate::watch::{self, By};

/// A device of a batch that was not registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedEntry {
    /// Its name as sent, at most 255 bytes.
    pub name: Arc<str>,
    /// Why.
    pub error: SubmitError,
    /// Why exactly, for the maker.
    pub hindrance: Hindrance,
}

/// The result of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchReceipt {
    /// How many entries were registered.
    pub accepted: usize,
    /// The others, in the order of the body.
    pub refused: Vec<RefusedEntry>,
}

impl BatchReceipt {
    /// The outcome that speaks for the whole batch: accepted when every entry was, else the worst in the order of
    /// thingsboard.md 2.4 (store, room or rate, body, rule).
    pub fn worst(&self) -> SubmitOutcome {
        let rank = |outcome| match outcome {
            SubmitOutcome::Accepted => 0,
            SubmitOutcome::AlreadyOwned => 1,
            SubmitOutcome::NotClaimable => 2,
            SubmitOutcome::Unauthenticated => 3,
            SubmitOutcome::Malformed => 4,
            SubmitOutcome::RateLimited => 5,
            SubmitOutcome::QuotaExceeded => 6,
            SubmitOutcome::Unavailable => 7,
        };
        let outcomes = self.refused.iter().map(|entry| entry.error.outcome());
        outcomes.max_by_key(|&outcome| rank(outcome)).unwrap_or(SubmitOutcome::Accepted)
    }
}

const DAY: Duration = Duration::from_secs(24 * 3600);
/// When a full claim cache or a used-up creation quota is worth another try.
const BATCH_RETRY: Duration = Duration::from_secs(60);

impl Intake {
    /// Registers the claims of a gateway's batch. `Err` means nothing was registered.
    pub async fn submit_batch(
        &self,
        gateway: &AuthenticatedDevice,
        body: &[u8],
        format: BodyFormat,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<BatchReceipt, SubmitError> {
        let result = self.try_submit_batch(gateway, body, format, origin, now).await;
        let meter = &self.parts.meter;
        let count = |outcome: SubmitOutcome| meter.submission(origin.transport, ClaimSource::Gateway, outcome);
        match &result {
            Ok(receipt) => {
                meter.batch(receipt.accepted + receipt.refused.len());
                (0..receipt.accepted).for_each(|_| count(SubmitOutcome::Accepted));
                for entry in &receipt.refused {
                    count(entry.error.outcome());
                    self.note(gateway, None, &entry.error, origin, now);
                    let end = Submission::Refused(entry.error.outcome(), entry.hindrance);
                    self.show(gateway, &entry.name, end, None, origin, now);
                }
            }
            Err(denied) => {
                count(denied.error.outcome());
                self.note(gateway, Some(gateway.id()), &denied.error, origin, now);
                self.show(gateway, &gateway.name().shared(), denied.submission(), Some(body), origin, now);
            }
        }
        Ok(result?)
    }

    /// Tells those who watch how an entry ended, or the whole batch under the gateway's own name.
    fn show(
        &self,
        gateway: &AuthenticatedDevice,
        name: &Arc<str>,
        end: Submission,
        body: Option<&[u8]>,
        origin: &Origin,
        now: Timestamp,
    ) {
        self.parts.watch.tell(gateway.tenant(), || {
            let by = By::Gateway(gateway.name().clone());
            watch::submitted((Arc::clone(name), by), end, body, origin, now)
        });
    }

    async fn try_submit_batch(
        &self,
        gateway: &AuthenticatedDevice,
        body: &[u8],
        format: BodyFormat,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<BatchReceipt, Denied> {
        self.require_gateway(gateway).await?;
        // One entry is paid for before the body is looked at, so that bodies that cannot be read are not free.
        let budget = Budget { tries: self.parts.limits.submit_per_gateway, window: MINUTE };
        self.admit(gateway, 1, budget, Hindrance::GatewayRate, now)?;
        let batch = GatewayBatch::parse(body, format)?;
        if batch.entries.len() > self.parts.gateway.batch_devices {
            self.parts.meter.limit_reached("gateway.batch_devices");
            return Err(Hindrance::BatchTooLarge.refuses(SubmitError::QuotaExceeded { retry_after: BATCH_RETRY }));
        }
        let others = u32::try_from(batch.entries.len().saturating_sub(1)).unwrap_or(u32::MAX);
        self.admit(gateway, others, budget, Hindrance::GatewayRate, now)?;
        self.register(gateway, batch, origin, now).await
    }

    async fn register(
        &self,
        gateway: &AuthenticatedDevice,
        batch: GatewayBatch<'_>,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<BatchReceipt, Denied> {
        let mut receipt = BatchReceipt::default();
        let mut good = Vec::with_capacity(batch.entries.len());
        for BatchEntry { name, message } in batch.entries {
            match (name, message) {
                (Ok(name), Ok(message)) => good.push((name, message)),
                (Ok(name), Err(fault)) => receipt.refuse(name.shared(), fault.into()),
                (Err(shown), Err(fault)) => receipt.refuse(shown, fault.into()),
                (Err(shown), Ok(_)) => receipt.refuse(shown, crate::message::Malformed::Name.into()),
            }
        }
        let names = good.iter().map(|(name, _)| name.clone()).collect();
        let children = self.resolve(gateway, names, None, now).await?;
        let mut claims = Vec::with_capacity(good.len());
        let mut claimed = Vec::with_capacity(good.len());
        for ((name, message), child) in good.into_iter().zip(children) {
            let claim = child.and_then(|device| {
                Ok((self.claim(&device, &message, ClaimSource::Gateway, now)?, device.claim_reset_at))
            });
            match claim {
                Ok((claim, fence)) => {
                    claims.push(claim);
                    claimed.push((name, claim, fence));
                }
                Err(denied) => receipt.refuse(name.shared(), denied),
            }
        }
        let recorded = self.parts.cache.record_batch(claims, now).await;
        for ((name, claim, fence), recorded) in claimed.into_iter().zip(recorded) {
            let recorded = match recorded {
                Err(RecordError::AnnouncedByDevice) => self.record_again(claim, fence, now).await,
                recorded => recorded,
            };
            match recorded {
                Ok(recorded) => {
                    receipt.accepted += 1;
                    self.tell(claim.device, &name, claim.expires_at);
                    let end = Submission::Registered(Receipt { expires_at: claim.expires_at, recorded });
                    self.show(gateway, &name.shared(), end, None, origin, now);
                }
                Err(error) => receipt.refuse(name.shared(), self.refused_record(error)),
            }
        }
        Ok(receipt)
    }

    /// What the device itself said stands in the way only while it is worth something: a claim at or before the fence, left by
    /// a crash or failover, gives way.
    async fn record_again(
        &self,
        claim: PendingClaim,
        fence: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Recorded, RecordError> {
        let Some(fence) = fence else { return Err(RecordError::AnnouncedByDevice) };
        match self.parts.cache.withdraw(claim.device, fence).await {
            Ok(true) => self.parts.cache.record(claim, now).await,
            Ok(false) | Err(Unavailable) => Err(RecordError::AnnouncedByDevice),
        }
    }

    /// A device came up behind a gateway: it is related, and created if unknown.
    pub async fn connect_child(
        &self,
        gateway: &AuthenticatedDevice,
        body: &[u8],
        format: BodyFormat,
        now: Timestamp,
    ) -> Result<DeviceName, SubmitError> {
        self.require_gateway(gateway).await?;
        let budget = Budget { tries: self.parts.limits.submit_per_gateway, window: MINUTE };
        self.admit(gateway, 1, budget, Hindrance::GatewayRate, now)?;
        let message = ChildMessage::parse(body, format).map_err(SubmitError::Malformed)?;
        let children = self.resolve(gateway, vec![message.device.clone()], message.profile, now).await?;
        for child in children {
            child?;
        }
        Ok(message.device)
    }

    /// A device went away behind a gateway. Its pending claim stays: going away is no word about claiming.
    pub async fn disconnect_child(
        &self,
        gateway: &AuthenticatedDevice,
        body: &[u8],
        format: BodyFormat,
    ) -> Result<DeviceName, SubmitError> {
        self.require_gateway(gateway).await?;
        Ok(ChildMessage::parse(body, format).map_err(SubmitError::Malformed)?.device)
    }

    /// Only a device that is a gateway now may speak for others.
    async fn require_gateway(&self, gateway: &AuthenticatedDevice) -> Result<(), Denied> {
        let gone = Hindrance::DeviceGone.refuses(SubmitError::Unauthenticated);
        let standing = self.parts.registry.device(gateway.id()).await?.ok_or(gone)?;
        if standing.gateway { Ok(()) } else { Err(Hindrance::NoGateway.refuses(SubmitError::NotClaimable)) }
    }

    async fn resolve(
        &self,
        gateway: &AuthenticatedDevice,
        names: Vec<DeviceName>,
        profile: Option<String>,
        now: Timestamp,
    ) -> Result<Vec<Result<Arc<Device>, Denied>>, Denied> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let policy = &self.parts.gateway;
        let children = self
            .parts
            .registry
            .resolve_children(ResolveChildren {
                tenant: gateway.tenant(),
                gateway: gateway.id(),
                scope: policy.scope,
                names,
                profile,
                new_devices: (policy.new_devices_per_day, policy.new_devices_total),
                now,
            })
            .await?;
        Ok(children
            .into_iter()
            .map(|child| match child {
                Child::Device { device, .. } => Ok(device),
                Child::Unrelated => Err(Hindrance::NotRelated.refuses(SubmitError::NotClaimable)),
                Child::NoRoom => {
                    self.parts.meter.limit_reached("gateway.new_devices");
                    Err(Hindrance::NewDevices.refuses(SubmitError::QuotaExceeded { retry_after: DAY }))
                }
            })
            .collect())
    }
}

impl BatchReceipt {
    fn refuse(&mut self, name: Arc<str>, Denied { error, hindrance }: Denied) {
        self.refused.push(RefusedEntry { name, error, hindrance });
    }
}
