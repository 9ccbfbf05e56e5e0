//! Certificates of P-256 keys, as far as manifests need them (RFC 5280).

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ParsedPublicKey, UnparsedPublicKey};
use claim::Timestamp;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode, Reader, SliceReader};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, SubjectAltName, SubjectKeyIdentifier};

/// RFC 5480 §2.1.1.
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
/// RFC 5758 §3.2.
const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const SERIAL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.5");

/// What stands before the point in a DER SubjectPublicKeyInfo of a P-256 key.
const P256_INFO: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// An uncompressed point (SEC 1 §2.3.3).
pub(super) type Point = [u8; 65];

/// A certificate of a P-256 key.
#[derive(Debug)]
pub(super) struct Certificate {
    parsed: x509_cert::Certificate,
    /// What its issuer signed, as it came.
    signed: Vec<u8>,
    point: Point,
    /// SHA-256 of the whole, as it came.
    pub(super) thumbprint: [u8; 32],
}

/// Why bytes are no certificate that could be of use here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CertificateFault {
    /// Not a certificate in DER.
    NoCertificate,
    /// Its key is not on P-256.
    OtherKey,
}

impl Certificate {
    pub(super) fn parse(der: &[u8]) -> Result<Self, CertificateFault> {
        let parsed = x509_cert::Certificate::from_der(der).map_err(|_| CertificateFault::NoCertificate)?;
        let signed = signed_part(der).map_err(|_| CertificateFault::NoCertificate)?.to_vec();
        let point = point(&parsed).ok_or(CertificateFault::OtherKey)?;
        let mut thumbprint = [0; 32];
        thumbprint.copy_from_slice(digest(&SHA256, der).as_ref());
        Ok(Self { parsed, signed, point, thumbprint })
    }

    /// Its key.
    pub(super) fn point(&self) -> &Point {
        &self.point
    }

    /// Its key as a DER SubjectPublicKeyInfo (RFC 5280 §4.1.2.7).
    pub(super) fn public_key(&self) -> Vec<u8> {
        [P256_INFO.as_slice(), &self.point].concat()
    }

    /// Whether it may issue others: its basic constraints say so (RFC 5280 §4.2.1.9).
    pub(super) fn is_authority(&self) -> bool {
        let constraints = self.parsed.tbs_certificate().get_extension::<BasicConstraints>();
        constraints.is_ok_and(|found| found.is_some_and(|(_, constraints)| constraints.ca))
    }

    /// Whether `issuer` issued it: the names agree and so does the signature, ECDSA with SHA-256.
    pub(super) fn is_issued_by(&self, issuer: &Self) -> bool {
        let inner = self.parsed.tbs_certificate();
        let algorithm = self.parsed.signature_algorithm();
        let Some(signature) = self.parsed.signature().as_bytes() else { return false };
        inner.issuer() == issuer.parsed.tbs_certificate().subject()
            && algorithm.oid == ECDSA_WITH_SHA256
            && algorithm == inner.signature()
            && UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, issuer.point).verify(&self.signed, signature).is_ok()
    }

    /// Whether its key made the 64 bytes r‖s over `message` (RFC 7518 §3.4).
    pub(super) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.point).verify(message, signature).is_ok()
    }

    /// Its subject key identifier (RFC 5280 §4.2.1.2).
    pub(super) fn key_identifier(&self) -> Option<Vec<u8>> {
        let found = self.parsed.tbs_certificate().get_extension::<SubjectKeyIdentifier>().ok()?;
        found.map(|(_, identifier)| identifier.0.as_bytes().to_vec())
    }

    /// Whether `now` is among its dates, both ends included.
    pub(super) fn is_valid_at(&self, now: Timestamp) -> bool {
        let validity = self.parsed.tbs_certificate().validity();
        let seconds = now.as_millis().div_euclid(1_000);
        let [from, to] = [validity.not_before, validity.not_after]
            .map(|time| i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX));
        (from..=to).contains(&seconds)
    }

    /// The common name, if there is exactly one and it is a text.
    pub(super) fn common_name(&self) -> Option<&str> {
        let mut names = self.parsed.tbs_certificate().subject().iter().filter(|name| name.oid == COMMON_NAME);
        match (names.next(), names.next()) {
            (Some(name), None) => text(name),
            _ => None,
        }
    }

    /// The serial numbers in directory names among its alternative names (RFC 5280 §4.2.1.6). `None` if the alternative
    /// names cannot be read. Bytes are taken as they are, whatever kind of string they say to be: makers put `_` into a
    /// PrintableString, which has none.
    pub(super) fn alternative_serial_numbers(&self) -> Option<Vec<String>> {
        let found = self.parsed.tbs_certificate().get_extension::<SubjectAltName>().ok()?;
        let names = found.map(|(_, names)| names.0).unwrap_or_default();
        let numbers = names.iter().filter_map(|name| match name {
            GeneralName::DirectoryName(name) => Some(name.iter()),
            _ => None,
        });
        Some(numbers.flatten().filter(|name| name.oid == SERIAL_NUMBER).filter_map(text).map(str::to_owned).collect())
    }
}

fn text(name: &AttributeTypeAndValue) -> Option<&str> {
    std::str::from_utf8(name.value.value()).ok()
}

/// The first element of the certificate, header and all: what the signature is over.
fn signed_part(der: &[u8]) -> x509_cert::der::Result<&[u8]> {
    SliceReader::new(der)?.sequence(|certificate| {
        let signed = certificate.tlv_bytes()?;
        certificate.tlv_bytes()?;
        certificate.tlv_bytes()?;
        Ok::<_, x509_cert::der::Error>(signed)
    })
}

/// The key, if it is a point of P-256.
fn point(certificate: &x509_cert::Certificate) -> Option<Point> {
    let info = certificate.tbs_certificate().subject_public_key_info();
    let curve = info.algorithm.parameters.as_ref()?.decode_as::<ObjectIdentifier>().ok()?;
    if info.algorithm.oid != EC_PUBLIC_KEY || curve != P256 {
        return None;
    }
    let point: Point = info.subject_public_key.as_bytes()?.try_into().ok()?;
    ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).ok()?;
    Some(point)
}
