//! Verifies a host's certificate by its fingerprint or its CA.
//!
//! A Proxmox VE node presents a leaf certificate of its cluster's own CA, valid for two years and
//! renewed automatically. The fingerprint is what `pvenode cert info` and the GUI print. With a pin no
//! host name is checked, because the pin is stronger than a name; signatures of the handshake always
//! are.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio::time::timeout;

use k8sha_base::cause::{Cause, cause};

/// The time limit for reading a certificate.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// The SHA-256 of a certificate's DER, shown as Proxmox VE shows it: `AA:BB:…`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// The fingerprint of a certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let colon = if index == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02X}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = String;

    /// Parses `AA:BB:…` or 64 plain hex digits, in either case.
    fn from_str(text: &str) -> Result<Self, String> {
        let fault =
            || format!("`{text}` is not a SHA-256 fingerprint: 32 hex bytes, such as `AA:BB:…`");
        let digits: Vec<u8> = text.trim().bytes().filter(|byte| *byte != b':').collect();
        if digits.len() != 64 {
            return Err(fault());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            let [high, low] = [pair[0], pair[1]].map(|digit| char::from(digit).to_digit(16));
            let (Some(high), Some(low)) = (high, low) else { return Err(fault()) };
            *byte = u8::try_from(high * 16 + low).map_err(|_| fault())?;
        }
        Ok(Self(bytes))
    }
}

/// Why a certificate was refused; passed inside rustls' error.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the certificate is not the expected one: expected {expected}, the host shows {seen}{why}")]
pub(crate) struct CertificateRefused {
    /// The fingerprint, or the CA in words.
    pub expected: String,
    /// The certificate that the host presented.
    pub seen: Fingerprint,
    /// The chain verifier's error, with a leading separator; empty for a pin.
    pub why: String,
}

/// How a host's certificate is verified. There is no third way: nothing unverified is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The SHA-256 of the leaf certificate.
    Fingerprint([u8; 32]),
    /// The CA that signed it, such as the one in `/etc/pve/pve-root-ca.pem`.
    Authority {
        /// Its source for messages: a file's path.
        file: String,
        /// Its certificates in PEM.
        pem: Vec<u8>,
    },
}

/// Why no TLS configuration could be created.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The CA's file has no usable certificate.
    #[error("cannot read the CA file `{file}`: {why}")]
    Authority {
        /// The file.
        file: String,
        /// The error.
        #[source]
        why: Cause,
    },
    /// The TLS library rejected its settings.
    #[error("cannot set up TLS: {0}")]
    Setup(#[from] rustls::Error),
}

/// Creates the TLS settings that verify a host by its [`Trust`].
///
/// The crypto provider is passed explicitly, so no process-wide default is changed.
///
/// # Errors
/// If the CA cannot be used.
pub fn client_config(trust: &Trust) -> Result<ClientConfig, TrustError> {
    let provider = provider();
    let rule = match trust {
        Trust::Fingerprint(pin) => Rule::Pin(Fingerprint(*pin)),
        Trust::Authority { file, pem } => Rule::Chain {
            name: format!("a certificate signed by `{file}`"),
            verifier: chain_verifier(file, pem, Arc::clone(&provider))?,
        },
    };
    configure(provider, rule)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn configure(provider: Arc<CryptoProvider>, rule: Rule) -> Result<ClientConfig, TrustError> {
    let verifier = Arc::new(Verifier { rule, provider: Arc::clone(&provider) });
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

fn chain_verifier(
    file: &str,
    pem: &[u8],
    provider: Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, TrustError> {
    let fault = |why: Cause| TrustError::Authority { file: file.to_owned(), why };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| fault(cause(error)))?;
        roots.add(certificate).map_err(|error| fault(cause(error)))?;
    }
    if roots.is_empty() {
        return Err(fault(cause("it contains no certificate")));
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| fault(cause(error)))
}

/// Reads the fingerprint that a host presents, without sending it anything: for a hint to compare with
/// `pvenode cert info` on the host itself.
///
/// # Errors
/// The obstacle, as a phrase.
pub async fn seen_fingerprint(endpoint: &str) -> Result<Fingerprint, String> {
    let url = reqwest::Url::parse(endpoint).map_err(|error| format!("`{endpoint}`: {error}"))?;
    let host = url.host_str().ok_or_else(|| format!("`{endpoint}` has no host"))?;
    let host = host.trim_matches(['[', ']']).to_owned();
    let port = url.port_or_known_default().unwrap_or(8006);
    let seen = Arc::new(Mutex::new(None));
    let config = configure(provider(), Rule::Look(Arc::clone(&seen)));
    let config = config.map_err(|error| error.to_string())?;
    let name = ServerName::try_from(host.clone()).map_err(|error| error.to_string())?;
    let look = async {
        let stream = TcpStream::connect((host.as_str(), port)).await?;
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.map(drop)
    };
    let outcome = timeout(HANDSHAKE_LIMIT, look).await;
    let seen = *seen.lock().unwrap_or_else(PoisonError::into_inner);
    match (seen, outcome) {
        (Some(fingerprint), _) => Ok(fingerprint),
        (None, Ok(Ok(()))) => Err(format!("{host}:{port} showed no certificate")),
        (None, Ok(Err(error))) => Err(error.to_string()),
        (None, Err(_)) => Err(format!("{host}:{port} did not answer")),
    }
}

#[derive(Debug)]
enum Rule {
    Pin(Fingerprint),
    Chain { name: String, verifier: Arc<WebPkiServerVerifier> },
    Look(Arc<Mutex<Option<Fingerprint>>>),
}

#[derive(Debug)]
struct Verifier {
    rule: Rule,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let seen = Fingerprint::of(end_entity);
        let refused = |expected: String, why: String| {
            let refusal = CertificateRefused { expected, seen, why };
            rustls::Error::Other(OtherError(Arc::new(refusal)))
        };
        match &self.rule {
            Rule::Pin(pin) if *pin == seen => Ok(ServerCertVerified::assertion()),
            Rule::Pin(pin) => Err(refused(pin.to_string(), String::new())),
            Rule::Chain { name, verifier } => verifier
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .map_err(|error| refused(name.clone(), format!(" ({error})"))),
            Rule::Look(place) => {
                *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
                // Reading the certificate is the only purpose: the handshake ends here and nothing is
                // sent.
                Err(rustls::Error::General("only looked".to_owned()))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_parsed_in_both_forms_and_shown_in_one() {
        let colons = (0..32).map(|n| format!("{n:02X}")).collect::<Vec<_>>().join(":");
        let plain = colons.replace(':', "").to_lowercase();
        for text in [&colons, &plain] {
            assert_eq!(text.parse::<Fingerprint>().unwrap().to_string(), colons);
        }
        for text in ["", "AA:BB", &plain.replace('0', "g"), &format!("{plain}00")] {
            assert!(text.parse::<Fingerprint>().unwrap_err().contains("SHA-256"), "{text}");
        }
    }

    #[test]
    fn a_ca_file_without_a_certificate_is_refused_by_its_name() {
        let pem = b"no certificate here\n".to_vec();
        let error =
            client_config(&Trust::Authority { file: "ca.pem".to_owned(), pem }).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot read the CA file `ca.pem`: it contains no certificate"
        );
    }
}
