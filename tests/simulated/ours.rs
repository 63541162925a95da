//! k8sha's own files: their permissions, and how long they are kept.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::world::{World, program, run};

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_state_folder_that_others_can_write_to_is_refused_and_not_changed() {
    let world = World::new();
    let state = world.path().with_file_name("state");
    fs::create_dir(&state).unwrap();
    for (folder, shown) in [(&state, "chmod 700"), (&world.path(), "chmod go-w")] {
        fs::create_dir_all(folder).unwrap();
        fs::set_permissions(folder, Permissions::from_mode(0o777)).unwrap();
        let inside = if folder == &state { state.clone() } else { folder.join("state") };
        let ran = world.run(&["plan", "--state", inside.to_str().unwrap()]);
        assert_eq!(ran.code, 7, "{ran:#?}");
        assert!(ran.stderr.contains(shown) && ran.stderr.contains("0777"), "{}", ran.stderr);
        assert!(!inside.join("ssh").exists());
        fs::set_permissions(folder, Permissions::from_mode(0o700)).unwrap();
        world.run(&["plan", "--quiet", "--state", inside.to_str().unwrap()]).ok();
    }
}

#[test]
fn whatever_the_umask_all_files_are_private() {
    fn assert_private(path: &Path, seen: &mut usize) {
        *seen += 1;
        let want = if path.is_dir() { 0o700 } else { 0o600 };
        // A public key may be read by all.
        assert_eq!(mode(path), want, "{}", path.display());
        if path.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                assert_private(&entry.unwrap().path(), seen);
            }
        }
    }
    let world = World::new();
    let state = world.path().with_file_name("state");
    let inner = world.command(&["up", "--quiet", "--state", state.to_str().unwrap()]);
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "umask 000 && exec \"$0\" \"$@\""]).arg(inner.get_program());
    command.args(inner.get_args()).env("HOME", world.path().parent().unwrap());
    run(command).ok();
    let mut seen = 0;
    assert_private(&state, &mut seen);
    assert!(state.join("kubeconfig").exists() && state.join("lock").exists());
    assert!(seen > 20, "{seen}");
}

#[test]
fn a_temporary_world_is_private_and_a_killed_runs_is_removed_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let temporary = folder.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let command = |args: &[&str]| {
        let mut command = program(folder.path());
        command.args(args).arg("--simulate").env("TMPDIR", &temporary);
        command
    };
    let left = || -> Vec<_> {
        fs::read_dir(&temporary).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let mut killed = command(&["up", "--json", "--speed", "20"]);
    killed.stdout(Stdio::null()).stderr(Stdio::piped());
    crate::world::kill_after(killed.spawn().unwrap(), 3);
    let dead = left();
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert_eq!(mode(&dead[0]), 0o700);
    assert!(dead[0].join("ssh/operator").exists(), "a simulated operator's key is left");
    run(command(&["plan", "--quiet"])).ok();
    assert_eq!(left(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn the_latest_fifty_logs_are_kept() {
    let world = World::new();
    let logs = world.path().join("operator/k8s1-cluster/log");
    fs::create_dir_all(&logs).unwrap();
    for nth in 0..70 {
        fs::write(logs.join(format!("20260101T0000{nth:02}.000Z-up.log")), "").unwrap();
    }
    world.run(&["plan", "--quiet"]).ok();
    assert_eq!(fs::read_dir(&logs).unwrap().count(), 50);
    assert!(!logs.join("20260101T000020.000Z-up.log").exists());
    assert!(logs.join("20260101T000021.000Z-up.log").exists());
}
