//! `k8sha logs` on simulated nodes.
//!
//! What must never happen:
//! - what a log says does anything to the terminal, or gives away a secret, in any format;
//! - another machine's log is shown as the node's: see `ssh.rs`, whose way to the nodes this is;
//! - a log that cannot be read looks like an empty one;
//! - a unit that does not exist on the node looks like one that says nothing.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use crate::living::Living;
use crate::ssh::ssh;
use crate::standing::Server;
use crate::world::World;

const OUTPUT: &str = "/var/log/cloud-init-output.log";

#[test]
fn each_role_has_its_logs_and_the_usual_one_needs_no_name() {
    let world = Living::stacked().world;
    for (args, wanted) in [
        (&["k8s-lb1"][..], "Started HAProxy Load Balancer.\n"),
        (&["k8s-lb1", "keepalived"], "Started Keepalive Daemon (LVS and VRRP).\n"),
        (&["k8s-master1"], "Started kubelet.service."),
        (&["k8s-master1", "containerd"], "Started containerd.service."),
        (&["k8s-master1", "etcd"], "ready to serve client requests"),
        (&["k8s-master1", "kubeadm", "-n", "200"], "[init] Using Kubernetes version"),
        (&["k8s-master2", "kubeadm", "-n", "200"], "This node has joined the cluster"),
        (&["k8s-worker1", "kubeadm", "-n", "200"], "This node has joined the cluster"),
        (&["k8s-worker1", "cloud-init", "-n", "1"], "Cloud-init v. "),
    ] {
        let ran = world.run(&[&["logs", "--quiet"], args].concat()).ok();
        assert!(ran.stdout.contains(wanted), "{args:?}: {ran:#?}");
    }
    let one = world.run(&["logs", "-q", "k8s-worker1", "cloud-init", "--lines", "1"]).ok();
    assert_eq!(one.stdout.lines().count(), 1, "{one:#?}");
    for (node, unit, there) in [
        ("k8s-worker1", "etcd", "kubelet, containerd, kubeadm, cloud-init"),
        ("k8s-lb1", "kubelet", "haproxy, keepalived, cloud-init"),
        ("k8s-master1", "haproxy", "kubelet, containerd, etcd, kubeadm, cloud-init"),
    ] {
        let ran = world.run(&["logs", node, unit]);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:#?}");
        assert!(ran.stderr.contains(there), "{}", ran.stderr);
    }
}

#[test]
fn a_log_does_nothing_to_the_terminal_and_gives_no_secret_away() {
    let world = World::new().made();
    let key = fs::read_to_string(world.path().join("operator/k8s1-cluster/ssh/operator")).unwrap();
    let hostile = format!(
        "\u{1b}]52;c;eA==\u{7}\u{9b}2J\u{202e}\ntoken abcdef.0123456789abcdef\n{key}{}\nend\n",
        "x".repeat(100_000)
    );
    let install = ["sudo", "install", "-m", "0644", "/dev/stdin", OUTPUT];
    ssh(&world, "k8s1master1", &install, &hostile).ok();
    let text = world.run(&["logs", "-q", "k8s1master1", "cloud-init"]).ok().stdout;
    let json = world.run(&["logs", "-q", "--json", "k8s1master1", "cloud-init"]).ok();
    let lines = json.json()["lines"].clone();
    assert_eq!(lines[0], "\u{1b}]52;c;eA==\u{7}\u{9b}2J\u{202e}", "a program gets the text");
    assert_eq!(lines[1], "token [masked]");
    assert!(
        text.starts_with("\\u{1b}]52;c;eA==\\u{7}\\u{9b}2J\\u{202e}\ntoken [masked]\n"),
        "{text}"
    );
    assert!(text.ends_with("more characters)\nend\n"), "{text}");
    let inside = key.lines().nth(2).unwrap();
    for said in [&text, &json.stdout] {
        let plain = |c: char| c == '\n' || c == '…' || matches!(c, ' '..='~');
        assert!(said.chars().all(plain), "{said:?}");
        assert!(!said.contains(inside) && !said.contains("0123456789abcdef"), "{said}");
    }
}

#[test]
fn a_log_that_cannot_be_read_is_an_error() {
    let world = World::new().made();
    ssh(&world, "k8s1master1", &["sudo", "rm", "-f", OUTPUT], "").ok();
    let ran = world.run(&["logs", "k8s1master1", "cloud-init"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (4, ""), "{ran:#?}");
    assert!(ran.stderr.contains("No such file or directory"), "{}", ran.stderr);
    let fault = "wrong-host-key@k8s1master1";
    let ran = world.run(&["logs", "k8s1master1", "--inject", fault]);
    assert_eq!((ran.code, ran.stdout.as_str()), (4, ""), "{ran:#?}");
    assert!(ran.stderr.contains("does not match the one in its seed"), "{}", ran.stderr);
    let ran = world.run(&["logs", "k8s1master1", "--follow", "--json"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:#?}");
    let ran = World::new().run(&["logs", "k8s1master1"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{ran:#?}");
    assert!(ran.stderr.contains("has no host key of `k8s1master1`"), "{}", ran.stderr);
}

#[test]
fn a_log_that_is_followed_goes_on_until_it_is_interrupted() {
    let server = Server::start();
    server.run(&["provision", "--quiet"], &server.endpoints).ok();
    let follow = ["logs", "--quiet", "--follow", "k8s1vrrp1", "haproxy"];
    let mut command = server.command(&follow, &server.endpoints);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert_eq!(lines.next().unwrap(), "Started HAProxy Load Balancer.");
    let reload = ["ssh", "--quiet", "k8s1vrrp1", "--", "sudo", "systemctl", "reload", "haproxy"];
    server.run(&reload, &server.endpoints).ok();
    assert_eq!(lines.next().unwrap(), "Reloaded haproxy.service.");
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(lines.next(), None);
}
