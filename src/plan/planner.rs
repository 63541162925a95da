//! From what is wanted and what exists to what will be done. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::conflicts::{Conflict, conflicts};
use super::inventory::{Inventory, OurVm, TemplateState, VmState};
use super::spec::{self, NodeSpec};
use super::{Action, Fate, Plan, Step, VmFate};
use crate::cluster::{Cluster, Cni, HostName, Node, NodeName, Role, TemplateSource, VmId};

mod balance;
#[cfg(test)]
mod tests;

/// Which part of the job is planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The hosts acted on; `None` is all of them.
    pub hosts: Option<BTreeSet<HostName>>,
    /// Whether VMs are made.
    pub provision: bool,
    /// Whether Kubernetes is.
    pub bootstrap: bool,
}

impl Part {
    /// The whole job.
    pub fn all() -> Self {
        Self { hosts: None, provision: true, bootstrap: true }
    }

    /// Whether a host is acted on.
    pub fn covers(&self, host: &HostName) -> bool {
        self.hosts.as_ref().is_none_or(|hosts| hosts.contains(host))
    }
}

/// What each node's VM is to look like, by node.
pub type Specs = BTreeMap<NodeName, NodeSpec>;

/// Plans the job.
///
/// # Errors
/// All conflicts at once, when a VM of somebody else's stands on one of our VMIDs.
pub fn plan(
    cluster: &Cluster,
    specs: &Specs,
    inventory: &Inventory,
    part: &Part,
) -> Result<Plan, Vec<Conflict>> {
    let conflicts = conflicts(cluster, specs, inventory, part);
    if !conflicts.is_empty() {
        return Err(conflicts);
    }
    let mut draft = Draft {
        cluster,
        specs,
        inventory,
        part,
        steps: Vec::new(),
        ids: BTreeSet::new(),
        notices: Vec::new(),
    };
    let vms = draft.vms();
    if part.provision {
        draft.provision();
    }
    draft.boots();
    draft.balance();
    if part.bootstrap {
        draft.bootstrap();
    }
    Ok(Plan {
        cluster: cluster.name.clone(),
        topology: inventory.topology.clone(),
        vms,
        steps: draft.steps,
        notices: draft.notices,
    })
}

struct Draft<'a> {
    cluster: &'a Cluster,
    specs: &'a Specs,
    inventory: &'a Inventory,
    part: &'a Part,
    steps: Vec<Step>,
    ids: BTreeSet<String>,
    notices: Vec<String>,
}

impl Draft<'_> {
    /// Adds a step; of what it needs, only what is itself to be done counts.
    fn step(&mut self, id: String, on: impl ToString, action: Action, needs: &[String]) {
        let needs = needs.iter().filter(|id| self.ids.contains(*id)).cloned().collect();
        self.ids.insert(id.clone());
        self.steps.push(Step { id, on: on.to_string(), action, needs });
    }

    /// The rows acted on, in the order in which their steps queue: what the first `kubeadm init`
    /// waits for comes first.
    fn rows(&self) -> Vec<&Node> {
        let first = self.cluster.first_master().name.clone();
        let mut rows: Vec<&Node> =
            self.cluster.nodes.iter().filter(|node| self.part.covers(&node.host)).collect();
        rows.sort_by_key(|node| (node.name != first, node.role));
        rows
    }

    fn ours(&self, node: &Node) -> Option<&OurVm> {
        match self.inventory.vms.get(&node.name) {
            Some(VmState::Ours(vm)) => Some(vm),
            _ => None,
        }
    }

    fn booted(&self, node: &Node) -> bool {
        self.inventory.nodes.get(&node.name).is_some_and(|state| state.booted)
    }

    /// The host on which a host's template lives: itself, unless two hosts of one Proxmox VE
    /// cluster name the same VMID and the same (shared) storage; then the first of them.
    fn home(&self, host: &HostName, os: &str) -> HostName {
        let hosts = &self.cluster.proxmox.hosts;
        let own = &hosts[host];
        let same = |other: &crate::cluster::Host| {
            other.storage == own.storage && other.templates.get(os) == own.templates.get(os)
        };
        let first = hosts.iter().find(|(_, other)| same(other)).map(|(name, _)| name.clone());
        first.filter(|_| self.inventory.one_cluster).unwrap_or_else(|| host.clone())
    }

    fn vms(&mut self) -> Vec<VmFate> {
        let cluster = self.cluster;
        cluster
            .nodes
            .iter()
            .filter(|node| self.part.covers(&node.host))
            .map(|node| {
                let fate = match self.ours(node) {
                    None if self.part.provision => Fate::Created,
                    None => Fate::Absent,
                    Some(vm) => {
                        let changes = self.changes(node, vm);
                        if changes.is_empty() || !self.part.provision {
                            Fate::Kept
                        } else {
                            Fate::Changed { changes }
                        }
                    }
                };
                VmFate {
                    node: node.name.clone(),
                    role: node.role,
                    host: node.host.clone(),
                    vmid: node.vmid,
                    fate,
                }
            })
            .collect()
    }

    /// What differs in a VM, less what a running guest would not read any more.
    fn changes(&self, node: &Node, vm: &OurVm) -> Vec<super::Change> {
        let mut changes = spec::changes(&self.specs[&node.name], &vm.config);
        if self.booted(node) {
            changes.retain(|change| change.key != spec::SEED_DRIVE);
            if let [only] = changes.as_slice()
                && only.key == "description"
            {
                // Nothing but the seed differs, and that is told as a notice.
                changes.clear();
            }
        }
        let want = u64::from(node.disk_gib) << 30;
        if vm.disk_bytes.is_some_and(|have| have < want) {
            changes.push(super::Change {
                key: spec::DISK.to_owned(),
                from: format!("{}G", vm.disk_bytes.unwrap_or_default() as f64 / f64::from(1 << 30)),
                to: format!("{}G", node.disk_gib),
            });
        }
        changes
    }

    fn provision(&mut self) {
        let rows: Vec<Node> = self.rows().into_iter().cloned().collect();
        let whole_dns = rows.iter().any(|node| self.ours(node).is_none_or(|vm| !vm.running));
        if whole_dns {
            self.step("dns".into(), "name servers", Action::Dns, &[]);
        }
        self.templates(&rows);
        for node in &rows {
            self.vm(node);
        }
    }

    fn boots(&mut self) {
        let rows: Vec<Node> = self.rows().into_iter().cloned().collect();
        rows.iter().for_each(|node| self.boot(node));
    }

    /// Waits for a node's first boot, unless it is over.
    fn boot(&mut self, node: &Node) {
        if self.ours(node).is_some_and(|vm| vm.running) && self.booted(node) {
            return;
        }
        let name = node.name.clone();
        let again = self.inventory.nodes.get(&name).is_some_and(|state| state.failed);
        self.step(
            format!("boot/{name}"),
            &name,
            Action::Boot { node: name.clone(), again },
            &[format!("start/{name}")],
        );
        self.step(
            format!("node-dns/{name}"),
            &name,
            Action::NodeDns { node: name.clone() },
            &[format!("boot/{name}")],
        );
    }

    fn templates(&mut self, rows: &[Node]) {
        let mut wanted: Vec<(HostName, String)> = Vec::new();
        for node in rows.iter().filter(|node| self.ours(node).is_none()) {
            let pair = (self.home(&node.host, &node.os), node.os.clone());
            if !wanted.contains(&pair) {
                wanted.push(pair);
            }
        }
        for (name, os) in wanted {
            let host = &self.cluster.proxmox.hosts[&name];
            let Some(TemplateSource::Ours(vmid)) = host.templates.get(&os).copied() else {
                continue;
            };
            let state = self.inventory.hosts.get(&name).cloned().unwrap_or_default();
            if let Some(TemplateState::Ours { template: true, .. }) = state.templates.get(&os) {
                continue;
            }
            let image = &self.cluster.images[&os];
            let file = spec::image_file(&os, image);
            let volume = format!("{}:import/{file}", host.import_storage);
            if !state.images.contains(&volume) {
                self.step(
                    format!("image/{name}/{os}"),
                    &name,
                    Action::Image {
                        host: name.clone(),
                        storage: host.import_storage.clone(),
                        file,
                        url: image.url.clone(),
                        sha256: image.sha256.clone(),
                    },
                    &["dns".into()],
                );
            }
            self.step(
                format!("template/{name}/{os}"),
                &name,
                Action::Template {
                    host: name.clone(),
                    vmid,
                    os: os.clone(),
                    image: volume,
                    storage: host.storage.clone(),
                    spec: spec::template_spec(&os, image),
                },
                &["dns".into(), format!("image/{name}/{os}")],
            );
        }
    }

    fn vm(&mut self, node: &Node) {
        let name = node.name.clone();
        let host = self.cluster.proxmox.hosts[&node.host].clone();
        let ours = self.ours(node).cloned();
        if let Some(called) = ours.as_ref().and_then(|vm| vm.config.get("name"))
            && *called != name.0
        {
            // Its mark says what it is; what somebody calls it in Proxmox is theirs to say.
            self.notices.push(format!("{name}: VM {} is called `{called}` by now", node.vmid));
        }
        let booted = self.booted(node);
        let file = self.specs[&name].seed_file.clone();
        let volume = format!("{}:iso/{file}", host.iso_storage);
        let uploaded =
            self.inventory.hosts.get(&node.host).is_some_and(|state| state.isos.contains(&volume));
        if booted && !uploaded {
            self.notices.extend(self.unread(node));
        } else if !booted && !uploaded {
            self.step(
                format!("seed/{name}"),
                &name,
                Action::Seed {
                    node: name.clone(),
                    host: node.host.clone(),
                    storage: host.iso_storage.clone(),
                    file,
                },
                &["dns".into()],
            );
        }
        let source = host.templates.get(&node.os).map_or(VmId(0), |source| source.vmid());
        let home = self.home(&node.host, &node.os);
        if ours.is_none() {
            self.step(
                format!("clone/{name}"),
                &name,
                Action::Clone {
                    node: name.clone(),
                    host: node.host.clone(),
                    home: home.clone(),
                    source,
                    vmid: node.vmid,
                    full: self.cluster.proxmox.clone == crate::cluster::CloneMode::Full,
                    storage: host.storage.clone(),
                },
                &["dns".into(), format!("template/{home}/{}", node.os)],
            );
        }
        let changes = ours.as_ref().map(|vm| self.changes(node, vm)).unwrap_or_default();
        let (grow, changes): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|change| change.key == spec::DISK);
        let configure = ours.is_none() || !changes.is_empty();
        if configure {
            self.step(
                format!("configure/{name}"),
                &name,
                Action::Configure { node: name.clone(), changes },
                &[format!("clone/{name}"), format!("seed/{name}")],
            );
        }
        if ours.is_none() || !grow.is_empty() {
            self.step(
                format!("grow/{name}"),
                &name,
                Action::Grow { node: name.clone(), to_gib: node.disk_gib },
                &[format!("clone/{name}"), format!("configure/{name}")],
            );
        }
        if ours.as_ref().is_none_or(|vm| !vm.running) {
            self.step(
                format!("start/{name}"),
                &name,
                Action::Start { node: name.clone() },
                &[format!("configure/{name}"), format!("grow/{name}"), format!("seed/{name}")],
            );
        } else if configure {
            self.notices.push(format!(
                "{name} runs: new CPU or memory settings take effect when it is next switched off \
                 and on"
            ));
        }
    }

    fn bootstrap(&mut self) {
        let cluster = self.cluster;
        let first = cluster.first_master().clone();
        let kube = self.inventory.kubernetes.clone().unwrap_or_default();
        let registered = |node: &Node| kube.nodes.get(&node.fqdn);
        let joining: Vec<&Node> = cluster
            .nodes
            .iter()
            .filter(|node| node.role.is_kubernetes() && node.name != first.name)
            .filter(|node| registered(node).is_none_or(|known| !has_role(known, node.role)))
            .collect();
        let balancers: Vec<String> = cluster
            .with_role(Role::LoadBalancer)
            .flat_map(|lb| ["node-dns", "balance"].map(|verb| format!("{verb}/{}", lb.name)))
            .collect();
        let node_dns = |node: &Node| format!("node-dns/{}", node.name);

        self.step("vip".into(), cluster.api.vip, Action::Vip, &balancers);
        let external = cluster.etcd.endpoints().is_some();
        if cluster.etcd.is_ours() {
            self.etcd_members();
        }
        if !kube.initialised {
            if external {
                let needs = [node_dns(&first), "etcd-form".into()];
                self.step("etcd".into(), "etcd", Action::Etcd, &needs);
            }
            self.step(
                "init".into(),
                &first.name,
                Action::Init,
                &[node_dns(&first), "vip".into(), "etcd".into()],
            );
        }
        // A cluster that is made anew has a new CA: what is there of an earlier one lets nobody in.
        if !self.inventory.kubeconfig || !kube.initialised {
            self.step("kubeconfig".into(), &first.name, Action::Kubeconfig, &["init".into()]);
        }
        let settled = |kube: &super::inventory::KubernetesState| {
            kube.initialised && !kube.nodes.is_empty() && kube.nodes.values().all(|node| node.ready)
        };
        if cluster.kubernetes.cni != Cni::None && !settled(&kube) {
            self.step("cni".into(), &first.name, Action::Cni, &["init".into()]);
        }
        if joining.iter().any(|node| registered(node).is_none()) {
            self.step("keys".into(), &first.name, Action::Keys, &["init".into(), "vip".into()]);
        }
        let mut before = String::from("keys");
        for node in joining {
            let id = format!("join/{}", node.name);
            if registered(node).is_none() || node.role == Role::Master {
                // With stacked etcd each master adds a member: two at once can lose quorum.
                // kubeadm asks every etcd member before it lets a master join.
                let mut needs: Vec<String> = ["keys", "vip", "etcd-form"].map(String::from).into();
                needs.push(node_dns(node));
                if !external && node.role == Role::Master {
                    needs.push(before.clone());
                    before = id.clone();
                }
                // Workers touch no etcd and nothing of each other: they join all at once.
                let limited = external && node.role == Role::Master;
                let at_once = cluster.kubernetes.parallel_joins.filter(|_| limited);
                let action = Action::Join { node: node.name.clone(), at_once };
                self.step(id.clone(), &node.name, action, &needs);
            }
            if node.role == Role::Worker {
                self.step(
                    format!("label/{}", node.name),
                    &node.name,
                    Action::Label { node: node.name.clone() },
                    &[id],
                );
            }
        }
        let all: Vec<String> = self.ids.iter().cloned().collect();
        self.step("verify".into(), &cluster.api.name, Action::Verify, &all);
    }
}

impl Draft<'_> {
    /// The members of our etcd: certificates first, then all of them at once.
    fn etcd_members(&mut self) {
        let cluster = self.cluster;
        let seen = |node: &Node| self.inventory.etcd.get(&node.name).copied().unwrap_or_default();
        let rows: Vec<(Node, super::inventory::EtcdMember)> =
            cluster.with_role(Role::Etcd).map(|node| (node.clone(), seen(node))).collect();
        let mut needs: Vec<String> = Vec::new();
        for (node, _) in rows.iter().filter(|(_, seen)| !seen.planted) {
            let id = format!("etcd-member/{}", node.name);
            let action = Action::EtcdMember { node: node.name.clone() };
            self.step(id.clone(), &node.name, action, &[format!("node-dns/{}", node.name)]);
            needs.push(id);
        }
        if rows.iter().any(|(_, seen)| !seen.planted || !seen.healthy) {
            needs.extend(rows.iter().map(|(node, _)| format!("node-dns/{}", node.name)));
            self.step("etcd-form".into(), "etcd", Action::EtcdForm, &needs);
        }
        for name in self.inventory.etcd_outdated.clone() {
            let id = format!("etcd-client/{name}");
            let needs = ["etcd-form".to_owned()];
            self.step(id, &name, Action::EtcdClient { node: name.clone() }, &needs);
        }
    }
}

/// Whether a registered node has the role label that its row asks for.
fn has_role(known: &super::inventory::KubeNode, role: Role) -> bool {
    match role {
        Role::Master => known.roles.contains("control-plane"),
        Role::Worker => known.roles.contains("worker"),
        Role::LoadBalancer | Role::Etcd => false,
    }
}
