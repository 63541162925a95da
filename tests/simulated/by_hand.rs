//! Manual changes to a running cluster in Proxmox VE or in the profile, and machines that do not
//! answer: reported by every command, restored if that is safe, and never reported as matching the
//! profile.

use k8sha::cluster::VmId;
use k8sha::proxmox::Params;
use k8sha_simulator::inspect;
use k8sha_simulator::pve::state::Pool;

use crate::living::Living;
use crate::world::Ran;

/// Sets options of the first worker's VM, as a user would.
fn set(living: &Living, key: &str, value: &str) {
    let params = Params::new().with(key, value);
    living.administer("pve1", async |client| {
        client.set_config(VmId(WORKER), &params, &[], None).await.unwrap();
    });
}

fn config(living: &Living, key: &str) -> String {
    let world = inspect::open(&living.world.path()).unwrap();
    let mut datacenters = world.pve.datacenters.iter();
    let vm = datacenters.find_map(|datacenter| datacenter.vms.get(&WORKER)).unwrap();
    vm.config.get(key).cloned().unwrap_or_default()
}

/// The first worker of `homelab`.
const WORKER: u32 = 3051;

/// `plan`, `status` and `doctor` all report it, and none says that the cluster matches the profile.
fn told(living: &Living, faults: &[&str], words: &str) {
    let run = |command: &[&str]| -> Ran { living.world.run(&[command, faults].concat()) };
    let plan = run(&["plan", "--exit-code"]);
    assert_eq!(plan.code, 10, "{plan:#?}");
    assert!(plan.stdout.contains(words), "plan: no `{words}` in {}", plan.stdout);
    assert!(!plan.stdout.contains("the cluster matches the profile"), "{}", plan.stdout);
    let status = run(&["status"]);
    assert_eq!(status.code, 1, "{status:#?}");
    assert!(status.stdout.contains(words), "status: no `{words}` in {}", status.stdout);
    let doctor = run(&["doctor"]);
    assert!(doctor.stdout.contains(words), "doctor: no `{words}` in {}", doctor.stdout);
}

#[test]
fn a_pending_cpu_type_is_reported_until_the_restart() {
    let mut living = Living::stacked();
    living.edit(&[("proxmox:\n", "proxmox:\n  cpu: host\n")]);
    let words = "k8s-worker1: cpu in use is x86-64-v2-AES, should be host";
    told(&living, &[], words);
    let up = living.world.run(&["up"]).ok();
    assert!(up.stdout.contains(words), "{}", up.stdout);
    told(&living, &[], "it is written and pending");
    let machines = living.world.vms();
    for vm in machines.iter().filter(|vm| vm.running) {
        living.administer(&vm.host, async |client| {
            client.stop_vm(VmId(vm.vmid)).await.unwrap();
        });
    }
    living.world.run(&["up", "--quiet"]).ok();
    living.settled();
}

#[test]
fn a_card_that_was_unplugged_or_moved_by_hand_is_restored_with_its_address() {
    let living = Living::stacked();
    let whole = config(&living, "net0");
    for card in [format!("{whole},link_down=1"), format!("{whole},tag=7")] {
        set(&living, "net0", &card);
        assert_eq!(config(&living, "net0"), card);
        let plan = living.world.run(&["plan", "--exit-code"]);
        assert_eq!(plan.code, 10, "{plan:#?}");
        assert!(plan.stdout.contains(&format!("net0: {card} -> virtio=")), "{}", plan.stdout);
        living.world.run(&["up", "--quiet"]).ok();
        assert_eq!(
            config(&living, "net0").replace(",firewall=0", ""),
            whole.replace(",firewall=0", "")
        );
        living.settled();
    }
}

#[test]
fn another_vlan_or_bridge_does_not_move_the_machines_of_a_running_cluster() {
    let mut living = Living::stacked();
    let before = config(&living, "net0");
    living.edit(&[("  bridge: vmbr0\n", "  bridge: vmbr0\n  vlan: 30\n")]);
    living.refused(&[
        "network (bridge and vlan) is vmbr0, should be vmbr0, VLAN 30",
        "one at a time",
    ]);
    assert_eq!(config(&living, "net0"), before);
    // After the command in the message was run by hand, the cluster matches the profile.
    for vm in living.world.vms().iter().filter(|vm| vm.running) {
        let vmid = VmId(vm.vmid);
        living.administer(&vm.host, async |client| {
            let card = client.vm_config(vmid).await.unwrap().get("net0").unwrap().to_owned();
            let params = Params::new().with("net0", format!("{card},tag=30"));
            client.set_config(vmid, &params, &[], None).await.unwrap();
        });
    }
    living.world.run(&["up", "--quiet"]).ok();
    living.settled();
}

#[test]
fn a_cluster_that_does_not_answer_by_its_name_does_not_match_the_profile() {
    let living = Living::stacked();
    told(
        &living,
        &["--inject", "dns-silent@192.168.10.2"],
        "API: state is not reachable under its name",
    );
    living.settled();
}

#[test]
fn a_machine_with_another_host_key_is_reported_by_every_command() {
    let living = Living::stacked();
    let fault = ["--inject", "wrong-host-key@k8s-worker1"];
    told(&living, &fault, "k8s-worker1: state is not reachable by SSH");
    living.settled();
}

#[test]
fn an_edit_that_applies_only_to_new_machines_is_reported_with_the_changed_lines() {
    let mut living = Living::stacked();
    living
        .edit(&[("  gateway: 192.168.10.1\n", "  gateway: 192.168.10.1\n  ntp: [192.168.10.7]\n")]);
    let plan = living.world.run(&["plan"]).ok();
    let line = "k8s-worker1: cloud-init seed is ";
    let told = plan.stdout.lines().find(|text| text.contains(line)).unwrap_or_default().to_owned();
    assert!(told.contains("192.168.10.7"), "{}", plan.stdout);
    // No secret is recorded.
    let folder = living.world.path().join("operator/homelab/made-from");
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    assert_eq!(files.len(), 7);
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        assert!(!text.contains("PRIVATE KEY-----\n"), "{text}");
    }
}

#[test]
fn machines_outside_the_profiles_pool_are_reported_until_they_are_moved() {
    let mut living = Living::stacked();
    living.world.change(|world| {
        for datacenter in &mut world.pve.datacenters {
            datacenter.pools.insert("k8s".to_owned(), Pool::default());
            datacenter
                .pools
                .insert("theirs".to_owned(), Pool { vms: [WORKER].into(), ..Pool::default() });
        }
    });
    living.settled();
    living.edit(&[("proxmox:\n", "proxmox:\n  pool: k8s\n")]);
    told(&living, &[], "k8s-worker1: proxmox.pool is theirs, should be k8s");
    told(&living, &[], "k8s-worker2: proxmox.pool is none, should be k8s");
    let up = living.world.run(&["up"]).ok();
    let line = "pvesh set /pools --poolid k8s --vms 3051 --allow-move 1";
    assert!(up.stdout.contains(line), "{}", up.stdout);
    living.world.change(|world| {
        for datacenter in &mut world.pve.datacenters {
            let vms = datacenter.vms.keys().copied().collect();
            datacenter.pools.get_mut("theirs").unwrap().vms.clear();
            datacenter.pools.get_mut("k8s").unwrap().vms = vms;
        }
    });
    living.settled();
}

#[test]
fn a_disk_outside_the_profiles_storage_is_reported_and_not_moved() {
    let mut living = Living::stacked();
    living.world.change(|world| {
        for datacenter in &mut world.pve.datacenters {
            let fast = datacenter.storages["local-lvm"].clone();
            datacenter.storages.insert("fast".to_owned(), fast);
        }
    });
    let before = config(&living, "scsi0");
    living.edit(&[("storage: local-lvm", "storage: fast")]);
    told(&living, &[], "k8s-worker1: storage of the disk is local-lvm, should be fast");
    told(
        &living,
        &[],
        "pve1: storage of the template of ubuntu-22.04 is local-lvm, should be fast",
    );
    let up = living.world.run(&["up"]).ok();
    assert!(up.stdout.contains("qm disk move 3051 scsi0 fast --delete 1"), "{}", up.stdout);
    assert_eq!(config(&living, "scsi0"), before);
    living.edit(&[]);
    living.settled();
}
