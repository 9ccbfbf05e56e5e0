//! What every end-to-end test stands on.

pub mod coap;
pub mod desk;
pub mod embedded_only;
pub mod faulty;
pub mod live;
pub mod mode;
pub mod mqtt;
pub mod postgres;
pub mod server;
pub mod tools;
pub mod world;

pub use coap::Coap;
pub use mode::Stores;
pub use mqtt::{Heard, Mqtt, Version};
pub use server::{PATIENCE, Server, eventually};
pub use world::{Answer, Client, Made, World};

/// Splits `host:port`.
pub fn host_port(address: &str) -> (String, u16) {
    let (host, port) = address.rsplit_once(':').expect("host:port");
    (host.to_owned(), port.parse().expect("a port"))
}

/// Sends bytes of HTTP/1.1 as they are; the status and the whole answer.
pub fn raw_http(address: &str, head: &str, body: &[u8]) -> (u16, String) {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream.write_all(head.as_bytes()).expect("sent");
    // The server may refuse before it has read all; then the rest has nowhere to go.
    let _ = stream.write_all(body);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split(' ').nth(1).and_then(|code| code.parse().ok());
    (status.unwrap_or_else(|| panic!("no status line: {text:?}")), text)
}
