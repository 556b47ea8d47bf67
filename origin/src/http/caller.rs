//! The user and the client of a request, from the gateway's assertion and headers or, in direct mode,
//! from the verified token and the connection. No other header identifies a caller.

use std::{convert::Infallible, net::IpAddr};

use axum::{
    extract::FromRequestParts,
    http::{Extensions, HeaderMap, header, request::Parts},
};
use portcullis_client::{assertion::AssertedUser, extract::Verdict};
use uuid::Uuid;

use portcullis_redact::redact;

use super::ApiError;

/// The authenticated user of a request. Extracting one from a request without a user is 401.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthenticatedUser {
    /// User id.
    pub id: Uuid,
    /// Roles that the token carries.
    pub roles: Vec<String>,
    /// Session id.
    pub session_id: Option<Uuid>,
}

impl AuthenticatedUser {
    /// Returns whether the user has a role.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|held| held == role)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for AuthenticatedUser {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        if let Some(caller) = parts.extensions.get::<DirectCaller>() {
            return caller.user.clone().ok_or(ApiError::credentials_missing());
        }
        let user = <AssertedUser as FromRequestParts<S>>::from_request_parts(parts, state).await?;
        Ok(Self {
            id: Uuid::parse_str(&user.id).map_err(|_| ApiError::invalid_token())?,
            roles: user.roles,
            session_id: user.session_id.as_deref().and_then(|id| Uuid::parse_str(id).ok()),
        })
    }
}

/// The client of a request, as the gateway describes it. Empty for a request without an assertion,
/// whose headers are untrusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    /// Network address.
    pub address: Option<IpAddr>,
    /// Redacted `User-Agent`; empty if there is none.
    pub user_agent: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(if has_assertion(&parts.extensions) {
            Self { address: forwarded_address(&parts.headers), user_agent: user_agent(&parts.headers) }
        } else if let Some(caller) = parts.extensions.get::<DirectCaller>() {
            caller.client.clone()
        } else {
            Self::default()
        })
    }
}

impl Client {
    /// The client of a direct request, by the peer address of its connection.
    pub(super) fn direct(headers: &HeaderMap, address: IpAddr) -> Self {
        Self { address: Some(address), user_agent: user_agent(headers) }
    }
}

/// A request that direct mode admitted, in its extensions.
#[derive(Debug, Clone)]
pub(super) struct DirectCaller {
    /// The user of the verified access token; `None` on public routes.
    pub(super) user: Option<AuthenticatedUser>,
    /// The client.
    pub(super) client: Client,
}

/// Returns whether a request carries a valid assertion of the gateway.
pub(super) fn has_assertion(extensions: &Extensions) -> bool {
    extensions.get::<Verdict>().is_some_and(|verdict| verdict.assertion().is_some())
}

/// Returns the last address of the last `X-Forwarded-For`, which the nearest proxy wrote.
fn forwarded_address(headers: &HeaderMap) -> Option<IpAddr> {
    let list = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
    list.rsplit(',').next()?.trim().parse().ok()
}

fn user_agent(headers: &HeaderMap) -> String {
    let text = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    text.map(redact).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_client_address_is_the_last_one_of_the_last_header() {
        for (values, expected) in [
            (&[][..], None),
            (&["192.0.2.1"], Some("192.0.2.1")),
            (&["10.0.0.1, 192.0.2.1"], Some("192.0.2.1")),
            (&["10.0.0.1", "192.0.2.1"], Some("192.0.2.1")),
            (&["2001:db8:85a3:1234:1234:8a2e:1370:7334"], Some("2001:db8:85a3:1234:1234:8a2e:1370:7334")),
            (&["192.0.2.1,"], None),
            (&["192.0.2.1:80"], None),
            (&["unknown"], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("x-forwarded-for", HeaderValue::from_static(value));
            }
            let expected = expected.map(|text| text.parse::<IpAddr>().unwrap());
            assert_eq!(forwarded_address(&headers), expected, "{values:?}");
        }
    }
}
