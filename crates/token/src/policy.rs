//! What one issuer's tokens must look like.

use crate::{
    algorithm::Algorithm,
    claim_rule::{ClaimPath, ClaimRule},
};

/// Stands for a tenant's id in an issuer's template, as in the discovery document of Microsoft Entra ID.
pub const TENANT_PLACEHOLDER: &str = "{tenantid}";

/// The rules for one issuer's tokens. A token is checked against the policy of the issuer that its
/// `iss` names, and no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenPolicy {
    /// Exact value of `iss` (no case folding, no trailing slash added or removed) or, with
    /// [`TENANT_PLACEHOLDER`] in it, a template for the tenants below.
    pub issuer: String,
    /// Accepted tenants; empty unless `issuer` is a template. A template alone would accept every
    /// customer of the provider.
    pub tenants: Vec<String>,
    /// Accepted members of the audience claim.
    pub audience: Vec<String>,
    /// Where the audience is: `aud` for most issuers.
    pub audience_claim: ClaimPath,
    /// Algorithms that this issuer signs with. Never read from the token.
    pub algorithms: Vec<Algorithm>,
    /// Accepted `typ` values, compared without case and without a leading `application/`
    /// (RFC 7515, section 4.1.9). Empty: any or none.
    pub types: Vec<String>,
    /// Required value of the `token_type` claim; keeps refresh, service and ID tokens of the same
    /// issuer from passing as access tokens.
    pub token_type: Option<String>,
    /// Where the identity is in the claims.
    pub claims: ClaimNames,
    /// What else the claims must say.
    pub require: Vec<ClaimRule>,
    /// Claims to keep in the identity, for the access rules and the headers of routes.
    pub kept: Vec<ClaimPath>,
    /// Claims to keep whole in the identity, for services.
    pub asserted: Vec<String>,
    /// Seconds of clock difference tolerated on `exp`, `nbf` and `iat`.
    pub leeway_s: u64,
    /// Longest `exp - iat`, in seconds: bounds how long a stolen token is of use.
    pub max_lifetime_s: u64,
}

/// Where the identity is in the claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimNames {
    /// The user's id; a token without one is refused.
    pub user_id: ClaimPath,
    /// E-mail address.
    pub email: ClaimPath,
    /// Role names, an array.
    pub roles: ClaimPath,
    /// Scopes: an array, or one string with spaces between (RFC 8693, section 4.2).
    pub scopes: ClaimPath,
    /// The session, by which its tokens are revoked together.
    pub session_id: ClaimPath,
}

impl Default for ClaimNames {
    fn default() -> Self {
        let [user_id, email, roles, scopes, session_id] =
            ["sub", "email", "roles", "scope", "sid"].map(|name| vec![name.to_owned()]);
        Self { user_id, email, roles, scopes, session_id }
    }
}

/// The issuer that a token names and, where its policy accepts tenants, which of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IssuerMatch<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) tenant: Option<&'a str>,
}

impl IssuerMatch<'_> {
    /// Whether a key may check this issuer's tokens. In a set that tenants share, the member `issuer` of a
    /// key says whose tokens it signs, exactly or as a template. An issuer without `tenants` may use such a
    /// set, too, so the member counts there as well: Microsoft's v2.0 set for one tenant names that tenant
    /// or the template, and its v1.0 sets have no such member.
    pub fn accepts_key_of(&self, key_issuer: Option<&str>) -> bool {
        let is_ours = |tenant: &str| self.tenant.is_none_or(|own| own == tenant);
        key_issuer.is_none_or(|named| named == self.issuer || tenant_in(named, self.issuer).is_some_and(is_ours))
    }
}

impl TokenPolicy {
    /// Matches a token's `iss` with this policy.
    pub fn match_issuer<'a>(&self, issuer: &'a str) -> Option<IssuerMatch<'a>> {
        if self.tenants.is_empty() {
            return (self.issuer == issuer).then_some(IssuerMatch { issuer, tenant: None });
        }
        let tenant = tenant_in(&self.issuer, issuer)?;
        self.tenants.iter().any(|accepted| accepted == tenant).then_some(IssuerMatch { issuer, tenant: Some(tenant) })
    }
}

/// The text at the placeholder, if `issuer` fits the template.
fn tenant_in<'a>(template: &str, issuer: &'a str) -> Option<&'a str> {
    let (prefix, suffix) = template.split_once(TENANT_PLACEHOLDER)?;
    issuer.strip_prefix(prefix)?.strip_suffix(suffix)
}
