//! apt in a guest: its sources, the versions that they offer, the services that an installation starts.

use std::collections::BTreeMap;

use super::guest::Guest;
use super::{pace, units};

/// The relevant packages of Ubuntu 22.04 itself.
const UBUNTU: [(&str, &str); 6] = [
    ("containerd", "1.7.24-0ubuntu1~22.04.2"),
    ("haproxy", "2.4.24-0ubuntu0.22.04.1"),
    ("keepalived", "1:2.2.4-0.2build1"),
    ("qemu-guest-agent", "1:6.2+dfsg-2ubuntu6.24"),
    ("ipvsadm", "1:1.31-1build2"),
    ("chrony", "4.2-2ubuntu2"),
];
/// Packages that only an additional source has.
const KUBERNETES: [&str; 5] = ["kubeadm", "kubelet", "kubectl", "kubernetes-cni", "cri-tools"];
/// The packages in Docker's repository, newest first.
const CONTAINERD_IO: [&str; 4] = ["2.3.1-1", "2.2.4-1", "1.7.29-1", "1.7.28-1"];

/// The duration of a package's installation.
pub fn pace(name: &str) -> f64 {
    match name {
        "containerd.io" | "containerd" => pace::PACKAGE_CONTAINERD,
        name if KUBERNETES.contains(&name) => pace::PACKAGE_KUBE,
        _ => pace::PACKAGE,
    }
}

impl Guest {
    /// The sources that apt accepts: those whose keyring exists.
    fn sources(&self) -> impl Iterator<Item = &str> {
        self.disk
            .files
            .iter()
            .filter(|(path, _)| path.starts_with("/etc/apt/sources.list.d/"))
            .map(|(_, file)| file.content.as_str())
            .filter(|text| {
                let keyring = text.split(['[', ']', ' ', '\n']).find_map(|word| {
                    word.strip_prefix("signed-by=").or_else(|| word.strip_prefix("Signed-By:"))
                });
                // cloud-init replaces this variable with the path of the key in the source.
                keyring.is_none_or(|path| path.starts_with('$') || self.exists(path))
            })
    }

    /// The commands that apt runs before it updates (apt.conf(5), `APT::Update::Pre-Invoke`).
    pub fn apt_hooks(&self) -> Vec<String> {
        self.disk
            .files
            .iter()
            .filter(|(path, _)| path.starts_with("/etc/apt/apt.conf.d/"))
            .filter_map(|(_, file)| file.content.split_once("APT::Update::Pre-Invoke"))
            .filter_map(|(_, after)| after.split('"').nth(1).map(str::to_owned))
            .collect()
    }

    /// The minor versions whose repository, pkgs.k8s.io's or a mirror's, is a source, such as `1.28`.
    fn kubernetes_minors(&self) -> Vec<String> {
        const BEFORE: &str = "/core:/stable:/v";
        self.sources()
            .flat_map(|text| text.match_indices(BEFORE).map(|(at, _)| &text[at + BEFORE.len()..]))
            .filter_map(|after| after.split('/').next())
            .map(str::to_owned)
            .collect()
    }

    /// The version that `apt-get install` would choose.
    ///
    /// # Errors
    /// apt's words.
    pub fn candidate(&self, name: &str, wanted: Option<&str>) -> Result<String, String> {
        let offers: Vec<String> = if KUBERNETES.contains(&name) {
            self.kubernetes_minors().iter().map(|minor| offer(name, minor, wanted)).collect()
        } else if name == "containerd.io" {
            let docker = self.sources().any(|text| text.contains("/linux/ubuntu"));
            CONTAINERD_IO.iter().filter(|_| docker).map(|version| (*version).to_owned()).collect()
        } else {
            let known = UBUNTU.iter().find(|(package, _)| *package == name);
            vec![known.map_or("1.0-1ubuntu1", |(_, version)| version).to_owned()]
        };
        let Some(first) = offers.first() else {
            return Err(format!("E: Unable to locate package {name}"));
        };
        let Some(wanted) = wanted else { return Ok(first.clone()) };
        offers
            .iter()
            .find(|offer| match wanted.strip_suffix('*') {
                Some(start) => offer.starts_with(start),
                None => *offer == wanted,
            })
            .cloned()
            .ok_or_else(|| format!("E: Version '{wanted}' for '{name}' was not found"))
    }

    /// Installs a package and starts its services.
    ///
    /// # Errors
    /// apt's words.
    pub fn install(&mut self, name: &str, wanted: Option<&str>) -> Result<Vec<String>, String> {
        let version = self.candidate(name, wanted)?;
        if self.disk.packages.get(name) == Some(&version) {
            return Ok(vec![format!("{name} is already the newest version ({version}).")]);
        }
        if self.disk.held.contains(name) {
            return Err("E: Held packages were changed and -y was used without \
                        --allow-change-held-packages."
                .to_owned());
        }
        self.put(name, &version);
        if let Some(unit) = units::of_package(name) {
            // A unit that fails to start does not fail its package.
            let _ = self.start(unit);
        }
        Ok(vec![format!("Setting up {name} ({version}) ...")])
    }

    /// Installs the packages of an image on a new disk; their units start with the machine.
    pub fn unpack(&mut self, image: &BTreeMap<String, String>) {
        for (name, version) in image {
            let newest = UBUNTU.iter().find(|(known, _)| known == name).map(|(_, newest)| *newest);
            let newest =
                newest.unwrap_or(if name == "containerd.io" { CONTAINERD_IO[0] } else { "1.0" });
            self.put(name, if version.is_empty() { newest } else { version });
        }
    }

    /// Writes a package's files.
    fn put(&mut self, name: &str, version: &str) {
        self.disk.packages.insert(name.to_owned(), version.to_owned());
        match name {
            "containerd.io" if self.text("/etc/containerd/config.toml").is_none() => {
                self.write("/etc/containerd/config.toml", "disabled_plugins = [\"cri\"]\n", "0644");
            }
            "haproxy" if self.text(super::network::lb::HAPROXY).is_none() => {
                self.write(
                    super::network::lb::HAPROXY,
                    "global\n\tdaemon\ndefaults\n\tmode http\n",
                    "0644",
                );
            }
            _ => {}
        }
        if let Some(unit) = units::of_package(name) {
            self.disk.enabled.insert(unit.to_owned());
        }
    }

    /// The version of an installed Kubernetes package, such as `v1.28.4`.
    pub fn kube_version(&self, package: &str) -> Option<String> {
        let version = self.disk.packages.get(package)?.split('-').next()?;
        Some(format!("v{version}"))
    }
}

/// The version in a minor's repository: the requested one if the minor fits (every patch is available
/// there), else a late one.
fn offer(name: &str, minor: &str, wanted: Option<&str>) -> String {
    if matches!(name, "kubernetes-cni" | "cri-tools") {
        return "1.2.0-2.1".to_owned();
    }
    let asked = wanted.map(|wanted| wanted.trim_end_matches('*').trim_end_matches('-'));
    match asked.filter(|asked| asked.starts_with(&format!("{minor}."))) {
        Some(asked) if asked.contains('-') => asked.to_owned(),
        Some(asked) => format!("{asked}-1.1"),
        None => format!("{minor}.9-1.1"),
    }
}
