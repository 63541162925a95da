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
    #[cfg(feature = "simulate")]
    #[command(flatten)]
    pub world: super::simulated::WorldArgs,
}

/// How the nodes are reached: as the profile says unless one of these is given.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "SSH")]
pub struct AccessArgs {
    /// Reach the nodes through this machine, whose host key must be known.
    #[arg(long, global = true, value_name = "USER@HOST[:PORT]")]
    #[cfg_attr(feature = "simulate", arg(conflicts_with_all = ["simulate", "endpoints"]))]
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
    Plan {
        /// End with 10 where something is not as the profile asks, with 0 where all is, and with 1
        /// where `up` would refuse.
        #[arg(long)]
        exit_code: bool,
    },
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
        /// eyes only. The keys are those of the state folder, made where there are none yet. The
        /// machine's card must have the MAC address that its network-config names.
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
    #[cfg(feature = "simulate")]
    Sim {
        /// The port of the first host, by name; the next has the next [default: any free ones].
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
        port: Option<u16>,
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
    /// Wipe the `/registry` keys that another cluster left in the external etcd. Those that k8sha
    /// marked as another cluster's are wiped only where that cluster is named.
    #[arg(long, value_name = "CLUSTER", num_args = 0..=1, require_equals = true)]
    #[expect(clippy::option_option, reason = "absent, without a name, with a name")]
    pub wipe_etcd: Option<Option<String>>,
}

/// What `generate` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Generated {
    /// The JSON Schema of a profile.
    Schema,
    /// Shell completions.
    Completions,
}
