//! The bodies devices send: one device's claim, a gateway's batch, a gateway's connect. JSON and ThingsBoard's protobuf.
//!
//! Parsing is strict where two readers could see two things (duplicate members, trailing data) and lenient where real
//! clients are (numbers as strings). The table this implements is thingsboard.md 2.3; each row is a test.

mod json;
pub use json::owner_secret;
mod place;
mod protobuf;
pub(crate) use place::place;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use crate::device::{DeviceName, PayloadFormat};
use crate::secret::ClaimSecret;

/// How a body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFormat {
    /// JSON.
    Json,
    /// ThingsBoard's protobuf schema.
    Protobuf,
    /// Protobuf if it parses, else JSON.
    ProtobufThenJson,
}

impl From<PayloadFormat> for BodyFormat {
    fn from(format: PayloadFormat) -> Self {
        match format {
            PayloadFormat::Json => BodyFormat::Json,
            PayloadFormat::Protobuf => BodyFormat::Protobuf,
            PayloadFormat::ProtobufThenJson => BodyFormat::ProtobufThenJson,
        }
    }
}

/// A device's "I may be claimed".
#[derive(Debug)]
pub struct ClaimMessage<'a> {
    /// What an owner must show; may be empty.
    pub secret: ClaimSecret<'a>,
    /// The lifetime asked for, in milliseconds, as sent; clamped to 64 bits.
    pub duration_ms: Option<i64>,
}

impl<'a> ClaimMessage<'a> {
    /// Reads a body. Zero bytes mean all defaults.
    pub fn parse(body: &'a [u8], format: BodyFormat) -> Result<Self, Malformed> {
        match format {
            BodyFormat::Json => json::claim(body),
            BodyFormat::Protobuf => protobuf::claim(body),
            BodyFormat::ProtobufThenJson => protobuf::claim(body).or_else(|_| json::claim(body)),
        }
    }
}

/// A gateway's batch, in the order of the body.
#[derive(Debug)]
pub struct GatewayBatch<'a> {
    /// One entry a device; never empty.
    pub entries: Vec<BatchEntry<'a>>,
}

/// One device of a batch.
#[derive(Debug)]
pub struct BatchEntry<'a> {
    /// The device's name, checked; or the text as sent, cut to 255 bytes, when it cannot be a name.
    pub name: Result<DeviceName, Arc<str>>,
    /// Its claim.
    pub message: Result<ClaimMessage<'a>, Malformed>,
}

impl<'a> GatewayBatch<'a> {
    /// Reads a batch to its end. A device named twice spoils the message; a fault inside one entry spoils that entry.
    pub fn parse(body: &'a [u8], format: BodyFormat) -> Result<Self, Malformed> {
        match format {
            BodyFormat::Json => json::batch(body),
            BodyFormat::Protobuf => protobuf::batch(body),
            BodyFormat::ProtobufThenJson => protobuf::batch(body).or_else(|_| json::batch(body)),
        }
    }
}

/// A gateway's `{"device":"A","type":"default"}`.
#[derive(Debug)]
pub struct ChildMessage {
    /// The device.
    pub device: DeviceName,
    /// Its profile, for a device that is made by this message.
    pub profile: Option<String>,
}

impl ChildMessage {
    /// Reads a connect or disconnect body (JSON, or ThingsBoard's `ConnectMsg` / `DisconnectMsg`).
    pub fn parse(body: &[u8], format: BodyFormat) -> Result<Self, Malformed> {
        match format {
            BodyFormat::Json => json::child(body),
            BodyFormat::Protobuf => protobuf::child(body),
            BodyFormat::ProtobufThenJson => protobuf::child(body).or_else(|_| json::child(body)),
        }
    }
}

/// Why a body was not understood. Its text is for the sender and holds nothing of what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Not JSON at all (RFC 8259), or more than one value.
    NotJson,
    /// JSON, but not an object.
    NotAnObject,
    /// A member twice.
    DuplicateMember,
    /// Nested deeper than [`DEPTH`].
    TooDeep,
    /// `secretKey` is an object or array.
    SecretType,
    /// `secretKey` longer than 256 bytes.
    SecretTooLong,
    /// `secretKey` with U+0000.
    SecretNul,
    /// `durationMs` is not a number or a text of digits.
    Duration,
    /// Not the protobuf schema, or text that is not UTF-8.
    NotProtobuf,
    /// A batch without entries.
    Empty,
    /// A device twice in a batch.
    DuplicateDevice,
    /// A batch entry that is not an object.
    EntryNotAnObject,
    /// A name that cannot be a device's.
    Name,
}

/// How deep JSON may nest.
pub const DEPTH: usize = 16;

impl Malformed {
    /// The fault's name, for filters.
    pub fn name(self) -> &'static str {
        match self {
            Malformed::NotJson => "not_json",
            Malformed::NotAnObject => "not_an_object",
            Malformed::DuplicateMember => "duplicate_member",
            Malformed::TooDeep => "too_deep",
            Malformed::SecretType => "secret_type",
            Malformed::SecretTooLong => "secret_too_long",
            Malformed::SecretNul => "secret_nul",
            Malformed::Duration => "duration",
            Malformed::NotProtobuf => "not_protobuf",
            Malformed::Empty => "empty_batch",
            Malformed::DuplicateDevice => "duplicate_device",
            Malformed::EntryNotAnObject => "entry_not_an_object",
            Malformed::Name => "device_name",
        }
    }

    /// What is wrong and what to send instead, for the device's developer.
    pub fn text(self) -> &'static str {
        match self {
            Malformed::NotJson => "the body is not one JSON value; send {\"secretKey\":\"…\",\"durationMs\":60000}",
            Malformed::NotAnObject => "the body is not a JSON object; send {\"secretKey\":\"…\",\"durationMs\":60000}",
            Malformed::DuplicateMember => "the body names a member twice; send each once",
            Malformed::TooDeep => "the body nests deeper than 16 levels",
            Malformed::SecretType => "`secretKey` is an object or array; send text",
            Malformed::SecretTooLong => "`secretKey` is longer than 256 bytes",
            Malformed::SecretNul => "`secretKey` has a NUL character",
            Malformed::Duration => "`durationMs` is not a number of milliseconds",
            Malformed::NotProtobuf => "the body is not the protobuf message of the device's profile",
            Malformed::Empty => "the batch names no device; send {\"Device A\":{\"secretKey\":\"…\"}}",
            Malformed::DuplicateDevice => "the batch names a device twice; send each once",
            Malformed::EntryNotAnObject => "the entry is not a JSON object",
            Malformed::Name => "the device name is empty, longer than 255 bytes, or has control characters",
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// A name that was refused, as it may be shown back: cut to 255 bytes, control and direction-changing characters replaced.
pub(crate) fn shown(name: &str) -> Arc<str> {
    let mut end = name.len().min(crate::device::NAME_BYTES);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].chars().map(|c| if crate::device::is_hidden(c) { '\u{FFFD}' } else { c }).collect::<String>().into()
}
