//! Workers whose machines are replaced: drained, destroyed and created again, one after the other; and what
//! must never happen meanwhile: two of them drained at once, a machine destroyed with its pods on it, a
//! machine that was not named, a node that does not come back.

use crate::living::Living;
use crate::removals::{WORKER2, kubectl, nodes, position, vm, workload};

/// The machine id that a worker's Node object has.
fn machine(living: &Living, name: &str) -> String {
    let text = kubectl(&living.world, &["get", "nodes", "-o", "json"], "");
    let list: serde_json::Value = serde_json::from_str(&text).unwrap();
    let is = |node: &&serde_json::Value| {
        node["metadata"]["name"].as_str().unwrap().split('.').next() == Some(name)
    };
    let node = list["items"].as_array().unwrap().iter().find(is).unwrap();
    node["status"]["nodeInfo"]["machineID"].as_str().unwrap().to_owned()
}

#[test]
fn a_replaced_worker_is_drained_first_and_gets_what_only_a_new_machine_gets() {
    let mut living = Living::stacked();
    workload(&living.world, 1);
    let smaller = WORKER2.replace("ram: 8G", "disk: 24G, ram: 8G");
    living.edit(&[(WORKER2, &smaller)]);
    let plan = living.world.run(&["plan"]).ok().stdout;
    assert!(plan.contains("disk is 32G") && plan.contains("k8sha replace k8s-worker2"), "{plan}");
    let (before, other) = (machine(&living, "k8s-worker2"), machine(&living, "k8s-worker1"));

    let untouched = living.world.digest();
    let ran = living.world.run(&["replace", "k8s-worker2"]);
    assert!(ran.code == 2 && ran.stderr.contains("--yes"), "{ran:#?}");
    for (name, words) in [("k8s-master1", "is a master"), ("k8s-worker9", "no row `k8s-worker9`")] {
        let ran = living.world.run(&["replace", name, "--yes"]);
        assert!(ran.code == 2 && ran.stderr.contains(words), "{ran:#?}");
    }
    assert_eq!(living.world.digest(), untouched, "nothing was changed");

    let ran = living.world.run(&["replace", "k8s-worker2", "--yes", "--json"]).ok();
    let order = [
        "drain/k8s-worker2",
        "delete-node/k8s-worker2",
        "destroy/k8s-worker2/3052",
        "clone/k8s-worker2",
        "join/k8s-worker2",
    ];
    let places: Vec<usize> = order.iter().map(|step| position(&ran, step)).collect();
    assert!(places.is_sorted(), "{places:?}");
    let report = ran.json();
    let line =
        report["nodes"].as_array().unwrap().iter().find(|it| it["node"] == "k8s-worker2").unwrap();
    assert_eq!(line["result"], "created, joined as worker");
    assert_ne!(machine(&living, "k8s-worker2"), before);
    assert_eq!(machine(&living, "k8s-worker1"), other, "the other worker is the same machine");
    living.settled();
}

#[test]
fn a_second_worker_is_drained_when_the_first_ones_new_machine_is_ready() {
    let living = Living::stacked();
    let ran = living.world.run(&["replace", "k8s-worker2", "k8s-worker1", "--yes", "--json"]).ok();
    let places = ["drain/k8s-worker1", "join/k8s-worker1", "drain/k8s-worker2", "join/k8s-worker2"];
    let places: Vec<usize> = places.iter().map(|step| position(&ran, step)).collect();
    assert!(places.is_sorted(), "{places:?}");
    assert_eq!(nodes(&living.world).len(), 5);
    living.settled();
}

#[test]
fn a_killed_replacement_is_finished_by_up() {
    let flags = ["replace", "k8s-worker2", "--yes", "--json"];
    let total = crate::world::events(&Living::stacked().world.run(&flags).ok());
    for after in (1..total).step_by(6) {
        let living = Living::stacked();
        workload(&living.world, 1);
        living.world.kill_after(&flags[..3], after);
        living.unharmed();
        living.world.run(&["up", "--quiet"]).ok();
        assert!(vm(&living.world, "k8s-worker2"), "killed after {after} of {total} events");
        assert_eq!(nodes(&living.world).len(), 5, "killed after {after} of {total} events");
        living.settled();
    }
}

#[test]
fn a_worker_is_not_replaced_while_its_pods_stay_or_another_row_is_gone() {
    let mut living = Living::stacked();
    workload(&living.world, 0);
    let ran = living.world.run(&["replace", "k8s-worker2", "--yes"]);
    assert!(ran.code == 5 && ran.stderr.contains("disruption budget"), "{ran:#?}");
    assert!(vm(&living.world, "k8s-worker2"));
    living.settled();
    living.edit(&[(WORKER2, "")]);
    let before = living.world.digest();
    let ran = living.world.run(&["replace", "k8s-worker1", "--yes"]);
    assert!(ran.code == 1 && ran.stderr.contains("k8s-worker2"), "{ran:#?}");
    assert_eq!(living.world.digest(), before);
}
