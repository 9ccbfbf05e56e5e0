use std::io::Cursor;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::{Value, json};
use testkit::manifest::{Flaw, Form, Maker, Part, VALID_FROM, VALID_UNTIL, manifest, other_curve};

use super::super::{FileFormat, ROW_BYTES, Reading, Record};
use super::*;

static MAKER: LazyLock<Maker> = LazyLock::new(Maker::default);
static STRANGER: LazyLock<Maker> = LazyLock::new(Maker::default);
static TRUST: LazyLock<Trust> = LazyLock::new(|| trust(&MAKER));
/// An entry as it should be, made once: flipping its bytes needs no new keys.
static ENTRY: LazyLock<Value> = LazyLock::new(|| MAKER.entry(&in_name(1)));

const EUI: &str = "0004A310001AAED6";

fn trust(maker: &Maker) -> Trust {
    Trust::parse(&[maker.log_signers()], &[maker.roots()]).expect("trust")
}

/// The first of January of a year.
fn january(year: i32) -> Timestamp {
    Timestamp::from_millis(crate::window::parse_instant(&format!("{year}-01-01T00:00:00Z")).unwrap().as_millis())
}

fn options() -> Options {
    Options::at(january(2026))
}

fn in_name(number: u16) -> Part {
    Part::new(number, Form::Name(EUI.to_owned()))
}

fn in_alternative(number: u16) -> Part {
    Part::new(number, Form::Alternative(EUI.to_lowercase()))
}

fn read_with(text: &str, trust: &Trust, options: Options) -> Vec<Row> {
    let reading = Reading::manifest(Cursor::new(text.to_owned()), trust, options).expect("a manifest");
    reading.map(|row| row.expect("a row")).collect()
}

fn read(entries: &[Value]) -> Vec<Row> {
    read_with(&manifest(entries), &TRUST, options())
}

fn one(entry: Value) -> Row {
    read(&[entry]).remove(0)
}

/// A manifest of one good entry.
fn whole() -> String {
    manifest(std::slice::from_ref(&*ENTRY))
}

fn good(row: &Row) -> &Record {
    row.outcome.as_ref().unwrap_or_else(|faults| panic!("entry {}: {faults:?}", row.row))
}

fn faults(row: &Row) -> &[Fault] {
    row.outcome.as_ref().map(drop).expect_err("a bad entry")
}

fn codes(row: &Row) -> Vec<&'static str> {
    faults(row).iter().map(|fault| fault.code).collect()
}

fn warnings(row: &Row) -> Vec<&'static str> {
    row.warnings.iter().map(|warning| warning.code).collect()
}

/// A payload of this part with one thing changed, signed by the right log signer.
fn signed_with(part: &Part, change: impl Fn(&mut Value)) -> Value {
    let mut payload = MAKER.payload(part);
    change(&mut payload);
    MAKER.signed(part, payload.to_string().as_bytes())
}

#[test]
fn parts_of_all_three_forms_become_devices() {
    let parts =
        [Part::new(1, Form::Serial), in_name(2), Part::new(3, Form::Alternative("0004a310001aaed7".to_owned()))];
    let entries = parts.each_ref().map(|part| MAKER.entry(part));
    let rows = read(&entries);
    let expected = [
        ("0123f1822c38000101", None, "0123f1822c38000101"),
        ("eui-0004a310001aaed6", Some("0004A310001AAED6"), "0123f1822c38000201"),
        ("eui-0004a310001aaed7", Some("0004A310001AAED7"), "0123f1822c38000301"),
    ];
    assert_eq!(rows.len(), 3);
    for (at, (row, (id, dev_eui, external_id))) in (0..).zip(rows.iter().zip(expected)) {
        let record = good(row);
        assert_eq!((row.row, row.id.as_deref(), record.id.as_str()), (at + 1, Some(id), id));
        assert_eq!(record.dev_eui.map(|eui| eui.to_string()).as_deref(), dev_eui);
        assert_eq!(record.join_eui.map(|eui| eui.to_string()).as_deref(), Some("70B3D57ED0000000"));
        assert_eq!(record.external_id.as_deref(), Some(external_id));
        assert_eq!(record.provisioner.as_deref(), Some("Maker of Test Parts, Secure Group"));
        let texts: Vec<(&str, &str)> = record.texts.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let kept = [("secure_element_model", "ATECC608A"), ("secure_element_part_number", "ATECC608A-TNGLORA")];
        assert_eq!(texts, kept);
        assert!(record.app_key.is_none() && record.nwk_key.is_none() && !record.root_keys_exposed);
        assert!(record.code.is_none() && record.claiming_allowed.is_none());
        assert_eq!(warnings(row), Vec::<&str>::new());
        let payload = URL_SAFE_NO_PAD.decode(entries[at as usize]["payload"].as_str().unwrap()).unwrap();
        let payload: Value = serde_json::from_slice(&payload).unwrap();
        let key = &payload["publicKeySet"]["keys"][0];
        let [x, y] = ["x", "y"].map(|half| URL_SAFE_NO_PAD.decode(key[half].as_str().unwrap()).unwrap());
        let public_key = record.public_key.as_deref().unwrap();
        assert_eq!(public_key.len(), 91);
        assert!(public_key.ends_with(&[&[4], x.as_slice(), &y].concat()));
        let leaf = STANDARD.decode(key["x5c"][0].as_str().unwrap()).unwrap();
        assert!(leaf.windows(91).any(|window| window == public_key), "as it stands in the certificate");
    }
}

/// Column and code of the one fault that a flaw shows as, and the part that has it.
fn shows_as(flaw: Flaw) -> (&'static str, &'static str, Part) {
    const KEY: &str = "payload.publicKeySet.keys[0]";
    const X5C: &str = "payload.publicKeySet.keys[0].x5c";
    const LEAF: &str = "payload.publicKeySet.keys[0].x5c[0]";
    const SIGNER: &str = "payload.publicKeySet.keys[0].x5c[1]";
    let (column, code) = match flaw {
        Flaw::NoMembers => ("", "manifest_malformed"),
        Flaw::PayloadIsNoBase64 => ("payload", "manifest_malformed"),
        Flaw::PayloadIsNoJson | Flaw::RepeatedMember => ("payload", "manifest_malformed"),
        Flaw::ProtectedIsNoJson => ("protected", "manifest_malformed"),
        Flaw::VersionTwo => ("payload.version", "manifest_malformed"),
        Flaw::ShortCoordinate => ("payload.publicKeySet.keys[0].x", "manifest_malformed"),
        Flaw::OtherCurve | Flaw::NoKey => (KEY, "manifest_malformed"),
        Flaw::OneCertificate | Flaw::ThreeCertificates => (X5C, "manifest_malformed"),
        Flaw::CertificateIsGarbage => (LEAF, "manifest_malformed"),
        Flaw::ShortUniqueId => ("payload.uniqueId", "manifest_malformed"),
        Flaw::AlgorithmNone | Flaw::AlgorithmHs256 | Flaw::NoAlgorithm => ("protected.alg", "manifest_algorithm"),
        Flaw::Critical | Flaw::CriticalOutside => ("protected.crit", "manifest_algorithm"),
        Flaw::ForeignLogSigner | Flaw::NoKeyId => ("protected.kid", "manifest_unknown_signer"),
        Flaw::OtherThumbprint => ("protected.x5t#S256", "manifest_unknown_signer"),
        Flaw::CutSignature
        | Flaw::LongSignature
        | Flaw::FlippedSignature
        | Flaw::FlippedPayload
        | Flaw::FlippedProtected
        | Flaw::Resigned => ("signature", "manifest_signature"),
        Flaw::OtherIdInHeader => ("header.uniqueId", "manifest_unique_id"),
        Flaw::OtherIdInPayload | Flaw::NameOfNoForm => (LEAF, "manifest_unique_id"),
        Flaw::ForeignKey => (KEY, "manifest_key_mismatch"),
        Flaw::ForeignRoot | Flaw::SignerIsNoAuthority => (SIGNER, "manifest_chain"),
        Flaw::LeafOfAnotherSigner | Flaw::LeafOfAnotherName => (LEAF, "manifest_chain"),
        Flaw::NoAlternativeName | Flaw::BadEuiInName | Flaw::BadEuiInAlternative | Flaw::TwoEuis => {
            (LEAF, "manifest_dev_eui")
        }
    };
    let part = if flaw == Flaw::BadEuiInName { in_name(7) } else { in_alternative(7) };
    (column, code, part)
}

#[test]
fn every_flaw_is_refused_by_its_name_alone_and_the_next_entry_is_read() {
    for flaw in Flaw::ALL {
        let (column, code, part) = shows_as(flaw);
        let rows = read(&[MAKER.flawed(&part, flaw), ENTRY.clone()]);
        let found: Vec<(&str, &str)> =
            faults(&rows[0]).iter().map(|fault| (fault.column.as_str(), fault.code)).collect();
        assert_eq!(found, [(column, code)], "{flaw:?}");
        assert_eq!(rows[0].row, 1);
        assert_eq!(good(&rows[1]).id.as_str(), "eui-0004a310001aaed6", "after {flaw:?}");
    }
}

#[test]
fn of_a_signed_entry_all_faults_are_named() {
    let row = one(signed_with(&in_name(1), |payload| {
        let stranger = STRANGER.payload(&in_name(1));
        payload["uniqueId"] = json!("0123f1822c38ffff01");
        payload["publicKeySet"]["keys"][0]["x5c"] = stranger["publicKeySet"]["keys"][0]["x5c"].clone();
    }));
    assert_eq!(codes(&row), ["manifest_unique_id", "manifest_key_mismatch", "manifest_chain"]);
    assert_eq!(faults(&row)[0].value.as_deref(), Some("0123F1822C38000101"));
    assert_eq!(faults(&row)[0].reason, "the payload has 0123f1822c38ffff01");
}

#[test]
fn nothing_of_an_entry_is_repeated_but_its_ids() {
    for flaw in Flaw::ALL {
        let (_, _, part) = shows_as(flaw);
        let entry = MAKER.flawed(&part, flaw);
        let row = one(entry.clone());
        let said = serde_json::to_string(&(faults(&row), &row.warnings)).unwrap();
        let mut texts: Vec<String> = ["payload", "protected", "signature"]
            .iter()
            .filter_map(|member| entry[*member].as_str().map(str::to_owned))
            .collect();
        let payload = entry["payload"].as_str().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        let payload: Value = payload.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let key = &payload["publicKeySet"]["keys"][0];
        texts.extend(
            [&key["x"], &key["y"], &key["x5c"][0], &key["x5c"][1]]
                .into_iter()
                .filter_map(|text| text.as_str().map(str::to_owned)),
        );
        for text in texts.iter().filter(|text| text.len() >= 12) {
            let pieces = text.as_bytes().windows(12).map(|piece| std::str::from_utf8(piece).unwrap());
            assert!(!pieces.into_iter().any(|piece| said.contains(piece)), "{flaw:?}: {said}");
        }
    }
}

#[test]
fn ids_agree_whatever_their_letter_case() {
    let part = in_name(1);
    let mut entry = signed_with(&part, |payload| payload["uniqueId"] = json!(part.serial));
    assert_eq!(good(&one(entry.clone())).external_id.as_deref(), Some("0123f1822c38000101"));
    entry["header"]["uniqueId"] = json!("0123F1822C38000101");
    good(&one(entry.clone()));
    for header in [json!({}), json!({"uniqueId": null}), Value::Null] {
        entry["header"] = header;
        good(&one(entry.clone()));
    }
    entry.as_object_mut().unwrap().remove("header");
    good(&one(entry));
}

#[test]
fn a_dev_eui_is_there_once_and_a_bad_entry_does_not_spoil_it() {
    let rows = read(&[
        MAKER.flawed(&in_alternative(1), Flaw::ForeignRoot),
        MAKER.flawed(&in_alternative(2), Flaw::Resigned),
        MAKER.entry(&in_alternative(3)),
        MAKER.entry(&in_name(4)),
        MAKER.entry(&Part::new(5, Form::Serial)),
    ]);
    assert_eq!(codes(&rows[0]), ["manifest_chain"]);
    assert_eq!(codes(&rows[1]), ["manifest_signature"]);
    good(&rows[2]);
    assert_eq!(codes(&rows[3]), ["manifest_dev_eui"]);
    assert_eq!(rows[3].id.as_deref(), Some("eui-0004a310001aaed6"));
    assert_eq!(faults(&rows[3])[0].value.as_deref(), Some(EUI));
    assert_eq!(faults(&rows[3])[0].reason, "entry 3 has the same DevEUI");
    good(&rows[4]);
}

#[test]
fn only_configured_signers_and_roots_are_believed() {
    let entries = manifest(&[MAKER.entry(&in_name(1)), STRANGER.entry(&Part::new(2, Form::Serial))]);
    let read = |log_signers: &[&str], roots: &[&str]| -> Vec<Vec<&'static str>> {
        let rows = read_with(&entries, &Trust::parse(log_signers, roots).expect("trust"), options());
        rows.iter().map(|row| row.outcome.as_ref().map_or_else(|_| codes(row), |_| Vec::new())).collect()
    };
    let (ours, theirs) = (&*MAKER.log_signers(), &*STRANGER.log_signers());
    let (our_root, their_root) = (&*MAKER.roots(), &*STRANGER.roots());
    let unknown = vec!["manifest_unknown_signer"];
    let chain = vec!["manifest_chain"];
    let none = Vec::new();
    assert_eq!(read(&[ours], &[our_root]), [none.clone(), unknown.clone()]);
    assert_eq!(read(&[theirs], &[our_root]), [unknown, chain.clone()]);
    let one_file = format!("# of 2020\n{ours}\r\nsubject=CN = another\n{theirs}");
    assert_eq!(read(&[&one_file], &[our_root]), [none.clone(), chain]);
    assert_eq!(read(&[theirs, ours], &[&format!("{their_root}{our_root}")]), [none.clone(), none]);
}

#[test]
fn a_log_signer_is_no_root_and_a_root_no_log_signer() {
    let fault = |log_signers: &[&str], roots: &[&str]| Trust::parse(log_signers, roots).map(drop).unwrap_err();
    let (signer, root) = (&*MAKER.log_signers(), &*MAKER.roots());
    let cut = &root[..root.len() / 2];
    let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let no_base64 = "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----";
    let no_certificate = "-----BEGIN CERTIFICATE-----\nMAMCAQc=\n-----END CERTIFICATE-----";
    let list = TrustList::Roots;
    for (text, kind) in [
        (format!("{root}{signer}"), TrustFaultKind::NoAuthority(2)),
        (format!("{root}{key}"), TrustFaultKind::OtherPem),
        (cut.to_owned(), TrustFaultKind::BrokenPem(1)),
        (format!("{root}{cut}{root}"), TrustFaultKind::BrokenPem(2)),
        (format!("{root}-----END CERTIFICATE-----\n"), TrustFaultKind::BrokenPem(2)),
        (no_base64.to_owned(), TrustFaultKind::BrokenPem(1)),
        (no_certificate.to_owned(), TrustFaultKind::NoCertificate(1)),
        (other_curve(), TrustFaultKind::OtherKey(1)),
        ("not PEM at all".to_owned(), TrustFaultKind::NoPem),
    ] {
        assert_eq!(fault(&[signer], &[&text]), TrustFault { list, file: Some(0), kind });
    }
    let kind = TrustFaultKind::Nothing;
    assert_eq!(fault(&[signer], &[]), TrustFault { list, file: None, kind });
    assert_eq!(fault(&[], &[root]), TrustFault { list: TrustList::LogSigners, file: None, kind });
    let second = fault(&[signer, &MAKER.leaf(&in_name(1))], &[root]);
    assert_eq!((second.file, second.kind), (Some(1), TrustFaultKind::NoKeyIdentifier(1)));
    let text = "manifest.log_signers, file 2, certificate 1: it has no subject key identifier";
    assert_eq!(second.to_string(), text);
}

#[test]
fn dates_and_foreign_blocks_only_warn() {
    let text = whole();
    let at = |now: Timestamp| {
        let reading = Reading::manifest(Cursor::new(text.clone()), &TRUST, Options::at(now)).expect("a manifest");
        let of_file: Vec<String> = reading.warnings.iter().map(|warning| warning.column.clone()).collect();
        let row = reading.map(Result::unwrap).next().unwrap();
        good(&row);
        (of_file, warnings(&row))
    };
    let fine = (Vec::new(), Vec::new());
    let lists = vec!["manifest.log_signers".to_owned(), "manifest.roots".to_owned()];
    let over = (lists, vec!["manifest_dates", "manifest_dates"]);
    let second = std::time::Duration::from_secs(1);
    let (from, until) = (january(VALID_FROM), january(VALID_UNTIL));
    assert_eq!(at(from.minus(second)), over);
    assert_eq!(at(from), fine);
    assert_eq!(at(until), fine, "the last second is in it");
    assert_eq!(at(until.plus(second)), over);
    let foreign = one(MAKER.entry(&Part::new(2, Form::Name("70B3D57ED0000001".to_owned()))));
    good(&foreign);
    assert_eq!(warnings(&foreign), ["manifest_oui"]);
    assert_eq!(foreign.warnings[0].value.as_deref(), Some("70B3D57ED0000001"));
}

/// RFC 5280 wants UTCTime before 2050, and the maker of these parts writes GeneralizedTime.
#[test]
fn either_kind_of_time_is_read_whatever_the_year() {
    use x509_cert::der::Decode;
    let validity = b"\x30\x20\x17\x0d190124160000Z\x18\x0f20470124160000Z";
    let validity = <x509_cert::time::Validity>::from_der(validity).expect("a validity");
    assert_eq!(validity.not_after.to_unix_duration().as_secs(), 2_431_958_400);
}

#[test]
fn the_join_eui_is_for_whoever_imports_to_choose() {
    let join_eui = Eui64::from_bytes([7; 8]);
    let rows = read_with(&whole(), &TRUST, Options { join_eui, ..options() });
    assert_eq!(good(&rows[0]).join_eui, Some(join_eui));
}

#[test]
fn a_provisioner_is_a_text_or_an_entity_and_bounded() {
    let with =
        |provisioner: Value| one(signed_with(&in_name(1), |payload| payload["provisioner"] = provisioner.clone()));
    let of = |provisioner: Value| good(&with(provisioner)).provisioner.clone();
    assert_eq!(of(json!("Acme")).as_deref(), Some("Acme"));
    assert_eq!(of(json!({"organizationName": "Acme"})).as_deref(), Some("Acme"));
    assert_eq!(of(json!(null)), None);
    assert_eq!(of(json!({})), None);
    assert_eq!(of(json!("ä".repeat(255))).map(|text| text.chars().count()), Some(255));
    for bad in [json!("ä".repeat(256)), json!("Ac\u{0}me"), json!("\u{1b}[31m"), json!(7)] {
        assert_eq!(codes(&with(bad)), ["manifest_malformed"]);
    }
}

#[test]
fn a_manifest_is_one_array_and_read_by_those_who_trust_somebody() {
    let new = Reading::new(FileFormat::Microchip, Cursor::new(whole())).map(drop).unwrap_err();
    assert!(matches!(new, FileFault::NoTrust));
    assert!(new.to_string().contains("manifest.log_signers"));
    let begun = |text: &str| Reading::manifest(Cursor::new(text.to_owned()), &TRUST, options()).map(drop).unwrap_err();
    assert!(matches!(begun(&ENTRY.to_string()), FileFault::NoArray));
    assert!(matches!(begun("id;dev_eui\n"), FileFault::NoArray));
    assert!(matches!(begun(" \n"), FileFault::Empty));
    assert_eq!(read_with("[]", &TRUST, options()).len(), 0);
}

#[test]
fn a_manifest_that_was_cut_says_where() {
    let text = manifest(&[ENTRY.clone(), ENTRY.clone()]);
    let starts: Vec<usize> = text.match_indices("  {\n    \"header\"").map(|(at, _)| at + 2).collect();
    let ends: Vec<usize> = text.match_indices("\n  }").map(|(at, found)| at + found.len()).collect();
    assert_eq!((starts.len(), ends.len()), (2, 2));
    let near_ends = ends.iter().flat_map(|end| end - 2..end + 4);
    for cut in (1..text.len() - 1).step_by(211).chain(near_ends).filter(|cut| *cut < text.len()) {
        let reading = Reading::manifest(Cursor::new(text[..cut].to_owned()), &TRUST, options()).expect("an array");
        let mut rows: Vec<_> = reading.collect();
        let Some(Err(FileFault::NoObject(at))) = rows.pop() else { panic!("cut at {cut}") };
        let whole = ends.iter().filter(|end| **end <= cut).count();
        assert_eq!(rows.len(), whole, "cut at {cut}");
        let inside =
            starts.iter().find(|start| **start < cut && cut < ends[whole.min(1)] && **start >= ends[0] * whole);
        assert_eq!(at as usize, inside.copied().unwrap_or(cut), "cut at {cut}");
    }
}

#[test]
fn an_entry_is_a_small_part_of_the_longest_row() {
    let text = ENTRY.to_string();
    assert!((2_000..ROW_BYTES / 10).contains(&text.len()), "{} bytes", text.len());
    let long = |bytes: usize| format!("[{}{}]", &text[..text.len() - 1], " ".repeat(bytes - text.len()) + "}");
    good(&read_with(&long(ROW_BYTES), &TRUST, options())[0]);
    let mut reading = Reading::manifest(Cursor::new(long(ROW_BYTES + 1)), &TRUST, options()).unwrap();
    assert!(matches!(reading.next(), Some(Err(FileFault::RowTooLong(1)))));
}

#[test]
fn manifests_are_told_from_devices_by_their_beginning() {
    let whole = whole();
    for head in [
        whole.as_str(),
        "[{\"payload\":\"eyJ2\"",
        "\u{feff}\n[ { \"protected\" :",
        " [\n{\n\t\"signature\"",
        "[{\"header\":{",
    ] {
        assert_eq!(FileFormat::guess(head.as_bytes()), FileFormat::Microchip, "{head}");
    }
    for head in ["[{\"ids\":{", "[", "[{", "[{\"payload", "[{\"payloads\":1", "{\"payload\":\"eyJ2\"", "[[{\"payload\""]
    {
        assert_eq!(FileFormat::guess(head.as_bytes()), FileFormat::Json, "{head}");
    }
    assert_eq!(FileFormat::of_id("microchip"), Some(FileFormat::Microchip));
    assert_eq!(FileFormat::Microchip.id(), "microchip");
}

#[test]
fn no_byte_of_a_certificate_can_be_changed() {
    let payload = MAKER.payload(&in_alternative(1));
    for which in 0..2 {
        let text = payload["publicKeySet"]["keys"][0]["x5c"][which].as_str().unwrap();
        let der = STANDARD.decode(text).unwrap();
        for at in 0..der.len() {
            let mut changed = der.clone();
            changed[at] ^= 1 << (at % 8);
            let mut payload = payload.clone();
            payload["publicKeySet"]["keys"][0]["x5c"][which] = json!(STANDARD.encode(changed));
            let row = one(MAKER.signed(&in_alternative(1), payload.to_string().as_bytes()));
            assert!(row.outcome.is_err(), "certificate {which}, byte {at}");
        }
    }
}

/// RFC 5280 §4.1.1.2. The outer name is not signed: whoever could change it could not be told.
#[test]
fn a_certificate_names_its_algorithm_twice_and_the_same() {
    const PLAIN: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
    const WITH_NULL: &[u8] = b"\x30\x0c\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02\x05\x00";
    let row = one(signed_with(&in_name(1), |payload| {
        let leaf = &mut payload["publicKeySet"]["keys"][0]["x5c"][0];
        let der = STANDARD.decode(leaf.as_str().unwrap()).unwrap();
        let at = der.windows(PLAIN.len()).rposition(|window| window == PLAIN).unwrap();
        let mut changed = [&der[..at], WITH_NULL, &der[at + PLAIN.len()..]].concat();
        let length = u16::from_be_bytes([der[2], der[3]]) + 2;
        changed[2..4].copy_from_slice(&length.to_be_bytes());
        assert_eq!((der[1], usize::from(length) + 4), (0x82, changed.len()), "a length of two bytes");
        *leaf = json!(STANDARD.encode(changed));
    }));
    assert_eq!(codes(&row), ["manifest_chain"]);
}

proptest! {
    #[test]
    fn no_byte_of_payload_protected_header_or_signature_can_be_changed(
        member in prop::sample::select(vec!["payload", "protected", "signature"]),
        at: prop::sample::Index, by in 1_u8..128, encoded: bool,
    ) {
        let text = ENTRY[member].as_str().unwrap();
        let changed = if encoded {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at.index(text.len())] ^= by;
            String::from_utf8(bytes).unwrap()
        } else {
            let mut bytes = URL_SAFE_NO_PAD.decode(text).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= by;
            URL_SAFE_NO_PAD.encode(bytes)
        };
        let mut entry = ENTRY.clone();
        entry[member] = json!(changed);
        let row = one(entry);
        prop_assert!(row.outcome.is_err());
        if member == "signature" {
            prop_assert_eq!(codes(&row), ["manifest_signature"]);
        } else if member == "payload" && !encoded {
            prop_assert_eq!(codes(&row), ["manifest_signature"]);
        }
    }

    #[test]
    fn no_payload_makes_it_panic_even_if_it_is_signed(
        bytes in prop::collection::vec(any::<u8>(), 0..200), text in r#"[\[\]{}",:\\ a1]{0,60}"#,
    ) {
        for payload in [bytes.as_slice(), text.as_bytes()] {
            let row = one(MAKER.signed(&in_name(1), payload));
            prop_assert_eq!(codes(&row), ["manifest_malformed"]);
        }
    }

    #[test]
    fn no_entry_makes_it_panic(text in r#"\[\{"[\[\]{}",:\\ a1]{0,60}\}\]"#) {
        if let Ok(reading) = Reading::manifest(Cursor::new(text), &TRUST, options()) {
            reading.take(1_000).for_each(drop);
        }
    }
}
