//! VMs that are switched on but not running, and VMs that Proxmox VE does not release.

use crate::world::World;

/// A world with the VMs of one host.
fn provisioned() -> World {
    World::of("homelab").after(&["provision", "--pve", "pve1", "--quiet"])
}

/// Sets an option of a VM.
fn change(world: &World, vmid: u32, change: impl Fn(&mut k8sha_simulator::pve::state::Vm)) {
    world.change(|world| {
        let mut datacenters = world.pve.datacenters.iter_mut();
        change(datacenters.find_map(|one| one.vms.get_mut(&vmid)).unwrap());
    });
}

#[test]
fn a_vm_halted_by_qemu_is_reported_with_a_fix() {
    let world = provisioned();
    for (state, fix) in [("paused", "qm resume 3031"), ("internal-error", "qm reset 3031")] {
        change(&world, 3031, |vm| vm.halted = Some(state.to_owned()));
        let before = world.digest();
        let told = format!("VM 3031 is powered on but does not run: QEMU reports `{state}`");
        for command in ["plan", "up", "doctor", "status"] {
            let ran = world.run(&[command]);
            assert_eq!(ran.code, 1, "{command}: {ran:#?}");
            let text = format!("{}{}", ran.stdout, ran.stderr);
            assert!(text.contains(&told) && text.contains(fix), "{command}: {ran:#?}");
        }
        let status = world.run(&["status", "--json"]).json();
        let nodes = status["nodes"].as_array().unwrap();
        let row = nodes.iter().find(|row| row["vmid"] == 3031).unwrap();
        assert_eq!(row["vm"], format!("on, but {state}"));
        assert_eq!(world.digest(), before, "nothing was written");
    }
    change(&world, 3031, |vm| vm.halted = None);
    assert!(!world.run(&["plan"]).ok().stdout.contains("QEMU reports"));
}

#[test]
fn vms_that_proxmox_ve_cannot_remove_are_reported_before_anything_is_removed() {
    let world = provisioned();
    let template = world.vms().into_iter().find(|vm| vm.template).unwrap().vmid;
    let refused = |said: &str, fix: &str| {
        let before = world.digest();
        for command in ["destroy", "rebuild"] {
            let ran = world.run(&[command, "--yes"]);
            assert_eq!(ran.code, 3, "{command}: {ran:#?}");
            assert!(ran.stderr.contains("nothing was removed"), "{command}: {ran:#?}");
            assert!(ran.stderr.contains(said) && ran.stderr.contains(fix), "{command}: {ran:#?}");
            assert_eq!(world.digest(), before, "{command}: nothing was written");
            if template.to_string() == fix.split(' ').nth(2).unwrap_or_default() {
                // A rebuild keeps the template.
                return;
            }
        }
    };
    let protect = |vmid: u32, on: bool| {
        change(&world, vmid, |vm| match on {
            true => drop(vm.config.insert("protection".to_owned(), "1".to_owned())),
            false => drop(vm.config.remove("protection")),
        });
    };
    protect(3031, true);
    refused("VM 3031 on pve1 has `protection` set", "qm set 3031 --protection 0");
    protect(3031, false);
    change(&world, 3031, |vm| vm.lock = Some("backup".to_owned()));
    refused("VM 3031 on pve1 is locked (backup)", "qm unlock 3031");
    change(&world, 3031, |vm| vm.lock = None);
    protect(template, true);
    let fix = format!("qm set {template} --protection 0");
    refused(&format!("template {template} on pve1 has `protection` set"), &fix);
    protect(template, false);
    world.run(&["destroy", "--yes", "--quiet"]).ok();
    assert!(world.vms().is_empty(), "{:#?}", world.vms());
}

#[test]
fn a_vm_that_was_only_switched_on_is_reported_as_started() {
    let world = provisioned();
    change(&world, 3031, |vm| vm.running = None);
    let plan = world.run(&["plan"]).ok().stdout;
    let line = plan.lines().find(|line| line.contains("VM 3031")).unwrap();
    assert!(line.ends_with("started"), "{plan}");
    let ran = world.run(&["provision", "--pve", "pve1", "--json"]).ok().json();
    let nodes = ran["nodes"].as_array().unwrap();
    let row = nodes.iter().find(|row| row["vmid"] == 3031).unwrap();
    assert_eq!(row["result"], "started");
    let other = nodes.iter().find(|row| row["vmid"] != 3031).unwrap();
    assert_eq!(other["result"], "kept");
}

#[test]
fn a_drive_with_a_pending_removal_is_kept_by_a_new_value() {
    let world = provisioned();
    // As `qm set 3031 --delete ide2` on a running VM does it.
    change(&world, 3031, |vm| {
        assert!(vm.running.is_some());
        vm.pending.insert("ide2".to_owned(), None);
        vm.config.insert("boot".to_owned(), "order=scsi0".to_owned());
    });
    let plan = world.run(&["plan"]).ok().stdout;
    assert!(plan.contains("ide2: (unset) -> none,media=cdrom"), "{plan}");
    assert!(!plan.contains("takes effect when it is next switched off"), "{plan}");
    world.run(&["provision", "--pve", "pve1", "--quiet"]).ok();
    change(&world, 3031, |vm| {
        assert!(!vm.pending.contains_key("ide2"), "{:?}", vm.pending);
        vm.settle();
        let drive = vm.config.get("ide2").map(String::as_str);
        assert_eq!(drive, Some("none,media=cdrom"));
    });
    assert!(world.run(&["plan"]).ok().stdout.contains("VM 3031"));
}
