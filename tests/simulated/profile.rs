//! `k8sha profile`.

use std::fs;
use std::path::Path;

use crate::world::{Ran, k8sha, program, run};

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

/// Runs the program in a folder, with what `K8SHA_PROFILE` says.
fn in_folder(folder: &Path, variable: Option<&str>, args: &[&str]) -> Ran {
    let mut command = program(folder);
    command.current_dir(folder).args(args).env_remove("K8SHA_PROFILE");
    command.envs(variable.map(|value| ("K8SHA_PROFILE", value)));
    run(command)
}

#[test]
fn no_command_on_real_hosts_has_a_default_profile() {
    let folder = tempfile::tempdir().unwrap();
    for line in [
        "up",
        "provision --pve pve1",
        "bootstrap",
        "rebuild --yes",
        "destroy --yes",
        "plan",
        "status",
        "dns",
        "doctor",
        "render k8s1master1",
        "routes --remove",
        "ssh k8s1master1 -- true",
        "logs k8s1master1",
        "kubeconfig",
        "kubectl get nodes",
    ] {
        let args: Vec<&str> = line.split(' ').collect();
        let ran = in_folder(folder.path(), None, &args);
        // The exit code of `ssh` is the remote command's, or 255.
        let code = if line.starts_with("ssh") { 255 } else { 2 };
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{line}: {ran:#?}");
        for part in ["no profile is named", "k8sha profile homelab > k8sha.yaml", "K8SHA_PROFILE"] {
            assert!(ran.stderr.contains(part), "{line}: no `{part}` in {}", ran.stderr);
        }
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was written");
}

#[test]
fn the_profile_is_the_flags_then_the_variables_then_the_folders_then_the_simulations() {
    let folder = tempfile::tempdir().unwrap();
    let rendered = |variable: Option<&str>, args: &[&str]| {
        let ran = in_folder(folder.path(), variable, &[&["render"], args].concat());
        assert!(ran.code == 0 || ran.stderr.contains("nodes are"), "{ran:#?}");
        ran.code == 0
    };
    assert!(rendered(None, &["k8s1master1", "--simulate"]));
    let text = k8sha(&["profile", "homelab"]).ok().stdout;
    fs::write(folder.path().join("k8sha.yaml"), text).unwrap();
    assert!(rendered(None, &["k8s-master1"]));
    assert!(rendered(None, &["k8s-master1", "--simulate"]), "the folder's own is simulated");
    assert!(!rendered(Some("k8s1"), &["k8s-master1"]));
    assert!(rendered(Some("k8s1"), &["k8s1master1"]));
    assert!(rendered(Some("k8s1"), &["k8s-master1", "--profile", "homelab"]));
}

#[test]
fn a_suggested_command_names_the_profile_unless_the_folder_does() {
    let folder = tempfile::tempdir().unwrap();
    let text = k8sha(&["profile", "homelab"]).ok().stdout;
    fs::write(folder.path().join("k8sha.yaml"), text).unwrap();
    let next = |variable: Option<&str>| {
        let args = ["provision", "--pve", "pve1", "--quiet", "--speed", "150", "--simulate", "w"];
        in_folder(folder.path(), variable, &args).ok().stdout
    };
    let own = next(None);
    assert!(own.contains("k8sha up --simulate w"), "{own}");
    let named = next(Some("./k8sha.yaml"));
    assert!(named.contains("k8sha up --profile ./k8sha.yaml --simulate w"), "{named}");
}
