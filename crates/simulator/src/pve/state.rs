//! The state of a Proxmox VE datacenter, as plain data.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::drive::{self, Drive, Layout};
use super::firewall::Firewall;
use super::resolver::Resolver;
use super::task::Task;
use super::tls::Pair;
pub use super::volume::Volume;
use crate::world::SimTime;

/// One Proxmox VE cluster, or one standalone host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Datacenter {
    /// The cluster's name, or the host's.
    pub name: String,
    /// Whether it is a cluster.
    pub clustered: bool,
    /// Its nodes by name.
    pub hosts: BTreeMap<String, Host>,
    /// Its storages (`storage.cfg`) by id.
    pub storages: BTreeMap<String, Storage>,
    /// The volumes on its storages.
    pub volumes: Vec<Volume>,
    /// Its VMs by VMID.
    pub vms: BTreeMap<u32, Vm>,
    /// Its users by `name@realm`.
    pub users: BTreeMap<String, User>,
    /// The custom roles, with their privileges.
    pub roles: BTreeMap<String, BTreeSet<String>>,
    /// The access control list.
    pub acl: Vec<Grant>,
    /// Its pools by id.
    pub pools: BTreeMap<String, Pool>,
    /// Its tasks, oldest first.
    pub tasks: Vec<Task>,
    /// The firewall's files by the names of their locks: `cluster`, `host-pve1`, `vm-100`.
    #[serde(default)]
    pub firewalls: BTreeMap<String, Firewall>,
    /// The settings of `datacenter.cfg`.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// The holders of lock files.
    pub locks: Vec<Lock>,
    /// The CA's certificate.
    pub ca: Pair,
    /// The key that signs tickets.
    pub ticket_key: String,
}

/// Interfaces of a node by name, as they are shown.
pub type Interfaces = BTreeMap<String, serde_json::Map<String, serde_json::Value>>;

/// A node of Proxmox VE.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Host {
    /// Its number in the cluster, from 1.
    pub number: u32,
    /// Whether it is switched on.
    pub online: bool,
    /// Its bridges.
    pub bridges: Vec<String>,
    /// The names of the network cards of its bridges; `eth0` and so on if it has none.
    #[serde(default)]
    pub ports: Vec<String>,
    /// Physical memory in MiB.
    pub memory_mib: u64,
    /// Logical CPUs.
    pub cpus: u32,
    /// Its interfaces, if they differ from the initial ones.
    #[serde(default)]
    pub interfaces: Option<Interfaces>,
    /// Its interfaces after the next reload.
    #[serde(default)]
    pub new_interfaces: Option<Interfaces>,
    /// Its resolver, if configured.
    #[serde(default)]
    pub resolver: Option<Resolver>,
    /// Its certificate.
    pub pair: Pair,
    /// The process id of its next task.
    pub next_pid: u32,
}

/// A section of `storage.cfg`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Storage {
    /// Proxmox's storage type.
    pub kind: String,
    /// The content types that it may hold.
    pub content: Vec<String>,
    /// Its configured folder.
    #[serde(default)]
    pub path: Option<String>,
    /// Its backup retention, if configured.
    #[serde(default)]
    pub prune: Option<String>,
    /// Whether every node sees the same contents.
    pub shared: bool,
    /// Whether it is disabled.
    pub disabled: bool,
    /// Its size in bytes on each node that has it.
    pub size: BTreeMap<String, u64>,
}

/// A VM.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Vm {
    /// Its node.
    pub host: String,
    /// Its options as in its configuration file.
    pub config: BTreeMap<String, String>,
    /// Changes pending until the next start; `None` deletes the option.
    pub pending: BTreeMap<String, Option<String>>,
    /// The lock of its configuration, such as `clone`.
    pub lock: Option<String>,
    /// Whether an injected fault set that lock.
    #[serde(default)]
    pub held: bool,
    /// When it was switched on, if it runs.
    pub running: Option<SimTime>,
    /// QEMU's state instead of running while it is switched on, such as `paused`.
    #[serde(default)]
    pub halted: Option<String>,
    /// When it was last switched off.
    pub stopped: Option<SimTime>,
    /// The last report of `pvestatd`.
    pub reported: Option<String>,
    /// Its snapshots by name.
    #[serde(default)]
    pub snapshots: BTreeMap<String, Snapshot>,
    /// The processes that its guest's agent ran.
    #[serde(default)]
    pub processes: Processes,
}

/// The processes that a guest's agent ran.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Processes {
    /// Their number since the VM was switched on.
    pub count: u32,
    /// The output of ended processes, by process id, until their status is queried.
    pub ended: BTreeMap<i64, String>,
}

/// A snapshot of a VM.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// The VM's options at that time.
    pub config: BTreeMap<String, String>,
    /// Unix time of its taking.
    pub time: i64,
    /// A comment.
    pub description: String,
    /// The snapshot before it.
    pub parent: Option<String>,
}

/// A user of the datacenter.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct User {
    /// Whether the account is enabled.
    pub enable: bool,
    /// Unix time of its expiry; 0 for never.
    pub expire: i64,
    /// A comment.
    pub comment: Option<String>,
    /// `email`, `firstname`, `lastname` and `keys`, if set.
    #[serde(default)]
    pub details: BTreeMap<String, String>,
    /// The password, if it has one.
    pub password: Option<String>,
    /// API tokens by their own name.
    pub tokens: BTreeMap<String, Token>,
}

/// An API token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Token {
    /// The secret half.
    pub secret: String,
    /// Whether it has only the privileges granted to itself.
    pub privsep: bool,
    /// Unix time of its expiry; 0 for never.
    pub expire: i64,
    /// A comment.
    pub comment: Option<String>,
}

/// A line of the access control list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The path, such as `/vms/100`.
    pub path: String,
    /// A user (`name@realm`) or a token (`name@realm!token`).
    pub who: String,
    /// The role granted.
    pub role: String,
    /// Whether it also applies below the path.
    pub propagate: bool,
}

/// A pool of VMs and storages.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Pool {
    /// A comment.
    pub comment: Option<String>,
    /// Its VMs.
    pub vms: BTreeSet<u32>,
    /// Its storages.
    pub storages: BTreeSet<String>,
}

/// A lock file that a task holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lock {
    /// The file, prefixed with the node: each node has its own.
    pub file: String,
    /// Whether others may share it.
    pub shared: bool,
    /// The UPID of the task that holds it.
    pub owner: String,
    /// When it is released at the latest; `None`: when the task ends.
    pub until: Option<SimTime>,
}

impl Host {
    /// Applies its pending interfaces: bridges with autostart exist from now on, and those no longer in
    /// the file are removed.
    pub fn reload(&mut self) {
        let Some(mut all) = self.new_interfaces.take() else { return };
        let starts = |fields: &serde_json::Map<String, serde_json::Value>| {
            fields.get("autostart").is_some_and(|flag| flag == 1)
        };
        let mut bridges: Vec<String> = Vec::new();
        for (name, fields) in &mut all {
            let there = self.bridges.contains(name);
            if fields["type"] == "bridge" && (there || starts(fields)) {
                bridges.push(name.clone());
            }
            if starts(fields) {
                fields.insert("active".to_owned(), 1.into());
            }
        }
        // Their order determines the card of each.
        self.bridges.retain(|name| bridges.contains(name));
        let new = bridges.into_iter().filter(|name| !self.bridges.contains(name));
        let new: Vec<_> = new.collect();
        self.bridges.extend(new);
        self.interfaces = Some(all);
    }

    /// The name of the network card of a bridge.
    pub fn port(&self, bridge: usize) -> String {
        self.ports.get(bridge).cloned().unwrap_or_else(|| format!("eth{bridge}"))
    }
}

impl Datacenter {
    /// The id of one of its VMs in the whole site: `vmid@datacenter`.
    pub fn key(&self, vmid: u32) -> String {
        format!("{vmid}@{}", self.name)
    }

    /// A VM on a node.
    pub fn vm_on(&self, host: &str, vmid: u32) -> Option<&Vm> {
        self.vms.get(&vmid).filter(|vm| vm.host == host)
    }

    /// The virtual CPUs of a VM in lists: never more than its host has, unless `vcpus` is set
    /// (qemu-server src/PVE/QemuServer.pm, `vmstatus`).
    pub fn shown_vcpus(&self, vm: &Vm) -> u32 {
        if vm.number("vcpus").is_some_and(|plugged| plugged > 0) {
            return vm.vcpus();
        }
        let there = self.hosts.get(&vm.host).map_or(u32::MAX, |host| host.cpus);
        vm.max_vcpus().min(there)
    }

    /// The error for a VM that allows more virtual CPUs than its host has CPUs: it cannot start there
    /// (qemu-server src/PVE/QemuServer.pm, `config_to_command`).
    pub fn too_many_vcpus(&self, vm: &Vm) -> Option<String> {
        let there = self.hosts.get(&vm.host)?.cpus;
        let text = || format!("MAX {there} vcpus allowed per VM on this node");
        (vm.max_vcpus() > there).then(text)
    }

    /// A volume as a node sees it.
    pub fn volume(&self, host: &str, volid: &str) -> Option<&Volume> {
        self.volumes.iter().find(|volume| volume.volid == volid && volume.seen_from(host))
    }

    /// A volume as a node sees it, mutable.
    pub fn volume_mut(&mut self, host: &str, volid: &str) -> Option<&mut Volume> {
        self.volumes.iter_mut().find(|volume| volume.volid == volid && volume.seen_from(host))
    }

    /// Bytes used on a storage, as a node sees it. Linked clones and thin disks use what was written:
    /// about a third.
    pub fn used(&self, host: &str, storage: &str) -> u64 {
        let on_it = |volume: &&Volume| volume.storage == storage && volume.seen_from(host);
        self.volumes.iter().filter(on_it).map(Volume::used).sum()
    }

    /// The path of a volume on its node, for messages.
    pub fn path(&self, storage: &str, volid: &str) -> String {
        let path = volid.split_once(':').map_or(volid, |(_, path)| path);
        let section = self.storages.get(storage);
        match section.map_or(Layout::Files, |section| Layout::of(&section.kind)) {
            Layout::Files => drive::file_path(&self.root(storage), path),
            Layout::Thin | Layout::Thick => format!("/dev/pve/{path}"),
            Layout::Tree => format!("/dev/zvol/{storage}/{path}"),
        }
    }

    /// The folder of a file-based storage.
    pub fn root(&self, storage: &str) -> String {
        match self.storages.get(storage).and_then(|section| section.path.clone()) {
            Some(path) => path,
            None if storage == "local" => "/var/lib/vz".to_owned(),
            None => format!("/mnt/pve/{storage}"),
        }
    }

    /// The pool that a VM is in.
    pub fn pool_of(&self, vmid: u32) -> Option<&str> {
        self.pools.iter().find(|(_, pool)| pool.vms.contains(&vmid)).map(|(id, _)| id.as_str())
    }

    /// A volume with this one as its base.
    pub fn child_of(&self, host: &str, volid: &str) -> Option<&Volume> {
        let base = |volume: &&Volume| volume.parent.as_deref() == Some(volid);
        self.volumes.iter().filter(|volume| volume.seen_from(host)).find(base)
    }

    /// Removes a volume.
    pub fn remove_volume(&mut self, host: &str, volid: &str) {
        self.volumes.retain(|volume| !(volume.volid == volid && volume.seen_from(host)));
    }
}

impl Vm {
    /// A VM without options.
    pub fn new(host: &str) -> Self {
        Self {
            host: host.to_owned(),
            config: BTreeMap::new(),
            pending: BTreeMap::new(),
            lock: None,
            held: false,
            running: None,
            halted: None,
            stopped: None,
            reported: None,
            snapshots: BTreeMap::new(),
            processes: Processes::default(),
        }
    }

    /// Its name, or Proxmox's placeholder if it has none.
    pub fn name(&self, vmid: u32) -> String {
        self.config.get("name").cloned().unwrap_or_else(|| format!("VM {vmid}"))
    }

    /// Whether it is a template.
    pub fn is_template(&self) -> bool {
        self.config.get("template").is_some_and(|flag| flag == "1")
    }

    /// Its drives, by option name.
    pub fn drives(&self) -> impl Iterator<Item = (&str, Drive)> {
        let drives = self.config.iter().filter(|(key, _)| drive::is_drive(key));
        drives.map(|(key, value)| (key.as_str(), Drive::parse(value)))
    }

    /// Whether it is switched on and paused.
    pub fn is_paused(&self) -> bool {
        self.running.is_some() && self.halted.as_deref() == Some("paused")
    }

    /// Applies the pending changes: the VM has stopped, or starts again. A disk removed this way
    /// becomes an unused one.
    pub fn settle(&mut self) {
        self.halted = None;
        for (option, value) in std::mem::take(&mut self.pending) {
            match value {
                Some(value) => drop(self.config.insert(option, value)),
                None => {
                    let old = self.config.remove(&option);
                    if let Some(disk) = old.filter(|_| drive::is_drive(&option)) {
                        self.keep_unused(&Drive::parse(&disk));
                    }
                }
            }
        }
    }

    /// Keeps a disk that was removed from its drive as an unused one, unless it is not the VM's own.
    pub fn keep_unused(&mut self, old: &Drive) {
        if old.is_cdrom() || old.is_cloudinit() || !old.volume.contains(':') {
            return;
        }
        let there = self.drives().any(|(_, drive)| drive.volume == old.volume)
            || self.config.iter().any(|(k, v)| k.starts_with("unused") && *v == old.volume);
        let free =
            (0..256).map(|n| format!("unused{n}")).find(|key| !self.config.contains_key(key));
        if let Some(key) = free.filter(|_| !there) {
            self.config.insert(key, old.volume.clone());
        }
    }

    /// Whether a snapshot names a volume.
    pub fn in_snapshot(&self, volid: &str) -> bool {
        let named = |value: &String| Drive::parse(value).volume == volid;
        self.snapshots.values().any(|snapshot| snapshot.config.values().any(named))
    }

    /// The digest of its configuration; a change that sends an outdated digest is refused.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.lock.as_deref().unwrap_or_default());
        for (key, value) in &self.config {
            hash.update(format!("{key}: {value}\n"));
        }
        for (key, value) in &self.pending {
            hash.update(format!("[{key}: {value:?}]\n"));
        }
        for (name, snapshot) in &self.snapshots {
            hash.update(format!("[{name}] {} {snapshot:?}\n", snapshot.time));
        }
        // As long as the real one, which is a SHA-1.
        hash.finalize().iter().take(20).map(|byte| format!("{byte:02x}")).collect()
    }

    /// `running` or `stopped`.
    pub fn status(&self) -> &'static str {
        if self.running.is_some() { "running" } else { "stopped" }
    }

    /// A whole number among its options.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.config.get(key)?.split(',').next()?.trim_start_matches("current=").parse().ok()
    }

    /// The maximum number of virtual CPUs of its sockets and cores.
    pub fn max_vcpus(&self) -> u32 {
        let number = |key: &str| self.number(key).unwrap_or(1);
        u32::try_from(number("cores").saturating_mul(number("sockets"))).unwrap_or(u32::MAX)
    }

    /// The virtual CPUs that its guest sees: `vcpus` of them are plugged in, or all.
    pub fn vcpus(&self) -> u32 {
        let plugged = self.number("vcpus").and_then(|plugged| u32::try_from(plugged).ok());
        plugged.filter(|plugged| *plugged > 0).unwrap_or_else(|| self.max_vcpus())
    }

    /// Its memory in MiB.
    pub fn memory_mib(&self) -> u64 {
        self.number("memory").unwrap_or(512)
    }

    /// Whether the guest agent's device is enabled.
    pub fn agent(&self) -> bool {
        let on = |word: &str| matches!(word, "1" | "enabled=1" | "on" | "yes" | "true");
        self.config.get("agent").is_some_and(|agent| agent.split(',').any(on))
    }

    /// The option name of the first disk in the boot order.
    pub fn boot_disk(&self) -> Option<(String, Drive)> {
        let order = self.config.get("boot").and_then(|boot| boot.strip_prefix("order="));
        let disk = |key: &str| {
            let drive = Drive::parse(self.config.get(key)?);
            (!drive.is_cdrom()).then(|| (key.to_owned(), drive))
        };
        match order {
            Some(order) => order.split(';').filter(|key| drive::is_drive(key)).find_map(disk),
            None => self.config.keys().filter(|key| drive::is_drive(key)).find_map(|key| disk(key)),
        }
    }
}
