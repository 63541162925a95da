//! `k8sha replace`: drains, destroys and creates again the machines of workers, one after the other.

use std::collections::BTreeSet;
use std::time::Instant;

use super::args::{Common, UpArgs};
use super::checks::pod_network;
use super::confirm;
use super::job::Job;
use super::session::Session;
use crate::cluster::{Cluster, NodeName, Role};
use crate::error::{Exit, Failure};
use crate::plan::planner::{Leaves, Part};
use crate::plan::{Disposition, Plan};
use crate::report::summary::Report;

pub(super) async fn run(
    common: &Common,
    started: Instant,
    nodes: Vec<String>,
    yes: bool,
    up: UpArgs,
) -> Result<Exit, Failure> {
    let mut session = Session::open(common, started, "replace").await?;
    pod_network(&session.cluster)?;
    let nodes = workers(&session.cluster, &nodes)?;
    session.state.lock()?;
    let mut job = Job::new(&session, started, "replace", up)?;
    let names: Vec<&str> = nodes.iter().map(NodeName::as_str).collect();
    let flags = if yes { " --yes" } else { "" };
    let same = format!(" {}{flags}{}", names.join(" "), job.own);
    let bare = std::mem::replace(&mut job.own, same);
    if !yes {
        let names: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let question = question(&names);
        job.asked(move || confirm::replace(&question, &names)).await?;
    }
    let mut whole = Whole::default();
    for node in &nodes {
        job.own.clone_from(&format!(" {}{flags}{bare}", left(&nodes, node)));
        if !leave(&job, node, &mut whole).await? {
            break;
        }
        // Another `replace` would remove the new machine.
        job.own.clone_from(&bare);
        if !create(&job, node, &mut whole, node == nodes.last().unwrap_or(node)).await? {
            break;
        }
    }
    let (Some(mut report), Some(plan)) = (whole.report, whole.plan) else { return Ok(Exit::Ok) };
    job.after_bootstrap(&plan, &mut report).await;
    report.wall_s = session.started.elapsed().as_secs_f64();
    job.publish(&report)
}

/// What was done so far.
#[derive(Default)]
struct Whole {
    report: Option<Report>,
    plan: Option<Plan>,
}

impl Whole {
    /// Looks, plans and does a part; whether it succeeded.
    async fn add(&mut self, job: &Job<'_>, part: &Part) -> Result<bool, Failure> {
        let started = if self.report.is_none() { job.started } else { Instant::now() };
        let (plan, mut report) = match (job.once(started, part).await, &self.report) {
            (Err(failure), Some(_)) => {
                let doing = failure.doing.replace("nothing was changed", "earlier steps are done");
                return Err(Failure { doing, ..failure });
            }
            (done, _) => done?,
        };
        if let Some(before) = self.report.take() {
            report.follow(before);
        }
        let done = report.exit() == Exit::Ok;
        (self.report, self.plan) = (Some(report), Some(plan));
        Ok(done)
    }

    fn becomes(&self, node: &NodeName) -> Option<&Disposition> {
        let vms = self.plan.iter().flat_map(|plan| &plan.vms);
        vms.into_iter().find(|vm| vm.node == *node).map(|vm| &vm.disposition)
    }
}

/// Drains a node and destroys its VM, after what is off was started; whether it succeeded. A VM that an
/// earlier run has destroyed is created.
async fn leave(job: &Job<'_>, node: &NodeName, whole: &mut Whole) -> Result<bool, Failure> {
    let part = Part { leaves: Leaves::Row(node.clone()), ..Part::all() };
    for _ in 0..2 {
        if !whole.add(job, &part).await? {
            return Ok(false);
        }
        if matches!(whole.becomes(node), Some(Disposition::Destroyed | Disposition::Created)) {
            return Ok(true);
        }
    }
    let waits = whole.plan.iter().flat_map(|plan| plan.look_again.clone()).collect::<Vec<_>>();
    let said = format!("it was not replaced: {}", waits.join("\n"));
    Err(Failure::new(Exit::Node, "replace the machine", said)
        .on(node)
        .hint("check these machines in Proxmox VE, then run the same command again".to_owned()))
}

/// Creates the machine again and waits until the cluster is complete; whether it succeeded.
async fn create(
    job: &Job<'_>,
    node: &NodeName,
    whole: &mut Whole,
    last: bool,
) -> Result<bool, Failure> {
    let part = Part { leaves: Leaves::None, ..Part::all() };
    let done = whole.add(job, &part).await?;
    if let Some(report) = whole.report.as_mut().filter(|_| !done) {
        report.next = vec![job.goes_on("up")];
        if !last {
            report.notes.push(format!("the machines after {node} were not replaced"));
        }
    }
    Ok(done)
}

/// The names from this one on.
fn left(nodes: &[NodeName], from: &NodeName) -> String {
    let left = nodes.iter().skip_while(|node| *node != from);
    left.map(NodeName::as_str).collect::<Vec<_>>().join(" ")
}

fn question(names: &BTreeSet<String>) -> String {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (what, name) = match names.len() {
        1 => ("this worker", "its name"),
        _ => ("these workers one after the other", "their names"),
    };
    format!(
        "This drains {what}, destroys the VM with all its disks, and creates it again. Type {name} ({}) to \
         continue: ",
        names.join(" ")
    )
}

/// The named rows, each once and in the order of the table.
fn workers(cluster: &Cluster, names: &[String]) -> Result<Vec<NodeName>, Failure> {
    let all: Vec<&str> = cluster.with_role(Role::Worker).map(|node| node.name.as_str()).collect();
    let refused: Vec<String> = names
        .iter()
        .filter(|name| !all.contains(&name.as_str()))
        .map(|name| match cluster.nodes.iter().find(|node| node.name.as_str() == name) {
            Some(node) => format!("{name} is a {}, and k8sha replaces workers only", node.role),
            None => format!("the profile has no row `{name}`"),
        })
        .collect();
    if !refused.is_empty() {
        let hint = match all.is_empty() {
            true => "the profile has no workers".to_owned(),
            false => format!("the workers are {}", all.join(", ")),
        };
        return Err(Failure::new(Exit::Usage, "replace machines", refused.join("\n")).hint(hint));
    }
    let rows = cluster.with_role(Role::Worker).map(|node| node.name.clone());
    Ok(rows.filter(|row| names.iter().any(|name| row.as_str() == name)).collect())
}
