//! `k8sha doctor`: checks all prerequisites of a run; prints nothing if no problems are found.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use super::args::Common;
use super::flags;
use super::session::Session;
use crate::doctor::{self, Diagnosis, Finding, Patient};
use crate::error::{Exit, Failure};
use crate::exits::failure;
use crate::net::Dialer;
use crate::plan::planner::{self, Part, Refusal};
use crate::proxmox::Client;
use crate::run::look::Scope;
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
    let session = match Session::open(common, started, "doctor").await {
        Ok(session) => session,
        // A state folder that cannot be written is a finding like others.
        Err(failure) if failure.exit == Exit::Local => {
            let diagnosis = Diagnosis::new(vec![Finding::from(&failure)]);
            return publish(common, false, "", &diagnosis);
        }
        Err(failure) => return Err(failure),
    };
    let diagnosis = session.unless_interrupted("doctor", Box::pin(diagnose(&session))).await?;
    session.world.verdict()?;
    publish(common, session.world.simulated(), &session.cluster.name, &diagnosis)
}

async fn diagnose(session: &Session) -> Result<Diagnosis, Failure> {
    let mut before = Vec::new();
    let mut clients = Vec::new();
    for name in session.cluster.proxmox.hosts.keys() {
        match client(session, name).await {
            Ok(client) => clients.push(client),
            Err(failure) => before.push(Finding::from(&failure)),
        }
    }
    let nodes = match open(session).await {
        Ok(nodes) => Some(nodes),
        Err(failure) => {
            before.push(Finding::from(&failure));
            None
        }
    };
    let patient = Patient {
        cluster: Arc::clone(&session.cluster),
        clients,
        // Before the first run there are none.
        etcd_ends: match session.cluster.etcd.is_ours() {
            true => session.state.etcd_ends().unwrap_or_default(),
            false => Vec::new(),
        },
        dialer: session.world.dialer(),
        nodes,
    };
    // The individual checks explain a failure of the run's own look in more detail. Both run
    // concurrently, because each may wait for hosts and addresses that do not answer.
    let clear = before.is_empty();
    let (looked, mut diagnosis) = tokio::join!(
        async { if clear { owned(session).await } else { Ok(Vec::new()) } },
        doctor::examine(&patient, before),
    );
    let found = looked.as_ref().cloned().unwrap_or_default();
    diagnosis = Diagnosis::new([diagnosis.findings, found].concat());
    if let Err(failure) = looked
        && diagnosis.exit() == Exit::Ok
    {
        diagnosis = Diagnosis::new(vec![Finding::from(&failure)]);
    }
    Ok(diagnosis)
}

/// Conflicts that would block a run, and drift from the profile, found by the run's own look.
async fn owned(session: &Session) -> Result<Vec<Finding>, Failure> {
    let context = session.context(session.options())?;
    let part = Part::all();
    let inventory = session.look("doctor", &context, &Scope::examining()).await?;
    // What the planner refuses, it refuses after the conflicts.
    let refusal = match planner::plan(&context.cluster, &context.specs, &inventory, &part) {
        // Before the first `up`, missing machines are expected and not a finding.
        Ok(plan) if !(inventory.survey.was_made() || inventory.survey.api.is_some()) => {
            Refusal { conflicts: Vec::new(), differences: [plan.differences, plan.unwell].concat() }
        }
        Ok(plan) => Refusal { conflicts: Vec::new(), differences: plan.all_differences() },
        Err(refusal) => refusal,
    };
    Ok(doctor::owned::findings(&refusal.conflicts, &refusal.differences))
}

/// The connection to the nodes' network: direct, or through a jump host that accepts the login.
async fn open(session: &Session) -> Result<Dialer, Failure> {
    let dialer = session.way()?.dialer.clone();
    dialer.open().await.map_err(|error| {
        let hint = error
            .get_ref()
            .and_then(|error| error.downcast_ref::<ssh::Error>())
            .and_then(ssh::Error::hint);
        Failure::new(Exit::Node, "reach the nodes", &error).on("the jump host").hint(hint)
    })?;
    Ok(dialer)
}

async fn client(session: &Session, name: &crate::cluster::HostName) -> Result<Client, Failure> {
    let host = &session.cluster.proxmox.hosts[name];
    let auth = match session.world.auth(name) {
        Some(auth) => auth,
        None => settings::auth(name)?,
    };
    let trust = host.trust.as_ref().map(|trust| settings::trust(name, trust)).transpose()?;
    let clock = session.world.clock();
    Client::open(name, &host.endpoint, trust.as_ref(), auth, clock)
        .await
        .map_err(|error| failure("reach the host", &error).on(name))
}

/// The findings, with the commands of this program that fix them under the name of the binary that runs.
fn under_our_name(diagnosis: &Diagnosis, name: &str) -> Diagnosis {
    let mut findings = diagnosis.findings.clone();
    for line in findings.iter_mut().flat_map(|finding| &mut finding.fix) {
        if let Some(rest) = line.strip_prefix("k8sha ") {
            *line = format!("{name} {rest}");
        }
    }
    Diagnosis::new(findings)
}

fn publish(
    common: &Common,
    simulated: bool,
    cluster: &str,
    diagnosis: &Diagnosis,
) -> Result<Exit, Failure> {
    let diagnosis = &under_our_name(diagnosis, flags::program(common));
    if common.json {
        super::print_json(&Printed { simulated, cluster, diagnosis })?;
    } else if !diagnosis.findings.is_empty() {
        super::print(&diagnosis.text())?;
    }
    Ok(diagnosis.exit())
}
