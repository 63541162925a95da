//! Hostile values in every field of a profile: each is refused at its position, or appears unchanged in
//! every document.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that panics is a test that fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use k8sha::cloudinit::{NodeSecrets, Templates, render};
use k8sha::cluster::{Cluster, Role};
use k8sha::kubeadm::cni;
use k8sha::kubeadm::config::{self, Join, Keys};
use k8sha::profile::{self, Rejected, Severity};
use proptest::prelude::*;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

#[path = "kit/hostile.rs"]
mod hostile;

use hostile::{INPUTS, PIECES, Place, read, written};

/// A profile of these tests, all its places, and its documents.
struct Base {
    tree: Value,
    places: Vec<(Place, String)>,
    documents: Vec<(String, Value)>,
}

static BASES: LazyLock<Vec<Base>> = LazyLock::new(|| INPUTS.map(base).into());
static TEMPLATES: LazyLock<Templates> = LazyLock::new(|| Templates::builtin().unwrap());

fn base(name: &str) -> Base {
    let tree = hostile::tree(name);
    let places = hostile::places(&tree);
    let (text, _) = written(&tree, None);
    let loaded = read(&text).unwrap_or_else(|bad| panic!("{}", bad.render(profile::Colour::Off)));
    Base { documents: documents(&loaded.cluster), places, tree }
}

/// Every document of a cluster, parsed; documents other than YAML as their lines.
fn documents(cluster: &Cluster) -> Vec<(String, Value)> {
    let secrets = NodeSecrets {
        host_key_private: "PRIVATE".into(),
        host_key_public: "ssh-ed25519 HOST".to_owned(),
        operator_public: "ssh-ed25519 OPERATOR k8sha".to_owned(),
    };
    let mut all = Vec::new();
    let yaml = |text: &str| -> Vec<Value> {
        let parsed = serde_saphyr::from_multiple(text);
        parsed.unwrap_or_else(|error| panic!("{error}\n{text}"))
    };
    for (nth, node) in cluster.nodes.iter().enumerate() {
        let seed = render(&TEMPLATES, cluster, node, &secrets, "i-1").unwrap();
        for (what, text) in [
            ("user-data", seed.user_data.expose_secret()),
            ("meta-data", &seed.meta_data),
            ("network-config", &seed.network_config),
        ] {
            all.push((format!("{what} of row {nth}"), Value::Array(yaml(text))));
        }
    }
    let keys =
        Keys { token: "abcdef.0123456789abcdef".into(), certificate_key: "ab".repeat(32).into() };
    let join = Join {
        token: keys.token.clone(),
        ca_hashes: vec!["sha256:00".to_owned()],
        certificate_key: Some(keys.certificate_key.clone()),
    };
    let init = config::init(cluster, cluster.first_master(), &keys).unwrap();
    all.push(("kubeadm init".to_owned(), Value::Array(yaml(init.text().expose_secret()))));
    for role in [Role::Master, Role::Worker] {
        let node = cluster.with_role(role).next().unwrap();
        let joined = config::join(cluster, node, &join).unwrap();
        let name = format!("kubeadm join of a {role}");
        all.push((name, Value::Array(yaml(joined.text().expose_secret()))));
    }
    if let Some(text) = cni::rendered(cluster).unwrap() {
        // Calico's is YAML, Cilium's is a command line.
        let parsed = if text.contains("apiVersion") { yaml(&text) } else { vec![text.into()] };
        all.push(("pod network".to_owned(), Value::Array(parsed)));
    }
    all
}

/// Fails unless two documents have the same keys, the same counts and the same lines, and every text is
/// the same except for the changed value.
fn compare<'a>(at: &str, was: &'a Value, now: &'a Value, from: &str, to: &str) {
    match (was, now) {
        (Value::Object(was), Value::Object(now)) => {
            let keys =
                |map: &serde_json::Map<String, Value>| map.keys().cloned().collect::<Vec<_>>();
            assert_eq!(keys(was), keys(now), "{at}: other keys with {to:?}");
            for (key, was) in was {
                compare(&format!("{at}.{key}"), was, &now[key], from, to);
            }
        }
        (Value::Array(was), Value::Array(now)) => {
            assert_eq!(was.len(), now.len(), "{at}: other entries with {to:?}");
            for (nth, (was, now)) in was.iter().zip(now).enumerate() {
                compare(&format!("{at}[{nth}]"), was, now, from, to);
            }
        }
        (Value::String(was), Value::String(now)) => {
            // This line represents a mirror's path with its API version in it.
            let lines =
                |text: &'a str| text.lines().filter(|line| *line != "  override_path = true");
            assert_eq!(
                lines(now).count(),
                lines(was).count(),
                "{at}: other lines with {to:?}:\n{now}"
            );
            let put = lines(was).zip(lines(now)).all(|(was, now)| {
                // A short word (a number) occurs in many unrelated places, and only Docker Hub is
                // served under a different name than its images have.
                was == now
                    || was.replace(from, to) == now
                    || was.replace("registry-1.docker.io", to) == now
                    || from.len() < 4
            });
            assert!(put, "{at}: {was:?} became {now:?} with {to:?} for {from:?}");
            let steering = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
            assert!(!now.contains(steering), "{at}: {now:?}");
        }
        (was, now) => assert_eq!(
            std::mem::discriminant(was),
            std::mem::discriminant(now),
            "{at}: {was} became {now} with {to:?}"
        ),
    }
}

/// Whether the error is at this line.
fn stands_at(rejected: &Rejected, line: usize) -> bool {
    let text = &rejected.source.text;
    let line_of = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
    rejected.complaints.iter().any(|complaint| {
        complaint.severity == Severity::Error
            && complaint.spans.iter().any(|(span, _)| line_of(span.start) == line)
    })
}

/// Puts a text at a place and checks the result; true if the profile was accepted.
fn holds(base: &Base, place: &Place, from: &str, to: &str) -> bool {
    let (text, line) = written(&base.tree, Some((place, to)));
    match read(&text) {
        Err(rejected) => {
            // The error may be at a reference to a name (a host, an image, an etcd endpoint) instead.
            let named = place.key
                || place.path.contains(&"endpoints".to_owned())
                || ["os", "pve"].iter().any(|key| place.path.ends_with(&[(*key).to_owned()]));
            let here = stands_at(&rejected, line);
            assert!(
                here || named,
                "{place:?} = {to:?}: no complaint at line {line}\n{}",
                rejected.render(profile::Colour::Off)
            );
            assert!(!rejected.render(profile::Colour::Off).contains('\u{1b}'));
            false
        }
        Ok(loaded) => {
            let now = documents(&loaded.cluster);
            assert_eq!(now.len(), base.documents.len(), "{place:?} = {to:?}");
            for ((name, was), (_, now)) in base.documents.iter().zip(&now) {
                compare(name, was, now, from, to.trim());
            }
            true
        }
    }
}

/// Line breaks in each form that some parser accepts as one.
const BREAKS: &[&str] = &["\n", "\r", "\u{85}", "\u{2028}", "\u{2029}", "\u{b}"];

#[test]
fn the_inputs_have_every_field_of_the_schema() {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/schema.json");
    let schema: Value = serde_json::from_str(&fs::read_to_string(schema).unwrap()).unwrap();
    let mut wanted = BTreeSet::new();
    fields(&schema, &mut wanted);
    assert!(wanted.len() > 80, "{wanted:?}");
    let all = BASES.iter().flat_map(|base| &base.places);
    let has: BTreeSet<&str> = all
        .filter(|(place, _)| place.key)
        .filter_map(|(place, _)| place.path.last().map(String::as_str))
        .collect();
    // A profile has only one of three pod networks, and one of three kinds of etcd.
    let elsewhere = ["manifest"];
    let missing: Vec<&String> = wanted
        .iter()
        .filter(|field| !has.contains(field.as_str()) && !elsewhere.contains(&field.as_str()))
        .collect();
    assert!(missing.is_empty(), "add these to tests/input/full-*.yaml: {missing:?}");
}

fn fields(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(map) => {
            for (key, value) in map {
                if let ("properties", Value::Object(properties)) = (key.as_str(), value) {
                    found.extend(properties.keys().cloned());
                }
                fields(value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| fields(item, found)),
        _ => {}
    }
}

#[test]
fn no_line_break_gets_into_any_field_or_key() {
    for base in BASES.iter() {
        for (place, from) in &base.places {
            // At the end of a value, where trimming would remove it, and inside.
            let behind = format!("{from}\n");
            let inside = BREAKS.iter().map(|piece| format!("{from}{piece}more"));
            for to in inside.chain([behind]) {
                let (text, line) = written(&base.tree, Some((place, &to)));
                let rejected = read(&text).expect_err("a line break is refused");
                assert!(stands_at(&rejected, line), "{place:?} = {to:?}");
            }
        }
    }
}

#[test]
fn every_piece_is_refused_or_unchanged_in_the_most_permissive_fields() {
    let base = &BASES[0];
    let most = [
        "access.authorized_keys.0",
        "access.user",
        "access.identity",
        "cluster.name",
        "nodes.2.name",
        "network.domain",
        "proxmox.cpu",
    ];
    let mut accepted = 0;
    for (place, from) in &base.places {
        if place.key || !most.contains(&place.path.join(".").as_str()) {
            continue;
        }
        for piece in PIECES {
            for to in [format!("{from}{piece}"), (*piece).to_owned()] {
                accepted += usize::from(holds(base, place, from, &to));
            }
        }
    }
    assert!(accepted > 100, "only {accepted} were accepted: too few documents were tried");
}

#[test]
fn the_comparison_detects_an_injection() {
    let was = json!({"users": [{"name": "operator1"}], "file": "user operator1\nend\n"});
    let sees = |now: &Value, to: &str| {
        let compared = std::panic::catch_unwind(|| compare("x", &was, now, "operator1", to));
        compared.is_err()
    };
    let fine = json!({"users": [{"name": "eve"}], "file": "user eve\nend\n"});
    assert!(!sees(&fine, "eve"));
    for now in [
        json!({"users": [{"name": "eve"}], "file": "user eve\nend\n", "more": 1}),
        json!({"users": [{"name": "eve"}, {"name": "x"}], "file": "user eve\nend\n"}),
        json!({"users": [{"name": "eve"}], "file": "user eve\nmore\nend\n"}),
        json!({"users": [{"name": "eve"}], "file": "user adam\nend\n"}),
        json!({"users": [{"name": null}], "file": "user eve\nend\n"}),
        json!({"users": [{"name": "eve\u{1b}"}], "file": "user eve\nend\n"}),
    ] {
        assert!(sees(&now, "eve"), "{now}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_hostile_value_is_refused_at_its_position_or_comes_out_unchanged(
        which in 0..INPUTS.len(),
        place in any::<prop::sample::Index>(),
        pieces in prop::collection::vec(prop::sample::select(PIECES), 1..3),
        at in any::<prop::sample::Index>(),
    ) {
        let base = &BASES[which];
        let (place, from) = place.get(&base.places);
        let cut = from.floor_char_boundary(at.index(from.len() + 1));
        let to = format!("{}{}{}", &from[..cut], pieces.concat(), &from[cut..]);
        holds(base, place, from, &to);
    }
}
