//! Canonical JSON (RFC 8785), for texts, whole numbers, booleans, nulls, and objects and lists of these: all that rows have.
//! Written here because this much of it is a screen, and the chain should not hang on a formatter of fractions.

use serde_json::{Number, Value};

/// Whole numbers up to here are what they seem in every reader (RFC 8785 §3.2.2.3: numbers are IEEE 754 doubles).
const EXACT: u64 = (1 << 53) - 1;

/// The one text of a value; `None` for a fraction.
pub fn canonical(value: &Value) -> Option<String> {
    let mut text = String::new();
    write(value, &mut text)?;
    Some(text)
}

fn write(value: &Value, to: &mut String) -> Option<()> {
    match value {
        Value::Null => to.push_str("null"),
        Value::Bool(true) => to.push_str("true"),
        Value::Bool(false) => to.push_str("false"),
        Value::Number(number) => to.push_str(&whole(number)?),
        Value::String(text) => quote(text, to),
        Value::Array(values) => {
            to.push('[');
            for (n, value) in values.iter().enumerate() {
                if n > 0 {
                    to.push(',');
                }
                write(value, to)?;
            }
            to.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            // By UTF-16 code units (§3.2.3), which is neither the order of bytes nor of characters.
            members.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            to.push('{');
            for (n, (name, value)) in members.into_iter().enumerate() {
                if n > 0 {
                    to.push(',');
                }
                quote(name, to);
                to.push(':');
                write(value, to)?;
            }
            to.push('}');
        }
    }
    Some(())
}

/// §3.2.2.2 asks for what `serde_json` writes: short escapes where JSON has them, `\u00xx` for other controls, all else as is.
fn quote(text: &str, to: &mut String) {
    to.push_str(&Value::from(text).to_string());
}

fn whole(number: &Number) -> Option<String> {
    let (negative, size) = match (number.as_u64(), number.as_i64()) {
        (Some(size), _) => (false, size),
        (None, Some(below_zero)) => (true, below_zero.unsigned_abs()),
        (None, None) => return None,
    };
    let digits = if size <= EXACT { size.to_string() } else { rounded(size) };
    Some(if negative { format!("-{digits}") } else { digits })
}

/// As ECMAScript writes the nearest double: its shortest digits, then zeros.
fn rounded(size: u64) -> String {
    let shortest = format!("{:e}", size as f64);
    let (digits, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let digits: String = digits.chars().filter(char::is_ascii_digit).collect();
    let length = exponent.parse::<usize>().unwrap_or(0) + 1;
    format!("{digits:0<length$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn members_stand_in_the_order_of_utf_16() {
        // The example of RFC 8785 §3.2.3, without its fractions.
        let value = json!({"\u{20ac}": 1, "\r": 2, "\u{fb33}": 3, "1": 4, "\u{1f600}": 5, "\u{80}": 6, "\u{f6}": 7});
        let expected = "{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"\u{f6}\":7,\"\u{20ac}\":1,\"\u{1f600}\":5,\"\u{fb33}\":3}";
        assert_eq!(canonical(&value).as_deref(), Some(expected));
    }

    #[test]
    fn texts_are_escaped_where_they_must_be_and_nowhere_else() {
        // The text of RFC 8785 §3.2.2.2.
        let value = json!({"string": "\u{20ac}$\u{000f}\u{000a}A'\u{0042}\u{0022}\u{005c}\\\"/"});
        assert_eq!(canonical(&value).as_deref(), Some(r#"{"string":"€$\u000f\nA'B\"\\\\\"/"}"#));
        let controls: String = (0..0x20_u8).map(char::from).chain(['\u{7f}']).collect();
        let expected = "\"\\u0000\\u0001\\u0002\\u0003\\u0004\\u0005\\u0006\\u0007\\b\\t\\n\\u000b\\f\\r\\u000e\\u000f\
            \\u0010\\u0011\\u0012\\u0013\\u0014\\u0015\\u0016\\u0017\\u0018\\u0019\\u001a\\u001b\\u001c\\u001d\\u001e\
            \\u001f\u{7f}\"";
        assert_eq!(canonical(&json!(controls)).as_deref(), Some(expected));
    }

    #[test]
    fn whole_numbers_are_written_as_doubles_are() {
        for (value, expected) in [
            (json!(0), "0"),
            (json!(-1), "-1"),
            (json!(1_700_000_000_000_i64), "1700000000000"),
            (json!(9_007_199_254_740_991_i64), "9007199254740991"),
            (json!(9_007_199_254_740_993_i64), "9007199254740992"),
            (json!(i64::MAX), "9223372036854776000"),
            (json!(i64::MIN), "-9223372036854776000"),
            (json!(u64::MAX), "18446744073709552000"),
            (json!(10_000_000_000_000_000_000_u64), "10000000000000000000"),
        ] {
            assert_eq!(canonical(&value).as_deref(), Some(expected), "{value}");
        }
        assert_eq!(canonical(&json!({"a": [1.5]})), None, "a fraction");
    }

    #[test]
    fn lists_and_objects_have_no_space() {
        let value = json!({"b": [null, true, false, [], {}], "a": {"y": "z", "x": 1}});
        assert_eq!(canonical(&value).as_deref(), Some(r#"{"a":{"x":1,"y":"z"},"b":[null,true,false,[],{}]}"#));
    }
}
