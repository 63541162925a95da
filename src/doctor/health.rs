//! Checks a host's health: quorum, certificate, clock, storages, bridge. Pure.

use super::finding::{Finding, Severity};
use super::host::Seen;
use crate::cluster::{Cluster, HostName};
use crate::plan::machines::{self, Unseen};
use crate::plan::prerequisites;
use crate::proxmox::Identity;

/// A clock that is off by more seconds than this breaks etcd's leases and newly created
/// certificates.
const CLOCK: i64 = 5;
/// A certificate that expires within this many days is reported.
const SOON: i64 = 14;
const DAY: i64 = 86_400;

/// All problems of the host itself.
pub(super) fn check(
    cluster: &Cluster,
    host: &HostName,
    who: &Identity,
    seen: &Seen,
    now: i64,
) -> Vec<Finding> {
    let settings = &cluster.proxmox.hosts[host];
    let mut findings = Vec::new();
    if seen.status.as_ref().is_some_and(|status| !status.is_quorate()) {
        findings.push(Finding::lack(host, prerequisites::quorum()));
    }
    let lacks = prerequisites::storages(settings, &seen.storages, who);
    findings.extend(lacks.into_iter().map(|lack| Finding::lack(host, lack)));
    let bridges = prerequisites::bridges(cluster, host, &seen.network);
    findings.extend(bridges.into_iter().map(|lack| Finding::lack(host, lack)));
    let judged = machines::judge(cluster, host, &seen.told, who);
    findings.extend(judged.lacks.into_iter().map(|lack| Finding::lack(host, lack)));
    // Invisible CPUs are reported together with the other effects of a missing Sys.Audit.
    let unseen = judged.unseen.into_iter().filter(|one| *one != Unseen::Cpus);
    findings.extend(
        unseen.map(|one| Finding::new(Severity::Note, host, one.to_string(), one.fix(who))),
    );
    for (bridge, tag) in cluster.bridges(host) {
        findings.extend(tag.and_then(|tag| vlan(&bridge, tag, host, seen)));
    }
    findings.extend(certificate(host, seen, now));
    findings.extend(seen.ahead.and_then(|ahead| clock(host, ahead)));
    findings
}

fn vlan(bridge: &str, tag: u16, host: &HostName, seen: &Seen) -> Option<Finding> {
    let iface = seen.network.iter().find(|iface| iface.iface == bridge)?;
    if iface.kind != "bridge" || iface.vlan_aware {
        return None;
    }
    let what = format!(
        "bridge `{bridge}` is not VLAN aware; Proxmox VE makes a bridge `{bridge}v{tag}` beside it, \
         which works only if the port of `{bridge}` is a physical network card"
    );
    let fix = vec![
        format!("add `bridge-vlan-aware yes` to `iface {bridge}` in /etc/network/interfaces, then"),
        "ifreload -a".to_owned(),
    ];
    Some(Finding::new(Severity::Warning, host, what, fix))
}

/// The certificate that the API presents: the operator's own if there is one.
fn certificate(host: &HostName, seen: &Seen, now: i64) -> Option<Finding> {
    let named = |name: &str| seen.certificates.iter().find(|cert| cert.filename == name);
    let shown = named("pveproxy-ssl.pem").or_else(|| named("pve-ssl.pem"))?;
    let left = i64::try_from(shown.notafter?).ok()? - now;
    let file = &shown.filename;
    let (severity, what) = if left <= 0 {
        (Severity::Error, format!("its certificate `{file}` expired {} days ago", -left / DAY))
    } else if left < SOON * DAY {
        (Severity::Warning, format!("its certificate `{file}` expires in {} days", left / DAY))
    } else {
        return None;
    };
    let renew = if file == "pve-ssl.pem" {
        "pvecm updatecerts --force && systemctl restart pveproxy"
    } else {
        "pvenode acme cert renew     (or `pvenode cert set CERT KEY --force` with a new one)"
    };
    let fix = vec![
        renew.to_owned(),
        "pvenode cert info     (then put the new fingerprint into the profile)".to_owned(),
    ];
    Some(Finding::new(severity, host, what, fix))
}

fn clock(host: &HostName, ahead: i64) -> Option<Finding> {
    let off = ahead.abs();
    if off <= CLOCK {
        return None;
    }
    let word = if ahead > 0 { "ahead of" } else { "behind" };
    let what = format!("its clock is about {off} s {word} this machine's");
    let fix = vec![
        "chronyc makestep && chronyc tracking     (on the host)".to_owned(),
        "timedatectl     (on this machine: is its clock synchronised?)".to_owned(),
    ];
    Some(Finding::new(Severity::Error, host, what, fix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxmox::wire::Certificate;

    const NOW: i64 = 1_800_000_000;

    fn host() -> HostName {
        HostName("pve1".to_owned())
    }

    fn with(file: &str, left_days: i64) -> Option<Finding> {
        let notafter = u64::try_from(NOW + left_days * DAY).ok();
        let cert = |filename: &str, notafter| Certificate {
            filename: filename.to_owned(),
            fingerprint: None,
            notafter,
        };
        let certificates = vec![cert("pve-root-ca.pem", Some(0)), cert(file, notafter)];
        certificate(&host(), &Seen { certificates, ..Seen::default() }, NOW)
    }

    #[test]
    fn a_certificate_is_told_before_it_ends_and_not_long_before() {
        assert_eq!(with("pve-ssl.pem", 15), None);
        let soon = with("pve-ssl.pem", 13).unwrap();
        assert_eq!(soon.severity, Severity::Warning);
        assert_eq!(soon.what, "its certificate `pve-ssl.pem` expires in 13 days");
        let over = with("pveproxy-ssl.pem", -2).unwrap();
        assert_eq!(over.severity, Severity::Error);
        assert!(over.what.contains("expired 2 days ago"), "{}", over.what);
        assert!(over.fix[0].starts_with("pvenode acme cert renew"), "{:?}", over.fix);
    }

    #[test]
    fn a_clock_may_be_five_seconds_off() {
        assert_eq!(clock(&host(), 5), None);
        assert!(clock(&host(), -6).is_some_and(|finding| finding.what.contains("6 s behind")));
    }
}
