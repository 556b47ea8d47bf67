//! The options of one issuer (`[issuers.NAME]`).

use portcullis_token::{ClaimPath, ClaimRule, EventForm, TENANT_PLACEHOLDER};
#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{number, proof::Proof, upstream::Breaker};

/// Longest accepted lifetime, unless an issuer says otherwise.
pub(crate) const MAX_LIFETIME_S: u32 = 86_400;

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
    /// Whether clients prove that its tokens are theirs. `"optional"`: a token that is bound to a key needs a proof (DPoP,
    /// RFC 9449), one that is bound to a certificate needs that certificate (RFC 8705). `"required"`: tokens that are
    /// not bound are refused, too. Without it, bound tokens are refused.
    /// Needs `public_url`, and does not go with `token_header`, nor with `equals_host` of a route.
    pub proof: Option<Proof>,
    /// Tenants whose tokens are accepted, if `issuer` is a template.
    #[serde(default)]
    pub tenants: Vec<String>,
    /// Audiences that mean this gateway. A token must name one of them. Needed unless `api_keys` is set.
    #[serde(default)]
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
    #[serde(default = "number::<MAX_LIFETIME_S, u64>")]
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
    /// Endpoint that says what its tokens mean (RFC 7662). Its tokens are opaque: what has the form of a JWT is refused. It
    /// has no keys, so `algorithms`, `types`, `token_type`, `tenants`, `provider`, `revocations_from`, `logout` and `events`
    /// do not go with it. Example:
    /// `introspection = { url = "https://id.example.com/introspect", client_id = "gateway" }`
    pub introspection: Option<Introspection>,
    /// API keys: its tokens are texts with a prefix, and the gateway has a record of each. They have no audience, no lifetime
    /// and no signature, so `audience`, `max_lifetime_s`, `proof`, `introspection` and what `introspection` excludes do not
    /// go with it. Implies `revocable`. Example: `api_keys = { prefix = "pck", from = "auth-service" }`
    pub api_keys: Option<ApiKeys>,
    /// Whether tokens can be revoked before they expire, by routes with `ends_session`.
    #[serde(default)]
    pub revocable: bool,
    /// `sub` of the service tokens that may revoke tokens at `POST /_gateway/revocations`. Implies
    /// `revocable`.
    pub revocations_from: Option<String>,
    /// Accepts the provider's logout tokens (OpenID Connect Back-Channel Logout 1.0) at
    /// `POST /_gateway/logout/NAME`. Implies `revocable`. Example: `logout = { audience = ["web-app"] }`
    pub logout: Option<Logout>,
    /// Accepts security events (RFC 8417, RFC 8935; CAEP 1.0 of the Shared Signals Framework) at
    /// `POST /_gateway/events/NAME`. Implies `revocable`. Example:
    /// `events = { audience = ["https://api.example.com"] }`
    pub events: Option<Events>,
}

/// The introspection endpoint of an issuer. The variable `INTROSPECTION_<NAME>_URL` replaces `url` at run time. The secret
/// `INTROSPECTION_SECRET_<NAME>` authenticates the gateway: as the secret of `client_id`, or as a bearer token without
/// `client_id`. See docs/standards/introspection.md.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Introspection {
    /// Its URL. `http://` is for loopback on a development machine.
    pub url: String,
    /// The gateway's client id at the authorization server.
    pub client_id: Option<String>,
    /// Milliseconds to its answer; then 503.
    #[serde(default = "number::<1_000, u64>")]
    pub timeout_ms: u64,
    /// Longest time in seconds for which an isolate uses an answer. A token that the server ends is accepted for as long,
    /// unless the gateway's revocation log has it. An inactive token is remembered for five seconds.
    #[serde(default = "number::<30, u64>")]
    pub cache_s: u64,
    /// Circuit breaker. It opens after consecutive outages (no connection, no answer in time, or 502, 503 or 504).
    #[serde(default)]
    pub breaker: Breaker,
}

/// API keys: `<prefix>_`, 40 random hexadecimal digits, and 8 of a checksum. See docs/standards/api-keys.md.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ApiKeys {
    /// What its keys begin with: 2 to 16 lower-case letters and digits. No other issuer has the same.
    pub prefix: String,
    /// Name of the issuer whose service creates and ends keys at `POST /_gateway/api-keys`. It needs `revocations_from`.
    pub from: String,
}

/// Logout tokens of an issuer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Logout {
    /// Client ids: the `aud` of logout tokens is one of them.
    pub audience: Vec<String>,
}

/// Security events that revoke tokens of an issuer. They are signed by its keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Events {
    /// Exact `iss` of the events, if it differs from that of the tokens.
    pub issuer: Option<String>,
    /// Names of this receiver: the `aud` of events is one of them.
    pub audience: Vec<String>,
    /// Whether the transmitter sends an `Authorization` header, which the secret `EVENTS_AUTHORIZATION_<NAME>` holds
    /// in full, such as `Bearer …`.
    #[serde(default)]
    pub authorization: bool,
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

    /// Returns whether its tokens can be revoked.
    pub(crate) fn has_revocable_tokens(&self) -> bool {
        self.revocable
            || self.revocations_from.is_some()
            || self.logout.is_some()
            || self.events.is_some()
            || self.api_keys.is_some()
    }

    /// Returns whether its tokens have no claims of their own, and no signature.
    pub fn has_opaque_tokens(&self) -> bool {
        self.introspection.is_some() || self.api_keys.is_some()
    }

    /// Returns whether it accepts events of a form.
    pub fn accepts_events(&self, form: EventForm) -> bool {
        match form {
            EventForm::Logout => self.logout.is_some(),
            EventForm::SecurityEvent => self.events.is_some(),
        }
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

/// A claim path that is present, as one name or a list of names.
fn claim_path<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<ClaimPath>, D::Error> {
    portcullis_token::deserialize_claim_path(deserializer).map(Some)
}

/// A value without repeated members, which parsers understand differently.
pub(super) fn strict_value<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Ok(Some(portcullis_token::deserialize_strict(deserializer)?).filter(|value| !value.is_null()))
}
