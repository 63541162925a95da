//! A small network: machines in network namespaces on one bridge.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::needs;

/// The prefix of the test's namespaces; the id of the test's process follows.
const MARK: &str = "k8sha-test-";

static LABS: AtomicU32 = AtomicU32::new(0);

/// A network that is removed with the test.
pub struct Lab {
    prefix: String,
    namespaces: Vec<String>,
}

/// How a cut link appears to the machine on it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Its cable is unplugged: it sees that the carrier is gone.
    Cable,
    /// The network behind its switch port is gone, as for a VM whose host loses its uplink.
    Network,
}

impl Lab {
    /// An empty network, or `None` and a prominent line if the kernel does not allow network
    /// namespaces: no package fixes that.
    pub fn new() -> Option<Self> {
        sweep();
        let count = LABS.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{MARK}{}-{count}-", std::process::id());
        let mut lab = Self { prefix, namespaces: Vec::new() };
        let hub = lab.name("hub");
        let output = Command::new("ip").args(["netns", "add", &hub]).output().unwrap();
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(
                ["not permitted", "Invalid argument", "not supported"]
                    .iter()
                    .any(|text| said.contains(text)),
                "ip netns add: {said}"
            );
            needs::say(&format!("SKIPPED: this kernel refuses network namespaces: {said}"));
            return None;
        }
        lab.namespaces.push(hub.clone());
        ip(&["-n", &hub, "link", "add", "br0", "type", "bridge", "forward_delay", "0"]);
        ip(&["-n", &hub, "link", "set", "br0", "up"]);
        Some(lab)
    }

    /// Adds a machine with these addresses to the network.
    pub fn add(&mut self, machine: &str, addresses: &[Ipv4Addr]) {
        let (hub, name) = (self.name("hub"), self.name(machine));
        ip(&["netns", "add", &name]);
        self.namespaces.push(name.clone());
        let port = port(machine);
        ip(&[
            "link", "add", &port, "netns", &hub, "type", "veth", "peer", "name", "eth0", "netns",
            &name,
        ]);
        ip(&["-n", &hub, "link", "set", &port, "master", "br0", "up"]);
        ip(&["-n", &name, "link", "set", "lo", "up"]);
        ip(&["-n", &name, "link", "set", "eth0", "up"]);
        for address in addresses {
            ip(&["-n", &name, "addr", "add", &format!("{address}/24"), "dev", "eth0"]);
        }
    }

    /// Adds a machine behind another one, which has a separate address towards it: no other machine
    /// reaches it, and none routes.
    pub fn add_behind(&mut self, front: &str, front_ip: Ipv4Addr, machine: &str, ip: Ipv4Addr) {
        let (front, name) = (self.name(front), self.name(machine));
        self::ip(&["netns", "add", &name]);
        self.namespaces.push(name.clone());
        let port = port(machine);
        self::ip(&[
            "link", "add", &port, "netns", &front, "type", "veth", "peer", "name", "eth0", "netns",
            &name,
        ]);
        for (namespace, device, address) in [(&front, port.as_str(), front_ip), (&name, "eth0", ip)]
        {
            let address = format!("{address}/24");
            self::ip(&["-n", namespace, "addr", "add", &address, "dev", device]);
            self::ip(&["-n", namespace, "link", "set", device, "up"]);
            self::ip(&["-n", namespace, "link", "set", "lo", "up"]);
        }
    }

    /// The name of a machine's namespace.
    pub fn name(&self, machine: &str) -> String {
        format!("{}{machine}", self.prefix)
    }

    /// Cuts a machine's link.
    pub fn cut(&self, machine: &str, how: Cut) {
        let last: &[&str] = if how == Cut::Cable { &["down"] } else { &["nomaster"] };
        let (hub, port) = (self.name("hub"), port(machine));
        ip(&[&["-n", &hub, "link", "set", &port], last].concat());
    }

    /// Restores a machine's link.
    pub fn reconnect(&self, machine: &str) {
        let (hub, port) = (self.name("hub"), port(machine));
        ip(&["-n", &hub, "link", "set", &port, "master", "br0", "up"]);
    }

    /// Whether a machine has this address now.
    pub fn has(&self, machine: &str, address: Ipv4Addr) -> bool {
        let to = format!("{address}/32");
        let output = ip(&["-n", &self.name(machine), "-o", "-4", "addr", "show", "to", &to]);
        !output.stdout.is_empty()
    }

    /// Removes an address from a machine, if it has it.
    pub fn forget(&self, machine: &str, address: Ipv4Addr) {
        if self.has(machine, address) {
            let of = format!("{address}/32");
            ip(&["-n", &self.name(machine), "addr", "del", &of, "dev", "eth0"]);
        }
    }

    /// Runs on a thread whose sockets belong to a machine.
    pub fn on<T: Send + 'static>(
        &self,
        machine: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let namespace = File::open(Path::new("/run/netns").join(self.name(machine))).unwrap();
        thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in &self.namespaces {
            // A namespace that cannot be removed is left to the next run.
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

/// The machine's port on the bridge. The kernel takes at most 15 characters.
fn port(machine: &str) -> String {
    format!("v-{machine}").chars().take(15).collect()
}

fn ip(words: &[&str]) -> Output {
    let output = Command::new("ip").args(words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {said}", words.join(" "));
    output
}

/// Removes the remains of a killed test.
fn sweep() {
    let Ok(names) = fs::read_dir("/run/netns") else { return };
    for name in names.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
        let Some(rest) = name.strip_prefix(MARK) else { continue };
        let owner = rest.split('-').next().unwrap_or_default();
        if !Path::new("/proc").join(owner).exists() {
            let _ = Command::new("ip").args(["netns", "del", &name]).output();
        }
    }
}
