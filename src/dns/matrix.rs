//! Formats the answers as a table: a row per name, a column per server.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::verdict::Row;
use super::{Answer, Kind};
use crate::table::Table;

/// One row per name, one column per server: `ok`, or the wrong answer.
pub(super) fn text(rows: &[Row]) -> String {
    let servers: BTreeSet<Ipv4Addr> =
        rows.iter().flat_map(|row| row.answers.keys().copied()).collect();
    if rows.is_empty() {
        return String::new();
    }
    let columns = ["name".to_owned(), "must be".to_owned()].into_iter();
    let mut table = Table::with_header(columns.chain(servers.iter().map(ToString::to_string)));
    for row in rows {
        let name = match row.kind {
            Kind::ApiBySearch => format!("{} (search)", row.name),
            _ => row.name.clone(),
        };
        let mut line = vec![name, row.wanted.clone()];
        line.extend(servers.iter().map(|server| match row.answers.get(server) {
            None => "-".to_owned(),
            Some(cell) if cell.right => "ok".to_owned(),
            Some(cell) => short(&cell.got),
        }));
        table.add(line);
    }
    table.text() + "\n"
}

/// The short form of an answer that is not an address.
fn short(got: &str) -> String {
    let word = [
        (Answer::NxDomain, "no such name"),
        (Answer::NoRecords, "no record"),
        (Answer::Refused, "refused"),
        (Answer::Silent, "silent"),
    ];
    let found = word.iter().find(|(answer, _)| answer.to_string() == got);
    found.map_or_else(|| got.to_owned(), |(_, word)| (*word).to_owned())
}
