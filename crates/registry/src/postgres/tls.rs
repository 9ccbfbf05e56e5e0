//! TLS to the database. `sslmode` of the address says how much of it, as libpq's does; the files are named in the
//! configuration and read once, at the start.
//!
//! | `sslmode` | encrypted | the server's certificate |
//! |---|---|---|
//! | `disable` | no | |
//! | `prefer` | if the server can | anyone's |
//! | `require` | yes | anyone's; with `tls_ca_file` as `verify-ca` |
//! | `verify-ca` | yes | leads to one of `tls_ca_file` |
//! | `verify-full` | yes | and is for the host of the address: a name or address in it as an alternative, its common name counts not |
//!
//! Where the address names none it is `verify-full` with `tls_ca_file` and `prefer` without, and a Unix socket has no TLS.
//! `allow` is not offered: it is `prefer` with the worse way tried first.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, CryptoProvider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::config::{Host, SslMode, SslNegotiation};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::PostgresConfig;

/// How much of TLS there is to be. See the module's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// Why there can be no TLS as asked for: what is wrong and what to do.
pub(super) type Wrong = (String, &'static str);

/// What libpq has in its address and this has in the configuration.
const ELSEWHERE: [(&str, &str); 3] = [
    ("sslrootcert", "name the file as `registry.tls_ca_file`"),
    ("sslcert", "name the file as `registry.tls_certificate_file`"),
    ("sslkey", "name the file as `registry.tls_key_file`"),
];

impl Mode {
    /// What an address and the configuration beside it ask for, and the address without what tokio-postgres has no word for.
    pub(super) fn of(url: &str, with_ca: bool) -> Result<(Self, String), Wrong> {
        for (word, next) in ELSEWHERE {
            if parameter(url, word).is_some() {
                return Err((format!("has `{word}` in its address"), next));
            }
        }
        let Some(at) = parameter(url, "sslmode") else {
            let mode = if with_ca { Self::VerifyFull } else { Self::Prefer };
            return Ok((mode, url.to_owned()));
        };
        let mode = match url[at.clone()].trim_matches('\'') {
            "disable" => Self::Disable,
            "prefer" => Self::Prefer,
            "require" if with_ca => Self::VerifyCa,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => {
                let next = "write one of disable, prefer, require, verify-ca and verify-full";
                return Err(("has an unknown `sslmode` in its address".to_owned(), next));
            }
        };
        match mode {
            Self::VerifyCa | Self::VerifyFull if !with_ca => Err((
                "has nobody whose certificates are believed".to_owned(),
                "name a PEM file as `registry.tls_ca_file`: your provider's, or /etc/ssl/certs/ca-certificates.crt for \
                 everyone whom this machine believes",
            )),
            Self::Disable | Self::Prefer if with_ca => Err((
                "checks no certificate with this `sslmode`".to_owned(),
                "write sslmode=verify-full in `registry.url`, or empty `registry.tls_ca_file`",
            )),
            mode => {
                let mut known = url.to_owned();
                known.replace_range(at, mode.known());
                Ok((mode, known))
            }
        }
    }

    fn known(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require | Self::VerifyCa | Self::VerifyFull => "require",
        }
    }
}

/// Where the value of a parameter is, in `…?name=value&…` or `name=value …`.
fn parameter(url: &str, name: &str) -> Option<std::ops::Range<usize>> {
    let separates = |byte: u8| byte == b'?' || byte == b'&' || byte.is_ascii_whitespace();
    let starts = url.match_indices(name).filter(|(at, _)| *at == 0 || separates(url.as_bytes()[at - 1]));
    starts.into_iter().find_map(|(at, _)| {
        let from = at + name.len() + 1;
        let value = url[at + name.len()..].strip_prefix('=')?;
        let length = value.bytes().position(separates).unwrap_or(value.len());
        Some(from..from + length)
    })
}

/// Gives the server its mode, and makes what shakes hands with it.
pub(super) fn connector(
    server: &mut tokio_postgres::Config,
    mode: Mode,
    config: &PostgresConfig,
) -> Result<MakeRustlsConnect, Wrong> {
    let hosts = server.get_hosts();
    let local = hosts.iter().all(|host| matches!(host, Host::Unix(_)));
    if !matches!(mode, Mode::VerifyCa | Mode::VerifyFull) && !hosts.iter().all(is_here) {
        tracing::warn!(
            "who is on the way to PostgreSQL may read or pretend to be it: write sslmode=verify-full in `registry.url` \
             and name `registry.tls_ca_file`"
        );
    }
    server.ssl_mode(match mode {
        // libpq too passes it over for a Unix socket.
        _ if local => SslMode::Disable,
        Mode::Disable => SslMode::Disable,
        Mode::Prefer => SslMode::Prefer,
        Mode::Require | Mode::VerifyCa | Mode::VerifyFull => SslMode::Require,
    });
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match mode {
        Mode::Disable | Mode::Prefer | Mode::Require => Arc::new(Lenient { issuers: None, provider: provider.clone() }),
        Mode::VerifyCa => {
            let issuers = Some(issuers(&config.tls_ca_file, &provider)?);
            Arc::new(Lenient { issuers, provider: provider.clone() })
        }
        Mode::VerifyFull => issuers(&config.tls_ca_file, &provider)?,
    };
    let cannot = |error: rustls::Error| (format!("cannot speak TLS: {error}"), "report it");
    let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(cannot)?;
    let tls = tls.dangerous().with_custom_certificate_verifier(verifier);
    let mut tls = match client(&config.tls_certificate_file, &config.tls_key_file)? {
        None => tls.with_no_client_auth(),
        Some((chain, key)) => tls.with_client_auth_cert(chain, key).map_err(|error| {
            let next = "give the certificate's own key, both as PEM";
            (format!("cannot use `registry.tls_certificate_file` and `registry.tls_key_file`: {error}"), next)
        })?,
    };
    if server.get_ssl_negotiation() == SslNegotiation::Direct {
        tls.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(MakeRustlsConnect::new(tls))
}

/// Nobody else is on the way there.
fn is_here(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    }
}

/// Whose certificates are believed.
fn issuers(file: &str, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, Wrong> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("registry.tls_ca_file", file)? {
        roots.add(certificate).map_err(|error| {
            let next = "name a PEM file with certificates of authorities";
            (format!("cannot use `registry.tls_ca_file`: {error}"), next)
        })?;
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    verifier
        .map_err(|error| (format!("cannot use `registry.tls_ca_file`: {error}"), "name a PEM file with certificates"))
}

fn certificates(key: &str, file: &str) -> Result<Vec<CertificateDer<'static>>, Wrong> {
    let unreadable = |error: rustls::pki_types::pem::Error| {
        (format!("cannot read `{key}` {file}: {error}"), "name a PEM file that this user can read")
    };
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).map_err(unreadable)?.collect();
    let read = read.map_err(unreadable)?;
    match read.is_empty() {
        true => Err((format!("finds no certificate in `{key}` {file}"), "name a PEM file with certificates")),
        false => Ok(read),
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// What this shows to the server, if it is to show something.
fn client(certificate: &str, key: &str) -> Result<Option<Identity>, Wrong> {
    match (certificate.is_empty(), key.is_empty()) {
        (true, true) => return Ok(None),
        (false, false) => {}
        _ => {
            let what = "has one of `registry.tls_certificate_file` and `registry.tls_key_file` without the other";
            return Err((what.to_owned(), "name both files or neither"));
        }
    }
    let chain = certificates("registry.tls_certificate_file", certificate)?;
    let unreadable = |error: String| {
        (format!("cannot read `registry.tls_key_file` {key}: {error}"), "name a PEM file that this user can read")
    };
    // As libpq has it: root's may be readable by a group.
    let about = Path::new(key).metadata().map_err(|error| unreadable(error.to_string()))?;
    let others = if about.uid() == 0 { 0o037 } else { 0o077 };
    if about.mode() & others != 0 {
        return Err((format!("finds that others can read `registry.tls_key_file` {key}"), "give the file mode 0600"));
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(error.to_string()))?;
    Ok(Some((chain, key)))
}

/// Believes a certificate for any name, if it leads to one of the issuers; without issuers anyone's.
#[derive(Debug)]
struct Lenient {
    issuers: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(issuers) = &self.issuers else { return Ok(ServerCertVerified::assertion()) };
        // The name is what it looks at last.
        match issuers.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_is_the_addresss_or_follows_from_the_ca_file() {
        let mode = |url: &str, with_ca| Mode::of(url, with_ca).map(|(mode, _)| mode);
        let url = "postgresql://u:p@h/d";
        assert_eq!(mode(url, false), Ok(Mode::Prefer));
        assert_eq!(mode(url, true), Ok(Mode::VerifyFull));
        for (word, with_ca, expected) in [
            ("disable", false, Mode::Disable),
            ("prefer", false, Mode::Prefer),
            ("require", false, Mode::Require),
            ("require", true, Mode::VerifyCa),
            ("verify-ca", true, Mode::VerifyCa),
            ("verify-full", true, Mode::VerifyFull),
        ] {
            assert_eq!(mode(&format!("{url}?sslmode={word}"), with_ca), Ok(expected), "{word}");
            assert_eq!(mode(&format!("{url}?a=b&sslmode={word}&c=d"), with_ca), Ok(expected), "{word}");
            assert_eq!(mode(&format!("sslmode={word} host=h"), with_ca), Ok(expected), "{word}");
            assert_eq!(mode(&format!("host=h sslmode='{word}'"), with_ca), Ok(expected), "{word}");
        }
        for (query, with_ca) in [
            ("sslmode=verify-full", false),
            ("sslmode=verify-ca", false),
            ("sslmode=prefer", true),
            ("sslmode=disable", true),
            ("sslmode=allow", false),
            ("sslrootcert=/ca", true),
            ("sslcert=/c", false),
            ("sslkey=/k", false),
        ] {
            assert!(mode(&format!("{url}?{query}"), with_ca).is_err(), "{query}");
        }
    }

    #[test]
    fn the_address_that_is_left_is_one_tokio_postgres_knows() {
        for url in ["postgresql://u:p@h/d?sslmode=verify-full&application_name=x", "host=h user=u sslmode='verify-ca'"]
        {
            let (_, known) = Mode::of(url, true).expect("a mode");
            let config: tokio_postgres::Config = known.parse().expect(&known);
            assert_eq!(config.get_ssl_mode(), SslMode::Require);
        }
    }
}
