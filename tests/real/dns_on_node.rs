//! The DNS checks inside a node: `dig` and `getent` over OpenSSH, with the node's own `resolv.conf` and
//! hosts file, against dnsmasq.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use k8sha::cluster::{Cluster, Node};
use k8sha::dns::{self, Report};
use k8sha::ssh::{Command, Error};

use crate::cell::Cell;
use crate::dns::{PROGRAMS, Zone, dnsmasq, right_zone, without};
use crate::sshd::{KEEN, Setup, Sshd};
use crate::{loopback, needs, profiles};

/// A cluster whose name servers are two addresses of the test, and its first master.
fn cluster() -> (Cluster, Node) {
    let mut cluster = profiles::cluster("k8s1");
    cluster.network.nameservers = vec![loopback::address(), loopback::address()];
    let node = cluster.first_master().clone();
    (cluster, node)
}

/// The hosts file from the seed.
fn hosts(cluster: &Cluster, node: &Node) -> String {
    let files = profiles::files(&profiles::seed(cluster, node));
    files.into_iter().find(|file| file.path == "/etc/hosts").unwrap().content
}

fn resolv(cluster: &Cluster, search: &str) -> String {
    let servers = cluster.network.nameservers.iter();
    servers.map(|server| format!("nameserver {server}\n")).collect::<String>() + search
}

/// A node with these files.
fn node_with(resolv: &str, hosts: &str) -> Sshd {
    Setup::new().file("/etc/resolv.conf", resolv).file("/etc/hosts", hosts).start()
}

/// The node's report while these zones are served.
async fn report(cluster: &Cluster, node: &Node, sshd: &Sshd, zones: [&Zone; 2]) -> Report {
    let servers = cluster.network.nameservers.iter().zip(zones);
    let start = |(server, zone): (&Ipv4Addr, &Zone)| {
        let at = SocketAddr::new(IpAddr::V4(*server), 53);
        dnsmasq(Cell::new(), at, &cluster.network.domain, zone)
    };
    let _serving: Vec<_> = servers.map(start).collect();
    let remote = sshd.remote(KEEN);
    let run = |words: Vec<String>| {
        let remote = remote.clone();
        async move {
            let command = Command::new(&words[0]).args(&words[1..]);
            let output = remote.run(&command).await?;
            Ok::<_, Error>((output.code, output.stdout_text()))
        }
    };
    dns::node::check(cluster, node, run).await.unwrap()
}

fn assert_says(report: &Report, wanted: &[String]) {
    let text = report.text();
    for sentence in wanted {
        assert!(text.contains(sentence), "no `{sentence}` in\n{text}");
    }
}

#[tokio::test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
async fn a_node_sees_wrong_missing_and_stale_records_of_each_server() {
    if !needs::asked_for(&[PROGRAMS, &["dig", "getent", "sshd", "sudo"]].concat()) {
        return;
    }
    let (cluster, node) = cluster();
    let [one, two] = cluster.network.nameservers[..] else { panic!("two servers") };
    let search = format!("search {}\n", cluster.network.domain);
    let sshd = node_with(&resolv(&cluster, &search), &hosts(&cluster, &node));
    let ask = async |zones| report(&cluster, &node, &sshd, zones).await;
    let (right, api) = (right_zone(&cluster), cluster.api.fqdn.as_str());

    let good = ask([&right, &right]).await;
    assert_eq!(good.findings, [], "{}", good.text());

    let mut wrong = without(&right, api);
    wrong.push(format!("host-record={api},10.101.1.99"));
    let told = ask([&wrong, &wrong]).await;
    assert_says(
        &told,
        &[
            format!("{one} answers 10.101.1.99 for `{api}`, asked on `k8s1master1`"),
            format!("{two} answers 10.101.1.99 for `k8s1api` by the search domain, asked on"),
            format!("the resolver of `k8s1master1` answers 10.101.1.99 for `{api}`"),
        ],
    );

    let missing = without(&right, "k8s1master3.kloud.lan");
    let told = ask([&missing, &missing]).await;
    let says =
        |server| format!("{server} answers that there is no such name for `k8s1master3.kloud.lan`");
    assert_says(&told, &[says(one), says(two)]);

    let told = ask([&right, &wrong]).await;
    assert_says(&told, &[format!("{two} answers 10.101.1.99 for `{api}`")]);
    assert!(!told.text().contains(&format!("{one} answers 10")), "{}", told.text());
    assert_eq!(told.records.remove, [format!("{api}. IN A 10.101.1.99")]);
}

#[tokio::test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
async fn a_node_without_the_search_domain_or_with_its_own_hosts_file_is_reported() {
    if !needs::asked_for(&[PROGRAMS, &["dig", "getent", "sshd", "sudo"]].concat()) {
        return;
    }
    let (cluster, node) = cluster();
    let one = cluster.network.nameservers[0];
    let right = right_zone(&cluster);

    for search in ["", "search other.example\n"] {
        let sshd = node_with(&resolv(&cluster, search), &hosts(&cluster, &node));
        let told = report(&cluster, &node, &sshd, [&right, &right]).await;
        let text = told.text();
        assert_says(
            &told,
            &[
                format!("{one} answers that it refuses for `k8s1api` by the search domain"),
                "the resolver of `k8s1master1` answers that there is no such name for `k8s1api` \
                 by the search domain"
                    .to_owned(),
            ],
        );
        // All other names are queried as FQDNs.
        assert_eq!(told.errors().count(), 3, "{text}");
    }

    let search = format!("search {}\n", cluster.network.domain);
    let masking = format!("127.0.0.1 localhost\n127.0.1.1 {} k8s1master1\n", node.fqdn);
    let sshd = node_with(&resolv(&cluster, &search), &masking);
    let told = report(&cluster, &node, &sshd, [&right, &right]).await;
    let wanted = format!(
        "the resolver of `k8s1master1` answers 127.0.1.1 for `{}`; it must be 10.101.1.101",
        node.fqdn
    );
    assert_says(&told, &[wanted]);
    assert_eq!(told.errors().count(), 1, "{}", told.text());
}
