//! Response types for VMs and their guests.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::VmId;
use crate::{Nic, PropertyString, de, parse_size, tags};

/// One entry of `GET /nodes/N/qemu`: live, unlike [`VmResource`].
#[derive(Clone, Debug, Deserialize)]
pub struct VmSummary {
    /// The VMID.
    #[serde(deserialize_with = "de::vmid")]
    pub vmid: VmId,
    /// Its name; `VM 101` while a clone is being created.
    #[serde(default)]
    pub name: String,
    /// `running` or `stopped`.
    #[serde(default)]
    pub status: String,
    /// The lock, such as `clone`.
    #[serde(default)]
    pub lock: Option<String>,
    /// Whether it is a template.
    #[serde(default, deserialize_with = "de::flag")]
    pub template: bool,
    /// Its tags.
    #[serde(default, deserialize_with = "de::words")]
    pub tags: BTreeSet<String>,
    /// Memory in bytes: of the running VM, without pending changes.
    #[serde(default, deserialize_with = "de::number")]
    pub maxmem: u64,
    /// Virtual CPUs of the running VM.
    #[serde(default, deserialize_with = "de::maybe_number")]
    pub cpus: Option<u64>,
}

/// One entry of `GET /cluster/resources?type=vm`: a cache that lags by up to ten seconds, in which
/// a fresh clone has neither name nor status.
#[derive(Clone, Debug, Deserialize)]
pub struct VmResource {
    /// The VMID, unique in the whole Proxmox cluster.
    #[serde(deserialize_with = "de::vmid")]
    pub vmid: VmId,
    /// `qemu` or `lxc`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its node.
    pub node: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// `running`, `stopped` or `unknown`.
    #[serde(default)]
    pub status: String,
    /// Whether it is a template.
    #[serde(default, deserialize_with = "de::flag")]
    pub template: bool,
    /// Its tags.
    #[serde(default, deserialize_with = "de::words")]
    pub tags: BTreeSet<String>,
    /// Its pool.
    #[serde(default)]
    pub pool: Option<String>,
}

/// `GET /nodes/N/qemu/ID/config`: every key as text, and accessors for the used ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VmConfig(pub BTreeMap<String, String>);

impl<'de> Deserialize<'de> for VmConfig {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = VmConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the configuration of a VM")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<VmConfig, A::Error> {
                let mut values = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, Value>()? {
                    let text = match value {
                        Value::Null => continue,
                        Value::String(text) => text,
                        Value::Bool(flag) => u8::from(flag).to_string(),
                        // Values that a later release may nest remain readable, and do no harm.
                        other => other.to_string(),
                    };
                    values.insert(key, text);
                }
                Ok(VmConfig(values))
            }
        }
        from.deserialize_map(Reader)
    }
}

impl VmConfig {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Its name.
    pub fn name(&self) -> Option<&str> {
        self.get("name")
    }

    /// Its description, without trailing spaces, which Proxmox VE cuts too.
    pub fn description(&self) -> &str {
        self.get("description").unwrap_or_default().trim_end()
    }

    /// Its tags, lower-cased.
    pub fn tags(&self) -> BTreeSet<String> {
        tags(self.get("tags").unwrap_or_default())
    }

    /// The lock, such as `clone`.
    pub fn lock(&self) -> Option<&str> {
        self.get("lock").filter(|lock| !lock.is_empty())
    }

    /// Whether it is a template.
    pub fn is_template(&self) -> bool {
        self.get("template").is_some_and(|value| value == "1")
    }

    /// Cores per socket; 1 if not set.
    pub fn cores(&self) -> u32 {
        self.get("cores").and_then(|text| text.parse().ok()).unwrap_or(1)
    }

    /// Memory in MiB; 512 if not set.
    pub fn memory_mib(&self) -> u32 {
        let text = self.get("memory").unwrap_or("512");
        // A property string since 8.1: `current=2048`.
        text.strip_prefix("current=").unwrap_or(text).parse().unwrap_or(512)
    }

    /// The digest that a later write can require.
    pub fn digest(&self) -> Option<&str> {
        self.get("digest")
    }

    /// A value that is a property string, such as `net0` or `scsi0`.
    pub fn property(&self, key: &str) -> Option<PropertyString> {
        self.get(key).map(PropertyString::parse)
    }

    /// The size of a disk in bytes, such as that of `scsi0`.
    pub fn disk_size(&self, disk: &str) -> Option<u64> {
        parse_size(self.property(disk)?.get("size")?)
    }

    /// The volume of a drive, such as `local:iso/seed.iso` of `ide2`; `None` for an empty drive.
    pub fn volume(&self, drive: &str) -> Option<String> {
        let property = self.property(drive)?;
        let volume = property.head().or_else(|| property.get("file"))?;
        (volume != "none").then(|| volume.to_owned())
    }

    /// Whether it is the placeholder at the start of a clone.
    ///
    /// Source: qemu-server src/PVE/API2/Qemu.pm, `clone_vm`.
    pub fn is_clone_placeholder(&self) -> bool {
        self.get("description").is_some_and(|text| text.trim() == "qmclone temporary file")
    }

    /// Whether an option has a wanted value, parsed as Proxmox VE parses it: tags as a set, and of a
    /// property string only the requested parts, because the host adds a MAC or a size.
    pub fn holds(&self, key: &str, wanted: &str) -> bool {
        let Some(found) = self.get(key) else { return wanted.is_empty() };
        match key {
            "description" => found.trim_end() == wanted.trim_end(),
            "tags" => tags(found) == tags(wanted),
            _ if found == wanted => true,
            _ if key.starts_with("net") => match (Nic::parse(found), Nic::parse(wanted)) {
                (Some(found), Some(mut wanted)) => {
                    wanted.mac = wanted.mac.or_else(|| found.mac.clone());
                    found == wanted
                }
                _ => false,
            },
            "agent" => enabled(found) == enabled(wanted),
            _ => {
                let parts = |text: &str| -> BTreeSet<String> {
                    text.split(',').map(str::to_owned).collect()
                };
                parts(wanted).is_subset(&parts(found))
            }
        }
    }
}

fn enabled(agent: &str) -> Option<&str> {
    agent.split(',').next().map(|first| first.strip_prefix("enabled=").unwrap_or(first))
}

/// `GET /nodes/N/qemu/ID/pending`: every option with its current and its pending value.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct VmPending(pub Vec<PendingOption>);

/// One option of a VM.
#[derive(Clone, Debug, Deserialize)]
pub struct PendingOption {
    /// Its name.
    pub key: String,
    /// The current value; absent if it is unset.
    #[serde(default)]
    pub value: Option<Value>,
    /// The pending value.
    #[serde(default)]
    pub pending: Option<Value>,
    /// 1 if it is to be unset at the next start, 2 if that is forced.
    #[serde(default, deserialize_with = "de::number")]
    pub delete: u64,
}

impl VmPending {
    /// The options with a pending change, with the current value; empty if it is unset.
    pub fn unapplied(&self) -> BTreeMap<String, String> {
        let waits = |option: &&PendingOption| option.pending.is_some() || option.delete > 0;
        let in_use = |one: &PendingOption| {
            let value = match &one.value {
                None | Some(Value::Null) => String::new(),
                Some(Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
            };
            (one.key.clone(), value)
        };
        self.0.iter().filter(waits).map(in_use).collect()
    }
}

/// `GET /nodes/N/qemu/ID/status/current`.
#[derive(Clone, Debug, Deserialize)]
pub struct VmStatus {
    /// `running` or `stopped`.
    pub status: String,
    /// QEMU's state: `running`, `paused`, `stopped` …
    #[serde(default)]
    pub qmpstatus: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// The lock, such as `clone`.
    #[serde(default)]
    pub lock: Option<String>,
    /// Seconds since its start.
    #[serde(default, deserialize_with = "de::number")]
    pub uptime: u64,
}

impl VmStatus {
    /// Whether QEMU runs.
    pub fn is_running(&self) -> bool {
        self.status == "running"
    }

    /// The state of a VM that is switched on but not running, such as `paused`.
    pub fn halted(&self) -> Option<&str> {
        let state = self.qmpstatus.as_str();
        let halted = self.is_running() && !state.is_empty() && state != "running";
        halted.then_some(state)
    }
}

/// `GET /nodes/N/qemu/ID/agent/network-get-interfaces`.
#[derive(Clone, Debug, Deserialize)]
pub struct AgentInterfaces {
    /// The guest's interfaces.
    pub result: Vec<AgentInterface>,
}

/// One interface as the guest sees it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AgentInterface {
    /// Its name in the guest.
    pub name: String,
    /// Its MAC.
    #[serde(default)]
    pub hardware_address: Option<String>,
    /// Its addresses.
    #[serde(default)]
    pub ip_addresses: Vec<AgentAddress>,
}

/// One address of an interface as the guest sees it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AgentAddress {
    /// The address.
    pub ip_address: IpAddr,
    /// Its prefix length.
    #[serde(default, deserialize_with = "de::number")]
    pub prefix: u64,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_configuration_is_parsed_whatever_type_its_values_have() {
        let config: VmConfig = serde_json::from_value(json!({
            "memory": "4096", "cores": 2, "template": 1, "lock": "clone", "clipboard": null,
            "tags": "K8sha;b", "scsi0": "local-lvm:vm-101-disk-0,size=2252M",
            "ide2": "local:iso/a.iso,media=cdrom,size=368K", "ide3": "none,media=cdrom",
        }))
        .unwrap();
        assert_eq!((config.memory_mib(), config.cores(), config.is_template()), (4096, 2, true));
        assert_eq!(config.lock(), Some("clone"));
        assert_eq!(config.tags(), ["b", "k8sha"].map(String::from).into());
        assert_eq!(config.disk_size("scsi0"), Some(2252 << 20));
        assert_eq!(config.volume("ide2").as_deref(), Some("local:iso/a.iso"));
        assert_eq!(config.volume("ide3"), None);
        assert_eq!(config.get("clipboard"), None);
        let current: VmConfig = serde_json::from_value(json!({"memory": "current=2048"})).unwrap();
        assert_eq!(current.memory_mib(), 2048);
    }

    #[test]
    fn pending_changes_are_reported_with_the_current_value() {
        let pending: VmPending = serde_json::from_value(json!([
            {"key": "memory", "value": "2048", "pending": "4096"},
            {"key": "cores", "value": 2},
            {"key": "cpu", "pending": "host"},
            {"key": "vcpus", "value": 1, "delete": 1},
        ]))
        .unwrap();
        let want = [("cpu", ""), ("memory", "2048"), ("vcpus", "1")];
        assert_eq!(pending.unapplied(), want.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    }

    #[test]
    fn values_are_compared_as_proxmox_parses_them() {
        let config: VmConfig = serde_json::from_str(
            r#"{"tags":"b;k8sha","description":"a\n\n","cores":2,"agent":"enabled=1",
            "net0":"virtio=BC:24:11:83:A1:F2,bridge=vmbr0","ide2":"local:iso/a.iso,media=cdrom,size=368K"}"#,
        )
        .unwrap();
        for (key, wanted, same) in [
            ("tags", "K8sha;b", true),
            ("tags", "k8sha", false),
            ("description", "a", true),
            ("cores", "2", true),
            ("cores", "4", false),
            ("agent", "1", true),
            ("agent", "0", false),
            ("net0", "virtio,bridge=vmbr0", true),
            ("net0", "virtio,bridge=vmbr0,tag=5", false),
            ("net0", "virtio=AA:24:11:83:A1:F2,bridge=vmbr0", false),
            ("ide2", "local:iso/a.iso,media=cdrom", true),
            ("ide2", "local:iso/b.iso,media=cdrom", false),
            ("serial0", "socket", false),
        ] {
            assert_eq!(config.holds(key, wanted), same, "{key}={wanted}");
        }
    }
}
