//! Every example runs as its README says, and what it says is held against what the server recorded.

use std::path::PathBuf;
use std::process::Command;

use crate::harness::tools::{program, python, root, run, said};
use crate::harness::{Client, Made, Server, World, eventually};

/// What the examples read from their environment.
fn environment(command: &mut Command, server: &Server, device: &Made, world: &World) {
    command.env("CLAIMD_MQTT", &server.mqtt).env("CLAIMD_COAP", &server.coap).env("CLAIMD_HTTP", &server.http);
    command.env("DEVICE_TOKEN", &device.token).env("DEVICE_NAME", &device.name).env("CLAIM_SECRET", "s3cret");
    command.env("OWNER_EMAIL", &world.alice.email).env("OWNER_PASSWORD", &world.alice.password);
}

fn output(mut command: Command, server: &Server, device: &Made, world: &World) -> String {
    environment(&mut command, server, device, world);
    let output = run(&mut command, "");
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn example(path: &str) -> PathBuf {
    root().join("examples").join(path)
}

fn state(server: &Server, device: &Made) -> String {
    let shown = Client::stranger(&server.http).get(&format!("/api/v1/{}/claim", device.token)).ok();
    shown["claimState"].as_str().expect("a state").to_owned()
}

#[test]
fn the_shell_examples_claim_over_three_transports_and_give_back() {
    let server = Server::start();
    let world = World::new(&server);
    let device = world.device("shell-device");
    let script = |name: &str| {
        let mut command = program("bash");
        command.arg(example("shell").join(name));
        command
    };
    let said = output(script("device.sh"), &server, &device, &world);
    assert_eq!(said, "mqtt: registered\ncoap: registered\nhttp: registered\n");
    let accepted = "claimd_submissions_total{transport=\"";
    for transport in ["mqtt", "coap", "http"] {
        let line = format!("{accepted}{transport}\",source=\"device\",outcome=\"accepted\"}}");
        assert_eq!(server.metric(&line), 1.0, "{transport}");
    }
    let said = output(script("owner.sh"), &server, &device, &world);
    assert_eq!(said, "shell-device is mine\nshell-device is nobody's\n");
    assert_eq!(world.owner_of(&device), None);
}

#[test]
fn the_python_device_waits_until_the_python_owner_has_claimed_it() {
    let server = Server::start();
    let world = World::new(&server);
    let device = world.device("python device/1");
    let script = |name: &str| {
        let mut command = python();
        command.arg(example("python").join(name));
        command
    };
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| output(script("mqtt_device.py"), &server, &device, &world));
        eventually("the claim is pending", || (state(&server, &device) == "PENDING").then_some(()));
        assert_eq!(output(script("owner.py"), &server, &device, &world), "SUCCESS\n");
        assert_eq!(waiting.join().expect("the device"), "registered\nclaimed\n");
    });
    assert_eq!(world.owner_of(&device), Some(world.alice.customer.clone()));
    assert!(output(script("owner.py"), &server, &device, &world).contains("CLAIMED"));
}

#[test]
fn the_python_coap_device_and_gateway_are_registered() {
    let server = Server::start();
    let world = World::new(&server);
    let device = world.device("coap-device");
    let gateway = world.gateway("gateway");
    let mut coap = python();
    coap.arg(example("python/coap_device.py"));
    assert_eq!(output(coap, &server, &device, &world), "registered\n");
    let mut script = python();
    script.arg(example("python/gateway.py"));
    assert_eq!(output(script, &server, &gateway, &world), "2 registered, refused: {}\n");
    for name in ["coap-device", "child-1", "child-2"] {
        assert_eq!(world.alice.client.claim(name, "s3cret").status, 200, "{name}");
    }
}

#[test]
fn the_rust_examples_claim() {
    let server = Server::start();
    let world = World::new(&server);
    let device = world.device("rust-device");
    let built = |name: &str| {
        let path = PathBuf::from(env!("CARGO_BIN_EXE_claimd")).with_file_name("examples").join(name);
        assert!(path.exists(), "build the examples first: `cargo build --examples`, as `cargo xtask test` does");
        Command::new(path)
    };
    assert_eq!(output(built("device"), &server, &device, &world), "registered\n");
    assert_eq!(output(built("owner"), &server, &device, &world), "SUCCESS\n");
    assert_eq!(world.owner_of(&device), Some(world.alice.customer));
}

#[test]
fn the_c_example_builds_and_claims() {
    let server = Server::start();
    let world = World::new(&server);
    let device = world.device("c-device");
    let folder = tempfile::tempdir().expect("a folder");
    let flags = run(program("pkg-config").args(["--cflags", "--libs", "libcoap-3-notls"]), "");
    assert!(flags.status.success(), "install libcoap3-dev: {}", said(&flags));
    let flags = String::from_utf8(flags.stdout).expect("text");
    let built = folder.path().join("device");
    let mut compiler = program("cc");
    compiler.args(["-Wall", "-Werror", "-o"]).arg(&built).arg(example("c/device.c")).args(flags.split_whitespace());
    let compiled = run(&mut compiler, "");
    assert!(compiled.status.success(), "{}", said(&compiled));
    assert_eq!(output(Command::new(&built), &server, &device, &world), "registered\n");
    assert_eq!(world.alice.client.claim("c-device", "s3cret").status, 200);
    let stranger = Made { token: "wrong".to_owned(), ..device };
    let mut command = Command::new(&built);
    environment(&mut command, &server, &stranger, &world);
    let refused = run(&mut command, "");
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("4.01"), "{}", said(&refused));
}
