//! What every policy must be, wherever it comes from: looked at once more when the build
//! has checked the file, and by the worker for a policy that was pushed, since nobody's
//! word counts there. The file's own check (`check`) finds the same with lines and mends.

use std::collections::HashSet;

use super::{
    Access, Cors, HeaderRules, Issuer, JwksSource, Policy, RequireRule, Route, TENANT, Upstream, Variants, is_own_path,
    reserved::{is_reserved_in_answers, is_reserved_in_requests},
    url::{check_base_url, check_url},
    variants::{Lenient, find_passed},
};

/// Routes; at a thousand bytes each that is what an isolate can bear.
const ROUTES: usize = 20_000;

/// Issuers, upstreams, limits, CORS policies: each.
const OTHERS: usize = 1_000;

/// Bytes of a name; names become metric labels and parts of secrets' names.
pub(super) const NAME_BYTES: usize = 40;

/// Seconds; more leeway than this and `exp` means little.
pub(super) const LEEWAY_MAX_S: u64 = 300;

/// Seconds: a week, the longest that a provider of short-lived access tokens lets its
/// customers choose. Revocations have to be kept for as long.
pub(super) const LIFETIME_MAX_S: u64 = 604_800;

/// Tenants of one issuer.
pub(super) const TENANTS: usize = 1_000;

/// Bytes of a tenant's id.
const TENANT_BYTES: usize = 64;

/// Tenants that are none: what stands at their place in URLs that are for several.
const NO_TENANTS: &[&str] = &["common", "organizations", "consumers"];

/// Milliseconds; clients give up long before.
pub(super) const TIMEOUT_MAX_MS: u64 = 120_000;

/// Milliseconds; an hour. What stands still for longer has been forgotten.
pub(super) const IDLE_MAX_MS: u64 = 3_600_000;

/// Seconds; a day. Who is away for longer should say so on a page.
pub(super) const MAINTENANCE_MAX_S: u64 = 86_400;

/// Headers that one rule may set, and may take away.
pub(super) const HEADER_RULES: usize = 20;

/// Bytes of a header that a rule sets.
pub(super) const HEADER_VALUE_BYTES: usize = 1_024;

/// How a cookie's name begins that no other host, a subdomain's owner say, can have set
/// (RFC 6265bis, section 4.1.3.2).
pub(super) const COOKIE_PREFIX: &str = "__Host-";

/// Milliseconds; an hour. Who uploads for longer should do it in parts.
pub(super) const BODY_TIMEOUT_MAX_MS: u64 = 3_600_000;

/// How deep `any` and `all` may nest; deeper rules cannot be read by people.
pub(super) const ACCESS_DEPTH: usize = 4;

/// Names that lead to a claim; no provider that we know of nests deeper than three.
pub(super) const CLAIM_DEPTH: usize = 8;

/// Bytes of a text that a claim is compared with: longer ones are never kept of a token.
pub(super) const VALUE_BYTES: usize = 320;

/// Bytes of a body: what the platform itself takes, at its most generous plan.
pub(super) const BODY_MAX: u64 = 500 * 1024 * 1024;

/// Bytes of the reason for which a route allows variants of its path: a sentence.
pub(super) const REASON_BYTES: usize = 300;

/// Milliseconds: bounds of how old a copy of the revocation log may be.
pub(super) const REVOCATION_AGE_MS: std::ops::RangeInclusive<u64> = 5_000..=3_600_000;

/// Methods that a route may name.
pub(super) const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

pub(super) fn is_name(text: &str) -> bool {
    let plain = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    !text.is_empty() && text.len() <= NAME_BYTES && plain
}

/// An `iss`, as a template where there are tenants and plain where there are none.
pub(super) fn is_template(issuer: &str, has_tenants: bool) -> bool {
    match issuer.split_once(TENANT) {
        Some((before, behind)) => has_tenants && !before.contains(['{', '}']) && !behind.contains(['{', '}']),
        None => !has_tenants,
    }
}

pub(super) fn is_tenant(text: &str) -> bool {
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    !text.is_empty() && text.len() <= TENANT_BYTES && plain && !NO_TENANTS.contains(&text)
}

/// Names that lead to a claim.
pub(super) fn is_claim_path(names: &[String]) -> bool {
    !names.is_empty() && names.len() <= CLAIM_DEPTH && names.iter().all(|name| !name.is_empty())
}

/// One or more whole segments, none of which means another.
pub(super) fn is_fixed_path(text: &str) -> bool {
    text.strip_prefix('/').is_some_and(|rest| {
        rest.split('/').all(|segment| {
            !segment.is_empty()
                && !segment.chars().all(|c| c == '.')
                && segment.chars().all(|c| c.is_ascii_alphanumeric() || "-._~".contains(c))
        })
    })
}

/// `https://app.example.com`, or with `*.` before the host; not `*` alone.
pub(super) fn is_origin(text: &str) -> bool {
    let bare = text.replacen("://*.", "://", 1);
    let host = bare.strip_prefix("https://").or_else(|| bare.strip_prefix("http://"));
    host.is_some_and(|host| {
        !host.is_empty() && host.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-:[]".contains(c))
    })
}

pub(super) fn is_header_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
}

/// A header that a rule may set or take away, by its lower-case name.
pub(super) fn is_free_header(name: &str, in_requests: bool) -> bool {
    let is_reserved = if in_requests { is_reserved_in_requests(name) } else { is_reserved_in_answers(name) };
    is_header_name(name) && name.len() <= NAME_BYTES && !is_reserved
}

/// A value that may stand in a header's line: no control characters, and no spaces that a
/// parser would take away.
pub(super) fn is_header_value(text: &str) -> bool {
    text.len() <= HEADER_VALUE_BYTES && text.chars().all(|c| c.is_ascii_graphic() || c == ' ') && text.trim() == text
}

pub(super) fn is_cookie_name(text: &str) -> bool {
    let rest = text.strip_prefix(COOKIE_PREFIX);
    text.len() <= NAME_BYTES && rest.is_some_and(is_header_name)
}

pub(super) fn is_reason(text: &str) -> bool {
    !text.trim().is_empty() && text.len() <= REASON_BYTES
}

/// Whether a rule asks for more than a token: for rights, or for one user. What a role is
/// called and whose an id is means something within one issuer only.
fn names_rights(access: &Access) -> bool {
    match access {
        Access::Public | Access::User => false,
        Access::Roles(_) | Access::Scopes(_) | Access::Claim(_) | Access::Owner(_) => true,
        Access::Any(rules) | Access::All(rules) => rules.iter().any(names_rights),
    }
}

/// Whether a route asks for rights and takes tokens of several issuers or tenants without
/// naming its issuers.
pub(super) fn names_no_issuer(access: &Access, has_issuers: bool, issuers: usize) -> bool {
    !has_issuers && issuers > 1 && names_rights(access)
}

/// A value that a claim may be compared with.
pub(super) fn is_plain_value(value: &serde_json::Value) -> bool {
    value.as_str().is_some_and(|text| text.len() <= VALUE_BYTES) || value.is_boolean() || value.is_i64()
}

pub(super) fn values_of(rule: &RequireRule) -> &[serde_json::Value] {
    match rule {
        RequireRule::Present => &[],
        RequireRule::Equals(value) => std::slice::from_ref(value),
        RequireRule::OneOf(values) => values,
    }
}

/// Names, if each is one and none is there twice.
fn names(names: Vec<&str>) -> Option<HashSet<&str>> {
    let unique: HashSet<&str> = names.iter().copied().collect();
    (unique.len() == names.len() && names.iter().all(|name| is_name(name))).then_some(unique)
}

impl Policy {
    /// What is wrong with the policy, in words for its author; `None` when nothing is.
    pub fn find_fault(&self) -> Option<String> {
        let counts = [self.issuers.len(), self.upstreams.len(), self.limits.len(), self.cors.len()];
        if self.routes.len() > ROUTES || counts.into_iter().any(|count| count > OTHERS) {
            return Some(format!("it has more than {ROUTES} routes, or more than {OTHERS} of something else"));
        }
        if !REVOCATION_AGE_MS.contains(&self.revocation_max_age_ms) {
            return Some("the age of a copy of the revocation log is out of range".to_owned());
        }
        if !self.token_cookie.as_deref().is_none_or(is_cookie_name) {
            return Some(format!("the token's cookie is none that begins with {COOKIE_PREFIX}"));
        }
        let known = (
            names(self.issuers.iter().map(|issuer| issuer.name.as_str()).collect()),
            names(self.upstreams.iter().map(|upstream| upstream.name.as_str()).collect()),
            names(self.limits.iter().map(|limit| limit.name.as_str()).collect()),
            names(self.cors.iter().map(|cors| cors.name.as_str()).collect()),
        );
        let (Some(issuers), Some(upstreams), Some(limits), Some(cors)) = known else {
            return Some("a name is there twice, or is none".to_owned());
        };
        let urls: Vec<String> = self.issuers.iter().flat_map(Issuer::names).collect();
        if urls.iter().collect::<HashSet<_>>().len() < urls.len() {
            return Some("two issuers have one `iss`".to_owned());
        }
        let mut claimed: HashSet<(&str, &str)> = HashSet::new();
        let several = self.issuers.iter().map(|issuer| issuer.tenants.len().max(1)).sum();
        let in_routes = self.routes.iter().find_map(|route| {
            let is_new = route.methods.iter().all(|method| claimed.insert((route.path.as_str(), method.as_str())));
            let resolves = upstreams.contains(route.upstream.as_str())
                && route.cors.as_ref().is_none_or(|name| cors.contains(name.as_str()))
                && route.limits.iter().all(|name| limits.contains(name.as_str()))
                && route.issuers.iter().flatten().all(|name| issuers.contains(name.as_str()));
            if route.token_cookie && self.token_cookie.is_none() {
                return Some(format!("route {:?} takes a token from a cookie that has no name", route.path));
            }
            // Nothing would look at it, or at who asks.
            if route.token_cookie && route.access == Access::Public {
                return Some(format!("route {:?} is public and takes a token from a cookie", route.path));
            }
            if names_no_issuer(&route.access, route.issuers.is_some(), several) {
                return Some(format!("route {:?} asks for rights and names none of several issuers", route.path));
            }
            if !is_new {
                return Some(format!("route {:?} has a method twice", route.path));
            }
            if !resolves {
                return Some(format!(
                    "route {:?} names something that is not there, such as no upstream of that name",
                    route.path
                ));
            }
            route.find_fault()
        });
        let passed = || {
            let issuers: Vec<&str> = self.issuers.iter().map(|issuer| issuer.name.as_str()).collect();
            find_passed(&self.routes, &self.upstreams, &issuers).first().map(|passed| passed.message(&self.routes))
        };
        let collision = || {
            let error = Lenient::of(&self.routes).err()?;
            Some(format!(
                "variants = \"refuse\" takes paths in every case, and two that differ in case collide: {error}"
            ))
        };
        in_routes
            .or_else(passed)
            .or_else(collision)
            .or_else(|| self.upstreams.iter().find_map(Upstream::find_fault))
            .or_else(|| self.issuers.iter().find_map(|issuer| issuer.find_fault(&upstreams)))
            .or_else(|| self.cors.iter().find_map(Cors::find_fault))
    }
}

impl Route {
    fn find_fault(&self) -> Option<String> {
        let path = &self.path;
        let params = self.params();
        let is_fine_path = path.starts_with('/') && !is_own_path(path) && params.is_some();
        let are_methods =
            !self.methods.is_empty() && self.methods.iter().all(|method| METHODS.contains(&method.as_str()));
        if !is_fine_path || !are_methods || self.max_body_bytes > BODY_MAX {
            return Some(format!("route {path:?} is not one that a policy may have"));
        }
        if !self.access.is_sound(&params.unwrap_or_default(), ACCESS_DEPTH, true) {
            return Some(format!("the access rule of route {path:?} would open it, or let nobody in"));
        }
        let is_prefix = |(from, to): &(String, String)| {
            let rest = path.strip_prefix(from.as_str());
            is_fixed_path(from)
                && (to.is_empty() || is_fixed_path(to))
                && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if !self.rewrite.as_ref().is_none_or(is_prefix) {
            return Some(format!("route {path:?} is rewritten to no path"));
        }
        if matches!(&self.variants, Variants::Allow(reason) if !is_reason(reason)) {
            return Some(format!("route {path:?} allows variants of its path without a reason"));
        }
        if !self.request_headers.is_sound(true) || !self.response_headers.is_sound(false) {
            return Some(format!("route {path:?} has a rule for a header that is not for rules"));
        }
        None
    }

    /// Names of the path's parameters; `None` when it is no pattern.
    fn params(&self) -> Option<Vec<&str>> {
        let mut params = Vec::new();
        let segments: Vec<&str> = self.path.strip_prefix('/')?.split('/').collect();
        let last = segments.len().checked_sub(1)?;
        for (index, segment) in segments.iter().enumerate() {
            if let Some(inner) = segment.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) {
                let name = inner.strip_prefix('*').unwrap_or(inner);
                let is_fine = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
                if !is_fine || params.contains(&name) || (inner.starts_with('*') && index != last) {
                    return None;
                }
                params.push(name);
            } else if segment.contains(['{', '}', '%', '?', '#', ';', '\\']) || segment.chars().any(char::is_whitespace)
            {
                return None;
            }
        }
        Some(params)
    }
}

impl HeaderRules {
    fn is_sound(&self, in_requests: bool) -> bool {
        let names: HashSet<&str> = self.set.iter().map(|(name, _)| name.as_str()).collect();
        names.len() == self.set.len()
            && self.set.len() <= HEADER_RULES
            && self.remove.len() <= HEADER_RULES
            && self.set.iter().all(|(name, value)| {
                *name == name.to_ascii_lowercase()
                    && name != "set-cookie"
                    && is_free_header(name, in_requests)
                    && is_header_value(value)
            })
            && self.remove.iter().all(|name| *name == name.to_ascii_lowercase() && is_free_header(name, in_requests))
    }
}

impl Access {
    fn is_sound(&self, params: &[&str], depth: usize, is_top: bool) -> bool {
        let named = |names: &[String]| !names.is_empty() && names.iter().all(|name| !name.is_empty());
        match self {
            Self::Public => is_top,
            Self::User => true,
            Self::Roles(names) | Self::Scopes(names) => named(names),
            Self::Owner(name) => params.contains(&name.as_str()),
            Self::Claim(require) => {
                named(&require.claim)
                    && require.claim.len() <= CLAIM_DEPTH
                    && values_of(&require.rule).iter().all(is_plain_value)
                    && require.rule != RequireRule::OneOf(vec![])
            }
            Self::Any(rules) | Self::All(rules) => {
                let Some(depth) = depth.checked_sub(1) else { return false };
                !rules.is_empty() && rules.iter().all(|rule| rule.is_sound(params, depth, false))
            }
        }
    }
}

impl Upstream {
    fn find_fault(&self) -> Option<String> {
        let are_places = !self.targets.is_empty()
            && self
                .targets
                .iter()
                .all(|target| check_base_url(&target.url).is_ok() && (1..=1_000).contains(&target.weight));
        let are_times = (1..=TIMEOUT_MAX_MS).contains(&self.timeout_ms)
            && (1..=BODY_TIMEOUT_MAX_MS).contains(&self.body_timeout_ms)
            && (1_000..=3_600_000).contains(&self.breaker_open_ms)
            && self.idle_timeout_ms.is_none_or(|idle| (1..=IDLE_MAX_MS).contains(&idle))
            && self.maintenance_s.is_none_or(|pause| (1..=MAINTENANCE_MAX_S).contains(&pause));
        let are_counts = self.retries <= 3
            && (1..=100_000).contains(&self.max_concurrent)
            && (1..=1_000).contains(&self.breaker_failures);
        (!are_places || !are_times || !are_counts)
            .then(|| format!("upstream {:?} has no place that can be asked, or a number out of range", self.name))
    }
}

impl Issuer {
    fn find_fault(&self, upstreams: &HashSet<&str>) -> Option<String> {
        let has_keys = match &self.jwks {
            JwksSource::Url(url) => check_url(url).is_ok(),
            JwksSource::Discovery => check_url(&self.issuer.replacen(TENANT, "common", 1)).is_ok(),
            JwksSource::Upstream { upstream, path } => upstreams.contains(upstream.as_str()) && path.starts_with('/'),
        };
        // Another tenant's service must not end this one's sessions.
        let are_tenants = is_template(&self.issuer, !self.tenants.is_empty())
            && self.tenants.len() <= TENANTS
            && self.tenants.iter().all(|tenant| is_tenant(tenant))
            && (self.tenants.is_empty() || self.revocations_from.is_none());
        let is_judged = !self.issuer.is_empty()
            && are_tenants
            && self.audience_claim.as_deref().is_none_or(is_claim_path)
            && self.audience.iter().any(|audience| !audience.is_empty())
            && !self.algorithms.is_empty()
            && self.leeway_s <= LEEWAY_MAX_S
            && (1..=LIFETIME_MAX_S).contains(&self.max_lifetime_s)
            && self.require.iter().all(|require| values_of(&require.rule).iter().all(is_plain_value));
        (!has_keys || !is_judged).then(|| {
            format!("issuer {:?} has no keys that can be asked for, no audience, or a number out of range", self.name)
        })
    }
}

impl Cors {
    fn find_fault(&self) -> Option<String> {
        let is_any = self.origins.iter().any(|origin| origin == "*");
        let are_origins =
            !self.origins.is_empty() && self.origins.iter().all(|origin| origin == "*" || is_origin(origin));
        let are_headers = self.headers.iter().chain(&self.expose).all(|name| is_header_name(name));
        let is_sound = are_origins && are_headers && self.max_age_s <= 86_400 && !(is_any && self.credentials);
        (!is_sound).then(|| {
            format!("CORS policy {:?} gives credentials to everybody, or names what is no origin or header", self.name)
        })
    }
}
