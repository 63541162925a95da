//! Another router's VRRP on the segment, detected before k8sha uses a router id.
//!
//! Undetectable for any listener: an advertisement sent by unicast to others. It does no harm either:
//! k8sha's go by unicast too, and no virtual MAC is shared.

use std::net::Ipv4Addr;
use std::process::Output;
use std::time::Duration;

use k8sha::cluster::{Cluster, Node, Role};

use crate::balancers::{self, Balancer, PROGRAMS};
use crate::cell::{Cell, Running};
use crate::lab::Lab;
use crate::{needs, profiles, wait};

const LIMIT: Duration = Duration::from_secs(20);
const PAST: &str = "test -e /var/lib/k8sha/vrid-101";

/// A foreign keepalived with its own VIP.
fn stranger(lab: &mut Lab, own: Ipv4Addr, vrid: u8, vip: &str, to: Option<Ipv4Addr>) -> Running {
    let machine = format!("stranger{}", own.octets()[3]);
    lab.add(&machine, &[own]);
    let peers = to.map_or_else(String::new, |peer| {
        format!("unicast_src_ip {own}\nunicast_peer {{\n{peer}\n}}\n")
    });
    let config = format!(
        "global_defs {{\nrouter_id stranger\n}}\nvrrp_instance theirs {{\nstate MASTER\ninterface \
         eth0\nvirtual_router_id {vrid}\npriority 100\nadvert_int 1\n{peers}virtual_ipaddress \
         {{\n{vip}\n}}\n}}\n"
    );
    let cell = Cell::new()
        .in_network(&lab.name(&machine))
        .empty("/run")
        .empty("/etc/keepalived")
        .file("/etc/keepalived/keepalived.conf", &config, 0o644);
    let running = cell.start(&["keepalived", "--dont-fork", "--log-console", "--log-detail"]);
    let master = || running.log().contains("Entering MASTER STATE").then_some(());
    wait::until("the stranger holds its VIP", LIMIT, master, || running.log());
    running
}

/// The output of the second balancer before its keepalived starts for the first time.
fn first_start(lab: &Lab, cluster: &Cluster, node: &Node) -> Output {
    let files = profiles::files(&profiles::seed(cluster, node));
    let lines = balancers::before_keepalived(&files).join(" && ");
    // The second time it must not take any: an id that was used once remains in use.
    let script = format!("{lines} && {PAST} && timeout 3 sh -c '{lines}'");
    balancers::cell(&files)
        .in_network(&lab.name(node.name.as_str()))
        .run(&["/bin/sh", "-c", &script])
}

/// A lab with k8sha's first balancer running, and the second about to start.
fn scene() -> Option<(Lab, Cluster, Node, Balancer)> {
    let mut lab = Lab::new()?;
    let cluster = profiles::cluster("k8s1");
    assert_eq!(cluster.balancer.vrid, 101);
    let both: Vec<Node> = cluster.with_role(Role::LoadBalancer).cloned().collect();
    let first = Balancer::start(&mut lab, &cluster, &both[0]);
    let holds = || lab.has(both[0].name.as_str(), cluster.api.vip).then_some(());
    wait::until("the first holds the VIP", LIMIT, holds, || first.haproxy_log());
    lab.add(both[1].name.as_str(), &[both[1].ip]);
    Some((lab, cluster, both[1].clone(), first))
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn own_and_unrelated_vrrp_pairs_do_not_block_a_start() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let Some((mut lab, cluster, second, _first)) = scene() else { return };
    let other: Ipv4Addr = [10, 101, 1, 78].into();
    let _others = [
        stranger(&mut lab, [10, 101, 1, 77].into(), 7, "10.101.1.97", None),
        // Undetectable, and harmless.
        stranger(&mut lab, other, 101, "10.101.1.98", Some([10, 101, 1, 79].into())),
    ];
    let output = first_start(&lab, &cluster, &second);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn a_router_id_or_vip_in_use_is_refused_with_the_address_of_its_user() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let Some((mut lab, cluster, second, _first)) = scene() else { return };
    let cases = [
        (71, 101, "10.101.1.91", None, "10.101.1.91 (priority 100, to 224.0.0.18)"),
        (72, 101, "10.101.1.92", Some(second.ip), "10.101.1.92 (priority 100, to 10.101.1.12)"),
        (73, 8, "10.101.1.10", None, "10.101.1.10 (priority 100, to 224.0.0.18)"),
    ];
    for (last, vrid, vip, to, wanted) in cases {
        let own: Ipv4Addr = [10, 101, 1, last].into();
        let theirs = stranger(&mut lab, own, vrid, vip, to);
        let output = first_start(&lab, &cluster, &second);
        let said = String::from_utf8_lossy(&output.stderr);
        let wanted = format!("{own} advertises VRRP virtual router {vrid} for {wanted}");
        assert!(!output.status.success() && said.contains(&wanted), "no `{wanted}` in {said}");
        let begins = "k8sha vrrp-listen: cannot use router id 101 and VIP 10.101.1.10: ";
        assert!(said.contains(begins) && said.contains("`balancer.vrid`"), "{said}");
        assert!(!said.contains("10.101.1.11 advertises"), "our own: {said}");
        drop(theirs);
    }
}
