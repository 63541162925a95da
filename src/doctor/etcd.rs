//! Checks the external etcd from this machine: its three certificate files, and its endpoints.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::task::JoinSet;

use super::finding::{Finding, Severity};
use crate::cluster::{Cluster, Etcd};
use crate::files::{Kind, read};
use crate::net::Dialer;
use crate::pki::validity;

const LIMIT: Duration = Duration::from_secs(2);
const DAY: i64 = 86_400;
/// API servers do not reload their client certificate: when it expires, the cluster stops working.
const SOON: i64 = 30;

/// Checks that the files of the profile exist, are readable, contain what their names say, and are
/// not expired at `now` (seconds since 1970).
pub(super) fn files(cluster: &Cluster, now: i64) -> Vec<Finding> {
    let Etcd::External { ca_file, cert_file, key_file, .. } = &cluster.etcd else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    findings.extend(certificate(ca_file, now));
    findings.extend(certificate(cert_file, now));
    let key = read(key_file, Kind::Certificate).map_err(|error| error.to_string());
    let key = key.and_then(|pem| PrivateKeyDer::from_pem_slice(&pem).map_err(|why| told(&why)));
    if let Err(why) = key {
        findings.push(unreadable(key_file, "a private key", &why));
    }
    findings
}

/// The certificates of k8sha's etcd that expire soon. A run renews those that k8sha's CA has
/// signed.
pub(super) fn own(ends: &[(PathBuf, Option<i64>)], now: i64) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, ends) in ends {
        let left = ends.map_or(0, |ends| ends - now);
        if left >= SOON * DAY {
            continue;
        }
        let authority = path.file_stem().is_some_and(|name| name == "ca");
        let what = if left <= 0 {
            format!("the certificate of k8sha's etcd expired {} days ago", -left / DAY)
        } else {
            format!("the certificate of k8sha's etcd expires in {} days", left / DAY)
        };
        let fix = if authority {
            "k8sha rebuild     (a new CA requires new certificates everywhere)"
        } else {
            "k8sha up     (renews it, on the members and on the masters; nothing restarts)"
        };
        let severity = if left <= 0 { Severity::Error } else { Severity::Warning };
        findings.push(Finding::new(severity, path.display(), what, vec![fix.to_owned()]));
    }
    findings
}

fn certificate(path: &Path, now: i64) -> Option<Finding> {
    let pem = read(path, Kind::Certificate).map_err(|error| error.to_string());
    let der = pem.and_then(|pem| CertificateDer::from_pem_slice(&pem).map_err(|why| told(&why)));
    let der = match der {
        Ok(der) => der,
        Err(why) => return Some(unreadable(path, "a certificate", &why)),
    };
    let Some((begins, ends)) = validity::of(&der) else {
        return Some(unreadable(path, "a certificate", "it has no period of validity"));
    };
    let (severity, what) = if now < begins {
        (Severity::Error, "is not valid yet: is this machine's clock correct?".to_owned())
    } else if now >= ends {
        (Severity::Error, format!("expired {} days ago", (now - ends) / DAY))
    } else if ends - now < SOON * DAY {
        (Severity::Warning, format!("expires in {} days", (ends - now) / DAY))
    } else {
        return None;
    };
    let fix = vec![
        format!("openssl x509 -noout -subject -issuer -dates -in {}", path.display()),
        "ask the administrator of that etcd to renew it".to_owned(),
    ];
    Some(Finding::new(severity, path.display(), format!("the certificate {what}"), fix))
}

/// The PEM parser's error in words.
fn told(why: &pem::Error) -> String {
    match why {
        pem::Error::MissingSectionEnd { .. } => {
            "it is truncated: the END line is missing".to_owned()
        }
        pem::Error::NoItemsFound => "the file contains none".to_owned(),
        other => other.to_string(),
    }
}

fn unreadable(path: &Path, kind: &str, why: &str) -> Finding {
    let what = format!("it cannot be read as {kind}: {why}");
    let fix = vec![
        "copy the three files from a machine that uses that etcd; the profile's `etcd` section \
         names them"
            .to_owned(),
    ];
    Finding::new(Severity::Error, path.display(), what, fix)
}

/// Members that do not answer from this machine. Only the nodes must reach them, so each is only a
/// note.
pub(super) async fn members(cluster: &Cluster, dialer: &Dialer) -> Vec<Finding> {
    let Etcd::External { endpoints, .. } = &cluster.etcd else { return Vec::new() };
    let mut asking = JoinSet::new();
    for endpoint in endpoints {
        let Some(to) = socket(endpoint) else { continue };
        let (dialer, endpoint) = (dialer.clone(), endpoint.clone());
        asking.spawn(async move { (endpoint, to, dialer.tcp(to, LIMIT).await.err()) });
    }
    let mut findings = Vec::new();
    for (endpoint, to, error) in asking.join_all().await {
        let Some(error) = error else { continue };
        let what = format!("this etcd member does not answer from here ({error})");
        let fix = vec![
            format!("nc -vz {} {}     (on a host of the nodes' network)", to.ip(), to.port()),
            "systemctl status etcd     (on the member, if that fails too)".to_owned(),
        ];
        findings.push(Finding::new(Severity::Note, endpoint, what, fix));
    }
    findings
}

fn socket(endpoint: &str) -> Option<SocketAddr> {
    endpoint.strip_prefix("https://")?.trim_end_matches('/').parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cluster::fixture;

    /// The first second of 2030.
    const NOW: i64 = 1_893_456_000;

    /// The findings if the CA and the client's certificate expire in these years.
    fn found(ca: i32, client: i32) -> Vec<Finding> {
        let folder = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = |year: i32, month: u8| {
            let mut params = rcgen::CertificateParams::new(vec!["etcd".to_owned()]).unwrap();
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(year, month, 11);
            params.self_signed(&key).unwrap().pem()
        };
        let path = |name: &str| folder.path().join(name);
        fs::write(path("ca"), certificate(ca, 1)).unwrap();
        fs::write(path("cert"), certificate(client, 1)).unwrap();
        fs::write(path("key"), key.serialize_pem()).unwrap();
        files(&with(&path("ca"), &path("cert"), &path("key")), NOW)
    }

    fn with(ca: &Path, cert: &Path, key: &Path) -> Cluster {
        let mut cluster = fixture::k8s1();
        if let Etcd::External { ca_file, cert_file, key_file, .. } = &mut cluster.etcd {
            *ca_file = ca.to_owned();
            *cert_file = cert.to_owned();
            *key_file = key.to_owned();
        }
        cluster
    }

    #[test]
    fn good_files_are_not_worth_a_word() {
        assert_eq!(found(2040, 2031), []);
    }

    #[test]
    fn a_certificate_that_has_ended_or_soon_will_is_found() {
        let over = found(2040, 2029);
        assert_eq!((over.len(), over[0].severity), (1, Severity::Error));
        assert!(over[0].what.contains("expired 355 days ago"), "{}", over[0].what);
        let soon = found(2030, 2040);
        assert_eq!((soon.len(), soon[0].severity), (1, Severity::Warning));
        assert!(soon[0].what.contains("expires in 10 days"), "{}", soon[0].what);
    }

    #[test]
    fn what_our_authority_has_signed_is_told_in_its_last_month() {
        let ends = |days: i64| Some(NOW + days * DAY);
        let all = [
            ("etcd/ca.pem", ends(3000)),
            ("etcd/peer-e1.pem", ends(31)),
            ("etcd/server-e1.pem", ends(29)),
            ("etcd/server-e2.pem", ends(-3)),
        ];
        let found = own(&all.map(|(path, ends)| (PathBuf::from(path), ends)), NOW);
        let told: Vec<(Severity, &str)> =
            found.iter().map(|finding| (finding.severity, finding.on.as_str())).collect();
        assert_eq!(
            told,
            [(Severity::Warning, "etcd/server-e1.pem"), (Severity::Error, "etcd/server-e2.pem")]
        );
        assert!(found[0].what.contains("expires in 29 days"), "{}", found[0].what);
        assert!(found[0].fix[0].starts_with("k8sha up"), "{:?}", found[0].fix);
    }

    #[test]
    fn files_that_are_not_there_or_not_what_they_should_be_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        fs::write(&path, "no PEM").unwrap();
        let found = files(&with(&folder.path().join("absent"), &path, &path), NOW);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found.iter().all(|finding| finding.severity == Severity::Error));
    }
}
