//! How long a plan takes, and the order in which its steps take their turns. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::times::{self, Times};
use super::{Action, Plan};

/// How long a plan is expected to take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Forecast {
    /// Its seconds; steps without a record count as zero.
    pub(crate) seconds: f64,
    /// How many earlier runs each figure is from, at least.
    pub(crate) runs: usize,
    /// How many steps have no record.
    pub(crate) unrecorded: usize,
}

/// What a kind of step usually takes on real hosts, in seconds: it gives the order only, until there
/// is a record, and no estimate is made from it.
///
/// Waiting for machines and for kubeadm is what takes time: a first boot installs packages and, with
/// another kernel, restarts; `init` and `join` pull images and wait for static pods. Copies depend on
/// the disk, and a linked clone copies nothing. The rest are single calls and checks.
fn usual(action: &Action) -> f64 {
    match action {
        Action::Boot(_) => 90.0,
        // As long as pods take to leave.
        Action::Drain(_) => 60.0,
        Action::Clone(it) if it.full => 60.0,
        Action::Image(_) => 60.0,
        Action::Init(_) => 45.0,
        Action::Join(_) => 30.0,
        Action::EtcdForm(_) | Action::Template(_) | Action::Cni(_) => 20.0,
        Action::Vip(_) | Action::Reset(_) | Action::Destroy(_) => 10.0,
        Action::Clone(_) | Action::Etcd(_) | Action::EtcdMember(_) | Action::Verify(_) => 3.0,
        Action::Dns(_)
        | Action::Seed(_)
        | Action::Configure(_)
        | Action::Grow(_)
        | Action::Start(_)
        | Action::Eject(_)
        | Action::DeleteSeed(_)
        | Action::NodeDns(_)
        | Action::Balance(_)
        | Action::EtcdClient(_)
        | Action::Mark(_)
        | Action::DeleteNode(_)
        | Action::Uncordon(_)
        | Action::Forget(_)
        | Action::Keys(_)
        | Action::Label(_)
        | Action::Kubeconfig(_)
        | Action::ForgetEtcd(_)
        | Action::RemoveVolume(_)
        | Action::RemoveTemplate(_) => 1.0,
    }
}

/// The seconds by which steps are ordered: those of the record, else what is usual.
fn weights(plan: &Plan, times: &Times) -> Vec<f64> {
    let kinds = times::kinds(plan).into_iter();
    let figures = kinds.map(|kind| times.figure(&kind?).map(|figure| figure.seconds));
    let weigh = |(step, figure): (&super::Step, Option<f64>)| {
        figure.unwrap_or_else(|| usual(&step.action) / times.speed())
    };
    plan.steps.iter().zip(figures).map(weigh).collect()
}

/// The needs of each step, by their places in the plan.
fn needs(plan: &Plan) -> Vec<Vec<usize>> {
    let at: BTreeMap<&str, usize> =
        plan.steps.iter().enumerate().map(|(at, step)| (step.id.as_str(), at)).collect();
    let known = |step: &super::Step| {
        step.needs.iter().filter_map(|id| at.get(id.as_str()).copied()).collect()
    };
    plan.steps.iter().map(known).collect()
}

/// The places of the plan's steps, in the order in which they take their turns. A step comes after
/// its needs.
///
/// What `kubeadm init` and the VIP wait for comes first, whatever the record says: no node can join
/// before them, so a wrong figure must not delay them. Then the longest remaining chain comes first,
/// and the plan's own order decides between equals.
pub(crate) fn order(plan: &Plan, times: &Times) -> Vec<usize> {
    by_chain(plan, &weights(plan, times))
}

fn by_chain(plan: &Plan, seconds: &[f64]) -> Vec<usize> {
    let needs = needs(plan);
    let first = |action: &Action| matches!(action, Action::Init(_) | Action::Vip(_));
    let mut urgent: Vec<bool> = plan.steps.iter().map(|step| first(&step.action)).collect();
    let mut rest: Vec<f64> = seconds.to_vec();
    // Steps come after their needs, so one pass from the end is enough.
    for at in (0..plan.steps.len()).rev() {
        for &need in &needs[at] {
            urgent[need] |= urgent[at];
            rest[need] = rest[need].max(seconds[need] + rest[at]);
        }
    }
    let mut order: Vec<usize> = (0..plan.steps.len()).collect();
    order.sort_by(|&a, &b| {
        urgent[b].cmp(&urgent[a]).then(rest[b].total_cmp(&rest[a])).then(a.cmp(&b))
    });
    order
}

/// A moment of a simulated run, ordered as a number.
#[derive(Clone, Copy, Debug, PartialEq)]
struct At(f64);

impl Eq for At {}

impl Ord for At {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for At {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// When each step ends, if steps take these seconds and take their turns in this order, with at most
/// `queue_length` at once in each queue that has no length of its own.
fn ends(plan: &Plan, seconds: &[f64], order: &[usize], queue_length: usize) -> Vec<f64> {
    let needs = needs(plan);
    let mut open: Vec<usize> = needs.iter().map(Vec::len).collect();
    let mut after: Vec<Vec<usize>> = vec![Vec::new(); needs.len()];
    for (at, needs) in needs.iter().enumerate() {
        needs.iter().for_each(|&need| after[need].push(at));
    }
    let mut rank = vec![0; order.len()];
    order.iter().enumerate().for_each(|(place, &at)| rank[at] = place);
    let queues: Vec<_> = plan.steps.iter().map(|step| step.action.act().queue()).collect();
    let mut free: BTreeMap<&str, usize> = BTreeMap::new();
    for queue in queues.iter().flatten() {
        free.insert(&queue.name, queue.length.unwrap_or(queue_length).max(1));
    }
    let mut ready: BTreeSet<usize> =
        (0..open.len()).filter(|&at| open[at] == 0).map(|at| rank[at]).collect();
    let mut ends = vec![0.0; open.len()];
    let mut running: BinaryHeap<Reverse<(At, usize)>> = BinaryHeap::new();
    let mut now = 0.0;
    loop {
        ready.retain(|&place| {
            let at = order[place];
            if let Some(queue) = &queues[at] {
                let free = free.entry(&queue.name).or_default();
                if *free == 0 {
                    return true;
                }
                *free -= 1;
            }
            ends[at] = now + seconds[at];
            running.push(Reverse((At(ends[at]), at)));
            false
        });
        let Some(Reverse((At(end), at))) = running.pop() else { return ends };
        now = end;
        if let Some(queue) = &queues[at] {
            *free.entry(&queue.name).or_default() += 1;
        }
        for &next in &after[at] {
            open[next] -= 1;
            if open[next] == 0 {
                ready.insert(rank[next]);
            }
        }
    }
}

/// How long a plan takes by the record; `None` if fewer than half of its steps have one, which says
/// too little.
pub(crate) fn forecast(plan: &Plan, times: &Times, queue_length: usize) -> Option<Forecast> {
    let kinds = times::kinds(plan).into_iter();
    let figures: Vec<_> = kinds.map(|kind| times.figure(&kind?)).collect();
    let unrecorded = figures.iter().filter(|figure| figure.is_none()).count();
    let runs = figures.iter().flatten().map(|figure| figure.runs).min()?;
    if unrecorded * 2 > figures.len() {
        return None;
    }
    let seconds: Vec<f64> =
        figures.iter().map(|figure| figure.map_or(0.0, |figure| figure.seconds)).collect();
    let ends = ends(plan, &seconds, &order(plan, times), queue_length);
    let seconds = ends.into_iter().fold(0.0, f64::max);
    Some(Forecast { seconds, runs, unrecorded })
}

/// By how many seconds the longest chain of dependent steps would be shorter if all steps of an
/// action took half as long, for each action on that chain.
pub(crate) fn savings(plan: &Plan, took: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let (chain, whole) = plan.critical_path(took);
    let chain: BTreeSet<&str> = chain.iter().map(String::as_str).collect();
    let on_chain = plan.steps.iter().filter(|step| chain.contains(step.id.as_str()));
    let families: BTreeSet<&str> = on_chain.map(times::family).collect();
    let saved = |family: &&str| {
        let mut faster = took.clone();
        for step in plan.steps.iter().filter(|step| times::family(step) == *family) {
            faster.entry(step.id.clone()).and_modify(|seconds| *seconds /= 2.0);
        }
        whole - plan.critical_path(&faster).1
    };
    families.iter().map(|family| ((*family).to_owned(), saved(family))).collect()
}

/// How long a plan takes by the record if steps take their turns in the order of the plan.
#[cfg(test)]
pub(crate) fn in_order_of_the_plan(plan: &Plan, times: &Times, queue_length: usize) -> f64 {
    let order: Vec<usize> = (0..plan.steps.len()).collect();
    ends(plan, &weights(plan, times), &order, queue_length).into_iter().fold(0.0, f64::max)
}
