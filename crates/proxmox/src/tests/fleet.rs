//! The hosts that form one Proxmox cluster.

use serde_json::json;

use crate::scripted::{Script, no, ok};
use crate::{Auth, Client, Fleet};
use crate::{HostName, Trust};

fn entry(kind: &str, name: &str) -> serde_json::Value {
    json!({ "type": kind, "name": name, "id": name, "quorate": 1, "online": 1 })
}

async fn fleet(answers: [serde_json::Value; 2]) -> (Fleet, [Script; 2]) {
    let [one, two] = answers;
    let scripts = [Script::play([ok(one)]).await, Script::play([ok(two)]).await];
    let client = |script: &Script, name: &str| {
        let trust = Trust::Fingerprint(script.fingerprint.0);
        let auth = Auth::Token("root@pam!t=s3cret".into());
        Client::new(HostName(name.into()), &script.endpoint, &trust, auth, 1000.0).unwrap()
    };
    (
        ["pve1", "pve2"].iter().zip(&scripts).map(|(name, script)| client(script, name)).collect(),
        scripts,
    )
}

#[tokio::test]
async fn hosts_of_one_proxmox_cluster_are_distinguished_from_standalone_ones() {
    let [pve1, pve2] = ["pve1", "pve2"].map(|name| HostName(name.into()));
    let both = json!([entry("cluster", "lab"), entry("node", "pve1"), entry("node", "pve2")]);
    let (together, _scripts) = fleet([both.clone(), both.clone()]).await;
    let topology = together.topology().await.unwrap();
    assert!(topology.is_together(&pve1, &pve2));
    assert_eq!(topology.of(&pve2).unwrap().name.as_deref(), Some("lab"));

    let (apart, _scripts) =
        fleet([json!([entry("node", "pve1")]), json!([entry("node", "pve2")])]).await;
    let topology = apart.topology().await.unwrap();
    assert!(!topology.is_together(&pve1, &pve2) && topology.clusters.len() == 2);

    let (wrong, _scripts) =
        fleet([json!([entry("node", "pve1")]), json!([entry("node", "proxmox")])]).await;
    let error = wrong.topology().await.unwrap_err().to_string();
    assert!(error.contains("is not the Proxmox VE node `pve2`: it knows `proxmox`"), "{error}");
    let error = wrong.client(&HostName("pve9".into())).unwrap_err().to_string();
    assert_eq!(error, "there is no Proxmox VE host `pve9`; the known hosts are `pve1`, `pve2`");
}

#[tokio::test]
async fn without_the_right_to_read_the_cluster_it_is_derived_from_its_nodes() {
    let refuse = || no(403, "Permission check failed (/, Sys.Audit)", "");
    let nodes = || ok(json!([{ "node": "pve1" }, { "node": "pve2" }]));
    let scripts =
        [Script::play([refuse(), nodes()]).await, Script::play([refuse(), nodes()]).await];
    let client = |script: &Script, name: &str| {
        let trust = Trust::Fingerprint(script.fingerprint.0);
        let auth = Auth::Token("a@pve!t=s3cret".into());
        Client::new(HostName(name.into()), &script.endpoint, &trust, auth, 1000.0).unwrap()
    };
    let fleet: Fleet =
        [client(&scripts[0], "pve1"), client(&scripts[1], "pve2")].into_iter().collect();
    let topology = fleet.topology().await.unwrap();
    assert!(topology.is_together(&HostName("pve1".into()), &HostName("pve2".into())));
    assert_eq!(topology.clusters[0].name, None);
}
