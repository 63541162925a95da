//! The objects that `kubectl` shows and stores, command by command.

use serde_json::{Value, json};

use crate::guests::testing::Bench;

fn up() -> Bench {
    let mut bench = Bench::new(true);
    bench.site_up();
    bench.init();
    bench.pass(60.0);
    bench
}

fn shown(bench: &mut Bench, rest: &str) -> Value {
    serde_json::from_str(&bench.kubectl(rest)).unwrap()
}

fn write(bench: &mut Bench, rest: &str, body: &Value) -> (u32, String) {
    let line = format!("sudo -n -- kubectl --kubeconfig /etc/kubernetes/admin.conf {rest}");
    let done = bench.guests.command("m1", "ops", &line, &body.to_string());
    (done.code, format!("{}{}", done.stdout, done.stderr))
}

fn map(value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"id": value},
        "metadata": {"name": "k8sha", "namespace": "kube-system"}})
}

#[test]
fn a_config_map_is_applied_created_once_read_by_namespace_and_deleted() {
    let mut bench = up();
    let none = write(&mut bench, "-n kube-system get configmap k8sha -o json", &Value::Null);
    assert!(none.0 == 1 && none.1.contains("(NotFound)"), "{none:?}");
    assert_eq!(write(&mut bench, "create -f -", &map("1")), (0, "configmap/k8sha created\n".into()));
    let again = write(&mut bench, "create -f -", &map("2"));
    assert!(again.0 == 1 && again.1.contains("(AlreadyExists)"), "{again:?}");
    let first = shown(&mut bench, "-n kube-system get configmap k8sha -o json");
    assert_eq!(first["data"]["id"], "1");
    let done = write(&mut bench, "apply -f -", &map("3"));
    assert_eq!(done, (0, "configmap/k8sha configured\n".into()));
    let done = write(&mut bench, "apply --server-side -f -", &map("4"));
    assert_eq!(done, (0, "configmap/k8sha serverside-applied\n".into()));
    let last = shown(&mut bench, "-n kube-system get configmap k8sha -o json");
    assert_eq!((&last["data"]["id"], &last["metadata"]["uid"]), (&"4".into(), &first["metadata"]["uid"]));
    let elsewhere = write(&mut bench, "-n kube-public get configmap k8sha -o json", &Value::Null);
    assert!(elsewhere.1.contains("(NotFound)"), "{elsewhere:?}");
    bench.kubectl("-n kube-system delete configmap k8sha");
    let gone = write(&mut bench, "-n kube-system get configmap k8sha -o json", &Value::Null);
    assert!(gone.1.contains("(NotFound)"), "{gone:?}");
}

#[test]
fn a_large_object_requires_server_side_apply() {
    let mut bench = up();
    let mut large = map("1");
    large["data"]["id"] = "x".repeat(300_000).into();
    assert!(write(&mut bench, "apply -f -", &large).1.contains("Too long"));
    assert_eq!(write(&mut bench, "apply --server-side -f -", &large).0, 0);
}

#[test]
fn the_cluster_configuration_is_the_one_given_to_init() {
    let mut bench = up();
    let map = shown(&mut bench, "-n kube-system get configmap kubeadm-config -o json");
    let text = map["data"]["ClusterConfiguration"].as_str().unwrap();
    let stored: Value = serde_saphyr::from_str(text).unwrap();
    assert_eq!(stored["clusterName"], "k8s1-cluster");
    assert_eq!(stored["controlPlaneEndpoint"], "k8s1api.kloud.lan:6443");
    assert_eq!(stored["networking"]["serviceSubnet"], "198.18.0.0/23");
    assert_eq!(stored["networking"]["dnsDomain"], "cluster.local");
    assert_eq!(stored["etcd"]["external"]["endpoints"].as_array().unwrap().len(), 2);
    let kubelet = shown(&mut bench, "-n kube-system get configmap kubelet-config -o json");
    assert!(kubelet["data"]["kubelet"].as_str().unwrap().contains("cgroupDriver: systemd"));
}

#[test]
fn a_cluster_is_identified_by_its_kube_system_namespace() {
    let mut bench = up();
    let one = shown(&mut bench, "get namespace kube-system -o json");
    let all = shown(&mut bench, "get ns -o json");
    let system = all["items"].as_array().unwrap().iter().find(|ns| ns["metadata"]["name"] == "kube-system");
    assert_eq!(system.unwrap()["metadata"]["uid"], one["metadata"]["uid"]);
    let name = "default";
    let other = shown(&mut bench, &format!("get namespace {name} -o json"));
    assert_ne!(other["metadata"]["uid"], one["metadata"]["uid"]);
    bench.ok("m1", "sudo -n -- systemctl reboot");
    bench.pass(60.0);
    assert_eq!(shown(&mut bench, "get namespace kube-system -o json"), one);
    assert!(bench.kubectl("get --raw /version").contains("\"gitVersion\": \"v1.28.4\""));
    assert_eq!(bench.kubectl("get --raw /readyz"), "ok");
}

#[test]
fn workloads_have_the_versions_of_their_images() {
    let mut bench = up();
    let images = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap().iter();
        let image = |item: &Value| item["spec"]["template"]["spec"]["containers"][0]["image"].clone();
        items.map(|item| image(item).as_str().unwrap().to_owned()).collect()
    };
    let daemons = shown(&mut bench, "get daemonsets -A -o json");
    assert_eq!(images(&daemons), ["registry.k8s.io/kube-proxy:v1.28.4"]);
    let deployments = shown(&mut bench, "get deployments -A -o json");
    assert_eq!(images(&deployments), ["registry.k8s.io/coredns/coredns:v1.10.1"]);
    bench.put("m1", "/usr/local/lib/k8sha/cilium-cli", "#!/bin/sh\n");
    bench.ok("m1", "sudo -n -- /usr/local/lib/k8sha/cilium-cli v0.18.8");
    bench.ok("m1", "sudo -n -- cilium install --kubeconfig /etc/kubernetes/admin.conf --version 1.18.4");
    bench.pass(60.0);
    let cilium = shown(&mut bench, "-n kube-system get daemonset cilium -o json");
    let template = &cilium["spec"]["template"]["spec"];
    assert_eq!(template["containers"][0]["image"], "quay.io/cilium/cilium:v1.18.4");
    let own = shown(&mut bench, "-n default get daemonsets -o json");
    assert_eq!(images(&own), Vec::<String>::new());
}

#[test]
fn the_calico_version_is_that_of_the_applied_operator() {
    let mut bench = up();
    let url = "https://raw.githubusercontent.com/projectcalico/calico/v3.31.2/manifests/tigera-operator.yaml";
    let bare = write(&mut bench, &format!("apply -f {url}"), &Value::Null);
    assert!(bare.1.contains("Too long"), "{bare:?}");
    bench.kubectl(&format!("apply --server-side -f {url}"));
    bench.pass(20.0);
    let installation = json!({"apiVersion": "operator.tigera.io/v1", "kind": "Installation",
        "metadata": {"name": "default"}, "spec": {}});
    assert_eq!(write(&mut bench, "apply --server-side -f -", &installation).0, 0);
    bench.pass(60.0);
    let node = shown(&mut bench, "-n calico-system get daemonset calico-node -o json");
    let image = &node["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(*image, "quay.io/calico/node:v3.31.2");
    let operator = shown(&mut bench, "-n tigera-operator get deployment tigera-operator -o json");
    assert_eq!(operator["kind"], "Deployment");
}

#[test]
fn a_node_can_be_annotated_and_cordoned_and_has_a_lease() {
    let mut bench = up();
    let done = bench.kubectl("annotate --overwrite node m1.kloud.lan k8sha/step=join");
    assert_eq!(done, "node/m1.kloud.lan annotated\n");
    bench.kubectl("cordon m1.kloud.lan");
    let node = shown(&mut bench, "get node m1.kloud.lan -o json");
    assert_eq!(node["metadata"]["annotations"]["k8sha/step"], "join");
    assert_eq!(node["spec"]["unschedulable"], true);
    let lease = shown(&mut bench, "-n kube-node-lease get lease m1.kloud.lan -o json");
    assert_eq!(lease["spec"]["holderIdentity"], "m1.kloud.lan");
}
