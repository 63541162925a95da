//! Where seeds are planned to be, and when they are removed.

use super::*;

/// Puts a machine before its first boot, with its seed in the drive and on the storage.
fn before_first_boot(had: &mut Inventory, node: &Node, wanted: &spec::NodeSpec) -> String {
    let volume = format!("local:iso/{}", wanted.seed_file);
    let Some(VmState::Ours(vm)) = had.vms.get_mut(&node.name) else { panic!("no VM") };
    vm.mark.read = None;
    vm.config.insert("description".into(), wanted.description.clone());
    vm.config.insert(spec::SEED_DRIVE.into(), format!("{volume},media=cdrom,size=368K"));
    let host = had.hosts.get_mut(&node.host).unwrap();
    host.isos.insert(volume.clone());
    host.attached.insert(node.vmid, [volume.clone()].into());
    had.nodes.remove(&node.name);
    volume
}

fn ejected(plan: &Plan, node: &str) -> Vec<String> {
    let Action::Eject(eject) = &step(plan, &format!("eject/{node}")).action else {
        panic!("{plan:#?}")
    };
    eject.seeds.iter().map(|seed| format!("{} {}", seed.host, seed.volume)).collect()
}

#[test]
fn a_seed_is_ejected_after_the_first_boot_and_never_before() {
    let cluster = k8s1();
    let specs = specs(&cluster, "aa", "bb");
    let node = cluster.node(&NodeName("k8s1master3".into())).unwrap();
    let mut had = inventory(&cluster, &specs);
    let volume = before_first_boot(&mut had, node, &specs[&node.name]);
    let state = |booted, failed| NodeState { booted, failed, ..NodeState::default() };
    for found in [None, Some(state(false, false)), Some(state(false, true))] {
        let again = found.as_ref().is_some_and(|state| state.failed);
        had.nodes.remove(&node.name);
        had.nodes.extend(found.map(|state| (node.name.clone(), state)));
        let plan = plan_of(&cluster, &specs, &had, &Part::all());
        assert!(!plan.steps.iter().any(|step| step.id == "seed/k8s1master3"), "it is there");
        assert_eq!(step(&plan, "eject/k8s1master3").needs, ["boot/k8s1master3"]);
        assert_eq!(ejected(&plan, "k8s1master3"), [format!("pve1 {volume}")]);
        let boot = &step(&plan, "boot/k8s1master3").action;
        assert!(matches!(boot, Action::Boot(boot) if boot.again == again));
    }
    // A machine that has booted, left by an interrupted run or a former release.
    had.nodes.insert(node.name.clone(), state(true, false));
    for part in [Part::all(), Part { bootstrap: false, ..Part::all() }] {
        let plan = plan_of(&cluster, &specs, &had, &part);
        assert_eq!(writes(&plan), ["eject/k8s1master3"]);
        assert!(step(&plan, "eject/k8s1master3").needs.is_empty());
    }
}

#[test]
fn a_first_boot_that_starts_over_has_its_seed_again_first() {
    let cluster = k8s1();
    let specs = specs(&cluster, "aa", "bb");
    let mut had = inventory(&cluster, &specs);
    let name = NodeName("k8s1master3".into());
    had.nodes.insert(name, NodeState { failed: true, ..NodeState::default() });
    let plan = plan_of(&cluster, &specs, &had, &Part::all());
    let boot = step(&plan, "boot/k8s1master3");
    assert!(matches!(boot.action, Action::Boot(action::Boot { again: true, .. })));
    assert_eq!(boot.needs, ["seed/k8s1master3", "configure/k8s1master3"]);
    let configure = step(&plan, "configure/k8s1master3");
    let Action::Configure(action::Configure { changes, .. }) = &configure.action else {
        panic!("{configure:?}")
    };
    let drive = changes.iter().find(|change| change.key == spec::SEED_DRIVE).unwrap();
    assert!(drive.from == spec::EJECTED && drive.to.contains("k8s1master3"), "{drive:?}");
    assert_eq!(configure.needs, ["seed/k8s1master3"]);
    assert_eq!(ejected(&plan, "k8s1master3").len(), 1);
}

#[test]
fn a_machine_that_has_booted_once_starts_without_a_seed_and_one_of_an_early_backup_with_it() {
    let cluster = k8s1();
    let specs = specs(&cluster, "aa", "bb");
    let node = cluster.node(&NodeName("k8s1master3".into())).unwrap();
    let off = |had: &mut Inventory| {
        had.nodes.remove(&node.name);
        had.survey.machines.insert(node.name.clone(), Machine::Off);
        let Some(VmState::Ours(vm)) = had.vms.get_mut(&node.name) else { panic!("no VM") };
        vm.hardware = None;
    };
    let ids = |had: &Inventory| -> Vec<String> {
        let plan = plan_of(&cluster, &specs, had, &Part::all());
        let own = plan.steps.iter().filter(|step| step.id.ends_with("/k8s1master3"));
        own.map(|step| step.id.clone()).collect()
    };
    let verb = |verb: &str| format!("{verb}/k8s1master3");
    let mut had = inventory(&cluster, &specs);
    off(&mut had);
    assert!(!ids(&had).contains(&verb("seed")) && !ids(&had).contains(&verb("eject")));
    assert!(!ids(&had).contains(&verb("configure")) && ids(&had).contains(&verb("start")));
    // Its drive has a file that was deleted since: Proxmox VE would not start it.
    before_first_boot(&mut had, node, &specs[&node.name]);
    had.hosts.values_mut().for_each(|host| host.isos.clear());
    off(&mut had);
    assert!(ids(&had).contains(&verb("seed")) && ids(&had).contains(&verb("eject")));
    // The same for a machine rolled back to a snapshot, which keeps the description.
    if let Some(VmState::Ours(vm)) = had.vms.get_mut(&node.name) {
        vm.mark.read = Some("00112233aabb".into());
    }
    assert!(ids(&had).contains(&verb("seed")) && ids(&had).contains(&verb("eject")));
}

#[test]
fn every_seed_of_a_booted_machine_goes_and_what_another_vm_holds_stays() {
    let cluster = k8s1();
    let specs = specs(&cluster, "aa", "bb");
    let mut had = inventory(&cluster, &specs);
    let old = |name: &str| {
        format!("local:iso/{}", spec::seed_file("1", &NodeName(name.into()), "00112233aabb"))
    };
    let host = had.hosts.get_mut(&HostName("pve2".into())).unwrap();
    let others = "local:iso/k8sha-seed-2-k8s1master3-00112233aabb.iso";
    host.isos.extend([old("k8s1master3"), old("k8s1gone"), others.into()]);
    host.isos.insert("local:iso/debian.iso".into());
    let plan = plan_of(&cluster, &specs, &had, &Part::all());
    let gone = format!("delete-seed/pve2/{}", old("k8s1gone"));
    assert_eq!(writes(&plan), ["eject/k8s1master3", &gone]);
    assert_eq!(ejected(&plan, "k8s1master3"), [format!("pve2 {}", old("k8s1master3"))]);
    let host = had.hosts.get_mut(&HostName("pve2".into())).unwrap();
    host.attached.insert(VmId(4711), [old("k8s1master3"), old("k8s1gone")].into());
    let plan = plan_of(&cluster, &specs, &had, &Part::all());
    assert!(plan.is_settled(), "{plan:#?}");
    assert_eq!(plan.notices.len(), 2);
    assert!(plan.notices[0].contains("VM 4711 on pve2 has it in a drive"), "{plan}");
}
