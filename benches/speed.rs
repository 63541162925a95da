//! The duration of the pure parts for many nodes: parsing a profile, planning it, rendering its
//! machines' documents. `cargo bench` runs them; `cargo test` does not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot begin must say so")]

use std::fmt::Write as _;
use std::path::PathBuf;

use divan::{Bencher, black_box};
use k8sha::cloudinit::{NodeSecrets, Templates, render};
use k8sha::cluster::{Cluster, Node};
use k8sha::plan::inventory::{HostState, Inventory};
use k8sha::plan::planner::{self, Part, Specs};
use k8sha::plan::spec;
use k8sha::profile::{self, EMBEDDED, Source};

/// The number of rows of the profile: the maximum of a profile.
const ROWS: usize = 1_000;

fn main() {
    divan::main();
}

/// `k8s1` with workers up to [`ROWS`] rows, in a network that is large enough for them.
fn text() -> String {
    let (_, k8s1) = EMBEDDED.iter().find(|(name, _)| *name == "k8s1").unwrap();
    let mut text = k8s1.replace("subnet: 10.101.1.0/24", "subnet: 10.101.0.0/16");
    let made = text.matches("- { role:").count();
    for number in 0..ROWS - made {
        let (third, fourth) = (number / 200 + 10, number % 200 + 1);
        let (host, vmid) = (number % 2 + 1, 20_000 + number);
        writeln!(
            text,
            "  - {{ role: worker, name: w{number}, ip: 10.101.{third}.{fourth}, os: ubuntu-22.04, \
             kernel: mainline-6.6.1, ram: 4G, vcpu: 2, disk: 20G, pve: pve{host}, vmid: {vmid} }}"
        )
        .unwrap();
    }
    text
}

fn source(text: &str) -> Source {
    Source { name: "many.yaml".into(), text: text.into(), base: PathBuf::new() }
}

fn cluster() -> Cluster {
    let loaded = profile::read(source(&text()));
    let cluster =
        loaded.unwrap_or_else(|why| panic!("{}", why.render(profile::Colour::Off))).cluster;
    assert_eq!(cluster.nodes.len(), ROWS);
    cluster
}

fn secrets() -> NodeSecrets {
    NodeSecrets {
        host_key_private: "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n".into(),
        host_key_public: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHost".to_owned(),
        operator_public: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK8sha k8sha".to_owned(),
    }
}

/// From a profile's text to the validated cluster.
#[divan::bench]
fn read_a_profile_of_1000_rows(bencher: Bencher<'_, '_>) {
    let text = text();
    bencher.bench(|| profile::read(source(black_box(&text))).is_ok());
}

/// The spec of each VM, and the plan that creates all of them.
#[divan::bench]
fn plan_1000_rows(bencher: Bencher<'_, '_>) {
    let cluster = cluster();
    let mut inventory = Inventory { creation: "1".to_owned(), ..Inventory::default() };
    for host in cluster.proxmox.hosts.keys() {
        inventory.hosts.insert(host.clone(), HostState::default());
    }
    let plan = |cluster: &Cluster| {
        let spec = |node: &Node| {
            let seed = spec::seed_file("1", &node.name, "0123456789ab0123456789ab");
            (node.name.clone(), spec::node_spec(cluster, node, &seed, "1"))
        };
        let specs: Specs = cluster.nodes.iter().map(spec).collect();
        planner::plan(cluster, &specs, &inventory, &Part::all())
    };
    let made = plan(&cluster).unwrap_or_else(|why| panic!("{why:#?}"));
    assert!(made.steps.len() > ROWS, "{} steps", made.steps.len());
    bencher.bench(|| plan(black_box(&cluster)));
}

/// The documents of one node.
#[divan::bench]
fn render_one_node(bencher: Bencher<'_, '_>) {
    let (cluster, templates, secrets) = (cluster(), Templates::builtin().unwrap(), secrets());
    bencher.bench(|| {
        render(&templates, black_box(&cluster), &cluster.nodes[2], &secrets, "id").unwrap()
    });
}

/// The documents of all nodes of a profile of 1,000 rows.
#[divan::bench]
fn render_1000_nodes(bencher: Bencher<'_, '_>) {
    let (cluster, templates, secrets) = (cluster(), Templates::builtin().unwrap(), secrets());
    bencher.bench(|| {
        for node in &black_box(&cluster).nodes {
            black_box(render(&templates, &cluster, node, &secrets, "id").unwrap());
        }
    });
}
