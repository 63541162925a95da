//! Checks addresses: no duplicates, each in its subnet, no overlapping networks.

use std::net::Ipv4Addr;
use std::ops::Range;

use ipnet::Ipv4Net;

use super::{Notes, reserved, rows};
use crate::cluster::Role;
use crate::profile::at::At;
use crate::profile::complaint::Complaint;
use crate::profile::raw::{Etcd, Profile};

/// Carrier-grade NAT (RFC 6598). Tailscale assigns its machines addresses from it.
const SHARED_SPACE: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10);
/// Benchmarks (RFC 2544). Proxies such as mihomo take their fake addresses from it.
const BENCHMARKS: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 0, 0), 15);

/// The subnet of the VIP and of every row that is not in another subnet.
const FIRST: &str = "the nodes' subnet";
/// One of `network.others`.
const ANOTHER: &str = "another subnet";

/// An address and its purpose.
struct Taken {
    ip: Ipv4Addr,
    span: Range<usize>,
    by: String,
    place: Place,
}

/// Where an address must be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Inside the first subnet.
    Inside,
    /// Inside one of the subnets.
    Home,
    /// Inside the subnet with this number.
    Within(usize),
    /// In a place that pods can reach.
    Reachable,
    /// Anywhere.
    Anywhere,
}

pub(super) fn check(raw: &Profile, notes: &mut Notes) {
    let taken = taken(raw);
    twice(&taken, notes);
    inside(&taken, &subnets(raw), notes);
    let nets = nets(raw);
    reserved::networks(&nets, notes);
    overlaps(&nets, notes);
    popular(&nets, notes);
    for (what, net) in nets.iter().filter(|(what, _)| !matches!(*what, FIRST | ANOTHER)) {
        swallowed(what, net, &taken, raw, notes);
    }
    cut_off(raw, &taken, notes);
}

/// Finds addresses that the Proxmox VE hosts could no longer reach.
fn cut_off(raw: &Profile, taken: &[Taken], notes: &mut Notes) {
    let nets = nets(raw);
    let proxmox = raw.proxmox.as_ref().map(|section| &section.value);
    for net in proxmox.and_then(|proxmox| proxmox.blackholes.as_deref()).unwrap_or_default() {
        let mut complaint =
            Complaint::error(format!("the blackhole `{}` covers addresses in use", net.value))
                .at(net.span.clone(), "this blackhole");
        for (what, subnet) in nets.iter().filter(|(what, _)| matches!(*what, FIRST | ANOTHER)) {
            if net.value.contains(&subnet.value) || subnet.value.contains(&net.value) {
                complaint = complaint.at(subnet.span.clone(), *what);
            }
        }
        for one in taken.iter().filter(|one| net.value.contains(&one.ip)) {
            complaint = complaint.at(one.span.clone(), one.by.clone());
        }
        if complaint.spans.len() > 1 {
            notes.push(
                complaint.help(
                    "the hosts drop all packets to a blackhole network: choose a smaller one",
                ),
            );
        }
    }
}

fn taken(raw: &Profile) -> Vec<Taken> {
    let mut taken = Vec::new();
    let mut take = |at: Option<&At<Ipv4Addr>>, by: String, place: Place| {
        if let Some(At { value, span }) = at {
            taken.push(Taken { ip: *value, span: span.clone(), by, place });
        }
    };
    let network = raw.network.as_ref().map(|section| &section.value);
    let api = raw.cluster.as_ref().and_then(|cluster| cluster.value.api.as_ref());
    take(api.and_then(|api| api.value.vip.as_ref()), "the VIP".into(), Place::Inside);
    take(network.and_then(|network| network.gateway.as_ref()), "the gateway".into(), Place::Inside);
    let others = network.and_then(|network| network.others.as_deref()).unwrap_or_default();
    for (nth, other) in others.iter().enumerate() {
        let by = "another gateway".to_owned();
        take(other.value.gateway.as_ref(), by, Place::Within(nth + 1));
    }
    for server in network.and_then(|network| network.nameservers.as_deref()).unwrap_or_default() {
        take(Some(server), "a name server".into(), Place::Reachable);
    }
    for row in rows(raw) {
        let role = row.section.value.role.as_ref().map(|role| role.value);
        // The machines that hold the VIP must be in its subnet.
        let place = if role == Some(Role::LoadBalancer) { Place::Inside } else { Place::Home };
        take(row.section.value.ip.as_ref(), format!("`{}`", row.name()), place);
    }
    let hosts = raw.proxmox.as_ref().and_then(|proxmox| proxmox.value.hosts.as_ref());
    for (name, host) in hosts.iter().flat_map(|table| &table.0) {
        let Some(endpoint) = &host.value.endpoint else { continue };
        // The name servers determine the address of a host that is given by name.
        if let Ok(ip) = endpoint.value.host.parse() {
            let at = At { value: ip, span: endpoint.span.clone() };
            take(Some(&at), format!("the Proxmox VE host `{}`", name.value), Place::Anywhere);
        }
    }
    taken
}

fn twice(taken: &[Taken], notes: &mut Notes) {
    for (nth, second) in taken.iter().enumerate() {
        let Some(first) = taken[..nth].iter().find(|first| first.ip == second.ip) else { continue };
        // A router that also answers DNS is common, and so is a Proxmox VE host that routes.
        if matches!(first.by.as_str(), "the gateway" | "another gateway" | "a name server")
            && matches!(second.place, Place::Reachable | Place::Anywhere)
            && second.by != first.by
            || first.place == Place::Anywhere && second.place == Place::Anywhere
        {
            continue;
        }
        notes.push(
            Complaint::error(format!("the address `{}` is used twice", second.ip))
                .at(second.span.clone(), format!("for {}", second.by))
                .at(first.span.clone(), format!("first for {}", first.by)),
        );
    }
}

/// The subnets of the nodes, starting with the first; none if the first could not be read.
fn subnets(raw: &Profile) -> Vec<&At<Ipv4Net>> {
    let Some(network) = raw.network.as_ref().map(|section| &section.value) else {
        return Vec::new();
    };
    let Some(first) = &network.subnet else { return Vec::new() };
    let others = network.others.iter().flatten().map(|other| other.value.subnet.as_ref());
    // A missing subnet keeps its position, so that the numbers of the others stay correct.
    std::iter::once(first).chain(others.map(|other| other.unwrap_or(first))).collect()
}

fn inside(taken: &[Taken], subnets: &[&At<Ipv4Net>], notes: &mut Notes) {
    for one in taken {
        let fit = match one.place {
            Place::Inside => subnets.get(..1),
            Place::Home => Some(subnets),
            Place::Within(nth) => subnets.get(nth..=nth),
            Place::Reachable | Place::Anywhere => None,
        };
        let Some(fit @ [first, ..]) = fit else { continue };
        let subnet = fit.iter().find(|subnet| subnet.value.contains(&one.ip)).unwrap_or(first);
        let net = subnet.value;
        let why = if !net.contains(&one.ip) {
            format!("`{}` for {} lies outside the subnet `{net}`", one.ip, one.by)
        } else if one.ip == net.network() {
            format!("`{}` for {} is the address of the subnet itself", one.ip, one.by)
        } else if one.ip == net.broadcast() {
            format!("`{}` for {} is the subnet's broadcast address", one.ip, one.by)
        } else {
            continue;
        };
        let complaint = Complaint::error(why).at(one.span.clone(), "");
        notes.push(complaint.at(subnet.span.clone(), "the subnet"));
    }
}

fn nets(raw: &Profile) -> Vec<(&'static str, &At<Ipv4Net>)> {
    let network = raw.network.as_ref().map(|section| &section.value);
    let kubernetes = raw.kubernetes.as_ref().map(|section| &section.value);
    let pods = kubernetes.and_then(|kubernetes| kubernetes.pods.as_ref());
    let others = network.and_then(|network| network.others.as_deref()).unwrap_or_default();
    let others = others.iter().map(|other| (ANOTHER, other.value.subnet.as_ref()));
    [
        (FIRST, network.and_then(|network| network.subnet.as_ref())),
        ("the pod network", pods.and_then(|pods| pods.value.cidr.as_ref())),
        ("the service network", kubernetes.and_then(|kubernetes| kubernetes.services.as_ref())),
        ("the external network", kubernetes.and_then(|kubernetes| kubernetes.external.as_ref())),
    ]
    .into_iter()
    .chain(others)
    .filter_map(|(what, net)| Some((what, net?)))
    .collect()
}

/// How many overlaps are reported for one network: a list of a thousand equal ones has half a
/// million pairs.
const TWINS: usize = 8;

fn overlaps(nets: &[(&'static str, &At<Ipv4Net>)], notes: &mut Notes) {
    for (nth, (what, net)) in nets.iter().enumerate() {
        let twins = nets[..nth]
            .iter()
            .filter(|(_, twin)| net.value.contains(&twin.value) || twin.value.contains(&net.value));
        for (other, twin) in twins.take(TWINS) {
            notes.push(
                Complaint::error(format!("{what} and {other} overlap"))
                    .at(net.span.clone(), *what)
                    .at(twin.span.clone(), *other)
                    .help("each address must belong to one network only: change one of them"),
            );
        }
    }
}

/// Finds addresses that pods could not reach, because the cluster's own networks contain them.
fn swallowed(what: &str, net: &At<Ipv4Net>, taken: &[Taken], raw: &Profile, notes: &mut Notes) {
    let servers = taken.iter().filter(|one| one.place == Place::Reachable);
    let servers = servers.map(|one| (one.ip, &one.span)).collect();
    let mut members = Vec::new();
    if let Some(Etcd::External(etcd)) = &raw.etcd {
        let endpoints = etcd.value.endpoints.iter().flatten();
        members.extend(
            endpoints
                .filter_map(|endpoint| Some((endpoint.value.host.parse().ok()?, &endpoint.span))),
        );
    }
    for (noun, found) in [("name server", servers), ("etcd member", members)] {
        let mut lost: Vec<(Ipv4Addr, &Range<usize>)> = found;
        lost.retain(|(ip, _)| net.value.contains(ip));
        let Some((ip, _)) = lost.first() else { continue };
        let more = match lost.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        let mut complaint = Complaint::error(format!("the {noun} `{ip}`{more} lies inside {what}"));
        for (_, span) in lost {
            complaint = complaint.at(span.clone(), "");
        }
        notes.push(
            complaint
                .at(net.span.clone(), what)
                .help("the nodes would route it to pods or services: choose another network"),
        );
    }
}

/// Networks that other programs commonly use too.
fn popular(nets: &[(&'static str, &At<Ipv4Net>)], notes: &mut Notes) {
    for (range, text, hint) in [
        (
            SHARED_SPACE,
            "100.64.0.0/10 is also used by Tailscale",
            "fine without Tailscale; a machine that runs Tailscale drops packets from this range",
        ),
        (
            BENCHMARKS,
            "198.18.0.0/15 is reserved for benchmarks",
            "fine inside a cluster; proxies that use fake IPs (Clash, mihomo) use it too",
        ),
    ] {
        let mut complaint = Complaint::warning(text).help(hint);
        for (what, net) in nets {
            if net.value.contains(&range) || range.contains(&net.value) {
                complaint = complaint.at(net.span.clone(), *what);
            }
        }
        if !complaint.spans.is_empty() {
            notes.push(complaint);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_networks_are_complained_about_in_proportion_to_their_number() {
        let value: Ipv4Net = "10.103.1.0/24".parse().unwrap();
        let all: Vec<At<Ipv4Net>> = (0..1000).map(|at| At { value, span: at..at + 1 }).collect();
        let nets: Vec<_> = all.iter().map(|net| (ANOTHER, net)).collect();
        let mut notes = Notes::new(Vec::new(), std::collections::BTreeSet::new());
        overlaps(&nets, &mut notes);
        assert!(
            (999..=999 * TWINS).contains(&notes.complaints.len()),
            "{}",
            notes.complaints.len()
        );
    }
}
