//! The host keys that a server must present.

use std::fmt;

use russh::keys::ssh_key::EcdsaCurve;
use russh::keys::{Algorithm, HashAlg, PublicKey, PublicKeyOrCertificate};

use super::Error;
use crate::cause::cause;

/// A host key that is known before the first connection: a node's because k8sha put it in the seed,
/// another machine's because the operator set it.
#[derive(Clone, PartialEq, Eq)]
pub struct HostKey(PublicKey);

impl HostKey {
    /// Reads a public key line: `ssh-ed25519 AAAA…`, perhaps with a comment.
    ///
    /// [`Error::BadKey`] if it is not one.
    pub fn parse(line: &str) -> Result<Self, Error> {
        PublicKey::from_openssh(line.trim())
            .map(Self)
            .map_err(|error| Error::BadKey { what: "a host key", cause: cause(error) })
    }

    /// The fingerprint as `ssh-keygen -l` prints it: `SHA256:` and base64.
    pub fn fingerprint(&self) -> String {
        self.0.fingerprint(HashAlg::Sha256).to_string()
    }

    pub(super) fn is_ed25519(&self) -> bool {
        self.0.algorithm() == Algorithm::Ed25519
    }
}

impl From<PublicKey> for HostKey {
    fn from(key: PublicKey) -> Self {
        Self(key)
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostKey({})", self.fingerprint())
    }
}

/// The host keys of which a server must present one, and those that it must not present.
#[derive(Clone, Debug)]
pub struct HostKeys {
    known: Vec<HostKey>,
    revoked: Vec<HostKey>,
}

impl HostKeys {
    pub(super) fn new(known: Vec<HostKey>, revoked: Vec<HostKey>) -> Self {
        Self { known, revoked }
    }

    /// Whether one of these keys was presented; if not, which key was. A certificate never matches:
    /// k8sha trusts no CA, so a machine that presents one is another machine.
    pub(super) fn check(&self, shown: &PublicKeyOrCertificate) -> Result<(), String> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = shown else {
            return Err("a certificate".to_owned());
        };
        let among = |keys: &[HostKey]| keys.iter().any(|own| own.0.key_data() == key.key_data());
        let print = key.fingerprint(HashAlg::Sha256);
        if among(&self.revoked) {
            Err(format!("{print}, which is revoked"))
        } else if among(&self.known) {
            Ok(())
        } else {
            Err(print.to_string())
        }
    }

    /// The kinds of the known keys, ed25519 first: a server that has others too must present one of
    /// these.
    pub(super) fn kinds(&self) -> Vec<Algorithm> {
        let known = |kind: &Algorithm| self.known.iter().any(|key| key.0.algorithm() == *kind);
        VERIFIABLE.iter().filter(|kind| known(kind)).cloned().collect()
    }

    /// The fingerprints of the known keys.
    pub(crate) fn fingerprints(&self) -> String {
        self.known.iter().map(HostKey::fingerprint).collect::<Vec<_>>().join(" or ")
    }
}

impl From<HostKey> for HostKeys {
    fn from(key: HostKey) -> Self {
        Self::new(vec![key], Vec::new())
    }
}

/// The kinds of host keys that k8sha can verify, in order of preference. RSA is not among them:
/// every OpenSSH since 6.5 (2014) has an ed25519 key as well.
const VERIFIABLE: [Algorithm; 4] = [
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
];

/// Whether a host key of this kind can be verified.
pub(super) fn is_verifiable(kind: &Algorithm) -> bool {
    VERIFIABLE.contains(kind)
}
