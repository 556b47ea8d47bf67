//! The effective route table of a policy as text.

use std::collections::BTreeSet;

use portcullis_policy::{
    Access, EncodedPath, JwksSource, METADATA_PATH, Policy, Proof, RevocationCheck, Route, Variants, event_path,
};
use portcullis_token::EventForm;

use crate::{
    access,
    decision::Decider,
    overlap::{Overlaps, meets},
};

const COLUMNS: [&str; 5] = ["METHODS", "PATH", "WHO MAY ENTER", "UPSTREAM", "LIMITS"];

/// Renders the table, the paths that overlap, and notes.
pub(crate) fn render(Decider { policy, overlaps, .. }: &Decider<'_>) -> String {
    let mut routes: Vec<_> = policy.routes.iter().collect();
    routes.sort_by(|one, other| one.path.cmp(&other.path));
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    rows.extend(routes.into_iter().map(|route| row(policy, route)));
    let mut lines = align(&rows);
    lines.push(format!(
        "\n{}, {}, {}; any other path is 404.",
        count(policy.routes.len(), "route"),
        count(policy.upstreams.len(), "upstream"),
        count(policy.issuers.len(), "issuer")
    ));
    lines.extend(precedence(policy, overlaps));
    for issuer in &policy.issuers {
        let name = &issuer.name;
        let header = issuer.token_header.as_ref();
        lines.extend(header.map(|header| format!("note: tokens of {name} are accepted from the header {header} only")));
        lines.extend(issuer.introspection.as_ref().map(|introspection| {
            let (url, secs) = (&introspection.url, introspection.cache_s);
            format!("note: tokens of {name} are opaque; {url} is asked what they mean, again after {secs} s")
        }));
        let keys = issuer.api_keys.as_ref();
        lines.extend(keys.map(|keys| {
            let (prefix, from) = (&keys.prefix, &keys.from);
            format!("note: {name} has API keys {prefix}_…, which the service of {from} creates and ends")
        }));
        let is_fixed = matches!(issuer.jwks(), Some(JwksSource::Policy(_)));
        lines.extend(is_fixed.then(|| format!("note: the keys of {name} are in the policy and do not expire")));
    }
    for (issuer, form) in
        policy.issuers.iter().flat_map(|issuer| EventForm::ALL.iter().map(move |form| (issuer, *form)))
    {
        let audience = match form {
            EventForm::Logout => issuer.logout.as_ref().map(|logout| &logout.audience),
            EventForm::SecurityEvent => issuer.events.as_ref().map(|events| &events.audience),
        };
        let what = if form == EventForm::Logout { "logout tokens" } else { "security events" };
        lines.extend(audience.map(|audience| {
            let (name, place) = (&issuer.name, event_path(form, &issuer.name));
            format!("note: {name} sends {what} for {} to POST {place}", audience.join(", "))
        }));
    }
    for (route, sources) in policy.routes.iter().zip(policy.token_sources()) {
        lines.extend(sources.filter(|sources| sources.has_authorization).map(|sources| {
            format!("note: {} takes tokens from {} and from Authorization", route.path, sources.headers.join(", "))
        }));
    }
    for upstream in &policy.upstreams {
        let algorithm = upstream.assertion.algorithm;
        lines.extend(algorithm.asymmetric().map(|algorithm| {
            let (name, algorithm) = (&upstream.name, algorithm.name());
            format!("note: {name} checks requests with {algorithm} and the keys at /_gateway/jwks.json")
        }));
        let binding = upstream.binding.as_ref();
        lines.extend(binding.map(|binding| {
            format!("note: {} is reached through the binding {binding}; see wrangler.toml", upstream.name)
        }));
        let claims = &upstream.assertion.claims;
        let names = claims.join(", ");
        lines
            .extend((!claims.is_empty()).then(|| format!("note: {} gets claims of the token: {names}", upstream.name)));
    }
    for refusal in &policy.refusals {
        let name = Some(&refusal.name);
        let is_default = policy.default_refusals.as_ref() == name;
        let routes =
            policy.routes.iter().filter(|route| route.refusals.as_ref().or(policy.default_refusals.as_ref()) == name);
        let routes = count(routes.count(), "route");
        let others = if is_default { " and of no route" } else { "" };
        lines.push(format!("note: refusals of {routes}{others} are by the template {}", refusal.name));
    }
    let url = policy.public_url.as_deref().unwrap_or_default();
    for (index, resource) in policy.resources.iter().enumerate() {
        let routes = policy.routes.iter().filter(|route| policy.resource_of(route) == Some(index)).count();
        let (place, servers) = (resource.metadata_url(url), resource.authorization_servers.iter().flatten());
        let servers = servers.map(String::as_str).collect::<Vec<_>>().join(", ");
        let routes = count(routes, "route");
        lines.push(format!("note: {place} leads clients of {} ({routes}) to {servers}", resource.url(url)));
    }
    if !policy.resources.is_empty() {
        let below = [METADATA_PATH, "/{*rest}"].concat();
        let routes = policy.routes.iter().map(|route| route.path.as_str());
        let losing: BTreeSet<_> = routes.filter(|path| meets(path, METADATA_PATH) || meets(path, &below)).collect();
        lines.extend(losing.into_iter().map(|path| {
            format!("note: {path} gets no requests for {METADATA_PATH} or below, which the gateway answers itself")
        }));
    }
    if policy.issuers.len() > 1 {
        let takes_all = |route: &&Route| route.issuers.is_none() && route.access == Access::User;
        lines.extend(policy.routes.iter().filter(takes_all).map(|route| {
            format!("note: {} takes tokens of every issuer; issuers = [\"…\"] names those that may enter", route.path)
        }));
    }
    lines.join("\n")
}

fn row(policy: &Policy, route: &Route) -> [String; 5] {
    let mut who = access::describe(&route.access);
    if let Some(issuers) = &route.issuers {
        who = format!("{who} (of {})", issuers.join(" or "));
    }
    let upstream = policy.upstreams.iter().find(|upstream| upstream.name == route.upstream);
    let mut limits = vec![
        upstream.map_or_else(String::new, |upstream| format!("{} ms", upstream.timeout_ms)),
        bytes(route.max_body_bytes),
    ];
    limits.extend(route.authorizer.iter().map(|name| format!("authorizer {name}")));
    limits.extend(route.limits.iter().map(|name| format!("rate {name}")));
    let is_under_maintenance = upstream.is_some_and(|upstream| upstream.maintenance.is_some());
    for (applies, note) in [
        (route.revocation == RevocationCheck::Strict, "strict revocation"),
        (policy.proofs_of(route) == (Some(Proof::Required), Some(Proof::Required)), "bound tokens only"),
        (route.token_cookie, "token in a cookie"),
        (route.validate, "validated"),
        (route.encoded_path == EncodedPath::Forward, "encoded paths"),
        (is_under_maintenance, "under maintenance"),
    ] {
        limits.extend(applies.then(|| note.to_owned()));
    }
    let target = match route.rewrite() {
        Some((from, to)) => format!("{} ({from} → {})", route.upstream, if to.is_empty() { "/" } else { to }),
        None => route.upstream.clone(),
    };
    [route.methods.join(","), route.path.clone(), who, target, limits.join(", ")]
}

fn align(rows: &[[String; 5]]) -> Vec<String> {
    let width = |column: usize| rows.iter().filter_map(|row| Some(row.get(column)?.chars().count())).max();
    let widths: [usize; 5] = std::array::from_fn(|column| width(column).unwrap_or_default());
    let line = |row: &[String; 5]| {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn precedence(policy: &Policy, overlaps: &Overlaps<'_>) -> Vec<String> {
    let patterns: BTreeSet<&str> = policy.routes.iter().map(|route| route.path.as_str()).collect();
    let mut lines = Vec::from_iter(patterns.into_iter().filter_map(|winner| {
        let others = Vec::from_iter(overlaps.outranked_by(winner));
        (!others.is_empty()).then(|| format!("  {winner} wins over {}", others.join(", ")))
    }));
    if !lines.is_empty() {
        lines.insert(0, "\nPaths that overlap (the more specific one wins, whatever the method):".to_owned());
    }
    lines.extend(policy.routes.iter().filter_map(|route| match route.variants.as_ref()? {
        Variants::Refuse => Some(format!("note: {}: variants in case, trailing slash or escapes are 400", route.path)),
        Variants::Allow { allow } => Some(format!("note: {}: its variants are allowed: {allow}", route.path)),
    }));
    lines
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn bytes(count: u64) -> String {
    const MIB: u64 = 1024 * 1024;
    if count > 0 && count.is_multiple_of(MIB) { format!("{} MiB", count / MIB) } else { format!("{count} B") }
}
