//! Direct mode (`AUTH_DIRECT=loopback`): middleware of the routes that are also served to loopback
//! callers without the gateway. Their tokens are verified here: the signature with the service's
//! own keys, `typ`, `iss`, `aud`, the times, and whether the session is live.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};

use super::{Auth, access::REVOKED, tokens};
use crate::{
    http::{self, Admission, ApiError},
    signing::BadToken,
};

/// Middleware of public routes: admits requests of the gateway, and in direct mode those of
/// loopback callers.
pub(super) async fn admit_anyone(State(auth): State<Auth>, request: Request, next: Next) -> Result<Response, ApiError> {
    match http::admit(&auth.gateway, &request)? {
        Admission::Gateway => Ok(next.run(request).await),
        Admission::Direct(address) => Ok(http::run_direct(request, next, address, None).await),
    }
}

/// Middleware of users' routes: admits requests of the gateway, and in direct mode those of
/// loopback callers with a valid access token.
pub(super) async fn admit_user(State(auth): State<Auth>, request: Request, next: Next) -> Result<Response, ApiError> {
    match http::admit(&auth.gateway, &request)? {
        Admission::Gateway => Ok(next.run(request).await),
        Admission::Direct(address) => {
            let user = verify(&auth, http::bearer(request.headers())?).await?;
            Ok(http::run_direct(request, next, address, Some(user)).await)
        }
    }
}

/// Verifies an access token and returns its user.
///
/// # Errors
/// 401 with the gateway's codes; 503.
async fn verify(auth: &Auth, token: &str) -> Result<http::AuthenticatedUser, ApiError> {
    let now = auth.clock.now();
    let claims = tokens::verify_access(auth, token, now).map_err(|fault| match fault {
        BadToken::Expired => ApiError::token_expired(),
        BadToken::UnknownKey | BadToken::Invalid => ApiError::invalid_token(),
    })?;
    // A bound token is no bearer token, and no proofs are checked here.
    if claims.cnf.is_some() {
        return Err(ApiError::invalid_token());
    }
    if !auth.sessions.is_live_for(claims.sid, claims.sub, claims.iat, now).await? {
        return Err(REVOKED);
    }
    Ok(http::AuthenticatedUser { id: claims.sub, roles: claims.roles, session_id: Some(claims.sid) })
}
