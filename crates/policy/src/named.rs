//! Tables by name, as lists whose entries know their name: `[upstreams.shop]` is an entry of
//! `upstreams` with the name `shop`. In the order of the names.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

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
    let entries = BTreeMap::<String, T>::deserialize(deserializer)?;
    Ok(entries.into_iter().map(|(name, entry)| entry.with_name(name)).collect())
}
