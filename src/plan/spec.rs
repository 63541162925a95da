//! The wanted state of a VM and a template in Proxmox VE's terms, and its comparison with the
//! existing one.

use std::collections::{BTreeMap, BTreeSet};

use super::{Change, card};
use crate::cluster::{Cluster, Image, Node, NodeName};
use crate::hash;
use crate::mark::{Machine, Mark, TAG};

/// The boot disk.
pub(crate) const DISK: &str = "scsi0";

/// The drive that holds the seed ISO.
pub const SEED_DRIVE: &str = "ide2";

/// That drive without a medium. On a running VM, a change of the medium takes effect at once, but
/// the removal of a drive only at the next power cycle.
pub const EJECTED: &str = "none,media=cdrom";

/// The network card that the documents configure.
pub const CARD: &str = "net0";

/// The length of each hash in the name of a seed ISO.
const HASH: usize = 12;

/// The wanted state of a node's VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSpec {
    /// The seed ISO's file name.
    pub seed_file: String,
    /// Settings by Proxmox VE's name, without `description`.
    pub settings: BTreeMap<String, String>,
    /// The MAC address of [`CARD`] in the documents, if they contain one; it is not a setting,
    /// because a machine that has booted keeps its address.
    pub mac: Option<String>,
    /// The mark, with the hash of all this.
    pub mark: Mark,
    /// The first line of the description.
    pub line: String,
    /// The description that contains the mark.
    pub description: String,
    /// The files that k8sha keeps up to date on the machine once it has booted, and their SHA-256.
    pub kept: BTreeMap<String, String>,
}

/// The prefix of the names of all k8sha seed ISOs.
const SEED: &str = "k8sha-seed-";

/// The name of a node's seed ISO. Neither the creation id nor the hashes contain a dash, so the
/// name is unambiguous, whatever the names of clusters and nodes.
pub fn seed_file(creation: &str, node: &NodeName, hashes: &str) -> String {
    format!("{SEED}{creation}-{node}-{hashes}.iso")
}

/// Whether a volume is a seed ISO of this creation, by its name.
pub(crate) fn is_seed_of(volume: &str, creation: &str) -> bool {
    let file = volume.rsplit('/').next().unwrap_or(volume);
    let rest = file.strip_prefix(SEED).and_then(|rest| rest.strip_suffix(".iso"));
    rest.and_then(|rest| rest.split_once('-'))
        .is_some_and(|(found, node)| found == creation && node.contains('-'))
}

/// The node that a seed ISO of this creation is for, by its name.
pub(crate) fn seed_node<'a>(volume: &'a str, creation: &str) -> Option<&'a str> {
    let file = volume.rsplit('/').next().unwrap_or(volume);
    let rest = file.strip_prefix(SEED)?.strip_suffix(".iso")?;
    let (found, rest) = rest.split_once('-')?;
    let (node, hashes) = rest.rsplit_once('-')?;
    (found == creation && is_hashes(hashes)).then_some(node)
}

/// Whether a volume in the seed drive of a node's VM is a seed that was created for that VM, by
/// this release or a former one.
pub(crate) fn is_own_seed(volume: &str, mark: &Mark) -> bool {
    let Some(node) = &mark.node else { return false };
    let file = volume.rsplit('/').next().unwrap_or(volume);
    let former = format!("k8sha-{}-{node}-{}.iso", mark.cluster, seed_hashes(volume));
    seed_node(volume, &mark.creation) == Some(node.as_str())
        || (file == former && !seed_hashes(volume).is_empty())
}

/// Whether a volume is named like a k8sha seed, including those of former releases.
pub fn is_seed_name(volume: &str) -> bool {
    let file = volume.rsplit('/').next().unwrap_or(volume);
    file.starts_with("k8sha-") && !seed_hashes(file).is_empty()
}

/// The hashes in the name of a seed ISO (a file, a volume or a drive); empty if it has none.
pub(crate) fn seed_hashes(seed: &str) -> &str {
    let volume = seed.split(',').next().unwrap_or(seed);
    let hashes = volume.strip_suffix(".iso").and_then(|stem| stem.rsplit('-').next());
    hashes.filter(|hashes| is_hashes(hashes)).unwrap_or_default()
}

fn is_hashes(text: &str) -> bool {
    [HASH, 2 * HASH].contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The file name of a downloaded cloud image; Proxmox VE accepts a qcow2 only with that extension.
pub(crate) fn image_file(os: &str, image: &Image) -> String {
    format!("k8sha-{os}-{}.qcow2", image.sha256.get(..12).unwrap_or(&image.sha256))
}

/// The hash of a template's sources.
pub(crate) fn template_spec(os: &str, image: &Image) -> String {
    // The number counts the versions of how k8sha builds templates.
    hash::short(format!("template 1\n{os}\n{}\n", image.sha256).as_bytes())
}

/// The wanted state of a node's VM.
///
/// `seed_file` is the seed ISO's file name, which depends on its content.
pub fn node_spec(cluster: &Cluster, node: &Node, seed_file: &str, creation: &str) -> NodeSpec {
    let host = &cluster.proxmox.hosts[&node.host];
    let home = cluster.network.home(node.ip);
    let vlan = home.vlan.map_or(String::new(), |tag| format!(",tag={tag}"));
    let settings = BTreeMap::from(
        [
            ("cores", node.vcpu.to_string()),
            ("memory", node.ram_mib.to_string()),
            ("cpu", cluster.proxmox.cpu.clone()),
            // The Proxmox firewall would drop VRRP and the VIP's traffic.
            (CARD, format!("virtio,bridge={}{vlan},firewall=0", home.bridge)),
            (SEED_DRIVE, format!("{}:iso/{seed_file},media=cdrom", host.iso_storage)),
            // Proxmox VE appends a new CD-ROM to the boot order itself; the disk stays first.
            ("boot", format!("order={DISK};{SEED_DRIVE}")),
            ("onboot", "1".to_owned()),
            ("tags", format!("{TAG};{}", cluster.name)),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    let mut text: String = settings.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
    text.push_str(&format!("disk={}\n", node.disk_gib));
    let mark = Mark {
        cluster: cluster.name.clone(),
        node: Some(node.name.clone()),
        spec: hash::short(text.as_bytes()),
        creation: creation.to_owned(),
        machine: Some(Machine {
            role: node.role,
            address: node.ip,
            user: cluster.access.user.clone(),
            seed: seed_hashes(seed_file).to_owned(),
            image: super::compare::image(cluster, node),
            network: settings.get(CARD).map(|card| card::leads_to(card)),
        }),
        read: None,
    };
    let line = format!("{} {} of cluster {}", node.role, node.fqdn, cluster.name);
    let description = mark.describe(&line);
    let kept = BTreeMap::new();
    let seed_file = seed_file.to_owned();
    NodeSpec { seed_file, settings, mac: None, mark, line, description, kept }
}

/// Whether two seeds differ in more than files that are kept up to date on the machine. If there
/// are such files, the first of the two hashes in a name covers everything else.
pub(crate) fn differ_in_more_than_kept(one: &str, other: &str) -> bool {
    let rest = |hashes: &str| {
        let long = hashes.len() == 2 * HASH;
        hashes.get(..if long { HASH } else { hashes.len() }).unwrap_or_default().to_owned()
    };
    rest(one) != rest(other)
}

/// The settings that differ between a VM's configuration and the wanted state.
pub fn changes(spec: &NodeSpec, config: &BTreeMap<String, String>) -> Vec<Change> {
    let mut changes: Vec<Change> = spec
        .settings
        .iter()
        .filter(|(key, want)| !config.get(*key).is_some_and(|have| same(key, want, have)))
        .map(|(key, want)| Change {
            key: key.clone(),
            from: config.get(key).cloned().unwrap_or_default(),
            to: want.clone(),
        })
        .collect();
    let described = config.get("description").and_then(|text| Mark::find(text));
    changes.retain(|change| change.key != CARD);
    changes.extend(card_change(spec, config, described.as_ref()));
    if described.as_ref().is_none_or(|mark| mark.spec != spec.mark.spec) {
        changes.push(Change {
            key: "description".to_owned(),
            from: described.map_or(String::new(), |mark| format!("spec {}", mark.spec)),
            to: format!("spec {}", spec.mark.spec),
        });
    }
    changes
}

/// The change of a machine's network card: its network, whether it is plugged in, and the MAC
/// address in the documents that the machine has read.
fn card_change(
    spec: &NodeSpec,
    config: &BTreeMap<String, String>,
    mark: Option<&Mark>,
) -> Option<Change> {
    let want = spec.settings.get(CARD)?;
    let have = config.get(CARD).map(String::as_str).unwrap_or_default();
    let read = mark.and_then(|mark| {
        mark.read.as_deref().or(mark.machine.as_ref().map(|made| made.seed.as_str()))
    });
    let current = read.is_some_and(|read| {
        !read.is_empty() && !differ_in_more_than_kept(read, seed_hashes(&spec.seed_file))
    });
    let named = spec.mac.as_deref().filter(|_| current);
    if card::is_as_asked(want, have) && named.is_none_or(|mac| card::has_mac(have, mac)) {
        return None;
    }
    let to = card::corrected(want, have, named);
    Some(Change { key: CARD.to_owned(), from: have.to_owned(), to })
}

/// Whether Proxmox VE's form of a setting equals the wanted one: it adds MAC addresses and sizes,
/// and sorts tags.
pub fn same(key: &str, want: &str, have: &str) -> bool {
    match key {
        "tags" => tags(want) == tags(have),
        CARD => card::is_as_asked(want, have),
        SEED_DRIVE => {
            let have = properties(have);
            properties(want).iter().all(|(name, value)| have.get(name) == Some(value))
        }
        "cpu" => want == have || properties(have).get("").is_some_and(|model| model == want),
        _ => want == have,
    }
}

fn tags(text: &str) -> BTreeSet<String> {
    let split = text.split([';', ',', ' ']);
    split.filter(|tag| !tag.is_empty()).map(str::to_lowercase).collect()
}

/// A property string as a map; a first value without a key gets the empty key.
fn properties(text: &str) -> BTreeMap<String, String> {
    text.split(',')
        .enumerate()
        .map(|(place, part)| match part.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None if place == 0 => (String::new(), part.to_owned()),
            None => (part.to_owned(), String::new()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_seed_tells_whether_more_than_kept_files_have_changed() {
        let (rest, one, two) = ("00112233aabb", "ccddeeff0011", "223344556677");
        let drive = |hashes: &str| {
            format!("local:iso/k8sha-seed-1a2b-lb1-{hashes}.iso,media=cdrom,size=4M")
        };
        let differ = |drive: &str, now: &str| differ_in_more_than_kept(seed_hashes(drive), now);
        assert!(!differ(&drive(&format!("{rest}{one}")), &format!("{rest}{two}")));
        assert!(differ(&drive(&format!("{one}{one}")), &format!("{rest}{two}")));
        assert!(differ(&drive(one), two) && !differ(&drive(one), one));
        assert_eq!(seed_hashes("none,media=cdrom"), "");
    }

    #[test]
    fn a_seed_is_known_by_its_creation_whatever_clusters_and_nodes_are_called() {
        let node = |name: &str| NodeName(name.to_owned());
        let hashes = "00112233aabb";
        let volume = |creation: &str, name: &str| {
            format!("local:iso/{}", seed_file(creation, &node(name), hashes))
        };
        // Clusters `prod` with the node `eu-m1` and `prod-eu` with `m1`.
        assert!(is_seed_of(&volume("1a2b3c4d", "eu-m1"), "1a2b3c4d"));
        assert!(!is_seed_of(&volume("5e6f7a8b", "m1"), "1a2b3c4d"));
        assert!(!is_seed_of("local:iso/k8sha-prod-eu-m1-00112233aabb.iso", "prod"));
        assert!(!is_seed_of("local:iso/ubuntu.iso", "1a2b3c4d"));
        assert_eq!(seed_node(&volume("1a2b3c4d", "eu-m1"), "1a2b3c4d"), Some("eu-m1"));
        assert_eq!(seed_node(&volume("1a2b3c4d", "eu-m1"), "1a2b"), None);
        assert_eq!(seed_node("local:iso/k8sha-seed-1a2b3c4d-notes.iso", "1a2b3c4d"), None);
        let mark = |cluster: &str, name: &str| Mark {
            cluster: cluster.to_owned(),
            node: Some(node(name)),
            spec: String::new(),
            creation: "1a2b3c4d".to_owned(),
            machine: None,
            read: None,
        };
        assert!(is_own_seed(&volume("1a2b3c4d", "eu-m1"), &mark("prod", "eu-m1")));
        assert!(!is_own_seed(&volume("1a2b3c4d", "eu-m1"), &mark("prod", "m1")));
        assert!(!is_own_seed(&volume("5e6f7a8b", "eu-m1"), &mark("prod", "eu-m1")));
        let former = "local:iso/k8sha-prod-eu-m1-00112233aabb.iso";
        assert!(is_own_seed(former, &mark("prod-eu", "m1")));
        assert!(!is_own_seed(former, &mark("prod", "m1")));
        assert!(!is_own_seed("none", &mark("prod", "m1")));
        assert!(is_seed_name("local:iso/k8sha-prod-eu-m1-00112233aabb.iso"));
        assert!(!is_seed_name("local:iso/k8sha-notes.iso"));
    }

    #[test]
    fn what_proxmox_adds_to_a_setting_is_no_difference() {
        assert!(same(
            "net0",
            "virtio,bridge=vmbr0,firewall=0",
            "virtio=BC:24:11:00:00:01,bridge=vmbr0"
        ));
        assert!(same(
            "ide2",
            "local:iso/a.iso,media=cdrom",
            "local:iso/a.iso,media=cdrom,size=64K"
        ));
        assert!(same("tags", "k8sha;k8s1-cluster", "k8s1-cluster;k8sha"));
    }

    #[test]
    fn what_a_person_changed_is_a_difference() {
        assert!(!same(
            "net0",
            "virtio,bridge=vmbr0,firewall=0",
            "virtio=BC:24:11:00:00:01,bridge=vmbr1"
        ));
        assert!(!same(
            "net0",
            "virtio,bridge=vmbr0,firewall=0",
            "virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=1"
        ));
        assert!(!same("ide2", "local:iso/a.iso,media=cdrom", "none,media=cdrom"));
        assert!(!same("memory", "4096", "2048"));
    }
}
