//! Maps path and method to handler, parameters and required privileges.
//!
//! The table was written from Proxmox VE's public API description, not from the requests of k8sha's
//! client: a client that calls a wrong path must fail here.

mod accounts;
mod agent;
mod cluster;
mod console;
mod copy;
mod datacenter;
mod firewall;
mod ha;
mod host;
mod imports;
mod indexes;
mod ipsets;
mod membership;
mod migrate;
mod network;
mod nodes;
mod password;
mod pools;
mod power;
mod roles;
mod sections;
mod snapshots;
mod storages;
mod tasks;
mod vms;

pub use migrate::local_disks;
pub use nodes::address;
pub use snapshots::can_snapshot;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::access::Caller;
use super::config::require;
use super::multipart::Sent;
use super::rules;
use super::state::{Datacenter, Host};
use super::task::Task;
use super::wire::{Answer, Body, Failure, Params};
use super::work::Work;
use crate::store::Store;
use crate::world::{SimTime, World};

/// A parsed request: the caller, the node and the parameters.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The caller.
    pub caller: Caller,
    /// The datacenter's index in the list.
    pub dc: usize,
    /// The contacted node.
    pub via: String,
    /// The node in the path, or the contacted one.
    pub node: String,
    /// The parameters, including those of the path.
    pub params: Params,
    /// When the handler was first called.
    pub first: SimTime,
    /// Whether the handler had to wait and is called again.
    pub again: bool,
    /// The file of an upload.
    pub sent: Option<Sent>,
}

/// A call of the API.
pub struct Call {
    /// The method.
    pub method: &'static str,
    /// The path, with `{names}` for its parameters.
    pub path: &'static str,
    /// The required permission.
    pub permit: Permit,
    /// Its handler.
    pub run: Run,
}

/// The permission that a call requires.
#[derive(Clone, Copy)]
pub enum Permit {
    /// None: no login is required.
    Anyone,
    /// Any user; the handler filters or checks.
    User,
    /// One of the privileges at the path.
    One(&'static str, &'static [&'static str]),
    /// As the function decides.
    Check(fn(&World, &Ask) -> Result<(), Failure>),
}

/// A handler.
#[derive(Clone, Copy)]
pub enum Run {
    /// It only reads.
    Read(fn(&World, &Ask) -> Answer),
    /// It returns a part of a list, and the total number.
    List(fn(&World, &Ask) -> Result<Body, Failure>),
    /// It lists the parts of a path, under this key; without a key an empty list.
    Index(&'static str, &'static [&'static str]),
    /// It changes the world.
    Write(fn(&mut World, &Store, &Ask) -> Answer),
}

const TABLES: [&[Call]; 25] = [
    accounts::CALLS,
    agent::CALLS,
    cluster::CALLS,
    console::CALLS,
    copy::CALLS,
    datacenter::CALLS,
    firewall::CALLS,
    ha::CALLS,
    host::CALLS,
    imports::CALLS,
    indexes::CALLS,
    ipsets::CALLS,
    membership::CALLS,
    migrate::CALLS,
    network::CALLS,
    nodes::CALLS,
    password::CALLS,
    pools::CALLS,
    power::CALLS,
    roles::CALLS,
    sections::CALLS,
    snapshots::CALLS,
    storages::CALLS,
    tasks::CALLS,
    vms::CALLS,
];

/// Finds a call, and adds the parameters of its path to `params`.
pub fn find(method: &str, path: &str, params: &mut Params) -> Option<&'static Call> {
    // The whole path is decoded before it is split: a `%2F` is a slash.
    let path = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
    let calls = TABLES.iter().flat_map(|table| table.iter());
    for call in calls.filter(|call| call.method == method) {
        if let Some(found) = matches(call.path, &path) {
            for (name, value) in found {
                params.set(name, &value);
            }
            return Some(call);
        }
    }
    None
}

fn matches(pattern: &'static str, path: &str) -> Option<Vec<(&'static str, String)>> {
    let mut found = Vec::new();
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    for piece in pattern.split('/').filter(|piece| !piece.is_empty()) {
        let name = piece.strip_prefix('{').and_then(|piece| piece.strip_suffix('}'));
        match name {
            // A volume's name and a network may contain slashes, and are always last.
            Some(name @ ("volume" | "cidr")) => {
                let rest: Vec<_> = parts.by_ref().map(str::to_owned).collect();
                if rest.is_empty() {
                    return None;
                }
                found.push((name, rest.join("/")));
            }
            Some(name) => {
                let value = parts.next()?.to_owned();
                if name == "tokenid" && !is_token_id(&value) {
                    return None;
                }
                found.push((name, value));
            }
            None if parts.next()? == piece => {}
            None => return None,
        }
    }
    parts.next().is_none().then_some(found)
}

/// An invalid token name does not match a path either.
fn is_token_id(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    text.len() > 1 && text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(good)
}

impl Call {
    /// Checks the caller's permission.
    ///
    /// # Errors
    /// 403.
    pub fn permit(&self, world: &World, ask: &Ask) -> Result<(), Failure> {
        match self.permit {
            Permit::Anyone | Permit::User => Ok(()),
            Permit::One(path, privileges) => ask.require(world, &ask.fill(path), privileges),
            Permit::Check(check) => check(world, ask),
        }
    }

    /// Checks the parameters.
    ///
    /// # Errors
    /// 400.
    pub fn check(&self, ask: &mut Ask) -> Result<(), Failure> {
        rules::check(self.method, self.path, &mut ask.params)?;
        let named = ROOT_ONLY.iter().filter(|(end, _)| self.path.ends_with(end));
        let mut names = named.flat_map(|(_, names)| names.iter()).filter(|_| !ask.caller.is_root());
        match names.find(|name| ask.params.text(name).is_some_and(|text| !matches!(text, "" | "0")))
        {
            Some(name) => Err(Failure::parameter(name, "Only root may use this option.")),
            None => Ok(()),
        }
    }
}

impl Ask {
    /// The datacenter, mutable.
    pub fn dc<'a>(&self, world: &'a World) -> &'a Datacenter {
        &world.pve.datacenters[self.dc]
    }

    /// The VMID in the path.
    pub fn dc_mut<'a>(&self, world: &'a mut World) -> &'a mut Datacenter {
        &mut world.pve.datacenters[self.dc]
    }

    /// A text parameter; empty if absent.
    pub fn vmid(&self) -> u32 {
        self.params.vmid("vmid").unwrap_or_default()
    }

    /// A text parameter; empty when it is not there.
    pub fn text(&self, name: &str) -> &str {
        self.params.text(name).unwrap_or_default()
    }

    /// Whether the caller has one of these privileges at a path.
    pub fn may(&self, world: &World, path: &str, privileges: &[&str]) -> bool {
        super::access::any(self.dc(world), &self.caller, path, privileges)
    }

    /// Checks that the caller has one of these privileges at a path.
    ///
    /// # Errors
    /// 403.
    pub fn require(&self, world: &World, path: &str, privileges: &[&str]) -> Result<(), Failure> {
        require(self.dc(world), &self.caller, path, privileges)
    }

    /// Checks that the cluster has quorum.
    ///
    /// # Errors
    /// 500 in the words of pve-cluster src/PVE/Cluster.pm.
    pub fn quorum(&self, world: &World) -> Result<(), Failure> {
        if !world.is_quorate(&self.via) || !world.is_quorate(&self.node) {
            return Err(Failure::die("cluster not ready - no quorum?"));
        }
        Ok(())
    }

    /// Checks that a shared file of the cluster can be written.
    ///
    /// # Errors
    /// 500, after the lock timeout.
    pub fn can_write(&self, world: &World, file: &str) -> Result<(), Failure> {
        self.can_lock(world, &format!("file-{file}"))
    }

    /// Checks that a lock of the cluster can be acquired.
    ///
    /// # Errors
    /// 500, after the lock timeout.
    pub fn can_lock(&self, world: &World, name: &str) -> Result<(), Failure> {
        let text = format!("cfs-lock '{name}' error: no quorum!");
        let late = Failure::Late(super::pace::QUORUM_WAIT, Box::new(Failure::Die(text)));
        self.quorum(world).map_err(|_| late)
    }

    /// Starts a task on the node in the path, and answers with its UPID.
    pub fn spawn(&self, world: &mut World, kind: &str, id: &str, work: Work) -> Answer {
        self.quorum(world)?;
        Ok(self.spawn_on(world, &self.node, kind, id, work))
    }

    /// Starts a task on a node.
    pub fn spawn_on(
        &self,
        world: &mut World,
        host: &str,
        kind: &str,
        id: &str,
        work: Work,
    ) -> Value {
        let begin = (world.now, world.unix());
        let dc = self.dc_mut(world);
        let pid = dc.hosts.get_mut(host).map_or(0, Host::take_pid);
        let task = Task::new(host, kind, id, &self.caller, pid, begin, work);
        let upid = json!(task.upid);
        // Proxmox forgets old tasks too.
        if dc.tasks.len() >= TASKS_KEPT
            && let Some(old) = dc.tasks.iter().position(|task| task.next.is_none())
        {
            dc.tasks.remove(old);
        }
        dc.tasks.push(task);
        upid
    }

    fn fill(&self, path: &str) -> String {
        let parts = path.split('/').map(|part| {
            let name = part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
            name.map_or(part, |name| self.text(name)).to_owned()
        });
        parts.collect::<Vec<_>>().join("/")
    }
}

/// Parameters that only `root@pam` itself may use, by the suffix of the path.
const ROOT_ONLY: [(&str, &[&str]); 6] = [
    ("", &["skiplock"]),
    ("/migrate", &["force", "migration_network", "migration_type"]),
    (
        "/status/start",
        &[
            "force-cpu",
            "migratedfrom",
            "migration_network",
            "migration_type",
            "stateuri",
            "targetstorage",
        ],
    ),
    ("/status/stop", &["keepActive", "migratedfrom"]),
    ("/status/shutdown", &["keepActive"]),
    ("/status/resume", &["nocheck"]),
];

/// As long as a SHA-1, which it is on the real host.
pub fn digest_of(text: &str) -> String {
    Sha256::digest(text).iter().take(20).map(|byte| format!("{byte:02x}")).collect()
}

/// The number of tasks that a datacenter remembers.
const TASKS_KEPT: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_matched_completely_and_decoded() {
        let mut params = Params::default();
        let call =
            find("DELETE", "/nodes/pve1/storage/local/content/local%3Aiso%2Fa.iso", &mut params);
        assert!(call.is_some());
        assert_eq!(params.text("volume"), Some("local:iso/a.iso"));
        let mut params = Params::default();
        assert!(
            find("DELETE", "/nodes/pve1/storage/local/content/iso/a.iso", &mut params).is_some()
        );
        assert_eq!(params.text("volume"), Some("iso/a.iso"));
        assert!(find("POST", "/version", &mut params).is_none());
        assert!(find("GET", "/nodes/pve1/qemu/100/config/more", &mut params).is_none());
    }

    #[test]
    fn every_call_has_rules() {
        let calls = TABLES.iter().flat_map(|table| table.iter());
        let lost: Vec<_> = calls
            .map(|call| (call.method, call.path))
            .filter(|(method, path)| !rules::knows(method, path))
            .collect();
        assert_eq!(lost, []);
    }

    #[test]
    fn no_two_calls_have_the_same_method_and_path() {
        let mut all: Vec<_> =
            TABLES.iter().flat_map(|t| t.iter()).map(|c| (c.method, c.path)).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
