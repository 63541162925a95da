//! Calls that make a VM: clone and create.

use crate::cluster::{CloneMode, VmId};
use crate::proxmox::client::{Client, Request};
use crate::proxmox::error::Error;
use crate::proxmox::wire::VmConfig;
use crate::proxmox::{Mark, Params};

use super::making::is_making;
use super::settle::Look;

/// A VM to be made from a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloneRequest {
    /// The template.
    pub source: VmId,
    /// The new VM.
    pub newid: VmId,
    /// Its name: a DNS label or a dotted name.
    pub name: String,
    /// How its disk is made.
    pub mode: CloneMode,
    /// The storage of a full clone's disks; a linked one stays on the template's.
    pub storage: Option<String>,
    /// The pool that it joins.
    pub pool: Option<String>,
    /// The first line of its description.
    pub line: String,
    /// What says that it is ours.
    pub mark: Mark,
}

/// A VM to be made from nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateRequest {
    /// The new VM.
    pub vmid: VmId,
    /// Its name: a DNS label or a dotted name.
    pub name: String,
    /// The pool that it joins.
    pub pool: Option<String>,
    /// The first line of its description.
    pub line: String,
    /// What says that it is ours.
    pub mark: Mark,
    /// All else, such as `scsi0` with `import-from`.
    pub settings: Params,
}

impl Client {
    /// Clones a VM, waits until it is whole and unlocked, and answers its configuration.
    ///
    /// `landing` is the host that the clone is for: this one, or another of the same Proxmox VE
    /// cluster where the template lies on shared storage.
    ///
    /// A clone that fails over a lock was taken away again by Proxmox VE and is tried again. Needs
    /// VM.Clone on the template, VM.Allocate on the VMID or pool, Datastore.AllocateSpace, SDN.Use.
    /// Source: qemu-server src/PVE/API2/Qemu.pm, `clone_vm`.
    ///
    /// # Errors
    /// [`Error::NotOurs`] when the VMID turns out to hold another VM; else the call's or the task's.
    pub async fn clone_vm(
        &self,
        wanted: &CloneRequest,
        landing: &Client,
    ) -> Result<VmConfig, Error> {
        let CloneRequest { source, newid, name, mode, storage, pool, line, mark } = wanted;
        let full = *mode == CloneMode::Full;
        let form = Params::new()
            .with("newid", newid)
            .with("name", name)
            .with("description", mark.describe(line))
            .flag("full", full)
            .maybe("storage", storage.as_ref().filter(|_| full))
            .maybe("pool", pool.as_ref())
            .maybe("target", (landing.host() != self.host()).then(|| landing.host()));
        let from = source.to_string();
        let path = ["nodes", self.host().as_str(), "qemu", &from, "clone"];
        self.settle(Request::post(&path).form(form), || async {
            match landing.look_for_vm(*newid, mark, self).await? {
                Look::Nothing => self.look_for_clone(*source, *newid).await,
                seen => Ok(seen),
            }
        })
        .await?;
        landing.wait_made(*newid, self).await
    }

    /// Creates a VM, waits until it is whole and unlocked, and answers its configuration.
    ///
    /// Source: qemu-server src/PVE/API2/Qemu.pm, `create_vm`.
    ///
    /// # Errors
    /// As for [`Client::clone_vm`].
    pub async fn create_vm(&self, wanted: &CreateRequest) -> Result<VmConfig, Error> {
        let CreateRequest { vmid, name, pool, line, mark, settings } = wanted;
        let mut form = Params::new()
            .with("vmid", vmid)
            .with("name", name)
            .with("description", mark.describe(line))
            .maybe("pool", pool.as_ref());
        for (key, value) in settings.iter() {
            form = form.with(key, value);
        }
        let request = Request::post(&["nodes", self.host().as_str(), "qemu"]).form(form);
        let id = vmid.to_string();
        self.settle(request, || async {
            match self.look_for_vm(*vmid, mark, self).await? {
                Look::Nothing => self.look_for_task("qmcreate", &id).await,
                seen => Ok(seen),
            }
        })
        .await?;
        self.wait_made(*vmid, self).await
    }

    /// Whether the VM of this mark stands on the VMID; `home` is where its template lives.
    async fn look_for_vm(&self, vmid: VmId, mark: &Mark, home: &Client) -> Result<Look, Error> {
        let Some(config) = self.find_vm(vmid).await? else { return Ok(Look::Nothing) };
        let ours = config.mark().is_some_and(|found| found.is_same_making(mark));
        let making = config.lock().is_some_and(is_making);
        // A VM that is just being begun has no description yet, or the placeholder's.
        let unborn = config.is_clone_placeholder()
            || (config.lock().is_some() && config.get("description").is_none());
        if ours && !making {
            return Ok(Look::Done);
        }
        if !ours && !unborn {
            return Err(self.not_ours(vmid, &config));
        }
        match self.is_made(vmid, home).await? {
            true => Ok(Look::Underway),
            false => Ok(Look::Left(Box::new(self.cut_off(vmid, &config)))),
        }
    }

    fn not_ours(&self, vmid: VmId, config: &VmConfig) -> Error {
        let name = config.name().unwrap_or("without a name");
        let found = match config.mark() {
            Some(Mark { cluster, node: Some(node), .. }) => {
                format!(
                    "it is `{name}`, node `{node}` of the cluster `{cluster}`, made at another time"
                )
            }
            Some(Mark { cluster, node: None, .. }) => {
                format!("it is `{name}`, a template of the cluster `{cluster}`")
            }
            None => format!("it is `{name}` and does not bear our mark"),
        };
        Error::NotOurs { host: self.host().clone(), vmid, found }
    }

    /// Whether a clone task of ours makes this VM. The task's id names only the source, its log
    /// names both. Source: qemu-server src/PVE/API2/Qemu.pm, `clone_vm`.
    async fn look_for_clone(&self, source: VmId, newid: VmId) -> Result<Look, Error> {
        let source = source.to_string();
        let ours = self.identity().user();
        for task in self.running_tasks("qmclone").await? {
            if task.id != source || task.user.split('!').next() != Some(ours) {
                continue;
            }
            let told = self.cloned_by(&task).await?;
            // A task that has not told yet may be ours.
            if told.is_none_or(|id| id == newid.to_string()) {
                return Ok(Look::Underway);
            }
        }
        Ok(Look::Nothing)
    }
}
