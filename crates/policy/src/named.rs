//! Tables by name, as lists whose entries know their name: `[upstreams.shop]` is an entry of
//! `upstreams` with the name `shop`. In the order of the names.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, MapAccess, Visitor},
};

/// An entry of such a table.
pub(crate) trait Named: Sized {
    /// What the table has under its name.
    type Value;

    /// Returns the name.
    fn name(&self) -> &str;

    /// Returns what the table has under the name.
    fn value(&self) -> &Self::Value;

    /// Returns the entry of a name.
    fn new(name: String, value: Self::Value) -> Self;
}

impl<V> Named for (String, V) {
    type Value = V;

    fn name(&self) -> &str {
        &self.0
    }

    fn value(&self) -> &V {
        &self.1
    }

    fn new(name: String, value: V) -> Self {
        (name, value)
    }
}

/// Finds an entry of such a table.
pub(crate) fn find<'a, T: Named>(entries: &'a [T], name: &str) -> Option<&'a T> {
    entries.binary_search_by(|entry| entry.name().cmp(name)).ok().and_then(|index| entries.get(index))
}

/// Adds an entry unless the list has one of its name. Returns whether it did.
pub(crate) fn insert<T: Named>(entries: &mut Vec<T>, entry: T) -> bool {
    let place = entries.binary_search_by(|known| known.name().cmp(entry.name()));
    place.map_err(|index| entries.insert(index, entry)).is_err()
}

pub(crate) fn serialize<T: Named<Value: Serialize>, S: Serializer>(
    entries: &[T],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(entries.iter().map(|entry| (entry.name(), entry.value())))
}

pub(crate) fn deserialize<'de, T: Named<Value: Deserialize<'de>>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_map(Entries(PhantomData))
}

struct Entries<T>(PhantomData<T>);

impl<'de, T: Named<Value: Deserialize<'de>>> Visitor<'de> for Entries<T> {
    type Value = Vec<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a map")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<Self::Value, M::Error> {
        let mut entries = Vec::new();
        while let Some(name) = members.next_key()? {
            // The parsers of TOML and JSON find it first.
            if !insert(&mut entries, T::new(name, members.next_value()?)) {
                return Err(M::Error::custom("a name is written twice"));
            }
        }
        Ok(entries)
    }
}
