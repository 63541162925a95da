//! Findings: problems with their severity and fix, and their display.

use std::fmt;

use serde::Serialize;

use crate::error::{Exit, Failure};
use crate::plan::prerequisites::Lack;
use crate::proxmox::Error;
use crate::text::{lines, one_line};

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A run would fail.
    Error,
    /// A run may fail, or its result will not be as it should.
    Warning,
    /// Something could not be checked, or is good to know.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        })
    }
}

/// One problem and its fix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Its severity.
    pub severity: Severity,
    /// The host, node, name server or file; several if they share the problem.
    pub on: String,
    /// What is wrong.
    pub what: String,
    /// How to fix it, as commands if possible.
    pub fix: Vec<String>,
}

impl Finding {
    /// A finding of this severity.
    pub fn new(
        severity: Severity,
        on: impl fmt::Display,
        what: impl Into<String>,
        fix: Vec<String>,
    ) -> Self {
        Self { severity, on: on.to_string(), what: what.into(), fix }
    }

    /// A prerequisite that a host lacks.
    pub(super) fn lack(on: impl fmt::Display, lack: Lack) -> Self {
        Self::new(Severity::Error, on, lack.what, lack.fix)
    }

    /// A failed Proxmox VE call.
    pub(super) fn fault(severity: Severity, on: impl fmt::Display, error: &Error) -> Self {
        let fix = error.hint().iter().flat_map(|hint| hint.lines()).map(str::to_owned).collect();
        Self::new(severity, on, error.to_string(), fix)
    }
}

impl From<&Failure> for Finding {
    fn from(failure: &Failure) -> Self {
        let on = failure.on.clone().unwrap_or_else(|| "this machine".to_owned());
        let what = format!("cannot {}: {}", failure.doing, failure.said.trim_end());
        let fix = failure.hint.iter().flat_map(|hint| hint.lines()).map(str::to_owned).collect();
        Self::new(Severity::Error, on, what, fix)
    }
}

/// All findings; empty if there is no problem.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// The findings, errors first.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// Sorts the findings, and merges those that several hosts share.
    pub fn new(mut findings: Vec<Finding>) -> Self {
        findings.sort();
        let mut merged: Vec<Finding> = Vec::new();
        for finding in findings {
            let same = merged.iter_mut().find(|known| {
                known.severity == finding.severity
                    && known.what == finding.what
                    && known.fix == finding.fix
            });
            match same {
                Some(known) if known.on.split(", ").any(|on| on == finding.on) => {}
                Some(known) => known.on = format!("{}, {}", known.on, finding.on),
                None => merged.push(finding),
            }
        }
        Self { findings: merged }
    }

    /// The command's exit code: any error makes it fail.
    pub fn exit(&self) -> Exit {
        let error = self.findings.iter().any(|finding| finding.severity == Severity::Error);
        if error { Exit::NotAsAsked } else { Exit::Ok }
    }

    /// The findings as human-readable text; empty if there are none.
    pub fn text(&self) -> String {
        let blocks: Vec<String> = self.findings.iter().map(block).collect();
        blocks.join("\n")
    }
}

fn block(finding: &Finding) -> String {
    let what = lines(&finding.what);
    let (first, others) = what.split_first().map_or(("", &[][..]), |(one, all)| (one, all));
    let mut text = format!("{}: {}: {first}\n", finding.severity, one_line(&finding.on));
    for line in others {
        text.push_str(&format!("    {line}\n"));
    }
    for (number, line) in finding.fix.iter().enumerate() {
        let line = one_line(line);
        text.push_str(&format!("  {} {line}\n", if number == 0 { "fix:" } else { "    " }));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(severity: Severity, on: &str, what: &str) -> Finding {
        Finding::new(severity, on, what, vec!["do this".to_owned(), "and that".to_owned()])
    }

    #[test]
    fn errors_come_first_and_what_hosts_share_is_said_once() {
        let diagnosis = Diagnosis::new(vec![
            finding(Severity::Note, "pve1", "good to know"),
            finding(Severity::Error, "pve2", "broken"),
            finding(Severity::Error, "pve1", "broken"),
            finding(Severity::Error, "pve1", "broken"),
        ]);
        assert_eq!(
            diagnosis.text(),
            "error: pve1, pve2: broken\n  fix: do this\n       and that\n\n\
             note: pve1: good to know\n  fix: do this\n       and that\n"
        );
        assert_eq!(diagnosis.exit(), Exit::NotAsAsked);
    }

    #[test]
    fn nothing_found_is_nothing_said() {
        let diagnosis = Diagnosis::new(Vec::new());
        assert_eq!((diagnosis.text(), diagnosis.exit()), (String::new(), Exit::Ok));
    }
}
