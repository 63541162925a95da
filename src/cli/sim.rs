//! `k8sha sim`: the embedded Proxmox VE as a standing server.

use std::io::Write as _;

use super::args::Common;
use super::{desk, world};
use crate::error::{Exit, Failure};

pub(super) async fn run(common: &Common) -> Result<Exit, Failure> {
    let cluster = desk::load(common)?;
    let folder = common.world.simulate.clone().flatten();
    let world = world::simulate(&common.world, folder, &cluster).await?;
    let Some(sim) = world.sim() else {
        return Err(Failure::new(Exit::Local, "start the simulator", "it did not start"));
    };
    if !common.quiet {
        let _ = writeln!(
            std::io::stderr(),
            "SIMULATED: this is no Proxmox VE; it serves until interrupted (Ctrl-C)"
        );
    }
    super::print_json(&sim.endpoints())?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(|error| Failure::new(Exit::Local, "listen for signals", error))?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    Ok(Exit::Ok)
}
