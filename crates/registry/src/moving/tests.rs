//! Round trips of a registry with something in every column of every table, and what goes wrong on the way.

mod filled;
mod following;
mod postgres_schema;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use claim::{MasterKey, Timestamp};

use super::tables::TABLES;
use super::value::{Row, Value, at};
use super::*;
use crate::postgres::PostgresRegistry;
use crate::sealing::Sealer;
use crate::sqlite::SqliteRegistry;
use filled::{another_postgres, fill_postgres, filled};

const PATIENCE: Duration = Duration::from_secs(30);
const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// Whoever watches, and stops it after some calls.
struct Until(u64);

impl Watch for Until {
    fn rows(&mut self, _: &'static str, _: &'static str, _: u64) -> bool {
        self.0 = self.0.saturating_sub(1);
        self.0 > 0
    }
}

/// Who never stops it.
struct On;

impl Watch for On {
    fn rows(&mut self, _: &'static str, _: &'static str, _: u64) -> bool {
        true
    }
}

fn master(byte: u8) -> MasterKey {
    MasterKey::from_bytes(&[byte; 32])
}

fn note() -> Note {
    Note { claimd: "0.0.0".to_owned(), created: "2026-01-01T00:00:00Z".to_owned() }
}

fn restore(master: &MasterKey) -> Restore<'_> {
    Restore { master, before: None, now: NOW, revoke_codes: false, accept_broken_audit: false, dry_run: false }
}

/// Every row of every table.
fn everything(store: &Store) -> BTreeMap<&'static str, Vec<Row>> {
    let mut rows = store.rows().unwrap();
    let mut all = BTreeMap::new();
    for table in &TABLES {
        let mut walk = Walk::start(rows.as_mut(), table, None);
        let of_table: &mut Vec<Row> = all.entry(table.name).or_default();
        while let Some(row) = walk.next().unwrap() {
            of_table.push(row);
        }
    }
    all
}

/// Whether `after` is what a restore makes of `before`.
fn assert_restored(before: &Store, after: &Store, case: &str) {
    let (before, after) = (everything(before), everything(after));
    for table in &TABLES {
        let (old, new) = (&before[table.name], &after[table.name]);
        match table.name {
            "session" => assert!(!old.is_empty() && new.is_empty(), "{case}: nobody stays signed in"),
            "audit" => {
                assert!(new[..old.len()] == old[..], "{case}: the log goes on");
                assert_eq!(new.len(), old.len() + before["tenant"].len(), "{case}: a row a tenant says what happened");
                assert!(at(table, &new[old.len()], "action").text() == Some("registry.restored"), "{case}");
            }
            "device" => {
                let fence = table.position("claim_reset_at").unwrap();
                assert!(new.iter().all(|row| row[fence].whole() >= Some(NOW.as_millis())), "{case}: void before now");
                let without = |rows: &[Row]| -> Vec<Row> {
                    rows.iter()
                        .cloned()
                        .map(|mut row| {
                            row[fence] = Value::Null;
                            row
                        })
                        .collect()
                };
                assert!(without(old) == without(new), "{case}: devices");
            }
            name => assert!(old == new, "{case}: {name}"),
        }
    }
}

/// A store of each kind, filled with the same, and an empty one of each kind.
fn stores(folder: &Path) -> ([Store; 2], impl Fn(usize, &str) -> Store + use<'_>) {
    let sqlite = filled(&folder.join("filled"));
    let postgres = another_postgres();
    fill_postgres(&sqlite, &postgres);
    let empty = |kind: usize, name: &str| match kind {
        0 => {
            fs::create_dir(folder.join(name)).unwrap();
            Store::Sqlite(folder.join(name).join("registry.db"))
        }
        _ => another_postgres(),
    };
    ([sqlite, postgres], empty)
}

fn opens(store: &Store) -> Result<(), String> {
    match store {
        Store::Sqlite(path) => {
            let config = Config::default();
            let opened = SqliteRegistry::open(&config, path.parent().unwrap(), &master(1), None, PATIENCE);
            opened.map(|registry| registry.close()).map_err(|error| format!("{error}; {}", error.next))
        }
        Store::Postgres { config, patience } => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            let opened = runtime.block_on(PostgresRegistry::open(config, &master(1), None, *patience));
            let closed = opened.map(|registry| runtime.block_on(registry.close()));
            closed.map_err(|error| format!("{error}; {}", error.next))
        }
    }
}

#[test]
fn a_backup_of_either_store_is_restored_into_either_store_with_every_column_of_every_table() {
    let folder = tempfile::tempdir().unwrap();
    let (from, empty) = stores(folder.path());
    let key = master(1);
    let mut manifests = Vec::new();
    for (source, store) in from.iter().enumerate() {
        let backup = folder.path().join(format!("backup-{source}"));
        let manifest = back_up(store, &backup, &note(), &mut On).unwrap();
        assert_eq!(manifest.tables.len(), TABLES.len());
        assert!(manifest.tables.iter().all(|table| table.rows > 0), "{:?}", manifest.tables);
        assert_eq!(manifest.audit.broken, None);
        assert!(manifest.audit.sealed > 0);
        for target in 0..2 {
            let case = format!("{source} to {target}");
            let to = empty(target, &case);
            let dry = Restore { dry_run: true, ..restore(&key) }.run(&backup, &to, &mut On).unwrap();
            assert_eq!(to.standing().unwrap(), Standing::Nothing, "{case}: a dry run writes nothing");
            let restored = restore(&key).run(&backup, &to, &mut On).unwrap();
            assert_eq!((dry.rows, dry.codes_live), (restored.rows, restored.codes_live), "{case}");
            assert_eq!(restored.audit.broken, None, "{case}");
            assert_restored(store, &to, &case);
            opens(&to).unwrap();
        }
        manifests.push(manifest);
    }
    assert_eq!(manifests[0].tables, manifests[1].tables, "equal tables have equal hashes in every store");
}

#[test]
fn a_backup_is_its_owner_s_alone_and_sha256sum_finds_it_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (store, backup) = (filled(&folder.path().join("filled")), folder.path().join("backup"));
    back_up(&store, &backup, &note(), &mut On).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&backup), 0o700);
    let files: Vec<PathBuf> = fs::read_dir(&backup).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), TABLES.len() + 2);
    assert!(files.iter().all(|file| mode(file) == 0o600));
    let checked = std::process::Command::new("sha256sum").args(["-c", "SHA256SUMS"]).current_dir(&backup).output();
    assert!(checked.unwrap().status.success());
    let ended = folder.path().join("with-a-slash/");
    back_up(&store, &ended, &note(), &mut On).unwrap();
    assert_eq!(fs::read_dir(&ended).unwrap().count(), TABLES.len() + 2);
    let again = back_up(&store, &backup, &note(), &mut On).unwrap_err();
    assert_eq!(again.trouble, Trouble::Conflict);
    // What a stopped one left is in nobody's way; what is somebody else's stays.
    for calls in [1, 20, 40] {
        let to = folder.path().join(format!("stopped-{calls}"));
        assert_eq!(back_up(&store, &to, &note(), &mut Until(calls)).unwrap_err().trouble, Trouble::Stopped);
        assert!(!to.exists());
        fs::create_dir(folder.path().join(format!("stopped-{calls}.partial"))).unwrap();
        fs::write(folder.path().join(format!("stopped-{calls}.partial/device.jsonl")), "torn").unwrap();
        back_up(&store, &to, &note(), &mut On).unwrap();
    }
    fs::create_dir(folder.path().join("other.partial")).unwrap();
    fs::write(folder.path().join("other.partial/letter"), "mine").unwrap();
    assert!(back_up(&store, &folder.path().join("other"), &note(), &mut On).is_err());
    assert!(folder.path().join("other.partial/letter").exists());
}

#[test]
fn a_changed_byte_in_any_file_is_found_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (store, backup) = (filled(&folder.path().join("filled")), folder.path().join("backup"));
    back_up(&store, &backup, &note(), &mut On).unwrap();
    let target = folder.path().join("target");
    fs::create_dir(&target).unwrap();
    let to = Store::Sqlite(target.join("registry.db"));
    let key = master(1);
    let mut tried = 0;
    for entry in fs::read_dir(&backup).unwrap() {
        let path = entry.unwrap().path();
        let good = fs::read(&path).unwrap();
        for place in [0, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[place] ^= 1;
            fs::write(&path, bad).unwrap();
            let error = restore(&key).run(&backup, &to, &mut On).unwrap_err();
            assert!(matches!(error.trouble, Trouble::Damaged | Trouble::Unfit), "{path:?} {place}: {error}");
            assert_eq!(fs::read_dir(&target).unwrap().count(), 0, "{path:?}");
            tried += 1;
        }
        fs::remove_file(&path).unwrap();
        assert!(restore(&key).run(&backup, &to, &mut On).is_err(), "{path:?} is missing");
        fs::write(&path, good).unwrap();
    }
    assert!(tried >= 3 * TABLES.len());
    restore(&key).run(&backup, &to, &mut On).unwrap();
}

#[test]
fn a_store_with_anything_in_it_and_another_master_key_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (from, empty) = stores(folder.path());
    let backup = folder.path().join("backup");
    back_up(&from[0], &backup, &note(), &mut On).unwrap();
    for (kind, filled) in from.iter().enumerate() {
        let before = everything(filled);
        let error = restore(&master(1)).run(&backup, filled, &mut On).unwrap_err();
        assert!(error.trouble == Trouble::Conflict && error.what.contains("device: "), "{error}");
        assert!(everything(filled) == before);
        let to = empty(kind, "target");
        let error = restore(&master(2)).run(&backup, &to, &mut On).unwrap_err();
        assert_eq!(error.trouble, Trouble::OtherMaster, "{error}");
        assert_eq!(to.standing().unwrap(), Standing::Nothing);
    }
}

#[test]
fn a_restore_that_was_stopped_is_no_registry_and_is_done_again() {
    let folder = tempfile::tempdir().unwrap();
    let (from, empty) = stores(folder.path());
    let backup = folder.path().join("backup");
    back_up(&from[0], &backup, &note(), &mut On).unwrap();
    let key = master(1);
    for kind in 0..2 {
        let to = empty(kind, "target");
        let mut unfinished = 0;
        for calls in (1..).step_by(3) {
            match restore(&key).run(&backup, &to, &mut Until(calls)) {
                Ok(_) => break,
                Err(error) => assert_eq!(error.trouble, Trouble::Stopped, "{error}"),
            }
            match to.standing().unwrap() {
                Standing::Nothing => continue,
                Standing::Unfinished => unfinished += 1,
                // Only looking at the result was stopped.
                Standing::Schema { .. } => break,
                other => panic!("{other:?}"),
            }
            let refused = opens(&to).unwrap_err();
            assert!(refused.contains("not finished") && refused.contains("claimd restore"), "{refused}");
        }
        assert!(unfinished >= 8, "stopped at {unfinished} places");
        assert_restored(&from[0], &to, "in the end");
        opens(&to).unwrap();
    }
}

#[test]
fn codes_live_again_or_are_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let (from, empty) = stores(folder.path());
    let backup = folder.path().join("backup");
    back_up(&from[1], &backup, &note(), &mut On).unwrap();
    let key = master(1);
    let kept = restore(&key).run(&backup, &empty(0, "kept"), &mut On).unwrap();
    assert!(kept.codes_live > 0 && kept.codes_revoked == 0);
    let to = empty(0, "revoked");
    let revoked = Restore { revoke_codes: true, ..restore(&key) }.run(&backup, &to, &mut On).unwrap();
    assert_eq!((revoked.codes_live, revoked.codes_revoked), (0, kept.codes_live));
    let all = everything(&to);
    let devices = TABLES.iter().find(|table| table.name == "device").unwrap();
    for column in ["code_digest", "code_sealed", "code_set_at", "code_from", "code_until", "code_any_case"] {
        assert!(all["device"].iter().all(|row| *at(devices, row, column) == Value::Null), "{column}");
    }
    let reason = at(AUDIT, all["audit"].last().unwrap(), "reason");
    assert_eq!(reason.text(), Some("codes revoked"));
}

#[test]
fn a_broken_audit_chain_is_told_and_restored_only_when_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder.path().join("filled"));
    let Store::Sqlite(path) = &store else { unreachable!() };
    let tampered = rusqlite::Connection::open(path).unwrap();
    tampered.execute_batch("DROP TRIGGER audit_no_update; UPDATE audit SET reason = 'other' WHERE seq = 2").unwrap();
    drop(tampered);
    let backup = folder.path().join("backup");
    let manifest = back_up(&store, &backup, &note(), &mut On).unwrap();
    assert!(manifest.audit.broken.as_ref().is_some_and(|(seq, _)| *seq == 2), "{:?}", manifest.audit);
    let to = Store::Sqlite(folder.path().join("registry.db"));
    let key = master(1);
    let error = restore(&key).run(&backup, &to, &mut On).unwrap_err();
    assert!(error.trouble == Trouble::Damaged && error.what.contains("row 2"), "{error}");
    let restored = Restore { accept_broken_audit: true, ..restore(&key) }.run(&backup, &to, &mut On).unwrap();
    assert_eq!(restored.audit.broken, manifest.audit.broken);
}

#[test]
fn values_under_the_key_before_open_with_both_keys_only() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder.path().join("filled"));
    let Store::Sqlite(path) = &store else { unreachable!() };
    // As in the middle of a rotation: the root is under the new key, the rest is not.
    let connection = rusqlite::Connection::open(path).unwrap();
    let (old, new) = (master(1), master(2));
    let sealed: Vec<u8> = connection.query_row("SELECT sealed FROM install_secret", [], |row| row.get(0)).unwrap();
    let clear = Sealer::new(&old, None).open(&crate::keys::ROOT_BOUND, &sealed).unwrap();
    let sealed = Sealer::new(&new, None).seal(&crate::keys::ROOT_BOUND, clear.expose()).unwrap();
    connection.execute("UPDATE install_secret SET sealed = ?1", [sealed]).unwrap();
    drop(connection);
    let backup = folder.path().join("backup");
    back_up(&store, &backup, &note(), &mut On).unwrap();
    for to in [Store::Sqlite(folder.path().join("registry.db")), another_postgres()] {
        let error = restore(&new).run(&backup, &to, &mut On).unwrap_err();
        assert_eq!(error.trouble, Trouble::OtherMaster, "{error}");
        assert_eq!(to.standing().unwrap(), Standing::Unfinished);
        Restore { before: Some(&old), ..restore(&new) }.run(&backup, &to, &mut On).unwrap();
    }
}
