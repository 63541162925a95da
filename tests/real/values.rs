//! Hostile values in every field of a profile, read back by the programs that read them on a node: each
//! of them gets the value that was typed, and nothing else.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use k8sha::cluster::{Cluster, Role};
use k8sha::kubeadm::config::{self, Join, Keys};
use secrecy::ExposeSecret as _;
use serde_json::Value;

use crate::hostile::{INPUTS, PIECES, places, read, tree, written};
use crate::kubeadm::Kubeadm;
use crate::lab::Lab;
use crate::{balancers, needs, profiles};

/// How many documents of a kind are passed to a program that has to be started for each.
const MOST: usize = 60;

/// Parses every text on standard input as YAML, as cloud-init does, and checks a user-data against
/// cloud-init's schema.
const CLOUD_INIT: &str = r##"
import json, sys, yaml
from cloudinit.config.schema import get_schema, validate_cloudconfig_schema
schema = get_schema()
for line in sys.stdin:
    text = json.loads(line)
    value = yaml.safe_load(text)
    if text.startswith("#cloud-config"):
        validate_cloudconfig_schema(value, schema, strict=True)
    print(json.dumps(value))
"##;

/// How many values are tried in a field, and how many of the accepted ones are used. Each field starts
/// with different pieces than the one before.
const TRIED: usize = 14;
const EACH: usize = 3;

/// Clusters of accepted profiles with a piece inside or at the end of a value.
fn accepted() -> &'static [Cluster] {
    static ACCEPTED: LazyLock<Vec<Cluster>> = LazyLock::new(|| {
        let mut clusters = Vec::new();
        for name in INPUTS {
            let tree = tree(name);
            let values = places(&tree).into_iter().filter(|(place, _)| !place.key);
            for (nth, (place, from)) in values.enumerate() {
                let cut = if nth % 2 == 0 { from.len() } else { from.len() / 2 };
                let (head, tail) = from.split_at(from.floor_char_boundary(cut));
                let pieces = PIECES.iter().cycle().skip(nth * 7).take(TRIED);
                let read = pieces.filter_map(|piece| {
                    let to = format!("{head}{piece}{tail}");
                    Some(read(&written(&tree, Some((&place, &to))).0).ok()?.cluster)
                });
                clusters.extend(read.take(EACH));
            }
        }
        assert!(clusters.len() > 100, "only {} profiles were accepted", clusters.len());
        clusters
    });
    &ACCEPTED
}

fn distinct(texts: impl Iterator<Item = String>) -> Vec<String> {
    texts.collect::<BTreeSet<String>>().into_iter().collect()
}

/// This many of them, from the first to the last.
fn some(texts: &[String]) -> impl Iterator<Item = &String> {
    texts.iter().step_by((texts.len() / MOST).max(1))
}

fn file<'a>(files: &'a [profiles::Planted], ending: &str) -> &'a str {
    &files.iter().find(|file| file.path.ends_with(ending)).unwrap().content
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn cloud_init_reads_every_accepted_value_as_it_was_rendered() {
    if !needs::asked_for(&["cloud-init", "python3"]) {
        return;
    }
    let mut texts = Vec::new();
    for cluster in accepted() {
        let mut roles = BTreeSet::new();
        for node in cluster.nodes.iter().filter(|node| roles.insert(node.role)) {
            let seed = profiles::seed(cluster, node);
            texts.push(seed.user_data.expose_secret().to_owned());
            texts.extend([seed.meta_data, seed.network_config]);
        }
    }
    let texts = distinct(texts.into_iter());
    // The system's own, which has cloud-init; isolated, because a folder here has the same name.
    let mut python = Command::new("/usr/bin/python3")
        .args(["-I", "-c", CLOUD_INIT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = python.stdin.take().unwrap();
    let lines: Vec<String> =
        texts.iter().map(|text| serde_json::to_string(text).unwrap() + "\n").collect();
    let writing = std::thread::spawn(move || {
        // If the reader has failed, its output says why.
        let _ = lines.iter().try_for_each(|line| stdin.write_all(line.as_bytes()));
    });
    let output = python.wait_with_output().unwrap();
    writing.join().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let answers: Vec<&str> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
    let culprit = texts.get(answers.len());
    assert!(output.status.success(), "{said}\n{culprit:?}");
    assert_eq!(answers.len(), texts.len());
    for (text, answer) in texts.iter().zip(answers) {
        let theirs: Value = serde_json::from_str(answer).unwrap();
        let ours: Value = serde_saphyr::from_str(text).unwrap();
        assert_eq!(theirs, ours, "cloud-init reads it in another way:\n{text}");
    }
    needs::say(&format!("cloud-init: {} documents read back unchanged", texts.len()));
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn haproxy_and_keepalived_accept_every_accepted_value() {
    if !needs::asked_for(&["haproxy", "keepalived", "ip"]) {
        return;
    }
    let Some(mut lab) = Lab::new() else { return };
    let mut seen = BTreeSet::new();
    let mut balancers = Vec::new();
    for cluster in accepted() {
        let node = cluster.with_role(Role::LoadBalancer).next().unwrap();
        let files = profiles::files(&profiles::seed(cluster, node));
        let both = ["haproxy.cfg", "keepalived.conf"].map(|name| file(&files, name).to_owned());
        if seen.insert(both) {
            balancers.push((node.clone(), files));
        }
    }
    for (nth, (node, files)) in balancers.iter().enumerate() {
        let machine = format!("lb{nth}");
        lab.add(&machine, &[node.ip]);
        let cell = || balancers::cell(files).in_network(&lab.name(&machine));
        let haproxy = cell().run(&["haproxy", "-c", "-f", "/etc/haproxy/haproxy.cfg"]);
        let before = balancers::before_keepalived(files);
        let test = ["keepalived", "--log-console", "--dont-fork", "--config-test"];
        let keepalived = cell().after(&before[0]).run(&test);
        for (name, output) in [("haproxy.cfg", haproxy), ("keepalived.conf", keepalived)] {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{said}\n{}", file(files, name));
            assert!(!said.contains("WARNING"), "{said}\n{}", file(files, name));
        }
    }
    needs::say(&format!("HAProxy and keepalived: {} configurations", balancers.len()));
}

#[test]
#[ignore = "builds kubeadm with Go; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn kubeadm_accepts_every_accepted_value() {
    if !needs::asked_for(&[]) {
        return;
    }
    let kubeadms = Kubeadm::all();
    let Some(newest) = kubeadms.iter().max_by_key(|kubeadm| kubeadm.version) else { return };
    let keys =
        Keys { token: "abcdef.0123456789abcdef".into(), certificate_key: "ab".repeat(32).into() };
    let join = Join {
        token: keys.token.clone(),
        ca_hashes: vec![format!("sha256:{}", "cd".repeat(32))],
        certificate_key: Some(keys.certificate_key.clone()),
    };
    let mut texts = Vec::new();
    for cluster in accepted() {
        let mut cluster = cluster.clone();
        cluster.kubernetes.version = newest.version;
        let master = cluster.first_master();
        let worker = cluster.with_role(Role::Worker).next().unwrap();
        for config in [
            config::init(&cluster, master, &keys),
            config::join(&cluster, master, &join),
            config::join(&cluster, worker, &join),
        ] {
            texts.push(config.unwrap().text().expose_secret().to_owned());
        }
    }
    let texts = distinct(texts.into_iter());
    let mut asked = 0;
    for text in some(&texts) {
        let said = newest.validate(text).unwrap_or_else(|said| panic!("{said}\n{text}"));
        assert!(said.lines().any(|line| line == "ok"), "{said}\n{text}");
        asked += 1;
    }
    needs::say(&format!("kubeadm {}: {asked} of {} configurations", newest.version, texts.len()));
}
