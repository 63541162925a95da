//! Errors of the Kubernetes stage.

use std::path::PathBuf;
use std::time::Duration;

use super::{config, etcd, preflight};
use crate::cause::Cause;
use crate::ssh;

/// The output of a load balancer that must not use its virtual router id (`vrrp-listen.py`).
const CLASH: &str = "k8sha vrrp-listen: cannot use router id";

/// Names as a list, or a note that there are none.
fn or_none(names: &[String]) -> String {
    if names.is_empty() { "none: no load balancer is running".to_owned() } else { names.join(", ") }
}

/// How long k8sha waited; empty if it checked only once.
fn within(seconds: u64) -> String {
    if seconds == 0 { String::new() } else { format!(" within {seconds} s") }
}

/// A phase that did not finish. No text in it contains a secret.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A command could not be run or failed.
    #[error("{doing}: {source}")]
    Ssh {
        /// The action.
        doing: String,
        /// The error.
        source: Box<ssh::Error>,
    },
    /// The external etcd cannot be used.
    #[error(transparent)]
    Etcd(#[from] etcd::Fault),
    /// kubeadm's configuration cannot be written.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// A unit on a node failed.
    #[error("`{unit}` failed on `{node}` ({result}, exit status {code}); its last lines:\n{}", last.join("\n"))]
    Unit {
        /// The node.
        node: String,
        /// The systemd unit.
        unit: String,
        /// systemd's `Result`, such as `exit-code`.
        result: String,
        /// The exit status of its program.
        code: String,
        /// The last lines of its log, secrets masked.
        last: Vec<String>,
    },
    /// A unit disappeared before it finished: the node was rebooted, or the unit was stopped.
    #[error("`{unit}` on `{node}` disappeared before it finished; was the node restarted?")]
    UnitGone {
        /// The node.
        node: String,
        /// The systemd unit.
        unit: String,
    },
    /// Something did not reach the wanted state in time.
    #[error("{what}{} on `{node}`; last seen: {seen}", within(*.seconds))]
    TooLong {
        /// The unmet condition, such as `the API did not answer`.
        what: String,
        /// The node that was queried.
        node: String,
        /// How long, in seconds.
        seconds: u64,
        /// The last observed state.
        seen: String,
    },
    /// The output of a program could not be parsed.
    #[error("cannot read {what} of `{node}`: {cause}")]
    Unread {
        /// The output.
        what: String,
        /// The node that it came from.
        node: String,
        /// The problem.
        #[source]
        cause: Cause,
    },
    /// The first master runs another cluster.
    #[error("`{node}` already runs the cluster `{found}`, not `{wanted}`")]
    AnotherCluster {
        /// The node.
        node: String,
        /// The name of the cluster that it runs.
        found: String,
        /// The name of this cluster.
        wanted: String,
    },
    /// kubeadm succeeded, but the cluster is incomplete.
    #[error("kubeadm finished on `{node}`, but {missing}")]
    Incomplete {
        /// The node.
        node: String,
        /// What is missing.
        missing: String,
    },
    /// haproxy or keepalived does not run.
    #[error("`{unit}` on `{node}` is {state}; the end of its journal:\n{journal}")]
    Balancer {
        /// The load balancer.
        node: String,
        /// The unit.
        unit: String,
        /// What systemd says about it.
        state: String,
        /// The end of its journal.
        journal: String,
    },
    /// haproxy or keepalived rejects its new configuration.
    #[error("`{unit}` on `{node}` rejected its new configuration and keeps the old one:\n{said}")]
    Refused {
        /// The load balancer.
        node: String,
        /// The program, and its unit.
        unit: String,
        /// Its output, verbatim.
        said: String,
    },
    /// A member of k8sha's etcd trusts a different CA.
    #[error(
        "`{node}` trusts a different etcd CA than the one in the state folder (`etcd/ca.pem`); nothing was \
         changed there"
    )]
    Authority {
        /// The node.
        node: String,
    },
    /// No load balancer holds the VIP.
    #[error("no load balancer holds the VIP {vip}; checked {}", or_none(looked))]
    VipNowhere {
        /// The VIP.
        vip: std::net::Ipv4Addr,
        /// The load balancers.
        looked: Vec<String>,
    },
    /// More than one load balancer holds the VIP.
    #[error("several load balancers hold the VIP {vip}: {}", holders.join(" and "))]
    VipTwice {
        /// The VIP.
        vip: std::net::Ipv4Addr,
        /// The load balancers that hold it.
        holders: Vec<String>,
    },
    /// A node that is to join already has Kubernetes state, and no k8sha join explains it.
    #[error("`{node}` already has a kubelet or Kubernetes certificates; nothing was changed there")]
    NotFresh {
        /// The node.
        node: String,
    },
    /// A machine is not reset, because it may serve a cluster.
    #[error("`{node}` is not reset: {why}")]
    NotLitter {
        /// The node.
        node: String,
        /// Why not.
        why: String,
    },
    /// A Node object was registered by another machine than the lost one.
    #[error("the Node `{name}` was registered by the machine {found}, not by {wanted}; it is kept")]
    OtherMachine {
        /// The master that was queried.
        node: String,
        /// The Node's name.
        name: String,
        /// The machine in the Node object.
        found: String,
        /// The lost machine.
        wanted: String,
    },
    /// The Node of a lost machine stays Ready.
    #[error("the Node `{name}` is still Ready: a kubelet reports under that name; it is kept")]
    StillReports {
        /// The master that was queried.
        node: String,
        /// The Node's name.
        name: String,
    },
    /// A node is not removed from the cluster.
    #[error("the node `{name}` is not removed: {said}")]
    Drain {
        /// The Node's name.
        name: String,
        /// What keeps it, in kubectl's words if kubectl reported it.
        said: String,
    },
    /// `admin.conf` contains another endpoint than the API's name.
    #[error("the kubeconfig of `{node}` names `{found}`, not `{wanted}`")]
    Endpoint {
        /// The node.
        node: String,
        /// The server in the file.
        found: String,
        /// The expected server.
        wanted: String,
    },
    /// A kubeconfig of another cluster or user is at that path.
    #[error("`{}` contains {what}; it is left unchanged", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Its content.
        what: String,
    },
    /// The custom manifest cannot be used.
    #[error("`{}` contains {what}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// The wrong or missing content.
        what: String,
    },
    /// A local file that cannot be read or written.
    #[error("cannot {doing} `{}`: {source}", path.display())]
    File {
        /// `read` or `write`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::sync::Arc<std::io::Error>,
    },
}

impl Error {
    /// Something did not reach the wanted state within `limit`, according to `node`.
    pub(super) fn too_long(
        node: &ssh::Remote,
        what: impl Into<String>,
        limit: Duration,
        seen: impl Into<String>,
    ) -> Self {
        let (node, seconds) = (node.node().to_owned(), limit.as_secs());
        Error::TooLong { what: what.into(), node, seconds, seen: seen.into() }
    }

    /// Whether waiting does not help: the node is another machine, or refuses every login, or
    /// another device on the network uses its router id.
    pub(super) fn is_lasting(&self) -> bool {
        match self {
            Error::Ssh { source, .. } => !source.is_transient(),
            Error::Balancer { journal, .. } => journal.contains(CLASH),
            _ => false,
        }
    }

    /// The next thing to try.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Ssh { source, .. } => source.hint(),
            Error::Etcd(fault) => fault.hint(),
            Error::Unit { last, .. } => preflight::hint(last),
            Error::UnitGone { .. } => {
                Some("run the same command again: it resumes where this one stopped".into())
            }
            Error::AnotherCluster { .. } => {
                Some("check the profile's addresses and VMIDs, or destroy the other cluster".into())
            }
            Error::StillReports { name, .. } => Some(format!(
                "find the machine that reports as `{name}` (`kubectl get node {name} -o wide`) and stop \
                 it"
            )),
            Error::Drain { said, .. } if said.contains("disruption budget") => Some(
                "`kubectl get pdb -A` shows the budgets: run more replicas of that workload elsewhere, or \
                 change its budget, and run the same command again"
                    .into(),
            ),
            Error::Drain { said, .. } if said.contains("the only copy") => Some(
                "move the data and delete the claim and the volume, then run the same command again; or \
                 restore the row in the profile"
                    .into(),
            ),
            Error::Drain { said, .. } if said.contains("(use --force") => Some(
                "nothing will recreate these pods on another node: delete or move them, and run the same \
                 command again"
                    .into(),
            ),
            Error::Drain { name, .. } => Some(format!(
                "`kubectl describe node {name}` shows its pods; run the same command again, or restore \
                 the row in the profile"
            )),
            Error::NotFresh { .. } | Error::NotLitter { .. } | Error::OtherMachine { .. } => Some(
                "run `k8sha plan` to see what was found. To replace a machine that cannot be repaired, \
                 remove its VM in Proxmox VE and run `k8sha up`"
                    .into(),
            ),
            Error::Balancer { journal, .. } if journal.contains(CLASH) => Some(
                "`balancer.vrid` in the profile must be unique on the nodes' \
                 network; change it and run the same command again"
                    .into(),
            ),
            Error::Balancer { unit, .. } => {
                Some(format!("on that node: `sudo systemctl status {unit}`"))
            }
            Error::Refused { node, .. } => Some(format!(
                "`k8sha render {node}` shows that file; correct the profile, or your own template of it \
                 (`--templates`), and run the same command again"
            )),
            Error::VipNowhere { .. } => Some(
                "keepalived releases the VIP if its haproxy check fails: see `sudo journalctl -u \
                 keepalived` on a load balancer"
                    .into(),
            ),
            Error::VipTwice { .. } => Some(
                "the load balancers do not receive each other's VRRP packets: allow IP protocol 112 \
                 between them, and use a router id that is unique on the network"
                    .into(),
            ),
            Error::TooLong { seen, .. } if seen.contains(" is NotReady ") => Some(
                "a node becomes Ready when its pod network is: `kubectl -n kube-system get pods -o wide` \
                 shows which pods do not run, `kubectl -n kube-system logs POD` shows why"
                    .into(),
            ),
            Error::Manifest { .. } => Some(
                "the known variables are ${K8SHA_POD_CIDR}, ${K8SHA_SERVICE_CIDR}, ${K8SHA_API_HOST} and \
                 ${K8SHA_API_PORT}"
                    .into(),
            ),
            Error::Authority { .. } => Some(
                "restore the folder `etcd` of the state folder from a backup: a different CA would \
                 lock out the members and the API servers"
                    .into(),
            ),
            Error::Kubeconfig { .. } => Some(
                "move it away, choose another path, or add this cluster to it with \
                 `--merge-kubeconfig`"
                    .into(),
            ),
            _ => None,
        }
    }
}

/// Adds the action to the error of a failed command.
pub(super) trait Doing<T> {
    /// Converts an SSH error.
    fn doing(self, what: impl Into<String>) -> Result<T, Error>;
}

impl<T> Doing<T> for Result<T, ssh::Error> {
    fn doing(self, what: impl Into<String>) -> Result<T, Error> {
        self.map_err(|source| Error::Ssh { doing: what.into(), source: Box::new(source) })
    }
}
