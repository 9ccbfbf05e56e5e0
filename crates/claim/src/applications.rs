//! Applications and the devices listed in them: identities, claim codes, whether claiming is on. Makers' work, none of it
//! on the path of a claim; plain records and one port, [`Applications`].

use std::collections::BTreeMap;

use crate::device::{DeviceId, DeviceName, TenantId, id};
use crate::directory::{Answer, Page, PageRequest};
use crate::eui::Eui64;
use crate::listing::ListingId;
use crate::owner::{CustomerId, UserId};
use crate::secret::Secret;
use crate::time::Timestamp;

id! {
    /// An application, for as long as it exists; never reused.
    ApplicationId
}

/// A list of devices, the maker's or a customer's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// Its id.
    pub id: ApplicationId,
    /// Its tenant.
    pub tenant: TenantId,
    /// Its id for people, unique in the tenant.
    pub listing: ListingId,
    /// Whose it is; `None`: the tenant's.
    pub customer: Option<CustomerId>,
    /// Whether devices at home in it may be claimed.
    pub claiming_authorized: bool,
    /// Whether a claim spends a stored code; `None`: as the install says.
    pub invalidate_code_on_claim: Option<bool>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A new application.
#[derive(Clone, Debug)]
pub struct ApplicationDraft {
    /// Its id for people.
    pub listing: ListingId,
    /// Whose it is; `None`: the tenant's.
    pub customer: Option<CustomerId>,
    /// Whether devices at home in it may be claimed.
    pub claiming_authorized: bool,
    /// Whether a claim spends a stored code; `None`: as the install says.
    pub invalidate_code_on_claim: Option<bool>,
    /// How many applications the customer may have; `None` when the maker makes it.
    pub most: Option<u32>,
}

/// A change of an application; `None` leaves a field as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct ApplicationChange {
    /// Whether devices at home in it may be claimed. Claims that were made stay.
    pub claiming_authorized: Option<bool>,
    /// `Some(None)`: as the install says.
    pub invalidate_code_on_claim: Option<Option<bool>>,
}

/// Where a device is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The application.
    pub application: ListingId,
    /// The device's id in it.
    pub device: ListingId,
}

/// What a device is known by outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// DevEUI, unique in the install.
    pub dev_eui: Option<Eui64>,
    /// JoinEUI.
    pub join_eui: Option<Eui64>,
    /// The maker's own id, unique in the tenant.
    pub external_id: Option<String>,
    /// Serial number.
    pub serial_number: Option<String>,
    /// LoRa Alliance vendor.
    pub vendor_id: Option<u16>,
    /// The vendor's profile.
    pub vendor_profile_id: Option<u16>,
    /// Text for people.
    pub description: Option<String>,
    /// LoRaWAN texts, kept and not interpreted.
    pub texts: BTreeMap<String, String>,
    /// The device's public key, DER (RFC 5280 SubjectPublicKeyInfo).
    pub public_key: Option<Vec<u8>>,
    /// Who provisioned it.
    pub provisioner: Option<String>,
}

/// A LoRaWAN device's root keys. Kept sealed; a claim does not move them.
#[derive(Debug, Default)]
pub struct RootKeys {
    /// AppKey.
    pub app_key: Option<Secret<[u8; 16]>>,
    /// NwkKey, of LoRaWAN 1.1.
    pub nwk_key: Option<Secret<[u8; 16]>>,
}

impl RootKeys {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.app_key.is_none() && self.nwk_key.is_none()
    }
}

/// A device as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedDevice {
    /// Its id.
    pub device: DeviceId,
    /// Its tenant.
    pub tenant: TenantId,
    /// Its name, unique in the tenant.
    pub name: DeviceName,
    /// Text for people.
    pub label: Option<String>,
    /// Where its maker listed it.
    pub home: Place,
    /// Where it is listed now.
    pub place: Place,
    /// What it is known by.
    pub identity: Identity,
    /// Who owns it.
    pub owner: Option<CustomerId>,
    /// Since when.
    pub claimed_at: Option<Timestamp>,
    /// The maker's word on this device; `None`: none.
    pub claiming_allowed: Option<bool>,
    /// Whether its maker has paused claiming for it.
    pub frozen: bool,
    /// Whether its code counts only with a fresh announcement.
    pub presence: bool,
    /// Its claim code, as far as it may be shown.
    pub code: Option<CodeView>,
    /// Whether its root keys are kept here.
    pub root_keys: bool,
    /// Whether its root keys were exported, or are known to others; true for ever.
    pub root_keys_exposed: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// Grows with each change.
    pub version: i64,
}

/// A stored claim code without the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeView {
    /// Valid from.
    pub from: Option<Timestamp>,
    /// Valid until just before.
    pub until: Option<Timestamp>,
    /// When it was stored.
    pub set_at: Timestamp,
}

/// A claim code to be stored, its form and window checked.
#[derive(Debug)]
pub struct NewCode {
    /// The code.
    pub code: Secret<String>,
    /// Whether it has no lower-case letter: then it is opened in any letter case.
    pub any_case: bool,
    /// Valid from.
    pub from: Option<Timestamp>,
    /// Valid until just before.
    pub until: Option<Timestamp>,
}

/// What becomes of a device's code.
#[derive(Debug)]
pub enum CodeChange {
    /// This one from now on, in place of any other and of `claimingData`.
    Set(NewCode),
    /// The same code in another window.
    Window {
        /// Valid from.
        from: Option<Timestamp>,
        /// Valid until just before.
        until: Option<Timestamp>,
    },
    /// None any more. A claim is untouched.
    Delete,
}

/// A new device.
#[derive(Debug)]
pub struct NewDevice {
    /// Its id in the application.
    pub listing: ListingId,
    /// Its name; the id when it is not given.
    pub name: Option<DeviceName>,
    /// Text for people.
    pub label: Option<String>,
    /// What it is known by.
    pub identity: Identity,
    /// The maker's word on this device.
    pub claiming_allowed: Option<bool>,
    /// Its claim code.
    pub code: Option<NewCode>,
    /// Its root keys.
    pub root_keys: RootKeys,
    /// Whether they are known to others.
    pub root_keys_exposed: bool,
    /// How many devices may be at home in the applications of the application's customer; `None` when the maker makes it.
    pub most: Option<u32>,
}

/// A change of what may be done with a device; `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct DeviceChange {
    /// The maker's word on this device; `Some(None)`: none.
    pub claiming_allowed: Option<Option<bool>>,
    /// Pause or go on.
    pub frozen: Option<bool>,
    /// Whether its code counts only with a fresh announcement.
    pub presence: Option<bool>,
    /// Why, for the audit log.
    pub reason: Option<String>,
}

/// Who does it, and when.
#[derive(Clone, Copy, Debug)]
pub struct By {
    /// The account.
    pub account: UserId,
    /// When.
    pub now: Timestamp,
}

/// Applications and listings. What is another tenant's does not exist. Every change has its audit row in its transaction;
/// codes are kept as keyed digests and sealed, and no answer but [`Applications::read_code`] holds one.
pub trait Applications: Send + Sync {
    /// Makes an application.
    fn create_application(&self, tenant: TenantId, draft: ApplicationDraft, by: By) -> Answer<'_, Application>;
    /// Applications by id; with `customer` only that customer's.
    fn applications(
        &self,
        tenant: TenantId,
        customer: Option<CustomerId>,
        page: PageRequest,
    ) -> Answer<'_, Page<Application>>;
    /// One application.
    fn application(&self, tenant: TenantId, listing: ListingId) -> Answer<'_, Application>;
    /// Changes an application.
    fn change_application(
        &self,
        tenant: TenantId,
        listing: ListingId,
        change: ApplicationChange,
        by: By,
    ) -> Answer<'_, Application>;
    /// Removes an application; refused for `default`, and while devices are listed or at home in it.
    fn delete_application(&self, tenant: TenantId, listing: ListingId, by: By) -> Answer<'_, ()>;

    /// Makes a device at home in an application.
    fn register(&self, tenant: TenantId, application: ListingId, device: NewDevice, by: By)
    -> Answer<'_, ListedDevice>;
    /// One device where it is listed now.
    fn listed(&self, tenant: TenantId, place: Place) -> Answer<'_, ListedDevice>;
    /// One device by the application and id its maker gave it, wherever it is listed now.
    fn at_home(&self, tenant: TenantId, home: Place) -> Answer<'_, ListedDevice>;
    /// One device by its own id.
    fn listed_device(&self, tenant: TenantId, device: DeviceId) -> Answer<'_, ListedDevice>;
    /// Devices listed in an application now, by id.
    fn listed_in(&self, tenant: TenantId, application: ListingId, page: PageRequest) -> Answer<'_, Page<ListedDevice>>;
    /// Removes a device at home in an application; refused while it has an owner.
    fn remove(&self, tenant: TenantId, home: Place, by: By) -> Answer<'_, ()>;

    /// Stores, re-windows or deletes a device's claim code. Setting one is refused while the device has an owner; each
    /// change moves the generation.
    fn change_code(&self, tenant: TenantId, home: Place, change: CodeChange, by: By) -> Answer<'_, ListedDevice>;
    /// The claim code in clear, audited; refused when there is none.
    fn read_code(&self, tenant: TenantId, home: Place, by: By) -> Answer<'_, Secret<String>>;
    /// A device's root keys in clear, audited; from then on they count as exposed. Refused when there are none.
    fn export_root_keys(&self, tenant: TenantId, home: Place, by: By) -> Answer<'_, RootKeys>;
    /// Changes what may be done with a device. A claim under way looks again.
    fn change_device(&self, tenant: TenantId, home: Place, change: DeviceChange, by: By) -> Answer<'_, ListedDevice>;
    /// Records why the tenant's admin took a device from its owner; the release itself is the domain's.
    fn note_forced_release(&self, tenant: TenantId, home: Place, reason: String, by: By) -> Answer<'_, ()>;
}
