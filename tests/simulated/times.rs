//! The record of step times: what a run expects from it, and that no run depends on it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use regex::Regex;
use serde_json::Value;

use crate::world::World;

fn record(world: &World) -> PathBuf {
    world.path().join("operator/k8s1-cluster/times.json")
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn newest_log(world: &World) -> String {
    let logs = fs::read_dir(world.path().join("operator/k8s1-cluster/log")).unwrap();
    fs::read_to_string(logs.map(|entry| entry.unwrap().path()).max().unwrap()).unwrap()
}

#[test]
fn a_second_cluster_is_expected_to_take_as_long_as_the_first_and_a_first_run_expects_nothing() {
    let world = World::new();
    let first = world.run(&["up"]).ok();
    assert!(!first.stderr.contains("expected:"), "{}", first.stderr);
    let chain = Regex::new(
        r"\n  chain       (\S+ [\d.]+ s, ){3}and \d+ shorter steps\n  shorter     .* if each `\S+` step took half as long\n",
    )
    .unwrap();
    assert!(chain.is_match(&first.stdout), "{}", first.stdout);

    let path = record(&world);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let kinds = read(&path)["kinds"].clone();
    for kind in ["clone", "boot/master", "boot/load-balancer", "vip", "init/master", "join/master"]
    {
        assert_eq!(kinds[kind].as_array().unwrap().len(), 1, "{kind}: {kinds:#}");
    }
    assert!(!kinds.to_string().contains("k8s1"), "no name is in it: {kinds:#}");

    let gone = world.run(&["destroy", "--yes"]).ok();
    assert!(!gone.stderr.contains("expected:"), "it was never timed: {}", gone.stderr);
    assert!(path.exists(), "another cluster on these hosts takes as long");
    let second = world.run(&["up"]).ok();
    let line =
        Regex::new(r"(?m)^expected: about (\d+ min )?\d+ s \(from 1 earlier run\)$").unwrap();
    assert!(line.is_match(&second.stderr), "{}", second.stderr);

    let rebuilt = world.run(&["rebuild", "--yes", "--json"]).ok();
    assert!(!rebuilt.stderr.contains("expected:"), "stderr is for events: {}", rebuilt.stderr);
    let rebuilt = rebuilt.json();
    let expected = &rebuilt["expected"];
    assert_eq!(expected["unrecorded"], 0, "{expected:#}");
    assert_eq!(
        expected["steps"].as_u64().unwrap() as usize,
        rebuilt["steps"].as_array().unwrap().len()
    );
    let (seconds, took) = (expected["seconds"].as_f64(), rebuilt["critical_path_s"].as_f64());
    let ratio = seconds.unwrap() / took.unwrap();
    eprintln!("expected / longest chain: {ratio:.2}");
    assert!((0.2..5.0).contains(&ratio), "{expected:#}: {ratio}");
    let chain = rebuilt["longest_chain"].as_array().unwrap();
    let steps: Vec<&Value> = chain.iter().map(|link| &link["step"]).collect();
    let ids: Vec<&Value> = rebuilt["critical_path"].as_array().unwrap().iter().collect();
    assert_eq!(steps, ids);
    let saved = rebuilt["half_time_saves_s"].as_object().unwrap();
    let saved: f64 = saved.values().map(|seconds| seconds.as_f64().unwrap()).sum();
    assert!(saved > 0.0 && saved < took.unwrap(), "{rebuilt:#}");

    let settled = world.run(&["up", "--json"]).ok().json();
    assert_eq!(settled["expected"], Value::Null, "nothing is to be done");
}

#[test]
fn a_record_that_cannot_be_used_changes_no_run_and_is_replaced() {
    let world = World::new().made();
    let path = record(&world);
    let unused = "the record of step times is not used and will be replaced";
    for text in ["", "{\"speed\":150.0,\"kinds\":{\"vip\":[-1]}}", "\u{1b}[2J not ours"] {
        fs::write(&path, text).unwrap();
        let ran = world.run(&["up", "--json"]).ok();
        assert_eq!(ran.json()["verdict"], "settled");
        assert!(newest_log(&world).contains(unused));
        assert!(read(&path)["kinds"].is_object(), "it was written again");
        assert!(!newest_log(&world).contains('\u{1b}'));
    }
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(world.run(&["up", "--json"]).ok().json()["verdict"], "settled");
    assert!(newest_log(&world).contains(unused));
    assert!(fs::metadata(&path).unwrap().len() < 10_000);
    // Neither readable nor replaceable.
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(world.run(&["up", "--json"]).ok().json()["verdict"], "settled");
    let log = newest_log(&world);
    assert!(log.contains(unused) && log.contains("the step times were not recorded"), "{log}");
    assert!(path.is_dir());
}
