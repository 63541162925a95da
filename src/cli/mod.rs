//! The commands: each reads what was typed, puts the parts of the house together, prints.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser as _;

mod access;
mod args;
mod confirm;
mod desk;
mod dns;
mod doctor;
mod flags;
mod generate;
mod job;
mod log;
mod plan;
mod render;
mod routes;
mod sim;
mod site;
mod status;
mod world;

use args::{Cli, Command};

use crate::error::{Exit, Failure};

/// Parses the command line, runs the command, and turns its end into an exit code.
pub fn main() -> ExitCode {
    let started = Instant::now();
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return end(Err(Failure::new(Exit::Local, "start", error))),
    };
    let result = runtime.block_on(run(cli, started));
    // A simulator's connections need no farewell.
    runtime.shutdown_background();
    end(result)
}

fn end(result: Result<Exit, Failure>) -> ExitCode {
    let exit = result.unwrap_or_else(|failure| {
        let _ = writeln!(io::stderr(), "error: {failure}");
        failure.exit
    });
    ExitCode::from(exit as u8)
}

async fn run(cli: Cli, started: Instant) -> Result<Exit, Failure> {
    let Cli { command, common } = cli;
    match command {
        Command::Up(up) => job::up(&common, started, job::Kind::Up, up).await,
        Command::Bootstrap(up) => job::up(&common, started, job::Kind::Bootstrap, up).await,
        Command::Provision { pve } => job::provision(&common, started, pve).await,
        Command::Rebuild { yes, up } => job::rebuild(&common, started, yes, up).await,
        Command::Destroy { yes, keep_templates, keep_etcd } => {
            let extent = crate::plan::teardown::Extent { keep_templates, keep_etcd, again: false };
            job::destroy(&common, started, yes, extent).await
        }
        Command::Plan => plan::run(&common, started).await,
        Command::Status => status::run(&common, started).await,
        Command::Dns => dns::run(&common, started).await,
        Command::Doctor => doctor::run(&common, started).await,
        Command::Render { node, seed } => render::run(&common, &node, seed.as_deref()),
        Command::Routes { apply, remove } => {
            let wish = match (apply, remove) {
                (true, _) => routes::Wish::Apply,
                (_, true) => routes::Wish::Remove,
                _ => routes::Wish::Show,
            };
            routes::run(&common, started, wish).await
        }
        Command::Sim { clean: true, .. } => sim::clean(&common),
        Command::Sim { port, .. } => sim::run(&common, port).await,
        Command::Generate { what, shell } => generate::run(what, shell),
    }
}

/// Prints data on stdout. A reader that has gone away is no fault (`k8sha plan | head`).
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = out
        .write_all(text.as_bytes())
        .and_then(|()| if text.ends_with('\n') { Ok(()) } else { out.write_all(b"\n") });
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Local, "write to stdout", error))
        }
        _ => Ok(()),
    }
}

/// Prints data as one line of JSON on stdout.
fn print_json(data: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(data)
        .map_err(|error| Failure::new(Exit::Local, "write JSON", error))?;
    print(&text)
}
