//! First boots that fail, and their error messages.

use std::fs;
use std::path::Path;

use crate::site::{Site, asked};

/// k8sha's template of a balancer with an addition, in a folder for `--templates`.
fn templates(site: &Site, changes: &[(&str, &str)]) -> String {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../cloudinit/load-balancer.yaml");
    let mut text = fs::read_to_string(ours).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "`{from}` is not in the template");
        text = text.replacen(from, &format!("{from}{to}"), 1);
    }
    let folder = site.path().join("templates");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("load-balancer.yaml"), text).unwrap();
    folder.to_str().unwrap().to_owned()
}

#[test]
#[ignore = "real tier"]
fn a_failed_command_and_a_missing_package_are_reported_with_the_relevant_lines() {
    if !asked("a_command_that_fails_and_a_package_that_does_not_exist") {
        return;
    }
    let site = Site::start();
    let folder = templates(
        &site,
        &[
            (
                "{% block packages %}",
                "\n{%- if node.name == \"lb2\" %}\n  - no-such-package\n{%- endif %}",
            ),
            (
                "{% block commands %}",
                "\n{%- if node.name == \"lb1\" %}\n  - [ls, /no/such/folder]\n{%- endif %}",
            ),
        ],
    );
    let ran = site.run(&["provision", "--templates", &folder]);
    assert_eq!(ran.code, 4, "{ran:#?}");
    let part = |node: &str| {
        let start = ran.stdout.find(&format!("error: cannot prepare the node ({node})"));
        let rest = &ran.stdout[start.unwrap_or_else(|| panic!("{node}: {ran:#?}"))..];
        rest[7..].split("\nerror: ").next().unwrap().to_owned()
    };
    let (command, package) = (part("lb1"), part("lb2"));
    assert!(command.contains("ls: cannot access '/no/such/folder'"), "{command}");
    assert!(package.contains("E: Unable to locate package no-such-package"), "{package}");
    // Keys and routes that cloud-init prints at its end explain nothing.
    assert!(!command.contains("ci-info:") && !command.contains("SSH HOST KEY"), "{command}");
    assert!(ran.stdout.contains("master1") && !ran.stdout.contains("node (master1)"), "{ran:#?}");
}

#[test]
#[ignore = "real tier"]
fn packages_are_really_installed_and_an_unreachable_mirror_is_reported() {
    if !asked("packages_are_really_installed_and_an_unreachable_mirror_is_reported") {
        return;
    }
    let site = Site::start();
    // Nothing listens on port 9 of the node itself.
    let folder = templates(
        &site,
        &[
            ("{% block packages %}", "\n  - hello"),
            (
                "{% extends \"user-data.yaml\" %}",
                "\n{% block apt %}{% if node.name == \"lb2\" %}\napt:\n  http_proxy: \
                 http://127.0.0.1:9\n{%- endif %}{% endblock apt %}",
            ),
        ],
    );
    let ran = site.run(&["provision", "--templates", &folder]);
    assert_eq!(ran.code, 4, "{ran:#?}");
    assert!(site.disk("1011", "usr/bin/hello").is_file());
    assert!(!site.disk("1012", "usr/bin/hello").exists());
    assert!(!ran.stdout.contains("node (lb1)"), "{ran:#?}");
    assert!(ran.stdout.contains("node (lb2)"), "{ran:#?}");
    assert!(ran.stdout.contains("127.0.0.1:9") || ran.stdout.contains("127.0.0.1 9"), "{ran:#?}");
}
