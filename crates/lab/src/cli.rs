//! The options that `k8sha-lab` adds to the command line of k8sha.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{ArgMatches, Args, Command, FromArgMatches as _};
use k8sha::cli::{Provider, Typed, Wanted, quote};
use k8sha_simulator::machines::{MachineError, Maker};

use super::{Setup, registry};

const PROGRAM: &str = "k8sha-lab";
const CLEAN: &str = "clean";

/// System containers in place of the scripted guests.
#[derive(Debug)]
pub struct Containers;

/// The options.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Containers")]
struct Flags {
    /// The containers' root file system: a folder, or an archive that `tar` reads [default: built once
    /// from Debian packages].
    #[arg(long, global = true, value_name = "PATH")]
    guest_root: Option<PathBuf>,
    /// A folder overlaid on the containers' root file system; may be repeated, the first one is on top.
    #[arg(long, global = true, value_name = "DIR")]
    guest_layer: Vec<PathBuf>,
}

impl Provider for Containers {
    fn program(&self) -> &'static str {
        PROGRAM
    }

    fn arguments(&self, command: Command) -> Command {
        let about = "Proxmox VE is simulated; a VM that is started is a system container on this \
                     machine (needs root and Debian packages)";
        let clean = "Remove the containers, networks and folders of runs that were killed";
        // The options' own docstring would replace it.
        let command = Flags::augment_args(command).about(about).long_about(about);
        command.subcommand(Command::new(CLEAN).about(clean))
    }

    fn clean(&self, matches: &ArgMatches) -> Option<Result<Vec<String>, MachineError>> {
        matches.subcommand_matches(CLEAN)?;
        Some(registry::clean().map_err(MachineError::from))
    }

    fn typed(&self, matches: &ArgMatches) -> Result<Arc<dyn Typed>, clap::Error> {
        Ok(Arc::new(Flags::from_arg_matches(matches)?))
    }
}

impl Typed for Flags {
    fn program(&self) -> &'static str {
        PROGRAM
    }

    fn flags(&self) -> String {
        let root = self
            .guest_root
            .iter()
            .map(|root| format!(" --guest-root {}", quote(&root.to_string_lossy())));
        let layers = self.guest_layer.iter();
        root.chain(
            layers.map(|layer| format!(" --guest-layer {}", quote(&layer.to_string_lossy()))),
        )
        .collect()
    }

    fn maker(&self, wanted: Wanted) -> Arc<dyn Maker> {
        Arc::new(Setup {
            root: self.guest_root.clone(),
            layers: self.guest_layer.clone(),
            kubernetes: wanted.kubernetes,
            cilium_cli: wanted.cilium_cli,
            routers: wanted.routers,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &str) -> String {
        let command = Containers.arguments(Command::new(PROGRAM).subcommand(Command::new("up")));
        let matches = command.try_get_matches_from(line.split(' ')).unwrap();
        Containers.typed(&matches).unwrap().flags()
    }

    #[test]
    fn the_options_for_the_same_machines_are_repeated() {
        assert_eq!(typed("k8sha-lab up"), "");
        assert_eq!(
            typed("k8sha-lab up --guest-layer a --guest-root r --guest-layer b"),
            " --guest-root r --guest-layer a --guest-layer b"
        );
    }
}
