//! Deserializers for Perl's types: numbers as strings, booleans as 0 and 1, empty strings and nulls for
//! nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserializer;
use serde::de::{self, Visitor};
use serde_json::Value;

use crate::VmId;

/// A value that is one JSON scalar.
enum Scalar {
    Nothing,
    Text(String),
    Number(f64, String),
}

impl<'de> serde::Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a number, a boolean or null")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Scalar, E> {
                self.visit_u64(u64::from(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
                Ok(Scalar::Number(value as f64, value.to_string()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar::Number(value as f64, value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar::Number(value, value.to_string()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(value.to_owned()))
            }

            fn visit_unit<E>(self) -> Result<Scalar, E> {
                Ok(Scalar::Nothing)
            }

            fn visit_none<E>(self) -> Result<Scalar, E> {
                Ok(Scalar::Nothing)
            }
        }
        from.deserialize_any(Reader)
    }
}

fn scalar<'de, D: Deserializer<'de>>(from: D) -> Result<Scalar, D::Error> {
    serde::Deserialize::deserialize(from)
}

/// A boolean: 0, 1, "0", "1", true, false; null is false.
pub(super) fn flag<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    match scalar(from)? {
        Scalar::Nothing => Ok(false),
        Scalar::Number(number, _) => Ok(number != 0.0),
        Scalar::Text(text) => match text.as_str() {
            "" | "0" | "no" | "off" | "false" => Ok(false),
            "1" | "yes" | "on" | "true" => Ok(true),
            _ => Err(de::Error::custom(format!("`{text}` is not a boolean"))),
        },
    }
}

/// A non-negative number, also as a string or with a fraction.
pub(super) fn number<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    maybe_number(from).map(Option::unwrap_or_default)
}

/// The same, or nothing.
pub(super) fn maybe_number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let (value, text) = match scalar(from)? {
        Scalar::Nothing => return Ok(None),
        Scalar::Text(text) if text.is_empty() => return Ok(None),
        Scalar::Number(value, text) => (value, text),
        Scalar::Text(text) => match text.parse::<f64>() {
            Ok(value) => (value, text),
            Err(_) => return Err(de::Error::custom(format!("`{text}` is not a number"))),
        },
    };
    match text.parse::<u64>() {
        Ok(exact) => Ok(Some(exact)),
        Err(_) if value >= 0.0 => Ok(Some(value as u64)),
        Err(_) => Err(de::Error::custom(format!("`{text}` is negative"))),
    }
}

/// A VMID, also as a string.
pub(super) fn vmid<'de, D: Deserializer<'de>>(from: D) -> Result<VmId, D::Error> {
    let number = number(from)?;
    u32::try_from(number)
        .map(VmId)
        .map_err(|_| de::Error::custom(format!("`{number}` is not a VMID")))
}

/// A text, also as a number; null is the empty text.
pub(super) fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    maybe_text(from).map(Option::unwrap_or_default)
}

/// The same, or nothing.
pub(super) fn maybe_text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(match scalar(from)? {
        Scalar::Nothing => None,
        Scalar::Text(text) | Scalar::Number(_, text) => Some(text),
    })
}

/// Texts by name; a value that is not a scalar becomes JSON text, and a missing table an empty one.
pub(super) fn texts<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    Ok(match serde::Deserialize::deserialize(from)? {
        Value::Object(table) => {
            table.into_iter().map(|(name, value)| (name, text(value))).collect()
        }
        _ => BTreeMap::new(),
    })
}

/// A list in a string, such as `iso,import` or `a;b`.
pub(super) fn words<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeSet<String>, D::Error> {
    let text = text(from)?;
    Ok(text.split([',', ';', ' ']).filter(|word| !word.is_empty()).map(str::to_owned).collect())
}
