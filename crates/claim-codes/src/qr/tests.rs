use proptest::prelude::*;

use super::*;

const HERE: &str = "https://claim.example.com";

fn device(format: Format, text: &str) -> EndDevice {
    match parse_as(format, text, HERE) {
        Ok(Payload::EndDevice(device)) => device,
        other => panic!("{text}: {other:?}"),
    }
}

fn code(device: &EndDevice) -> Option<&str> {
    device.code.as_ref().map(|code| code.expose().as_str())
}

fn eui(text: &str) -> Option<Eui64> {
    Some(Eui64::parse(text).unwrap())
}

fn refused(format: Format, text: &str) {
    assert_eq!(parse_as(format, text, HERE).map(drop), Err(QrFault::WrongFormat(format)), "{text}");
}

#[test]
fn the_crc_is_modbus_and_covers_all_before_its_colon() {
    assert_eq!(crc16_modbus(b"123456789"), 0x4b37);
    for (text, crc) in [
        ("LW:D0:1122334455667788:AABBCCDDEEFF0011:AABB1122:OAABBCCDDEEFF:SYYWWNNNNNN:PFOOBAR", "AF2C"),
        ("LW:D0:1122334455667788:AABBCCDDEEFF0011:AABB1122", "0757"),
        ("LW:D0:1111111111111111:2222222222222222:AABB1122:O123456", "0936"),
        ("LW:D0:0000000000000000:1122334455667789:00000000:OABCD", "49E1"),
        ("LW:D0:70B3D57ED0000000:0004A310001AAED6:00000000:OC05EA29C", "536C"),
    ] {
        let whole = format!("{text}:C{crc}");
        let read = device(Format::Tr005, &whole);
        assert_eq!(read.checksum, Checksum::Verified, "{whole}");
        assert_eq!(write(Format::Tr005, &read, HERE).unwrap().expose(), &whole);
    }
}

#[test]
fn tr005_takes_its_parts_in_any_order_and_the_last_of_a_kind() {
    let read = device(Format::Tr005, "LW:D0:1122334455667788:AABBCCDDEEFF0011:AABB1122:PP:SS1:OFIRST:OCODE:S12345678");
    assert_eq!((read.join_eui, read.dev_eui), (eui("1122334455667788"), eui("AABBCCDDEEFF0011")));
    assert_eq!((read.profile, code(&read)), (Some((0xaabb, 0x1122)), Some("CODE")));
    assert_eq!((read.serial.as_deref(), read.proprietary.as_deref()), (Some("12345678"), Some("P")));
    assert_eq!(read.checksum, Checksum::Absent);

    let bare = device(Format::Tr005, "lw:d0:1122334455667788:aabbccddeeff0011:00000000:O:S:P::X1");
    assert!(code(&bare).is_none() && bare.serial.is_none() && bare.proprietary.is_none() && bare.profile.is_none());
    assert_eq!(bare.dev_eui, eui("AABBCCDDEEFF0011"));
}

#[test]
fn a_wrong_checksum_is_refused_and_a_strange_one_is_not_believed() {
    let right = "LW:D0:1122334455667788:AABBCCDDEEFF0011:AABB1122";
    let mismatch = parse(&format!("{right}:C0758"), HERE).map(drop);
    assert_eq!(mismatch, Err(QrFault::ChecksumMismatch));
    assert_eq!(parse(&format!("{right}:S1:C0757"), HERE).map(drop), Err(QrFault::ChecksumMismatch));
    for strange in [":C0757:S1", ":CCHECKSUM", ":C07", ":C07577"] {
        assert_eq!(device(Format::Tr005, &format!("{right}{strange}")).checksum, Checksum::Unverified, "{strange}");
    }
    // Printed in lower case, or the sum made over the upper-case form of it.
    let lower = format!("{}:C0757", right.to_lowercase());
    assert_eq!(device(Format::Tr005, &lower).checksum, Checksum::Verified);
    let other = device(Format::Tr005, &format!("{right}:CCHECKSUM:O0102:SSERIAL:PPROPRIETARY"));
    assert_eq!((code(&other), other.serial.as_deref()), (Some("0102"), Some("SERIAL")));
}

#[test]
fn what_is_nearly_tr005_is_refused() {
    for bad in [
        "",
        "LW:D0:1122334455667788:AABBCCDDEEFF0011",
        "LW:D0:1122334455:AABBCCDDEEFF0011:AABB1122",
        "LW:D0:1122334455667788:AABBCCDDEEFF001:AABB1122",
        "LW:D0:1122334455667788:AABBCCDDEEFF0011:AABB11223344",
        "LW:D1:1122334455667788:AABBCCDDEEFF0011:AABB1122",
        "LW:D0:1122334455667788:AABBCCDDEEFF0011:AABB1122:O\u{1}",
        "LW:D0:1122334455667788:AABBCCDDEEFF0011:AABB1122:Oä",
    ] {
        refused(Format::Tr005, bad);
    }
}

#[test]
fn the_drafts_are_read() {
    let draft2 = "URN:LW:DP:1122334455667788:AABBCCDDEEFF0011:AABB1122";
    assert_eq!(code(&device(Format::Tr005Draft2, draft2)), None);
    for text in [":%25VABCD%25S1", ":%VABCD%S1", ":%VX%VABCD%S1%Z9"] {
        let read = device(Format::Tr005Draft2, &format!("{draft2}{text}"));
        assert_eq!((code(&read), read.serial.as_deref()), (Some("ABCD"), Some("1")), "{text}");
    }
    for bad in [":%P#_", ":VABCD", ":%Vabcd"] {
        refused(Format::Tr005Draft2, &format!("{draft2}{bad}"));
    }
    let draft3 = "URN:DEV:LW:1122334455667788_AABBCCDDEEFF0011_AABB1122";
    assert_eq!(device(Format::Tr005Draft3, draft3).profile, Some((0xaabb, 0x1122)));
    let read = device(Format::Tr005Draft3, &format!("{draft3}_VABCD_S1_P2"));
    assert_eq!(
        (code(&read), read.serial.as_deref(), read.proprietary.as_deref()),
        (Some("ABCD"), Some("1"), Some("2"))
    );
    for bad in ["_P#_", "_Vabcd", "VABCD", "__P#"] {
        refused(Format::Tr005Draft3, &format!("{draft3}{bad}"));
    }
}

#[test]
fn gateways_have_links_of_lower_case_and_eight_characters_at_least() {
    let read = parse_as(Format::TtigPro1, "https://ttig.pro/c/ec656efffe000128/abcdef123456", HERE).unwrap();
    let Payload::Gateway { eui: read, owner_token } = read else { panic!("{read:?}") };
    assert_eq!((Some(read), owner_token.expose().as_str()), (eui("EC656EFFFE000128"), "abcdef123456"));
    for bad in [
        "https://example.com/c/ec656efffe000128/abcdef123456",
        "https://ttig.pro/c/EC656EFFFE000128/abcdef123456",
        "https://ttig.pro/c/ec656efffe00012/abcdef123456",
        "https://ttig.pro/c/ec656efffe000128/abcdef",
        "https://ttig.pro/c/ec656efffe000128/abcdef12345!",
        "https://ttig.pro/c/ec656efffe000128/ABCDEF123456",
    ] {
        refused(Format::TtigPro1, bad);
    }
}

#[test]
fn our_links_are_those_of_this_server() {
    let read = device(Format::ClaimdUrl, "HTTPS://claim.example.com/c/hall%20%2f%207#K7QM");
    assert_eq!((read.name.as_deref(), code(&read)), (Some("hall / 7"), Some("K7QM")));
    assert_eq!(code(&device(Format::ClaimdUrl, "https://claim.example.com/c/pump-7#")), None);
    assert_eq!(code(&device(Format::ClaimdUrl, "https://claim.example.com/c/pump-7")), None);
    assert_eq!(
        device(Format::ClaimdUrl, "https://claim.example.com/c/%2541").name.as_deref(),
        Some("%41"),
        "decoded once"
    );
    for bad in [
        "https://claim.example.org/c/pump-7#K7QM",
        "http://claim.example.com/c/pump-7#K7QM",
        "https://claim.example.com.evil/c/pump-7#K7QM",
        "https://claim.example.com/c/#K7QM",
        "https://claim.example.com/c/a/b#K7QM",
        "https://claim.example.com/d/pump-7#K7QM",
    ] {
        refused(Format::ClaimdUrl, bad);
    }
}

#[test]
fn thingsboard_s_json_is_read_and_a_repeated_member_refused() {
    let read = device(Format::TbJson, r#" {"secretKey":"my key", "deviceName":"Pump 7","more":{"x":[1]}}"#);
    assert_eq!((read.name.as_deref(), code(&read)), (Some("Pump 7"), Some("my key")));
    assert_eq!(code(&device(Format::TbJson, r#"{"deviceName":"Pump 7"}"#)), None);
    for bad in [
        r#"{"deviceName":"a","deviceName":"b"}"#,
        r#"{"deviceName":"a","secretKey":"1","secretKey":"1"}"#,
        r#"{"deviceName":""}"#,
        r#"{"deviceName":7}"#,
        r#"{"secretKey":"a"}"#,
        r#"{"deviceName":"a"} x"#,
        "[]",
        "null",
    ] {
        refused(Format::TbJson, bad);
    }
}

#[test]
fn the_first_format_that_fits_is_taken_and_nothing_else() {
    for (text, format) in [
        ("LW:D0:1122334455667788:AABBCCDDEEFF0011:AABB1122", "tr005"),
        ("URN:LW:DP:1122334455667788:AABBCCDDEEFF0011:AABB1122", "tr005draft2"),
        ("URN:DEV:LW:1122334455667788_AABBCCDDEEFF0011_AABB1122", "tr005draft3"),
        ("https://ttig.pro/c/ec656efffe000128/abcdef123456", "ttigpro1"),
        ("https://claim.example.com/c/pump-7#K7QM", "claimd-url"),
        (r#"{"deviceName":"a","secretKey":"b"}"#, "tb-json"),
        ("aabbccddeeff0011", "dev_eui"),
    ] {
        assert_eq!(parse(text, HERE).map(|(format, _)| format.id()), Ok(format));
        assert_eq!(Format::of_id(format).map(Format::id), Some(format));
    }
    for none in
        ["", "hello", "aabbccddeeff", "https://example.com", &format!("{{\"deviceName\":\"{}\"}}", "a".repeat(1020))]
    {
        assert_eq!(parse(none, HERE).map(drop), Err(QrFault::UnknownFormat), "{none}");
    }
}

#[test]
fn what_cannot_be_written_is_said() {
    let whole = || device(Format::Tr005, "LW:D0:1122334455667788:AABBCCDDEEFF0011:AABB1122:OABCD");
    let fault = |device: EndDevice, format| write(format, &device, HERE).map(drop).unwrap_err();
    assert_eq!(fault(EndDevice { join_eui: None, ..whole() }, Format::Tr005), WriteFault::NoJoinEui);
    assert_eq!(fault(EndDevice { dev_eui: None, ..whole() }, Format::Tr005), WriteFault::NoDevEui);
    let serial = EndDevice { serial: Some("1:2".to_owned()), ..whole() };
    assert_eq!(fault(serial, Format::Tr005), WriteFault::Text("serial number"));
    assert_eq!(fault(whole(), Format::TbJson), WriteFault::NoName);
    assert_eq!(fault(whole(), Format::ClaimdUrl), WriteFault::NoName);
    assert_eq!(fault(whole(), Format::DevEui), WriteFault::ReadOnly(Format::DevEui));
    let long = EndDevice { serial: Some("1".repeat(1024)), ..whole() };
    assert_eq!(fault(long, Format::Tr005), WriteFault::TooLong);
}

#[test]
fn every_written_payload_is_ascii() {
    let device = EndDevice {
        name: Some("Größe 泵 🚰".to_owned()),
        code: Some(Secret::new("ABCD".to_owned())),
        ..EndDevice::default()
    };
    let json = write(Format::TbJson, &device, HERE).unwrap();
    assert_eq!(json.expose(), r#"{"deviceName":"Gr\u00f6\u00dfe \u6cf5 \ud83d\udeb0","secretKey":"ABCD"}"#);
    assert_eq!(self::device(Format::TbJson, json.expose()).name, device.name);
    assert!(write(Format::ClaimdUrl, &device, HERE).unwrap().expose().is_ascii());
}

#[test]
fn a_code_shows_in_no_debug_output() {
    let read = parse("LW:D0:1122334455667788:AABBCCDDEEFF0011:AABB1122:OSECRETCODE", HERE).unwrap();
    assert!(!format!("{read:?}").contains("SECRETCODE"));
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        eui in any::<[[u8; 8]; 2]>(),
        profile in proptest::option::of((any::<u16>(), 1_u16..)),
        name in "\\PC{1,60}",
        code in proptest::option::of("[A-Za-z0-9]{1,32}"),
        serial in proptest::option::of("[ -9;-~]{1,40}"),
    ) {
        let before = EndDevice {
            join_eui: Some(Eui64::from_bytes(eui[0])),
            dev_eui: Some(Eui64::from_bytes(eui[1])),
            profile,
            name: Some(name),
            code: code.clone().map(Secret::new),
            serial,
            ..EndDevice::default()
        };
        for format in Format::WRITTEN {
            let text = write(format, &before, HERE).unwrap();
            let (found, payload) = parse(text.expose(), HERE).unwrap();
            prop_assert_eq!(found, format);
            let Payload::EndDevice(after) = payload else { panic!() };
            prop_assert_eq!(after.code.as_ref().map(|code| code.expose().clone()), code.clone());
            if format == Format::Tr005 {
                prop_assert_eq!(after.checksum, Checksum::Verified);
                prop_assert_eq!((after.join_eui, after.dev_eui, after.profile), (before.join_eui, before.dev_eui, before.profile));
                prop_assert_eq!(&after.serial, &before.serial);
            } else {
                prop_assert_eq!(&after.name, &before.name);
            }
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        let _ = parse(&text, HERE);
    }

    #[test]
    fn no_damaged_payload_passes_as_verified(at in 0_usize..53, to in b' '..b'~') {
        let text = "LW:D0:1122334455667788:AABBCCDDEEFF0011:AABB1122:C0757";
        let mut damaged = text.as_bytes().to_vec();
        prop_assume!(!damaged[at].eq_ignore_ascii_case(&to));
        damaged[at] = to;
        if let Ok((_, Payload::EndDevice(read))) = parse(std::str::from_utf8(&damaged).unwrap(), HERE) {
            prop_assert_ne!(read.checksum, Checksum::Verified);
        }
    }
}
