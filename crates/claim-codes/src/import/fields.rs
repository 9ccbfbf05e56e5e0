//! What may stand in a field, whatever the file format.

use std::collections::BTreeMap;

use claim::{Eui64, ListingId, Secret, Timestamp};

use super::{CELL_BYTES, Fault, Record, Row};
use crate::window::parse_instant;
use crate::{ClaimCode, Window};

/// What is said of data of a network session.
pub(super) const SESSION_IGNORED: &str = "data of a network session is not imported";
/// Longest texts, in characters.
const LABEL: usize = 50;
const DESCRIPTION: usize = 2_000;
const TEXT: usize = 255;

/// Fields that are kept as they are.
pub(crate) const TEXTS: [&str; 11] = [
    "lorawan_version",
    "lorawan_phy_version",
    "frequency_plan_id",
    "brand_id",
    "model_id",
    "hardware_version",
    "firmware_version",
    "band_id",
    "rx1_delay",
    "supports_32_bit_f_cnt",
    "supports_class_c",
];

/// What a field is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Id,
    DevEui,
    JoinEui,
    VendorId,
    VendorProfileId,
    AppKey,
    NwkKey,
    Label,
    Description,
    Text(&'static str),
    Code,
    ValidFrom,
    ValidTo,
    ExternalId,
    SerialNumber,
    ClaimingAllowed,
    RootKeysExposed,
    /// Of a session that ends with the claim.
    Session,
}

impl Field {
    /// The field of a CSV column.
    pub(super) fn of_column(name: &str) -> Option<Self> {
        Some(match name {
            "id" => Self::Id,
            "dev_eui" => Self::DevEui,
            "join_eui" | "app_eui" => Self::JoinEui,
            "vendor_id" => Self::VendorId,
            "vendor_profile_id" => Self::VendorProfileId,
            "app_key" => Self::AppKey,
            "nwk_key" => Self::NwkKey,
            "name" => Self::Label,
            "description" => Self::Description,
            "claim_authentication_code" | "owner_token" => Self::Code,
            "claim_valid_from" => Self::ValidFrom,
            "claim_valid_to" => Self::ValidTo,
            "external_id" => Self::ExternalId,
            "serial_number" => Self::SerialNumber,
            "claiming_allowed" => Self::ClaimingAllowed,
            "root_keys_exposed" => Self::RootKeysExposed,
            "dev_addr" | "app_s_key" | "f_nwk_s_int_key" | "s_nwk_s_int_key" | "nwk_s_enc_key" => Self::Session,
            last if last.starts_with("last_") => Self::Session,
            text => Self::Text(TEXTS.into_iter().find(|known| *known == text)?),
        })
    }

    fn secret(self) -> bool {
        matches!(self, Self::Code | Self::AppKey | Self::NwkKey | Self::Session)
    }
}

/// A row that is being read.
#[derive(Default)]
pub(super) struct Builder {
    id: Option<ListingId>,
    dev_eui: Option<Eui64>,
    join_eui: Option<Eui64>,
    vendor_id: Option<u16>,
    vendor_profile_id: Option<u16>,
    app_key: Option<Secret<[u8; 16]>>,
    nwk_key: Option<Secret<[u8; 16]>>,
    label: Option<String>,
    description: Option<String>,
    texts: BTreeMap<&'static str, String>,
    code: Option<Secret<String>>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    external_id: Option<String>,
    serial_number: Option<String>,
    claiming_allowed: Option<bool>,
    root_keys_exposed: bool,
    public_key: Option<Vec<u8>>,
    provisioner: Option<String>,
    code_column: String,
    errors: Vec<Fault>,
    warnings: Vec<Fault>,
}

type Judged<T> = Result<T, (&'static str, String)>;

impl Builder {
    /// Reads a field; `column` is what it is called in this file. An empty text is a field that is not given.
    pub(super) fn set(&mut self, field: Field, column: &str, text: &str) {
        if text.is_empty() {
            return;
        }
        let set = match text.len() {
            0..=CELL_BYTES => self.try_set(field, column, text),
            _ => Err(("cell_too_long", format!("longer than {CELL_BYTES} bytes"))),
        };
        if let Err((code, reason)) = set {
            let value = (!field.secret()).then(|| text.chars().take(TEXT).collect());
            self.errors.push(Fault { column: column.to_owned(), value, code, reason });
        }
    }

    fn try_set(&mut self, field: Field, column: &str, text: &str) -> Judged<()> {
        match field {
            Field::Id => self.id = Some(ListingId::parse(text).map_err(|fault| ("invalid_id", fault.to_string()))?),
            Field::DevEui => self.dev_eui = Some(eui(text)?),
            Field::JoinEui => self.join_eui = Some(eui(text)?),
            Field::VendorId => self.vendor_id = Some(number16(text)?),
            Field::VendorProfileId => self.vendor_profile_id = Some(number16(text)?),
            Field::AppKey => self.app_key = Some(key(text)?),
            Field::NwkKey => self.nwk_key = Some(key(text)?),
            Field::Label => self.label = Some(short(text, LABEL)?),
            Field::Description => self.description = Some(short(text, DESCRIPTION)?),
            Field::Text(name) => drop(self.texts.insert(name, short(text, TEXT)?)),
            Field::Code => {
                column.clone_into(&mut self.code_column);
                self.code = Some(Secret::new(text.to_owned()));
            }
            Field::ValidFrom => self.from = Some(instant(text)?),
            Field::ValidTo => self.to = Some(instant(text)?),
            Field::ExternalId => self.external_id = Some(printable(text)?),
            Field::SerialNumber => self.serial_number = Some(printable(text)?),
            Field::ClaimingAllowed => self.claiming_allowed = Some(truth(text)?),
            Field::RootKeysExposed => self.root_keys_exposed = truth(text)?,
            Field::Session => self.warn(column, "session_ignored", SESSION_IGNORED),
        }
        Ok(())
    }

    /// Keeps a key that has been proved to be the device's, and who put it there.
    pub(super) fn attest(&mut self, public_key: Vec<u8>, provisioner: Option<String>) {
        self.public_key = Some(public_key);
        self.provisioner = provisioner;
    }

    pub(super) fn warn(&mut self, column: &str, code: &'static str, reason: &str) {
        self.warnings.push(Fault { column: column.to_owned(), value: None, code, reason: reason.to_owned() });
    }

    pub(super) fn refuse(&mut self, column: &str, code: &'static str, reason: impl Into<String>) {
        self.errors.push(Fault { column: column.to_owned(), value: None, code, reason: reason.into() });
    }

    /// The whole row, with what only the whole can tell. A window may come without a code: the device may have one.
    pub(super) fn finish(mut self, row: u64) -> Row {
        let id = self.take_id();
        let code = self.take_code(id.as_ref());
        let window = Window::new(self.from, self.to).unwrap_or_else(|fault| {
            self.refuse("claim_valid_to", "claim_authentication_code", fault.to_string());
            Window::default()
        });
        let shown = id.as_ref().map(|id| id.as_str().to_owned());
        let outcome = match id {
            Some(id) if self.errors.is_empty() => Ok(Box::new(Record {
                id,
                dev_eui: self.dev_eui,
                join_eui: self.join_eui,
                vendor_id: self.vendor_id,
                vendor_profile_id: self.vendor_profile_id,
                app_key: self.app_key,
                nwk_key: self.nwk_key,
                label: self.label,
                description: self.description,
                texts: self.texts,
                code,
                window,
                external_id: self.external_id,
                serial_number: self.serial_number,
                claiming_allowed: self.claiming_allowed,
                root_keys_exposed: self.root_keys_exposed,
                public_key: self.public_key,
                provisioner: self.provisioner,
            })),
            _ => Err(self.errors),
        };
        Row { row, id: shown, outcome, warnings: self.warnings }
    }

    fn take_id(&mut self) -> Option<ListingId> {
        if let Some(id) = self.id.take() {
            return Some(id);
        }
        if self.errors.iter().any(|fault| fault.code == "invalid_id") {
            return None;
        }
        let made = match (self.dev_eui, &self.external_id) {
            (Some(eui), _) => ListingId::parse(&format!("eui-{}", eui.to_string().to_lowercase())),
            (None, Some(external)) => ListingId::parse(&external.to_lowercase()),
            // A bad EUI is reported already.
            (None, None) if self.errors.iter().any(|fault| fault.code == "invalid_eui") => return None,
            (None, None) => {
                self.refuse("id", "no_id", "an id is needed: `id`, `dev_eui` or `external_id`");
                return None;
            }
        };
        made.map_err(|fault| self.refuse("external_id", "invalid_id", format!("no id can be made of it: {fault}"))).ok()
    }

    fn take_code(&mut self, id: Option<&ListingId>) -> Option<ClaimCode> {
        let text = self.code.take()?;
        let euis = [self.dev_eui, self.join_eui].map(|eui| eui.map(|eui| eui.to_string()));
        let printed = [
            id.map(ListingId::as_str),
            euis[0].as_deref(),
            euis[1].as_deref(),
            self.label.as_deref(),
            self.external_id.as_deref(),
            self.serial_number.as_deref(),
        ];
        let printed: Vec<&str> = printed.into_iter().flatten().collect();
        let column = self.code_column.clone();
        match ClaimCode::chosen(text.expose(), &printed) {
            Ok(code) => {
                if code.is_weak() {
                    self.warn(&column, "code_weak", "a code of fewer than 8 characters can be guessed");
                }
                Some(code)
            }
            Err(fault) => {
                self.refuse(&column, fault.name(), fault.to_string());
                None
            }
        }
    }
}

fn eui(text: &str) -> Judged<Eui64> {
    Eui64::parse(text).map_err(|fault| ("invalid_eui", fault.to_string()))
}

fn number16(text: &str) -> Judged<u16> {
    let hex = text.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u16::from_str_radix(text, 16).ok());
    hex.flatten().ok_or_else(|| ("invalid_number", "1 to 4 hex digits expected".to_owned()))
}

pub(super) fn key(text: &str) -> Judged<Secret<[u8; 16]>> {
    let fault = || ("invalid_key", "32 hex digits expected".to_owned());
    let digits: &[u8; 32] = text.as_bytes().try_into().map_err(|_| fault())?;
    let mut bytes = Secret::new([0; 16]);
    for (byte, pair) in bytes.expose_mut().iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16).ok_or_else(fault);
        *byte = (digit(0)? << 4 | digit(1)?) as u8;
    }
    Ok(bytes)
}

fn short(text: &str, most: usize) -> Judged<String> {
    if text.chars().count() > most {
        return Err(("too_long", format!("at most {most} characters")));
    }
    if text.contains('\0') {
        return Err(("invalid_text", "U+0000 cannot be stored".to_owned()));
    }
    Ok(text.to_owned())
}

fn printable(text: &str) -> Judged<String> {
    if text.chars().any(char::is_control) {
        return Err(("invalid_text", "no control characters".to_owned()));
    }
    short(text, TEXT)
}

fn instant(text: &str) -> Judged<Timestamp> {
    parse_instant(text).map_err(|fault| ("invalid_time", fault.to_string()))
}

fn truth(text: &str) -> Judged<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(("invalid_boolean", "`true` or `false` expected".to_owned())),
    }
}
