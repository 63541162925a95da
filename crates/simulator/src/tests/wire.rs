//! What the HTTP server accepts and how it refuses.

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
async fn an_error_repeats_its_text_in_the_body_and_names_the_parameters() {
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
async fn the_extjs_form_answers_errors_with_200() {
    let bench = Bench::new().await;
    let url = format!("{}/api2/extjs/nodes/pve1/qemu/999/config", bench.host().url);
    let request = bench.client.get(url);
    let token = format!("PVEAPIToken={}", bench.host().token);
    let reply = bench.send(request.header("Authorization", token)).await;
    assert_eq!(reply.status, 200);
    assert_eq!((&reply.body["success"], &reply.body["status"]), (&json!(0), &json!(500)));
}

#[tokio::test]
async fn the_answer_of_a_completed_write_can_be_lost_once() {
    let bench = Bench::with(super::Topology::Cluster, &["proxy-timeout-596@pve1"]).await;
    let form = [("content", "import"), ("filename", "a.qcow2"), ("url", "https://x/a.img")];
    let path = "/nodes/pve1/storage/local/download-url";
    let reply = bench.call("POST", path, &form).await;
    assert_eq!((reply.status, &reply.body), (596, &json!("")));
    let tasks = bench.get("/nodes/pve1/tasks?source=all").await;
    assert_eq!(tasks[0]["type"], "download");
    assert_eq!(bench.call("POST", path, &form).await.status, 200);
}

#[tokio::test]
async fn the_png_form_of_a_call_is_empty_and_an_unknown_form_is_refused() {
    let bench = Bench::new().await;
    let token = format!("PVEAPIToken={}", bench.host().token);
    let ask = |path: &str, token: &str| {
        let path = format!("/../{path}");
        bench.request("GET", &path).header("Authorization", token)
    };
    let picture = bench.send(ask("png/version", &token)).await;
    assert_eq!((picture.status, &picture.body), (200, &json!("")));
    assert_eq!(picture.headers["content-type"], "image/png");
    let reply = bench.send(ask("xml/version", &token)).await;
    let text = "no formatter for uri /version, xml";
    assert_eq!((reply.status, reply.reason.as_str()), (501, text));
    assert_eq!(reply.headers["connection"], "close");
    let reply = bench.send(ask("xml/version", "PVEAPIToken=ghost@pve!x=y")).await;
    assert_eq!((reply.status, reply.reason.as_str()), (401, "Authentication failed!"));
}

#[tokio::test]
async fn a_tasks_log_is_sent_as_a_file_and_compressed_if_long() {
    let bench = Bench::new().await;
    let form = [("vmid", "100"), ("scsi0", "local:1")];
    let reply = bench.call("POST", "/nodes/pve1/qemu", &form).await;
    let upid = reply.data().as_str().unwrap().to_owned();
    assert_eq!(bench.wait(&upid).await, "OK");
    let log = format!("/nodes/pve1/tasks/{upid}/log");
    let lines = bench.log(&upid).await;
    let file = bench.call("GET", &format!("{log}?download=1"), &[]).await;
    assert_eq!(file.body, json!(format!("{}\n", lines.join("\n"))));
    let named = file.headers["content-disposition"].to_str().unwrap();
    assert!(named.starts_with("attachment; filename=\"task-pve1-qmcreate-2"), "{named}");
    assert!(named.ends_with("Z.log\""), "{named}");
    assert_eq!(file.headers["content-type"], "text/plain");
    assert!(!file.headers.contains_key("content-encoding"));
    let reply = bench.call("GET", &format!("{log}?download=1&limit=5"), &[]).await;
    let text = "'download' cannot be used together with 'start' or 'limit' parameters";
    assert_eq!((reply.status, reply.reason.as_str()), (500, text));
    // As long as the logs of large disks are.
    let line = "transferred 1.0 GiB of 20.0 GiB (5.00%)";
    bench.sim.shared().act(|world, _| {
        let tasks = &mut world.pve.datacenters[0].tasks;
        let task = tasks.iter_mut().find(|task| task.upid == upid).unwrap();
        task.log = vec![line.to_owned(); 40];
    });
    let file = bench.call("GET", &format!("{log}?download=1"), &[]).await;
    assert_eq!(file.headers["content-encoding"], "gzip");
    let text = file.body.as_str().unwrap();
    assert_eq!(text.matches(line).count(), 40);
    assert!(text.contains(&upid), "the file's own name");
}
