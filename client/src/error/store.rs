//! [`StoreError`]: failures of a session's store.

use std::fmt;

/// Why a session's store failed. Holds no path and no part of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process or task holds the lock for too long.
    Busy,
    /// The content is not a session.
    Malformed,
    /// Users other than the owner can read the file.
    Exposed,
    /// The store cannot be read or written.
    Io(std::io::ErrorKind),
    /// A failure of another implementation, in its own words.
    Other(&'static str),
}

impl StoreError {
    /// Whether a login resolves the error, by replacing the content.
    pub(crate) const fn is_resolved_by_login(self) -> bool {
        matches!(self, Self::Malformed | Self::Exposed)
    }

    /// Returns a stable code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Busy => "store_busy",
            Self::Malformed => "store_malformed",
            Self::Exposed => "store_exposed",
            Self::Io(_) | Self::Other(_) => "store_failed",
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => formatter.write_str("the session's store is locked by another process or task"),
            Self::Malformed => {
                formatter.write_str("the session's store does not hold a session; log in again, which replaces it")
            }
            Self::Exposed => formatter.write_str(
                "the session's file can be read by others; log in again, which ends that session and replaces the \
                 file, or chmod it to 600 if no other user can have read it",
            ),
            Self::Io(kind) => write!(formatter, "the session's store cannot be read or written: {kind}"),
            Self::Other(fault) => write!(formatter, "the session's store failed: {fault}"),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error.kind())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_of_a_store_says_what_to_look_at() {
        for (error, code, text) in [
            (StoreError::Busy, "store_busy", "locked"),
            (StoreError::Malformed, "store_malformed", "log in again, which replaces it"),
            (StoreError::Exposed, "store_exposed", "log in again, which ends that session"),
            (StoreError::Exposed, "store_exposed", "chmod it to 600"),
            (StoreError::Io(std::io::ErrorKind::StorageFull), "store_failed", "storage"),
            (StoreError::Other("the card is not there"), "store_failed", "the card is not there"),
        ] {
            assert_eq!(error.code(), code);
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
