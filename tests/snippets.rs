//! What `claimd snippet` prints is run as it is: with a device name and a secret that mean something to every language, it is
//! refused when it must be and claims when it may, and the line it gives its owner works.

use std::path::Path;
use std::process::{Command, Output};

use crate::guides::blocks;
use crate::harness::live::key_file;
use crate::harness::server::{ADMIN, ADMIN_PASSWORD};
use crate::harness::tools::{program, python, run, said};
use crate::harness::{Made, Server, World, host_port};

const NAME: &str = r#"it's "50%" $HOME \ pump"#;
const SECRET: &str = r#"s3'c"r\et $(reboot) %41 {}"#;

/// Turns a printed program into what runs it.
type Runnable = fn(&str, &Path) -> Command;

fn snippet(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_claimd"));
    run(command.env_clear().arg("snippet").args(arguments), "")
}

fn printed(server: &Server, lang: &str, transport: &str, gateway: bool) -> String {
    let address = match transport {
        "mqtt" => &server.mqtt,
        "coap" => &server.coap,
        _ => &server.http,
    };
    let (host, port) = host_port(address);
    let port = port.to_string();
    let mut arguments =
        vec!["--lang", lang, "--transport", transport, "--device", NAME, "--host", &host, "--port", &port];
    arguments.extend(gateway.then_some("--gateway"));
    let output = snippet(&arguments);
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Runs a snippet three times: as a stranger, as the device (or the gateway that speaks for it), and once it has an owner.
fn plays(lang: &str, transport: &str, gateway: bool, made: Runnable) {
    let server = Server::start();
    let world = World::new(&server);
    let sender = if gateway { world.gateway("gw") } else { world.device(NAME) };
    let text = printed(&server, lang, transport, gateway);
    assert!(!text.contains(&sender.token), "no token in it");
    let folder = tempfile::tempdir().expect("a folder");
    let play = |token: &str| {
        let mut command = made(&text, folder.path());
        command.env("CLAIMD_TOKEN", token).env("CLAIMD_SECRET", SECRET);
        let output = run(&mut command, "");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned(), said(&output))
    };
    let what = format!("{lang} over {transport}, gateway: {gateway}");
    let refused = |(exit, shown, all): (Option<i32>, String, String)| {
        assert_eq!(exit, Some(1), "{what}: {all}");
        assert!(shown.starts_with(&format!("{NAME}: refused: ")), "{what}: {all}");
    };
    refused(play("no-such-token"));
    let (exit, shown, all) = play(&sender.token);
    assert_eq!((exit, &*shown), (Some(0), &*format!("{NAME}: registered\n")), "{what}: {all}");
    confirms(&server, &world, &text, folder.path());
    assert!(owned(&world), "{what}");
    refused(play(&sender.token));
}

/// The owner pastes the line that the snippet has for them.
fn confirms(server: &Server, world: &World, text: &str, folder: &Path) {
    let line = text.lines().find_map(|line| line.split_once("claimd claim confirm ")).expect("the line").1;
    let (key, _) = key_file(&world.alice.client);
    std::fs::write(folder.join("code.txt"), format!("{SECRET}\n")).expect("written");
    let bin = Path::new(env!("CARGO_BIN_EXE_claimd")).parent().expect("a folder");
    let mut shell = program("bash");
    shell.arg("-c").arg(format!("claimd claim confirm {line}")).current_dir(folder).env("PATH", bin);
    shell.env("CLAIMD_CLIENT__URL", format!("http://{}", server.http)).env("CLAIMD_CLIENT__API_KEY_FILE", key.path());
    let output = run(&mut shell, "");
    assert!(output.status.success(), "{line}: {}", said(&output));
}

fn owned(world: &World) -> bool {
    let name = crate::harness::world::encode(NAME);
    let shown = world.maker.get(&format!("/api/tenant/devices?deviceName={name}")).ok();
    let device =
        Made { id: shown["id"]["id"].as_str().expect("an id").to_owned(), name: NAME.to_owned(), token: String::new() };
    world.owner_of(&device).as_ref() == Some(&world.alice.customer)
}

fn saved(text: &str, folder: &Path, name: &str) -> std::path::PathBuf {
    let file = folder.join(name);
    std::fs::write(&file, text).expect("written");
    file
}

fn in_bash(text: &str, folder: &Path) -> Command {
    let mut command = program("bash");
    command.arg(saved(text, folder, "claim.sh"));
    command
}

fn in_python(text: &str, folder: &Path) -> Command {
    let mut command = python();
    command.arg(saved(text, folder, "claim.py"));
    command
}

fn in_node(text: &str, folder: &Path) -> Command {
    let mut command = program("node");
    command.arg(saved(text, folder, "claim.mjs"));
    command
}

fn in_c(text: &str, folder: &Path) -> Command {
    let flags = run(program("pkg-config").args(["--cflags", "--libs", "libcoap-3-notls"]), "");
    assert!(flags.status.success(), "install libcoap3-dev: {}", said(&flags));
    let flags = String::from_utf8(flags.stdout).expect("text");
    let built = folder.join("claim");
    let mut compiler = program("cc");
    compiler.args(["-Wall", "-Wextra", "-Wtrigraphs", "-Werror", "-o"]).arg(&built);
    compiler.arg(saved(text, folder, "claim.c")).args(flags.split_whitespace());
    let compiled = run(&mut compiler, "");
    assert!(compiled.status.success(), "{}", said(&compiled));
    Command::new(built)
}

fn in_rust(text: &str, folder: &Path) -> Command {
    let built = folder.join("claim");
    let mut compiler = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    compiler.args(["--edition", "2021", "-D", "warnings", "-o"]).arg(&built).arg(saved(text, folder, "claim.rs"));
    let compiled = run(&mut compiler, "");
    assert!(compiled.status.success(), "{}", said(&compiled));
    Command::new(built)
}

#[test]
fn shell_snippets_claim_over_three_transports_and_as_a_gateway() {
    plays("shell", "mqtt", false, in_bash);
    plays("shell", "mqtt", true, in_bash);
    plays("shell", "coap", false, in_bash);
    plays("shell", "http", false, in_bash);
}

#[test]
fn silence_is_not_taken_for_success() {
    // It takes what comes and says nothing.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let port = silent.local_addr().expect("an address").port().to_string();
    let output = snippet(&["--lang", "shell", "--transport", "coap", "--device", NAME, "--port", &port]);
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = in_bash(&String::from_utf8_lossy(&output.stdout), folder.path());
    let output = run(command.env("CLAIMD_TOKEN", "token").env("CLAIMD_SECRET", SECRET), "");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("no answer"), "{}", said(&output));
}

#[test]
fn python_snippets_claim_over_three_transports_and_as_a_gateway() {
    plays("python", "mqtt", false, in_python);
    plays("python", "mqtt", true, in_python);
    plays("python", "coap", false, in_python);
    plays("python", "http", false, in_python);
}

#[test]
fn the_c_snippet_compiles_against_libcoap_and_claims() {
    plays("c", "coap", false, in_c);
}

#[test]
fn the_node_snippet_claims() {
    plays("node", "http", false, in_node);
}

#[test]
fn the_rust_snippet_compiles_and_claims() {
    plays("rust", "http", false, in_rust);
}

#[test]
fn the_guide_for_device_authors_runs_as_it_stands() {
    let server = Server::start();
    let world = World::new(&server);
    let folder = tempfile::tempdir().expect("a folder");
    let claimd = Path::new(env!("CARGO_BIN_EXE_claimd"));
    let url = format!("http://{}", server.http);
    for (profile, name, password) in
        [("default", ADMIN, ADMIN_PASSWORD), ("owner", &world.alice.email, &world.alice.password)]
    {
        let mut login = Command::new(claimd);
        login.env_clear().env("XDG_CONFIG_HOME", folder.path());
        login.args(["login", "--url", &url, "--name", name, "--password", "-", "--profile", profile]);
        let output = run(&mut login, password);
        assert!(output.status.success(), "{}", said(&output));
    }
    ["jq", "curl"].iter().for_each(|name| drop(program(name)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(claimd.parent().expect("its folder").to_owned()).chain(std::env::split_paths(&path));
    let mut bash = program("bash");
    bash.env("PATH", std::env::join_paths(folders).expect("a path")).env("XDG_CONFIG_HOME", folder.path());
    bash.current_dir(folder.path()).env("CLAIMD", url).args(["-c", &blocks("devices.md")]);
    let output = run(&mut bash, "");
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    let last: Vec<&str> = text.lines().rev().take(3).collect();
    assert!(last[2].starts_with("submit  bench-1  accepted  new"), "{text}");
    assert!(last[1].starts_with("submit  bench-1  malformed  not_json"), "{text}");
    assert!(last[1].ends_with("expected `:` at line 1 column 14"), "{text}");
    assert!(last[0].starts_with("confirm  bench-1  claimed  pending_claim"), "{text}");
}

#[test]
fn a_snippet_that_there_is_not_is_a_usage_error_with_those_there_are() {
    let output = snippet(&["--lang", "c", "--transport", "mqtt", "--device", "pump-7"]);
    assert_eq!(output.status.code(), Some(2));
    let text = said(&output);
    assert!(
        text.contains("no snippet in c over mqtt") && text.contains("c coap") && text.contains("python http"),
        "{text}"
    );
    let output = snippet(&["--lang", "arduino", "--transport", "mqtt", "--device", "pump-7"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("shell"), "{}", said(&output));
    let output = snippet(&["--help"]);
    insta::assert_snapshot!("help_snippet", String::from_utf8_lossy(&output.stdout));
}
