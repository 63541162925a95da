//! The text form of a plan.

use std::fmt::{self, Write as _};

use super::compare::Difference;
use super::{Disposition, Plan, Step};
use crate::table::Table;
use crate::text::one_line;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "cluster {} on {}", self.cluster, one_line(&self.topology))?;
        writeln!(f)?;
        let mut table = Table::new();
        for vm in &self.vms {
            let (sign, word) = match &vm.disposition {
                Disposition::Created => ("+", "created"),
                Disposition::Kept => ("", "kept"),
                Disposition::Started => ("~", "started"),
                Disposition::Changed { .. } => ("~", "changed"),
                Disposition::Destroyed => ("-", "destroyed"),
                Disposition::Absent => ("", "absent"),
            };
            let mut becomes = word.to_owned();
            if let Disposition::Changed { changes } = &vm.disposition {
                for change in changes {
                    let from = if change.from.is_empty() { "(unset)" } else { &change.from };
                    let to = if change.to.is_empty() { "(unset)" } else { &change.to };
                    let (from, to) = (one_line(from), one_line(to));
                    write!(becomes, "\n{}: {from} -> {to}", change.key)?;
                }
            }
            let (name, role) = (vm.node.to_string(), vm.role.to_string());
            let place = [format!("VM {}", vm.vmid), vm.host.to_string()];
            table.add([sign.to_owned(), name, role].into_iter().chain(place).chain([becomes]));
        }
        f.write_str(&table.text())?;
        writeln!(f)?;
        for notice in &self.notices {
            writeln!(f, "note: {}", one_line(notice))?;
        }
        list(f, &self.differences)?;
        list(f, &self.unwell)?;
        if self.is_settled() {
            return match self.differences.len() + self.unwell.len() {
                0 => write!(f, "nothing to do: the cluster matches the profile"),
                1 => write!(f, "nothing to do, but 1 difference from the profile remains"),
                many => write!(f, "nothing to do, but {many} differences from the profile remain"),
            };
        }
        writeln!(f, "{} steps, {} of them read-only:", self.steps.len(), self.looks())?;
        let mut table = Table::new();
        for step in &self.steps {
            table.add([step.on.as_str(), &one_line(&step.action.to_string())]);
        }
        f.write_str(&table.text())?;
        for what in &self.look_again {
            writeln!(f, "then k8sha looks again and plans the rest: {}", one_line(what))?;
        }
        write!(f, "{}", self.summary())
    }
}

/// Writes the differences, followed by an empty line.
fn list(f: &mut fmt::Formatter<'_>, differences: &[Difference]) -> fmt::Result {
    for difference in differences {
        writeln!(f, "differs: {} ({})", one_line(&difference.to_string()), difference.class)?;
        writeln!(f, "         {}", one_line(&difference.next))?;
    }
    if differences.is_empty() { Ok(()) } else { writeln!(f) }
}

impl Plan {
    fn looks(&self) -> usize {
        self.steps.iter().filter(|step: &&Step| !step.writes()).count()
    }

    /// One line: how many VMs are created, changed, kept, destroyed.
    pub fn summary(&self) -> String {
        let count = |want: fn(&Disposition) -> bool| {
            self.vms.iter().filter(|vm| want(&vm.disposition)).count()
        };
        let mut parts = Vec::new();
        for (number, word) in [
            (count(|disposition| *disposition == Disposition::Created), "to create"),
            (count(|disposition| matches!(disposition, Disposition::Changed { .. })), "to change"),
            (count(|disposition| *disposition == Disposition::Started), "to start"),
            (count(|disposition| *disposition == Disposition::Destroyed), "to destroy"),
            (count(|disposition| *disposition == Disposition::Kept), "kept"),
        ] {
            if number > 0 {
                parts.push(format!("{number} {word}"));
            }
        }
        if parts.is_empty() { "no VMs".to_owned() } else { format!("VMs: {}", parts.join(", ")) }
    }
}
