//! The commands that change a cluster: look, plan, execute, report.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio::sync::mpsc::UnboundedSender;

use super::args::{Common, UpArgs};
use super::checks::{known_hosts, place_for_kubeconfig, pod_network};
use super::prune::{self, Consent, Rowless};
use super::refusal::{obstructed, refused};
use super::session::Session;
use super::{confirm, flags, lines, times};
use crate::cluster::HostName;
use crate::error::{Exit, Failure};
use crate::plan::compare;
use crate::plan::planner::{self, Part};
use crate::plan::teardown::{self, Extent};
use crate::plan::{Disposition, Plan, length, removal};
use crate::report::event::Event;
use crate::report::summary::{FailureLine, Report, Verdict};
use crate::report::{Reporter, Tails};
use crate::run::context::{Context, Options};
use crate::run::engine::{self, Outcome};
use crate::run::look::Scope;
use crate::run::step;

pub(super) async fn up(
    common: &Common,
    started: Instant,
    up: UpArgs,
    prune: Option<Vec<String>>,
) -> Result<Exit, Failure> {
    let mut session = Session::open(common, started, "up").await?;
    pod_network(&session.cluster)?;
    session.state.lock()?;
    let mut job = Job::new(&session, started, "up", up)?;
    job.own.push_str(&flags::of_prune(prune.as_deref()));
    job.prune = prune;
    job.make(&Part::all()).await
}

pub(super) async fn bootstrap(
    common: &Common,
    started: Instant,
    up: UpArgs,
) -> Result<Exit, Failure> {
    let mut session = Session::open(common, started, "bootstrap").await?;
    pod_network(&session.cluster)?;
    session.state.lock()?;
    let job = Job::new(&session, started, "bootstrap", up)?;
    job.make(&Part { provision: false, ..Part::all() }).await
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
                 routes --remove{}` removes them",
                hosts.join(", "),
                session.flags()
            ));
        }
    }
    job.publish(&report)
}

/// One run from looking to reporting.
pub(super) struct Job<'a> {
    pub(super) session: &'a Session,
    /// When it began: the time until the first step counts towards the critical path.
    pub(super) started: Instant,
    command: &'static str,
    /// The command's own flags, for the suggestion to run it again.
    pub(super) own: String,
    /// The machines that `--prune` names; empty if it names none.
    prune: Option<Vec<String>>,
    /// The machines whose removal was confirmed in this run.
    confirmed: OnceLock<BTreeSet<String>>,
    context: Arc<Context>,
}

impl<'a> Job<'a> {
    pub(super) fn new(
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
        let context = session.context(options)?;
        let confirmed = OnceLock::new();
        Ok(Self { session, started, command, own, prune: None, confirmed, context })
    }

    async fn make(&self, part: &Part) -> Result<Exit, Failure> {
        self.make_after(None, part).await
    }

    /// Looks, plans, does; `before` is the report of a teardown that is part of the same command.
    ///
    /// If machines had to be started or created before the rest could be planned, it looks again and
    /// plans the rest.
    async fn make_after(&self, before: Option<Report>, part: &Part) -> Result<Exit, Failure> {
        let (mut plan, mut report) = self.once(self.started, part).await?;
        if report.exit() == Exit::Ok && !plan.look_again.is_empty() {
            let first = report;
            (plan, report) = self.once(Instant::now(), part).await.map_err(|failure| Failure {
                doing: failure.doing.replace("nothing was changed", "started VMs keep running"),
                ..failure
            })?;
            report.follow(first);
            if !plan.look_again.is_empty() && report.exit() == Exit::Ok {
                let said = plan.look_again.join("\n");
                return Err(Failure::new(Exit::Node, "determine the remaining steps", said).hint(
                    "these machines were started but do not answer; check their consoles in Proxmox \
                     VE, then run the same command again"
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
            report.after(before);
            if report.exit() != Exit::Ok && !self.session.world.is_passing() {
                // The old cluster is already gone: another `rebuild` would destroy the new one.
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
                "{us} up{flags}     (creates the remaining VMs on {left}, then the cluster)"
            )];
        }
        report.wall_s = self.session.started.elapsed().as_secs_f64();
        self.publish(&report)
    }

    /// Looks once, plans, executes the plan and reports the outcome.
    pub(super) async fn once(
        &self,
        started: Instant,
        part: &Part,
    ) -> Result<(Plan, Report), Failure> {
        let scope = Scope::making(part.clone());
        let mut inventory = self.session.look(self.command, &self.context, &scope).await?;
        // At a second look in the same run, keys made earlier are saved already and in use.
        inventory.new_keys = self.session.state.new_keys();
        let plan = planner::plan(&self.context.cluster, &self.context.specs, &inventory, part)
            .map_err(|refusal| refused(&refusal))?;
        if part.bootstrap {
            place_for_kubeconfig(&self.context)?;
        }
        if removal::is_part_of(part) {
            let leaving = removal::all(&self.context.cluster, &inventory);
            let nodes = inventory.survey.nodes().into_iter().flatten();
            let short = nodes.filter_map(|(name, _)| Some(name.split_once('.')?.0.to_owned()));
            self.may_remove(leaving.iter().map(Rowless::of).collect(), short.collect()).await?;
        }
        self.session.state.keep()?;
        let taken_stock_s = started.elapsed().as_secs_f64();
        let report = self.run(&plan, taken_stock_s).await;
        Ok((plan, report))
    }

    /// Checks that the user wants the machines without a row removed, before anything is changed.
    async fn may_remove(
        &self,
        leaving: Vec<Rowless>,
        registered: BTreeSet<String>,
    ) -> Result<(), Failure> {
        let names: BTreeSet<String> = leaving.iter().map(|one| one.name.clone()).collect();
        if self.confirmed.get().is_some_and(|confirmed| names.is_subset(confirmed)) {
            return Ok(());
        }
        let (cluster, prune) = (&self.context.cluster, self.prune.as_deref());
        let asked = prune::consent(cluster, &leaving, prune, &registered)?;
        if let Some(note) = prune::unknown(&leaving, prune) {
            self.context.note(note);
        }
        if let Consent::Ask { question, names } = asked {
            self.asked(move || confirm::prune(&question, &names)).await?;
        }
        self.confirmed.get_or_init(|| names);
        Ok(())
    }

    /// Compares again after a run, which may have resolved differences.
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
                "the differences listed are those from before this run: {}",
                failure.said
            )),
        }
    }

    /// Checks, before anything is removed, that everything can be created again: whatever would block
    /// the second half of a `rebuild` blocks the first.
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
            // `--yes` does not cover VMs that this state folder did not create.
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
        Ok(self.run(&plan, taken_stock_s).await)
    }

    /// Asks the user; an interruption ends the question.
    pub(super) async fn asked(
        &self,
        ask: impl FnOnce() -> Result<(), Failure> + Send + 'static,
    ) -> Result<(), Failure> {
        let asking = async {
            let answer = tokio::task::spawn_blocking(ask).await;
            answer.unwrap_or_else(|error| Err(Failure::caused(Exit::Local, "ask", error)))
        };
        self.session.unless_interrupted(self.command, asking).await
    }

    async fn run(&self, plan: &Plan, taken_stock_s: f64) -> Report {
        let recorded = times::recorded(self.session);
        let queue_length = self.context.options.parallel_clones;
        let expected = times::announce(self.session, plan, &recorded, queue_length);
        let reporter: Reporter = self.session.reporter();
        let events: UnboundedSender<Event> = reporter.events();
        let context = Arc::clone(&self.context);
        let outcome = engine::run(
            plan,
            queue_length,
            &recorded,
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
        let tails = reporter.end().await;
        times::keep(self.session, plan, &outcome, recorded);
        Report { expected, ..self.report(plan, &outcome, tails, taken_stock_s) }
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
                // Lines that the failure already quotes are not repeated.
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
            longest_chain: times::chain(&critical_path, outcome),
            critical_path,
            half_time_saves_s: length::savings(plan, &outcome.seconds),
            expected: None,
            nodes: lines::nodes(&self.context.cluster, plan, outcome),
            steps: lines::steps(plan, outcome),
            failures,
            notes: [plan.notices.clone(), self.context.notes(), lines::cordoned(plan, outcome)]
                .concat(),
            differences: match verdict {
                // The run waited for these, and they may be why it failed.
                Verdict::Failed => lines::differences(plan.differences.iter().chain(&plan.unwell)),
                _ => lines::differences(&plan.differences),
            },
            kubectl: None,
            kubeconfig: None,
            log: self.session.lasting_log(),
            next: self.next(verdict),
        }
    }

    /// Adds the node list and the kubeconfig of a finished cluster to the report.
    pub(super) async fn after_bootstrap(&self, plan: &Plan, report: &mut Report) {
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
                "the simulated environment, including its kubeconfig, ends with this command; \
                 `--simulate DIR` keeps it"
                    .to_owned(),
            );
        }
        let cni = self.context.cluster.kubernetes.cni == crate::cluster::Cni::None;
        let not_ready = report.kubectl.as_deref().is_some_and(|text| text.contains(" NotReady "));
        if cni && not_ready {
            report.notes.push(
                "NotReady is expected: the profile sets no CNI, and nodes become Ready only after a \
                 CNI is installed"
                    .to_owned(),
            );
        }
    }

    fn next(&self, verdict: Verdict) -> Vec<String> {
        let (us, flags) = (flags::program(&self.session.common), self.session.flags());
        match verdict {
            // A simulated environment that has ended cannot be resumed.
            _ if self.session.world.is_passing() => vec![
                format!(
                    "{us} up{}     (keeps the simulated environment)",
                    flags::lasting(&self.session.common)
                ),
                "k8sha profile homelab > k8sha.yaml     (a profile to adapt to your own hosts)"
                    .to_owned(),
            ],
            Verdict::Failed | Verdict::Interrupted => vec![self.goes_on(self.command)],
            _ => match self.command {
                "provision" => vec![format!("{us} bootstrap{flags}")],
                "destroy" => vec![format!("{us} up{flags}")],
                _ if self.session.world.simulated() => vec![format!("{us} status{flags}")],
                // A merged kubeconfig keeps its current context.
                _ => vec![format!(
                    "kubectl{} --context {} get nodes",
                    flags::path(" --kubeconfig", &self.context.options.kubeconfig),
                    self.context.cluster.name
                )],
            },
        }
    }

    pub(super) fn goes_on(&self, command: &str) -> String {
        let (own, flags) = (&self.own, self.session.flags());
        let us = flags::program(&self.session.common);
        format!("{us} {command}{own}{flags}     (resumes where this run stopped)")
    }

    pub(super) fn publish(&self, report: &Report) -> Result<Exit, Failure> {
        self.session.world.verdict()?;
        if self.session.common.json {
            super::print_json(report)?;
        } else {
            super::print(&report.text())?;
        }
        Ok(report.exit())
    }
}
