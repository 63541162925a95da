//! Whether certificates are valid, as TLS libraries check it.

use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::ring::{default_provider, sign::any_supported_type};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;

fn certificate(pem: &str) -> Option<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(pem.as_bytes()).ok()
}

fn roots(ca: &str) -> Option<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate(ca)?).ok()?;
    Some(Arc::new(roots))
}

fn at(unix: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(unix.unsigned_abs()))
}

/// Whether a CA accepts this client.
pub fn admits(ca: &str, client: &str, unix: i64) -> bool {
    let judged = || {
        let provider = Arc::new(default_provider());
        let judge =
            WebPkiClientVerifier::builder_with_provider(roots(ca)?, provider).build().ok()?;
        judge.verify_client_cert(&certificate(client)?, &[], at(unix)).ok()
    };
    judged().is_some()
}

/// Whether a CA has signed this server's certificate for a name or address.
pub fn vouches(ca: &str, server: &str, host: &str, unix: i64) -> bool {
    let judged = || {
        let provider = Arc::new(default_provider());
        let judge =
            WebPkiServerVerifier::builder_with_provider(roots(ca)?, provider).build().ok()?;
        let name = ServerName::try_from(host.to_owned()).ok()?;
        judge.verify_server_cert(&certificate(server)?, &[], &name, &[], at(unix)).ok()
    };
    judged().is_some()
}

/// Whether a certificate and a key belong together.
pub fn belong(cert: &str, key: &str) -> bool {
    let judged = || {
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).ok()?;
        let key = any_supported_type(&key).ok()?;
        CertifiedKey::new(vec![certificate(cert)?], key).keys_match().ok()
    };
    judged().is_some()
}

#[cfg(test)]
mod tests {
    use super::super::pki::Authority;
    use super::*;

    const NOW: i64 = 1_795_000_000;

    #[test]
    fn a_different_ca_name_or_key_is_rejected() {
        let (one, other) = (Authority::new("a", NOW).unwrap(), Authority::new("b", NOW).unwrap());
        let leaf = one.issue("e1", None, &["10.103.1.101".to_owned()], NOW).unwrap();
        assert!(admits(&one.pair.cert, &leaf.cert, NOW));
        assert!(!admits(&other.pair.cert, &leaf.cert, NOW));
        assert!(!admits(&one.pair.cert, &leaf.cert, NOW + 366 * 86_400));
        assert!(vouches(&one.pair.cert, &leaf.cert, "10.103.1.101", NOW));
        assert!(!vouches(&one.pair.cert, &leaf.cert, "10.103.1.102", NOW));
        assert!(belong(&leaf.cert, &leaf.key));
        assert!(!belong(&leaf.cert, &other.pair.key));
    }
}
