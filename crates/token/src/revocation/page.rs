//! Pages of the revocation log.

use serde::{Deserialize, Serialize};

use super::{key::RevocationKey, limits};
use crate::time::UnixMillis;

/// One revocation in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevocationEntry {
    /// What is revoked.
    pub key: RevocationKey,
    /// Revokes tokens issued up to this second; [`crate::limits::DATE_SECS`] for all.
    pub issued_until: u64,
    /// After this second every such token has expired, and the entry is removed.
    pub keep_until: u64,
}

/// A part of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPage {
    /// Time of the log's clock when the page was read.
    pub as_of: UnixMillis,
    /// Number of the newest entry; entries count up.
    pub newest: u64,
    /// The page has every entry from this number on; 0: the whole log.
    pub from: u64,
    /// Whether the log has more entries than a copy may hold. The page is then empty.
    pub overflows: bool,
    /// The entries, unordered.
    pub entries: Vec<RevocationEntry>,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    as_of: UnixMillis,
    newest: u64,
    from: u64,
    #[serde(default)]
    overflows: bool,
    entries: Vec<(String, u64, u64)>,
}

impl LogPage {
    /// Encodes as JSON.
    pub fn to_json(&self) -> Option<String> {
        let row = |entry: &RevocationEntry| (entry.key.to_text(), entry.issued_until, entry.keep_until);
        let wire = Wire {
            as_of: self.as_of,
            newest: self.newest,
            from: self.from,
            overflows: self.overflows,
            entries: self.entries.iter().map(row).collect(),
        };
        serde_json::to_string(&wire).ok()
    }

    /// Decodes the form of [`LogPage::to_json`].
    pub fn from_json(text: &str) -> Option<Self> {
        let wire: Wire = serde_json::from_slice(text.as_bytes()).ok()?;
        if wire.entries.len() > limits::COPY_ENTRIES {
            return None;
        }
        let entry = |(key, issued_until, keep_until): &(String, u64, u64)| {
            Some(RevocationEntry {
                key: RevocationKey::from_text(key)?,
                issued_until: *issued_until,
                keep_until: *keep_until,
            })
        };
        let entries = wire.entries.iter().map(entry).collect::<Option<Vec<_>>>()?;
        Some(Self { as_of: wire.as_of, newest: wire.newest, from: wire.from, overflows: wire.overflows, entries })
    }
}
