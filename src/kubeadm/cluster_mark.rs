//! k8sha's mark inside a cluster: a ConfigMap with the cluster's name and creation, so that another
//! cluster at the same address is recognised.

use serde_json::{Value, json};

use super::Error;
use super::kubectl::{self, Api};
use crate::ssh::Remote;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "k8sha";

/// The content of the mark.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterMark {
    /// The cluster's name.
    pub cluster: String,
    /// The creation id.
    pub creation: String,
    /// The pod network that k8sha has installed, as a phrase.
    pub cni: Option<String>,
}

/// Reads it; `None` if there is none.
///
/// # Errors
/// If the API does not answer.
pub async fn read(api: &Api) -> Result<Option<ClusterMark>, Error> {
    let args = ["-n", NAMESPACE, "get", "configmap", NAME, "-o", "json"];
    Ok(api.json_if_there(&args).await?.map(|map| parse(&map)))
}

fn parse(map: &Value) -> ClusterMark {
    let text = |key: &str| map["data"][key].as_str().unwrap_or_default().to_owned();
    let cni = Some(text("cni")).filter(|cni| !cni.is_empty());
    ClusterMark { cluster: text("cluster"), creation: text("creation"), cni }
}

/// Writes it if it differs, and returns whether it did.
///
/// # Errors
/// If the API does not answer or refuses.
pub async fn write(via: &Remote, mark: &ClusterMark) -> Result<bool, Error> {
    if read(&Api::through_vip(via)).await?.as_ref() == Some(mark) {
        return Ok(false);
    }
    let ClusterMark { cluster, creation, cni } = mark;
    let mut data = json!({"cluster": cluster, "creation": creation});
    if let Some(cni) = cni {
        data["cni"] = cni.as_str().into();
    }
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "data": data,
    });
    kubectl::apply(via, "the cluster's mark", &map.to_string()).await?;
    Ok(true)
}
