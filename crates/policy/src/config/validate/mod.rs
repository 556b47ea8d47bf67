//! What a policy must be, wherever it comes from: a file that is checked, a document that is
//! built into the Worker, or one that was pushed.

mod issuers;
mod routes;
mod values;

use super::{
    Policy, Upstream,
    error::{Place, Violation},
    limits::{self, Bounds},
    model::Cors,
    suggest::hint,
    url::check_base_url,
};
use values::{is_cookie_name, is_header_name, is_name, is_origin};

pub(super) use values::{COOKIE_PREFIX, METHODS};

/// Returns every violation.
pub fn validate(policy: &Policy) -> Vec<Violation> {
    let mut validator = Validator::default();
    validator.document(policy);
    for upstream in &policy.upstreams {
        validator.upstream(upstream);
    }
    validator.issuers(policy);
    validator.routes(policy);
    for cors in &policy.cors {
        validator.cors(cors);
    }
    let table = Place::Document.key("limits");
    for limit in &policy.limits {
        let path = table.key(&limit.name);
        validator.name(&path, "limit", &limit.name);
        validator.bounds(&path.key("retry_after_s"), limit.retry_after_s, limits::RETRY_AFTER_S);
    }
    validator.violations
}

#[derive(Default)]
struct Validator {
    violations: Vec<Violation>,
}

impl Validator {
    fn report(&mut self, path: &Place<'_>, message: impl Into<String>) {
        self.violations.push(Violation { path: path.path(), message: message.into(), first: None });
    }

    /// Reports the message unless `is_valid`.
    fn require(&mut self, is_valid: bool, path: &Place<'_>, message: impl FnOnce() -> String) {
        if !is_valid {
            self.report(path, message());
        }
    }

    fn bounds(&mut self, path: &Place<'_>, value: impl Into<u64>, Bounds { min, max }: Bounds) {
        let value = value.into();
        self.require((min..=max).contains(&value), path, || {
            format!("{} = {value} is out of range; write {min} to {max}", path.path())
        });
    }

    fn name(&mut self, path: &Place<'_>, kind: &str, name: &str) {
        self.require(is_name(name), path, || {
            format!("{kind} name {name:?} must be 1 to {} of a-z, 0-9 and -", limits::NAME_BYTES)
        });
    }

    /// Reports a name that refers to no entry of a table.
    fn reference<'a>(
        &mut self,
        path: &Place<'_>,
        who: &str,
        kind: &str,
        name: &str,
        known: impl Iterator<Item = &'a str>,
    ) {
        let known: Vec<&str> = known.collect();
        if known.contains(&name) {
            return;
        }
        let defined = if known.is_empty() { "none is".to_owned() } else { known.join(", ") };
        let table = if kind == "cors" { "cors".to_owned() } else { format!("{kind}s") };
        let hint = hint(name, known);
        self.report(
            path,
            format!("{who}: no {kind} is named {name:?} (defined: {defined}); add [{table}.{name}] or use one of these{hint}"),
        );
    }

    fn document(&mut self, policy: &Policy) {
        let root = Place::Document;
        self.require(policy.version == limits::VERSION, &root.key("version"), || {
            format!("version {} is not known to this gateway, which reads version {}", policy.version, limits::VERSION)
        });
        self.require(!policy.upstreams.is_empty(), &root, || {
            "no upstream is defined; add [upstreams.NAME] with its url".to_owned()
        });
        self.require(!policy.routes.is_empty(), &root, || {
            "no route is defined, so every request would be 404; add [[routes]]".to_owned()
        });
        let tables = [policy.issuers.len(), policy.upstreams.len(), policy.limits.len(), policy.cors.len()];
        let fits = policy.routes.len() <= limits::ROUTES && tables.into_iter().all(|count| count <= limits::TABLES);
        self.require(fits, &root, || {
            format!(
                "a policy has at most {} routes, and {} issuers, upstreams, limits and CORS policies each",
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

    fn upstream(&mut self, upstream: &Upstream) {
        let name = &upstream.name;
        let table = Place::Document.key("upstreams");
        let path = table.key(name);
        self.name(&path, "upstream", name);
        let says_once = upstream.url.is_some() == upstream.targets.is_empty();
        self.require(says_once && upstream.targets.len() <= limits::TARGETS, &path, || {
            format!(
                "upstream {name:?}: say where it is, once: url = \"https://…\", or targets = [{{ url = \"https://…\", \
                 weight = 1 }}, …] with at most {}",
                limits::TARGETS
            )
        });
        if let Some(url) = &upstream.url {
            self.base_url(&path.key("url"), name, url);
        }
        let targets = path.key("targets");
        for (index, target) in upstream.targets.iter().enumerate() {
            let path = targets.index(index);
            self.base_url(&path.key("url"), name, &target.url);
            self.bounds(&path.key("weight"), target.weight, limits::WEIGHT);
        }
        self.bounds(&path.key("timeout_ms"), upstream.timeout_ms, limits::TIMEOUT_MS);
        self.bounds(&path.key("body_timeout_ms"), upstream.body_timeout_ms, limits::BODY_TIMEOUT_MS);
        self.bounds(&path.key("retries"), upstream.retries, limits::RETRIES);
        self.bounds(&path.key("max_concurrent"), upstream.max_concurrent, limits::CONCURRENT);
        let breaker = path.key("breaker");
        self.bounds(&breaker.key("failures"), upstream.breaker.failures, limits::BREAKER_FAILURES);
        self.bounds(&breaker.key("open_s"), upstream.breaker.open_s, limits::BREAKER_OPEN_S);
        if let Some(idle) = upstream.idle_timeout_ms {
            self.bounds(&path.key("idle_timeout_ms"), idle, limits::IDLE_TIMEOUT_MS);
        }
        if let Some(maintenance) = &upstream.maintenance {
            let path = path.key("maintenance");
            self.bounds(&path.key("retry_after_s"), maintenance.retry_after_s, limits::MAINTENANCE_S);
        }
    }

    // Messages leave URLs out: the Worker logs them, too, and no log holds an internal URL.
    fn base_url(&mut self, path: &Place<'_>, name: &str, url: &str) {
        if let Err(fault) = check_base_url(url) {
            self.report(path, format!("upstream {name:?}: its url {fault}"));
        }
    }

    fn cors(&mut self, cors: &Cors) {
        let name = &cors.name;
        let table = Place::Document.key("cors");
        let path = table.key(name);
        let origins = path.key("origins");
        self.name(&path, "cors", name);
        self.require(!cors.origins.is_empty(), &origins, || {
            format!("cors {name:?}: origins is empty; name at least one, or remove the policy")
        });
        for origin in &cors.origins {
            let is_any = origin == "*";
            self.require(!is_any || !cors.credentials, &origins, || {
                format!("cors {name:?}: credentials cannot go to \"*\", which is every origin; name the origins")
            });
            self.require(is_any || is_origin(origin), &origins, || {
                format!(
                    "cors {name:?}: {origin:?} is no origin; write https://app.example.com (in lower case, no path), \
                     https://*.example.com, or * for all"
                )
            });
        }
        for (key, headers) in [("headers", &cors.headers), ("expose", &cors.expose)] {
            for header in headers {
                self.require(is_header_name(header), &path.key(key), || {
                    format!("cors {name:?}: {header:?} is not the name of a header")
                });
            }
        }
        self.bounds(&path.key("max_age_s"), cors.max_age_s, limits::CORS_AGE_S);
    }
}
