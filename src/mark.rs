//! k8sha's mark: text in a VM's description that identifies it as k8sha's and records what it was
//! created from.

use std::net::Ipv4Addr;
use std::sync::Arc;

use k8sha_proxmox::Claim;
use k8sha_proxmox::wire::VmConfig;
use serde::Serialize;

use crate::cluster::{NodeName, Role};

const OPEN: &str = "<!-- k8sha";
const CLOSE: &str = "-->";

/// The tag of every k8sha VM; the cluster's name is another tag.
pub(crate) const TAG: &str = "k8sha";

/// Identifies the owner of a VM or template. It is written in the same call that creates the VM, so
/// that no VM of k8sha's is ever without one. It is in an HTML comment that the GUI's Markdown does
/// not show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mark {
    /// The cluster's name.
    pub cluster: String,
    /// The node of the table; `None` for a template.
    pub node: Option<NodeName>,
    /// The hash of what it was created from, to detect differences from the profile.
    pub spec: String,
    /// The creation of the cluster that it belongs to, to distinguish a rebuilt VM from the one
    /// before.
    pub creation: String,
    /// What the machine was created as, whatever the table contains now; `None` for a template, and
    /// for a VM that a former release created.
    pub machine: Option<Machine>,
    /// The hashes in the name of the seed that the machine has read; recorded when the first boot
    /// is over and the seed is ejected. `None` as long as the machine needs its seed.
    pub read: Option<String>,
}

/// What a machine was created as. A guest keeps all of this for its lifetime, so it is written
/// once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Its role.
    pub role: Role,
    /// Its address at its first boot.
    pub address: Ipv4Addr,
    /// The login user that its seed creates.
    pub user: String,
    /// The hashes in the name of its seed, which identify the documents that it has read.
    pub seed: String,
    /// The operating system, and the spec of the template that its disk came from.
    pub image: String,
    /// The bridge and VLAN in the profile when its VM was last written; `None` for a VM that a
    /// former release created.
    pub network: Option<String>,
}

impl Mark {
    /// The description: a line for the user, then the mark.
    pub(crate) fn describe(&self, line: &str) -> String {
        format!("{line}\n\n{}", self.block())
    }

    /// A description with its mark replaced by this one; other text in it is kept.
    pub fn replace_in(&self, description: &str) -> String {
        let found = description
            .split_once(OPEN)
            .and_then(|(before, rest)| Some((before, rest.split_once(CLOSE)?.1)));
        match found {
            Some((before, after)) => format!("{before}{}{after}", self.block()),
            None => self.describe(description),
        }
    }

    /// The mark alone, as it is in a description.
    pub fn block(&self) -> String {
        let node = self.node.as_ref().map(|node| format!("node: {node}\n")).unwrap_or_default();
        let machine = self.machine.as_ref().map(Machine::lines).unwrap_or_default();
        let read = self.read.as_ref().map(|read| format!("read: {read}\n")).unwrap_or_default();
        let Self { cluster, spec, creation, .. } = self;
        format!(
            "{OPEN}\ncluster: {cluster}\n{node}spec: {spec}\ncreation: {creation}\n\
             {machine}{read}{CLOSE}"
        )
    }

    /// Finds the mark in a description; `None` if there is none or it is incomplete.
    pub fn find(description: &str) -> Option<Self> {
        let (_, rest) = description.split_once(OPEN)?;
        let (block, _) = rest.split_once(CLOSE)?;
        let value = |wanted: &str| {
            block.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                (key.trim() == wanted).then(|| value.trim().to_owned())
            })
        };
        Some(Self {
            cluster: value("cluster")?,
            node: value("node").map(NodeName),
            spec: value("spec")?,
            creation: value("creation")?,
            machine: Machine::read(value),
            read: value("read"),
        })
    }

    /// The claim to the VM that is created with this mark; `line` is for the user.
    pub fn claim(self, line: &str) -> Arc<dyn Claim> {
        Arc::new(Claimed { line: line.to_owned(), mark: self })
    }

    /// Whether it is the mark of a node's VM of this creation of the cluster.
    pub(crate) fn is_of(&self, cluster: &str, node: &NodeName, creation: &str) -> bool {
        (self.cluster.as_str(), self.node.as_ref(), self.creation.as_str())
            == (cluster, Some(node), creation)
    }

    /// Whether both identify the same VM of the same creation, whatever was changed on it since.
    pub(crate) fn is_same_making(&self, other: &Self) -> bool {
        (&self.cluster, &self.node, &self.creation)
            == (&other.cluster, &other.node, &other.creation)
    }
}

/// A VM's configuration that may have k8sha's mark.
pub trait Marked {
    /// k8sha's mark in the description.
    fn mark(&self) -> Option<Mark>;
}

impl Marked for VmConfig {
    fn mark(&self) -> Option<Mark> {
        Mark::find(self.description())
    }
}

#[derive(Debug)]
struct Claimed {
    line: String,
    mark: Mark,
}

impl Claim for Claimed {
    fn description(&self) -> String {
        self.mark.describe(&self.line)
    }

    fn holds(&self, description: &str) -> bool {
        Mark::find(description).is_some_and(|found| found.is_same_making(&self.mark))
    }

    fn other(&self, description: &str) -> String {
        match Mark::find(description) {
            Some(Mark { cluster, node: Some(node), .. }) => {
                format!(", node `{node}` of the cluster `{cluster}`, of another creation")
            }
            Some(Mark { cluster, node: None, .. }) => {
                format!(", a template of the cluster `{cluster}`")
            }
            None => " and has no k8sha mark".to_owned(),
        }
    }
}

impl Machine {
    fn lines(&self) -> String {
        let Self { role, address, user, seed, image, network } = self;
        let network = network.as_ref().map(|to| format!("network: {to}\n")).unwrap_or_default();
        format!(
            "role: {role}\naddress: {address}\nuser: {user}\nseed: {seed}\nimage: {image}\n{network}"
        )
    }

    /// `None` if a part is missing: an incomplete record is treated like none.
    fn read(value: impl Fn(&str) -> Option<String>) -> Option<Self> {
        Some(Self {
            role: Role::parse(&value("role")?)?,
            address: value("address")?.parse().ok()?,
            user: value("user")?,
            seed: value("seed")?,
            image: value("image")?,
            network: value("network"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> Mark {
        Mark {
            cluster: "k8s1-cluster".into(),
            node: Some(NodeName("k8s1master1".into())),
            spec: "0123456789ab".into(),
            creation: "2026-11-22T10:00:00Z".into(),
            machine: Some(Machine {
                role: Role::Master,
                address: Ipv4Addr::new(10, 101, 1, 101),
                user: "ubuntu".into(),
                seed: "00112233aabb".into(),
                image: "ubuntu-22.04 0123456789ab".into(),
                network: Some("vmbr0, VLAN 30".into()),
            }),
            read: None,
        }
    }

    #[test]
    fn a_mark_is_found_again_in_a_description() {
        let template = Mark { node: None, machine: None, ..mark() };
        let booted = Mark { read: Some("00112233aabb".into()), ..mark() };
        for mark in [mark(), template, booted] {
            let text = mark.describe("master of k8s1-cluster, 10.101.1.101");
            assert!(text.starts_with("master of k8s1-cluster, 10.101.1.101\n"));
            assert_eq!(Mark::find(&text), Some(mark.clone()));
            // Proxmox VE trims trailing blanks; a user may add lines, a browser carriage returns.
            let edited = format!("my note\r\n{}\r\nmore", text.replace('\n', "\r\n"));
            assert_eq!(Mark::find(&edited), Some(mark));
        }
    }

    #[test]
    fn a_mark_is_replaced_within_what_a_person_wrote() {
        let booted = Mark { read: Some("00112233aabb".into()), ..mark() };
        let text = format!("my note\r\n{}\r\nmore", mark().describe("line"));
        let replaced = booted.replace_in(&text);
        assert_eq!(Mark::find(&replaced), Some(booted));
        assert!(replaced.starts_with("my note\r\nline\n") && replaced.ends_with("\r\nmore"));
        assert_eq!(mark().replace_in(&replaced), text, "and back again");
    }

    #[test]
    fn half_a_mark_is_none() {
        let whole = mark().describe("x");
        for text in ["", "k8sha", &whole.replace("spec", "sp"), whole.trim_end_matches(CLOSE)] {
            assert_eq!(Mark::find(text), None, "{text}");
        }
    }

    #[test]
    fn a_claim_holds_for_its_own_making_and_says_whose_another_vm_is() {
        let claim = mark().claim("master");
        assert_eq!(claim.description(), mark().describe("master"));
        let changed = Mark { spec: "ffff".into(), ..mark() }.describe("edited");
        assert!(claim.holds(&changed) && !claim.holds("mail"));
        let rebuilt = Mark { creation: "later".into(), ..mark() }.describe("master");
        assert!(!claim.holds(&rebuilt));
        let template = Mark { node: None, machine: None, ..mark() }.describe("template");
        assert_eq!(
            [rebuilt.as_str(), &template, "mail"].map(|other| claim.other(other)),
            [
                ", node `k8s1master1` of the cluster `k8s1-cluster`, of another creation",
                ", a template of the cluster `k8s1-cluster`",
                " and has no k8sha mark",
            ]
        );
    }

    #[test]
    fn another_making_of_the_same_node_is_not_the_same() {
        let changed = Mark { spec: "ffff".into(), ..mark() };
        let rebuilt = Mark { creation: "later".into(), ..mark() };
        assert!(mark().is_same_making(&changed) && !mark().is_same_making(&rebuilt));
    }
}
