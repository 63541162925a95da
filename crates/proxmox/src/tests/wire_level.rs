use serde_json::json;
use tokio::sync::mpsc::unbounded_channel;

use crate::scripted::{Script, Turn, ended, no, ok, proxy_fault, task, upid};
use crate::tls::seen_fingerprint;
use crate::{Auth, Client, Error, Params, TaskEnd};
use crate::{HostName, Trust, VmId};
use k8sha_base::event::{Event, Scope};

fn version() -> Turn {
    ok(json!({ "version": "9.2.11", "release": "9.2", "repoid": "x" }))
}

#[tokio::test]
async fn a_token_goes_in_the_header_and_needs_nothing_else() {
    let script = Script::play([version(), task("qmconfig", "101"), ended("OK")]).await;
    let client = script.client();
    assert_eq!(client.version().await.unwrap().major(), Some(9));
    client.set_config(VmId(101), &Params::new().with("cores", 2), &[], None).await.unwrap();
    let requests = script.requests();
    assert!(requests[0].starts_with("GET /api2/json/version HTTP/1.1\r\n"));
    for request in &requests {
        assert!(request.contains("\r\nauthorization: PVEAPIToken=root@pam!t=s3cret\r\n"));
        assert!(!request.to_lowercase().contains("csrf") && !request.contains("cookie"));
        assert!(!request.to_lowercase().contains("transfer-encoding"));
    }
    assert!(!format!("{client:?}").contains("s3cret"));
}

#[tokio::test]
async fn a_ticket_carries_its_csrf_token_on_writes_and_is_renewed_once_on_401() {
    let login = |n: u8| {
        ok(
            json!({"ticket": format!("PVE:a@pve:{n}::x+/="), "CSRFPreventionToken": format!("csrf{n}")}),
        )
    };
    let script = Script::play([
        login(1),
        version(),
        no(401, "permission denied - invalid PVE ticket", ""),
        login(2),
        task("qmconfig", "101"),
        ended("OK"),
    ])
    .await;
    let client = script.client_as(Auth::Ticket { user: "a@pve".into(), password: "p&w;+".into() });
    client.version().await.unwrap();
    client.set_config(VmId(101), &Params::new().with("cores", 2), &[], None).await.unwrap();
    assert!(script.is_over());
    let requests = script.requests();
    assert!(requests[0].ends_with("\r\n\r\nusername=a%40pve&password=p%26w%3B%2B"));
    assert!(requests[1].contains("cookie: PVEAuthCookie=PVE%3Aa%40pve%3A1%3A%3Ax%2B%2F%3D\r\n"));
    assert!(!requests[1].contains("csrf"));
    assert!(requests[2].contains("csrfpreventiontoken: csrf1\r\n"));
    assert!(requests[4].contains("csrfpreventiontoken: csrf2\r\n"));
}

#[tokio::test]
async fn a_wrong_password_or_token_is_reported_without_a_retry() {
    let script = Script::play([no(401, "authentication failure", "")]).await;
    let client = script.client_as(Auth::Ticket { user: "a@pve".into(), password: "wrong".into() });
    let error = client.version().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "`pve1` rejected the credentials at `POST /access/ticket`: authentication failure"
    );
    assert!(error.hint().unwrap().contains("`a@pve`"));

    let script = Script::play([no(401, "Authentication failed!", "")]).await;
    let error = script.client().version().await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
    assert!(error.hint().unwrap().contains("pveum user token list root@pam"));
    assert!(!format!("{error:?}").contains("s3cret"));
    assert_eq!(script.requests().len(), 1);
}

#[tokio::test]
async fn a_wrong_pin_shows_both_fingerprints_and_sends_nothing() {
    let script = Script::play([version()]).await;
    let trust = Trust::Fingerprint([0xab; 32]);
    let auth = Auth::Token("root@pam!t=s3cret".into());
    let host = HostName("pve1".into());
    let client = Client::new(host, &script.endpoint, &trust, auth, 1000.0).unwrap();
    let error = client.version().await.unwrap_err();
    let seen = script.fingerprint.to_string();
    assert!(matches!(&error, Error::Certificate(stranger) if stranger.seen == seen), "{error}");
    let text = error.to_string();
    assert!(text.contains("expected AB:AB:AB:") && text.contains(&seen), "{text}");
    assert!(error.hint().unwrap().contains("pvenode cert info"));
    assert!(script.requests().is_empty());
    assert_eq!(seen_fingerprint(&script.endpoint).await.unwrap(), script.fingerprint);
}

#[tokio::test]
async fn a_ca_file_accepts_only_certificates_that_it_signed() {
    let script = Script::play([version()]).await;
    let other = Script::play([version()]).await;
    let trust = Trust::Authority {
        file: "pve-root-ca.pem".to_owned(),
        pem: script.pem.clone().into_bytes(),
    };
    let client = |endpoint: &str| {
        let auth = Auth::Token("root@pam!t=s3cret".into());
        Client::new(HostName("pve1".into()), endpoint, &trust, auth, 1000.0).unwrap()
    };
    client(&script.endpoint).version().await.unwrap();
    let error = client(&other.endpoint).version().await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("pve-root-ca.pem") && text.contains("invalid peer certificate"),
        "{text}"
    );
    assert!(text.contains(&other.fingerprint.to_string()), "{text}");
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn a_refusals_text_is_the_reason_phrase_and_the_errors() {
    let body = r#"{"data":null,"message":"Parameter verification failed.\n","errors":{"cores":"value must have a minimum value of 1"}}"#;
    let script = Script::play([
        no(400, "Parameter verification failed.", body),
        no(500, "VM is locked (clone)", r#"{"data":null}"#),
        no(500, "unable to open \u{fc}", r#"{"data":null,"message":"unable to open \u00fc\n"}"#),
    ])
    .await;
    let client = script.client();
    let text = client.pools().await.unwrap_err().to_string();
    assert_eq!(
        text,
        "`pve1` refused `GET /pools`: 400 Parameter verification failed.; `cores`: value must have a minimum value of 1"
    );
    let error = client.vms().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "`pve1` refused `GET /nodes/pve1/qemu`: 500 VM is locked (clone)"
    );
    let hint = error.hint().unwrap();
    assert!(hint.contains("check the running tasks") && !hint.contains("qm unlock"), "{hint}");
    assert!(client.vms().await.unwrap_err().to_string().ends_with("unable to open ü"));
}

#[tokio::test]
async fn a_missing_privilege_names_the_command_that_grants_it() {
    let script = Script::play([
        no(403, "Permission check failed (/vms/9000, VM.Clone|VM.Audit)", ""),
        no(403, "pool 'kube' does not exist", ""),
    ])
    .await;
    let client = script.client();
    let error = client.vms().await.unwrap_err();
    let Error::Forbidden(denial) = &error else { panic!("{error}") };
    assert_eq!((&*denial.path, denial.privileges.len()), ("/vms/9000", 2));
    let hint = error.hint().unwrap();
    assert!(
        hint.contains(
            "pveum acl modify /vms --users 'root@pam' --tokens 'root@pam!t' --roles k8sha"
        ),
        "{hint}"
    );
    let error = client.vms().await.unwrap_err();
    assert!(matches!(error, Error::Refused(_)) && error.hint().unwrap().contains("pveum pool add"));
}

#[tokio::test]
async fn a_read_is_retried_after_596_or_a_closed_connection() {
    let script =
        Script::play([proxy_fault(596, "Connection timed out"), Turn::HangUp, version()]).await;
    let (events, mut told) = unbounded_channel();
    let scope = Scope { step: "s".into(), events };
    scope.run(script.client().version()).await.unwrap();
    assert_eq!(script.calls(), ["GET /version"; 3]);
    let errors: Vec<String> = std::iter::from_fn(|| told.try_recv().ok())
        .map(|event| match event {
            Event::Retrying { what, error, .. } => format!("{what}: {error}"),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(errors.len(), 2);
    assert!(
        errors[1].ends_with("the connection was closed before an answer came"),
        "{}",
        errors[1]
    );
    let want =
        "GET /version at `pve1`: `pve1` did not answer `GET /version`: 596 Connection timed out";
    assert_eq!(errors[0], want);
}

#[tokio::test]
async fn an_address_where_nothing_listens_is_unreachable() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    drop(listener);
    let trust = Trust::Fingerprint([0; 32]);
    let auth = Auth::Token("root@pam!t=s3cret".into());
    let client = Client::new(HostName("pve1".into()), &endpoint, &trust, auth, 1000.0).unwrap();
    let error = client.write(&crate::client::Request::post(&["x"])).await.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(&format!("cannot reach `pve1` at {endpoint}: ")), "{text}");
    assert!(text.contains("refused"), "{text}");
}

#[test]
fn an_endpoint_that_is_not_an_https_url_is_refused() {
    for endpoint in ["pve1:8006", "http://pve1:8006", "https://", "pve1"] {
        let auth = Auth::Token("root@pam!t=s3cret".into());
        let trust = Trust::Fingerprint([0; 32]);
        let made = Client::new(HostName("pve1".into()), endpoint, &trust, auth, 1.0);
        assert!(made.unwrap_err().to_string().contains(endpoint), "{endpoint}");
    }
}

#[tokio::test]
async fn a_task_is_followed_on_the_node_of_its_id() {
    let script = Script::play([
        no(400, "Parameter verification failed.", r#"{"errors":{"upid":"no such task"}}"#),
        ok(json!({ "status": "running" })),
        proxy_fault(599, "oops"),
        ended("WARNINGS: 1"),
    ])
    .await;
    let elsewhere = upid("imgcopy", "").replace("pve1", "pve2");
    let end = script.client().follow(&elsewhere.parse().unwrap()).await.unwrap();
    assert_eq!(end, TaskEnd::Warnings(1));
    let path = "GET /nodes/pve2/tasks/UPID%3Apve2%3A000000E0%3A000395D6%3A6B02EB73%3Aimgcopy%3A%3Aroot%40pam%21t%3A/status";
    assert_eq!(script.calls(), [path; 4]);
}

#[tokio::test]
async fn a_failed_task_shows_the_end_of_its_log() {
    let log: Vec<_> = (1..=40).map(|n| json!({"n": n, "t": format!("line {n}")})).collect();
    let script =
        Script::play([task("qmdestroy", "9000"), ended("base volume is in use"), ok(json!(log))])
            .await;
    let error = script.client().destroy_vm(VmId(9000)).await.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("task qmdestroy of `9000` failed on `pve1`: base volume is in use\n"));
    assert!(!text.contains("line 25\n") && text.contains("line 26\n") && text.ends_with("line 40"));
    assert!(error.hint().unwrap().contains("pvenode task log 'UPID:pve1:"));
    assert_eq!(
        script.calls()[0],
        "DELETE /nodes/pve1/qemu/9000?purge=1&destroy-unreferenced-disks=1"
    );
}

#[tokio::test]
async fn an_upload_is_written_in_the_order_that_the_host_requires() {
    let script = Script::play([task("imgcopy", ""), ended("OK")]).await;
    let volume = script.client().upload_iso("local", "seed.iso", b"data").await.unwrap();
    assert_eq!(volume, "local:iso/seed.iso");
    let request = &script.requests()[0];
    let sum = "3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7";
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /api2/json/nodes/pve1/storage/local/upload HTTP/1.1\r\n"));
    assert!(head.contains(&format!("content-type: multipart/form-data; boundary=k8sha-{sum}")));
    assert!(head.contains(&format!("content-length: {}", body.len())));
    let part = |name: &str, value: &str| {
        format!(
            "--k8sha-{sum}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        )
    };
    let want = part("content", "iso")
        + &part("checksum-algorithm", "sha256")
        + &part("checksum", sum)
        + &format!(
            "--k8sha-{sum}\r\nContent-Disposition: form-data; name=\"filename\"; filename=\"seed.iso\"\r\nContent-Type: application/octet-stream\r\n\r\ndata\r\n--k8sha-{sum}--\r\n"
        );
    assert_eq!(body, want);
}

#[tokio::test]
async fn paths_queries_and_forms_are_encoded_as_the_host_requires() {
    let script = Script::play([
        ok(json!(null)),
        ok(json!([])),
        task("resize", "101"),
        ended("OK"),
        ok(json!({})),
        task("download", "u.qcow2"),
        ended("OK"),
    ])
    .await;
    let client = script.client();
    client.delete_volume("local:iso/k8sha-a.iso").await.unwrap();
    client.storage_content("local", "iso").await.unwrap();
    client.resize_disk(VmId(101), "scsi0", 20 << 30).await.unwrap();
    client.permissions(Some("/vms")).await.unwrap();
    let url = "https://cloud.test/u.img?a=1";
    let volume = client.download("local", "import", "u.qcow2", url, "ab12").await.unwrap();
    assert_eq!(volume, "local:import/u.qcow2");
    let mut calls = script.calls();
    calls.retain(|call| !call.contains("/tasks/"));
    assert_eq!(
        calls,
        [
            "DELETE /nodes/pve1/storage/local/content/local%3Aiso%2Fk8sha-a.iso",
            "GET /nodes/pve1/storage/local/content?content=iso",
            "PUT /nodes/pve1/qemu/101/resize disk=scsi0&size=20G",
            "GET /access/permissions?path=%2Fvms",
            "POST /nodes/pve1/storage/local/download-url content=import&filename=u.qcow2&url=https%3A%2F%2Fcloud.test%2Fu.img%3Fa%3D1&checksum=ab12&checksum-algorithm=sha256",
        ]
    );
}

#[tokio::test]
async fn a_disk_that_is_already_large_enough_is_not_resized_again() {
    let script = Script::play([Turn::HangUp, ok(json!({"scsi0": "a:b,size=20G"}))]).await;
    script.client().resize_disk(VmId(101), "scsi0", 20 << 30).await.unwrap();
    let put = "PUT /nodes/pve1/qemu/101/resize disk=scsi0&size=20G";
    assert_eq!(script.calls(), [put, "GET /nodes/pve1/qemu/101/config"]);
}

#[tokio::test]
async fn a_silent_agent_is_not_an_error() {
    let script = Script::play([
        no(500, "QEMU guest agent is not running", ""),
        ok(json!({ "result": {} })),
        no(403, "Permission check failed (/vms/101, VM.GuestAgent.Audit)", ""),
    ])
    .await;
    let client = script.client();
    assert!(!client.agent_answers(VmId(101)).await.unwrap());
    assert!(client.agent_answers(VmId(101)).await.unwrap());
    assert!(client.agent_answers(VmId(101)).await.is_err());
}

#[tokio::test]
async fn a_look_at_a_fingerprint_fails_where_nothing_listens() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    drop(listener);
    assert!(seen_fingerprint(&endpoint).await.unwrap_err().contains("refused"));
    assert!(seen_fingerprint("pve1").await.is_err());
}

#[tokio::test]
async fn a_host_without_a_trusted_certificate_is_reported_with_the_one_it_presents() {
    let script = Script::play([version()]).await;
    let auth = Auth::Token("a@pve!t=s3cret".into());
    let error = Client::open(&HostName("pve1".into()), &script.endpoint, None, auth, 1.0)
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(text.ends_with(&format!("the host shows {}", script.fingerprint)), "{text}");
    assert!(error.hint().unwrap().contains("pvenode cert info"));
    assert!(script.requests().is_empty());
}

#[tokio::test]
async fn a_login_whose_answer_is_lost_is_repeated() {
    let login = ok(json!({ "ticket": "PVE:a", "CSRFPreventionToken": "c" }));
    let script = Script::play([Turn::HangUp, login, version()]).await;
    let client = script.client_as(Auth::Ticket { user: "a@pve".into(), password: "p".into() });
    client.version().await.unwrap();
    let form = "POST /access/ticket username=a%40pve&password=p";
    assert_eq!(script.calls(), [form, form, "GET /version"]);
}
