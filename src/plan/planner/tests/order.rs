//! Property test: every plan is complete and free of cycles, and its order is the one in which a
//! reader would execute it.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::Index;

use super::removals::unrow;
use super::*;
use crate::cluster::Image;
use crate::plan::inventory::{EtcdMember, HostState, Inventory, TemplateState};
use crate::plan::teardown::{self, Extent};

/// What happens to a machine of a complete cluster.
#[derive(Clone, Copy, Debug)]
enum Loss {
    /// Its VM is gone.
    Gone,
    /// Its VM is off.
    Off,
    /// Its first boot is still running.
    Booting,
    /// Its first boot has failed.
    Failed,
    /// It does not answer.
    Silent,
    /// It has nothing of Kubernetes or etcd, as after it was recreated.
    Fresh,
    /// Its own join was started.
    Joining,
    /// The cluster has no Node object for it.
    Unregistered,
    /// Its settings, files and disk do not match the profile.
    Outdated,
}

const LOSSES: [Loss; 9] = [
    Loss::Gone,
    Loss::Off,
    Loss::Booting,
    Loss::Failed,
    Loss::Silent,
    Loss::Fresh,
    Loss::Joining,
    Loss::Unregistered,
    Loss::Outdated,
];

fn lose(cluster: &Cluster, had: &mut Inventory, at: usize, loss: Loss) {
    let node = &cluster.nodes[at];
    let name = &node.name;
    let machine = had.survey.machines.get_mut(name);
    match loss {
        Loss::Gone => {
            had.vms.insert(name.clone(), VmState::Absent);
            had.nodes.remove(name);
            had.survey.machines.remove(name);
            had.etcd.remove(name);
        }
        Loss::Off => {
            if let Some(VmState::Ours(vm)) = had.vms.get_mut(name) {
                vm.hardware = None;
            }
            had.nodes.remove(name);
            had.etcd.remove(name);
            machine.into_iter().for_each(|machine| *machine = Machine::Off);
        }
        Loss::Booting | Loss::Failed => {
            let failed = matches!(loss, Loss::Failed);
            had.nodes.insert(name.clone(), NodeState { failed, ..NodeState::default() });
            if let Some(VmState::Ours(vm)) = had.vms.get_mut(name) {
                vm.mark.read = None;
            }
        }
        Loss::Silent => {
            had.nodes.remove(name);
            had.etcd.remove(name);
            machine
                .into_iter()
                .for_each(|machine| *machine = Machine::Silent { said: "no route".into() });
        }
        Loss::Fresh => {
            had.etcd.insert(name.clone(), EtcdMember::default());
            let fresh = Seen { machine_id: "new".into(), ..Seen::default() };
            machine.into_iter().for_each(|it| *it = Machine::Seen(Box::new(fresh.clone())));
        }
        Loss::Joining => {
            let seen = Seen {
                machine_id: "new".into(),
                join: Work::Unfinished,
                kubelet: true,
                ..Seen::default()
            };
            machine.into_iter().for_each(|it| *it = Machine::Seen(Box::new(seen.clone())));
        }
        Loss::Unregistered => {
            had.survey.api.iter_mut().for_each(|api| drop(api.nodes.remove(&node.fqdn)));
        }
        Loss::Outdated => {
            had.balancers.remove(name);
            if let Some(VmState::Ours(vm)) = had.vms.get_mut(name) {
                vm.config.insert("cores".into(), "77".into());
                vm.disk_bytes = Some(1 << 30);
            }
        }
    }
}

/// A template as a host may have one.
fn template(which: usize) -> TemplateState {
    let ours = |template| TemplateState::Ours {
        cluster: "k8s1".into(),
        spec: "s".into(),
        template,
        lock: None,
        settings: BTreeMap::new(),
    };
    match which {
        0 => TemplateState::Absent,
        1 => ours(false),
        _ => ours(true),
    }
}

fn place(plan: &Plan, id: &str) -> Option<usize> {
    plan.steps.iter().position(|step| step.id == id)
}

/// Every step that has to be over before a step begins.
fn before<'a>(plan: &'a Plan, id: &str) -> BTreeSet<&'a str> {
    let mut all = BTreeSet::new();
    let mut todo = vec![id];
    while let Some(id) = todo.pop() {
        for need in &plan.steps[place(plan, id).unwrap()].needs {
            if all.insert(need.as_str()) {
                todo.push(need);
            }
        }
    }
    all
}

/// Each step has the name of its action, occurs once, and comes after all its needs.
fn whole(plan: &Plan) {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for step in &plan.steps {
        assert_eq!(step.id, step.action.id().to_string());
        for need in &step.needs {
            assert!(seen.contains(need.as_str()), "{} needs {need}: {plan:#?}", step.id);
        }
        assert!(seen.insert(&step.id), "{} twice: {plan:#?}", step.id);
    }
}

/// If both are planned, the first is over before the second begins.
fn ordered(plan: &Plan, first: &str, then: &str) {
    if place(plan, first).is_some() && place(plan, then).is_some() {
        assert!(before(plan, then).contains(first), "{then} does not wait for {first}: {plan:#?}");
    }
}

fn as_a_reader_would(cluster: &Cluster, plan: &Plan) {
    let joins: Vec<&str> =
        plan.steps.iter().filter(|step| step.id.starts_with("join/")).map(|it| &*it.id).collect();
    for node in &cluster.nodes {
        let of = |verb: &str| format!("{verb}/{}", node.name);
        for chain in [
            vec!["dns".to_owned(), of("seed")],
            vec!["dns".to_owned(), of("clone")],
            vec![of("seed"), of("configure"), of("start"), of("boot"), of("eject")],
            vec![of("clone"), of("configure"), of("grow"), of("start"), of("boot"), of("eject")],
            vec![of("boot"), of("node-dns"), of("balance"), "vip".to_owned(), of("join")],
            vec![of("node-dns"), of("etcd-member"), "etcd-form".to_owned(), of("join")],
            vec!["etcd".to_owned(), "init".to_owned(), "keys".to_owned(), of("join")],
            vec![of("node-dns"), of("reset"), of("join")],
            vec![of("reset"), of("forget"), of("join"), of("label"), "verify".to_owned()],
        ] {
            // A step that is not planned is left out of the chain; the rest of the chain still
            // holds.
            let planned: Vec<_> = chain.iter().filter(|id| place(plan, id).is_some()).collect();
            for pair in planned.windows(2) {
                // A step that is about all machines of a role waits for those.
                let of_others = match pair[1].as_str() {
                    "vip" => node.role != Role::LoadBalancer,
                    "etcd-form" => node.role != Role::Etcd,
                    _ => false,
                };
                if !of_others {
                    ordered(plan, pair[0], pair[1]);
                }
            }
        }
        ordered(plan, &format!("template/{}/{}", node.host, node.os), &of("clone"));
        ordered(plan, &format!("image/{}/{}", node.host, node.os), &of("clone"));
    }
    if cluster.etcd.endpoints().is_none() {
        // etcd accepts one new member at a time, and none while one is unreachable.
        let masters: Vec<&&str> = joins
            .iter()
            .filter(|id| cluster.with_role(Role::Master).any(|it| id.ends_with(it.name.as_str())))
            .collect();
        masters.windows(2).for_each(|pair| ordered(plan, pair[0], pair[1]));
        for forget in plan.steps.iter().filter(|step| step.id.starts_with("forget/")) {
            masters.iter().for_each(|join| ordered(plan, &forget.id, join));
        }
    }
    if place(plan, "verify").is_some() {
        assert_eq!(before(plan, "verify").len(), plan.steps.len() - 1, "{plan:#?}");
    }
}

fn often() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.75)
}

fn seldom() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.25)
}

fn is_removal(step: &Step) -> bool {
    matches!(step.action, Action::Drain(_) | Action::DeleteNode(_) | Action::Destroy(_))
}

/// Only workers without a row leave; each after everything that is added or repaired, drained first, and
/// one at a time.
fn as_a_careful_reader_would_remove(had: &Inventory, plan: &Plan, part: &Part) {
    let steps: Vec<&Step> = plan.steps.iter().filter(|step| is_removal(step)).collect();
    if steps.is_empty() {
        return;
    }
    assert!(*part == Part::all() && plan.look_again.is_empty(), "{plan:#?}");
    let verify = |step: &Step| matches!(step.action, Action::Verify(_));
    for step in &steps {
        let earlier = before(plan, &step.id);
        for other in plan.steps.iter().filter(|it| !is_removal(it) && !verify(it)) {
            assert!(earlier.contains(&*other.id), "{} before {}: {plan:#?}", step.id, other.id);
        }
    }
    let mut left: Vec<&NodeName> = Vec::new();
    for step in &steps {
        let Action::Destroy(it) = &step.action else { continue };
        let stray = had.strays.iter().find(|stray| stray.node == it.node).unwrap();
        assert_eq!(stray.vm.role(), Some(Role::Worker), "{plan:#?}");
        assert_eq!((&stray.vm.host, stray.vm.vmid), (&it.host, it.vmid), "{plan:#?}");
        let of = |verb: &str| format!("{verb}/{}", it.node);
        let api = had.survey.api.as_ref().unwrap();
        let listed = api.nodes.contains_key(&format!("{}.kloud.lan", it.node));
        let runs = had.survey.seen(&it.node).is_some();
        assert_eq!(place(plan, &of("delete-node")).is_some(), listed, "{plan:#?}");
        let drain = &plan.steps[place(plan, &of("drain")).unwrap()];
        assert_eq!(drain.writes(), listed && runs, "{plan:#?}");
        ordered(plan, &of("drain"), &of("delete-node"));
        ordered(plan, &of("delete-node"), &step.id);
        for one in &left {
            ordered(plan, &format!("delete-node/{one}"), &of("drain"));
            ordered(plan, &format!("delete-node/{one}"), &of("delete-node"));
        }
        left.push(&it.node);
    }
    for step in &steps {
        // A Node is deleted only together with its machine.
        let (node, name, machine_id) = match &step.action {
            Action::Drain(it) => (&it.node, &it.name, it.machine_id.as_ref()),
            Action::DeleteNode(it) => (&it.node, &it.name, Some(&it.machine_id)),
            _ => continue,
        };
        assert!(left.contains(&node), "{plan:#?}");
        assert!(name.starts_with(&format!("{node}.")), "{plan:#?}");
        if let Some(machine_id) = machine_id {
            let known = &had.survey.api.as_ref().unwrap().nodes[name];
            assert_eq!(known.machine_id, *machine_id, "{plan:#?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_plan_is_whole_and_in_the_order_in_which_a_reader_would_do_it(
        which in 0..3usize,
        losses in prop::collection::vec((any::<Index>(), prop::sample::select(&LOSSES[..])), 0..6),
        (workers, others) in (0..4usize, prop::collection::vec(any::<Index>(), 0..2)),
        templates in prop::collection::vec(0..3usize, 2),
        (answers, known, made, kubeconfig) in (often(), any::<bool>(), often(), any::<bool>()),
        (provision, bootstrap, one_host, own) in (often(), often(), seldom(), any::<bool>()),
        seed in any::<u64>(),
    ) {
        let mut cluster = k8s1();
        let other = [fixture::k8s1, fixture::homelab, fixture::own_etcd][which]();
        cluster.nodes = other.nodes;
        cluster.etcd = other.etcd;
        // One more worker than those that lose their rows.
        if let Some(worker) = cluster.with_role(Role::Worker).last().cloned() {
            for number in 3..=4u8 {
                cluster.nodes.push(Node {
                    name: NodeName(format!("k8s1worker{number}")),
                    fqdn: format!("k8s1worker{number}.kloud.lan"),
                    ip: [10, 101, 1, 110 + number].into(),
                    vmid: VmId(1110 + u32::from(number)),
                    ..worker.clone()
                });
            }
        }
        if own {
            let image = Image { url: "https://x/y.img".into(), sha256: "ab".repeat(32) };
            let systems: BTreeSet<String> = cluster.nodes.iter().map(|it| it.os.clone()).collect();
            for os in systems {
                for host in cluster.proxmox.hosts.values_mut() {
                    host.templates.insert(os.clone(), TemplateSource::Ours(VmId(9001)));
                }
                cluster.images.insert(os, image.clone());
            }
        }
        let mut wanted = specs(&cluster, "aa", "bb");
        let mut had = inventory(&cluster, &wanted);
        for node in cluster.with_role(Role::Etcd) {
            let member = EtcdMember { planted: true, foreign: false, healthy: true };
            had.etcd.insert(node.name.clone(), member);
            had.survey.machines.remove(&node.name);
        }
        for (host, which) in cluster.proxmox.hosts.keys().zip(templates) {
            let state: &mut HostState = had.hosts.entry(host.clone()).or_default();
            for node in cluster.nodes.iter().filter(|node| node.host == *host) {
                state.templates.insert(node.os.clone(), template(which));
            }
        }
        if made {
            for (at, loss) in losses {
                lose(&cluster, &mut had, at.index(cluster.nodes.len()), loss);
            }
            let names = |cluster: &Cluster, role: fn(Role) -> bool| -> Vec<NodeName> {
                let rows = cluster.nodes.iter().filter(|node| role(node.role));
                rows.map(|node| node.name.clone()).collect()
            };
            for name in names(&cluster, |role| role == Role::Worker).iter().take(workers) {
                unrow(&mut cluster, &mut had, name);
            }
            for at in others {
                let names = names(&cluster, |role| role != Role::Worker);
                unrow(&mut cluster, &mut had, at.get(&names));
            }
            wanted.retain(|name, _| cluster.node(name).is_some());
        } else {
            had = had.emptied();
        }
        if !answers {
            had.survey.api = None;
        }
        if !known {
            had.survey.known = None;
        }
        had.kubeconfig = kubeconfig;
        let hosts = one_host.then(|| [HostName("pve1".into())].into());
        let part = Part { hosts, provision, bootstrap, ..Part::all() };
        match plan(&cluster, &wanted, &had, &part) {
            Ok(plan) => {
                whole(&plan);
                as_a_reader_would(&cluster, &plan);
                as_a_careful_reader_would_remove(&had, &plan, &part);
                turns::follow_needs(&plan, seed);
            }
            Err(refusal) => {
                let faults = refusal.conflicts.iter().filter(|it| it.text.contains("bug in k8sha"));
                prop_assert_eq!(faults.count(), 0, "{:#?}", refusal);
            }
        }
        let extent = Extent { keep_templates: provision, keep_etcd: bootstrap, again: made };
        let removal = teardown::plan(&cluster, &had, extent);
        whole(&removal);
        turns::follow_needs(&removal, seed);
        prop_assert!(!removal.notices.iter().any(|it| it.contains("bug in k8sha")), "{removal:#?}");
    }
}
