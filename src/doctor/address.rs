//! Checks that the addresses of the table are free: that no other VM is configured with one or
//! reports one, and that no machine answers at one.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::task::JoinSet;

use super::finding::{Finding, Severity};
use super::host::Seen;
use super::neighbours::{self, Neighbour, Neighbours};
use crate::cluster::{Cluster, HostName, Role};
use crate::net::{Dialer, ping};
use crate::proxmox::Nic;

/// How long to wait for an answer from an address; in a LAN it takes a millisecond.
const LIMIT: Duration = Duration::from_millis(1500);
const SSH: u16 = 22;

/// The addresses that must still be free, and what each is for: those of VMs that do not exist, and
/// the VIP if no load balancer exists.
pub(super) fn unused(
    cluster: &Cluster,
    seen: &BTreeMap<HostName, Seen>,
) -> BTreeMap<Ipv4Addr, String> {
    let there = |vmid| {
        seen.values().any(|seen| {
            seen.vms.iter().any(|vm| vm.vmid == vmid) || seen.all.iter().any(|vm| vm.vmid == vmid)
        })
    };
    let mut unused: BTreeMap<Ipv4Addr, String> = cluster
        .nodes
        .iter()
        // The VMs of a host that was not reached are unknown.
        .filter(|node| seen.contains_key(&node.host) && !there(node.vmid))
        .map(|node| (node.ip, node.name.to_string()))
        .collect();
    let mut balancers = cluster.with_role(Role::LoadBalancer);
    if balancers.all(|node| unused.contains_key(&node.ip)) {
        unused.insert(cluster.api.vip, format!("{} (the VIP)", cluster.api.name));
    }
    unused
}

/// Probes each address that must still be free: over TCP and, if this machine is itself on the
/// network, with ping and the ARP requests that both cause.
pub(super) async fn knock(
    cluster: &Cluster,
    dialer: &Dialer,
    unused: &BTreeMap<Ipv4Addr, String>,
    seen: &BTreeMap<HostName, Seen>,
) -> Vec<Finding> {
    let direct = dialer.is_direct();
    let known = || if direct { neighbours::known() } else { Neighbours::new() };
    let before = known();
    let mut asking = JoinSet::new();
    for ip in unused.keys().copied() {
        let ports = if ip == cluster.api.vip { vec![SSH, cluster.api.port] } else { vec![SSH] };
        for port in ports {
            let dialer = dialer.clone();
            asking.spawn(async move {
                let how = match dialer.tcp(SocketAddr::new(IpAddr::V4(ip), port), LIMIT).await {
                    Ok(_) => Some(format!("a machine listens on port {port}")),
                    // A refused connection means that a machine is there.
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                        Some(format!("a machine refuses port {port}"))
                    }
                    Err(_) => None,
                };
                (ip, how)
            });
        }
        if direct {
            asking.spawn(async move {
                let answered = ping(ip, LIMIT).await == Some(true);
                (ip, answered.then(|| "a machine answers ping".to_owned()))
            });
        }
    }
    let mut answers: BTreeMap<Ipv4Addr, String> = BTreeMap::new();
    for (ip, how) in asking.join_all().await {
        let Some(how) = how else { continue };
        // An open port says more than a refused one, and a refused one more than a ping.
        let better = answers.get(&ip).is_none_or(|known| how.contains("port") && how < *known);
        if better {
            answers.insert(ip, how);
        }
    }
    let (after, macs) = (known(), macs(seen));
    let whose = |mac: &str| macs.get(mac).map_or(mac.to_owned(), |vm| format!("{mac}, {vm}"));
    let judge = |(ip, name): (&Ipv4Addr, &String)| {
        if let Some(how) = answers.get(ip) {
            let mac = after.get(ip).map_or(String::new(), |mac| format!(" ({})", whose(mac)));
            return Some(taken(name, *ip, &format!("{how}{mac}")));
        }
        let exists = |mac: &str| macs.contains_key(mac);
        match neighbours::judge(*ip, cluster.network.home(*ip).gateway, &before, &after, exists)? {
            Neighbour::Is(mac) => {
                let how = format!("{} answers ARP for it, but nothing else", whose(&mac));
                Some(taken(name, *ip, &how))
            }
            Neighbour::Was(mac) => Some(lately(name, *ip, &mac)),
        }
    };
    unused.iter().filter_map(judge).collect()
}

/// The existing VMs, by the MAC addresses of their network cards.
fn macs(seen: &BTreeMap<HostName, Seen>) -> BTreeMap<String, String> {
    let configs = seen.iter().flat_map(|(host, seen)| {
        seen.configs.iter().map(move |(vmid, config)| (host, vmid, config))
    });
    let cards = configs.flat_map(|(host, vmid, config)| {
        let nets = config.0.iter().filter(|(key, _)| key.starts_with("net"));
        nets.filter_map(move |(_, net)| {
            let name = config.name().unwrap_or("without a name");
            Some((Nic::parse(net)?.mac?.to_uppercase(), format!("VM {vmid} (`{name}`) on {host}")))
        })
    });
    cards.collect()
}

fn taken(name: &str, ip: Ipv4Addr, how: &str) -> Finding {
    let what = format!("its address {ip} is in use, but its VM does not exist: {how}");
    let fix = vec![
        format!("ip neigh show {ip}     (the MAC address identifies the machine)"),
        "give the row another address in the profile and in DNS, or free this one".to_owned(),
    ];
    Finding::new(Severity::Error, name, what, fix)
}

fn lately(name: &str, ip: Ipv4Addr, mac: &str) -> Finding {
    let what = format!(
        "its address {ip} was recently used by {mac}, which is not a VM on these hosts and does not answer \
         now"
    );
    let fix = vec![format!("arping -c 3 {ip}     (as root; no answer means that it is free)")];
    Finding::new(Severity::Warning, name, what, fix)
}

/// Finds addresses of the table that another VM is configured with, or that its guest agent
/// reports.
pub(super) fn claimed(cluster: &Cluster, seen: &BTreeMap<HostName, Seen>) -> Vec<Finding> {
    let mut wanted: BTreeMap<Ipv4Addr, String> =
        cluster.nodes.iter().map(|node| (node.ip, node.name.to_string())).collect();
    wanted.insert(cluster.api.vip, format!("{} (the VIP)", cluster.api.name));
    let mut findings = Vec::new();
    for (host, seen) in seen {
        let strangers = seen
            .configs
            .iter()
            .filter(|(vmid, _)| !cluster.nodes.iter().any(|node| node.vmid == **vmid));
        for (vmid, config) in strangers {
            let configured = config
                .0
                .iter()
                .filter(|(key, _)| key.starts_with("ipconfig"))
                .filter_map(|(_, value)| address(value));
            let reported = seen.reported.iter().filter(|(id, _)| id == vmid);
            let reported = reported.filter_map(|(_, address)| match address {
                IpAddr::V4(address) => Some(*address),
                IpAddr::V6(_) => None,
            });
            for ip in configured.chain(reported) {
                let Some(name) = wanted.get(&ip) else { continue };
                let other = config.name().unwrap_or("without a name");
                let what =
                    format!("its address {ip} belongs to VM {vmid} (`{other}`) on {host} as well");
                let fix = vec![
                    "give the row another address in the profile and in DNS, or".to_owned(),
                    format!(
                        "qm set {vmid} --ipconfig0 ip=ADDRESS/PREFIX,gw=GATEWAY     (on {host})"
                    ),
                ];
                findings.push(Finding::new(Severity::Error, name, what, fix));
            }
        }
    }
    findings
}

/// The address in `ip=10.0.0.5/24,gw=10.0.0.1`.
fn address(ipconfig: &str) -> Option<Ipv4Addr> {
    let ip = ipconfig.split(',').find_map(|part| part.strip_prefix("ip="))?;
    ip.split('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_from_cloud_inits_setting() {
        assert_eq!(address("gw=10.0.0.1,ip=10.0.0.5/24"), Some(Ipv4Addr::new(10, 0, 0, 5)));
        assert_eq!(address("ip=dhcp"), None);
    }
}
