//! `k8sha profile`: prints a built-in profile, or lists them.

use serde::Serialize;

use super::args::Common;
use crate::error::{Exit, Failure};
use crate::profile::{EMBEDDED, about, embedded};
use crate::table::Table;

/// A profile in the list.
#[derive(Serialize)]
struct Entry {
    name: &'static str,
    about: String,
}

/// A profile with its text.
#[derive(Serialize)]
struct Whole {
    name: String,
    text: &'static str,
}

pub(super) fn run(common: &Common, name: Option<&str>) -> Result<Exit, Failure> {
    let Some(name) = name else { return list(common) };
    let text = embedded(name).ok_or_else(|| {
        let names: Vec<&str> = EMBEDDED.iter().map(|(name, _)| *name).collect();
        let said = format!("there is no such profile; the built-in ones are {}", names.join(", "));
        Failure::new(Exit::Usage, format!("print the profile `{name}`"), said)
    })?;
    if common.json {
        super::print_json(&Whole { name: name.to_owned(), text })?;
    } else {
        super::print_document(text)?;
    }
    Ok(Exit::Ok)
}

fn list(common: &Common) -> Result<Exit, Failure> {
    let entries = EMBEDDED.iter().map(|(name, text)| Entry { name, about: about(name, text) });
    let entries: Vec<Entry> = entries.collect();
    if common.json {
        super::print_json(&entries)?;
    } else {
        let mut table = Table::new();
        for entry in &entries {
            table.add([entry.name, entry.about.as_str()]);
        }
        super::print(&table.text())?;
    }
    Ok(Exit::Ok)
}
