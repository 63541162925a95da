//! Certificate authorities and certificates outside Proxmox: etcd's and each Kubernetes cluster's.

use std::io;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};

/// A certificate and its private key, both PEM.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// The certificate.
    pub cert: String,
    /// The key (PKCS #8).
    pub key: String,
}

/// A certificate authority.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Authority {
    /// Its common name.
    pub name: String,
    /// Its certificate and key.
    pub pair: Pair,
    /// Its notBefore time, in seconds since the Unix epoch.
    pub since: i64,
}

impl Authority {
    /// Creates one, valid for ten years as kubeadm's are.
    ///
    /// # Errors
    /// If no key can be created.
    pub fn new(name: &str, since: i64) -> io::Result<Self> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let cert = params(name, since)?.self_signed(&key).map_err(io::Error::other)?;
        let pair = Pair { cert: cert.pem(), key: key.serialize_pem() };
        Ok(Self { name: name.to_owned(), pair, since })
    }

    /// Issues a certificate, valid for a year.
    ///
    /// # Errors
    /// If a certificate cannot contain one of the names.
    pub fn issue(
        &self,
        name: &str,
        group: Option<&str>,
        names: &[String],
        now: i64,
    ) -> io::Result<Pair> {
        let signer = KeyPair::from_pem(&self.pair.key).map_err(io::Error::other)?;
        let issuer = Issuer::new(params(&self.name, self.since)?, signer);
        let mut leaf = CertificateParams::new(names.to_vec()).map_err(io::Error::other)?;
        leaf.distinguished_name.remove(DnType::CommonName);
        leaf.distinguished_name.push(DnType::CommonName, name);
        if let Some(group) = group {
            leaf.distinguished_name.push(DnType::OrganizationName, group);
        }
        leaf.not_before = moment(self.since)?;
        leaf.not_after = moment(now)? + Duration::days(365);
        leaf.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let cert = leaf.signed_by(&key, &issuer).map_err(io::Error::other)?;
        Ok(Pair { cert: cert.pem(), key: key.serialize_pem() })
    }

    /// `sha256:` and the hash of the authority's SubjectPublicKeyInfo, as kubeadm pins it.
    ///
    /// # Errors
    /// If the key cannot be read.
    pub fn pin(&self) -> io::Result<String> {
        let key = KeyPair::from_pem(&self.pair.key).map_err(io::Error::other)?;
        Ok(format!("sha256:{}", hex(&Sha256::digest(key.subject_public_key_info()))))
    }
}

fn params(name: &str, since: i64) -> io::Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::KeyCertSign,
    ];
    params.not_before = moment(since)?;
    params.not_after = moment(since)? + Duration::days(3650);
    Ok(params)
}

fn moment(unix: i64) -> io::Result<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(unix).map_err(io::Error::other)
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
