//! Makers' and operators' work on the registry: tenants, customers, accounts, devices, credentials, profiles, relations,
//! claim settings, sessions. Plain records and one port, [`Directory`]; none of it is on the path of a claim.

use serde::{Deserialize, Serialize};

use crate::applications::By;
use crate::device::{DeviceId, DeviceName, PayloadFormat, ProfileId, TenantId, id};
use crate::owner::{Authority, CustomerId, UserId};
use crate::ports::{AttemptKeys, PortFuture};
use crate::secret::{Secret, SecretDigest};
use crate::time::Timestamp;

/// A maker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its title, unique in the install.
    pub title: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Grows with each change.
    pub version: i64,
}

/// Someone who owns devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Customer {
    /// Its id.
    pub id: CustomerId,
    /// Its tenant.
    pub tenant: TenantId,
    /// Its title, unique in the tenant.
    pub title: String,
    /// Free JSON of the maker.
    pub additional_info: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Grows with each change.
    pub version: i64,
}

/// A person's account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub id: UserId,
    /// Its tenant.
    pub tenant: TenantId,
    /// What it is there.
    pub authority: Authority,
    /// Whether it also runs the install: makes tenants and their first admins.
    pub operator: bool,
    /// Sign-in name, unique in the install, compared in lower case.
    pub email: String,
    /// Given name.
    pub first_name: Option<String>,
    /// Family name.
    pub last_name: Option<String>,
    /// Free JSON of the maker.
    pub additional_info: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Grows when its sessions must end (password changed).
    pub session_epoch: i64,
}

/// A device profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceProfile {
    /// Its id.
    pub id: ProfileId,
    /// Its tenant.
    pub tenant: TenantId,
    /// Its name, unique in the tenant; `default` always exists.
    pub name: String,
    /// `DEFAULT`, `MQTT` or `COAP`, as given.
    pub transport_type: String,
    /// Encoding over MQTT.
    pub mqtt_format: PayloadFormat,
    /// Encoding over CoAP.
    pub coap_format: PayloadFormat,
    /// The `profileData` JSON as given, handed back unchanged.
    pub profile_data: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Whether it is the tenant's `default`.
    pub is_default: bool,
}

/// A device as its maker sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRecord {
    /// Its id.
    pub id: DeviceId,
    /// Its tenant.
    pub tenant: TenantId,
    /// Its owner.
    pub owner: Option<CustomerId>,
    /// Its name, unique in the tenant.
    pub name: DeviceName,
    /// Its profile.
    pub profile: ProfileId,
    /// Its profile's name (ThingsBoard: `type`).
    pub profile_name: String,
    /// Text for people.
    pub label: Option<String>,
    /// Whether it is a gateway.
    pub gateway: bool,
    /// Free JSON of the maker, `gateway` included.
    pub additional_info: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Grows with each change.
    pub version: i64,
}

/// What a maker says about a device when making or changing it.
#[derive(Clone, Debug)]
pub struct DeviceDraft {
    /// `Some`: change this device; `None`: make one.
    pub id: Option<DeviceId>,
    /// Its name.
    pub name: DeviceName,
    /// Its profile by id, else by name; neither: `default`.
    pub profile: Option<ProfileId>,
    /// Its profile by name (ThingsBoard: `type`); an unknown name is an error.
    pub profile_name: Option<String>,
    /// Text for people.
    pub label: Option<String>,
    /// Whether it is a gateway.
    pub gateway: bool,
    /// Free JSON, kept as given.
    pub additional_info: Option<String>,
    /// Its credential; `None` when making one: a random access token is generated.
    pub credential: Option<CredentialDraft>,
}

/// A device credential as given by the maker.
#[derive(Debug)]
pub enum CredentialDraft {
    /// An access token.
    AccessToken(Secret<String>),
    /// MQTT basic: client id, user name or both; with or without a password.
    MqttBasic {
        /// Client identifier.
        client_id: Option<String>,
        /// User name.
        user_name: Option<String>,
        /// Password.
        password: Option<Secret<String>>,
    },
}

impl Clone for CredentialDraft {
    fn clone(&self) -> Self {
        match self {
            Self::AccessToken(token) => Self::AccessToken(Secret::new(token.expose().clone())),
            Self::MqttBasic { client_id, user_name, password } => Self::MqttBasic {
                client_id: client_id.clone(),
                user_name: user_name.clone(),
                password: password.as_ref().map(|p| Secret::new(p.expose().clone())),
            },
        }
    }
}

/// The kind of a device credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CredentialKind {
    /// An access token.
    AccessToken,
    /// MQTT basic.
    MqttBasic,
}

/// A device's credential as it may be shown.
#[derive(Debug)]
pub struct CredentialView {
    /// Its id (a UUID).
    pub id: [u8; 16],
    /// Whose.
    pub device: DeviceId,
    /// Which kind.
    pub kind: CredentialKind,
    /// The secret in clear, the once it may be read: a generated token, in the answer that made it or by the first read
    /// within 24 hours.
    pub readable_once: Option<Secret<String>>,
    /// Something stable and not secret to show instead (never empty).
    pub masked: String,
    /// Client id of MQTT basic.
    pub client_id: Option<String>,
    /// User name of MQTT basic.
    pub user_name: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Grows with each change.
    pub version: i64,
}

/// A device's claim settings. The secret itself is never read back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimSettings {
    /// `claimingAllowed` and when it was written; `None` when absent.
    pub claiming_allowed: Option<(bool, Timestamp)>,
    /// `claimingData`'s end of validity and when it was written; `None` when absent.
    pub claiming_data: Option<(Timestamp, Timestamp)>,
}

/// A change of a device's claim settings; `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct ClaimSettingsChange {
    /// `Some(None)` deletes it.
    pub claiming_allowed: Option<Option<bool>>,
    /// The secret's digest and the end of its window; `Some(None)` deletes it.
    pub claiming_data: Option<Option<(SecretDigest, Timestamp)>>,
}

/// A slice of a list.
#[derive(Clone, Debug, Default)]
pub struct PageRequest {
    /// Rows a page, 1 to 1,000.
    pub size: u32,
    /// Which page, from 0.
    pub page: u32,
    /// Only rows whose name has this text, in any letter case.
    pub text: Option<String>,
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// How many rows there are in all.
    pub total: u64,
}

/// Why a change was not made. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirectoryError {
    /// Something with this name (or token, or e-mail) exists; the text names the field.
    Taken(&'static str),
    /// No such thing in this tenant; the text names it.
    NotFound(&'static str),
    /// It is in use and cannot go; the text says by what.
    InUse(&'static str),
    /// It cannot be so; the text says why.
    Refused(&'static str),
    /// There are as many as there may be.
    Full {
        /// Of what.
        what: &'static str,
        /// How many.
        most: u32,
    },
    /// The store does not answer.
    Unavailable,
}

/// An answer of the directory.
pub type Answer<'a, T> = PortFuture<'a, Result<T, DirectoryError>>;

/// A new account.
#[derive(Clone, Debug)]
pub struct AccountDraft {
    /// Its tenant.
    pub tenant: TenantId,
    /// What it is there.
    pub authority: Authority,
    /// Whether it runs the install.
    pub operator: bool,
    /// Sign-in name.
    pub email: String,
    /// Given name.
    pub first_name: Option<String>,
    /// Family name.
    pub last_name: Option<String>,
    /// Free JSON.
    pub additional_info: Option<String>,
    /// argon2id hash (PHC string); without one the account must be activated first.
    pub password_hash: Option<String>,
}

/// What an account is called from now on.
#[derive(Clone, Debug, Default)]
pub struct AccountChange {
    /// Given name; `None`: none.
    pub first_name: Option<String>,
    /// Family name; `None`: none.
    pub last_name: Option<String>,
    /// Free JSON; `None`: none.
    pub additional_info: Option<String>,
}

/// A refresh token on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefreshSession {
    /// Digest of the token.
    pub digest: [u8; 32],
    /// Whose.
    pub account: UserId,
    /// All tokens that descend from one sign-in; using a spent one ends the family.
    pub family: [u8; 16],
    /// Valid until just before.
    pub expires_at: Timestamp,
}

id! {
    /// An API key; not the secret.
    ApiKeyId
}

/// An API key as it may be shown. It acts as its account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// Whose.
    pub account: UserId,
    /// What it is for.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Valid until just before; `None`: until it is removed.
    pub expires_at: Option<Timestamp>,
}

/// A new API key.
#[derive(Clone, Debug)]
pub struct ApiKeyDraft {
    /// Whose.
    pub account: UserId,
    /// What it is for.
    pub name: String,
    /// Digest of the key.
    pub digest: [u8; 32],
    /// Valid until just before.
    pub expires_at: Option<Timestamp>,
    /// How many keys the account may have.
    pub most: u32,
}

/// What using a refresh token did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefreshUse {
    /// It was valid, is spent now, and its successor is on record.
    Rotated(UserId),
    /// Unknown, expired, or of an account whose sessions were ended.
    Unknown,
    /// Used before: the whole family has been ended.
    Replayed,
}

/// Makers' and operators' work. Every method that names a thing also names its tenant; what is another tenant's does not
/// exist.
pub trait Directory: Send + Sync {
    /// Makes a tenant with its `default` profile.
    fn create_tenant(&self, title: String, now: Timestamp) -> Answer<'_, Tenant>;
    /// Changes a tenant's title; audited there.
    fn rename_tenant(&self, id: TenantId, title: String, by: By) -> Answer<'_, Tenant>;
    /// Tenants by title.
    fn tenants(&self, page: PageRequest) -> Answer<'_, Page<Tenant>>;
    /// One tenant.
    fn tenant(&self, id: TenantId) -> Answer<'_, Tenant>;
    /// Removes a tenant with all that is in it; refused for the last one and while it has owned devices.
    fn delete_tenant(&self, id: TenantId, now: Timestamp) -> Answer<'_, ()>;

    /// Makes a customer.
    fn create_customer(
        &self,
        tenant: TenantId,
        title: String,
        additional_info: Option<String>,
        now: Timestamp,
    ) -> Answer<'_, Customer>;
    /// Changes a customer's title and free JSON.
    fn update_customer(
        &self,
        tenant: TenantId,
        id: CustomerId,
        title: String,
        additional_info: Option<String>,
    ) -> Answer<'_, Customer>;
    /// One customer.
    fn customer(&self, tenant: TenantId, id: CustomerId) -> Answer<'_, Customer>;
    /// Customers by title.
    fn customers(&self, tenant: TenantId, page: PageRequest) -> Answer<'_, Page<Customer>>;
    /// Removes a customer and its accounts; refused while it owns devices.
    fn delete_customer(&self, tenant: TenantId, id: CustomerId, now: Timestamp) -> Answer<'_, ()>;

    /// Makes an account.
    fn create_account(&self, draft: AccountDraft, now: Timestamp) -> Answer<'_, Account>;
    /// Makes the first tenant `default` and its admin, who is also operator, if the install has no account at all;
    /// `None` when it has. One conditional write: of many nodes one wins.
    fn bootstrap(&self, email: String, password_hash: String, now: Timestamp) -> Answer<'_, Option<Account>>;
    /// Whether the install has any account.
    fn has_accounts(&self) -> Answer<'_, bool>;
    /// An account by id.
    fn account(&self, id: UserId) -> Answer<'_, Account>;
    /// An account and its password hash by e-mail, in any letter case.
    fn account_by_email(&self, email: String) -> Answer<'_, Option<(Account, Option<String>)>>;
    /// Accounts of a tenant by e-mail; with `customer` only that customer's.
    fn accounts(&self, tenant: TenantId, customer: Option<CustomerId>, page: PageRequest) -> Answer<'_, Page<Account>>;
    /// Changes what an account is called; audited.
    fn change_account(&self, tenant: TenantId, id: UserId, change: AccountChange, by: By) -> Answer<'_, Account>;
    /// Removes an account and its sessions.
    fn delete_account(&self, tenant: TenantId, id: UserId) -> Answer<'_, ()>;
    /// Sets a password hash and ends the account's sessions.
    fn set_password(&self, id: UserId, password_hash: String) -> Answer<'_, ()>;
    /// Puts an activation token on record, in place of an older one.
    fn set_activation(&self, tenant: TenantId, id: UserId, digest: [u8; 32], expires_at: Timestamp) -> Answer<'_, ()>;
    /// Spends an activation token and sets the password; `None` for an unknown, spent or expired one.
    fn activate(&self, digest: [u8; 32], password_hash: String, now: Timestamp) -> Answer<'_, Option<Account>>;

    /// Puts a refresh token on record.
    fn open_session(&self, session: RefreshSession) -> Answer<'_, ()>;
    /// Spends one refresh token and records its successor, atomically.
    fn rotate_session(
        &self,
        digest: [u8; 32],
        successor: [u8; 32],
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Answer<'_, RefreshUse>;

    /// Makes an API key, at most 100 an account.
    fn create_api_key(&self, draft: ApiKeyDraft, now: Timestamp) -> Answer<'_, ApiKey>;
    /// An account's API keys, oldest first.
    fn api_keys(&self, account: UserId) -> Answer<'_, Vec<ApiKey>>;
    /// Removes an account's API key.
    fn delete_api_key(&self, account: UserId, id: ApiKeyId, now: Timestamp) -> Answer<'_, ()>;
    /// The account of an API key that is valid, and until when it is.
    fn api_key_holder(&self, digest: [u8; 32], now: Timestamp) -> Answer<'_, Option<(Account, Option<Timestamp>)>>;

    /// Makes or changes a device; with the credential's clear text the once it may be shown, if one was generated. Like
    /// its removal and its claim settings it is audited, and told to whoever listens.
    fn save_device(
        &self,
        tenant: TenantId,
        draft: DeviceDraft,
        by: By,
    ) -> Answer<'_, (DeviceRecord, Option<CredentialView>)>;
    /// One device.
    fn device_record(&self, tenant: TenantId, id: DeviceId) -> Answer<'_, DeviceRecord>;
    /// One device by name.
    fn device_by_name(&self, tenant: TenantId, name: DeviceName) -> Answer<'_, DeviceRecord>;
    /// Devices by name; with `owner` only that customer's.
    fn devices(&self, tenant: TenantId, owner: Option<CustomerId>, page: PageRequest)
    -> Answer<'_, Page<DeviceRecord>>;
    /// Removes a device, whoever owns it; its sessions end.
    fn delete_device(&self, tenant: TenantId, id: DeviceId, by: By) -> Answer<'_, ()>;
    /// Makes a customer the owner by the admin's word (no evidence), with audit and outbox rows and the fence moved;
    /// refused while another customer owns it.
    fn assign_by_admin(
        &self,
        tenant: TenantId,
        device: DeviceId,
        customer: CustomerId,
        account: UserId,
        now: Timestamp,
    ) -> Answer<'_, DeviceRecord>;

    /// A device's credential; a generated token in clear the first time within 24 hours.
    fn credential(&self, tenant: TenantId, device: DeviceId, now: Timestamp) -> Answer<'_, CredentialView>;
    /// Replaces a device's credential; its sessions end.
    fn set_credential(
        &self,
        tenant: TenantId,
        device: DeviceId,
        draft: CredentialDraft,
        now: Timestamp,
    ) -> Answer<'_, CredentialView>;

    /// A device's claim settings.
    fn claim_settings(&self, tenant: TenantId, device: DeviceId) -> Answer<'_, ClaimSettings>;
    /// Changes a device's claim settings, all or nothing; a change of the secret moves the generation.
    fn change_claim_settings(
        &self,
        tenant: TenantId,
        device: DeviceId,
        change: ClaimSettingsChange,
        by: By,
    ) -> Answer<'_, ()>;

    /// Makes a profile, or changes the one with this id.
    fn save_profile(&self, profile: DeviceProfile) -> Answer<'_, DeviceProfile>;
    /// Profiles by name.
    fn profiles(&self, tenant: TenantId, page: PageRequest) -> Answer<'_, Page<DeviceProfile>>;
    /// One profile.
    fn profile(&self, tenant: TenantId, id: ProfileId) -> Answer<'_, DeviceProfile>;
    /// Removes a profile; refused for `default` and while devices use it.
    fn delete_profile(&self, tenant: TenantId, id: ProfileId) -> Answer<'_, ()>;

    /// Relates a device to a gateway; repeat-safe.
    fn relate(&self, tenant: TenantId, gateway: DeviceId, device: DeviceId, now: Timestamp) -> Answer<'_, ()>;
    /// Ends a relation.
    fn unrelate(&self, tenant: TenantId, gateway: DeviceId, device: DeviceId) -> Answer<'_, ()>;

    /// Charged tries since an instant that no later unlock has cleared, from the audit rows: by them the attempt counters are rebuilt after a crash.
    fn charged_tries(&self, since: Timestamp) -> Answer<'_, Vec<(AttemptKeys, Timestamp)>>;
    /// Whether the store answers; for readiness.
    fn ping(&self) -> Answer<'_, ()>;
}
