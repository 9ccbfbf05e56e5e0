//! What a signed entry says of a part, and whether its certificates say the same: the rest of check 1, checks 4 to 7.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use claim::Eui64;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::super::Fault;
use super::certificate::{Certificate, CertificateFault, Point};
use super::trust::Trust;
use super::{fault, shown, unreadable};

/// The longest text that is kept, in characters.
const TEXT: usize = 255;
/// A part's id: 9 bytes in hex.
const UNIQUE_ID: usize = 18;
/// What stands before a DevEUI in a serial number of an alternative name.
const EUI_MARK: &str = "eui64_";

const KEY: &str = "payload.publicKeySet.keys[0]";
const LEAF: &str = "payload.publicKeySet.keys[0].x5c[0]";
const SIGNER: &str = "payload.publicKeySet.keys[0].x5c[1]";

#[derive(Deserialize)]
struct Payload {
    version: Option<Value>,
    model: Option<String>,
    #[serde(rename = "partNumber")]
    part_number: Option<String>,
    provisioner: Option<Value>,
    #[serde(rename = "uniqueId")]
    unique_id: Option<String>,
    #[serde(rename = "publicKeySet")]
    keys: Option<KeySet>,
}

#[derive(Deserialize)]
struct KeySet {
    /// Only the first has certificates; the others are of no use here.
    keys: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Key {
    kty: String,
    crv: String,
    x: String,
    y: String,
    x5c: Vec<String>,
}

/// A part, as its entry describes it.
pub(super) struct Element {
    /// Lower case.
    pub(super) unique_id: String,
    pub(super) model: Option<String>,
    pub(super) part_number: Option<String>,
    pub(super) provisioner: Option<String>,
    /// The key that the entry names.
    point: Point,
    pub(super) leaf: Certificate,
    pub(super) signer: Certificate,
}

impl Element {
    /// Reads a payload. The first thing that does not fit ends it.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, Fault> {
        let payload: Payload = serde_json::from_slice(payload).map_err(|error| unreadable("payload", &error))?;
        if payload.version.as_ref().and_then(Value::as_u64) != Some(1) {
            return Err(malformed("payload.version", "manifests of version 1 are read, and no others"));
        }
        let unique_id = payload.unique_id.filter(|id| is_unique_id(id));
        let unique_id = unique_id.ok_or_else(|| malformed("payload.uniqueId", "9 bytes in hex are expected"))?;
        let keys = payload.keys.ok_or_else(|| malformed("payload.publicKeySet", "it is missing"))?;
        let first = keys.keys.first().ok_or_else(|| malformed(KEY, "it is missing"))?;
        let key: Key = serde_json::from_str(first.get()).map_err(|error| unreadable(KEY, &error))?;
        if (key.kty.as_str(), key.crv.as_str()) != ("EC", "P-256") {
            return Err(malformed(KEY, "a key of kind EC on P-256 is expected"));
        }
        let mut point = [4; 65];
        for (half, (name, text)) in point[1..].chunks_exact_mut(32).zip([("x", &key.x), ("y", &key.y)]) {
            let bytes = URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| bytes.len() == half.len());
            let reason = "32 bytes in base64url without padding are expected";
            half.copy_from_slice(&bytes.ok_or_else(|| malformed(&format!("{KEY}.{name}"), reason))?);
        }
        let [leaf, signer] = key.x5c.as_slice() else {
            let reason = "two certificates are expected: the part's and its signer's";
            return Err(malformed(&format!("{KEY}.x5c"), reason));
        };
        Ok(Self {
            unique_id: unique_id.to_ascii_lowercase(),
            model: kept("payload.model", payload.model)?,
            part_number: kept("payload.partNumber", payload.part_number)?,
            provisioner: kept("payload.provisioner", entity(payload.provisioner.as_ref())?)?,
            point,
            leaf: certificate(LEAF, leaf)?,
            signer: certificate(SIGNER, signer)?,
        })
    }

    /// All that speaks against the part, and its DevEUI if it has one. `header` is the id in the header that is not signed.
    pub(super) fn judge(&self, header: Option<&str>, trust: &Trust) -> (Option<Eui64>, Vec<Fault>) {
        let name = self.leaf.common_name().and_then(Name::parse);
        let mut faults = Vec::new();
        faults.extend(self.unique_id_fault(header, name.as_ref()));
        if self.point != *self.leaf.point() {
            faults.push(fault(KEY, "manifest_key_mismatch", "the key is not that of the part's certificate"));
        }
        faults.extend(self.chain_fault(trust));
        let eui = self.dev_eui(name.as_ref()).unwrap_or_else(|fault| {
            faults.push(fault);
            None
        });
        (eui, faults)
    }

    fn unique_id_fault(&self, header: Option<&str>, name: Option<&Name<'_>>) -> Option<Fault> {
        let Some(name) = name else {
            let reason = "the common name is none of `<SERIAL> ATECC`, `<SERIAL> <DevEUI> ATECC`, `sn<SERIAL>`";
            return Some(fault(LEAF, "manifest_unique_id", reason));
        };
        let (column, other) = if !name.serial.eq_ignore_ascii_case(&self.unique_id) {
            (LEAF, name.serial)
        } else {
            ("header.uniqueId", header.filter(|header| !header.eq_ignore_ascii_case(&self.unique_id))?)
        };
        let reason = format!("the payload has {}", self.unique_id);
        Some(Fault { value: shown(other), ..fault(column, "manifest_unique_id", reason) })
    }

    fn chain_fault(&self, trust: &Trust) -> Option<Fault> {
        let (column, reason) = if !self.signer.is_authority() {
            (SIGNER, "the signer's certificate is no certificate authority")
        } else if !self.leaf.is_issued_by(&self.signer) {
            (LEAF, "the signer's certificate did not issue the part's")
        } else if !trust.roots().iter().any(|root| self.signer.is_issued_by(root)) {
            (SIGNER, "no configured root issued the signer's certificate")
        } else {
            return None;
        };
        Some(fault(column, "manifest_chain", reason))
    }

    /// The DevEUI that the certificate names: in its common name, or in an alternative one.
    fn dev_eui(&self, name: Option<&Name<'_>>) -> Result<Option<Eui64>, Fault> {
        let bad = |value: &str, reason: &str| Fault { value: shown(value), ..fault(LEAF, "manifest_dev_eui", reason) };
        let Some(alternatives) = self.leaf.alternative_serial_numbers() else {
            return Err(bad("", "the alternative names cannot be read"));
        };
        let alternatives = alternatives.iter().filter_map(|number| number.strip_prefix(EUI_MARK));
        let mut eui = None;
        for text in name.and_then(|name| name.dev_eui).into_iter().chain(alternatives) {
            let this = Eui64::parse(text).map_err(|fault| bad(text, &fault.to_string()))?;
            if eui.is_some_and(|other| other != this) {
                return Err(bad(text, "the certificate has two DevEUIs"));
            }
            eui = Some(this);
        }
        if eui.is_none() && name.is_some_and(|name| name.elsewhere) {
            let reason =
                format!("no directory name with a serial number `{EUI_MARK}<DevEUI>` is among its alternative names");
            return Err(bad("", &reason));
        }
        Ok(eui)
    }
}

/// A part's common name.
struct Name<'a> {
    serial: &'a str,
    dev_eui: Option<&'a str>,
    /// Whether the DevEUI must be among the alternative names.
    elsewhere: bool,
}

impl<'a> Name<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        let name = match *words.as_slice() {
            [serial, "ATECC"] => Self { serial, dev_eui: None, elsewhere: false },
            [serial, dev_eui, "ATECC"] => Self { serial, dev_eui: Some(dev_eui), elsewhere: false },
            [word] => Self { serial: word.strip_prefix("sn")?, dev_eui: None, elsewhere: true },
            _ => return None,
        };
        is_unique_id(name.serial).then_some(name)
    }
}

fn is_unique_id(text: &str) -> bool {
    text.len() == UNIQUE_ID && text.bytes().all(|digit| digit.is_ascii_hexdigit())
}

fn malformed(column: &str, reason: &str) -> Fault {
    fault(column, "manifest_malformed", reason)
}

fn certificate(column: &str, text: &str) -> Result<Certificate, Fault> {
    let der = STANDARD.decode(text).map_err(|_| malformed(column, "base64 of a certificate is expected"))?;
    Certificate::parse(&der).map_err(|why| match why {
        CertificateFault::NoCertificate => malformed(column, "not an X.509 certificate"),
        CertificateFault::OtherKey => malformed(column, "the certificate's key is not on P-256"),
    })
}

/// The name of an entity: a text, or the organization and its unit.
fn entity(value: Option<&Value>) -> Result<Option<String>, Fault> {
    let reason = "a text is expected, or `organizationName` and `organizationalUnitName`";
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) => Ok(Some(name.clone())),
        Some(Value::Object(entity)) => {
            let names = ["organizationName", "organizationalUnitName"].map(|name| entity.get(name));
            let texts: Vec<&str> = names.into_iter().flatten().filter_map(Value::as_str).collect();
            Ok(Some(texts.join(", ")))
        }
        Some(_) => Err(malformed("payload.provisioner", reason)),
    }
}

/// A text that is kept; an empty one is not.
fn kept(column: &str, text: Option<String>) -> Result<Option<String>, Fault> {
    let text = text.filter(|text| !text.is_empty());
    match &text {
        Some(text) if text.chars().count() > TEXT || text.chars().any(char::is_control) => {
            Err(malformed(column, &format!("at most {TEXT} characters are expected, none of them a control character")))
        }
        _ => Ok(text),
    }
}
