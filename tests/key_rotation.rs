//! Keys are replaced while everything goes on: sessions, API keys, codes, tokens and pending claims work before, during and
//! after; over restarts; and the old master key opens nothing in the end.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::harness::server::{ADMIN, ADMIN_PASSWORD};
use crate::harness::tools::{run, said};
use crate::harness::{Client, Server, World, eventually};

const DEVICES: &str = "/api/claimd/v1/applications/default/devices";
const KEYS: &str = "/api/claimd/v1/keys";

/// An operator with an API key, which no rotation may end.
struct Operator {
    server: Server,
    world: World,
    folder: tempfile::TempDir,
    key: String,
}

impl Operator {
    fn with(settings: &[(&str, &str)]) -> Self {
        let server = Server::with(settings);
        let world = World::new(&server);
        let folder = tempfile::tempdir().expect("a folder");
        let key = world.maker.post("/api/claimd/v1/api-keys", &json!({"name": "keys"})).ok();
        let key = key["key"].as_str().expect("a key").to_owned();
        std::fs::write(folder.path().join("key"), &key).expect("written");
        Self { server, world, folder, key }
    }

    /// Itself by its API key.
    fn client(&self) -> Client {
        with(&self.server, Some(self.key.clone()))
    }

    fn say(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_claimd"));
        command.env_clear().env("CLAIMD_CLIENT__URL", format!("http://{}", self.server.http));
        command.env("CLAIMD_CLIENT__API_KEY_FILE", self.folder.path().join("key"));
        run(command.arg("keys").args(arguments), "")
    }

    fn rotate_master(&self) {
        let output = self.say(&["rotate", "master", "--yes"]);
        assert!(output.status.success(), "{}", said(&output));
    }

    fn key_file(&self) -> PathBuf {
        self.server.data_dir().join("keys/master.key")
    }

    fn relaunch(&mut self) {
        self.server.launch();
        self.world = self.world.moved(&self.server);
    }

    /// A device with a code; its generated token is read later.
    fn device(&self, n: usize) {
        let body = json!({"id": format!("pump-{n}"), "code": {"value": code(n)}});
        assert_eq!(self.client().post(DEVICES, &body).status, 200);
    }

    fn read_code(&self, n: usize) -> Value {
        self.client().get(&format!("{DEVICES}/pump-{n}/code")).ok()
    }

    /// All that is sealed, in hexadecimal.
    fn sealed(&self) -> Vec<String> {
        self.server.stores.ask(
            "SELECT code_sealed FROM device WHERE code_sealed IS NOT NULL UNION ALL SELECT sealed FROM signing_key \
             UNION ALL SELECT sealed FROM credential WHERE sealed IS NOT NULL UNION ALL SELECT sealed FROM install_secret",
        )
    }
}

fn with(server: &Server, bearer: Option<String>) -> Client {
    let mut client = Client::stranger(&server.http);
    client.bearer = bearer;
    client
}

fn code(n: usize) -> String {
    format!("BEEF{n:04}")
}

fn kid(bearer: &str) -> String {
    use base64::Engine;
    let head = bearer.split('.').next().expect("a head");
    let head = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(head).expect("base64");
    serde_json::from_slice::<Value>(&head).expect("JSON")["kid"].as_str().expect("a kid").to_owned()
}

#[test]
fn a_new_signing_key_signs_at_once_and_the_old_one_s_sessions_live_on() {
    let mut operator = Operator::with(&[]);
    assert_eq!(operator.say(&["rotate", "jwt"]).status.code(), Some(2), "it asks");
    let old = operator.world.alice.client.clone();
    let output = operator.say(&["rotate", "jwt", "--yes"]);
    assert!(output.status.success(), "{}", said(&output));
    let rows: Vec<Value> =
        String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(rows.len() == 2 && rows[0]["validUntil"].is_null() && rows[1]["validUntil"].is_string(), "{rows:?}");
    let sign_in = |operator: &Operator| {
        let alice = &operator.world.alice;
        Client::sign_in(&operator.server.http, &alice.email, &alice.password)
    };
    let new = sign_in(&operator);
    assert_eq!(kid(old.bearer.as_deref().unwrap()), rows[1]["kid"]);
    assert_eq!(kid(new.bearer.as_deref().unwrap()), rows[0]["kid"]);
    for round in ["at once", "after a restart"] {
        for client in [&old, &new] {
            assert_eq!(client.at(&operator.server.http).get("/api/auth/user").status, 200, "{round}");
        }
        assert_eq!(operator.client().get(KEYS).ok()["signingKeys"].as_array().map(Vec::len), Some(2), "{round}");
        assert_eq!(operator.server.stop(), Some(0));
        operator.relaunch();
    }
    // Operators only: no owner, and no other maker's admin.
    let tenant = operator.client().post("/api/tenant", &json!({"title": "another maker"})).ok();
    let draft = json!({"email": "admin@another.example", "authority": "TENANT_ADMIN", "tenantId": tenant["id"]});
    let admin = operator.client().post("/api/user", &draft).ok();
    let link = operator.client().get(&format!("/api/user/{}/activationLink", admin["id"]["id"].as_str().unwrap())).body;
    let token = link.split("activateToken=").nth(1).expect("a token").trim();
    let body = json!({"activateToken": token, "password": "the password of another"});
    let pair = Client::stranger(&operator.server.http).post("/api/noauth/activate", &body).ok();
    let foreign = with(&operator.server, pair["token"].as_str().map(str::to_owned));
    for client in [&sign_in(&operator), &foreign] {
        assert_eq!(client.get(KEYS).status, 403);
        assert_eq!(client.post(&format!("{KEYS}/jwt/rotate"), &json!({})).status, 403);
        assert_eq!(client.post(&format!("{KEYS}/master/rotate"), &json!({})).status, 403);
    }
    let audit = operator.client().get("/api/claimd/v1/audit?limit=1000").body;
    assert!(audit.contains("keys.jwt_rotated"));
}

#[test]
fn an_old_signing_key_is_gone_after_one_token_s_life() {
    let operator = Operator::with(&[("CLAIMD_OWNER_API__BEARER_LIFETIME", "6s")]);
    let old = operator.client().get(KEYS).ok()["signingKeys"][0]["kid"].clone();
    operator.client().post(&format!("{KEYS}/jwt/rotate"), &json!({})).ok();
    eventually("the old key ends", || {
        let keys = operator.client().get(KEYS).ok()["signingKeys"].clone();
        (keys.as_array().map(Vec::len) == Some(1) && keys[0]["kid"] != old).then_some(())
    });
    assert_eq!(operator.client().get("/api/auth/user").status, 200, "an API key is no session");
    let again = Client::sign_in(&operator.server.http, ADMIN, ADMIN_PASSWORD);
    assert_ne!(json!(kid(again.bearer.as_deref().unwrap())), old);
}

#[test]
fn a_new_master_key_takes_over_while_codes_tokens_and_claims_work() {
    const COUNT: usize = 1_200;
    let mut operator = Operator::with(&[]);
    (0..COUNT).for_each(|n| operator.device(n));
    let speaker = operator.world.device("speaker");
    let speak = |http: &str, secret: &str| {
        Client::stranger(http).post(&format!("/api/v1/{}/claim", speaker.token), &json!({"secretKey": secret})).status
    };
    assert_eq!(speak(&operator.server.http, "announced before"), 200);
    let refresh = json!({"username": operator.world.bob.email, "password": operator.world.bob.password});
    let refresh =
        Client::stranger(&operator.server.http).post("/api/auth/login", &refresh).ok()["refreshToken"].clone();
    let before = std::fs::read(operator.key_file()).expect("the key file");
    let old_values = operator.sealed();
    assert!(old_values.len() >= 2 * COUNT);
    assert_eq!(operator.say(&["rotate", "master"]).status.code(), Some(2), "it asks");

    let (over, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        // Codes are read, sessions and keys are used, owners claim, all the while.
        scope.spawn(|| {
            for n in (0..COUNT).cycle() {
                if over.load(Ordering::Relaxed) && n > 3 {
                    return;
                }
                assert_eq!(operator.read_code(n)["value"], code(n));
                assert_eq!(operator.world.maker.get("/api/auth/user").status, 200);
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
        eventually("the work has begun", || (rounds.load(Ordering::Relaxed) > 3).then_some(()));
        for _ in 0..3 {
            operator.rotate_master();
        }
        over.store(true, Ordering::Relaxed);
    });

    let after = std::fs::read(operator.key_file()).expect("the key file");
    assert!(after.len() == 32 && after != before);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&operator.key_file().metadata().expect("the file").permissions());
    assert_eq!(mode & 0o777, 0o600);
    // What was announced before is claimed after; a stored code opens; a refresh token renews.
    assert_eq!(operator.world.alice.client.claim("speaker", "announced before").status, 200);
    assert_eq!(operator.world.bob.client.claim("pump-7", &code(7)).status, 200);
    let renewed = Client::stranger(&operator.server.http).post("/api/auth/token", &json!({"refreshToken": refresh}));
    assert_eq!(renewed.status, 200);
    let audit = operator.client().get("/api/claimd/v1/audit?limit=1000&since=1200").body;
    assert!(audit.contains("keys.master_rotated"));

    assert_eq!(operator.server.stop(), Some(0));
    // Not even a copy of a value under the old key is left, of SQLite's not in its file either.
    let new_values = operator.sealed();
    let places = |values: &[String]| operator.server.stores.places_with(values);
    assert_eq!((places(&old_values), places(&new_values)), (0, new_values.len()));
    std::fs::write(operator.key_file(), &before).expect("put back");
    let refused = Command::new(env!("CARGO_BIN_EXE_claimd"))
        .args(["serve", "--data-dir"])
        .arg(operator.server.data_dir())
        .env_clear()
        .envs(operator.server.stores.settings())
        .stdin(Stdio::null())
        .output()
        .expect("an end");
    assert!(refused.status.code() == Some(2) && said(&refused).contains("another master key"), "{}", said(&refused));
    std::fs::write(operator.key_file(), &after).expect("put back");
    operator.relaunch();
    for n in [0, COUNT / 2, COUNT - 1] {
        assert_eq!(operator.read_code(n)["value"], code(n));
    }
    assert_eq!(speak(&operator.server.http, "of an owned one"), 409, "the token is known");
    assert_eq!(operator.world.alice.client.get("/api/auth/user").status, 200);
}

#[test]
fn a_kill_in_the_middle_of_a_rotation_is_gone_on_from() {
    const COUNT: usize = 600;
    let mut operator = Operator::with(&[]);
    (0..COUNT).for_each(|n| operator.device(n));
    for _ in 0..3 {
        operator.client().post(&format!("{KEYS}/master/rotate"), &json!({})).ok();
        operator.server.kill_dash_nine();
        operator.relaunch();
        eventually("the rotation ends", || {
            let going_on = operator.client().get(KEYS).ok()["master"]["goingOn"] == true;
            (!going_on).then_some(())
        });
        assert_eq!(std::fs::read(operator.key_file()).expect("the key file").len(), 32);
        for n in (0..COUNT).step_by(50) {
            assert_eq!(operator.read_code(n)["value"], code(n));
        }
        assert_eq!(operator.world.alice.client.get("/api/auth/user").status, 200);
    }
}
