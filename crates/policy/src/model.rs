//! The policy document: the one definition of what `gateway.toml` says. TOML and JSON have the
//! same form. The JSON Schema and `docs/policy.md` are generated from these types and their
//! comments; `npm run docs` writes both.
//!
//! Owns names, types and defaults. What the values must be is in `validate`; `read` writes out what
//! short forms stand for.

use std::{collections::BTreeMap, rc::Rc};

use portcullis_token::{ClaimPath, ClaimRule, TENANT_PLACEHOLDER};
#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[cfg(feature = "schema")]
use crate::limits;
use crate::{
    access::Access,
    named::{self, Named},
    reserved::{cookie_of, is_same_header},
};

/// Methods that a route may name.
pub const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// The policy of a gateway: whose tokens it accepts, which services stand behind it, and who may
/// call which route. A request that no route names is answered with 404.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Format of the document.
    #[serde(default = "number::<1, u32>")]
    pub version: u32,
    /// The gateway's own URL as clients write it: scheme, host and port. `resources` need it. The
    /// variable `PUBLIC_URL` replaces it at run time.
    pub public_url: Option<String>,
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
    /// CORS policies, each by a name that routes refer to. Routes without a CORS
    /// policy send no CORS headers. CORS headers of upstreams are removed.
    #[serde(default, with = "named")]
    #[cfg_attr(feature = "schema", schemars(with = "BTreeMap<String, Cors>"))]
    pub cors: Vec<Cors>,
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

    /// Returns the token headers of all issuers, each once. They are never forwarded.
    pub fn token_headers(&self) -> Vec<String> {
        distinct(self.issuers.iter().filter_map(|issuer| issuer.token_header.as_deref()))
    }

    /// Returns the cookies that hold tokens for the gateway, each once. They are never forwarded.
    pub fn private_cookies(&self) -> Vec<String> {
        let headers = self.issuers.iter().filter_map(|issuer| issuer.token_header.as_deref());
        distinct(
            self.token_cookie_name()
                .into_iter()
                .chain(headers.filter_map(|header| -> Option<&str> { cookie_of(header) })),
        )
    }

    /// Returns where each route looks for tokens; `None` if `Authorization` and the token cookie are its only sources,
    /// and for a public route. Routes share what is equal: there may be many, and many issuers.
    pub fn token_sources(&self) -> Vec<Option<Rc<TokenSources>>> {
        let of_all = TokenSources::of(self.issuers.iter());
        let sources = |route: &Route| match &route.issuers {
            _ if route.access == Access::Public => None,
            None => of_all.clone(),
            Some(names) => TokenSources::of(names.iter().filter_map(|name| named::find(&self.issuers, name))),
        };
        self.routes.iter().map(sources).collect()
    }
}

/// Where a route with token headers looks for tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSources {
    /// Token headers of the route's issuers, in lower case, each once.
    pub headers: Vec<String>,
    /// Whether another of its issuers has its tokens in `Authorization` or the token cookie.
    pub has_authorization: bool,
}

impl TokenSources {
    fn of<'a>(issuers: impl Iterator<Item = &'a Issuer>) -> Option<Rc<Self>> {
        let mut has_authorization = false;
        let headers = distinct(issuers.filter_map(|issuer| {
            has_authorization |= issuer.token_header.is_none();
            issuer.token_header.as_deref()
        }));
        (!headers.is_empty()).then(|| Rc::new(Self { headers, has_authorization }))
    }
}

/// Returns each name once, in order. There are few.
fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut found: Vec<&str> = Vec::new();
    for name in names {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found.sort_unstable();
    found.into_iter().map(str::to_owned).collect()
}

/// One issuer of tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// Name in logs, metrics and `/status`.
    #[serde(skip)]
    pub name: String,
    /// A well-known provider: sets algorithms, claims, the location of the keys and the token's header.
    /// Options that are written take precedence; `require` is extended. See docs/providers.md.
    pub provider: Option<String>,
    /// Exact `iss` of the tokens. With `{tenantid}` in it, a template that `tenants` completes.
    pub issuer: String,
    /// Header in which a proxy in front of the gateway sends the bare token, such as
    /// `Cf-Access-Jwt-Assertion`. The issuer's tokens are accepted from it alone. A request that
    /// also has another source of the route is 401. Browsers' requests are accepted from the same origins as with
    /// `token_cookie`. The header is never forwarded, on any route.
    pub token_header: Option<String>,
    /// Tenants whose tokens are accepted, if `issuer` is a template.
    #[serde(default)]
    pub tenants: Vec<String>,
    /// Audiences that mean this gateway. A token must name one of them.
    pub audience: Vec<String>,
    /// The claim with the audience, for providers whose access tokens have no `aud`.
    #[serde(default, deserialize_with = "claim_path", skip_serializing_if = "Option::is_none")]
    pub audience_claim: Option<ClaimPath>,
    /// Signature algorithms. Needed unless `provider` sets them. A key works with one algorithm:
    /// the one that it names or, if it names none, the only one listed here that fits its type.
    pub algorithms: Option<Vec<String>>,
    /// Accepted `typ` headers. Empty accepts any.
    #[serde(default)]
    pub types: Vec<String>,
    /// Required value of the `token_type` claim.
    pub token_type: Option<String>,
    /// Claims that identify the user, where they differ from the usual ones.
    #[serde(default)]
    pub claims: Claims,
    /// Further rules for claims. All must be met. Example:
    /// `require = [{ claim = "azp", one_of = ["web", "app"] }]`
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<serde_json::Value>"))]
    pub require: Vec<ClaimRule>,
    /// Clock difference in seconds that is tolerated.
    #[serde(default = "number::<30, u64>")]
    pub leeway_s: u64,
    /// Longest accepted `exp - iat` in seconds. Revocations are kept for as long.
    #[serde(default = "number::<86_400, u64>")]
    pub max_lifetime_s: u64,
    /// Reads the location of the keys from `/.well-known/openid-configuration` below `issuer`.
    pub discovery: Option<bool>,
    /// URL of the key set.
    pub jwks_url: Option<String>,
    /// Upstream that serves the key set at `jwks_path`.
    pub jwks_upstream: Option<String>,
    /// Path of the key set on `jwks_upstream`.
    pub jwks_path: Option<String>,
    /// The key set itself, as a table or as JSON text. Nothing is fetched, the keys do not expire, and each
    /// must be usable. Example: `jwks = { keys = [{ kty = "OKP", crv = "Ed25519", x = "…" }] }`
    #[serde(default, deserialize_with = "strict_value", skip_serializing_if = "Option::is_none")]
    pub jwks: Option<Value>,
    /// File of the key set: a relative path inside the policy file's folder. `npm run check` checks it; the build
    /// and `npm run policy:push` copy its public keys to `jwks`.
    pub jwks_file: Option<String>,
    /// Content of `jwks_file`, if the file could be read.
    #[serde(skip)]
    pub(crate) jwks_file_text: Option<String>,
    /// Whether tokens can be revoked before they expire, by routes with `ends_session`.
    #[serde(default)]
    pub revocable: bool,
    /// `sub` of the service tokens that may revoke tokens at `POST /_gateway/revocations`. Implies
    /// `revocable`.
    pub revocations_from: Option<String>,
}

/// Where an issuer's keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwksSource {
    /// In the policy: the text of the key set.
    Policy(String),
    /// An absolute URL.
    Url(String),
    /// The discovery document below the issuer's `iss` (OpenID Connect Discovery 1.0, section 4).
    Discovery,
    /// A path on an upstream.
    Upstream {
        /// Name of the upstream.
        upstream: String,
        /// Absolute path.
        path: String,
    },
}

impl Issuer {
    /// Returns each `iss` that its tokens may have.
    pub fn names(&self) -> Vec<String> {
        if self.tenants.is_empty() {
            return vec![self.issuer.clone()];
        }
        self.tenants.iter().map(|tenant| self.issuer.replacen(TENANT_PLACEHOLDER, tenant, 1)).collect()
    }

    /// Returns where its keys are; `None` if the options name no place or several.
    pub fn jwks(&self) -> Option<JwksSource> {
        let has_discovery = self.discovery == Some(true);
        let written = (&self.jwks, &self.jwks_file);
        match (has_discovery, &self.jwks_url, &self.jwks_upstream, &self.jwks_path, written) {
            (true, None, None, None, (None, None)) => Some(JwksSource::Discovery),
            (false, Some(url), None, None, (None, None)) => Some(JwksSource::Url(url.clone())),
            (false, None, Some(upstream), Some(path), (None, None)) => {
                Some(JwksSource::Upstream { upstream: upstream.clone(), path: path.clone() })
            }
            (false, None, None, None, (Some(Value::String(text)), None)) => Some(JwksSource::Policy(text.clone())),
            (false, None, None, None, (Some(table), None)) => Some(JwksSource::Policy(table.to_string())),
            (false, None, None, None, (None, Some(_))) => {
                Some(JwksSource::Policy(self.jwks_file_text.clone().unwrap_or_default()))
            }
            _ => None,
        }
    }

    /// Returns the URL that its keys and its discovery document are below. Tenants share it.
    pub(crate) fn base_url(&self) -> String {
        self.issuer.replacen(TENANT_PLACEHOLDER, "common", 1)
    }
}

/// Claims that identify the user. Each is a name, or the list of names that leads to a nested
/// claim. Example: `claims = { user_id = "oid", roles = ["realm_access", "roles"] }`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Claims {
    /// The user's id (default `sub`).
    #[serde(deserialize_with = "claim_path", skip_serializing_if = "Option::is_none")]
    pub user_id: Option<ClaimPath>,
    /// E-mail address (default `email`).
    #[serde(deserialize_with = "claim_path", skip_serializing_if = "Option::is_none")]
    pub email: Option<ClaimPath>,
    /// Role names (default `roles`).
    #[serde(deserialize_with = "claim_path", skip_serializing_if = "Option::is_none")]
    pub roles: Option<ClaimPath>,
    /// Scopes (default `scope`).
    #[serde(deserialize_with = "claim_path", skip_serializing_if = "Option::is_none")]
    pub scopes: Option<ClaimPath>,
    /// The session (default `sid`).
    #[serde(deserialize_with = "claim_path", skip_serializing_if = "Option::is_none")]
    pub session: Option<ClaimPath>,
}

/// One service behind the gateway. The variable `UPSTREAM_<NAME>_URL` replaces `url` at run time;
/// the secret `ASSERTION_KEYS_<NAME>` signs the requests to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Name; also the audience of assertions and part of the secret's name.
    #[serde(skip)]
    pub name: String,
    /// Scheme, host and port. `http://` is for loopback on a development machine.
    pub url: Option<String>,
    /// Several places instead of `url`; each request is sent to one. Targets that fail are left
    /// out. Example: `targets = [{ url = "https://a.example.com", weight = 3 }]`
    #[serde(default)]
    pub targets: Vec<UpstreamTarget>,
    /// Milliseconds from the end of the request to the headers of the answer; then 504.
    #[serde(default = "number::<15_000, u64>")]
    pub timeout_ms: u64,
    /// Milliseconds for a client to send its body; then 408.
    #[serde(default = "number::<60_000, u64>")]
    pub body_timeout_ms: u64,
    /// Answer while the service is down.
    #[serde(default)]
    pub on_down: OnDown,
    /// Maximum retries of GET and HEAD requests, with back-off. Retries are limited to a tenth of the
    /// requests.
    #[serde(default)]
    pub retries: u32,
    /// Maximum concurrent requests to the service per isolate. At most half may have a body, and one network
    /// (address, or IPv6 /64) may hold an eighth of that half. Further requests get 503.
    #[serde(default = "number::<1_000, u32>")]
    pub max_concurrent: u32,
    /// Circuit breaker. It opens after consecutive outages (no connection, no answer in time, or
    /// 502, 503 or 504 without `Retry-After`). Then one probe is sent after 1 s, and the pause doubles
    /// with each probe that fails. The first success closes it.
    /// Example: `breaker = { failures = 5, open_s = 60 }`
    #[serde(default)]
    pub breaker: Breaker,
    /// Milliseconds that the body of an answer may pause; then it is cut off. Costs CPU time, because the
    /// body passes through the gateway's code. Without it, bodies may pause as long as they like.
    pub idle_timeout_ms: Option<u64>,
    /// The service is under maintenance: requests are answered with 503 and `Retry-After`.
    /// Example: `maintenance = { retry_after_s = 300 }`
    pub maintenance: Option<Maintenance>,
}

/// One place of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct UpstreamTarget {
    /// Scheme, host and port.
    pub url: String,
    /// Share of the requests, relative to the other targets.
    #[serde(default = "number::<1, u32>")]
    pub weight: u32,
}

/// When a circuit breaker opens, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Breaker {
    /// Consecutive outages that open it.
    pub failures: u32,
    /// Longest pause in seconds between two probes.
    pub open_s: u32,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failures: 5, open_s: 60 }
    }
}

/// Maintenance of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    /// Seconds for `Retry-After`.
    #[serde(default = "number::<300, u64>")]
    pub retry_after_s: u64,
}

/// The answer while an upstream cannot be reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnDown {
    /// 502 Bad Gateway.
    #[default]
    BadGateway,
    /// 503 `Authentication service unavailable` with `Retry-After`, for the service that logs
    /// users in.
    AuthenticationUnavailable,
}

/// One route: which requests it takes, and who may make them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Pattern: fixed segments, `{name}` for one segment, `{*name}` for the rest of the path. The
    /// path is matched in its canonical spelling (RFC 3986), before the method.
    pub path: String,
    /// Methods. GET includes HEAD.
    pub methods: Vec<String>,
    /// Name of the upstream that answers.
    pub upstream: String,
    /// Who may enter: `"public"`, `"user"` (any verified token), `{ roles = ["admin"] }` (one of
    /// them), `{ scopes = ["orders:read"] }` (one of them), `{ claim = "tenant", equals = "shop" }`
    /// (or `one_of`, or neither), `{ owner = "id" }` (the user whose id is the path parameter
    /// `{id}`), `{ any = [ … ] }` or `{ all = [ … ] }`.
    #[cfg_attr(feature = "schema", schemars(with = "serde_json::Value"))]
    pub access: Access,
    /// Issuers whose tokens are accepted; all, if absent. With several issuers, a route with a rule
    /// on roles, scopes, claims or owners needs it: each issuer gives its roles a meaning, and two
    /// may have a user of the same id.
    pub issuers: Option<Vec<String>>,
    /// Rate limits that count its requests.
    #[serde(default)]
    pub limits: Vec<String>,
    /// CORS policy.
    pub cors: Option<String>,
    /// Forwards the client's `Authorization` header. Upstreams take identity from the gateway's
    /// assertion, so they hardly ever need it.
    #[serde(default)]
    pub forward_authorization: bool,
    /// Where the gateway looks up revocations.
    #[serde(default)]
    pub revocation: RevocationCheck,
    /// A 2xx answer of the upstream ends the session of the token before the client gets it.
    #[serde(default)]
    pub ends_session: bool,
    /// The token may be in the cookie of `[token_cookie]`.
    #[serde(default)]
    pub token_cookie: bool,
    /// Longest request body in bytes; then 413.
    #[serde(default = "number::<1_048_576, u64>")]
    pub max_body_bytes: u64,
    /// The connection may become a WebSocket, after the same checks. They are not repeated while it
    /// lasts.
    #[serde(default)]
    pub websocket: bool,
    /// Leading segments that are removed for the upstream, which gets them as
    /// `X-Forwarded-Prefix`. Example: `strip_prefix = "/shop"`. References in `Location`,
    /// `Content-Location`, `Refresh` and `Link` of answers are changed back.
    pub strip_prefix: Option<String>,
    /// Leading segments that are replaced for the upstream.
    /// Example: `replace_prefix = { from = "/shop", to = "/v2" }`
    pub replace_prefix: Option<ReplacePrefix>,
    /// Rules for headers of requests, beyond what the gateway does to all.
    /// Example: `request_headers = { set = { x-tenant = "shop" }, remove = ["x-debug"] }`
    #[serde(default)]
    pub request_headers: HeaderRules,
    /// Rules for headers of answers.
    #[serde(default)]
    pub response_headers: HeaderRules,
    /// Adds `X-Content-Type-Options: nosniff` to answers without that header, so that no browser
    /// runs an upload as a script.
    #[serde(default = "yes")]
    pub nosniff: bool,
    /// Paths that services may interpret in different ways: with `%2F`, `%23`, `%3F`, `%3B`, `;`, raw brackets or
    /// escapes within escapes. Forward them only to services that split a path before they decode
    /// it, and decode it once.
    #[serde(default)]
    pub encoded_path: EncodedPath,
    /// Applies to spellings of the path (other case, trailing slash, or escapes that `encoded_path`
    /// permits) that match a different route. `"refuse"`: 400. `{ allow = "reason" }`: the other
    /// route's rule applies. Default: validation fails if such a spelling reaches the same service
    /// under a less strict rule. Validation also fails, unless `allow` is set, if another path reaches
    /// the same path of the service through a less strict route, because of a rewritten prefix.
    pub variants: Option<Variants>,
}

impl Route {
    /// Returns whether it accepts tokens of an issuer.
    pub fn accepts(&self, issuer: &str) -> bool {
        self.issuers.as_ref().is_none_or(|names| names.iter().any(|name| name == issuer))
    }

    /// Returns the leading segments that the upstream sees replaced: from, to.
    pub fn rewrite(&self) -> Option<(&str, &str)> {
        match (&self.strip_prefix, &self.replace_prefix) {
            (Some(prefix), _) => Some((prefix, "")),
            (None, Some(replace)) => Some((&replace.from, &replace.to)),
            (None, None) => None,
        }
    }
}

/// A prefix of a path and its replacement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ReplacePrefix {
    /// Leading segments of the client's path.
    pub from: String,
    /// Leading segments of the upstream's path.
    pub to: String,
}

/// What happens to a path that services read differently.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum EncodedPath {
    /// Refused with 400.
    #[default]
    Refuse,
    /// Forwarded unchanged.
    Forward,
}

/// What happens to other spellings of a route's path that another route takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(
    rename_all = "snake_case",
    deny_unknown_fields,
    expecting = "write \"refuse\", or { allow = \"the reason why no variant reaches the same resource\" }"
)]
pub enum Variants {
    /// The spelling is refused with 400.
    Refuse,
    /// The other route's rule applies.
    #[serde(untagged)]
    Allow {
        /// The reason.
        #[cfg_attr(feature = "schema", schemars(length(min = 1, max = limits::REASON_BYTES)))]
        allow: String,
    },
}

/// Rules for headers. They cannot change the gateway's own headers or hop-by-hop headers (RFC 9110,
/// section 7.6.1).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct HeaderRules {
    /// Names and values of headers to set.
    pub set: BTreeMap<String, String>,
    /// Names of headers to remove.
    pub remove: Vec<String>,
}

impl HeaderRules {
    /// Whether a header is removed or replaced, in any spelling: a service that follows CGI would
    /// take a client's `x_tenant` for the rule's `x-tenant`.
    pub fn covers(&self, name: &str) -> bool {
        self.remove.iter().chain(self.set.keys()).any(|covered| is_same_header(name, covered))
    }
}

/// How tokens of a route are looked up among the revoked ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum RevocationCheck {
    /// In the isolate's copy of the log, which is a few seconds old.
    #[default]
    Copy,
    /// In the log itself: one round trip more for each request, and no delay.
    Strict,
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
            fn name(&self) -> &str {
                &self.name
            }

            fn with_name(self, name: String) -> Self {
                Self { name, ..self }
            }
        })*
    };
}

named!(Issuer, Upstream, Limit, Cors);

/// A claim path that is present, as one name or a list of names.
fn claim_path<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<ClaimPath>, D::Error> {
    portcullis_token::deserialize_claim_path(deserializer).map(Some)
}

/// A value without repeated members, which parsers understand differently.
fn strict_value<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Ok(Some(portcullis_token::deserialize_strict(deserializer)?).filter(|value| !value.is_null()))
}

/// A default, as `number::<30, u64>`.
fn number<const N: u32, T: From<u32>>() -> T {
    N.into()
}

fn root() -> String {
    "/".to_owned()
}

fn yes() -> bool {
    true
}

fn cors_headers() -> Vec<String> {
    vec!["authorization".to_owned(), "content-type".to_owned()]
}

fn cors_expose() -> Vec<String> {
    vec!["x-request-id".to_owned(), "retry-after".to_owned()]
}
