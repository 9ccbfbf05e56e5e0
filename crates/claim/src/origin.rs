//! Where a request came from: the transport, the peer, and the id that ties log lines, audit rows and answers together.

use std::net::IpAddr;

/// The protocol a device speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// MQTT 3.1.1 or 5, over TCP or WebSocket.
    Mqtt,
    /// CoAP over UDP.
    Coap,
    /// The device-side HTTP API.
    Http,
}

impl Transport {
    /// All transports, for metrics that are made once.
    pub const ALL: [Transport; 3] = [Transport::Mqtt, Transport::Coap, Transport::Http];

    /// The transport's name in metrics, logs and audit rows.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Mqtt => "mqtt",
            Transport::Coap => "coap",
            Transport::Http => "http",
        }
    }
}

/// The origin of one message or request.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// `None` for people's HTTP API.
    pub transport: Option<Transport>,
    /// The peer's address.
    pub address: IpAddr,
    /// Whether the peer has shown that it receives at this address (TCP: always; CoAP: Echo, DTLS or an ACK of ours).
    /// Refused credentials from an unproven address are not counted against it, or a spoofer could lock others out.
    pub address_proven: bool,
    /// Unique in this process's life; ties log lines, audit rows and answers together.
    pub request_id: u64,
}
