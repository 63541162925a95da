//! Node objects, and the kubelets that report them.
//!
//! A Node outlives its machine: it contains what a kubelet last reported.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::guest::Guest;
use super::kube::{Kube, uuid};
use super::network::Reach;
use super::{Guests, pace};
use crate::world::SimTime;

/// A kubelet without a report for this long counts as dead (kube-controller-manager
/// `--node-monitor-grace-period`).
pub const GRACE: f64 = 40.0;
/// The simulated interval of kubelet reports: short enough that no test waits for one.
const BEAT: f64 = 5.0;
/// The folder of a kubelet's credentials.
pub const KUBELET_CONF: &str = "/etc/kubernetes/kubelet.conf";
/// The error for a server whose CA differs from the client's.
pub const UNKNOWN_AUTHORITY: &str = "tls: failed to verify certificate: x509: certificate signed by \
    unknown authority (possibly because of \"crypto/rsa: verification error\" while trying to verify \
    candidate authority certificate \"kubernetes\")";

/// A node object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// The guest whose kubelet reported it last.
    pub guest: String,
    /// Its InternalIP.
    pub address: Ipv4Addr,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Whether it has the control-plane taint.
    pub tainted: bool,
    /// Whether it is cordoned.
    #[serde(default)]
    pub cordoned: bool,
    /// The last report of its kubelet.
    pub info: Info,
    /// Its creation time.
    pub since: SimTime,
    /// The time of its machine's first report.
    #[serde(default)]
    pub begun: SimTime,
    /// The time of its kubelet's last report.
    pub seen: SimTime,
    /// `metadata.uid`.
    pub uid: String,
    /// Its number, which determines its pod network.
    pub number: u32,
}

/// `status.nodeInfo`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Info {
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// The machine's UUID in its firmware.
    pub system_uuid: String,
    /// The boot.
    pub boot_id: String,
    /// The kubelet's version.
    pub kubelet: String,
    /// The kernel.
    pub kernel: String,
    /// The runtime, such as `containerd://1.7.28`.
    pub runtime: String,
}

/// Whether a node is ready, or the reason why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// `True`.
    Yes,
    /// `False`: no CNI yet.
    NoNetwork,
    /// `Unknown`: its kubelet has stopped reporting.
    Unknown,
}

/// The contents of a kubelet's kubeconfig.
struct Conf<'a> {
    name: &'a str,
    server: &'a str,
    /// The CA, in base64.
    ca: &'a str,
}

/// The servers that kubelets have reached at an address in one round: the API server, and its CA in
/// base64.
type Met = BTreeMap<SocketAddrV4, Option<(String, String)>>;

/// A field of a kubeconfig.
pub fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.trim().trim_start_matches("- ").strip_prefix(name))
        .map(str::trim)
}

impl<'a> Conf<'a> {
    fn of(guest: &'a Guest) -> Option<Self> {
        let text = guest.text(KUBELET_CONF)?;
        let name = field(text, "user: system:node:")?;
        let server = field(text, "server: https://")?;
        let ca = field(text, "certificate-authority-data:")?;
        Some(Self { name, server, ca })
    }
}

impl Guest {
    /// The report of this machine's kubelet.
    fn info(&self) -> Info {
        let run = self.run.as_ref();
        Info {
            machine_id: self.disk.machine_id.clone(),
            system_uuid: self.machine.uuid.clone(),
            boot_id: run.map(|run| run.boot_id.clone()).unwrap_or_default(),
            kubelet: self.kube_version("kubelet").unwrap_or_default(),
            kernel: run.map(|run| run.kernel.clone()).unwrap_or_default(),
            runtime: format!("containerd://{}", self.containerd().unwrap_or_default()),
        }
    }

    /// Whether a Node describes this machine.
    pub fn is_node(&self, node: &Node) -> bool {
        self.disk.machine_id == node.info.machine_id
    }
}

impl Guests {
    /// Whether a node is ready.
    pub(crate) fn ready(&self, kube: &Kube, node: &Node) -> Ready {
        if self.now > node.seen.after(GRACE) {
            return Ready::Unknown;
        }
        match &kube.cni {
            Some((_, at)) if *at <= self.now && *at >= node.begun => Ready::Yes,
            // The agent of a later node starts with the node.
            Some((_, at)) if *at <= self.now && node.begun.after(pace::CNI) <= self.now => {
                Ready::Yes
            }
            _ => Ready::NoNetwork,
        }
    }

    /// The Node that this machine is in a cluster in use: its name, and whether it is Ready.
    pub(crate) fn served_by(&self, key: &str) -> Option<(String, bool)> {
        let guest = self.all.get(key)?;
        let conf = Conf::of(guest)?;
        self.kubes.values().find_map(|kube| {
            let node = kube.nodes.get(conf.name).filter(|node| guest.is_node(node))?;
            Some((conf.name.to_owned(), self.ready(kube, node) == Ready::Yes))
        })
    }

    /// Lets kubelets report, and expires what is due.
    pub(crate) fn heartbeat(&mut self) {
        let unix = self.unix();
        for kube in self.kubes.values_mut() {
            kube.expire(unix);
        }
        if self.beat.0 != 0 && self.now < self.beat.after(BEAT) {
            return;
        }
        self.beat = self.now;
        let mut met = Met::new();
        let mut said = Vec::new();
        for (key, guest) in &self.all {
            if !guest.active("kubelet") || guest.address().is_none() {
                continue;
            }
            if let Some(conf) = Conf::of(guest) {
                let answer = self.report(guest, &conf, &mut met);
                said.push((key.clone(), conf.name.to_owned(), answer));
            }
        }
        for (key, name, answer) in said {
            match answer {
                Ok(id) => self.reported(&key, &name, &id),
                Err(text) => {
                    let run = self.all.get_mut(&key).and_then(|guest| guest.run.as_mut());
                    let unit = run.and_then(|run| run.units.get_mut("kubelet"));
                    let line = format!(
                        "\"Unable to update node status\" err=\"error getting node \\\"{name}\\\": {text}\""
                    );
                    if let Some(unit) = unit.filter(|unit| unit.journal.last() != Some(&line)) {
                        unit.journal.push(line);
                    }
                }
            }
        }
    }

    /// The destination of a kubelet's report: the cluster's id, or its client's error.
    fn report(&self, guest: &Guest, conf: &Conf<'_>, met: &mut Met) -> Result<String, String> {
        let failed = |text: &str| {
            Err(format!("Get \"https://{}/api/v1/nodes/{}\": {text}", conf.server, conf.name))
        };
        let (host, port) = conf.server.rsplit_once(':').unwrap_or((conf.server, "6443"));
        let Some(address) = self.resolve(guest, host) else {
            return failed(&format!("dial tcp: lookup {host}: no such host"));
        };
        let to = SocketAddrV4::new(address, port.parse().unwrap_or(6443));
        let found = met.entry(to).or_insert_with(|| match self.dial(to) {
            Reach::Api(master) => {
                let ca = STANDARD.encode(self.api_ca(&master).unwrap_or_default());
                Some((master, ca))
            }
            _ => None,
        });
        let Some((master, ca)) = found else {
            return failed(&format!("dial tcp {to}: connect: connection refused"));
        };
        if ca != conf.ca {
            return failed(UNKNOWN_AUTHORITY);
        }
        let id = self.all.get(master).and_then(|guest| guest.disk.kube.clone());
        id.map_or_else(|| failed("EOF"), Ok)
    }

    /// A report has arrived: the Node takes over its contents. A kubelet registers only once per start
    /// (pkg/kubelet/kubelet_node_status.go `registerWithAPIServer`): if its Node is deleted, it creates
    /// the Node again at its next start.
    fn reported(&mut self, key: &str, name: &str, id: &str) {
        let there = self.kubes.get(id).is_some_and(|kube| kube.nodes.contains_key(name));
        let run = self.all.get_mut(key).and_then(|guest| guest.run.as_mut());
        let Some(run) = run else { return };
        if !there && !run.registered {
            self.register(id, name, key, false);
        }
        let Some(guest) = self.all.get_mut(key) else { return };
        if let Some(run) = &mut guest.run {
            run.registered = true;
        }
        let (now, info, address) = (self.now, guest.info(), guest.address());
        let node = self.kubes.get_mut(id).and_then(|kube| kube.nodes.get_mut(name));
        if let (Some(node), Some(address)) = (node, address) {
            if node.info.machine_id != info.machine_id {
                node.begun = now;
            }
            key.clone_into(&mut node.guest);
            node.info = info;
            node.address = address;
            node.seen = now;
        }
    }

    /// Creates a Node for a guest, or makes the guest adopt the existing one of its name, and
    /// writes the corresponding etcd keys.
    pub(crate) fn register(&mut self, id: &str, name: &str, key: &str, control_plane: bool) {
        let Some(guest) = self.all.get_mut(key) else { return };
        let (Some(address), info) = (guest.address(), guest.info()) else { return };
        if let Some(run) = &mut guest.run {
            run.registered = true;
        }
        let now = self.now;
        let Some(kube) = self.kubes.get_mut(id) else { return };
        let number = kube.nodes.values().map(|node| node.number + 1).max().unwrap_or(0);
        let node = kube.nodes.entry(name.to_owned()).or_insert_with(|| Node {
            since: now,
            begun: now,
            uid: uuid(),
            number,
            labels: labels(name),
            guest: String::new(),
            address,
            annotations: BTreeMap::new(),
            tainted: false,
            cordoned: false,
            info: Info::default(),
            seen: now,
        });
        if node.info.machine_id != info.machine_id {
            node.begun = now;
        }
        key.clone_into(&mut node.guest);
        node.info = info;
        node.address = address;
        node.seen = now;
        if control_plane {
            node.tainted = true;
            for label in [
                "node-role.kubernetes.io/control-plane",
                "node.kubernetes.io/exclude-from-external-load-balancers",
            ] {
                node.labels.insert(label.to_owned(), String::new());
            }
        }
        self.note_in_etcd(id, &format!("/registry/minions/{name}"));
    }
}

fn labels(name: &str) -> BTreeMap<String, String> {
    let pairs = [
        ("beta.kubernetes.io/arch", "amd64"),
        ("beta.kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", "amd64"),
        ("kubernetes.io/hostname", name),
        ("kubernetes.io/os", "linux"),
    ];
    pairs.map(|(label, value)| (label.to_owned(), value.to_owned())).into()
}
