//! The registry as the hot path sees it, and its look-ups, answered from the look-up cache while they are in it.

use std::sync::Arc;

use claim::event::AuditNote;
use claim::ports::{
    AssignOwner, Assignment, Child, ClaimSubject, CredentialHolder, DeviceRegistry, Release, ReleaseOwner, Remembered,
    ResolveChildren, RetryKey, StoredCode, VoidPending, WriteError,
};
use claim::secret::CredentialDigest;
use claim::{Device, DeviceId, DeviceName, Eui64, PortFuture, TenantId, Timestamp, Unavailable};

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

impl DeviceRegistry for PostgresRegistry {
    fn find_credential(
        &self,
        digest: CredentialDigest,
    ) -> PortFuture<'_, Result<Option<CredentialHolder>, Unavailable>> {
        match self.core.shared.lookup.credential(&digest) {
            Some(found) => PortFuture::ready(Ok(found)),
            None => PortFuture::later(self.load_credential(digest)),
        }
    }

    fn device(&self, device: DeviceId) -> PortFuture<'_, Result<Option<Arc<Device>>, Unavailable>> {
        match self.core.shared.lookup.device(device) {
            Some(found) => PortFuture::ready(Ok(found)),
            None => PortFuture::later(self.load_device(device)),
        }
    }

    fn device_now(&self, device: DeviceId) -> PortFuture<'_, Result<Option<Arc<Device>>, Unavailable>> {
        PortFuture::later(self.load_device(device))
    }

    fn find(&self, tenant: TenantId, name: &DeviceName) -> PortFuture<'_, Result<Option<ClaimSubject>, Unavailable>> {
        let args = (tenant, name.clone());
        PortFuture::later(self.read(args, |db, (tenant, name)| Box::pin(subject(db, *tenant, name))))
    }

    fn name_of(
        &self,
        tenant: TenantId,
        dev_eui: Eui64,
        join_eui: Option<Eui64>,
    ) -> PortFuture<'_, Result<Option<DeviceName>, Unavailable>> {
        PortFuture::later(self.read((tenant, dev_eui, join_eui), |db, (tenant, dev_eui, join_eui)| {
            Box::pin(name_of(db, *tenant, *dev_eui, *join_eui))
        }))
    }

    fn assign_owner<'a>(&'a self, request: AssignOwner<'a>) -> PortFuture<'a, Result<Assignment, WriteError>> {
        PortFuture::later(self.assign(request))
    }

    fn release_owner<'a>(&'a self, request: ReleaseOwner<'a>) -> PortFuture<'a, Result<Release, WriteError>> {
        PortFuture::later(self.release(request))
    }

    fn void_pending<'a>(&'a self, request: VoidPending<'a>) -> PortFuture<'a, Result<Option<Timestamp>, WriteError>> {
        PortFuture::later(self.make_void(request))
    }

    fn resolve_children(&self, request: ResolveChildren) -> PortFuture<'_, Result<Vec<Child>, Unavailable>> {
        PortFuture::later(self.resolve(request))
    }

    fn gateways_of(&self, device: DeviceId) -> PortFuture<'_, Result<Arc<[DeviceId]>, Unavailable>> {
        match self.core.shared.lookup.gateways(device) {
            Some(found) => PortFuture::ready(Ok(found)),
            None => PortFuture::later(self.load_gateways(device)),
        }
    }

    fn remembered<'a>(&'a self, key: &'a RetryKey) -> PortFuture<'a, Result<Option<Remembered>, Unavailable>> {
        PortFuture::later(self.recall(*key))
    }

    fn remember<'a>(
        &'a self,
        key: &'a RetryKey,
        answer: String,
        now: Timestamp,
    ) -> PortFuture<'a, Result<(), Unavailable>> {
        PortFuture::later(self.keep(*key, answer, now))
    }

    fn note(&self, note: AuditNote) {
        self.admit(note);
    }

    fn note_charged(&self, note: AuditNote) -> PortFuture<'_, Result<(), Unavailable>> {
        self.charge(note)
    }
}
