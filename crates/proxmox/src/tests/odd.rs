//! Answers that Proxmox VE never gives.

use serde_json::json;

use crate::VmId;
use crate::scripted::{Script, Turn, ok, upid};
use crate::{Error, Odd, Params};
use k8sha_base::limits::http;

fn raw(head: &str, body: &str) -> Turn {
    Turn::Answer(format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n{body}"))
}

async fn odd(turn: Turn) -> (Odd, Error) {
    let script = Script::play([turn]).await;
    let error = script.client().version().await.unwrap_err();
    assert_eq!(script.requests().len(), 1, "another try would get the same");
    match &error {
        Error::Odd(odd) => (odd.what.clone(), error),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn an_answer_at_the_limit_is_read_and_one_byte_more_is_not() {
    let (start, end) = (r#"{"data":{"version":"9.2"}"#, "}");
    let body =
        |length: usize| format!("{start}{}{end}", " ".repeat(length - start.len() - end.len()));
    let script = Script::play([raw("200 OK", &body(http::ANSWER_BYTES))]).await;
    assert_eq!(script.client().version().await.unwrap().version, "9.2");
    let (what, error) = odd(raw("200 OK", &body(http::ANSWER_BYTES + 1))).await;
    assert_eq!(what, Odd::TooMuch("1 MiB".into()));
    assert!(error.hint().unwrap().contains("/api2/json/version"));
    let told = format!("200 OK\r\nContent-Length: {}", http::ANSWER_BYTES + 1);
    assert_eq!(odd(raw(&told, "")).await.0, Odd::TooMuch("1 MiB".into()));
}

#[tokio::test]
async fn a_redirect_a_page_and_a_coding_are_distinguished() {
    let (what, _) = odd(raw("307 Temporary\r\nLocation: https://x.test/a", "")).await;
    assert_eq!(what, Odd::Redirect { status: 307, to: "https://x.test/a".into() });
    let (what, error) = odd(raw("200 OK\r\nContent-Type: text/html", "<title>Hi</title>")).await;
    let title = Some("Hi".to_owned());
    assert_eq!(what, Odd::NotJson { kind: "text/html".into(), title });
    assert!(error.hint().unwrap().starts_with("this is a proxy, a login page"));
    let (what, _) = odd(raw("200 OK\r\nContent-Encoding: br", "")).await;
    assert_eq!(what, Odd::Coded("br".into()));
}

#[tokio::test]
async fn an_odd_answer_to_a_write_says_that_it_may_have_been_carried_out() {
    let script = Script::play([raw("200 OK\r\nContent-Type: text/html", "")]).await;
    let set = Params::new().with("cores", 2);
    let error = script.client().set_config(VmId(101), &set, &[], None).await.unwrap_err();
    assert!(error.to_string().ends_with("may have taken effect nevertheless"), "{error}");
    assert_eq!(script.requests().len(), 1, "it is not sent twice");
}

#[tokio::test]
async fn a_broken_task_id_never_becomes_a_path() {
    let bad = upid("qmconfig", "../../../access/users");
    let script = Script::play([ok(json!(bad))]).await;
    let set = Params::new().with("cores", 2);
    let error = script.client().set_config(VmId(101), &set, &[], None).await.unwrap_err();
    assert!(error.to_string().contains("is not a task id"), "{error}");
    assert_eq!(script.requests().len(), 1);
}
