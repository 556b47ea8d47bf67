//! The form of a policy that the pipeline uses: everything written out that a provider or a short
//! form stands for. It is a policy document itself, with the same meaning.

use portcullis_token::{ValueDeserializer, keys::KeySet, parse_strict};
use serde::Deserialize as _;

use crate::{
    model::{Policy, UpstreamTarget},
    named, providers,
    validate::validate,
};

impl Policy {
    /// Reads a JSON document, validates it and returns it resolved.
    ///
    /// # Errors
    /// Why the document cannot be read, or its first violation.
    pub fn read(json: &str) -> Result<Self, String> {
        let unreadable = |reason: &str| ["the policy cannot be read: ", reason].concat();
        let document = parse_strict(json).map_err(|reason| unreadable(&reason))?;
        let mut policy =
            Self::deserialize(ValueDeserializer::new(&document)).map_err(|error| unreadable(&error.to_string()))?;
        // A policy may be long, and the next steps need memory, too.
        drop(document);
        if let Some(violation) = validate(&policy).first() {
            return Err(format!("the policy cannot be used: {violation}"));
        }
        policy.resolve();
        Ok(policy)
    }

    /// Writes out what providers and short forms stand for. Does nothing to a resolved policy.
    pub(crate) fn resolve(&mut self) {
        for issuer in &mut self.issuers {
            *issuer = providers::expanded(issuer);
            if let Some(text) = issuer.jwks_file_text.take() {
                // Without what else the file holds.
                let set =
                    issuer.token_policy(&[]).map(|token| KeySet::parse_strict(text.as_bytes(), &token.algorithms));
                (issuer.jwks, issuer.jwks_file) = (set.and_then(Result::ok).map(|set| set.to_json().into()), None);
            }
            if let Some(header) = &mut issuer.token_header {
                header.make_ascii_lowercase();
            }
            issuer.revocable = issuer.has_revocable_tokens();
        }
        for refusal in &mut self.refusals {
            if let Some(text) = refusal.html_file_text.take() {
                (refusal.html, refusal.html_file) = (Some(text), None);
            }
        }
        for (index, (servers, scopes)) in self.resource_defaults().into_iter().enumerate() {
            let Some(resource) = self.resources.get_mut(index) else { continue };
            resource.authorization_servers.get_or_insert(servers);
            resource.scopes_supported.get_or_insert(scopes);
        }
        for upstream in &mut self.upstreams {
            upstream.targets.extend(upstream.url.take().map(|url| UpstreamTarget { url, weight: 1 }));
            for target in &mut upstream.targets {
                target.url.truncate(target.url.trim_end_matches('/').len());
            }
        }
        for route in &mut self.routes {
            for rules in [&mut route.request_headers, &mut route.response_headers] {
                for (name, value) in std::mem::take(&mut rules.set) {
                    named::insert(&mut rules.set, (name.to_ascii_lowercase(), value));
                }
                rules.remove.iter_mut().for_each(|name| name.make_ascii_lowercase());
            }
        }
    }
}
