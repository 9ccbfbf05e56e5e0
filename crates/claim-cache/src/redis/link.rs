//! The one connection to a server, and the micro-batches on it: what is asked while a pipeline is out is the next
//! pipeline.
//!
//! A second one is out only when enough is waiting, on the same connection: the server answers in order, so what one caller
//! sees after another's answer is never older. Whoever asks waits for
//! `timeouts.store` at most; what did not come back by then is not known to have happened. A connection that failed is made
//! anew when something is asked, at most ten times a second, and each new one is checked like the first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use claim::ports::Unavailable;
use futures_util::stream::{FuturesUnordered, StreamExt};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisError, Value};
use tokio::sync::{mpsc, oneshot};

use super::scripts;
use super::server::{self, Access, ServerFault};
use crate::clock::SystemClock;

/// Commands in a pipeline, but for a larger batch of one caller.
const PIPELINE: usize = 100;
/// Pipelines that are out at once: while the server works at one, this node prepares another.
const PIPELINES: usize = 2;
/// Commands that must be waiting for a second pipeline; fewer go when the first is back.
const SECOND: usize = PIPELINE / 2;
/// Between two tries to connect.
const PAUSE: Duration = Duration::from_millis(100);

/// Where the store is and how patiently it is asked.
pub(super) struct LinkOptions {
    pub(super) access: Access,
    /// A key of each kind, for asking what the user may do.
    pub(super) samples: [Vec<u8>; 2],
    /// What dates claims here; a server must be near it.
    pub(super) clock: SystemClock,
    /// `timeouts.store`.
    pub(super) patience: Duration,
    /// Requests that may wait; beyond them the store counts as unavailable.
    pub(super) queue: usize,
    /// Replicas that must have a change before it counts.
    pub(super) wait_replicas: u32,
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Its loss in a failover costs nothing.
    Passing,
    /// Replicas must have it before it is answered, where that is configured.
    Kept,
}

/// See the module's head. The connection ends with the last handle.
pub(super) struct Link {
    jobs: mpsc::Sender<Job>,
    patience: Duration,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    up: AtomicBool,
    /// The number of the connection, among those to all servers; 0: none yet.
    connection: AtomicU64,
}

struct Job {
    commands: Vec<Cmd>,
    /// How many there were, when they are on their way.
    count: usize,
    kind: Kind,
    reply: oneshot::Sender<Result<Vec<Value>, Unavailable>>,
}

impl Link {
    /// Connects and checks the server. Returns whether it belongs to a cluster, too. `numbers` is where connections get
    /// theirs.
    pub(super) async fn open(options: LinkOptions, numbers: Arc<AtomicU64>) -> Result<(Self, bool), ServerFault> {
        let (connection, clustered) = connect(&options).await?;
        Ok((Self::start(options, numbers, Some(connection)), clustered))
    }

    /// Connects when something is asked.
    pub(super) fn to_be_connected(options: LinkOptions, numbers: Arc<AtomicU64>) -> Self {
        Self::start(options, numbers, None)
    }

    fn start(options: LinkOptions, numbers: Arc<AtomicU64>, connection: Option<MultiplexedConnection>) -> Self {
        let (jobs, waiting) = mpsc::channel(options.queue.max(1));
        let patience = options.patience;
        let state = Arc::new(State { up: AtomicBool::new(true), connection: AtomicU64::new(0) });
        let mut line = Line { options, state: Arc::clone(&state), connection: None, tried: None, numbers };
        if let Some(connection) = connection {
            line.connected(connection);
        }
        tokio::spawn(line.run(waiting));
        Self { jobs, patience, state }
    }

    /// One value for each command, in their order. All of them travel in one pipeline.
    pub(super) async fn ask(&self, commands: Vec<Cmd>, kind: Kind) -> Result<Vec<Value>, Unavailable> {
        let (reply, answer) = oneshot::channel();
        self.jobs.try_send(Job { commands, count: 0, kind, reply }).map_err(|_| Unavailable)?;
        match tokio::time::timeout(self.patience, answer).await {
            Ok(Ok(values)) => values,
            Ok(Err(_)) | Err(_) => Err(Unavailable),
        }
    }

    /// Whether the last pipeline was answered.
    pub(super) fn up(&self) -> bool {
        self.state.up.load(Ordering::Relaxed)
    }

    /// Changes with every new connection: behind it may be a server that knows less.
    pub(super) fn connection(&self) -> u64 {
        self.state.connection.load(Ordering::Acquire)
    }
}

/// The task's side.
struct Line {
    options: LinkOptions,
    state: Arc<State>,
    connection: Option<MultiplexedConnection>,
    tried: Option<Instant>,
    numbers: Arc<AtomicU64>,
}

impl Line {
    async fn run(mut self, mut waiting: mpsc::Receiver<Job>) {
        let mut out = FuturesUnordered::new();
        let mut next = Batch::default();
        loop {
            while next.count < PIPELINE
                && let Ok(job) = waiting.try_recv()
            {
                next.add(job);
            }
            let full_enough = out.is_empty() || (out.len() < PIPELINES && next.count >= SECOND);
            if full_enough && !next.jobs.is_empty() {
                let mut jobs = std::mem::take(&mut next).jobs;
                // Whoever has given up was told that it is not known to have happened: it had better not.
                jobs.retain(|job| !job.reply.is_closed());
                if jobs.is_empty() {
                    continue;
                }
                match self.connection().await {
                    Ok(connection) => {
                        let LinkOptions { patience, wait_replicas, .. } = self.options;
                        out.push(exchange(connection, jobs, Arc::clone(&self.state), (patience, wait_replicas)));
                    }
                    Err(fault) => self.down(jobs, fault.as_ref()),
                }
                continue;
            }
            tokio::select! {
                Some(ended) = out.next() => match ended {
                    Ok(()) => {}
                    Err((jobs, fault)) => {
                        // What else is out on this connection fails with it: nobody will answer.
                        out.clear();
                        self.connection = None;
                        self.down(jobs, Some(&fault));
                    }
                },
                job = waiting.recv(), if next.count < PIPELINE => match job {
                    Some(job) => next.add(job),
                    None => return,
                },
            }
        }
    }

    /// The one there is, or a new one. `None` as an error: it was not even tried.
    async fn connection(&mut self) -> Result<MultiplexedConnection, Option<ServerFault>> {
        if let Some(connection) = &self.connection {
            return Ok(connection.clone());
        }
        if self.tried.is_some_and(|tried| tried.elapsed() < PAUSE) {
            return Err(None);
        }
        self.tried = Some(Instant::now());
        let connected = tokio::time::timeout(self.options.patience, connect(&self.options)).await;
        let (connection, _) = connected.map_err(|_| ServerFault::Silent)??;
        self.connected(connection.clone());
        tracing::info!(server = %self.options.access, "connected to the claim store");
        Ok(connection)
    }

    fn connected(&mut self, connection: MultiplexedConnection) {
        self.connection = Some(connection);
        self.state.connection.store(self.numbers.fetch_add(1, Ordering::Relaxed), Ordering::Release);
    }

    fn down(&self, jobs: Vec<Job>, fault: Option<&ServerFault>) {
        if self.state.up.swap(false, Ordering::Relaxed)
            && let Some(fault) = fault
        {
            tracing::error!(server = %self.options.access, %fault, "the claim store does not answer");
        }
        for job in jobs {
            // Nobody may be waiting any more.
            let _ = job.reply.send(Err(Unavailable));
        }
    }
}

/// What goes out together.
#[derive(Default)]
struct Batch {
    jobs: Vec<Job>,
    /// Commands of all of them.
    count: usize,
}

impl Batch {
    fn add(&mut self, job: Job) {
        self.count += job.commands.len();
        self.jobs.push(job);
    }
}

/// One pipeline there and back; its jobs are answered, or returned with what is wrong.
async fn exchange(
    mut connection: MultiplexedConnection,
    mut jobs: Vec<Job>,
    state: Arc<State>,
    (patience, wait_replicas): (Duration, u32),
) -> Result<(), (Vec<Job>, ServerFault)> {
    let wait = wait_for(&jobs, patience, wait_replicas);
    match tokio::time::timeout(patience, there_and_back(&mut connection, &mut jobs, wait)).await {
        Ok(Ok(values)) => {
            // Before anyone can have heard of it.
            state.up.store(true, Ordering::Relaxed);
            hand_out(jobs, values, wait_replicas);
            Ok(())
        }
        Ok(Err(fault)) => Err((jobs, fault)),
        Err(_) => Err((jobs, ServerFault::Silent)),
    }
}

/// The answers to all commands, and behind them what WAIT said.
async fn there_and_back(
    connection: &mut MultiplexedConnection,
    jobs: &mut [Job],
    wait: Option<Cmd>,
) -> Result<Vec<Value>, ServerFault> {
    let mut pipeline = Pipeline::with_capacity(PIPELINE + 1);
    for job in &mut *jobs {
        job.count = job.commands.len();
        for command in job.commands.drain(..) {
            pipeline.add_command(command);
        }
    }
    if let Some(wait) = &wait {
        pipeline.add_command(wait.clone());
    }
    let count = pipeline.len();
    let mut values = connection.send_packed_commands(&pipeline, 0, count).await?;
    if values.len() != count {
        return Err(ServerFault::Silent);
    }
    if values.iter().any(|value| code(value) == Some("NOSCRIPT")) {
        load_and_repeat(connection, &pipeline, &mut values).await?;
        if let (Some(wait), Some(said)) = (&wait, values.last_mut()) {
            *said = connection.send_packed_command(wait).await?;
        }
    }
    if let Some(code) = values.iter().filter_map(code).find(|code| server::is_elsewhere(code)) {
        // A replica, or one that is still loading: the next connection may find the one to ask.
        return Err(ServerFault::NotServing(code.to_owned()));
    }
    if wait.is_none() {
        values.push(Value::Int(0));
    }
    Ok(values)
}

/// WAIT waits for all that this connection wrote before.
fn wait_for(jobs: &[Job], patience: Duration, replicas: u32) -> Option<Cmd> {
    if replicas == 0 || jobs.iter().all(|job| job.kind == Kind::Passing) {
        return None;
    }
    let millis = u64::try_from((patience / 2).as_millis()).unwrap_or(u64::MAX);
    let mut wait = redis::cmd("WAIT");
    // 0 would be for ever.
    wait.arg(replicas).arg(millis.max(1));
    Some(wait)
}

/// Commands whose script was not there have done nothing; they are sent again when it is.
async fn load_and_repeat(
    connection: &mut MultiplexedConnection,
    pipeline: &Pipeline,
    values: &mut [Value],
) -> Result<(), ServerFault> {
    let load = scripts::load();
    connection.send_packed_commands(&load, 0, load.len()).await?;
    for (command, value) in pipeline.cmd_iter().zip(values) {
        if code(value) == Some("NOSCRIPT") {
            *value = connection.send_packed_command(command).await?;
        }
    }
    Ok(())
}

/// The last value is what WAIT said.
fn hand_out(jobs: Vec<Job>, mut values: Vec<Value>, wait_replicas: u32) {
    let reached = match values.pop() {
        Some(Value::Int(reached)) => reached >= i64::from(wait_replicas),
        _ => wait_replicas == 0,
    };
    let mut values = values.into_iter();
    for job in jobs {
        let own: Vec<Value> = values.by_ref().take(job.count).collect();
        let answer = if job.kind == Kind::Kept && !reached { Err(Unavailable) } else { Ok(own) };
        let _ = job.reply.send(answer);
    }
}

/// The code of an error of the server.
pub(super) fn code(value: &Value) -> Option<&str> {
    match value {
        Value::ServerError(error) => Some(error.code()),
        _ => None,
    }
}

/// A checked connection, and whether its server belongs to a cluster.
async fn connect(options: &LinkOptions) -> Result<(MultiplexedConnection, bool), ServerFault> {
    let mut connection = options.access.connect(options.patience).await?;
    let clustered = server::check(&mut connection, options.clock.now()).await?;
    let mut asked = scripts::load();
    let mut allowed = scripts::ALLOWED.call(&[]);
    for sample in &options.samples {
        allowed.arg(sample);
    }
    asked.add_command(allowed);
    let mut values = connection.send_packed_commands(&asked, 0, asked.len()).await?;
    if let Some(Value::ServerError(error)) = values.iter().find(|value| code(value).is_some()) {
        return Err(ServerFault::refused(error));
    }
    match values.pop() {
        Some(Value::BulkString(command)) => {
            Err(ServerFault::NotAllowed(format!("may not {}", String::from_utf8_lossy(&command))))
        }
        _ => Ok((connection, clustered)),
    }
}

impl From<RedisError> for ServerFault {
    fn from(error: RedisError) -> Self {
        Self::Connection(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[tokio::test]
    async fn more_requests_than_may_wait_are_refused_at_once() {
        // Nobody takes anything out.
        let (jobs, _waiting) = mpsc::channel(2);
        let link = Link { jobs, patience: Duration::from_secs(60), state: Arc::default() };
        let mut context = Context::from_waker(Waker::noop());
        let ask = || link.ask(vec![redis::cmd("PING")], Kind::Passing);
        let (mut first, mut second) = (pin!(ask()), pin!(ask()));
        assert!(first.as_mut().poll(&mut context).is_pending());
        assert!(second.as_mut().poll(&mut context).is_pending());
        assert_eq!(ask().await, Err(Unavailable));
    }

    #[tokio::test]
    async fn what_too_few_replicas_have_is_not_acked() {
        for (reached, kept) in [(0, Err(Unavailable)), (1, Err(Unavailable)), (2, Ok(vec![Value::Int(7)]))] {
            let (reply, answer) = oneshot::channel();
            let (passing, passed) = oneshot::channel();
            let jobs = vec![
                Job { commands: Vec::new(), count: 1, kind: Kind::Kept, reply },
                Job { commands: Vec::new(), count: 1, kind: Kind::Passing, reply: passing },
            ];
            hand_out(jobs, vec![Value::Int(7), Value::Int(8), Value::Int(reached)], 2);
            assert_eq!(answer.await.unwrap(), kept);
            assert_eq!(passed.await.unwrap(), Ok(vec![Value::Int(8)]));
        }
    }
}
