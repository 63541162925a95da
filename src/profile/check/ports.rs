//! Checks that no other program on the same machines listens on the API's port.

use crate::profile::complaint::Complaint;
use crate::profile::raw::{Cni, Port, Profile};

use super::Notes;
use crate::profile::at::At;

/// Ports of load balancers, masters and workers that other programs use, with their names. HAProxy
/// listens on the API's port on every address of a balancer, and an API server on every address of
/// its master, so a program that listens on the loopback address counts too.
///
/// Sources: kubernetes.io, "Ports and Protocols"; kubernetes pkg/cluster/ports/ports.go and
/// cmd/kubeadm/app/constants/constants.go (`EtcdListenClientPort` and the ports after it); 53 is
/// systemd-resolved's on 127.0.0.53.
const TAKEN: [(u16, &str); 12] = [
    (22, "the SSH server's"),
    (53, "the local resolver's"),
    (2379, "etcd's, for its clients"),
    (2380, "etcd's, for its peers"),
    (2381, "etcd's, for its metrics"),
    (10248, "kubelet's, for its health"),
    (10249, "kube-proxy's, for its metrics"),
    (10250, "kubelet's"),
    (10255, "kubelet's, for reading"),
    (10256, "kube-proxy's, for its health"),
    (10257, "the controller manager's"),
    (10259, "the scheduler's"),
];
/// docs.cilium.io, "System Requirements", "Firewall Rules".
const CILIUM: [(u16, &str); 6] = [
    (4240, "Cilium's, for its health"),
    (4244, "Hubble's"),
    (9878, "Cilium's Envoy's"),
    (9879, "Cilium's agent's"),
    (9890, "Cilium's agent's"),
    (9901, "Cilium's Envoy's"),
];
/// docs.tigera.io, "System requirements", "Network requirements"; `healthPort` of FelixConfiguration.
const CALICO: [(u16, &str); 4] = [
    (179, "BGP's, which Calico speaks"),
    (5473, "Calico's Typha's"),
    (9098, "Calico's Typha's, for its health"),
    (9099, "Calico's Felix's, for its health"),
];
/// The ports of services of type NodePort (kube-apiserver `--service-node-port-range`).
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;

/// The other program that needs that port on a node of the cluster.
fn holder(port: u16, cni: Option<&Cni>) -> Option<&'static str> {
    let of = |ports: &[(u16, &'static str)]| {
        ports.iter().find(|(taken, _)| *taken == port).map(|(_, whose)| *whose)
    };
    let of_cni = match cni {
        Some(Cni::Cilium(_)) => of(&CILIUM),
        Some(Cni::Calico(_)) => of(&CALICO),
        _ => None,
    };
    let of_nodes = NODE_PORTS.contains(&port).then_some("one of the ports of services (NodePort)");
    of(&TAKEN).or(of_cni).or(of_nodes)
}

/// Reports a port that another program listens on.
pub(super) fn check(port: &At<Port>, profile: &Profile, notes: &mut Notes) {
    let cni = profile.kubernetes.as_ref().and_then(|kubernetes| kubernetes.value.cni.as_ref());
    if let Some(whose) = holder(port.value.0, cni) {
        notes.push(
            Complaint::error(format!("the API's port `{}` is {whose}", port.value.0))
                .at(port.span.clone(), "")
                .help("6443 is the usual port; 443 and 8443 are also free on these machines"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_ports_are_free_and_those_of_the_nodes_programs_are_not() {
        for port in [443, 6443, 8443, 2378, 10251, 29_999, 32_768] {
            assert_eq!(holder(port, None), None, "{port}");
        }
        for port in [22, 2379, 2380, 2381, 10248, 10249, 10250, 10256, 10257, 10259, 30_000, 32_767]
        {
            assert!(holder(port, None).is_some(), "{port}");
        }
        assert_eq!(holder(4240, Some(&Cni::None)), None);
    }
}
