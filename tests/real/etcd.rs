//! The etcd checks against real members with TLS on both sides, queried by `curl` over OpenSSH.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use k8sha::cluster::{Cluster, Etcd};
use k8sha::kubeadm::etcd::{self, Client, Owner};
use k8sha::ssh::Remote;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use tempfile::TempDir;

use crate::cell::{Cell, Running};
use crate::sshd::{KEEN, Sshd};
use crate::{loopback, needs, profiles};

const PROGRAMS: &[&str] = &["etcd", "etcdctl", "curl", "sshd", "sudo", "unshare", "setpriv"];
const LIMIT: Duration = Duration::from_secs(60);

/// A certificate authority.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Certificate and key, as PEM, valid until the end of a year.
    fn sign(&self, name: &str, addresses: &[IpAddr], until: i32) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = addresses.iter().map(|ip| SanType::IpAddress(*ip)).collect();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 12, 31);
        // Members are each other's clients too, as with kubeadm.
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// An etcd cluster, and a first master that may query it.
struct Scene {
    members: Vec<Running>,
    cells: Vec<Cell>,
    endpoints: Vec<String>,
    authority: Authority,
    cluster: Cluster,
    sshd: Sshd,
    files: TempDir,
}

impl Scene {
    /// This many members, all healthy.
    async fn start(size: usize) -> Self {
        let authority = Authority::new("etcd-ca");
        let addresses: Vec<IpAddr> = (0..size).map(|_| loopback::address().into()).collect();
        let all = addresses.iter().enumerate();
        let all: Vec<_> = all.map(|(nth, ip)| format!("m{nth}=https://{ip}:2380")).collect();
        // The source address of their connections, on one machine.
        let local = IpAddr::from([127, 0, 0, 1]);
        let (mut cells, mut members) = (Vec::new(), Vec::new());
        for (nth, ip) in addresses.iter().enumerate() {
            let (cert, key) = authority.sign(&format!("m{nth}"), &[*ip, local], 2060);
            let cell = Cell::new()
                .empty("/run")
                .file("/run/etcd/ca", &authority.pem, 0o644)
                .file("/run/etcd/cert", &cert, 0o644)
                .file("/run/etcd/key", &key, 0o600);
            let (client, peer) = (format!("https://{ip}:2379"), format!("https://{ip}:2380"));
            let name = format!("m{nth}");
            let mut words = vec!["etcd", "--name", &name, "--data-dir", "/run/etcd/data"];
            words.extend(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
            words.extend(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
            let list = all.join(",");
            words.extend(["--initial-cluster", &list, "--client-cert-auth"]);
            words.extend(["--peer-client-cert-auth", "--trusted-ca-file", "/run/etcd/ca"]);
            words.extend(["--cert-file", "/run/etcd/cert", "--key-file", "/run/etcd/key"]);
            words.extend(["--peer-trusted-ca-file", "/run/etcd/ca"]);
            words.extend([
                "--peer-cert-file",
                "/run/etcd/cert",
                "--peer-key-file",
                "/run/etcd/key",
            ]);
            members.push(cell.start(&words));
            cells.push(cell);
        }
        let endpoints: Vec<_> = addresses.iter().map(|ip| format!("https://{ip}:2379")).collect();
        let mut cluster = profiles::cluster("k8s1");
        let files = tempfile::tempdir().unwrap();
        let path = |name: &str| files.path().join(name);
        cluster.etcd = Etcd::External {
            endpoints: endpoints.clone(),
            ca_file: path("etcd-ca.crt"),
            cert_file: path("apiserver-etcd-client.crt"),
            key_file: path("apiserver-etcd-client.key"),
            hosts: Default::default(),
        };
        let sshd = Sshd::start();
        let scene = Self { members, cells, endpoints, authority, cluster, sshd, files };
        scene.take_files(&scene.authority, 2060);
        scene.wait_until_healthy().await;
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    fn client(&self) -> Client {
        let names = ["etcd-ca.crt", "apiserver-etcd-client.crt", "apiserver-etcd-client.key"];
        Client::Files(names.map(|name| self.path(name)))
    }

    fn first(&self) -> Remote {
        self.sshd.remote(KEEN)
    }

    /// The operator's files: that CA's certificate, a client certificate of etcd's own.
    fn take_files(&self, ca: &Authority, until: i32) {
        let (cert, key) = self.authority.sign("kube-apiserver-etcd-client", &[], until);
        std::fs::write(self.path("etcd-ca.crt"), &ca.pem).unwrap();
        std::fs::write(self.path("apiserver-etcd-client.crt"), cert).unwrap();
        std::fs::write(self.path("apiserver-etcd-client.key"), key).unwrap();
    }

    async fn wait_until_healthy(&self) {
        let first = self.first();
        etcd::copy(&first, &self.client()).await.unwrap();
        let healthy = async {
            while etcd::prove(&first, &self.cluster).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        if tokio::time::timeout(LIMIT, healthy).await.is_err() {
            let logs: String = self.members.iter().map(Running::log).collect();
            panic!("{:?}\n{logs}", etcd::prove(&first, &self.cluster).await);
        }
    }

    /// The report with the operator's current files.
    async fn complaint(&self) -> (String, String) {
        let first = self.first();
        etcd::copy(&first, &self.client()).await.unwrap();
        let error = etcd::prove(&first, &self.cluster).await.unwrap_err();
        (error.to_string(), error.hint().unwrap_or_default())
    }

    /// etcd's own client, as root of the first member.
    fn etcdctl(&self, words: &[&str]) -> String {
        self.etcdctl_at(0, words)
    }

    /// The same as root of another one.
    fn etcdctl_at(&self, nth: usize, words: &[&str]) -> String {
        let endpoint = format!("--endpoints={}", self.endpoints[nth]);
        let mut all = vec!["env", "ETCDCTL_API=3", "etcdctl", &endpoint, "--cacert=/run/etcd/ca"];
        all.extend(["--cert=/run/etcd/cert", "--key=/run/etcd/key"]);
        let output = self.cells[nth].run(&[&all, words].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "etcdctl {words:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }
}

fn owner(creation: &str) -> Owner {
    Owner { cluster: "k8s1-cluster".to_owned(), creation: creation.to_owned() }
}

async fn dead_and_hung_members_are_named(size: usize) {
    let mut scene = Scene::start(size).await;
    scene.members[size - 1].kill();
    scene.members[1].pause();
    let begins = if size == 3 {
        // One of three is left: it has no quorum, and reports that.
        format!("3 of {size} etcd members cannot be used from `k8s1master1`:\n")
    } else {
        format!("2 of {size} etcd members cannot be used from `k8s1master1`:\n")
    };
    // If the leader was among them, the others are not healthy until they have elected another.
    let began = std::time::Instant::now();
    let (text, hint) = loop {
        let (text, hint) = scene.complaint().await;
        if text.starts_with(&begins) || began.elapsed() > LIMIT {
            break (text, hint);
        }
    };
    assert!(text.starts_with(&begins), "{text}");
    for wanted in [
        format!("{}: no answer (curl: (28)", scene.endpoints[1]),
        format!("{}: no process listens (curl: (7)", scene.endpoints[size - 1]),
    ] {
        assert!(text.contains(&wanted), "no `{wanted}` in {text}");
    }
    let quorum = format!("{}: it is not healthy: ", scene.endpoints[0]);
    assert_eq!(text.contains(&quorum), size == 3, "{text}");
    assert!(!hint.is_empty());
    scene.members[1].resume();
}

#[tokio::test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
async fn dead_and_hung_members_of_three_are_named_and_so_is_a_lost_quorum() {
    if needs::asked_for(PROGRAMS) {
        dead_and_hung_members_are_named(3).await;
    }
}

#[tokio::test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
async fn dead_and_hung_members_of_five_are_named_and_the_others_are_not() {
    if needs::asked_for(PROGRAMS) {
        dead_and_hung_members_are_named(5).await;
    }
}

#[tokio::test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
async fn wrong_files_and_an_older_clusters_keys_have_separate_messages() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let scene = Scene::start(3).await;
    let (first, cluster, client) = (scene.first(), &scene.cluster, scene.client());

    scene.take_files(&Authority::new("another-ca"), 2060);
    let (text, hint) = scene.complaint().await;
    let wanted = "its certificate is not signed by the CA of `etcd-ca.crt` (curl: (60)";
    assert_eq!(text.matches(wanted).count(), 3, "{text}");
    assert!(hint.contains("use the `etcd-ca.crt` of the etcd that runs there"), "{hint}");

    scene.take_files(&scene.authority, 2024);
    let (text, hint) = scene.complaint().await;
    let wanted = "it refuses the certificate of `apiserver-etcd-client.crt`";
    assert_eq!(text.matches(wanted).count(), 3, "{text}");
    assert!(hint.contains("has it expired?"), "{hint}");

    // The key of another certificate.
    scene.take_files(&scene.authority, 2060);
    let (_, key) = scene.authority.sign("other", &[], 2060);
    std::fs::write(scene.path("apiserver-etcd-client.key"), key).unwrap();
    let (text, _) = scene.complaint().await;
    assert!(text.contains("the client certificate and its key cannot be used"), "{text}");

    scene.take_files(&scene.authority, 2060);
    scene.etcdctl(&["put", "/registry/nodes/old", "1"]);
    scene.etcdctl(&["put", "/calico/nodes/old", "2"]);
    let error = etcd::prepare(&first, cluster, &client, &owner("a"), etcd::Keys::Refused)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the external etcd holds data of a Kubernetes cluster that k8sha did not create"
    );
    assert!(error.hint().unwrap().contains("--wipe-etcd"));
    assert!(scene.etcdctl(&["get", "/registry/", "--prefix"]).contains("old"), "it is left alone");

    assert!(
        etcd::prepare(&first, cluster, &client, &owner("a"), etcd::Keys::Wiped { of: None })
            .await
            .unwrap()
    );
    assert_eq!(scene.etcdctl(&["get", "/registry/", "--prefix"]), "");
    assert!(scene.etcdctl(&["get", "/calico/", "--prefix"]).contains("old"), "not Kubernetes'");
    assert!(
        !etcd::prepare(&first, cluster, &client, &owner("a"), etcd::Keys::Refused).await.unwrap(),
        "nothing to do"
    );
    scene.etcdctl(&["put", "/registry/nodes/ours", "1"]);
    let resumed = etcd::Keys::Resumed;
    assert!(!etcd::prepare(&first, cluster, &client, &owner("a"), resumed).await.unwrap(), "ours");

    let error = etcd::prepare(&first, cluster, &client, &owner("b"), etcd::Keys::Refused)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the external etcd holds data of the cluster `k8s1-cluster` (creation a)"
    );
    assert!(!etcd::remove_ours(&first, cluster, &owner("b")).await.unwrap());
    assert!(etcd::remove_ours(&first, cluster, &owner("a")).await.unwrap());
    assert_eq!(scene.etcdctl(&["get", "/registry/", "--prefix"]), "");
    assert!(scene.etcdctl(&["get", "/k8sha/", "--prefix"]).is_empty());
}

#[tokio::test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
async fn k8shas_keys_are_read_and_removed_while_the_first_member_hangs_or_is_gone() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let mut scene = Scene::start(3).await;
    let (first, client) = (scene.first(), scene.client());
    let prepared =
        etcd::prepare(&first, &scene.cluster, &client, &owner("a"), etcd::Keys::Refused).await;
    assert!(prepared.unwrap());
    scene.etcdctl(&["put", "/registry/nodes/ours", "1"]);

    // If it was the leader, the others do not answer until they have elected another.
    scene.members[0].pause();
    assert!(eventually_ours(&scene, "a").await);
    assert!(!eventually_ours(&scene, "b").await);
    scene.members[0].resume();

    scene.members[0].stop();
    assert!(eventually_ours(&scene, "a").await);
    let removed = |creation| {
        let (first, cluster) = (&first, &scene.cluster);
        async move { etcd::remove_ours(first, cluster, &owner(creation)).await.unwrap() }
    };
    assert!(!removed("b").await);
    assert!(eventually_ours(&scene, "a").await, "another's creation removes nothing");
    assert!(removed("a").await);
    assert!(!eventually_ours(&scene, "a").await);
    for prefix in ["/registry/", "/k8sha/"] {
        assert_eq!(scene.etcdctl_at(1, &["get", prefix, "--prefix"]), "", "{prefix}");
    }

    // Without a quorum nothing is read, and each member is named.
    scene.members[2].kill();
    let error = etcd::is_ours(&first, &scene.cluster, &owner("a")).await.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("3 of 3 etcd members cannot be used from `k8s1master1`:\n"), "{text}");
    for (nth, wanted) in [(0, "no process listens"), (1, ""), (2, "no process listens")] {
        let wanted = format!("{}: {wanted}", scene.endpoints[nth]);
        assert!(text.contains(&wanted), "no `{wanted}` in {text}");
    }
}

/// The owner of the keys, as soon as the remaining members answer.
async fn eventually_ours(scene: &Scene, creation: &str) -> bool {
    let (first, began) = (scene.first(), std::time::Instant::now());
    loop {
        match etcd::is_ours(&first, &scene.cluster, &owner(creation)).await {
            Ok(ours) => return ours,
            Err(error) => assert!(began.elapsed() < LIMIT, "{error}"),
        }
    }
}
