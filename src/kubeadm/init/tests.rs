use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::cluster::fixture::k8s1;
use crate::kubeadm::fake::{Files, Host};
use crate::ssh::fake::Reply;

const REFUSED: &str = "The connection to the server k8s1api.kloud.lan:6443 was refused - did you \
                       specify the right host or port?\n";

/// The files that `kubeadm init` leaves.
fn initialise(files: &Files) {
    let mut files = files.lock().unwrap();
    for path in [path::CA, path::ADMIN, path::KUBELET, path::APISERVER] {
        files.insert(path.into(), b"x".to_vec());
    }
    files.insert(Unit::Init.log().into(), b"[init] Using Kubernetes version: v1.28.4\n".to_vec());
}

fn configmap(name: &str) -> Reply {
    Reply::out(format!(
        r#"{{"data":{{"ClusterConfiguration":"apiServer: {{}}\nclusterName: {name}\n"}}}}"#
    ))
}

/// A master on which a unit, once started, finishes at once with the result `ok`.
async fn master(ok: bool, name: &'static str) -> (Host, Arc<AtomicBool>) {
    let started = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&started);
    let host = Host::start(move |words, files| match words {
        ["systemctl", "show", ..] => Some(Reply::out(match (seen.load(Ordering::SeqCst), ok) {
            (false, _) => "LoadState=not-found\nActiveState=inactive\nSubState=dead\n",
            (true, true) => "LoadState=loaded\nActiveState=active\nSubState=exited\n",
            (true, false) => {
                "LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=exit-code\n\
                 ExecMainStatus=1\n"
            }
        })),
        ["systemctl", "stop" | "reset-failed", _] => {
            seen.store(false, Ordering::SeqCst);
            Some(Reply::out(""))
        }
        ["kubeadm", "config", "validate", "--config", path::INIT] => Some(Reply::out("ok\n")),
        ["systemd-run", ..] => {
            seen.store(true, Ordering::SeqCst);
            if ok {
                initialise(files);
            } else {
                let text = "[preflight] Some fatal errors occurred:\n\t[ERROR NumCPU]: too few\n";
                files.lock().unwrap().insert(Unit::Init.log().into(), text.into());
            }
            Some(Reply::out(""))
        }
        ["kubectl", ..] if !files.lock().unwrap().contains_key(path::APISERVER) => {
            Some(Reply::code(1, REFUSED))
        }
        ["kubectl", ..] => Some(configmap(name)),
        _ => None,
    })
    .await;
    (host, started)
}

fn clock() -> Clock {
    Clock::simulated(1000.0).hurried(1000.0)
}

fn run_line(host: &Host) -> Option<String> {
    host.fake.lines().into_iter().rfind(|line| line.contains("systemd-run"))
}

#[tokio::test]
async fn a_fresh_master_is_initialised_once() {
    let (host, _) = master(true, "k8s1-cluster").await;
    let (first, cluster) = (host.remote("m1"), k8s1());
    assert!(run(&first, &cluster.nodes[2], &cluster, clock()).await.unwrap());
    assert!(keys::find(&host.text(path::INIT).unwrap()).is_some());
    assert!(host.text(path::INIT_OVER).is_some(), "its end is on record");
    assert!(run_line(&host).unwrap().ends_with(
        "-- /usr/bin/kubeadm init --config /etc/kubernetes/k8sha/init.yaml --upload-certs"
    ));
    let before = host.fake.lines().len();
    assert!(!run(&first, &cluster.nodes[2], &cluster, clock()).await.unwrap());
    let changes = ["systemd-run", "install", "systemctl stop", "rm"];
    for line in &host.fake.lines()[before..] {
        assert!(!changes.iter().any(|change| line.contains(change)), "{line}");
    }
}

#[tokio::test]
async fn an_interrupted_init_goes_on_with_its_own_keys_and_certificates() {
    let (host, _) = master(true, "k8s1-cluster").await;
    let config = config::init(&k8s1(), &k8s1().nodes[2], &keys::generate()).unwrap();
    let text = config.text().expose_secret();
    host.put(path::INIT, text);
    host.put(path::CA, "x");
    assert!(run(&host.remote("m1"), &k8s1().nodes[2], &k8s1(), clock()).await.unwrap());
    assert_eq!(host.text(path::INIT).unwrap(), *text);
    let line = run_line(&host).unwrap();
    for name in ["FileAvailable--etc-kubernetes-manifests-kube-apiserver.yaml", "Port-6443"] {
        assert!(line.contains(name), "{line}");
    }
}

#[tokio::test]
async fn a_failure_tells_the_check_and_what_to_do() {
    let (host, _) = master(false, "k8s1-cluster").await;
    let error = run(&host.remote("m1"), &k8s1().nodes[2], &k8s1(), clock()).await.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("`k8sha-kubeadm-init` failed on `m1` (exit-code, exit status 1)"));
    assert!(text.contains("[ERROR NumCPU]: too few"), "{text}");
    assert!(error.hint().unwrap().contains("raise `vcpu`"));
}

#[tokio::test]
async fn a_master_of_another_cluster_is_left_alone() {
    let (host, _) = master(true, "prod").await;
    initialise(&host.files);
    let error = run(&host.remote("m1"), &k8s1().nodes[2], &k8s1(), clock()).await.unwrap_err();
    assert_eq!(error.to_string(), "`m1` already runs the cluster `prod`, not `k8s1-cluster`");
    assert_eq!(run_line(&host), None);
}
