//! A device registry in hash maps: one mutex is its transaction. Idempotency answers are kept for ever.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use claim::confirmation::ConfirmOutcome;
use claim::device::{Device, PayloadFormat};
use claim::event::AuditNote;
use claim::policy::GatewayScope;
use claim::ports::{
    AssignOwner, Assignment, Child, ClaimSubject, CredentialHolder, DeviceRegistry, Freshness, PortFuture, Release,
    ReleaseOwner, Remembered, ResolveChildren, RetryKey, StoredCode, Unavailable, VoidPending, WriteError,
};
use claim::secret::CredentialDigest;
use claim::{ClaimSecret, CustomerId, DeviceId, DeviceName, Eui64, Keyring, SecretDigest, TenantId, Timestamp, UserId};

use super::lock;

/// What goes wrong in the next ownership write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssignFault {
    /// Nothing is written: [`WriteError::Unavailable`].
    Refused,
    /// Nothing is written, but nobody knows: [`WriteError::OutcomeUnknown`].
    LostBefore,
    /// It is written, but nobody knows: [`WriteError::OutcomeUnknown`].
    LostAfter,
}

type Hook = Box<dyn FnOnce(&FakeRegistry) + Send>;

/// See the module's head.
pub struct FakeRegistry {
    keyring: Arc<Keyring>,
    state: Mutex<State>,
    hook: Mutex<Option<Hook>>,
}

#[derive(Default)]
struct State {
    devices: HashMap<DeviceId, Entry>,
    names: HashMap<(TenantId, DeviceName), DeviceId>,
    credentials: HashMap<CredentialDigest, (DeviceId, Option<SecretDigest>)>,
    relations: HashSet<(DeviceId, DeviceId)>,
    created: HashMap<DeviceId, Vec<Timestamp>>,
    answers: HashMap<(UserId, [u8; 32]), Remembered>,
    notes: Vec<AuditNote>,
    wins: Vec<(DeviceId, CustomerId)>,
    euis: HashMap<Eui64, DeviceId>,
    unavailable: bool,
    fault: Option<AssignFault>,
    skew: Duration,
    lose_notes: bool,
}

struct Entry {
    device: Device,
    proof: Option<SecretDigest>,
    code: Option<StoredCode>,
}

impl FakeRegistry {
    /// An empty registry. The keyring must be the one the domain uses.
    pub fn new(keyring: Arc<Keyring>) -> Self {
        Self { keyring, state: Mutex::default(), hook: Mutex::default() }
    }

    /// Nothing is put on record from now on, or again: [`DeviceRegistry::note_charged`] answers `Unavailable`.
    pub fn lose_notes(&self, lose: bool) {
        lock(&self.state).lose_notes = lose;
    }

    /// Releases put the fence so far ahead of their clock, as in a registry of several nodes.
    pub fn allow_skew(&self, skew: Duration) {
        lock(&self.state).skew = skew;
    }

    /// A tenant's id.
    pub fn add_tenant(&self) -> TenantId {
        TenantId::random()
    }

    /// A device without credential.
    pub fn add_device(&self, tenant: TenantId, name: &str) -> DeviceId {
        let device = Device {
            id: DeviceId::random(),
            tenant,
            name: DeviceName::parse(name).expect("a valid name"),
            gateway: false,
            mqtt_format: PayloadFormat::Json,
            coap_format: PayloadFormat::Json,
            owner: None,
            claimed_at: None,
            authorized: true,
            frozen: false,
            presence: false,
            claiming_allowed: false,
            claim_reset_at: None,
            generation: 0,
        };
        lock(&self.state).add(device)
    }

    /// A device with an access token.
    pub fn add_device_with_token(&self, tenant: TenantId, name: &str, token: &str) -> DeviceId {
        let device = self.add_device(tenant, name);
        self.add_token(device, token);
        device
    }

    /// A gateway with an access token.
    pub fn add_gateway(&self, tenant: TenantId, name: &str, token: &str) -> DeviceId {
        let gateway = self.add_device_with_token(tenant, name, token);
        self.change(gateway, |device| device.gateway = true);
        gateway
    }

    /// Another access token for a device.
    pub fn add_token(&self, device: DeviceId, token: &str) {
        lock(&self.state).credentials.insert(self.keyring.access_token(token), (device, None));
    }

    /// An MQTT basic credential for a device.
    pub fn add_basic(
        &self,
        device: DeviceId,
        client_id: Option<&str>,
        user_name: Option<&str>,
        password: Option<&[u8]>,
    ) {
        let key = self.keyring.mqtt_basic(client_id, user_name);
        let password = password.map(|password| self.keyring.mqtt_password(&key, password));
        lock(&self.state).credentials.insert(key, (device, password));
    }

    /// Removes an access token.
    pub fn remove_token(&self, token: &str) {
        lock(&self.state).credentials.remove(&self.keyring.access_token(token));
    }

    /// Removes a device with all that names it.
    pub fn delete_device(&self, device: DeviceId) {
        let mut state = lock(&self.state);
        if let Some(entry) = state.devices.remove(&device) {
            state.names.remove(&(entry.device.tenant, entry.device.name));
        }
        state.credentials.retain(|_, (holder, _)| *holder != device);
        state.relations.retain(|(gateway, child)| *gateway != device && *child != device);
    }

    /// Relates a device to a gateway.
    pub fn relate(&self, gateway: DeviceId, device: DeviceId) {
        lock(&self.state).relations.insert((gateway, device));
    }

    /// Changes a device's row in place.
    pub fn change(&self, device: DeviceId, change: impl FnOnce(&mut Device)) {
        if let Some(entry) = lock(&self.state).devices.get_mut(&device) {
            change(&mut entry.device);
        }
    }

    /// Sets how a device encodes its claims over MQTT and CoAP.
    pub fn set_format(&self, device: DeviceId, format: PayloadFormat) {
        self.change(device, |device| {
            device.mqtt_format = format;
            device.coap_format = format;
        });
    }

    /// Sets an owner, as if claimed at `now`, or takes it away.
    pub fn set_owner(&self, device: DeviceId, owner: Option<CustomerId>, now: Timestamp) {
        self.change(device, |device| {
            device.owner = owner;
            device.claimed_at = owner.map(|_| now);
            device.claim_reset_at = Some(now);
            device.generation += 1;
        });
    }

    /// Stores a code with a window for a device; moves its generation.
    pub fn set_code(&self, device: DeviceId, secret: &str, from: Option<Timestamp>, until: Option<Timestamp>) {
        let secret = ClaimSecret::parse(secret).expect("a valid secret");
        let mut state = lock(&self.state);
        if let Some(entry) = state.devices.get_mut(&device) {
            let digest = secret.digest(&self.keyring, entry.device.tenant, device);
            entry.code = Some(StoredCode { digest, from, until, any_case: false });
            entry.device.generation += 1;
        }
    }

    /// Stores a claim code without lower-case letters.
    pub fn set_upper_code(&self, device: DeviceId, code: &str, from: Option<Timestamp>, until: Option<Timestamp>) {
        self.set_code(device, code, from, until);
        if let Some(entry) = lock(&self.state).devices.get_mut(&device) {
            entry.code = entry.code.map(|code| StoredCode { any_case: true, ..code });
        }
    }

    /// Gives a device a DevEUI.
    pub fn set_eui(&self, device: DeviceId, dev_eui: Eui64) {
        lock(&self.state).euis.insert(dev_eui, device);
    }

    /// Removes a stored code; moves the generation.
    pub fn clear_code(&self, device: DeviceId) {
        let mut state = lock(&self.state);
        if let Some(entry) = state.devices.get_mut(&device) {
            entry.code = None;
            entry.device.generation += 1;
        }
    }

    /// All calls answer `Unavailable` from now on, or no more.
    pub fn set_unavailable(&self, unavailable: bool) {
        lock(&self.state).unavailable = unavailable;
    }

    /// The next ownership write goes wrong.
    pub fn fail_next_assign(&self, fault: AssignFault) {
        lock(&self.state).fault = Some(fault);
    }

    /// Runs once, just before the next ownership write: what another node may do at that moment.
    pub fn before_next_assign(&self, hook: impl FnOnce(&FakeRegistry) + Send + 'static) {
        *lock(&self.hook) = Some(Box::new(hook));
    }

    /// A device's row.
    pub fn row(&self, device: DeviceId) -> Option<Device> {
        lock(&self.state).devices.get(&device).map(|entry| entry.device.clone())
    }

    /// A device's id by name.
    pub fn id(&self, tenant: TenantId, name: &str) -> Option<DeviceId> {
        let name = DeviceName::parse(name).ok()?;
        lock(&self.state).names.get(&(tenant, name)).copied()
    }

    /// Every ownership change that was committed, in order.
    pub fn wins(&self) -> Vec<(DeviceId, CustomerId)> {
        lock(&self.state).wins.clone()
    }

    /// All audit notes since the last time this was asked.
    pub fn take_notes(&self) -> Vec<AuditNote> {
        std::mem::take(&mut lock(&self.state).notes)
    }

    fn answer<T>(&self, ask: impl FnOnce(&mut State) -> T) -> Result<T, Unavailable> {
        let mut state = lock(&self.state);
        if state.unavailable { Err(Unavailable) } else { Ok(ask(&mut state)) }
    }
}

impl State {
    fn add(&mut self, device: Device) -> DeviceId {
        let id = device.id;
        let taken = self.names.insert((device.tenant, device.name.clone()), id);
        assert!(taken.is_none(), "two devices of one name");
        self.devices.insert(id, Entry { device, proof: None, code: None });
        id
    }

    fn assign(&mut self, request: &AssignOwner<'_>) -> Assignment {
        let Some(entry) = self.devices.get_mut(&request.device).filter(|e| e.device.tenant == request.tenant) else {
            return Assignment::Gone;
        };
        let device = &mut entry.device;
        if let Some(owner) = device.owner {
            return Assignment::Owned {
                owner,
                proof: entry.proof,
                claimed_at: device.claimed_at.unwrap_or(request.now),
                generation: device.generation,
            };
        }
        if !request.allow_by_default && !device.claiming_allowed {
            return Assignment::NotAllowed;
        }
        let fresh = match request.freshness {
            Freshness::ReceivedAt(received) => device.claim_reset_at.is_none_or(|fence| fence < received),
            Freshness::Generation(generation) => device.generation == generation,
        };
        if !fresh {
            return Assignment::Stale;
        }
        let received = match request.freshness {
            Freshness::ReceivedAt(received) => received,
            Freshness::Generation(_) => request.now,
        };
        device.owner = Some(request.owner);
        device.claimed_at = Some(request.now);
        device.claim_reset_at = device.claim_reset_at.max(Some(request.now.max(received)));
        device.claiming_allowed = false;
        device.generation += 1;
        entry.proof = Some(request.proof);
        entry.code = None;
        let generation = device.generation;
        self.wins.push((request.device, request.owner));
        if let Some(key) = request.retry {
            let outcome = ConfirmOutcome::Claimed {
                device: request.device,
                claimed_at: request.now,
                generation,
                evidence: request.freshness.evidence(),
            };
            self.remember(key, outcome.to_remember().expect("a claim is worth remembering"));
        }
        Assignment::Assigned { claimed_at: request.now, generation }
    }

    fn release(&mut self, request: &ReleaseOwner<'_>) -> Release {
        let Some(entry) = self.devices.get_mut(&request.device).filter(|e| e.device.tenant == request.tenant) else {
            return Release::Gone;
        };
        let device = &mut entry.device;
        let fence = request.now.plus(self.skew);
        let fence = fence.max(device.claim_reset_at.unwrap_or(fence));
        let Some(owner) = device.owner else {
            if request.holder.is_some() {
                return Release::Unowned { fence: None };
            }
            device.claim_reset_at = Some(fence);
            return Release::Unowned { fence: Some(fence) };
        };
        if request.holder.is_some_and(|holder| holder != owner) {
            return Release::NotHolder;
        }
        device.owner = None;
        device.claimed_at = None;
        device.claim_reset_at = Some(fence);
        device.claiming_allowed |= request.allow_again;
        device.generation += 1;
        entry.proof = None;
        Release::Released { previous: owner, fence }
    }

    fn resolve(&mut self, request: &ResolveChildren, name: &DeviceName) -> Child {
        if let Some(id) = self.names.get(&(request.tenant, name.clone())).copied() {
            let related = self.relations.contains(&(request.gateway, id));
            if request.scope == GatewayScope::Related && !related {
                return Child::Unrelated;
            }
            self.relations.insert((request.gateway, id));
            return Child::Device { device: Arc::new(self.devices[&id].device.clone()), created: false };
        }
        let created = self.created.entry(request.gateway).or_default();
        let day = Duration::from_secs(24 * 3600);
        let today = created.iter().filter(|at| request.now < at.plus(day)).count();
        if today >= request.new_devices.0 as usize || created.len() >= request.new_devices.1 as usize {
            return Child::NoRoom;
        }
        created.push(request.now);
        let device = Device {
            id: DeviceId::random(),
            tenant: request.tenant,
            name: name.clone(),
            gateway: false,
            mqtt_format: PayloadFormat::Json,
            coap_format: PayloadFormat::Json,
            owner: None,
            claimed_at: None,
            authorized: true,
            frozen: false,
            presence: false,
            claiming_allowed: false,
            claim_reset_at: None,
            generation: 0,
        };
        let id = self.add(device.clone());
        self.relations.insert((request.gateway, id));
        Child::Device { device: Arc::new(device), created: true }
    }

    fn remember(&mut self, key: &RetryKey, answer: String) {
        self.answers.entry((key.account, key.key)).or_insert_with(|| Remembered { request: key.request, answer });
    }
}

impl DeviceRegistry for FakeRegistry {
    fn find_credential(
        &self,
        credential: CredentialDigest,
    ) -> PortFuture<'_, Result<Option<CredentialHolder>, Unavailable>> {
        PortFuture::ready(self.answer(|state| {
            let (device, password) = *state.credentials.get(&credential)?;
            let device = Arc::new(state.devices.get(&device)?.device.clone());
            Some(CredentialHolder { device, password })
        }))
    }

    fn device(&self, device: DeviceId) -> PortFuture<'_, Result<Option<Arc<Device>>, Unavailable>> {
        PortFuture::ready(self.answer(|state| state.devices.get(&device).map(|e| Arc::new(e.device.clone()))))
    }

    fn device_now(&self, device: DeviceId) -> PortFuture<'_, Result<Option<Arc<Device>>, Unavailable>> {
        self.device(device)
    }

    fn find(&self, tenant: TenantId, name: &DeviceName) -> PortFuture<'_, Result<Option<ClaimSubject>, Unavailable>> {
        PortFuture::ready(self.answer(|state| {
            let entry = &state.devices[state.names.get(&(tenant, name.clone()))?];
            Some(ClaimSubject { device: entry.device.clone(), proof: entry.proof, stored_code: entry.code })
        }))
    }

    /// Devices have no JoinEUI here.
    fn name_of(
        &self,
        tenant: TenantId,
        dev_eui: Eui64,
        join_eui: Option<Eui64>,
    ) -> PortFuture<'_, Result<Option<DeviceName>, Unavailable>> {
        PortFuture::ready(self.answer(|state| {
            let device = &state.devices[state.euis.get(&dev_eui)?].device;
            (device.tenant == tenant && join_eui.is_none()).then(|| device.name.clone())
        }))
    }

    fn assign_owner<'a>(&'a self, request: AssignOwner<'a>) -> PortFuture<'a, Result<Assignment, WriteError>> {
        let hook = lock(&self.hook).take();
        if let Some(hook) = hook {
            hook(self);
        }
        let answer = self.answer(|state| match state.fault.take() {
            None => Ok(state.assign(&request)),
            Some(AssignFault::Refused) => Err(WriteError::Unavailable),
            Some(AssignFault::LostBefore) => Err(WriteError::OutcomeUnknown),
            Some(AssignFault::LostAfter) => {
                state.assign(&request);
                Err(WriteError::OutcomeUnknown)
            }
        });
        PortFuture::ready(answer.unwrap_or(Err(WriteError::Unavailable)))
    }

    fn release_owner<'a>(&'a self, request: ReleaseOwner<'a>) -> PortFuture<'a, Result<Release, WriteError>> {
        PortFuture::ready(self.answer(|state| state.release(&request)).map_err(|Unavailable| WriteError::Unavailable))
    }

    fn void_pending<'a>(&'a self, request: VoidPending<'a>) -> PortFuture<'a, Result<Option<Timestamp>, WriteError>> {
        let void = self.answer(|state| {
            let entry = state.devices.get_mut(&request.device).filter(|e| e.device.tenant == request.tenant)?;
            let device = Some(&mut entry.device).filter(|device| device.owner.is_none())?;
            device.claim_reset_at = device.claim_reset_at.max(Some(request.until));
            device.claim_reset_at
        });
        PortFuture::ready(void.map_err(|Unavailable| WriteError::Unavailable))
    }

    fn resolve_children(&self, request: ResolveChildren) -> PortFuture<'_, Result<Vec<Child>, Unavailable>> {
        PortFuture::ready(self.answer(|state| request.names.iter().map(|name| state.resolve(&request, name)).collect()))
    }

    fn gateways_of(&self, device: DeviceId) -> PortFuture<'_, Result<Arc<[DeviceId]>, Unavailable>> {
        PortFuture::ready(self.answer(|state| {
            state.relations.iter().filter(|(_, child)| *child == device).map(|(gateway, _)| *gateway).collect()
        }))
    }

    fn remembered<'a>(&'a self, key: &'a RetryKey) -> PortFuture<'a, Result<Option<Remembered>, Unavailable>> {
        PortFuture::ready(self.answer(|state| state.answers.get(&(key.account, key.key)).cloned()))
    }

    fn remember<'a>(
        &'a self,
        key: &'a RetryKey,
        answer: String,
        _now: Timestamp,
    ) -> PortFuture<'a, Result<(), Unavailable>> {
        PortFuture::ready(self.answer(|state| state.remember(key, answer)))
    }

    fn note(&self, note: AuditNote) {
        lock(&self.state).notes.push(note);
    }

    fn note_charged(&self, note: AuditNote) -> PortFuture<'_, Result<(), Unavailable>> {
        let noted = self.answer(|state| {
            let kept = !state.lose_notes;
            if kept {
                state.notes.push(note);
            }
            kept
        });
        PortFuture::ready(noted.and_then(|kept| if kept { Ok(()) } else { Err(Unavailable) }))
    }
}
