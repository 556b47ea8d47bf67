//! The checked policy: what the rest of the gateway works from. Its JSON form
//! is what the build embeds in the worker.

use serde::{Deserialize, Serialize};

use super::reserved::is_same_header;

/// Paths that are the gateway's own, with all below them. No route may claim one,
/// and no catch-all reaches them: an operator's endpoint is never an upstream's.
pub const OWN_PATHS: &[&str] = &["/health", "/ready", "/status", "/metrics", "/_gateway"];

/// Whether a path is one of [`OWN_PATHS`] or below one.
pub fn is_own_path(path: &str) -> bool {
    OWN_PATHS.iter().any(|own| path.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

/// A whole policy, checked: names resolve, paths do not collide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Issuers whose tokens are taken.
    pub issuers: Vec<Issuer>,
    /// Services behind the gateway.
    pub upstreams: Vec<Upstream>,
    /// What may be asked, by whom, and who answers. Anything else is 404.
    pub routes: Vec<Route>,
    /// Which pages of other origins may read answers.
    pub cors: Vec<Cors>,
    /// Rate limits; the runtime's bindings say how many in which time.
    pub limits: Vec<Limit>,
    /// Name of the cookie in which browsers have their token; none: no cookie is looked at.
    pub token_cookie: Option<String>,
    /// Milliseconds: a copy of the revocation log older than this lets nobody in.
    pub revocation_max_age_ms: u64,
}

/// A rate limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Name, by which routes have it; part of the binding's name.
    pub name: String,
    /// What is counted together.
    pub by: LimitBy,
    /// Seconds for `Retry-After`.
    pub retry_after_s: u64,
}

/// What a limit counts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitBy {
    /// Requests of one client address.
    Ip,
    /// Requests of one user.
    User,
    /// All requests of the route.
    Route,
    /// Refused tokens of one client address, on every route.
    FailedIp,
}

/// What pages of other origins may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cors {
    /// Name, by which routes have it.
    pub name: String,
    /// `https://app.example.com`, `https://*.example.com`, or `*` for all.
    pub origins: Vec<String>,
    /// Whether pages may send cookies and see the answer.
    pub credentials: bool,
    /// Request headers that they may set.
    pub headers: Vec<String>,
    /// Response headers that they may read beyond the few that all may.
    pub expose: Vec<String>,
    /// Seconds for which a browser may keep the answer to a preflight.
    pub max_age_s: u64,
}

/// One issuer and how its tokens are judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issuer {
    /// Name in logs, metrics and `/status`.
    pub name: String,
    /// Exact `iss` or, with `{tenantid}` in it, a template for that of the tenants.
    pub issuer: String,
    /// The tenants whose tokens are taken; none, where `issuer` is no template.
    pub tenants: Vec<String>,
    /// Accepted members of the audience claim.
    pub audience: Vec<String>,
    /// Where the audience is, if not in `aud`.
    pub audience_claim: Option<ClaimPath>,
    /// JWA names.
    pub algorithms: Vec<String>,
    /// Accepted `typ` header values; empty means any.
    pub types: Vec<String>,
    /// Required `token_type` claim.
    pub token_type: Option<String>,
    /// Where identity is found; an absent one is where the registered claims have it.
    pub claims: Claims,
    /// What else the claims must say.
    pub require: Vec<Require>,
    /// Seconds of clock difference forgiven.
    pub leeway_s: u64,
    /// Longest `exp - iat`, in seconds.
    pub max_lifetime_s: u64,
    /// Where its keys are.
    pub jwks: JwksSource,
    /// Whether its tokens can be revoked before they expire.
    pub revocable: bool,
    /// `sub` of the service tokens that may revoke them.
    pub revocations_from: Option<String>,
}

/// Stands for a tenant's id in an issuer's template.
pub const TENANT: &str = "{tenantid}";

impl Issuer {
    /// Each `iss` that its tokens may have.
    pub fn names(&self) -> Vec<String> {
        if self.tenants.is_empty() {
            return vec![self.issuer.clone()];
        }
        self.tenants.iter().map(|tenant| self.issuer.replacen(TENANT, tenant, 1)).collect()
    }
}

/// Names of members from the outermost in.
pub type ClaimPath = Vec<String>;

/// Where an issuer's tokens say who somebody is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The user's id (`sub`).
    pub user_id: Option<ClaimPath>,
    /// E-mail address (`email`).
    pub email: Option<ClaimPath>,
    /// Role names (`roles`).
    pub roles: Option<ClaimPath>,
    /// Scopes (`scope`).
    pub scopes: Option<ClaimPath>,
    /// The session (`sid`).
    pub session: Option<ClaimPath>,
}

/// What a claim must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Require {
    /// Which claim.
    pub claim: ClaimPath,
    /// What of it.
    pub rule: RequireRule,
}

/// A rule on one claim; values are strings, integers or booleans.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequireRule {
    /// It is there.
    Present,
    /// It is this value.
    Equals(serde_json::Value),
    /// It is one of these.
    OneOf(Vec<serde_json::Value>),
}

/// Where an issuer publishes its keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JwksSource {
    /// An absolute URL.
    Url(String),
    /// What the issuer says of itself under its own `iss` (OpenID Connect
    /// Discovery 1.0, section 4).
    Discovery,
    /// A path on an upstream, so that both move together.
    Upstream {
        /// The upstream's name.
        upstream: String,
        /// Absolute path.
        path: String,
    },
}

/// One service behind the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// Name; also the assertion's audience and part of the secret's name.
    pub name: String,
    /// Where it is; one of these is asked.
    pub targets: Vec<UpstreamTarget>,
    /// Milliseconds from a request's end to the answer's headers.
    pub timeout_ms: u64,
    /// Milliseconds for a client to send a whole body.
    pub body_timeout_ms: u64,
    /// What clients are told while it cannot be reached.
    pub on_down: OnDown,
    /// Tries after a first one that failed, for methods that are safe.
    pub retries: u32,
    /// Requests that may wait for its answers at once, in one isolate.
    pub max_concurrent: u32,
    /// Outages in a row that open a target's breaker.
    pub breaker_failures: u32,
    /// Milliseconds that an open breaker rests at most.
    pub breaker_open_ms: u64,
    /// Milliseconds that an answer's body may stand still; none: for as long as it likes.
    pub idle_timeout_ms: Option<u64>,
    /// Seconds for `Retry-After` while it is under maintenance, and is not asked.
    pub maintenance_s: Option<u64>,
}

/// One place where an upstream is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamTarget {
    /// Scheme and authority, no path.
    pub url: String,
    /// Its share of the requests, beside the others'.
    pub weight: u32,
}

/// The answer for an upstream that cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDown {
    /// 502 Bad Gateway.
    BadGateway,
    /// 503 `Authentication service unavailable`: for the service that logs
    /// users in, whose clients should wait and try again.
    AuthenticationUnavailable,
}

/// One route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Pattern: `/a/{param}`, `/a/{*rest}`.
    pub path: String,
    /// Methods in upper case; `HEAD` comes with `GET`.
    pub methods: Vec<String>,
    /// Name of the upstream that answers.
    pub upstream: String,
    /// Who may enter.
    pub access: Access,
    /// Whether `Authorization` is passed on.
    pub forward_authorization: bool,
    /// How sure the gateway makes that the token was not revoked.
    pub revocation: RevocationCheck,
    /// Names of the issuers whose tokens are taken here; all, where it is `None`.
    pub issuers: Option<Vec<String>>,
    /// What stands at the path's beginning for the upstream, instead of what clients
    /// write: from, to.
    pub rewrite: Option<(String, String)>,
    /// Name of the CORS policy; none: no page of another origin reads an answer.
    pub cors: Option<String>,
    /// Names of its rate limits.
    pub limits: Vec<String>,
    /// Bytes of a request's body, at most.
    pub max_body_bytes: u64,
    /// Whether the connection may become a WebSocket.
    pub websocket: bool,
    /// Whether a success of the upstream ends the token's session here, too.
    pub ends_session: bool,
    /// Whether the token may be in the policy's cookie.
    pub token_cookie: bool,
    /// What becomes of a request's headers.
    pub request_headers: HeaderRules,
    /// What becomes of the upstream's answer's.
    pub response_headers: HeaderRules,
    /// Whether answers without `X-Content-Type-Options` get `nosniff`.
    pub nosniff: bool,
    /// What becomes of a path with escapes that services read differently.
    pub encoded_path: EncodedPath,
    /// What becomes of other spellings of the path that a looser route would take.
    pub variants: Variants,
}

/// What becomes of a path that services read differently: one with `%2F`, `%23`, `%3F`,
/// `;`, raw brackets, or a second layer of escapes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EncodedPath {
    /// It is refused with 400.
    #[default]
    Refuse,
    /// It is forwarded as it is.
    Forward,
}

/// What becomes of a variant of a route's path (in case, with a trailing slash, with a `;`
/// parameter, with an escaped slash) that another route takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variants {
    /// The policy is refused if that other route lets in more.
    #[default]
    Check,
    /// The variant is refused with 400.
    Refuse,
    /// The other route's rule applies, for this reason.
    Allow(String),
}

/// What a route does to headers, beyond what the gateway does to all. Names are in lower
/// case, and none is the gateway's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderRules {
    /// Names and values that take the place of whatever was there.
    pub set: Vec<(String, String)>,
    /// Names that are taken away.
    pub remove: Vec<String>,
}

impl HeaderRules {
    /// Whether a header is taken away or replaced, in any spelling: a service that follows
    /// CGI would take a client's `x_tenant` for the rule's `x-tenant`.
    pub fn covers(&self, name: &str) -> bool {
        self.remove.iter().chain(self.set.iter().map(|(set, _)| set)).any(|covered| is_same_header(name, covered))
    }
}

/// How a route's tokens are looked up among the revoked ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevocationCheck {
    /// In a copy that is seconds old at most; costs nothing.
    Copy,
    /// In the log itself, each time: one round trip more, and no window.
    Strict,
}

/// Who may enter a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Anybody; no token is looked at.
    Public,
    /// Anybody with a verified token.
    User,
    /// Whoever has at least one of these roles.
    Roles(Vec<String>),
    /// Whoever's token has at least one of these scopes.
    Scopes(Vec<String>),
    /// Whoever's token has a claim that is like this.
    Claim(Require),
    /// Whoever's user id is the value of this path parameter.
    Owner(String),
    /// Whoever one of these lets in.
    Any(Vec<Access>),
    /// Whoever all of these let in.
    All(Vec<Access>),
}
