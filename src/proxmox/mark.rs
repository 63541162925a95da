//! Our mark: what says, in a VM's own description, that it is ours and what it was made from.

use crate::cluster::NodeName;

const OPEN: &str = "<!-- k8sha";
const CLOSE: &str = "-->";

/// The tag of every VM of ours; the cluster's name is another.
pub const TAG: &str = "k8sha";

/// Says whose a VM or template is. It is written in the very call that makes the VM, so that no VM
/// of ours is ever without one, and lies in an HTML comment that the GUI's Markdown does not show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The cluster's name.
    pub cluster: String,
    /// The node of the table; `None` for a template.
    pub node: Option<NodeName>,
    /// The hash of what it was made from, to tell whether it still is as asked.
    pub spec: String,
    /// Which making of the cluster it belongs to, to tell a rebuilt VM from the one before.
    pub creation: String,
}

impl Mark {
    /// The description: a line for people, then the mark.
    pub fn describe(&self, line: &str) -> String {
        let node = self.node.as_ref().map(|node| format!("node: {node}\n")).unwrap_or_default();
        let Self { cluster, spec, creation, .. } = self;
        format!(
            "{line}\n\n{OPEN}\ncluster: {cluster}\n{node}spec: {spec}\ncreation: {creation}\n{CLOSE}"
        )
    }

    /// Finds the mark in a description; `None` where there is none or it is not whole.
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
        })
    }

    /// Whether both say the same VM of the same making, whatever was changed on it since.
    pub fn is_same_making(&self, other: &Self) -> bool {
        (&self.cluster, &self.node, &self.creation)
            == (&other.cluster, &other.node, &other.creation)
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
        }
    }

    #[test]
    fn a_mark_is_found_again_in_a_description() {
        let template = Mark { node: None, ..mark() };
        for mark in [mark(), template] {
            let text = mark.describe("master of k8s1-cluster, 10.101.1.101");
            assert!(text.starts_with("master of k8s1-cluster, 10.101.1.101\n"));
            assert_eq!(Mark::find(&text), Some(mark.clone()));
            // Proxmox VE cuts blanks at the end; a person may add lines, a browser carriage returns.
            let edited = format!("my note\r\n{}\r\nmore", text.replace('\n', "\r\n"));
            assert_eq!(Mark::find(&edited), Some(mark));
        }
    }

    #[test]
    fn half_a_mark_is_none() {
        let whole = mark().describe("x");
        for text in ["", "k8sha", &whole.replace("spec", "sp"), whole.trim_end_matches(CLOSE)] {
            assert_eq!(Mark::find(text), None, "{text}");
        }
    }

    #[test]
    fn another_making_of_the_same_node_is_not_the_same() {
        let changed = Mark { spec: "ffff".into(), ..mark() };
        let rebuilt = Mark { creation: "later".into(), ..mark() };
        assert!(mark().is_same_making(&changed) && !mark().is_same_making(&rebuilt));
    }
}
