//! Gateways that speak for children, in batches.

use rand::Rng as _;
use tokio::time::Instant;

use super::{Scene, tag, token};
use crate::body;
use crate::report::Tally;
use crate::transport::{Answer, Gateway, Transport};
use crate::trouble::Trouble;

/// What gateways do.
#[derive(Clone, Debug)]
pub struct Gateways {
    /// Over which transport: `mqtt`, `mqtt5` or `ws`.
    pub transport: Transport,
    /// How many gateways.
    pub count: usize,
    /// Children of each.
    pub children: usize,
    /// Entries in a message.
    pub batch: usize,
    /// Share of confirms that are preceded by one with a wrong code.
    pub wrong_rate: f64,
}

/// Plays them, one after the other; each makes its children by naming them.
pub async fn gateways(scene: &Scene, plan: &Gateways) -> Result<Tally, Trouble> {
    scene.prepare().await?;
    let tag = tag();
    let mut total = Tally::default();
    for number in 0..plan.count {
        if scene.control.stopped() {
            break;
        }
        let (name, token) = (format!("sim-{tag}-gateway-{number}"), token());
        scene.maker.new_device(&name, scene.profile(), &token, true).await?;
        let mut gateway = Gateway::connect(plan.transport, &scene.addresses, &token).await?;
        total.merge(&play(scene, plan, number, &name, &mut gateway).await);
        gateway.close().await;
    }
    Ok(total)
}

async fn play(scene: &Scene, plan: &Gateways, number: usize, name: &str, gateway: &mut Gateway) -> Tally {
    let mut random = scene.random(number as u64);
    let mut tally = Tally::default();
    let children: Vec<(String, String)> =
        (0..plan.children).map(|child| (format!("{name}-{child}"), scene.secrets.next(&mut random))).collect();
    for entries in children.chunks(plan.batch.max(1)) {
        if scene.control.stopped() {
            break;
        }
        let body = body::batch(entries, scene.lifetime, scene.encoding);
        let sent = Instant::now();
        let result = gateway.claim(&body).await;
        let refused = result.refused.len() as u64;
        let took = sent.elapsed();
        tally.answers(&result.answer, entries.len() as u64 - refused, body.len(), took);
        for (_, reason) in &result.refused {
            tally.answer(&Answer::Refused(reason.clone()), 0, took);
        }
        scene.control.add(entries.len() as u64);
        if result.answer != Answer::Acked {
            continue;
        }
        let acked = entries.iter().filter(|(child, _)| !result.refused.iter().any(|(refused, _)| refused == child));
        for (child, secret) in acked {
            let wrong = random.random_bool(plan.wrong_rate);
            scene.confirm(child, secret, wrong, &mut tally).await;
        }
    }
    tally
}
