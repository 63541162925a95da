//! Table-driven tests of the verdicts, and queries to real servers on loopback.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_server::Server;
use hickory_server::proto::rr::rdata::{A, PTR, SOA};
use hickory_server::proto::rr::{LowerName, Name, RData, Record};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneHandler, ZoneType};
use tokio::net::{TcpListener, UdpSocket};

use super::*;
use crate::cluster::fixture::k8s1;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 101, 0, 53);

fn heard(kind: Kind, name: &str, address: [u8; 4], answer: Answer) -> Heard {
    let question = Question { kind, name: name.into(), address: address.into() };
    Heard { from: None, server: Some(SERVER), question, answer }
}

fn addresses(all: &[[u8; 4]]) -> Answer {
    Answer::Addresses(all.iter().map(|octets| (*octets).into()).collect())
}

#[test]
fn every_name_of_the_table_is_asked_for_in_both_directions() {
    let all = questions(&k8s1());
    let count = |kind| all.iter().filter(|question| question.kind == kind).count();
    assert_eq!([Kind::ApiBySearch, Kind::Api, Kind::Node, Kind::Reverse].map(count), [1, 1, 8, 9]);
    let of_balancer = questions_of_node(&k8s1(), "k8s1vrrp1.kloud.lan");
    assert_eq!(of_balancer.len(), 2 + 6 + 1);
}

#[test]
fn only_the_exact_address_is_right() {
    let api = |answer| heard(Kind::Api, "k8s1api.kloud.lan", [10, 101, 1, 10], answer);
    let vip = [10, 101, 1, 10];
    for (answer, text) in [
        (addresses(&[[10, 101, 1, 11]]), "answers 10.101.1.11 for"),
        (addresses(&[vip, [10, 101, 1, 11]]), "answers 10.101.1.10 and 10.101.1.11 for"),
        (Answer::NxDomain, "answers that there is no such name for"),
        (Answer::Refused, "answers that it refuses for"),
    ] {
        // A second, correct answer: the server answers, and not all of its answers are wrong.
        let report = judge("kloud.lan", vec![api(answer), api(addresses(&[vip]))]);
        let found: Vec<_> = report.errors().collect();
        assert_eq!(found.len(), 1);
        assert!(found[0].text.contains(text), "{}", found[0].text);
        assert!(found[0].text.ends_with("`k8s1api.kloud.lan`; it must be 10.101.1.10"));
    }
    assert!(judge("kloud.lan", vec![api(addresses(&[vip]))]).is_good());
}

#[test]
fn a_missing_reverse_record_is_only_a_warning_but_has_its_record() {
    let report = judge(
        "kloud.lan",
        vec![heard(Kind::Reverse, "k8s1master1.kloud.lan", [10, 101, 1, 101], Answer::NxDomain)],
    );
    assert!(report.is_good());
    assert_eq!(report.warnings().count(), 1);
    assert_eq!(report.records.bind, ["101.1.101.10.in-addr.arpa. IN PTR k8s1master1.kloud.lan."]);
}

#[test]
fn the_records_to_add_and_to_remove_are_exact_and_stand_once() {
    let stale = || addresses(&[[10, 101, 1, 99]]);
    let report = judge(
        "kloud.lan",
        vec![
            heard(Kind::ApiBySearch, "k8s1api", [10, 101, 1, 10], stale()),
            heard(Kind::Api, "k8s1api.kloud.lan", [10, 101, 1, 10], stale()),
            heard(Kind::Node, "k8s1master1.kloud.lan", [10, 101, 1, 101], Answer::NxDomain),
        ],
    );
    assert_eq!(
        serde_json::to_value(&report.records).unwrap(),
        serde_json::json!({
            "bind": [
                "k8s1api.kloud.lan. IN A 10.101.1.10",
                "k8s1master1.kloud.lan. IN A 10.101.1.101",
            ],
            "dnsmasq": [
                "host-record=k8s1api.kloud.lan,10.101.1.10",
                "host-record=k8s1master1.kloud.lan,10.101.1.101",
            ],
            "hosts": [
                "10.101.1.10 k8s1api.kloud.lan k8s1api",
                "10.101.1.101 k8s1master1.kloud.lan k8s1master1",
            ],
            "remove": ["k8s1api.kloud.lan. IN A 10.101.1.99"],
        })
    );
}

#[test]
fn a_server_that_says_nothing_at_all_is_one_finding() {
    let silent = |name: &str| heard(Kind::Node, name, [10, 101, 1, 101], Answer::Silent);
    let report = judge("kloud.lan", vec![silent("a.kloud.lan"), silent("b.kloud.lan")]);
    let texts: Vec<_> = report.findings.iter().map(|finding| finding.text.as_str()).collect();
    assert_eq!(texts, ["the name server 10.101.0.53 answered none of 2 questions"]);
    assert!(report.records.is_empty());
}

#[test]
fn a_hosts_file_that_masks_a_node_is_found_and_blames_no_server() {
    let question = Question {
        kind: Kind::Node,
        name: "k8s1master1.kloud.lan".into(),
        address: [10, 101, 1, 101].into(),
    };
    let report = judge(
        "kloud.lan",
        vec![Heard {
            from: Some("k8s1master1".into()),
            server: None,
            question,
            answer: addresses(&[[127, 0, 1, 1]]),
        }],
    );
    assert_eq!(
        report.findings[0].text,
        "the resolver of `k8s1master1` answers 127.0.1.1 for `k8s1master1.kloud.lan`; it must be \
         10.101.1.101"
    );
    assert!(report.records.is_empty());
}

/// A name server for `kloud.lan` and its reverse zone with these records.
async fn serve(records: &[(&str, Ipv4Addr)]) -> (SocketAddr, Server<Catalog>) {
    let name = |text: &str| Name::from_ascii(text).unwrap();
    let mut catalog = Catalog::new();
    for origin in ["kloud.lan.", "10.in-addr.arpa."] {
        let mut zone: InMemoryZoneHandler =
            InMemoryZoneHandler::empty(name(origin), ZoneType::Primary, AxfrPolicy::Deny);
        let soa = SOA::new(name("ns.kloud.lan."), name("root.kloud.lan."), 1, 60, 60, 60, 60);
        zone.upsert_mut(Record::from_rdata(name(origin), 60, RData::SOA(soa)), 1);
        for (fqdn, address) in records {
            let [a, b, c, d] = address.octets();
            let (owner, data) = if origin == "kloud.lan." {
                (format!("{fqdn}."), RData::A(A(*address)))
            } else {
                let target = name(&format!("{fqdn}."));
                (format!("{d}.{c}.{b}.{a}.in-addr.arpa."), RData::PTR(PTR(target)))
            };
            zone.upsert_mut(Record::from_rdata(name(&owner), 60, data), 1);
        }
        let handlers: Vec<Arc<dyn ZoneHandler>> = vec![Arc::new(zone)];
        catalog.upsert(LowerName::new(&name(origin)), handlers);
    }
    let mut server = Server::new(catalog);
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = udp.local_addr().unwrap();
    server.register_listener(TcpListener::bind(address).await.unwrap(), Duration::from_secs(5), 16);
    server.register_socket(udp);
    (address, server)
}

fn table(cluster: &Cluster) -> Vec<(&str, Ipv4Addr)> {
    let nodes = cluster.nodes.iter().map(|node| (node.fqdn.as_str(), node.ip));
    nodes.chain([(cluster.api.fqdn.as_str(), cluster.api.vip)]).collect()
}

fn dialer(servers: &[(Ipv4Addr, SocketAddr)]) -> Dialer {
    let map: BTreeMap<_, _> =
        servers.iter().map(|(ip, at)| (SocketAddr::new(IpAddr::V4(*ip), PORT), *at)).collect();
    Dialer::through(None, map)
}

#[tokio::test]
async fn right_servers_leave_nothing_to_say() {
    let cluster = k8s1();
    let (first, _a) = serve(&table(&cluster)).await;
    let (second, _b) = serve(&table(&cluster)).await;
    let [one, two] = cluster.network.nameservers[..] else { panic!("two servers") };
    let report = check(&cluster, &dialer(&[(one, first), (two, second)])).await.unwrap();
    assert_eq!((report.asked, &report.findings[..]), (38, &[][..]));
}

#[tokio::test]
async fn an_api_name_that_is_missing_is_missing_by_search_too() {
    let cluster = k8s1();
    let mut records = table(&cluster);
    records.retain(|(name, _)| *name != cluster.api.fqdn);
    // It refuses all names outside its zones, such as the short name alone.
    let (server, _a) = serve(&records).await;
    let servers: Vec<_> =
        cluster.network.nameservers.iter().map(|listed| (*listed, server)).collect();
    let report = check(&cluster, &dialer(&servers)).await.unwrap();
    let got: Vec<_> = report.errors().map(|finding| finding.got.as_str()).collect();
    assert_eq!(got, ["that there is no such name"; 4]);
}

#[tokio::test]
async fn one_stale_server_is_named_though_the_other_is_right() {
    let cluster = k8s1();
    let (right, _a) = serve(&table(&cluster)).await;
    let mut records = table(&cluster);
    records.retain(|(name, _)| *name != "k8s1master6.kloud.lan");
    for record in &mut records {
        if record.0 == cluster.api.fqdn {
            record.1 = [10, 101, 1, 99].into();
        }
    }
    let (stale, _b) = serve(&records).await;
    let [one, two] = cluster.network.nameservers[..] else { panic!("two servers") };
    let report = check(&cluster, &dialer(&[(one, right), (two, stale)])).await.unwrap();
    let errors: Vec<_> = report.errors().map(|finding| finding.text.clone()).collect();
    assert_eq!(
        errors,
        [
            "10.101.1.3 answers 10.101.1.99 for `k8s1api` by the search domain; it must be \
             10.101.1.10",
            "10.101.1.3 answers 10.101.1.99 for `k8s1api.kloud.lan`; it must be 10.101.1.10",
            "10.101.1.3 answers that there is no such name for `k8s1master6.kloud.lan`; it must \
             be 10.101.1.203",
        ]
    );
}

#[tokio::test]
async fn a_silent_server_costs_little_time_and_the_other_is_still_heard() {
    let cluster = k8s1();
    let (right, _a) = serve(&table(&cluster)).await;
    // Bound, but never read.
    let mute = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let _tcp = TcpListener::bind(mute.local_addr().unwrap()).await.unwrap();
    let [one, two] = cluster.network.nameservers[..] else { panic!("two servers") };
    let servers = dialer(&[(one, right), (two, mute.local_addr().unwrap())]);
    let started = Instant::now();
    let report = check(&cluster, &servers).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    let texts: Vec<_> = report.findings.iter().map(|finding| finding.text.as_str()).collect();
    assert_eq!(texts, ["the name server 10.101.1.3 answered none of 19 questions"]);
}
