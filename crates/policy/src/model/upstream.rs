//! The options of one upstream (`[upstreams.NAME]`).

use portcullis_token::Algorithm;
#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::number;

/// One service behind the gateway. The variable `UPSTREAM_<NAME>_URL` replaces `url` at run time;
/// the secret `ASSERTION_KEYS_<NAME>` signs the requests to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Name; also the audience of assertions and part of the secret's name.
    #[serde(skip)]
    pub name: String,
    /// Scheme, host and port. `http://` is for loopback on a development machine and, with
    /// `binding`, for private addresses, names of one label, `.internal` and `.local`.
    pub url: Option<String>,
    /// Binding in wrangler.toml through which requests are sent, for a service without a public address: another Worker
    /// (`services`), a VPC service, or an mTLS certificate. The last two need a `url`, which names the host. Write
    /// `https://` for a certificate; over `http://` it is not used. Without `url`, the host is `NAME.internal`.
    pub binding: Option<String>,
    /// Several places instead of `url`; each request is sent to one. Targets that fail are left
    /// out. Example: `targets = [{ url = "https://a.example.com", weight = 3 }]`
    #[serde(default)]
    pub targets: Vec<UpstreamTarget>,
    /// File of the service's OpenAPI document (3.0 or 3.1, YAML or JSON): a relative path inside the policy file's folder.
    /// `npm run check` compares its operations with the routes. The build and `npm run policy:push` leave it out.
    #[cfg(feature = "toml")]
    pub openapi: Option<String>,
    /// Leading segments of the document's paths, such as `/v1`, instead of the path of its `servers`. `/` stands for none.
    #[cfg(feature = "toml")]
    pub openapi_prefix: Option<String>,
    /// Digest of the validators that the build compiled from the document, for routes with `validate`. Written by the
    /// build: a Worker with other validators refuses the policy.
    #[cfg_attr(feature = "schema", schemars(skip))]
    pub openapi_digest: Option<String>,
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
    /// How requests to the service are signed. Example: `assertion = { algorithm = "ES256" }`
    #[serde(default)]
    pub assertion: Assertion,
}

/// The gateway's assertion to a service (`X-Gateway-Assertion`). See docs/assertion.md.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Assertion {
    /// Signature algorithm.
    pub algorithm: AssertionAlgorithm,
    /// Claims of the token that the service gets in the member `claims`, next to the token's `iss`. With `["iss"]`, the
    /// issuer alone. Example: `claims = ["tenant", "https://example.com/org"]`
    pub claims: Vec<String>,
    /// The assertion and the header `Content-Digest` (RFC 9530) have the SHA-256 of the request's body, so that no other
    /// body passes for it. A body of more than 64 KiB is then 413.
    pub content_digest: bool,
}

/// An algorithm for assertions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub enum AssertionAlgorithm {
    /// A secret that the gateway shares with the service. The cheapest.
    #[default]
    #[serde(rename = "HS256")]
    Hs256,
    /// A private key on P-256. Services need the public key alone, which is at `/_gateway/jwks.json`.
    #[serde(rename = "ES256")]
    Es256,
    /// The same with Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl AssertionAlgorithm {
    /// Returns the algorithm if it signs with a private key.
    pub const fn asymmetric(self) -> Option<Algorithm> {
        match self {
            Self::Hs256 => None,
            Self::Es256 => Some(Algorithm::Es256),
            Self::EdDsa => Some(Algorithm::EdDsa),
        }
    }

    /// Returns the name in a JWS header.
    pub fn name(self) -> &'static str {
        self.asymmetric().map_or("HS256", Algorithm::name)
    }
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
