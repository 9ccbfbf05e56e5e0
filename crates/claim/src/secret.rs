//! Secrets: a wrapper that never shows itself, the claim secret, and the keyed digests that stand in for secrets
//! everywhere else.

use std::borrow::Cow;
use std::fmt;

use zeroize::{Zeroize, Zeroizing};

use crate::device::{DeviceId, TenantId};

/// A value that must not be seen: no `Display`, no `Serialize`, redacted `Debug`, wiped when dropped.
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Wraps a secret.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The secret itself; keep the borrow short.
    pub fn expose(&self) -> &T {
        &self.0
    }

    /// The secret itself, to be filled in place.
    pub fn expose_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// Read from a request; never written.
impl<'de, T: Zeroize + serde::Deserialize<'de>> serde::Deserialize<'de> for Secret<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self)
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The longest claim secret, in bytes of UTF-8.
pub const SECRET_BYTES: usize = 256;

/// The secret of a claim as a device announces it or an owner types it; at most [`SECRET_BYTES`] bytes, no U+0000.
/// May be empty: an empty secret matches only an empty secret.
pub struct ClaimSecret<'a>(Cow<'a, str>);

/// Why a text cannot be a claim secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretFault {
    /// More than [`SECRET_BYTES`] bytes.
    TooLong,
    /// U+0000 inside.
    Nul,
}

impl SecretFault {
    /// What is wrong, for people; never the secret.
    pub fn text(self) -> &'static str {
        match self {
            SecretFault::TooLong => "`secretKey` is longer than 256 bytes",
            SecretFault::Nul => "`secretKey` has a NUL character",
        }
    }
}

impl<'a> ClaimSecret<'a> {
    /// The empty secret.
    pub const EMPTY: ClaimSecret<'static> = ClaimSecret(Cow::Borrowed(""));

    /// Checks a secret.
    pub fn parse(text: impl Into<Cow<'a, str>>) -> Result<Self, SecretFault> {
        let secret = Self(text.into());
        if secret.0.len() > SECRET_BYTES {
            return Err(SecretFault::TooLong);
        }
        if secret.0.as_bytes().contains(&0) {
            return Err(SecretFault::Nul);
        }
        Ok(secret)
    }

    /// Whether there is no secret.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The secret in upper case (ASCII), if it has lower-case letters.
    pub fn to_upper(&self) -> Option<ClaimSecret<'static>> {
        let lower = self.0.bytes().any(|byte| byte.is_ascii_lowercase());
        lower.then(|| ClaimSecret(Cow::Owned(self.0.to_ascii_uppercase())))
    }

    /// The digest of this secret for one device of one tenant.
    pub fn digest(&self, keyring: &Keyring, tenant: TenantId, device: DeviceId) -> SecretDigest {
        keyring.claim_digest(tenant, device, self.0.as_bytes())
    }

    /// A copy that owns its text.
    pub fn into_owned(mut self) -> ClaimSecret<'static> {
        ClaimSecret(Cow::Owned(std::mem::take(&mut self.0).into_owned()))
    }
}

impl Drop for ClaimSecret<'_> {
    fn drop(&mut self) {
        if let Cow::Owned(text) = &mut self.0 {
            text.zeroize();
        }
    }
}

impl fmt::Debug for ClaimSecret<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClaimSecret([redacted])")
    }
}

/// What is kept of a claim secret: BLAKE3 keyed by this install, bound to tenant and device. Equality is constant-time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretDigest(blake3::Hash);

impl SecretDigest {
    /// The digest with these bytes, as read back from a store.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(blake3::Hash::from_bytes(bytes))
    }

    /// The digest's bytes, for a store.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretDigest([redacted])")
    }
}

/// The look-up key of a device credential at rest: a keyed digest, so that a stolen store opens nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CredentialDigest([u8; 32]);

impl CredentialDigest {
    /// The digest's bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for CredentialDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialDigest([redacted])")
    }
}

/// The install's master key. It seals what must be read back in clear, the root of the [`Keyring`] among it, and nothing else
/// is made from it, so that it can be replaced.
pub struct MasterKey(Zeroizing<[u8; 32]>);

impl MasterKey {
    /// The key with these bytes.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(Zeroizing::new(*bytes))
    }

    /// Its bytes, for the key file.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key that seals values at rest (AEAD); for the registry only.
    pub fn sealing_key(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(blake3::derive_key("claimd 2026-11 sealing v1", self.0.as_slice()))
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey([redacted])")
    }
}

/// The keys of digests, subkeys of one root. Each use has its own, derived under its own label (BLAKE3 key derivation). The
/// root stays for the install's life: what was digested cannot be digested anew without the clear text.
pub struct Keyring {
    claim: Zeroizing<[u8; 32]>,
    credential: Zeroizing<[u8; 32]>,
    attempt: Zeroizing<[u8; 32]>,
    token: Zeroizing<[u8; 32]>,
    echo: Zeroizing<[u8; 32]>,
}

impl Keyring {
    /// Derives all subkeys from the 32-byte root.
    pub fn from_root(root: &[u8; 32]) -> Self {
        let derive = |label| Zeroizing::new(blake3::derive_key(label, root));
        Self {
            claim: derive("claimd 2026-11 claim secret digest v2"),
            credential: derive("claimd 2026-11 device credential digest v1"),
            attempt: derive("claimd 2026-11 attempt ledger key v1"),
            token: derive("claimd 2026-11 session token digest v1"),
            echo: derive("claimd 2026-11 coap echo v1"),
        }
    }

    /// Digest of a claim secret: tenant, device, secret. Tenant and device have a fixed length, so that nothing need stand
    /// between them and most claims fit one block of the hash. The generation is left out on purpose, so that a retry with
    /// the same secret can be recognised after the claim.
    fn claim_digest(&self, tenant: TenantId, device: DeviceId, secret: &[u8]) -> SecretDigest {
        let mut input = [0; 32 + SECRET_BYTES];
        input[..16].copy_from_slice(tenant.as_bytes());
        input[16..32].copy_from_slice(device.as_bytes());
        let input = &mut input[..32 + secret.len()];
        input[32..].copy_from_slice(secret);
        let digest = SecretDigest(blake3::keyed_hash(&self.claim, input));
        input[32..].zeroize();
        digest
    }

    /// Look-up key of an access token.
    pub fn access_token(&self, token: &str) -> CredentialDigest {
        CredentialDigest(*keyed(&self.credential, &[b"token", token.as_bytes()]).as_bytes())
    }

    /// Look-up key of an MQTT basic credential: client id, user name, or both.
    pub fn mqtt_basic(&self, client_id: Option<&str>, user_name: Option<&str>) -> CredentialDigest {
        let kind: &[u8] = match (client_id.is_some(), user_name.is_some()) {
            (true, true) => b"basic-both",
            (true, false) => b"basic-client",
            (false, _) => b"basic-user",
        };
        let (client_id, user_name) = (client_id.unwrap_or(""), user_name.unwrap_or(""));
        CredentialDigest(*keyed(&self.credential, &[kind, client_id.as_bytes(), user_name.as_bytes()]).as_bytes())
    }

    /// Digest of the password that goes with an MQTT basic credential.
    pub fn mqtt_password(&self, credential: &CredentialDigest, password: &[u8]) -> SecretDigest {
        SecretDigest(keyed(&self.credential, &[b"password", &credential.0, password]))
    }

    /// Key under which tries at a requested name are counted, whether or not such a device exists.
    pub fn attempt_key(&self, tenant: TenantId, requested_name: &str) -> [u8; 16] {
        let hash = keyed(&self.attempt, &[tenant.as_bytes(), requested_name.as_bytes()]);
        let mut key = [0; 16];
        key.copy_from_slice(&hash.as_bytes()[..16]);
        key
    }

    /// Digest of a bearer secret of people's sessions (refresh tokens, activation tokens, API keys, idempotency keys).
    /// `purpose` keeps the kinds apart.
    pub fn token_digest(&self, purpose: &str, token: &[u8]) -> [u8; 32] {
        *keyed(&self.token, &[purpose.as_bytes(), token]).as_bytes()
    }

    /// The key of CoAP's Echo option values (RFC 9175 §2.3).
    pub fn echo_key(&self) -> &[u8; 32] {
        &self.echo
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring([redacted])")
    }
}

/// BLAKE3 keyed over length-prefixed parts: no two lists of parts share an input.
fn keyed(key: &[u8; 32], parts: &[&[u8]]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(key);
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring() -> Keyring {
        Keyring::from_root(&[7; 32])
    }

    #[test]
    fn a_digest_is_bound_to_install_tenant_device_and_secret() {
        let (t1, t2) = (TenantId::from_bytes([1; 16]), TenantId::from_bytes([2; 16]));
        let (d1, d2) = (DeviceId::from_bytes([3; 16]), DeviceId::from_bytes([4; 16]));
        let secret = ClaimSecret::parse("value").unwrap();
        let base = secret.digest(&keyring(), t1, d1);
        assert_eq!(base, ClaimSecret::parse("value").unwrap().digest(&keyring(), t1, d1));
        assert_ne!(base, secret.digest(&keyring(), t2, d1));
        assert_ne!(base, secret.digest(&keyring(), t1, d2));
        assert_ne!(base, ClaimSecret::parse("Value").unwrap().digest(&keyring(), t1, d1));
        assert_ne!(base, ClaimSecret::EMPTY.digest(&keyring(), t1, d1));
        assert_ne!(base, secret.digest(&Keyring::from_root(&[8; 32]), t1, d1));
    }

    #[test]
    fn parts_are_length_prefixed_so_shifting_a_byte_changes_the_digest() {
        let k = keyring();
        assert_ne!(k.mqtt_basic(Some("ab"), Some("c")), k.mqtt_basic(Some("a"), Some("bc")));
        assert_ne!(k.mqtt_basic(Some("ab"), None), k.mqtt_basic(None, Some("ab")));
        assert_ne!(k.access_token("ab"), k.mqtt_basic(None, Some("ab")));
    }

    #[test]
    fn secrets_end_at_256_bytes_and_carry_no_nul() {
        assert!(ClaimSecret::parse("x".repeat(255)).is_ok());
        assert!(ClaimSecret::parse("x".repeat(256)).is_ok());
        assert_eq!(ClaimSecret::parse("x".repeat(257)).err(), Some(SecretFault::TooLong));
        assert_eq!(ClaimSecret::parse("a\0b").err(), Some(SecretFault::Nul));
    }

    #[test]
    fn nothing_secret_shows_in_debug_output() {
        let secret = ClaimSecret::parse("s3cr3t").unwrap();
        let digest = secret.digest(&keyring(), TenantId::from_bytes([0; 16]), DeviceId::NOBODY);
        let shown = format!(
            "{secret:?} {digest:?} {:?} {:?} {:?}",
            keyring(),
            Secret::new(String::from("s3cr3t")),
            MasterKey::from_bytes(&[1; 32])
        );
        assert!(!shown.contains("s3cr3t"));
        assert_eq!(shown.matches("[redacted]").count(), 5);
    }
}
