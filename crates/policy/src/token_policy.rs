//! How each issuer's tokens are checked, from the policy.

use portcullis_token::{Algorithm, ClaimNames, ClaimPath, TokenPolicy, limits::DATE_SECS};

use crate::{
    access::{ACR, AUTH_TIME, Access},
    model::{Issuer, Policy},
    sorted,
};

/// Returns the claims that routes' access rules compare, and those that routes write to headers.
pub fn claims_in_rules(policy: &Policy) -> Vec<ClaimPath> {
    fn keep(claim: &ClaimPath, kept: &mut Vec<ClaimPath>) {
        if !kept.contains(claim) {
            kept.push(claim.clone());
        }
    }
    fn collect(access: &Access, kept: &mut Vec<ClaimPath>) {
        let claim = match access {
            Access::Any(rules) | Access::All(rules) => return rules.iter().for_each(|rule| collect(rule, kept)),
            Access::Claim(rule) => rule.claim.clone(),
            Access::RequestClaim(rule) => rule.claim.clone(),
            Access::MaxAge(_) => vec![AUTH_TIME.to_owned()],
            Access::Acr(_) => vec![ACR.to_owned()],
            Access::Public
            | Access::User
            | Access::Roles(_)
            | Access::Scopes(_)
            | Access::Owner(_)
            | Access::Country(_)
            | Access::Network(_) => return,
        };
        keep(&claim, kept);
    }
    let mut kept = Vec::new();
    for route in &policy.routes {
        collect(&route.access, &mut kept);
        route
            .request_headers
            .set
            .iter()
            .filter_map(|(_, value)| value.claim())
            .for_each(|claim| keep(claim, &mut kept));
    }
    kept
}

/// Returns the claims that services get in assertions.
pub fn claims_in_assertions(policy: &Policy) -> Vec<String> {
    let names = policy.upstreams.iter().flat_map(|upstream| &upstream.assertion.claims);
    let mut found = Vec::new();
    names.for_each(|name| sorted::insert(&mut found, name.clone()));
    found
}

impl Issuer {
    /// Returns how this issuer's tokens are checked; `kept` are the claims to keep for access rules.
    /// `None` if an algorithm is unknown, or there is none for tokens with signatures.
    pub fn token_policy(&self, kept: &[ClaimPath]) -> Option<TokenPolicy> {
        let algorithms: Vec<Algorithm> =
            self.algorithms.iter().flatten().map(|name| Algorithm::from_name(name)).collect::<Option<_>>()?;
        let usual = ClaimNames::default();
        let or = |path: &Option<ClaimPath>, usual: ClaimPath| path.clone().unwrap_or(usual);
        // The gateway's records of keys are for it alone, and its issuer decides how long they are valid.
        let (audience, claim, max_lifetime_s) = if self.api_keys.is_some() {
            (vec![self.issuer.clone()], "iss", DATE_SECS)
        } else {
            (self.audience.clone(), "aud", self.max_lifetime_s)
        };
        (algorithms.is_empty() == self.has_opaque_tokens()).then(|| TokenPolicy {
            issuer: self.issuer.clone(),
            tenants: self.tenants.clone(),
            audience,
            audience_claim: self.audience_claim.clone().unwrap_or_else(|| vec![claim.to_owned()]),
            algorithms,
            types: self.types.clone(),
            token_type: self.token_type.clone(),
            claims: ClaimNames {
                user_id: or(&self.claims.user_id, usual.user_id),
                email: or(&self.claims.email, usual.email),
                roles: or(&self.claims.roles, usual.roles),
                scopes: or(&self.claims.scopes, usual.scopes),
                session_id: or(&self.claims.session, usual.session_id),
            },
            require: self.require.clone(),
            kept: kept.to_vec(),
            asserted: Vec::new(),
            leeway_s: self.leeway_s,
            max_lifetime_s,
        })
    }
}
