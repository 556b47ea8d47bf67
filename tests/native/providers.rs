//! `docs/providers.md`: each snippet accepts the access tokens of its provider, with the documents that the
//! provider serves, and refuses its other tokens.

use std::collections::HashMap;

use portcullis::pipeline::Gateway;
use serde::Deserialize;

use crate::fakes::{FakePorts, Issuer, Seen, configured, setting, verdict};

const PAGE: &str = include_str!("../../docs/providers.md");

#[derive(Deserialize)]
struct Providers {
    providers: Vec<Provider>,
}

#[derive(Deserialize)]
struct Provider {
    name: String,
    /// That holds its tokens, instead of `Authorization`.
    header: Option<String>,
    documents: HashMap<String, String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    token: String,
    expected: String,
    user_id: Option<String>,
    email: Option<String>,
    roles: Option<String>,
}

impl Provider {
    /// Requests a route with a token in the place where this provider's tokens arrive.
    fn send(&self, ports: &FakePorts, gateway: &Gateway, route: &str, token: &str) -> Seen {
        let path = format!("/{route}");
        match &self.header {
            Some(header) => ports.send(gateway, "GET", &path, &[(header, token)]),
            None => ports.send_token(gateway, "GET", &path, token),
        }
    }
}

fn providers() -> Vec<Provider> {
    serde_json::from_str::<Providers>(include_str!("../vectors/providers.json")).unwrap().providers
}

/// The page's snippets, and for each a route for its tokens only.
fn policy() -> String {
    let snippets: String = PAGE.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let names = snippets.lines().filter_map(|line| line.strip_prefix("[issuers.")?.strip_suffix(']'));
    let routes: String = names
        .map(|name| {
            format!(
                "[[routes]]\npath = \"/{name}\"\nmethods = [\"GET\"]\nupstream = \"app\"\naccess = \"user\"\nissuers = [\"{name}\"]\n"
            )
        })
        .collect();
    format!("{snippets}\n[upstreams.app]\nurl = \"https://app.example\"\n{routes}")
}

fn gateway() -> Gateway {
    configured(&policy(), |name| setting(name).filter(|_| name != "DEVELOPMENT")).unwrap()
}

fn ports(providers: &[Provider]) -> FakePorts {
    let ports = FakePorts::new();
    let documents = providers.iter().flat_map(|provider| &provider.documents);
    // Firebase and Google share a host, and no URL.
    let places = documents.map(|(url, body)| (&*url.clone().leak(), body.clone())).collect();
    *ports.issuer.borrow_mut() = Issuer::ServesAt(places);
    ports
}

#[test]
fn each_snippet_accepts_the_access_tokens_of_its_provider_only() {
    let providers = providers();
    let (gateway, ports) = (gateway(), ports(&providers));
    for provider in &providers {
        assert!(
            PAGE.contains(&format!("a token of {} is accepted with its", provider.name)),
            "{}: no test named",
            provider.name
        );
        for case in &provider.cases {
            ports.forwarded.borrow_mut().clear();
            let handled = provider.send(&ports, &gateway, &provider.name, &case.token);
            let what = format!("{}: {}", provider.name, case.name);
            let status = if case.expected == "ok" { 200 } else { 401 };
            assert_eq!(verdict(&handled), (status, case.expected.as_str()), "{what}");
            let sent = ports.forwarded.borrow();
            assert_eq!(sent.len(), usize::from(status == 200), "{what}");
            let Some(sent) = sent.first() else { continue };
            let header =
                |name: &str| sent.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
            assert_eq!(header("x-user-id"), case.user_id.as_deref(), "{what}");
            assert_eq!(header("x-user-email"), case.email.as_deref(), "{what}");
            assert_eq!(header("x-user-roles"), case.roles.as_deref(), "{what}");
        }
    }
    assert!(providers.len() >= 12);
}

#[test]
fn no_token_of_one_provider_opens_the_route_of_another() {
    let providers = providers();
    let (gateway, ports) = (gateway(), ports(&providers));
    for provider in &providers {
        let good = provider.cases.iter().find(|case| case.expected == "ok").unwrap();
        for other in providers.iter().filter(|other| other.name != provider.name) {
            let handled = provider.send(&ports, &gateway, &other.name, &good.token);
            let is_source = provider.header == other.header;
            let refused = if is_source { (403, "rights_missing") } else { (401, "credentials_missing") };
            assert_eq!(verdict(&handled), refused, "{} at {}", provider.name, other.name);
        }
    }
    assert!(ports.forwarded.borrow().is_empty());
}

#[test]
fn a_provider_preset_equals_its_options_written_out() {
    let long = r#"
[issuers.cognito]
issuer = "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_A1b2C3d4E"
audience = ["3example23456789abcdefghij"]
audience_claim = "client_id"
algorithms = ["RS256"]
discovery = true
claims = { roles = "cognito:groups" }
require = [{ claim = "token_use", equals = "access" }]
max_lifetime_s = 3600
[upstreams.app]
url = "https://app.example"
[[routes]]
path = "/x"
methods = ["GET"]
upstream = "app"
access = "user"
"#;
    let from_page = portcullis_policy::check(&policy()).unwrap();
    let written = portcullis_policy::check(long).unwrap();
    assert_eq!(from_page.issuers.iter().find(|issuer| issuer.name == "cognito"), written.issuers.first());
}

#[test]
fn the_snippets_of_the_readme_are_valid() {
    let readme = include_str!("../../README.md");
    let snippets: String = readme
        .split("```toml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .filter(|snippet| snippet.starts_with("[issuers."))
        .collect();
    let policy = portcullis_policy::check(&format!("{snippets}\n[upstreams.auth]\nurl = \"https://auth.example\"\n"))
        .unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    assert_eq!((policy.issuers.len(), policy.routes.len()), (1, 1));
}
