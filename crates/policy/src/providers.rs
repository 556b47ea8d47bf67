//! What the tokens and keys of well-known providers are like, where that differs from the
//! defaults: `provider = "…"` of an issuer. Options that are written take precedence; `require` is
//! added to. `docs/providers.md` has each provider with a token that it accepts.

use portcullis_token::{ClaimPath, ClaimRule};

use crate::model::Issuer;

/// One provider. An empty path is the default's.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Provider {
    pub(crate) name: &'static str,
    pub(crate) algorithms: &'static [&'static str],
    /// Its keys, if not at the place that its discovery document names: a path below its `iss`, or a URL.
    pub(crate) jwks: Option<&'static str>,
    pub(crate) token_header: Option<&'static str>,
    pub(crate) audience_claim: &'static [&'static str],
    pub(crate) user_id: &'static [&'static str],
    pub(crate) roles: &'static [&'static str],
    pub(crate) scopes: &'static [&'static str],
    pub(crate) session: &'static [&'static str],
    /// Claims that must be equal to a text: what tells its access tokens from its others.
    pub(crate) require: &'static [(&'static str, &'static str)],
}

/// Returns all providers, by name.
fn providers() -> [Provider; 12] {
    let plain = Provider { algorithms: &["RS256"], ..Provider::default() };
    [
        Provider { name: "auth0", ..plain },
        // Session tokens have no `aud`; `azp` is the origin of the page that has asked for one.
        Provider { name: "clerk", audience_claim: &["azp"], roles: &["o", "rol"], ..plain },
        // The token of the session with Access itself has `"type": "org"`.
        Provider {
            name: "cloudflare-access",
            jwks: Some("/cdn-cgi/access/certs"),
            token_header: Some("cf-access-jwt-assertion"),
            require: &[("type", "app")],
            ..plain
        },
        // Access tokens have no `aud`; ID tokens have no `client_id`.
        Provider {
            name: "cognito",
            audience_claim: &["client_id"],
            roles: &["cognito:groups"],
            require: &[("token_use", "access")],
            ..plain
        },
        // `sub` is another one for each application; `oid` is the person.
        Provider { name: "entra-id", user_id: &["oid"], scopes: &["scp"], ..plain },
        Provider { name: "firebase", ..plain },
        Provider { name: "google", ..plain },
        Provider {
            name: "google-iap",
            algorithms: &["ES256"],
            jwks: Some("https://www.gstatic.com/iap/verify/public_key-jwk"),
            token_header: Some("x-goog-iap-jwt-assertion"),
            ..plain
        },
        // Its ID and refresh tokens are signed by the same key, and say so in `typ`.
        Provider { name: "keycloak", roles: &["realm_access", "roles"], require: &[("typ", "Bearer")], ..plain },
        Provider { name: "kubernetes", ..plain },
        Provider { name: "okta", roles: &["groups"], scopes: &["scp"], ..plain },
        Provider {
            name: "supabase",
            algorithms: &["ES256", "RS256"],
            jwks: Some("/.well-known/jwks.json"),
            roles: &["role"],
            session: &["session_id"],
            ..plain
        },
    ]
}

/// Returns the header of an issuer's tokens, if it is not `Authorization`.
pub(crate) fn token_header(issuer: &Issuer) -> Option<&str> {
    let provider = || issuer.provider.as_deref().and_then(find)?.token_header;
    issuer.token_header.as_deref().or_else(provider)
}

/// Returns the issuer with everything written out that its provider sets.
pub(crate) fn expanded(issuer: &Issuer) -> Issuer {
    let mut issuer = issuer.clone();
    let Some(provider) = issuer.provider.take().as_deref().and_then(find) else { return issuer };
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let usual = |path: &mut Option<ClaimPath>, names: &[&str]| {
        if path.is_none() && !names.is_empty() {
            *path = Some(owned(names));
        }
    };
    issuer.algorithms.get_or_insert_with(|| owned(provider.algorithms));
    usual(&mut issuer.audience_claim, provider.audience_claim);
    usual(&mut issuer.claims.user_id, provider.user_id);
    usual(&mut issuer.claims.roles, provider.roles);
    usual(&mut issuer.claims.scopes, provider.scopes);
    usual(&mut issuer.claims.session, provider.session);
    issuer.require.extend(provider.require.iter().map(|(claim, value)| ClaimRule {
        claim: vec![(*claim).to_owned()],
        equals: Some((*value).into()),
        ..ClaimRule::default()
    }));
    if issuer.token_header.is_none() {
        issuer.token_header = provider.token_header.map(str::to_owned);
    }
    let texts = [&issuer.jwks_url, &issuer.jwks_upstream, &issuer.jwks_path, &issuer.jwks_file];
    let names_no_place = issuer.jwks.is_none() && texts.iter().all(|text| text.is_none());
    match provider.jwks {
        None if names_no_place && issuer.discovery.is_none() => issuer.discovery = Some(true),
        Some(place) if names_no_place && issuer.discovery != Some(true) => {
            let base = if place.starts_with('/') { issuer.base_url() } else { String::new() };
            issuer.jwks_url = Some(format!("{}{place}", base.trim_end_matches('/')));
        }
        Some(_) | None => {}
    }
    issuer
}

/// Returns the names of all providers.
pub fn provider_names() -> Vec<&'static str> {
    providers().map(|provider| provider.name).to_vec()
}

/// Returns the provider of a name.
pub(crate) fn find(name: &str) -> Option<Provider> {
    providers().into_iter().find(|provider| provider.name == name)
}
