//! The planned sizes of templates, and which clones have to grow.

use super::*;
use crate::cluster::{CloneMode, Image};
use crate::plan::inventory::{HostState, TemplateState};

const OS: &str = "ubuntu-22.04";

/// A cluster with k8sha's templates, before any VM is created.
fn unmade(clone: CloneMode) -> (Cluster, Inventory) {
    let mut cluster = k8s1();
    for host in cluster.proxmox.hosts.values_mut() {
        host.templates.insert(OS.to_owned(), TemplateSource::Ours(VmId(9001)));
    }
    let image = Image { url: "https://x/y.img".into(), sha256: "ab".repeat(32) };
    cluster.images.insert(OS.to_owned(), image);
    cluster.proxmox.clone = clone;
    cluster.nodes.iter_mut().for_each(|node| node.disk_gib = 20);
    let inventory = Inventory { creation: "1".into(), ..Inventory::default() };
    (cluster, inventory)
}

/// The sizes of the created templates, the rows whose disks grow, and the notices.
fn planned(cluster: &Cluster, had: &Inventory) -> (Vec<Option<u32>>, Vec<String>, Vec<String>) {
    let part = Part { bootstrap: false, ..Part::all() };
    let plan = plan_of(cluster, &specs(cluster, "aa", "bb"), had, &part);
    let (mut sizes, mut grown) = (Vec::new(), Vec::new());
    for step in &plan.steps {
        match &step.action {
            Action::Template(it) => sizes.push(it.disk_gib),
            Action::Grow(it) => grown.push(it.node.to_string()),
            _ => {}
        }
    }
    (sizes, grown, plan.notices)
}

#[test]
fn a_template_is_as_large_as_its_smallest_clone_and_only_the_others_grow() {
    let (mut cluster, had) = unmade(CloneMode::Linked);
    assert_eq!(planned(&cluster, &had), (vec![Some(20); 2], vec![], vec![]));
    let row = cluster.nodes.last_mut().unwrap();
    row.disk_gib = 21;
    let name = row.name.to_string();
    assert_eq!(planned(&cluster, &had), (vec![Some(20); 2], vec![name], vec![]));
}

#[test]
fn full_clones_are_made_of_a_small_disk_and_grow() {
    let (cluster, had) = unmade(CloneMode::Full);
    let (sizes, grown, _) = planned(&cluster, &had);
    assert_eq!((sizes, grown.len()), (vec![None; 2], cluster.nodes.len()));
}

#[test]
fn clones_of_a_template_that_is_there_grow_unless_it_is_large_enough() {
    let (cluster, mut had) = unmade(CloneMode::Linked);
    let mut planned_with = |size: &str| {
        let disk = format!("local-lvm:base-9001-disk-0,size={size}");
        let template = TemplateState::Ours {
            cluster: cluster.name.clone(),
            spec: spec::template_spec(OS, &cluster.images[OS]),
            template: true,
            lock: None,
            settings: [(spec::DISK.to_owned(), disk)].into(),
        };
        for host in cluster.proxmox.hosts.keys() {
            let templates = [(OS.to_owned(), template.clone())].into();
            had.hosts.insert(host.clone(), HostState { templates, ..HostState::default() });
        }
        let (sizes, grown, told) = planned(&cluster, &had);
        assert_eq!(sizes, []);
        (grown.len(), told)
    };
    let rows = cluster.nodes.len();
    assert_eq!(planned_with("2252M"), (rows, vec![]));
    assert_eq!(planned_with("20G"), (0, vec![]));
    let (grown, told) = planned_with("30G");
    assert_eq!((grown, told.len()), (0, rows));
    assert!(
        told[0]
            .ends_with("will have 30G, like its template's, instead of 20G: a disk can only grow")
    );
}
