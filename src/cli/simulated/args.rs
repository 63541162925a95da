//! The command-line options of the simulated world.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::provider::Typed;
use crate::cli::flags;

/// Where the world is: real unless one of these is given.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Simulation")]
pub struct WorldArgs {
    /// Simulate Proxmox VE, the network and the machines; with DIR, keep that world in a folder.
    #[arg(long, global = true, value_name = "DIR", num_args = 0..=1, conflicts_with = "endpoints")]
    #[expect(clippy::option_option, reason = "absent, without a folder, with a folder")]
    pub simulate: Option<Option<PathBuf>>,
    /// Use the simulator that `k8sha sim` serves: a file with the JSON that it printed.
    #[arg(long, global = true, value_name = "FILE")]
    pub endpoints: Option<PathBuf>,
    /// How many times faster than life the simulated world is [default: 20].
    #[arg(long, global = true, value_name = "FACTOR")]
    pub speed: Option<f64>,
    /// Let something go wrong in the simulated world: FAULT@TARGET; may be given several times.
    #[arg(long, global = true, value_name = "FAULT@TARGET")]
    pub inject: Vec<String>,
    /// Hold every request against Proxmox's own API schema and refuse what it does not allow: its
    /// API viewer's `apidoc.js`, or the same as flat JSON.
    #[arg(long, global = true, value_name = "FILE")]
    pub schema: Option<PathBuf>,
    /// How the simulated Proxmox VE hosts belong together.
    #[arg(long, global = true, value_enum, default_value_t = Topology::Cluster)]
    pub topology: Topology,
    /// What was typed of another binary's machines, where that binary runs.
    #[arg(skip)]
    pub machines: Option<Arc<dyn Typed>>,
}

/// How simulated Proxmox VE hosts belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Topology {
    /// One Proxmox VE cluster.
    Cluster,
    /// Standalone hosts.
    Standalone,
}

impl WorldArgs {
    /// Takes what was typed of another binary's machines. From then on the world is simulated.
    pub fn bring(&mut self, machines: Arc<dyn Typed>) {
        self.machines = Some(machines);
        if self.endpoints.is_none() {
            self.simulate.get_or_insert(None);
        }
    }

    /// Whether no real host is meant.
    pub fn is_simulated(&self) -> bool {
        self.simulate.is_some() || self.endpoints.is_some()
    }

    /// The program that runs, as suggested commands begin.
    pub fn program(&self) -> &'static str {
        self.machines.as_ref().map_or("k8sha", |machines| machines.program())
    }

    /// The flags that make another command use the same world; `folder` is its folder if none was
    /// named.
    pub fn flags(&self, folder: &str) -> String {
        let mut typed = String::new();
        if let Some(named) = &self.simulate {
            let folder = named.as_ref().map_or(folder.to_owned(), |named| flags::path("", named));
            match &self.machines {
                // The other binary simulates by default.
                Some(machines) if folder.is_empty() => typed.push_str(&machines.flags()),
                Some(machines) => {
                    typed.push_str(&format!(" --simulate{folder}{}", machines.flags()));
                }
                None => typed.push_str(&format!(" --simulate{folder}")),
            }
            if self.topology == Topology::Standalone {
                typed.push_str(" --topology standalone");
            }
        }
        if let Some(file) = &self.endpoints {
            typed.push_str(&flags::path(" --endpoints", file));
        }
        typed
    }
}
