//! Checks Proxmox VE hosts, templates and images.

use std::collections::BTreeMap;
use std::path::Path;

use ipnet::Ipv4Net;

use super::{Notes, cpu, resolved, rows};
use crate::cluster::{
    CloneMode, Host, HostLogin, HostName, Image, Proxmox, TemplateSource, Trust, VmId,
};
use crate::profile::at::{At, Section, Table, Written, listed};
use crate::profile::complaint::Complaint;
use crate::profile::raw::{self, OwnTemplate, Profile, PveNode, Template};

/// Proxmox VE reserves the first hundred VMIDs (pve-common, `pve-vmid`).
const VMIDS: std::ops::RangeInclusive<u32> = 100..=999_999_999;

pub(super) fn settle(
    section: &Section<raw::Proxmox>,
    profile: &Profile,
    base: &Path,
    notes: &mut Notes,
) -> Option<Proxmox> {
    let typed = &section.value;
    let table = notes.need(section, "hosts", &typed.hosts)?;
    if table.0.is_empty() {
        let text = "no Proxmox VE host";
        notes.push(Complaint::error(text).at(section.span.clone(), "`hosts` is empty here"));
    }
    shared_endpoints(table, notes);
    let hosts: Vec<_> =
        table.0.iter().map(|(name, typed)| host(name, typed, base, notes)).collect();
    if let Some(cpu) = &typed.cpu {
        cpu::check(cpu, profile, notes);
    }
    let parallel_clones = match &typed.parallel_clones {
        None => 4,
        Some(At { value, span }) => {
            if !(1..=32).contains(value) {
                let text = format!("`{value}` clones at once");
                notes.push(Complaint::error(text).at(span.clone(), "").help("1 to 32"));
            }
            *value
        }
    };
    Some(Proxmox {
        hosts: hosts.into_iter().collect::<Option<_>>()?,
        pool: typed.pool.as_ref().map(|pool| pool.value.0.clone()),
        clone: typed.clone.as_ref().map_or(CloneMode::Linked, |clone| clone.value),
        cpu: typed.cpu.as_ref().map_or("x86-64-v2-AES", |cpu| cpu.value.option.as_str()).to_owned(),
        parallel_clones,
        ssh: login(typed.ssh.as_ref(), base),
        blackholes: blackholes(typed, profile, notes),
    })
}

fn login(section: Option<&Section<raw::HostLogin>>, base: &Path) -> HostLogin {
    let typed = section.map(|section| &section.value);
    let user = typed.and_then(|login| login.user.as_ref());
    let path = |path: Option<&At<raw::FilePath>>| path.map(|path| resolved(base, path));
    HostLogin {
        user: user.map_or("root", |user| user.value.0.as_str()).to_owned(),
        identity: path(typed.and_then(|login| login.identity.as_ref())),
        known_hosts: path(typed.and_then(|login| login.known_hosts.as_ref())),
    }
}

/// The networks to which the hosts drop packets: those in the profile, or else the cluster's own.
fn blackholes(typed: &raw::Proxmox, profile: &Profile, notes: &mut Notes) -> Vec<Ipv4Net> {
    let Some(asked) = &typed.blackholes else {
        let kubernetes = profile.kubernetes.as_ref().map(|section| &section.value);
        let pods = kubernetes.and_then(|kubernetes| kubernetes.pods.as_ref());
        return [
            kubernetes.and_then(|kubernetes| kubernetes.external.as_ref()),
            kubernetes.and_then(|kubernetes| kubernetes.services.as_ref()),
            pods.and_then(|pods| pods.value.cidr.as_ref()),
        ]
        .into_iter()
        .flatten()
        .map(|net| net.value)
        .collect();
    };
    for (nth, net) in asked.iter().enumerate() {
        if net.value.prefix_len() < 8 {
            let text = format!("`{}` is too large for a blackhole network", net.value);
            let hint = "a prefix length of 8 to 32";
            notes.push(Complaint::error(text).at(net.span.clone(), "").help(hint));
        }
        if let Some(twin) = asked[..nth].iter().find(|twin| overlap(twin.value, net.value)) {
            notes.push(
                Complaint::error(format!("`{}` and `{}` overlap", net.value, twin.value))
                    .at(net.span.clone(), "this")
                    .at(twin.span.clone(), "and this"),
            );
        }
    }
    asked.iter().map(|net| net.value).collect()
}

fn overlap(one: Ipv4Net, other: Ipv4Net) -> bool {
    one.contains(&other) || other.contains(&one)
}

fn shared_endpoints(table: &Table<Section<raw::Host>>, notes: &mut Notes) {
    let endpoint = |host: &Section<raw::Host>| host.value.endpoint.clone();
    for (nth, (name, host)) in table.0.iter().enumerate() {
        let Some(own) = endpoint(host) else { continue };
        let twin = table.0[..nth].iter().find_map(|(twin, host)| {
            endpoint(host).filter(|other| other.value == own.value).map(|other| (twin, other))
        });
        if let Some((twin, other)) = twin {
            let (name, twin) = (&name.value, &twin.value);
            notes.push(
                Complaint::error(format!("`{name}` and `{twin}` have the same endpoint"))
                    .at(own.span, format!("of `{name}`"))
                    .at(other.span, format!("of `{twin}`"))
                    .help("each Proxmox VE host needs its own endpoint"),
            );
        }
    }
}

fn host(
    name: &At<String>,
    section: &Section<raw::Host>,
    base: &Path,
    notes: &mut Notes,
) -> Option<(HostName, Host)> {
    let typed = &section.value;
    let host = PveNode::read(&name.value);
    if let Err(why) = &host {
        let (what, hint) = why.split_once('\n').unwrap_or((why, "such as `pve1`"));
        notes.push(Complaint::error(what).at(name.span.clone(), "").help(hint));
    }
    let endpoint = notes.need(section, "endpoint", &typed.endpoint);
    let trust = match (&typed.fingerprint, &typed.ca_file) {
        (Some(fingerprint), Some(ca)) => {
            notes.push(
                Complaint::error(format!(
                    "`{}` has both a fingerprint and a CA file; only one is allowed",
                    name.value
                ))
                .at(fingerprint.span.clone(), "either this")
                .at(ca.span.clone(), "or this"),
            );
            None
        }
        (Some(fingerprint), None) => Some(Trust::Fingerprint(fingerprint.value.0)),
        (None, Some(ca)) => Some(Trust::CaFile(resolved(base, ca))),
        (None, None) => None,
    };
    let storage = notes.need(section, "storage", &typed.storage);
    let templates = notes.need(section, "templates", &typed.templates);
    let templates = templates.map(|table| self::templates(table, notes));
    let or_local = |storage: &Option<At<raw::StorageName>>| {
        storage.as_ref().map_or("local", |storage| storage.value.0.as_str()).to_owned()
    };
    let host = Host {
        endpoint: endpoint?.value.url.clone(),
        trust,
        ssh_address: typed.ssh_address.as_ref().map(|address| address.value.0.clone()),
        ssh_host_key: typed.ssh_host_key.as_ref().map(|key| key.value.0.clone()),
        storage: storage?.value.0.clone(),
        iso_storage: or_local(&typed.iso_storage),
        import_storage: or_local(&typed.import_storage),
        templates: templates?,
    };
    Some((HostName(name.value.clone()), host))
}

/// The VMID of a template and its place in the profile.
pub(super) fn template_vmid(template: &Template) -> Option<&At<u32>> {
    match template {
        Template::Ours(vmid) => Some(vmid),
        Template::Said(OwnTemplate { vmid, .. }) => vmid.as_ref(),
    }
}

fn templates(table: &Table<Template>, notes: &mut Notes) -> BTreeMap<String, TemplateSource> {
    let mut templates = BTreeMap::new();
    for (nth, (os, template)) in table.0.iter().enumerate() {
        let Some(vmid) = template_vmid(template) else {
            let text = format!("the template for `{}` has no `vmid`", os.value);
            notes.push(Complaint::error(text).at(os.span.clone(), "here"));
            continue;
        };
        vmid_range(vmid, notes);
        let twin = table.0[..nth]
            .iter()
            .find_map(|(_, twin)| template_vmid(twin).filter(|twin| twin.value == vmid.value));
        if let Some(twin) = twin {
            notes.push(
                Complaint::error(format!("the VMID `{}` is used twice on one host", vmid.value))
                    .at(vmid.span.clone(), "again here")
                    .at(twin.span.clone(), "first here"),
            );
        }
        let id = VmId(vmid.value);
        let mine = match template {
            Template::Ours(_) => false,
            Template::Said(said) => said.mine.as_ref().is_some_and(|mine| mine.value),
        };
        let source = if mine { TemplateSource::Theirs(id) } else { TemplateSource::Ours(id) };
        templates.insert(os.value.clone(), source);
    }
    templates
}

pub(super) fn vmid_range(vmid: &At<u32>, notes: &mut Notes) {
    if !VMIDS.contains(&vmid.value) {
        let text = format!("`{}` is not a VMID", vmid.value);
        notes.push(Complaint::error(text).at(vmid.span.clone(), "").help("100 to 999999999"));
    }
}

pub(super) fn images(raw: &Profile, notes: &mut Notes) -> Option<BTreeMap<String, Image>> {
    let mut images = BTreeMap::new();
    let mut sound = true;
    for (name, section) in raw.images.iter().flat_map(|table| &table.0) {
        // The name becomes part of a file name on the Proxmox host.
        let fits = name.value.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b));
        if !fits {
            let text = format!("`{}` is not a valid image name", name.value);
            let hint = "letters, digits, `.`, `-` and `_`, such as `ubuntu-22.04`";
            notes.push(Complaint::error(text).at(name.span.clone(), "").help(hint));
        }
        let url = notes.need(section, "url", &section.value.url);
        let sha256 = notes.need(section, "sha256", &section.value.sha256);
        match (url, sha256) {
            (Some(url), Some(sha256)) => {
                let image = Image { url: url.value.0.clone(), sha256: sha256.value.0.clone() };
                images.insert(name.value.clone(), image);
            }
            _ => sound = false,
        }
    }
    sound.then_some(images)
}

/// Whether every row's host exists and has a template of the row's operating system.
pub(super) fn homes(raw: &Profile, notes: &mut Notes) {
    let hosts = raw.proxmox.as_ref().and_then(|proxmox| proxmox.value.hosts.as_ref());
    let mut told: Vec<(&str, &str)> = Vec::new();
    for row in rows(raw) {
        let (Some(hosts), Some(pve)) = (hosts, row.pve()) else { continue };
        let Some(host) = hosts.get(&pve.value) else {
            // One complaint for a shared column, however many rows share it.
            if !told.contains(&("", &pve.value)) || row.section.value.pve.is_some() {
                told.push(("", &pve.value));
                notes.push(
                    Complaint::error(format!("there is no Proxmox VE host `{}`", pve.value))
                        .at(pve.span.clone(), "")
                        .help(known(hosts, &pve.value)),
                );
            }
            continue;
        };
        let (Some(os), Some(templates)) = (row.os(), &host.value.templates) else { continue };
        let image = raw.images.as_ref().is_some_and(|images| images.get(&os.value).is_some());
        match templates.get(&os.value) {
            None if told.contains(&(&pve.value, &os.value)) => {}
            None => {
                told.push((&pve.value, &os.value));
                let (pve, os_name) = (&pve.value, &os.value);
                notes.push(
                    Complaint::error(format!("`{pve}` has no template for `{os_name}`"))
                        .at(os.span.clone(), "")
                        .at(host.span.clone(), "this host")
                        .help(format!("its templates: {}", templates.names())),
                );
            }
            Some(template) if !image && !is_theirs(template) => {
                if told.contains(&("image", &os.value)) {
                    continue;
                }
                told.push(("image", &os.value));
                let known = raw.images.iter().flat_map(|table| &table.0);
                let known = listed(known.map(|(name, _)| name.value.as_str()));
                notes.push(
                    Complaint::error(format!("there is no image `{}`", os.value))
                        .at(os.span.clone(), "")
                        .help(format!("known under `images`: {known}")),
                );
            }
            Some(_) => {}
        }
    }
}

/// The hosts of the profile. Proxmox VE distinguishes `PVE1` from `pve1`, and so does k8sha.
fn known(hosts: &Table<Section<raw::Host>>, asked: &str) -> String {
    let alike = |(name, _): &&(At<String>, _)| name.value.eq_ignore_ascii_case(asked);
    match hosts.0.iter().find(alike) {
        Some((name, _)) => {
            format!("did you mean `{}`? Proxmox VE node names are case-sensitive", name.value)
        }
        None => format!("known here: {}", hosts.names()),
    }
}

fn is_theirs(template: &Template) -> bool {
    matches!(template, Template::Said(said) if said.mine.as_ref().is_some_and(|mine| mine.value))
}
