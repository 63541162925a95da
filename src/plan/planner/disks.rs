//! Plans the size of a template's disk, so that its clones need not grow theirs.

use super::Draft;
use crate::cluster::{CloneMode, HostName, Node};
use crate::plan::action::StepId;
use crate::plan::inventory::TemplateState;
use crate::plan::{compare, spec};
use crate::proxmox::wire::VmConfig;

impl Draft<'_> {
    /// The size in GiB to which a template's disk is grown: that of its smallest clone, because a
    /// disk can only grow. None for full clones: some storages would copy the empty space too.
    pub(super) fn common_disk(&self, home: &HostName, os: &str) -> Option<u32> {
        if self.cluster.proxmox.clone == CloneMode::Full {
            return None;
        }
        let clones = self.cluster.nodes.iter();
        let clones = clones.filter(|node| node.os == os && self.home(&node.host, os) == *home);
        clones.map(|node| node.disk_gib).min()
    }

    /// The size in bytes of the disk that a row's new machine starts with, if known: that of its
    /// template as it is, or as this plan creates it.
    fn inherited_disk(&self, node: &Node, home: &HostName) -> Option<u64> {
        if self.steps.has(&StepId::Template(home.clone(), node.os.clone())) {
            return self.common_disk(home, &node.os).map(|gib| u64::from(gib) << 30);
        }
        let template = self.inventory.hosts.get(home)?.templates.get(&node.os)?;
        let settings = TemplateState::settings(template)?;
        VmConfig(settings.clone()).disk_size(spec::DISK)
    }

    /// The storage of a row's new machine: a linked clone is on the storage of its template.
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

    /// Whether the disk of a row's new machine has to grow. One that is too large is kept, with a
    /// notice.
    pub(super) fn begins_too_small(&mut self, node: &Node, home: &HostName) -> bool {
        let want = u64::from(node.disk_gib) << 30;
        let inherited = self.inherited_disk(node, home);
        if let Some(size) = inherited.filter(|size| *size > want) {
            let (name, gib) = (&node.name, size as f64 / f64::from(1 << 30));
            self.notices.push(format!(
                "{name}: its disk will have {gib}G, like its template's, instead of {}G: a disk \
                 can only grow",
                node.disk_gib
            ));
        }
        inherited.is_none_or(|size| size < want)
    }
}
