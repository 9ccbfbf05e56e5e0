//! The bytes of a version 2 header: twelve of signature, version and command, family, length; then addresses; then what
//! senders like to add. No socket, no wait.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

/// Bytes before the addresses.
pub(crate) const START: usize = 16;
/// Bytes of the longest addresses that we take: two of IPv6, two ports.
pub(crate) const ADDRESSES: usize = 36;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2 with LOCAL, and with PROXY.
const COMMANDS: [u8; 2] = [0x20, 0x21];
/// TCP over IPv4, and its addresses' bytes.
const TCP4: (u8, usize) = (0x11, 12);
/// TCP over IPv6.
const TCP6: (u8, usize) = (0x21, ADDRESSES);

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Malformed {
    #[error("it began without a PROXY header of version 2")]
    NoHeader,
    /// A client without an address would have no limits.
    #[error("the header gives no client's TCP address")]
    NoAddress,
    #[error("the header is too short for its addresses")]
    Short,
}

/// The first [`START`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fixed {
    /// Bytes that follow, addresses first.
    pub(crate) rest: usize,
    /// Of these, addresses; 0 when the balancer speaks for itself.
    pub(crate) addresses: usize,
}

/// Whether these first bytes may become a header.
pub(crate) fn agrees(bytes: &[u8]) -> Result<(), Malformed> {
    let signature = bytes.len().min(SIGNATURE.len());
    let command = bytes.get(SIGNATURE.len());
    let good = bytes[..signature] == SIGNATURE[..signature] && command.is_none_or(|byte| COMMANDS.contains(byte));
    if good { Ok(()) } else { Err(Malformed::NoHeader) }
}

impl Fixed {
    pub(crate) fn read(start: &[u8; START]) -> Result<Self, Malformed> {
        agrees(start)?;
        let [.., command, family, high, low] = *start;
        let rest = usize::from(u16::from_be_bytes([high, low]));
        // With LOCAL the family means nothing, and what follows is skipped.
        if command == COMMANDS[0] {
            return Ok(Self { rest, addresses: 0 });
        }
        let known = [TCP4, TCP6].into_iter().find(|known| known.0 == family);
        let (_, addresses) = known.ok_or(Malformed::NoAddress)?;
        if rest < addresses {
            return Err(Malformed::Short);
        }
        Ok(Self { rest, addresses })
    }

    /// The client, out of the addresses; `None` when the balancer speaks for itself.
    pub(crate) fn source(self, addresses: &[u8]) -> Option<SocketAddr> {
        let (ip, ports): (IpAddr, &[u8]) = if self.addresses == TCP4.1 {
            (Ipv4Addr::from(*addresses.first_chunk::<4>()?).into(), addresses.get(8..)?)
        } else {
            (Ipv6Addr::from(*addresses.first_chunk::<16>()?).into(), addresses.get(32..)?)
        };
        Some(SocketAddr::new(ip, u16::from_be_bytes(*ports.first_chunk()?)))
    }
}
