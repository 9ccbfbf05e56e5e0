//! Two owners at two nodes after one device, in every order there is: each schedule of the steps of two confirms, with an
//! unclaim, a replayed claim or a crash between any two of them. The real `Confirmation` runs; a step is one verb of a store.
//!
//! The whole of a small space; `nodes` draws from a large one.
#![allow(clippy::unwrap_used, reason = "a test may end by it")]

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use claim::confirmation::{ConfirmOutcome, ConfirmRequest, ConfirmationParts, DeviceRef};
use claim::limits::AttemptBudgets;
use claim::owner::Authority;
use claim::permissions::Grants;
use claim::ports::{
    AttemptKeys, AttemptLedger, ClaimCache, ClaimSource, PendingClaim, PortFuture, RecordError, Recorded, Reservation,
    ReserveError, Sighting, Unavailable,
};
use claim::{Actor, ClaimSecret, Confirmation, CustomerId, DeviceId, TenantId, Timestamp, UserId};
use testkit::{FakeCache, FakeLedger, World, at, origin};

use self::stepped::{Stepped, step};

mod stepped {
    //! Ports whose every verb is a step: the caller stops before it until it is polled again.

    use claim::device::Device;
    use claim::event::AuditNote;
    use claim::ports::{
        AssignOwner, Assignment, Child, ClaimSubject, CredentialHolder, DeviceRegistry, Release, ReleaseOwner,
        Remembered, ResolveChildren, RetryKey, VoidPending, WriteError,
    };
    use claim::secret::CredentialDigest;
    use claim::{DeviceName, Eui64};
    use testkit::FakeRegistry;

    use super::*;

    pub(super) struct Stepped<P>(pub(super) Arc<P>);

    /// Stops once.
    pub(super) async fn step() {
        let mut stopped = false;
        std::future::poll_fn(|_| if std::mem::replace(&mut stopped, true) { Poll::Ready(()) } else { Poll::Pending })
            .await;
    }

    fn later<'a, T: Send + Unpin + 'a>(verb: impl FnOnce() -> PortFuture<'a, T> + Send + 'a) -> PortFuture<'a, T> {
        PortFuture::later(async move {
            step().await;
            verb().await
        })
    }

    impl ClaimCache for Stepped<FakeCache> {
        fn record(&self, claim: PendingClaim, now: Timestamp) -> PortFuture<'_, Result<Recorded, RecordError>> {
            later(move || self.0.record(claim, now))
        }
        fn record_batch(
            &self,
            claims: Vec<PendingClaim>,
            now: Timestamp,
        ) -> PortFuture<'_, Vec<Result<Recorded, RecordError>>> {
            later(move || self.0.record_batch(claims, now))
        }
        fn peek(&self, device: DeviceId, now: Timestamp) -> PortFuture<'_, Result<Option<Sighting>, Unavailable>> {
            later(move || self.0.peek(device, now))
        }
        fn consume(&self, device: DeviceId, stamp: u64) -> PortFuture<'_, Result<bool, Unavailable>> {
            later(move || self.0.consume(device, stamp))
        }
        fn withdraw(&self, device: DeviceId, until: Timestamp) -> PortFuture<'_, Result<bool, Unavailable>> {
            later(move || self.0.withdraw(device, until))
        }
        fn pending(
            &self,
            tenant: TenantId,
            after: Option<DeviceId>,
            limit: usize,
            now: Timestamp,
        ) -> PortFuture<'_, Result<Vec<PendingClaim>, Unavailable>> {
            later(move || self.0.pending(tenant, after, limit, now))
        }
    }

    /// Tries are counted aside: two owners with the right secret spend none that matter.
    impl AttemptLedger for Stepped<FakeLedger> {
        fn reserve(
            &self,
            keys: AttemptKeys,
            budgets: &AttemptBudgets,
            now: Timestamp,
        ) -> PortFuture<'_, Result<Reservation, ReserveError>> {
            self.0.reserve(keys, budgets, now)
        }
        fn refund(&self, reservation: Reservation) -> PortFuture<'_, Result<(), Unavailable>> {
            self.0.refund(reservation)
        }
        fn forgive(&self, name: [u8; 16]) -> PortFuture<'_, Result<(), Unavailable>> {
            self.0.forgive(name)
        }
    }

    impl DeviceRegistry for Stepped<FakeRegistry> {
        fn find_credential(
            &self,
            credential: CredentialDigest,
        ) -> PortFuture<'_, Result<Option<CredentialHolder>, Unavailable>> {
            later(move || self.0.find_credential(credential))
        }
        fn device(&self, device: DeviceId) -> PortFuture<'_, Result<Option<Arc<Device>>, Unavailable>> {
            later(move || self.0.device(device))
        }
        fn device_now(&self, device: DeviceId) -> PortFuture<'_, Result<Option<Arc<Device>>, Unavailable>> {
            later(move || self.0.device_now(device))
        }
        fn find(
            &self,
            tenant: TenantId,
            name: &DeviceName,
        ) -> PortFuture<'_, Result<Option<ClaimSubject>, Unavailable>> {
            let name = name.clone();
            PortFuture::later(async move {
                step().await;
                self.0.find(tenant, &name).await
            })
        }
        fn name_of(
            &self,
            tenant: TenantId,
            dev_eui: Eui64,
            join_eui: Option<Eui64>,
        ) -> PortFuture<'_, Result<Option<DeviceName>, Unavailable>> {
            later(move || self.0.name_of(tenant, dev_eui, join_eui))
        }
        fn assign_owner<'a>(&'a self, request: AssignOwner<'a>) -> PortFuture<'a, Result<Assignment, WriteError>> {
            // Done, and then heard of: a crash may come between.
            PortFuture::later(async move {
                step().await;
                let done = self.0.assign_owner(request).await;
                step().await;
                done
            })
        }
        fn release_owner<'a>(&'a self, request: ReleaseOwner<'a>) -> PortFuture<'a, Result<Release, WriteError>> {
            later(move || self.0.release_owner(request))
        }
        fn void_pending<'a>(
            &'a self,
            request: VoidPending<'a>,
        ) -> PortFuture<'a, Result<Option<Timestamp>, WriteError>> {
            later(move || self.0.void_pending(request))
        }
        fn resolve_children(&self, request: ResolveChildren) -> PortFuture<'_, Result<Vec<Child>, Unavailable>> {
            later(move || self.0.resolve_children(request))
        }
        fn gateways_of(&self, device: DeviceId) -> PortFuture<'_, Result<Arc<[DeviceId]>, Unavailable>> {
            later(move || self.0.gateways_of(device))
        }
        fn remembered<'a>(&'a self, key: &'a RetryKey) -> PortFuture<'a, Result<Option<Remembered>, Unavailable>> {
            later(move || self.0.remembered(key))
        }
        fn remember<'a>(
            &'a self,
            key: &'a RetryKey,
            answer: String,
            now: Timestamp,
        ) -> PortFuture<'a, Result<(), Unavailable>> {
            later(move || self.0.remember(key, answer, now))
        }
        fn note(&self, note: AuditNote) {
            self.0.note(note);
        }
        fn note_charged(&self, note: AuditNote) -> PortFuture<'_, Result<(), Unavailable>> {
            later(move || self.0.note_charged(note))
        }
    }
}

const SECRET: &str = "s";

/// The world of one schedule.
struct Play {
    world: World,
    confirmation: Confirmation,
    device: DeviceId,
    claim: PendingClaim,
    heard: Mutex<Vec<(CustomerId, ConfirmOutcome)>>,
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

impl Play {
    fn new() -> Arc<Self> {
        let world = World::new();
        let device = world.registry.add_device(world.tenant, "pump");
        let secret = ClaimSecret::parse(SECRET).expect("a secret");
        let claim = PendingClaim {
            tenant: world.tenant,
            device,
            digest: secret.digest(&world.keyring, world.tenant, device),
            received_at: at(0),
            expires_at: at(60_000),
            source: ClaimSource::Device,
        };
        world.cache.resurrect(claim);
        let confirmation = Confirmation::new(ConfirmationParts {
            registry: Arc::new(Stepped(Arc::clone(&world.registry))),
            cache: Arc::new(Stepped(Arc::clone(&world.cache))),
            attempts: Arc::new(Stepped(Arc::clone(&world.ledger))),
            meter: Arc::new(testkit::NoMeter),
            watch: Arc::clone(&world.watch),
            keyring: Arc::clone(&world.keyring),
            policy: world.policy.clone(),
            budgets: world.budgets.clone(),
            permission: world.permission,
        });
        Arc::new(Self { world, confirmation, device, claim, heard: Mutex::default() })
    }

    fn owner(&self, number: u8) -> Actor {
        let authority = Authority::CustomerUser(CustomerId::from_bytes([number; 16]));
        Actor {
            account: UserId::from_bytes([number; 16]),
            tenant: self.world.tenant,
            authority,
            grants: Grants::default(),
        }
    }

    async fn confirm(&self, number: u8, now: i64) -> ConfirmOutcome {
        let (actor, secret) = (self.owner(number), ClaimSecret::parse(SECRET).expect("a secret"));
        let request = ConfirmRequest {
            actor,
            for_customer: None,
            device: DeviceRef::Name("pump"),
            target: None,
            secret: &secret,
            retry: None,
        };
        let outcome = self.confirmation.confirm(request, &origin(None), at(now)).await;
        self.heard.lock().unwrap().push((actor.customer().unwrap(), outcome.clone()));
        outcome
    }

    async fn unclaim(&self, number: u8, now: i64) {
        self.confirmation.unclaim(self.owner(number), "pump", &origin(None), at(now)).await;
    }

    fn row_owner(&self) -> Option<CustomerId> {
        self.world.registry.row(self.device).expect("a row").owner
    }

    /// What must hold between any two steps.
    fn check(&self) {
        let wins = self.world.registry.wins();
        assert!(wins.len() <= 1, "one announcement, {} owners", wins.len());
        for (customer, outcome) in self.heard.lock().unwrap().iter() {
            if let ConfirmOutcome::Claimed { .. } | ConfirmOutcome::AlreadyYours { .. } = outcome {
                assert_eq!(wins, [(self.device, *customer)], "a success that is not in the registry");
            }
        }
    }
}

/// Runs every schedule of what `cast` makes; a task may be dropped before any of its steps where `crash` makes the one that
/// comes in its place. Returns how many there were.
fn every_schedule(
    cast: impl Fn(&Arc<Play>) -> Vec<Task>,
    crash: Option<fn(&Arc<Play>) -> Task>,
    end: impl Fn(&Play),
) -> u64 {
    let mut choices: Vec<(usize, usize)> = Vec::new();
    let mut schedules = 0;
    loop {
        run(&mut choices, &cast, crash, &end);
        schedules += 1;
        // The next one in order: the last choice that had another.
        while choices.last().is_some_and(|(taken, of)| taken + 1 == *of) {
            choices.pop();
        }
        match choices.last_mut() {
            Some((taken, _)) => *taken += 1,
            None => return schedules,
        }
    }
}

fn run(
    choices: &mut Vec<(usize, usize)>,
    cast: &impl Fn(&Arc<Play>) -> Vec<Task>,
    crash: Option<fn(&Arc<Play>) -> Task>,
    end: &impl Fn(&Play),
) {
    let play = Play::new();
    let mut tasks: Vec<Option<Task>> = cast(&play).into_iter().map(Some).collect();
    let (mut crash, mut depth) = (crash, 0);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        let open: Vec<usize> = (0..tasks.len()).filter(|task| tasks[*task].is_some()).collect();
        if open.is_empty() {
            break;
        }
        // Only the first one crashes, and only while it runs.
        let may_crash = crash.is_some() && tasks[0].is_some();
        let of = open.len() + usize::from(may_crash);
        if depth == choices.len() {
            choices.push((0, of));
        }
        let (taken, known) = choices[depth];
        assert_eq!(known, of, "the same choices make the same run");
        depth += 1;
        match open.get(taken) {
            Some(task) => {
                let running = tasks[*task].as_mut().expect("it is open");
                if running.as_mut().poll(&mut context).is_ready() {
                    tasks[*task] = None;
                }
            }
            None => tasks[0] = crash.take().map(|retry| retry(&play)),
        }
        play.check();
    }
    end(&play);
}

fn confirming(play: &Arc<Play>, owner: u8, now: i64) -> Task {
    let play = Arc::clone(play);
    Box::pin(async move {
        play.confirm(owner, now).await;
    })
}

#[test]
fn in_every_order_of_two_confirms_an_unclaim_and_a_replay_one_claim_has_one_owner() {
    let cast = |play: &Arc<Play>| {
        let (first, replay) = (Arc::clone(play), Arc::clone(play));
        let claim_and_give_back: Task = Box::pin(async move {
            if let ConfirmOutcome::Claimed { .. } = first.confirm(1, 10).await {
                first.unclaim(1, 20).await;
            }
        });
        let comes_back: Task = Box::pin(async move {
            step().await;
            replay.world.cache.resurrect(replay.claim);
        });
        vec![claim_and_give_back, confirming(play, 2, 15), comes_back]
    };
    let schedules = every_schedule(cast, None, |play| {
        assert_eq!(play.world.registry.wins().len(), 1, "the right secret of a live claim was refused to both");
    });
    eprintln!("{schedules} schedules");
    assert!(schedules > 10_000, "{schedules} schedules are not all");
}

#[test]
fn in_every_order_of_two_confirms_and_a_crash_a_retry_tells_who_the_owner_is() {
    let cast = |play: &Arc<Play>| vec![confirming(play, 1, 10), confirming(play, 2, 15)];
    let schedules = every_schedule(cast, Some(|play| confirming(play, 1, 20)), |play| {
        let owner = play.row_owner().expect("somebody claimed it");
        // The last word each owner heard is the truth.
        for number in [1, 2] {
            let customer = play.owner(number).customer().unwrap();
            let heard = play.heard.lock().unwrap();
            let (_, last) = heard.iter().rev().find(|(who, _)| *who == customer).expect("an answer");
            let told = matches!(last, ConfirmOutcome::Claimed { .. } | ConfirmOutcome::AlreadyYours { .. });
            assert_eq!(told, customer == owner, "owner {number} heard {last:?}");
        }
    });
    eprintln!("{schedules} schedules");
    assert!(schedules > 10_000, "{schedules} schedules are not all");
}
