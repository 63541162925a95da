//! `k8sha status`: the cluster as it is.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::args::Common;
use super::desk::Desk;
use crate::cluster::{Cni, Role};
use crate::error::{Exit, Failure};
use crate::kubeadm::{keys, ready, vip};
use crate::plan::inventory::{Inventory, VmState};
use crate::plan::planner::Part;
use crate::report::duration;
use crate::run::context::Context;
use crate::run::look;
use crate::tempo::Tempo;

/// The cluster as it is.
#[derive(Serialize)]
struct Status {
    simulated: bool,
    cluster: String,
    topology: String,
    nodes: Vec<Row>,
    vip: Vip,
    api: Answer,
    /// How long the uploaded certificates can still be joined with; `None` when they are gone.
    certificate_key_left_s: Option<u64>,
    /// How long the bootstrap token is still good; `None` when it is gone.
    token_left_s: Option<u64>,
    /// Whether all is as the profile asks.
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
    /// Its state as a member of our etcd.
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
struct Answer {
    url: String,
    ready: bool,
    trouble: Option<String>,
}

pub(super) async fn run(common: &Common, started: Instant) -> Result<Exit, Failure> {
    let desk = Desk::lay(common, started, "status").await?;
    let context = desk.context(desk.options())?;
    let part = Part { provision: false, ..Part::all() };
    let inventory = look::take(&context, &part).await?;
    let rows = rows(&context, &inventory);
    let there = inventory.kubernetes.is_some();
    let (vip, api, ages) =
        tokio::join!(ask_vip(&context), ask_api(&context, there), ages(&context));
    let healthy = rows.iter().all(|row| row.ok) && vip.trouble.is_none() && api.ready;
    let status = Status {
        simulated: desk.world.simulated(),
        cluster: context.cluster.name.clone(),
        topology: inventory.topology.clone(),
        nodes: rows,
        vip,
        api,
        certificate_key_left_s: ages.certificates.map(|left| left.as_secs()),
        token_left_s: ages.token.map(|left| left.as_secs()),
        healthy,
    };
    desk.world.verdict()?;
    if common.json {
        super::print_json(&status)?;
    } else {
        super::print(&status.text())?;
    }
    Ok(if healthy { Exit::Ok } else { Exit::NotAsAsked })
}

fn rows(context: &Context, inventory: &Inventory) -> Vec<Row> {
    let network = context.cluster.kubernetes.cni != Cni::None;
    let registered = inventory.kubernetes.as_ref().map(|kubernetes| &kubernetes.nodes);
    let row = |node: &crate::cluster::Node| {
        let state = inventory.nodes.get(&node.name);
        let (vm, runs) = match inventory.vms.get(&node.name) {
            Some(VmState::Ours(vm)) if vm.running => match state {
                Some(state) if state.booted => ("runs".to_owned(), true),
                Some(_) => ("runs, first boot not over".to_owned(), false),
                None => ("runs, not reached by SSH".to_owned(), false),
            },
            Some(VmState::Ours(_)) => ("stopped".to_owned(), false),
            Some(VmState::Foreign { name, .. }) => (format!("not ours (`{name}`)"), false),
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
            host: node.host.to_string(),
            vmid: node.vmid.0,
            vm,
            kernel: state.map(|state| state.kernel.clone()),
            kubernetes,
            etcd,
            ok: runs && joined,
        }
    };
    context.cluster.nodes.iter().map(row).collect()
}

/// A look that waits for nothing: `status` says how it is now.
const NOW: Duration = Duration::ZERO;

async fn ask_vip(context: &Context) -> Vip {
    let address = context.cluster.api.vip.to_string();
    match vip::look(&context.balancers(), context.cluster.api.vip).await {
        Ok(holder) => Vip { address, holder: Some(holder), trouble: None },
        Err(error) => Vip { address, holder: None, trouble: Some(error.to_string()) },
    }
}

async fn ask_api(context: &Context, there: bool) -> Answer {
    let api = &context.cluster.api;
    let url = format!("https://{}:{}", api.fqdn, api.port);
    if !there {
        return Answer { url, ready: false, trouble: Some("there is no cluster yet".to_owned()) };
    }
    let asked = ready::through_vip(context.first(), &context.cluster, Tempo::real(), NOW).await;
    Answer { url, ready: asked.is_ok(), trouble: asked.err().map(|error| error.to_string()) }
}

async fn ages(context: &Context) -> keys::Ages {
    let first = context.first();
    match keys::stored(first).await {
        Ok(Some(keys)) => keys::ages(first, &keys).await.unwrap_or_default(),
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
        writeln!(out, "cluster {} on {}\n", self.cluster, self.topology)?;
        let wide = self.nodes.iter().map(|row| row.node.len()).max().unwrap_or_default();
        for row in &self.nodes {
            let sign = if row.ok { ' ' } else { '!' };
            let kubernetes = row.kubernetes.as_deref().or(row.etcd.as_deref()).unwrap_or("");
            let kernel = row.kernel.as_deref().unwrap_or("");
            let line = format!(
                "{sign} {:wide$}  {:13}  {:15}  {:8} VM {:<9} {:26} {:22} {kernel}",
                row.node, row.role, row.ip, row.host, row.vmid, row.vm, kubernetes
            );
            writeln!(out, "{}", line.trim_end())?;
        }
        let holder = match (&self.vip.holder, &self.vip.trouble) {
            (Some(holder), _) => format!("held by {holder}"),
            (None, Some(trouble)) => trouble.replace('\n', " "),
            (None, None) => "held by nobody".to_owned(),
        };
        writeln!(out, "\nVIP              {} {holder}", self.vip.address)?;
        let answer = match &self.api.trouble {
            None => "ready".to_owned(),
            Some(trouble) => trouble.replace('\n', " "),
        };
        writeln!(out, "API              {} {answer}", self.api.url)?;
        let left = |left: Option<u64>| match left {
            Some(seconds) => format!("good for {}", duration(seconds as f64)),
            None => "none that is good; one is made when a node joins".to_owned(),
        };
        writeln!(out, "certificate key  {}", left(self.certificate_key_left_s))?;
        writeln!(out, "join token       {}", left(self.token_left_s))?;
        let simulated = if self.simulated { " (SIMULATED)" } else { "" };
        let word =
            if self.healthy { "all is as the profile asks" } else { "not as the profile asks" };
        writeln!(out, "\n{word}{simulated}")
    }
}
