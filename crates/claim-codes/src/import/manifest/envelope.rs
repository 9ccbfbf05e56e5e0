//! An entry's signature: checks 1 to 3. A payload is not looked into before it has proved to be the signer's.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::super::Fault;
use super::trust::Trust;
use super::{fault, shown, unreadable};

/// A flattened JWS (RFC 7515 §7.2.2). A member that is there twice is a fault.
#[derive(Deserialize)]
struct Jws {
    payload: String,
    protected: String,
    header: Option<Header>,
    signature: String,
}

/// What is not signed. Only repeats what the payload says.
#[derive(Deserialize)]
struct Header {
    #[serde(rename = "uniqueId")]
    unique_id: Option<String>,
    #[serde(default, deserialize_with = "even_null")]
    crit: Option<Value>,
}

/// The protected header. Members are judged by themselves, so that each has its own fault.
#[derive(Deserialize)]
struct Protected {
    alg: Option<Value>,
    kid: Option<Value>,
    #[serde(rename = "x5t#S256")]
    thumbprint: Option<Value>,
    #[serde(default, deserialize_with = "even_null")]
    crit: Option<Value>,
}

fn even_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// What a configured log signer has signed, and the part it is said to be about.
pub(super) struct Opened {
    pub(super) payload: Vec<u8>,
    /// From the header that is not signed.
    pub(super) unique_id: Option<String>,
}

/// Checks an entry's form, its algorithm, its signer and its signature, in this order; the first fault ends it.
pub(super) fn open(object: &[u8], trust: &Trust) -> Result<Opened, Fault> {
    let jws: Jws = serde_json::from_slice(object).map_err(|error| unreadable("", &error))?;
    let payload = base64url("payload", &jws.payload)?;
    let protected = base64url("protected", &jws.protected)?;
    let protected: Protected = serde_json::from_slice(&protected).map_err(|error| unreadable("protected", &error))?;
    if protected.alg.as_ref().and_then(Value::as_str) != Some("ES256") {
        return Err(fault("protected.alg", "manifest_algorithm", "ES256 is expected and nothing else"));
    }
    // RFC 7515 §4.1.11: whoever does not know what it names must refuse; we know none.
    let outside = jws.header.as_ref().and_then(|header| header.crit.as_ref());
    if protected.crit.is_some() || outside.is_some() {
        return Err(fault("protected.crit", "manifest_algorithm", "`crit` is not understood and must not be there"));
    }
    let kid = protected.kid.as_ref().and_then(Value::as_str).unwrap_or_default();
    let thumbprint = protected.thumbprint.as_ref().and_then(Value::as_str).unwrap_or_default();
    let mut signers = trust.log_signers(kid).peekable();
    if signers.peek().is_none() {
        let unknown = fault("protected.kid", "manifest_unknown_signer", "no configured log signer has this key");
        return Err(Fault { value: shown(kid), ..unknown });
    }
    let Some(signer) = signers.find(|signer| signer.thumbprint == thumbprint) else {
        let reason = "the configured log signer of this key has another certificate";
        return Err(fault("protected.x5t#S256", "manifest_unknown_signer", reason));
    };
    let signature = URL_SAFE_NO_PAD.decode(&jws.signature).ok().filter(|signature| signature.len() == 64);
    let Some(signature) = signature else {
        return Err(fault("signature", "manifest_signature", "64 bytes r‖s in base64url without padding are expected"));
    };
    // As received: encoding them again could make other bytes of them.
    let signed = [jws.protected.as_bytes(), b".", jws.payload.as_bytes()].concat();
    if !signer.certificate.signed(&signed, &signature) {
        return Err(fault("signature", "manifest_signature", "the log signer did not sign this entry"));
    }
    Ok(Opened { payload, unique_id: jws.header.and_then(|header| header.unique_id) })
}

fn base64url(column: &str, text: &str) -> Result<Vec<u8>, Fault> {
    let reason = "base64url without padding is expected";
    URL_SAFE_NO_PAD.decode(text).map_err(|_| fault(column, "manifest_malformed", reason))
}
