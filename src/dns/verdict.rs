//! Compares expected with actual answers. Pure.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::Serialize;

use super::{Answer, Kind, Question, Records, wildcard};
use crate::text::one_line;

/// One answer to one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The node that sent the question; `None` for this machine.
    pub from: Option<String>,
    /// The queried server; `None` for a node's own resolver with its hosts file.
    pub server: Option<Ipv4Addr>,
    /// The question.
    pub question: Question,
    /// The answer.
    pub answer: Answer,
}

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The cluster cannot be built with this answer.
    Error,
    /// The cluster can be built, but something is not as it should be.
    Warning,
}

/// A problem with an answer or a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its severity.
    pub severity: Severity,
    /// The node that received the answer; `None` for this machine.
    pub from: Option<String>,
    /// The server; `None` for a node's own resolver.
    pub server: Option<Ipv4Addr>,
    /// The queried name or address; empty if the server does not answer at all.
    pub name: String,
    /// The expected answer.
    pub wanted: String,
    /// The actual answer.
    pub got: String,
    /// The finding as a sentence.
    pub text: String,
}

/// A question and each server's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// How the name was queried.
    pub kind: Kind,
    /// The name, or the address of a reverse lookup.
    pub name: String,
    /// The expected answer.
    pub wanted: String,
    /// The answers, by server.
    pub answers: BTreeMap<Ipv4Addr, Cell>,
}

/// One server's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cell {
    /// The answer.
    pub got: String,
    /// Whether it is correct.
    pub right: bool,
}

/// The result of all questions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The number of questions, not counting those for made-up names.
    pub asked: usize,
    /// Every question with every server's answer, sorted by kind and name.
    pub names: Vec<Row>,
    /// The findings, errors first.
    pub findings: Vec<Finding>,
    /// The records that fix the findings.
    pub records: Records,
}

impl Report {
    /// The report as human-readable text.
    pub fn text(&self) -> String {
        let mut text = super::matrix::text(&self.names);
        for finding in &self.findings {
            let word = match finding.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            text.push_str(&format!("{word}: {}\n", finding.text));
        }
        let records = self.records.text();
        if !records.is_empty() {
            text.push_str(&format!("\nrecords that fix this:\n{records}"));
        }
        let wrong = self.findings.len();
        let end = if wrong == 0 {
            format!("{} answers, all correct\n", self.asked)
        } else {
            format!("\n{} answers, {wrong} findings\n", self.asked)
        };
        text + &end
    }

    /// Whether the cluster can be built with these answers.
    pub fn is_good(&self) -> bool {
        self.errors().next().is_none()
    }

    /// The findings that must be fixed.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Error)
    }

    /// The findings that need not be fixed.
    pub fn warnings(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Warning)
    }
}

/// Compares the answers with the expected ones.
pub fn judge(domain: &str, heard: Vec<Heard>) -> Report {
    let (made_up, heard): (Vec<Heard>, Vec<Heard>) =
        heard.into_iter().partition(|one| one.question.kind == Kind::Nowhere);
    let asked = heard.len();
    let silent = silent_servers(&heard);
    let mut findings: Vec<Finding> = silent
        .iter()
        .map(|((from, server), count)| silence(from.as_deref(), *server, *count))
        .collect();
    let mut records = Records::default();
    for one in &heard {
        if silent.contains_key(&(one.from.clone(), one.server)) {
            continue;
        }
        if let Some(finding) = compare(one) {
            records.fix(domain, one);
            findings.push(finding);
        }
    }
    for one in &made_up {
        findings.extend(wildcard::finding(domain, one));
        records.remove.extend(wildcard::records(domain, one));
    }
    let names = rows(&heard);
    findings.sort_by(|a, b| {
        let key = |f: &Finding| (f.severity, f.server, f.name.clone(), f.from.clone());
        key(a).cmp(&key(b))
    });
    records.settle();
    Report { asked, names, findings, records }
}

/// The answers of servers (not of a node's own resolver), by question.
fn rows(heard: &[Heard]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for one in heard {
        let Some(server) = one.server else { continue };
        let Question { kind, name, address } = &one.question;
        let (name, wanted) = match kind {
            Kind::Reverse => (address.to_string(), name.clone()),
            _ => (name.clone(), address.to_string()),
        };
        let cell = Cell { got: one.answer.to_string(), right: compare(one).is_none() };
        match rows.iter_mut().find(|row| row.kind == *kind && row.name == name) {
            Some(row) => drop(row.answers.insert(server, cell)),
            None => rows.push(Row {
                kind: *kind,
                name,
                wanted,
                answers: BTreeMap::from([(server, cell)]),
            }),
        }
    }
    rows.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    rows
}

type Source = (Option<String>, Option<Ipv4Addr>);

/// The servers that answered no question at all, each with the number of questions. One finding is
/// enough for each server.
fn silent_servers(heard: &[Heard]) -> BTreeMap<Source, usize> {
    let mut counts: BTreeMap<Source, (usize, usize)> = BTreeMap::new();
    for one in heard.iter().filter(|one| one.server.is_some()) {
        let (all, silent) = counts.entry((one.from.clone(), one.server)).or_default();
        *all += 1;
        *silent += usize::from(one.answer == Answer::Silent);
    }
    counts
        .into_iter()
        .filter(|(_, (all, silent))| all == silent)
        .map(|(source, (all, _))| (source, all))
        .collect()
}

fn silence(from: Option<&str>, server: Option<Ipv4Addr>, count: usize) -> Finding {
    let who = server.map_or_else(String::new, |server| server.to_string());
    Finding {
        severity: Severity::Error,
        from: from.map(str::to_owned),
        server,
        name: String::new(),
        wanted: "answers".into(),
        got: "silence".into(),
        text: format!(
            "the name server {who} answered none of {count} questions{}",
            from.map_or_else(String::new, |node| format!(" asked on `{node}`"))
        ),
    }
}

fn compare(heard: &Heard) -> Option<Finding> {
    let Question { kind, name, address } = &heard.question;
    let right = match (&heard.answer, kind) {
        (Answer::Names(names), Kind::Reverse) => {
            names.iter().any(|given| given.eq_ignore_ascii_case(name))
        }
        (Answer::Addresses(given), Kind::ApiBySearch | Kind::Api | Kind::Node) => {
            given.as_slice() == [*address]
        }
        _ => false,
    };
    if right {
        return None;
    }
    let (asked, wanted, severity) = match kind {
        Kind::Reverse => (address.to_string(), name.clone(), Severity::Warning),
        _ => (name.clone(), address.to_string(), Severity::Error),
    };
    let got = heard.answer.to_string();
    let by_search = if *kind == Kind::ApiBySearch { " by the search domain" } else { "" };
    let on = heard.from.as_ref().map_or_else(String::new, |node| format!(", asked on `{node}`"));
    let source = match (&heard.server, &heard.from) {
        (Some(server), _) => format!("{server} answers"),
        (None, Some(node)) => format!("the resolver of `{node}` answers"),
        (None, None) => "the resolver answers".to_owned(),
    };
    let on = if heard.server.is_some() { on } else { String::new() };
    let text = format!("{source} {got} for `{asked}`{by_search}{on}; it must be {wanted}");
    Some(Finding {
        severity,
        from: heard.from.clone(),
        server: heard.server,
        name: asked,
        wanted,
        got,
        text,
    })
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Answer::Addresses(all) => {
                let all: Vec<String> = all.iter().map(ToString::to_string).collect();
                f.write_str(&all.join(" and "))
            }
            Answer::Names(all) => f.write_str(&all.join(" and ")),
            Answer::NxDomain => f.write_str("that there is no such name"),
            Answer::NoRecords => f.write_str("that there is no such record"),
            Answer::Refused => f.write_str("that it refuses"),
            Answer::Silent => f.write_str("nothing"),
            Answer::Failed(text) => write!(f, "with a failure ({})", one_line(text)),
        }
    }
}
