//! The look-ups of the hot path, answered from the look-up cache while they are in it.

use std::sync::Arc;

use claim::ports::{ClaimSubject, CredentialHolder, StoredCode};
use claim::secret::CredentialDigest;
use claim::{Device, DeviceId, DeviceName, Eui64, TenantId, Unavailable};

use super::db::{Db, Fault};
use super::{PostgresRegistry, rows};
use crate::rows::{DEVICE, DEVICE_COLUMNS, DEVICE_FROM};

impl PostgresRegistry {
    pub(super) async fn load_credential(
        &self,
        digest: CredentialDigest,
    ) -> Result<Option<CredentialHolder>, Unavailable> {
        let before = self.core.shared.lookup.before();
        let found = self.read(digest, |db, digest| Box::pin(credential(db, digest))).await?;
        self.core.shared.lookup.put_credential(before, digest, found.as_ref());
        Ok(found)
    }

    pub(super) async fn load_device(&self, id: DeviceId) -> Result<Option<Arc<Device>>, Unavailable> {
        let before = self.core.shared.lookup.before();
        let found = self.read(id, |db, id| Box::pin(device_by_id(db, *id))).await?.map(Arc::new);
        self.core.shared.lookup.put_device(before, id, found.clone());
        Ok(found)
    }

    pub(super) async fn load_gateways(&self, id: DeviceId) -> Result<Arc<[DeviceId]>, Unavailable> {
        let before = self.core.shared.lookup.before();
        let found: Arc<[DeviceId]> = self.read(id, |db, id| Box::pin(gateways(db, *id))).await?.into();
        self.core.shared.lookup.put_gateways(before, id, Arc::clone(&found));
        Ok(found)
    }
}

async fn credential(db: &Db, digest: &CredentialDigest) -> Result<Option<CredentialHolder>, Fault> {
    let sql = format!(
        "SELECT {DEVICE}, c.password_digest FROM {DEVICE_FROM} JOIN credential c ON c.device = d.id WHERE c.digest = $1"
    );
    let Some(row) = db.row(&sql, &[&digest.as_bytes().as_slice()]).await? else { return Ok(None) };
    Ok(Some(CredentialHolder { device: Arc::new(rows::device(&row)?), password: rows::digest(&row, DEVICE_COLUMNS)? }))
}

pub(crate) async fn device_by_id(db: &Db, id: DeviceId) -> Result<Option<Device>, Fault> {
    let row = db.row(&format!("SELECT {DEVICE} FROM {DEVICE_FROM} WHERE d.id = $1"), &[&id.uuid()]).await?;
    row.as_ref().map(rows::device).transpose()
}

async fn gateways(db: &Db, id: DeviceId) -> Result<Vec<DeviceId>, Fault> {
    let found = db.rows("SELECT gateway FROM relation WHERE device = $1 LIMIT 16", &[&id.uuid()]).await?;
    found.iter().map(|row| Ok(DeviceId::from_bytes(rows::id(row, 0)?))).collect()
}

pub(super) async fn subject(db: &Db, tenant: TenantId, name: &DeviceName) -> Result<Option<ClaimSubject>, Fault> {
    let sql = format!(
        "SELECT {DEVICE}, d.proof_digest, d.code_digest, d.code_from, d.code_until, d.code_any_case FROM {DEVICE_FROM} \
         WHERE d.tenant = $1 AND d.name = $2"
    );
    let Some(row) = db.row(&sql, &[&tenant.uuid(), &name.as_str()]).await? else { return Ok(None) };
    let from = rows::optional_instant(&row, DEVICE_COLUMNS + 2)?;
    let until = rows::optional_instant(&row, DEVICE_COLUMNS + 3)?;
    let any_case = rows::get::<Option<bool>>(&row, DEVICE_COLUMNS + 4)?.unwrap_or(false);
    let code = rows::digest(&row, DEVICE_COLUMNS + 1)?;
    Ok(Some(ClaimSubject {
        device: rows::device(&row)?,
        proof: rows::digest(&row, DEVICE_COLUMNS)?,
        stored_code: code.map(|digest| StoredCode { digest, from, until, any_case }),
    }))
}

pub(super) async fn name_of(
    db: &Db,
    tenant: TenantId,
    dev_eui: Eui64,
    join_eui: Option<Eui64>,
) -> Result<Option<DeviceName>, Fault> {
    let sql = "SELECT name FROM device WHERE dev_eui = $1 AND tenant = $2 AND ($3::bytea IS NULL OR join_eui = $3)";
    let join_eui = join_eui.as_ref().map(|eui| eui.as_bytes().as_slice());
    let row = db.row(sql, &[&dev_eui.as_bytes().as_slice(), &tenant.uuid(), &join_eui]).await?;
    row.map(|row| rows::name(&row, 0)).transpose()
}
