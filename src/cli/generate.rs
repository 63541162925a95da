//! `k8sha generate`: what other programs read about this one.

use clap::Command;
use clap_complete::Shell;

use super::args::Generated;
use crate::error::{Exit, Failure};

pub(super) fn run(mut shape: Command, what: Generated, shell: Shell) -> Result<Exit, Failure> {
    let text = match what {
        Generated::Schema => crate::profile::schema(),
        Generated::Completions => {
            let mut bytes = Vec::new();
            let name = shape.get_name().to_owned();
            clap_complete::generate(shell, &mut shape, name, &mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        }
    };
    super::print_document(&text)?;
    Ok(Exit::Ok)
}
