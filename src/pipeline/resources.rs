//! The metadata of protected resources (RFC 9728), and the parameters of challenges that lead clients to it.
//!
//! Both consist of the policy and the settings alone, never of a request: a forged `Host` or path would lead
//! clients to an attacker's authorization server, through a cache also those of others.

use super::{
    answer::Answer,
    denial::Denial,
    limits,
    settings::{Misconfiguration, Settings},
};
use portcullis_policy::{Policy, Refusal, Resource, Route, StepUp};

/// The metadata of one resource.
pub(super) struct ResourceMetadata {
    /// Where it is.
    pub(super) url: String,
    /// JSON.
    document: String,
}

impl ResourceMetadata {
    /// Returns the metadata of the policy's resources.
    ///
    /// # Errors
    /// `PUBLIC_URL` is not a URL, or the gateway or an authorization server has a plain HTTP URL outside development.
    pub(super) fn of_policy(policy: &Policy, settings: &Settings<'_>) -> Result<Vec<Self>, Misconfiguration> {
        if policy.resources.is_empty() {
            return Ok(Vec::new());
        }
        let Some(url) = settings.public_url(policy)? else { return Ok(Vec::new()) };
        let metadata = policy.resources.iter().zip(policy.resource_proofs()).map(|(resource, takes_proofs)| {
            for server in resource.authorization_servers.iter().flatten() {
                let what =
                    || format!("resource {:?} has an authorization server at a plain http:// URL", resource.path);
                settings.check_https(server, what, "its https:// URL into authorization_servers")?;
            }
            Ok(Self { url: resource.metadata_url(&url), document: resource.metadata(&url, takes_proofs).to_string() })
        });
        metadata.collect()
    }

    /// Answers a request for the metadata, or its preflight. Pages of every origin may read it: it is public, the same
    /// for all callers, and `*` excludes credentials.
    pub(super) fn answer(&self, method: &str, request_id: &str) -> Answer {
        let age_s = limits::METADATA_AGE_S;
        let mut headers = vec![
            ("access-control-allow-origin", "*".to_owned()),
            ("cache-control", format!("public, max-age={age_s}")),
            ("x-request-id", request_id.to_owned()),
        ];
        if method == "OPTIONS" {
            headers.push(("access-control-allow-methods", "GET, HEAD".to_owned()));
            headers.push(("access-control-allow-headers", "*".to_owned()));
            headers.push(("access-control-max-age", age_s.to_string()));
            return Answer { status: 204, headers, body: String::new() };
        }
        headers.push(("content-type", "application/json".to_owned()));
        headers.push(("x-content-type-options", "nosniff".to_owned()));
        Answer { status: 200, headers, body: self.document.clone() }
    }

    /// Adds to a challenge where the metadata of the route's resource is (RFC 9728, section 5.1), and the scopes that
    /// the route asks for (RFC 6750, section 3). Validation excludes characters that would end the quotes.
    pub(super) fn extend_challenge(
        &self,
        challenge: &mut String,
        (route, resource): (&Route, &Resource),
        denial: &Denial,
    ) {
        let known = if let Denial::Policy(
            Refusal::PermissionMissing { scopes } | Refusal::LoginInsufficient { step_up: StepUp { scopes, .. } },
        ) = denial
        {
            Some(scopes)
        } else {
            None
        };
        let (scopes, is_shown) = known.map_or_else(
            || {
                // Strangers learn no scope that the metadata does not show.
                let scopes = route.access.needed_scopes(None);
                let supported = resource.scopes_supported.as_deref().unwrap_or_default();
                let is_shown = scopes.split(' ').all(|scope| supported.iter().any(|known| known == scope));
                (scopes, is_shown)
            },
            |scopes| (scopes.clone(), true),
        );
        if is_shown && (1..=limits::CHALLENGE_SCOPE_BYTES).contains(&scopes.len()) {
            challenge.extend([", scope=\"", &scopes, "\""]);
        }
        challenge.extend([", resource_metadata=\"", &self.url, "\""]);
    }
}
