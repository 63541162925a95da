//! Stand-ins for the programs of Kubernetes, as a layer over a machine's root file system.
//!
//! kubeadm, kubectl, kubelet, cilium-cli and an API server in Python (its standard library and
//! PyYAML, which cloud-init brings). They answer with the real programs' words and leave the real programs'
//! files; certificates, TLS, tokens, encrypted uploads and the store, etcd, are real. No scheduler,
//! no controllers and no pods run, and each program says so.
//!
//! A machine needs besides: `python3`, `python3-yaml`, `openssl`, and `etcd-server` where etcd is
//! stacked.

/// A file of the layer: its path in the machine, its mode, its content.
pub type File = (&'static str, u32, &'static str);

/// Where the stand-ins read which version of Kubernetes they play, such as `v1.28.4`. The code that makes
/// the layer writes it.
pub const VERSION: &str = "/usr/lib/k8sha-standin/version";

/// Where they read what the VM was given, `{"cpus": 2, "memory_mb": 4096}`: a system container shows
/// what its host has. The file may be missing.
pub const MACHINE: &str = "/etc/k8sha-standin/machine.json";

/// Where they read the version of cilium-cli that the profile asks for. Without it the product
/// fetches the real tool.
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
