//! Bytes to packets and packets to bytes: framing, every check of the specification that does not need a session, and the
//! encoding of what we send.
//!
//! Strangers' structured packets (CONNECT, SUBSCRIBE, UNSUBSCRIBE, properties) are decoded by `mqtt-protocol-core`; this is
//! the only file that names it. Its packets are used and not its connection state machine: who is signed in, when an ack
//! may leave, windows, repeats of QoS 2 and keep alive are claimd's own rules, and each of them would have to overrule it.
//! It is lenient, so flags, reserved bits, U+0000 and duplicates are checked here.

use std::borrow::Cow;

use mqtt_protocol_core::mqtt::packet::{Properties, PropertiesParse as _, Property, Qos, v3_1_1, v5_0};
use mqtt_protocol_core::mqtt::result_code::MqttError;

use crate::config::{CLIENT_ID_BYTES, CONNECT_BYTES};

/// Which of the two protocols a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V311,
    V5,
}

/// Why a connection ends: an MQTT 5 reason code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault(pub(crate) u8);

impl Fault {
    pub(crate) const MALFORMED: Self = Self(0x81);
    pub(crate) const PROTOCOL: Self = Self(0x82);
    pub(crate) const RECEIVE_MAXIMUM: Self = Self(0x93);
    pub(crate) const TOPIC_ALIAS: Self = Self(0x94);
    pub(crate) const TOO_LARGE: Self = Self(0x95);
    pub(crate) const RETAIN: Self = Self(0x9A);
    pub(crate) const QOS: Self = Self(0x9B);
    pub(crate) const SUBSCRIPTION_ID: Self = Self(0xA1);
}

impl From<MqttError> for Fault {
    fn from(error: MqttError) -> Self {
        if error == MqttError::ProtocolError { Self::PROTOCOL } else { Self::MALFORMED }
    }
}

/// One packet on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// Type and flags.
    pub(crate) first: u8,
    /// What follows the length.
    pub(crate) body: &'a [u8],
}

/// Cuts the next packet off; `None`: more bytes are needed. A length beyond `most` is refused before its bytes are awaited.
pub(crate) fn frame(bytes: &[u8], most: usize) -> Result<Option<(Frame<'_>, usize)>, Fault> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    let mut length = 0_usize;
    for index in 0..4 {
        let Some(&byte) = rest.get(index) else { return Ok(None) };
        length |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            if index > 0 && byte == 0 {
                // The shortest form is the only one (MQTT 5 §1.5.5).
                return Err(Fault::MALFORMED);
            }
            if length > most {
                return Err(Fault::TOO_LARGE);
            }
            let start = 2 + index;
            let Some(body) = bytes.get(start..start + length) else { return Ok(None) };
            return Ok(Some((Frame { first, body }, start + length)));
        }
    }
    Err(Fault::MALFORMED)
}

/// A Will: kept to be validated, and passed on where other topics are relayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Will {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
}

/// A CONNECT that may be answered with yes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) version: Version,
    pub(crate) client_id: String,
    pub(crate) user_name: Option<String>,
    pub(crate) password: Option<Vec<u8>>,
    /// Clean Session or Clean Start.
    pub(crate) clean: bool,
    /// Seconds; 0: none asked for.
    pub(crate) keep_alive: u16,
    pub(crate) will: Option<Will>,
    /// Unacknowledged pushes the client takes at once.
    pub(crate) receive_maximum: u16,
    /// Largest packet the client takes, bytes.
    pub(crate) packet_maximum: usize,
    /// Whether reason strings and user properties may be anywhere but on CONNACK and DISCONNECT.
    pub(crate) problem_information: bool,
    /// Whether the client asked for a session that outlives the connection.
    pub(crate) wants_session: bool,
}

/// What to do with a first packet that is no good CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoHello {
    /// Close without a word.
    Close,
    /// Answer in this protocol with this code, then close.
    Answer(Version, u8),
}

/// Reads a CONNECT (MQTT 3.1.1 §3.1, MQTT 5 §3.1).
pub(crate) fn hello(frame: Frame<'_>) -> Result<Hello, NoHello> {
    let body = frame.body;
    if frame.first != 0x10 || body.len() > CONNECT_BYTES {
        return Err(NoHello::Close);
    }
    // MQTT 3.1 called itself MQIsdp; it is told that its level is not served.
    if body.get(..9) == Some(b"\0\x06MQIsdp\x03") {
        return Err(NoHello::Answer(Version::V311, 0x01));
    }
    let (Some(b"\0\x04MQTT"), Some(&level), Some(&flags)) = (body.get(..6), body.get(6), body.get(7)) else {
        return Err(NoHello::Close);
    };
    match level {
        4 => hello_311(body, flags),
        5 => hello_5(body, flags).map_err(|fault| NoHello::Answer(Version::V5, fault.0)),
        0..4 => Err(NoHello::Answer(Version::V311, 0x01)),
        6.. => Err(NoHello::Answer(Version::V5, 0x84)),
    }
}

/// Reserved bit 0; Will QoS 3; Will QoS or Retain without a Will.
fn bad_flags(flags: u8) -> bool {
    let (will, will_qos, will_retain) = (flags & 0x04 != 0, (flags >> 3) & 3, flags & 0x20 != 0);
    flags & 1 != 0 || will_qos == 3 || (!will && (will_qos != 0 || will_retain))
}

fn hello_311(body: &[u8], flags: u8) -> Result<Hello, NoHello> {
    if bad_flags(flags) || (flags & 0x40 != 0 && flags & 0x80 == 0) {
        return Err(NoHello::Close);
    }
    let (connect, used) = v3_1_1::Connect::parse(body).map_err(|_| NoHello::Close)?;
    let hello = Hello {
        version: Version::V311,
        client_id: connect.client_id().to_owned(),
        user_name: connect.user_name().map(str::to_owned),
        password: connect.password().map(<[u8]>::to_vec),
        clean: flags & 0x02 != 0,
        keep_alive: connect.keep_alive(),
        will: will(connect.will_topic(), connect.will_payload()),
        receive_maximum: u16::MAX,
        packet_maximum: usize::MAX,
        problem_information: true,
        wants_session: flags & 0x02 == 0,
    };
    if used != body.len() || !clean_strings(&hello) {
        return Err(NoHello::Close);
    }
    if hello.client_id.len() > CLIENT_ID_BYTES || (hello.client_id.is_empty() && !hello.clean) {
        return Err(NoHello::Answer(Version::V311, 0x02));
    }
    Ok(hello)
}

fn hello_5(body: &[u8], flags: u8) -> Result<Hello, Fault> {
    if bad_flags(flags) {
        return Err(Fault::MALFORMED);
    }
    let (connect, used) = v5_0::Connect::parse(body)?;
    if used != body.len() {
        return Err(Fault::MALFORMED);
    }
    let mut hello = Hello {
        version: Version::V5,
        client_id: connect.client_id().to_owned(),
        user_name: connect.user_name().map(str::to_owned),
        password: connect.password().map(<[u8]>::to_vec),
        clean: flags & 0x02 != 0,
        keep_alive: connect.keep_alive(),
        will: will(connect.will_topic(), connect.will_payload()),
        receive_maximum: u16::MAX,
        packet_maximum: usize::MAX,
        problem_information: true,
        wants_session: false,
    };
    if !clean_strings(&hello) {
        return Err(Fault::MALFORMED);
    }
    once(connect.props())?;
    once(connect.will_props())?;
    let mut method = false;
    for property in connect.props() {
        match property {
            Property::ReceiveMaximum(value) if value.val() == 0 => return Err(Fault::PROTOCOL),
            Property::ReceiveMaximum(value) => hello.receive_maximum = value.val(),
            Property::MaximumPacketSize(value) if value.val() == 0 => return Err(Fault::PROTOCOL),
            Property::MaximumPacketSize(value) => hello.packet_maximum = value.val() as usize,
            Property::RequestProblemInformation(value) => hello.problem_information = value.val() != 0,
            Property::SessionExpiryInterval(value) => hello.wants_session = value.val() != 0,
            Property::AuthenticationMethod(_) => method = true,
            _ => {}
        }
    }
    if method {
        return Err(Fault(0x8C));
    }
    if connect.props().iter().any(|property| matches!(property, Property::AuthenticationData(_))) {
        return Err(Fault::PROTOCOL);
    }
    if connect.will_flag() && connect.will_qos() == Qos::ExactlyOnce {
        return Err(Fault::QOS);
    }
    if connect.will_retain() {
        return Err(Fault::RETAIN);
    }
    if hello.client_id.len() > CLIENT_ID_BYTES {
        return Err(Fault(0x85));
    }
    Ok(hello)
}

fn will(topic: Option<&str>, payload: Option<&[u8]>) -> Option<Will> {
    Some(Will { topic: topic?.to_owned(), payload: payload.unwrap_or_default().to_vec() })
}

/// No U+0000 (MQTT 5 §1.5.4), and a Will's topic is a topic name.
fn clean_strings(hello: &Hello) -> bool {
    let whole = |text: &str| !text.contains('\0');
    whole(&hello.client_id)
        && hello.user_name.as_deref().is_none_or(whole)
        && hello.will.as_ref().is_none_or(|will| crate::topic::is_name(&will.topic))
}

/// Every property but User Property and, where it is allowed, Subscription Identifier, may be there once.
fn once(properties: &Properties) -> Result<(), Fault> {
    let mut seen = 0_u64;
    for property in properties {
        if matches!(property, Property::UserProperty(_) | Property::SubscriptionIdentifier(_)) {
            continue;
        }
        let bit = 1 << (property.id().as_u8() & 63);
        if seen & bit != 0 {
            return Err(Fault::PROTOCOL);
        }
        seen |= bit;
    }
    Ok(())
}

/// A PUBLISH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Publish<'a> {
    pub(crate) topic: &'a str,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    /// Not 0; absent for QoS 0.
    pub(crate) id: Option<u16>,
    pub(crate) alias: Option<u16>,
    pub(crate) payload: &'a [u8],
}

/// One filter of a SUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) filter: String,
    pub(crate) qos: u8,
    pub(crate) no_local: bool,
}

/// A packet after CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Packet<'a> {
    Publish(Publish<'a>),
    PubAck(u16),
    PubRel(u16),
    Subscribe(u16, Vec<Wanted>),
    Unsubscribe(u16, Vec<String>),
    PingReq,
    /// With its reason code.
    Disconnect(u8),
}

/// Reads a packet of an open session.
pub(crate) fn packet(version: Version, frame: Frame<'_>) -> Result<Packet<'_>, Fault> {
    let body = frame.body;
    match frame.first {
        0x30..=0x3F => publish(version, frame).map(Packet::Publish),
        0x40 => Ok(Packet::PubAck(ack(version, body)?)),
        0x62 => Ok(Packet::PubRel(ack(version, body)?)),
        0x82 => subscribe(version, body),
        0xA2 => unsubscribe(version, body),
        0xC0 if body.is_empty() => Ok(Packet::PingReq),
        0xE0 => disconnect(version, body),
        // A second CONNECT; answers to QoS 2, which we never send; AUTH without a method agreed on.
        0x10 | 0x50 | 0x70 => Err(Fault::PROTOCOL),
        0xF0 if version == Version::V5 => Err(Fault::PROTOCOL),
        _ => Err(Fault::MALFORMED),
    }
}

fn publish(version: Version, frame: Frame<'_>) -> Result<Publish<'_>, Fault> {
    let (qos, dup, retain) = ((frame.first >> 1) & 3, frame.first & 8 != 0, frame.first & 1 != 0);
    if qos == 3 || (qos == 0 && dup) {
        return Err(Fault::MALFORMED);
    }
    let (topic, mut rest) = text(frame.body)?;
    let mut id = None;
    if qos > 0 {
        let (number, after) = number(rest)?;
        id = Some(number);
        rest = after;
    }
    let mut alias = None;
    if version == Version::V5 {
        match rest {
            // No properties, as most send it.
            [0, after @ ..] => rest = after,
            _ => {
                // The library calls an alias of 0 a protocol error; MQTT 5 has a code of its own for it.
                let own = rest.get(..=usize::from(rest.first().copied().unwrap_or(0))).unwrap_or(rest);
                let zero_alias = own.windows(3).any(|bytes| bytes == [0x23, 0, 0]);
                let fault = |error: MqttError| if zero_alias { Fault::TOPIC_ALIAS } else { error.into() };
                let (properties, used) = Properties::parse(rest).map_err(fault)?;
                alias = publish_properties(&properties)?;
                rest = rest.get(used..).ok_or(Fault::MALFORMED)?;
            }
        }
    }
    Ok(Publish { topic, qos, retain, id, alias, payload: rest })
}

/// Checks them; the topic alias.
fn publish_properties(properties: &Properties) -> Result<Option<u16>, Fault> {
    once(properties)?;
    let mut alias = None;
    for property in properties {
        match property {
            Property::PayloadFormatIndicator(_)
            | Property::MessageExpiryInterval(_)
            | Property::ContentType(_)
            | Property::CorrelationData(_)
            | Property::UserProperty(_) => {}
            Property::ResponseTopic(topic) if crate::topic::is_name(topic.val()) => {}
            Property::TopicAlias(value) => alias = Some(value.val()),
            // Wildcards in a Response Topic; Subscription Identifiers, which only servers send; what belongs elsewhere.
            _ => return Err(Fault::PROTOCOL),
        }
    }
    Ok(alias)
}

/// A string of two length bytes (MQTT 5 §1.5.4), borrowed.
fn text(bytes: &[u8]) -> Result<(&str, &[u8]), Fault> {
    let (length, rest) = bytes.split_first_chunk::<2>().ok_or(Fault::MALFORMED)?;
    let (text, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or(Fault::MALFORMED)?;
    let text = std::str::from_utf8(text).map_err(|_| Fault::MALFORMED)?;
    if text.contains('\0') { Err(Fault::MALFORMED) } else { Ok((text, rest)) }
}

/// A packet identifier: not 0 (MQTT 5 §2.2.1).
fn number(bytes: &[u8]) -> Result<(u16, &[u8]), Fault> {
    let (id, rest) = bytes.split_first_chunk::<2>().ok_or(Fault::MALFORMED)?;
    match u16::from_be_bytes(*id) {
        0 => Err(Fault::PROTOCOL),
        id => Ok((id, rest)),
    }
}

fn ack(version: Version, body: &[u8]) -> Result<u16, Fault> {
    let (id, rest) = number(body)?;
    match (version, rest) {
        (_, []) | (Version::V5, [_] | [_, 0]) => Ok(id),
        (Version::V5, [_, properties @ ..]) => {
            let (parsed, used) = Properties::parse(properties)?;
            once(&parsed)?;
            if used == properties.len() { Ok(id) } else { Err(Fault::MALFORMED) }
        }
        (Version::V311, _) => Err(Fault::MALFORMED),
    }
}

fn subscribe(version: Version, body: &[u8]) -> Result<Packet<'_>, Fault> {
    let (id, _) = number(body)?;
    let wanted = |entries: &[mqtt_protocol_core::mqtt::packet::SubEntry]| {
        entries
            .iter()
            .map(|entry| Wanted {
                filter: entry.topic_filter().to_owned(),
                qos: entry.sub_opts().qos() as u8,
                no_local: entry.sub_opts().nl(),
            })
            .collect::<Vec<_>>()
    };
    let (wanted, used) = match version {
        Version::V311 => {
            let (packet, used) = v3_1_1::Subscribe::parse(body)?;
            (wanted(packet.entries()), used)
        }
        Version::V5 => {
            let (packet, used) = v5_0::Subscribe::parse(body)?;
            once(packet.props())?;
            if packet.props().iter().any(|property| matches!(property, Property::SubscriptionIdentifier(_))) {
                return Err(Fault::SUBSCRIPTION_ID);
            }
            (wanted(packet.entries()), used)
        }
    };
    if wanted.is_empty() {
        return Err(Fault::PROTOCOL);
    }
    if used != body.len() {
        return Err(Fault::MALFORMED);
    }
    Ok(Packet::Subscribe(id, wanted))
}

fn unsubscribe(version: Version, body: &[u8]) -> Result<Packet<'_>, Fault> {
    let (id, _) = number(body)?;
    let (filters, used): (Vec<String>, usize) = match version {
        Version::V311 => {
            let (packet, used) = v3_1_1::Unsubscribe::parse(body)?;
            (packet.entries().iter().map(|filter| filter.as_str().to_owned()).collect(), used)
        }
        Version::V5 => {
            let (packet, used) = v5_0::Unsubscribe::parse(body)?;
            once(packet.props())?;
            (packet.entries().iter().map(|filter| filter.as_str().to_owned()).collect(), used)
        }
    };
    if filters.is_empty() {
        return Err(Fault::PROTOCOL);
    }
    if used != body.len() {
        return Err(Fault::MALFORMED);
    }
    Ok(Packet::Unsubscribe(id, filters))
}

fn disconnect(version: Version, body: &[u8]) -> Result<Packet<'_>, Fault> {
    match (version, body) {
        (_, []) => Ok(Packet::Disconnect(0)),
        (Version::V311, _) => Err(Fault::MALFORMED),
        (Version::V5, [code] | [code, 0]) => Ok(Packet::Disconnect(*code)),
        (Version::V5, [code, properties @ ..]) => {
            let (parsed, used) = Properties::parse(properties)?;
            once(&parsed)?;
            // CONNACK said 0; it may not be raised now (MQTT 5 §3.14.2.2.2).
            let raised =
                |property: &Property| matches!(property, Property::SessionExpiryInterval(value) if value.val() != 0);
            if parsed.iter().any(raised) {
                return Err(Fault::PROTOCOL);
            }
            if used == properties.len() { Ok(Packet::Disconnect(*code)) } else { Err(Fault::MALFORMED) }
        }
    }
}

/// Room for a reason string and user properties on an ack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Notes {
    pub(crate) reason: Cow<'static, str>,
    pub(crate) user: Vec<(&'static str, String)>,
}

impl Notes {
    pub(crate) fn of(reason: &'static str) -> Self {
        Self { reason: Cow::Borrowed(reason), user: Vec::new() }
    }

    fn encode(&self) -> Vec<u8> {
        let mut properties = Vec::new();
        if !self.reason.is_empty() {
            properties.push(0x1F);
            put_text(&mut properties, &self.reason);
        }
        for (name, value) in &self.user {
            properties.push(0x26);
            put_text(&mut properties, name);
            put_text(&mut properties, value);
        }
        properties
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    // All our texts are far below 64 KiB; a longer one is cut where a character ends.
    let text = &text[..text.floor_char_boundary(usize::from(u16::MAX))];
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_length(out: &mut Vec<u8>, mut length: usize) {
    loop {
        let byte = (length & 0x7F) as u8;
        length >>= 7;
        if length == 0 {
            out.push(byte);
            return;
        }
        out.push(byte | 0x80);
    }
}

fn put_packet(out: &mut Vec<u8>, first: u8, body: &[u8]) {
    out.push(first);
    put_length(out, body.len());
    out.extend_from_slice(body);
}

/// What a v5 CONNACK promises.
pub(crate) struct Welcome<'a> {
    pub(crate) receive_maximum: u16,
    pub(crate) packet_maximum: usize,
    pub(crate) topic_aliases: u16,
    /// `Some`: the server's is shorter than what was asked for.
    pub(crate) keep_alive: Option<u16>,
    /// `Some`: the identifier we chose.
    pub(crate) client_id: Option<&'a str>,
    pub(crate) session_ended: bool,
}

pub(crate) fn put_welcome(out: &mut Vec<u8>, version: Version, welcome: &Welcome<'_>) {
    if version == Version::V311 {
        out.extend_from_slice(&[0x20, 2, 0, 0]);
        return;
    }
    let mut properties = vec![0x21];
    properties.extend_from_slice(&welcome.receive_maximum.to_be_bytes());
    // Maximum QoS 1; Retain, Subscription Identifiers and Shared Subscriptions not available; Wildcards are, for filters
    // like `v1/devices/me/rpc/request/+`.
    properties.extend_from_slice(&[0x24, 1, 0x25, 0, 0x27]);
    properties.extend_from_slice(&u32::try_from(welcome.packet_maximum).unwrap_or(u32::MAX).to_be_bytes());
    properties.push(0x22);
    properties.extend_from_slice(&welcome.topic_aliases.to_be_bytes());
    properties.extend_from_slice(&[0x28, 1, 0x29, 0, 0x2A, 0]);
    if welcome.session_ended {
        properties.extend_from_slice(&[0x11, 0, 0, 0, 0]);
    }
    if let Some(seconds) = welcome.keep_alive {
        properties.push(0x13);
        properties.extend_from_slice(&seconds.to_be_bytes());
    }
    if let Some(client_id) = welcome.client_id {
        properties.push(0x12);
        put_text(&mut properties, client_id);
    }
    let mut body = vec![0, 0];
    put_length(&mut body, properties.len());
    body.extend_from_slice(&properties);
    put_packet(out, 0x20, &body);
}

pub(crate) fn put_refusal(out: &mut Vec<u8>, version: Version, code: u8, reason: &'static str) {
    match version {
        Version::V311 => out.extend_from_slice(&[0x20, 2, 0, code]),
        Version::V5 => {
            let properties = Notes::of(reason).encode();
            let mut body = vec![0, code];
            put_length(&mut body, properties.len());
            body.extend_from_slice(&properties);
            put_packet(out, 0x20, &body);
        }
    }
}

/// PUBACK 0x40, PUBREC 0x50, PUBCOMP 0x70, without more than the id.
pub(crate) fn put_ack(out: &mut Vec<u8>, first: u8, id: u16) {
    let [high, low] = id.to_be_bytes();
    out.extend_from_slice(&[first, 2, high, low]);
}

/// A v5 PUBACK with a reason code, and notes unless they would pass the client's largest packet.
pub(crate) fn put_reasoned(out: &mut Vec<u8>, id: u16, code: u8, notes: Option<&Notes>, most: usize) {
    let [high, low] = id.to_be_bytes();
    let properties = notes.map(Notes::encode).unwrap_or_default();
    let mut body = vec![high, low, code];
    if !properties.is_empty() && properties.len() + 12 <= most {
        put_length(&mut body, properties.len());
        body.extend_from_slice(&properties);
    }
    put_packet(out, 0x40, &body);
}

/// SUBACK, or UNSUBACK with `first` 0xB0.
pub(crate) fn put_codes(out: &mut Vec<u8>, version: Version, first: u8, id: u16, codes: &[u8]) {
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0);
    }
    if version == Version::V5 || first == 0x90 {
        body.extend_from_slice(codes);
    }
    put_packet(out, first, &body);
}

/// A push to the client; `id` for QoS 1. Returns its size, and writes nothing if that is beyond `most`.
pub(crate) fn put_publish(
    out: &mut Vec<u8>,
    version: Version,
    topic: &str,
    payload: &[u8],
    id: Option<u16>,
    most: usize,
) -> usize {
    let properties = usize::from(version == Version::V5);
    let length = 2 + topic.len() + if id.is_some() { 2 } else { 0 } + properties + payload.len();
    let size = length + if length < 128 { 2 } else { 5 };
    if size > most {
        return size;
    }
    out.push(if id.is_some() { 0x32 } else { 0x30 });
    put_length(out, length);
    put_text(out, topic);
    if let Some(id) = id {
        out.extend_from_slice(&id.to_be_bytes());
    }
    if version == Version::V5 {
        out.push(0);
    }
    out.extend_from_slice(payload);
    size
}

/// A v5 DISCONNECT; 3.1.1 servers have none, they close.
pub(crate) fn put_disconnect(out: &mut Vec<u8>, version: Version, code: u8) {
    if version == Version::V5 {
        out.extend_from_slice(&[0xE0, 1, code]);
    }
}

pub(crate) fn put_pong(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xD0, 0]);
}

#[cfg(test)]
mod tests;
