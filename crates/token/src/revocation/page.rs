//! Pages of the revocation log.

use serde::{Deserialize, Serialize, Serializer};

use super::{key::RevocationKey, limits};
use crate::time::UnixMillis;

/// One revocation in the log. In JSON an array of its members, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct RevocationEntry {
    /// What is revoked.
    pub key: RevocationKey,
    /// Revokes tokens issued up to this second; [`crate::limits::DATE_SECS`] for all.
    pub issued_until: u64,
    /// After this second every such token has expired, and the entry is removed.
    pub keep_until: u64,
}

impl Serialize for RevocationEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.key, self.issued_until, self.keep_until).serialize(serializer)
    }
}

/// A part of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPage {
    /// Time of the log's clock when the page was read.
    pub as_of: UnixMillis,
    /// Number of the newest entry; entries count up.
    pub newest: u64,
    /// The page has every entry from this number on; 0: the whole log.
    pub from: u64,
    /// Whether the log has more entries than a copy may hold. The page is then empty.
    #[serde(default)]
    pub overflows: bool,
    /// The entries, unordered.
    pub entries: Vec<RevocationEntry>,
}

impl LogPage {
    /// Encodes as JSON.
    pub fn to_json(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }

    /// Decodes the form of [`LogPage::to_json`].
    pub fn from_json(text: &str) -> Option<Self> {
        let page: Self = serde_json::from_slice(text.as_bytes()).ok()?;
        (page.entries.len() <= limits::COPY_ENTRIES).then_some(page)
    }
}
