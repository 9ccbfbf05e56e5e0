//! Claim bodies in JSON (RFC 8259), read without building a tree: known members are borrowed from the body, unknown ones
//! skipped.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{BatchEntry, ChildMessage, ClaimMessage, DEPTH, GatewayBatch, Malformed, shown};
use crate::device::DeviceName;
use crate::secret::{ClaimSecret, SecretFault};

pub(super) fn claim(body: &[u8]) -> Result<ClaimMessage<'_>, Malformed> {
    if body.is_empty() {
        return Ok(ClaimMessage { secret: ClaimSecret::EMPTY, duration_ms: None });
    }
    let (mut secret_raw, mut duration_raw) = (None, None);
    members(body, |name, value| match name {
        "secretKey" => secret_raw = Some(value),
        "durationMs" => duration_raw = Some(value),
        _ => {}
    })?;
    Ok(ClaimMessage {
        secret: secret_raw.map_or(Ok(ClaimSecret::EMPTY), secret_value)?,
        duration_ms: duration_raw.map_or(Ok(None), duration_value)?,
    })
}

pub(super) fn batch(body: &[u8]) -> Result<GatewayBatch<'_>, Malformed> {
    let mut entries = Vec::new();
    let mut names = HashSet::new();
    let mut twice = false;
    members(body, |raw, value| {
        let name = DeviceName::parse(raw).map_err(|_| shown(raw));
        // Two spellings of one name are one device, so the check is made after normalisation too.
        twice |= name.as_ref().is_ok_and(|name| !names.insert(name.shared()));
        let message = match (&name, value.get().as_bytes().first()) {
            (Err(_), _) => Err(Malformed::Name),
            (Ok(_), Some(b'{')) => claim(value.get().as_bytes()),
            (Ok(_), _) => Err(Malformed::EntryNotAnObject),
        };
        entries.push(BatchEntry { name, message });
    })
    .map_err(|fault| if fault == Malformed::DuplicateMember { Malformed::DuplicateDevice } else { fault })?;
    if twice {
        return Err(Malformed::DuplicateDevice);
    }
    if entries.is_empty() {
        return Err(Malformed::Empty);
    }
    Ok(GatewayBatch { entries })
}

pub(super) fn child(body: &[u8]) -> Result<ChildMessage, Malformed> {
    let (mut device, mut profile) = (None, None);
    members(body, |name, value| match name {
        "device" => device = Some(value),
        "type" => profile = Some(value),
        _ => {}
    })?;
    let text = |value: &RawValue| serde_json::from_str::<String>(value.get()).ok();
    let device = device.and_then(text).and_then(|name| DeviceName::parse(&name).ok()).ok_or(Malformed::Name)?;
    Ok(ChildMessage { device, profile: profile.and_then(text).filter(|t| !t.is_empty()) })
}

/// The secret of an owner's request body (thingsboard.md 3): the same coercions; no body, `null` and `{}` mean the
/// empty secret.
pub fn owner_secret(body: &[u8]) -> Result<ClaimSecret<'_>, Malformed> {
    if body.trim_ascii() == b"null" {
        return Ok(ClaimSecret::EMPTY);
    }
    let mut secret_raw = None;
    if !body.is_empty() {
        members(body, |name, value| {
            if name == "secretKey" {
                secret_raw = Some(value);
            }
        })?;
    }
    secret_raw.map_or(Ok(ClaimSecret::EMPTY), secret_value)
}

pub(super) fn secret<'a>(text: impl Into<Cow<'a, str>>) -> Result<ClaimSecret<'a>, Malformed> {
    ClaimSecret::parse(text).map_err(|fault| match fault {
        SecretFault::TooLong => Malformed::SecretTooLong,
        SecretFault::Nul => Malformed::SecretNul,
    })
}

/// Text, or a number or truth value as written; `null` is absent.
fn secret_value(value: &RawValue) -> Result<ClaimSecret<'_>, Malformed> {
    let raw = value.get();
    match raw.as_bytes().first() {
        Some(b'"') => secret(text(raw)?),
        Some(b'{' | b'[') | None => Err(Malformed::SecretType),
        Some(b'n') => Ok(ClaimSecret::EMPTY),
        Some(_) => secret(raw),
    }
}

/// A number, cut to a whole one, or a text of digits with or without a sign; `null` is absent. Beyond 64 bits it is
/// clamped, so that no length of digits turns a long lifetime into a short one.
fn duration_value(value: &RawValue) -> Result<Option<i64>, Malformed> {
    let raw = value.get();
    match raw.as_bytes().first() {
        Some(b'n') => Ok(None),
        Some(b'"') => whole(&text(raw)?).map(Some).ok_or(Malformed::Duration),
        Some(b'-' | b'0'..=b'9') => Ok(Some(whole(raw).unwrap_or_else(|| {
            // A fraction or exponent; `as` cuts towards zero and saturates.
            raw.parse::<f64>().map_or(i64::MAX, |number| number as i64)
        }))),
        _ => Err(Malformed::Duration),
    }
}

/// A whole number of any length, clamped to 64 bits; `None` when it is not one.
fn whole(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(if text.starts_with('-') { i64::MIN } else { i64::MAX }))
}

fn text(raw: &str) -> Result<Cow<'_, str>, Malformed> {
    // `Cow<str>` borrows through a newtype only with `#[serde(borrow)]`; `&str` fails on escapes, so it is tried first.
    match serde_json::from_str::<&str>(raw) {
        Ok(text) => Ok(Cow::Borrowed(text)),
        Err(_) => serde_json::from_str::<String>(raw).map(Cow::Owned).map_err(|_| Malformed::NotJson),
    }
}

/// Hands each member of the one object in `body` to `each`; refuses anything else.
fn members<'a>(body: &'a [u8], each: impl FnMut(&str, &'a RawValue)) -> Result<(), Malformed> {
    let body = std::str::from_utf8(body).map_err(|_| Malformed::NotJson)?;
    if depth(body.as_bytes()) > DEPTH {
        return Err(Malformed::TooDeep);
    }
    let mut twice = false;
    let mut reader = serde_json::Deserializer::from_str(body);
    let read = reader.deserialize_map(Members { each, twice: &mut twice });
    if read.is_err() || reader.end().is_err() {
        if twice {
            return Err(Malformed::DuplicateMember);
        }
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(body).is_ok();
        return Err(if is_json { Malformed::NotAnObject } else { Malformed::NotJson });
    }
    if twice { Err(Malformed::DuplicateMember) } else { Ok(()) }
}

struct Members<'t, F> {
    each: F,
    twice: &'t mut bool,
}

impl<'de, F: FnMut(&str, &'de RawValue)> Visitor<'de> for Members<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut seen = Seen::default();
        while let Some(name) = map.next_key::<Name<'de>>()? {
            let value: &'de RawValue = map.next_value()?;
            *self.twice |= !seen.insert(&name.0);
            (self.each)(&name.0, value);
        }
        Ok(())
    }
}

/// A member's name, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// The names seen in one object: a few in place, then a set, so that the usual two members cost no allocation and
/// thousands no square.
#[derive(Default)]
struct Seen {
    few: Vec<Box<str>>,
    many: HashSet<Box<str>>,
    secret_key: bool,
    duration_ms: bool,
}

impl Seen {
    fn insert(&mut self, name: &str) -> bool {
        match name {
            "secretKey" => !std::mem::replace(&mut self.secret_key, true),
            "durationMs" => !std::mem::replace(&mut self.duration_ms, true),
            _ if self.few.len() < 8 => {
                let new = !self.few.iter().any(|seen| &**seen == name);
                self.few.push(name.into());
                new
            }
            _ => !self.few.iter().any(|seen| &**seen == name) && self.many.insert(name.into()),
        }
    }
}

/// How deep the brackets nest; counts without recursion, stops counting at the first level too deep. On text that is
/// not JSON the figure means nothing, and the parser says so afterwards.
fn depth(body: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0usize, 0usize, false, false);
    for &byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
                if deepest > DEPTH {
                    return deepest;
                }
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}
