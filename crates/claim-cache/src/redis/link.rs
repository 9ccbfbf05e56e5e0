//! The one connection to the store, and the micro-batches on it: what is asked while a pipeline is out is the next
//! pipeline.
//!
//! One pipeline is out at a time, so what one caller sees after another's answer is never older. Whoever asks waits for
//! `timeouts.store` at most; what did not come back by then is not known to have happened. A connection that failed is made
//! anew when something is asked, at most ten times a second, and each new one is checked like the first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use claim::ports::Unavailable;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, RedisError, Value};
use tokio::sync::{mpsc, oneshot};

use super::scripts;
use super::server::{self, ServerFault};

/// Commands in a pipeline, but for a larger batch of one caller.
const PIPELINE: usize = 100;
/// Between two tries to connect.
const PAUSE: Duration = Duration::from_millis(100);

/// Where the store is and how patiently it is asked.
pub(super) struct LinkOptions {
    pub(super) client: Client,
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
    /// Connections made so far.
    connections: AtomicU64,
}

struct Job {
    commands: Vec<Cmd>,
    kind: Kind,
    reply: oneshot::Sender<Result<Vec<Value>, Unavailable>>,
}

impl Link {
    /// Connects and checks the server.
    pub(super) async fn open(options: LinkOptions) -> Result<Self, ServerFault> {
        let connection = connect(&options).await?;
        let (jobs, waiting) = mpsc::channel(options.queue.max(1));
        let patience = options.patience;
        let state = Arc::new(State { up: AtomicBool::new(true), connections: AtomicU64::new(1) });
        let line = Line { options, state: Arc::clone(&state), connection: Some(connection), tried: Instant::now() };
        tokio::spawn(line.run(waiting));
        Ok(Self { jobs, patience, state })
    }

    /// One value for each command, in their order. All of them travel in one pipeline.
    pub(super) async fn ask(&self, commands: Vec<Cmd>, kind: Kind) -> Result<Vec<Value>, Unavailable> {
        let (reply, answer) = oneshot::channel();
        self.jobs.try_send(Job { commands, kind, reply }).map_err(|_| Unavailable)?;
        match tokio::time::timeout(self.patience, answer).await {
            Ok(Ok(values)) => values,
            Ok(Err(_)) | Err(_) => Err(Unavailable),
        }
    }

    /// The value of one command; an error of the server is [`Unavailable`].
    pub(super) async fn one(&self, command: Cmd, kind: Kind) -> Result<Value, Unavailable> {
        match self.ask(vec![command], kind).await?.pop() {
            Some(Value::ServerError(error)) => {
                tracing::warn!(code = error.code(), "the claim store refused a command");
                Err(Unavailable)
            }
            Some(value) => Ok(value),
            None => Err(Unavailable),
        }
    }

    /// Whether the last pipeline was answered.
    pub(super) fn up(&self) -> bool {
        self.state.up.load(Ordering::Relaxed)
    }

    /// Changes with every new connection: behind it may be a server that knows less.
    pub(super) fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::Acquire)
    }
}

/// The task's side.
struct Line {
    options: LinkOptions,
    state: Arc<State>,
    connection: Option<MultiplexedConnection>,
    tried: Instant,
}

impl Line {
    async fn run(mut self, mut waiting: mpsc::Receiver<Job>) {
        while let Some(first) = waiting.recv().await {
            let mut count = first.commands.len();
            let mut jobs = vec![first];
            while count < PIPELINE
                && let Ok(job) = waiting.try_recv()
            {
                count += job.commands.len();
                jobs.push(job);
            }
            // Whoever has given up was told that it is not known to have happened: it had better not.
            jobs.retain(|job| !job.reply.is_closed());
            if jobs.is_empty() {
                continue;
            }
            match tokio::time::timeout(self.options.patience, self.exchange(&jobs)).await {
                Ok(Ok(values)) => {
                    self.state.up.store(true, Ordering::Relaxed);
                    hand_out(jobs, values, self.options.wait_replicas);
                }
                Ok(Err(fault)) => self.down(jobs, fault.as_ref()),
                Err(_) => self.down(jobs, Some(&ServerFault::Silent)),
            }
        }
    }

    /// One pipeline there and back. `None` as an error: it was not even tried.
    async fn exchange(&mut self, jobs: &[Job]) -> Result<Vec<Value>, Option<ServerFault>> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect_again().await?,
        };
        let commands = || jobs.iter().flat_map(|job| &job.commands);
        let mut pipeline = Pipeline::with_capacity(PIPELINE + 1);
        for command in commands() {
            pipeline.add_command(command.clone());
        }
        let wait = self.wait_for(jobs);
        if let Some(wait) = &wait {
            pipeline.add_command(wait.clone());
        }
        let count = pipeline.len();
        let mut values = connection.send_packed_commands(&pipeline, 0, count).await.map_err(ServerFault::from)?;
        if values.len() != count {
            return Err(Some(ServerFault::Silent));
        }
        if values.iter().any(|value| code(value) == Some("NOSCRIPT")) {
            load_and_repeat(&mut connection, commands(), &mut values).await?;
            if let (Some(wait), Some(said)) = (&wait, values.last_mut()) {
                *said = connection.send_packed_command(wait).await.map_err(ServerFault::from)?;
            }
        }
        if let Some(code) = values.iter().filter_map(code).find(|code| server::is_elsewhere(code)) {
            // A replica, or one that is still loading: the next connection may find the one to ask.
            return Err(Some(ServerFault::NotServing(code.to_owned())));
        }
        if wait.is_none() {
            values.push(Value::Int(0));
        }
        self.connection = Some(connection);
        Ok(values)
    }

    /// WAIT waits for all that this connection wrote before.
    fn wait_for(&self, jobs: &[Job]) -> Option<Cmd> {
        if self.options.wait_replicas == 0 || jobs.iter().all(|job| job.kind == Kind::Passing) {
            return None;
        }
        let millis = u64::try_from((self.options.patience / 2).as_millis()).unwrap_or(u64::MAX);
        let mut wait = redis::cmd("WAIT");
        // 0 would be for ever.
        wait.arg(self.options.wait_replicas).arg(millis.max(1));
        Some(wait)
    }

    async fn connect_again(&mut self) -> Result<MultiplexedConnection, Option<ServerFault>> {
        if self.tried.elapsed() < PAUSE {
            return Err(None);
        }
        self.tried = Instant::now();
        let connection = connect(&self.options).await?;
        self.state.connections.fetch_add(1, Ordering::Release);
        tracing::info!("connected to the claim store again");
        Ok(connection)
    }

    fn down(&self, jobs: Vec<Job>, fault: Option<&ServerFault>) {
        if self.state.up.swap(false, Ordering::Relaxed)
            && let Some(fault) = fault
        {
            tracing::error!(%fault, "the claim store does not answer");
        }
        for job in jobs {
            // Nobody may be waiting any more.
            let _ = job.reply.send(Err(Unavailable));
        }
    }
}

/// Commands whose script was not there have done nothing; they are sent again when it is.
async fn load_and_repeat(
    connection: &mut MultiplexedConnection,
    commands: impl Iterator<Item = &Cmd>,
    values: &mut [Value],
) -> Result<(), ServerFault> {
    let load = scripts::load();
    connection.send_packed_commands(&load, 0, load.len()).await?;
    for (command, value) in commands.zip(values) {
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
        let own: Vec<Value> = values.by_ref().take(job.commands.len()).collect();
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

/// A connection to a server of which nothing is known yet.
pub(super) async fn unchecked(client: &Client, patience: Duration) -> Result<MultiplexedConnection, ServerFault> {
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(Some(patience)).set_response_timeout(Some(patience));
    Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
}

async fn connect(options: &LinkOptions) -> Result<MultiplexedConnection, ServerFault> {
    let mut connection = unchecked(&options.client, options.patience).await?;
    server::check(&mut connection).await?;
    let load = scripts::load();
    let values = connection.send_packed_commands(&load, 0, load.len()).await?;
    match values.iter().find_map(code) {
        Some(code) => Err(ServerFault::NotServing(code.to_owned())),
        None => Ok(connection),
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
                Job { commands: vec![redis::cmd("PING")], kind: Kind::Kept, reply },
                Job { commands: vec![redis::cmd("PING")], kind: Kind::Passing, reply: passing },
            ];
            hand_out(jobs, vec![Value::Int(7), Value::Int(8), Value::Int(reached)], 2);
            assert_eq!(answer.await.unwrap(), kept);
            assert_eq!(passed.await.unwrap(), Ok(vec![Value::Int(8)]));
        }
    }
}
