//! The flags of the command that a report suggests next.

use std::path::Path;

use super::args::{Common, UpArgs};
use super::chosen;
use crate::plan::teardown::Extent;
use crate::ssh::quote;

/// The flags that another command needs to act on the same cluster. Output format, simulation speed
/// and injected faults are not among them.
pub(super) fn same(common: &Common) -> String {
    flags(common, "")
}

/// The same, with a placeholder for the folder that keeps a simulated environment.
pub(super) fn lasting(common: &Common) -> String {
    flags(common, " DIR")
}

/// The program that runs, as the command begins.
pub(super) fn program(common: &Common) -> &'static str {
    #[cfg(feature = "simulate")]
    return common.world.program();
    #[cfg(not(feature = "simulate"))]
    {
        let _ = common;
        "k8sha"
    }
}

/// A flag with a path, to be pasted into a shell.
pub(super) fn path(flag: &str, path: &Path) -> String {
    format!("{flag} {}", quote(&path.to_string_lossy()))
}

fn flags(common: &Common, folder: &str) -> String {
    let mut flags = chosen::flag(common);
    #[cfg(feature = "simulate")]
    flags.push_str(&common.world.flags(folder));
    #[cfg(not(feature = "simulate"))]
    let _ = folder;
    let access = &common.access;
    if let Some(jump) = &access.jump {
        flags.push_str(&format!(" --jump {}", quote(&jump.to_string())));
    }
    if let Some(key) = &access.jump_host_key {
        flags.push_str(&format!(" --jump-host-key {}", quote(key)));
    }
    if let Some(file) = &access.identity {
        flags.push_str(&path(" --identity", file));
    }
    if let Some(state) = &common.state {
        flags.push_str(&path(" --state", state));
    }
    if let Some(templates) = &common.templates {
        flags.push_str(&path(" --templates", templates));
    }
    flags
}

/// The flags of a bootstrap, except `--wipe-etcd`: permission to delete another cluster's data must be
/// given each time.
pub(super) fn of_up(up: &UpArgs) -> String {
    let named = [("kubeconfig", &up.kubeconfig), ("merge-kubeconfig", &up.merge_kubeconfig)];
    named
        .iter()
        .filter_map(|(flag, file)| Some(path(&format!(" --{flag}"), file.as_ref()?)))
        .collect()
}

/// The flag of an `up` that removes machines without a row.
pub(super) fn of_prune(prune: Option<&[String]>) -> String {
    match prune {
        None => String::new(),
        Some([]) => " --prune".to_owned(),
        Some(names) => format!(" --prune={}", quote(&names.join(","))),
    }
}

/// The flags of a `provision` of some hosts.
pub(super) fn of_hosts(pve: &[String]) -> String {
    if pve.is_empty() { String::new() } else { format!(" --pve {}", pve.join(",")) }
}

/// The flags of a `destroy`. Without them, the next run would remove what this one kept.
pub(super) fn of_destroy(extent: Extent) -> String {
    let mut flags = String::new();
    if extent.keep_templates {
        flags.push_str(" --keep-templates");
    }
    if extent.keep_etcd {
        flags.push_str(" --keep-etcd");
    }
    flags
}

#[cfg(test)]
#[cfg(feature = "simulate")]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::args::{Cli, Command};

    fn typed(line: &str) -> Cli {
        Cli::try_parse_from(line.split(' ')).unwrap()
    }

    #[test]
    fn what_leads_to_the_same_cluster_is_named_again_and_nothing_else() {
        for (line, wanted) in [
            ("k8sha up", ""),
            ("k8sha up --simulate", " --simulate"),
            ("k8sha up --simulate w --speed 9 --quiet --inject disk-full@pve1", " --simulate w"),
            (
                "k8sha up -p mine.yaml --state s --templates t --jump me@door:7 --identity key",
                " --profile mine.yaml --jump me@door:7 --identity key --state s --templates t",
            ),
            ("k8sha up --endpoints sim.json --json", " --endpoints sim.json"),
            ("k8sha up -p it's$HOME --state ;x", r" --profile 'it'\''s$HOME' --state ';x'"),
        ] {
            assert_eq!(same(&typed(line).common), wanted, "{line}");
        }
    }

    #[test]
    fn a_passing_world_is_named_as_one_that_lasts() {
        let line = "k8sha up -p homelab --topology standalone --simulate";
        let wanted = " --profile homelab --simulate DIR --topology standalone";
        assert_eq!(lasting(&typed(line).common), wanted);
    }

    #[test]
    fn a_commands_own_flags_are_named_without_its_consents() {
        let line = "k8sha rebuild --yes --wipe-etcd --merge-kubeconfig mine";
        let Command::Rebuild { up, .. } = typed(line).command else { panic!("{line}") };
        assert_eq!(of_up(&up), " --merge-kubeconfig mine");
        let extent = Extent { keep_templates: false, keep_etcd: true, again: false };
        assert_eq!(of_destroy(extent), " --keep-etcd");
        assert_eq!(of_hosts(&["pve1".into(), "pve2".into()]), " --pve pve1,pve2");
    }
}
