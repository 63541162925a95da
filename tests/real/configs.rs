//! The rendered files, checked by the programs that read them, each in its place on a node.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use k8sha::cluster::{Failover, Role};
use secrecy::ExposeSecret;

use crate::cell::Cell;
use crate::lab::Lab;
use crate::profiles::{self, Planted, Seeded};
use crate::{balancers, needs};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn run(program: &str, args: &[&str], last: &Path) -> Output {
    Command::new(program).args(args).arg(last).output().unwrap()
}

fn load_balancers() -> impl Iterator<Item = Seeded> {
    profiles::seeds().into_iter().filter(|seeded| seeded.node.role == Role::LoadBalancer)
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn cloud_init_accepts_every_user_data() {
    if !needs::asked_for(&["cloud-init"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("user-data");
    let judge = |text: &str| {
        fs::write(&path, text).unwrap();
        run("cloud-init", &["schema", "--config-file"], &path)
    };
    for Seeded { what, seed, .. } in profiles::one_of_each_role() {
        let output = judge(seed.user_data.expose_secret());
        let said = said(&output);
        assert!(output.status.success(), "{what}: {said}");
        assert!(!said.to_lowercase().contains("deprecat"), "{what}: {said}");
    }
    // The checker must reject a bad file.
    assert!(!judge("#cloud-config\nruncmd: 7\n").status.success());
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn netplan_renders_every_network_config_as_intended() {
    if !needs::asked_for(&["cloud-init", "netplan"]) {
        return;
    }
    // The same path as on a node: cloud-init's parser, its netplan renderer, netplan's parser.
    let generate = |text: &str| {
        let folder = tempfile::tempdir().unwrap();
        let (source, root) = (folder.path().join("network-config"), folder.path().join("root"));
        fs::write(&source, text).unwrap();
        fs::create_dir(&root).unwrap();
        let to = root.to_str().unwrap();
        let convert = ["devel", "net-convert", "-k", "yaml", "-D", "ubuntu", "-O", "netplan"];
        let output = run("cloud-init", &[&convert[..], &["-d", to, "-p"]].concat(), &source);
        assert!(output.status.success(), "{}", said(&output));
        let output = run("netplan", &["generate", "--root-dir"], &root);
        let written = root.join("run/systemd/network/10-netplan-id0.network");
        (output, fs::read_to_string(written).unwrap_or_default())
    };
    for Seeded { what, cluster, node, seed } in profiles::one_of_each_role() {
        let (output, written) = generate(&seed.network_config);
        assert!(output.status.success(), "{what}: {}", said(&output));
        let (network, home) = (&cluster.network, cluster.network.home(node.ip));
        let mac = seed.mac.as_deref().unwrap();
        let mut wanted = vec![
            format!("Address={}/{}", node.ip, home.subnet.prefix_len()),
            format!("Gateway={}", home.gateway),
            format!("Domains={}", network.domain),
            format!("PermanentMACAddress={}", mac.to_lowercase()),
            "IPv6AcceptRA=no".to_owned(),
        ];
        wanted.extend(network.nameservers.iter().map(|server| format!("DNS={server}")));
        for line in wanted {
            assert!(written.lines().any(|is| is == line), "{what}: no `{line}` in\n{written}");
        }
        // The checker must reject a bad file.
        let (output, _) = generate(&seed.network_config.replace("addresses:", "adresses:"));
        assert!(!output.status.success(), "{what}: {}", said(&output));
    }
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn haproxy_accepts_every_configuration() {
    if !needs::asked_for(&["haproxy"]) {
        return;
    }
    for Seeded { what, seed, .. } in load_balancers() {
        let check = ["haproxy", "-c", "-f", "/etc/haproxy/haproxy.cfg"];
        let output = balancers::cell(&profiles::files(&seed)).run(&check);
        let said = said(&output);
        assert!(output.status.success() && !said.contains("WARNING"), "{what}: {said}");
    }
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn keepalived_accepts_every_configuration() {
    if !needs::asked_for(&["keepalived", "ip"]) {
        return;
    }
    let Some(mut lab) = Lab::new() else { return };
    let config_test = ["keepalived", "--log-console", "--dont-fork", "--config-test"];
    let mut broken = None;
    for (i, Seeded { what, node, seed, .. }) in load_balancers().enumerate() {
        let machine = format!("lb{i}");
        lab.add(&machine, &[node.ip]);
        let cell = |files: &[Planted]| -> Cell {
            // The first command that systemd runs before keepalived; `clash` has the other.
            balancers::cell(files)
                .in_network(&lab.name(&machine))
                .after(&balancers::before_keepalived(files)[0])
        };
        let mut files = profiles::files(&seed);
        let output = cell(&files).run(&config_test);
        let said = said(&output);
        assert!(output.status.success(), "{what}: {said}");
        for word in ["Unknown", "Warning", "WARNING", "unsafe", "Unsafe", "ignoring"] {
            assert!(!said.contains(word), "{what}: {said}");
        }
        let config = files.iter_mut().find(|file| file.path.ends_with("keepalived.conf")).unwrap();
        config.content = config.content.replace("virtual_router_id", "virtual_rooter_id");
        broken = Some(cell(&files).run(&config_test));
    }
    // The checker must reject a bad file.
    assert!(!broken.unwrap().status.success());
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn systemd_accepts_the_unit_of_every_etcd() {
    if !needs::asked_for(&["systemd-analyze", "etcd"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("etcd.service");
    let judge = |text: &str| {
        fs::write(&path, text).unwrap();
        said(&run("systemd-analyze", &["verify"], &path))
    };
    let mut judged = 0;
    for Seeded { what, node, seed, .. } in profiles::one_of_each_role() {
        let files = profiles::files(&seed);
        let unit = files.iter().find(|file| file.path == "/etc/systemd/system/etcd.service");
        assert_eq!(unit.is_some(), node.role == Role::Etcd, "{what}");
        let Some(unit) = unit else { continue };
        assert_eq!(judge(&unit.content), "", "{what}");
        // The checker must reject a bad file.
        let broken = unit.content.replace("ExecStart=etcd", "ExecStart=etcd-of-nobody");
        assert_ne!(judge(&broken), "", "{what}");
        judged += 1;
    }
    assert!(judged > 0, "no profile has an etcd of ours");
}

#[test]
#[ignore = "needs Debian packages; K8SHA_REAL=1 cargo test --test real -- --ignored"]
fn keepalived_and_haproxy_accept_the_fast_setting() {
    if !needs::asked_for(&["keepalived", "haproxy", "ip"]) {
        return;
    }
    let Some(mut lab) = Lab::new() else { return };
    let mut cluster = profiles::cluster("k8s1");
    cluster.balancer.failover = Failover::Fast;
    cluster.balancer.advert = Failover::Fast.advert();
    let node = cluster.with_role(Role::LoadBalancer).next().unwrap();
    lab.add("lb", &[node.ip]);
    let files = profiles::files(&profiles::seed(&cluster, node));
    let cell = balancers::cell(&files)
        .in_network(&lab.name("lb"))
        .after(&balancers::before_keepalived(&files)[0]);
    let output = cell.run(&["keepalived", "--log-console", "--dont-fork", "--config-test"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", said(&output));
}

/// The longest silence of a connection, in HAProxy's own time units.
fn timeout(config: &str, name: &str) -> Duration {
    let line =
        config.lines().find_map(|line| line.trim().strip_prefix(&format!("timeout {name} ")));
    let word = line.unwrap_or_else(|| panic!("no timeout {name} in\n{config}"));
    let (count, unit) = word.split_at(word.find(|c: char| !c.is_ascii_digit()).unwrap());
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        other => panic!("`{other}` is not a unit of k8sha"),
    };
    Duration::from_secs(count.parse::<u64>().unwrap() * seconds)
}

#[test]
fn every_haproxy_allows_a_connection_to_be_silent_for_hours() {
    for Seeded { what, seed, .. } in load_balancers() {
        let files = profiles::files(&seed);
        let config = &files.iter().find(|file| file.path.ends_with("haproxy.cfg")).unwrap().content;
        for name in ["client", "server", "tunnel"] {
            assert!(timeout(config, name) >= Duration::from_secs(3600), "{what}: {name}");
        }
    }
}
