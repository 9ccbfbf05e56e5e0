//! What a device may ask over HTTP: `POST /api/v1/{token}/claim`, `GET /api/v1/{token}/claim[?wait=30s]`.
//!
//! The order is path, method, credential, body, submit; nothing of a body is read for a stranger. HTTP bodies are JSON
//! whatever the device's profile says (thingsboard.md 2.1).

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use claim::event::StateFeed;
use claim::{BodyFormat, DeviceCredential, Intake, Origin, Timestamp, Transport};
use hyper::{Method, Request, Response};

use crate::config::{Config, Limits};
use crate::listener::{Answer, Collected, Timely, collect};
use crate::reply;
use crate::wait::{Asked, Waiting};

/// What the device API needs.
pub struct DeviceApiParts<'a> {
    /// The domain.
    pub intake: Intake,
    /// Where claim states come from, for devices that wait.
    pub feed: &'a StateFeed,
    /// The wall clock.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// The next request's id; one sequence for the whole process.
    pub request_ids: Arc<AtomicU64>,
    /// The `[http]` section.
    pub config: Config,
    /// Shared bounds.
    pub limits: Limits,
}

/// The device API. Cheap to clone.
#[derive(Clone)]
pub struct DeviceApi {
    parts: Arc<Parts>,
}

struct Parts {
    intake: Intake,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    request_ids: Arc<AtomicU64>,
    payload_bytes: usize,
    waiting: Arc<Waiting>,
}

impl DeviceApi {
    /// The device API over these parts; subscribes to the feed.
    pub fn new(parts: DeviceApiParts<'_>) -> Self {
        let waiting = Arc::new(Waiting::new(&parts.config));
        parts.feed.subscribe(waiting.clone());
        Self {
            parts: Arc::new(Parts {
                intake: parts.intake,
                clock: parts.clock,
                request_ids: parts.request_ids,
                payload_bytes: parts.limits.payload_bytes,
                waiting,
            }),
        }
    }

    /// Counts a limit that was met before a request came to be one.
    pub(crate) fn limit_reached(&self, limit: &'static str) {
        self.parts.intake.meter().limit_reached(limit);
    }

    /// Answers a request for `/api/v1/…`, of whose path the last `path` bytes are ours; and says whether the device has
    /// shown a valid credential.
    pub(crate) async fn answer(
        &self,
        mut request: Request<Timely>,
        path: usize,
        peer: IpAddr,
        seat: &listener::Seat,
    ) -> (Response<Answer>, bool) {
        let started = Instant::now();
        let whole = request.uri().path();
        // `{token}/claim` and nothing else.
        let Some((token, "claim")) = whole[whole.len() - path..].split_once('/').filter(|(token, _)| !token.is_empty())
        else {
            return (reply::not_found(), false);
        };
        let posted = match *request.method() {
            Method::POST => true,
            Method::GET => false,
            _ => return (reply::wrong_method(), false),
        };
        let asked = match posted {
            true => None,
            false => match Asked::parse(request.uri().query().unwrap_or_default(), request.headers()) {
                Ok(asked) => Some(asked),
                Err(text) => return (reply::malformed(text), false),
            },
        };
        let origin = Origin {
            transport: Some(Transport::Http),
            address: peer,
            address_proven: true,
            request_id: self.parts.request_ids.fetch_add(1, Ordering::Relaxed),
        };
        let token = decode(token);
        let credential = DeviceCredential::AccessToken(&token);
        let device = match self.parts.intake.authenticate(credential, &origin, (self.parts.clock)()).await {
            Ok(device) => device,
            Err(error) => return (reply::not_authenticated(error), false),
        };
        if let Some(asked) = asked {
            // Boxed: few devices wait, and those that do not should not carry the room for it.
            let state =
                Box::pin(self.parts.waiting.state(&self.parts.intake, &device, asked, &*self.parts.clock, seat));
            return (state.await, true);
        }
        let body = match collect(request.body_mut(), self.parts.payload_bytes).await {
            Collected::Whole(body) => body,
            Collected::TooLarge => {
                self.parts.intake.refused_unread(&device, &origin, (self.parts.clock)());
                return (reply::too_large(self.parts.payload_bytes), true);
            }
            Collected::TooSlow => {
                self.parts.intake.meter().limit_reached("timeouts.http_request");
                return (reply::too_slow(), true);
            }
            Collected::Broken => return (reply::malformed("the body broke off, or its chunks are broken"), true),
        };
        let now = (self.parts.clock)();
        let result = self.parts.intake.submit(&device, &body, BodyFormat::Json, &origin, now).await;
        self.parts.intake.meter().submit_seconds(Transport::Http, started.elapsed().as_secs_f64());
        (reply::submitted(&result), true)
    }
}

/// Decodes a path segment once. What does not decode is taken as it is: it is no device's token.
fn decode(segment: &str) -> Cow<'_, str> {
    if !segment.contains('%') {
        return Cow::Borrowed(segment);
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let hex = |byte: Option<u8>| byte.and_then(|byte| (byte as char).to_digit(16));
                match (hex(rest.next()), hex(rest.next())) {
                    (Some(high), Some(low)) => (high * 16 + low) as u8,
                    _ => return Cow::Borrowed(segment),
                }
            }
            other => other,
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).map_or(Cow::Borrowed(segment), Cow::Owned)
}
