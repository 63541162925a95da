//! Valid contents of a rule: addresses, ports, protocols, ICMP types (pve-firewall
//! src/PVE/Firewall.pm).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why a text is rejected.
#[derive(Debug, PartialEq, Eq)]
pub enum Wrong {
    /// In Proxmox's words.
    Said(String),
    /// A real host looks it up in a file that a simulated one does not have.
    Unknown(String),
}

fn said<T>(text: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong::Said(text.into()))
}

fn is_name(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    text.len() > 1 && text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(good)
}

/// Whether it names an alias, with or without its scope.
pub fn is_alias(text: &str) -> bool {
    is_name(scoped(text, &["dc/", "guest/"]))
}

/// The name of the referenced IP set.
pub fn set_of(text: &str) -> Option<&str> {
    let name = scoped(text.strip_prefix('+')?, &["guest/", "dc/", "sdn/"]);
    is_name(name).then_some(name)
}

fn scoped<'a>(text: &'a str, scopes: &[&str]) -> &'a str {
    scopes.iter().find_map(|scope| text.strip_prefix(scope)).unwrap_or(text)
}

/// A network's first address, for a valid prefix length of its IP version.
fn first(address: IpAddr, length: u32) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) if length <= 32 => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            Some(Ipv4Addr::from(u32::from(address) & mask).into())
        }
        IpAddr::V6(address) if length <= 128 => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            Some(Ipv6Addr::from(u128::from(address) & mask).into())
        }
        _ => None,
    }
}

/// An address or a network in its shortest form.
pub fn network(text: &str) -> Option<String> {
    let Some((address, length)) = text.split_once('/') else {
        return text.parse::<IpAddr>().ok().map(|address| address.to_string());
    };
    let (address, length): (IpAddr, u32) = (address.parse().ok()?, length.parse().ok()?);
    let whole = if address.is_ipv4() { 32 } else { 128 };
    let first = first(address, length)?;
    Some(if length == whole { first.to_string() } else { format!("{first}/{length}") })
}

/// One element of a list of addresses: whether it is IPv6, and whether it is a range.
fn element(text: &str) -> Option<(bool, bool)> {
    if let Some((from, to)) = text.split_once('-') {
        let (from, to): (IpAddr, IpAddr) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
        return (from.is_ipv4() == to.is_ipv4() && from <= to).then_some((from.is_ipv6(), true));
    }
    let Some((address, length)) = text.split_once('/') else {
        return text.parse::<IpAddr>().ok().map(|address| (address.is_ipv6(), false));
    };
    // No host bit may be set.
    let address: IpAddr = address.parse().ok()?;
    let network = first(address, length.parse().ok()?)?;
    (network == address).then_some((address.is_ipv6(), false))
}

/// Checks the source or destination of a rule: returns the IP version if it determines one. Of the real
/// host's library error for an invalid address only the beginning is known here.
pub fn addresses(text: &str) -> Result<Option<u8>, Wrong> {
    if text.strip_prefix('+').is_some_and(|name| !name.is_empty() && !name.contains(' ')) {
        return if text.len() > 65 { said("ipset name too long\n") } else { Ok(None) };
    }
    if is_alias(text) {
        return if text.len() > 64 { said("alias name too long\n") } else { Ok(None) };
    }
    if text.ends_with(',') {
        return said("extraneous commas in list\n");
    }
    let (mut version, mut range, mut count) = (None, false, 0);
    for part in text.split(',') {
        count += 1;
        let Some((six, ranged)) = element(part) else { return said("invalid IP address\n") };
        range |= ranged;
        let new = if six { 6 } else { 4 };
        if version.is_some_and(|version| version != new) {
            return said(format!("detected mixed ipv4/ipv6 addresses in address list '{text}'\n"));
        }
        version = Some(new);
    }
    if range && count > 1 { said("you can't use a range in a list\n") } else { Ok(version) }
}

/// Checks a list of ports.
pub fn ports(text: &str) -> Result<(), Wrong> {
    if text.ends_with(',') {
        return said("extraneous commas in list\n");
    }
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    let mut count = 0;
    for item in text.split(',') {
        let (from, to) = item.split_once(':').unwrap_or((item, item));
        let (Some(from), Some(to)) = (number(from), number(to)) else {
            return Err(Wrong::Unknown(format!("the simulator knows no port '{item}' by name")));
        };
        if let Some(port) = [from, to].into_iter().find(|port| *port > 65_535) {
            return said(format!("invalid port '{port}'\n"));
        }
        if from > to {
            return said(format!(
                "backwards range '{from}:{to}' not allowed, did you mean '{to}:{from}'?\n"
            ));
        }
        count += if item.contains(':') { 2 } else { 1 };
    }
    if count > 15 { said("too many entries in port list (> 15 numbers)\n") } else { Ok(()) }
}

/// The protocols that a simulated host knows, and whether they have ports.
const PROTOCOLS: &[(&[&str], bool)] = &[
    (&["tcp", "6"], true),
    (&["udp", "17"], true),
    (&["udplite", "136"], true),
    (&["dccp", "33"], true),
    (&["sctp", "132"], true),
    (&["icmp", "1"], false),
    (&["ipv6-icmp", "icmpv6", "58"], false),
    (&["igmp", "2"], false),
    (&["gre", "47"], false),
    (&["esp", "50"], false),
    (&["ah", "51"], false),
    (&["ospf", "89"], false),
    (&["vrrp", "112"], false),
];

/// Checks the name or number of a protocol.
pub fn protocol(text: &str) -> Result<(), Wrong> {
    let known = PROTOCOLS.iter().any(|(names, _)| names.contains(&text));
    let limit = || Wrong::Unknown(format!("the simulator knows no protocol '{text}'"));
    known.then_some(()).ok_or_else(limit)
}

/// Whether a protocol has ports.
pub fn has_ports(text: &str) -> bool {
    PROTOCOLS.iter().any(|(names, ports)| *ports && names.contains(&text))
}

/// Whether a protocol is ICMP of either version.
pub fn is_icmp(text: &str) -> bool {
    matches!(text, "icmp" | "icmpv6" | "ipv6-icmp")
}

const ICMP: &str = "any echo-reply destination-unreachable network-unreachable host-unreachable \
    protocol-unreachable port-unreachable fragmentation-needed source-route-failed network-unknown \
    host-unknown network-prohibited host-prohibited TOS-network-unreachable TOS-host-unreachable \
    communication-prohibited host-precedence-violation precedence-cutoff source-quench redirect \
    network-redirect host-redirect TOS-network-redirect TOS-host-redirect echo-request \
    router-advertisement router-solicitation time-exceeded ttl-zero-during-transit \
    ttl-zero-during-reassembly parameter-problem ip-header-bad required-option-missing \
    timestamp-request timestamp-reply address-mask-request address-mask-reply";
const ICMP_6: &str = "destination-unreachable no-route communication-prohibited beyond-scope \
    address-unreachable port-unreachable failed-policy reject-route packet-too-big time-exceeded \
    ttl-zero-during-transit ttl-zero-during-reassembly parameter-problem bad-header \
    unknown-header-type unknown-option echo-request echo-reply router-solicitation \
    router-advertisement neighbor-solicitation neighbour-solicitation neighbor-advertisement \
    neighbour-advertisement redirect";

/// Whether an ICMP type is one of a protocol's; without a protocol, of either version's.
pub fn is_icmp_type(text: &str, protocol: Option<&str>) -> bool {
    let has = |list: &str| list.split_whitespace().any(|known| known == text);
    match protocol {
        Some("icmp") => has(ICMP),
        Some(_) => has(ICMP_6),
        None => has(ICMP) || has(ICMP_6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_lists_of_one_ip_version_a_range_or_a_name() {
        for (text, version) in [
            ("10.0.0.0/8", Ok(Some(4))),
            ("10.0.0.1,10.0.0.2", Ok(Some(4))),
            ("10.0.0.1-10.0.0.9", Ok(Some(4))),
            ("fd00::/64", Ok(Some(6))),
            ("+web", Ok(None)),
            ("dc/office", Ok(None)),
            ("10.0.0.5/8", said("invalid IP address\n")),
            ("10.0.0.9-10.0.0.1", said("invalid IP address\n")),
            ("10.0.0.1,", said("extraneous commas in list\n")),
            ("10.0.0.1-10.0.0.9,10.0.1.1", said("you can't use a range in a list\n")),
            (
                "10.0.0.1,fd00::1",
                said("detected mixed ipv4/ipv6 addresses in address list '10.0.0.1,fd00::1'\n"),
            ),
        ] {
            assert_eq!(addresses(text), version, "{text}");
        }
    }

    #[test]
    fn ports_are_numbers_and_ranges() {
        assert_eq!(ports("22,6443,30000:32767"), Ok(()));
        assert_eq!(ports("65536"), said("invalid port '65536'\n"));
        let backwards = "backwards range '9:1' not allowed, did you mean '1:9'?\n";
        assert_eq!(ports("9:1"), said(backwards));
        assert_eq!(
            ports("1:2,3:4,5:6,7:8,9:10,11:12,13:14,15:16"),
            said("too many entries in port list (> 15 numbers)\n")
        );
        assert!(matches!(ports("https"), Err(Wrong::Unknown(_))));
    }
}
