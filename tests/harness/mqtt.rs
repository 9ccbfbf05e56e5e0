//! A small MQTT client on a blocking socket, for what real client libraries hide: reason codes, missing acks, closes.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use super::server::PATIENCE;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V311,
    V5,
}

/// What the server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    ConnAck { session_present: bool, code: u8, properties: Vec<u8> },
    PubAck { id: u16, code: u8, properties: Vec<u8> },
    SubAck { id: u16, codes: Vec<u8> },
    Publish { topic: String, payload: Vec<u8> },
    Disconnect { code: u8 },
    Other { first: u8, body: Vec<u8> },
    Closed,
}

pub struct Mqtt {
    stream: TcpStream,
    version: Version,
    next_id: u16,
}

impl Mqtt {
    /// Connects with the token as user name; panics unless accepted.
    pub fn connect(address: &str, version: Version, token: &str) -> Self {
        let mut client = Self::open(address, version);
        let said = client.hello("", Some(token), None);
        assert!(matches!(said, Heard::ConnAck { code: 0, .. }), "{said:?}");
        client
    }

    /// One connection, one claim; `Some(acked)`, or `None` when the server is gone. A close instead of an ack is a
    /// refusal in MQTT 3.1.1, but also what a dying server looks like, so it counts as gone.
    pub fn try_claim(address: &str, token: &str, payload: &[u8]) -> Option<bool> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(std::time::Duration::from_secs(3))).ok()?;
        let mut client = Self { stream, version: Version::V5, next_id: 0 };
        match client.try_hello(token)? {
            Heard::ConnAck { code: 0, .. } => {}
            _ => return None,
        }
        client.publish("v1/devices/me/claim", payload);
        match client.try_hear()? {
            Heard::PubAck { code, .. } => Some(code == 0),
            _ => None,
        }
    }

    /// `None` when no answer comes.
    pub fn try_hello(&mut self, token: &str) -> Option<Heard> {
        self.say_hello("", Some(token), None);
        self.try_hear()
    }

    /// Only the TCP connection.
    pub fn open(address: &str, version: Version) -> Self {
        Self::over(TcpStream::connect(address).expect("a connection"), version)
    }

    pub fn over(stream: TcpStream, version: Version) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream.set_nodelay(true).expect("no delay");
        Self { stream, version, next_id: 0 }
    }

    /// CONNECT with a clean session; the answer.
    pub fn hello(&mut self, client_id: &str, user: Option<&str>, password: Option<&str>) -> Heard {
        self.say_hello(client_id, user, password);
        self.hear()
    }

    fn say_hello(&mut self, client_id: &str, user: Option<&str>, password: Option<&str>) {
        let mut body = Vec::new();
        text(&mut body, "MQTT");
        body.push(if self.version == Version::V5 { 5 } else { 4 });
        body.push(0b10 | if user.is_some() { 0x80 } else { 0 } | if password.is_some() { 0x40 } else { 0 });
        body.extend(60u16.to_be_bytes());
        if self.version == Version::V5 {
            body.push(0);
        }
        text(&mut body, client_id);
        for part in [user, password].into_iter().flatten() {
            text(&mut body, part);
        }
        self.send(0x10, &body);
    }

    /// PUBLISH at QoS 1; the packet id. Does not wait.
    pub fn publish(&mut self, topic: &str, payload: &[u8]) -> u16 {
        self.burst(topic, payload, 1);
        self.next_id
    }

    /// So many PUBLISHes at QoS 1 in one write. Does not wait.
    pub fn burst(&mut self, topic: &str, payload: &[u8], count: usize) {
        let mut bytes = Vec::new();
        for _ in 0..count {
            self.next_id += 1;
            let mut body = Vec::new();
            text(&mut body, topic);
            body.extend(self.next_id.to_be_bytes());
            if self.version == Version::V5 {
                body.push(0);
            }
            body.extend(payload);
            bytes.extend(packet(0x32, &body));
        }
        self.raw(&bytes);
    }

    /// PUBLISH at QoS 1 and the answer to it; pushes in between are passed over.
    pub fn ask(&mut self, topic: &str, payload: &[u8]) -> Heard {
        self.publish(topic, payload);
        loop {
            match self.hear() {
                Heard::Publish { .. } => {}
                answer => return answer,
            }
        }
    }

    pub fn subscribe(&mut self, filter: &str) -> Heard {
        self.next_id += 1;
        let mut body = self.next_id.to_be_bytes().to_vec();
        if self.version == Version::V5 {
            body.push(0);
        }
        text(&mut body, filter);
        body.push(1);
        self.send(0x82, &body);
        loop {
            match self.hear() {
                Heard::Publish { .. } => {}
                answer => return answer,
            }
        }
    }

    /// The next packet. Acks are owed for QoS 1 pushes; sent here, so that windows never fill.
    pub fn hear(&mut self) -> Heard {
        self.try_hear().expect("a packet, or a close")
    }

    /// `None` when nothing comes, or the peer dies within a packet.
    pub fn try_hear(&mut self) -> Option<Heard> {
        let mut first = [0];
        match self.stream.read(&mut first) {
            Ok(0) => return Some(Heard::Closed),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                return Some(Heard::Closed);
            }
            Err(_) => return None,
        }
        let (mut length, mut shift) = (0usize, 0);
        loop {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).ok()?;
            length |= usize::from(byte[0] & 0x7f) << shift;
            shift += 7;
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).ok()?;
        Some(self.read(first[0], body))
    }

    fn read(&mut self, first: u8, body: Vec<u8>) -> Heard {
        let v5 = self.version == Version::V5;
        let id = |body: &[u8]| u16::from_be_bytes([body[0], body[1]]);
        match first >> 4 {
            2 => Heard::ConnAck {
                session_present: body[0] & 1 == 1,
                code: body[1],
                properties: body.get(3..).unwrap_or_default().to_vec(),
            },
            3 => {
                let length = usize::from(id(&body));
                let topic = String::from_utf8(body[2..2 + length].to_vec()).expect("a topic");
                let mut at = 2 + length;
                if first & 0b110 != 0 {
                    let ack = body[at..at + 2].to_vec();
                    self.send(0x40, &ack);
                    at += 2;
                }
                if v5 {
                    at += 1 + usize::from(body[at]);
                }
                Heard::Publish { topic, payload: body[at..].to_vec() }
            }
            4 => Heard::PubAck {
                id: id(&body),
                code: body.get(2).copied().unwrap_or(0),
                properties: body.get(4..).unwrap_or_default().to_vec(),
            },
            9 => Heard::SubAck { id: id(&body), codes: body[if v5 { 3 } else { 2 }..].to_vec() },
            14 => Heard::Disconnect { code: body.first().copied().unwrap_or(0) },
            _ => Heard::Other { first, body },
        }
    }

    pub fn send(&mut self, first: u8, body: &[u8]) {
        self.raw(&packet(first, body));
    }

    /// Bytes as they are; a peer that has closed already is no failure here, [`Mqtt::hear`] tells.
    pub fn raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }
}

fn text(to: &mut Vec<u8>, text: &str) {
    to.extend((text.len() as u16).to_be_bytes());
    to.extend(text.as_bytes());
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut length = body.len();
    loop {
        let byte = (length & 0x7f) as u8;
        length >>= 7;
        packet.push(if length > 0 { byte | 0x80 } else { byte });
        if length == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}
