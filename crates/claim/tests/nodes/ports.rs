//! The domain's ports as a node sees them: each verb is a question to a store over the wire, bounded in time, and what has
//! no answer is settled as the adapters for PostgreSQL and Redis settle it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use claim::device::Device;
use claim::event::{AuditActor, AuditNote};
use claim::limits::AttemptBudgets;
use claim::ports::{
    AssignOwner, Assignment, AttemptKeys, AttemptLedger, Child, ClaimCache, ClaimSubject, CredentialHolder,
    DeviceRegistry, Freshness, PendingClaim, PortFuture, RecordError, Recorded, Release, ReleaseOwner, Remembered,
    Reservation, ReserveError, ResolveChildren, RetryKey, Sighting, Unavailable, VoidPending, WriteError,
};
use claim::secret::CredentialDigest;
use claim::{CustomerId, DeviceId, DeviceName, Eui64, Origin, SecretDigest, TenantId, Timestamp, UserId};

use crate::stores::{Anything, Memory, MemoryJob, Truth, TruthJob, now};
use crate::wire::{Lost, Wire};

/// `timeouts.store`.
const PATIENCE: Duration = Duration::from_millis(300);

/// One node's way to both stores.
pub(crate) struct Stores {
    wire: Arc<Wire>,
    /// The cache server this node is connected to.
    epoch: AtomicU64,
    /// The one whose tries are known to be whole; 0: none yet.
    whole: AtomicU64,
    /// Counts a try when it is charged; for stores that do not when it is reserved.
    late_counting: bool,
}

impl Stores {
    pub(crate) fn new(wire: Arc<Wire>, late_counting: bool) -> Arc<Self> {
        Arc::new(Self { wire, epoch: AtomicU64::new(0), whole: AtomicU64::new(0), late_counting })
    }

    async fn truth<T: Send + 'static>(&self, job: impl FnOnce(&Truth) -> T + Send + 'static) -> Result<T, Lost> {
        let job: TruthJob = Box::new(move |truth| Box::new(job(truth)));
        let answer: Anything = self.wire.ask("registry", PATIENCE, job).await?;
        Ok(*answer.downcast().expect("the job's own answer"))
    }

    /// A server that is another one than before breaks the connection first.
    async fn memory<T: Send + 'static>(&self, job: impl FnOnce(&Memory) -> T + Send + 'static) -> Result<T, Lost> {
        let job: MemoryJob = Box::new(move |memory| Box::new(job(memory)));
        let known = self.epoch.load(Ordering::Relaxed);
        match self.wire.ask("cache", PATIENCE, (known, job)).await? {
            Ok::<Anything, u64>(answer) => Ok(*answer.downcast().expect("the job's own answer")),
            Err(epoch) => {
                self.epoch.store(epoch, Ordering::Relaxed);
                Err(Lost)
            }
        }
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Truth) -> Result<T, Unavailable> + Send + 'static,
    ) -> Result<T, Unavailable> {
        self.truth(read).await.unwrap_or(Err(Unavailable))
    }

    /// As `RedisAttempts` does it.
    async fn try_reserve(
        &self,
        keys: AttemptKeys,
        budgets: AttemptBudgets,
        at: Timestamp,
    ) -> Result<Reservation, ReserveError> {
        let away = |_| ReserveError::Unavailable;
        for _ in 0..2 {
            let connection = self.epoch.load(Ordering::Relaxed);
            if self.whole.load(Ordering::Relaxed) != connection || connection == 0 {
                self.count_again(connection).await.map_err(away)?;
            }
            let budgets = budgets.clone();
            match self.memory(move |memory| memory.reserve(keys, &budgets, at)).await.map_err(away)? {
                None => {
                    let _ = self.whole.compare_exchange(connection, 0, Ordering::Relaxed, Ordering::Relaxed);
                }
                Some(Ok(reservation)) if self.epoch.load(Ordering::Relaxed) != connection => {
                    self.memory(move |memory| memory.refund(reservation)).await.map_err(away)?;
                }
                Some(done) => return done,
            }
        }
        Err(ReserveError::Unavailable)
    }

    async fn count_again(&self, connection: u64) -> Result<(), Lost> {
        let counting = self.memory(Memory::begin_counting).await?;
        let charged = self.truth(|truth| truth.charged.lock().unwrap().clone()).await?;
        if !self.memory(move |memory| memory.count_again(&charged, counting)).await? {
            return Err(Lost);
        }
        self.whole.store(connection, Ordering::Relaxed);
        Ok(())
    }

    /// Made; or perhaps, and the row does not tell: then nobody knows.
    async fn assign(&self, asked: Asked) -> Result<Assignment, WriteError> {
        let again = asked.clone();
        if let Ok(done) = self.truth(move |truth| truth.assign(again.request())).await {
            return Ok(done);
        }
        let Asked { tenant, device, owner, proof, at, .. } = asked;
        let row = self.truth(move |truth| {
            let name = truth.registry.row(device)?.name;
            now(truth.registry.find(tenant, &name)).ok().flatten()
        });
        match row.await {
            Ok(Some(row))
                if row.device.owner == Some(owner) && row.proof == Some(proof) && row.device.claimed_at == Some(at) =>
            {
                Ok(Assignment::Assigned { claimed_at: at, generation: row.device.generation })
            }
            _ => Err(WriteError::OutcomeUnknown),
        }
    }
}

/// An [`AssignOwner`] that can travel.
#[derive(Clone)]
struct Asked {
    tenant: TenantId,
    device: DeviceId,
    owner: CustomerId,
    account: UserId,
    proof: SecretDigest,
    freshness: Freshness,
    allow_by_default: bool,
    invalidate_code: bool,
    retry: Option<RetryKey>,
    at: Timestamp,
    origin: Origin,
}

impl Asked {
    fn of(request: &AssignOwner<'_>) -> Self {
        Self {
            tenant: request.tenant,
            device: request.device,
            owner: request.owner,
            account: request.account,
            proof: request.proof,
            freshness: request.freshness,
            allow_by_default: request.allow_by_default,
            invalidate_code: request.invalidate_code,
            retry: request.retry.copied(),
            at: request.now,
            origin: *request.origin,
        }
    }

    fn request(&self) -> AssignOwner<'_> {
        AssignOwner {
            tenant: self.tenant,
            device: self.device,
            owner: self.owner,
            account: self.account,
            proof: self.proof,
            freshness: self.freshness,
            allow_by_default: self.allow_by_default,
            invalidate_code: self.invalidate_code,
            target: None,
            retry: self.retry.as_ref(),
            now: self.at,
            origin: &self.origin,
        }
    }
}

/// [`Stores`] as the port of the registry.
pub(crate) struct RemoteRegistry(pub(crate) Arc<Stores>);

impl DeviceRegistry for RemoteRegistry {
    fn find_credential(
        &self,
        credential: CredentialDigest,
    ) -> PortFuture<'_, Result<Option<CredentialHolder>, Unavailable>> {
        PortFuture::later(self.0.read(move |truth| now(truth.registry.find_credential(credential))))
    }

    fn device(&self, device: DeviceId) -> PortFuture<'_, Result<Option<Arc<Device>>, Unavailable>> {
        PortFuture::later(self.0.read(move |truth| now(truth.registry.device(device))))
    }

    fn device_now(&self, device: DeviceId) -> PortFuture<'_, Result<Option<Arc<Device>>, Unavailable>> {
        self.device(device)
    }

    fn find(&self, tenant: TenantId, name: &DeviceName) -> PortFuture<'_, Result<Option<ClaimSubject>, Unavailable>> {
        let name = name.clone();
        PortFuture::later(self.0.read(move |truth| now(truth.registry.find(tenant, &name))))
    }

    /// Nobody asks by EUI here.
    fn name_of(
        &self,
        _: TenantId,
        _: Eui64,
        _: Option<Eui64>,
    ) -> PortFuture<'_, Result<Option<DeviceName>, Unavailable>> {
        PortFuture::ready(Ok(None))
    }

    fn assign_owner<'a>(&'a self, request: AssignOwner<'a>) -> PortFuture<'a, Result<Assignment, WriteError>> {
        PortFuture::later(self.0.assign(Asked::of(&request)))
    }

    fn release_owner<'a>(&'a self, request: ReleaseOwner<'a>) -> PortFuture<'a, Result<Release, WriteError>> {
        let ReleaseOwner { tenant, device, holder, account, allow_again, now, .. } = request;
        let origin = *request.origin;
        PortFuture::later(async move {
            let release = move |truth: &Truth| {
                truth.release(ReleaseOwner { tenant, device, holder, account, allow_again, now, origin: &origin })
            };
            self.0.truth(release).await.map_err(|Lost| WriteError::OutcomeUnknown)
        })
    }

    /// No maker is about.
    fn void_pending<'a>(&'a self, _: VoidPending<'a>) -> PortFuture<'a, Result<Option<Timestamp>, WriteError>> {
        PortFuture::ready(Err(WriteError::Unavailable))
    }

    /// No gateway is about.
    fn resolve_children(&self, _: ResolveChildren) -> PortFuture<'_, Result<Vec<Child>, Unavailable>> {
        PortFuture::ready(Err(Unavailable))
    }

    fn gateways_of(&self, _: DeviceId) -> PortFuture<'_, Result<Arc<[DeviceId]>, Unavailable>> {
        PortFuture::ready(Ok(Arc::default()))
    }

    fn remembered<'a>(&'a self, key: &'a RetryKey) -> PortFuture<'a, Result<Option<Remembered>, Unavailable>> {
        let key = *key;
        PortFuture::later(self.0.read(move |truth| {
            let remembered = now(truth.registry.remembered(&key));
            if let Ok(Some(_)) = remembered {
                truth.history.recalled(&key);
            }
            remembered
        }))
    }

    fn remember<'a>(
        &'a self,
        key: &'a RetryKey,
        answer: String,
        at: Timestamp,
    ) -> PortFuture<'a, Result<(), Unavailable>> {
        let key = *key;
        PortFuture::later(self.0.read(move |truth| now(truth.registry.remember(&key, answer, at))))
    }

    /// What changed nothing is on nobody's record here.
    fn note(&self, _: AuditNote) {}

    fn note_charged(&self, note: AuditNote) -> PortFuture<'_, Result<(), Unavailable>> {
        let (AuditActor::Account(account), Some(name)) = (note.actor, note.attempt_key) else {
            return PortFuture::ready(Ok(()));
        };
        let charged = (AttemptKeys { account, name }, note.at);
        PortFuture::later(async move {
            self.0
                .read(move |truth| {
                    truth.charged.lock().unwrap().push(charged);
                    Ok(())
                })
                .await?;
            if self.0.late_counting {
                let _ = self.0.memory(move |memory| memory.count(&[charged])).await;
            }
            Ok(())
        })
    }
}

/// [`Stores`] as the port of the claim cache.
pub(crate) struct RemoteCache(pub(crate) Arc<Stores>);

impl ClaimCache for RemoteCache {
    fn record(&self, claim: PendingClaim, at: Timestamp) -> PortFuture<'_, Result<Recorded, RecordError>> {
        PortFuture::later(async move {
            self.0.memory(move |memory| memory.record(claim, at)).await.unwrap_or(Err(RecordError::Unavailable))
        })
    }

    fn record_batch(
        &self,
        claims: Vec<PendingClaim>,
        _: Timestamp,
    ) -> PortFuture<'_, Vec<Result<Recorded, RecordError>>> {
        PortFuture::ready(vec![Err(RecordError::Unavailable); claims.len()])
    }

    fn peek(&self, device: DeviceId, at: Timestamp) -> PortFuture<'_, Result<Option<Sighting>, Unavailable>> {
        PortFuture::later(async move {
            self.0.memory(move |memory| now(memory.cache.peek(device, at))).await.unwrap_or(Err(Unavailable))
        })
    }

    fn consume(&self, device: DeviceId, stamp: u64) -> PortFuture<'_, Result<bool, Unavailable>> {
        PortFuture::later(async move {
            let consume =
                move |memory: &Memory| memory.remove(device, |cache| now(cache.consume(device, stamp)) == Ok(true));
            self.0.memory(consume).await.map_err(|Lost| Unavailable)
        })
    }

    fn withdraw(&self, device: DeviceId, until: Timestamp) -> PortFuture<'_, Result<bool, Unavailable>> {
        PortFuture::later(async move {
            let withdraw =
                move |memory: &Memory| memory.remove(device, |cache| now(cache.withdraw(device, until)) == Ok(true));
            self.0.memory(withdraw).await.map_err(|Lost| Unavailable)
        })
    }

    fn pending(
        &self,
        _: TenantId,
        _: Option<DeviceId>,
        _: usize,
        _: Timestamp,
    ) -> PortFuture<'_, Result<Vec<PendingClaim>, Unavailable>> {
        PortFuture::ready(Err(Unavailable))
    }
}

/// [`Stores`] as the port of the tries.
pub(crate) struct RemoteLedger(pub(crate) Arc<Stores>);

impl AttemptLedger for RemoteLedger {
    fn reserve(
        &self,
        keys: AttemptKeys,
        budgets: &AttemptBudgets,
        at: Timestamp,
    ) -> PortFuture<'_, Result<Reservation, ReserveError>> {
        PortFuture::later(self.0.try_reserve(keys, budgets.clone(), at))
    }

    fn refund(&self, reservation: Reservation) -> PortFuture<'_, Result<(), Unavailable>> {
        PortFuture::later(async move {
            self.0.memory(move |memory| memory.refund(reservation)).await.map_err(|Lost| Unavailable)
        })
    }

    /// No maker is about.
    fn forgive(&self, _: [u8; 16]) -> PortFuture<'_, Result<(), Unavailable>> {
        PortFuture::ready(Err(Unavailable))
    }
}
