//! What a person can type of the simulated world.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

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
    /// What boots when a simulated VM is switched on.
    #[arg(long, global = true, value_enum, default_value_t = Guests::Scripted)]
    pub guests: Guests,
    /// The containers' root file system: a folder, or an archive that `tar` reads [default: one
    /// built from Debian's packages, once].
    #[arg(long, global = true, value_name = "PATH")]
    pub guest_root: Option<PathBuf>,
    /// A folder laid over the containers' root file system; may be given several times, the first
    /// one on top.
    #[arg(long, global = true, value_name = "DIR")]
    pub guest_layer: Vec<PathBuf>,
    /// How many times faster than life the simulated world is [default: 20, and 1 with containers,
    /// which live in real time].
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
}

/// What boots when a simulated VM is switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Guests {
    /// A state machine that answers what k8sha asks of a node.
    Scripted,
    /// A system container with systemd, cloud-init, sshd (needs root and Debian packages).
    Containers,
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
    /// The flags that lead another command to the same world; `folder` stands for the one that was
    /// not named.
    pub fn flags(&self, folder: &str) -> String {
        let mut flags = String::new();
        if let Some(named) = &self.simulate {
            let folder =
                named.as_ref().map_or(folder.to_owned(), |named| format!(" {}", named.display()));
            flags.push_str(&format!(" --simulate{folder}"));
            if self.guests == Guests::Containers {
                flags.push_str(" --guests containers");
            }
            if let Some(root) = &self.guest_root {
                flags.push_str(&format!(" --guest-root {}", root.display()));
            }
            for layer in &self.guest_layer {
                flags.push_str(&format!(" --guest-layer {}", layer.display()));
            }
            if self.topology == Topology::Standalone {
                flags.push_str(" --topology standalone");
            }
        }
        if let Some(file) = &self.endpoints {
            flags.push_str(&format!(" --endpoints {}", file.display()));
        }
        flags
    }
}
