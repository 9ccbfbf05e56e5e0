use std::path::Path;

use super::*;

fn from(text: &str, env: &[(&str, &str)]) -> Result<Loaded, Vec<Fault>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("claimd.toml");
    std::fs::write(&path, text).unwrap();
    load(Some(&path), env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())), &[])
}

fn faults(text: &str, env: &[(&str, &str)]) -> String {
    let faults = from(text, env).err().expect("faults");
    faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("\n\n")
}

#[test]
fn the_shipped_file_holds_every_key_at_its_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/claimd.toml");
    let loaded = load(Some(&path), std::iter::empty(), &[]).map_err(|f| format!("{f:?}")).unwrap();
    assert_eq!(loaded.settings, Settings::default());
    let every_key = Settings::tree();
    for (section, keys) in every_key.as_object().unwrap() {
        for key in keys.as_object().unwrap().keys() {
            let path = format!("{section}.{key}");
            assert!(loaded.origins.contains_key(&path), "config/claimd.toml lacks `{path}`");
        }
    }
}

#[test]
fn later_sources_win() {
    let loaded = from(
        "[limits]\npayload_bytes = 1000\nconnections = 7\n[claim]\nlifetime_default = \"5m\"\n",
        &[("CLAIMD_LIMITS__PAYLOAD_BYTES", "2000"), ("CLAIMD_CLAIM__ALLOW_BY_DEFAULT", "false"), ("OTHER", "x")],
    )
    .map_err(|f| format!("{f:?}"))
    .unwrap();
    assert_eq!(loaded.settings.limits.payload_bytes, 2000);
    assert_eq!(loaded.settings.limits.connections, 7);
    assert_eq!(loaded.settings.claim.lifetime_default.as_secs(), 300);
    assert!(!loaded.settings.claim.allow_by_default);
    let shown = loaded.print(true, true);
    assert!(shown.contains("payload_bytes = 2000  # env CLAIMD_LIMITS__PAYLOAD_BYTES"), "{shown}");
    assert!(shown.contains("http_uri_bytes = 4096  # default"), "{shown}");
}

#[test]
fn every_fault_is_listed_with_its_place_and_a_way_out() {
    insta::assert_snapshot!(faults(
        "# made by hand\n[limits]\npayload_byte = 3\nconnections = \"many\"\n\n[mqqt]\nbind = \"x\"\n[claim]\nlifetime_max = \"a day\"\n",
        &[("CLAIMD_LIMITS__CONECTIONS", "3"), ("CLAIMD_CLAIM__ALLOW_BY_DEFAULT", "perhaps")],
    ), @r#"
    error: unknown key `limits.payload_byte`
      claimd.toml:3:1  payload_byte = 3
    why   unknown keys are refused so that a typo cannot switch a setting off
    next  did you mean `limits.payload_bytes`?

    error: unknown key `mqqt`
      claimd.toml:6:2  [mqqt]
    why   unknown keys are refused so that a typo cannot switch a setting off
    next  did you mean `mqtt`?

    error: unknown variable `CLAIMD_LIMITS__CONECTIONS`
    why   unknown keys are refused so that a typo cannot switch a setting off
    next  did you mean `CLAIMD_LIMITS__CONNECTIONS`?

    error: `limits.connections`: invalid type: string "many", expected an integer
      claimd.toml:4:1  connections = "many"
    next  the default is 100000

    error: `claim.lifetime_max`: invalid value: string "a day", expected a duration
      claimd.toml:9:1  lifetime_max = "a day"
    next  the default is "1day"

    error: `claim.allow_by_default`: invalid type: string "perhaps", expected a boolean
      CLAIMD_CLAIM__ALLOW_BY_DEFAULT
    next  the default is true
    "#);
}

#[test]
fn broken_toml_says_where() {
    insta::assert_snapshot!(faults("[limits]\npayload_bytes = = 3\n", &[]), @r"
    error: not TOML: extra `=`, expected nothing
      claimd.toml:2:17  payload_bytes = = 3
    ");
}

#[test]
fn a_secret_is_shown_by_no_fault_and_no_print() {
    let text = faults("[bootstrap]\nadmin_password = [\"hunter2\"]\n", &[]);
    assert!(!text.contains("hunter2"), "{text}");
    let text = faults("", &[("CLAIMD_BOOTSTRAP__ADMIN_PASSWORD", "hunter2")]);
    assert!(text.contains("shorter than 12") && !text.contains("hunter2"), "{text}");
    let loaded = from("[bootstrap]\nadmin_password = \"correct-horse-battery\"\n", &[]).ok().unwrap();
    assert!(!loaded.print(true, true).contains("correct-horse"));
    assert!(loaded.print(false, false).contains("correct-horse"));
}

#[test]
fn a_secret_may_come_from_a_file_but_not_from_two_places() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "correct-horse-battery\n").unwrap();
    let file = file.to_str().unwrap();
    let loaded = from("", &[("CLAIMD_BOOTSTRAP__ADMIN_PASSWORD_FILE", file)]).ok().unwrap();
    assert_eq!(loaded.settings.bootstrap.admin_password, "correct-horse-battery");
    let both = [("CLAIMD_BOOTSTRAP__ADMIN_PASSWORD_FILE", file), ("CLAIMD_BOOTSTRAP__ADMIN_PASSWORD", "x")];
    assert!(faults("", &both).contains("given twice"));
    assert!(faults("", &[("CLAIMD_BOOTSTRAP__ADMIN_PASSWORD_FILE", "/no/such/file")]).contains("cannot read"));
}

#[test]
fn a_limit_of_zero_and_a_contradiction_are_refused() {
    let text = faults("[limits]\nconnections = 0\n", &[]);
    assert!(text.contains("`limits.connections` is 0"), "{text}");
    let text = faults("[claim]\nlifetime_default = \"2days\"\n", &[]);
    assert!(text.contains("longer than `claim.lifetime_max`"), "{text}");
}

#[test]
fn a_database_s_address_is_a_secret_and_goes_with_its_backend() {
    let url = "postgresql://claimd:hunter2@db/claimd";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    std::fs::write(&file, format!("{url}\n")).unwrap();
    let given = [("CLAIMD_REGISTRY__BACKEND", "postgres"), ("CLAIMD_REGISTRY__URL_FILE", file.to_str().unwrap())];
    let loaded = from("", &given).ok().unwrap();
    assert_eq!(loaded.settings.registry.url, url);
    assert_eq!(loaded.settings.registry.backend, registry::Backend::Postgres);
    assert!(!loaded.print(true, true).contains("hunter2"));
    let text = faults("[registry]\nbackend = \"postgres\"\n", &[]);
    assert!(text.contains("`registry.url` is not given"), "{text}");
    let text = faults("", &[("CLAIMD_REGISTRY__URL", url)]);
    assert!(text.contains("`registry.backend` is sqlite") && !text.contains("hunter2"), "{text}");
    let text = faults("[registry]\nconnections = 0\n", &[]);
    assert!(text.contains("`registry.connections` is 0"), "{text}");
}

#[test]
fn balancers_are_named_by_address_or_prefix() {
    let loaded = from("", &[("CLAIMD_PROXY__TRUSTED", "10.0.0.0/28, 192.0.2.1,2001:db8::/64")]).ok().unwrap();
    let proxy = loaded.settings.proxy();
    for (peer, trusted) in [("10.0.0.15", true), ("10.0.0.16", false), ("192.0.2.1", true), ("2001:db8::9", true)] {
        assert_eq!(proxy.trusts(peer.parse().unwrap()), trusted, "{peer}");
    }
    let text = faults("[proxy]\ntrusted = [\"balancer\"]\nheader_bytes = 51\nawaited = 0\n", &[]);
    for said in ["\"balancer\" is no address", "`proxy.header_bytes` is 51", "`proxy.awaited` is 0"] {
        assert!(text.contains(said), "{text}");
    }
    assert!(from("[proxy]\nheader_bytes = 52\nawaited = 1\n", &[]).is_ok());
}
