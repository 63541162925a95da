//! Proxmox hosts with answers that no Proxmox host gives.

use std::time::Duration;

use serde_json::{Value, json};

use crate::spoiler::{self, Play, answer, head};
use crate::stand::Stand;

/// Spoils one call; the host answers all others.
fn on(call: &'static str, play: impl Fn() -> Play + Send + Sync + 'static) -> Stand {
    Stand::built().hurried(20.0).spoil(move |asked, _| match asked.starts_with(call) {
        true => play(),
        false => Play::Pass,
    })
}

const STATUS: &str = "GET /cluster/status";
const VMS: &str = "GET /nodes/pve1/qemu";

#[test]
fn an_endless_body_is_stopped_at_its_limit() {
    let stand = on(STATUS, || Play::Endless(head(), vec![b' '; 64 * 1024]));
    let words = ["`pve1` answered `GET /cluster/status` with more than 1 MiB", "curl -vk https://"];
    stand.run(&["plan"]).failed(3, &words);
    let stand = on(VMS, || Play::Endless(head(), vec![b' '; 64 * 1024]));
    stand.run(&["plan"]).failed(3, &["`GET /nodes/pve1/qemu` with more than 8 MiB"]);
}

#[test]
fn a_body_with_too_large_a_length_is_not_read() {
    let huge = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{";
    let stand = on(STATUS, || Play::Trickle(huge.to_vec(), b' '));
    let ran = stand.run(&["plan"]);
    ran.failed(3, &["with more than 1 MiB; k8sha stops reading at that limit"]);
}

#[test]
fn an_endless_list_uses_bounded_memory() {
    let entry = r#"{"vmid":7,"type":"qemu","node":""},"#;
    let body = format!(r#"{{"data":[{}{{}}]}}"#, entry.repeat(230_000));
    let stand = on(VMS, move || answer("200 OK", "", body.as_bytes()));
    stand.run(&["plan"]).failed(3, &["`GET /nodes/pve1/qemu` with more than 200000 values"]);
}

#[test]
fn a_list_just_below_the_limit_is_accepted() {
    // Six values of an entry, including the comma after it.
    let entry = |n: usize| format!(r#"{{"vmid":{n},"type":"qemu","node":""}}"#);
    let all: Vec<String> = (5000..38_000).map(entry).collect();
    let body = format!(r#"{{"data":[{}]}}"#, all.join(","));
    let stand = on(VMS, move || answer("200 OK", "", body.as_bytes()));
    // It is read to its end; VMs missing from it do not count as absent.
    stand.run(&["plan"]).failed(
        1,
        &["its address 192.168.10.31 is in use, but its VM does not exist: a machine answers at"],
    );
}

#[test]
fn an_endless_text_is_not_printed() {
    let name = "x".repeat(5_000_000);
    let body = json!({ "data": [{ "vmid": 7, "type": "qemu", "node": "pve1", "name": name }] });
    let body = body.to_string();
    let stand = on(VMS, move || answer("200 OK", "", body.as_bytes()));
    stand.run(&["plan"]).failed(3, &["with more than 64 KiB in one text"]);
}

#[test]
fn deeply_nested_brackets_cannot_be_parsed() {
    let body = format!("{{\"data\":{}", "[".repeat(900_000));
    let stand = on(STATUS, move || answer("200 OK", "", body.as_bytes()));
    stand.run(&["plan"]).failed(3, &["cannot read the answer of `pve1`"]);
}

#[test]
fn a_truncated_body_is_reported_with_the_received_size() {
    let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"data\":[".to_vec();
    let stand = on(STATUS, move || Play::Raw(cut.clone()));
    stand.run(&["plan"]).failed(3, &["its answer broke off after 9 bytes"]);
}

#[test]
fn an_html_page_is_reported_with_its_title() {
    let page = b"<html><head><title>Log in to the hotel\x1b[31m</title>".repeat(1000);
    let stand = on(STATUS, move || answer("200 OK", "Content-Type: text/html\r\n", &page));
    let words = [
        "with text/html instead of JSON, a page titled \"Log in to the hotel\\u{1b}[31m\"",
        "a proxy, a login page or not Proxmox VE",
    ];
    stand.run(&["plan"]).failed(3, &words);
}

#[test]
fn a_compressed_body_is_refused_before_it_is_read() {
    let headers = "Content-Type: application/json\r\nContent-Encoding: gzip\r\n";
    let stand = on(STATUS, move || answer("200 OK", headers, &[0x1f, 0x8b, 8, 0]));
    stand.run(&["plan"]).failed(3, &["with the content encoding `gzip`, which was not requested"]);
}

#[test]
fn a_redirect_is_named_and_not_followed() {
    let headers = "Location: https://elsewhere.test/steal\r\n";
    let stand = on(STATUS, move || answer("302 Found", headers, b""));
    let words = ["a redirect (302) to `https://elsewhere.test/steal`, which is not followed"];
    stand.run(&["plan"]).failed(3, &words);
}

#[test]
fn a_slow_host_is_stopped_by_the_total_time_limit() {
    for (play, said) in [
        (b"HTTP/1.1 200 OK\r\nX: ".to_vec(), "no answer within 3 s"),
        (head(), "its answer did not end within 3 s"),
    ] {
        let stand = on(STATUS, move || Play::Trickle(play.clone(), b' '));
        let ran = stand.run(&["plan"]);
        ran.failed(3, &["`pve1` did not answer `GET /cluster/status`", said]);
        assert!(ran.took < Duration::from_secs(60), "{:?}", ran.took);
    }
    let ran = on(STATUS, || Play::Silence).run(&["plan"]);
    ran.failed(3, &["no answer within 3 s", "systemctl status pvedaemon pveproxy"]);
}

#[test]
fn headers_have_a_limit() {
    for header in ["X: y\r\n".repeat(5000), format!("X: {}\r\n", "y".repeat(1_000_000))] {
        let stand = on(STATUS, move || answer("200 OK", &header, b"{}"));
        stand.run(&["plan"]).failed(3, &["`pve1` did not answer `GET /cluster/status`"]);
    }
    let endless = b"HTTP/1.1 200 OK\r\n".to_vec();
    let stand = on(STATUS, move || Play::Endless(endless.clone(), b"X: y\r\n".repeat(1000)));
    stand.run(&["plan"]).failed(3, &["`pve1` did not answer `GET /cluster/status`"]);
}

#[test]
fn an_endless_refusal_is_cut_off() {
    let reason = format!("500 {}", "no".repeat(50_000));
    let stand = on(STATUS, move || answer(&reason, "", b""));
    let ran = stand.run(&["plan"]);
    ran.failed(3, &["500 nonono", "more characters)"]);
    assert!(ran.stderr.len() < 8 * 1024, "{}", ran.stderr.len());
    let endless = b"HTTP/1.1 500 got timeout\r\nConnection: close\r\n\r\n".to_vec();
    let stand = on(STATUS, move || Play::Endless(endless.clone(), vec![b'x'; 64 * 1024]));
    stand.run(&["plan"]).failed(3, &["500 got timeout"]);
    let many: serde_json::Map<String, Value> =
        (0..1000).map(|n| (format!("parameter{n}"), json!("is bad"))).collect();
    let body = json!({ "data": null, "errors": many });
    let stand = on(STATUS, move || spoiler::json("400 Parameter verification failed.", &body));
    let ran = stand.run(&["plan"]);
    ran.failed(3, &["`parameter0`: is bad"]);
    assert_eq!(ran.stderr.matches("is bad").count(), 20, "{}", ran.stderr);
}

#[test]
fn a_changed_certificate_during_a_run_ends_it() {
    let stand = Stand::built().change_certificate(4);
    let words = ["shows a certificate that is not trusted", "pvenode cert info"];
    stand.run(&["plan"]).failed(3, &words);
}
