//! Complete kubeadm flows with the commands that the product sends.

use serde_json::Value;

use crate::guests::testing::{Bench, CERTIFICATE_KEY, TOKEN, join_yaml};

fn up(external: bool) -> Bench {
    let mut bench = Bench::new(external);
    bench.site_up();
    bench.init();
    bench.pass(60.0);
    bench
}

fn state(bench: &mut Bench, node: &str, verb: &str) -> String {
    let done = bench.run(node, &format!("systemctl is-active k8sha-kubeadm-{verb}"));
    done.stdout.trim().to_owned()
}

fn ready(bench: &mut Bench) -> Vec<(String, String)> {
    let nodes: Value = serde_json::from_str(&bench.kubectl("get nodes -o json")).unwrap();
    let ready = |node: &Value| {
        let found =
            node["status"]["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "Ready");
        found.unwrap()["status"].as_str().unwrap().to_owned()
    };
    let items = nodes["items"].as_array().unwrap();
    items
        .iter()
        .map(|node| (node["metadata"]["name"].as_str().unwrap().to_owned(), ready(node)))
        .collect()
}

#[test]
fn init_and_parallel_joins_with_an_external_etcd_create_a_cluster() {
    let mut bench = up(true);
    let log = bench.log("m1", "init");
    assert!(log.contains("Your Kubernetes control-plane has initialized successfully!"), "{log}");
    bench.join("m2", true);
    bench.join("m3", false);
    bench.pass(60.0);
    assert!(bench.log("m2", "join").contains("a new control plane instance was created"));
    assert!(bench.log("m3", "join").contains("This node has joined the cluster"));
    let names: Vec<_> = ready(&mut bench).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["m1.kloud.lan", "m2.kloud.lan", "m3.kloud.lan"]);
    bench.kubectl("label --overwrite node m3.kloud.lan node-role.kubernetes.io/worker=");
    let table = bench.kubectl("get nodes -o wide");
    let row = table.lines().find(|line| line.starts_with("m3")).unwrap();
    assert!(row.contains("worker") && row.contains("NotReady"), "{table}");
    let ready = bench.ok(
        "m1",
        "sudo -n -- curl -sS --max-time 5 --cacert /etc/kubernetes/pki/ca.crt \
        https://k8s1api.kloud.lan:6443/readyz",
    );
    assert_eq!(ready, "ok");
    assert!(bench.guests.etcd.as_ref().unwrap().holds_kubernetes());
}

#[test]
fn a_pod_network_makes_the_nodes_ready() {
    let mut bench = up(true);
    assert_eq!(ready(&mut bench)[0].1, "False");
    bench.put("m1", "/usr/local/lib/k8sha/cilium-cli", "#!/bin/sh\n");
    bench.ok("m1", "sudo -n -- /usr/local/lib/k8sha/cilium-cli v0.18.8");
    bench.ok(
        "m1",
        "sudo -n -- cilium install --kubeconfig /etc/kubernetes/admin.conf --version 1.18.4",
    );
    let wait = "sudo -n -- cilium status --kubeconfig /etc/kubernetes/admin.conf --wait --wait-duration 10m";
    let done = bench.run("m1", wait);
    assert_eq!(done.code, 0, "{}", done.stderr);
    bench.pass(done.seconds);
    assert_eq!(ready(&mut bench)[0].1, "True");
}

#[test]
fn init_without_the_etcd_files_names_the_missing_ones() {
    let mut bench = Bench::new(true);
    bench.site_up();
    bench.put("m1", "/etc/kubernetes/k8sha/init.yaml", &crate::guests::testing::init_yaml(true));
    bench.start("m1", "init");
    bench.pass(10.0);
    assert_eq!(state(&mut bench, "m1", "init"), "failed");
    let log = bench.log("m1", "init");
    assert!(log.contains("[ERROR ExternalEtcdClientCertificates]: /etc/kubernetes/pki/etcd/etcd-ca.crt doesn't exist"), "{log}");
}

#[test]
fn init_with_a_dead_etcd_member_names_it() {
    let mut bench = Bench::new(true);
    bench.guests.faults.insert(("etcd-member-down".to_owned(), "10.103.1.102".to_owned()));
    bench.site_up();
    bench.init();
    bench.pass(10.0);
    let log = bench.log("m1", "init");
    assert!(log.contains("dial tcp 10.103.1.102:2379: connect: connection refused"), "{log}");
}

#[test]
fn init_without_a_load_balancer_stops_where_it_needs_the_endpoint() {
    let mut bench = Bench::new(true);
    bench.site_up();
    bench.ok("lb1", "sudo -n -- systemctl stop haproxy");
    bench.ok("lb2", "sudo -n -- systemctl stop haproxy");
    bench.init();
    bench.pass(60.0);
    let log = bench.log("m1", "init");
    assert!(log.contains("error execution phase upload-config/kubeadm"), "{log}");
}

#[test]
fn a_join_before_init_reaches_a_load_balancer_without_servers() {
    let mut bench = Bench::new(true);
    bench.site_up();
    bench.put(
        "m2",
        "/etc/kubernetes/k8sha/join.yaml",
        &join_yaml("m2", true, TOKEN, CERTIFICATE_KEY, "sha256:00"),
    );
    bench.start("m2", "join");
    bench.pass(400.0);
    assert_eq!(state(&mut bench, "m2", "join"), "failed");
    let log = bench.log("m2", "join");
    assert!(log.contains("couldn't validate the identity of the API Server"), "{log}");
}

#[test]
fn joins_are_refused_with_a_wrong_token_pin_or_key() {
    let mut bench = up(true);
    let pin = bench.guests.kubes["external"].ca.pin().unwrap();
    let wrong_key = "f".repeat(64);
    let cases = [
        (
            "zzzzzz.0123456789abcdef",
            CERTIFICATE_KEY,
            pin.as_str(),
            "could not find a JWS signature",
        ),
        (TOKEN, CERTIFICATE_KEY, "sha256:00", "none of the public keys"),
        (TOKEN, &wrong_key, &pin, "cipher: message authentication failed"),
    ];
    for (token, key, pin, wanted) in cases {
        bench.put("m2", "/etc/kubernetes/k8sha/join.yaml", &join_yaml("m2", true, token, key, pin));
        bench.start("m2", "join");
        bench.pass(400.0);
        let log = bench.log("m2", "join");
        assert!(log.contains(wanted), "{wanted}: {log}");
        bench.ok("m2", "sudo -n -- systemctl reset-failed k8sha-kubeadm-join");
        bench.ok("m2", "sudo -n -- rm -f /var/log/k8sha/kubeadm-join.log");
    }
}

#[test]
fn uploaded_certificates_expire_after_two_hours_and_can_be_uploaded_again() {
    let mut bench = up(true);
    bench.pass(2.0 * 3600.0 + 1.0);
    bench.join("m2", true);
    bench.pass(30.0);
    let log = bench.log("m2", "join");
    assert!(
        log.contains("Secret \"kubeadm-certs\" was not found in the \"kube-system\" Namespace"),
        "{log}"
    );
    bench.ok("m1", "sudo -n -- kubeadm init phase upload-certs --upload-certs --config /etc/kubernetes/k8sha/init.yaml");
    bench.ok(
        "m2",
        "sudo -n -- kubeadm reset -f --cri-socket unix:///run/containerd/containerd.sock",
    );
    bench.ok("m2", "sudo -n -- systemctl reset-failed k8sha-kubeadm-join");
    bench.start("m2", "join");
    bench.pass(60.0);
    assert_eq!(state(&mut bench, "m2", "join"), "active");
}

#[test]
fn certificates_uploaded_without_the_configuration_lack_those_of_etcd() {
    let mut bench = up(true);
    let shown = bench.ok("m1", "sudo -n -- kubeadm init phase upload-certs --upload-certs");
    let key = shown.lines().last().unwrap().to_owned();
    let pin = bench.guests.kubes["external"].ca.pin().unwrap();
    bench.put("m2", "/etc/kubernetes/k8sha/join.yaml", &join_yaml("m2", true, TOKEN, &key, &pin));
    bench.start("m2", "join");
    bench.pass(30.0);
    let log = bench.log("m2", "join");
    assert!(log.contains("the Secret does not include the required certificate or key - name: external-etcd-ca.crt"), "{log}");
}

#[test]
fn a_token_expires_after_a_day_and_can_then_be_created_again() {
    let mut bench = up(true);
    let create = "sudo -n -- kubeadm token create --config /etc/kubernetes/k8sha/init.yaml";
    assert!(bench.run("m1", create).stderr.contains("already exists"));
    bench.pass(24.0 * 3600.0 + 60.0);
    assert_eq!(bench.ok("m1", create), format!("{TOKEN}\n"));
}

#[test]
fn parallel_joins_race_for_the_one_learner_of_a_stacked_etcd() {
    let mut bench = up(false);
    bench.join("m2", true);
    bench.join("m3", true);
    bench.pass(60.0);
    let logs = [bench.log("m2", "join"), bench.log("m3", "join")];
    assert_eq!(logs.iter().filter(|log| log.contains("too many learner members")).count(), 1);
    assert_eq!(logs.iter().filter(|log| log.contains("a new control plane instance")).count(), 1);
}

#[test]
fn a_second_init_fails_on_the_files_of_the_first() {
    let mut bench = up(true);
    bench.ok("m1", "sudo -n -- systemctl stop k8sha-kubeadm-init");
    bench.start("m1", "init");
    bench.pass(10.0);
    let log = bench.log("m1", "init");
    assert!(
        log.contains("[ERROR FileAvailable--etc-kubernetes-manifests-kube-apiserver.yaml]"),
        "{log}"
    );
    assert!(log.contains("[ERROR Port-6443]: Port 6443 is in use"), "{log}");
}

#[test]
fn a_cluster_survives_the_reboot_of_its_machines() {
    let mut bench = up(true);
    bench.ok("m1", "sudo -n -- systemctl reboot");
    bench.pass(5.0);
    bench.pass(60.0);
    assert_eq!(ready(&mut bench).len(), 1);
}

#[test]
fn a_wiped_etcd_loses_the_cluster_and_a_kept_one_has_its_nodes() {
    let mut bench = up(true);
    bench.ok("m1", "sudo -n -- kubeadm reset -f");
    assert!(bench.guests.kubes["external"].nodes.contains_key("m1.kloud.lan"));
    bench.guests.etcd.as_mut().unwrap().put("/k8sha/owner", String::new());
    let etcd = bench.guests.etcd.clone().unwrap();
    bench.put("m1", "/root/ca.crt", &etcd.ca.pair.cert);
    bench.put("m1", "/root/c.crt", &etcd.client.cert);
    bench.put("m1", "/root/c.key", &etcd.client.key);
    let wipe = "sudo -n -- curl -sS --max-time 5 --cacert /root/ca.crt --cert /root/c.crt --key /root/c.key \
        -d '{\"key\":\"L3JlZ2lzdHJ5Lw==\",\"range_end\":\"L3JlZ2lzdHJ5MA==\"}' \
        https://10.103.1.101:2379/v3/kv/deleterange";
    assert!(bench.ok("m1", wipe).contains("deleted"));
    assert!(bench.guests.kubes.is_empty());
    assert_eq!(bench.guests.etcd_keys(), ["/k8sha/owner"]);
    let untrusted = bench.run(
        "m1",
        "sudo -n -- curl -sS --max-time 5 --cacert /root/c.crt \
        https://10.103.1.101:2379/health",
    );
    assert_eq!(untrusted.code, 60);
    let bare = bench.run(
        "m1",
        "sudo -n -- curl -sS --max-time 5 --cacert /root/ca.crt \
        https://10.103.1.101:2379/health",
    );
    assert_eq!(bare.code, 56);
}

#[test]
fn secrets_and_config_maps_have_the_format_of_the_api_server() {
    let mut bench = up(true);
    let mut json = |rest: &str| -> Value { serde_json::from_str(&bench.kubectl(rest)).unwrap() };
    let certs = json("-n kube-system get secret kubeadm-certs -o json");
    let owner = certs["metadata"]["ownerReferences"][0]["name"].as_str().unwrap().to_owned();
    let tokens = json(
        "-n kube-system get secrets --field-selector type=bootstrap.kubernetes.io/token -o json",
    );
    let names: Vec<_> = tokens["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect();
    assert!(names.contains(&owner.as_str()) && names.contains(&"bootstrap-token-abcdef"));
    assert!(tokens["items"][0]["data"]["expiration"].is_string());
    let config = json("-n kube-system get configmap kubeadm-config -o json");
    assert!(
        config["data"]["ClusterConfiguration"].as_str().unwrap().contains("controlPlaneEndpoint")
    );
    let info = json("-n kube-public get configmap cluster-info -o json");
    assert!(info["data"]["jws-kubeconfig-abcdef"].is_string());
    assert_eq!(json("get pods -A -o json")["kind"], "List");
}
