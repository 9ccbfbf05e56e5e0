//! Where a body stops being what it should be, for the maker who watches. Only looked for then; says no byte of the body.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::{DEPTH, Malformed};
use crate::device::DeviceName;

/// The place of a fault that has one: line and column of a JSON text, both from 1, columns in bytes.
pub(crate) fn place(body: &[u8], fault: Malformed) -> Option<String> {
    let text = match std::str::from_utf8(body) {
        Ok(text) => text,
        Err(error) => {
            let not_text = matches!(fault, Malformed::NotJson);
            return not_text.then(|| format!("byte {} is not UTF-8", error.valid_up_to() + 1));
        }
    };
    match fault {
        // The parser's words name what it expected; of what it met only the place.
        Malformed::NotJson => serde_json::from_str::<IgnoredAny>(text).err().map(|error| error.to_string()),
        Malformed::DuplicateMember => repeated(text, str::to_owned),
        Malformed::DuplicateDevice => {
            repeated(text, |name| DeviceName::parse(name).map_or_else(|_| name.to_owned(), |name| name.to_string()))
        }
        Malformed::TooDeep => too_deep(text).map(|at| line_and_column(text, at)),
        _ => None,
    }
}

fn line_and_column(text: &str, at: usize) -> String {
    let before = &text.as_bytes()[..at];
    let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|&&byte| byte != b'\n').count() + 1;
    format!("line {line} column {column}")
}

/// Where the first name ends that was there before, in the one object that `text` is.
fn repeated(text: &str, same: fn(&str) -> String) -> Option<String> {
    struct Names(fn(&str) -> String);
    impl<'de> Visitor<'de> for Names {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            let mut seen = HashSet::new();
            while let Some(name) = map.next_key::<String>()? {
                if !seen.insert((self.0)(&name)) {
                    return Err(A::Error::custom("repeated"));
                }
                map.next_value::<IgnoredAny>()?;
            }
            Ok(())
        }
    }
    let error = serde_json::Deserializer::from_str(text).deserialize_map(Names(same)).err()?;
    (error.classify() == serde_json::error::Category::Data)
        .then(|| format!("line {} column {}", error.line(), error.column()))
}

/// The bracket that goes one level too deep.
fn too_deep(text: &str) -> Option<usize> {
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    text.bytes().position(|byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => depth += 1,
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > DEPTH
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{BodyFormat, ClaimMessage, GatewayBatch};

    fn claim(body: &str) -> Option<String> {
        place(body.as_bytes(), ClaimMessage::parse(body.as_bytes(), BodyFormat::Json).expect_err("malformed"))
    }

    #[test]
    fn the_place_of_a_fault_is_told_to_the_byte() {
        assert_eq!(claim("{\"secretKey\" \"s\"}").as_deref(), Some("expected `:` at line 1 column 14"));
        assert_eq!(
            claim("{\n  \"secretKey\":\"s\"").as_deref(),
            Some("EOF while parsing an object at line 2 column 17")
        );
        assert_eq!(claim("{'secretKey':1}").as_deref(), Some("key must be a string at line 1 column 2"));
        assert_eq!(claim("{\"a\":1,\"a\":2}").as_deref(), Some("line 1 column 10"));
        let deep = format!("{{\"x\":{}1{}}}", "[".repeat(16), "]".repeat(16));
        assert_eq!(claim(&deep).as_deref(), Some("line 1 column 21"));
        assert_eq!(place(b"{\"a\":\"\xff\"}", Malformed::NotJson).as_deref(), Some("byte 7 is not UTF-8"));
        let batch = "{\"caf\u{e9}\":{},\n\"cafe\u{301}\":{}}".as_bytes();
        let fault = GatewayBatch::parse(batch, BodyFormat::Json).expect_err("one device twice");
        assert_eq!((fault, place(batch, fault).as_deref()), (Malformed::DuplicateDevice, Some("line 2 column 8")));
        assert_eq!(claim(r#"{"durationMs":true}"#), None, "the rule says it all");
    }

    #[test]
    fn no_place_tells_what_stood_there() {
        const MARKER: &str = "M4rker";
        let whole = format!(r#"{{"secretKey":"{MARKER}","durationMs":1,"{MARKER}":[{{"{MARKER}":{MARKER}}}]}}"#);
        let mut told = 0;
        for end in 0..=whole.len() {
            for extra in ["", "}", "\"", MARKER, "\u{0}", "\\u12", "\\ud800\""] {
                let body = format!("{}{extra}", &whole[..end]);
                for fault in
                    [Malformed::NotJson, Malformed::DuplicateMember, Malformed::DuplicateDevice, Malformed::TooDeep]
                {
                    let place = place(body.as_bytes(), fault);
                    assert!(place.as_ref().is_none_or(|place| !place.contains(MARKER)), "{body}: {place:?}");
                    told += usize::from(place.is_some());
                }
            }
        }
        assert!(told > whole.len(), "places are told at all");
    }
}
