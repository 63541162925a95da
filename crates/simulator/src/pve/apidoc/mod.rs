//! Checks requests against Proxmox VE's own schema.
//!
//! The rules are those of pve-common src/PVE/JSONSchema.pm (`check_object`, `check_prop`,
//! `parse_property_string`) and src/PVE/RESTHandler.pm. The methods come from a file: the tree that
//! pve-docs publishes with its API viewer (`apidoc.js`), or a flat form of it that also has the named
//! formats, which Proxmox VE defines only in its code.

mod format;
mod pattern;
mod property;
mod request;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::Path;

use serde_json::{Map, Value};

use self::pattern::Patterns;
pub use self::request::Request;

/// Parameter → its error, in Proxmox's words.
pub type Errors = BTreeMap<String, String>;

/// Why a request would be refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The schema has no such path.
    NoPath,
    /// The path exists, but not this method.
    NoMethod,
    /// `400 Parameter verification failed.`
    Parameters(Errors),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoPath => f.write_str("there is no such path"),
            Refusal::NoMethod => f.write_str("the path has no such method"),
            Refusal::Parameters(errors) => {
                let line = |(name, text): (&String, &String)| format!("{name}: {}", text.trim());
                f.write_str(&errors.iter().map(line).collect::<Vec<_>>().join("; "))
            }
        }
    }
}

/// The prefix of an error that is this checker's, not the request's.
const UNREADABLE: &str = "this checker cannot read";

/// The schema: methods, formats, and the ranges of indexed keys.
#[derive(Debug)]
pub struct Schema {
    endpoints: Map<String, Value>,
    /// Named formats; empty for Proxmox's own file, which has none.
    formats: Map<String, Value>,
    indexed: Map<String, Value>,
    opaque: Vec<String>,
    privileges: Vec<String>,
    patterns: Patterns,
}

/// The values of a template's parameters in a path.
type InPath = Vec<(String, String)>;

fn words(value: &Value) -> Vec<String> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// Adds a tree's paths and their methods to a flat list.
fn flatten(tree: Value, into: &mut Map<String, Value>) {
    let Value::Array(nodes) = tree else { return };
    for mut node in nodes {
        if let (Some(path), info @ Value::Object(_)) =
            (node["path"].as_str().map(str::to_owned), node["info"].take())
        {
            into.insert(path, info);
        }
        flatten(node["children"].take(), into);
    }
}

impl Schema {
    /// A schema from its file's contents, in either form.
    pub fn new(mut file: Value) -> Self {
        let mut endpoints = Map::new();
        if file.is_array() {
            flatten(file.take(), &mut endpoints);
        } else {
            endpoints = object(file["endpoints"].take());
        }
        let mut meta = file.get_mut("_meta").map(Value::take).unwrap_or_default();
        Self {
            endpoints,
            formats: object(file.get_mut("formats").map(Value::take).unwrap_or_default()),
            opaque: words(&meta["opaque_formats"]),
            privileges: words(&meta["privileges"]),
            indexed: object(meta["indexed"].take()),
            patterns: Patterns::default(),
        }
    }

    /// Reads a schema file: JSON, or the script of the API viewer that contains the tree.
    ///
    /// # Errors
    /// If it cannot be read, or has no methods.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = std::fs::read_to_string(path)?;
        let start = text.find("apiSchema = ").map_or(0, |at| at + "apiSchema = ".len());
        // The rest of the script after the tree is the viewer itself.
        let mut values = serde_json::Deserializer::from_str(&text[start..]).into_iter();
        let file: Value = values.next().transpose()?.unwrap_or_default();
        let schema = if file.is_array() || file.is_object() { Some(Self::new(file)) } else { None };
        schema.filter(|schema| !schema.endpoints.is_empty()).ok_or_else(|| {
            let text = "it holds no API: neither the tree of `apidoc.js` nor `endpoints`";
            io::Error::new(io::ErrorKind::InvalidData, text)
        })
    }

    /// Checks a request as Proxmox does before it looks at its own state.
    ///
    /// # Errors
    /// Proxmox's error.
    pub fn check(&self, request: &Request) -> Result<(), Refusal> {
        let (methods, in_path) = self.find(&request.path).ok_or(Refusal::NoPath)?;
        let method = methods.get(&request.method).ok_or(Refusal::NoMethod)?;
        let schema = &method["parameters"];
        let none = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&none);
        let mut errors = Errors::new();
        let mut values = Map::new();
        for (name, value) in &request.parameters {
            if name == "_dc" {
                continue;
            }
            let value = property::normal(value.clone(), self.property(properties, name));
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
        self.check_object("", properties, &values, open, &mut errors);
        if errors.is_empty() { Ok(()) } else { Err(Refusal::Parameters(errors)) }
    }

    /// Checks the values of a call identified by its template, and converts them to the form that their
    /// rules expect.
    pub(super) fn check_call(
        &self,
        method: &str,
        template: &str,
        values: &mut Map<String, Value>,
    ) -> Errors {
        let mut errors = Errors::new();
        let schema = &self.endpoints.get(template).unwrap_or(&Value::Null)[method]["parameters"];
        let none = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&none);
        for (name, value) in values.iter_mut() {
            *value = property::normal(value.take(), self.property(properties, name));
        }
        self.check_object("", properties, values, false, &mut errors);
        errors
    }

    /// Whether there is a call with this template.
    #[cfg(test)]
    pub(super) fn knows(&self, method: &str, template: &str) -> bool {
        self.endpoints.get(template).is_some_and(|methods| methods.get(method).is_some())
    }

    /// The definition of a named format; null if there is none.
    pub(super) fn format(&self, name: &str) -> &Value {
        self.formats.get(name).unwrap_or(&Value::Null)
    }

    /// Whether the call with this template has a parameter of this name.
    pub(super) fn takes(&self, method: &str, template: &str, name: &str) -> bool {
        let methods = self.endpoints.get(template).unwrap_or(&Value::Null);
        let properties = methods[method]["parameters"]["properties"].as_object();
        properties.is_some_and(|all| self.property(all, name).is_some())
    }

    /// Every pattern, format and type that this checker cannot parse; found by applying every rule.
    pub fn unreadable(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut apply = |name: &str, rule: &Value, sample: &str| {
            let fault = self.fault(name, rule, &Value::from(sample));
            found.extend(fault.filter(|fault| fault.contains(UNREADABLE)));
        };
        let methods = self.endpoints.values().filter_map(Value::as_object).flat_map(Map::values);
        for method in methods {
            let rules = method["parameters"]["properties"].as_object();
            for (name, rule) in rules.into_iter().flatten() {
                let name = name.replace("[n]", "0");
                for sample in ["1", "a", "dhcp"] {
                    apply(&name, rule, sample);
                }
                let keys = rule["format"].as_object().into_iter().flat_map(Map::values);
                keys.filter(|key| key.get("alias").is_none())
                    .for_each(|key| apply(&name, key, "1"));
            }
        }
        found
    }

    /// The methods of a path, and the values in the path itself.
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
    pub(super) fn property<'a>(
        &self,
        properties: &'a Map<String, Value>,
        name: &str,
    ) -> Option<&'a Value> {
        if let Some(rule) = properties.get(name) {
            return Some(rule);
        }
        let stem = name.trim_end_matches(|digit: char| digit.is_ascii_digit());
        let number: u64 = name[stem.len()..].parse().ok()?;
        let family = format!("{stem}[n]");
        let rule = properties.get(&family)?;
        // Proxmox's own file does not give the range of an indexed family.
        let (first, last) = match self.indexed.get(&family) {
            Some(range) => (range[0].as_u64()?, range[1].as_u64()?),
            None => (0, u64::MAX),
        };
        let written_so = name[stem.len()..] == number.to_string();
        ((first..=last).contains(&number) && written_so).then_some(rule)
    }
}

/// The values of a template's parameters if a path matches it. `{volume}` and `{cidr}` match the rest
/// of the path, including slashes.
fn fit(wanted: &[&str], given: &[&str]) -> Option<InPath> {
    let long = wanted.last().is_some_and(|last| ["{volume}", "{cidr}"].contains(last));
    let rest = long && given.len() > wanted.len();
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
