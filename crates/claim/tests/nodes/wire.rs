//! Questions and answers over the simulated network: one datagram each way, which may be late, lost or overtaken.
//!
//! A datagram carries only a number; what it stands for lies in the mail, since all hosts are one process. A question is
//! taken out once, so a store never does one thing twice; whoever wants that asks twice.

use std::any::Any;
use std::collections::HashMap;
use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use turmoil::net::UdpSocket;

pub(crate) const PORT: u16 = 7;

/// No answer in time. What was asked for may happen all the same, now or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost;

pub(crate) struct Wire {
    mail: Mutex<HashMap<u64, Box<dyn Any + Send>>>,
    chance: Mutex<Chance>,
}

struct Chance {
    random: StdRng,
    next: u64,
    /// Of each datagram.
    loss: f64,
}

impl Wire {
    pub(crate) fn new(seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        Self { mail: Mutex::default(), chance: Mutex::new(Chance { random, next: 0, loss: 0.0 }) }
    }

    pub(crate) fn set_loss(&self, loss: f64) {
        self.chance.lock().unwrap().loss = loss;
    }

    /// A number below `end`, from the simulation's own dice.
    pub(crate) fn dice(&self, end: u64) -> u64 {
        self.chance.lock().unwrap().random.random_range(0..end)
    }

    /// Asks a host and waits so long for its answer. `A` must be what the host answers to a `Q`.
    pub(crate) async fn ask<Q, A>(&self, host: &str, patience: Duration, question: Q) -> Result<A, Lost>
    where
        Q: Send + 'static,
        A: Send + 'static,
    {
        let socket = UdpSocket::bind(("0.0.0.0", 0)).await.map_err(|_| Lost)?;
        let number = self.post(Box::new(question));
        if !self.lost() {
            // A host that is down or cut off takes nothing; that shows in the time.
            let _ = socket.send_to(&number.to_be_bytes(), (host, PORT)).await;
        }
        let heard = tokio::time::timeout(patience, socket.recv_from(&mut [0; 8])).await;
        let answer = self.take(number | ANSWER);
        match (heard, answer) {
            (Ok(Ok(_)), Some(answer)) => Ok(*answer),
            _ => Err(Lost),
        }
    }

    /// Answers `Q`s for ever, each in a task of its own; `None` is silence.
    pub(crate) async fn serve<Q, A, F>(
        self: std::sync::Arc<Self>,
        handle: impl Fn(Q) -> F + Clone + 'static,
    ) -> turmoil::Result
    where
        Q: Send + 'static,
        A: Send + 'static,
        F: Future<Output = Option<A>>,
    {
        let socket = std::sync::Arc::new(UdpSocket::bind(("0.0.0.0", PORT)).await?);
        loop {
            let mut number = [0; 8];
            let (_, from) = socket.recv_from(&mut number).await?;
            let number = u64::from_be_bytes(number);
            let Some(question) = self.take::<Q>(number) else { continue };
            let (wire, socket, handle) = (self.clone(), socket.clone(), handle.clone());
            tokio::task::spawn_local(async move {
                // Before and after, so that a crash may come between the deed and its answer.
                wire.dawdle().await;
                let Some(answer) = handle(*question).await else { return };
                wire.dawdle().await;
                wire.mail.lock().unwrap().insert(number | ANSWER, Box::new(answer));
                if !wire.lost() {
                    let _ = socket.send_to(&number.to_be_bytes(), from).await;
                }
            });
        }
    }

    async fn dawdle(&self) {
        let ms = self.dice(30);
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    fn lost(&self) -> bool {
        let mut chance = self.chance.lock().unwrap();
        let loss = chance.loss;
        chance.random.random_bool(loss)
    }

    fn post(&self, question: Box<dyn Any + Send>) -> u64 {
        let mut chance = self.chance.lock().unwrap();
        chance.next += 1;
        self.mail.lock().unwrap().insert(chance.next, question);
        chance.next
    }

    fn take<T: 'static>(&self, number: u64) -> Option<Box<T>> {
        self.mail.lock().unwrap().remove(&number)?.downcast().ok()
    }
}

/// The mark of an answer's number.
const ANSWER: u64 = 1 << 63;
