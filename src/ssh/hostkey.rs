//! The host key that a node must show.

use std::fmt;

use russh::keys::{HashAlg, PublicKey, PublicKeyOrCertificate};

use super::Error;

/// A host key that is known before the first connection, because we planted it.
#[derive(Clone, PartialEq, Eq)]
pub struct HostKey(PublicKey);

impl HostKey {
    /// Reads a public key line: `ssh-ed25519 AAAA…`, perhaps with a comment.
    ///
    /// # Errors
    /// [`Error::BadKey`] where it is none.
    pub fn parse(line: &str) -> Result<Self, Error> {
        PublicKey::from_openssh(line.trim())
            .map(Self)
            .map_err(|e| Error::BadKey { what: "a host key", cause: e.to_string() })
    }

    /// The fingerprint as `ssh-keygen -l` prints it: `SHA256:` and base64.
    pub fn fingerprint(&self) -> String {
        self.0.fingerprint(HashAlg::Sha256).to_string()
    }

    /// Whether this is the key that was shown; if not, what was. A certificate never is: we sign
    /// none, so whoever shows one is somebody else.
    pub(super) fn check(&self, shown: &PublicKeyOrCertificate) -> Result<(), String> {
        match shown {
            PublicKeyOrCertificate::PublicKey { key, .. }
                if key.key_data() == self.0.key_data() =>
            {
                Ok(())
            }
            PublicKeyOrCertificate::PublicKey { key, .. } => {
                Err(key.fingerprint(HashAlg::Sha256).to_string())
            }
            PublicKeyOrCertificate::Certificate(_) => Err("a certificate".to_owned()),
        }
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostKey({})", self.fingerprint())
    }
}
