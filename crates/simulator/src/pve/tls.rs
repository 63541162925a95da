//! The certificates of a Proxmox VE datacenter: its own CA, and a leaf for each node.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};

/// A certificate and its private key, in PEM.
#[derive(Clone, Serialize, Deserialize)]
pub struct Pair {
    /// The certificate.
    pub cert: String,
    /// Its private key.
    pub key: String,
    /// SHA-256 of the certificate's DER form: upper-case hex with colons.
    pub fingerprint: String,
    /// Its subject, as OpenSSL writes it in one line.
    pub subject: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

/// A datacenter's CA, ready to sign.
pub struct Authority {
    /// The CA's own certificate.
    pub pair: Pair,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Creates the CA as `pvecm` does (pve-cluster src/PVE/Cluster/Setup.pm): common name "Proxmox
    /// Virtual Environment", ten years.
    ///
    /// # Errors
    /// If the cryptography fails.
    pub fn new(unit: &str, unix: i64) -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let parts = [
            (DnType::CommonName, "Proxmox Virtual Environment"),
            (DnType::OrganizationalUnitName, unit),
            (DnType::OrganizationName, "PVE Cluster Manager CA"),
        ];
        params.distinguished_name = name(&parts);
        last(&mut params, unix, 3650);
        let key = KeyPair::generate()?;
        let cert = params.self_signed(&key)?;
        let pair = Pair {
            cert: cert.pem(),
            key: key.serialize_pem(),
            fingerprint: fingerprint(cert.der()),
            subject: one_line(&parts),
        };
        Ok(Self { pair, issuer: Issuer::new(params, key) })
    }

    /// Creates a node's certificate: two years, for the node's names and the loopback addresses.
    ///
    /// # Errors
    /// If the cryptography fails.
    pub fn leaf(&self, node: &str, domain: &str, unix: i64) -> Result<Pair, rcgen::Error> {
        let fqdn = format!("{node}.{domain}");
        let names = vec!["localhost".to_owned(), node.to_owned(), fqdn.clone()];
        let mut params = CertificateParams::new(names)?;
        for address in ["127.0.0.1", "::1"] {
            if let Ok(address) = address.parse() {
                params.subject_alt_names.push(SanType::IpAddress(address));
            }
        }
        let parts = [
            (DnType::OrganizationalUnitName, "PVE Cluster Node"),
            (DnType::OrganizationName, "Proxmox Virtual Environment"),
            (DnType::CommonName, fqdn.as_str()),
        ];
        params.distinguished_name = name(&parts);
        params.is_ca = IsCa::ExplicitNoCa;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // OpenSSL adds it by default, and strict clients (Python since 3.13) require it.
        params.use_authority_key_identifier_extension = true;
        last(&mut params, unix, 730);
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?;
        Ok(Pair {
            cert: cert.pem(),
            key: key.serialize_pem(),
            fingerprint: fingerprint(cert.der()),
            subject: one_line(&parts),
        })
    }
}

fn name(parts: &[(DnType, &str)]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    for (kind, text) in parts {
        name.push(kind.clone(), *text);
    }
    name
}

/// A distinguished name as `openssl x509 -nameopt compat` writes it.
fn one_line(parts: &[(DnType, &str)]) -> String {
    let key = |kind: &DnType| match kind {
        DnType::OrganizationalUnitName => "OU",
        DnType::OrganizationName => "O",
        _ => "CN",
    };
    parts.iter().map(|(kind, text)| format!("/{}={text}", key(kind))).collect()
}

fn last(params: &mut CertificateParams, unix: i64, days: i64) {
    let made = OffsetDateTime::from_unix_timestamp(unix).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    // A day earlier, so that the certificate is already valid for a client with a slow clock.
    params.not_before = made - Duration::days(1);
    params.not_after = made + Duration::days(days);
}

fn fingerprint(der: &[u8]) -> String {
    let bytes: Vec<_> = Sha256::digest(der).iter().map(|byte| format!("{byte:02X}")).collect();
    bytes.join(":")
}
