//! When a claim code works: `[from, to)`, either side open; and the instants people write.

use std::fmt;

use claim::Timestamp;
use claim::policy::{WindowState, window};

/// From when until just before when a code works. Whole milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    from: Option<Timestamp>,
    to: Option<Timestamp>,
}

/// Why a window or one of its ends cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowFault {
    /// It would end before it begins, or at once.
    Empty,
    /// Not an instant with a zone.
    NoInstant,
    /// An instant of no calendar, such as 31 February.
    NoSuchDay,
}

impl fmt::Display for WindowFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the window ends before it begins",
            Self::NoInstant => {
                "RFC 3339 with a zone expected, such as 2026-02-28T23:59:59Z or 2026-02-28T23:59:59+01:00"
            }
            Self::NoSuchDay => "no such day or time",
        })
    }
}

impl std::error::Error for WindowFault {}

impl Window {
    /// A window; `to` must be after `from`.
    pub fn new(from: Option<Timestamp>, to: Option<Timestamp>) -> Result<Self, WindowFault> {
        match (from, to) {
            (Some(from), Some(to)) if to <= from => Err(WindowFault::Empty),
            _ => Ok(Self { from, to }),
        }
    }

    /// Its first instant.
    pub fn from(self) -> Option<Timestamp> {
        self.from
    }

    /// The first instant after it.
    pub fn to(self) -> Option<Timestamp> {
        self.to
    }

    /// Whether a code with this window works at `now`.
    pub fn contains(self, now: Timestamp) -> bool {
        window(self.from, self.to, now) == WindowState::Open
    }
}

/// The instant that a text names: RFC 3339 §5.6 with `Z` or an offset. Parts of a millisecond are cut off.
pub fn parse_instant(text: &str) -> Result<Timestamp, WindowFault> {
    let text = text.trim();
    if !looks_like_rfc3339(text.as_bytes()) {
        return Err(WindowFault::NoInstant);
    }
    let instant: jiff::Timestamp = text.parse().map_err(|_| WindowFault::NoSuchDay)?;
    Ok(Timestamp::from_millis(instant.as_nanosecond().div_euclid(1_000_000) as i64))
}

/// An instant as RFC 3339 in UTC, with milliseconds if there are any.
pub fn show_instant(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.as_millis()).map_or_else(|_| at.as_millis().to_string(), |at| at.to_string())
}

/// The shape only: `jiff` takes more, such as zone names and dates without a time.
fn looks_like_rfc3339(text: &[u8]) -> bool {
    let Some((head, rest)) = text.split_at_checked(19) else { return false };
    let shape = b"0000-00-00T00:00:00";
    let same = |(byte, shape): (&u8, &u8)| match shape {
        b'0' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b't' | b' '),
        other => byte == other,
    };
    let fraction = rest.iter().skip(1).take_while(|byte| byte.is_ascii_digit()).count();
    let zone = match rest.first() {
        Some(b'.') if fraction > 0 => &rest[1 + fraction..],
        _ => rest,
    };
    let zoned = match zone {
        [b'Z' | b'z'] => true,
        [b'+' | b'-', hours @ .., b':', m1, m2] => {
            hours.len() == 2 && hours.iter().chain([m1, m2]).all(u8::is_ascii_digit)
        }
        _ => false,
    };
    head.iter().zip(shape).all(same) && zoned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn a_window_is_half_open_to_the_millisecond() {
        let window = Window::new(Some(at(1000)), Some(at(2000))).unwrap();
        assert!(!window.contains(at(999)) && window.contains(at(1000)));
        assert!(window.contains(at(1999)) && !window.contains(at(2000)));
        let from = Window::new(Some(at(1000)), None).unwrap();
        assert!(!from.contains(at(999)) && from.contains(at(i64::MAX)));
        let to = Window::new(None, Some(at(2000))).unwrap();
        assert!(to.contains(at(i64::MIN)) && !to.contains(at(2000)));
        assert!(Window::default().contains(at(0)));
    }

    #[test]
    fn a_window_without_an_instant_in_it_is_refused() {
        assert_eq!(Window::new(Some(at(5)), Some(at(5))), Err(WindowFault::Empty));
        assert_eq!(Window::new(Some(at(5)), Some(at(4))), Err(WindowFault::Empty));
        assert!(Window::new(Some(at(5)), Some(at(6))).is_ok());
    }

    #[test]
    fn instants_have_a_zone() {
        let ms = 1_772_323_199_000;
        for same in [
            "2026-02-28T23:59:59Z",
            "2026-02-28t23:59:59z",
            "2026-02-28 23:59:59Z",
            "2026-03-01T00:59:59+01:00",
            "2026-02-28T18:29:59-05:30",
            "2026-02-28T23:59:59.0009Z",
        ] {
            assert_eq!(parse_instant(same), Ok(at(ms)), "{same}");
        }
        assert_eq!(parse_instant("2026-02-28T23:59:59.001Z"), Ok(at(ms + 1)));
        assert_eq!(parse_instant("1969-12-31T23:59:59.9995Z"), Ok(at(-1)));
        for none in [
            "",
            "2026-02-28",
            "2026-02-28T23:59:59",
            "31/02/2026",
            "2026-02-28T23:59:59[Europe/Rome]",
            "tomorrow",
            "2026-02-28T23:59:59.Z",
            "2026-02-28T23:59:59+1:00",
            "2026-02-28T23:59Z",
        ] {
            assert_eq!(parse_instant(none), Err(WindowFault::NoInstant), "{none}");
        }
        for none in ["2026-02-31T00:00:00Z", "2026-13-01T00:00:00Z", "2026-01-01T25:00:00Z"] {
            assert_eq!(parse_instant(none), Err(WindowFault::NoSuchDay), "{none}");
        }
    }

    #[test]
    fn instants_are_shown_in_utc() {
        assert_eq!(show_instant(at(1_772_323_199_000)), "2026-02-28T23:59:59Z");
        assert_eq!(parse_instant(&show_instant(at(1_772_323_199_001))), Ok(at(1_772_323_199_001)));
    }
}
