//! What makes the issuers of a policy sound: whose tokens, judged how, with keys from where.

use std::{collections::HashSet, ops::Range};

use toml::Spanned;

use super::{
    ClaimPath, Claims, Issuer, JwksSource, Require, RequireRule, TENANT,
    check::Checker,
    providers::{self, Keys, Provider},
    sound::{
        CLAIM_DEPTH, LEEWAY_MAX_S, LIFETIME_MAX_S, TENANTS, is_claim_path, is_plain_value, is_template, is_tenant,
        values_of,
    },
    source::{self, File, PathSource},
    suggest::hint,
    url::check_url,
};

/// JWA names that `algorithms` may hold.
pub const ALGORITHMS: &[&str] =
    &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"];

pub(super) fn is_revocable(issuer: &source::Issuer) -> bool {
    issuer.revocable || issuer.revocations_from.is_some()
}

impl Checker<'_> {
    pub(super) fn issuers(&mut self, file: &File) -> Vec<Issuer> {
        let mut checked: Vec<Issuer> = Vec::new();
        let mut known: HashSet<String> = HashSet::new();
        for (name, issuer) in &file.issuers {
            self.name("issuer", name);
            let label = name.get_ref();
            if issuer.issuer.get_ref().is_empty() {
                self.complain(
                    issuer.issuer.span(),
                    format!("issuer {label:?}: issuer is empty; write the exact `iss` of its tokens"),
                );
            }
            if issuer.audience.get_ref().iter().all(String::is_empty) {
                self.complain(issuer.audience.span(), format!("issuer {label:?}: audience is empty; name the `aud` that means this gateway, or its tokens for other services would pass"));
            }
            self.range("leeway_s", &issuer.leeway_s, 0, LEEWAY_MAX_S);
            self.range("max_lifetime_s", &issuer.max_lifetime_s, 1, LIFETIME_MAX_S);
            if let Some(from) = &issuer.revocations_from
                && from.get_ref().is_empty()
            {
                self.complain(from.span(), format!("issuer {label:?}: revocations_from is empty; write the `sub` of the service tokens that may revoke, or write revocable = true if none may"));
            }
            let provider = self.provider(label, issuer);
            let tenants = self.tenants(label, issuer);
            let algorithms = self.algorithms(name, issuer, provider);
            let mut require: Vec<Require> =
                issuer.require.iter().filter_map(|require| self.require(label, require)).collect();
            require.extend(provider.iter().flat_map(|provider| provider.require).map(|(claim, value)| Require {
                claim: vec![(*claim).to_owned()],
                rule: RequireRule::Equals((*value).into()),
            }));
            let claims = self.claims(label, &issuer.claims, provider);
            let audience_claim = self.path_or(label, &issuer.audience_claim, provider.map(|it| it.audience_claim));
            let Some(jwks) = self.jwks(file, name, issuer, provider) else { continue };
            let made = Issuer {
                name: label.clone(),
                issuer: issuer.issuer.get_ref().clone(),
                tenants,
                audience: issuer.audience.get_ref().clone(),
                audience_claim,
                algorithms,
                types: issuer.types.clone(),
                token_type: issuer.token_type.clone(),
                claims,
                require,
                leeway_s: *issuer.leeway_s.get_ref(),
                max_lifetime_s: *issuer.max_lifetime_s.get_ref(),
                jwks,
                revocable: is_revocable(issuer),
                revocations_from: issuer.revocations_from.as_ref().map(|from| from.get_ref().clone()),
            };
            // All of them are noted, whatever comes of it.
            let twice = made.names().into_iter().filter(|name| !known.insert(name.clone())).count();
            if twice > 0 {
                self.complain(
                    issuer.issuer.span(),
                    format!(
                        "issuer {label:?}: another issuer has the same `iss`; a token is judged by one policy alone"
                    ),
                );
            }
            checked.push(made);
        }
        checked
    }

    fn provider(&mut self, label: &str, issuer: &source::Issuer) -> Option<&'static Provider> {
        let name = issuer.provider.as_ref()?;
        let found = providers::find(name.get_ref());
        if found.is_none() {
            let known: Vec<&str> = providers::PROVIDERS.iter().map(|provider| provider.name).collect();
            self.complain(name.span(), format!("issuer {label:?}: provider {:?} is not known; choose from {}, or leave it out and write algorithms and where its keys are{}", name.get_ref(), known.join(", "), hint(name.get_ref(), known.iter().copied())));
        }
        found
    }

    fn tenants(&mut self, label: &str, issuer: &source::Issuer) -> Vec<String> {
        let tenants = issuer.tenants.as_ref().map(|tenants| tenants.get_ref().clone()).unwrap_or_default();
        let span = issuer.tenants.as_ref().map_or(issuer.issuer.span(), Spanned::span);
        if !is_template(issuer.issuer.get_ref(), !tenants.is_empty()) {
            let mend = if tenants.is_empty() {
                format!(
                    "{TENANT} in issuer needs tenants = [\"…\"], whose tokens are taken; without a list every customer of the provider could enter"
                )
            } else {
                format!(
                    "tenants needs an issuer with {TENANT} at the tenant's place, once, such as \"https://login.microsoftonline.com/{TENANT}/v2.0\""
                )
            };
            self.complain(span.clone(), format!("issuer {label:?}: {mend}"));
        }
        let unique: HashSet<&String> = tenants.iter().collect();
        if tenants.len() > TENANTS || unique.len() < tenants.len() || !tenants.iter().all(|tenant| is_tenant(tenant)) {
            self.complain(span.clone(), format!("issuer {label:?}: tenants are up to {TENANTS} ids as they stand in `iss`, each once, of letters, digits, -, . and _; common, organizations and consumers are none"));
        }
        if !tenants.is_empty() && issuer.revocations_from.is_some() {
            self.complain(span, format!("issuer {label:?}: revocations_from does not go with tenants, because one tenant's service could end the sessions of another's users; write revocable = true, or an issuer for each tenant"));
        }
        tenants
    }

    fn algorithms(
        &mut self,
        name: &Spanned<String>,
        issuer: &source::Issuer,
        provider: Option<&Provider>,
    ) -> Vec<String> {
        let label = name.get_ref();
        let Some(algorithms) = &issuer.algorithms else {
            if provider.is_none() && issuer.provider.is_none() {
                self.complain(
                    name.span(),
                    format!(
                        "issuer {label:?}: algorithms is missing; write the ones it signs with, such as [\"RS256\"]"
                    ),
                );
            }
            let usual = provider.map(|provider| provider.algorithms).unwrap_or_default();
            return usual.iter().map(|name| (*name).to_owned()).collect();
        };
        if algorithms.get_ref().is_empty() {
            self.complain(
                algorithms.span(),
                format!("issuer {label:?}: algorithms is empty; write the ones it signs with, such as [\"RS256\"]"),
            );
        }
        for algorithm in algorithms.get_ref() {
            if !ALGORITHMS.contains(&algorithm.as_str()) {
                self.complain(
                    algorithms.span(),
                    format!(
                        "issuer {label:?}: algorithm {algorithm:?} is not supported; choose from {}{}",
                        ALGORITHMS.join(", "),
                        hint(algorithm, ALGORITHMS.iter().copied())
                    ),
                );
            }
        }
        algorithms.get_ref().clone()
    }

    fn claims(&mut self, label: &str, source: &source::ClaimsSource, provider: Option<&Provider>) -> Claims {
        Claims {
            user_id: self.path_or(label, &source.user_id, provider.map(|it| it.user_id)),
            email: self.path_or(label, &source.email, None),
            roles: self.path_or(label, &source.roles, provider.map(|it| it.roles)),
            scopes: self.path_or(label, &source.scopes, provider.map(|it| it.scopes)),
            session: self.path_or(label, &source.session, provider.map(|it| it.session)),
        }
    }

    /// A claim's path as the file or else the provider has it.
    fn path_or(
        &mut self,
        label: &str,
        path: &Option<Spanned<PathSource>>,
        usual: Option<&[&str]>,
    ) -> Option<ClaimPath> {
        match path {
            Some(path) => Some(self.claim_path(label, path.span(), path.get_ref())),
            None => usual
                .filter(|usual| !usual.is_empty())
                .map(|usual| usual.iter().map(|name| (*name).to_owned()).collect()),
        }
    }

    fn claim_path(&mut self, label: &str, span: Range<usize>, path: &PathSource) -> ClaimPath {
        let names = path.names();
        if !is_claim_path(&names) {
            self.complain(span, format!("issuer {label:?}: a claim is a name, or a list of 1 to {CLAIM_DEPTH} names from the outermost in, such as [\"realm_access\", \"roles\"]"));
        }
        names
    }

    fn require(&mut self, label: &str, require: &Spanned<source::RequireSource>) -> Option<Require> {
        let (span, source) = (require.span(), require.get_ref());
        let claim = self.claim_path(label, span.clone(), &source.claim);
        let rule = match (&source.equals, &source.one_of) {
            (None, None) => RequireRule::Present,
            (Some(value), None) => RequireRule::Equals(value.clone()),
            (None, Some(values)) => RequireRule::OneOf(values.clone()),
            (Some(_), Some(_)) => {
                self.complain(span, format!("issuer {label:?}: require has both equals and one_of; keep one of them, or none if the claim must only be there"));
                return None;
            }
        };
        if !values_of(&rule).iter().all(is_plain_value)
            || matches!(&rule, RequireRule::OneOf(values) if values.is_empty())
        {
            self.complain(span, format!("issuer {label:?}: require compares with a string, an integer, true or false, or with one_of at least one of these"));
            return None;
        }
        Some(Require { claim, rule })
    }

    fn jwks(
        &mut self,
        file: &File,
        name: &Spanned<String>,
        issuer: &source::Issuer,
        provider: Option<&Provider>,
    ) -> Option<JwksSource> {
        let label = name.get_ref();
        let usual = provider.map(|provider| provider.keys);
        let discovery = match (&issuer.discovery, usual) {
            (Some(discovery), _) => *discovery.get_ref(),
            // The provider's own place counts where the file names none.
            (None, Some(Keys::Discovery)) => issuer.jwks_url.is_none() && issuer.jwks_upstream.is_none(),
            (None, Some(Keys::Below(_)) | None) => false,
        };
        let url = issuer.issuer.get_ref().replacen(TENANT, "common", 1);
        let below = match usual {
            Some(Keys::Below(path)) => Some(format!("{}{path}", url.trim_end_matches('/'))),
            Some(Keys::Discovery) | None => None,
        };
        match (&issuer.jwks_url, &issuer.jwks_upstream, &issuer.jwks_path) {
            (None, None, None) if discovery => {
                if let Err(mend) = check_url(&url) {
                    self.complain(
                        issuer.issuer.span(),
                        format!(
                            "issuer {label:?}: discovery asks the issuer itself, but {:?} {mend}",
                            issuer.issuer.get_ref()
                        ),
                    );
                }
                Some(JwksSource::Discovery)
            }
            (Some(url), None, None) if !discovery => {
                if let Err(mend) = check_url(url.get_ref()) {
                    self.complain(url.span(), format!("issuer {label:?}: jwks_url {:?} {mend}", url.get_ref()));
                }
                Some(JwksSource::Url(url.get_ref().clone()))
            }
            (None, Some(upstream), Some(path)) if !discovery => {
                self.known_upstream(file, upstream, &format!("issuer {label:?}"));
                if !path.get_ref().starts_with('/') {
                    self.complain(
                        path.span(),
                        format!("issuer {label:?}: jwks_path {:?} must begin with /", path.get_ref()),
                    );
                }
                Some(JwksSource::Upstream { upstream: upstream.get_ref().clone(), path: path.get_ref().clone() })
            }
            (None, None, None) if below.is_some() => {
                if let Err(mend) = check_url(&url) {
                    self.complain(
                        issuer.issuer.span(),
                        format!(
                            "issuer {label:?}: its keys are below the issuer itself, but {:?} {mend}",
                            issuer.issuer.get_ref()
                        ),
                    );
                }
                below.map(JwksSource::Url)
            }
            // A provider that is not known was complained of.
            (None, None, None) if issuer.provider.is_some() && usual.is_none() => None,
            _ => {
                self.complain(
                    name.span(),
                    format!("issuer {label:?}: say where its keys are, once: discovery = true, or jwks_url, or jwks_upstream together with jwks_path"),
                );
                None
            }
        }
    }
}
