//! CoAP over UDP: confirmable requests, sent again until answered (RFC 7252 §4.2), an Echo challenge met (RFC 9175).

use std::time::Duration;

use coap_lite::{CoapOption, MessageClass, MessageType, Packet, RequestType};
use tokio::net::UdpSocket;

use super::{Answer, Manner};
use crate::trouble::Trouble;

/// RFC 7252 §4.8: the first wait, doubled with each repeat.
const ACK_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_RETRANSMIT: u32 = 4;
/// How long a response may take after an empty ACK.
const SEPARATE: Duration = Duration::from_secs(30);
const ECHO: CoapOption = CoapOption::Unknown(252);

pub(super) struct Client {
    socket: UdpSocket,
    token: String,
    next_id: u16,
    /// Kept from the last challenge: it proves our address for some minutes.
    echo: Option<Vec<u8>>,
}

impl Client {
    pub(super) async fn open(address: &str, token: &str) -> Result<Self, Trouble> {
        let open = async {
            let peer = tokio::net::lookup_host(address).await?.next();
            let peer = peer.ok_or_else(|| std::io::Error::other("the name has no address"))?;
            let any = if peer.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any).await?;
            socket.connect(peer).await?;
            Ok::<_, std::io::Error>(socket)
        };
        let socket = open.await.map_err(|why| Trouble::unreachable(format!("CoAP at {address}"), why))?;
        Ok(Self { socket, token: token.to_owned(), next_id: rand::random(), echo: None })
    }

    pub(super) async fn claim(&mut self, body: &[u8], manner: Manner) -> Answer {
        if let Some(pause) = manner.slow {
            // A datagram has no middle; a slow device is late.
            tokio::time::sleep(pause).await;
        }
        let request = self.request(body);
        let Ok(bytes) = request.to_bytes() else { return Answer::Lost };
        if manner.duplicate || manner.drop {
            let _ = self.socket.send(&bytes).await;
        }
        if manner.drop {
            return Answer::Dropped;
        }
        let Some(response) = self.exchange(&request, &bytes).await else { return Answer::Lost };
        if let (0x81, Some(echo)) = (u8::from(response.header.code), response.get_first_option(ECHO)) {
            self.echo = Some(echo.clone());
            let again = self.request(body);
            let Ok(bytes) = again.to_bytes() else { return Answer::Lost };
            return self.exchange(&again, &bytes).await.map_or(Answer::Lost, |response| answer(&response));
        }
        answer(&response)
    }

    fn request(&mut self, body: &[u8]) -> Packet {
        self.next_id = self.next_id.wrapping_add(1);
        let mut packet = Packet::new();
        packet.header.code = MessageClass::Request(RequestType::Post);
        packet.header.set_type(MessageType::Confirmable);
        packet.header.message_id = self.next_id;
        packet.set_token(self.next_id.to_be_bytes().to_vec());
        for segment in ["api", "v1", self.token.as_str(), "claim"] {
            packet.add_option(CoapOption::UriPath, segment.as_bytes().to_vec());
        }
        if let Some(echo) = &self.echo {
            packet.add_option(ECHO, echo.clone());
        }
        packet.payload = body.to_vec();
        packet
    }

    /// Sends until there is a response; `None` when there is none in time.
    async fn exchange(&self, request: &Packet, bytes: &[u8]) -> Option<Packet> {
        let mut wait = ACK_TIMEOUT;
        for _ in 0..=MAX_RETRANSMIT {
            self.socket.send(bytes).await.ok()?;
            match tokio::time::timeout(wait, self.response(request)).await {
                Ok(Heard::Response(response)) => return Some(response),
                // It is being worked on: the response comes by itself.
                Ok(Heard::Acknowledged) => {
                    let later = tokio::time::timeout(SEPARATE, self.response(request)).await;
                    return match later {
                        Ok(Heard::Response(response)) => Some(response),
                        _ => None,
                    };
                }
                Ok(Heard::Gone) => return None,
                Err(_) => wait *= 2,
            }
        }
        None
    }

    async fn response(&self, request: &Packet) -> Heard {
        let mut buffer = [0; 2048];
        loop {
            let Ok(length) = self.socket.recv(&mut buffer).await else { return Heard::Gone };
            let Ok(packet) = Packet::from_bytes(&buffer[..length]) else { continue };
            let same_id = packet.header.message_id == request.header.message_id;
            match packet.header.get_type() {
                MessageType::Reset if same_id => return Heard::Gone,
                MessageType::Acknowledgement if same_id && packet.header.code == MessageClass::Empty => {
                    return Heard::Acknowledged;
                }
                MessageType::Confirmable => self.acknowledge(&packet).await,
                _ => {}
            }
            if packet.get_token() == request.get_token() && matches!(packet.header.code, MessageClass::Response(_)) {
                return Heard::Response(packet);
            }
        }
    }

    async fn acknowledge(&self, packet: &Packet) {
        let mut ack = Packet::new();
        ack.header.set_type(MessageType::Acknowledgement);
        ack.header.code = MessageClass::Empty;
        ack.header.message_id = packet.header.message_id;
        if let Ok(bytes) = ack.to_bytes() {
            // A lost ACK is what their retransmission is for.
            let _ = self.socket.send(&bytes).await;
        }
    }
}

enum Heard {
    Response(Packet),
    Acknowledged,
    /// Reset, or nobody at the port.
    Gone,
}

fn answer(response: &Packet) -> Answer {
    let code = u8::from(response.header.code);
    match (code >> 5, code & 31) {
        (2, 1) => Answer::Acked,
        (4, 0) => Answer::Refused("malformed".to_owned()),
        (4, 1) => Answer::Refused("unauthenticated".to_owned()),
        (4, 3) => Answer::Refused("not_claimable".to_owned()),
        (4, 9) => Answer::Refused("already_owned".to_owned()),
        (4, 13) => Answer::Refused("too_large".to_owned()),
        (4, 29) => Answer::Refused("rate_limited".to_owned()),
        (5, 3) => Answer::Refused("unavailable".to_owned()),
        (class, detail) => Answer::Refused(format!("code {class}.{detail:02}")),
    }
}
