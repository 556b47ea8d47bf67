//! The policy document: the one definition of what `gateway.toml` says. TOML and JSON have the
//! same form. The JSON Schema and `docs/policy.md` are generated from these types and their
//! comments; `npm run docs` writes both.
//!
//! Owns names, types and defaults. What the values must be is in `validate`; `read` writes out what
//! short forms stand for.

mod authorizer;
mod issuer;
mod proof;
mod refusal;
mod route;
mod upstream;

#[cfg(feature = "schema")]
use std::collections::BTreeMap;

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use authorizer::Authorizer;
pub(crate) use issuer::MAX_LIFETIME_S;
pub use issuer::{ApiKeys, Claims, Events, Introspection, Issuer, JwksSource, Logout};
pub use proof::Proof;
pub use refusal::RefusalTemplate;
pub use route::{
    ClaimValue, EncodedPath, HeaderRules, HeaderValue, METHODS, ReplacePrefix, RevocationCheck, Route, Variants,
};
pub use upstream::{Assertion, AssertionAlgorithm, Breaker, Maintenance, OnDown, Upstream, UpstreamTarget};

use crate::named::{self, Named};

/// The policy of a gateway: whose tokens it accepts, which services stand behind it, and who may
/// call which route. A request that no route names is answered with 404.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Format of the document.
    #[serde(default = "number::<1, u32>")]
    pub version: u32,
    /// The gateway's own URL as clients write it: scheme, host and port. `resources` and `proof` need it.
    /// The variable `PUBLIC_URL` replaces it at run time.
    pub public_url: Option<String>,
    /// Template of refusals on routes without `refusals`, and for requests of no route. The gateway's own endpoints do not use it.
    pub default_refusals: Option<String>,
    /// Issuers whose tokens are accepted, each by a name of your choice. The `iss` of a token
    /// selects the issuer, whose rules alone decide about the token.
    #[serde(default, with = "named")]
    #[cfg_attr(feature = "schema", schemars(with = "BTreeMap<String, Issuer>"))]
    pub issuers: Vec<Issuer>,
    /// Services behind the gateway, each by a name of your choice.
    #[serde(default, with = "named")]
    #[cfg_attr(feature = "schema", schemars(with = "BTreeMap<String, Upstream>"))]
    pub upstreams: Vec<Upstream>,
    /// Routes: which requests are forwarded, and for whom. The most specific path wins, whatever
    /// the order: a fixed segment over `{name}` or `{*name}`.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// Protected resources: paths whose metadata (RFC 9728) tells clients where to get tokens. Without
    /// any, no metadata is served.
    #[serde(default)]
    pub resources: Vec<Resource>,
    /// Copies of the revocation log.
    #[serde(default)]
    pub revocation: Revocation,
    /// Rate limits, each by a name that routes refer to. The binding `LIMIT_<NAME>` in
    /// wrangler.toml says how many requests in 10 or 60 seconds. Counts are per location and
    /// approximate.
    #[serde(default, with = "named")]
    #[cfg_attr(feature = "schema", schemars(with = "BTreeMap<String, Limit>"))]
    pub limits: Vec<Limit>,
    /// Policy decision points, each by a name that routes refer to.
    #[serde(default, with = "named")]
    #[cfg_attr(feature = "schema", schemars(with = "BTreeMap<String, Authorizer>"))]
    pub authorizers: Vec<Authorizer>,
    /// CORS policies, each by a name that routes refer to. Routes without a CORS
    /// policy send no CORS headers. CORS headers of upstreams are removed.
    #[serde(default, with = "named")]
    #[cfg_attr(feature = "schema", schemars(with = "BTreeMap<String, Cors>"))]
    pub cors: Vec<Cors>,
    /// Templates of refusals, each by a name that routes refer to.
    #[serde(default, with = "named")]
    #[cfg_attr(feature = "schema", schemars(with = "BTreeMap<String, RefusalTemplate>"))]
    pub refusals: Vec<RefusalTemplate>,
    /// The cookie in which browsers may send their token, on routes with `token_cookie = true`.
    /// Accepted from the gateway's own origin, and from origins that the route's CORS policy lists
    /// with `credentials = true`. The cookie is never forwarded.
    pub token_cookie: Option<TokenCookie>,
}

impl Policy {
    /// Returns the name of the cookie in which browsers may send their token.
    pub fn token_cookie_name(&self) -> Option<&str> {
        self.token_cookie.as_ref().map(|cookie| cookie.name.as_str())
    }
}

/// One protected resource. Its metadata is at `/.well-known/oauth-protected-resource` followed by its path,
/// for everyone, and challenges of its routes (`WWW-Authenticate`) point there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Resource {
    /// Leading fixed segments of its routes. A route belongs to the resource with the longest path that its
    /// own path begins with.
    #[serde(default = "root")]
    pub path: String,
    /// Issuers of its tokens, as URLs, which everyone can read. Default: the `issuer` of the only issuer that its routes
    /// accept, without those with `token_header`. Needed if there are several, if it is no URL, or if it has `tenants`.
    pub authorization_servers: Option<Vec<String>>,
    /// Scopes that clients may ask for. Some clients ask for all of them. Default: all in the rules of its
    /// routes.
    pub scopes_supported: Option<Vec<String>>,
    /// Name for people.
    pub resource_name: Option<String>,
    /// URL of a page for developers.
    pub resource_documentation: Option<String>,
}

/// Copies of the revocation log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Revocation {
    /// Seconds for which an isolate uses its copy while the log cannot be reached. Past this age,
    /// requests with tokens that could be revoked get 503.
    pub max_age_s: u64,
}

impl Default for Revocation {
    fn default() -> Self {
        Self { max_age_s: 60 }
    }
}

impl Revocation {
    /// Returns the longest age of a copy in milliseconds.
    pub fn max_age_ms(&self) -> u64 {
        self.max_age_s.saturating_mul(1000)
    }
}

/// A rate limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Name, by which routes refer to it; part of the binding's name.
    #[serde(skip)]
    pub name: String,
    /// What is counted together.
    pub by: LimitBy,
    /// Seconds for `Retry-After` of the 429.
    #[serde(default = "number::<60, u64>")]
    pub retry_after_s: u64,
}

/// What a limit counts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum LimitBy {
    /// Requests of one client address to the routes that name the limit.
    Ip,
    /// Requests of one user.
    User,
    /// All requests to a route. On routes that are not public, only permitted requests count.
    Route,
    /// Refused tokens of one address, on every route.
    FailedIp,
}

/// What pages of other origins may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Cors {
    /// Name, by which routes refer to it.
    #[serde(skip)]
    pub name: String,
    /// Origins: `https://app.example.com`, `https://*.example.com`, or `*` for all.
    pub origins: Vec<String>,
    /// Whether pages may send cookies. Not with `*`.
    #[serde(default)]
    pub credentials: bool,
    /// Request headers that pages may set.
    #[serde(default = "cors_headers")]
    pub headers: Vec<String>,
    /// Response headers that pages may read.
    #[serde(default = "cors_expose")]
    pub expose: Vec<String>,
    /// Seconds for which a browser keeps the answer to a preflight.
    #[serde(default = "number::<600, u64>")]
    pub max_age_s: u64,
}

/// Prefix of a cookie's name that no other host, such as a subdomain, can set (RFC 6265bis,
/// section 4.1.3.2).
pub const COOKIE_PREFIX: &str = "__Host-";

/// The cookie in which browsers may send their token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TokenCookie {
    /// Name. It begins with `__Host-`, so that no other host can set the cookie.
    pub name: String,
}

macro_rules! named {
    ($($kind:ty),*) => {
        $(impl Named for $kind {
            type Value = Self;

            fn name(&self) -> &str {
                &self.name
            }

            fn value(&self) -> &Self {
                self
            }

            fn new(name: String, value: Self) -> Self {
                Self { name, ..value }
            }
        })*
    };
}

named!(Issuer, Upstream, Limit, Authorizer, Cors, RefusalTemplate);

/// A default, as `number::<30, u64>`.
fn number<const N: u32, T: From<u32>>() -> T {
    N.into()
}

fn root() -> String {
    "/".to_owned()
}

fn cors_headers() -> Vec<String> {
    vec!["authorization".to_owned(), "content-type".to_owned()]
}

fn cors_expose() -> Vec<String> {
    vec!["x-request-id".to_owned(), "retry-after".to_owned()]
}
