//! The layer that turns the root file system into a machine of the lab: the first process, settings
//! that belong to the whole host, units that a container does not need.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::network::Network;
use super::{Error, Setup, file, standin};

/// Runs a program in the lab's control groups.
pub(super) const GROUP: &str = "usr/lib/k8sha-lab/group";
/// Runs a machine.
pub(super) const MACHINE: &str = "usr/lib/k8sha-lab/machine";
/// Runs a service.
pub(super) const SERVICE: &str = "usr/lib/k8sha-lab/service";

const SCRIPTS: [(&str, &str); 4] = [
    ("usr/lib/k8sha-lab/init", include_str!("init.sh")),
    (GROUP, include_str!("group.sh")),
    (MACHINE, include_str!("machine.sh")),
    (SERVICE, include_str!("service.sh")),
];

/// The kubelet's requirements for the host's kernel (`protectKernelDefaults`, k8s.io/kubernetes
/// pkg/kubelet/cm/container_manager_linux.go): the machine has its own values.
const SYSCTL: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// Units for hardware, or for tasks of the host.
const MASKED: [&str; 14] = [
    "systemd-udevd.service",
    "systemd-udev-trigger.service",
    "systemd-udev-settle.service",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "sys-kernel-config.mount",
    "dev-hugepages.mount",
    "console-getty.service",
    "getty@tty1.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "man-db.timer",
    "fstrim.timer",
    "e2scrub_reap.service",
];

/// Units that a cloud image starts.
const WANTED: [(&str, &str); 2] = [
    ("multi-user.target.wants", "systemd-networkd.service"),
    ("multi-user.target.wants", "systemd-resolved.service"),
];

/// Writes the layer into a folder.
pub(super) fn write(folder: &Path, network: &Network) -> Result<PathBuf, Error> {
    for (path, text) in SCRIPTS {
        put(folder, path, 0o755, text)?;
    }
    for (name, value) in SYSCTL {
        put(folder, &format!("usr/lib/k8sha-lab/sysctl/{name}"), 0o644, &format!("{value}\n"))?;
    }
    for unit in MASKED {
        link(folder, &format!("etc/systemd/system/{unit}"), "/dev/null")?;
    }
    for (target, unit) in WANTED {
        let unit_file = format!("/lib/systemd/system/{unit}");
        link(folder, &format!("etc/systemd/system/{target}/{unit}"), &unit_file)?;
    }
    // cloud-init has udev set up every card (cloudinit/net/netplan.py, `_net_setup_link`), and udev's
    // default gives a container's card a different address than Proxmox VE's.
    let card = "[Match]\nOriginalName=*\n\n[Link]\nNamePolicy=keep\nMACAddressPolicy=none\n";
    put(folder, "etc/systemd/network/99-default.link", 0o644, card)?;
    link(folder, "etc/resolv.conf", "/run/systemd/resolve/stub-resolv.conf")?;
    // A small root file system has no generated locale.
    let cloud = "datasource_list: [NoCloud, None]\nlocale: false\n";
    put(folder, "etc/cloud/cloud.cfg.d/95_k8sha-lab.cfg", 0o644, cloud)?;
    // The machines reach package servers, and nothing else outside.
    let apt = format!(
        "Acquire::http::Proxy \"http://{}\";\nAcquire::https::Proxy \"http://{0}\";\n\
         Acquire::http::Pipeline-Depth \"0\";\nAcquire::Languages \"none\";\n",
        network.mirror()
    );
    put(folder, "etc/apt/apt.conf.d/05k8sha-lab", 0o644, &apt)?;
    Ok(folder.to_owned())
}

/// Writes the stand-ins of Kubernetes into a folder.
pub(super) fn standin(folder: &Path, setup: &Setup) -> Result<PathBuf, Error> {
    let version = format!("v{}\n", setup.kubernetes);
    let cilium = setup.cilium_cli.as_ref().map(|version| format!("{version}\n"));
    let files = standin::FILES.iter().map(|(path, mode, text)| (*path, *mode, *text));
    let written = [(standin::VERSION, Some(&version)), (standin::CILIUM_CLI, cilium.as_ref())];
    let written = written.iter().filter_map(|(path, text)| Some((*path, 0o644, (*text)?.as_str())));
    for (path, mode, text) in files.chain(written) {
        put(folder, path.trim_start_matches('/'), mode, text)?;
    }
    Ok(folder.to_owned())
}

fn place(folder: &Path, path: &str) -> Result<PathBuf, Error> {
    let place = folder.join(path);
    if let Some(above) = place.parent() {
        fs::create_dir_all(above).map_err(file(format!("make `{}`", above.display())))?;
    }
    match fs::remove_file(&place) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(file(format!("replace `{}`", place.display()))(error))
        }
        _ => Ok(place),
    }
}

fn put(folder: &Path, path: &str, mode: u32, text: &str) -> Result<(), Error> {
    let place = place(folder, path)?;
    let doing = || format!("write `{}`", place.display());
    fs::write(&place, text).map_err(file(doing()))?;
    fs::set_permissions(&place, fs::Permissions::from_mode(mode)).map_err(file(doing()))
}

fn link(folder: &Path, path: &str, to: &str) -> Result<(), Error> {
    let place = place(folder, path)?;
    symlink(to, &place).map_err(file(format!("link `{}`", place.display())))
}
