//! Who has a port: the kernel's tables name a socket's inode, and /proc names the process that holds it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// A process that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) pid: u32,
    /// Its command, 15 bytes at the most.
    pub(super) name: String,
}

/// What kind of port.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Tcp,
    Udp,
}

/// Whoever listens at an address or at all of its port's; `None` when nobody does, or it may not be known.
pub(super) fn of(protocol: Protocol, address: SocketAddr) -> Option<Owner> {
    let (tables, state) = match protocol {
        Protocol::Tcp => (["/proc/net/tcp", "/proc/net/tcp6"], Some("0A")),
        Protocol::Udp => (["/proc/net/udp", "/proc/net/udp6"], None),
    };
    let sockets: Vec<String> = tables
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| table.lines().filter_map(|line| listening(line, state, address)).collect::<Vec<_>>())
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if sockets.is_empty() {
        return None;
    }
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find_map(|pid: u32| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
        let mut targets = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
        targets.find(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))?;
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
        Some(Owner { pid, name })
    })
}

/// Whether a process has a file open.
pub(super) fn has_open(pid: u32, path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else { return false };
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    descriptors.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|target| target == path)
}

/// The inode of a line of a table, if it is a listening socket in the way of `address` (proc(5), `/proc/net/tcp`).
fn listening(line: &str, state: Option<&str>, address: SocketAddr) -> Option<u64> {
    let mut columns = line.split_whitespace();
    let (_, local, _, its_state) = (columns.next()?, columns.next()?, columns.next()?, columns.next()?);
    if state.is_some_and(|state| state != its_state) {
        return None;
    }
    let (ip, port) = local.split_once(':')?;
    let (ip, port) = (ip_of(ip)?, u16::from_str_radix(port, 16).ok()?);
    let in_the_way = ip == address.ip() || ip.is_unspecified() || address.ip().is_unspecified();
    if port != address.port() || !in_the_way {
        return None;
    }
    columns.nth(5)?.parse().ok()
}

/// Words of four bytes in the machine's order, in hexadecimal.
fn ip_of(text: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(text.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut bytes = [0; 16];
            for (at, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(at * 8)?);
            }
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_listens_is_found_and_whoever_does_not_is_not() {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = std::net::UdpSocket::bind("[::1]:0").unwrap();
        let me = std::process::id();
        assert_eq!(of(Protocol::Tcp, tcp.local_addr().unwrap()).map(|owner| owner.pid), Some(me));
        assert_eq!(of(Protocol::Udp, udp.local_addr().unwrap()).map(|owner| owner.pid), Some(me));
        let everywhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), tcp.local_addr().unwrap().port());
        assert_eq!(of(Protocol::Tcp, everywhere).map(|owner| owner.pid), Some(me));
        let address = tcp.local_addr().unwrap();
        drop(tcp);
        assert_eq!(of(Protocol::Tcp, address), None);
    }

    #[test]
    fn a_connection_is_no_listener() {
        let line = "   1: 0100007F:0016 0100007F:D2C4 01 00000000:00000000 02:000A7214 00000000     0        0 7 2 0 20 4 30 10 -1";
        let address = "127.0.0.1:22".parse().unwrap();
        assert_eq!(listening(line, Some("0A"), address), None);
        assert_eq!(listening(&line.replace(" 01 ", " 0A "), Some("0A"), address), Some(7));
        assert_eq!(listening("  sl  local_address rem_address   st", Some("0A"), address), None);
    }
}
