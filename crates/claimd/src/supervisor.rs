//! Telling the service manager how the server is, by sd_notify(3)'s protocol: datagrams to the socket that `NOTIFY_SOCKET`
//! names. Without that variable nothing is told and nothing runs.
//!
//! The watchdog is fed while the server answers on its own operators' listener. A store that is away does not stop that, on
//! purpose: the server heals by itself when the store is back, and a restart would only drop its connections.

use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr as SocketName, UnixDatagram};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::health;

/// The manager's socket, if there is one. Telling never waits and never fails: what is lost is told again.
pub(crate) struct Supervisor {
    socket: Option<Arc<UnixDatagram>>,
    watchdog: Option<Duration>,
}

/// Feeds the manager's watchdog until dropped.
pub(crate) struct Watchdog(Option<(Sender<()>, std::thread::JoinHandle<()>)>);

impl Supervisor {
    /// Whoever the environment names.
    pub(crate) fn of_the_environment() -> Self {
        let variable = |name: &str| std::env::var_os(name);
        let socket = variable("NOTIFY_SOCKET").filter(|name| !name.is_empty()).and_then(|name| match connect(&name) {
            Ok(socket) => Some(Arc::new(socket)),
            Err(error) => {
                tracing::warn!(%error, "NOTIFY_SOCKET cannot be used; the service manager is told nothing");
                None
            }
        });
        let number = |name: &str| variable(name).and_then(|text| text.to_str()?.parse::<u64>().ok());
        // It may be meant for a process that started this one.
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|&micros| ours && micros > 0).map(Duration::from_micros);
        Self { socket, watchdog }
    }

    /// Everything accepts.
    pub(crate) fn ready(&self) {
        self.tell("READY=1\nSTATUS=ready");
    }

    /// The end has begun.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=draining");
    }

    /// The listeners are closed; what follows takes as long as the disk does.
    pub(crate) fn saving(&self) {
        self.tell("WATCHDOG=1\nSTATUS=saving");
    }

    fn tell(&self, what: &str) {
        if let Some(socket) = &self.socket {
            tell(socket, what);
        }
    }

    /// Starts to feed the watchdog, where the manager has one, as long as `admin` answers.
    pub(crate) fn watch(&self, admin: SocketAddr) -> io::Result<Watchdog> {
        let (Some(socket), Some(within)) = (self.socket.clone(), self.watchdog) else { return Ok(Watchdog(None)) };
        let (stop, stopped) = channel();
        // A thread of its own, outside of the runtime that it watches. Three chances in each interval.
        let pause = within / 3;
        let address = from_here(admin).to_string();
        let feed = move || {
            loop {
                if health::alive(&address, pause).is_ok() {
                    tell(&socket, &format!("WATCHDOG=1\nSTATUS={}", status(&address, pause)));
                }
                match stopped.recv_timeout(pause) {
                    Err(RecvTimeoutError::Timeout) => {}
                    _ => return,
                }
            }
        };
        let thread = std::thread::Builder::new().name("watchdog".to_owned()).spawn(feed)?;
        Ok(Watchdog(Some((stop, thread))))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.0.take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}

fn connect(name: &OsString) -> io::Result<UnixDatagram> {
    let bytes = name.as_bytes();
    let name = match bytes.strip_prefix(b"@") {
        Some(name) => SocketName::from_abstract_name(name)?,
        None => SocketName::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&name)?;
    // A manager that does not read must not stop the server.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn tell(socket: &UnixDatagram, what: &str) {
    if let Err(error) = socket.send(what.as_bytes()) {
        tracing::debug!(%error, "the service manager was not told");
    }
}

/// One line about the server, as `systemctl status` shows it.
fn status(address: &str, patience: Duration) -> String {
    match health::readiness(address, patience) {
        Ok(ready) => ready.in_words(),
        Err(_) => "no word from /readyz".to_owned(),
    }
}

/// An address that a listener is bound to, as it is reached from this machine.
pub(crate) fn from_here(bound: SocketAddr) -> SocketAddr {
    let loopback = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(loopback, bound.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_bound_everywhere_is_reached_over_the_loopback() {
        for (bound, reached) in [
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:2", "[::1]:2"),
            ("192.0.2.1:3", "192.0.2.1:3"),
            ("[::1]:4", "[::1]:4"),
        ] {
            assert_eq!(from_here(bound.parse().unwrap()).to_string(), reached);
        }
    }

    #[test]
    fn a_manager_in_the_abstract_name_space_hears_too() {
        let name = format!("claimd-test-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketName::from_abstract_name(&name).unwrap()).unwrap();
        tell(&connect(&format!("@{name}").into()).unwrap(), "READY=1");
        let mut heard = [0; 16];
        let length = manager.recv(&mut heard).unwrap();
        assert_eq!(&heard[..length], b"READY=1");
        assert!(connect(&"/nowhere/at/all".into()).is_err());
    }
}
