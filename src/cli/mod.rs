//! The commands: each reads its arguments, calls the other modules and prints the result.

use std::process::ExitCode;
use std::time::Instant;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _};

mod access;
mod args;
mod checks;
mod chosen;
mod confirm;
mod dns;
mod doctor;
mod flags;
mod generate;
mod job;
mod kubeconfig;
mod lines;
mod log;
mod logs;
mod plan;
mod profile;
mod prune;
mod reach;
mod refusal;
mod render;
mod replace;
mod routes;
mod session;
#[cfg(feature = "simulate")]
mod simulated;
#[cfg(not(feature = "simulate"))]
#[path = "unsimulated.rs"]
mod simulated;
mod ssh;
mod status;
mod terminal;
mod times;
mod world;

use args::{Cli, Command};
#[cfg(feature = "simulate")]
pub use simulated::provider::{Provider, Typed, Wanted};

use crate::error::{End, Exit, Failure};
use crate::report::screen;
pub use crate::ssh::quote;

/// Parses the command line, runs the command, and turns its end into an exit code.
pub fn main() -> ExitCode {
    let started = begin();
    #[cfg(feature = "simulate")]
    if let Some(command) = simulated::moved::to_lab(&typed()) {
        let said = "real machines need another binary, `k8sha-lab` (crates/lab)";
        let failure = Failure::new(Exit::Usage, "use containers as guests", said);
        return end(Err(failure.hint(format!("`{command}`"))));
    }
    let command = Cli::command();
    match command.clone().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => go(cli, command, started),
        Err(error) => refuse(&error),
    }
}

/// [`main`] for a binary with its own machines; it always simulates Proxmox VE.
#[cfg(feature = "simulate")]
pub fn with_machines(provider: &dyn Provider) -> ExitCode {
    let started = begin();
    screen::call_us(provider.program());
    let command = Cli::command().name(provider.program()).bin_name(provider.program());
    let command = provider.arguments(command);
    let matches = match command.clone().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return refuse(&error),
    };
    if let Some(cleaned) = provider.clean(&matches) {
        let printed = cleaned.map_err(|error| {
            let hint = error.hint.clone();
            let doing = "remove what killed runs left behind";
            Failure::new(Exit::Local, doing, error).hint(hint)
        });
        let printed = printed.and_then(|gone| match matches.get_flag("json") {
            true => print_json(&gone),
            false => gone.iter().try_for_each(|gone| print(&format!("removed {gone}"))),
        });
        return end(printed.map(|()| End::Ours(Exit::Ok)));
    }
    let parsed = Cli::from_arg_matches(&matches);
    match parsed.and_then(|cli| Ok((cli, provider.typed(&matches)?))) {
        Ok((mut cli, machines)) => {
            cli.common.world.bring(machines);
            go(cli, command, started)
        }
        Err(error) => refuse(&error),
    }
}

/// The command line without the program's name.
#[cfg(feature = "simulate")]
fn typed() -> Vec<String> {
    std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect()
}

fn begin() -> Instant {
    // A panic's message may quote what a host sent.
    std::panic::set_hook(Box::new(|panic| screen::say(&panic.to_string())));
    Instant::now()
}

/// Prints clap's help, version or error.
fn refuse(error: &clap::Error) -> ExitCode {
    // clap prints help and version; errors go through `screen`, as they quote what was typed.
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        error.exit()
    }
    screen::say(&error.render().to_string());
    ExitCode::from(Exit::Usage as u8)
}

fn go(cli: Cli, shape: clap::Command, started: Instant) -> ExitCode {
    screen::fit();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return end(Err(Failure::caused(Exit::Local, "start", error))),
    };
    let result = runtime.block_on(run(cli, shape, started));
    // The simulator's connections need no orderly shutdown.
    runtime.shutdown_background();
    end(result)
}

fn end(result: Result<End, Failure>) -> ExitCode {
    let end = result.unwrap_or_else(|failure| {
        failure.log();
        screen::say(&format!("error: {failure}"));
        End::Ours(failure.exit)
    });
    ExitCode::from(end.code())
}

async fn run(cli: Cli, shape: clap::Command, started: Instant) -> Result<End, Failure> {
    let Cli { command, common } = cli;
    let exit = match command {
        Command::Ssh { node, tty, command } => {
            return ssh::run(&common, started, ssh::Wish { node, tty, command }).await;
        }
        Command::Up { up, prune } => job::up(&common, started, up, prune).await,
        Command::Replace { nodes, yes, up } => replace::run(&common, started, nodes, yes, up).await,
        Command::Bootstrap(up) => job::bootstrap(&common, started, up).await,
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
        Command::Logs { node, unit, lines, follow } => {
            logs::run(&common, started, logs::Wish { node, unit, lines, follow }).await
        }
        Command::Kubeconfig { merge } => kubeconfig::show(&common, started, merge.as_deref()).await,
        Command::Kubectl { args } => kubeconfig::kubectl(&common, started, &args).await,
        Command::Profile { name } => profile::run(&common, name.as_deref()),
        #[cfg(feature = "simulate")]
        Command::Sim { port } => {
            let mut common = common;
            common.world.simulate.get_or_insert(None);
            simulated::serve::run(&common, port).await
        }
        Command::Generate { what, shell, out } => generate::run(shape, what, shell, out.as_deref()),
    };
    exit.map(End::Ours)
}

fn written(result: std::io::Result<()>) -> Result<(), Failure> {
    result.map_err(|error| Failure::caused(Exit::Local, "write to stdout", error))
}

/// Prints human-readable text to stdout.
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
