//! Compares a recorded answer with the simulator's.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::names::Names;
use crate::shape;
use crate::wire::Answer;

/// The keys that identify an element of a list; the first one present is used.
const IDENTITIES: &[&str] = &[
    "volid", "id", "vmid", "key", "iface", "roleid", "poolid", "storage", "filename", "node",
    "name", "subdir",
];

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Every difference, as `what: recorded, here simulated`.
pub fn differences(exchange: &Value, answer: &Answer, names: &Names) -> Vec<String> {
    let mut found = Vec::new();
    let mut differ = |what: &str, recorded: &str, here: &str| {
        if recorded != here {
            found.push(format!("{what}: {recorded}, here {here}"));
        }
    };
    let shown = |status: Option<u64>| status.map_or("no answer".to_owned(), |s| s.to_string());
    let status = exchange["status"].as_u64();
    differ("status", &shown(status), &shown(answer.status.map(u64::from)));
    if status.is_none() || status != answer.status.map(u64::from) {
        if answer.status != Some(200) && answer.status.is_some() {
            found.push(format!("said here: {}", answer.reason));
        }
        return found;
    }
    let line = exchange["status_line"].as_str().unwrap_or_default();
    let reason = line.splitn(3, ' ').nth(2).unwrap_or_default();
    differ("reason", &shape::form(reason), &shape::form(&answer.reason));
    let header = |name: &str| exchange["resp_headers"][name].as_str();
    let closes = |value: Option<&str>| {
        let closes = value.is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if closes { "close" } else { "keep-alive" }
    };
    differ("connection", closes(header("Connection")), closes(answer.header("connection")));
    let either = |value: Option<&str>| value.unwrap_or("none").to_ascii_lowercase();
    let recorded = either(header("Content-Type"));
    differ("content-type", &recorded, &either(answer.header("content-type")));
    differ("set-cookie", &either(header("Set-Cookie")), &either(answer.header("set-cookie")));
    let body = exchange["resp_body"].as_str().unwrap_or_default();
    let here = String::from_utf8_lossy(&answer.body);
    match (serde_json::from_str(body), serde_json::from_str(&here)) {
        (Ok(recorded), Ok(simulated)) => {
            let recorded = translated(&recorded, names);
            let mut walk = Walk { found, in_vm: is_vm(exchange) };
            walk.value("body", "", &recorded, &simulated);
            return walk.found;
        }
        (Ok::<Value, _>(_), Err(_)) => found.push("body: JSON, here none".to_owned()),
        // The recording shortened long bodies, JSON too.
        (Err(_), Ok::<Value, _>(_)) if recorded.contains("json") => {}
        (Err(_), Ok::<Value, _>(_)) => found.push("body: no JSON, here JSON".to_owned()),
        (Err(_), Err(_)) if body.len() < 300 && body.trim_end() != here.trim_end() => {
            found.push(format!("body: `{}`, here `{}`", body.trim_end(), here.trim_end()));
        }
        (Err(_), Err(_)) => {}
    }
    found
}

fn is_vm(exchange: &Value) -> bool {
    let url = exchange["url"].as_str().unwrap_or_default();
    url.contains("/qemu") || url.ends_with("type=vm")
}

fn translated(value: &Value, names: &Names) -> Value {
    let text = names.translate(&value.to_string());
    serde_json::from_str(&text).unwrap_or_else(|_| value.clone())
}

/// Compares two bodies.
struct Walk {
    found: Vec<String>,
    in_vm: bool,
}

impl Walk {
    fn value(&mut self, path: &str, key: &str, recorded: &Value, here: &Value) {
        match (recorded, here) {
            (Value::Object(recorded), Value::Object(here)) => self.object(path, recorded, here),
            (Value::Array(recorded), Value::Array(here)) => self.list(path, key, recorded, here),
            (Value::String(recorded), Value::String(here)) => {
                let (recorded, here) = (shape::text(key, recorded), shape::text(key, here));
                if recorded != here {
                    self.found.push(format!("{path}: `{recorded}`, here `{here}`"));
                }
            }
            (Value::Number(recorded), Value::Number(here)) => {
                let same = recorded.as_f64() == here.as_f64();
                if !same && !shape::is_volatile(key, self.in_vm) {
                    self.found.push(format!("{path}: {recorded}, here {here}"));
                }
            }
            (recorded, here) if recorded == here => {}
            (recorded, here) => {
                self.found.push(format!("{path}: {}, here {}", kind(recorded), kind(here)));
            }
        }
    }

    fn object(&mut self, path: &str, recorded: &Map<String, Value>, here: &Map<String, Value>) {
        // `{"key": "digest", "value": …}` has a digest under another name.
        let named = recorded.get("key").and_then(Value::as_str);
        for (key, value) in recorded {
            let whose = named.filter(|_| key == "value" || key == "pending").unwrap_or(key);
            match here.get(key) {
                Some(other) => self.value(&format!("{path}.{key}"), whose, value, other),
                None => self.found.push(format!("{path}.{key}: {}, here missing", kind(value))),
            }
        }
        for (key, value) in here.iter().filter(|(key, _)| !recorded.contains_key(*key)) {
            self.found.push(format!("{path}.{key}: missing, here {}", kind(value)));
        }
    }

    fn list(&mut self, path: &str, key: &str, recorded: &[Value], here: &[Value]) {
        let first = recorded.first().or(here.first());
        let Some(first) = first else { return };
        if first.get("upid").is_some() || first.get("msg").is_some() {
            return self.alike(path, recorded, here);
        }
        if first.get("n").is_some() && first.get("t").is_some() {
            self.alike(path, recorded, here);
            let last =
                |list: &[Value]| shape::form(list.last().map_or("", |line| text(&line["t"])));
            let (recorded, here) = (last(recorded), last(here));
            if recorded != here {
                self.found.push(format!("{path}[last]: `{recorded}`, here `{here}`"));
            }
            return;
        }
        let identity = IDENTITIES.iter().find(|name| first.get(**name).is_some());
        let Some(identity) = identity else {
            let kinds = |list: &[Value]| list.iter().map(kind).collect::<BTreeSet<_>>();
            if kinds(recorded) != kinds(here) {
                self.found.push(format!("{path}: other kinds of elements (`{key}`)"));
            }
            return;
        };
        let by = |list: &[Value]| -> BTreeMap<String, Value> {
            let named = list.iter().map(|value| (shape::form(&name_of(&value[*identity])), value));
            named.map(|(name, value)| (name, value.clone())).collect()
        };
        let (recorded, here) = (by(recorded), by(here));
        for (name, value) in &recorded {
            match here.get(name) {
                Some(other) => self.value(&format!("{path}[{name}]"), name, value, other),
                None => self.found.push(format!("{path}[{name}]: there, here missing")),
            }
        }
        for name in here.keys().filter(|name| !recorded.contains_key(*name)) {
            self.found.push(format!("{path}[{name}]: missing, here there"));
        }
    }

    /// Lists that are compared only by their elements' keys: those that some or all have.
    fn alike(&mut self, path: &str, recorded: &[Value], here: &[Value]) {
        let shapes = |list: &[Value]| {
            let mut shapes = BTreeMap::<String, BTreeSet<&'static str>>::new();
            for (key, value) in list.iter().filter_map(Value::as_object).flatten() {
                shapes.entry(key.clone()).or_default().insert(kind(value));
            }
            shapes
        };
        let (recorded, here) = (shapes(recorded), shapes(here));
        for (key, kinds) in &recorded {
            match here.get(key) {
                None => self.found.push(format!("{path}[].{key}: {kinds:?}, here missing")),
                Some(other) if !other.is_subset(kinds) => {
                    self.found.push(format!("{path}[].{key}: {kinds:?}, here {other:?}"));
                }
                Some(_) => {}
            }
        }
        for key in here.keys().filter(|key| !recorded.contains_key(*key)) {
            self.found.push(format!("{path}[].{key}: missing, here there"));
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn name_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
