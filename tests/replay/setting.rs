//! The recorded world: its site, and the actions on it outside the recording.

use std::net::Ipv4Addr;

use k8sha_simulator::site::{Site, SiteHost, SiteStorage, Topology, usual_name};

/// From this line on there are two nodes.
pub const SECOND_WORLD: u64 = 766;

type Fields = &'static [(&'static str, &'static str)];

/// An action outside the recording.
pub enum Step {
    /// An API call as root.
    Call(&'static str, &'static str, Fields),
    /// An API call as root that was refused, or whose outcome is unknown.
    Try(&'static str, &'static str, Fields),
    /// A clone of template 9000.
    Clone(u32, Fields),
    /// A change of a VM's options.
    Config(u32, Fields),
    /// A VM is started.
    Start(u32),
    /// A VM is stopped.
    Stop(u32),
    /// A VM is destroyed once no task runs.
    Destroy(u32),
    /// Waits until no task runs.
    Idle,
    /// A snippet is copied to `local` by hand: its name, and its size in bytes.
    Snippet(&'static str, u64),
    /// The template's image is uploaded.
    Image,
    /// `prov@pve` gets exactly these privileges: `/path:Privilege, …`.
    Grants(&'static str),
    /// `prov@pve` gets the role `Provisioner` on the paths of a provisioner.
    Provisioner,
    /// `prov@pve` loses that role.
    NoProvisioner,
    /// The role `Provisioner` is created.
    ProvisionerRole,
    /// The recorded name of a VM's digest at this point.
    Digest(u32, &'static str),
    /// The recorded name of a ticket of `root@pam`.
    Ticket(&'static str),
    /// A host is disconnected, and with it the quorum is lost.
    CutOff(&'static str),
    /// The host is back.
    Reached(&'static str),
}

use Step::*;

const CLONE_RIGHTS: &str = "/vms/301:VM.Allocate, /vms/9000:VM.Clone, \
    /storage/local:Datastore.AllocateSpace, /sdn/zones/localnetwork/vmbr0:SDN.Use";

/// The actions before the exchange of a line, derived from the surrounding exchanges.
pub const STEPS: &[(u64, &[Step])] = &[
    (
        160,
        &[
            Destroy(101),
            Destroy(102),
            Config(9000, &[("kvm", "0")]),
            Clone(101, &[("name", "lc1")]),
            Config(101, &[("net0", "virtio,bridge=nobr")]),
            Clone(103, &[("name", "run1")]),
        ],
    ),
    // The real host's QEMU could not copy the disk of a running VM; the simulated copy is deleted.
    (212, &[Destroy(104)]),
    (446, &[Destroy(202)]),
    (470, &[Clone(301, &[("name", "n0")])]),
    (628, &[Destroy(301)]),
    (641, &[Destroy(302)]),
    (647, &[Destroy(301), Grants(CLONE_RIGHTS)]),
    (648, &[Grants("")]),
    (650, &[Clone(303, &[("name", "other")])]),
    (654, &[Destroy(301), Destroy(303)]),
    (662, &[Idle]),
    (663, &[Idle]),
    (664, &[Idle]),
    (665, &[Idle]),
    (667, &[Idle]),
    (668, &[Idle]),
    (738, &[Stop(401), Destroy(401), Destroy(402)]),
    (744, &[Digest(9000, "91adda1875bbb9d56f74894e5b6b50b556bba683")]),
    (
        SECOND_WORLD,
        &[
            Call(
                "PUT",
                "/storage/local",
                &[("content", "iso,vztmpl,snippets,images,import,backup")],
            ),
            Image,
            Call(
                "POST",
                "/nodes/pve1/qemu",
                &[
                    ("vmid", "9000"),
                    ("name", "tmpl"),
                    ("memory", "128"),
                    ("cores", "1"),
                    ("scsihw", "virtio-scsi-single"),
                    ("scsi0", "local:0,import-from=local:import/tiny.qcow2,format=qcow2"),
                    ("ide2", "local:cloudinit"),
                    ("boot", "order=scsi0"),
                    ("serial0", "socket"),
                    ("vga", "serial0"),
                    ("net0", "virtio,bridge=vmbr0"),
                    ("agent", "enabled=1"),
                    ("ostype", "l26"),
                    ("kvm", "0"),
                ],
            ),
            Call("POST", "/nodes/pve1/qemu/9000/template", &[]),
            Clone(150, &[("name", "t1")]),
            Clone(201, &[("name", "agent1")]),
            Config(201, &[("memory", "256"), ("boot", "order=scsi0")]),
            Config(9000, &[("description", "a")]),
            Call("POST", "/pools", &[("poolid", "kube")]),
            ProvisionerRole,
            Provisioner,
        ],
    ),
    (776, &[Ticket("PVE:root@pam:6B02F4C1::SIGNATURE")]),
    (832, &[CutOff("pve2")]),
    (851, &[Reached("pve2")]),
    (876, &[Call("POST", "/nodes/pve2/qemu/701/status/stop", &[])]),
    (878, &[Destroy(201), Clone(801, &[("name", "c801"), ("description", "")])]),
    (881, &[Start(801)]),
    (897, &[Stop(801), Destroy(801), Clone(802, &[("full", "1")]), Destroy(802)]),
    (903, &[Clone(811, &[("name", "lag")]), Start(811)]),
    (910, &[Stop(811)]),
    (913, &[Snippet("u.yaml", 31)]),
    (973, &[Config(9000, &[("description", "single")]), Clone(850, &[])]),
    (974, &[Destroy(850), NoProvisioner]),
    (975, &[Destroy(301)]),
    (976, &[Provisioner]),
    (977, &[Idle]),
];

/// The site of a recording.
pub struct Place {
    /// The domain of the hosts.
    domain: &'static str,
    /// The name server in their `resolv.conf`: none of the recorded ones answered.
    pub server: Ipv4Addr,
    /// Their router; they have the addresses .11 and .12 of its network.
    gateway: Ipv4Addr,
    /// The network card of the bridge.
    port: &'static str,
}

/// The site of the first recording.
pub const FIRST: Place = Place {
    domain: "test.lan",
    server: Ipv4Addr::LOCALHOST,
    gateway: Ipv4Addr::new(10, 98, 0, 1),
    port: "eth0",
};

/// The site of the second recording.
pub const SECOND: Place = Place {
    domain: "home.arpa",
    server: Ipv4Addr::new(192, 168, 10, 2),
    gateway: Ipv4Addr::new(192, 168, 10, 1),
    port: "eno1",
};

/// The site of a recording: one node, or two of a cluster of this name.
pub fn site(place: &Place, hosts: &[&str], cluster: Option<&str>) -> Site {
    let storage = SiteStorage {
        name: "local".to_owned(),
        kind: "dir".to_owned(),
        content: ["backup", "images", "vztmpl", "rootdir", "iso", "snippets"]
            .map(str::to_owned)
            .into(),
        shared: false,
        size_gib: 252,
    };
    let hosts = hosts.iter().map(|name| SiteHost {
        name: (*name).to_owned(),
        storages: vec![storage.clone()],
        bridges: vec!["vmbr0".to_owned()],
        ports: vec![place.port.to_owned()],
        memory_mib: 24_105,
        cpus: 2,
    });
    Site {
        topology: if cluster.is_some() { Topology::Cluster } else { Topology::Standalone },
        cluster: cluster.map_or_else(usual_name, str::to_owned),
        hosts: hosts.collect(),
        domain: place.domain.to_owned(),
        // As in the host's own resolv.conf, which goes into cloud-init's network.
        nameservers: vec![place.server],
        records: Vec::new(),
        api: String::new(),
        pools: Vec::new(),
        gateway: place.gateway,
        etcd: Vec::new(),
        packages: std::collections::BTreeMap::new(),
    }
}
