//! Ports: free, held by a claimd that runs, or by somebody else.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

use super::Check;
use super::owner::{self, Owner, Protocol};
use crate::config::Settings;

pub(super) fn checks(settings: &Settings) -> Vec<Check> {
    let ports = [
        ("mqtt.bind", settings.mqtt.bind.as_str(), Protocol::Tcp, true),
        ("mqtt.ws_bind", &settings.mqtt.ws_bind, Protocol::Tcp, true),
        ("coap.bind", &settings.coap.bind, Protocol::Udp, true),
        ("http.bind", &settings.http.bind, Protocol::Tcp, false),
        ("admin.bind", &settings.admin.bind, Protocol::Tcp, false),
    ];
    let server = server(settings);
    let each = |(key, text, protocol, optional)| check(key, text, protocol, optional, server.as_ref());
    ports.into_iter().map(each).collect()
}

/// The server that runs on these settings: it listens for operators where they say, on their data folder.
pub(super) fn server(settings: &Settings) -> Option<Owner> {
    let address = settings.admin.bind.parse().ok()?;
    let lock = Path::new(&settings.server.data_dir).join("lock");
    owner::of(Protocol::Tcp, address).filter(|owner| owner::has_open(owner.pid, &lock))
}

fn check(key: &str, text: &str, protocol: Protocol, optional: bool, server: Option<&Owner>) -> Check {
    if text.is_empty() && optional {
        return Check::ok(key, "off");
    }
    let Ok(address) = text.parse::<SocketAddr>() else {
        return Check::fault(key, format!("\"{text}\" is no address and port"), "write it like 127.0.0.1:8080");
    };
    if address.port() == 0 {
        return Check::ok(key, format!("{address}: the system gives a free port at the start"));
    }
    let bound = match protocol {
        Protocol::Tcp => TcpListener::bind(address).map(drop),
        Protocol::Udp => UdpSocket::bind(address).map(drop),
    };
    match bound.map_err(|error| error.kind()) {
        Ok(()) => Check::ok(key, format!("{address} is free")),
        Err(ErrorKind::AddrInUse) => in_use(key, address, owner::of(protocol, address), server),
        Err(ErrorKind::PermissionDenied) => Check::fault(
            key,
            format!("{address} may not be used by this user"),
            "take a port above 1023, or let a balancer take the low one",
        ),
        Err(ErrorKind::AddrNotAvailable) => Check::fault(
            key,
            format!("{address} is not an address of this machine"),
            "take one that `ip address` shows",
        ),
        Err(other) => Check::fault(key, format!("{address} cannot be listened on: {other}"), "take another"),
    }
}

fn in_use(key: &str, address: SocketAddr, owner: Option<Owner>, server: Option<&Owner>) -> Check {
    match owner {
        Some(owner) if Some(&owner) == server => {
            Check::ok(key, format!("{address} is held by the server that runs (process {})", owner.pid))
        }
        Some(Owner { pid, name }) => Check::fault(
            key,
            format!("{address} is held by `{name}` (process {pid})"),
            format!("stop it, or set another with `{key}`"),
        ),
        None => Check::warn(
            key,
            format!("{address} is held by a program that this user may not look at"),
            "run the doctor as root or as the server's user to see which",
        ),
    }
}
