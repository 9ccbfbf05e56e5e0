//! What a maker may look back at: its audit rows, and whether their chain is whole.

use axum::Json;
use axum::extract::State;
use claim::audit::{AuditFilter, AuditRow, Break, ChainCheck};
use claim::{DeviceId, DeviceName, TenantId};
use claim_codes::window::parse_instant;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{One, hundred};
use crate::Api;
use crate::extract::{Asked, Caller};
use crate::reply::Fault;

/// Rows of one answer.
const ROWS: u32 = 1_000;
/// Rows verified by one request: well below a second's work.
const VERIFIED: u32 = 100_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Wanted {
    #[serde(default)]
    since: i64,
    since_time: Option<String>,
    device: Option<String>,
    #[serde(default = "hundred")]
    limit: u32,
}

#[derive(Serialize)]
pub(crate) struct AuditRows {
    data: Vec<AuditRow>,
}

pub(crate) async fn list(State(api): State<Api>, caller: Caller, Asked(wanted): Asked<Wanted>) -> One<AuditRows> {
    let tenant = caller.maker()?.tenant;
    if !(1..=ROWS).contains(&wanted.limit) {
        return Err(Fault::bad_request("`limit` is not 1 to 1000"));
    }
    let since_time = wanted.since_time.as_deref().map(parse_instant).transpose();
    let since_time = since_time.map_err(|fault| Fault::bad_request(format!("`sinceTime`: {fault}")))?;
    let device = match wanted.device {
        None => None,
        Some(device) => Some(named(&api, tenant, &device).await?),
    };
    let filter = AuditFilter { since: wanted.since, since_time, device };
    let data = api.audit_log().rows(tenant, filter, wanted.limit).await.map_err(|_| Fault::unavailable())?;
    Ok(Json(AuditRows { data }))
}

/// A device by its id, which may be gone, or by its name.
async fn named(api: &Api, tenant: TenantId, device: &str) -> Result<DeviceId, Fault> {
    if let Ok(id) = Uuid::parse_str(device) {
        return Ok(id.into());
    }
    let name = DeviceName::parse(device).map_err(|fault| Fault::bad_request(format!("`device`: {}", fault.text())))?;
    Ok(api.directory().device_by_name(tenant, name).await?.id)
}

#[derive(Deserialize)]
pub(crate) struct From {
    #[serde(default)]
    since: i64,
    limit: Option<u32>,
}

/// What looking at a stretch of the chain has shown.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Verification {
    /// `whole` or `broken`.
    result: &'static str,
    /// Sealed rows that were right.
    rows: u64,
    /// Rows at the end that are not sealed yet; they are sealed within a second.
    unsealed: u64,
    /// Position of the last row that was looked at.
    last: i64,
    /// Whether there are rows behind it: go on with `since`.
    more: bool,
    /// Hash of the last sealed row, 64 hex digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    head: Option<String>,
    /// Position of the first broken row.
    #[serde(skip_serializing_if = "Option::is_none")]
    broken: Option<i64>,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    what: Option<&'static str>,
}

pub(crate) async fn verify(State(api): State<Api>, caller: Caller, Asked(from): Asked<From>) -> One<Verification> {
    let tenant = caller.maker()?.tenant;
    let most = from.limit.unwrap_or(VERIFIED);
    if !(1..=VERIFIED).contains(&most) {
        return Err(Fault::bad_request("`limit` is not 1 to 100000"));
    }
    let mut check = if from.since > 0 { ChainCheck::from_anywhere() } else { ChainCheck::from_start() };
    let (mut left, mut since) = (most, from.since.max(0));
    loop {
        let asked = left.min(ROWS);
        let stretch = api.audit_log().stretch(tenant, since, asked).await.map_err(|_| Fault::unavailable())?;
        let broken = stretch.rows.iter().find_map(|row| check.row(row).err());
        let broken = broken.map(|broken| (broken.seq.unwrap_or(since), broken.what));
        // Of two the first; what is gone explains the gap behind it.
        let gone = stretch.gone.map(|seq| (seq, Break::Gone));
        let first = [gone, broken].into_iter().flatten().min_by_key(|(seq, _)| *seq);
        let found = stretch.rows.len() as u32;
        left -= found;
        since = stretch.rows.last().map_or(since, |row| row.seq);
        let over = found < asked;
        if first.is_some() || over || left == 0 {
            return Ok(Json(Verification {
                result: if first.is_some() { "broken" } else { "whole" },
                rows: check.sealed(),
                unsealed: check.unsealed(),
                last: since,
                more: first.is_none() && !over,
                head: check.head().map(|head| head.to_string()),
                broken: first.map(|(seq, _)| seq),
                what: first.map(|(_, what)| what.text()),
            }));
        }
    }
}
