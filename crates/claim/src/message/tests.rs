//! The body table of thingsboard.md 2.3 and the batch rules of 2.4, row by row, and both against a slow reader.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::{DeviceId, Keyring, SecretDigest, TenantId};

/// What a body says: the digest of its secret (the type shows no more) and its duration.
type Parsed = Result<(SecretDigest, Option<i64>), Malformed>;

fn json(body: &str) -> Parsed {
    bytes(body.as_bytes(), BodyFormat::Json)
}

fn bytes(body: &[u8], format: BodyFormat) -> Parsed {
    let message = ClaimMessage::parse(body, format)?;
    Ok((digest(&message.secret), message.duration_ms))
}

fn digest(secret: &ClaimSecret<'_>) -> SecretDigest {
    let keyring = Keyring::from_root(&[1; 32]);
    secret.digest(&keyring, TenantId::from_bytes([2; 16]), DeviceId::from_bytes([3; 16]))
}

fn secret(text: &str) -> Parsed {
    with(text, None)
}

fn with(text: &str, duration_ms: Option<i64>) -> Parsed {
    Ok((digest(&ClaimSecret::parse(text).expect("a secret")), duration_ms))
}

#[test]
fn nothing_and_an_empty_object_mean_all_defaults() {
    for body in ["", "{}", " {} ", "{\n}"] {
        assert_eq!(json(body), secret(""), "{body:?}");
    }
}

#[test]
fn what_is_no_single_json_object_is_malformed() {
    for body in [
        " ",
        "\r\n\t",
        "{",
        "{} x",
        "{}{}",
        "{secretKey:\"a\"}",
        "{'secretKey':'a'}",
        "{/*x*/}",
        "{\"a\"=1}",
        "{\"a\":1;\"b\":2}",
        "\u{feff}{}",
    ] {
        assert_eq!(json(body), Err(Malformed::NotJson), "{body:?}");
    }
    for body in ["null", "[]", "\"x\"", "1", "true"] {
        assert_eq!(json(body), Err(Malformed::NotAnObject), "{body:?}");
    }
    assert_eq!(bytes(b"{\"a\":\"\xff\"}", BodyFormat::Json), Err(Malformed::NotJson));
}

#[test]
fn a_member_twice_is_malformed_whichever_it_is() {
    for body in [
        r#"{"secretKey":"a","secretKey":"a"}"#,
        r#"{"durationMs":1,"durationMs":1}"#,
        r#"{"x":1,"x":2}"#,
        r#"{"secretKey":"a","secret\u004bey":"b"}"#,
        r#"{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"i":1}"#,
        r#"{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"a":1}"#,
    ] {
        assert_eq!(json(body), Err(Malformed::DuplicateMember), "{body}");
    }
}

#[test]
fn members_that_are_not_ours_are_passed_over() {
    assert_eq!(json(r#"{"foo":{"bar":[1]},"secretkey":"no","SecretKey":"no"}"#), secret(""));
}

#[test]
fn a_secret_is_text_or_a_scalar_as_written() {
    assert_eq!(json(r#"{"secretKey":12.50}"#), secret("12.50"));
    assert_eq!(json(r#"{"secretKey":1e3}"#), secret("1e3"));
    assert_eq!(json(r#"{"secretKey":true}"#), secret("true"));
    assert_eq!(json(r#"{"secretKey":null}"#), secret(""));
    assert_eq!(json(r#"{"secretKey":"\u00e4\"\\"}"#), secret("\u{e4}\"\\"));
    assert_eq!(json(r#"{"secretKey":{}}"#), Err(Malformed::SecretType));
    assert_eq!(json(r#"{"secretKey":["a"]}"#), Err(Malformed::SecretType));
}

#[test]
fn a_secret_has_256_bytes_at_most_and_no_nul() {
    for (length, expected) in [(255, true), (256, true), (257, false)] {
        let text = "s".repeat(length);
        let parsed = json(&format!(r#"{{"secretKey":"{text}"}}"#));
        assert_eq!(parsed, if expected { secret(&text) } else { Err(Malformed::SecretTooLong) }, "{length}");
    }
    let umlauts = "ä".repeat(128);
    assert_eq!(json(&format!(r#"{{"secretKey":"{umlauts}"}}"#)), secret(&umlauts), "bytes count, not characters");
    assert_eq!(json(&format!(r#"{{"secretKey":"{umlauts}x"}}"#)), Err(Malformed::SecretTooLong));
    assert_eq!(json(r#"{"secretKey":"a\u0000b"}"#), Err(Malformed::SecretNul));
}

#[test]
fn a_duration_is_a_number_or_digits_and_never_overflows() {
    let duration = |value: &str| json(&format!(r#"{{"durationMs":{value}}}"#)).map(|(_, ms)| ms);
    for (value, expected) in [
        ("30000", Some(30_000)),
        ("\"30000\"", Some(30_000)),
        ("\"+5\"", Some(5)),
        ("\"-5\"", Some(-5)),
        ("1.9", Some(1)),
        ("-1.9", Some(-1)),
        ("1e3", Some(1_000)),
        ("0", Some(0)),
        ("-1", Some(-1)),
        ("null", None),
        ("9223372036854775807", Some(i64::MAX)),
        ("9223372036854775808", Some(i64::MAX)),
        ("-9223372036854775809", Some(i64::MIN)),
        ("99999999999999999999999999", Some(i64::MAX)),
        ("\"99999999999999999999999999\"", Some(i64::MAX)),
        ("1e400", Some(i64::MAX)),
    ] {
        assert_eq!(duration(value), Ok(expected), "{value}");
    }
    for value in ["\"abc\"", "\"\"", "\"1e3\"", "\"1.5\"", "\" 1\"", "true", "{}", "[1]"] {
        assert_eq!(duration(value), Err(Malformed::Duration), "{value}");
    }
}

#[test]
fn depth_is_sixteen_at_most_and_brackets_in_text_do_not_count() {
    let deep = |levels: usize| format!("{{\"x\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
    assert_eq!(json(&deep(15)), secret(""));
    assert_eq!(json(&deep(16)), secret(""));
    assert_eq!(json(&deep(17)), Err(Malformed::TooDeep));
    assert_eq!(json(&deep(30_000)), Err(Malformed::TooDeep));
    let text = "[{".repeat(50);
    assert_eq!(json(&format!(r#"{{"secretKey":"\"{text}"}}"#)), secret(&format!("\"{text}")));
}

#[test]
fn protobuf_follows_the_same_limits() {
    use prost::Message as _;
    let claim = |secret_key: String, duration_ms| protobuf::ClaimDevice { secret_key, duration_ms }.encode_to_vec();
    let parse = |body: &[u8]| bytes(body, BodyFormat::Protobuf);
    assert_eq!(parse(&[]), secret(""));
    assert_eq!(parse(&claim("value".to_owned(), 60_000)), with("value", Some(60_000)));
    assert_eq!(parse(&claim("s".repeat(256), -1)), with(&"s".repeat(256), Some(-1)));
    assert_eq!(parse(&claim("s".repeat(257), 0)), Err(Malformed::SecretTooLong));
    assert_eq!(parse(&claim("a\0b".to_owned(), 0)), Err(Malformed::SecretNul));
    assert_eq!(parse(&[0x0a, 1, 0xff]), Err(Malformed::NotProtobuf), "text that is not UTF-8");
    assert_eq!(parse(&[0x0a, 5, b'a']), Err(Malformed::NotProtobuf), "cut short");
    let mut unknown = claim("s".to_owned(), 0);
    unknown.extend([0x98, 0x06, 7]);
    assert_eq!(parse(&unknown), secret("s"), "unknown fields are skipped");
}

#[test]
fn with_compatibility_protobuf_is_tried_first_and_then_json() {
    let parse = |body: &[u8]| bytes(body, BodyFormat::ProtobufThenJson);
    assert_eq!(parse(&[0x0a, 1, b'p']), secret("p"));
    assert_eq!(parse(br#"{"secretKey":"j"}"#), secret("j"));
    assert_eq!(parse(b""), secret(""));
    assert!(parse(b"{").is_err());
}

/// Each entry as `name: secret` or `name: fault`.
fn batch(body: &str) -> Result<Vec<(String, Parsed)>, Malformed> {
    let batch = GatewayBatch::parse(body.as_bytes(), BodyFormat::Json)?;
    Ok(batch
        .entries
        .into_iter()
        .map(|entry| {
            let name = entry.name.as_ref().map_or_else(|shown| shown.to_string(), |name| name.as_str().to_owned());
            (name, entry.message.map(|message| (digest(&message.secret), message.duration_ms)))
        })
        .collect())
}

#[test]
fn a_fault_inside_an_entry_spoils_that_entry_only() {
    let parsed =
        batch(r#"{"a":{"secretKey":"s"},"b":3,"c":{"durationMs":true},"d":{"x":1,"x":1},"":{},"e\u0007":{},"f":{}}"#);
    assert_eq!(
        parsed.expect("a batch"),
        [
            ("a".to_owned(), secret("s")),
            ("b".to_owned(), Err(Malformed::EntryNotAnObject)),
            ("c".to_owned(), Err(Malformed::Duration)),
            ("d".to_owned(), Err(Malformed::DuplicateMember)),
            (String::new(), Err(Malformed::Name)),
            ("e\u{fffd}".to_owned(), Err(Malformed::Name)),
            ("f".to_owned(), secret("")),
        ]
    );
}

#[test]
fn a_fault_of_the_whole_spoils_the_whole() {
    assert_eq!(batch("{}"), Err(Malformed::Empty));
    assert_eq!(batch(""), Err(Malformed::NotJson));
    assert_eq!(batch("[]"), Err(Malformed::NotAnObject));
    assert_eq!(batch(r#"{"a":{},"b":"#), Err(Malformed::NotJson));
    assert_eq!(batch(r#"{"a":{},"a":{}}"#), Err(Malformed::DuplicateDevice));
    assert_eq!(batch("{\"\u{e9}\":{},\"e\u{301}\":{}}"), Err(Malformed::DuplicateDevice), "one name in two spellings");
}

#[test]
fn names_are_normalised_and_bounded() {
    let name = |text: &str| batch(&format!("{{{}:{{}}}}", Value::from(text))).expect("a batch").remove(0);
    assert_eq!(name("e\u{301}").0, "\u{e9}");
    for (length, good) in [(254, true), (255, true), (256, false)] {
        assert_eq!(name(&"n".repeat(length)).1.is_ok(), good, "{length}");
    }
}

#[test]
fn a_protobuf_batch_reads_as_its_json_twin() {
    use prost::Message as _;
    let entry = |name: &str, secret: Option<&str>| protobuf::ClaimDeviceMsg {
        device_name: name.to_owned(),
        claim_request: secret.map(|secret| protobuf::ClaimDevice { secret_key: secret.to_owned(), duration_ms: 0 }),
    };
    let encode = |msg: Vec<protobuf::ClaimDeviceMsg>| protobuf::GatewayClaimMsg { msg }.encode_to_vec();
    let parse = |body: &[u8]| GatewayBatch::parse(body, BodyFormat::Protobuf).map(|batch| batch.entries.len());
    assert_eq!(parse(&encode(vec![entry("a", Some("s")), entry("b", None)])), Ok(2));
    assert_eq!(parse(&[]), Err(Malformed::Empty));
    assert_eq!(parse(&encode(vec![entry("a", None), entry("a", None)])), Err(Malformed::DuplicateDevice));
    assert_eq!(parse(b"{}"), Err(Malformed::NotProtobuf));
}

#[test]
fn a_child_has_a_name_and_perhaps_a_profile() {
    let child = |body: &str| ChildMessage::parse(body.as_bytes(), BodyFormat::Json);
    let good = child(r#"{"device":"A","type":"pump"}"#).expect("a child");
    assert_eq!((good.device.as_str(), good.profile.as_deref()), ("A", Some("pump")));
    assert_eq!(child(r#"{"device":"A","type":""}"#).expect("a child").profile, None);
    for body in ["{}", r#"{"device":""}"#, r#"{"device":1}"#] {
        assert_eq!(child(body).err(), Some(Malformed::Name), "{body}");
    }
}

#[test]
fn no_text_for_outsiders_holds_what_was_sent() {
    let message = ClaimMessage::parse(br#"{"secretKey":"PLANTED"}"#, BodyFormat::Json).expect("a claim");
    assert!(!format!("{message:?}").contains("PLANTED"));
    let fault = json(r#"{"secretKey":{"PLANTED":1}}"#).expect_err("malformed");
    assert!(!fault.to_string().contains("PLANTED"));
}

/// The slow reader: a tree of values, duplicates looked for by hand.
fn reference(body: &str) -> Option<(String, Option<i64>)> {
    if body.is_empty() {
        return Some((String::new(), None));
    }
    let Value::Object(members) = serde_json::from_str::<Value>(body).ok()? else { return None };
    let secret = match members.get("secretKey") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(truth)) => truth.to_string(),
        Some(Value::Number(number)) => number.to_string(),
        Some(_) => return None,
    };
    if secret.len() > 256 || secret.contains('\0') {
        return None;
    }
    let duration = match members.get("durationMs") {
        None | Some(Value::Null) => None,
        Some(Value::Number(number)) => Some(number.as_i64()?),
        Some(Value::String(text)) => {
            let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            Some(text.parse().ok()?)
        }
        Some(_) => return None,
    };
    Some((secret, duration))
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z0-9+\\-]{0,6}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-c]", inner, 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_read_is_what_a_slow_reader_reads(
        members in prop::collection::btree_map(prop_oneof![Just("secretKey".to_owned()), Just("durationMs".to_owned()), "[a-zA-Z]{0,5}"], value(), 0..4),
        cut in prop::option::weighted(0.1, 0..40usize),
    ) {
        let mut body = Value::Object(members.into_iter().collect()).to_string();
        if let Some(cut) = cut {
            let end = body.char_indices().map(|(at, _)| at).nth(cut).unwrap_or(body.len());
            body.truncate(end);
        }
        let expected = reference(&body).and_then(|(text, duration)| with(&text, duration).ok());
        prop_assert_eq!(json(&body).ok(), expected, "{}", body);
    }

    #[test]
    fn no_bytes_make_the_readers_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        for format in [BodyFormat::Json, BodyFormat::Protobuf, BodyFormat::ProtobufThenJson] {
            let _ = ClaimMessage::parse(&body, format);
            let _ = GatewayBatch::parse(&body, format);
            let _ = ChildMessage::parse(&body, format);
        }
    }
}
