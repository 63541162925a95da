//! A site, seeds and a manual clock for the tests of the guests.

use std::net::{Ipv4Addr, SocketAddrV4};

use hadris_iso::write::options::CreationFeatures;
use russh::keys::{Algorithm, PrivateKey};

use super::Guests;
use super::commands::Output;
use crate::site::{Site, Topology};
use crate::store::Store;
use crate::world::{Machine, SimTime};

/// The initial clock of every test.
pub const EPOCH: i64 = 1_795_000_000;
pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 101, 1, 10);
pub const CERTIFICATE_KEY: &str =
    "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
pub const TOKEN: &str = "abcdef.0123456789abcdef";

/// The guests of a site with their store and a user's key.
pub struct Bench {
    pub guests: Guests,
    pub store: Store,
    pub operator: PrivateKey,
    pub host_key: PrivateKey,
}

pub fn key() -> PrivateKey {
    PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).unwrap()
}

pub fn site(external: bool) -> Site {
    let mut records = vec![("k8s1api.kloud.lan".to_owned(), VIP)];
    for (name, last) in NODES {
        records.push((format!("{name}.kloud.lan"), Ipv4Addr::new(10, 101, 1, last)));
    }
    let etcd = [101, 102, 103].map(|last| SocketAddrV4::new(Ipv4Addr::new(10, 103, 1, last), 2379));
    Site {
        topology: Topology::Cluster,
        cluster: crate::site::usual_name(),
        hosts: Vec::new(),
        domain: "kloud.lan".to_owned(),
        nameservers: vec![Ipv4Addr::new(10, 101, 1, 2), Ipv4Addr::new(10, 101, 1, 3)],
        records,
        api: "k8s1api.kloud.lan".to_owned(),
        pools: Vec::new(),
        gateway: Ipv4Addr::new(10, 101, 1, 1),
        etcd: if external { etcd.to_vec() } else { Vec::new() },
        packages: std::collections::BTreeMap::new(),
    }
}

pub const NODES: [(&str, u8); 5] =
    [("lb1", 11), ("lb2", 12), ("m1", 101), ("m2", 102), ("m3", 103)];

impl Bench {
    pub fn new(external: bool) -> Self {
        Self {
            guests: Guests::new(&site(external), EPOCH).unwrap(),
            store: Store::open(None).unwrap(),
            operator: key(),
            host_key: key(),
        }
    }

    pub fn machine(&self, name: &str, cdroms: Vec<String>) -> Machine {
        Machine {
            key: name.to_owned(),
            vmid: 101,
            host: "pve1".to_owned(),
            name: name.to_owned(),
            vcpu: 2,
            memory_mib: 4096,
            disk_gib: Some(20.0),
            bootable: true,
            nics: vec![("BC:24:11:00:00:01".to_owned(), "vmbr0".to_owned(), None)],
            cdroms,
            cloudinit: None,
            uuid: super::kube::uuid(),
            agent: true,
        }
    }

    /// Stores a seed and returns its blob id.
    pub fn seed(&self, name: &str, last: u8, more: &str) -> String {
        let public = self.operator.public_key().to_openssh().unwrap();
        let private = self.host_key.to_openssh(Default::default()).unwrap();
        let private = private.lines().map(|line| format!("    {line}\n")).collect::<String>();
        let user_data = format!(
            "#cloud-config\nhostname: {name}\nfqdn: {name}.kloud.lan\nusers:\n- name: ops\n  sudo: \
             'ALL=(ALL) NOPASSWD:ALL'\n  ssh_authorized_keys: ['{public}']\n- name: guest\n  \
             ssh_authorized_keys: ['{public}']\nssh_keys:\n  ed25519_private: |\n{private}{more}"
        );
        let network = format!(
            "version: 2\nethernets:\n  id0:\n    match: {{name: 'e*'}}\n    addresses: \
             [10.101.1.{last}/24]\n    routes: [{{to: default, via: 10.101.1.1}}]\n    nameservers: \
             {{addresses: [10.101.1.2, 10.101.1.3], search: [kloud.lan]}}\n"
        );
        let meta = format!("instance-id: k8s1-{name}-1\nlocal-hostname: {name}\n");
        let files = [
            ("user-data", user_data.as_str()),
            ("meta-data", meta.as_str()),
            ("network-config", network.as_str()),
        ];
        let image = super::iso::tests::write("cidata", &files, CreationFeatures::rock_ridge());
        self.store.keep(&image).unwrap()
    }

    /// Boots a node with a seed.
    pub fn boot(&mut self, name: &str, more: &str) {
        let last = NODES.iter().find(|(known, _)| *known == name).map_or(200, |(_, last)| *last);
        let seed = self.seed(name, last, more);
        let machine = self.machine(name, vec![seed]);
        self.guests.power_on(machine, self.guests.now, &self.store);
    }

    /// Advances the simulated time.
    pub fn pass(&mut self, seconds: f64) {
        let to = self.guests.now.after(seconds);
        self.guests.advance(to);
    }

    pub fn at(&mut self, seconds: f64) {
        self.guests.advance(SimTime::default().after(seconds));
    }

    /// Runs a command as the login user.
    pub fn run(&mut self, node: &str, line: &str) -> Output {
        self.guests.command(node, "ops", line, "")
    }

    /// Runs a command that must succeed, and returns its output.
    pub fn ok(&mut self, node: &str, line: &str) -> String {
        let done = self.run(node, line);
        assert_eq!(done.code, 0, "{line}: {}{}", done.stdout, done.stderr);
        done.stdout
    }

    pub fn put(&mut self, node: &str, path: &str, body: &str) {
        let line = format!("sudo -n -- install -D -m 0600 -o root -g root /dev/stdin {path}");
        assert_eq!(self.guests.command(node, "ops", &line, body).code, 0);
    }

    /// Two load balancers and three nodes with containerd and kubeadm, all booted.
    pub fn site_up(&mut self) {
        for name in ["lb1", "lb2"] {
            self.boot(name, &balancer(if name == "lb1" { 101 } else { 100 }));
        }
        for name in ["m1", "m2", "m3"] {
            self.boot(name, KUBERNETES);
        }
        self.pass(120.0);
    }

    /// Writes etcd's files and the init configuration on the first master and starts init.
    pub fn init(&mut self) {
        if let Some(etcd) = self.guests.etcd.clone() {
            self.put("m1", "/etc/kubernetes/pki/etcd/etcd-ca.crt", &etcd.ca.pair.cert);
            self.put("m1", "/etc/kubernetes/pki/etcd/apiserver-etcd-client.crt", &etcd.client.cert);
            self.put("m1", "/etc/kubernetes/pki/etcd/apiserver-etcd-client.key", &etcd.client.key);
        }
        self.put("m1", "/etc/kubernetes/k8sha/init.yaml", &init_yaml(self.guests.etcd.is_some()));
        self.start("m1", "init");
    }

    pub fn start(&mut self, node: &str, verb: &str) {
        let log = format!("/var/log/k8sha/kubeadm-{verb}.log");
        self.ok(
            node,
            &format!(
                "sudo -n -- systemd-run --unit=k8sha-kubeadm-{verb} --property=RemainAfterExit=yes \
             --property=StandardOutput=append:{log} --property=StandardError=append:{log} -- \
             /usr/bin/kubeadm {verb} --config /etc/kubernetes/k8sha/{verb}.yaml"
            ),
        );
    }

    pub fn join(&mut self, node: &str, control_plane: bool) {
        let pin = self.guests.kubes.values().next().unwrap().ca.pin().unwrap();
        let text = join_yaml(node, control_plane, TOKEN, CERTIFICATE_KEY, &pin);
        self.put(node, "/etc/kubernetes/k8sha/join.yaml", &text);
        self.start(node, "join");
    }

    pub fn log(&mut self, node: &str, verb: &str) -> String {
        self.ok(node, &format!("sudo -n -- tail -n +1 /var/log/k8sha/kubeadm-{verb}.log"))
    }

    pub fn kubectl(&mut self, rest: &str) -> String {
        self.ok("m1", &format!("sudo -n -- kubectl --kubeconfig /etc/kubernetes/admin.conf {rest}"))
    }
}

pub fn init_yaml(external: bool) -> String {
    let etcd = match external {
        true => {
            "etcd:\n  external:\n    endpoints: ['https://10.103.1.101:2379', \
             'https://10.103.1.102:2379']\n    caFile: /etc/kubernetes/pki/etcd/etcd-ca.crt\n    \
             certFile: /etc/kubernetes/pki/etcd/apiserver-etcd-client.crt\n    keyFile: \
             /etc/kubernetes/pki/etcd/apiserver-etcd-client.key\n"
        }
        false => "",
    };
    format!(
        "apiVersion: kubeadm.k8s.io/v1beta3\nkind: InitConfiguration\nbootstrapTokens:\n- token: \
         {TOKEN}\n  ttl: 24h0m0s\ncertificateKey: {CERTIFICATE_KEY}\nnodeRegistration:\n  name: \
         m1.kloud.lan\nlocalAPIEndpoint:\n  advertiseAddress: 10.101.1.101\n---\napiVersion: \
         kubeadm.k8s.io/v1beta3\nkind: ClusterConfiguration\nkubernetesVersion: v1.28.4\n\
         controlPlaneEndpoint: k8s1api.kloud.lan:6443\nclusterName: k8s1-cluster\n{etcd}networking:\n  \
         serviceSubnet: 198.18.0.0/23\n---\napiVersion: kubelet.config.k8s.io/v1beta1\nkind: \
         KubeletConfiguration\ncgroupDriver: systemd\n"
    )
}

pub fn join_yaml(node: &str, control_plane: bool, token: &str, key: &str, pin: &str) -> String {
    let last = NODES.iter().find(|(known, _)| *known == node).map_or(200, |(_, last)| *last);
    let plane = match control_plane {
        true => format!(
            "controlPlane:\n  localAPIEndpoint:\n    advertiseAddress: 10.101.1.{last}\n  \
             certificateKey: {key}\n"
        ),
        false => String::new(),
    };
    format!(
        "apiVersion: kubeadm.k8s.io/v1beta3\nkind: JoinConfiguration\ndiscovery:\n  \
         bootstrapToken:\n    token: {token}\n    apiServerEndpoint: k8s1api.kloud.lan:6443\n    \
         caCertHashes: ['{pin}']\nnodeRegistration:\n  name: {node}.kloud.lan\n{plane}"
    )
}

pub fn balancer(priority: u8) -> String {
    format!(
        "packages: [haproxy, keepalived]\nwrite_files:\n- path: /etc/haproxy/haproxy.cfg\n  content: |\n    \
         frontend api\n      bind *:6443\n      default_backend masters\n    backend masters\n      \
         server m1 10.101.1.101:6443 check\n      server m2 10.101.1.102:6443 check\n- path: \
         /etc/keepalived/keepalived.conf\n  content: |\n    vrrp_instance k8s1 {{\n      priority \
         {priority}\n      virtual_ipaddress {{\n        10.101.1.10/32\n      }}\n      track_script \
         {{\n        haproxy\n      }}\n    }}\n"
    )
}

pub const KUBERNETES: &str = "\
apt:
  sources:
    kubernetes: {source: 'deb https://pkgs.k8s.io/core:/stable:/v1.28/deb/ /'}
    docker: {source: 'deb https://download.docker.com/linux/ubuntu jammy stable'}
packages: [containerd.io, [kubeadm, 1.28.4-*], [kubelet, 1.28.4-*], [kubectl, 1.28.4-*], qemu-guest-agent]
write_files:
- {path: /etc/sysctl.d/k8s.conf, content: \"net.ipv4.ip_forward = 1\\n\"}
- path: /etc/containerd/config.toml
  content: |
    version = 2
    [plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc.options]
      SystemdCgroup = true
runcmd:
- [sysctl, --system]
- [apt-mark, hold, kubelet, kubeadm, kubectl]
";

/// A world around guests, with an empty Proxmox side.
pub fn world(guests: Guests) -> crate::world::World {
    crate::world::World {
        site: site(true),
        epoch: EPOCH,
        now: guests.now,
        kept: guests.now,
        pve: crate::pve::Pve::default(),
        guests,
        faults: crate::faults::Faults::default(),
        machines: false,
    }
}
