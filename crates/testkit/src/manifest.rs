//! Manifests of secure elements, made here: a root, a certificate signer under it, a log signer, parts whose certificates
//! have each of the maker's three forms, entries signed as the maker signs them, and a twin with one flaw for each check.
//!
//! Keys are new in every run; nothing of a real maker is in here.

mod certificates;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::KeyPair;
use serde_json::{Value, json};

use certificates::{Holder, Role, p384, pem};
pub use certificates::{VALID_FROM, VALID_UNTIL};

/// Where a part's certificate has its DevEUI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// Nowhere: `<SERIAL> ATECC`, as early parts.
    Serial,
    /// In the common name: `<SERIAL> <DevEUI> ATECC`.
    Name(String),
    /// In the alternative name: `sn<SERIAL>` and `eui64_<DevEUI>`.
    Alternative(String),
}

/// A secure element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its unique id, 9 bytes in upper-case hex; a manifest has it in lower case.
    pub serial: String,
    /// Where its DevEUI is.
    pub form: Form,
}

impl Part {
    /// A part by a number of ours.
    pub fn new(number: u16, form: Form) -> Self {
        Self { serial: format!("0123F1822C38{number:04X}01"), form }
    }

    /// The common name and the alternative one.
    fn names(&self) -> (String, Option<String>) {
        match &self.form {
            Form::Serial => (format!("{} ATECC", self.serial), None),
            Form::Name(eui) => (format!("{} {eui} ATECC", self.serial), None),
            Form::Alternative(eui) => (format!("sn{}", self.serial), Some(format!("eui64_{eui}"))),
        }
    }
}

/// What is wrong with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    NoMembers,
    PayloadIsNoBase64,
    PayloadIsNoJson,
    ProtectedIsNoJson,
    RepeatedMember,
    VersionTwo,
    ShortCoordinate,
    OtherCurve,
    NoKey,
    OneCertificate,
    ThreeCertificates,
    CertificateIsGarbage,
    ShortUniqueId,
    AlgorithmNone,
    AlgorithmHs256,
    NoAlgorithm,
    Critical,
    CriticalOutside,
    /// Signed by a log signer of whom nobody has heard, under its own name.
    ForeignLogSigner,
    OtherThumbprint,
    NoKeyId,
    CutSignature,
    LongSignature,
    FlippedSignature,
    FlippedPayload,
    FlippedProtected,
    /// Signed by a foreign key in our log signer's name.
    Resigned,
    OtherIdInHeader,
    OtherIdInPayload,
    NameOfNoForm,
    ForeignKey,
    ForeignRoot,
    SignerIsNoAuthority,
    LeafOfAnotherSigner,
    LeafOfAnotherName,
    NoAlternativeName,
    BadEuiInName,
    BadEuiInAlternative,
    /// Both certificate names have a DevEUI, and not the same.
    TwoEuis,
}

impl Flaw {
    /// All of them.
    pub const ALL: [Self; 39] = [
        Self::NoMembers,
        Self::PayloadIsNoBase64,
        Self::PayloadIsNoJson,
        Self::ProtectedIsNoJson,
        Self::RepeatedMember,
        Self::VersionTwo,
        Self::ShortCoordinate,
        Self::OtherCurve,
        Self::NoKey,
        Self::OneCertificate,
        Self::ThreeCertificates,
        Self::CertificateIsGarbage,
        Self::ShortUniqueId,
        Self::AlgorithmNone,
        Self::AlgorithmHs256,
        Self::NoAlgorithm,
        Self::Critical,
        Self::CriticalOutside,
        Self::ForeignLogSigner,
        Self::OtherThumbprint,
        Self::NoKeyId,
        Self::CutSignature,
        Self::LongSignature,
        Self::FlippedSignature,
        Self::FlippedPayload,
        Self::FlippedProtected,
        Self::Resigned,
        Self::OtherIdInHeader,
        Self::OtherIdInPayload,
        Self::NameOfNoForm,
        Self::ForeignKey,
        Self::ForeignRoot,
        Self::SignerIsNoAuthority,
        Self::LeafOfAnotherSigner,
        Self::LeafOfAnotherName,
        Self::NoAlternativeName,
        Self::BadEuiInName,
        Self::BadEuiInAlternative,
        Self::TwoEuis,
    ];
}

const ROOT: &str = "Test Root 1";
const SIGNER: &str = "Test Signer F600";
const LOG_SIGNER: &str = "Test Log Signer 1";

/// A maker of secure elements.
pub struct Maker {
    root: Holder,
    signer: Holder,
    log_signer: Holder,
}

impl Default for Maker {
    fn default() -> Self {
        let root = Holder::own(ROOT, Role::Authority);
        let signer = root.issue(SIGNER, Role::Authority);
        Self { root, signer, log_signer: Holder::own(LOG_SIGNER, Role::Signer) }
    }
}

impl Maker {
    /// The root's certificate, PEM.
    pub fn roots(&self) -> String {
        pem(&self.root.der)
    }

    /// The log signer's certificate, PEM.
    pub fn log_signers(&self) -> String {
        pem(&self.log_signer.der)
    }

    /// A part's certificate, PEM: no authority, and without a key identifier.
    pub fn leaf(&self, part: &Part) -> String {
        pem(&self.chain(part)[0].der)
    }

    /// An entry as it should be.
    pub fn entry(&self, part: &Part) -> Value {
        let payload = payload(part, &self.chain(part));
        self.signed(part, payload.to_string().as_bytes())
    }

    /// An entry over a payload that whoever calls has made.
    pub fn signed(&self, part: &Part, payload: &[u8]) -> Value {
        sign(payload, protected(&self.log_signer).to_string().as_bytes(), &self.log_signer.key, part)
    }

    /// The payload that [`Maker::entry`] signs.
    pub fn payload(&self, part: &Part) -> Value {
        payload(part, &self.chain(part))
    }

    /// An entry with a flaw, right in all else.
    pub fn flawed(&self, part: &Part, flaw: Flaw) -> Value {
        let payload = self.flawed_payload(part, flaw);
        let protected = self.flawed_protected(flaw);
        let stranger = Holder::own(LOG_SIGNER, Role::Signer);
        let mut entry = match flaw {
            Flaw::Resigned => sign(payload.as_bytes(), protected.as_bytes(), &stranger.key, part),
            Flaw::ForeignLogSigner => {
                let protected = self::protected(&stranger).to_string();
                sign(payload.as_bytes(), protected.as_bytes(), &stranger.key, part)
            }
            _ => sign(payload.as_bytes(), protected.as_bytes(), &self.log_signer.key, part),
        };
        spoil(&mut entry, flaw);
        entry
    }

    /// A part's certificate and its signer's.
    fn chain(&self, part: &Part) -> [Holder; 2] {
        let (name, alternative) = part.names();
        let leaf = self.signer.issue_leaf(&name, alternative.as_deref());
        [leaf, self.signer.renamed(SIGNER, Role::Authority)]
    }

    fn flawed_chain(&self, part: &Part, flaw: Flaw) -> [Holder; 2] {
        let (name, alternative) = part.names();
        let alternative = alternative.as_deref();
        let ours = || self.signer.renamed(SIGNER, Role::Authority);
        match flaw {
            Flaw::ForeignRoot => {
                let signer = Holder::own(ROOT, Role::Authority).issue(SIGNER, Role::Authority);
                [signer.issue_leaf(&name, alternative), signer]
            }
            Flaw::SignerIsNoAuthority => {
                let signer = self.root.issue(SIGNER, Role::Signer);
                [signer.issue_leaf(&name, alternative), signer]
            }
            Flaw::LeafOfAnotherSigner => {
                [self.root.issue(SIGNER, Role::Authority).issue_leaf(&name, alternative), ours()]
            }
            Flaw::LeafOfAnotherName => {
                [self.signer.renamed("Test Signer F601", Role::Authority).issue_leaf(&name, alternative), ours()]
            }
            Flaw::NameOfNoForm => [self.signer.issue_leaf("Pump 7", alternative), ours()],
            Flaw::NoAlternativeName => [self.signer.issue_leaf(&format!("sn{}", part.serial), None), ours()],
            Flaw::BadEuiInName => {
                [self.signer.issue_leaf(&format!("{} 0004A310001AAED ATECC", part.serial), None), ours()]
            }
            Flaw::BadEuiInAlternative => {
                [self.signer.issue_leaf(&format!("sn{}", part.serial), Some("eui64_0004A310001AAEDG")), ours()]
            }
            Flaw::TwoEuis => {
                let name = format!("{} 0004A310001AAED6 ATECC", part.serial);
                [self.signer.issue_leaf(&name, Some("eui64_0004A310001AAED7")), ours()]
            }
            _ => self.chain(part),
        }
    }

    fn flawed_payload(&self, part: &Part, flaw: Flaw) -> String {
        let chain = self.flawed_chain(part, flaw);
        let mut payload = payload(part, &chain);
        let key = &mut payload["publicKeySet"]["keys"][0];
        match flaw {
            Flaw::PayloadIsNoJson => return "{\"version\":1,".to_owned(),
            Flaw::RepeatedMember => return payload.to_string().replacen('{', "{\"version\":1,", 1),
            Flaw::VersionTwo => payload["version"] = json!(2),
            Flaw::ShortCoordinate => key["x"] = json!(URL_SAFE_NO_PAD.encode([7; 31])),
            Flaw::OtherCurve => key["crv"] = json!("P-384"),
            Flaw::NoKey => payload["publicKeySet"]["keys"] = json!([]),
            Flaw::OneCertificate => drop(key["x5c"].as_array_mut().expect("certificates").pop()),
            Flaw::ThreeCertificates => {
                key["x5c"].as_array_mut().expect("certificates").push(json!(STANDARD.encode(&self.root.der)));
            }
            Flaw::CertificateIsGarbage => key["x5c"][0] = json!(STANDARD.encode(b"0\x03\x02\x01\x07")),
            Flaw::ShortUniqueId => payload["uniqueId"] = json!(part.serial[..16]),
            Flaw::OtherIdInPayload => payload["uniqueId"] = json!("0123f1822c38ffff01"),
            Flaw::ForeignKey => {
                let stranger = Holder::own("Stranger", Role::Leaf);
                (key["x"], key["y"]) = coordinates(&stranger.key);
            }
            _ => {}
        }
        payload.to_string()
    }

    fn flawed_protected(&self, flaw: Flaw) -> String {
        let mut protected = protected(&self.log_signer);
        match flaw {
            Flaw::ProtectedIsNoJson => return "ES256".to_owned(),
            Flaw::AlgorithmNone => protected["alg"] = json!("none"),
            Flaw::AlgorithmHs256 => protected["alg"] = json!("HS256"),
            Flaw::NoAlgorithm => drop(protected.as_object_mut().expect("an object").remove("alg")),
            Flaw::Critical => protected["crit"] = json!(["exp"]),
            Flaw::OtherThumbprint => protected["x5t#S256"] = json!(URL_SAFE_NO_PAD.encode([7; 32])),
            Flaw::NoKeyId => drop(protected.as_object_mut().expect("an object").remove("kid")),
            _ => {}
        }
        protected.to_string()
    }
}

/// A certificate on a curve that manifests do not use, PEM.
pub fn other_curve() -> String {
    pem(&p384())
}

/// A manifest of these entries.
pub fn manifest(entries: &[Value]) -> String {
    serde_json::to_string_pretty(entries).expect("JSON")
}

/// Spoils what is not signed, or what is after it was.
fn spoil(entry: &mut Value, flaw: Flaw) {
    let flip = |text: &Value| {
        let mut bytes = URL_SAFE_NO_PAD.decode(text.as_str().expect("a text")).expect("base64url");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        json!(URL_SAFE_NO_PAD.encode(bytes))
    };
    match flaw {
        Flaw::NoMembers => *entry = json!({"ids": {"device_id": "pump-7"}}),
        Flaw::PayloadIsNoBase64 => entry["payload"] = json!("e30="),
        Flaw::CriticalOutside => entry["header"]["crit"] = json!(["exp"]),
        Flaw::CutSignature => entry["signature"] = json!(URL_SAFE_NO_PAD.encode([7; 63])),
        Flaw::LongSignature => {
            let signature = entry["signature"].as_str().expect("a text");
            let bytes = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
            entry["signature"] = json!(URL_SAFE_NO_PAD.encode([bytes.as_slice(), &[0]].concat()));
        }
        Flaw::FlippedSignature => entry["signature"] = flip(&entry["signature"]),
        Flaw::FlippedPayload => entry["payload"] = flip(&entry["payload"]),
        // A blank more is the same header to whoever reads it, and another to whoever signed it.
        Flaw::FlippedProtected => {
            let bytes = URL_SAFE_NO_PAD.decode(entry["protected"].as_str().expect("a text")).expect("base64url");
            entry["protected"] = json!(URL_SAFE_NO_PAD.encode([bytes.as_slice(), b" "].concat()));
        }
        Flaw::OtherIdInHeader => entry["header"]["uniqueId"] = json!("0123f1822c38ffff01"),
        _ => {}
    }
}

fn payload(part: &Part, [leaf, signer]: &[Holder; 2]) -> Value {
    let (x, y) = coordinates(&leaf.key);
    let entity = json!({"organizationName": "Maker of Test Parts", "organizationalUnitName": "Secure Group"});
    json!({
        "version": 1,
        "model": "ATECC608A",
        "partNumber": "ATECC608A-TNGLORA",
        "manufacturer": entity,
        "provisioner": entity,
        "distributor": {"organizationName": "Maker of Test Parts", "organizationalUnitName": "Direct"},
        "groupId": "359SCE55NV38H3CB",
        "provisioningTimestamp": "2021-01-24T16:35:23.473Z",
        "uniqueId": part.serial.to_lowercase(),
        "publicKeySet": {"keys": [
            {"kid": "0", "kty": "EC", "crv": "P-256", "x": x, "y": y,
             "x5c": [STANDARD.encode(&leaf.der), STANDARD.encode(&signer.der)]},
            {"kid": "1", "kty": "EC", "crv": "P-256", "x": x, "y": y},
        ]},
    })
}

fn protected(log_signer: &Holder) -> Value {
    json!({
        "typ": "JWT",
        "alg": "ES256",
        "kid": URL_SAFE_NO_PAD.encode(log_signer.key_identifier()),
        "x5t#S256": URL_SAFE_NO_PAD.encode(digest(&SHA256, &log_signer.der)),
    })
}

/// A flattened JWS (RFC 7515 §7.2.2).
fn sign(payload: &[u8], protected: &[u8], key: &KeyPair, part: &Part) -> Value {
    let [payload, protected] = [payload, protected].map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.serialized_der()).expect("a key");
    let signature = key.sign(&SystemRandom::new(), format!("{protected}.{payload}").as_bytes()).expect("a signature");
    json!({
        "payload": payload,
        "protected": protected,
        "header": {"uniqueId": part.serial.to_lowercase()},
        "signature": URL_SAFE_NO_PAD.encode(signature),
    })
}

/// The halves of an uncompressed point, as a JWK has them.
fn coordinates(key: &KeyPair) -> (Value, Value) {
    let (x, y) = key.public_key_raw()[1..].split_at(32);
    (json!(URL_SAFE_NO_PAD.encode(x)), json!(URL_SAFE_NO_PAD.encode(y)))
}
