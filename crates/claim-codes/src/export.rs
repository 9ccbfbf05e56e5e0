//! Files that leave: an application's devices in the formats that imports read, and the codes that an import generated.
//!
//! What was exported and is imported again changes nothing. Root keys are never in these files.

use claim::Secret;
use claim::applications::{Identity, ListedDevice};
use claim::imports::GeneratedCode;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::import::{FileFormat, TEXTS};
use crate::qr::{EndDevice, Format, write};
use crate::window::show_instant;

const COLUMNS: &str = "id;dev_eui;join_eui;name;description;vendor_id;vendor_profile_id;external_id;serial_number;\
     claiming_allowed;root_keys_exposed;claim_authentication_code;claim_valid_from;claim_valid_to";

/// The first line of a CSV file of devices.
fn csv_header() -> String {
    let mut header = COLUMNS.to_owned();
    for text in TEXTS {
        header.push(';');
        header.push_str(text);
    }
    header.push('\n');
    header
}

/// A device under [`csv_header`]. Without its code, also without the code's window, which would stand alone.
fn csv_row(device: &ListedDevice, code: Option<&Secret<String>>) -> Zeroizing<String> {
    let identity = &device.identity;
    let hex = |number: Option<u16>| number.map(|number| format!("{number:04X}")).unwrap_or_default();
    let window = device.code.filter(|_| code.is_some());
    let mut row = Row::default();
    row.cell(device.home.device.as_str());
    row.cell(&identity.dev_eui.map(|eui| eui.to_string()).unwrap_or_default());
    row.cell(&identity.join_eui.map(|eui| eui.to_string()).unwrap_or_default());
    row.text(device.label.as_deref());
    row.text(identity.description.as_deref());
    row.cell(&hex(identity.vendor_id));
    row.cell(&hex(identity.vendor_profile_id));
    row.text(identity.external_id.as_deref());
    row.text(identity.serial_number.as_deref());
    row.cell(device.claiming_allowed.map_or("", |allowed| if allowed { "true" } else { "false" }));
    row.cell(if device.root_keys_exposed { "true" } else { "" });
    row.cell(code.map_or("", |code| code.expose()));
    row.cell(&window.and_then(|code| code.from).map(show_instant).unwrap_or_default());
    row.cell(&window.and_then(|code| code.until).map(show_instant).unwrap_or_default());
    for text in TEXTS {
        row.text(identity.texts.get(text).map(String::as_str));
    }
    row.end()
}

/// A device as an object of The Things Stack's JSON, on a line of its own.
fn json_row(device: &ListedDevice, code: Option<&Secret<String>>) -> Zeroizing<String> {
    let identity = &device.identity;
    let mut ids = Map::new();
    ids.insert("device_id".to_owned(), device.home.device.as_str().into());
    if let Some(eui) = identity.dev_eui {
        ids.insert("dev_eui".to_owned(), eui.to_string().into());
    }
    if let Some(eui) = identity.join_eui {
        ids.insert("join_eui".to_owned(), eui.to_string().into());
    }
    let mut object = json!({"ids": ids});
    let mut set = |path: &[&str], value: Option<Value>| {
        if let Some(value) = value {
            let place = path.iter().fold(&mut object, |at, member| &mut at[*member]);
            *place = value;
        }
    };
    let text = |text: &Option<String>| text.as_deref().map(Value::from);
    set(&["name"], text(&device.label));
    set(&["description"], text(&identity.description));
    set(&["external_id"], text(&identity.external_id));
    set(&["serial_number"], text(&identity.serial_number));
    set(&["lora_alliance_profile_ids", "vendor_id"], identity.vendor_id.map(Value::from));
    set(&["lora_alliance_profile_ids", "vendor_profile_id"], identity.vendor_profile_id.map(Value::from));
    set(&["claiming_allowed"], device.claiming_allowed.map(Value::from));
    set(&["root_keys_exposed"], device.root_keys_exposed.then_some(Value::Bool(true)));
    for (name, path) in texts(identity) {
        set(path, identity.texts.get(name).map(|text| text.as_str().into()));
    }
    if let (Some(code), Some(window)) = (code, device.code) {
        set(&["claim_authentication_code", "value"], Some(code.expose().as_str().into()));
        set(&["claim_authentication_code", "valid_from"], window.from.map(|at| show_instant(at).into()));
        set(&["claim_authentication_code", "valid_to"], window.until.map(|at| show_instant(at).into()));
    }
    let mut line = object.to_string();
    line.push('\n');
    Zeroizing::new(line)
}

/// Where the texts that a device has stand in The Things Stack's objects.
fn texts(identity: &Identity) -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    let places: [(&str, &[&str]); 11] = [
        ("lorawan_version", &["lorawan_version"]),
        ("lorawan_phy_version", &["lorawan_phy_version"]),
        ("frequency_plan_id", &["frequency_plan_id"]),
        ("brand_id", &["version_ids", "brand_id"]),
        ("model_id", &["version_ids", "model_id"]),
        ("hardware_version", &["version_ids", "hardware_version"]),
        ("firmware_version", &["version_ids", "firmware_version"]),
        ("band_id", &["version_ids", "band_id"]),
        ("rx1_delay", &["mac_settings", "rx1_delay"]),
        ("supports_32_bit_f_cnt", &["mac_settings", "supports_32_bit_f_cnt"]),
        ("supports_class_c", &["supports_class_c"]),
    ];
    let has: Vec<_> = places.into_iter().filter(|(name, _)| identity.texts.contains_key(*name)).collect();
    has.into_iter()
}

/// A format that devices are written in; a maker's manifest is only read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// CSV.
    Csv,
    /// The Things Stack's JSON, an object a line.
    Json,
}

impl ExportFormat {
    /// The format of an import format's id.
    pub fn of_id(id: &str) -> Option<Self> {
        match FileFormat::of_id(id)? {
            FileFormat::Csv => Some(Self::Csv),
            FileFormat::Json => Some(Self::Json),
            FileFormat::Microchip => None,
        }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            Self::Json => "application/x-ndjson",
        }
    }

    /// What stands before the first device.
    pub fn head(self) -> String {
        match self {
            Self::Csv => csv_header(),
            Self::Json => String::new(),
        }
    }

    /// A device.
    pub fn row(self, device: &ListedDevice, code: Option<&Secret<String>>) -> Zeroizing<String> {
        match self {
            Self::Csv => csv_row(device, code),
            Self::Json => json_row(device, code),
        }
    }
}

/// The first line of a file of generated codes.
pub const CODES_HEADER: &str = "id;dev_eui;join_eui;claim_authentication_code;claim_valid_from;claim_valid_to;qr\n";

/// A generated code under [`CODES_HEADER`]. Its QR text is `tr005` for devices with EUIs, else our link, else (without a
/// public URL) ThingsBoard's JSON. Owners claim from this file as it is.
pub fn codes_row(generated: &GeneratedCode, public_url: &str) -> Zeroizing<String> {
    let device = &generated.device;
    let identity = &device.identity;
    let payload = EndDevice {
        join_eui: identity.join_eui,
        dev_eui: identity.dev_eui,
        profile: identity.vendor_id.zip(identity.vendor_profile_id),
        name: Some(device.name.as_str().to_owned()),
        code: Some(Secret::new(generated.code.expose().clone())),
        serial: identity.serial_number.clone(),
        ..EndDevice::default()
    };
    let link = if public_url.is_empty() { Format::TbJson } else { Format::ClaimdUrl };
    let qr = [Format::Tr005, link].into_iter().find_map(|format| write(format, &payload, public_url).ok());
    let window = device.code;
    let mut row = Row::default();
    row.cell(device.home.device.as_str());
    row.cell(&identity.dev_eui.map(|eui| eui.to_string()).unwrap_or_default());
    row.cell(&identity.join_eui.map(|eui| eui.to_string()).unwrap_or_default());
    row.cell(generated.code.expose());
    row.cell(&window.and_then(|code| code.from).map(show_instant).unwrap_or_default());
    row.cell(&window.and_then(|code| code.until).map(show_instant).unwrap_or_default());
    row.cell(qr.as_ref().map_or("", |qr| qr.expose()));
    row.end()
}

/// A row of CSV with `;` between its cells.
#[derive(Default)]
struct Row {
    line: Zeroizing<String>,
    cells: usize,
}

impl Row {
    /// RFC 4180 §2.
    fn cell(&mut self, text: &str) {
        if self.cells > 0 {
            self.line.push(';');
        }
        self.cells += 1;
        if text.contains(['"', ';', ',', '\n', '\r']) {
            self.line.push('"');
            self.line.push_str(&text.replace('"', "\"\""));
            self.line.push('"');
        } else {
            self.line.push_str(text);
        }
    }

    /// A text that somebody chose: a spreadsheet must not take it for a formula.
    fn text(&mut self, text: Option<&str>) {
        let text = text.unwrap_or_default();
        if looks_like_formula(text) { self.cell(&format!("'{text}")) } else { self.cell(text) }
    }

    fn end(mut self) -> Zeroizing<String> {
        self.line.push('\n');
        self.line
    }
}

fn looks_like_formula(text: &str) -> bool {
    text.trim_start_matches('\'').starts_with(['=', '+', '-', '@', '\t', '\r'])
}

/// Takes back what [`Row::text`] put before a text that looks like a formula.
pub(crate) fn unguarded(text: &str) -> &str {
    match text.strip_prefix('\'') {
        Some(rest) if looks_like_formula(rest) => rest,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Cursor;

    use claim::applications::{CodeView, Place};
    use claim::{DeviceId, DeviceName, Eui64, ListingId, TenantId, Timestamp};

    use super::*;
    use crate::import::Reading;

    fn device() -> ListedDevice {
        let id = |text: &str| ListingId::parse(text).unwrap();
        let home = Place { application: id("spring"), device: id("pump-7") };
        let texts =
            [("lorawan_version", "MAC_V1_0_3"), ("brand_id", "acme"), ("supports_class_c", "true"), ("rx1_delay", "5")];
        ListedDevice {
            device: DeviceId::from_bytes([1; 16]),
            tenant: TenantId::from_bytes([2; 16]),
            name: DeviceName::parse("pump-7").unwrap(),
            label: Some("=SUM(A1)".to_owned()),
            place: home.clone(),
            home,
            identity: Identity {
                dev_eui: Some(Eui64::parse("0004A30B001C0501").unwrap()),
                join_eui: Some(Eui64::parse("70B3D57ED0000000").unwrap()),
                external_id: Some("'-1".to_owned()),
                serial_number: Some("S;1 \"x\"".to_owned()),
                vendor_id: Some(0xAABB),
                vendor_profile_id: Some(0x1122),
                description: Some("two\nlines".to_owned()),
                texts: texts.map(|(name, text)| (name.to_owned(), text.to_owned())).into(),
                public_key: None,
                provisioner: None,
            },
            owner: None,
            claimed_at: None,
            claiming_allowed: Some(true),
            frozen: false,
            presence: false,
            code: Some(CodeView {
                from: None,
                until: Some(Timestamp::from_millis(1_772_323_199_000)),
                set_at: Timestamp::from_millis(0),
            }),
            root_keys: true,
            root_keys_exposed: true,
            created_at: Timestamp::from_millis(0),
            version: 1,
        }
    }

    #[test]
    fn what_was_exported_is_read_back_as_it_was() {
        let code = Secret::new("BEEF1234".to_owned());
        for (format, read_as) in [(ExportFormat::Csv, FileFormat::Csv), (ExportFormat::Json, FileFormat::Json)] {
            let file = format!("{}{}", format.head(), *format.row(&device(), Some(&code)));
            let mut rows = Reading::new(read_as, Cursor::new(file.clone())).unwrap();
            let read = rows.next().unwrap().unwrap();
            let record = read.outcome.unwrap_or_else(|faults| panic!("{file}: {faults:?}"));
            let (device, identity) = (device(), device().identity);
            assert_eq!((record.id, record.label), (device.home.device, device.label));
            assert_eq!((record.dev_eui, record.join_eui), (identity.dev_eui, identity.join_eui));
            assert_eq!((record.external_id, record.serial_number), (identity.external_id, identity.serial_number));
            assert_eq!((record.vendor_id, record.vendor_profile_id), (Some(0xAABB), Some(0x1122)));
            assert_eq!((record.description, record.claiming_allowed), (identity.description, Some(true)));
            let texts: BTreeMap<String, String> =
                record.texts.into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
            assert_eq!(texts, identity.texts);
            assert_eq!(record.code.as_ref().map(|code| code.expose()), Some("BEEF1234"));
            assert_eq!(record.window.to(), device.code.unwrap().until);
            assert!(record.root_keys_exposed && record.app_key.is_none());
        }
    }

    #[test]
    fn no_exported_text_is_a_formula() {
        for (text, cell) in [
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@a", "'@a"),
            ("'=x", "''=x"),
            ("plain", "plain"),
            ("'quoted", "'quoted"),
        ] {
            let mut row = Row::default();
            row.text(Some(text));
            assert_eq!(row.end().trim_end_matches('\n'), cell);
            assert_eq!(unguarded(cell), text);
        }
    }

    #[test]
    fn a_codes_row_has_the_text_to_print() {
        let generated =
            |device: ListedDevice| GeneratedCode { row: 2, device, code: Secret::new("K7QM2VXD0000ZZZZ".to_owned()) };
        let with_euis = codes_row(&generated(device()), "https://claim.example");
        assert!(
            with_euis.starts_with("pump-7;0004A30B001C0501;70B3D57ED0000000;K7QM2VXD0000ZZZZ;;2026-02-28T23:59:59Z;")
        );
        let mut plain = device();
        plain.identity = Identity::default();
        let link = codes_row(&generated(plain.clone()), "https://claim.example");
        assert!(link.ends_with(";https://claim.example/c/pump-7#K7QM2VXD0000ZZZZ\n"), "{}", *link);
        let json = codes_row(&generated(plain), "");
        assert!(json.contains("deviceName"), "{}", *json);
    }
}
