//! Asks for confirmation before anything is destroyed.

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, IsTerminal as _};

use super::prune;
use crate::error::{Exit, Failure};
use crate::report::screen;

/// Asks the user to type the cluster's name. Any other answer, or no terminal, means no.
///
/// # Errors
/// When the answer is not the name.
pub fn destroy(cluster: &str, vms: &[String]) -> Result<(), Failure> {
    let warning = format!("This removes {} VMs with their disks: {}.", vms.len(), vms.join(", "));
    ask(cluster, &warning, "pass `--yes` to skip this question")
}

/// The same for VMs that carry the cluster's name but were created with another state folder. `--yes`
/// does not confirm this.
///
/// # Errors
/// When the answer is not the name.
pub fn destroy_foreign(cluster: &str, vms: &[String]) -> Result<(), Failure> {
    let warning = format!(
        "This state folder did not create the cluster `{cluster}` with these VMs: {}. They may belong to another user.",
        vms.join(", ")
    );
    ask(
        cluster,
        &warning,
        "use the state folder that created the cluster (`--state`), or run on a terminal and type the \
         cluster's name; `--yes` does not confirm this",
    )
}

/// Asks the user to type the names of the machines that are removed because they have no row.
///
/// # Errors
/// When the answer is not exactly these names, or there is no terminal.
pub fn prune(question: &str, names: &BTreeSet<String>) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(prune::unasked(question, names));
    }
    let hint = "restore the rows in the profile, or run again and type the names";
    typed(question, names).map_err(|failure| failure.hint(hint.to_owned()))
}

/// Asks the user to type the names of the machines that are replaced.
///
/// # Errors
/// When the answer is not exactly these names, or there is no terminal.
pub fn replace(question: &str, names: &BTreeSet<String>) -> Result<(), Failure> {
    let hint = "pass `--yes` to skip this question";
    if !io::stdin().is_terminal() {
        let said = "cannot ask for confirmation: standard input is not a terminal";
        let doing = "replace machines; nothing was changed";
        return Err(Failure::new(Exit::Usage, doing, said).hint(hint.to_owned()));
    }
    typed(question, names).map_err(|failure| failure.hint(hint.to_owned()))
}

/// Asks for names.
fn typed(question: &str, names: &BTreeSet<String>) -> Result<(), Failure> {
    let answer = answer(question).map_err(|error| {
        prune::refusal(&format!("reading the answer failed: {error}")).because(error)
    })?;
    match prune::matches(&answer, names) {
        true => Ok(()),
        false => Err(prune::refusal("the names do not match")),
    }
}

/// Shows a question and reads a line.
fn answer(question: &str) -> io::Result<String> {
    screen::ask(question);
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer)
}

fn ask(cluster: &str, warning: &str, hint: &str) -> Result<(), Failure> {
    let no = |said: &str| {
        Failure::new(Exit::Usage, format!("destroy cluster {cluster}"), said).hint(hint.to_owned())
    };
    if !io::stdin().is_terminal() {
        return Err(no(&format!(
            "{warning} Cannot ask for confirmation: standard input is not a terminal"
        )));
    }
    let answer = answer(&format!("{warning} Type the cluster's name ({cluster}) to continue: "))
        .map_err(|error| no(&format!("reading the answer failed: {error}")).because(error))?;
    if answer.trim() == cluster {
        Ok(())
    } else {
        Err(no("the name does not match; nothing was changed"))
    }
}
