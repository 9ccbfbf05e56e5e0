//! The audit log: its rows, the chain of hashes over them, and the port that reads and seals it.
//!
//! Each tenant has a chain of its own, so that its admin can verify every row without seeing anybody else's. A row is chained
//! some moments after it was committed, by whoever calls [`AuditLog::seal`], so that no change waits for another's hash.
//!
//! People stand in a row by the random id of their account and never by name or address: when an account is erased the rows
//! stay valid. A maker's reason is kept as it was written.

mod canonical;
mod chain;

use serde::Serialize;

use crate::device::{DeviceId, TenantId};
use crate::ports::{PortFuture, Unavailable};
use crate::time::Timestamp;

pub use canonical::canonical;
pub use chain::{Break, Broken, ChainCheck, ChainHash, link};

/// A row of the audit log, for the tenant's admin. Its JSON without `prevHash` and `hash` is what the chain hashes; no
/// member may be added or renamed without a chain of a new kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditRow {
    /// Position; grows, with gaps, since tenants share the count.
    pub seq: i64,
    /// When, in epoch milliseconds.
    pub at: Timestamp,
    /// In which tenant.
    pub tenant: TenantId,
    /// `account:UUID` or `device:UUID`.
    pub actor: String,
    /// What was tried.
    pub action: String,
    /// The device, if known.
    pub device: Option<DeviceId>,
    /// The outcome's name.
    pub outcome: String,
    /// What was behind it.
    pub reason: String,
    /// What evidence there was.
    pub evidence: String,
    /// How many occurrences the row stands for.
    pub count: i64,
    /// Whether the try stayed charged to the attempt budgets.
    pub charged: bool,
    /// The device's generation after a change of ownership.
    pub generation: Option<i64>,
    /// `api`, or the transport.
    pub origin: String,
    /// Request id.
    pub request_id: i64,
    /// Its place in the chain; `None` until it is sealed.
    #[serde(flatten)]
    pub seal: Option<Seal>,
}

/// A row's place in its tenant's chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seal {
    /// The hash of the tenant's row before it.
    pub prev_hash: ChainHash,
    /// The row's own.
    pub hash: ChainHash,
}

/// Which rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only rows after this position.
    pub since: i64,
    /// Only from the first row on that was written at or after this instant: instants are not quite in the order of positions,
    /// and a chain has no holes.
    pub since_time: Option<Timestamp>,
    /// Only rows of this device.
    pub device: Option<DeviceId>,
}

impl AuditFilter {
    /// Every row after a position.
    pub fn after(since: i64) -> Self {
        Self { since, ..Self::default() }
    }
}

/// A stretch of a tenant's chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainStretch {
    /// The rows that are there, oldest first.
    pub rows: Vec<AuditRow>,
    /// The first sealed position of the stretch whose row is not there any more.
    pub gone: Option<i64>,
}

/// The audit log. Rows get in by the changes that they are about, and never leave; nothing here changes one.
pub trait AuditLog: Send + Sync {
    /// A tenant's rows, oldest first, at most `most`.
    fn rows(
        &self,
        tenant: TenantId,
        filter: AuditFilter,
        most: u32,
    ) -> PortFuture<'_, Result<Vec<AuditRow>, Unavailable>>;

    /// A tenant's next `most` rows after `since`, and what is missing among them; with the last of them, also what is missing
    /// behind them. A false answer would let a removed row go unnoticed.
    fn stretch(&self, tenant: TenantId, since: i64, most: u32) -> PortFuture<'_, Result<ChainStretch, Unavailable>>;

    /// Chains the oldest rows, of whatever tenants, that are not chained yet, at most `most`; how many. Of two callers at once
    /// one chains nothing.
    fn seal(&self, most: u32) -> PortFuture<'_, Result<u32, Unavailable>>;

    /// Rows not chained yet, of all tenants.
    fn unsealed(&self) -> PortFuture<'_, Result<u64, Unavailable>>;
}
