//! Our own keys: making them, and logging in with one.

use std::fmt;
use std::sync::Arc;

use russh::keys::key::safe_rng;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey};
use secrecy::{ExposeSecret, SecretString};

use super::Error;

/// An ed25519 key pair in the forms that OpenSSH and cloud-init take.
#[derive(Clone, Debug)]
pub struct KeyPair {
    /// The private key as OpenSSH PEM.
    pub private: SecretString,
    /// The public key as one line: `ssh-ed25519 AAAA… comment`.
    pub public: String,
}

impl KeyPair {
    /// Makes a new pair from the system's randomness.
    ///
    /// # Errors
    /// [`Error::BadKey`] where the key cannot be encoded.
    pub fn generate(comment: &str) -> Result<Self, Error> {
        let bad = |cause: russh::keys::ssh_key::Error| Error::BadKey {
            what: "a new one",
            cause: cause.to_string(),
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
    /// Reads a private key that was kept as OpenSSH PEM.
    ///
    /// # Errors
    /// [`Error::BadKey`] where it is none.
    pub fn from_openssh(private: SecretString) -> Result<Self, Error> {
        let bad = |cause: russh::keys::ssh_key::Error| Error::BadKey {
            what: "a kept one",
            cause: cause.to_string(),
        };
        let key = PrivateKey::from_openssh(private.expose_secret()).map_err(bad)?;
        Ok(Self { private, public: key.public_key().to_openssh().map_err(bad)? })
    }
}

/// The private key with which we log in.
#[derive(Clone)]
pub struct Identity(pub(super) Arc<PrivateKey>);

impl Identity {
    /// Reads an OpenSSH PEM without passphrase.
    ///
    /// # Errors
    /// [`Error::BadKey`] where it is none, or is encrypted.
    pub fn from_openssh(pem: &SecretString) -> Result<Self, Error> {
        let bad = |cause: String| Error::BadKey { what: "the login key", cause };
        let key = PrivateKey::from_openssh(pem.expose_secret()).map_err(|e| bad(e.to_string()))?;
        if key.is_encrypted() {
            return Err(bad("it has a passphrase".into()));
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
    fn what_is_no_key_is_refused_without_being_shown() {
        let error = Identity::from_openssh(&"hush".into()).unwrap_err();
        assert!(error.to_string().starts_with("unusable SSH key (the login key)"), "{error}");
        assert!(!error.to_string().contains("hush"));
    }
}
