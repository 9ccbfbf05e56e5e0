//! Bytes of outgoing messages, written straight into the batch that is sent: header, token, a few options, a payload.

use std::net::{IpAddr, SocketAddr};

/// A message's type (RFC 7252 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Confirmable = 0,
    NonConfirmable = 1,
    Acknowledgement = 2,
    Reset = 3,
}

impl Kind {
    /// From the two lower bits.
    pub(crate) fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Kind::Confirmable,
            1 => Kind::NonConfirmable,
            2 => Kind::Acknowledgement,
            _ => Kind::Reset,
        }
    }
}

/// A request's token, 0 to 8 bytes, echoed as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Token {
    length: u8,
    bytes: [u8; Token::MAX],
}

impl Token {
    pub(crate) const MAX: usize = 8;
    pub(crate) const EMPTY: Token = Token { length: 0, bytes: [0; Token::MAX] };

    /// The first eight bytes of `bytes`; callers have checked that there are no more.
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let mut token = Token::EMPTY;
        for (to, from) in token.bytes.iter_mut().zip(bytes) {
            *to = *from;
            token.length += 1;
        }
        token
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// Codes of responses (RFC 7252 §5.9, RFC 7959 §2.9, RFC 8132, RFC 8516).
pub(crate) mod code {
    pub(crate) const EMPTY: u8 = 0;
    pub(crate) const GET: u8 = 1;
    pub(crate) const POST: u8 = 2;
    pub(crate) const CREATED: u8 = 0x41;
    pub(crate) const CONTENT: u8 = 0x45;
    pub(crate) const CONTINUE: u8 = 0x5f;
    pub(crate) const BAD_REQUEST: u8 = 0x80;
    pub(crate) const UNAUTHORIZED: u8 = 0x81;
    pub(crate) const BAD_OPTION: u8 = 0x82;
    pub(crate) const FORBIDDEN: u8 = 0x83;
    pub(crate) const NOT_FOUND: u8 = 0x84;
    pub(crate) const METHOD_NOT_ALLOWED: u8 = 0x85;
    pub(crate) const NOT_ACCEPTABLE: u8 = 0x86;
    pub(crate) const INCOMPLETE: u8 = 0x88;
    pub(crate) const CONFLICT: u8 = 0x89;
    pub(crate) const TOO_LARGE: u8 = 0x8d;
    pub(crate) const UNSUPPORTED_FORMAT: u8 = 0x8f;
    pub(crate) const TOO_MANY_REQUESTS: u8 = 0x9d;
    pub(crate) const UNAVAILABLE: u8 = 0xa3;
    pub(crate) const PROXYING_NOT_SUPPORTED: u8 = 0xa5;
}

/// Option numbers (IANA, CoAP Option Numbers).
pub(crate) mod option {
    pub(crate) const URI_HOST: u16 = 3;
    pub(crate) const ETAG: u16 = 4;
    pub(crate) const OBSERVE: u16 = 6;
    pub(crate) const URI_PORT: u16 = 7;
    pub(crate) const URI_PATH: u16 = 11;
    pub(crate) const CONTENT_FORMAT: u16 = 12;
    pub(crate) const MAX_AGE: u16 = 14;
    pub(crate) const URI_QUERY: u16 = 15;
    pub(crate) const ACCEPT: u16 = 17;
    pub(crate) const BLOCK2: u16 = 23;
    pub(crate) const BLOCK1: u16 = 27;
    pub(crate) const PROXY_URI: u16 = 35;
    pub(crate) const PROXY_SCHEME: u16 = 39;
    pub(crate) const SIZE1: u16 = 60;
    pub(crate) const ECHO: u16 = 252;
    pub(crate) const NO_RESPONSE: u16 = 258;
    pub(crate) const REQUEST_TAG: u16 = 292;
}

/// Content formats we speak.
pub(crate) mod format {
    pub(crate) const LINK_FORMAT: u32 = 40;
    pub(crate) const JSON: u32 = 50;
}

/// Between whom a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Route {
    /// The other side.
    pub(crate) peer: SocketAddr,
    /// Our address, if the socket is bound to more than one: replies must leave from where the request came to.
    pub(crate) local: Option<IpAddr>,
    /// The interface, where an address means nothing without it (link-local IPv6); else 0.
    pub(crate) interface: u32,
}

/// Datagrams to send, bytes of all in one buffer that is used again and again.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    datagrams: Vec<(Route, usize)>,
}

impl Outbox {
    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.datagrams.len()
    }

    /// The datagrams, in the order they were made.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Route, &[u8])> {
        let mut start = 0;
        self.datagrams.iter().map(move |(route, end)| {
            let bytes = &self.bytes[start..*end];
            start = *end;
            (route, bytes)
        })
    }

    /// Forgets all, keeping the memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.datagrams.clear();
    }

    /// Adds a datagram that was written before.
    pub(crate) fn push(&mut self, route: Route, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.datagrams.push((route, self.bytes.len()));
    }

    /// Writes a message to the end of the buffer; [`Message::send`] makes it a datagram, dropping it forgets it.
    pub(crate) fn message(&mut self, kind: Kind, code: u8, message_id: u16, token: &Token) -> Message<'_> {
        let start = self.bytes.len();
        begin(&mut self.bytes, kind, code, message_id, token);
        Message { outbox: self, start, last_option: 0 }
    }
}

fn begin(bytes: &mut Vec<u8>, kind: Kind, code: u8, message_id: u16, token: &Token) {
    bytes.push(0x40 | (kind as u8) << 4 | token.length);
    bytes.push(code);
    bytes.extend_from_slice(&message_id.to_be_bytes());
    bytes.extend_from_slice(token.as_bytes());
}

/// A message being written. Options must be added in the order of their numbers.
pub(crate) struct Message<'a> {
    outbox: &'a mut Outbox,
    start: usize,
    last_option: u16,
}

impl Message<'_> {
    pub(crate) fn option(mut self, number: u16, value: &[u8]) -> Self {
        debug_assert!(number >= self.last_option && value.len() < 13, "options in order, and short");
        let delta = number - self.last_option;
        self.last_option = number;
        let bytes = &mut self.outbox.bytes;
        let length = value.len() as u8 & 0x0f;
        match delta {
            0..=12 => bytes.push((delta as u8) << 4 | length),
            13..=268 => bytes.extend_from_slice(&[0xd0 | length, (delta - 13) as u8]),
            _ => {
                bytes.push(0xe0 | length);
                bytes.extend_from_slice(&(delta - 269).to_be_bytes());
            }
        }
        bytes.extend_from_slice(value);
        self
    }

    /// An option with an unsigned integer, without leading zero bytes (RFC 7252 §3.2).
    pub(crate) fn uint(self, number: u16, value: u32) -> Self {
        let bytes = value.to_be_bytes();
        self.option(number, &bytes[value.leading_zeros() as usize / 8..])
    }

    /// The same, if there is a value.
    pub(crate) fn uint_if(self, number: u16, value: Option<u32>) -> Self {
        match value {
            Some(value) => self.uint(number, value),
            None => self,
        }
    }

    /// The payload, unless empty; nothing may follow.
    pub(crate) fn payload(self, payload: &[u8]) -> Self {
        if !payload.is_empty() {
            self.outbox.bytes.push(0xff);
            self.outbox.bytes.extend_from_slice(payload);
        }
        self
    }

    /// Length so far, bytes.
    pub(crate) fn len(&self) -> usize {
        self.outbox.bytes.len() - self.start
    }

    /// The bytes so far.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.outbox.bytes[self.start..]
    }

    /// Makes it a datagram.
    pub(crate) fn send(self, route: Route) {
        let end = self.outbox.bytes.len();
        self.outbox.datagrams.push((route, end));
    }

    /// Forgets it.
    pub(crate) fn discard(self) {
        self.outbox.bytes.truncate(self.start);
    }
}

#[cfg(test)]
mod tests {
    use coap_lite::{CoapOption, Packet};

    use super::*;

    #[test]
    fn what_is_written_is_what_another_codec_reads() {
        let route = Route { peer: "192.0.2.1:5683".parse().unwrap(), local: None, interface: 0 };
        let mut outbox = Outbox::default();
        outbox.message(Kind::Reset, code::EMPTY, 7, &Token::EMPTY).discard();
        outbox
            .message(Kind::NonConfirmable, code::UNAUTHORIZED, 0xabcd, &Token::new(b"tok"))
            .uint(option::OBSERVE, 0)
            .uint(option::MAX_AGE, 0x01_0000)
            .uint_if(option::SIZE1, None)
            .option(option::ECHO, b"12345678")
            .option(600, b"")
            .payload(b"text")
            .send(route);
        outbox.message(Kind::Acknowledgement, code::CREATED, 1, &Token::EMPTY).payload(b"").send(route);
        let sent: Vec<_> = outbox.iter().map(|(_, bytes)| Packet::from_bytes(bytes).unwrap()).collect();
        assert_eq!(sent.len(), 2);
        assert_eq!((sent[0].header.message_id, sent[0].get_token()), (0xabcd, &b"tok"[..]));
        assert_eq!(sent[0].get_first_option(CoapOption::Observe).unwrap().len(), 0);
        assert_eq!(sent[0].get_first_option(CoapOption::MaxAge).unwrap(), &[1, 0, 0]);
        assert_eq!(sent[0].get_first_option(CoapOption::Unknown(252)).unwrap(), b"12345678");
        assert_eq!(sent[0].get_first_option(CoapOption::Unknown(600)).unwrap().len(), 0);
        assert_eq!(sent[0].payload, b"text");
        assert_eq!(sent[1].to_bytes().unwrap(), b"\x60\x41\x00\x01");
        outbox.clear();
        assert_eq!(outbox.len(), 0);
    }

    #[test]
    fn tokens_keep_their_length() {
        for length in 0..=8 {
            assert_eq!(Token::new(&[0; 8][..length]).as_bytes().len(), length);
        }
    }
}
