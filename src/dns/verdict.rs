//! Compares expected with actual answers. Pure.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::Serialize;

use super::{Answer, Kind, Question, Records, wildcard};
use crate::text::one_line;

/// One answer to one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The node on which it was asked; `None` for this machine.
    pub from: Option<String>,
    /// The server that was asked; `None` for a node's own resolver with its hosts file.
    pub server: Option<Ipv4Addr>,
    /// The question.
    pub question: Question,
    /// The answer.
    pub answer: Answer,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The cluster cannot be built like this.
    Error,
    /// It can, but something is not as it should be.
    Warning,
}

/// One thing that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The node that sees it so; `None` for this machine.
    pub from: Option<String>,
    /// The server; `None` for a node's own resolver.
    pub server: Option<Ipv4Addr>,
    /// The name or the address that was asked for; empty where a server says nothing at all.
    pub name: String,
    /// What the answer must be.
    pub wanted: String,
    /// What it is.
    pub got: String,
    /// The whole as a sentence.
    pub text: String,
}

/// One question and what each server says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// How it was asked.
    pub kind: Kind,
    /// The name, or the address of a reverse question.
    pub name: String,
    /// What the answer must be.
    pub wanted: String,
    /// The answers, by server.
    pub answers: BTreeMap<Ipv4Addr, Cell>,
}

/// One server's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cell {
    /// The answer.
    pub got: String,
    /// Whether it is right.
    pub right: bool,
}

/// Everything that was found out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How many questions were answered, rightly or not; a made-up name does not count.
    pub asked: usize,
    /// Every question with every server's answer, in the order in which they must hold.
    pub names: Vec<Row>,
    /// What is not as it must be; errors first.
    pub findings: Vec<Finding>,
    /// The records that would make it right.
    pub records: Records,
}

impl Report {
    /// The report as a person reads it.
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

    /// The findings that may stay.
    pub fn warnings(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Warning)
    }
}

/// Compares answers with what they must be.
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

/// The servers that answered nothing at all, and how many questions that were. One sentence is
/// enough for each.
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
