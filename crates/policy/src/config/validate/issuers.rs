//! Issuers: whose tokens are accepted, by which rules, with keys from where.

use std::collections::HashSet;

use portcullis_token::{Algorithm, ClaimPath, TENANT_PLACEHOLDER};

use super::{
    Validator,
    values::{claim_rule_fault, is_claim_path, is_template, is_tenant},
};
use crate::config::{Issuer, JwksSource, Policy, error::Place, limits, providers, suggest::hint, url::check_url};

impl Validator {
    pub(super) fn issuers(&mut self, policy: &Policy) {
        let mut known: HashSet<String> = HashSet::new();
        let table = Place::Document.key("issuers");
        for issuer in &policy.issuers {
            let path = table.key(&issuer.name);
            self.name(&path, "issuer", &issuer.name);
            self.issuer(&path, policy, issuer);
            // Every name is noted, also after one that is taken.
            let taken = issuer.names().into_iter().filter(|name| !known.insert(name.clone())).count();
            self.require(taken == 0, &path.key("issuer"), || {
                format!(
                    "issuer {:?}: another issuer has the same `iss`; a token is judged by one policy alone",
                    issuer.name
                )
            });
        }
    }

    fn issuer(&mut self, path: &Place<'_>, policy: &Policy, issuer: &Issuer) {
        let name = &issuer.name;
        self.require(!issuer.issuer.is_empty(), &path.key("issuer"), || {
            format!("issuer {name:?}: issuer is empty; write the exact `iss` of its tokens")
        });
        let has_audience = !issuer.audience.is_empty() && issuer.audience.iter().all(|audience| !audience.is_empty());
        self.require(has_audience, &path.key("audience"), || {
            format!(
                "issuer {name:?}: audience is empty, or has an empty name; name the `aud` that means this gateway, or its tokens for other \
                 services would pass"
            )
        });
        self.bounds(&path.key("leeway_s"), issuer.leeway_s, limits::LEEWAY_S);
        self.bounds(&path.key("max_lifetime_s"), issuer.max_lifetime_s, limits::LIFETIME_S);
        self.require(issuer.revocations_from.as_deref() != Some(""), &path.key("revocations_from"), || {
            format!(
                "issuer {name:?}: revocations_from is empty; write the `sub` of the service tokens that may revoke, or \
                 revocable = true if none may"
            )
        });
        let known_provider = issuer.provider.as_deref().is_none_or(|provider| providers::find(provider).is_some());
        self.require(known_provider, &path.key("provider"), || {
            let known: Vec<&str> = providers::PROVIDERS.iter().map(|provider| provider.name).collect();
            let wanted = issuer.provider.as_deref().unwrap_or_default();
            format!(
                "issuer {name:?}: provider {wanted:?} is not known; choose from {}, or leave it out and write algorithms \
                 and where its keys are{}",
                known.join(", "),
                hint(wanted, known.iter().copied())
            )
        });
        self.tenants(path, issuer);
        self.algorithms(path, issuer);
        self.claims(path, issuer);
        if known_provider {
            self.keys(path, policy, issuer);
        }
    }

    fn tenants(&mut self, path: &Place<'_>, issuer: &Issuer) {
        let Issuer { name, tenants, .. } = issuer;
        let place = path.key(if tenants.is_empty() { "issuer" } else { "tenants" });
        self.require(is_template(&issuer.issuer, !tenants.is_empty()), &place, || {
            if tenants.is_empty() {
                return format!(
                    "issuer {name:?}: {TENANT_PLACEHOLDER} in issuer needs tenants = [\"…\"], whose tokens are accepted; \
                     without a list every customer of the provider could enter"
                );
            }
            format!(
                "issuer {name:?}: tenants needs an issuer with {TENANT_PLACEHOLDER} at the place of the tenant, once, \
                 such as \"https://login.microsoftonline.com/{TENANT_PLACEHOLDER}/v2.0\""
            )
        });
        let unique: HashSet<&String> = tenants.iter().collect();
        let are_tenants = unique.len() == tenants.len() && tenants.iter().all(|tenant| is_tenant(tenant));
        self.require(are_tenants && tenants.len() <= limits::TENANTS, &place, || {
            format!(
                "issuer {name:?}: tenants are up to {} ids as they stand in `iss`, each once, of letters, digits, -, . \
                 and _; common, organizations and consumers are none",
                limits::TENANTS
            )
        });
        self.require(tenants.is_empty() || issuer.revocations_from.is_none(), &place, || {
            format!(
                "issuer {name:?}: revocations_from does not go with tenants, because one tenant's service could end the \
                 sessions of another's users; write revocable = true, or an issuer for each tenant"
            )
        });
    }

    fn algorithms(&mut self, path: &Place<'_>, issuer: &Issuer) {
        let name = &issuer.name;
        let Some(algorithms) = &issuer.algorithms else {
            return self.require(issuer.provider.is_some(), path, || {
                format!("issuer {name:?}: algorithms is missing; write the ones it signs with, such as [\"RS256\"]")
            });
        };
        let path = path.key("algorithms");
        self.require(!algorithms.is_empty(), &path, || {
            format!("issuer {name:?}: algorithms is empty; write the ones it signs with, such as [\"RS256\"]")
        });
        let known: Vec<&str> = Algorithm::ALL.iter().map(|algorithm| algorithm.name()).collect();
        for algorithm in algorithms {
            self.require(known.contains(&algorithm.as_str()), &path, || {
                let hint = hint(algorithm, known.iter().copied());
                format!(
                    "issuer {name:?}: algorithm {algorithm:?} is not supported; choose from {}{hint}",
                    known.join(", ")
                )
            });
        }
    }

    fn claims(&mut self, path: &Place<'_>, issuer: &Issuer) {
        let (name, claims) = (&issuer.name, &issuer.claims);
        let below = path.key("claims");
        let mut check = |path: &Place<'_>, claim: &Option<ClaimPath>| {
            self.require(claim.as_deref().is_none_or(is_claim_path), path, || {
                format!(
                    "issuer {name:?}: a claim is a name, or a list of 1 to {} names from the outermost in, such as \
                     [\"realm_access\", \"roles\"]",
                    limits::CLAIM_DEPTH
                )
            });
        };
        check(&path.key("audience_claim"), &issuer.audience_claim);
        check(&below.key("user_id"), &claims.user_id);
        check(&below.key("email"), &claims.email);
        check(&below.key("roles"), &claims.roles);
        check(&below.key("scopes"), &claims.scopes);
        check(&below.key("session"), &claims.session);
        let rules = path.key("require");
        for (index, rule) in issuer.require.iter().enumerate() {
            if let Some(fault) = claim_rule_fault(rule) {
                self.report(&rules.index(index), format!("issuer {name:?}: require: {fault}"));
            }
        }
    }

    fn keys(&mut self, path: &Place<'_>, policy: &Policy, issuer: &Issuer) {
        let name = &issuer.name;
        let with_provider = providers::expanded(issuer);
        let Some(jwks) = with_provider.jwks() else {
            return self.report(
                path,
                format!(
                    "issuer {name:?}: say where its keys are, once: discovery = true, or jwks_url, or jwks_upstream \
                     together with jwks_path"
                ),
            );
        };
        match jwks {
            JwksSource::Discovery => {
                if let Err(fault) = check_url(&issuer.base_url()) {
                    self.report(
                        &path.key("issuer"),
                        format!("issuer {name:?}: discovery asks the issuer itself, and issuer {fault}"),
                    );
                }
            }
            JwksSource::Url(url) => {
                if let Err(fault) = check_url(&url) {
                    let key = if issuer.jwks_url.is_some() { "jwks_url" } else { "issuer" };
                    self.report(&path.key(key), format!("issuer {name:?}: the URL of its keys {fault}"));
                }
            }
            JwksSource::Upstream { upstream, path: keys } => {
                let known = policy.upstreams.iter().map(|upstream| upstream.name.as_str());
                self.reference(&path.key("jwks_upstream"), &format!("issuer {name:?}"), "upstream", &upstream, known);
                self.require(keys.starts_with('/'), &path.key("jwks_path"), || {
                    format!("issuer {name:?}: jwks_path {keys:?} must begin with /")
                });
            }
        }
    }
}
