//! Errors of an external etcd, classified by the result of `curl`.

use std::fmt;
use std::path::PathBuf;

use super::Owner;

/// An external etcd that cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Fault {
    /// One of the operator's files cannot be read.
    #[error("cannot read the etcd file `{}`: {source}", path.display())]
    NoFile {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::sync::Arc<std::io::Error>,
    },
    /// One of the operator's files has the wrong content.
    #[error("the etcd file `{}` holds no PEM {holds}", path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// The expected content.
        holds: &'static str,
    },
    /// Members do not answer correctly.
    #[error(
        "{} of {all} etcd members cannot be used from `{node}`:\n{}",
        troubles.len(),
        lines(troubles)
    )]
    Members {
        /// The node that sent the requests.
        node: String,
        /// How many members there are.
        all: usize,
        /// The endpoints with the problem of each.
        troubles: Vec<(String, Trouble)>,
    },
    /// A member received a request and did not execute it.
    #[error("etcd at {endpoint}, asked from `{node}`: {trouble}")]
    Call {
        /// The node that sent the request.
        node: String,
        /// The endpoint.
        endpoint: String,
        /// The problem.
        trouble: Trouble,
    },
    /// A member of k8sha's etcd does not run correctly.
    #[error("etcd on `{node}` is {state}; the end of its journal:\n{journal}")]
    Machine {
        /// The member's machine.
        node: String,
        /// The state of its unit according to systemd, or the error of its health check.
        state: String,
        /// The end of its journal.
        journal: String,
    },
    /// Too few members of k8sha's etcd have their data.
    #[error(
        "etcd has lost its quorum: {} of {all} members can run ({needed} are needed), and {} \
         without data",
        all - without.len(),
        stand(without)
    )]
    Lost {
        /// The members without data.
        without: Vec<String>,
        /// How many members there are.
        all: usize,
        /// How many are needed.
        needed: usize,
    },
    /// A member that was to be removed as lost still answers.
    #[error(
        "the etcd member at {member} still answers requests from `{node}`; nothing was removed"
    )]
    Alive {
        /// The node that sent the request.
        node: String,
        /// The member's address.
        member: String,
    },
    /// Without a lost member, those that answer would not be a quorum.
    #[error(
        "asked from `{node}`, {answering} etcd members answer and {needed} are needed without the lost \
         one; silent are {}; nothing was removed",
        silent.join(", ")
    )]
    NoQuorum {
        /// The node that sent the requests.
        node: String,
        /// The members that do not answer, by address.
        silent: Vec<String>,
        /// How many answer.
        answering: usize,
        /// How many are needed.
        needed: usize,
    },
    /// The etcd holds this cluster's own data, but no master is left to continue with.
    #[error("etcd holds the data of this very cluster (creation {creation})")]
    Own {
        /// The creation id.
        creation: String,
    },
    /// The etcd holds the data of another cluster.
    #[error("the external etcd holds data {}", whose(found.as_ref()))]
    Foreign {
        /// The owner, if the data names one.
        found: Option<Owner>,
    },
}

fn stand(without: &[String]) -> String {
    match without {
        [only] => format!("`{only}` stands there"),
        all => format!("{} stand there", all.join(", ")),
    }
}

fn lines(troubles: &[(String, Trouble)]) -> String {
    let lines: Vec<String> =
        troubles.iter().map(|(endpoint, trouble)| format!("  {endpoint}: {trouble}")).collect();
    lines.join("\n")
}

fn whose(found: Option<&Owner>) -> String {
    match found {
        Some(owner) => {
            format!("of the cluster `{}` (creation {})", owner.cluster, owner.creation)
        }
        None => "of a Kubernetes cluster that k8sha did not create".to_owned(),
    }
}

/// The problem of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No process listens there.
    Refused(String),
    /// No answer in time.
    Silent(String),
    /// Its certificate is not signed by the CA of `etcd-ca.crt`.
    WrongCa(String),
    /// Its certificate has expired.
    Expired(String),
    /// It rejects the client certificate.
    ClientRefused(String),
    /// The certificate files do not match.
    BadFiles(String),
    /// It reports that it is unhealthy.
    Unhealthy(String),
    /// It answers, but not like etcd.
    NotEtcd(String),
    /// It refuses the request.
    Said(String),
    /// Any other error of `curl`.
    Other(u32, String),
}

impl Trouble {
    /// Classifies `curl`'s exit status (curl(1), EXIT CODES) and its message.
    pub(super) fn of_curl(code: u32, text: &str) -> Self {
        let lower = text.to_lowercase();
        let words = text.to_owned();
        match code {
            7 => Trouble::Refused(words),
            28 => Trouble::Silent(words),
            60 if lower.contains("expired") => Trouble::Expired(words),
            60 => Trouble::WrongCa(words),
            58 | 77 => Trouble::BadFiles(words),
            // TLS 1.2 rejects a client certificate in the handshake (35), TLS 1.3 in the first read
            // after it (56).
            35 | 56 if lower.contains("alert") || lower.contains("certificate") => {
                Trouble::ClientRefused(words)
            }
            code => Trouble::Other(code, words),
        }
    }

    /// Whether the problem is this member's own, so that another may execute the request: it was
    /// not reached, or is unhealthy. A refusal, or a problem of the certificate files, is the same
    /// for all members.
    pub(super) fn is_the_members(&self) -> bool {
        match self {
            Trouble::ClientRefused(_) | Trouble::BadFiles(_) | Trouble::Said(_) => false,
            Trouble::Refused(_)
            | Trouble::Silent(_)
            | Trouble::WrongCa(_)
            | Trouble::Expired(_)
            | Trouble::Unhealthy(_)
            | Trouble::NotEtcd(_)
            | Trouble::Other(..) => true,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Refused(text) => write!(f, "no process listens ({text})"),
            Trouble::Silent(text) => write!(f, "no answer ({text})"),
            Trouble::WrongCa(text) => {
                write!(f, "its certificate is not signed by the CA of `etcd-ca.crt` ({text})")
            }
            Trouble::Expired(text) => write!(f, "its certificate has expired ({text})"),
            Trouble::ClientRefused(text) => {
                write!(f, "it refuses the certificate of `apiserver-etcd-client.crt` ({text})")
            }
            Trouble::BadFiles(text) => {
                write!(f, "the client certificate and its key cannot be used ({text})")
            }
            Trouble::Unhealthy(reason) => write!(f, "it is not healthy: {reason}"),
            Trouble::NotEtcd(text) => write!(f, "it does not answer like etcd: {text}"),
            Trouble::Said(text) => write!(f, "it refuses: {text}"),
            Trouble::Other(code, text) => write!(f, "curl ended with {code} ({text})"),
        }
    }
}

impl Fault {
    /// The next thing to try.
    pub fn hint(&self) -> Option<String> {
        let first = match self {
            Fault::NoFile { .. } | Fault::NotPem { .. } => {
                return Some("the profile's `etcd` section names the three files".into());
            }
            Fault::Foreign { found } => {
                let named =
                    found.as_ref().map_or(String::new(), |owner| format!("={}", owner.cluster));
                return Some(format!(
                    "kubeadm would revive that cluster's nodes and secrets; if that cluster is no longer \
                     needed or running, run again with `--wipe-etcd{named}`"
                ));
            }
            Fault::Own { .. } => {
                return Some(
                    "a new control plane would have a different CA than the stored data. \
                     Restore a master's VM from a backup, or, if the data is not needed, `k8sha \
                     rebuild`, or run again with `--wipe-etcd`"
                        .into(),
                );
            }
            Fault::Alive { .. } => {
                return Some(
                    "its machine still exists: find the VM with that address in Proxmox VE".into(),
                );
            }
            Fault::NoQuorum { .. } => {
                return Some(
                    "bring the unreachable members back first; if they are lost, restore an etcd \
                     snapshot or a Proxmox VE backup of their VMs"
                        .into(),
                );
            }
            Fault::Machine { node, .. } => {
                return Some(format!(
                    "on {node}: `sudo journalctl -u etcd`, `systemctl status etcd`"
                ));
            }
            Fault::Lost { .. } => {
                return Some(
                    "bring back the machines that hold data; if they are lost, the cluster's data is \
                     lost too: restore a snapshot (etcd.io, \"Disaster recovery\"), or \
                     `k8sha rebuild`"
                        .into(),
                );
            }
            Fault::Members { troubles, .. } => &troubles.first()?.1,
            Fault::Call { trouble, .. } => trouble,
        };
        Some(
            match first {
                Trouble::Refused(_) => "start etcd on that member, or fix its endpoint",
                Trouble::Silent(_) => {
                    "is there a route from the nodes' subnet to that of etcd, and no firewall?"
                }
                Trouble::WrongCa(_) => "use the `etcd-ca.crt` of the etcd that runs there",
                Trouble::Expired(_) => "renew the member's server certificate",
                Trouble::ClientRefused(_) => {
                    "has it expired? `openssl x509 -noout -dates -issuer -in \
                     apiserver-etcd-client.crt`; it must be signed by etcd's own CA"
                }
                Trouble::BadFiles(_) => "the certificate and the key must match",
                Trouble::Unhealthy(_) => {
                    "`etcdctl endpoint status --cluster -w table` on a member says which has \
                     fallen behind"
                }
                Trouble::NotEtcd(_) | Trouble::Said(_) | Trouble::Other(..) => return None,
            }
            .to_owned(),
        )
    }
}
