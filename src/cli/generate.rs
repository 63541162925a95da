//! `k8sha generate`: what other programs read about this one.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::args::{Cli, Generated};
use crate::error::{Exit, Failure};

pub(super) fn run(what: Generated, shell: Shell) -> Result<Exit, Failure> {
    let text = match what {
        Generated::Schema => crate::profile::schema(),
        Generated::Completions => {
            let mut bytes = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "k8sha", &mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        }
    };
    super::print_document(&text)?;
    Ok(Exit::Ok)
}
