//! A backup into an empty store.
//!
//! What must not come back with it: sessions, which may have been ended since; and whatever devices announced before this
//! moment, which may have been claimed since. Every device's fence is moved to now, so that announcements of before are void
//! whatever a journal or a shared store still has. Codes live again as they were, unless they are revoked.

use std::path::Path;

use claim::{MasterKey, Secret, Timestamp};

use super::check::{self, ChainState, Sum};
use super::folder::Backup;
use super::manifest::TableSum;
use super::postgres::{self, PostgresTarget, refuse_filled};
use super::sqlite::{self, SqliteTarget};
use super::tables::{TABLES, Table};
use super::value::{Row, Value, at, write_line};
use super::{AUDIT, INSTALL_SECRET, MoveError, PAGE, Rows, Standing, Store, TENANT, Trouble, Walk, Watch, seen};
use crate::keys::{ROOT, ROOT_BOUND};
use crate::sealing::Sealer;

/// How a backup is brought back.
#[derive(Debug)]
pub struct Restore<'a> {
    /// The key that sealed it.
    pub master: &'a MasterKey,
    /// The key before that, if a rotation was not at its end.
    pub before: Option<&'a MasterKey>,
    /// Now: what devices announced up to here is void.
    pub now: Timestamp,
    /// No claim code of the backup works any more.
    pub revoke_codes: bool,
    /// Also with an audit log whose chain is broken.
    pub accept_broken_audit: bool,
    /// Look at everything and write nothing.
    pub dry_run: bool,
}

/// What was brought back.
#[derive(Debug)]
pub struct Restored {
    /// Rows written, or that would be.
    pub rows: u64,
    /// Codes that work again as they did.
    pub codes_live: u64,
    /// Codes that were revoked.
    pub codes_revoked: u64,
    /// The chains of the audit log as it is there now.
    pub audit: ChainState,
}

/// The columns of a device's code.
const CODE: [&str; 6] = ["code_digest", "code_from", "code_until", "code_set_at", "code_any_case", "code_sealed"];

/// Where rows are put.
enum Target {
    Sqlite(SqliteTarget),
    Postgres(Box<PostgresTarget>),
}

/// Takes a page of a table.
type Put<'p> = &'p mut dyn FnMut(&'static Table, &[Row]) -> Result<(), MoveError>;

/// The root of a registry's keyring.
pub(super) enum Root {
    /// There is none: nothing was ever made a digest of.
    Missing,
    /// It opens under none of the keys.
    Foreign,
    Opened(Secret<Vec<u8>>),
}

impl Restore<'_> {
    /// Brings the backup in `from` back into `store`, which must be empty, or an unfinished copy, which is dropped.
    pub fn run(&self, from: &Path, store: &Store, watch: &mut dyn Watch) -> Result<Restored, MoveError> {
        let mut backup = Backup::open(from, watch)?;
        let sealer = Sealer::new(self.master, self.before);
        fits(&mut backup, &sealer)?;
        let audit = backup.chain(watch)?;
        if let Some((seq, what)) = audit.broken.as_ref().filter(|_| !self.accept_broken_audit) {
            let what = format!("the audit log in the backup is broken at row {seq}: {what}");
            let next = "use an older backup, or restore this one all the same with --accept-broken-audit";
            return Err(MoveError::new(Trouble::Damaged, what, next));
        }
        empty(store)?;
        let mut restored = Restored { rows: 0, codes_live: 0, codes_revoked: 0, audit };
        if self.dry_run {
            self.each(&mut backup, watch, &mut restored, &mut |_, _| Ok(()))?;
            return Ok(restored);
        }
        let mut target = match store {
            Store::Sqlite(path) => Target::Sqlite(SqliteTarget::make(path)?),
            Store::Postgres { config, patience } => {
                Target::Postgres(Box::new(PostgresTarget::make(config, *patience, true)?))
            }
        };
        let wanted = self.each(&mut backup, watch, &mut restored, &mut |table, rows| target.insert(table, rows))?;
        let found = check::sums(target.rows(), "verifying", watch)?;
        if let Some((table, _)) = wanted.iter().zip(&found).find(|(wanted, found)| wanted != found) {
            let what = format!("`{}` reads back otherwise than it was written", table.name);
            return Err(MoveError::unavailable(what, "check the store, and restore again"));
        }
        let unopened = target.unopened(&sealer)?;
        if unopened > 0 {
            let what = format!("{unopened} sealed values open under no key: the master key was being replaced then");
            let next = "give the key file of that moment, which has both keys, and restore again";
            return Err(MoveError::new(Trouble::OtherMaster, what, next));
        }
        let deeds = self.deeds(target.rows())?;
        target.finish(&deeds)?;
        let mut here = store.rows()?;
        let mut hashes = store.rows()?;
        restored.audit = check::chain(here.as_mut(), hashes.as_mut(), watch)?;
        Ok(restored)
    }

    /// Hands on what is to be written, page by page; what each table then has.
    fn each(
        &self,
        backup: &mut Backup,
        watch: &mut dyn Watch,
        restored: &mut Restored,
        put: Put<'_>,
    ) -> Result<Vec<TableSum>, MoveError> {
        let mut sums = Vec::with_capacity(TABLES.len());
        for table in &TABLES {
            let (mut sum, mut line, mut page) = (Sum::new(), Vec::new(), Vec::with_capacity(PAGE));
            let mut walk = Walk::start(backup, table, None);
            loop {
                let row = walk.next()?;
                let over = row.is_none();
                if let Some(row) = row.and_then(|row| self.changed(table, row, restored)) {
                    line.clear();
                    write_line(&mut line, &row);
                    sum.take(&line);
                    page.push(row);
                }
                if page.len() == PAGE || (over && !page.is_empty()) {
                    put(table, &page)?;
                    seen(watch, "writing", table, page.len())?;
                    page.clear();
                }
                if over {
                    break;
                }
            }
            restored.rows += sum.rows;
            sums.push(sum.end(table));
        }
        Ok(sums)
    }

    /// A row as it is to be; `None`: it stays behind.
    fn changed(&self, table: &Table, mut row: Row, restored: &mut Restored) -> Option<Row> {
        match table.name {
            "session" => return None,
            "device" => {
                let now = self.now.as_millis();
                let fence = at(table, &row, "claim_reset_at").whole().map_or(now, |fence| fence.max(now));
                put(table, &mut row, "claim_reset_at", Value::Whole(fence));
                if *at(table, &row, "code_digest") == Value::Null {
                    return Some(row);
                }
                if self.revoke_codes {
                    CODE.iter().for_each(|column| put(table, &mut row, column, Value::Null));
                    restored.codes_revoked += 1;
                } else {
                    restored.codes_live += 1;
                }
            }
            _ => {}
        }
        Some(row)
    }

    /// A row of the audit log for each tenant: its log ends before what happened last, and this says why.
    fn deeds(&self, rows: &mut dyn Rows) -> Result<Vec<Row>, MoveError> {
        let audit = AUDIT;
        let text = |text: &str| Value::Text(text.to_owned());
        let mut deeds = Vec::new();
        let mut walk = Walk::start(rows, TENANT, None);
        while let Some(tenant) = walk.next()? {
            let mut row = vec![Value::Null; audit.columns.len()];
            for (column, value) in [
                ("at", Value::Whole(self.now.as_millis())),
                ("tenant", tenant[0].clone()),
                ("actor_kind", text("install")),
                ("actor", Value::Id([0; 16])),
                ("action", text("registry.restored")),
                ("outcome", text("done")),
                ("reason", text(if self.revoke_codes { "codes revoked" } else { "" })),
                ("evidence", text("none")),
                ("count", Value::Whole(1)),
                ("charged", Value::Flag(false)),
                ("origin", text("cli")),
                ("request_id", Value::Whole(0)),
            ] {
                put(audit, &mut row, column, value);
            }
            deeds.push(row);
        }
        Ok(deeds)
    }
}

fn put(table: &Table, row: &mut Row, column: &str, value: Value) {
    if let Some(place) = table.position(column).and_then(|position| row.get_mut(position)) {
        *place = value;
    }
}

/// Whether the master key is the one that the backup was sealed under.
fn fits(backup: &mut Backup, sealer: &Sealer) -> Result<(), MoveError> {
    match root(backup, sealer)? {
        Root::Missing | Root::Opened(_) => Ok(()),
        Root::Foreign => Err(MoveError::new(
            Trouble::OtherMaster,
            "the backup was sealed under another master key; nothing was written",
            "put the key file of its install at `server.master_key_file`; without it no backup can be used",
        )),
    }
}

pub(super) fn root(rows: &mut dyn Rows, sealer: &Sealer) -> Result<Root, MoveError> {
    let mut walk = Walk::start(rows, INSTALL_SECRET, None);
    while let Some(row) = walk.next()? {
        if row[0].text() == Some(ROOT) {
            let sealed = row.iter().find_map(Value::bytes).unwrap_or_default();
            return Ok(sealer.open(&ROOT_BOUND, sealed).map_or(Root::Foreign, Root::Opened));
        }
    }
    Ok(Root::Missing)
}

/// Whether a store may be written to.
fn empty(store: &Store) -> Result<(), MoveError> {
    match store.standing()? {
        Standing::Nothing | Standing::Unfinished => Ok(()),
        Standing::Schema { found, known } if found == known => {
            let counts = match store {
                Store::Sqlite(path) => sqlite::counts(path)?,
                Store::Postgres { config, patience } => postgres::counts(config, *patience)?,
            };
            refuse_filled(&store.place(), &counts)
        }
        other => Err(MoveError::of_standing(&store.place(), other)),
    }
}

impl Target {
    fn insert(&mut self, table: &'static Table, rows: &[Row]) -> Result<(), MoveError> {
        match self {
            Self::Sqlite(target) => target.insert(table, rows),
            Self::Postgres(target) => match target.insert(table, rows)? {
                true => Ok(()),
                false => Err(MoveError::damaged(format!("rows of `{}` contradict each other", table.name))),
            },
        }
    }

    fn rows(&mut self) -> &mut dyn Rows {
        match self {
            Self::Sqlite(target) => target,
            Self::Postgres(target) => target.as_mut(),
        }
    }

    fn unopened(&self, sealer: &Sealer) -> Result<u64, MoveError> {
        match self {
            Self::Sqlite(target) => target.unopened(sealer),
            Self::Postgres(target) => target.unopened(sealer),
        }
    }

    fn finish(self, audit: &[Row]) -> Result<(), MoveError> {
        match self {
            Self::Sqlite(mut target) => target.finish(audit),
            Self::Postgres(target) => target.finish(audit),
        }
    }
}
