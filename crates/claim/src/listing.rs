//! Where a device is listed: ids of applications, and of devices in them.

use std::fmt;

/// An id of an application, or of a device in one: `^[a-z0-9](?:[-]?[a-z0-9]){2,}$`, at most 36 characters, not `batch`,
/// which is a route. The Things Stack's rule for ids.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListingId(String);

/// A text that is no [`ListingId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListingIdFault {
    /// Not a-z, 0-9 and single hyphens between them, three at least.
    Form,
    /// Longer than 36 characters.
    TooLong,
    /// `batch`.
    Reserved,
}

impl fmt::Display for ListingIdFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "a-z, 0-9, single hyphens between them, at least 3 characters",
            Self::TooLong => "at most 36 characters",
            Self::Reserved => "`batch` is reserved",
        })
    }
}

impl std::error::Error for ListingIdFault {}

impl ListingId {
    /// The longest id, in characters.
    pub const CHARACTERS: usize = 36;

    /// Checks an id.
    pub fn parse(text: &str) -> Result<Self, ListingIdFault> {
        let letters = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if !letters || text.len() < 3 || text.starts_with('-') || text.ends_with('-') || text.contains("--") {
            return Err(ListingIdFault::Form);
        }
        if text.len() > Self::CHARACTERS {
            return Err(ListingIdFault::TooLong);
        }
        if text == "batch" {
            return Err(ListingIdFault::Reserved);
        }
        Ok(Self(text.to_owned()))
    }

    /// An id made from a device's name: lower case, other characters as hyphens. `suffix` tells it from the others of a
    /// clash; 0 adds none.
    pub fn from_name(name: &str, suffix: u32) -> Self {
        let mut id = String::with_capacity(name.len());
        for letter in name.chars().flat_map(char::to_lowercase) {
            match letter {
                'a'..='z' | '0'..='9' => id.push(letter),
                _ if !id.is_empty() && !id.ends_with('-') => id.push('-'),
                _ => {}
            }
        }
        let tail = if suffix == 0 { String::new() } else { format!("-{suffix}") };
        id.truncate(Self::CHARACTERS - tail.len());
        let id = id.trim_end_matches('-');
        let whole = format!("{id}{tail}");
        let whole = whole.trim_start_matches('-');
        Self::parse(whole).unwrap_or_else(|_| Self(format!("device-{}", whole.trim_matches('-')))).or_plain(suffix)
    }

    /// What is left of a name without one usable character.
    fn or_plain(self, suffix: u32) -> Self {
        if Self::parse(&self.0).is_ok() { self } else { Self(format!("device-{suffix}")) }
    }

    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ListingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ListingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_the_things_stack() {
        for good in ["abc", "a-b", "pump-7", "0004", &"a".repeat(36), "batch-1"] {
            assert_eq!(ListingId::parse(good).map(|id| id.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "ab", "-ab", "ab-", "a--b", "Pump", "a b", "a_b", "ä-b"] {
            assert_eq!(ListingId::parse(bad), Err(ListingIdFault::Form), "{bad}");
        }
        assert_eq!(ListingId::parse(&"a".repeat(37)), Err(ListingIdFault::TooLong));
        assert_eq!(ListingId::parse("batch"), Err(ListingIdFault::Reserved));
    }

    #[test]
    fn every_name_makes_an_id() {
        for (name, suffix, id) in [
            ("Pump 7", 0, "pump-7"),
            ("Pump 7", 2, "pump-7-2"),
            ("  Ölpumpe / Süd  ", 0, "lpumpe-s-d"),
            ("batch", 0, "device-batch"),
            ("x", 0, "device-x"),
            ("泵", 0, "device-0"),
            ("泵", 3, "device-3"),
            (&"long name ".repeat(9), 0, "long-name-long-name-long-name-long-n"),
            (&"long name ".repeat(9), 12, "long-name-long-name-long-name-lon-12"),
        ] {
            let made = ListingId::from_name(name, suffix);
            assert_eq!(made.as_str(), id);
            assert_eq!(ListingId::parse(made.as_str()), Ok(made.clone()));
        }
    }
}
