//! Machines whose rows were removed from the profile: drained, taken out of the cluster and destroyed, and
//! what must never happen meanwhile: a removal that was not confirmed, a machine destroyed with its pods on
//! it, data lost, a Node deleted whose kubelet runs, a machine other than those named.

use k8sha::mark::Marked;
use k8sha_simulator::inspect;

use crate::living::Living;
use crate::world::{Ran, World, fed};

const WORKER1: &str = "  - { role: worker,        name: k8s-worker1, ip: 192.168.10.51, ram: 8G, vcpu: 4,           pve: pve1, vmid: 3051 }";
pub const WORKER2: &str = "  - { role: worker,        name: k8s-worker2, ip: 192.168.10.52, ram: 8G, vcpu: 4,           pve: pve2, vmid: 3052 }";
const WORKER3: &str = "  - { role: worker,        name: k8s-worker3, ip: 192.168.10.53, ram: 8G, vcpu: 4,           pve: pve2, vmid: 3053 }";
const MASTER3: &str = "name: k8s-master3";

pub fn kubectl(world: &World, args: &[&str], input: &str) -> String {
    let all = [
        "ssh",
        "k8s-master1",
        "--",
        "sudo",
        "kubectl",
        "--kubeconfig",
        "/etc/kubernetes/admin.conf",
    ];
    let ran = fed(world.command(&[&all[..], args].concat()), input);
    assert_eq!(ran.code, 0, "{ran:#?}");
    ran.stdout
}

/// A workload's pod on worker 2, whose budget allows `free` disruptions.
pub fn workload(world: &World, free: u32) {
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{ name: web-0, namespace: default, labels: {{ app: web }}, \
         ownerReferences: [{{ kind: StatefulSet, name: web }}] }}\nspec: {{ nodeName: k8s-worker2.home.arpa \
         }}\n---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {{ name: web, namespace: \
         default }}\nspec: {{ maxUnavailable: {free}, selector: {{ matchLabels: {{ app: web }} }} }}\n"
    );
    let domain = domain(world);
    kubectl(world, &["apply", "-f", "-"], &text.replace("home.arpa", &domain));
}

/// A volume in use whose data only this node has.
fn volume(world: &World, node: &str) {
    let text = format!(
        "apiVersion: v1\nkind: PersistentVolume\nmetadata: {{ name: pv1 }}\nstatus: {{ phase: Bound }}\nspec: \
         {{ claimRef: {{ namespace: db, name: data-0 }}, nodeAffinity: {{ required: {{ nodeSelectorTerms: [{{ \
         matchExpressions: [{{ key: kubernetes.io/hostname, operator: In, values: [{node}] }}] }}] }} }} }}\n"
    );
    kubectl(world, &["apply", "-f", "-"], &text);
}

fn domain(world: &World) -> String {
    let nodes = kubectl(world, &["get", "nodes"], "");
    let name = nodes.lines().nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    name.split_once('.').unwrap().1.to_owned()
}

pub fn nodes(world: &World) -> Vec<String> {
    let lines = inspect::clusters(&inspect::open(&world.path()).unwrap());
    lines[0].nodes.keys().map(|name| name.split('.').next().unwrap().to_owned()).collect()
}

pub fn vm(world: &World, name: &str) -> bool {
    world.vms().iter().any(|vm| vm.name == name)
}

pub fn position(ran: &Ran, step: &str) -> usize {
    let started = format!("\"{step}\"");
    ran.stderr
        .lines()
        .position(|line| line.contains(&started))
        .unwrap_or_else(|| panic!("{step}: {ran:#?}"))
}

#[test]
fn a_worker_without_a_row_is_drained_and_removed_once_its_removal_is_confirmed() {
    let mut living = Living::stacked();
    workload(&living.world, 1);
    living.edit(&[(WORKER2, "")]);
    let before = living.world.digest();

    let plan = living.world.run(&["plan"]).ok().stdout;
    crate::golden::assert_golden("plan/removal.txt", &plan);
    assert_eq!(living.world.run(&["plan", "--exit-code"]).code, 10);
    let differs = "k8s-worker2: machine is VM 3052 on pve2, should be absent (changed by `up`)";
    let next = "to drain and remove it with its disk: `k8sha up --prune=k8s-worker2`; otherwise restore \
                its row in the profile";
    let status = living.world.run(&["status"]);
    assert_eq!(status.code, 1, "{status:#?}");
    for words in [differs, next, "the cluster does not match the profile"] {
        assert!(status.stdout.contains(words), "{words}: {}", status.stdout);
    }
    // No error: nothing hinders a run that confirms it.
    let doctor = living.world.run(&["doctor"]).ok().stdout;
    assert_eq!(doctor, format!("warning: {differs}\n  fix: {next}\n"));
    let ran = living.world.run(&["up"]);
    assert_eq!(ran.code, 1, "{ran:#?}");
    assert!(
        ran.stderr.contains("VM 3052 on pve2") && ran.stderr.contains("--prune=k8s-worker2"),
        "{ran:#?}"
    );
    // One of two workers is more than a third of them.
    let ran = living.world.run(&["up", "--prune"]);
    assert!(ran.code == 1 && ran.stderr.contains("a third of the 2 workers"), "{ran:#?}");
    let ran = living.world.run(&["up", "--prune=k8s-worker1"]);
    assert!(ran.code == 1 && ran.stderr.contains("k8s-worker1 has a row"), "{ran:#?}");
    assert_eq!(living.world.digest(), before, "nothing was changed without a confirmation");

    let ran = living.world.run(&["up", "--json", "--prune=k8s-worker2"]).ok();
    let order = ["drain/k8s-worker2", "delete-node/k8s-worker2", "destroy/k8s-worker2/3052"];
    let places: Vec<usize> = order.iter().map(|step| position(&ran, step)).collect();
    assert!(places.is_sorted(), "{places:?}");
    let line = ran.json()["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["node"] == "k8s-worker2")
        .cloned();
    assert_eq!(line.unwrap()["result"], "destroyed");
    assert!(!vm(&living.world, "k8s-worker2") && vm(&living.world, "k8s-worker1"));
    assert_eq!(nodes(&living.world), ["k8s-master1", "k8s-master2", "k8s-master3", "k8s-worker1"]);
    living.settled();
    // The pod is on another node.
    living.edit(&[]);
    living.world.run(&["up", "--quiet"]).ok();
    assert_eq!(nodes(&living.world).len(), 5);
    living.settled();
}

#[test]
fn a_removal_that_is_killed_anywhere_is_finished_by_the_next_run() {
    let flags = ["up", "--json", "--prune=k8s-worker2"];
    let mut whole = Living::stacked();
    whole.edit(&[(WORKER2, "")]);
    let total = crate::world::events(&whole.world.run(&flags).ok());
    for after in (1..total).step_by(3) {
        let mut living = Living::stacked();
        workload(&living.world, 1);
        living.edit(&[(WORKER2, "")]);
        living
            .world
            .kill_after(&flags[..1].iter().chain(&flags[2..]).copied().collect::<Vec<_>>(), after);
        living.unharmed();
        living.world.run(&flags).ok();
        assert!(!vm(&living.world, "k8s-worker2"), "killed after {after} of {total} events");
        assert_eq!(nodes(&living.world).len(), 4, "killed after {after} of {total} events");
        living.settled();
    }
}

#[test]
fn a_row_that_comes_back_after_a_killed_removal_returns_its_node_to_service() {
    let mut living = Living::stacked();
    workload(&living.world, 0);
    living.edit(&[(WORKER2, "")]);
    // In the middle of the drain, which a budget blocks.
    let mut killed = false;
    for after in 1..20 {
        living.world.kill_after(&["up", "--prune=k8s-worker2"], after);
        killed = kubectl(&living.world, &["get", "nodes"], "").contains("SchedulingDisabled");
        if killed {
            break;
        }
    }
    assert!(killed, "no kill met the drain");
    living.edit(&[]);
    let plan = living.world.run(&["plan", "--exit-code"]);
    assert!(plan.code == 10 && plan.stdout.contains("return the node to service"), "{plan:#?}");
    living.world.run(&["up", "--quiet"]).ok();
    assert!(!kubectl(&living.world, &["get", "nodes"], "").contains("SchedulingDisabled"));
    living.settled();
}

#[test]
fn a_disruption_budget_keeps_the_machine_and_is_quoted() {
    let mut living = Living::stacked();
    workload(&living.world, 0);
    living.edit(&[(WORKER2, "")]);
    let ran = living.world.run(&["up", "--prune=k8s-worker2"]);
    assert_eq!(ran.code, 5, "{ran:#?}");
    let text = format!("{}{}", ran.stdout, ran.stderr);
    for words in
        ["web-0", "disruption budget", "within 300 s", "kubectl get pdb -A", "returned to service"]
    {
        assert!(text.contains(words), "no `{words}`: {text}");
    }
    assert!(vm(&living.world, "k8s-worker2"));
    let table = kubectl(&living.world, &["get", "nodes"], "");
    assert!(!table.contains("SchedulingDisabled") && table.contains("k8s-worker2"), "{table}");
    living.unharmed();
    workload(&living.world, 1);
    living.world.run(&["up", "--quiet", "--prune=k8s-worker2"]).ok();
    living.settled();
}

#[test]
fn pods_without_a_controller_and_local_volumes_keep_the_machine() {
    let mut living = Living::stacked();
    let node = format!("k8s-worker2.{}", domain(&living.world));
    living.edit(&[(WORKER2, "")]);
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{ name: bare }}\nspec: {{ nodeName: {node} }}\n"
    );
    kubectl(&living.world, &["apply", "-f", "-"], &pod);
    let ran = living.world.run(&["up", "--prune=k8s-worker2"]);
    assert!(ran.code == 5 && ran.stderr.contains("default/bare"), "{ran:#?}");
    volume(&living.world, &node);
    let ran = living.world.run(&["up", "--prune=k8s-worker2"]);
    assert!(ran.code == 5 && ran.stderr.contains("pv1 (claim db/data-0)"), "{ran:#?}");
    assert!(vm(&living.world, "k8s-worker2"));
    living.unharmed();
}

#[test]
fn a_worker_that_is_off_is_removed_without_a_drain() {
    let mut living = Living::stacked();
    living.edit(&[(WORKER2, "")]);
    living.administer("pve2", async |client| {
        client.stop_vm(k8sha::cluster::VmId(3052)).await.unwrap();
    });
    let ran = living.world.run(&["up", "--json", "--prune=k8s-worker2"]).ok();
    assert!(!ran.stderr.contains("\"what\":\"drain (evict"), "{ran:#?}");
    assert!(!vm(&living.world, "k8s-worker2") && nodes(&living.world).len() == 4);
    living.settled();
}

#[test]
fn a_worker_that_is_off_and_has_the_only_copy_of_data_is_not_removed() {
    let mut living = Living::stacked();
    volume(&living.world, &format!("k8s-worker2.{}", domain(&living.world)));
    living.edit(&[(WORKER2, "")]);
    living.administer("pve2", async |client| {
        client.stop_vm(k8sha::cluster::VmId(3052)).await.unwrap();
    });
    let ran = living.world.run(&["up", "--prune=k8s-worker2"]);
    assert!(ran.code == 5 && ran.stderr.contains("pv1 (claim db/data-0)"), "{ran:#?}");
    assert!(vm(&living.world, "k8s-worker2") && nodes(&living.world).len() == 5);
    living.unharmed();
}

#[test]
fn a_copy_of_a_worker_without_a_row_is_named_and_nothing_is_removed() {
    let mut living = Living::stacked();
    living.administer("pve1", async |client| {
        let config = client.find_vm(k8sha::cluster::VmId(3051)).await.unwrap().unwrap();
        let request = k8sha::proxmox::CreateRequest {
            vmid: k8sha::cluster::VmId(9000),
            name: "customer-db".into(),
            pool: None,
            claim: config.mark().unwrap().claim("a copy"),
            settings: k8sha::proxmox::Params::new().with("tags", "k8sha"),
        };
        client.create_vm(&request).await.unwrap();
    });
    living.edit(&[(WORKER1, "")]);
    living.refused(&["VM 3051 on pve1", "VM 9000 on pve1 has its mark as well"]);
    let ran = living.world.run(&["up", "--prune=k8s-worker1"]);
    assert!(ran.code == 1 && vm(&living.world, "customer-db"), "{ran:#?}");
    assert!(vm(&living.world, "k8s-worker1"));
}

#[test]
fn a_row_is_added_before_another_ones_machine_is_drained() {
    let mut living = Living::stacked();
    living.edit(&[(WORKER2, WORKER3)]);
    let ran = living.world.run(&["up", "--json", "--prune=k8s-worker2"]).ok();
    let places = ["join/k8s-worker3", "drain/k8s-worker2"].map(|step| position(&ran, step));
    assert!(places.is_sorted(), "{places:?}");
    assert_eq!(nodes(&living.world).len(), 5);
    living.settled();
}

#[test]
fn all_workers_are_removed_only_if_each_is_named_and_masters_never() {
    let mut living = Living::stacked();
    living.edit(&[(WORKER1, ""), (WORKER2, "")]);
    for flags in ["--prune", "--prune=k8s-worker1"] {
        assert_eq!(living.world.run(&["up", flags]).code, 1);
    }
    assert!(vm(&living.world, "k8s-worker1") && vm(&living.world, "k8s-worker2"));
    let table = living.world.run(&["profile", "homelab"]).ok().stdout;
    let master = table.lines().find(|line| line.contains(MASTER3)).unwrap().to_owned();
    living.edit(&[(&master, "")]);
    living.refused(&["VM 3043 on pve1, created as `k8s-master3`", "k8sha removes workers only"]);
    let doctor = living.world.run(&["doctor"]);
    assert!(doctor.code != 0 && doctor.stdout.contains("error: k8s-master3"), "{doctor:#?}");
    assert!(doctor.stdout.contains("fix: restore its row in the profile"), "{doctor:#?}");
    let ran = living.world.run(&["up", "--prune=k8s-master3"]);
    assert!(ran.code == 1 && vm(&living.world, "k8s-master3"), "{ran:#?}");
    living.edit(&[(WORKER1, ""), (WORKER2, "")]);
    living.world.run(&["up", "--quiet", "--prune=k8s-worker1,k8s-worker2"]).ok();
    assert_eq!(nodes(&living.world).len(), 3);
    living.settled();
}

#[test]
fn a_worker_that_does_not_answer_is_not_removed() {
    let mut living = Living::stacked();
    living.edit(&[(WORKER2, "")]);
    for suffix in ["", ".pub"] {
        std::fs::remove_file(
            living.world.path().join(format!("operator/homelab/ssh/host-k8s-worker2{suffix}")),
        )
        .unwrap();
    }
    let before = living.world.digest();
    let ran = living.world.run(&["up", "--prune=k8s-worker2"]);
    assert!(ran.code == 1 && ran.stderr.contains("it runs and cannot be queried"), "{ran:#?}");
    assert_eq!(living.world.digest(), before);
    living.unharmed();
}

#[test]
fn a_removal_killed_after_the_node_was_deleted_is_undone_if_the_row_comes_back() {
    let mut living = Living::stacked();
    living.edit(&[(WORKER2, "")]);
    let mut met = false;
    for after in 1..60 {
        living.world.kill_after(&["up", "--prune=k8s-worker2"], after);
        met = !nodes(&living.world).contains(&"k8s-worker2".to_owned());
        if met {
            break;
        }
    }
    assert!(met, "no kill met the deleted Node");
    if !vm(&living.world, "k8s-worker2") {
        // The VM went with it; then the machine is created again.
        living.edit(&[]);
    } else {
        living.edit(&[]);
        let plan = living.world.run(&["plan"]).ok().stdout;
        assert!(plan.contains("return the node to service"), "{plan}");
    }
    living.world.run(&["up", "--quiet"]).ok();
    assert_eq!(nodes(&living.world).len(), 5);
    assert!(kubectl(&living.world, &["get", "nodes"], "").matches("worker").count() >= 4);
    living.settled();
}

#[test]
fn a_machine_that_is_off_or_has_no_node_object_keeps_the_only_copy_of_a_volume() {
    let mut living = Living::stacked();
    let node = format!("k8s-worker2.{}", domain(&living.world));
    living.edit(&[(WORKER2, "")]);
    let volume = format!(
        "apiVersion: v1\nkind: PersistentVolume\nmetadata: {{ name: pv1 }}\nspec: {{ nodeAffinity: {{ \
         required: {{ nodeSelectorTerms: [{{ matchExpressions: [{{ key: kubernetes.io/hostname, operator: \
         In, values: [{node}] }}] }}] }} }} }}\n"
    );
    kubectl(&living.world, &["apply", "-f", "-"], &volume);
    living.administer("pve2", async |client| {
        client.stop_vm(k8sha::cluster::VmId(3052)).await.unwrap();
    });
    for deleted in [false, true] {
        if deleted {
            kubectl(&living.world, &["delete", "node", &node], "");
        }
        let ran = living.world.run(&["up", "--prune=k8s-worker2"]);
        assert!(ran.code == 5 && ran.stderr.contains("the volume pv1"), "{ran:#?}");
        assert!(vm(&living.world, "k8s-worker2"));
    }
}

#[test]
fn names_in_prune_that_no_machine_has_are_reported() {
    let mut living = Living::stacked();
    let ran = living.world.run(&["up", "--prune=nosuch"]).ok();
    assert!(ran.stdout.contains("no machine nosuch"), "{ran:#?}");
    // Its VM is gone, and its Node is still there.
    living.destroy("pve2", 3052);
    living.edit(&[(WORKER2, "")]);
    let ran = living.world.run(&["up", "--prune=k8s-worker2"]);
    assert!(ran.code == 1 && ran.stderr.contains("k8s-worker2 has a Node object"), "{ran:#?}");
}

#[test]
fn a_node_that_was_cordoned_by_hand_is_named_and_stays_cordoned() {
    let mut living = Living::stacked();
    let node = format!("k8s-worker2.{}", domain(&living.world));
    workload(&living.world, 0);
    kubectl(&living.world, &["cordon", &node], "");
    let plan = living.world.run(&["plan"]).ok().stdout;
    assert!(plan.contains(&format!("kubectl uncordon {node}")), "{plan}");
    living.edit(&[(WORKER2, "")]);
    let ran = living.world.run(&["up", "--prune=k8s-worker2"]);
    assert!(ran.code == 5 && ran.stdout.contains("it stays cordoned"), "{ran:#?}");
    assert!(kubectl(&living.world, &["get", "nodes"], "").contains("SchedulingDisabled"));
}
