//! From SQLite to PostgreSQL while the server runs: a copy that follows its source, pass by pass.
//!
//! A pass takes one moment of the source and goes through both sides in the order of keys; what differs is put right. So a
//! pass can be stopped anywhere and another one goes on; and a pass that finds no difference has compared every row. The last
//! passes are made when nobody writes to the source any more. Rows of append-only tables that a pass of this run found equal are not read
//! again.
//!
//! A row may not fit yet: it has a name that another row still has in the copy. It is set aside for the next pass.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use claim::MasterKey;

use super::check::Sum;
use super::manifest::TableSum;
use super::postgres::{self, PostgresTarget, Session};
use super::restore::{Root, root};
use super::sqlite::{self, SqliteRows};
use super::tables::{TABLES, Table};
use super::value::{Row, Value, write_line};
use super::{MoveError, PAGE, Standing, Store, Trouble, Walk, Watch, seen};
use crate::postgres::PostgresConfig;
use crate::sealing::Sealer;

/// Passes in a row that may leave something aside without putting anything right.
const FRUITLESS: u32 = 2;

/// A copy that follows its source.
pub struct Follow<'a> {
    source: PathBuf,
    config: &'a PostgresConfig,
    patience: Duration,
    target: PostgresTarget,
    /// Of append-only tables, up to where both sides are known to be equal.
    settled: HashMap<&'static str, Settled>,
    fruitless: u32,
}

#[derive(Clone)]
struct Settled {
    key: Vec<Value>,
    source: Sum,
    target: Sum,
}

/// What a pass has seen and done.
#[derive(Debug)]
pub struct Pass {
    /// Rows put right.
    pub changed: u64,
    /// Rows that did not fit yet.
    pub aside: u64,
    /// The tables of the source.
    pub source: Vec<TableSum>,
    /// The tables of the copy as they were before the pass.
    pub target: Vec<TableSum>,
}

impl Pass {
    /// Whether both sides were the same, row by row.
    pub fn equal(&self) -> bool {
        self.changed == 0 && self.aside == 0 && self.source == self.target
    }

    /// Rows of the source.
    pub fn rows(&self) -> u64 {
        self.source.iter().map(|table| table.rows).sum()
    }
}

impl<'a> Follow<'a> {
    /// Looks at both sides and writes nothing: what the source has, and whether there is a copy to go on with.
    pub fn look(
        source: &Path,
        config: &PostgresConfig,
        patience: Duration,
        watch: &mut dyn Watch,
    ) -> Result<(Vec<TableSum>, Standing), MoveError> {
        let mut rows = current(source, false)?;
        let target = Session::open(config, patience)?.standing()?;
        match target {
            Standing::Nothing | Standing::Unfinished => {}
            Standing::Schema { found, known } if found == known => {
                let place = crate::postgres::place(config, patience);
                postgres::refuse_filled(&place, &postgres::counts(config, patience)?)?;
            }
            other => return Err(MoveError::of_standing(&crate::postgres::place(config, patience), other)),
        }
        let sums = super::check::each_row(&mut rows, "reading", watch, |table, _, row| storable(table, &row))?;
        Ok((sums, target))
    }

    /// Takes an empty database, or its own unfinished copy, as the target; `afresh` drops any unfinished copy first.
    pub fn start(
        source: &Path,
        config: &'a PostgresConfig,
        patience: Duration,
        keys: (&MasterKey, Option<&MasterKey>),
        afresh: bool,
    ) -> Result<Self, MoveError> {
        let sealer = Sealer::new(keys.0, keys.1);
        let goes_on = Session::open(config, patience)?.standing()? == Standing::Unfinished && !afresh;
        // A run that was stopped before its very end has marked the source.
        let mut rows = current(source, goes_on)?;
        let Root::Opened(here) = root(&mut rows, &sealer)? else {
            let next =
                "give the key file of this install with `server.master_key_file`; start its server once if it is new";
            return Err(MoveError::new(Trouble::OtherMaster, "the master key does not open the registry", next));
        };
        if goes_on {
            let own = match root(&mut PostgresTarget::rows(config, patience)?, &sealer)? {
                Root::Missing => true,
                Root::Foreign => false,
                Root::Opened(there) => there.expose() == here.expose(),
            };
            if !own {
                let place = crate::postgres::place(config, patience);
                let what = format!("{place} holds an unfinished copy of another install");
                return Err(MoveError::new(
                    Trouble::Conflict,
                    what,
                    "name another database, or drop that copy with --afresh",
                ));
            }
        }
        let target = PostgresTarget::make(config, patience, afresh)?;
        let source = source.to_owned();
        Ok(Self { source, config, patience, target, settled: HashMap::new(), fruitless: 0 })
    }

    /// One pass; see the module's head.
    pub fn pass(&mut self, watch: &mut dyn Watch) -> Result<Pass, MoveError> {
        let mut source = SqliteRows::open(&self.source)?;
        let mut before = PostgresTarget::rows(self.config, self.patience)?;
        let mut pass = Pass { changed: 0, aside: 0, source: Vec::new(), target: Vec::new() };
        let mut gone = Vec::new();
        for table in &TABLES {
            let from = self.settled.get(table.name).cloned();
            let work = Work { table, target: &mut self.target, gone: &mut gone, waiting: Vec::new(), pass: &mut pass };
            let settled = work.run(&mut source, &mut before, from, watch)?;
            if let Some(settled) = settled.filter(|_| table.append_only) {
                self.settled.insert(table.name, settled);
            }
        }
        // What others refer to goes last.
        for (table, key) in gone.into_iter().rev() {
            match self.target.remove(table, &key)? {
                true => pass.changed += 1,
                false => pass.aside += 1,
            }
        }
        self.fruitless = if pass.aside > 0 && pass.changed == 0 { self.fruitless + 1 } else { 0 };
        if self.fruitless >= FRUITLESS {
            let what = format!("{} rows fit into the copy in no order", pass.aside);
            return Err(MoveError::new(
                Trouble::Conflict,
                what,
                "copy everything again with --afresh, best with the server stopped",
            ));
        }
        Ok(pass)
    }

    /// The last step, when a pass has found both sides equal and nobody has written since: the source is marked as moved, so
    /// that no server starts on it by mistake, then the copy is a registry.
    pub fn finish(self) -> Result<(), MoveError> {
        sqlite::mark_moved(&self.source, true)?;
        self.target.finish(&[])
    }
}

/// Takes the mark of a move away from a source: it is the registry again, as it was then.
pub fn undo(source: &Path) -> Result<(), MoveError> {
    match sqlite::standing(source)? {
        Standing::Moved => sqlite::mark_moved(source, false),
        other => {
            let what = format!("the registry {} {other}: it was not moved", source.display());
            Err(MoveError::new(Trouble::Conflict, what, "start the server as it is"))
        }
    }
}

/// The source, of the schema that this program knows; `marked`: it may be marked as moved.
fn current(source: &Path, marked: bool) -> Result<SqliteRows, MoveError> {
    match sqlite::standing(source)? {
        Standing::Moved if marked => SqliteRows::open(source),
        Standing::Schema { found, known } if found == known => SqliteRows::open(source),
        Standing::Nothing => {
            let what = format!("there is no registry at {}", source.display());
            Err(MoveError::new(Trouble::Unfit, what, Standing::Nothing.next()))
        }
        other => Err(MoveError::of_standing(&source.display().to_string(), other)),
    }
}

/// PostgreSQL keeps no U+0000 in a text.
fn storable(table: &'static Table, row: &[Value]) -> Result<(), MoveError> {
    let odd = row.iter().position(|value| value.text().is_some_and(|text| text.contains('\0')));
    odd.map_or(Ok(()), |position| {
        let column = table.columns[position].name;
        let what = format!("a row of `{}` has U+0000 in `{column}`, which PostgreSQL does not keep", table.name);
        Err(MoveError::new(Trouble::Unfit, what, "write that text anew without it"))
    })
}

/// One table of a pass.
struct Work<'w> {
    table: &'static Table,
    target: &'w mut PostgresTarget,
    gone: &'w mut Vec<(&'static Table, Vec<Value>)>,
    /// New rows, to be added together.
    waiting: Vec<Row>,
    pass: &'w mut Pass,
}

impl Work<'_> {
    fn run(
        mut self,
        source: &mut SqliteRows,
        before: &mut postgres::PostgresRows,
        from: Option<Settled>,
        watch: &mut dyn Watch,
    ) -> Result<Option<Settled>, MoveError> {
        let table = self.table;
        let (mut settled, mut differs) = (from.clone(), false);
        let (after, mut ours, mut theirs) = match from {
            Some(from) => (Some(from.key), from.source, from.target),
            None => (None, Sum::new(), Sum::new()),
        };
        let mut here = Walk::start(source, table, after.clone());
        let mut there = Walk::start(before, table, after);
        let (mut line, mut other_line, mut told) = (Vec::new(), Vec::new(), 0);
        let (mut row, mut other) = (here.next()?, there.next()?);
        loop {
            let order = match (&row, &other) {
                (None, None) => break,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(row), Some(other)) => row[..table.key].cmp(&other[..table.key]),
            };
            if order.is_le()
                && let Some(row) = &row
            {
                line.clear();
                write_line(&mut line, row);
                ours.take(&line);
            }
            if order.is_ge()
                && let Some(other) = &other
            {
                other_line.clear();
                write_line(&mut other_line, other);
                theirs.take(&other_line);
            }
            let same = order.is_eq() && row == other;
            differs |= !same;
            match (order, row.take(), other.take()) {
                (std::cmp::Ordering::Less, Some(new), rest) => {
                    other = rest;
                    self.add(new)?;
                    row = here.next()?;
                }
                (std::cmp::Ordering::Greater, rest, Some(old)) => {
                    row = rest;
                    self.gone.push((table, old[..table.key].to_vec()));
                    other = there.next()?;
                }
                (_, Some(new), Some(old)) => {
                    if !same {
                        self.replace(&new, &old)?;
                    } else if !differs && table.append_only {
                        let key = new[..table.key].to_vec();
                        settled = Some(Settled { key, source: ours.clone(), target: theirs.clone() });
                    }
                    (row, other) = (here.next()?, there.next()?);
                }
                _ => break,
            }
            told += 1;
            if told == PAGE {
                seen(watch, "copying", table, told)?;
                told = 0;
            }
        }
        self.flush()?;
        seen(watch, "copying", table, told)?;
        self.pass.source.push(ours.end(table));
        self.pass.target.push(theirs.end(table));
        Ok(settled)
    }

    fn add(&mut self, row: Row) -> Result<(), MoveError> {
        storable(self.table, &row)?;
        self.waiting.push(row);
        if self.waiting.len() == PAGE { self.flush() } else { Ok(()) }
    }

    /// Adds what waits: together, or if one does not fit, each by itself.
    fn flush(&mut self) -> Result<(), MoveError> {
        let rows = std::mem::take(&mut self.waiting);
        if rows.is_empty() {
            return Ok(());
        }
        if self.target.insert(self.table, &rows)? {
            self.pass.changed += rows.len() as u64;
            return Ok(());
        }
        for row in &rows {
            let fits = self.target.put(self.table, row)?;
            self.count(fits);
        }
        Ok(())
    }

    fn replace(&mut self, new: &Row, old: &Row) -> Result<(), MoveError> {
        storable(self.table, new)?;
        // A number that the store draws cannot be changed in place.
        let drawn = |position: usize| self.table.drawn(&self.table.columns[position]);
        let renumbered = (self.table.key..new.len()).any(|position| drawn(position) && new[position] != old[position]);
        let fits = (!renumbered || self.target.remove(self.table, &new[..self.table.key])?)
            && self.target.put(self.table, new)?;
        self.count(fits);
        Ok(())
    }

    fn count(&mut self, fits: bool) {
        match fits {
            true => self.pass.changed += 1,
            false => self.pass.aside += 1,
        }
    }
}

impl Store {
    /// Where the rows of a server on SQLite are; `None`: it has PostgreSQL already.
    pub fn sqlite_path(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(path) => Some(path),
            Self::Postgres { .. } => None,
        }
    }
}
