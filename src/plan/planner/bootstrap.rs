//! Plans Kubernetes: one init if no cluster exists, otherwise every join through a healthy master.

use std::net::Ipv4Addr;

use super::Draft;
use crate::cluster::{Cni, Node, NodeName, Role};
use crate::plan::action::{self, StepId};
use crate::plan::conflicts::Conflict;
use crate::plan::inventory::EtcdMember;
use crate::plan::life::{self, Life};
use crate::plan::survey::{KubeNode, Machine, Seen, Work};
use crate::plan::{compare, settings};

/// What has to be done before a node can join, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    /// It is a node of the cluster.
    Joined,
    /// It was, and k8sha stopped its kubelet to remove it: the kubelet registers it again.
    Returns,
    /// It may join.
    Join { reset: Option<String>, forget: Option<String> },
    /// Unknown until it was started and queried.
    Unasked(String),
    /// It has Kubernetes state that must not be touched.
    Refused(String),
}

impl Draft<'_> {
    /// Creates no machines for a cluster that was created before and does not answer: they could
    /// not join, and would take the place of machines that are to be restored from a backup.
    pub(super) fn hold_back(&mut self) {
        let survey = &self.inventory.survey;
        if !survey.was_made() || survey.api.is_some() {
            return;
        }
        // etcd members come back by themselves while a quorum of them is up.
        let etcd = self.cluster.etcd.is_ours() && !self.has_quorum();
        let held = |node: &Node| node.role.is_kubernetes() || (etcd && node.role == Role::Etcd);
        let absent = self.cluster.nodes.iter().filter(|node| self.ours(node).is_none());
        self.held = absent.filter(|node| held(node)).map(|node| node.name.clone()).collect();
        if !self.part.bootstrap && !self.held.is_empty() {
            match life::judge(self.cluster, survey, &[]) {
                _ if self.lost_members() => self.refuse_etcd(),
                Life::Lost { seen, hint } => {
                    self.refuse("reach the existing or former control plane", seen, &hint);
                }
                _ => {}
            }
            let names: Vec<&str> = self.held.iter().map(NodeName::as_str).collect();
            self.notices.push(format!(
                "not created while the cluster does not answer: {}",
                names.join(", ")
            ));
        }
    }

    /// How many members of k8sha's etcd have to be healthy.
    fn quorum(&self) -> usize {
        self.cluster.with_role(Role::Etcd).count() / 2 + 1
    }

    /// Whether enough members of k8sha's etcd are healthy.
    fn has_quorum(&self) -> bool {
        let rows = self.cluster.with_role(Role::Etcd);
        let healthy =
            |node: &&Node| self.inventory.etcd.get(&node.name).is_some_and(|it| it.healthy);
        rows.filter(healthy).count() >= self.quorum()
    }

    /// Whether so many machines of k8sha's etcd are lost that the remaining ones are not a quorum.
    fn lost_members(&self) -> bool {
        let held = |node: &&Node| self.held.contains(&node.name);
        let rows = || self.cluster.with_role(Role::Etcd);
        rows().any(|node| held(&node)) && rows().filter(|node| !held(node)).count() < self.quorum()
    }

    fn refuse_etcd(&mut self) {
        let rows = || self.cluster.with_role(Role::Etcd);
        let (gone, left): (Vec<_>, Vec<_>) =
            rows().partition(|node| self.held.contains(&node.name));
        let names = |nodes: &[&Node]| {
            nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let seen = format!(
            "of {} etcd members, the machines of {} are lost ({}), and {} are a quorum",
            rows().count(),
            gone.len(),
            names(&gone),
            self.quorum()
        );
        let left = (!left.is_empty()).then(|| format!("left: {}", names(&left)));
        let seen = std::iter::once(seen).chain(left).collect();
        self.refuse(
            "reach the cluster's etcd",
            seen,
            "restore the VMs of the lost members from a Proxmox VE backup (`qmrestore`), or \
             restore an etcd snapshot; k8sha does neither yet, and does not create a machine where \
             one has to be restored. `k8sha rebuild` creates a new, empty cluster",
        );
    }

    pub(super) fn bootstrap(&mut self) {
        let cluster = self.cluster;
        if self.lost_members() {
            self.refuse_etcd();
            return;
        }
        if cluster.etcd.is_ours() {
            self.etcd_members();
        }
        if !self.steps.has(&StepId::EtcdForm) {
            self.steps.done(StepId::EtcdForm);
        }
        let survey = &self.inventory.survey;
        match life::judge(cluster, survey, &self.repairs()) {
            Life::Living { via } => self.join_all(&via, None),
            Life::None => {
                let first = cluster.first_master().name.clone();
                self.init(&first, false);
            }
            Life::Unfinished { on } => self.init(&on, true),
            Life::Pending { what } if self.steps.is_empty() => self.refuse(
                "determine whether a cluster exists on these machines",
                what,
                "`kubeadm init` beside an existing cluster would destroy it: fix these machines \
                 first",
            ),
            Life::Pending { mut what } => {
                what.dedup();
                self.look_again = what;
            }
            Life::Lost { seen, hint } => {
                self.refuse("reach the existing or former control plane", seen, &hint);
            }
        }
    }

    fn refuse(&mut self, doing: &str, seen: Vec<String>, hint: &str) {
        let text = format!("cannot {doing}: {}", seen.join("; "));
        self.refusals.push(Conflict::new("cluster", text, hint));
    }

    /// The steps planned so far that an API which does not answer may be waiting for.
    fn repairs(&self) -> Vec<String> {
        let planned = |steps: &[fn(NodeName) -> StepId], node: &Node| {
            steps.iter().any(|step| self.steps.has(&step(node.name.clone())))
        };
        let up: [fn(NodeName) -> StepId; 4] =
            [StepId::Start, StepId::Boot, StepId::Clone, StepId::Balance];
        let balancers = self.cluster.with_role(Role::LoadBalancer);
        let balancers = balancers.filter(|node| planned(&up, node));
        let mut repairs: Vec<String> =
            balancers.map(|node| format!("the load balancer {} is not up", node.name)).collect();
        let members = self.cluster.with_role(Role::Etcd);
        let waited = members.filter(|node| planned(&up[..2], node));
        repairs.extend(waited.map(|node| format!("the etcd member {} is not up", node.name)));
        if self.steps.has(&StepId::EtcdForm) {
            repairs.push("etcd is incomplete".to_owned());
        }
        repairs
    }

    fn init(&mut self, on: &NodeName, resumed: bool) {
        self.vip();
        let node_dns = StepId::NodeDns(on.clone());
        if self.cluster.etcd.endpoints().is_some() {
            let action = action::Etcd { node: on.clone(), resumed };
            self.steps.add("etcd", action, &[node_dns.clone(), StepId::EtcdForm]);
        } else {
            self.steps.done(StepId::Etcd);
        }
        let action = action::Init { node: on.clone(), resumed };
        self.steps.add(on, action, &[node_dns, StepId::Vip, StepId::Etcd]);
        self.join_all(on, Some(on));
    }

    fn vip(&mut self) {
        if self.steps.has(&StepId::Vip) {
            return;
        }
        let balancers: Vec<StepId> = self
            .cluster
            .with_role(Role::LoadBalancer)
            .flat_map(|lb| [StepId::NodeDns, StepId::Balance].map(|step| step(lb.name.clone())))
            .collect();
        self.steps.add(self.cluster.api.vip, action::Vip, &balancers);
    }

    /// Plans everything that goes through a healthy master; `initialised` is the one that this plan
    /// initialises.
    fn join_all(&mut self, via: &NodeName, initialised: Option<&NodeName>) {
        let cluster = self.cluster;
        self.vip();
        let rows: Vec<&Node> = cluster
            .nodes
            .iter()
            .filter(|node| node.role.is_kubernetes() && Some(&node.name) != initialised)
            .collect();
        let ways: Vec<(&Node, Way)> = rows.into_iter().map(|node| (node, self.way(node))).collect();
        for (node, way) in &ways {
            match way {
                Way::Unasked(why) => self.look_again.push(why.clone()),
                Way::Refused(why) => self.refusals.push(Conflict::new(
                    &node.name,
                    why,
                    "it is not changed. If its kubelet only lost its Node object: `sudo systemctl \
                     restart kubelet` there registers it again; otherwise drain it, remove its VM \
                     in Proxmox VE and run `k8sha up`",
                )),
                Way::Joined | Way::Returns | Way::Join { .. } => {}
            }
        }
        self.refuse_joins_beside_lost_members(&ways);
        let fresh = initialised.is_some();
        if !fresh {
            self.steps.done(StepId::Init);
        }
        if fresh || !self.inventory.kubeconfig {
            let action = action::Kubeconfig { via: via.clone() };
            self.steps.add(via, action, &[StepId::Init]);
        }
        let cleared = self.clear(via, &ways);
        self.pod_network(via, fresh, &cleared);
        let joined = ways.iter().filter(|(_, way)| matches!(way, Way::Joined | Way::Returns));
        self.uncordon(via, &joined.map(|(node, _)| *node).collect::<Vec<_>>());
        self.joins(via, &ways, &cleared);
        self.removals(via);
        if self.look_again.is_empty() {
            let all = self.steps.all();
            self.steps.add(&cluster.api.name, action::Verify { via: via.clone() }, &all);
        }
    }

    /// A master does not join while an etcd member is unreachable. A member without a row is not
    /// k8sha's to judge, so the user has to remove it.
    fn refuse_joins_beside_lost_members(&mut self, ways: &[(&Node, Way)]) {
        let Some(api) = &self.inventory.survey.api else { return };
        let joins = |(node, way): &&(&Node, Way)| {
            node.role == Role::Master && matches!(way, Way::Join { .. })
        };
        let Some((node, _)) = ways.iter().find(joins) else { return };
        let forgotten: Vec<String> = ways
            .iter()
            .filter(|(_, way)| matches!(way, Way::Join { forget: Some(_), .. }))
            .flat_map(|(node, _)| self.members(node))
            .map(|at| at.to_string())
            .collect();
        let lost = api.members.iter().filter(|one| one.silent && !forgotten.contains(&one.address));
        let conflicts: Vec<Conflict> = lost
            .map(|member| {
                let text = format!(
                    "it cannot join: etcd lists the member {} at {}, which has no row and does not \
                     answer, and etcd accepts no new member while one is unreachable",
                    member.name, member.address
                );
                let remove = compare::removal(self.cluster, api, member);
                let hint = format!("if its machine is permanently lost: {remove}, then run again");
                Conflict::new(&node.name, text, hint)
            })
            .collect();
        self.refusals.extend(conflicts);
    }

    /// Determines what has to be done before a node can join.
    fn way(&self, node: &Node) -> Way {
        let survey = &self.inventory.survey;
        let registered = survey.nodes().and_then(|nodes| nodes.get(&node.fqdn));
        let left =
            |why: String| (registered.is_some() || !self.members(node).is_empty()).then_some(why);
        if self.ours(node).is_none() {
            return Way::Join { reset: None, forget: left("its VM is gone".into()) };
        }
        match survey.machines.get(&node.name) {
            None => Way::Unasked(format!("{} was not queried", node.name)),
            Some(Machine::Off) => Way::Unasked(format!("{} is off", node.name)),
            Some(Machine::Silent { .. }) => {
                Way::Unasked(format!("{} does not answer yet", node.name))
            }
            Some(Machine::Seen(seen)) => seen_way(node, seen, registered, left),
        }
    }

    /// The addresses under which a master's member of a stacked etcd is listed.
    fn members(&self, node: &Node) -> Vec<Ipv4Addr> {
        let Some(api) = &self.inventory.survey.api else { return Vec::new() };
        if node.role != Role::Master || self.cluster.etcd.endpoints().is_some() {
            return Vec::new();
        }
        let former = api.nodes.get(&node.fqdn).and_then(|known| known.address.clone());
        let known = [Some(node.ip), former.and_then(|address| address.parse().ok())];
        let listed = |at: &Ipv4Addr| api.members.iter().any(|one| one.address == at.to_string());
        let mut members: Vec<Ipv4Addr> = known.into_iter().flatten().filter(listed).collect();
        members.dedup();
        members
    }

    /// Resets and removes what blocks joins; masters of a stacked etcd one by one, and all of them
    /// before the first joins: etcd accepts no new member while one is unreachable.
    fn clear(&mut self, via: &NodeName, ways: &[(&Node, Way)]) -> Vec<StepId> {
        let mut before: Option<StepId> = None;
        let mut cleared = Vec::new();
        for (node, way) in ways {
            let Way::Join { reset, forget } = way else { continue };
            let chained = self.cluster.etcd.endpoints().is_none() && node.role == Role::Master;
            let mut needs = vec![StepId::Vip, StepId::Init];
            needs.extend(before.clone().filter(|_| chained));
            if let Some(reason) = reset {
                needs.push(StepId::NodeDns(node.name.clone()));
                let action = action::Reset {
                    node: node.name.clone(),
                    via: via.clone(),
                    reason: reason.clone(),
                };
                let id = self.steps.add(&node.name, action, &needs);
                needs = vec![id.clone()];
                cleared.push(id);
            } else {
                self.steps.done(StepId::Reset(node.name.clone()));
            }
            if let Some(reason) = forget {
                let nodes = self.inventory.survey.nodes();
                let known = nodes.and_then(|nodes| nodes.get(&node.fqdn));
                let action = action::Forget {
                    node: node.name.clone(),
                    via: via.clone(),
                    name: node.fqdn.clone(),
                    machine_id: known.map(|known| known.machine_id.clone()).unwrap_or_default(),
                    members: self.members(node),
                    reason: reason.clone(),
                };
                let id = self.steps.add(&node.name, action, &needs);
                cleared.push(id.clone());
                if chained {
                    before = Some(id);
                }
            } else {
                self.steps.done(StepId::Forget(node.name.clone()));
            }
        }
        cleared
    }

    fn pod_network(&mut self, via: &NodeName, fresh: bool, cleared: &[StepId]) {
        let cluster = self.cluster;
        let survey = &self.inventory.survey;
        let wanted = settings::cni(&cluster.kubernetes.cni);
        let none = cluster.kubernetes.cni == Cni::None;
        let api = survey.api.as_ref();
        let there = api.and_then(|api| api.settings.get(settings::CNI)) == Some(&wanted);
        let mark = api.and_then(|api| api.mark.as_ref());
        let noted = none || mark.is_some_and(|mark| mark.cni.as_ref() == Some(&wanted));
        let ready = api.is_some_and(|api| api.nodes.values().all(|node| node.ready));
        if !none && (fresh || !there || !(noted || ready)) {
            let needs = [&[StepId::Vip, StepId::Init], cleared].concat();
            self.steps.add(via, action::Cni { via: via.clone() }, &needs);
        } else {
            self.steps.done(StepId::Cni);
        }
        if !none && !noted || mark.is_none() || survey.known.is_none() {
            let cni = (!none).then_some(wanted);
            let action = action::Mark { via: via.clone(), cni };
            self.steps.add(via, action, &[StepId::Vip, StepId::Init, StepId::Cni]);
        }
    }

    fn joins(&mut self, via: &NodeName, ways: &[(&Node, Way)], cleared: &[StepId]) {
        let cluster = self.cluster;
        let external = cluster.etcd.endpoints().is_some();
        let joining = || ways.iter().filter(|(_, way)| matches!(way, Way::Join { .. }));
        if joining().next().is_some() {
            let action = action::Keys { via: via.clone() };
            self.steps.add(via, action, &[StepId::Init, StepId::Vip]);
        }
        let mut before = StepId::Keys;
        for (node, way) in ways {
            let of = |step: fn(NodeName) -> StepId| step(node.name.clone());
            if matches!(way, Way::Join { .. }) {
                // kubeadm queries every etcd member before it joins a master.
                let mut needs = vec![StepId::Keys, StepId::Vip, StepId::EtcdForm];
                needs.extend([of(StepId::NodeDns), of(StepId::Reset), of(StepId::Forget)]);
                if !external && node.role == Role::Master {
                    // Each adds a member: two at once can lose the quorum.
                    needs.extend(cleared.iter().cloned());
                    needs.push(before.clone());
                    before = of(StepId::Join);
                }
                // Workers touch neither etcd nor each other: they join concurrently.
                let limited = external && node.role == Role::Master;
                let at_once = cluster.kubernetes.parallel_joins.filter(|_| limited);
                let action = action::Join { node: node.name.clone(), via: via.clone(), at_once };
                self.steps.add(&node.name, action, &needs);
            } else {
                self.steps.done(of(StepId::Join));
            }
            let unlabelled =
                matches!(way, Way::Join { .. } | Way::Returns) || self.lacks_label(node, way);
            if node.role == Role::Worker && unlabelled {
                let action = action::Label { node: node.name.clone(), via: via.clone() };
                let uncordon = of(StepId::Uncordon);
                let returns = self.steps.has(&uncordon).then_some(uncordon);
                let needs = returns.into_iter().chain([of(StepId::Join)]).collect::<Vec<_>>();
                self.steps.add(&node.name, action, &needs);
            }
        }
    }

    fn lacks_label(&self, node: &Node, way: &Way) -> bool {
        let nodes = self.inventory.survey.nodes();
        let known = nodes.and_then(|nodes| nodes.get(&node.fqdn));
        *way == Way::Joined && known.is_some_and(|known| !known.roles.contains("worker"))
    }

    /// The members of k8sha's etcd: certificates first, then all of them at once.
    fn etcd_members(&mut self) {
        let cluster = self.cluster;
        let seen = |node: &Node| self.inventory.etcd.get(&node.name).copied().unwrap_or_default();
        if cluster.with_role(Role::Etcd).any(|node| self.held.contains(&node.name)) {
            // A lost member comes back when the others are a quorum, which the next look shows.
            return;
        }
        let rows: Vec<(Node, EtcdMember)> =
            cluster.with_role(Role::Etcd).map(|node| (node.clone(), seen(node))).collect();
        let mut needs: Vec<StepId> = Vec::new();
        for (node, _) in rows.iter().filter(|(_, seen)| !seen.planted) {
            let action = action::EtcdMember { node: node.name.clone() };
            needs.push(self.steps.add(&node.name, action, &[StepId::NodeDns(node.name.clone())]));
        }
        if rows.iter().any(|(_, seen)| !seen.planted || !seen.healthy) {
            needs.extend(rows.iter().map(|(node, _)| StepId::NodeDns(node.name.clone())));
            self.steps.add("etcd", action::EtcdForm, &needs);
        } else {
            self.steps.done(StepId::EtcdForm);
        }
        for name in self.inventory.etcd_outdated.clone() {
            let action = action::EtcdClient { node: name.clone() };
            self.steps.add(&name, action, &[StepId::EtcdForm]);
        }
    }
}

/// Determines what has to be done with a machine that was queried.
fn seen_way(
    node: &Node,
    seen: &Seen,
    registered: Option<&KubeNode>,
    left: impl Fn(String) -> Option<String>,
) -> Way {
    let own = registered.filter(|known| known.machine_id == seen.machine_id);
    let complete = own.is_some_and(|known| match node.role {
        Role::Master => seen.apiserver && known.roles.contains("control-plane"),
        _ => true,
    });
    if seen.join == Work::Running {
        return Way::Join { reset: None, forget: None };
    }
    if complete && seen.kubelet {
        return Way::Joined;
    }
    if seen.is_fresh() {
        let made_again = registered.map_or("it lost its data".to_owned(), |known| {
            format!("its VM was recreated (the Node belongs to machine {})", known.machine_id)
        });
        return Way::Join { reset: None, forget: left(made_again) };
    }
    if seen.join.is_open() && seen.init == Work::None && own.is_none_or(|known| !known.ready) {
        let reason = "its own kubeadm join was started and did not finish".to_owned();
        return Way::Join { reset: Some(reason), forget: left("its join did not finish".into()) };
    }
    if node.role == Role::Worker && seen.leaving && registered.is_none() {
        return Way::Returns;
    }
    let what = match own {
        Some(_) => "its kubelet serves the cluster, but its control plane is incomplete",
        None if seen.kubelet => "its kubelet serves a cluster, but the API has no such node",
        None => "it has certificates of a cluster, but the API has no such node",
    };
    Way::Refused(what.to_owned())
}
