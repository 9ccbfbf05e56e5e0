//! What goes wrong in a run, and when: drawn from the seed alone, so that it does not depend on what happens.

use std::fmt;

use claim::ports::ALLOWED_SKEW;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use turmoil::Sim;

use crate::{FAULTY, NODES, Simulation};

const ALLOWED_SKEW_MS: i64 = ALLOWED_SKEW.as_millis() as i64;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// How far each node's clock is ahead, in milliseconds.
    pub(crate) skews: [i64; NODES],
    pub(crate) latency_ms: u64,
    /// From one step to another.
    strokes: Vec<(usize, usize, Stroke)>,
}

#[derive(Clone, Copy, Debug)]
enum Stroke {
    /// No word between a node and a store.
    Cut {
        node: usize,
        store: &'static str,
    },
    /// What a node asks arrives, and it hears nothing of it.
    Deaf {
        node: usize,
        store: &'static str,
    },
    Crash(usize),
    RegistryDown,
    /// It comes back empty.
    CacheDown,
    FailOver,
    Flush,
    /// Of every hundred datagrams.
    Loss(u32),
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed ^ 0x5eed);
        let spread = match seed % 5 {
            0 => 0,
            1..=3 => ALLOWED_SKEW_MS / 2,
            _ => 6 * ALLOWED_SKEW_MS,
        };
        let skews = [0; NODES].map(|_| random.random_range(-spread..=spread));
        let latency_ms = random.random_range(1..=80);
        let strokes = (0..random.random_range(4..=12)).map(|_| Self::stroke(&mut random)).collect();
        Self { seed, skews, latency_ms, strokes }
    }

    fn stroke(random: &mut StdRng) -> (usize, usize, Stroke) {
        let from = random.random_range(5..FAULTY - 5);
        let until = from + random.random_range(2..60);
        let node = random.random_range(0..NODES);
        let store = if random.random_bool(0.5) { "registry" } else { "cache" };
        let stroke = match random.random_range(0..12) {
            0 => Stroke::Cut { node, store },
            1..=4 => Stroke::Deaf { node, store },
            5 | 6 => Stroke::Crash(node),
            7 => Stroke::RegistryDown,
            8 => Stroke::CacheDown,
            9 => Stroke::FailOver,
            10 => Stroke::Flush,
            _ => Stroke::Loss(random.random_range(5..40)),
        };
        (from, until, stroke)
    }

    /// Whether the evidence of the past is void by the fence alone.
    pub(crate) fn clocks_agree(&self) -> bool {
        let (slowest, fastest) = (self.skews.iter().min(), self.skews.iter().max());
        fastest.zip(slowest).is_none_or(|(fastest, slowest)| fastest - slowest <= ALLOWED_SKEW_MS)
    }

    pub(crate) fn faults(&self) -> Faults {
        Faults { strokes: self.strokes.clone(), random: StdRng::seed_from_u64(self.seed ^ 0xface) }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, clocks ahead by {:?} ms, latency to {} ms", self.seed, self.skews, self.latency_ms)?;
        self.strokes.iter().try_for_each(|(from, until, stroke)| writeln!(f, "  steps {from} to {until}: {stroke:?}"))
    }
}

pub(crate) struct Faults {
    strokes: Vec<(usize, usize, Stroke)>,
    random: StdRng,
}

impl Faults {
    /// What begins and ends before this step.
    pub(crate) fn strike(&mut self, step: usize, sim: &mut Sim<'_>, world: &Simulation) {
        for (from, until, stroke) in self.strokes.clone() {
            if from == step {
                world.truth.history.tell(format!("from here {stroke:?}"));
                begin(stroke, sim, world);
            }
            if until == step {
                world.truth.history.tell(format!("no more {stroke:?}"));
                end(stroke, sim, world);
            }
        }
        // Replication runs behind.
        if self.random.random_bool(0.2) {
            world.memory.replicate();
        }
    }

    /// Ends everything.
    pub(crate) fn heal(&mut self, sim: &mut Sim<'_>, world: &Simulation) {
        world.truth.history.tell("all is healed".to_owned());
        for (from, until, stroke) in std::mem::take(&mut self.strokes) {
            if from < FAULTY && until >= FAULTY {
                end(stroke, sim, world);
            }
        }
    }
}

fn begin(stroke: Stroke, sim: &mut Sim<'_>, world: &Simulation) {
    match stroke {
        Stroke::Cut { node, store } => sim.partition(named(node), store),
        Stroke::Deaf { node, store } => sim.partition_oneway(store, named(node)),
        Stroke::Crash(node) => sim.crash(named(node)),
        Stroke::RegistryDown => sim.crash("registry"),
        Stroke::CacheDown => {
            sim.crash("cache");
            world.memory.restart();
        }
        Stroke::FailOver => world.memory.fail_over(),
        Stroke::Flush => world.memory.flush(),
        Stroke::Loss(percent) => world.wire.set_loss(f64::from(percent) / 100.0),
    }
}

fn end(stroke: Stroke, sim: &mut Sim<'_>, world: &Simulation) {
    let mut up = |host: String| {
        if !sim.is_host_running(host.as_str()) {
            sim.bounce(host);
        }
    };
    match stroke {
        Stroke::Cut { node, store } => sim.repair(named(node), store),
        Stroke::Deaf { node, store } => sim.repair_oneway(store, named(node)),
        Stroke::Crash(node) => up(named(node)),
        Stroke::RegistryDown => up("registry".to_owned()),
        Stroke::CacheDown => up("cache".to_owned()),
        Stroke::FailOver | Stroke::Flush => {}
        Stroke::Loss(_) => world.wire.set_loss(0.0),
    }
}

fn named(node: usize) -> String {
    format!("node{node}")
}
