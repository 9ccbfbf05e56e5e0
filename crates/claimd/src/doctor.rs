//! `claimd doctor`: what a server needs of its machine and its stores, looked at one by one, each with a fix. It changes
//! nothing, so it may be run before the first start and beside a server that runs; only `--self-claim` makes something, and
//! takes it away again.

mod files;
mod host;
mod owner;
mod ports;
mod stores;

use std::io::IsTerminal;
use std::path::PathBuf;

use serde::Serialize;

use crate::cli::{DoctorArgs, Form};
use crate::config::{self, Loaded};
use crate::out::{self, Exit};
use crate::remote;

/// One thing that was looked at.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    check: String,
    state: State,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// The server runs; something is going to hurt.
    Warn,
    /// The server does not start, or does not do what it is for.
    Fault,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Warn => "warn",
            State::Fault => "fault",
        }
    }
}

impl Check {
    pub(crate) fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        Self { check: check.into(), state: State::Ok, found: found.into(), next: None }
    }

    fn warn(check: impl Into<String>, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { check: check.into(), state: State::Warn, found: found.into(), next: Some(next.into()) }
    }

    pub(crate) fn fault(check: impl Into<String>, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { check: check.into(), state: State::Fault, found: found.into(), next: Some(next.into()) }
    }
}

#[derive(Serialize)]
struct Findings {
    faults: usize,
    warnings: usize,
    checks: Vec<Check>,
}

/// Looks at everything. Exits with 0 when nothing is at fault, with 1 when something is.
pub(crate) fn run(args: &DoctorArgs) -> Exit {
    let mut flags = Vec::new();
    if let Some(folder) = &args.data_dir {
        flags.push(("server.data_dir", folder.display().to_string()));
    }
    let loaded = match config::load(args.config.config.as_deref(), std::env::vars(), &flags) {
        Ok(loaded) => loaded,
        Err(faults) => {
            faults.iter().for_each(|fault| out::talk(fault.to_string()));
            return Exit::Usage;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            out::error(format!("cannot start: {error}"), "raise the limit of threads");
            return Exit::Unavailable;
        }
    };
    let mut checks = looked_at(args, &loaded, &runtime);
    if args.self_claim {
        checks.extend(remote::self_claim(&args.profile, addresses(args, &loaded)));
    }
    let count = |state| checks.iter().filter(|check| check.state == state).count();
    let findings = Findings { faults: count(State::Fault), warnings: count(State::Warn), checks };
    print(&findings, args.output);
    if findings.faults > 0 { Exit::Refused } else { Exit::Done }
}

fn looked_at(args: &DoctorArgs, loaded: &Loaded, runtime: &tokio::runtime::Runtime) -> Vec<Check> {
    let settings = &loaded.settings;
    let data_dir = PathBuf::from(&settings.server.data_dir);
    let mut checks = files::checks(loaded, args.config.config.as_deref(), &data_dir);
    checks.extend(ports::checks(settings));
    checks.extend(host::checks(settings, &data_dir, ports::server(settings)));
    checks.extend(runtime.block_on(stores::checks(settings, &data_dir)));
    checks
}

/// Where devices reach the server: as its ready file says, else as it is configured.
fn addresses(args: &DoctorArgs, loaded: &Loaded) -> simulator::Addresses {
    let settings = &loaded.settings;
    let ready = args.ready_file.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
    let ready: serde_json::Value = ready.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let address = |name: &str, configured: &str| {
        let address = ready[name].as_str().unwrap_or(configured).trim_end_matches("/mqtt");
        address.parse().map_or_else(|_| address.to_owned(), |bound| crate::supervisor::from_here(bound).to_string())
    };
    simulator::Addresses {
        mqtt: address("mqtt", &settings.mqtt.bind),
        ws: address("mqtt_ws", &settings.mqtt.ws_bind),
        coap: address("coap", &settings.coap.bind),
        http: address("http", &settings.http.bind),
    }
}

fn print(findings: &Findings, form: Form) {
    let json = match form {
        Form::Json => true,
        Form::Table => false,
        Form::Auto => !std::io::stdout().is_terminal(),
    };
    if json {
        return out::data(serde_json::to_string_pretty(findings).unwrap_or_default());
    }
    let width = findings.checks.iter().map(|check| check.check.len()).max().unwrap_or(0);
    for Check { check, state, found, next } in &findings.checks {
        out::data(format!("{:<5}  {check:<width$}  {found}", state.name()));
        if let Some(next) = next {
            out::data(format!("{:<5}  {:<width$}  next  {next}", "", ""));
        }
    }
    out::data(match (findings.faults, findings.warnings) {
        (0, 0) => "all is well".to_owned(),
        (faults, warnings) => format!("faults {faults}, warnings {warnings}"),
    });
}
