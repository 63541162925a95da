//! Computes the changes on a host from its current state. Pure.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::Serialize;

use super::seen::Seen;
use super::unit;
use crate::cluster::HostName;

/// The changes on a host, and the conflicts that block them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// The host.
    pub host: HostName,
    /// Each network with the state of its route.
    pub routes: Vec<Line>,
    /// Whether the routes come back after a reboot.
    pub persistent: bool,
    /// Whether there is nothing to do.
    pub settled: bool,
    /// Why the absent routes must not be set.
    pub clashes: Vec<Clash>,
}

/// A network and its route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The network.
    pub net: Ipv4Net,
    /// Whether packets to it are dropped.
    pub state: State,
}

/// Whether packets to a network are dropped, and whether they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As wanted.
    Set,
    /// Wanted, but not set.
    Absent,
    /// Set, but no longer wanted.
    Stale,
}

/// Something that a route would cut off, or that k8sha must not change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Clash {
    /// What it is.
    pub text: String,
    /// What to do about it.
    pub hint: String,
}

/// Plans the routes that drop packets to `wanted` on a host. If `wanted` is empty, all of the
/// cluster's routes are removed.
pub fn plan(cluster: &str, host: &HostName, wanted: &[Ipv4Net], seen: &Seen) -> Plan {
    let have = seen.ours(cluster);
    let mut routes: Vec<Line> = wanted
        .iter()
        .map(|net| Line {
            net: *net,
            state: if have.contains(net) { State::Set } else { State::Absent },
        })
        .collect();
    let stale = have.iter().filter(|net| !wanted.contains(net));
    routes.extend(stale.map(|net| Line { net: *net, state: State::Stale }));
    let mut clashes = Vec::new();
    if seen.unit.as_ref().is_some_and(|text| !unit::is_ours(cluster, text)) {
        clashes.push(Clash {
            text: format!("{} does not carry k8sha's mark", unit::path(cluster)),
            hint: "find out who created it; k8sha does not touch it".to_owned(),
        });
    }
    for line in routes.iter().filter(|line| line.state == State::Absent) {
        clashes.extend(cut_off(line.net, seen));
    }
    let text = unit::text(cluster, wanted);
    let persistent = seen.enabled && seen.active && seen.unit.as_ref() == Some(&text);
    let as_wanted = routes.iter().all(|line| line.state == State::Set);
    let settled = as_wanted && if wanted.is_empty() { seen.unit.is_none() } else { persistent };
    Plan { host: host.clone(), routes, persistent, settled, clashes }
}

/// What a blackhole would cut off.
fn cut_off(net: Ipv4Net, seen: &Seen) -> Vec<Clash> {
    let overlaps = |other: Ipv4Net| net.contains(&other) || other.contains(&net);
    let mut found = Vec::new();
    for link in &seen.links {
        for address in &link.addr_info {
            let own = Ipv4Net::new(address.local, address.prefixlen);
            if own.is_ok_and(|own| overlaps(own.trunc())) {
                let (local, length) = (address.local, address.prefixlen);
                found.push(format!("the address {local}/{length} of {}", link.ifname));
            }
        }
    }
    for route in &seen.routes {
        if !route.leads_somewhere() || !route.net().is_some_and(overlaps) {
            continue;
        }
        let mut text = format!("the route to {}", route.dst);
        if let Some(dev) = &route.dev {
            // Writing to a String cannot fail.
            let _ = write!(text, " by {dev}");
        }
        if let Some(table) = &route.table {
            let _ = write!(text, " (table {table})");
        }
        found.push(text);
    }
    for rule in seen.rules.iter().filter(|rule| rule.net().is_some_and(overlaps)) {
        let (table, to) = (rule.table.as_deref().unwrap_or("?"), rule.net().unwrap_or_default());
        found.push(format!("rule {}, which sends {to} to table {table}", rule.priority));
    }
    if let Some(operator) = seen.operator.filter(|operator| net.contains(operator)) {
        found.push(format!("your own connection, which comes from {operator}"));
    }
    let hint = hint(net);
    found
        .into_iter()
        .map(|what| Clash { text: format!("{net} would cut off {what}"), hint: hint.clone() })
        .collect()
}

fn hint(net: Ipv4Net) -> String {
    let tailscale = Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10);
    let whose = if tailscale.contains(&net) || net.contains(&tailscale) {
        "Tailscale lives in 100.64.0.0/10; "
    } else {
        ""
    };
    format!(
        "{whose}name networks under `proxmox.blackholes` that leave it out, such as the cluster's \
         own ones alone"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::seen::{Address, Link, Route, Rule};

    const CLUSTER: &str = "k8s1-cluster";

    fn nets() -> Vec<Ipv4Net> {
        ["198.19.0.0/16", "198.18.0.0/16", "100.64.0.0/10"].map(|net| net.parse().unwrap()).into()
    }

    fn ours(net: &str) -> Route {
        Route {
            kind: Some("blackhole".into()),
            dst: net.into(),
            protocol: Some("208".into()),
            metric: Some(unit::metric(CLUSTER)),
            ..Route::default()
        }
    }

    fn plain(dst: &str, dev: &str, table: Option<&str>) -> Route {
        let table = table.map(str::to_owned);
        Route { dst: dst.into(), dev: Some(dev.into()), table, ..Route::default() }
    }

    fn bare() -> Seen {
        Seen {
            routes: vec![plain("default", "vmbr0", None), plain("10.101.1.0/24", "vmbr0", None)],
            links: vec![Link {
                ifname: "vmbr0".into(),
                addr_info: vec![Address { local: [10, 101, 1, 3].into(), prefixlen: 24 }],
            }],
            rules: vec![Rule { priority: 5270, table: Some("52".into()), ..Rule::default() }],
            operator: Some([10, 101, 1, 200].into()),
            ..Seen::default()
        }
    }

    fn planned(wanted: &[Ipv4Net], seen: &Seen) -> Plan {
        plan(CLUSTER, &HostName("pve1".into()), wanted, seen)
    }

    #[test]
    fn a_bare_host_gets_all_and_a_finished_one_nothing() {
        let first = planned(&nets(), &bare());
        assert!(first.clashes.is_empty() && !first.settled && !first.persistent, "{first:?}");
        assert!(first.routes.iter().all(|line| line.state == State::Absent));
        let mut done = bare();
        done.routes.extend(nets().iter().map(|net| ours(&net.to_string())));
        done.unit = Some(unit::text(CLUSTER, &nets()));
        (done.enabled, done.active) = (true, true);
        assert!(planned(&nets(), &done).settled);
        // Set by hand after a reboot lost them, or never made persistent.
        done.enabled = false;
        let passing = planned(&nets(), &done);
        assert!(!passing.settled && !passing.persistent && passing.clashes.is_empty());
    }

    #[test]
    fn a_network_that_left_the_profile_is_taken_away() {
        let mut seen = bare();
        seen.routes.push(ours("198.19.0.0/16"));
        seen.unit = Some(unit::text(CLUSTER, &nets()[..1]));
        (seen.enabled, seen.active) = (true, true);
        let plan = planned(&nets()[1..], &seen);
        assert_eq!(plan.routes.last().unwrap().state, State::Stale);
        assert!(!plan.settled);
        let removal = planned(&[], &seen);
        assert_eq!(removal.routes.len(), 1);
        assert!(!removal.settled && planned(&[], &bare()).settled);
    }

    #[test]
    fn whatever_a_blackhole_would_cut_off_is_named() {
        let with = |change: &dyn Fn(&mut Seen)| {
            let mut seen = bare();
            change(&mut seen);
            let clashes = planned(&nets(), &seen).clashes;
            clashes.iter().map(|clash| clash.text.clone()).collect::<Vec<_>>()
        };
        for (clash, change) in [
            (
                "100.64.0.0/10 would cut off the route to 100.99.1.1 by tailscale0 (table 52)",
                &(|seen: &mut Seen| seen.routes.push(plain("100.99.1.1", "tailscale0", Some("52"))))
                    as &dyn Fn(&mut Seen),
            ),
            ("198.18.0.0/16 would cut off the route to 198.0.0.0/8 by wg0", &|seen| {
                seen.routes.push(plain("198.0.0.0/8", "wg0", None));
                seen.routes.push(ours("198.19.0.0/16"));
            }),
            ("100.64.0.0/10 would cut off the address 100.101.1.2/32 of tailscale0", &|seen| {
                seen.links.push(Link {
                    ifname: "tailscale0".into(),
                    addr_info: vec![Address { local: [100, 101, 1, 2].into(), prefixlen: 32 }],
                });
            }),
            (
                "198.18.0.0/16 would cut off rule 77, which sends 198.18.5.0/24 to table 9",
                &|seen| {
                    seen.rules.push(Rule {
                        priority: 77,
                        dst: Some([198, 18, 5, 0].into()),
                        dstlen: Some(24),
                        table: Some("9".into()),
                    });
                },
            ),
            (
                "100.64.0.0/10 would cut off your own connection, which comes from 100.70.0.9",
                &|seen| seen.operator = Some([100, 70, 0, 9].into()),
            ),
        ] {
            assert_eq!(with(change), [clash]);
        }
    }

    #[test]
    fn what_drops_packets_already_is_cut_off_by_nothing() {
        let mut seen = bare();
        for kind in ["blackhole", "unreachable", "throw"] {
            let route = plain("100.64.0.0/10", "lo", Some("52"));
            seen.routes.push(Route { kind: Some(kind.into()), ..route });
        }
        // The same networks, dropped for another of k8sha's clusters.
        seen.routes.push(Route { metric: Some(7), ..ours("198.19.0.0/16") });
        let plan = planned(&nets(), &seen);
        assert!(plan.clashes.is_empty(), "{:?}", plan.clashes);
        assert!(plan.routes.iter().all(|line| line.state == State::Absent));
    }

    #[test]
    fn a_unit_without_our_mark_is_left_alone() {
        let mut seen = bare();
        seen.unit = Some("[Unit]\n".into());
        for wanted in [nets(), Vec::new()] {
            let clashes = planned(&wanted, &seen).clashes;
            assert_eq!(clashes.len(), 1, "{clashes:?}");
            assert!(clashes[0].text.contains("does not carry k8sha's mark"), "{clashes:?}");
        }
    }
}
