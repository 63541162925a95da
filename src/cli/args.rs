//! The command line: commands, arguments and their help texts.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::cluster::Jump;
use crate::ssh::HostKey;

/// Build a highly available kubeadm Kubernetes cluster on Proxmox VE hosts.
///
/// `k8sha up --simulate` runs everything against a built-in simulator of Proxmox VE and touches
/// nothing outside this machine.
#[derive(Debug, Parser)]
#[command(name = "k8sha", version, max_term_width = 100, propagate_version = true)]
pub struct Cli {
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
    /// Options of every command.
    #[command(flatten)]
    pub common: Common,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// The profile: a file, or the name of a built-in one [default: $K8SHA_PROFILE, or else k8sha.yaml
    /// in this folder; simulated: k8s1].
    #[arg(long, short, global = true, value_name = "FILE|NAME")]
    pub profile: Option<String>,
    /// Print data as JSON on stdout, and progress as JSON lines on stderr.
    #[arg(long, global = true)]
    pub json: bool,
    /// Do not show progress.
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Show the progress of each step and the machines' output; `-vv` adds k8sha's debug log.
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// The state folder of this cluster (keys, logs, kubeconfig) [default:
    /// $XDG_STATE_HOME/k8sha/CLUSTER].
    #[arg(long, global = true, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// A folder whose files override the built-in cloud-init templates of the same name.
    #[arg(long, global = true, value_name = "DIR")]
    pub templates: Option<PathBuf>,
    /// How to reach the nodes by SSH.
    #[command(flatten)]
    pub access: AccessArgs,
    /// Real hosts or simulated ones.
    #[cfg(feature = "simulate")]
    #[command(flatten)]
    pub world: super::simulated::WorldArgs,
}

/// How to reach the nodes by SSH. These options override the profile.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "SSH")]
pub struct AccessArgs {
    /// Connect to the nodes through this jump host; its host key must be known.
    #[arg(long, global = true, value_name = "USER@HOST[:PORT]")]
    #[cfg_attr(feature = "simulate", arg(conflicts_with_all = ["simulate", "endpoints"]))]
    pub jump: Option<Jump>,
    /// The jump host's public host key [default: from the profile, or else ~/.ssh/known_hosts].
    #[arg(long, global = true, value_name = "KEY", value_parser = host_key)]
    pub jump_host_key: Option<String>,
    /// Your SSH private key; k8sha offers it to the jump host and to the nodes.
    #[arg(long, global = true, value_name = "FILE")]
    pub identity: Option<PathBuf>,
}

fn host_key(text: &str) -> Result<String, String> {
    HostKey::parse(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create the VMs and the cluster: `provision` and `bootstrap` in one run.
    Up {
        /// Options of the bootstrap.
        #[command(flatten)]
        up: UpArgs,
        /// Drain and remove the workers that have no row in the profile any more, without asking for
        /// confirmation. Without names it covers a third of the workers at most.
        #[arg(long, value_name = "NODE,…", num_args = 0..=1, require_equals = true)]
        #[arg(value_delimiter = ',')]
        prune: Option<Vec<String>>,
    },
    /// Create the VMs: templates, clones, cloud-init, start, DNS checks.
    Provision {
        /// Act only on the rows of these Proxmox VE hosts [default: all hosts].
        #[arg(long, value_name = "NODE,…", value_delimiter = ',')]
        pve: Vec<String>,
    },
    /// Create the cluster on provisioned VMs: kubeadm init, joins, labels, kubeconfig, CNI.
    Bootstrap(UpArgs),
    /// Destroy the cluster and create it again.
    Rebuild {
        /// Do not ask for confirmation.
        #[arg(long)]
        yes: bool,
        /// Options of the bootstrap.
        #[command(flatten)]
        up: UpArgs,
    },
    /// Replace the machines of workers: drain each node, destroy its VM and create it again.
    ///
    /// One node at a time: the next one is drained when the new machine of the last one is Ready.
    Replace {
        /// The names of the workers in the profile.
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
        /// Do not ask for confirmation.
        #[arg(long)]
        yes: bool,
        /// Options of the bootstrap.
        #[command(flatten)]
        up: UpArgs,
    },
    /// Remove the cluster's VMs, seed images, templates and etcd keys: everything k8sha marked as
    /// its own.
    Destroy {
        /// Do not ask for confirmation.
        #[arg(long)]
        yes: bool,
        /// Keep the templates and images for the next cluster.
        #[arg(long)]
        keep_templates: bool,
        /// Keep this cluster's keys in the external etcd.
        #[arg(long)]
        keep_etcd: bool,
    },
    /// Show what `up` would do, without changing anything.
    Plan {
        /// Exit with 0 if the cluster matches the profile, 10 if it does not, and 1 if `up` would
        /// refuse to run.
        #[arg(long)]
        exit_code: bool,
    },
    /// Show the state of the cluster.
    Status,
    /// Check every DNS name of the cluster on every name server.
    Dns,
    /// Check all prerequisites of a run; prints each problem with its fix, and nothing if no
    /// problems are found.
    Doctor,
    /// Show the cloud-init documents and the kubeadm configuration of a node, with secrets masked.
    Render {
        /// The name of the node in the profile.
        node: String,
        /// Write the node's seed ISO to a file, exactly as a VM would get it. The ISO contains the
        /// node's private host key: keep it secret. Keys come from the state folder and are created
        /// if missing. The machine's network card must have the MAC address in network-config.
        #[arg(long, value_name = "FILE")]
        seed: Option<PathBuf>,
    },
    /// Show, set or remove the blackhole routes on the Proxmox VE hosts, over SSH.
    Routes {
        /// Set the routes, now and at every boot.
        #[arg(long, conflicts_with = "remove")]
        apply: bool,
        /// Remove the routes.
        #[arg(long)]
        remove: bool,
    },
    /// Open a shell on a node, or run a command there.
    ///
    /// The node must show the host key that k8sha planted; there is no trust on first use. Input and
    /// output pass through unchanged, also with `--json`. Each argument of the command reaches it as
    /// one word. A shell gets a terminal if standard input is one; `~.` at the beginning of a line ends
    /// a session whose other side is silent.
    ///
    /// The exit code is the command's own, or 128 and the number of the signal that ended it. As with
    /// ssh, it is 255 if k8sha could not run the command or lost the connection, whatever the reason; a
    /// command line that k8sha cannot read ends with 2.
    Ssh {
        /// The name of the node in the profile.
        node: String,
        /// Give the command a terminal, as `top` needs one.
        #[arg(long, short)]
        tty: bool,
        /// The command and its arguments [default: the login shell].
        #[arg(last = true, value_name = "CMD")]
        command: Vec<String>,
    },
    /// Show what a node's log says, with secrets masked and control characters escaped.
    Logs {
        /// The name of the node in the profile.
        node: String,
        /// Whose log [default: kubelet on masters and workers, haproxy on load balancers, etcd on
        /// machines of etcd].
        #[arg(value_enum)]
        unit: Option<super::logs::Unit>,
        /// How many of the last lines.
        #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
        lines: u32,
        /// Wait for more lines and show them, until interrupted.
        #[arg(long, short)]
        follow: bool,
    },
    /// Print the path of the cluster's kubeconfig, or merge it into your own.
    Kubeconfig {
        /// Merge it into this file and print that one's path. Entries of other clusters are kept, and
        /// the previous version is saved as FILE.k8sha-backup.
        #[arg(long, value_name = "FILE")]
        merge: Option<PathBuf>,
    },
    /// Run kubectl on the cluster: the one in your PATH, with the cluster's kubeconfig.
    ///
    /// k8sha's own options stand before the first argument of kubectl: `k8sha kubectl --profile
    /// ./k8sha.yaml get nodes -o wide`. Everything from there on is kubectl's, as is the exit code.
    Kubectl {
        /// What kubectl is given.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        args: Vec<String>,
    },
    /// Print a built-in profile, or list them: `k8sha profile k8s1 > k8sha.yaml`.
    Profile {
        /// The name of the profile [default: lists all].
        name: Option<String>,
    },
    /// Run the Proxmox VE simulator until interrupted; prints its endpoints as JSON.
    #[cfg(feature = "simulate")]
    Sim {
        /// The port of the first host in name order; each further host gets the next port
        /// [default: free ports].
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
        port: Option<u16>,
    },
    /// Generate completions, schema and man pages.
    Generate {
        /// What to generate.
        #[arg(value_enum)]
        what: Generated,
        /// The shell to generate completions for.
        #[arg(long, value_enum, default_value_t = clap_complete::Shell::Bash)]
        shell: clap_complete::Shell,
        /// Write to this folder instead of stdout; of man pages, one file per command.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

/// Options of the bootstrap.
#[derive(Clone, Debug, Default, Args)]
pub struct UpArgs {
    /// Where to write the admin kubeconfig [default: `kubeconfig` in the state folder].
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Merge the admin credentials into an existing kubeconfig. Its other clusters are kept, and the
    /// previous version is saved as FILE.k8sha-backup.
    #[arg(long, value_name = "FILE", conflicts_with = "kubeconfig")]
    pub merge_kubeconfig: Option<PathBuf>,
    /// Delete the `/registry` keys that another cluster left in the external etcd. Keys that k8sha
    /// marked as another cluster's are deleted only if you name that cluster.
    #[arg(long, value_name = "CLUSTER", num_args = 0..=1, require_equals = true)]
    #[expect(clippy::option_option, reason = "absent, without a name, with a name")]
    pub wipe_etcd: Option<Option<String>>,
}

/// What `generate` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Generated {
    /// The JSON Schema of a profile.
    Schema,
    /// Shell completions.
    Completions,
    /// Man pages, one per command.
    Man,
}
