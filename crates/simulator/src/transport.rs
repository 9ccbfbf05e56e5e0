//! A device and its connection, over any transport.

mod coap;
mod http;
mod mqtt;

use std::fmt;
use std::time::Duration;

pub(crate) use http::{Response, Web, whole};
use mqtt::Version;
pub use mqtt::{BatchAnswer, Gateway};

use crate::trouble::Trouble;

/// A way to submit a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// MQTT 3.1.1 over TCP.
    Mqtt,
    /// MQTT 5 over TCP.
    Mqtt5,
    /// MQTT 5 over WebSocket.
    Ws,
    /// CoAP over UDP.
    Coap,
    /// HTTP/1.1.
    Http,
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Mqtt, Self::Mqtt5, Self::Ws, Self::Coap, Self::Http];

    /// Its name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mqtt => "mqtt",
            Self::Mqtt5 => "mqtt5",
            Self::Ws => "ws",
            Self::Coap => "coap",
            Self::Http => "http",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a server listens, each as `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// MQTT over TCP.
    pub mqtt: String,
    /// MQTT over WebSocket; the path is `/mqtt`.
    pub ws: String,
    /// CoAP over UDP.
    pub coap: String,
    /// HTTP: device API and owner API.
    pub http: String,
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Acknowledged: registered and visible to owners, says the contract.
    Acked,
    /// Refused, for this reason; `closed` where the protocol cannot say why.
    Refused(String),
    /// No answer: none came in time, or the connection broke.
    Lost,
    /// The answer was not waited for, on purpose.
    Dropped,
}

/// How a claim is sent: properly, or badly on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// Hang up without waiting for the answer.
    pub drop: bool,
    /// Send the same message twice, as a lossy network would.
    pub duplicate: bool,
    /// Pause in the middle of the message.
    pub slow: Option<Duration>,
}

/// One device, connected.
pub struct Device {
    link: Link,
}

enum Link {
    Mqtt(mqtt::Client),
    Coap(coap::Client),
    Http(http::Client),
}

impl Device {
    /// Connects, and where the protocol has that, signs in with the access token.
    pub async fn connect(transport: Transport, to: &Addresses, token: &str) -> Result<Self, Trouble> {
        let link = match transport {
            Transport::Mqtt => Link::Mqtt(mqtt::Client::connect(&to.mqtt, Version::V311, false, token).await?),
            Transport::Mqtt5 => Link::Mqtt(mqtt::Client::connect(&to.mqtt, Version::V5, false, token).await?),
            Transport::Ws => Link::Mqtt(mqtt::Client::connect(&to.ws, Version::V5, true, token).await?),
            Transport::Coap => Link::Coap(coap::Client::open(&to.coap, token).await?),
            Transport::Http => Link::Http(http::Client::new(&to.http, token)),
        };
        Ok(Self { link })
    }

    /// The device as it was, if another claim can be sent on it; else a new connection.
    pub(crate) async fn reopened(
        was: Option<Self>,
        transport: Transport,
        to: &Addresses,
        token: &str,
    ) -> Result<Self, Trouble> {
        match was.filter(Self::is_open) {
            Some(open) => Ok(open),
            None => Self::connect(transport, to, token).await,
        }
    }

    /// Sends a claim message and waits for its answer.
    pub async fn submit(&mut self, body: &[u8], manner: Manner) -> Answer {
        match &mut self.link {
            Link::Mqtt(client) => client.claim(body, manner).await,
            Link::Coap(client) => client.claim(body, manner).await,
            Link::Http(client) => client.claim(body, manner).await,
        }
    }

    /// Whether another claim can be sent; a refusal may have ended the connection.
    pub fn is_open(&self) -> bool {
        match &self.link {
            Link::Mqtt(client) => client.is_open(),
            Link::Coap(_) | Link::Http(_) => true,
        }
    }

    /// Says good-bye, where the protocol has that.
    pub async fn close(self) {
        if let Link::Mqtt(client) = self.link {
            client.close().await;
        }
    }
}
