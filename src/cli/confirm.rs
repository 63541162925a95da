//! Asking before something is destroyed.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use crate::error::{Exit, Failure};

/// Asks for the cluster's name; anything else, or nobody to ask, is a no.
///
/// # Errors
/// When the answer is not the name.
pub fn destroy(cluster: &str, vms: usize) -> Result<(), Failure> {
    let no = |said: &str| {
        Failure::new(Exit::Usage, format!("destroy cluster {cluster}"), said)
            .hint("say `--yes` to go on without being asked".to_owned())
    };
    if !io::stdin().is_terminal() {
        return Err(no("nobody is there to ask: standard input is not a terminal"));
    }
    let mut screen = io::stderr();
    let _ = write!(
        screen,
        "This removes {vms} VMs with their disks. Type the cluster's name ({cluster}) to go on: "
    );
    let _ = screen.flush();
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
