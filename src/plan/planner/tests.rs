use super::*;
use crate::cluster::{Host, fixture};
use crate::cluster::{Identity, Role};
use crate::mark::Mark;
use crate::plan::compare::Class;
use crate::plan::inventory::{Hardware, NodeState, Stray, StrayReason, VmState};
use crate::plan::settings;
use crate::plan::survey::{Answer, Api, ClusterMark, KubeNode, Machine, Seen, Work};
use crate::plan::{Action, Step};

mod disks;
mod machines;
mod order;
mod removals;
mod seeds;
mod turns;

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
    spec::seed_file("1", &node.name, &format!("{rest:0>12}{all:0>12}"))
}

/// The wanted state of the cluster, with load balancer files of this hash.
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

/// Everything exists and matches these specs, long after the first boot.
fn inventory(cluster: &Cluster, specs: &Specs) -> Inventory {
    let mut inventory =
        Inventory { kubeconfig: true, creation: "1".into(), ..Inventory::default() };
    let mark = ClusterMark { cluster: cluster.name.clone(), creation: "1".into(), cni: None };
    let mut api = Api {
        via: "k8s1master1".into(),
        uid: "u".into(),
        ca: "sha256:a".into(),
        mark: Some(mark),
        settings: settings::wanted(cluster)
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        ..Api::default()
    };
    let known = Identity { creation: "1".into(), ca: "sha256:a".into(), uid: "u".into() };
    inventory.survey.known = Some(known);
    for node in &cluster.nodes {
        let vm = vm(node, &specs[&node.name]);
        inventory.vms.insert(node.name.clone(), VmState::Ours(Box::new(vm)));
        let state = NodeState { booted: true, ..NodeState::default() };
        inventory.nodes.insert(node.name.clone(), state);
        let wanted = &specs[&node.name];
        inventory.hosts.entry(node.host.clone()).or_default();
        if node.role == Role::LoadBalancer {
            inventory.balancers.insert(node.name.clone(), wanted.kept.clone());
            continue;
        }
        let seen = Seen {
            machine_id: format!("machine of {}", node.name),
            master: true,
            ca: Some("sha256:a".into()),
            kubelet: true,
            apiserver: true,
            ..Seen::default()
        };
        let known = KubeNode {
            roles: ["control-plane".to_owned()].into(),
            ready: true,
            message: None,
            machine_id: seen.machine_id.clone(),
            address: Some(node.ip.to_string()),
            kubelet: format!("v{}", cluster.kubernetes.version),
            cordoned: false,
            leaving: false,
        };
        api.nodes.insert(node.fqdn.clone(), known);
        inventory.survey.machines.insert(node.name.clone(), Machine::Seen(Box::new(seen)));
    }
    inventory.survey.api = Some(api);
    inventory
}

fn vm(node: &Node, wanted: &spec::NodeSpec) -> OurVm {
    let mut config = wanted.settings.clone();
    let read = Some(spec::seed_hashes(&wanted.seed_file).to_owned());
    let mark = Mark { read, ..wanted.mark.clone() };
    config.insert("name".into(), node.name.to_string());
    config.insert("description".into(), mark.describe(&wanted.line));
    config.insert(spec::SEED_DRIVE.into(), spec::EJECTED.into());
    OurVm {
        host: node.host.clone(),
        vmid: node.vmid,
        config,
        disk_bytes: Some(u64::from(node.disk_gib) << 30),
        hardware: Some(Hardware::default()),
        lock: None,
        making: None,
        halted: None,
        mark,
    }
}

fn refused_of(cluster: &Cluster, specs: &Specs, inventory: &Inventory) -> Vec<String> {
    let refusal = plan(cluster, specs, inventory, &Part::all()).unwrap_err();
    let conflicts = refusal.conflicts.iter().map(|one| format!("{}: {}", one.on, one.text));
    let blocking = refusal.differences.iter().filter(|one| one.blocks);
    conflicts.chain(blocking.map(ToString::to_string)).collect()
}

/// The acts that can destroy something.
fn dangerous(plan: &Plan) -> Vec<&str> {
    let acts = plan.steps.iter().filter(|step| {
        let action = &step.action;
        matches!(action, Action::Init(_) | Action::Reset(_) | Action::Forget(_))
    });
    acts.map(|step| step.id.as_str()).collect()
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
        assert_eq!(first.action.to_string(), "update haproxy.cfg");
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
    assert_eq!(one.action.to_string(), "update haproxy.cfg and keepalived.conf");
    assert!(!plan.steps.iter().any(|step| step.id == "balance/k8s1vrrp2"), "{plan:#?}");
}

#[test]
fn documents_that_a_booted_machine_does_not_read_again_are_told() {
    let cluster = k8s1();
    let had = inventory(&cluster, &specs(&cluster, "aa", "bb"));
    let plan = plan_of(&cluster, &specs(&cluster, "ee", "bb"), &had, &Part::all());
    assert!(plan.is_settled());
    let told: Vec<(&str, &str, Class)> = plan
        .differences
        .iter()
        .map(|one| (one.on.as_str(), one.what.as_str(), one.class))
        .collect();
    let all = cluster.nodes.iter();
    let wanted: Vec<_> =
        all.map(|node| (node.name.as_str(), "cloud-init seed", Class::NewMachine)).collect();
    assert_eq!(told, wanted);
    assert!(!plan.to_string().contains("the cluster matches the profile"), "{plan}");
}

/// The profile's nodes by name, so that an edit reads like one.
fn row<'a>(cluster: &'a mut Cluster, name: &str) -> &'a mut Node {
    cluster.nodes.iter_mut().find(|node| node.name.as_str() == name).unwrap()
}

#[test]
fn the_order_of_rows_means_nothing_to_a_living_cluster() {
    let cluster = k8s1();
    let had = inventory(&cluster, &specs(&cluster, "aa", "bb"));
    let mut edited = cluster.clone();
    let mut new = row(&mut edited, "k8s1master1").clone();
    new.name = NodeName("k8s1master0".into());
    new.fqdn = "k8s1master0.kloud.lan".into();
    new.ip = [10, 101, 1, 100].into();
    new.vmid = VmId(1100);
    edited.nodes.insert(0, new);
    edited.nodes.reverse();
    edited.nodes.rotate_left(2);
    let plan = plan_of(&edited, &specs(&edited, "aa", "bb"), &had, &Part::all());
    assert!(dangerous(&plan).is_empty(), "{plan}");
    let join = &step(&plan, "join/k8s1master0").action;
    assert!(matches!(join, Action::Join(join) if join.via.as_str() == "k8s1master1"));
}

#[test]
fn a_lost_master_is_forgotten_and_joins_whichever_it_was() {
    let cluster = k8s1();
    let specs = specs(&cluster, "aa", "bb");
    for (lost, via) in [("k8s1master1", "k8s1master2"), ("k8s1master6", "k8s1master1")] {
        let name = NodeName(lost.into());
        let mut had = inventory(&cluster, &specs);
        had.vms.insert(name.clone(), VmState::Absent);
        had.nodes.remove(&name);
        had.survey.machines.remove(&name);
        had.survey.api.as_mut().unwrap().via = via.into();
        let plan = plan_of(&cluster, &specs, &had, &Part::all());
        assert_eq!(dangerous(&plan), [format!("forget/{lost}")]);
        let join = step(&plan, &format!("join/{lost}"));
        assert!(join.needs.contains(&format!("forget/{lost}")), "{join:?}");
        assert!(matches!(&join.action, Action::Join(join) if join.via.as_str() == via));
    }
}

#[test]
fn a_machine_that_was_made_again_is_told_by_its_id_and_one_that_serves_is_left_alone() {
    let cluster = k8s1();
    let specs = specs(&cluster, "aa", "bb");
    let name = NodeName("k8s1master3".into());
    let with = |edit: &dyn Fn(&mut Seen)| {
        let mut had = inventory(&cluster, &specs);
        if let Some(Machine::Seen(seen)) = had.survey.machines.get_mut(&name) {
            edit(seen);
        }
        had
    };
    let fresh = with(&|seen| *seen = Seen { machine_id: "new".into(), ..Seen::default() });
    let plan_of = |had: &Inventory| plan_of(&cluster, &specs, had, &Part::all());
    assert_eq!(dangerous(&plan_of(&fresh)), ["forget/k8s1master3"]);
    // Its kubelet serves as another machine than the one that the Node names.
    let serving = with(&|seen| seen.machine_id = "new".into());
    let said = refused_of(&cluster, &specs, &serving);
    assert!(said[0].contains("its kubelet serves a cluster"), "{said:?}");
    // Half a join of its own: reset, by a step that says why.
    let half = with(&|seen| (seen.machine_id, seen.join) = ("new".into(), Work::Failed));
    let plan = plan_of(&half);
    assert_eq!(dangerous(&plan), ["reset/k8s1master3", "forget/k8s1master3"]);
    assert!(plan.to_string().contains("kubeadm reset: its own kubeadm join was started"), "{plan}");
}

#[test]
fn edits_that_a_living_cluster_cannot_follow_are_refused_before_the_first_write() {
    let cluster = k8s1();
    let had = inventory(&cluster, &specs(&cluster, "aa", "bb"));
    type Edit = fn(&mut Cluster);
    let edits: &[(&str, Edit)] = &[
        ("kubernetes.version", |c| c.kubernetes.version = "1.29.0".parse().unwrap()),
        ("kubernetes.pods.cidr", |c| c.kubernetes.pods = "10.0.0.0/16".parse().unwrap()),
        ("kubernetes.services", |c| c.kubernetes.services = "10.1.0.0/16".parse().unwrap()),
        ("kubernetes.dns_domain", |c| c.kubernetes.dns_domain = "other.lan".into()),
        ("kubernetes.proxy", |c| c.kubernetes.proxy = crate::cluster::ProxyMode::None),
        ("cluster.api.port", |c| c.api.port = 7443),
        ("cluster.api.vip", |c| c.api.vip = [10, 101, 1, 9].into()),
        ("cluster.api (name", |c| c.api.fqdn = "k8s1api.new.lan".into()),
        ("etcd is", |c| c.etcd = crate::cluster::Etcd::Stacked),
        ("name in Kubernetes", |c| row(c, "k8s1master2").fqdn = "k8s1master2.new.lan".into()),
        ("vmid is 1103", |c| row(c, "k8s1master3").vmid = VmId(1109)),
        ("ip is 10.101.1.103", |c| row(c, "k8s1master3").ip = [10, 101, 1, 109].into()),
        ("role is master", |c| row(c, "k8s1master3").role = Role::Worker),
        ("pve is pve1", |c| row(c, "k8s1master3").host = HostName("pve2".into())),
        ("access.user", |c| c.access.user = "other".into()),
        ("k8s1master4", |c| c.nodes.retain(|node| node.name.as_str() != "k8s1master4")),
    ];
    for (what, edit) in edits {
        let mut edited = cluster.clone();
        edit(&mut edited);
        let mut seen = had.clone();
        // A VM without a row is found as one.
        if edited.nodes.len() < cluster.nodes.len() {
            let node = NodeName("k8s1master4".into());
            let Some(VmState::Ours(vm)) = seen.vms.remove(&node) else { unreachable!() };
            seen.strays.push(Stray { node, why: StrayReason::NoRow, vm: *vm });
        }
        let said = refused_of(&edited, &specs(&edited, "aa", "bb"), &seen);
        assert!(said.iter().any(|line| line.contains(what)), "{what}: {said:?}");
    }
}

#[test]
fn another_cluster_behind_the_same_names_is_refused() {
    let cluster = k8s1();
    let specs = specs(&cluster, "aa", "bb");
    type Edit = fn(&mut Inventory);
    let edits: &[(&str, Edit)] = &[
        ("CA is sha256:b", |had| had.survey.api.as_mut().unwrap().ca = "sha256:b".into()),
        ("UID of kube-system", |had| had.survey.api.as_mut().unwrap().uid = "other".into()),
        ("creation `2`", |had| {
            had.survey.api.as_mut().unwrap().mark.as_mut().unwrap().creation = "2".into();
        }),
        ("of another creation", |had| {
            if let Some(VmState::Ours(vm)) = had.vms.get_mut(&NodeName("k8s1vrrp1".into())) {
                vm.mark = Mark { creation: "2".into(), ..vm.mark.clone() };
            }
        }),
        ("trusts the CA sha256:c", |had| {
            let name = NodeName("k8s1master5".into());
            if let Some(Machine::Seen(seen)) = had.survey.machines.get_mut(&name) {
                seen.ca = Some("sha256:c".into());
            }
        }),
    ];
    for (what, edit) in edits {
        let mut had = inventory(&cluster, &specs);
        edit(&mut had);
        let said = refused_of(&cluster, &specs, &had);
        assert!(said.iter().any(|line| line.contains(what)), "{what}: {said:?}");
    }
    // The nodes of that other cluster are not deleted.
    for (what, edit) in &edits[..3] {
        let mut had = inventory(&cluster, &specs);
        let nodes = &mut had.survey.api.as_mut().unwrap().nodes;
        nodes.insert("theirs.other.lan".into(), KubeNode::default());
        edit(&mut had);
        let refusal = plan(&cluster, &specs, &had, &Part::all()).unwrap_err();
        assert!(refusal.differences.is_empty(), "{what}: {:?}", refusal.differences);
    }
}

#[test]
fn machines_that_are_off_are_started_before_anything_is_decided() {
    let cluster = k8s1();
    let specs = specs(&cluster, "aa", "bb");
    let mut had = inventory(&cluster, &specs);
    had.survey.api = None;
    had.survey.vip = Answer::Silent { said: "no route".into() };
    for node in &cluster.nodes {
        if let Some(VmState::Ours(vm)) = had.vms.get_mut(&node.name) {
            vm.hardware = None;
        }
        had.nodes.remove(&node.name);
        if node.role.is_kubernetes() {
            had.survey.machines.insert(node.name.clone(), Machine::Off);
        }
    }
    let plan = plan_of(&cluster, &specs, &had, &Part::all());
    assert!(dangerous(&plan).is_empty(), "{plan}");
    assert!(!plan.look_again.is_empty() && step(&plan, "start/k8s1master1").needs.is_empty());
    assert!(!plan.steps.iter().any(|step| step.id.starts_with("join/")), "{plan}");
    // If nothing can be started, nothing is guessed.
    had.survey.machines.retain(|name, _| name.as_str() == "k8s1master1");
    let had = Inventory { vms: had.vms.clone(), ..inventory(&cluster, &specs) };
    assert!(plan_of(&cluster, &specs, &had, &Part::all()).look_again.is_empty());
}

#[test]
fn the_address_of_a_card_is_changed_on_a_machine_that_is_off_and_never_on_one_that_runs() {
    let cluster = k8s1();
    // The documents of an earlier release, which these machines have read, name no address.
    let mut seen = inventory(&cluster, &specs(&cluster, "cc", "bb"));
    let mut specs = specs(&cluster, "aa", "bb");
    for spec in specs.values_mut() {
        spec.mac = Some("02:00:00:00:00:01".into());
    }
    for state in seen.vms.values_mut() {
        let VmState::Ours(vm) = state else { panic!("{state:?}") };
        let net0 = "virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=0";
        vm.config.insert(spec::CARD.into(), net0.into());
        // A drive that a user has added to a running machine is not removed either.
        vm.config.insert("sata0".into(), "local:1101/vm-1101-cloudinit.qcow2".into());
    }
    // Whether it answers or not.
    seen.nodes.remove(&NodeName("k8s1master2".into()));
    let plan = plan_of(&cluster, &specs, &seen, &Part::all());
    assert!(!plan.steps.iter().any(|step| step.id.starts_with("configure/")), "{plan:#?}");
    let name = NodeName("k8s1master3".into());
    seen.nodes.remove(&name);
    if let Some(VmState::Ours(vm)) = seen.vms.get_mut(&name) {
        vm.hardware = None;
    }
    let plan = plan_of(&cluster, &specs, &seen, &Part::all());
    let configured: Vec<&Step> =
        plan.steps.iter().filter(|step| step.id.starts_with("configure/")).collect();
    let [Step { action: Action::Configure(action::Configure { node, changes, .. }), .. }] =
        configured.as_slice()
    else {
        panic!("{configured:#?}")
    };
    assert_eq!(*node, name);
    let keys: Vec<&str> = changes.iter().map(|change| change.key.as_str()).collect();
    assert!(keys.contains(&spec::CARD) && keys.contains(&"sata0"), "{changes:?}");
    assert!(step(&plan, "start/k8s1master3").needs.contains(&"configure/k8s1master3".into()));
}

#[test]
fn a_template_is_judged_only_where_something_is_cloned_from_it() {
    let cluster = k8s1();
    let specs = specs(&cluster, "aa", "bb");
    let mut seen = inventory(&cluster, &specs);
    let host = HostName("pve1".into());
    let settings: BTreeMap<String, String> = [
        ("scsi0", "local-lvm:base-9001-disk-0"),
        ("boot", "order=scsi0"),
        ("lock", "backup"),
        ("agent", "1"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    let theirs = TemplateState::Theirs { name: "golden".into(), settings };
    let state = seen.hosts.get_mut(&host).unwrap();
    state.templates.insert("ubuntu-22.04".into(), theirs);
    assert!(plan_of(&cluster, &specs, &seen, &Part::all()).is_settled());
    seen.vms.insert(NodeName("k8s1master1".into()), VmState::Absent);
    let conflicts = plan(&cluster, &specs, &seen, &Part::all()).unwrap_err().conflicts;
    assert_eq!(conflicts.len(), 1, "{conflicts:?}");
    assert!(conflicts[0].text.contains("is locked (backup)"), "{conflicts:?}");
    // Its machines are of another host.
    let part = Part { hosts: Some([HostName("pve2".into())].into()), ..Part::all() };
    assert!(plan(&cluster, &specs, &seen, &part).is_ok());
}
