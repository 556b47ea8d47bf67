//! `gateway.toml` as it is written. Shapes and defaults only; what the values
//! must be is in `check`. Unknown keys are errors everywhere: a misspelt
//! `acess` must not become a default.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor},
};
use toml::Spanned;

use super::{Access, ClaimPath, EncodedPath, LimitBy, OnDown, Require, RequireRule, RevocationCheck, Variants};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    pub(super) issuers: BTreeMap<Spanned<String>, Issuer>,
    #[serde(default)]
    pub(super) upstreams: BTreeMap<Spanned<String>, Upstream>,
    #[serde(default)]
    pub(super) routes: Vec<Spanned<Route>>,
    #[serde(default)]
    pub(super) revocation: Revocation,
    #[serde(default)]
    pub(super) cors: BTreeMap<Spanned<String>, CorsSource>,
    #[serde(default)]
    pub(super) limits: BTreeMap<Spanned<String>, LimitSource>,
    pub(super) token_cookie: Option<TokenCookie>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenCookie {
    pub(super) name: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitSource {
    pub(super) by: LimitBy,
    #[serde(default = "default_retry_after_s")]
    pub(super) retry_after_s: Spanned<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CorsSource {
    pub(super) origins: Spanned<Vec<String>>,
    #[serde(default)]
    pub(super) credentials: bool,
    #[serde(default = "default_cors_headers")]
    pub(super) headers: Spanned<Vec<String>>,
    #[serde(default = "default_cors_expose")]
    pub(super) expose: Spanned<Vec<String>>,
    #[serde(default = "default_cors_age")]
    pub(super) max_age_s: Spanned<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Revocation {
    #[serde(default = "default_max_age_s")]
    pub(super) max_age_s: Spanned<u64>,
}

impl Default for Revocation {
    fn default() -> Self {
        Self { max_age_s: default_max_age_s() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Issuer {
    pub(super) provider: Option<Spanned<String>>,
    pub(super) issuer: Spanned<String>,
    pub(super) tenants: Option<Spanned<Vec<String>>>,
    pub(super) audience: Spanned<Vec<String>>,
    pub(super) audience_claim: Option<Spanned<PathSource>>,
    pub(super) algorithms: Option<Spanned<Vec<String>>>,
    #[serde(default)]
    pub(super) types: Vec<String>,
    pub(super) token_type: Option<String>,
    #[serde(default)]
    pub(super) claims: ClaimsSource,
    #[serde(default)]
    pub(super) require: Vec<Spanned<RequireSource>>,
    #[serde(default = "default_leeway_s")]
    pub(super) leeway_s: Spanned<u64>,
    #[serde(default = "default_max_lifetime_s")]
    pub(super) max_lifetime_s: Spanned<u64>,
    pub(super) discovery: Option<Spanned<bool>>,
    pub(super) jwks_url: Option<Spanned<String>>,
    pub(super) jwks_upstream: Option<Spanned<String>>,
    pub(super) jwks_path: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) revocable: bool,
    pub(super) revocations_from: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClaimsSource {
    pub(super) user_id: Option<Spanned<PathSource>>,
    pub(super) email: Option<Spanned<PathSource>>,
    pub(super) roles: Option<Spanned<PathSource>>,
    pub(super) scopes: Option<Spanned<PathSource>>,
    pub(super) session: Option<Spanned<PathSource>>,
}

/// A claim: its name, or the names that lead to it. A name may hold dots (many are
/// URLs), so a dotted text is one name.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum PathSource {
    Name(String),
    Names(Vec<String>),
}

impl PathSource {
    pub(super) fn names(&self) -> ClaimPath {
        match self {
            Self::Name(name) => vec![name.clone()],
            Self::Names(names) => names.clone(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RequireSource {
    pub(super) claim: PathSource,
    pub(super) equals: Option<serde_json::Value>,
    pub(super) one_of: Option<Vec<serde_json::Value>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Upstream {
    pub(super) url: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) targets: Vec<UpstreamTarget>,
    #[serde(default = "default_timeout_ms")]
    pub(super) timeout_ms: Spanned<u64>,
    #[serde(default = "default_body_timeout_ms")]
    pub(super) body_timeout_ms: Spanned<u64>,
    #[serde(default = "default_on_down")]
    pub(super) on_down: OnDown,
    #[serde(default = "default_retries")]
    pub(super) retries: Spanned<u64>,
    #[serde(default = "default_max_concurrent")]
    pub(super) max_concurrent: Spanned<u64>,
    #[serde(default)]
    pub(super) breaker: Breaker,
    pub(super) idle_timeout_ms: Option<Spanned<u64>>,
    pub(super) maintenance: Option<Maintenance>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Maintenance {
    #[serde(default = "default_maintenance_s")]
    pub(super) retry_after_s: Spanned<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UpstreamTarget {
    pub(super) url: Spanned<String>,
    #[serde(default = "default_weight")]
    pub(super) weight: Spanned<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Breaker {
    #[serde(default = "default_failures")]
    pub(super) failures: Spanned<u64>,
    #[serde(default = "default_open_s")]
    pub(super) open_s: Spanned<u64>,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failures: default_failures(), open_s: default_open_s() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    pub(super) path: Spanned<String>,
    pub(super) methods: Spanned<Vec<String>>,
    pub(super) upstream: Spanned<String>,
    pub(super) access: Option<Spanned<AccessSource>>,
    #[serde(default)]
    pub(super) forward_authorization: bool,
    #[serde(default = "default_revocation")]
    pub(super) revocation: Spanned<RevocationCheck>,
    pub(super) issuers: Option<Spanned<Vec<String>>>,
    pub(super) cors: Option<Spanned<String>>,
    pub(super) limits: Option<Spanned<Vec<String>>>,
    pub(super) strip_prefix: Option<Spanned<String>>,
    pub(super) replace_prefix: Option<Spanned<ReplacePrefix>>,
    #[serde(default = "default_max_body_bytes")]
    pub(super) max_body_bytes: Spanned<u64>,
    #[serde(default)]
    pub(super) websocket: bool,
    #[serde(default)]
    pub(super) ends_session: bool,
    #[serde(default)]
    pub(super) token_cookie: bool,
    #[serde(default)]
    pub(super) request_headers: HeaderRulesSource,
    #[serde(default)]
    pub(super) response_headers: HeaderRulesSource,
    #[serde(default)]
    pub(super) encoded_path: EncodedPath,
    pub(super) variants: Option<Spanned<VariantsSource>>,
    #[serde(default = "default_nosniff")]
    pub(super) nosniff: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HeaderRulesSource {
    #[serde(default)]
    pub(super) set: BTreeMap<Spanned<String>, Spanned<String>>,
    #[serde(default)]
    pub(super) remove: Vec<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplacePrefix {
    pub(super) from: String,
    pub(super) to: String,
}

fn default_leeway_s() -> Spanned<u64> {
    Spanned::new(0..0, 30)
}

fn default_max_lifetime_s() -> Spanned<u64> {
    Spanned::new(0..0, 86_400)
}

fn default_retry_after_s() -> Spanned<u64> {
    Spanned::new(0..0, 60)
}

fn default_cors_headers() -> Spanned<Vec<String>> {
    Spanned::new(0..0, vec!["authorization".to_owned(), "content-type".to_owned()])
}

fn default_cors_expose() -> Spanned<Vec<String>> {
    Spanned::new(0..0, vec!["x-request-id".to_owned(), "retry-after".to_owned()])
}

fn default_cors_age() -> Spanned<u64> {
    Spanned::new(0..0, 600)
}

fn default_max_age_s() -> Spanned<u64> {
    Spanned::new(0..0, 60)
}

fn default_revocation() -> Spanned<RevocationCheck> {
    Spanned::new(0..0, RevocationCheck::Copy)
}

fn default_timeout_ms() -> Spanned<u64> {
    Spanned::new(0..0, 15_000)
}

fn default_body_timeout_ms() -> Spanned<u64> {
    Spanned::new(0..0, 60_000)
}

fn default_maintenance_s() -> Spanned<u64> {
    Spanned::new(0..0, 300)
}

fn default_retries() -> Spanned<u64> {
    Spanned::new(0..0, 0)
}

fn default_max_concurrent() -> Spanned<u64> {
    Spanned::new(0..0, 1_000)
}

fn default_weight() -> Spanned<u64> {
    Spanned::new(0..0, 1)
}

fn default_failures() -> Spanned<u64> {
    Spanned::new(0..0, 5)
}

fn default_open_s() -> Spanned<u64> {
    Spanned::new(0..0, 60)
}

/// Services of JSON hardly ever set it, and a browser that guesses may run what a user
/// uploaded.
const fn default_nosniff() -> bool {
    true
}

fn default_max_body_bytes() -> Spanned<u64> {
    Spanned::new(0..0, 1024 * 1024)
}

fn default_on_down() -> OnDown {
    OnDown::BadGateway
}

/// `variants` as written: `"refuse"`, or a table with the reason to allow them.
#[derive(Debug)]
pub(super) struct VariantsSource(pub(super) Variants);

const VARIANTS: &str = "\"refuse\", or { allow = \"the reason why no variant reaches the same resource\" }";

impl<'de> Deserialize<'de> for VariantsSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct VariantsVisitor;

        impl<'de> Visitor<'de> for VariantsVisitor {
            type Value = VariantsSource;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(VARIANTS)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<VariantsSource, E> {
                match text {
                    "refuse" => Ok(VariantsSource(Variants::Refuse)),
                    other => Err(E::custom(format!("variants {other:?} is not known; write {VARIANTS}"))),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<VariantsSource, A::Error> {
                let mut reason = None;
                while let Some(key) = map.next_key::<String>()? {
                    if key != "allow" {
                        return Err(de::Error::unknown_field(&key, &["allow"]));
                    }
                    reason = Some(map.next_value()?);
                }
                let reason = reason.ok_or_else(|| de::Error::custom(format!("variants is empty; write {VARIANTS}")))?;
                Ok(VariantsSource(Variants::Allow(reason)))
            }
        }

        deserializer.deserialize_any(VariantsVisitor)
    }
}

/// `access` as written: `"public"`, `"user"`, or a table with one key.
#[derive(Debug)]
pub(super) struct AccessSource(pub(super) Access);

const SHAPES: &str = "\"public\", \"user\", { roles = [\"admin\"] }, { scopes = [\"read\"] }, \
                      { owner = \"id\" }, { claim = \"tenant\", equals = \"shop\" }, { any = [...] } or { all = [...] }";

impl<'de> Deserialize<'de> for AccessSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AccessVisitor;

        impl<'de> Visitor<'de> for AccessVisitor {
            type Value = AccessSource;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(SHAPES)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<AccessSource, E> {
                match text {
                    "public" => Ok(AccessSource(Access::Public)),
                    "user" => Ok(AccessSource(Access::User)),
                    other => Err(E::custom(format!("access {other:?} is not known; write {SHAPES}"))),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AccessSource, A::Error> {
                let wrong = || de::Error::custom(format!("access takes one key; write {SHAPES}"));
                let many = |list: Vec<AccessSource>| list.into_iter().map(|item| item.0).collect();
                let first = map.next_key::<String>()?;
                if first.as_deref() == Some("claim") {
                    let claim: PathSource = map.next_value()?;
                    let rule = match map.next_key::<String>()?.as_deref() {
                        None => RequireRule::Present,
                        Some("equals") => RequireRule::Equals(map.next_value()?),
                        Some("one_of") => RequireRule::OneOf(map.next_value()?),
                        Some(_) => return Err(wrong()),
                    };
                    if map.next_key::<String>()?.is_some() {
                        return Err(wrong());
                    }
                    return Ok(AccessSource(Access::Claim(Require { claim: claim.names(), rule })));
                }
                let access = match first.as_deref() {
                    Some("roles") => Access::Roles(map.next_value()?),
                    Some("scopes") => Access::Scopes(map.next_value()?),
                    Some("owner") => Access::Owner(map.next_value()?),
                    Some("any") => Access::Any(many(map.next_value()?)),
                    Some("all") => Access::All(many(map.next_value()?)),
                    _ => return Err(wrong()),
                };
                if map.next_key::<String>()?.is_some() {
                    return Err(wrong());
                }
                Ok(AccessSource(access))
            }
        }

        deserializer.deserialize_any(AccessVisitor)
    }
}
