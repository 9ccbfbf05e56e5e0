//! P-256 certificates for manifests: authorities, log signers, and leaves that name a part in one of the maker's forms.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, date_time_ymd,
};

/// Years in which all certificates made here are valid: from the first day of the one until that of the other.
pub const VALID_FROM: i32 = 2020;
pub const VALID_UNTIL: i32 = 2045;

/// A key with its certificate, able to issue others.
pub(super) struct Holder {
    params: CertificateParams,
    pub(super) key: KeyPair,
    pub(super) der: Vec<u8>,
}

/// What a certificate may be used for.
#[derive(Clone, Copy)]
pub(super) enum Role {
    /// Issues certificates.
    Authority,
    /// Signs entries. Has a key identifier, as an authority has.
    Signer,
    /// A part; no key identifier.
    Leaf,
}

impl Holder {
    /// One that has issued itself.
    pub(super) fn own(name: &str, role: Role) -> Self {
        let (params, key) = (params(name, role), p256());
        let der = params.self_signed(&key).expect("a certificate").der().to_vec();
        Self { params, key, der }
    }

    /// One that this one issues.
    pub(super) fn issue(&self, name: &str, role: Role) -> Self {
        self.issue_with(params(name, role))
    }

    /// A part that this one issues, with a DevEUI text in the alternative name if there is one.
    pub(super) fn issue_leaf(&self, name: &str, alternative: Option<&str>) -> Self {
        let mut params = params(name, Role::Leaf);
        params.custom_extensions.extend(alternative.map(alternative_name));
        self.issue_with(params)
    }

    fn issue_with(&self, params: CertificateParams) -> Self {
        let key = p256();
        let issuer = Issuer::from_params(&self.params, &self.key);
        let der = params.signed_by(&key, &issuer).expect("a certificate").der().to_vec();
        Self { params, key, der }
    }

    /// The same key under another name, or with another role.
    pub(super) fn renamed(&self, name: &str, role: Role) -> Self {
        let key = KeyPair::try_from(self.key.serialized_der()).expect("the same key");
        Self { params: params(name, role), key, der: self.der.clone() }
    }

    /// Its subject key identifier.
    pub(super) fn key_identifier(&self) -> Vec<u8> {
        self.params.key_identifier(&self.key)
    }
}

/// A certificate as PEM.
pub(super) fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// An authority on a curve that manifests do not use.
pub(super) fn p384() -> Vec<u8> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a key");
    params("Another Curve", Role::Authority).self_signed(&key).expect("a certificate").der().to_vec()
}

fn p256() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key")
}

fn params(name: &str, role: Role) -> CertificateParams {
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::OrganizationName, "Maker of Test Parts");
    distinguished_name.push(DnType::CommonName, name);
    let mut params = CertificateParams::default();
    params.not_before = date_time_ymd(VALID_FROM, 1, 1);
    params.not_after = date_time_ymd(VALID_UNTIL, 1, 1);
    params.distinguished_name = distinguished_name;
    params.use_authority_key_identifier_extension = true;
    params.is_ca = match role {
        Role::Authority => IsCa::Ca(BasicConstraints::Unconstrained),
        Role::Signer => IsCa::ExplicitNoCa,
        Role::Leaf => IsCa::NoCa,
    };
    params
}

/// A subject alternative name (RFC 5280 §4.2.1.6) with a directory name of one serial number. Written by hand: the maker's
/// texts have `_`, which a PrintableString must not have, so that no encoder makes them.
fn alternative_name(serial_number: &str) -> CustomExtension {
    const SUBJECT_ALT_NAME: [u64; 4] = [2, 5, 29, 17];
    const SERIAL_NUMBER: [u8; 5] = [0x06, 0x03, 0x55, 0x04, 0x05];
    let text = tlv(0x13, serial_number.as_bytes());
    let attribute = tlv(0x30, &[SERIAL_NUMBER.as_slice(), &text].concat());
    let name = tlv(0x30, &tlv(0x31, &attribute));
    CustomExtension::from_oid_content(&SUBJECT_ALT_NAME, tlv(0x30, &tlv(0xa4, &name)))
}

/// A DER element of fewer than 128 bytes.
fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).ok().filter(|length| *length < 128).expect("a short element");
    [&[tag, length], content].concat()
}
