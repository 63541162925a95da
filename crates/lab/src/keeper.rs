//! Manages one machine: starts it, stops it, detects when it powers itself off. Each has a thread, so
//! that its orders take effect one after the other, and no caller waits for them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Error, command, file, groups, layer, lock, private_folder, standin};

/// The interval at which a machine is checked.
const LOOK: Duration = Duration::from_millis(50);
/// The path where cloud-init finds a NoCloud seed without a drive.
const SEED: &str = "upper/var/lib/cloud/seed/nocloud";
/// The addition to the unit that netplan writes for the card `id0`.
const CARD: &str = "upper/etc/systemd/network/10-netplan-id0.network.d";

/// The folder of a machine.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) lab: String,
    pub(super) name: String,
    pub(super) folder: PathBuf,
    pub(super) lower: String,
    /// The layer with the lab's scripts.
    pub(super) scripts: PathBuf,
    /// Its port on the lab's bridge.
    pub(super) port: String,
}

/// An order for a machine.
#[derive(Debug)]
pub(super) enum Order {
    /// Power on, with these documents in its CD-ROM drive.
    On {
        /// The seed's files.
        seed: BTreeMap<String, Vec<u8>>,
        /// The MAC address of its network card.
        mac: String,
        /// The contents of [`standin::MACHINE`].
        hardware: String,
    },
    /// Power off within this time, by itself or forced.
    Off {
        /// At zero, it is powered off without a shutdown request.
        within: Duration,
    },
    /// Destroy: power off for good, and delete its disk.
    Destroy,
}

/// A machine's keeper.
pub(super) struct Keeper {
    orders: Sender<Order>,
    runs: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    pub(super) fn new(key: String, place: Place, stopped: Arc<Mutex<Vec<String>>>) -> Self {
        let (orders, inbox) = mpsc::channel();
        let runs = Arc::new(AtomicBool::new(false));
        let mut room = Room { key, place, stopped, runs: runs.clone(), child: None };
        let thread = thread::spawn(move || room.serve(&inbox));
        Self { orders, runs, thread: Some(thread) }
    }

    pub(super) fn order(&self, order: Order) {
        // A keeper that has ended has no machine.
        let _ = self.orders.send(order);
    }

    pub(super) fn runs(&self) -> bool {
        self.runs.load(Ordering::Relaxed)
    }

    /// Waits until all orders have taken effect.
    pub(super) fn leave(self) {
        let Self { orders, thread, .. } = self;
        drop(orders);
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

/// The state of the keeper's thread.
struct Room {
    key: String,
    place: Place,
    stopped: Arc<Mutex<Vec<String>>>,
    runs: Arc<AtomicBool>,
    child: Option<Child>,
}

impl Room {
    fn serve(&mut self, inbox: &Receiver<Order>) {
        loop {
            match inbox.recv_timeout(LOOK) {
                Ok(Order::On { seed, mac, hardware }) => {
                    if let Err(error) = self.on(&seed, &mac, &hardware) {
                        // As with a VM that does not boot: the error is reported by the one who waits
                        // for it.
                        tracing::error!(machine = self.place.name, %error, "cannot start a machine");
                        self.off(Duration::ZERO);
                        lock(&self.stopped).push(self.key.clone());
                    }
                }
                Ok(Order::Off { within }) => self.off(within),
                Ok(Order::Destroy) => {
                    self.off(Duration::ZERO);
                    if let Err(error) = self.destroy() {
                        tracing::error!(machine = self.place.name, %error, "cannot remove a machine");
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.look(),
                Err(RecvTimeoutError::Disconnected) => {
                    self.off(Duration::ZERO);
                    return;
                }
            }
        }
    }

    fn on(
        &mut self,
        seed: &BTreeMap<String, Vec<u8>>,
        mac: &str,
        hardware: &str,
    ) -> Result<(), Error> {
        let Place { lab, name, folder, lower, scripts, port } = &self.place;
        let place = folder.join(SEED);
        private_folder(folder)?;
        match fs::remove_dir_all(&place) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(file("remove the old seed")(error));
            }
            _ => {}
        }
        if !seed.is_empty() {
            fs::create_dir_all(&place).map_err(file("write the seed"))?;
            for (document, body) in seed {
                fs::write(place.join(document), body).map_err(file("write the seed"))?;
            }
        }
        card(folder, mac)?;
        let told = folder.join(format!("upper{}", standin::MACHINE));
        if let Some(above) = told.parent() {
            fs::create_dir_all(above).map_err(file("write the machine's hardware description"))?;
        }
        fs::write(told, hardware).map_err(file("write the machine's hardware description"))?;
        let (hub, namespace) = (format!("k8sha-{lab}"), format!("k8sha-{lab}-{name}"));
        // A new card at each start: what a killed machine left on the old one is removed with it.
        if Path::new("/run/netns").join(&namespace).exists() {
            // The kernel removes a namespace's cards late, and this one's name is needed now.
            self.unplug();
            command(&["ip", "netns", "del", &namespace])?;
        }
        command(&["ip", "netns", "add", &namespace])?;
        command(&[
            "ip", "link", "add", port, "netns", &hub, "type", "veth", "peer", "name", "eth0",
            "netns", &namespace,
        ])?;
        command(&["ip", "-n", &hub, "link", "set", port, "master", "br0", "up"])?;
        command(&["ip", "-n", &namespace, "link", "set", "lo", "up"])?;
        if !mac.is_empty() {
            command(&["ip", "-n", &namespace, "link", "set", "eth0", "address", mac])?;
        }
        let console = File::create(folder.join("console")).map_err(file("open the console"))?;
        let errors = console.try_clone().map_err(file("open the console"))?;
        let child = Command::new("sh")
            .arg(scripts.join(layer::GROUP))
            .args([lab, name, "unshare", "--mount", "--", "sh"])
            .arg(scripts.join(layer::MACHINE))
            .args([name, &namespace])
            .arg(folder)
            .arg(lower)
            .stdin(Stdio::null())
            .stdout(console)
            .stderr(errors)
            // A Ctrl-C in the terminal is for k8sha only.
            .process_group(0)
            .spawn()
            .map_err(file("start the machine"))?;
        self.child = Some(child);
        self.runs.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Removes the network card: otherwise the kernel would keep answering for the addresses of a
    /// machine that is off.
    fn unplug(&self) {
        let hub = format!("k8sha-{}", self.place.lab);
        // A missing one counts as removed.
        let _ = command(&["ip", "-n", &hub, "link", "del", &self.place.port]);
    }

    fn look(&mut self) {
        if self.ended() {
            self.unplug();
            self.child = None;
            self.runs.store(false, Ordering::Relaxed);
            lock(&self.stopped).push(self.key.clone());
        }
    }

    /// Whether there was a machine that has ended.
    fn ended(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)))
    }

    fn off(&mut self, within: Duration) {
        self.runs.store(false, Ordering::Relaxed);
        let Some(child) = &self.child else { return };
        if !within.is_zero() {
            // systemd-nspawn, the shell's only child, translates it to systemd's own halt signal.
            let outer = child.id();
            let inner = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children"));
            let inner = inner.ok().and_then(|text| text.trim().parse().ok());
            if let Some(pid) = inner.and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::TERM);
            }
            let until = Instant::now() + within;
            while !self.ended() && Instant::now() < until {
                thread::sleep(LOOK);
            }
        }
        // First of all: a machine without power must not send anything more.
        self.unplug();
        groups::kill(&self.place.lab, Some(&self.place.name));
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }

    fn destroy(&self) -> Result<(), Error> {
        let namespace = format!("k8sha-{}-{}", self.place.lab, self.place.name);
        command(&["ip", "netns", "del", &namespace])?;
        fs::remove_dir_all(&self.place.folder).map_err(file("remove the machine's disk"))
    }
}

/// Makes the machine match its card by the actual address: netplan matches the permanent address, which
/// a container's card does not have.
fn card(folder: &Path, mac: &str) -> Result<(), Error> {
    // Without an address there is nothing to match, and an empty list would match every card.
    if mac.is_empty() {
        return Ok(());
    }
    let place = folder.join(CARD);
    let text = format!("[Match]\nPermanentMACAddress=\nMACAddress={mac}\n");
    fs::create_dir_all(&place).map_err(file("write the machine's network card settings"))?;
    fs::write(place.join("lab.conf"), text)
        .map_err(file("write the machine's network card settings"))
}
