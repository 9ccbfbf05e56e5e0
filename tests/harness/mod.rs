//! What every end-to-end test stands on.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

pub mod backup;
pub mod coap;
pub mod desk;
pub mod embedded_only;
pub mod faulty;
pub mod haproxy;
pub mod live;
pub mod mode;
pub mod mqtt;
pub mod nodes;
pub mod postgres;
pub mod server;
pub mod tools;
pub mod world;

pub use coap::Coap;
pub use haproxy::HaProxy;
pub use mode::Stores;
pub use mqtt::{Heard, Mqtt, Version};
pub use nodes::Nodes;
pub use server::{PATIENCE, Server, eventually};
pub use world::{Answer, Client, Made, World};

/// Splits `host:port`.
pub fn host_port(address: &str) -> (String, u16) {
    let (host, port) = address.rsplit_once(':').expect("host:port");
    (host.to_owned(), port.parse().expect("a port"))
}

/// A connection from this address of the machine.
pub fn connect_from(source: Ipv4Addr, address: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((source, 0)).into()).expect("an address of this machine");
    let address: SocketAddr = address.parse().expect("an address");
    socket.connect(&address.into()).expect("a connection");
    socket.into()
}

/// Sends bytes of HTTP/1.1 as they are; the status and the whole answer.
pub fn raw_http(address: &str, head: &str, body: &[u8]) -> (u16, String) {
    let (status, text) = raw_http_over(TcpStream::connect(address).expect("a connection"), head, body);
    (status.unwrap_or_else(|| panic!("no status line: {text:?}")), text)
}

/// The same over a connection; no status when it ends without an answer.
pub fn raw_http_over(mut stream: TcpStream, head: &str, body: &[u8]) -> (Option<u16>, String) {
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    // The server may refuse before it has read all; then the rest has nowhere to go.
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(body);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer).into_owned();
    (text.split(' ').nth(1).and_then(|code| code.parse().ok()), text)
}
