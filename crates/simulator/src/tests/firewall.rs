//! The firewall's files: options, rules and IP sets.

use serde_json::{Value, json};

use super::{Bench, Reply};

const VM: &str = "/nodes/pve1/qemu/100/firewall";
const NODE: &str = "/nodes/pve1/firewall";

async fn bench() -> Bench {
    let bench = Bench::new().await;
    let form = [("vmid", "100"), ("scsi0", "local:1")];
    assert_eq!(bench.task("POST", "/nodes/pve1/qemu", &form).await, "OK");
    bench
}

fn ok(reply: &Reply) {
    assert_eq!((reply.status, reply.data()), (200, &Value::Null), "{reply:?}");
}

#[tokio::test]
async fn options_are_stored_with_their_digest_at_each_level() {
    let bench = bench().await;
    for (path, form, kept) in [
        (
            "/cluster/firewall/options".to_owned(),
            &[("enable", "1"), ("policy_in", "DROP")][..],
            json!({"enable": 1, "policy_in": "DROP"}),
        ),
        (
            format!("{NODE}/options"),
            &[("nosmurfs", "0"), ("nf_conntrack_max", "40000"), ("log_level_in", "info")],
            json!({"nosmurfs": 0, "nf_conntrack_max": 40000, "log_level_in": "info"}),
        ),
        (format!("{VM}/options"), &[("dhcp", "1"), ("enable", "1")], {
            json!({"dhcp": 1, "enable": 1})
        }),
    ] {
        let empty = bench.get(&path).await;
        assert_eq!(empty, json!({"digest": "da39a3ee5e6b4b0d3255bfef95601890afd80709"}));
        ok(&bench.call("PUT", &path, form).await);
        let mut seen = bench.get(&path).await;
        let digest = seen["digest"].take();
        seen.as_object_mut().unwrap().remove("digest");
        assert_eq!(seen, kept, "{path}");
        // What another client has changed meanwhile is not overwritten, and nothing else is changed.
        let before = bench.sim.digest();
        let stale = bench.call("PUT", &path, &[("enable", "0"), ("digest", "00")]).await;
        let text = "detected modified configuration - file changed by other user? Try again.";
        assert_eq!((stale.status, stale.reason.as_str()), (500, text));
        let wrong = bench.call("PUT", &path, &[("delete", "vmid")]).await;
        assert_eq!((wrong.status, wrong.error("delete")), (400, "no such option 'vmid'"));
        assert_eq!(bench.sim.digest(), before);
        let form = [("delete", form[0].0), ("digest", digest.as_str().unwrap())];
        ok(&bench.call("PUT", &path, &form).await);
        assert!(bench.get(&path).await.get(form[0].1).is_none());
        assert_ne!(bench.sim.digest(), before);
    }
}

#[tokio::test]
async fn a_trial_of_the_clusters_firewall_ends_after_a_minute() {
    let bench = Bench::new().await;
    let path = "/cluster/firewall/options";
    ok(&bench.call("PUT", path, &[("enable", "2")]).await);
    let since = bench.get(path).await["enable"].as_i64().unwrap();
    assert!(since > 1_000_000, "{since}");
    bench.sim.shared().clock.sleep(90.0).await;
    assert_eq!(bench.get(path).await["enable"], 0);
}

#[tokio::test]
async fn a_new_rule_comes_first_and_rules_are_moved_changed_and_deleted_by_position() {
    let bench = bench().await;
    for level in [VM, NODE] {
        let rules = format!("{level}/rules");
        assert_eq!(bench.get(&rules).await, json!([]));
        for port in ["22", "80", "443"] {
            let form = [
                ("type", "in"),
                ("action", "ACCEPT"),
                ("proto", "tcp"),
                ("dport", port),
                ("source", "10.0.0.0/8"),
                ("enable", "1"),
                ("comment", ""),
            ];
            ok(&bench.call("POST", &rules, &form).await);
        }
        let ports = |list: &Value| -> Vec<String> {
            let rules = list.as_array().unwrap().iter();
            rules.map(|rule| rule["dport"].as_str().unwrap_or("-").to_owned()).collect()
        };
        let list = bench.get(&rules).await;
        assert_eq!(ports(&list), ["443", "80", "22"]);
        let mut first = list[0].clone();
        first.as_object_mut().unwrap().remove("digest");
        let whole = json!({"pos": 0, "type": "in", "action": "ACCEPT", "proto": "tcp",
                           "dport": "443", "source": "10.0.0.0/8", "enable": 1, "ipversion": 4});
        assert_eq!(first, whole);
        ok(&bench.call("PUT", &format!("{rules}/2"), &[("moveto", "0")]).await);
        assert_eq!(ports(&bench.get(&rules).await), ["22", "443", "80"]);
        ok(&bench.call("PUT", &format!("{rules}/0"), &[("moveto", "9")]).await);
        assert_eq!(ports(&bench.get(&rules).await), ["443", "80", "22"]);
        ok(&bench.call("PUT", &format!("{rules}/0"), &[("moveto", "2")]).await);
        assert_eq!(ports(&bench.get(&rules).await), ["80", "443", "22"]);
        let form = [("delete", "dport,source"), ("enable", "0"), ("comment", "web")];
        ok(&bench.call("PUT", &format!("{rules}/0"), &form).await);
        let changed = bench.get(&format!("{rules}/0")).await;
        assert_eq!((&changed["enable"], &changed["comment"]), (&json!(0), &json!("web")));
        assert!(changed.get("source").is_none() && changed.get("ipversion").is_none());
        ok(&bench.call("DELETE", &format!("{rules}/0"), &[]).await);
        assert_eq!(ports(&bench.get(&rules).await), ["443", "22"]);
        for method in ["GET", "PUT", "DELETE"] {
            let reply = bench.call(method, &format!("{rules}/2"), &[]).await;
            let told = (reply.status, reply.reason.as_str());
            assert_eq!(told, (500, "no rule at position 2"), "{method}");
        }
    }
}

#[tokio::test]
async fn an_invalid_rule_is_refused_in_proxmox_words_and_not_written() {
    let bench = bench().await;
    let before = bench.sim.digest();
    for (form, name, text) in [
        (&[("type", "in")][..], "action", "property is missing and it is not optional"),
        (&[("type", "in"), ("action", "ALLOW")], "action", "unknown action 'ALLOW'"),
        (
            &[("type", "forward"), ("action", "DROP")],
            "type",
            "invalid rule type 'forward' for rule_env 'vm'",
        ),
        (
            &[("type", "in"), ("action", "DROP"), ("iface", "vmbr0")],
            "iface",
            "value does not match the regex pattern 'net\\d+'",
        ),
        (
            &[("type", "in"), ("action", "DROP"), ("dport", "22")],
            "proto",
            "missing property - 'dport' requires this property",
        ),
        (
            &[("type", "in"), ("action", "DROP"), ("proto", "igmp"), ("sport", "22")],
            "sport",
            "protocol 'igmp' does not support ports",
        ),
        (
            &[("type", "in"), ("action", "DROP"), ("proto", "tcp"), ("dport", "70000")],
            "dport",
            "invalid format - invalid port '70000'",
        ),
        (
            &[("type", "in"), ("action", "DROP"), ("proto", "icmp"), ("icmp-type", "no-route")],
            "icmp-type",
            "invalid icmp-type 'no-route' for proto 'icmp'",
        ),
        (
            &[("type", "in"), ("action", "DROP"), ("source", "fd00::/64"), ("dest", "10.0.0.1")],
            "dest",
            "detected mixed ipv4/ipv6 addresses in rule",
        ),
        (
            &[("type", "in"), ("action", "DROP"), ("source", "+web")],
            "source",
            "no such ipset 'web'",
        ),
        (
            &[("type", "in"), ("action", "DROP"), ("source", "dc/office")],
            "source",
            "no such alias 'dc/office'",
        ),
    ] {
        let reply = bench.call("POST", &format!("{VM}/rules"), form).await;
        assert_eq!((reply.status, reply.error(name)), (400, text), "{form:?}");
    }
    let form = [("type", "in"), ("action", "ACCEPT"), ("macro", "SSH")];
    let reply = bench.call("POST", &format!("{VM}/rules"), &form).await;
    assert_eq!(reply.reason, "the simulator knows no firewall macro 'SSH'");
    assert_eq!(bench.sim.digest(), before);
}

#[tokio::test]
async fn an_ip_set_contains_networks_and_a_rule_can_refer_to_it() {
    let bench = bench().await;
    let sets = format!("{VM}/ipset");
    ok(&bench.call("POST", &sets, &[("name", "web"), ("comment", "front")]).await);
    let reply = bench.call("POST", &sets, &[("name", "web")]).await;
    assert_eq!((reply.status, reply.error("name")), (400, "IPSet 'web' already exists"));
    let set = format!("{sets}/web");
    ok(&bench.call("POST", &set, &[("cidr", "10.0.0.7/8"), ("nomatch", "1")]).await);
    ok(&bench.call("POST", &set, &[("cidr", "10.0.0.1/32"), ("comment", "one")]).await);
    let mut list = bench.get(&set).await;
    for entry in list.as_array_mut().unwrap() {
        entry.as_object_mut().unwrap().remove("digest");
    }
    let kept =
        json!([{"cidr": "10.0.0.0/8", "nomatch": 1}, {"cidr": "10.0.0.1", "comment": "one"}]);
    assert_eq!(list, kept);
    let refs = bench.get(&format!("{VM}/refs")).await;
    let reference = json!({"type": "ipset", "name": "web", "ref": "+web", "scope": "guest",
                           "comment": "front"});
    assert_eq!(refs, json!([reference]));
    let form = [("type", "in"), ("action", "ACCEPT"), ("source", "+web")];
    ok(&bench.call("POST", &format!("{VM}/rules"), &form).await);
    let before = bench.sim.digest();
    for (method, path, form, name, text) in [
        ("POST", "", &[("cidr", "10.0.0.1")][..], "cidr", "address '10.0.0.1' already exists"),
        (
            "POST",
            "",
            &[("cidr", "0.0.0.0/0")],
            "cidr",
            "a zero prefix is not allowed in ipset entries",
        ),
        ("GET", "/10.9.0.0%2F16", &[], "cidr", "no such IP/Network"),
        ("PUT", "/10.9.0.0%2F16", &[("comment", "x")], "cidr", "no such IP/Network"),
    ] {
        let reply = bench.call(method, &format!("{set}{path}"), form).await;
        assert_eq!((reply.status, reply.error(name)), (400, text), "{method} {path}");
    }
    let reply = bench.call("DELETE", &set, &[]).await;
    assert_eq!((reply.status, reply.reason.as_str()), (500, "IPSet 'web' is not empty"));
    assert_eq!(bench.sim.digest(), before);
    ok(&bench.call("PUT", &format!("{set}/10.0.0.0/8"), &[("comment", "all")]).await);
    assert_eq!(bench.get(&format!("{set}/10.0.0.0%2F8")).await["comment"], "all");
    ok(&bench.call("DELETE", &format!("{set}/10.0.0.1"), &[]).await);
    ok(&bench.call("POST", &sets, &[("name", "shop"), ("rename", "web")]).await);
    let reply = bench.call("GET", &set, &[]).await;
    assert_eq!((reply.status, reply.reason.as_str()), (500, "no such IPSet 'web'"));
    ok(&bench.call("DELETE", &format!("{sets}/shop?force=1"), &[]).await);
    assert_eq!(bench.get(&sets).await, json!([]));
}

#[tokio::test]
async fn a_vms_firewall_is_cloned_and_destroyed_with_the_vm() {
    let bench = bench().await;
    ok(&bench.call("PUT", &format!("{VM}/options"), &[("enable", "1")]).await);
    let form = [("newid", "101"), ("full", "1")];
    assert_eq!(bench.task("POST", "/nodes/pve1/qemu/100/clone", &form).await, "OK");
    let copy = "/nodes/pve1/qemu/101";
    assert_eq!(bench.get(&format!("{copy}/firewall/options")).await["enable"], 1);
    assert_eq!(bench.task("DELETE", copy, &[]).await, "OK");
    let form = [("vmid", "101"), ("scsi0", "local:1")];
    assert_eq!(bench.task("POST", "/nodes/pve1/qemu", &form).await, "OK");
    assert!(bench.get(&format!("{copy}/firewall/options")).await.get("enable").is_none());
    assert_eq!(bench.get(&format!("{VM}/options")).await["enable"], 1);
}

#[tokio::test]
async fn a_user_without_the_privilege_cannot_change_a_firewall() {
    let bench = bench().await;
    let token = bench.user(&[("/", "VM.Audit,Sys.Audit")]).await;
    let before = bench.sim.digest();
    let rule = [("type", "in"), ("action", "DROP")];
    for (method, path, form, text) in [
        ("PUT", "/cluster/firewall/options", &[("enable", "1")][..], "/, Sys.Modify"),
        ("PUT", &format!("{NODE}/options"), &[("enable", "1")], "/nodes/pve1, Sys.Modify"),
        ("POST", &format!("{NODE}/rules"), &rule, "/nodes/pve1, Sys.Modify"),
        ("PUT", &format!("{VM}/options"), &[("enable", "1")], "/vms/100, VM.Config.Network"),
        ("POST", &format!("{VM}/rules"), &rule, "/vms/100, VM.Config.Network"),
        ("POST", &format!("{VM}/ipset"), &[("name", "web")], "/vms/100, VM.Config.Network"),
    ] {
        let reply = bench.as_token(&token, method, path, form).await;
        let text = format!("Permission check failed ({text})");
        assert_eq!((reply.status, reply.reason.as_str()), (403, text.as_str()), "{path}");
    }
    assert_eq!(bench.as_token(&token, "GET", &format!("{VM}/rules"), &[]).await.status, 200);
    assert_eq!(bench.sim.digest(), before);
}
