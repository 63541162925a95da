//! A killed run is resumed by the next one, wherever it stopped.

use std::thread;

use crate::seeds::seeds;
use crate::world::{World, events};
use k8sha_simulator::inspect::VmLine;

/// The number of points of a run at which it is killed.
const POINTS: usize = 20;

/// The state that must not depend on how often a run was killed.
fn end_state(world: &World) -> (Vec<VmLine>, usize) {
    let status = world.run(&["status", "--json"]).ok().json();
    assert_eq!(status["healthy"], true, "{status:#}");
    let nodes = status["nodes"].as_array().unwrap().len();
    assert!(seeds(&world.path()).is_empty(), "used seeds are left");
    (world.vms(), nodes)
}

#[test]
fn a_kill_at_any_point_and_a_second_run_end_where_one_run_ends() {
    let whole = World::new();
    let ran = whole.run(&["up", "--json"]).ok();
    let (total, wanted) = (events(&ran), end_state(&whole));
    assert!(total > 2 * POINTS, "too few events to spread over: {total}");
    let try_points = |points: Vec<usize>| {
        for point in points {
            let world = World::new();
            let after = 1 + total * point / (POINTS + 1);
            world.kill_after(&["up"], after);
            let ran = world.run(&["up", "--json"]);
            assert_eq!(ran.code, 0, "killed after {after} of {total} events: {ran:#?}");
            assert_eq!(end_state(&world), wanted, "killed after {after} of {total} events");
        }
    };
    // Two at a time: each waits for its simulated world most of the time.
    thread::scope(|scope| {
        scope.spawn(|| try_points((1..=POINTS).filter(|point| point % 2 == 1).collect()));
        try_points((1..=POINTS).filter(|point| point % 2 == 0).collect());
    });
}

#[test]
fn a_killed_destroy_is_finished_by_the_next() {
    let world = World::new();
    world.run(&["plan", "--quiet"]).ok();
    let bare = world.digest();
    world.run(&["up", "--quiet"]).ok();
    world.kill_after(&["destroy", "--yes"], 7);
    world.run(&["destroy", "--yes", "--quiet"]).ok();
    assert_eq!(world.digest(), bare);
}

#[test]
fn a_killed_rebuild_is_finished_by_the_next() {
    let world = World::new().made();
    world.kill_after(&["rebuild", "--yes"], 40);
    world.run(&["rebuild", "--yes", "--quiet"]).ok();
    assert_eq!(end_state(&world).1, 8);
}

#[test]
fn a_repeatedly_killed_destroy_is_finished_by_the_next() {
    let mut world = World::of("k8s1");
    world.with_profile_of("k8s1", "mine.yaml", &[]);
    world.run(&["up", "--quiet"]).ok();
    // The keys in the external etcd are removed first; a run killed later has no master left to query.
    for events in (2..40).step_by(4) {
        world.kill_after(&["destroy", "--yes"], events);
    }
    world.run(&["destroy", "--yes"]).ok();
    assert!(world.vms().iter().all(|vm| !vm.name.starts_with("k8s1")), "{:?}", world.vms());
}
