//! What is written, without running it; `tests/snippets.rs` runs it.

use super::*;

/// Names with all that means something to a language.
const HOSTILE: [&str; 9] = [
    r#"it's "50%" $HOME \ pump"#,
    r"ends with a backslash \",
    "{{device}} {{literal}} {{port}}",
    "*/ ?> ??/ ??' -->",
    "`reboot` $(reboot) ${x} #{x} %s %n",
    "\u{1F6B0} na\u{ef}ve \u{645}\u{636}\u{62e}\u{629}",
    r"\u{41} \x41 \101 \N{BULLET}",
    "--help",
    r#"""" ''' "#,
];

fn args(snippet: &Snippet, device: &str) -> SnippetArgs {
    SnippetArgs {
        lang: snippet.lang,
        transport: snippet.wire,
        device: device.to_owned(),
        gateway: snippet.gateway,
        host: None,
        port: None,
        profile: "default".to_owned(),
    }
}

#[test]
fn every_gap_is_filled_once_and_a_name_adds_no_line() {
    for snippet in &SNIPPETS {
        let plain = written(&args(snippet, "pump-7"), None).expect("it is there");
        assert!(plain.contains("pump-7") && plain.contains("CLAIMD_TOKEN") && plain.contains("CLAIMD_SECRET"));
        for name in HOSTILE {
            let text = written(&args(snippet, name), None).expect("a name");
            assert_eq!(text.lines().count(), plain.lines().count(), "{name}");
            // Once in a comment as it is; the line ends in words of ours.
            let comment = text.lines().find(|line| line.contains(&format!("\"{name}\""))).expect("a comment");
            assert!(
                !comment.ends_with('\\') && comment.ends_with(char::is_alphanumeric)
                    || comment.ends_with(['.', ':', '`'])
            );
            assert!(text.contains(&format!("  {}", confirm(&DeviceName::parse(name).expect("a name")))), "{text}");
        }
        for name in ["device", "literal", "confirm", "host", "host_literal", "port", "authority_literal", "base"] {
            assert!(!plain.contains(&format!("{{{{{name}}}}}")), "{name}: {plain}");
        }
    }
}

#[test]
fn literals_are_read_back_as_they_were() {
    for name in HOSTILE {
        let json = quote::literal(Lang::Node, name);
        assert_eq!(serde_json::from_str::<String>(&json).expect("a JavaScript text is JSON's here"), name);
        let c = quote::literal(Lang::C, name);
        assert!(!c.contains("??"), "{c}");
    }
    assert_eq!(quote::shell("it's"), r"'it'\''s'");
    assert_eq!(quote::shell("pump-7"), "pump-7");
    assert_eq!(quote::shell(""), "''");
    let dash = DeviceName::parse("--help").expect("a name");
    assert_eq!(confirm(&dash), "claimd claim confirm --secret @code.txt -- --help");
}

#[test]
fn addresses_come_from_flags_else_from_the_profile_else_are_the_usual_ones() {
    let shell = |wire| SNIPPETS.iter().find(|s| s.lang == Lang::Shell && s.wire == wire && !s.gateway).expect("there");
    let known = || Some(("claimd.example.com".to_owned(), 9000));
    let http = args(shell(Wire::Http), "d");
    assert!(written(&http, None).expect("text").contains("http://127.0.0.1:8080/api/v1/"));
    assert!(written(&http, known()).expect("text").contains("http://claimd.example.com:9000/api/v1/"));
    let mqtt = args(shell(Wire::Mqtt), "d");
    assert!(written(&mqtt, known()).expect("text").contains("-h claimd.example.com -p 1883 "));
    let coap = SnippetArgs { host: Some("::1".to_owned()), port: Some(7), ..args(shell(Wire::Coap), "d") };
    assert!(written(&coap, None).expect("text").contains("coap://[::1]:7/api/v1/"));
    for host in ["", "a b", "x\"y", "$(reboot)", "a/b", "]["] {
        let odd = SnippetArgs { host: Some(host.to_owned()), ..args(shell(Wire::Coap), "d") };
        assert!(written(&odd, None).is_err(), "{host}");
    }
}

#[test]
fn what_there_is_not_is_answered_with_what_there_is() {
    let c_over_mqtt = SnippetArgs { transport: Wire::Mqtt, ..args(&SNIPPETS[8], "d") };
    let fault = written(&c_over_mqtt, None).expect_err("none");
    assert_eq!(fault.what, "there is no snippet in c over mqtt");
    assert!(fault.next.contains("c coap") && fault.next.contains("shell http"), "{fault:?}");
    let gateway = SnippetArgs { gateway: true, ..args(&SNIPPETS[2], "d") };
    assert_eq!(written(&gateway, None).expect_err("none").next, "there is: shell mqtt, python mqtt");
    let nameless = args(&SNIPPETS[0], "line\nbreak");
    assert!(written(&nameless, None).is_err());
}
