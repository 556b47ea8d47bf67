//! The log as it travels: a part of it, when that was true, and what it covers.

use serde::{Deserialize, Serialize};

use super::{RevocationKey, limits};
use crate::UnixMillis;

/// One revocation in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevocationEntry {
    /// What is revoked.
    pub key: RevocationKey,
    /// Tokens issued up to this second are; all, where it is the end of time.
    pub issued_until: u64,
    /// After this second none of them can be alive, and the entry goes.
    pub keep_until: u64,
}

/// A part of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPage {
    /// The log's clock when it was read.
    pub as_of: UnixMillis,
    /// Number of the newest entry; entries count up.
    pub newest: u64,
    /// Every entry from this number on is in the page. 0 for the whole log.
    pub from: u64,
    /// The log has more entries than a copy may hold, and the page does not have them.
    pub overflows: bool,
    /// In no order.
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
    /// As JSON.
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

    /// From [`LogPage::to_json`]'s form; `None` for anything else.
    pub fn from_json(text: &str) -> Option<Self> {
        let wire: Wire = serde_json::from_slice(text.as_bytes()).ok()?;
        if wire.entries.len() > limits::COPY_ENTRIES {
            return None;
        }
        let entry = |(mark, issued_until, keep_until): &(String, u64, u64)| {
            Some(RevocationEntry {
                key: RevocationKey::from_text(mark)?,
                issued_until: *issued_until,
                keep_until: *keep_until,
            })
        };
        let entries = wire.entries.iter().map(entry).collect::<Option<Vec<_>>>()?;
        Some(Self { as_of: wire.as_of, newest: wire.newest, from: wire.from, overflows: wire.overflows, entries })
    }
}
