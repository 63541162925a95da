//! A guest: the state on its disk and the state in its memory.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::Guests;
use super::cloudinit::{Progress, Step};
use super::seed::{Network, Seed, WriteFile};
use super::units::Unit;
use crate::blob::InBlob;
use crate::world::{Machine, SimTime};

/// Ubuntu 22.04's stock kernel.
pub const KERNEL_STOCK: &str = "5.15.0-126-generic";

/// A simulated Ubuntu 22.04.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Guest {
    /// The hardware that it was last switched on with.
    pub machine: Machine,
    /// The state that survives a reboot.
    pub disk: InBlob<Disk>,
    /// The state that does not; `None` while it is switched off.
    pub run: Option<Run>,
}

impl Guests {
    /// The disks of all guests, which the world's file does not contain.
    pub(crate) fn disks(&self) -> impl Iterator<Item = &InBlob<Disk>> {
        self.all.values().map(|guest| &guest.disk)
    }

    /// The same, to read them.
    pub(crate) fn disks_mut(&mut self) -> impl Iterator<Item = &mut InBlob<Disk>> {
        self.all.values_mut().map(|guest| &mut guest.disk)
    }
}

/// What is on a guest's disk.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Disk {
    /// The short host name.
    pub hostname: String,
    /// The fully qualified name.
    pub fqdn: String,
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// The instance for which cloud-init has run.
    pub instance_id: Option<String>,
    /// Login users.
    pub users: BTreeMap<String, User>,
    /// sshd's ed25519 key in OpenSSH's PEM form.
    pub host_key: String,
    /// The network that netplan configures.
    pub network: Option<Network>,
    /// Path → file.
    pub files: BTreeMap<String, File>,
    /// Installed packages and their versions.
    pub packages: BTreeMap<String, String>,
    /// Packages on hold: apt must not change them.
    pub held: BTreeSet<String>,
    /// Units that start at boot.
    pub enabled: BTreeSet<String>,
    /// The kernel that GRUB boots next.
    pub kernel: String,
    /// The number of its boots.
    pub boots: u32,
    /// The progress of cloud-init.
    pub cloud_init: Progress,
    /// The Kubernetes cluster that this machine belongs to.
    pub kube: Option<String>,
    /// The names in the serving certificate of this machine's API server.
    pub api_names: Vec<String>,
}

/// A login user.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct User {
    /// `ssh_authorized_keys`, as lines.
    pub keys: Vec<String>,
    /// Whether sudo needs no password.
    pub sudo: bool,
}

/// A regular file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct File {
    /// Its body.
    pub content: String,
    /// Permission bits in octal digits, such as `0600`.
    pub mode: String,
    /// `user:group`.
    pub owner: String,
}

/// The state in a running guest's memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// When it was switched on.
    pub since: SimTime,
    /// Whether it hangs before its kernel starts.
    pub held: bool,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// `uname -r`.
    pub kernel: String,
    /// Whether the network is up.
    pub network: bool,
    /// Whether sshd listens.
    pub sshd: bool,
    /// The unit states.
    pub units: BTreeMap<String, Unit>,
    /// Whether `net.ipv4.ip_forward` is on.
    pub ip_forward: bool,
    /// The time from which this machine's API server serves.
    pub api_at: Option<SimTime>,
    /// The time from which the etcd of this master runs.
    #[serde(default)]
    pub etcd_at: Option<SimTime>,
    /// Whether its kubelet has registered its node since it was started.
    #[serde(default)]
    pub registered: bool,
    /// The seed in the CD-ROM drive.
    pub seed: Option<Seed>,
    /// Whether cloud-init found no seed at this boot, and may not trust the one it knows.
    #[serde(default)]
    pub seedless: bool,
    /// The remaining steps of cloud-init.
    pub steps: Vec<Step>,
    /// The next events, in order.
    pub queue: Vec<(SimTime, Due)>,
}

/// An event that takes effect at a given time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Due {
    /// Network and sshd come up.
    Network,
    /// sshd starts late.
    Sshd,
    /// cloud-init finishes its next step.
    CloudInit,
    /// The machine shuts down to reboot.
    Down,
    /// The machine is down and starts again.
    Reboot,
    /// The machine has powered itself off.
    Off,
    /// The static pods serve again after a boot.
    StaticPods,
    /// The process of a transient unit reaches its next phase.
    Process(String),
}

impl Run {
    /// Schedules an event.
    pub fn plan(&mut self, at: SimTime, due: Due) {
        self.queue.push((at, due));
    }

    /// The time of the next event.
    pub fn next(&self) -> Option<SimTime> {
        self.queue.iter().map(|(at, _)| *at).min()
    }

    /// Takes the first event that is due by `now`: of equal ones, the one scheduled first.
    pub fn take(&mut self, now: SimTime) -> Option<(SimTime, Due)> {
        let next = self.next().filter(|at| *at <= now)?;
        let index = self.queue.iter().position(|(at, _)| *at == next)?;
        Some(self.queue.remove(index))
    }
}

impl Guest {
    /// The address at which it is reachable now.
    pub fn address(&self) -> Option<Ipv4Addr> {
        let run = self.run.as_ref()?;
        let network = self.disk.network.as_ref()?;
        run.network.then_some(network.address)
    }

    /// A file's body.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.disk.files.get(path).map(|file| file.content.as_str())
    }

    /// Writes a file as root.
    pub fn write(&mut self, path: &str, content: impl Into<String>, mode: &str) {
        let file =
            File { content: content.into(), mode: mode.to_owned(), owner: "root:root".to_owned() };
        self.disk.files.insert(path.to_owned(), file);
    }

    /// Writes a file as `write_files` says.
    pub fn write_as(&mut self, file: WriteFile) {
        let content = match self.text(&file.path) {
            Some(before) if file.append => format!("{before}{}", file.content),
            _ => file.content,
        };
        let made = File { content, mode: file.mode, owner: file.owner };
        self.disk.files.insert(file.path, made);
    }

    /// Appends lines to a log.
    pub fn append(&mut self, path: &str, lines: &[String]) {
        let file = self.disk.files.entry(path.to_owned()).or_insert_with(|| File {
            content: String::new(),
            mode: "0644".to_owned(),
            owner: "root:root".to_owned(),
        });
        for line in lines {
            file.content.push_str(line);
            file.content.push('\n');
        }
    }

    /// Whether there is a file, or a folder that is not empty.
    pub fn exists(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        self.disk.files.contains_key(path)
            || self.disk.files.keys().any(|known| known.starts_with(&folder))
            || matches!(
                path,
                "/" | "/etc" | "/tmp" | "/var" | "/var/log" | "/root" | "/etc/kubernetes"
            )
    }

    /// Removes everything below a folder.
    pub fn remove_below(&mut self, folder: &str) {
        let folder = format!("{}/", folder.trim_end_matches('/'));
        self.disk.files.retain(|path, _| !path.starts_with(&folder));
    }

    /// Whether a user who is not root may read a file.
    pub fn world_readable(&self, path: &str) -> bool {
        // Folders that only root may enter.
        const CLOSED: [&str; 4] =
            ["/root/", "/etc/kubernetes/k8sha/", "/var/lib/kubelet/", "/var/lib/etcd/"];
        self.disk.files.get(path).is_none_or(|file| {
            let others = file.mode.chars().last().and_then(|digit| digit.to_digit(8)).unwrap_or(0);
            others & 4 != 0 && !CLOSED.iter().any(|folder| path.starts_with(folder))
        })
    }

    /// Whether a unit is active.
    pub fn active(&self, unit: &str) -> bool {
        self.run
            .as_ref()
            .and_then(|run| run.units.get(unit))
            .is_some_and(|unit| unit.state == super::units::State::Active)
    }

    /// The container runtime's version, if one is installed.
    pub fn containerd(&self) -> Option<&str> {
        let packages = &self.disk.packages;
        let version = packages.get("containerd.io").or_else(|| packages.get("containerd"))?;
        version.split(['-', '~']).next()
    }

    /// Applies the sysctl files, as `sysctl --system` and every boot do.
    pub fn apply_sysctls(&mut self) {
        let on = self.disk.files.iter().any(|(path, file)| {
            path.starts_with("/etc/sysctl.d/")
                && file.content.lines().any(|line| {
                    let plain: String = line.split_whitespace().collect();
                    plain == "net.ipv4.ip_forward=1"
                })
        });
        if let Some(run) = &mut self.run {
            run.ip_forward = on;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::Topology;
    use crate::store::Store;
    use crate::{Options, Sim, inspect};

    #[tokio::test]
    async fn a_worlds_folder_has_the_disks_of_its_guests_and_no_former_ones() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { folder: Some(folder.path().to_owned()), ..Options::default() };
        Sim::start(crate::tests::site(Topology::Cluster), options).await.unwrap().stop().await;
        let store = Store::open(Some(folder.path().to_owned())).unwrap();
        let mut world = store.load().unwrap().unwrap();
        let blobs = || std::fs::read_dir(folder.path().join("blobs")).unwrap().count();
        let bench = super::super::testing::Bench::new(false);
        let mut counts = vec![blobs()];
        for (name, hostname) in [("m1", "one"), ("m1", "two"), ("m2", "two"), ("m2", "three")] {
            let machine = bench.machine(name, Vec::new());
            let blank = || Guest { machine, disk: InBlob::default(), run: None };
            let guest = world.guests.all.entry(name.to_owned()).or_insert_with(blank);
            hostname.clone_into(&mut guest.disk.hostname);
            store.save(&world);
            counts.push(blobs());
        }
        // Equal disks share a blob.
        assert_eq!((store.failure(), counts), (None, vec![0, 1, 1, 1, 2]));
        let again = inspect::open(folder.path()).unwrap().guests;
        assert_eq!(again.all["m1"].disk.hostname, "two");
        assert_eq!(again.all["m2"].disk.hostname, "three");
    }
}
