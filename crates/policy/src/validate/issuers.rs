//! Issuers: whose tokens are accepted, by which rules, with keys from where.

use std::collections::HashSet;

use portcullis_token::{Algorithm, ClaimPath, TENANT_PLACEHOLDER, keys::KeySet};

use super::{
    Validator, hint,
    values::{claim_path_fault, claim_rule_fault, header_name_advice, is_header_name, is_template, is_tenant},
};
use crate::{
    error::Place,
    limits,
    model::{Issuer, JwksSource},
    providers,
    reserved::{is_same_header, may_hold_token},
    url::check_url,
};

impl<'a> Validator<'a> {
    /// Collects the token headers of all issuers.
    pub(super) fn token_headers(&mut self) {
        self.subject = None;
        for header in self.policy.issuers.iter().filter_map(providers::token_header) {
            if self.token_headers.iter().any(|known| is_same_header(known, header)) {
                continue;
            }
            if self.token_headers.len() >= limits::TOKEN_HEADERS {
                let most = limits::TOKEN_HEADERS;
                let message = format!("the issuers have more than {most} different token headers; let some share one");
                return self.report(&Place::Document.key("issuers"), message);
            }
            self.token_headers.push(header);
        }
    }

    /// Checks an issuer. `known` are the `iss` of those before it.
    pub(super) fn issuer(&mut self, at: &Place<'_>, issuer: &Issuer, known: &mut HashSet<String>) {
        if issuer.issuer.is_empty() {
            self.report(&at.key("issuer"), "issuer is empty; write the exact `iss` of its tokens");
        }
        if issuer.api_keys.is_none() {
            self.list(
                &at.key("audience"),
                &issuer.audience,
                limits::NAMES,
                "audience is empty, or has an empty name; name the `aud` that means this gateway, or its tokens for other \
                 services would pass",
            );
        }
        self.text(&at.key("issuer"), &issuer.issuer);
        for (key, text) in [
            ("token_type", &issuer.token_type),
            ("revocations_from", &issuer.revocations_from),
            ("jwks_path", &issuer.jwks_path),
            ("jwks_file", &issuer.jwks_file),
        ] {
            self.text(&at.key(key), text.as_deref().unwrap_or_default());
        }
        self.bounds(&at.key("leeway_s"), issuer.leeway_s, limits::LEEWAY_S);
        self.bounds(&at.key("max_lifetime_s"), issuer.max_lifetime_s, limits::LIFETIME_S);
        self.require(issuer.revocations_from.as_deref() != Some(""), &at.key("revocations_from"), || {
            "revocations_from is empty; write the `sub` of the service tokens that may revoke, or revocable = true if \
             none may"
        });
        if let Some(header) = &issuer.token_header {
            self.require(is_header_name(header), &at.key("token_header"), || {
                format!("token_header {header:?} is not the name of a header; {}", header_name_advice())
            });
            self.require(may_hold_token(header), &at.key("token_header"), || {
                format!(
                    "token_header {header:?} is a header that the gateway, HTTP or the platform uses otherwise; choose \
                     one for tokens alone, such as \"Cf-Access-Jwt-Assertion\", or leave it out for Authorization"
                )
            });
        }
        if issuer.proof.is_some() {
            self.proof(&at.key("proof"));
            self.require(providers::token_header(issuer).is_none(), &at.key("proof"), || {
                "proof does not go with token_header: clients prove that a token in Authorization is theirs, and a proxy \
                 has no key; leave one of them out"
            });
        }
        self.tenants(at, issuer);
        self.events(at, issuer);
        self.claims(at, issuer);
        if issuer.has_opaque_tokens() {
            self.opaque(at, issuer);
        } else {
            self.signatures(at, issuer);
        }
        // Every name is noted, also after one that is taken.
        let taken = issuer.names().into_iter().filter(|name| !known.insert(name.clone())).count();
        let fault = "another issuer has the same `iss`; a token is judged by one policy alone";
        self.require(taken == 0, &at.key("issuer"), || fault);
    }

    /// Checks how signatures are checked, and where the keys are.
    fn signatures(&mut self, at: &Place<'_>, issuer: &Issuer) {
        self.algorithms(at, issuer);
        match issuer.provider.as_deref().filter(|provider| providers::find(provider).is_none()) {
            None => self.keys(at, issuer),
            Some(unknown) => {
                let known = providers::provider_names();
                let (names, hint) = (known.join(", "), hint(unknown, known));
                self.report(
                    &at.key("provider"),
                    format_args!(
                        "provider {unknown:?} is not known; choose from {names}, or leave it out and write algorithms \
                         and where its keys are{hint}"
                    ),
                );
            }
        }
    }

    fn tenants(&mut self, at: &Place<'_>, issuer: &Issuer) {
        let tenants = &issuer.tenants;
        let at = at.key(if tenants.is_empty() { "issuer" } else { "tenants" });
        self.require(is_template(&issuer.issuer, !tenants.is_empty()), &at, || {
            if tenants.is_empty() {
                return format!(
                    "{TENANT_PLACEHOLDER} in issuer needs tenants = [\"…\"], whose tokens are accepted; without a list \
                     every customer of the provider could enter"
                );
            }
            format!(
                "tenants needs an issuer with {TENANT_PLACEHOLDER} at the place of the tenant, once, such as \
                 \"https://login.microsoftonline.com/{TENANT_PLACEHOLDER}/v2.0\""
            )
        });
        let unique: HashSet<&String> = tenants.iter().collect();
        let are_tenants = unique.len() == tenants.len() && tenants.iter().all(|tenant| is_tenant(tenant));
        self.require(are_tenants && tenants.len() <= limits::TENANTS, &at, || {
            format!(
                "tenants are up to {} ids as they stand in `iss`, each once, of letters, digits, -, . and _; common, \
                 organizations and consumers are none",
                limits::TENANTS
            )
        });
        self.require(tenants.is_empty() || issuer.revocations_from.is_none(), &at, || {
            "revocations_from does not go with tenants, because one tenant's service could end the sessions of \
             another's users; write revocable = true, or an issuer for each tenant"
        });
    }

    fn events(&mut self, at: &Place<'_>, issuer: &Issuer) {
        let if_empty = "audience is empty, or has an empty name; name the `aud` of the tokens that the provider sends \
                        here, or those for other applications would pass";
        let logout = issuer.logout.as_ref().map(|logout| ("logout", &logout.audience));
        let events = issuer.events.as_ref().map(|events| ("events", &events.audience));
        for (key, audience) in logout.into_iter().chain(events) {
            let at = at.key(key);
            self.list(&at.key("audience"), audience, limits::NAMES, if_empty);
            self.require(issuer.tenants.is_empty(), &at, || {
                format!(
                    "{key} does not go with tenants, because one tenant could end the sessions of another's users; write \
                     an issuer for each tenant"
                )
            });
            let claims = providers::expanded(issuer).claims;
            for (option, path, name) in [("user_id", claims.user_id, "sub"), ("session", claims.session, "sid")] {
                self.require(path.is_none_or(|path| path == [name]), &at, || {
                    format!(
                        "{key} names them by `{name}`, and the tokens of this issuer, or of its provider, by another \
                         claims.{option}; leave claims.{option} out, or {key}"
                    )
                });
            }
        }
        if let Some(name) = issuer.events.as_ref().and_then(|events| events.issuer.as_ref()) {
            let (at, is_plain) = (at.key("events"), !name.is_empty() && is_template(name, false));
            self.text(&at.key("issuer"), name);
            self.require(
                is_plain,
                &at.key("issuer"),
                || "issuer is empty or a template; write the exact `iss` of the events",
            );
        }
    }

    fn algorithms(&mut self, at: &Place<'_>, issuer: &Issuer) {
        let Some(algorithms) = &issuer.algorithms else {
            let fault = "algorithms is missing; write the ones it signs with, such as [\"RS256\"]";
            return self.require(issuer.provider.is_some(), at, || fault);
        };
        let at = at.key("algorithms");
        let if_empty = "algorithms is empty; write the ones it signs with, such as [\"RS256\"]";
        self.list(&at, algorithms, limits::NAMES, if_empty);
        let known: Vec<&str> = Algorithm::ALL.iter().map(|algorithm| algorithm.name()).collect();
        for algorithm in algorithms {
            self.require(known.contains(&algorithm.as_str()), &at, || {
                let hint = hint(algorithm, known.iter().copied());
                format!("algorithm {algorithm:?} is not supported; choose from {}{hint}", known.join(", "))
            });
        }
    }

    fn claims(&mut self, at: &Place<'_>, issuer: &Issuer) {
        let mut check = |at: &Place<'_>, claim: &Option<ClaimPath>| {
            if let Some(fault) = claim.as_deref().and_then(claim_path_fault) {
                self.report(at, fault);
            }
        };
        let (below, claims) = (at.key("claims"), &issuer.claims);
        check(&at.key("audience_claim"), &issuer.audience_claim);
        check(&below.key("user_id"), &claims.user_id);
        check(&below.key("email"), &claims.email);
        check(&below.key("roles"), &claims.roles);
        check(&below.key("scopes"), &claims.scopes);
        check(&below.key("session"), &claims.session);
        self.names(&at.key("types"), &issuer.types, limits::NAMES);
        self.at_most(&at.key("require"), issuer.require.len(), limits::ACCESS_RULES);
        for (index, rule) in issuer.require.iter().enumerate() {
            if let Some(fault) = claim_rule_fault(rule) {
                self.report(&at.key("require").index(index), format_args!("require: {fault}"));
            }
        }
    }

    fn keys(&mut self, at: &Place<'_>, issuer: &Issuer) {
        let expanded = providers::expanded(issuer);
        match expanded.jwks() {
            None => self.report(
                at,
                "say where its keys are, once: discovery = true, or jwks_url, or jwks_upstream together with jwks_path, \
                 or jwks, or jwks_file",
            ),
            Some(JwksSource::Policy(text)) => {
                let key = if issuer.jwks.is_some() { "jwks" } else { "jwks_file" };
                if let (Some(file), None) = (&issuer.jwks_file, &issuer.jwks_file_text) {
                    return self.report(&at.key(key), file_fault(file));
                }
                // What is wrong with the algorithms is reported by itself. Beyond the bound, no key is checked.
                let Some(token) = expanded.token_policy(&[]).filter(|_| self.keys <= limits::POLICY_KEYS) else { return };
                match KeySet::parse_strict(text.as_bytes(), &token.algorithms) {
                    Err(fault) => self.report(&at.key(key), format_args!("{key} {fault}")),
                    Ok(set) => {
                        let count = self.keys.saturating_add(set.keys().len());
                        self.keys = count;
                        self.require(count <= limits::POLICY_KEYS, &at.key(key), || {
                            format!(
                                "with {key}, the policy has {count} keys, of all issuers together; write at most {}, or \
                                 publish keys at a jwks_url",
                                limits::POLICY_KEYS
                            )
                        });
                    }
                }
            }
            Some(JwksSource::Discovery) => {
                let name = "discovery asks the issuer itself, and issuer";
                self.url(&at.key("issuer"), name, &issuer.base_url(), check_url);
            }
            Some(JwksSource::Url(url)) => {
                let key = if issuer.jwks_url.is_some() { "jwks_url" } else { "issuer" };
                self.url(&at.key(key), "the URL of its keys", &url, check_url);
            }
            Some(JwksSource::Upstream { upstream, path }) => {
                let found = self.reference(&at.key("jwks_upstream"), "upstream", &upstream, &self.policy.upstreams);
                self.require(found.is_none_or(|found| found.binding.is_none()), &at.key("jwks_upstream"), || {
                    "keys are fetched by URL, and its upstream has a binding; write jwks_url, jwks or jwks_file"
                });
                self.require(path.starts_with('/'), &at.key("jwks_path"), || "jwks_path must begin with /");
            }
        }
    }
}

/// Returns why there is no content of a `jwks_file`, without the option's value: a key set may have been written
/// there, with a private key.
fn file_fault(file: &str) -> &'static str {
    if file.contains('{') {
        "jwks_file holds a key set; write it as jwks, or its file's path here"
    } else if is_inside_folder(file) {
        "the file of jwks_file cannot be read; write its path relative to the policy file (the gateway reads no files: \
         npm run policy:push copies it)"
    } else {
        "jwks_file must be a relative path inside the policy file's folder, such as \"keys/id.json\""
    }
}

/// Returns whether a path leads to a file in the policy file's folder, or below it.
pub fn is_inside_folder(path: &str) -> bool {
    !path.contains(['\\', ':', '\0']) && path.split('/').all(|part| !matches!(part, "" | ".."))
}
