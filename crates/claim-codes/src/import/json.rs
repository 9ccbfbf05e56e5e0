//! JSON: end devices as The Things Stack writes them, in one array or one after the other.

use std::io::BufRead;

use serde_json::Value;

use super::fields::{Builder, Field};
use super::objects::Objects;
use super::{FileFault, Row};

/// Where a field is, in The Things Stack's shape and ours.
const PATHS: [(&str, Field); 25] = [
    ("ids.device_id", Field::Id),
    ("ids.dev_eui", Field::DevEui),
    ("ids.join_eui", Field::JoinEui),
    ("name", Field::Label),
    ("description", Field::Description),
    ("root_keys.app_key.key", Field::AppKey),
    ("root_keys.nwk_key.key", Field::NwkKey),
    ("claim_authentication_code.value", Field::Code),
    ("claim_authentication_code.valid_from", Field::ValidFrom),
    ("claim_authentication_code.valid_to", Field::ValidTo),
    ("serial_number", Field::SerialNumber),
    ("lorawan_version", Field::Text("lorawan_version")),
    ("lorawan_phy_version", Field::Text("lorawan_phy_version")),
    ("frequency_plan_id", Field::Text("frequency_plan_id")),
    ("version_ids.brand_id", Field::Text("brand_id")),
    ("version_ids.model_id", Field::Text("model_id")),
    ("version_ids.hardware_version", Field::Text("hardware_version")),
    ("version_ids.firmware_version", Field::Text("firmware_version")),
    ("version_ids.band_id", Field::Text("band_id")),
    ("mac_settings.rx1_delay", Field::Text("rx1_delay")),
    ("mac_settings.supports_32_bit_f_cnt", Field::Text("supports_32_bit_f_cnt")),
    ("supports_class_c", Field::Text("supports_class_c")),
    ("external_id", Field::ExternalId),
    ("claiming_allowed", Field::ClaimingAllowed),
    ("root_keys_exposed", Field::RootKeysExposed),
];
/// LoRa Alliance numbers: numbers here, hex in CSV.
const NUMBERS: [(&str, Field); 2] = [
    ("lora_alliance_profile_ids.vendor_id", Field::VendorId),
    ("lora_alliance_profile_ids.vendor_profile_id", Field::VendorProfileId),
];

pub(super) struct Rows<R: BufRead> {
    objects: Objects<R>,
}

impl<R: BufRead> Rows<R> {
    pub(super) fn new(reader: R) -> Result<Self, FileFault> {
        Ok(Self { objects: Objects::new(reader)? })
    }

    pub(super) fn next(&mut self) -> Option<Result<Row, FileFault>> {
        Some(self.objects.next()?.map(|(number, object)| read(number, &object)))
    }
}

fn read(number: u64, object: &[u8]) -> Row {
    let mut row = Builder::default();
    let object: Value = match serde_json::from_slice(object) {
        Ok(object) => object,
        Err(error) => {
            // Its place, not its text: that may be half of a secret.
            row.refuse(
                "",
                "invalid_json",
                format!("not JSON at line {} column {} of this object", error.line(), error.column()),
            );
            return row.finish(number);
        }
    };
    for (path, field) in PATHS {
        match find(&object, path) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) => row.set(field, path, text),
            Some(Value::Bool(value)) => row.set(field, path, if *value { "true" } else { "false" }),
            Some(Value::Number(value)) if matches!(field, Field::Text(_)) => row.set(field, path, &value.to_string()),
            Some(_) => row.refuse(path, "invalid_type", "a text is expected"),
        }
    }
    for (path, field) in NUMBERS {
        match find(&object, path) {
            None | Some(Value::Null) => {}
            Some(value) => match value.as_u64().and_then(|value| u16::try_from(value).ok()) {
                Some(value) => row.set(field, path, &format!("{value:04X}")),
                None => row.refuse(path, "invalid_number", "a number from 0 to 65535 is expected"),
            },
        }
    }
    for session in ["session", "pending_session", "mac_state"] {
        if object.get(session).is_some() {
            row.set(Field::Session, session, session);
        }
    }
    row.finish(number)
}

fn find<'v>(object: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(object, |value, member| value.get(member))
}
