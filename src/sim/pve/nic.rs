//! Network cards: the options `net0`, `net1` and so on (qemu-server src/PVE/QemuServer/Network.pm).

use std::collections::BTreeMap;

/// Whether an option is a network card.
pub fn is_net(key: &str) -> bool {
    key.strip_prefix("net").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// A network card with another MAC address.
pub fn with_mac(net: &str, mac: &str) -> String {
    canonical_net(net, Some(mac))
}

/// A network card as the configuration keeps it: with its MAC address, or with another.
pub fn canonical_net(net: &str, mac: Option<&str>) -> String {
    let mut model = "virtio".to_owned();
    let mut address = mac_of(net).unwrap_or_default();
    let mut rest = BTreeMap::new();
    for (place, part) in net.split(',').enumerate() {
        match part.split_once('=') {
            None if place == 0 => model = part.to_owned(),
            Some(("model", name)) => model = name.to_owned(),
            Some((name, value)) if is_mac(value) && name != "macaddr" => {
                model = name.to_owned();
                address = value.to_uppercase();
            }
            Some(("macaddr", _)) | None => {}
            Some((name, value)) => drop(rest.insert(name.to_owned(), value.to_owned())),
        }
    }
    let mac = mac.map_or(address, str::to_owned);
    let mut text = format!("{model}={mac}");
    for (name, value) in rest {
        text.push_str(&format!(",{name}={value}"));
    }
    text
}

fn is_mac(text: &str) -> bool {
    let parts: Vec<_> = text.split(':').collect();
    parts.len() == 6
        && parts.iter().all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The MAC address of a network card, in capitals.
pub fn mac_of(net: &str) -> Option<String> {
    let values = net.split(',').filter_map(|part| part.split_once('='));
    values.map(|(_, value)| value).find(|value| is_mac(value)).map(str::to_uppercase)
}

/// The bridge that a network card is on.
pub fn bridge(net: &str) -> Option<&str> {
    net.split(',').find_map(|part| part.strip_prefix("bridge="))
}

/// The VLANs that a network card is on: its tag, and those that its trunk passes.
pub fn vlans(net: &str) -> Vec<u16> {
    let value = |key: &str| {
        net.split(',')
            .find_map(|part| part.strip_prefix(key)?.strip_prefix('='))
            .unwrap_or_default()
    };
    let tag = value("tag").parse().ok();
    let trunks = value("trunks").split(';').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    });
    tag.into_iter().chain(trunks.flatten()).collect()
}

/// A network card as the guest finds it: MAC address, bridge, VLAN.
pub fn nic(net: &str) -> Option<(String, String, Option<u16>)> {
    let tag =
        net.split(',').find_map(|part| part.strip_prefix("tag=")).and_then(|t| t.parse().ok());
    Some((mac_of(net)?, bridge(net)?.to_owned(), tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_card_keeps_its_mac_and_is_written_canonically() {
        let net = "bridge=vmbr0,model=virtio,tag=5,macaddr=bc:24:11:00:00:01";
        assert_eq!(canonical_net(net, None), "virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=5");
        assert_eq!(
            with_mac("virtio,firewall=1,bridge=vmbr0", "BC:24:11:00:00:02"),
            "virtio=BC:24:11:00:00:02,bridge=vmbr0,firewall=1"
        );
        assert_eq!(vlans("virtio,bridge=vmbr0,tag=5"), [5]);
        assert_eq!(vlans("virtio,bridge=vmbr0,trunks=7-9;12"), [7, 8, 9, 12]);
        assert_eq!(vlans("virtio,bridge=vmbr0"), Vec::<u16>::new());
        let nic = nic("virtio=BC:24:11:00:00:02,bridge=vmbr0,tag=7").unwrap();
        assert_eq!(nic, ("BC:24:11:00:00:02".into(), "vmbr0".into(), Some(7)));
    }
}
