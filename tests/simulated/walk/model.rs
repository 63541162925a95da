//! The walk's own model of a profile and of the matching world, written without the program's
//! comparison.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use k8sha_simulator::inspect::ClusterLine;
use k8sha_simulator::pve::state::Vm;

/// A row of `nodes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub role: &'static str,
    pub name: String,
    /// The last number of the address.
    pub ip: u32,
    pub ram: u32,
    pub vcpu: u32,
    pub disk: u32,
    pub pve: &'static str,
    pub vmid: u32,
}

/// A profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub external: bool,
    /// The settings that are fixed for the whole cluster, by name.
    pub settings: BTreeMap<&'static str, String>,
    pub user: String,
    /// The type of every VM's CPU.
    pub cpu: String,
    /// The VLAN of every card.
    pub vlan: Option<u16>,
    /// The pool of every VM.
    pub pool: Option<&'static str>,
    pub rows: Vec<Row>,
}

/// The state of a VM at its creation.
#[derive(Clone, Debug)]
pub struct Made {
    pub row: Row,
    pub user: String,
    pub domain: String,
    pub vlan: Option<u16>,
    /// The address of its card, by which its guest matches it; known once its creation has succeeded.
    pub mac: Option<String>,
}

/// The walk's knowledge of a world besides the profile.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The settings when the cluster was initialised.
    pub init: BTreeMap<&'static str, String>,
    /// The VMs that the program created, by VMID.
    pub made: BTreeMap<u32, Made>,
    /// The nodes whose machines were destroyed and that have not joined again.
    pub lost: BTreeSet<String>,
    /// The nodes whose Node objects were deleted by hand under a running machine.
    pub deleted: BTreeSet<String>,
}

/// A world as the walk sees it.
pub struct Seen {
    /// All VMs except templates and foreign ones.
    pub vms: BTreeMap<u32, Vm>,
    /// The disks' sizes in GiB.
    pub disks: BTreeMap<u32, u64>,
    pub foreign: BTreeSet<u32>,
    pub cluster: Option<ClusterLine>,
    /// `haproxy.cfg` by the balancer's VM's name.
    pub balancers: BTreeMap<String, String>,
    /// The pools of VMs.
    pub pools: BTreeMap<u32, String>,
}

/// The pools that the walk's worlds have.
pub const POOLS: [&str; 2] = ["k8s", "other"];

/// The types of CPU that the walk sets.
pub const CPUS: [&str; 2] = ["x86-64-v2-AES", "host"];

/// The relevant settings of a network card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    pub mac: String,
    pub vlan: Option<u16>,
    pub plugged: bool,
}

impl Card {
    pub fn of(text: &str) -> Self {
        let part = |key: &str| {
            let mut parts = text.split(',').filter_map(|part| part.split_once('='));
            parts.find(|(name, _)| *name == key).map(|(_, value)| value.to_owned())
        };
        Self {
            mac: part("virtio").unwrap_or_default(),
            vlan: part("tag").and_then(|tag| tag.parse().ok()),
            plugged: part("link_down").as_deref() != Some("1"),
        }
    }
}

fn row(role: &'static str, name: &str, ip: u32, pve: &'static str) -> Row {
    let (ram, vcpu, disk) = match role {
        "load-balancer" => (1, 1, 8),
        "master" => (4, 2, 20),
        _ => (8, 4, 20),
    };
    Row { role, name: name.to_owned(), ip, ram, vcpu, disk, pve, vmid: 3000 + ip }
}

/// Every row that a walk writes; the first six form the first cluster.
pub fn pool() -> Vec<Row> {
    vec![
        row("load-balancer", "lb1", 31, "pve1"),
        row("load-balancer", "lb2", 32, "pve2"),
        row("master", "m1", 41, "pve1"),
        row("master", "m2", 42, "pve2"),
        row("master", "m3", 43, "pve1"),
        row("worker", "w1", 51, "pve1"),
        row("master", "m4", 44, "pve2"),
        row("master", "m5", 45, "pve1"),
        row("worker", "w2", 52, "pve2"),
        row("worker", "w3", 53, "pve1"),
        row("load-balancer", "lb3", 33, "pve1"),
    ]
}

impl Asked {
    pub fn new(external: bool) -> Self {
        let settings = [
            ("domain", "home.arpa"),
            ("vip", "30"),
            ("port", "6443"),
            ("version", "1.36.4"),
            ("pods", "10.244.0.0/16"),
            ("services", "10.96.0.0/16"),
            ("dns_domain", "cluster.local"),
            ("proxy", "none"),
            ("cni", "1.19.8"),
        ];
        let settings = settings.map(|(name, value)| (name, value.to_owned())).into();
        let rows = pool().into_iter().take(6).collect();
        let (user, cpu) = ("ubuntu".into(), CPUS[0].into());
        Self { external, settings, user, cpu, vlan: None, pool: None, rows }
    }

    pub fn net(&self) -> &'static str {
        if self.external { "10.101.1" } else { "192.168.10" }
    }

    pub fn domain(&self) -> &str {
        &self.settings["domain"]
    }

    /// The profile's text.
    pub fn text(&self) -> String {
        let net = self.net();
        let set = |name: &str| self.settings[name].as_str();
        let etcd = if self.external {
            "external:
    endpoints: [\"https://10.103.1.101:2379\", \"https://10.103.1.102:2379\", \"https://10.103.1.201:2379\"]
    files: { ca: etcd-ca.crt, cert: apiserver-etcd-client.crt, key: apiserver-etcd-client.key }"
        } else {
            "stacked"
        };
        let etcd = if self.external { format!("\n  {etcd}") } else { format!(" {etcd}") };
        let mut text = format!(
            "cluster:
  name: walk
  api: {{ name: k8s, vip: {net}.{}, port: {} }}
network:
  subnet: {net}.0/24
  gateway: {net}.1
  domain: {}
  nameservers: [{net}.2]
  bridge: vmbr0{}
kubernetes:
  version: {}
  pods: {{ cidr: {}, node_mask: 24 }}
  services: {}
  dns_domain: {}
  proxy: {}
  cni: {{ cilium: {{ version: {}, cli_version: 0.19.7 }} }}
etcd:{etcd}
balancer: {{ vrid: 130 }}
access: {{ user: {}, authorized_keys: [] }}
proxmox:
  cpu: {}{}
  hosts:
    pve1: {{ endpoint: \"https://{net}.11:8006\", storage: local-lvm, templates: {{ ubuntu-22.04: 3091 }} }}
    pve2: {{ endpoint: \"https://{net}.12:8006\", storage: local-lvm, templates: {{ ubuntu-22.04: 3092 }} }}
images:
  ubuntu-22.04:
    url: https://cloud-images.ubuntu.com/releases/jammy/release-20260913/ubuntu-22.04-server-cloudimg-amd64.img
    sha256: 9144540e8af7637d258b50dbabe82ce1aa6752c9574fedfb048270da0e087899
defaults: {{ os: ubuntu-22.04, kernel: hwe }}
nodes:
",
            set("vip"),
            set("port"),
            set("domain"),
            self.vlan.map(|tag| format!("\n  vlan: {tag}")).unwrap_or_default(),
            set("version"),
            set("pods"),
            set("services"),
            set("dns_domain"),
            set("proxy"),
            set("cni"),
            self.user,
            self.cpu,
            self.pool.map(|pool| format!("\n  pool: {pool}")).unwrap_or_default(),
        );
        for Row { role, name, ip, ram, vcpu, disk, pve, vmid } in &self.rows {
            let _ = writeln!(
                text,
                "  - {{ role: {role}, name: {name}, ip: {net}.{ip}, ram: {ram}G, vcpu: {vcpu}, \
                 disk: {disk}G, pve: {pve}, vmid: {vmid} }}"
            );
        }
        text
    }

    pub fn fqdn(&self, name: &str) -> String {
        format!("{name}.{}", self.domain())
    }
}

/// A difference, and whether `up` cannot apply it although it may do the rest.
pub type Differs = BTreeMap<String, bool>;

/// Everything in the world that does not match the profile.
pub fn differs(asked: &Asked, known: &Known, seen: &Seen) -> Differs {
    let mut found = Differs::new();
    let mut say = |text: String, lasting: bool| {
        found.insert(text, lasting);
    };
    for (name, have) in &known.init {
        let want = &asked.settings[name];
        if have != want {
            say(format!("{name} is {have}, asked for {want}"), true);
        }
    }
    for row in &asked.rows {
        let name = &row.name;
        let Some(vm) = seen.vms.get(&row.vmid).filter(|vm| vm.host == row.pve) else {
            say(format!("{name} has no VM {} on {}", row.vmid, row.pve), false);
            continue;
        };
        let set =
            |key: &str| vm.pending.get(key).cloned().flatten().or(vm.config.get(key).cloned());
        if vm.running.is_none() {
            say(format!("{name} is off"), false);
        }
        let size = (set("memory"), set("cores"));
        if size != (Some((row.ram * 1024).to_string()), Some(row.vcpu.to_string())) {
            say(format!("{name} has {size:?}, asked for {}G, {}", row.ram, row.vcpu), false);
        } else if vm.running.is_some() {
            let runs_with = ["memory", "cores"].map(|key| vm.config.get(key).cloned());
            if runs_with != [size.0, size.1] {
                say(format!("{name} runs with {runs_with:?}: the rest is pending"), true);
            }
        }
        let cpu = vm.config.get("cpu").cloned().unwrap_or_default();
        if set("cpu").as_deref() != Some(asked.cpu.as_str()) {
            say(format!("{name} has {:?}, asked for {}", set("cpu"), asked.cpu), false);
        } else if vm.running.is_some() && cpu != asked.cpu {
            say(format!("{name} runs with {cpu}: {} is pending", asked.cpu), true);
        }
        let card = Card::of(&set("net0").unwrap_or_default());
        let mac = known.made.get(&row.vmid).and_then(|made| made.mac.clone());
        let whole = Card { mac: mac.unwrap_or(card.mac.clone()), vlan: asked.vlan, plugged: true };
        if card != whole {
            say(format!("{name} has the card {card:?}, asked for {whole:?}"), false);
        }
        let pool = seen.pools.get(&row.vmid).map(String::as_str);
        if asked.pool.is_some() && pool != asked.pool {
            say(format!("{name} is in the pool {pool:?}, asked for {:?}", asked.pool), true);
        }
        let disk = seen.disks.get(&row.vmid).copied().unwrap_or_default();
        if disk != u64::from(row.disk) {
            let lasting = disk > u64::from(row.disk);
            say(format!("{name} has a disk of {disk}G, asked for {}G", row.disk), lasting);
        }
        if let Some(made) = known.made.get(&row.vmid) {
            let is = (&made.row.name, made.row.role, made.row.ip, &made.user, made.domain.as_str());
            if is != (name, row.role, row.ip, &asked.user, asked.domain()) {
                say(format!("{name} was made as {made:?}"), true);
            }
        }
    }
    let leaving = leaving(asked, known, seen);
    for (vmid, vm) in &seen.vms {
        let name = known.made.get(vmid).map(|made| &made.row.name);
        let leaves = name.is_some_and(|name| leaving.contains(name));
        if leaves || !asked.rows.iter().any(|row| row.vmid == *vmid) {
            say(format!("VM {vmid} on {} has no row", vm.host), !leaves);
        }
    }
    kubernetes(asked, known, seen, &mut say);
    found
}

fn kubernetes(asked: &Asked, known: &Known, seen: &Seen, say: &mut impl FnMut(String, bool)) {
    let net = asked.net();
    let Some(line) = &seen.cluster else { return say("there is no cluster".into(), false) };
    let nodes: Vec<&Row> = asked.rows.iter().filter(|row| row.role != "load-balancer").collect();
    for row in &nodes {
        let name = asked.fqdn(&row.name);
        if line.nodes.get(&name) != Some(&true) || known.lost.contains(&row.name) {
            say(format!("{name} is no Ready node"), false);
        }
        if line.cordoned.contains(&name) {
            say(format!("{name} is cordoned"), false);
        }
    }
    for name in line.nodes.keys() {
        if !nodes.iter().any(|row| asked.fqdn(&row.name) == *name) {
            say(format!("the node {name} has no row"), true);
        }
    }
    let masters: BTreeSet<String> = nodes
        .iter()
        .filter(|row| row.role == "master")
        .map(|row| format!("{net}.{}", row.ip))
        .collect();
    if !asked.external {
        for at in &masters {
            if !line.members.iter().any(|(peer, up)| *up && address(peer) == at) {
                say(format!("no member of etcd runs at {at}"), false);
            }
        }
        for peer in line.members.keys() {
            if !masters.contains(address(peer)) {
                say(format!("the member {peer} of etcd has no row"), true);
            }
        }
    }
    balancers(asked, seen, &masters, say);
}

fn balancers(
    asked: &Asked,
    seen: &Seen,
    masters: &BTreeSet<String>,
    say: &mut impl FnMut(String, bool),
) {
    let net = asked.net();
    let rows = || asked.rows.iter().filter(|row| row.role == "load-balancer");
    for row in rows() {
        let file = seen.balancers.get(&row.name).cloned().unwrap_or_default();
        let servers: BTreeSet<String> = file
            .split(|c: char| c.is_whitespace())
            .filter_map(|word| word.strip_suffix(&format!(":{}", asked.settings["port"])))
            .filter(|at| {
                at.starts_with(net) && !at.ends_with(&format!(".{}", asked.settings["vip"]))
            })
            .map(str::to_owned)
            .collect();
        if servers != *masters {
            say(
                format!("{} forwards to {servers:?}, the masters are {masters:?}", row.name),
                false,
            );
        }
    }
}

fn address(peer: &str) -> &str {
    peer.split(':').next().unwrap_or(peer)
}

/// The workers that exist without a row.
pub fn leaving(asked: &Asked, known: &Known, seen: &Seen) -> Vec<String> {
    let made = known.made.iter().filter(|(vmid, _)| seen.vms.contains_key(vmid));
    let made = made.map(|(_, made)| &made.row).filter(|row| row.role == "worker");
    let rowless = made.filter(|made| !asked.rows.iter().any(|row| row.name == made.name));
    rowless.map(|row| row.name.clone()).collect()
}

/// Why `up` cannot apply all of it.
pub fn blocked(asked: &Asked, known: &Known, seen: &Seen) -> Vec<String> {
    let mut found = Vec::new();
    for (name, have) in &known.init {
        if have != &asked.settings[name] {
            found.push(format!("{name} was {have} at init"));
        }
    }
    let leaving = leaving(asked, known, seen);
    let own = |vmid: u32| known.made.get(&vmid).filter(|_| seen.vms.contains_key(&vmid));
    for (vmid, vm) in &seen.vms {
        let Some(made) = own(*vmid) else { continue };
        let leads = vm.pending.get("net0").cloned().flatten().or(vm.config.get("net0").cloned());
        let leads = Card::of(&leads.unwrap_or_default()).vlan;
        if leads != asked.vlan && made.vlan != asked.vlan {
            found.push(format!("VM {vmid} was made for the VLAN {:?}", made.vlan));
        }
        let is = |row: &&Row| {
            row.name == made.row.name
                && (row.role, row.ip, row.vmid) == (made.row.role, made.row.ip, *vmid)
                && row.pve == vm.host
        };
        if leaving.contains(&made.row.name) {
            // Its creation did not succeed, or it may not be reached any more.
            let card = Card::of(vm.config.get("net0").map_or("", String::as_str));
            let had =
                Card { mac: made.mac.clone().unwrap_or_default(), vlan: made.vlan, plugged: true };
            if card != had {
                found.push(format!("VM {vmid} has no row, and the card {card:?}"));
            }
        } else if !asked.rows.iter().any(|row| is(&row))
            || (asked.user.as_str(), asked.domain()) != (made.user.as_str(), made.domain.as_str())
        {
            found.push(format!("VM {vmid} was made as {made:?}"));
        }
    }
    for row in &asked.rows {
        let taken = own(row.vmid).is_some_and(|made| made.row.name != row.name);
        if taken || seen.foreign.contains(&row.vmid) {
            found.push(format!("another VM has {}'s VMID {}", row.name, row.vmid));
        }
        if !pool().iter().any(|one| one.name == row.name && one.ip == row.ip) {
            found.push(format!("the name servers do not know {} at {}", row.name, row.ip));
        }
    }
    let answers = seen.cluster.as_ref().is_some_and(|line| {
        let up = line.members.values().filter(|up| **up).count();
        !line.servers.is_empty() && (line.members.is_empty() || up * 2 > line.members.len())
    });
    if !leaving.is_empty() && !answers {
        found.push(format!("{leaving:?} cannot be drained: the API does not answer"));
    }
    // A machine that leaves needs no Node.
    let kept = known.deleted.iter().filter(|name| !leaving.contains(name));
    found.extend(kept.map(|name| format!("the Node of {name} was deleted")));
    found.extend(quorum(asked, known, seen));
    found
}

/// Why the cluster's data cannot be reached, or etcd accepts no new member.
pub fn quorum(asked: &Asked, known: &Known, seen: &Seen) -> Option<String> {
    let line = match &seen.cluster {
        Some(line) => line,
        None if known.init.is_empty() => return None,
        None => return Some("the cluster is gone".into()),
    };
    let masters = known.made.values().filter(|made| made.row.role == "master");
    let alive = masters
        .filter(|made| {
            seen.vms.contains_key(&made.row.vmid) && !known.lost.contains(&made.row.name)
        })
        .filter(|made| line.nodes.contains_key(&asked.fqdn(&made.row.name)));
    let alive: Vec<&Made> = alive.collect();
    if alive.is_empty() {
        return Some("no master is left".into());
    }
    if asked.external {
        return None;
    }
    let net = asked.net();
    let is = |peer: &String, made: &&Made| address(peer) == format!("{net}.{}", made.row.ip);
    let dead = line.members.keys().filter(|peer| !alive.iter().any(|made| is(peer, made)));
    let dead: Vec<&String> = dead.collect();
    if (line.members.len() - dead.len()) * 2 <= line.members.len() {
        return Some(format!("the quorum is lost: {dead:?} of {:?}", line.members));
    }
    let row =
        |peer: &str| asked.rows.iter().any(|row| format!("{net}.{}", row.ip) == address(peer));
    let stale = dead.iter().find(|peer| !row(peer.as_str()))?;
    Some(format!("the dead member {stale} has no row"))
}
