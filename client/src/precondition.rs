//! Versions of resources as entity tags (RFC 9110, section 8.8.3). A change that names a version
//! applies to that version only: if another change came first, the service answers 412
//! ([`ErrorKind::Stale`]) and changes nothing.
//!
//! ```no_run
//! use portcullis_client::{
//!     AdminClient, ClientError, ProfileChange, admin::UserPatch, error::ErrorKind, precondition::Versioned,
//! };
//!
//! /// Appends to a user's last name without overwriting concurrent changes.
//! async fn append(admin: &dyn AdminClient, id: uuid::Uuid, suffix: &str) -> Result<(), ClientError> {
//!     const TRIES: usize = 3;
//!     for _ in 0..TRIES {
//!         let Versioned { value, version } = admin.read_user(id).await?;
//!         let last_name = Some(format!("{}{suffix}", value.profile.last_name));
//!         let profile = ProfileChange { last_name, ..ProfileChange::default() };
//!         let patch = UserPatch { profile, ..UserPatch::default() };
//!         match admin.update_user(id, &patch, Some(&version)).await {
//!             Err(error) if error.kind() == ErrorKind::Stale => {}
//!             result => return result.map(|_| ()),
//!         }
//!     }
//!     Err(ClientError::Invalid("the user changes too often"))
//! }
//! ```
//!
//! For other routes see [`ApiRequest::with_if_match`] and [`ApiRequest::with_if_none_match`].
//!
//! [`ErrorKind::Stale`]: crate::error::ErrorKind::Stale
//! [`ApiRequest::with_if_match`]: crate::request::ApiRequest::with_if_match
//! [`ApiRequest::with_if_none_match`]: crate::request::ApiRequest::with_if_none_match

use std::fmt;

use crate::error::ClientError;

/// Bytes of an entity tag: a version number has a few, a digest about 70.
const TAG_BYTES: usize = 128;

/// An entity tag: the version of one resource.
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
    /// Parses an entity tag with its quotes.
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

    /// Returns the tag with its quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the tag is weak. A weak tag cannot be the condition of a change (RFC 9110, section
    /// 13.1.1).
    pub fn is_weak(&self) -> bool {
        self.0.starts_with("W/")
    }
}

impl fmt::Display for EntityTag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A value and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The value.
    pub value: T,
    /// The version, for a change to this version only.
    pub version: EntityTag,
}

/// Result of reading a resource again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revalidated<T> {
    /// The resource has another version.
    Changed(Versioned<T>),
    /// The resource has the known version: 304.
    NotModified,
}

impl<T> Revalidated<T> {
    /// Returns the other version, if there is one.
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
