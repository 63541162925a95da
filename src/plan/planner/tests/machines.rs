//! Changes that a user makes to a machine in Proxmox VE, and machines that do not answer.

use super::*;
use crate::cluster::CloneMode;
use crate::plan::inventory::{Silent, TemplateState};

fn ours<'a>(had: &'a mut Inventory, name: &str) -> &'a mut OurVm {
    match had.vms.get_mut(&NodeName(name.into())) {
        Some(VmState::Ours(vm)) => vm,
        other => panic!("{other:?}"),
    }
}

/// Everything that is reported, one line each.
fn told(plan: &Plan) -> Vec<String> {
    plan.all_differences()
        .iter()
        .map(|one| format!("{one} ({}): {}", one.class, one.next))
        .collect()
}

/// The value that a step gives to a setting of a node's VM.
fn set<'a>(plan: &'a Plan, node: &str, key: &str) -> Option<&'a str> {
    plan.steps.iter().find_map(|step| match &step.action {
        Action::Configure(it) if it.node.as_str() == node => {
            it.changes.iter().find(|change| change.key == key).map(|change| change.to.as_str())
        }
        _ => None,
    })
}

const MASTER: &str = "k8s1master1";

#[test]
fn a_card_that_a_person_moved_or_unplugged_is_put_back_with_its_address() {
    let cluster = k8s1();
    let mut specs = specs(&cluster, "aa", "bb");
    for spec in specs.values_mut() {
        spec.mac = Some("02:00:00:00:00:01".into());
    }
    let whole = "virtio=02:00:00:00:00:01,bridge=vmbr0,firewall=0";
    for (card, to) in [
        ("virtio=02:00:00:00:00:01,bridge=vmbr9", whole),
        ("virtio=02:00:00:00:00:01,bridge=vmbr0,tag=7", whole),
        ("virtio=02:00:00:00:00:01,bridge=vmbr0,link_down=1", whole),
        ("virtio=BC:24:11:00:00:01,bridge=vmbr0", whole),
        (
            "virtio=BC:24:11:00:00:01,bridge=vmbr0,queues=2",
            "virtio=02:00:00:00:00:01,bridge=vmbr0,firewall=0,queues=2",
        ),
    ] {
        let mut had = inventory(&cluster, &specs);
        for node in &cluster.nodes {
            ours(&mut had, node.name.as_str()).config.insert(spec::CARD.into(), whole.into());
        }
        assert!(plan_of(&cluster, &specs, &had, &Part::all()).is_settled());
        ours(&mut had, MASTER).config.insert(spec::CARD.into(), card.into());
        let plan = plan_of(&cluster, &specs, &had, &Part::all());
        assert_eq!(set(&plan, MASTER, spec::CARD), Some(to), "{card}");
    }
}

#[test]
fn machines_that_serve_a_cluster_are_not_moved_to_another_network_by_an_edit() {
    let cluster = k8s1();
    let had = inventory(&cluster, &specs(&cluster, "aa", "bb"));
    type Edit = fn(&mut Cluster);
    let edits: [(&str, Edit); 2] = [
        ("vmbr0, should be vmbr7", |c| c.network.bridge = "vmbr7".into()),
        ("vmbr0, should be vmbr0, VLAN 30", |c| c.network.vlan = Some(30)),
    ];
    for (what, edit) in edits {
        let mut edited = cluster.clone();
        edit(&mut edited);
        let wanted = specs(&edited, "aa", "bb");
        let said = refused_of(&edited, &wanted, &had);
        assert_eq!(said.len(), cluster.nodes.len(), "{said:?}");
        assert!(said[0].contains(what), "{said:?}");
        // Machines moved by hand, one at a time, match the profile without having been off.
        let mut moved = had.clone();
        for node in &cluster.nodes {
            let card = wanted[&node.name].settings[spec::CARD].clone();
            ours(&mut moved, node.name.as_str()).config.insert(spec::CARD.into(), card);
        }
        assert!(plan(&edited, &wanted, &moved, &Part::all()).is_ok());
        // A machine that has never booted gets the network that the profile has now.
        let mut fresh = had.clone();
        for node in &cluster.nodes {
            let vm = ours(&mut fresh, node.name.as_str());
            (vm.mark.read, vm.hardware) = (None, None);
        }
        fresh.nodes.clear();
        let refused = plan(&edited, &wanted, &fresh, &Part::all()).err().unwrap_or_default();
        assert!(!refused.differences.iter().any(|one| one.what.contains("network")), "{refused:?}");
    }
}

#[test]
fn what_waits_for_a_restart_is_told_until_there_was_one() {
    let cluster = k8s1();
    let specs = specs(&cluster, "aa", "bb");
    let mut had = inventory(&cluster, &specs);
    let running = |unapplied: &[(&str, &str)]| Hardware {
        unapplied: unapplied.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
        ..Hardware::default()
    };
    let want = cluster.proxmox.cpu.clone();
    // Not written yet, then written and pending, then in use.
    ours(&mut had, MASTER).config.insert("cpu".into(), "host".into());
    let lines = told(&plan_of(&cluster, &specs, &had, &Part::all()));
    let line = format!("{MASTER}: cpu in use is host, should be {want} (not changed by k8sha)");
    assert!(
        lines.iter().any(|one| one.starts_with(&line) && one.contains("after `k8sha up`")),
        "{lines:?}"
    );
    let vm = ours(&mut had, MASTER);
    vm.config.insert("cpu".into(), want.clone());
    vm.hardware = Some(running(&[("cpu", "host"), ("boot", "order=scsi0")]));
    let plan = plan_of(&cluster, &specs, &had, &Part::all());
    let lines = told(&plan);
    assert!(plan.is_settled() && lines.len() == 1, "{lines:?}");
    assert!(lines[0].starts_with(&line) && lines[0].contains("it is written"), "{lines:?}");
    ours(&mut had, MASTER).hardware = Some(running(&[]));
    assert!(told(&plan_of(&cluster, &specs, &had, &Part::all())).is_empty());
    // The CPU type that Proxmox VE uses if none is set.
    ours(&mut had, MASTER).hardware = Some(running(&[("cpu", "")]));
    let lines = told(&plan_of(&cluster, &specs, &had, &Part::all()));
    assert!(lines[0].contains("cpu in use is kvm64"), "{lines:?}");
}

#[test]
fn what_multiplies_the_cores_or_takes_memory_is_told_with_what_removes_it() {
    let cluster = k8s1();
    let specs = specs(&cluster, "aa", "bb");
    let mut had = inventory(&cluster, &specs);
    let vm = ours(&mut had, MASTER);
    let cores: u64 = vm.config["cores"].parse().unwrap();
    vm.config.insert("sockets".into(), "2".into());
    vm.config.insert("balloon".into(), "512".into());
    vm.hardware = Some(Hardware { cpus: Some(2 * cores), ..Hardware::default() });
    let lines = told(&plan_of(&cluster, &specs, &had, &Part::all()));
    assert_eq!(lines.len(), 2, "{lines:?}");
    let has = |text: &str| lines.iter().any(|line| line.contains(text));
    assert!(has("vcpu is sockets=2") && has("`qm set 1101 --sockets 1"), "{lines:?}");
    assert!(has("512 MiB (`balloon`)"), "{lines:?}");
}

#[test]
fn a_cluster_in_which_something_does_not_answer_is_not_called_as_asked() {
    let mut cluster = k8s1();
    cluster.kubernetes.cni =
        crate::cluster::Cni::Cilium { version: "1.18.4".into(), cli_version: "0.18.9".into() };
    let specs = specs(&cluster, "aa", "bb");
    let mut well = inventory(&cluster, &specs);
    let mark = well.survey.api.as_mut().unwrap().mark.as_mut().unwrap();
    mark.cni = Some(settings::cni(&cluster.kubernetes.cni));
    assert!(plan_of(&cluster, &specs, &well, &Part::all()).all_differences().is_empty());
    let silent = || Answer::Silent { said: "it is down".into() };
    type Break = fn(&mut Inventory, Answer);
    let breaks: [(&str, Break); 4] = [
        ("API: state is not reachable under its name (it is down)", |had, silent| {
            had.survey.by_name = silent;
        }),
        ("VIP: state is it is down", |had, silent| had.survey.holder = silent),
        ("k8s1master2: state is NotReady (PLEG is not healthy)", |had, _| {
            let api = had.survey.api.as_mut().unwrap();
            let known = api.nodes.values_mut().nth(1).unwrap();
            (known.ready, known.message) = (false, Some("PLEG is not healthy".into()));
        }),
        ("k8s1vrrp1: state is not reachable by SSH (another host key)", |had, _| {
            let name = NodeName("k8s1vrrp1".into());
            had.nodes.remove(&name);
            let said = "another host key".into();
            had.silent.insert(name, Silent { said, hint: None });
        }),
    ];
    for (line, damage) in breaks {
        let mut had = well.clone();
        damage(&mut had, silent());
        let plan = plan_of(&cluster, &specs, &had, &Part::all());
        let told: Vec<String> = plan.unwell.iter().map(ToString::to_string).collect();
        assert!(told.len() == 1 && told[0].starts_with(line), "{line}: {told:?}");
        assert!(!plan.to_string().contains("the cluster matches the profile"), "{plan}");
    }
}

#[test]
fn a_disk_that_is_its_templates_is_no_difference_that_a_new_machine_would_end() {
    let cluster = k8s1();
    let specs = specs(&cluster, "aa", "bb");
    let mut had = inventory(&cluster, &specs);
    let gib = u64::from(cluster.node(&NodeName(MASTER.into())).unwrap().disk_gib);
    ours(&mut had, MASTER).disk_bytes = Some((gib + 10) << 30);
    let disks = |had: &Inventory| {
        let all = told(&plan_of(&cluster, &specs, had, &Part::all()));
        all.iter().filter(|line| line.contains(": disk is ")).count()
    };
    assert_eq!(disks(&had), 1);
    let disk = |size: u64| {
        let scsi0 = format!("local-lvm:base-9001-disk-0,size={size}G");
        let settings = [("scsi0".to_owned(), scsi0)].into();
        TemplateState::Theirs { name: "golden".into(), settings }
    };
    for (size, told) in [(gib + 9, 1), (gib + 10, 0)] {
        let host = had.hosts.get_mut(&HostName("pve1".into())).unwrap();
        host.templates.insert("ubuntu-22.04".into(), disk(size));
        assert_eq!(disks(&had), told, "{size}");
    }
}

#[test]
fn the_pool_of_a_machine_is_compared_where_the_profile_names_one_and_proxmox_tells() {
    let mut cluster = k8s1();
    let specs = specs(&cluster, "aa", "bb");
    let mut had = inventory(&cluster, &specs);
    let name = NodeName(MASTER.into());
    had.pools.insert(name.clone(), Some("theirs".into()));
    assert!(told(&plan_of(&cluster, &specs, &had, &Part::all())).is_empty());
    cluster.proxmox.pool = Some("k8s".into());
    let lines = told(&plan_of(&cluster, &specs, &had, &Part::all()));
    assert_eq!(lines.len(), 1, "Proxmox VE shows no pool of the others: {lines:?}");
    assert!(lines[0].starts_with(&format!("{MASTER}: proxmox.pool is theirs")), "{lines:?}");
    had.pools.insert(name.clone(), None);
    let lines = told(&plan_of(&cluster, &specs, &had, &Part::all()));
    assert!(lines[0].contains("is none") && !lines[0].contains("allow-move"), "{lines:?}");
    had.pools.insert(name, Some("k8s".into()));
    assert!(told(&plan_of(&cluster, &specs, &had, &Part::all())).is_empty());
}

#[test]
fn a_disk_is_to_lie_where_the_profile_says_or_where_the_operators_template_lies() {
    let mut cluster = k8s1();
    cluster.proxmox.clone = CloneMode::Full;
    let specs = specs(&cluster, "aa", "bb");
    let mut had = inventory(&cluster, &specs);
    let disk = |storage: &str| format!("{storage}:vm-1-disk-0,discard=on,size=20G");
    let node = cluster.node(&NodeName(MASTER.into())).unwrap().clone();
    let storage = cluster.proxmox.hosts[&node.host].storage.clone();
    let lines =
        |cluster: &Cluster, had: &Inventory| told(&plan_of(cluster, &specs, had, &Part::all()));
    ours(&mut had, MASTER).config.insert(spec::DISK.into(), disk(&storage));
    assert!(lines(&cluster, &had).is_empty());
    ours(&mut had, MASTER).config.insert(spec::DISK.into(), disk("slow"));
    let seen = lines(&cluster, &had);
    let line = format!("{MASTER}: storage of the disk is slow, should be {storage}");
    assert!(seen.len() == 1 && seen[0].starts_with(&line), "{seen:?}");
    // A linked clone of the operator's template is beside it; a full one is where the profile puts
    // it.
    let host = cluster.proxmox.hosts.get_mut(&node.host).unwrap();
    host.templates.insert(node.os.clone(), TemplateSource::Theirs(VmId(9000)));
    let theirs = |storage: &str| TemplateState::Theirs {
        name: "jammy".into(),
        settings: [(spec::DISK.to_owned(), disk(storage))].into(),
    };
    for (template, mode, differ) in [
        ("slow", CloneMode::Linked, 0),
        ("slow", CloneMode::Full, 1),
        ("third", CloneMode::Linked, 1),
    ] {
        cluster.proxmox.clone = mode;
        let state = had.hosts.get_mut(&node.host).unwrap();
        state.templates.insert(node.os.clone(), theirs(template));
        let seen = lines(&cluster, &had);
        let seen: Vec<_> = seen.iter().filter(|one| one.contains("storage of the disk")).collect();
        assert_eq!(seen.len(), differ, "{template} {mode:?}: {seen:?}");
    }
}
