//! `k8sha status`: shows the state of the cluster.

use std::fmt::Write as _;
use std::time::Instant;

use serde::Serialize;

use super::args::Common;
use super::session::Session;
use crate::cluster::{Cni, NodeName, Role};
use crate::error::{Exit, Failure};
use crate::kubeadm::{keys, vip};
use crate::plan::compare::Difference;
use crate::plan::inventory::{Inventory, VmState};
use crate::plan::planner::{self, Part, Refusal};
use crate::plan::survey::Answer;
use crate::report::duration;
use crate::run::context::Context;
use crate::run::look::Scope;
use crate::ssh::Remote;
use crate::table::Table;
use crate::text::{lines, one_line};

/// The state of the cluster.
#[derive(Serialize)]
struct Status {
    simulated: bool,
    cluster: String,
    topology: String,
    nodes: Vec<Row>,
    vip: Vip,
    api: Reached,
    /// Seconds until the uploaded certificates expire; `None` if there are none.
    certificate_key_left_s: Option<u64>,
    /// Seconds until the bootstrap token expires; `None` if there is none.
    token_left_s: Option<u64>,
    /// Conflicts that block a run.
    conflicts: Vec<Trouble>,
    /// Drift from the profile.
    differences: Vec<Difference>,
    /// Whether the cluster is healthy and matches the profile.
    healthy: bool,
}

#[derive(Serialize)]
struct Row {
    node: String,
    role: String,
    ip: String,
    host: String,
    vmid: u32,
    vm: String,
    kernel: Option<String>,
    /// Its state in Kubernetes; `None` for a load balancer and for etcd.
    kubernetes: Option<String>,
    /// Its state as a member of an etcd that k8sha created.
    #[serde(skip_serializing_if = "Option::is_none")]
    etcd: Option<String>,
    ok: bool,
}

#[derive(Serialize)]
struct Vip {
    address: String,
    holder: Option<String>,
    trouble: Option<String>,
}

#[derive(Serialize)]
struct Trouble {
    text: String,
    next: String,
}

#[derive(Serialize)]
struct Reached {
    url: String,
    ready: bool,
    trouble: Option<String>,
}

pub(super) async fn run(common: &Common, started: Instant) -> Result<Exit, Failure> {
    let session = Session::open(common, started, "status").await?;
    let context = session.context(session.options())?;
    let part = Part { provision: false, ..Part::all() };
    let inventory = session.look("status", &context, &Scope::showing(part.clone())).await?;
    let rows = rows(&context, &inventory);
    let via = via(&context, &inventory);
    let asked = async { Ok(tokio::join!(vip(&context, &inventory), ages(via))) };
    let (vip, ages) = session.unless_interrupted("status", Box::pin(asked)).await?;
    let api = api(&context, &inventory);
    let all = planner::plan(&context.cluster, &context.specs, &inventory, &Part::all());
    let refusal = match all {
        Ok(plan) => Refusal { conflicts: Vec::new(), differences: plan.all_differences() },
        Err(refusal) => refusal,
    };
    let as_asked = refusal.conflicts.is_empty() && refusal.differences.is_empty();
    let whole = rows.iter().all(|row| row.ok) && vip.trouble.is_none() && api.ready;
    let healthy = whole && as_asked;
    let status = Status {
        simulated: session.world.simulated(),
        cluster: context.cluster.name.clone(),
        topology: inventory.topology.clone(),
        nodes: rows,
        vip,
        api,
        certificate_key_left_s: ages.certificates.map(|left| left.as_secs()),
        token_left_s: ages.token.map(|left| left.as_secs()),
        conflicts: refusal
            .conflicts
            .iter()
            .map(|conflict| Trouble {
                text: format!("{}: {}", conflict.on, conflict.text),
                next: conflict.hint.clone(),
            })
            .collect(),
        differences: refusal.differences,
        healthy,
    };
    session.world.verdict()?;
    if common.json {
        super::print_json(&status)?;
    } else {
        super::print(&status.text())?;
    }
    Ok(if healthy { Exit::Ok } else { Exit::NotAsAsked })
}

fn rows(context: &Context, inventory: &Inventory) -> Vec<Row> {
    let network = context.cluster.kubernetes.cni != Cni::None;
    let registered = inventory.survey.nodes();
    let row = |node: &crate::cluster::Node| {
        let state = inventory.nodes.get(&node.name);
        let (vm, runs) = match inventory.vms.get(&node.name) {
            Some(VmState::Ours(vm)) if vm.halted.is_some() => {
                (format!("on, but {}", vm.halted.as_deref().unwrap_or_default()), false)
            }
            Some(VmState::Ours(vm)) if vm.running() => match state {
                Some(state) if state.booted => ("running".to_owned(), true),
                Some(_) => ("running, in first boot".to_owned(), false),
                None => ("running, no SSH".to_owned(), false),
            },
            Some(VmState::Ours(_)) => ("stopped".to_owned(), false),
            Some(VmState::Foreign { name, .. }) => (format!("not ours (`{name}`)"), false),
            Some(VmState::Underway { lock, .. }) => (format!("locked ({lock})"), false),
            Some(VmState::Absent) | None => ("absent".to_owned(), false),
        };
        let seen = registered.and_then(|nodes| nodes.get(&node.fqdn));
        let kubernetes = node.role.is_kubernetes().then(|| match seen {
            None => "not registered".to_owned(),
            Some(seen) if seen.ready => "Ready".to_owned(),
            Some(_) if network => "NotReady".to_owned(),
            Some(_) => "NotReady (no CNI yet)".to_owned(),
        });
        let joined = match (node.role.is_kubernetes(), seen) {
            (false, _) => true,
            (true, None) => false,
            (true, Some(seen)) => seen.ready || !network,
        };
        let member = inventory.etcd.get(&node.name).copied().unwrap_or_default();
        let etcd = (node.role == Role::Etcd)
            .then(|| if member.healthy { "etcd healthy" } else { "etcd NOT healthy" }.to_owned());
        let joined = if etcd.is_some() { member.healthy } else { joined };
        Row {
            node: node.name.to_string(),
            role: node.role.to_string(),
            ip: node.ip.to_string(),
            host: inventory.ours(&node.name).map_or(&node.host, |vm| &vm.host).to_string(),
            vmid: inventory.ours(&node.name).map_or(node.vmid, |vm| vm.vmid).0,
            vm,
            kernel: state.map(|state| state.kernel.clone()),
            kubernetes,
            etcd,
            ok: runs && joined,
        }
    };
    context.cluster.nodes.iter().map(row).collect()
}

/// The holder of the VIP: as the look saw it, or queried directly if the API did not answer.
async fn vip(context: &Context, inventory: &Inventory) -> Vip {
    let address = context.cluster.api.vip.to_string();
    let (holder, trouble) = match inventory.survey.holder.clone() {
        Answer::Answers { said } => (Some(said), None),
        Answer::Silent { said } => (None, Some(said)),
        Answer::NotAsked => match vip::look(&context.balancers(), context.cluster.api.vip).await {
            Ok(holder) => (Some(holder), None),
            Err(error) => (None, Some(error.to_string())),
        },
    };
    Vip { address, holder, trouble }
}

/// The master through which the API was reached.
fn via<'a>(context: &'a Context, inventory: &Inventory) -> Option<&'a Remote> {
    let api = inventory.survey.api.as_ref()?;
    context.remotes.get(&NodeName(api.via.clone()))
}

/// Whether the API answers by its name.
fn api(context: &Context, inventory: &Inventory) -> Reached {
    let api = &context.cluster.api;
    let url = format!("https://{}:{}", api.fqdn, api.port);
    let trouble = match &inventory.survey.by_name {
        Answer::Answers { .. } => None,
        Answer::Silent { said } => Some(said.clone()),
        Answer::NotAsked => Some("no API server was found on any master".to_owned()),
    };
    Reached { url, ready: trouble.is_none(), trouble }
}

async fn ages(via: Option<&Remote>) -> keys::Ages {
    let Some(via) = via else { return keys::Ages::default() };
    match keys::stored(via).await {
        Ok(Some(keys)) => keys::ages(via, &keys).await.unwrap_or_default(),
        _ => keys::Ages::default(),
    }
}

impl Status {
    fn text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out).unwrap_or_else(|_| unreachable!("a String takes all that is written"));
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "cluster {} on {}\n", self.cluster, one_line(&self.topology))?;
        let mut table = Table::new();
        for row in &self.nodes {
            let sign = if row.ok { "" } else { "!" };
            let kubernetes = row.kubernetes.as_deref().or(row.etcd.as_deref()).unwrap_or("");
            let vmid = format!("VM {}", row.vmid);
            let cells = [sign, &row.node, &row.role, &row.ip, &row.host, &vmid, &row.vm];
            let kernel = row.kernel.as_deref().unwrap_or("");
            table.add(cells.into_iter().chain([kubernetes, kernel]).map(one_line));
        }
        out.push_str(&table.text());
        let holder = match (&self.vip.holder, &self.vip.trouble) {
            (Some(holder), _) => format!("held by {}", one_line(holder)),
            (None, Some(trouble)) => one_line(&trouble.replace('\n', " ")).into_owned(),
            (None, None) => "not held by any load balancer".to_owned(),
        };
        writeln!(out, "\nVIP              {} {holder}", self.vip.address)?;
        let answer = match &self.api.trouble {
            None => "ready".to_owned(),
            Some(trouble) => one_line(&trouble.replace('\n', " ")).into_owned(),
        };
        writeln!(out, "API              {} {answer}", self.api.url)?;
        let left = |left: Option<u64>| match left {
            Some(seconds) => format!("valid for {}", duration(seconds as f64)),
            None => "none valid; created when a node joins".to_owned(),
        };
        writeln!(out, "certificate key  {}", left(self.certificate_key_left_s))?;
        writeln!(out, "join token       {}", left(self.token_left_s))?;
        for conflict in &self.conflicts {
            writeln!(out, "\nconflict: {}", one_line(&conflict.text))?;
            for next in lines(&conflict.next) {
                writeln!(out, "          {next}")?;
            }
        }
        for difference in &self.differences {
            let class = difference.class;
            let text = difference.to_string();
            let (text, next) = (one_line(&text), one_line(&difference.next));
            writeln!(out, "\ndiffers: {text} ({class})\n         {next}")?;
        }
        let simulated = if self.simulated { " (SIMULATED)" } else { "" };
        let word = if self.healthy {
            "the cluster matches the profile"
        } else {
            "the cluster does not match the profile"
        };
        writeln!(out, "\n{word}{simulated}")
    }
}
