//! Load as the world makes it: claims arrive when they arrive, whether or not the server has answered the last ones.
//!
//! Latency counts from the arrival, not from the moment a connection was free, so a server that stalls shows it.

use std::time::Duration;

use rand::Rng as _;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::devices::{Made, make};
use super::{Scene, tag};
use crate::body;
use crate::report::Tally;
use crate::transport::{Answer, Device, Manner, Transport};
use crate::trouble::Trouble;

/// What load there is.
#[derive(Clone, Debug)]
pub struct Load {
    /// Over which transport.
    pub transport: Transport,
    /// Devices, each with a connection.
    pub count: usize,
    /// Arrivals a second once the ramp is over.
    pub rate: f64,
    /// The rate grows from nothing for so long.
    pub ramp: Duration,
    /// How long it lasts, ramp included.
    pub run_for: Duration,
    /// Devices beside them that take their time: each message has a pause in it.
    pub slow: usize,
    /// That pause.
    pub pause: Duration,
}

/// Claims that may wait for one device's connection.
const WAITING: usize = 1_024;

/// Makes the devices, connects them, lets claims arrive, and waits for the last answer.
pub async fn load(scene: &Scene, plan: &Load) -> Result<Tally, Trouble> {
    let made = make(scene, plan.transport, plan.count + plan.slow).await?;
    let started = Instant::now();
    let end = started + plan.run_for;
    let mut players = tokio::task::JoinSet::new();
    let mut queues = Vec::with_capacity(plan.count);
    for (number, made) in made.into_iter().enumerate() {
        let (scene, transport) = (scene.clone(), plan.transport);
        let open = Device::connect(transport, &scene.addresses, &made.token).await?;
        if number < plan.count {
            let (queue, arrivals) = mpsc::channel(WAITING);
            queues.push(queue);
            players.spawn(serve(scene, transport, number, made, open, arrivals));
        } else {
            let pause = plan.pause;
            players.spawn(async move { dawdle(&scene, transport, &made, open, pause, end).await });
        }
    }
    let unserved = arrive(scene, plan, &queues, started).await;
    drop(queues);
    let mut total = Tally { errors: unserved, ..Tally::default() };
    while let Some(played) = players.join_next().await {
        total.merge(&played.map_err(|why| Trouble::odd("a simulated device", why))?);
    }
    Ok(total)
}

/// Hands arrivals out in turn; how many found no room even to wait.
async fn arrive(scene: &Scene, plan: &Load, queues: &[mpsc::Sender<Instant>], started: Instant) -> u64 {
    let mut random = scene.random(u64::MAX);
    let (mut at, mut unserved, mut turn) = (Duration::ZERO, 0, 0);
    while at < plan.run_for && !scene.control.stopped() && !queues.is_empty() {
        let rate = rate_at(plan, at);
        // Poisson arrivals: independent of each other and of the server.
        let gap = -(1.0 - random.random::<f64>()).ln() / rate;
        at += Duration::from_secs_f64(gap.min(10.0));
        let due = started + at;
        tokio::time::sleep_until(due).await;
        if queues[turn % queues.len()].try_send(due).is_err() {
            unserved += 1;
        }
        turn += 1;
    }
    unserved
}

/// Arrivals a second at this point of the run.
fn rate_at(plan: &Load, at: Duration) -> f64 {
    if at >= plan.ramp {
        return plan.rate;
    }
    // Not from zero, or the first gap would have no end.
    plan.rate * (at.as_secs_f64() / plan.ramp.as_secs_f64()).max(0.05)
}

async fn serve(
    scene: Scene,
    transport: Transport,
    number: usize,
    made: Made,
    open: Device,
    mut arrivals: mpsc::Receiver<Instant>,
) -> Tally {
    let mut random = scene.random(number as u64);
    let mut tally = Tally::default();
    let mut device = Some(open);
    while let Some(due) = arrivals.recv().await {
        let secret = scene.secrets.next(&mut random);
        let body = body::claim(&secret, scene.lifetime, scene.encoding);
        let Ok(mut open) = Device::reopened(device.take(), transport, &scene.addresses, &made.token).await else {
            tally.errors += 1;
            continue;
        };
        let answer = open.submit(&body, Manner::default()).await;
        tally.answer(&answer, body.len(), due.elapsed());
        scene.control.add(1);
        if answer == Answer::Acked && scene.owner.is_some() {
            let before = tally.confirmed;
            scene.confirm(&made.name, &secret, false, &mut tally).await;
            if let Some(owner) = scene.owner.as_ref().filter(|_| tally.confirmed > before)
                && owner.unclaim(&made.name).await.is_err()
            {
                tally.errors += 1;
            }
        }
        device = Some(open);
    }
    if let Some(open) = device {
        open.close().await;
    }
    tally
}

/// Claims again and again, half a message at a time; not counted, it is there to be in the way.
async fn dawdle(
    scene: &Scene,
    transport: Transport,
    made: &Made,
    open: Device,
    pause: Duration,
    end: Instant,
) -> Tally {
    let body = body::claim(&tag(), scene.lifetime, scene.encoding);
    let manner = Manner { slow: Some(pause), ..Manner::default() };
    let mut device = Some(open);
    while Instant::now() < end && !scene.control.stopped() {
        let Ok(mut open) = Device::reopened(device.take(), transport, &scene.addresses, &made.token).await else {
            return Tally { errors: 1, ..Tally::default() };
        };
        open.submit(&body, manner).await;
        device = Some(open);
    }
    Tally::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ramp_grows_to_the_rate_and_stays_there() {
        let plan = Load {
            transport: Transport::Http,
            count: 1,
            rate: 100.0,
            ramp: Duration::from_secs(10),
            run_for: Duration::from_secs(20),
            slow: 0,
            pause: Duration::ZERO,
        };
        let at = |seconds| rate_at(&plan, Duration::from_secs(seconds));
        assert_eq!([at(0), at(5), at(10), at(19)], [5.0, 50.0, 100.0, 100.0]);
        assert_eq!(rate_at(&Load { ramp: Duration::ZERO, ..plan.clone() }, Duration::ZERO), 100.0);
    }
}
