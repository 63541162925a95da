//! Joins: late ones, many at once, and ones that fail.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::world::{Ran, World};

const UPLOAD: &str = "upload the control plane's certificates again";
const TOKEN: &str = "renew the bootstrap token";

/// The events of a run.
fn events(ran: &Ran) -> Vec<Value> {
    let lines = ran.stderr.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// How often a step reported this.
fn said(ran: &Ran, text: &str) -> usize {
    events(ran).iter().filter(|event| event["text"] == text).count()
}

/// The maximum number of concurrent joins of masters.
fn at_once(ran: &Ran) -> usize {
    let (mut running, mut most) = (BTreeSet::new(), 0);
    for event in events(ran) {
        let step = event["step"].as_str().unwrap_or_default().to_owned();
        if !step.starts_with("join/") {
            continue;
        }
        match event["event"].as_str().unwrap() {
            "started" => drop(running.insert(step)),
            "finished" | "failed" => drop(running.remove(&step)),
            _ => {}
        }
        most = most.max(running.len());
    }
    most
}

fn result<'a>(report: &'a Value, node: &str) -> &'a str {
    let nodes = report["nodes"].as_array().unwrap();
    let line = nodes.iter().find(|line| line["node"] == node).unwrap();
    line["result"].as_str().unwrap()
}

#[test]
fn masters_that_join_hours_later_get_certificates_that_were_uploaded_once_for_all() {
    let mut world = World::new();
    // The site's name servers know every row from the first look on.
    world.run(&["plan", "--quiet"]).ok();
    world.without_rows("k8s1", "four.yaml", &["k8s1master5", "k8s1master6"]);
    world.run(&["up", "--quiet"]).ok();
    world.pass(2.5);
    let status = world.run(&["status", "--json"]).ok().json();
    assert_eq!(status["certificate_key_left_s"], Value::Null, "two hours are over");
    assert!(status["token_left_s"].as_u64().unwrap() > 20 * 3600, "{status:#}");

    world.with_profile("six.yaml", &[]);
    let ran = world.run(&["up", "--json"]).ok();
    assert_eq!((said(&ran, UPLOAD), said(&ran, TOKEN)), (1, 0), "{}", ran.stderr);
    let report = ran.json();
    for node in ["k8s1master5", "k8s1master6"] {
        assert_eq!(result(&report, node), "created, joined as control plane");
    }
    assert_eq!(world.run(&["status", "--json"]).ok().json()["healthy"], true);
}

#[test]
fn a_worker_that_joins_a_day_later_gets_a_new_token() {
    let mut world = World::of("homelab");
    world.run(&["plan", "--quiet"]).ok();
    world.without_rows("homelab", "one.yaml", &["k8s-worker2"]);
    world.run(&["up", "--quiet"]).ok();
    world.pass(25.0);
    let status = world.run(&["status", "--json"]).ok().json();
    assert_eq!(status["token_left_s"], Value::Null, "24 hours are over");

    world.with_profile_of("homelab", "two.yaml", &[]);
    let ran = world.run(&["up", "--json"]).ok();
    assert_eq!(said(&ran, TOKEN), 1, "{}", ran.stderr);
    assert_eq!(result(&ran.json(), "k8s-worker2"), "created, joined as worker");
    let status = world.run(&["status", "--json"]).ok().json();
    assert_eq!(status["healthy"], true, "{status:#}");
    assert!(status["token_left_s"].as_u64().unwrap() > 23 * 3600, "{status:#}");
}

#[test]
fn a_key_that_expires_during_five_joins_is_renewed_once() {
    let world = World::new();
    // The certificates that the first master uploads expire at once.
    let ran = world.run(&["up", "--json", "--inject", "expired-key@k8s1master1"]).ok();
    assert_eq!(said(&ran, UPLOAD), 1, "{}", ran.stderr);
    for number in 2..=6 {
        let node = format!("k8s1master{number}");
        assert_eq!(result(&ran.json(), &node), "created, joined as control plane");
    }
}

#[test]
fn two_joins_that_fail_are_both_reported_and_the_others_finish() {
    let world = World::new();
    let faults = ["preflight-error@k8s1master3", "preflight-error@k8s1master5"];
    let ran = world.run(&["up", "--json", "--inject", faults[0], "--inject", faults[1]]);
    assert_eq!(ran.code, 5, "{ran:#?}");
    let report = ran.json();
    let failures = report["failures"].as_array().unwrap();
    let steps: Vec<&str> = failures.iter().map(|one| one["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["join/k8s1master3", "join/k8s1master5"]);
    for failure in failures {
        assert!(failure["said"].as_str().unwrap().contains("Port-10250"), "{failure:#}");
    }
    for (number, want) in [
        (2, "created, joined as control plane"),
        (3, "FAILED at join"),
        (4, "created, joined as control plane"),
        (5, "FAILED at join"),
        (6, "created, joined as control plane"),
    ] {
        assert_eq!(result(&report, &format!("k8s1master{number}")), want);
    }
    let again = world.run(&["up", "--json"]).ok().json();
    assert_eq!(result(&again, "k8s1master3"), "kept, joined as control plane");
    assert_eq!(result(&again, "k8s1master5"), "kept, joined as control plane");
    assert_eq!(world.run(&["status", "--json"]).ok().json()["healthy"], true);
}

#[test]
fn masters_with_an_external_etcd_join_all_at_once_or_as_many_as_the_profile_says() {
    let timeout = "control_plane_timeout: 2m";
    for (asked, want) in [("1", 1..=1), ("2", 2..=2), ("all", 4..=5)] {
        let mut world = World::new();
        let more = format!("{timeout}\n  parallel_joins: {asked}");
        world.with_profile("mine.yaml", &[(timeout, &more)]);
        world.run(&["provision", "--quiet"]).ok();
        let ran = world.run(&["bootstrap", "--json"]).ok();
        let most = at_once(&ran);
        assert!(want.contains(&most), "parallel_joins: {asked}, but {most} ran at once");
        let report = ran.json();
        let steps = report["steps"].as_array().unwrap().iter();
        let joins = steps.filter(|step| step["step"].as_str().unwrap().starts_with("join/"));
        let seconds: Vec<f64> = joins.map(|step| step["seconds"].as_f64().unwrap()).collect();
        // One by one, each join waits for all before it; at once, for none.
        let (one_by_one, longest) =
            (seconds.iter().sum::<f64>(), seconds.iter().copied().fold(0.0, f64::max));
        eprintln!(
            "parallel_joins: {asked}: {one_by_one:.1} s of joins, the longest {longest:.1} s"
        );
        assert_eq!(seconds.len(), 5);
    }
}

#[test]
fn masters_with_etcd_on_them_join_one_by_one_and_workers_all_at_once() {
    let mut world = World::of("homelab");
    let services = "services: 10.96.0.0/16";
    let more = format!("{services}\n  parallel_joins: all");
    world.with_profile_of("homelab", "mine.yaml", &[(services, &more)]);
    let ran = world.run(&["up", "--json"]).ok();
    let mut running = BTreeSet::new();
    for event in events(&ran) {
        let step = event["step"].as_str().unwrap_or_default().to_owned();
        let master = step.starts_with("join/k8s-master");
        match event["event"].as_str().unwrap() {
            "started" if master => drop(running.insert(step)),
            "finished" if master => drop(running.remove(&step)),
            _ => {}
        }
        assert!(running.len() <= 1, "{running:?} at once");
    }
    let plan = World::of("homelab").run(&["plan", "--json"]).ok().json();
    let needs = |id: &str| -> Vec<String> {
        let steps = plan["steps"].as_array().unwrap();
        let step = steps.iter().find(|step| step["id"] == id).unwrap();
        step["needs"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().into()).collect()
    };
    for worker in ["join/k8s-worker1", "join/k8s-worker2"] {
        assert!(!needs(worker).iter().any(|id| id.starts_with("join/")), "{worker}");
    }
    assert!(needs("join/k8s-master3").contains(&"join/k8s-master2".to_owned()));
}
