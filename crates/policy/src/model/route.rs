//! The options of one route (`[[routes]]`).

#[cfg(feature = "schema")]
use std::collections::BTreeMap;

use portcullis_token::{ClaimPath, ValueDeserializer, deserialize_strict};
#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::Value;

use super::{number, proof::Proof};
#[cfg(feature = "schema")]
use crate::limits;
use crate::{access::Access, named, reserved::is_same_header};

/// Methods that a route may name.
pub const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

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
    /// `{id}`), `{ claim = "tenant", equals_path = "tenant" }` (the claim is the path parameter
    /// `{tenant}`), `{ claim = "tenant", equals_host = "{tenant}.api.example.com" }` (the claim is
    /// that label of the host, in lower case), `{ country = ["DE", "FR"] }` (ISO 3166-1 alpha-2) and
    /// `{ network = ["192.0.2.0/24", "2001:db8::/32"] }` (where the client is, as the platform
    /// says), `{ max_age = 300 }` (a login at most so many seconds ago, by the claim `auth_time`),
    /// `{ acr = ["mfa"] }` (a login of one of these classes, by the claim `acr`),
    /// `{ any = [ … ] }` or `{ all = [ … ] }`. Each but `"public"` needs a verified token.
    #[cfg_attr(feature = "schema", schemars(with = "serde_json::Value"))]
    pub access: Access,
    /// Issuers whose tokens are accepted; all, if absent. With several issuers, a route with a rule
    /// on roles, scopes, claims or owners needs it: each issuer gives its roles a meaning, and two
    /// may have a user of the same id.
    pub issuers: Option<Vec<String>>,
    /// Whether clients prove that their tokens are theirs: as `proof` of an issuer, for this route. The
    /// stricter of both counts. Does not go with `equals_host`.
    pub proof: Option<Proof>,
    /// Policy decision point that must permit each request as well. Not on public routes.
    pub authorizer: Option<String>,
    /// Rate limits that count its requests.
    #[serde(default)]
    pub limits: Vec<String>,
    /// CORS policy.
    pub cors: Option<String>,
    /// Template of the gateway's refusals. Default: `default_refusals`, or the gateway's own answers.
    pub refusals: Option<String>,
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
    /// Checks requests against the upstream's OpenAPI document (`openapi`) before they are forwarded: parameters, content
    /// type, and JSON bodies, which may then have 64 KiB. Other requests are 400 or 415 with a list of what is wrong.
    /// What the document does not describe is 400.
    #[serde(default)]
    pub validate: bool,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
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
    /// Names and values of headers to set. In requests, a value may be that of the token's claim: a text in percent-encoding,
    /// an integer, `true` or `false`. Otherwise the header is removed. Example:
    /// `set = { x-tenant = { claim = "tenant" } }`
    #[cfg_attr(feature = "schema", schemars(with = "BTreeMap<String, serde_json::Value>"))]
    #[serde(with = "named")]
    pub set: Vec<(String, HeaderValue)>,
    /// Names of headers to remove.
    pub remove: Vec<String>,
}

/// A value of a header to set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum HeaderValue {
    /// This text.
    Text(String),
    /// The value of a claim of the caller's token.
    Claim(ClaimValue),
}

/// Where a value is in the caller's token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimValue {
    /// The claim: a name, or the list of names that leads to it.
    #[serde(deserialize_with = "portcullis_token::deserialize_claim_path")]
    pub claim: ClaimPath,
}

// By hand, because serde's code for untagged enums would bring another form of each value into the Worker.
impl<'de> Deserialize<'de> for Variants {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const FORMS: &str = "write \"refuse\", or { allow = \"the reason why no variant reaches the same resource\" }";
        let written = deserialize_strict(deserializer)?;
        let table = written.as_object().filter(|table| table.len() == 1);
        match (written.as_str(), table.and_then(|table| table.get("allow")?.as_str())) {
            (Some("refuse"), _) => Ok(Self::Refuse),
            (_, Some(allow)) => Ok(Self::Allow { allow: allow.to_owned() }),
            _ => Err(D::Error::custom(FORMS)),
        }
    }
}

impl<'de> Deserialize<'de> for HeaderValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = deserialize_strict(deserializer)?;
        if let Value::String(text) = written {
            return Ok(Self::Text(text));
        }
        let claim = ClaimValue::deserialize(ValueDeserializer::new(&written));
        let fault = |_| D::Error::custom("write a text, or in request_headers { claim = \"NAME\" }");
        claim.map(Self::Claim).map_err(fault)
    }
}

impl HeaderValue {
    /// Returns the text, unless the value is that of a claim.
    pub fn text(&self) -> Option<&String> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// Returns the claim.
    pub fn claim(&self) -> Option<&ClaimPath> {
        if let Self::Claim(value) = self { Some(&value.claim) } else { None }
    }
}

impl HeaderRules {
    /// Whether a header is removed or replaced, in any spelling: a service that follows CGI would
    /// take a client's `x_tenant` for the rule's `x-tenant`.
    pub fn covers(&self, name: &str) -> bool {
        self.remove.iter().chain(self.set.iter().map(|(name, _)| name)).any(|covered| is_same_header(name, covered))
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

fn yes() -> bool {
    true
}
