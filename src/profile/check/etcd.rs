//! Checks the `etcd` section.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Notes, RowView, reserved, resolved, rows};
use crate::cluster::{ETCD_CLIENT_PORT, Etcd, EtcdRelease, HostName, Role, Version};
use crate::profile::at::{At, Section, Table, listed};
use crate::profile::complaint::Complaint;
use crate::profile::raw::{self, EtcdUrl, Profile, PveNode};

/// The minimum version of an external etcd for kubeadm, from Kubernetes 1.31 on
/// (`MinExternalEtcdVersion` of cmd/kubeadm/app/constants/constants.go, in its release branches).
const LEAST: Version = Version { major: 3, minor: 5, patch: 24 };
/// The minimum version for older minors.
const LEAST_BEFORE: Version = Version { major: 3, minor: 5, patch: 0 };

pub(super) fn settle(
    typed: &raw::Etcd,
    profile: &Profile,
    base: &Path,
    notes: &mut Notes,
) -> Option<Etcd> {
    let members: Vec<RowView<'_>> = members(profile).collect();
    match typed {
        raw::Etcd::Machines(section) => machines(section, &members, profile, notes),
        raw::Etcd::Stacked => {
            idle(&members, "`stacked`: its members run on the masters", notes);
            Some(Etcd::Stacked)
        }
        raw::Etcd::External(section) => {
            idle(&members, "`external`: k8sha does not create it", notes);
            external(section, base, notes)
        }
    }
}

/// The rows of role `etcd`.
pub(super) fn members(profile: &Profile) -> impl Iterator<Item = RowView<'_>> {
    let is_member = |row: &RowView<'_>| {
        row.section.value.role.as_ref().is_some_and(|role| role.value == Role::Etcd)
    };
    rows(profile).filter(is_member)
}

/// Finds machines that would be created but never used.
fn idle(members: &[RowView<'_>], what: &str, notes: &mut Notes) {
    let Some(first) = members.first() else { return };
    let text = format!("a row has the role `etcd`, but `etcd` in the profile is {what}");
    let label = format!("the first of {}", members.len());
    notes.push(
        Complaint::error(text)
            .at(first.section.span.clone(), label)
            .help("`etcd: { machines: { version: …, sha256: … } }` makes these rows etcd members"),
    );
}

fn machines(
    section: &Section<raw::EtcdMachines>,
    members: &[RowView<'_>],
    profile: &Profile,
    notes: &mut Notes,
) -> Option<Etcd> {
    let typed = &section.value;
    if members.is_empty() && profile.nodes.is_some() {
        notes.push(
            Complaint::error("`etcd` asks for dedicated machines, but no row has the role `etcd`")
                .at(section.span.clone(), "asked for here")
                .help("add three or five rows with `role: etcd`, on several Proxmox VE hosts"),
        );
    }
    if let Some(version) = &typed.version {
        let kubernetes = profile.kubernetes.as_ref().and_then(|k| k.value.version.as_ref());
        young_enough(version, kubernetes, notes);
    }
    let bare = members.iter().any(|row| !row.preinstalled().is_some_and(|there| there.value));
    let release = if bare || typed.version.is_some() || typed.sha256.is_some() {
        let version = notes.need(section, "version", &typed.version);
        let sha256 = notes.need(section, "sha256", &typed.sha256);
        let (version, sha256) = (version?.value, sha256?.value.0.clone());
        let url = typed.url.as_ref().map(|url| url.value.0.clone());
        let url = url.unwrap_or_else(|| archive(version));
        Some(EtcdRelease { version, url, sha256 })
    } else {
        None
    };
    let addresses = members.iter().map(|row| row.section.value.ip.as_ref().map(|ip| ip.value));
    let addresses: Vec<_> = addresses.collect::<Option<_>>()?;
    let endpoint = |ip| format!("https://{ip}:{ETCD_CLIENT_PORT}");
    Some(Etcd::Machines { release, endpoints: addresses.into_iter().map(endpoint).collect() })
}

/// Where etcd publishes a release (github.com/etcd-io/etcd/releases).
fn archive(version: Version) -> String {
    format!(
        "https://github.com/etcd-io/etcd/releases/download/v{version}/etcd-v{version}-linux-amd64.tar.gz"
    )
}

fn young_enough(version: &At<Version>, kubernetes: Option<&At<Version>>, notes: &mut Notes) {
    let Some(kubernetes) = kubernetes else { return };
    let least = if kubernetes.value.minor >= 31 { LEAST } else { LEAST_BEFORE };
    if version.value < least {
        let text = format!("etcd {} is too old for Kubernetes {}", version.value, kubernetes.value);
        notes.push(
            Complaint::error(text)
                .at(version.span.clone(), "")
                .at(kubernetes.span.clone(), "asked for here")
                .help(format!("kubeadm requires {least} or newer")),
        );
    }
}

fn external(section: &Section<raw::ExternalEtcd>, base: &Path, notes: &mut Notes) -> Option<Etcd> {
    let typed = &section.value;
    let endpoints = notes.need(section, "endpoints", &typed.endpoints);
    if let Some(endpoints) = endpoints {
        distinct(section, endpoints, notes);
        reserved::members(endpoints, notes);
    }
    let files = notes.need(section, "files", &typed.files);
    let files = files.and_then(|files| {
        let ca = notes.need(files, "ca", &files.value.ca);
        let cert = notes.need(files, "cert", &files.value.cert);
        let key = notes.need(files, "key", &files.value.key);
        Some((resolved(base, ca?), resolved(base, cert?), resolved(base, key?)))
    });
    let endpoints = endpoints?;
    let hosts = typed.hosts.as_ref().map(|hosts| placed(endpoints, hosts, notes));
    let (ca_file, cert_file, key_file) = files?;
    Some(Etcd::External {
        endpoints: endpoints.iter().map(|endpoint| endpoint.value.url.clone()).collect(),
        ca_file,
        cert_file,
        key_file,
        hosts: hosts.unwrap_or_default(),
    })
}

fn distinct(section: &Section<raw::ExternalEtcd>, endpoints: &[At<EtcdUrl>], notes: &mut Notes) {
    if endpoints.is_empty() {
        let text = "an external etcd without endpoints";
        notes.push(Complaint::error(text).at(section.span.clone(), "`endpoints` is empty here"));
    }
    for (nth, endpoint) in endpoints.iter().enumerate() {
        let twin = endpoints[..nth].iter().find(|twin| twin.value.url == endpoint.value.url);
        if let Some(twin) = twin {
            notes.push(
                Complaint::error(format!("the endpoint `{}` is listed twice", endpoint.value.url))
                    .at(endpoint.span.clone(), "again here")
                    .at(twin.span.clone(), "first here"),
            );
        }
    }
}

/// The host of each endpoint, by the endpoint's URL.
fn placed(
    endpoints: &[At<EtcdUrl>],
    hosts: &Table<At<PveNode>>,
    notes: &mut Notes,
) -> BTreeMap<String, HostName> {
    let mut placed = BTreeMap::new();
    for (key, host) in &hosts.0 {
        let member = endpoints.iter().find(|endpoint| names(&key.value, &endpoint.value));
        match member {
            Some(endpoint) => {
                placed.insert(endpoint.value.url.clone(), HostName(host.value.0.clone()));
            }
            None => {
                let known = endpoints.iter().map(|endpoint| endpoint.value.host.as_str());
                notes.push(
                    Complaint::error(format!("`{}` is not an etcd endpoint", key.value))
                        .at(key.span.clone(), "")
                        .help(format!("known here: {}", listed(known))),
                );
            }
        }
    }
    placed
}

/// Whether the word refers to this member.
pub(super) fn names(word: &str, endpoint: &EtcdUrl) -> bool {
    word == endpoint.host || word.strip_suffix('/').unwrap_or(word) == endpoint.url
}
