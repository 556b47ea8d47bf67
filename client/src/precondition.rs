//! Versions of what is read, as entity tags (RFC 9110, section 8.8.3), and what comes with
//! them. By its version a change is made to what its author has seen and to nothing later:
//! of two who read the same, the second is told (412, [`ErrorKind::Stale`]) and undoes
//! nobody's work.
//!
//! [`ErrorKind::Stale`]: crate::error::ErrorKind::Stale

use std::fmt;

use crate::error::ClientError;

/// Bytes of an entity tag: a version's has a few, a digest's some 70.
const TAG_BYTES: usize = 128;

/// An entity tag: names one version of one thing.
///
/// ```
/// use portcullis_client::precondition::EntityTag;
///
/// assert_eq!(EntityTag::parse("\"7\"")?.as_str(), "\"7\"");
/// assert!(EntityTag::parse("7").is_err(), "the quotes are part of it");
/// # Ok::<(), portcullis_client::ClientError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EntityTag(String);

impl EntityTag {
    /// Reads one, with its quotes, such as one that was kept in a form or a file.
    ///
    /// # Errors
    /// [`ClientError::Invalid`]
    pub fn parse(text: &str) -> Result<Self, ClientError> {
        let opaque = text.strip_prefix("W/").unwrap_or(text);
        let inner = opaque.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let is_good = |inner: &str| inner.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
        if text.len() <= TAG_BYTES && inner.is_some_and(is_good) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ClientError::Invalid("an entity tag is short and in quotes"))
        }
    }

    /// As it is sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it names what means the same and may be other bytes. No change can be
    /// bound to such a one (RFC 9110, section 13.1.1).
    pub fn is_weak(&self) -> bool {
        self.0.starts_with("W/")
    }
}

impl fmt::Display for EntityTag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Something and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// It.
    pub value: T,
    /// Its version, for the change that is to be made to this one alone.
    pub version: EntityTag,
}

/// What becomes of reading again what one has in some version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revalidated<T> {
    /// It is another by now.
    Changed(Versioned<T>),
    /// It is the version that one has: 304.
    NotModified,
}

impl<T> Revalidated<T> {
    /// The other version, if it is another.
    pub fn changed(self) -> Option<Versioned<T>> {
        match self {
            Self::Changed(versioned) => Some(versioned),
            Self::NotModified => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entity_tag_is_quoted_short_and_of_one_line() {
        let longest = format!("\"{}\"", "x".repeat(126));
        for good in ["\"1\"", "\"\"", "\"a,b\"", "W/\"1\"", "\"*\"", longest.as_str()] {
            assert_eq!(EntityTag::parse(good).unwrap().to_string(), good);
        }
        let too_long = format!("\"{}\"", "x".repeat(127));
        for bad in [
            "",
            "\"",
            "1",
            "*",
            "\"1",
            "1\"",
            "\"a\"b\"",
            "\"1\", \"2\"",
            "\"a b\"",
            "\"\r\n\"",
            "\"ä\"",
            "w/\"1\"",
            &too_long,
        ] {
            assert!(EntityTag::parse(bad).is_err(), "{bad}");
        }
        let weak = ["\"1\"", "W/\"1\"", "\"W/\""].map(|text| EntityTag::parse(text).unwrap().is_weak());
        assert_eq!(weak, [false, true, false]);
    }
}
