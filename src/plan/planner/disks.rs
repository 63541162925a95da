//! Planning how large a template's disk is, so that its clones need not grow theirs.

use super::Draft;
use crate::cluster::{CloneMode, HostName, Node};
use crate::plan::action::StepId;
use crate::plan::inventory::TemplateState;
use crate::plan::{compare, spec};
use crate::proxmox::wire::VmConfig;

impl Draft<'_> {
    /// The size in GiB that a template's disk is grown to: that of the smallest of its clones, since
    /// a disk only grows. None where clones are full: some storages would copy what is empty too.
    pub(super) fn common_disk(&self, home: &HostName, os: &str) -> Option<u32> {
        if self.cluster.proxmox.clone == CloneMode::Full {
            return None;
        }
        let clones = self.cluster.nodes.iter();
        let clones = clones.filter(|node| node.os == os && self.home(&node.host, os) == *home);
        clones.map(|node| node.disk_gib).min()
    }

    /// The size in bytes of the disk that a row's new machine begins with, where it is known: that of
    /// its template as it is, or as this plan makes it.
    fn inherited_disk(&self, node: &Node, home: &HostName) -> Option<u64> {
        if self.steps.has(&StepId::Template(home.clone(), node.os.clone())) {
            return self.common_disk(home, &node.os).map(|gib| u64::from(gib) << 30);
        }
        let template = self.inventory.hosts.get(home)?.templates.get(&node.os)?;
        let settings = TemplateState::settings(template)?;
        VmConfig(settings.clone()).disk_size(spec::DISK)
    }

    /// The storage that a row's new machine has its disk on: a linked clone lies where its template lies.
    pub(super) fn clone_storage(&self, node: &Node, home: &HostName) -> String {
        let usual = &self.cluster.proxmox.hosts[&node.host].storage;
        let template = || {
            let state = self.inventory.hosts.get(home)?.templates.get(&node.os)?;
            compare::storage_of(TemplateState::settings(state)?.get(spec::DISK)?)
        };
        match self.cluster.proxmox.clone {
            CloneMode::Linked => template().unwrap_or(usual).to_owned(),
            CloneMode::Full => usual.clone(),
        }
    }

    /// Whether a row's new machine begins with a disk that has to grow. One that is too large stays so,
    /// which is told.
    pub(super) fn begins_too_small(&mut self, node: &Node, home: &HostName) -> bool {
        let want = u64::from(node.disk_gib) << 30;
        let inherited = self.inherited_disk(node, home);
        if let Some(size) = inherited.filter(|size| *size > want) {
            let (name, gib) = (&node.name, size as f64 / f64::from(1 << 30));
            self.notices.push(format!(
                "{name}: its disk will have {gib}G, as its template's has, instead of {}G: a disk \
                 only grows",
                node.disk_gib
            ));
        }
        inherited.is_none_or(|size| size < want)
    }
}
