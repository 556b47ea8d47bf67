//! Issuers of opaque tokens.

use super::Validator;
use crate::{
    error::Place,
    limits,
    model::{Introspection, Issuer},
    reserved::is_same_header,
    url::check_url,
};

impl Validator<'_> {
    /// Checks the options of an issuer whose tokens are opaque.
    pub(super) fn opaque(&mut self, at: &Place<'_>, issuer: &Issuer) {
        if let Some(introspection) = &issuer.introspection {
            self.introspection(&at.key("introspection"), introspection);
        }
        let has_jwks = issuer.jwks_url.is_some()
            || issuer.jwks_upstream.is_some()
            || issuer.jwks_path.is_some()
            || issuer.jwks.is_some()
            || issuer.jwks_file.is_some();
        for (key, is_written) in [
            ("provider", issuer.provider.is_some()),
            ("algorithms", issuer.algorithms.is_some()),
            ("types", !issuer.types.is_empty()),
            ("token_type", issuer.token_type.is_some()),
            ("tenants", !issuer.tenants.is_empty()),
            ("discovery", issuer.discovery.is_some()),
            ("revocations_from", issuer.revocations_from.is_some()),
            ("logout", issuer.logout.is_some()),
            ("events", issuer.events.is_some()),
        ] {
            self.require(!is_written, &at.key(key), || {
                [key, " is for tokens with a signature, and those of this issuer are opaque; leave it out"].concat()
            });
        }
        self.require(!has_jwks, at, || "an issuer of opaque tokens has no keys; leave out where they are");
        let shares = |other: &&Issuer| {
            let is_in_same_place = match (&issuer.token_header, &other.token_header) {
                (Some(header), Some(other)) => is_same_header(header, other),
                (header, other) => header == other,
            };
            other.has_opaque_tokens() && is_in_same_place
        };
        let sharing = self.policy.issuers.iter().filter(shares).count();
        self.require(sharing < 2, at, || {
            "several issuers have opaque tokens in the same place, and nothing in a token says whose it is; give them \
             different token_header"
        });
    }

    fn introspection(&mut self, at: &Place<'_>, introspection: &Introspection) {
        self.url(&at.key("url"), "its url", &introspection.url, check_url);
        let client_id = introspection.client_id.as_deref();
        self.text(&at.key("client_id"), client_id.unwrap_or_default());
        self.require(
            client_id != Some(""),
            &at.key("client_id"),
            || "client_id is empty; write the gateway's client id, or leave it out for a bearer token",
        );
        self.bounds(&at.key("timeout_ms"), introspection.timeout_ms, limits::BACKCHANNEL_TIMEOUT_MS);
        self.bounds(&at.key("cache_s"), introspection.cache_s, limits::INTROSPECTION_CACHE_S);
        self.breaker(&at.key("breaker"), &introspection.breaker);
    }
}
