//! Running load balancers follow the profile: their servers, their failover setting.

use k8sha_simulator::inspect;
use serde_json::Value;

use crate::world::{Ran, World};

const CFG: &str = "/etc/haproxy/haproxy.cfg";
const CONF: &str = "/etc/keepalived/keepalived.conf";
const BALANCERS: [&str; 2] = ["k8s1vrrp1", "k8s1vrrp2"];

/// A file of both balancers.
fn files(world: &World, path: &str) -> [String; 2] {
    let seen = inspect::open(&world.path()).unwrap();
    BALANCERS.map(|name| inspect::file(&seen, name, path).unwrap())
}

/// The number of reloads of a unit on each balancer since it started.
fn reloads(world: &World, unit: &str) -> [usize; 2] {
    let seen = inspect::open(&world.path()).unwrap();
    let count =
        |lines: Vec<String>| lines.iter().filter(|line| line.starts_with("Reloaded")).count();
    BALANCERS.map(|name| count(inspect::journal(&seen, name, unit)))
}

/// When each of these steps started and ended, as positions in the order of events.
fn spans(ran: &Ran, steps: &[&str]) -> Vec<(usize, usize)> {
    let lines = ran.stderr.lines().filter(|line| line.starts_with('{'));
    let events: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    let at = |step: &str, what: &str| {
        events.iter().position(|event| event["step"] == step && event["event"] == what).unwrap()
    };
    steps.iter().map(|step| (at(step, "started"), at(step, "finished"))).collect()
}

/// The steps that changed something.
fn changed(report: &Value) -> Vec<&str> {
    let steps = report["steps"].as_array().unwrap().iter();
    let changed = steps.filter(|step| step["changed"] == true);
    changed.map(|step| step["step"].as_str().unwrap()).collect()
}

fn settled(world: &World) {
    let report = world.run(&["up", "--json"]).ok().json();
    assert_eq!(report["verdict"], "settled", "{report:#}");
    let notes = report["notes"].as_array().unwrap();
    assert!(!notes.iter().any(|note| note.as_str().unwrap().contains("cloud-init")), "{notes:#?}");
    assert_eq!(world.run(&["status", "--json"]).ok().json()["healthy"], true);
}

#[test]
fn a_later_master_is_added_to_both_balancers_and_a_lost_row_removes_none() {
    let mut world = World::new();
    // The site's name servers know every row from the first look on.
    world.run(&["plan", "--quiet"]).ok();
    world.without_rows("k8s1", "five.yaml", &["k8s1master6"]);
    world.run(&["up", "--quiet"]).ok();
    let line = "server k8s1master6 10.101.1.203:6443";
    assert!(files(&world, CFG).iter().all(|text| !text.contains(line)));
    settled(&world);

    world.with_profile("six.yaml", &[]);
    let plan = world.run(&["plan", "--quiet"]).ok().stdout;
    crate::golden::assert_golden("plan/master.txt", &crate::world::redact(&plan, &world.path()));
    let ran = world.run(&["up", "--json"]).ok();
    let report = ran.json();
    assert!(files(&world, CFG).iter().all(|text| text.contains(line)), "{:?}", files(&world, CFG));
    assert_eq!((reloads(&world, "haproxy"), reloads(&world, "keepalived")), ([1, 1], [0, 0]));
    let spans = spans(&ran, &["balance/k8s1vrrp1", "balance/k8s1vrrp2", "vip", "join/k8s1master6"]);
    assert!(spans.windows(2).all(|pair| pair[0].1 < pair[1].0), "{spans:?}");
    let lines = report["nodes"].as_array().unwrap().iter();
    let told = lines.clone().find(|line| line["node"] == "k8s1vrrp1").unwrap();
    assert_eq!(told["result"], "kept, brought up to date");
    settled(&world);

    // A table that lost a row, as in a bad merge, removes no backend.
    world.without_rows("k8s1", "five.yaml", &["k8s1master6"]);
    let ran = world.run(&["bootstrap"]);
    assert_eq!(ran.code, 1, "{ran:#?}");
    assert!(ran.stderr.contains("restore its row"), "{}", ran.stderr);
    assert!(files(&world, CFG).iter().all(|text| text.contains(line)));
}

#[test]
fn the_failover_setting_of_the_profile_reaches_keepalived() {
    let mut world = World::new().made();
    world.with_profile("fast.yaml", &[("failover: normal", "failover: fast")]);
    let report = world.run(&["provision", "--json"]).ok().json();
    assert_eq!(changed(&report), ["balance/k8s1vrrp1", "balance/k8s1vrrp2"]);
    let now = files(&world, CONF);
    assert!(now.iter().all(|text| text.contains("check-haproxy 6443 8")), "{now:?}");
    assert_eq!((reloads(&world, "haproxy"), reloads(&world, "keepalived")), ([0, 0], [1, 1]));
    settled(&world);
}

#[test]
fn a_balancer_that_grows_while_a_master_is_added_keeps_its_seed() {
    let mut world = World::new();
    world.run(&["plan", "--quiet"]).ok();
    world.without_rows("k8s1", "five.yaml", &["k8s1master6"]);
    world.run(&["up", "--quiet"]).ok();
    let row = "10.101.1.11,  os: ubuntu-22.04, kernel: mainline-6.6.1, ram: 2G";
    world.with_profile("six.yaml", &[(row, &row.replace("2G", "3G"))]);
    let report = world.run(&["up", "--json"]).ok().json();
    assert!(changed(&report).contains(&"configure/k8s1vrrp1"), "{report:#}");
    // It still runs with its old configuration, and every command reports that.
    let report = world.run(&["up", "--json"]).ok().json();
    assert_eq!(report["verdict"], "settled", "{report:#}");
    let differs = report["differences"][0]["text"].as_str().unwrap();
    assert!(differs.contains("ram in use is 2048 MiB, should be 3072 MiB"), "{differs}");
    assert_eq!(world.run(&["status", "--json"]).json()["healthy"], false);
    assert_eq!(world.run(&["plan", "--exit-code"]).code, 10);
}

#[test]
fn a_file_that_haproxy_rejects_is_not_installed_and_the_other_balancer_is_left_alone() {
    let world = World::new().made();
    let before = files(&world, CFG);
    let folder = world.write("templates", "").with_file_name("mine");
    std::fs::create_dir_all(folder.join("files")).unwrap();
    let broken = "{% include \"builtin/files/haproxy.cfg\" %}    server nobody\n";
    std::fs::write(folder.join("files/haproxy.cfg"), broken).unwrap();
    let ran = world.run(&["up", "--json", "--templates", folder.to_str().unwrap()]);
    assert_eq!(ran.code, 5, "{ran:#?}");
    let report = ran.json();
    let failures = report["failures"].as_array().unwrap();
    assert_eq!(failures.len(), 1, "{failures:#?}");
    assert_eq!(failures[0]["step"], "balance/k8s1vrrp1");
    let said = failures[0]["said"].as_str().unwrap();
    assert!(said.contains("'server' expects <name> and <addr>[:<port>]"), "{said}");
    assert_eq!((files(&world, CFG), reloads(&world, "haproxy")), (before, [0, 0]));
    settled(&world);
}
