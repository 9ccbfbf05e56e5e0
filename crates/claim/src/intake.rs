//! The one place where a device's claim enters, whatever the protocol.
//!
//! The order is rate, parse, policy, quota, record (thingsboard.md 5.1); nothing is answered before the record is
//! as durable as configured. No transport adds a rule of its own.

mod batch;
mod hindrance;

use std::sync::Arc;
use std::time::Duration;

use crate::device::{AuthenticatedDevice, Device, DeviceCredential};
use crate::event::{AuditAction, AuditActor, AuditNote, ClaimState, Evidence, StateChange, StateFeed};
use crate::limits::{Budget, IntakeLimits};
use crate::message::{BodyFormat, ClaimMessage, Malformed};
use crate::origin::Origin;
use crate::policy::{ClaimPolicy, GatewayPolicy};
use crate::ports::{
    ClaimCache, ClaimSource, CredentialHolder, DeviceRegistry, Meter, PendingClaim, RecordError, Recorded, SubmitRates,
    TooOften, Unavailable,
};
use crate::secret::Keyring;
use crate::time::Timestamp;
use crate::watch::{self, By, WatchFeed};

pub use batch::{BatchReceipt, RefusedEntry};
pub use hindrance::Hindrance;
pub(crate) use hindrance::Submission;

use hindrance::Denied;

/// What intake needs; see [`Intake::new`].
pub struct IntakeParts {
    /// Who devices are and who owns them.
    pub registry: Arc<dyn DeviceRegistry>,
    /// Where pending claims go.
    pub cache: Arc<dyn ClaimCache>,
    /// How often devices may speak.
    pub rates: Arc<dyn SubmitRates>,
    /// Outcome counters.
    pub meter: Arc<dyn Meter>,
    /// Who is told of new claim states.
    pub feed: Arc<StateFeed>,
    /// Who watches what happens.
    pub watch: Arc<WatchFeed>,
    /// Digest keys.
    pub keyring: Arc<Keyring>,
    /// Claim rules.
    pub policy: ClaimPolicy,
    /// Gateway rules.
    pub gateway: GatewayPolicy,
    /// Bounds.
    pub limits: IntakeLimits,
}

/// See the module's head. Cheap to clone.
#[derive(Clone)]
pub struct Intake {
    parts: Arc<IntakeParts>,
}

/// A claim was registered and is visible to owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// When it ends.
    pub expires_at: Timestamp,
    /// Whether it took the place of an older one.
    pub recorded: Recorded,
}

/// Why a credential was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthError {
    /// Unknown, or the wrong password.
    Refused,
    /// The peer's address is locked out after too many of them.
    TooManyFailures {
        /// For so long.
        retry_after: Duration,
    },
    /// The registry does not answer.
    Unavailable,
}

/// The outcomes of a submission, one vocabulary for metrics, audit rows, logs and docs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubmitOutcome {
    /// Registered.
    Accepted,
    /// The body was not understood.
    Malformed,
    /// The device is not known, or not any more.
    Unauthenticated,
    /// The maker does not allow it, or the gateway may not speak for it.
    NotClaimable,
    /// Somebody owns the device.
    AlreadyOwned,
    /// No room: cache, tenant share, batch size or new devices.
    QuotaExceeded,
    /// Too often.
    RateLimited,
    /// A store does not answer.
    Unavailable,
}

impl SubmitOutcome {
    /// All outcomes, for metrics made once.
    pub const ALL: [SubmitOutcome; 8] = [
        Self::Accepted,
        Self::Malformed,
        Self::Unauthenticated,
        Self::NotClaimable,
        Self::AlreadyOwned,
        Self::QuotaExceeded,
        Self::RateLimited,
        Self::Unavailable,
    ];

    /// The outcome's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Malformed => "malformed",
            Self::Unauthenticated => "unauthenticated",
            Self::NotClaimable => "not_claimable",
            Self::AlreadyOwned => "already_owned",
            Self::QuotaExceeded => "quota_exceeded",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Why a submission was refused. Nothing was registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubmitError {
    /// The body was not understood.
    Malformed(Malformed),
    /// The device was deleted since it signed in.
    Unauthenticated,
    /// The maker does not allow it, the sender is no gateway, or the gateway may not speak for it.
    NotClaimable,
    /// Somebody owns the device.
    AlreadyOwned,
    /// No room.
    QuotaExceeded {
        /// When room is likely.
        retry_after: Duration,
    },
    /// Too often.
    RateLimited {
        /// When the next one is admitted.
        retry_after: Duration,
    },
    /// A store does not answer; the device should send again.
    Unavailable,
}

impl SubmitError {
    /// The outcome this is.
    pub fn outcome(&self) -> SubmitOutcome {
        match self {
            Self::Malformed(_) => SubmitOutcome::Malformed,
            Self::Unauthenticated => SubmitOutcome::Unauthenticated,
            Self::NotClaimable => SubmitOutcome::NotClaimable,
            Self::AlreadyOwned => SubmitOutcome::AlreadyOwned,
            Self::QuotaExceeded { .. } => SubmitOutcome::QuotaExceeded,
            Self::RateLimited { .. } => SubmitOutcome::RateLimited,
            Self::Unavailable => SubmitOutcome::Unavailable,
        }
    }

    /// What happened and what to do, for the device's developer. Holds nothing of what was sent.
    pub fn text(&self) -> &'static str {
        match self {
            Self::Malformed(fault) => fault.text(),
            Self::Unauthenticated => "the device is not known any more; it needs a new credential",
            Self::NotClaimable => {
                "the device may not be claimed; its maker must allow it, or relate it to this gateway"
            }
            Self::AlreadyOwned => "the device has an owner; the owner must unclaim it first",
            Self::QuotaExceeded { .. } => "there is no room for more claims; send again later",
            Self::RateLimited { .. } => "too many claim messages; send again later",
            Self::Unavailable => "a store does not answer; nothing was registered; send again",
        }
    }
}

impl From<TooOften> for SubmitError {
    fn from(TooOften { retry_after }: TooOften) -> Self {
        Self::RateLimited { retry_after }
    }
}

impl From<Unavailable> for SubmitError {
    fn from(_: Unavailable) -> Self {
        Self::Unavailable
    }
}

impl From<RecordError> for SubmitError {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::AnnouncedByDevice => Self::NotClaimable,
            RecordError::Full { retry_after } => Self::QuotaExceeded { retry_after },
            RecordError::Unavailable => Self::Unavailable,
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);

impl Intake {
    /// Intake over these parts.
    pub fn new(parts: IntakeParts) -> Self {
        Self { parts: Arc::new(parts) }
    }

    /// The counters, for what a transport measures itself.
    pub fn meter(&self) -> &dyn Meter {
        &*self.parts.meter
    }

    /// Turns a credential into the device that holds it.
    ///
    /// For an MQTT CONNECT the order is ThingsBoard's (thingsboard.md 2.5): without user name the client id is the
    /// credential; else client id and user name together, whose wrong password is final; else the user name with its
    /// password; else the user name is an access token, whatever the password and client id.
    pub async fn authenticate(
        &self,
        credential: DeviceCredential<'_>,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<AuthenticatedDevice, AuthError> {
        if origin.address_proven
            && let Err(TooOften { retry_after }) = self.parts.rates.address_locked(origin.address, now)
        {
            self.parts.meter.auth_failure(origin.transport, "address_locked");
            self.parts.meter.limit_reached("auth_failures_per_address");
            return Err(AuthError::TooManyFailures { retry_after });
        }
        match self.holder(credential).await {
            Ok(Some(device)) => Ok(AuthenticatedDevice::new(device)),
            Ok(None) => {
                self.parts.meter.auth_failure(origin.transport, "refused");
                if origin.address_proven {
                    let budget = Budget { tries: self.parts.limits.auth_failures_per_address, window: MINUTE };
                    self.parts.rates.refused_credential(origin.address, budget, self.parts.limits.auth_lockout, now);
                }
                Err(AuthError::Refused)
            }
            Err(Unavailable) => {
                self.parts.meter.auth_failure(origin.transport, "unavailable");
                Err(AuthError::Unavailable)
            }
        }
    }

    async fn holder(&self, credential: DeviceCredential<'_>) -> Result<Option<Arc<Device>>, Unavailable> {
        let (registry, keyring) = (&self.parts.registry, &self.parts.keyring);
        let (client_id, user_name, password) = match credential {
            DeviceCredential::AccessToken(token) => {
                return Ok(registry.find_credential(keyring.access_token(token)).await?.map(|holder| holder.device));
            }
            DeviceCredential::Mqtt { client_id, user_name, password } => {
                (client_id, user_name.filter(|name| !name.is_empty()), password)
            }
        };
        let client_id = Some(client_id).filter(|id| !id.is_empty());
        let Some(user_name) = user_name else {
            if client_id.is_none() {
                return Ok(None);
            }
            let key = keyring.mqtt_basic(client_id, None);
            let holder = registry.find_credential(key).await?;
            return Ok(holder.filter(|h| self.password_fits(h, &key, password)).map(|h| h.device));
        };
        // A stock device shows a token only. Most installs hold nothing but tokens, and each look-up of a basic
        // credential that does not exist is answered by the registry's cache of absent ones.
        for client_id in client_id.map(Some).into_iter().chain([None]) {
            let key = keyring.mqtt_basic(client_id, Some(user_name));
            if let Some(holder) = registry.find_credential(key).await? {
                return Ok(self.password_fits(&holder, &key, password).then_some(holder.device));
            }
        }
        Ok(registry.find_credential(keyring.access_token(user_name)).await?.map(|holder| holder.device))
    }

    fn password_fits(
        &self,
        holder: &CredentialHolder,
        key: &crate::secret::CredentialDigest,
        password: Option<&[u8]>,
    ) -> bool {
        match (&holder.password, password) {
            (None, _) => true,
            (Some(expected), shown) => *expected == self.parts.keyring.mqtt_password(key, shown.unwrap_or_default()),
        }
    }

    /// Registers a device's own claim.
    ///
    /// `Ok` means registered as durably as configured and visible to every confirm that starts afterwards.
    pub async fn submit(
        &self,
        device: &AuthenticatedDevice,
        body: &[u8],
        format: BodyFormat,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Receipt, SubmitError> {
        let result = self.try_submit(device, body, format, now).await;
        let outcome = result.as_ref().map_or_else(|denied| denied.error.outcome(), |_| SubmitOutcome::Accepted);
        self.parts.meter.submission(origin.transport, ClaimSource::Device, outcome);
        self.parts.watch.tell(device.tenant(), || {
            let end = result.as_ref().map_or_else(Denied::submission, |receipt| Submission::Registered(*receipt));
            watch::submitted((device.name().shared(), By::Device), end, Some(body), origin, now)
        });
        match &result {
            Ok(receipt) => self.tell(device.id(), device.name(), receipt.expires_at),
            Err(denied) => self.note(device, Some(device.id()), &denied.error, origin, now),
        }
        Ok(result?)
    }

    /// A transport refused a device's message for its size, without reading it: counted, and told to those who watch.
    pub fn refused_unread(&self, device: &AuthenticatedDevice, origin: &Origin, now: Timestamp) {
        self.parts.meter.limit_reached(Hindrance::TooLarge.name());
        self.parts.watch.tell(device.tenant(), || {
            let end = Submission::Refused(SubmitOutcome::Malformed, Hindrance::TooLarge);
            watch::submitted((device.name().shared(), By::Device), end, None, origin, now)
        });
    }

    async fn try_submit(
        &self,
        device: &AuthenticatedDevice,
        body: &[u8],
        format: BodyFormat,
        now: Timestamp,
    ) -> Result<Receipt, Denied> {
        let budget = Budget { tries: self.parts.limits.submit_per_device, window: MINUTE };
        self.admit(device, 1, budget, Hindrance::DeviceRate, now)?;
        let message = ClaimMessage::parse(body, format)?;
        let gone = Hindrance::DeviceGone.refuses(SubmitError::Unauthenticated);
        let standing = self.parts.registry.device(device.id()).await?.ok_or(gone)?;
        let claim = self.claim(&standing, &message, ClaimSource::Device, now)?;
        let recorded = self.parts.cache.record(claim, now).await.map_err(|error| self.refused_record(error))?;
        Ok(Receipt { expires_at: claim.expires_at, recorded })
    }

    fn admit(
        &self,
        device: &AuthenticatedDevice,
        cost: u32,
        budget: Budget,
        limit: Hindrance,
        now: Timestamp,
    ) -> Result<(), Denied> {
        self.parts.rates.admit(device.id(), cost, budget, now).map_err(|too_often| {
            self.parts.meter.limit_reached(limit.name());
            limit.refuses(too_often)
        })
    }

    fn refused_record(&self, error: RecordError) -> Denied {
        if let RecordError::Full { .. } = error {
            self.parts.meter.limit_reached("claim_cache.max_pending");
        }
        error.into()
    }

    /// Applies the rules to a message of a device that is known: unowned, allowed, lifetime clamped, newer than the
    /// fence.
    fn claim(
        &self,
        device: &Device,
        message: &ClaimMessage<'_>,
        source: ClaimSource,
        now: Timestamp,
    ) -> Result<PendingClaim, Denied> {
        if device.owner.is_some() {
            return Err(Hindrance::Owned.refuses(SubmitError::AlreadyOwned));
        }
        if !self.parts.policy.allows(device) {
            return Err(Hindrance::of(device).refuses(SubmitError::NotClaimable));
        }
        // A clock that lags the fence must not make a fresh announcement void.
        let received_at = match device.claim_reset_at {
            Some(fence) => now.max(fence.plus(Duration::from_millis(1))),
            None => now,
        };
        Ok(PendingClaim {
            tenant: device.tenant,
            device: device.id,
            digest: message.secret.digest(&self.parts.keyring, device.tenant, device.id),
            received_at,
            expires_at: received_at.plus(self.parts.policy.lifetime(message)),
            source,
        })
    }

    /// What the device may learn about its own claim.
    pub async fn claim_state(&self, device: &AuthenticatedDevice, now: Timestamp) -> Result<ClaimState, Unavailable> {
        // The claim is looked at first: a confirm in between then shows as claimed, never as nothing at all.
        let sighting = self.parts.cache.peek(device.id(), now).await?;
        let registry = &self.parts.registry;
        let Some(standing) = registry.device(device.id()).await? else {
            return Ok(ClaimState::None);
        };
        let claimed = |standing: &Device| {
            let claimed_at = standing.claimed_at.unwrap_or(now);
            standing.owner.is_some().then_some(ClaimState::Claimed { claimed_at })
        };
        if let Some(claimed) = claimed(&standing) {
            return Ok(claimed);
        }
        let voided = |received_at| standing.claim_reset_at.is_some_and(|fence| received_at <= fence);
        if let Some(seen) = sighting.filter(|seen| seen.live(now) && !voided(seen.claim.received_at)) {
            return Ok(ClaimState::Pending { expires_at: seen.claim.expires_at });
        }
        // A claim that is gone may have been confirmed at a node that was not heard of yet.
        Ok(registry.device_now(device.id()).await?.as_deref().and_then(claimed).unwrap_or(ClaimState::None))
    }

    /// The gateways that speak for a device, for pushes.
    pub async fn gateways_of(&self, device: crate::DeviceId) -> Result<Arc<[crate::DeviceId]>, Unavailable> {
        self.parts.registry.gateways_of(device).await
    }

    /// Whether the device still exists; for sessions that live long.
    pub async fn still_exists(&self, device: &AuthenticatedDevice) -> Result<bool, Unavailable> {
        Ok(self.parts.registry.device(device.id()).await?.is_some())
    }

    fn tell(&self, device: crate::DeviceId, name: &crate::DeviceName, expires_at: Timestamp) {
        let state = ClaimState::Pending { expires_at };
        self.parts.feed.publish(&StateChange { device, name: Some(name.clone()), state });
    }

    fn note(
        &self,
        sender: &AuthenticatedDevice,
        device: Option<crate::DeviceId>,
        error: &SubmitError,
        origin: &Origin,
        now: Timestamp,
    ) {
        let reason = match error {
            SubmitError::Malformed(fault) => fault.text(),
            other => other.outcome().name(),
        };
        self.parts.registry.note(AuditNote {
            at: now,
            tenant: sender.tenant(),
            actor: AuditActor::Device(sender.id()),
            action: AuditAction::Submit,
            device,
            attempt_key: None,
            outcome: error.outcome().name(),
            reason,
            evidence: Evidence::None,
            charged: false,
            transport: origin.transport,
            request_id: origin.request_id,
        });
    }
}
