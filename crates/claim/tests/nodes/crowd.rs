//! Those who use the nodes: devices that announce, owners who confirm, give back and ask again, and one who guesses.

use std::sync::Arc;
use std::time::Duration;

use claim::confirmation::{ConfirmOutcome, UnclaimOutcome};
use claim::owner::Authority;
use claim::permissions::Grants;
use claim::ports::RetryKey;
use claim::{Actor, ClaimSecret, SecretDigest, UserId};
use tokio::task::JoinSet;

use crate::history::Shown;
use crate::node::{Ask, PATIENCE, Said};
use crate::{NODES, Simulation};

/// Devices that all are after; the last ones are for the end.
pub(crate) const WANTED: usize = 2;
const OWNERS: u64 = 2;
/// Tries of one request.
const AGAIN: usize = 5;

/// Everybody, until faults end; then every node must work again.
pub(crate) async fn run(simulation: Arc<Simulation>) -> turmoil::Result {
    let mut all = JoinSet::new();
    for device in 0..WANTED {
        all.spawn_local(announce(Arc::clone(&simulation), device));
    }
    for owner in 0..OWNERS {
        all.spawn_local(own(Arc::clone(&simulation), simulation.actor(owner)));
    }
    all.spawn_local(guess(Arc::clone(&simulation)));
    while all.join_next().await.transpose()?.is_some() {}
    for node in 0..NODES {
        healed(&simulation, node).await;
    }
    Ok(())
}

impl Simulation {
    /// An account of a customer of its own.
    pub(crate) fn actor(&self, number: u64) -> Actor {
        let id = |kind: u8| std::array::from_fn(|at| if at == 0 { kind } else { number as u8 });
        let customer = claim::CustomerId::from_bytes(id(1));
        self.truth.history.name(*customer.as_bytes(), &format!("owner {number}"));
        let account = UserId::from_bytes(id(2));
        self.truth.history.name(*account.as_bytes(), &format!("account {number}"));
        let authority = Authority::CustomerUser(customer);
        Actor { account, tenant: self.tenant, authority, grants: Grants::default() }
    }

    fn digest(&self, device: usize, secret: &str) -> SecretDigest {
        let secret = ClaimSecret::parse(secret).expect("a secret");
        secret.digest(&self.keyring, self.tenant, self.devices[device])
    }

    async fn pause(&self, longest_ms: u64) {
        tokio::time::sleep(Duration::from_millis(1 + self.wire.dice(longest_ms))).await;
    }

    fn any_node(&self) -> usize {
        self.wire.dice(NODES as u64) as usize
    }

    async fn ask(&self, node: usize, ask: Ask) -> Option<Said> {
        self.wire.ask(&format!("node{node}"), PATIENCE, ask).await.ok()
    }

    /// One announcement; a device that hears nothing sends it again, sometimes to two nodes at once.
    async fn submit(self: &Arc<Self>, device: usize, secret: String, lifetime: u64, first: usize) -> bool {
        let digest = self.digest(device, &secret);
        self.truth.history.submits(digest);
        let ask = move |simulation: Arc<Self>, node: usize| {
            let body = format!(r#"{{"secretKey":"{secret}","durationMs":{lifetime}}}"#);
            async move { simulation.ask(node, Ask::Submit { token: format!("t{device}"), body }).await }
        };
        let mut tries = JoinSet::new();
        tries.spawn_local(ask(Arc::clone(self), first));
        if self.wire.dice(4) == 0 {
            tries.spawn_local(ask(Arc::clone(self), self.any_node()));
        }
        let mut acked = false;
        while let Some(said) = tries.join_next().await {
            if let Ok(Some(Said::Submitted(Ok(receipt)))) = said {
                self.truth.history.acked(self.devices[device], digest, receipt.expires_at);
                acked = true;
            }
        }
        acked
    }

    /// One confirm, repeated until its answer is one; with a retry key perhaps, and perhaps at two nodes at once.
    async fn confirm(
        self: &Arc<Self>,
        actor: Actor,
        device: usize,
        secret: &str,
        first: usize,
    ) -> Option<ConfirmOutcome> {
        let asked = self.truth.history.moment();
        let number = self.wire.dice(u64::MAX).to_be_bytes();
        let key = std::array::from_fn(|at| number[at % 8]);
        let retry = number[0].is_multiple_of(2).then_some(RetryKey { account: actor.account, key, request: [0; 32] });
        for again in 0..AGAIN {
            let moment = self.truth.history.moment();
            let node = if again == 0 { first } else { self.any_node() };
            let mut tries = JoinSet::new();
            for node in [Some(node), (self.wire.dice(5) == 0).then(|| self.any_node())].into_iter().flatten() {
                let ask = Ask::Confirm { actor, device: format!("d{device}"), secret: secret.to_owned(), retry };
                let simulation = Arc::clone(self);
                tries.spawn_local(async move { simulation.ask(node, ask).await });
            }
            let mut last = None;
            while let Some(said) = tries.join_next().await {
                let Ok(Some(Said::Confirmed(outcome, at))) = said else { continue };
                let owner = actor.customer().expect("an owner");
                let shown = Shown { owner, device: self.devices[device], digest: self.digest(device, secret), at };
                // With the key an answer may be the one to an earlier try.
                let since = if retry.is_some() { asked } else { moment };
                self.truth.history.heard(since, &shown, &outcome, again > 0);
                if !matches!(outcome, ConfirmOutcome::Unavailable | ConfirmOutcome::OutcomeUnknown) {
                    last = Some(outcome);
                }
            }
            if last.is_some() {
                return last;
            }
            self.pause(200).await;
        }
        None
    }
}

/// Announces again and again, with a new secret each time.
async fn announce(simulation: Arc<Simulation>, device: usize) {
    for round in 0.. {
        simulation.pause(700).await;
        if simulation.over() {
            return;
        }
        let secret = format!("s{device}-{round}");
        // Some are over before anybody asks.
        let lifetime = 300 + simulation.wire.dice(6_000);
        if simulation.submit(device, secret.clone(), lifetime, simulation.any_node()).await {
            simulation.known.lock().unwrap()[device].push(secret);
        }
    }
}

/// Confirms with what it has seen on a device, mostly the latest, and mostly gives the device back.
async fn own(simulation: Arc<Simulation>, actor: Actor) {
    while !simulation.over() {
        simulation.pause(300).await;
        let device = simulation.wire.dice(WANTED as u64) as usize;
        let seen = simulation.known.lock().unwrap()[device].clone();
        let old = simulation.wire.dice(10) == 0;
        let secret = if old { seen.get(simulation.wire.dice(1 + seen.len() as u64) as usize) } else { seen.last() };
        let Some(secret) = secret else { continue };
        let outcome = simulation.confirm(actor, device, secret, simulation.any_node()).await;
        let mine = matches!(outcome, Some(ConfirmOutcome::Claimed { .. } | ConfirmOutcome::AlreadyYours { .. }));
        if mine && simulation.wire.dice(4) > 0 {
            simulation.pause(400).await;
            give_back(&simulation, actor, device).await;
        }
    }
}

async fn give_back(simulation: &Simulation, actor: Actor, device: usize) {
    for _ in 0..AGAIN {
        let ask = Ask::Unclaim { actor, device: format!("d{device}") };
        match simulation.ask(simulation.any_node(), ask).await {
            Some(Said::Unclaimed(UnclaimOutcome::Unavailable | UnclaimOutcome::OutcomeUnknown)) | None => {}
            Some(_) => return,
        }
    }
}

/// Guesses at several nodes at once.
async fn guess(simulation: Arc<Simulation>) {
    let actor = simulation.actor(OWNERS);
    while !simulation.over() {
        simulation.pause(600).await;
        let device = simulation.wire.dice(WANTED as u64) as usize;
        let mut guesses = JoinSet::new();
        for node in 0..NODES {
            let simulation = Arc::clone(&simulation);
            guesses.spawn_local(async move { simulation.confirm(actor, device, "guessed", node).await });
        }
        guesses.join_all().await;
    }
}

/// A device announces itself at this node, and somebody new claims it there: everything works again by itself.
async fn healed(simulation: &Arc<Simulation>, node: usize) {
    let (device, actor) = (WANTED + node, simulation.actor(OWNERS + 1 + node as u64));
    for round in 0..AGAIN {
        let secret = format!("healed {round}");
        if !simulation.submit(device, secret.clone(), 60_000, node).await {
            continue;
        }
        let outcome = simulation.confirm(actor, device, &secret, node).await;
        if matches!(outcome, Some(ConfirmOutcome::Claimed { .. } | ConfirmOutcome::AlreadyYours { .. })) {
            simulation.healed(node);
            return;
        }
    }
}
