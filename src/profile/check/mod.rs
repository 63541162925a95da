//! Validates a profile and builds a [`Cluster`] from it, collecting every complaint.
//!
//! Each part is checked whether or not the other parts are valid. An invalid part yields `None`; a
//! cluster is built only if every part is valid.

mod access;
mod addresses;
mod cni;
mod cpu;
mod distribution;
mod etcd;
mod kubernetes;
mod layout;
mod network;
mod nodes;
mod offline;
mod ports;
mod proxmox;
mod reserved;
mod users;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::at::{At, Section, listed};
use super::complaint::{Complaint, Severity};
use super::raw::{FilePath, Profile, Row};
use crate::cluster::{Api, Balancer, Cluster, Failover};

/// The complaints so far.
pub(super) struct Notes {
    /// In the order in which they were found.
    pub complaints: Vec<Complaint>,
    /// Keys, with the id of their section, that are absent because of an earlier complaint.
    pub cut: BTreeSet<(usize, String)>,
    /// Keys that are missing, by the id of their section, and the place of the section.
    missing: BTreeMap<usize, (Option<Range<usize>>, Vec<String>)>,
}

impl Notes {
    /// Continues with the complaints from parsing.
    pub(super) fn new(complaints: Vec<Complaint>, cut: BTreeSet<(usize, String)>) -> Self {
        Self { complaints, cut, missing: BTreeMap::new() }
    }

    fn push(&mut self, complaint: Complaint) {
        self.complaints.push(complaint);
    }

    /// A required field of a section.
    fn need<'a, S, T>(
        &mut self,
        section: &Section<S>,
        key: &str,
        field: &'a Option<T>,
    ) -> Option<&'a T> {
        self.need_at(section.id, Some(&section.span), key, field)
    }

    /// A required field of the profile itself.
    fn need_top<'a, T>(
        &mut self,
        profile: &Section<Profile>,
        key: &str,
        field: &'a Option<T>,
    ) -> Option<&'a T> {
        self.need_at(profile.id, None, key, field)
    }

    fn need_at<'a, T>(
        &mut self,
        id: usize,
        span: Option<&Range<usize>>,
        key: &str,
        field: &'a Option<T>,
    ) -> Option<&'a T> {
        if field.is_none() && !self.cut.contains(&(id, key.to_owned())) {
            let (_, keys) = self.missing.entry(id).or_insert((span.cloned(), Vec::new()));
            keys.push(key.to_owned());
        }
        field.as_ref()
    }

    /// One complaint per section that lacks required fields.
    fn tell_missing(&mut self) {
        for (span, keys) in std::mem::take(&mut self.missing).into_values() {
            let are = if keys.len() == 1 { "is" } else { "are" };
            let keys = listed(keys.iter().map(String::as_str));
            let complaint = Complaint::error(format!("{keys} {are} missing"));
            self.push(match span {
                Some(span) => complaint.at(span, "here"),
                None => complaint,
            });
        }
    }

    fn failed(&self) -> bool {
        self.complaints.iter().any(|complaint| complaint.severity == Severity::Error)
    }
}

/// A row of the node table, with the shared columns as defaults.
#[derive(Clone, Copy)]
struct RowView<'a> {
    section: &'a Section<Row>,
    profile: &'a Profile,
}

macro_rules! shared_columns {
    ($($column:ident: $type:ty),* $(,)?) => {
        impl<'a> RowView<'a> {
            $(
                /// The row's own value, or else the shared value.
                fn $column(&self) -> Option<&'a At<$type>> {
                    let shared = self.profile.defaults.as_ref();
                    let shared = shared.and_then(|defaults| defaults.value.$column.as_ref());
                    self.section.value.$column.as_ref().or(shared)
                }
            )*
        }
    };
}

shared_columns! {
    os: String,
    kernel: crate::cluster::Kernel,
    ram: super::raw::Mib,
    vcpu: u32,
    disk: super::raw::Gib,
    pve: String,
    preinstalled: bool,
}

impl RowView<'_> {
    fn name(&self) -> &str {
        self.section.value.name.as_ref().map_or("a node", |name| &name.value.0)
    }
}

fn rows(profile: &Profile) -> impl Iterator<Item = RowView<'_>> {
    let rows = profile.nodes.as_deref().unwrap_or_default();
    rows.iter().map(move |section| RowView { section, profile })
}

/// Checks everything. It returns a cluster exactly if there is no error among the notes.
pub(super) fn settle(
    profile: &Section<Profile>,
    base: &Path,
    notes: &mut Notes,
) -> Option<Cluster> {
    let raw = &profile.value;
    let cluster = notes.need_top(profile, "cluster", &raw.cluster);
    let name = cluster.and_then(|section| notes.need(section, "name", &section.value.name));
    let network = notes
        .need_top(profile, "network", &raw.network)
        .and_then(|section| network::settle(section, notes));
    let api = cluster.and_then(|section| api(section, raw, notes));
    let kubernetes = notes
        .need_top(profile, "kubernetes", &raw.kubernetes)
        .and_then(|section| kubernetes::settle(section, raw, base, notes));
    let etcd = notes
        .need_top(profile, "etcd", &raw.etcd)
        .and_then(|choice| etcd::settle(choice, raw, base, notes));
    let balancer = notes
        .need_top(profile, "balancer", &raw.balancer)
        .and_then(|section| balancer(section, notes));
    let access = access::settle(raw, base, notes);
    let proxmox = notes
        .need_top(profile, "proxmox", &raw.proxmox)
        .and_then(|section| proxmox::settle(section, raw, base, notes));
    let mirrors = offline::mirrors(raw, notes);
    let images = proxmox::images(raw, notes);
    notes.need_top(profile, "nodes", &raw.nodes);
    let nodes = nodes::settle(raw, notes);
    addresses::check(raw, notes);
    layout::check(raw, notes);
    distribution::check(raw, notes);
    notes.tell_missing();
    if notes.failed() {
        return None;
    }
    Some(Cluster {
        name: name?.value.0.clone(),
        api: api?,
        network: network?,
        kubernetes: kubernetes?,
        etcd: etcd?,
        balancer: balancer?,
        access: access?,
        proxmox: proxmox?,
        mirrors: mirrors?,
        images: images?,
        nodes: nodes?,
    })
}

fn api(cluster: &Section<super::raw::Cluster>, raw: &Profile, notes: &mut Notes) -> Option<Api> {
    let section = notes.need(cluster, "api", &cluster.value.api)?;
    let name = notes.need(section, "name", &section.value.name);
    let vip = notes.need(section, "vip", &section.value.vip);
    if let Some(name) = name {
        for node in rows(raw) {
            let Some(twin) = &node.section.value.name else { continue };
            if twin.value == name.value {
                notes.push(
                    Complaint::error(format!(
                        "the API and a node are both named `{}`",
                        name.value.0
                    ))
                    .at(twin.span.clone(), "this node")
                    .at(name.span.clone(), "the API's name")
                    .help("the API's name is that of the VIP and belongs to no node"),
                );
            }
        }
    }
    if let Some(port) = &section.value.port {
        ports::check(port, raw, notes);
    }
    let domain = raw.network.as_ref().and_then(|network| network.value.domain.as_ref());
    if let (Some(name), Some(domain)) = (name, domain) {
        nodes::full_names(&[name], domain, NAME_MAX, "a name of DNS", notes);
    }
    let name = name?.value.0.clone();
    Some(Api {
        fqdn: format!("{name}.{}", domain?.value.0),
        name,
        vip: vip?.value,
        port: section.value.port.as_ref().map_or(6443, |port| port.value.0),
    })
}

fn balancer(section: &Section<super::raw::Balancer>, notes: &mut Notes) -> Option<Balancer> {
    let vrid = notes.need(section, "vrid", &section.value.vrid);
    if let Some(vrid) = vrid {
        match vrid.value {
            0 => notes.push(
                Complaint::error("`0` is not a VRRP virtual router id")
                    .at(vrid.span.clone(), "")
                    .help("1 to 255, unique on the network segment"),
            ),
            51 => notes.push(
                Complaint::warning("the VRRP virtual router id 51 is the default in most guides")
                    .at(vrid.span.clone(), "")
                    .help("two keepalived pairs with the same id on one network segment conflict: choose another id"),
            ),
            _ => {}
        }
    }
    let failover =
        section.value.failover.as_ref().map_or(Failover::Normal, |failover| failover.value);
    let advert = within(
        section.value.advert.as_ref(),
        failover.advert(),
        (Duration::from_millis(100), "100ms"),
        (Duration::from_secs(40), "40s"),
        notes,
    );
    let fast = section.value.failover.as_ref().filter(|it| it.value == Failover::Fast);
    if let (Some(advert), Some(fast)) = (&section.value.advert, fast) {
        slow(advert, fast, notes);
    }
    Some(Balancer { vrid: vrid?.value, failover, advert })
}

/// The longest full name in DNS, in characters (RFC 1035 2.3.4; as Kubernetes counts an
/// `RFC 1123 subdomain`).
const NAME_MAX: usize = 253;

/// How long the VIP may be unavailable when a balancer is lost, with `failover: fast`.
const FAST: Duration = Duration::from_secs(1);

/// How long the other balancer waits before it takes over the VIP, in adverts: three of them, and a
/// quarter more for the second of k8sha's priorities (190 of 256) (RFC 9568, 6.1:
/// `Active_Down_Interval`).
const TAKEOVER: f64 = 3.0 + 66.0 / 256.0;

/// Reports adverts that are so slow that the VIP moves later than `failover: fast` promises.
fn slow(advert: &At<Duration>, fast: &At<Failover>, notes: &mut Notes) {
    let away = advert.value.mul_f64(TAKEOVER);
    if away < FAST {
        return;
    }
    let text = format!(
        "`failover: fast` means under one second, and with this advert a lost balancer's VIP is \
         away for {:.1} s",
        away.as_secs_f64()
    );
    notes.push(
        Complaint::warning(text)
            .at(advert.span.clone(), "this advert")
            .at(fast.span.clone(), "fast")
            .help("remove `advert` (the default is then 200ms), or set at most 300ms"),
    );
}

/// A duration between a minimum and a maximum.
fn within(
    span: Option<&At<Duration>>,
    default: Duration,
    least: (Duration, &str),
    most: (Duration, &str),
    notes: &mut Notes,
) -> Duration {
    let Some(At { value, span }) = span else { return default };
    if *value < least.0 || *value > most.0 {
        let text = format!("this duration must be between {} and {}", least.1, most.1);
        notes.push(Complaint::error(text).at(span.clone(), ""));
    }
    *value
}

/// A path of the profile, as seen from k8sha's working folder.
fn resolved(base: &Path, path: &At<FilePath>) -> PathBuf {
    base.join(&path.value.0)
}
