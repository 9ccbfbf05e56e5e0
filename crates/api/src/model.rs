//! The JSON of ThingsBoard's entities, as far as its tools look at them (thingsboard.md 3 and 4).

use claim::directory::{Account, CredentialKind, CredentialView, Customer, DeviceProfile, DeviceRecord, Page, Tenant};
use claim::owner::Authority;
use claim::{CustomerId, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

/// ThingsBoard's id of nobody: the customer of an unowned device.
pub(crate) const NO_CUSTOMER: Uuid = Uuid::from_u128(0x1381_4000_1dd2_11b2_8080_8080_8080_8080);

/// What kind of thing an id is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum EntityType {
    Device,
    Customer,
    Tenant,
    User,
    DeviceProfile,
}

/// An id with what it is of.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EntityId {
    /// May be left out where the place says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) entity_type: Option<EntityType>,
    pub(crate) id: Uuid,
}

pub(crate) fn entity(kind: EntityType, id: Uuid) -> EntityId {
    EntityId { entity_type: Some(kind), id }
}

fn customer_id(customer: Option<CustomerId>) -> EntityId {
    entity(EntityType::Customer, customer.map_or(NO_CUSTOMER, |customer| customer.uuid()))
}

fn tenant_id(tenant: TenantId) -> EntityId {
    entity(EntityType::Tenant, tenant.uuid())
}

/// JSON that the maker gave, handed back as it was.
fn free(json: Option<&String>) -> Value {
    json.and_then(|json| serde_json::from_str(json).ok()).unwrap_or(Value::Null)
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PageJson<T> {
    pub(crate) data: Vec<T>,
    pub(crate) total_pages: u64,
    pub(crate) total_elements: u64,
    pub(crate) has_next: bool,
}

impl<T> PageJson<T> {
    pub(crate) fn new<R>(page: Page<R>, size: u32, number: u32, json: impl Fn(R) -> T) -> Self {
        let total_pages = page.total.div_ceil(u64::from(size.max(1)));
        Self {
            data: page.rows.into_iter().map(json).collect(),
            total_pages,
            total_elements: page.total,
            has_next: u64::from(number) + 1 < total_pages,
        }
    }
}

/// A device.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeviceJson {
    pub(crate) id: EntityId,
    pub(crate) created_time: i64,
    pub(crate) tenant_id: EntityId,
    /// `13814000-1dd2-11b2-8080-808080808080` while nobody owns it.
    pub(crate) customer_id: EntityId,
    pub(crate) name: String,
    /// Its profile's name.
    #[serde(rename = "type")]
    pub(crate) profile_name: String,
    pub(crate) label: Option<String>,
    pub(crate) device_profile_id: EntityId,
    pub(crate) device_data: Value,
    pub(crate) firmware_id: Option<EntityId>,
    pub(crate) software_id: Option<EntityId>,
    pub(crate) additional_info: Value,
    pub(crate) version: i64,
}

impl From<DeviceRecord> for DeviceJson {
    fn from(device: DeviceRecord) -> Self {
        let mut additional_info = free(device.additional_info.as_ref());
        if device.gateway && !additional_info.is_object() {
            additional_info = json!({"gateway": true});
        }
        Self {
            id: entity(EntityType::Device, device.id.uuid()),
            created_time: device.created_at.as_millis(),
            tenant_id: tenant_id(device.tenant),
            customer_id: customer_id(device.owner),
            name: device.name.as_str().to_owned(),
            profile_name: device.profile_name,
            label: device.label,
            device_profile_id: entity(EntityType::DeviceProfile, device.profile.uuid()),
            device_data: json!({"configuration": {"type": "DEFAULT"}, "transportConfiguration": {"type": "DEFAULT"}}),
            firmware_id: None,
            software_id: None,
            additional_info,
            version: device.version,
        }
    }
}

/// A customer.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CustomerJson {
    id: EntityId,
    created_time: i64,
    tenant_id: EntityId,
    title: String,
    name: String,
    additional_info: Value,
    version: i64,
}

impl From<Customer> for CustomerJson {
    fn from(customer: Customer) -> Self {
        Self {
            id: entity(EntityType::Customer, customer.id.uuid()),
            created_time: customer.created_at.as_millis(),
            tenant_id: tenant_id(customer.tenant),
            name: customer.title.clone(),
            title: customer.title,
            additional_info: free(customer.additional_info.as_ref()),
            version: customer.version,
        }
    }
}

/// A maker.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TenantJson {
    id: EntityId,
    created_time: i64,
    title: String,
    name: String,
    version: i64,
}

impl From<Tenant> for TenantJson {
    fn from(tenant: Tenant) -> Self {
        Self {
            id: tenant_id(tenant.id),
            created_time: tenant.created_at.as_millis(),
            name: tenant.title.clone(),
            title: tenant.title,
            version: tenant.version,
        }
    }
}

/// What an account may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum AuthorityName {
    TenantAdmin,
    CustomerUser,
}

/// A person's account.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UserJson {
    id: EntityId,
    created_time: i64,
    tenant_id: EntityId,
    customer_id: EntityId,
    email: String,
    authority: AuthorityName,
    first_name: Option<String>,
    last_name: Option<String>,
    name: String,
    /// `operator: true` for accounts that run the install.
    additional_info: Value,
}

impl From<&Account> for UserJson {
    fn from(account: &Account) -> Self {
        let (authority, customer) = match account.authority {
            Authority::TenantAdmin => (AuthorityName::TenantAdmin, None),
            Authority::CustomerUser(customer) => (AuthorityName::CustomerUser, Some(customer)),
        };
        let mut additional_info = free(account.additional_info.as_ref());
        if account.operator {
            if !additional_info.is_object() {
                additional_info = json!({});
            }
            additional_info["operator"] = true.into();
        }
        Self {
            id: entity(EntityType::User, account.id.uuid()),
            created_time: account.created_at.as_millis(),
            tenant_id: tenant_id(account.tenant),
            customer_id: customer_id(customer),
            email: account.email.clone(),
            authority,
            first_name: account.first_name.clone(),
            last_name: account.last_name.clone(),
            name: account.email.clone(),
            additional_info,
        }
    }
}

/// A device profile.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProfileJson {
    id: EntityId,
    created_time: i64,
    tenant_id: EntityId,
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    transport_type: String,
    provision_type: &'static str,
    profile_data: Value,
    default: bool,
}

impl From<DeviceProfile> for ProfileJson {
    fn from(profile: DeviceProfile) -> Self {
        Self {
            id: entity(EntityType::DeviceProfile, profile.id.uuid()),
            created_time: profile.created_at.as_millis(),
            tenant_id: tenant_id(profile.tenant),
            name: profile.name,
            kind: "DEFAULT",
            transport_type: profile.transport_type,
            provision_type: "DISABLED",
            profile_data: free(profile.profile_data.as_ref()),
            default: profile.is_default,
        }
    }
}

/// How a device signs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum CredentialsType {
    AccessToken,
    MqttBasic,
}

/// A device's credential.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CredentialsJson {
    id: CredentialsId,
    created_time: i64,
    device_id: EntityId,
    credentials_type: CredentialsType,
    /// A generated access token the first time it is read within 24 hours, else something masked; never null.
    credentials_id: String,
    /// MQTT basic: `{"clientId","userName"}` as a text; the password is never shown.
    credentials_value: Option<String>,
    version: i64,
}

/// An id of no entity type.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
pub(crate) struct CredentialsId {
    id: Uuid,
}

impl From<CredentialView> for CredentialsJson {
    fn from(view: CredentialView) -> Self {
        let basic = view.kind == CredentialKind::MqttBasic;
        let value = basic.then(|| json!({"clientId": view.client_id, "userName": view.user_name}).to_string());
        Self {
            id: CredentialsId { id: Uuid::from_bytes(view.id) },
            created_time: view.created_at.as_millis(),
            device_id: entity(EntityType::Device, view.device.uuid()),
            credentials_type: if basic { CredentialsType::MqttBasic } else { CredentialsType::AccessToken },
            credentials_id: view.readable_once.as_ref().map_or(view.masked, |token| token.expose().clone()),
            credentials_value: value,
            version: view.version,
        }
    }
}
