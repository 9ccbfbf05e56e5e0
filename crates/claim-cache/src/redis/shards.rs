//! Which server has which key: one for all, or the masters of a cluster, each on a [`Link`] of its own.
//!
//! Whether there is a cluster is seen at the server that is asked first. A cluster's plan is read anew when a server says
//! that a slot has moved or does not answer; meanwhile commands follow what they are told (MOVED, ASK, TRYAGAIN), within
//! `timeouts.store`.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use claim::ports::Unavailable;
use futures_util::future::join_all;
use redis::{Cmd, Value};

use super::layout::SLOTS;
use super::link::{Kind, Link, LinkOptions};
use super::server::{self, Access, ServerFault};
use crate::clock::SystemClock;

/// How often one command may be sent elsewhere.
const REDIRECTIONS: usize = 8;
/// Before a command is repeated whose keys are on their way from one server to another.
const TRY_AGAIN: Duration = Duration::from_millis(10);
/// Between two readings of the plan.
const PLAN_PAUSE: Duration = Duration::from_millis(200);

/// A command and where it belongs.
pub(super) struct Call {
    pub(super) slot: u16,
    pub(super) command: Cmd,
}

/// How links are made.
pub(super) struct ShardOptions {
    /// Who may be asked first; in a cluster, any of its servers.
    pub(super) seeds: Vec<Access>,
    /// A key of each kind, for asking what the user may do.
    pub(super) samples: [Vec<u8>; 2],
    pub(super) clock: SystemClock,
    pub(super) patience: Duration,
    pub(super) queue: usize,
    pub(super) wait_replicas: u32,
}

/// See the module's head.
pub(super) struct Shards {
    options: ShardOptions,
    /// Given to each new connection of any link.
    numbers: Arc<AtomicU64>,
    /// The one server, where there is no cluster.
    single: Option<Arc<Link>>,
    plan: RwLock<Arc<Plan>>,
    /// All that were made, by address; those that are in no plan any more are dropped with the next one.
    links: Mutex<HashMap<String, Arc<Link>>>,
    planned: tokio::sync::Mutex<Instant>,
}

/// Which link has which slot.
enum Plan {
    Single(Arc<Link>),
    Cluster { masters: Vec<Arc<Link>>, of_slot: Vec<Option<u16>> },
}

/// Where a command is sent, other than to its slot's master.
#[derive(Clone)]
enum Way {
    Planned,
    Told(Arc<Link>),
    /// With ASKING before it.
    Asking(Arc<Link>),
}

impl Shards {
    /// Connects to all servers there are, and checks each.
    pub(super) async fn open(options: ShardOptions) -> Result<Arc<Self>, ServerFault> {
        let numbers = Arc::new(AtomicU64::new(1));
        let mut fault = ServerFault::Silent;
        for seed in &options.seeds {
            let (first, clustered) = match Link::open(link_options(&options, seed.clone()), Arc::clone(&numbers)).await
            {
                Ok(opened) => opened,
                Err(said) => {
                    fault = said;
                    continue;
                }
            };
            let first = Arc::new(first);
            if !clustered {
                if options.seeds.len() > 1 {
                    return Err(ServerFault::NoCluster);
                }
                let single = Some(Arc::clone(&first));
                let plan = RwLock::new(Arc::new(Plan::Single(first)));
                let planned = tokio::sync::Mutex::new(Instant::now());
                return Ok(Arc::new(Self { options, numbers, single, plan, links: Mutex::default(), planned }));
            }
            let slots = server::slots(seed, options.patience).await?;
            return Self::open_cluster(options, numbers, &slots).await;
        }
        Err(fault)
    }

    async fn open_cluster(
        options: ShardOptions,
        numbers: Arc<AtomicU64>,
        slots: &server::Slots,
    ) -> Result<Arc<Self>, ServerFault> {
        let mut links = HashMap::new();
        for address in slots.masters() {
            let access = options.seeds[0].at(address)?;
            let (link, _) = Link::open(link_options(&options, access), Arc::clone(&numbers)).await?;
            links.insert(address.to_owned(), Arc::new(link));
        }
        let plan = plan_of(slots, |address| links.get(address).cloned());
        if let Plan::Cluster { of_slot, .. } = &plan
            && of_slot.iter().any(Option::is_none)
        {
            return Err(ServerFault::Uncovered);
        }
        Ok(Arc::new(Self {
            options,
            numbers,
            single: None,
            plan: RwLock::new(Arc::new(plan)),
            links: Mutex::new(links),
            planned: tokio::sync::Mutex::new(Instant::now()),
        }))
    }

    pub(super) fn clustered(&self) -> bool {
        self.single.is_none()
    }

    /// Whether every server answered when it was last asked.
    pub(super) fn up(&self) -> bool {
        match &*self.plan() {
            Plan::Single(link) => link.up(),
            Plan::Cluster { masters, of_slot } => {
                masters.iter().all(|link| link.up()) && of_slot.iter().all(Option::is_some)
            }
        }
    }

    /// The number of the connection by which a slot is reached: with another one there may be a server that knows less.
    pub(super) fn connection_of(&self, slot: u16) -> u64 {
        self.plan().link(slot).map_or(0, |link| link.connection())
    }

    /// One answer for each call, in their order. Those of one server travel in one pipeline.
    pub(super) async fn ask(self: &Arc<Self>, calls: Vec<Call>, kind: Kind) -> Vec<Result<Value, Unavailable>> {
        let plan = self.plan();
        let count = calls.len();
        let Plan::Single(link) = &*plan else {
            let answered = tokio::time::timeout(self.options.patience, self.ask_cluster(&calls, kind)).await;
            return answered.unwrap_or_else(|_| vec![Err(Unavailable); count]);
        };
        match link.ask(calls.into_iter().map(|call| call.command).collect(), kind).await {
            Ok(values) => values.into_iter().map(Ok).collect(),
            Err(Unavailable) => vec![Err(Unavailable); count],
        }
    }

    /// One call's answer; the common case without what many need.
    pub(super) async fn ask_one(self: &Arc<Self>, call: Call, kind: Kind) -> Result<Value, Unavailable> {
        if let Some(link) = &self.single {
            return link.ask(vec![call.command], kind).await?.pop().ok_or(Unavailable);
        }
        self.ask(vec![call], kind).await.pop().unwrap_or(Err(Unavailable))
    }

    /// Asks every server there is.
    pub(super) async fn ask_all(&self, command: &Cmd) -> Result<(), Unavailable> {
        let links = match &*self.plan() {
            Plan::Single(link) => vec![Arc::clone(link)],
            Plan::Cluster { masters, .. } => masters.clone(),
        };
        let said = join_all(links.iter().map(|link| link.ask(vec![command.clone()], Kind::Passing))).await;
        said.into_iter().try_for_each(|values| values.map(drop))
    }

    fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.plan.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn ask_cluster(self: &Arc<Self>, calls: &[Call], kind: Kind) -> Vec<Result<Value, Unavailable>> {
        let mut answers: Vec<Result<Value, Unavailable>> = vec![Err(Unavailable); calls.len()];
        let mut left: Vec<(usize, Way)> = (0..calls.len()).map(|place| (place, Way::Planned)).collect();
        let mut redirections = 0;
        while redirections < REDIRECTIONS {
            let (mut next, mut again, mut stale) = (Vec::new(), false, false);
            for (places, values) in self.ask_each(calls, &left, kind).await {
                let Ok(values) = values else {
                    stale = true;
                    continue;
                };
                for (place, value) in places.into_iter().zip(values) {
                    match self.redirected(&value) {
                        Some(way) => {
                            stale |= matches!(way, Way::Told(_));
                            again |= matches!(way, Way::Planned);
                            next.push((place, way));
                        }
                        None => answers[place] = Ok(value),
                    }
                }
            }
            if stale {
                let shards = Arc::clone(self);
                tokio::spawn(async move { shards.plan_again().await });
            }
            if next.is_empty() {
                break;
            }
            if again {
                // As long as the caller waits: it is over when the slot has moved.
                tokio::time::sleep(TRY_AGAIN).await;
            } else {
                redirections += 1;
            }
            // In the order of the calls: of two for one key the later is sent later.
            next.sort_unstable_by_key(|(place, _)| *place);
            left = next;
        }
        answers
    }

    /// What each server that is concerned said to its share.
    async fn ask_each(
        &self,
        calls: &[Call],
        left: &[(usize, Way)],
        kind: Kind,
    ) -> Vec<(Vec<usize>, Result<Vec<Value>, Unavailable>)> {
        struct Share {
            link: Arc<Link>,
            places: Vec<usize>,
            commands: Vec<Cmd>,
            /// Answers to ASKING, by their place among the commands.
            asking: Vec<bool>,
        }
        let plan = self.plan();
        let mut shares: Vec<Share> = Vec::new();
        let mut homeless = Vec::new();
        for (place, way) in left {
            let link = match way {
                Way::Planned => plan.link(calls[*place].slot).cloned(),
                Way::Told(link) | Way::Asking(link) => Some(Arc::clone(link)),
            };
            let Some(link) = link else {
                homeless.push(*place);
                continue;
            };
            let at = shares.iter().position(|share| Arc::ptr_eq(&share.link, &link)).unwrap_or_else(|| {
                shares.push(Share { link, places: Vec::new(), commands: Vec::new(), asking: Vec::new() });
                shares.len() - 1
            });
            let share = &mut shares[at];
            if matches!(way, Way::Asking(_)) {
                share.commands.push(redis::cmd("ASKING"));
                share.asking.push(true);
            }
            share.places.push(*place);
            share.commands.push(calls[*place].command.clone());
            share.asking.push(false);
        }
        let asked = shares.into_iter().map(|Share { link, places, commands, asking }| async move {
            let values = link.ask(commands, kind).await.map(|values| {
                values.into_iter().zip(asking).filter(|(_, asking)| !asking).map(|(value, _)| value).collect()
            });
            (places, values)
        });
        let mut said = join_all(asked).await;
        if !homeless.is_empty() {
            said.push((homeless, Err(Unavailable)));
        }
        said
    }

    /// Where to ask instead, if the server says so.
    fn redirected(&self, value: &Value) -> Option<Way> {
        let Value::ServerError(error) = value else { return None };
        let target =
            || error.details().and_then(|text| text.split(' ').nth(1)).and_then(|address| self.link_to(address));
        match error.code() {
            "MOVED" => target().map(Way::Told),
            "ASK" => target().map(Way::Asking),
            "TRYAGAIN" => Some(Way::Planned),
            _ => None,
        }
    }

    /// The link to an address of the cluster; connects with the first question.
    fn link_to(&self, address: &str) -> Option<Arc<Link>> {
        let access = self.options.seeds[0].at(address).ok()?;
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let link = links.entry(address.to_owned()).or_insert_with(|| {
            Arc::new(Link::to_be_connected(link_options(&self.options, access), Arc::clone(&self.numbers)))
        });
        Some(Arc::clone(link))
    }

    /// Reads who has which slot now, from whoever answers.
    async fn plan_again(&self) {
        let Ok(mut planned) = self.planned.try_lock() else { return };
        if planned.elapsed() < PLAN_PAUSE {
            return;
        }
        *planned = Instant::now();
        let known: Vec<String> = self.links.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        let known = known.iter().filter_map(|address| self.options.seeds[0].at(address).ok());
        for access in known.chain(self.options.seeds.iter().cloned()) {
            let Ok(slots) = server::slots(&access, self.options.patience).await else { continue };
            let plan = plan_of(&slots, |address| self.link_to(address));
            let masters: Vec<&str> = slots.masters().collect();
            let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
            links.retain(|address, _| masters.contains(&address.as_str()));
            *self.plan.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(plan);
            *planned = Instant::now();
            return;
        }
    }
}

impl Plan {
    fn link(&self, slot: u16) -> Option<&Arc<Link>> {
        match self {
            Self::Single(link) => Some(link),
            Self::Cluster { masters, of_slot } => {
                let master = of_slot.get(usize::from(slot)).copied().flatten()?;
                masters.get(usize::from(master))
            }
        }
    }
}

fn plan_of(slots: &server::Slots, link_to: impl Fn(&str) -> Option<Arc<Link>>) -> Plan {
    let (mut masters, mut of_slot) = (Vec::new(), vec![None; usize::from(SLOTS)]);
    for address in slots.masters() {
        let Some(link) = link_to(address) else { continue };
        let number = u16::try_from(masters.len()).ok();
        masters.push(link);
        for range in slots.ranges_of(address) {
            of_slot[range].fill(number);
        }
    }
    Plan::Cluster { masters, of_slot }
}

fn link_options(options: &ShardOptions, access: Access) -> LinkOptions {
    LinkOptions {
        access,
        samples: options.samples.clone(),
        clock: options.clock.clone(),
        patience: options.patience,
        queue: options.queue,
        wait_replicas: options.wait_replicas,
    }
}
