//! Reads what has already been done on a node. Read-only.

use serde::{Deserialize, Serialize};

use super::error::Doing;
use super::unit::{self, State, Unit};
use super::{Error, files, path};
use crate::cause::cause;
use crate::cluster::Version;
use crate::ssh::{Command, Remote};

/// The facts that cloud-init wrote about a node, in `/etc/k8sha/node.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planted {
    /// The cluster's name.
    pub cluster: String,
    /// The node's short name.
    pub node: String,
    /// Its role.
    pub role: String,
    /// Identifies the seed that it booted from.
    pub seed: String,
}

/// The existing state of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The facts from k8sha's seed; `None` if the node did not boot from one.
    pub planted: Option<Planted>,
    /// The version of kubeadm; `None` if it is not installed.
    pub kubeadm: Option<Version>,
    /// The machine id, which identifies this machine.
    pub machine_id: String,
    /// The hash of the public key of the cluster's CA, if its certificate exists.
    pub ca: Option<String>,
    /// Whether the administrator's kubeconfig exists.
    pub admin: bool,
    /// Whether the kubelet has its own kubeconfig.
    pub kubelet: bool,
    /// Whether an API server is set up.
    pub apiserver: bool,
    /// Whether k8sha's configuration of `kubeadm init` exists.
    pub init_config: bool,
    /// Whether it is recorded that k8sha's `kubeadm init` succeeded.
    pub init_over: bool,
    /// Whether k8sha's configuration of `kubeadm join` exists: it is deleted when the join has
    /// succeeded.
    pub join_config: bool,
    /// Whether it is recorded that k8sha stopped its kubelet to remove it from the cluster.
    pub leaving: bool,
    /// The state of k8sha's `kubeadm init`.
    pub init: State,
    /// The state of k8sha's `kubeadm join`.
    pub join: State,
}

impl Facts {
    /// Whether nothing of Kubernetes is set up.
    pub fn is_fresh(&self) -> bool {
        self.ca.is_none() && !(self.admin || self.kubelet || self.apiserver)
    }
}

/// Reads the state of a Kubernetes node.
///
/// # Errors
/// If the node cannot be queried, or its answer cannot be parsed.
pub async fn gather(remote: &Remote) -> Result<Facts, Error> {
    let (planted, kubeadm, machine_id, ca, admin, kubelet) = tokio::try_join!(
        planted(remote),
        kubeadm_version(remote),
        machine_id(remote),
        ca(remote),
        files::exists(remote, path::ADMIN),
        files::exists(remote, path::KUBELET),
    )?;
    let (apiserver, init_config, init_over, join_config, leaving, init, join) = tokio::try_join!(
        files::exists(remote, path::APISERVER),
        files::exists(remote, path::INIT),
        files::exists(remote, path::INIT_OVER),
        files::exists(remote, path::JOIN),
        files::exists(remote, path::LEAVING),
        unit::state(remote, Unit::Init),
        unit::state(remote, Unit::Join),
    )?;
    Ok(Facts {
        planted,
        kubeadm,
        machine_id,
        ca,
        admin,
        kubelet,
        apiserver,
        init_config,
        init_over,
        join_config,
        leaving,
        init,
        join,
    })
}

/// Identifies a machine. `/etc/machine-id` alone is not unique if a template already contains one,
/// and the firmware's UUID alone is not unique if machines are containers of one kernel.
///
/// The kubelet reports both (google/cadvisor utils/sysfs/sysfs.go, `GetSystemUUID`: the machine id
/// is used if the firmware has no UUID).
async fn machine_id(remote: &Remote) -> Result<String, Error> {
    let id = Command::new("cat").arg("/etc/machine-id");
    let uuid = Command::sudo("cat").arg("/sys/class/dmi/id/product_uuid");
    let (id, uuid) =
        tokio::try_join!(remote.run_ok(&id), remote.run(&uuid)).doing("read the machine's id")?;
    let uuid = if uuid.success() { uuid.stdout_text() } else { String::new() };
    Ok(machine(id.stdout_text().trim(), uuid.trim()))
}

/// A machine's id and its firmware's UUID as one text.
pub(super) fn machine(id: &str, uuid: &str) -> String {
    let uuid = if uuid.is_empty() { id } else { uuid };
    format!("{id}/{}", uuid.to_lowercase())
}

async fn ca(remote: &Remote) -> Result<Option<String>, Error> {
    match files::exists(remote, path::CA).await? {
        true => files::ca_hash(remote).await.map(Some),
        false => Ok(None),
    }
}

/// The facts that k8sha's seed wrote about a node.
///
/// # Errors
/// If the node cannot be queried, or the file was not written by k8sha.
pub async fn planted(remote: &Remote) -> Result<Option<Planted>, Error> {
    let command = Command::new("cat").arg(path::NODE);
    let output = remote.run(&command).await.doing("read what cloud-init wrote down")?;
    if !output.success() {
        return Ok(None);
    }
    serde_json::from_slice(&output.stdout).map(Some).map_err(|error| Error::Unread {
        what: format!("`{}`", path::NODE),
        node: remote.node().to_owned(),
        cause: cause(error),
    })
}

async fn kubeadm_version(remote: &Remote) -> Result<Option<Version>, Error> {
    let command = Command::new("kubeadm").args(["version", "-o", "short"]);
    let output = remote.run(&command).await.doing("ask for kubeadm's version")?;
    if !output.success() {
        return Ok(None);
    }
    output.stdout_text().trim().parse().map(Some).map_err(|said: String| Error::Unread {
        what: "kubeadm's version".into(),
        node: remote.node().to_owned(),
        cause: cause(said),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubeadm::fake::Host;
    use crate::ssh::fake::Reply;

    #[tokio::test]
    async fn the_facts_of_an_initialised_master_are_read() {
        let host = Host::start(|words, _| match words {
            ["kubeadm", "version", "-o", "short"] => Some(Reply::out("v1.28.4\n")),
            ["systemctl", "show", .., "k8sha-kubeadm-init"] => {
                Some(Reply::out("LoadState=loaded\nActiveState=active\nSubState=exited\n"))
            }
            ["systemctl", "show", ..] => {
                Some(Reply::out("LoadState=not-found\nActiveState=inactive\nSubState=dead\n"))
            }
            ["cat", "/etc/machine-id"] => Some(Reply::out("0123456789abcdef\n")),
            ["cat", "/sys/class/dmi/id/product_uuid"] => Some(Reply::out("4C4C4544-0050\n")),
            _ => None,
        })
        .await;
        let ca = rcgen::generate_simple_self_signed(vec!["kubernetes".to_owned()]).unwrap();
        host.put(path::CA, ca.cert.pem());
        for path in [path::ADMIN, path::KUBELET, path::APISERVER, path::INIT] {
            host.put(path, "x");
        }
        host.put(
            path::NODE,
            r#"{"cluster":"k8s1-cluster","node":"k8s1master1","role":"master","seed":"ab12"}"#,
        );
        let facts = gather(&host.remote("k8s1master1")).await.unwrap();
        assert_eq!(facts.kubeadm, Some("1.28.4".parse().unwrap()));
        assert_eq!((facts.init.clone(), facts.join.clone()), (State::Done, State::Absent));
        assert_eq!(facts.planted.as_ref().unwrap().node, "k8s1master1");
        assert_eq!(facts.machine_id, "0123456789abcdef/4c4c4544-0050");
        assert!(!facts.is_fresh() && facts.ca.unwrap().starts_with("sha256:"));
    }

    #[tokio::test]
    async fn a_node_without_anything_is_fresh() {
        let host = Host::start(|words, _| match words {
            ["systemctl", ..] => Some(Reply::out("ActiveState=inactive\n")),
            ["cat", "/etc/machine-id"] => Some(Reply::out("0123456789abcdef\n")),
            ["cat", ..] => Some(Reply::code(1, "No such file or directory")),
            _ => None,
        })
        .await;
        let facts = gather(&host.remote("n")).await.unwrap();
        let fresh = Facts {
            machine_id: "0123456789abcdef/0123456789abcdef".to_owned(),
            ..Facts::default()
        };
        assert_eq!(facts, fresh);
        assert!(facts.is_fresh());
    }
}
