//! kubeadm's preflight checks, with the names and texts of cmd/kubeadm/app/preflight/checks.go.

use std::net::SocketAddrV4;

use super::{Config, Next, Process};
use crate::guests::network::Reach;
use crate::guests::{Guests, tls};

/// The control plane needs this many CPUs.
const CPUS: u32 = 2;
/// And this much memory, in MB.
const MEMORY: u64 = 1700;

/// The kind of node being created.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The first control plane.
    Init,
    /// A further control plane; its second round of checks.
    ControlPlane,
    /// Any joining node.
    Join,
}

/// Runs the checks; ends the process if one fails that is not ignored.
pub fn run(
    guests: &mut Guests,
    key: &str,
    config: &Config,
    process: &Process,
    kind: Kind,
) -> Result<Vec<String>, Next> {
    let mut errors = Vec::new();
    let mut warnings: Vec<String> =
        config.warnings.iter().map(|text| format!("W1122 {text}")).collect();
    if kind != Kind::ControlPlane && guests.guest_fault_once("preflight-error", key) {
        errors.push(("Port-10250", "Port 10250 is in use".to_owned()));
    }
    errors.extend(machine(guests, key, kind));
    errors.extend(files(guests, key, config, kind));
    if kind != Kind::Join {
        errors.extend(etcd(guests, key, config));
    }
    let Some(guest) = guests.all.get(key) else { return Ok(Vec::new()) };
    let name = config.node.clone().unwrap_or_else(|| guest.disk.hostname.clone());
    if guests.resolve(guest, &name).is_none() {
        warnings.push(format!("\t[WARNING Hostname]: hostname \"{name}\" could not be reached"));
        warnings.push(format!(
            "\t[WARNING Hostname]: hostname \"{name}\": lookup {name} on 127.0.0.53:53: no such host"
        ));
    }
    let mut fatal = Vec::new();
    for (name, text) in errors {
        let ignored =
            process.ignore.iter().any(|known| known == "all" || known.eq_ignore_ascii_case(name));
        if ignored {
            warnings.push(format!("\t[WARNING {name}]: {text}"));
        } else {
            fatal.push(format!("\t[ERROR {name}]: {text}"));
        }
    }
    if fatal.is_empty() {
        return Ok(warnings);
    }
    let mut printed = warnings;
    printed.push(
        "error execution phase preflight: [preflight] Some fatal errors occurred:".to_owned(),
    );
    printed.extend(fatal);
    printed.push(
        "[preflight] If you know what you are doing, you can make a check non-fatal with \
                  `--ignore-preflight-errors=...`"
            .to_owned(),
    );
    printed.push("To see the stack trace of this error execute with --v=5 or higher".to_owned());
    Err(Next::End(printed, 1))
}

fn machine(guests: &Guests, key: &str, kind: Kind) -> Vec<(&'static str, String)> {
    let mut errors = Vec::new();
    let Some(guest) = guests.all.get(key) else { return errors };
    let machine = &guest.machine;
    if kind != Kind::Join {
        if machine.vcpu < CPUS {
            errors.push((
                "NumCPU",
                format!(
                    "the number of available CPUs {} is less than the required {CPUS}",
                    machine.vcpu
                ),
            ));
        }
        if machine.memory_mib < MEMORY {
            errors.push((
                "Mem",
                format!(
                    "the system RAM ({} MB) is less than the minimum {MEMORY} MB",
                    machine.memory_mib
                ),
            ));
        }
    }
    if kind == Kind::ControlPlane {
        return errors;
    }
    let runtime = guest.text("/etc/containerd/config.toml").unwrap_or_default();
    let socket = "unix:///var/run/containerd/containerd.sock";
    if !guest.active("containerd") {
        errors.push(("CRI", format!(
            "container runtime is not running: output: time=\"2026-11-22T16:20:00Z\" level=fatal \
             msg=\"validate service connection: validate CRI v1 runtime API for endpoint \
             \\\"{socket}\\\": rpc error: code = Unavailable desc = connection error: desc = \
             \\\"transport: Error while dialing: dial unix /var/run/containerd/containerd.sock: \
             connect: no such file or directory\\\"\"\n, error: exit status 1"
        )));
    } else if runtime
        .lines()
        .any(|line| line.trim_start().starts_with("disabled_plugins") && line.contains("cri"))
    {
        errors.push(("CRI", format!(
            "container runtime is not running: output: time=\"2026-11-22T16:20:00Z\" level=fatal \
             msg=\"validate service connection: validate CRI v1 runtime API for endpoint \
             \\\"{socket}\\\": rpc error: code = Unimplemented desc = unknown service \
             runtime.v1.RuntimeService\"\n, error: exit status 1"
        )));
    }
    if !guest.run.as_ref().is_some_and(|run| run.ip_forward) {
        errors.push((
            "FileContent--proc-sys-net-ipv4-ip_forward",
            "/proc/sys/net/ipv4/ip_forward contents are not set to 1".to_owned(),
        ));
    }
    if guest.active("kubelet") && guest.exists("/etc/kubernetes/kubelet.conf") {
        errors.push(("Port-10250", "Port 10250 is in use".to_owned()));
    }
    if guest.kube_version("kubelet").is_none() {
        errors.push(("FileExisting-kubelet", "kubelet not found in system path".to_owned()));
    }
    errors
}

fn files(guests: &Guests, key: &str, config: &Config, kind: Kind) -> Vec<(&'static str, String)> {
    let mut errors = Vec::new();
    let Some(guest) = guests.all.get(key) else { return errors };
    let mut taken = |name: &'static str, path: &str| {
        if guest.disk.files.contains_key(path) {
            errors.push((name, format!("{path} already exists")));
        }
    };
    if kind == Kind::Join {
        taken("FileAvailable--etc-kubernetes-kubelet.conf", "/etc/kubernetes/kubelet.conf");
        if !config.control_plane {
            taken("FileAvailable--etc-kubernetes-pki-ca.crt", "/etc/kubernetes/pki/ca.crt");
        }
        return errors;
    }
    taken(
        "FileAvailable--etc-kubernetes-manifests-kube-apiserver.yaml",
        "/etc/kubernetes/manifests/kube-apiserver.yaml",
    );
    taken(
        "FileAvailable--etc-kubernetes-manifests-kube-controller-manager.yaml",
        "/etc/kubernetes/manifests/kube-controller-manager.yaml",
    );
    taken(
        "FileAvailable--etc-kubernetes-manifests-kube-scheduler.yaml",
        "/etc/kubernetes/manifests/kube-scheduler.yaml",
    );
    if config.etcd_files.is_none() && kind == Kind::Init {
        taken(
            "FileAvailable--etc-kubernetes-manifests-etcd.yaml",
            "/etc/kubernetes/manifests/etcd.yaml",
        );
        if guest.exists("/var/lib/etcd") {
            errors.push(("DirAvailable--var-lib-etcd", "/var/lib/etcd is not empty".to_owned()));
        }
    }
    if guest.run.as_ref().is_some_and(|run| run.api_at.is_some()) {
        for (name, port) in [("Port-6443", 6443), ("Port-10259", 10259), ("Port-10257", 10257)] {
            errors.push((name, format!("Port {port} is in use")));
        }
    }
    errors
}

fn etcd(guests: &Guests, key: &str, config: &Config) -> Vec<(&'static str, String)> {
    const CERTIFICATES: &str = "ExternalEtcdClientCertificates";
    const VERSION: &str = "ExternalEtcdVersion";
    let mut errors = Vec::new();
    let Some(files) = &config.etcd_files else { return errors };
    let Some(guest) = guests.all.get(key) else { return errors };
    for path in files {
        if !guest.disk.files.contains_key(path) {
            errors.push((CERTIFICATES, format!("{path} doesn't exist")));
        }
    }
    if !errors.is_empty() {
        return errors;
    }
    for endpoint in &config.etcd_endpoints {
        let url = format!("{endpoint}/version");
        let address = endpoint.trim_start_matches("https://").parse::<SocketAddrV4>();
        let text = match address.map(|address| (address, guests.dial(address))) {
            Err(_) => format!("parse \"{endpoint}\": invalid address"),
            Ok((_, Reach::Etcd(_))) => match trusted(guests, key, files) {
                Ok(()) => continue,
                Err(text) => format!("Get \"{url}\": {text}"),
            },
            Ok((address, Reach::NoRoute)) => {
                format!("Get \"{url}\": dial tcp {address}: i/o timeout")
            }
            Ok((address, _)) => {
                format!("Get \"{url}\": dial tcp {address}: connect: connection refused")
            }
        };
        errors.push((VERSION, text));
    }
    errors
}

/// Whether the certificate files of a guest are those of the site's etcd.
pub fn trusted(guests: &Guests, key: &str, files: &[String; 3]) -> Result<(), &'static str> {
    let (Some(etcd), Some(guest)) = (&guests.etcd, guests.all.get(key)) else {
        return Err("connect: connection refused");
    };
    let same =
        |path: &str, wanted: &str| guest.text(path).unwrap_or_default().trim() == wanted.trim();
    let [ca, cert, private] = files;
    if !same(ca, &etcd.ca.pair.cert) {
        return Err("x509: certificate signed by unknown authority");
    }
    let text = |path: &str| guest.text(path).unwrap_or_default();
    if !tls::belong(text(cert), text(private)) {
        return Err("tls: private key does not match public key");
    }
    if !tls::admits(&etcd.ca.pair.cert, text(cert), guests.unix()) {
        return Err("remote error: tls: bad certificate");
    }
    Ok(())
}
