//! The rendered files, judged by the programs that will read them; each skips loudly where its
//! program is missing. Nothing is started.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail by panicking")]

// The same file as the library's unit tests use; its `super` is this file.
#[path = "../src/cluster/fixture.rs"]
mod fixture;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Output};

use k8sha::cloudinit::{NodeSecrets, Seed, Templates, render};
use k8sha::cluster::*;
use secrecy::ExposeSecret;
use serde_json::Value;

fn seeds() -> Vec<(String, Seed)> {
    let templates = Templates::builtin().unwrap();
    let secrets = NodeSecrets {
        host_key_private: "-----BEGIN OPENSSH PRIVATE KEY-----\nc2Vj\n".into(),
        host_key_public: "ssh-ed25519 AAAAHost".to_owned(),
        operator_public: "ssh-ed25519 AAAAK8sha k8sha".to_owned(),
    };
    let mut seeds = Vec::new();
    for cluster in [fixture::k8s1(), fixture::homelab()] {
        for node in &cluster.nodes {
            let seed = render(&templates, &cluster, node, &secrets, "i-1").unwrap();
            seeds.push((format!("{}-{}", cluster.name, node.name), seed));
        }
    }
    seeds
}

/// The files that a seed puts on its node.
fn files(seed: &Seed) -> Vec<(String, String)> {
    let data: Value = serde_saphyr::from_str(seed.user_data.expose_secret()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let list = data["write_files"].as_array().unwrap();
    list.iter().map(|file| (text(&file["path"]), text(&file["content"]))).collect()
}

fn file(seed: &Seed, path: &str) -> Option<String> {
    files(seed).into_iter().find(|(at, _)| at == path).map(|(_, content)| content)
}

/// What the program said, or `None` and a line on standard error when it is not installed.
fn judge(program: &str, args: &[&str], file: &Path) -> Option<Output> {
    match Command::new(program).args(args).arg(file).output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("SKIPPED: there is no `{program}` on this machine");
            None
        }
        Err(error) => panic!("cannot run `{program}`: {error}"),
    }
}

fn assert_accepted(program: &str, what: &str, output: &Output) {
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "`{program}` refuses {what}:\n{out}{err}");
}

/// Any interface but the loopback, which VRRP refuses.
fn network_interface() -> Option<String> {
    let names = fs::read_dir("/sys/class/net").ok()?;
    let mut names: Vec<_> =
        names.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names.into_iter().find(|name| name.starts_with('e'))
}

#[test]
fn cloud_init_accepts_every_user_data() {
    let folder = tempfile::tempdir().unwrap();
    // A second each: the first node of each role of each cluster tells it all.
    let told = ["k8s1vrrp1", "k8s1master1", "k8s1worker1"];
    for (name, seed) in
        seeds().into_iter().filter(|(name, _)| told.iter().any(|n| name.ends_with(n)))
    {
        let path = folder.path().join("user-data");
        fs::write(&path, seed.user_data.expose_secret()).unwrap();
        let Some(output) = judge("cloud-init", &["schema", "--config-file"], &path) else { return };
        assert_accepted("cloud-init schema", &name, &output);
    }
}

#[test]
fn haproxy_accepts_its_configuration() {
    let folder = tempfile::tempdir().unwrap();
    for (name, seed) in seeds() {
        let Some(config) = file(&seed, "/etc/haproxy/haproxy.cfg") else { continue };
        // The package makes the user; here it need not be installed.
        let config = config.replace("    user haproxy\n    group haproxy\n", "");
        let path = folder.path().join("haproxy.cfg");
        fs::write(&path, config).unwrap();
        let Some(output) = judge("haproxy", &["-c", "-f"], &path) else { return };
        assert_accepted("haproxy -c", &name, &output);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("WARNING"), "{said}");
    }
}

#[test]
fn keepalived_accepts_its_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let interface = folder.path().join("interface.conf");
    let Some(name) = network_interface() else {
        eprintln!("SKIPPED: keepalived -t wants a network interface that is not the loopback");
        return;
    };
    fs::write(&interface, format!("$INTERFACE={name}\n")).unwrap();
    for (name, seed) in seeds() {
        let Some(config) = file(&seed, "/etc/keepalived/keepalived.conf") else { continue };
        let config = config
            .replace("/etc/keepalived/interface.conf", interface.to_str().unwrap())
            // The script must exist, and lie where only root writes.
            .replace("/usr/local/lib/k8sha/check-haproxy", "/usr/bin/true");
        let path = folder.path().join("keepalived.conf");
        fs::write(&path, config).unwrap();
        let Some(output) = judge("keepalived", &["--log-console", "-t", "-f"], &path) else {
            return;
        };
        assert_accepted("keepalived -t", &name, &output);
    }
}

#[test]
fn the_shells_can_read_every_script() {
    let folder = tempfile::tempdir().unwrap();
    let mut read = 0;
    for (name, seed) in seeds() {
        for (path, content) in files(&seed) {
            let Some(line) = content.lines().next().filter(|line| line.starts_with("#!")) else {
                continue;
            };
            let script = folder.path().join("script");
            fs::write(&script, &content).unwrap();
            let shell = line.trim_start_matches("#!");
            let Some(output) = judge(shell, &["-n"], &script) else { continue };
            assert_accepted(shell, &format!("{path} of {name}"), &output);
            read += 1;
        }
    }
    assert!(read > 0 || cfg!(not(unix)), "no script was found");
}
