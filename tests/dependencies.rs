//! Checks Cargo.lock against `deny.toml` if cargo-deny is not installed: licenses and sources.
//! Advisories need cargo-deny and the network.

#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use spdx::{Expression, Licensee};

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// The output of `cargo metadata` for the packages of the workspace and all their dependencies.
fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

fn allowed() -> Vec<Licensee> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml");
    let rules: toml::Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
    let names = rules["licenses"]["allow"].as_array().unwrap();
    names.iter().map(|name| Licensee::parse(name.as_str().unwrap()).unwrap()).collect()
}

#[test]
fn every_dependency_has_a_license_that_deny_toml_allows() {
    let (allowed, packages) = (allowed(), packages());
    assert!(packages.len() > 100, "the dependencies were not found");
    let refused = |package: &Value| {
        let named = package["license"].as_str().unwrap_or_default();
        // Some packages still separate licenses with a slash.
        let wanted = Expression::parse_mode(named, spdx::ParseMode::LAX);
        let ok = wanted.is_ok_and(|wanted| {
            wanted.evaluate(|one| allowed.iter().any(|license| license.satisfies(one)))
        });
        (!ok).then(|| format!("{} {}: `{named}`", package["name"], package["version"]))
    };
    let wrong: Vec<String> = packages.iter().filter_map(refused).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_dependency_comes_from_crates_io_or_this_tree() {
    let other: Vec<String> = packages()
        .iter()
        .filter(|package| package["source"].as_str().is_some_and(|source| source != CRATES_IO))
        .map(|package| format!("{} from {}", package["name"], package["source"]))
        .collect();
    assert!(other.is_empty(), "{}", other.join("\n"));
}

#[test]
fn no_dependency_has_a_wildcard_version() {
    let any: Vec<String> = packages()
        .iter()
        .filter(|package| package["source"].is_null())
        .flat_map(|package| {
            let wild = |it: &&Value| it["req"] == "*" && it["path"].is_null();
            let all = package["dependencies"].as_array().unwrap();
            all.iter().filter(wild).map(|it| it["name"].to_string()).collect::<Vec<_>>()
        })
        .collect();
    assert!(any.is_empty(), "{}", any.join("\n"));
}
