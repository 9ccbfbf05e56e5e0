//! What the tests need beyond Rust: Debian packages, and Python packages in a venv under `target/`.
//! Installs only what is missing, and says what it installs before it does.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::{output, root, run, say};

/// A Debian package and the file that shows it is there.
const PACKAGES: &[(&str, &str)] = &[
    ("mosquitto-clients", "/usr/bin/mosquitto_pub"),
    ("libcoap3-bin", "/usr/bin/coap-client-notls"),
    ("libcoap3-dev", "/usr/include/coap3/coap.h"),
    ("pkg-config", "/usr/bin/pkg-config"),
    ("gcc", "/usr/bin/cc"),
    ("curl", "/usr/bin/curl"),
    ("jq", "/usr/bin/jq"),
    ("redis-server", "/usr/bin/redis-server"),
    ("libfaketime", "/usr/share/doc/libfaketime"),
    ("haproxy", "/usr/sbin/haproxy"),
    ("zbar-tools", "/usr/bin/zbarimg"),
    ("nodejs", "/usr/bin/node"),
    ("systemd", "/usr/bin/systemd-analyze"),
    ("prometheus", "/usr/bin/promtool"),
    ("python3", "/usr/bin/python3"),
    ("python3-venv", "/usr/share/doc/python3-venv"),
];

/// The database server; the tests start their own from its binaries.
const POSTGRES: (&str, &str) = ("postgresql-15", "/usr/lib/postgresql/15/bin/postgres");

/// Python packages, pinned: the tests speak through them as strangers do.
const PYTHON: &[&str] =
    &["paho-mqtt==2.2.0", "aiocoap==0.4.17", "tb-mqtt-client==1.13.14", "tb-rest-client==4.4", "mmh3==5.3.1"];

/// What reads the files of `examples/deploy` as their own tools would: the schemas of Kubernetes and of compose. All is named, so
/// nothing else is fetched; docker-compose is there for its schema alone.
const MANIFESTS: &[&str] = &[
    "kubernetes-validate==1.37.0",
    "docker-compose==1.29.2",
    "PyYAML==6.0.4",
    "jsonschema==4.26.0",
    "jsonschema-specifications==2025.9.1",
    "referencing==0.37.0",
    "rpds-py==2026.9.1",
    "attrs==26.1.0",
    "typing_extensions==4.16.0",
    "importlib_resources==7.1.0",
    "packaging==26.4",
];

pub(crate) fn install() -> Result<(), String> {
    debian(PACKAGES)?;
    postgres()?;
    python("venv", PYTHON, &[])?;
    python("venv-manifests", MANIFESTS, &["--no-deps"])
}

/// Debian starts a database server with the installation; nobody here asked for that one.
fn postgres() -> Result<(), String> {
    if Path::new(POSTGRES.1).exists() {
        return Ok(());
    }
    debian(&[POSTGRES])?;
    let running = Path::new("/var/lib/postgresql/15/main/postmaster.pid");
    // As root: its folder is the server's own. One that runs on does no harm to the tests.
    let stop = format!("if test -f {0}; then pg_ctlcluster 15 main stop; fi", running.display());
    if let Err(reason) = run(as_root("sh").args(["-c", &stop])) {
        say(&format!("the database server that came with the installation runs on: {reason}"));
    }
    Ok(())
}

pub(crate) fn debian(packages: &[(&str, &str)]) -> Result<(), String> {
    let missing: Vec<&str> =
        packages.iter().filter(|(_, file)| !Path::new(file).exists()).map(|(package, _)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    say(&format!("== installing Debian packages: {}", missing.join(" ")));
    let hint = |reason: String| format!("{reason}\nhint: install by hand: apt-get install {}", missing.join(" "));
    run(&mut apt(&["update", "-q"])).map_err(hint)?;
    run(apt(&["install", "-q", "-y", "--no-install-recommends"]).args(&missing)).map_err(hint)
}

/// A program as root, or through sudo where we are somebody else.
fn as_root(program: &str) -> Command {
    let root = output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if root {
        Command::new(program)
    } else {
        let mut sudo = Command::new("sudo");
        sudo.arg(program);
        sudo
    }
}

fn apt(arguments: &[&str]) -> Command {
    let mut command = as_root("apt-get");
    // In this run level Debian starts no service that it installs.
    command.args(arguments).envs([("DEBIAN_FRONTEND", "noninteractive"), ("RUNLEVEL", "1")]).stdout(Stdio::null());
    command
}

fn python(name: &str, packages: &[&str], options: &[&str]) -> Result<(), String> {
    let venv = root().join("target").join(name);
    let stamp = venv.join("installed");
    let wanted = packages.join("\n");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    say(&format!("== installing Python packages into target/{name}: {}", packages.join(" ")));
    run(Command::new("/usr/bin/python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    let install = ["install", "--quiet", "--disable-pip-version-check"];
    run(Command::new(venv.join("bin/pip")).args(install).args(options).args(packages))?;
    std::fs::write(&stamp, wanted).map_err(|error| format!("{}: {error}", stamp.display()))
}
