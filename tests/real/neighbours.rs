//! `k8sha doctor` in a network where another machine has one of the profile's addresses and filters
//! every port.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use k8sha::net::ping;
use serde_json::Value;

use crate::lab::Lab;
use crate::needs;

const PROGRAM: &str = env!("CARGO_BIN_EXE_k8sha");
/// The operator, and the addresses that are and are not in use.
const OPERATOR: Ipv4Addr = Ipv4Addr::new(10, 101, 1, 250);
const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 101, 1, 251);
const TAKEN: &str = "10.101.1.102";

fn inside(lab: &Lab, machine: &str, words: &[&str]) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &lab.name(machine)]).args(words);
    command
}

fn shell(lab: &Lab, machine: &str, script: &str) {
    let status = inside(lab, machine, &["sh", "-euc", script]).status().unwrap();
    assert!(status.success(), "{script}");
}

/// A machine that answers ARP for an address, and drops all packets to it.
fn mute(lab: &Lab, machine: &str) {
    // The kernel answers for a neighbour behind another link (proxy ARP) that does not exist.
    let script = format!(
        "ip link add in type veth peer name out; ip link set in up; ip link set out up\n\
         ip route add {TAKEN}/32 dev in; ip neigh add {TAKEN} lladdr 02:00:00:00:00:01 dev in\n\
         echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv4/conf/eth0/proxy_arp\n\
         echo 0 > /proc/sys/net/ipv4/neigh/eth0/proxy_delay"
    );
    shell(lab, machine, &script);
}

struct Standing(Child);

impl Drop for Standing {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A simulated Proxmox VE on the operator's loopback; everything else there is real.
fn proxmox(lab: &Lab) -> (Standing, Value) {
    let mut command = inside(lab, "operator", &["setpriv", "--pdeathsig", "KILL", "--"]);
    command.args([PROGRAM, "sim", "--quiet"]).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (Standing(child), serde_json::from_str(&line).unwrap())
}

#[test]
#[ignore = "the real tier: K8SHA_REAL=1, root"]
fn an_address_of_a_machine_that_filters_every_port_is_found() {
    if !needs::asked_for(&["ip", "setpriv"]) {
        return;
    }
    let Some(mut lab) = Lab::new() else { return };
    lab.add("operator", &[OPERATOR]);
    lab.add("stranger", &[STRANGER]);
    mute(&lab, "stranger");
    let (_proxmox, endpoints) = proxmox(&lab);
    let folder = tempfile::tempdir().unwrap();
    let ours = concat!(env!("CARGO_MANIFEST_DIR"), "/profiles/k8s1.yaml");
    let mut text = fs::read_to_string(ours).unwrap();
    let mut command = inside(&lab, "operator", &[PROGRAM, "doctor", "--json"]);
    for host in ["pve1", "pve2"] {
        let of = &endpoints["hosts"][host];
        let part = |key: &str| of[key].as_str().unwrap().to_owned();
        let url = format!("https://{host}.kloud.lan:8006");
        let pinned = format!("{}\n      fingerprint: {}", part("url"), part("fingerprint"));
        assert!(text.contains(&url));
        text = text.replace(&url, &pinned);
        command.env(format!("K8SHA_PVE_TOKEN_{}", host.to_uppercase()), part("token"));
    }
    let profile = folder.path().join("mine.yaml");
    fs::write(&profile, text).unwrap();
    command.arg("--profile").arg(&profile).env("HOME", folder.path()).env_remove("XDG_STATE_HOME");
    let began = Instant::now();
    let output = command.output().unwrap();
    let took = began.elapsed();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&output.stderr));
    });
    let findings = report["findings"].as_array().unwrap();
    let taken: Vec<&str> = findings
        .iter()
        .filter_map(|finding| finding["what"].as_str())
        .filter(|what| what.contains("is in use") || what.contains("was recently used by"))
        .collect();
    assert_eq!(taken.len(), 1, "{report:#}");
    assert!(taken[0].contains(TAKEN) && taken[0].contains("answers ARP for it"), "{taken:?}");
    // Its name servers do not answer either.
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
#[ignore = "the real tier: K8SHA_REAL=1, root"]
fn addresses_that_answer_ping_are_distinguished_if_the_kernel_allows_pings() {
    if !needs::asked_for(&["ip"]) {
        return;
    }
    let Some(mut lab) = Lab::new() else { return };
    lab.add("operator", &[OPERATOR]);
    lab.add("stranger", &[STRANGER]);
    let asked = |lab: &Lab, to: Ipv4Addr| {
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(ping(to, Duration::from_millis(1500)))
        };
        lab.on("operator", work).join().unwrap()
    };
    let range = "/proc/sys/net/ipv4/ping_group_range";
    shell(&lab, "operator", &format!("echo '0 2147483647' > {range}"));
    assert_eq!(asked(&lab, STRANGER), Some(true));
    assert_eq!(asked(&lab, Ipv4Addr::new(10, 101, 1, 9)), Some(false));
    assert_eq!(asked(&lab, Ipv4Addr::new(192, 0, 2, 1)), Some(false), "there is no way there");
    shell(&lab, "operator", &format!("echo '1 0' > {range}"));
    assert_eq!(asked(&lab, STRANGER), None);
}
