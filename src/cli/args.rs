//! What a person can type.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::cluster::Jump;
use crate::ssh::HostKey;

/// From bare Proxmox VE hosts to a highly available kubeadm Kubernetes cluster.
///
/// `k8sha up --simulate` runs the whole job against an embedded, simulated Proxmox VE: nothing but
/// this machine is touched.
#[derive(Debug, Parser)]
#[command(name = "k8sha", version, max_term_width = 100, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Settings that every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// Settings that every command takes.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// The profile: an embedded one by name, or a file.
    #[arg(long, short, global = true, default_value = "k8s1", value_name = "NAME|FILE")]
    pub profile: String,
    /// Print data as JSON on stdout, and progress as JSON lines on stderr.
    #[arg(long, global = true)]
    pub json: bool,
    /// Show no progress.
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Show each step's progress and what the machines print; twice, for our own debugging too.
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// The folder that remembers this cluster (keys, logs, kubeconfig) [default:
    /// $XDG_STATE_HOME/k8sha/CLUSTER].
    #[arg(long, global = true, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// A folder whose files replace ours under `cloudinit/`, file by file.
    #[arg(long, global = true, value_name = "DIR")]
    pub templates: Option<PathBuf>,
    /// How the nodes are reached.
    #[command(flatten)]
    pub access: AccessArgs,
    /// Where the world is.
    #[command(flatten)]
    pub world: WorldArgs,
}

/// How the nodes are reached: as the profile says unless one of these is given.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "SSH")]
pub struct AccessArgs {
    /// Reach the nodes through this machine, whose host key must be known.
    #[arg(
        long, global = true, value_name = "USER@HOST[:PORT]",
        conflicts_with_all = ["simulate", "endpoints"],
    )]
    pub jump: Option<Jump>,
    /// The jump host's key [default: the profile's, else what ~/.ssh/known_hosts says].
    #[arg(long, global = true, value_name = "KEY", value_parser = host_key)]
    pub jump_host_key: Option<String>,
    /// A private key of your own, offered to the jump host and the nodes.
    #[arg(long, global = true, value_name = "FILE")]
    pub identity: Option<PathBuf>,
}

fn host_key(text: &str) -> Result<String, String> {
    HostKey::parse(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

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

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the VMs and the cluster: provision and bootstrap in one run.
    Up(UpArgs),
    /// Make the VMs: templates, clones, cloud-init, start, DNS.
    Provision {
        /// The Proxmox nodes acted on; the others' rows stay untouched [default: all].
        #[arg(long, value_name = "NODE,…", value_delimiter = ',')]
        pve: Vec<String>,
    },
    /// Make the cluster on provisioned VMs: kubeadm init, joins, labels, kubeconfig, CNI.
    Bootstrap(UpArgs),
    /// Destroy the cluster and make it again.
    Rebuild {
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        /// Settings of the bootstrap.
        #[command(flatten)]
        up: UpArgs,
    },
    /// Remove the cluster's VMs, seeds, templates and etcd keys: all that carries our mark.
    Destroy {
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        /// Leave our templates and images for the next cluster.
        #[arg(long)]
        keep_templates: bool,
        /// Leave our keys in the external etcd.
        #[arg(long)]
        keep_etcd: bool,
    },
    /// Show what `up` would do; changes nothing.
    Plan,
    /// Show the cluster as it is.
    Status,
    /// Ask every name server for every name.
    Dns,
    /// Examine everything that a run needs; prints what is wrong, each with its fix, else nothing.
    Doctor,
    /// Show the cloud-init documents and the kubeadm configuration of a node, secrets masked.
    Render {
        /// The node's name, as in the profile.
        node: String,
        /// Write the node's seed ISO to a file, as a VM would get it: with its host key, so for your
        /// eyes only. The keys are those of the state folder, made where there are none yet.
        #[arg(long, value_name = "FILE")]
        seed: Option<PathBuf>,
    },
    /// Show the blackhole routes on the Proxmox VE hosts, set them or remove them, over SSH.
    Routes {
        /// Set them, now and for every boot.
        #[arg(long, conflicts_with = "remove")]
        apply: bool,
        /// Remove them.
        #[arg(long)]
        remove: bool,
    },
    /// Serve the simulated Proxmox VE until interrupted; prints its endpoints as JSON.
    Sim {
        /// The port of the first host, by name; the next has the next [default: any free ones].
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
        port: Option<u16>,
        /// Serve nothing: remove the containers, networks and folders of runs that were killed.
        #[arg(long)]
        clean: bool,
    },
    /// Print what other programs read about this one.
    Generate {
        /// What to print.
        #[arg(value_enum)]
        what: Generated,
        /// The shell, for completions.
        #[arg(long, value_enum, default_value_t = clap_complete::Shell::Bash)]
        shell: clap_complete::Shell,
    },
}

/// Settings of the bootstrap.
#[derive(Clone, Debug, Default, Args)]
pub struct UpArgs {
    /// Where to write the admin kubeconfig [default: `kubeconfig` in the state folder].
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Merge the admin access into a kubeconfig of yours: what it holds of other clusters stays,
    /// and what it was is kept beside it as FILE.k8sha-backup.
    #[arg(long, value_name = "FILE", conflicts_with = "kubeconfig")]
    pub merge_kubeconfig: Option<PathBuf>,
    /// Wipe the `/registry` keys that another cluster left in the external etcd.
    #[arg(long)]
    pub wipe_etcd: bool,
}

/// What `generate` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Generated {
    /// The JSON Schema of a profile.
    Schema,
    /// Shell completions.
    Completions,
}
