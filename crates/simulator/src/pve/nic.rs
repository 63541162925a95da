//! Network cards: the options `net0`, `net1` and so on (qemu-server src/PVE/QemuServer/Network.pm).

use std::collections::BTreeMap;

/// Whether an option is a network card.
pub fn is_net(key: &str) -> bool {
    key.strip_prefix("net").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// A network card with a different MAC address.
pub fn with_mac(net: &str, mac: &str) -> String {
    canonical_net(net, Some(mac))
}

/// The keys that are a model, with the card's MAC address as their value.
const MODELS: [&str; 14] = [
    "e1000",
    "e1000-82540em",
    "e1000-82544gc",
    "e1000-82545em",
    "e1000e",
    "i82551",
    "i82557b",
    "i82559er",
    "ne2k_isa",
    "ne2k_pci",
    "pcnet",
    "rtl8139",
    "virtio",
    "vmxnet3",
];

/// A network card as the configuration stores it: with its original MAC address, or a different one;
/// the other keys sorted by name.
pub fn canonical_net(net: &str, mac: Option<&str>) -> String {
    let mut model = "virtio".to_owned();
    let mut address = String::new();
    let mut rest = BTreeMap::new();
    for part in net.split(',').filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            None => model = part.to_owned(),
            Some(("model", name)) => model = name.to_owned(),
            Some(("macaddr", value)) => address = value.to_owned(),
            Some((name, value)) if MODELS.contains(&name) => {
                model = name.to_owned();
                address = value.to_owned();
            }
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

/// Whether a running guest must release a card before the change to the new one: they differ in more
/// than the network that the card is plugged into.
pub fn must_be_unplugged(old: &str, new: &str) -> bool {
    let kept = |net: &str| {
        let outside = ["bridge", "firewall", "link_down", "rate", "tag", "trunks"];
        let net = canonical_net(net, None);
        let parts = net.split(',').filter(|part| {
            !outside.iter().any(|key| part.split_once('=').is_some_and(|(name, _)| name == *key))
        });
        parts.collect::<Vec<_>>().join(",").to_uppercase()
    };
    kept(old) != kept(new)
}

fn is_mac(text: &str) -> bool {
    let parts: Vec<_> = text.split(':').collect();
    parts.len() == 6
        && parts.iter().all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The MAC address of a network card, in upper case.
pub fn mac_of(net: &str) -> Option<String> {
    let values = net.split(',').filter_map(|part| part.split_once('='));
    values.map(|(_, value)| value).find(|value| is_mac(value)).map(str::to_uppercase)
}

/// The bridge of a network card.
pub fn bridge(net: &str) -> Option<&str> {
    net.split(',').find_map(|part| part.strip_prefix("bridge="))
}

/// The VLANs of a network card: its tag, and those of its trunk.
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

/// A network card as the guest sees it: MAC address, bridge, VLAN.
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
        assert_eq!(canonical_net(net, None), "virtio=bc:24:11:00:00:01,bridge=vmbr0,tag=5");
        let turned = "bridge=vmbr0,virtio=bc:24:11:00:00:01";
        assert_eq!(canonical_net(turned, None), "virtio=bc:24:11:00:00:01,bridge=vmbr0");
        assert!(!must_be_unplugged(turned, "virtio=BC:24:11:00:00:01,bridge=vmbr1,tag=4"));
        assert!(must_be_unplugged(turned, "e1000=BC:24:11:00:00:01,bridge=vmbr0"));
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
