//! Asking before something is destroyed.

use std::io::{self, BufRead as _, IsTerminal as _};

use crate::error::{Exit, Failure};
use crate::report::screen;

/// Asks for the cluster's name; anything else, or no terminal to ask on, is a no.
///
/// # Errors
/// When the answer is not the name.
pub fn destroy(cluster: &str, vms: &[String]) -> Result<(), Failure> {
    let warning = format!("This removes {} VMs with their disks: {}.", vms.len(), vms.join(", "));
    ask(cluster, &warning, "say `--yes` to go on without being asked")
}

/// The same for VMs that carry the cluster's name and were made by another state folder: `--yes` does
/// not answer it.
///
/// # Errors
/// When the answer is not the name.
pub fn destroy_foreign(cluster: &str, vms: &[String]) -> Result<(), Failure> {
    let warning = format!(
        "This state folder has never made this cluster `{cluster}`: {}. They may be another person's.",
        vms.join(", ")
    );
    ask(
        cluster,
        &warning,
        "run with the state folder that made it (`--state`), or on a terminal, where the cluster's name \
         has to be typed whatever `--yes` says",
    )
}

fn ask(cluster: &str, warning: &str, hint: &str) -> Result<(), Failure> {
    let no = |said: &str| {
        Failure::new(Exit::Usage, format!("destroy cluster {cluster}"), said).hint(hint.to_owned())
    };
    if !io::stdin().is_terminal() {
        return Err(no(&format!(
            "{warning} Standard input is not a terminal, so nothing was asked"
        )));
    }
    screen::ask(&format!("{warning} Type the cluster's name ({cluster}) to go on: "));
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| no(&format!("reading the answer failed: {error}")))?;
    if answer.trim() == cluster {
        Ok(())
    } else {
        Err(no("that was not its name; nothing was done"))
    }
}
