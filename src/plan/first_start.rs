//! What a VM that is off needs before it starts, besides its settings: the MAC address that its
//! documents name, one seed, and no leftovers of its template. Pure.
//!
//! Nothing of this is changed on a running VM: a new MAC address would disconnect it.

use super::Change;
use super::spec::{self, NodeSpec, SEED_DRIVE};
use super::template::{self, Settings};
use crate::mark::Mark;
use crate::proxmox::PropertyString;

/// Adds these changes to the settings that differ in a VM that is off. A setting with an empty new
/// value is deleted.
pub fn add(changes: &mut Vec<Change>, spec: &NodeSpec, settings: &Settings) {
    if let Some(to) = card(spec, settings) {
        changes.retain(|change| change.key != spec::CARD);
        changes.push(change(settings, spec::CARD, to));
    }
    let mut rest = template::leftovers(settings);
    if is_configured(settings) {
        // From then on, settings that a user changed are kept.
        let seeds: Vec<&str> = template::foreign_seeds(settings).collect();
        rest.retain(|(key, _)| seeds.contains(&key.as_str()));
    }
    changes.extend(rest.into_iter().map(|(key, to)| change(settings, &key, to)));
}

/// Whether a VM has had one of k8sha's seeds: until then all its settings come from the template.
/// An empty drive proves nothing, because a template may have one.
fn is_configured(settings: &Settings) -> bool {
    let mark = settings.get("description").and_then(|text| Mark::find(text));
    if mark.is_some_and(|mark| mark.read.is_some()) {
        return true;
    }
    let volume = settings.get(SEED_DRIVE).and_then(|drive| drive.split(',').next());
    let file = volume.and_then(|volume| volume.rsplit('/').next()).unwrap_or_default();
    file.starts_with("k8sha-") && file.ends_with(".iso")
}

/// The network card with the MAC address from the documents, if it has another one or is unplugged.
fn card(spec: &NodeSpec, settings: &Settings) -> Option<String> {
    let wanted = spec.settings.get(spec::CARD)?;
    let mac = spec.mac.as_ref()?;
    let named = wanted.replacen("virtio", &format!("virtio={mac}"), 1);
    let Some(have) = settings.get(spec::CARD) else { return Some(named) };
    let mut card = PropertyString::parse(have);
    let unplugged = card.get("link_down") == Some("1");
    let known = card.get("virtio").is_some_and(|address| address.eq_ignore_ascii_case(mac));
    if unplugged || !spec::same(spec::CARD, wanted, have) {
        return Some(named);
    }
    // Other settings of the card that a user has made, such as `queues`, are kept.
    card.set("virtio", mac);
    (!known).then(|| card.to_string())
}

fn change(settings: &Settings, key: &str, to: String) -> Change {
    let from = settings.get(key).cloned().unwrap_or_default();
    Change { key: key.to_owned(), from, to }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: &str = "k8sha-k8s1-cluster-k8s1master1-00112233aabb.iso";
    const MAC: &str = "02:00:00:00:00:01";

    fn wanted() -> NodeSpec {
        let mark = Mark {
            cluster: "k8s1-cluster".to_owned(),
            node: None,
            spec: String::new(),
            creation: String::new(),
            machine: None,
            read: None,
        };
        let net0 = ("net0", "virtio,bridge=vmbr0,firewall=0");
        NodeSpec {
            seed_file: SEED.to_owned(),
            settings: settings(&[net0]),
            mac: Some(MAC.to_owned()),
            description: mark.describe(""),
            line: String::new(),
            kept: Settings::new(),
            mark,
        }
    }

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn added(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut changes = Vec::new();
        add(&mut changes, &wanted(), &settings(pairs));
        changes.into_iter().map(|change| (change.key, change.to)).collect()
    }

    fn pairs(want: &[(&str, &str)]) -> Vec<(String, String)> {
        want.iter().map(|(key, to)| ((*key).to_owned(), (*to).to_owned())).collect()
    }

    #[test]
    fn a_card_gets_the_address_that_the_seed_names_and_keeps_the_rest() {
        let seed = format!("local:iso/{SEED},media=cdrom");
        let card = |net0: &str| added(&[("net0", net0), ("ide2", &seed)]);
        let ours = "virtio=02:00:00:00:00:01,bridge=vmbr0,firewall=0";
        assert_eq!(card("virtio=02:00:00:00:00:01,bridge=vmbr0"), []);
        assert_eq!(
            card("virtio=BC:24:11:00:00:01,bridge=vmbr0,queues=4"),
            pairs(&[("net0", "virtio=02:00:00:00:00:01,bridge=vmbr0,queues=4")])
        );
        for other in [
            "virtio=BC:24:11:00:00:01,bridge=vmbr9",
            "e1000=BC:24:11:00:00:01,bridge=vmbr0",
            "virtio=02:00:00:00:00:01,bridge=vmbr0,link_down=1",
        ] {
            assert_eq!(card(other), pairs(&[("net0", ours)]), "{other}");
        }
        assert_eq!(added(&[("ide2", &seed)]), pairs(&[("net0", ours)]));
    }

    #[test]
    fn a_difference_of_the_card_is_told_once() {
        let have = settings(&[("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr9")]);
        let spec = wanted();
        let mut changes = spec::changes(&spec, &have);
        add(&mut changes, &spec, &have);
        let cards: Vec<&Change> = changes.iter().filter(|change| change.key == "net0").collect();
        assert_eq!(cards.len(), 1, "{cards:?}");
        assert!(cards[0].to.contains(MAC), "{cards:?}");
    }

    #[test]
    fn a_fresh_clone_is_rid_of_what_is_the_templates() {
        let net0 = ("net0", "virtio=02:00:00:00:00:01,bridge=vmbr0");
        let template = [
            net0,
            ("ide0", "local:101/vm-101-cloudinit.qcow2,media=cdrom"),
            ("ide2", "none,media=cdrom"),
            ("protection", "1"),
            ("sockets", "2"),
        ];
        let want = [("ide0", ""), ("protection", ""), ("sockets", "1"), ("agent", "enabled=1")];
        assert_eq!(added(&template), pairs(&want));
    }

    #[test]
    fn what_a_person_sets_on_a_machine_of_ours_stays_but_for_a_second_seed() {
        let ours = [
            ("net0", "virtio=02:00:00:00:00:01,bridge=vmbr0"),
            ("ide2", "local:iso/k8sha-k8s1-cluster-k8s1master1-ffffffffffff.iso,media=cdrom"),
            ("protection", "1"),
            ("balloon", "1024"),
            ("sata0", "local-lvm:vm-1101-cloudinit,media=cdrom"),
        ];
        assert_eq!(added(&ours), pairs(&[("sata0", "")]));
        // Its seed was ejected since.
        let booted = Mark { read: Some("ffffffffffff".to_owned()), ..wanted().mark };
        let description = booted.describe("");
        let mut ejected = ours;
        ejected[1].1 = spec::EJECTED;
        let mut changed = ejected.to_vec();
        changed.push(("description", &description));
        assert_eq!(added(&changed), pairs(&[("sata0", "")]));
    }
}
