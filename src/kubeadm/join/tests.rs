use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::PublicKeyData as _;
use serde_json::json;

use super::*;
use crate::cluster::fixture::k8s1;
use crate::kubeadm::fake::Host;
use crate::ssh::fake::Reply;

/// The machine that joins.
const MACHINE: &str = "5f0c";

fn facts(join: State, kubelet: bool, apiserver: bool) -> Facts {
    Facts { join, kubelet, apiserver, machine_id: "own".into(), ..Facts::default() }
}

fn registered(roles: &[&str]) -> ready::Registered {
    ready::Registered {
        name: "n".into(),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        ready: false,
        message: None,
        version: "v1.28.4".into(),
        address: None,
        machine_id: "own".into(),
        cordoned: false,
        leaving: false,
    }
}

#[test]
fn what_to_do_follows_from_what_is_there() {
    let failed = || State::Failed { result: "exit-code".into(), code: "1".into() };
    let (plain, master) = (registered(&[]), registered(&["control-plane"]));
    let other = ready::Registered { machine_id: "another".into(), ..plain.clone() };
    for (role, facts, seen, want) in [
        (Role::Worker, facts(State::Absent, false, false), None, Next::Join),
        (Role::Worker, facts(State::Running, true, false), None, Next::Follow),
        (Role::Worker, facts(State::Done, true, false), Some(&plain), Next::Nothing),
        // The node was rebooted since: systemd has forgotten the unit.
        (Role::Master, facts(State::Absent, true, true), Some(&master), Next::Nothing),
        // Registered by its kubelet, and then interrupted: a separate step resets it.
        (Role::Master, facts(State::Absent, true, true), Some(&plain), Next::Refuse),
        (Role::Master, facts(failed(), true, true), Some(&master), Next::Refuse),
        (Role::Worker, facts(failed(), false, false), None, Next::Join),
        // A kubelet that serves under another name, or as another machine.
        (Role::Worker, facts(State::Absent, true, false), None, Next::Refuse),
        (Role::Worker, facts(State::Absent, true, false), Some(&other), Next::Refuse),
        // A node of that name from an earlier cluster.
        (Role::Worker, facts(State::Absent, false, false), Some(&other), Next::Join),
    ] {
        assert_eq!(next(role, &facts, seen), want, "{role} {facts:?} {seen:?}");
    }
}

#[test]
fn kubeadms_words_for_what_has_run_out_are_known() {
    let line = |text: &str| vec![text.to_owned()];
    assert!(has_run_out(&line(
        "error execution phase control-plane-prepare/download-certs: error downloading certs: \
         error downloading the secret: Secret \"kubeadm-certs\" was not found in the \
         \"kube-system\" Namespace. This Secret might have expired."
    )));
    assert!(has_run_out(&line("cipher: message authentication failed")));
    assert!(!has_run_out(&line("[ERROR Port-10250]: Port 10250 is in use")));
}

/// A CA as kubeadm creates one; its public key is known.
fn ca() -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).unwrap().pem();
    (pem, format!("sha256:{}", files::sha256(&key.subject_public_key_info())))
}

#[test]
fn the_ca_hash_is_that_of_its_public_key() {
    let (pem, hash) = ca();
    assert_eq!(files::spki_hash(&pem).unwrap(), hash);
    assert!(files::spki_hash("nothing").is_err());
}

/// A first master whose API knows a token, uploaded certificates, and the masters that have joined.
async fn first(joined: Vec<(String, Arc<AtomicBool>)>, uploads: Arc<AtomicUsize>) -> Host {
    let host = Host::start(move |words, files| match words {
        ["kubectl", "--kubeconfig", _, "get", "nodes", ..] => {
            let labels = json!({"node-role.kubernetes.io/control-plane": ""});
            let items: Vec<_> = joined
                .iter()
                .filter(|(_, joined)| joined.load(Ordering::SeqCst))
                .map(|(name, _)| {
                    json!({"metadata": {"name": name, "labels": labels},
                    "status": {"nodeInfo": {"machineID": MACHINE}}})
                })
                .collect();
            Some(Reply::out(json!({ "items": items }).to_string()))
        }
        ["kubectl", .., "get", "secrets", "--field-selector", _, "-o", "json"] => {
            let files = files.lock().unwrap();
            let text = files.get(path::KEYS).unwrap_or(&files[path::INIT]).clone();
            let text = String::from_utf8(text).unwrap();
            let token = keys::find(&text).unwrap().token;
            let id = token.expose_secret()[..6].to_owned();
            let secret = |id: &str| {
                json!({"data": {
                    "token-id": STANDARD.encode(id),
                    "expiration": STANDARD.encode("2026-11-22T12:00:00Z"),
                }})
            };
            Some(Reply::out(json!({"items": [secret(&id), secret("certs0")]}).to_string()))
        }
        ["kubectl", .., "get", "secret", "kubeadm-certs", "-o", "json"] => {
            let owner = json!([{"name": "bootstrap-token-certs0"}]);
            Some(Reply::out(json!({"metadata": {"ownerReferences": owner}}).to_string()))
        }
        // 2026-11-22T11:00:00Z, an hour before both expire.
        ["date", "-u", "+%s"] => Some(Reply::out("1795345200\n")),
        ["kubeadm", "token", "create", "--config", path::KEYS] => Some(Reply::out("ok\n")),
        ["kubeadm", "init", "phase", "upload-certs", "--upload-certs", "--config", path::KEYS] => {
            uploads.fetch_add(1, Ordering::SeqCst);
            Some(Reply::out("ok\n"))
        }
        _ => None,
    })
    .await;
    let config = config::init(&k8s1(), &k8s1().nodes[2], &keys::generate()).unwrap();
    host.put(path::INIT, config.text().expose_secret());
    host.put(path::CA, ca().0);
    host
}

/// A master on which joins succeed from the `good`-th attempt on; earlier attempts have an expired
/// key.
async fn joiner(joined: Arc<AtomicBool>, good: usize) -> Host {
    let (tries, active) = (AtomicUsize::new(0), AtomicBool::new(false));
    Host::start(move |words, files| match words {
        ["systemctl", "show", .., "k8sha-kubeadm-join"] => {
            Some(Reply::out(match (active.load(Ordering::SeqCst), joined.load(Ordering::SeqCst)) {
                (false, _) => "LoadState=not-found\nActiveState=inactive\nSubState=dead\n",
                (true, true) => "LoadState=loaded\nActiveState=active\nSubState=exited\n",
                (true, false) => "LoadState=loaded\nActiveState=failed\nSubState=failed\n",
            }))
        }
        ["systemctl", "show", ..] => Some(Reply::out("ActiveState=inactive\n")),
        ["cat", "/etc/machine-id"] => Some(Reply::out(MACHINE)),
        ["cat", "/sys/class/dmi/id/product_uuid"] => Some(Reply::code(1, "no such file")),
        ["kubeadm", "reset", "-f", ..] => Some(Reply::out("")),
        ["systemctl", "reset-failed", _] => {
            active.store(false, Ordering::SeqCst);
            Some(Reply::out(""))
        }
        ["systemd-run", ..] => {
            active.store(true, Ordering::SeqCst);
            let mut files = files.lock().unwrap();
            if tries.fetch_add(1, Ordering::SeqCst) + 1 >= good {
                joined.store(true, Ordering::SeqCst);
                for path in [path::KUBELET, path::APISERVER] {
                    files.insert(path.into(), b"x".to_vec());
                }
                files.insert(path::CA.into(), ca().0.into());
            } else {
                let text = "error downloading certs: Secret \"kubeadm-certs\" was not found in the \
                            \"kube-system\" Namespace\n";
                files.insert(Unit::Join.log().into(), text.into());
            }
            Some(Reply::out(""))
        }
        _ => None,
    })
    .await
}

async fn join_master(good: usize) -> (Result<bool, Error>, Host, usize) {
    let (joined, uploads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let cluster = k8s1();
    let node = &cluster.nodes[3];
    let nodes = vec![(node.fqdn.clone(), Arc::clone(&joined))];
    let first = first(nodes, Arc::clone(&uploads)).await;
    let host = joiner(joined, good).await;
    let (credentials, via) = (JoinCredentials::default(), first.remote("m1"));
    let clock = Clock::simulated(1000.0).hurried(1000.0);
    let result = run(&host.remote("m2"), &via, node, &cluster, &credentials, clock).await;
    if result.is_ok() {
        let again = run(&host.remote("m2"), &via, node, &cluster, &credentials, clock).await;
        assert!(!again.unwrap(), "a second join changes nothing");
    }
    (result, host, uploads.load(Ordering::SeqCst))
}

#[tokio::test]
async fn a_master_joins_and_keeps_no_secrets() {
    let (result, host, uploads) = join_master(1).await;
    assert!(result.unwrap());
    assert_eq!(uploads, 0, "what is good for an hour is not renewed");
    assert_eq!(host.text(path::JOIN), None);
}

#[tokio::test]
async fn an_expired_key_is_renewed_once_and_the_join_tried_again() {
    let (result, host, uploads) = join_master(2).await;
    assert!(result.unwrap());
    assert_eq!(uploads, 1);
    let resets = host.fake.lines().iter().filter(|line| line.contains("kubeadm reset")).count();
    assert_eq!(resets, 0, "nothing was left behind");
}

#[tokio::test]
async fn a_key_that_stays_expired_is_an_error_after_the_second_try() {
    let (result, host, uploads) = join_master(9).await;
    let error = result.unwrap_err();
    assert!(error.to_string().contains("kubeadm-certs"), "{error}");
    assert_eq!(uploads, 1);
    let runs = host.fake.lines().iter().filter(|line| line.contains("systemd-run")).count();
    assert_eq!(runs, 2);
}

#[tokio::test]
async fn masters_that_are_refused_together_renew_once_between_them() {
    let cluster = k8s1();
    let uploads = Arc::new(AtomicUsize::new(0));
    let flags: Vec<Arc<AtomicBool>> = (0..3).map(|_| Arc::default()).collect();
    let nodes = &cluster.nodes[3..6];
    let names = nodes.iter().map(|node| node.fqdn.clone()).zip(flags.clone()).collect();
    let first = first(names, Arc::clone(&uploads)).await;
    let (credentials, via) = (JoinCredentials::default(), first.remote("m1"));
    let (a, b, c) = (
        joiner(Arc::clone(&flags[0]), 2).await,
        joiner(Arc::clone(&flags[1]), 2).await,
        joiner(Arc::clone(&flags[2]), 2).await,
    );
    let join = |host: &Host, node: usize| {
        let remote = host.remote(nodes[node].name.as_str());
        let (node, cluster, credentials, via) = (&nodes[node], &cluster, &credentials, &via);
        async move {
            run(&remote, via, node, cluster, credentials, Clock::simulated(1000.0).hurried(1000.0))
                .await
        }
    };
    let joined = tokio::try_join!(join(&a, 0), join(&b, 1), join(&c, 2));
    assert_eq!(joined.unwrap(), (true, true, true));
    assert_eq!(uploads.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_node_with_anything_of_kubernetes_is_never_reset_by_a_join() {
    let cluster = k8s1();
    let flag: Arc<AtomicBool> = Arc::default();
    let node = &cluster.nodes[3];
    let first = first(vec![(node.fqdn.clone(), Arc::clone(&flag))], Arc::default()).await;
    let host = joiner(flag, 1).await;
    host.put(path::KUBELET, "serves a cluster");
    let (credentials, via) = (JoinCredentials::default(), first.remote("m1"));
    let clock = Clock::simulated(1000.0).hurried(1000.0);
    let error =
        run(&host.remote("m2"), &via, node, &cluster, &credentials, clock).await.unwrap_err();
    assert!(matches!(error, Error::NotFresh { .. }), "{error}");
    let changes = ["kubeadm reset", "systemd-run", "install", "rm "];
    for line in host.fake.lines() {
        assert!(!changes.iter().any(|change| line.contains(change)), "{line}");
    }
}
