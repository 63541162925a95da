//! Foreign texts on their way to a terminal, a log and a program; some contain secrets.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::standing::Server;
use crate::world::{World, k8sha};

/// ESC with OSC 52, C1's CSI, a direction override.
const HOSTILE: &str = "\u{1b}]52;c;aGk=\u{7}\u{9b}2J\u{202e}";

fn assert_harmless(text: &str) {
    let raw = text.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
    assert_eq!(raw, None, "{text:.2000}");
}

fn logs(folder: &Path) -> String {
    let entries = fs::read_dir(folder.join("log")).unwrap();
    let texts = entries.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
    texts.collect::<Vec<_>>().concat()
}

#[test]
fn a_profiles_values_and_file_name_are_never_printed_raw() {
    let mut world = World::new();
    let value = format!("name: \"{HOSTILE}\\nerror: forged\"");
    let value = value.replace('\u{1b}', "\\e").replace('\u{7}', "\\a").replace('\u{9b}', "\\x9b");
    world.with_profile("mine.yaml", &[("name: k8s1-cluster", &value)]);
    let ran = world.run(&["plan"]);
    assert_eq!(ran.code, 2, "{ran:#?}");
    assert_harmless(&ran.stderr);
    assert!(!ran.stderr.contains("\nerror: forged"), "{}", ran.stderr);
    assert!(ran.stderr.contains("a control character (U+001B)"), "{}", ran.stderr);
    for args in [["plan", "--profile"], ["dns", "--jump"], ["plan", "--simulate"]] {
        let name = format!("./{HOSTILE}.yaml");
        let ran = k8sha(&[args[0], args[1], &name]);
        assert_harmless(&ran.stderr);
        let _ = fs::remove_dir_all(&name);
    }
}

#[test]
fn an_echoed_token_is_masked_in_the_output_and_in_the_log() {
    let server = Server::start();
    let mut endpoints = server.endpoints.clone();
    let secret = "echo%2F+echo-\u{e9}-secret";
    // An unknown host: the error quotes its address.
    endpoints["hosts"]["pve1"]["token"] = Value::from(format!("k8sha@pve!k8sha={secret}"));
    endpoints["hosts"]["pve1"]["url"] =
        Value::from(format!("https://127.0.0.1:9/{secret}{HOSTILE}"));
    for args in [&["plan", "-vv"][..], &["plan", "--json"], &["doctor"], &["doctor", "--json"]] {
        let mut command = server.command(args, &endpoints);
        command.env("RUST_LOG", "trace");
        let ran = crate::world::run(command);
        assert_ne!(ran.code, 0);
        let said =
            format!("{}{}{}", ran.stdout, ran.stderr, logs(&server.folder.path().join("state")));
        assert_harmless(&said);
        for form in [secret, "echo-\u{e9}-secret", "echo-%C3%A9-secret", "echo-%c3%a9-secret"] {
            assert!(!said.contains(form), "{form} after {args:?}: {said:.4000}");
        }
        assert!(said.contains("[masked]"), "{args:?}: {said:.2000}");
    }
}

#[test]
fn a_log_has_no_colours_and_is_json_line_by_line() {
    let world = World::new();
    let mut command = world.command(&["provision", "--pve", "pve1", "-vv"]);
    // Even a user who wants colours everywhere gets none there.
    command.env_remove("NO_COLOR").env("CLICOLOR_FORCE", "1");
    let ran = crate::world::run(command).ok();
    assert_harmless(&ran.stderr);
    assert!(ran.stderr.contains("DEBUG"), "{:.2000}", ran.stderr);
    let log = logs(&world.path().join("operator/k8s1-cluster"));
    assert_harmless(&log);
    assert!(log.lines().count() > 20);
    for line in log.lines() {
        assert!(serde_json::from_str::<Value>(line).unwrap().is_object());
    }
}
