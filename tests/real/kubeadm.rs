//! Every kubeadm configuration that k8sha renders, checked by the real kubeadm of each relevant minor:
//! the profile's own, the last one and the first one on either side of v1beta4, the last one that runs
//! on cgroup v1 and the newest.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use k8sha::cluster::{Cluster, Etcd, KubeadmApi, ProxyMode, Role, Version};
use k8sha::kubeadm::config::{self, Config, Join, Keys};
use secrecy::ExposeSecret;

use crate::{needs, profiles};

/// In build order: the oldest and the newest first.
const VERSIONS: [&str; 5] = ["1.28.4", "1.37.2", "1.31.14", "1.34.4", "1.30.14"];
/// After this build time, the remaining builds are left to the next run on this machine.
const BUDGET: Duration = Duration::from_secs(5 * 60);
/// The exit code of `tests/kubernetes/build.sh` if it may not build, or has no Go.
const NOT_BUILT: i32 = 3;

/// A real kubeadm.
pub struct Kubeadm {
    pub version: Version,
    program: PathBuf,
}

impl Kubeadm {
    /// Each of [`VERSIONS`] that can be built in time; the others are reported.
    pub fn all() -> &'static [Self] {
        static ALL: LazyLock<Vec<Kubeadm>> = LazyLock::new(|| {
            let start = Instant::now();
            let one = |version: &&str| Kubeadm::new(version, start.elapsed() < BUDGET);
            VERSIONS.iter().filter_map(one).collect()
        });
        &ALL
    }

    fn new(version: &str, build: bool) -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kubernetes/build.sh");
        let only = if build { None } else { Some("--if-built") };
        let output = Command::new(script).args(only).args([version, "kubeadm"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.code() == Some(NOT_BUILT) {
            let why =
                if build { "" } else { " (five minutes have gone into builds: run it again)" };
            needs::say(&format!("SKIPPED kubeadm {version}: {}{why}", said.trim()));
            return None;
        }
        assert!(output.status.success(), "kubeadm {version}: {said}");
        let folder = String::from_utf8(output.stdout).unwrap();
        let program = Path::new(folder.trim()).join("kubeadm");
        Some(Self { version: version.parse().unwrap(), program })
    }

    /// The output of `kubeadm config validate`: on stdout and stderr if it accepts, or if not.
    pub fn validate(&self, text: &str) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kubeadm.yaml");
        fs::write(&file, text).unwrap();
        let mut kubeadm = Command::new(&self.program);
        let output = kubeadm.args(["config", "validate", "--config"]).arg(file).output().unwrap();
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap());
        if output.status.success() { Ok(said.concat()) } else { Err(said.concat()) }
    }

    /// It prints "ok" and nothing else: no warning of a deprecated API or field, except of IPVS, which
    /// the profile sets.
    fn accepts(&self, what: &str, cluster: &Cluster, config: &Config) {
        let text = config.text().expose_secret();
        let said = self.validate(text).unwrap_or_else(|said| {
            panic!("{what}, {}: {said}\n{text}", self.version);
        });
        let is_ipvs = |line: &&str| {
            cluster.kubernetes.proxy == ProxyMode::Ipvs
                && line.contains("\"ipvs\" which has been deprecated since version v1.35")
        };
        let rest: Vec<&str> = said.lines().filter(|line| !is_ipvs(line)).collect();
        assert_eq!(rest, ["ok"], "{what}, {}: {text}", self.version);
    }
}

/// Some of them look like numbers to YAML, which kubeadm would refuse for a text.
fn secrets() -> [Keys; 3] {
    [
        ("abcdef.0123456789abcdef", "ab".repeat(32)),
        ("123456.7890123456789012", "0".repeat(64)),
        ("1e5432.0123456789012345", format!("{}e{}", "1".repeat(31), "2".repeat(32))),
    ]
    .map(|(token, key)| Keys { token: token.into(), certificate_key: key.into() })
}

fn join_with(keys: &Keys) -> Join {
    Join {
        token: keys.token.clone(),
        ca_hashes: vec![format!("sha256:{}", "cd".repeat(32))],
        certificate_key: Some(keys.certificate_key.clone()),
    }
}

/// Every shipped profile at this version, unchanged and in possible variants.
fn shapes(version: Version) -> Vec<(String, Cluster)> {
    let external = profiles::cluster("k8s1").etcd;
    let mut shapes = Vec::new();
    for (name, mut cluster) in profiles::clusters() {
        cluster.kubernetes.version = version;
        for etcd in [&Etcd::Stacked, &external] {
            for proxy in
                [ProxyMode::None, ProxyMode::Iptables, ProxyMode::Nftables, ProxyMode::Ipvs]
            {
                if proxy == ProxyMode::Nftables && (version.major, version.minor) < (1, 31) {
                    continue;
                }
                let mut shape = cluster.clone();
                shape.etcd = etcd.clone();
                shape.kubernetes.proxy = proxy;
                shapes.push((format!("{name} with {proxy:?} and {etcd:?}"), shape));
            }
        }
        shapes.push((name, cluster));
    }
    shapes
}

#[test]
#[ignore = "builds kubeadm with Go; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn kubeadm_of_every_minor_accepts_every_configuration() {
    if !needs::asked_for(&[]) {
        return;
    }
    for kubeadm in Kubeadm::all() {
        let [keys, like_numbers @ ..] = secrets();
        for (name, cluster) in shapes(kubeadm.version) {
            kubeadm.accepts(
                &format!("{name}: init"),
                &cluster,
                &config::init(&cluster, cluster.first_master(), &keys).unwrap(),
            );
        }
        for (name, mut cluster) in profiles::clusters() {
            cluster.kubernetes.version = kubeadm.version;
            for node in cluster.nodes.iter().filter(|node| node.role != Role::LoadBalancer) {
                let joined = config::join(&cluster, node, &join_with(&keys)).unwrap();
                kubeadm.accepts(&format!("{name}: join of {}", node.name), &cluster, &joined);
            }
            for keys in &like_numbers {
                kubeadm.accepts(
                    &format!("{name}: init"),
                    &cluster,
                    &config::init(&cluster, cluster.first_master(), keys).unwrap(),
                );
                let master = cluster.first_master();
                let joined = config::join(&cluster, master, &join_with(keys)).unwrap();
                kubeadm.accepts(&format!("{name}: join of {}", master.name), &cluster, &joined);
            }
        }
    }
}

#[test]
#[ignore = "builds kubeadm with Go; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn kubeadm_rejects_what_it_does_not_know() {
    if !needs::asked_for(&[]) {
        return;
    }
    let mut cluster = profiles::cluster("k8s1");
    for kubeadm in Kubeadm::all() {
        let version = kubeadm.version;
        cluster.kubernetes.version = version;
        let config = config::init(&cluster, cluster.first_master(), &secrets()[0]).unwrap();
        let text = config.text().expose_secret();
        let refused = |from: &str, to: &str, why: &str| {
            assert!(text.contains(from), "{version}: no `{from}` in {text}");
            let said = kubeadm.validate(&text.replace(from, to)).unwrap_err();
            assert!(said.contains(why), "{version}: {said}");
        };
        refused("podSubnet:", "podSubnets:", "unknown field \"networking.podSubnets\"");
        refused("bindPort: 6443", "bindPort: https", "bindPort");
        refused("Address: \"10.101.1.101\"", "Address: k8s1master1", "k8s1master1");
        // v1beta4 is supported from 1.31 on, where k8sha writes it, and v1beta3 up to 1.36.
        match version.kubeadm_api() {
            KubeadmApi::V1Beta3 => {
                refused("kubeadm.k8s.io/v1beta3", "kubeadm.k8s.io/v1beta4", "v1beta4")
            }
            KubeadmApi::V1Beta4 => {
                cluster.kubernetes.version = Version { minor: 30, ..version };
                let old = config::init(&cluster, cluster.first_master(), &secrets()[0]).unwrap();
                let old =
                    old.text().expose_secret().replace("v1.30.", &format!("v1.{}.", version.minor));
                match kubeadm.validate(&old) {
                    Ok(said) => assert!(version.minor < 37, "{version}: {said}"),
                    Err(said) => {
                        assert!(
                            version.minor >= 37 && said.contains("v1beta3"),
                            "{version}: {said}"
                        );
                    }
                }
            }
        }
    }
}
