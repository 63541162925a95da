//! Stand-ins for the Kubernetes programs, as a layer over a machine's root file system.
//!
//! kubeadm, kubectl, kubelet, cilium-cli and an API server in Python (its standard library and PyYAML,
//! a dependency of cloud-init). They print the real programs' messages and write the real programs'
//! files; certificates, TLS, tokens, encrypted uploads and the store, etcd, are real. No scheduler, no
//! controllers and no pods run, and each program says so.
//!
//! A machine also needs `python3`, `python3-yaml`, `openssl`, and `etcd-server` if etcd is stacked.

/// A file of the layer: its path in the machine, its mode, its contents.
pub type File = (&'static str, u32, &'static str);

/// The file with the Kubernetes version of the stand-ins, such as `v1.28.4`. The code that creates the
/// layer writes it.
pub const VERSION: &str = "/usr/lib/k8sha-standin/version";

/// The file with the VM's resources, `{"cpus": 2, "memory_mb": 4096}`: a system container shows the
/// host's. The file may be missing.
pub const MACHINE: &str = "/etc/k8sha-standin/machine.json";

/// The file with the profile's version of cilium-cli. Without it the product downloads the real tool.
pub const CILIUM_CLI: &str = "/usr/lib/k8sha-standin/cilium-cli";

macro_rules! file {
    ($mode:literal, $path:literal) => {
        (concat!("/", $path), $mode, include_str!(concat!("standin/", $path)))
    };
}

/// The layer, without [`VERSION`], [`MACHINE`] and [`CILIUM_CLI`]. Folders are 0755.
pub const FILES: &[File] = &[
    file!(0o755, "usr/bin/cilium"),
    file!(0o755, "usr/bin/kubeadm"),
    file!(0o755, "usr/bin/kubectl"),
    file!(0o755, "usr/bin/kubelet"),
    file!(0o755, "usr/lib/k8sha-standin/apiserver"),
    file!(0o644, "usr/lib/k8sha-standin/openssl.cnf"),
    file!(0o644, "usr/lib/k8sha-standin/standin/__init__.py"),
    file!(0o644, "usr/lib/k8sha-standin/standin/apiserver.py"),
    file!(0o644, "usr/lib/k8sha-standin/standin/cilium.py"),
    file!(0o644, "usr/lib/k8sha-standin/standin/config.py"),
    file!(0o644, "usr/lib/k8sha-standin/standin/join.py"),
    file!(0o644, "usr/lib/k8sha-standin/standin/kubeadm.py"),
    file!(0o644, "usr/lib/k8sha-standin/standin/kubectl.py"),
    file!(0o644, "usr/lib/k8sha-standin/standin/kubelet.py"),
    file!(0o644, "usr/lib/k8sha-standin/standin/pki.py"),
    file!(0o644, "usr/lib/k8sha-standin/standin/plane.py"),
    file!(0o644, "usr/lib/k8sha-standin/standin/preflight.py"),
    file!(0o644, "usr/lib/k8sha-standin/standin/store.py"),
    file!(0o644, "usr/lib/k8sha-standin/standin/wire.py"),
    file!(0o644, "usr/lib/systemd/system/kubelet.service"),
    file!(0o644, "usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf"),
];
