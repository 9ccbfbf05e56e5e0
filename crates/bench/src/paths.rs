//! The paths a claim takes, each against its floor and its peer.

use coap_lite::RequestType;
use simulator::people::Maker;

use crate::Plan;
use crate::load::{self, CoapAsk, Run};
use crate::measure;
use crate::report::{Contender, Report, Sample};
use crate::servers::{self, Server};

/// Load on an address with these access tokens.
type Measure = fn(&str, &[String]) -> Result<Run, String>;

/// One of the three of a benchmark.
struct Side<'a> {
    contender: Contender,
    server: &'a Server,
    load: Box<dyn Fn() -> Result<Run, String> + 'a>,
}

/// Runs every path that is wanted.
pub(crate) fn all(plan: &Plan, report: &mut Report) -> Result<(), String> {
    const PATHS: [&str; 7] =
        ["mqtt-window-1", "mqtt-window-16", "mqtt-cycle", "coap-1", "coap-16", "coap-256", "http-keep-alive"];
    if !PATHS.iter().any(|path| plan.wants(path)) {
        return Ok(());
    }
    let claimd = servers::claimd()?;
    let addresses = claimd.all.clone().ok_or("claimd has no addresses")?;
    let tokens = devices(&addresses.http, 100)?;
    let scale = if plan.quick { 1 } else { 5 };

    let (mosquitto, tcp) = (servers::mosquitto()?, servers::floor("tcp")?);
    let three = |run: Measure, tokens: Vec<String>| {
        let side = |contender, server, address: &str| {
            let (address, tokens) = (address.to_owned(), tokens.clone());
            Side { contender, server, load: Box::new(move || run(&address, &tokens)) as Box<dyn Fn() -> _> }
        };
        vec![
            side(Contender::Floor("raw TCP responder"), &tcp, &tcp.address),
            side(Contender::Peer("mosquitto"), &mosquitto, &mosquitto.address),
            side(Contender::Claimd, &claimd, &addresses.mqtt),
        ]
    };
    if plan.wants("mqtt-window-1") {
        let run: Measure = if plan.quick { |a, t| load::mqtt(a, t, 1, 200) } else { |a, t| load::mqtt(a, t, 1, 1_000) };
        compare(plan, report, "mqtt-window-1", &three(run, tokens.clone()))?;
    }
    if plan.wants("mqtt-window-16") {
        let run: Measure =
            if plan.quick { |a, t| load::mqtt(a, t, 16, 1_000) } else { |a, t| load::mqtt(a, t, 16, 5_000) };
        compare(plan, report, "mqtt-window-16", &three(run, tokens.clone()))?;
    }
    if plan.wants("mqtt-cycle") {
        let run: Measure = if plan.quick { |a, t| load::cycles(a, t, 100) } else { |a, t| load::cycles(a, t, 400) };
        compare(plan, report, "mqtt-cycle", &three(run, tokens[..16].to_vec()))?;
    }
    drop((mosquitto, tcp));

    let (libcoap, udp) = (servers::libcoap()?, servers::floor("udp")?);
    for (name, outstanding) in [("coap-1", 1), ("coap-16", 16), ("coap-256", 256)] {
        if !plan.wants(name) {
            continue;
        }
        let requests = 20_000.min(4_000 * scale * if outstanding == 1 { 1 } else { 4 });
        let tokens = &tokens[..8];
        let claim = CoapAsk { method: RequestType::Post, path: &["api", "v1", "{}", "claim"], codes: &[0x41] };
        let put = CoapAsk { method: RequestType::Put, path: &["example_data"], codes: &[0x41, 0x44] };
        let echo = CoapAsk { codes: &[0x02], ..claim };
        let side = |contender, server, address: &str, ask| {
            let address = address.to_owned();
            let load = move || load::coap(&address, tokens, ask, outstanding, requests);
            Side { contender, server, load: Box::new(load) as Box<dyn Fn() -> _> }
        };
        let sides = [
            side(Contender::Floor("UDP echo"), &udp, &udp.address, echo),
            side(Contender::Peer("libcoap"), &libcoap, &libcoap.address, put),
            side(Contender::Claimd, &claimd, &addresses.coap, claim),
        ];
        compare(plan, report, name, &sides)?;
    }
    drop((libcoap, udp));

    if plan.wants("http-keep-alive") {
        let (nginx, bare) = (servers::nginx()?, servers::floor("http")?);
        let (tokens, claims) = (&tokens[..32], 400 * scale);
        let side = |contender, server, address: &str| {
            let address = address.to_owned();
            Side {
                contender,
                server,
                load: Box::new(move || load::http(&address, tokens, claims)) as Box<dyn Fn() -> _>,
            }
        };
        let sides = [
            side(Contender::Floor("bare hyper"), &bare, &bare.address),
            side(Contender::Peer("nginx return 200"), &nginx, &nginx.address),
            side(Contender::Claimd, &claimd, &addresses.http),
        ];
        compare(plan, report, "http-keep-alive", &sides)?;
    }
    Ok(())
}

/// In turn, so that a machine that slows down slows all of them.
fn compare(plan: &Plan, report: &mut Report, name: &'static str, sides: &[Side<'_>]) -> Result<(), String> {
    let rounds = if plan.quick { 3 } else { 5 };
    for round in 0..=rounds {
        for side in sides {
            let before = measure::cpu_ns(side.server.pid())?;
            let run = (side.load)().map_err(|reason| format!("{name}, {}: {reason}", side.contender.name()))?;
            let cpu_ns = measure::spent_ns(before, measure::cpu_ns(side.server.pid())?)?;
            // The first round warms caches and connections up.
            if round > 0 {
                report.add(name, side.contender, Sample::new(&run, cpu_ns));
            }
        }
    }
    Ok(())
}

/// Devices of claimd, made over its API.
pub(crate) fn devices(http: &str, count: usize) -> Result<Vec<String>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let maker = Maker::sign_in(http, servers::ADMIN, servers::PASSWORD).await.map_err(|e| e.to_string())?;
        let mut tokens = Vec::with_capacity(count);
        for number in 0..count {
            let token = format!("benchtoken{number:010}");
            let name = format!("bench-{number}");
            maker.new_device(&name, "default", &token, false).await.map_err(|error| error.to_string())?;
            tokens.push(token);
        }
        Ok(tokens)
    })
}
