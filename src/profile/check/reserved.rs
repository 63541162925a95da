//! Rejects addresses and networks in special-purpose ranges (RFC 6890).

use std::net::Ipv4Addr;
use std::ops::Range;

use ipnet::Ipv4Net;

use super::Notes;
use crate::profile::at::At;
use crate::profile::complaint::Complaint;
use crate::profile::raw::{DnsName, EtcdUrl};

/// A reserved range and its purpose (the IANA registry of special-purpose addresses, RFC 6890).
struct Range4 {
    net: Ipv4Net,
    what: &'static str,
}

const fn range(address: [u8; 4], prefix: u8, what: &'static str) -> Range4 {
    let [a, b, c, d] = address;
    Range4 { net: Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix), what }
}

/// Linux does not route these between machines: packets from or to them are dropped, or stay on the
/// machine itself.
const RANGES: [Range4; 5] = [
    range([0, 0, 0, 0], 8, "\"this network\" (0.0.0.0/8)"),
    range([127, 0, 0, 0], 8, "the loopback range (127.0.0.0/8)"),
    range([169, 254, 0, 0], 16, "the link-local range (169.254.0.0/16)"),
    range([224, 0, 0, 0], 4, "the multicast range (224.0.0.0/4)"),
    range([240, 0, 0, 0], 4, "the reserved range (240.0.0.0/4)"),
];

/// The reserved range that a network overlaps.
fn of(net: Ipv4Net) -> Option<&'static str> {
    let touches = |range: &&Range4| range.net.contains(&net) || net.contains(&range.net);
    RANGES.iter().find(touches).map(|range| range.what)
}

/// The reserved range that contains an address.
fn of_address(ip: Ipv4Addr) -> Option<&'static str> {
    RANGES.iter().find(|range| range.net.contains(&ip)).map(|range| range.what)
}

/// Finds networks of nodes, pods and services in such a range.
pub(super) fn networks(nets: &[(&'static str, &At<Ipv4Net>)], notes: &mut Notes) {
    for (what, net) in nets {
        if let Some(range) = of(net.value) {
            notes.push(
                Complaint::error(format!("{what} `{}` lies in {range}", net.value))
                    .at(net.span.clone(), "")
                    .help("use a private network: 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16"),
            );
        }
    }
}

/// How many name servers a resolver uses (glibc `MAXNS`, resolv.conf(5); kubelet
/// pkg/apis/core/validation, `MaxDNSNameservers`).
const NAME_SERVERS_MAX: usize = 3;

/// Finds name servers that no node could query, or that no pod would query.
pub(super) fn name_servers(servers: &[At<Ipv4Addr>], notes: &mut Notes) {
    for server in servers {
        foreign(server.value, &server.span, "the name server", notes);
    }
    if let Some(fourth) = servers.get(NAME_SERVERS_MAX) {
        let count = servers.len();
        notes.push(
            Complaint::warning(format!("{count} name servers, and a resolver asks three"))
                .at(fourth.span.clone(), "the first that pods and most programs never ask")
                .help("keep three; kubelet leaves the others out of every pod's `resolv.conf`"),
        );
    }
}

/// Finds time servers that no node could query.
pub(super) fn time_servers(servers: &[At<DnsName>], notes: &mut Notes) {
    for server in servers {
        let name = &server.value.0;
        let numeric = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        match name.parse() {
            Ok(ip) => foreign(ip, &server.span, "the time server", notes),
            Err(_) if numeric => {
                let text = format!("the time server `{name}` is no IPv4 address");
                let hint = "four numbers of 0 to 255, or a name";
                notes.push(Complaint::error(text).at(server.span.clone(), "").help(hint));
            }
            Err(_) => {}
        }
    }
}

/// Finds members of an external etcd that no API server could reach.
pub(super) fn members(endpoints: &[At<EtcdUrl>], notes: &mut Notes) {
    for endpoint in endpoints {
        let host = &endpoint.value.host;
        let local = host == "localhost" || host.ends_with(".localhost");
        let ip = if local { Some(Ipv4Addr::LOCALHOST) } else { host.parse().ok() };
        if let Some(ip) = ip {
            foreign(ip, &endpoint.span, "the etcd member", notes);
        }
    }
}

fn foreign(ip: Ipv4Addr, span: &Range<usize>, what: &str, notes: &mut Notes) {
    let Some(range) = of_address(ip) else { return };
    let hint = if ip.is_loopback() {
        "every node would ask itself: name the address by which the nodes reach it"
    } else {
        "name the address by which the nodes reach it"
    };
    notes.push(
        Complaint::error(format!("{what} `{ip}` lies in {range}")).at(span.clone(), "").help(hint),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_reserved_when_any_of_it_is() {
        for (net, part) in [
            ("0.0.0.0/0", "this network"),
            ("0.1.0.0/16", "this network"),
            ("127.0.0.0/8", "loopback"),
            ("126.0.0.0/7", "loopback"),
            ("169.254.10.0/24", "link-local"),
            ("224.0.0.0/16", "multicast"),
            ("239.255.0.0/16", "multicast"),
            ("240.0.0.0/16", "reserved"),
            ("255.255.255.0/24", "reserved"),
        ] {
            let range = of(net.parse().unwrap());
            assert!(range.is_some_and(|range| range.contains(part)), "{net}: {range:?}");
        }
        for net in ["10.244.0.0/16", "100.64.0.0/10", "198.18.0.0/15", "172.16.0.0/12", "1.0.0.0/8"]
        {
            assert_eq!(of(net.parse().unwrap()), None, "{net}");
        }
    }
}
