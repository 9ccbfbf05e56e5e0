//! The JSON of applications and listed devices.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use claim::Eui64;
use claim::applications::{Application, ListedDevice, Place};
use claim_codes::window::show_instant;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::extract::Caller;

/// An application.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ApplicationJson {
    id: String,
    /// Whose it is; absent: the maker's.
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_id: Option<Uuid>,
    /// Whether devices at home in it may be claimed.
    claiming_authorized: bool,
    /// Whether a claim spends a stored code; absent: as the install says.
    #[serde(skip_serializing_if = "Option::is_none")]
    invalidate_code_on_claim: Option<bool>,
    created_at: String,
}

impl From<Application> for ApplicationJson {
    fn from(application: Application) -> Self {
        Self {
            id: application.listing.to_string(),
            customer_id: application.customer.map(|customer| customer.uuid()),
            claiming_authorized: application.claiming_authorized,
            invalidate_code_on_claim: application.invalidate_code_on_claim,
            created_at: show_instant(application.created_at),
        }
    }
}

/// Where a device is found.
#[derive(Serialize, ToSchema)]
pub(crate) struct PlaceJson {
    application: String,
    device: String,
}

impl From<Place> for PlaceJson {
    fn from(place: Place) -> Self {
        Self { application: place.application.to_string(), device: place.device.to_string() }
    }
}

/// A stored code without the code.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CodeJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_to: Option<String>,
    set_at: String,
    /// The code, the once it is shown: when it was generated, or when it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<String>,
    /// What its user should know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<&'static str>,
}

impl CodeJson {
    pub(crate) fn with_value(self, value: String) -> Self {
        Self { value: Some(value), ..self }
    }
}

/// A device as it is listed.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListedJson {
    /// Its own id, a UUID.
    uid: Uuid,
    /// Its id where it is listed now.
    id: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    home: PlaceJson,
    place: PlaceJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    dev_eui: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    join_eui: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial_number: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vendor_id: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vendor_profile_id: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// LoRaWAN texts and the like, kept as they came.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    texts: BTreeMap<String, String>,
    /// The device's public key: base64 of its DER SubjectPublicKeyInfo.
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
    /// Who provisioned it.
    #[serde(skip_serializing_if = "Option::is_none")]
    provisioner: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claimed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claiming_allowed: Option<bool>,
    /// Whether the maker has paused claiming.
    frozen: bool,
    /// Whether the code counts only with a fresh announcement.
    presence: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<CodeJson>,
    /// Whether its root keys are kept here.
    root_keys: bool,
    /// Whether its root keys were exported, or are known to others; true for ever.
    root_keys_exposed: bool,
    created_at: String,
    version: i64,
}

impl From<ListedDevice> for ListedJson {
    fn from(device: ListedDevice) -> Self {
        let eui = |eui: Option<Eui64>| eui.map(|eui| eui.to_string());
        let identity = device.identity;
        Self {
            uid: device.device.uuid(),
            id: device.place.device.to_string(),
            name: device.name.as_str().to_owned(),
            label: device.label,
            home: device.home.into(),
            place: device.place.into(),
            dev_eui: eui(identity.dev_eui),
            join_eui: eui(identity.join_eui),
            external_id: identity.external_id,
            serial_number: identity.serial_number,
            vendor_id: identity.vendor_id,
            vendor_profile_id: identity.vendor_profile_id,
            description: identity.description,
            texts: identity.texts,
            public_key: identity.public_key.map(|key| STANDARD.encode(key)),
            provisioner: identity.provisioner,
            owner: device.owner.map(|owner| owner.uuid()),
            claimed_at: device.claimed_at.map(show_instant),
            claiming_allowed: device.claiming_allowed,
            frozen: device.frozen,
            presence: device.presence,
            code: device.code.map(|code| CodeJson {
                valid_from: code.from.map(show_instant),
                valid_to: code.until.map(show_instant),
                set_at: show_instant(code.set_at),
                value: None,
                warnings: Vec::new(),
            }),
            root_keys: device.root_keys,
            root_keys_exposed: device.root_keys_exposed,
            created_at: show_instant(device.created_at),
            version: device.version,
        }
    }
}

impl ListedJson {
    /// Customers see what is theirs to know: not the maker's numbers, words and codes.
    pub(crate) fn seen_by(mut self, caller: &Caller) -> Self {
        if caller.bound_to().is_some() {
            self.code = None;
            self.claiming_allowed = None;
            self.external_id = None;
        }
        self
    }
}
