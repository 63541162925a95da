//! VMs: configuration, power, disks, agent.

use serde_json::json;

use super::Bench;
use crate::pve::state::Lock;

const VM: &str = "/nodes/pve1/qemu/101";

async fn bench() -> Bench {
    let bench = Bench::new().await;
    bench.template("local-lvm").await;
    bench.cloned("101", "lc1").await;
    bench
}

#[tokio::test]
async fn values_are_returned_as_proxmox_stores_them() {
    let bench = bench().await;
    for (key, value, kept) in [
        ("tags", "UPPER;lower;lower,zeta;alpha", json!("alpha;lower;upper;zeta")),
        ("description", "two\nlines \n\n", json!("two\nlines")),
        ("memory", "256", json!("256")),
        ("cores", "4", json!(4)),
        ("onboot", "1", json!(1)),
        ("cipassword", "s3cret", json!("**********")),
        ("sshkeys", "ssh-ed25519%20AAAAC3Nz%20u%40h%0A", json!("ssh-ed25519%20AAAAC3Nz%20u%40h")),
        ("name", "Web-1.example.com", json!("Web-1.example.com")),
        (
            "net0",
            "virtio=bc:24:11:00:00:01,tag=5,bridge=vmbr0",
            json!("virtio=bc:24:11:00:00:01,bridge=vmbr0,tag=5"),
        ),
    ] {
        let reply = bench.put(101, &[(key, value)]).await;
        assert_eq!((reply.status, reply.data()), (200, &json!(null)), "{key}: {reply:?}");
        assert_eq!(bench.config(101).await[key], kept, "{key}");
    }
    bench.put(101, &[("net0", "virtio,bridge=vmbr0")]).await;
    let net = bench.config(101).await["net0"].as_str().unwrap().to_owned();
    assert!(net.starts_with("virtio=BC:24:11:") && net.ends_with(",bridge=vmbr0"), "{net}");
}

#[tokio::test]
async fn an_impossible_change_is_refused_with_its_own_message() {
    let bench = bench().await;
    for (form, status, text) in [
        (vec![], 500, "no options specified"),
        (
            vec![("digest", "00"), ("cores", "1")],
            500,
            "checksum mismatch (file change by other user?)",
        ),
        (
            vec![("ide3", "local:iso/none.iso,media=cdrom")],
            500,
            "volume 'local:iso/none.iso' does not exist",
        ),
        (
            vec![("ide0", "local-lvm:cloudinit")],
            500,
            "ide0 - cloud-init drive is already attached at 'ide2'",
        ),
        (vec![("boot", "order=scsi9")], 500, "invalid bootorder: device 'scsi9' does not exist'"),
        (vec![("sshkeys", "nonsense")], 500, "SSH public key validation error"),
        (vec![("ide3", "nowhere:1")], 500, "storage 'nowhere' does not exist"),
    ] {
        let reply = bench.put(101, &form).await;
        assert_eq!((reply.status, reply.reason.as_str()), (status, text), "{form:?}");
    }
    for (form, name, text) in [
        (vec![("delete", "nosuch")], "delete", "unknown option 'nosuch'"),
        (
            vec![("cores", "1"), ("delete", "cores")],
            "delete",
            "you can't use '-cores' and -delete cores' at the same time",
        ),
        (
            vec![("sshkeys", "ssh-ed25519 AAAA a@b")],
            "sshkeys",
            "invalid format - invalid urlencoded string: ssh-ed25519 AAAA a@b",
        ),
        (
            vec![("nosuchopt", "1")],
            "nosuchopt",
            "property is not defined in schema and the schema does not allow additional properties",
        ),
    ] {
        let reply = bench.put(101, &form).await;
        assert_eq!((reply.status, reply.error(name)), (400, text), "{form:?}");
    }
    let good = bench.config(101).await["digest"].as_str().unwrap().to_owned();
    assert_eq!(bench.put(101, &[("digest", &good), ("cores", "1")]).await.status, 200);
    let reply = bench.call("PUT", &format!("{VM}/config"), &[("background_delay", "5")]).await;
    assert_eq!(reply.status, 400);
    let post = [("background_delay", "5"), ("cores", "3")];
    let reply = bench.call("POST", &format!("{VM}/config"), &post).await;
    assert_eq!((reply.status, reply.data()), (200, &json!(null)));
    assert_eq!(bench.task("POST", &format!("{VM}/config"), &[("cores", "2")]).await, "OK");
    assert_eq!(bench.config(101).await["cores"], json!(2));
}

#[tokio::test]
async fn power_changes_are_tasks_that_report_errors() {
    let bench = bench().await;
    let post = async |what: &str| bench.task("POST", &format!("{VM}/status/{what}"), &[]).await;
    let status = async || bench.get(&format!("{VM}/status/current")).await["status"].clone();
    assert_eq!(post("stop").await, "OK");
    assert_eq!(post("start").await, "OK");
    assert_eq!(status().await, "running");
    assert_eq!(post("start").await, "VM 101 already running");
    let reply = bench.call("DELETE", VM, &[]).await;
    assert_eq!((reply.status, reply.reason.as_str()), (500, "VM 101 is running - destroy failed"));
    let reply = bench.call("POST", &format!("{VM}/template"), &[]).await;
    assert_eq!(reply.reason, "you can't convert a VM to template if VM is running");
    assert_eq!(post("reset").await, "OK");
    // The guests decide whether a guest has booted far enough to react.
    let force = [("timeout", "3"), ("forceStop", "1")];
    assert_eq!(bench.task("POST", &format!("{VM}/status/shutdown"), &force).await, "OK");
    assert_eq!(status().await, "stopped");
    let reply = bench.call("POST", &format!("{VM}/status/reset"), &[]).await;
    assert_eq!(reply.reason, "VM 101 not running");
    let path = "/nodes/pve1/qemu/9000/status/start";
    assert_eq!(bench.task("POST", path, &[]).await, "you can't start a vm if it's a template");
    bench.put(101, &[("net0", "virtio,bridge=nobr")]).await;
    assert_eq!(post("start").await, "bridge 'nobr' does not exist");
}

#[tokio::test]
async fn changes_that_a_running_vm_cannot_apply_are_pending_until_its_next_start() {
    let bench = bench().await;
    let status = format!("{VM}/status");
    bench.task("POST", &format!("{status}/start"), &[]).await;
    bench.put(101, &[("memory", "512"), ("description", "hot")]).await;
    let current = bench.get(&format!("{VM}/config?current=1")).await;
    assert_eq!((&current["memory"], &current["description"]), (&json!("2048"), &json!("hot")));
    assert_eq!(bench.config(101).await["memory"], "512");
    let pending = bench.get(&format!("{VM}/pending")).await;
    let memory = pending.as_array().unwrap().iter().find(|item| item["key"] == "memory").unwrap();
    assert_eq!(*memory, json!({"key": "memory", "value": "2048", "pending": "512"}));
    bench.task("POST", &format!("{status}/stop"), &[]).await;
    bench.task("POST", &format!("{status}/start"), &[]).await;
    let current = bench.get(&format!("{VM}/config?current=1")).await;
    assert_eq!(current["memory"], "512");
}

#[tokio::test]
async fn a_stop_soon_after_a_restart_meets_the_cleanup() {
    // The intervals between requests are simulated time, however busy the machine is.
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::frozen(folder.path()).await;
    let ends = async |path: &str, form: &[(&str, &str)], seconds: f64| {
        let reply = bench.call("POST", path, form).await;
        let upid = reply.data().as_str().unwrap().to_owned();
        bench.pass(seconds);
        bench.wait(&upid).await
    };
    let clone = [("newid", "101"), ("name", "lc1")];
    assert_eq!(ends("/nodes/pve1/qemu/9000/clone", &clone, 5.0).await, "OK");
    let (start, stop) = (format!("{VM}/status/start"), format!("{VM}/status/stop"));
    assert_eq!(ends(&start, &[], 5.0).await, "OK");
    assert_eq!(ends(&stop, &[], 1.1).await, "OK");
    assert_eq!(ends(&start, &[], 2.0).await, "OK");
    assert_eq!(
        ends(&stop, &[], 11.0).await,
        "can't lock file '/var/lock/qemu-server/lock-101.conf' - got timeout"
    );
    // Once the cleanup has released the lock, a stop works.
    bench.pass(30.0);
    assert_eq!(ends(&stop, &[], 5.0).await, "OK");
    assert_eq!(ends(&start, &[], 5.0).await, "OK");
    assert_eq!(ends(&stop, &[], 1.1).await, "OK");
}

#[tokio::test]
async fn disks_grow_and_do_not_shrink() {
    let bench = bench().await;
    let resize = async |disk: &str, size: &str| {
        bench.task("PUT", &format!("{VM}/resize"), &[("disk", disk), ("size", size)]).await
    };
    assert_eq!(resize("scsi0", "+16M").await, "OK");
    assert_eq!(resize("scsi0", "20G").await, "OK");
    assert_eq!(bench.config(101).await["scsi0"], "local-lvm:vm-101-disk-0,size=20G");
    assert_eq!(resize("scsi0", "20G").await, "OK");
    assert_eq!(resize("scsi0", "10M").await, "shrinking disks is not supported");
    assert_eq!(resize("scsi9", "+1G").await, "disk 'scsi9' does not exist");
    assert_eq!(resize("ide2", "+1G").await, "you can't resize a cdrom");
    let form = [("disk", "scsi0"), ("size", "2GB")];
    let reply = bench.call("PUT", &format!("{VM}/resize"), &form).await;
    assert_eq!(reply.error("size"), "value does not match the regex pattern");
    assert_eq!(bench.call("POST", &format!("{VM}/resize"), &form).await.status, 501);
}

#[tokio::test]
async fn an_absent_agent_is_distinguished_from_a_stopped_vm() {
    let bench = bench().await;
    let ping = format!("{VM}/agent/ping");
    assert_eq!(bench.call("POST", &ping, &[]).await.reason, "VM 101 is not running");
    bench.task("POST", &format!("{VM}/status/start"), &[]).await;
    assert_eq!(bench.call("POST", &ping, &[]).await.reason, "QEMU guest agent is not running");
    bench.task("POST", &format!("{VM}/status/stop"), &[]).await;
    // A disabled agent is one that is configured but not present.
    bench.put(101, &[("agent", "0")]).await;
    bench.task("POST", &format!("{VM}/status/start"), &[]).await;
    assert_eq!(bench.call("POST", &ping, &[]).await.reason, "QEMU guest agent is not running");
    // A pending change takes effect when the VM stops.
    bench.put(101, &[("delete", "agent")]).await;
    assert_eq!(bench.call("POST", &ping, &[]).await.reason, "QEMU guest agent is not running");
    bench.task("POST", &format!("{VM}/status/stop"), &[]).await;
    assert_eq!(bench.call("POST", &ping, &[]).await.reason, "No QEMU guest agent configured");
}

#[tokio::test]
async fn a_change_waits_for_the_lock_of_the_vm_and_gives_up_after_ten_seconds() {
    let bench = bench().await;
    let hold = |seconds: f64| {
        bench.sim.shared().act(|world, _| {
            world.pve.datacenters[0].locks.push(Lock {
                file: "pve1:/var/lock/qemu-server/lock-101.conf".into(),
                shared: false,
                owner: "another".into(),
                until: Some(world.now.after(seconds)),
            });
            world.now
        })
    };
    let from = hold(8.0);
    assert_eq!(bench.put(101, &[("cores", "3")]).await.status, 200);
    let to = bench.sim.shared().look(|world| world.now);
    assert!(to >= from.after(8.0), "{from:?} {to:?}");
    hold(1e9);
    let reply = bench.put(101, &[("cores", "4")]).await;
    assert_eq!(
        (reply.status, reply.reason.as_str()),
        (500, "can't lock file '/var/lock/qemu-server/lock-101.conf' - got timeout")
    );
}

#[tokio::test]
async fn vmids_are_offered_and_not_reserved() {
    let bench = bench().await;
    assert_eq!(bench.get("/cluster/nextid").await, "100");
    assert_eq!(bench.get("/cluster/nextid").await, "100");
    assert_eq!(bench.get("/cluster/nextid?vmid=777").await, "777");
    let reply = bench.call("GET", "/cluster/nextid?vmid=101", &[]).await;
    assert_eq!(reply.error("vmid"), "VM 101 already exists");
    let reply = bench.call("POST", "/nodes/pve2/qemu", &[("vmid", "101")]).await;
    assert_eq!(reply.reason, "unable to create VM 101 - VM 101 already exists on node 'pve1'");
}

#[tokio::test]
async fn pools_hold_vms_until_they_are_destroyed() {
    let bench = bench().await;
    bench.call("POST", "/pools", &[("poolid", "kube")]).await;
    let form = [("newid", "102"), ("pool", "kube"), ("name", "b")];
    assert_eq!(bench.task("POST", "/nodes/pve1/qemu/9000/clone", &form).await, "OK");
    let add = [("poolid", "kube"), ("vms", "101")];
    assert_eq!(bench.call("PUT", "/pools", &add).await.status, 200);
    let again = bench.call("PUT", "/pools", &add).await;
    assert!(again.reason.ends_with("VM 101 is already a pool member"), "{}", again.reason);
    let reply = bench.call("DELETE", "/pools?poolid=kube", &[]).await;
    assert!(reply.reason.ends_with("is not empty (contains VM 101)"), "{}", reply.reason);
    for vmid in [101, 102] {
        let path = format!("/nodes/pve1/qemu/{vmid}");
        assert_eq!(bench.task("DELETE", &path, &[]).await, "OK");
    }
    assert_eq!(bench.get("/pools/kube").await["members"], json!([]));
    assert_eq!(bench.call("DELETE", "/pools?poolid=kube", &[]).await.status, 200);
}

#[tokio::test]
async fn a_vm_with_more_maximum_vcpus_than_its_host_has_does_not_start() {
    let bench = bench().await;
    // The hosts of the bench have 16 CPUs; the number of plugged-in vCPUs does not count.
    for (form, end) in [
        (&[("sockets", "4"), ("cores", "4")][..], "OK"),
        (&[("sockets", "1"), ("cores", "17")], "MAX 16 vcpus allowed per VM on this node"),
        (&[("sockets", "5"), ("cores", "4")], "MAX 16 vcpus allowed per VM on this node"),
        (&[("cores", "999"), ("vcpus", "2")], "MAX 16 vcpus allowed per VM on this node"),
        (
            &[("sockets", "1"), ("cores", "2"), ("vcpus", "3")],
            "start failed: QEMU exited with code 1",
        ),
        (&[("sockets", "2"), ("vcpus", "3")], "OK"),
    ] {
        assert_eq!(bench.put(101, form).await.status, 200, "{form:?}");
        let before = bench.sim.digest();
        assert_eq!(bench.task("POST", &format!("{VM}/status/start"), &[]).await, end, "{form:?}");
        let status = bench.get(&format!("{VM}/status/current")).await;
        if end == "OK" {
            assert_eq!(status["status"], "running", "{form:?}");
            assert_eq!(bench.task("POST", &format!("{VM}/status/stop"), &[]).await, "OK");
            // The next start would meet the cleanup of this run.
            bench.sim.shared().clock.sleep(60.0).await;
        } else {
            assert_eq!((&status["status"], bench.sim.digest()), (&json!("stopped"), before));
        }
    }
}

#[tokio::test]
async fn lists_show_the_plugged_in_vcpus_and_no_more_than_the_host_has() {
    let bench = bench().await;
    for (form, shown) in [
        (&[("sockets", "2"), ("cores", "3")][..], 6),
        (&[("cores", "999")], 16),
        (&[("vcpus", "5")], 5),
        (&[("cores", "4"), ("delete", "vcpus,sockets")], 4),
    ] {
        assert_eq!(bench.put(101, form).await.status, 200, "{form:?}");
        assert_eq!(bench.get(&format!("{VM}/status/current")).await["cpus"], shown, "{form:?}");
        let list = bench.get("/nodes/pve1/qemu").await;
        let of = |list: &serde_json::Value, key: &str| {
            let mut all = list.as_array().unwrap().iter();
            all.find(|vm| vm["vmid"] == 101).unwrap()[key].clone()
        };
        assert_eq!(of(&list, "cpus"), shown, "{form:?}");
        bench.sim.shared().clock.sleep(10.0).await;
        let all = bench.get("/cluster/resources?type=vm").await;
        assert_eq!(of(&all, "maxcpu"), shown, "{form:?}");
    }
}

#[tokio::test]
async fn too_many_pending_vcpus_leave_the_vm_off_after_a_reboot() {
    let bench = bench().await;
    assert_eq!(bench.task("POST", &format!("{VM}/status/start"), &[]).await, "OK");
    bench.sim.shared().clock.sleep(120.0).await;
    assert_eq!(bench.put(101, &[("cores", "17")]).await.status, 200);
    assert_eq!(bench.task("POST", &format!("{VM}/status/reboot"), &[]).await, "OK");
    let status = bench.get(&format!("{VM}/status/current")).await;
    assert_eq!((&status["status"], &status["cpus"]), (&json!("stopped"), &json!(16)));
    assert_eq!(bench.config(101).await["cores"], 17);
}
