//! The order in which steps take their turns, and how long a plan is expected to take.

use proptest::prelude::*;

use super::*;
use crate::plan::length::{self, Forecast};
use crate::plan::times::{Times, kinds};

/// The plan that makes a cluster where nothing is.
fn bare(which: usize) -> Plan {
    let mut cluster = k8s1();
    let other = [fixture::k8s1, fixture::homelab, fixture::own_etcd][which]();
    cluster.nodes = other.nodes;
    cluster.etcd = other.etcd;
    let specs = specs(&cluster, "aa", "bb");
    let had = inventory(&cluster, &specs).emptied();
    plan_of(&cluster, &specs, &had, &Part::all())
}

/// A record in which each kind of this plan's steps took as long as `seconds` says.
fn record(plan: &Plan, seconds: impl Fn(&str) -> Option<f64>) -> Times {
    let mut times = Times::new(1.0);
    let all = plan.steps.iter().zip(kinds(plan));
    let took = all.filter_map(|(step, kind)| Some((step.id.as_str(), (true, seconds(&kind?)?))));
    times.learn(plan, &took.collect());
    times
}

/// Some seconds for a kind, other ones for each seed.
fn random(kind: &str, seed: u64) -> f64 {
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = kind.bytes().fold(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, hash);
    // From a tenth of a second to three minutes, most of them short.
    0.1 * 1800_f64.powf((hash >> 40) as f64 / f64::from(1 << 24))
}

/// The steps' names in the order of their turns.
fn turns<'a>(plan: &'a Plan, times: &Times) -> Vec<&'a str> {
    length::order(plan, times).into_iter().map(|at| plan.steps[at].id.as_str()).collect()
}

/// A step takes its turn after all that it needs, whatever the record says.
pub(super) fn follow_needs(plan: &Plan, seed: u64) {
    for times in [Times::new(1.0), record(plan, |kind| Some(random(kind, seed)))] {
        let turns = turns(plan, &times);
        assert_eq!(turns.len(), plan.steps.len());
        let mut done = BTreeSet::new();
        for id in turns {
            let missing = step(plan, id).needs.iter().find(|need| !done.contains(need.as_str()));
            assert_eq!(missing, None, "{id} is before what it needs");
            done.insert(id);
        }
    }
}

#[test]
fn the_chains_of_the_first_master_and_the_vip_go_first_whatever_the_record_says() {
    for which in 0..3 {
        let plan = bare(which);
        let wrong = |kind: &str| Some(if kind.ends_with("/load-balancer") { 0.0 } else { 100.0 });
        let records = [Times::new(1.0), Times::new(150.0), record(&plan, wrong)];
        for times in records
            .into_iter()
            .chain((0..200).map(|seed| record(&plan, |kind| Some(random(kind, seed)))))
        {
            let turns = turns(&plan, &times);
            let clones: Vec<&str> =
                turns.into_iter().filter_map(|id| id.strip_prefix("clone/")).collect();
            // The members of our etcd are on that chain too.
            let urgent = if which == 2 { 6 } else { 3 };
            let (first, rest) = clones.split_at(urgent);
            for name in ["k8s1vrrp1", "k8s1vrrp2", "k8s1master1"] {
                assert!(first.contains(&name), "{clones:?}");
            }
            assert!(rest.iter().all(|name| !name.starts_with("k8s1etcd")), "{clones:?}");
        }
    }
}

#[test]
fn among_others_the_longest_remaining_chain_goes_first_and_equals_keep_the_plans_order() {
    let plan = bare(1);
    let clones = |times: &Times| -> Vec<String> {
        let turns = turns(&plan, times).into_iter();
        turns.filter_map(|id| id.strip_prefix("clone/k8s1")).skip(3).map(str::to_owned).collect()
    };
    // The masters join one after the other; a worker gets its label after that.
    let wanted = ["master2", "worker1", "worker2", "master3"];
    assert_eq!(clones(&Times::new(1.0)), wanted);
    let slow_workers = |kind: &str| Some(if kind == "boot/worker" { 500.0 } else { 1.0 });
    let times = record(&plan, slow_workers);
    assert_eq!(clones(&times), ["worker1", "worker2", "master2", "master3"]);
    assert_eq!(clones(&times), clones(&times.clone()));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Turns by the longest chain are never longer than turns in the plan's order, for the plans of
    /// new clusters. (For any graph there are exceptions.)
    #[test]
    fn turns_by_length_do_not_make_a_new_cluster_take_longer(
        which in 0..3usize,
        seed in any::<u64>(),
        queue_length in 1..5usize,
    ) {
        let plan = bare(which);
        let times = record(&plan, |kind| Some(random(kind, seed)));
        let by_length = length::forecast(&plan, &times, queue_length).unwrap().seconds;
        let in_order = length::in_order_of_the_plan(&plan, &times, queue_length);
        prop_assert!(by_length <= in_order + 1e-6, "{by_length} > {in_order}");
    }
}

#[test]
fn a_forecast_counts_the_turns_and_says_what_it_does_not_know() {
    let plan = bare(0);
    assert_eq!(length::forecast(&plan, &Times::new(1.0), 2), None, "nothing is known");
    let known = |kind: &str| match kind {
        "clone" => Some(10.0),
        _ => Some(0.0),
    };
    let times = record(&plan, known);
    // Four clones on each host.
    for (queue_length, seconds) in [(1, 40.0), (2, 20.0), (4, 10.0), (9, 10.0)] {
        let forecast = length::forecast(&plan, &times, queue_length).unwrap();
        assert_eq!(forecast, Forecast { seconds, runs: 1, unrecorded: 0 });
    }
    let but_joins = |kind: &str| known(kind).filter(|_| kind != "join/master");
    let forecast = length::forecast(&plan, &record(&plan, but_joins), 1).unwrap();
    assert_eq!(forecast, Forecast { seconds: 40.0, runs: 1, unrecorded: 5 });
    let clones = |kind: &str| known(kind).filter(|_| kind == "clone");
    assert_eq!(length::forecast(&plan, &record(&plan, clones), 1), None, "too little is known");
}

#[test]
fn a_saving_is_what_the_longest_chain_would_lose_and_no_more() {
    let plan = bare(0);
    let took = plan.steps.iter().map(|step| {
        let seconds = match step.id.as_str() {
            "boot/k8s1master1" => 40.0,
            id if id.starts_with("boot/") => 30.0,
            "clone/k8s1vrrp1" => 19.0,
            "init" => 20.0,
            _ => 0.0,
        };
        (step.id.clone(), seconds)
    });
    let took: BTreeMap<String, f64> = took.collect();
    let (chain, seconds) = plan.critical_path(&took);
    // 19 + 30 + 20 by a load balancer.
    assert_eq!(seconds, 69.0, "{chain:?}");
    let savings = length::savings(&plan, &took);
    assert_eq!(savings["init"], 10.0);
    // The chain of the load balancer loses 15, and the one of the master is shorter then.
    assert_eq!(savings["boot"], 15.0);
    // Without half of that clone, the chain of the master is the longest.
    assert_eq!(savings["clone"], 9.0);
    assert!(!savings.contains_key("join") || savings["join"] == 0.0);
}
