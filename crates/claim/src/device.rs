//! Devices as the domain knows them: ids, names, credentials, and the one type that proves a device signed in.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};
use uuid::Uuid;

use crate::owner::CustomerId;
use crate::time::Timestamp;

/// Defines an id: 16 bytes, shown as a hyphenated UUID, never mixed up with another kind of id.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(uuid::Uuid);

        impl $name {
            /// The id with these bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(uuid::Uuid::from_bytes(bytes))
            }

            /// A fresh random id (version 4).
            pub fn random() -> Self {
                Self(uuid::Uuid::new_v4())
            }

            /// The id's bytes.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// The id as a UUID.
            pub const fn uuid(&self) -> uuid::Uuid {
                self.0
            }
        }

        impl From<uuid::Uuid> for $name {
            fn from(uuid: uuid::Uuid) -> Self {
                Self(uuid)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}
pub(crate) use id;

id! {
    /// A device, for as long as it exists; never reused.
    DeviceId
}
id! {
    /// A tenant: the maker whose devices, customers and accounts belong together. Tenants never meet.
    TenantId
}
id! {
    /// A device profile: which payload encoding a device's transport uses.
    ProfileId
}

impl DeviceId {
    /// The id that stands for "no such device" where an unknown name must cost the same work as a known one.
    pub const NOBODY: DeviceId = DeviceId(Uuid::nil());
}

/// A device's name: NFC text of 1 to 255 bytes without control or bidirectional-control characters.
///
/// Names are compared exactly after NFC (thingsboard.md 2.4), so two spellings that look alike are one device.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceName(Arc<str>);

/// The longest device name, in bytes of UTF-8 after NFC.
pub const NAME_BYTES: usize = 255;

/// Why a text cannot be a device name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameFault {
    /// Nothing was left.
    Empty,
    /// More than [`NAME_BYTES`] bytes.
    TooLong,
    /// A control character, or one that reorders the text around it.
    Control,
}

impl NameFault {
    /// What is wrong, for people.
    pub fn text(self) -> &'static str {
        match self {
            NameFault::Empty => "the device name is empty",
            NameFault::TooLong => "the device name is longer than 255 bytes",
            NameFault::Control => "the device name has a control or direction-changing character",
        }
    }
}

impl DeviceName {
    /// Checks and normalises a name.
    pub fn parse(text: &str) -> Result<Self, NameFault> {
        if text.is_empty() {
            return Err(NameFault::Empty);
        }
        // NFC never shrinks a text below a third of its bytes, so absurd inputs are refused before any work on them.
        if text.len() > NAME_BYTES * 3 {
            return Err(NameFault::TooLong);
        }
        if text.chars().any(is_hidden) {
            return Err(NameFault::Control);
        }
        let name: Arc<str> = match is_nfc_quick(text.chars()) {
            IsNormalized::Yes => Arc::from(text),
            IsNormalized::No | IsNormalized::Maybe => text.nfc().collect::<String>().into(),
        };
        if name.len() > NAME_BYTES {
            return Err(NameFault::TooLong);
        }
        Ok(Self(name))
    }

    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name, shared.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

/// Characters that a name may not have: they hide or reorder the text around them.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control() || is_bidi_control(c)
}

/// Characters that change the direction of the text around them (Unicode `Bidi_Control`), or that break lines.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

impl fmt::Debug for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a device's profile says about the body of its claim message on one transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PayloadFormat {
    /// JSON (the default profile).
    #[default]
    Json,
    /// ThingsBoard's protobuf schema.
    Protobuf,
    /// Protobuf first, then JSON ("compatibility with JSON payload format").
    ProtobufThenJson,
}

/// A device as the registry holds it: what intake and confirmation need to know, nothing that is only shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its id.
    pub id: DeviceId,
    /// The maker it belongs to.
    pub tenant: TenantId,
    /// Its name, unique in the tenant.
    pub name: DeviceName,
    /// Whether it may speak for others.
    pub gateway: bool,
    /// How it encodes claim messages over MQTT.
    pub mqtt_format: PayloadFormat,
    /// How it encodes claim messages over CoAP.
    pub coap_format: PayloadFormat,
    /// Who owns it.
    pub owner: Option<CustomerId>,
    /// When it was claimed; set exactly while it has an owner.
    pub claimed_at: Option<Timestamp>,
    /// Whether the application it is at home in is authorised for claiming.
    pub authorized: bool,
    /// Whether its maker has paused claiming for it.
    pub frozen: bool,
    /// Whether its stored code counts only while a fresh announcement is pending: somebody is at the device.
    pub presence: bool,
    /// The maker's word on this device; counts only where devices are not claimable by default.
    pub claiming_allowed: bool,
    /// The fence: a pending claim received at or before this instant is void for ever.
    pub claim_reset_at: Option<Timestamp>,
    /// Grows by one with every change of ownership or of the stored code.
    pub generation: i64,
}

/// A device that has shown a valid credential. Only [`crate::Intake::authenticate`] makes one, so submitting without
/// authentication does not compile.
#[derive(Clone, Debug)]
pub struct AuthenticatedDevice {
    device: Arc<Device>,
}

impl AuthenticatedDevice {
    pub(crate) fn new(device: Arc<Device>) -> Self {
        Self { device }
    }

    /// The device's id.
    pub fn id(&self) -> DeviceId {
        self.device.id
    }

    /// The device's tenant.
    pub fn tenant(&self) -> TenantId {
        self.device.tenant
    }

    /// The device's name.
    pub fn name(&self) -> &DeviceName {
        &self.device.name
    }

    /// Whether the device may speak for others.
    pub fn is_gateway(&self) -> bool {
        self.device.gateway
    }

    /// How the device encodes its claim messages over MQTT.
    pub fn mqtt_format(&self) -> PayloadFormat {
        self.device.mqtt_format
    }

    /// How the device encodes its claim messages over CoAP.
    pub fn coap_format(&self) -> PayloadFormat {
        self.device.coap_format
    }
}

/// What a device shows to sign in, as the wire carries it. Never logged: the `Debug` form is redacted.
#[derive(Clone, Copy)]
pub enum DeviceCredential<'a> {
    /// The token in the path of a CoAP or HTTP request.
    AccessToken(&'a str),
    /// The fields of an MQTT CONNECT; which credential they mean is decided in [`crate::Intake::authenticate`].
    Mqtt {
        /// Client identifier as sent; empty when the server assigned it.
        client_id: &'a str,
        /// User name, if present.
        user_name: Option<&'a str>,
        /// Password, if present.
        password: Option<&'a [u8]>,
    },
}

impl fmt::Debug for DeviceCredential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceCredential::AccessToken(_) => f.write_str("AccessToken([redacted])"),
            DeviceCredential::Mqtt { .. } => f.write_str("Mqtt([redacted])"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised_so_that_two_spellings_are_one_device() {
        let composed = DeviceName::parse("caf\u{e9}").unwrap();
        let decomposed = DeviceName::parse("cafe\u{301}").unwrap();
        assert_eq!(composed, decomposed);
    }

    #[test]
    fn names_end_at_255_bytes() {
        assert!(DeviceName::parse(&"a".repeat(254)).is_ok());
        assert!(DeviceName::parse(&"a".repeat(255)).is_ok());
        assert_eq!(DeviceName::parse(&"a".repeat(256)), Err(NameFault::TooLong));
        assert_eq!(DeviceName::parse(&"a".repeat(100_000)), Err(NameFault::TooLong));
        // 85 three-byte characters fill the bound exactly.
        assert!(DeviceName::parse(&"\u{4e2d}".repeat(85)).is_ok());
        assert_eq!(DeviceName::parse(&"\u{4e2d}".repeat(86)), Err(NameFault::TooLong));
    }

    #[test]
    fn names_refuse_what_hides_or_reorders_text() {
        for bad in ["a\u{0}b", "a\nb", "a\u{7f}", "a\u{85}", "a\u{202e}b", "\u{2066}x", "\u{200f}"] {
            assert_eq!(DeviceName::parse(bad), Err(NameFault::Control), "{bad:?}");
        }
        assert_eq!(DeviceName::parse(""), Err(NameFault::Empty));
        assert!(DeviceName::parse("Pump 7 / هناك / 🚰").is_ok());
    }

    #[test]
    fn credentials_never_show_themselves() {
        let shown = format!(
            "{:?} {:?}",
            DeviceCredential::AccessToken("s3cr3t"),
            DeviceCredential::Mqtt { client_id: "s3cr3t", user_name: Some("s3cr3t"), password: Some(b"s3cr3t") }
        );
        assert!(!shown.contains("s3cr3t"));
    }
}
