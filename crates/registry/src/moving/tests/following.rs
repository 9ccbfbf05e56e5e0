//! From SQLite to PostgreSQL, with a source that goes on changing.

use super::*;
use filled::{another_postgres, filled, id};

struct Moving {
    source: PathBuf,
    target: Store,
    _folder: tempfile::TempDir,
}

impl Moving {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let Store::Sqlite(source) = filled(&folder.path().join("filled")) else { unreachable!() };
        Self { source, target: another_postgres(), _folder: folder }
    }

    fn config(&self) -> &PostgresConfig {
        let Store::Postgres { config, .. } = &self.target else { unreachable!() };
        config
    }

    fn start(&self, afresh: bool) -> Result<Follow<'_>, MoveError> {
        Follow::start(&self.source, self.config(), PATIENCE, (&master(1), None), afresh)
    }

    fn change(&self, sql: &str) {
        let connection = rusqlite::Connection::open(&self.source).unwrap();
        connection.execute_batch(&format!("PRAGMA foreign_keys = ON; BEGIN; {sql} COMMIT;")).unwrap();
    }

    fn assert_moved(&self) {
        let source = Store::Sqlite(self.source.clone());
        let refused = opens(&source).unwrap_err();
        assert!(refused.contains("was moved to PostgreSQL") && refused.contains("--undo"), "{refused}");
        let after = everything(&self.target);
        undo(&self.source).unwrap();
        assert!(everything(&source) == after);
        opens(&source).unwrap();
        opens(&self.target).unwrap();
    }
}

/// Passes until both sides are equal; how many there were.
fn until_equal(follow: &mut Follow<'_>) -> u32 {
    for passes in 1..20 {
        if follow.pass(&mut On).unwrap().equal() {
            return passes;
        }
    }
    panic!("never equal");
}

fn hex(table: &str, n: i64) -> String {
    super::super::check::hex(&id(table, n))
}

#[test]
fn a_copy_follows_whatever_changes_at_its_source() {
    let moving = Moving::new();
    let mut follow = moving.start(false).unwrap();
    assert_eq!(until_equal(&mut follow), 2, "copied, then compared");
    let device = |n| hex("device", n);
    moving.change(&format!(
        // A device takes the EUI of one that goes, another one takes its own; what is written and removed beside that.
        "CREATE TEMP TABLE kept AS SELECT id, dev_eui FROM device;
         DELETE FROM device WHERE id = x'{2}';
         UPDATE device SET dev_eui = (SELECT dev_eui FROM kept WHERE id = x'{2}') WHERE id = x'{1}';
         UPDATE device SET dev_eui = (SELECT dev_eui FROM kept WHERE id = x'{1}'), version = version + 1 WHERE id = x'{0}';
         INSERT INTO audit (at, tenant, actor_kind, actor, action, outcome, reason, evidence, count, charged, origin, request_id)
             SELECT 1, id, 'account', id, 'confirm', 'claimed', '', 'none', 1, 0, 'api', 0 FROM tenant;
         DELETE FROM outbox WHERE seq = 1;
         DELETE FROM session;
         DELETE FROM import WHERE rid = 5;
         UPDATE remembered SET rid = rid + 100;
         UPDATE import SET id = randomblob(16) WHERE rid = 4;",
        device(0),
        device(1),
        device(2),
    ));
    let first = follow.pass(&mut On).unwrap();
    assert!(first.changed > 0 && first.aside > 0, "what does not fit yet is set aside: {}", first.aside);
    assert!(until_equal(&mut follow) >= 2);
    moving.change(&format!(
        "CREATE TEMP TABLE kept AS SELECT id, dev_eui FROM device WHERE id IN (x'{0}', x'{1}');
         UPDATE device SET dev_eui = NULL WHERE id IN (x'{0}', x'{1}');
         UPDATE device SET dev_eui = (SELECT dev_eui FROM kept WHERE kept.id <> device.id) WHERE id IN (x'{0}', x'{1}');",
        device(0),
        device(3),
    ));
    let mut passes = (0..10).map(|_| follow.pass(&mut On));
    let error = passes.find_map(Result::err).expect("what goes round fits in no order");
    assert!(error.trouble == Trouble::Conflict && error.next.contains("--afresh"), "{error}");
    drop(follow);
    let mut again = moving.start(true).unwrap();
    until_equal(&mut again);
    again.finish().unwrap();
    moving.assert_moved();
}

#[test]
fn a_move_that_is_stopped_anywhere_is_no_registry_and_goes_on() {
    let moving = Moving::new();
    let mut stops = 0;
    for calls in (1..).step_by(3) {
        let mut follow = moving.start(false).unwrap();
        let mut watch = Until(calls);
        let equal = match follow.pass(&mut watch) {
            Ok(pass) if pass.equal() => true,
            Ok(_) => follow.pass(&mut watch).is_ok_and(|pass| pass.equal()),
            Err(error) => {
                assert_eq!(error.trouble, Trouble::Stopped, "{error}");
                false
            }
        };
        if equal {
            follow.finish().unwrap();
            break;
        }
        drop(follow);
        stops += 1;
        assert_eq!(moving.target.standing().unwrap(), Standing::Unfinished);
        assert!(opens(&moving.target).unwrap_err().contains("not finished"));
        opens(&Store::Sqlite(moving.source.clone())).unwrap();
    }
    assert!(stops >= 8, "{stops}");
    moving.assert_moved();
}

#[test]
fn a_move_that_was_killed_before_its_last_step_is_finished_by_the_next() {
    let moving = Moving::new();
    let mut follow = moving.start(false).unwrap();
    until_equal(&mut follow);
    drop(follow);
    sqlite::mark_moved(&moving.source, true).unwrap();
    let mut follow = moving.start(false).unwrap();
    assert_eq!(until_equal(&mut follow), 1);
    follow.finish().unwrap();
    for target in [&moving.target, &another_postgres()] {
        let Store::Postgres { config, .. } = target else { unreachable!() };
        let error = Follow::start(&moving.source, config, PATIENCE, (&master(1), None), false).map(drop).unwrap_err();
        assert!(error.trouble == Trouble::Unfit && error.what.contains("was moved"), "{error}");
    }
    moving.assert_moved();
    let error = moving.start(false).map(drop).unwrap_err();
    assert!(error.trouble == Trouble::Conflict && error.what.contains("not empty"), "{error}");
}

#[test]
fn only_an_empty_database_or_its_own_unfinished_copy_is_a_target() {
    let (moving, other) = (Moving::new(), Moving::new());
    let follow = moving.start(false).unwrap();
    let at_once = moving.start(false).map(drop).unwrap_err();
    assert!(at_once.trouble == Trouble::Conflict && at_once.what.contains("at work"), "{at_once}");
    drop(follow);
    let mut follow = moving.start(false).unwrap();
    follow.pass(&mut On).unwrap();
    drop(follow);
    let into = |afresh| Follow::start(&other.source, moving.config(), PATIENCE, (&master(1), None), afresh).map(drop);
    let foreign = into(false).unwrap_err();
    assert!(foreign.trouble == Trouble::Conflict && foreign.what.contains("another install"), "{foreign}");
    into(true).unwrap();
    // Somebody else's tables are not dropped.
    let theirs = another_postgres();
    let Store::Postgres { config, patience } = &theirs else { unreachable!() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ask = |sql: &str| {
        let sql = sql.to_owned();
        runtime.block_on(async {
            let client = crate::postgres::connect_alone(config, *patience).await.unwrap();
            client.batch_execute(&sql).await.unwrap();
        });
    };
    ask("CREATE TABLE device (mine TEXT); INSERT INTO device VALUES ('x')");
    assert!(Follow::start(&other.source, config, PATIENCE, (&master(1), None), true).is_err());
    ask("INSERT INTO device SELECT mine FROM device");
    let key = Follow::start(&other.source, other.config(), PATIENCE, (&master(2), None), false).map(drop).unwrap_err();
    assert_eq!(key.trouble, Trouble::OtherMaster);
    // Looking changes nothing.
    let (sums, standing) = Follow::look(&other.source, other.config(), PATIENCE, &mut On).unwrap();
    assert!(standing == Standing::Nothing && sums.iter().all(|table| table.rows > 0));
    assert_eq!(other.target.standing().unwrap(), Standing::Nothing);
    other.change("UPDATE device SET label = 'a' || char(0) || 'b' WHERE rid = 1;");
    for error in [
        Follow::look(&other.source, other.config(), PATIENCE, &mut On).map(drop).unwrap_err(),
        other.start(false).unwrap().pass(&mut On).map(drop).unwrap_err(),
    ] {
        assert!(error.trouble == Trouble::Unfit && error.what.contains("`label`"), "{error}");
    }
}
