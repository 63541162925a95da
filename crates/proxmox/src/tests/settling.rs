//! Writes whose answer was lost, and locks: what is repeated and what is not.

use serde_json::{Value, json};

use std::sync::Arc;

use crate::scripted::{Script, Turn, ended, no, ok, proxy_fault, task, upid};
use crate::{Claim, CloneMode, CloneRequest, CreateRequest, Error, Params, VmId};

const POST: &str = "POST /nodes/pve1/qemu/9000/clone";
const CONFIG: &str = "GET /nodes/pve1/qemu/101/config";
const TASKS: &str = "GET /nodes/pve1/tasks?source=active&limit=500";
const LOG: &str = "task log?start=0&limit=5";
const CLONES: &str = "GET /nodes/pve1/tasks?source=active&typefilter=qmclone";

/// A VM is k8sha's if its description starts with k8sha's line, whatever follows it.
#[derive(Debug)]
struct Line;

const LINE: &str = "made by: us";

impl Claim for Line {
    fn description(&self) -> String {
        format!("{LINE}\nfor: m1")
    }

    fn holds(&self, description: &str) -> bool {
        description.starts_with(LINE)
    }

    fn other(&self, description: &str) -> String {
        match description.strip_prefix("made by: ") {
            Some(owner) => format!(" of {owner}"),
            None => " of no owner".to_owned(),
        }
    }
}

fn wanted(mode: CloneMode) -> CloneRequest {
    CloneRequest {
        source: VmId(9000),
        newid: VmId(101),
        name: "m1".into(),
        mode,
        storage: Some("local-lvm".into()),
        pool: Some("kube".into()),
        claim: Arc::new(Line),
    }
}

fn ours(extra: Value) -> Turn {
    let mut config = json!({ "name": "m1", "description": Line.description() });
    for (key, value) in extra.as_object().unwrap() {
        config[key] = value.clone();
    }
    ok(config)
}

fn absent() -> Turn {
    no(500, "Configuration file 'nodes/pve1/qemu-server/101.conf' does not exist", "")
}

/// The placeholder with which Proxmox VE starts a clone.
fn placeholder() -> Turn {
    ok(json!({ "lock": "clone", "description": " qmclone temporary file" }))
}

/// The evidence that one of k8sha's tasks creates VM 101: the list of the active ones, and its log.
fn making() -> [Turn; 2] {
    let running = json!([{
        "upid": upid("qmclone", "9000"), "type": "qmclone", "id": "9000",
        "user": "root@pam!t", "status": "RUNNING", "starttime": 1
    }]);
    [ok(running), ok(json!([{ "n": 1, "t": "creating a clone of VM 9000 with ID 101" }]))]
}

/// The calls, truncated after a known prefix.
fn calls(script: &Script) -> Vec<String> {
    let cut = |call: String| match call {
        call if call.starts_with(POST) => POST.to_owned(),
        call if call.contains("/tasks/") => {
            format!("task {}", call.rsplit('/').next().unwrap_or_default())
        }
        call => call,
    };
    script.calls().into_iter().map(cut).collect()
}

#[tokio::test]
async fn a_clone_has_its_description_from_the_start() {
    for (mode, storage) in [(CloneMode::Linked, ""), (CloneMode::Full, "&storage=local-lvm")] {
        let script = Script::play([
            task("qmclone", "9000"),
            ended("OK"),
            ours(json!({"lock": "clone"})),
            ok(json!([])),
            ours(json!({})),
        ])
        .await;
        script.client().clone_vm(&wanted(mode), &script.client()).await.unwrap();
        let full = u8::from(mode == CloneMode::Full);
        let call = &script.calls()[0];
        let start =
            format!("{POST} newid=101&name=m1&description=made%20by%3A%20us%0Afor%3A%20m1&");
        assert!(call.starts_with(&start), "{call}");
        assert!(call.ends_with(&format!("&full={full}{storage}&pool=kube")), "{call}");
        assert_eq!(calls(&script), [POST, "task status", CONFIG, TASKS, CONFIG]);
    }
}

#[tokio::test]
async fn a_clone_that_happened_behind_a_596_is_not_repeated() {
    let mut turns = vec![proxy_fault(596, "Broken pipe"), placeholder()];
    turns.extend(making());
    turns.push(ours(json!({ "lock": "clone" })));
    turns.extend(making());
    turns.extend([ours(json!({})), ours(json!({}))]);
    let script = Script::play(turns).await;
    script.client().clone_vm(&wanted(CloneMode::Linked), &script.client()).await.unwrap();
    let looks = [CONFIG, TASKS, LOG].repeat(2);
    assert_eq!(calls(&script), [&[POST], looks.as_slice(), &[CONFIG, CONFIG]].concat());
}

#[tokio::test]
async fn a_clone_that_a_host_left_incomplete_is_reported_at_once() {
    let left = || [placeholder(), ok(json!([]))];
    let told = "VM 101 on `pve1` is incomplete: it still has the lock `clone` and Proxmox VE's \
                placeholder (`qmclone temporary file`), and no task is creating it";
    // Whether the task succeeds or its answer is lost: only its end counts.
    for begun in [vec![task("qmclone", "9000"), ended("OK")], vec![Turn::HangUp]] {
        let script = Script::play(begun.into_iter().chain((0..3).flat_map(|_| left()))).await;
        let wanted = wanted(CloneMode::Linked);
        let error = script.client().clone_vm(&wanted, &script.client()).await.unwrap_err();
        assert_eq!(error.to_string(), told);
        let hint = error.hint().unwrap();
        assert!(hint.starts_with("qm unlock 101 && qm destroy 101     (on pve1"), "{hint}");
        assert_eq!(calls(&script).iter().filter(|call| *call == POST).count(), 1);
        assert!(script.is_over());
    }
}

#[tokio::test]
async fn a_clone_in_a_task_of_k8shas_is_waited_for() {
    let running = ok(json!([{
        "upid": upid("qmclone", "9000"), "type": "qmclone", "id": "9000",
        "user": "root@pam!t", "status": "RUNNING", "starttime": 1
    }]));
    let log =
        |id: u32| ok(json!([{ "n": 1, "t": format!("creating a clone of VM 9000 with ID {id}") }]));
    let script =
        Script::play([Turn::HangUp, absent(), running, log(101), ours(json!({})), ours(json!({}))])
            .await;
    script.client().clone_vm(&wanted(CloneMode::Linked), &script.client()).await.unwrap();
    assert_eq!(calls(&script), [POST, CONFIG, CLONES, "task log?start=0&limit=5", CONFIG, CONFIG]);
}

#[tokio::test]
async fn a_clone_is_repeated_after_proof_that_nothing_happened() {
    let nothing = || [absent(), ok(json!([]))];
    let mut turns = vec![Turn::HangUp];
    turns.extend((0..3).flat_map(|_| nothing()));
    turns.extend([task("qmclone", "9000"), ended("OK"), ours(json!({}))]);
    let script = Script::play(turns).await;
    script.client().clone_vm(&wanted(CloneMode::Linked), &script.client()).await.unwrap();
    let looks = [CONFIG, CLONES].repeat(3);
    assert_eq!(
        calls(&script),
        [&[POST], looks.as_slice(), &[POST, "task status", CONFIG]].concat()
    );
}

#[tokio::test]
async fn a_repeat_that_finds_the_first_attempts_vm_is_done() {
    let nothing = || [absent(), ok(json!([]))];
    let mut turns = vec![proxy_fault(596, "Connection timed out")];
    turns.extend((0..3).flat_map(|_| nothing()));
    turns.push(no(500, "unable to create VM 101: config file already exists", ""));
    turns.push(ours(json!({ "lock": "clone" })));
    turns.extend(making());
    turns.extend([ours(json!({})), ours(json!({}))]);
    let script = Script::play(turns).await;
    script.client().clone_vm(&wanted(CloneMode::Linked), &script.client()).await.unwrap();
    assert!(script.is_over());
}

#[tokio::test]
async fn a_vm_of_another_user_at_the_vmid_is_not_taken_for_k8shas() {
    let taken = || no(500, "unable to create VM 101: config file already exists", "");
    let script = Script::play([taken(), ok(json!({ "name": "mail" }))]).await;
    let error =
        script.client().clone_vm(&wanted(CloneMode::Linked), &script.client()).await.unwrap_err();
    let want = "VM 101 on `pve1` was not created by k8sha: it is `mail` of no owner";
    assert_eq!(error.to_string(), want);

    let before = "made by: them";
    let script = Script::play([taken(), ok(json!({ "name": "m1", "description": before }))]).await;
    let error =
        script.client().clone_vm(&wanted(CloneMode::Linked), &script.client()).await.unwrap_err();
    assert!(error.to_string().ends_with("it is `m1` of them"), "{error}");
}

#[tokio::test]
async fn lock_timeouts_are_retried_whether_refused_or_failed() {
    let lock = "can't lock file '/var/lock/qemu-server/lock-101.conf' - got timeout";
    let storage = "clone failed: cfs-lock 'storage-x' error: got lock request timeout";
    let script = Script::play([
        no(500, lock, ""),
        task("qmclone", "9000"),
        ended(storage),
        ok(json!([{ "n": 1, "t": format!("TASK ERROR: {storage}") }])),
        task("qmclone", "9000"),
        ended("OK"),
        ours(json!({})),
    ])
    .await;
    script.client().clone_vm(&wanted(CloneMode::Full), &script.client()).await.unwrap();
    assert_eq!(calls(&script).iter().filter(|call| *call == POST).count(), 3);
}

#[tokio::test]
async fn a_refusal_is_not_retried() {
    let words = "Linked clone feature is not supported for 'local:9000/a.raw' (scsi0)";
    let script = Script::play([no(500, words, "")]).await;
    let error =
        script.client().clone_vm(&wanted(CloneMode::Linked), &script.client()).await.unwrap_err();
    assert!(error.to_string().ends_with(words) && error.hint().unwrap().contains("clone: full"));
    assert_eq!(script.requests().len(), 1);
}

#[tokio::test]
async fn a_create_looks_for_its_description() {
    let script = Script::play([
        Turn::HangUp,
        ours(json!({ "lock": "create" })),
        ok(json!([{
            "upid": upid("qmcreate", "101"), "type": "qmcreate", "id": "101",
            "user": "root@pam!t", "status": "RUNNING", "starttime": 1
        }])),
        ours(json!({})),
        ours(json!({})),
    ])
    .await;
    let wanted = CreateRequest {
        vmid: VmId(101),
        name: "m1".into(),
        pool: None,
        claim: Arc::new(Line),
        settings: Params::new().with("scsi0", "local-lvm:0,import-from=local:import/u.qcow2"),
    };
    script.client().create_vm(&wanted).await.unwrap();
    let call = &script.calls()[0];
    assert!(
        call.starts_with("POST /nodes/pve1/qemu vmid=101&name=m1&description=made%20by"),
        "{call}"
    );
    assert!(
        call.ends_with("&scsi0=local-lvm%3A0%2Cimport-from%3Dlocal%3Aimport%2Fu.qcow2"),
        "{call}"
    );
}

#[tokio::test]
async fn every_other_write_is_settled_by_its_state() {
    let idle = || ok(json!([]));
    let vm = VmId(101);

    let script = Script::play([Turn::HangUp, ok(json!({ "cores": 2, "tags": "b;k8sha" }))]).await;
    let settings = Params::new().with("cores", 2).with("tags", "k8sha;b");
    script.client().set_config(vm, &settings, &["ide3"], Some("d1")).await.unwrap();
    let call = "POST /nodes/pve1/qemu/101/config cores=2&tags=k8sha%3Bb&delete=ide3&digest=d1";
    assert_eq!(script.calls(), [call, CONFIG]);

    let script = Script::play([Turn::HangUp, ok(json!({ "status": "running" }))]).await;
    script.client().start_vm(vm).await.unwrap();
    assert_eq!(script.requests().len(), 2);

    let script = Script::play([Turn::HangUp, ok(json!({ "status": "stopped" }))]).await;
    script.client().stop_vm(vm).await.unwrap();
    assert_eq!(script.requests().len(), 2);

    let script = Script::play([Turn::HangUp, absent()]).await;
    script.client().destroy_vm(vm).await.unwrap();
    assert_eq!(script.requests().len(), 2);

    let template = || ok(json!({ "template": 1 }));
    let script = Script::play([ok(json!({})), Turn::HangUp, template(), template()]).await;
    script.client().make_template(vm).await.unwrap();
    assert_eq!(script.requests().len(), 3);
    script.client().make_template(vm).await.unwrap();
    assert!(script.is_over(), "a template is left alone");

    let listed = ok(json!([{ "volid": "local:iso/a.iso", "size": 4, "format": "iso" }]));
    let script = Script::play([Turn::HangUp, listed]).await;
    script.client().upload_iso("local", "a.iso", b"data").await.unwrap();
    assert_eq!(script.requests().len(), 2);

    let short = || ok(json!([{ "volid": "local:iso/a.iso", "size": 3, "format": "iso" }]));
    let script = Script::play([
        Turn::HangUp,
        short(),
        idle(),
        short(),
        idle(),
        short(),
        idle(),
        task("imgcopy", ""),
        ended("OK"),
    ])
    .await;
    script.client().upload_iso("local", "a.iso", b"data").await.unwrap();
    assert!(script.is_over());

    let script = Script::play([Turn::HangUp, ok(json!([]))]).await;
    script.client().delete_volume("local:iso/a.iso").await.unwrap();
    assert_eq!(script.requests().len(), 2);
}

#[tokio::test]
async fn starting_a_running_vm_and_destroying_a_missing_one_succeed() {
    let script = Script::play([
        task("qmstart", "101"),
        ended("VM 101 already running"),
        ok(json!([])),
        absent(),
    ])
    .await;
    script.client().start_vm(VmId(101)).await.unwrap();
    script.client().destroy_vm(VmId(101)).await.unwrap();
    assert!(script.is_over());
}

#[tokio::test]
async fn a_host_that_always_closes_the_connection_is_given_up_after_three_repeats() {
    let round = || {
        [Turn::HangUp, absent(), ok(json!([])), absent(), ok(json!([])), absent(), ok(json!([]))]
    };
    let script = Script::play((0..4).flat_map(|_| round())).await;
    let error =
        script.client().clone_vm(&wanted(CloneMode::Linked), &script.client()).await.unwrap_err();
    assert!(matches!(error, Error::UnknownOutcome { .. }), "{error}");
    assert_eq!(calls(&script).iter().filter(|call| *call == POST).count(), 4);
}

#[tokio::test]
async fn a_guest_that_does_not_shut_down_is_not_a_lock_timeout() {
    let words = "VM quit/powerdown failed - got timeout";
    let script = Script::play([task("qmshutdown", "101"), ended(words), ok(json!([]))]).await;
    let patience = std::time::Duration::from_secs(60);
    let error = script.client().shutdown_vm(VmId(101), patience).await.unwrap_err();
    assert!(error.to_string().contains(words));
    assert_eq!(
        script.calls()[0],
        "POST /nodes/pve1/qemu/101/status/shutdown timeout=60&forceStop=1"
    );
    assert!(script.is_over());
}

#[test]
fn every_call_can_be_made_from_a_spawned_task() {
    fn movable<T: Send>(_: impl FnOnce(crate::Client) -> T) {}
    let wanted = wanted(CloneMode::Linked);
    movable(|client| async move { client.clone_vm(&wanted, &client).await });
    movable(|client| async move { client.resize_disk(VmId(1), "scsi0", 1).await });
    movable(|client| async move { client.make_template(VmId(1)).await });
    movable(|client| async move { client.start_vm(VmId(1)).await });
    movable(|client| async move { client.destroy_vm(VmId(1)).await });
    movable(|client| async move { client.set_config(VmId(1), &Params::new(), &[], None).await });
    movable(|client| async move { client.upload_iso("local", "a.iso", b"x").await });
    movable(|client| async move { client.delete_volume("local:iso/a.iso").await });
    movable(|client| async move { client.download("a", "import", "b", "c", "d").await });
}

#[tokio::test]
async fn tasks_that_are_awaited_together_are_queried_together() {
    let [one, two] = ["101", "102"].map(|id| upid("qmstart", id));
    let line = |upid: &str, status: &str, ended: bool| {
        let mut line = json!({ "upid": upid, "type": "qmstart", "status": status, "starttime": 1 });
        if ended {
            line["endtime"] = json!(2);
        }
        line
    };
    let failed = "start failed: QEMU exited with code 1";
    let script = Script::play([
        ok(json!([line(&one, "RUNNING", false), line(&two, "RUNNING", false)])),
        // The list may truncate the error text of a failure.
        ok(json!([line(&one, "OK", true), line(&two, "start fai", true)])),
        ended(failed),
        ok(json!([{ "n": 1, "t": failed }])),
    ])
    .await;
    let client = script.client();
    let (upids, place) = ([&one, &two].map(|id| id.parse().unwrap()), client.clone());
    let (first, second) = tokio::join!(client.follow(&upids[0]), place.follow(&upids[1]));
    assert_eq!(first.unwrap(), crate::TaskEnd::Ok);
    assert!(second.unwrap_err().to_string().contains(failed));
    let calls = calls(&script);
    let list = "GET /nodes/pve1/tasks?source=all&since=1795353459&limit=500";
    assert_eq!(calls[..2], [list, list]);
    assert_eq!(calls[2..], ["task status", "task log?start=0&limit=0"]);
}
