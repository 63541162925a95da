//! Calls on an existing VM.

use std::time::Duration;

use crate::client::{Client, Request};
use crate::error::Error;
use crate::wire::{AgentInterfaces, VmConfig, VmPending, VmStatus, VmSummary};
use crate::{HostName, VmId};
use crate::{Params, print_size};

use super::settle::Look;

impl Client {
    /// The VMs of this host that the account may see; live, not the cluster's cache. Concurrent callers
    /// share a read.
    ///
    /// # Errors
    /// Those of a reading call.
    pub async fn vms(&self) -> Result<Vec<VmSummary>, Error> {
        self.read_list(Request::list(&["nodes", self.host().as_str(), "qemu"])).await
    }

    /// The VMs of this host from a read of at most that age: for pollers, which share one list per
    /// turn.
    ///
    /// # Errors
    /// Those of a reading call.
    pub async fn watched_vms(&self, age: Duration) -> Result<Vec<VmSummary>, Error> {
        self.watch_list(Request::list(&["nodes", self.host().as_str(), "qemu"]), age).await
    }

    /// The configuration of a VM, pending changes included.
    ///
    /// # Errors
    /// Those of a reading call; an absent VM is a refusal with [`Error::is_absent`].
    pub async fn vm_config(&self, vmid: VmId) -> Result<VmConfig, Error> {
        self.read(Request::get(&self.vm_path(&vmid.to_string(), &["config"]))).await
    }

    /// The configuration of a VM, or `None` if this host has none with that VMID.
    ///
    /// # Errors
    /// Those of a reading call.
    pub async fn find_vm(&self, vmid: VmId) -> Result<Option<VmConfig>, Error> {
        match self.vm_config(vmid).await {
            Ok(config) => Ok(Some(config)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The configuration of a VM on any node of the host's Proxmox VE cluster, requested through this
    /// host; `None` if that node has none with that VMID.
    ///
    /// # Errors
    /// Those of a reading call.
    pub async fn config_on(&self, node: &HostName, vmid: VmId) -> Result<Option<VmConfig>, Error> {
        let path = ["nodes", node.as_str(), "qemu", &vmid.to_string(), "config"];
        match self.read(Request::get(&path)).await {
            Ok(config) => Ok(Some(config)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether a VM is running, live.
    ///
    /// # Errors
    /// Those of a reading call.
    pub async fn vm_status(&self, vmid: VmId) -> Result<VmStatus, Error> {
        self.read(Request::get(&self.vm_path(&vmid.to_string(), &["status", "current"]))).await
    }

    /// The effective options of a VM, and those pending until its next start.
    ///
    /// # Errors
    /// Those of a reading call.
    pub async fn vm_pending(&self, vmid: VmId) -> Result<VmPending, Error> {
        self.read(Request::list(&self.vm_path(&vmid.to_string(), &["pending"]))).await
    }

    /// Whether a VM is switched on, by the list that concurrent callers share.
    ///
    /// # Errors
    /// Those of a reading call.
    pub async fn runs(&self, vmid: VmId) -> Result<bool, Error> {
        match self.vms().await?.iter().find(|vm| vm.vmid == vmid) {
            Some(vm) => Ok(vm.status == "running"),
            // The list omits what the account may not see, without an error.
            None => Ok(self.vm_status(vmid).await?.is_running()),
        }
    }

    /// Sets options of a VM, and unsets those named in `delete`.
    ///
    /// With a digest the host refuses if the VM was changed since it was read; after a lost answer only
    /// the values decide.
    ///
    /// # Errors
    /// The call's or the task's.
    pub async fn set_config(
        &self,
        vmid: VmId,
        settings: &Params,
        delete: &[&str],
        digest: Option<&str>,
    ) -> Result<(), Error> {
        let mut form = settings.clone();
        if !delete.is_empty() {
            form = form.with("delete", delete.join(","));
        }
        let id = vmid.to_string();
        let request =
            Request::post(&self.vm_path(&id, &["config"])).form(form.maybe("digest", digest));
        self.settle(request, || async {
            let config = self.vm_config(vmid).await?;
            let set = settings.iter().all(|(key, wanted)| config.holds(key, wanted));
            if set && delete.iter().all(|key| config.get(key).is_none()) {
                return Ok(Look::Done);
            }
            self.look_for_task("qmconfig", &id).await
        })
        .await
    }

    /// Grows a disk, which the caller has checked to be smaller, to a size in bytes.
    ///
    /// Source: qemu-server src/PVE/API2/Qemu.pm, `resize_vm`: a PUT that nevertheless starts a task.
    ///
    /// # Errors
    /// The call's or the task's.
    pub async fn resize_disk(&self, vmid: VmId, disk: &str, bytes: u64) -> Result<(), Error> {
        let id = vmid.to_string();
        let form = Params::new().with("disk", disk).with("size", print_size(bytes));
        let request = Request::put(&self.vm_path(&id, &["resize"])).form(form);
        let is_done = async || -> Result<bool, Error> {
            Ok(self.vm_config(vmid).await?.disk_size(disk).is_some_and(|size| size >= bytes))
        };
        self.settle(request, || async {
            match is_done().await? {
                true => Ok(Look::Done),
                false => self.look_for_task("resize", &id).await,
            }
        })
        .await
    }

    /// Converts a stopped VM to a template; an existing template is left alone.
    ///
    /// # Errors
    /// The call's or the task's.
    pub async fn make_template(&self, vmid: VmId) -> Result<(), Error> {
        let id = vmid.to_string();
        if self.vm_config(vmid).await?.is_template() {
            return Ok(());
        }
        self.settle(Request::post(&self.vm_path(&id, &["template"])), || async {
            if self.vm_config(vmid).await?.is_template() {
                return Ok(Look::Done);
            }
            self.look_for_task("qmtemplate", &id).await
        })
        .await
    }

    /// Starts a VM; a running one is left alone.
    ///
    /// # Errors
    /// The call's or the task's.
    pub async fn start_vm(&self, vmid: VmId) -> Result<(), Error> {
        let id = vmid.to_string();
        let request = Request::post(&self.vm_path(&id, &["status", "start"]));
        let outcome = self.settle(request, || self.look_for_power(vmid, true, "qmstart")).await;
        match outcome {
            // Source: qemu-server src/PVE/QemuServer.pm, `vm_start_nolock`.
            Err(error) if error.words().is_some_and(|text| text.contains("already running")) => {
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// Stops a VM at once, like pulling its plug; a stopped one is left alone.
    ///
    /// # Errors
    /// The call's or the task's.
    pub async fn stop_vm(&self, vmid: VmId) -> Result<(), Error> {
        let id = vmid.to_string();
        let request = Request::post(&self.vm_path(&id, &["status", "stop"]));
        self.settle(request, || self.look_for_power(vmid, false, "qmstop")).await
    }

    /// Asks a guest to shut down, and stops it after `patience`.
    ///
    /// # Errors
    /// The call's or the task's.
    pub async fn shutdown_vm(&self, vmid: VmId, patience: Duration) -> Result<(), Error> {
        let id = vmid.to_string();
        let form = Params::new().with("timeout", patience.as_secs()).flag("forceStop", true);
        let request = Request::post(&self.vm_path(&id, &["status", "shutdown"])).form(form);
        self.settle(request, || self.look_for_power(vmid, false, "qmshutdown")).await
    }

    async fn look_for_power(&self, vmid: VmId, on: bool, kind: &str) -> Result<Look, Error> {
        if self.vm_status(vmid).await?.is_running() == on {
            return Ok(Look::Done);
        }
        self.look_for_task(kind, &vmid.to_string()).await
    }

    /// Destroys a stopped VM or a template with all its disks, and removes it from backup jobs,
    /// replication and HA. A missing VM is not an error.
    ///
    /// # Errors
    /// The call's or the task's.
    pub async fn destroy_vm(&self, vmid: VmId) -> Result<(), Error> {
        let id = vmid.to_string();
        let query = Params::new().flag("purge", true).flag("destroy-unreferenced-disks", true);
        let request = Request::delete(&self.vm_path(&id, &[])).query(query);
        let outcome = self
            .settle(request, || async {
                if self.find_vm(vmid).await?.is_none() {
                    return Ok(Look::Done);
                }
                self.look_for_task("qmdestroy", &id).await
            })
            .await;
        match outcome {
            Err(error) if error.is_absent() => Ok(()),
            outcome => outcome,
        }
    }

    /// Whether the guest agent answers. If it does not, this blocks a worker of the host for three
    /// seconds, so never query many VMs at once.
    ///
    /// # Errors
    /// The call's, except that the VM or the agent does not run.
    pub async fn agent_answers(&self, vmid: VmId) -> Result<bool, Error> {
        let id = vmid.to_string();
        let request = Request::post(&self.vm_path(&id, &["agent", "ping"])).harmless();
        // Source: qemu-server src/PVE/QemuServer/Agent.pm.
        const SILENT: [&str; 3] = ["agent is not running", "is not running", "No QEMU guest agent"];
        match self.send(&request).await {
            Ok(_) => Ok(true),
            // A host whose workers all wait for agents that do not answer returns 596.
            Err(Error::NoAnswer { .. }) => Ok(false),
            Err(error) => match error.words() {
                Some(words) if SILENT.iter().any(|text| words.contains(text)) => Ok(false),
                _ => Err(error),
            },
        }
    }

    /// The guest's interfaces, as its agent sees them.
    ///
    /// # Errors
    /// Those of a reading call; refused if no agent runs.
    pub async fn agent_interfaces(&self, vmid: VmId) -> Result<AgentInterfaces, Error> {
        let id = vmid.to_string();
        let path = self.vm_path(&id, &["agent", "network-get-interfaces"]);
        // A Kubernetes node has an interface per pod.
        self.read(Request::list(&path)).await
    }

    fn vm_path<'a>(&'a self, id: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
        let mut path = vec!["nodes", self.host().as_str(), "qemu", id];
        path.extend_from_slice(rest);
        path
    }
}
