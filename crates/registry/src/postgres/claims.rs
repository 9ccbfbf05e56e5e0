//! Ownership: one conditional UPDATE decides, with its audit and outbox rows in the same statement. See `crate::claims`.

use claim::event::Evidence;
use claim::ports::{
    ALLOWED_SKEW, AssignOwner, Assignment, ClaimTarget, Freshness, Release, ReleaseOwner, Remembered, RetryKey,
    WriteError,
};
use claim::{CustomerId, DeviceId, TenantId, Timestamp, Unavailable};
use uuid::Uuid;

use super::db::{Db, Fault};
use super::write::Way;
use super::{After, PostgresRegistry, outbox, rows};
use crate::claims::{Assign, Audit, REMEMBERED, REMEMBERED_PER_ACCOUNT, Standing};
use crate::lookup::Forget;
use crate::outbox::Kind;
use crate::writer::NotWritten;

impl PostgresRegistry {
    pub(super) async fn assign(&self, request: AssignOwner<'_>) -> Result<Assignment, WriteError> {
        let assign = Assign::from(request);
        let way = match (&assign.target, &assign.retry) {
            // Whether the place is free is read before the write.
            (Some(_), _) => Way::Serializable,
            (None, Some(_)) => Way::ReadCommitted,
            (None, None) => Way::OneStatement,
        };
        let written = self.write_as(way, assign.clone(), |db, after, assign| Box::pin(apply(db, after, assign))).await;
        match written {
            Ok(assignment) => Ok(assignment),
            Err(NotWritten::Refused(_) | NotWritten::Unavailable) => Err(WriteError::Unavailable),
            Err(NotWritten::Unknown) => self.settle_assign(&assign).await,
        }
    }

    /// The commit's outcome is open: the row tells.
    async fn settle_assign(&self, assign: &Assign) -> Result<Assignment, WriteError> {
        let which = (assign.tenant, assign.device);
        let row = self.read(which, |db, (tenant, device)| Box::pin(standing(db, *tenant, *device))).await;
        // It may still be committed: a server that was cut off goes on.
        assign.settled_by(row.ok().flatten().as_ref()).ok_or(WriteError::OutcomeUnknown)
    }

    pub(super) async fn release(&self, request: ReleaseOwner<'_>) -> Result<Release, WriteError> {
        let work = Giving {
            tenant: request.tenant,
            device: request.device,
            holder: request.holder,
            account: request.account,
            allow_again: request.allow_again,
            now: request.now,
            request_id: request.origin.request_id,
        };
        let written =
            self.write_as(Way::ReadCommitted, work, |db, after, giving| Box::pin(giving.back(db, after))).await;
        written.map_err(|error| match error {
            NotWritten::Refused(_) | NotWritten::Unavailable => WriteError::Unavailable,
            NotWritten::Unknown => WriteError::OutcomeUnknown,
        })
    }

    pub(super) async fn recall(&self, key: RetryKey) -> Result<Option<Remembered>, Unavailable> {
        self.read(key, |db, key| Box::pin(recall(db, key))).await
    }

    pub(super) async fn keep(&self, key: RetryKey, answer: String, now: Timestamp) -> Result<(), Unavailable> {
        let written = self.write_as(Way::ReadCommitted, (key, answer, now), |db, _, (key, answer, now)| {
            Box::pin(remember(db, key, answer, *now))
        });
        written.await.map_err(|_| Unavailable)
    }
}

/// [`ALLOWED_SKEW`] in milliseconds: the fence of what voids claims by no announcement of its own stands so far ahead. A node
/// that lags can only void a fresh claim then, which its device repeats; one that leads cannot have made one that outlives
/// this.
const SKEW: u128 = ALLOWED_SKEW.as_millis();

/// Whether the claim leaves a claim code stored, asleep until the device is given back. `claimingData` never stays.
const KEEPS_CODE: &str = "(d.code_any_case IS NOT NULL AND NOT coalesce(h.invalidate_code_on_claim, $11))";

/// The change, its audit row and its event, in one statement: one transaction, one flush, one round trip.
fn assigning() -> String {
    format!(
        "WITH won AS (UPDATE device d SET owner = $3, proof_digest = $4, claimed_at = $5, generation = d.generation + 1, \
         version = d.version + 1, claim_reset_at = greatest($5, coalesce($6, $5::bigint + {SKEW}), d.claim_reset_at), \
         claiming_allowed = NULL, claiming_allowed_at = NULL, \
         application = coalesce($9, d.application), listing = coalesce($10, d.listing), \
         code_digest = CASE WHEN {KEEPS_CODE} THEN d.code_digest END, \
         code_set_at = CASE WHEN {KEEPS_CODE} THEN d.code_set_at END, \
         code_from = CASE WHEN {KEEPS_CODE} THEN d.code_from END, \
         code_until = CASE WHEN {KEEPS_CODE} THEN d.code_until END, \
         code_any_case = CASE WHEN {KEEPS_CODE} THEN d.code_any_case END, \
         code_sealed = CASE WHEN {KEEPS_CODE} THEN d.code_sealed END \
         FROM application h \
         WHERE d.id = $1 AND d.tenant = $2 AND d.owner IS NULL AND NOT d.frozen AND ($7 OR d.claiming_allowed) \
         AND ($6::bigint IS NULL OR d.claim_reset_at IS NULL OR d.claim_reset_at < $6) \
         AND ($8::bigint IS NULL OR d.generation = $8) \
         AND h.id = d.home_application AND h.claiming_authorized \
         AND EXISTS (SELECT 1 FROM customer c WHERE c.id = $3 AND c.tenant = $2) \
         RETURNING d.generation, d.name), \
         noted AS (INSERT INTO audit (at, tenant, actor_kind, actor, action, device, outcome, reason, evidence, count, \
         charged, generation, origin, request_id) \
         SELECT $5, $2, 'account', $12, 'confirm', $1, 'claimed', 'claimed', $13, 1, FALSE, generation, 'api', $14 FROM won), \
         told AS (INSERT INTO outbox (at, tenant, device, name, kind, owner, claimed_at) \
         SELECT $5, $2, $1, name, 'claimed', $3, $5 FROM won) \
         SELECT generation FROM won"
    )
}

async fn apply(db: &Db, after: &mut After, assign: &Assign) -> Result<Assignment, Fault> {
    let (received, generation) = match assign.freshness {
        Freshness::ReceivedAt(at) => (Some(at.as_millis()), None),
        Freshness::Generation(generation) => (None, Some(generation)),
    };
    let target = match &assign.target {
        None => None,
        Some(target) => match target_place(db, assign, target).await? {
            Ok(place) => Some(place),
            Err(refused) => {
                return Ok(assign.unless_owned(standing(db, assign.tenant, assign.device).await?, refused));
            }
        },
    };
    let (application, listing) = target.unzip();
    let won = db
        .row(
            &assigning(),
            &[
                &assign.device.uuid(),
                &assign.tenant.uuid(),
                &assign.owner.uuid(),
                &assign.proof.as_slice(),
                &assign.now.as_millis(),
                &received,
                &assign.allow_by_default,
                &generation,
                &application,
                &listing,
                &assign.invalidate_code,
                &assign.account.uuid(),
                &assign.freshness.evidence().name(),
                &assign.request_id.cast_signed(),
            ],
        )
        .await;
    let Some(won) = won? else {
        let row = standing(db, assign.tenant, assign.device).await?;
        return Ok(assign.unless_owned(row, Assignment::Stale));
    };
    let generation = rows::get(&won, 0)?;
    if let Some(key) = &assign.retry
        && let Some(answer) = assign.answer(generation)
    {
        remember(db, key, &answer, assign.now).await?;
    }
    (after.event, after.told) = (true, true);
    after.forget.push(Forget::Device(assign.device));
    Ok(Assignment::Assigned { claimed_at: assign.now, generation })
}

/// The application and id a claim lists the device under.
async fn target_place(
    db: &Db,
    assign: &Assign,
    target: &ClaimTarget,
) -> Result<Result<(Uuid, String), Assignment>, Fault> {
    let sql = "SELECT id FROM application WHERE tenant = $1 AND listing = $2 AND customer = $3";
    let application = db.row(sql, &[&assign.tenant.uuid(), &target.application.as_str(), &assign.owner.uuid()]).await?;
    let Some(application) = application else { return Ok(Err(Assignment::NoTarget)) };
    let application: Uuid = rows::get(&application, 0)?;
    let device = assign.device.uuid();
    let listing: String = match &target.device {
        Some(device) => device.as_str().to_owned(),
        None => match db.row("SELECT home_listing FROM device WHERE id = $1", &[&device]).await? {
            Some(row) => rows::get(&row, 0)?,
            None => return Ok(Err(Assignment::Gone)),
        },
    };
    // Also the home of a device that is listed elsewhere now: it comes back there.
    let sql = "SELECT EXISTS (SELECT 1 FROM device WHERE application = $1 AND listing = $2 AND id <> $3) \
         OR EXISTS (SELECT 1 FROM device WHERE home_application = $1 AND home_listing = $2 AND id <> $3)";
    let taken: bool = rows::get(&db.one(sql, &[&application, &listing, &device]).await?, 0)?;
    Ok(if taken { Err(Assignment::IdTaken) } else { Ok((application, listing)) })
}

/// A request to take ownership away, owned.
struct Giving {
    tenant: TenantId,
    device: DeviceId,
    holder: Option<CustomerId>,
    account: claim::UserId,
    allow_again: bool,
    now: Timestamp,
    request_id: u64,
}

impl Giving {
    async fn back(&self, db: &Db, after: &mut After) -> Result<Release, Fault> {
        let Some(before) = locked(db, self.tenant, self.device).await? else { return Ok(Release::Gone) };
        let fence = self.now.plus(ALLOWED_SKEW);
        let fence = fence.max(before.fence.unwrap_or(fence));
        let Some(previous) = before.owner else {
            if self.holder.is_some() {
                return Ok(Release::Unowned { fence: None });
            }
            let sql = "UPDATE device SET claim_reset_at = $3, version = version + 1 WHERE id = $1 AND tenant = $2";
            db.run(sql, &[&self.device.uuid(), &self.tenant.uuid(), &fence.as_millis()]).await?;
            self.audit("unowned").write_in(db, Evidence::None, before.generation).await?;
            after.forget.push(Forget::Device(self.device));
            return Ok(Release::Unowned { fence: Some(fence) });
        };
        if self.holder.is_some_and(|holder| holder != previous) {
            return Ok(Release::NotHolder);
        }
        let sql = "UPDATE device SET owner = NULL, proof_digest = NULL, claimed_at = NULL, generation = generation + 1, \
             version = version + 1, claim_reset_at = $3, application = home_application, listing = home_listing, \
             claiming_allowed = CASE WHEN $4 THEN TRUE ELSE claiming_allowed END, \
             claiming_allowed_at = CASE WHEN $4 THEN $5 ELSE claiming_allowed_at END \
             WHERE id = $1 AND tenant = $2 AND owner = $6 RETURNING generation";
        let (device, tenant, owner) = (self.device.uuid(), self.tenant.uuid(), previous.uuid());
        let (fence_ms, now) = (fence.as_millis(), self.now.as_millis());
        let row = db.one(sql, &[&device, &tenant, &fence_ms, &self.allow_again, &now, &owner]).await?;
        self.audit("released").write_in(db, Evidence::None, rows::get(&row, 0)?).await?;
        outbox::insert(db, self.tenant, self.device, &before.name, Kind::Unclaimed, self.now).await?;
        (after.event, after.told) = (true, true);
        after.forget.push(Forget::Device(self.device));
        Ok(Release::Released { previous, fence })
    }

    fn audit(&self, outcome: &'static str) -> Audit {
        Audit {
            account: self.account,
            device: self.device,
            tenant: self.tenant,
            action: "unclaim",
            outcome,
            now: self.now,
            request_id: self.request_id,
        }
    }
}

/// A device's ownership, as it stands in this transaction.
pub(crate) async fn standing(db: &Db, tenant: TenantId, device: DeviceId) -> Result<Option<Standing>, Fault> {
    row_of(db, tenant, device, "").await
}

/// [`standing`], and nobody else changes it until this transaction ends.
pub(crate) async fn locked(db: &Db, tenant: TenantId, device: DeviceId) -> Result<Option<Standing>, Fault> {
    row_of(db, tenant, device, " FOR UPDATE OF d").await
}

async fn row_of(db: &Db, tenant: TenantId, device: DeviceId, lock: &str) -> Result<Option<Standing>, Fault> {
    let sql = format!(
        "SELECT d.name, d.owner, d.proof_digest, d.claimed_at, d.generation, d.claim_reset_at, d.claiming_allowed, \
         h.claiming_authorized, d.frozen FROM device d JOIN application h ON h.id = d.home_application \
         WHERE d.id = $1 AND d.tenant = $2{lock}"
    );
    let Some(row) = db.row(&sql, &[&device.uuid(), &tenant.uuid()]).await? else { return Ok(None) };
    Ok(Some(Standing {
        name: rows::get(&row, 0)?,
        owner: rows::optional_id(&row, 1)?.map(CustomerId::from_bytes),
        proof: rows::optional_bytes(&row, 2)?,
        claimed_at: rows::optional_instant(&row, 3)?,
        generation: rows::get(&row, 4)?,
        fence: rows::optional_instant(&row, 5)?,
        allowed: rows::get::<Option<bool>>(&row, 6)?.unwrap_or(false),
        authorized: rows::get(&row, 7)?,
        frozen: rows::get(&row, 8)?,
    }))
}

impl Audit {
    /// [`Audit::write`], in PostgreSQL.
    pub(crate) async fn write_in(&self, db: &Db, evidence: Evidence, generation: i64) -> Result<(), Fault> {
        let sql = "INSERT INTO audit (at, tenant, actor_kind, actor, action, device, outcome, reason, evidence, count, \
             charged, generation, origin, request_id) \
             VALUES ($1, $2, 'account', $3, $4, $5, $6, $6, $7, 1, FALSE, $8, 'api', $9)";
        let (at, tenant, actor, device) =
            (self.now.as_millis(), self.tenant.uuid(), self.account.uuid(), self.device.uuid());
        let (evidence, request) = (evidence.name(), self.request_id.cast_signed());
        db.run(sql, &[&at, &tenant, &actor, &self.action, &device, &self.outcome, &evidence, &generation, &request])
            .await?;
        Ok(())
    }
}

async fn recall(db: &Db, key: &RetryKey) -> Result<Option<Remembered>, Fault> {
    let sql = "SELECT request, answer FROM remembered WHERE account = $1 AND key = $2";
    let Some(row) = db.row(sql, &[&key.account.uuid(), &key.key.as_slice()]).await? else { return Ok(None) };
    Ok(Some(Remembered { request: rows::bytes(&row, 0)?, answer: rows::get(&row, 1)? }))
}

/// Keeps an answer unless the key has a live one; the account's oldest beyond the bound go.
async fn remember(db: &Db, key: &RetryKey, answer: &str, now: Timestamp) -> Result<(), Fault> {
    let account = key.account.uuid();
    let since = now.minus(REMEMBERED).as_millis();
    db.run("DELETE FROM remembered WHERE account = $1 AND at < $2", &[&account, &since]).await?;
    let sql = "INSERT INTO remembered (account, key, request, answer, at) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT ON CONSTRAINT remembered_key DO NOTHING";
    let (digest, request) = (key.key.as_slice(), key.request.as_slice());
    db.run(sql, &[&account, &digest, &request, &answer, &now.as_millis()]).await?;
    let sql = "DELETE FROM remembered WHERE account = $1 AND rid IN (SELECT rid FROM remembered WHERE account = $1 \
         ORDER BY at DESC, rid DESC OFFSET $2)";
    db.run(sql, &[&account, &REMEMBERED_PER_ACCOUNT]).await?;
    Ok(())
}
