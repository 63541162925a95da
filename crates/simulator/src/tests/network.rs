//! A node's interfaces, and the reload that applies them.

use serde_json::{Value, json};

use super::Bench;

const NETWORK: &str = "/nodes/pve1/network";

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|one| one["iface"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_bridge_exists_after_a_reload_and_is_removed_by_another() {
    let bench = Bench::new().await;
    let form = [
        ("iface", "vmbr1"),
        ("type", "bridge"),
        ("autostart", "1"),
        ("cidr", "10.9.0.1/24"),
        ("comments", "inner"),
        ("bridge_vlan_aware", "1"),
    ];
    let reply = bench.call("POST", NETWORK, &form).await;
    assert_eq!((reply.status, reply.data()), (200, &Value::Null), "{reply:?}");
    let mut seen = bench.get(&format!("{NETWORK}/vmbr1")).await;
    let whole = json!({"type": "bridge", "method": "static", "method6": "manual", "autostart": 1,
                       "address": "10.9.0.1", "netmask": "24", "cidr": "10.9.0.1/24",
                       "bridge_ports": "", "bridge_stp": "off", "bridge_fd": "0", "priority": 5,
                       "families": ["inet"], "comments": "inner\n", "bridge_vlan_aware": 1});
    assert_eq!(seen, whole);
    // It does not exist yet.
    let form = [("vmid", "100"), ("net0", "virtio,bridge=vmbr1")];
    assert_eq!(bench.task("POST", "/nodes/pve1/qemu", &form).await, "OK");
    let start = "/nodes/pve1/qemu/100/status/start";
    assert_eq!(bench.task("POST", start, &[]).await, "bridge 'vmbr1' does not exist");
    let reply = bench.call("PUT", NETWORK, &[]).await;
    let upid = reply.data().as_str().unwrap();
    assert!(upid.contains(":srvreload:networking:"), "{upid}");
    assert_eq!(bench.wait(upid).await, "OK");
    seen = bench.get(&format!("{NETWORK}/vmbr1")).await;
    assert_eq!(seen["active"], 1);
    assert_eq!(names(&bench.get(&format!("{NETWORK}?type=bridge")).await), ["vmbr0", "vmbr1"]);
    assert_eq!(names(&bench.get("/nodes/pve2/network?type=bridge").await), ["vmbr0"]);
    let zone = bench.get("/nodes/pve1/sdn/zones/localnetwork/bridges").await;
    assert_eq!(zone[1], json!({"name": "vmbr1", "vlan_filtering": 1, "ports": []}));
    assert_eq!(bench.task("POST", start, &[]).await, "OK");
    assert_eq!(bench.task("POST", "/nodes/pve1/qemu/100/status/stop", &[]).await, "OK");
    // A change without an address removes it.
    let path = format!("{NETWORK}/vmbr1");
    let mask = [("type", "bridge"), ("address", "10.9.0.2"), ("netmask", "255.255.254.0")];
    assert_eq!(bench.call("PUT", &path, &mask).await.status, 200);
    let seen = bench.get(&path).await;
    assert_eq!((&seen["netmask"], &seen["cidr"]), (&json!("23"), &json!("10.9.0.2/23")));
    let form = [("type", "bridge"), ("autostart", "1"), ("delete", "comments")];
    assert_eq!(bench.call("PUT", &path, &form).await.status, 200);
    let seen = bench.get(&path).await;
    assert_eq!(seen["method"], "manual");
    assert_eq!((seen.get("address"), seen.get("comments")), (None, None));
    assert_eq!(bench.call("DELETE", &path, &[]).await.status, 200);
    assert_eq!(bench.task("PUT", NETWORK, &[]).await, "OK");
    assert_eq!(names(&bench.get(&format!("{NETWORK}?type=any_bridge")).await), ["vmbr0"]);
    bench.sim.shared().clock.sleep(60.0).await;
    assert_eq!(bench.task("POST", start, &[]).await, "bridge 'vmbr1' does not exist");
}

#[tokio::test]
async fn pending_interface_changes_can_be_discarded() {
    let bench = Bench::new().await;
    let before = bench.sim.digest();
    let form = [("iface", "vmbr1"), ("type", "bridge"), ("autostart", "1")];
    assert_eq!(bench.call("POST", NETWORK, &form).await.status, 200);
    assert_ne!(bench.sim.digest(), before);
    assert_eq!(bench.call("DELETE", NETWORK, &[]).await.status, 200);
    assert_eq!(bench.sim.digest(), before);
    assert_eq!(bench.task("PUT", NETWORK, &[]).await, "OK");
    assert_eq!(bench.sim.digest(), before);
}

#[tokio::test]
async fn an_invalid_interface_is_refused_and_not_written() {
    let bench = Bench::new().await;
    let token = bench.user(&[("/nodes", "Sys.Audit")]).await;
    let before = bench.sim.digest();
    let bridge = ("type", "bridge");
    for (form, name, text) in [
        (&[("iface", "vmbr0"), bridge][..], "iface", "interface already exists"),
        (
            &[("iface", "vmbr1"), bridge, ("cidr", "10.9.0.1/24"), ("gateway", "10.9.0.2")],
            "gateway",
            "Default gateway already exists on interface 'vmbr0'.",
        ),
        (
            &[("iface", "vmbr1"), bridge, ("bridge_ports", "eth7 eth0")],
            "bridge_ports",
            "eth0 is already used on interface 'vmbr0'.",
        ),
        (
            &[
                ("iface", "vmbr1"),
                bridge,
                ("cidr", "10.9.0.1/24"),
                ("address", "10.9.0.1"),
                ("netmask", "255.255.255.0"),
            ],
            "address",
            "address conflicts with cidr",
        ),
    ] {
        let reply = bench.call("POST", NETWORK, form).await;
        assert_eq!((reply.status, reply.error(name)), (400, text), "{form:?}: {reply:?}");
    }
    let ovs = bench.call("POST", NETWORK, &[("iface", "vmbr1"), ("type", "OVSBridge")]).await;
    let text = "Open VSwitch is not installed (need package 'openvswitch-switch')";
    assert_eq!((ovs.status, ovs.reason.as_str()), (500, text));
    let bond = bench.call("POST", NETWORK, &[("iface", "bond0"), ("type", "bond")]).await;
    assert!(bond.reason.starts_with("the simulator's hosts have bridges alone"), "{bond:?}");
    for method in ["PUT", "DELETE", "GET"] {
        let form: &[_] = if method == "PUT" { &[("type", "bridge")] } else { &[] };
        let reply = bench.call(method, &format!("{NETWORK}/vmbr9"), form).await;
        assert_eq!((reply.status, reply.error("iface")), (400, "interface does not exist"));
    }
    let lost = bench.call("DELETE", &format!("{NETWORK}/vmbr0"), &[]).await;
    let text = "a simulated host cannot lose the interface that it is reached by";
    assert_eq!((lost.status, lost.reason.as_str()), (500, text));
    for (method, path) in [("POST", ""), ("PUT", ""), ("DELETE", ""), ("DELETE", "/vmbr0")] {
        let form: &[_] = if method == "POST" { &[("iface", "vmbr1"), bridge] } else { &[] };
        let reply = bench.as_token(&token, method, &format!("{NETWORK}{path}"), form).await;
        let text = "Permission check failed (/nodes/pve1, Sys.Modify)";
        assert_eq!((reply.status, reply.reason.as_str()), (403, text), "{method} {path}");
    }
    assert_eq!(bench.sim.digest(), before);
}
