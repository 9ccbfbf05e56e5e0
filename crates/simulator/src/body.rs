//! Claim messages as ThingsBoard's clients write them (JSON, or its protobuf schema).

use std::time::Duration;

use prost::Message as _;
use rand::Rng;
use serde_json::{Map, Value, json};

/// How a claim message is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `{"secretKey":"…","durationMs":…}`.
    Json,
    /// ThingsBoard's `ClaimDevice`; the device's profile must say so.
    Protobuf,
}

/// Where secrets come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// A new one for each claim: 80 bits.
    Random,
    /// None: whoever knows the name may claim for two minutes.
    None,
    /// Always this one.
    Fixed(String),
}

impl Secrets {
    /// The secret of the next claim.
    pub fn next(&self, random: &mut impl Rng) -> String {
        const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        match self {
            Self::Random => (0..16).map(|_| char::from(LETTERS[random.random_range(0..32)])).collect(),
            Self::None => String::new(),
            Self::Fixed(secret) => secret.clone(),
        }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct ClaimDevice {
    #[prost(string, tag = "1")]
    secret_key: String,
    #[prost(int64, tag = "2")]
    duration_ms: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ClaimDeviceMsg {
    #[prost(string, tag = "1")]
    device_name: String,
    #[prost(message, optional, tag = "2")]
    claim_request: Option<ClaimDevice>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct GatewayClaimMsg {
    #[prost(message, repeated, tag = "1")]
    msg: Vec<ClaimDeviceMsg>,
}

fn claim_device(secret: &str, lifetime: Option<Duration>) -> ClaimDevice {
    ClaimDevice { secret_key: secret.to_owned(), duration_ms: lifetime.map_or(0, millis) }
}

fn claim_json(secret: &str, lifetime: Option<Duration>) -> Value {
    let mut members = Map::new();
    if !secret.is_empty() {
        members.insert("secretKey".to_owned(), json!(secret));
    }
    if let Some(lifetime) = lifetime {
        members.insert("durationMs".to_owned(), json!(millis(lifetime)));
    }
    Value::Object(members)
}

fn millis(lifetime: Duration) -> i64 {
    i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX)
}

/// A device's own claim message; without a lifetime the server's default holds.
pub fn claim(secret: &str, lifetime: Option<Duration>, encoding: Encoding) -> Vec<u8> {
    match encoding {
        Encoding::Json => claim_json(secret, lifetime).to_string().into_bytes(),
        Encoding::Protobuf => claim_device(secret, lifetime).encode_to_vec(),
    }
}

/// A gateway's message for several children, each a name and a secret.
pub fn batch(children: &[(String, String)], lifetime: Option<Duration>, encoding: Encoding) -> Vec<u8> {
    match encoding {
        Encoding::Json => {
            let members: Map<String, Value> =
                children.iter().map(|(name, secret)| (name.clone(), claim_json(secret, lifetime))).collect();
            Value::Object(members).to_string().into_bytes()
        }
        Encoding::Protobuf => {
            let entry = |(name, secret): &(String, String)| ClaimDeviceMsg {
                device_name: name.clone(),
                claim_request: Some(claim_device(secret, lifetime)),
            };
            GatewayClaimMsg { msg: children.iter().map(entry).collect() }.encode_to_vec()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};

    #[test]
    fn json_leaves_out_what_is_not_said() {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        assert_eq!(text(claim("", None, Encoding::Json)), "{}");
        let minute = Some(Duration::from_secs(60));
        assert_eq!(text(claim("s", minute, Encoding::Json)), r#"{"durationMs":60000,"secretKey":"s"}"#);
        let children = [("a".to_owned(), "s".to_owned()), ("b".to_owned(), String::new())];
        assert_eq!(text(batch(&children, None, Encoding::Json)), r#"{"a":{"secretKey":"s"},"b":{}}"#);
    }

    #[test]
    fn protobuf_has_thingsboards_field_numbers() {
        assert_eq!(claim("s", Some(Duration::from_millis(5)), Encoding::Protobuf), [0x0a, 1, b's', 0x10, 5]);
        let children = [("a".to_owned(), "s".to_owned())];
        let bytes = batch(&children, None, Encoding::Protobuf);
        assert_eq!(bytes, [0x0a, 8, 0x0a, 1, b'a', 0x12, 3, 0x0a, 1, b's']);
    }

    #[test]
    fn a_seed_makes_the_same_secrets_again() {
        let make = |seed| Secrets::Random.next(&mut StdRng::seed_from_u64(seed));
        assert_eq!(make(1), make(1));
        assert_ne!(make(1), make(2));
        assert_eq!(make(1).len(), 16);
        assert_eq!(Secrets::None.next(&mut StdRng::seed_from_u64(1)), "");
    }
}
