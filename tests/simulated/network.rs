//! The pod network: installed through the first master, waited for, and only once.

use serde_json::Value;

use crate::world::World;

const CILIUM: &str = "cni: { cilium: { version: 1.19.8, cli_version: 0.19.7 } }";

fn with_cni(cni: &str) -> World {
    let mut world = World::of("homelab");
    world.with_profile_of("homelab", "mine.yaml", &[(CILIUM, cni)]);
    world
}

fn ready(report: &Value) -> usize {
    report["kubectl"].as_str().unwrap().matches(" Ready ").count()
}

#[test]
fn calico_without_kube_proxy_gets_the_api_address_and_makes_all_nodes_ready() {
    let world = with_cni("cni: { calico: { version: 3.32.2 } }");
    let report = world.run(&["up", "--json"]).ok().json();
    assert_eq!(ready(&report), 5, "{report:#}");
    assert_eq!(world.run(&["up", "--json"]).ok().json()["verdict"], "settled");
    assert_eq!(world.run(&["status", "--json"]).ok().json()["healthy"], true);
}

#[test]
fn the_users_own_manifest_is_applied_with_the_clusters_pod_network() {
    let world = with_cni("cni: { manifest: cni.yaml }");
    world.write(
        "cni.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: net, namespace: kube-system}\ndata:\n  \
         net: ${K8SHA_POD_CIDR}\n---\napiVersion: apps/v1\nkind: DaemonSet\nmetadata:\n  name: mynet\n  \
         namespace: kube-system\n",
    );
    let report = world.run(&["up", "--json"]).ok().json();
    assert_eq!(ready(&report), 5, "{report:#}");
    let sim = k8sha_simulator::inspect::open(&world.path()).unwrap();
    let applied = k8sha_simulator::inspect::applied(&sim);
    assert_eq!(applied["configmap/net"]["data"]["net"], "10.244.0.0/16");
    assert_eq!(world.run(&["up", "--json"]).ok().json()["verdict"], "settled");
}

#[test]
fn an_unusable_manifest_is_refused_before_anything_is_created() {
    let world = with_cni("cni: { manifest: cni.yaml }");
    for (text, what) in [
        (None, "No such file"),
        (
            Some("kind: DaemonSet\nnet: ${K8SHA_NETWORK}\n"),
            "`${K8SHA_NETWORK}`, which is not a known variable",
        ),
    ] {
        if let Some(text) = text {
            world.write("cni.yaml", text);
        }
        for command in [&["up"][..], &["rebuild", "--yes"]] {
            let ran = world.run(command);
            assert_eq!(ran.code, 2, "{ran:#?}");
            assert!(ran.stderr.contains(what), "{}", ran.stderr);
        }
    }
    assert!(world.writes().is_empty(), "{:#?}", world.writes());
    // A read-only command needs no manifest.
    std::fs::remove_file(world.write("cni.yaml", "")).unwrap();
    world.run(&["plan", "--quiet"]).ok();
}

#[test]
fn a_render_of_the_first_master_shows_what_is_applied() {
    let world = with_cni("cni: { calico: { version: 3.32.2 } }");
    let first = world.run(&["render", "k8s-master1", "--quiet"]).ok().stdout;
    for part in
        ["---- cni of k8s-master1", "v3.32.2/manifests/tigera-operator.yaml", "linuxDataplane: BPF"]
    {
        assert!(first.contains(part), "no {part} in {first}");
    }
    let other = world.run(&["render", "k8s-master2", "--quiet"]).ok().stdout;
    assert!(!other.contains("---- cni"), "{other}");
}
