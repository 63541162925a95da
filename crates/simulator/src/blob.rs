//! A large part of the world that seldom changes: it is written to a blob of its own, and the world's
//! file has only the blob's id.

use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::store::Store;

/// A value that is stored in a blob. A change goes through [`DerefMut`], after which the value has no blob
/// until [`InBlob::write`] stores it again.
#[derive(Clone, Debug, Default)]
pub struct InBlob<T> {
    value: T,
    blob: OnceLock<String>,
}

impl<T> Deref for InBlob<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for InBlob<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.blob.take();
        &mut self.value
    }
}

impl<T: Serialize> InBlob<T> {
    /// Stores the value if it has changed, and returns the id of its blob.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, store: &Store) -> io::Result<&str> {
        if self.blob.get().is_none() {
            // Through a value, for the reason given at `Store::save`.
            let text = serde_json::to_value(&self.value)?.to_string();
            let id = store.keep(text.as_bytes())?;
            self.blob.get_or_init(|| id);
        }
        Ok(self.blob.get().map_or("", String::as_str))
    }
}

impl<T> InBlob<T> {
    /// The id of its blob, unless the value has changed since that was written.
    pub fn id(&self) -> Option<&str> {
        self.blob.get().map(String::as_str)
    }
}

impl<T: DeserializeOwned> InBlob<T> {
    /// Reads the value whose id was in the world's file.
    ///
    /// # Errors
    /// If its blob is missing or is not such a value.
    pub fn read(&mut self, store: &Store) -> io::Result<()> {
        let Some(id) = self.blob.get() else { return Ok(()) };
        let bytes = store.blob(id).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("there is no blob `{id}`"))
        })?;
        self.value = serde_json::from_slice(&bytes)?;
        Ok(())
    }
}

impl<T> Serialize for InBlob<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.blob.get() {
            Some(id) => id.serialize(to),
            None => Err(serde::ser::Error::custom("its blob is not written yet")),
        }
    }
}

/// What a world's file has of a value. Files of earlier releases contain it whole.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written<T> {
    Id(String),
    Whole(T),
}

impl<'de, T: Default + Deserialize<'de>> Deserialize<'de> for InBlob<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(match Written::deserialize(from)? {
            Written::Id(id) => Self { value: T::default(), blob: OnceLock::from(id) },
            Written::Whole(value) => Self { value, blob: OnceLock::new() },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_stored_once_until_it_changes_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Some(folder.path().to_owned())).unwrap();
        let mut value: InBlob<Vec<u32>> = InBlob::default();
        assert!(serde_json::to_string(&value).is_err(), "without a blob it would be lost");
        let empty = value.write(&store).unwrap().to_owned();
        store.forget(&empty);
        assert_eq!(value.write(&store).unwrap(), empty);
        assert!(store.blob(&empty).is_none(), "nothing was changed, so nothing was written");

        value.push(7);
        let id = value.write(&store).unwrap().to_owned();
        let text = serde_json::to_string(&value).unwrap();
        assert_eq!(text, format!("\"{id}\""));
        let mut again: InBlob<Vec<u32>> = serde_json::from_str(&text).unwrap();
        again.read(&store).unwrap();
        assert_eq!(*again, [7]);
        let mut lost: InBlob<Vec<u32>> = serde_json::from_str("\"00\"").unwrap();
        assert_eq!(lost.read(&store).unwrap_err().kind(), io::ErrorKind::NotFound);
        let mut former: InBlob<Vec<u32>> = serde_json::from_str("[7]").unwrap();
        former.read(&store).unwrap();
        assert_eq!(*former, [7]);
    }
}
