//! Lists that are read once for all concurrent callers.

use std::time::Duration;

use serde_json::json;

use crate::VmId;
use crate::scripted::{Script, no, ok};

const VMS: &str = "GET /nodes/pve1/qemu";

fn vm(vmid: u32) -> serde_json::Value {
    json!([{ "vmid": vmid, "name": "m1", "status": "running" }])
}

#[tokio::test]
async fn concurrent_callers_share_one_read() {
    let script = Script::play([ok(vm(101))]).await;
    let client = script.client();
    let seen = tokio::join!(client.runs(VmId(101)), client.vms(), client.vms());
    assert!(seen.0.unwrap());
    assert_eq!(seen.1.unwrap()[0].vmid, VmId(101));
    assert_eq!(seen.2.unwrap()[0].vmid, VmId(101));
    assert_eq!(script.calls(), [VMS]);
}

#[tokio::test]
async fn a_caller_after_the_request_was_sent_gets_a_newer_list() {
    let script = Script::play([ok(vm(101)), ok(vm(102))]).await;
    let client = script.client();
    let late = async {
        while script.calls().is_empty() {
            tokio::task::yield_now().await;
        }
        client.vms().await
    };
    let (early, late) = tokio::join!(client.vms(), late);
    assert_eq!(early.unwrap()[0].vmid, VmId(101));
    assert_eq!(late.unwrap()[0].vmid, VmId(102));
    assert_eq!(script.calls(), [VMS, VMS]);
}

#[tokio::test]
async fn a_failed_read_is_not_shared() {
    let script = Script::play([no(500, "it went wrong", ""), ok(vm(101))]).await;
    let client = script.client();
    let (first, second) = tokio::join!(client.vms(), client.vms());
    assert!(first.unwrap_err().to_string().contains("it went wrong"));
    assert_eq!(second.unwrap()[0].vmid, VmId(101));
    assert_eq!(script.calls(), [VMS, VMS]);
}

#[tokio::test]
async fn different_lists_are_read_separately() {
    let list = json!([{ "volid": "local:iso/a.iso", "content": "iso", "size": 1 }]);
    let script = Script::play([ok(list), ok(json!([]))]).await;
    let client = script.client();
    assert_eq!(client.storage_content("local", "iso").await.unwrap().len(), 1);
    assert_eq!(client.storage_content("local", "import").await.unwrap().len(), 0);
    let content = "GET /nodes/pve1/storage/local/content?content=";
    assert_eq!(script.calls(), [format!("{content}iso"), format!("{content}import")]);
}

#[tokio::test]
async fn a_vm_missing_from_the_list_is_queried_itself() {
    let stopped = json!({ "status": "stopped", "vmid": 101 });
    let script = Script::play([ok(json!([])), ok(stopped)]).await;
    assert!(!script.client().runs(VmId(101)).await.unwrap());
    assert_eq!(script.calls(), [VMS, "GET /nodes/pve1/qemu/101/status/current"]);
}

#[tokio::test]
async fn pollers_share_a_list_for_a_while_and_a_look_is_never_that_old() {
    let script = Script::play([ok(vm(101)), ok(vm(102)), ok(vm(103))]).await;
    let client = script.client();
    let first = async |age| client.watched_vms(age).await.unwrap()[0].vmid;
    let hour = Duration::from_secs(3600);
    assert_eq!((first(hour).await, first(hour).await), (VmId(101), VmId(101)));
    assert_eq!(client.vms().await.unwrap()[0].vmid, VmId(102));
    assert_eq!(first(hour).await, VmId(101));
    assert_eq!(first(Duration::ZERO).await, VmId(103));
    assert!(script.is_over());
}
