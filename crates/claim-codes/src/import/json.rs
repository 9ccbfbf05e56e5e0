//! JSON: end devices as The Things Stack writes them, in one array or one after the other.

use std::io::{BufRead, Read};

use serde_json::Value;

use super::fields::{Builder, Field};
use super::{BOM, FileFault, ROW_BYTES, Row};

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

pub(super) struct Objects<R: BufRead> {
    reader: R,
    /// Bytes read so far.
    at: u64,
    number: u64,
    in_array: bool,
    over: bool,
}

impl<R: BufRead> Objects<R> {
    pub(super) fn new(mut reader: R) -> Result<Self, FileFault> {
        let mut at = 0;
        if reader.fill_buf()?.starts_with(BOM) {
            reader.consume(BOM.len());
            at = BOM.len() as u64;
        }
        let mut objects = Self { reader, at, number: 0, in_array: false, over: false };
        match objects.skip(&[])? {
            None => return Err(FileFault::Empty),
            Some(b'[') => {
                objects.take()?;
                objects.in_array = true;
            }
            Some(_) => {}
        }
        Ok(objects)
    }

    pub(super) fn next(&mut self, generating: bool) -> Option<Result<Row, FileFault>> {
        Some(self.next_object()?.map(|(number, object)| read(number, &object, generating)))
    }

    /// The number and the bytes of the next object.
    pub(super) fn next_object(&mut self) -> Option<Result<(u64, Vec<u8>), FileFault>> {
        if self.over {
            return None;
        }
        let cut = self.cut();
        self.over = !matches!(cut, Ok(Some(_)));
        Some(cut.transpose()?.map(|object| {
            self.number += 1;
            (self.number, object)
        }))
    }

    /// The bytes of the next object; `None` after the last.
    fn cut(&mut self) -> Result<Option<Vec<u8>>, FileFault> {
        let separators: &[u8] = if self.number > 0 { b"," } else { b"" };
        match self.skip(separators)? {
            Some(b'{') => {}
            None if !self.in_array => return Ok(None),
            Some(b']') if self.in_array => {
                self.take()?;
                return match self.skip(&[])? {
                    None => Ok(None),
                    Some(_) => Err(FileFault::NoObject(self.at)),
                };
            }
            _ => return Err(FileFault::NoObject(self.at)),
        }
        let start = self.at;
        let (mut object, mut depth, mut in_text, mut escaped) = (Vec::new(), 0_usize, false, false);
        loop {
            let Some(byte) = self.take()? else { return Err(FileFault::NoObject(start)) };
            object.push(byte);
            if object.len() > ROW_BYTES {
                return Err(FileFault::RowTooLong(self.number + 1));
            }
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_text => escaped = true,
                b'"' => in_text = !in_text,
                b'{' if !in_text => depth += 1,
                b'}' if !in_text => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Ok(Some(object));
            }
        }
    }

    /// The next byte that is neither white space nor one of `also`; it stays.
    fn skip(&mut self, also: &[u8]) -> Result<Option<u8>, FileFault> {
        loop {
            match self.reader.fill_buf()?.first() {
                Some(byte) if byte.is_ascii_whitespace() || also.contains(byte) => {
                    self.take()?;
                }
                other => return Ok(other.copied()),
            }
        }
    }

    fn take(&mut self) -> Result<Option<u8>, FileFault> {
        let mut byte = [0];
        let read = self.reader.by_ref().take(1).read(&mut byte)?;
        self.at += read as u64;
        Ok((read == 1).then_some(byte[0]))
    }
}

fn read(number: u64, object: &[u8], generating: bool) -> Row {
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
            return row.finish(number, generating);
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
    row.finish(number, generating)
}

fn find<'v>(object: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(object, |value, member| value.get(member))
}
