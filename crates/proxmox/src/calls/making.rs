//! Whether a VM with a creation lock is really being created: only a task creates one. An interrupted
//! host keeps the lock and Proxmox VE's placeholder forever.

use super::settle::LOOKS;
use crate::VmId;
use crate::client::{Client, Request};
use crate::error::{CutOff, Error};
use crate::wire::{TaskSummary, VmConfig};
use crate::{Params, Upid};
use k8sha_base::clock::{Expired, Wait};
use k8sha_base::event;
use k8sha_base::limits::{self, excerpt, task};

/// The wait between two looks at a lock.
const LOCK_WAIT: std::time::Duration = std::time::Duration::from_secs(1);

/// More active tasks than a node runs.
const TASKS: u32 = 500;

/// Whether a lock is that of a VM being created.
pub fn is_making(lock: &str) -> bool {
    matches!(lock, "clone" | "create")
}

impl Client {
    /// The running task on this host that creates a VM, of those that the account may see: others' need
    /// Sys.Audit.
    ///
    /// The id of a clone's task is the *source*; its log names the new VM. Source: qemu-server
    /// src/PVE/API2/Qemu.pm, `clone_vm`.
    ///
    /// # Errors
    /// Those of a reading call.
    pub async fn maker(&self, vmid: VmId) -> Result<Option<TaskSummary>, Error> {
        let query = Params::new().with("source", "active").with("limit", TASKS);
        let request = Request::list(&["nodes", self.host().as_str(), "tasks"]).query(query);
        let tasks: Vec<TaskSummary> = self.read(request).await?;
        for task in tasks.into_iter().filter(TaskSummary::is_running) {
            let makes = match task.kind.as_str() {
                "qmcreate" | "qmrestore" => task.id == vmid.to_string(),
                // A task that has not logged it yet may be the one.
                "qmclone" => self.cloned_by(&task).await?.is_none_or(|id| id == vmid.to_string()),
                _ => false,
            };
            if makes {
                return Ok(Some(task));
            }
        }
        Ok(None)
    }

    /// The VMID that a clone task creates, once its log shows it.
    pub(super) async fn cloned_by(&self, task: &TaskSummary) -> Result<Option<String>, Error> {
        let Ok(upid) = task.upid.parse::<Upid>() else { return Ok(None) };
        let log = self.task_log(&upid, 0, 5).await?;
        Ok(log.iter().find_map(|line| {
            let (_, rest) = line.t.split_once("creating a clone of VM ")?;
            rest.split_once(" with ID ").map(|(_, id)| id.trim().to_owned())
        }))
    }

    /// Whether a task creates the VM on this host, or on its template's host.
    pub(super) async fn is_made(&self, vmid: VmId, home: &Client) -> Result<bool, Error> {
        if home.maker(vmid).await?.is_some() {
            return Ok(true);
        }
        Ok(home.host() != self.host() && self.maker(vmid).await?.is_some())
    }

    /// Waits until a newly created VM has no lock.
    ///
    /// # Errors
    /// [`Error::CutOff`] if no task creates it any more; [`Error::StillLocked`] after [`task::LOCKED`];
    /// those of a reading call.
    pub(super) async fn wait_made(&self, vmid: VmId, home: &Client) -> Result<VmConfig, Error> {
        let mut wait = Wait::new(self.clock(), task::LOCKED, LOCK_WAIT)
            .at_least(limits::LEAST)
            .telling(|lock: &String| {
                event::progress(format!("waiting for the lock ({lock}) of VM {vmid}"));
            });
        let mut alone = 0;
        loop {
            let config = self.vm_config(vmid).await?;
            let Some(lock) = config.lock() else { return Ok(config) };
            if is_making(lock) {
                // A task removes the lock last, and another node sees that late.
                alone = if self.is_made(vmid, home).await? { 0 } else { alone + 1 };
                if alone == LOOKS {
                    return Err(self.cut_off(vmid, &config));
                }
            }
            let waited = wait.not_yet(lock.to_owned()).await;
            waited.map_err(|Expired { seen, limit }| Error::StillLocked {
                host: self.host().clone(),
                vmid,
                lock: excerpt(&seen, 40),
                seconds: limit.as_secs(),
            })?;
        }
    }

    /// The error for a VM that was left incomplete.
    pub(super) fn cut_off(&self, vmid: VmId, config: &VmConfig) -> Error {
        Error::CutOff(Box::new(CutOff {
            host: self.host().clone(),
            vmid,
            lock: excerpt(config.lock().unwrap_or_default(), 40),
            placeholder: config.is_clone_placeholder(),
        }))
    }
}
