//! Two clusters for tests: `k8s1` and `homelab`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;

use super::*;

const GIB: u32 = 1024;

/// Two load balancers, six masters, external etcd, 1.28.4, IPVS, mainline kernels.
pub fn k8s1() -> Cluster {
    let kernel = Kernel::Mainline(Version { major: 6, minor: 6, patch: 1 });
    let row = |role, name: String, ip: [u8; 4], host: &str, vmid, ram_mib| Node {
        role,
        fqdn: format!("{name}.kloud.lan"),
        name: NodeName(name),
        ip: ip.into(),
        os: "ubuntu-22.04".to_owned(),
        kernel: kernel.clone(),
        ram_mib,
        vcpu: 2,
        disk_gib: 20,
        host: HostName(host.to_owned()),
        vmid: VmId(vmid),
        preinstalled: false,
    };
    let mut nodes = Vec::new();
    for (i, host) in [(1u8, "pve1"), (2, "pve2")] {
        let vmid = 1010 + u32::from(i);
        let (ip, name) = ([10, 101, 1, 10 + i], format!("k8s1vrrp{i}"));
        nodes.push(row(Role::LoadBalancer, name, ip, host, vmid, 2 * GIB));
    }
    for i in 1..=6u8 {
        let (host, last) = if i <= 3 { ("pve1", 100 + i) } else { ("pve2", 200 + i - 3) };
        let vmid = 1000 + u32::from(last);
        let (ip, name) = ([10, 101, 1, last], format!("k8s1master{i}"));
        nodes.push(row(Role::Master, name, ip, host, vmid, 4 * GIB));
    }
    let members = [101, 102, 103, 201, 202, 203];
    Cluster {
        name: "k8s1-cluster".to_owned(),
        api: Api {
            name: "k8s1api".to_owned(),
            fqdn: "k8s1api.kloud.lan".to_owned(),
            vip: Ipv4Addr::new(10, 101, 1, 10),
            port: 6443,
        },
        network: Network {
            subnet: net([10, 101, 1, 0], 24),
            gateway: Ipv4Addr::new(10, 101, 1, 1),
            domain: "kloud.lan".to_owned(),
            nameservers: vec![Ipv4Addr::new(10, 101, 1, 2), Ipv4Addr::new(10, 101, 1, 3)],
            ntp: Vec::new(),
            bridge: "vmbr0".to_owned(),
            vlan: None,
            others: Vec::new(),
        },
        kubernetes: Kubernetes {
            version: Version { major: 1, minor: 28, patch: 4 },
            pods: net([100, 64, 0, 0], 16),
            node_mask: 24,
            services: net([198, 18, 0, 0], 23),
            external: Some(net([198, 19, 0, 0], 23)),
            dns_domain: "k8s1-prod.lan".to_owned(),
            proxy: ProxyMode::Ipvs,
            cni: Cni::None,
            control_plane_timeout: Duration::from_secs(120),
            parallel_joins: None,
            image_repository: None,
            image_archives: Vec::new(),
        },
        etcd: Etcd::External {
            endpoints: members.map(|last| format!("https://10.103.1.{last}:2379")).into(),
            ca_file: "etcd-ca.crt".into(),
            cert_file: "apiserver-etcd-client.crt".into(),
            key_file: "apiserver-etcd-client.key".into(),
            hosts: BTreeMap::new(),
        },
        balancer: Balancer {
            vrid: 51,
            failover: Failover::Normal,
            advert: Failover::Normal.advert(),
        },
        access: Access {
            user: "ubuntu".to_owned(),
            authorized_keys: Vec::new(),
            agent: None,
            identity: None,
            jump: None,
        },
        proxmox: Proxmox {
            hosts: BTreeMap::new(),
            pool: None,
            clone: CloneMode::Linked,
            cpu: "x86-64-v2-AES".to_owned(),
            parallel_clones: 2,
            ssh: HostLogin { user: "root".to_owned(), identity: None, known_hosts: None },
            blackholes: vec![
                net([198, 19, 0, 0], 16),
                net([198, 18, 0, 0], 16),
                net([100, 64, 0, 0], 10),
            ],
        },
        mirrors: Mirrors::default(),
        images: BTreeMap::new(),
        nodes,
    }
}

/// Two load balancers, three masters, two workers, stacked etcd, 1.37.1, Cilium for kube-proxy.
pub fn homelab() -> Cluster {
    let mut cluster = k8s1();
    cluster.name = "homelab".to_owned();
    cluster.kubernetes.version = Version { major: 1, minor: 37, patch: 1 };
    cluster.kubernetes.proxy = ProxyMode::None;
    cluster.kubernetes.cni =
        Cni::Cilium { version: "1.18.4".to_owned(), cli_version: "0.18.9".to_owned() };
    cluster.kubernetes.dns_domain = "cluster.local".to_owned();
    cluster.kubernetes.external = None;
    cluster.etcd = Etcd::Stacked;
    cluster.network.ntp = vec!["10.101.1.1".to_owned()];
    cluster.balancer.failover = Failover::Fast;
    cluster.balancer.advert = Failover::Fast.advert();
    cluster.access.authorized_keys =
        vec!["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOperator me@laptop".to_owned()];
    cluster.nodes.truncate(5);
    for i in 1..=2u8 {
        let mut worker = cluster.nodes[4].clone();
        worker.role = Role::Worker;
        worker.name = NodeName(format!("k8s1worker{i}"));
        worker.fqdn = format!("k8s1worker{i}.kloud.lan");
        worker.ip = [10, 101, 1, 110 + i].into();
        worker.vmid = VmId(1110 + u32::from(i));
        cluster.nodes.push(worker);
    }
    for node in &mut cluster.nodes {
        node.kernel = Kernel::Stock;
    }
    cluster
}

/// The main test's cluster, with k8sha's own etcd on three machines in a separate subnet.
pub fn own_etcd() -> Cluster {
    let mut cluster = k8s1();
    cluster.network.others = vec![Subnet {
        subnet: net([10, 103, 1, 0], 24),
        gateway: Ipv4Addr::new(10, 103, 1, 1),
        bridge: "vmbr1".to_owned(),
        vlan: Some(103),
    }];
    let members = [("pve1", 101u8), ("pve1", 102), ("pve2", 201)];
    for (i, (host, last)) in members.into_iter().enumerate() {
        let name = format!("k8s1etcd{}", i + 1);
        cluster.nodes.push(Node {
            role: Role::Etcd,
            fqdn: format!("{name}.kloud.lan"),
            name: NodeName(name),
            ip: [10, 103, 1, last].into(),
            vmid: VmId(3000 + u32::from(last)),
            host: HostName(host.to_owned()),
            kernel: Kernel::Stock,
            ..cluster.nodes[0].clone()
        });
    }
    cluster.etcd = Etcd::Machines {
        release: Some(EtcdRelease {
            version: Version { major: 3, minor: 5, patch: 33 },
            url: "https://mirror.kloud.lan/etcd-v3.5.33-linux-amd64.tar.gz".to_owned(),
            sha256: "ab".repeat(32),
        }),
        endpoints: members.map(|(_, last)| format!("https://10.103.1.{last}:2379")).into(),
    };
    cluster
}

fn net(address: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(address.into(), prefix)
}
