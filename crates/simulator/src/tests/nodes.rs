//! Settings of a node and of the datacenter.

use serde_json::{Value, json};

use super::{Bench, Reply, Topology};

fn ok(reply: &Reply) {
    assert_eq!((reply.status, reply.data()), (200, &Value::Null), "{reply:?}");
}

#[tokio::test]
async fn a_nodes_name_servers_are_replaced_together_and_used_by_its_vms() {
    let bench = Bench::new().await;
    let dns = "/nodes/pve1/dns";
    assert_eq!(bench.get(dns).await, json!({"search": "kloud.lan", "dns1": "10.101.1.2"}));
    let form = [
        ("search", "guests.lan"),
        ("dns1", "10.0.0.53"),
        ("dns2", "10.0.0.53"),
        ("dns3", "fd00::53"),
    ];
    ok(&bench.call("PUT", dns, &form).await);
    let set = json!({"search": "guests.lan", "dns1": "10.0.0.53", "dns2": "fd00::53"});
    assert_eq!(bench.get(dns).await, set);
    assert_eq!(bench.get("/nodes/pve2/dns").await["dns1"], "10.101.1.2");
    let form = [("vmid", "100"), ("net0", "virtio,bridge=vmbr0"), ("ipconfig0", "ip=10.0.0.9/24")];
    assert_eq!(bench.task("POST", "/nodes/pve1/qemu", &form).await, "OK");
    let dump = bench.get("/nodes/pve1/qemu/100/cloudinit/dump?type=network").await;
    let dump = dump.as_str().unwrap();
    assert!(dump.contains("- '10.0.0.53'") && dump.contains("- 'guests.lan'"), "{dump}");
    let reply = bench.call("PUT", dns, &[("search", "x"), ("dns1", "nowhere")]).await;
    let text = "invalid format - value does not look like a valid IP address";
    assert_eq!((reply.status, reply.error("dns1")), (400, text));
    let reply = bench.call("PUT", dns, &[("dns1", "10.0.0.1")]).await;
    assert_eq!(reply.error("search"), "property is missing and it is not optional");
    let token = bench.user(&[("/nodes", "Sys.Audit")]).await;
    let reply = bench.as_token(&token, "PUT", dns, &[("search", "x")]).await;
    assert_eq!(reply.reason, "Permission check failed (/nodes/pve1, Sys.Modify)");
    assert_eq!(bench.get(dns).await, set);
}

#[tokio::test]
async fn datacenter_options_are_stored_and_shown_in_their_parts() {
    let bench = Bench::new().await;
    let path = "/cluster/options";
    let form = [
        ("description", "two\nlines"),
        ("migration", "insecure,network=10.0.0.0/24"),
        ("crs", "ha=static,ha-rebalance-on-start=1"),
        ("keyboard", "de"),
        ("console", "applet"),
    ];
    ok(&bench.call("PUT", path, &form).await);
    let kept = json!({"description": "two\nlines\n", "mac_prefix": "BC:24:11",
                      "migration": {"type": "insecure", "network": "10.0.0.0/24"},
                      "crs": {"ha": "static", "ha-rebalance-on-start": 1}, "keyboard": "de",
                      "console": "html5", "allowed-tags": []});
    assert_eq!(bench.get(path).await, kept);
    let before = bench.sim.digest();
    let reply = bench.call("PUT", path, &[("keyboard", "xx")]).await;
    assert_eq!(reply.status, 400, "{reply:?}");
    let reply = bench.call("PUT", path, &[("keyboard", "fr"), ("mac_prefix", "BC:24:12")]).await;
    assert_eq!(reply.reason, "the simulator has no datacenter option 'mac_prefix'");
    assert_eq!(bench.sim.digest(), before);
    ok(&bench.call("PUT", path, &[("delete", "crs,migration")]).await);
    assert!(bench.get(path).await.get("crs").is_none());
    let token = bench.user(&[("/vms", "VM.Audit")]).await;
    let seen = bench.as_token(&token, "GET", path, &[]).await;
    assert_eq!(seen.data(), &json!({"allowed-tags": [], "console": "html5"}));
    let reply = bench.as_token(&token, "PUT", path, &[("keyboard", "fr")]).await;
    assert_eq!(reply.reason, "Permission check failed (/, Sys.Modify)");
}

#[tokio::test]
async fn free_vmids_are_offered_from_the_configured_range() {
    let bench = Bench::new().await;
    ok(&bench.call("PUT", "/cluster/options", &[("next-id", "lower=200,upper=201")]).await);
    assert_eq!(bench.get("/cluster/nextid").await, "200");
    assert_eq!(bench.task("POST", "/nodes/pve1/qemu", &[("vmid", "200")]).await, "OK");
    let reply = bench.call("GET", "/cluster/nextid", &[]).await;
    let text = "unable to get any free VMID in range [200, 201]";
    assert_eq!((reply.status, reply.reason.as_str()), (500, text));
    ok(&bench.call("PUT", "/cluster/options", &[("delete", "next-id")]).await);
    assert_eq!(bench.get("/cluster/nextid").await, "100");
}

#[tokio::test]
async fn a_node_is_in_utc_and_shows_its_volume_group() {
    let bench = Bench::new().await;
    let time = "/nodes/pve1/time";
    ok(&bench.call("PUT", time, &[("timezone", "UTC")]).await);
    let reply = bench.call("PUT", time, &[("timezone", "Europe/Vienna")]).await;
    assert_eq!(reply.reason, "a simulated node has no time zone 'Europe/Vienna'");
    assert_eq!(bench.get(time).await["timezone"], "UTC");
    assert_eq!(bench.get("/nodes/pve1/scan/lvm").await, json!([{"vg": "pve"}]));
    assert_eq!(bench.get("/nodes/pve1/scan/lvmthin?vg=pve").await, json!([{"lv": "data"}]));
    assert_eq!(bench.get("/nodes/pve1/scan/lvmthin?vg=other").await, json!([]));
}

#[tokio::test]
async fn ha_does_not_move_vms_that_it_does_not_manage() {
    let bench = Bench::new().await;
    assert_eq!(bench.task("POST", "/nodes/pve1/qemu", &[("vmid", "100")]).await, "OK");
    let before = bench.sim.digest();
    for (path, text) in [
        ("vm:100/migrate", "resource 'vm:100' is not HA managed"),
        ("100/relocate", "resource 'vm:100' is not HA managed"),
        ("999/relocate", "unable to detect SID from VMID - VM/CT 999 does not exist"),
    ] {
        let path = format!("/cluster/ha/resources/{path}");
        let reply = bench.call("POST", &path, &[("node", "pve2")]).await;
        assert_eq!((reply.status, reply.reason.as_str()), (500, text), "{path}");
    }
    let rule = [("rule", "r1"), ("type", "resource-affinity"), ("resources", "vm:100,vm:101")];
    let whole = [rule[0], rule[1], rule[2], ("affinity", "positive")];
    for (method, path, form, text) in [
        (
            "PUT",
            "groups/old",
            &[][..],
            "cannot update group: ha groups have been migrated to rules",
        ),
        ("DELETE", "groups/old", &[], "cannot delete group: ha groups have been migrated to rules"),
        ("GET", "resources/100", &[], "no such resource 'vm:100'"),
        (
            "PUT",
            "resources/vm:100",
            &[("state", "stopped")],
            "update resources config failed: no such resource 'vm:100'",
        ),
        ("DELETE", "resources/100", &[], "cannot delete service 'vm:100', not HA managed!"),
        ("POST", "resources", &[("sid", "vm:100"), ("type", "ct")], "types does not match"),
        (
            "POST",
            "resources",
            &[("sid", "100"), ("group", "old")],
            "invalid parameter 'group': ha groups have been migrated to rules",
        ),
        ("POST", "resources", &[("sid", "vm:999")], "resource 'vm:999' does not exist in cluster"),
        ("POST", "resources", &[("sid", "vm:100")], "no HA manager runs on a simulated host"),
        ("POST", "rules", &rule, "missing value for required option 'affinity'"),
        (
            "POST",
            "rules",
            &whole,
            "create ha rule failed: cannot use unmanaged resource(s) vm:100, vm:101.",
        ),
        (
            "PUT",
            "rules/r1",
            &[("type", "resource-affinity"), ("comment", "x")],
            "update HA rules failed: HA rule 'r1' does not exist",
        ),
    ] {
        let reply = bench.call(method, &format!("/cluster/ha/{path}"), form).await;
        let told = (reply.status, reply.reason.as_str());
        assert_eq!(told, (500, text), "{method} {path} {form:?}");
    }
    assert_eq!(bench.call("DELETE", "/cluster/ha/rules/r1", &[]).await.status, 200);
    assert_eq!(bench.sim.digest(), before);
}

#[tokio::test]
async fn an_unanswered_name_lookup_is_a_temporary_failure() {
    let unknown = "/nodes/pve9/status";
    let lost = "/nodes/pve1/query-url-metadata?url=https://mirror.invalid/a.iso";
    for (faults, why) in [
        (&[][..], "Name or service not known"),
        (&["dns-silent@10.101.1.2"], "Temporary failure in name resolution"),
    ] {
        let bench = Bench::with(Topology::Cluster, faults).await;
        let reply = bench.call("GET", unknown, &[]).await;
        assert!(reply.reason.ends_with(&format!("address info for: pve9: {why}")), "{reply:?}");
        let reply = bench.call("GET", lost, &[]).await;
        let text = format!("Can't connect to mirror.invalid:443 ({why})");
        assert!(reply.reason.contains(&text), "{}", reply.reason);
        // Another server may answer.
        let form = [("search", "x"), ("dns1", "10.101.1.2"), ("dns2", "10.101.1.3")];
        ok(&bench.call("PUT", "/nodes/pve1/dns", &form).await);
        let reply = bench.call("GET", lost, &[]).await;
        assert!(reply.reason.contains("(Name or service not known)"), "{}", reply.reason);
    }
}

#[tokio::test]
async fn a_server_without_tls_is_reported_and_serves_images_over_plain_http() {
    let bench = Bench::new().await;
    let metadata = |url: &str| format!("/nodes/pve1/query-url-metadata?url={url}");
    let reply = bench.call("GET", &metadata("https://10.0.0.7:8099/a.img"), &[]).await;
    let text = "invalid server response: '500 Can't connect to 10.0.0.7:8099 (SSL connect attempt \
                failed error:0A00010B:SSL routines::wrong version number)'";
    assert_eq!((reply.status, reply.reason.as_str()), (500, text));
    let found = bench.get(&metadata("http://10.0.0.7:8099/a.img")).await;
    assert_eq!(found["mimetype"], "application/octet-stream");
    let url = "https://10.0.0.7:8099/a.img";
    let form = [("content", "import"), ("filename", "a.qcow2"), ("url", url)];
    let before = bench.sim.digest();
    let end = bench.task("POST", "/nodes/pve1/storage/local/download-url", &form).await;
    assert_eq!(end, "download failed: Unable to establish SSL connection.");
    assert_eq!(bench.sim.digest(), before);
}

#[tokio::test]
async fn a_storages_backup_retention_is_set_and_removed() {
    let bench = Bench::new().await;
    let path = "/storage/local";
    assert_eq!(bench.get(path).await["prune-backups"], "keep-all=1");
    let put = [("prune-backups", "keep-last=3")];
    assert_eq!(bench.call("PUT", path, &put).await.status, 200);
    assert_eq!(bench.get(path).await["prune-backups"], "keep-last=3");
    let before = bench.sim.digest();
    let reply = bench.call("PUT", path, &[("delete", "nodes")]).await;
    assert_eq!(reply.reason, "the simulator takes no 'nodes' out of a storage's section");
    assert_eq!(bench.sim.digest(), before);
    assert_eq!(bench.call("PUT", path, &[("delete", "prune-backups")]).await.status, 200);
    assert!(bench.get(path).await.get("prune-backups").is_none());
}

#[tokio::test]
async fn an_image_has_no_metadata_of_a_vm_to_import() {
    let bench = Bench::new().await;
    let weak = bench.user(&[("/vms", "VM.Audit")]).await;
    let before = bench.sim.digest();
    let metadata = |storage: &str, volume: &str| {
        format!("/nodes/pve1/storage/{storage}/import-metadata?volume={volume}")
    };
    for (storage, volume, text) in [
        ("local", "import/jammy.qcow2", "invalid format"),
        ("local", "iso/a.iso", "invalid content type 'iso'"),
        ("local", "100/vm-100-disk-0.raw", "invalid content type 'images'"),
        ("local", "import/a.txt", "unable to parse directory volume name 'import/a.txt'"),
        ("local-lvm", "vm-100-disk-0", "storage does not support the importer API"),
        ("nowhere", "import/a.ova", "storage 'nowhere' does not exist"),
        ("local", "import/a.ova", "the simulator reads no descriptions of VMs in OVF"),
    ] {
        let reply = bench.call("GET", &metadata(storage, volume), &[]).await;
        let told = (reply.status, reply.reason.as_str());
        assert_eq!(told, (500, text), "{storage} {volume}");
    }
    let reply = bench.as_token(&weak, "GET", &metadata("local", "import/a.ova"), &[]).await;
    let text = "Permission check failed (/storage/local, Datastore.AllocateSpace|Datastore.Audit)";
    assert_eq!((reply.status, reply.reason.as_str()), (403, text));
    assert_eq!(bench.sim.digest(), before);
}
