//! The parameters of the served calls: the files of `rules/`, in their own notation, and the checker of
//! [`apidoc`](super::apidoc).
//!
//! ```text
//! GET /path/{parameter}       a call; the lines below it are its parameters
//! group NAME                  parameters that several calls share: `use NAME`
//! keys NAME                   a format: a property string with these keys
//! format NAME …               another format: a `/pattern/`, `one-of=`, `words`, `anything`
//!   says TEXT                 what is said of a text that has it not, `$` being the text
//! ```
//! A parameter is a name (`?`: optional; `net[31]`: `net0` to `net31`), its type unless it is a text,
//! its `<format>`, its limits, and a `/pattern/` last.

use std::sync::OnceLock;

use serde_json::{Map, Value, json};

use super::apidoc::Schema;
use super::wire::{Failure, Given, Params};

/// The files.
const FILES: [&str; 11] = [
    include_str!("rules/access.rules"),
    include_str!("rules/agent.rules"),
    include_str!("rules/cluster.rules"),
    include_str!("rules/firewall.rules"),
    include_str!("rules/formats.rules"),
    include_str!("rules/nodes.rules"),
    include_str!("rules/options.rules"),
    include_str!("rules/pools.rules"),
    include_str!("rules/properties.rules"),
    include_str!("rules/storage.rules"),
    include_str!("rules/vms.rules"),
];

/// The group of a VM's options.
const OPTIONS: &str = "vm-options";

/// The rules.
#[derive(Debug)]
struct Rules {
    schema: Schema,
    /// A VM's options, with `[n]` for a number.
    options: Map<String, Value>,
}

fn rules() -> &'static Rules {
    static RULES: OnceLock<Rules> = OnceLock::new();
    RULES.get_or_init(|| {
        let mut read = Read::default();
        FILES.iter().for_each(|file| read.file(file));
        read.rules()
    })
}

/// Checks the parameters of a call; arrays for lists become text.
///
/// # Errors
/// All errors at once, by parameter.
pub fn check(method: &str, path: &str, params: &mut Params) -> Result<(), Failure> {
    // The parameter that a browser adds to bypass its cache.
    params.0.remove("_dc");
    let mut values: Map<String, Value> = params
        .0
        .iter()
        .map(|(name, given)| match given {
            Given::One(text) => (name.clone(), json!(text)),
            Given::Many(all) => (name.clone(), json!(all)),
        })
        .collect();
    let errors = rules().schema.check_call(method, path, &mut values);
    for (name, value) in values {
        if let (Some(given @ Given::Many(_)), Value::String(text)) =
            (params.0.get_mut(&name), value)
        {
            *given = Given::One(text);
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    // Perl prints the address of its array.
    let shown = |text: String| text.replace("got 'ARRAY'", "got 'ARRAY(0x5581e6a3d2f8)'");
    Err(Failure::Parameters(errors.into_iter().map(|(name, text)| (name, shown(text))).collect()))
}

/// Whether there are rules for a call.
#[cfg(test)]
pub fn knows(method: &str, path: &str) -> bool {
    rules().schema.knows(method, path)
}

/// Whether a call has a parameter of this name.
pub fn takes(method: &str, path: &str, name: &str) -> bool {
    rules().schema.takes(method, path, name)
}

/// The parts of a property string of a named format, its flags as numbers.
pub fn parts(format: &str, text: &str) -> Value {
    let keys = &rules().schema.format(format)["property_string"];
    let main = keys.as_object().into_iter().flatten().find(|(_, rule)| rule["default_key"] == 1);
    let mut parts = json!({});
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let unnamed = || (main.map_or("", |(name, _)| name), part);
        let (name, value) = part.split_once('=').unwrap_or_else(unnamed);
        parts[name] = match keys[name]["type"] == "boolean" {
            true => json!(u8::from(value == "1")),
            false => json!(value),
        };
    }
    parts
}

/// Whether a VM has such an option.
pub fn is_option(name: &str) -> bool {
    option(name).is_some()
}

/// Whether an option of a VM is a number or a flag, which is a number too.
pub fn is_number(name: &str) -> bool {
    option(name).is_some_and(|rule| rule["type"] == "integer" || rule["type"] == "boolean")
}

fn option(name: &str) -> Option<&'static Value> {
    let Rules { schema, options } = rules();
    schema.property(options, name)
}

/// The target of the following lines.
#[derive(Clone, Debug, Default)]
enum At {
    #[default]
    Nowhere,
    Call,
    Group(String),
    Keys(String),
    Format(String),
}

/// A parsed call.
struct ReadCall {
    method: String,
    path: String,
    /// The groups that it uses.
    groups: Vec<String>,
    /// Its own parameters.
    own: Map<String, Value>,
}

/// The rules read so far, in the form that the checker expects.
#[derive(Default)]
struct Read {
    at: At,
    calls: Vec<ReadCall>,
    groups: Map<String, Value>,
    formats: Map<String, Value>,
    opaque: Vec<String>,
    indexed: Map<String, Value>,
}

impl Read {
    fn file(&mut self, text: &str) {
        let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
        for line in lines {
            match line.strip_prefix("  ") {
                Some(below) => self.below(below),
                None => self.head(line),
            }
        }
    }

    fn head(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        self.at = match word {
            "group" => At::Group(rest.to_owned()),
            "keys" => At::Keys(rest.to_owned()),
            "format" => self.format(rest),
            _ => {
                self.calls.push(ReadCall {
                    method: word.to_owned(),
                    path: rest.to_owned(),
                    groups: Vec::new(),
                    own: Map::new(),
                });
                At::Call
            }
        };
    }

    fn format(&mut self, rest: &str) -> At {
        let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        if rest == "anything" {
            self.opaque.push(name.to_owned());
            return At::Nowhere;
        }
        let mut rule = terms(rest);
        rule.remove("type");
        if let Some(pattern) = rule.remove("pattern") {
            rule.insert("regex".to_owned(), pattern);
        }
        self.formats.insert(name.to_owned(), Value::Object(rule));
        At::Format(name.to_owned())
    }

    fn below(&mut self, line: &str) {
        match self.at.clone() {
            At::Nowhere => {}
            At::Format(name) => {
                let (word, text) = line.split_once(' ').unwrap_or((line, ""));
                let key = match word {
                    "too-short" => "error_short",
                    "too-long" => "error_long",
                    _ => "error",
                };
                self.formats[&name][key] = json!(text);
            }
            At::Call => {
                if let Some(call) = self.calls.last_mut()
                    && let Some(group) = line.strip_prefix("use ")
                {
                    call.groups.push(group.to_owned());
                    return;
                }
                let (name, rule) = self.parameter(line);
                if let Some(call) = self.calls.last_mut() {
                    call.own.insert(name, rule);
                }
            }
            At::Group(group) => {
                let (name, rule) = self.parameter(line);
                self.groups.entry(group).or_insert_with(|| json!({}))[name] = rule;
            }
            At::Keys(format) => {
                let (name, rule) = self.parameter(line);
                let format = self.formats.entry(format).or_insert_with(|| json!({}));
                format["property_string"][name] = rule;
            }
        }
    }

    fn parameter(&mut self, line: &str) -> (String, Value) {
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (name, optional) = name.strip_suffix('?').map_or((name, false), |name| (name, true));
        let mut rule = terms(rest);
        if optional {
            rule.insert("optional".to_owned(), json!(1));
        }
        let family = name.strip_suffix(']').and_then(|name| name.split_once('['));
        let name = match family {
            Some((stem, last)) => {
                let family = format!("{stem}[n]");
                let last: u64 = last.parse().unwrap_or_default();
                self.indexed.insert(family.clone(), json!([0, last]));
                family
            }
            None => name.to_owned(),
        };
        (name, Value::Object(rule))
    }

    fn rules(self) -> Rules {
        let mut endpoints = Map::new();
        for ReadCall { method, path, groups, own } in self.calls {
            let mut all = Map::new();
            for group in groups {
                all.extend(
                    self.groups
                        .get(&group)
                        .and_then(Value::as_object)
                        .cloned()
                        .into_iter()
                        .flatten(),
                );
            }
            all.extend(own);
            let call = json!({"parameters": {"additionalProperties": 0, "properties": all}});
            endpoints.entry(path).or_insert_with(|| json!({}))[method] = call;
        }
        let options = self.groups.get(OPTIONS).and_then(Value::as_object).cloned();
        let meta = json!({"indexed": self.indexed, "opaque_formats": self.opaque,
                          "privileges": super::access::PRIVILEGES.as_slice()});
        let schema =
            Schema::new(json!({"_meta": meta, "formats": self.formats, "endpoints": endpoints}));
        Rules { schema, options: options.unwrap_or_default() }
    }
}

/// The definition of a parameter, in the form that the checker expects.
fn terms(text: &str) -> Map<String, Value> {
    let mut rule = Map::new();
    let (words, pattern) = match text.split_once('/') {
        // A list of words may contain slashes; a pattern is last.
        Some((before, rest)) if before.is_empty() || before.ends_with(' ') => {
            (before, rest.strip_suffix('/'))
        }
        _ => (text, None),
    };
    if let Some(pattern) = pattern {
        rule.insert("pattern".to_owned(), json!(pattern));
    }
    let number = |text: &str| text.parse::<i64>().map_or(json!(text), |number| json!(number));
    rule.insert("type".to_owned(), json!("string"));
    for word in words.split_whitespace() {
        let (key, value) = match word.split_once('=') {
            Some(("min", value)) => ("minimum", number(value)),
            Some(("max", value)) => ("maximum", number(value)),
            Some(("minlen", value)) => ("minLength", number(value)),
            Some(("maxlen", value)) => ("maxLength", number(value)),
            Some(("needs", value)) => ("requires", json!(value)),
            Some(("alias", value)) => ("alias", json!(value)),
            Some(("key", value)) => ("keyAlias", json!(value)),
            Some(("one-of", value)) => ("enum", value.split('|').collect()),
            _ if word == "default" => ("default_key", json!(1)),
            _ if word.starts_with('<') => ("format", json!(word.trim_matches(['<', '>']))),
            _ if word == "words" => continue,
            _ => ("type", json!(word)),
        };
        rule.insert(key.to_owned(), value);
    }
    if rule.contains_key("alias") {
        rule.remove("type");
    }
    rule
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pve::wire::read_form;

    fn said(method: &str, path: &str, form: &str) -> String {
        let mut params = read_form(form);
        match check(method, path, &mut params) {
            Ok(()) => String::new(),
            Err(Failure::Parameters(all)) => {
                let line = |(name, text): (String, String)| format!("{name}: {}", text.trim());
                all.into_iter().map(line).collect::<Vec<_>>().join("; ")
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    fn change(form: &str) -> String {
        let form = format!("node=pve1&vmid=101&{form}");
        said("PUT", "/nodes/{node}/qemu/{vmid}/config", &form)
    }

    #[test]
    fn each_invalid_parameter_is_reported_in_proxmox_words() {
        for (form, text) in [
            ("cores=0", "cores: value must have a minimum value of 1"),
            ("cores=abc", "cores: type check ('integer') failed - got 'abc'"),
            ("onboot=true", "onboot: type check ('boolean') failed - got 'true'"),
            ("tags=a%2Fb", "tags: invalid format - invalid characters in tag"),
            ("net31=virtio", ""),
            (
                "agent=2",
                "agent: invalid format - format error\nagent.enabled: type check \
                         ('boolean') failed - got '2'",
            ),
            (
                "net0=virtio,tag=5000",
                "net0: invalid format - format error\nnet0.tag: value must \
                                      have a maximum value of 4094",
            ),
            ("net1=bridge=vmbr0,virtio=bc:24:11:00:00:01", ""),
            ("rng0=/dev/urandom,max_bytes=1024", ""),
            ("hostpci0=0000:01:00.0,pcie=1", ""),
            ("keyboard=de", ""),
        ] {
            assert_eq!(change(form), text, "{form}");
        }
        assert!(change("net32=virtio").starts_with("net32: property is not defined"));
        assert!(change("cores=1&cores=2").contains("failed - got 'ARRAY(0x"));
        assert!(change("vga=nosuch").contains("vga.type: value 'nosuch' does not have"));
    }

    #[test]
    fn missing_parameters_are_reported_and_lists_become_text() {
        let clone = "/nodes/{node}/qemu/{vmid}/clone";
        let missing = said("POST", clone, "node=pve1&vmid=101");
        assert_eq!(missing, "newid: property is missing and it is not optional");
        let short = said("GET", clone.trim_end_matches("/clone"), "node=pve1&vmid=7");
        assert_eq!(short, "vmid: invalid format - value does not look like a valid VM ID");
        let mut params = read_form("node=pve1&vmid=101&tags=a&tags=b");
        check("PUT", "/nodes/{node}/qemu/{vmid}/config", &mut params).unwrap();
        assert_eq!(params.text("tags"), Some("a,b"));
        let mut params = read_form("node=pve1&vmid=101&command=ls&command=-l");
        check("POST", "/nodes/{node}/qemu/{vmid}/agent/exec", &mut params).unwrap();
        assert_eq!(params.0["command"], Given::Many(vec!["ls".into(), "-l".into()]));
    }

    #[test]
    fn every_rule_can_be_applied() {
        assert_eq!(rules().schema.unreadable(), std::collections::BTreeSet::new());
        let mut read = Read::default();
        FILES.iter().for_each(|file| read.file(file));
        let known = |method: &str| ["GET", "POST", "PUT", "DELETE"].contains(&method);
        let strange = read.calls.iter().map(|call| &call.method).find(|method| !known(method));
        assert!(strange.is_none(), "{strange:?}");
        assert!(is_number("cores") && !is_number("net0") && is_option("scsi30"));
        assert!(!is_option("scsi31") && !is_option("delete"));
    }
}
