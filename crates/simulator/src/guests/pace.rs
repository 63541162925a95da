//! The durations of everything in a guest, in simulated seconds: one table.

/// From power-on until the kernel has handed over to systemd.
pub const KERNEL: f64 = 8.0;
/// From power-on until the network is up and sshd listens (cloud-init's network stage is over).
pub const SSHD: f64 = 14.0;
/// From the reboot command until the machine is at its power-on again.
pub const DOWN: f64 = 4.0;
/// From cloud-init's end until the reboot that it requested stops the network.
pub const BEFORE_REBOOT: f64 = 0.5;
/// The delay of an sshd with the fault `ssh-late`.
pub const SSH_LATE: f64 = 90.0;
/// cloud-init's config stage.
pub const CONFIG_STAGE: f64 = 1.0;
/// Writing an apt source and its key.
pub const APT_SOURCE: f64 = 0.4;
/// `apt-get update`.
pub const PACKAGE_UPDATE: f64 = 6.0;
/// Installing an ordinary package.
pub const PACKAGE: f64 = 1.5;
/// Installing one of the Kubernetes packages.
pub const PACKAGE_KUBE: f64 = 4.0;
/// Installing containerd.
pub const PACKAGE_CONTAINERD: f64 = 5.0;
/// An ordinary `runcmd` item.
pub const RUNCMD: f64 = 0.3;
/// Downloading and installing a kernel.
pub const KERNEL_INSTALL: f64 = 25.0;
/// Downloading and installing an etcd.
pub const ETCD_INSTALL: f64 = 4.0;
/// An ordinary command over SSH.
pub const COMMAND: f64 = 0.02;
/// A command over SSH that queries the API server.
pub const KUBECTL: f64 = 0.1;
/// A TCP connection to an address without a machine: until the kernel gives up.
pub const NO_ROUTE: f64 = 3.0;
/// Preflight checks of kubeadm.
pub const PREFLIGHT: f64 = 2.0;
/// Pulling the control plane's images.
pub const PULL: f64 = 15.0;
/// Certificates, kubeconfig files and manifests: each.
pub const PHASE: f64 = 1.0;
/// From the kubelet's start until the control plane is healthy.
pub const CONTROL_PLANE: f64 = 13.0;
/// How long kubeadm waits for a control plane that does not start, unless its configuration says
/// otherwise.
pub const CONTROL_PLANE_TIMEOUT: f64 = 240.0;
/// Storing configuration, certificates, tokens and addons in the API server: each.
pub const UPLOAD: f64 = 1.0;
/// The kubelet's TLS bootstrap on a node that joins.
pub const TLS_BOOTSTRAP: f64 = 5.0;
/// Adding a stacked etcd member and waiting until it is promoted.
pub const ETCD_MEMBER: f64 = 4.0;
/// How long kubeadm tries to get the cluster-info from the API server before it gives up.
pub const DISCOVERY_TIMEOUT: f64 = 300.0;
/// From the start of sshd on a booting machine until its static pods serve again.
pub const STATIC_PODS: f64 = 12.0;
/// `kubeadm reset`.
pub const RESET: f64 = 3.0;
/// From `cilium install` until its agents run everywhere.
pub const CNI: f64 = 25.0;
/// From the application of Calico's operator until it has defined its resources.
pub const OPERATOR: f64 = 12.0;
/// Lifetime of a `kubeadm-certs` secret in seconds (kubeadm constants.go `DefaultCertTokenDuration`).
pub const CERTS_LIFE: i64 = 2 * 3600;
/// Lifetime of a bootstrap token in seconds (kubeadm constants.go `DefaultTokenDuration`).
pub const TOKEN_LIFE: i64 = 24 * 3600;
