use std::sync::{Arc, Mutex};

use serde_json::json;

use super::*;
use crate::cluster::HostName;
use crate::kubeadm::fake::{Files, Host as Fake};
use crate::ssh::fake::Reply;

const CLUSTER: &str = "k8s1-cluster";

/// A host that sets routes and runs units as requested.
#[derive(Default)]
struct Machine {
    nets: Vec<String>,
    enabled: bool,
    active: bool,
    /// The injected fault: the unit runs, but sets no routes.
    idle: bool,
}

fn answer(machine: &Mutex<Machine>, words: &[&str], files: &Files) -> Option<Reply> {
    let mut machine = machine.lock().unwrap();
    let text = || {
        let files = files.lock().unwrap();
        files.get(&unit::path(CLUSTER)).map(|body| String::from_utf8(body.clone()).unwrap())
    };
    let nets = || -> Vec<String> {
        let text = text().unwrap_or_default();
        let lines = text.lines().filter(|line| line.starts_with("ExecStart="));
        lines.map(|line| line.split(' ').nth(5).unwrap().to_owned()).collect()
    };
    Some(match words {
        ["ip", "-json", "-4", "route", ..] => {
            let line = |net: &String| {
                json!({"type": "blackhole", "dst": net, "protocol": "208",
                    "metric": unit::metric(CLUSTER), "flags": []})
            };
            Reply::out(json!(machine.nets.iter().map(line).collect::<Vec<_>>()).to_string())
        }
        ["ip", "-json", ..] => Reply::out(""),
        ["ip", "-4", "route", "del", "blackhole", net, ..] => {
            machine.nets.retain(|known| known != net);
            Reply::out("")
        }
        ["printenv", "SSH_CONNECTION"] => Reply::out("10.0.0.9 1 10.0.0.1 22\n"),
        ["systemctl", "is-enabled", _] => match machine.enabled {
            true => Reply::out("enabled\n"),
            false => Reply::Done(4, b"not-found\n".to_vec(), String::new()),
        },
        ["systemctl", "is-active", _] => match machine.active {
            true => Reply::out("active\n"),
            false => Reply::Done(3, b"inactive\n".to_vec(), String::new()),
        },
        ["systemctl", "daemon-reload"] => Reply::out(""),
        ["systemctl", "enable", _] => {
            machine.enabled = true;
            Reply::out("")
        }
        ["systemctl", "stop", _] | ["systemctl", "disable", "--now", _] => {
            machine.enabled &= words[1] == "stop";
            machine.active = false;
            machine.nets.clear();
            Reply::out("")
        }
        ["systemctl", "restart", _] => {
            machine.active = true;
            machine.nets = if machine.idle { Vec::new() } else { nets() };
            Reply::out("")
        }
        _ => return None,
    })
}

async fn host(machine: Machine) -> (Arc<Mutex<Machine>>, Fake, Host) {
    let machine = Arc::new(Mutex::new(machine));
    let own = Arc::clone(&machine);
    let fake = Fake::start(move |words, files| answer(&own, words, files)).await;
    let remote = fake.remote("pve1");
    (machine, fake, Host { name: HostName("pve1".into()), remote, is_root: true })
}

fn nets(nets: &[&str]) -> Vec<Ipv4Net> {
    nets.iter().map(|net| net.parse().unwrap()).collect()
}

#[tokio::test]
async fn what_is_set_is_seen_again_and_what_is_removed_is_gone() {
    let (machine, fake, host) = host(Machine::default()).await;
    let all = nets(&["198.19.0.0/16", "100.64.0.0/10"]);
    let seen = look(&host, CLUSTER).await.unwrap();
    assert_eq!((seen.unit.clone(), seen.operator), (None, Some([10, 0, 0, 9].into())));
    // The unit must already exist: the fake's `install` writes its input only for mode 0600.
    fake.put(&unit::path(CLUSTER), unit::text(CLUSTER, &all));
    let seen = look(&host, CLUSTER).await.unwrap();
    apply(&host, CLUSTER, &all, &seen).await.unwrap();
    let seen = look(&host, CLUSTER).await.unwrap();
    assert!(plan::plan(CLUSTER, &host.name, &all, &seen).settled);
    remove(&host, CLUSTER, &seen).await.unwrap();
    assert!(machine.lock().unwrap().nets.is_empty() && fake.text(&unit::path(CLUSTER)).is_none());
    assert!(!fake.fake.lines().iter().any(|line| line.starts_with("sudo")), "root needs no sudo");
}

#[tokio::test]
async fn a_route_that_is_left_without_a_unit_is_removed_too() {
    let left = Machine { nets: vec!["198.18.0.0/16".into()], ..Machine::default() };
    let (machine, _fake, host) = host(left).await;
    let seen = look(&host, CLUSTER).await.unwrap();
    remove(&host, CLUSTER, &seen).await.unwrap();
    assert!(machine.lock().unwrap().nets.is_empty());
}

#[tokio::test]
async fn a_unit_that_sets_nothing_is_no_success() {
    let (_machine, fake, host) = host(Machine { idle: true, ..Machine::default() }).await;
    let all = nets(&["198.19.0.0/16"]);
    fake.put(&unit::path(CLUSTER), unit::text(CLUSTER, &all));
    let seen = look(&host, CLUSTER).await.unwrap();
    let error = apply(&host, CLUSTER, &all, &seen).await.unwrap_err().to_string();
    assert!(error.contains("198.19.0.0/16 is not dropped"), "{error}");
    assert!(error.contains("systemctl status k8sha-routes-k8s1-cluster.service"), "{error}");
}

#[tokio::test]
async fn another_host_key_is_told_in_words_for_a_host_that_we_did_not_make() {
    let (_machine, fake, mut host) = host(Machine::default()).await;
    let mut target = fake.fake.target("pve1");
    let other = crate::ssh::KeyPair::generate("other").unwrap();
    target.host_key = crate::ssh::HostKey::parse(&other.public).unwrap();
    host.remote = crate::ssh::Remote::new(target);
    let error = look(&host, CLUSTER).await.unwrap_err();
    assert_eq!(error.exit, Exit::Node);
    assert!(error.said.contains("not the one that the profile knows"), "{error}");
    assert!(!error.to_string().contains("planted"), "{error}");
}
