//! `k8sha doctor`: everything that a run needs, examined; silent when all is well.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use super::args::Common;
use super::desk::Desk;
use crate::doctor::{self, Diagnosis, Finding, Patient};
use crate::error::{Exit, Failure};
use crate::net::Dialer;
use crate::proxmox::Client;
use crate::{settings, ssh};

/// What `--json` prints.
#[derive(Serialize)]
struct Printed<'a> {
    simulated: bool,
    cluster: &'a str,
    #[serde(flatten)]
    diagnosis: &'a Diagnosis,
}

pub(super) async fn run(common: &Common, started: Instant) -> Result<Exit, Failure> {
    let desk = match Desk::lay(common, started, "doctor").await {
        Ok(desk) => desk,
        // A state folder that cannot be written is a finding like others.
        Err(failure) if failure.exit == Exit::Local => {
            let diagnosis = Diagnosis::new(vec![Finding::from(&failure)]);
            return publish(common, false, "", &diagnosis);
        }
        Err(failure) => return Err(failure),
    };
    let mut before = Vec::new();
    let creation = desk.state.creation().unwrap_or_else(|failure| {
        before.push(Finding::from(&failure));
        String::new()
    });
    let mut clients = Vec::new();
    for name in desk.cluster.proxmox.hosts.keys() {
        match client(&desk, name).await {
            Ok(client) => clients.push(client),
            Err(failure) => before.push(Finding::from(&failure)),
        }
    }
    let nodes = match open(&desk).await {
        Ok(nodes) => Some(nodes),
        Err(failure) => {
            before.push(Finding::from(&failure));
            None
        }
    };
    let patient = Patient {
        cluster: Arc::new(desk.cluster.clone()),
        clients,
        creation,
        // Before the first run there are none.
        etcd_ends: match desk.cluster.etcd.is_ours() {
            true => desk.state.etcd_ends().unwrap_or_default(),
            false => Vec::new(),
        },
        dialer: desk.world.dialer(),
        nodes,
    };
    let diagnosis = doctor::examine(&patient, before).await;
    desk.world.verdict()?;
    publish(common, desk.world.simulated(), &desk.cluster.name, &diagnosis)
}

/// The way to the nodes' network: direct, or over a jump host that lets us through.
async fn open(desk: &Desk) -> Result<Dialer, Failure> {
    let dialer = desk.way()?.dialer.clone();
    dialer.open().await.map_err(|error| {
        let hint = error
            .get_ref()
            .and_then(|error| error.downcast_ref::<ssh::Error>())
            .and_then(ssh::Error::hint);
        Failure::new(Exit::Node, "reach the nodes", &error).on("the jump host").hint(hint)
    })?;
    Ok(dialer)
}

async fn client(desk: &Desk, name: &crate::cluster::HostName) -> Result<Client, Failure> {
    let host = &desk.cluster.proxmox.hosts[name];
    let pace = desk.world.tempo().speed();
    let auth = match desk.world.auth(name) {
        Some(auth) => auth,
        None => settings::auth(name)?,
    };
    Client::open(name, host, auth, pace).await.map_err(|error| {
        Failure::new(Exit::Proxmox, "reach the host", &error).on(name).hint(error.hint())
    })
}

fn publish(
    common: &Common,
    simulated: bool,
    cluster: &str,
    diagnosis: &Diagnosis,
) -> Result<Exit, Failure> {
    if common.json {
        super::print_json(&Printed { simulated, cluster, diagnosis })?;
    } else if !diagnosis.findings.is_empty() {
        super::print(&diagnosis.text())?;
    }
    Ok(diagnosis.exit())
}
