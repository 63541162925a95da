//! The DNS records to add or remove, in the formats of common name servers.

use std::net::Ipv4Addr;

use serde::Serialize;

use super::{Answer, Heard, Kind};

/// Records that correct wrong answers. All lines can be pasted as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Records {
    /// For a BIND zone file: A and PTR records with full names.
    pub bind: Vec<String>,
    /// For dnsmasq's configuration: `host-record` defines both directions.
    pub dnsmasq: Vec<String>,
    /// For a hosts file, such as the one that dnsmasq or Pi-hole serves.
    pub hosts: Vec<String>,
    /// Wrong records to remove, in BIND's format.
    pub remove: Vec<String>,
}

impl Records {
    /// Whether nothing has to be added or removed.
    pub fn is_empty(&self) -> bool {
        self.bind.is_empty() && self.remove.is_empty()
    }

    /// The records in all three formats, each under its heading; empty if there are none.
    pub fn text(&self) -> String {
        let forms = [
            ("remove (BIND)", &self.remove),
            ("BIND", &self.bind),
            ("dnsmasq", &self.dnsmasq),
            ("hosts", &self.hosts),
        ];
        let section = |(form, lines): &(&str, &Vec<String>)| {
            let lines: String = lines.iter().map(|line| format!("  {line}\n")).collect();
            format!("{form}:\n{lines}")
        };
        forms.iter().filter(|(_, lines)| !lines.is_empty()).map(section).collect()
    }

    /// Adds the records that fix one wrong answer.
    pub(super) fn fix(&mut self, domain: &str, heard: &Heard) {
        // No record fixes a server that does not answer, or a node's hosts file.
        let missing = match heard.answer {
            Answer::Refused | Answer::Silent | Answer::Failed(_) => return,
            _ if heard.server.is_none() => return,
            Answer::Addresses(_) | Answer::Names(_) => false,
            Answer::NxDomain | Answer::NoRecords => true,
        };
        let question = &heard.question;
        let name = match question.kind {
            Kind::ApiBySearch => format!("{}.{domain}", question.name),
            _ => question.name.clone(),
        };
        match &heard.answer {
            Answer::Addresses(given) => {
                for wrong in given.iter().filter(|given| **given != question.address) {
                    self.remove.push(format!("{name}. IN A {wrong}"));
                }
                if given.contains(&question.address) {
                    return;
                }
            }
            Answer::Names(given) => {
                for wrong in given {
                    self.remove.push(format!("{} IN PTR {wrong}.", reverse(question.address)));
                }
            }
            _ => debug_assert!(missing),
        }
        let short = name.strip_suffix(&format!(".{domain}")).unwrap_or(&name);
        if question.kind == Kind::Reverse {
            self.bind.push(format!("{} IN PTR {name}.", reverse(question.address)));
        } else {
            self.bind.push(format!("{name}. IN A {}", question.address));
        }
        self.dnsmasq.push(format!("host-record={name},{}", question.address));
        self.hosts.push(format!("{} {name} {short}", question.address));
    }

    /// Sorts the lines and removes duplicates.
    pub(super) fn settle(&mut self) {
        for lines in [&mut self.bind, &mut self.dnsmasq, &mut self.hosts, &mut self.remove] {
            lines.sort();
            lines.dedup();
        }
    }
}

/// The name of an address's PTR record (RFC 1035 §3.5).
fn reverse(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("{d}.{c}.{b}.{a}.in-addr.arpa.")
}
