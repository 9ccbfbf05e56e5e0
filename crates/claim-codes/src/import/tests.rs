use std::io::Cursor;

use proptest::prelude::*;

use super::*;
use crate::window::show_instant;

fn read(format: FileFormat, text: &[u8]) -> Vec<Row> {
    Reading::new(format, Cursor::new(text.to_vec())).unwrap().map(|row| row.unwrap()).collect()
}

fn csv(text: &str) -> Vec<Row> {
    read(FileFormat::Csv, text.as_bytes())
}

fn one(row: &Row) -> &Record {
    row.outcome.as_ref().unwrap_or_else(|faults| panic!("row {}: {faults:?}", row.row))
}

/// Column and name of each fault.
fn faults(row: &Row) -> Vec<(&str, &str)> {
    let faults = row.outcome.as_ref().map(drop).expect_err("a bad row");
    faults.iter().map(|fault| (fault.column.as_str(), fault.code)).collect()
}

#[test]
fn every_column_is_read() {
    let text = "id;dev_eui;join_eui;vendor_id;vendor_profile_id;app_key;nwk_key;name;description;lorawan_version;\
         claim_authentication_code;claim_valid_from;claim_valid_to;external_id;serial_number;claiming_allowed;root_keys_exposed\n\
         pump-7;0004a30b001c0530;70B3D57ED0000000;AABB;1;00112233445566778899aabbccddeeff;ffeeddccbbaa99887766554433221100;\
         \"Pump; 7\";\"it says \"\"hi\"\"\";1.0.3;BEEF1234;2026-01-01T00:00:00Z;2026-02-28T23:59:59.5+01:00;E-7;SN 7;true;FALSE\n";
    let rows = csv(text);
    assert_eq!(rows.len(), 1);
    let record = one(&rows[0]);
    assert_eq!((rows[0].row, rows[0].id.as_deref(), record.id.as_str()), (2, Some("pump-7"), "pump-7"));
    assert_eq!(record.dev_eui.map(|eui| eui.to_string()).as_deref(), Some("0004A30B001C0530"));
    assert_eq!((record.vendor_id, record.vendor_profile_id), (Some(0xaabb), Some(1)));
    assert_eq!(record.app_key.as_ref().map(|key| key.expose()[..2].to_vec()), Some(vec![0x00, 0x11]));
    assert_eq!(record.nwk_key.as_ref().map(|key| key.expose()[..2].to_vec()), Some(vec![0xff, 0xee]));
    assert_eq!((record.label.as_deref(), record.description.as_deref()), (Some("Pump; 7"), Some("it says \"hi\"")));
    assert_eq!(record.texts.get("lorawan_version").map(String::as_str), Some("1.0.3"));
    assert_eq!(record.code.as_ref().map(ClaimCode::expose), Some("BEEF1234"));
    assert_eq!(record.window.from().map(show_instant).as_deref(), Some("2026-01-01T00:00:00Z"));
    assert_eq!(record.window.to().map(show_instant).as_deref(), Some("2026-02-28T22:59:59.5Z"));
    assert_eq!((record.external_id.as_deref(), record.serial_number.as_deref()), (Some("E-7"), Some("SN 7")));
    assert_eq!((record.claiming_allowed, record.root_keys_exposed), (Some(true), false));
}

#[test]
fn commas_aliases_marks_and_line_ends_of_spreadsheets_are_understood() {
    let rows = read(FileFormat::Csv, b"\xef\xbb\xbfid,dev_eui,app_eui,owner_token\r\n,0004A30B001C0530,70B3D57ED0000000, BEEF1234 \r\n\r\nabc,,,\r\n");
    assert_eq!(rows.len(), 2);
    let record = one(&rows[0]);
    assert_eq!(record.id.as_str(), "eui-0004a30b001c0530");
    assert_eq!(record.join_eui.map(|eui| eui.to_string()).as_deref(), Some("70B3D57ED0000000"));
    assert_eq!(record.code.as_ref().map(ClaimCode::expose), Some("BEEF1234"));
    assert_eq!((rows[1].row, one(&rows[1]).code.is_none()), (4, true), "an empty cell is not given");
}

#[test]
fn all_faults_of_a_row_are_named_and_the_rest_is_read() {
    let text = "id;dev_eui;claim_valid_to;claim_authentication_code;vendor_id;claiming_allowed\n\
         Pump 7;00GG;31/02/2026;AB-CD;12345;yes\n\
         \"pump\n8\";;;;;\n\
         pump-9;;2026-02-31T00:00:00Z;;;\n\
         pump-10;;2026-02-28T00:00:00Z;;;\n\
         pump-11;;;000;;\n\
         ok-12;;;BEEF1234;;\n";
    let rows = csv(text);
    assert_eq!(rows.iter().map(|row| row.row).collect::<Vec<_>>(), [2, 3, 5, 6, 7, 8], "the line where a row starts");
    assert_eq!(
        faults(&rows[0]),
        [
            ("id", "invalid_id"),
            ("dev_eui", "invalid_eui"),
            ("claim_valid_to", "invalid_time"),
            ("vendor_id", "invalid_number"),
            ("claiming_allowed", "invalid_boolean"),
            ("claim_authentication_code", "claim_authentication_code"),
        ]
    );
    let Err(all) = &rows[0].outcome else { panic!() };
    assert_eq!(all[1].value.as_deref(), Some("00GG"));
    assert_eq!(all[1].reason, "16 hex digits expected");
    assert!(all.iter().all(|fault| fault.code != "claim_authentication_code" || fault.value.is_none()), "secrets stay");
    assert_eq!(faults(&rows[1]), [("id", "invalid_id")]);
    assert_eq!(faults(&rows[2]), [("claim_valid_to", "invalid_time")]);
    let Err(day) = &rows[2].outcome else { panic!() };
    assert_eq!(day[0].reason, "no such day or time");
    assert!(one(&rows[3]).window.to().is_some() && one(&rows[3]).code.is_none(), "the device may have a code");
    assert_eq!(faults(&rows[4]), [("claim_authentication_code", "code_trivial")]);
    assert_eq!(one(&rows[5]).id.as_str(), "ok-12");
}

#[test]
fn a_device_needs_an_id_that_can_be() {
    let rows = csv("id;dev_eui;external_id;name\n;;;x\n;;E-1;x\n;;Größe 1;x\n;0004A30B001C0530;E-2;x\n");
    assert_eq!(faults(&rows[0]), [("id", "no_id")]);
    assert_eq!(one(&rows[1]).id.as_str(), "e-1");
    assert_eq!(faults(&rows[2]), [("external_id", "invalid_id")]);
    assert_eq!(one(&rows[3]).id.as_str(), "eui-0004a30b001c0530");
}

#[test]
fn codes_that_are_printed_on_the_device_are_trivial_and_short_ones_weak() {
    let rows = csv("id;name;serial_number;owner_token\nabc;hall;S1;HALL\nabd;hall;S1;s1\nabe;hall;S1;ABC12\n");
    assert_eq!(faults(&rows[0]), [("owner_token", "code_trivial")]);
    assert_eq!(faults(&rows[1]), [("owner_token", "code_trivial")]);
    assert_eq!(rows[2].warnings.iter().map(|warning| warning.code).collect::<Vec<_>>(), ["code_weak"]);
}

#[test]
fn a_window_that_ends_before_it_begins_is_refused() {
    let rows =
        csv("id;owner_token;claim_valid_from;claim_valid_to\nabc;BEEF1234;2026-01-02T00:00:00Z;2026-01-02T00:00:00Z\n");
    assert_eq!(faults(&rows[0]), [("claim_valid_to", "claim_authentication_code")]);
}

#[test]
fn unknown_columns_are_warned_and_repeated_ones_refused() {
    let reading = Reading::new(FileFormat::Csv, Cursor::new("id;colour;dev_addr\nabc;red;01020304\n")).unwrap();
    let said: Vec<(&str, &str)> =
        reading.warnings.iter().map(|warning| (warning.column.as_str(), warning.code)).collect();
    assert_eq!(said, [("colour", "unknown_column"), ("dev_addr", "session_ignored")]);
    assert!(reading.map(|row| row.unwrap()).all(|row| row.warnings.is_empty()));
    let refused =
        |text: &str| Reading::new(FileFormat::Csv, Cursor::new(text.to_owned())).map(drop).unwrap_err().to_string();
    assert!(refused("id;name;id\n").contains("`id`"));
    assert!(refused("join_eui;app_eui\n").contains("`app_eui`"));
    assert!(refused("colour;size\nred;1\n").contains("no known column"));
    assert!(refused("").contains("empty"));
}

#[test]
fn rows_of_another_length_and_texts_in_other_encodings_are_named() {
    let rows = read(FileFormat::Csv, b"id;name\nabc\nabd;x;y\nabe;\xfcber\n");
    assert_eq!(faults(&rows[0]), [("", "cell_count")]);
    assert_eq!(faults(&rows[1]), [("", "cell_count")]);
    assert_eq!(faults(&rows[2]), [("name", "not_utf8")]);
}

#[test]
fn texts_are_bounded() {
    let rows =
        csv(&format!("id;name;description\nabc;{};{}\nabd;{};\n", "ä".repeat(50), "d".repeat(2000), "ä".repeat(51)));
    assert_eq!(one(&rows[0]).label.as_ref().map(|label| label.chars().count()), Some(50));
    assert_eq!(faults(&rows[1]), [("name", "too_long")]);
    let wide = |characters: usize| csv(&format!("id;description\nabc;{}\n", "ß".repeat(characters)));
    assert!(wide(2_000)[0].outcome.is_ok(), "4000 bytes");
    let cells = csv(&format!("id;description\nabc;{}\nabd;{}\n", "€".repeat(1_365), "€".repeat(1_366)));
    assert!(cells[0].outcome.is_ok(), "4095 bytes");
    assert_eq!(faults(&cells[1]), [("description", "cell_too_long")], "4098 bytes");
    // Also what a quote that is never closed makes of the rest of a file.
    for long in
        [format!("id;name\nabc;{}\n", "x".repeat(ROW_BYTES)), format!("id;name\nabc;\"{}", "x\n".repeat(ROW_BYTES))]
    {
        let mut reading = Reading::new(FileFormat::Csv, Cursor::new(long)).unwrap();
        assert!(matches!(reading.next(), Some(Err(FileFault::RowTooLong(2)))));
        assert!(reading.next().is_none());
    }
    let inches = csv("id;name\nabc;5\" pipe\nabd;\"6\"\" pipe\"\n");
    assert_eq!(
        inches.iter().map(|row| one(row).label.as_deref()).collect::<Vec<_>>(),
        [Some("5\" pipe"), Some("6\" pipe")]
    );
}

const DEVICE: &str = r#"{"ids":{"device_id":"pump-7","dev_eui":"0004A30B001C0530","join_eui":"70B3D57ED0000000"},
 "name":"Pump {7}","version_ids":{"brand_id":"acme"},"supports_class_c":true,"mac_settings":{"rx1_delay":5},
 "lora_alliance_profile_ids":{"vendor_id":43707,"vendor_profile_id":1},
 "root_keys":{"app_key":{"key":"00112233445566778899AABBCCDDEEFF"}},"session":{"dev_addr":"01020304"},
 "claim_authentication_code":{"value":"BEEF1234","valid_from":"2026-01-01T00:00:00Z","valid_to":null}}"#;

#[test]
fn json_is_read_as_an_array_or_one_after_the_other() {
    let second = r#"{"ids":{"device_id":"pump-8"}}"#;
    for text in [
        format!("[{DEVICE},{second}]"),
        format!("  [ {DEVICE} , {second} ] \n"),
        format!("{DEVICE}{second}"),
        format!("\u{feff}{DEVICE}\n{second}\n"),
    ] {
        let rows = read(FileFormat::Json, text.as_bytes());
        assert_eq!(
            rows.iter().map(|row| (row.row, row.id.as_deref())).collect::<Vec<_>>(),
            [(1, Some("pump-7")), (2, Some("pump-8"))]
        );
        let record = one(&rows[0]);
        assert_eq!((record.label.as_deref(), record.vendor_id), (Some("Pump {7}"), Some(43707)));
        assert_eq!(record.texts.get("brand_id").map(String::as_str), Some("acme"));
        assert_eq!(record.texts.get("rx1_delay").map(String::as_str), Some("5"));
        assert_eq!(record.code.as_ref().map(ClaimCode::expose), Some("BEEF1234"));
        assert!(record.app_key.is_some() && record.window.from().is_some() && record.window.to().is_none());
        assert_eq!(rows[0].warnings.iter().map(|warning| warning.code).collect::<Vec<_>>(), ["session_ignored"]);
    }
}

#[test]
fn a_bad_json_device_is_named_and_the_next_is_read() {
    let rows = read(
        FileFormat::Json,
        br#"[{"ids":{"device_id":"abc","dev_eui":"00GG"},"name":7},{"ids":{"device_id":"abd"} "x"},{"ids":{"device_id":"abe"}}]"#,
    );
    assert_eq!(faults(&rows[0]), [("ids.dev_eui", "invalid_eui"), ("name", "invalid_type")]);
    assert_eq!(rows[1].outcome.as_ref().unwrap_err()[0].code, "invalid_json");
    assert_eq!(one(&rows[2]).id.as_str(), "abe");
}

#[test]
fn what_is_no_object_ends_the_file() {
    for (text, good) in [("[1]", 0), ("{\"a\":1", 0), ("[{}", 1), ("[{}] x", 1), ("{} x", 1), ("[", 0)] {
        let rows: Vec<_> = Reading::new(FileFormat::Json, Cursor::new(text)).unwrap().collect();
        assert_eq!(rows.len(), good + 1, "{text}");
        assert!(matches!(rows[good], Err(FileFault::NoObject(_))), "{text}: {:?}", rows[good]);
    }
    assert!(matches!(Reading::new(FileFormat::Json, Cursor::new(" \n")).map(drop), Err(FileFault::Empty)));
    assert_eq!(read(FileFormat::Json, b"[]").len(), 0);
    let deep = format!("{{\"x\":\"{}\"}}", "y".repeat(ROW_BYTES));
    let rows: Vec<_> = Reading::new(FileFormat::Json, Cursor::new(deep)).unwrap().collect();
    assert!(matches!(rows[..], [Err(FileFault::RowTooLong(1))]));
}

#[test]
fn the_format_is_guessed_from_the_beginning() {
    for (head, format) in [
        ("id;dev_eui", FileFormat::Csv),
        ("", FileFormat::Csv),
        (" [", FileFormat::Json),
        ("\u{feff}{\"ids\"", FileFormat::Json),
    ] {
        assert_eq!(FileFormat::guess(head.as_bytes()), format);
        assert_eq!(FileFormat::of_id(format.id()), Some(format));
    }
}

proptest! {
    #[test]
    fn no_file_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for format in [FileFormat::Csv, FileFormat::Json] {
            if let Ok(reading) = Reading::new(format, Cursor::new(&bytes)) {
                reading.take(1_000).for_each(drop);
            }
        }
    }

    #[test]
    fn no_json_like_text_makes_it_panic(text in r#"[\[\]{}",:\\ a1]{0,60}"#) {
        if let Ok(reading) = Reading::new(FileFormat::Json, Cursor::new(text)) {
            reading.take(1_000).for_each(drop);
        }
    }
}

#[test]
fn warnings_are_few_however_many_columns_and_rows_there_are() {
    let header = format!("id{}", ",last_seen".repeat(2_000));
    let row = format!("pump-1{}", ",1".repeat(2_000));
    let mut reading = Reading::new(FileFormat::Csv, Cursor::new(format!("{header}\n{row}\n"))).unwrap();
    let said: Vec<&str> = reading.warnings.iter().map(|warning| warning.code).collect();
    assert_eq!(said, ["session_ignored"], "once of the file");
    assert!(reading.next().unwrap().unwrap().warnings.is_empty());
    let unknown: String = (0..1_000).map(|n| format!(",column {n}")).collect();
    let reading = Reading::new(FileFormat::Csv, Cursor::new(format!("id{unknown}\n"))).unwrap();
    assert_eq!(reading.warnings.len(), 51);
    assert!(reading.warnings[50].reason.starts_with("950 more"));
    let long = Reading::new(FileFormat::Csv, Cursor::new(format!("id,{}\n", "x".repeat(9_000)))).unwrap();
    assert_eq!(long.warnings[0].column.len(), 255);
}

#[test]
fn a_lone_carriage_return_ends_no_row() {
    let file = "id,name\r\npump-1,a\rb\r\npump-2,\"c\"\r\n";
    let rows: Vec<(u64, Option<String>)> = Reading::new(FileFormat::Csv, Cursor::new(file))
        .unwrap()
        .map(|row| row.unwrap())
        .map(|row| (row.row, row.outcome.unwrap().label))
        .collect();
    assert_eq!(rows, [(2, Some("a\rb".to_owned())), (3, Some("c".to_owned()))]);
}
