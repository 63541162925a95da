//! Safeguards of a VM, and surprising behaviour of Proxmox.

use serde_json::json;

use super::{Bench, Reply};

impl Bench {
    /// A call by `root@pam` with a password.
    async fn as_root(&self, method: &str, path: &str, form: &[(&str, &str)]) -> Reply {
        let password = self.host().root_password.clone();
        let login = [("username", "root@pam"), ("password", password.as_str())];
        let login = self.as_token("", "POST", "/access/ticket", &login).await;
        let word = |key: &str| login.data()[key].as_str().unwrap().to_owned();
        let mut request = self
            .request(method, path)
            .header("Cookie", format!("PVEAuthCookie={}", word("ticket")))
            .header("CSRFPreventionToken", word("CSRFPreventionToken"));
        if !form.is_empty() {
            request = request.form(form);
        }
        self.send(request).await
    }

    /// A VM without an operating system, with a disk.
    async fn empty(&self, vmid: &str, options: &[(&str, &str)]) {
        let mut form = vec![("vmid", vmid), ("scsi0", "local:1,format=qcow2")];
        form.extend_from_slice(options);
        assert_eq!(self.task("POST", "/nodes/pve1/qemu", &form).await, "OK");
    }
}

const VM: &str = "/nodes/pve1/qemu/100";

#[tokio::test]
async fn a_token_may_not_skip_a_lock() {
    let bench = Bench::new().await;
    bench.empty("100", &[]).await;
    let before = bench.sim.digest();
    for (method, path, form) in [
        ("PUT", "/config", &[("cores", "2"), ("skiplock", "1")][..]),
        ("PUT", "/config", &[("lock", "backup"), ("skiplock", "1")]),
        ("POST", "/status/start", &[("skiplock", "1")]),
        ("POST", "/status/stop", &[("skiplock", "1")]),
        ("PUT", "/resize", &[("disk", "scsi0"), ("size", "+1G"), ("skiplock", "1")]),
        ("DELETE", "?skiplock=1", &[]),
    ] {
        let reply = bench.call(method, &format!("{VM}{path}"), form).await;
        assert_eq!(reply.status, 400, "{method} {path}: {reply:?}");
        assert_eq!(reply.error("skiplock"), "Only root may use this option.");
    }
    assert_eq!(bench.sim.digest(), before);
}

#[tokio::test]
async fn a_locked_vm_cannot_be_changed_until_root_unlocks_it() {
    let bench = Bench::new().await;
    bench.empty("100", &[]).await;
    let lock = [("lock", "backup")];
    let reply = bench.call("PUT", &format!("{VM}/config"), &lock).await;
    assert_eq!(reply.reason, "only root can set 'lock' config");
    assert_eq!(bench.as_root("PUT", &format!("{VM}/config"), &lock).await.status, 200);
    assert_eq!(bench.config(100).await["lock"], "backup");
    let before = bench.sim.digest();
    for (method, path, form) in [
        ("PUT", "/config", &[("cores", "2")][..]),
        ("POST", "/clone", &[("newid", "101"), ("full", "1")]),
        ("POST", "/migrate", &[("target", "pve2")]),
        ("POST", "/template", &[]),
        ("PUT", "/unlink", &[("idlist", "scsi0")]),
    ] {
        let reply = bench.call(method, &format!("{VM}{path}"), form).await;
        assert_eq!((reply.status, reply.reason.as_str()), (500, "VM is locked (backup)"), "{path}");
    }
    for (method, path, form) in [
        ("POST", "/status/start", &[][..]),
        ("DELETE", "", &[]),
        ("PUT", "/resize", &[("disk", "scsi0"), ("size", "+1G")]),
        ("POST", "/snapshot", &[("snapname", "s1")]),
    ] {
        let end = bench.task(method, &format!("{VM}{path}"), form).await;
        assert_eq!(end, "VM is locked (backup)", "{method} {path}");
    }
    assert_eq!(bench.task("POST", &format!("{VM}/status/stop"), &[]).await, "OK");
    assert_eq!(bench.sim.digest(), before);
    let unlock = [("delete", "lock")];
    let reply = bench.as_root("PUT", &format!("{VM}/config"), &unlock).await;
    assert_eq!(reply.reason, "VM is locked (backup)");
    let unlock = [("delete", "lock"), ("skiplock", "1")];
    assert_eq!(bench.as_root("PUT", &format!("{VM}/config"), &unlock).await.status, 200);
    assert_eq!(bench.config(100).await["lock"], json!(null));
}

#[tokio::test]
async fn a_protected_vms_disk_is_only_protected_from_deletion() {
    let bench = Bench::new().await;
    bench.empty("100", &[("protection", "1")]).await;
    let before = bench.sim.digest();
    for (method, path, form) in [
        ("PUT", "/config", &[("delete", "scsi0")][..]),
        ("PUT", "/unlink", &[("idlist", "scsi0"), ("force", "1")]),
    ] {
        let reply = bench.call(method, &format!("{VM}{path}"), form).await;
        assert_eq!(reply.reason, "can't remove drive 'scsi0' - protection mode enabled");
    }
    let reply = bench.call("DELETE", VM, &[]).await;
    assert_eq!(reply.reason, "can't remove VM 100 - protection mode enabled");
    assert_eq!(bench.sim.digest(), before);
    // It can be replaced all the same, and its volume deleted through the storage.
    assert_eq!(bench.put(100, &[("scsi0", "local:1")]).await.status, 200);
    assert_eq!(bench.config(100).await["unused0"], "local:100/vm-100-disk-0.qcow2");
    let volume = "/nodes/pve1/storage/local/content/local:100/vm-100-disk-0.qcow2";
    assert_eq!(bench.task("DELETE", volume, &[]).await, "OK");
}

#[tokio::test]
async fn an_invalid_value_is_refused_and_changes_nothing() {
    let bench = Bench::new().await;
    bench.empty("100", &[]).await;
    let before = bench.sim.digest();
    for (key, value, text) in [
        (
            "net0",
            "virtio,bridge=vmbr0,tag=5000",
            "net0.tag: value must have a maximum value of 4094",
        ),
        ("net0", "virtio=01:24:11:00:00:01", "a valid unicast MAC address"),
        ("net0", "virtio,speed=1", "net0.speed: property is not defined in schema"),
        ("agent", "2", "agent.enabled: type check ('boolean') failed - got '2'"),
        ("vga", "nosuch", "vga.type: value 'nosuch' does not have a value in the enumeration"),
        ("virtio1", "local:1,ssd=1", "virtio1.ssd: property is not defined in schema"),
        ("machine", "pc-nosuch", "machine.type: value does not match the regex pattern"),
        ("cpu", "custom-none", "Custom cputype 'none' not found"),
        ("nosuch", "1", "property is not defined in schema"),
    ] {
        let reply = bench.put(100, &[(key, value)]).await;
        assert_eq!(reply.status, 400, "{key}={value}: {reply:?}");
        assert!(reply.error(key).contains(text), "{key}={value}: {reply:?}");
    }
    assert_eq!(bench.sim.digest(), before);
}

#[tokio::test]
async fn every_option_can_be_set_and_deleted() {
    let bench = Bench::new().await;
    bench.empty("100", &[]).await;
    for (key, value) in [
        ("keyboard", "de"),
        ("shares", "500"),
        ("allow-ksm", "0"),
        ("usb0", "spice"),
        ("numa0", "cpus=0,memory=512"),
        ("audio0", "device=AC97"),
        ("migrate_downtime", "0.2"),
        ("migrate_speed", "10"),
        ("tdf", "1"),
        ("vmstatestorage", "local"),
        ("spice_enhancements", "foldersharing=1"),
        ("virtiofs0", "share"),
        ("net1", "bridge=vmbr0,virtio=bc:24:11:00:00:01"),
    ] {
        let reply = bench.put(100, &[(key, value)]).await;
        assert_eq!(reply.status, 200, "{key}: {reply:?}");
        assert!(!bench.config(100).await[key].is_null(), "{key}");
        assert_eq!(bench.put(100, &[("delete", key)]).await.status, 200, "{key}");
        assert!(bench.config(100).await[key].is_null(), "{key}");
    }
    bench.put(100, &[("net1", "bridge=vmbr0,virtio=bc:24:11:00:00:01")]).await;
    assert_eq!(bench.config(100).await["net1"], "virtio=bc:24:11:00:00:01,bridge=vmbr0");
    // A device of the host requires root itself.
    let reply = bench.put(100, &[("hostpci0", "0000:01:00.0")]).await;
    assert_eq!(reply.reason, "only root can set 'hostpci0' config for non-mapped devices");
    let form = [("hostpci0", "0000:01:00.0")];
    assert_eq!(bench.as_root("PUT", &format!("{VM}/config"), &form).await.status, 200);
}

#[tokio::test]
async fn a_change_that_a_guest_blocks_is_refused_and_becomes_pending() {
    let bench = Bench::new().await;
    bench.empty("100", &[("net0", "virtio,bridge=vmbr0")]).await;
    assert_eq!(bench.task("POST", &format!("{VM}/status/start"), &[]).await, "OK");
    let reply = bench.put(100, &[("delete", "net0")]).await;
    let text = "hotplug problem - error on hot-unplugging device 'net0' - still busy in guest?";
    assert_eq!((reply.status, reply.error("net0")), (400, text));
    assert!(bench.config(100).await["net0"].is_null());
    let pending = bench.get(&format!("{VM}/pending")).await;
    let net = pending.as_array().unwrap().iter().find(|item| item["key"] == "net0").unwrap();
    assert_eq!(net["delete"], 1);
    assert_eq!(bench.task("POST", &format!("{VM}/status/stop"), &[]).await, "OK");
    let pending = bench.get(&format!("{VM}/pending")).await;
    assert!(pending.as_array().unwrap().iter().all(|item| item["key"] != "net0"));
}

#[tokio::test]
async fn a_medium_is_ejected_at_once_and_its_drive_removed_when_the_vm_stops() {
    let bench = Bench::new().await;
    let iso = [("content", "iso"), ("filename", "a.iso"), ("url", "https://mirror/a.iso")];
    let fetched = bench.task("POST", "/nodes/pve1/storage/local/download-url", &iso).await;
    assert_eq!(fetched, "OK");
    bench.empty("100", &[("ide2", "local:iso/a.iso,media=cdrom")]).await;
    assert_eq!(bench.task("POST", &format!("{VM}/status/start"), &[]).await, "OK");
    // An image in a drive can be deleted, and then ejected, but not inserted again.
    let path = "/nodes/pve1/storage/local/content/local:iso/a.iso";
    assert_eq!(bench.task("DELETE", path, &[]).await, "OK");
    assert_eq!(bench.put(100, &[("ide2", "none,media=cdrom")]).await.status, 200);
    let current = format!("{VM}/config?current=1");
    assert_eq!(bench.get(&current).await["ide2"], "none,media=cdrom");
    let reply = bench.put(100, &[("ide2", "local:iso/a.iso,media=cdrom")]).await;
    assert_eq!(reply.reason, "volume 'local:iso/a.iso' does not exist");
    assert_eq!(bench.put(100, &[("delete", "ide2")]).await.status, 200);
    assert!(bench.config(100).await["ide2"].is_null());
    assert_eq!(bench.get(&current).await["ide2"], "none,media=cdrom");
}

#[tokio::test]
async fn a_clone_onto_the_vmid_of_another_node_fails_in_its_task() {
    let bench = Bench::new().await;
    bench.empty("100", &[]).await;
    let other = [("vmid", "101"), ("name", "other")];
    assert_eq!(bench.task("POST", "/nodes/pve2/qemu", &other).await, "OK");
    let before = bench.sim.digest();
    let end = bench.task("POST", &format!("{VM}/clone"), &[("newid", "101"), ("full", "1")]).await;
    let file = "/etc/pve/nodes/pve1/qemu-server/101.conf";
    assert_eq!(end, format!("close (rename) atomic file '{file}' failed: File exists"));
    assert_eq!(bench.sim.digest(), before);
    let reply = bench.call("POST", "/nodes/pve1/qemu", &[("vmid", "101")]).await;
    let text = "unable to create VM 101 - VM 101 already exists on node 'pve2'";
    assert_eq!(reply.reason, text);
}

#[tokio::test]
async fn a_migration_reports_only_in_its_log_why_it_was_aborted() {
    let bench = Bench::new().await;
    bench.template("local").await;
    bench.cloned("101", "a").await;
    let path = "/nodes/pve1/qemu/101/migrate";
    let reply = bench.call("POST", path, &[("target", "pve2")]).await;
    let upid = reply.data().as_str().unwrap().to_owned();
    assert_eq!(bench.wait(&upid).await, "migration aborted");
    let log = bench.log(&upid).await.join("\n");
    assert!(log.contains("as it's a clone of 'base-9000-disk-0.qcow2'"), "{log}");
    // It is reported as possible all the same, to the caller.
    let asked = bench.get("/nodes/pve1/qemu/101/migrate?target=pve2").await;
    assert_eq!(asked["allowed_nodes"], json!(["pve2"]));
    let reply = bench.call("POST", path, &[("target", "pve1")]).await;
    assert_eq!(reply.error("target"), "target is local node.");
}

#[tokio::test]
async fn a_vm_is_on_the_other_node_before_its_migration_ends() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::frozen(folder.path()).await;
    let form = [("vmid", "101"), ("scsi0", "local:1")];
    let made = bench.call("POST", "/nodes/pve1/qemu", &form).await;
    assert_eq!(made.status, 200, "{made:?}");
    bench.pass(10.0);
    let moved = bench.call("POST", "/nodes/pve1/qemu/101/migrate", &[("target", "pve2")]).await;
    let status = format!("/nodes/pve1/tasks/{}/status", moved.data().as_str().unwrap());
    let there = "/nodes/pve2/qemu/101/config";
    let mut waited = 0;
    while bench.call("GET", there, &[]).await.status != 200 {
        bench.pass(0.2);
        waited += 1;
        assert!(waited < 200, "it never moves");
    }
    assert_eq!(bench.get(there).await["lock"], "migrate");
    assert_eq!(bench.get(&status).await["status"], "running");
    let gone = bench.call("GET", "/nodes/pve1/qemu/101/config", &[]).await;
    assert_eq!(gone.reason, "Configuration file 'nodes/pve1/qemu-server/101.conf' does not exist");
    bench.pass(10.0);
    assert_eq!(bench.get(&status).await["exitstatus"], "OK");
    assert_eq!(bench.get(there).await["lock"], json!(null));
}

#[tokio::test]
async fn a_running_vm_is_paused_before_it_resumes_on_the_target() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::frozen(folder.path()).await;
    assert_eq!(bench.call("POST", "/nodes/pve1/qemu", &[("vmid", "101")]).await.status, 200);
    bench.pass(10.0);
    let start = "/nodes/pve1/qemu/101/status/start";
    assert_eq!(bench.call("POST", start, &[]).await.status, 200);
    bench.pass(10.0);
    let form = [("target", "pve2"), ("online", "1")];
    let moved = bench.call("POST", "/nodes/pve1/qemu/101/migrate", &form).await;
    assert_eq!(moved.status, 200, "{moved:?}");
    let mut seen = Vec::new();
    for _ in 0..200 {
        let reply = bench.call("GET", "/nodes/pve1/qemu/101/status/current", &[]).await;
        if reply.status != 200 {
            break;
        }
        assert_eq!(reply.data()["status"], "running");
        seen.push(reply.data()["qmpstatus"].as_str().unwrap().to_owned());
        bench.pass(0.2);
    }
    seen.dedup();
    assert_eq!(seen, ["running", "postmigrate"]);
    let there = bench.get("/nodes/pve2/qemu/101/status/current").await;
    assert_eq!(there["qmpstatus"], "running");
}

#[tokio::test]
async fn a_stopped_migration_resumes_its_vm() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::frozen(folder.path()).await;
    assert_eq!(bench.call("POST", "/nodes/pve1/qemu", &[("vmid", "101")]).await.status, 200);
    bench.pass(10.0);
    bench.call("POST", "/nodes/pve1/qemu/101/status/start", &[]).await;
    bench.pass(10.0);
    let form = [("target", "pve2"), ("online", "1")];
    let moved = bench.call("POST", "/nodes/pve1/qemu/101/migrate", &form).await;
    let status = "/nodes/pve1/qemu/101/status/current";
    let mut waited = 0;
    while bench.get(status).await["qmpstatus"] != "postmigrate" {
        bench.pass(0.2);
        waited += 1;
        assert!(waited < 200, "it never stands still");
    }
    let task = format!("/nodes/pve1/tasks/{}", moved.data().as_str().unwrap());
    assert_eq!(bench.call("DELETE", &task, &[]).await.status, 200);
    assert_eq!(bench.get(status).await["qmpstatus"], "running");
}

#[tokio::test]
async fn a_vm_is_created_even_if_its_start_fails() {
    let bench = Bench::new().await;
    let form = [("vmid", "100"), ("net0", "virtio,bridge=nobr"), ("start", "1")];
    assert_eq!(bench.task("POST", "/nodes/pve1/qemu", &form).await, "OK");
    assert_eq!(bench.get(&format!("{VM}/status/current")).await["status"], "stopped");
}

#[tokio::test]
async fn a_snapshot_is_taken_rolled_back_to_and_deleted() {
    let bench = Bench::new().await;
    bench.empty("100", &[("cores", "1")]).await;
    let path = format!("{VM}/snapshot");
    assert_eq!(bench.task("POST", &path, &[("snapname", "s1")]).await, "OK");
    let again = bench.task("POST", &path, &[("snapname", "s1")]).await;
    assert_eq!(again, "snapshot name 's1' already used");
    bench.put(100, &[("cores", "3")]).await;
    assert_eq!(bench.get(&format!("{path}/s1/config")).await["cores"], 1);
    assert_eq!(bench.put(100, &[("delete", "scsi0")]).await.status, 200);
    let reply = bench.put(100, &[("delete", "unused0")]).await;
    assert!(reply.reason.ends_with("volume is still in use (snapshot?)"), "{reply:?}");
    assert_eq!(bench.task("POST", &format!("{path}/s1/rollback"), &[]).await, "OK");
    let config = bench.config(100).await;
    assert_eq!((&config["cores"], &config["parent"]), (&json!(1), &json!("s1")));
    let reply = bench.call("POST", &format!("{VM}/template"), &[]).await;
    assert_eq!(reply.reason, "unable to create template, because VM contains snapshots");
    assert_eq!(bench.task("DELETE", &format!("{path}/s1"), &[]).await, "OK");
    let gone = bench.task("DELETE", &format!("{path}/s1"), &[]).await;
    assert_eq!(gone, "snapshot 's1' does not exist");
    assert_eq!(bench.get(&path).await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_paused_vm_counts_as_running_and_cannot_be_shut_down() {
    let bench = Bench::new().await;
    bench.empty("100", &[]).await;
    let reply = bench.call("POST", &format!("{VM}/status/suspend"), &[]).await;
    assert_eq!(reply.reason, "VM 100 not running");
    assert_eq!(bench.task("POST", &format!("{VM}/status/start"), &[]).await, "OK");
    assert_eq!(bench.task("POST", &format!("{VM}/status/suspend"), &[]).await, "OK");
    let status = bench.get(&format!("{VM}/status/current")).await;
    assert_eq!((&status["status"], &status["qmpstatus"]), (&json!("running"), &json!("paused")));
    let reply = bench.call("POST", &format!("{VM}/status/shutdown"), &[]).await;
    assert_eq!(reply.reason, "VM is paused - cannot shutdown");
    assert_eq!(bench.task("POST", &format!("{VM}/status/resume"), &[]).await, "OK");
    let status = bench.get(&format!("{VM}/status/current")).await;
    assert_eq!(status["qmpstatus"], "running");
}

#[tokio::test]
async fn a_deleted_roles_grants_are_removed_silently() {
    let bench = Bench::new().await;
    let before = bench.sim.digest();
    bench.call("POST", "/access/roles", &[("roleid", "Mine"), ("privs", "VM.Audit")]).await;
    bench.call("POST", "/access/users", &[("userid", "u@pve")]).await;
    let grant = [("path", "/vms"), ("roles", "Mine"), ("users", "u@pve")];
    assert_eq!(bench.call("PUT", "/access/acl", &grant).await.status, 200);
    let grant = [("path", "/vms"), ("roles", "Mine"), ("tokens", "u@pve!none")];
    let reply = bench.call("PUT", "/access/acl", &grant).await;
    assert_eq!(reply.reason, "ACL update failed: no such token 'none' for user 'u@pve'");
    let grant = [("path", "/no/path"), ("roles", "Mine"), ("users", "u@pve")];
    let reply = bench.call("PUT", "/access/acl", &grant).await;
    assert_eq!(reply.error("path"), "invalid ACL path '/no/path'");
    assert_eq!(bench.call("DELETE", "/access/roles/Mine", &[]).await.status, 200);
    let acl = bench.get("/access/acl").await;
    assert!(acl.as_array().unwrap().iter().all(|grant| grant["roleid"] != "Mine"), "{acl}");
    let reply = bench.call("DELETE", "/access/roles/Mine", &[]).await;
    assert_eq!(reply.reason, "delete role failed: role 'Mine' does not exist");
    bench.call("DELETE", "/access/users/u@pve", &[]).await;
    assert_eq!(bench.sim.digest(), before);
}
