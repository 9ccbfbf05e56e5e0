//! `GET /api/v1/{token}/claim?wait=30s`: a device without a session learns its claim state as soon as it changes.
//!
//! Each answer has an `ETag`. With `If-None-Match` the answer comes when the state is another one (304 after the wait);
//! without it, when the state changes, or at once when the device is claimed already. The feed only rings; the state is
//! read again from the domain, so an answer is never older than the ring.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use claim::{AuthenticatedDevice, ClaimState, DeviceId, Intake, StateChange, StateListener, Timestamp, Unavailable};
use hyper::Response;
use hyper::header::{HeaderMap, HeaderValue, IF_NONE_MATCH};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::Config;
use crate::listener::Answer;
use crate::reply;

/// What a GET asks for.
pub(crate) struct Asked {
    wait: Duration,
    /// The state the device has already seen.
    seen: Option<HeaderValue>,
}

impl Asked {
    /// Reads `wait=30s`, `wait=30` or `wait=500ms`; other parameters are ignored. `Err` tells the device what is wrong.
    pub(crate) fn parse(query: &str, headers: &HeaderMap) -> Result<Self, &'static str> {
        let mut wait = Duration::ZERO;
        for pair in query.split('&') {
            if let Some(text) = pair.strip_prefix("wait=") {
                wait = duration(text).ok_or("`wait` is not a time; send `wait=30s`")?;
            }
        }
        Ok(Self { wait, seen: headers.get(IF_NONE_MATCH).cloned() })
    }
}

fn duration(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit);
    if digits.is_empty() {
        return None;
    }
    // Longer than 64 bits is longer than allowed anyway.
    let number = digits.parse().unwrap_or(u64::MAX);
    match unit {
        "" | "s" => Some(Duration::from_secs(number)),
        "ms" => Some(Duration::from_millis(number)),
        "m" => Some(Duration::from_secs(number.saturating_mul(60))),
        _ => None,
    }
}

/// Who waits for which device.
pub(crate) struct Waiting {
    longest: Duration,
    most: usize,
    most_per_device: usize,
    /// How many wait; read before the lock is taken, since every claim of every device passes here.
    count: AtomicUsize,
    devices: Mutex<HashMap<DeviceId, Device>>,
}

#[derive(Default)]
struct Device {
    bell: Arc<Notify>,
    waiting: usize,
}

/// One who waits; leaves when dropped.
struct Place<'a> {
    waiting: &'a Waiting,
    device: DeviceId,
    bell: Arc<Notify>,
}

impl Waiting {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            longest: config.wait_max,
            most: config.waiting,
            most_per_device: config.waiting_per_device,
            count: AtomicUsize::new(0),
            devices: Mutex::default(),
        }
    }

    /// Answers with the device's claim state, perhaps after waiting for it to change.
    pub(crate) async fn state(
        &self,
        intake: &Intake,
        device: &AuthenticatedDevice,
        asked: Asked,
        clock: &(dyn Fn() -> Timestamp + Send + Sync),
        seat: &listener::Seat,
    ) -> Response<Answer> {
        if asked.wait.is_zero() {
            return match intake.claim_state(device, clock()).await {
                Ok(state) => shown(&state, asked.seen.as_ref()),
                Err(Unavailable) => reply::unavailable(),
            };
        }
        let Some(place) = self.enter(device.id()) else {
            intake.meter().limit_reached("http.waiting");
            return reply::no_room_to_wait();
        };
        let until = Instant::now() + asked.wait.min(self.longest);
        let mut draining = std::pin::pin!(seat.draining());
        let mut first = None;
        loop {
            // Asked for before the state is read, so that no change falls between.
            let ring = place.bell.notified();
            let now = clock();
            let state = match intake.claim_state(device, now).await {
                Ok(state) => state,
                Err(Unavailable) => return reply::unavailable(),
            };
            // A deleted device has the state of a silent one; only this tells them apart.
            match intake.still_exists(device).await {
                Ok(true) => {}
                Ok(false) => return reply::not_authenticated(claim::AuthError::Refused),
                Err(Unavailable) => return reply::unavailable(),
            }
            let news = match &asked.seen {
                Some(seen) => *seen != tag(&state),
                None => first.is_some_and(|first| first != state) || matches!(state, ClaimState::Claimed { .. }),
            };
            if news || Instant::now() >= until {
                return shown(&state, asked.seen.as_ref());
            }
            first.get_or_insert(state);
            // The end of an announcement rings no bell.
            let lapse = match state {
                ClaimState::Pending { expires_at } => until.min(Instant::now() + now.until(expires_at)),
                ClaimState::None | ClaimState::Claimed { .. } => until,
            };
            tokio::select! {
                () = ring => {}
                () = tokio::time::sleep_until(lapse) => {}
                () = &mut draining => return shown(&state, asked.seen.as_ref()),
            }
        }
    }

    fn enter(&self, device: DeviceId) -> Option<Place<'_>> {
        let mut devices = self.lock();
        if self.count.load(Ordering::Relaxed) >= self.most {
            return None;
        }
        let entry = devices.entry(device).or_default();
        // An entry exists only with someone in it, so a fresh one cannot be full (the bound is 1 or more).
        if entry.waiting >= self.most_per_device {
            return None;
        }
        entry.waiting += 1;
        self.count.fetch_add(1, Ordering::SeqCst);
        Some(Place { waiting: self, device, bell: Arc::clone(&entry.bell) })
    }

    fn ring(&self, device: DeviceId) {
        // Whoever enters later reads the state later, and so sees this change.
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        if let Some(device) = self.lock().get(&device) {
            device.bell.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DeviceId, Device>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut devices = self.waiting.lock();
        if let Some(entry) = devices.get_mut(&self.device) {
            entry.waiting -= 1;
            if entry.waiting == 0 {
                devices.remove(&self.device);
            }
        }
        self.waiting.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl StateListener for Waiting {
    fn changed(&self, change: &StateChange) {
        self.ring(change.device);
    }

    fn revoked(&self, device: DeviceId) {
        self.ring(device);
    }
}

/// The state, or 304 when the device has seen it.
fn shown(state: &ClaimState, seen: Option<&HeaderValue>) -> Response<Answer> {
    let tag = tag(state);
    if seen == Some(&tag) { reply::not_modified(tag) } else { reply::state(state, tag) }
}

/// The entity tag of a state (RFC 9110 §8.8.3).
fn tag(state: &ClaimState) -> HeaderValue {
    let text = match state {
        ClaimState::None => "\"none\"".to_owned(),
        ClaimState::Pending { expires_at } => format!("\"pending-{}\"", expires_at.as_millis()),
        ClaimState::Claimed { claimed_at } => format!("\"claimed-{}\"", claimed_at.as_millis()),
    };
    // Letters, digits, `-` and quotes only.
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("\"none\""))
}
