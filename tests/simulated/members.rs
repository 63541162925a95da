//! Members of a stacked etcd without a row, or missing members: no master joins while one is lost, and
//! the complete command that removes it is printed.

use k8sha_simulator::inspect;

use crate::living::Living;

/// The row of the third master, and one with another name for a machine in its place.
const OLD: &str =
    "name: k8s-master3, ip: 192.168.10.43, ram: 4G, vcpu: 2,           pve: pve1, vmid: 3043";
const NEW: &str =
    "name: k8s-master9, ip: 192.168.10.49, ram: 4G, vcpu: 2,           pve: pve2, vmid: 3049";

#[test]
fn a_new_master_does_not_join_beside_the_lost_member_of_a_removed_row() {
    let mut living = Living::stacked();
    living.destroy("pve1", 3043);
    living.edit(&[(OLD, NEW)]);
    living.refused(&[
        "etcd lists the member k8s-master3.home.arpa at 192.168.10.43, which has no row",
        "-- etcdctl --endpoints https://127.0.0.1:2379",
    ]);
    let told = living.world.run(&["plan"]).stderr;
    let id = told.split("member remove ").nth(1).unwrap().split('`').next().unwrap();
    assert!(!id.is_empty() && id.chars().all(|digit| digit.is_ascii_hexdigit()), "{told}");
    // The command in the message.
    let at = "192.168.10.43".parse().unwrap();
    assert!(inspect::remove_member(&living.world.path(), at).unwrap());
    let up = living.world.run(&["up"]).ok();
    assert!(up.stdout.contains("k8s-master3.home.arpa: Node object is NotReady"), "{}", up.stdout);
    inspect::delete_node(&living.world.path(), "k8s-master3.home.arpa").unwrap();
    living.settled();
}

#[test]
fn a_master_whose_member_was_removed_is_reported_by_every_command() {
    let living = Living::stacked();
    let at = "192.168.10.43".parse().unwrap();
    assert!(inspect::remove_member(&living.world.path(), at).unwrap());
    let words = "etcd: member is none at 192.168.10.43 (k8s-master3)";
    for command in ["plan", "status", "doctor"] {
        let ran = living.world.run(&[command]);
        assert!(ran.stdout.contains(words), "{command}: {ran:#?}");
        assert!(!ran.stdout.contains("the cluster matches the profile"), "{command}: {ran:#?}");
    }
    living.unharmed();
}

#[test]
fn after_a_run_the_differences_are_computed_again() {
    let mut living = Living::stacked();
    living.world.change(|world| {
        for datacenter in &mut world.pve.datacenters {
            let fast = datacenter.storages["local-lvm"].clone();
            datacenter.storages.insert("fast".to_owned(), fast);
        }
    });
    living.destroy("pve2", 3032);
    living.edit(&[("storage: local-lvm", "storage: fast")]);
    // A linked clone is on its template's storage, and is reported to be.
    let plan = living.world.run(&["plan"]).ok();
    assert!(plan.stdout.contains("clone 3092 to 3032 (linked, local-lvm)"), "{}", plan.stdout);
    let line = "k8s-lb2: storage of the disk is local-lvm, should be fast";
    assert!(!plan.stdout.contains(line), "it is not there yet: {}", plan.stdout);
    let up = living.world.run(&["up"]).ok();
    assert!(up.stdout.contains(line), "{}", up.stdout);
}

#[test]
fn rows_with_swapped_names_are_refused_with_their_former_names() {
    let mut living = Living::stacked();
    living.edit(&[
        ("name: k8s-worker1,", "name: k8s-workerX,"),
        ("name: k8s-worker2,", "name: k8s-worker1,"),
        ("name: k8s-workerX,", "name: k8s-worker2,"),
    ]);
    living.refused(&["the row of k8s-worker1 has that VMID", "restore both rows"]);
    let told = living.world.run(&["plan"]).stderr;
    for costly in ["qm migrate", "qm destroy"] {
        assert!(!told.contains(costly), "{told}");
    }
}

#[test]
fn no_disk_move_to_a_missing_storage_is_suggested() {
    let mut living = Living::stacked();
    living.edit(&[("storage: local-lvm", "storage: nowhere")]);
    let status = living.world.run(&["status"]);
    assert_eq!(status.code, 1, "{status:#?}");
    assert!(
        status.stdout.contains("storage `nowhere` does not exist or is not visible to k8sha"),
        "{status:#?}"
    );
    assert!(!status.stdout.contains("qm disk move"), "{status:#?}");
}
