//! What the policy alone decides about a request: where it goes, whether its caller may enter, and
//! status and code of each refusal. The gateway and `npm run check` both decide by this module, in
//! this order:
//!
//! 1. [`Target::parse`]: the canonical path (400, 414).
//! 2. [`Destination::find`]: one of the gateway's own endpoints, or a route (400, 404, 405).
//! 3. [`authorize`]: whether the caller may enter the route (403; 401 if another login suffices).
//!
//! The gateway performs the I/O between these steps: limits, authentication, revocation.

use portcullis_token::{EventForm, Identity};

use crate::{
    access::{Circumstances, Principal, StepUp, permits},
    event_request::events_at,
    model::{Policy, Route},
    reserved::{API_KEYS_PATH, JWKS_PATH, PAGE_PATH, PAGE_READS, PUSH_PATH, ROLLBACK_PATH},
    table::{Match, Miss, Table},
    target::{BadTarget, Target},
};

/// Defines the refusals: name, fields, status, stable code, and the text for the client.
macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident $({ $(#[$field_doc:meta])* $field:ident: $type:ty })? = $status:literal $code:literal $text:literal,)+) => {
        /// A refusal that the policy alone decides.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Refusal {
            $($(#[$doc])* $name $({ $(#[$field_doc])* $field: $type })?,)+
        }

        impl Refusal {
            /// The codes of all refusals.
            pub const CODES: &[&str] = &[$($code),+];

            /// Returns status, stable code, and text for the client.
            pub const fn wording(&self) -> (u16, &'static str, &'static str) {
                match self {
                    $(Self::$name $({ $field: _ })? => ($status, $code, $text),)+
                }
            }
        }
    };
}

refusals! {
    /// The path has more than one reading, or its route does not forward such paths.
    TargetAmbiguous = 400 "path_ambiguous" "The path is ambiguous; send it in canonical form",
    /// The path or the query exceeds its bound.
    TargetTooLong = 414 "path_too_long" "The path or the query is too long",
    /// No route or endpoint has this path.
    RouteUnknown = 404 "route_unknown" "No such path",
    /// The path does not support the method.
    MethodNotAllowed {
        /// Value for `Allow`.
        allow: String
    } = 405 "method_not_allowed" "The path does not support this method",
    /// The route needs a token, and the request has none.
    CredentialsMissing = 401 "credentials_missing" "Authorization header required",
    /// The route's rule does not let the caller in.
    PermissionMissing {
        /// Scopes that the caller's token would need, with spaces between; empty if scopes do not suffice.
        scopes: String
    } = 403 "rights_missing" "Insufficient permissions",
    /// The route's rule asks for a more recent login, or one of another class.
    LoginInsufficient {
        /// The login that suffices.
        step_up: StepUp
    } = 401 "authentication_insufficient" "A more recent or a stronger login is required",
}

impl From<BadTarget> for Refusal {
    fn from(bad: BadTarget) -> Self {
        match bad {
            BadTarget::TooLong => Self::TargetTooLong,
            BadTarget::Ambiguous => Self::TargetAmbiguous,
        }
    }
}

impl From<Miss> for Refusal {
    fn from(miss: Miss) -> Self {
        match miss {
            Miss::Path => Self::RouteUnknown,
            Miss::Ambiguous => Self::TargetAmbiguous,
            Miss::Method { allow, .. } => Self::MethodNotAllowed { allow },
        }
    }
}

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
pub enum Destination {
    /// To the gateway itself; [`Endpoint::find`] says where.
    Endpoint,
    /// To an upstream.
    Route(Match),
}

impl Destination {
    /// Finds the destination of a canonical target. The gateway's own paths come first, so that no
    /// catch-all reaches them.
    ///
    /// # Errors
    /// [`Miss`].
    pub fn find(table: &Table, method: &str, target: &Target) -> Result<Self, Miss> {
        match (table.is_own_path(target.path()), target.is_plain()) {
            (true, true) => Ok(Self::Endpoint),
            (true, false) => Err(Miss::Ambiguous),
            (false, _) => table.find(method, target).map(Self::Route),
        }
    }
}

/// One of the gateway's own endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// Liveness.
    Health,
    /// Readiness.
    Ready,
    /// State of upstreams and issuers.
    Status,
    /// Metrics, where the deployment has them.
    Metrics,
    /// The operators' page, where the deployment has operators. It holds no data.
    Page,
    /// What the page reads, and the rollback of the policy: for operators alone.
    Operation,
    /// Pushes of revocations.
    Push,
    /// Pushes of API keys.
    ApiKeys,
    /// Public keys of assertions.
    AssertionKeys,
    /// Security events of a form, of the policy's issuer with this index.
    Events(EventForm, usize),
    /// Metadata of the policy's resource with this index.
    Metadata(usize),
}

impl Endpoint {
    /// Finds the endpoint of a request to one of the gateway's own paths.
    ///
    /// # Errors
    /// [`Refusal::RouteUnknown`] and [`Refusal::MethodNotAllowed`].
    pub fn find(policy: &Policy, method: &str, path: &str) -> Result<Self, Refusal> {
        let is_read = matches!(method, "GET" | "HEAD");
        let takes_pushes = || policy.issuers.iter().any(|issuer| issuer.revocations_from.is_some());
        let publishes_keys =
            || policy.upstreams.iter().any(|upstream| upstream.assertion.algorithm.asymmetric().is_some());
        let (endpoint, is_allowed, allow) = match path {
            "/health" => (Self::Health, is_read, "GET, HEAD"),
            "/ready" => (Self::Ready, is_read, "GET, HEAD"),
            "/status" => (Self::Status, is_read, "GET, HEAD"),
            "/metrics" if is_read => (Self::Metrics, true, ""),
            PAGE_PATH if is_read => (Self::Page, true, ""),
            ROLLBACK_PATH if method == "POST" => (Self::Operation, true, ""),
            _ if is_read && PAGE_READS.contains(&path) => (Self::Operation, true, ""),
            PUSH_PATH if takes_pushes() => (Self::Push, method == "POST", "POST"),
            API_KEYS_PATH if policy.issuers.iter().any(|issuer| issuer.api_keys.is_some()) => {
                (Self::ApiKeys, method == "POST", "POST")
            }
            JWKS_PATH if publishes_keys() => (Self::AssertionKeys, is_read, "GET, HEAD"),
            _ => match events_at(policy, path) {
                Some((form, issuer)) => (Self::Events(form, issuer), method == "POST", "POST"),
                None => {
                    let resource = policy.resource_at(path).ok_or(Refusal::RouteUnknown)?;
                    // Browsers ask by OPTIONS before they send a header such as `MCP-Protocol-Version`.
                    (Self::Metadata(resource), is_read || method == "OPTIONS", "GET, HEAD, OPTIONS")
                }
            },
        };
        if is_allowed { Ok(endpoint) } else { Err(Refusal::MethodNotAllowed { allow: allow.to_owned() }) }
    }
}

impl<'a> From<&'a Identity> for Principal<'a> {
    fn from(identity: &'a Identity) -> Self {
        let Identity { user_id, roles, scopes, claims, .. } = identity;
        Self { user_id, roles, scopes, claims }
    }
}

/// Decides whether a principal whose token is from `issuer` may enter a route with a request. This is the one place
/// that refuses a caller for a missing permission; [`permits`] evaluates the route's rule.
///
/// # Errors
/// [`Refusal::PermissionMissing`] and [`Refusal::LoginInsufficient`].
pub fn authorize(
    route: &Route,
    request: &Circumstances<'_>,
    issuer: &str,
    principal: Principal<'_>,
) -> Result<(), Refusal> {
    // Users of two issuers may have the same id.
    if !route.accepts(issuer) {
        return Err(Refusal::PermissionMissing { scopes: String::new() });
    }
    if permits(&route.access, principal, request) {
        return Ok(());
    }
    let caller = (principal, request);
    Err(match route.access.step_up(caller) {
        Some(step_up) => Refusal::LoginInsufficient { step_up },
        None => Refusal::PermissionMissing { scopes: route.access.needed_scopes(Some(caller)) },
    })
}
