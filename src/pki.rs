//! Creates certificates: a CA and the certificates that it signs. Pure, except for random keys.

use std::fmt;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::{ExposeSecret as _, SecretString};
use time::{Duration, OffsetDateTime};

pub mod validity;

/// As long as kubeadm's CAs are valid.
const AUTHORITY: Duration = Duration::days(3650);
/// As long as kubeadm's own certificates, which must be renewed at the same interval.
const LEAF: Duration = Duration::days(365);
/// The clock of a machine that has just booted may be behind this machine's.
const BACKDATED: Duration = Duration::hours(1);

/// A certificate and its key, both PEM. `Debug` prints no key.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate.
    pub cert: String,
    /// The key (PKCS #8).
    pub key: SecretString,
}

/// Both in one text, so that a file contains both or neither.
impl Pair {
    /// The certificate, then the key.
    pub fn text(&self) -> SecretString {
        format!("{}{}", self.cert, self.key.expose_secret()).into()
    }

    /// Parses such a text; `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let start = text.find("-----BEGIN PRIVATE KEY-----")?;
        let (cert, key) = text.split_at(start);
        KeyPair::from_pem(key).ok()?;
        CertificateDer::from_pem_slice(cert.as_bytes()).ok()?;
        Some(Self { cert: cert.to_owned(), key: key.to_owned().into() })
    }

    /// When the certificate expires, in seconds since 1970.
    pub fn ends(&self) -> Option<i64> {
        ends(&self.cert)
    }
}

/// When a PEM certificate expires, in seconds since 1970.
pub fn ends(pem: &str) -> Option<i64> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    validity::of(&der).map(|(_, ends)| ends)
}

/// The subject of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The common name.
    pub name: String,
    /// The names and addresses at which it is reached; none for a pure client.
    pub called: Vec<String>,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.called.join(" "))
    }
}

/// Why a certificate cannot be created.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the certificate of `{name}`: {source}")]
pub struct Error {
    name: String,
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// A certificate authority with its key.
#[derive(Clone, Debug)]
pub struct Authority {
    name: String,
    pair: Pair,
}

impl Authority {
    /// Creates a CA; `now` is in seconds since 1970.
    ///
    /// # Errors
    /// None, if the name and the clock are valid.
    pub fn new(name: &str, now: i64) -> Result<Self, Error> {
        let make = || -> Result<Pair, Box<dyn std::error::Error + Send + Sync>> {
            let key = KeyPair::generate()?;
            let mut params = authority(name);
            let now = OffsetDateTime::from_unix_timestamp(now)?;
            params.not_before = now - BACKDATED;
            params.not_after = now + AUTHORITY;
            let cert = params.self_signed(&key)?.pem();
            Ok(Pair { cert, key: key.serialize_pem().into() })
        };
        let pair = make().map_err(|source| Error { name: name.to_owned(), source })?;
        Ok(Self { name: name.to_owned(), pair })
    }

    /// A CA that was created before, with the same name.
    pub fn of(name: &str, pair: Pair) -> Self {
        Self { name: name.to_owned(), pair }
    }

    /// Its certificate and key.
    pub fn pair(&self) -> &Pair {
        &self.pair
    }

    /// Issues a certificate, valid for a year from `now` (in seconds since 1970) on.
    ///
    /// # Errors
    /// When a name is not valid in a certificate.
    pub fn issue(&self, subject: &Subject, now: i64) -> Result<Pair, Error> {
        let make = || -> Result<Pair, Box<dyn std::error::Error + Send + Sync>> {
            let signer = KeyPair::from_pem(self.pair.key.expose_secret())?;
            let issuer = Issuer::new(authority(&self.name), signer);
            let mut leaf = CertificateParams::new(subject.called.clone())?;
            leaf.distinguished_name.remove(DnType::CommonName);
            leaf.distinguished_name.push(DnType::CommonName, &subject.name);
            let now = OffsetDateTime::from_unix_timestamp(now)?;
            leaf.not_before = now - BACKDATED;
            leaf.not_after = now + LEAF;
            leaf.key_usages =
                vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
            // etcd's gateway connects to its own server, and members connect to each other, with
            // their server certificates.
            leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            if !subject.called.is_empty() {
                leaf.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
            }
            leaf.use_authority_key_identifier_extension = true;
            let key = KeyPair::generate()?;
            let cert = leaf.signed_by(&key, &issuer)?.pem();
            Ok(Pair { cert, key: key.serialize_pem().into() })
        };
        make().map_err(|source| Error { name: subject.name.clone(), source })
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, name);
    // A certificate signed by the CA cannot sign others.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
    ];
    params
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls::crypto::ring::default_provider;
    use rustls::pki_types::{ServerName, UnixTime};
    use rustls::server::WebPkiClientVerifier;

    use super::*;

    const NOW: i64 = 1_795_000_000;
    const DAY: i64 = 86_400;

    fn at(seconds: i64) -> UnixTime {
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds.unsigned_abs()))
    }

    fn roots(authority: &Authority) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pair.cert.as_bytes()).unwrap()).unwrap();
        Arc::new(roots)
    }

    fn member() -> Subject {
        let called = ["10.103.1.101", "127.0.0.1", "localhost", "e1.kloud.lan"];
        Subject { name: "e1.kloud.lan".into(), called: called.map(str::to_owned).into() }
    }

    #[test]
    fn a_members_certificate_serves_and_calls_under_each_of_its_names_and_no_other() {
        let authority = Authority::new("etcd-ca", NOW).unwrap();
        // Parsed again, as from its file.
        let pair = Pair::parse(authority.pair.text().expose_secret()).unwrap();
        let authority = Authority::of("etcd-ca", pair);
        let leaf = authority.issue(&member(), NOW).unwrap();
        let der = CertificateDer::from_pem_slice(leaf.cert.as_bytes()).unwrap();
        let provider = Arc::new(default_provider());
        let server =
            WebPkiServerVerifier::builder_with_provider(roots(&authority), provider.clone());
        let server = server.build().unwrap();
        let serves = |name: &str| {
            let name = ServerName::try_from(name.to_owned()).unwrap();
            server.verify_server_cert(&der, &[], &name, &[], at(NOW)).is_ok()
        };
        assert!(member().called.iter().all(|name| serves(name)));
        assert!(!serves("10.103.1.102"));
        let client = WebPkiClientVerifier::builder_with_provider(roots(&authority), provider);
        let client = client.build().unwrap();
        assert!(client.verify_client_cert(&der, &[], at(NOW)).is_ok());
        assert!(client.verify_client_cert(&der, &[], at(NOW + 366 * DAY)).is_err());
    }

    #[test]
    fn one_that_only_calls_cannot_serve() {
        let authority = Authority::new("etcd-ca", NOW).unwrap();
        let subject = Subject { name: "kube-apiserver-etcd-client".into(), called: Vec::new() };
        let leaf = authority.issue(&subject, NOW).unwrap();
        let der = CertificateDer::from_pem_slice(leaf.cert.as_bytes()).unwrap();
        let provider = Arc::new(default_provider());
        let roots = roots(&authority);
        let client = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
        assert!(client.build().unwrap().verify_client_cert(&der, &[], at(NOW)).is_ok());
        let server = WebPkiServerVerifier::builder_with_provider(roots, provider).build().unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        assert!(server.verify_server_cert(&der, &[], &name, &[], at(NOW)).is_err());
    }

    #[test]
    fn a_key_is_never_shown_and_half_a_file_is_none() {
        let pair = Authority::new("etcd-ca", NOW).unwrap().pair;
        let key = pair.key.expose_secret().lines().nth(1).unwrap().to_owned();
        assert!(!format!("{pair:?}").contains(&key));
        let text = pair.text().expose_secret().to_owned();
        assert!(Pair::parse(&text).is_some());
        for cut in [0, pair.cert.len() / 2, pair.cert.len(), text.len() - 40] {
            assert!(Pair::parse(&text[..cut]).is_none(), "{cut}");
        }
        assert_eq!(pair.ends(), Some(NOW + 3650 * DAY));
    }
}
