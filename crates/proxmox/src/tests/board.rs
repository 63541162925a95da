//! Awaited tasks: how often a node is queried about them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::scripted::{Script, ended, ok, upid};
use crate::{Auth, Client, TaskEnd, Upid};
use crate::{HostName, Trust};

const LIST: &str = "GET /nodes/pve1/tasks?source=all&since=1795353459&limit=500";

fn tasks() -> [Upid; 2] {
    ["101", "102"].map(|id| upid("qmconfig", id).parse().unwrap())
}

fn listed(status: [&str; 2]) -> Value {
    let line = |(upid, status): (Upid, &str)| {
        json!({ "upid": upid.to_string(), "type": "qmconfig", "id": upid.id, "user": "root@pam!t",
            "status": status, "starttime": upid.starttime, "endtime": upid.starttime + 1 })
    };
    tasks().into_iter().zip(status).map(line).collect()
}

#[tokio::test]
async fn one_list_shows_the_ends_of_all_tasks_of_a_node() {
    let script = Script::play([ok(listed(["OK", "WARNINGS: 1"]))]).await;
    let (client, [one, two]) = (script.client(), tasks());
    let ends = tokio::join!(client.follow(&one), client.follow(&two));
    assert_eq!((ends.0.unwrap(), ends.1.unwrap()), (TaskEnd::Ok, TaskEnd::Warnings(1)));
    assert_eq!(script.calls(), [LIST]);
}

#[tokio::test]
async fn a_task_without_a_success_in_the_list_is_queried_itself() {
    let script = Script::play([ok(listed(["OK", "it we"])), ended("OK")]).await;
    let (client, [one, two]) = (script.client(), tasks());
    let ends = tokio::join!(client.follow(&two), client.follow(&one));
    assert_eq!((ends.0.unwrap(), ends.1.unwrap()), (TaskEnd::Ok, TaskEnd::Ok));
    let calls = script.calls();
    assert_eq!((calls.len(), calls[0].as_str()), (2, LIST), "{calls:?}");
}

#[tokio::test]
async fn a_node_is_queried_less_than_twice_a_second() {
    let running = || ok(json!({ "status": "running" }));
    let script = Script::play([running(), running(), running(), ended("OK")]).await;
    let (host, trust) = (HostName("pve1".into()), Trust::Fingerprint(script.fingerprint.0));
    let auth = Auth::Token("root@pam!t=s3cret".into());
    let client = Client::new(host, &script.endpoint, &trust, auth, 1.0).unwrap();
    let [one, _] = tasks();
    let began = Instant::now();
    assert_eq!(client.follow(&one).await.unwrap(), TaskEnd::Ok);
    assert!(script.is_over());
    // The first look, and three that each wait for the node's turn.
    assert!(began.elapsed() >= Duration::from_millis(200 + 3 * 500), "{:?}", began.elapsed());
}
