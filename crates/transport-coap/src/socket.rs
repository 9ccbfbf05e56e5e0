//! UDP sockets read and written many datagrams to a system call, each reply leaving from the address its request came to.
//!
//! The one place with `unsafe`: `recvmmsg` and `sendmmsg` take arrays of pointers.
#![allow(unsafe_code)]

use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use tokio::net::UdpSocket;

use crate::endpoint::wire::{Outbox, Route};

/// Room for one datagram's ancillary data: packet info and the count of drops.
const CONTROL_BYTES: usize = 128;

/// Opens `count` sockets on one address; the kernel spreads peers over them by address and port.
pub(crate) fn open(address: SocketAddr, count: usize, receive_buffer: usize) -> io::Result<Vec<UdpSocket>> {
    let first = open_one(address, count > 1, receive_buffer)?;
    let bound = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..count {
        sockets.push(open_one(bound, true, receive_buffer)?);
    }
    Ok(sockets)
}

fn open_one(address: SocketAddr, shared: bool, receive_buffer: usize) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    // What the kernel grants is what there is; a small one shows as drops.
    let _ = socket.set_recv_buffer_size(receive_buffer);
    flag(&socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL)?;
    if address.ip().is_unspecified() {
        match address {
            SocketAddr::V4(_) => flag(&socket, libc::IPPROTO_IP, libc::IP_PKTINFO)?,
            SocketAddr::V6(_) => flag(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)?,
        }
    }
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

fn flag(socket: &Socket, level: libc::c_int, name: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option's value is a c_int that lives across the call, and its length is given.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const on).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Buffers for one read of many datagrams, used again and again.
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    size: usize,
    control: Vec<[u64; CONTROL_BYTES / 8]>,
    names: Vec<libc::sockaddr_storage>,
    received: Vec<(Route, usize, bool)>,
    /// The socket's count of dropped datagrams, as last said.
    pub(crate) drops: u32,
}

impl Inbox {
    pub(crate) fn new(batch: usize, size: usize) -> Self {
        // SAFETY: all zeroes is a valid sockaddr_storage (address family 0).
        let empty = unsafe { zeroed::<libc::sockaddr_storage>() };
        Self {
            bytes: vec![0; batch * size],
            size,
            control: vec![[0; CONTROL_BYTES / 8]; batch],
            names: vec![empty; batch],
            received: Vec::with_capacity(batch),
            drops: 0,
        }
    }

    /// The datagrams of the last read: from where, bytes, and whether they were longer than the buffer.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Route, &[u8], bool)> {
        self.received
            .iter()
            .enumerate()
            .map(|(at, (route, length, cut))| (*route, &self.bytes[at * self.size..][..*length], *cut))
    }

    /// Reads what there is, up to the batch.
    pub(crate) fn receive(&mut self, socket: &UdpSocket) -> io::Result<()> {
        let batch = self.control.len();
        self.received.clear();
        let mut vectors: Vec<libc::iovec> = Vec::with_capacity(batch);
        let mut headers: Vec<libc::mmsghdr> = Vec::with_capacity(batch);
        for at in 0..batch {
            let base = self.bytes[at * self.size..].as_mut_ptr().cast();
            vectors.push(libc::iovec { iov_base: base, iov_len: self.size });
        }
        for (at, vector) in vectors.iter_mut().enumerate() {
            // SAFETY: all zeroes is a valid msghdr: null pointers and lengths of 0.
            let mut header = unsafe { zeroed::<libc::mmsghdr>() };
            header.msg_hdr.msg_name = (&raw mut self.names[at]).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_hdr.msg_iov = &raw mut *vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = self.control[at].as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL_BYTES as _;
            headers.push(header);
        }
        // SAFETY: every header points at buffers of the stated lengths that live, unmoved, across the call.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                batch as _,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        if count < 0 {
            return Err(io::Error::last_os_error());
        }
        for (at, header) in headers.iter().enumerate().take(count as usize) {
            let cut = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            let length = (header.msg_len as usize).min(self.size);
            let (local, interface) = self.ancillary(&header.msg_hdr);
            if let Some(peer) = address(&self.names[at], header.msg_hdr.msg_namelen) {
                self.received.push((Route { peer, local, interface }, length, cut));
            } else {
                // From nowhere: keep its place, so that the others keep theirs.
                let nowhere = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
                self.received.push((Route { peer: nowhere, local: None, interface: 0 }, 0, false));
            }
        }
        Ok(())
    }

    /// Where a datagram was sent to; notes how many were dropped before it.
    fn ancillary(&mut self, header: &libc::msghdr) -> (Option<IpAddr>, u32) {
        let (mut local, mut interface) = (None, 0);
        // SAFETY: the kernel filled the control buffer and its length; the CMSG macros stay within them, and each value is read
        // unaligned with the type its level and kind say it has.
        unsafe {
            let mut part = libc::CMSG_FIRSTHDR(header);
            while !part.is_null() {
                let data = libc::CMSG_DATA(part);
                match ((*part).cmsg_level, (*part).cmsg_type) {
                    (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                        let info: libc::in_pktinfo = data.cast::<libc::in_pktinfo>().read_unaligned();
                        local = Some(IpAddr::V4(Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr))));
                    }
                    (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                        let info: libc::in6_pktinfo = data.cast::<libc::in6_pktinfo>().read_unaligned();
                        local = Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)));
                        interface = info.ipi6_ifindex;
                    }
                    (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => self.drops = data.cast::<u32>().read_unaligned(),
                    _ => {}
                }
                part = libc::CMSG_NXTHDR(header, part);
            }
        }
        (local, interface)
    }
}

fn address(name: &libc::sockaddr_storage, length: libc::socklen_t) -> Option<SocketAddr> {
    let mut storage = MaybeUninit::<SockAddrStorage>::zeroed();
    // SAFETY: SockAddrStorage is a transparent sockaddr_storage; the kernel wrote `length` bytes of a valid address.
    let address = unsafe {
        std::ptr::copy_nonoverlapping(
            (&raw const *name).cast::<u8>(),
            storage.as_mut_ptr().cast(),
            size_of::<libc::sockaddr_storage>(),
        );
        SockAddr::new(storage.assume_init(), length)
    };
    match address.as_socket()? {
        SocketAddr::V6(v6) => Some(SocketAddr::V6(SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()))),
        v4 => Some(v4),
    }
}

/// What became of a send.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Datagrams the kernel has taken or refused: they are done with.
    pub(crate) done: usize,
    /// Of these, refused.
    pub(crate) failed: usize,
}

/// Sends the datagrams from `from` on, up to 64. `Err(WouldBlock)` when the socket takes none now; any other refusal is of one
/// datagram and counted.
pub(crate) fn send(socket: &UdpSocket, out: &Outbox, from: usize) -> io::Result<Sent> {
    const BATCH: usize = 64;
    let mut names: Vec<SockAddr> = Vec::with_capacity(BATCH);
    let mut vectors: Vec<libc::iovec> = Vec::with_capacity(BATCH);
    let mut controls = [[0_u64; 8]; BATCH];
    let mut routes: Vec<Route> = Vec::with_capacity(BATCH);
    for (route, bytes) in out.iter().skip(from).take(BATCH) {
        names.push(SockAddr::from(route.peer));
        vectors.push(libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() });
        routes.push(*route);
    }
    let mut headers: Vec<libc::mmsghdr> = Vec::with_capacity(BATCH);
    for at in 0..names.len() {
        // SAFETY: all zeroes is a valid msghdr.
        let mut header = unsafe { zeroed::<libc::mmsghdr>() };
        header.msg_hdr.msg_name = names[at].as_ptr().cast_mut().cast();
        header.msg_hdr.msg_namelen = names[at].len();
        header.msg_hdr.msg_iov = &raw mut vectors[at];
        header.msg_hdr.msg_iovlen = 1;
        from_where(&mut header.msg_hdr, &mut controls[at], &routes[at]);
        headers.push(header);
    }
    if headers.is_empty() {
        return Ok(Sent::default());
    }
    // SAFETY: every header points at live, unmoved buffers of the stated lengths; the kernel only reads the datagrams.
    let count = unsafe {
        libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), headers.len() as _, libc::MSG_DONTWAIT as _)
    };
    if count >= 0 {
        return Ok(Sent { done: count as usize, failed: 0 });
    }
    match io::Error::last_os_error() {
        error if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Err(error),
        // It is about the first datagram; the others have not been looked at.
        _ => Ok(Sent { done: 1, failed: 1 }),
    }
}

/// Says which address of ours a datagram leaves from.
fn from_where(header: &mut libc::msghdr, control: &mut [u64; 8], route: &Route) {
    /// Writes one ancillary value.
    ///
    /// # Safety
    /// `header` names a control buffer with room for it.
    unsafe fn put<T>(header: &mut libc::msghdr, level: libc::c_int, kind: libc::c_int, value: T) {
        // SAFETY: the first header of a buffer that is large enough, by the caller's word.
        unsafe {
            header.msg_controllen = libc::CMSG_SPACE(size_of::<T>() as u32) as _;
            let part = libc::CMSG_FIRSTHDR(header);
            (*part).cmsg_level = level;
            (*part).cmsg_type = kind;
            (*part).cmsg_len = libc::CMSG_LEN(size_of::<T>() as u32) as _;
            libc::CMSG_DATA(part).cast::<T>().write_unaligned(value);
        }
    }
    let Some(local) = route.local else { return };
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of::<[u64; 8]>() as _;
    match local {
        IpAddr::V4(ip) => {
            let spec_dst = libc::in_addr { s_addr: u32::from(ip).to_be() };
            let info =
                libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: spec_dst, ipi_addr: libc::in_addr { s_addr: 0 } };
            // SAFETY: 64 bytes hold a header and an in_pktinfo (CMSG_SPACE(12) is 32).
            unsafe { put(header, libc::IPPROTO_IP, libc::IP_PKTINFO, info) };
        }
        IpAddr::V6(ip) => {
            let address = libc::in6_addr { s6_addr: ip.octets() };
            let info = libc::in6_pktinfo { ipi6_addr: address, ipi6_ifindex: route.interface };
            // SAFETY: 64 bytes hold a header and an in6_pktinfo (CMSG_SPACE(20) is 40).
            unsafe { put(header, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::wire::{Kind, Token, code};

    async fn read(socket: &UdpSocket, inbox: &mut Inbox) {
        loop {
            socket.readable().await.expect("readable");
            match socket.try_io(tokio::io::Interest::READABLE, || inbox.receive(socket)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result.expect("received"),
            }
        }
    }

    fn ping(out: &mut Outbox, route: Route) {
        out.message(Kind::Confirmable, code::EMPTY, 7, &Token::EMPTY).send(route);
    }

    #[tokio::test]
    async fn a_reply_leaves_from_the_address_its_request_came_to() {
        for (any, one) in [("0.0.0.0:0", "127.0.0.3"), ("[::]:0", "::1")] {
            let server = open(any.parse().expect("an address"), 1, 1 << 20).expect("a socket").remove(0);
            let port = server.local_addr().expect("an address").port();
            let client = std::net::UdpSocket::bind((one.parse::<IpAddr>().expect("an address"), 0)).expect("a socket");
            // Connected: the kernel lets nothing in but from the address that was asked.
            client.connect((one.parse::<IpAddr>().expect("an address"), port)).expect("connected");
            client.set_read_timeout(Some(std::time::Duration::from_secs(20))).expect("a time-out");
            client.send(b"\x40\x00\x00\x07").expect("sent");
            let mut inbox = Inbox::new(4, 1500);
            read(&server, &mut inbox).await;
            let (route, bytes, cut) = inbox.iter().next().expect("a datagram");
            assert_eq!((bytes, cut, route.local), (&b"\x40\x00\x00\x07"[..], false, one.parse().ok()));
            let mut out = Outbox::default();
            ping(&mut out, route);
            assert_eq!(send(&server, &out, 0).expect("sent"), Sent { done: 1, failed: 0 });
            let mut buffer = [0; 16];
            assert_eq!(client.recv(&mut buffer).expect("received"), 4);
        }
    }

    #[tokio::test]
    async fn a_long_datagram_is_cut_and_said_to_be_and_a_refused_one_is_counted() {
        let server = open("127.0.0.1:0".parse().expect("an address"), 2, 1 << 20).expect("sockets").remove(0);
        let client = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let mut inbox = Inbox::new(2, 64);
        // Which of the two sockets gets it is the kernel's choice; ask until it is this one.
        loop {
            let client = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
            client.send_to(&[0x40; 100], server.local_addr().expect("an address")).expect("sent");
            if tokio::time::timeout(std::time::Duration::from_millis(200), read(&server, &mut inbox)).await.is_ok() {
                break;
            }
        }
        let (route, bytes, cut) = inbox.iter().next().expect("a datagram");
        assert_eq!((bytes.len(), cut), (64, true));
        let mut out = Outbox::default();
        let nowhere = Route { peer: "255.255.255.255:9".parse().expect("an address"), ..route };
        ping(&mut out, nowhere);
        ping(&mut out, Route { peer: client.local_addr().expect("an address"), ..route });
        assert_eq!(send(&server, &out, 0).expect("counted"), Sent { done: 1, failed: 1 });
        assert_eq!(send(&server, &out, 1).expect("sent"), Sent { done: 1, failed: 0 });
    }
}
