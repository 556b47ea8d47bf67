//! What the tokens and keys of well-known providers are like, where that differs from the
//! defaults: `provider = "…"` of an issuer. Whatever the file says itself comes first;
//! `require` is added to. `docs/providers.md` has each of them with a token that it takes.

/// Where a provider has its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    /// Where its discovery document says.
    Discovery,
    /// At this path below its `iss`.
    Below(&'static str),
}

/// One provider. An empty path is the default's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Provider {
    pub(super) name: &'static str,
    pub(super) algorithms: &'static [&'static str],
    pub(super) keys: Keys,
    pub(super) audience_claim: &'static [&'static str],
    pub(super) user_id: &'static [&'static str],
    pub(super) roles: &'static [&'static str],
    pub(super) scopes: &'static [&'static str],
    pub(super) session: &'static [&'static str],
    /// Claims that must be equal to a text: what tells its access tokens from its others.
    pub(super) require: &'static [(&'static str, &'static str)],
}

const PLAIN: Provider = Provider {
    name: "",
    algorithms: &["RS256"],
    keys: Keys::Discovery,
    audience_claim: &[],
    user_id: &[],
    roles: &[],
    scopes: &[],
    session: &[],
    require: &[],
};

/// All of them, by name.
pub(super) const PROVIDERS: &[Provider] = &[
    Provider { name: "auth0", ..PLAIN },
    // Session tokens have no `aud`; `azp` is the origin of the page that has asked for one.
    Provider { name: "clerk", audience_claim: &["azp"], roles: &["o", "rol"], ..PLAIN },
    // Access tokens have no `aud`; ID tokens have no `client_id`.
    Provider {
        name: "cognito",
        audience_claim: &["client_id"],
        roles: &["cognito:groups"],
        require: &[("token_use", "access")],
        ..PLAIN
    },
    // `sub` is another one for each application; `oid` is the person.
    Provider { name: "entra-id", user_id: &["oid"], scopes: &["scp"], ..PLAIN },
    Provider { name: "firebase", ..PLAIN },
    Provider { name: "google", ..PLAIN },
    // Its ID and refresh tokens are signed by the same key, and say so in `typ`.
    Provider { name: "keycloak", roles: &["realm_access", "roles"], require: &[("typ", "Bearer")], ..PLAIN },
    Provider { name: "kubernetes", ..PLAIN },
    Provider { name: "okta", roles: &["groups"], scopes: &["scp"], ..PLAIN },
    Provider {
        name: "supabase",
        algorithms: &["ES256", "RS256"],
        keys: Keys::Below("/.well-known/jwks.json"),
        roles: &["role"],
        session: &["session_id"],
        ..PLAIN
    },
];

/// The provider of a name.
pub(super) fn find(name: &str) -> Option<&'static Provider> {
    PROVIDERS.iter().find(|provider| provider.name == name)
}
