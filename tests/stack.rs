//! The Things Stack's face: claiming by code and by QR text, as its clients ask and as they read the answers.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::harness::{Answer, Client, Server, World};

const JOIN_EUI: &str = "70B3D57ED0000000";
const CLAIM: &str = "/api/v3/edcs/claim";

/// A maker with devices that cannot speak, and owners with applications of their own.
struct Stage {
    server: Server,
    world: World,
}

impl Stage {
    fn new() -> Self {
        Self::with(&[])
    }

    fn with(settings: &[(&str, &str)]) -> Self {
        let server = Server::with(settings);
        let world = World::new(&server);
        for (owner, application) in [(&world.alice, "alice-home"), (&world.bob, "bob-home")] {
            owner.client.post("/api/claimd/v1/applications", &json!({"id": application})).ok();
        }
        Self { server, world }
    }

    /// Registers `pump-N` with DevEUI N and this code.
    fn pump(&self, number: u8, code: &Value) -> String {
        let dev_eui = format!("0004A30B001C05{number:02X}");
        let mut body = json!({"id": format!("pump-{number}"), "devEui": dev_eui, "joinEui": JOIN_EUI});
        if !code.is_null() {
            body["code"] = code.clone();
        }
        self.world.maker.post("/api/claimd/v1/applications/default/devices", &body).ok();
        dev_eui
    }

    fn claim(&self, client: &Client, dev_eui: &str, code: &str, application: &str, device: &str) -> Answer {
        let identifiers = json!({"join_eui": JOIN_EUI, "dev_eui": dev_eui, "authentication_code": code});
        let target = json!({"application_id": application});
        let body = json!({"authenticated_identifiers": identifiers, "target_application_ids": target,
            "target_device_id": device});
        client.post(CLAIM, &body)
    }

    fn alice(&self) -> &Client {
        &self.world.alice.client
    }

    fn bob(&self) -> &Client {
        &self.world.bob.client
    }
}

/// Status, gRPC code and name; the shape is the one that The Things Stack's clients read.
fn refused(answer: &Answer) -> (u16, u64, String) {
    let error = answer.json();
    let details = &error["details"][0];
    assert_eq!(details["@type"], "type.googleapis.com/ttn.lorawan.v3.ErrorDetails", "{answer:?}");
    assert_eq!(details["code"], error["code"]);
    let (namespace, name) = (details["namespace"].as_str().expect("one"), details["name"].as_str().expect("a name"));
    let message = error["message"].as_str().expect("a message");
    assert!(message.starts_with(&format!("error:{namespace}:{name} (")) && message.ends_with(')'), "{message}");
    assert!(!message.contains('{'), "every attribute is put in: {message}");
    assert_eq!(details["correlation_id"].as_str().map(str::len), Some(32));
    (answer.status, error["code"].as_u64().expect("a code"), name.to_owned())
}

fn said(status: u16, code: u64, name: &str) -> (u16, u64, String) {
    (status, code, name.to_owned())
}

#[test]
fn a_device_is_claimed_by_its_code_into_an_application_and_given_back() {
    let stage = Stage::new();
    let eui = stage.pump(1, &json!({"value": "BEEF1234"}));
    let claimed = stage.claim(stage.alice(), &eui.to_lowercase(), "beef1234", "alice-home", "hall").ok();
    let ids = json!({"application_ids": {"application_id": "alice-home"}, "device_id": "hall",
        "dev_eui": eui, "join_eui": JOIN_EUI});
    assert_eq!(claimed, ids);
    // A lost answer: the same request again.
    assert_eq!(stage.claim(stage.alice(), &eui, "BEEF1234", "alice-home", "hall").ok(), ids);
    let path = format!("{CLAIM}/alice-home/devices/hall");
    assert_eq!(stage.alice().get(&path).ok()["end_device_ids"], ids);
    let shown = stage.world.maker.get("/api/claimd/v1/applications/alice-home/devices/hall").ok();
    assert_eq!((&shown["home"]["device"], &shown["name"]), (&json!("pump-1"), &json!("pump-1")));
    assert_eq!(shown["code"], Value::Null, "spent");
    assert_eq!(shown["owner"], stage.world.alice.customer.as_str());
    // The maker claims for a customer, with the code like anybody.
    let second = stage.pump(2, &json!({"value": "BEEF1234"}));
    let wrong = stage.claim(&stage.world.maker, &second, "BEEF1235", "alice-home", "stairs");
    assert_eq!(refused(&wrong), said(400, 3, "device_access_denied"));
    stage.claim(&stage.world.maker, &second, "BEEF1234", "alice-home", "stairs").ok();
    let shown = stage.world.maker.get("/api/claimd/v1/applications/alice-home/devices/stairs").ok();
    assert_eq!(shown["owner"], stage.world.alice.customer.as_str());
    // Nobody else looks into the application, or takes the device with the right code.
    assert_eq!(refused(&stage.bob().get(&path)), said(403, 7, "no_application_rights"));
    let other = stage.claim(stage.bob(), &eui, "BEEF1234", "bob-home", "hall");
    assert_eq!(refused(&other), said(409, 6, "device_already_claimed"));
    assert_eq!(refused(&stage.bob().delete(&path)), said(403, 7, "no_application_rights"));
    assert_eq!(stage.alice().delete(&path).ok(), json!({}));
    assert_eq!(refused(&stage.alice().get(&path)), said(404, 5, "device_not_found"));
    let home = stage.world.maker.get("/api/claimd/v1/applications/default/devices/pump-1").ok();
    assert_eq!(home["owner"], Value::Null);
    assert_eq!(
        refused(&stage.world.maker.get(&format!("{CLAIM}/default/devices/pump-1"))),
        said(404, 5, "device_not_claimed")
    );
    // The code is spent; a new one opens it again, for the other.
    let again = stage.claim(stage.alice(), &eui, "BEEF1234", "alice-home", "hall");
    assert_eq!(refused(&again), said(400, 3, "device_access_denied"));
    let code = "/api/claimd/v1/applications/default/devices/pump-1/code";
    let made = stage.world.maker.send("PUT", code, &[], &json!({"generate": "base32"}).to_string()).ok();
    let generated = made["code"]["value"].as_str().expect("shown once").to_owned();
    assert_eq!(generated.len(), 16);
    assert_eq!(stage.world.maker.get(code).ok()["value"], generated.as_str());
    stage.claim(stage.bob(), &eui, &generated, "bob-home", "").ok();
    assert!(stage.bob().get(&format!("{CLAIM}/bob-home/devices/pump-1")).ok()["end_device_ids"].is_object());
}

#[test]
fn everyone_without_the_right_code_hears_the_same() {
    let stage = Stage::new();
    let (coded, codeless) = (stage.pump(1, &json!({"value": "BEEF1234"})), stage.pump(2, &Value::Null));
    let over = stage.pump(3, &json!({"value": "BEEF1234", "valid_to": "2020-01-01T00:00:00Z"}));
    let early = stage.pump(4, &json!({"value": "BEEF1234", "valid_from": "2999-01-01T00:00:00+01:00"}));
    let mixed = stage.pump(5, &json!({"value": "Beef1234"}));
    let mut heard = Vec::new();
    let tries = [
        (&*coded, "BEEF1235"),
        (&*codeless, "BEEF1234"),
        (&*over, "BEEF1234"),
        (&*early, "BEEF1234"),
        (&*mixed, "BEEF1234"),
        ("0004A30B001C05FF", "BEEF1234"),
    ];
    for (eui, code) in tries {
        let mut answer = stage.claim(stage.alice(), eui, code, "alice-home", "").json();
        answer["details"][0]["correlation_id"] = Value::Null;
        heard.push(answer);
    }
    // Also a device of an application that is not authorised, and another owner's.
    stage.world.maker.delete("/api/v3/edcs/applications/default/authorize").ok();
    let mut answer = stage.claim(stage.alice(), &coded, "BEEF1234", "alice-home", "").json();
    answer["details"][0]["correlation_id"] = Value::Null;
    heard.push(answer);
    stage.world.maker.post("/api/v3/edcs/applications/default/authorize", &json!({})).ok();
    stage.claim(stage.alice(), &coded, "BEEF1234", "alice-home", "").ok();
    let mut answer = stage.claim(stage.bob(), &coded, "BEEF1235", "bob-home", "").json();
    answer["details"][0]["correlation_id"] = Value::Null;
    heard.push(answer);
    assert_eq!(heard[0]["details"][0]["name"], "device_access_denied");
    assert!(heard.iter().all(|answer| *answer == heard[0]), "{heard:#?}");
}

#[test]
fn requests_that_cannot_be_are_refused_before_any_look_at_a_device() {
    let stage = Stage::new();
    let eui = stage.pump(1, &json!({"value": "BEEF1234"}));
    let target = json!({"application_id": "alice-home"});
    let identifiers = json!({"join_eui": JOIN_EUI, "dev_eui": eui, "authentication_code": "BEEF1234"});
    let with = |member: &str, value: &str| {
        let mut changed = identifiers.clone();
        changed[member] = json!(value);
        json!({"authenticated_identifiers": changed, "target_application_ids": target})
    };
    let rows = [
        (json!({}), said(400, 3, "no_target_application")),
        (json!({"authenticated_identifiers": identifiers}), said(400, 3, "no_target_application")),
        (json!({"target_application_ids": target}), said(400, 3, "no_source")),
        (
            json!({"target_application_ids": target, "authenticated_identifiers": identifiers, "qr_code": "TFc6"}),
            said(400, 3, "no_source"),
        ),
        (json!({"target_application_ids": target, "authenticated_identifiers": {}}), said(400, 3, "no_join_eui")),
        (with("join_eui", "70B3"), said(400, 3, "invalid_eui")),
        (with("dev_eui", ""), said(400, 3, "invalid_eui")),
        (with("authentication_code", ""), said(400, 3, "authentication_code")),
        (with("authentication_code", "BEEF-1234"), said(400, 3, "authentication_code")),
        (json!({"target_application_ids": target, "qr_code": "!"}), said(400, 3, "qr_code_data")),
        (
            json!({"target_application_ids": target, "qr_code": STANDARD.encode("hello world")}),
            said(400, 3, "unknown_format"),
        ),
        (
            json!({"target_application_ids": target, "qr_code": STANDARD.encode(&eui)}),
            said(400, 3, "no_claim_authentication_code"),
        ),
        (json!({"target_application_ids": 7}), said(400, 3, "invalid_argument")),
    ];
    for (body, expected) in rows {
        assert_eq!(refused(&stage.alice().post(CLAIM, &body)), expected, "{body}");
    }
    for foreign in ["bob-home", "default", "no-home", "Not An Id"] {
        let answer = stage.claim(stage.alice(), &eui, "BEEF1234", foreign, "");
        assert_eq!(refused(&answer), said(403, 7, "no_application_rights"), "{foreign}");
    }
    let stranger = Client::stranger(&stage.server.http);
    let answer = stage.claim(&stranger, &eui, "BEEF1234", "alice-home", "");
    assert_eq!(refused(&answer), said(401, 16, "unauthenticated"));
    assert_eq!(refused(&stage.alice().get("/api/v3/nothing")), said(404, 5, "not_found"));
    // Members in lowerCamelCase and base64 are understood as well, and so is `Authorization`.
    let bytes = URL_SAFE_NO_PAD.encode([0x00, 0x04, 0xa3, 0x0b, 0x00, 0x1c, 0x05, 0x01]);
    let body = json!({"authenticatedIdentifiers": {"joinEui": JOIN_EUI, "devEui": bytes, "authenticationCode": "BEEF1234"},
        "targetApplicationIds": {"applicationId": "alice-home"}, "targetDeviceId": "hall", "unknown": {"x": 1}});
    let bearer = format!("Bearer {}", stage.alice().bearer.as_deref().expect("a bearer"));
    let answer = stranger.send("POST", CLAIM, &[("Authorization", &bearer)], &body.to_string());
    assert_eq!(answer.ok()["device_id"], "hall");
    // The right code, but the place is taken.
    let second = stage.pump(2, &json!({"value": "BEEF1234"}));
    let taken = stage.claim(stage.alice(), &second, "BEEF1234", "alice-home", "hall");
    assert_eq!(refused(&taken), said(409, 6, "id_taken"));
    assert_eq!(stage.claim(stage.alice(), &second, "BEEF1234", "alice-home", "stairs").ok()["device_id"], "stairs");
}

#[test]
fn wrong_codes_are_counted_here_as_at_every_door() {
    let stage = Stage::new();
    let eui = stage.pump(1, &json!({"value": "BEEF1234"}));
    for guess in ["BEEF1230", "BEEF1231", "BEEF1232"] {
        let answer = stage.claim(stage.alice(), &eui, guess, "alice-home", "");
        assert_eq!(refused(&answer), said(400, 3, "device_access_denied"));
    }
    for guess in ["BEEF1233", "BEEF1235"] {
        assert_eq!(stage.alice().claim("pump-1", guess).status, 400);
    }
    let answer = stage.claim(stage.alice(), &eui, "BEEF1234", "alice-home", "");
    assert_eq!(refused(&answer), said(429, 8, "rate_limited"));
    assert!(answer.header("retry-after").is_some_and(|wait| wait.parse::<u32>().is_ok_and(|wait| wait > 0)));
    stage.claim(stage.bob(), &eui, "BEEF1234", "bob-home", "").ok();
}

#[test]
fn a_scanned_text_of_every_grammar_claims() {
    let stage = Stage::new();
    let public = format!("http://{}", stage.server.http);
    let text = |number: u8, dev_eui: &str| match number {
        1 => format!("LW:D0:{JOIN_EUI}:{dev_eui}:00000000:OBEEF1234"),
        2 => format!("lw:d0:{}:{}:AABB1122:SSN1:Obeef1234", JOIN_EUI.to_lowercase(), dev_eui.to_lowercase()),
        3 => format!("URN:LW:DP:{JOIN_EUI}:{dev_eui}:AABB1122:%25VBEEF1234"),
        4 => format!("URN:DEV:LW:{JOIN_EUI}_{dev_eui}_AABB1122_VBEEF1234"),
        5 => format!("{public}/c/pump-5#BEEF1234"),
        _ => json!({"deviceName": "pump-6", "secretKey": "BEEF1234"}).to_string(),
    };
    for number in 1..=6 {
        let dev_eui = stage.pump(number, &json!({"value": "BEEF1234"}));
        let body = json!({"qr_code": STANDARD.encode(text(number, &dev_eui)),
            "target_application_ids": {"application_id": "alice-home"}, "target_device_id": format!("dev-{number}")});
        let claimed = stage.alice().post(CLAIM, &body).ok();
        assert_eq!((&claimed["dev_eui"], &claimed["device_id"]), (&json!(dev_eui), &json!(format!("dev-{number}"))));
    }
    // What was misread is told apart from what is not right, and costs nothing.
    let damaged = format!("LW:D0:{JOIN_EUI}:0004A30B001C0501:00000000:OBEEF1234:C0000");
    let body = json!({"qr_code": STANDARD.encode(damaged), "target_application_ids": {"application_id": "alice-home"}});
    assert_eq!(refused(&stage.alice().post(CLAIM, &body)), said(400, 3, "checksum_mismatch"));
}

#[test]
fn batches_are_given_back_each_by_itself() {
    let stage = Stage::new();
    for number in 1..=3 {
        let eui = stage.pump(number, &json!({"value": "BEEF1234"}));
        stage.claim(stage.alice(), &eui, "BEEF1234", "alice-home", &format!("dev-{number}")).ok();
    }
    // One without EUIs, which this face does not know devices by.
    let home = json!({"id": "plain-1", "code": {"value": "BEEF1234"}});
    stage.world.maker.post("/api/claimd/v1/applications/default/devices", &home).ok();
    let link = format!("http://{}/c/plain-1#BEEF1234", stage.server.http);
    let body = json!({"qr_code": STANDARD.encode(link), "target_application_ids": {"application_id": "alice-home"}});
    stage.alice().post(CLAIM, &body).ok();
    let batch = |ids: &[&str]| {
        let query: Vec<String> = ids.iter().map(|id| format!("device_ids={id}")).collect();
        stage.alice().delete(&format!("{CLAIM}/alice-home/devices/batch?{}", query.join("&")))
    };
    assert_eq!(refused(&batch(&[])), said(400, 3, "invalid_argument"));
    assert_eq!(refused(&batch(&["x"; 21])), said(400, 3, "invalid_argument"));
    assert_eq!(refused(&batch(&["none", "nowhere"])), said(400, 3, "no_devices_found"));
    let answer = batch(&["dev-1", "none", "plain-1", "dev-2"]).ok();
    assert_eq!(answer["not_found"], json!(["none"]));
    let failed = answer["failed"].as_object().expect("an object");
    assert_eq!(failed.keys().collect::<Vec<_>>(), ["plain-1"]);
    assert_eq!((&failed["plain-1"]["name"], &failed["plain-1"]["code"]), (&json!("no_euis"), &json!(9)));
    assert_eq!(refused(&stage.alice().get(&format!("{CLAIM}/alice-home/devices/plain-1"))), said(400, 9, "no_euis"));
    assert!(stage.alice().get(&format!("{CLAIM}/alice-home/devices/dev-3")).ok().is_object(), "not named, not touched");
}

#[test]
fn whether_a_join_eui_is_served_needs_no_credential() {
    let server = Server::start();
    let stranger = Client::stranger(&server.http);
    let info = |eui: &str| stranger.post("/api/v3/edcs/claim/info", &json!({"join_eui": eui}));
    assert_eq!(info("70b3d57ed0000000").ok(), json!({"join_eui": JOIN_EUI, "supports_claiming": true}));
    assert_eq!(refused(&info("70B3")), said(400, 3, "invalid_eui"));
    let infos = |euis: &[&str]| {
        let requests: Vec<Value> = euis.iter().map(|eui| json!({"join_eui": eui})).collect();
        stranger.post("/api/v3/edcs/claim/info/batch", &json!({"requests": requests}))
    };
    let answer = infos(&[JOIN_EUI, "800000000000000C"]).ok();
    assert_eq!(answer["infos"][1]["join_eui"], "800000000000000C", "in the order asked");
    assert_eq!(refused(&infos(&["70B3"])), said(400, 3, "invalid_eui"));
    assert_eq!(refused(&infos(&[])), said(400, 3, "invalid_argument"));
    assert_eq!(refused(&infos(&[JOIN_EUI; 21])), said(400, 3, "invalid_argument"));
}

#[test]
fn only_the_maker_authorises_an_application() {
    let stage = Stage::new();
    let path = "/api/v3/edcs/applications/default/authorize";
    assert_eq!(refused(&stage.alice().post(path, &json!({}))), said(403, 7, "no_application_rights"));
    assert_eq!(refused(&stage.alice().delete(path)), said(403, 7, "no_application_rights"));
    let nowhere = "/api/v3/edcs/applications/no-such/authorize";
    assert_eq!(refused(&stage.world.maker.post(nowhere, &json!({}))), said(403, 7, "no_application_rights"));
    // A key that is named must hold the rights itself.
    let key = |client: &Client| json!({"api_key": client.bearer});
    assert_eq!(refused(&stage.world.maker.post(path, &key(stage.alice()))), said(403, 7, "no_application_rights"));
    assert_eq!(
        refused(&stage.world.maker.post(path, &json!({"api_key": "nonsense"}))),
        said(403, 7, "no_application_rights")
    );
    assert_eq!(stage.world.maker.post(path, &key(&stage.world.maker)).ok(), json!({}));
    let shown = || stage.world.maker.get("/api/claimd/v1/applications/default").ok()["claimingAuthorized"].clone();
    assert_eq!(shown(), true);
    assert_eq!(stage.world.maker.delete(path).ok(), json!({}));
    assert_eq!(shown(), false);
}

#[test]
fn qr_codes_are_written_drawn_and_read() {
    let stage = Stage::new();
    let formats = stage.alice().get("/api/v3/qr-codes/end-devices/formats").ok();
    let ids: Vec<&String> = formats["formats"].as_object().expect("formats").keys().collect();
    assert_eq!(ids, ["claimd-url", "tb-json", "tr005"]);
    assert!(stage.alice().get("/api/v3/qr-codes/end-devices/formats/tr005").ok()["field_mask"]["paths"].is_array());
    let unknown = stage.alice().get("/api/v3/qr-codes/end-devices/formats/tr006");
    assert_eq!(refused(&unknown), said(404, 5, "format_not_found"));

    let device = json!({"ids": {"device_id": "pump-7", "join_eui": JOIN_EUI, "dev_eui": "0004A310001AAED6"},
        "claim_authentication_code": {"value": "C05EA29C"}});
    let generate = |format: &str, image: Value| {
        let body = json!({"format_id": format, "end_device": device, "image": image});
        stage.alice().post("/api/v3/qr-codes/end-devices", &body)
    };
    let written = generate("tr005", json!({"image_size": 300})).ok();
    let text = written["text"].as_str().expect("a text");
    assert_eq!(text, "LW:D0:70B3D57ED0000000:0004A310001AAED6:00000000:OC05EA29C:C536C");
    let embedded = &written["image"]["embedded"];
    assert_eq!(embedded["mime_type"], "image/png");
    let png = STANDARD.decode(embedded["data"].as_str().expect("base64")).expect("base64");
    assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
    assert_eq!(png[16..24], [0, 0, 1, 44, 0, 0, 1, 44], "300 by 300");
    let svg = generate("claimd-url", json!({"image_size": 100, "format": "svg"})).ok();
    assert_eq!(svg["image"]["embedded"]["mime_type"], "image/svg+xml");
    assert_eq!(svg["text"], format!("http://{}/c/pump-7#C05EA29C", stage.server.http));
    assert_eq!(refused(&generate("dev_eui", Value::Null)), said(404, 5, "format_not_found"));
    assert_eq!(refused(&generate("tr005", json!({"image_size": 9}))), said(400, 3, "invalid_argument"));
    assert_eq!(refused(&generate("tr005", json!({"image_size": 20}))), said(400, 3, "qr_code_data"));
    let body = json!({"format_id": "tr005", "end_device": {"ids": {"dev_eui": "0004A310001AAED6"}}});
    assert_eq!(refused(&stage.alice().post("/api/v3/qr-codes/end-devices", &body)), said(400, 9, "no_join_eui"));

    let parse = |path: &str, text: &str| {
        stage.alice().post(&format!("/api/v3/qr-codes/{path}"), &json!({"qr_code": STANDARD.encode(text)}))
    };
    let read = parse("end-devices/parse", text).ok();
    let template = &read["end_device_template"]["end_device"];
    assert_eq!(read["format_id"], "tr005");
    assert_eq!(template["ids"], json!({"join_eui": JOIN_EUI, "dev_eui": "0004A310001AAED6"}));
    assert_eq!(template["claim_authentication_code"]["value"], "C05EA29C");
    assert_eq!(parse("end-devices/tr005/parse", text).ok(), read);
    assert_eq!(refused(&parse("end-devices/tb-json/parse", text)), said(400, 3, "qr_code_data"));
    assert_eq!(refused(&parse("end-devices/tr006/parse", text)), said(404, 5, "format_not_found"));
    assert_eq!(refused(&parse("end-devices/parse", "short")), said(400, 3, "qr_code_data"));
    let with_ids = parse(
        "end-devices/parse",
        "LW:D0:1122334455667788:AABBCCDDEEFF0011:AABB1122:OAABBCCDDEEFF:SYYWWNNNNNN:PFOOBAR",
    )
    .ok();
    let template = &with_ids["end_device_template"]["end_device"];
    assert_eq!(template["lora_alliance_profile_ids"], json!({"vendor_id": 0xaabb, "vendor_profile_id": 0x1122}));
    assert_eq!(template["serial_number"], "YYWWNNNNNN");
    let link = "https://ttig.pro/c/ec656efffe000128/abcdef123456";
    let gateway = json!({"format_id": "ttigpro1", "gateway_eui": "EC656EFFFE000128", "owner_token": "abcdef123456"});
    assert_eq!(parse("gateways/parse", link).ok(), gateway);
    assert_eq!(parse("gateways/ttigpro1/parse", link).ok(), gateway);
    assert_eq!(refused(&parse("gateways/tr005/parse", link)), said(404, 5, "format_not_found"));
    assert_eq!(refused(&parse("gateways/parse", text)), said(400, 3, "qr_code_data"));
    assert_eq!(refused(&parse("end-devices/parse", link)), said(400, 3, "qr_code_data"));
}
