//! Disks that are moved to another storage.

use super::Bench;

const VM: &str = "/nodes/pve1/qemu/101";
const MOVE: &str = "/nodes/pve1/qemu/101/move_disk";

impl Bench {
    async fn volumes(&self, storage: &str) -> Vec<String> {
        let all = self.get(&format!("/nodes/pve1/storage/{storage}/content?vmid=101")).await;
        let names = all.as_array().unwrap().iter().filter(|one| one["content"] == "images");
        names.map(|one| one["volid"].as_str().unwrap().to_owned()).collect()
    }

    async fn with_full_clone(self) -> Self {
        self.template("local-lvm").await;
        let form = [("newid", "101"), ("name", "full"), ("full", "1")];
        assert_eq!(self.task("POST", "/nodes/pve1/qemu/9000/clone", &form).await, "OK");
        self
    }
}

#[tokio::test]
async fn a_moved_disk_leaves_the_old_one_unused_or_deleted() {
    let bench = Bench::new().await.with_full_clone().await;
    let before = bench.config(101).await["scsi0"].as_str().unwrap().to_owned();
    let (volume, options) = before.split_once(',').unwrap();
    let reply = bench.call("POST", MOVE, &[("disk", "scsi0"), ("storage", "thick")]).await;
    let upid = reply.data().as_str().unwrap();
    assert!(upid.contains(":qmmove:101:"), "{upid}");
    assert_eq!(bench.wait(upid).await, "OK");
    let log = bench.log(upid).await;
    assert_eq!(log[0], format!("create full clone of drive scsi0 ({volume})"));
    assert!(log.iter().any(|line| line.ends_with("(100.00%)")), "{log:?}");
    let config = bench.config(101).await;
    assert_eq!(config["scsi0"], format!("thick:vm-101-disk-0,{options}"));
    assert_eq!(config["unused0"], volume);
    let form = [("disk", "scsi0"), ("storage", "local"), ("format", "qcow2"), ("delete", "1")];
    assert_eq!(bench.task("POST", MOVE, &form).await, "OK");
    let config = bench.config(101).await;
    assert_eq!(config["scsi0"], format!("local:101/vm-101-disk-0.qcow2,{options}"));
    assert_eq!(config.get("unused1"), None);
    assert_eq!(bench.volumes("thick").await, [""; 0]);
    assert_eq!(bench.volumes("local").await, ["local:101/vm-101-disk-0.qcow2"]);
    // A different format counts as a different place on the same storage.
    let form = [("disk", "scsi0"), ("storage", "local"), ("format", "raw"), ("delete", "1")];
    assert_eq!(bench.task("POST", MOVE, &form).await, "OK");
    assert_eq!(bench.volumes("local").await, ["local:101/vm-101-disk-1.raw"]);
}

#[tokio::test]
async fn a_templates_disk_is_a_base_volume_on_every_storage() {
    let bench = Bench::new().await;
    bench.template("local-lvm").await;
    let form = [("disk", "scsi0"), ("storage", "nfs"), ("delete", "1")];
    assert_eq!(bench.task("POST", "/nodes/pve1/qemu/9000/move_disk", &form).await, "OK");
    let disk = bench.config(9000).await["scsi0"].as_str().unwrap().to_owned();
    assert!(disk.starts_with("nfs:9000/base-9000-disk-0."), "{disk}");
    bench.cloned("101", "linked").await;
    assert!(bench.config(101).await["scsi0"].as_str().unwrap().starts_with("nfs:9000/base-9000-"));
}

#[tokio::test]
async fn an_impossible_disk_move_is_refused_and_leaves_nothing_behind() {
    let bench = Bench::new().await.with_full_clone().await;
    assert_eq!(bench.put(101, &[("ide3", "none,media=cdrom")]).await.status, 200);
    let before = bench.sim.digest();
    for (form, status, reason) in [
        (&[("disk", "scsi9"), ("storage", "thick")][..], 500, "disk 'scsi9' does not exist"),
        (&[("disk", "ide3"), ("storage", "thick")], 500, "you can't move a cdrom"),
        (
            &[("disk", "scsi0"), ("storage", "local-lvm")],
            500,
            "you can't move to the same storage with same format",
        ),
        (
            &[("disk", "unused0"), ("storage", "thick")],
            500,
            "cannot move disk 'unused0', only configured disks can be moved to another storage",
        ),
        (
            &[("disk", "scsi0"), ("storage", "thick"), ("digest", "00")],
            500,
            "detected modified configuration - file changed by other user? Try again.",
        ),
        (&[("disk", "net0"), ("storage", "thick")], 400, "Parameter verification failed."),
        (&[("disk", "scsi0")], 400, "Parameter verification failed."),
    ] {
        let reply = bench.call("POST", MOVE, form).await;
        assert_eq!((reply.status, reply.reason.as_str()), (status, reason), "{form:?}");
    }
    let nowhere = bench.call("POST", MOVE, &[("disk", "scsi0")]).await;
    let text = "both 'storage' and 'target-vmid' missing, either needs to be set";
    assert_eq!((nowhere.error("storage"), nowhere.error("target-vmid")), (text, text));
    let isos = [("storage", "isos"), ("type", "dir"), ("path", "/srv/isos"), ("content", "iso")];
    assert_eq!(bench.call("POST", "/storage", &isos).await.status, 200);
    for (storage, why) in [
        ("nowhere", "storage 'nowhere' does not exist"),
        ("isos", "storage 'isos' does not support vm images"),
    ] {
        let failed = bench.task("POST", MOVE, &[("disk", "scsi0"), ("storage", storage)]).await;
        assert_eq!(failed, format!("storage migration failed: {why}"));
    }
    assert_eq!(bench.call("DELETE", "/storage/isos", &[]).await.status, 200);
    let weak = bench.user(&[("/vms/101", "VM.Audit,VM.Config.Disk")]).await;
    let form = [("disk", "scsi0"), ("storage", "thick")];
    let reply = bench.as_token(&weak, "POST", MOVE, &form).await;
    let reason = "Permission check failed (/storage/thick, Datastore.AllocateSpace)";
    assert_eq!((reply.status, reply.reason.as_str()), (403, reason));
    bench.call("DELETE", "/access/users/u@pve", &[]).await;
    bench.call("DELETE", "/access/roles/R0", &[]).await;
    assert_eq!(bench.sim.digest(), before);
}

#[tokio::test]
async fn a_stopped_move_leaves_the_disk_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::frozen(folder.path()).await;
    let form = [("newid", "101"), ("full", "1")];
    let clone = bench.call("POST", "/nodes/pve1/qemu/9000/clone", &form).await;
    bench.pass(60.0);
    assert_eq!(bench.wait(clone.data().as_str().unwrap()).await, "OK");
    let before = bench.config(101).await;
    let form = [("disk", "scsi0"), ("storage", "thick"), ("delete", "1")];
    let moved = bench.call("POST", MOVE, &form).await;
    let upid = moved.data().as_str().unwrap();
    bench.pass(0.2);
    assert_eq!(bench.volumes("thick").await, ["thick:vm-101-disk-0"]);
    assert_eq!(bench.call("DELETE", &format!("/nodes/pve1/tasks/{upid}"), &[]).await.status, 200);
    assert_eq!(bench.wait(upid).await, "storage migration failed: interrupted by signal");
    assert_eq!(bench.volumes("thick").await, [""; 0]);
    assert_eq!(bench.config(101).await, before);
    // And the VM is no longer locked.
    let path = format!("{VM}/resize");
    let resize = bench.call("PUT", &path, &[("disk", "scsi0"), ("size", "+1G")]).await;
    bench.pass(60.0);
    assert_eq!(bench.wait(resize.data().as_str().unwrap()).await, "OK");
}

#[tokio::test]
async fn a_disk_is_reassigned_to_another_vm_with_its_contents() {
    let bench = Bench::new().await;
    for vmid in ["101", "102"] {
        let form = [("vmid", vmid), ("scsi0", "local:1,format=qcow2"), ("boot", "order=scsi0")];
        assert_eq!(bench.task("POST", "/nodes/pve1/qemu", &form).await, "OK");
    }
    let form = [("scsi1", "local:2,format=qcow2,ssd=1")];
    assert_eq!(bench.put(101, &form).await.status, 200);
    let give = [("disk", "scsi1"), ("target-vmid", "102"), ("target-disk", "scsi3")];
    let reply = bench.call("POST", MOVE, &give).await;
    let upid = reply.data().as_str().unwrap();
    assert!(upid.contains(":qmmove:101-scsi1>102-scsi3:"), "{upid}");
    assert_eq!(bench.wait(upid).await, "OK");
    let log = bench.log(upid).await;
    assert_eq!(log[0], "reassign disk 'scsi1' from VM '101' as 'scsi3' to VM '102'");
    let (giver, getter) = (bench.config(101).await, bench.config(102).await);
    assert_eq!(giver.get("scsi1"), None);
    assert_eq!(getter["scsi3"], "local:102/vm-102-disk-1.qcow2,size=2G,ssd=1");
    assert_eq!(bench.volumes("local").await, ["local:101/vm-101-disk-0.qcow2"]);
    // A boot disk is removed from the boot order, and may become an unused one.
    let give = [("disk", "scsi0"), ("target-vmid", "102"), ("target-disk", "unused0")];
    assert_eq!(bench.task("POST", MOVE, &give).await, "OK");
    let (giver, getter) = (bench.config(101).await, bench.config(102).await);
    assert_eq!((giver.get("scsi0"), giver.get("boot")), (None, None));
    assert_eq!(getter["unused0"], "local:102/vm-102-disk-2.qcow2");
    assert_eq!(bench.task("DELETE", VM, &[]).await, "OK");
    let there = "/nodes/pve1/storage/local/content?vmid=102";
    assert_eq!(bench.get(there).await.as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_reassigned_linked_clones_disk_keeps_its_base() {
    let bench = Bench::new().await;
    bench.template("local").await;
    bench.cloned("101", "one").await;
    let form = [("vmid", "102")];
    assert_eq!(bench.task("POST", "/nodes/pve1/qemu", &form).await, "OK");
    let give = [("disk", "scsi0"), ("target-vmid", "102")];
    assert_eq!(bench.task("POST", MOVE, &give).await, "OK");
    let disk = bench.config(102).await["scsi0"].as_str().unwrap().to_owned();
    let volume = "local:9000/base-9000-disk-0.qcow2/102/vm-102-disk-0.qcow2,";
    assert!(disk.starts_with(volume), "{disk}");
    let end = bench.task("DELETE", "/nodes/pve1/qemu/9000", &[]).await;
    assert!(end.ends_with("is still in use by linked cloned"), "{end}");
}

#[tokio::test]
async fn a_disk_that_cannot_be_reassigned_is_left_in_place() {
    let bench = Bench::new().await;
    bench.template("local").await;
    for (vmid, node) in [("101", "pve1"), ("102", "pve1"), ("103", "pve2")] {
        let form = [("vmid", vmid), ("scsi0", "local:1"), ("ide3", "none,media=cdrom")];
        assert_eq!(bench.task("POST", &format!("/nodes/{node}/qemu"), &form).await, "OK");
    }
    let digest = bench.sim.digest();
    for (form, text) in [
        (&[("disk", "scsi0"), ("target-vmid", "199")][..], "could not find target VM 199"),
        (
            &[("disk", "scsi0"), ("target-vmid", "103")],
            "Both VMs need to be on the same node (pve1 != pve2)",
        ),
        (
            &[("disk", "scsi0"), ("target-vmid", "9000"), ("target-disk", "scsi5")],
            "Can't move disks from or to template VMs",
        ),
        (&[("disk", "scsi7"), ("target-vmid", "102")], "Disk 'scsi7' for VM '101' does not exist"),
        (
            &[("disk", "scsi0"), ("target-vmid", "102")],
            "Target disk key 'scsi0' is already in use for VM '102'",
        ),
        (
            &[("disk", "ide3"), ("target-vmid", "102"), ("target-disk", "ide1")],
            "CD drive contents can't be moved to another VM",
        ),
        (
            &[
                ("disk", "scsi0"),
                ("target-vmid", "102"),
                ("target-disk", "scsi1"),
                ("target-digest", "00"),
            ],
            "VM 102: detected modified configuration - file changed by other user? Try again.",
        ),
    ] {
        let reply = bench.call("POST", MOVE, form).await;
        assert_eq!((reply.status, reply.reason.as_str()), (500, text), "{form:?}");
    }
    let own = bench.call("POST", MOVE, &[("disk", "scsi0"), ("target-vmid", "101")]).await;
    let text = "must be different than source VMID to reassign disk";
    assert_eq!((own.status, own.error("target-vmid")), (400, text));
    let form = [("disk", "scsi0"), ("target-vmid", "102"), ("storage", "thick")];
    let both = bench.call("POST", MOVE, &form).await;
    let text = "either set 'storage' or 'target-vmid', but not both";
    assert_eq!((both.error("storage"), both.error("target-vmid")), (text, text));
    assert_eq!(bench.sim.digest(), digest);
    let give = [("disk", "scsi0"), ("target-vmid", "102"), ("target-disk", "scsi1")];
    let weak = bench.user(&[("/vms/101", "VM.Config.Disk,VM.Audit")]).await;
    let reply = bench.as_token(&weak, "POST", MOVE, &give).await;
    let reason = "Permission check failed (/vms/102, VM.Config.Disk)";
    assert_eq!((reply.status, reply.reason.as_str()), (403, reason));
    // A running VM releases no disk.
    assert_eq!(bench.task("POST", &format!("{VM}/status/start"), &[]).await, "OK");
    let reply = bench.call("POST", MOVE, &give).await;
    let text = "Cannot move disk to another VM while the source VM is running - detach first";
    assert_eq!((reply.status, reply.reason.as_str()), (500, text));
    assert!(bench.config(101).await.get("scsi0").is_some());
}
