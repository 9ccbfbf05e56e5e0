//! ThingsBoard's protobuf schema of claim bodies (its `transport.proto`, field numbers as published).
//! Unknown fields are skipped; text that is not UTF-8 is malformed; empty means defaults.

use std::collections::HashSet;

use prost::Message;

use super::{BatchEntry, ChildMessage, ClaimMessage, GatewayBatch, Malformed, shown};
use crate::device::DeviceName;
use crate::message::json::secret;

#[derive(Clone, PartialEq, Message)]
pub(super) struct ClaimDevice {
    #[prost(string, tag = "1")]
    pub(super) secret_key: String,
    #[prost(int64, tag = "2")]
    pub(super) duration_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ClaimDeviceMsg {
    #[prost(string, tag = "1")]
    pub(super) device_name: String,
    #[prost(message, optional, tag = "2")]
    pub(super) claim_request: Option<ClaimDevice>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GatewayClaimMsg {
    #[prost(message, repeated, tag = "1")]
    pub(super) msg: Vec<ClaimDeviceMsg>,
}

/// `ConnectMsg` and `DisconnectMsg` share their first field.
#[derive(Clone, PartialEq, Message)]
struct ConnectMsg {
    #[prost(string, tag = "1")]
    device_name: String,
    #[prost(string, tag = "2")]
    device_type: String,
}

pub(super) fn claim(body: &[u8]) -> Result<ClaimMessage<'static>, Malformed> {
    lower(ClaimDevice::decode(body).map_err(|_| Malformed::NotProtobuf)?)
}

pub(super) fn batch(body: &[u8]) -> Result<GatewayBatch<'static>, Malformed> {
    let message = GatewayClaimMsg::decode(body).map_err(|_| Malformed::NotProtobuf)?;
    if message.msg.is_empty() {
        return Err(Malformed::Empty);
    }
    let mut seen = HashSet::with_capacity(message.msg.len());
    let mut entries = Vec::with_capacity(message.msg.len());
    for entry in message.msg {
        let name = DeviceName::parse(&entry.device_name).map_err(|_| shown(&entry.device_name));
        if let Ok(name) = &name
            && !seen.insert(name.shared())
        {
            return Err(Malformed::DuplicateDevice);
        }
        let message = match &name {
            Ok(_) => lower(entry.claim_request.unwrap_or_default()),
            Err(_) => Err(Malformed::Name),
        };
        entries.push(BatchEntry { name, message });
    }
    Ok(GatewayBatch { entries })
}

pub(super) fn child(body: &[u8]) -> Result<ChildMessage, Malformed> {
    let message = ConnectMsg::decode(body).map_err(|_| Malformed::NotProtobuf)?;
    let device = DeviceName::parse(&message.device_name).map_err(|_| Malformed::Name)?;
    Ok(ChildMessage { device, profile: Some(message.device_type).filter(|t| !t.is_empty()) })
}

/// Proto3 cannot tell 0 from absent; both mean the default lifetime, so nothing is lost.
fn lower(message: ClaimDevice) -> Result<ClaimMessage<'static>, Malformed> {
    Ok(ClaimMessage {
        secret: secret(message.secret_key)?,
        duration_ms: Some(message.duration_ms).filter(|&ms| ms != 0),
    })
}
