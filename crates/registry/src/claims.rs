//! Ownership: one conditional UPDATE decides, with its audit and outbox rows in the same transaction.
//!
//! `claim_reset_at` is the fence: a claim and an unclaim set it, and a pending claim received at or before it is void for
//! ever, whatever a replayed journal or a restored backup brings back.

use claim::confirmation::ConfirmOutcome;
use claim::event::Evidence;
use claim::ports::{
    AssignOwner, Assignment, ClaimTarget, Freshness, Release, ReleaseOwner, Remembered, RetryKey, WriteError,
};
use claim::{CustomerId, DeviceId, TenantId, Timestamp, Unavailable, UserId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::lookup::Forget;
use crate::outbox;
use crate::rows;
use crate::sqlite::SqliteRegistry;
use crate::writer::{After, Fault, NotWritten};

/// How long a remembered answer is good for (thingsboard.md 5.4).
pub(crate) const REMEMBERED: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
/// Remembered answers of one account.
pub(crate) const REMEMBERED_PER_ACCOUNT: i64 = 1_000;

/// An ownership change, owned, so that it can travel to the writer's thread.
#[derive(Clone)]
pub(crate) struct Assign {
    pub(crate) tenant: TenantId,
    pub(crate) device: DeviceId,
    pub(crate) owner: CustomerId,
    pub(crate) account: UserId,
    pub(crate) proof: [u8; 32],
    pub(crate) freshness: Freshness,
    pub(crate) allow_by_default: bool,
    pub(crate) invalidate_code: bool,
    pub(crate) target: Option<ClaimTarget>,
    pub(crate) retry: Option<RetryKey>,
    pub(crate) now: Timestamp,
    pub(crate) request_id: u64,
}

impl From<AssignOwner<'_>> for Assign {
    fn from(request: AssignOwner<'_>) -> Self {
        Self {
            tenant: request.tenant,
            device: request.device,
            owner: request.owner,
            account: request.account,
            proof: *request.proof.as_bytes(),
            freshness: request.freshness,
            allow_by_default: request.allow_by_default,
            invalidate_code: request.invalidate_code,
            target: request.target.cloned(),
            retry: request.retry.copied(),
            now: request.now,
            request_id: request.origin.request_id,
        }
    }
}

impl Assign {
    /// What the present row says about an assignment whose commit is in doubt. `None`: nothing, it may still be committed.
    pub(crate) fn settled_by(&self, row: Option<&Standing>) -> Option<Assignment> {
        let row = row?;
        let same = row.owner == Some(self.owner) && row.proof == Some(self.proof) && row.claimed_at == Some(self.now);
        same.then_some(Assignment::Assigned { claimed_at: self.now, generation: row.generation })
    }

    /// Why nothing was written: an owner says more than `refused`, and so does a maker's no.
    pub(crate) fn unless_owned(&self, row: Option<Standing>, refused: Assignment) -> Assignment {
        let Some(row) = row else { return Assignment::Gone };
        match row.owner {
            Some(owner) => Assignment::Owned {
                owner,
                proof: row.proof.map(claim::SecretDigest::from_bytes),
                claimed_at: row.claimed_at.unwrap_or(self.now),
                generation: row.generation,
            },
            None if !row.authorized || row.frozen || (!self.allow_by_default && !row.allowed) => Assignment::NotAllowed,
            None => refused,
        }
    }

    /// What is remembered of it for a retry.
    pub(crate) fn answer(&self, generation: i64) -> Option<String> {
        let evidence = self.freshness.evidence();
        ConfirmOutcome::Claimed { device: self.device, claimed_at: self.now, generation, evidence }.to_remember()
    }
}

impl SqliteRegistry {
    pub(crate) async fn assign(&self, request: AssignOwner<'_>) -> Result<Assignment, WriteError> {
        let assign = Assign::from(request);
        let settled = assign.clone();
        match self.write(move |connection, after| apply(connection, after, &assign)).await {
            Ok(assignment) => Ok(assignment),
            Err(NotWritten::Refused(_) | NotWritten::Unavailable) => Err(WriteError::Unavailable),
            Err(NotWritten::Unknown) => self.settle_assign(settled).await,
        }
    }

    /// The commit's outcome is open: the row tells.
    async fn settle_assign(&self, assign: Assign) -> Result<Assignment, WriteError> {
        let (tenant, device) = (assign.tenant, assign.device);
        let row = self.readers.read(move |connection| standing(connection, tenant, device)).await;
        // It may still be committed: the writer has not said no.
        assign.settled_by(row.ok().flatten().as_ref()).ok_or(WriteError::OutcomeUnknown)
    }

    pub(crate) async fn release(&self, request: ReleaseOwner<'_>) -> Result<Release, WriteError> {
        let (tenant, device, holder) = (request.tenant, request.device, request.holder);
        let (account, again, now) = (request.account, request.allow_again, request.now);
        let request_id = request.origin.request_id;
        let change = move |connection: &Connection, after: &mut After| {
            let Some(before) = standing(connection, tenant, device)? else { return Ok(Release::Gone) };
            let fence = now.max(before.fence.unwrap_or(now));
            let Some(previous) = before.owner else {
                if holder.is_some() {
                    return Ok(Release::Unowned { fence: None });
                }
                let sql = "UPDATE device SET claim_reset_at = ?3, version = version + 1 WHERE id = ?1 AND tenant = ?2";
                let fenced = params![device.as_bytes(), tenant.as_bytes(), fence.as_millis()];
                connection.prepare_cached(sql)?.execute(fenced)?;
                let row = Audit { account, device, tenant, action: "unclaim", outcome: "unowned", now, request_id };
                row.write(connection, Evidence::None, before.generation)?;
                after.forget.push(Forget::Device(device));
                return Ok(Release::Unowned { fence: Some(fence) });
            };
            if holder.is_some_and(|holder| holder != previous) {
                return Ok(Release::NotHolder);
            }
            let generation: i64 = connection
                .prepare_cached(
                    "UPDATE device SET owner = NULL, proof_digest = NULL, claimed_at = NULL, generation = generation + 1, \
                     version = version + 1, claim_reset_at = ?3, \
                     application = home_application, listing = home_listing, \
                     claiming_allowed = CASE WHEN ?4 THEN 1 ELSE claiming_allowed END, \
                     claiming_allowed_at = CASE WHEN ?4 THEN ?5 ELSE claiming_allowed_at END \
                     WHERE id = ?1 AND tenant = ?2 AND owner = ?6 RETURNING generation",
                )?
                .query_row(
                    params![
                        device.as_bytes(),
                        tenant.as_bytes(),
                        fence.as_millis(),
                        again,
                        now.as_millis(),
                        previous.as_bytes()
                    ],
                    |row| row.get(0),
                )?;
            let row = Audit { account, device, tenant, action: "unclaim", outcome: "released", now, request_id };
            row.write(connection, Evidence::None, generation)?;
            outbox::insert(connection, tenant, device, &before.name, outbox::Kind::Unclaimed, now)?;
            after.event = true;
            after.forget.push(Forget::Device(device));
            Ok(Release::Released { previous, fence })
        };
        match self.write(change).await {
            Ok(release) => Ok(release),
            Err(NotWritten::Refused(_) | NotWritten::Unavailable) => Err(WriteError::Unavailable),
            Err(NotWritten::Unknown) => Err(WriteError::OutcomeUnknown),
        }
    }

    pub(crate) async fn recall(&self, key: RetryKey) -> Result<Option<Remembered>, Unavailable> {
        self.readers
            .read(move |connection| {
                connection
                    .prepare_cached("SELECT request, answer FROM remembered WHERE account = ?1 AND key = ?2")?
                    .query_row(params![key.account.as_bytes(), key.key], |row| {
                        Ok(Remembered { request: rows::bytes(row, 0)?, answer: row.get(1)? })
                    })
                    .optional()
            })
            .await
    }

    pub(crate) async fn keep(&self, key: RetryKey, answer: String, now: Timestamp) -> Result<(), Unavailable> {
        self.write(move |connection, _| Ok(remember(connection, &key, &answer, now)?)).await.map_err(|_| Unavailable)
    }
}

fn apply(connection: &Connection, after: &mut After, assign: &Assign) -> Result<Assignment, Fault> {
    let (received, generation) = match assign.freshness {
        Freshness::ReceivedAt(at) => (Some(at.as_millis()), None),
        Freshness::Generation(generation) => (None, Some(generation)),
    };
    let target = match &assign.target {
        None => None,
        Some(target) => match target_place(connection, assign, target)? {
            Ok(place) => Some(place),
            Err(refused) => return Ok(unless_owned(connection, assign, refused)?),
        },
    };
    let (application, listing) = target.unzip();
    let won: Option<(i64, String)> = connection
        .prepare_cached(
            "UPDATE device SET owner = ?3, proof_digest = ?4, claimed_at = ?5, generation = generation + 1, \
             version = version + 1, \
             claim_reset_at = max(?5, coalesce(?6, ?5), coalesce(claim_reset_at, ?5)), \
             claiming_allowed = NULL, claiming_allowed_at = NULL, \
             application = coalesce(?9, application), listing = coalesce(?10, listing), \
             code_digest = CASE WHEN ?11 THEN code_digest END, code_set_at = CASE WHEN ?11 THEN code_set_at END, \
             code_from = CASE WHEN ?11 THEN code_from END, code_until = CASE WHEN ?11 THEN code_until END, \
             code_any_case = CASE WHEN ?11 THEN code_any_case END, \
             code_sealed = CASE WHEN ?11 THEN code_sealed END \
             WHERE id = ?1 AND tenant = ?2 AND owner IS NULL AND NOT frozen AND (?7 OR claiming_allowed = 1) \
             AND (?6 IS NULL OR claim_reset_at IS NULL OR claim_reset_at < ?6) \
             AND (?8 IS NULL OR generation = ?8) \
             AND EXISTS (SELECT 1 FROM application h WHERE h.id = home_application AND h.claiming_authorized) \
             AND EXISTS (SELECT 1 FROM customer WHERE customer.id = ?3 AND customer.tenant = ?2) \
             RETURNING generation, name",
        )?
        .query_row(
            params![
                assign.device.as_bytes(),
                assign.tenant.as_bytes(),
                assign.owner.as_bytes(),
                assign.proof,
                assign.now.as_millis(),
                received,
                assign.allow_by_default,
                generation,
                application,
                listing,
                keeps_code(connection, assign)?
            ],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let Some((generation, name)) = won else {
        return Ok(unless_owned(connection, assign, Assignment::Stale)?);
    };
    let evidence = assign.freshness.evidence();
    let audit = Audit {
        account: assign.account,
        device: assign.device,
        tenant: assign.tenant,
        action: "confirm",
        outcome: "claimed",
        now: assign.now,
        request_id: assign.request_id,
    };
    audit.write(connection, evidence, generation)?;
    let kind = outbox::Kind::Claimed { owner: assign.owner, at: assign.now };
    outbox::insert(connection, assign.tenant, assign.device, &name, kind, assign.now)?;
    if let Some(key) = &assign.retry
        && let Some(answer) = assign.answer(generation)
    {
        remember(connection, key, &answer, assign.now)?;
    }
    after.event = true;
    after.forget.push(Forget::Device(assign.device));
    Ok(Assignment::Assigned { claimed_at: assign.now, generation })
}

/// See [`Assign::unless_owned`].
fn unless_owned(connection: &Connection, assign: &Assign, refused: Assignment) -> rusqlite::Result<Assignment> {
    Ok(assign.unless_owned(standing(connection, assign.tenant, assign.device)?, refused))
}

/// The application and id a claim lists the device under.
fn target_place(
    connection: &Connection,
    assign: &Assign,
    target: &ClaimTarget,
) -> rusqlite::Result<Result<([u8; 16], String), Assignment>> {
    let application: Option<[u8; 16]> = connection
        .prepare_cached("SELECT id FROM application WHERE tenant = ?1 AND listing = ?2 AND customer = ?3")?
        .query_row(params![assign.tenant.as_bytes(), target.application.as_str(), assign.owner.as_bytes()], |row| {
            rows::bytes(row, 0)
        })
        .optional()?;
    let Some(application) = application else { return Ok(Err(Assignment::NoTarget)) };
    let listing = match &target.device {
        Some(device) => Some(device.as_str().to_owned()),
        None => connection
            .prepare_cached("SELECT home_listing FROM device WHERE id = ?1")?
            .query_row([assign.device.as_bytes()], |row| row.get(0))
            .optional()?,
    };
    let Some(listing) = listing else { return Ok(Err(Assignment::Gone)) };
    // Also the home of a device that is listed elsewhere now: it comes back there.
    let taken: bool = connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM device WHERE application = ?1 AND listing = ?2 AND id <> ?3) \
             OR EXISTS (SELECT 1 FROM device WHERE home_application = ?1 AND home_listing = ?2 AND id <> ?3)",
        )?
        .query_row(params![application, listing, assign.device.as_bytes()], |row| row.get(0))?;
    Ok(if taken { Err(Assignment::IdTaken) } else { Ok((application, listing)) })
}

/// Whether the claim leaves a claim code stored, asleep until the device is given back. `claimingData` never stays.
fn keeps_code(connection: &Connection, assign: &Assign) -> rusqlite::Result<bool> {
    let keeps = connection
        .prepare_cached(
            "SELECT d.code_any_case IS NOT NULL AND NOT coalesce(h.invalidate_code_on_claim, ?2) \
             FROM device d JOIN application h ON h.id = d.home_application WHERE d.id = ?1",
        )?
        .query_row(params![assign.device.as_bytes(), assign.invalidate_code], |row| row.get(0))
        .optional()?;
    Ok(keeps.unwrap_or(false))
}

/// A device's ownership, read inside the writer.
pub(crate) struct Standing {
    pub(crate) name: String,
    pub(crate) owner: Option<CustomerId>,
    pub(crate) proof: Option<[u8; 32]>,
    pub(crate) claimed_at: Option<Timestamp>,
    pub(crate) generation: i64,
    pub(crate) fence: Option<Timestamp>,
    pub(crate) allowed: bool,
    pub(crate) authorized: bool,
    pub(crate) frozen: bool,
}

pub(crate) fn standing(
    connection: &Connection,
    tenant: TenantId,
    device: DeviceId,
) -> rusqlite::Result<Option<Standing>> {
    let read = |row: &Row<'_>| {
        Ok(Standing {
            name: row.get(0)?,
            owner: rows::optional_bytes(row, 1)?.map(CustomerId::from_bytes),
            proof: rows::optional_bytes(row, 2)?,
            claimed_at: rows::optional_instant(row, 3)?,
            generation: row.get(4)?,
            fence: rows::optional_instant(row, 5)?,
            allowed: row.get::<_, Option<bool>>(6)?.unwrap_or(false),
            authorized: row.get(7)?,
            frozen: row.get(8)?,
        })
    };
    connection
        .prepare_cached(
            "SELECT d.name, d.owner, d.proof_digest, d.claimed_at, d.generation, d.claim_reset_at, d.claiming_allowed, \
             h.claiming_authorized, d.frozen FROM device d JOIN application h ON h.id = d.home_application \
             WHERE d.id = ?1 AND d.tenant = ?2",
        )?
        .query_row(params![device.as_bytes(), tenant.as_bytes()], read)
        .optional()
}

/// The audit row of a change a person made.
pub(crate) struct Audit {
    pub(crate) account: UserId,
    pub(crate) device: DeviceId,
    pub(crate) tenant: TenantId,
    pub(crate) action: &'static str,
    pub(crate) outcome: &'static str,
    pub(crate) now: Timestamp,
    pub(crate) request_id: u64,
}

impl Audit {
    pub(crate) fn write(&self, connection: &Connection, evidence: Evidence, generation: i64) -> rusqlite::Result<()> {
        connection
            .prepare_cached(
                "INSERT INTO audit (at, tenant, actor_kind, actor, action, device, outcome, reason, evidence, count, \
                 charged, generation, origin, request_id) \
                 VALUES (?1, ?2, 'account', ?3, ?4, ?5, ?6, ?6, ?7, 1, 0, ?8, 'api', ?9)",
            )?
            .execute(params![
                self.now.as_millis(),
                self.tenant.as_bytes(),
                self.account.as_bytes(),
                self.action,
                self.device.as_bytes(),
                self.outcome,
                evidence.name(),
                generation,
                self.request_id.cast_signed()
            ])?;
        Ok(())
    }
}

/// Keeps an answer unless the key has a live one; the account's oldest beyond the bound go.
fn remember(connection: &Connection, key: &RetryKey, answer: &str, now: Timestamp) -> rusqlite::Result<()> {
    let account = key.account.as_bytes();
    connection
        .prepare_cached("DELETE FROM remembered WHERE account = ?1 AND at < ?2")?
        .execute(params![account, now.minus(REMEMBERED).as_millis()])?;
    connection
        .prepare_cached(
            "INSERT INTO remembered (account, key, request, answer, at) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT (account, key) DO NOTHING",
        )?
        .execute(params![account, key.key, key.request, answer, now.as_millis()])?;
    connection
        .prepare_cached(
            "DELETE FROM remembered WHERE rid IN (SELECT rid FROM remembered WHERE account = ?1 \
             ORDER BY at DESC, rid DESC LIMIT -1 OFFSET ?2)",
        )?
        .execute(params![account, REMEMBERED_PER_ACCOUNT])?;
    Ok(())
}
