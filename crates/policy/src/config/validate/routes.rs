//! Routes: paths that can match, rules that let someone in, and names that are defined.

use std::collections::{HashMap, HashSet};

use super::{
    COOKIE_PREFIX, METHODS, Validator,
    values::{claim_rule_fault, is_fixed_path, is_free_header, is_header_name, is_header_value, is_reason},
};
use crate::config::{
    Access, HeaderRules, LimitBy, OWN_PATHS, Policy, RevocationCheck, Route, Variants,
    error::{Place, Violation},
    is_own_path, limits,
    suggest::hint,
    variants::{Lenient, find_passed},
};

impl Validator {
    pub(super) fn routes(&mut self, policy: &Policy) {
        let paths = Place::Document.key("routes");
        let mut matcher = matchit::Router::new();
        let mut patterns: HashSet<&str> = HashSet::new();
        let mut claimed: HashMap<(&str, &str), usize> = HashMap::new();
        for (index, route) in policy.routes.iter().enumerate() {
            let at = paths.index(index);
            let pattern = route.path.as_str();
            if patterns.insert(pattern)
                && let Err(error) = matcher.insert(pattern, ())
            {
                self.report(
                    &at.key("path"),
                    format!(
                        "route {pattern:?} conflicts with another route: {error}; make the paths differ in a fixed \
                         segment or use one name for the parameter"
                    ),
                );
            }
            for method in &route.methods {
                if let Some(first) = claimed.insert((pattern, method), index) {
                    self.violations.push(Violation {
                        path: at.key("path").path(),
                        message: format!("route {pattern:?} with {method} is already defined; keep one of the two"),
                        first: Some(paths.index(first).key("path").path()),
                    });
                }
            }
            self.route(&at, policy, route);
        }
        for passed in find_passed(policy) {
            self.report(&paths.index(passed.route).key("path"), passed.message(&policy.routes));
        }
        let collides = Lenient::of(&policy.routes).is_err();
        self.require(!collides || !self.violations.is_empty(), &paths, || {
            "two paths differ in case alone, or in the kind of a parameter, while a route has variants = \"refuse\"; \
             make them differ in a fixed segment"
                .to_owned()
        });
    }

    fn route(&mut self, at: &Place<'_>, policy: &Policy, route: &Route) {
        let pattern = &route.path;
        let params = self.pattern(&at.key("path"), pattern);
        self.methods(at, route);
        self.references(at, policy, route);
        self.access(&at.key("access"), route, &params, &route.access, limits::ACCESS_DEPTH);
        self.issuers_of(at, policy, route);
        self.token_options(at, policy, route);
        self.bounds(&at.key("max_body_bytes"), route.max_body_bytes, limits::BODY_BYTES);
        self.rewrite(at, route);
        self.header_rules(at, route, &route.request_headers, true);
        self.header_rules(at, route, &route.response_headers, false);
        if let Variants::Allow(reason) = &route.variants {
            self.require(is_reason(reason), &at.key("variants"), || {
                format!(
                    "route {pattern:?}: variants: allow wants the reason why no variant reaches the same resource, in 1 \
                     to {} bytes",
                    limits::REASON_BYTES
                )
            });
        }
    }

    /// Checks a pattern and returns the names of its parameters.
    fn pattern<'a>(&mut self, at: &Place<'_>, text: &'a str) -> Vec<&'a str> {
        let mut params = Vec::new();
        let Some(rest) = text.strip_prefix('/') else {
            self.report(at, format!("route {text:?} must begin with /"));
            return params;
        };
        self.require(!is_own_path(text), at, || {
            format!("route {text:?} is one of the gateway's own paths ({}); choose another", OWN_PATHS.join(", "))
        });
        let segments: Vec<&str> = rest.split('/').collect();
        let last = segments.len().saturating_sub(1);
        for (index, segment) in segments.iter().enumerate() {
            if let Some(inner) = segment.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) {
                let name = inner.strip_prefix('*').unwrap_or(inner);
                self.require(!inner.starts_with('*') || index == last, at, || {
                    format!("route {text:?}: {segment} takes the rest of the path, so it must be last")
                });
                let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
                self.require(is_name, at, || {
                    format!(
                        "route {text:?}: {segment} is not a parameter; write {{name}} with letters, digits and _, or \
                         {{*name}} for the rest"
                    )
                });
                self.require(!is_name || !params.contains(&name), at, || {
                    format!("route {text:?}: parameter {name:?} is there twice; give each its own name")
                });
                params.push(name);
                continue;
            }
            let is_root = segment.is_empty() && last == 0;
            let is_plain = segment.chars().all(|c| c.is_ascii_alphanumeric() || "-._~!$&'()*+,=:@".contains(c));
            let is_canonical = !segment.is_empty() && !matches!(*segment, "." | "..") && is_plain;
            self.require(is_root || is_canonical, at, || {
                format!(
                    "route {text:?}: segment {segment:?} can never match a canonical path; use plain characters, no empty \
                     or dot segments, no trailing /, and {{name}} for a parameter"
                )
            });
        }
        params
    }

    fn methods(&mut self, at: &Place<'_>, route: &Route) {
        let (pattern, methods) = (&route.path, &route.methods);
        self.require(!methods.is_empty(), &at.key("methods"), || {
            format!("route {pattern:?} names no method; write methods = [\"GET\"]")
        });
        for method in methods {
            self.require(METHODS.contains(&method.as_str()), &at.key("methods"), || {
                format!(
                    "route {pattern:?}: method {method:?} is not known; choose from {} in upper case{}",
                    METHODS.join(", "),
                    hint(method, METHODS.iter().copied())
                )
            });
        }
        self.require(!route.websocket || methods.iter().any(|method| method == "GET"), at, || {
            format!("route {pattern:?}: a WebSocket begins with GET; add it to methods, or leave websocket out")
        });
    }

    fn references(&mut self, at: &Place<'_>, policy: &Policy, route: &Route) {
        let who = format!("route {:?}", route.path);
        let upstreams = policy.upstreams.iter().map(|upstream| upstream.name.as_str());
        self.reference(&at.key("upstream"), &who, "upstream", &route.upstream, upstreams);
        if let Some(name) = &route.cors {
            self.reference(&at.key("cors"), &who, "cors", name, policy.cors.iter().map(|cors| cors.name.as_str()));
        }
        let at = at.key("limits");
        for name in &route.limits {
            let known = policy.limits.iter().map(|limit| limit.name.as_str());
            self.reference(&at, &who, "limit", name, known);
            match policy.limits.iter().find(|limit| limit.name == *name).map(|limit| limit.by) {
                Some(LimitBy::FailedIp) => self.report(
                    &at,
                    format!("{who}: limit {name:?} counts refused tokens on every route; remove it from the list"),
                ),
                Some(LimitBy::User) if route.access == Access::Public => self.report(
                    &at,
                    format!("{who}: limit {name:?} is by user, and a public route knows none; choose one by ip"),
                ),
                Some(LimitBy::Ip | LimitBy::User | LimitBy::Route) | None => {}
            }
        }
    }

    fn access(&mut self, at: &Place<'_>, route: &Route, params: &[&str], access: &Access, depth: usize) {
        let pattern = &route.path;
        let is_top = depth == limits::ACCESS_DEPTH;
        let names_some = |names: &[String]| !names.is_empty() && names.iter().all(|name| !name.is_empty());
        match access {
            Access::Public => self.require(is_top, at, || {
                format!("route {pattern:?}: \"public\" cannot stand inside any or all; it would open the whole route")
            }),
            Access::User => {}
            Access::Roles(roles) => self.require(names_some(roles), at, || {
                format!("route {pattern:?}: roles is empty, so no caller is permitted; name at least one role")
            }),
            Access::Scopes(scopes) => self.require(names_some(scopes), at, || {
                format!("route {pattern:?}: scopes is empty, so no caller is permitted; name at least one scope")
            }),
            Access::Claim(rule) => {
                if let Some(fault) = claim_rule_fault(rule) {
                    self.report(at, format!("route {pattern:?}: {fault}"));
                }
            }
            Access::Owner(name) => self.require(params.contains(&name.as_str()), at, || {
                format!(
                    "route {pattern:?}: owner {name:?} is not a parameter of the path; write {{{name}}} in it or name one \
                     of {params:?}{}",
                    hint(name, params.iter().copied())
                )
            }),
            Access::Any(rules) | Access::All(rules) => {
                let Some(depth) = depth.checked_sub(1) else {
                    return self.report(at, format!("route {pattern:?}: access nests too deeply; write it flatter"));
                };
                self.require(!rules.is_empty(), at, || {
                    format!("route {pattern:?}: an empty any or all says nothing; name at least one rule")
                });
                for rule in rules {
                    self.access(at, route, params, rule, depth);
                }
            }
        }
    }

    fn issuers_of(&mut self, at: &Place<'_>, policy: &Policy, route: &Route) {
        let pattern = &route.path;
        let names: Vec<&str> = policy.issuers.iter().map(|issuer| issuer.name.as_str()).collect();
        self.require(!names.is_empty() || route.access == Access::Public, &at.key("access"), || {
            format!("route {pattern:?} wants a token but no issuer is defined; add [issuers.NAME]")
        });
        // A tenant decides about roles and ids for itself, as an issuer does.
        let several = policy.issuers.iter().map(|issuer| issuer.tenants.len().max(1)).sum::<usize>() > 1;
        let is_open = route.issuers.is_none() && several && route.access.names_rights();
        self.require(!is_open, &at.key("access"), || {
            format!(
                "route {pattern:?} takes tokens of every issuer and tenant ({}), so each of them decides who has these \
                 rights; name those that may: issuers = [{:?}]",
                names.join(", "),
                names.first().unwrap_or(&"")
            )
        });
        let Some(issuers) = &route.issuers else { return };
        let at = at.key("issuers");
        self.require(!issuers.is_empty(), &at, || {
            format!(
                "route {pattern:?}: issuers is empty, so no caller is permitted; name at least one, or leave it out for all"
            )
        });
        for name in issuers {
            self.reference(&at, &format!("route {pattern:?}"), "issuer", name, names.iter().copied());
        }
    }

    /// Options that need a token, or a token that can be revoked.
    fn token_options(&mut self, at: &Place<'_>, policy: &Policy, route: &Route) {
        let pattern = &route.path;
        let is_public = route.access == Access::Public;
        if route.token_cookie {
            self.require(policy.token_cookie.is_some(), at, || {
                format!(
                    "route {pattern:?}: token_cookie = true, but no cookie is named; add [token_cookie] with name = \
                     \"{COOKIE_PREFIX}token\""
                )
            });
            self.require(!is_public, at, || {
                format!(
                    "route {pattern:?}: token_cookie = true, but a public route looks at no token; leave it out or change \
                     access"
                )
            });
        }
        let (option, at) = match (route.revocation, route.ends_session) {
            (RevocationCheck::Strict, _) => ("revocation = \"strict\"", at.key("revocation")),
            (RevocationCheck::Copy, true) => ("ends_session = true", *at),
            (RevocationCheck::Copy, false) => return,
        };
        if is_public {
            self.report(
                &at,
                format!(
                    "route {pattern:?}: {option} needs a token, and a public route has none; leave it out or change \
                     access"
                ),
            );
        } else {
            let can_revoke = policy.issuers.iter().any(|issuer| issuer.revocable || issuer.revocations_from.is_some());
            self.require(can_revoke, &at, || {
                format!(
                    "route {pattern:?}: {option}, but no issuer's tokens can be revoked; write revocations_from or \
                     revocable = true at the issuer"
                )
            });
        }
    }

    fn rewrite(&mut self, at: &Place<'_>, route: &Route) {
        let pattern = &route.path;
        let at = at.key(if route.replace_prefix.is_some() { "replace_prefix" } else { "strip_prefix" });
        self.require(route.strip_prefix.is_none() || route.replace_prefix.is_none(), &at, || {
            format!("route {pattern:?}: strip_prefix and replace_prefix are both there; keep one of them")
        });
        let Some((from, to)) = route.rewrite() else { return };
        // Whole segments without parameters: the removed part is the same for every path.
        let begins = pattern.strip_prefix(from).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let is_replacement = route.replace_prefix.is_none() || to.is_empty() || is_fixed_path(to);
        self.require(is_fixed_path(from) && begins && is_replacement, &at, || {
            format!(
                "route {pattern:?}: a prefix is one or more whole fixed segments with which the path begins, such as \
                 \"/shop\", and is replaced by such segments"
            )
        });
    }

    fn header_rules(&mut self, at: &Place<'_>, route: &Route, rules: &HeaderRules, in_requests: bool) {
        let pattern = &route.path;
        let key = if in_requests { "request_headers" } else { "response_headers" };
        let at = at.key(key);
        let set = at.key("set");
        for (index, (name, value)) in rules.set.iter().enumerate() {
            let place = set.key(name);
            self.free_header(&place, pattern, key, name, in_requests);
            self.require(!name.eq_ignore_ascii_case("set-cookie"), &place, || {
                format!(
                    "route {pattern:?}: {key} cannot set set-cookie, which would replace the service's own cookies; have \
                     the service set it"
                )
            });
            self.require(is_header_value(value), &place, || {
                format!(
                    "route {pattern:?}: {key}: the value of {name:?} must be plain ASCII without control characters and \
                     spaces at its ends, at most {} bytes",
                    limits::HEADER_VALUE_BYTES
                )
            });
            let is_repeated = rules.set.keys().take(index).any(|known| known.eq_ignore_ascii_case(name));
            self.require(!is_repeated, &place, || format!("route {pattern:?}: {key} sets {name:?} twice"));
        }
        let remove = at.key("remove");
        for (index, name) in rules.remove.iter().enumerate() {
            self.free_header(&remove.index(index), pattern, key, name, in_requests);
        }
        let fits = rules.set.len() <= limits::HEADER_RULES && rules.remove.len() <= limits::HEADER_RULES;
        self.require(fits, &at, || {
            format!("route {pattern:?}: {key} has more than {} headers to set or to remove", limits::HEADER_RULES)
        });
    }

    fn free_header(&mut self, at: &Place<'_>, pattern: &str, key: &str, name: &str, in_requests: bool) {
        let lower = name.to_ascii_lowercase();
        self.require(is_free_header(&lower, in_requests), at, || {
            let advice = match lower.as_str() {
                "authorization" => "a policy holds no secret; forward_authorization passes the client's token on",
                lower if lower.starts_with("access-control-") => "write a [cors.NAME] and cors = \"NAME\" for it",
                lower if is_header_name(lower) => "the gateway or the runtime makes it; choose another name",
                _ => "write a name of letters, digits, - and _",
            };
            format!("route {pattern:?}: {key} cannot touch {name:?}: {advice}")
        });
    }
}
