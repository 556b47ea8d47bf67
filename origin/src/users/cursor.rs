//! Cursors of lists: the position of the last row of a page, opaque to clients. A page begins after
//! a row instead of at a number, so that rows that are made or deleted meanwhile neither repeat nor
//! hide another one.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

/// A position in an order: the key of the order, and the id, which makes it unique. The key's type
/// keeps the cursor of one order from being used in another.
pub(super) type Position<K> = (K, String);

/// Writes a cursor.
pub(super) fn write<K: Serialize>(key: K, id: Uuid) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_string(&(key, id)).unwrap_or_default())
}

/// Reads a cursor; `None` when this order wrote no such text.
pub(super) fn read<K: DeserializeOwned>(cursor: &str) -> Option<Position<K>> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let position: Position<K> = serde_json::from_slice(&bytes).ok()?;
    Uuid::parse_str(&position.1).is_ok().then_some(position)
}
