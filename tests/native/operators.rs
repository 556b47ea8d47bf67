//! Operators: what `METRICS_TOKEN` and `OPERATORS_TOKEN` open, and the host of the operators' page.

use portcullis::pipeline::Gateway;

use crate::fakes::{FakePorts, SHIPPED, Vectors, answer, configured, header, setting, verdict};

const READER: &str = "a-token-for-the-scraper";
const OPERATOR: &str = "a-token-for-operators";
const ME: &str = "/api/v1/auth/me";
const PAGE: &str = "/_gateway/";
const OPERATIONS: [(&str, &str); 3] =
    [("GET", "/_gateway/refusals"), ("GET", "/_gateway/policy"), ("POST", "/_gateway/rollback")];

type Settings = [(&'static str, &'static str)];

/// A gateway of a developer's machine with these settings, too.
fn developers(settings: &Settings) -> Result<Gateway, String> {
    let known = |name: &str| value_in(settings, name).or_else(|| setting(name));
    configured(SHIPPED, known).map_err(|fault| fault.0)
}

/// A deployed gateway with these settings.
fn deployed(settings: &Settings) -> Gateway {
    let known = |name: &str| match name {
        "DEVELOPMENT" => None,
        "UPSTREAM_AUTH_URL" | "UPSTREAM_USERS_URL" => Some("https://up.example".to_owned()),
        _ => value_in(settings, name).or_else(|| setting(name)),
    };
    configured(SHIPPED, known).unwrap()
}

fn value_in(settings: &Settings, name: &str) -> Option<String> {
    settings.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[test]
fn the_page_and_its_operations_need_the_token_of_operators() {
    let ports = FakePorts::new();
    for settings in [&[][..], &[("METRICS_TOKEN", READER)]] {
        let gateway = developers(settings).unwrap();
        assert!(!gateway.has_page());
        for (method, path) in OPERATIONS.into_iter().chain([("GET", PAGE)]) {
            for token in [READER, OPERATOR] {
                let seen = ports.send_token(&gateway, method, path, token);
                assert_eq!(verdict(&seen), (404, "route_unknown"), "{settings:?} {path}");
            }
        }
    }
    for settings in [&[("OPERATORS_TOKEN", OPERATOR)][..], &[("OPERATORS_TOKEN", OPERATOR), ("METRICS_TOKEN", READER)]]
    {
        let gateway = developers(settings).unwrap();
        assert!(gateway.has_page());
        for (method, path) in OPERATIONS {
            assert_eq!(verdict(&ports.send(&gateway, method, path, &[])), (401, "credentials_missing"), "{path}");
            for guess in [READER, "another"] {
                let seen = ports.send_token(&gateway, method, path, guess);
                assert_eq!(verdict(&seen), (401, "metrics_token_wrong"), "{path}");
            }
            let seen = ports.send_token(&gateway, method, path, OPERATOR);
            assert_eq!((verdict(&seen), answer(&seen).body.as_str()), ((200, "ok"), path), "the host answers");
            assert_eq!(header(answer(&seen), "cache-control"), Some("no-store"));
            let other = if method == "GET" { "POST" } else { "GET" };
            let seen = ports.send_token(&gateway, other, path, OPERATOR);
            assert_eq!(verdict(&seen), (404, "route_unknown"), "{other} {path}");
        }
        for headers in [&[][..], &[("authorization", "Bearer another")]] {
            let seen = ports.send(&gateway, "GET", PAGE, headers);
            assert_eq!(verdict(&seen), (200, "ok"), "it has no data");
            let page = answer(&seen);
            for (name, value) in [
                ("content-security-policy", "default-src 'none'"),
                ("cross-origin-opener-policy", "same-origin"),
                ("cache-control", "no-store"),
            ] {
                assert_eq!(header(page, name), Some(value));
            }
        }
        assert_eq!(verdict(&ports.send_token(&gateway, "POST", PAGE, OPERATOR)), (404, "route_unknown"));
    }
}

#[test]
fn metrics_and_details_are_for_both_tokens() {
    let both = [("OPERATORS_TOKEN", OPERATOR), ("METRICS_TOKEN", READER)];
    for (settings, accepted, refused) in [
        (&both[..], &[READER, OPERATOR][..], &["another"][..]),
        (&both[..1], &[OPERATOR], &[READER]),
        (&both[1..], &[READER], &[OPERATOR]),
    ] {
        let (gateway, ports) = (developers(settings).unwrap(), FakePorts::new());
        for path in ["/metrics", "/status", "/ready"] {
            for token in accepted {
                let seen = ports.send_token(&gateway, "GET", path, token);
                assert_eq!(verdict(&seen), (200, "ok"), "{path}");
                assert!(!answer(&seen).body.contains("hint"), "{path}");
            }
            for token in refused {
                let seen = ports.send_token(&gateway, "GET", path, token);
                assert_eq!(verdict(&seen), (401, "metrics_token_wrong"), "{path}");
            }
        }
    }
}

#[test]
fn a_token_of_operators_is_long_and_can_be_sent() {
    for name in ["METRICS_TOKEN", "OPERATORS_TOKEN"] {
        let short = developers(&[(name, "short")]).unwrap_err();
        assert!(short.starts_with(&format!("{name} is shorter than 16")), "{short}");
        let unsendable = developers(&[(name, "a token for operators")]).unwrap_err();
        assert!(unsendable.contains("others than letters"), "{unsendable}");
    }
}

#[test]
fn the_page_has_a_host_of_its_own_at_which_no_route_is_served() {
    let good = Vectors::load().token("a good token");
    let page = ("OPERATORS_TOKEN", OPERATOR);
    let own = [page, ("OPERATORS_HOST", "operators.example")];
    let ports = FakePorts::new();
    for gateway in [deployed(&own), developers(&own).unwrap()] {
        let statuses = |origin: &str| {
            let send = |path, token: &str| {
                verdict(&ports.send_to(origin, &gateway, "GET", path, &[("authorization", &bearer(token))])).0
            };
            [send(PAGE, OPERATOR), send("/_gateway/policy", OPERATOR), send(ME, good)]
        };
        for origin in ["https://operators.example", "https://operators.example:8443", "https://Operators.Example"] {
            assert_eq!(statuses(origin), [200, 200, 404], "{origin}");
        }
        for origin in [
            "https://edge.example",
            "https://a.operators.example",
            "https://operators.example.",
            "https://operators.example.evil.example",
            "https://[::1]:443",
        ] {
            assert_eq!(statuses(origin), [404, 404, 200], "{origin}");
        }
        for (method, headers) in [
            ("DELETE", &[][..]),
            ("OPTIONS", &[("origin", "https://app.example"), ("access-control-request-method", "GET")]),
        ] {
            let seen = ports.send_to("https://operators.example", &gateway, method, ME, headers);
            assert_eq!(verdict(&seen), (404, "route_unknown"), "{method}");
        }
        let health = ports.send_to("https://operators.example", &gateway, "GET", "/health", &[]);
        assert_eq!(verdict(&health), (200, "ok"));
    }
    // What an upstream stores in browsers would stay until there is a page.
    let without = deployed(&own[1..]);
    let token = bearer(good);
    let seen = ports.send_to("https://operators.example", &without, "GET", ME, &[("authorization", &token)]);
    assert_eq!(verdict(&seen), (404, "route_unknown"));
}

#[test]
fn a_deployment_without_the_host_has_no_page_and_is_not_ready() {
    let ports = FakePorts::new();
    for host in [None, Some(""), Some("https://operators.example"), Some("operators.example:443"), Some("a/b")] {
        let settings: Vec<_> =
            [("OPERATORS_TOKEN", OPERATOR)].into_iter().chain(host.map(|host| ("OPERATORS_HOST", host))).collect();
        let gateway = deployed(&settings);
        assert!(!gateway.has_page());
        for path in [PAGE, "/_gateway/policy"] {
            for origin in ["https://edge.example", "https://operators.example", "https://operators.example:443"] {
                let seen = ports.send_to(origin, &gateway, "GET", path, &[("authorization", &bearer(OPERATOR))]);
                assert_eq!(verdict(&seen), (404, "route_unknown"), "{host:?} {origin}{path}");
            }
        }
        let seen = ports.send_token(&gateway, "GET", "/ready", OPERATOR);
        assert_eq!(seen.record.status, 503);
        let body = &answer(&seen).body;
        assert!(body.contains("OPERATORS_TOKEN is set without OPERATORS_HOST"), "{body}");
    }
}
