use proptest::prelude::*;

use super::*;

fn whole(bytes: &[u8]) -> Frame<'_> {
    frame(bytes, 100_000).unwrap().unwrap().0
}

fn connect(level: u8, flags: u8, tail: &[u8]) -> Vec<u8> {
    let mut body = b"\0\x04MQTT".to_vec();
    body.extend_from_slice(&[level, flags, 0, 60]);
    body.extend_from_slice(tail);
    let mut packet = vec![0x10];
    put_length(&mut packet, body.len());
    packet.extend_from_slice(&body);
    packet
}

#[test]
fn a_frame_waits_for_its_bytes_and_refuses_a_length_beyond_the_bound_at_once() {
    assert_eq!(frame(b"", 10), Ok(None));
    assert_eq!(frame(&[0x30], 10), Ok(None));
    assert_eq!(frame(&[0x30, 2, 1], 10), Ok(None));
    assert_eq!(frame(&[0x30, 2, 1, 2, 9], 10), Ok(Some((Frame { first: 0x30, body: &[1, 2] }, 4))));
    assert_eq!(frame(&[0x30, 11], 10), Err(Fault::TOO_LARGE));
    assert_eq!(frame(&[0x30, 0x80, 0x80, 0x80, 0x80], 10), Err(Fault::MALFORMED));
    assert_eq!(frame(&[0x30, 0x82, 0x00, 1, 2], 10), Err(Fault::MALFORMED), "not the shortest form");
}

#[test]
fn connects_are_taken_or_answered_as_the_specification_says() {
    let hello_of = |bytes: &[u8]| hello(whole(bytes));
    let taken = hello_of(&connect(4, 0x82, b"\0\x02id\0\x05token")).unwrap();
    assert_eq!((taken.version, taken.client_id.as_str()), (Version::V311, "id"));
    assert_eq!(taken.user_name.as_deref(), Some("token"));
    let taken = hello_of(&connect(5, 0x82, b"\x03\x21\0\x07\0\x02id\0\x05token")).unwrap();
    assert_eq!((taken.version, taken.receive_maximum), (Version::V5, 7));

    let close = Err(NoHello::Close);
    let answer = |version, code| Err(NoHello::Answer(version, code));
    for (what, bytes, outcome) in [
        ("reserved bit, 3.1.1", connect(4, 0x03, b"\0\x02id"), close.clone()),
        ("reserved bit, 5", connect(5, 0x03, b"\0\0\x02id"), answer(Version::V5, 0x81)),
        ("will qos 3", connect(4, 0x1E, b"\0\x02id\0\x01t\0\0"), close.clone()),
        ("will qos without a will", connect(4, 0x0A, b"\0\x02id"), close.clone()),
        ("password without user name, 3.1.1", connect(4, 0x42, b"\0\x02id\0\x01p"), close.clone()),
        ("no clean session and no client id", connect(4, 0x00, b"\0\0"), answer(Version::V311, 2)),
        ("trailing bytes", connect(4, 0x02, b"\0\x02idx"), close.clone()),
        ("U+0000 in the client id", connect(4, 0x02, b"\0\x03i\0d"), close.clone()),
        ("wildcard in the will topic", connect(4, 0x06, b"\0\x02id\0\x01#\0\0"), close.clone()),
        ("level 6", connect(6, 0x02, b"\0\x02id"), answer(Version::V5, 0x84)),
        ("level 3", connect(3, 0x02, b"\0\x02id"), answer(Version::V311, 1)),
        ("authentication method", connect(5, 0x02, b"\x04\x15\0\x01m\0\x02id"), answer(Version::V5, 0x8C)),
        ("authentication data alone", connect(5, 0x02, b"\x04\x16\0\x01m\0\x02id"), answer(Version::V5, 0x82)),
        ("receive maximum 0", connect(5, 0x02, b"\x03\x21\0\0\0\x02id"), answer(Version::V5, 0x82)),
        ("receive maximum twice", connect(5, 0x02, b"\x06\x21\0\x01\x21\0\x01\0\x02id"), answer(Version::V5, 0x82)),
        ("will qos 2, 5", connect(5, 0x16, b"\0\0\x02id\0\0\x01t\0\0"), answer(Version::V5, 0x9B)),
        ("will retain, 5", connect(5, 0x26, b"\0\0\x02id\0\0\x01t\0\0"), answer(Version::V5, 0x9A)),
    ] {
        assert_eq!(hello_of(&bytes), outcome, "{what}");
    }
    assert_eq!(hello_of(b"\x10\x0e\0\x06MQIsdp\x03\x02\0\x3c\0\0"), answer(Version::V311, 1));
    assert_eq!(hello_of(b"\x30\x02\0\0"), close);
}

#[test]
fn packets_that_break_a_rule_name_it() {
    let fault = |version, bytes: &[u8]| packet(version, whole(bytes)).map(|_| ()).unwrap_err();
    for (what, version, bytes, expected) in [
        ("qos 3", Version::V5, &b"\x36\x05\0\x01t\0\x01"[..], Fault::MALFORMED),
        ("qos 0 with dup", Version::V5, b"\x38\x04\0\x01t\0", Fault::MALFORMED),
        ("packet id 0", Version::V311, b"\x32\x05\0\x01t\0\0", Fault::PROTOCOL),
        ("U+0000 in a topic", Version::V311, b"\x30\x03\0\x01\0", Fault::MALFORMED),
        ("topic past the end", Version::V311, b"\x30\x02\0\x09", Fault::MALFORMED),
        ("bad UTF-8", Version::V311, b"\x30\x03\0\x01\xff", Fault::MALFORMED),
        ("subscription id from a client", Version::V5, b"\x30\x06\0\x01t\x02\x0b\x01", Fault::PROTOCOL),
        ("wildcard response topic", Version::V5, b"\x30\x08\0\x01t\x04\x08\0\x01#", Fault::PROTOCOL),
        ("alias twice", Version::V5, b"\x30\x0a\0\x01t\x06\x23\0\x01\x23\0\x01", Fault::PROTOCOL),
        ("subscribe flags", Version::V5, b"\x80\x07\0\x01\0\0\x01t\0", Fault::MALFORMED),
        ("subscribe to nothing", Version::V311, b"\x82\x02\0\x01", Fault::PROTOCOL),
        ("subscription identifier", Version::V5, b"\x82\x09\0\x01\x02\x0b\x01\0\x01t\0", Fault::SUBSCRIPTION_ID),
        ("ping with a body", Version::V5, b"\xc0\x01\0", Fault::MALFORMED),
        ("auth", Version::V5, b"\xf0\x00", Fault::PROTOCOL),
        ("auth, 3.1.1", Version::V311, b"\xf0\x00", Fault::MALFORMED),
        ("a second connect", Version::V5, b"\x10\x00", Fault::PROTOCOL),
        ("a server's packet", Version::V5, b"\x20\x00", Fault::MALFORMED),
        ("type 0", Version::V5, b"\x00\x00", Fault::MALFORMED),
        ("session expiry raised", Version::V5, b"\xe0\x07\0\x05\x11\0\0\0\x09", Fault::PROTOCOL),
    ] {
        assert_eq!(fault(version, bytes), expected, "{what}");
    }
}

#[test]
fn publishes_are_read_without_and_with_properties() {
    let read = |version, bytes: &'static [u8]| match packet(version, whole(bytes)) {
        Ok(Packet::Publish(publish)) => publish,
        other => panic!("{other:?}"),
    };
    let plain = Publish { topic: "t", qos: 1, retain: false, id: Some(7), alias: None, payload: b"xy" };
    assert_eq!(read(Version::V311, b"\x32\x07\0\x01t\0\x07xy"), plain);
    assert_eq!(read(Version::V5, b"\x32\x08\0\x01t\0\x07\0xy"), plain);
    let aliased = Publish { topic: "", alias: Some(2), ..plain };
    assert_eq!(read(Version::V5, b"\x32\x0a\0\0\0\x07\x03\x23\0\x02xy"), aliased);
}

#[test]
fn what_we_send_reads_back() {
    let mut out = Vec::new();
    put_publish(&mut out, Version::V5, "a/b", b"payload", Some(9), usize::MAX);
    let Ok(Packet::Publish(publish)) = packet(Version::V5, whole(&out)) else { panic!() };
    assert_eq!((publish.topic, publish.id, publish.payload), ("a/b", Some(9), &b"payload"[..]));
    let size = out.len();
    out.clear();
    assert!(put_publish(&mut out, Version::V5, "a/b", &vec![0; 500], None, 100) > 100 && out.is_empty() && size > 0);
}

#[test]
fn notes_that_would_pass_the_clients_largest_packet_are_left_out() {
    let notes = Notes::of("because");
    let (mut with, mut without) = (Vec::new(), Vec::new());
    put_reasoned(&mut with, 1, 0x87, Some(&notes), 1000);
    put_reasoned(&mut without, 1, 0x87, Some(&notes), 12);
    assert!(with.len() > without.len());
    assert_eq!(without, [0x40, 3, 0, 1, 0x87]);
}

proptest! {
    #[test]
    fn nothing_a_stranger_sends_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), first in any::<u8>()) {
        let _ = crate::fuzzing::conversation(&bytes);
        for version in [Version::V311, Version::V5] {
            let _ = packet(version, Frame { first, body: &bytes });
        }
        let _ = hello(Frame { first: 0x10, body: &bytes });
    }

    #[test]
    fn a_connect_with_one_bit_changed_never_panics(at in 0_usize..30, bit in 0_u8..8) {
        let mut bytes = connect(5, 0xC6, b"\x03\x21\0\x07\0\x02id\0\0\x01t\0\x01w\0\x02us\0\x02pw");
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let _ = crate::fuzzing::conversation(&bytes);
    }
}
