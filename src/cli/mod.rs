//! The commands: each reads its arguments, calls the other modules and prints the result.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser as _;
use clap::error::ErrorKind;

mod access;
mod args;
mod confirm;
mod dns;
mod doctor;
mod flags;
mod generate;
mod job;
mod lines;
mod log;
mod plan;
mod refusal;
mod render;
mod routes;
mod session;
#[cfg(feature = "simulate")]
mod simulated;
#[cfg(not(feature = "simulate"))]
#[path = "unsimulated.rs"]
mod simulated;
mod status;
mod world;

use args::{Cli, Command};

use crate::error::{Exit, Failure};
use crate::report::screen;

/// Parses the command line, runs the command, and turns its end into an exit code.
pub fn main() -> ExitCode {
    let started = Instant::now();
    // A panic's message may quote what a host sent.
    std::panic::set_hook(Box::new(|panic| screen::say(&panic.to_string())));
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // clap prints help and version; errors go through `screen`, as they quote what was typed.
        Err(error)
            if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) =>
        {
            error.exit()
        }
        Err(error) => {
            screen::say(&error.render().to_string());
            return ExitCode::from(Exit::Usage as u8);
        }
    };
    screen::fit();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return end(Err(Failure::caused(Exit::Local, "start", error))),
    };
    let result = runtime.block_on(run(cli, started));
    // The simulator's connections need no orderly shutdown.
    runtime.shutdown_background();
    end(result)
}

fn end(result: Result<Exit, Failure>) -> ExitCode {
    let exit = result.unwrap_or_else(|failure| {
        failure.log();
        screen::say(&format!("error: {failure}"));
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
        Command::Plan { exit_code } => plan::run(&common, started, exit_code).await,
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
        #[cfg(feature = "simulate")]
        Command::Sim { clean: true, .. } => simulated::serve::clean(&common),
        #[cfg(feature = "simulate")]
        Command::Sim { port, .. } => simulated::serve::run(&common, port).await,
        Command::Generate { what, shell, out } => generate::run(what, shell, out.as_deref()),
    }
}

fn written(result: std::io::Result<()>) -> Result<(), Failure> {
    result.map_err(|error| Failure::caused(Exit::Local, "write to stdout", error))
}

/// Prints text for a person on stdout.
fn print(text: &str) -> Result<(), Failure> {
    written(screen::print(text))
}

/// Prints a document on stdout, unchanged.
fn print_document(text: &str) -> Result<(), Failure> {
    written(screen::print_document(text))
}

/// Prints data as one line of JSON on stdout.
fn print_json(data: &impl serde::Serialize) -> Result<(), Failure> {
    written(screen::print_json(data))
}
