//! Everything beyond Proxmox: guests, name servers, etcd, Kubernetes.
//!
//! The guests are state machines with a clock. Each has a queue of its next events; [`Guests::advance`]
//! takes the earliest event of all queues until none is due. Nothing here waits: the servers
//! (`network`) look at the state and do the waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::machines::Machines;
use super::site::Site;
use super::store::Store;
use super::world::{Machine, SimTime};

mod boot;
mod cloudinit;
mod commands;
mod etcd;
mod exec;
mod faults;
mod guest;
mod history;
pub(crate) mod iso;
mod kube;
mod kubeadm;
mod member;
mod membership;
mod network;
mod node;
mod pace;
mod packages;
mod pki;
mod secrets;
mod seed;
mod ssh;
mod stacked;
#[cfg(test)]
mod testing;
mod tls;
mod units;

pub use history::{Act, ClusterLine, What};
pub use network::{EtcdFiles, GuestEndpoints, connect_target, serve};
pub use pki::Pair;
pub use seed::documents as seed_documents;

use etcd::Etcd;
use guest::Guest;
use kube::Kube;

/// All guests of a site, and their network services.
///
/// The Proxmox side uses only these: [`Guests::power_on`], [`Guests::power_off`], [`Guests::media`],
/// [`Guests::destroy`], [`Guests::reacts`], [`Guests::agent`], [`Guests::hostname`],
/// [`Guests::addresses`], [`Guests::take_stopped`]. Each is answered by the scripted guest, or by the
/// [`Machines`] in its place.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Guests {
    /// The faults of guests, name servers and etcd members: (kebab-case name, target), where an empty
    /// target means all. The caller that starts the world sets them ([`Guests::set_faults`]).
    pub faults: BTreeSet<(String, String)>,
    /// Once-per-target faults that have happened.
    faults_spent: BTreeSet<(String, String)>,
    /// The Unix time, in seconds, at which the world was created.
    epoch: i64,
    /// The latest time at which a client looked.
    now: SimTime,
    net: Net,
    /// The packages in the site's cloud images ([`Site::packages`]).
    #[serde(default)]
    image: BTreeMap<String, String>,
    etcd: Option<Etcd>,
    /// By [`Machine::key`].
    #[serde(rename = "guests")]
    all: BTreeMap<String, Guest>,
    /// By id: [`kube::EXTERNAL`], or the guest on which a stacked cluster was created.
    kubes: BTreeMap<String, Kube>,
    /// The acts on clusters.
    #[serde(default)]
    history: Vec<Act>,
    /// The time of the last kubelet reports.
    #[serde(default)]
    beat: SimTime,
    /// The guest that holds each virtual address.
    vips: BTreeMap<Ipv4Addr, String>,
    /// Guests that have powered themselves off since the last call.
    stopped: Vec<String>,
    /// The real machines in place of the guests, if the caller brings them.
    #[serde(skip)]
    machines: Option<Arc<dyn Machines>>,
}

/// The site's network.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Net {
    domain: String,
    nameservers: Vec<Ipv4Addr>,
    records: Vec<(String, Ipv4Addr)>,
    api: String,
    gateway: Ipv4Addr,
}

impl Net {
    fn of(site: &Site) -> Self {
        Self {
            domain: site.domain.clone(),
            nameservers: site.nameservers.clone(),
            records: site.records.clone(),
            api: site.api.clone(),
            gateway: site.gateway,
        }
    }
}

impl Default for Net {
    fn default() -> Self {
        Self {
            domain: String::new(),
            nameservers: Vec::new(),
            records: Vec::new(),
            api: String::new(),
            gateway: Ipv4Addr::UNSPECIFIED,
        }
    }
}

impl Guests {
    /// The guests of a site, created at a Unix time in seconds ([`super::world::World::epoch`]): name
    /// servers, and an etcd with its own certificates if the site has one.
    ///
    /// # Errors
    /// If a certificate cannot be created.
    pub fn new(site: &Site, epoch: i64) -> io::Result<Self> {
        let etcd = match site.etcd.as_slice() {
            [] => None,
            members => Some(Etcd::new(members.to_vec(), epoch)?),
        };
        let image = site.packages.clone();
        Ok(Self { epoch, net: Net::of(site), image, etcd, ..Self::default() })
    }

    /// Updates the site's network: names and name servers may have been added since the world was
    /// created. Its etcd is kept.
    pub fn survey(&mut self, site: &Site) {
        self.net = Net::of(site);
        self.image.clone_from(&site.packages);
    }

    /// From now on the guests are real machines.
    pub(super) fn inhabit(&mut self, machines: Arc<dyn Machines>) {
        self.machines = Some(machines);
    }

    /// Stops the real machines, if there are any.
    pub(super) fn vacate(&mut self) {
        self.machines = None;
    }

    /// The addresses of the site's name servers.
    pub fn name_servers(&self) -> Vec<Ipv4Addr> {
        self.net.nameservers.clone()
    }

    /// The CA of the site's etcd, and a certificate and key for one member; PEM.
    ///
    /// # Errors
    /// If there is no etcd, or a certificate cannot be created.
    pub fn etcd_server(&self, member: SocketAddrV4) -> io::Result<(String, pki::Pair)> {
        let etcd = self.etcd.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let ip = member.ip().to_string();
        // All members share one machine, so another member's connection may come from any of their
        // addresses, and etcd checks the source address against the caller's certificate.
        let mut names: Vec<String> =
            etcd.members.iter().filter_map(|m| Some(m.client?.ip().to_string())).collect();
        names.extend(["localhost".to_owned(), Ipv4Addr::LOCALHOST.to_string()]);
        let pair = etcd.ca.issue(&ip, None, &names, self.unix())?;
        Ok((etcd.ca.pair.cert.clone(), pair))
    }

    /// A VM was switched on: its guest boots from its disk and reads the seed in its CD-ROM drives.
    pub fn power_on(&mut self, machine: Machine, now: SimTime, store: &Store) {
        self.now = self.now.max(now);
        if let Some(machines) = &self.machines {
            let images = machine.cdroms.iter().filter_map(|id| store.blob(id));
            let seed = images.filter_map(|image| seed_documents(&image)).next();
            return machines.power_on(&machine, seed.unwrap_or_default());
        }
        self.boot(machine, now, store);
    }

    /// A medium was inserted into a drive of a running VM, or ejected. A real machine keeps the seed
    /// that it was switched on with until the next power-on.
    pub fn media(&mut self, machine: Machine, store: &Store) {
        if self.machines.is_none() {
            self.exchange(machine, store);
        }
    }

    /// A VM was switched off. `hard`: without notifying the guest.
    pub fn power_off(&mut self, key: &str, hard: bool, now: SimTime) {
        if let Some(machines) = &self.machines {
            self.now = self.now.max(now);
            return machines.power_off(key, hard);
        }
        // Everything due until now has happened.
        self.advance(now);
        if let Some(guest) = self.all.get_mut(key) {
            guest.run = None;
        }
        self.settle();
    }

    /// Whether the guest of this VM reacts to ACPI shutdown (it exists and has booted).
    pub fn reacts(&self, key: &str, now: SimTime) -> bool {
        if let Some(machines) = &self.machines {
            return machines.runs(key);
        }
        let guest = self.all.get(key).filter(|guest| guest.machine.bootable);
        let run = guest.and_then(|guest| guest.run.as_ref());
        run.is_some_and(|run| !run.held && now >= run.since.after(pace::KERNEL))
    }

    /// A VM's disks were deleted: removes what its guest wrote.
    pub fn destroy(&mut self, key: &str) {
        if let Some(machines) = &self.machines {
            return machines.destroy(key);
        }
        self.all.remove(key);
        // Nodes and members are kept: they belong to the cluster. Without any data the cluster is gone.
        self.forget_stacked();
        self.forget_etcd();
        self.settle();
    }

    /// Whether the guest agent answers.
    pub fn agent(&self, key: &str, now: SimTime) -> bool {
        if self.machines.is_some() {
            // A real machine has no virtio port: the agent's answers come from its kernel, as soon as
            // they are available.
            return self.addresses(key, now).iter().any(|(name, ..)| name != "lo");
        }
        self.all.get(key).is_some_and(|guest| guest.active("qemu-guest-agent"))
    }

    /// A guest's host name; `None` if it is not scripted, or not known yet.
    pub fn hostname(&self, key: &str) -> Option<&str> {
        let name = self.all.get(key).map(|guest| guest.disk.hostname.as_str());
        name.filter(|name| !name.is_empty())
    }

    /// The guest's IPv4 addresses with prefix lengths, per interface, for the agent's answer.
    pub fn addresses(&self, key: &str, _now: SimTime) -> Vec<(String, Ipv4Addr, u8)> {
        if let Some(machines) = &self.machines {
            return machines.addresses(key);
        }
        let Some(guest) = self.all.get(key) else { return Vec::new() };
        if guest.run.is_none() {
            return Vec::new();
        }
        let mut addresses = vec![("lo".to_owned(), Ipv4Addr::LOCALHOST, 8)];
        if let (Some(address), Some(network)) = (guest.address(), &guest.disk.network) {
            addresses.push(("eth0".to_owned(), address, network.prefix));
        }
        let held = self.vips.iter().filter(|(_, holder)| *holder == key);
        addresses.extend(held.map(|(vip, _)| ("eth0".to_owned(), *vip, 32)));
        addresses
    }

    /// The current boot of a guest, once its sshd listens; `None` while login is impossible.
    pub(crate) fn boot_id(&self, key: &str) -> Option<String> {
        let run = self.all.get(key)?.run.as_ref()?;
        run.sshd.then(|| run.boot_id.clone())
    }

    /// VMs whose guest powered itself off and that Proxmox must report as stopped.
    pub fn take_stopped(&mut self) -> Vec<String> {
        if let Some(machines) = &self.machines {
            return machines.take_stopped();
        }
        std::mem::take(&mut self.stopped)
    }

    /// The names of the keys in the site's etcd: part of the visible state of the world.
    pub fn etcd_keys(&self) -> Vec<String> {
        self.etcd.iter().flat_map(|etcd| etcd.kv.keys().cloned()).collect()
    }

    /// A file on the guest of a VM, by the VM's name.
    pub fn file(&self, name: &str, path: &str) -> Option<String> {
        self.named(name)?.text(path).map(str::to_owned)
    }

    /// The journal of a unit on the guest of a VM, by the VM's name.
    pub fn journal(&self, name: &str, unit: &str) -> Vec<String> {
        let run = self.named(name).and_then(|guest| guest.run.as_ref());
        let unit = run.and_then(|run| run.units.get(unit));
        unit.map(|unit| unit.journal.clone()).unwrap_or_default()
    }

    fn named(&self, name: &str) -> Option<&Guest> {
        self.all.values().find(|guest| guest.machine.name == name)
    }

    /// Synchronises dependent state: etcd's members, the holders of virtual addresses.
    fn settle(&mut self) {
        self.settle_etcd();
        self.settle_stacked();
        self.elect();
    }

    /// Applies all events that are due by `now`.
    pub fn advance(&mut self, now: SimTime) {
        self.release();
        loop {
            let next = self
                .all
                .iter()
                .filter_map(|(key, guest)| Some((guest.run.as_ref()?.next()?, key)))
                .filter(|(at, _)| *at <= now)
                .min();
            let Some((at, key)) = next.map(|(at, key)| (at, key.clone())) else { break };
            self.now = self.now.max(at);
            self.heartbeat();
            let run = self.all.get_mut(&key).and_then(|guest| guest.run.as_mut());
            if let Some((at, due)) = run.and_then(|run| run.take(at)) {
                self.happen(&key, at, due);
            }
            self.settle();
        }
        if now > self.now {
            self.now = now;
        }
        self.heartbeat();
    }
}
