//! Clones: results, refusals, and the locks that they wait for.

use serde_json::json;

use super::Bench;
use crate::site::Topology;

const CLONE: &str = "/nodes/pve1/qemu/9000/clone";

#[tokio::test]
async fn a_linked_clone_has_its_own_identities() {
    let bench = Bench::new().await;
    for (storage, base, disk) in [
        ("local-lvm", "local-lvm:base-9000-disk-0", "local-lvm:vm-101-disk-0"),
        (
            "local",
            "local:9000/base-9000-disk-0.qcow2",
            "local:9000/base-9000-disk-0.qcow2/101/vm-101-disk-0.qcow2",
        ),
    ] {
        bench.template(storage).await;
        let form = [("newid", "101"), ("name", "a.kloud.lan"), ("description", "x\n\n")];
        let upid = bench.call("POST", CLONE, &form).await;
        let upid = upid.data().as_str().unwrap().to_owned();
        let mut parts = upid.split(':');
        assert_eq!((parts.nth(5), parts.next()), (Some("qmclone"), Some("9000")));
        assert_eq!(bench.wait(&upid).await, "OK");
        assert_eq!(bench.log(&upid).await.last().unwrap(), "TASK OK");
        let (old, new) = (bench.config(9000).await, bench.config(101).await);
        assert_eq!(old["scsi0"], format!("{base},size=2252M"));
        assert_eq!(new["scsi0"], format!("{disk},size=2252M"));
        assert_eq!(old["template"], json!(1));
        assert_eq!(new.get("template"), None);
        assert_eq!((&new["name"], &new["description"]), (&json!("a.kloud.lan"), &json!("x")));
        assert_eq!((&new["memory"], &new["cores"]), (&json!("2048"), &json!(2)));
        for key in ["net0", "smbios1", "vmgenid", "ide2", "digest"] {
            assert_ne!(old[key], new[key], "{key}");
        }
        let path = "/nodes/pve1/qemu/9000";
        let used = match storage {
            "local" => format!("base volume '{base}' is still in use by linked cloned"),
            // LVM thin does not check.
            _ => "OK".to_owned(),
        };
        assert_eq!(bench.task("DELETE", path, &[]).await, used);
        assert_eq!(bench.task("DELETE", "/nodes/pve1/qemu/101?purge=1", &[]).await, "OK");
        let image = "/nodes/pve1/storage/local/content/local:import/jammy.qcow2";
        assert_eq!(bench.task("DELETE", image, &[]).await, "OK");
    }
}

#[tokio::test]
async fn a_clones_guest_has_its_own_uuid_and_reads_the_drive_that_proxmox_generates() {
    let bench = Bench::new().await;
    bench.template("local-lvm").await;
    bench.cloned("101", "a.kloud.lan").await;
    assert_eq!(bench.task("POST", "/nodes/pve1/qemu/101/status/start", &[]).await, "OK");
    bench.pass(60.0);
    let uuid = bench.config(101).await["smbios1"].as_str().unwrap().replace("uuid=", "");
    let file = |path: &str| {
        bench.sim.shared().look(|world| world.guests.file("a.kloud.lan", path)).unwrap_or_default()
    };
    assert_eq!(file("/etc/machine-id").trim(), uuid.replace('-', "").to_lowercase());
    assert_eq!(file("/etc/hostname"), "a\n");
}

#[tokio::test]
async fn an_impossible_clone_is_refused_at_once() {
    let bench = Bench::new().await;
    bench.template("local-lvm").await;
    bench.cloned("103", "plain").await;
    for (source, form, status, reason) in [
        (
            9000,
            vec![("storage", "local")],
            500,
            "parameter 'storage' not allowed for linked clones",
        ),
        (
            103,
            vec![("full", "0")],
            500,
            "Linked clone feature is not supported for 'local-lvm:vm-103-disk-0' (scsi0)",
        ),
        (9000, vec![("pool", "nopool")], 403, "pool 'nopool' does not exist"),
        (
            9000,
            vec![("full", "1"), ("storage", "nostore")],
            500,
            "storage 'nostore' does not exist",
        ),
        (9000, vec![("target", "pve3")], 500, "no such cluster node 'pve3'"),
        (
            9000,
            vec![("target", "pve2")],
            500,
            "can't clone VM to node 'pve2' (VM uses local storage)",
        ),
        (
            9000,
            vec![("target", "pve2"), ("full", "1"), ("storage", "nfs")],
            500,
            "can't clone VM to node 'pve2' (VM uses local storage)",
        ),
        (
            9000,
            vec![("target", "pve2"), ("full", "1"), ("storage", "local")],
            500,
            "can't clone to non-shared storage 'local'",
        ),
        (9000, vec![("snapname", "nosnap")], 500, "snapshot 'nosnap' does not exist"),
        (9000, vec![("name", "a_b")], 400, "Parameter verification failed."),
        (9999, vec![], 500, "unable to find configuration file for VM 9999 on node 'pve1'"),
    ] {
        let mut form = form.clone();
        form.push(("newid", "150"));
        let reply = bench.call("POST", &format!("/nodes/pve1/qemu/{source}/clone"), &form).await;
        assert_eq!((reply.status, reply.reason.as_str()), (status, reason), "{form:?}");
    }
    let reply = bench.call("POST", CLONE, &[("newid", "103")]).await;
    assert_eq!(reply.reason, "unable to create VM 103: config file already exists");
}

#[tokio::test]
async fn a_template_on_shared_storage_clones_to_another_node() {
    let bench = Bench::new().await;
    bench.template("nfs").await;
    let form = [("newid", "701"), ("name", "b"), ("target", "pve2")];
    let reply = bench.call("POST", CLONE, &form).await;
    let upid = reply.data().as_str().unwrap();
    assert!(upid.starts_with("UPID:pve1:"), "{upid}");
    assert_eq!(bench.wait(upid).await, "OK");
    assert_eq!(bench.get("/nodes/pve2/qemu/701/config").await["name"], "b");
    assert_eq!(bench.call("GET", "/nodes/pve1/qemu/701/config", &[]).await.status, 500);
    let wrong = upid.replace(':', "%3A");
    let reply = bench.call("GET", &format!("/nodes/pve2/tasks/{wrong}/status"), &[]).await;
    assert_eq!(reply.error("upid"), "no such task");
}

#[tokio::test]
async fn of_two_creations_with_the_same_vmid_one_is_refused() {
    let bench = Bench::new().await;
    bench.template("local-lvm").await;
    let form = [("newid", "410"), ("full", "1"), ("name", "first")];
    let first = bench.call("POST", CLONE, &form).await;
    let second = bench.call("POST", CLONE, &[("newid", "410")]).await;
    assert_eq!(second.reason, "unable to create VM 410: config file already exists");
    assert_eq!(bench.wait(first.data().as_str().unwrap()).await, "OK");
}

#[tokio::test]
async fn many_full_clones_on_one_storage_wait_for_each_other_and_the_last_ones_time_out() {
    let bench = Bench::new().await;
    bench.template("local-lvm").await;
    let vmids: Vec<String> = (501..511).map(|vmid| vmid.to_string()).collect();
    let upids: Vec<String> = bench
        .sim
        .shared()
        .act(|world, store| vmids.iter().map(|vmid| start_clone(world, store, vmid)).collect());
    let mut results = Vec::new();
    for upid in &upids {
        results.push(bench.wait(upid).await);
    }
    let timeout =
        "clone failed: can't lock file '/var/lock/pve-manager/pve-storage-local-lvm' - got timeout";
    let late = results.iter().filter(|result| *result == timeout).count();
    let made = results.iter().filter(|result| *result == "OK").count();
    assert!(late > 0 && made >= 4 && late + made == 10, "{results:?}");
    let vms = bench.get("/nodes/pve1/qemu").await;
    assert_eq!(vms.as_array().unwrap().len(), made + 1);
    let lost = results.iter().position(|result| result == timeout).unwrap();
    let log = bench.log(&upids[lost]).await;
    assert!(log.contains(&"trying to acquire lock...".to_owned()), "{log:?}");
}

/// Starts a full clone directly instead of over HTTPS, so that all start at the same time.
fn start_clone(
    world: &mut crate::world::World,
    _store: &crate::store::Store,
    vmid: &str,
) -> String {
    use crate::pve::access::Caller;
    use crate::pve::state::Host;
    use crate::pve::task::Task;
    use crate::pve::work::{CloneWork, Work};
    let work = Work::Clone(Box::new(CloneWork {
        source: 9000,
        newid: vmid.parse().unwrap(),
        target: "pve1".into(),
        full: true,
        storage: None,
        format: None,
        name: None,
        description: None,
        pool: None,
        snapshot: None,
        limit: None,
        copying: None,
        copies: Vec::new(),
    }));
    let begin = (world.now, world.unix());
    let caller = Caller { user: "root@pam".into(), token: None };
    let dc = &mut world.pve.datacenters[0];
    let pid = dc.hosts.get_mut("pve1").map(Host::take_pid).unwrap();
    let task = Task::new("pve1", "qmclone", "9000", &caller, pid, begin, work);
    let upid = task.upid.clone();
    dc.tasks.push(task);
    upid
}

#[tokio::test]
async fn a_vm_that_is_being_cloned_is_locked() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::frozen(folder.path()).await;
    let form = [("newid", "401"), ("name", "slow"), ("full", "1")];
    let clone = bench.call("POST", CLONE, &form).await;
    let config = bench.config(401).await;
    let digest = config["digest"].clone();
    let first =
        json!({"lock": "clone", "description": " qmclone temporary file", "digest": digest});
    assert_eq!(config, first);
    bench.pass(0.4);
    let config = bench.config(401).await;
    assert_eq!((&config["lock"], &config["name"]), (&json!("clone"), &json!("slow")));
    // Its disk appears when the copy is complete.
    assert_eq!((config.get("scsi0"), config["ide2"].is_string()), (None, true));
    for method in ["PUT", "POST"] {
        let reply = bench.call(method, "/nodes/pve1/qemu/401/config", &[("cores", "2")]).await;
        assert_eq!((reply.status, reply.reason.as_str()), (500, "VM is locked (clone)"));
    }
    // A start that times out, and one that waits until the clone is done.
    let start = || bench.call("POST", "/nodes/pve1/qemu/401/status/start", &[]);
    let early = start().await.data().as_str().unwrap().to_owned();
    bench.pass(5.0);
    let late = start().await.data().as_str().unwrap().to_owned();
    let status = bench.get(&format!("/nodes/pve1/tasks/{late}/status")).await;
    assert_eq!((&status["status"], status.get("exitstatus")), (&json!("running"), None));
    bench.pass(10.0);
    assert_eq!(
        bench.wait(&early).await,
        "can't lock file '/var/lock/qemu-server/lock-401.conf' - got timeout"
    );
    assert_eq!(bench.wait(clone.data().as_str().unwrap()).await, "OK");
    assert_eq!(bench.wait(&late).await, "OK");
    let log = bench.log(&late).await;
    let waited = ["trying to acquire lock...", " OK", "generating cloud-init ISO", "TASK OK"];
    assert_eq!(log, waited);
}

#[tokio::test]
async fn a_fresh_clone_has_no_name_in_the_resources_until_it_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::frozen(folder.path()).await;
    let listed = async || {
        let all = bench.get("/cluster/resources?type=vm").await;
        all.as_array().unwrap().iter().find(|vm| vm["vmid"] == 401).unwrap().clone()
    };
    bench.call("POST", CLONE, &[("newid", "401"), ("name", "fresh")]).await;
    let fresh = json!({"type": "qemu", "id": "qemu/401", "vmid": 401, "node": "pve1",
                       "lock": "clone", "status": "unknown"});
    assert_eq!(listed().await, fresh);
    let live = bench.get("/nodes/pve1/qemu").await;
    assert!(live.as_array().unwrap().iter().any(|vm| vm["vmid"] == 401 && vm["lock"] == "clone"));
    bench.pass(11.0);
    let vm = listed().await;
    assert_eq!(
        (&vm["name"], &vm["status"], vm.get("lock")),
        (&json!("fresh"), &json!("stopped"), None)
    );
}

#[tokio::test]
async fn a_stopped_clone_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::frozen(folder.path()).await;
    let digest = bench.sim.digest();
    let form = [("newid", "401"), ("full", "1")];
    let upid = bench.call("POST", CLONE, &form).await.data().as_str().unwrap().to_owned();
    bench.pass(2.0);
    assert_ne!(bench.sim.digest(), digest);
    let path = format!("/nodes/pve1/tasks/{upid}");
    assert_eq!(bench.call("DELETE", &path, &[]).await.status, 200);
    let result = bench.wait(&upid).await;
    assert!(result.ends_with("interrupted by signal"), "{result}");
    assert_eq!(bench.sim.digest(), digest);
}

#[tokio::test]
async fn injected_faults_fail_a_clone_once_and_leave_nothing_behind() {
    let faults = ["clone-lock-timeout@pve1", "task-fails@web"];
    let bench = Bench::with(Topology::Cluster, &faults).await;
    bench.template("local-lvm").await;
    let digest = bench.sim.digest();
    let form = [("newid", "101"), ("name", "web.kloud.lan")];
    let result = bench.task("POST", CLONE, &form).await;
    assert_eq!(result, "can't lock file '/var/lock/qemu-server/lock-9000.conf' - got timeout");
    let result = bench.task("POST", CLONE, &form).await;
    assert!(result.starts_with("clone failed: copy failed"), "{result}");
    assert_eq!(bench.sim.digest(), digest);
    assert_eq!(bench.task("POST", CLONE, &form).await, "OK");
}

#[tokio::test]
async fn a_full_disk_fails_the_clone_and_the_plain_lvm_has_no_linked_ones() {
    let bench = Bench::new().await;
    bench.template("thick").await;
    let reply = bench.call("POST", CLONE, &[("newid", "101")]).await;
    assert_eq!(
        reply.reason,
        "Linked clone feature is not supported for 'thick:base-9000-disk-0' (scsi0)"
    );
    let form = [("newid", "101"), ("full", "1"), ("storage", "local-lvm")];
    assert_eq!(bench.task("POST", CLONE, &form).await, "OK");
    let fault = "disk-full@pve1".parse().unwrap();
    bench.sim.shared().act(|world, _| world.faults = super::super::Faults::new(vec![fault]));
    let form = [("newid", "102"), ("full", "1")];
    let result = bench.task("POST", CLONE, &form).await;
    assert!(result.starts_with("clone failed: ") && result.contains("No space left"), "{result}");
}

#[tokio::test]
async fn a_clone_has_everything_of_its_source_except_identities_and_unused_disks() {
    let bench = Bench::new().await;
    bench.template("local-lvm").await;
    let form = [
        ("protection", "1"),
        ("sockets", "2"),
        ("net1", "e1000,bridge=vmbr0,firewall=1"),
        ("sata1", "none,media=cdrom"),
        ("smbios1", "serial=QUJD,base64=1"),
    ];
    assert_eq!(bench.put(9000, &form).await.status, 200);
    bench.sim.shared().act(|world, _| {
        let template = world.pve.datacenters[0].vms.get_mut(&9000).unwrap();
        template.config.remove("vmgenid");
    });
    bench.cloned("101", "a").await;
    let (old, new) = (bench.config(9000).await, bench.config(101).await);
    for key in ["protection", "sockets", "sata1", "agent", "boot"] {
        assert_eq!(old[key], new[key], "{key}");
    }
    assert_eq!(new.get("vmgenid"), None, "who has none gets none");
    let card = |config: &serde_json::Value| config["net1"].as_str().unwrap().to_owned();
    assert_ne!(card(&old), card(&new));
    assert!(card(&new).starts_with("e1000=BC:24:11:") && card(&new).ends_with(",firewall=1"));
    let smbios = new["smbios1"].as_str().unwrap();
    assert!(smbios.starts_with("base64=1,serial=QUJD,uuid="), "{smbios}");
    assert_eq!(new["ide2"], "local-lvm:vm-101-cloudinit,media=cdrom,size=4M");

    // No drive of a protected VM can be removed, and a cloud-init drive is deleted with its volume.
    let gone = || bench.put(101, &[("delete", "ide2")]);
    let refused = gone().await;
    assert_eq!(refused.reason, "can't remove drive 'ide2' - protection mode enabled");
    assert_eq!(bench.put(101, &[("delete", "protection")]).await.status, 200);
    assert_eq!(gone().await.status, 200);
    let all = bench.get("/nodes/pve1/storage/local-lvm/content").await.to_string();
    assert!(!all.contains("vm-101-cloudinit") && all.contains("vm-9000-cloudinit"), "{all}");
}
