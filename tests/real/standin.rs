//! The stand-ins for kubeadm, kubectl, kubelet and the API server, on separate machines and with a real
//! etcd, with the configuration that k8sha writes and the commands that it sends.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Output;
use std::time::Duration;

use k8sha::cluster::{Cluster, Etcd, Node, Role};
use k8sha::kubeadm::config::{self, Join, Keys};
use k8sha::kubeadm::path;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cell::{Cell, Running};
use crate::lab::Lab;
use crate::machine::Machine;
use crate::standin_files::{FILES, MACHINE, VERSION};
use crate::{needs, profiles, wait};

const PROGRAMS: &[&str] = &["etcd", "openssl", "python3", "nsenter", "curl"];
const LIMIT: Duration = Duration::from_secs(30);
const TOKEN: &str = "abcdef.0123456789abcdef";
const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const ETCD: Ipv4Addr = Ipv4Addr::new(10, 101, 1, 250);
const SOCKET: &str = "/run/containerd/containerd.sock";
const WORDS: [&str; 4] = ["kubeadm", "init", "--config", path::INIT];

/// Answers in place of containerd, and adopts orphaned processes.
const FIRST: &str = "import signal, socket, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
open('/proc/sys/net/ipv4/ip_forward', 'w').write('1')
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
while True:
    listener.accept()[0].close()
";

/// Starts and stops the kubelet as its unit does: systemd does not run in such a machine.
const SYSTEMCTL: &str = r#"#!/bin/sh
[ "$1" = daemon-reload ] && exit 0
[ ! -e /run/kubelet.pid ] || kill "$(cat /run/kubelet.pid)" && rm -f /run/kubelet.pid
[ "$1" = stop ] && exit 0
. /var/lib/kubelet/kubeadm-flags.env
setsid /usr/bin/kubelet --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf \
    --kubeconfig=/etc/kubernetes/kubelet.conf --config=/var/lib/kubelet/config.yaml \
    $KUBELET_KUBEADM_ARGS >>/var/log/kubelet.log 2>&1 </dev/null &
echo $! >/run/kubelet.pid
"#;

/// Two masters, of which the first holds the VIP, and an etcd.
struct World {
    cluster: Cluster,
    first: Machine,
    second: Machine,
    etcd: Running,
    pems: TempDir,
    _lab: Lab,
}

impl World {
    fn new() -> Option<Self> {
        if !needs::asked_for(PROGRAMS) {
            return None;
        }
        let mut lab = Lab::new()?;
        let mut cluster = profiles::cluster("k8s1");
        let pems = tempfile::tempdir().unwrap();
        let Etcd::External { endpoints, .. } = &mut cluster.etcd else { panic!("no etcd") };
        *endpoints = vec![format!("https://{ETCD}:2379")];
        lab.add("etcd", &[ETCD]);
        let etcd = start_etcd(&lab, &pems);
        let masters: Vec<Node> = cluster.with_role(Role::Master).take(2).cloned().collect();
        lab.add(masters[0].name.as_str(), &[masters[0].ip, cluster.api.vip]);
        lab.add(masters[1].name.as_str(), &[masters[1].ip]);
        let mut hosts = format!("127.0.0.1 localhost\n{} {}\n", cluster.api.vip, cluster.api.fqdn);
        for master in &masters {
            hosts += &format!("{} {}\n", master.ip, master.fqdn);
        }
        let version = format!("v{}\n", cluster.kubernetes.version);
        let mut files: Vec<(&str, u32, &str)> = FILES.to_vec();
        files.extend([
            (VERSION, 0o644, version.as_str()),
            (MACHINE, 0o644, r#"{"cpus": 2, "memory_mb": 2048}"#),
            ("/usr/bin/systemctl", 0o755, SYSTEMCTL),
            ("/etc/hosts", 0o644, &hosts),
            ("/etc/containerd/config.toml", 0o644, "SystemdCgroup = true\n"),
            ("/run/containerd/first.py", 0o644, FIRST),
        ]);
        let program = ["/usr/bin/python3", "/run/containerd/first.py", SOCKET];
        let start =
            |node: &Node| Machine::start(&lab, node.name.as_str(), &files, &program, SOCKET);
        let (first, second) = (start(&masters[0]), start(&masters[1]));
        Some(Self { cluster, first, second, etcd, pems, _lab: lab })
    }

    fn plant_etcd_files(&self) {
        let pem = |name: &str| fs::read_to_string(self.pems.path().join(name)).unwrap();
        self.first.write(path::ETCD_CA, &pem("ca.crt"));
        self.first.write(path::ETCD_CERT, &pem("client.crt"));
        self.first.write(path::ETCD_KEY, &pem("client.key"));
    }

    fn init(&self) -> Output {
        let keys = Keys { token: TOKEN.into(), certificate_key: KEY.into() };
        let config = config::init(&self.cluster, self.cluster.first_master(), &keys).unwrap();
        self.first.write(path::INIT, config.text().expose_secret());
        succeeded(self.first.run(&["kubeadm", "config", "validate", "--config", path::INIT]));
        self.first.run(&[&WORDS[..], &["--upload-certs"]].concat())
    }

    fn join(&self, token: &str, key: &str, pin: &str) -> Output {
        let join = Join {
            token: token.into(),
            ca_hashes: vec![pin.to_owned()],
            certificate_key: Some(SecretString::from(key)),
        };
        let node = self.cluster.with_role(Role::Master).nth(1).unwrap();
        let config = config::join(&self.cluster, node, &join).unwrap();
        self.second.write(path::JOIN, config.text().expose_secret());
        self.second.run(&["kubeadm", "join", "--config", path::JOIN])
    }

    fn pin(&self) -> String {
        let line = format!(
            "openssl x509 -in {} -pubkey -noout | openssl pkey -pubin -outform DER | sha256sum",
            path::CA
        );
        let digits = succeeded(self.first.run(&["sh", "-c", &line]));
        format!("sha256:{}", digits.split_whitespace().next().unwrap())
    }

    fn kubectl(&self, words: &[&str]) -> Output {
        self.first.run(&[&["kubectl", "--kubeconfig", path::ADMIN], words].concat())
    }

    fn json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&succeeded(self.kubectl(words))).unwrap()
    }
}

/// etcd with TLS on its machine, and the operator's files in the folder.
fn start_etcd(lab: &Lab, pems: &TempDir) -> Running {
    let write = |name: &str, text: String| fs::write(pems.path().join(name), text).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "etcd-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    write("ca.crt", params.self_signed(&key).unwrap().pem());
    let issuer = Issuer::new(params, key);
    for name in ["server", "client"] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![ETCD.to_string()]).unwrap();
        write(&format!("{name}.crt"), params.signed_by(&key, &issuer).unwrap().pem());
        write(&format!("{name}.key"), key.serialize_pem());
    }
    let at = |name: &str| pems.path().join(name).display().to_string();
    let url = format!("https://{ETCD}:2379");
    let etcd = Cell::new().in_network(&lab.name("etcd")).start(&[
        "etcd",
        "--data-dir",
        &at("data"),
        "--listen-client-urls",
        &url,
        "--advertise-client-urls",
        &url,
        "--listen-peer-urls",
        "http://127.0.0.1:2380",
        "--client-cert-auth",
        "--trusted-ca-file",
        &at("ca.crt"),
        "--cert-file",
        &at("server.crt"),
        "--key-file",
        &at("server.key"),
    ]);
    let ready = || etcd.log().contains("serving client requests").then_some(());
    wait::until("etcd serves", LIMIT, ready, || etcd.log());
    etcd
}

fn succeeded(output: Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}\n{text}");
    text
}

fn refused(output: &Output, words: &str) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(words), "`{words}` is not in:\n{said}");
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn the_stand_ins_are_python_and_unit_files_that_parse() {
    if !needs::asked_for(&["python3"]) {
        return;
    }
    for (path, _, content) in FILES {
        if path.ends_with(".py") || content.starts_with("#!/usr/bin/python3") {
            let cell = Cell::new().empty("/mnt").file("/mnt/program", content, 0o644);
            let parse = "import ast; ast.parse(open('/mnt/program').read())";
            let output = cell.run(&["/usr/bin/python3", "-c", parse]);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{path}: {said}");
        } else {
            let sections = content.lines().filter(|line| line.starts_with('[')).count();
            assert!(sections > 0, "{path} is neither a program nor a file of sections");
        }
    }
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn two_stand_in_masters_form_one_cluster_stored_in_etcd() {
    let Some(mut world) = World::new() else { return };
    world.plant_etcd_files();
    let output = world.init();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    succeeded(output);
    assert!(said.contains("this kubeadm is k8sha's scripted stand-in"), "{said}");
    succeeded(world.join(TOKEN, KEY, &world.pin()));

    let nodes = world.json(&["get", "nodes", "-o", "json"]);
    let items = nodes["items"].as_array().unwrap();
    let names: Vec<_> = items.iter().map(|node| &node["metadata"]["name"]).collect();
    assert_eq!(names, ["k8s1master1.kloud.lan", "k8s1master2.kloud.lan"]);
    for node in items {
        assert_eq!(node["metadata"]["labels"]["node-role.kubernetes.io/control-plane"], "");
        assert_eq!(node["status"]["nodeInfo"]["kubeletVersion"], "v1.28.4");
    }
    let worker = "node-role.kubernetes.io/worker=";
    let label = ["label", "--overwrite", "node", "k8s1master2.kloud.lan", worker];
    assert_eq!(succeeded(world.kubectl(&label)), "node/k8s1master2.kloud.lan labeled\n");

    // The second master's own server answers with the first one's data: both use the same etcd.
    let second = world.cluster.with_role(Role::Master).nth(1).unwrap().ip;
    let url = |path: &str| format!("https://{second}:6443{path}");
    let ask = |path: &str| {
        let words =
            ["curl", "-sS", "--max-time", "9", "--cacert", path::CA, &url(path)].map(str::to_owned);
        world.first.run(&words.each_ref().map(String::as_str))
    };
    assert_eq!(succeeded(ask("/readyz")), "ok");
    let info = succeeded(ask("/api/v1/namespaces/kube-public/configmaps/cluster-info"));
    assert!(info.contains("jws-kubeconfig-abcdef"), "{info}");
    let secret = succeeded(ask("/api/v1/namespaces/kube-system/secrets/kubeadm-certs"));
    assert!(secret.contains(r#"User \"system:anonymous\" cannot get resource"#), "{secret}");

    world.etcd.kill();
    let unready = || succeeded(ask("/readyz")).contains("[-]etcd failed").then_some(());
    wait::until("the API server misses etcd", LIMIT, unready, String::new);
    refused(&world.kubectl(&["get", "nodes", "-o", "json"]), "Error from server (InternalError)");
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn the_stand_in_gives_kubeadms_errors() {
    let Some(world) = World::new() else { return };
    refused(
        &world.init(),
        "[ERROR ExternalEtcdClientCertificates]: /etc/kubernetes/pki/etcd/etcd-ca.crt",
    );
    world.plant_etcd_files();
    succeeded(world.init());
    let again = world.first.run(&WORDS);
    refused(&again, "[ERROR FileAvailable--etc-kubernetes-manifests-kube-apiserver.yaml]");
    refused(&again, "[ERROR Port-6443]: Port 6443 is in use");

    let pin = world.pin();
    let wrong_token = "abcdef.fedcba9876543210";
    refused(&world.join(wrong_token, KEY, &pin), "failed to verify JWS signature");
    let wrong_pin = format!("sha256:{}", "0".repeat(64));
    refused(
        &world.join(TOKEN, KEY, &wrong_pin),
        &format!("none of the public keys \"{pin}\" are pinned"),
    );
    let wrong_key = "f".repeat(64);
    refused(&world.join(TOKEN, &wrong_key, &pin), "cipher: message authentication failed");

    // Two hours later: the token that owns the upload has expired.
    let certs = ["-n", "kube-system", "get", "secret", "kubeadm-certs", "-o", "json"];
    let owner = world.json(&certs)["metadata"]["ownerReferences"][0]["name"].clone();
    let mut token =
        world.json(&["-n", "kube-system", "get", "secret", owner.as_str().unwrap(), "-o", "json"]);
    token["data"]["expiration"] = json!("MjAyMC0wMS0wMVQwMDowMDowMFo=");
    let apply = ["kubectl", "--kubeconfig", path::ADMIN, "apply", "-f", "-"];
    succeeded(world.first.feed(&apply, &token.to_string()));
    refused(&world.join(TOKEN, KEY, &pin), r#"Secret "kubeadm-certs" was not found"#);
    let upload =
        ["kubeadm", "init", "phase", "upload-certs", "--upload-certs", "--config", path::INIT];
    succeeded(world.first.run(&upload));
    succeeded(world.join(TOKEN, KEY, &pin));
}
