//! `claimd demo`: a whole life of claims against a real server of its own, over real sockets.
//!
//! The server is this program as a child process, so that `kill -9` in the middle is the real thing. Everything is done
//! by the simulator, which knows the wire contracts only. What must hold is written down as it is found out, and the exit
//! code is 0 only if all of it held.

mod cast;
mod keep;
mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _};
use simulator::people::{ClaimAnswer, Owner};
use simulator::report::Row;
use simulator::transport::Gateway;
use simulator::{Answer, Device, Encoding, Manner, Report, Secrets, Tally, Transport, body};

use self::cast::{Announced, Cast};
use super::progress::Progress;
use super::simulate::{End, on_runtime};
use super::{report, signals};
use crate::cli::DemoArgs;
use crate::out::{self, Exit};

/// Calls under way at once; an owner's tries are reserved while they are looked at, and twenty is the bound.
const AT_ONCE: usize = 8;
/// Entries in a gateway's message.
const BATCH: usize = 100;

/// Runs it.
pub(crate) fn run(args: &DemoArgs) -> Exit {
    on_runtime(async {
        tokio::select! {
            shown = show(args) => shown,
            () = signals::asked_to_stop() => {
                out::talk("stopped; the server has ended and its folder is gone");
                Ok(Exit::Stopped)
            }
        }
    })
}

/// What was to be shown, and whether it was.
#[derive(Default)]
struct Findings(Vec<(String, bool)>);

impl Findings {
    fn note(&mut self, what: impl Into<String>, held: bool) {
        self.0.push((what.into(), held));
    }

    fn all_held(&self) -> bool {
        self.0.iter().all(|(_, held)| *held)
    }
}

async fn show(args: &DemoArgs) -> Result<Exit, End> {
    let started = Instant::now();
    let mut findings = Findings::default();
    out::talk("starting a server on free loopback ports, in a temporary folder");
    let mut cast = Cast::assemble(args.children).await?;
    out::talk("made a tenant with its maker, and two customers: Alice and Bob");

    let mut rows = Vec::new();
    let mut announced = Vec::new();
    for transport in Transport::ALL {
        let (tally, claims) = announce(&cast, transport, args.devices as usize).await?;
        findings.note(
            format!("{transport}: each of {} claims was acknowledged", tally.sent),
            tally.acked == tally.sent && tally.sent == u64::from(args.devices),
        );
        rows.push(Row { transport: transport.name().to_owned(), tally });
        announced.push(claims);
    }
    let (tally, claims) = announce_children(&cast, args.children as usize).await?;
    findings.note(
        format!("gateway: each of {} children was acknowledged, in batches of {BATCH}", tally.sent),
        tally.acked == tally.sent && tally.sent == u64::from(args.children),
    );
    rows.push(Row { transport: "gateway".to_owned(), tally });
    announced.push(claims);

    // Half is confirmed before the kill, half after it.
    let split = |claims: &[Announced], late: bool| -> Vec<Announced> {
        let (first, second) = claims.split_at(claims.len() / 2);
        if late { second.to_vec() } else { first.to_vec() }
    };
    let mut owned = Vec::new();
    for (row, claims) in rows.iter_mut().zip(&announced) {
        owned.extend(confirm(&cast, &split(claims, false), &mut row.tally).await);
    }

    out::talk("kill -9, and a new start on the same folder");
    cast.crash().await?;
    let kept = still_owned(&cast, &owned).await;
    findings.note(
        format!("kill -9: {} of {} confirmed owners are still owners", kept, owned.len()),
        kept == owned.len() && !owned.is_empty(),
    );
    let before: u64 = rows.iter().map(|row| row.tally.confirmed).sum();
    for (row, claims) in rows.iter_mut().zip(&announced) {
        confirm(&cast, &split(claims, true), &mut row.tally).await;
    }
    let after: u64 = rows.iter().map(|row| row.tally.confirmed).sum();
    let waiting: usize = announced.iter().map(|claims| claims.len() - claims.len() / 2).sum();
    findings.note(
        format!("kill -9: {} of {waiting} acknowledged claims were there to be confirmed", after - before),
        after - before == waiting as u64,
    );
    for row in &rows {
        findings.note(
            format!("{}: the owners got {} of {}", row.transport, row.tally.confirmed, row.tally.acked),
            row.tally.confirmed == row.tally.acked,
        );
    }
    stories(&cast, &mut findings).await?;

    let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    summary(&Report { transports: rows, took_ms, ..Report::default() }, &findings);
    if args.keep {
        keep::furnish(&cast).await?;
        // Until Ctrl-C, which `run` waits for.
        return std::future::pending().await;
    }
    let stopped = cast.server.stop().await.map_err(|why| End::Usage(why, ""))?;
    if !stopped.success() {
        out::talk(format!("NOT HELD  the server stops in order: {stopped}"));
    }
    Ok(if findings.all_held() && stopped.success() { Exit::Done } else { Exit::Refused })
}

/// Devices of one transport: made, connected, claimed.
async fn announce(cast: &Cast, transport: Transport, count: usize) -> Result<(Tally, Vec<Announced>), End> {
    let done = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&done);
    let shown =
        Progress::start(&format!("{transport} devices"), Some(count as u64), move || counted.load(Ordering::Relaxed));
    let one = |number: usize| {
        let done = &done;
        async move {
            let name = format!("{transport}-{number}");
            let token = cast.device(&name, false).await?;
            let secret = Secrets::Random.next(&mut rand::rng());
            let body = body::claim(&secret, None, Encoding::Json);
            let mut device = Device::connect(transport, &cast.server.addresses, &token).await?;
            let sent = Instant::now();
            let answer = device.submit(&body, Manner::default()).await;
            let took = sent.elapsed();
            device.close().await;
            done.fetch_add(1, Ordering::Relaxed);
            Ok::<_, End>((answer, body.len(), took, Announced { name, secret }))
        }
    };
    let results: Vec<_> = stream::iter(0..count).map(one).buffered(AT_ONCE).collect().await;
    drop(shown);
    let (mut tally, mut claims) = (Tally::default(), Vec::with_capacity(count));
    for result in results {
        let (answer, bytes, took, claim) = result?;
        tally.answer(&answer, bytes, took);
        if answer == Answer::Acked {
            claims.push(claim);
        }
    }
    Ok((tally, claims))
}

/// The gateway's children; naming them makes them.
async fn announce_children(cast: &Cast, count: usize) -> Result<(Tally, Vec<Announced>), End> {
    let done = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&done);
    let _shown = Progress::start("children of a gateway", Some(count as u64), move || counted.load(Ordering::Relaxed));
    let token = cast.device("gateway", true).await?;
    let mut gateway = Gateway::connect(Transport::Mqtt5, &cast.server.addresses, &token).await?;
    let children: Vec<(String, String)> =
        (0..count).map(|number| (format!("child-{number}"), Secrets::Random.next(&mut rand::rng()))).collect();
    let (mut tally, mut claims) = (Tally::default(), Vec::with_capacity(count));
    for entries in children.chunks(BATCH) {
        let body = body::batch(entries, None, Encoding::Json);
        let sent = Instant::now();
        let result = gateway.claim(&body).await;
        let took = sent.elapsed();
        let refused = result.refused.len() as u64;
        tally.answers(&result.answer, entries.len() as u64 - refused, body.len(), took);
        for (_, reason) in &result.refused {
            tally.answer(&Answer::Refused(reason.clone()), 0, took);
        }
        let acked = entries.iter().filter(|(name, _)| !result.refused.iter().any(|(refused, _)| refused == name));
        if result.answer == Answer::Acked {
            claims.extend(acked.map(|(name, secret)| Announced { name: name.clone(), secret: secret.clone() }));
        }
        done.fetch_add(entries.len() as u64, Ordering::Relaxed);
    }
    gateway.close().await;
    Ok((tally, claims))
}

/// Alice and Bob confirm in turn; which device is whose now.
async fn confirm(cast: &Cast, claims: &[Announced], tally: &mut Tally) -> Vec<(String, String)> {
    let done = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&done);
    let _shown = Progress::start("owners confirm", Some(claims.len() as u64), move || counted.load(Ordering::Relaxed));
    let one = |(number, claim): (usize, &Announced)| {
        let owner = if number.is_multiple_of(2) { &cast.alice } else { &cast.bob };
        let (done, claim) = (&done, claim.clone());
        async move {
            let sent = Instant::now();
            let answer = owner.claim(&claim.name, &claim.secret).await;
            done.fetch_add(1, Ordering::Relaxed);
            (answer, sent.elapsed(), claim.name, owner.customer.clone())
        }
    };
    let answers: Vec<_> = stream::iter(claims.iter().enumerate()).map(one).buffered(AT_ONCE).collect().await;
    let mut owned = Vec::new();
    for (answer, took, name, customer) in answers {
        tally.confirm.add(took);
        match answer {
            Ok(ClaimAnswer::Claimed) => {
                tally.confirmed += 1;
                owned.push((name, customer));
            }
            Ok(refused) => *tally.confirm_refused.entry(refused.reason()).or_default() += 1,
            Err(_) => tally.errors += 1,
        }
    }
    owned
}

/// How many are still owned by whom they were given to.
async fn still_owned(cast: &Cast, owned: &[(String, String)]) -> usize {
    let one = |(name, customer): &(String, String)| {
        let (name, customer) = (name.clone(), customer.clone());
        async move { matches!(cast.maker.owner_of(&name).await, Ok(Some(owner)) if owner == customer) }
    };
    stream::iter(owned).map(one).buffered(AT_ONCE).filter(|kept| std::future::ready(*kept)).count().await
}

/// What else happens in a device's life.
async fn stories(cast: &Cast, findings: &mut Findings) -> Result<(), End> {
    out::talk("a wrong code, a window that ends, a change of owner");
    let token = cast.device("guessed-at", false).await?;
    cast.claim_once(&token, "the right code", None).await?;
    let wrong = cast.alice.claim("guessed-at", "a guess").await?;
    findings.note("a wrong code is refused", wrong == ClaimAnswer::Refused(None));
    let right = cast.alice.claim("guessed-at", "the right code").await?;
    findings.note("and the right one still works after it", right == ClaimAnswer::Claimed);

    let token = cast.device("too-late", false).await?;
    let lifetime = Duration::from_millis(200);
    cast.claim_once(&token, "in time", Some(lifetime)).await?;
    tokio::time::sleep(lifetime + Duration::from_millis(50)).await;
    let late = cast.alice.claim("too-late", "in time").await?;
    findings.note("after its window a claim is over, with the right code too", late == ClaimAnswer::Refused(None));

    let token = cast.device("moved-house", false).await?;
    cast.claim_once(&token, "first", None).await?;
    let first = cast.alice.claim("moved-house", "first").await?;
    cast.alice.unclaim("moved-house").await?;
    let stale = cast.bob.claim("moved-house", "first").await?;
    findings.note("an unclaimed device cannot be taken with the spent code", stale == ClaimAnswer::Refused(None));
    cast.claim_once(&token, "second", None).await?;
    let second = cast.bob.claim("moved-house", "second").await?;
    let owner = cast.maker.owner_of("moved-house").await?;
    findings.note(
        "unclaimed by Alice, announced again, it is Bob's",
        (first, second) == (ClaimAnswer::Claimed, ClaimAnswer::Claimed) && owner.as_ref() == Some(&cast.bob.customer),
    );
    Ok(())
}

fn summary(shown: &Report, findings: &Findings) {
    out::data(report::table(shown).to_string());
    for (what, held) in &findings.0 {
        out::data(format!("{}  {what}", if *held { "held    " } else { "NOT HELD" }));
    }
    let broken = findings.0.iter().filter(|(_, held)| !held).count();
    let seconds = shown.took_ms as f64 / 1_000.0;
    match broken {
        0 => out::data(format!("all {} expectations held, in {seconds:.1} s", findings.0.len())),
        broken => out::data(format!("{broken} of {} expectations did NOT hold, in {seconds:.1} s", findings.0.len())),
    }
}

/// An owner's line in [`keep`].
fn sign_in(owner: &Owner, password: &str) -> String {
    format!("{:<24} {password}", owner.email)
}
