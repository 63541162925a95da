//! `k8sha routes` against hosts in network namespaces: real sshd, real `ip`, the kernel's routes.
//!
//! systemd cannot run there. A few lines of shell replace it, which do with k8sha's unit what systemd
//! does with a oneshot that remains after its exit; `systemd-analyze` checks that systemd parses the
//! unit as intended.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use k8sha::ssh::KeyPair;
use secrecy::ExposeSecret;
use tempfile::TempDir;

use crate::cell::{Cell, Running};
use crate::lab::Lab;
use crate::{needs, wait};

const PROGRAMS: &[&str] = &["sshd", "ip", "unshare", "setpriv", "systemctl", "systemd-analyze"];
const HOSTS: [(&str, Ipv4Addr); 2] =
    [("pve1", Ipv4Addr::new(10, 77, 0, 11)), ("pve2", Ipv4Addr::new(10, 77, 0, 12))];
const OPERATOR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const UNIT: &str = "k8sha-routes-k8s1-cluster.service";

const SYSTEMCTL: &str = r#"#!/bin/sh
# Enabled is a link, active is a file that a restart forgets, loaded is what daemon-reload has read.
set -eu
units=/etc/systemd/system
wants=$units/multi-user.target.wants
state=/run/k8sha-units
mkdir -p "$state" "$wants"
lines() {
    sed -n "s/^$1=//p" "$state/loaded-$unit"
}
start() {
    lines ExecStart | while read -r line; do $line; done
    touch "$state/active-$unit"
}
stop() {
    lines ExecStop | while read -r line; do ${line#-} || [ "${line#-}" != "$line" ]; done
    rm -f "$state/active-$unit"
}
verb=$1
unit=${2:-}
if [ "$verb" = disable ]; then
    unit=$3
fi
case "$verb" in
daemon-reload)
    rm -f "$state"/loaded-*
    for file in "$units"/*.service; do
        [ ! -f "$file" ] || cp "$file" "$state/loaded-${file##*/}"
    done
    ;;
boot)
    "$0" daemon-reload
    for link in "$wants"/*.service; do
        [ ! -L "$link" ] || "$0" start "${link##*/}"
    done
    ;;
start) start ;;
stop) stop ;;
restart)
    [ ! -f "$state/active-$unit" ] || stop
    start
    ;;
enable) ln -sf "$units/$unit" "$wants/$unit" ;;
disable)
    stop
    rm -f "$wants/$unit"
    ;;
is-enabled) if [ -L "$wants/$unit" ]; then echo enabled; else echo not-found; exit 4; fi ;;
is-active) if [ -f "$state/active-$unit" ]; then echo active; else echo inactive; exit 3; fi ;;
*) exit 1 ;;
esac
"#;

/// Two hosts, an operator, and the addresses and keys that they know of each other.
struct Site {
    lab: Lab,
    folder: TempDir,
    host_keys: Vec<KeyPair>,
    login: KeyPair,
    running: Vec<Running>,
}

impl Site {
    fn start() -> Option<Self> {
        let mut lab = Lab::new()?;
        lab.add("operator", &[OPERATOR]);
        let folder = tempfile::tempdir().unwrap();
        for (name, address) in HOSTS {
            lab.add(name, &[address]);
            // The packets that leak without a blackhole.
            ip(&["-n", &lab.name(name), "route", "add", "default", "dev", "eth0"]);
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let key = |name| KeyPair::generate(name).unwrap();
        let host_keys = HOSTS.iter().map(|(name, _)| key(name)).collect();
        let login = key("operator");
        fs::write(folder.path().join("key"), login.private.expose_secret()).unwrap();
        let mut site = Self { lab, folder, host_keys, login, running: Vec::new() };
        site.boot();
        Some(site)
    }

    /// Starts both hosts. Everything in their memory is gone.
    fn boot(&mut self) {
        self.running.clear();
        for (nth, (name, address)) in HOSTS.iter().enumerate() {
            let config = format!(
                "ListenAddress {address}:22\nHostKey /run/k8sha/host_key\nPidFile none\nUsePAM no\n\
                 AuthorizedKeysFile /run/k8sha/keys\nStrictModes no\nPasswordAuthentication no\n\
                 KbdInteractiveAuthentication no\nUseDNS no\nPermitRootLogin prohibit-password\n"
            );
            let shadow = fs::read_to_string("/etc/shadow").unwrap();
            let others = shadow.lines().filter(|line| !line.starts_with("root:"));
            let shadow =
                others.fold("root:*:19000::::::\n".to_owned(), |all, line| all + line + "\n");
            let units = self.folder.path().join(name);
            let cell = Cell::new()
                .in_network(&self.lab.name(name))
                .empty("/run")
                .empty("/run/sshd")
                .file("/run/k8sha/host_key", self.host_keys[nth].private.expose_secret(), 0o600)
                .file("/run/k8sha/sshd_config", &config, 0o644)
                .file("/run/k8sha/keys", &self.login.public, 0o644)
                .file("/etc/shadow", &shadow, 0o640)
                .file("/usr/bin/systemctl", SYSTEMCTL, 0o755)
                .after(&format!("mount --bind {} /etc/systemd/system", units.display()));
            let line = "systemctl boot; exec /usr/sbin/sshd -D -e -f /run/k8sha/sshd_config";
            let running = cell.start(&["/bin/sh", "-c", line]);
            wait::until(
                "sshd listens",
                Duration::from_secs(10),
                || running.log().contains("Server listening on").then_some(()),
                || running.log(),
            );
            self.running.push(running);
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The profile `k8s1` with these hosts: one's key is in it, the other's in a file.
    fn profile(&self, changes: &[(&str, &str)]) -> String {
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/k8s1.yaml");
        let mut text = fs::read_to_string(ours).unwrap();
        let key = |nth: usize| self.host_keys[nth].public.trim().to_owned();
        let hosts = [
            format!("      ssh_address: {}\n      ssh_host_key: \"{}\"\n", HOSTS[0].1, key(0)),
            format!("      ssh_address: {}\n", HOSTS[1].1),
        ];
        for ((name, _), more) in HOSTS.iter().zip(hosts) {
            let endpoint = format!("      endpoint: https://{name}.kloud.lan:8006\n");
            assert!(text.contains(&endpoint));
            text = text.replace(&endpoint, &format!("{endpoint}{more}"));
        }
        let known = format!("{} {}\n", HOSTS[1].1, key(1));
        fs::write(self.path("known_hosts"), known).unwrap();
        let login = "  ssh: { identity: key, known_hosts: known_hosts }\n  clone: linked";
        for (from, to) in [("  clone: linked", login)].iter().chain(changes) {
            assert!(text.contains(from), "`{from}` is not in the profile");
            text = text.replace(from, to);
        }
        let path = self.path("mine.yaml");
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Runs the program on the operator's machine.
    fn routes(&self, profile: &str, flag: &[&str]) -> (i32, String) {
        let state = self.path("state");
        let output = Command::new("ip")
            .args(["netns", "exec", &self.lab.name("operator"), env!("CARGO_BIN_EXE_k8sha")])
            .args(["routes", "--profile", profile, "--state", state.to_str().unwrap()])
            .args(flag)
            .env("HOME", self.folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        (output.status.code().unwrap(), said)
    }

    /// The networks that a host drops packets to.
    fn dropped(&self, host: &str) -> Vec<String> {
        let output = ip(&["-n", &self.lab.name(host), "-4", "route", "show", "type", "blackhole"]);
        let text = String::from_utf8(output.stdout).unwrap();
        let nets = text.lines().map(|line| line.split(' ').nth(1).unwrap().to_owned());
        let mut nets: Vec<String> = nets.collect();
        nets.sort();
        nets
    }

    /// Everything that affects a host's routing.
    fn all(&self, host: &str) -> String {
        let output = ip(&["-n", &self.lab.name(host), "-4", "route", "show", "table", "all"]);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Whether a host has a route to an address.
    fn leads(&self, host: &str, address: &str) -> bool {
        let mut command = Command::new("ip");
        command.args(["-n", &self.lab.name(host), "route", "get", address]);
        command.output().unwrap().status.success()
    }

    /// The hosts that are recorded to have routes.
    fn noted(&self) -> String {
        fs::read_to_string(self.path("state/routed-hosts")).unwrap_or_default()
    }

    fn unit(&self, host: &str) -> PathBuf {
        self.path(host).join(UNIT)
    }
}

fn ip(words: &[&str]) -> Output {
    let output = Command::new("ip").args(words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {said}", words.join(" "));
    output
}

const ALL: [&str; 3] = ["100.64.0.0/10", "198.18.0.0/16", "198.19.0.0/16"];

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn routes_are_set_once_survive_a_restart_follow_the_profile_and_are_removed_again() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let Some(mut site) = Site::start() else { return };
    let profile = site.profile(&[]);
    let before: Vec<String> = HOSTS.iter().map(|(name, _)| site.all(name)).collect();

    let (code, said) = site.routes(&profile, &[]);
    assert!(code == 1 && said.matches("absent").count() == 6, "{code}: {said}");
    assert!(site.leads("pve1", "100.64.7.7"), "what no route takes leaves by the default route");

    assert_eq!(site.noted(), "");
    let (code, said) = site.routes(&profile, &["--apply"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(site.noted(), "pve1\npve2\n");
    assert!(said.contains("+ pve1  drop packets to 198.19.0.0/16"), "{said}");
    assert!(said.ends_with("done on pve1, pve2\n"), "{said}");
    for (name, _) in HOSTS {
        assert_eq!(site.dropped(name), ALL, "{name}");
        assert!(!site.leads(name, "100.64.7.7") && site.leads(name, "8.8.8.8"), "{name}");
        let verdict = Command::new("systemd-analyze").arg("verify").arg(site.unit(name)).output();
        let verdict = verdict.unwrap();
        let said = String::from_utf8_lossy(&verdict.stderr);
        assert!(verdict.status.success() && !said.contains(UNIT), "{said}");
    }
    let written = fs::metadata(site.unit("pve1")).unwrap().modified().unwrap();
    // Another folder, or an older one, has no record.
    fs::remove_file(site.path("state/routed-hosts")).unwrap();
    let (code, said) = site.routes(&profile, &["--apply"]);
    assert!(code == 0 && said == "nothing to do: all routes match the profile\n", "{code}: {said}");
    assert_eq!(fs::metadata(site.unit("pve1")).unwrap().modified().unwrap(), written);
    assert_eq!(site.noted(), "pve1\npve2\n");

    // A restart clears every route, and the units restore k8sha's.
    for (name, _) in HOSTS {
        ip(&["-n", &site.lab.name(name), "-4", "route", "flush", "type", "blackhole"]);
        assert!(site.dropped(name).is_empty(), "{name}");
    }
    site.boot();
    assert_eq!(
        (site.dropped("pve1"), site.dropped("pve2")),
        (ALL.map(str::to_owned).into(), ALL.map(str::to_owned).into())
    );
    let (code, said) = site.routes(&profile, &[]);
    assert_eq!(code, 0, "{said}");

    // A user has removed one by hand.
    let gone = ["-n", &site.lab.name("pve2"), "-4", "route", "flush", "198.18.0.0/16"];
    ip(&gone);
    assert_eq!(site.dropped("pve2").len(), 2);
    let (code, said) = site.routes(&profile, &["--apply"]);
    assert!(code == 0 && said.ends_with("done on pve2\n"), "{code}: {said}");
    assert_eq!(site.dropped("pve2"), ALL);

    let fewer =
        site.profile(&[("[198.19.0.0/16, 198.18.0.0/16, 100.64.0.0/10]", "[198.18.0.0/16]")]);
    let (code, said) = site.routes(&fewer, &["--apply"]);
    assert!(code == 0 && said.contains("- pve1  drop packets to 100.64.0.0/10"), "{code}: {said}");
    assert_eq!(site.dropped("pve1"), ["198.18.0.0/16"]);

    // A profile that no longer has any gets them removed, and may get some again.
    let none = site.profile(&[("[198.19.0.0/16, 198.18.0.0/16, 100.64.0.0/10]", "[]")]);
    let (code, said) = site.routes(&none, &["--apply"]);
    assert!(code == 0 && said.ends_with("done on pve1, pve2\n"), "{code}: {said}");
    assert!(site.dropped("pve1").is_empty() && !site.unit("pve1").exists());
    assert_eq!(site.noted(), "");
    let fewer =
        site.profile(&[("[198.19.0.0/16, 198.18.0.0/16, 100.64.0.0/10]", "[198.18.0.0/16]")]);
    let (code, said) = site.routes(&fewer, &["--apply"]);
    assert_eq!(code, 0, "{said}");

    assert_eq!(site.noted(), "pve1\npve2\n");
    let (code, said) = site.routes(&fewer, &["--remove"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(site.noted(), "");
    for ((name, _), before) in HOSTS.iter().zip(before) {
        assert_eq!(site.all(name), before, "{name}");
        assert!(!site.unit(name).exists(), "{name}");
    }
    let (code, said) = site.routes(&fewer, &["--remove"]);
    assert!(code == 0 && said == "nothing to do: all routes match the profile\n", "{code}: {said}");
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn a_blackhole_that_would_cut_something_off_is_refused_before_any_host_is_touched() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let Some(site) = Site::start() else { return };
    let profile = site.profile(&[]);
    // As Tailscale does it: routes to its machines in a separate table.
    let pve2 = site.lab.name("pve2");
    ip(&["-n", &pve2, "route", "add", "100.99.1.1", "dev", "eth0", "table", "52"]);
    ip(&["-n", &pve2, "rule", "add", "pref", "5270", "lookup", "52"]);
    let (code, said) = site.routes(&profile, &["--apply"]);
    assert_eq!(code, 1, "{said}");
    for part in [
        "nothing was changed",
        "pve2: 100.64.0.0/10 would cut off the route to 100.99.1.1 by eth0 (table 52)",
        "Tailscale lives in 100.64.0.0/10",
        "proxmox.blackholes",
    ] {
        assert!(said.contains(part), "no {part} in {said}");
    }
    for (name, _) in HOSTS {
        assert!(site.dropped(name).is_empty() && !site.unit(name).exists(), "{name}");
    }
    assert_eq!(site.noted(), "");
    // Without that network, the same hosts are fine.
    let own = site.profile(&[("100.64.0.0/10]", "100.64.0.0/16]")]);
    let (code, said) = site.routes(&own, &["--apply"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(site.dropped("pve2"), ["100.64.0.0/16", "198.18.0.0/16", "198.19.0.0/16"]);
    assert!(site.leads("pve2", "100.99.1.1"));

    // A unit of that name that another user wrote.
    fs::write(site.unit("pve1"), "[Unit]\nDescription=mine\n").unwrap();
    let (code, said) = site.routes(&own, &["--remove"]);
    assert!(code == 1 && said.contains("does not carry k8sha's mark"), "{code}: {said}");
    assert_eq!(site.dropped("pve2").len(), 3, "nothing was written anywhere");
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn a_host_with_another_key_is_not_contacted() {
    if !needs::asked_for(PROGRAMS) {
        return;
    }
    let Some(mut site) = Site::start() else { return };
    let right = site.host_keys.remove(0);
    site.host_keys.insert(0, KeyPair::generate("other").unwrap());
    let profile = site.profile(&[]);
    let (code, said) = site.routes(&profile, &["--apply"]);
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("not the one that the profile knows") && said.contains("pve1"), "{said}");
    assert!(site.dropped("pve1").is_empty() && site.dropped("pve2").is_empty());
    site.host_keys[0] = right;
    let profile = site.profile(&[("known_hosts: known_hosts", "known_hosts: nobody")]);
    let (code, said) = site.routes(&profile, &[]);
    assert!(code == 2 && said.contains("ssh_host_ed25519_key.pub"), "{code}: {said}");
}
