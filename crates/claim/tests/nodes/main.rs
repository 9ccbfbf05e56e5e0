//! Several nodes under deterministic simulation: the real `Intake` and `Confirmation` on three of them, a registry and a
//! shared cache on hosts of their own, and a network between that delays, loses and cuts. One seed is one run, the same each
//! time; the rules of `history.rs` are held at every step of it.
//!
//! Here, beside the domain, because it is the domain's logic that runs: no adapter of the product takes part but in the way
//! `ports.rs` settles what has no answer. What the adapters themselves do under faults is tested end to end
//! (`tests/store_faults*.rs`).
//!
//! `CLAIM_NODES_SEED=17 cargo test -p claim --test nodes -- --nocapture` runs one seed again and tells what happened;
//! `CLAIM_NODES_SEEDS=20000` runs more of them than usual.
#![allow(clippy::unwrap_used, reason = "a test may end by it")]

mod crowd;
mod faults;
mod history;
mod node;
mod ports;
mod stores;
mod wire;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use claim::limits::AttemptBudgets;
use claim::ports::ALLOWED_SKEW;
use claim::{DeviceId, Keyring, TenantId};
use testkit::FakeRegistry;

use crate::faults::Plan;
use crate::history::{History, Seen};
use crate::stores::{Memory, MemoryJob, Omitted, Truth, TruthJob};
use crate::wire::Wire;

pub(crate) const NODES: usize = 3;
/// A step of the simulation.
const TICK: Duration = Duration::from_millis(25);
/// Steps with faults, and at most so many more in which everything heals.
const FAULTY: usize = 240;
const HEALING: usize = 1_000;

/// Seeds of an ordinary run.
const SEEDS: u64 = 2_000;

/// What everybody in one run shares.
pub(crate) struct Simulation {
    wire: Arc<Wire>,
    truth: Arc<Truth>,
    memory: Arc<Memory>,
    keyring: Arc<Keyring>,
    tenant: TenantId,
    devices: Vec<DeviceId>,
    budgets: AttemptBudgets,
    /// Secrets that owners know of, by device.
    known: Mutex<Vec<Vec<String>>>,
    over: AtomicBool,
    healed: AtomicUsize,
}

impl Simulation {
    fn new(plan: &Plan, keyring: Arc<Keyring>, omitted: Omitted) -> Arc<Self> {
        let budgets = AttemptBudgets {
            per_account_and_device: 5,
            per_account: 12,
            per_device: 16,
            // Longer than a run with any clock: what is charged stays charged.
            account_window: Duration::from_secs(3_600),
            device_window: Duration::from_secs(3_600),
        };
        let history = Arc::new(History::new(budgets.clone(), plan.clocks_agree()));
        let registry = FakeRegistry::new(Arc::clone(&keyring));
        registry.allow_skew(ALLOWED_SKEW);
        let tenant = registry.add_tenant();
        let devices = (0..crowd::WANTED + NODES)
            .map(|number| {
                let name = format!("d{number}");
                let device = registry.add_device_with_token(tenant, &name, &format!("t{number}"));
                history.name(*device.as_bytes(), &name);
                history.name(keyring.attempt_key(tenant, &name), &name);
                device
            })
            .collect();
        let truth =
            Arc::new(Truth { registry, charged: Mutex::default(), history, omitted, wrote: AtomicBool::new(false) });
        Arc::new(Self {
            wire: Arc::new(Wire::new(plan.seed)),
            memory: Arc::new(Memory::new(Arc::clone(&truth))),
            truth,
            keyring,
            tenant,
            devices,
            budgets,
            known: Mutex::new(vec![Vec::new(); crowd::WANTED]),
            over: AtomicBool::new(false),
            healed: AtomicUsize::new(0),
        })
    }

    fn over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn healed(&self, node: usize) {
        self.truth.history.tell(format!("node{node} is well"));
        self.healed.fetch_add(1, Ordering::Relaxed);
    }
}

/// What one run showed: what happened, and the rule that was broken.
struct Run {
    lines: Vec<String>,
    broken: Option<String>,
    seen: Seen,
}

fn run(seed: u64, keyring: &Arc<Keyring>, omitted: Omitted) -> Run {
    let plan = Plan::of(seed);
    let simulation = Simulation::new(&plan, Arc::clone(keyring), omitted);
    let history = Arc::clone(&simulation.truth.history);
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .tick_duration(TICK)
        .simulation_duration(Duration::from_secs(3_600))
        .min_message_latency(Duration::ZERO)
        .max_message_latency(Duration::from_millis(plan.latency_ms))
        .enable_random_order()
        .build();
    let (wire, truth) = (Arc::clone(&simulation.wire), Arc::clone(&simulation.truth));
    sim.host("registry", move || {
        let (truth, dice) = (Arc::clone(&truth), Arc::clone(&wire));
        Arc::clone(&wire).serve(move |job: TruthJob| {
            let answer = job(&truth);
            // The commit is done, and nobody hears of it.
            let unheard = truth.wrote.swap(false, Ordering::Relaxed) && dice.dice(8) == 0;
            std::future::ready((!unheard).then_some(answer))
        })
    });
    let (wire, memory) = (Arc::clone(&simulation.wire), Arc::clone(&simulation.memory));
    sim.host("cache", move || {
        let memory = Arc::clone(&memory);
        Arc::clone(&wire).serve(move |(epoch, job): (u64, MemoryJob)| {
            let here = memory.epoch();
            std::future::ready(Some(if epoch == here { Ok(job(&memory)) } else { Err(here) }))
        })
    });
    for (node, skew) in plan.skews.into_iter().enumerate() {
        let simulation = Arc::clone(&simulation);
        sim.host(format!("node{node}"), move || node::run(Arc::clone(&simulation), skew));
    }
    sim.client("crowd", crowd::run(Arc::clone(&simulation)));
    let fastest = plan.skews.into_iter().max().unwrap_or_default();
    let mut faults = plan.faults();
    for step in 0..FAULTY + HEALING {
        if step < FAULTY {
            faults.strike(step, &mut sim, &simulation);
        } else if step == FAULTY {
            faults.heal(&mut sim, &simulation);
            simulation.over.store(true, Ordering::Relaxed);
        }
        let done = sim.step().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let elapsed = i64::try_from(sim.elapsed().as_millis()).expect("a short run");
        history.look(&simulation.truth, &simulation.memory, &simulation.devices, testkit::at(elapsed + fastest));
        if done || history.broken() {
            break;
        }
    }
    let (lines, mut broken) = history.end();
    if broken.is_none() && simulation.healed.load(Ordering::Relaxed) != NODES {
        broken = Some("not every node works again after the faults".to_owned());
    }
    Run { lines, broken, seen: history.seen() }
}

/// Runs seeds on two threads until one breaks a rule; the seeds run, what they showed, and the broken one.
fn run_all(seeds: u64, omitted: Omitted) -> (u64, Seen, Option<(u64, Run)>) {
    let keyring = testkit::keyring();
    let (next, ran) = (AtomicU64::new(0), AtomicU64::new(0));
    let (all, broken) = (Mutex::new(Seen::default()), Mutex::new(None));
    let work = || {
        while broken.lock().unwrap().is_none() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            let run = run(seed, &keyring, omitted);
            ran.fetch_add(1, Ordering::Relaxed);
            all.lock().unwrap().add(run.seen);
            if run.broken.is_some() {
                broken.lock().unwrap().get_or_insert((seed, run));
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    (ran.into_inner(), all.into_inner().unwrap(), broken.into_inner().unwrap())
}

#[test]
fn every_rule_holds_at_every_step_of_every_seed() {
    if let Ok(seed) = std::env::var("CLAIM_NODES_SEED") {
        let seed = seed.parse().expect("CLAIM_NODES_SEED is a number");
        let run = run(seed, &testkit::keyring(), Omitted::Nothing);
        eprintln!("{}\n{:?}\nseed {seed}: {:?}", Plan::of(seed), run.seen, run.broken);
        run.lines.iter().enumerate().for_each(|(number, line)| eprintln!("{:4} {line}", number + 1));
        assert_eq!(run.broken, None);
        return;
    }
    let more = std::env::var("CLAIM_NODES_SEEDS").map(|seeds| seeds.parse().expect("CLAIM_NODES_SEEDS is a number"));
    let seeds = more.map_or(SEEDS, |more: u64| more.max(SEEDS));
    let (ran, seen, broken) = run_all(seeds, Omitted::Nothing);
    eprintln!("seeds 0 to {}, {ran} run: {seen:?}", seeds - 1);
    if let Some((seed, run)) = broken {
        let last = run.lines.len().saturating_sub(40);
        panic!(
            "{}\n{}\nseed {seed}: {}\nrun it alone: CLAIM_NODES_SEED={seed} cargo test -p claim --test nodes -- --nocapture",
            Plan::of(seed),
            run.lines[last..].join("\n"),
            run.broken.unwrap_or_default(),
        );
    }
    assert_eq!(ran, seeds);
    // Else the rules held because nothing happened.
    for (what, count, floor) in [
        ("acks", seen.acks, 10_000),
        ("claims", seen.claims, 5_000),
        ("releases", seen.releases, 1_000),
        ("wrong guesses", seen.wrong_guesses, 10_000),
        ("unknown outcomes", seen.unknown, 50),
        ("claims settled by a retry", seen.settled, 300),
        ("losses of the cache", seen.losses, 1_500),
    ] {
        assert!(count >= floor, "{count} {what} in all, fewer than {floor}");
    }
}

#[test]
fn a_seed_runs_the_same_way_twice() {
    let keyring = testkit::keyring();
    for seed in 0..5 {
        let [first, second] = [0, 1].map(|_| run(seed, &keyring, Omitted::Nothing));
        assert_eq!(first.lines, second.lines, "seed {seed}");
    }
}

#[test]
fn a_store_without_fence_condition_or_reservation_is_found_out() {
    for (omitted, rule) in [(Omitted::Fence, "I6"), (Omitted::Condition, "I1"), (Omitted::Reserve, "I8")] {
        let (ran, _, broken) = run_all(SEEDS, omitted);
        let (seed, run) = broken.unwrap_or_else(|| panic!("{omitted:?} is left out, and {ran} seeds do not show it"));
        let broken = run.broken.unwrap_or_default();
        eprintln!("without {omitted:?}: seed {seed} of {ran}: {broken}");
        assert!(broken.starts_with(rule), "without {omitted:?}: {broken}");
    }
}
