//! Checks the `network` section.

use super::{Notes, reserved};
use crate::cluster::{Network, Subnet};
use crate::profile::at::{At, Section};
use crate::profile::complaint::Complaint;
use crate::profile::raw;

pub(super) fn settle(section: &Section<raw::Network>, notes: &mut Notes) -> Option<Network> {
    let typed = &section.value;
    let subnet = notes.need(section, "subnet", &typed.subnet);
    let gateway = notes.need(section, "gateway", &typed.gateway);
    let domain = notes.need(section, "domain", &typed.domain);
    let nameservers = notes.need(section, "nameservers", &typed.nameservers);
    let bridge = notes.need(section, "bridge", &typed.bridge);
    if let Some(subnet) = subnet {
        sized(subnet, notes);
    }
    if let Some(servers) = nameservers
        && servers.is_empty()
    {
        let text = "no name server: the nodes could not resolve the API's name";
        notes.push(Complaint::error(text).at(section.span.clone(), "`nameservers` is empty here"));
    }
    reserved::name_servers(nameservers.map(Vec::as_slice).unwrap_or_default(), notes);
    reserved::time_servers(typed.ntp.as_deref().unwrap_or_default(), notes);
    if let Some(domain) = domain
        && (domain.value.0 == "local" || domain.value.0.ends_with(".local"))
    {
        let text =
            format!("`{}` is under `local`, which is reserved for multicast DNS", domain.value.0);
        let hint =
            "many systems resolve such names by multicast (RFC 6762): use `home.arpa` instead";
        notes.push(Complaint::warning(text).at(domain.span.clone(), "").help(hint));
    }
    if let Some(domain) = domain
        && !domain.value.0.contains('.')
    {
        let text = format!("`{}` is a domain with a single label", domain.value.0);
        let hint = "resolvers may treat names in it as short names; `home.arpa` is reserved for home networks";
        notes.push(Complaint::warning(text).at(domain.span.clone(), "").help(hint));
    }
    let others: Vec<_> =
        typed.others.iter().flatten().map(|other| another(other, typed, notes)).collect();
    Some(Network {
        subnet: subnet?.value,
        gateway: gateway?.value,
        domain: domain?.value.0.clone(),
        nameservers: nameservers?.iter().map(|server| server.value).collect(),
        ntp: typed.ntp.iter().flatten().map(|server| server.value.0.clone()).collect(),
        bridge: bridge?.value.0.clone(),
        vlan: typed.vlan.as_ref().map(|vlan| vlan.value.0),
        others: others.into_iter().collect::<Option<_>>()?,
    })
}

fn sized(subnet: &At<ipnet::Ipv4Net>, notes: &mut Notes) {
    if !(8..=30).contains(&subnet.value.prefix_len()) {
        let text = format!("`{}` has an unsupported size for a subnet of machines", subnet.value);
        let hint = "a prefix length of 8 to 30";
        notes.push(Complaint::error(text).at(subnet.span.clone(), "").help(hint));
    }
}

fn another(
    section: &Section<raw::Subnet>,
    first: &raw::Network,
    notes: &mut Notes,
) -> Option<Subnet> {
    let typed = &section.value;
    let subnet = notes.need(section, "subnet", &typed.subnet);
    let gateway = notes.need(section, "gateway", &typed.gateway);
    if let Some(subnet) = subnet {
        sized(subnet, notes);
    }
    // A subnet with its own bridge does not inherit the first subnet's tag.
    let (bridge, vlan) = match &typed.bridge {
        Some(bridge) => (Some(bridge), typed.vlan.as_ref()),
        None => (first.bridge.as_ref(), typed.vlan.as_ref().or(first.vlan.as_ref())),
    };
    Some(Subnet {
        subnet: subnet?.value,
        gateway: gateway?.value,
        bridge: bridge?.value.0.clone(),
        vlan: vlan.map(|vlan| vlan.value.0),
    })
}
