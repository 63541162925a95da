//! What the HTTP server takes and how it refuses.

use serde_json::json;

use super::Bench;

#[tokio::test]
async fn refusals_are_in_the_reason_phrase() {
    let bench = Bench::new().await;
    for (method, path, form, status, reason) in [
        ("GET", "/nosuch", &[][..], 501, "Method 'GET /nosuch' not implemented"),
        ("POST", "/version", &[], 501, "Method 'POST /version' not implemented"),
        ("DELETE", "/version", &[], 501, "Method 'DELETE /version' not implemented"),
        ("PATCH", "/version", &[], 501, "method 'PATCH' not available"),
        (
            "GET",
            "/nodes/pve1/qemu/9999/config",
            &[],
            500,
            "Configuration file 'nodes/pve1/qemu-server/9999.conf' does not exist",
        ),
        ("GET", "/nodes/pve1/qemu/5/config", &[], 400, "Parameter verification failed."),
        (
            "DELETE",
            "/nodes/pve1/qemu/100",
            &[("purge", "1")],
            501,
            "Unexpected content for method 'DELETE'",
        ),
        ("GET", "/version?x=1", &[], 400, "Parameter verification failed."),
        ("GET", "/version?_dc=1", &[], 200, "OK"),
    ] {
        let reply = bench.call(method, path, form).await;
        assert_eq!((reply.status, reply.reason.as_str()), (status, reason), "{method} {path}");
        let closes = reply.headers.get("connection").is_some_and(|value| value == "close");
        assert_eq!(closes, status >= 400, "{method} {path}");
    }
}

#[tokio::test]
async fn a_failure_repeats_its_text_in_the_body_and_names_the_parameters() {
    let bench = Bench::new().await;
    let reply = bench.call("GET", "/nodes/pve1/qemu/999/config", &[]).await;
    let text = "Configuration file 'nodes/pve1/qemu-server/999.conf' does not exist\n";
    assert_eq!(reply.body, json!({"data": null, "message": text}));
    let reply = bench.call("POST", "/nodes/pve1/qemu/9000/clone", &[("newid", "50")]).await;
    assert_eq!(reply.body["message"], "Parameter verification failed.\n");
    assert_eq!(reply.error("newid"), "invalid format - value does not look like a valid VM ID");
}

#[tokio::test]
async fn bodies_are_forms_or_json_with_a_length() {
    let bench = Bench::new().await;
    let token = format!("PVEAPIToken={}", bench.host().token);
    let put = || bench.request("POST", "/pools").header("Authorization", &token);
    let plain = put().header("Content-Type", "text/plain").body("poolid=a");
    let reply = bench.send(plain).await;
    assert_eq!(reply.status, 506);
    assert_eq!(reply.reason, "upload 'Content-Type 'text/plain' not implemented");
    let stream = tokio_util::io::ReaderStream::new(&b"poolid=a"[..]);
    let reply = bench.send(put().body(reqwest::Body::wrap_stream(stream))).await;
    assert_eq!(
        (reply.status, reply.reason.as_str()),
        (501, "chunked transfer encoding not supported")
    );
    let big = "x".repeat(600 * 1024);
    let reply = bench.send(put().form(&[("poolid", "a"), ("comment", &big)])).await;
    assert_eq!((reply.status, reply.reason.as_str()), (501, "for data too large"));
    let reply = bench.send(put().json(&json!({"poolid": "a"}))).await;
    assert_eq!(reply.status, 200);
    let reply = bench.send(put().header("Content-Type", "application/json").body("{\"a\":")).await;
    assert_eq!(reply.status, 500);
    assert!(reply.reason.starts_with("malformed JSON string"), "{}", reply.reason);
    let form = put().header("Content-Type", "application/x-www-form-urlencoded");
    let reply = bench.send(form.body("comment=a;poolid=b")).await;
    assert_eq!(reply.status, 200);
    let pools = bench.get("/pools").await;
    assert_eq!(pools, json!([{"poolid": "a"}, {"poolid": "b", "comment": "a"}]));
}

#[tokio::test]
async fn the_extjs_form_answers_failures_with_200() {
    let bench = Bench::new().await;
    let url = format!("{}/api2/extjs/nodes/pve1/qemu/999/config", bench.host().url);
    let request = bench.client.get(url);
    let token = format!("PVEAPIToken={}", bench.host().token);
    let reply = bench.send(request.header("Authorization", token)).await;
    assert_eq!(reply.status, 200);
    assert_eq!((&reply.body["success"], &reply.body["status"]), (&json!(0), &json!(500)));
}

#[tokio::test]
async fn a_write_that_happened_can_lose_its_answer_once() {
    let bench = Bench::with(super::Topology::Cluster, &["proxy-timeout-596@pve1"]).await;
    let form = [("content", "import"), ("filename", "a.qcow2"), ("url", "https://x/a.img")];
    let path = "/nodes/pve1/storage/local/download-url";
    let reply = bench.call("POST", path, &form).await;
    assert_eq!((reply.status, &reply.body), (596, &json!("")));
    let tasks = bench.get("/nodes/pve1/tasks?source=all").await;
    assert_eq!(tasks[0]["type"], "download");
    assert_eq!(bench.call("POST", path, &form).await.status, 200);
}
