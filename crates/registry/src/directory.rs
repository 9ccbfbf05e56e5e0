//! Makers' and operators' work, by kind of thing: every statement names the tenant.

pub(crate) mod accounts;
pub(crate) mod api_keys;
pub(crate) mod credentials;
pub(crate) mod customers;
pub(crate) mod devices;
mod log;
pub(crate) mod profiles;
pub(crate) mod sessions;
pub(crate) mod settings;
pub(crate) mod tenants;

use std::future::Future;

use claim::applications::By;
use claim::device::ProfileId;
use claim::directory::{
    Account, AccountChange, AccountDraft, Answer, ApiKey, ApiKeyDraft, ApiKeyId, ClaimSettings, ClaimSettingsChange,
    CredentialDraft, CredentialView, Customer, DeviceDraft, DeviceProfile, DeviceRecord, Directory, DirectoryError,
    Page, PageRequest, RefreshSession, RefreshUse, Tenant,
};
use claim::ports::AttemptKeys;
use claim::{CustomerId, DeviceId, DeviceName, PortFuture, TenantId, Timestamp, Unavailable, UserId};
use rusqlite::{Connection, Error, ErrorCode, Row, params};

use crate::sqlite::SqliteRegistry;
use crate::writer::{After, Fault, NotWritten};

impl From<NotWritten> for DirectoryError {
    fn from(error: NotWritten) -> Self {
        match error {
            NotWritten::Refused(error) => error,
            NotWritten::Unavailable | NotWritten::Unknown => DirectoryError::Unavailable,
        }
    }
}

fn unavailable(_: Unavailable) -> DirectoryError {
    DirectoryError::Unavailable
}

/// A broken UNIQUE is somebody's name that is taken; anything else is the database's trouble.
pub(crate) fn taken(what: &'static str) -> impl Fn(Error) -> Fault {
    move |error| match &error {
        Error::SqliteFailure(code, _) if code.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE => {
            Fault::Refused(DirectoryError::Taken(what))
        }
        _ => Fault::Database(error),
    }
}

/// A broken foreign key: what was named is gone, or what should go is in use.
pub(crate) fn broken_reference(refusal: DirectoryError) -> impl Fn(Error) -> Fault {
    move |error| match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation) => Fault::Refused(refusal.clone()),
        _ => Fault::Database(error),
    }
}

pub(crate) fn found<T>(value: Option<T>, what: &'static str) -> Result<T, DirectoryError> {
    value.ok_or(DirectoryError::NotFound(what))
}

/// The audit row of something done to the directory itself; `reason` names the thing, and a person by id alone.
pub(crate) fn audit(
    connection: &Connection,
    tenant: TenantId,
    action: &str,
    reason: &str,
    by: By,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO audit (at, tenant, actor_kind, actor, action, outcome, reason, evidence, count, charged, origin, \
             request_id) VALUES (?1, ?2, 'account', ?3, ?4, 'done', ?5, 'none', 1, 0, 'api', 0)",
        )?
        .execute(params![by.now.as_millis(), tenant.as_bytes(), by.account.as_bytes(), action, reason])?;
    Ok(())
}

/// What LIKE compares with to find a request's text anywhere: its wildcards are taken literally.
pub(crate) fn pattern(request: &PageRequest) -> Option<String> {
    let text = request.text.as_ref()?;
    let escaped = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    Some(format!("%{escaped}%"))
}

/// One page of `FROM … WHERE …`, ordered by `order`, with the number of rows in all. `text` is matched anywhere in
/// `order`, in any letter case; LIKE's wildcards in it are taken literally.
pub(crate) fn page<T>(
    connection: &Connection,
    select: &str,
    from: &str,
    order: &str,
    values: &[&dyn rusqlite::ToSql],
    request: &PageRequest,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Page<T>> {
    let mut from = from.to_owned();
    let mut values = values.to_vec();
    let pattern = pattern(request);
    if let Some(pattern) = &pattern {
        values.push(pattern);
        from.push_str(&format!(" AND {order} LIKE ?{} ESCAPE '\\'", values.len()));
    }
    let total: i64 = connection
        .prepare_cached(&format!("SELECT count(*) FROM {from}"))?
        .query_row(values.as_slice(), |row| row.get(0))?;
    let (size, offset) = (i64::from(request.size), i64::from(request.size) * i64::from(request.page));
    values.push(&size);
    values.push(&offset);
    let sql =
        format!("SELECT {select} FROM {from} ORDER BY {order} LIMIT ?{} OFFSET ?{}", values.len() - 1, values.len());
    let rows = connection.prepare_cached(&sql)?.query_map(values.as_slice(), read)?.collect::<Result<_, _>>()?;
    Ok(Page { rows, total: total.unsigned_abs() })
}

impl SqliteRegistry {
    /// A read, as a directory's answer.
    pub(crate) fn look<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> impl Future<Output = Result<T, DirectoryError>> + Send {
        let reading = self.readers.read(read);
        async move { reading.await.map_err(unavailable) }
    }

    /// A read of one thing that must be there.
    pub(crate) fn look_for<T: Send + 'static>(
        &self,
        what: &'static str,
        read: impl FnOnce(&Connection) -> rusqlite::Result<Option<T>> + Send + 'static,
    ) -> Answer<'_, T> {
        let reading = self.look(read);
        PortFuture::later(async move { found(reading.await?, what) })
    }

    /// A change, as a directory's answer.
    pub(crate) fn change<'a, T: Send + 'static>(
        &'a self,
        change: impl FnOnce(&Connection, &mut After) -> Result<T, Fault> + Send + 'static,
    ) -> Answer<'a, T> {
        PortFuture::later(async move { Ok(self.write(change).await?) })
    }
}

impl Directory for SqliteRegistry {
    fn create_tenant(&self, title: String, now: Timestamp) -> Answer<'_, Tenant> {
        self.change(move |connection, _| tenants::create(connection, title, now))
    }

    fn rename_tenant(&self, id: TenantId, title: String, by: By) -> Answer<'_, Tenant> {
        self.change(move |connection, _| tenants::rename(connection, id, &title, by))
    }

    fn tenants(&self, page: PageRequest) -> Answer<'_, Page<Tenant>> {
        PortFuture::later(self.look(move |connection| tenants::list(connection, &page)))
    }

    fn tenant(&self, id: TenantId) -> Answer<'_, Tenant> {
        self.look_for("tenant", move |connection| tenants::one(connection, id))
    }

    fn delete_tenant(&self, id: TenantId, now: Timestamp) -> Answer<'_, ()> {
        self.change(move |connection, after| tenants::delete(connection, after, id, now))
    }

    fn create_customer(
        &self,
        tenant: TenantId,
        title: String,
        additional_info: Option<String>,
        now: Timestamp,
    ) -> Answer<'_, Customer> {
        self.change(move |connection, _| customers::create(connection, tenant, title, additional_info, now))
    }

    fn update_customer(
        &self,
        tenant: TenantId,
        id: CustomerId,
        title: String,
        additional_info: Option<String>,
    ) -> Answer<'_, Customer> {
        self.change(move |connection, _| customers::update(connection, tenant, id, &title, additional_info.as_deref()))
    }

    fn customer(&self, tenant: TenantId, id: CustomerId) -> Answer<'_, Customer> {
        self.look_for("customer", move |connection| customers::one(connection, tenant, id))
    }

    fn customers(&self, tenant: TenantId, page: PageRequest) -> Answer<'_, Page<Customer>> {
        PortFuture::later(self.look(move |connection| customers::list(connection, tenant, &page)))
    }

    fn delete_customer(&self, tenant: TenantId, id: CustomerId, _now: Timestamp) -> Answer<'_, ()> {
        self.change(move |connection, _| customers::delete(connection, tenant, id))
    }

    fn create_account(&self, draft: AccountDraft, now: Timestamp) -> Answer<'_, Account> {
        self.change(move |connection, _| accounts::create(connection, &draft, now))
    }

    fn bootstrap(&self, email: String, password_hash: String, now: Timestamp) -> Answer<'_, Option<Account>> {
        self.change(move |connection, _| accounts::bootstrap(connection, email, password_hash, now))
    }

    fn has_accounts(&self) -> Answer<'_, bool> {
        PortFuture::later(self.look(accounts::any))
    }

    fn account(&self, id: UserId) -> Answer<'_, Account> {
        self.look_for("account", move |connection| accounts::one(connection, id))
    }

    fn account_by_email(&self, email: String) -> Answer<'_, Option<(Account, Option<String>)>> {
        PortFuture::later(self.look(move |connection| accounts::by_email(connection, &email)))
    }

    fn accounts(&self, tenant: TenantId, customer: Option<CustomerId>, page: PageRequest) -> Answer<'_, Page<Account>> {
        PortFuture::later(self.look(move |connection| accounts::list(connection, tenant, customer, &page)))
    }

    fn change_account(&self, tenant: TenantId, id: UserId, change: AccountChange, by: By) -> Answer<'_, Account> {
        self.change(move |connection, _| accounts::change(connection, tenant, id, &change, by))
    }

    fn delete_account(&self, tenant: TenantId, id: UserId) -> Answer<'_, ()> {
        self.change(move |connection, _| accounts::delete(connection, tenant, id))
    }

    fn set_password(&self, id: UserId, password_hash: String) -> Answer<'_, ()> {
        self.change(move |connection, _| accounts::set_password(connection, id, &password_hash))
    }

    fn set_activation(&self, tenant: TenantId, id: UserId, digest: [u8; 32], expires_at: Timestamp) -> Answer<'_, ()> {
        self.change(move |connection, _| accounts::set_activation(connection, tenant, id, digest, expires_at))
    }

    fn activate(&self, digest: [u8; 32], password_hash: String, now: Timestamp) -> Answer<'_, Option<Account>> {
        self.change(move |connection, _| accounts::activate(connection, digest, &password_hash, now))
    }

    fn open_session(&self, session: RefreshSession) -> Answer<'_, ()> {
        self.change(move |connection, _| sessions::open(connection, &session))
    }

    fn rotate_session(
        &self,
        digest: [u8; 32],
        successor: [u8; 32],
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Answer<'_, RefreshUse> {
        self.change(move |connection, _| sessions::rotate(connection, digest, successor, expires_at, now))
    }

    fn create_api_key(&self, draft: ApiKeyDraft, now: Timestamp) -> Answer<'_, ApiKey> {
        self.change(move |connection, _| api_keys::create(connection, &draft, now))
    }

    fn api_keys(&self, account: UserId) -> Answer<'_, Vec<ApiKey>> {
        PortFuture::later(self.look(move |connection| api_keys::list(connection, account)))
    }

    fn delete_api_key(&self, account: UserId, id: ApiKeyId, now: Timestamp) -> Answer<'_, ()> {
        self.change(move |connection, _| api_keys::delete(connection, account, id, now))
    }

    fn api_key_holder(&self, digest: [u8; 32], now: Timestamp) -> Answer<'_, Option<(Account, Option<Timestamp>)>> {
        PortFuture::later(self.look(move |connection| api_keys::holder(connection, digest, now)))
    }

    fn save_device(
        &self,
        tenant: TenantId,
        draft: DeviceDraft,
        by: By,
    ) -> Answer<'_, (DeviceRecord, Option<CredentialView>)> {
        let vault = self.vault();
        self.change(move |connection, after| devices::save(connection, after, &vault, tenant, &draft, by))
    }

    fn device_record(&self, tenant: TenantId, id: DeviceId) -> Answer<'_, DeviceRecord> {
        self.look_for("device", move |connection| devices::one(connection, tenant, id))
    }

    fn device_by_name(&self, tenant: TenantId, name: DeviceName) -> Answer<'_, DeviceRecord> {
        self.look_for("device", move |connection| devices::by_name(connection, tenant, &name))
    }

    fn devices(
        &self,
        tenant: TenantId,
        owner: Option<CustomerId>,
        page: PageRequest,
    ) -> Answer<'_, Page<DeviceRecord>> {
        PortFuture::later(self.look(move |connection| devices::list(connection, tenant, owner, &page)))
    }

    fn delete_device(&self, tenant: TenantId, id: DeviceId, by: By) -> Answer<'_, ()> {
        self.change(move |connection, after| devices::delete(connection, after, tenant, id, by))
    }

    fn assign_by_admin(
        &self,
        tenant: TenantId,
        device: DeviceId,
        customer: CustomerId,
        account: UserId,
        now: Timestamp,
    ) -> Answer<'_, DeviceRecord> {
        self.change(move |connection, after| {
            devices::assign_by_admin(connection, after, (tenant, device), customer, account, now)
        })
    }

    fn credential(&self, tenant: TenantId, device: DeviceId, now: Timestamp) -> Answer<'_, CredentialView> {
        let vault = self.vault();
        PortFuture::later(async move {
            let view = self.look(move |connection| credentials::view(connection, tenant, device, now)).await?;
            let (view, sealed) = found(view, "credential")?;
            if !sealed {
                return Ok(view);
            }
            // Reading it once is a change: of two readers one gets it.
            let take = move |connection: &Connection, _: &mut After| {
                credentials::take(connection, &vault, tenant, device, now)
            };
            Ok(self.write(take).await?)
        })
    }

    fn set_credential(
        &self,
        tenant: TenantId,
        device: DeviceId,
        draft: CredentialDraft,
        now: Timestamp,
    ) -> Answer<'_, CredentialView> {
        let vault = self.vault();
        self.change(move |connection, after| {
            credentials::replace(connection, after, &vault, (tenant, device), &draft, now)
        })
    }

    fn claim_settings(&self, tenant: TenantId, device: DeviceId) -> Answer<'_, ClaimSettings> {
        self.look_for("device", move |connection| settings::read(connection, tenant, device))
    }

    fn change_claim_settings(
        &self,
        tenant: TenantId,
        device: DeviceId,
        change: ClaimSettingsChange,
        by: By,
    ) -> Answer<'_, ()> {
        self.change(move |connection, after| settings::change(connection, after, (tenant, device), &change, by))
    }

    fn save_profile(&self, profile: DeviceProfile) -> Answer<'_, DeviceProfile> {
        self.change(move |connection, after| profiles::save(connection, after, profile))
    }

    fn profiles(&self, tenant: TenantId, page: PageRequest) -> Answer<'_, Page<DeviceProfile>> {
        PortFuture::later(self.look(move |connection| profiles::list(connection, tenant, &page)))
    }

    fn profile(&self, tenant: TenantId, id: ProfileId) -> Answer<'_, DeviceProfile> {
        self.look_for("device profile", move |connection| profiles::one(connection, tenant, id))
    }

    fn delete_profile(&self, tenant: TenantId, id: ProfileId) -> Answer<'_, ()> {
        self.change(move |connection, _| profiles::delete(connection, tenant, id))
    }

    fn relate(&self, tenant: TenantId, gateway: DeviceId, device: DeviceId, now: Timestamp) -> Answer<'_, ()> {
        self.change(move |connection, after| settings::relate(connection, after, tenant, gateway, device, now))
    }

    fn unrelate(&self, tenant: TenantId, gateway: DeviceId, device: DeviceId) -> Answer<'_, ()> {
        self.change(move |connection, after| settings::unrelate(connection, after, tenant, gateway, device))
    }

    fn charged_tries(&self, since: Timestamp) -> Answer<'_, Vec<(AttemptKeys, Timestamp)>> {
        PortFuture::later(self.look(move |connection| log::charged(connection, since)))
    }

    fn ping(&self) -> Answer<'_, ()> {
        PortFuture::later(self.look(|connection| connection.query_row("SELECT 1", [], |_| Ok(()))))
    }
}
