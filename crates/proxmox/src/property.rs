//! Formats of Proxmox VE's values: property strings, sizes, tag lists.

use std::collections::BTreeSet;
use std::fmt;

/// A property string, such as `virtio=BC:24:11:83:A1:F2,bridge=vmbr0` or
/// `local:9000/vm-9000-disk-0.qcow2,size=48M`. Order is kept.
///
/// Source: pve-common src/PVE/JSONSchema.pm, `parse_property_string`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PropertyString {
    head: Option<String>,
    entries: Vec<(String, String)>,
}

impl PropertyString {
    /// Takes a value apart. A part without `=` is the head: the value of the default key.
    pub fn parse(text: &str) -> Self {
        let mut property = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some((key, value)) => property.entries.push((key.to_owned(), value.to_owned())),
                None => property.head = Some(part.to_owned()),
            }
        }
        property
    }

    /// The value of the default key, given without its name.
    pub fn head(&self) -> Option<&str> {
        self.head.as_deref()
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.entries.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Sets a key, in its place if it is there and at the end otherwise.
    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        let value = value.into();
        match self.entries.iter_mut().find(|(name, _)| name == key) {
            Some((_, place)) => *place = value,
            None => self.entries.push((key.to_owned(), value)),
        }
    }
}

impl fmt::Display for PropertyString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        if let Some(head) = &self.head {
            f.write_str(head)?;
            comma = ",";
        }
        for (key, value) in &self.entries {
            write!(f, "{comma}{key}={value}")?;
            comma = ",";
        }
        Ok(())
    }
}

/// A NIC, as in `net0`.
///
/// Source: qemu-server src/PVE/QemuServer/Network.pm. A value written without a MAC gets a new one,
/// so a change of a NIC must carry the MAC that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// The emulated card, such as `virtio`.
    pub model: String,
    /// The MAC, upper-case with colons; made by Proxmox VE where not given.
    pub mac: Option<String>,
    /// The bridge, such as `vmbr0`.
    pub bridge: String,
    /// The VLAN tag.
    pub vlan: Option<u16>,
    /// Whether the Proxmox firewall filters it.
    pub firewall: bool,
}

impl Nic {
    /// A virtio card on a bridge, without firewall.
    pub fn virtio(bridge: &str, vlan: Option<u16>) -> Self {
        Self { model: "virtio".into(), mac: None, bridge: bridge.into(), vlan, firewall: false }
    }

    /// Reads a `net0` value; `None` where it has no model or no bridge.
    pub fn parse(text: &str) -> Option<Self> {
        const MODELS: [&str; 5] = ["virtio", "e1000", "e1000e", "vmxnet3", "rtl8139"];
        let property = PropertyString::parse(text);
        let named = |model: &&str| property.get(model).map(|mac| (model.to_string(), Some(mac)));
        let bare = || Some((property.head().or(property.get("model"))?.to_owned(), None));
        let (model, mac) = MODELS.iter().find_map(named).or_else(bare)?;
        Some(Self {
            model,
            mac: mac.or(property.get("macaddr")).map(str::to_uppercase),
            bridge: property.get("bridge")?.to_owned(),
            vlan: property.get("tag").and_then(|tag| tag.parse().ok()),
            firewall: property.get("firewall").is_some_and(|value| value == "1"),
        })
    }
}

impl fmt::Display for Nic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.model)?;
        if let Some(mac) = &self.mac {
            write!(f, "={mac}")?;
        }
        write!(f, ",bridge={}", self.bridge)?;
        if self.firewall {
            f.write_str(",firewall=1")?;
        }
        if let Some(vlan) = self.vlan {
            write!(f, ",tag={vlan}")?;
        }
        Ok(())
    }
}

const UNITS: [(char, u32); 4] = [('T', 40), ('G', 30), ('M', 20), ('K', 10)];

/// Reads a size such as `20G`, `2252M`, `368K` or plain bytes, into bytes.
pub fn parse_size(text: &str) -> Option<u64> {
    let unit = UNITS.iter().find(|(unit, _)| text.ends_with(*unit));
    let (digits, shift) =
        unit.map_or((text, 0), |(unit, shift)| (text.trim_end_matches(*unit), *shift));
    match digits.parse::<u64>() {
        Ok(count) => count.checked_mul(1 << shift),
        // `1.5G` is legal in `size` and in nothing that Proxmox VE prints itself.
        Err(_) => {
            let count = digits.parse::<f64>().ok().filter(|count| *count >= 0.0)?;
            Some((count * (1u64 << shift) as f64) as u64)
        }
    }
}

/// Writes a size with the largest unit that leaves no fraction.
pub fn print_size(bytes: u64) -> String {
    let whole = |(_, shift): &&(char, u32)| bytes != 0 && bytes.is_multiple_of(1u64 << shift);
    match UNITS.iter().find(whole) {
        Some((unit, shift)) => format!("{}{unit}", bytes >> shift),
        None => bytes.to_string(),
    }
}

/// Reads a tag list. Proxmox VE takes `,`, `;` and blanks between tags, and lower-cases and sorts
/// them, so tags are compared as sets. Source: pve-guest-common src/PVE/GuestHelpers.pm.
pub fn tags(text: &str) -> BTreeSet<String> {
    text.split([';', ',', ' ']).filter(|tag| !tag.is_empty()).map(str::to_lowercase).collect()
}

/// Writes a tag list as Proxmox VE stores it.
pub fn join_tags<'a>(tags: impl IntoIterator<Item = &'a str>) -> String {
    let set: BTreeSet<String> = tags.into_iter().map(str::to_lowercase).collect();
    set.into_iter().collect::<Vec<_>>().join(";")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn property_strings_come_back_as_they_were() {
        for text in [
            "virtio=BC:24:11:83:A1:F2,bridge=vmbr0",
            "local:9000/base-9000-disk-0.qcow2/101/vm-101-disk-0.qcow2,size=48M",
            "enabled=1",
            "none,media=cdrom",
            "",
        ] {
            assert_eq!(PropertyString::parse(text).to_string(), text);
        }
        let mut disk = PropertyString::parse("a:b,size=1G,discard=on");
        disk.set("size", "2G");
        disk.set("ssd", "1");
        assert_eq!(disk.to_string(), "a:b,size=2G,discard=on,ssd=1");
    }

    #[test]
    fn a_nic_keeps_its_mac() {
        let nic = Nic::parse("virtio=bc:24:11:83:a1:f2,bridge=vmbr0,firewall=1,tag=5").unwrap();
        assert_eq!(nic.mac.as_deref(), Some("BC:24:11:83:A1:F2"));
        assert_eq!((nic.vlan, nic.firewall), (Some(5), true));
        assert_eq!(nic.to_string(), "virtio=BC:24:11:83:A1:F2,bridge=vmbr0,firewall=1,tag=5");
        assert_eq!(Nic::parse("virtio,bridge=vmbr1").unwrap(), Nic::virtio("vmbr1", None));
        assert_eq!(Nic::parse("bridge=vmbr0"), None);
    }

    #[test]
    fn sizes_are_read_and_written_without_loss() {
        for (text, bytes) in [
            ("20G", 20 << 30),
            ("2252M", 2252 << 20),
            ("368K", 368 << 10),
            ("1T", 1 << 40),
            ("513", 513),
        ] {
            assert_eq!(parse_size(text), Some(bytes));
            assert_eq!(print_size(bytes), text);
        }
        assert_eq!(parse_size("1.5G"), Some(3 << 29));
        for text in ["", "G", "2GB", "-1G", "x"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn tags_are_sets() {
        assert_eq!(tags("UPPER;lower;lower,zeta alpha"), tags("alpha;lower;upper;zeta"));
        assert_eq!(join_tags(["k8sha", "K8s1-cluster", "k8sha"]), "k8s1-cluster;k8sha");
    }
}
