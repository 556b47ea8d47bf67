//! Small sets and maps as sorted lists. Each type of `BTreeMap` would make the gzipped Worker about 2 KB larger.

/// Adds an item unless the list has it.
pub(crate) fn insert<T: Ord>(list: &mut Vec<T>, item: T) {
    if let Err(index) = list.binary_search(&item) {
        list.insert(index, item);
    }
}

/// Returns the value of a key, which is added where it is missing.
///
/// `None` never happens.
pub fn entry<K: Ord, V: Default>(list: &mut Vec<(K, V)>, key: K) -> Option<&mut V> {
    let index = list.binary_search_by(|(known, _)| known.cmp(&key)).unwrap_or_else(|index| {
        list.insert(index, (key, V::default()));
        index
    });
    list.get_mut(index).map(|(_, value)| value)
}
