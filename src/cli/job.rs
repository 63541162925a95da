//! The commands that change a cluster: look, plan, do, report.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc::UnboundedSender;

use super::args::{Common, UpArgs};
use super::desk::Desk;
use super::{confirm, flags};
use crate::cluster::{Cluster, HostName, Role};
use crate::error::{Exit, Failure};
use crate::plan::conflicts::Conflict;
use crate::plan::planner::{self, Part};
use crate::plan::teardown::{self, Extent};
use crate::plan::{Action, Fate, Plan};
use crate::report::event::Event;
use crate::report::summary::{EndLine, FailureLine, NodeLine, Report, StepLine, Verdict};
use crate::report::{Reporter, Tails};
use crate::run::context::{Context, Options};
use crate::run::engine::{self, End, Outcome};
use crate::run::{look, step};

/// Which of the two that end in a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Provision and bootstrap.
    Up,
    /// Bootstrap alone.
    Bootstrap,
}

pub(super) async fn up(
    common: &Common,
    started: Instant,
    kind: Kind,
    up: UpArgs,
) -> Result<Exit, Failure> {
    let (name, part) = match kind {
        Kind::Up => ("up", Part::all()),
        Kind::Bootstrap => ("bootstrap", Part { provision: false, ..Part::all() }),
    };
    let mut desk = Desk::lay(common, started, name).await?;
    pod_network(&desk.cluster)?;
    desk.state.lock()?;
    let job = Job::new(&desk, started, name, up)?;
    job.make(&part).await
}

pub(super) async fn provision(
    common: &Common,
    started: Instant,
    pve: Vec<String>,
) -> Result<Exit, Failure> {
    let mut desk = Desk::lay(common, started, "provision").await?;
    let hosts = (!pve.is_empty()).then(|| known_hosts(&desk.cluster, &pve)).transpose()?;
    desk.state.lock()?;
    let mut job = Job::new(&desk, started, "provision", UpArgs::default())?;
    job.own = flags::of_hosts(&pve);
    job.make(&Part { hosts, bootstrap: false, ..Part::all() }).await
}

pub(super) async fn rebuild(
    common: &Common,
    started: Instant,
    yes: bool,
    up: UpArgs,
) -> Result<Exit, Failure> {
    let mut desk = Desk::lay(common, started, "rebuild").await?;
    pod_network(&desk.cluster)?;
    desk.state.lock()?;
    let extent = Extent { keep_templates: true, keep_etcd: false, again: true };
    let job = Job::new(&desk, started, "rebuild", up.clone())?;
    let torn = job.tear_down(yes, extent).await?;
    if torn.exit() != Exit::Ok {
        return job.publish(&torn);
    }
    desk.state.forget()?;
    let job = Job::new(&desk, Instant::now(), "rebuild", up)?;
    job.make_after(Some(torn), &Part::all()).await
}

pub(super) async fn destroy(
    common: &Common,
    started: Instant,
    yes: bool,
    extent: Extent,
) -> Result<Exit, Failure> {
    let mut desk = Desk::lay(common, started, "destroy").await?;
    desk.state.lock()?;
    let mut job = Job::new(&desk, started, "destroy", UpArgs::default())?;
    job.own = flags::of_destroy(extent);
    let routed = desk.state.routed_hosts()?;
    let mut report = job.tear_down(yes, extent).await?;
    if report.exit() == Exit::Ok {
        desk.state.forget()?;
        if !routed.is_empty() {
            let hosts: Vec<&str> = routed.iter().map(HostName::as_str).collect();
            report.notes.push(format!(
                "the blackhole routes that `k8sha routes --apply` set are still on {}; `k8sha \
                 routes --remove{}` takes them away",
                hosts.join(", "),
                desk.flags()
            ));
        }
    }
    job.publish(&report)
}

/// Sees, before anything is made or removed, that a manifest of the operator's own can be used.
fn pod_network(cluster: &Cluster) -> Result<(), Failure> {
    let rendered = crate::kubeadm::cni::rendered(cluster);
    rendered.map(drop).map_err(|error| {
        Failure::new(Exit::Usage, "use the pod network's manifest", &error).hint(error.hint())
    })
}

/// The hosts that `--pve` names, each of which must have a row in the table.
fn known_hosts(cluster: &Cluster, names: &[String]) -> Result<BTreeSet<HostName>, Failure> {
    let rows: BTreeSet<&HostName> = cluster.nodes.iter().map(|node| &node.host).collect();
    let unknown: Vec<String> = names
        .iter()
        .filter(|name| !rows.iter().any(|row| row.as_str() == name.as_str()))
        .map(|name| format!("`{name}`"))
        .collect();
    if !unknown.is_empty() {
        let known: Vec<&str> = rows.iter().map(|row| row.as_str()).collect();
        let said = format!("no row of the profile lives on {}", unknown.join(", "));
        return Err(Failure::new(Exit::Usage, "act on the hosts of `--pve`", said)
            .hint(format!("the profile's rows live on {}", known.join(", "))));
    }
    Ok(names.iter().map(|name| HostName(name.clone())).collect())
}

/// All conflicts as one failure: nothing has been written.
pub(super) fn refused(conflicts: &[Conflict]) -> Failure {
    let said: Vec<String> = conflicts
        .iter()
        .map(|conflict| format!("{}: {}\n  try: {}", conflict.on, conflict.text, conflict.hint))
        .collect();
    Failure::new(Exit::NotAsAsked, "go on; nothing was written", said.join("\n"))
}

/// One run from looking to reporting.
struct Job<'a> {
    desk: &'a Desk,
    /// When it began: what is done from then until the first step holds all steps up.
    started: Instant,
    command: &'static str,
    /// Its own flags, for whom it is named to again.
    own: String,
    context: Arc<Context>,
}

impl<'a> Job<'a> {
    fn new(
        desk: &'a Desk,
        started: Instant,
        command: &'static str,
        up: UpArgs,
    ) -> Result<Self, Failure> {
        let standard = desk.options();
        let own = flags::of_up(&up);
        let merge = up.merge_kubeconfig.is_some();
        let options = Options {
            kubeconfig: up.merge_kubeconfig.or(up.kubeconfig).unwrap_or(standard.kubeconfig),
            merge,
            wipe_etcd: up.wipe_etcd,
            ..standard
        };
        Ok(Self { desk, started, command, own, context: desk.context(options)? })
    }

    async fn make(&self, part: &Part) -> Result<Exit, Failure> {
        self.make_after(None, part).await
    }

    /// Looks, plans, does; `before` is the report of a teardown that is part of the same command.
    async fn make_after(&self, before: Option<Report>, part: &Part) -> Result<Exit, Failure> {
        let looked = look::take(&self.context, part);
        let inventory = tokio::select! {
            inventory = looked => inventory?,
            () = self.desk.cancel.cancelled() => return Err(interrupted(self.command)),
        };
        let plan = planner::plan(&self.context.cluster, &self.context.specs, &inventory, part)
            .map_err(|conflicts| refused(&conflicts))?;
        let taken_stock_s = self.started.elapsed().as_secs_f64();
        let (outcome, tails) = self.run(&plan).await;
        let mut report = self.report(&plan, &outcome, tails, taken_stock_s);
        if let Some(before) = before {
            report.critical_path_s += before.critical_path_s;
            report.critical_path = [before.critical_path, report.critical_path].concat();
            report.steps = [before.steps, report.steps].concat();
            if report.exit() != Exit::Ok && !self.desk.world.is_passing() {
                // The old cluster is gone already: another `rebuild` would begin with the new one.
                report.next = vec![self.goes_on("up")];
            }
        }
        if part.bootstrap {
            self.after_bootstrap(&mut report).await;
        }
        let cluster = &self.context.cluster;
        let left: BTreeSet<&str> = cluster
            .nodes
            .iter()
            .filter(|node| !part.covers(&node.host))
            .map(|node| node.host.as_str())
            .collect();
        let made = matches!(report.verdict, Verdict::Done | Verdict::Settled);
        if made && !left.is_empty() && !self.desk.world.is_passing() {
            let (flags, left) =
                (self.desk.flags(), left.into_iter().collect::<Vec<_>>().join(", "));
            report.next = vec![format!(
                "k8sha up{flags}     (makes what {left} still lacks, then the cluster)"
            )];
        }
        report.wall_s = self.desk.started.elapsed().as_secs_f64();
        self.publish(&report)
    }

    async fn tear_down(&self, yes: bool, extent: Extent) -> Result<Report, Failure> {
        let inventory =
            look::take(&self.context, &Part { bootstrap: false, ..Part::all() }).await?;
        let keep_etcd = extent.keep_etcd || !self.desk.state.etcd_claim().exists();
        let extent = Extent { keep_etcd, ..extent };
        let plan = teardown::plan(&self.context.cluster, &inventory, extent);
        let vms = plan.vms.iter().filter(|vm| vm.fate == Fate::Destroyed).count();
        if !yes && vms > 0 {
            confirm::destroy(&self.context.cluster.name, vms)?;
        }
        let taken_stock_s = self.started.elapsed().as_secs_f64();
        let (outcome, tails) = self.run(&plan).await;
        Ok(self.report(&plan, &outcome, tails, taken_stock_s))
    }

    async fn run(&self, plan: &Plan) -> (Outcome, Tails) {
        let reporter: Reporter = self.desk.reporter();
        let events: UnboundedSender<Event> = reporter.events();
        let context = Arc::clone(&self.context);
        let outcome = engine::run(
            plan,
            context.options.parallel_clones,
            &events,
            &self.desk.cancel,
            |step| {
                let context = Arc::clone(&context);
                async move { step::perform(&context, &step).await }
            },
        )
        .await;
        drop(events);
        (outcome, reporter.end().await)
    }

    fn report(
        &self,
        plan: &Plan,
        outcome: &Outcome,
        mut tails: Tails,
        taken_stock_s: f64,
    ) -> Report {
        let (critical_path, chain_s) = plan.critical_path(&outcome.seconds);
        let failures: Vec<FailureLine> = outcome
            .failures(plan)
            .map(|(step, failure)| {
                let mut tail = tails.remove(step).unwrap_or_default();
                // What the failure says already need not be read twice.
                tail.retain(|line| !failure.said.contains(line.trim()));
                FailureLine { step: step.to_owned(), failure: failure.clone(), tail }
            })
            .collect();
        let verdict = if outcome.interrupted() {
            Verdict::Interrupted
        } else if !failures.is_empty() {
            Verdict::Failed
        } else if plan.is_settled() {
            Verdict::Settled
        } else {
            Verdict::Done
        };
        Report {
            command: self.command.to_owned(),
            simulated: self.desk.world.simulated(),
            cluster: plan.cluster.clone(),
            verdict,
            wall_s: self.desk.started.elapsed().as_secs_f64(),
            critical_path_s: taken_stock_s + chain_s,
            critical_path,
            nodes: nodes(&self.context.cluster, plan, outcome),
            steps: steps(plan, outcome),
            failures,
            notes: plan.notices.clone(),
            kubectl: None,
            kubeconfig: None,
            log: self.desk.lasting_log(),
            next: self.next(verdict),
        }
    }

    /// What a cluster shows once it is there.
    async fn after_bootstrap(&self, report: &mut Report) {
        if !matches!(report.verdict, Verdict::Done | Verdict::Settled) {
            return;
        }
        report.kubectl = step::kubectl_nodes(&self.context).await;
        let path = &self.context.options.kubeconfig;
        if self.desk.is_lasting(path) {
            report.kubeconfig = Some(path.clone());
        } else {
            report.notes.push(
                "the simulated world, its kubeconfig included, ends with this command; \
                 `--simulate DIR` keeps it"
                    .to_owned(),
            );
        }
        let cni = self.context.cluster.kubernetes.cni == crate::cluster::Cni::None;
        let not_ready = report.kubectl.as_deref().is_some_and(|text| text.contains(" NotReady "));
        if cni && not_ready {
            report.notes.push(
                "NotReady is normal here: the profile asks for no CNI, and a node is Ready only \
                 when one is installed"
                    .to_owned(),
            );
        }
    }

    fn next(&self, verdict: Verdict) -> Vec<String> {
        let flags = self.desk.flags();
        match verdict {
            // Of a world that has ended nothing goes on.
            _ if self.desk.world.is_passing() => vec![
                format!(
                    "k8sha up{}     (a simulated world that lasts)",
                    flags::lasting(&self.desk.common)
                ),
                "k8sha plan --profile ./mine.yaml     (your own hosts; see README)".to_owned(),
            ],
            Verdict::Failed | Verdict::Interrupted => vec![self.goes_on(self.command)],
            _ => match self.command {
                "provision" => vec![format!("k8sha bootstrap{flags}")],
                "destroy" => vec![format!("k8sha up{flags}")],
                _ if self.desk.world.simulated() => vec![format!("k8sha status{flags}")],
                // A file with other clusters in it keeps the current context that it had.
                _ => vec![format!(
                    "kubectl --kubeconfig {} --context {} get nodes",
                    self.context.options.kubeconfig.display(),
                    self.context.cluster.name
                )],
            },
        }
    }

    fn goes_on(&self, command: &str) -> String {
        let (own, flags) = (&self.own, self.desk.flags());
        format!("k8sha {command}{own}{flags}     (goes on where this run ended)")
    }

    fn publish(&self, report: &Report) -> Result<Exit, Failure> {
        self.desk.world.verdict()?;
        if self.desk.common.json {
            super::print_json(report)?;
        } else {
            super::print(&report.text())?;
        }
        Ok(report.exit())
    }
}

pub(super) fn interrupted(command: &str) -> Failure {
    Failure::new(
        Exit::Interrupted,
        format!("finish `{command}`"),
        "interrupted; nothing was written",
    )
}

fn steps(plan: &Plan, outcome: &Outcome) -> Vec<StepLine> {
    plan.steps
        .iter()
        .map(|step| StepLine {
            step: step.id.clone(),
            end: match outcome.ends.get(&step.id) {
                Some(End::Done { changed }) => EndLine::Done { changed: *changed },
                Some(End::Failed { .. }) => EndLine::Failed,
                Some(End::Blocked { by }) => EndLine::Blocked { by: by.clone() },
                Some(End::Interrupted) | None => EndLine::Interrupted,
            },
            seconds: outcome.seconds.get(&step.id).copied(),
        })
        .collect()
}

fn nodes(cluster: &Cluster, plan: &Plan, outcome: &Outcome) -> Vec<NodeLine> {
    let mut lines = Vec::new();
    for vm in &plan.vms {
        let Some(node) = cluster.node(&vm.node) else { continue };
        let own: Vec<_> = plan.steps.iter().filter(|step| step.on == vm.node.as_str()).collect();
        let ends: BTreeMap<&str, &End> = own
            .iter()
            .filter_map(|step| Some((step.id.as_str(), outcome.ends.get(&step.id)?)))
            .collect();
        let joined = own.iter().find_map(|step| match (&step.action, ends.get(step.id.as_str())) {
            (Action::Init, Some(End::Done { .. })) => Some("first control plane"),
            (Action::Balance { .. }, Some(End::Done { changed: true })) => {
                Some("brought up to date")
            }
            (Action::EtcdMember { .. }, Some(End::Done { .. })) => Some("etcd member"),
            (Action::Join { .. }, Some(End::Done { .. })) => Some(match node.role {
                Role::Master => "joined as control plane",
                _ => "joined as worker",
            }),
            _ => None,
        });
        let result =
            if let Some((id, _)) = ends.iter().find(|(_, end)| matches!(end, End::Failed { .. })) {
                format!("FAILED at {}", id.split('/').next().unwrap_or(id))
            } else if ends.values().any(|end| **end == End::Interrupted) {
                "interrupted".to_owned()
            } else if ends.values().any(|end| matches!(end, End::Blocked { .. })) {
                "held up".to_owned()
            } else {
                let made = match vm.fate {
                    Fate::Created => "created",
                    Fate::Changed { .. } => "changed",
                    Fate::Kept => "kept",
                    Fate::Destroyed => "destroyed",
                    Fate::Absent => "absent",
                };
                joined.map_or(made.to_owned(), |joined| format!("{made}, {joined}"))
            };
        lines.push(NodeLine {
            node: vm.node.to_string(),
            role: vm.role.to_string(),
            ip: node.ip.to_string(),
            host: vm.host.to_string(),
            vmid: vm.vmid.0,
            result,
            seconds: own
                .iter()
                .filter_map(|step| outcome.seconds.get(&step.id))
                .fold(0.0, |sum, seconds| sum + seconds),
        });
    }
    lines
}
