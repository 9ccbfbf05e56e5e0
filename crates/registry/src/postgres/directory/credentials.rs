//! What devices sign in with, as keyed digests. See `crate::directory::credentials`.

use claim::directory::{CredentialDraft, CredentialKind, CredentialView};
use claim::{DeviceId, Secret, TenantId, Timestamp};
use tokio_postgres::Row;

use super::devices;
use crate::directory::credentials::{READABLE, Vault, digests, generate, masked};
use crate::directory::found;
use crate::lookup::Forget;
use crate::outbox::Kind;
use crate::postgres::answers::taken;
use crate::postgres::db::{Db, Fault, Values};
use crate::postgres::keys::may_seal;
use crate::postgres::{outbox, rows};
use crate::writer::After;

fn read(row: &Row) -> Result<(CredentialView, bool), Fault> {
    let id = rows::id(row, 0)?;
    let kind = if rows::get::<i64>(row, 2)? == 0 { CredentialKind::AccessToken } else { CredentialKind::MqttBasic };
    let (client_id, user_name): (Option<String>, Option<String>) = (rows::get(row, 3)?, rows::get(row, 4)?);
    let view = CredentialView {
        id,
        device: DeviceId::from_bytes(rows::id(row, 1)?),
        kind,
        readable_once: None,
        masked: masked(kind, &id, client_id.as_ref(), user_name.as_ref()),
        client_id,
        user_name,
        created_at: rows::instant(row, 5)?,
        version: rows::get(row, 6)?,
    };
    Ok((view, rows::get(row, 7)?))
}

/// The credential without any secret, and whether a token waits to be read.
pub(super) async fn view(
    db: &Db,
    tenant: TenantId,
    device: DeviceId,
    now: Timestamp,
) -> Result<Option<(CredentialView, bool)>, Fault> {
    let sql = "SELECT c.id, c.device, c.kind, c.client_id, c.user_name, c.created_at, c.version, \
         c.sealed IS NOT NULL AND c.sealed_until > $3 \
         FROM credential c JOIN device d ON d.id = c.device WHERE d.id = $1 AND d.tenant = $2";
    db.row(sql, &[&device.uuid(), &tenant.uuid(), &now.as_millis()]).await?.as_ref().map(read).transpose()
}

/// Reads a generated token the one time it may be read.
pub(super) async fn take(
    db: &Db,
    vault: &Vault,
    tenant: TenantId,
    device: DeviceId,
    now: Timestamp,
) -> Result<CredentialView, Fault> {
    // Locked, so that of two readers the second comes too late.
    found(devices::locked(db, tenant, device).await?, "credential")?;
    let (mut view, waits) = found(view(db, tenant, device, now).await?, "credential")?;
    if !waits {
        return Ok(view);
    }
    let row = db.one("SELECT sealed FROM credential WHERE device = $1", &[&device.uuid()]).await?;
    view.readable_once = Some(vault.open_token((tenant, device), &view.id, rows::get(&row, 0)?)?);
    db.run("UPDATE credential SET sealed = NULL, sealed_until = NULL WHERE device = $1", &[&device.uuid()]).await?;
    Ok(view)
}

/// Gives a new device its credential: the one it came with, or a random access token, which is shown in this answer and
/// once more by the first read within a day (stock clients make the device first and ask for the token after).
pub(crate) async fn create(
    db: &Db,
    after: &mut After,
    vault: &Vault,
    (tenant, device): (TenantId, DeviceId),
    draft: Option<&CredentialDraft>,
    now: Timestamp,
) -> Result<CredentialView, Fault> {
    if let Some(draft) = draft {
        insert(db, after, vault, (tenant, device), draft, None, now).await?;
        return shown(db, tenant, device, now).await;
    }
    let token = generate()?;
    let draft = CredentialDraft::AccessToken(Secret::new(token.expose().clone()));
    insert(db, after, vault, (tenant, device), &draft, Some(&token), now).await?;
    Ok(CredentialView { readable_once: Some(token), ..shown(db, tenant, device, now).await? })
}

async fn shown(db: &Db, tenant: TenantId, device: DeviceId, now: Timestamp) -> Result<CredentialView, Fault> {
    let (view, _) = found(view(db, tenant, device, now).await?, "credential")?;
    Ok(view)
}

async fn insert(
    db: &Db,
    after: &mut After,
    vault: &Vault,
    (tenant, device): (TenantId, DeviceId),
    draft: &CredentialDraft,
    readable: Option<&Secret<String>>,
    now: Timestamp,
) -> Result<(), Fault> {
    let digests = digests(&vault.keyring, draft);
    let id = DeviceId::random();
    let sealed = match readable {
        None => None,
        Some(token) => {
            may_seal(db, &vault.sealer).await?;
            Some(vault.seal_token((tenant, device), id.as_bytes(), token)?)
        }
    };
    let sql = "INSERT INTO credential (id, device, kind, digest, password_digest, client_id, user_name, sealed, \
         sealed_until, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    let values: Values<'_> = &[
        &id.uuid(),
        &device.uuid(),
        &i64::from(digests.kind == CredentialKind::MqttBasic),
        &digests.digest.as_bytes().as_slice(),
        &digests.password.as_ref().map(|digest| digest.as_bytes().as_slice()),
        &digests.client_id,
        &digests.user_name,
        &sealed,
        &sealed.as_ref().map(|_| now.plus(READABLE).as_millis()),
        &now.as_millis(),
    ];
    db.run(sql, values).await.map_err(taken("credential"))?;
    // It may be known as unknown.
    after.forget.push(Forget::Credential(*digests.digest.as_bytes()));
    Ok(())
}

pub(super) async fn replace(
    db: &Db,
    after: &mut After,
    vault: &Vault,
    (tenant, device): (TenantId, DeviceId),
    draft: &CredentialDraft,
    now: Timestamp,
) -> Result<CredentialView, Fault> {
    let of = found(devices::locked(db, tenant, device).await?, "device")?;
    let version = forget(db, after, device).await?;
    db.run("DELETE FROM credential WHERE device = $1", &[&device.uuid()]).await?;
    insert(db, after, vault, (tenant, device), draft, None, now).await?;
    let version = version.unwrap_or(0) + 1;
    db.run("UPDATE credential SET version = $2 WHERE device = $1", &[&device.uuid(), &version]).await?;
    outbox::insert(db, tenant, device, of.name.as_str(), Kind::CredentialRevoked, now).await?;
    after.event = true;
    shown(db, tenant, device, now).await
}

/// The look-up cache forgets the device's credential; returns its version.
pub(super) async fn forget(db: &Db, after: &mut After, device: DeviceId) -> Result<Option<i64>, Fault> {
    let row = db.row("SELECT digest, version FROM credential WHERE device = $1", &[&device.uuid()]).await?;
    let Some(row) = row else { return Ok(None) };
    after.forget.push(Forget::Credential(rows::bytes(&row, 0)?));
    rows::get(&row, 1).map(Some)
}
