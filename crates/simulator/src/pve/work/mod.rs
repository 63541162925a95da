//! The work of tasks, stage by stage.

mod clone;
mod create;
mod migrate;
mod move_disk;
mod power;
mod reassign;
mod snapshot;
mod storage;
mod vm;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::config::Change;
use super::pace;
use super::state::Datacenter;
use super::task::{Got, Task, timeout_text};
use crate::faults::FaultKind;
use crate::store::Store;
use crate::world::{SimTime, World};

pub use clone::Clone as CloneWork;
pub use create::Create;
pub use migrate::Migrate;
pub use move_disk::{MoveDisk, check as check_move};
pub use power::{Power, Shutdown, after_outage};
pub use reassign::{Reassign, check as check_reassign};
pub use snapshot::Step as SnapshotStep;
pub use storage::{Checksum, Download, Upload};

/// The work of a task.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Work {
    /// Copies a VM.
    Clone(Box<CloneWork>),
    /// Creates a VM.
    Create(Box<Create>),
    /// Changes a VM's options.
    Config {
        /// The VM.
        vmid: u32,
        /// The change.
        change: Change,
    },
    /// Converts a VM to a template.
    Template(u32),
    /// Grows a disk.
    Resize {
        /// The VM.
        vmid: u32,
        /// The drive's option name.
        disk: String,
        /// The new size, or with a `+` the increase.
        size: String,
    },
    /// Changes a VM's power state.
    Power {
        /// The VM.
        vmid: u32,
        /// The change.
        power: Power,
        /// Whether to ignore a lock of its configuration.
        #[serde(default)]
        skiplock: bool,
    },
    /// Destroys a VM.
    Destroy {
        /// The VM.
        vmid: u32,
        /// Whether to remove it from related configurations.
        purge: bool,
        /// Whether to ignore a lock of its configuration.
        #[serde(default)]
        skiplock: bool,
    },
    /// Takes, deletes or rolls back to a snapshot.
    Snapshot {
        /// The VM.
        vmid: u32,
        /// The action.
        step: SnapshotStep,
    },
    /// Migrates a VM to another node.
    Migrate(Box<Migrate>),
    /// Moves a disk to another storage.
    MoveDisk(Box<MoveDisk>),
    /// Reassigns a disk to another VM.
    Reassign(Box<Reassign>),
    /// Applies a node's pending network configuration.
    ReloadNetwork,
    /// Fails with this text: the work is not simulated.
    Refuse(String),
    /// Moves an uploaded file to its destination.
    Upload(Box<Upload>),
    /// Downloads a file.
    Download(Box<Download>),
    /// Deletes a volume.
    DeleteVolume {
        /// Its storage.
        storage: String,
        /// The volume's id.
        volid: String,
    },
}

/// The result of a stage.
pub enum Next {
    /// The same or another stage, at that time.
    At(SimTime),
    /// The end.
    End(Result<(), String>),
}

/// One stage of a task: its world and its time.
pub struct Turn<'a> {
    /// The world.
    pub world: &'a mut World,
    /// The store of large objects.
    pub store: &'a Store,
    /// The datacenter's index in the list.
    pub dc: usize,
    /// The task.
    pub task: &'a mut Task,
    /// The time.
    pub at: SimTime,
}

impl Turn<'_> {
    fn dc(&mut self) -> &mut Datacenter {
        &mut self.world.pve.datacenters[self.dc]
    }

    fn host(&self) -> String {
        self.task.host.clone()
    }

    fn say(&mut self, line: impl Into<String>) {
        self.task.log.push(line.into());
    }

    fn unix(&self) -> i64 {
        self.world.epoch + (self.at.0 / 1000) as i64
    }

    fn key(&self, vmid: u32) -> String {
        self.world.pve.key(self.dc, vmid)
    }

    fn fault(&mut self, kind: FaultKind) -> bool {
        let host = self.host();
        self.world.faults.take(kind, &host)
    }

    fn after(&mut self, stage: u8, seconds: f64) -> Next {
        self.task.stage = stage;
        Next::At(self.at.after(seconds))
    }

    /// Acquires a lock file, or returns what to do instead.
    fn lock(&mut self, file: &str, shared: bool, wait: f64) -> Result<(), Next> {
        let dc = &mut self.world.pve.datacenters[self.dc];
        match self.task.lock(dc, file, shared, wait, self.at) {
            Got::Locked => Ok(()),
            Got::Later(when) => Err(Next::At(when)),
            Got::Timeout => Err(Next::End(Err(timeout_text(file)))),
        }
    }

    fn step(&mut self) -> Result<Next, Next> {
        match self.task.work.clone() {
            Work::Clone(work) => clone::step(self, *work),
            Work::Create(work) => create::step(self, *work),
            Work::Config { vmid, change } => vm::config(self, vmid, &change),
            Work::Template(vmid) => vm::template(self, vmid),
            Work::Resize { vmid, disk, size } => vm::resize(self, vmid, &disk, &size),
            Work::Power { vmid, power, skiplock } => power::step(self, vmid, power, skiplock),
            Work::Destroy { vmid, purge, skiplock } => vm::destroy(self, vmid, purge, skiplock),
            Work::Snapshot { vmid, step } => snapshot::step(self, vmid, &step),
            Work::Migrate(work) => migrate::step(self, &work),
            Work::MoveDisk(work) => move_disk::step(self, *work),
            Work::Reassign(work) => reassign::step(self, &work),
            Work::ReloadNetwork => {
                if self.task.stage == 0 {
                    return Ok(self.after(1, pace::RELOAD));
                }
                let host = self.host();
                if let Some(host) = self.dc().hosts.get_mut(&host) {
                    host.reload();
                }
                Ok(Next::End(Ok(())))
            }
            Work::Refuse(text) => Ok(Next::End(Err(text))),
            Work::Upload(work) => storage::upload(self, *work),
            Work::Download(work) => storage::download(self, *work),
            Work::DeleteVolume { storage, volid } => storage::delete(self, &storage, &volid),
        }
    }
}

/// Runs every due stage of every task, in order of time.
pub fn run_until(world: &mut World, until: SimTime, store: &Store) {
    loop {
        let mut first: Option<(SimTime, usize, usize)> = None;
        for (dc, datacenter) in world.pve.datacenters.iter().enumerate() {
            for (index, task) in datacenter.tasks.iter().enumerate() {
                let due = task.next.filter(|next| *next <= until);
                if let Some(next) = due.filter(|next| first.is_none_or(|(at, ..)| *next < at)) {
                    first = Some((next, dc, index));
                }
            }
        }
        let Some((at, dc, index)) = first else { return };
        let mut task = world.pve.datacenters[dc].tasks[index].clone();
        let mut turn = Turn { world, store, dc, task: &mut task, at };
        let next = turn.step().unwrap_or_else(|instead| instead);
        let unix = turn.unix();
        match next {
            Next::At(when) => task.next = Some(when),
            Next::End(result) => {
                task.end(result, unix);
                world.pve.datacenters[dc].release(&task.upid, None, at);
            }
        }
        world.pve.datacenters[dc].tasks[index] = task;
    }
}

/// Stops a running task, as `DELETE /nodes/N/tasks/UPID` does.
pub fn interrupt(world: &mut World, dc: usize, index: usize, at: SimTime) {
    let mut task = world.pve.datacenters[dc].tasks[index].clone();
    if task.next.is_none() {
        return;
    }
    let text = match &task.work {
        Work::Clone(work) => {
            clone::undo(&mut world.pve.datacenters[dc], work);
            clone::interrupted(work)
        }
        Work::MoveDisk(work) => {
            move_disk::undo(&mut world.pve.datacenters[dc], &task.host, work);
            "storage migration failed: interrupted by signal".to_owned()
        }
        Work::Migrate(work) => {
            migrate::undo(&mut world.pve.datacenters[dc], work);
            "interrupted by signal".to_owned()
        }
        _ => "interrupted by signal".to_owned(),
    };
    let unix = world.epoch + (at.0 / 1000) as i64;
    task.end(Err(text), unix);
    world.pve.datacenters[dc].release(&task.upid, None, at);
    world.pve.datacenters[dc].tasks[index] = task;
}

/// The error for a missing VM.
pub fn no_config(host: &str, vmid: u32) -> String {
    format!("Configuration file 'nodes/{host}/qemu-server/{vmid}.conf' does not exist")
}

/// The error for a full storage.
fn no_room(storage: &str, kind: &str) -> String {
    match kind {
        "lvmthin" => format!(
            "lvcreate 'pve/{storage}' error: Cannot create new thin volume, free space in thin pool \
             pve/data reached threshold."
        ),
        _ => format!("unable to allocate on storage '{storage}': No space left on device"),
    }
}

/// Options of a VM, as in its configuration file.
type Options = BTreeMap<String, String>;
