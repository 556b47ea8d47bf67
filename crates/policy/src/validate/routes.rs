//! Routes: paths that can match, rules that let someone in, and names that are defined.

use std::collections::{HashMap, HashSet};

use super::{
    Validator, hint, listed,
    values::{
        claim_path_fault, claim_rule_fault, header_name_advice, is_country, is_fixed_path, is_header_name,
        is_header_value, is_host_pattern, is_scope, is_segment,
    },
    variants::find_bypasses,
};
use crate::{
    access::Access,
    error::{Place, Violation},
    limits,
    model::{COOKIE_PREFIX, HeaderRules, Issuer, LimitBy, METHODS, Proof, RevocationCheck, Route, Upstream, Variants},
    named::find,
    providers,
    reserved::{METADATA_PATH, OWN_PATHS, is_below, is_own_path, is_reserved, is_same_header},
    table::Table,
};

/// Returns whether an upstream names its OpenAPI document, or the validators that were compiled from it.
fn has_document(upstream: &Upstream) -> bool {
    #[cfg(feature = "toml")]
    if upstream.openapi.is_some() {
        return true;
    }
    upstream.openapi_digest.is_some()
}

impl<'a> Validator<'a> {
    pub(super) fn routes(&mut self) {
        let routes = &self.policy.routes;
        let table = Place::Document.key("routes");
        let mut matcher = matchit::Router::new();
        let mut patterns: HashSet<&str> = HashSet::new();
        let mut claimed: HashMap<(&str, &str), usize> = HashMap::new();
        for (index, route) in routes.iter().enumerate() {
            self.subject = Some(("route", &route.path));
            let at = table.index(index);
            if patterns.insert(&route.path)
                && let Err(error) = matcher.insert(route.path.as_str(), index)
            {
                let advice = "make the paths differ in a fixed segment or use one name for the parameter";
                self.report(&at.key("path"), format_args!("it conflicts with another route: {error}; {advice}"));
            }
            for method in &route.methods {
                if let Some(first) = claimed.insert((&route.path, method), index) {
                    let message =
                        format!("route {:?} with {method} is already defined; keep one of the two", route.path);
                    let first = Some(table.index(first).key("path").path());
                    self.violations.push(Violation { path: at.key("path").path(), message, first });
                }
            }
            self.route(&at, route);
        }
        self.subject = None;
        let most = limits::PRIVATE_HEADERS;
        self.require(self.policy.private_headers().len() <= most, &table, || {
            format!("more than {most} different headers get claims or hold tokens; let some share one")
        });
        // Costs the most, and says nothing of value about routes that are wrong anyway.
        if !self.violations.is_empty() {
            return;
        }
        let Ok(routes_of_paths) = Table::build(self.policy) else {
            let fault = "two paths differ in case alone, or in the kind of a parameter, while a route has variants = \
                         \"refuse\"; make them differ in a fixed segment";
            return self.report(&table, fault);
        };
        for (index, message) in find_bypasses(self.policy, &routes_of_paths) {
            self.subject = routes.get(index).map(|route| ("route", route.path.as_str()));
            self.report(&table.index(index).key("path"), message);
        }
    }

    fn route(&mut self, at: &Place<'_>, route: &Route) {
        let params = self.pattern(&at.key("path"), &route.path);
        self.methods(at, route);
        self.references(at, route);
        self.access(&at.key("access"), &params, &route.access, limits::ACCESS_DEPTH);
        self.issuers_of(at, route);
        self.token_options(at, route);
        self.bounds(&at.key("max_body_bytes"), route.max_body_bytes, limits::BODY_BYTES);
        self.rewrite(at, route);
        let upstream = find(&self.policy.upstreams, &route.upstream).filter(|_| route.validate);
        self.require(upstream.is_none_or(has_document), &at.key("validate"), || {
            "validate needs the OpenAPI document of its upstream: openapi = \"shop.yaml\" there (a pushed policy: npm run \
             policy:push)"
        });
        self.header_rules(&at.key("request_headers"), &route.request_headers, Some(&route.access));
        self.header_rules(&at.key("response_headers"), &route.response_headers, None);
        if let Some(Variants::Allow { allow }) = &route.variants {
            let is_reason = !allow.trim().is_empty() && allow.len() <= limits::REASON_BYTES;
            self.require(is_reason, &at.key("variants"), || {
                format!(
                    "variants: allow wants the reason why no variant reaches the same resource, in 1 to {} bytes",
                    limits::REASON_BYTES
                )
            });
        }
    }

    /// Checks a pattern and returns the names of its parameters.
    fn pattern<'p>(&mut self, at: &Place<'_>, pattern: &'p str) -> Vec<&'p str> {
        self.text(at, pattern);
        let mut params = Vec::new();
        let Some(rest) = pattern.strip_prefix('/') else {
            self.report(at, "it must begin with /");
            return params;
        };
        self.require(!is_own_path(pattern), at, || {
            format!("it is one of the gateway's own paths ({}); choose another", OWN_PATHS.join(", "))
        });
        self.require(
            self.policy.resources.is_empty() || !is_below(pattern, METADATA_PATH),
            at,
            || "it is where clients read the metadata of [[resources]], which the gateway serves; choose another",
        );
        let segments: Vec<&str> = rest.split('/').collect();
        let last = segments.len().saturating_sub(1);
        for (index, segment) in segments.iter().enumerate() {
            let Some(inner) = segment.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) else {
                let is_root = segment.is_empty() && last == 0;
                self.require(is_root || is_segment(segment, "-._~!$&'()*+,=:@"), at, || {
                    format!(
                        "segment {segment:?} can never match a canonical path; use plain characters, no empty or dot \
                         segments, no trailing /, and {{name}} for a parameter"
                    )
                });
                continue;
            };
            let name = inner.strip_prefix('*').unwrap_or(inner);
            self.require(!inner.starts_with('*') || index == last, at, || {
                format!("{segment} takes the rest of the path, so it must be last")
            });
            let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            self.require(is_name, at, || {
                format!(
                    "{segment} is not a parameter; write {{name}} with letters, digits and _, or {{*name}} for the rest"
                )
            });
            self.require(!is_name || !params.contains(&name), at, || {
                format!("parameter {name:?} is there twice; give each its own name")
            });
            params.push(name);
        }
        params
    }

    fn methods(&mut self, at: &Place<'_>, route: &Route) {
        let methods = &route.methods;
        self.list(&at.key("methods"), methods, limits::NAMES, "it names no method; write methods = [\"GET\"]");
        for method in methods {
            self.require(METHODS.contains(&method.as_str()), &at.key("methods"), || {
                let (known, hint) = (METHODS.join(", "), hint(method, METHODS));
                format!("method {method:?} is not known; choose from {known} in upper case{hint}")
            });
        }
        if route.websocket && !methods.iter().any(|method| method == "GET") {
            self.report(at, "a WebSocket begins with GET; add it to methods, or leave websocket out");
        }
    }

    fn references(&mut self, at: &Place<'_>, route: &Route) {
        let policy = self.policy;
        self.reference(&at.key("upstream"), "upstream", &route.upstream, &policy.upstreams);
        if let Some(name) = &route.cors {
            self.reference(&at.key("cors"), "cors", name, &policy.cors);
        }
        if let Some(name) = &route.authorizer {
            let at = at.key("authorizer");
            self.reference(&at, "authorizer", name, &policy.authorizers);
            let fault = "authorizer is asked about the token's user, and a public route has none; leave it out or change access";
            self.require(route.access != Access::Public, &at, || fault);
        }
        if let Some(name) = &route.refusals {
            self.reference(&at.key("refusals"), "refusal", name, &policy.refusals);
        }
        let at = at.key("limits");
        self.at_most(&at, route.limits.len(), limits::ROUTE_LIMITS);
        for name in &route.limits {
            let fault = match self.reference(&at, "limit", name, &policy.limits).map(|limit| limit.by) {
                Some(LimitBy::FailedIp) => "counts refused tokens on every route; remove it from the list",
                Some(LimitBy::User) if route.access == Access::Public => {
                    "is by user, and a public route knows none; choose one by ip"
                }
                Some(LimitBy::Ip | LimitBy::User | LimitBy::Route) | None => continue,
            };
            self.report(&at, format_args!("limit {name:?} {fault}"));
        }
    }

    fn access(&mut self, at: &Place<'_>, params: &[&str], access: &Access, depth: usize) {
        match access {
            Access::Public => self.require(
                depth == limits::ACCESS_DEPTH,
                at,
                || "\"public\" cannot stand inside any or all; it would open the whole route",
            ),
            Access::User => {}
            Access::Roles(names) | Access::Scopes(names) => {
                let kind = if matches!(access, Access::Roles(_)) { "role" } else { "scope" };
                let if_empty = format_args!("{kind}s is empty, so no caller is permitted; name at least one {kind}");
                self.list(at, names, limits::NAMES, if_empty);
            }
            Access::Claim(rule) => {
                if let Some(fault) = claim_rule_fault(rule) {
                    self.report(at, fault);
                }
            }
            Access::RequestClaim(rule) => {
                if let Some(fault) = claim_path_fault(&rule.claim) {
                    self.report(at, fault);
                }
                if let Some(name) = &rule.equals_path {
                    self.param(at, params, "equals_path", name);
                }
                let is_pattern = rule.equals_host.as_deref().is_none_or(is_host_pattern);
                self.require(is_pattern, at, || {
                    "equals_host is a host in lower case with a placeholder for its first label, such as \
                     \"{tenant}.api.example.com\""
                });
            }
            Access::Owner(name) => self.param(at, params, "owner", name),
            Access::Country(countries) => {
                self.list(
                    at,
                    countries,
                    limits::NAMES,
                    "country is empty, so no caller is permitted; name at least one",
                );
                self.require(countries.iter().all(|code| code.is_empty() || is_country(code)), at, || {
                    "country has a code that no country has; write ISO 3166-1 alpha-2 codes in upper case, such as \
                     \"DE\" (\"GB\" for the United Kingdom)"
                });
            }
            Access::Network(networks) => {
                self.require(
                    !networks.is_empty(),
                    at,
                    || "network is empty, so no caller is permitted; name at least one",
                );
                self.at_most(at, networks.len(), limits::NAMES);
            }
            Access::MaxAge(seconds) => {
                let (min, max) = limits::MAX_AGE_S.into_inner();
                self.require(limits::MAX_AGE_S.contains(seconds), at, || {
                    format!("max_age = {seconds} is out of range; write {min} to {max} seconds")
                });
            }
            Access::Acr(classes) => {
                self.list(at, classes, limits::NAMES, "acr is empty, so no caller is permitted; name at least one");
                self.require(classes.iter().all(|class| class.is_empty() || is_scope(class)), at, || {
                    "acr has a value with a blank, a quote, a backslash or a character beyond ASCII; challenges list \
                     values with blanks between"
                });
            }
            Access::Any(rules) | Access::All(rules) => {
                let Some(depth) = depth.checked_sub(1) else {
                    return self.report(at, "access nests too deeply; write it flatter");
                };
                self.require(!rules.is_empty(), at, || "an empty any or all says nothing; name at least one rule");
                self.at_most(at, rules.len(), limits::ACCESS_RULES);
                rules.iter().for_each(|rule| self.access(at, params, rule, depth));
            }
        }
    }

    fn param(&mut self, at: &Place<'_>, params: &[&str], key: &str, name: &str) {
        self.require(params.contains(&name), at, || {
            let hint = hint(name, params.iter().copied());
            format!(
                "{key} {name:?} is not a parameter of the path; write {{{name}}} in it or name one of {params:?}{hint}"
            )
        });
    }

    fn issuers_of(&mut self, at: &Place<'_>, route: &Route) {
        let known = &self.policy.issuers;
        if known.is_empty() && route.access != Access::Public {
            self.report(&at.key("access"), "it wants a token but no issuer is defined; add [issuers.NAME]");
        }
        // A tenant decides about roles and ids for itself, as an issuer does.
        let several = || known.iter().map(|issuer| issuer.tenants.len().max(1)).sum::<usize>() > 1;
        let names_rights = route.access.names_rights();
        let sets_claims = || {
            route.access != Access::Public && route.request_headers.set.iter().any(|(_, value)| value.claim().is_some())
        };
        let is_open = route.issuers.is_none() && (names_rights || sets_claims()) && several();
        self.require(!is_open, &at.key(if names_rights { "access" } else { "request_headers" }), || {
            let names: Vec<&str> = known.iter().map(|issuer| issuer.name.as_str()).collect();
            format!(
                "it takes tokens of every issuer and tenant ({}), so each of them {}; name those that may: issuers = [{:?}]",
                listed(&names),
                if names_rights { "decides who has these rights" } else { "chooses these claims" },
                names.first().unwrap_or(&"")
            )
        });
        let Some(issuers) = &route.issuers else { return };
        let at = at.key("issuers");
        let if_empty = "issuers is empty, so no caller is permitted; name at least one, or leave it out for all";
        self.list(&at, issuers, limits::TABLES, if_empty);
        for name in issuers {
            self.reference(&at, "issuer", name, known);
        }
    }

    /// Options that need a token, or a token that can be revoked.
    fn token_options(&mut self, at: &Place<'_>, route: &Route) {
        let policy = self.policy;
        let is_public = route.access == Access::Public;
        if route.token_cookie {
            self.require(policy.token_cookie.is_some(), at, || {
                format!(
                    "token_cookie = true, but no cookie is named; add [token_cookie] with name = \"{COOKIE_PREFIX}token\""
                )
            });
            let fault = "token_cookie = true, but a public route looks at no token; leave it out or change access";
            self.require(!is_public, at, || fault);
        }
        if route.proof.is_some() {
            let at = at.key("proof");
            self.proof(&at);
            let has_header = |issuer: &Issuer| route.accepts(&issuer.name) && providers::token_header(issuer).is_some();
            self.require(!is_public && !policy.issuers.iter().any(has_header), &at, || {
                if is_public {
                    return "proof needs a token, and a public route looks at none; leave it out or change access";
                }
                "proof does not go with tokens in a token_header, which this route accepts; name the other issuers in \
                 issuers, or leave it out"
            });
        }
        let (_, proof) = policy.proofs_of(route);
        self.require(proof.is_none() || !route.access.names_host(), &at.key("access"), || {
            "equals_host does not go with proof, of the route or of an issuer: proofs are for the host of public_url, which \
             is no tenant's; compare with equals_path, or leave one of them out"
        });
        self.require(!route.token_cookie || proof != Some(Proof::Required), at, || {
            "token_cookie = true does not go with proof = \"required\", of the route or of an issuer: a bound token in a \
             cookie has no proof; leave one of them out"
        });
        let (option, at) = match (route.revocation, route.ends_session) {
            (_, true) => ("ends_session = true", *at),
            (RevocationCheck::Strict, false) => ("revocation = \"strict\"", at.key("revocation")),
            (RevocationCheck::Copy, false) => return,
        };
        let issuers = policy.issuers.iter().filter(|issuer| route.accepts(&issuer.name));
        let mut revocable = issuers.map(Issuer::has_revocable_tokens);
        // A logout that revokes nothing would still be answered with 2xx.
        let can_revoke = if route.ends_session { revocable.all(|can| can) } else { revocable.any(|can| can) };
        self.require(!is_public && can_revoke, &at, || {
            let fault = if is_public {
                " needs a token, and a public route has none; leave it out or change access"
            } else {
                ", but tokens that it accepts cannot be revoked; write revocations_from, logout, events or revocable = true at their issuers"
            };
            format!("{option}{fault}")
        });
    }

    fn rewrite(&mut self, at: &Place<'_>, route: &Route) {
        let at = at.key(if route.replace_prefix.is_some() { "replace_prefix" } else { "strip_prefix" });
        if route.strip_prefix.is_some() && route.replace_prefix.is_some() {
            self.report(&at, "strip_prefix and replace_prefix are both there; keep one of them");
        }
        let Some((from, to)) = route.rewrite() else { return };
        self.text(&at, to);
        // Whole segments without parameters: the removed part is the same for every path.
        let begins = route.path.strip_prefix(from).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let is_replacement = to.is_empty() || is_fixed_path(to);
        self.require(is_fixed_path(from) && begins && is_replacement, &at, || {
            "a prefix is one or more whole fixed segments with which the path begins, such as \"/shop\", and is \
             replaced by such segments"
        });
    }

    /// Checks the rules of requests, which have a route's `access`, or of answers.
    fn header_rules(&mut self, at: &Place<'_>, rules: &HeaderRules, access: Option<&Access>) {
        let (key, in_requests) = (at.last_key(), access.is_some());
        let set = at.key("set");
        for (index, (name, value)) in rules.set.iter().enumerate() {
            let at = set.key(name);
            self.free_header(&at, key, name, in_requests);
            self.require(!name.eq_ignore_ascii_case("set-cookie"), &at, || {
                format!(
                    "{key} cannot set set-cookie, which would replace the service's own cookies; have the service set it"
                )
            });
            if let Some(claim) = value.claim() {
                let has_token = access.is_some_and(|access| *access != Access::Public);
                self.require(has_token, &at, || {
                    format!(
                        "{key} sets {name:?} from a claim, which only requests with a token have; write a text, or set it \
                         in request_headers of a route that is not public"
                    )
                });
                if let Some(fault) = claim_path_fault(claim) {
                    self.report(&at.key("claim"), fault);
                }
            }
            self.require(value.text().is_none_or(|text| is_header_value(text)), &at, || {
                format!(
                    "{key}: the value of {name:?} must be plain ASCII without control characters and spaces at its \
                     ends, at most {} bytes",
                    limits::HEADER_VALUE_BYTES
                )
            });
            let is_repeated = rules.set.iter().take(index).any(|(known, _)| known.eq_ignore_ascii_case(name));
            self.require(!is_repeated, &at, || format!("{key} sets {name:?} twice"));
        }
        for (index, name) in rules.remove.iter().enumerate() {
            self.free_header(&at.key("remove").index(index), key, name, in_requests);
        }
        let fits = rules.set.len() <= limits::HEADER_RULES && rules.remove.len() <= limits::HEADER_RULES;
        self.require(fits, at, || format!("{key} has more than {} headers to set or to remove", limits::HEADER_RULES));
    }

    fn free_header(&mut self, at: &Place<'_>, key: &str, name: &str, in_requests: bool) {
        let lower = name.to_ascii_lowercase();
        let holds_token = in_requests && self.token_headers.iter().any(|header| is_same_header(header, name));
        self.require(is_header_name(&lower) && !is_reserved(&lower, in_requests) && !holds_token, at, || {
            let form = header_name_advice();
            let advice = match lower.as_str() {
                _ if holds_token => "it is the token_header of an issuer, which is removed on every route",
                "authorization" => "a policy holds no secret; forward_authorization passes the client's token on",
                lower if lower.starts_with("access-control-") => "write a [cors.NAME] and cors = \"NAME\" for it",
                lower if is_header_name(lower) => "the gateway or the runtime makes it; choose another name",
                _ => &form,
            };
            format!("{key} cannot touch {name:?}: {advice}")
        });
    }
}
