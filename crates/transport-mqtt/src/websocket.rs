//! MQTT over WebSocket (MQTT 5 §6): subprotocol `mqtt`, binary messages, packets may span them.

#![allow(clippy::result_large_err)] // the handshake's callback asks for this type

use std::io;
use std::sync::Arc;

use ::listener::Connection;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::config::OVERHEAD_BYTES;
use crate::listener::Shared;
use crate::session;
use crate::wire::Wire;

pub(crate) async fn run(connection: Connection, shared: Arc<Shared>) {
    let Connection { stream, peer, seat } = connection;
    let most = shared.limits.payload_bytes + OVERHEAD_BYTES + 16;
    let config = WebSocketConfig::default()
        .max_message_size(Some(most))
        .max_frame_size(Some(most))
        .read_buffer_size(4 * 1024)
        .write_buffer_size(0);
    let origins = shared.config.ws_origins.clone();
    let check = move |request: &Request, response: Response| judge(request, response, &origins);
    let handshake = tokio_tungstenite::accept_hdr_async_with_config(stream, check, Some(config));
    let socket = tokio::select! {
        socket = tokio::time::timeout(shared.limits.handshake_timeout, handshake) => socket,
        () = seat.draining() => return,
    };
    let Ok(Ok(socket)) = socket else { return };
    let wire = WebSocket { socket, taken: Bytes::new(), ended: false };
    session::run(wire, peer.ip().to_canonical(), seat, shared).await;
}

fn judge(request: &Request, mut response: Response, origins: &[String]) -> Result<Response, ErrorResponse> {
    let refuse = |status: StatusCode, text: &str| {
        let mut response = ErrorResponse::new(Some(text.to_owned()));
        *response.status_mut() = status;
        response
    };
    if request.uri().path() != "/mqtt" {
        return Err(refuse(StatusCode::NOT_FOUND, "MQTT over WebSocket is at /mqtt"));
    }
    if let Some(origin) = request.headers().get(header::ORIGIN) {
        let allowed = |allowed: &String| allowed == "*" || allowed.as_bytes() == origin.as_bytes();
        if !origins.iter().any(allowed) {
            return Err(refuse(StatusCode::FORBIDDEN, "this origin is not in mqtt.ws_origins"));
        }
    }
    let offered = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let mut offered = offered.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    if !offered.any(|name| name.trim() == "mqtt") {
        return Err(refuse(StatusCode::BAD_REQUEST, "offer the WebSocket subprotocol mqtt"));
    }
    response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("mqtt"));
    Ok(response)
}

struct WebSocket {
    socket: WebSocketStream<TcpStream>,
    /// A message that was received and not yet taken.
    taken: Bytes,
    ended: bool,
}

impl Wire for WebSocket {
    async fn ready(&mut self) -> io::Result<()> {
        while self.taken.is_empty() && !self.ended {
            match self.socket.next().await {
                Some(Ok(Message::Binary(bytes))) => self.taken = bytes,
                // Answered by the library when it is next flushed.
                Some(Ok(Message::Ping(_))) => self.socket.flush().await.map_err(broken)?,
                Some(Ok(Message::Pong(_) | Message::Frame(_))) => {}
                // A text message ends the connection (MQTT 5 §6.0).
                Some(Ok(Message::Text(_) | Message::Close(_)) | Err(_)) | None => self.ended = true,
            }
        }
        Ok(())
    }

    fn take(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        let taken = std::mem::take(&mut self.taken);
        if taken.is_empty() && !self.ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        into.extend_from_slice(&taken);
        Ok(taken.len())
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.send(Message::Binary(Bytes::copy_from_slice(bytes))).await.map_err(broken)
    }

    async fn finish(&mut self) {
        let _ = self.socket.close(None).await;
    }
}

fn broken(_: tungstenite::Error) -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}
