//! Tests that drive the simulator over HTTPS, with their own client.

mod access;
mod agent;
mod clones;
mod disks;
mod firewall;
mod guards;
mod network;
mod nodes;
mod storage;
mod vms;
mod wire;

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::{Value, json};

use super::site::{Site, SiteHost, SiteStorage, Topology};
use super::{HostEndpoint, Options, Sim};

fn storage(name: &str, kind: &str, content: &[&str], shared: bool) -> SiteStorage {
    SiteStorage {
        name: name.into(),
        kind: kind.into(),
        content: content.iter().map(|c| (*c).into()).collect(),
        shared,
        size_gib: 200,
    }
}

pub fn site(topology: Topology) -> Site {
    let host = |name: &str| SiteHost {
        name: name.into(),
        storages: vec![
            storage("local", "dir", &["iso", "vztmpl", "import", "images"], false),
            storage("local-lvm", "lvmthin", &["images"], false),
            storage("thick", "lvm", &["images"], false),
            storage("nfs", "nfs", &["images", "iso", "import"], true),
        ],
        bridges: vec!["vmbr0".into()],
        ports: Vec::new(),
        memory_mib: 65_536,
        cpus: 16,
    };
    Site {
        topology,
        cluster: crate::site::usual_name(),
        hosts: vec![host("pve1"), host("pve2")],
        domain: "kloud.lan".into(),
        nameservers: vec![Ipv4Addr::new(10, 101, 1, 2)],
        records: Vec::new(),
        api: String::new(),
        pools: Vec::new(),
        gateway: Ipv4Addr::new(10, 101, 1, 1),
        etcd: Vec::new(),
        packages: std::collections::BTreeMap::new(),
    }
}

/// A simulator and a client of one of its hosts.
pub struct Bench {
    pub sim: Sim,
    client: reqwest::Client,
    host: HostEndpoint,
}

/// A whole answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub reason: String,
    pub body: Value,
    pub headers: reqwest::header::HeaderMap,
}

impl Reply {
    pub fn data(&self) -> &Value {
        &self.body["data"]
    }

    pub fn error(&self, name: &str) -> &str {
        self.body["errors"][name].as_str().unwrap_or_default().trim_end()
    }
}

impl Bench {
    pub async fn new() -> Self {
        Self::with(Topology::Cluster, &[]).await
    }

    /// A thousand times as fast as the real world.
    pub async fn with(topology: Topology, faults: &[&str]) -> Self {
        let faults = faults.iter().map(|fault| fault.parse().unwrap()).collect();
        let options = Options { speed: 1000.0, faults, ..Options::default() };
        Self::on(Sim::start(site(topology), options).await.unwrap())
    }

    /// A world with template 9000 in which time stands still except in [`Bench::pass`].
    pub async fn frozen(folder: &std::path::Path) -> Self {
        let start = |speed| {
            let options = Options { folder: Some(folder.to_owned()), speed, ..Options::default() };
            Sim::start(site(Topology::Cluster), options)
        };
        let bench = Self::on(start(1000.0).await.unwrap());
        bench.template("local-lvm").await;
        bench.sim.stop().await;
        Self::on(start(1e-9).await.unwrap())
    }

    /// Advances the simulated time by so many seconds.
    pub fn pass(&self, seconds: f64) {
        self.sim.shared().act(|world, store| world.advance(world.now.after(seconds), store));
    }

    pub fn on(sim: Sim) -> Self {
        // Two test crates may both set it.
        drop(rustls::crypto::ring::default_provider().install_default());
        let host = sim.endpoints().hosts["pve1"].clone();
        let ca = reqwest::Certificate::from_pem(host.ca.as_bytes()).unwrap();
        let client = reqwest::Client::builder()
            .tls_certs_only([ca])
            .pool_max_idle_per_host(0)
            .timeout(Duration::from_secs(20))
            .build()
            .unwrap();
        Self { sim, client, host }
    }

    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse().unwrap();
        let url = format!("{}/api2/json{path}", self.host.url);
        self.client.request(method, url)
    }

    pub fn host(&self) -> &HostEndpoint {
        &self.host
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Reply {
        let response = request.send().await.unwrap();
        let reason = response.extensions().get::<hyper::ext::ReasonPhrase>();
        let reason = match reason {
            Some(reason) => String::from_utf8_lossy(reason.as_bytes()).into_owned(),
            None => response.status().canonical_reason().unwrap_or_default().to_owned(),
        };
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Reply { status, reason, body, headers }
    }

    pub async fn as_token(
        &self,
        token: &str,
        method: &str,
        path: &str,
        form: &[(&str, &str)],
    ) -> Reply {
        let mut request = self.request(method, path);
        if !token.is_empty() {
            request = request.header("Authorization", format!("PVEAPIToken={token}"));
        }
        if !form.is_empty() {
            request = request.form(form);
        }
        self.send(request).await
    }

    pub async fn call(&self, method: &str, path: &str, form: &[(&str, &str)]) -> Reply {
        self.as_token(&self.host.token, method, path, form).await
    }

    pub async fn get(&self, path: &str) -> Value {
        let reply = self.call("GET", path, &[]).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        reply.data().clone()
    }

    /// A call that starts a task: waits for its end and returns the exit status.
    pub async fn task(&self, method: &str, path: &str, form: &[(&str, &str)]) -> String {
        let reply = self.call(method, path, form).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        self.wait(reply.data().as_str().unwrap()).await
    }

    pub async fn wait(&self, upid: &str) -> String {
        let node = upid.split(':').nth(1).unwrap();
        loop {
            let status = self.get(&format!("/nodes/{node}/tasks/{upid}/status")).await;
            if status["status"] == "stopped" {
                return status["exitstatus"].as_str().unwrap().to_owned();
            }
        }
    }

    pub async fn log(&self, upid: &str) -> Vec<String> {
        let node = upid.split(':').nth(1).unwrap();
        let log = self.get(&format!("/nodes/{node}/tasks/{upid}/log?limit=0")).await;
        log.as_array().unwrap().iter().map(|l| l["t"].as_str().unwrap().to_owned()).collect()
    }

    /// Creates template 9000 on `pve1` from a downloaded image, with its disk on a storage.
    pub async fn template(&self, storage: &str) {
        let image = [
            ("content", "import"),
            ("filename", "jammy.qcow2"),
            ("url", "https://cloud-images.ubuntu.com/jammy/jammy.img"),
        ];
        let fetched = self.task("POST", "/nodes/pve1/storage/local/download-url", &image).await;
        assert_eq!(fetched, "OK");
        let disk = format!("{storage}:0,import-from=local:import/jammy.qcow2");
        let drive = format!("{storage}:cloudinit");
        let options = [
            ("vmid", "9000"),
            ("name", "tmpl"),
            ("memory", "2048"),
            ("cores", "2"),
            ("scsihw", "virtio-scsi-single"),
            ("scsi0", &disk),
            ("ide2", &drive),
            ("net0", "virtio,bridge=vmbr0"),
            ("boot", "order=scsi0"),
            ("serial0", "socket"),
            ("agent", "enabled=1"),
        ];
        assert_eq!(self.task("POST", "/nodes/pve1/qemu", &options).await, "OK");
        assert_eq!(self.task("POST", "/nodes/pve1/qemu/9000/template", &[]).await, "OK");
    }

    /// A linked clone of template 9000.
    pub async fn cloned(&self, newid: &str, name: &str) {
        let form = [("newid", newid), ("name", name)];
        assert_eq!(self.task("POST", "/nodes/pve1/qemu/9000/clone", &form).await, "OK");
    }

    pub async fn config(&self, vmid: u32) -> Value {
        self.get(&format!("/nodes/pve1/qemu/{vmid}/config")).await
    }

    /// Changes a stopped VM.
    pub async fn put(&self, vmid: u32, form: &[(&str, &str)]) -> Reply {
        self.call("PUT", &format!("/nodes/pve1/qemu/{vmid}/config"), form).await
    }

    /// Creates a user with a privilege-separated token, and returns the token.
    pub async fn user(&self, grants: &[(&str, &str)]) -> String {
        self.call("POST", "/access/users", &[("userid", "u@pve")]).await;
        let form = [("privsep", "0"), ("comment", "x")];
        let token = self.call("POST", "/access/users/u@pve/token/tok", &form).await;
        for (place, (path, privileges)) in grants.iter().enumerate() {
            let role = format!("R{place}");
            let form = [("roleid", role.as_str()), ("privs", *privileges)];
            assert_eq!(self.call("POST", "/access/roles", &form).await.status, 200);
            let form = [("path", *path), ("roles", role.as_str()), ("users", "u@pve")];
            assert_eq!(self.call("PUT", "/access/acl", &form).await.status, 200);
        }
        format!("u@pve!tok={}", token.data()["value"].as_str().unwrap())
    }
}

#[tokio::test]
async fn a_world_in_a_folder_resumes_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let options =
        || Options { folder: Some(folder.path().to_owned()), speed: 1000.0, ..Options::default() };
    let start = || Sim::start(site(Topology::Cluster), options());
    let bench = Bench::on(start().await.unwrap());
    let empty = bench.sim.digest();
    bench.template("local-lvm").await;
    bench.cloned("101", "a").await;
    let (endpoints, digest) = (bench.sim.endpoints(), bench.sim.digest());
    assert_ne!(digest, empty);
    let made = bench.sim.requests().len();
    bench.sim.stop().await;

    let again = Bench::on(start().await.unwrap());
    assert_eq!(again.sim.digest(), digest);
    assert_eq!(again.sim.endpoints().hosts["pve1"].token, endpoints.hosts["pve1"].token);
    assert_eq!(
        again.sim.endpoints().hosts["pve2"].fingerprint,
        endpoints.hosts["pve2"].fingerprint
    );
    assert_eq!(again.config(101).await["name"], "a");
    assert_eq!(again.sim.requests().len(), 1);
    let kept = super::pve::requests::RequestLog::read(folder.path()).unwrap();
    assert_eq!(kept.len(), made + 1);
    assert!(
        kept.iter().any(|r| r.is_write() && r.path.ends_with("/9000/clone") && r.status == 200)
    );

    for vmid in [101, 9000] {
        let path = format!("/nodes/pve1/qemu/{vmid}?purge=1&destroy-unreferenced-disks=1");
        assert_eq!(again.task("DELETE", &path, &[]).await, "OK");
    }
    let path = "/nodes/pve1/storage/local/content/local:import/jammy.qcow2";
    assert_eq!(again.task("DELETE", path, &[]).await, "OK");
    assert_eq!(again.sim.digest(), empty);
    again.sim.stop().await;

    let mut other = site(Topology::Cluster);
    other.hosts.pop();
    assert!(matches!(Sim::start(other, options()).await, Err(super::Error::OtherSite { .. })));
}

#[tokio::test]
async fn a_served_world_cannot_be_opened_twice_but_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let options =
        || Options { folder: Some(folder.path().to_owned()), speed: 1000.0, ..Options::default() };
    let start = || Sim::start(site(Topology::Cluster), options());
    let sim = start().await.unwrap();
    let digest = sim.digest();
    let written = || std::fs::read(folder.path().join("world.json")).unwrap();
    let before = written();
    let Err(refused) = start().await else { panic!("it was opened twice") };
    let text = refused.to_string();
    for part in [std::process::id().to_string(), folder.path().display().to_string()] {
        assert!(text.contains(&part), "no {part} in {text}");
    }
    let busy = super::inspect::pass(folder.path(), 60.0).unwrap_err();
    assert_eq!(busy.kind(), std::io::ErrorKind::ResourceBusy);
    let busy = super::inspect::delete_node(folder.path(), "m1").unwrap_err();
    assert_eq!(busy.kind(), std::io::ErrorKind::ResourceBusy);
    let seen = super::inspect::open(folder.path()).unwrap();
    assert_eq!((super::inspect::digest(&seen), written()), (digest, before));
    sim.stop().await;
    start().await.unwrap().stop().await;
}

#[tokio::test]
async fn standalone_hosts_have_their_own_vmids_users_and_cas() {
    let bench = Bench::with(Topology::Standalone, &[]).await;
    let hosts = bench.sim.endpoints().hosts;
    assert_ne!(hosts["pve1"].ca, hosts["pve2"].ca);
    assert_ne!(hosts["pve1"].token, hosts["pve2"].token);
    let reply = bench.as_token(&hosts["pve2"].token, "GET", "/version", &[]).await;
    assert_eq!((reply.status, reply.reason.as_str()), (401, "Authentication failed!"));
    let reply = bench.call("GET", "/nodes/pve2/status", &[]).await;
    assert_eq!(reply.status, 500);
    assert!(reply.reason.starts_with("hostname lookup 'pve2' failed"), "{}", reply.reason);
    let status = bench.get("/cluster/status").await;
    assert_eq!(status.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_node_answers_for_the_other_nodes_until_they_are_down() {
    let bench = Bench::new().await;
    let status = bench.get("/cluster/status").await;
    assert_eq!(status[0]["quorate"], json!(1));
    assert_eq!(status[1]["local"], json!(1));
    assert_eq!(bench.get("/nodes/pve2/version").await["release"], "9.2");
    bench.sim.shared().act(|world, _| world.pve.set_online("pve2", false));
    let reply = bench.call("GET", "/nodes/pve2/version", &[]).await;
    assert_eq!((reply.status, reply.reason.as_str()), (595, "No route to host"));
    assert_eq!(reply.body, json!(""));
    let nodes = bench.get("/nodes").await;
    assert_eq!(nodes[1]["status"], "offline");
}
