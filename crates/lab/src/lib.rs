//! Real machines behind the simulated Proxmox VE: a VM that is switched on becomes a system container
//! with systemd, cloud-init and sshd, in a network namespace on the lab's bridge, booting from the seed
//! in its CD-ROM drive; real name servers and a real etcd of the site run beside it.
//!
//! The Proxmox side's queries about its guests are answered from the state of those machines. The host
//! itself is not changed: machines, networks, control groups and folders carry the lab's id, and
//! [`registry::clean`] finds them again after a crash.

mod cli;
mod doors;
mod groups;
mod keeper;
mod layer;
mod mirror;
mod network;
mod registry;
mod root;
mod services;
pub mod standin;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use self::cli::Containers;
use self::keeper::Keeper;
use self::network::Network;
use self::registry::Entry;
use k8sha_simulator::MachineFacts;
use k8sha_simulator::faults::{Fault, FaultKind};
use k8sha_simulator::guests::Guests;
use k8sha_simulator::machines::{MachineError, Machines, Maker, Seed, Serving};
use k8sha_simulator::site::Site;
use k8sha_simulator::world::Machine;

/// How long a machine may take to shut down before it is killed.
const SHUTDOWN: Duration = Duration::from_secs(20);
/// The Debian suite of the root file system.
const SUITE: &str = "bookworm";
/// The programs that a lab needs, and the Debian package of each.
const PROGRAMS: [(&str, &str); 5] = [
    ("systemd-nspawn", "systemd-container"),
    ("mmdebstrap", "mmdebstrap"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("tar", "tar"),
];

/// The settings of the machines.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// The user's own root file system: a folder, or an archive that `tar` reads. `None`: one built
    /// once from Debian packages.
    pub root: Option<PathBuf>,
    /// Folders overlaid on the root file system, the first one on top.
    pub layers: Vec<PathBuf>,
    /// The version that the Kubernetes stand-ins report, such as `1.28.4`.
    pub kubernetes: String,
    /// The version that the cilium-cli stand-in reports; `None`: there is none.
    pub cilium_cli: Option<String>,
    /// The routers of the machines' subnets, with prefix lengths.
    pub routers: Vec<(Ipv4Addr, u8)>,
}

/// Why real machines cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The user is not root.
    #[error("system containers need root for namespaces, mounts and control groups")]
    NotRoot,
    /// Programs are missing.
    #[error("missing programs: {}", .0.join(", "))]
    Programs(Vec<String>, Vec<String>),
    /// A system command failed.
    #[error("`{command}`: {said}")]
    Command {
        /// The command.
        command: String,
        /// Its output.
        said: String,
    },
    /// A file or folder could not be used.
    #[error("{doing}: {source}")]
    File {
        /// The operation.
        doing: String,
        /// The system's error.
        source: io::Error,
    },
    /// A fault that a real machine cannot simulate.
    #[error("`{0}` is only supported by scripted guests, not by real machines")]
    Fault(&'static str),
    /// A service of the site did not start.
    #[error("the lab's {what} does not answer at {address}; its output:\n{said}")]
    Service {
        /// Such as `etcd`.
        what: String,
        /// Its address.
        address: String,
        /// The last lines of its log.
        said: String,
    },
}

impl Error {
    /// A hint how to fix it.
    pub fn hint(&self) -> String {
        match self {
            Error::NotRoot => {
                "run it with sudo; the scripted guests of `k8sha` do not need root".to_owned()
            }
            Error::Fault(_) => "remove the fault, or use the scripted guests of `k8sha`".to_owned(),
            Error::Programs(_, packages) => format!("apt-get install {}", packages.join(" ")),
            _ => "`k8sha-lab clean` removes the remains of an earlier run".to_owned(),
        }
    }
}

impl From<Error> for MachineError {
    fn from(error: Error) -> Self {
        let hint = error.hint();
        MachineError::new(error, hint)
    }
}

/// Describes the failed file operation.
fn file(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let doing = doing.into();
    move |source| Error::File { doing, source }
}

/// Runs a system command to its end.
fn command(words: &[&str]) -> Result<String, Error> {
    let failed = |said: String| Error::Command { command: words.join(" "), said };
    let [program, arguments @ ..] = words else { return Ok(String::new()) };
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(failed(if said.is_empty() { output.status.to_string() } else { said }));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The number of inotify instances that a lab of real Kubernetes nodes may need: a kubelet with its
/// pods has up to twenty, and root's are counted together.
const INSTANCES: u32 = 512;

/// The warning if this machine's kernel gives root too few of them.
fn watches() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/fs/inotify/max_user_instances").ok()?;
    let few: u32 = text.trim().parse().ok().filter(|limit| *limit < INSTANCES)?;
    Some(format!(
        "this host allows only {few} inotify instances for all machines together: with more than \
         four Kubernetes nodes kube-proxy may fail with `too many open files`; to raise the limit: \
         `sysctl -w fs.inotify.max_user_instances={INSTANCES}`"
    ))
}

/// The real machines of a simulated site.
pub struct Lab {
    entry: Entry,
    lower: String,
    network: Network,
    services: Mutex<services::Services>,
    machines: Mutex<BTreeMap<String, Keeper>>,
    stopped: Arc<Mutex<Vec<String>>>,
    held: Vec<String>,
    standin: bool,
}

impl std::fmt::Debug for Lab {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lab").field("id", &self.entry.id).finish_non_exhaustive()
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lab {
    /// Creates the lab of a site: the root file system, the network, name servers and etcd. `folder`
    /// stores the machines' disks; `None`: they are deleted with the lab.
    ///
    /// # Errors
    /// Without root or a program, or if the system refuses something.
    pub fn start(
        site: &Site,
        setup: &Setup,
        folder: Option<&Path>,
        guests: &Guests,
        say: impl Fn(&str),
    ) -> Result<Self, Error> {
        check()?;
        for gone in registry::clean()? {
            say(&format!("removed the remains of a killed run: {gone}"));
        }
        // The site's services always come from Debian packages.
        let debian = root::built(SUITE, &say)?;
        let base = match &setup.root {
            Some(own) => root::own(own, &say)?,
            None => debian.clone(),
        };
        let entry = Entry::register(folder)?;
        let standin =
            !setup.layers.iter().chain([&base]).any(|layer| layer.join("usr/bin/kubeadm").exists());
        if !standin && let Some(few) = watches() {
            say(&few);
        }
        let network = Network::make(&entry.id, site, &setup.routers)?;
        let mut lower = vec![layer::write(&entry.folder.join("layer"), &network)?];
        lower.extend(setup.layers.iter().cloned());
        if standin {
            lower.push(layer::standin(&entry.folder.join("standin"), setup)?);
        }
        let over = |base: PathBuf| {
            let all = lower.iter().chain([&base]).map(|path| path.display().to_string());
            all.collect::<Vec<_>>().join(":")
        };
        let services = services::start(&entry, &over(debian), &network, site, guests)?;
        let lower = over(base);
        let held = guests.faults.iter().filter(|(kind, _)| kind == "never-boots");
        Ok(Self {
            held: held.map(|(_, target)| target.clone()).collect(),
            entry,
            lower,
            network,
            services: Mutex::new(services),
            machines: Mutex::default(),
            stopped: Arc::default(),
            standin,
        })
    }
}

impl Machines for Lab {
    fn facts(&self) -> MachineFacts {
        MachineFacts { network: self.network.hub().to_owned(), standin: self.standin }
    }

    fn power_on(&self, machine: &Machine, seed: Seed) {
        let boots = machine.bootable && machine.disk_gib.is_some();
        if !boots || self.held.iter().any(|name| name.is_empty() || *name == machine.name) {
            return;
        }
        let mut machines = lock(&self.machines);
        let keeper = machines.entry(machine.key.clone()).or_insert_with(|| {
            let name = machine.key.replace('@', "-");
            let home = keeper::Place {
                lab: self.entry.id.clone(),
                folder: self.entry.folder.join("machines").join(&name),
                name,
                lower: self.lower.clone(),
                scripts: self.entry.folder.join("layer"),
                port: self.network.next_port(),
            };
            Keeper::new(machine.key.clone(), home, self.stopped.clone())
        });
        let mac = machine.nics.first().map(|(mac, ..)| mac.clone()).unwrap_or_default();
        let hardware = hardware(machine);
        keeper.order(keeper::Order::On { seed, mac, hardware });
    }

    fn power_off(&self, key: &str, hard: bool) {
        if let Some(keeper) = lock(&self.machines).get(key) {
            keeper
                .order(keeper::Order::Off { within: if hard { Duration::ZERO } else { SHUTDOWN } });
        }
    }

    fn destroy(&self, key: &str) {
        if let Some(keeper) = lock(&self.machines).remove(key) {
            keeper.order(keeper::Order::Destroy);
            keeper.leave();
        }
    }

    fn runs(&self, key: &str) -> bool {
        lock(&self.machines).get(key).is_some_and(Keeper::runs)
    }

    fn addresses(&self, key: &str) -> Vec<(String, Ipv4Addr, u8)> {
        if !self.runs(key) {
            return Vec::new();
        }
        network::addresses(&self.network.namespace(&key.replace('@', "-")))
    }

    fn take_stopped(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.stopped))
    }

    fn serve<'a>(&'a self, guests: &'a Guests) -> Serving<'a> {
        Box::pin(doors::serve(&self.network, guests))
    }
}

/// Creates the machines of a simulated site at each start of one.
impl Maker for Setup {
    fn check(&self, faults: &[Fault]) -> Result<(), MachineError> {
        Ok(check_faults(faults)?)
    }

    fn make(
        &self,
        site: &Site,
        folder: Option<&Path>,
        guests: &Guests,
        say: fn(&str),
    ) -> Result<Arc<dyn Machines>, MachineError> {
        Ok(Arc::new(Lab::start(site, self, folder, guests, say)?))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let machines = std::mem::take(&mut *lock(&self.machines));
        // All at once: each takes some seconds.
        for keeper in machines.values() {
            keeper.order(keeper::Order::Off { within: Duration::ZERO });
        }
        for keeper in machines.into_values() {
            keeper.leave();
        }
        lock(&self.services).end();
    }
}

/// The VM's resources, for the stand-ins: a container shows the host's.
fn hardware(machine: &Machine) -> String {
    serde_json::json!({"cpus": machine.vcpu, "memory_mb": machine.memory_mib}).to_string()
}

/// Refuses faults that only scripted guests support.
///
/// # Errors
/// [`Error::Fault`] for the first of them.
fn check_faults(faults: &[Fault]) -> Result<(), Error> {
    let scripted = faults.iter().find(|fault| {
        matches!(
            fault.kind,
            FaultKind::SshLate
                | FaultKind::WrongHostKey
                | FaultKind::ExpiredKey
                | FaultKind::PreflightError
                | FaultKind::CloudInitFails
        )
    });
    scripted.map_or(Ok(()), |fault| Err(Error::Fault(fault.kind.name())))
}

fn check() -> Result<(), Error> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let missing: Vec<_> = PROGRAMS
        .iter()
        .filter(|(program, _)| !folders.iter().any(|folder| folder.join(program).is_file()))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let programs = missing.iter().map(|(program, _)| format!("`{program}`")).collect();
    Err(Error::Programs(
        programs,
        missing.iter().map(|(_, package)| (*package).to_owned()).collect(),
    ))
}

/// Creates a folder that only root may enter.
fn private_folder(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(file(format!("make `{}`", path.display())))
}

#[cfg(test)]
mod tests;
