//! Executes a plan: each step starts as soon as its needs are done, and runs only once.
//!
//! A failed step blocks only the steps that need it; the others continue, so that one failure does
//! not hide another. Steps that wait for the same thing take their turns by `plan::length`. Each step
//! has a time limit. The engine does not know what the steps do.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::limit::{self, Pace};
use crate::error::{Exit, Failure};
use crate::plan::times::Times;
use crate::plan::{Plan, Step, length};
use crate::report::event::{Event, Scope};

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum End {
    /// Successfully.
    Done {
        /// Whether anything was changed.
        changed: bool,
    },
    /// With a failure.
    Failed {
        /// The failure.
        failure: Box<Failure>,
    },
    /// It never started, because a step that it needs did not succeed.
    Blocked {
        /// That step.
        by: String,
    },
    /// The user interrupted it, or the run was interrupted before it started.
    Interrupted,
}

/// How a run ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Outcome {
    /// How each step ended.
    pub ends: BTreeMap<String, End>,
    /// How long each step took, in seconds, without the time in a queue.
    pub seconds: BTreeMap<String, f64>,
}

impl Outcome {
    /// The failures, in the order of the plan.
    pub fn failures<'a>(&'a self, plan: &'a Plan) -> impl Iterator<Item = (&'a str, &'a Failure)> {
        plan.steps.iter().filter_map(|step| match self.ends.get(&step.id) {
            Some(End::Failed { failure }) => Some((step.id.as_str(), &**failure)),
            _ => None,
        })
    }

    /// Whether the user interrupted the run.
    pub fn interrupted(&self) -> bool {
        self.ends.values().any(|end| *end == End::Interrupted)
    }
}

/// Runs a plan's steps with `perform`, at most `queue_length` at once in each queue that has no
/// length of its own. `times`, the record of earlier runs, decides who goes first.
pub async fn run<F, Fut>(
    plan: &Plan,
    queue_length: usize,
    times: &Times,
    events: &UnboundedSender<Event>,
    cancel: &CancellationToken,
    pace: &Pace,
    perform: F,
) -> Outcome
where
    F: Fn(Step) -> Fut,
    Fut: Future<Output = Result<bool, Failure>> + Send + 'static,
{
    let mut walk = Walk {
        plan,
        outcome: Outcome::default(),
        waiting: length::order(plan, times).into_iter().map(|at| &plan.steps[at]).collect(),
        running: JoinSet::new(),
        aborts: BTreeMap::new(),
        turns: HashMap::new(),
        queue_length,
        events,
        pace,
    };
    loop {
        if !cancel.is_cancelled() {
            walk.start_what_can(&perform);
        }
        if walk.running.is_empty() {
            break;
        }
        tokio::select! {
            ended = walk.running.join_next() => match ended {
                Some(Ok(ended)) => walk.note(ended),
                Some(Err(error)) => walk.lost(&error),
                None => break,
            },
            () = cancel.cancelled(), if !walk.running.is_empty() => {
                // Each step checks before it acts, so a re-run resumes an interrupted one.
                walk.running.shutdown().await;
            }
        }
    }
    walk.finish()
}

struct Ended {
    id: String,
    result: Result<bool, Failure>,
    took: Duration,
}

struct Walk<'a> {
    plan: &'a Plan,
    outcome: Outcome,
    /// In the order of their turns: each comes after its needs.
    waiting: Vec<&'a Step>,
    running: JoinSet<Ended>,
    aborts: BTreeMap<String, AbortHandle>,
    /// How many steps of each queue run now.
    turns: HashMap<String, usize>,
    queue_length: usize,
    events: &'a UnboundedSender<Event>,
    pace: &'a Pace,
}

impl<'a> Walk<'a> {
    fn start_what_can<F, Fut>(&mut self, perform: &F)
    where
        F: Fn(Step) -> Fut,
        Fut: Future<Output = Result<bool, Failure>> + Send + 'static,
    {
        // Blocked steps block others, which may come anywhere after them.
        for step in std::mem::take(&mut self.waiting) {
            match self.readiness(step) {
                Readiness::Ready if self.take_turn(step) => self.start(step, perform),
                Readiness::Ready => self.waiting.push(step),
                Readiness::Waits => self.waiting.push(step),
                Readiness::Blocked(by) => {
                    self.outcome.ends.insert(step.id.clone(), End::Blocked { by });
                }
            }
        }
    }

    fn readiness(&self, step: &Step) -> Readiness {
        for id in &step.needs {
            match self.outcome.ends.get(id) {
                Some(End::Done { .. }) => {}
                None => return Readiness::Waits,
                Some(End::Blocked { by }) => return Readiness::Blocked(by.clone()),
                Some(_) => return Readiness::Blocked(id.clone()),
            }
        }
        Readiness::Ready
    }

    /// Takes a place in the step's queue; `false` if none is free.
    fn take_turn(&mut self, step: &Step) -> bool {
        let Some(queue) = step.action.act().queue() else { return true };
        let length = queue.length.unwrap_or(self.queue_length).max(1);
        let taken = self.turns.entry(queue.name).or_default();
        let free = *taken < length;
        if free {
            *taken += 1;
        }
        free
    }

    /// Gives back the place of a step that has ended.
    fn leave(&mut self, id: &str) {
        self.aborts.remove(id);
        let step = self.plan.steps.iter().find(|step| step.id == id);
        let queue = step.and_then(|step| step.action.act().queue());
        if let Some(taken) = queue.and_then(|queue| self.turns.get_mut(&queue.name)) {
            *taken = taken.saturating_sub(1);
        }
    }

    fn start<F, Fut>(&mut self, step: &Step, perform: &F)
    where
        F: Fn(Step) -> Fut,
        Fut: Future<Output = Result<bool, Failure>> + Send + 'static,
    {
        let scope = Scope { step: step.id.clone(), events: self.events.clone() };
        let work = perform(step.clone());
        let (id, on, what) = (step.id.clone(), step.on.clone(), step.action.to_string());
        let (events, writes) = (self.events.clone(), step.writes());
        let (limit, time) = self.pace.of(&step.action);
        let handle = self.running.spawn(async move {
            let started = Instant::now();
            let said = (on.clone(), what.clone());
            let _ = events.send(Event::Started { step: id.clone(), on, what });
            let done = timeout(time, scope.run(work)).await;
            let result = done.unwrap_or_else(|_| Err(limit::passed(&said, limit)));
            let took = started.elapsed();
            let seconds = took.as_secs_f64();
            if let Err(failure) = &result {
                failure.log();
            }
            let _ = events.send(match &result {
                Ok(changed) => {
                    let changed = writes.then_some(*changed);
                    Event::Finished { step: id.clone(), changed, seconds }
                }
                Err(failure) => Event::Failed {
                    step: id.clone(),
                    error: failure.said.lines().next().unwrap_or(&failure.doing).to_owned(),
                    seconds,
                },
            });
            Ended { id, result, took }
        });
        self.aborts.insert(step.id.clone(), handle);
    }

    fn note(&mut self, ended: Ended) {
        self.leave(&ended.id);
        self.outcome.seconds.insert(ended.id.clone(), ended.took.as_secs_f64());
        let end = match ended.result {
            Ok(changed) => End::Done { changed },
            Err(failure) => End::Failed { failure: Box::new(failure) },
        };
        self.outcome.ends.insert(ended.id, end);
    }

    /// A step's task panicked: a bug in k8sha, and the step's failure.
    fn lost(&mut self, error: &tokio::task::JoinError) {
        let id = self.aborts.iter().find(|(_, task)| task.id() == error.id());
        let Some(id) = id.map(|(id, _)| id.clone()) else { return };
        self.leave(&id);
        let failure = Failure::new(Exit::NotAsAsked, format!("finish step `{id}`"), error)
            .hint("this is a bug in k8sha: please report it with the log".to_owned());
        self.outcome.ends.insert(id, End::Failed { failure: Box::new(failure) });
    }

    fn finish(mut self) -> Outcome {
        for step in &self.plan.steps {
            self.outcome.ends.entry(step.id.clone()).or_insert(End::Interrupted);
        }
        self.outcome
    }
}

enum Readiness {
    Ready,
    Waits,
    Blocked(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::cluster::{HostName, VmId};
    use crate::plan::action;
    use std::sync::{Arc, Mutex};
    use tokio::sync::mpsc::unbounded_channel;
    use tokio::time::sleep;

    fn step(id: &str, needs: &[&str]) -> Step {
        Step {
            id: id.to_owned(),
            on: id.to_owned(),
            action: action::Vip.into(),
            needs: needs.iter().map(ToString::to_string).collect(),
        }
    }

    /// A step that allocates on one storage.
    fn allocating(id: &str) -> Step {
        Step {
            action: action::Template {
                host: HostName("pve1".to_owned()),
                vmid: VmId(9001),
                os: id.to_owned(),
                image: String::new(),
                storage: "local-lvm".to_owned(),
                spec: String::new(),
                disk_gib: None,
            }
            .into(),
            ..step(id, &[])
        }
    }

    fn plan(steps: Vec<Step>) -> Plan {
        Plan {
            cluster: "c".to_owned(),
            topology: String::new(),
            vms: Vec::new(),
            steps,
            differences: Vec::new(),
            unwell: Vec::new(),
            look_again: Vec::new(),
            notices: Vec::new(),
        }
    }

    async fn run_with<F, Fut>(plan: &Plan, cancel: &CancellationToken, perform: F) -> Outcome
    where
        F: Fn(Step) -> Fut,
        Fut: Future<Output = Result<bool, Failure>> + Send + 'static,
    {
        let (events, _receiver) = unbounded_channel();
        let times = Times::new(1.0);
        run(plan, 2, &times, &events, cancel, &Pace::from(Clock::real()), perform).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_starts_as_soon_as_what_it_needs_is_done() {
        let plan = plan(vec![
            step("a", &[]),
            step("slow", &[]),
            step("b", &["a"]),
            step("end", &["b", "slow"]),
        ]);
        let started = Instant::now();
        let outcome = run_with(&plan, &CancellationToken::new(), |step| async move {
            sleep(Duration::from_secs(if step.id == "slow" { 25 } else { 10 })).await;
            Ok(true)
        })
        .await;
        assert_eq!(started.elapsed().as_secs(), 35);
        let (chain, seconds) = plan.critical_path(&outcome.seconds);
        assert_eq!((chain, seconds.round()), (vec!["slow".to_owned(), "end".to_owned()], 35.0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_blocks_what_needs_it_and_nothing_else() {
        let plan = plan(vec![
            step("bad", &[]),
            step("after", &["bad"]),
            step("later", &["after"]),
            step("good", &[]),
        ]);
        let outcome = run_with(&plan, &CancellationToken::new(), |step| async move {
            sleep(Duration::from_secs(1)).await;
            if step.id == "bad" {
                return Err(Failure::new(Exit::Proxmox, "do it", "no"));
            }
            Ok(false)
        })
        .await;
        assert!(matches!(outcome.ends["bad"], End::Failed { .. }));
        assert_eq!(outcome.ends["after"], End::Blocked { by: "bad".to_owned() });
        assert_eq!(outcome.ends["later"], End::Blocked { by: "bad".to_owned() });
        assert_eq!(outcome.ends["good"], End::Done { changed: false });
        assert_eq!(outcome.failures(&plan).count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_lets_only_so_many_in_at_once() {
        let plan = plan((0..6).map(|n| allocating(&format!("c{n}"))).collect());
        let inside = Arc::new(Mutex::new((0, 0)));
        let outcome = run_with(&plan, &CancellationToken::new(), |_| {
            let inside = Arc::clone(&inside);
            async move {
                {
                    let mut count = inside.lock().unwrap();
                    count.0 += 1;
                    count.1 = count.0.max(count.1);
                }
                sleep(Duration::from_secs(1)).await;
                inside.lock().unwrap().0 -= 1;
                Ok(true)
            }
        })
        .await;
        assert_eq!(outcome.ends.len(), 6);
        assert_eq!(inside.lock().unwrap().1, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn turns_go_to_the_longest_remaining_chain_and_a_step_that_failed_gives_its_turn_back() {
        let long = |id: &str| Step { needs: vec![id.to_owned()], ..step(&format!("{id}/+"), &[]) };
        let after = |id: &str, action: action::Keys| Step { action: action.into(), ..long(id) };
        let via = HostName("m".to_owned());
        let keys = || action::Keys { via: crate::cluster::NodeName(via.0.clone()) };
        let plan = plan(vec![
            allocating("c0"),
            allocating("c1"),
            allocating("c2"),
            allocating("c3"),
            after("c3", keys()),
            after("c2", keys()),
            after("c2/+", keys()),
        ]);
        for fails in [None, Some("c2"), Some("c3")] {
            let started = Arc::new(Mutex::new(Vec::new()));
            let outcome = run_with(&plan, &CancellationToken::new(), |step| {
                started.lock().unwrap().push(step.id.clone());
                async move {
                    sleep(Duration::from_secs(1)).await;
                    let failure = || Failure::new(Exit::Proxmox, "do it", "no");
                    if fails == Some(step.id.as_str()) { Err(failure()) } else { Ok(true) }
                }
            })
            .await;
            let clones: Vec<String> =
                started.lock().unwrap().iter().filter(|id| !id.contains('+')).cloned().collect();
            assert_eq!(clones, ["c2", "c3", "c0", "c1"]);
            assert_eq!(outcome.ends["c1"], End::Done { changed: true });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_that_panics_gives_its_turn_back() {
        let plan = plan((0..4).map(|n| allocating(&format!("c{n}"))).collect());
        let outcome = run_with(&plan, &CancellationToken::new(), |step| async move {
            sleep(Duration::from_secs(1)).await;
            assert!(["c2", "c3"].contains(&step.id.as_str()), "as a bug would");
            Ok(true)
        })
        .await;
        assert!(matches!(outcome.ends["c0"], End::Failed { .. }));
        assert_eq!(outcome.ends["c3"], End::Done { changed: true });
    }

    #[tokio::test(start_paused = true)]
    async fn an_interruption_ends_the_run_at_once_and_says_what_was_not_done() {
        let plan = plan(vec![step("a", &[]), step("b", &["a"]), step("c", &["b"])]);
        let cancel = CancellationToken::new();
        let stop = cancel.clone();
        let outcome = run_with(&plan, &cancel, move |step| {
            let stop = stop.clone();
            async move {
                if step.id == "b" {
                    stop.cancel();
                    sleep(Duration::from_secs(3600)).await;
                }
                Ok(true)
            }
        })
        .await;
        assert_eq!(outcome.ends["a"], End::Done { changed: true });
        assert_eq!(outcome.ends["b"], End::Interrupted);
        assert_eq!(outcome.ends["c"], End::Interrupted);
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_that_never_ends_is_ended_and_a_queue_does_not_count() {
        let mut steps =
            vec![allocating("c0"), allocating("c1"), allocating("c2"), step("never", &[])];
        steps.push(step("after", &["never"]));
        let plan = plan(steps);
        let began = Instant::now();
        let outcome = run_with(&plan, &CancellationToken::new(), |step| async move {
            // Two copies at once, each nearly as long as allowed: the third waits in the queue.
            let hours = if step.id == "never" { 1000 } else { 5 };
            sleep(Duration::from_secs(hours * 3600)).await;
            Ok(true)
        })
        .await;
        assert_eq!(began.elapsed().as_secs(), 10 * 3600);
        assert_eq!(outcome.ends["c2"], End::Done { changed: true });
        let End::Failed { failure } = &outcome.ends["never"] else { panic!("{outcome:?}") };
        assert_eq!(failure.said, "it did not finish within 3 h");
        assert!(failure.hint.as_ref().unwrap().contains("run the same command again"));
        assert_eq!(outcome.ends["after"], End::Blocked { by: "never".to_owned() });
    }
}
