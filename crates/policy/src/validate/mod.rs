//! What a policy must be, wherever it comes from: a file that is checked, a document that is
//! built into the Worker, or one that was pushed.

mod issuers;
mod opaque;
mod refusals;
mod resources;
mod routes;
mod values;
mod variants;

use std::{collections::HashSet, fmt};

use crate::{
    error::{Place, Violation},
    limits::{self, Bounds},
    model::{Authorizer, Breaker, COOKIE_PREFIX, Cors, Policy, Upstream},
    named::{Named, find},
    reserved::is_own_binding,
    url::{check_base_url, check_bound_url, check_url, is_origin},
};
pub use issuers::is_inside_folder;
use values::{header_name_advice, is_binding_name, is_cookie_name, is_header_name, is_name};

#[cfg(feature = "toml")]
use crate::suggest::hint;

/// The Worker makes no suggestions.
#[cfg(not(feature = "toml"))]
fn hint<'a>(_: &str, _: impl IntoIterator<Item = &'a str>) -> &'static str {
    ""
}

/// Returns every violation.
pub(crate) fn validate(policy: &Policy) -> Vec<Violation> {
    let mut validator = Validator { policy, violations: Vec::new(), subject: None, keys: 0, token_headers: Vec::new() };
    validator.document();
    validator.table("upstreams", "upstream", &policy.upstreams, Validator::upstream);
    let mut known = HashSet::new();
    validator
        .table("issuers", "issuer", &policy.issuers, |validator, at, issuer| validator.issuer(at, issuer, &mut known));
    validator.token_headers();
    validator.routes();
    validator.resources();
    validator.refusals();
    validator.table("cors", "cors", &policy.cors, Validator::cors);
    validator.table("authorizers", "authorizer", &policy.authorizers, Validator::authorizer);
    validator.table("limits", "limit", &policy.limits, |validator, at, limit| {
        validator.bounds(&at.key("retry_after_s"), limit.retry_after_s, limits::RETRY_AFTER_S);
    });
    validator.violations
}

struct Validator<'a> {
    policy: &'a Policy,
    violations: Vec<Violation>,
    /// The entry that messages are about: its kind and its name.
    subject: Option<(&'static str, &'a str)>,
    /// Keys in the policy so far.
    keys: usize,
    /// The token headers of all issuers.
    token_headers: Vec<&'a str>,
}

impl<'a> Validator<'a> {
    fn push(&mut self, at: &Place<'_>, message: String) {
        self.violations.push(Violation { path: at.path(), message, first: None });
    }

    /// Reports a message about the subject.
    fn report(&mut self, at: &Place<'_>, message: impl fmt::Display) {
        let message = match self.subject {
            Some((kind, name)) => format!("{kind} {name:?}: {message}"),
            None => message.to_string(),
        };
        self.push(at, message);
    }

    /// Reports the message unless `is_valid`.
    fn require<M: fmt::Display>(&mut self, is_valid: bool, at: &Place<'_>, message: impl FnOnce() -> M) {
        if !is_valid {
            self.report(at, message());
        }
    }

    fn bounds(&mut self, at: &Place<'_>, value: impl Into<u64>, bounds: Bounds) {
        let value = value.into();
        if !bounds.contains(&value) {
            let (min, max) = bounds.into_inner();
            self.push(at, format!("{} = {value} is out of range; write {min} to {max}", at.path()));
        }
    }

    /// Reports a list that is empty or has an empty name, or whose names are not within their bounds.
    fn list(&mut self, at: &Place<'_>, names: &[String], most: usize, if_empty: impl fmt::Display) {
        self.require(!names.is_empty() && names.iter().all(|name| !name.is_empty()), at, || if_empty);
        self.names(at, names, most);
    }

    /// Reports more than `most` names, and each that is too long.
    fn names(&mut self, at: &Place<'_>, names: &[String], most: usize) {
        self.at_most(at, names.len(), most);
        names.iter().for_each(|name| self.text(at, name));
    }

    fn text(&mut self, at: &Place<'_>, text: &str) {
        let (length, most) = (text.len(), limits::TEXT_BYTES);
        self.require(length <= most, at, || {
            format!("{} has a text of {length} bytes; write at most {most}", at.last_key())
        });
    }

    /// Reports what is wrong with a URL. Messages leave URLs out: the Worker logs them, too, and no log
    /// holds an internal URL.
    fn url(&mut self, at: &Place<'_>, name: &str, url: &str, check: fn(&str) -> Result<(), &'static str>) {
        self.text(at, url);
        if let Err(fault) = check(url) {
            self.report(at, format_args!("{name} {fault}"));
        }
    }

    /// Checks what a proof is checked with.
    fn proof(&mut self, at: &Place<'_>) {
        self.require(self.policy.public_url.is_some(), at, || {
            "proof needs public_url = \"https://…\" before the first table: proofs name the gateway's URL, and a request's \
             Host can be forged"
        });
    }

    fn at_most(&mut self, at: &Place<'_>, count: usize, most: usize) {
        self.require(count <= most, at, || format!("{} has a list of {count}; write at most {most}", at.last_key()));
    }

    /// Checks each entry of a table, and its name.
    fn table<T: Named>(
        &mut self,
        key: &str,
        kind: &'static str,
        entries: &'a [T],
        mut check: impl FnMut(&mut Self, &Place<'_>, &T),
    ) {
        let table = Place::Document.key(key);
        for entry in entries {
            let (name, at) = (entry.name(), table.key(entry.name()));
            if !is_name(name) {
                let most = limits::NAME_BYTES;
                self.push(&at, format!("{kind} name {name:?} must be 1 to {most} of a-z, 0-9 and -"));
            }
            self.subject = Some((kind, name));
            check(self, &at, entry);
        }
    }

    /// Returns the named entry of a table sorted by name, or reports that it is missing.
    fn reference<'t, T: Named>(&mut self, at: &Place<'_>, kind: &str, name: &str, table: &'t [T]) -> Option<&'t T> {
        let found = find(table, name);
        self.require(found.is_some(), at, || {
            let known: Vec<&str> = table.iter().map(Named::name).collect();
            let defined = if known.is_empty() { "none is".to_owned() } else { listed(&known) };
            let plural = if kind == "cors" { "" } else { "s" };
            let hint = hint(name, known);
            format!(
                "no {kind} is named {name:?} (defined: {defined}); add [{kind}{plural}.{name}] or use one of these{hint}"
            )
        });
        found
    }

    fn document(&mut self) {
        let policy = self.policy;
        let root = Place::Document;
        self.require(policy.version == limits::VERSION, &root.key("version"), || {
            format!("version {} is not known to this gateway, which reads version {}", policy.version, limits::VERSION)
        });
        if policy.upstreams.is_empty() {
            self.report(&root, "no upstream is defined; add [upstreams.NAME] with its url");
        }
        if policy.routes.is_empty() {
            self.report(&root, "no route is defined, so every request would be 404; add [[routes]]");
        }
        let tables = [
            policy.issuers.len(),
            policy.upstreams.len(),
            policy.limits.len(),
            policy.cors.len(),
            policy.authorizers.len(),
        ];
        let fits = policy.routes.len() <= limits::ROUTES && tables.into_iter().all(|count| count <= limits::TABLES);
        self.require(fits, &root, || {
            format!(
                "a policy has at most {} routes, and {} issuers, upstreams, limits, authorizers and CORS policies each",
                limits::ROUTES,
                limits::TABLES
            )
        });
        let revocation = root.key("revocation");
        self.bounds(&revocation.key("max_age_s"), policy.revocation.max_age_s, limits::REVOCATION_AGE_S);
        if let Some(cookie) = &policy.token_cookie {
            self.require(is_cookie_name(&cookie.name), &root.key("token_cookie").key("name"), || {
                format!(
                    "the name {:?} of the token cookie must begin with {COOKIE_PREFIX}, so that no other host can set \
                     it, and continue with letters, digits, - and _, up to {} in all",
                    cookie.name,
                    limits::NAME_BYTES
                )
            });
        }
    }

    fn upstream(&mut self, at: &Place<'_>, upstream: &Upstream) {
        let has_url = upstream.url.is_some() || (upstream.binding.is_some() && upstream.targets.is_empty());
        let has_one_place = has_url == upstream.targets.is_empty();
        self.require(has_one_place && upstream.targets.len() <= limits::TARGETS, at, || {
            format!(
                "say where it is, once: url = \"https://…\", or targets = [{{ url = \"https://…\", weight = 1 }}, …] \
                 with at most {}, or binding = \"…\"",
                limits::TARGETS
            )
        });
        if let Some(binding) = &upstream.binding {
            self.require(is_binding_name(binding) && !is_own_binding(binding), &at.key("binding"), || {
                format!(
                    "{binding:?} is no binding of a service; write a name of 1 to {} letters, digits and _ that is not one \
                     of the gateway's own",
                    limits::BINDING_BYTES
                )
            });
        }
        let check_base_url = if upstream.binding.is_some() { check_bound_url } else { check_base_url };
        if let Some(url) = &upstream.url {
            self.url(&at.key("url"), "its url", url, check_base_url);
        }
        for (index, target) in upstream.targets.iter().enumerate() {
            let targets = at.key("targets");
            let at = targets.index(index);
            self.url(&at.key("url"), "its url", &target.url, check_base_url);
            self.bounds(&at.key("weight"), target.weight, limits::WEIGHT);
        }
        #[cfg(feature = "toml")]
        self.openapi(at, upstream);
        self.bounds(&at.key("timeout_ms"), upstream.timeout_ms, limits::TIMEOUT_MS);
        self.bounds(&at.key("body_timeout_ms"), upstream.body_timeout_ms, limits::BODY_TIMEOUT_MS);
        self.bounds(&at.key("retries"), upstream.retries, limits::RETRIES);
        self.bounds(&at.key("max_concurrent"), upstream.max_concurrent, limits::CONCURRENT);
        let claims = &upstream.assertion.claims;
        let at_claims = at.key("assertion");
        let at_claims = at_claims.key("claims");
        if !claims.is_empty() {
            self.list(&at_claims, claims, limits::ASSERTED_CLAIMS, "claims has an empty name; write names of claims");
        }
        let is_repeated =
            claims.iter().enumerate().any(|(index, name)| claims.iter().take(index).any(|known| known == name));
        self.require(!is_repeated, &at_claims, || "claims has a name twice; keep one of them");
        self.breaker(&at.key("breaker"), &upstream.breaker);
        if let Some(idle) = upstream.idle_timeout_ms {
            self.bounds(&at.key("idle_timeout_ms"), idle, limits::IDLE_TIMEOUT_MS);
        }
        if let Some(maintenance) = &upstream.maintenance {
            let at = at.key("maintenance");
            self.bounds(&at.key("retry_after_s"), maintenance.retry_after_s, limits::MAINTENANCE_S);
        }
    }

    #[cfg(feature = "toml")]
    fn openapi(&mut self, at: &Place<'_>, upstream: &Upstream) {
        if let Some(file) = &upstream.openapi {
            self.text(&at.key("openapi"), file);
            self.require(
                is_inside_folder(file),
                &at.key("openapi"),
                || "openapi must be a relative path inside the policy file's folder, such as \"apis/shop.yaml\"",
            );
        }
        if let Some(prefix) = &upstream.openapi_prefix {
            let at = at.key("openapi_prefix");
            self.text(&at, prefix);
            self.require(
                prefix == "/" || values::is_fixed_path(prefix),
                &at,
                || "openapi_prefix is one or more whole fixed segments, such as \"/v1\", or \"/\" for none",
            );
            self.require(upstream.openapi.is_some(), &at, || "openapi_prefix needs openapi, the document's file");
        }
    }

    fn breaker(&mut self, at: &Place<'_>, breaker: &Breaker) {
        self.bounds(&at.key("failures"), breaker.failures, limits::BREAKER_FAILURES);
        self.bounds(&at.key("open_s"), breaker.open_s, limits::BREAKER_OPEN_S);
    }

    fn authorizer(&mut self, at: &Place<'_>, authorizer: &Authorizer) {
        self.url(&at.key("url"), "its url", &authorizer.url, check_url);
        self.bounds(&at.key("timeout_ms"), authorizer.timeout_ms, limits::BACKCHANNEL_TIMEOUT_MS);
        self.bounds(&at.key("cache_s"), authorizer.cache_s, limits::AUTHORIZER_CACHE_S);
        self.breaker(&at.key("breaker"), &authorizer.breaker);
    }

    fn cors(&mut self, at: &Place<'_>, cors: &Cors) {
        let origins = at.key("origins");
        self.list(&origins, &cors.origins, limits::NAMES, "origins is empty; name at least one, or remove the policy");
        for origin in &cors.origins {
            let is_any = origin == "*";
            if is_any && cors.credentials {
                self.report(&origins, "credentials cannot go to \"*\", which is every origin; name the origins");
            }
            self.require(is_any || is_origin(origin), &origins, || {
                format!(
                    "{origin:?} is no origin; write https://app.example.com (in lower case, no path, no port that the \
                     scheme implies), https://*.example.com, or * for all"
                )
            });
        }
        for (key, headers) in [("headers", &cors.headers), ("expose", &cors.expose)] {
            self.at_most(&at.key(key), headers.len(), limits::NAMES);
            for header in headers {
                self.require(is_header_name(header), &at.key(key), || {
                    format!("{header:?} is not the name of a header; {}", header_name_advice())
                });
            }
        }
        self.bounds(&at.key("max_age_s"), cors.max_age_s, limits::CORS_AGE_S);
    }
}

/// Lists the first names.
fn listed(names: &[&str]) -> String {
    let more = if names.len() > limits::NAMES_SHOWN { ", …" } else { "" };
    names.iter().take(limits::NAMES_SHOWN).copied().collect::<Vec<_>>().join(", ") + more
}
