//! The makers' and the owners' guide, run as they stand: one shell session of all their `sh` blocks.

use std::process::Command;

use serde_json::Value;

use crate::harness::server::{ADMIN, ADMIN_PASSWORD};
use crate::harness::tools::{program, root, run, said};
use crate::harness::{Server, World};

/// All `sh` blocks of a page, one after the other.
pub fn blocks(page: &str) -> String {
    first_blocks(page, usize::MAX)
}

/// The first ones.
fn first_blocks(page: &str, most: usize) -> String {
    let text = std::fs::read_to_string(root().join("docs").join(page)).expect("the page");
    let blocks: Vec<&str> =
        text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().expect("the end of the block")).collect();
    assert!(blocks.len() >= 4, "{page} has {} blocks", blocks.len());
    format!("set -eu -o pipefail\n{}", blocks[..blocks.len().min(most)].join("\n"))
}

#[test]
fn a_maker_hands_devices_over_and_an_owner_takes_them_as_the_guides_say() {
    let server = Server::start();
    let world = World::new(&server);
    let folder = tempfile::tempdir().expect("a folder");
    let shell = |script: &str| -> Command {
        // What the pages ask for besides a shell.
        program("jq");
        program("curl");
        let mut bash = program("bash");
        let binary = std::path::Path::new(env!("CARGO_BIN_EXE_claimd")).parent().expect("its folder");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(binary.to_owned()).chain(std::env::split_paths(&path));
        bash.env("PATH", std::env::join_paths(folders).expect("a path")).env("XDG_CONFIG_HOME", folder.path());
        bash.current_dir(folder.path()).env("CLAIMD", format!("http://{}", server.http)).args(["-c", script]);
        bash
    };
    let session = |page: &str| shell(&blocks(page));
    let maker = run(session("makers.md").env("MAKER_NAME", ADMIN).env("MAKER_PASSWORD", ADMIN_PASSWORD), "");
    assert!(maker.status.success(), "{}", said(&maker));
    let owner = &world.alice;
    let taken = run(session("owners.md").env("OWNER_NAME", &owner.email).env("OWNER_PASSWORD", &owner.password), "");
    assert!(taken.status.success(), "{}", said(&taken));
    // Somebody new, with the link that the maker's session printed.
    let link = std::fs::read_to_string(folder.path().join("link.json")).expect("the link");
    let link: Value = serde_json::from_str(&link).expect("JSON");
    let mut new = shell(&first_blocks("owners.md", 1));
    new.env("OWNER_NAME", "installer@waterworks.example").env("OWNER_PASSWORD", "a password of their own");
    let new = run(new.env("LINK", link["activationLink"].as_str().expect("a link")), "");
    assert!(new.status.success(), "{}", said(&new));
    // What the server has on record.
    let device = |id: &str| world.maker.get(&format!("/api/claimd/v1/applications/spring-26/devices/{id}")).ok();
    assert_eq!(device("pump-2")["owner"], owner.customer.as_str());
    assert_eq!(
        (&device("pump-1")["owner"], &device("pump-1")["code"]),
        (&Value::Null, &Value::Null),
        "given back, spent"
    );
    assert_eq!(device("pump-3")["code"], Value::Null, "deleted");
    assert_eq!(device("pump-4")["frozen"], true);
    let image = std::fs::read(folder.path().join("pump-1.png")).expect("the label");
    assert!(image.starts_with(b"\x89PNG"));
    let codes = folder.path().join("codes.csv");
    let mode = std::os::unix::fs::PermissionsExt::mode(&codes.metadata().expect("the codes").permissions());
    assert_eq!(mode & 0o777, 0o600, "for their maker only");
}
