//! The scripts of the nodes, run here against a folder with fake programs first in the PATH.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

// The same file as the library's unit tests use; its `super` is this file.
#[allow(dead_code, reason = "the other cluster is for other tests")]
#[path = "../src/cluster/fixture.rs"]
mod fixture;

use k8sha::cloudinit::{NodeSecrets, Templates, render};
use k8sha::cluster::*;
use secrecy::ExposeSecret;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// A folder that replaces `/`, and `bin` in it that comes first in the PATH.
struct Machine {
    root: TempDir,
}

impl Machine {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for folder in ["bin", "mirror", "boot/grub", "etc", "run"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        Self { root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn program(&self, name: &str, body: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs a script of a node, with its absolute folders moved below this one.
    fn run(&self, script: &str, args: &[&str]) -> Output {
        let mut text = planted(script);
        for folder in ["/boot", "/run/k8sha", "/etc/default", "/etc/containerd", "/usr/local/bin"] {
            text = text.replace(folder, &format!("{}{folder}", self.root.path().display()));
        }
        let path = format!("{}:/usr/bin:/bin", self.path("bin").display());
        fs::write(self.path("script"), text).unwrap();
        Command::new("/bin/sh")
            .arg(self.path("script"))
            .args(args)
            .env("PATH", path)
            .env("NODE", self.root.path())
            .output()
            .unwrap()
    }
}

/// A script of `cloudinit/`, as on the first master of the fixture, or on an etcd row.
fn planted(script: &str) -> String {
    let mut cluster = fixture::k8s1();
    cluster.kubernetes.image_archives = vec![ImageArchive::Node("/images.tar".into())];
    let secrets = NodeSecrets {
        host_key_private: "hush".into(),
        host_key_public: "ssh-ed25519 AAAA".to_owned(),
        operator_public: "ssh-ed25519 AAAA".to_owned(),
    };
    let templates = Templates::builtin().unwrap();
    let node = if script == "etcd" {
        cluster = fixture::own_etcd();
        cluster.with_role(Role::Etcd).next().unwrap()
    } else {
        cluster.first_master()
    };
    let seed = render(&templates, &cluster, node, &secrets, "i-1").unwrap();
    let data: Value = serde_saphyr::from_str(seed.user_data.expose_secret()).unwrap();
    let path = format!("/usr/local/lib/k8sha/{script}");
    let files = data["write_files"].as_array().unwrap();
    let file = files.iter().find(|file| file["path"] == path.as_str()).unwrap();
    file["content"].as_str().unwrap().to_owned()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

const RELEASE: &str = "6.6.1-060601-generic";

/// A node on Ubuntu's kernel, and a mirror like kernel.ubuntu.com.
fn ubuntu() -> Machine {
    let node = Machine::new();
    node.program("uname", "echo 5.15.0-126-generic");
    node.program("dpkg", "echo amd64");
    node.program("update-grub", ":");
    node.program("apt-get", "for word; do echo \"$word\"; done > $NODE/installed");
    // The URL is the last word, the output file is the one before it.
    node.program(
        "curl",
        "while [ $# -gt 2 ]; do shift; done; echo \"$2\" >> $NODE/asked; \
         cp \"$NODE/mirror/$(basename \"$2\")\" \"$1\"",
    );
    let stamp = "6.6.1-060601.202311151749";
    let mut sums = "Checksums-Sha1:\n".to_owned();
    let names = [
        format!("linux-headers-6.6.1-060601_{stamp}_all.deb"),
        format!("linux-headers-{RELEASE}_{stamp}_amd64.deb"),
        format!("linux-image-unsigned-{RELEASE}_{stamp}_amd64.deb"),
        format!("linux-modules-{RELEASE}_{stamp}_amd64.deb"),
    ];
    for name in &names {
        sums.push_str(&format!("{}  {name}\n", "0".repeat(40)));
    }
    sums.push_str("\nChecksums-Sha256:\n");
    for name in &names {
        fs::write(node.path("mirror").join(name), name).unwrap();
        let hash: String = Sha256::digest(name).iter().map(|byte| format!("{byte:02x}")).collect();
        sums.push_str(&format!("{hash}  {name}\n"));
    }
    fs::write(node.path("mirror/CHECKSUMS"), sums).unwrap();
    let menu = format!(
        "menuentry 'Ubuntu' $menuentry_id_option 'gnulinux-simple-ab-cd' {{\n\
         submenu 'Advanced' $menuentry_id_option 'gnulinux-advanced-ab-cd' {{\n\
         \tmenuentry 'x' $menuentry_id_option 'gnulinux-{RELEASE}-advanced-ab-cd' {{\n\
         \tmenuentry 'x' $menuentry_id_option 'gnulinux-{RELEASE}-recovery-ab-cd' {{\n"
    );
    fs::write(node.path("boot/grub/grub.cfg"), menu).unwrap();
    node
}

fn names(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| line.rsplit('/').next().unwrap().to_owned()).collect()
}

#[test]
fn a_mainline_kernel_installs_two_verified_packages_and_becomes_grubs_default() {
    let node = ubuntu();
    let output = node.run("kernel", &["mainline", "6.6.1"]);
    assert!(output.status.success(), "{}", said(&output));
    let asked = fs::read_to_string(node.path("asked")).unwrap();
    let first = asked.lines().next().unwrap();
    assert_eq!(first, "https://kernel.ubuntu.com/mainline/v6.6.1/amd64/CHECKSUMS");
    let installed = names(&node.path("installed"));
    assert!(installed.iter().any(|name| name.starts_with("linux-image-unsigned-")));
    assert!(installed.iter().any(|name| name.starts_with("linux-modules-")));
    assert!(!installed.iter().any(|name| name.starts_with("linux-headers-")), "{installed:?}");
    let default = fs::read_to_string(node.path("etc/default/grub.d/90-k8sha.cfg")).unwrap();
    let want = format!("gnulinux-advanced-ab-cd>gnulinux-{RELEASE}-advanced-ab-cd");
    assert_eq!(default, format!("GRUB_DEFAULT=\"{want}\"\n"));
    let wanted = fs::read_to_string(node.path("run/k8sha/reboot-needed")).unwrap();
    assert_eq!(wanted.trim(), RELEASE);
}

#[test]
fn a_running_kernel_is_left_alone() {
    let node = ubuntu();
    node.program("uname", &format!("echo {RELEASE}"));
    let output = node.run("kernel", &["mainline", "6.6.1"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(!node.path("asked").exists());
    assert!(!node.path("run/k8sha/reboot-needed").exists());
}

#[test]
fn a_package_with_a_wrong_checksum_is_not_installed() {
    let node = ubuntu();
    for entry in fs::read_dir(node.path("mirror")).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().contains("linux-modules-") {
            fs::write(path, "something else").unwrap();
        }
    }
    let output = node.run("kernel", &["mainline", "6.6.1"]);
    assert!(!output.status.success());
    assert!(said(&output).contains("is not what its CHECKSUMS says"), "{}", said(&output));
    assert!(!node.path("installed").exists());
}

#[test]
fn a_kernel_that_does_not_exist_is_named() {
    let node = ubuntu();
    let output = node.run("kernel", &["mainline", "6.6.9"]);
    assert!(!output.status.success());
    let text = said(&output);
    assert!(text.contains("does not list one image and one modules package"), "{text}");
    assert!(text.contains("6.6.9-060609-generic"), "{text}");
}

#[test]
fn containerd_is_configured_in_the_format_of_its_version() {
    for (says, form, section) in [
        ("containerd containerd.io 1.7.24 88bf19b2105c8b17", "version = 2", "grpc.v1.cri"),
        (
            "containerd github.com/containerd/containerd/v2 v2.1.0 061792f0ecf3684f",
            "version = 3",
            "io.containerd.cri.v1.runtime",
        ),
    ] {
        let node = Machine::new();
        node.program("containerd", &format!("echo {says}"));
        node.program("systemctl", "echo \"$@\" >> $NODE/asked");
        for _ in 0..2 {
            let output = node.run("containerd", &["registry.k8s.io/pause:3.9"]);
            assert!(output.status.success(), "{}", said(&output));
        }
        let text = fs::read_to_string(node.path("etc/containerd/config.toml")).unwrap();
        assert!(text.starts_with(form) && text.contains(section), "{text}");
        assert!(text.contains("SystemdCgroup = true") && text.contains("pause:3.9"), "{text}");
        // The second run finds nothing to do.
        let asked = fs::read_to_string(node.path("asked")).unwrap();
        assert_eq!(asked, "restart containerd\n");
    }
}

/// A node on which `curl` returns an archive of an etcd, and the archive's SHA-256.
fn with_archive() -> (Machine, String) {
    let node = Machine::new();
    let release = node.path("mirror/etcd-v3.5.33-linux-amd64");
    fs::create_dir_all(&release).unwrap();
    fs::create_dir_all(node.path("usr/local/bin")).unwrap();
    for program in ["etcd", "etcdctl", "etcdutl"] {
        fs::write(release.join(program), program).unwrap();
    }
    let archive = node.path("mirror/etcd.tar.gz");
    let mut tar = Command::new("tar");
    tar.arg("-czf").arg(&archive).arg("-C").arg(node.path("mirror"));
    assert!(tar.arg("etcd-v3.5.33-linux-amd64").status().unwrap().success());
    let digest = Sha256::digest(fs::read(&archive).unwrap());
    node.program(
        "curl",
        "while [ $# -gt 2 ]; do shift; done; echo \"$2\" >> $NODE/asked; \
         cp \"$NODE/mirror/etcd.tar.gz\" \"$1\"",
    );
    // The tests may run without root: ownership is not set.
    node.program("install", "while [ $# -gt 3 ]; do shift; done; cp \"$1\" \"$2\" \"$3\"");
    node.program("etcd", "echo etcd Version: 3.3.25");
    (node, digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

const ARCHIVE: &str = "https://mirror.kloud.lan/etcd-v3.5.33-linux-amd64.tar.gz";

#[test]
fn etcd_is_installed_from_the_pinned_archive() {
    let (node, sha256) = with_archive();
    let output = node.run("etcd", &["3.5.33", ARCHIVE, &sha256]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(fs::read_to_string(node.path("asked")).unwrap().trim(), ARCHIVE);
    let mut installed: Vec<_> = fs::read_dir(node.path("usr/local/bin"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    installed.sort();
    assert_eq!(installed, ["etcd", "etcdctl"]);
}

#[test]
fn an_archive_with_another_checksum_is_not_installed() {
    let (node, _) = with_archive();
    let output = node.run("etcd", &["3.5.33", ARCHIVE, &"ab".repeat(32)]);
    assert!(!output.status.success());
    assert!(said(&output).contains("is not what the profile pins"), "{}", said(&output));
    assert_eq!(fs::read_dir(node.path("usr/local/bin")).unwrap().count(), 0);
}

#[test]
fn an_etcd_of_that_version_is_left_alone() {
    let (node, sha256) = with_archive();
    node.program("etcd", "echo etcd Version: 3.5.33; echo Git SHA: 1");
    let output = node.run("etcd", &["3.5.33", ARCHIVE, &sha256]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(!node.path("asked").exists());
}

#[test]
fn archives_of_images_are_imported_and_downloaded_ones_verified_first() {
    let node = Machine::new();
    node.program("ctr", "echo \"$@\" >> $NODE/imported; cat \"$5\" >> $NODE/imported");
    node.program(
        "curl",
        "while [ $# -gt 2 ]; do shift; done; cp \"$NODE/mirror/$(basename \"$2\")\" \"$1\"",
    );
    let here = node.path("here.tar");
    fs::write(&here, "here").unwrap();
    fs::write(node.path("mirror/there.tar"), "there").unwrap();
    let output = node.run("import-images", &[here.to_str().unwrap()]);
    assert!(output.status.success(), "{}", said(&output));
    let hash: String = Sha256::digest("there").iter().map(|byte| format!("{byte:02x}")).collect();
    let url = "https://mirror.lan/there.tar";
    let output = node.run("import-images", &[url, &hash]);
    assert!(output.status.success(), "{}", said(&output));
    let imported = fs::read_to_string(node.path("imported")).unwrap();
    let lines: Vec<&str> = imported.lines().collect();
    assert_eq!(lines[0], format!("--namespace k8s.io images import {}", here.display()));
    assert!(lines[1].starts_with("here--namespace k8s.io images import /"), "{imported}");
    assert_eq!(lines[2], "there");

    let output = node.run("import-images", &[url, &"0".repeat(64)]);
    assert!(!output.status.success() && said(&output).contains("is not the file of SHA-256"));
    let output = node.run("import-images", &["/nowhere/k8s.tar"]);
    assert!(!output.status.success() && said(&output).contains("there is no /nowhere/k8s.tar"));
    assert_eq!(fs::read_to_string(node.path("imported")).unwrap(), imported);
}
