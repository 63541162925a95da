//! The administrator's kubeconfig, and the missing SSH access to hosts in a simulation.

use std::fs;

use serde_json::Value;

use crate::world::World;

const THEIRS: &str = "apiVersion: v1\nkind: Config\nclusters:\n- name: prod\n  cluster: {server: \
    \"https://10.0.0.1:6443\"}\ncontexts:\n- name: prod\n  context: {cluster: prod, user: \
    me}\ncurrent-context: prod\nusers:\n- name: me\n  user: {token: hush}\n";

fn names(config: &Value, list: &str) -> Vec<String> {
    let entries = config[list].as_array().unwrap().iter();
    entries.map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn access_is_merged_into_a_kubeconfig_with_other_clusters_and_updated_by_a_rebuild() {
    let world = World::new();
    let path = world.write("config", THEIRS);
    let flag = ["--merge-kubeconfig", path.to_str().unwrap()];
    let up = [&["up", "--json"], &flag[..]].concat();
    let report = world.run(&up).ok().json();
    assert_eq!(report["kubeconfig"], path.to_str().unwrap());
    let first: Value = serde_saphyr::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    for list in ["clusters", "contexts"] {
        assert_eq!(names(&first, list), ["prod", "k8s1-cluster"], "{list}");
    }
    assert_eq!(names(&first, "users"), ["me", "k8s1-cluster-admin"]);
    assert_eq!(first["current-context"], "prod");
    let backup = path.with_file_name("config.k8sha-backup");
    assert_eq!(fs::read_to_string(&backup).unwrap(), THEIRS);

    // Nothing to do: the file is correct.
    let before = fs::read(&path).unwrap();
    assert_eq!(world.run(&up).ok().json()["verdict"], "settled");
    assert_eq!(fs::read(&path).unwrap(), before);

    let rebuild = [&["rebuild", "--yes", "--json"], &flag[..]].concat();
    world.run(&rebuild).ok();
    let second: Value = serde_saphyr::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(second["clusters"][0], first["clusters"][0]);
    assert_ne!(second["clusters"][1], first["clusters"][1], "the new cluster has another CA");
}

#[test]
fn another_clusters_kubeconfig_is_not_overwritten_but_named() {
    let world = World::new();
    let path = world.write("config", THEIRS);
    let ran = world.run(&["up", "--quiet", "--kubeconfig", path.to_str().unwrap()]);
    assert_eq!(ran.code, 7, "{ran:#?}");
    let said = format!("{}{}", ran.stdout, ran.stderr);
    assert!(said.contains("access to another cluster (https://10.0.0.1:6443)"), "{said}");
    assert!(said.contains("--merge-kubeconfig"), "{said}");
    assert_eq!(fs::read_to_string(&path).unwrap(), THEIRS);
}

#[test]
fn simulated_hosts_have_no_routes_to_set() {
    let world = World::new();
    let ran = world.run(&["routes", "--apply"]);
    assert_eq!(ran.code, 2, "{ran:#?}");
    assert!(ran.stderr.contains("but no SSH server"), "{}", ran.stderr);
}
