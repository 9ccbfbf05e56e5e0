//! Whom manifests are believed from: log signers, who sign entries, and roots, under which parts have certificates.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use claim::Timestamp;

use super::certificate::{Certificate, CertificateFault};

/// Log signers and roots, at least one of each. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Trust {
    anchors: Arc<Anchors>,
}

#[derive(Debug)]
struct Anchors {
    log_signers: Vec<LogSigner>,
    roots: Vec<Certificate>,
}

/// A certificate whose key signs entries, and how entries name it.
#[derive(Debug)]
pub(super) struct LogSigner {
    /// base64url of its subject key identifier.
    pub(super) kid: String,
    /// base64url of the SHA-256 of the certificate.
    pub(super) thumbprint: String,
    pub(super) certificate: Certificate,
}

/// What certificates are configured for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustList {
    /// `manifest.log_signers`.
    LogSigners,
    /// `manifest.roots`.
    Roots,
}

/// Why certificates cannot be trusted as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustFault {
    /// In which list.
    pub list: TrustList,
    /// In which of its files, from 0. `None` if the list as a whole is at fault.
    pub file: Option<usize>,
    /// What is wrong.
    pub kind: TrustFaultKind,
}

/// What is wrong with a list of certificates. Certificates are numbered from 1 in their file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustFaultKind {
    /// There is no certificate in the whole list.
    Nothing,
    /// There is no certificate in the file.
    NoPem,
    /// The file has this kind of thing beside or instead of certificates: a key, a request.
    OtherPem,
    /// A block that does not end, or is not base64.
    BrokenPem(usize),
    /// Not a certificate in DER.
    NoCertificate(usize),
    /// Not a key on P-256.
    OtherKey(usize),
    /// A log signer without a subject key identifier: entries could not name it.
    NoKeyIdentifier(usize),
    /// A root that is no certificate authority.
    NoAuthority(usize),
}

impl fmt::Display for TrustList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LogSigners => "manifest.log_signers",
            Self::Roots => "manifest.roots",
        })
    }
}

impl fmt::Display for TrustFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.list)?;
        if let Some(file) = self.file {
            write!(f, ", file {}", file + 1)?;
        }
        match self.kind {
            TrustFaultKind::Nothing => f.write_str(": no certificate is configured"),
            TrustFaultKind::NoPem => f.write_str(": no certificate (PEM, `-----BEGIN CERTIFICATE-----`) is in it"),
            TrustFaultKind::OtherPem => {
                f.write_str(": something else than certificates is in it; only they belong here")
            }
            TrustFaultKind::BrokenPem(n) => write!(f, ", certificate {n}: the block is cut, or not base64"),
            TrustFaultKind::NoCertificate(n) => write!(f, ", certificate {n}: not an X.509 certificate"),
            TrustFaultKind::OtherKey(n) => write!(f, ", certificate {n}: the key is not on P-256"),
            TrustFaultKind::NoKeyIdentifier(n) => write!(f, ", certificate {n}: it has no subject key identifier"),
            TrustFaultKind::NoAuthority(n) => write!(f, ", certificate {n}: it is no certificate authority"),
        }
    }
}

impl std::error::Error for TrustFault {}

impl Trust {
    /// Reads certificates from the contents of PEM files, each with one or more. Text around the blocks is passed over.
    pub fn parse(log_signers: &[impl AsRef<[u8]>], roots: &[impl AsRef<[u8]>]) -> Result<Self, TrustFault> {
        let log_signers = list(TrustList::LogSigners, log_signers, |certificate, number| {
            let identifier = certificate.key_identifier().ok_or(TrustFaultKind::NoKeyIdentifier(number))?;
            let kid = URL_SAFE_NO_PAD.encode(identifier);
            Ok(LogSigner { kid, thumbprint: URL_SAFE_NO_PAD.encode(certificate.thumbprint), certificate })
        })?;
        let roots = list(TrustList::Roots, roots, |certificate, number| {
            if certificate.is_authority() { Ok(certificate) } else { Err(TrustFaultKind::NoAuthority(number)) }
        })?;
        Ok(Self { anchors: Arc::new(Anchors { log_signers, roots }) })
    }

    /// The log signers that an entry may mean by `kid`.
    pub(super) fn log_signers(&self, kid: &str) -> impl Iterator<Item = &LogSigner> {
        self.anchors.log_signers.iter().filter(move |signer| signer.kid == kid)
    }

    pub(super) fn roots(&self) -> &[Certificate] {
        &self.anchors.roots
    }

    /// Lists of which a certificate is not valid at `now`.
    pub(super) fn out_of_date(&self, now: Timestamp) -> impl Iterator<Item = TrustList> {
        let mut signers = self.anchors.log_signers.iter().map(|signer| &signer.certificate);
        let signers = signers.any(|certificate| !certificate.is_valid_at(now)).then_some(TrustList::LogSigners);
        let roots = self.anchors.roots.iter().any(|root| !root.is_valid_at(now)).then_some(TrustList::Roots);
        signers.into_iter().chain(roots)
    }
}

fn list<T>(
    list: TrustList,
    files: &[impl AsRef<[u8]>],
    accept: impl Fn(Certificate, usize) -> Result<T, TrustFaultKind>,
) -> Result<Vec<T>, TrustFault> {
    let mut all = Vec::new();
    for (file, text) in files.iter().enumerate() {
        let fault = |kind| TrustFault { list, file: Some(file), kind };
        for (number, der) in (1..).zip(blocks(text.as_ref()).map_err(fault)?) {
            let certificate = Certificate::parse(&der).map_err(|why| match why {
                CertificateFault::NoCertificate => fault(TrustFaultKind::NoCertificate(number)),
                CertificateFault::OtherKey => fault(TrustFaultKind::OtherKey(number)),
            })?;
            all.push(accept(certificate, number).map_err(fault)?);
        }
    }
    if all.is_empty() {
        return Err(TrustFault { list, file: None, kind: TrustFaultKind::Nothing });
    }
    Ok(all)
}

/// The certificates of a PEM file (RFC 7468 §5), decoded.
fn blocks(text: &[u8]) -> Result<Vec<Vec<u8>>, TrustFaultKind> {
    let text = String::from_utf8_lossy(text);
    let mut blocks = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(begin) = lines.find(|line| line.starts_with("-----")) {
        let broken = TrustFaultKind::BrokenPem(blocks.len() + 1);
        match begin {
            "-----BEGIN CERTIFICATE-----" => {}
            other if other.starts_with("-----BEGIN") => return Err(TrustFaultKind::OtherPem),
            _ => return Err(broken),
        }
        let mut body = String::new();
        loop {
            match lines.next().ok_or(broken)? {
                "-----END CERTIFICATE-----" => break,
                line => body.push_str(line),
            }
        }
        blocks.push(STANDARD.decode(body).map_err(|_| broken)?);
    }
    if blocks.is_empty() { Err(TrustFaultKind::NoPem) } else { Ok(blocks) }
}
