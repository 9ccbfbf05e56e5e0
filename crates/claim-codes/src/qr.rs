//! What is in the square on a label: one grammar for each format, read in a fixed order, and three that are written.
//!
//! tr005 is LoRa Alliance TR005-1.0.0; its two drafts, The Things Indoor Gateway Pro's link and a bare DevEUI are read
//! only. Nothing here opens a link.

mod drafts;
mod link;
mod tr005;

use std::fmt::{self, Write as _};

use claim::{Eui64, Secret};
use serde::Deserialize;
use serde::de::{self, MapAccess, Visitor};

pub use tr005::crc16_modbus;

/// The longest payload, in bytes.
pub const PAYLOAD_BYTES: usize = 1_024;

/// A format of QR payloads, in the order in which they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `LW:D0:…`
    Tr005,
    /// `URN:LW:DP:…`
    Tr005Draft2,
    /// `URN:DEV:LW:…`
    Tr005Draft3,
    /// `https://ttig.pro/c/…`
    TtigPro1,
    /// `https://HOST/c/DEVICE#CODE`
    ClaimdUrl,
    /// `{"deviceName":…,"secretKey":…}`
    TbJson,
    /// 16 hex digits.
    DevEui,
}

impl Format {
    /// All, in the order in which they are tried.
    pub const ALL: [Format; 7] = [
        Self::Tr005,
        Self::Tr005Draft2,
        Self::Tr005Draft3,
        Self::TtigPro1,
        Self::ClaimdUrl,
        Self::TbJson,
        Self::DevEui,
    ];
    /// Those that are written.
    pub const WRITTEN: [Format; 3] = [Self::Tr005, Self::ClaimdUrl, Self::TbJson];

    /// The format's id in APIs.
    pub fn id(self) -> &'static str {
        match self {
            Self::Tr005 => "tr005",
            Self::Tr005Draft2 => "tr005draft2",
            Self::Tr005Draft3 => "tr005draft3",
            Self::TtigPro1 => "ttigpro1",
            Self::ClaimdUrl => "claimd-url",
            Self::TbJson => "tb-json",
            Self::DevEui => "dev_eui",
        }
    }

    /// The format of an id.
    pub fn of_id(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.id() == id)
    }
}

/// What a payload says of an end device. The code is a secret.
#[derive(Debug, Default)]
pub struct EndDevice {
    /// Whom it joins through.
    pub join_eui: Option<Eui64>,
    /// Which device.
    pub dev_eui: Option<Eui64>,
    /// Vendor and vendor's profile, as LoRa Alliance numbers.
    pub profile: Option<(u16, u16)>,
    /// The device's name on this server (`claimd-url`, `tb-json`).
    pub name: Option<String>,
    /// Proof of ownership.
    pub code: Option<Secret<String>>,
    /// Serial number.
    pub serial: Option<String>,
    /// The vendor's own text.
    pub proprietary: Option<String>,
    /// Whether the payload's checksum was there and right.
    pub checksum: Checksum,
}

/// What the checksum of a payload says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// There is none.
    #[default]
    Absent,
    /// It fits.
    Verified,
    /// Something that calls itself a checksum, but not where or not what it must be.
    Unverified,
}

/// A payload that was understood.
#[derive(Debug)]
pub enum Payload {
    /// An end device.
    EndDevice(EndDevice),
    /// A gateway and its owner token.
    Gateway {
        /// Which.
        eui: Eui64,
        /// Proof of ownership.
        owner_token: Secret<String>,
    },
}

/// Why a payload was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QrFault {
    /// It fits no format.
    UnknownFormat,
    /// It does not fit the format that was asked for.
    WrongFormat(Format),
    /// It was misread or altered.
    ChecksumMismatch,
}

impl QrFault {
    /// The fault's name in APIs.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnknownFormat => "unknown_format",
            Self::WrongFormat(_) => "qr_code_data",
            Self::ChecksumMismatch => "checksum_mismatch",
        }
    }
}

impl fmt::Display for QrFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownFormat => f.write_str("the QR code's text fits no known format"),
            Self::WrongFormat(format) => write!(f, "the QR code's text is not of the format `{}`", format.id()),
            Self::ChecksumMismatch => f.write_str("the QR code's checksum does not fit its text; scan it again"),
        }
    }
}

impl std::error::Error for QrFault {}

/// Reads a payload. `public_url` is where this server's own links lead, without a slash at its end.
pub fn parse(text: &str, public_url: &str) -> Result<(Format, Payload), QrFault> {
    if text.len() > PAYLOAD_BYTES {
        return Err(QrFault::UnknownFormat);
    }
    for format in Format::ALL {
        match parse_as(format, text, public_url) {
            Ok(payload) => return Ok((format, payload)),
            Err(QrFault::ChecksumMismatch) => return Err(QrFault::ChecksumMismatch),
            Err(_) => {}
        }
    }
    Err(QrFault::UnknownFormat)
}

/// Reads a payload of one format.
pub fn parse_as(format: Format, text: &str, public_url: &str) -> Result<Payload, QrFault> {
    let device = match format {
        _ if text.len() > PAYLOAD_BYTES => None,
        Format::Tr005 => tr005::parse(text)?,
        Format::Tr005Draft2 => drafts::parse_draft2(text),
        Format::Tr005Draft3 => drafts::parse_draft3(text),
        Format::TtigPro1 => {
            let (eui, owner_token) = link::parse_ttigpro(text).ok_or(QrFault::WrongFormat(format))?;
            return Ok(Payload::Gateway { eui, owner_token });
        }
        Format::ClaimdUrl => link::parse_claimd(text, public_url),
        Format::TbJson => serde_json::from_str::<TbJson>(text).ok().and_then(TbJson::device),
        Format::DevEui => Eui64::parse(text).ok().map(|eui| EndDevice { dev_eui: Some(eui), ..EndDevice::default() }),
    };
    device.map(Payload::EndDevice).ok_or(QrFault::WrongFormat(format))
}

/// Why there is no payload for a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteFault {
    /// The format is only read.
    ReadOnly(Format),
    /// The device has no JoinEUI.
    NoJoinEui,
    /// The device has no DevEUI.
    NoDevEui,
    /// The device has no name.
    NoName,
    /// A text of the device cannot stand in this format; which.
    Text(&'static str),
    /// It would be longer than [`PAYLOAD_BYTES`].
    TooLong,
}

impl WriteFault {
    /// The fault's name in APIs.
    pub fn name(self) -> &'static str {
        match self {
            Self::ReadOnly(_) => "format_not_found",
            Self::NoJoinEui => "no_join_eui",
            Self::NoDevEui => "no_dev_eui",
            Self::NoName | Self::Text(_) | Self::TooLong => "qr_code_data",
        }
    }
}

impl fmt::Display for WriteFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReadOnly(format) => write!(f, "`{}` is read only; use tr005, claimd-url or tb-json", format.id()),
            Self::NoJoinEui => f.write_str("the device has no JoinEUI"),
            Self::NoDevEui => f.write_str("the device has no DevEUI"),
            Self::NoName => f.write_str("the device has no name"),
            Self::Text(what) => write!(f, "the device's {what} has characters that this format cannot carry"),
            Self::TooLong => write!(f, "the payload would be longer than {PAYLOAD_BYTES} bytes"),
        }
    }
}

impl std::error::Error for WriteFault {}

/// Writes a device's payload. It holds the code.
pub fn write(format: Format, device: &EndDevice, public_url: &str) -> Result<Secret<String>, WriteFault> {
    let text = match format {
        Format::Tr005 => tr005::write(device)?,
        Format::ClaimdUrl => link::write_claimd(device, public_url)?,
        Format::TbJson => {
            let name = device.name.as_deref().ok_or(WriteFault::NoName)?;
            let mut object = serde_json::Map::new();
            object.insert("deviceName".to_owned(), name.into());
            if let Some(code) = &device.code {
                object.insert("secretKey".to_owned(), code.expose().as_str().into());
            }
            ascii(&serde_json::Value::Object(object).to_string())
        }
        other => return Err(WriteFault::ReadOnly(other)),
    };
    if text.len() > PAYLOAD_BYTES { Err(WriteFault::TooLong) } else { Ok(Secret::new(text)) }
}

/// JSON with everything beyond ASCII escaped: a QR code does not say how its bytes are to be read, and readers guess.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for letter in json.chars() {
        if letter.is_ascii() {
            text.push(letter);
        } else {
            let mut units = [0; 2];
            for unit in letter.encode_utf16(&mut units) {
                let _ = write!(text, "\\u{unit:04x}");
            }
        }
    }
    text
}

/// ThingsBoard's claim QR: members in any order, unknown ones ignored, a repeated one refused.
struct TbJson {
    name: Option<String>,
    secret: Option<Secret<String>>,
}

impl TbJson {
    fn device(self) -> Option<EndDevice> {
        let name = self.name.filter(|name| !name.is_empty())?;
        Some(EndDevice { name: Some(name), code: self.secret, ..EndDevice::default() })
    }
}

impl<'de> Deserialize<'de> for TbJson {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = TbJson;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TbJson, A::Error> {
                let mut read = TbJson { name: None, secret: None };
                while let Some(key) = map.next_key::<String>()? {
                    let again = match key.as_str() {
                        "deviceName" => read.name.replace(map.next_value()?).is_some(),
                        "secretKey" => read.secret.replace(Secret::new(map.next_value()?)).is_some(),
                        _ => map.next_value::<de::IgnoredAny>().map(|_| false)?,
                    };
                    if again {
                        return Err(de::Error::custom("a member is there twice"));
                    }
                }
                Ok(read)
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests;
