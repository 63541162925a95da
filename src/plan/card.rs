//! The network card of a VM: the settings that the profile decides and those that are kept. Pure.

use super::spec::CARD;
use crate::proxmox::{Nic, PropertyString};

/// Parts of a card's value that the profile decides, or that must be absent: an unplugged card
/// leaves its VM without a network.
const OURS: [&str; 6] = ["bridge", "tag", "firewall", "link_down", "model", "macaddr"];

/// Whether a card matches the profile: on the bridge and VLAN, without the Proxmox firewall,
/// plugged in. Proxmox VE adds the MAC address and omits defaults.
pub fn is_as_asked(want: &str, have: &str) -> bool {
    let (Some(want), Some(found)) = (Nic::parse(want), Nic::parse(have)) else {
        return want == have;
    };
    let plugged = PropertyString::parse(have).get("link_down") != Some("1");
    plugged && Nic { mac: None, ..found } == Nic { mac: None, ..want }
}

/// Returns the corrected value of a card. It keeps the MAC address, because a card written without
/// one gets a new one, unless the VM's documents name another (`mac`). Other settings that a user
/// has made, such as `queues`, are kept.
pub fn corrected(want: &str, have: &str, mac: Option<&str>) -> String {
    let Some(wanted) = Nic::parse(want) else { return want.to_owned() };
    let found = Nic::parse(have).unwrap_or_else(|| wanted.clone());
    let mac = mac.map(str::to_uppercase).or_else(|| found.mac.clone());
    let Some(mac) = mac else { return want.to_owned() };
    let mut card = want.replacen(&wanted.model, &format!("{}={mac}", wanted.model), 1);
    let taken = |key: &str| OURS.contains(&key) || key == found.model;
    let others = if Nic::parse(have).is_some() { have } else { "" };
    for part in others.split(',') {
        if let Some((key, _)) = part.split_once('=')
            && !taken(key)
        {
            card.push_str(&format!(",{part}"));
        }
    }
    card
}

/// Whether a card has this MAC address.
pub fn has_mac(have: &str, mac: &str) -> bool {
    let found = Nic::parse(have).and_then(|nic| nic.mac);
    found.is_some_and(|found| found.eq_ignore_ascii_case(mac))
}

/// The network of a card as a phrase: its bridge and VLAN.
pub fn leads_to(card: &str) -> String {
    match Nic::parse(card) {
        Some(Nic { bridge, vlan: Some(tag), .. }) => format!("{bridge}, VLAN {tag}"),
        Some(Nic { bridge, vlan: None, .. }) => bridge,
        None => format!("no bridge that {CARD} names"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANT: &str = "virtio,bridge=vmbr0,tag=30,firewall=0";

    #[test]
    fn what_proxmox_adds_is_no_difference_and_what_a_person_changed_is() {
        let mac = "virtio=BC:24:11:00:00:01";
        for same in [
            format!("{mac},bridge=vmbr0,tag=30"),
            format!("bridge=vmbr0,{mac},tag=30,firewall=0,queues=4"),
            format!("{mac},bridge=vmbr0,tag=30,link_down=0"),
        ] {
            assert!(is_as_asked(WANT, &same), "{same}");
        }
        for other in [
            format!("{mac},bridge=vmbr0"),
            format!("{mac},bridge=vmbr1,tag=30"),
            format!("{mac},bridge=vmbr0,tag=31"),
            format!("{mac},bridge=vmbr0,tag=30,firewall=1"),
            format!("{mac},bridge=vmbr0,tag=30,link_down=1"),
            "e1000=BC:24:11:00:00:01,bridge=vmbr0,tag=30".to_owned(),
            String::new(),
        ] {
            assert!(!is_as_asked(WANT, &other), "{other}");
        }
        let untagged = "virtio,bridge=vmbr0,firewall=0";
        assert!(!is_as_asked(untagged, &format!("{mac},bridge=vmbr0,tag=30")));
    }

    #[test]
    fn a_card_that_is_corrected_keeps_its_address_and_what_a_person_set() {
        let have = "virtio=BC:24:11:00:00:01,bridge=vmbr1,queues=4,link_down=1,rate=5";
        let kept = "bridge=vmbr0,tag=30,firewall=0,queues=4,rate=5";
        assert_eq!(corrected(WANT, have, None), format!("virtio=BC:24:11:00:00:01,{kept}"));
        assert_eq!(
            corrected(WANT, have, Some("02:00:00:00:00:0a")),
            format!("virtio=02:00:00:00:00:0A,{kept}")
        );
        let e1000 = "e1000=BC:24:11:00:00:01,bridge=vmbr0";
        let card = "virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=30,firewall=0";
        assert_eq!(corrected(WANT, e1000, None), card);
        assert_eq!(corrected(WANT, "", None), WANT);
        let named = "virtio=02:00:00:00:00:0A,bridge=vmbr0,tag=30,firewall=0";
        assert_eq!(corrected(WANT, "", Some("02:00:00:00:00:0a")), named);
    }

    #[test]
    fn where_a_card_leads_is_its_bridge_and_vlan() {
        assert_eq!(leads_to(WANT), "vmbr0, VLAN 30");
        assert_eq!(leads_to("virtio=BC:24:11:00:00:01,bridge=vmbr1"), "vmbr1");
    }
}
