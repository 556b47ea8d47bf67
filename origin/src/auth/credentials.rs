//! Service tokens by client credentials (RFC 6749, section 4.4), which services there are,
//! and the check of their tokens on this service's own internal routes.
//!
//! Two services are part of the program, with secrets from the environment; an operator adds
//! others to the database, which keeps a secret as its SHA-256. A secret is 256 random bits
//! (or, from the environment, 32 characters at least): no dictionary has it, and a slow hash
//! would only let strangers keep us busy.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Json as Answer,
    extract::State,
    http::{HeaderMap, header},
    response::IntoResponse,
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use portcullis_client::secret::Secret;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Auth, Keyring, audit::Notes, token};
use crate::{
    clock::Clock,
    fields::is_service_name,
    http::{ApiError, Body, ServiceClaims, ServiceVerifier, credentials, openapi::refuses},
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

/// A service that is part of the program.
#[derive(Debug, Clone)]
pub struct BuiltIn {
    name: &'static str,
    secret: SecretHash,
    /// The one that it calls.
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

/// What a service asks for (RFC 6749, section 4.4.2).
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the form of what read_form reads")]
pub(super) struct TokenRequest {
    #[schema(pattern = "^client_credentials$", example = "client_credentials")]
    grant_type: String,
    /// The service that is to be called.
    #[schema(example = "user-service")]
    audience: String,
}

/// A token for a call to another service.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ServiceToken {
    #[schema(example = "eyJhbGciOiJSUzI1NiIs...")]
    access_token: String,
    #[schema(example = "Bearer")]
    token_type: &'static str,
    /// Seconds for which it is good.
    #[schema(example = 300)]
    expires_in: i64,
}

/// Gives a service a token by its name and secret.
#[utoipa::path(
    post,
    path = "/api/v1/auth/token",
    operation_id = "serviceToken",
    tag = "Internal",
    security(("serviceCredentials" = [])),
    request_body(content = TokenRequest, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "A token for that service.", body = ServiceToken),
        refuses::Trouble, refuses::Form, refuses::Credentials
    )
)]
pub(super) async fn issue(
    State(auth): State<Auth>,
    notes: Notes,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<impl IntoResponse, ApiError> {
    let (caller, audiences) = authenticate(&auth, &headers).await?;
    notes.identified();
    let form = read_form(&headers, &body)?;
    match form.get("grant_type").map(String::as_str) {
        Some("client_credentials") => {}
        Some(_) => {
            return Err(ApiError::bad_grant("unsupported_grant_type", "grant_type must be client_credentials"));
        }
        None => return Err(ApiError::bad_grant("invalid_request", "grant_type must be given")),
    }
    // RFC 6749, section 2.3: one way of saying who one is, and that was the header.
    if form.contains_key("client_secret") || form.contains_key("client_assertion") {
        return Err(ApiError::bad_grant("invalid_request", "Credentials belong into the Authorization header alone"));
    }
    // RFC 8707, section 2.
    let audience = form.get("audience").filter(|audience| audiences.contains(audience));
    let audience =
        audience.ok_or(ApiError::bad_grant("invalid_target", "audience is not a service that this one may call"))?;
    let answer = ServiceToken {
        access_token: token::service(&auth, &caller, audience)?,
        token_type: "Bearer",
        expires_in: limits::SERVICE_TOKEN_MS / 1000,
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], Answer(answer)))
}

/// The form's parameters. RFC 6749, section 3.2: none twice, and one without a value is
/// none.
fn read_form(headers: &HeaderMap, body: &[u8]) -> Result<HashMap<String, String>, ApiError> {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(ApiError::form_required());
    }
    let mut form = HashMap::new();
    for (name, value) in form_urlencoded::parse(body) {
        if form.insert(name.into_owned(), value.into_owned()).is_some() {
            return Err(ApiError::bad_grant("invalid_request", "A parameter is given more than once"));
        }
    }
    form.retain(|_, value| !value.is_empty());
    Ok(form)
}

/// Who asks, and whom it may call. A name that nobody has costs what a wrong secret does:
/// a look into the database, a hash and a comparison. The built-in two do without the
/// database, so that they can talk while it is away; their names are no secret.
async fn authenticate(auth: &Auth, headers: &HeaderMap) -> Result<(String, Vec<String>), ApiError> {
    let decoded = credentials(headers, "basic")
        .and_then(|text| STANDARD.decode(text).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or(INVALID_CLIENT)?;
    let (name, secret) = decoded.split_once(':').ok_or(INVALID_CLIENT)?;
    // The escaping of section 2.3.1 leaves a name as it is.
    if !is_service_name(name) {
        return Err(INVALID_CLIENT);
    }
    let (audiences, expected) = match auth.built_in.iter().find(|service| service.name == name) {
        Some(service) => (vec![service.audience.to_owned()], Some(service.secret)),
        None => match auth.services.find(name).await? {
            Some((service, expected)) => (service.audiences, Some(expected)),
            None => (Vec::new(), None),
        },
    };
    // Section 2.3.1 wants the secret escaped as in a form; many clients, ours among them,
    // send it as it is. Whoever knows the secret knows both.
    let known = expected.is_some();
    let expected = expected.unwrap_or_else(|| SecretHash::of(""));
    let is_plain = expected.is_of(secret);
    let is_escaped = expected.is_of(&unescape(secret));
    if known && (is_plain || is_escaped) { Ok((name.to_owned(), audiences)) } else { Err(INVALID_CLIENT) }
}

/// A form's value without its escapes. What would end it there is part of it here.
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
    /// The name is none.
    Name,
    /// The name is one that the program itself uses.
    Reserved,
    /// A service that it would call is none, or is the gateway.
    Audience,
    /// There is one of this name.
    Taken,
    /// There are too many, or it would call too many.
    TooMany,
    /// There is none of this name.
    Unknown,
    /// The system gives no random bytes.
    Random,
    /// The database failed.
    Store(sqlx::Error),
}

impl ServiceFault {
    /// A stable code.
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
            Self::Reserved => "auth-service, user-service and portcullis are names of the program's own",
            Self::Audience => "an audience is the name of a service, such as user-service, and not portcullis",
            Self::Taken => "there is a service of this name; remove it first to give it a new secret",
            Self::TooMany => "there may be 500 services, and each may call 32",
            Self::Unknown => "there is no service of this name",
            Self::Random => "the system gives no random bytes",
            Self::Store(_) => "the database cannot be read or written",
        })
    }
}

impl std::error::Error for ServiceFault {}

/// Adds a service and gives its secret: the only time that anybody sees it.
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
    // A token for the gateway would let it say which tokens are revoked.
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

/// Removes a service: it gets no more tokens, and the last that it got expires within
/// [`limits::SERVICE_TOKEN_MS`].
///
/// # Errors
/// [`ServiceFault`].
pub async fn remove_service(services: &Services, name: &str) -> Result<(), ServiceFault> {
    if services.remove(name).await.map_err(ServiceFault::Store)? { Ok(()) } else { Err(ServiceFault::Unknown) }
}

/// Checks service tokens with this process's own keys.
#[derive(Debug)]
pub(super) struct OwnKeys {
    pub(super) keyring: Arc<Keyring>,
    pub(super) clock: Clock,
}

impl ServiceVerifier for OwnKeys {
    async fn verify(&self, text: &str) -> Result<ServiceClaims, ApiError> {
        signing::verify(&self.keyring.public(), token::SERVICE_TYPE, text, self.clock.now())
            .map_err(|_| ApiError::unauthorized("service_token_invalid", "Invalid service token"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_a_secret_are_those_of_a_form() {
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
