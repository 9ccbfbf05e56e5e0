//! `claimd serve`: everything at work until a signal, then an orderly end.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use claim::ports::Outbox;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use transport_http::Site;

use crate::build::{self, Bound, Node};
use crate::config::{self, Fault, LogFormat, Settings};
use crate::events::{self, DispatchStats};
use crate::out::{self, Exit};
use crate::steps::Steps;
use crate::supervisor::Supervisor;
use crate::vitals::Vitals;
use crate::{admin, cli, sealer, skew};

/// The addresses really bound, as `--ready-file` writes them.
#[derive(Serialize)]
struct Addresses {
    #[serde(skip_serializing_if = "Option::is_none")]
    mqtt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mqtt_ws: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    coap: Option<String>,
    http: String,
    admin: String,
}

/// Runs the server.
pub(crate) fn run(args: &cli::ServeArgs) -> Exit {
    let started = Instant::now();
    let mut flags = Vec::new();
    if let Some(folder) = &args.data_dir {
        flags.push(("server.data_dir", folder.display().to_string()));
    }
    if let Some(format) = &args.log_format {
        flags.push(("log.format", format.clone()));
    }
    let settings = match config::load(args.config.config.as_deref(), std::env::vars(), &flags) {
        Ok(loaded) => loaded.settings,
        Err(faults) => return refused(&faults),
    };
    if let Err(fault) = start_log(&settings) {
        return refused(&[fault]);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            out::error(format!("cannot start: {error}"), "raise the limit of threads");
            return Exit::Unavailable;
        }
    };
    runtime.block_on(async {
        match build::node(&settings).await {
            Ok(node) => serve(node, &settings, args.ready_file.as_deref(), started).await,
            Err(fault) => refused(&[fault]),
        }
    })
}

fn refused(faults: &[Fault]) -> Exit {
    for fault in faults {
        out::talk(fault.to_string());
    }
    Exit::Usage
}

fn start_log(settings: &Settings) -> Result<(), Fault> {
    let filter = tracing_subscriber::EnvFilter::try_new(&settings.log.level)
        .map_err(|error| Fault::plain(format!("`log.level`: {error}")).next("give error, warn, info or debug"))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match settings.log.format {
        LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| Fault::plain(format!("the log cannot start: {error}")))
}

async fn serve(node: Node, settings: &Settings, ready_file: Option<&Path>, started: Instant) -> Exit {
    let Node {
        clock,
        skew,
        registry,
        keeper,
        sweeper,
        feed,
        imports_wait,
        watch,
        metrics,
        mqtt,
        coap,
        site,
        bound,
        data_dir,
        first_password,
        lock: _lock,
    } = node;
    let Bound { mqtt: mqtt_listener, mqtt_ws, http, admin } = bound;
    let mut signals = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(terminate), Ok(interrupt)) => [terminate, interrupt],
        _ => {
            out::error("cannot wait for signals", "");
            return Exit::Unavailable;
        }
    };
    let stop_dispatch = CancellationToken::new();
    let dispatch = Arc::<DispatchStats>::default();
    // What was committed before this start has no session here to be told of it.
    let since = Outbox::head(&*registry).await.unwrap_or_default();
    let now = {
        let clock = clock.clone();
        move || clock.now()
    };
    let dispatcher = tokio::spawn(events::dispatch(
        registry.clone(),
        feed,
        now.clone(),
        since,
        Arc::clone(&dispatch),
        stop_dispatch.clone(),
    ));
    let seal_errors = Arc::<AtomicU64>::default();
    let sealing = tokio::spawn(sealer::seal(registry.clone(), Arc::clone(&seal_errors), stop_dispatch.clone()));

    let importing =
        tokio::spawn(api::run_imports(registry.clone(), imports_wait, settings.owner_api.imports_kept, Arc::new(now)));
    let measuring =
        tokio::spawn(skew::follow(registry.clone(), clock.clone(), Arc::clone(&skew), stop_dispatch.clone()));

    let steps = Arc::<Steps>::default();
    let watched = Arc::clone(&steps);
    let stepping = tokio::spawn(async move { watched.watch().await });

    let mut listeners = vec![("http", http.stats())];
    listeners.extend(mqtt_listener.as_ref().map(|listener| ("mqtt", listener.stats())));
    listeners.extend(mqtt_ws.as_ref().map(|listener| ("ws", listener.stats())));
    let vitals = Arc::new(Vitals {
        registry: registry.clone(),
        keeper: keeper.clone(),
        metrics,
        skew,
        listeners,
        mqtt: mqtt.stats(),
        coap: coap.as_ref().map(transport_coap::CoapTransport::stats),
        dispatch,
        seal_errors,
        watch: Arc::clone(&watch),
        steps,
        clock,
        data_dir,
        draining: AtomicBool::new(false),
    });
    let admin_site = Site { devices: None, router: admin::router(Arc::clone(&vitals)), limits: site.limits };

    let mqtt_serving = mqtt_listener.map(|listener| mqtt.serve(listener));
    let ws_serving = mqtt_ws.map(|listener| mqtt.serve_websocket(listener));
    let coap_serving = coap.map(transport_coap::CoapTransport::serve);
    let http_serving = transport_http::serve(http, site);
    let admin_serving = transport_http::serve(admin, admin_site);

    let supervisor = Supervisor::of_the_environment();
    let admin_address = admin_serving.local_addr();
    let addresses = Addresses {
        mqtt: mqtt_serving.as_ref().map(|serving| serving.local_addr().to_string()),
        mqtt_ws: ws_serving.as_ref().map(|serving| format!("{}/mqtt", serving.local_addr())),
        coap: coap_serving.as_ref().map(|serving| serving.local_addr().to_string()),
        http: http_serving.local_addr().to_string(),
        admin: admin_address.to_string(),
    };
    banner(
        settings,
        keeper.name(),
        &addresses,
        first_password.as_ref().map(|(email, password)| (email.as_str(), password.expose().as_str())),
    );
    drop(first_password);
    if let Some(path) = ready_file
        && let Err(error) = write_whole(path, &addresses)
    {
        out::error(
            format!("cannot write the ready file {}: {error}", path.display()),
            "give a path that can be written",
        );
        return Exit::Usage;
    }
    let watchdog = match supervisor.watch(admin_address) {
        Ok(watchdog) => watchdog,
        Err(error) => {
            out::error(format!("no thread for the watchdog: {error}"), "raise the limit of threads");
            return Exit::Unavailable;
        }
    };
    supervisor.ready();
    out::talk(format!("ready in {:.1} s", started.elapsed().as_secs_f64()));

    let [terminate, interrupt] = &mut signals;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    supervisor.stopping();
    vitals.draining.store(true, Ordering::Relaxed);
    tokio::time::sleep(settings.server.drain_notice).await;
    // Live views have no end of their own.
    watch.close();
    let grace = settings.server.drain_timeout;
    let ((), (), (), _) = tokio::join!(
        async {
            if let Some(serving) = mqtt_serving {
                serving.drain(grace).await;
            }
        },
        async {
            if let Some(serving) = ws_serving {
                serving.drain(grace).await;
            }
        },
        async {
            if let Some(serving) = coap_serving {
                serving.drain(grace).await;
            }
        },
        http_serving.drain(grace),
    );
    // It has nothing to ask any more; joining it may wait for its last question.
    let _ = tokio::task::spawn_blocking(move || drop(watchdog)).await;
    admin_serving.drain(Duration::from_secs(1)).await;
    supervisor.saving();
    // A hundred rows that are under way are committed or not; the next start goes on.
    importing.abort();
    stepping.abort();
    let _ = importing.await;
    stop_dispatch.cancel();
    let _ = tokio::join!(dispatcher, sealing, measuring);
    drop(vitals);
    // Joins a thread and waits for the disk; nothing else runs any more.
    let closed = tokio::task::spawn_blocking(move || {
        drop(sweeper);
        keeper.close()
    });
    let closed = closed.await;
    registry.end().await;
    match closed {
        Ok(Ok(())) => Exit::Done,
        Ok(Err(error)) => {
            out::error(format!("pending claims could not be saved: {error}"), "check the disk");
            Exit::Unavailable
        }
        Err(_) => Exit::Unavailable,
    }
}

fn banner(settings: &Settings, kind: &str, addresses: &Addresses, first_run: Option<(&str, &str)>) {
    let kind = build::mode(settings, kind);
    let version = env!("CARGO_PKG_VERSION");
    out::data(format!("claimd {version}  {kind}  data {}", settings.server.data_dir));
    let line =
        |name: &str, address: &str, about: &str| out::data(format!("  {name:<6} {address:<19} {about}").trim_end());
    line("http", &addresses.http, "owner API, device HTTP");
    for (name, address) in [("mqtt", &addresses.mqtt), ("ws", &addresses.mqtt_ws)] {
        if let Some(address) = address {
            line(name, address, "");
        }
    }
    if let Some(address) = &addresses.coap {
        line("coap", &format!("{address}/udp"), "");
    }
    line("admin", &addresses.admin, "/healthz /readyz /metrics");
    if let Some((email, password)) = first_run {
        out::data(format!("first run: sign in as `{email}` with password {password} (shown once)"));
    }
}

/// Whole or not at all: whoever waits for the file reads all of it.
fn write_whole(path: &Path, addresses: &Addresses) -> std::io::Result<()> {
    let beside = path.with_extension("partial");
    std::fs::write(&beside, serde_json::to_vec(addresses)?)?;
    std::fs::rename(&beside, path)
}
