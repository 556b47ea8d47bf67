//! API keys: programs send them to the gateway in place of tokens. The database and the gateway store the digest alone.

use portcullis_client::secret::Secret;
use portcullis_token::{ApiKey as KeyText, limits::API_KEY_RANDOM_BYTES};
use uuid::Uuid;

use crate::{
    clock::Clock,
    fields::Check,
    http::FieldError,
    ids, limits,
    store::{
        ApiKeys,
        api_keys::{Addition, ApiKey},
    },
};

/// A key to create, as it was asked for.
#[derive(Debug, Clone, Default)]
pub struct KeyRequest {
    /// Name.
    pub name: Option<String>,
    /// Id of the account.
    pub owner: Option<String>,
    /// Scopes.
    pub scopes: Option<Vec<String>>,
    /// Days for which it is valid.
    pub expires_in_days: Option<i64>,
}

/// A new key.
#[derive(Debug)]
pub struct CreatedKey {
    /// What is stored of it.
    pub key: ApiKey,
    /// Its text, which cannot be read again.
    pub text: Secret,
}

/// Why a key cannot be created or ended.
#[derive(Debug)]
pub enum ApiKeyFault {
    /// Fields are invalid.
    Invalid(Vec<FieldError>),
    /// There is no account with the owner's id.
    UnknownOwner,
    /// The account has too many keys.
    TooMany,
    /// There is no such key.
    Unknown,
    /// The system gives no random bytes.
    Random,
    /// The database failed.
    Store(sqlx::Error),
}

impl ApiKeyFault {
    /// Returns the stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) | Self::UnknownOwner => "fields_invalid",
            Self::TooMany => "too_many",
            Self::Unknown => "not_found",
            Self::Random => "internal",
            Self::Store(_) => "store_unavailable",
        }
    }
}

impl std::fmt::Display for ApiKeyFault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Invalid(fields) => {
                let texts: Vec<String> =
                    fields.iter().map(|FieldError { field, message }| format!("{field} {message}")).collect();
                formatter.write_str(&texts.join("; "))
            }
            Self::UnknownOwner => formatter.write_str("there is no account with the owner's id"),
            Self::TooMany => formatter.write_str("an account has at most 100 keys; end one of them first"),
            Self::Unknown => formatter.write_str("there is no API key with this id"),
            Self::Random => formatter.write_str("the system gives no random bytes"),
            Self::Store(_) => formatter.write_str("the database cannot be read or written"),
        }
    }
}

impl std::error::Error for ApiKeyFault {}

const _: () = assert!(limits::API_KEYS == 100, "a text names the limit");

impl KeyRequest {
    /// Validates the fields. Returns the key without times, and its lifetime in milliseconds.
    fn check(self) -> Result<(ApiKey, i64), ApiKeyFault> {
        let mut check = Check::default();
        check.required("name", self.name.as_deref().is_some_and(|name| !name.trim().is_empty()));
        let name = check.name("name", self.name.as_deref());
        let owner = check.id("owner", self.owner.as_deref());
        let mut scopes = self.scopes.unwrap_or_default();
        scopes.sort_unstable();
        scopes.dedup();
        if !limits::API_KEY_SCOPES.contains(&scopes.len()) || !scopes.iter().all(|scope| is_scope(scope)) {
            check.reject(
                "scopes",
                "must be 1 to 32 scopes of at most 64 characters without blanks, quotes and backslashes",
            );
        }
        let days = self.expires_in_days.unwrap_or(limits::API_KEY_DAYS_DEFAULT);
        if !limits::API_KEY_DAYS.contains(&days) {
            check.reject("expires_in_days", "must be 1 to 366");
        }
        let faults = check.faults();
        if !faults.is_empty() {
            return Err(ApiKeyFault::Invalid(faults));
        }
        let key = ApiKey { id: Uuid::nil(), owner, name, scopes, created_at: 0, expires_at: 0 };
        Ok((key, days.saturating_mul(24 * 60 * 60 * 1000)))
    }
}

/// Returns whether a text is a scope (RFC 6749, section 3.3).
fn is_scope(text: &str) -> bool {
    let is_part = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    limits::SCOPE_BYTES.contains(&text.len()) && text.bytes().all(is_part)
}

/// Creates a key. The gateway accepts it once it is pushed, within seconds.
///
/// # Errors
/// [`ApiKeyFault`].
pub async fn create_api_key(
    store: &ApiKeys,
    request: KeyRequest,
    prefix: &str,
    clock: &Clock,
) -> Result<CreatedKey, ApiKeyFault> {
    let (mut key, lifetime_ms) = request.check()?;
    let mut random = [0; API_KEY_RANDOM_BYTES];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| ApiKeyFault::Random)?;
    let text = KeyText::new(prefix, random);
    key.created_at = clock.now();
    key.expires_at = key.created_at.saturating_add(lifetime_ms);
    key.id = ids::fresh(key.created_at).ok_or(ApiKeyFault::Random)?;
    match store.add(&key, &text.digest(), clock).await.map_err(ApiKeyFault::Store)? {
        Addition::Done => Ok(CreatedKey { key, text: Secret::new(text.as_str().to_owned()) }),
        Addition::UnknownOwner => Err(ApiKeyFault::UnknownOwner),
        Addition::TooMany => Err(ApiKeyFault::TooMany),
    }
}

/// Ends a key. The gateway refuses it once this is pushed, within seconds.
///
/// # Errors
/// [`ApiKeyFault`].
pub async fn end_api_key(store: &ApiKeys, id: Uuid, clock: &Clock) -> Result<(), ApiKeyFault> {
    if store.end(id, clock).await.map_err(ApiKeyFault::Store)? { Ok(()) } else { Err(ApiKeyFault::Unknown) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_one_of_rfc_6749() {
        for (text, expected) in [
            ("users:read", true),
            ("https://api.example.com/read", true),
            ("!", true),
            ("~", true),
            ("", false),
            ("a b", false),
            ("a\"b", false),
            ("a\\b", false),
            ("ä", false),
            ("a\n", false),
            ("a\u{7f}", false),
        ] {
            assert_eq!(is_scope(text), expected, "{text:?}");
        }
        assert!(is_scope(&"a".repeat(64)) && !is_scope(&"a".repeat(65)));
    }
}
