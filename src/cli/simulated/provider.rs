//! What another binary brings to this command line: machines behind the simulated Proxmox VE.

use std::fmt::Debug;
use std::net::Ipv4Addr;
use std::sync::Arc;

use clap::{ArgMatches, Command};
use k8sha_simulator::machines::{MachineError, Maker};

/// A binary whose machines stand in the places of the scripted guests. With one, every command
/// simulates Proxmox VE, and suggested commands begin with its name.
pub trait Provider: Debug + Send + Sync {
    /// The binary's name, such as `k8sha-lab`.
    fn program(&self) -> &'static str;

    /// Adds the flags and commands of its own to the command line.
    fn arguments(&self, command: Command) -> Command;

    /// Removes what killed runs have left behind, if its command for that was typed; says what is
    /// gone. `None`: another command was typed.
    fn clean(&self, matches: &ArgMatches) -> Option<Result<Vec<String>, MachineError>>;

    /// What was typed of its own flags.
    ///
    /// # Errors
    /// What clap says against them.
    fn typed(&self, matches: &ArgMatches) -> Result<Arc<dyn Typed>, clap::Error>;
}

/// What was typed of a [`Provider`]'s own flags.
pub trait Typed: Debug + Send + Sync {
    /// The binary's name, as [`Provider::program`].
    fn program(&self) -> &'static str;

    /// The flags that lead another command to the same machines, each with a space before it.
    fn flags(&self) -> String;

    /// What makes the machines of a cluster.
    fn maker(&self, wanted: Wanted) -> Arc<dyn Maker>;
}

/// What the profile asks of the machines.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// The version of Kubernetes, such as `1.28.4`.
    pub kubernetes: String,
    /// The version of cilium-cli; `None` if it is not needed.
    pub cilium_cli: Option<String>,
    /// The routers of the machines' subnets, with prefix lengths.
    pub routers: Vec<(Ipv4Addr, u8)>,
}
