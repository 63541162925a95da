//! The Proxmox VE side of the simulator: the API at the wire, and the state behind it.
//!
//! | part | what it knows |
//! |---|---|
//! | [`state`], [`volume`], [`drive`], [`disks`], [`nic`], [`access`] | datacenters, hosts, VMs, volumes, users, as data |
//! | [`firewall`] | the firewall's files, which no packet meets |
//! | [`boot`], [`cloudinit`], [`crypt`] | what follows from a VM's options |
//! | [`task`], [`work`], [`pace`] | what takes time, stage by stage |
//! | [`internet`] | what can be downloaded |
//! | [`wire`], `gzip`, [`multipart`], [`rules`], [`options`] | what requests may look like |
//! | [`apidoc`] | the checker of that, and of Proxmox's own schema where it is at hand |
//! | [`calls`] | which path does what |
//! | [`server`], [`tls`], `plain`, [`requests`] | HTTPS on loopback ports |

pub mod access;
pub mod apidoc;
mod body;
pub mod boot;
pub mod calls;
pub mod cloudinit;
pub mod config;
mod cpus;
pub mod crypt;
pub mod disks;
pub mod drive;
pub mod firewall;
mod gzip;
pub mod internet;
pub mod multipart;
pub mod nic;
pub mod options;
pub mod pace;
mod plain;
pub mod requests;
pub mod resolver;
pub mod rules;
pub mod server;
pub mod state;
pub mod task;
pub mod tls;
pub mod volume;
pub mod wire;
pub mod work;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use self::state::{Datacenter, Grant, Host, Storage, Token, User};
use super::site::{Site, SiteHost, Topology};
use super::store::Store;
use super::world::{SimTime, World};

/// The user whose token the site starts with.
pub const OPERATOR: &str = "k8sha@pve";
/// The token's own name.
pub const TOKEN: &str = "k8sha";

/// The Proxmox VE state.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Pve {
    /// What everything random is drawn from.
    seed: String,
    /// How often it was drawn from.
    drawn: u64,
    /// The instant at which `pvestatd` last reported.
    reported: SimTime,
    /// Whether `pvestatd` reports when it is told to alone: who plays a recording again knows when the
    /// recorded one did.
    #[serde(skip)]
    pub told: bool,
    /// The datacenters: one for a cluster, one for each standalone host.
    pub datacenters: Vec<Datacenter>,
}

impl Pve {
    /// What a site's Proxmox hosts are before anybody acts on them. `seed` makes its secrets.
    ///
    /// # Errors
    /// When the certificates cannot be made.
    pub fn new(site: &Site, epoch: i64, seed: &str) -> Result<Self, rcgen::Error> {
        let mut pve = Pve { seed: seed.to_owned(), ..Pve::default() };
        match site.topology {
            Topology::Cluster => {
                pve.found(&site.cluster, true, &site.hosts, &site.domain, epoch)?
            }
            Topology::Standalone => {
                for host in &site.hosts {
                    let alone = std::slice::from_ref(host);
                    pve.found(&host.name, false, alone, &site.domain, epoch)?;
                }
            }
        }
        for dc in &mut pve.datacenters {
            dc.pools.extend(site.pools.iter().map(|id| (id.clone(), state::Pool::default())));
        }
        Ok(pve)
    }

    fn found(
        &mut self,
        name: &str,
        clustered: bool,
        hosts: &[SiteHost],
        domain: &str,
        epoch: i64,
    ) -> Result<(), rcgen::Error> {
        let authority = tls::Authority::new(&self.new_uuid(), epoch)?;
        let mut dc = Datacenter {
            name: name.to_owned(),
            clustered,
            hosts: BTreeMap::new(),
            storages: BTreeMap::new(),
            volumes: Vec::new(),
            vms: BTreeMap::new(),
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
            acl: Vec::new(),
            pools: BTreeMap::new(),
            tasks: Vec::new(),
            locks: Vec::new(),
            ca: authority.pair.clone(),
            firewalls: BTreeMap::new(),
            options: BTreeMap::new(),
            ticket_key: self.random(),
        };
        for (number, host) in (1..).zip(hosts) {
            let pair = authority.leaf(&host.name, domain, epoch)?;
            let made = Host {
                number,
                resolver: None,
                interfaces: None,
                new_interfaces: None,
                online: true,
                bridges: host.bridges.clone(),
                ports: host.ports.clone(),
                memory_mib: host.memory_mib,
                cpus: host.cpus,
                pair,
                next_pid: 0x400,
            };
            dc.hosts.insert(host.name.clone(), made);
            for storage in &host.storages {
                let section = dc.storages.entry(storage.name.clone()).or_insert_with(|| Storage {
                    kind: storage.kind.clone(),
                    content: storage.content.clone(),
                    path: None,
                    prune: (storage.name == "local" && storage.kind == "dir")
                        .then(|| "keep-all=1".to_owned()),
                    shared: storage.shared,
                    disabled: false,
                    size: BTreeMap::new(),
                });
                section.size.insert(host.name.clone(), storage.size_gib << 30);
            }
        }
        let root = User { enable: true, password: Some(self.new_uuid()), ..User::default() };
        let token = Token { secret: self.new_uuid(), privsep: false, expire: 0, comment: None };
        let operator = User {
            enable: true,
            comment: Some("k8sha".to_owned()),
            tokens: BTreeMap::from([(TOKEN.to_owned(), token)]),
            ..User::default()
        };
        dc.users.insert("root@pam".to_owned(), root);
        dc.users.insert(OPERATOR.to_owned(), operator);
        dc.acl.push(Grant {
            path: "/".to_owned(),
            who: OPERATOR.to_owned(),
            role: "Administrator".to_owned(),
            propagate: true,
        });
        self.datacenters.push(dc);
        Ok(())
    }

    /// The datacenter of a host, by its place in the list.
    pub fn home(&self, host: &str) -> Option<usize> {
        self.datacenters.iter().position(|dc| dc.hosts.contains_key(host))
    }

    /// What identifies a VM in the whole site: `vmid@datacenter`.
    pub fn key(&self, dc: usize, vmid: u32) -> String {
        self.datacenters[dc].key(vmid)
    }

    /// Sixty-four hex digits that were never used before.
    fn random(&mut self) -> String {
        self.drawn += 1;
        let digest = Sha256::digest(format!("{}:{}", self.seed, self.drawn));
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A new MAC address with Proxmox's prefix.
    pub fn new_mac(&mut self) -> String {
        let hex = self.random().to_uppercase();
        format!("BC:24:11:{}:{}:{}", &hex[0..2], &hex[2..4], &hex[4..6])
    }

    /// A password as the configuration keeps it: hashed, unless it is a hash already.
    pub fn hashed(&mut self, password: &str) -> String {
        if crypt::is_hashed(password) {
            return password.to_owned();
        }
        let salt = self.random();
        crypt::sha256(password, &salt[..8])
    }

    /// A new UUID (version 4).
    pub fn new_uuid(&mut self) -> String {
        let hex = self.random();
        let parts = [&hex[0..8], &hex[8..12], &hex[12..15], &hex[15..18], &hex[18..30]];
        let [a, b, c, d, e] = parts;
        format!("{a}-{b}-4{c}-a{d}-{e}")
    }

    /// Switches a host on or off, as if its plug was pulled.
    pub fn set_online(&mut self, host: &str, online: bool) {
        for dc in &mut self.datacenters {
            if let Some(host) = dc.hosts.get_mut(host) {
                host.online = online;
            }
        }
    }

    /// Locks the VMs of these names or VMIDs as a clone that was cut off leaves them; what an earlier
    /// start held so is free again.
    pub fn hold(&mut self, targets: &[&str]) {
        for (vmid, vm) in self.datacenters.iter_mut().flat_map(|dc| dc.vms.iter_mut()) {
            if std::mem::take(&mut vm.held) {
                vm.lock = None;
            }
            let named = |target: &&str| {
                vm.config.get("name").is_some_and(|name| name == target)
                    || vmid.to_string() == **target
            };
            if vm.lock.is_none() && targets.iter().any(named) {
                vm.lock = Some("clone".to_owned());
                vm.held = true;
            }
        }
    }

    /// `pvestatd` reports what every VM does.
    pub fn report(&mut self) {
        for vm in self.datacenters.iter_mut().flat_map(|dc| dc.vms.values_mut()) {
            vm.reported = Some(vm.status().to_owned());
        }
    }

    /// Lets every task's stage that is due by `now` take effect.
    pub fn advance(world: &mut World, now: SimTime, store: &Store) {
        for key in world.guests.take_stopped() {
            for dc in &mut world.pve.datacenters {
                let vmid = key.split_once('@').filter(|(_, name)| *name == dc.name);
                let vmid = vmid.and_then(|(vmid, _)| vmid.parse().ok());
                if let Some(vm) = vmid.and_then(|vmid: u32| dc.vms.get_mut(&vmid)) {
                    vm.running = None;
                    vm.stopped = Some(now);
                    vm.settle();
                }
            }
        }
        let period = (pace::REPORT_EVERY * 1000.0) as u64;
        let report = SimTime(now.0 / period * period);
        if report > world.pve.reported && !world.pve.told {
            work::run_until(world, report, store);
            world.pve.reported = report;
            world.pve.report();
        }
        work::run_until(world, now, store);
    }

    /// What users can see, without the history of tasks, the clock, and what is drawn at random
    /// for each VM: two worlds that are the same to a user give the same.
    pub fn visible(&self) -> serde_json::Value {
        self.datacenters.iter().map(Datacenter::visible).collect()
    }
}

impl Datacenter {
    fn visible(&self) -> serde_json::Value {
        let vm = |(vmid, vm): (&u32, &state::Vm)| {
            let mut config = vm.config.clone();
            config.retain(|key, _| !["smbios1", "vmgenid", "meta"].contains(&key.as_str()));
            for (_, net) in config.iter_mut().filter(|(key, _)| nic::is_net(key)) {
                *net = nic::with_mac(net, "-");
            }
            let shown = json!({"host": vm.host, "config": config, "pending": vm.pending,
                               "lock": vm.lock, "status": vm.status(),
                               "snapshots": vm.snapshots.keys().collect::<Vec<_>>()});
            (*vmid, shown)
        };
        let vms: BTreeMap<_, _> = self.vms.iter().map(vm).collect();
        let volumes: BTreeSet<_> = self
            .volumes
            .iter()
            .map(|volume| {
                (&volume.volid, &volume.host, &volume.content, volume.size, &volume.sha256)
            })
            .collect();
        let users: BTreeMap<_, Vec<_>> =
            self.users.iter().map(|(name, user)| (name, user.tokens.keys().collect())).collect();
        let resolvers: BTreeMap<_, _> =
            self.hosts.iter().map(|(name, host)| (name, &host.resolver)).collect();
        let networks: BTreeMap<_, _> = self
            .hosts
            .iter()
            .map(|(name, host)| (name, (&host.bridges, &host.interfaces, &host.new_interfaces)))
            .collect();
        json!({
            "name": self.name, "vms": vms, "volumes": volumes, "pools": self.pools,
            "users": users, "roles": self.roles, "acl": self.acl, "storages": self.storages, "firewalls": self.firewalls,
            "options": self.options, "resolvers": resolvers,
            "networks": networks,
        })
    }
}

impl Host {
    /// The process id for a new task.
    pub fn take_pid(&mut self) -> u32 {
        self.next_pid += 1;
        self.next_pid
    }
}
