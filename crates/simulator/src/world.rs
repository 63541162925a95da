//! The simulated world's state, its clock, and the shared access to both.
//!
//! The state is plain data. Anything that takes time (a task, a boot, a `kubeadm init`) is stored with
//! its end time and takes effect when a client looks after that time ([`World::advance`]). So a world
//! saved in the middle of something resumes where it stopped, and the same requests at the same times
//! give the same world.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock::Clock;
pub use super::clock::SimTime;
use super::faults::{FaultKind, Faults};
use super::guests::Guests;
use super::pve::Pve;
use super::site::Site;
use super::store::Store;

/// The real time after which a world that is only read is saved again.
const KEEP_AFTER: Duration = Duration::from_millis(250);

/// The whole simulated state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct World {
    /// The description of the site.
    pub site: Site,
    /// The Unix time, in seconds, at which the world was created: the initial time of its machines'
    /// clocks.
    pub epoch: i64,
    /// The latest time at which a client looked.
    pub now: SimTime,
    /// When it was last saved.
    #[serde(skip)]
    pub kept: SimTime,
    /// The Proxmox VE side: hosts, VMs, storages, users, tasks.
    pub pve: Pve,
    /// Everything outside Proxmox: guests, name servers, etcd, Kubernetes.
    #[serde(rename = "lab")]
    pub guests: Guests,
    /// The armed faults. They belong to one start of the simulator.
    #[serde(default)]
    pub faults: Faults,
    /// Whether its machines are not the scripted guests ([`super::machines`]).
    #[serde(default, rename = "containers")]
    pub machines: bool,
}

/// Shared access to a world: every server of the simulator holds a copy of it.
#[derive(Clone)]
pub struct Shared {
    world: Arc<Mutex<World>>,
    /// The world's clock.
    pub clock: Clock,
    /// The store of the world and its large objects.
    pub store: Arc<Store>,
}

impl Shared {
    /// Creates shared access to a world.
    pub fn new(world: World, clock: Clock, store: Store) -> Self {
        Self { world: Arc::new(Mutex::new(world)), clock, store: Arc::new(store) }
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        // A panic in one request must not block the others.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the current world.
    pub fn look<R>(&self, look: impl FnOnce(&World) -> R) -> R {
        let mut world = self.lock();
        let now = self.clock.now();
        world.advance(now, &self.store);
        // After a kill the saved world must not be much older than what clients have seen.
        let unkept = now.seconds() - world.kept.seconds();
        if self.clock.real(unkept) > KEEP_AFTER {
            world.kept = now;
            self.store.save(&world);
        }
        look(&world)
    }

    /// Applies everything that is due. It is not saved: no client has seen it yet.
    pub fn pass(&self) {
        self.lock().advance(self.clock.now(), &self.store);
    }

    /// Triggers a one-shot fault, if it is armed for this target ([`Faults::take`]).
    pub fn takes(&self, kind: FaultKind, target: &str) -> bool {
        // A world without the fault is not saved for this check.
        self.look(|world| world.faults.active(kind, target))
            && self.act(|world, _| world.faults.take(kind, target))
    }

    /// Changes the world and saves it before the caller gets an answer.
    pub fn act<R>(&self, act: impl FnOnce(&mut World, &Store) -> R) -> R {
        let mut world = self.lock();
        let now = self.clock.now();
        world.advance(now, &self.store);
        let result = act(&mut world, &self.store);
        world.kept = now;
        self.store.save(&world);
        result
    }
}

impl World {
    /// Whether a Proxmox VE host is switched on.
    pub fn is_online(&self, host: &str) -> bool {
        let dc = self.pve.home(host).map(|dc| &self.pve.datacenters[dc]);
        let on = dc.and_then(|dc| dc.hosts.get(host)).is_some_and(|host| host.online);
        on && !self.faults.active(FaultKind::HostDown, host)
    }

    /// Whether a Proxmox VE host may write: its cluster has more than half of its members.
    pub fn is_quorate(&self, host: &str) -> bool {
        if self.faults.active(FaultKind::NoQuorum, host) {
            return false;
        }
        let Some(dc) = self.pve.home(host).map(|dc| &self.pve.datacenters[dc]) else { return true };
        let down = dc.hosts.keys().filter(|host| self.faults.active(FaultKind::HostDown, host));
        !dc.clustered || down.count() * 2 < dc.hosts.len()
    }

    /// Applies everything that is due by `now`.
    pub fn advance(&mut self, now: SimTime, store: &Store) {
        if now > self.now {
            self.now = now;
        }
        let now = self.now;
        // Tasks first: a VM that a task starts boots from the end of that task.
        Pve::advance(self, now, store);
        self.guests.advance(now);
    }

    /// The Unix time, in seconds, on the clocks of the world's machines.
    pub fn unix(&self) -> i64 {
        self.epoch + (self.now.0 / 1000) as i64
    }
}

/// The hardware that a VM presents to a guest when it is switched on. Created by the Proxmox side, used
/// by the guests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Identifies the VM in the whole site: `vmid@datacenter`.
    pub key: String,
    /// The VMID.
    pub vmid: u32,
    /// Its Proxmox node, such as `pve1`.
    pub host: String,
    /// The VM's name in Proxmox.
    pub name: String,
    /// Virtual CPUs.
    pub vcpu: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The boot disk's size in GiB; `None` if there is no disk to boot from.
    pub disk_gib: Option<f64>,
    /// Whether the boot disk holds an operating system (it comes from an imported image).
    pub bootable: bool,
    /// Network cards: (MAC address, bridge, VLAN tag).
    pub nics: Vec<(String, String, Option<u16>)>,
    /// The blob ids ([`Store::blob`]) of the ISO images in its CD-ROM drives, in the order in which the
    /// guest finds them.
    pub cdroms: Vec<String>,
    /// The documents of the drive that Proxmox VE generates for cloud-init, if there is one, and how
    /// many of `cdroms` the guest finds before it.
    #[serde(default)]
    pub cloudinit: Option<(usize, BTreeMap<String, String>)>,
    /// The UUID in its firmware (`smbios1`).
    #[serde(default)]
    pub uuid: String,
    /// Whether the guest agent's device is present.
    pub agent: bool,
}

/// A folder for a world, or `None` for a world in memory.
pub type Folder = Option<PathBuf>;
