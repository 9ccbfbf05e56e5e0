//! MQTT 3.1.1 and 5 over TCP or WebSocket. The packets are rumqttc's; its event loop is not used, since it hides what a
//! simulation is about: reason codes, closes, the moment of an ack.

use std::io;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use rumqttc::mqttbytes::v4;
use rumqttc::mqttbytes::{self, QoS};
use rumqttc::v5::mqttbytes::v5;
use rumqttc::v5::mqttbytes::{self as mqttbytes5, QoS as QoS5};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use super::{Addresses, Answer, Manner, Transport};
use crate::expect::PATIENCE;
use crate::trouble::Trouble;

const CLAIM: &str = "v1/devices/me/claim";
const GATEWAY_CLAIM: &str = "v1/gateway/claim";
const GATEWAY_RESPONSE: &str = "v1/gateway/claim/response";
/// Seconds; nothing here is idle for so long.
const KEEP_ALIVE: u16 = 120;
const LARGEST: usize = 1 << 20;

/// The protocol's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// 3.1.1.
    V311,
    /// 5.
    V5,
}

enum Stream {
    Tcp(TcpStream),
    WebSocket(Box<WebSocketStream<TcpStream>>),
}

impl Stream {
    async fn open(address: &str, websocket: bool) -> Result<Self, String> {
        let tcp = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        tcp.set_nodelay(true).map_err(|error| error.to_string())?;
        if !websocket {
            return Ok(Self::Tcp(tcp));
        }
        let mut request = format!("ws://{address}/mqtt").into_client_request().map_err(|error| error.to_string())?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", http::HeaderValue::from_static("mqtt"));
        let (stream, _) = tokio_tungstenite::client_async(request, tcp).await.map_err(|error| error.to_string())?;
        Ok(Self::WebSocket(Box::new(stream)))
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes).await,
            Self::WebSocket(stream) => {
                let frame = Message::Binary(Bytes::copy_from_slice(bytes));
                stream.send(frame).await.map_err(io::Error::other)
            }
        }
    }

    /// More bytes; 0 at the end of the stream.
    async fn read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read_buf(into).await,
            Self::WebSocket(stream) => loop {
                match stream.next().await {
                    Some(Ok(Message::Binary(bytes))) => {
                        into.extend_from_slice(&bytes);
                        return Ok(bytes.len());
                    }
                    Some(Ok(Message::Close(_))) | None => return Ok(0),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(io::Error::other(error)),
                }
            },
        }
    }
}

/// What the server said, in words of both versions.
enum Heard {
    ConnAck(u8),
    /// `entries`: its reason string counts a batch's entries, so their results follow.
    PubAck {
        id: u16,
        code: u8,
        entries: bool,
    },
    SubAck,
    Publish {
        topic: String,
        payload: Bytes,
        ack: Option<u16>,
    },
    Closed,
    Other,
}

/// A device's session.
pub(super) struct Client {
    stream: Stream,
    version: Version,
    read: BytesMut,
    next_id: u16,
    open: bool,
}

impl Client {
    /// Connects with the access token as user name, as ThingsBoard's clients do.
    pub(super) async fn connect(
        address: &str,
        version: Version,
        websocket: bool,
        token: &str,
    ) -> Result<Self, Trouble> {
        let what = || format!("MQTT at {address}");
        let stream = tokio::time::timeout(PATIENCE, Stream::open(address, websocket))
            .await
            .map_err(|_| Trouble::unreachable(what(), "no connection in time"))?
            .map_err(|why| Trouble::unreachable(what(), why))?;
        let mut client = Self { stream, version, read: BytesMut::new(), next_id: 0, open: true };
        client.send(&client.hello(token)).await.map_err(|why| Trouble::unreachable(what(), why))?;
        match client.hear().await {
            Heard::ConnAck(0) => Ok(client),
            Heard::ConnAck(code) => {
                let said = "the CONNECT was not accepted; check the access token".to_owned();
                Err(Trouble::Refused { what: what(), status: code.into(), said })
            }
            Heard::Closed => Err(Trouble::unreachable(what(), "closed without CONNACK")),
            _ => Err(Trouble::odd(what(), "the first packet is no CONNACK")),
        }
    }

    fn hello(&self, token: &str) -> BytesMut {
        let mut bytes = BytesMut::new();
        // Only a packet beyond the maximum cannot be written; these are short.
        let written = match self.version {
            Version::V311 => {
                let mut connect = v4::Connect::new("");
                connect.keep_alive = KEEP_ALIVE;
                connect.set_login(token, "");
                v4::Packet::Connect(connect).write(&mut bytes, LARGEST).is_ok()
            }
            Version::V5 => {
                let connect = v5::Connect {
                    keep_alive: KEEP_ALIVE,
                    client_id: String::new(),
                    clean_start: true,
                    properties: None,
                };
                let login = Some(v5::Login::new(token, ""));
                v5::Packet::Connect(connect, None, login).write(&mut bytes, None).is_ok()
            }
        };
        debug_assert!(written, "a CONNECT fits");
        bytes
    }

    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    pub(super) async fn claim(&mut self, body: &[u8], manner: Manner) -> Answer {
        self.publish(CLAIM, body, manner).await
    }

    /// PUBLISH at QoS 1, and the answer to it. Pushes in between are acknowledged and passed over.
    async fn publish(&mut self, topic: &str, body: &[u8], manner: Manner) -> Answer {
        let Some(id) = self.send_publish(topic, body, manner).await else {
            self.open = false;
            return Answer::Lost;
        };
        if manner.drop {
            self.open = false;
            return Answer::Dropped;
        }
        let mut owed = if manner.duplicate { 2 } else { 1 };
        let mut answer = Answer::Lost;
        while owed > 0 {
            match self.hear().await {
                Heard::PubAck { id: acked, code, .. } if acked == id => {
                    owed -= 1;
                    answer = self.verdict(code);
                }
                Heard::Publish { .. } | Heard::PubAck { .. } | Heard::SubAck | Heard::Other => {}
                Heard::ConnAck(_) | Heard::Closed => {
                    self.open = false;
                    // MQTT 3.1.1 cannot say no: a close is its refusal.
                    return match self.version {
                        Version::V311 => Answer::Refused("closed".to_owned()),
                        Version::V5 => Answer::Lost,
                    };
                }
            }
        }
        answer
    }

    fn verdict(&self, code: u8) -> Answer {
        match code {
            0 => Answer::Acked,
            0x83 => Answer::Refused("unavailable".to_owned()),
            0x87 => Answer::Refused("not_claimable".to_owned()),
            0x97 => Answer::Refused("quota_exceeded".to_owned()),
            0x99 => Answer::Refused("malformed".to_owned()),
            code => Answer::Refused(format!("code 0x{code:02X}")),
        }
    }

    /// The packet id, or `None` when the connection is gone.
    async fn send_publish(&mut self, topic: &str, body: &[u8], manner: Manner) -> Option<u16> {
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        let id = self.next_id;
        let packet = |dup: bool| {
            let mut bytes = BytesMut::new();
            let written = match self.version {
                Version::V311 => {
                    let mut publish = v4::Publish::new(topic, QoS::AtLeastOnce, body);
                    (publish.pkid, publish.dup) = (id, dup);
                    v4::Packet::Publish(publish).write(&mut bytes, LARGEST).is_ok()
                }
                Version::V5 => {
                    let body = Bytes::copy_from_slice(body);
                    let mut publish = v5::Publish::new(topic, QoS5::AtLeastOnce, body, None);
                    (publish.pkid, publish.dup) = (id, dup);
                    v5::Packet::Publish(publish).write(&mut bytes, None).is_ok()
                }
            };
            written.then_some(bytes)
        };
        let (first, second) = (packet(false)?, packet(true)?);
        match manner.slow {
            Some(pause) => {
                let (head, tail) = first.split_at(first.len() / 2);
                self.send(head).await.ok()?;
                tokio::time::sleep(pause).await;
                self.send(tail).await.ok()?;
            }
            None => self.send(&first).await.ok()?,
        }
        if manner.duplicate {
            self.send(&second).await.ok()?;
        }
        Some(id)
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write(bytes).await
    }

    /// The next packet; a push's ack is sent before it is handed on. [`Heard::Closed`] also when nothing comes in time.
    async fn hear(&mut self) -> Heard {
        let heard = match tokio::time::timeout(PATIENCE, self.next()).await {
            Ok(heard) => heard,
            Err(_) => return Heard::Closed,
        };
        if let Heard::Publish { ack: Some(id), .. } = heard {
            let mut bytes = BytesMut::new();
            let written = match self.version {
                Version::V311 => v4::Packet::PubAck(v4::PubAck::new(id)).write(&mut bytes, LARGEST).is_ok(),
                Version::V5 => v5::Packet::PubAck(v5::PubAck::new(id, None)).write(&mut bytes, None).is_ok(),
            };
            if !written || self.send(&bytes).await.is_err() {
                return Heard::Closed;
            }
        }
        heard
    }

    async fn next(&mut self) -> Heard {
        loop {
            match self.parse() {
                Ok(Some(heard)) => return heard,
                Ok(None) => {}
                Err(()) => return Heard::Closed,
            }
            match self.stream.read(&mut self.read).await {
                Ok(0) | Err(_) => return Heard::Closed,
                Ok(_) => {}
            }
        }
    }

    /// A packet from what was read, if a whole one is there.
    fn parse(&mut self) -> Result<Option<Heard>, ()> {
        match self.version {
            Version::V311 => match v4::Packet::read(&mut self.read, LARGEST) {
                Ok(packet) => Ok(Some(match packet {
                    v4::Packet::ConnAck(ack) => Heard::ConnAck(ack.code as u8),
                    v4::Packet::PubAck(ack) => Heard::PubAck { id: ack.pkid, code: 0, entries: true },
                    v4::Packet::SubAck(_) => Heard::SubAck,
                    v4::Packet::Publish(publish) => Heard::Publish {
                        ack: (publish.qos == QoS::AtLeastOnce).then_some(publish.pkid),
                        topic: publish.topic,
                        payload: publish.payload,
                    },
                    _ => Heard::Other,
                })),
                Err(mqttbytes::Error::InsufficientBytes(_)) => Ok(None),
                Err(_) => Err(()),
            },
            Version::V5 => match v5::Packet::read(&mut self.read, None) {
                Ok(packet) => Ok(Some(match packet {
                    v5::Packet::ConnAck(ack) => {
                        Heard::ConnAck(u8::from(ack.code != v5::ConnectReturnCode::Success) * 0x80)
                    }
                    v5::Packet::PubAck(ack) => {
                        let code = puback_code(ack.reason);
                        let reason = ack.properties.and_then(|properties| properties.reason_string);
                        let counts = reason.is_some_and(|reason| reason.contains(" accepted, "));
                        Heard::PubAck { id: ack.pkid, code, entries: code == 0 || counts }
                    }
                    v5::Packet::SubAck(_) => Heard::SubAck,
                    v5::Packet::Publish(publish) => Heard::Publish {
                        ack: (publish.qos == QoS5::AtLeastOnce).then_some(publish.pkid),
                        topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                        payload: publish.payload,
                    },
                    v5::Packet::Disconnect(_) => Heard::Closed,
                    _ => Heard::Other,
                })),
                Err(mqttbytes5::Error::InsufficientBytes(_)) => Ok(None),
                Err(_) => Err(()),
            },
        }
    }

    async fn subscribe(&mut self, topic: &str) -> bool {
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        let mut bytes = BytesMut::new();
        let written = match self.version {
            Version::V311 => {
                let mut subscribe = v4::Subscribe::new(topic, QoS::AtLeastOnce);
                subscribe.pkid = self.next_id;
                v4::Packet::Subscribe(subscribe).write(&mut bytes, LARGEST).is_ok()
            }
            Version::V5 => {
                let filter = v5::Filter::new(topic, QoS5::AtLeastOnce);
                let mut subscribe = v5::Subscribe::new(filter, None);
                subscribe.pkid = self.next_id;
                v5::Packet::Subscribe(subscribe).write(&mut bytes, None).is_ok()
            }
        };
        if !written || self.send(&bytes).await.is_err() {
            return false;
        }
        loop {
            match self.hear().await {
                Heard::SubAck => return true,
                Heard::Closed => return false,
                _ => {}
            }
        }
    }

    pub(super) async fn close(mut self) {
        let mut bytes = BytesMut::new();
        let written = match self.version {
            Version::V311 => v4::Packet::Disconnect.write(&mut bytes, LARGEST).is_ok(),
            Version::V5 => {
                let goodbye = v5::Disconnect::new(v5::DisconnectReasonCode::NormalDisconnection);
                v5::Packet::Disconnect(goodbye).write(&mut bytes, None).is_ok()
            }
        };
        if written {
            let _ = self.send(&bytes).await;
        }
    }
}

fn puback_code(reason: v5::PubAckReason) -> u8 {
    match reason {
        v5::PubAckReason::Success => 0,
        v5::PubAckReason::NoMatchingSubscribers => 0x10,
        v5::PubAckReason::UnspecifiedError => 0x80,
        v5::PubAckReason::ImplementationSpecificError => 0x83,
        v5::PubAckReason::NotAuthorized => 0x87,
        v5::PubAckReason::TopicNameInvalid => 0x90,
        v5::PubAckReason::PacketIdentifierInUse => 0x91,
        v5::PubAckReason::QuotaExceeded => 0x97,
        v5::PubAckReason::PayloadFormatInvalid => 0x99,
    }
}

/// The result of a batch: what was acknowledged, and each refused child with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchAnswer {
    /// The answer to the message.
    pub answer: Answer,
    /// Children that were not registered, by name.
    pub refused: Vec<(String, String)>,
}

/// A gateway device, subscribed to the results of its batches.
pub struct Gateway {
    client: Client,
}

impl Gateway {
    /// Connects as the gateway device with this access token.
    pub async fn connect(transport: Transport, to: &Addresses, token: &str) -> Result<Self, Trouble> {
        let (address, version, websocket) = match transport {
            Transport::Mqtt => (&to.mqtt, Version::V311, false),
            Transport::Ws => (&to.ws, Version::V5, true),
            Transport::Mqtt5 => (&to.mqtt, Version::V5, false),
            Transport::Coap | Transport::Http => {
                return Err(Trouble::odd("a gateway", "gateways speak MQTT: mqtt, mqtt5 or ws"));
            }
        };
        let mut client = Client::connect(address, version, websocket, token).await?;
        if !client.subscribe(GATEWAY_RESPONSE).await {
            return Err(Trouble::unreachable(format!("MQTT at {address}"), "closed at the subscription"));
        }
        Ok(Self { client })
    }

    /// Sends a batch; the answer comes with the result for each child that was not registered.
    pub async fn claim(&mut self, body: &[u8]) -> BatchAnswer {
        let Some(id) = self.client.send_publish(GATEWAY_CLAIM, body, Manner::default()).await else {
            return BatchAnswer { answer: Answer::Lost, refused: Vec::new() };
        };
        let (mut code, mut refused) = (None, None);
        // A message refused as a whole has no results.
        while code.is_none_or(|(_, entries)| entries && refused.is_none()) {
            match self.client.hear().await {
                Heard::PubAck { id: acked, code: said, entries } if acked == id => code = Some((said, entries)),
                Heard::Publish { topic, payload, .. } if topic == GATEWAY_RESPONSE => {
                    refused = Some(results(&payload));
                }
                Heard::Closed => {
                    self.client.open = false;
                    let closed = match self.client.version {
                        Version::V311 if refused.is_some() => Answer::Refused("closed".to_owned()),
                        _ => Answer::Lost,
                    };
                    return BatchAnswer { answer: closed, refused: refused.unwrap_or_default() };
                }
                _ => {}
            }
        }
        let refused = refused.unwrap_or_default();
        let answer = match code {
            // Some were registered: the refused ones are named.
            Some((code, false)) => self.client.verdict(code),
            _ => Answer::Acked,
        };
        BatchAnswer { answer, refused }
    }

    /// Says good-bye.
    pub async fn close(self) {
        self.client.close().await;
    }
}

fn results(payload: &[u8]) -> Vec<(String, String)> {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(payload) else { return Vec::new() };
    let reason = |value: &serde_json::Value| value.as_str().unwrap_or("refused").to_owned();
    let members = value["refused"].as_object().into_iter().flatten();
    members.map(|(name, why)| (name.clone(), reason(why))).collect()
}
