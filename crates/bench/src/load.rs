//! The load: bytes made beforehand, every answer looked at. One thread, so that it stays on the core it was given.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use coap_lite::{CoapOption, MessageClass, MessageType, Packet, RequestType};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::LocalSet;

pub(crate) const BODY: &[u8] = br#"{"secretKey":"s3cret-0123456789","durationMs":60000}"#;
const TOPIC: &[u8] = b"v1/devices/me/claim";

/// What a run of load saw.
pub(crate) struct Run {
    pub(crate) operations: u64,
    pub(crate) took: Duration,
    /// Microseconds from sending to the answer.
    pub(crate) latency: Histogram<u64>,
}

type Outcome = Result<Histogram<u64>, String>;

fn histogram() -> Histogram<u64> {
    // Up to a minute; without bounds, what is beyond the first bucket would count as almost nothing.
    let histogram = Histogram::new_with_bounds(1, 60_000_000, 3);
    histogram.unwrap_or_else(|_| unreachable!("bounds and a precision that there are"))
}

/// Runs these clients at once on this thread and adds up what they saw.
fn together<F>(clients: Vec<F>) -> Result<Run, String>
where
    F: Future<Output = Outcome> + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let local = LocalSet::new();
    let started = Instant::now();
    let latency = local.block_on(&runtime, async {
        // Never asleep: on one machine the server would pay for waking the load up, the more the slower it is; a client
        // far away costs no server that.
        let awake = tokio::task::spawn_local(async {
            loop {
                tokio::task::yield_now().await;
            }
        });
        let tasks: Vec<_> = clients.into_iter().map(tokio::task::spawn_local).collect();
        let mut all = histogram();
        for task in tasks {
            all += task.await.map_err(|error| error.to_string())??;
        }
        awake.abort();
        Ok::<_, String>(all)
    })?;
    Ok(Run { operations: latency.len(), took: started.elapsed(), latency })
}

fn record(latency: &mut Histogram<u64>, sent: Instant) {
    latency.saturating_record(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX).max(1));
}

fn text(to: &mut Vec<u8>, text: &[u8]) {
    to.extend_from_slice(&(text.len() as u16).to_be_bytes());
    to.extend_from_slice(text);
}

fn mqtt_packet(first: u8, body: &[u8]) -> Vec<u8> {
    assert!(body.len() < 128, "one length byte");
    let mut packet = vec![first, body.len() as u8];
    packet.extend_from_slice(body);
    packet
}

/// MQTT 3.1.1 CONNECT with the access token as user name.
fn connect(client: usize, token: &str) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, b"MQTT");
    body.extend_from_slice(&[4, 0x82, 0, 60]);
    text(&mut body, format!("bench-{client}").as_bytes());
    text(&mut body, token.as_bytes());
    mqtt_packet(0x10, &body)
}

/// A claim at QoS 1 with packet id 0, and where that id is.
fn publish() -> (Vec<u8>, usize) {
    let mut body = Vec::new();
    text(&mut body, TOPIC);
    let id = 2 + body.len();
    body.extend_from_slice(&[0, 0]);
    body.extend_from_slice(BODY);
    (mqtt_packet(0x32, &body), id)
}

async fn open(address: &str) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| format!("{address}: {error}"))?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    Ok(stream)
}

async fn hello(stream: &mut TcpStream, client: usize, token: &str) -> Result<(), String> {
    stream.write_all(&connect(client, token)).await.map_err(|error| error.to_string())?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await.map_err(|error| format!("no CONNACK: {error}"))?;
    if answer == [0x20, 2, 0, 0] { Ok(()) } else { Err(format!("refused: {answer:?}")) }
}

/// Each token's connection keeps `window` claims open until it has had `claims` acks.
pub(crate) fn mqtt(address: &str, tokens: &[String], window: usize, claims: usize) -> Result<Run, String> {
    let clients = tokens.iter().cloned().enumerate();
    together(clients.map(|(n, token)| mqtt_client(address.to_owned(), n, token, window, claims)).collect())
}

async fn mqtt_client(address: String, client: usize, token: String, window: usize, claims: usize) -> Outcome {
    let mut stream = open(&address).await?;
    hello(&mut stream, client, &token).await?;
    let (template, id_at) = publish();
    let mut latency = histogram();
    let mut sent: VecDeque<(u16, Instant)> = VecDeque::with_capacity(window);
    let (mut next_id, mut unsent) = (1_u16, claims);
    let mut out = Vec::with_capacity(window * template.len());
    let (mut buffer, mut filled) = ([0; 4096], 0);
    loop {
        while sent.len() < window && unsent > 0 {
            let start = out.len();
            out.extend_from_slice(&template);
            out[start + id_at..start + id_at + 2].copy_from_slice(&next_id.to_be_bytes());
            sent.push_back((next_id, Instant::now()));
            next_id = next_id.checked_add(1).unwrap_or(1);
            unsent -= 1;
        }
        if !out.is_empty() {
            stream.write_all(&out).await.map_err(|error| error.to_string())?;
            out.clear();
        }
        if sent.is_empty() {
            return Ok(latency);
        }
        let read = stream.read(&mut buffer[filled..]).await.map_err(|error| error.to_string())?;
        if read == 0 {
            return Err("closed instead of a PUBACK".to_owned());
        }
        filled += read;
        let whole = filled / 4 * 4;
        for ack in buffer[..whole].chunks_exact(4) {
            // In PUBLISH order, as MQTT wants it.
            let Some((id, at)) = sent.pop_front() else { return Err("an ack too many".to_owned()) };
            if ack[..2] != [0x40, 2] || ack[2..] != id.to_be_bytes() {
                return Err(format!("not the ack of {id}: {ack:?}"));
            }
            record(&mut latency, at);
        }
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
    }
}

/// Connect, claim, disconnect: each token again and again, `times` in all a token.
pub(crate) fn cycles(address: &str, tokens: &[String], times: usize) -> Result<Run, String> {
    let clients = tokens.iter().cloned().enumerate();
    together(clients.map(|(n, token)| cycle_client(address.to_owned(), n, token, times)).collect())
}

async fn cycle_client(address: String, client: usize, token: String, times: usize) -> Outcome {
    let (mut claim, id_at) = publish();
    claim[id_at + 1] = 1;
    let mut latency = histogram();
    for _ in 0..times {
        let started = Instant::now();
        let mut stream = open(&address).await?;
        hello(&mut stream, client, &token).await?;
        stream.write_all(&claim).await.map_err(|error| error.to_string())?;
        let mut ack = [0; 4];
        stream.read_exact(&mut ack).await.map_err(|error| format!("no PUBACK: {error}"))?;
        if ack != [0x40, 2, 0, 1] {
            return Err(format!("not the ack: {ack:?}"));
        }
        stream.write_all(&[0xE0, 0]).await.map_err(|error| error.to_string())?;
        drop(stream);
        record(&mut latency, started);
    }
    Ok(latency)
}

/// How long a CoAP answer may take before the request is sent again, and how often that may happen in a run.
const RESEND: Duration = Duration::from_millis(300);
const MOST_REPEATS: u32 = 50;

/// What a CoAP server is asked for.
#[derive(Clone, Copy)]
pub(crate) struct CoapAsk {
    pub(crate) method: RequestType,
    /// `{}` stands for the token.
    pub(crate) path: &'static [&'static str],
    /// The codes that are right.
    pub(crate) codes: &'static [u8],
}

/// Confirmable requests, `outstanding` in all over the sockets, one socket a token.
pub(crate) fn coap(
    address: &str,
    tokens: &[String],
    ask: CoapAsk,
    outstanding: usize,
    requests: usize,
) -> Result<Run, String> {
    let sockets = tokens.len().min(outstanding);
    let clients = tokens.iter().take(sockets).cloned();
    together(
        clients
            .map(|token| coap_client(address.to_owned(), token, ask, outstanding / sockets, requests / sockets))
            .collect(),
    )
}

async fn coap_client(address: String, token: String, ask: CoapAsk, window: usize, requests: usize) -> Outcome {
    let socket = UdpSocket::bind("127.0.0.1:0").await.map_err(|error| error.to_string())?;
    socket.connect(&address).await.map_err(|error| error.to_string())?;
    let mut packet = Packet::new();
    packet.header.code = MessageClass::Request(ask.method);
    packet.header.set_type(MessageType::Confirmable);
    packet.set_token(vec![0; 4]);
    for segment in ask.path {
        packet.add_option(CoapOption::UriPath, if *segment == "{}" { &token } else { *segment }.as_bytes().to_vec());
    }
    packet.payload = BODY.to_vec();
    let mut bytes = packet.to_bytes().map_err(|error| format!("{error:?}"))?;
    // A message id is not used twice within its lifetime (RFC 7252 §4.4); a socket lives for one run.
    assert!(requests < 65_000, "message ids for one socket");
    let mut latency = histogram();
    let mut sent: Vec<Option<Instant>> = vec![None; requests];
    let (mut next, mut open, mut repeats) = (0, 0, 0);
    let mut buffer = [0; 2048];
    loop {
        while open < window && next < requests {
            bytes[2..4].copy_from_slice(&(next as u16 + 1).to_be_bytes());
            bytes[4..8].copy_from_slice(&(next as u32).to_be_bytes());
            sent[next] = Some(Instant::now());
            socket.send(&bytes).await.map_err(|error| error.to_string())?;
            next += 1;
            open += 1;
        }
        if open == 0 {
            return Ok(latency);
        }
        let length = match tokio::time::timeout(RESEND, socket.recv(&mut buffer)).await {
            Ok(received) => received.map_err(|error| error.to_string())?,
            // A full socket buffer drops datagrams; like any client, this one sends again.
            Err(_) => {
                repeats += 1;
                if repeats > MOST_REPEATS {
                    return Err("answers were lost again and again".to_owned());
                }
                for number in (0..next).filter(|number| sent[*number].is_some()) {
                    bytes[2..4].copy_from_slice(&(number as u16 + 1).to_be_bytes());
                    bytes[4..8].copy_from_slice(&(number as u32).to_be_bytes());
                    socket.send(&bytes).await.map_err(|error| error.to_string())?;
                }
                continue;
            }
        };
        if length < 8 || !ask.codes.contains(&buffer[1]) {
            return Err(format!("not the answer: {:?}", &buffer[..length.min(16)]));
        }
        let number = u32::from_be_bytes([buffer[4], buffer[5], buffer[6], buffer[7]]) as usize;
        let Some(at) = sent.get_mut(number).and_then(Option::take) else {
            // The answer to one of them sent again.
            if repeats > 0 && number < next {
                continue;
            }
            return Err("an answer twice".to_owned());
        };
        record(&mut latency, at);
        open -= 1;
    }
}

/// Claims over kept-alive HTTP/1.1, one at a time on each token's connection.
pub(crate) fn http(address: &str, tokens: &[String], claims: usize) -> Result<Run, String> {
    let clients = tokens.iter().cloned();
    together(clients.map(|token| http_client(address.to_owned(), token, claims)).collect())
}

async fn http_client(address: String, token: String, claims: usize) -> Outcome {
    let mut stream = open(&address).await?;
    let mut request = format!(
        "POST /api/v1/{token}/claim HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        BODY.len()
    )
    .into_bytes();
    request.extend_from_slice(BODY);
    let mut latency = histogram();
    let mut buffer = [0; 4096];
    for _ in 0..claims {
        let sent = Instant::now();
        stream.write_all(&request).await.map_err(|error| error.to_string())?;
        let mut filled = 0;
        while filled < 4 || buffer[filled - 4..filled] != *b"\r\n\r\n" {
            let read = stream.read(&mut buffer[filled..]).await.map_err(|error| error.to_string())?;
            if read == 0 {
                return Err("closed instead of an answer".to_owned());
            }
            filled += read;
        }
        if !buffer.starts_with(b"HTTP/1.1 200") {
            return Err(String::from_utf8_lossy(&buffer[..filled]).into_owned());
        }
        record(&mut latency, sent);
    }
    Ok(latency)
}

/// Signed-in MQTT connections that say nothing.
pub(crate) struct Idle {
    _streams: Vec<std::net::TcpStream>,
}

/// Opens so many, numbered from `first`.
pub(crate) fn idle(address: &str, token: &str, first: usize, count: usize) -> Result<Idle, String> {
    use std::io::{Read as _, Write as _};
    let mut streams = Vec::with_capacity(count);
    for number in first..first + count {
        let mut stream = std::net::TcpStream::connect(address).map_err(|error| error.to_string())?;
        stream.write_all(&connect(number, token)).map_err(|error| error.to_string())?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).map_err(|error| format!("no CONNACK: {error}"))?;
        if answer != [0x20, 2, 0, 0] {
            return Err(format!("refused: {answer:?}"));
        }
        streams.push(stream);
    }
    Ok(Idle { _streams: streams })
}
