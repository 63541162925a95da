//! Holds the map of the house: which part may import which, and how large a file may grow.

#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Part → the parts that it may import. A part that is not listed may not exist.
const ARROWS: &[(&str, &[&str])] = &[
    ("cluster", &[]),
    ("error", &[]),
    ("files", &[]),
    ("net", &[]),
    ("pki", &[]),
    ("tempo", &[]),
    ("report", &["error"]),
    ("retry", &["report", "tempo"]),
    ("profile", &["cluster"]),
    ("cloudinit", &["cluster"]),
    ("proxmox", &["cluster", "retry", "report", "tempo"]),
    ("ssh", &["net", "report", "tempo"]),
    ("dns", &["cluster", "net"]),
    ("kubeadm", &["cluster", "ssh", "report", "tempo", "files", "pki"]),
    // Of the Proxmox side only the mark's text form, which is pure.
    ("plan", &["cluster", "proxmox"]),
    // Examines before a run; a run does not need it.
    ("doctor", &["cluster", "dns", "error", "net", "pki", "plan", "proxmox"]),
    ("routes", &["cluster", "error", "net", "ssh"]),
    ("state", &["cluster", "error", "files", "pki", "ssh"]),
    ("settings", &["cluster", "error", "proxmox"]),
    (
        "run",
        &[
            "cloudinit",
            "cluster",
            "dns",
            "error",
            "files",
            "kubeadm",
            "net",
            "plan",
            "proxmox",
            "report",
            "ssh",
            "state",
            "tempo",
        ],
    ),
    // The simulator shares nothing with the product: it would hide the client's mistakes.
    ("sim", &[]),
    (
        "cli",
        &[
            "cloudinit",
            "cluster",
            "dns",
            "doctor",
            "error",
            "files",
            "kubeadm",
            "net",
            "plan",
            "profile",
            "proxmox",
            "report",
            "routes",
            "run",
            "settings",
            "sim",
            "ssh",
            "state",
            "tempo",
        ],
    ),
];

/// Crates that only one part may know.
const FENCES: &[(&str, &[&str])] = &[
    ("backoff", &["src/retry.rs"]),
    ("russh", &["src/ssh/", "src/sim/", "src/profile/"]),
    ("hadris_iso", &["src/cloudinit/", "src/sim/"]),
    ("reqwest", &["src/proxmox/"]),
    ("hyper", &["src/sim/", "src/proxmox/"]),
    ("hickory_resolver", &["src/dns/"]),
    ("hickory_server", &["src/sim/", "src/dns/"]),
    ("indicatif", &["src/report/"]),
    ("clap", &["src/cli/"]),
    ("regex", &["src/sim/"]),
    ("socket2", &["src/net.rs"]),
];

const LONGEST_FILE: usize = 500;

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push((path.clone(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    walk(&root.join("src"), &mut found);
    assert!(found.len() > 50, "the sources were not found");
    let relative = |path: PathBuf| path.strip_prefix(root).unwrap().to_owned();
    let all = found.into_iter().map(|(path, text)| (relative(path), text));
    all.filter(|(path, _)| !is_test(path)).collect()
}

/// Whether a file is compiled for tests only.
fn is_test(path: &Path) -> bool {
    let names = ["tests", "tests.rs", "testing.rs", "fake.rs", "scripted.rs", "fixture.rs"];
    path.components().any(|part| names.iter().any(|name| part.as_os_str() == *name))
}

/// What a file says outside its unit tests and comments.
fn code(text: &str) -> String {
    let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    product
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn part(path: &Path) -> String {
    let second = path.components().nth(1).unwrap().as_os_str().to_string_lossy().into_owned();
    second.trim_end_matches(".rs").to_owned()
}

fn imports(text: &str) -> BTreeSet<String> {
    let name = |rest: &str| -> String {
        rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
    };
    text.match_indices("crate::").map(|(at, word)| name(&text[at + word.len()..])).collect()
}

#[test]
fn imports_point_one_way() {
    let arrows: BTreeMap<_, BTreeSet<_>> =
        ARROWS.iter().map(|(from, to)| (*from, to.iter().copied().collect())).collect();
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let from = part(&path);
        if ["main", "lib"].contains(&from.as_str()) {
            continue;
        }
        let Some(allowed) = arrows.get(from.as_str()) else {
            wrong.push(format!("{} belongs to no part of the map", path.display()));
            continue;
        };
        for to in imports(&code(&text)) {
            if to != from && arrows.contains_key(to.as_str()) && !allowed.contains(to.as_str()) {
                wrong.push(format!("{}: {from} may not import {to}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn crates_stay_behind_their_fences() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let code = code(&text);
        for (name, places) in FENCES {
            let used =
                code.contains(&format!("{name}::")) || code.contains(&format!("use {name};"));
            let inside = places.iter().any(|place| path.to_string_lossy().starts_with(place));
            if used && !inside {
                wrong.push(format!("{} uses {name}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_can_be_read_in_one_sitting() {
    let long: Vec<String> = sources()
        .into_iter()
        .filter(|(_, text)| text.lines().count() > LONGEST_FILE)
        .map(|(path, text)| format!("{}: {} lines", path.display(), text.lines().count()))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}
