//! What a VM and a template are to look like in Proxmox's own terms, and how that is compared with
//! what is there.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::Change;
use crate::cluster::{Cluster, Image, Node};
use crate::proxmox::{Mark, TAG};

/// The boot disk.
pub const DISK: &str = "scsi0";

/// The drive that the seed ISO sits in.
pub const SEED_DRIVE: &str = "ide2";

/// How long each hash in the name of a seed ISO is.
const HASH: usize = 12;

/// What a node's VM is to look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSpec {
    /// The seed ISO's file name.
    pub seed_file: String,
    /// Settings by Proxmox's name, without `description`.
    pub settings: BTreeMap<String, String>,
    /// The mark, with the hash of all this.
    pub mark: Mark,
    /// The first line of the description.
    pub line: String,
    /// The description that carries the mark.
    pub description: String,
    /// The files that are kept up to date on the machine once it has booted, and their SHA-256.
    pub kept: BTreeMap<String, String>,
}

/// The first twelve hex digits of a SHA-256, which is what our names and marks carry.
pub fn short_hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// How the names of a node's seed ISOs begin.
pub fn seed_prefix(cluster: &Cluster, node: &Node) -> String {
    format!("k8sha-{}-{}-", cluster.name, node.name)
}

/// The file name of a downloaded cloud image; Proxmox takes a qcow2 only under that ending.
pub fn image_file(os: &str, image: &Image) -> String {
    format!("k8sha-{os}-{}.qcow2", image.sha256.get(..12).unwrap_or(&image.sha256))
}

/// The hash of what a template is made from.
pub fn template_spec(os: &str, image: &Image) -> String {
    // The number counts the ways in which we have made templates.
    short_hash(format!("template 1\n{os}\n{}\n", image.sha256).as_bytes())
}

/// What a node's VM is to look like.
///
/// `seed_file` is the seed ISO's file name, which its content decides.
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
            ("net0", format!("virtio,bridge={}{vlan},firewall=0", home.bridge)),
            (SEED_DRIVE, format!("{}:iso/{seed_file},media=cdrom", host.iso_storage)),
            // Proxmox VE appends a new CD-ROM to the order itself; the disk stays first.
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
        spec: short_hash(text.as_bytes()),
        creation: creation.to_owned(),
    };
    let line = format!("{} {} of cluster {}", node.role, node.fqdn, cluster.name);
    let description = mark.describe(&line);
    let kept = BTreeMap::new();
    NodeSpec { seed_file: seed_file.to_owned(), settings, mark, line, description, kept }
}

/// Whether a volume is a seed ISO with this before its hashes.
pub fn is_seed(volume: &str, prefix: &str) -> bool {
    let file = volume.rsplit('/').next().unwrap_or(volume);
    let hash = file.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(".iso"));
    hash.is_some_and(|hash| {
        [HASH, 2 * HASH].contains(&hash.len()) && hash.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

/// Whether the seed in a VM's drive differs from the one of now in nothing but files that are kept
/// up to date: then the first of the two hashes in their names is the same.
pub fn lacks_only_kept(drive: &str, seed_file: &str) -> bool {
    let hashes = seed_file.strip_suffix(".iso").and_then(|stem| stem.rsplit('-').next());
    let volume = drive.split(',').next().unwrap_or(drive);
    hashes.filter(|hashes| hashes.len() == 2 * HASH).is_some_and(|_| {
        let before = seed_file.len().saturating_sub(HASH + ".iso".len());
        seed_file.get(..before).is_some_and(|same| is_seed(volume, same))
    })
}

/// The settings that differ between a VM's configuration and what is asked for.
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
    if described.as_ref().is_none_or(|mark| mark.spec != spec.mark.spec) {
        changes.push(Change {
            key: "description".to_owned(),
            from: described.map_or(String::new(), |mark| format!("spec {}", mark.spec)),
            to: format!("spec {}", spec.mark.spec),
        });
    }
    changes
}

/// Whether Proxmox's form of a setting says what we asked for: it adds MAC addresses and sizes,
/// and sorts tags.
fn same(key: &str, want: &str, have: &str) -> bool {
    match key {
        "tags" => tags(want) == tags(have),
        "net0" | SEED_DRIVE => {
            let have = properties(have);
            properties(want).iter().all(|(name, value)| {
                let found = have.get(name).map(String::as_str);
                // Proxmox leaves out what is its default.
                found == Some(value) || (found.is_none() && name == "firewall" && value == "0")
            })
        }
        "cpu" => want == have || properties(have).get("").is_some_and(|model| model == want),
        _ => want == have,
    }
}

fn tags(text: &str) -> BTreeSet<String> {
    let split = text.split([';', ',', ' ']);
    split.filter(|tag| !tag.is_empty()).map(str::to_lowercase).collect()
}

/// A property string as a map; what stands without a name has the empty one. A NIC's first part is
/// `model` or `model=MAC`.
fn properties(text: &str) -> BTreeMap<String, String> {
    text.split(',')
        .enumerate()
        .map(|(place, part)| match part.split_once('=') {
            Some(("virtio" | "e1000" | "vmxnet3" | "rtl8139", _)) | None if place == 0 => {
                (String::new(), part.split('=').next().unwrap_or(part).to_owned())
            }
            Some((name, value)) => (name.to_owned(), value.to_owned()),
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
        let now = format!("k8sha-c-lb1-{rest}{two}.iso");
        let drive =
            |hashes: &str| format!("local:iso/k8sha-c-lb1-{hashes}.iso,media=cdrom,size=4M");
        assert!(lacks_only_kept(&drive(&format!("{rest}{one}")), &now));
        assert!(!lacks_only_kept(&drive(&format!("{one}{one}")), &now));
        assert!(!lacks_only_kept(&drive(one), &now), "a name of one hash says nothing of it");
        assert!(!lacks_only_kept("none,media=cdrom", &now));
        assert!(!lacks_only_kept(&drive(one), &format!("k8sha-c-lb1-{one}.iso")));
    }

    #[test]
    fn a_seed_is_known_by_its_prefix_and_its_hashes() {
        for (volume, is) in [
            ("local:iso/k8sha-c-lb1-00112233aabb.iso", true),
            ("local:iso/k8sha-c-lb1-00112233aabbccddeeff0011.iso", true),
            ("local:iso/k8sha-c-lb1-2-00112233aabb.iso", false),
            ("local:iso/k8sha-c-lb1-00112233.iso", false),
            ("local:iso/ubuntu.iso", false),
        ] {
            assert_eq!(is_seed(volume, "k8sha-c-lb1-"), is, "{volume}");
        }
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
