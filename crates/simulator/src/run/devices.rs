//! Devices that announce themselves, well or badly behaved.

use std::time::Duration;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use rand::Rng as _;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::{Scene, tag, token};
use crate::body;
use crate::report::Tally;
use crate::transport::{Answer, Device, Manner, Transport};
use crate::trouble::Trouble;

/// How devices behave.
#[derive(Clone, Debug)]
pub struct Devices {
    /// Over which transport.
    pub transport: Transport,
    /// How many.
    pub count: usize,
    /// Claims a second, of all together; `None`: as fast as answers come.
    pub rate: Option<f64>,
    /// How long they go on; `None`: each claims once.
    pub run_for: Option<Duration>,
    /// Share of claims whose answer is not waited for.
    pub drop: f64,
    /// Share of claims sent twice.
    pub duplicate: f64,
    /// Share of confirms that are preceded by one with a wrong code.
    pub wrong_rate: f64,
    /// A pause in the middle of each message.
    pub slow: Option<Duration>,
    /// A new connection for each claim.
    pub reconnect: bool,
}

/// A device as the maker made it.
pub(super) struct Made {
    pub(super) name: String,
    pub(super) token: String,
}

/// How many of the maker's calls are under way at once.
const MAKING: usize = 8;

pub(super) async fn make(scene: &Scene, transport: Transport, count: usize) -> Result<Vec<Made>, Trouble> {
    scene.prepare().await?;
    let tag = tag();
    stream::iter(0..count)
        .map(|number| {
            let made = Made { name: format!("sim-{tag}-{transport}-{number}"), token: token() };
            async move { scene.maker.new_device(&made.name, scene.profile(), &made.token, false).await.map(|_| made) }
        })
        .buffered(MAKING)
        .try_collect()
        .await
}

/// Plays them. The devices are made first.
pub async fn devices(scene: &Scene, plan: &Devices) -> Result<Tally, Trouble> {
    let made = make(scene, plan.transport, plan.count).await?;
    let started = Instant::now();
    let mut players = tokio::task::JoinSet::new();
    for (number, made) in made.into_iter().enumerate() {
        let (scene, plan) = (scene.clone(), plan.clone());
        players.spawn(async move { play(&scene, &plan, number, &made, started).await });
    }
    let mut total = Tally::default();
    let mut trouble = None;
    while let Some(played) = players.join_next().await {
        match played {
            Ok(Ok(tally)) => total.merge(&tally),
            Ok(Err(why)) => trouble = Some(why),
            Err(why) => trouble = Some(Trouble::odd("a simulated device", why)),
        }
    }
    // One device's trouble is counted; when nobody got through it is everybody's.
    match trouble {
        Some(why) if total.sent == 0 => Err(why),
        _ => Ok(total),
    }
}

async fn play(scene: &Scene, plan: &Devices, number: usize, made: &Made, started: Instant) -> Result<Tally, Trouble> {
    let mut random = scene.random(number as u64);
    let mut tally = Tally::default();
    let mut device = None;
    let step = plan.rate.map(|rate| Duration::from_secs_f64(plan.count as f64 / rate));
    let mut next = started + step.unwrap_or_default().mul_f64(number as f64 / plan.count as f64);
    let end = plan.run_for.map(|run_for| started + run_for);
    loop {
        tokio::time::sleep_until(next).await;
        if scene.control.stopped() || end.is_some_and(|end| Instant::now() >= end) {
            break;
        }
        let open = match Device::reopened(device.take(), plan.transport, &scene.addresses, &made.token).await {
            Ok(open) => open,
            Err(why) if tally.sent == 0 => return Err(why),
            Err(_) => {
                tally.errors += 1;
                break;
            }
        };
        device = Some(turn(scene, plan, made, open, &mut random, &mut tally).await);
        scene.control.add(1);
        if plan.reconnect
            && let Some(open) = device.take()
        {
            open.close().await;
        }
        if end.is_none() {
            break;
        }
        next = step.map_or_else(Instant::now, |step| next + step);
    }
    if let Some(open) = device {
        open.close().await;
    }
    Ok(tally)
}

/// One claim, and its confirm.
async fn turn(
    scene: &Scene,
    plan: &Devices,
    made: &Made,
    mut device: Device,
    random: &mut StdRng,
    tally: &mut Tally,
) -> Device {
    let secret = scene.secrets.next(random);
    let body = body::claim(&secret, scene.lifetime, scene.encoding);
    let manner =
        Manner { drop: random.random_bool(plan.drop), duplicate: random.random_bool(plan.duplicate), slow: plan.slow };
    let wrong = random.random_bool(plan.wrong_rate);
    let sent = Instant::now();
    let answer = device.submit(&body, manner).await;
    tally.answer(&answer, body.len(), sent.elapsed());
    if answer == Answer::Acked {
        let before = tally.confirmed;
        scene.confirm(&made.name, &secret, wrong, tally).await;
        // Whoever goes on needs a device that nobody owns.
        if plan.run_for.is_some()
            && tally.confirmed > before
            && let Some(owner) = &scene.owner
            && owner.unclaim(&made.name).await.is_err()
        {
            tally.errors += 1;
        }
    }
    device
}
