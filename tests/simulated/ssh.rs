//! `k8sha ssh` on simulated nodes. The same with real OpenSSH and a terminal: `tests/real/shell.rs`.
//!
//! What must never happen:
//! - a connection goes on with a machine whose host key is not the one that the state folder has, or
//!   whose key it does not have at all; a key is never made or learned on the way;
//! - a machine that is no row of the profile is connected to;
//! - a word of the command reaches it as two, as none, or as something that the node's shell made of it;
//! - the command's failure, or that it did not run, looks like success;
//! - what the command printed comes back changed;
//! - an exit code of k8sha's own passes for the command's.

use std::fs;

use crate::living::Living;
use crate::world::{Ran, World, fed};

/// Runs a command on a node, with this input and these flags.
fn ssh_with(world: &World, flags: &[&str], node: &str, words: &[&str], input: &str) -> Ran {
    let args = [&["ssh", "--quiet"], flags, &[node, "--"], words].concat();
    fed(world.command(&args), input)
}

/// Runs a command on a node.
pub fn ssh(world: &World, node: &str, words: &[&str], input: &str) -> Ran {
    ssh_with(world, &[], node, words, input)
}

/// The program did not run the command.
fn refused(ran: &Ran, said: &str) {
    assert_eq!((ran.code, ran.stdout.as_str()), (255, ""), "{ran:#?}");
    assert!(ran.stderr.contains(said), "{}", ran.stderr);
}

#[test]
fn each_word_reaches_the_command_as_it_is_and_its_output_comes_back_as_it_is() {
    let world = World::new().made();
    let words = ["printf", "[%s]\\n", "a b", "$HOME", "it's", "", "*", "a;b", "$(id)", "-n", "\\n"];
    let ran = ssh(&world, "k8s1master1", &words, "").ok();
    let want = "[a b]\n[$HOME]\n[it's]\n[]\n[*]\n[a;b]\n[$(id)]\n[-n]\n[\\n]\n";
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), (want, ""));
    // Its input too, and neither is masked or escaped: it is the person's own.
    let input = "\u{1b}[31mred abcdef.0123456789abcdef\r\n";
    assert_eq!(ssh(&world, "k8s1master1", &["cat"], input).ok().stdout, input);
    // By its full name, and without a log: runs would lose theirs.
    let folder = world.path().join("operator/k8s1-cluster/log");
    let logs = || fs::read_dir(&folder).unwrap().count();
    let before = logs();
    let ran = ssh(&world, "k8s1master1.kloud.lan", &["hostname"], "").ok();
    assert_eq!(ran.stdout, "k8s1master1\n");
    assert_eq!(logs(), before);
}

#[test]
fn the_exit_code_is_the_commands_own_and_255_is_ours() {
    let world = World::new().made();
    assert_eq!(ssh(&world, "k8s1master1", &["test", "-e", "/none"], "").code, 1);
    let ran = ssh(&world, "k8s1master1", &["frobnicate"], "");
    assert_eq!((ran.code, ran.stdout.as_str()), (127, ""));
    assert!(ran.stderr.contains("frobnicate: command not found"), "{}", ran.stderr);
    // A simulated node has no shell, and does not pretend to have one.
    let shell =
        |flags: &[&str]| fed(world.command(&[&["ssh", "k8s1master1"], flags].concat()), "id\n");
    refused(&shell(&[]), "simulated nodes have no shell");
    refused(&shell(&["--tty"]), "standard input is not a terminal");
}

#[test]
fn a_machine_with_another_host_key_gets_no_word() {
    let world = World::new().made();
    let fault = ["--inject", "wrong-host-key@k8s1master1"];
    let ran = ssh_with(&world, &fault, "k8s1master1", &["hostname"], "");
    refused(&ran, "does not match the one in its seed");
}

#[test]
fn a_machine_that_is_not_known_is_not_connected_to_and_no_key_is_made_for_it() {
    // No row.
    let mut world = World::new().made();
    refused(&ssh(&world, "k8s1master9", &["hostname"], ""), "its nodes are k8s1vrrp1");
    // A row whose VM was never made.
    let last = "pve: pve2, vmid: 1203 }";
    let row = "\n  - { role: master, name: k8s1master9, ip: 10.101.1.209, os: ubuntu-22.04, kernel: \
               mainline-6.6.1, ram: 4G, vcpu: 2, disk: 20G, pve: pve2, vmid: 1209 }";
    world.with_profile("more.yaml", &[(last, &format!("{last}{row}"))]);
    let ran = ssh(&world, "k8s1master9", &["hostname"], "");
    refused(&ran, "has no host key of `k8s1master9`");
    assert!(!world.path().join("operator/k8s1-cluster/ssh/host-k8s1master9").exists());
    // A state folder that is another's.
    let other = tempfile::tempdir().unwrap();
    let state = ["--state", other.path().to_str().unwrap()];
    let ran = ssh_with(&world, &state, "k8s1master1", &["hostname"], "");
    refused(&ran, "has no host key of `k8s1master1`");
    assert_eq!(fs::read_dir(other.path().join("ssh")).unwrap().count(), 0);
}

#[test]
fn a_machine_that_is_gone_is_told_as_unreachable() {
    let living = Living::external();
    living.destroy("pve1", 1101);
    let ran = ssh(&living.world, "k8s1master1", &["hostname"], "");
    refused(&ran, "no SSH connection to `k8s1master1`");
    assert!(ran.stderr.contains("is it running"), "{}", ran.stderr);
}
