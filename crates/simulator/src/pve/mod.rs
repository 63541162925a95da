//! The Proxmox VE side of the simulator: the API on the wire, and its state.
//!
//! | module | contents |
//! |---|---|
//! | `state`, `volume`, `drive`, `disks`, `nic`, `access` | datacenters, hosts, VMs, volumes, users, as data |
//! | `firewall` | the firewall's files; no packet is filtered |
//! | `boot`, `cloudinit`, `crypt` | values derived from a VM's options |
//! | `task`, `work`, `pace` | operations that take time, stage by stage |
//! | `internet` | downloadable files |
//! | `wire`, `gzip`, `multipart`, `rules`, `options` | the format of requests |
//! | `apidoc` | the checker of that format, and of Proxmox's own schema if available |
//! | `calls` | the handlers of the paths |
//! | `server`, `tls`, `plain`, `requests` | HTTPS on loopback ports |

pub(crate) mod access;
pub mod apidoc;
mod body;
mod boot;
mod calls;
mod cloudinit;
mod config;
mod cpus;
mod crypt;
mod disks;
mod drive;
mod firewall;
mod gzip;
pub mod internet;
mod multipart;
mod nic;
mod options;
mod pace;
mod plain;
pub mod requests;
mod resolver;
mod rules;
pub(crate) mod server;
pub mod state;
pub mod task;
mod tls;
mod volume;
pub mod wire;
pub(crate) mod work;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use self::state::{Datacenter, Grant, Host, Storage, Token, User};
use super::site::{Site, SiteHost, Topology};
use super::store::Store;
use super::world::{SimTime, World};

/// The user of the site's initial token.
pub const OPERATOR: &str = "k8sha@pve";
/// The token's own name.
pub const TOKEN: &str = "k8sha";

/// The Proxmox VE state.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Pve {
    /// The seed of everything random.
    seed: String,
    /// The number of values drawn from the seed.
    drawn: u64,
    /// The time of the last `pvestatd` report.
    reported: SimTime,
    /// Whether `pvestatd` reports only on request: a replay knows when the recorded one did.
    #[serde(skip)]
    pub told: bool,
    /// The datacenters: one for a cluster, one for each standalone host.
    pub datacenters: Vec<Datacenter>,
}

impl Pve {
    /// The initial Proxmox hosts of a site. `seed` generates its secrets.
    ///
    /// # Errors
    /// If the certificates cannot be created.
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

    /// The datacenter of a host, by its index in the list.
    pub fn home(&self, host: &str) -> Option<usize> {
        self.datacenters.iter().position(|dc| dc.hosts.contains_key(host))
    }

    /// The id of a VM in the whole site: `vmid@datacenter`.
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

    /// A password as the configuration stores it: hashed, unless it is a hash already.
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

    /// Switches a host on or off, like pulling its plug.
    pub fn set_online(&mut self, host: &str, online: bool) {
        for dc in &mut self.datacenters {
            if let Some(host) = dc.hosts.get_mut(host) {
                host.online = online;
            }
        }
    }

    /// Locks the VMs with these names or VMIDs as an interrupted clone leaves them; those locked so by
    /// an earlier start are unlocked.
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

    /// `pvestatd` reports the state of every VM.
    pub fn report(&mut self) {
        for vm in self.datacenters.iter_mut().flat_map(|dc| dc.vms.values_mut()) {
            vm.reported = Some(vm.status().to_owned());
        }
    }

    /// Runs every task's stage that is due by `now`.
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

    /// The state visible to users, without the history of tasks, the clock, and the random values of
    /// each VM: equal for two worlds that look the same to a user.
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
