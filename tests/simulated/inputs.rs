//! Input files that are endless, not regular files, or much too large.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::world::{Ran, World, program, run};

/// The maximum private memory of a command, in KiB: setrlimit(2), `RLIMIT_DATA`.
const MEMORY_KIB: u32 = 200_000;

/// Runs the program with this memory limit; if it needs more, it ends by a signal.
fn bounded(folder: &Path, args: &[&str], variables: &[(&str, &str)]) -> Ran {
    let inner = program(folder);
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("ulimit -d {MEMORY_KIB} && exec \"$0\" \"$@\"")]);
    command.arg(inner.get_program()).args(args);
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.envs(variables.iter().copied()).stdin(std::process::Stdio::null());
    run(command)
}

fn refused(ran: &Ran, part: &str) {
    assert_eq!(ran.code, 2, "{part}: {} {:.2000}", ran.code, ran.stderr);
    assert!(ran.stderr.contains(part), "no {part:?} in {:.2000}", ran.stderr);
    assert!(ran.stderr.len() < 100_000, "{part}: {} bytes are said", ran.stderr.len());
    let raw = ran.stderr.chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(raw, None, "{part}");
}

fn fifo(folder: &Path) -> PathBuf {
    let path = folder.join("fifo.yaml");
    let made = Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    path
}

#[test]
fn a_profile_that_is_not_a_file_or_is_endless_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let many = |line: &str, count: usize| line.repeat(count).into_bytes();
    let keys: String = (0..9_900).map(|nth| format!("key{nth}: 1\n")).collect();
    for (path, part) in [
        (PathBuf::from("/dev/zero"), "a device"),
        (fifo(folder.path()), "a pipe (FIFO)"),
        (folder.path().to_owned(), "a folder"),
        (write("lines.yaml", &many("\n", 10 << 20)), "too large for a profile"),
        (write("short.yaml", &many("\n", 1 << 20)), "the profile is too large: 1048576 lines"),
        (write("scalar.yaml", &many("x", 10 << 20)), "too large for a profile"),
        (write("word.yaml", &many("x", 1 << 20)), "line 1 is longer than"),
        (write("latin.yaml", b"cluster:\n  name: k\xe9\n"), "line 2, byte 10 of it: 0xe9"),
        (write("empty.yaml", b""), "empty.yaml:1:1"),
        (write("keys.yaml", keys.as_bytes()), "more errors"),
    ] {
        let path = path.to_str().unwrap();
        refused(&bounded(folder.path(), &["plan", "--profile", path], &[]), part);
    }
}

#[test]
fn every_other_input_file_is_bounded_too() {
    let mut world = World::new();
    let pipe = fifo(world.path().parent().unwrap());
    let pipe = pipe.to_str().unwrap();
    let run = |world: &World, args: &[&str], variables: &[(&str, &str)]| {
        bounded(world.path().parent().unwrap(), args, variables)
    };
    for endless in ["/dev/zero", pipe] {
        let part = "only regular files are read";
        let args = ["plan", "--endpoints", endless];
        refused(&run(&world, &args, &[]), part);
        refused(&run(&world, &["plan", "--simulate", "--schema", endless], &[]), part);
        let pin = format!("fingerprint: {}\n      storage: local-lvm", ["AB"; 32].join(":"));
        world.with_profile("mine.yaml", &[("storage: local-lvm", &pin)]);
        let mine = world.path().with_file_name("mine.yaml");
        let args = ["plan", "--profile", mine.to_str().unwrap()];
        let token = ("K8SHA_PVE_TOKEN_FILE", endless);
        refused(&run(&world, &args, &[token]), part);
        let args = [&args[..], &["--identity", endless]].concat();
        refused(&run(&world, &args, &[]), part);
        let cni = format!("cni: {{ manifest: {endless} }}");
        world.with_profile("cni.yaml", &[("cni: none", &cni)]);
        let cni = world.path().with_file_name("cni.yaml");
        let args = ["render", "k8s1master1", "--profile", cni.to_str().unwrap()];
        refused(&run(&world, &args, &[]), part);
    }
}
