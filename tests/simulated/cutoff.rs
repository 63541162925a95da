//! VMs whose creation was interrupted, and waits that a user can end.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use k8sha_simulator::pve::state::Vm;
use k8sha_simulator::pve::task::Task;

use crate::world::World;

/// A world with the VMs of one host, which left one of them incomplete.
fn with_placeholder(vmid: u32) -> World {
    let world = World::of("homelab").after(&["provision", "--pve", "pve1", "--quiet"]);
    world.change(|world| {
        let vm = vm(world, vmid);
        vm.running = None;
        vm.lock = Some("clone".to_owned());
        vm.config.clear();
        vm.config.insert("description".to_owned(), " qmclone temporary file".to_owned());
    });
    world
}

fn vm(world: &mut k8sha_simulator::world::World, vmid: u32) -> &mut Vm {
    let mut datacenters = world.pve.datacenters.iter_mut();
    datacenters.find_map(|datacenter| datacenter.vms.get_mut(&vmid)).unwrap()
}

/// The first VM of the table.
const VM: u32 = 3031;

#[test]
fn the_remains_of_an_interrupted_clone_are_reported_at_once_with_the_command_that_removes_them() {
    let world = with_placeholder(VM);
    let before = world.digest();
    for command in ["plan", "up", "provision"] {
        let began = Instant::now();
        let ran = world.run(&[command]);
        assert!(began.elapsed() < Duration::from_secs(10), "{command}: {:?}", began.elapsed());
        assert_eq!(ran.code, 1, "{command}: {ran:#?}");
        for word in [
            "VM 3031 is incomplete: it has the lock `clone`, and no task is working on it",
            "qm unlock 3031 && qm destroy 3031     (on pve1",
        ] {
            assert!(ran.stderr.contains(word), "{command}: no `{word}` in {ran:#?}");
        }
    }
    let status = world.run(&["status", "--json"]).json();
    assert!(status["conflicts"].to_string().contains("is incomplete"), "{status:#}");
    let doctor = world.run(&["doctor"]);
    assert!(doctor.stdout.contains("qm unlock 3031 && qm destroy 3031"), "{doctor:#?}");
    let destroy = world.run(&["plan", "--json"]);
    assert_eq!(destroy.code, 1);
    assert_eq!(world.digest(), before, "nothing was written");
}

#[test]
fn a_clone_whose_task_runs_is_named_with_its_task_and_waited_for() {
    let world = with_placeholder(VM);
    // Its task has not ended, and will not before the test does.
    world.change(|world| {
        let later = world.now.after(1e6);
        let made = format!("with ID {VM}");
        let mut tasks = world.pve.datacenters.iter_mut().flat_map(|one| one.tasks.iter_mut());
        let clones = |task: &&mut Task| {
            task.kind == "qmclone" && task.log.iter().any(|line| line.ends_with(&made))
        };
        let task = tasks.find(clones).unwrap();
        (task.result, task.ended, task.next) = (None, None, Some(later));
    });
    let ran = world.run(&["plan"]);
    assert_eq!(ran.code, 1, "{ran:#?}");
    assert!(
        ran.stderr.contains("VM 3031 is being created (lock `clone`) by the task UPID:"),
        "{ran:#?}"
    );
    assert!(!ran.stderr.contains("qm destroy"), "{ran:#?}");
    // Commands that create VMs wait for it, and report it.
    let mut child = world.command(&["provision"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let told = lines.find(|line| line.contains("waiting for VM 3031 (lock `clone`), which UPID:"));
    assert!(told.is_some());
    terminate(child.id());
    assert_eq!(child.wait().unwrap().code(), Some(INTERRUPTED));
}

/// The exit code of an interrupted command.
const INTERRUPTED: i32 = k8sha::error::Exit::Interrupted as i32;

fn terminate(id: u32) {
    let done = Command::new("kill").args(["-TERM", &id.to_string()]).status().unwrap();
    assert!(done.success());
}

#[test]
fn a_host_that_does_not_answer_is_named_after_a_second_and_a_signal_ends_the_wait() {
    for command in ["plan", "status", "doctor", "provision", "destroy"] {
        let world = World::new();
        let mut child = world
            .command(&[command, "--inject", "host-down@pve2"])
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let told = lines.find(|line| line.contains("pve2") && line.contains("waiting for its"));
        assert!(told.is_some(), "{command} waits in silence");
        terminate(child.id());
        // A wait that ends by itself ends with an error of the host.
        assert_eq!(child.wait().unwrap().code(), Some(INTERRUPTED), "{command}");
    }
}
