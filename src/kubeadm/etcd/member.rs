//! A member of an etcd that k8sha manages: its files and its state.

use std::net::Ipv4Addr;

use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::fault::Trouble;
use super::{Error, Fault, Files, call, examine, files, said};
use crate::cause::cause;
use crate::cluster::{ETCD_CLIENT_PORT, ETCD_PEER_PORT, NodeName};
use crate::kubeadm::error::Doing;
use crate::kubeadm::unit;
use crate::pki::Pair;
use crate::report::event;
use crate::ssh::{Command, Remote};

/// The unit that cloud-init has written.
const UNIT: &str = "etcd";
/// The user that runs it, and the only one that may read its files.
const USER: &str = "etcd";
/// A member's initial configuration: read while it has no data, and the unit's condition.
pub(crate) const INITIAL: &str = "/etc/etcd/initial.env";
/// The path of a member's data.
pub(crate) const DATA: &str = "/var/lib/etcd/member";

const CA: &str = "/etc/etcd/pki/ca.crt";
const SERVER_CERT: &str = "/etc/etcd/pki/server.crt";
const SERVER_KEY: &str = "/etc/etcd/pki/server.key";
const PEER_CERT: &str = "/etc/etcd/pki/peer.crt";
const PEER_KEY: &str = "/etc/etcd/pki/peer.key";

/// A member uses one certificate both as server and as client.
const OWN: Files = Files { ca: CA, cert: SERVER_CERT, key: SERVER_KEY };

/// A member's machine, and the files to copy there.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The connection to it.
    pub remote: Remote,
    /// Its name, in the table and in etcd.
    pub name: NodeName,
    /// Its address.
    pub ip: Ipv4Addr,
    /// The CA certificate, PEM.
    pub ca: String,
    /// For clients.
    pub server: Pair,
    /// For the other members.
    pub peer: Pair,
}

/// The state of a member's machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Whether it has the right certificates.
    pub planted: bool,
    /// Whether it trusts a different CA than k8sha's.
    pub foreign: bool,
    /// Whether it has data: it was a member before.
    pub data: bool,
    /// Whether it reports that it is healthy, which requires a quorum.
    pub healthy: bool,
}

/// A member as etcd lists it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Listed {
    /// Its id, a 64-bit number in decimal digits.
    #[serde(rename = "ID")]
    pub(super) id: String,
    /// Its name; empty until its first start, if it was added later.
    #[serde(default)]
    pub(super) name: String,
    /// The address at which other members reach it.
    #[serde(rename = "peerURLs", default)]
    pub(super) peers: Vec<String>,
    /// The address at which clients reach it; empty until its first start.
    #[serde(rename = "clientURLs", default)]
    pub(super) clients: Vec<String>,
}

/// The files of a member that are missing or wrong.
struct Unplanted<'a> {
    /// Each with its expected content.
    files: Vec<(&'static str, &'a [u8])>,
    /// Whether a CA certificate exists and is a different one.
    foreign: bool,
}

impl Machine {
    /// Its client URL.
    pub fn endpoint(&self) -> String {
        format!("https://{}:{ETCD_CLIENT_PORT}", self.ip)
    }

    /// Its peer URL.
    pub fn peer_url(&self) -> String {
        format!("https://{}:{ETCD_PEER_PORT}", self.ip)
    }

    /// The files with their paths.
    fn wanted(&self) -> [(&'static str, &[u8]); 5] {
        [
            (CA, self.ca.as_bytes()),
            (SERVER_CERT, self.server.cert.as_bytes()),
            (SERVER_KEY, self.server.key.expose_secret().as_bytes()),
            (PEER_CERT, self.peer.cert.as_bytes()),
            (PEER_KEY, self.peer.key.expose_secret().as_bytes()),
        ]
    }

    /// The files that are missing or different.
    async fn unplanted(&self) -> Result<Unplanted<'_>, Error> {
        let wanted = self.wanted();
        let there = files::hashes(&self.remote, &wanted.map(|(to, _)| to)).await?;
        let ours = files::sha256(self.ca.as_bytes());
        let foreign = there.get(CA).is_some_and(|hash| *hash != ours);
        let differs = |(to, body): &(&str, &[u8])| there.get(*to) != Some(&files::sha256(body));
        Ok(Unplanted { files: wanted.into_iter().filter(differs).collect(), foreign })
    }

    /// Copies its certificates if they differ; etcd reads them again at every handshake.
    ///
    /// # Errors
    /// If the node cannot be queried or written to, and [`Error::Authority`] if it trusts a
    /// different CA: the existing members would lock each other out.
    pub async fn plant(&self) -> Result<bool, Error> {
        let Unplanted { files: unplanted, foreign } = self.unplanted().await?;
        if foreign {
            return Err(Error::Authority { node: self.name.to_string() });
        }
        for (to, body) in &unplanted {
            event::progress(format!("write `{to}`"));
            files::write_for(&self.remote, USER, to, body).await?;
        }
        Ok(!unplanted.is_empty())
    }

    /// Reads its state.
    ///
    /// # Errors
    /// If the node cannot be queried.
    pub async fn look(&self) -> Result<Seen, Error> {
        let Unplanted { files: unplanted, foreign } = self.unplanted().await?;
        let planted = unplanted.is_empty();
        let data = files::exists(&self.remote, DATA).await?;
        // Without data no process listens.
        let healthy = planted && data && self.trouble().await?.is_none();
        Ok(Seen { planted, foreign, data, healthy })
    }

    /// Its problem, as it reports it.
    pub(super) async fn trouble(&self) -> Result<Option<Trouble>, Error> {
        examine(&self.remote, &OWN, &self.endpoint()).await
    }

    /// Whether its unit is running or starting.
    pub(super) async fn runs(&self) -> Result<bool, Error> {
        Ok(matches!(self.state().await?.as_str(), "active" | "activating" | "reloading"))
    }

    async fn state(&self) -> Result<String, Error> {
        let command = Command::new("systemctl").args(["is-active", UNIT]);
        let output = self.remote.run(&command).await.doing("look at etcd's unit")?;
        Ok(output.stdout_text().trim().to_owned())
    }

    /// Writes its initial configuration, then starts it without waiting: the first members are not
    /// ready before there is a quorum of them.
    pub(super) async fn begin(&self, initial: &Initial<'_>) -> Result<(), Error> {
        files::write_for(&self.remote, USER, INITIAL, initial.text().as_bytes()).await?;
        self.start().await
    }

    /// Starts its unit without waiting.
    pub(super) async fn start(&self) -> Result<(), Error> {
        // A unit that has failed too often cannot be started again without this.
        let forget = Command::sudo("systemctl").args(["reset-failed", UNIT]);
        self.remote.run(&forget).await.doing("start etcd")?;
        let start = Command::sudo("systemctl").args(["start", "--no-block", UNIT]);
        self.remote.run_ok(&start).await.doing("start etcd")?;
        Ok(())
    }

    /// What is wrong with it, as an error with the end of its journal.
    pub(super) async fn fault(&self, trouble: Trouble) -> Error {
        let state = match self.state().await {
            Ok(state) if state != "active" => state,
            _ => trouble.to_string(),
        };
        let journal = unit::journal(&self.remote, UNIT).await;
        Fault::Machine { node: self.remote.node().to_owned(), state, journal }.into()
    }

    /// The members, as this one reports them.
    pub(super) async fn list(&self) -> Result<Vec<Listed>, Error> {
        let answer = self.ask("list", &json!({})).await?;
        self.members(&answer["members"])
    }

    /// Adds a member by the address at which the others reach it.
    pub(super) async fn add(&self, peer_url: &str) -> Result<Vec<Listed>, Error> {
        let answer = self.ask("add", &json!({"peerURLs": [peer_url]})).await?;
        self.members(&answer["members"])
    }

    /// Removes a member by its id.
    pub(super) async fn remove(&self, id: &str) -> Result<(), Error> {
        self.ask("remove", &json!({"ID": id})).await.map(drop)
    }

    async fn ask(&self, verb: &str, body: &Value) -> Result<Value, Error> {
        let url = format!("{}/v3/cluster/member/{verb}", self.endpoint());
        let trouble = |trouble| Fault::Call {
            node: self.remote.node().to_owned(),
            endpoint: self.endpoint(),
            trouble,
        };
        let answer = call(&self.remote, &OWN, &url, Some(body)).await?.map_err(trouble)?;
        match said(&answer) {
            None => Ok(answer),
            Some(said) => Err(trouble(Trouble::Said(said.to_owned())).into()),
        }
    }

    fn members(&self, list: &Value) -> Result<Vec<Listed>, Error> {
        serde_json::from_value(list.clone()).map_err(|error| Error::Unread {
            what: "etcd's list of members".into(),
            node: self.remote.node().to_owned(),
            cause: cause(error),
        })
    }
}

/// A member's initial configuration.
pub(super) struct Initial<'a> {
    /// Whether the cluster is new with it.
    pub(super) new: bool,
    /// Every member's name and peer address, its own included.
    pub(super) members: Vec<(String, String)>,
    /// Identifies the creation of the cluster.
    pub(super) token: &'a str,
}

impl Initial<'_> {
    fn text(&self) -> String {
        let members: Vec<String> =
            self.members.iter().map(|(name, url)| format!("{name}={url}")).collect();
        format!(
            "ETCD_INITIAL_CLUSTER={}\nETCD_INITIAL_CLUSTER_STATE={}\nETCD_INITIAL_CLUSTER_TOKEN={}\n",
            members.join(","),
            if self.new { "new" } else { "existing" },
            self.token
        )
    }
}
