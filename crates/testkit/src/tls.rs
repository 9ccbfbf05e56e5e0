//! Certificates for servers and clients in tests: a throw-away authority that lasts as long as its value, all as PEM files.

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

/// An authority. Its files, and those of what it issued, go with it.
pub struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key. The files are readable by this user only.
pub struct Identity {
    /// The file of the certificate.
    pub certificate: PathBuf,
    /// The file of the key, PKCS #8.
    pub key: PathBuf,
}

impl Authority {
    /// A new one; no other has issued it.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let key = KeyPair::generate().expect("a key");
        // Two of one name would be told apart by their signatures alone.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("Authority {} of a Test", NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut params = params(&name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).expect("a certificate");
        write(&folder.path().join("authority.pem"), &certificate.pem());
        Self { folder, issuer: Issuer::new(params, key) }
    }

    /// The file of its certificate.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// For a server that is reached by these names and addresses.
    pub fn server(&self, names: &[&str]) -> Identity {
        self.issue("server", "A Server", names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// For a client; servers may take its name for a user's.
    pub fn client(&self, name: &str) -> Identity {
        self.issue("client", name, &[], ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(&self, kind: &str, name: &str, names: &[&str], purpose: ExtendedKeyUsagePurpose) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let mut params = params(name, names);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let folder = tempfile::Builder::new().prefix(kind).disable_cleanup(true).tempdir_in(self.folder.path());
        let folder = folder.expect("a folder");
        let identity =
            Identity { certificate: folder.path().join("certificate.pem"), key: folder.path().join("key.pem") };
        write(&identity.certificate, &certificate.pem());
        write(&identity.key, &key.serialize_pem());
        identity
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

fn params(name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names and addresses");
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2045, 1, 1);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn write(path: &Path, text: &str) {
    let file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path);
    std::io::Write::write_all(&mut file.expect("a file"), text.as_bytes()).expect("written");
}
