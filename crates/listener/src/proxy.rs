//! The PROXY protocol (HAProxy's proxy-protocol.txt, version 2): a balancer says first whose connection it passes on.
//!
//! Who may say so is decided by the address that the kernel gives us, never by the bytes: whoever is not trusted is not
//! asked, and a header it sends is its own protocol's business. Whoever is trusted must send one. Version 1, the line of
//! text, is not taken: its end must be looked for, and every balancer in use speaks version 2.
//!
//! Exactly the header is read from the socket, so that a TLS handshake or any protocol finds its own first byte there.

pub(crate) mod header;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};

use header::{ADDRESSES, Fixed, Malformed, START};

/// From whom PROXY headers are taken, and within which bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Peers that pass other people's connections on, and must begin each with a header.
    pub trusted: Vec<IpNet>,
    /// Largest header, bytes, with everything in it. [`Proxy::SMALLEST`] to [`Proxy::LARGEST`].
    pub header_bytes: usize,
    /// Connections of trusted peers whose header has not come yet; one more closes the oldest. 1 or more.
    pub awaited: usize,
    /// How long a whole header may take.
    pub patience: Duration,
}

impl Proxy {
    /// A header with IPv6 addresses and nothing else, bytes.
    pub const SMALLEST: usize = START + ADDRESSES;
    /// The longest that a header can say it is, bytes.
    pub const LARGEST: usize = START + u16::MAX as usize;

    /// Whether this peer's connections begin with a header.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.trusted.iter().any(|net| net.contains(&peer))
    }
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// LOCAL: the balancer connects for itself, to see whether we are there.
    Itself,
    /// PROXY: it passes this client's connection on.
    Client(SocketAddr),
}

/// Why a connection of a trusted peer does not begin.
#[derive(Debug, Error)]
pub(crate) enum Fault {
    /// Closed before a byte, as a check of the port alone does.
    #[error("it said nothing")]
    Nothing,
    #[error("the connection broke within the header: {0}")]
    Broken(#[from] io::Error),
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("the header has {0} bytes")]
    TooLong(usize),
}

/// Reads exactly one header of at most `most` bytes. What its sender adds to the addresses is skipped.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin), most: usize) -> Result<Said, Fault> {
    let mut start = [0; START];
    let mut filled = 0;
    while filled < START {
        match stream.read(&mut start[filled..]).await? {
            0 if filled == 0 => return Err(Fault::Nothing),
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            more => filled += more,
        }
        // At once, since what is no header may be shorter than one.
        header::agrees(&start[..filled])?;
    }
    let fixed = Fixed::read(&start)?;
    if START + fixed.rest > most {
        return Err(Fault::TooLong(START + fixed.rest));
    }
    let mut addresses = [0; ADDRESSES];
    let (addresses, mut left) = (&mut addresses[..fixed.addresses], fixed.rest - fixed.addresses);
    stream.read_exact(addresses).await?;
    let mut skipped = [0; 128];
    while left > 0 {
        let piece = left.min(skipped.len());
        stream.read_exact(&mut skipped[..piece]).await?;
        left -= piece;
    }
    Ok(fixed.source(addresses).map_or(Said::Itself, Said::Client))
}
