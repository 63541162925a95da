//! What has been done on a node already. Nothing is changed here.

use serde::{Deserialize, Serialize};

use super::error::Doing;
use super::unit::{self, State, Unit};
use super::{Error, files, path};
use crate::cluster::Version;
use crate::ssh::{Command, Remote};

/// What cloud-init wrote down about a node, in `/etc/k8sha/node.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planted {
    /// The cluster's name.
    pub cluster: String,
    /// The node's short name.
    pub node: String,
    /// Its role.
    pub role: String,
    /// What identifies the seed that it booted from.
    pub seed: String,
}

/// What is there on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// What our seed wrote down; `None` where the node booted from no seed of ours.
    pub planted: Option<Planted>,
    /// The version of kubeadm; `None` where it is not installed.
    pub kubeadm: Option<Version>,
    /// Whether the cluster's CA certificate is there.
    pub ca: bool,
    /// Whether the administrator's kubeconfig is there.
    pub admin: bool,
    /// Whether the kubelet has its own kubeconfig.
    pub kubelet: bool,
    /// Whether an API server is set up.
    pub apiserver: bool,
    /// Whether our configuration of `kubeadm init` is there.
    pub init_config: bool,
    /// The state of our `kubeadm init`.
    pub init: State,
    /// The state of our `kubeadm join`.
    pub join: State,
}

impl Facts {
    /// Whether nothing of Kubernetes has been set up.
    pub fn is_fresh(&self) -> bool {
        !(self.ca || self.admin || self.kubelet || self.apiserver)
    }
}

/// Looks at a Kubernetes node.
///
/// # Errors
/// Where the node cannot be asked, or says what we do not understand.
pub async fn gather(remote: &Remote) -> Result<Facts, Error> {
    let (planted, kubeadm, ca, admin, kubelet, apiserver, init_config, init, join) = tokio::try_join!(
        planted(remote),
        kubeadm_version(remote),
        files::exists(remote, path::CA),
        files::exists(remote, path::ADMIN),
        files::exists(remote, path::KUBELET),
        files::exists(remote, path::APISERVER),
        files::exists(remote, path::INIT),
        unit::state(remote, Unit::Init),
        unit::state(remote, Unit::Join),
    )?;
    Ok(Facts { planted, kubeadm, ca, admin, kubelet, apiserver, init_config, init, join })
}

/// What our seed wrote down about a node.
///
/// # Errors
/// Where the node cannot be asked, or the file is not ours.
pub async fn planted(remote: &Remote) -> Result<Option<Planted>, Error> {
    let command = Command::new("cat").arg(path::NODE);
    let output = remote.run(&command).await.doing("read what cloud-init wrote down")?;
    if !output.success() {
        return Ok(None);
    }
    serde_json::from_slice(&output.stdout).map(Some).map_err(|error| Error::Unread {
        what: format!("`{}`", path::NODE),
        node: remote.node().to_owned(),
        cause: error.to_string(),
    })
}

async fn kubeadm_version(remote: &Remote) -> Result<Option<Version>, Error> {
    let command = Command::new("kubeadm").args(["version", "-o", "short"]);
    let output = remote.run(&command).await.doing("ask for kubeadm's version")?;
    if !output.success() {
        return Ok(None);
    }
    output.stdout_text().trim().parse().map(Some).map_err(|cause| Error::Unread {
        what: "kubeadm's version".into(),
        node: remote.node().to_owned(),
        cause,
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
            _ => None,
        })
        .await;
        for path in [path::CA, path::ADMIN, path::KUBELET, path::APISERVER, path::INIT] {
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
        assert!(!facts.is_fresh());
    }

    #[tokio::test]
    async fn a_node_without_anything_is_fresh() {
        let host = Host::start(|words, _| {
            (words[0] == "systemctl").then(|| Reply::out("ActiveState=inactive\n"))
        })
        .await;
        let facts = gather(&host.remote("n")).await.unwrap();
        assert_eq!(facts, Facts::default());
        assert!(facts.is_fresh());
    }
}
