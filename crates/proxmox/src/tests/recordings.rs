//! Recorded answers of a real Proxmox VE, if they are present beside the checkout.

use std::collections::BTreeMap;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Upid;
use crate::wire::*;

use super::shapes::strewn;

fn decode<T: DeserializeOwned>(body: &str) -> Result<(), String> {
    serde_json::from_str::<Envelope<T>>(body).map(drop).map_err(|error| error.to_string())
}

/// Decodes the answer to one of the client's calls; `None` for other calls.
fn check(method: &str, path: &str, body: &str) -> Option<Result<(), String>> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let parts: Vec<&str> = path.strip_prefix("/api2/json/")?.split('/').collect();
    let outcome = match (method, parts.as_slice()) {
        ("GET", ["version"]) => decode::<Version>(body),
        ("GET", ["cluster", "status"]) => decode::<ClusterStatus>(body),
        ("GET", ["cluster", "resources"]) if query == "type=vm" => decode::<Vec<VmResource>>(body),
        ("GET", ["access", "permissions"]) => decode::<Permissions>(body),
        ("POST", ["access", "ticket"]) => decode::<Ticket>(body),
        ("GET", ["pools"]) => decode::<Vec<Pool>>(body),
        ("GET", ["nodes"]) => decode::<Vec<NodeEntry>>(body),
        ("GET", ["nodes", _, "status"]) => decode::<NodeStatus>(body),
        ("GET", ["nodes", _, "capabilities", "qemu", "cpu"]) => decode::<Vec<CpuModel>>(body),
        ("GET", ["nodes", _, "storage"]) => decode::<Vec<StorageStatus>>(body),
        ("GET", ["nodes", _, "storage", _, "status"]) => decode::<StorageStatus>(body),
        ("GET", ["nodes", _, "storage", _, "content"]) => decode::<Vec<StorageContent>>(body),
        ("GET", ["nodes", _, "network"]) => decode::<Vec<NetworkIface>>(body),
        ("GET", ["nodes", _, "qemu"]) => decode::<Vec<VmSummary>>(body),
        ("GET", ["nodes", _, "qemu", _, "config"]) => decode::<VmConfig>(body),
        ("GET", ["nodes", _, "qemu", _, "status", "current"]) => decode::<VmStatus>(body),
        ("GET", ["nodes", _, "qemu", _, "agent", "network-get-interfaces"]) => {
            decode::<AgentInterfaces>(body)
        }
        ("GET", ["nodes", _, "tasks"]) => decode::<Vec<TaskSummary>>(body),
        ("GET", ["nodes", _, "tasks", _, "status"]) => decode::<TaskStatus>(body),
        ("GET", ["nodes", _, "tasks", _, "log"]) if query != "download=1" => {
            decode::<Vec<TaskLogLine>>(body)
        }
        ("POST" | "PUT" | "DELETE", ["nodes", ..]) if body.contains("UPID:") => {
            let answer: Value = serde_json::from_str(body).ok()?;
            answer["data"].as_str()?.parse::<Upid>().map(drop)
        }
        _ => return None,
    };
    Some(outcome)
}

/// Prints a line that is shown even if the test passes.
fn tell(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[test]
fn recorded_answers_of_a_real_host_are_parsed() {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference/pve-recordings");
    let Ok(text) = std::fs::read_to_string(folder.join("exchanges.jsonl")) else {
        tell("SKIPPED: no recordings of a real Proxmox VE beside this checkout");
        return;
    };
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for line in text.lines() {
        let exchange: Value = serde_json::from_str(line).unwrap();
        let field = |name: &str| exchange[name].as_str().unwrap_or_default();
        if exchange["status"] != 200 {
            continue;
        }
        let (method, url, body) = (field("method"), field("url"), field("resp_body"));
        // Long bodies were cut when they were recorded.
        if serde_json::from_str::<Value>(body).is_err_and(|error| error.is_eof()) {
            continue;
        }
        let Some(outcome) = check(method, url, body) else { continue };
        assert!(outcome.is_ok(), "line {} {method} {url}: {outcome:?}\n{body}", exchange["line"]);
        for body in strewn(&serde_json::from_str(body).unwrap()) {
            let body = body.to_string();
            let outcome = check(method, url, &body).unwrap();
            assert!(outcome.is_ok(), "line {} with more: {outcome:?}\n{body}", exchange["line"]);
        }
        *counts.entry(method.to_owned()).or_default() += 1;
    }
    let all: u32 = counts.values().sum();
    tell(&format!("understood {all} recorded answers: {counts:?}"));
    assert!(all > 100, "{counts:?}");
}
