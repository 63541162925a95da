//! The files that `init` and a control-plane `join` leave on a machine.

use std::io;
use std::net::Ipv4Addr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Config;
use crate::guests::Guests;
use crate::guests::pki::Authority;

/// The folder of the certificates.
pub const PKI: &str = "/etc/kubernetes/pki";

/// The names and addresses in an API server's certificate.
pub fn api_names(config: &Config, node: &str, address: Ipv4Addr) -> (Vec<String>, Vec<String>) {
    let mut names: Vec<String> =
        ["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned).to_vec();
    names.push(format!("kubernetes.default.svc.{}", config.dns_domain));
    names.push(node.to_owned());
    let mut addresses = vec![address.to_string()];
    let services = config.services.split('/').next().and_then(|text| text.parse::<Ipv4Addr>().ok());
    addresses.extend(services.map(|first| Ipv4Addr::from_bits(first.to_bits() + 1).to_string()));
    let endpoint = config.endpoint.as_deref().and_then(|text| text.split(':').next());
    for name in config.names.iter().map(String::as_str).chain(endpoint) {
        let list = if name.parse::<Ipv4Addr>().is_ok() { &mut addresses } else { &mut names };
        if !list.iter().any(|known| known == name) {
            list.push(name.to_owned());
        }
    }
    (names, addresses)
}

/// Writes the certificates of a control plane, including the CA's own.
///
/// # Errors
/// If a certificate cannot contain one of the names.
pub fn certificates(
    guests: &mut Guests,
    key: &str,
    ca: &Authority,
    names: &[String],
) -> io::Result<()> {
    let unix = guests.unix();
    let leaf = |name: &str, group, names: &[String]| ca.issue(name, group, names, unix);
    let api = leaf("kube-apiserver", None, names)?;
    let client = leaf("kube-apiserver-kubelet-client", Some("system:masters"), &[])?;
    let front = leaf("front-proxy-client", None, &[])?;
    let Some(guest) = guests.all.get_mut(key) else { return Ok(()) };
    let pairs = [
        ("ca", &ca.pair),
        ("apiserver", &api),
        ("apiserver-kubelet-client", &client),
        ("front-proxy-ca", &ca.pair),
        ("front-proxy-client", &front),
    ];
    for (name, pair) in pairs {
        guest.write(&format!("{PKI}/{name}.crt"), pair.cert.clone(), "0644");
        guest.write(&format!("{PKI}/{name}.key"), pair.key.clone(), "0600");
    }
    guest.write(&format!("{PKI}/sa.key"), ca.pair.key.clone(), "0600");
    guest.write(&format!("{PKI}/sa.pub"), "-----BEGIN PUBLIC KEY-----\n", "0600");
    guest.disk.api_names = names.to_vec();
    Ok(())
}

/// Writes the kubeconfig files of a control plane.
///
/// # Errors
/// If a certificate cannot be created.
pub fn kubeconfigs(
    guests: &mut Guests,
    key: &str,
    ca: &Authority,
    config: &Config,
    node: &str,
    first: bool,
) -> io::Result<()> {
    let unix = guests.unix();
    // Since 1.29 the administrator is in a group that gets its rights from RBAC; a second file, on the
    // first node only, bypasses RBAC.
    let split = super::minor(guests, key) >= 29;
    let admin = if split { "kubeadm:cluster-admins" } else { "system:masters" };
    let mut users = vec![
        ("admin", "kubernetes-admin".to_owned(), Some(admin)),
        ("kubelet", format!("system:node:{node}"), Some("system:nodes")),
        ("controller-manager", "system:kube-controller-manager".to_owned(), None),
        ("scheduler", "system:kube-scheduler".to_owned(), None),
    ];
    if split && first {
        users.push(("super-admin", "kubernetes-super-admin".to_owned(), Some("system:masters")));
    }
    for (file, user, group) in users {
        let pair = ca.issue(&user, group, &[], unix)?;
        // Components talk to the API server on their own machine; since ControlPlaneKubeletLocalMode is
        // on by default (1.33) the kubelet of a master does too.
        let local = match file {
            "kubelet" => super::minor(guests, key) >= 33,
            "controller-manager" | "scheduler" => true,
            _ => false,
        };
        let own = guests.all.get(key).and_then(|guest| guest.address());
        let own = own.filter(|_| local).map(|ip| format!("{ip}:6443"));
        let text = kubeconfig(
            &config.cluster_name,
            own.as_deref().or(config.endpoint.as_deref()).unwrap_or_default(),
            &ca.pair.cert,
            &user,
            &format!(
                "client-certificate-data: {}\n    client-key-data: {}",
                STANDARD.encode(&pair.cert),
                STANDARD.encode(&pair.key)
            ),
        );
        if let Some(guest) = guests.all.get_mut(key) {
            guest.write(&format!("/etc/kubernetes/{file}.conf"), text, "0600");
        }
    }
    Ok(())
}

/// A kubeconfig file.
pub fn kubeconfig(
    cluster: &str,
    endpoint: &str,
    ca: &str,
    user: &str,
    credentials: &str,
) -> String {
    format!(
        "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {}\n    server: \
         https://{endpoint}\n  name: {cluster}\ncontexts:\n- context:\n    cluster: {cluster}\n    \
         user: {user}\n  name: {user}@{cluster}\ncurrent-context: {user}@{cluster}\nkind: Config\n\
         preferences: {{}}\nusers:\n- name: {user}\n  user:\n    {credentials}\n",
        STANDARD.encode(ca)
    )
}

/// Writes the static pods' manifests.
pub fn manifests(guests: &mut Guests, key: &str, stacked: bool) {
    let Some(guest) = guests.all.get_mut(key) else { return };
    let mut pods = vec!["kube-apiserver", "kube-controller-manager", "kube-scheduler"];
    if stacked {
        pods.push("etcd");
    }
    for pod in pods {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {pod}\n  namespace: kube-system\n"
        );
        guest.write(&format!("/etc/kubernetes/manifests/{pod}.yaml"), text, "0600");
    }
}

/// Writes the kubelet's files and starts it.
pub fn kubelet(guests: &mut Guests, key: &str) {
    let Some(guest) = guests.all.get_mut(key) else { return };
    guest.write("/var/lib/kubelet/kubeadm-flags.env", "KUBELET_KUBEADM_ARGS=\"\"\n", "0644");
    guest.write(
        "/var/lib/kubelet/config.yaml",
        "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: \
        KubeletConfiguration\ncgroupDriver: systemd\n",
        "0644",
    );
    // Its state shows whether it started.
    let _ = guest.start("kubelet");
}

/// Whether static pods can run: the runtime must use the kubelet's cgroup driver.
pub fn pods_run(guests: &Guests, key: &str) -> bool {
    guests.all.get(key).is_some_and(|guest| {
        let below =
            guest.disk.files.iter().filter(|(path, _)| path.starts_with("/etc/containerd/"));
        let text: String = below.map(|(_, file)| file.content.as_str()).collect();
        let plain: String = text.split_whitespace().collect();
        guest.active("kubelet")
            && guest.active("containerd")
            && plain.contains("SystemdCgroup=true")
    })
}
