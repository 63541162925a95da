//! Hints for kubeadm's preflight checks and error messages.

/// Names of kubeadm's checks and the fix for each. A name that ends with `-` stands for all names
/// with that prefix.
///
/// Source: `cmd/kubeadm/app/preflight/checks.go` of kubernetes/kubernetes.
const HINTS: &[(&str, &str)] = &[
    ("NumCPU", "a control plane needs 2 CPUs: raise `vcpu` in the profile"),
    ("Mem", "a control plane needs 1700 MB: raise `ram` in the profile"),
    ("Swap", "swap is on: run `sudo swapoff -a`, and remove it from /etc/fstab"),
    ("CRI", "containerd does not answer: `sudo systemctl status containerd`"),
    ("ContainerRuntimeVersion", "containerd is too old for this Kubernetes version"),
    ("KubeletVersion", "kubelet and kubeadm have different versions: rebuild the node"),
    ("SystemVerification", "the kernel or its cgroups do not suit this Kubernetes version"),
    ("ExternalEtcdVersion", "a member of the external etcd is down, unreachable or too old"),
    ("Hostname", "the node's own name does not resolve: see `k8sha dns`"),
    ("HTTPProxy", "a proxy is set in the environment and would intercept the cluster's traffic"),
    (
        "FileContent--proc-sys-net-ipv4-ip_forward",
        "net.ipv4.ip_forward is 0: cloud-init did not finish",
    ),
    (
        "FileContent--proc-sys-net-bridge-",
        "the kernel module br_netfilter is not loaded: cloud-init did not finish",
    ),
    (
        "FileAvailable-",
        "an earlier attempt left files behind: run `sudo kubeadm reset -f` on that node, then retry",
    ),
    (
        "DirAvailable-",
        "an earlier attempt left files behind: run `sudo kubeadm reset -f` on that node, then retry",
    ),
    ("Port-", "another program listens on a Kubernetes port: run `sudo ss -ltnp` on that node"),
    ("ImagePull", "the node cannot pull images: does it reach registry.k8s.io?"),
    ("IsPrivilegedUser", "kubeadm was not run as root"),
];

/// What a failed attempt may leave behind, which the next one finds. All of it is k8sha's own, and
/// reused.
pub(super) const LEFT_BY_INIT: &[&str] = &[
    "FileAvailable--etc-kubernetes-manifests-kube-apiserver.yaml",
    "FileAvailable--etc-kubernetes-manifests-kube-controller-manager.yaml",
    "FileAvailable--etc-kubernetes-manifests-kube-scheduler.yaml",
    "FileAvailable--etc-kubernetes-manifests-etcd.yaml",
    "Port-6443",
    "Port-10259",
    "Port-10257",
    "Port-10250",
    "Port-2379",
    "Port-2380",
    "DirAvailable--var-lib-etcd",
];

/// The names of the failed checks, in kubeadm's order.
pub fn failed(lines: &[String]) -> Vec<&str> {
    lines
        .iter()
        .filter_map(|line| line.trim_start().strip_prefix("[ERROR ")?.split(']').next())
        .collect()
}

/// The fix for a failed kubeadm, derived from the end of its log.
pub fn hint(lines: &[String]) -> Option<String> {
    let hints: Vec<String> = failed(lines)
        .into_iter()
        .filter_map(|name| {
            let known = |(key, _): &&(&str, &str)| {
                name == *key || (key.ends_with('-') && name.starts_with(key))
            };
            HINTS.iter().find(known).map(|(_, hint)| format!("{name}: {hint}"))
        })
        .collect();
    if !hints.is_empty() {
        return Some(hints.join("\n"));
    }
    let said = |text: &str| lines.iter().any(|line| line.contains(text));
    Some(match () {
        () if said("timed out waiting for the condition") || said("context deadline exceeded") => {
            "the control plane did not start: `sudo crictl ps -a` on that node shows which component \
             is not running, `sudo journalctl -u kubelet` shows why"
        }
        () if said("connection refused") || said("no route to host") => {
            "the API's address does not answer: does a load balancer hold the VIP, and does it \
             see a healthy API server?"
        }
        () if said("unhealthy cluster") || said("can only promote a learner member") => {
            "two masters joined a stacked etcd at once; run the same command again"
        }
        () => return None,
    }
    .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn every_failed_check_gets_its_hint() {
        let text = "error execution phase preflight: [preflight] Some fatal errors occurred:\n\
            \t[ERROR NumCPU]: the number of available CPUs 1 is less than the required 2\n\
            \t[ERROR Port-10250]: Port 10250 is in use\n\
            \t[ERROR Strange]: no one knows\n\
            [preflight] If you know what you are doing, you can make a check non-fatal with \
            `--ignore-preflight-errors=...`";
        assert_eq!(failed(&lines(text)), ["NumCPU", "Port-10250", "Strange"]);
        let hint = hint(&lines(text)).unwrap();
        assert!(hint.contains("NumCPU: a control plane needs 2 CPUs"), "{hint}");
        assert!(hint.contains("Port-10250: another program"), "{hint}");
        assert_eq!(hint.lines().count(), 2);
    }

    #[test]
    fn a_control_plane_that_does_not_come_up_gets_one_too() {
        let text = "error execution phase wait-control-plane: couldn't initialize a Kubernetes \
                    cluster\ntimed out waiting for the condition";
        assert!(hint(&lines(text)).unwrap().contains("crictl"));
        assert_eq!(hint(&lines("something else")), None);
    }
}
