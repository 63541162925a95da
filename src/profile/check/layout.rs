//! Warns about what the loss of one Proxmox VE host would take down. The layout is the author's
//! decision, so these are warnings, never errors.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{Notes, RowView, etcd, rows};
use crate::cluster::Role;
use crate::profile::complaint::Complaint;
use crate::profile::raw::{Etcd, ExternalEtcd, Profile};

/// An etcd member.
struct Member<'a> {
    span: Range<usize>,
    /// The Proxmox VE host that it depends on, if known.
    host: Option<&'a str>,
}

pub(super) fn check(raw: &Profile, notes: &mut Notes) {
    balancers(raw, notes);
    let masters: Vec<RowView<'_>> = with_role(raw, Role::Master).collect();
    if let [only] = masters.as_slice() {
        notes.push(
            Complaint::warning("a cluster with one master is not highly available")
                .at(only.section.span.clone(), "the only one")
                .help("with three masters the cluster survives the loss of one"),
        );
    }
    match &raw.etcd {
        Some(Etcd::Stacked) => {
            let members: Vec<Member<'_>> = masters.iter().map(row_member).collect();
            if members.len() > 1 {
                quorum(raw, &members, "master", notes);
            }
        }
        Some(Etcd::External(section)) => {
            masters_together(&masters, notes);
            quorum(raw, &external_members(&section.value), "etcd endpoint", notes);
        }
        Some(Etcd::Machines(_)) => {
            masters_together(&masters, notes);
            let rows: Vec<RowView<'_>> = etcd::members(raw).collect();
            let members: Vec<Member<'_>> = rows.iter().map(row_member).collect();
            if let [only] = rows.as_slice() {
                notes.push(
                    Complaint::warning(
                        "etcd on a single machine: losing that machine loses all data",
                    )
                    .at(only.section.span.clone(), "the only one")
                    .help("with three machines etcd survives the loss of one"),
                );
            }
            quorum(raw, &members, "etcd machine", notes);
        }
        None => {}
    }
}

fn with_role(raw: &Profile, role: Role) -> impl Iterator<Item = RowView<'_>> {
    rows(raw).filter(move |row| row.section.value.role.as_ref().is_some_and(|r| r.value == role))
}

/// The one host that all rows are on.
fn one_host<'a>(rows: &[RowView<'a>]) -> Option<(&'a str, Range<usize>)> {
    let (first, others) = rows.split_first()?;
    let host = first.pve()?;
    let together =
        others.iter().all(|row| row.pve().is_some_and(|other| other.value == host.value));
    (together && !others.is_empty()).then(|| (host.value.as_str(), host.span.clone()))
}

fn balancers(raw: &Profile, notes: &mut Notes) {
    let balancers: Vec<_> = with_role(raw, Role::LoadBalancer).collect();
    if let Some((host, span)) = one_host(&balancers) {
        notes.push(
            Complaint::warning(format!(
                "all load balancers are on `{host}`: its loss takes the VIP, and with it the API"
            ))
            .at(span, "")
            .help("put one of them on another Proxmox VE host"),
        );
    }
}

fn masters_together(masters: &[RowView<'_>], notes: &mut Notes) {
    if let Some((host, span)) = one_host(masters) {
        notes.push(
            Complaint::warning(format!("all masters are on `{host}`: its loss takes the API"))
                .at(span, "")
                .help("spread them over the Proxmox VE hosts"),
        );
    }
}

fn row_member<'a>(row: &RowView<'a>) -> Member<'a> {
    Member { span: row.section.span.clone(), host: row.pve().map(|pve| pve.value.as_str()) }
}

fn external_members(external: &ExternalEtcd) -> Vec<Member<'_>> {
    let hosts = external.hosts.iter().flat_map(|table| &table.0);
    let home = |endpoint: &crate::profile::raw::EtcdUrl| {
        let (_, host) = hosts.clone().find(|(word, _)| etcd::names(&word.value, endpoint))?;
        Some(host.value.0.as_str())
    };
    let endpoints = external.endpoints.iter().flatten();
    endpoints
        .map(|endpoint| Member { span: endpoint.span.clone(), host: home(&endpoint.value) })
        .collect()
}

fn quorum(raw: &Profile, members: &[Member<'_>], noun: &str, notes: &mut Notes) {
    let count = members.len();
    let Some(first) = members.first() else { return };
    let quorum = count / 2 + 1;
    if count.is_multiple_of(2) {
        let text = match count {
            2 => "two etcd members are worse than one: the loss of either stops the cluster".into(),
            _ => format!(
                "{count} etcd members are no better than {}: the quorum is {quorum}, so both \
                 survive the loss of {}",
                count - 1,
                count - quorum
            ),
        };
        notes.push(
            Complaint::warning(text)
                .at(first.span.clone(), format!("the first of {count}"))
                .help("an odd count: 3, 5 or 7"),
        );
    }
    let mut hosts: BTreeMap<&str, Vec<&Member<'_>>> = BTreeMap::new();
    for member in members {
        if let Some(host) = member.host {
            hosts.entry(host).or_default().push(member);
        }
    }
    let several = hosts.len() > 2;
    let spared: Vec<String> = hosts
        .iter()
        .filter(|(_, lost)| count - lost.len() >= quorum)
        .map(|(host, lost)| format!("`{host}` ({} of {count} members)", lost.len()))
        .collect();
    for (host, lost) in hosts {
        let left = count - lost.len();
        if count == 1 || left >= quorum {
            continue;
        }
        let mut hint = if several {
            "spread the members so that no host has half of them"
        } else {
            "no layout on two hosts survives the loss of either host: put a member on a third host"
        }
        .to_owned();
        if noun != "master" {
            hint.push_str(&also_lost(raw, host));
        }
        if !spared.is_empty() {
            hint.push_str(&format!("\nthe quorum survives the loss of {}", spared.join(" or of ")));
        }
        let stay = if left == 1 { "stays" } else { "stay" };
        let label = format!("the first of {} {noun}s on `{host}`", lost.len());
        notes.push(
            Complaint::warning(format!(
                "the loss of `{host}` costs etcd its quorum: {left} of {count} members {stay}, \
                 {quorum} are needed, and the cluster takes no more changes"
            ))
            .at(lost[0].span.clone(), label)
            .help(hint),
        );
    }
}

/// What else is lost with a host.
fn also_lost(raw: &Profile, host: &str) -> String {
    let lost =
        [(Role::Master, "masters"), (Role::LoadBalancer, "load balancers")].map(|(role, name)| {
            let all: Vec<RowView<'_>> = with_role(raw, role).collect();
            let there = all.iter().filter(|row| row.pve().is_some_and(|pve| pve.value == host));
            (there.count(), all.len(), name)
        });
    let lost: Vec<String> = lost
        .into_iter()
        .filter(|(lost, ..)| *lost > 0)
        .map(|(lost, all, name)| format!("{lost} of {all} {name}"))
        .collect();
    if lost.is_empty() {
        String::new()
    } else {
        format!("\n`{host}` also takes {}", lost.join(" and "))
    }
}
