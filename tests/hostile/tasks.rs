//! Tasks that never end, and invalid task ids.

use std::time::Duration;

use serde_json::json;

use crate::spoiler::{Play, json as answer};
use crate::stand::Stand;

const ID: &str = "UPID:pve1:000000E0:000395D6:6B02EB73:download:image:root@pam!t:";

#[test]
fn a_task_that_never_ends_is_given_up_with_a_hint_how_to_stop_it() {
    let stand = Stand::empty().hurried(10.0).speed(2000.0).spoil(|call, _| {
        match (call.starts_with("POST") && call.contains("/download-url"), call.contains("/tasks/"))
        {
            (true, _) => answer("200 OK", &json!({ "data": ID })),
            (_, true) if call.contains("/status") => {
                answer("200 OK", &json!({ "data": { "status": "running" } }))
            }
            (_, true) => answer("200 OK", &json!({ "data": [] })),
            _ => Play::Pass,
        }
    });
    let ran = stand.run(&["provision", "-v"]);
    let words = [
        "task download of `image` on `pve1` did not finish within 2 h",
        "the task continues as UPID:pve1:",
        "pvesh delete '/nodes/pve1/tasks/UPID:pve1:000000E0:",
        "run the same command again: it looks first",
        "waiting for task download of `image` on pve1: ",
    ];
    ran.failed(3, &words);
    assert!(ran.took < Duration::from_secs(60), "{:?}", ran.took);
}

#[test]
fn a_task_id_of_another_host_is_refused_and_that_host_not_queried() {
    for (id, shown) in [
        (ID.replace("image", "../../../access/ticket"), "`UPID:pve1:"),
        (ID.replace("pve1", "pve1/../../access"), "`UPID:pve1/../"),
        (ID.replace("image", "x\u{1b}[2J"), "x\\u{1b}[2J"),
        (ID.replace("image", &"x".repeat(60_000)), "more characters)` is not a task id"),
    ] {
        let stand = Stand::empty().spoil(move |call, _| {
            assert!(!call.contains("access") && !call.contains("%2E%2E"), "{call}");
            match call.starts_with("POST") && call.contains("/download-url") {
                true => answer("200 OK", &json!({ "data": id })),
                false => Play::Pass,
            }
        });
        let ran = stand.run(&["provision"]);
        ran.failed(3, &["is not a task id", shown]);
        assert!(ran.stderr.len() < 16 * 1024, "{}", ran.stderr.len());
    }
}

#[test]
fn an_endless_log_of_a_failed_task_does_not_hide_its_error() {
    let stand = Stand::empty().spoil(|call, _| {
        match (call.starts_with("POST") && call.contains("/download-url"), call.contains("/tasks/"))
        {
            (true, _) => answer("200 OK", &json!({ "data": ID })),
            (_, true) if call.contains("/status") => answer(
                "200 OK",
                &json!({ "data": { "status": "stopped", "exitstatus": "no space left" } }),
            ),
            (_, true) => Play::Endless(crate::spoiler::head(), vec![b' '; 64 * 1024]),
            _ => Play::Pass,
        }
    });
    stand
        .run(&["provision"])
        .failed(3, &["task download of `image` failed on `pve1`: no space left"]);
}
