//! What `examples/deploy` offers, held against what reads it: schemas of compose and Kubernetes, claimd's own settings, the
//! image's file system.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::eventually;
use crate::harness::tools::{root, run, said};

/// The files as their own tools read them; see `tests/clients/manifests.py`.
fn manifests() -> Value {
    let python = root().join("target/venv-manifests/bin/python");
    assert!(python.exists(), "the environment {} is missing; run `cargo xtask test`", python.display());
    let read = run(Command::new(python).arg(root().join("tests/clients/manifests.py")).arg(root()), "");
    assert!(read.status.success(), "{}", said(&read));
    serde_json::from_slice(&read.stdout).expect("JSON")
}

/// The settings of a map of YAML.
fn settings(map: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    map.as_object().expect("a map").iter().map(|(key, value)| (key.clone(), text(value))).collect()
}

/// `ENV` of the Dockerfile.
fn image_settings() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(root().join("Dockerfile")).expect("the Dockerfile").replace("\\\n", " ");
    let lines = text.lines().filter_map(|line| line.strip_prefix("ENV "));
    lines
        .flat_map(str::split_whitespace)
        .filter_map(|pair| pair.split_once('='))
        .map(|(k, v)| (k.into(), v.into()))
        .collect()
}

/// Secrets as `make-secrets.sh` makes them.
fn secrets(folder: &Path) -> PathBuf {
    let folder = folder.join("secrets");
    let script = root().join("examples/deploy/compose/make-secrets.sh");
    let made = run(Command::new("sh").arg(&script).arg(&folder), "");
    assert!(made.status.success(), "{}", said(&made));
    assert!(!run(Command::new("sh").arg(&script).arg(&folder), "").status.success(), "not a second time");
    for (name, mode) in
        [("master.key", 0o600), ("registry.url", 0o600), ("redis.url", 0o600), ("admin.password", 0o600)]
    {
        let meta = folder.join(name).metadata().expect(name);
        assert_eq!(meta.permissions().mode() & 0o777, mode, "{name}");
    }
    assert_eq!(folder.metadata().expect("the folder").permissions().mode() & 0o777, 0o700);
    assert_eq!(std::fs::read(folder.join("master.key")).expect("the key").len(), 32);
    folder
}

/// Whether claimd takes these settings.
fn check(settings: &BTreeMap<String, String>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_claimd"));
    let checked = run(command.env_clear().arg("check-config").envs(settings), "");
    assert!(checked.status.success(), "{settings:?}\n{}", said(&checked));
}

#[test]
fn compose_and_kubernetes_hold_to_their_schemas_and_to_claimds_settings() {
    let folder = tempfile::tempdir().expect("a folder");
    let secrets = secrets(folder.path()).display().to_string();
    let manifests = manifests();
    let here = |settings: BTreeMap<String, String>, mounted: &str| -> BTreeMap<String, String> {
        settings.into_iter().map(|(key, value)| (key, value.replace(mounted, &secrets))).collect()
    };
    check(&image_settings());
    let services = manifests["compose"]["services"].as_object().expect("services");
    let nodes: Vec<&Value> = services.values().filter(|service| service["image"] == "claimd").collect();
    assert_eq!(nodes.len(), 2);
    for node in nodes {
        let mut all = image_settings();
        all.extend(here(settings(&node["environment"]), "/run/secrets"));
        check(&all);
        // Every file that is named is mounted.
        for (key, value) in
            settings(&node["environment"]).iter().filter(|(_, value)| value.starts_with("/run/secrets/"))
        {
            let name = value.trim_start_matches("/run/secrets/");
            assert!(node["secrets"].as_array().expect("secrets").iter().any(|secret| secret == name), "{key}");
        }
        assert_eq!((&node["read_only"], &node["cap_drop"][0]), (&Value::from(true), &Value::from("ALL")));
    }
    let trusted = &services["claimd-1"]["environment"]["CLAIMD_PROXY__TRUSTED"];
    assert_eq!(&services["haproxy"]["networks"]["claimd"]["ipv4_address"], trusted, "the balancer is whom nodes trust");

    let kubernetes = manifests["kubernetes"].as_array().expect("documents");
    let one = |kind: &str| {
        let mut of_kind = kubernetes.iter().filter(|document| document["kind"] == kind);
        of_kind.next().unwrap_or_else(|| panic!("no {kind}"))
    };
    let mut all = image_settings();
    let given = settings(&one("ConfigMap")["data"]);
    all.extend(here(given.clone(), "/etc/claimd/secrets"));
    check(&all);
    let pod = &one("Deployment")["spec"]["template"];
    let container = &pod["spec"]["containers"][0];
    // A drain ends before its pod is killed.
    let seconds = |key: &str| given[key].trim_end_matches('s').parse::<u64>().expect("seconds");
    let drain = seconds("CLAIMD_SERVER__DRAIN_NOTICE") + seconds("CLAIMD_SERVER__DRAIN_TIMEOUT");
    assert!(pod["spec"]["terminationGracePeriodSeconds"].as_u64().expect("seconds") > drain + 5);
    // Ports are where the image listens, and every service leads to one of them.
    let ports: BTreeMap<&str, u64> = container["ports"]
        .as_array()
        .expect("ports")
        .iter()
        .map(|port| (port["name"].as_str().expect("a name"), port["containerPort"].as_u64().expect("a number")))
        .collect();
    for (name, key) in [
        ("http", "HTTP__BIND"),
        ("mqtt", "MQTT__BIND"),
        ("mqtt-ws", "MQTT__WS_BIND"),
        ("coap", "COAP__BIND"),
        ("admin", "ADMIN__BIND"),
    ] {
        assert!(all[&format!("CLAIMD_{key}")].ends_with(&format!(":{}", ports[name])), "{name}");
    }
    let labels = &pod["metadata"]["labels"];
    for service in kubernetes.iter().filter(|document| document["kind"] == "Service") {
        assert_eq!(&service["spec"]["selector"], labels);
        for port in service["spec"]["ports"].as_array().expect("ports") {
            assert!(ports.contains_key(port["targetPort"].as_str().expect("a name")), "{port}");
        }
    }
    assert_eq!(&one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"], labels);
    // What a key file may be: root's, lent to the pod's group.
    let volumes = pod["spec"]["volumes"].as_array().expect("volumes");
    assert!(volumes.iter().any(|volume| volume["secret"]["defaultMode"] == 0o440));
    assert_eq!(pod["spec"]["securityContext"]["fsGroup"], pod["spec"]["securityContext"]["runAsGroup"]);
}

#[test]
fn images_are_named_without_a_registry() {
    let manifests = manifests();
    let mut images: Vec<String> = Vec::new();
    let text = std::fs::read_to_string(root().join("Dockerfile")).expect("the Dockerfile");
    images.extend(text.lines().filter_map(|line| line.strip_prefix("FROM ")?.split(' ').next()).map(str::to_owned));
    let services = manifests["compose"]["services"].as_object().expect("services").values();
    images.extend(services.filter_map(|service| service["image"].as_str()).map(str::to_owned));
    for document in manifests["kubernetes"].as_array().expect("documents") {
        let containers = document["spec"]["template"]["spec"]["containers"].as_array().into_iter().flatten();
        images.extend(containers.filter_map(|container| container["image"].as_str()).map(str::to_owned));
    }
    assert!(images.len() >= 7, "{images:?}");
    for image in images {
        let first = image.split('/').next().unwrap_or_default();
        assert!(!image.contains('/') || !first.contains(['.', ':']), "`{image}` names a registry");
    }
}

/// A program in the file system of the image, as the image's user where that can be.
fn in_image(image: &Path) -> Command {
    let root = run(Command::new("id").arg("-u"), "").stdout == b"0\n";
    let mut command = Command::new(if root { "chroot" } else { "unshare" });
    match root {
        true => command.arg("--userspec=65532:65532"),
        false => command.args(["--map-root-user", "chroot"]),
    };
    command.arg(image).arg("/usr/local/bin/claimd").env_clear().envs(image_settings());
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

#[test]
fn the_image_has_all_that_claimd_needs_and_no_shell() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("a mode");
    let image = folder.path().join("image");
    let script = root().join("examples/deploy/image/assemble.sh");
    let assembled = run(Command::new("sh").arg(script).arg(env!("CARGO_BIN_EXE_claimd")).arg(&image), "");
    assert!(assembled.status.success(), "{}", said(&assembled));
    assert!(!image.join("bin/sh").exists() && !image.join("usr/bin").exists());
    let version = run(in_image(&image).arg("version"), "");
    assert!(version.status.success() && said(&version).starts_with("claimd "), "{}", said(&version));
    // It serves there, and the image's own probe finds it well.
    let mut server = in_image(&image);
    server.args(["serve", "--ready-file", "/var/lib/claimd/ready.json"]);
    for key in ["HTTP__BIND", "MQTT__BIND", "MQTT__WS_BIND", "COAP__BIND", "ADMIN__BIND"] {
        server.env(format!("CLAIMD_{key}"), "127.0.0.1:0");
    }
    let mut server = server.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().expect("claimd");
    let ready: Value = eventually("claimd serves in its image", || {
        assert!(server.try_wait().expect("a status").is_none(), "claimd ended");
        serde_json::from_slice(&std::fs::read(image.join("var/lib/claimd/ready.json")).ok()?).ok()
    });
    let probe = run(in_image(&image).args(["health", "--ready", "--admin", ready["admin"].as_str().expect("it")]), "");
    let (well, answer) = (probe.status.success(), said(&probe));
    server.kill().expect("killed");
    server.wait().expect("an end");
    assert!(well, "{answer}");
}
