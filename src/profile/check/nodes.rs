//! Checks the node table.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Range;

use super::{NAME_MAX, Notes, RowView, kubernetes, proxmox, rows};
use crate::cluster::{HostName, Kernel, Node, NodeName, Role, VmId};
use crate::profile::at::At;
use crate::profile::complaint::Complaint;
use crate::profile::raw::{DnsLabel, DnsName, Profile};

pub(super) fn settle(raw: &Profile, notes: &mut Notes) -> Option<Vec<Node>> {
    let domain = raw.network.as_ref().and_then(|network| network.value.domain.as_ref());
    let nodes: Vec<Option<Node>> = rows(raw)
        .map(|row| {
            let node = node(row, domain.map(|domain| domain.value.0.as_str()), notes);
            sizes(row, notes);
            node
        })
        .collect();
    lengths(raw, notes);
    names(raw, notes);
    vmids(raw, notes);
    proxmox::homes(raw, notes);
    if raw.nodes.is_some() {
        roles(raw, notes);
    }
    nodes.into_iter().collect()
}

fn node(row: RowView<'_>, domain: Option<&str>, notes: &mut Notes) -> Option<Node> {
    let typed = &row.section.value;
    let role = notes.need(row.section, "role", &typed.role);
    let name = notes.need(row.section, "name", &typed.name);
    let ip = notes.need(row.section, "ip", &typed.ip);
    let vmid = notes.need(row.section, "vmid", &typed.vmid);
    let os = notes.need(row.section, "os", &row.os().cloned()).cloned();
    let ram = notes.need(row.section, "ram", &row.ram().cloned()).cloned();
    let vcpu = notes.need(row.section, "vcpu", &row.vcpu().cloned()).cloned();
    let disk = notes.need(row.section, "disk", &row.disk().cloned()).cloned();
    let pve = notes.need(row.section, "pve", &row.pve().cloned()).cloned();
    let name = name?.value.0.clone();
    Some(Node {
        role: role?.value,
        fqdn: format!("{name}.{}", domain?),
        name: NodeName(name),
        ip: ip?.value,
        os: os?.value,
        kernel: row.kernel().map_or(Kernel::Stock, |kernel| kernel.value.clone()),
        ram_mib: ram?.value.0,
        vcpu: vcpu?.value,
        disk_gib: disk?.value.0,
        host: HostName(pve?.value),
        vmid: VmId(vmid?.value),
        preinstalled: row.preinstalled().is_some_and(|preinstalled| preinstalled.value),
    })
}

/// The longest name of a Kubernetes node. A node's name is an RFC 1123 subdomain and may have 253
/// characters, but kubelet also puts it into the label `kubernetes.io/hostname`, and a label's
/// value is limited to 63 (apimachinery pkg/util/validation, `LabelValueMaxLength`): the API
/// refuses the node.
const NODE_NAME_MAX: usize = 63;

/// Names that are too long together with their domain: one complaint, because they share one
/// domain.
fn lengths(raw: &Profile, notes: &mut Notes) {
    let domain = raw.network.as_ref().and_then(|network| network.value.domain.as_ref());
    let Some(domain) = domain else { return };
    let (mut nodes, mut machines) = (Vec::new(), Vec::new());
    for row in rows(raw) {
        let role = row.section.value.role.as_ref().map(|role| role.value);
        let names = if role.is_some_and(Role::is_kubernetes) { &mut nodes } else { &mut machines };
        names.extend(row.section.value.name.as_ref());
    }
    full_names(&nodes, domain, NODE_NAME_MAX, "a node's name in Kubernetes", notes);
    full_names(&machines, domain, NAME_MAX, "a name of DNS", notes);
}

/// Reports names that are too long together with their domain.
pub(super) fn full_names(
    names: &[&At<DnsLabel>],
    domain: &At<DnsName>,
    most: usize,
    what: &str,
    notes: &mut Notes,
) {
    let length = |name: &At<DnsLabel>| name.value.0.len() + 1 + domain.value.0.len();
    let long: Vec<_> = names.iter().filter(|name| length(name) > most).collect();
    let Some((first, others)) = long.split_first() else { return };
    let more = match others.len() {
        0 => String::new(),
        count => format!(" (and {count} more)"),
    };
    let text = format!(
        "`{}.{}`{more} has {} letters, and {what} has {most} at most",
        first.value.0,
        domain.value.0,
        length(first)
    );
    let mut complaint = Complaint::error(text)
        .at(first.span.clone(), "this name")
        .at(domain.span.clone(), "its domain");
    for name in others {
        complaint = complaint.at(name.span.clone(), "too long");
    }
    notes.push(complaint.help("shorten the names or the domain"));
}

/// Whether the machine is large enough for its role.
fn sizes(row: RowView<'_>, notes: &mut Notes) {
    let Some(role) = &row.section.value.role else { return };
    let (vcpu_least, ram_least, disk_least, why) = kubernetes::least(role.value);
    let mut small = |has: u32, least: u32, unit: &str, span: &Range<usize>| {
        if has < least {
            let article = if role.value == Role::Etcd { "an" } else { "a" };
            let holder = format!("{article} {}", role.value);
            let text =
                format!("`{}` has {has} {unit}, but {holder} needs at least {least}", row.name());
            notes.push(Complaint::error(text).at(span.clone(), "").help(why));
        }
    };
    if let Some(vcpu) = row.vcpu() {
        small(vcpu.value, vcpu_least, "vCPU", &vcpu.span);
    }
    if let Some(ram) = row.ram() {
        small(ram.value.0, ram_least, "MiB of memory", &ram.span);
    }
    if let Some(disk) = row.disk() {
        small(disk.value.0, disk_least, "GiB of disk", &disk.span);
    }
}

/// Finds duplicate values.
struct Seen<T> {
    first: BTreeMap<T, (Range<usize>, String)>,
}

impl<T: Ord + Clone + Display> Seen<T> {
    fn new() -> Self {
        Self { first: BTreeMap::new() }
    }

    fn see(&mut self, value: &T, span: &Range<usize>, what: &str, by: String, notes: &mut Notes) {
        match self.first.get(value) {
            None => {
                self.first.insert(value.clone(), (span.clone(), by));
            }
            Some((first, whose)) => notes.push(
                Complaint::error(format!("the {what} `{value}` is used twice"))
                    .at(span.clone(), format!("for {by}"))
                    .at(first.clone(), format!("first for {whose}")),
            ),
        }
    }
}

fn names(raw: &Profile, notes: &mut Notes) {
    let mut seen = Seen::new();
    for row in rows(raw) {
        if let Some(name) = &row.section.value.name {
            let by =
                row.section.value.ip.as_ref().map_or_else(
                    || "this row".to_owned(),
                    |ip| format!("the node at {}", ip.value),
                );
            seen.see(&name.value.0, &name.span, "name", by, notes);
        }
    }
}

fn vmids(raw: &Profile, notes: &mut Notes) {
    let mut seen = Seen::new();
    for row in rows(raw) {
        if let Some(vmid) = &row.section.value.vmid {
            proxmox::vmid_range(vmid, notes);
            seen.see(&vmid.value, &vmid.span, "VMID", format!("`{}`", row.name()), notes);
        }
    }
    let hosts = raw.proxmox.as_ref().and_then(|proxmox| proxmox.value.hosts.as_ref());
    for (name, host) in hosts.iter().flat_map(|table| &table.0) {
        for (os, template) in host.value.templates.iter().flat_map(|table| &table.0) {
            let Some(vmid) = proxmox::template_vmid(template) else { continue };
            // Templates of different hosts may have the same VMID: the hosts need not form one
            // cluster.
            if let Some((node, whose)) = seen.first.get(&vmid.value) {
                let by = format!("the template of `{}` on `{}`", os.value, name.value);
                notes.push(
                    Complaint::error(format!("the VMID `{}` is used twice", vmid.value))
                        .at(vmid.span.clone(), format!("for {by}"))
                        .at(node.clone(), format!("also for {whose}")),
                );
            }
        }
    }
}

fn roles(raw: &Profile, notes: &mut Notes) {
    let all: Vec<RowView<'_>> = rows(raw).collect();
    // A row with an unreadable role may be the one that seems to be missing.
    if all.iter().any(|row| row.section.value.role.is_none()) {
        return;
    }
    let has = |role: Role| {
        all.iter()
            .filter(move |row| row.section.value.role.as_ref().is_some_and(|r| r.value == role))
    };
    if has(Role::Master).next().is_none() {
        let hint = "at least one row needs `role: master`; use three for high availability";
        notes.push(Complaint::error("the node table has no master").help(hint));
    }
    let balancers: Vec<_> = has(Role::LoadBalancer).collect();
    match balancers.as_slice() {
        [] => notes.push(
            Complaint::error("the node table has no load balancer to hold the VIP")
                .help("add two rows with `role: load-balancer`"),
        ),
        [only] => notes.push(
            Complaint::error("a single load balancer cannot fail over the VIP")
                .at(only.section.span.clone(), "the only one")
                .help("add a second row with `role: load-balancer`"),
        ),
        _ => {}
    }
}
