//! `claimd simulate` and `claimd load`: the simulator, told what to do from the command line.

use std::future::Future;
use std::io::Read;
use std::time::{Duration, Instant};

use simulator::people::{ClaimAnswer, Maker, Owner};
use simulator::report::Row;
use simulator::run::{self, Control, Devices, Gateways, Load, Scene};
use simulator::{Addresses, Encoding, Expectations, Report, Secrets, Tally, Transport, Trouble};

use super::progress::Progress;
use super::{report, signals};
use crate::cli::{
    EncodingArg, LoadArgs, MessageArgs, ServerArgs, SimulateCommand, SimulateDeviceArgs, SimulateGatewayArgs,
    SimulateOwnerArgs, TransportArg,
};
use crate::out::{self, Exit};

/// Why a command ends without a result.
pub(super) enum End {
    /// The command line, with what to do about it.
    Usage(String, &'static str),
    /// The server.
    Trouble(Trouble),
}

impl From<Trouble> for End {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl End {
    /// Says it.
    pub(super) fn exit(self) -> Exit {
        match self {
            Self::Usage(what, next) => {
                out::error(what, next);
                Exit::Usage
            }
            Self::Trouble(trouble @ Trouble::Refused { .. }) => {
                out::error(trouble.to_string(), "check the account, its password and its role");
                Exit::Refused
            }
            Self::Trouble(trouble) => {
                out::error(trouble.to_string(), "check the address, and that `claimd serve` runs there");
                Exit::Unavailable
            }
        }
    }
}

/// Runs a simulation.
pub(crate) fn run(command: &SimulateCommand) -> Exit {
    on_runtime(async {
        match command {
            SimulateCommand::Device(args) => device(args).await,
            SimulateCommand::Gateway(args) => gateway(args).await,
            SimulateCommand::Owner(args) => owner(args).await,
        }
    })
}

/// Runs a load.
pub(crate) fn load(args: &LoadArgs) -> Exit {
    on_runtime(put_load(args))
}

/// The runtime of a client command.
pub(super) fn on_runtime(work: impl Future<Output = Result<Exit, End>>) -> Exit {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(work).unwrap_or_else(End::exit),
        Err(error) => {
            out::error(format!("cannot start: {error}"), "raise the limit of threads");
            Exit::Unavailable
        }
    }
}

async fn device(args: &SimulateDeviceArgs) -> Result<Exit, End> {
    let expected = expectations(&args.message)?;
    let scene = scene(&args.server, &args.message, args.play.encoding, args.play.confirm).await?;
    let transports = transports(args.transport);
    let each = args.run_for.is_none().then_some(u64::from(args.count));
    play(&args.server, &expected, &scene, &transports, each, |transport| {
        let plan = Devices {
            transport,
            count: args.count as usize,
            rate: args.rate,
            run_for: args.run_for,
            drop: args.drop,
            duplicate: args.duplicate,
            wrong_rate: args.play.wrong_rate,
            slow: args.slow,
            reconnect: args.reconnect,
        };
        let scene = scene.clone();
        async move { run::devices(&scene, &plan).await }
    })
    .await
}

async fn gateway(args: &SimulateGatewayArgs) -> Result<Exit, End> {
    let expected = expectations(&args.message)?;
    let transports: Vec<Transport> =
        transports(args.transport).into_iter().filter(|t| !matches!(t, Transport::Coap | Transport::Http)).collect();
    if transports.is_empty() {
        return Err(End::Usage("gateways speak MQTT".to_owned(), "give --transport mqtt, mqtt5, ws or all"));
    }
    let scene = scene(&args.server, &args.message, args.play.encoding, args.play.confirm).await?;
    let each = Some(u64::from(args.count) * u64::from(args.children));
    play(&args.server, &expected, &scene, &transports, each, |transport| {
        let plan = Gateways {
            transport,
            count: args.count as usize,
            children: args.children as usize,
            batch: args.batch as usize,
            wrong_rate: args.play.wrong_rate,
        };
        let scene = scene.clone();
        async move { run::gateways(&scene, &plan).await }
    })
    .await
}

async fn put_load(args: &LoadArgs) -> Result<Exit, End> {
    let expected = expectations(&args.message)?;
    let scene = scene(&args.server, &args.message, EncodingArg::Json, args.confirm).await?;
    let latencies = std::sync::Mutex::new(simulator::report::Latencies::default());
    let exit = play(&args.server, &expected, &scene, &transports(args.transport), None, |transport| {
        let plan = Load {
            transport,
            count: args.count as usize,
            rate: args.rate,
            ramp: args.ramp,
            run_for: args.run_for,
            slow: args.slow as usize,
            pause: args.pause,
        };
        let (scene, latencies) = (scene.clone(), &latencies);
        async move {
            let tally = run::load(&scene, &plan).await?;
            if let Ok(mut latencies) = latencies.lock() {
                latencies.merge(&tally.submit);
            }
            Ok(tally)
        }
    })
    .await?;
    if let (Some(path), Ok(latencies)) = (&args.histogram, latencies.into_inner())
        && let Err(error) = std::fs::write(path, latencies.csv())
    {
        let what = format!("cannot write the latencies to {}: {error}", path.display());
        return Err(End::Usage(what, "give a file that can be written with --histogram"));
    }
    Ok(exit)
}

async fn owner(args: &SimulateOwnerArgs) -> Result<Exit, End> {
    let secret = match secrets(&args.secret)? {
        Secrets::Fixed(secret) => secret,
        Secrets::None => String::new(),
        Secrets::Random => {
            let what = "an owner shows the secret that the device announced".to_owned();
            return Err(End::Usage(what, "give --secret @FILE, @- for standard input, or none"));
        }
    };
    let password = password("CLAIMD_CLIENT__OWNER_PASSWORD")?;
    let owner = Owner::sign_in(&args.http, &args.owner_email, &password).await?;
    let mut exit = Exit::Done;
    for name in &args.devices {
        if args.unclaim {
            owner.unclaim(name).await?;
            out::data(format!("released  {name}"));
            continue;
        }
        match owner.claim(name, &secret).await? {
            ClaimAnswer::Claimed => out::data(format!("claimed  {name}")),
            ClaimAnswer::AlreadyClaimed => out::data(format!("yours already  {name}")),
            ClaimAnswer::Refused(_) => {
                exit = Exit::Refused;
                out::data(format!("refused  {name}: the code or the name does not match, or the device is not open"));
            }
            ClaimAnswer::NotNow(why) => {
                exit = if why == "rate_limited" { Exit::RateLimited } else { Exit::Unavailable };
                out::data(format!("not now  {name}: {why}"));
            }
        }
    }
    Ok(exit)
}

/// Plays each transport in turn, reports, and holds the report against what was expected.
async fn play<F>(
    server: &ServerArgs,
    expected: &Expectations,
    scene: &Scene,
    transports: &[Transport],
    each: Option<u64>,
    one: impl Fn(Transport) -> F,
) -> Result<Exit, End>
where
    F: Future<Output = Result<Tally, Trouble>>,
{
    let started = Instant::now();
    let stopping = scene.control.clone();
    let watcher = tokio::spawn(async move {
        signals::asked_to_stop().await;
        stopping.stop();
    });
    let mut report = Report { seed: scene.seed, ..Report::default() };
    for &transport in transports {
        let (counted, before) = (scene.control.clone(), scene.control.done());
        let shown = Progress::start(transport.name(), each, move || counted.done() - before);
        let tally = one(transport).await?;
        drop(shown);
        report.transports.push(Row { transport: transport.name().to_owned(), tally });
        if scene.control.stopped() {
            break;
        }
    }
    watcher.abort();
    report.took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    report.stopped = scene.control.stopped();
    report::print(&report, server.output);
    if report.stopped {
        out::talk("stopped before the end; the report is of what was done");
        return Ok(Exit::Stopped);
    }
    Ok(judge(&report, expected))
}

/// What must hold in any run, and what was asked for.
fn judge(report: &Report, expected: &Expectations) -> Exit {
    let total = report.total();
    let mut broken = Vec::new();
    for row in &report.transports {
        let lines = expected.broken(&row.tally);
        broken.extend(lines.into_iter().map(|line| format!("{}: {line}", row.transport)));
    }
    if total.wrong_taken > 0 {
        broken.push(format!("{} wrong codes were taken", total.wrong_taken));
    }
    for line in &broken {
        out::talk(format!("not held: {line}"));
    }
    if broken.is_empty() { Exit::Done } else { Exit::Refused }
}

fn expectations(message: &MessageArgs) -> Result<Expectations, End> {
    let Some(text) = &message.expect else { return Ok(Expectations::default()) };
    text.parse().map_err(|fault: simulator::expect::NotUnderstood| {
        End::Usage(format!("--expect {fault}"), "write it like --expect acked=100%,p99<50ms")
    })
}

async fn scene(server: &ServerArgs, message: &MessageArgs, encoding: EncodingArg, confirm: bool) -> Result<Scene, End> {
    let secrets = secrets(&message.secret)?;
    let password = password("CLAIMD_CLIENT__ADMIN_PASSWORD")?;
    let addresses = Addresses {
        mqtt: server.mqtt.clone(),
        ws: server.ws.trim_end_matches("/mqtt").to_owned(),
        coap: server.coap.trim_end_matches("/udp").to_owned(),
        http: server.http.clone(),
    };
    let maker = Maker::sign_in(&server.http, &server.admin_email, &password).await?;
    let seed = server.seed.unwrap_or_else(|| u64::from(std::process::id()) ^ clock());
    let owner = if confirm {
        let account = format!("sim-{:x}@example.com", clock());
        let password = crate::keys::random_password();
        let password = password.ok_or_else(|| End::Usage("the system has no random bytes".to_owned(), ""))?;
        Some(maker.new_owner(&account, &account, password.expose()).await?)
    } else {
        None
    };
    let encoding = match encoding {
        EncodingArg::Json => Encoding::Json,
        EncodingArg::Protobuf => Encoding::Protobuf,
    };
    let (lifetime, control) = (message.lifetime, Control::default());
    Ok(Scene { addresses, maker, owner, secrets, lifetime, encoding, seed, control })
}

fn clock() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

fn transports(which: TransportArg) -> Vec<Transport> {
    match which {
        TransportArg::Mqtt => vec![Transport::Mqtt],
        TransportArg::Mqtt5 => vec![Transport::Mqtt5],
        TransportArg::Ws => vec![Transport::Ws],
        TransportArg::Coap => vec![Transport::Coap],
        TransportArg::Http => vec![Transport::Http],
        TransportArg::All => Transport::ALL.to_vec(),
    }
}

/// Secrets are never arguments: a word says how they are made, or `@` where they are.
fn secrets(text: &str) -> Result<Secrets, End> {
    match text {
        "random" => return Ok(Secrets::Random),
        "none" => return Ok(Secrets::None),
        _ => {}
    }
    let next = "put it in a file and give --secret @FILE, so that it stays out of the shell's history";
    let Some(file) = text.strip_prefix('@') else {
        return Err(End::Usage("--secret takes random, none or @FILE, not the secret itself".to_owned(), next));
    };
    let read = if file == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    let secret = read.map_err(|error| End::Usage(format!("cannot read the secret from {file}: {error}"), next))?;
    Ok(Secrets::Fixed(secret.trim_end_matches(['\r', '\n']).to_owned()))
}

/// From the variable, or from the file that the variable with `_FILE` names.
fn password(variable: &str) -> Result<String, End> {
    let in_file = format!("{variable}_FILE");
    match (std::env::var(variable), std::env::var(&in_file)) {
        (Ok(_), Ok(_)) => Err(End::Usage(format!("{variable} and {in_file} are both set"), "unset one of them")),
        (Ok(password), Err(_)) => Ok(password),
        (Err(_), Ok(file)) => std::fs::read_to_string(&file)
            .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
            .map_err(|error| End::Usage(format!("{in_file}: cannot read {file}: {error}"), "check the path")),
        (Err(_), Err(_)) => {
            let next = "set it, or name a file with the password in the variable that ends in _FILE";
            Err(End::Usage(format!("no password: {variable} is not set"), next))
        }
    }
}
