//! Seeds do not outlive their use, whatever happens in a run; and every machine keeps its seed as long
//! as it needs it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use k8sha::cluster::{HostName, VmId};
use k8sha::mark::{Mark, Marked};
use k8sha::plan::spec;
use k8sha::proxmox::tls::Fingerprint;
use k8sha::proxmox::{Auth, Client, Params};
use k8sha_simulator::inspect;
use serde_json::Value;

use crate::living::Living;
use crate::privileges::token;
use crate::standing::Server;
use crate::world::{SPEED, World, program};

/// The seeds on the storages of a world.
pub fn seeds(world: &Path) -> BTreeSet<String> {
    let all = inspect::volumes(&inspect::open(world).unwrap());
    all.into_iter().filter(|volume| spec::is_seed_name(volume)).collect()
}

/// No seed is on any storage or in any drive, and no machine has lost its drive.
fn none_left(world: &Path) {
    assert_eq!(seeds(world), BTreeSet::new());
    let state = inspect::open(world).unwrap();
    for vm in inspect::vms(&state).into_iter().filter(|vm| !vm.template) {
        let config = inspect::config(&state, &vm.host, vm.vmid).unwrap();
        assert_eq!(config[spec::SEED_DRIVE], spec::EJECTED, "{}", vm.name);
        let mark = Mark::find(&config["description"]).unwrap();
        let made = mark.machine.unwrap();
        assert_eq!(mark.read, Some(made.seed), "{}", vm.name);
    }
}

fn ejects(request: &Value) -> bool {
    request["form"]["ide2"] == spec::EJECTED
}

fn uploads(requests: &[Value]) -> usize {
    requests.iter().filter(|request| request["path"].as_str().unwrap().ends_with("/upload")).count()
}

/// Restores a machine's seed, in the drive and on the storage, as before the end of its first boot.
async fn back(client: &Client, vmid: u32) -> String {
    let vmid = VmId(vmid);
    let config = client.vm_config(vmid).await.unwrap();
    let mark = config.mark().unwrap();
    let node = mark.node.clone().unwrap();
    let file = spec::seed_file(&mark.creation, &node, mark.read.as_ref().unwrap());
    let volume = client.upload_iso("local", &file, b"a seed").await.unwrap();
    let before = Mark { read: None, ..mark }.replace_in(config.get("description").unwrap());
    let settings = Params::new()
        .with(spec::SEED_DRIVE, format!("{volume},media=cdrom"))
        .with("description", before);
    client.set_config(vmid, &settings, &[], config.digest()).await.unwrap();
    volume
}

#[test]
fn after_up_no_seed_is_left_and_each_was_ejected_before_it_was_deleted() {
    let world = World::of("homelab");
    world.run(&["up", "--quiet"]).ok();
    none_left(&world.path());
    let writes = world.writes();
    let deleted: Vec<usize> = (0..writes.len())
        .filter(|at| {
            let path = writes[*at]["path"].as_str().unwrap();
            writes[*at]["method"] == "DELETE" && path.contains("k8sha-seed-")
        })
        .collect();
    let ejected: Vec<usize> = (0..writes.len()).filter(|at| ejects(&writes[*at])).collect();
    let machines = world.vms().iter().filter(|vm| !vm.template).count();
    assert_eq!((deleted.len(), ejected.len()), (machines, machines));
    let first = |done: &[usize], count: usize| done.iter().filter(|at| **at < count).count();
    for at in &deleted {
        assert!(first(&ejected, *at) > first(&deleted, *at), "a seed in a drive was deleted");
    }
}

#[test]
fn a_run_killed_around_an_ejection_leaves_no_seed_after_the_next() {
    let whole = World::of("homelab");
    let ran = whole.run(&["up", "--json"]).ok();
    let events = ran.stderr.lines().filter(|line| line.starts_with('{'));
    let around: Vec<usize> = events
        .enumerate()
        .filter(|(_, line)| line.contains("\"eject/"))
        .map(|(at, _)| at + 1)
        .collect();
    assert!(around.len() >= 10, "{around:?}");
    for point in [around[0], around[1], around[around.len() / 2], around[around.len() - 1]] {
        let world = World::of("homelab");
        world.kill_after(&["up"], point);
        world.run(&["up", "--quiet"]).ok();
        none_left(&world.path());
        let writes = world.writes().len();
        assert_eq!(world.run(&["up", "--json"]).ok().json()["verdict"], "settled");
        assert_eq!(world.writes().len(), writes, "killed after {point}");
    }
}

#[test]
fn a_first_boot_that_failed_keeps_its_seed_until_it_has_succeeded() {
    let world = World::of("homelab");
    let ran = world.run(&["up", "--json", "--inject", "cloud-init-fails@k8s-worker1"]);
    assert_eq!(ran.code, 4, "{ran:#?}");
    let left = seeds(&world.path());
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left.iter().all(|seed| seed.contains("-k8s-worker1-")), "{left:?}");
    world.run(&["up", "--quiet"]).ok();
    none_left(&world.path());
}

#[test]
fn a_booted_machine_starts_without_a_seed_and_one_from_an_early_backup_gets_it_again() {
    let living = Living::stacked();
    let path = living.world.path();
    living.administer("pve2", async |client| client.stop_vm(VmId(3052)).await.unwrap());
    let before = living.world.writes().len();
    living.world.run(&["up", "--quiet"]).ok();
    let writes = living.world.writes().split_off(before);
    assert_eq!(uploads(&writes), 0, "{writes:#?}");
    assert!(!writes.iter().any(|write| write["form"]["ide2"].is_string()), "{writes:#?}");
    living.settled();
    // Its drive has a file that was deleted since; Proxmox VE does not start such a VM.
    living.administer("pve2", async |client| {
        let volume = back(&client, 3052).await;
        client.stop_vm(VmId(3052)).await.unwrap();
        client.delete_volume(&volume).await.unwrap();
        assert!(client.start_vm(VmId(3052)).await.is_err());
    });
    living.world.run(&["up", "--quiet"]).ok();
    none_left(&path);
    living.settled();
}

#[test]
fn a_recreated_machine_gets_a_seed_which_is_removed_again() {
    let living = Living::stacked();
    living.destroy("pve2", 3052);
    let before = living.world.writes().len();
    living.world.run(&["up", "--quiet"]).ok();
    assert_eq!(uploads(&living.world.writes().split_off(before)), 1);
    none_left(&living.world.path());
    living.settled();
    living.world.run(&["rebuild", "--yes", "--quiet"]).ok();
    none_left(&living.world.path());
}

#[test]
fn the_remains_of_a_former_release_are_removed_and_not_a_difference() {
    let living = Living::stacked();
    living.administer("pve1", async |client| {
        for vm in client.vms().await.unwrap().into_iter().filter(|vm| vm.vmid.0 < 3090) {
            back(&client, vm.vmid.0).await;
        }
    });
    let plan = living.world.run(&["plan", "--quiet"]).ok().stdout;
    assert!(plan.contains("eject the seed and delete it"), "{plan}");
    let before = living.world.writes().len();
    living.world.run(&["up", "--quiet"]).ok();
    let writes = living.world.writes().split_off(before);
    let others = writes.iter().filter(|write| !ejects(write) && write["method"] != "DELETE");
    assert_eq!(others.count(), 0, "{writes:#?}");
    none_left(&living.world.path());
    living.settled();
}

#[test]
fn without_the_privilege_to_delete_the_run_succeeds_and_names_the_remaining_files() {
    let server = Server::with(&["--profile", "homelab"]);
    let poor = server.endpoints_with(&token(&server.api(), &["Datastore.Allocate"]));
    let provision = ["provision", "--json", "--profile", "homelab"];
    let report = server.run(&provision, &poor).ok().json();
    let notes = report["notes"].to_string();
    assert!(notes.contains("k8sha-seed-") && notes.contains("Datastore.Allocate"), "{notes}");
    let rich = server.endpoints.clone();
    let report = server.run(&provision, &rich).ok().json();
    assert!(!report["notes"].to_string().contains("k8sha-seed-"), "{report:#}");
    assert_eq!(server.run(&provision, &rich).ok().json()["verdict"], "settled");
    let content = server.api().call("GET", "/nodes/pve1/storage/local/content", &[]);
    assert!(!content.to_string().contains("k8sha-seed-"), "{content:#}");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        match path.is_dir() {
            true => copy(&path, &to.join(name)),
            false => drop(fs::copy(&path, to.join(name)).unwrap()),
        }
    }
}

#[test]
fn two_concurrent_operators_leave_no_seed_and_both_succeed() {
    let server = Server::with(&["--profile", "homelab"]);
    let provision = ["provision", "--json", "--profile", "homelab"];
    server.run(&provision, &server.endpoints).ok();
    let host = &server.endpoints["hosts"]["pve1"];
    let text = |key: &str| host[key].as_str().unwrap();
    let pin: Fingerprint = text("fingerprint").parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let before: BTreeSet<String> = runtime.block_on(async {
        let (trust, auth) = (
            k8sha::proxmox::Trust::Fingerprint(pin.0),
            Auth::Token(text("token").to_owned().into()),
        );
        let name = HostName("pve1".to_owned());
        let speed: f64 = SPEED.parse().unwrap();
        let client = Client::new(name, text("url"), &trust, auth, speed).unwrap();
        let mut all = BTreeSet::new();
        for vm in client.vms().await.unwrap().into_iter().filter(|vm| vm.vmid.0 < 3090) {
            all.insert(back(&client, vm.vmid.0).await);
        }
        all
    });
    assert!(before.len() >= 2, "{before:?}");
    let (one, two) = (server.folder.path().join("state"), server.folder.path().join("other"));
    copy(&one, &two);
    let runs: Vec<_> = [one, two]
        .iter()
        .map(|state| {
            let mut command = program(server.folder.path());
            command
                .args(provision)
                .arg("--endpoints")
                .arg(server.folder.path().join("endpoints.json"));
            command.arg("--state").arg(state).stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    for run in runs {
        let output = run.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    let api = server.api();
    let content = api.call("GET", "/nodes/pve1/storage/local/content", &[]);
    assert!(!content.to_string().contains("k8sha-seed-"), "{content:#}");
    for vm in api.call("GET", "/nodes/pve1/qemu", &[]).as_array().unwrap() {
        if vm["template"] != 1 {
            let config = api.call("GET", &format!("/nodes/pve1/qemu/{}/config", vm["vmid"]), &[]);
            assert_eq!(config["ide2"], spec::EJECTED, "{config:#}");
        }
    }
}
