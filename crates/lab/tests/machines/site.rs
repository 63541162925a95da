//! A running simulator whose machines are containers, and the program run against it.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Two balancers and two masters on a small external etcd.
const PROFILE: &str = "
cluster: { name: small, api: { name: k8s1api, vip: 10.101.1.10 } }
network:
  subnet: 10.101.1.0/24
  gateway: 10.101.1.1
  domain: kloud.lan
  nameservers: [10.101.1.2, 10.101.1.3]
  bridge: vmbr0
kubernetes:
  version: 1.28.4
  pods: { cidr: 10.244.0.0/16, node_mask: 24 }
  services: 10.96.0.0/16
  proxy: iptables
  cni: none
etcd:
  external:
    endpoints: ['https://10.103.1.101:2379', 'https://10.103.1.102:2379', 'https://10.103.1.103:2379']
    files: { ca: etcd-ca.crt, cert: apiserver-etcd-client.crt, key: apiserver-etcd-client.key }
balancer: { vrid: 101 }
proxmox:
  hosts:
    pve1: { endpoint: 'https://pve1.kloud.lan:8006', storage: local-lvm, templates: { ubuntu-22.04: 9001 } }
    pve2: { endpoint: 'https://pve2.kloud.lan:8006', storage: local-lvm, templates: { ubuntu-22.04: 9002 } }
images:
  ubuntu-22.04:
    url: https://cloud-images.ubuntu.com/releases/jammy/release-20260913/ubuntu-22.04-server-cloudimg-amd64.img
    sha256: 9144540e8af7637d258b50dbabe82ce1aa6752c9574fedfb048270da0e087899
defaults: { os: ubuntu-22.04, kernel: stock, ram: 4G, vcpu: 2, disk: 20G }
nodes:
  - { role: load-balancer, name: lb1,     ip: 10.101.1.11,  pve: pve1, vmid: 1011 }
  - { role: load-balancer, name: lb2,     ip: 10.101.1.12,  pve: pve2, vmid: 1012 }
  - { role: master,        name: master1, ip: 10.101.1.101, pve: pve1, vmid: 1101 }
  - { role: master,        name: master2, ip: 10.101.1.201, pve: pve2, vmid: 1201 }
";

/// Prints a line past the harness's capture.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Whether this tier is enabled; prints a prominent line if not.
pub fn asked(test: &str) -> bool {
    let asked = std::env::var_os("K8SHA_REAL").is_some();
    if !asked {
        say(&format!("SKIPPED {test}: K8SHA_REAL is not set"));
    }
    asked
}

/// The result of a run of the program.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let code = output.status.code().unwrap_or(-1);
        Self { code, stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}\n{}", self.stdout, self.stderr);
        self
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// The program without a simulated world.
pub fn k8sha(args: &[&str]) -> Ran {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_k8sha-lab"));
    command.args(args).env("HOME", home.path()).env("NO_COLOR", "1").stdin(Stdio::null());
    Ran::of(command.output().unwrap())
}

/// A simulated site with real machines.
pub struct Site {
    child: Child,
    folder: TempDir,
    /// The lab's id.
    pub id: String,
}

impl Site {
    /// Serves an empty site.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let profile = folder.path().join("small.yaml");
        fs::write(&profile, PROFILE).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_k8sha-lab"));
        command.args(["sim", "--profile"]).arg(profile);
        command.env("HOME", folder.path()).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with('{'), "the simulator did not start");
        let said: Value = serde_json::from_str(&line).unwrap();
        let network = said["containers"]["network"].as_str().unwrap();
        let id = network.strip_prefix("k8sha-").unwrap().to_owned();
        fs::write(folder.path().join("endpoints.json"), line).unwrap();
        Self { child, folder, id }
    }

    /// A folder for files of the test.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Runs the program on this site.
    pub fn run(&self, args: &[&str]) -> Ran {
        let place = |name: &str| self.folder.path().join(name).to_str().unwrap().to_owned();
        let (profile, endpoints, state) =
            (place("small.yaml"), place("endpoints.json"), place("state"));
        let more = ["--profile", &profile, "--endpoints", &endpoints, "--state", &state];
        k8sha(&[args, &more].concat())
    }

    /// A path on a machine's disk, in its own layer.
    pub fn disk(&self, machine: &str, path: &str) -> PathBuf {
        let folder = PathBuf::from(format!("/var/tmp/k8sha-lab-{}", self.id));
        folder.join("machines").join(format!("{machine}-site/upper")).join(path)
    }

    /// Runs a program in a machine's network; an empty name means the lab's router.
    pub fn on(&self, machine: &str, words: &[&str]) -> Ran {
        let name = match machine {
            "" => format!("k8sha-{}", self.id),
            machine => format!("k8sha-{}-{machine}-site", self.id),
        };
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &name]).args(words).stdin(Stdio::null());
        Ran::of(command.output().unwrap())
    }

    /// A call of the simulated Proxmox VE; waits for its task.
    pub fn api(&self, method: &str, path: &str) -> Value {
        let data = self.order(method, path);
        if let Some(upid) = data.as_str().filter(|text| text.starts_with("UPID:")) {
            let node = upid.split(':').nth(1).unwrap();
            let status = format!("/nodes/{node}/tasks/{upid}/status");
            until("the task ends", || self.order("GET", &status)["status"] == "stopped");
            assert_eq!(self.order("GET", &status)["exitstatus"], "OK", "{path}");
        }
        data
    }

    /// A call of the simulated Proxmox VE; its task is not followed.
    pub fn order(&self, method: &str, path: &str) -> Value {
        let host = &self.endpoints()["hosts"]["pve1"];
        let ca = self.folder.path().join("ca.pem");
        fs::write(&ca, host["ca"].as_str().unwrap()).unwrap();
        let token = format!("Authorization: PVEAPIToken={}", host["token"].as_str().unwrap());
        let url = format!("{}/api2/json{path}", host["url"].as_str().unwrap());
        let mut command = Command::new("curl");
        command.args(["-sS", "--fail-with-body", "--cacert"]).arg(&ca);
        let ran = Ran::of(command.args(["-X", method, "-H", &token, &url]).output().unwrap());
        ran.ok().json()["data"].clone()
    }

    fn endpoints(&self) -> Value {
        let text = fs::read_to_string(self.folder.path().join("endpoints.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// Whether a machine has a network card.
    pub fn is_plugged(&self, machine: &str) -> bool {
        self.on(machine, &["ip", "link", "show", "eth0"]).code == 0
    }

    /// The machines that have an address now.
    pub fn holders(&self, machines: &[&str], address: &str) -> Vec<String> {
        let has = |machine: &&&str| {
            let to = format!("{address}/32");
            let ran = self.on(machine, &["ip", "-o", "-4", "addr", "show", "to", &to]);
            !ran.stdout.is_empty()
        };
        machines.iter().filter(has).map(|machine| (*machine).to_owned()).collect()
    }

    /// Whether the API answers at the VIP, for a client in the nodes' subnet.
    pub fn api_answers(&self) -> bool {
        let url = "https://10.101.1.10:6443/readyz";
        self.on("", &["curl", "-sk", "--max-time", "2", url]).stdout == "ok"
    }

    /// Kills the simulator with SIGKILL.
    pub fn kill(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.id.clone()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let pid = self.child.id().to_string();
            let _ = Command::new("kill").args(["-INT", &pid]).status();
            let _ = self.child.wait();
        }
    }
}

/// The recorded labs on this machine, the newest last.
pub fn labs() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/run/k8sha/labs") else { return Vec::new() };
    let mut found: Vec<_> = entries
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.metadata().unwrap().modified().unwrap(), entry.file_name()))
        .collect();
    found.sort();
    found.into_iter().map(|(_, name)| name.into_string().unwrap()).collect()
}

/// Waits for a condition; machines boot in real time.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(180);
    while !is_so() {
        assert!(Instant::now() < end, "in three minutes {what} has not happened");
        // There is no notification: machines are polled.
        std::thread::sleep(Duration::from_millis(100));
    }
}
