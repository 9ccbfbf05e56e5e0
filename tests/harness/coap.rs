//! A small CoAP client on a blocking socket: confirmable requests, retransmitted until answered.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use coap_lite::{CoapOption, MessageClass, MessageType, Packet, RequestType};

use super::server::PATIENCE;

pub struct Coap {
    socket: UdpSocket,
}

/// A response: `(class, detail)` such as `(2, 1)`, and its payload and options.
pub struct Said {
    pub code: (u8, u8),
    pub packet: Packet,
}

static NEXT_ID: AtomicU16 = AtomicU16::new(1);

impl Coap {
    pub fn open(address: &str) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect(address).expect("an address");
        Self { socket }
    }

    /// POST to `/api/v1/{token}/claim`.
    pub fn claim(&self, token: &str, payload: &[u8]) -> Said {
        self.request(RequestType::Post, &["api", "v1", token, "claim"], payload)
    }

    /// One try that may end with the server: `None` when nothing answers within three seconds.
    pub fn try_claim(&self, token: &str, payload: &[u8]) -> Option<(u8, u8)> {
        let packet = claim_packet(token, payload);
        self.socket.set_read_timeout(Some(Duration::from_secs(3))).expect("a time-out");
        self.socket.send(&packet.to_bytes().expect("a packet")).ok()?;
        let mut buffer = [0; 2048];
        loop {
            let length = self.socket.recv(&mut buffer).ok()?;
            let answer = Packet::from_bytes(&buffer[..length]).ok()?;
            if answer.get_token() == packet.get_token() {
                let code = u8::from(answer.header.code);
                return Some((code >> 5, code & 31));
            }
        }
    }

    pub fn request(&self, method: RequestType, path: &[&str], payload: &[u8]) -> Said {
        self.exchange(&packet(method, path, payload))
    }

    /// Sends until the response with the request's token comes; an Echo challenge (RFC 9175) is answered.
    pub fn exchange(&self, request: &Packet) -> Said {
        let bytes = request.to_bytes().expect("a packet");
        let deadline = Instant::now() + PATIENCE;
        self.socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a time-out");
        let mut buffer = [0; 2048];
        'send: while Instant::now() < deadline {
            self.socket.send(&bytes).expect("sent");
            loop {
                let Ok(length) = self.socket.recv(&mut buffer) else { continue 'send };
                let packet = Packet::from_bytes(&buffer[..length]).expect("a CoAP message");
                if packet.get_token() != request.get_token() {
                    continue;
                }
                if packet.header.get_type() == MessageType::Confirmable {
                    let mut ack = Packet::new();
                    ack.header.set_type(MessageType::Acknowledgement);
                    ack.header.code = MessageClass::Empty;
                    ack.header.message_id = packet.header.message_id;
                    self.socket.send(&ack.to_bytes().expect("an ack")).expect("sent");
                }
                let code = u8::from(packet.header.code);
                let echo = packet.get_first_option(CoapOption::Unknown(252)).cloned();
                if code == 0x81
                    && let Some(echo) = echo
                    && request.get_first_option(CoapOption::Unknown(252)).is_none()
                {
                    let mut again = request.clone();
                    again.header.message_id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
                    again.add_option(CoapOption::Unknown(252), echo);
                    return self.exchange(&again);
                }
                return Said { code: (code >> 5, code & 31), packet };
            }
        }
        panic!("no CoAP response");
    }
}

/// A confirmable request with an id and token of its own.
pub fn packet(method: RequestType, path: &[&str], payload: &[u8]) -> Packet {
    let mut packet = Packet::new();
    packet.header.code = MessageClass::Request(method);
    packet.header.set_type(MessageType::Confirmable);
    packet.header.message_id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    packet.set_token(packet.header.message_id.to_be_bytes().to_vec());
    for segment in path {
        packet.add_option(CoapOption::UriPath, segment.as_bytes().to_vec());
    }
    packet.payload = payload.to_vec();
    packet
}

fn claim_packet(token: &str, payload: &[u8]) -> Packet {
    packet(RequestType::Post, &["api", "v1", token, "claim"], payload)
}

/// POSTs a claim, in blocks of 1,024 bytes (RFC 7959) when it does not fit one message; the last response.
pub fn claim_in_blocks(address: &str, token: &str, payload: &[u8]) -> Said {
    let client = Coap::open(address);
    if payload.len() <= 1024 {
        return client.claim(token, payload);
    }
    let blocks = payload.chunks(1024).collect::<Vec<_>>();
    let mut last = None;
    for (number, block) in blocks.iter().enumerate() {
        let mut packet = claim_packet(token, block);
        let more = u32::from(number + 1 < blocks.len());
        let value = (number as u32) << 4 | more << 3 | 6;
        let bytes = value.to_be_bytes();
        let start = bytes.iter().position(|b| *b != 0).unwrap_or(3);
        packet.add_option(CoapOption::Block1, bytes[start..].to_vec());
        let said = client.exchange(&packet);
        let goes_on = said.code == (2, 31);
        last = Some(said);
        if !goes_on {
            break;
        }
    }
    last.expect("at least one block")
}
