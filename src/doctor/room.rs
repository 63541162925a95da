//! Checks free space on storages and free memory for the new VMs. Pure.

use std::collections::BTreeMap;

use super::finding::{Finding, Severity};
use super::host::Seen;
use crate::cluster::{CloneMode, Cluster, Host, HostName, Node, TemplateSource};
use crate::plan::spec;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
/// The size of a cloud image as a file; Ubuntu's are below 700 MiB.
const IMAGE: u64 = GIB;
/// The size of the same image as a fully written disk; Ubuntu's are 2.2 GiB, other minimal ones up
/// to 3.5 GiB.
const TEMPLATE: u64 = 4 * GIB;
/// The maximum size of a seed ISO.
const SEED: u64 = MIB;

/// The rows of a host whose VMs must still be created.
pub(super) fn to_make<'a>(
    cluster: &'a Cluster,
    host: &'a HostName,
    seen: &'a Seen,
) -> impl Iterator<Item = &'a Node> {
    let absent = |node: &&Node| {
        !seen.vms.iter().any(|vm| vm.vmid == node.vmid)
            && !seen.all.iter().any(|vm| vm.vmid == node.vmid)
    };
    cluster.nodes.iter().filter(|node| node.host == *host).filter(absent)
}

/// The storages that are too small for what is to be created.
pub(super) fn storages(cluster: &Cluster, host: &HostName, seen: &Seen) -> Vec<Finding> {
    let settings = &cluster.proxmox.hosts[host];
    let rows: Vec<&Node> = to_make(cluster, host, seen).collect();
    let disks: u64 = rows.iter().map(|node| u64::from(node.disk_gib) * GIB).sum();
    let mut needed: BTreeMap<&str, u64> = BTreeMap::new();
    if cluster.proxmox.clone == CloneMode::Full {
        *needed.entry(&settings.storage).or_default() += disks;
    }
    let seeds = SEED * rows.len() as u64;
    *needed.entry(&settings.iso_storage).or_default() += seeds;
    for (os, source) in &settings.templates {
        let TemplateSource::Ours(vmid) = source else { continue };
        if seen.vms.iter().any(|vm| vm.vmid == *vmid) || rows.is_empty() {
            continue;
        }
        *needed.entry(&settings.storage).or_default() += TEMPLATE;
        let file = cluster.images.get(os).map(|image| spec::image_file(os, image));
        let there = |file: &String| seen.images.iter().any(|volume| volume.ends_with(file));
        if !file.as_ref().is_some_and(there) {
            *needed.entry(&settings.import_storage).or_default() += IMAGE;
        }
    }
    let mut findings = Vec::new();
    for (name, need) in needed {
        if need > 0
            && let Some(free) = free(seen, name).filter(|free| *free < need)
        {
            findings.push(full(host, name, need, free));
        }
    }
    let full = findings
        .iter()
        .any(|finding: &Finding| finding.what.contains(&format!("`{}`", settings.storage)));
    if cluster.proxmox.clone == CloneMode::Linked && !full {
        findings.extend(overcommitted(host, settings, seen, disks));
    }
    findings
}

fn free(seen: &Seen, name: &str) -> Option<u64> {
    let storage = seen.storages.iter().find(|seen| seen.storage.as_deref() == Some(name))?;
    storage.active.then_some(storage.avail)
}

fn full(host: &HostName, name: &str, need: u64, free: u64) -> Finding {
    let what =
        format!("storage `{name}` has {} free, but the new VMs need {}", size(free), size(need));
    let fix = vec![
        format!("pvesm list {name}     (remove what is not needed: `pvesm free VOLUME`)"),
        "or use a larger storage in the profile".to_owned(),
    ];
    Finding::new(Severity::Error, host, what, fix)
}

/// Linked clones grow as their guests write: a storage that fills up stops them all.
fn overcommitted(host: &HostName, settings: &Host, seen: &Seen, disks: u64) -> Option<Finding> {
    let name = &settings.storage;
    let free = free(seen, name).filter(|free| *free < disks)?;
    let what = format!(
        "the new disks may grow to {} on storage `{name}`, which has {} free; when it is full, all \
         VMs on it stop",
        size(disks),
        size(free)
    );
    let fix = vec!["use smaller disks in the table, or a larger storage".to_owned()];
    Some(Finding::new(Severity::Warning, host, what, fix))
}

/// Whether the host has enough memory for the new VMs.
pub(super) fn memory(cluster: &Cluster, host: &HostName, seen: &Seen) -> Option<Finding> {
    let memory = seen.memory.as_ref().filter(|memory| memory.total > 0)?;
    let need: u64 = to_make(cluster, host, seen).map(|node| u64::from(node.ram_mib) * MIB).sum();
    let free = memory.total.saturating_sub(memory.used);
    if need <= free {
        return None;
    }
    let (severity, more) = if need > memory.total {
        (Severity::Error, "the host would run out of memory and kill QEMU processes")
    } else {
        (Severity::Warning, "the host would swap, or kill a VM")
    };
    let what = format!(
        "its memory is {}, {} of it free; the new VMs need {}: {more}",
        size(memory.total),
        size(free),
        size(need)
    );
    let mut others: Vec<_> = seen.vms.iter().filter(|vm| vm.status == "running").collect();
    others.sort_by_key(|vm| std::cmp::Reverse(vm.maxmem));
    let mut fix = vec!["reduce `ram` in the table, or move rows to another host".to_owned()];
    fix.extend(
        others
            .iter()
            .take(3)
            .map(|vm| format!("qm shutdown {}     (`{}`, {})", vm.vmid, vm.name, size(vm.maxmem))),
    );
    Some(Finding::new(severity, host, what, fix))
}

/// A size as human-readable text.
fn size(bytes: u64) -> String {
    if bytes >= GIB {
        let tenths = bytes * 10 / GIB;
        if tenths.is_multiple_of(10) || tenths >= 1000 {
            format!("{} GiB", tenths / 10)
        } else {
            format!("{}.{} GiB", tenths / 10, tenths % 10)
        }
    } else {
        format!("{} MiB", bytes / MIB)
    }
}
