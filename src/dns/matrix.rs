//! Names × servers, as a person reads it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::verdict::Row;
use super::{Answer, Kind};

/// A line per name, a column per server: `ok`, or what is answered instead.
pub(super) fn text(rows: &[Row]) -> String {
    let servers: BTreeSet<Ipv4Addr> =
        rows.iter().flat_map(|row| row.answers.keys().copied()).collect();
    let mut lines = vec![vec!["name".to_owned(), "must be".to_owned()]];
    lines[0].extend(servers.iter().map(ToString::to_string));
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
        lines.push(line);
    }
    let wide: Vec<usize> = (0..servers.len() + 2)
        .map(|column| lines.iter().map(|line| line[column].len()).max().unwrap_or_default())
        .collect();
    let print = |line: &Vec<String>| {
        let cells: Vec<String> =
            line.iter().zip(&wide).map(|(cell, wide)| format!("{cell:wide$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    if rows.is_empty() { String::new() } else { lines.iter().map(print).collect::<String>() + "\n" }
}

/// An answer in a word, where it is not an address.
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
