//! Manifests of secure elements: imported when their signer is trusted, and claimed like any other device.

use serde_json::{Value, json};
use testkit::manifest::{Flaw, Form, Maker, Part, manifest};

use crate::harness::desk::Desk;
use crate::harness::tools::said;

struct Files {
    folder: tempfile::TempDir,
    maker: Maker,
}

impl Files {
    fn new() -> Self {
        let files = Self { folder: tempfile::tempdir().expect("a folder"), maker: Maker::default() };
        std::fs::write(files.path("signers.pem"), files.maker.log_signers()).expect("written");
        std::fs::write(files.path("roots.pem"), files.maker.roots()).expect("written");
        files
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn write(&self, entries: &[Value]) -> String {
        std::fs::write(self.path("manifest.json"), manifest(entries)).expect("written");
        self.path("manifest.json")
    }

    /// A desk at a server that believes this maker.
    fn desk(&self) -> Desk {
        let (signers, roots) = (self.path("signers.pem"), self.path("roots.pem"));
        let (desk, _) = Desk::with(&[("CLAIMD_MANIFEST__LOG_SIGNERS", &signers), ("CLAIMD_MANIFEST__ROOTS", &roots)]);
        desk.ok("maker", &["application", "create", "spring-26"]);
        desk.ok("alice", &["application", "create", "my-house"]);
        desk
    }
}

fn eui(number: u16) -> String {
    format!("0004A30B0000{number:04X}")
}

#[test]
fn a_manifests_parts_are_imported_given_codes_and_claimed() {
    let files = Files::new();
    let desk = files.desk();
    let parts = [Part::new(1, Form::Serial), Part::new(2, Form::Name(eui(2))), Part::new(3, Form::Alternative(eui(3)))];
    let file = files.write(&parts.each_ref().map(|part| files.maker.entry(part)));
    let import = ["import", &file, "--format", "microchip", "--application", "spring-26"];
    let codes = ["--generate-codes", "--codes-out", "codes.csv"];
    let imported = desk.say("maker", &[&import[..], &codes[..]].concat(), "");
    assert!(imported.status.success(), "{}", said(&imported));
    assert!(String::from_utf8_lossy(&imported.stderr).contains("imported 3 rows"), "{}", said(&imported));
    let codes = std::fs::read_to_string(desk.file("codes.csv")).expect("codes");
    let rows: Vec<Vec<&str>> = codes.lines().skip(1).map(|line| line.split(';').collect()).collect();
    // The early part has no DevEUI yet; the others are claimed by their labels.
    assert_eq!(rows[0][1], "");
    for row in &rows[1..] {
        assert_eq!((row[0], row[2]), (format!("eui-{}", row[1].to_lowercase()).as_str(), "70B3D57ED0000000"));
        let device = desk.ok("maker", &["device", "get", "spring-26", row[0]]);
        assert!(device["externalId"].as_str().is_some_and(|id| id.len() == 18), "{device}");
        assert_eq!(device["rootKeysExposed"], json!(false));
        // A P-256 SubjectPublicKeyInfo: 91 bytes.
        assert_eq!(device["publicKey"].as_str().map(str::len), Some(124), "{device}");
        assert!(device["texts"]["secure_element_model"].is_string(), "{device}");
        let claimed = desk.say("alice", &["device", "claim", "my-house", "--qr", "-"], row[6]);
        assert!(claimed.status.success(), "{}", said(&claimed));
    }
    // The same once more changes nothing; the format is known from the file.
    let again = desk.say("maker", &["import", &file, "--application", "spring-26"], "");
    assert!(String::from_utf8_lossy(&again.stderr).contains(": 3 unchanged"), "{}", said(&again));
    let other = ["--join-eui", "0004A30B00000000", "--dry-run"];
    let moved = desk.exit("maker", &[&import[..], &other[..]].concat());
    assert!(moved.0 == 1 && moved.1.contains("2 refused"), "claimed devices keep their JoinEUI: {}", moved.1);
}

#[test]
fn a_manifest_that_nobody_vouches_for_is_refused_with_its_reason() {
    let files = Files::new();
    let desk = files.desk();
    let part = |n| Part::new(n, Form::Name(eui(n)));
    let forged = Maker::default();
    let file = files.write(&[
        files.maker.entry(&part(1)),
        forged.entry(&part(2)),
        files.maker.flawed(&part(3), Flaw::ALL[0]),
        files.maker.entry(&part(1)),
    ]);
    let refused = desk.say("maker", &["import", &file, "--application", "spring-26"], "");
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    let faults: Vec<Value> = String::from_utf8_lossy(&refused.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .filter(|fault: &Value| fault["status"] == "failed")
        .collect();
    let codes: Vec<(i64, String)> = faults
        .iter()
        .map(|fault| (fault["row"].as_i64().expect("a row"), fault["code"].as_str().expect("a code").to_owned()))
        .collect();
    assert_eq!(codes[0], (2, "manifest_unknown_signer".to_owned()), "{faults:?}");
    assert!(codes.iter().any(|(row, code)| *row == 3 && code.starts_with("manifest_")), "{faults:?}");
    assert!(codes.contains(&(4, "manifest_dev_eui".to_owned())), "{faults:?}");
    // Cut off, and at a server that believes nobody.
    let whole = std::fs::read_to_string(&file).expect("the file");
    std::fs::write(&file, &whole[..whole.len() - 40]).expect("written");
    let cut = desk.exit("maker", &["import", &file, "--application", "spring-26"]);
    assert!(cut.0 == 2 && cut.1.contains("byte "), "{}", cut.1);
    let (stranger, _) = Desk::new();
    std::fs::write(&file, whole).expect("written");
    let untrusted = stranger.exit("maker", &["import", &file, "--application", "default"]);
    assert!(untrusted.0 == 2 && untrusted.1.contains("manifest.log_signers"), "{}", untrusted.1);
}
