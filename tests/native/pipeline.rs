//! The pipeline: routes, access, faults, settings and what upstreams receive.

use portcullis::pipeline::wire::Fault;
use serde_json::Value;

use crate::fakes::{
    FakePorts, Issuer, SECRET, SHIPPED, Seen, answer, configured, gateway_of, header, setting, shipped_setup, verdict,
};

const USER: &str = "0190b5a2-8c4e-7d3a-9f10-1c2b3a4d5e6f";
const OTHER: &str = "0190b5a2-8c4e-7d3a-9f10-000000000009";

#[test]
fn each_request_gets_the_status_of_its_rule() {
    let (vectors, gateway, ports) = shipped_setup();
    let good = vectors.token("a good token").to_owned();
    let own = format!("/api/v1/users/{USER}");
    let foreign = format!("/api/v1/users/{OTHER}");
    for (method, target, with_token, expected) in [
        ("GET", "/api/v1/auth/me", true, (200, "ok")),
        ("HEAD", "/api/v1/auth/me", true, (200, "ok")),
        ("GET", "/api/v1/auth/me", false, (401, "credentials_missing")),
        ("GET", own.as_str(), true, (200, "ok")),
        ("DELETE", own.as_str(), true, (200, "ok")),
        ("GET", foreign.as_str(), true, (403, "rights_missing")),
        ("GET", foreign.as_str(), false, (401, "credentials_missing")),
        ("GET", "/api/v1/users", true, (403, "rights_missing")),
        ("POST", "/api/v1/auth/login", false, (200, "ok")),
        ("GET", "/.well-known/jwks.json", false, (200, "ok")),
        ("GET", "/nowhere", true, (404, "route_unknown")),
        ("GET", "/", false, (404, "route_unknown")),
        ("GET", "/api/v1/auth/token", true, (404, "route_unknown")),
        ("GET", "/api/v1/internal/users", true, (404, "route_unknown")),
        ("GET", "/api/v1/users/", true, (404, "route_unknown")),
        ("GET", "/API/v1/auth/me", true, (404, "route_unknown")),
        ("GET", "/api/v1/auth/login", false, (405, "method_not_allowed")),
        ("get", "/api/v1/auth/me", true, (405, "method_not_allowed")),
        ("PURGE", "/api/v1/auth/me", true, (405, "method_not_allowed")),
        ("OPTIONS", "/api/v1/auth/me", false, (405, "method_not_allowed")),
        ("GET", "//api/v1/auth/me", true, (400, "path_ambiguous")),
        ("GET", "/api/v1/x/../auth/me", true, (400, "path_ambiguous")),
        ("GET", "/health", false, (200, "ok")),
        ("POST", "/health", false, (405, "method_not_allowed")),
        ("GET", "/ready", false, (200, "ok")),
        ("GET", "/status", false, (200, "ok")),
    ] {
        let bearer = format!("Bearer {good}");
        let headers: &[(&str, &str)] = if with_token { &[("authorization", &bearer)] } else { &[] };
        assert_eq!(verdict(&ports.send(&gateway, method, target, headers)), expected, "{method} {target}");
    }
}

#[test]
fn a_route_never_takes_over_the_gateways_own_paths() {
    let ports = FakePorts::new();
    let open = format!(
        "{SHIPPED}\n[upstreams.web]\nurl = \"https://web.example\"\n\n[[routes]]\npath = \"/{{*rest}}\"\nmethods = [\"GET\", \"POST\"]\nupstream = \"web\"\naccess = \"public\"\n"
    );
    let gateway = gateway_of(&open);
    for (method, target, expected) in [
        ("GET", "/anything/else", (200, "ok")),
        ("GET", "/healthy", (200, "ok")),
        ("GET", "/metrics", (404, "route_unknown")),
        ("GET", "/%6detrics", (404, "route_unknown")),
        ("GET", "/metrics/", (404, "route_unknown")),
        ("POST", "/_gateway/revocations", (401, "credentials_missing")),
        ("POST", "/_gateway/other", (404, "route_unknown")),
        ("GET", "/_gateway", (404, "route_unknown")),
        ("GET", "/status/x", (404, "route_unknown")),
        ("GET", "/_gateway/a%2Fb", (400, "path_ambiguous")),
        ("POST", "/ready", (405, "method_not_allowed")),
    ] {
        assert_eq!(verdict(&ports.send(&gateway, method, target, &[])), expected, "{method} {target}");
    }
    assert_eq!(ports.forwarded.borrow().len(), 2);
}

#[test]
fn a_misconfigured_gateway_is_alive_and_refuses_all_other_requests() {
    let ports = FakePorts::new();
    for (target, status, code) in [
        ("/health", 200, None),
        ("/", 503, Some("gateway_misconfigured")),
        ("/ready", 503, Some("gateway_misconfigured")),
    ] {
        let head = portcullis::pipeline::Head::new("GET".into(), &format!("https://edge.example{target}"), vec![]);
        let fault = "METRICS_TOKEN is too short".to_owned();
        let denial = portcullis::pipeline::Denial::Misconfigured { fault };
        let handled: Seen = portcullis::pipeline::handle_refused(&head, denial, &ports).into();
        assert_eq!((handled.record.status, handled.record.code), (status, code), "{target}");
        let answer = answer(&handled);
        assert_eq!(header(answer, "x-request-id"), Some(handled.record.request_id.as_str()));
        assert_eq!(header(answer, "retry-after").is_some(), status == 503);
        assert_eq!(
            handled.record.detail.as_deref(),
            code.map(|_| "METRICS_TOKEN is too short"),
            "the log has the reason"
        );
        assert!(!answer.body.contains("METRICS_TOKEN"), "the answer does not have it");
    }
}

#[test]
fn a_log_record_has_the_fields_of_the_contract_only() {
    let (vectors, gateway, ports) = shipped_setup();
    let bearer = format!("Bearer {}", vectors.token("a good token"));
    let sent = [("authorization", bearer.as_str()), ("user-agent", "curl/8.1"), ("cf-connecting-ip", "192.0.2.7")];
    let fields = |line: &portcullis::pipeline::LogRecord| -> Vec<String> {
        let value: Value = serde_json::from_str(&line.to_json()).unwrap();
        value.as_object().unwrap().keys().cloned().collect()
    };
    let common =
        ["duration_ms", "ip", "level", "method", "path", "request_id", "route", "service", "span_id", "status"];
    let mut expected: Vec<&str> = common.to_vec();
    expected.extend(["cache", "timestamp", "trace_id", "upstream", "upstream_ms", "user_agent", "user_id"]);
    expected.sort_unstable();
    let handled = ports.send(&gateway, "GET", "/api/v1/auth/me", &sent);
    assert_eq!(fields(&handled.record), expected);
    assert_eq!(handled.record.cache, Some("issuer"));
    let other = ports.send_token(&gateway, "GET", "/api/v1/auth/me", vectors.token("aud as a string"));
    assert_eq!(other.record.cache, Some("memory"));
    assert_eq!(ports.send(&gateway, "GET", "/api/v1/auth/me", &sent).record.cache, Some("token"));
    let denied = ports.send(&gateway, "GET", "/api/v1/users", &sent);
    assert_eq!((denied.record.code, denied.record.level), (Some("rights_missing"), "warn"));
    let wrong = ports.send(&gateway, "GET", "/api/v1/auth/login", &[]);
    assert_eq!(wrong.record.route.as_deref(), Some("/api/v1/auth/login"), "a 405 names its route");
}

#[test]
fn a_denial_has_the_headers_of_its_status() {
    let (vectors, gateway, ports) = shipped_setup();
    let missing = ports.send(&gateway, "GET", "/api/v1/auth/me", &[]);
    assert_eq!(header(answer(&missing), "www-authenticate"), Some(r#"Bearer realm="portcullis""#));
    let expired = ports.send_token(&gateway, "GET", "/api/v1/auth/me", vectors.token("expired long ago"));
    assert!(header(answer(&expired), "www-authenticate").unwrap().contains(r#"error="invalid_token""#));
    let body: Value = serde_json::from_str(&answer(&expired).body).unwrap();
    assert_eq!(body["type"], "authentication_error");
    assert_eq!(body["error"], "Token has expired");
    assert_eq!(body["code"], "token_expired");
    assert_eq!(body["operation"], "/api/v1/auth/me");
    assert_eq!(body["request_id"], expired.record.request_id.as_str());
    assert_eq!(header(answer(&expired), "content-type"), Some("application/problem+json"));
    let forbidden = ports.send_token(&gateway, "GET", "/api/v1/users", vectors.token("a good token"));
    assert!(header(answer(&forbidden), "www-authenticate").unwrap().contains("insufficient_scope"));
    let method = ports.send(&gateway, "DELETE", "/api/v1/auth/login", &[]);
    assert_eq!(header(answer(&method), "allow"), Some("POST"));
}

#[test]
fn a_fault_of_an_upstream_is_a_5xx() {
    let (vectors, gateway, ports) = shipped_setup();
    let good = vectors.token("a good token");
    let own = format!("/api/v1/users/{USER}");
    for (fault, target, method, expected) in [
        (Fault::Unreachable, own.as_str(), "GET", (502, "upstream_unreachable")),
        (Fault::TimedOut, own.as_str(), "GET", (504, "upstream_timeout")),
        (Fault::BadStatus, own.as_str(), "GET", (502, "upstream_bad_answer")),
        (Fault::Unreachable, "/api/v1/auth/login", "POST", (503, "authentication_unavailable")),
    ] {
        ports.upstream.set(Err(fault));
        let handled = ports.send_token(&gateway, method, target, good);
        assert_eq!(verdict(&handled), expected);
        assert!(header(answer(&handled), "retry-after").is_some(), "{expected:?}");
    }
    ports.upstream.set(Ok(200));
    assert_eq!(verdict(&ports.send_token(&gateway, "GET", &own, good)), (200, "ok"));
}

#[test]
fn unavailable_keys_are_503_and_not_401() {
    let (vectors, gateway, ports) = shipped_setup();
    *ports.issuer.borrow_mut() = Issuer::Fails(Fault::Unreachable);
    let handled = ports.send_token(&gateway, "GET", "/api/v1/auth/me", vectors.token("a good token"));
    assert_eq!(verdict(&handled), (503, "keys_unavailable"));
    assert!(header(answer(&handled), "retry-after").is_some());
    let ready = ports.send(&gateway, "GET", "/ready", &[]);
    assert_eq!(ready.record.status, 503);
    assert_eq!(ports.send(&gateway, "GET", "/status", &[]).record.status, 503);
    *ports.issuer.borrow_mut() = Issuer::Serves(vectors.jwks.to_string());
    ports.advance(1000);
    let handled = ports.send_token(&gateway, "GET", "/api/v1/auth/me", vectors.token("a good token"));
    assert_eq!(verdict(&handled), (200, "ok"));
}

#[test]
fn a_signature_backend_that_fails_is_503() {
    let (vectors, gateway, ports) = shipped_setup();
    ports.backend_fails.set(true);
    let handled = ports.send_token(&gateway, "GET", "/api/v1/auth/me", vectors.token("a good token"));
    assert_eq!(verdict(&handled), (503, "signature_backend_unavailable"));
}

#[test]
fn an_upstream_without_its_secret_gets_no_request() {
    let ports = FakePorts::new();
    for (secret, works) in [
        (None, false),
        (Some("k1:short"), false),
        (Some("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"), false),
        (Some(""), false),
        (Some(SECRET), true),
        (Some("k2:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8,k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"), true),
        (Some("k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8,k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"), false),
    ] {
        let gateway = configured(SHIPPED, |name| match name {
            name if name.starts_with("ASSERTION_") => secret.map(str::to_owned),
            name => setting(name),
        })
        .unwrap();
        let handled = ports.send(&gateway, "POST", "/api/v1/auth/login", &[]);
        let expected = if works { (200, "ok") } else { (503, "gateway_misconfigured") };
        assert_eq!(verdict(&handled), expected, "{secret:?}");
        let detail = handled.record.detail.as_deref();
        assert_eq!(detail.is_some_and(|detail| detail.starts_with("secret ASSERTION_KEYS_AUTH is not ")), !works);
        assert!(secret.is_none_or(|secret| secret.is_empty() || !handled.record.to_json().contains(secret)));
        let ready = ports.send(&gateway, "GET", "/ready", &[]);
        assert_eq!(ready.record.status == 200, works);
    }
}

#[test]
fn only_operators_see_details_of_readiness_and_status() {
    const TOKEN: &str = "a-token-for-operators";
    let gateway = |is_development: bool, token: Option<&'static str>| {
        configured(SHIPPED, move |name| match name {
            "DEVELOPMENT" => Some(is_development.to_string()),
            "METRICS_TOKEN" => token.map(str::to_owned),
            "UPSTREAM_AUTH_URL" | "UPSTREAM_USERS_URL" => Some("https://up.example".to_owned()),
            // Not ready, so that there are details to show.
            _ => None,
        })
        .unwrap()
    };
    let bearer = format!("Bearer {TOKEN}");
    let (good, wrong, basic) =
        (("authorization", bearer.as_str()), ("authorization", "Bearer x"), ("authorization", "Basic x"));
    let (own, own_v6, other) =
        (("cf-connecting-ip", "127.0.0.1"), ("cf-connecting-ip", "::1"), ("cf-connecting-ip", "192.0.2.1"));
    for (is_development, token, headers, expected) in [
        (false, None, vec![], Some(false)),
        (false, None, vec![own], Some(false)),
        (false, None, vec![good], Some(false)),
        (false, Some(TOKEN), vec![], Some(false)),
        (false, Some(TOKEN), vec![good], Some(true)),
        (false, Some(TOKEN), vec![wrong], None),
        (false, Some(TOKEN), vec![basic], None),
        (true, Some(TOKEN), vec![own, wrong], None),
        (true, None, vec![own], Some(true)),
        (true, None, vec![own_v6], Some(true)),
        (true, Some(TOKEN), vec![own], Some(true)),
        (true, None, vec![other], Some(false)),
        (true, None, vec![], Some(false)),
        (true, None, vec![("x-forwarded-for", "127.0.0.1")], Some(false)),
    ] {
        let (gateway, ports) = (gateway(is_development, token), FakePorts::new());
        for (path, detail) in [("/status", "upstreams"), ("/ready", "missing")] {
            let handled = ports.send(&gateway, "GET", path, &headers);
            let document: Value = serde_json::from_str(&answer(&handled).body).unwrap();
            let case = format!("{path} {is_development} {token:?} {headers:?}: {document}");
            match expected {
                None => assert_eq!(handled.record.status, 401, "{case}"),
                Some(sees_all) => {
                    assert_eq!(document.get(detail).is_some(), sees_all, "{case}");
                    let names_any = ["ASSERTION_KEYS", "users", "auth-service"]
                        .iter()
                        .any(|name| document.to_string().contains(name));
                    assert_eq!(names_any, sees_all, "{case}");
                    assert_eq!(handled.record.status, 503, "{case}");
                }
            }
        }
    }
}

#[test]
fn an_invalid_host_is_refused() {
    let (_, gateway, ports) = shipped_setup();
    for (host, is_one) in [
        ("edge.example", true),
        ("edge.example:8443", true),
        ("EDGE_1.example.", true),
        ("127.0.0.1", true),
        ("[::1]:80", true),
        ("[::1]", true),
        ("", false),
        (":80", false),
        ("a b", false),
        ("a\tb", false),
        ("a@b", false),
        ("a%20b", false),
        ("a<b>", false),
        ("a\\b", false),
        ("a,b", false),
        ("[::1", false),
        ("::1]", false),
        ("a:99999", false),
        ("a:b", false),
        ("\u{e9}.example", false),
    ] {
        let head = portcullis::pipeline::Head::new("GET".into(), &format!("https://{host}/health"), vec![]);
        let handled = futures_executor::block_on(gateway.handle(&head, &ports)).into();
        let expected = if is_one { (200, "ok") } else { (400, "host_invalid") };
        assert_eq!(verdict(&handled), expected, "{host:?}");
        let sent = ports.send(&gateway, "GET", "/health", &[("host", host)]);
        assert_eq!(verdict(&sent), expected, "{host:?} as the header alone");
    }
}

#[test]
fn a_variable_sets_the_url_of_an_upstream_and_is_validated() {
    for (url, expected) in [
        ("http://127.0.0.1:9999", Some("http://127.0.0.1:9999/api/v1/auth/login?x=1")),
        ("https://auth.example.com/", Some("https://auth.example.com/api/v1/auth/login?x=1")),
        ("http://auth.example.com", None),
        ("https://auth.example.com/base", None),
        ("ftp://auth.example.com", None),
        ("https://user:pass@auth.example.com", None),
        ("", None),
    ] {
        let gateway = configured(SHIPPED, |name| match name {
            "UPSTREAM_AUTH_URL" => Some(url.to_owned()),
            name => setting(name),
        });
        match (gateway, expected) {
            (Ok(gateway), Some(expected)) => {
                let ports = FakePorts::new();
                ports.send(&gateway, "POST", "/api/v1/auth/login?x=1", &[]);
                assert_eq!(ports.forwarded.borrow()[0].url, expected);
            }
            (Err(fault), None) => assert!(fault.0.starts_with("UPSTREAM_AUTH_URL "), "{fault:?}"),
            (built, expected) => panic!("{url}: {:?} but expected {expected:?}", built.map(|_| ())),
        }
    }
}

#[test]
fn plain_http_requires_development_mode() {
    let elsewhere = |url: &str| {
        let issuer = format!("jwks_url = \"{url}\"");
        SHIPPED.replace("jwks_upstream = \"auth\"\njwks_path = \"/.well-known/jwks.json\"", &issuer)
    };
    let https =
        [("UPSTREAM_AUTH_URL", "https://auth.example.com"), ("UPSTREAM_USERS_URL", "https://users.example.com")];
    let loopback = elsewhere("http://127.0.0.1:7/jwks");
    for (name, policy, development, urls, named) in [
        ("as shipped, deployed", SHIPPED, None, &[][..], Some("UPSTREAM_AUTH_URL")),
        ("one URL set", SHIPPED, None, &https[..1], Some("UPSTREAM_USERS_URL")),
        ("all set", SHIPPED, None, &https, None),
        ("another value", SHIPPED, Some("1"), &[], Some("UPSTREAM_AUTH_URL")),
        ("a developer's machine", SHIPPED, Some("true"), &[], None),
        ("an issuer on loopback", &loopback, None, &https, Some("issuer")),
        ("the same, developing", &loopback, Some("true"), &https, None),
    ] {
        let built = configured(policy, |name| match name {
            "DEVELOPMENT" => development.map(str::to_owned),
            name => urls.iter().find(|(known, _)| *known == name).map(|(_, url)| (*url).to_owned()),
        });
        match (built, named) {
            (Ok(_), None) => {}
            (Err(fault), Some(word)) => {
                assert!(fault.0.contains(word) && fault.0.contains("DEVELOPMENT"), "{name}: {fault:?}");
            }
            (built, _) => panic!("{name}: {:?}", built.map(|_| ())),
        }
    }
}

#[test]
fn the_client_address_is_the_platforms() {
    let (_, gateway, ports) = shipped_setup();
    for (headers, expected) in [
        (&[("cf-connecting-ip", "192.0.2.1"), ("x-forwarded-for", "10.0.0.1")][..], Some("192.0.2.1")),
        (&[("cf-connecting-ip", "2001:db8::1")], Some("2001:db8::1")),
        (&[("x-forwarded-for", "10.0.0.1")], None),
        (&[("cf-connecting-ip", "evil\r\nX: y")], None),
    ] {
        ports.forwarded.borrow_mut().clear();
        let handled = ports.send(&gateway, "POST", "/api/v1/auth/login", headers);
        assert_eq!(handled.record.ip.as_deref(), expected);
        let sent = ports.forwarded.borrow();
        let forwarded = sent[0].headers.iter().find(|(name, _)| name == "x-forwarded-for");
        assert_eq!(forwarded.map(|(_, value)| value.as_str()), expected);
    }
}

#[test]
fn only_a_route_that_forwards_authorization_passes_it_on() {
    let (vectors, gateway, ports) = shipped_setup();
    let good = vectors.token("a good token");
    for (target, forwarded) in
        [("/api/v1/auth/validate-token".to_owned(), true), (format!("/api/v1/users/{USER}"), false)]
    {
        ports.forwarded.borrow_mut().clear();
        ports.send_token(&gateway, "GET", &target, good);
        let sent = ports.forwarded.borrow();
        assert_eq!(sent[0].headers.iter().any(|(name, _)| name == "authorization"), forwarded, "{target}");
    }
}

#[test]
fn oversized_headers_and_targets_are_refused() {
    let (_, gateway, ports) = shipped_setup();
    let many: Vec<(String, String)> = (0..101).map(|index| (format!("x-{index}"), String::new())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(ports.send(&gateway, "GET", "/health", &many).record.status, 431);
    let long = "a".repeat(33 * 1024);
    assert_eq!(ports.send(&gateway, "GET", "/health", &[("x-long", &long)]).record.status, 431);
    let path = format!("/{}", "a".repeat(16 * 1024));
    assert_eq!(ports.send(&gateway, "GET", &path, &[]).record.status, 414);
}

#[test]
fn a_token_in_the_query_is_neither_used_nor_logged() {
    let (vectors, gateway, ports) = shipped_setup();
    let good = vectors.token("a good token");
    let handled = ports.send(&gateway, "GET", &format!("/api/v1/auth/me?access_token={good}"), &[]);
    assert_eq!(verdict(&handled), (401, "credentials_missing"));
    let in_path = ports.send(&gateway, "GET", &format!("/api/v1/users/{good}"), &[("user-agent", good)]);
    for line in [handled.record.to_json(), in_path.record.to_json()] {
        assert!(!line.contains("eyJ"), "{line}");
    }
}
