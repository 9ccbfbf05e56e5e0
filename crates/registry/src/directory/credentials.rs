//! What devices sign in with. At rest there are keyed digests only; a generated token is also kept sealed until it was read
//! once or its day is over.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use claim::directory::{CredentialDraft, CredentialKind, CredentialView, DirectoryError};
use claim::secret::CredentialDigest;
use claim::{DeviceId, Keyring, Secret, SecretDigest, TenantId, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{found, taken};
use crate::lookup::Forget;
use crate::outbox;
use crate::rows;
use crate::sealing::Sealer;
use crate::sqlite::SqliteRegistry;
use crate::writer::{After, Fault};

/// How long a generated token may be read for the first time.
pub(crate) const READABLE: Duration = Duration::from_secs(24 * 3600);

/// The keys credentials are kept under.
pub(crate) struct Vault {
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) sealer: Arc<Sealer>,
}

impl Vault {
    /// A generated token, sealed for its row.
    pub(crate) fn seal_token(
        &self,
        (tenant, device): (TenantId, DeviceId),
        id: &[u8; 16],
        token: &Secret<String>,
    ) -> Result<Vec<u8>, DirectoryError> {
        let bound_to: [&[u8]; 4] = [b"credential", tenant.as_bytes(), device.as_bytes(), id];
        self.sealer.seal(&bound_to, token.expose().as_bytes()).ok_or(DirectoryError::Unavailable)
    }

    /// The token that was sealed for this row.
    pub(crate) fn open_token(
        &self,
        (tenant, device): (TenantId, DeviceId),
        id: &[u8; 16],
        sealed: &[u8],
    ) -> Result<Secret<String>, DirectoryError> {
        let bound_to: [&[u8]; 4] = [b"credential", tenant.as_bytes(), device.as_bytes(), id];
        let clear = self.sealer.open(&bound_to, sealed);
        let clear = clear.ok_or(DirectoryError::Refused("the token was sealed under another master key"))?;
        Ok(Secret::new(String::from_utf8_lossy(clear.expose()).into_owned()))
    }
}

/// What is shown of a credential: stable, tells two apart, says nothing about the token.
pub(crate) fn masked(
    kind: CredentialKind,
    id: &[u8; 16],
    client_id: Option<&String>,
    user_name: Option<&String>,
) -> String {
    match (kind, user_name.or(client_id)) {
        (CredentialKind::MqttBasic, Some(name)) => name.clone(),
        _ => format!("********{:02x}{:02x}", id[14], id[15]),
    }
}

impl SqliteRegistry {
    pub(crate) fn vault(&self) -> Vault {
        Vault { keyring: Arc::clone(&self.keyring), sealer: Arc::clone(&self.sealer) }
    }
}

/// A random token: 22 characters of `A-Z a-z 0-9 - _`, 128 bits and more; it never begins with a dash, which command
/// lines would take for an option.
pub(crate) fn generate() -> Result<Secret<String>, DirectoryError> {
    let mut bytes = [0_u8; 17];
    loop {
        getrandom::fill(&mut bytes).map_err(|_| DirectoryError::Unavailable)?;
        let mut token = URL_SAFE_NO_PAD.encode(bytes);
        if !token.starts_with(['-', '_']) {
            token.truncate(22);
            return Ok(Secret::new(token));
        }
    }
}

/// What is kept of a credential.
pub(crate) struct Digests {
    pub(crate) kind: CredentialKind,
    pub(crate) digest: CredentialDigest,
    pub(crate) password: Option<SecretDigest>,
    pub(crate) client_id: Option<String>,
    pub(crate) user_name: Option<String>,
}

pub(crate) fn digests(keyring: &Keyring, draft: &CredentialDraft) -> Digests {
    match draft {
        CredentialDraft::AccessToken(token) => Digests {
            kind: CredentialKind::AccessToken,
            digest: keyring.access_token(token.expose()),
            password: None,
            client_id: None,
            user_name: None,
        },
        CredentialDraft::MqttBasic { client_id, user_name, password } => {
            let digest = keyring.mqtt_basic(client_id.as_deref(), user_name.as_deref());
            Digests {
                kind: CredentialKind::MqttBasic,
                password: password.as_ref().map(|word| keyring.mqtt_password(&digest, word.expose().as_bytes())),
                digest,
                client_id: client_id.clone(),
                user_name: user_name.clone(),
            }
        }
    }
}

const COLUMNS: &str = "c.id, c.device, c.kind, c.client_id, c.user_name, c.created_at, c.version, \
     c.sealed IS NOT NULL AND c.sealed_until > ?3";

fn read(row: &Row<'_>) -> rusqlite::Result<(CredentialView, bool)> {
    let id: [u8; 16] = rows::bytes(row, 0)?;
    let kind = if row.get::<_, i64>(2)? == 0 { CredentialKind::AccessToken } else { CredentialKind::MqttBasic };
    let (client_id, user_name): (Option<String>, Option<String>) = (row.get(3)?, row.get(4)?);
    let view = CredentialView {
        id,
        device: DeviceId::from_bytes(rows::bytes(row, 1)?),
        kind,
        readable_once: None,
        masked: masked(kind, &id, client_id.as_ref(), user_name.as_ref()),
        client_id,
        user_name,
        created_at: rows::instant(row, 5)?,
        version: row.get(6)?,
    };
    Ok((view, row.get(7)?))
}

/// The credential without any secret, and whether a token waits to be read.
pub(super) fn view(
    connection: &Connection,
    tenant: TenantId,
    device: DeviceId,
    now: Timestamp,
) -> rusqlite::Result<Option<(CredentialView, bool)>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM credential c JOIN device d ON d.id = c.device WHERE d.id = ?1 AND d.tenant = ?2"
    );
    connection
        .prepare_cached(&sql)?
        .query_row(params![device.as_bytes(), tenant.as_bytes(), now.as_millis()], read)
        .optional()
}

/// Reads a generated token the one time it may be read.
pub(super) fn take(
    connection: &Connection,
    vault: &Vault,
    tenant: TenantId,
    device: DeviceId,
    now: Timestamp,
) -> Result<CredentialView, Fault> {
    let (mut view, waits) = found(view(connection, tenant, device, now)?, "credential")?;
    if !waits {
        return Ok(view);
    }
    let sealed: Vec<u8> = connection
        .prepare_cached("SELECT sealed FROM credential WHERE device = ?1")?
        .query_row([device.as_bytes()], |row| row.get(0))?;
    view.readable_once = Some(vault.open_token((tenant, device), &view.id, &sealed)?);
    connection
        .prepare_cached("UPDATE credential SET sealed = NULL, sealed_until = NULL WHERE device = ?1")?
        .execute([device.as_bytes()])?;
    Ok(view)
}

/// Gives a new device its credential: the one it came with, or a random access token, which is shown in this answer and
/// once more by the first read within a day (stock clients make the device first and ask for the token after).
pub(crate) fn create(
    connection: &Connection,
    after: &mut After,
    vault: &Vault,
    (tenant, device): (TenantId, DeviceId),
    draft: Option<&CredentialDraft>,
    now: Timestamp,
) -> Result<CredentialView, Fault> {
    if let Some(draft) = draft {
        insert(connection, after, vault, (tenant, device), draft, None, now)?;
        let (view, _) = found(view(connection, tenant, device, now)?, "credential")?;
        return Ok(view);
    }
    let token = generate()?;
    let draft = CredentialDraft::AccessToken(Secret::new(token.expose().clone()));
    insert(connection, after, vault, (tenant, device), &draft, Some(&token), now)?;
    let (view, _) = found(view(connection, tenant, device, now)?, "credential")?;
    Ok(CredentialView { readable_once: Some(token), ..view })
}

fn insert(
    connection: &Connection,
    after: &mut After,
    vault: &Vault,
    (tenant, device): (TenantId, DeviceId),
    draft: &CredentialDraft,
    readable: Option<&Secret<String>>,
    now: Timestamp,
) -> Result<(), Fault> {
    let digests = digests(&vault.keyring, draft);
    let id = *DeviceId::random().as_bytes();
    let sealed = match readable {
        None => None,
        Some(token) => Some(vault.seal_token((tenant, device), &id, token)?),
    };
    connection
        .prepare_cached(
            "INSERT INTO credential (id, device, kind, digest, password_digest, client_id, user_name, sealed, \
             sealed_until, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            id,
            device.as_bytes(),
            i64::from(digests.kind == CredentialKind::MqttBasic),
            digests.digest.as_bytes(),
            digests.password.as_ref().map(|digest| digest.as_bytes().as_slice()),
            digests.client_id,
            digests.user_name,
            sealed,
            sealed.as_ref().map(|_| now.plus(READABLE).as_millis()),
            now.as_millis()
        ])
        .map_err(taken("credential"))?;
    // It may be known as unknown.
    after.forget.push(Forget::Credential(*digests.digest.as_bytes()));
    Ok(())
}

pub(super) fn replace(
    connection: &Connection,
    after: &mut After,
    vault: &Vault,
    (tenant, device): (TenantId, DeviceId),
    draft: &CredentialDraft,
    now: Timestamp,
) -> Result<CredentialView, Fault> {
    let name: String = connection
        .prepare_cached("SELECT name FROM device WHERE id = ?1 AND tenant = ?2")?
        .query_row(params![device.as_bytes(), tenant.as_bytes()], |row| row.get(0))
        .optional()?
        .ok_or(DirectoryError::NotFound("device"))?;
    let version = forget(connection, after, device)?;
    connection.prepare_cached("DELETE FROM credential WHERE device = ?1")?.execute([device.as_bytes()])?;
    insert(connection, after, vault, (tenant, device), draft, None, now)?;
    connection
        .prepare_cached("UPDATE credential SET version = ?2 WHERE device = ?1")?
        .execute(params![device.as_bytes(), version.unwrap_or(0) + 1])?;
    outbox::insert(connection, tenant, device, &name, outbox::Kind::CredentialRevoked, now)?;
    after.event = true;
    let (view, _) = found(view(connection, tenant, device, now)?, "credential")?;
    Ok(view)
}

/// The look-up cache forgets the device's credential; returns its version.
pub(super) fn forget(connection: &Connection, after: &mut After, device: DeviceId) -> rusqlite::Result<Option<i64>> {
    let row: Option<([u8; 32], i64)> = connection
        .prepare_cached("SELECT digest, version FROM credential WHERE device = ?1")?
        .query_row([device.as_bytes()], |row| Ok((rows::bytes(row, 0)?, row.get(1)?)))
        .optional()?;
    Ok(row.map(|(digest, version)| {
        after.forget.push(Forget::Credential(digest));
        version
    }))
}
