//! Upstreams behind a binding: which policies name one, and what a missing one means.

use portcullis_policy::{Policy, check};
use serde_json::{Value, json};

use crate::{
    fakes::{FakePorts, answer, configured, header, setting, setup, verdict},
    signer::issuer_table,
};

fn policy(upstream: &str) -> String {
    format!(
        "{}[upstreams.app]\n{upstream}\n[[routes]]\npath = \"/app\"\nmethods = [\"GET\", \"POST\"]\nupstream = \"app\"\n\
         access = \"public\"\n",
        issuer_table("id", 1, "")
    )
}

#[test]
fn a_request_is_sent_through_the_binding_to_the_host_of_the_url() {
    for (upstream, settings, expected) in [
        ("binding = \"SHOP\"", None, vec!["https://app.internal/app"]),
        ("binding = \"SHOP\"\nurl = \"https://a.example/\"", None, vec!["https://a.example/app"]),
        ("binding = \"SHOP\"\nurl = \"http://10.0.0.7:8080\"", None, vec!["http://10.0.0.7:8080/app"]),
        ("binding = \"SHOP\"\ntargets = [{ url = \"http://a.internal\" }]", None, vec!["http://a.internal/app"]),
        ("binding = \"SHOP\"", Some("http://b.internal"), vec!["http://b.internal/app"]),
    ] {
        // Also outside development.
        let gateway = configured(&policy(upstream), |name| match name {
            "DEVELOPMENT" => None,
            "UPSTREAM_APP_URL" => settings.map(str::to_owned),
            name => setting(name),
        })
        .unwrap();
        let ports = FakePorts::new();
        assert_eq!(verdict(&ports.send(&gateway, "GET", "/app", &[])), (200, "ok"), "{upstream}");
        let forwarded = ports.forwarded.borrow();
        let urls: Vec<&str> = forwarded.iter().map(|sent| sent.url.as_str()).collect();
        assert_eq!(urls, expected, "{upstream}");
        assert_eq!(forwarded[0].binding.as_deref(), Some("SHOP"));
        assert!(forwarded[0].headers.iter().any(|(name, _)| name == "x-gateway-assertion"));
    }
    let (gateway, ports) = setup(&policy("url = \"https://a.example\""));
    ports.send(&gateway, "GET", "/app", &[]);
    assert_eq!(ports.forwarded.borrow()[0].binding, None);
}

#[test]
fn a_missing_binding_is_the_gateways_own_fault() {
    let (gateway, ports) = setup(&policy("binding = \"SHOP\"\nretries = 2\nbreaker = { failures = 1 }"));
    ports.unbound.borrow_mut().push("SHOP".to_owned());
    for _ in 0..3 {
        let seen = ports.send(&gateway, "GET", "/app", &[]);
        assert_eq!(verdict(&seen), (503, "gateway_misconfigured"));
        assert_eq!(header(answer(&seen), "retry-after"), Some("5"));
        assert!(seen.record.detail.as_ref().unwrap().starts_with("binding SHOP of upstream app is missing"));
        assert!(!answer(&seen).body.contains("SHOP"));
    }
    assert_eq!(ports.forwarded.borrow().len(), 3, "it is not tried again");
    let ready = ports.send_as_operator(&gateway, "/ready");
    assert_eq!(ready.record.status, 503);
    assert!(answer(&ready).body.contains("binding SHOP of upstream app"));
    let status = ports.send_as_operator(&gateway, "/status");
    let document: Value = serde_json::from_str(&answer(&status).body).unwrap();
    let app = &document["upstreams"][0];
    assert_eq!((status.record.status, &app["status"]), (503, &json!("unhealthy")));
    assert_eq!((&app["binding"], &app["binding_missing"]), (&json!("SHOP"), &json!(true)));
    // Strangers learn no name.
    for path in ["/ready", "/status"] {
        let seen = ports.send(&gateway, "GET", path, &[("cf-connecting-ip", "192.0.2.1")]);
        assert!(!answer(&seen).body.contains("SHOP"), "{path}");
    }
    // The circuit stayed closed.
    ports.unbound.borrow_mut().clear();
    assert_eq!(verdict(&ports.send(&gateway, "GET", "/app", &[])), (200, "ok"));
    assert_eq!(ports.send_as_operator(&gateway, "/ready").record.status, 200);
}

#[test]
fn each_mistake_is_refused() {
    for (upstream, expected) in [
        ("binding = \"\"", "is no binding of a service"),
        ("binding = \"MY-SHOP\"", "is no binding of a service"),
        ("binding = \"7SHOP\"", "is no binding of a service"),
        ("binding = \"__proto__.fetch\"", "is no binding of a service"),
        ("binding = \"SHOP\\nX\"", "is no binding of a service"),
        ("binding = \"KEYS\"", "is no binding of a service"),
        ("binding = \"REVOCATIONS\"", "is no binding of a service"),
        ("binding = \"METRICS\"", "is no binding of a service"),
        ("binding = \"LIMIT_LOGIN\"", "is no binding of a service"),
        ("binding = [\"SHOP\"]", "invalid type"),
        ("", "say where it is, once"),
        (
            "binding = \"SHOP\"\nurl = \"https://a.example\"\ntargets = [{ url = \"https://b.example\" }]",
            "say where it is, once",
        ),
        ("binding = \"SHOP\"\nurl = \"ftp://a.example\"", "must begin with https://"),
        ("binding = \"SHOP\"\nurl = \"http://a.example/path\"", "scheme and host alone"),
        ("binding = \"SHOP\"\nurl = \"http://user:pass@a.example\"", "scheme and host alone"),
        ("url = \"http://a.internal\"", "sends tokens over plain HTTP"),
        (
            "binding = \"SHOP\"\ntargets = [{ url = \"https://a.example\" }, { url = \"http://a.example\" }]",
            "sends tokens over plain HTTP to a public host",
        ),
    ] {
        let mistakes = check(&policy(upstream)).unwrap_err();
        assert!(mistakes.iter().any(|mistake| mistake.message.contains(expected)), "{upstream}: {mistakes:?}");
    }
    let long = format!("binding = \"{}\"", "B".repeat(65));
    assert!(check(&policy(&long)).is_err());
    // Keys are fetched by URL, and would be asked for at a host of the same name on the internet.
    let keys = policy("binding = \"SHOP\"").replace("jwks = ", "jwks_upstream = \"app\"\njwks_path = \"/jwks\"\n# ");
    let mistakes = check(&keys).unwrap_err();
    assert!(mistakes[0].message.contains("its upstream has a binding"), "{mistakes:?}");
    // A URL of the deployment is checked, too.
    for url in ["http://a.internal/path", "http://a.example", "https://a.example,http://b.example"] {
        let fault = configured(&policy("binding = \"SHOP\""), |name| {
            if name == "UPSTREAM_APP_URL" { Some(url.to_owned()) } else { setting(name) }
        });
        assert!(fault.unwrap_err().0.starts_with("UPSTREAM_APP_URL "), "{url}");
    }
}

#[test]
fn plain_http_through_a_binding_is_for_hosts_without_a_public_name() {
    for (host, is_private) in [
        ("10.0.0.7", true),
        ("172.31.255.255:8080", true),
        ("192.168.1.1/", true),
        ("127.0.0.1:80", true),
        ("[::1]:8080", true),
        ("[fd00::7]", true),
        ("[::ffff:10.0.0.7]", true),
        ("orders", true),
        ("localhost:3000", true),
        ("orders.corp.internal", true),
        ("ORDERS.Corp.INTERNAL.:8080/", true),
        ("printer.local", true),
        ("orders.example.com", false),
        ("orders.example.com.", false),
        ("internal.example.com", false),
        ("orders.notinternal", false),
        ("local.example", false),
        ("10.0.0.7.example.com", false),
        ("8.8.8.8", false),
        ("172.32.0.1", false),
        ("192.169.0.1", false),
        ("0.0.0.0", false),
        ("[2606:4700::1111]", false),
        ("[::ffff:8.8.8.8]", false),
        ("[::]", false),
    ] {
        let url = format!("binding = \"SHOP\"\nurl = \"http://{host}\"");
        let fault = check(&policy(&url)).err().map(|mistakes| mistakes[0].message.clone());
        match is_private {
            true => assert_eq!(fault, None, "{host}"),
            false => assert!(fault.is_some_and(|fault| fault.contains("to a public host")), "{host}"),
        }
        assert_eq!(check(&policy(&url.replace("http:", "https:"))).err(), None, "{host}");
    }
}

#[test]
fn a_resolved_policy_means_the_same_and_the_policy_tool_names_the_binding() {
    for upstream in ["binding = \"SHOP\"", "binding = \"SHOP\"\nurl = \"http://a.internal\""] {
        let resolved = check(&policy(upstream)).unwrap();
        assert_eq!(Policy::read(&serde_json::to_string(&resolved).unwrap()), Ok(resolved));
        let table =
            json!({ "command": "table", "policy": { "name": "policy", "text": policy(upstream), "files": {} } });
        let printed = portcullis_cli::run(&table.to_string());
        assert!(printed.contains("note: app is reached through the binding SHOP; see wrangler.toml"), "{printed}");
    }
}

#[test]
fn plain_http_to_a_host_without_a_public_name_needs_a_private_network() {
    for (url, on_private_network) in [
        ("http://app:8080", true),
        ("http://app.default.svc.cluster.local", true),
        ("http://app.internal", true),
        ("http://10.0.0.7:8080", true),
        ("http://[fd00::7]", true),
        ("http://127.0.0.1:8080", true),
        ("http://app.example", false),
        ("http://1.1.1.1", false),
        ("http://[2606:4700::1111]", false),
        ("http://ada:pw@app:8080", false),
        ("http://app:8080/path", false),
    ] {
        for (private, expected) in [(None, false), (Some("1"), false), (Some("true"), on_private_network)] {
            let text = policy("url = \"https://a.example\"");
            let found = configured(&text, |name| match name {
                "DEVELOPMENT" => None,
                "PRIVATE_NETWORK" => private.map(str::to_owned),
                "UPSTREAM_APP_URL" => Some(url.to_owned()),
                name => setting(name),
            });
            let fault = found.as_ref().err().map(|fault| fault.0.clone()).unwrap_or_default();
            assert_eq!(found.is_ok(), expected, "{url} with {private:?}: {fault}");
        }
    }
}
