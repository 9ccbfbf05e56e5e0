//! A node: the real intake and confirmation over the simulated ports, with a clock of its own.

use std::sync::Arc;
use std::time::Duration;

use claim::confirmation::{ConfirmOutcome, ConfirmRequest, ConfirmationParts, DeviceRef, UnclaimOutcome};
use claim::intake::IntakeParts;
use claim::permissions::ClaimPermission;
use claim::policy::{ClaimPolicy, GatewayPolicy};
use claim::ports::{AttemptKeys, RetryKey};
use claim::{
    Actor, BodyFormat, ClaimSecret, Confirmation, DeviceCredential, Intake, Receipt, SubmitError, Timestamp, Transport,
};
use testkit::{NoMeter, OpenRates, at, origin};

use crate::Simulation;
use crate::ports::{RemoteCache, RemoteLedger, RemoteRegistry, Stores};
use crate::stores::Omitted;

/// What is asked of a node.
pub(crate) enum Ask {
    Submit { token: String, body: String },
    Confirm { actor: Actor, device: String, secret: String, retry: Option<RetryKey> },
    Unclaim { actor: Actor, device: String },
}

/// What it says, and what its clock showed.
pub(crate) enum Said {
    Submitted(Result<Receipt, SubmitError>),
    Confirmed(ConfirmOutcome, Timestamp),
    Unclaimed(UnclaimOutcome),
}

/// The simulation's time as a clock shows it that is so many milliseconds ahead.
pub(crate) fn clock(skew: i64) -> Timestamp {
    let elapsed = turmoil::sim_elapsed().expect("inside a simulation");
    at(skew + i64::try_from(elapsed.as_millis()).expect("a short run"))
}

pub(crate) async fn run(simulation: Arc<Simulation>, skew: i64) -> turmoil::Result {
    let wire = Arc::clone(&simulation.wire);
    let node = Arc::new(Node::new(simulation, skew));
    wire.serve(move |ask: Ask| {
        let node = Arc::clone(&node);
        async move { node.answer(ask).await }
    })
    .await
}

struct Node {
    intake: Intake,
    confirmation: Confirmation,
    skew: i64,
    simulation: Arc<Simulation>,
}

impl Node {
    fn new(simulation: Arc<Simulation>, skew: i64) -> Self {
        let stores = Stores::new(Arc::clone(&simulation.wire), simulation.truth.omitted == Omitted::Reserve);
        let registry = Arc::new(RemoteRegistry(Arc::clone(&stores)));
        let cache = Arc::new(RemoteCache(Arc::clone(&stores)));
        let policy = ClaimPolicy::default();
        let intake = Intake::new(IntakeParts {
            registry: registry.clone(),
            cache: cache.clone(),
            rates: Arc::new(OpenRates),
            meter: Arc::new(NoMeter),
            feed: Arc::default(),
            watch: Arc::default(),
            keyring: Arc::clone(&simulation.keyring),
            policy: policy.clone(),
            gateway: GatewayPolicy::default(),
            limits: claim::limits::IntakeLimits::default(),
        });
        let confirmation = Confirmation::new(ConfirmationParts {
            registry,
            cache,
            attempts: Arc::new(RemoteLedger(stores)),
            meter: Arc::new(NoMeter),
            watch: Arc::default(),
            keyring: Arc::clone(&simulation.keyring),
            policy,
            budgets: simulation.budgets.clone(),
            permission: ClaimPermission::default(),
        });
        Self { intake, confirmation, skew, simulation }
    }

    /// `None` when the asker would have to sign in again.
    async fn answer(&self, ask: Ask) -> Option<Said> {
        let now = clock(self.skew);
        match ask {
            Ask::Submit { token, body } => {
                let origin = origin(Some(Transport::Http));
                let credential = DeviceCredential::AccessToken(&token);
                let device = self.intake.authenticate(credential, &origin, now).await.ok()?;
                let now = clock(self.skew);
                let result = self.intake.submit(&device, body.as_bytes(), BodyFormat::Json, &origin, now).await;
                Some(Said::Submitted(result))
            }
            Ask::Confirm { actor, device, secret, retry } => {
                let secret = ClaimSecret::parse(secret.as_str()).expect("a secret");
                let request = ConfirmRequest {
                    actor,
                    for_customer: None,
                    device: DeviceRef::Name(&device),
                    target: None,
                    secret: &secret,
                    retry,
                };
                let outcome = self.confirmation.confirm(request, &origin(None), now).await;
                let name = self.simulation.keyring.attempt_key(actor.tenant, &device);
                let keys = AttemptKeys { account: actor.account, name };
                self.simulation.truth.history.concluded(keys, retry.as_ref(), &outcome);
                Some(Said::Confirmed(outcome, now))
            }
            Ask::Unclaim { actor, device } => {
                Some(Said::Unclaimed(self.confirmation.unclaim(actor, &device, &origin(None), now).await))
            }
        }
    }
}

/// Longer than a node may take for all it asks of its stores.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);
