//! Disks that go to another storage.

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
async fn a_disk_moves_and_the_old_one_stays_unused_or_goes() {
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
    // Another format is another place on the same storage.
    let form = [("disk", "scsi0"), ("storage", "local"), ("format", "raw"), ("delete", "1")];
    assert_eq!(bench.task("POST", MOVE, &form).await, "OK");
    assert_eq!(bench.volumes("local").await, ["local:101/vm-101-disk-1.raw"]);
}

#[tokio::test]
async fn a_template_s_disk_is_a_base_wherever_it_is() {
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
async fn what_cannot_move_is_refused_and_nothing_is_left_of_it() {
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
async fn a_move_that_is_stopped_leaves_the_disk_where_it_was() {
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
    // And nothing holds the VM any more.
    let path = format!("{VM}/resize");
    let resize = bench.call("PUT", &path, &[("disk", "scsi0"), ("size", "+1G")]).await;
    bench.pass(60.0);
    assert_eq!(bench.wait(resize.data().as_str().unwrap()).await, "OK");
}
