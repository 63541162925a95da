//! Decodes a tree into typed values and reports every fault, not just the first.
//!
//! A serde implementation stops at the first fault. [`decode`] records it, cuts the faulty node out
//! of the tree and starts again, until the rest can be read. Unknown keys, of which a file that is
//! not a profile has very many, are all found in one pass. Every field of [`super::raw`] is
//! optional, so a cut never causes a complaint of its own.

use std::collections::BTreeSet;

use serde::de::value::{StrDeserializer, UsizeDeserializer};
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::at::{EITHER, SCALAR, SECTION, listed};
use super::complaint::Complaint;
use super::fault::Fault;
use super::tree::{Kind, Node};

/// The maximum number of faults to find one by one: each costs another pass over the tree.
const FAULTS_MAX: usize = 100;

/// The readable part, and the faults.
pub(super) struct Decoded<T> {
    /// The readable part.
    pub value: Option<T>,
    /// One complaint per fault.
    pub complaints: Vec<Complaint>,
    /// The keys (with the id of their map) that were cut out, or that a cut key is a misspelling
    /// of: they are not also reported as missing.
    pub cut: BTreeSet<(usize, String)>,
}

/// Reads everything that is readable.
pub(super) fn decode<T: for<'de> Deserialize<'de>>(mut root: Node) -> Decoded<T> {
    let mut decoded = Decoded { value: None, complaints: Vec::new(), cut: BTreeSet::new() };
    for _ in 0..FAULTS_MAX {
        let fault = match T::deserialize(De { node: &root }) {
            Ok(value) => {
                decoded.value = Some(value);
                break;
            }
            Err(fault) => fault,
        };
        if let (Some(known), Some(id)) = (fault.known, fault.node)
            && let Some((map, unknown)) = root.cut_unknown(id, known)
        {
            for (key, text) in unknown {
                let fault: Fault = serde::de::Error::unknown_field(&text, known);
                decoded.complaints.push(complaint(&fault, Some(&key)));
                decoded.cut.extend(fault.meant.map(|meant| (map, meant.to_owned())));
                decoded.cut.insert((map, text));
            }
            continue;
        }
        let place = fault.node.and_then(|id| find(&root, id)).cloned();
        if !fault.silent {
            decoded.complaints.push(complaint(&fault, place.as_ref()));
        }
        // If the root itself is faulty, nothing remains to be read.
        let Some(entry) = place.and_then(|place| root.cut(place.id)) else { break };
        if let Some((map, key)) = entry {
            if let Some(meant) = fault.meant {
                decoded.cut.insert((map, meant.to_owned()));
            }
            decoded.cut.insert((map, key));
        }
    }
    decoded
}

fn complaint(fault: &Fault, place: Option<&Node>) -> Complaint {
    let mut complaint = Complaint::error(fault.message.clone());
    if let Some(node) = place {
        complaint = complaint.at(node.head.clone(), "");
    }
    match &fault.hint {
        Some(hint) => complaint.help(hint.clone()),
        None => complaint,
    }
}

fn find(node: &Node, id: usize) -> Option<&Node> {
    if node.id == id {
        return Some(node);
    }
    match &node.kind {
        Kind::Scalar { .. } | Kind::Refused => None,
        Kind::List(items) => items.iter().find_map(|item| find(item, id)),
        Kind::Map { entries, .. } => {
            entries.iter().find_map(|(key, value)| find(key, id).or_else(|| find(value, id)))
        }
    }
}

#[derive(Clone, Copy)]
struct De<'t> {
    node: &'t Node,
}

impl<'de> Deserializer<'de> for De<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.kind {
            Kind::Scalar { text, .. } => visitor.visit_str(text),
            Kind::Refused => Err(Fault::found(self.node, &visitor)),
            Kind::List(items) => visitor.visit_seq(Items(items.iter())),
            Kind::Map { entries, .. } => {
                visitor.visit_map(Entries { rest: entries.iter(), value: None })
            }
        }
        .map_err(|fault| fault.at(self.node))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.kind {
            Kind::List(_) => self.deserialize_any(visitor),
            _ => {
                let fault = Fault::found(self.node, &"a list");
                let hint = "write a list in brackets, even with one entry: `[…]`".to_owned();
                Err(Fault { hint: Some(hint), ..fault })
            }
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.kind {
            Kind::Map { .. } => self.deserialize_any(visitor),
            _ => Err(Fault::found(self.node, &"keys with values")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_map(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match (name, &self.node.kind) {
            (SCALAR, Kind::Scalar { .. }) | (SECTION, Kind::Map { .. }) => visitor
                .visit_seq(Place { node: self.node, next: 0 })
                .map_err(|fault| fault.at(self.node)),
            _ => Err(Fault::found(self.node, &visitor)),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match (name, &self.node.kind) {
            (EITHER, Kind::Map { .. }) => self.deserialize_any(visitor),
            _ => visitor.visit_newtype_struct(self).map_err(|fault| fault.at(self.node)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let choice = match &self.node.kind {
            Kind::Scalar { .. } => Choice { key: self.node, value: None },
            Kind::Map { entries, cut } => match entries.as_slice() {
                [(key, value)] => Choice { key, value: Some(value) },
                [] if *cut => {
                    return Err(Fault { silent: true, ..Fault::found(self.node, &visitor) });
                }
                _ => {
                    let wanted = format!("one of {}", listed(variants.iter().copied()));
                    return Err(Fault::found(self.node, &wanted.as_str()));
                }
            },
            Kind::List(_) | Kind::Refused => return Err(Fault::found(self.node, &visitor)),
        };
        visitor.visit_enum(choice).map_err(|fault| fault.at(self.node))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct tuple identifier ignored_any
    }
}

struct Items<'t>(std::slice::Iter<'t, Node>);

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        self.0.next().map(|node| seed.deserialize(De { node })).transpose()
    }
}

struct Entries<'t> {
    rest: std::slice::Iter<'t, (Node, Node)>,
    value: Option<&'t Node>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some(value);
        match key.kind {
            Kind::Scalar { .. } => seed.deserialize(De { node: key }).map(Some),
            _ => Err(Fault::found(key, &"a key")),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let node = self.value.take().ok_or_else(|| Fault::new("a value without a key".into()))?;
        seed.deserialize(De { node })
    }
}

/// A node's place and then the node itself, as [`super::at`] expects them.
struct Place<'t> {
    node: &'t Node,
    next: usize,
}

impl<'de> SeqAccess<'de> for Place<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let number = |number: usize| -> UsizeDeserializer<Fault> { number.into_deserializer() };
        let (section, place) = match &self.node.kind {
            Kind::Scalar { .. } => (false, &self.node.span),
            _ => (true, &self.node.head),
        };
        self.next += 1;
        match self.next {
            1 => seed.deserialize(number(place.start)),
            2 => seed.deserialize(number(place.end)),
            3 if section => seed.deserialize(number(self.node.id)),
            _ => seed.deserialize(De { node: self.node }),
        }
        .map(Some)
    }
}

/// One of several words, possibly with its own settings.
struct Choice<'t> {
    key: &'t Node,
    value: Option<&'t Node>,
}

impl<'t, 'de> EnumAccess<'de> for Choice<'t> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Fault> {
        let Kind::Scalar { text, .. } = &self.key.kind else {
            return Err(Fault::found(self.key, &"a word"));
        };
        let word: StrDeserializer<'_, Fault> = text.as_str().into_deserializer();
        let value = seed.deserialize(word).map_err(|fault| fault.at(self.key))?;
        Ok((value, self))
    }
}

impl<'de> VariantAccess<'de> for Choice<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        match self.value {
            Some(value) if !value.is_null() => {
                Err(Fault::found(value, &"no settings under this key"))
            }
            _ => Ok(()),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        match self.value {
            Some(node) => seed.deserialize(De { node }),
            None => Err(Fault::new("this key needs settings under it".to_owned()).at(self.key)),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        Err(Fault::found(self.key, &visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        Err(Fault::found(self.key, &visitor))
    }
}

#[cfg(test)]
mod tests {
    use super::super::at::{At, Section, Table};
    use super::super::tree::parse;
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Row {
        size: Option<At<u8>>,
        name: Option<At<String>>,
    }

    fn rows(text: &str) -> Decoded<Vec<Section<Row>>> {
        decode(parse(text).0.unwrap())
    }

    #[test]
    fn every_fault_is_found_and_the_rest_is_read() {
        let decoded =
            rows("- {size: 300, name: a}\n- {siez: 1, name: b}\n- {size: 3, name: [c]}\n");
        let messages: Vec<_> = decoded.complaints.iter().map(|c| c.message.as_str()).collect();
        assert_eq!(messages.len(), 3, "{messages:?}");
        assert_eq!(messages[1], "unknown key `siez`");
        assert_eq!(decoded.complaints[1].hint.as_deref(), Some("did you mean `size`?"));
        let rows = decoded.value.unwrap();
        let name = |row: usize| rows[row].value.name.as_ref().map(|name| name.value.as_str());
        assert_eq!((name(0), name(1), name(2)), (Some("a"), Some("b"), None));
        assert_eq!(rows[2].value.size.as_ref().map(|size| size.value), Some(3));
        assert!(decoded.cut.iter().any(|(_, key)| key == "size"), "the meant key counts as cut");
    }

    #[test]
    fn a_row_that_is_no_row_does_not_hide_its_neighbours() {
        let decoded = rows("- word\n- {size: 1}\n");
        assert_eq!(
            decoded.complaints[0].message,
            "expected keys with values, found a single value"
        );
        assert_eq!(decoded.value.unwrap().len(), 1);
    }

    #[test]
    fn names_of_the_authors_choosing_keep_their_order() {
        let decoded: Decoded<Table<At<u8>>> = decode(parse("b: 1\na: 2\n").0.unwrap());
        let names = decoded.value.unwrap().names();
        assert_eq!(names, "`b` and `a`");
    }

    #[test]
    fn a_root_of_the_wrong_kind_is_one_complaint() {
        let decoded: Decoded<Section<Row>> = decode(parse("- 1\n").0.unwrap());
        assert_eq!(decoded.complaints.len(), 1);
        assert!(decoded.value.is_none());
    }
}
