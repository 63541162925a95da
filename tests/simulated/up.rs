//! The whole life of a cluster as a user runs it: up, up again, destroy.

use crate::golden::assert_golden;
use crate::world::{World, k8sha};
use k8sha_simulator::inspect;
use regex::Regex;
use serde_json::Value;

fn names(report: &Value, result: &str) -> Vec<String> {
    let nodes = report["nodes"].as_array().unwrap().iter();
    nodes
        .filter(|node| node["result"].as_str().unwrap().contains(result))
        .map(|node| node["node"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_main_job_ends_with_eight_vms_one_vip_and_six_control_planes() {
    let world = World::new();
    let report = world.run(&["up", "--json"]).ok().json();
    assert_eq!(report["verdict"], "done");
    assert_eq!(report["simulated"], true);
    let host = |name: &str| match name {
        "k8s1vrrp1" | "k8s1master1" | "k8s1master2" | "k8s1master3" => "pve1",
        _ => "pve2",
    };
    for node in report["nodes"].as_array().unwrap() {
        assert_eq!(node["host"], host(node["node"].as_str().unwrap()), "{node}");
    }
    assert_eq!(names(&report, "created").len(), 8);
    assert_eq!(names(&report, "control plane").len(), 6);
    let kubectl = report["kubectl"].as_str().unwrap();
    for number in 1..=6 {
        let line =
            kubectl.lines().find(|l| l.starts_with(&format!("k8s1master{number}.kloud.lan")));
        assert!(line.unwrap().contains("control-plane"), "{kubectl}");
    }

    let status = world.run(&["status", "--json"]).ok().json();
    assert_eq!(status["healthy"], true, "{status:#}");
    assert_eq!(status["vip"]["address"], "10.101.1.10");
    let holder = status["vip"]["holder"].as_str().unwrap();
    assert!(holder.starts_with("k8s1vrrp"), "{holder}");
    assert_eq!(status["api"]["ready"], true);

    let kubeconfig = std::fs::read_to_string(report["kubeconfig"].as_str().unwrap()).unwrap();
    assert!(kubeconfig.contains("server: https://k8s1api.kloud.lan:6443"), "{kubeconfig}");
}

#[test]
fn a_second_up_finds_nothing_to_do_and_sends_no_write() {
    let world = World::new().made();
    let before = world.requests().len();
    let report = world.run(&["up", "--json"]).ok().json();
    assert_eq!(report["verdict"], "settled", "{report:#}");
    let after = world.requests();
    assert!(after.len() > before, "it has looked");
    let writes: Vec<&Value> = after[before..].iter().filter(|r| r["method"] != "GET").collect();
    assert!(writes.is_empty(), "{writes:#?}");

    let plan = world.run(&["plan", "--quiet"]).ok();
    assert!(plan.stdout.contains("nothing to do"), "{}", plan.stdout);
}

#[test]
fn a_plan_makes_only_get_requests_and_lists_what_up_then_does() {
    let world = World::new();
    let plan = world.run(&["plan", "--json"]).ok().json();
    assert!(!world.requests().is_empty());
    assert!(world.writes().is_empty(), "{:#?}", world.writes());
    let report = world.run(&["up", "--json"]).ok().json();
    let steps = |value: &Value, key: &str| -> Vec<String> {
        let list = value["steps"].as_array().unwrap().iter();
        list.map(|step| step[key].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(steps(&plan, "id"), steps(&report, "step"));
}

#[test]
fn a_rebuild_gives_a_new_cluster_and_destroy_leaves_the_world_as_it_was() {
    let world = World::new();
    world.run(&["plan", "--quiet"]).ok();
    let bare = world.digest();
    let first = world.run(&["up", "--json"]).ok().json();
    let kubeconfig = std::fs::read_to_string(first["kubeconfig"].as_str().unwrap()).unwrap();

    let rebuilt = world.run(&["rebuild", "--yes", "--json"]).ok().json();
    assert_eq!(names(&rebuilt, "control plane").len(), 6, "{rebuilt:#}");
    let again = std::fs::read_to_string(rebuilt["kubeconfig"].as_str().unwrap()).unwrap();
    assert_ne!(kubeconfig, again, "the cluster has another CA");
    assert_eq!(world.run(&["status", "--json"]).ok().json()["healthy"], true);

    let gone = world.run(&["destroy", "--yes", "--json"]).ok().json();
    assert_eq!(names(&gone, "destroyed").len(), 8);
    assert_eq!(world.digest(), bare);
}

#[test]
fn a_destroy_removes_k8shas_keys_from_an_etcd_whose_first_member_is_dead() {
    let world = World::new();
    world.run(&["plan", "--quiet"]).ok();
    let bare = world.digest();
    world.run(&["up", "--quiet"]).ok();
    let dead = ["101", "102"].map(|last| format!("etcd-member-down@10.103.1.{last}"));
    let gone = ["destroy", "--yes", "--json", "--inject", &dead[0], "--inject", &dead[1]];
    let report = world.run(&gone).ok().json();
    let steps = report["steps"].as_array().unwrap();
    assert!(steps.iter().any(|step| step["step"] == "forget-etcd" && step["changed"] == true));
    assert_eq!(world.digest(), bare, "nothing of ours is left in etcd either");
}

#[test]
fn a_destroy_names_the_hosts_that_keep_their_routes_and_the_command_that_removes_them() {
    let world = World::new().after(&["provision", "--pve", "pve1", "--quiet"]);
    // As `k8sha routes --apply` records it; simulated hosts have no routes.
    let note = world.path().join("operator/k8s1-cluster/routed-hosts");
    std::fs::write(&note, "pve1\npve2\n").unwrap();
    let notes = |report: &Value| report["notes"].to_string();
    let wanted = "set are still on pve1, pve2; `k8sha routes --remove --profile k8s1 --simulate ";
    let gone = world.run(&["destroy", "--yes", "--json"]).ok().json();
    assert!(notes(&gone).contains(wanted), "{gone:#}");
    let again = world.run(&["destroy", "--yes", "--json"]).ok().json();
    assert!(notes(&again).contains(wanted), "they are there still: {again:#}");
    std::fs::remove_file(note).unwrap();
    let last = world.run(&["destroy", "--yes", "--json"]).ok().json();
    assert!(!notes(&last).contains("routes"), "{last:#}");
}

#[test]
fn a_destroy_names_every_member_of_an_etcd_without_quorum_and_stops_before_the_machines() {
    let world = World::new().made();
    let dead = ["101", "103", "203"].map(|last| format!("etcd-member-down@10.103.1.{last}"));
    let mut args = vec!["destroy", "--yes", "--keep-templates", "--json"];
    dead.iter().for_each(|fault| args.extend(["--inject", fault]));
    let ran = world.run(&args);
    assert_eq!(ran.code, 5, "{ran:#?}");
    let report = ran.json();
    let failure = &report["failures"][0];
    let said = failure["said"].as_str().unwrap();
    assert!(said.starts_with("6 of 6 etcd members cannot be used from `k8s1master"), "{said}");
    assert!(said.contains("https://10.103.1.102:2379: it is not healthy: etcdserver: no leader"));
    assert!(failure["hint"].as_str().unwrap().contains("--keep-etcd"), "{failure:#}");
    assert_eq!(names(&report, "blocked").len(), 8, "{report:#}");
    let next = report["next"][0].as_str().unwrap();
    assert!(next.starts_with("k8sha destroy --keep-templates --profile k8s1 --simulate"), "{next}");
    world.run(&["destroy", "--yes", "--quiet"]).ok();
}

#[test]
fn a_rebuild_removes_nothing_while_a_needed_etcd_member_is_dead() {
    let world = World::new().made();
    let before = world.digest();
    let ran =
        world.run(&["rebuild", "--yes", "--json", "--inject", "etcd-member-down@10.103.1.203"]);
    assert_eq!(ran.code, 5, "{ran:#?}");
    let report = ran.json();
    let failure = &report["failures"][0];
    assert_eq!(failure["step"], "forget-etcd");
    assert!(failure["doing"].as_str().unwrap().contains("nothing was removed"), "{failure:#}");
    assert!(failure["said"].as_str().unwrap().contains("10.103.1.203"), "{failure:#}");
    assert_eq!(world.digest(), before);
    world.run(&["rebuild", "--yes", "--quiet"]).ok();
}

#[test]
fn destroy_asks_for_confirmation_and_does_nothing_without_a_terminal() {
    let world = World::new().after(&["provision", "--pve", "pve1", "--quiet"]);
    let before = world.digest();
    let ran = world.run(&["destroy"]);
    assert_eq!(ran.code, 2, "{ran:#?}");
    assert!(ran.stderr.contains("--yes"), "{}", ran.stderr);
    assert_eq!(world.digest(), before);
}

#[test]
fn provisioning_one_host_creates_only_its_rows_and_the_other_completes_it() {
    let world = World::new();
    let first = world.run(&["provision", "--pve", "pve1", "--json"]).ok().json();
    assert_eq!(names(&first, "created").len(), 4);
    let hosts: Vec<String> =
        world.vms().into_iter().filter(|vm| !vm.template).map(|vm| vm.host).collect();
    assert_eq!(hosts, ["pve1"; 4]);
    let touched =
        world.writes().into_iter().filter(|r| r["path"].as_str().unwrap().contains("pve2"));
    assert_eq!(touched.count(), 0, "nothing was written on pve2");

    let second = world.run(&["provision", "--pve", "pve1,pve2", "--json"]).ok().json();
    assert_eq!(names(&second, "created").len(), 4);
    assert_eq!(names(&second, "kept").len(), 4);
    let boot = world.run(&["bootstrap", "--json"]).ok().json();
    assert_eq!(names(&boot, "control plane").len(), 6);
}

#[test]
fn a_provision_of_one_host_names_the_command_that_creates_the_rest() {
    let world = World::new();
    let one = world.run(&["provision", "--pve", "pve1", "--quiet"]).ok().stdout;
    assert!(one.contains("k8sha up --profile k8s1 --simulate"), "{one}");
    assert!(one.contains("creates the remaining VMs on pve2"), "{one}");
    assert!(!one.contains("k8sha bootstrap"), "{one}");
    let all = world.run(&["provision", "--quiet"]).ok().stdout;
    assert!(all.contains("k8sha bootstrap --profile k8s1 --simulate"), "{all}");
}

#[test]
fn one_template_on_shared_storage_serves_both_hosts() {
    let mut world = World::new();
    let shared = [
        ("      storage: local-lvm", "      storage: tank"),
        ("ubuntu-22.04: 9002", "ubuntu-22.04: 9001"),
    ];
    world.with_profile("shared.yaml", &shared);
    let plan = world.run(&["plan", "--quiet"]).ok().stdout;
    assert!(plan.contains("Proxmox VE cluster `site` (pve1, pve2)"), "{plan}");
    let bare = world.digest();
    let report = world.run(&["up", "--json"]).ok().json();
    assert_eq!(names(&report, "control plane").len(), 6);
    let (templates, vms): (Vec<_>, Vec<_>) = world.vms().into_iter().partition(|vm| vm.template);
    assert_eq!(templates.len(), 1, "{templates:#?}");
    assert_eq!((templates[0].host.as_str(), templates[0].vmid), ("pve1", 9001));
    let on = |host: &str| vms.iter().filter(|vm| vm.host == host).count();
    assert_eq!((on("pve1"), on("pve2")), (4, 4));
    let clones: Vec<Value> = world
        .writes()
        .into_iter()
        .filter(|request| request["path"].as_str().unwrap().ends_with("/qemu/9001/clone"))
        .collect();
    assert_eq!(clones.len(), 8);
    let away: Vec<&Value> =
        clones.iter().filter(|clone| clone["form"]["target"] == "pve2").collect();
    assert_eq!(away.len(), 4, "{clones:#?}");
    assert!(clones.iter().all(|clone| clone["host"] == "pve1"), "{clones:#?}");

    assert_eq!(world.run(&["doctor"]).ok().stdout, "");
    assert_eq!(world.run(&["up", "--json"]).ok().json()["verdict"], "settled");
    world.run(&["destroy", "--yes", "--quiet"]).ok();
    assert_eq!(world.digest(), bare);
}

#[test]
fn machines_with_preinstalled_packages_install_none() {
    let mut world = World::new();
    world.with_profile("image.yaml", &[("preinstalled: false", "preinstalled: true")]);
    let report = world.run(&["up", "--json"]).ok().json();
    assert_eq!(names(&report, "control plane").len(), 6, "{report:#}");
    assert_eq!(world.run(&["status", "--json"]).ok().json()["healthy"], true);
}

#[test]
fn an_unknown_host_is_an_error_that_lists_the_known_ones() {
    let world = World::new();
    let ran = world.run(&["provision", "--pve", "pve1,pve9"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("`pve9`") && ran.stderr.contains("pve1, pve2"), "{}", ran.stderr);
    assert!(world.writes().is_empty());
}

#[test]
fn two_standalone_hosts_work_as_well_as_a_cluster() {
    let world = World::new();
    let report = world.run(&["up", "--json", "--topology", "standalone"]).ok().json();
    assert_eq!(names(&report, "control plane").len(), 6);
    let plan = world.run(&["plan", "--quiet"]).ok();
    assert!(plan.stdout.contains("standalone Proxmox VE host pve1"), "{}", plan.stdout);
}

#[test]
fn the_homelab_profile_ends_with_ready_nodes_and_labelled_workers() {
    let world = World::of("homelab");
    let report = world.run(&["up", "--json"]).ok().json();
    let kubectl = report["kubectl"].as_str().unwrap();
    assert_eq!(kubectl.matches(" Ready ").count(), 5, "{kubectl}");
    assert_eq!(kubectl.matches("worker ").count(), 2, "{kubectl}");
    assert_eq!(world.run(&["up", "--json"]).ok().json()["verdict"], "settled");
}

#[test]
fn a_world_without_a_folder_ends_with_its_command() {
    let ran = k8sha(&["up", "--simulate", "--speed", crate::world::SPEED, "--quiet"]).ok();
    assert!(ran.stdout.contains("SIMULATED"), "{}", ran.stdout);
    assert!(ran.stdout.contains("ends with this command"), "{}", ran.stdout);
    let next = "next        k8sha up --simulate DIR     (keeps the simulated environment)\n";
    assert!(ran.stdout.contains(next), "{}", ran.stdout);
    // The next run has the same requirements; nothing of a failed run is left.
    let asked = ["up", "--simulate", "--profile", "homelab", "--topology", "standalone", "--quiet"];
    let faulty = ["--speed", crate::world::SPEED, "--inject", "disk-full@pve1"];
    let ran = k8sha(&[asked.as_slice(), &faulty].concat());
    assert_eq!(ran.code, 3, "{ran:#?}");
    let next =
        "next        k8sha up --profile homelab --simulate DIR --topology standalone     (keeps";
    assert!(ran.stdout.contains(next), "{}", ran.stdout);
}

#[test]
fn no_secret_is_in_a_log_a_report_or_a_plan() {
    let world = World::new();
    let ran = world.run(&["up", "-vv"]).ok();
    let mut texts = vec![ran.stdout, ran.stderr, world.run(&["plan", "--json"]).ok().stdout];
    let logs = std::fs::read_dir(world.path().join("operator/k8s1-cluster/log")).unwrap();
    texts.extend(logs.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap()));
    let secrets = inspect::secrets(&inspect::open(&world.path()).unwrap());
    assert!(secrets.len() >= 4, "tokens, a certificate key, private keys: {}", secrets.len());
    for secret in &secrets {
        for text in &texts {
            assert!(!text.contains(secret.as_str()), "`{secret}` was shown");
        }
    }
}

/// A report without the parts that differ from run to run, however long the machine takes.
fn steady(text: &str, world: &World) -> String {
    let text = crate::world::redact(text, &world.path());
    // Durations as reports print them (`9.9 s`, `3 min 05 s`), and ages as kubectl does (`32s`,
    // `2h5m`).
    let spans = Regex::new(r"\b(\d+ min )?\d+(\.\d)? s\b|\b(\d+[dhms])+\b").unwrap();
    let text = spans.replace_all(&text, "T");
    // Columns move with the widths of the replaced texts.
    // Which chain was the longest depends on the machine too.
    let chain = Regex::new(r"(?m)^  (chain|shorter) .*$").unwrap();
    let text = chain.replace_all(&text, "  $1 STEPS");
    let line = |line: &str| -> String {
        let line = line.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        format!("{}\n", line.split("/log/").next().unwrap())
    };
    text.lines().map(line).collect()
}

#[test]
fn plan_and_report_match_the_golden_files() {
    // The certificate key must remain valid during this test, on a busy machine too.
    let world = World::new().at_speed("40");
    let plan = world.run(&["plan", "--quiet"]).ok().stdout;
    assert_golden("plan/k8s1.txt", &crate::world::redact(&plan, &world.path()));
    let report = world.run(&["up", "--quiet"]).ok().stdout;
    assert_golden("report/up.txt", &steady(&report, &world));
    let plan = world.run(&["plan", "--quiet"]).ok().stdout;
    assert_golden("plan/settled.txt", &plan);
    let status = world.run(&["status", "--quiet"]).ok().stdout;
    // The balancer that was up first holds the VIP.
    let status = status.replace("held by k8s1vrrp2", "held by k8s1vrrp1");
    assert_golden("report/status.txt", &steady(&status, &world));
    let dns = world.run(&["dns", "--quiet"]).ok().stdout;
    assert_golden("report/dns.txt", &dns);
}

#[test]
fn changed_rows_are_planned_and_applied_setting_by_setting() {
    let mut world = World::new().made();
    let row =
        "ip: 10.101.1.203, os: ubuntu-22.04, kernel: mainline-6.6.1, ram: 4G, vcpu: 2, disk: 20G";
    let more =
        "ip: 10.101.1.203, os: ubuntu-22.04, kernel: mainline-6.6.1, ram: 8G, vcpu: 4, disk: 40G";
    world.with_profile("mine.yaml", &[(row, more)]);
    let plan = world.run(&["plan", "--quiet"]).ok().stdout;
    assert_golden("plan/changed.txt", &crate::world::redact(&plan, &world.path()));
    world.run(&["up", "--quiet"]).ok();
    let plan = world.run(&["plan", "--quiet"]).ok().stdout;
    assert!(plan.contains("nothing to do"), "{plan}");
}

#[test]
fn the_help_of_every_command_matches_the_golden_file() {
    let mut text = k8sha(&["--help"]).ok().stdout;
    // Each command that it lists, such as `  up   Create …`.
    let list = text.split_once("Commands:\n").unwrap().1.split_once("\n\n").unwrap().0.to_owned();
    let names = list.lines().filter_map(|line| line.strip_prefix("  "));
    let names = names.filter_map(|line| line.split_once(' ')).map(|(name, _)| name);
    for command in names.filter(|name| !name.is_empty() && *name != "help") {
        text.push_str(&format!(
            "\n---- {command} ----\n{}",
            k8sha(&[command, "--help"]).ok().stdout
        ));
    }
    assert_golden("help.txt", &text);
}

#[test]
fn a_nodes_documents_are_shown_without_secrets() {
    let ran = k8sha(&["render", "k8s1master1", "--quiet", "--profile", "k8s1"]).ok();
    for part in ["#cloud-config", "instance-id:", "ethernets:", "kind: InitConfiguration"] {
        assert!(ran.stdout.contains(part), "no {part} in {}", ran.stdout);
    }
    assert!(!ran.stdout.contains("PRIVATE KEY"), "{}", ran.stdout);
    let unknown = k8sha(&["render", "k8s1master9", "--profile", "k8s1"]);
    assert_eq!(unknown.code, 2);
    assert!(unknown.stderr.contains("k8s1master1"), "{}", unknown.stderr);
}
