//! The etcd on the masters: which members answer, the effect of a lost member, refused requests.

use serde_json::Value;

use super::disasters::{count, kubectl, replace_machine};
use crate::guests::commands::Output;
use crate::guests::history::What;
use crate::guests::testing::Bench;

/// Three masters.
fn masters() -> Bench {
    let mut bench = Bench::new(false);
    bench.site_up();
    bench.init();
    bench.pass(60.0);
    for node in ["m2", "m3"] {
        bench.join(node, true);
        bench.pass(60.0);
    }
    bench
}

/// A request to the etcd on a master, sent from that master.
fn etcd(bench: &mut Bench, from: &str, at: &str, path: &str, body: &str) -> Output {
    let files = "/etc/kubernetes/pki/etcd";
    bench.run(
        from,
        &format!(
            "sudo -n -- curl -sS --max-time 5 --cacert {files}/ca.crt --cert \
             {files}/healthcheck-client.crt --key {files}/healthcheck-client.key -d '{body}' \
             https://{at}:2379{path}"
        ),
    )
}

fn members(bench: &mut Bench, from: &str) -> Vec<Value> {
    let done = etcd(bench, from, "127.0.0.1", "/v3/cluster/member/list", "{}");
    assert_eq!(done.code, 0, "{}", done.stderr);
    let answer: Value = serde_json::from_str(&done.stdout).unwrap();
    answer["members"].as_array().unwrap_or_else(|| panic!("{answer}")).clone()
}

fn peers(bench: &mut Bench, from: &str) -> Vec<String> {
    let members = members(bench, from);
    let peer = |member: &Value| member["peerURLs"][0].as_str().unwrap().to_owned();
    members.iter().map(peer).collect()
}

#[test]
fn every_stacked_master_answers_for_its_etcd_and_only_to_root() {
    let mut bench = masters();
    for (node, last) in [("m1", 101), ("m2", 102), ("m3", 103)] {
        let own = format!("10.101.1.{last}");
        for at in ["127.0.0.1", "localhost", &own] {
            let status = etcd(&mut bench, node, at, "/v3/maintenance/status", "{}");
            let status: Value = serde_json::from_str(&status.stdout).unwrap();
            assert!(status["leader"].is_string(), "{status}");
        }
    }
    let listed = members(&mut bench, "m2");
    assert_eq!(listed.len(), 3);
    for member in &listed {
        assert!(member["name"].as_str().unwrap().ends_with(".kloud.lan"), "{member}");
        assert!(member["clientURLs"][0].as_str().unwrap().ends_with(":2379"));
        assert!(member["isLearner"].is_null());
    }
    let count =
        "{\"key\":\"L3JlZ2lzdHJ5Lw==\",\"range_end\":\"L3JlZ2lzdHJ5MA==\",\"count_only\":true}";
    let keys = etcd(&mut bench, "m3", "10.101.1.101", "/v3/kv/range", count);
    assert!(keys.stdout.contains("\"count\""), "{keys:?}");
    let files = "/etc/kubernetes/pki/etcd";
    let line = format!(
        "curl -sS --cacert {files}/ca.crt --cert {files}/healthcheck-client.crt --key \
         {files}/healthcheck-client.key https://127.0.0.1:2379/health"
    );
    assert_eq!(bench.run("m1", &line).code, 58);
    let other =
        "sudo -n -- curl -sS --cacert /etc/kubernetes/pki/ca.crt https://127.0.0.1:2379/health";
    assert_eq!(bench.run("m1", other).code, 60);
}

#[test]
fn a_dead_member_blocks_a_join_until_it_is_removed() {
    let mut bench = masters();
    replace_machine(&mut bench, "m3");
    assert_eq!(members(&mut bench, "m1").len(), 3);
    bench.join("m3", true);
    bench.pass(60.0);
    let log = bench.log("m3", "join");
    assert!(log.contains("error execution phase check-etcd: etcd cluster is not healthy"), "{log}");
    let gone = members(&mut bench, "m1");
    let gone = gone.iter().find(|m| m["peerURLs"][0] == "https://10.101.1.103:2380").unwrap();
    let add = "{\"peerURLs\":[\"https://10.101.1.109:2380\"],\"isLearner\":true}";
    let refused = etcd(&mut bench, "m1", "127.0.0.1", "/v3/cluster/member/add", add);
    assert!(refused.stdout.contains("etcdserver: unhealthy cluster"), "{refused:?}");
    let same = "{\"peerURLs\":[\"https://10.101.1.103:2380\"]}";
    let refused = etcd(&mut bench, "m1", "127.0.0.1", "/v3/cluster/member/add", same);
    assert!(refused.stdout.contains("etcdserver: Peer URLs already exists"), "{refused:?}");
    // A running member is never removed while another is down.
    let live = members(&mut bench, "m1");
    let live = live.iter().find(|m| m["peerURLs"][0] == "https://10.101.1.102:2380").unwrap();
    let id = format!("{{\"ID\":{}}}", live["ID"]);
    let refused = etcd(&mut bench, "m1", "127.0.0.1", "/v3/cluster/member/remove", &id);
    assert!(refused.stdout.contains("etcdserver: unhealthy cluster"), "{refused:?}");
    let id = format!("{{\"ID\":{}}}", gone["ID"]);
    let removed = etcd(&mut bench, "m1", "127.0.0.1", "/v3/cluster/member/remove", &id);
    assert!(removed.stdout.contains("members"), "{removed:?}");
    bench.ok("m3", "sudo -n -- kubeadm reset -f");
    bench.ok("m3", "sudo -n -- systemctl reset-failed k8sha-kubeadm-join");
    bench.start("m3", "join");
    bench.pass(60.0);
    assert!(bench.log("m3", "join").contains("a new control plane instance was created"));
    assert_eq!(peers(&mut bench, "m3").len(), 3);
    assert!(bench.guests.clusters()[0].members.values().all(|up| *up));
}

#[test]
fn without_a_quorum_no_request_is_served_and_no_member_can_be_removed() {
    let mut bench = masters();
    for node in ["m2", "m3"] {
        bench.guests.power_off(node, true, bench.guests.now);
        bench.guests.destroy(node);
    }
    bench.pass(10.0);
    let silent = kubectl(&mut bench, "m1", "get nodes");
    assert_eq!(silent.code, 1);
    let ill = bench.run("m1", "curl -sk https://10.101.1.101:6443/readyz");
    assert!(ill.stdout.contains("[-]etcd failed"), "{ill:?}");
    let list = etcd(&mut bench, "m1", "127.0.0.1", "/v3/cluster/member/list", "{}");
    assert!(list.stdout.contains("etcdserver: no leader"), "{list:?}");
    let status = etcd(&mut bench, "m1", "127.0.0.1", "/v3/maintenance/status", "{}");
    assert!(status.stdout.contains("\"errors\":[\"etcdserver: no leader\"]"), "{status:?}");
    let remove = etcd(&mut bench, "m1", "127.0.0.1", "/v3/cluster/member/remove", "{\"ID\":\"1\"}");
    assert!(remove.stdout.contains("etcdserver: no leader"), "{remove:?}");
    // The data still exists, and so does the cluster.
    assert_eq!(bench.guests.clusters()[0].members.len(), 3);
}

#[test]
fn a_reset_removes_the_master_from_its_etcd_if_possible() {
    let mut bench = masters();
    bench.ok("m3", "sudo -n -- kubeadm reset -f");
    assert_eq!(peers(&mut bench, "m1").len(), 2);
    for balancer in ["lb1", "lb2"] {
        bench.ok(balancer, "sudo -n -- systemctl stop haproxy");
    }
    let said = bench.ok("m2", "sudo -n -- kubeadm reset -f");
    assert!(said.contains("[reset] Failed to remove etcd member"), "{said}");
    assert!(!bench.guests.clusters()[0].members["10.101.1.102:2380"]);
}

#[test]
fn a_member_that_was_removed_does_not_start_with_its_old_data() {
    let mut bench = masters();
    let all = members(&mut bench, "m1");
    let third = all.iter().find(|m| m["peerURLs"][0] == "https://10.101.1.103:2380").unwrap();
    let id = format!("{{\"ID\":{}}}", third["ID"]);
    etcd(&mut bench, "m1", "127.0.0.1", "/v3/cluster/member/remove", &id);
    bench.ok("m3", "sudo -n -- systemctl reboot");
    bench.pass(60.0);
    let closed = etcd(&mut bench, "m3", "127.0.0.1", "/v3/maintenance/status", "{}");
    assert_eq!(closed.code, 7, "{closed:?}");
    let log = bench.ok("m3", "sudo -n -- cat /var/log/pods/kube-system_etcd/etcd/0.log");
    assert!(log.contains("the member has been permanently removed from the cluster"), "{log}");
    let refused = bench.run("m1", "curl -sk https://10.101.1.103:6443/readyz");
    assert_eq!(refused.code, 7);
    assert_eq!(count(&bench, |what| matches!(what, What::MemberRemoved { up: true, .. })), 1);
}

#[test]
fn a_stacked_cluster_survives_the_restart_of_all_its_machines() {
    let mut bench = masters();
    for node in ["m1", "m2", "m3"] {
        bench.ok(node, "sudo -n -- systemctl reboot");
    }
    bench.pass(120.0);
    assert_eq!(peers(&mut bench, "m1").len(), 3);
    assert_eq!(kubectl(&mut bench, "m1", "get nodes").code, 0);
}

#[test]
fn a_learner_whose_machine_dies_while_it_joins_remains_in_the_member_list() {
    let mut bench = Bench::new(false);
    bench.site_up();
    bench.init();
    bench.pass(60.0);
    bench.join("m2", true);
    let learns = |bench: &Bench| {
        let mut etcds = bench.guests.kubes.values().filter_map(|kube| kube.etcd.as_ref());
        etcds.any(|etcd| etcd.members.iter().any(|member| member.learner))
    };
    while !learns(&bench) {
        bench.pass(0.5);
    }
    replace_machine(&mut bench, "m2");
    let listed = members(&mut bench, "m1");
    assert_eq!(listed.iter().filter(|member| member["isLearner"] == true).count(), 1);
    bench.join("m3", true);
    bench.pass(60.0);
    let log = bench.log("m3", "join");
    assert!(
        log.contains("etcd cluster is not healthy") || log.contains("too many learner"),
        "{log}"
    );
}
