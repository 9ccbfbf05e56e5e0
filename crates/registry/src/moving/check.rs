//! Going through all rows of a source once: each table's rows and hash, and whether the audit log's chain is whole.

use std::collections::HashMap;

use aws_lc_rs::digest::{Context, SHA256};
use claim::audit::{AuditRow, ChainCheck, ChainHash, Seal};
use claim::{DeviceId, TenantId, Timestamp, UserId};
use serde::{Deserialize, Serialize};

use super::manifest::TableSum;
use super::tables::{TABLES, Table};
use super::value::{Row, Value, at, write_line};
use super::{AUDIT, AUDIT_CHAIN, MoveError, PAGE, Rows, Walk, Watch, seen};
use crate::audit::whatever;

/// Lines of a table, counted and hashed.
#[derive(Clone)]
pub(super) struct Sum {
    pub(super) rows: u64,
    bytes: u64,
    context: Context,
}

impl Sum {
    pub(super) fn new() -> Self {
        Self { rows: 0, bytes: 0, context: Context::new(&SHA256) }
    }

    /// Takes the line of a row.
    pub(super) fn take(&mut self, line: &[u8]) {
        self.rows += 1;
        self.bytes += line.len() as u64;
        self.context.update(line);
    }

    pub(super) fn end(self, table: &Table) -> TableSum {
        TableSum {
            name: table.name.to_owned(),
            columns: table.columns.iter().map(|column| column.name.to_owned()).collect(),
            rows: self.rows,
            bytes: self.bytes,
            sha256: hex(self.context.finish().as_ref()),
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the audit log's chains are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChainState {
    /// Rows whose hashes are right.
    pub sealed: u64,
    /// Rows behind them that are not chained yet.
    pub unsealed: u64,
    /// The first row that is not what was sealed, with what is wrong; `None`: the chains are whole.
    pub broken: Option<(i64, String)>,
}

/// Hands every row of every table on; what a table had.
pub(super) fn each_row(
    rows: &mut dyn Rows,
    step: &'static str,
    watch: &mut dyn Watch,
    mut take: impl FnMut(&'static Table, &[u8], Row) -> Result<(), MoveError>,
) -> Result<Vec<TableSum>, MoveError> {
    let mut sums = Vec::with_capacity(TABLES.len());
    let mut line = Vec::new();
    for table in &TABLES {
        let (mut sum, mut told) = (Sum::new(), 0);
        let mut walk = Walk::start(rows, table, None);
        while let Some(row) = walk.next()? {
            line.clear();
            write_line(&mut line, &row);
            sum.take(&line);
            take(table, &line, row)?;
            told += 1;
            if told == PAGE {
                seen(watch, step, table, told)?;
                told = 0;
            }
        }
        seen(watch, step, table, told)?;
        sums.push(sum.end(table));
    }
    Ok(sums)
}

/// Every table's rows and hash.
pub(super) fn sums(rows: &mut dyn Rows, step: &'static str, watch: &mut dyn Watch) -> Result<Vec<TableSum>, MoveError> {
    each_row(rows, step, watch, |_, _, _| Ok(()))
}

/// Recomputes the chains of all tenants.
pub(super) fn chain(
    rows: &mut dyn Rows,
    hashes: &mut dyn Rows,
    watch: &mut dyn Watch,
) -> Result<ChainState, MoveError> {
    let mut checks: HashMap<TenantId, (ChainCheck, ChainHash)> = HashMap::new();
    let mut broken: Option<(i64, String)> = None;
    let mut find = |seq: i64, what: &str| {
        if broken.as_ref().is_none_or(|(first, _)| seq < *first) {
            broken = Some((seq, what.to_owned()));
        }
    };
    let (mut rows, mut links) = (Walk::start(rows, AUDIT, None), Walk::start(hashes, AUDIT_CHAIN, None));
    let (mut link, mut told) = (links.next()?, 0);
    while let Some(row) = rows.next()? {
        let mut row = audit_row(&row).ok_or_else(|| MoveError::odd_value(AUDIT, &AUDIT.columns[0]))?;
        while let Some(seq) = link.as_ref().and_then(|link| link[0].whole()).filter(|seq| *seq < row.seq) {
            find(seq, "the row is not there any more");
            link = links.next()?;
        }
        let (check, head) = checks.entry(row.tenant).or_insert_with(|| (ChainCheck::from_start(), ChainHash::START));
        let sealed = link.as_ref().filter(|link| link[0] == Value::Whole(row.seq));
        if let Some(link) = sealed {
            let hash = ChainHash::from_bytes(whatever(link[2].bytes().unwrap_or_default()));
            // One that was moved to another tenant is not sealed there.
            if link[1] == Value::Id(*row.tenant.as_bytes()) {
                row.seal = Some(Seal { prev_hash: *head, hash });
                *head = hash;
            }
        }
        if sealed.is_some() {
            link = links.next()?;
        }
        if let Err(fault) = check.row(&row) {
            find(fault.seq.unwrap_or(row.seq), fault.what.text());
            // What follows is told by what it is from here on.
            *check = ChainCheck::from_anywhere();
        }
        told += 1;
        if told == PAGE {
            seen(watch, "checking the audit log", AUDIT, told)?;
            told = 0;
        }
    }
    if let Some(seq) = link.and_then(|link| link[0].whole()) {
        find(seq, "the row is not there any more");
    }
    let (sealed, unsealed) = checks
        .values()
        .fold((0, 0), |(sealed, unsealed), (check, _)| (sealed + check.sealed(), unsealed + check.unsealed()));
    Ok(ChainState { sealed, unsealed, broken })
}

/// A row of the audit log as it is hashed.
fn audit_row(row: &[Value]) -> Option<AuditRow> {
    let get = |column| at(AUDIT, row, column);
    let text = |column| get(column).text().map(str::to_owned);
    Some(AuditRow {
        seq: get("seq").whole()?,
        at: Timestamp::from_millis(get("at").whole()?),
        tenant: TenantId::from_bytes(get("tenant").id()?),
        actor: format!("{}:{}", get("actor_kind").text()?, UserId::from_bytes(get("actor").id()?)),
        action: text("action")?,
        device: get("device").id().map(DeviceId::from_bytes),
        outcome: text("outcome")?,
        reason: text("reason")?,
        evidence: text("evidence")?,
        count: get("count").whole()?,
        charged: matches!(get("charged"), Value::Flag(true)),
        generation: get("generation").whole(),
        origin: text("origin")?,
        request_id: get("request_id").whole()?,
        seal: None,
    })
}
