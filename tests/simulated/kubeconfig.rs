//! `k8sha kubeconfig` and `k8sha kubectl`.
//!
//! What must never happen: kubectl runs with another cluster's kubeconfig, or with the person's own
//! because there is none of this cluster; a simulated cluster passes for one that can be asked.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use crate::world::{Ran, World, program, run};

#[test]
fn the_kubeconfig_is_named_or_merged_and_what_makes_it_is_told_where_there_is_none() {
    let world = World::new();
    let ran = world.run(&["kubeconfig"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{ran:#?}");
    assert!(ran.stderr.contains("there is no kubeconfig of this cluster yet"), "{}", ran.stderr);
    assert!(ran.stderr.contains("`k8sha up --profile k8s1 --simulate"), "{}", ran.stderr);

    let world = World::new().made();
    let path = world.path().join("operator/k8s1-cluster/kubeconfig");
    let path = path.to_str().unwrap();
    assert_eq!(world.run(&["kubeconfig"]).ok().stdout, format!("{path}\n"));
    let shown = world.run(&["kubeconfig", "--json"]).ok().json();
    assert_eq!((&shown["kubeconfig"], &shown["context"]), (&path.into(), &"k8s1-cluster".into()));

    let mine = world.write("mine", "");
    let merge = ["kubeconfig", "--json", "--merge", mine.to_str().unwrap()];
    assert_eq!(world.run(&merge).ok().json()["changed"], true);
    let text = fs::read_to_string(&mine).unwrap();
    assert!(text.contains("k8s1-cluster-admin"), "{text}");
    assert_eq!(world.run(&merge).ok().json()["changed"], false);
    assert_eq!(fs::read_to_string(&mine).unwrap(), text);
    fs::write(&mine, "hello").unwrap();
    assert_eq!(world.run(&merge).code, 7);
    assert_eq!(fs::read_to_string(&mine).unwrap(), "hello");

    fs::write(path, "hello").unwrap();
    let ran = world.run(&["kubeconfig"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{ran:#?}");
    assert!(ran.stderr.contains("not a complete kubeconfig of this cluster"), "{}", ran.stderr);
}

/// Runs `k8sha kubectl` on the real world, with the programs of a folder alone.
fn kubectl(home: &Path, programs: &Path, args: &[&str]) -> Ran {
    let mut command = program(home);
    command
        .env("K8SHA_PROFILE", "k8s1")
        .arg("kubectl")
        .args(args)
        .env("PATH", programs)
        .env("KUBECONFIG", "/someone/elses");
    run(command)
}

#[test]
fn kubectl_gets_the_clusters_kubeconfig_all_arguments_and_gives_its_exit_code() {
    let made = World::new().made();
    let kubeconfig = fs::read(made.path().join("operator/k8s1-cluster/kubeconfig")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (home, programs) = (folder.path().join("home"), folder.path().join("programs"));
    fs::create_dir(&programs).unwrap();
    let stub = "#!/bin/sh\nprintf '%s\\n' \"$KUBECONFIG\" \"$@\"\nexit 3\n";
    fs::write(programs.join("kubectl"), stub).unwrap();
    fs::set_permissions(programs.join("kubectl"), fs::Permissions::from_mode(0o755)).unwrap();

    let ran = kubectl(&home, &programs, &["get", "nodes"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{ran:#?}");
    assert!(ran.stderr.contains("there is no kubeconfig of this cluster yet"), "{}", ran.stderr);

    let state = home.join(".local/state/k8sha/k8s1-cluster");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&state).unwrap();
    fs::write(state.join("kubeconfig"), kubeconfig).unwrap();
    let args =
        ["-n", "kube-system", "get", "pods", "-o", "json path", "--", "-v", "--profile", "x"];
    let ran = kubectl(&home, &programs, &args);
    let wanted = [&[state.join("kubeconfig").to_str().unwrap()], &args[..]].concat().join("\n");
    assert_eq!((ran.code, ran.stdout), (3, format!("{wanted}\n")), "{}", ran.stderr);

    fs::remove_file(programs.join("kubectl")).unwrap();
    let ran = kubectl(&home, &programs, &["get", "nodes"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{ran:#?}");
    assert!(ran.stderr.contains("there is no `kubectl` in the PATH"), "{}", ran.stderr);
}

#[test]
fn a_simulated_cluster_has_no_api_server_for_kubectl_and_the_command_that_is_told_works() {
    let world = World::new().made();
    let mut command = program(&world.path());
    command.args(["kubectl", "--simulate"]).arg(world.path()).args(["get", "nodes"]);
    let ran = run(command);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:#?}");
    assert!(ran.stderr.contains("it has no real API server"), "{}", ran.stderr);
    let told = ran.stderr.split_once("-- ").unwrap().1.split_once('`').unwrap().0;
    let words: Vec<&str> = told.split_whitespace().collect();
    let ran = crate::ssh::ssh(&world, "k8s1master1", &words, "").ok();
    assert!(ran.stdout.contains("k8s1master6.kloud.lan"), "{}", ran.stdout);
}
