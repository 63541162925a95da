//! What exists but does not work right now. A run waits for it, and fails if it does not recover.

use super::{Class, Difference};
use crate::cluster::{Cluster, Cni, Role};
use crate::plan::inventory::Inventory;
use crate::plan::planner::Part;
use crate::plan::survey::{Answer, Machine};

/// What does not answer or is not Ready, of running machines and of a cluster that was reached.
pub fn unwell(cluster: &Cluster, inventory: &Inventory, part: &Part) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut unwell = |on: &str, have: String, want: &str, next: String| {
        found.push(Difference {
            on: on.to_owned(),
            what: "state".into(),
            have,
            want: want.to_owned(),
            class: Class::NotFollowed,
            blocks: false,
            next,
        });
    };
    let rows = || cluster.nodes.iter().filter(|node| part.covers(&node.host));
    for node in rows() {
        let Some(vm) = inventory.ours(&node.name).filter(|vm| vm.awake()) else { continue };
        let console = format!("check its console in Proxmox VE (VM {} on {})", vm.vmid, vm.host);
        match (inventory.silent.get(&node.name), inventory.nodes.get(&node.name)) {
            (Some(silent), _) => unwell(
                node.name.as_str(),
                format!("not reachable by SSH ({})", one_line(&silent.said)),
                "reachable",
                silent.hint.clone().unwrap_or(console),
            ),
            (None, Some(state)) if !state.booted => unwell(
                node.name.as_str(),
                if state.failed { "a failed first boot" } else { "in its first boot" }.to_owned(),
                "booted",
                "`k8sha up` waits for it".to_owned(),
            ),
            _ => {}
        }
    }
    let survey = &inventory.survey;
    for node in rows().filter(|node| node.role.is_kubernetes()) {
        // A machine that does not answer at all is reported above.
        if let (Some(Machine::Silent { said }), false) =
            (survey.machines.get(&node.name), inventory.silent.contains_key(&node.name))
            && inventory.ours(&node.name).is_some_and(|vm| vm.awake())
        {
            unwell(
                node.name.as_str(),
                format!("no answer about Kubernetes ({})", one_line(said)),
                "reachable",
                "`k8sha up` queries it again".to_owned(),
            );
        }
    }
    for node in rows().filter(|node| node.role == Role::Etcd) {
        let booted = inventory.nodes.get(&node.name).is_some_and(|state| state.booted);
        let member = inventory.etcd.get(&node.name).copied().unwrap_or_default();
        if booted && member.planted && !member.healthy && survey.known.is_some() {
            unwell(
                node.name.as_str(),
                "an unhealthy etcd member".into(),
                "healthy",
                format!("`sudo journalctl -u etcd -n 50` on {}", node.name),
            );
        }
    }
    if survey.api.is_none() {
        return found;
    }
    let network = cluster.kubernetes.cni != Cni::None;
    for node in rows().filter(|node| network && node.role.is_kubernetes()) {
        let Some(known) = survey.nodes().and_then(|nodes| nodes.get(&node.fqdn)) else { continue };
        if !known.ready {
            let why = known.message.as_deref().map(|why| format!(" ({})", one_line(why)));
            unwell(
                node.name.as_str(),
                format!("NotReady{}", why.unwrap_or_default()),
                "Ready",
                format!("`kubectl describe node {}`", node.fqdn),
            );
        }
    }
    if let Answer::Silent { said } = &survey.by_name {
        unwell(
            "API",
            format!("not reachable under its name ({})", one_line(said)),
            &format!("`ok` from https://{}:{}/readyz", cluster.api.fqdn, cluster.api.port),
            "`k8sha dns` checks every name server, `k8sha status` shows which load balancer holds \
             the VIP"
                .into(),
        );
    }
    if let Answer::Silent { said } = &survey.holder {
        unwell(
            "VIP",
            one_line(said),
            "held by one load balancer",
            "`sudo journalctl -u keepalived -u haproxy -n 50` on the load balancers".into(),
        );
    }
    found
}

/// Puts the text on one line.
fn one_line(said: &str) -> String {
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}
