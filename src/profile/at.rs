//! Values that remember where they were written.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

/// The names through which a type requests its place from [`super::decode`].
pub(super) const SCALAR: &str = "$k8sha::At";
/// The same for lists and maps.
pub(super) const SECTION: &str = "$k8sha::Section";
/// The same for what may be either one value or keys with values.
pub(super) const EITHER: &str = "$k8sha::Either";

/// A value that a profile writes as one word.
pub trait Written: Sized {
    /// Reads the word.
    ///
    /// # Errors
    /// What is wrong with it, as a fragment that quotes it.
    fn read(word: &str) -> Result<Self, String>;

    /// The JSON Schema of the word.
    fn word_schema() -> Schema;
}

/// A word of the profile, its meaning, and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At<T> {
    /// Its meaning.
    pub value: T,
    /// Its place, in bytes of the profile's text.
    pub span: Range<usize>,
}

/// A group of keys, and the place that stands for it in a complaint: its key, or the whole of it
/// when it is written on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section<T> {
    /// The keys.
    pub value: T,
    /// The place, in bytes of the profile's text.
    pub span: Range<usize>,
    /// Names the group within its file, so that what was cut out of it is known.
    pub(super) id: usize,
}

/// Names of the author's choosing, each with a value, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table<T>(pub Vec<(At<String>, T)>);

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table(Vec::new())
    }
}

impl<T> Table<T> {
    /// The value of that name.
    pub fn get(&self, name: &str) -> Option<&T> {
        self.0.iter().find(|(key, _)| key.value == name).map(|(_, value)| value)
    }

    /// The names, as a list for a person.
    pub fn names(&self) -> String {
        listed(self.0.iter().map(|(key, _)| key.value.as_str()))
    }
}

/// `a`, `b` and `c`, each in backticks.
pub(super) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match names.split_last() {
        None => "none".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}

impl<'de, T: Written> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word<T>(PhantomData<T>);

        impl<'de, T: Written> Visitor<'de> for Word<T> {
            type Value = At<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a single value")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<At<T>, A::Error> {
                let (start, end, word): (usize, usize, String) = parts(&mut seq)?;
                let value = T::read(&word).map_err(de::Error::custom)?;
                Ok(At { value, span: start..end })
            }
        }

        deserializer.deserialize_tuple_struct(SCALAR, 3, Word(PhantomData))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Section<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Keys<T> {
            type Value = Section<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("keys with values")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Section<T>, A::Error> {
                let (start, end, id): (usize, usize, usize) = parts(&mut seq)?;
                let value = next(&mut seq)?;
                Ok(Section { value, span: start..end, id })
            }
        }

        deserializer.deserialize_tuple_struct(SECTION, 4, Keys(PhantomData))
    }
}

fn next<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(seq: &mut A) -> Result<T, A::Error> {
    seq.next_element()?.ok_or_else(|| de::Error::custom("the place of a value is incomplete"))
}

fn parts<'de, A, B, C, S>(seq: &mut S) -> Result<(A, B, C), S::Error>
where
    A: Deserialize<'de>,
    B: Deserialize<'de>,
    C: Deserialize<'de>,
    S: SeqAccess<'de>,
{
    Ok((next(seq)?, next(seq)?, next(seq)?))
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Table<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Table<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("names with values")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Table<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Table(entries))
            }
        }

        deserializer.deserialize_map(Entries(PhantomData))
    }
}

impl<T: Written> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Word".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        T::word_schema()
    }
}

impl<T: JsonSchema> JsonSchema for Section<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<T: JsonSchema> JsonSchema for Table<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Table_of_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>();
        schemars::json_schema!({ "type": "object", "additionalProperties": value })
    }
}
