use super::*;
use crate::cluster::{Host, fixture};
use crate::plan::inventory::{HostState, KubeNode, KubernetesState, NodeState};

const CFG: &str = "/etc/haproxy/haproxy.cfg";
const CONF: &str = "/etc/keepalived/keepalived.conf";

fn k8s1() -> Cluster {
    let mut cluster = fixture::k8s1();
    for name in ["pve1", "pve2"] {
        let host = Host {
            endpoint: format!("https://{name}:8006"),
            trust: None,
            ssh_address: None,
            ssh_host_key: None,
            storage: "local-lvm".to_owned(),
            iso_storage: "local".to_owned(),
            import_storage: "local".to_owned(),
            templates: BTreeMap::from([(
                "ubuntu-22.04".to_owned(),
                TemplateSource::Theirs(VmId(9001)),
            )]),
        };
        cluster.proxmox.hosts.insert(HostName(name.to_owned()), host);
    }
    cluster
}

/// The name of a balancer's seed, by the hash of what is kept and of what is not.
fn seed(node: &Node, rest: &str, all: &str) -> String {
    format!("k8sha-k8s1-cluster-{}-{rest:0>12}{all:0>12}.iso", node.name)
}

/// The cluster as it is asked for, whose balancers' files hash to this.
fn specs(cluster: &Cluster, rest: &str, haproxy: &str) -> Specs {
    let spec = |node: &Node| {
        let mut spec = spec::node_spec(cluster, node, &seed(node, rest, haproxy), "1");
        if node.role == Role::LoadBalancer {
            spec.kept =
                [(CFG, haproxy), (CONF, "cc")].map(|(p, hash)| (p.into(), hash.into())).into();
        }
        (node.name.clone(), spec)
    };
    cluster.nodes.iter().map(spec).collect()
}

/// All there and as these specs say.
fn inventory(cluster: &Cluster, specs: &Specs) -> Inventory {
    let mut inventory = Inventory { kubeconfig: true, ..Inventory::default() };
    let mut kube = KubernetesState { initialised: true, ..KubernetesState::default() };
    for node in &cluster.nodes {
        let wanted = &specs[&node.name];
        let mut config = wanted.settings.clone();
        config.insert("name".into(), node.name.to_string());
        config.insert("description".into(), wanted.description.clone());
        let (host, creation) = (node.host.to_string(), "1".to_owned());
        let disk_bytes = Some(u64::from(node.disk_gib) << 30);
        let vm = OurVm { host, config, running: true, creation, disk_bytes, ..OurVm::default() };
        inventory.vms.insert(node.name.clone(), VmState::Ours(Box::new(vm)));
        let state = NodeState { booted: true, ..NodeState::default() };
        inventory.nodes.insert(node.name.clone(), state);
        let host: &mut HostState = inventory.hosts.entry(node.host.clone()).or_default();
        host.isos.insert(format!("local:iso/{}", wanted.seed_file));
        let roles = ["control-plane".to_owned()].into();
        match node.role {
            Role::LoadBalancer => {
                drop(inventory.balancers.insert(node.name.clone(), wanted.kept.clone()));
            }
            _ => drop(kube.nodes.insert(node.fqdn.clone(), KubeNode { roles, ready: true })),
        }
    }
    inventory.kubernetes = Some(kube);
    inventory
}

fn plan_of(cluster: &Cluster, specs: &Specs, inventory: &Inventory, part: &Part) -> Plan {
    plan(cluster, specs, inventory, part).unwrap()
}

fn step<'a>(plan: &'a Plan, id: &str) -> &'a Step {
    plan.steps.iter().find(|step| step.id == id).unwrap_or_else(|| panic!("no {id} in {plan:#?}"))
}

fn writes(plan: &Plan) -> Vec<&str> {
    plan.writes().map(|step| step.id.as_str()).collect()
}

#[test]
fn balancers_with_the_files_of_now_are_left_alone() {
    let cluster = k8s1();
    let specs = specs(&cluster, "aa", "bb");
    let plan = plan_of(&cluster, &specs, &inventory(&cluster, &specs), &Part::all());
    assert!(plan.is_settled() && plan.notices.is_empty(), "{plan:#?}");
}

#[test]
fn balancers_are_brought_up_to_date_one_after_the_other_in_every_part_of_the_job() {
    let cluster = k8s1();
    let had = inventory(&cluster, &specs(&cluster, "aa", "bb"));
    let specs = specs(&cluster, "aa", "dd");
    for part in [
        Part::all(),
        Part { provision: false, ..Part::all() },
        Part { bootstrap: false, ..Part::all() },
    ] {
        let plan = plan_of(&cluster, &specs, &had, &part);
        assert_eq!(writes(&plan), ["balance/k8s1vrrp1", "balance/k8s1vrrp2"]);
        let first = step(&plan, "balance/k8s1vrrp1");
        assert!(first.needs.is_empty(), "{first:?}");
        assert_eq!(first.action.to_string(), "bring haproxy.cfg up to date");
        let second = step(&plan, "balance/k8s1vrrp2");
        assert_eq!(second.needs, ["balance/k8s1vrrp1"]);
        assert!(plan.notices.is_empty(), "nothing else differs: {:?}", plan.notices);
        if part.bootstrap {
            let needs = &step(&plan, "vip").needs;
            assert_eq!(needs, &["balance/k8s1vrrp1", "balance/k8s1vrrp2"]);
        }
    }
    let hosts = Some([HostName("pve2".into())].into());
    let part = Part { hosts, bootstrap: false, ..Part::all() };
    assert_eq!(writes(&plan_of(&cluster, &specs, &had, &part)), ["balance/k8s1vrrp2"]);
}

#[test]
fn a_balancer_that_cannot_be_asked_is_asked_when_it_has_booted_and_a_new_one_is_not() {
    let cluster = k8s1();
    let specs = specs(&cluster, "aa", "bb");
    let mut seen = inventory(&cluster, &specs);
    for name in ["k8s1vrrp1", "k8s1vrrp2"].map(|name| NodeName(name.into())) {
        seen.nodes.remove(&name);
        seen.balancers.remove(&name);
    }
    seen.vms.insert(NodeName("k8s1vrrp2".into()), VmState::Absent);
    let plan = plan_of(&cluster, &specs, &seen, &Part::all());
    let one = step(&plan, "balance/k8s1vrrp1");
    assert_eq!(one.needs, ["node-dns/k8s1vrrp1"]);
    assert_eq!(one.action.to_string(), "bring haproxy.cfg and keepalived.conf up to date");
    assert!(!plan.steps.iter().any(|step| step.id == "balance/k8s1vrrp2"), "{plan:#?}");
}

#[test]
fn what_is_not_kept_up_to_date_is_still_told() {
    let cluster = k8s1();
    let had = inventory(&cluster, &specs(&cluster, "aa", "bb"));
    let plan = plan_of(&cluster, &specs(&cluster, "ee", "bb"), &had, &Part::all());
    let told = |name: &str| {
        let all = plan.notices.iter();
        all.filter(|notice| notice.starts_with(&format!("{name}: "))).cloned().collect::<Vec<_>>()
    };
    assert_eq!(
        told("k8s1vrrp1"),
        [
            "k8s1vrrp1: its cloud-init documents have changed; a machine that has booted does not read \
          them again (but for haproxy.cfg and keepalived.conf, which are kept up to date), `k8sha \
          rebuild` makes it anew"
        ]
    );
    assert_eq!(
        told("k8s1master1"),
        ["k8s1master1: its cloud-init documents have changed; a machine that has booted does not \
          read them again, `k8sha rebuild` makes it anew"]
    );
    assert!(plan.is_settled());
}
