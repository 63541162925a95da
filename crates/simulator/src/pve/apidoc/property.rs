//! Checks values against rules, and property strings against their keys.

use serde_json::{Map, Value};

use super::{Errors, Schema, UNREADABLE};

/// A scalar as Perl would hold it: JSON's `true` is 1, numbers are their digits.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(u8::from(*flag).to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A value in the form that its rule expects: an array for a list format is joined, and a single value
/// for an array becomes an array of one (pve-common src/PVE/RESTHandler.pm).
pub(super) fn normal(value: Value, rule: Option<&Value>) -> Value {
    let Some(rule) = rule else { return value };
    let is_list = rule["format"].as_str().is_some_and(|format| format.ends_with("-list"));
    match &value {
        Value::Array(items) if is_list && rule["type"] == "string" => {
            Value::from(items.iter().filter_map(scalar).collect::<Vec<_>>().join(","))
        }
        Value::String(_) if rule["type"] == "array" => Value::from(vec![value]),
        _ => value,
    }
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit())
}

/// Whether a scalar is of a type; `None` if the type is unknown.
fn has_type(kind: &str, text: &str) -> Option<bool> {
    Some(match kind {
        "boolean" => text == "0" || text == "1",
        "integer" => is_integer(text),
        "number" => text.parse::<f64>().is_ok_and(f64::is_finite),
        "string" => true,
        "null" | "object" | "array" => false,
        _ => return None,
    })
}

/// The accepted spellings of a boolean in a property string.
fn boolean(text: &str) -> &str {
    match text.to_ascii_lowercase().as_str() {
        "1" | "on" | "yes" | "true" => "1",
        "0" | "off" | "no" | "false" => "0",
        _ => text,
    }
}

/// The path of a nested key: `net0.model` inside `net0`.
fn inside(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

impl Schema {
    /// Checks values against the rules of an object.
    pub(super) fn check_object(
        &self,
        path: &str,
        rules: &Map<String, Value>,
        values: &Map<String, Value>,
        open: bool,
        errors: &mut Errors,
    ) {
        for (name, rule) in rules {
            let may_miss = rule["optional"] == 1 || rule.get("alias").is_some();
            if !may_miss && values.get(name).is_none_or(Value::is_null) {
                let text = "property is missing and it is not optional";
                errors.entry(inside(path, name)).or_insert_with(|| text.to_owned());
            }
        }
        for (name, value) in values {
            let here = inside(path, name);
            let Some(rule) = self.property(rules, name) else {
                if !open {
                    let text = "property is not defined in schema and the schema does not allow \
                                additional properties";
                    errors.entry(here).or_insert_with(|| text.to_owned());
                }
                continue;
            };
            if let Some(text) = self.fault(&here, rule, value) {
                errors.entry(here.clone()).or_insert(text);
            }
            if let Some(other) = rule["requires"].as_str()
                && values.get(other).is_none_or(Value::is_null)
            {
                let text = format!("missing property required by '{here}'");
                errors.entry(inside(path, other)).or_insert(text);
            }
        }
    }

    /// The error in a value; only the first error is returned.
    pub(super) fn fault(&self, path: &str, rule: &Value, value: &Value) -> Option<String> {
        let kind = rule["type"].as_str();
        if let Value::Array(items) = value {
            if kind != Some("array") {
                return Some(format!("type check ('{}') failed - got 'ARRAY'", kind?));
            }
            return items.iter().find_map(|item| self.fault(path, &rule["items"], item));
        }
        let text = scalar(value)?;
        match kind.map(|kind| (kind, has_type(kind, &text))) {
            Some((kind, None)) => return Some(format!("{UNREADABLE} the type `{kind}`")),
            Some((kind, Some(false))) => {
                return Some(format!("type check ('{kind}') failed - got '{text}'"));
            }
            Some((_, Some(true))) | None => {}
        }
        self.fault_of_form(path, &rule["format"], &text)
            .map(|fault| format!("invalid format - {fault}\n"))
            .or_else(|| self.fault_of_value(rule, &text))
    }

    /// A format is a name, or the keys of a property string.
    fn fault_of_form(&self, path: &str, format: &Value, text: &str) -> Option<String> {
        match format {
            Value::String(name) => self.fault_of_format(path, name, text),
            Value::Object(keys) => self.fault_of_property_string(path, keys, text),
            _ => None,
        }
    }

    fn fault_of_value(&self, rule: &Value, text: &str) -> Option<String> {
        if let Some(pattern) = rule["pattern"].as_str() {
            match self.patterns.matches(&format!("^{pattern}$"), text) {
                Some(true) => {}
                Some(false) => return Some("value does not match the regex pattern".to_owned()),
                None => return Some(format!("{UNREADABLE} the pattern `{pattern}`")),
            }
        }
        let length = text.chars().count() as f64;
        if let Some(most) = number(&rule["maxLength"]).filter(|most| length > *most) {
            return Some(format!("value may only be {most} characters long"));
        }
        if let Some(least) = number(&rule["minLength"]).filter(|least| length < *least) {
            return Some(format!("value must be at least {least} characters long"));
        }
        if let Ok(amount) = text.parse::<f64>() {
            if let Some(most) = number(&rule["maximum"]).filter(|most| amount > *most) {
                return Some(format!("value must have a maximum value of {most}"));
            }
            if let Some(least) = number(&rule["minimum"]).filter(|least| amount < *least) {
                return Some(format!("value must have a minimum value of {least}"));
            }
        }
        let words = rule["enum"].as_array()?;
        let texts: Vec<String> = words.iter().filter_map(scalar).collect();
        (!texts.iter().any(|word| word == text)).then(|| {
            let all = texts.join(", ");
            format!("value '{text}' does not have a value in the enumeration '{all}'")
        })
    }

    /// Checks `model,key=value,…` key by key.
    pub(super) fn fault_of_property_string(
        &self,
        path: &str,
        keys: &Map<String, Value>,
        text: &str,
    ) -> Option<String> {
        let values = match parsed(keys, text) {
            Ok(values) => values,
            Err(fault) => return Some(fault),
        };
        let mut errors = Errors::new();
        self.check_object(path, keys, &values, false, &mut errors);
        if errors.is_empty() {
            return None;
        }
        let faults: Vec<_> = errors.iter().map(|(key, fault)| format!("{key}: {fault}")).collect();
        Some(format!("format error\n{}", faults.join("\n")))
    }
}

/// A property string's values by key, aliases resolved.
fn parsed(keys: &Map<String, Value>, text: &str) -> Result<Map<String, Value>, String> {
    let default = keys.iter().find(|(_, rule)| rule["default_key"] == 1).map(|(key, _)| key);
    let mut values = Map::new();
    let mut put = |key: &str, value: &str| match values.insert(key.to_owned(), value.into()) {
        None => Ok(()),
        Some(_) => Err(format!("duplicate key in comma-separated list property: {key}")),
    };
    for part in text.split(',').filter(|part| !part.trim().is_empty()) {
        let Some((mut key, mut value)) = part.split_once('=') else {
            let key =
                default.ok_or("value without key, but schema does not define a default key")?;
            put(key, part)?;
            continue;
        };
        if key.is_empty() || value.is_empty() {
            return Err("missing key in comma-separated list property".to_owned());
        }
        if let Some(alias) = keys.get(key).and_then(|rule| rule["alias"].as_str()) {
            if let Some(whose) = keys[key]["keyAlias"].as_str() {
                put(whose, key)?;
            }
            key = alias;
        }
        // An unknown key is reported like an unknown parameter.
        if keys.get(key).is_some_and(|rule| rule["type"] == "boolean") {
            value = boolean(value);
        }
        put(key, value)?;
    }
    Ok(values)
}
