//! What makes a policy sound. Every mistake is reported, each with the line it
//! stands on and what to write instead.

use std::{collections::BTreeMap, fmt, ops::Range};

use toml::Spanned;

use super::{
    Access, Cors, HeaderRules, Limit, LimitBy, OWN_PATHS, Policy, RequireRule, RevocationCheck, Route, Upstream,
    UpstreamTarget, Variants, is_own_path,
    issuers::is_revocable,
    sound::{
        ACCESS_DEPTH, BODY_MAX, BODY_TIMEOUT_MAX_MS, CLAIM_DEPTH, COOKIE_PREFIX, HEADER_RULES, HEADER_VALUE_BYTES,
        IDLE_MAX_MS, MAINTENANCE_MAX_S, METHODS, NAME_BYTES, REASON_BYTES, TIMEOUT_MAX_MS, VALUE_BYTES, is_cookie_name,
        is_fixed_path, is_free_header, is_header_name, is_header_value, is_name, is_origin, is_plain_value, is_reason,
        names_no_issuer, values_of,
    },
    source::{self, File},
    suggest::{explain, hint, slip},
    url::check_base_url,
    variants::find_passed,
};

/// Seconds; copies are renewed every few seconds, and one that missed a turn is no
/// outage yet.
const REVOCATION_AGE_MIN_S: u64 = 5;

/// Seconds; who bears a longer window need not revoke.
const REVOCATION_AGE_MAX_S: u64 = 3600;

/// More tries only make an outage worse.
const RETRIES_MAX: u32 = 3;

/// Requests; far above what one isolate can hold.
const CONCURRENT_MAX: u32 = 100_000;

/// Outages; who waits for more might as well have no breaker.
const FAILURES_MAX: u32 = 1_000;

/// Seconds; an hour.
const OPEN_MAX_S: u32 = 3_600;

/// Places of one upstream; more belong behind a balancer of their own.
const TARGETS_MAX: usize = 16;

/// Weight of a target.
const WEIGHT_MAX: u32 = 1_000;

/// Seconds; the runtime counts in tens and sixties of them.
const RETRY_AFTER_MAX_S: u64 = 3_600;

/// Seconds; browsers keep preflights for a day at most.
const CORS_AGE_MAX_S: u64 = 86_400;

/// A mistake in the file, for its author.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// What is wrong and what to write instead, in one sentence.
    pub message: String,
}

impl fmt::Display for Mistake {
    /// `line:column: message`, to be put behind the file's name and a colon.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.line, self.column, self.message)
    }
}

/// Misspelt names that are reported in one go.
const SLIPS_MAX: usize = 20;

/// Checks the text of a `gateway.toml`.
///
/// # Errors
/// Every mistake found, in the file's order. A syntax error hides the others, as does a name
/// that is like no known one.
pub fn check(text: &str) -> Result<Policy, Vec<Mistake>> {
    let mut slips = Vec::new();
    let (text, file) = read(text, &mut slips)?;
    let mut checker = Checker { text: &text, mistakes: slips, route_spans: Vec::new() };
    let upstreams = checker.upstreams(&file);
    let issuers = checker.issuers(&file);
    let routes = checker.routes(&file);
    let cors = checker.cors(&file);
    let limits = checker.limits(&file);
    let token_cookie = checker.token_cookie(&file);
    checker.variants(&file, &routes, &upstreams);
    let max_age_s = &file.revocation.max_age_s;
    checker.range("revocation: max_age_s", max_age_s, REVOCATION_AGE_MIN_S, REVOCATION_AGE_MAX_S);
    if checker.mistakes.is_empty() {
        let revocation_max_age_ms = max_age_s.get_ref().saturating_mul(1000);
        let policy = Policy { issuers, upstreams, routes, cors, limits, token_cookie, revocation_max_age_ms };
        // The worker looks at it like this; what it would not take must not be built.
        match policy.find_fault() {
            None => Ok(policy),
            Some(message) => Err(vec![Mistake { line: 1, column: 1, message }]),
        }
    } else {
        checker.mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
        checker.mistakes.dedup();
        Err(checker.mistakes)
    }
}

/// Reads the file. A misspelt name is noted among the `slips` and read as the one that is
/// meant, so that what else is wrong is found, too; the text is returned as it was read.
fn read(text: &str, slips: &mut Vec<Mistake>) -> Result<(String, File), Vec<Mistake>> {
    let mut text = text.to_owned();
    loop {
        let error = match toml::from_str(&text) {
            Ok(file) => return Ok((text, file)),
            Err(error) => error,
        };
        // Both the misspelt key and the right one are there: the slip has been noted.
        if slips.is_empty() || !error.message().starts_with("duplicate") {
            let (line, column) = position_of(&text, error.span().map_or(0, |span| span.start));
            slips.push(Mistake { line, column, message: explain(error.message()) });
        }
        let replaced = slip(error.message()).zip(error.span()).and_then(|((wanted, meant), span)| {
            let written = text.get(span.clone()).filter(|written| written.contains(wanted))?;
            Some((span, written.replacen(wanted, meant, 1)))
        });
        match replaced {
            Some((span, meant)) if slips.len() < SLIPS_MAX => text.replace_range(span, &meant),
            Some(_) | None => return Err(std::mem::take(slips)),
        }
    }
}

/// Line and column, each counted from 1.
fn position_of(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset.min(text.len())).unwrap_or_default();
    let (line, start) = before
        .match_indices('\n')
        .fold((1_usize, 0_usize), |(line, _), (at, _)| (line.saturating_add(1), at.saturating_add(1)));
    let column = before.get(start..).unwrap_or_default().chars().count().saturating_add(1);
    (line, column)
}

pub(super) struct Checker<'a> {
    text: &'a str,
    mistakes: Vec<Mistake>,
    /// Where the path of each checked route stands.
    route_spans: Vec<Range<usize>>,
}

impl Checker<'_> {
    pub(super) fn complain(&mut self, span: Range<usize>, message: String) {
        let (line, column) = position_of(self.text, span.start);
        self.mistakes.push(Mistake { line, column, message });
    }

    /// Reports each route whose rule a variant of its path passes.
    fn variants(&mut self, file: &File, routes: &[Route], upstreams: &[Upstream]) {
        let issuers: Vec<&str> = file.issuers.keys().map(|name| name.get_ref().as_str()).collect();
        for passed in find_passed(routes, upstreams, &issuers) {
            let span = self.route_spans.get(passed.route).cloned().unwrap_or(0..0);
            self.complain(span, passed.message(routes));
        }
    }

    fn upstreams(&mut self, file: &File) -> Vec<Upstream> {
        if file.upstreams.is_empty() {
            self.complain(0..0, "no upstream is defined; add [upstreams.NAME] with its url".to_owned());
        }
        let mut checked = Vec::new();
        for (name, upstream) in &file.upstreams {
            self.name("upstream", name);
            self.range("timeout_ms", &upstream.timeout_ms, 1, TIMEOUT_MAX_MS);
            self.range("body_timeout_ms", &upstream.body_timeout_ms, 1, BODY_TIMEOUT_MAX_MS);
            if let Some(idle) = &upstream.idle_timeout_ms {
                self.range("idle_timeout_ms", idle, 1, IDLE_MAX_MS);
            }
            if let Some(maintenance) = &upstream.maintenance {
                self.range("maintenance: retry_after_s", &maintenance.retry_after_s, 1, MAINTENANCE_MAX_S);
            }
            let breaker = &upstream.breaker;
            checked.push(Upstream {
                name: name.get_ref().clone(),
                targets: self.targets(name, upstream),
                timeout_ms: *upstream.timeout_ms.get_ref(),
                body_timeout_ms: *upstream.body_timeout_ms.get_ref(),
                on_down: upstream.on_down,
                retries: self.small("retries", &upstream.retries, 0, RETRIES_MAX),
                max_concurrent: self.small("max_concurrent", &upstream.max_concurrent, 1, CONCURRENT_MAX),
                breaker_failures: self.small("breaker: failures", &breaker.failures, 1, FAILURES_MAX),
                breaker_open_ms: u64::from(self.small("breaker: open_s", &breaker.open_s, 1, OPEN_MAX_S))
                    .saturating_mul(1000),
                idle_timeout_ms: upstream.idle_timeout_ms.as_ref().map(|idle| *idle.get_ref()),
                maintenance_s: upstream.maintenance.as_ref().map(|maintenance| *maintenance.retry_after_s.get_ref()),
            });
        }
        checked
    }

    fn token_cookie(&mut self, file: &File) -> Option<String> {
        let name = &file.token_cookie.as_ref()?.name;
        if !is_cookie_name(name.get_ref()) {
            self.complain(name.span(), format!("token_cookie: name {:?} must begin with {COOKIE_PREFIX}, so that no other host can have set it, and have letters, digits, - and _ alone, {NAME_BYTES} at most", name.get_ref()));
        }
        Some(name.get_ref().clone())
    }

    /// A route's rules for headers of requests or of answers.
    fn header_rules(&mut self, path: &str, source: &source::HeaderRulesSource, in_requests: bool) -> HeaderRules {
        let key = if in_requests { "request_headers" } else { "response_headers" };
        let mut rules = HeaderRules::default();
        for (name, value) in &source.set {
            self.free_header(path, key, name, in_requests);
            if name.get_ref().eq_ignore_ascii_case("set-cookie") {
                self.complain(name.span(), format!("route {path:?}: {key} cannot set set-cookie, which would take the service's own cookies away; have the service set it"));
            }
            if !is_header_value(value.get_ref()) {
                self.complain(value.span(), format!("route {path:?}: {key}: the value of {:?} must be plain ASCII without control characters and spaces at its ends, {HEADER_VALUE_BYTES} bytes at most", name.get_ref()));
            }
            if rules.set.iter().any(|(known, _)| known.eq_ignore_ascii_case(name.get_ref())) {
                self.complain(name.span(), format!("route {path:?}: {key} sets {:?} twice", name.get_ref()));
            }
            rules.set.push((name.get_ref().to_ascii_lowercase(), value.get_ref().clone()));
        }
        for name in &source.remove {
            self.free_header(path, key, name, in_requests);
            rules.remove.push(name.get_ref().to_ascii_lowercase());
        }
        if rules.set.len() > HEADER_RULES || rules.remove.len() > HEADER_RULES {
            let span = source.set.keys().chain(&source.remove).next().map_or(0..0, Spanned::span);
            self.complain(
                span,
                format!("route {path:?}: {key} has more than {HEADER_RULES} headers to set or to remove"),
            );
        }
        rules
    }

    fn free_header(&mut self, path: &str, key: &str, name: &Spanned<String>, in_requests: bool) {
        let text = name.get_ref();
        if is_free_header(&text.to_ascii_lowercase(), in_requests) {
            return;
        }
        let mend = match text.to_ascii_lowercase().as_str() {
            "authorization" => "a policy holds no secret; forward_authorization passes the client's token on",
            lower if lower.starts_with("access-control-") => "write a [cors.NAME] and cors = \"NAME\" for it",
            lower if is_header_name(lower) => "the gateway or the runtime makes it; choose another name",
            _ => "write a name of letters, digits, - and _",
        };
        self.complain(name.span(), format!("route {path:?}: {key} cannot touch {text:?}: {mend}"));
    }

    fn targets(&mut self, name: &Spanned<String>, upstream: &source::Upstream) -> Vec<UpstreamTarget> {
        let label = name.get_ref();
        if upstream.url.is_some() != upstream.targets.is_empty() || upstream.targets.len() > TARGETS_MAX {
            self.complain(
                name.span(),
                format!("upstream {label:?}: say where it is, once: url = \"https://…\", or targets = [{{ url = \"https://…\", weight = 1 }}, …] with {TARGETS_MAX} at most"),
            );
        }
        let one = upstream.url.iter().map(|url| (url, 1));
        let mut weigh = Vec::new();
        for target in &upstream.targets {
            weigh.push((&target.url, self.small("weight", &target.weight, 1, WEIGHT_MAX)));
        }
        let mut checked = Vec::new();
        for (url, weight) in one.chain(weigh) {
            let text = url.get_ref();
            if let Err(mend) = check_base_url(text) {
                self.complain(url.span(), format!("upstream {label:?}: url {text:?} {mend}"));
            }
            checked.push(UpstreamTarget { url: text.trim_end_matches('/').to_owned(), weight });
        }
        checked
    }

    /// A number in a range that 32 bits hold.
    fn small(&mut self, key: &str, value: &Spanned<u64>, least: u32, most: u32) -> u32 {
        self.range(key, value, u64::from(least), u64::from(most));
        u32::try_from(*value.get_ref()).unwrap_or(most)
    }

    fn routes(&mut self, file: &File) -> Vec<Route> {
        if file.routes.is_empty() {
            self.complain(0..0, "no route is defined, so every request would be 404; add [[routes]]".to_owned());
        }
        // A tenant decides about roles and ids for itself, as an issuer does.
        let several = file
            .issuers
            .values()
            .map(|issuer| issuer.tenants.as_ref().map_or(1, |tenants| tenants.get_ref().len()))
            .sum();
        let mut matcher = matchit::Router::new();
        let mut claimed: BTreeMap<(String, String), usize> = BTreeMap::new();
        let mut checked: Vec<Route> = Vec::new();
        for route in &file.routes {
            let span = route.span();
            let route = route.get_ref();
            let path = route.path.get_ref();
            let params = self.path(&route.path);
            if !claimed.keys().any(|(other, _)| other == path)
                && let Err(error) = matcher.insert(path.clone(), ())
            {
                self.complain(route.path.span(), format!("route {path:?} cannot stand beside the others: {error}; make the paths differ in a fixed segment or use one name for the parameter"));
            }
            self.methods(route);
            self.range("max_body_bytes", &route.max_body_bytes, 0, BODY_MAX);
            if route.websocket && !route.methods.get_ref().iter().any(|method| method == "GET") {
                self.complain(
                    span.clone(),
                    format!("route {path:?}: a WebSocket begins with GET; add it to methods, or leave websocket out"),
                );
            }
            for method in route.methods.get_ref() {
                let (line, _) = position_of(self.text, route.path.span().start);
                if let Some(first) = claimed.insert((path.clone(), method.clone()), line) {
                    self.complain(
                        route.path.span(),
                        format!("route {path:?} with {method} is already defined on line {first}; keep one of the two"),
                    );
                }
            }
            self.known_upstream(file, &route.upstream, &format!("route {path:?}"));
            let Some(access) = &route.access else {
                self.complain(span, format!("route {path:?} has no access rule; write access = \"user\", access = {{ roles = [\"admin\"] }}, or access = \"public\" if anybody may enter"));
                continue;
            };
            self.access(access.span(), path, &params, &access.get_ref().0, ACCESS_DEPTH, true);
            if file.issuers.is_empty() && access.get_ref().0 != Access::Public {
                self.complain(
                    access.span(),
                    format!("route {path:?} wants a token but no issuer is defined; add [issuers.NAME]"),
                );
            }
            if names_no_issuer(&access.get_ref().0, route.issuers.is_some(), several) {
                let all: Vec<&str> = file.issuers.keys().map(|name| name.get_ref().as_str()).collect();
                self.complain(access.span(), format!("route {path:?} takes tokens of every issuer and tenant ({}), so each of them decides who has these rights; name those that may: issuers = [\"{}\"]", all.join(", "), all.first().unwrap_or(&"")));
            }
            let variants = self.route_variants(path, route);
            self.route_spans.push(route.path.span());
            checked.push(Route {
                path: path.clone(),
                methods: route.methods.get_ref().clone(),
                upstream: route.upstream.get_ref().clone(),
                access: access.get_ref().0.clone(),
                forward_authorization: route.forward_authorization,
                revocation: *route.revocation.get_ref(),
                issuers: self.route_issuers(file, route),
                cors: self.route_cors(file, route),
                limits: self.route_limits(file, route),
                rewrite: self.rewrite(route),
                max_body_bytes: *route.max_body_bytes.get_ref(),
                websocket: route.websocket,
                ends_session: route.ends_session,
                token_cookie: self.route_cookie(file, route, &access.get_ref().0, span.clone()),
                request_headers: self.header_rules(path, &route.request_headers, true),
                response_headers: self.header_rules(path, &route.response_headers, false),
                encoded_path: route.encoded_path,
                variants,
                nosniff: route.nosniff,
            });
            self.revocation(file, route, &access.get_ref().0, span);
        }
        checked
    }

    fn route_variants(&mut self, path: &str, route: &source::Route) -> Variants {
        let Some(variants) = &route.variants else { return Variants::Check };
        if let Variants::Allow(reason) = &variants.get_ref().0
            && !is_reason(reason)
        {
            self.complain(variants.span(), format!("route {path:?}: variants: allow wants the reason why no variant reaches the same resource, in 1 to {REASON_BYTES} bytes"));
        }
        variants.get_ref().0.clone()
    }

    fn route_cookie(&mut self, file: &File, route: &source::Route, access: &Access, span: Range<usize>) -> bool {
        let path = route.path.get_ref();
        if route.token_cookie && file.token_cookie.is_none() {
            self.complain(span, format!("route {path:?}: token_cookie = true, but no cookie is named; add [token_cookie] with name = \"{COOKIE_PREFIX}token\""));
        } else if route.token_cookie && *access == Access::Public {
            self.complain(
                span,
                format!("route {path:?}: token_cookie = true, but a public route looks at no token; leave it out or change access"),
            );
        }
        route.token_cookie
    }

    fn limits(&mut self, file: &File) -> Vec<Limit> {
        let mut checked = Vec::new();
        for (name, limit) in &file.limits {
            self.name("limit", name);
            self.range("retry_after_s", &limit.retry_after_s, 1, RETRY_AFTER_MAX_S);
            checked.push(Limit {
                name: name.get_ref().clone(),
                by: limit.by,
                retry_after_s: *limit.retry_after_s.get_ref(),
            });
        }
        checked
    }

    fn route_limits(&mut self, file: &File, route: &source::Route) -> Vec<String> {
        let Some(limits) = &route.limits else { return Vec::new() };
        let path = route.path.get_ref();
        for name in limits.get_ref() {
            match file.limits.iter().find(|(known, _)| known.get_ref() == name).map(|(_, limit)| limit.by) {
                None => self.complain(
                    limits.span(),
                    format!(
                        "route {path:?}: no limit is named {name:?}; add [limits.{name}] with by = \"ip\"{}",
                        hint(name, file.limits.keys().map(|known| known.get_ref().as_str()))
                    ),
                ),
                Some(LimitBy::FailedIp) => self.complain(
                    limits.span(),
                    format!(
                        "route {path:?}: limit {name:?} is for refused tokens on every route; take it off the list"
                    ),
                ),
                Some(LimitBy::User)
                    if route.access.as_ref().is_some_and(|access| access.get_ref().0 == Access::Public) =>
                {
                    self.complain(
                        limits.span(),
                        format!(
                            "route {path:?}: limit {name:?} is by user, and a public route knows none; choose one by ip"
                        ),
                    );
                }
                Some(LimitBy::Ip | LimitBy::User | LimitBy::Route) => {}
            }
        }
        limits.get_ref().clone()
    }

    fn cors(&mut self, file: &File) -> Vec<Cors> {
        let mut checked = Vec::new();
        for (name, cors) in &file.cors {
            self.name("cors", name);
            let label = name.get_ref();
            if cors.origins.get_ref().is_empty() {
                self.complain(
                    cors.origins.span(),
                    format!("cors {label:?}: origins is empty; name at least one, or take the policy out"),
                );
            }
            for origin in cors.origins.get_ref() {
                if origin == "*" && cors.credentials {
                    self.complain(
                        cors.origins.span(),
                        format!("cors {label:?}: credentials cannot go to \"*\", which is everybody; name the origins"),
                    );
                }
                if origin != "*" && !is_origin(origin) {
                    self.complain(cors.origins.span(), format!("cors {label:?}: {origin:?} is no origin; write https://app.example.com (in lower case, no path), https://*.example.com, or * for all"));
                }
            }
            for header in cors.headers.get_ref().iter().chain(cors.expose.get_ref()) {
                if !is_header_name(header) {
                    self.complain(name.span(), format!("cors {label:?}: {header:?} is no header's name"));
                }
            }
            self.range("max_age_s", &cors.max_age_s, 0, CORS_AGE_MAX_S);
            checked.push(Cors {
                name: label.clone(),
                origins: cors.origins.get_ref().clone(),
                credentials: cors.credentials,
                headers: cors.headers.get_ref().clone(),
                expose: cors.expose.get_ref().clone(),
                max_age_s: *cors.max_age_s.get_ref(),
            });
        }
        checked
    }

    fn route_cors(&mut self, file: &File, route: &source::Route) -> Option<String> {
        let wanted = route.cors.as_ref()?;
        let known: Vec<&str> = file.cors.keys().map(|known| known.get_ref().as_str()).collect();
        if !known.contains(&wanted.get_ref().as_str()) {
            let (path, name) = (route.path.get_ref(), wanted.get_ref());
            let hint = hint(name, known.iter().copied());
            let known = if known.is_empty() { "none is".to_owned() } else { known.join(", ") };
            self.complain(wanted.span(), format!("route {path:?}: no cors is named {name:?} (defined: {known}); add [cors.{name}] or use one of these{hint}"));
        }
        Some(wanted.get_ref().clone())
    }

    fn route_issuers(&mut self, file: &File, route: &source::Route) -> Option<Vec<String>> {
        let issuers = route.issuers.as_ref()?;
        let path = route.path.get_ref();
        if issuers.get_ref().is_empty() {
            self.complain(issuers.span(), format!("route {path:?}: issuers is empty, so nobody could enter; name at least one, or leave it out for all"));
        }
        for name in issuers.get_ref() {
            let known: Vec<&str> = file.issuers.keys().map(|known| known.get_ref().as_str()).collect();
            if !known.contains(&name.as_str()) {
                self.complain(
                    issuers.span(),
                    format!("route {path:?}: no issuer is named {name:?} (defined: {}); add [issuers.{name}] or use one of these{}", known.join(", "), hint(name, known.iter().copied())),
                );
            }
        }
        Some(issuers.get_ref().clone())
    }

    fn rewrite(&mut self, route: &source::Route) -> Option<(String, String)> {
        let path = route.path.get_ref();
        let (span, from, to) = match (&route.strip_prefix, &route.replace_prefix) {
            (None, None) => return None,
            (Some(prefix), None) => (prefix.span(), prefix.get_ref().clone(), String::new()),
            (None, Some(replace)) => (replace.span(), replace.get_ref().from.clone(), replace.get_ref().to.clone()),
            (Some(_), Some(replace)) => {
                self.complain(
                    replace.span(),
                    format!("route {path:?}: strip_prefix and replace_prefix are both there; keep one of them"),
                );
                return None;
            }
        };
        // The whole of some first segments, none of them a parameter: what is taken away is
        // then the same for every path of the route.
        let begins = path.strip_prefix(from.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if !is_fixed_path(&from) || !begins || !(to.is_empty() || is_fixed_path(&to)) {
            self.complain(span, format!("route {path:?}: a prefix is one or more whole fixed segments with which the path begins, such as \"/shop\", and is replaced by such segments"));
        }
        Some((from, to))
    }

    fn revocation(&mut self, file: &File, route: &source::Route, access: &Access, span: Range<usize>) {
        let path = route.path.get_ref();
        let (key, span) = match (route.revocation.get_ref(), route.ends_session) {
            (RevocationCheck::Strict, _) => ("revocation = \"strict\"", route.revocation.span()),
            (RevocationCheck::Copy, true) => ("ends_session = true", span),
            (RevocationCheck::Copy, false) => return,
        };
        if *access == Access::Public {
            self.complain(
                span,
                format!(
                    "route {path:?}: {key} looks at a token, and a public route has none; leave it out or change access"
                ),
            );
        } else if !file.issuers.values().any(is_revocable) {
            self.complain(span, format!("route {path:?}: {key}, but no issuer's tokens can be revoked; write revocations_from or revocable = true at the issuer"));
        }
    }

    /// Checks a pattern and returns the names of its parameters.
    fn path(&mut self, path: &Spanned<String>) -> Vec<String> {
        let text = path.get_ref();
        let mut params = Vec::new();
        let Some(rest) = text.strip_prefix('/') else {
            self.complain(path.span(), format!("route {text:?} must begin with /"));
            return params;
        };
        if is_own_path(text) {
            self.complain(
                path.span(),
                format!("route {text:?} is one of the gateway's own paths ({}); choose another", OWN_PATHS.join(", ")),
            );
        }
        let segments: Vec<&str> = rest.split('/').collect();
        let last = segments.len().saturating_sub(1);
        for (index, segment) in segments.iter().enumerate() {
            if let Some(name) = segment.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) {
                let bare = name.strip_prefix('*').unwrap_or(name);
                if name.starts_with('*') && index != last {
                    self.complain(
                        path.span(),
                        format!("route {text:?}: {segment} takes the rest of the path, so it must be last"),
                    );
                }
                if bare.is_empty() || !bare.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                    self.complain(path.span(), format!("route {text:?}: {segment} is not a parameter; write {{name}} with letters, digits and _, or {{*name}} for the rest"));
                } else if params.iter().any(|known| known == bare) {
                    self.complain(
                        path.span(),
                        format!("route {text:?}: parameter {bare:?} is there twice; give each its own name"),
                    );
                }
                params.push(bare.to_owned());
            } else if (segment.is_empty() && !(index == last && last == 0))
                || matches!(*segment, "." | "..")
                || !segment.chars().all(|c| c.is_ascii_alphanumeric() || "-._~!$&'()*+,=:@".contains(c))
            {
                self.complain(path.span(), format!("route {text:?}: segment {segment:?} can never match a canonical path; use plain characters, no empty or dot segments, no trailing /, and {{name}} for a parameter"));
            }
        }
        params
    }

    fn methods(&mut self, route: &source::Route) {
        let path = route.path.get_ref();
        if route.methods.get_ref().is_empty() {
            self.complain(route.methods.span(), format!("route {path:?} names no method; write methods = [\"GET\"]"));
        }
        for method in route.methods.get_ref() {
            if !METHODS.contains(&method.as_str()) {
                self.complain(
                    route.methods.span(),
                    format!(
                        "route {path:?}: method {method:?} is not known; choose from {} in upper case{}",
                        METHODS.join(", "),
                        hint(method, METHODS.iter().copied())
                    ),
                );
            }
        }
    }

    fn access(&mut self, span: Range<usize>, path: &str, params: &[String], access: &Access, depth: usize, top: bool) {
        match access {
            Access::Public if !top => self.complain(
                span,
                format!("route {path:?}: \"public\" cannot stand inside any or all; it would open the whole route"),
            ),
            Access::Public | Access::User => {}
            Access::Roles(roles) => {
                if roles.is_empty() || roles.iter().any(String::is_empty) {
                    self.complain(
                        span,
                        format!("route {path:?}: roles is empty, so nobody could enter; name at least one role"),
                    );
                }
            }
            Access::Scopes(scopes) => {
                if scopes.is_empty() || scopes.iter().any(String::is_empty) {
                    self.complain(
                        span,
                        format!("route {path:?}: scopes is empty, so nobody could enter; name at least one scope"),
                    );
                }
            }
            Access::Claim(require) => {
                let names = &require.claim;
                if names.is_empty() || names.len() > CLAIM_DEPTH || names.iter().any(String::is_empty) {
                    self.complain(span, format!("route {path:?}: claim is a name, or a list of 1 to {CLAIM_DEPTH} names from the outermost in"));
                } else if !values_of(&require.rule).iter().all(is_plain_value)
                    || require.rule == RequireRule::OneOf(vec![])
                {
                    self.complain(
                        span,
                        format!(
                            "route {path:?}: a claim is compared with strings of up to {VALUE_BYTES} bytes, whole numbers or booleans, one at least"
                        ),
                    );
                }
            }
            Access::Owner(name) => {
                if !params.contains(name) {
                    self.complain(span, format!("route {path:?}: owner {name:?} is not a parameter of the path; write {{{name}}} in it or name one of {params:?}{}", hint(name, params.iter().map(String::as_str))));
                }
            }
            Access::Any(rules) | Access::All(rules) => {
                let Some(depth) = depth.checked_sub(1) else {
                    self.complain(span, format!("route {path:?}: access nests too deeply; write it flatter"));
                    return;
                };
                if rules.is_empty() {
                    self.complain(
                        span.clone(),
                        format!("route {path:?}: an empty any or all says nothing; name at least one rule"),
                    );
                }
                for rule in rules {
                    self.access(span.clone(), path, params, rule, depth, false);
                }
            }
        }
    }

    pub(super) fn known_upstream(&mut self, file: &File, name: &Spanned<String>, who: &str) {
        let wanted = name.get_ref();
        let names: Vec<&str> = file.upstreams.keys().map(|known| known.get_ref().as_str()).collect();
        if !names.contains(&wanted.as_str()) {
            let hint = hint(wanted, names.iter().copied());
            let known = if names.is_empty() { "none is".to_owned() } else { names.join(", ") };
            self.complain(name.span(), format!("{who}: no upstream is named {wanted:?} (defined: {known}); add [upstreams.{wanted}] or use one of these{hint}"));
        }
    }

    pub(super) fn name(&mut self, kind: &str, name: &Spanned<String>) {
        let text = name.get_ref();
        if !is_name(text) {
            self.complain(name.span(), format!("{kind} name {text:?} must be 1 to {NAME_BYTES} of a-z, 0-9 and -"));
        }
    }

    pub(super) fn range(&mut self, key: &str, value: &Spanned<u64>, least: u64, most: u64) {
        if !(least..=most).contains(value.get_ref()) {
            self.complain(
                value.span(),
                format!("{key} = {} is out of range; write {least} to {most}", value.get_ref()),
            );
        }
    }
}
