//! The DNS checks against dnsmasq, from the operator and from a node.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8sha::cluster::Cluster;
use k8sha::dns::{self, Report};
use k8sha::net::Dialer;

use crate::cell::{Cell, Running};
use crate::lab::Lab;
use crate::{loopback, needs, profiles, wait};

/// The name server software.
pub const PROGRAMS: &[&str] = &["dnsmasq", "unshare", "setpriv"];
const LIMIT: Duration = Duration::from_secs(10);

/// Outside the range of ephemeral ports.
const PORT: u16 = 10053;

/// A name server: its records, as lines of dnsmasq's configuration.
pub type Zone = Vec<String>;

/// The correct records. A host record gives both directions.
pub fn right_zone(cluster: &Cluster) -> Zone {
    let api = &cluster.api;
    let nodes = cluster.nodes.iter().map(|node| format!("host-record={},{}", node.fqdn, node.ip));
    [format!("host-record={},{}", api.fqdn, api.vip)].into_iter().chain(nodes).collect()
}

/// Without the records of this name.
pub fn without(zone: &[String], name: &str) -> Zone {
    let of_name = format!("host-record={name},");
    zone.iter().filter(|line| !line.starts_with(&of_name)).cloned().collect()
}

/// Applies the report by hand: removes wrong records, adds missing ones.
fn corrected(mut zone: Zone, report: &Report) -> Zone {
    for line in &report.records.remove {
        let (name, address) = line.split_once(". IN A ").unwrap();
        zone.retain(|record| *record != format!("host-record={name},{address}"));
    }
    zone.extend(report.records.dnsmasq.clone());
    zone
}

/// The whole configuration: it serves its own domain only.
fn config(at: SocketAddr, domain: &str, zone: &[String]) -> String {
    let (ip, port) = (at.ip(), at.port());
    let records = zone.join("\n");
    format!(
        "port={port}\nlisten-address={ip}\nbind-interfaces\nno-resolv\nno-hosts\nuser=root\n\
         pid-file=\nlocal=/{domain}/\n{records}\n"
    )
}

/// Starts a server of this zone; its files last as long as the cell.
pub fn dnsmasq(cell: Cell, at: SocketAddr, domain: &str, zone: &[String]) -> (Running, Cell) {
    let path = "/run/dnsmasq.conf";
    let cell = cell.empty("/run").file(path, &config(at, domain, zone), 0o644);
    let conf = format!("--conf-file={path}");
    let running = cell.start(&["dnsmasq", "--keep-in-foreground", "--log-facility=-", &conf]);
    let started = || running.log().contains("started, version").then_some(());
    wait::until("dnsmasq serves", LIMIT, started, || running.log());
    (running, cell)
}

/// The report for the operator with these zones on the cluster's two name servers.
async fn report(cluster: &Cluster, zones: [&[String]; 2]) -> Report {
    report_of_domain(cluster, &cluster.network.domain, zones).await
}

async fn report_of_domain(cluster: &Cluster, domain: &str, zones: [&[String]; 2]) -> Report {
    let (mut ports, mut servers) = (BTreeMap::new(), Vec::new());
    for (server, zone) in cluster.network.nameservers.iter().zip(zones) {
        let at = SocketAddr::new(loopback::address().into(), PORT);
        servers.push(dnsmasq(Cell::new(), at, domain, zone));
        ports.insert(SocketAddr::new(IpAddr::V4(*server), 53), at);
    }
    dns::check(cluster, &Dialer::through(None, ports)).await.unwrap()
}

fn cluster() -> Cluster {
    let cluster = profiles::cluster("k8s1");
    assert_eq!(cluster.network.nameservers.len(), 2);
    cluster
}

#[tokio::test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
async fn a_correct_zone_has_no_findings() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let cluster = cluster();
    let zone = right_zone(&cluster);
    let report = report(&cluster, [&zone, &zone]).await;
    assert_eq!(report.findings, [], "{}", report.text());
    assert_eq!(report.asked, 2 * dns::questions(&cluster).len());
}

#[tokio::test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
async fn the_records_in_the_report_fix_missing_ones() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let cluster = cluster();
    let zone = without(&right_zone(&cluster), &cluster.api.fqdn);
    let zone = without(&zone, "k8s1master5.kloud.lan");
    let told = report(&cluster, [&zone, &zone]).await;
    let text = told.text();
    for wanted in [
        "10.101.1.2 answers that there is no such name for `k8s1api` by the search domain",
        "10.101.1.3 answers that there is no such name for `k8s1api.kloud.lan`",
        "10.101.1.3 answers that there is no such name for `k8s1master5.kloud.lan`",
    ] {
        assert!(text.contains(wanted), "{text}");
    }
    let zone = corrected(zone, &told);
    let report = report(&cluster, [&zone, &zone]).await;
    assert_eq!(report.findings, [], "{}", report.text());
}

#[tokio::test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
async fn a_stale_record_on_one_server_is_reported_for_that_server_and_fixed_there() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let cluster = cluster();
    let right = right_zone(&cluster);
    let mut stale = without(&right, &cluster.api.fqdn);
    stale.push(format!("host-record={},10.101.1.99", cluster.api.fqdn));
    let told = report(&cluster, [&right, &stale]).await;
    let servers: Vec<_> = told.errors().map(|finding| finding.server).collect();
    let second = Some(cluster.network.nameservers[1]);
    assert_eq!(servers, [second, second], "{}", told.text());
    assert_eq!(told.records.remove, ["k8s1api.kloud.lan. IN A 10.101.1.99"]);
    let stale = corrected(stale, &told);
    let report = report(&cluster, [&right, &stale]).await;
    assert_eq!(report.findings, [], "{}", report.text());
}

#[tokio::test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
async fn an_additional_address_of_the_api_is_an_error() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let cluster = cluster();
    let mut zone = right_zone(&cluster);
    zone.push(format!("host-record={},10.101.1.99", cluster.api.fqdn));
    let told = report(&cluster, [&zone, &zone]).await;
    assert_eq!(told.errors().count(), 4, "{}", told.text());
    assert!(told.text().contains("answers 10.101.1.10 and 10.101.1.99"), "{}", told.text());
    let zone = corrected(zone, &told);
    let report = report(&cluster, [&zone, &zone]).await;
    assert_eq!(report.findings, [], "{}", report.text());
}

#[tokio::test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
async fn a_wrong_record_is_an_error_and_a_missing_ptr_record_a_warning() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let cluster = cluster();
    let (name, ip) = ("k8s1master2.kloud.lan", "10.101.1.102");
    let mut zone = without(&right_zone(&cluster), name);
    zone.push(format!("host-record={name},10.101.1.202"));
    let told = report(&cluster, [&zone, &zone]).await;
    let text = told.text();
    let wrong = format!("10.101.1.3 answers 10.101.1.202 for `{name}`; it must be {ip}");
    assert!(text.contains(&wrong), "{text}");
    assert_eq!((told.errors().count(), told.warnings().count()), (2, 2), "{text}");
    // Forward only: dnsmasq creates no PTR record for an `address`.
    let mut zone = without(&right_zone(&cluster), name);
    zone.push(format!("address=/{name}/{ip}"));
    let told = report(&cluster, [&zone, &zone]).await;
    let text = told.text();
    assert!(told.is_good(), "{text}");
    let back = format!("warning: 10.101.1.2 answers that it refuses for `{ip}`");
    assert!(text.contains(&back), "{text}");
}

#[tokio::test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
async fn a_server_of_another_domain_refuses_and_a_silent_one_costs_two_seconds() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let cluster = cluster();
    let other = report_of_domain(&cluster, "other.example", [&[], &[]]).await;
    assert!(other.text().contains("answers that it refuses for `k8s1api.kloud.lan`"));
    assert!(other.records.is_empty(), "no record cures a refusal: {}", other.text());
    // Bound, so that the queries arrive, but never answered.
    let mute = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = mute.local_addr().unwrap();
    let servers = cluster.network.nameservers.iter();
    let ports = servers.map(|server| (SocketAddr::new(IpAddr::V4(*server), 53), at)).collect();
    let began = Instant::now();
    let silent = dns::check(&cluster, &Dialer::through(None, ports)).await.unwrap();
    assert!(began.elapsed() < LIMIT);
    assert_eq!(silent.findings.len(), 2, "{}", silent.text());
    assert!(silent.text().contains("the name server 10.101.1.3 answered none of"));
}

#[tokio::test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
async fn a_node_queries_with_dig_and_getent_and_gets_the_same() {
    if !needs::asked_for(&[PROGRAMS, &["dig", "getent", "ip"]].concat()) {
        return;
    }
    let cluster = cluster();
    let Some(mut lab) = Lab::new() else { return };
    let node = cluster.first_master().clone();
    let machine = node.name.to_string();
    let servers = cluster.network.nameservers.clone();
    lab.add("dns", &servers);
    lab.add(&machine, &[node.ip]);
    let right = right_zone(&cluster);
    let mut stale = without(&right, &cluster.api.fqdn);
    stale.push(format!("host-record={},10.101.1.99", cluster.api.fqdn));
    let stale = without(&stale, "k8s1master6.kloud.lan");

    let serve = |zones: [&Zone; 2]| -> Vec<(Running, Cell)> {
        let start = |(server, zone): (&Ipv4Addr, &Zone)| {
            let at = SocketAddr::new(IpAddr::V4(*server), 53);
            dnsmasq(Cell::new().in_network(&lab.name("dns")), at, &cluster.network.domain, zone)
        };
        servers.iter().zip(zones).map(start).collect()
    };
    // The files that cloud-init and netplan would have written.
    let hosts = profiles::files(&profiles::seed(&cluster, &node));
    let hosts = hosts.into_iter().find(|file| file.path == "/etc/hosts").unwrap().content;
    let lines = servers.iter().map(|server| format!("nameserver {server}\n"));
    let resolv = lines.collect::<String>() + &format!("search {}\n", cluster.network.domain);
    let cell = Arc::new(
        Cell::new().in_network(&lab.name(&machine)).file("/etc/resolv.conf", &resolv, 0o644).file(
            "/etc/hosts",
            &hosts,
            0o644,
        ),
    );
    let ask = async || {
        let run = |words: Vec<String>| {
            let cell = Arc::clone(&cell);
            async move {
                let run = move || {
                    let words: Vec<&str> = words.iter().map(String::as_str).collect();
                    cell.run(&words)
                };
                let output = tokio::task::spawn_blocking(run).await.unwrap();
                let code = output.status.code().unwrap() as u32;
                Ok((code, String::from_utf8(output.stdout).unwrap()))
            }
        };
        dns::node::check::<_, _, Infallible>(&cluster, &node, run).await.unwrap()
    };

    let serving = serve([&right, &right]);
    let report = ask().await;
    assert_eq!(report.findings, [], "{}", report.text());
    drop(serving);

    let serving = serve([&right, &stale]);
    let text = ask().await.text();
    for wanted in [
        "10.101.1.3 answers 10.101.1.99 for `k8s1api` by the search domain, asked on `k8s1master1`",
        "10.101.1.3 answers 10.101.1.99 for `k8s1api.kloud.lan`, asked on `k8s1master1`",
        "10.101.1.3 answers that there is no such name for `k8s1master6.kloud.lan`",
    ] {
        assert!(text.contains(wanted), "{text}");
    }
    assert!(!text.contains("10.101.1.2 answers"), "{text}");
    drop(serving);

    lab.cut("dns", crate::lab::Cut::Network);
    let text = ask().await.text();
    assert!(text.contains("the name server 10.101.1.2 answered none of"), "{text}");
}
