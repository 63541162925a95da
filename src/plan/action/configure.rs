//! Sets a VM's configuration: the wanted settings that differ from the existing ones.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::Act;
use crate::cluster::{HostName, NodeName, VmId};
use crate::mark::{Machine, Mark};
use crate::plan::spec::{self, NodeSpec};
use crate::plan::template::Settings;
use crate::plan::{Change, first_start};

/// Set a VM's configuration.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Configure {
    /// The node.
    pub node: NodeName,
    /// The host.
    pub host: HostName,
    /// The VMID.
    pub vmid: VmId,
    /// The settings that differ; no others are set. Empty if the VM does not exist yet: then every
    /// setting in which the clone differs is set.
    pub changes: Vec<Change>,
    /// What happens to the seed drive.
    pub seed: SeedDrive,
    /// The wanted state of the VM.
    #[serde(serialize_with = "settings")]
    pub wanted: Arc<NodeSpec>,
}

/// What happens to a VM's seed drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeedDrive {
    /// It gets the current seed, which the machine reads when it boots.
    New,
    /// It exists, without a medium.
    Emptied,
    /// It is kept as it is.
    Stays,
}

impl fmt::Display for Configure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.changes.is_empty() {
            return f.write_str("configure CPU, memory, network, seed, tags");
        }
        let keys: Vec<&str> = self.changes.iter().map(|change| change.key.as_str()).collect();
        write!(f, "configure {}", keys.join(", "))
    }
}

impl Act for Configure {}

impl Configure {
    /// The planned values that differ from the existing ones; a setting with an empty new value is
    /// deleted. The description is compared by its mark; [`Configure::mark`] returns the mark to
    /// write.
    pub fn due(&self, found: &Settings, mark: Option<&Mark>, running: bool) -> Vec<Change> {
        let mut changes = spec::changes(&self.wanted, found);
        if !running {
            first_start::add(&mut changes, &self.wanted, found);
        }
        let planned = |key: &str| self.changes.iter().any(|change| change.key == key);
        if !self.changes.is_empty() {
            changes.retain(|change| planned(&change.key));
        } else if mark.is_some_and(|mark| mark.read.is_some()) {
            // Another run has created the machine in the meantime, and it has booted.
            changes.retain(|change| change.key != spec::SEED_DRIVE);
        }
        match self.seed {
            SeedDrive::New => {}
            SeedDrive::Stays => changes.retain(|change| change.key != spec::SEED_DRIVE),
            SeedDrive::Emptied => {
                for change in changes.iter_mut().filter(|change| change.key == spec::SEED_DRIVE) {
                    spec::EJECTED.clone_into(&mut change.to);
                }
            }
        }
        changes
    }

    /// The mark of a VM once `due` is set. What the machine was created from is kept, unless it
    /// gets another seed to read; the source of its disk never changes.
    pub fn mark(&self, found: Option<&Mark>, due: &[Change]) -> Mark {
        let wanted = &self.wanted.mark;
        let Some(found) = found else { return wanted.clone() };
        let seeded =
            self.seed == SeedDrive::New && due.iter().any(|change| change.key == spec::SEED_DRIVE);
        let (machine, read) = match (seeded, &wanted.machine, &found.machine) {
            (false, Some(machine), Some(made)) => {
                let network = machine.network.clone();
                (Some(Machine { network, ..made.clone() }), found.read.clone())
            }
            (false, ..) => (found.machine.clone(), found.read.clone()),
            (true, Some(machine), Some(made)) => {
                (Some(Machine { image: made.image.clone(), ..machine.clone() }), None)
            }
            (true, machine, _) => (machine.clone(), None),
        };
        Mark { machine, read, ..wanted.clone() }
    }
}

/// In JSON a plan contains the settings; the rest of a VM's wanted state follows from them and from
/// the profile.
fn settings<S: Serializer>(wanted: &Arc<NodeSpec>, to: S) -> Result<S::Ok, S::Error> {
    wanted.settings.serialize(to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Role;

    const SEED: &str = "local:iso/k8sha-seed-1a2b-k8s1master1-bbbbbbbbbbbb.iso,media=cdrom";

    fn mark(spec: &str, seed: &str, image: &str, read: Option<&str>) -> Mark {
        Mark {
            cluster: "k8s1-cluster".to_owned(),
            node: Some(NodeName("k8s1master1".to_owned())),
            spec: spec.to_owned(),
            creation: "1a2b".to_owned(),
            machine: Some(Machine {
                role: Role::Master,
                address: [10, 101, 1, 101].into(),
                user: "ubuntu".to_owned(),
                seed: seed.to_owned(),
                image: image.to_owned(),
                network: Some("vmbr0".to_owned()),
            }),
            read: read.map(str::to_owned),
        }
    }

    fn change(key: &str, to: &str) -> Change {
        Change { key: key.to_owned(), from: String::new(), to: to.to_owned() }
    }

    fn settings_of(pairs: &[(&str, &str)]) -> Settings {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn action(changes: Vec<Change>, seed: SeedDrive) -> Configure {
        let mark = mark("new", "bb", "ubuntu-22.04 2", None);
        Configure {
            node: NodeName("k8s1master1".to_owned()),
            host: HostName("pve1".to_owned()),
            vmid: VmId(1101),
            changes,
            seed,
            wanted: Arc::new(NodeSpec {
                seed_file: "k8sha-seed-1a2b-k8s1master1-bbbbbbbbbbbb.iso".to_owned(),
                settings: settings_of(&[
                    ("memory", "4096"),
                    ("cores", "2"),
                    (spec::SEED_DRIVE, SEED),
                ]),
                mac: None,
                description: mark.describe(""),
                line: String::new(),
                kept: Settings::new(),
                mark,
            }),
        }
    }

    fn keys(changes: &[Change]) -> Vec<(&str, &str)> {
        changes.iter().map(|change| (change.key.as_str(), change.to.as_str())).collect()
    }

    #[test]
    fn a_change_of_memory_does_not_rewrite_what_a_booted_machine_was_made_from() {
        let seeded = [change(spec::SEED_DRIVE, SEED)];
        let (stays, new) = (action(vec![], SeedDrive::Stays), action(vec![], SeedDrive::New));
        let wanted = &new.wanted.mark;
        let found = mark("old", "aa", "ubuntu-22.04 1", Some("aa"));
        let kept = mark("new", "aa", "ubuntu-22.04 1", Some("aa"));
        assert_eq!(stays.mark(Some(&found), &[]), kept);
        assert_eq!(new.mark(Some(&found), &[]), kept, "its seed is in the drive already");
        // A mark of a former release does not have it, and nothing is made up.
        let former = Mark { machine: None, read: None, ..found.clone() };
        assert_eq!(stays.mark(Some(&former), &[]), Mark { machine: None, ..wanted.clone() });
        // A machine that repeats its first boot reads the new seed, on its existing disk.
        let again = mark("new", "bb", "ubuntu-22.04 1", None);
        assert_eq!(new.mark(Some(&found), &seeded), again);
        assert_eq!(new.mark(None, &seeded), *wanted);
    }

    #[test]
    fn of_a_vm_that_was_there_only_what_was_planned_is_set() {
        let found = settings_of(&[("memory", "2048"), ("cores", "1"), (spec::SEED_DRIVE, "none")]);
        let memory = || change("memory", "4096");
        let only = action(vec![memory()], SeedDrive::Stays);
        assert_eq!(keys(&only.due(&found, None, true)), [("memory", "4096")]);
        // What another run has set in the meantime is not set again.
        let set = settings_of(&[("memory", "4096"), ("cores", "1")]);
        assert_eq!(keys(&only.due(&set, None, true)), []);
        let drive = vec![memory(), change(spec::SEED_DRIVE, spec::EJECTED)];
        let emptied = action(drive, SeedDrive::Emptied).due(&settings_of(&[]), None, true);
        assert!(keys(&emptied).contains(&(spec::SEED_DRIVE, spec::EJECTED)), "{emptied:?}");
    }

    #[test]
    fn a_new_vm_gets_everything_but_a_seed_that_another_run_saw_it_read() {
        let new = action(Vec::new(), SeedDrive::New);
        let found = settings_of(&[("memory", "4096")]);
        let due = |mark: Option<&Mark>| {
            let due = new.due(&found, mark, true);
            let keys: Vec<String> = due.into_iter().map(|change| change.key).collect();
            (keys.contains(&"cores".to_owned()), keys.contains(&spec::SEED_DRIVE.to_owned()))
        };
        assert_eq!(due(None), (true, true));
        assert_eq!(due(Some(&mark("new", "bb", "x", Some("bb")))), (true, false));
    }
}
