//! Protected resources: their paths, and what their metadata says. Everyone can read it, and texts of it are in
//! headers.

use std::collections::HashMap;

use super::{
    Validator, listed,
    values::{is_fixed_path, is_scope},
};
use crate::{
    error::{Place, Violation},
    limits,
    model::{Issuer, Resource, Route},
    resource::scopes_of,
    url::{check_public_url, check_url},
};

impl<'a> Validator<'a> {
    pub(super) fn resources(&mut self) {
        let policy = self.policy;
        self.subject = None;
        if let Some(url) = &policy.public_url {
            self.url(&Place::Document.key("public_url"), "public_url", url, check_public_url);
        }
        let table = Place::Document.key("resources");
        self.at_most(&table, policy.resources.len(), limits::RESOURCES);
        if policy.resources.is_empty() || policy.resources.len() > limits::RESOURCES {
            return;
        }
        self.require(policy.public_url.is_some(), &table.index(0), || {
            "resources need public_url = \"https://…\" before the first table: the metadata names the gateway's URL, and \
             a request's Host can be forged"
        });
        let mut known: HashMap<&str, usize> = HashMap::new();
        for (index, (resource, routes)) in policy.resources.iter().zip(policy.protected_routes()).enumerate() {
            let at = table.index(index);
            self.subject = Some(("resource", &resource.path));
            if let Some(first) = known.insert(&resource.path, index) {
                let message = format!("resource {:?} is already defined; keep one of the two", resource.path);
                let first = Some(table.index(first).path());
                self.violations.push(Violation { path: at.path(), message, first });
                continue;
            }
            self.resource(&at, resource, &routes);
            self.scopes_in_rules(&routes);
        }
        self.subject = None;
    }

    fn resource(&mut self, at: &Place<'_>, resource: &Resource, routes: &[(usize, &Route)]) {
        let path = at.key("path");
        self.text(&path, &resource.path);
        self.require(
            resource.path == "/" || is_fixed_path(&resource.path),
            &path,
            || "its path is \"/\", or one or more whole fixed segments, such as \"/mcp\"",
        );
        self.require(!routes.is_empty(), at, || {
            "no route that reads tokens from Authorization begins with its path and with no longer one of another \
             resource; add the route, or remove the resource"
        });
        let issuers: Vec<&Issuer> = self.policy.bearer_issuers(routes).collect();
        self.servers(&at.key("authorization_servers"), resource, &issuers);
        let scopes = at.key("scopes_supported");
        match &resource.scopes_supported {
            Some(names) => {
                self.names(&scopes, names, limits::NAMES);
                names.iter().for_each(|name| self.scope(&scopes, name));
            }
            None => {
                let (count, most) = (scopes_of(routes).len(), limits::NAMES);
                self.require(count <= most, at, || {
                    format!("the rules of its routes have {count} scopes; write scopes_supported with at most {most}")
                });
            }
        }
        if let Some(name) = &resource.resource_name {
            let at = at.key("resource_name");
            self.text(&at, name);
            self.require(
                !name.is_empty() && !name.chars().any(char::is_control),
                &at,
                || "resource_name is a text without control characters; write one, or leave it out",
            );
        }
        if let Some(url) = &resource.resource_documentation {
            self.url(&at.key("resource_documentation"), "resource_documentation", url, check_url);
        }
    }

    fn servers(&mut self, at: &Place<'_>, resource: &Resource, issuers: &[&Issuer]) {
        let is_server = |url: &str| check_url(url).is_ok() && !url.contains(['?', '#']);
        if let Some(servers) = &resource.authorization_servers {
            let if_empty = "authorization_servers is empty; name those that issue its tokens, or leave it out";
            self.list(at, servers, limits::NAMES, if_empty);
            return self.require(
                servers.iter().all(|server| is_server(server)),
                at,
                || "authorization_servers are URLs of issuers: https://, without ? and # (RFC 8414, section 2)",
            );
        }
        let is_hidden = |issuer: &&&Issuer| !issuer.tenants.is_empty() || !is_server(&issuer.issuer);
        let hidden: Vec<&str> = issuers.iter().filter(is_hidden).map(|issuer| issuer.name.as_str()).collect();
        self.require(hidden.is_empty(), at, || {
            format!(
                "write authorization_servers = [\"https://…\"]: the issuers {} are no URLs, or have tenants, which the \
                 metadata would show to everyone",
                listed(&hidden)
            )
        });
        self.require(issuers.len() <= 1, at, || {
            format!(
                "write authorization_servers = [\"https://…\"]: its routes have {} issuers, which the metadata would show \
                 to everyone, and clients cannot choose between them",
                issuers.len()
            )
        });
    }

    /// Checks the scopes that challenges may have.
    fn scopes_in_rules(&mut self, routes: &[(usize, &'a Route)]) {
        for (index, route) in routes {
            self.subject = Some(("route", &route.path));
            let table = Place::Document.key("routes");
            let at = table.index(*index);
            for scope in scopes_of(&[(*index, *route)]) {
                self.scope(&at.key("access"), scope);
            }
        }
    }

    fn scope(&mut self, at: &Place<'_>, scope: &str) {
        self.require(is_scope(scope), at, || {
            format!(
                "scope {scope:?} must be visible ASCII without quotes and backslashes (RFC 6749, section 3.3), because \
                 clients of a resource get it in a header"
            )
        });
    }
}
