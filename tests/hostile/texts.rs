//! Foreign texts: no raw text reaches a terminal, a log or a document, and no secret is printed.

use serde_json::{Value, json};

use crate::guest::Wild;
use crate::spoiler::{Play, answer, json as document};
use crate::stand::Stand;

/// Clears the screen, writes the clipboard, rings the bell, also with C1; reverses the direction;
/// breaks a line.
const NASTY: &str = "\u{1b}[2J\u{1b}]52;c;aGk=\u{7}\u{9b}31m\u{202e}x\r\u{8}";

/// Commands that print a host's texts, in each output format.
const LOOKS: &[&[&str]] =
    &[&["plan", "-v"], &["plan", "--json"], &["status"], &["doctor"], &["doctor", "--json"]];

/// Adds the hostile text to every text under one of these keys.
fn taint(value: &mut Value, keys: &[&str]) {
    match value {
        Value::Array(all) => all.iter_mut().for_each(|one| taint(one, keys)),
        Value::Object(fields) => {
            for (key, field) in fields {
                match field {
                    Value::String(text) if keys.contains(&key.as_str()) => text.push_str(NASTY),
                    field => taint(field, keys),
                }
            }
        }
        _ => {}
    }
}

/// Inspects an existing cluster whose hosts taint these fields in the answers of this call.
fn look(call: &'static str, keys: &'static [&'static str]) {
    let stand = Stand::built().spoil(move |asked, _| match asked.contains(call) {
        true => Play::Edit(Box::new(move |value| taint(value, keys))),
        false => Play::Pass,
    });
    for args in LOOKS {
        let ran = stand.run(args);
        if args.contains(&"--json") && !ran.stdout.is_empty() {
            serde_json::from_str::<Value>(&ran.stdout).unwrap();
        }
    }
}

#[test]
fn names_of_nodes_are_escaped() {
    look("GET /cluster/status", &["name", "ip"]);
}

#[test]
fn names_and_states_of_vms_are_escaped() {
    look("/qemu", &["name", "status", "lock", "tags", "description"]);
    look("GET /cluster/resources", &["name", "status", "node", "tags"]);
}

#[test]
fn contents_of_storages_are_escaped() {
    look("/storage", &["storage", "type", "content", "volid", "format"]);
}

#[test]
fn versions_networks_and_certificates_are_escaped() {
    look("/version", &["version", "release"]);
    look("/network", &["iface", "type", "cidr"]);
    look("/certificates", &["filename", "fingerprint"]);
    look("/status", &["pveversion", "status"]);
}

#[test]
fn refusals_are_escaped() {
    let stand = Stand::built().spoil(|call, _| match call.starts_with("GET /cluster/status") {
        true => {
            let errors = json!({ NASTY: NASTY });
            let body = json!({ "data": null, "message": NASTY, "errors": errors }).to_string();
            let reason = format!("500 {}", NASTY.replace(['\r', '\u{8}'], ""));
            answer(&reason, "Content-Type: application/json\r\n", body.as_bytes())
        }
        false => Play::Pass,
    });
    for args in LOOKS {
        stand.run(args);
    }
}

#[test]
fn the_output_of_a_failed_task_is_escaped() {
    let id = "UPID:pve1:000000E0:000395D6:6B02EB73:download:image:root@pam!t:";
    let stand = Stand::empty().spoil(move |call, _| {
        let data = match call {
            _ if call.starts_with("POST") && call.contains("/download-url") => json!(id),
            _ if call.contains("/tasks/") && call.contains("/status") => {
                json!({ "status": "stopped", "exitstatus": NASTY })
            }
            _ if call.contains("/tasks/") => json!([{ "n": 1, "t": NASTY }]),
            _ => return Play::Pass,
        };
        document("200 OK", &json!({ "data": data }))
    });
    stand.run(&["provision", "-vv"]).failed(3, &["task download of `image` failed"]);
    stand.run(&["provision", "--json"]);
}

#[test]
fn the_output_of_a_guest_is_escaped() {
    let stand = Stand::built().speed(2000.0).wild(Wild::Says(NASTY));
    for args in [&["up", "-vv"][..], &["up", "--json"], &["status"]] {
        stand.run(args);
    }
}

#[test]
fn a_token_that_a_host_echoes_is_not_printed() {
    let stand = Stand::built().spoil(|call, request| {
        if !call.starts_with("GET /cluster/status") {
            return Play::Pass;
        }
        let header = request.lines().find(|line| line.starts_with("authorization: ")).unwrap();
        let body = json!({ "data": null, "message": header, "errors": { "token": header } });
        let body = body.to_string();
        answer(&format!("500 {header}"), "Content-Type: application/json\r\n", body.as_bytes())
    });
    let secrets = stand.secrets();
    let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
    for args in [&["plan"][..], &["plan", "-vv"], &["plan", "--json"], &["up", "-vv"]] {
        let ran = stand.run(args);
        ran.is_clean(&stand.state(), &secrets);
        assert_ne!(ran.code, 0);
    }
}
