//! Proxmox VE's own schema as a judge of requests.
//!
//! The rules are those of pve-common src/PVE/JSONSchema.pm (`check_object`, `check_prop`,
//! `parse_property_string`) and src/PVE/RESTHandler.pm; the methods and formats come from a file
//! generated from pve-docs api-viewer/apidata.js.

mod format;
mod pattern;
mod property;
pub mod request;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use self::pattern::Patterns;
use self::request::Request;

/// Parameter → what is wrong with it, in Proxmox's words.
pub type Errors = BTreeMap<String, String>;

/// Why a request would be refused.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The schema knows no such path.
    NoPath,
    /// The path is there, but not this method.
    NoMethod,
    /// `400 Parameter verification failed.`
    Parameters(Errors),
}

/// The schema: methods, formats, and the ranges of indexed keys.
pub struct Schema {
    endpoints: Map<String, Value>,
    formats: Map<String, Value>,
    indexed: Map<String, Value>,
    opaque: Vec<String>,
    privileges: Vec<String>,
    patterns: Patterns,
}

/// The values that a path gives for its template's parameters.
type InPath = Vec<(String, String)>;

fn words(value: &Value) -> Vec<String> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

impl Schema {
    /// A schema from its file's contents.
    pub fn new(file: &Value) -> Self {
        let meta = &file["_meta"];
        Self {
            endpoints: object(&file["endpoints"]),
            formats: object(&file["formats"]),
            indexed: object(&meta["indexed"]),
            opaque: words(&meta["opaque_formats"]),
            privileges: words(&meta["privileges"]),
            patterns: Patterns::default(),
        }
    }

    /// Judges a request as Proxmox does before it looks at its own state.
    ///
    /// # Errors
    /// What Proxmox would say.
    pub fn check(&self, request: &Request) -> Result<(), Refusal> {
        let (methods, in_path) = self.find(&request.path).ok_or(Refusal::NoPath)?;
        let method = methods.get(&request.method).ok_or(Refusal::NoMethod)?;
        let schema = &method["parameters"];
        let properties = object(&schema["properties"]);
        let mut errors = Errors::new();
        let mut values = Map::new();
        for (name, value) in &request.parameters {
            if name == "_dc" {
                continue;
            }
            let value = property::normal(value.clone(), self.property(&properties, name));
            values.insert(name.clone(), value);
        }
        for (name, value) in in_path {
            let value = Value::from(value);
            if values.insert(name.clone(), value.clone()).is_some_and(|other| other != value) {
                let text = "duplicate parameter (already defined in URI) with conflicting values!";
                errors.insert(name, text.to_owned());
            }
        }
        let open = schema["additionalProperties"] != 0;
        self.check_object("", &properties, &values, open, &mut errors);
        if errors.is_empty() { Ok(()) } else { Err(Refusal::Parameters(errors)) }
    }

    /// Applies every rule to a value, so that a pattern or a format that this checker cannot read
    /// is found here and not by the first request that needs it.
    ///
    /// # Panics
    /// When there is one.
    pub fn try_every_rule(&self) {
        for method in self.endpoints.values().flat_map(|path| object(path).into_values()) {
            for (name, rule) in object(&method["parameters"]["properties"]) {
                let name = name.replace("[n]", "0");
                for sample in ["1", "a", "dhcp"] {
                    self.fault(&name, &rule, &Value::from(sample));
                }
                let keys = object(&rule["format"]);
                let keys = keys.values().filter(|key| key.get("alias").is_none());
                keys.for_each(|key| drop(self.fault(&name, key, &Value::from("1"))));
            }
        }
    }

    /// The methods of a path, and the values that the path itself gives.
    fn find(&self, path: &str) -> Option<(&Map<String, Value>, InPath)> {
        let given: Vec<&str> = path.trim_matches('/').split('/').collect();
        let mut best: Option<(usize, &Value, InPath)> = None;
        for (template, methods) in &self.endpoints {
            let wanted: Vec<&str> = template.trim_matches('/').split('/').collect();
            let Some(values) = fit(&wanted, &given) else { continue };
            if best.as_ref().is_none_or(|(count, ..)| values.len() < *count) {
                best = Some((values.len(), methods, values));
            }
        }
        let (_, methods, values) = best?;
        Some((methods.as_object()?, values))
    }

    /// The rule for a name: itself, or `net[n]` for `net0` within its range.
    fn property<'a>(&self, properties: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
        if let Some(rule) = properties.get(name) {
            return Some(rule);
        }
        let stem = name.trim_end_matches(|digit: char| digit.is_ascii_digit());
        let number: u64 = name[stem.len()..].parse().ok()?;
        let family = format!("{stem}[n]");
        let rule = properties.get(&family)?;
        let range = self.indexed.get(&family).unwrap_or_else(|| panic!("no range for `{family}`"));
        let written_so = name[stem.len()..] == number.to_string();
        let inside = (range[0].as_u64()?..=range[1].as_u64()?).contains(&number);
        (inside && written_so).then_some(rule)
    }
}

/// The values of a template's parameters when a path fits it. `{volume}` takes the rest of the
/// path, slashes and all.
fn fit(wanted: &[&str], given: &[&str]) -> Option<InPath> {
    let rest = wanted.last() == Some(&"{volume}") && given.len() > wanted.len();
    if wanted.len() != given.len() && !rest {
        return None;
    }
    let mut values = Vec::new();
    for (place, want) in wanted.iter().enumerate() {
        let parameter = want.strip_prefix('{').and_then(|want| want.strip_suffix('}'));
        match parameter {
            Some(name) if rest && place + 1 == wanted.len() => {
                values.push((name.to_owned(), request::decoded(&given[place..].join("/"))));
            }
            Some(name) => values.push((name.to_owned(), request::decoded(given[place]))),
            None if *want == given[place] => {}
            None => return None,
        }
    }
    Some(values)
}
