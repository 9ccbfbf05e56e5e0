//! Properties for fuzz targets, and for the tests that replay their corpora: what the parsers say is what slow, plain
//! readers of the same bytes say. Not part of the crate's promises.

mod reference;

use std::sync::LazyLock;

use crate::device::{DeviceId, DeviceName, TenantId};
use crate::intake::{BatchReceipt, SubmitError};
use crate::message::{BodyFormat, ClaimMessage, GatewayBatch, Malformed, owner_secret};
use crate::secret::{ClaimSecret, Keyring, SecretDigest};
use reference::{Claim, Reading};

/// One device's body in JSON: accepted exactly when the reference reader accepts it, with the same secret and lifetime.
pub fn claim_json(bytes: &[u8]) {
    let parsed = ClaimMessage::parse(bytes, BodyFormat::Json);
    let expected = if bytes.is_empty() { Ok(Claim::default()) } else { reference::json_claim(bytes) };
    same_claim(&parsed, &expected);
    if let (Ok(parsed), Ok(owner)) = (&parsed, owner_secret(bytes)) {
        assert!(digest(&parsed.secret) == digest(&owner), "device and owner mean the same secret by the same text");
    }
}

/// One device's body in protobuf, and its twin: what protobuf refuses, JSON compatibility reads as JSON.
pub fn claim_protobuf(bytes: &[u8]) {
    let parsed = ClaimMessage::parse(bytes, BodyFormat::Protobuf);
    match reference::protobuf_claim(bytes) {
        Reading::Sure(expected) => same_claim(&parsed, &expected),
        Reading::TooDeepToSay => {}
    }
    let either = ClaimMessage::parse(bytes, BodyFormat::ProtobufThenJson);
    let twin = parsed.or_else(|_| ClaimMessage::parse(bytes, BodyFormat::Json));
    assert_eq!(either.is_ok(), twin.is_ok(), "compatibility is protobuf, else JSON");
    if let (Ok(either), Ok(twin)) = (either, twin) {
        assert!(digest(&either.secret) == digest(&twin.secret) && either.duration_ms == twin.duration_ms);
    }
}

/// A gateway's batch in both encodings: the same entries as the reference reader's, and every entry is either accepted or
/// refused by `submit`.
pub fn gateway_batch(bytes: &[u8], mut submit: impl FnMut(&[u8], BodyFormat) -> Result<BatchReceipt, SubmitError>) {
    let expected = [
        (BodyFormat::Json, Reading::Sure(reference::json_batch(bytes))),
        (BodyFormat::Protobuf, reference::protobuf_batch(bytes)),
    ];
    for (format, expected) in expected {
        let parsed = GatewayBatch::parse(bytes, format);
        let Reading::Sure(expected) = expected else { continue };
        let entries = match (&parsed, &expected) {
            (Ok(parsed), Ok(expected)) => {
                assert_eq!(parsed.entries.len(), expected.len(), "as many entries");
                for (entry, (name, claim)) in parsed.entries.iter().zip(expected) {
                    assert_eq!(entry.name.as_ref().ok(), DeviceName::parse(name).ok().as_ref());
                    match &entry.name {
                        Ok(_) => same_claim(&entry.message, claim),
                        Err(shown) => {
                            assert!(shown.len() <= 3 * crate::device::NAME_BYTES, "what is shown back is bounded");
                            assert!(entry.message.is_err(), "an entry without a name is refused");
                        }
                    }
                }
                parsed.entries.len()
            }
            (Err(_), Err(())) => 0,
            (parsed, expected) => panic!("{format:?}: parsed {parsed:?}, expected {expected:?}"),
        };
        match submit(bytes, format) {
            Ok(receipt) => {
                assert_eq!(receipt.accepted + receipt.refused.len(), entries, "accepted + refused = entries")
            }
            Err(SubmitError::Malformed(_)) => assert_eq!(entries, 0, "a batch that was read is not malformed"),
            Err(error) => assert!(entries > 0, "{error:?}"),
        }
    }
}

/// Secrets show themselves to nobody, so they are compared as everywhere: by digest.
fn digest(secret: &ClaimSecret<'_>) -> SecretDigest {
    static KEYRING: LazyLock<Keyring> = LazyLock::new(|| Keyring::from_root(&[7; 32]));
    static PLACE: LazyLock<(TenantId, DeviceId)> = LazyLock::new(|| (TenantId::random(), DeviceId::random()));
    secret.digest(&KEYRING, PLACE.0, PLACE.1)
}

fn same_claim(parsed: &Result<ClaimMessage<'_>, Malformed>, expected: &Result<Claim, ()>) {
    match (parsed, expected) {
        (Ok(parsed), Ok(expected)) => {
            let secret = ClaimSecret::parse(&*expected.secret).ok();
            assert!(secret.is_some_and(|secret| digest(&secret) == digest(&parsed.secret)), "the secret");
            match (parsed.duration_ms, expected.duration) {
                (Some(ms), Some(exact)) => {
                    // Fractions and exponents go through a double: exact to its 53 bits.
                    let slack = if expected.rounded { 1 + (exact.unsigned_abs() >> 51) } else { 0 };
                    assert!(ms.abs_diff(exact) <= slack, "{ms} for {exact}");
                }
                (ms, exact) => assert_eq!(ms, exact, "the lifetime"),
            }
        }
        (Err(_), Err(())) => {}
        (parsed, expected) => panic!("parsed {parsed:?}, expected {expected:?}"),
    }
}
