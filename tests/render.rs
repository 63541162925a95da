//! A node's documents, verbatim: the seeds and the kubeadm configurations.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail by panicking")]

mod kit {
    pub mod golden;
}
// The same file as the library's unit tests use; its `super` is this file.
#[path = "../src/cluster/fixture.rs"]
mod fixture;

use k8sha::cloudinit::{KEPT, NodeSecrets, Seed, Templates, render};
use k8sha::cluster::*;
use k8sha::kubeadm::config::{self, Join, Keys};
use kit::golden::assert_golden;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

fn secrets() -> NodeSecrets {
    let pem = "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----\n";
    NodeSecrets {
        host_key_private: pem.into(),
        host_key_public: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHost".to_owned(),
        operator_public: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK8sha k8sha".to_owned(),
    }
}

fn seed(cluster: &Cluster, node: &Node) -> Seed {
    let id = format!("{}-{}-1", cluster.name, node.name);
    render(&Templates::builtin().unwrap(), cluster, node, &secrets(), &id).unwrap()
}

fn user_data(seed: &Seed) -> Value {
    serde_saphyr::from_str(seed.user_data.expose_secret()).unwrap()
}

fn written<'a>(user_data: &'a Value, path: &str) -> Option<&'a str> {
    let files = user_data["write_files"].as_array().unwrap();
    files.iter().find(|file| file["path"] == path).map(|file| file["content"].as_str().unwrap())
}

fn node<'a>(cluster: &'a Cluster, name: &str) -> &'a Node {
    cluster.nodes.iter().find(|node| node.name.as_str() == name).unwrap()
}

#[test]
fn the_seeds_match_the_golden_files() {
    let (k8s1, homelab, own_etcd) = (fixture::k8s1(), fixture::homelab(), fixture::own_etcd());
    for (cluster, name) in [
        (&own_etcd, "k8s1etcd1"),
        (&k8s1, "k8s1vrrp1"),
        (&k8s1, "k8s1master1"),
        (&homelab, "k8s1vrrp2"),
        (&homelab, "k8s1master2"),
        (&homelab, "k8s1worker1"),
    ] {
        let seed = seed(cluster, node(cluster, name));
        let text = format!(
            "{}\n--- meta-data\n{}\n--- network-config\n{}",
            seed.masked(),
            seed.meta_data,
            seed.network_config
        );
        assert_golden(&format!("seed/{}-{name}.txt", cluster.name), &text);
    }
}

/// A site without Internet access: everything comes from mirrors.
fn offline(mut cluster: Cluster) -> Cluster {
    let mirror = |path: &str| Some(format!("https://mirror.lan/{path}"));
    cluster.mirrors = Mirrors {
        apt: Some("http://mirror.lan/ubuntu".to_owned()),
        kubernetes: mirror("k8s"),
        docker: mirror("docker"),
        kernels: mirror("kernels"),
        registries: [
            ("docker.io".to_owned(), vec!["https://registry.lan/v2/hub".to_owned()]),
            (
                "registry.k8s.io".to_owned(),
                vec!["https://registry.lan".to_owned(), "http://10.101.1.5:5000".to_owned()],
            ),
        ]
        .into(),
    };
    cluster.kubernetes.image_repository = Some("registry.lan/k8s".to_owned());
    cluster.kubernetes.image_archives = vec![
        ImageArchive::Node("/var/lib/images/k8s.tar".into()),
        ImageArchive::Download {
            url: "https://mirror.lan/images/pause.tar".to_owned(),
            sha256: "ab".repeat(32),
        },
    ];
    cluster
}

#[test]
fn a_site_without_internet_access_gets_its_mirrors() {
    let cluster = offline(fixture::k8s1());
    for name in ["k8s1vrrp1", "k8s1master1"] {
        let seed = seed(&cluster, node(&cluster, name));
        assert_golden(&format!("seed/offline-{name}.txt"), seed.masked());
        for usual in ["pkgs.k8s.io", "download.docker.com", "kernel.ubuntu.com"] {
            let told = |line: &&str| line.contains(usual) && !line.trim_start().starts_with('#');
            // A URL in a script's comment is not one that it contacts.
            let asked: Vec<&str> = seed.masked().lines().filter(told).collect();
            assert!(asked.is_empty(), "{name}: {asked:?}");
        }
    }
    let keys =
        Keys { token: "abcdef.0123456789abcdef".into(), certificate_key: "ab".repeat(32).into() };
    let init = config::init(&cluster, cluster.first_master(), &keys).unwrap();
    let text = init.text().expose_secret();
    assert!(text.contains("\nimageRepository: registry.lan/k8s\n"), "{text}");
}

#[test]
fn images_are_imported_after_containerd_runs_and_before_kubelet() {
    let cluster = offline(fixture::k8s1());
    let data = user_data(&seed(&cluster, node(&cluster, "k8s1master1")));
    let commands: Vec<String> =
        data["runcmd"].as_array().unwrap().iter().map(ToString::to_string).collect();
    let at = |part: &str| commands.iter().position(|line| line.contains(part)).unwrap();
    let runs = at(r#""--now","containerd""#);
    let path = at("/var/lib/images/k8s.tar");
    let download = at("https://mirror.lan/images/pause.tar");
    assert!(runs < path && path < download && download < at("kubelet\"]"), "{commands:#?}");
    assert!(commands[download].contains(&"ab".repeat(32)));
    let containerd = written(&data, "/usr/local/lib/k8sha/containerd").unwrap();
    assert_eq!(containerd.matches("/etc/containerd/certs.d").count(), 2, "{containerd}");
    let hub = written(&data, "/etc/containerd/certs.d/docker.io/hosts.toml").unwrap();
    assert_eq!(
        hub,
        "server = \"https://registry-1.docker.io\"\n\n[host.\"https://registry.lan/v2/hub\"]\n  \
         capabilities = [\"pull\", \"resolve\"]\n  override_path = true\n"
    );
}

#[test]
fn the_pod_networks_match_the_golden_files() {
    let calico = |proxy, dataplane| {
        let mut cluster = fixture::k8s1();
        cluster.kubernetes.proxy = proxy;
        cluster.kubernetes.cni = Cni::Calico { version: "3.32.2".to_owned(), dataplane };
        cluster
    };
    let mut beside = fixture::homelab();
    beside.kubernetes.proxy = ProxyMode::Nftables;
    for (name, cluster) in [
        ("calico-ebpf.yaml", calico(ProxyMode::None, CalicoDataplane::Ebpf)),
        ("calico-iptables.yaml", calico(ProxyMode::Ipvs, CalicoDataplane::Iptables)),
        ("calico-nftables.yaml", calico(ProxyMode::Nftables, CalicoDataplane::Nftables)),
        ("cilium-alone.txt", fixture::homelab()),
        ("cilium-beside-kube-proxy.txt", beside),
    ] {
        let text = k8sha::kubeadm::cni::rendered(&cluster).unwrap().unwrap();
        assert_golden(&format!("cni/{name}"), &text);
    }
}

#[test]
fn the_users_own_manifest_is_filled_in_and_otherwise_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cni.yaml");
    let mut cluster = fixture::k8s1();
    cluster.kubernetes.cni = Cni::Manifest(path.clone());
    let render = |text: &str| {
        std::fs::write(&path, text).unwrap();
        k8sha::kubeadm::cni::rendered(&cluster).map_err(|error| error.to_string())
    };
    assert_eq!(
        render("kind: ConfigMap\na: ${K8SHA_POD_CIDR} ${K8SHA_SERVICE_CIDR}\nb: $X ${Y} {{ z }}\n")
            .unwrap(),
        Some("kind: ConfigMap\na: 100.64.0.0/16 198.18.0.0/23\nb: $X ${Y} {{ z }}\n".to_owned())
    );
    assert_eq!(
        render("- kind: List\n  at: https://${K8SHA_API_HOST}:${K8SHA_API_PORT}\n").unwrap(),
        Some("- kind: List\n  at: https://k8s1api.kloud.lan:6443\n".to_owned())
    );
    let unknown = render("kind: A\nb: ${K8SHA_PODS}\n").unwrap_err();
    assert!(unknown.contains("`${K8SHA_PODS}`, which is not a known variable"), "{unknown}");
    assert!(render("a: b\n").unwrap_err().contains("no Kubernetes object"));
    std::fs::remove_file(&path).unwrap();
    let gone = k8sha::kubeadm::cni::rendered(&cluster).unwrap_err().to_string();
    assert!(gone.contains("cannot read") && gone.contains("cni.yaml"), "{gone}");
}

#[test]
fn the_kubeadm_configurations_match_the_golden_files() {
    let keys =
        Keys { token: "abcdef.0123456789abcdef".into(), certificate_key: "ab".repeat(32).into() };
    let join = Join {
        token: keys.token.clone(),
        ca_hashes: vec![format!("sha256:{}", "cd".repeat(32))],
        certificate_key: Some(keys.certificate_key.clone()),
    };
    for (major, minor, patch) in [(1, 28, 4), (1, 31, 0), (1, 37, 1)] {
        let version = Version { major, minor, patch };
        let mut external = fixture::k8s1();
        external.kubernetes.version = version;
        let mut stacked = fixture::homelab();
        stacked.kubernetes.version = version;
        if minor == 31 {
            stacked.kubernetes.proxy = ProxyMode::Nftables;
        }
        for cluster in [external, stacked] {
            let etcd = if cluster.etcd == Etcd::Stacked { "stacked" } else { "external" };
            let name = |what: &str| format!("kubeadm/{version}-{etcd}-{what}.yaml");
            let init = config::init(&cluster, cluster.first_master(), &keys).unwrap();
            assert_golden(&name("init"), init.text().expose_secret());
            let master = node(&cluster, "k8s1master2");
            let joined = config::join(&cluster, master, &join).unwrap();
            assert_golden(&name("join-master"), joined.text().expose_secret());
            if let Some(worker) = cluster.with_role(Role::Worker).next() {
                let joined = config::join(&cluster, worker, &join).unwrap();
                assert_golden(&name("join-worker"), joined.text().expose_secret());
            }
        }
    }
}

#[test]
fn shown_documents_differ_from_the_real_ones_only_in_the_private_key() {
    let cluster = fixture::k8s1();
    for node in &cluster.nodes {
        let seed = seed(&cluster, node);
        let mut truth = user_data(&seed);
        assert_eq!(
            truth["ssh_keys"]["ed25519_private"],
            secrets().host_key_private.expose_secret()
        );
        truth["ssh_keys"]["ed25519_private"] = json!("(masked)");
        let shown: Value = serde_saphyr::from_str(seed.masked()).unwrap();
        assert_eq!(shown, truth);
        assert!(!format!("{seed:?}").contains("c2VjcmV0"));
    }
}

#[test]
fn the_same_documents_give_the_same_image_under_the_same_name() {
    let cluster = fixture::k8s1();
    let master = node(&cluster, "k8s1master1");
    let image = seed(&cluster, master).image();
    let again = seed(&cluster, master).image();
    assert_eq!((&image.hashes, &image.bytes), (&again.hashes, &again.bytes));
    assert!(image.bytes.len() < 100_000, "{} bytes", image.bytes.len());
    let mut other = master.clone();
    other.ip = [10, 101, 1, 150].into();
    let other = seed(&cluster, &other).image();
    assert_ne!(image.hashes, other.hashes);
}

#[test]
fn reloaded_balancer_files_equal_those_of_cloud_init_and_have_their_own_hash() {
    let cluster = fixture::k8s1();
    let hashes = |cluster: &Cluster| {
        let node = node(cluster, "k8s1vrrp1");
        let hashes = seed(cluster, node).image().hashes;
        let (rest, all) = hashes.split_at(12);
        assert_eq!(all.len(), 12);
        (rest.to_owned(), all.to_owned())
    };
    let balancer = seed(&cluster, node(&cluster, "k8s1vrrp1"));
    let paths: Vec<&str> = balancer.kept.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, KEPT);
    let data = user_data(&balancer);
    for kept in &balancer.kept {
        let files = data["write_files"].as_array().unwrap();
        let written = files.iter().find(|file| file["path"] == kept.path.as_str()).unwrap();
        assert_eq!((&written["content"], kept.mode.as_str()), (&json!(kept.content), "0644"));
    }
    assert!(seed(&cluster, node(&cluster, "k8s1master1")).kept.is_empty());

    let was = hashes(&cluster);
    let mut fewer = cluster.clone();
    fewer.nodes.retain(|node| node.name.as_str() != "k8s1master6");
    let now = hashes(&fewer);
    assert!(was.0 == now.0 && was.1 != now.1, "{was:?} {now:?}");
    let mut other = cluster.clone();
    other.network.ntp = vec!["10.101.1.1".to_owned()];
    let now = hashes(&other);
    assert!(was.0 != now.0 && was.1 != now.1, "{was:?} {now:?}");
}

#[test]
fn a_preinstalled_image_is_not_changed() {
    let mut cluster = fixture::k8s1();
    for node in &mut cluster.nodes {
        node.preinstalled = true;
    }
    for name in ["k8s1vrrp1", "k8s1master1"] {
        let data = user_data(&seed(&cluster, node(&cluster, name)));
        for key in ["packages", "apt", "power_state"] {
            assert_eq!(data.get(key), None, "{key}");
        }
        assert_eq!(data["package_update"], false);
        let text = data["runcmd"].to_string();
        assert!(!text.contains("kernel\"") && !text.contains("hold"), "{text}");
    }
}

#[test]
fn a_node_restarts_only_for_a_kernel_in_the_profile() {
    let mut cluster = fixture::k8s1();
    for (kernel, command) in [
        (Kernel::Stock, None),
        (Kernel::Hwe, Some(json!(["/usr/local/lib/k8sha/kernel", "hwe"]))),
        (
            Kernel::Mainline(Version { major: 6, minor: 6, patch: 1 }),
            Some(json!(["/usr/local/lib/k8sha/kernel", "mainline", "6.6.1"])),
        ),
    ] {
        cluster.nodes[2].kernel = kernel;
        let data = user_data(&seed(&cluster, &cluster.nodes[2]));
        let commands = data["runcmd"].as_array().unwrap();
        let asked = commands.iter().find(|line| line[0] == "/usr/local/lib/k8sha/kernel");
        assert_eq!(asked, command.as_ref());
        assert_eq!(data.get("power_state").is_some(), command.is_some());
        assert_eq!(
            written(&data, "/usr/local/lib/k8sha/kernel").is_some(),
            command.is_some(),
            "the script"
        );
    }
}

#[test]
fn every_load_balancer_knows_every_master_and_its_peers() {
    let cluster = fixture::k8s1();
    for (name, own, peer, priority) in [
        ("k8s1vrrp1", "10.101.1.11", "10.101.1.12", 200),
        ("k8s1vrrp2", "10.101.1.12", "10.101.1.11", 190),
    ] {
        let data = user_data(&seed(&cluster, node(&cluster, name)));
        let haproxy = written(&data, "/etc/haproxy/haproxy.cfg").unwrap();
        for i in 1..=6 {
            assert!(
                haproxy.contains(&format!("\n    server k8s1master{i} 10.101.1.")),
                "{haproxy}"
            );
        }
        let keepalived = written(&data, "/etc/keepalived/keepalived.conf").unwrap();
        for line in [
            format!("    unicast_src_ip {own}\n"),
            format!("    unicast_peer {{\n        {peer}\n    }}\n"),
            format!("    priority {priority}\n"),
            "    advert_int 0.9\n".to_owned(),
            "        10.101.1.10/32\n".to_owned(),
        ] {
            assert!(keepalived.contains(&line), "{line} in {keepalived}");
        }
    }
}

#[test]
fn an_etcd_row_can_be_in_its_own_subnet_and_its_seed_has_no_certificate() {
    let mut cluster = fixture::own_etcd();
    let member = node(&cluster, "k8s1etcd1").clone();
    let seed = seed(&cluster, &member);
    let network: Value = serde_saphyr::from_str(&seed.network_config).unwrap();
    let card = &network["ethernets"]["id0"];
    let (mac, named) =
        (seed.mac.as_deref().unwrap(), card["match"]["macaddress"].as_str().unwrap());
    assert!(named.eq_ignore_ascii_case(mac), "{named}");
    assert_eq!(card["match"]["name"], Value::Null, "further cards are none of ours");
    assert_eq!(card["addresses"], json!(["10.103.1.101/24"]));
    assert_eq!(card["routes"][0]["via"], "10.103.1.1");
    let data = user_data(&seed);
    let files = data["write_files"].as_array().unwrap();
    let paths = files.iter().map(|file| file["path"].as_str().unwrap());
    assert_eq!(paths.filter(|path| path.contains("pki") || path.contains("initial")).count(), 0);
    assert!(!seed.user_data.expose_secret().contains("BEGIN CERTIFICATE"));
    let installs = |data: &Value| data["runcmd"].to_string().contains("/usr/local/lib/k8sha/etcd");
    assert!(installs(&data));
    let row = cluster.nodes.iter_mut().find(|row| row.name == member.name).unwrap();
    row.preinstalled = true;
    let member = row.clone();
    let data = user_data(&self::seed(&cluster, &member));
    assert!(!installs(&data) && written(&data, "/usr/local/lib/k8sha/etcd").is_none());
    let bridges = cluster.bridges(&HostName("pve1".to_owned()));
    let wanted = [("vmbr0".to_owned(), None), ("vmbr1".to_owned(), Some(103))];
    assert_eq!(bridges, wanted.into());
}

#[test]
fn every_command_is_an_argument_list() {
    for cluster in [fixture::k8s1(), fixture::homelab(), fixture::own_etcd()] {
        for node in &cluster.nodes {
            let data = user_data(&seed(&cluster, node));
            for command in data["runcmd"].as_array().unwrap() {
                let words = command.as_array().unwrap();
                assert!(words.iter().all(Value::is_string), "{command}");
            }
        }
    }
}

#[test]
fn a_hostile_value_remains_a_value() {
    let mut cluster = fixture::k8s1();
    cluster.access.authorized_keys = vec!["ssh-ed25519 AAAA \"me\": # {{ x }}".to_owned()];
    let data = user_data(&seed(&cluster, &cluster.nodes[0]));
    assert_eq!(
        data["users"][0]["ssh_authorized_keys"][1],
        json!("ssh-ed25519 AAAA \"me\": # {{ x }}")
    );
}

#[test]
fn an_override_that_is_not_yaml_is_refused_without_showing_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = fixture::k8s1();
    let refuse = |text: &str| {
        std::fs::write(folder.path().join("load-balancer.yaml"), text).unwrap();
        let templates = Templates::with_overrides(folder.path()).unwrap();
        render(&templates, &cluster, &cluster.nodes[0], &secrets(), "i-1").unwrap_err().to_string()
    };
    let broken = refuse("#cloud-config\nssh_keys: {{ host_key.private }}\n a: [\n");
    assert!(broken.contains("`user-data`") && broken.contains("k8s1vrrp1"), "{broken}");
    let unquoted = refuse(
        "#cloud-config\nusers: []\nwrite_files: []\nruncmd: []\nssh_keys:\n  a: {{ host_key.private }}\n",
    );
    assert!(unquoted.contains("a secret breaks the document"), "{unquoted}");
    for text in [&broken, &unquoted] {
        assert!(!text.contains("c2VjcmV0"), "{text}");
    }
    let missing = refuse("{{ node.nmae | yaml }}");
    assert!(missing.contains("nmae"), "{missing}");
    let header = refuse("users: []\n");
    assert!(header.contains("`#cloud-config`"), "{header}");
}
