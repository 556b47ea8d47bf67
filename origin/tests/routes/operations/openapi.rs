//! `GET /openapi.json` and `GET /docs`.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::Value;

use crate::support::{App, Service};

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// The operations of the contract, and their callers.
const AUTH: &[(&str, &str, &[&str])] = &[
    ("/.well-known/jwks.json", "anybody", &["get"]),
    ("/.well-known/oauth-authorization-server", "anybody", &["get"]),
    ("/api/v1/auth/api-keys", "user", &["get", "post"]),
    ("/api/v1/auth/api-keys/{id}", "user", &["get", "delete"]),
    ("/api/v1/auth/audit", "user", &["get"]),
    ("/api/v1/auth/introspect", "service by its secret", &["post"]),
    ("/api/v1/auth/keys/rotate", "user", &["post"]),
    ("/api/v1/auth/login", "anybody", &["post"]),
    ("/api/v1/auth/logout", "user", &["post"]),
    ("/api/v1/auth/me", "user", &["get"]),
    ("/api/v1/auth/password", "user", &["post"]),
    ("/api/v1/auth/permissions", "user", &["get", "post"]),
    ("/api/v1/auth/permissions/check", "user", &["post"]),
    ("/api/v1/auth/permissions/{permission_id}", "user", &["get", "put", "delete"]),
    ("/api/v1/auth/public-key", "anybody", &["get"]),
    ("/api/v1/auth/refresh", "anybody", &["post"]),
    ("/api/v1/auth/register", "anybody", &["post"]),
    ("/api/v1/auth/revoke", "anybody", &["post"]),
    ("/api/v1/auth/roles", "user", &["get", "post"]),
    ("/api/v1/auth/roles/{role_id}", "user", &["get", "put", "delete"]),
    ("/api/v1/auth/roles/{role_id}/permissions", "user", &["get", "post"]),
    ("/api/v1/auth/roles/{role_id}/permissions/{permission_id}", "user", &["delete"]),
    ("/api/v1/auth/sessions", "user", &["get"]),
    ("/api/v1/auth/sessions/{id}", "user", &["delete"]),
    ("/api/v1/auth/token", "service by its secret", &["post"]),
    ("/api/v1/auth/users/{id}/permissions", "user", &["get"]),
    ("/api/v1/auth/users/{id}/roles", "user", &["get", "post", "put"]),
    ("/api/v1/auth/users/{id}/roles/{role_id}", "user", &["delete"]),
    ("/api/v1/auth/validate-token", "user", &["get", "post"]),
    ("/api/v1/internal/accounts", "service", &["post"]),
    ("/api/v1/internal/accounts/{id}", "service", &["patch", "delete"]),
    ("/api/v1/internal/accounts/{id}/revoke", "service", &["post"]),
    ("/health", "anybody", &["get"]),
    ("/metrics", "operator", &["get"]),
    ("/ready", "anybody", &["get"]),
];

const USERS: &[(&str, &str, &[&str])] = &[
    ("/api/v1/internal/users", "service", &["get", "post"]),
    ("/api/v1/internal/users/{id}", "service", &["get", "patch", "delete"]),
    ("/api/v1/users", "user", &["get", "post"]),
    ("/api/v1/users/{id}", "user", &["get", "put", "patch", "delete"]),
    ("/health", "anybody", &["get"]),
    ("/metrics", "operator", &["get"]),
    ("/ready", "anybody", &["get"]),
];

async fn document(app: &App, service: Service) -> Value {
    let reply = app.send_raw(app.http.get(app.url(service, "/openapi.json"))).await;
    assert_eq!((reply.status, reply.headers["content-type"].to_str().unwrap()), (200, "application/json"));
    reply.json()
}

/// Returns path, method and operation of everything in a document.
fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    document["paths"].as_object().unwrap().iter().flat_map(|(path, item)| {
        item.as_object().unwrap().iter().map(|(method, operation)| (path.as_str(), method.as_str(), operation))
    })
}

fn who_may_ask(operation: &Value) -> &'static str {
    let schemes = operation["security"].as_array().cloned().unwrap_or_default();
    let names: Vec<_> = schemes.iter().flat_map(|one| one.as_object().unwrap().keys().map(String::as_str)).collect();
    match names.as_slice() {
        [] => "anybody",
        ["accessToken"] => "user",
        ["serviceToken"] => "service",
        ["serviceCredentials"] => "service by its secret",
        ["metricsToken"] => "operator",
        names => panic!("{names:?}"),
    }
}

fn is_form(operation: &Value) -> bool {
    operation["requestBody"]["content"].get("application/x-www-form-urlencoded").is_some()
}

#[tokio::test]
async fn the_documents_describe_the_contract() {
    let app = App::start().await;
    for (service, expected) in [(Service::Auth, AUTH), (Service::Users, USERS)] {
        let document = document(&app, service).await;
        let described: BTreeSet<_> =
            operations(&document).map(|(path, method, operation)| (path, method, who_may_ask(operation))).collect();
        let expected: BTreeSet<_> = expected
            .iter()
            .flat_map(|(path, who, methods)| methods.iter().map(|method| (*path, *method, *who)))
            .collect();
        assert_eq!(described, expected);
    }
}

#[tokio::test]
async fn a_service_serves_the_described_methods_and_no_others() {
    let app = App::start_with("http://127.0.0.1:9", |mut settings| {
        settings.token_issuer = "https://api.example.com".to_owned();
        settings.public_url = Some(settings.token_issuer.clone());
        settings
    })
    .await;
    let id = uuid::Uuid::nil().to_string();
    for service in [Service::Auth, Service::Users] {
        let document = document(&app, service).await;
        for (template, item) in document["paths"].as_object().unwrap() {
            let segments = template.split('/').map(|part| if part.starts_with('{') { id.as_str() } else { part });
            let target = segments.collect::<Vec<_>>().join("/");
            for name in METHODS {
                let method = Method::from_bytes(name.to_uppercase().as_bytes()).unwrap();
                // Without credentials: a caller without them learns of an unknown method only on
                // routes that need none.
                let reply = app.send(service, method, &target, None, None).await;
                let Some(operation) = item.get(name) else {
                    assert!(matches!(reply.status, 401 | 405), "{name} {template}: {}", reply.status);
                    continue;
                };
                let expected = match who_may_ask(operation) {
                    "user" | "service" | "service by its secret" => vec![401],
                    // Without a body.
                    _ if is_form(operation) => vec![400],
                    _ if name == "post" => vec![415],
                    _ => vec![200],
                };
                assert!(expected.contains(&reply.status), "{name} {template}: {}", reply.status);
                assert!(operation["responses"].get(reply.status.to_string()).is_some(), "{name} {template}");
            }
        }
    }
}

/// Returns every `$ref` of a document.
fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member.as_str() {
                    Some(text) if name == "$ref" => found.push(text),
                    _ => references(member, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test]
async fn every_reference_in_a_document_resolves() {
    let app = App::start().await;
    for service in [Service::Auth, Service::Users] {
        let document = document(&app, service).await;
        assert_eq!(document["openapi"], "3.1.0");
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
        let tags: Vec<_> = document["tags"].as_array().unwrap().iter().map(|tag| &tag["name"]).collect();
        let mut ids = BTreeSet::new();
        for (path, method, operation) in operations(&document) {
            let name = format!("{method} {path}");
            assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{name}: its id is another's, too");
            assert!(tags.contains(&&operation["tags"][0]), "{name}: an unknown tag");
            assert!(operation["summary"].as_str().is_some_and(|text| text.ends_with('.')), "{name}: no summary");
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.keys().any(|status| status.starts_with('2')), "{name}: no success");
            assert!(responses.contains_key("503"), "{name}: no trouble");
            let has_parameters = path.matches('{').count();
            let described = operation["parameters"]
                .as_array()
                .map_or(0, |all| all.iter().filter(|one| one["in"] == "path" && one["required"] == true).count());
            assert_eq!(described, has_parameters, "{name}: parameters of the path");
            if operation.get("requestBody").is_some() {
                // An OAuth form of another type is 400 (RFC 6749, section 5.2).
                let statuses: &[&str] = if is_form(operation) { &["400", "413"] } else { &["400", "413", "415"] };
                for status in statuses {
                    assert!(responses.contains_key(*status), "{name}: no {status}");
                }
            }
        }
        for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
            assert!(schema["description"].is_string(), "{name}: no description");
        }
    }
}

#[tokio::test]
async fn the_page_loads_nothing_from_other_hosts() {
    let app = App::start().await;
    for service in [Service::Auth, Service::Users] {
        let get = |target: &'static str| app.send_raw(app.http.get(app.url(service, target)));
        let page = get("/docs").await;
        assert_eq!((page.status, page.headers["content-type"].to_str().unwrap()), (200, "text/html"));
        assert!(page.headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
        let tags = page.text.split('<').filter(|tag| tag.starts_with("script") || tag.starts_with("link"));
        let links: Vec<_> = tags
            .filter_map(|tag| tag.split_once("src=\"").or_else(|| tag.split_once("href=\"")))
            .filter_map(|(_, rest)| rest.split('"').next())
            .map(|link| link.trim_start_matches("./"))
            .collect();
        assert!(!page.text.contains("//") && !links.is_empty());
        for (file, content_type) in [
            ("/docs/swagger-ui.css", "text/css"),
            ("/docs/index.css", "text/css"),
            ("/docs/swagger-ui-bundle.js", "text/javascript"),
            ("/docs/swagger-ui-standalone-preset.js", "text/javascript"),
            ("/docs/swagger-initializer.js", "text/javascript"),
            ("/docs/favicon-32x32.png", "image/png"),
        ] {
            assert!(links.contains(&file.trim_start_matches("/docs/")), "{file} is not used");
            let reply = get(file).await;
            assert_eq!((reply.status, reply.headers["content-type"].to_str().unwrap()), (200, content_type), "{file}");
        }
        assert!(get("/docs/swagger-initializer.js").await.text.contains("\"../openapi.json\""));
        assert_eq!(get("/docs/nothing.js").await.status, 404);
        assert_eq!(get("/docs/..%2F..%2FCargo.toml").await.status, 404);
    }
}

#[tokio::test]
async fn each_error_has_its_own_example() {
    let app = App::start().await;
    for service in [Service::Auth, Service::Users] {
        let document = app.send_raw(app.http.get(app.url(service, "/openapi.json"))).await.json();
        let mut codes = BTreeSet::new();
        for (name, response) in document["components"]["responses"].as_object().unwrap() {
            let example = &response["content"]["application/problem+json"]["example"];
            let status = example["status"].as_u64().unwrap_or_else(|| panic!("{name} has no example"));
            assert!(codes.insert(example["code"].as_str().unwrap().to_owned()), "{name} has another's example");
            let of_status = document["paths"]
                .as_object()
                .unwrap()
                .values()
                .flat_map(|item| item.as_object().unwrap().values())
                .flat_map(|operation| operation["responses"].as_object().into_iter().flatten())
                .filter(|(_, given)| given["$ref"] == format!("#/components/responses/{name}"));
            for (given, _) in of_status {
                assert_eq!(*given, status.to_string(), "{name}");
            }
        }
        assert!(codes.len() > 10, "{codes:?}");
    }
}
