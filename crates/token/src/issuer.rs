//! Issuers of many tenants: one template for `iss`, and the tenants whose tokens are taken.
//! A template alone would let every customer of the provider in, so the list decides.

use super::TokenPolicy;

/// Stands for a tenant's id in a template, as Microsoft Entra ID writes it in its own
/// discovery document.
pub const TENANT_PLACEHOLDER: &str = "{tenantid}";

/// Where a token comes from: the issuer that it names and, where its policy is for many
/// tenants, which of them that is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IssuerMatch<'a> {
    issuer: &'a str,
    tenant: Option<&'a str>,
}

impl<'a> IssuerMatch<'a> {
    /// The tenant, where the policy is for many.
    pub fn tenant(&self) -> Option<&'a str> {
        self.tenant
    }

    /// Whether a key may check tokens of this origin. A key in a set of all tenants can be
    /// for one of them alone: its member `issuer` then says which, exactly or as a template.
    pub fn takes_key_of(&self, key_issuer: Option<&str>) -> bool {
        let (Some(tenant), Some(named)) = (self.tenant, key_issuer) else { return true };
        named == self.issuer || tenant_in(named, self.issuer) == Some(tenant)
    }
}

impl TokenPolicy {
    /// The origin of tokens with this `iss`; `None` where the policy takes none of it.
    pub fn origin_of<'a>(&self, issuer: &'a str) -> Option<IssuerMatch<'a>> {
        if self.tenants.is_empty() {
            return (self.issuer == issuer).then_some(IssuerMatch { issuer, tenant: None });
        }
        let tenant = tenant_in(&self.issuer, issuer)?;
        self.tenants.iter().any(|taken| taken == tenant).then_some(IssuerMatch { issuer, tenant: Some(tenant) })
    }
}

/// The text at the tenant's place, where `issuer` fits the template.
fn tenant_in<'a>(template: &str, issuer: &'a str) -> Option<&'a str> {
    let (before, behind) = template.split_once(TENANT_PLACEHOLDER)?;
    issuer.strip_prefix(before)?.strip_suffix(behind)
}
