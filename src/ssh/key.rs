//! k8sha's own keys: creates them, and logs in with one.

use std::fmt;
use std::sync::Arc;

use russh::keys::key::safe_rng;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey, decode_secret_key};
use secrecy::{ExposeSecret, SecretString};

use super::Error;
use crate::cause::{Cause, cause};

/// An ed25519 key pair in the forms that OpenSSH and cloud-init accept.
#[derive(Clone, Debug)]
pub struct KeyPair {
    /// The private key as OpenSSH PEM.
    pub private: SecretString,
    /// The public key as one line: `ssh-ed25519 AAAA… comment`.
    pub public: String,
}

impl KeyPair {
    /// Creates a new pair from the system's randomness.
    ///
    /// # Errors
    /// [`Error::BadKey`] if the key cannot be encoded.
    pub fn generate(comment: &str) -> Result<Self, Error> {
        let bad = |error: russh::keys::ssh_key::Error| Error::BadKey {
            what: "a new one",
            cause: cause(error),
        };
        let mut key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).map_err(bad)?;
        key.set_comment(comment);
        Ok(Self {
            private: key.to_openssh(LineEnding::LF).map_err(bad)?.as_str().into(),
            public: key.public_key().to_openssh().map_err(bad)?,
        })
    }
}

impl KeyPair {
    /// Reads a private key stored as OpenSSH PEM.
    ///
    /// # Errors
    /// [`Error::BadKey`] if it is not one.
    pub fn from_openssh(private: SecretString) -> Result<Self, Error> {
        let bad = |error: russh::keys::ssh_key::Error| Error::BadKey {
            what: "a kept one",
            cause: cause(error),
        };
        let key = PrivateKey::from_openssh(private.expose_secret()).map_err(bad)?;
        Ok(Self { private, public: key.public_key().to_openssh().map_err(bad)? })
    }
}

/// The private key with which k8sha logs in.
#[derive(Clone)]
pub struct Identity(pub(super) Arc<PrivateKey>);

impl Identity {
    /// Reads an OpenSSH PEM without a passphrase.
    ///
    /// # Errors
    /// [`Error::BadKey`] if it is not one, or is encrypted.
    pub fn from_openssh(pem: &SecretString) -> Result<Self, Error> {
        Self::unlock(pem, None)
    }

    /// Whether a private key has a passphrase.
    pub fn is_locked(pem: &SecretString) -> bool {
        let text = pem.expose_secret();
        let said = ["BEGIN ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED"];
        said.iter().any(|form| text.contains(form))
            || PrivateKey::from_openssh(text.trim()).is_ok_and(|key| key.is_encrypted())
    }

    /// Reads a private key in the form of OpenSSH or OpenSSL, with the passphrase that it needs.
    ///
    /// # Errors
    /// [`Error::BadKey`] if it is not one, is of a kind that k8sha cannot sign with, or the
    /// passphrase is wrong.
    pub fn unlock(pem: &SecretString, passphrase: Option<&SecretString>) -> Result<Self, Error> {
        let bad = |cause: Cause| Error::BadKey { what: "the login key", cause };
        let agent = "RSA keys in files are not supported: add it to your ssh-agent \
                     (`ssh-add`), or take an ed25519 key";
        if Self::is_locked(pem) && passphrase.is_none() {
            return Err(bad(cause("it has a passphrase")));
        }
        let passphrase = passphrase.map(ExposeSecret::expose_secret);
        let key = decode_secret_key(pem.expose_secret(), passphrase).map_err(|error| {
            let rsa = matches!(error, russh::keys::Error::UnsupportedKeyType { .. });
            bad(match passphrase {
                _ if rsa => cause(agent),
                // A wrong one yields an invalid key.
                Some(_) => cause(format!("the passphrase does not open it ({error})")),
                None => cause(error),
            })
        })?;
        if matches!(key.algorithm(), Algorithm::Rsa { .. }) {
            return Err(bad(cause(agent)));
        }
        Ok(Self(Arc::new(key)))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.0.fingerprint(russh::keys::HashAlg::Sha256))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_pair_belongs_together_and_hides_its_private_half() {
        let pair = KeyPair::generate("k8sha@k8s1").unwrap();
        assert!(pair.public.starts_with("ssh-ed25519 AAAA"), "{}", pair.public);
        assert!(pair.public.ends_with(" k8sha@k8s1"), "{}", pair.public);
        let identity = Identity::from_openssh(&pair.private).unwrap();
        assert_eq!(identity.0.public_key().to_openssh().unwrap(), pair.public);
        assert!(!format!("{pair:?}").contains("PRIVATE KEY"));
        assert_ne!(KeyPair::generate("k8sha@k8s1").unwrap().public, pair.public);
    }

    #[test]
    fn a_key_with_a_passphrase_opens_with_it_and_with_no_other() {
        let pair = KeyPair::generate("x").unwrap();
        let key = PrivateKey::from_openssh(pair.private.expose_secret()).unwrap();
        let locked = key.encrypt(&mut safe_rng(), "open sesame").unwrap();
        let pem: SecretString = locked.to_openssh(LineEnding::LF).unwrap().as_str().into();
        assert!(Identity::is_locked(&pem) && !Identity::is_locked(&pair.private));
        let open = |word: &str| Identity::unlock(&pem, Some(&word.into()));
        assert_eq!(open("open sesame").unwrap().0.public_key(), key.public_key());
        let error = open("hush").unwrap_err().to_string();
        assert!(error.contains("the passphrase does not open it"), "{error}");
        assert!(!error.contains("hush"), "{error}");
        let error = Identity::from_openssh(&pem).unwrap_err().to_string();
        assert!(error.ends_with("it has a passphrase"), "{error}");
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_shown() {
        let error = Identity::from_openssh(&"hush".into()).unwrap_err();
        assert!(error.to_string().starts_with("unusable SSH key (the login key)"), "{error}");
        assert!(!error.to_string().contains("hush"));
    }
}
