//! Turns wrong DNS answers into findings.

use super::finding::{Finding, Severity};
use crate::dns::{self, Report};

/// The findings of the DNS report, each with its fix: the records, if records fix it.
pub(super) fn findings(asked: Result<Report, dns::Error>) -> Vec<Finding> {
    let report = match asked {
        Ok(report) => report,
        Err(error) => {
            return vec![Finding::new(Severity::Error, "DNS", error.to_string(), Vec::new())];
        }
    };
    let records = report.records.text();
    report
        .findings
        .into_iter()
        .map(|finding| {
            let severity = match finding.severity {
                dns::Severity::Error => Severity::Error,
                dns::Severity::Warning => Severity::Warning,
            };
            let server = finding.server.map_or_else(|| "DNS".to_owned(), |ip| ip.to_string());
            let fix = if finding.name.starts_with("*.") {
                let record = format!("{}. ", finding.name);
                let mut lines: Vec<String> = records
                    .lines()
                    .filter(|line| line.trim().starts_with(&record))
                    .map(|line| format!("remove `{}`", line.trim()))
                    .collect();
                lines.push("or use a separate subdomain for the hosts".to_owned());
                lines
            } else if finding.name.is_empty() {
                vec![format!(
                    "dig @{server} .     (is it running, and does a firewall block port 53?)"
                )]
            } else {
                let about = |line: &&str| {
                    line.split_whitespace().any(|word| {
                        word.trim_end_matches('.') == finding.wanted.trim_end_matches('.')
                    })
                };
                let mut lines: Vec<String> =
                    records.lines().filter(about).map(|line| line.trim().to_owned()).collect();
                lines.truncate(1);
                lines.push(
                    "k8sha dns     (all records, in BIND's, dnsmasq's and hosts' form)".to_owned(),
                );
                lines
            };
            Finding::new(severity, server, finding.text, fix)
        })
        .collect()
}
