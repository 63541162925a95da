//! `k8sha profile`.

use std::fs;

use crate::world::k8sha;

#[test]
fn every_built_in_profile_is_listed_with_what_it_is_and_printed_as_it_is() {
    let list = k8sha(&["profile"]).ok().stdout;
    let names: Vec<&str> = list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["homelab", "k8s1", "k8s1-etcd"]);
    assert!(list.contains("six masters on two Proxmox VE hosts behind a VIP"), "{list}");
    let entries = k8sha(&["profile", "--json"]).ok().json();
    for entry in entries.as_array().unwrap() {
        let name = entry["name"].as_str().unwrap();
        let about = entry["about"].as_str().unwrap();
        assert!(about.len() > 40, "{about}");
        let file = format!("{}/profiles/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(file).unwrap();
        assert_eq!(k8sha(&["profile", name]).ok().stdout, text, "{name}");
        assert_eq!(k8sha(&["profile", name, "--json"]).ok().json()["text"], text, "{name}");
    }
}

#[test]
fn a_profile_that_is_not_built_in_is_refused_with_those_that_are() {
    let ran = k8sha(&["profile", "./mine.yaml"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:#?}");
    assert!(ran.stderr.contains("homelab, k8s1, k8s1-etcd"), "{}", ran.stderr);
}
