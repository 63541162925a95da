//! Faults: each is recovered from or ends in its own error, and a second run finishes.

use crate::golden::assert_golden;
use crate::world::World;
use serde_json::Value;

/// Runs `up` with a fault; a second run without it must always finish.
fn up_with(fault: &str) -> (World, Value, i32) {
    let world = World::new();
    let ran = world.run(&["up", "--json", "--inject", fault]);
    let report = if ran.stdout.is_empty() { Value::String(ran.stderr) } else { ran.json() };
    (world, report, ran.code)
}

fn finishes(world: &World) {
    let report = world.run(&["up", "--json"]).ok().json();
    assert!(["done", "settled"].contains(&report["verdict"].as_str().unwrap()), "{report:#}");
    assert_eq!(world.run(&["status", "--json"]).ok().json()["healthy"], true);
}

/// The run recovers from the fault.
fn healed(fault: &str) {
    let (world, report, code) = up_with(fault);
    assert_eq!(code, 0, "{fault}: {report:#}");
    assert_eq!(world.vms().len(), 10, "{fault}: no VM twice, none missing");
    finishes(&world);
}

/// The fault ends in an error with the text of the golden file.
fn named(fault: &str, exit: i32) {
    let (world, report, code) = up_with(fault);
    assert_eq!(code, exit, "{fault}: {report:#}");
    let text = match &report {
        Value::String(text) => text.clone(),
        report => {
            let failures = report["failures"].as_array().unwrap();
            let line = |failure: &Value| {
                let field = |key: &str| failure[key].as_str().unwrap_or("-").to_owned();
                let tail = failure["tail"].as_array().unwrap();
                let tail: String =
                    tail.iter().map(|line| format!("  | {}\n", line.as_str().unwrap())).collect();
                format!(
                    "step:  {}\ndoing: {}\non:    {}\nsaid:  {}\nhint:  {}\n{tail}",
                    field("step"),
                    field("doing"),
                    field("on"),
                    field("said"),
                    field("hint")
                )
            };
            failures.iter().map(line).collect::<Vec<_>>().join("\n")
        }
    };
    let name = fault.split('@').next().unwrap();
    assert_golden(&format!("faults/{name}.txt"), &crate::world::redact(&text, &world.path()));
    finishes(&world);
}

#[test]
fn a_run_recovers_from_a_lock_timeout_of_a_clone() {
    healed("clone-lock-timeout@pve1");
}

#[test]
fn a_failed_clone_task_is_named_with_its_log() {
    named("task-fails@k8s1master1", 3);
}

#[test]
fn a_failed_start_is_named_with_what_qemu_said() {
    named("start-fails@k8s1master2", 3);
}

#[test]
fn a_configuration_changed_after_the_clone_is_read_again_before_it_is_written() {
    let fault = "config-changed@k8s1master2";
    healed(fault);
    let world = World::new();
    world.run(&["provision", "--quiet", "--inject", fault]).ok();
    let lost: Vec<Value> =
        world.requests().into_iter().filter(|request| request["status"] == 500).collect();
    assert_eq!(lost.len(), 1, "{lost:#?}");
    assert!(lost[0]["path"].as_str().unwrap().ends_with("/qemu/1102/config"), "{lost:#?}");
    let inner = k8sha_simulator::inspect::open(&world.path()).unwrap();
    let found = inner.pve.datacenters.iter().find_map(|dc| dc.vms.get(&1102));
    let config = &found.unwrap().config;
    assert_eq!((config["keyboard"].as_str(), config["memory"].as_str()), ("de", "4096"));
}

#[test]
fn a_596_on_a_completed_write_is_resolved_by_reading_back() {
    healed("proxy-timeout-596@pve1");
    healed("proxy-timeout-596@pve2#9");
}

#[test]
fn a_late_guest_is_waited_for() {
    healed("ssh-late@k8s1master2");
}

#[test]
fn a_wrong_host_key_is_refused_at_first_contact() {
    named("wrong-host-key@k8s1master2", 4);
}

#[test]
fn a_stale_name_server_is_named_before_anything_is_created() {
    named("dns-stale@10.101.1.3", 6);
}

#[test]
fn a_silent_name_server_is_named_before_anything_is_created() {
    named("dns-silent@10.101.1.3", 6);
}

#[test]
fn an_expired_certificate_key_is_renewed() {
    healed("expired-key@k8s1master1");
}

#[test]
fn a_guest_that_never_boots_is_named() {
    named("never-boots@k8s1master3", 4);
}

#[test]
fn an_image_with_another_checksum_than_the_pinned_one_is_refused() {
    named("bad-checksum@pve1", 3);
}

#[test]
fn a_full_storage_is_named() {
    named("disk-full@pve2", 3);
}

#[test]
fn a_proxmox_cluster_without_quorum_is_named() {
    named("no-quorum@pve1", 3);
}

#[test]
fn a_host_that_is_switched_off_is_named() {
    named("host-down@pve2", 3);
}

#[test]
fn an_expired_host_certificate_is_accepted_if_pinned() {
    healed("certificate-expired@pve1");
}

#[test]
fn bad_etcd_files_are_named() {
    named("etcd-file-broken@cert", 5);
    named("etcd-cert-expired@cert", 5);
}

#[test]
fn a_run_recovers_from_an_interrupted_upload() {
    healed("upload-reset@pve1");
}

#[test]
fn a_preflight_error_of_kubeadm_is_named() {
    named("preflight-error@k8s1master1", 5);
}

#[test]
fn a_failing_cloud_init_is_named_with_its_log() {
    named("cloud-init-fails@k8s1master4", 4);
}

#[test]
fn a_dead_etcd_member_is_named() {
    named("etcd-member-down@10.103.1.203", 5);
}
