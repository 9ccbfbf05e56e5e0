//! What a row of an import becomes: one decision, taken when the row is checked and again when it is applied.

use super::{GoodRow, RowFault, merged_window};
use crate::applications::{Identity, ListedDevice};
use crate::listing::ListingId;

/// What the registry knows of the devices that a row may mean.
#[derive(Debug, Default)]
pub struct Known {
    /// The application the job is for.
    pub application: Option<ListingId>,
    /// The tenant's device with the row's external id.
    pub by_external_id: Option<ListedDevice>,
    /// The tenant's device with the row's DevEUI.
    pub by_dev_eui: Option<ListedDevice>,
    /// Whether another tenant's device has the row's DevEUI.
    pub dev_eui_elsewhere: bool,
    /// The device at home in the application under the row's id.
    pub by_id: Option<ListedDevice>,
    /// Whether the id is taken or kept by another device, or the name is.
    pub id_taken: bool,
    /// Whether the row's code is the one the found device has, or had when it was claimed.
    pub same_code: bool,
    /// Whether the row's root keys are those that are kept.
    pub same_keys: bool,
}

impl Known {
    /// The device that the row means, if it is clear which.
    pub fn device(&self) -> Option<&ListedDevice> {
        self.by_external_id.as_ref().or(self.by_dev_eui.as_ref()).or(self.by_id.as_ref())
    }
}

/// What a good row becomes.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A new device.
    Create,
    /// The known device is changed.
    Update {
        /// Whether it gets the row's code; else only its window may change.
        set_code: bool,
    },
    /// The known device has an owner and stays as it is, but its root keys count as exposed from now on.
    Expose,
    /// The known device is so already, or keeps what its owner has.
    Unchanged,
    /// Nothing.
    Refuse(Vec<RowFault>),
}

/// Decides what a row becomes (claim-codes.md section 11): known by external id, then DevEUI, then id; what was not given
/// stays; a claimed device changes nothing that a claim was made by.
pub fn judge(row: &GoodRow, known: &Known) -> (Verdict, Vec<RowFault>) {
    let mut faults = Vec::new();
    if known.dev_eui_elsewhere {
        let eui = row.identity.dev_eui.map(|eui| eui.to_string());
        faults.push(RowFault::new("dev_eui", eui, "dev_eui_taken", "another device has this DevEUI"));
        return (Verdict::Refuse(faults), Vec::new());
    }
    let mut found = [&known.by_external_id, &known.by_dev_eui, &known.by_id].into_iter().flatten();
    let Some(device) = found.next() else {
        if known.id_taken {
            let id = Some(row.listing.to_string());
            faults.push(RowFault::new("id", id, "name_taken", "another device has this id or name"));
            return (Verdict::Refuse(faults), Vec::new());
        }
        if let Some(column) = row.lone_window() {
            return (Verdict::Refuse(vec![window_without_code(column)]), Vec::new());
        }
        return (Verdict::Create, Vec::new());
    };
    if let Some(other) = found.find(|other| other.device != device.device) {
        let reason = format!(
            "`external_id`, `dev_eui` and `id` belong to different devices: `{}` and `{}`",
            device.home.device, other.home.device
        );
        faults.push(RowFault::new("id", Some(row.listing.to_string()), "identity_conflict", &reason));
        return (Verdict::Refuse(faults), Vec::new());
    }
    if known.application.as_ref() != Some(&device.home.application) {
        let reason = format!("this device is at home in the application `{}`", device.home.application);
        faults.push(RowFault::new("id", Some(row.listing.to_string()), "other_application", &reason));
        return (Verdict::Refuse(faults), Vec::new());
    }
    let mut warnings = Vec::new();
    if device.home.device != row.listing {
        let reason = format!("this device keeps its id `{}`", device.home.device);
        warnings.push(RowFault::new("id", Some(row.listing.to_string()), "id_kept", &reason));
    }
    let identity = identity_differs(&row.identity, &device.identity);
    let new_code = row.code.is_some() && !known.same_code && !(row.generated && has_or_had_code(device));
    let keys = !known.same_keys || (row.root_keys_exposed && !device.root_keys_exposed);
    if device.owner.is_some() {
        if new_code || identity || !known.same_keys {
            let column = if new_code { "claim_authentication_code" } else { "id" };
            let reason = "the device is claimed; its code, keys and identity stay until it is given back";
            faults.push(RowFault::new(column, None, "device_claimed", reason));
            return (Verdict::Refuse(faults), warnings);
        }
        if texts_differ(row, device) {
            let reason = "the device is claimed; its texts are its owner's";
            warnings.push(RowFault::new("name", None, "texts_kept", reason));
        }
        let exposes = row.root_keys_exposed && !device.root_keys_exposed;
        return (if exposes { Verdict::Expose } else { Verdict::Unchanged }, warnings);
    }
    if let (Some(column), None) = (row.lone_window(), device.code) {
        return (Verdict::Refuse(vec![window_without_code(column)]), warnings);
    }
    let window = !new_code && !row.generated && window_differs(row, device);
    if window && merged_window(row, device).is_none() {
        let reason = "with the other end that is stored, the window would end before it begins";
        faults.push(RowFault::new("claim_valid_to", None, "claim_authentication_code", reason));
        return (Verdict::Refuse(faults), warnings);
    }
    if new_code || window || identity || keys || texts_differ(row, device) || allowed_differs(row, device) {
        return (Verdict::Update { set_code: new_code }, warnings);
    }
    (Verdict::Unchanged, warnings)
}

/// A generated code fills a gap; a claimed device has none to fill.
fn has_or_had_code(device: &ListedDevice) -> bool {
    device.code.is_some() || device.owner.is_some()
}

fn differs<T: PartialEq>(given: &Option<T>, kept: &Option<T>) -> bool {
    given.is_some() && given != kept
}

fn identity_differs(given: &Identity, kept: &Identity) -> bool {
    differs(&given.dev_eui, &kept.dev_eui)
        || differs(&given.join_eui, &kept.join_eui)
        || differs(&given.external_id, &kept.external_id)
        || differs(&given.serial_number, &kept.serial_number)
        || differs(&given.public_key, &kept.public_key)
}

fn texts_differ(row: &GoodRow, device: &ListedDevice) -> bool {
    let (given, kept) = (&row.identity, &device.identity);
    differs(&row.label, &device.label)
        || differs(&given.description, &kept.description)
        || differs(&given.vendor_id, &kept.vendor_id)
        || differs(&given.vendor_profile_id, &kept.vendor_profile_id)
        || differs(&given.provisioner, &kept.provisioner)
        || given.texts.iter().any(|(name, text)| kept.texts.get(name) != Some(text))
}

fn allowed_differs(row: &GoodRow, device: &ListedDevice) -> bool {
    differs(&row.claiming_allowed, &device.claiming_allowed)
}

fn window_differs(row: &GoodRow, device: &ListedDevice) -> bool {
    let (from, until) = row.code_window();
    device.code.is_some_and(|kept| differs(&from, &kept.from) || differs(&until, &kept.until))
}

fn window_without_code(column: &str) -> RowFault {
    let reason = "a window belongs to a code, and the device has none; give one, or leave this out";
    RowFault::new(column, None, "claim_authentication_code", reason)
}
