//! Inspects a world stored in a folder, from outside: for tests and debugging.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

pub use super::guests::{Act, ClusterLine, What};
use super::store::Store;
use super::world::World;

/// A summary of a VM.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VmLine {
    /// Its node.
    pub host: String,
    /// Its VMID.
    pub vmid: u32,
    /// Its name.
    pub name: String,
    /// Whether it is switched on.
    pub running: bool,
    /// Whether it is a template.
    pub template: bool,
}

/// Reads a world without changing anything, even while it is served.
///
/// # Errors
/// If the folder has no world.
pub fn open(folder: &Path) -> io::Result<World> {
    let store = Store::open(Some(folder.to_owned()))?;
    store.load()?.ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("no world in `{}`", folder.display()))
    })
}

/// Lets time pass in a stored world, as if no client had looked at it for so long.
///
/// # Errors
/// If the folder has no world, is in use, or cannot be written.
pub fn pass(folder: &Path, seconds: f64) -> io::Result<()> {
    let store = Store::open(Some(folder.to_owned()))?;
    let _claim = store.claim()?;
    let mut world = open(folder)?;
    let then = world.now.after(seconds);
    world.advance(then, &store);
    store.save(&world);
    store.failure().map_or(Ok(()), |text| Err(io::Error::other(text)))
}

/// Deletes a Node object in a stored world, as a user with `kubectl` does: no machine is notified.
/// Returns whether there was one.
///
/// # Errors
/// If the folder has no world, is in use, or cannot be written.
pub fn delete_node(folder: &Path, name: &str) -> io::Result<bool> {
    let store = Store::open(Some(folder.to_owned()))?;
    let _claim = store.claim()?;
    let mut world = open(folder)?;
    let was_there = world.guests.delete_node(name);
    store.save(&world);
    store.failure().map_or(Ok(was_there), |text| Err(io::Error::other(text)))
}

/// Removes the member with this address from an etcd on masters, as a user with `etcdctl` does. Returns
/// whether there was one.
///
/// # Errors
/// If the folder has no world, is in use, or cannot be written.
pub fn remove_member(folder: &Path, address: Ipv4Addr) -> io::Result<bool> {
    let store = Store::open(Some(folder.to_owned()))?;
    let _claim = store.claim()?;
    let mut world = open(folder)?;
    let was_there = world.guests.remove_member_at(address);
    store.save(&world);
    store.failure().map_or(Ok(was_there), |text| Err(io::Error::other(text)))
}

/// The objects stored by `kubectl apply` in the clusters, by `kind/name` in lower case.
pub fn applied(world: &World) -> BTreeMap<String, Value> {
    world.guests.applied()
}

/// A file on the guest of a VM, by the VM's name.
pub fn file(world: &World, name: &str, path: &str) -> Option<String> {
    world.guests.file(name, path)
}

/// The output of `journalctl -u` for a unit on the guest of a VM, by the VM's name.
pub fn journal(world: &World, name: &str, unit: &str) -> Vec<String> {
    world.guests.journal(name, unit)
}

/// The irreversible acts on clusters, oldest first: each `kubeadm init` and `reset`, each cluster CA,
/// each removed Node and member.
pub fn history(world: &World) -> Vec<Act> {
    world.guests.history().to_vec()
}

/// The Kubernetes clusters that still have data.
pub fn clusters(world: &World) -> Vec<ClusterLine> {
    world.guests.clusters()
}

/// The addresses that more than one running guest has, with the names of their VMs.
pub fn conflicts(world: &World) -> BTreeMap<Ipv4Addr, Vec<String>> {
    world.guests.conflicts()
}

/// SHA-256, in hex, over everything that users of a world can see; see [`super::Sim::digest`].
pub fn digest(world: &World) -> String {
    let state = (world.pve.visible(), world.guests.etcd_keys());
    let text = serde_json::to_string(&state).unwrap_or_default();
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The VMs, templates included, by host and VMID.
pub fn vms(world: &World) -> Vec<VmLine> {
    let mut lines: Vec<VmLine> = world
        .pve
        .datacenters
        .iter()
        .flat_map(|datacenter| &datacenter.vms)
        .map(|(vmid, vm)| VmLine {
            host: vm.host.clone(),
            vmid: *vmid,
            name: vm.config.get("name").cloned().unwrap_or_default(),
            running: vm.running.is_some(),
            template: vm.config.get("template").is_some_and(|value| value == "1"),
        })
        .collect();
    lines.sort();
    lines
}

/// A VM's configuration, as Proxmox prints it.
pub fn config(world: &World, host: &str, vmid: u32) -> Option<BTreeMap<String, String>> {
    let mut all = world.pve.datacenters.iter().filter_map(|datacenter| datacenter.vms.get(&vmid));
    all.find(|vm| vm.host == host).map(|vm| vm.config.clone())
}

/// The ids of all volumes on all storages, disks and files alike.
pub fn volumes(world: &World) -> BTreeSet<String> {
    let volumes = world.pve.datacenters.iter().flat_map(|datacenter| &datacenter.volumes);
    volumes.map(|volume| volume.volid.clone()).collect()
}

/// All secrets in the world's guest files and user tokens: no log, report or plan may show them.
pub fn secrets(world: &World) -> BTreeSet<String> {
    let tokens = world.pve.datacenters.iter().flat_map(|datacenter| datacenter.users.values());
    let tokens = tokens.flat_map(|user| user.tokens.values().map(|token| token.secret.clone()));
    tokens.chain(world.guests.secrets()).filter(|secret| !secret.is_empty()).collect()
}
