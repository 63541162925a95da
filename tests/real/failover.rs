//! How long the API is unavailable when a load balancer fails, for a client that sends a request every
//! 20 ms.
//!
//! `K8SHA_ROUNDS=5` repeats every fault and prints the table of docs/failover.md.

use std::time::{Duration, Instant};

use k8sha::cluster::Failover;

use crate::balancers::{PROGRAMS, Scene};
use crate::client::ANSWER;
use crate::lab::Cut;
use crate::{needs, profiles};

/// A loaded machine can stretch any time: a single miss in many rounds is not an error of k8sha.
const TRIES: usize = 3;

/// The faults of the balancer that holds the VIP.
#[derive(Clone, Copy, Debug)]
enum Fault {
    HaproxyKilled,
    HaproxyHangs,
    MachineKilled,
    LinkCut,
    KeepalivedStopped,
}

const FAULTS: [Fault; 5] = [
    Fault::HaproxyKilled,
    Fault::HaproxyHangs,
    Fault::MachineKilled,
    Fault::LinkCut,
    Fault::KeepalivedStopped,
];

impl Fault {
    fn text(self) -> &'static str {
        match self {
            Fault::HaproxyKilled => "HAProxy killed",
            Fault::HaproxyHangs => "HAProxy hangs (SIGSTOP)",
            Fault::MachineKilled => "machine killed",
            Fault::LinkCut => "link cut",
            Fault::KeepalivedStopped => "graceful stop",
        }
    }

    fn happens(self, scene: &mut Scene, name: &str) {
        match self {
            Fault::HaproxyKilled => scene.balancer(name).haproxy().kill(),
            Fault::HaproxyHangs => scene.balancer(name).haproxy().pause(),
            Fault::MachineKilled => {
                scene.lab.cut(name, Cut::Cable);
                scene.balancer(name).haproxy().kill();
                scene.balancer(name).keepalived().kill();
            }
            Fault::LinkCut => scene.lab.cut(name, Cut::Cable),
            Fault::KeepalivedStopped => scene.balancer(name).keepalived().stop(),
        }
    }

    fn ends(self, scene: &mut Scene, name: &str) {
        match self {
            Fault::HaproxyKilled => scene.balancer(name).start_haproxy(),
            Fault::HaproxyHangs => scene.balancer(name).haproxy().resume(),
            Fault::MachineKilled => {
                scene.forget_vip(name);
                scene.lab.reconnect(name);
                scene.balancer(name).start_haproxy();
                scene.balancer(name).start_keepalived();
            }
            Fault::LinkCut => scene.lab.reconnect(name),
            Fault::KeepalivedStopped => scene.balancer(name).start_keepalived(),
        }
    }
}

/// The result of one round.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// From the fault on.
    outage: Duration,
    /// From the return on.
    at_return: Duration,
    /// Requests that failed from the return on.
    failed: usize,
}

/// A fault at the holder moves the VIP; its end moves nothing.
fn moves_once(scene: &mut Scene, fault: Fault) -> Round {
    let first = scene.holder(|holders| holders.len() == 1);
    let second = scene.other(&first);
    let began = Instant::now();
    fault.happens(scene, &first);
    scene.holder(|holders| holders.contains(&second));
    let outage = scene.settle(began);
    let began = Instant::now();
    fault.ends(scene, &first);
    scene.wait_for_backup(&first);
    let at_return = scene.settle(began);
    assert_eq!(scene.holders(), [second], "{}: {}", fault.text(), scene.logs());
    Round { outage, at_return, failed: scene.client.failures(began) }
}

/// If the network behind the holder is cut, it keeps the VIP, and the other takes it too. When they
/// hear each other again, the higher priority keeps it, whatever `nopreempt` says: neither has a state
/// that tells which one was away.
fn splits_and_heals(scene: &mut Scene) -> Round {
    let first = scene.holder(|holders| holders.len() == 1);
    let began = Instant::now();
    scene.lab.cut(&first, Cut::Network);
    scene.holder(|holders| holders.len() == 2);
    let outage = scene.settle(began);
    let began = Instant::now();
    scene.lab.reconnect(&first);
    let kept = scene.holder(|holders| holders.len() == 1);
    let at_return = scene.settle(began);
    assert_eq!(scene.holders(), [kept], "{}", scene.logs());
    Round { outage, at_return, failed: 0 }
}

fn rounds() -> usize {
    std::env::var("K8SHA_ROUNDS").map_or(1, |text| text.parse().unwrap())
}

/// Repeats a round until it succeeded often enough, or failed too often.
fn measure(what: &str, limit: Duration, mut round: impl FnMut() -> Round) {
    let mut good: Vec<Round> = Vec::new();
    let mut bad: Vec<Round> = Vec::new();
    while good.len() < rounds() {
        let seen = round();
        let right = seen.outage <= limit && seen.at_return <= limit && seen.failed == 0;
        if right { &mut good } else { &mut bad }.push(seen);
        assert!(bad.len() < TRIES, "{what}, the limit is {limit:?}: {bad:?}, and well {good:?}");
    }
    let all: Vec<Round> = good.into_iter().chain(bad).collect();
    let sorted = |of: fn(&Round) -> Duration| {
        let mut sorted: Vec<Duration> = all.iter().map(of).collect();
        sorted.sort_unstable();
        sorted
    };
    let (outages, returns) = (sorted(|round| round.outage), sorted(|round| round.at_return));
    let failed: usize = all.iter().map(|round| round.failed).sum();
    needs::say(&format!(
        "| {what} | {} | {:.2?} | {:.2?} | {:.2?} | {failed} |",
        all.len(),
        outages[(outages.len() - 1) / 2],
        outages[outages.len() - 1],
        returns[returns.len() - 1],
    ));
}

fn every_single_fault(failover: Failover, limit: Duration) {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let mut cluster = profiles::cluster("k8s1");
    cluster.balancer.failover = failover;
    cluster.balancer.advert = failover.advert();
    let Some(mut scene) = Scene::start(&cluster) else { return };
    needs::say(&format!("\n`failover: {failover:?}`, no outage over {limit:?}\n"));
    needs::say("| fault | rounds | median | longest | longest gap at return | failed at return |");
    needs::say("|---|---|---|---|---|---|");
    for fault in FAULTS {
        // A client detects a hanging HAProxy only by its own timeout.
        let patience = if matches!(fault, Fault::HaproxyHangs) { ANSWER } else { Duration::ZERO };
        measure(fault.text(), limit + patience, || moves_once(&mut scene, fault));
    }
    measure("network cut behind it", limit, || splits_and_heals(&mut scene));
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn one_fault_moves_the_vip_once_with_the_shipped_settings() {
    let shipped = profiles::cluster("k8s1").balancer;
    assert_eq!((shipped.failover, shipped.advert), (Failover::Normal, Failover::Normal.advert()));
    every_single_fault(shipped.failover, Duration::from_millis(3500));
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn one_fault_moves_the_vip_once_and_in_a_second_with_fast_settings() {
    every_single_fault(Failover::Fast, Duration::from_secs(1));
}
