//! Calls that create a VM: clone and create.

use std::sync::Arc;

use crate::client::{Client, Request};
use crate::error::Error;
use crate::wire::VmConfig;
use crate::{Claim, CloneMode, Params, VmId};

use super::making::is_making;
use super::settle::Look;

/// A VM to clone from a template.
#[derive(Clone, Debug)]
pub struct CloneRequest {
    /// The template.
    pub source: VmId,
    /// The new VM.
    pub newid: VmId,
    /// Its name: a DNS label or a dotted name.
    pub name: String,
    /// How its disk is created.
    pub mode: CloneMode,
    /// The storage of a full clone's disks; a linked one stays on the template's storage.
    pub storage: Option<String>,
    /// The pool that it joins.
    pub pool: Option<String>,
    /// Its description, and how to distinguish it from any other VM.
    pub claim: Arc<dyn Claim>,
}

/// A VM to create from scratch.
#[derive(Clone, Debug)]
pub struct CreateRequest {
    /// The new VM.
    pub vmid: VmId,
    /// Its name: a DNS label or a dotted name.
    pub name: String,
    /// The pool that it joins.
    pub pool: Option<String>,
    /// Its description, and how to distinguish it from any other VM.
    pub claim: Arc<dyn Claim>,
    /// All other options, such as `scsi0` with `import-from`.
    pub settings: Params,
}

impl Client {
    /// Clones a VM, waits until it is complete and unlocked, and returns its configuration.
    ///
    /// `landing` is the target host of the clone: this one, or another of the same Proxmox VE cluster
    /// if the template is on shared storage.
    ///
    /// Proxmox VE removes a clone that fails because of a lock, so it is tried again. Needs VM.Clone on
    /// the template, VM.Allocate on the VMID or pool, Datastore.AllocateSpace, SDN.Use. Source:
    /// qemu-server src/PVE/API2/Qemu.pm, `clone_vm`.
    ///
    /// # Errors
    /// [`Error::NotOurs`] if the VMID turns out to be another VM; else the call's or the task's.
    pub async fn clone_vm(
        &self,
        wanted: &CloneRequest,
        landing: &Client,
    ) -> Result<VmConfig, Error> {
        let CloneRequest { source, newid, name, mode, storage, pool, claim } = wanted;
        let full = *mode == CloneMode::Full;
        let form = Params::new()
            .with("newid", newid)
            .with("name", name)
            .with("description", claim.description())
            .flag("full", full)
            .maybe("storage", storage.as_ref().filter(|_| full))
            .maybe("pool", pool.as_ref())
            .maybe("target", (landing.host() != self.host()).then(|| landing.host()));
        let from = source.to_string();
        let path = ["nodes", self.host().as_str(), "qemu", &from, "clone"];
        self.settle(Request::post(&path).form(form), || async {
            match landing.look_for_vm(*newid, &**claim, self).await? {
                Look::Nothing => self.look_for_clone(*source, *newid).await,
                seen => Ok(seen),
            }
        })
        .await?;
        landing.wait_made(*newid, self).await
    }

    /// Creates a VM, waits until it is complete and unlocked, and returns its configuration.
    ///
    /// Source: qemu-server src/PVE/API2/Qemu.pm, `create_vm`.
    ///
    /// # Errors
    /// As for [`Client::clone_vm`].
    pub async fn create_vm(&self, wanted: &CreateRequest) -> Result<VmConfig, Error> {
        let CreateRequest { vmid, name, pool, claim, settings } = wanted;
        let mut form = Params::new()
            .with("vmid", vmid)
            .with("name", name)
            .with("description", claim.description())
            .maybe("pool", pool.as_ref());
        for (key, value) in settings.iter() {
            form = form.with(key, value);
        }
        let request = Request::post(&["nodes", self.host().as_str(), "qemu"]).form(form);
        let id = vmid.to_string();
        self.settle(request, || async {
            match self.look_for_vm(*vmid, &**claim, self).await? {
                Look::Nothing => self.look_for_task("qmcreate", &id).await,
                seen => Ok(seen),
            }
        })
        .await?;
        self.wait_made(*vmid, self).await
    }

    /// Whether the claimed VM exists at the VMID; `home` is the host of its template.
    async fn look_for_vm(
        &self,
        vmid: VmId,
        claim: &dyn Claim,
        home: &Client,
    ) -> Result<Look, Error> {
        let Some(config) = self.find_vm(vmid).await? else { return Ok(Look::Nothing) };
        let ours = claim.holds(config.description());
        let making = config.lock().is_some_and(is_making);
        // A VM whose creation has just started has no description yet, or the placeholder's.
        let unborn = config.is_clone_placeholder()
            || (config.lock().is_some() && config.get("description").is_none());
        if ours && !making {
            return Ok(Look::Done);
        }
        if !ours && !unborn {
            return Err(self.not_ours(vmid, &config, claim));
        }
        match self.is_made(vmid, home).await? {
            true => Ok(Look::Underway),
            false => Ok(Look::Left(Box::new(self.cut_off(vmid, &config)))),
        }
    }

    fn not_ours(&self, vmid: VmId, config: &VmConfig, claim: &dyn Claim) -> Error {
        let name = config.name().unwrap_or("without a name");
        let found = format!("it is `{name}`{}", claim.other(config.description()));
        Error::NotOurs { host: self.host().clone(), vmid, found }
    }

    /// Whether one of k8sha's clone tasks creates this VM. The task's id has only the source, its log
    /// has both. Source: qemu-server src/PVE/API2/Qemu.pm, `clone_vm`.
    async fn look_for_clone(&self, source: VmId, newid: VmId) -> Result<Look, Error> {
        let source = source.to_string();
        let ours = self.identity().user();
        for task in self.running_tasks("qmclone").await? {
            if task.id != source || task.user.split('!').next() != Some(ours) {
                continue;
            }
            let told = self.cloned_by(&task).await?;
            // A task that has not logged it yet may be the one.
            if told.is_none_or(|id| id == newid.to_string()) {
                return Ok(Look::Underway);
            }
        }
        Ok(Look::Nothing)
    }
}
