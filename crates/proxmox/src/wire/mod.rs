//! Response types of Proxmox VE 8.4 and 9.x: the fields that the client uses.
//!
//! Unknown fields are ignored, because every release adds some; numbers, strings and 0/1 booleans are
//! all accepted. Lists are silently filtered by permission, so empty does not mean absent. Source: the
//! API viewer's schema and answers of pve-manager 9.2.

use std::collections::{BTreeMap, BTreeSet};

use secrecy::SecretString;
use serde::Deserialize;

use super::de;
use crate::VmId;

mod vm;

pub use vm::{
    AgentAddress, AgentInterface, AgentInterfaces, PendingOption, VmConfig, VmPending, VmResource,
    VmStatus, VmSummary,
};

/// The envelope of every answer.
#[derive(Debug, Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
pub(super) struct Envelope<T> {
    pub data: T,
}

/// The envelope of an error.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ErrorBody {
    #[serde(default, deserialize_with = "de::text")]
    pub message: String,
    #[serde(default, deserialize_with = "de::texts")]
    pub errors: BTreeMap<String, String>,
}

/// `POST /access/ticket`.
#[derive(Debug, Deserialize)]
pub(super) struct Ticket {
    pub ticket: SecretString,
    #[serde(rename = "CSRFPreventionToken")]
    pub csrf: SecretString,
}

/// `GET /version`.
#[derive(Clone, Debug, Deserialize)]
pub struct Version {
    /// The version of pve-manager, such as `9.2.11`.
    pub version: String,
    /// The release, such as `9.2`.
    #[serde(default)]
    pub release: String,
}

impl Version {
    /// The major number, such as 9.
    pub fn major(&self) -> Option<u16> {
        self.version.split('.').next()?.parse().ok()
    }
}

/// `GET /cluster/status`: one entry for the Proxmox cluster, if there is one, and one per node.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct ClusterStatus(pub Vec<ClusterEntry>);

/// One entry of [`ClusterStatus`].
#[derive(Clone, Debug, Deserialize)]
pub struct ClusterEntry {
    /// `cluster` or `node`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The name of the cluster or node.
    pub name: String,
    /// For a node: whether it is the one that answered.
    #[serde(default, deserialize_with = "de::flag")]
    pub local: bool,
    /// For a node: whether it is online.
    #[serde(default, deserialize_with = "de::flag")]
    pub online: bool,
    /// For a cluster: whether it has quorum.
    #[serde(default, deserialize_with = "de::flag")]
    pub quorate: bool,
    /// For a node: its address.
    #[serde(default)]
    pub ip: Option<String>,
}

impl ClusterStatus {
    /// The Proxmox cluster's name; `None` for a standalone host.
    pub fn cluster(&self) -> Option<&ClusterEntry> {
        self.0.iter().find(|entry| entry.kind == "cluster")
    }

    /// The nodes, including the answering one.
    pub fn nodes(&self) -> impl Iterator<Item = &ClusterEntry> {
        self.0.iter().filter(|entry| entry.kind == "node")
    }

    /// Whether configuration is writable: on a standalone host always.
    pub fn is_quorate(&self) -> bool {
        self.cluster().is_none_or(|cluster| cluster.quorate)
    }
}

/// One entry of `GET /nodes`.
#[derive(Clone, Debug, Deserialize)]
pub struct NodeEntry {
    /// The node's name.
    pub node: String,
    /// `online`, `offline` or `unknown`.
    #[serde(default)]
    pub status: String,
    /// The SHA-256 fingerprint of its certificate, `AA:BB:…`.
    #[serde(default)]
    pub ssl_fingerprint: Option<String>,
    /// CPUs; only with Sys.Audit.
    #[serde(default, deserialize_with = "de::maybe_number")]
    pub maxcpu: Option<u64>,
    /// Memory in bytes; only with Sys.Audit.
    #[serde(default, deserialize_with = "de::maybe_number")]
    pub maxmem: Option<u64>,
}

/// `GET /nodes/N/status`.
#[derive(Clone, Debug, Deserialize)]
pub struct NodeStatus {
    /// Its CPUs.
    #[serde(default)]
    pub cpuinfo: CpuInfo,
    /// Its memory.
    #[serde(default)]
    pub memory: MemoryInfo,
    /// Such as `pve-manager/9.2.11/14a22df35955d97d`.
    #[serde(default)]
    pub pveversion: String,
    /// Seconds since its boot.
    #[serde(default, deserialize_with = "de::number")]
    pub uptime: u64,
}

/// The CPUs of a node.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct CpuInfo {
    /// Logical CPUs.
    #[serde(default, deserialize_with = "de::number")]
    pub cpus: u64,
    /// Their features, as in `/proc/cpuinfo`, such as `sse4_2 aes`.
    #[serde(default)]
    pub flags: String,
}

/// The memory of a node, in bytes.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct MemoryInfo {
    /// The total.
    #[serde(default, deserialize_with = "de::number")]
    pub total: u64,
    /// In use.
    #[serde(default, deserialize_with = "de::number")]
    pub used: u64,
    /// Not in use.
    #[serde(default, deserialize_with = "de::number")]
    pub free: u64,
}

/// `GET /nodes/N/storage/S/status`, and one entry of `GET /nodes/N/storage`.
#[derive(Clone, Debug, Deserialize)]
pub struct StorageStatus {
    /// Its name; absent from the status of a single one.
    #[serde(default)]
    pub storage: Option<String>,
    /// The type, such as `dir` or `lvmthin`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its content types: `images`, `iso`, `import` …
    #[serde(default, deserialize_with = "de::words")]
    pub content: BTreeSet<String>,
    /// Whether it is usable right now.
    #[serde(default, deserialize_with = "de::flag")]
    pub active: bool,
    /// Whether the operator has enabled it.
    #[serde(default, deserialize_with = "de::flag")]
    pub enabled: bool,
    /// Whether all nodes see the same contents.
    #[serde(default, deserialize_with = "de::flag")]
    pub shared: bool,
    /// Bytes in total.
    #[serde(default, deserialize_with = "de::number")]
    pub total: u64,
    /// Bytes in use.
    #[serde(default, deserialize_with = "de::number")]
    pub used: u64,
    /// Bytes available.
    #[serde(default, deserialize_with = "de::number")]
    pub avail: u64,
}

/// One entry of `GET /nodes/N/storage/S/content`.
#[derive(Clone, Debug, Deserialize)]
pub struct StorageContent {
    /// The volume's id, such as `local:iso/seed.iso`.
    pub volid: String,
    /// The format, such as `qcow2` or `iso`.
    #[serde(default)]
    pub format: String,
    /// The content type.
    #[serde(default)]
    pub content: String,
    /// Its size in bytes; for a disk, as the guest sees it.
    #[serde(default, deserialize_with = "de::number")]
    pub size: u64,
    /// The VM that it belongs to.
    #[serde(default, deserialize_with = "de::maybe_number")]
    pub vmid: Option<u64>,
    /// The volume that it is a linked clone of: `../9000/base-9000-disk-0.qcow2` on a directory,
    /// `base-9000-disk-0` or with a snapshot's name appended elsewhere.
    #[serde(default)]
    pub parent: Option<String>,
}

impl StorageContent {
    /// Whether it is a linked clone of a disk of that template.
    pub fn hangs_on(&self, template: VmId) -> bool {
        let base = format!("base-{template}-disk-");
        let begins =
            |text: &str| text.rsplit('/').next().is_some_and(|name| name.starts_with(&base));
        // The volume's own id also has its base, on a file-based storage.
        let (_, path) = self.volid.split_once(':').unwrap_or(("", &self.volid));
        self.parent.as_deref().is_some_and(begins)
            || path.split('/').rev().skip(1).any(|part| part.starts_with(&base))
    }

    /// The file name: the part after the last slash of the volume's id.
    pub fn file_name(&self) -> &str {
        self.volid.rsplit('/').next().unwrap_or(&self.volid)
    }
}

/// `GET /nodes/N/tasks/UPID/status`.
#[derive(Clone, Debug, Deserialize)]
pub struct TaskStatus {
    /// `running` or `stopped`.
    pub status: String,
    /// Once stopped: `OK`, `WARNINGS: n`, or the error's text.
    #[serde(default)]
    pub exitstatus: Option<String>,
}

/// One line of `GET /nodes/N/tasks/UPID/log`.
#[derive(Clone, Debug, Deserialize)]
pub struct TaskLogLine {
    /// Its number, from 1.
    #[serde(deserialize_with = "de::number")]
    pub n: u64,
    /// Its text.
    #[serde(default, deserialize_with = "de::text")]
    pub t: String,
}

/// One entry of `GET /nodes/N/tasks`. The result is in `status` here, unlike in [`TaskStatus`].
#[derive(Clone, Debug, Deserialize)]
pub struct TaskSummary {
    /// The task's id, as text.
    pub upid: String,
    /// Its type, such as `qmclone`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its object: for a clone the *source* VMID.
    #[serde(default, deserialize_with = "de::text")]
    pub id: String,
    /// Its user; with `!token` while it is active.
    #[serde(default)]
    pub user: String,
    /// Its start, in seconds since 1970.
    #[serde(default, deserialize_with = "de::number")]
    pub starttime: u64,
    /// Its end.
    #[serde(default, deserialize_with = "de::maybe_number")]
    pub endtime: Option<u64>,
    /// `RUNNING`, `OK`, `WARNINGS: n` or the error's text.
    #[serde(default)]
    pub status: Option<String>,
}

impl TaskSummary {
    /// Whether it is still running.
    pub fn is_running(&self) -> bool {
        self.endtime.is_none() && self.status.as_deref().is_none_or(|status| status == "RUNNING")
    }
}

/// One entry of `GET /nodes/N/network`.
#[derive(Clone, Debug, Deserialize)]
pub struct NetworkIface {
    /// Its name, such as `vmbr0`.
    pub iface: String,
    /// The type, such as `bridge`, `OVSBridge`, `eth` or `bond`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it is up.
    #[serde(default, deserialize_with = "de::flag")]
    pub active: bool,
    /// Its address with prefix length.
    #[serde(default)]
    pub cidr: Option<String>,
    /// For a Linux bridge: whether it is VLAN-aware.
    #[serde(default, rename = "bridge_vlan_aware", deserialize_with = "de::flag")]
    pub vlan_aware: bool,
}

/// One entry of `GET /nodes/N/certificates/info`.
#[derive(Clone, Debug, Deserialize)]
pub struct Certificate {
    /// The file, such as `pve-ssl.pem`, or `pveproxy-ssl.pem` if the operator has installed a custom
    /// one.
    #[serde(default)]
    pub filename: String,
    /// The SHA-256 fingerprint, `AA:BB:…`.
    #[serde(default)]
    pub fingerprint: Option<String>,
    /// Its expiry, in seconds since 1970.
    #[serde(default, deserialize_with = "de::maybe_number")]
    pub notafter: Option<u64>,
}

impl NetworkIface {
    /// Whether a NIC can be attached to it.
    pub fn is_bridge(&self) -> bool {
        matches!(self.kind.as_str(), "bridge" | "OVSBridge" | "vnet")
    }
}

/// One entry of `GET /nodes/{node}/capabilities/qemu/cpu`.
#[derive(Clone, Debug, Deserialize)]
pub struct CpuModel {
    /// Its name, such as `x86-64-v2-AES`; a custom one starts with `custom-`.
    pub name: String,
}

/// One entry of `GET /pools`.
#[derive(Clone, Debug, Deserialize)]
pub struct Pool {
    /// Its name.
    pub poolid: String,
}

/// `GET /access/permissions`: per path, each privilege held and whether it propagates.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "BTreeMap<String, serde_json::Value>")]
pub struct Permissions(pub BTreeMap<String, BTreeMap<String, Propagates>>);

/// Whether a privilege propagates to the paths below.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(transparent)]
pub struct Propagates(#[serde(deserialize_with = "de::flag")] pub bool);

impl From<BTreeMap<String, serde_json::Value>> for Permissions {
    /// A value that is not a list of privileges, or not a flag in one, grants nothing.
    fn from(answer: BTreeMap<String, serde_json::Value>) -> Self {
        let held = |value: serde_json::Value| -> Option<BTreeMap<String, Propagates>> {
            let serde_json::Value::Object(privileges) = value else { return None };
            let flags = privileges.into_iter().filter_map(|(privilege, flag)| {
                Some((privilege, serde_json::from_value(flag).ok()?))
            });
            Some(flags.collect())
        };
        let paths = answer.into_iter().filter_map(|(path, value)| Some((path, held(value)?)));
        Self(paths.collect())
    }
}

/// The paths that are listed whenever any privilege is held there. Source: pve-access-control
/// src/PVE/RPCEnvironment.pm, `get_effective_permissions`.
const TOP: [&str; 8] =
    ["/", "/access", "/access/groups", "/nodes", "/pool", "/sdn", "/storage", "/vms"];

impl Permissions {
    /// Whether a privilege is held on a path.
    pub fn allows(&self, path: &str, privilege: &str) -> bool {
        self.on(path).contains(privilege)
    }

    /// The privileges held on a path.
    ///
    /// The answer lists the effective privileges of certain paths; an unlisted path has what its
    /// nearest listed ancestor propagates, because an entry further down replaces the ones above it.
    /// Source: pve-access-control src/PVE/AccessControl.pm, `roles`.
    pub fn on(&self, path: &str) -> BTreeSet<String> {
        if let Some(held) = self.0.get(path) {
            return held.keys().cloned().collect();
        }
        let mut above = path;
        while !TOP.contains(&above)
            && let Some((parent, _)) = above.rsplit_once('/')
        {
            above = if parent.is_empty() { "/" } else { parent };
            if let Some(held) = self.0.get(above) {
                let passed = held.iter().filter(|(_, propagates)| propagates.0);
                return passed.map(|(privilege, _)| privilege.clone()).collect();
            }
        }
        BTreeSet::new()
    }
}

/// One entry of `GET /access/roles`. Any user may read them.
#[derive(Clone, Debug, Deserialize)]
pub struct Role {
    /// Its name.
    pub roleid: String,
    /// Its privileges.
    #[serde(default, deserialize_with = "de::words")]
    pub privs: BTreeSet<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read<T: for<'de> Deserialize<'de>>(value: serde_json::Value) -> T {
        serde_json::from_str(&value.to_string()).unwrap()
    }

    #[test]
    fn numbers_and_flags_are_accepted_in_perls_types() {
        let storage: StorageStatus = read(json!({
            "type": "dir", "content": "iso,import", "active": "1", "shared": 0, "avail": "12",
            "total": 270553174016u64, "used": 1.5,
        }));
        assert!(storage.active && !storage.shared && !storage.enabled);
        assert_eq!((storage.avail, storage.total, storage.used), (12, 270_553_174_016, 1));
        assert!(storage.content.contains("import"));
        let bad = serde_json::from_str::<StorageStatus>(r#"{"type":"dir","avail":"much"}"#);
        assert!(bad.unwrap_err().to_string().contains("`much` is not a number"));
    }

    #[test]
    fn a_privilege_propagates_from_the_nearest_listed_path() {
        let permissions: Permissions = read(json!({
            "/": {"Sys.Audit": 0}, "/vms": {"VM.Clone": 1, "VM.Audit": 0}, "/vms/200": {},
        }));
        assert!(
            permissions.allows("/", "Sys.Audit") && !permissions.allows("/nodes/a", "Sys.Audit")
        );
        assert!(permissions.allows("/vms/9000", "VM.Clone"));
        assert!(
            permissions.allows("/vms", "VM.Audit") && !permissions.allows("/vms/9", "VM.Audit")
        );
        assert!(
            !permissions.allows("/vms/200", "VM.Clone"),
            "an entry below replaces the one above"
        );
        assert!(!permissions.allows("/storage/local", "VM.Clone"));
    }
}
