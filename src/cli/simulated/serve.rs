//! `k8sha sim`: the embedded Proxmox VE as a standing server.

use tokio::signal::unix::{SignalKind, signal};

use crate::cli::args::Common;
use crate::cli::{print_document, session};
use crate::error::{Exit, Failure};
use crate::report::screen;

pub(in crate::cli) async fn run(common: &Common, port: Option<u16>) -> Result<Exit, Failure> {
    let cluster = session::load(common, session::Warnings::None)?;
    let folder = common.world.simulate.clone().flatten();
    let world = super::simulate(&common.world, folder, port, &cluster).await?;
    let Some(sim) = world.sim() else {
        return Err(Failure::new(Exit::Local, "start the simulator", "it did not start"));
    };
    // Installed before the simulator announces itself: the process that started it may stop it at
    // once.
    let listen =
        |kind| signal(kind).map_err(|error| Failure::new(Exit::Local, "listen for signals", error));
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    if !common.quiet {
        screen::say("SIMULATED: this is no Proxmox VE; it serves until interrupted (Ctrl-C)");
    }
    // Its tokens are what the document is for.
    let endpoints = serde_json::to_string(&sim.endpoints())
        .map_err(|error| Failure::new(Exit::Local, "write the endpoints", error))?;
    print_document(&endpoints)?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    world.verdict()?;
    Ok(Exit::Ok)
}
