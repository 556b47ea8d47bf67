//! Protected resources (RFC 9728): which routes belong to one, and what its metadata says.

use std::{cmp::Reverse, collections::HashSet};

use portcullis_token::{Algorithm, PROOF_ALGORITHMS, object};
use serde_json::Value;

use crate::{
    access::Access,
    model::{Issuer, Policy, Resource, Route},
    named::find,
    providers,
    reserved::{METADATA_PATH, is_below},
};

impl Resource {
    /// Returns the URL that identifies the resource (RFC 9728, section 1.2).
    pub fn url(&self, public_url: &str) -> String {
        [public_url, self.suffix()].concat()
    }

    /// Returns the URL of its metadata (RFC 9728, section 3.1).
    pub fn metadata_url(&self, public_url: &str) -> String {
        [public_url, METADATA_PATH, self.suffix()].concat()
    }

    /// Returns its metadata, without members that have no value (RFC 9728, section 3.2). `takes_proofs` says whether one of
    /// its routes does. None needs them always, because a token may be bound to a certificate instead, and whether
    /// clients can show one is for the zone to say.
    pub fn metadata(&self, public_url: &str, takes_proofs: bool) -> Value {
        let algorithms = takes_proofs.then(|| PROOF_ALGORITHMS.map(Algorithm::name).as_slice().into());
        let mut document = object([
            ("resource", self.url(public_url).into()),
            ("authorization_servers", self.authorization_servers.as_deref().into()),
            ("scopes_supported", self.scopes_supported.as_deref().into()),
            ("bearer_methods_supported", ["header"].as_slice().into()),
            ("dpop_signing_alg_values_supported", algorithms.unwrap_or_default()),
            ("resource_name", self.resource_name.as_deref().into()),
            ("resource_documentation", self.resource_documentation.as_deref().into()),
        ]);
        if let Some(members) = document.as_object_mut() {
            members.retain(|_, value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()));
        }
        document
    }

    /// Returns its path as it follows another one.
    fn suffix(&self) -> &str {
        self.path.strip_suffix('/').unwrap_or(&self.path)
    }
}

impl Policy {
    /// Returns the index of the resource that a route belongs to. Only routes that read tokens from `Authorization`
    /// belong to one: clients of others have nothing to send.
    pub fn resource_of(&self, route: &Route) -> Option<usize> {
        let reads_authorization = match &route.issuers {
            _ if route.access == Access::Public => false,
            None => self.issuers.iter().any(is_bearer),
            Some(names) => names.iter().filter_map(|name| find(&self.issuers, name)).any(is_bearer),
        };
        if !reads_authorization {
            return None;
        }
        let resources = self.resources.iter().enumerate();
        let covering = resources.filter(|(_, resource)| is_below(&route.path, resource.suffix()));
        covering.max_by_key(|(index, resource)| (resource.path.len(), Reverse(*index))).map(|(index, _)| index)
    }

    /// Returns the index of the resource whose metadata is at a path. Only the exact path: the metadata of `/a` would be
    /// wrong for a client that asks for that of `/a/b` (RFC 9728, section 3.3).
    pub(crate) fn resource_at(&self, path: &str) -> Option<usize> {
        let suffix = path.strip_prefix(METADATA_PATH)?;
        self.resources.iter().position(|resource| resource.suffix() == suffix)
    }

    /// Returns the routes of each resource, each with its index.
    pub(crate) fn protected_routes(&self) -> Vec<Vec<(usize, &Route)>> {
        let mut found = vec![Vec::new(); self.resources.len()];
        for (index, route) in self.routes.iter().enumerate() {
            if let Some(routes) = self.resource_of(route).and_then(|resource| found.get_mut(resource)) {
                routes.push((index, route));
            }
        }
        found
    }

    /// Returns whether a route of each resource takes proofs.
    pub fn resource_proofs(&self) -> Vec<bool> {
        let takes_proofs = |(_, route): &(usize, &Route)| self.proofs_of(route).1.is_some();
        self.protected_routes().iter().map(|routes| routes.iter().any(takes_proofs)).collect()
    }

    /// Returns the issuers of these routes whose tokens clients send in `Authorization`.
    pub(crate) fn bearer_issuers<'a>(&'a self, routes: &[(usize, &'a Route)]) -> impl Iterator<Item = &'a Issuer> {
        let takes_all = routes.iter().any(|(_, route)| route.issuers.is_none());
        let named = routes.iter().filter_map(|(_, route)| route.issuers.as_ref()).flatten();
        let named: HashSet<&str> = named.map(String::as_str).collect();
        let accepted = self.issuers.iter().filter(move |issuer| takes_all || named.contains(&*issuer.name));
        accepted.filter(|issuer| is_bearer(issuer))
    }

    /// Returns the authorization servers and the scopes of each resource that are used unless it names others.
    pub(crate) fn resource_defaults(&self) -> Vec<(Vec<String>, Vec<String>)> {
        let defaults = |routes: Vec<(usize, &Route)>| {
            let servers = self.bearer_issuers(&routes).map(|issuer| issuer.issuer.clone());
            (servers.collect(), scopes_of(&routes).into_iter().map(str::to_owned).collect())
        };
        self.protected_routes().into_iter().map(defaults).collect()
    }
}

/// Returns whether clients get an issuer's tokens from an authorization server and send them in `Authorization`. A proxy
/// gets those of a token header, and people API keys.
fn is_bearer(issuer: &Issuer) -> bool {
    providers::token_header(issuer).is_none() && issuer.api_keys.is_none()
}

/// Returns the scopes in the rules of routes.
pub(crate) fn scopes_of<'a>(routes: &[(usize, &'a Route)]) -> Vec<&'a str> {
    let mut scopes = Vec::new();
    routes.iter().for_each(|(_, route)| route.access.add_scopes(&mut scopes));
    scopes
}
