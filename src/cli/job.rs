//! The commands that change a cluster: look, plan, do, report.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc::UnboundedSender;

use super::args::{Common, UpArgs};
use super::refusal::{obstructed, refused};
use super::session::Session;
use super::{confirm, flags, lines};
use crate::cluster::{Cluster, HostName};
use crate::error::{Exit, Failure};
use crate::plan::compare;
use crate::plan::planner::{self, Part};
use crate::plan::teardown::{self, Extent};
use crate::plan::{Disposition, Plan};
use crate::report::event::Event;
use crate::report::summary::{FailureLine, Report, Verdict};
use crate::report::{Reporter, Tails};
use crate::run::context::{Context, Options};
use crate::run::engine::{self, Outcome};
use crate::run::look::Scope;
use crate::run::step;

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
    let mut session = Session::open(common, started, name).await?;
    pod_network(&session.cluster)?;
    session.state.lock()?;
    let job = Job::new(&session, started, name, up)?;
    job.make(&part).await
}

pub(super) async fn provision(
    common: &Common,
    started: Instant,
    pve: Vec<String>,
) -> Result<Exit, Failure> {
    let mut session = Session::open(common, started, "provision").await?;
    let hosts = (!pve.is_empty()).then(|| known_hosts(&session.cluster, &pve)).transpose()?;
    session.state.lock()?;
    let mut job = Job::new(&session, started, "provision", UpArgs::default())?;
    job.own = flags::of_hosts(&pve);
    job.make(&Part { hosts, bootstrap: false, ..Part::all() }).await
}

pub(super) async fn rebuild(
    common: &Common,
    started: Instant,
    yes: bool,
    up: UpArgs,
) -> Result<Exit, Failure> {
    let mut session = Session::open(common, started, "rebuild").await?;
    pod_network(&session.cluster)?;
    session.state.lock()?;
    let extent = Extent { keep_templates: true, keep_etcd: false, again: true };
    let job = Job::new(&session, started, "rebuild", up.clone())?;
    job.can_make_again().await?;
    let torn = job.tear_down(yes, extent).await?;
    if torn.exit() != Exit::Ok {
        return job.publish(&torn);
    }
    session.state.forget()?;
    let job = Job::new(&session, Instant::now(), "rebuild", up)?;
    job.make_after(Some(torn), &Part::all()).await
}

pub(super) async fn destroy(
    common: &Common,
    started: Instant,
    yes: bool,
    extent: Extent,
) -> Result<Exit, Failure> {
    let mut session = Session::open(common, started, "destroy").await?;
    session.state.lock()?;
    let mut job = Job::new(&session, started, "destroy", UpArgs::default())?;
    job.own = flags::of_destroy(extent);
    let routed = session.state.routed_hosts()?;
    let mut report = job.tear_down(yes, extent).await?;
    if report.exit() == Exit::Ok {
        session.state.forget()?;
        if !routed.is_empty() {
            let hosts: Vec<&str> = routed.iter().map(HostName::as_str).collect();
            report.notes.push(format!(
                "the blackhole routes that `k8sha routes --apply` set are still on {}; `k8sha \
                 routes --remove{}` takes them away",
                hosts.join(", "),
                session.flags()
            ));
        }
    }
    job.publish(&report)
}

/// Sees, before anything is made or removed, that a manifest of the operator's own can be used.
fn pod_network(cluster: &Cluster) -> Result<(), Failure> {
    let rendered = crate::kubeadm::cni::rendered(cluster);
    rendered.map(drop).map_err(|error| {
        let hint = error.hint();
        Failure::caused(Exit::Usage, "use the pod network's manifest", error).hint(hint)
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

/// One run from looking to reporting.
struct Job<'a> {
    session: &'a Session,
    /// When it began: what is done from then until the first step holds all steps up.
    started: Instant,
    command: &'static str,
    /// Its own flags, for whom it is named to again.
    own: String,
    context: Arc<Context>,
}

impl<'a> Job<'a> {
    fn new(
        session: &'a Session,
        started: Instant,
        command: &'static str,
        up: UpArgs,
    ) -> Result<Self, Failure> {
        let standard = session.options();
        let own = flags::of_up(&up);
        let merge = up.merge_kubeconfig.is_some();
        let options = Options {
            kubeconfig: up.merge_kubeconfig.or(up.kubeconfig).unwrap_or(standard.kubeconfig),
            merge,
            wipe_etcd: up.wipe_etcd,
            ..standard
        };
        Ok(Self { session, started, command, own, context: session.context(options)? })
    }

    async fn make(&self, part: &Part) -> Result<Exit, Failure> {
        self.make_after(None, part).await
    }

    /// Looks, plans, does; `before` is the report of a teardown that is part of the same command.
    ///
    /// Where machines had to be started or made before the rest could be told, it looks once more and
    /// plans that.
    async fn make_after(&self, before: Option<Report>, part: &Part) -> Result<Exit, Failure> {
        let (mut plan, mut report) = self.once(self.started, part).await?;
        if report.exit() == Exit::Ok && !plan.look_again.is_empty() {
            let first = report;
            (plan, report) = self.once(Instant::now(), part).await.map_err(|failure| Failure {
                doing: failure.doing.replace("nothing was written", "what was started stays so"),
                ..failure
            })?;
            report.follow(first);
            if !plan.look_again.is_empty() && report.exit() == Exit::Ok {
                let said = plan.look_again.join("\n");
                return Err(Failure::new(Exit::Node, "tell what is left to do", said).hint(
                    "these machines were started and still do not answer; see their consoles in \
                     Proxmox VE, and run the same command again"
                        .to_owned(),
                ));
            }
        }
        if report.verdict == Verdict::Done
            && !(plan.differences.is_empty() && plan.unwell.is_empty())
        {
            self.compare_again(part, &mut report).await;
        }
        if let Some(before) = before {
            report.critical_path_s += before.critical_path_s;
            report.critical_path = [before.critical_path, report.critical_path].concat();
            report.steps = [before.steps, report.steps].concat();
            if report.exit() != Exit::Ok && !self.session.world.is_passing() {
                // The old cluster is gone already: another `rebuild` would begin with the new one.
                report.next = vec![self.goes_on("up")];
            }
        }
        if part.bootstrap {
            self.after_bootstrap(&plan, &mut report).await;
        }
        let cluster = &self.context.cluster;
        let left: BTreeSet<&str> = cluster
            .nodes
            .iter()
            .filter(|node| !part.covers(&node.host))
            .map(|node| node.host.as_str())
            .collect();
        let made = matches!(report.verdict, Verdict::Done | Verdict::Settled);
        if made && !left.is_empty() && !self.session.world.is_passing() {
            let (us, flags) = (flags::program(&self.session.common), self.session.flags());
            let left = left.into_iter().collect::<Vec<_>>().join(", ");
            report.next = vec![format!(
                "{us} up{flags}     (makes what {left} still lacks, then the cluster)"
            )];
        }
        report.wall_s = self.session.started.elapsed().as_secs_f64();
        self.publish(&report)
    }

    /// One look, its plan, and what became of it.
    async fn once(&self, started: Instant, part: &Part) -> Result<(Plan, Report), Failure> {
        let scope = Scope::making(part.clone());
        let mut inventory = self.session.look(self.command, &self.context, &scope).await?;
        // At a second look of the same run the keys that it has made are kept, and machines have them.
        inventory.new_keys = self.session.state.new_keys();
        let plan = planner::plan(&self.context.cluster, &self.context.specs, &inventory, part)
            .map_err(|refusal| refused(&refusal))?;
        if part.bootstrap {
            place_for_kubeconfig(&self.context)?;
        }
        self.session.state.keep()?;
        let taken_stock_s = started.elapsed().as_secs_f64();
        let (outcome, tails) = self.run(&plan).await;
        let report = self.report(&plan, &outcome, tails, taken_stock_s);
        Ok((plan, report))
    }

    /// Takes the list of differences again after a run that may have changed what it lists.
    async fn compare_again(&self, part: &Part, report: &mut Report) {
        let scope = Scope::showing(part.clone());
        let cluster = &self.context.cluster;
        match self.session.look(self.command, &self.context, &scope).await {
            Ok(mut inventory) => {
                inventory.new_keys = self.session.state.new_keys();
                let found = compare::differences(cluster, &self.context.specs, &inventory, part);
                report.differences = lines::differences(&found);
            }
            Err(failure) => report.notes.push(format!(
                "what is not as the profile asks is listed as it was before this run: {}",
                failure.said
            )),
        }
    }

    /// Sees, before anything is removed, that all of it can be made again: whatever would stand in the way
    /// of the second half stands in the way of the first.
    async fn can_make_again(&self) -> Result<(), Failure> {
        let context = &self.context;
        let inventory = self.session.look(self.command, context, &Scope::making_again()).await?;
        planner::plan(&context.cluster, &context.specs, &inventory.emptied(), &Part::all())
            .map_err(|refusal| refused(&refusal))?;
        place_for_kubeconfig(context)?;
        self.session.unless_interrupted(self.command, step::ask_names(context)).await
    }

    async fn tear_down(&self, yes: bool, extent: Extent) -> Result<Report, Failure> {
        let inventory = self.session.look(self.command, &self.context, &Scope::removing()).await?;
        let keep_etcd = extent.keep_etcd || !self.session.state.etcd_claim().exists();
        let extent = Extent { keep_etcd, ..extent };
        let plan = teardown::plan(&self.context.cluster, &inventory, extent);
        let vms = plan.vms.iter().filter(|vm| vm.disposition == Disposition::Destroyed).count();
        let obstacles = teardown::obstacles(&self.context.cluster, &inventory, &plan);
        if !obstacles.is_empty() {
            return Err(obstructed(&obstacles));
        }
        let strange = inventory.made_elsewhere();
        if !strange.is_empty() {
            // Not even `--yes` is meant for what this state folder has never made.
            let name = self.context.cluster.name.clone();
            self.asked(move || confirm::destroy_foreign(&name, &strange)).await?;
        } else if !yes && vms > 0 {
            let names: Vec<String> = plan
                .vms
                .iter()
                .filter(|vm| vm.disposition == Disposition::Destroyed)
                .map(|vm| format!("{} ({} on {})", vm.vmid, vm.node, vm.host))
                .collect();
            let name = self.context.cluster.name.clone();
            self.asked(move || confirm::destroy(&name, &names)).await?;
        }
        let taken_stock_s = self.started.elapsed().as_secs_f64();
        let (outcome, tails) = self.run(&plan).await;
        Ok(self.report(&plan, &outcome, tails, taken_stock_s))
    }

    /// Asks the person, beside whom an interruption is heard too.
    async fn asked(
        &self,
        ask: impl FnOnce() -> Result<(), Failure> + Send + 'static,
    ) -> Result<(), Failure> {
        let asking = async {
            let answer = tokio::task::spawn_blocking(ask).await;
            answer.unwrap_or_else(|error| Err(Failure::caused(Exit::Local, "ask", error)))
        };
        self.session.unless_interrupted(self.command, asking).await
    }

    async fn run(&self, plan: &Plan) -> (Outcome, Tails) {
        let reporter: Reporter = self.session.reporter();
        let events: UnboundedSender<Event> = reporter.events();
        let context = Arc::clone(&self.context);
        let outcome = engine::run(
            plan,
            context.options.parallel_clones,
            &events,
            &self.session.cancel,
            &context.clock.into(),
            |step| {
                let context = Arc::clone(&context);
                async move { Box::pin(step::perform(&context, &step)).await }
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
            simulated: self.session.world.simulated(),
            cluster: plan.cluster.clone(),
            verdict,
            wall_s: self.session.started.elapsed().as_secs_f64(),
            critical_path_s: taken_stock_s + chain_s,
            critical_path,
            nodes: lines::nodes(&self.context.cluster, plan, outcome),
            steps: lines::steps(plan, outcome),
            failures,
            notes: plan.notices.iter().cloned().chain(self.context.notes()).collect(),
            differences: match verdict {
                // It was waited for, and may be why the run failed.
                Verdict::Failed => lines::differences(plan.differences.iter().chain(&plan.unwell)),
                _ => lines::differences(&plan.differences),
            },
            kubectl: None,
            kubeconfig: None,
            log: self.session.lasting_log(),
            next: self.next(verdict),
        }
    }

    /// What a cluster shows once it is there.
    async fn after_bootstrap(&self, plan: &Plan, report: &mut Report) {
        if !matches!(report.verdict, Verdict::Done | Verdict::Settled) {
            return;
        }
        if let Some(via) = plan.via() {
            report.kubectl = tokio::select! {
                nodes = step::kubectl_nodes(&self.context, via) => nodes,
                () = self.session.cancel.cancelled() => None,
            };
        }
        let path = &self.context.options.kubeconfig;
        if self.session.is_lasting(path) {
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
        let (us, flags) = (flags::program(&self.session.common), self.session.flags());
        match verdict {
            // Of a world that has ended nothing goes on.
            _ if self.session.world.is_passing() => vec![
                format!(
                    "{us} up{}     (a simulated world that lasts)",
                    flags::lasting(&self.session.common)
                ),
                "k8sha plan --profile ./mine.yaml     (your own hosts; see README)".to_owned(),
            ],
            Verdict::Failed | Verdict::Interrupted => vec![self.goes_on(self.command)],
            _ => match self.command {
                "provision" => vec![format!("{us} bootstrap{flags}")],
                "destroy" => vec![format!("{us} up{flags}")],
                _ if self.session.world.simulated() => vec![format!("{us} status{flags}")],
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
        let (own, flags) = (&self.own, self.session.flags());
        let us = flags::program(&self.session.common);
        format!("{us} {command}{own}{flags}     (goes on where this run ended)")
    }

    fn publish(&self, report: &Report) -> Result<Exit, Failure> {
        self.session.world.verdict()?;
        if self.session.common.json {
            super::print_json(report)?;
        } else {
            super::print(&report.text())?;
        }
        Ok(report.exit())
    }
}

/// Sees that the kubeconfig has a place, before anything is made that it would lead to.
///
/// # Errors
/// What is in the way.
pub(super) fn place_for_kubeconfig(context: &Context) -> Result<(), Failure> {
    let Options { kubeconfig, merge, .. } = &context.options;
    if *merge {
        return Ok(());
    }
    crate::kubeadm::kubeconfig::is_free(&context.cluster, kubeconfig).map_err(|error| {
        let doing = "keep the kubeconfig; nothing was written";
        let hint = error.hint();
        Failure::caused(Exit::Local, doing, error).hint(hint)
    })
}
