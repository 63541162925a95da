//! Collects the state of Kubernetes: what each of k8sha's machines has, and what the API reports.
//! Read-only commands over SSH.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::context::Context;
use super::look_nodes::REACH;
use super::look_watch::Watch;
use crate::clock::Clock;
use crate::cluster::{NodeName, Role};
use crate::kubeadm::kubectl::Api as Way;
use crate::kubeadm::unit::State;
use crate::kubeadm::{etcd, facts, init, probe, ready, running, vip};
use crate::plan::inventory::{Inventory, OurVm, StrayReason};
use crate::plan::survey::{
    Answer, Api, ClusterMark, KubeNode, Machine, Seen, StackedMember, Survey, Work,
};
use crate::ssh::Remote;

/// The time limit of a connection to the VIP, if no machine can test it.
const KNOCK: Duration = Duration::from_secs(2);

/// Queries every machine of this creation on which Kubernetes may run, then the API through the
/// first master that answers.
pub(super) async fn look(context: &Arc<Context>, inventory: &mut Inventory, watch: &Watch) {
    let mut survey = Survey {
        known: context.known.clone(),
        kubeconfig: context.has_kubeconfig,
        ..Survey::default()
    };
    let mut asking = JoinSet::new();
    let mut ways: BTreeMap<NodeName, Remote> = BTreeMap::new();
    for (name, vm, master) in machines(context, inventory) {
        let remote = context.remote_to(&name, &vm);
        if !vm.running() {
            survey.machines.insert(name, Machine::Off);
            continue;
        }
        if let Some(halted) = &vm.halted {
            let said = format!("its VM is powered on but does not run: QEMU reports `{halted}`");
            survey.machines.insert(name, Machine::Silent { said });
            continue;
        }
        let Some(remote) = remote else {
            let said = "its address or its host key is not known here".to_owned();
            survey.machines.insert(name, Machine::Silent { said });
            continue;
        };
        ways.insert(name.clone(), remote.clone());
        let watch = watch.clone();
        asking.spawn(async move {
            let asked = Box::pin(machine(&remote, master));
            let machine = watch.over(name.as_str(), "its answers by SSH", asked).await;
            (name, machine)
        });
    }
    survey.machines.extend(asking.join_all().await);
    let asked = Box::pin(api(context, &survey, &ways));
    survey.api = watch.over("API", "its answers through a master", asked).await;
    let via = survey.api.as_ref().and_then(|api| ways.get(&NodeName(api.via.clone())));
    if let Some(via) = via {
        let name = ready::through_vip(via, &context.cluster, Clock::real(), Duration::ZERO);
        let holder = holder(context, inventory);
        let asked = Box::pin(async { tokio::join!(within(name), within(holder)) });
        let (name, holder) = watch.over("API", "its answer under its name", asked).await;
        let answer = |said| Answer::Answers { said };
        let silent = |said| Answer::Silent { said };
        survey.by_name = name.map_or_else(silent, |()| answer("ok".to_owned()));
        survey.holder = holder.map_or_else(silent, answer);
    } else {
        let asked = Box::pin(ask_addresses(context, inventory, &mut survey, &ways));
        watch.over("API", "an answer from any of its addresses", asked).await;
    }
    inventory.survey = survey;
}

/// The machines on which Kubernetes may run: those of rows, and those of former rows. The role that
/// each was created with shows whether it is a master.
fn machines(context: &Context, inventory: &Inventory) -> Vec<(NodeName, OurVm, bool)> {
    let ours = |vm: &OurVm| vm.mark.creation == context.creation;
    let mut all = Vec::new();
    for node in &context.cluster.nodes {
        let Some(vm) = inventory.ours(&node.name).filter(|vm| ours(vm)) else { continue };
        let role = vm.role().unwrap_or(node.role);
        if role.is_kubernetes() || node.role.is_kubernetes() {
            all.push((node.name.clone(), vm.clone(), role == Role::Master));
        }
    }
    for stray in inventory.strays.iter().filter(|stray| stray.why == StrayReason::NoRow) {
        let role = stray.vm.role();
        if ours(&stray.vm) && role.is_none_or(Role::is_kubernetes) {
            all.push((stray.node.clone(), stray.vm.clone(), role != Some(Role::Worker)));
        }
    }
    all
}

/// The report of a machine.
async fn machine(remote: &Remote, master: bool) -> Machine {
    match within(facts::gather(remote)).await {
        Ok(facts) => Machine::Seen(Box::new(seen(facts, master))),
        Err(said) => Machine::Silent { said },
    }
}

async fn within<T>(
    asked: impl Future<Output = Result<T, crate::kubeadm::Error>>,
) -> Result<T, String> {
    match tokio::time::timeout(REACH, asked).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", REACH.as_secs())),
    }
}

fn seen(facts: facts::Facts, master: bool) -> Seen {
    let work = |state: State, recorded: bool| match state {
        State::Running => Work::Running,
        State::Done => Work::Done,
        State::Failed { .. } => Work::Failed,
        // The record outlives the unit, which a reboot of the machine removes.
        State::Absent if recorded => Work::Unfinished,
        State::Absent => Work::None,
    };
    Seen {
        machine_id: facts.machine_id,
        master,
        ca: facts.ca,
        kubelet: facts.kubelet,
        apiserver: facts.apiserver,
        init: work(facts.init, facts.init_config && !facts.init_over),
        join: work(facts.join, facts.join_config),
        leaving: facts.leaving,
        api: Answer::NotAsked,
    }
}

/// The report of the API, through the first master in table order that can reach it.
async fn api(context: &Context, survey: &Survey, ways: &BTreeMap<NodeName, Remote>) -> Option<Api> {
    let order = |name: &NodeName| {
        context.cluster.nodes.iter().position(|node| node.name == *name).unwrap_or(usize::MAX)
    };
    let mut masters: Vec<(&NodeName, &Seen)> = survey
        .machines
        .iter()
        .filter_map(|(name, machine)| match machine {
            Machine::Seen(seen) if may_lead(seen) => Some((name, seen.as_ref())),
            _ => None,
        })
        .collect();
    masters.sort_by_key(|(name, _)| order(name));
    for (name, seen) in masters {
        let Some(remote) = ways.get(name) else { continue };
        if seen.init == Work::Unfinished
            && !within(init::is_done(remote, &context.cluster)).await.unwrap_or(false)
        {
            continue;
        }
        match Box::pin(within(ask(context, remote))).await {
            Ok(api) => {
                let ca = seen.ca.clone().unwrap_or_default();
                return Some(Api { via: name.to_string(), ca, ..api });
            }
            Err(said) => tracing::debug!(%name, %said, "this master cannot reach the API"),
        }
    }
    None
}

/// Whether a master may be used to reach a cluster's API. If former releases left a `kubeadm init`
/// without a record of its end, the cluster itself shows whether it was completed.
fn may_lead(seen: &Seen) -> bool {
    let over = matches!(seen.init, Work::None | Work::Done | Work::Unfinished);
    seen.apiserver && seen.kubelet && over && !seen.join.is_open()
}

/// Queries the VIP, and if that fails, the master's own API server.
async fn ask(context: &Context, via: &Remote) -> Result<Api, crate::kubeadm::Error> {
    match ask_by(context, &Way::through_vip(via)).await {
        Ok(api) => Ok(api),
        Err(error) => {
            tracing::debug!(%error, "the VIP does not answer");
            ask_by(context, &Way::direct(via).await?).await
        }
    }
}

async fn ask_by(context: &Context, way: &Way) -> Result<Api, crate::kubeadm::Error> {
    let (via, stacked) = (way.master(), context.cluster.etcd.endpoints().is_none());
    let (running, nodes) =
        tokio::try_join!(running::ask(way, &context.cluster), ready::nodes_by(way))?;
    let mut members = Vec::new();
    for listed in if stacked { etcd::stacked::members(via).await? } else { Vec::new() } {
        let of_row = |at| context.cluster.with_role(Role::Master).any(|node| node.ip == at);
        let silent = match listed.address.filter(|at| !of_row(*at)) {
            Some(at) => !etcd::stacked::answers(via, at).await?,
            None => false,
        };
        members.push(StackedMember {
            name: listed.name,
            address: listed.address.map(|address| address.to_string()).unwrap_or_default(),
            id: listed.id.parse::<u64>().map_or(listed.id, |id| format!("{id:x}")),
            silent,
        });
    }
    let node = |node: ready::Registered| {
        let known = KubeNode {
            roles: node.roles.into_iter().collect(),
            ready: node.ready,
            message: node.message,
            machine_id: node.machine_id,
            address: node.address,
            kubelet: node.version,
            cordoned: node.cordoned,
            leaving: node.leaving,
        };
        (node.name, known)
    };
    Ok(Api {
        via: String::new(),
        uid: running.uid,
        ca: String::new(),
        mark: running.mark.map(|mark| ClusterMark {
            cluster: mark.cluster,
            creation: mark.creation,
            cni: mark.cni,
        }),
        nodes: nodes.into_iter().map(node).collect(),
        settings: running.settings,
        members,
    })
}

/// The load balancer that holds the VIP, among those whose machines run.
async fn holder(context: &Context, inventory: &Inventory) -> Result<String, crate::kubeadm::Error> {
    let balancers = context.cluster.with_role(Role::LoadBalancer);
    let awake = balancers.filter_map(|node| {
        let vm = inventory.ours(&node.name).filter(|vm| vm.awake())?;
        context.remote_to(&node.name, vm)
    });
    vip::look(&awake.collect::<Vec<_>>(), context.cluster.api.vip).await
}

/// Connects to each control plane's own address and the VIP, after the API did not answer.
async fn ask_addresses(
    context: &Context,
    inventory: &Inventory,
    survey: &mut Survey,
    ways: &BTreeMap<NodeName, Remote>,
) {
    let port = context.cluster.api.port;
    for (name, machine) in &mut survey.machines {
        let Machine::Seen(seen) = machine else { continue };
        let Some(remote) = ways.get(name).filter(|_| seen.apiserver) else { continue };
        seen.api = answer(within(probe::readyz(remote, remote.address().ip(), port)).await);
    }
    let vip = context.cluster.api.vip;
    let balancer = context.cluster.with_role(Role::LoadBalancer).find_map(|node| {
        inventory.nodes.get(&node.name)?;
        context.remote_to(&node.name, inventory.ours(&node.name)?)
    });
    let asker = balancer.or_else(|| {
        let mut asked = survey.machines.iter();
        let reached = asked.find(|(_, machine)| matches!(machine, Machine::Seen(_)));
        reached.and_then(|(name, _)| ways.get(name).cloned())
    });
    survey.vip = match asker {
        Some(remote) => answer(within(probe::readyz(&remote, vip.into(), port)).await),
        None => {
            let to = SocketAddr::new(vip.into(), port);
            match context.dialer.tcp(to, KNOCK).await {
                Ok(_) => Answer::Answers { said: "it accepts connections".to_owned() },
                Err(error) => Answer::Silent { said: error.to_string() },
            }
        }
    };
}

fn answer(asked: Result<Result<String, String>, String>) -> Answer {
    match asked {
        Ok(Ok(said)) => Answer::Answers { said },
        Ok(Err(said)) | Err(said) => Answer::Silent { said },
    }
}
