//! `k8sha sim`: the embedded Proxmox VE as a standing server.

use std::io::Write as _;

use tokio::signal::unix::{SignalKind, signal};

use super::args::Common;
use super::{desk, world};
use crate::error::{Exit, Failure};
use crate::sim::containers::registry;

pub(super) async fn run(common: &Common, port: Option<u16>) -> Result<Exit, Failure> {
    let cluster = desk::load(common, desk::Warnings::None)?;
    let folder = common.world.simulate.clone().flatten();
    let world = world::simulate(&common.world, folder, port, &cluster).await?;
    let Some(sim) = world.sim() else {
        return Err(Failure::new(Exit::Local, "start the simulator", "it did not start"));
    };
    // Listened for before anybody can know that it runs: who starts it may end it at once.
    let listen =
        |kind| signal(kind).map_err(|error| Failure::new(Exit::Local, "listen for signals", error));
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    if !common.quiet {
        let _ = writeln!(
            std::io::stderr(),
            "SIMULATED: this is no Proxmox VE; it serves until interrupted (Ctrl-C)"
        );
    }
    super::print_json(&sim.endpoints())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    world.verdict()?;
    Ok(Exit::Ok)
}

/// Removes what killed runs with `--guests containers` have left behind.
pub(super) fn clean(common: &Common) -> Result<Exit, Failure> {
    let gone = registry::clean().map_err(|error| {
        let hint = error.hint();
        Failure::new(Exit::Local, "remove what killed runs have left behind", error).hint(hint)
    })?;
    if common.json {
        super::print_json(&gone)?;
    } else {
        for lab in gone {
            super::print(&format!("removed {lab}"))?;
        }
    }
    Ok(Exit::Ok)
}
