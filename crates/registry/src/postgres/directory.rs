//! Makers' and operators' work, by kind of thing: every statement names the tenant. See `crate::directory`.

pub(crate) mod accounts;
mod api_keys;
pub(crate) mod credentials;
pub(crate) mod customers;
pub(crate) mod devices;
mod log;
pub(crate) mod profiles;
mod sessions;
mod settings;
mod tenants;

use std::sync::Arc;

use claim::applications::By;
use claim::device::ProfileId;
use claim::directory::{
    Account, AccountChange, AccountDraft, Answer, ApiKey, ApiKeyDraft, ApiKeyId, ClaimSettings, ClaimSettingsChange,
    CredentialDraft, CredentialView, Customer, DeviceDraft, DeviceProfile, DeviceRecord, Directory, Page, PageRequest,
    RefreshSession, RefreshUse, Tenant,
};
use claim::ports::AttemptKeys;
use claim::{CustomerId, DeviceId, DeviceName, PortFuture, TenantId, Timestamp, UserId};

use super::PostgresRegistry;
use super::db::{Db, Fault};
use crate::directory::credentials::Vault;
use crate::directory::found;

/// The audit row of something done to the directory itself; `reason` names the thing, and a person by id alone.
pub(crate) async fn audit(db: &Db, tenant: TenantId, action: &str, reason: &str, by: By) -> Result<(), Fault> {
    let sql = "INSERT INTO audit (at, tenant, actor_kind, actor, action, outcome, reason, evidence, count, charged, \
         origin, request_id) VALUES ($1, $2, 'account', $3, $4, 'done', $5, 'none', 1, FALSE, 'api', 0)";
    db.run(sql, &[&by.now.as_millis(), &tenant.uuid(), &by.account.uuid(), &action, &reason]).await?;
    Ok(())
}

impl PostgresRegistry {
    pub(crate) fn vault(&self) -> Vault {
        Vault { keyring: Arc::clone(&self.keyring), sealer: Arc::clone(&self.sealer) }
    }
}

impl Directory for PostgresRegistry {
    fn create_tenant(&self, title: String, now: Timestamp) -> Answer<'_, Tenant> {
        self.change((title, now), |db, _, (title, now)| Box::pin(tenants::create(db, title, *now)))
    }

    fn rename_tenant(&self, id: TenantId, title: String, by: By) -> Answer<'_, Tenant> {
        self.change_locked((id, title, by), |db, _, (id, title, by)| Box::pin(tenants::rename(db, *id, title, *by)))
    }

    fn tenants(&self, page: PageRequest) -> Answer<'_, Page<Tenant>> {
        PortFuture::later(self.look(page, |db, page| Box::pin(tenants::list(db, page))))
    }

    fn tenant(&self, id: TenantId) -> Answer<'_, Tenant> {
        self.look_for("tenant", id, |db, id| Box::pin(tenants::one(db, *id)))
    }

    fn delete_tenant(&self, id: TenantId, now: Timestamp) -> Answer<'_, ()> {
        self.change((id, now), |db, after, (id, now)| Box::pin(tenants::delete(db, after, *id, *now)))
    }

    fn create_customer(
        &self,
        tenant: TenantId,
        title: String,
        additional_info: Option<String>,
        now: Timestamp,
    ) -> Answer<'_, Customer> {
        self.change_locked((tenant, title, additional_info, now), |db, _, (tenant, title, additional_info, now)| {
            Box::pin(customers::create(db, *tenant, title, additional_info.as_deref(), *now))
        })
    }

    fn update_customer(
        &self,
        tenant: TenantId,
        id: CustomerId,
        title: String,
        additional_info: Option<String>,
    ) -> Answer<'_, Customer> {
        self.change_locked((tenant, id, title, additional_info), |db, _, (tenant, id, title, additional_info)| {
            Box::pin(customers::update(db, *tenant, *id, title, additional_info.as_deref()))
        })
    }

    fn customer(&self, tenant: TenantId, id: CustomerId) -> Answer<'_, Customer> {
        self.look_for("customer", (tenant, id), |db, (tenant, id)| Box::pin(customers::one(db, *tenant, *id)))
    }

    fn customers(&self, tenant: TenantId, page: PageRequest) -> Answer<'_, Page<Customer>> {
        PortFuture::later(self.look((tenant, page), |db, (tenant, page)| Box::pin(customers::list(db, *tenant, page))))
    }

    fn delete_customer(&self, tenant: TenantId, id: CustomerId, _now: Timestamp) -> Answer<'_, ()> {
        self.change_locked((tenant, id), |db, _, (tenant, id)| Box::pin(customers::delete(db, *tenant, *id)))
    }

    fn create_account(&self, draft: AccountDraft, now: Timestamp) -> Answer<'_, Account> {
        self.change((draft, now), |db, _, (draft, now)| Box::pin(accounts::create(db, draft, *now)))
    }

    fn bootstrap(&self, email: String, password_hash: String, now: Timestamp) -> Answer<'_, Option<Account>> {
        self.change((email, password_hash, now), |db, _, (email, password_hash, now)| {
            Box::pin(accounts::bootstrap(db, email, password_hash, *now))
        })
    }

    fn has_accounts(&self) -> Answer<'_, bool> {
        PortFuture::later(self.look((), |db, _| Box::pin(accounts::any(db))))
    }

    fn account(&self, id: UserId) -> Answer<'_, Account> {
        self.look_for("account", id, |db, id| Box::pin(accounts::one(db, *id)))
    }

    fn account_by_email(&self, email: String) -> Answer<'_, Option<(Account, Option<String>)>> {
        PortFuture::later(self.look(email, |db, email| Box::pin(accounts::by_email(db, email))))
    }

    fn accounts(&self, tenant: TenantId, customer: Option<CustomerId>, page: PageRequest) -> Answer<'_, Page<Account>> {
        PortFuture::later(self.look((tenant, customer, page), |db, (tenant, customer, page)| {
            Box::pin(accounts::list(db, *tenant, *customer, page))
        }))
    }

    fn change_account(&self, tenant: TenantId, id: UserId, change: AccountChange, by: By) -> Answer<'_, Account> {
        self.change_locked((tenant, id, change, by), |db, _, (tenant, id, change, by)| {
            Box::pin(accounts::change(db, *tenant, *id, change, *by))
        })
    }

    fn delete_account(&self, tenant: TenantId, id: UserId) -> Answer<'_, ()> {
        self.change((tenant, id), |db, _, (tenant, id)| Box::pin(accounts::delete(db, *tenant, *id)))
    }

    fn set_password(&self, id: UserId, password_hash: String) -> Answer<'_, ()> {
        self.change_locked((id, password_hash), |db, _, (id, password_hash)| {
            Box::pin(accounts::set_password(db, *id, password_hash))
        })
    }

    fn set_activation(&self, tenant: TenantId, id: UserId, digest: [u8; 32], expires_at: Timestamp) -> Answer<'_, ()> {
        self.change_locked((tenant, id, digest, expires_at), |db, _, (tenant, id, digest, expires_at)| {
            Box::pin(accounts::set_activation(db, *tenant, *id, digest, *expires_at))
        })
    }

    fn activate(&self, digest: [u8; 32], password_hash: String, now: Timestamp) -> Answer<'_, Option<Account>> {
        self.change_locked((digest, password_hash, now), |db, _, (digest, password_hash, now)| {
            Box::pin(accounts::activate(db, digest, password_hash, *now))
        })
    }

    fn open_session(&self, session: RefreshSession) -> Answer<'_, ()> {
        self.change_locked(session, |db, _, session| Box::pin(sessions::open(db, session)))
    }

    fn rotate_session(
        &self,
        digest: [u8; 32],
        successor: [u8; 32],
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Answer<'_, RefreshUse> {
        self.change_locked((digest, successor, expires_at, now), |db, _, (digest, successor, expires_at, now)| {
            Box::pin(sessions::rotate(db, digest, *successor, *expires_at, *now))
        })
    }

    fn create_api_key(&self, draft: ApiKeyDraft, now: Timestamp) -> Answer<'_, ApiKey> {
        self.change_locked((draft, now), |db, _, (draft, now)| Box::pin(api_keys::create(db, draft, *now)))
    }

    fn api_keys(&self, account: UserId) -> Answer<'_, Vec<ApiKey>> {
        PortFuture::later(self.look(account, |db, account| Box::pin(api_keys::list(db, *account))))
    }

    fn delete_api_key(&self, account: UserId, id: ApiKeyId, now: Timestamp) -> Answer<'_, ()> {
        self.change_locked((account, id, now), |db, _, (account, id, now)| {
            Box::pin(api_keys::delete(db, *account, *id, *now))
        })
    }

    fn api_key_holder(&self, digest: [u8; 32], now: Timestamp) -> Answer<'_, Option<(Account, Option<Timestamp>)>> {
        PortFuture::later(self.look((digest, now), |db, (digest, now)| Box::pin(api_keys::holder(db, digest, *now))))
    }

    fn save_device(
        &self,
        tenant: TenantId,
        draft: DeviceDraft,
        by: By,
    ) -> Answer<'_, (DeviceRecord, Option<CredentialView>)> {
        self.change_locked((self.vault(), tenant, draft, by), |db, after, (vault, tenant, draft, by)| {
            Box::pin(devices::save(db, after, vault, *tenant, draft, *by))
        })
    }

    fn device_record(&self, tenant: TenantId, id: DeviceId) -> Answer<'_, DeviceRecord> {
        self.look_for("device", (tenant, id), |db, (tenant, id)| Box::pin(devices::one(db, *tenant, *id)))
    }

    fn device_by_name(&self, tenant: TenantId, name: DeviceName) -> Answer<'_, DeviceRecord> {
        self.look_for("device", (tenant, name), |db, (tenant, name)| Box::pin(devices::by_name(db, *tenant, name)))
    }

    fn devices(
        &self,
        tenant: TenantId,
        owner: Option<CustomerId>,
        page: PageRequest,
    ) -> Answer<'_, Page<DeviceRecord>> {
        PortFuture::later(self.look((tenant, owner, page), |db, (tenant, owner, page)| {
            Box::pin(devices::list(db, *tenant, *owner, page))
        }))
    }

    fn delete_device(&self, tenant: TenantId, id: DeviceId, by: By) -> Answer<'_, ()> {
        self.change_locked((tenant, id, by), |db, after, (tenant, id, by)| {
            Box::pin(devices::delete(db, after, *tenant, *id, *by))
        })
    }

    fn assign_by_admin(
        &self,
        tenant: TenantId,
        device: DeviceId,
        customer: CustomerId,
        account: UserId,
        now: Timestamp,
    ) -> Answer<'_, DeviceRecord> {
        self.change_locked(
            (tenant, device, customer, account, now),
            |db, after, (tenant, device, customer, account, now)| {
                Box::pin(devices::assign_by_admin(db, after, (*tenant, *device), *customer, *account, *now))
            },
        )
    }

    fn credential(&self, tenant: TenantId, device: DeviceId, now: Timestamp) -> Answer<'_, CredentialView> {
        PortFuture::later(async move {
            let view = self.look((tenant, device, now), |db, (tenant, device, now)| {
                Box::pin(credentials::view(db, *tenant, *device, *now))
            });
            let (view, sealed) = found(view.await?, "credential")?;
            if !sealed {
                return Ok(view);
            }
            // Reading it once is a change: of two readers one gets it.
            let args = (self.vault(), tenant, device, now);
            let take = self.change_locked(args, |db, _, (vault, tenant, device, now)| {
                Box::pin(credentials::take(db, vault, *tenant, *device, *now))
            });
            take.await
        })
    }

    fn set_credential(
        &self,
        tenant: TenantId,
        device: DeviceId,
        draft: CredentialDraft,
        now: Timestamp,
    ) -> Answer<'_, CredentialView> {
        self.change_locked(
            (self.vault(), tenant, device, draft, now),
            |db, after, (vault, tenant, device, draft, now)| {
                Box::pin(credentials::replace(db, after, vault, (*tenant, *device), draft, *now))
            },
        )
    }

    fn claim_settings(&self, tenant: TenantId, device: DeviceId) -> Answer<'_, ClaimSettings> {
        self.look_for("device", (tenant, device), |db, (tenant, device)| Box::pin(settings::read(db, *tenant, *device)))
    }

    fn change_claim_settings(
        &self,
        tenant: TenantId,
        device: DeviceId,
        change: ClaimSettingsChange,
        by: By,
    ) -> Answer<'_, ()> {
        self.change_locked((tenant, device, change, by), |db, after, (tenant, device, change, by)| {
            Box::pin(settings::change(db, after, (*tenant, *device), change, *by))
        })
    }

    fn save_profile(&self, profile: DeviceProfile) -> Answer<'_, DeviceProfile> {
        self.change_locked(profile, |db, after, profile| Box::pin(profiles::save(db, after, profile)))
    }

    fn profiles(&self, tenant: TenantId, page: PageRequest) -> Answer<'_, Page<DeviceProfile>> {
        PortFuture::later(self.look((tenant, page), |db, (tenant, page)| Box::pin(profiles::list(db, *tenant, page))))
    }

    fn profile(&self, tenant: TenantId, id: ProfileId) -> Answer<'_, DeviceProfile> {
        self.look_for("device profile", (tenant, id), |db, (tenant, id)| Box::pin(profiles::one(db, *tenant, *id)))
    }

    fn delete_profile(&self, tenant: TenantId, id: ProfileId) -> Answer<'_, ()> {
        self.change_locked((tenant, id), |db, _, (tenant, id)| Box::pin(profiles::delete(db, *tenant, *id)))
    }

    fn relate(&self, tenant: TenantId, gateway: DeviceId, device: DeviceId, now: Timestamp) -> Answer<'_, ()> {
        self.change_locked((tenant, gateway, device, now), |db, after, (tenant, gateway, device, now)| {
            Box::pin(settings::relate(db, after, *tenant, *gateway, *device, *now))
        })
    }

    fn unrelate(&self, tenant: TenantId, gateway: DeviceId, device: DeviceId) -> Answer<'_, ()> {
        self.change_locked((tenant, gateway, device), |db, after, (tenant, gateway, device)| {
            Box::pin(settings::unrelate(db, after, *tenant, *gateway, *device))
        })
    }

    fn charged_tries(&self, since: Timestamp) -> Answer<'_, Vec<(AttemptKeys, Timestamp)>> {
        PortFuture::later(self.look(since, |db, since| Box::pin(log::charged(db, *since))))
    }

    fn ping(&self) -> Answer<'_, ()> {
        PortFuture::later(self.look((), |db, _| Box::pin(async { db.one("SELECT 1", &[]).await.map(drop) })))
    }
}
