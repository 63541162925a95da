//! Machines without a row: which of them leave, why the others stay, and what is planned for them.

use super::*;
use crate::plan::action;
use crate::plan::removal::{self, Login, Object};

/// Removes a node's row; its machine, if there is one, stays as it is.
pub(super) fn unrow(cluster: &mut Cluster, had: &mut Inventory, name: &NodeName) {
    let at = cluster.nodes.iter().position(|node| node.name == *name).unwrap();
    let node = cluster.nodes.remove(at);
    had.nodes.remove(name);
    had.balancers.remove(name);
    had.etcd.remove(name);
    had.silent.remove(name);
    if let Some(VmState::Ours(vm)) = had.vms.remove(name) {
        had.strays.push(Stray { node: node.name.clone(), why: StrayReason::NoRow, vm: *vm });
    }
    if node.role == Role::Worker {
        // The common fixture makes every machine a master.
        if let Some(Machine::Seen(seen)) = had.survey.machines.get_mut(name) {
            (seen.master, seen.apiserver) = (false, false);
        }
        if let Some(known) = had.survey.api.as_mut().and_then(|api| api.nodes.get_mut(&node.fqdn)) {
            known.roles = ["worker".to_owned()].into();
        }
    }
}

const WORKER: &str = "k8s1worker1";
const FQDN: &str = "k8s1worker1.kloud.lan";

fn homelab() -> Cluster {
    let mut cluster = k8s1();
    let other = fixture::homelab();
    (cluster.nodes, cluster.etcd) = (other.nodes, other.etcd);
    cluster
}

/// A whole cluster in which these nodes have no row.
fn without(names: &[&str]) -> (Cluster, Specs, Inventory) {
    let mut cluster = homelab();
    let wanted = specs(&cluster, "aa", "bb");
    let mut had = inventory(&cluster, &wanted);
    for name in names {
        unrow(&mut cluster, &mut had, &NodeName((*name).into()));
    }
    // Workers with rows have no control plane either.
    for node in cluster.with_role(Role::Worker) {
        let known = had.survey.api.as_mut().unwrap().nodes.get_mut(&node.fqdn).unwrap();
        known.roles = ["worker".to_owned()].into();
    }
    let wanted = wanted.into_iter().filter(|(name, _)| cluster.node(name).is_some()).collect();
    (cluster, wanted, had)
}

fn seen<'a>(had: &'a mut Inventory, name: &str) -> &'a mut Seen {
    match had.survey.machines.get_mut(&NodeName(name.into())) {
        Some(Machine::Seen(seen)) => seen,
        other => panic!("{other:?}"),
    }
}

fn object(had: &mut Inventory) -> &mut KubeNode {
    had.survey.api.as_mut().unwrap().nodes.get_mut(FQDN).unwrap()
}

fn answer(had: &mut Inventory, machine: Machine) {
    had.survey.machines.insert(NodeName(WORKER.into()), machine);
}

fn made(had: &mut Inventory) -> &mut crate::mark::Machine {
    had.strays[0].vm.mark.machine.as_mut().unwrap()
}

#[test]
fn what_is_not_a_worker_that_can_leave_safely_is_kept_and_the_reason_is_given() {
    type Edit = fn(&mut Inventory);
    let cases: &[(&str, Edit)] = &[
        ("k8sha removes workers only, and it is a master", |had| made(had).role = Role::Master),
        ("and it is a load-balancer", |had| made(had).role = Role::LoadBalancer),
        ("and it is a etcd", |had| made(had).role = Role::Etcd),
        ("its mark does not show its role", |had| {
            had.strays[0].vm.mark.machine = None;
            had.strays[0].vm.config.insert("description".into(), "x".into());
        }),
        // A former release wrote the role only into the line for the user.
        ("its mark does not show its address", |had| {
            had.strays[0].vm.mark.machine = None;
            had.strays[0].vm.config.insert("description".into(), "worker of k8s1".into());
        }),
        ("VM 9000 on pve2 has its mark as well", |had| {
            let mut copy = had.strays[0].clone();
            (copy.vm.vmid, copy.vm.host) = (VmId(9000), HostName("pve2".into()));
            had.strays.push(copy);
        }),
        ("VM 1111 on pve2 has its mark as well", |had| {
            let mut copy = had.strays[0].clone();
            (copy.why, copy.vm.host) = (StrayReason::OtherCreation, HostName("pve2".into()));
            had.strays.push(copy);
        }),
        ("its VM is locked (backup)", |had| had.strays[0].vm.lock = Some("backup".into())),
        ("its VM has `protection` set", |had| {
            had.strays[0].vm.config.insert("protection".into(), "1".into());
        }),
        ("the cluster's API does not answer", |had| had.survey.api = None),
        ("the API that answers belongs to another cluster", |had| {
            had.survey.api.as_mut().unwrap().uid = "other".into();
        }),
        ("it was created with another state folder", |had| had.creation = "2".into()),
        ("its Node object `k8s1worker1.kloud.lan` is of the control plane", |had| {
            object(had).roles.insert("control-plane".into());
        }),
        ("it was not queried", |had| drop(had.survey.machines.pop_last())),
        ("it runs and cannot be queried (no route)", |had| {
            answer(had, Machine::Silent { said: "no route".into() });
        }),
        ("it has a control plane", |had| seen(had, WORKER).apiserver = true),
        ("it has a control plane", |had| seen(had, WORKER).init = Work::Failed),
        ("`kubeadm join` is running on it", |had| seen(had, WORKER).join = Work::Running),
        ("it trusts the CA of another cluster", |had| {
            seen(had, WORKER).ca = Some("sha256:b".into());
        }),
        ("was registered by another machine (other)", |had| {
            object(had).machine_id = "other".into();
        }),
        // Its pods are known under another name.
        ("the Node object `old.lan` is registered for it", |had| {
            let nodes = &mut had.survey.api.as_mut().unwrap().nodes;
            let known = nodes.remove(FQDN).unwrap();
            nodes.insert("old.lan".into(), known);
        }),
        ("the Node object `old.lan` is registered for it", |had| {
            answer(had, Machine::Off);
            let nodes = &mut had.survey.api.as_mut().unwrap().nodes;
            let known = nodes.remove(FQDN).unwrap();
            nodes.insert("old.lan".into(), known);
        }),
        ("has the address 10.9.9.9, not 10.101.1.111", |had| {
            answer(had, Machine::Off);
            object(had).address = Some("10.9.9.9".into());
        }),
        ("has the address none, not 10.101.1.111", |had| {
            answer(had, Machine::Off);
            object(had).address = None;
        }),
    ];
    for (reason, edit) in cases {
        let (cluster, wanted, mut had) = without(&[WORKER]);
        // The last machine is the one without a row.
        had.survey.machines.retain(|name, _| name.as_str() <= WORKER);
        edit(&mut had);
        let why = removal::of(&cluster, &had, &had.strays[0]).unwrap_err();
        assert!(why.contains(reason), "{why}, not: {reason}");
        assert!(removal::all(&cluster, &had).is_empty(), "{reason}");
        // Then nothing at all is planned.
        assert!(plan(&cluster, &wanted, &had, &Part::all()).is_err(), "{reason}");
    }
}

#[test]
fn a_worker_leaves_with_its_own_node_object_and_is_logged_in_to_only_if_it_runs() {
    type Edit = fn(&mut Inventory);
    let object = || Some(Object { name: FQDN.into(), machine_id: format!("machine of {WORKER}") });
    let login = || Some(Login { address: [10, 101, 1, 111].into(), user: "ubuntu".into() });
    let cases: &[(&str, Edit, Option<Object>, Option<Login>)] = &[
        ("as it was", |_| {}, object(), login()),
        ("not Ready", |had| self::object(had).ready = false, object(), login()),
        ("already started to leave", |had| self::object(had).leaving = true, object(), login()),
        ("off", |had| answer(had, Machine::Off), object(), None),
        (
            "without a Node object",
            |had| drop(had.survey.api.as_mut().unwrap().nodes.remove(FQDN)),
            None,
            login(),
        ),
        (
            "off without a Node object",
            |had| {
                answer(had, Machine::Off);
                had.survey.api.as_mut().unwrap().nodes.remove(FQDN);
            },
            None,
            None,
        ),
        (
            "never joined",
            |had| {
                *seen(had, WORKER) = Seen { machine_id: "new".into(), ..Seen::default() };
                had.survey.api.as_mut().unwrap().nodes.remove(FQDN);
            },
            None,
            login(),
        ),
        (
            "its join did not finish",
            |had| seen(had, WORKER).join = Work::Unfinished,
            object(),
            login(),
        ),
        // The machine was made for the user of then.
        ("made for another user", |had| made(had).user = "opsen".into(), object(), {
            login().map(|login| Login { user: "opsen".into(), ..login })
        }),
    ];
    for (case, edit, object, login) in cases {
        let (cluster, _, mut had) = without(&[WORKER]);
        edit(&mut had);
        let all = removal::all(&cluster, &had);
        assert_eq!(all.len(), 1, "{case}");
        assert_eq!((all[0].node.as_str(), all[0].vm.vmid), (WORKER, VmId(1111)), "{case}");
        assert_eq!((&all[0].object, &all[0].login), (object, login), "{case}");
    }
}

#[test]
fn two_workers_are_drained_one_after_the_other_and_only_by_the_whole_job() {
    let (cluster, wanted, had) = without(&[WORKER, "k8s1worker2"]);
    let found = plan_of(&cluster, &wanted, &had, &Part::all());
    assert_eq!(
        writes(&found),
        [
            "drain/k8s1worker1",
            "delete-node/k8s1worker1",
            "destroy/k8s1worker1/1111",
            "drain/k8s1worker2",
            "delete-node/k8s1worker2",
            "destroy/k8s1worker2/1112",
        ]
    );
    assert!(step(&found, "drain/k8s1worker2").needs.contains(&"delete-node/k8s1worker1".into()));
    assert!(!found.is_settled() && found.differences.is_empty(), "{found:#?}");
    for part in [
        Part { provision: false, ..Part::all() },
        Part { bootstrap: false, ..Part::all() },
        Part { hosts: Some([HostName("pve1".into())].into()), ..Part::all() },
    ] {
        assert!(plan(&cluster, &wanted, &had, &part).is_err(), "{part:?}");
    }
    // A machine with a row is started first; what follows shows whether the others can leave.
    let (cluster, wanted, mut had) = without(&["k8s1worker2"]);
    had.survey.machines.insert(NodeName(WORKER.into()), Machine::Off);
    had.nodes.remove(&NodeName(WORKER.into()));
    if let Some(VmState::Ours(vm)) = had.vms.get_mut(&NodeName(WORKER.into())) {
        vm.hardware = None;
    }
    let found = plan_of(&cluster, &wanted, &had, &Part::all());
    assert!(!found.look_again.is_empty(), "{found:#?}");
    assert!(!found.steps.iter().any(|step| step.id.contains("k8s1worker2")), "{found:#?}");
}

#[test]
fn a_machine_that_is_off_or_has_no_node_object_is_removed_without_a_drain() {
    let (cluster, wanted, mut had) = without(&[WORKER]);
    answer(&mut had, Machine::Off);
    let found = plan_of(&cluster, &wanted, &had, &Part::all());
    assert_eq!(writes(&found), ["delete-node/k8s1worker1", "destroy/k8s1worker1/1111"]);
    let Action::DeleteNode(it) = &step(&found, "delete-node/k8s1worker1").action else { panic!() };
    assert_eq!((it.name.as_str(), &it.login), (FQDN, &None));
    had.survey.api.as_mut().unwrap().nodes.remove(FQDN);
    let found = plan_of(&cluster, &wanted, &had, &Part::all());
    assert_eq!(writes(&found), ["destroy/k8s1worker1/1111"]);
    let Action::Destroy(it) = &step(&found, "destroy/k8s1worker1/1111").action else { panic!() };
    let made = (it.node.as_str(), &it.host, it.vmid.0, it.creation.as_str());
    assert_eq!(made, (WORKER, &had.strays[0].vm.host, 1111, "1"));
    // It is removed only if no Node was registered in between.
    let (via, name) = (NodeName("k8s1master1".into()), FQDN.to_owned());
    assert_eq!(it.without, Some(action::Without { via, name }));
}

#[test]
fn a_node_whose_row_is_back_returns_to_service_and_until_then_the_plan_is_not_settled() {
    let (cluster, wanted, mut had) = without(&[]);
    for node in cluster.with_role(Role::Worker) {
        seen(&mut had, node.name.as_str()).apiserver = false;
    }
    object(&mut had).leaving = true;
    let found = plan_of(&cluster, &wanted, &had, &Part::all());
    assert_eq!(writes(&found), ["uncordon/k8s1worker1"]);
    assert!(!found.is_settled() && !found.all_differences().is_empty());
}
