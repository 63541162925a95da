//! Compares a row with its machine: its role and address, the sources it was created from, and its
//! hardware in use.

use super::{Class, Difference, place};
use crate::cluster::{Cluster, Node, Role, TemplateSource};
use crate::plan::documents::{self, Changed};
use crate::plan::inventory::{Inventory, OurVm, TemplateState};
use crate::plan::planner::Specs;
use crate::plan::survey::KubeNode;
use crate::plan::{card, spec};
use crate::proxmox::wire::VmConfig;

/// Every difference between a row and its machine that `up` does not resolve by itself.
pub(super) fn differences(
    cluster: &Cluster,
    specs: &Specs,
    node: &Node,
    vm: &OurVm,
    inventory: &Inventory,
) -> Vec<Difference> {
    let mut found = Vec::new();
    place::differences(cluster, node, vm, inventory, &mut found);
    if place::is_of_another_row(cluster, node, vm) {
        // The other differences belong to the other row.
        return found;
    }
    machine(cluster, node, vm, inventory, &mut found);
    network(specs, node, vm, inventory, &mut found);
    hardware(cluster, node, vm, &mut found);
    if !found.iter().any(|one| one.blocks) {
        documents(cluster, specs, node, vm, inventory, &mut found);
    }
    found
}

/// What a machine was created as, and its role in the cluster.
fn machine(
    cluster: &Cluster,
    node: &Node,
    vm: &OurVm,
    inventory: &Inventory,
    found: &mut Vec<Difference>,
) {
    let mut differs = |what: &str, have: String, want: String| {
        if have != want && !have.is_empty() {
            found.push(Difference {
                on: node.name.to_string(),
                what: what.to_owned(),
                next: remake(node, vm, what, &have),
                have,
                want,
                class: Class::NewMachine,
                blocks: true,
            });
        }
    };
    let registered = own_node(node, inventory);
    if let Some(role) = vm.role() {
        differs("role", role.to_string(), node.role.to_string());
    } else if let Some((_, known)) = registered {
        let master = known.roles.contains("control-plane");
        let have = if master { Role::Master } else { Role::Worker };
        differs("role", have.to_string(), node.role.to_string());
    }
    match &vm.mark.machine {
        Some(made) => {
            differs("ip", made.address.to_string(), node.ip.to_string());
            differs("access.user", made.user.clone(), cluster.access.user.clone());
        }
        None => {
            let address = registered.and_then(|(_, known)| known.address.clone());
            differs("ip", address.unwrap_or_default(), node.ip.to_string());
        }
    }
    if let Some((name, _)) = registered {
        differs("name in Kubernetes (name and network.domain)", name.clone(), node.fqdn.clone());
    }
}

/// The Node object that a row's machine has registered, under any name.
fn own_node<'a>(node: &Node, inventory: &'a Inventory) -> Option<(&'a String, &'a KubeNode)> {
    let seen = inventory.survey.seen(&node.name)?;
    let nodes = inventory.survey.nodes()?;
    nodes
        .iter()
        .find(|(_, known)| !seen.machine_id.is_empty() && known.machine_id == seen.machine_id)
}

/// The command that makes a worker's machine again.
fn replace(node: &Node) -> String {
    format!("`k8sha replace {}`, which drains the node and creates its machine again", node.name)
}

fn remake(node: &Node, vm: &OurVm, what: &str, have: &str) -> String {
    if vm.role() == Some(Role::Worker) && ["ip", "access.user"].contains(&what) {
        return format!("set it back to {have}; or {}", replace(node));
    }
    let drain = match node.role {
        _ if what == "role" => "drain it and delete its Node object, ",
        Role::Master | Role::Worker => "drain it (`kubectl drain`), ",
        Role::LoadBalancer | Role::Etcd => "",
    };
    format!(
        "set it back to {have}; or {drain}remove VM {} on {} (`qm stop {} && qm destroy {}`) and \
         run `k8sha up`, which recreates the VM. Do this for one machine at a time",
        vm.vmid, vm.host, vm.vmid, vm.vmid
    )
}

/// The network of a machine's card, if the profile now has another bridge or VLAN. k8sha does not
/// move a machine that serves the cluster: if the other network does not exist, all of them would
/// be disconnected at once. A card that a user moved by hand is restored: the mark shows what the
/// profile had when the VM was written.
fn network(
    specs: &Specs,
    node: &Node,
    vm: &OurVm,
    inventory: &Inventory,
    found: &mut Vec<Difference>,
) {
    let Some(spec) = specs.get(&node.name) else { return };
    let (Some(want), Some(have)) = (spec.settings.get(spec::CARD), vm.config.get(spec::CARD))
    else {
        return;
    };
    let booted = inventory.nodes.get(&node.name).is_some_and(|state| state.booted);
    let serves = vm.mark.read.is_some() || booted;
    let (leads, wanted) = (card::leads_to(have), card::leads_to(want));
    let asked = vm.mark.machine.as_ref().and_then(|made| made.network.as_ref());
    if !serves || leads == wanted || asked == Some(&wanted) {
        return;
    }
    let to = card::corrected(want, have, None);
    found.push(Difference {
        on: node.name.to_string(),
        what: "network (bridge and vlan)".into(),
        have: leads,
        want: wanted,
        class: Class::NotFollowed,
        blocks: true,
        next: format!(
            "set it back; or move the machines manually, one at a time, and check that each one \
             answers before the next: `qm set {} --net0 {to}` on {}",
            vm.vmid, vm.host
        ),
    });
}

/// The hardware of a running machine, if it differs from the row. A change is pending while the
/// machine runs (qemu-server's src/PVE/API2/Qemu.pm, `update_vm`), so the difference remains after
/// this run has written it.
fn hardware(cluster: &Cluster, node: &Node, vm: &OurVm, found: &mut Vec<Difference>) {
    let Some(hardware) = &vm.hardware else { return };
    let restart = format!(
        "drain the node, then `qm shutdown {0} && qm start {0}` on {1} (a reboot inside the guest \
         does not apply the change)",
        vm.vmid, vm.host
    );
    let mut differs = |what: &str, have: String, want: String, next: String| {
        found.push(Difference {
            on: node.name.to_string(),
            what: what.to_owned(),
            have,
            want,
            class: Class::NotFollowed,
            blocks: false,
            next,
        });
    };
    let then = |written: bool| match written {
        true => format!("it is written and pending: {restart}"),
        false => format!("after `k8sha up` has written it: {restart}"),
    };
    let mut number = |what: &str, key: &str, want: u64, have: Option<u64>, unit: &str| {
        let Some(have) = have.filter(|have| *have != want) else { return };
        let written = vm.config.get(key).is_some_and(|value| *value == want.to_string());
        if !written && plugged(vm, key) {
            return;
        }
        let next = then(written);
        differs(&format!("{what} in use"), format!("{have}{unit}"), format!("{want}{unit}"), next);
    };
    // Settings that multiply or limit the cores come from a user or a template.
    let others: Vec<String> = [("sockets", "1"), ("vcpus", "")]
        .iter()
        .filter_map(|(key, usual)| Some((key, vm.config.get(*key).filter(|it| it != usual)?)))
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    if others.is_empty() {
        number("vcpu", "cores", node.vcpu.into(), hardware.cpus, "");
    }
    number("ram", "memory", node.ram_mib.into(), hardware.memory_mib, " MiB");
    if !others.is_empty() {
        let next = format!(
            "`qm set {} --sockets 1 --delete vcpus` on {}, then {restart}",
            vm.vmid, vm.host
        );
        differs("vcpu", others.join(", "), format!("{} cores in total", node.vcpu), next);
    }
    let least = vm.config.get("balloon").and_then(|value| value.parse::<u64>().ok());
    if let Some(least) = least.filter(|least| (1..u64::from(node.ram_mib)).contains(least)) {
        let next = format!(
            "`qm set {} --balloon 0` on {}: the host takes memory from the machine when its own is \
             short, but a kubelet relies on the amount that it found when it started",
            vm.vmid, vm.host
        );
        differs(
            "guaranteed ram",
            format!("{least} MiB (`balloon`)"),
            format!("{} MiB", node.ram_mib),
            next,
        );
    }
    let written = vm.config.get("cpu").map_or(CPU, String::as_str);
    let in_use = match hardware.unapplied.get("cpu").map(String::as_str) {
        Some("") => CPU,
        Some(value) => value,
        None => written,
    };
    let want = &cluster.proxmox.cpu;
    if !spec::same("cpu", want, in_use) {
        let next = then(spec::same("cpu", want, written));
        differs("cpu in use", in_use.to_owned(), want.clone(), next);
    }
    if let (Some(in_use), Some(card)) =
        (hardware.unapplied.get(spec::CARD), vm.config.get(spec::CARD))
    {
        differs("net0 in use", in_use.clone(), card.clone(), then(true));
    }
}

/// The CPU type of a VM that sets none.
/// Source: qemu-server src/PVE/QemuServer/CPUConfig.pm, `get_cpu_options`.
const CPU: &str = "kvm64";

/// Whether Proxmox VE changes a setting of this machine while it runs: of CPU and memory only
/// memory, and only if hotplug is enabled for it (the feature `cpu` is about `vcpus`, not `cores`).
fn plugged(vm: &OurVm, key: &str) -> bool {
    let features = vm.config.get("hotplug");
    features.is_some_and(|features| features.split([',', ';']).any(|feature| feature == key))
}

/// The sources of a booted machine, which it does not read again.
fn documents(
    cluster: &Cluster,
    specs: &Specs,
    node: &Node,
    vm: &OurVm,
    inventory: &Inventory,
    found: &mut Vec<Difference>,
) {
    let booted = inventory.nodes.get(&node.name).is_some_and(|state| state.booted);
    let mut differs = |what: &str, have: String, want: String| {
        // A k8sha template is created from one image and keeps it.
        let first = match what {
            "image" => {
                "first give the template of the new image another VMID (`templates` of each host), \
                 then "
            }
            _ => "",
        };
        found.push(Difference {
            on: node.name.to_string(),
            what: what.to_owned(),
            have,
            want,
            class: Class::NewMachine,
            blocks: false,
            next: match node.role {
                Role::Worker => format!("set it back; or {first}{}", replace(node)),
                _ => format!(
                "set it back; or {first}{}remove VM {} on {} (`qm stop {1} && qm destroy {1}`) and \
                 run `k8sha up`, which recreates the VM. Do this for one machine at a time; `k8sha \
                 rebuild` creates a new cluster of new machines",
                if node.role.is_kubernetes() { "drain it (`kubectl drain`), " } else { "" },
                vm.vmid,
                vm.host
            )},
        });
    };
    let wanted = specs.get(&node.name).map(|spec| spec::seed_hashes(&spec.seed_file));
    let made = vm.mark.machine.as_ref().map(|made| made.seed.clone());
    let read = vm.mark.read.clone().or(made);
    let drive = vm.config.get(spec::SEED_DRIVE).map(|drive| spec::seed_hashes(drive).to_owned());
    if let (true, Some(wanted), Some(read)) = (booted, wanted, read.or(drive))
        && !read.is_empty()
        && spec::differ_in_more_than_kept(&read, wanted)
    {
        let changed = inventory.documents.get(&node.name);
        let (have, want) = match changed.filter(|changed| **changed != Changed::default()) {
            Some(changed) => (documents::phrase(&changed.then), documents::phrase(&changed.now)),
            // The changed lines are unknown: it was created by an earlier release, or from another
            // folder.
            None => (read, wanted.to_owned()),
        };
        differs("cloud-init seed", have, want);
    }
    if let Some(made) = &vm.mark.machine {
        let want = image(cluster, node);
        if made.image != want {
            differs("image", made.image.clone(), want);
        }
    }
    let want = u64::from(node.disk_gib) << 30;
    // A recreated machine gets at least its template's disk.
    let templates = inventory.hosts.values().filter_map(|host| host.templates.get(&node.os));
    let least = templates
        .filter_map(TemplateState::settings)
        .filter_map(|settings| VmConfig(settings.clone()).disk_size(spec::DISK))
        .max()
        .unwrap_or_default();
    if let Some(have) = vm.disk_bytes.filter(|have| *have > want.max(least)) {
        let gib = have as f64 / f64::from(1 << 30);
        differs("disk", format!("{gib}G"), format!("{}G (a disk only grows)", node.disk_gib));
    }
}

/// The source of a machine's disk: the operating system, and its image or template.
pub fn image(cluster: &Cluster, node: &Node) -> String {
    let source =
        cluster.proxmox.hosts.get(&node.host).and_then(|host| host.templates.get(&node.os));
    let which = match (source, cluster.images.get(&node.os)) {
        (Some(TemplateSource::Theirs(vmid)), _) => format!("template {vmid}"),
        (_, Some(image)) => spec::template_spec(&node.os, image),
        (_, None) => "unknown".to_owned(),
    };
    format!("{} {which}", node.os)
}
