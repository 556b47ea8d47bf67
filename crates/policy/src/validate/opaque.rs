//! Issuers of opaque tokens.

use super::Validator;
use crate::{
    error::Place,
    limits,
    model::{ApiKeys, Introspection, Issuer, MAX_LIFETIME_S},
    named::find,
    reserved::is_same_header,
    url::check_url,
};

impl Validator<'_> {
    /// Checks the options of an issuer whose tokens are opaque.
    pub(super) fn opaque(&mut self, at: &Place<'_>, issuer: &Issuer) {
        if let Some(introspection) = &issuer.introspection {
            self.introspection(&at.key("introspection"), introspection);
        }
        if let Some(keys) = &issuer.api_keys {
            self.api_keys(at, issuer, keys);
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
            other.introspection.is_some() && is_in_same_place
        };
        let sharing = self.policy.issuers.iter().filter(shares).count();
        self.require(sharing < 2 || issuer.introspection.is_none(), at, || {
            "several issuers have opaque tokens in the same place, and nothing in a token says whose it is; give them \
             different token_header"
        });
    }

    fn api_keys(&mut self, at: &Place<'_>, issuer: &Issuer, keys: &ApiKeys) {
        for (key, is_written) in [
            ("audience", !issuer.audience.is_empty()),
            ("audience_claim", issuer.audience_claim.is_some()),
            ("max_lifetime_s", issuer.max_lifetime_s != u64::from(MAX_LIFETIME_S)),
            ("proof", issuer.proof.is_some()),
            ("introspection", issuer.introspection.is_some()),
        ] {
            self.require(!is_written, &at.key(key), || [key, " does not go with api_keys; leave it out"].concat());
        }
        let at = at.key("api_keys");
        let prefix = &keys.prefix;
        let is_plain = prefix.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        self.require(
            is_plain && limits::API_KEY_PREFIX_BYTES.contains(&prefix.len()),
            &at.key("prefix"),
            || "prefix is not 2 to 16 of a-z and 0-9",
        );
        let has_prefix = |other: &&Issuer| other.api_keys.as_ref().is_some_and(|keys| keys.prefix == *prefix);
        let sharing = self.policy.issuers.iter().filter(has_prefix).count();
        self.require(
            sharing < 2,
            &at.key("prefix"),
            || "another issuer has the same prefix, and nothing else in a key says whose it is; choose another one",
        );
        let pushes = find(&self.policy.issuers, &keys.from).is_some_and(|from| from.revocations_from.is_some());
        self.require(
            pushes,
            &at.key("from"),
            || "from names no issuer with revocations_from, whose service could create keys; name one that has it",
        );
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
