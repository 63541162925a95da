//! Checks that the target of a fault exists: a fault without a target would never happen, and the
//! run would seem to have survived it.

use crate::cluster::{Cluster, Etcd, Node, Role};
use k8sha_simulator::faults::{Fault, FaultKind};

/// What is wrong with a fault's target, with the available targets.
pub(super) fn fault(cluster: &Cluster, fault: &Fault) -> Result<(), String> {
    let (what, known) = known(cluster, fault.kind);
    if known.contains(&fault.target) {
        return Ok(());
    }
    let Fault { kind, target, .. } = fault;
    Err(match known.as_slice() {
        [] => format!("`{kind}@{target}`: this profile has no {what}"),
        known => {
            format!("`{kind}@{target}`: no {what} `{target}`; known are {}", known.join(", "))
        }
    })
}

/// What a kind of fault can happen to, and its names in this profile; the usual spelling first.
fn known(cluster: &Cluster, kind: FaultKind) -> (&'static str, Vec<String>) {
    let hosts = || cluster.proxmox.hosts.keys().map(ToString::to_string);
    let names = |nodes: &mut dyn Iterator<Item = &Node>| -> Vec<String> {
        nodes.map(|node| node.name.to_string()).collect()
    };
    let all = || cluster.nodes.iter();
    match kind {
        FaultKind::CloneLockTimeout
        | FaultKind::ProxyTimeout596
        | FaultKind::DiskFull
        | FaultKind::NoQuorum
        | FaultKind::BadChecksum
        | FaultKind::UploadReset
        | FaultKind::ClockAhead
        | FaultKind::HostDown
        | FaultKind::CertificateExpired => ("Proxmox VE host", hosts().collect()),
        FaultKind::TaskFails => {
            ("Proxmox VE host or node", hosts().chain(names(&mut all())).collect())
        }
        FaultKind::StartFails | FaultKind::ConfigChanged => ("node", names(&mut all())),
        FaultKind::SshLate
        | FaultKind::WrongHostKey
        | FaultKind::NeverBoots
        | FaultKind::CloudInitFails => ("node", machines(all())),
        FaultKind::PreflightError | FaultKind::ExpiredKey => {
            ("node of Kubernetes", machines(all().filter(|node| node.role.is_kubernetes())))
        }
        FaultKind::DnsStale | FaultKind::DnsSilent | FaultKind::DnsWildcard => {
            ("name server", cluster.network.nameservers.iter().map(ToString::to_string).collect())
        }
        FaultKind::EtcdMemberDown => ("etcd member", members(cluster)),
        FaultKind::VmLocked => {
            let rows = all().map(|node| node.vmid);
            let templates = cluster.proxmox.hosts.values().flat_map(|host| host.templates.values());
            let ids = rows.chain(templates.map(|source| source.vmid()));
            let mut known = names(&mut all());
            known.extend(ids.map(|id| id.to_string()));
            known.dedup();
            ("VM or template", known)
        }
        FaultKind::EtcdFileBroken => {
            ("file of an external etcd", files(cluster, &["ca", "cert", "key"]))
        }
        FaultKind::EtcdCertExpired => ("file of an external etcd", files(cluster, &["cert"])),
    }
}

/// The names of machines: short, in full, and their addresses.
fn machines<'a>(nodes: impl Iterator<Item = &'a Node> + Clone) -> Vec<String> {
    let short = nodes.clone().map(|node| node.name.to_string());
    let full = nodes.clone().map(|node| node.fqdn.clone());
    short.chain(full).chain(nodes.map(|node| node.ip.to_string())).collect()
}

fn members(cluster: &Cluster) -> Vec<String> {
    match &cluster.etcd {
        Etcd::Stacked => cluster.with_role(Role::Master).map(|node| node.ip.to_string()).collect(),
        Etcd::External { endpoints, .. } | Etcd::Machines { endpoints, .. } => {
            let host = |url: &String| {
                let address = url.strip_prefix("https://").unwrap_or(url);
                address.split(':').next().unwrap_or_default().to_owned()
            };
            endpoints.iter().map(host).collect()
        }
    }
}

fn files(cluster: &Cluster, names: &[&str]) -> Vec<String> {
    match cluster.etcd {
        Etcd::External { .. } => names.iter().map(|name| (*name).to_owned()).collect(),
        Etcd::Stacked | Etcd::Machines { .. } => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile;

    fn said(profile: &str, text: &str) -> Result<(), String> {
        let cluster = profile::load(profile).unwrap().cluster;
        super::fault(&cluster, &text.parse().unwrap())
    }

    #[test]
    fn every_kind_of_fault_has_a_target_in_the_profile_of_the_main_job() {
        let cluster = profile::load("k8s1").unwrap().cluster;
        for kind in FaultKind::ALL {
            let (what, known) = known(&cluster, kind);
            let first = known.first().unwrap_or_else(|| panic!("{kind}: no {what}"));
            assert_eq!(said("k8s1", &format!("{kind}@{first}#2")), Ok(()));
            assert!(said("k8s1", &format!("{kind}@nowhere")).is_err(), "{kind}");
        }
    }

    #[test]
    fn a_target_that_is_not_there_is_told_with_those_that_are() {
        for (profile, fault, part) in [
            ("homelab", "host-down@pve9", "no Proxmox VE host `pve9`; known are pve1, pve2"),
            ("homelab", "host-down@PVE1", "known are pve1, pve2"),
            ("homelab", "ssh-late@k8s1master1", "known are k8s-lb1, k8s-lb2, k8s-master1"),
            ("homelab", "dns-silent@10.0.0.1", "no name server `10.0.0.1`; known are 192.168.10.2"),
            ("homelab", "etcd-file-broken@ca", "this profile has no file of an external etcd"),
            ("k8s1", "expired-key@k8s1vrrp1", "no node of Kubernetes `k8s1vrrp1`"),
            ("k8s1", "vm-locked@9999", "no VM or template `9999`"),
        ] {
            let said = said(profile, fault).unwrap_err();
            assert!(said.contains(part), "{fault}: {said}");
        }
        assert_eq!(said("k8s1-etcd", "etcd-member-down@10.103.1.203"), Ok(()));
        assert_eq!(said("k8s1", "vm-locked@9001"), Ok(()));
        assert_eq!(said("k8s1", "never-boots@k8s1master3.kloud.lan"), Ok(()));
    }
}
