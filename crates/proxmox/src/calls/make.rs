//! Calls that create a VM: clone and create.

use std::sync::Arc;

use crate::client::{Client, Request};
use crate::error::Error;
use crate::wire::VmConfig;
use crate::{Claim, CloneMode, Params, VmId};

use super::making::is_making;
use super::settle::Look;

/// A VM to be made from a template.
#[derive(Clone, Debug)]
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
    /// Its description, and how to distinguish it from any other VM.
    pub claim: Arc<dyn Claim>,
}

/// A VM to be made from nothing.
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

    /// Creates a VM, waits until it is whole and unlocked, and answers its configuration.
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

    /// Whether the VM that is claimed stands on the VMID; `home` is where its template lives.
    async fn look_for_vm(
        &self,
        vmid: VmId,
        claim: &dyn Claim,
        home: &Client,
    ) -> Result<Look, Error> {
        let Some(config) = self.find_vm(vmid).await? else { return Ok(Look::Nothing) };
        let ours = claim.holds(config.description());
        let making = config.lock().is_some_and(is_making);
        // A VM that is just being begun has no description yet, or the placeholder's.
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
