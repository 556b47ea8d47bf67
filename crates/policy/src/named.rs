//! Tables by name, as lists whose entries know their name: `[upstreams.shop]` is an entry of
//! `upstreams` with the name `shop`. In the order of the names.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, MapAccess, Visitor},
};

/// An entry of such a table.
pub(crate) trait Named {
    /// Returns the name.
    fn name(&self) -> &str;

    /// Returns the entry with another name.
    fn with_name(self, name: String) -> Self;
}

/// Finds an entry of such a table.
pub(crate) fn find<'a, T: Named>(entries: &'a [T], name: &str) -> Option<&'a T> {
    entries.binary_search_by(|entry| entry.name().cmp(name)).ok().and_then(|index| entries.get(index))
}

pub(crate) fn serialize<T: Named + Serialize, S: Serializer>(entries: &[T], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(entries.iter().map(|entry| (entry.name(), entry)))
}

pub(crate) fn deserialize<'de, T: Named + Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_map(Entries(PhantomData))
}

struct Entries<T>(PhantomData<T>);

impl<'de, T: Named + Deserialize<'de>> Visitor<'de> for Entries<T> {
    type Value = Vec<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a map")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<Self::Value, M::Error> {
        let mut entries: Vec<T> = Vec::new();
        while let Some((name, entry)) = members.next_entry::<String, T>()? {
            let place = entries.binary_search_by(|known| known.name().cmp(&name));
            let entry = entry.with_name(name);
            match place {
                // The parsers of TOML and JSON find it first.
                Ok(_) => return Err(M::Error::custom("a name is written twice")),
                Err(index) => entries.insert(index, entry),
            }
        }
        Ok(entries)
    }
}
