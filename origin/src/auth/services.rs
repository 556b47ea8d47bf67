//! Services and their credentials: the two of this program, with secrets from the environment, and
//! those that an operator adds to the database, which stores a secret's SHA-256.
//!
//! A secret has 256 random bits (or, from the environment, at least 32 characters). No dictionary
//! contains it, so a slow hash would only let attackers keep the service busy.

use std::sync::Arc;

use axum::http::HeaderMap;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use portcullis_client::{extract::BadServiceToken, jwks::TokenError, secret::Secret};

use super::{Auth, Keyring, tokens};
use crate::{
    clock::Clock,
    fields::is_service_name,
    http::{ApiError, ServiceClaims, ServiceVerifier, credentials},
    limits,
    secret_hash::SecretHash,
    signing,
    store::{
        Services,
        services::{Addition, Service},
    },
    users,
};

const INVALID_CLIENT: ApiError = ApiError::bad_client("Invalid service credentials");

/// A service of this program.
#[derive(Debug, Clone)]
pub struct BuiltIn {
    name: &'static str,
    secret: SecretHash,
    /// The service that it calls.
    audience: &'static str,
}

/// The two services of this program, which call each other.
pub fn built_in(auth_secret: &Secret, users_secret: &Secret) -> Arc<[BuiltIn]> {
    [
        BuiltIn { name: super::SERVICE, secret: SecretHash::of(auth_secret.expose()), audience: users::SERVICE },
        BuiltIn { name: users::SERVICE, secret: SecretHash::of(users_secret.expose()), audience: super::SERVICE },
    ]
    .into()
}

/// Authenticates a service by its Basic credentials, and returns its name and the services that
/// it may call.
///
/// An unknown name costs the same as a wrong secret: a query, a hash and a comparison. The built-in
/// services need no query, so that they can call each other while the database is down; their names
/// are no secret.
pub(super) async fn authenticate(auth: &Auth, headers: &HeaderMap) -> Result<(String, Vec<String>), ApiError> {
    let decoded = credentials(headers, "basic")
        .and_then(|text| STANDARD.decode(text).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or(INVALID_CLIENT)?;
    let (name, secret) = decoded.split_once(':').ok_or(INVALID_CLIENT)?;
    // Both are form-encoded (RFC 6749, section 2.3.1), and some clients escape the hyphen of a name.
    let name = unescape(name);
    if !is_service_name(&name) {
        return Err(INVALID_CLIENT);
    }
    let (audiences, expected) = match auth.built_in.iter().find(|service| service.name == name) {
        Some(service) => (vec![service.audience.to_owned()], Some(service.secret)),
        None => match auth.services.find(&name).await? {
            Some((service, expected)) => (service.audiences, Some(expected)),
            None => (Vec::new(), None),
        },
    };
    // Many clients, `portcullis-client` included, send the secret as it is.
    let known = expected.is_some();
    let expected = expected.unwrap_or_else(|| SecretHash::of(""));
    let is_plain = expected.is_of(secret);
    let is_escaped = expected.is_of(&unescape(secret));
    if known && (is_plain || is_escaped) { Ok((name, audiences)) } else { Err(INVALID_CLIENT) }
}

/// Decodes a form-encoded value; an `&` is part of it.
fn unescape(text: &str) -> String {
    let text = text.replace('&', "%26");
    form_urlencoded::parse(format!("={text}").as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

/// Why a service cannot be added or removed.
#[derive(Debug)]
pub enum ServiceFault {
    /// The name is not valid.
    Name,
    /// The program itself uses the name.
    Reserved,
    /// An audience is not a valid name, or is the gateway.
    Audience,
    /// Another service has the name.
    Taken,
    /// Too many services, or too many audiences.
    TooMany,
    /// No service has the name.
    Unknown,
    /// The system gives no random bytes.
    Random,
    /// The database failed.
    Store(sqlx::Error),
}

impl ServiceFault {
    /// Returns the stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Name => "name_invalid",
            Self::Reserved => "name_reserved",
            Self::Audience => "audience_invalid",
            Self::Taken => "name_taken",
            Self::TooMany => "too_many",
            Self::Unknown => "not_found",
            Self::Random => "internal",
            Self::Store(_) => "store_unavailable",
        }
    }
}

impl std::fmt::Display for ServiceFault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Name => {
                "a service's name has 2 to 63 lower-case letters, digits and hyphens, and begins with a letter"
            }
            Self::Reserved => "auth-service, user-service and portcullis are reserved names",
            Self::Audience => "an audience is the name of a service, such as user-service, and not portcullis",
            Self::Taken => "a service with this name exists; remove it first to give it a new secret",
            Self::TooMany => "at most 500 services, and 32 audiences each, are allowed",
            Self::Unknown => "there is no service with this name",
            Self::Random => "the system gives no random bytes",
            Self::Store(_) => "the database cannot be read or written",
        })
    }
}

impl std::error::Error for ServiceFault {}

/// Adds a service and returns its secret, which cannot be read again.
///
/// # Errors
/// [`ServiceFault`].
pub async fn add_service(
    services: &Services,
    name: &str,
    audiences: &[String],
    clock: &Clock,
) -> Result<Secret, ServiceFault> {
    if !is_service_name(name) {
        return Err(ServiceFault::Name);
    }
    if [super::SERVICE, users::SERVICE, super::GATEWAY].contains(&name) {
        return Err(ServiceFault::Reserved);
    }
    let mut audiences = audiences.to_vec();
    audiences.sort();
    audiences.dedup();
    // A token for the gateway would allow the service to push revocations.
    let is_good = |audience: &String| is_service_name(audience) && audience != super::GATEWAY;
    if audiences.is_empty() || !audiences.iter().all(is_good) {
        return Err(ServiceFault::Audience);
    }
    if audiences.len() > limits::SERVICE_AUDIENCES {
        return Err(ServiceFault::TooMany);
    }
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| ServiceFault::Random)?;
    let secret = Secret::new(URL_SAFE_NO_PAD.encode(bytes));
    let service = Service { name: name.to_owned(), audiences, created_at: clock.now() };
    match services.add(&service, SecretHash::of(secret.expose())).await.map_err(ServiceFault::Store)? {
        Addition::Done => Ok(secret),
        Addition::Taken => Err(ServiceFault::Taken),
        Addition::TooMany => Err(ServiceFault::TooMany),
    }
}

/// Removes a service: it obtains no more tokens, and its last one expires within
/// [`limits::SERVICE_TOKEN_MS`].
///
/// # Errors
/// [`ServiceFault`].
pub async fn remove_service(services: &Services, name: &str) -> Result<(), ServiceFault> {
    if services.remove(name).await.map_err(ServiceFault::Store)? { Ok(()) } else { Err(ServiceFault::Unknown) }
}

/// Verifies service tokens with the keys of this process.
#[derive(Debug)]
pub(super) struct OwnKeys {
    pub(super) keyring: Arc<Keyring>,
    pub(super) clock: Clock,
}

impl ServiceVerifier for OwnKeys {
    type Error = BadServiceToken;

    async fn verify(&self, text: &str) -> Result<ServiceClaims, BadServiceToken> {
        signing::verify(&self.keyring.public(), tokens::SERVICE_TYPE, text, self.clock.now())
            .map_err(|_| BadServiceToken(TokenError::Invalid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_decoded_as_a_form_value() {
        for (text, expected) in [
            ("plain", "plain"),
            ("a%2Bb+c", "a+b c"),
            ("a&b=c", "a&b=c"),
            ("100%", "100%"),
            ("%zz", "%zz"),
            ("=", "="),
            ("", ""),
        ] {
            assert_eq!(unescape(text), expected, "{text:?}");
        }
    }
}
