//! What the tests of this module share: the cluster `k8s1`, and a node that answers a script.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::cluster::*;
use crate::ssh::Remote;
use crate::ssh::fake::{Fake, Reply};

/// The node table with external etcd.
pub(crate) fn k8s1() -> Cluster {
    let domain = "kloud.lan";
    let node = |role, name: &str, octet: u8, host: &str, vmid: u32| Node {
        role,
        name: NodeName(name.into()),
        fqdn: format!("{name}.{domain}"),
        ip: [10, 101, 1, octet].into(),
        os: "ubuntu-22.04".into(),
        kernel: Kernel::Stock,
        ram_mib: 4096,
        vcpu: 2,
        disk_gib: 20,
        host: HostName(host.into()),
        vmid: VmId(vmid),
        preinstalled: false,
    };
    Cluster {
        name: "k8s1-cluster".into(),
        api: Api {
            name: "k8s1api".into(),
            fqdn: format!("k8s1api.{domain}"),
            vip: [10, 101, 1, 10].into(),
            port: 6443,
        },
        network: Network {
            subnet: "10.101.1.0/24".parse().unwrap(),
            gateway: [10, 101, 1, 1].into(),
            domain: domain.into(),
            nameservers: vec![[10, 101, 0, 53].into(), [10, 101, 0, 54].into()],
            ntp: vec![],
            bridge: "vmbr0".into(),
            vlan: None,
        },
        kubernetes: Kubernetes {
            version: "1.28.4".parse().unwrap(),
            pods: "100.64.0.0/16".parse().unwrap(),
            node_mask: 24,
            services: "198.18.0.0/23".parse().unwrap(),
            external: None,
            dns_domain: "k8s1-prod.lan".into(),
            proxy: ProxyMode::None,
            cni: Cni::Cilium { version: "1.18.4".into(), cli_version: "0.18.9".into() },
            control_plane_timeout: Duration::from_secs(120),
        },
        etcd: Etcd::External {
            endpoints: [101, 102, 103, 201, 202, 203]
                .map(|octet| format!("https://10.103.1.{octet}:2379"))
                .to_vec(),
            ca_file: "etcd-ca.crt".into(),
            cert_file: "apiserver-etcd-client.crt".into(),
            key_file: "apiserver-etcd-client.key".into(),
            hosts: BTreeMap::new(),
        },
        balancer: Balancer { vrid: 51, advert: Duration::from_secs(1) },
        access: Access { user: "ubuntu".into(), authorized_keys: vec![] },
        proxmox: Proxmox {
            hosts: BTreeMap::new(),
            pool: None,
            clone: CloneMode::Full,
            cpu: "x86-64-v2-AES".into(),
            parallel_clones: 2,
        },
        images: BTreeMap::new(),
        nodes: vec![
            node(Role::LoadBalancer, "k8s1vrrp1", 11, "pve1", 111),
            node(Role::LoadBalancer, "k8s1vrrp2", 12, "pve2", 112),
            node(Role::Master, "k8s1master1", 101, "pve1", 201),
            node(Role::Master, "k8s1master2", 102, "pve1", 202),
            node(Role::Master, "k8s1master3", 103, "pve1", 203),
            node(Role::Master, "k8s1master4", 201, "pve2", 204),
            node(Role::Master, "k8s1master5", 202, "pve2", 205),
            node(Role::Master, "k8s1master6", 203, "pve2", 206),
        ],
    }
}

/// Takes a line of ours apart again; our quoting is single quotes only.
pub(crate) fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut open) = (Vec::new(), String::new(), false, false);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' => (quoted, open) = (!quoted, true),
            '\\' if !quoted => word.extend(chars.next()),
            ' ' if !quoted => {
                if open || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                open = false;
            }
            c => word.push(c),
        }
    }
    if open || !word.is_empty() {
        words.push(word);
    }
    words
}

/// The files of a fake node.
pub(crate) type Files = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// A node with files, whose other commands a script answers.
pub(crate) struct Host {
    pub(crate) fake: Fake,
    pub(crate) files: Files,
}

impl Host {
    /// Starts it. The script gets the words without `sudo -n --`; what it leaves unanswered ends
    /// with status 127.
    pub(crate) async fn start(
        script: impl Fn(&[&str], &Files) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let files = Files::default();
        let own = Arc::clone(&files);
        let fake = Fake::start(move |line, input| {
            let words = words(line);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let words = words.strip_prefix(&["sudo", "-n", "--"]).unwrap_or(&words);
            script(words, &own).or_else(|| on_files(words, input, &own)).unwrap_or_else(|| {
                Reply::code(127, format!("bash: line 1: {}: command not found", words[0]))
            })
        })
        .await;
        Self { fake, files }
    }

    pub(crate) fn remote(&self, node: &str) -> Remote {
        self.fake.remote(node)
    }

    pub(crate) fn put(&self, path: &str, body: impl Into<Vec<u8>>) {
        self.files.lock().unwrap().insert(path.into(), body.into());
    }

    pub(crate) fn text(&self, path: &str) -> Option<String> {
        self.files.lock().unwrap().get(path).map(|body| String::from_utf8(body.clone()).unwrap())
    }
}

fn on_files(words: &[&str], input: &[u8], files: &Files) -> Option<Reply> {
    let mut files = files.lock().unwrap();
    Some(match words {
        ["test", "-e", path] => Reply::code(u32::from(!files.contains_key(*path)), ""),
        ["cat", path] => match files.get(*path) {
            Some(body) => Reply::out(body.clone()),
            None => Reply::code(1, format!("cat: {path}: No such file or directory\n")),
        },
        ["install", "-D", "-m", "0600", "-o", "root", "-g", "root", "/dev/stdin", path] => {
            files.insert((*path).to_owned(), input.to_vec());
            Reply::out("")
        }
        ["rm", "-f", paths @ ..] => {
            paths.iter().for_each(|path| drop(files.remove(*path)));
            Reply::out("")
        }
        ["sha256sum", paths @ ..] => {
            let (mut out, mut err) = (String::new(), String::new());
            for path in paths {
                match files.get(*path) {
                    Some(body) => {
                        let hex: String =
                            Sha256::digest(body).iter().map(|b| format!("{b:02x}")).collect();
                        out += &format!("{hex}  {path}\n");
                    }
                    None => err += &format!("sha256sum: {path}: No such file or directory\n"),
                }
            }
            Reply::Done(u32::from(!err.is_empty()), out.into_bytes(), err)
        }
        ["tail", "-n", from, path] => match files.get(*path) {
            Some(body) => {
                let from: usize = from.trim_start_matches('+').parse().unwrap();
                let text = String::from_utf8(body.clone()).unwrap();
                Reply::out(text.split_inclusive('\n').skip(from - 1).collect::<String>())
            }
            None => Reply::code(1, format!("tail: cannot open '{path}' for reading\n")),
        },
        _ => return None,
    })
}
