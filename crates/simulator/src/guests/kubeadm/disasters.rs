//! The effect on a running cluster when machines are lost, come back, or are initialised again.

use serde_json::Value;

use crate::guests::commands::Output;
use crate::guests::history::What;
use crate::guests::testing::{Bench, CERTIFICATE_KEY, TOKEN, join_yaml};

/// Two masters and a worker, with a network.
fn cluster(external: bool) -> Bench {
    let mut bench = Bench::new(external);
    bench.site_up();
    bench.init();
    bench.pass(60.0);
    bench.join("m2", true);
    bench.join("m3", false);
    bench.pass(60.0);
    bench.put("m1", "/usr/local/lib/k8sha/cilium-cli", "#!/bin/sh\n");
    bench.ok("m1", "sudo -n -- /usr/local/lib/k8sha/cilium-cli v0.18.8");
    bench.ok(
        "m1",
        "sudo -n -- cilium install --kubeconfig /etc/kubernetes/admin.conf --version 1.18.4",
    );
    bench.pass(60.0);
    bench
}

pub(super) fn kubectl(bench: &mut Bench, node: &str, rest: &str) -> Output {
    bench.run(node, &format!("sudo -n -- kubectl --kubeconfig /etc/kubernetes/admin.conf {rest}"))
}

fn json(bench: &mut Bench, node: &str, rest: &str) -> Value {
    let done = kubectl(bench, node, rest);
    assert_eq!(done.code, 0, "{rest}: {}", done.stderr);
    serde_json::from_str(&done.stdout).unwrap()
}

/// The status of a node's condition `Ready`.
fn ready(bench: &mut Bench, from: &str, node: &str) -> String {
    let node = json(bench, from, &format!("get node {node}.kloud.lan -o json"));
    let conditions = node["status"]["conditions"].as_array().unwrap();
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready").unwrap();
    ready["status"].as_str().unwrap().to_owned()
}

/// A machine is destroyed, and a new one with its name and address is created.
pub(super) fn replace_machine(bench: &mut Bench, node: &str) {
    bench.guests.power_off(node, true, bench.guests.now);
    bench.guests.destroy(node);
    bench.boot(node, crate::guests::testing::KUBERNETES);
    bench.pass(120.0);
}

pub(super) fn count(bench: &Bench, wanted: impl Fn(&What) -> bool) -> usize {
    bench.guests.history().iter().filter(|act| wanted(&act.what)).count()
}

#[test]
fn an_init_on_the_keys_of_a_running_cluster_splits_it() {
    let mut bench = cluster(true);
    let uid =
        json(&mut bench, "m1", "get namespace kube-system -o json")["metadata"]["uid"].clone();
    let pin = bench.guests.clusters()[0].ca.clone();
    replace_machine(&mut bench, "m1");
    assert_eq!(ready(&mut bench, "m2", "m1"), "Unknown");
    assert_eq!(ready(&mut bench, "m2", "m3"), "True");
    bench.init();
    bench.pass(60.0);
    assert!(bench.log("m1", "init").contains("initialized successfully"));
    // A second CA, on the old data.
    assert_eq!(count(&bench, |what| matches!(what, What::Authority { .. })), 2);
    assert_eq!(count(&bench, |what| matches!(what, What::Overwritten { .. })), 1);
    let torn = bench.guests.clusters().remove(0);
    assert_ne!(torn.ca, pin);
    assert_eq!((&torn.servers["m1"], &torn.servers["m2"]), (&torn.ca, &pin));
    let now = json(&mut bench, "m1", "get ns kube-system -o json");
    assert_eq!(now["metadata"]["uid"], uid);
    assert_eq!(json(&mut bench, "m1", "get nodes -o json")["items"].as_array().unwrap().len(), 3);
    // The other nodes' clients do not trust the CA of the API server that answers them.
    let refused = kubectl(&mut bench, "m2", "get nodes");
    assert!(
        refused.stderr.contains("x509: certificate signed by unknown authority"),
        "{refused:?}"
    );
    bench.pass(60.0);
    assert_eq!(ready(&mut bench, "m1", "m3"), "Unknown");
    assert_eq!(ready(&mut bench, "m1", "m1"), "True");
    let journal = bench.ok("m3", "sudo -n -- journalctl -u kubelet -n 5");
    assert!(journal.contains("x509"), "{journal}");
}

#[test]
fn each_api_server_presents_a_certificate_of_its_own_ca() {
    let mut bench = cluster(true);
    let old = bench.guests.all["m2"].text("/etc/kubernetes/pki/ca.crt").unwrap().to_owned();
    replace_machine(&mut bench, "m1");
    let closed = bench.run("m2", "curl -sS --max-time 3 -k https://10.101.1.101:6443/readyz");
    assert_eq!(closed.code, 7, "{closed:?}");
    bench.init();
    bench.pass(60.0);
    for node in ["m1", "m2"] {
        bench.put(node, "/root/old.crt", &old);
    }
    let ask = |at: &str, how: &str| {
        format!("sudo -n -- curl -sS --max-time 3 {how} https://{at}:6443/readyz")
    };
    for at in ["10.101.1.101", "k8s1api.kloud.lan"] {
        let stranger = bench.run("m2", &ask(at, "--cacert /root/old.crt"));
        assert_eq!(stranger.code, 60);
        assert!(stranger.stderr.contains("unable to get local issuer certificate"));
    }
    assert_eq!(bench.ok("m1", &ask("10.101.1.102", "--cacert /root/old.crt")), "ok");
    assert_eq!(
        bench.run("m2", &ask("10.101.1.102", "--cacert /etc/kubernetes/pki/sa.pub")).code,
        60
    );
    assert_eq!(bench.ok("m2", &ask("10.101.1.101", "-k")), "ok");
    let forbidden = bench.ok("m2", "curl -sk https://10.101.1.102:6443/api/v1/nodes");
    assert!(forbidden.contains("\"code\":403"));
    let failed = bench.run("m2", "curl -skf https://10.101.1.102:6443/api/v1/nodes");
    assert_eq!(failed.code, 22);
    let version = bench.ok("m2", "curl -sk https://10.101.1.102:6443/version");
    assert!(version.contains("\"gitVersion\": \"v1.28.4\""), "{version}");
}

#[test]
fn an_init_on_a_recreated_stacked_master_creates_another_cluster() {
    let mut bench = cluster(false);
    let before = bench.guests.clusters().remove(0);
    replace_machine(&mut bench, "m1");
    bench.init();
    bench.pass(60.0);
    let clusters = bench.guests.clusters();
    assert_eq!(clusters.len(), 2, "{clusters:#?}");
    let new = clusters.iter().find(|cluster| cluster.uid != before.uid).unwrap();
    assert_ne!(new.ca, before.ca);
    assert_eq!(new.nodes.len(), 1);
    assert_eq!(count(&bench, |what| matches!(what, What::Cluster { .. })), 2);
}

#[test]
fn an_init_with_an_existing_ca_creates_none() {
    let mut bench = Bench::new(false);
    bench.site_up();
    let ca = crate::guests::pki::Authority::new("kubernetes", 1_794_999_000).unwrap();
    bench.put("m1", "/etc/kubernetes/pki/ca.crt", &ca.pair.cert);
    bench.init();
    bench.pass(30.0);
    assert!(bench.log("m1", "init").contains("failure loading key for CA"));
    bench.put("m1", "/etc/kubernetes/pki/ca.key", &ca.pair.key);
    bench.ok("m1", "sudo -n -- systemctl reset-failed k8sha-kubeadm-init");
    bench.start("m1", "init");
    bench.pass(60.0);
    assert_eq!(bench.guests.clusters()[0].ca, ca.pin().unwrap());
}

#[test]
fn a_node_outlives_its_machine_and_shows_the_last_report() {
    let mut bench = cluster(true);
    let info = |bench: &mut Bench| {
        json(bench, "m1", "get node m3.kloud.lan -o json")["status"]["nodeInfo"].clone()
    };
    let own = |bench: &mut Bench| {
        let id = bench.ok("m3", "cat /etc/machine-id").trim().to_owned();
        let uuid = bench.ok("m3", "sudo -n -- cat /sys/class/dmi/id/product_uuid");
        (id, uuid.trim().to_owned())
    };
    let before = own(&mut bench);
    let seen = info(&mut bench);
    assert_eq!(
        (&seen["machineID"], &seen["systemUUID"]),
        (&before.0.as_str().into(), &before.1.as_str().into())
    );
    assert_eq!(bench.run("m3", "cat /sys/class/dmi/id/product_uuid").code, 1);
    replace_machine(&mut bench, "m3");
    let now = own(&mut bench);
    assert_ne!(now.0, before.0);
    assert_ne!(now.1, before.1);
    assert_eq!(info(&mut bench), seen);
    assert_eq!(ready(&mut bench, "m1", "m3"), "Unknown");
    // It adopts the Node of its name, which keeps its identity.
    let uid = json(&mut bench, "m1", "get node m3.kloud.lan -o json")["metadata"]["uid"].clone();
    bench.join("m3", false);
    bench.pass(60.0);
    let node = json(&mut bench, "m1", "get node m3.kloud.lan -o json");
    assert_eq!(node["metadata"]["uid"], uid);
    assert_eq!(node["status"]["nodeInfo"]["machineID"], now.0.as_str());
    assert_eq!(ready(&mut bench, "m1", "m3"), "True");
}

#[test]
fn a_join_under_the_name_of_a_node_in_use_is_refused() {
    let mut bench = cluster(true);
    bench.boot("x9", crate::guests::testing::KUBERNETES);
    bench.pass(120.0);
    let pin = bench.guests.clusters()[0].ca.clone();
    let text = join_yaml("x9", false, TOKEN, CERTIFICATE_KEY, &pin).replace("x9.", "m3.");
    bench.put("x9", "/etc/kubernetes/k8sha/join.yaml", &text);
    bench.start("x9", "join");
    bench.pass(60.0);
    let log = bench.log("x9", "join");
    let words =
        "a Node with name \"m3.kloud.lan\" and status \"Ready\" already exists in the cluster";
    assert!(log.contains(words), "{log}");
}

#[test]
fn a_deleted_node_comes_back_when_its_kubelet_starts_again() {
    let mut bench = cluster(true);
    assert_eq!(kubectl(&mut bench, "m1", "delete node m3.kloud.lan").code, 0);
    bench.pass(120.0);
    assert!(kubectl(&mut bench, "m1", "get node m3.kloud.lan").stderr.contains("(NotFound)"));
    bench.ok("m3", "sudo -n -- systemctl restart kubelet");
    bench.pass(10.0);
    assert_eq!(kubectl(&mut bench, "m1", "get node m3.kloud.lan").code, 0);
    assert_eq!(count(&bench, |what| matches!(what, What::NodeDeleted { ready: true, .. })), 1);
}

#[test]
fn a_reset_of_a_node_in_use_is_recorded() {
    let mut bench = cluster(true);
    bench.ok("m3", "sudo -n -- kubeadm reset -f");
    bench.ok("m3", "sudo -n -- kubeadm reset -f");
    let node = Some("m3.kloud.lan".to_owned());
    assert_eq!(count(&bench, |what| *what == What::Reset { node: node.clone(), ready: true }), 1);
    assert_eq!(count(&bench, |what| *what == What::Reset { node: None, ready: false }), 1);
    bench.pass(60.0);
    assert_eq!(ready(&mut bench, "m1", "m3"), "Unknown");
}
