//! Where the cluster's state lives.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Notes, resolved};
use crate::cluster::{Etcd, HostName};
use crate::profile::at::{At, Section, Table, listed};
use crate::profile::complaint::Complaint;
use crate::profile::raw::{self, DnsLabel, EtcdUrl};

pub(super) fn settle(typed: &raw::Etcd, base: &Path, notes: &mut Notes) -> Option<Etcd> {
    match typed {
        raw::Etcd::Stacked => Some(Etcd::Stacked),
        raw::Etcd::External(section) => external(section, base, notes),
    }
}

fn external(section: &Section<raw::ExternalEtcd>, base: &Path, notes: &mut Notes) -> Option<Etcd> {
    let typed = &section.value;
    let endpoints = notes.need(section, "endpoints", &typed.endpoints);
    if let Some(endpoints) = endpoints {
        distinct(section, endpoints, notes);
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
                Complaint::error(format!("the endpoint `{}` is there twice", endpoint.value.url))
                    .at(endpoint.span.clone(), "again here")
                    .at(twin.span.clone(), "first here"),
            );
        }
    }
}

/// Which host each endpoint lives on, by the endpoint's URL.
fn placed(
    endpoints: &[At<EtcdUrl>],
    hosts: &Table<At<DnsLabel>>,
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

/// Whether the word means this member.
pub(super) fn names(word: &str, endpoint: &EtcdUrl) -> bool {
    word == endpoint.host || word.strip_suffix('/').unwrap_or(word) == endpoint.url
}
