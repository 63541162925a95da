//! The systemd unit that sets the routes at every boot.

use std::fmt::Write as _;

use ipnet::Ipv4Net;
use sha2::{Digest as _, Sha256};

/// The routing protocol number that marks k8sha's routes. rtnetlink leaves the numbers above 4 to
/// applications (rtnetlink(7)); iproute2's `rt_protos` does not define this one.
pub const PROTOCOL: u8 = 208;

/// The start of the first line of k8sha's unit.
const MARK: &str = "# Made by k8sha for the cluster ";

/// The unit's name.
pub fn name(cluster: &str) -> String {
    format!("k8sha-routes-{cluster}.service")
}

/// The unit's path.
pub fn path(cluster: &str) -> String {
    format!("/etc/systemd/system/{}", name(cluster))
}

/// The metric of a cluster's routes. It is the cluster's own, so that two clusters do not remove
/// each other's routes, and large, so that any other route to the same network wins.
pub fn metric(cluster: &str) -> u32 {
    let hash = Sha256::digest(cluster.as_bytes());
    0x4000_0000 | u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]) >> 2
}

/// The arguments that identify one of k8sha's routes for `ip route`.
pub fn route(cluster: &str, net: Ipv4Net) -> [String; 6] {
    let (protocol, metric) = (PROTOCOL.to_string(), metric(cluster).to_string());
    ["blackhole".into(), net.to_string(), "proto".into(), protocol, "metric".into(), metric]
}

/// The unit's text.
pub fn text(cluster: &str, nets: &[Ipv4Net]) -> String {
    let mut text = format!(
        "{MARK}{cluster}; `k8sha routes --remove` removes it.\n\
         [Unit]\n\
         Description=Blackhole routes of the Kubernetes cluster {cluster}\n\
         After=network-pre.target\n\n\
         [Service]\n\
         Type=oneshot\n\
         RemainAfterExit=yes\n"
    );
    for (key, verb) in [("ExecStart=", "replace"), ("ExecStop=-", "del")] {
        for net in nets {
            let words = route(cluster, *net).join(" ");
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{key}/sbin/ip -4 route {verb} {words}");
        }
    }
    text.push_str("\n[Install]\nWantedBy=multi-user.target\n");
    text
}

/// Whether a unit's text carries the mark of this cluster.
pub fn is_ours(cluster: &str, text: &str) -> bool {
    text.starts_with(&format!("{MARK}{cluster};"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_its_clusters_own() {
        let nets = ["198.19.0.0/16".parse().unwrap(), "100.64.0.0/10".parse().unwrap()];
        let text = text("k8s1-cluster", &nets);
        assert!(is_ours("k8s1-cluster", &text) && !is_ours("k8s1", &text));
        assert!(!is_ours("k8s1-cluster", "[Unit]\n"));
        let metric = metric("k8s1-cluster");
        assert!(metric >= 0x4000_0000 && metric != super::metric("k8s2-cluster"));
        let line =
            format!("/sbin/ip -4 route replace blackhole 100.64.0.0/10 proto 208 metric {metric}");
        assert!(text.contains(&format!("\nExecStart={line}\n")), "{text}");
        assert!(
            text.contains(&format!("\nExecStop=-{}\n", line.replace("replace", "del"))),
            "{text}"
        );
    }
}
