//! The metadata of protected resources (RFC 9728), and challenges that lead to it. The list of attacks in
//! docs/standards/protected-resource-metadata.md is `each_attack_has_its_answer` and `each_mistake_is_refused`.

use portcullis::pipeline::{Gateway, Head};
use portcullis_policy::{Access, Principal, check};
use serde_json::{Value, json};

use crate::{
    access::circumstances,
    fakes::{
        FakePorts, ME_POLICY, SECRET, Seen, Vectors, answer, configured, gateway_of, header, setting, setup, verdict,
    },
    signer::{Signer, claims_at, issuer_table, with},
};

const PLACE: &str = "/.well-known/oauth-protected-resource";

/// Two resources, one within the other, and routes of none.
fn policy() -> String {
    let route = |path: &str, access: &str, more: &str| {
        format!(
            "[[routes]]\npath = \"{path}\"\nmethods = [\"GET\", \"POST\"]\nupstream = \"app\"\naccess = {access}\n{more}\n"
        )
    };
    let id = "issuers = [\"id\"]";
    [
        "public_url = \"https://api.example.com\"\n".to_owned(),
        issuer_table("id", 1, ""),
        issuer_table("other", 2, ""),
        issuer_table("proxy", 3, "token_header = \"X-Proxy-Token\""),
        "[upstreams.app]\nurl = \"https://app.example\"\n[upstreams.web]\nurl = \"https://web.example\"\n[cors.app]\norigins = [\"https://app.example\"]\n".to_owned(),
        route("/mcp", "\"user\"", "issuers = [\"id\", \"proxy\"]\ncors = \"app\""),
        route("/mcp/one", "{ scopes = [\"run\", \"admin\"] }", id),
        route("/mcp/both", "{ all = [{ scopes = [\"run\"] }, { scopes = [\"write\"] }] }", id),
        route("/mcp/role", "{ roles = [\"admin\"] }", id),
        route("/mcp/role-and-scope", "{ all = [{ roles = [\"ops\"] }, { scopes = [\"run\"] }] }", id),
        route("/mcp/users/{id}", "{ any = [{ owner = \"id\" }, { scopes = [\"users\"] }] }", id),
        route("/mcp/deep/{*rest}", "\"user\"", "issuers = [\"other\"]"),
        route("/mcp/open", "\"public\"", ""),
        route("/mcp/staff", "{ scopes = [\"payroll\"] }", "issuers = [\"proxy\"]"),
        route("/mcpx", "{ scopes = [\"run\"] }", id),
        // At another service, where no looser variant of a path leads.
        route("/{*rest}", "\"user\"", "").replace("\"app\"", "\"web\""),
        "[[resources]]\npath = \"/mcp\"\nresource_name = \"Tools \\\"1\\\"\"\n\
         resource_documentation = \"https://docs.example/mcp\"\n\
         [[resources]]\npath = \"/mcp/deep\"\nauthorization_servers = [\"https://as.example/t1\"]\n"
            .to_owned(),
    ]
    .concat()
}

/// A policy with one resource that has all paths.
fn whole() -> String {
    format!("public_url = \"https://api.example.com\"\n{ME_POLICY}[[resources]]\n")
}

fn token(claims: &Value) -> String {
    let base = with(claims_at(Vectors::load().now), &json!({ "iss": "https://id.example" }));
    Signer::new(1).sign("JWT", &with(base, claims))
}

fn challenge(seen: &Seen) -> Option<&str> {
    header(answer(seen), "www-authenticate")
}

fn document(seen: &Seen) -> Value {
    serde_json::from_str(&answer(seen).body).unwrap()
}

#[test]
fn each_resource_has_its_metadata() {
    let (gateway, ports) = setup(&policy());
    let mcp = ports.send(&gateway, "GET", &format!("{PLACE}/mcp"), &[]);
    assert_eq!(
        document(&mcp),
        json!({
            "resource": "https://api.example.com/mcp",
            // Not `proxy`, whose tokens no client sends.
            "authorization_servers": ["https://id.example"],
            "scopes_supported": ["admin", "run", "users", "write"],
            "bearer_methods_supported": ["header"],
            "resource_name": "Tools \"1\"",
            "resource_documentation": "https://docs.example/mcp",
        })
    );
    let headers: Vec<(&str, &str)> = answer(&mcp).headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    for expected in [
        ("content-type", "application/json"),
        ("cache-control", "public, max-age=300"),
        ("access-control-allow-origin", "*"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert!(headers.contains(&expected), "{headers:?}");
    }
    assert!(!headers.iter().any(|(name, _)| *name == "access-control-allow-credentials"));
    // Members without a value are left out (RFC 9728, section 3.2).
    assert_eq!(
        document(&ports.send(&gateway, "GET", &format!("{PLACE}/mcp/deep"), &[])),
        json!({
            "resource": "https://api.example.com/mcp/deep",
            "authorization_servers": ["https://as.example/t1"],
            "bearer_methods_supported": ["header"],
        })
    );
    let (gateway, ports) = setup(&whole());
    let document = document(&ports.send(&gateway, "GET", PLACE, &[]));
    assert_eq!(document["resource"], "https://api.example.com");
    assert!(ports.forwarded.borrow().is_empty());
}

#[test]
fn pages_of_every_origin_may_ask_for_the_metadata() {
    let (gateway, ports) = setup(&policy());
    let preflight = [
        ("origin", "https://any.example"),
        ("access-control-request-method", "GET"),
        ("access-control-request-headers", "mcp-protocol-version"),
    ];
    let seen = ports.send(&gateway, "OPTIONS", &format!("{PLACE}/mcp"), &preflight);
    assert_eq!((answer(&seen).status, answer(&seen).body.as_str()), (204, ""));
    for (name, expected) in [
        ("access-control-allow-origin", Some("*")),
        ("access-control-allow-methods", Some("GET, HEAD")),
        ("access-control-allow-headers", Some("*")),
        ("access-control-max-age", Some("300")),
        ("access-control-allow-credentials", None),
    ] {
        assert_eq!(header(answer(&seen), name), expected, "{name}");
    }
}

#[test]
fn a_challenge_leads_to_the_metadata_and_names_the_scopes() {
    let (gateway, ports) = setup(&policy());
    let at = |suffix: &str| format!("resource_metadata=\"https://api.example.com{PLACE}{suffix}\"");
    let mcp = at("/mcp");
    let missing = |scope: &str| format!("Bearer realm=\"portcullis\"{scope}, {mcp}");
    let insufficient = |scope: &str| format!("Bearer realm=\"portcullis\", error=\"insufficient_scope\"{scope}, {mcp}");
    let none = json!({});
    for (what, path, claims, expected) in [
        ("any user", "/mcp", None, missing("")),
        ("one of two scopes", "/mcp/one", None, missing(", scope=\"run\"")),
        ("two scopes", "/mcp/both", None, missing(", scope=\"run write\"")),
        ("a role", "/mcp/role", None, missing("")),
        // Not `users`, which an owner does not need.
        ("an owner or a scope", "/mcp/users/eve", None, missing("")),
        ("one of two, without any", "/mcp/one", Some(&none), insufficient(", scope=\"run\"")),
        ("two, with one", "/mcp/both", Some(&json!({ "scope": "write x" })), insufficient(", scope=\"run write\"")),
        ("a role, which no scope replaces", "/mcp/role", Some(&none), insufficient("")),
        ("a role and a scope, with neither", "/mcp/role-and-scope", Some(&none), insufficient("")),
        (
            "a role and a scope, with the role",
            "/mcp/role-and-scope",
            Some(&json!({ "roles": ["ops"] })),
            insufficient(", scope=\"run\""),
        ),
        ("another user's", "/mcp/users/eve", Some(&none), insufficient(", scope=\"users\"")),
    ] {
        let seen = match claims {
            None => ports.send(&gateway, "GET", path, &[]),
            Some(claims) => ports.send_token(&gateway, "GET", path, &token(claims)),
        };
        assert_eq!(seen.record.status, if claims.is_none() { 401 } else { 403 }, "{what}");
        assert_eq!(challenge(&seen), Some(&*expected), "{what}");
    }
    let expired = ports.send_token(&gateway, "GET", "/mcp/one", &token(&json!({ "iat": 1_000_000, "exp": 1_000_900 })));
    let expected = format!(
        "Bearer realm=\"portcullis\", error=\"invalid_token\", error_description=\"Token has expired\", scope=\"run\", {mcp}"
    );
    assert_eq!(challenge(&expired), Some(&*expected));
    // The longest path counts; another issuer's user can get no right by a scope.
    let deep = ports.send(&gateway, "GET", "/mcp/deep/a/b", &[]);
    assert_eq!(challenge(&deep), Some(&*format!("Bearer realm=\"portcullis\", {}", at("/mcp/deep"))));
    let other = with(claims_at(Vectors::load().now), &json!({ "iss": "https://other.example" }));
    let other = ports.send_token(&gateway, "GET", "/mcp/one", &Signer::new(2).sign("JWT", &other));
    assert_eq!((other.record.status, challenge(&other)), (403, Some(&*insufficient(""))));
    // A page for a person has the same challenge.
    let page = ports.send(&gateway, "GET", "/mcp", &[("accept", "text/html")]);
    assert_eq!(challenge(&page), Some(&*missing("")));
}

#[test]
fn strangers_learn_no_scope_that_the_metadata_does_not_show() {
    let text = policy()
        .replace("path = \"/mcp\"\nresource_name", "path = \"/mcp\"\nscopes_supported = [\"run\"]\nresource_name");
    let (gateway, ports) = setup(&text);
    for (path, claims, scope) in [
        ("/mcp/one", None, Some("scope=\"run\"")),
        ("/mcp/both", None, None),
        ("/mcp/both", Some(json!({})), Some("scope=\"run write\"")),
    ] {
        let seen = match &claims {
            None => ports.send(&gateway, "GET", path, &[]),
            Some(claims) => ports.send_token(&gateway, "GET", path, &token(claims)),
        };
        let challenge = challenge(&seen).unwrap_or_default();
        assert_eq!(challenge.contains("scope=\""), scope.is_some(), "{path} {claims:?}: {challenge}");
        assert!(scope.is_none_or(|scope| challenge.contains(scope)), "{path} {claims:?}: {challenge}");
    }
}

#[test]
fn routes_of_no_resource_keep_their_challenges() {
    let (gateway, ports) = setup(&policy());
    for (path, claims, expected) in [
        ("/mcpx", None, "Bearer realm=\"portcullis\""),
        ("/elsewhere", None, "Bearer realm=\"portcullis\""),
        // Its tokens arrive in another header, so a client has nothing to send.
        ("/mcp/staff", None, "Bearer realm=\"portcullis\""),
        // The pattern decides, not the request's path.
        ("/mcp/nothing", None, "Bearer realm=\"portcullis\""),
        ("/mcpx", Some(json!({})), "Bearer realm=\"portcullis\", error=\"insufficient_scope\""),
    ] {
        let seen = match claims {
            None => ports.send(&gateway, "GET", path, &[]),
            Some(claims) => ports.send_token(&gateway, "GET", path, &token(&claims)),
        };
        assert_eq!(challenge(&seen), Some(expected), "{path}");
    }
    for refused in [
        ports.send(&gateway, "PUT", "/mcp", &[]),
        ports.send(&gateway, "OPTIONS", "/mcp", &[("origin", "x"), ("access-control-request-method", "GET")]),
    ] {
        assert_eq!(challenge(&refused), None, "{:?}", refused.record);
    }
}

#[test]
fn listed_pages_may_read_the_challenge() {
    let (gateway, ports) = setup(&policy());
    let exposed = |gateway: &Gateway, path: &str| {
        let seen = ports.send(gateway, "GET", path, &[("origin", "https://app.example")]);
        header(answer(&seen), "access-control-expose-headers").map(str::to_owned)
    };
    assert_eq!(exposed(&gateway, "/mcp").as_deref(), Some("x-request-id, retry-after, www-authenticate"));
    assert_eq!(exposed(&gateway, "/mcp/one"), None, "without a CORS policy");
    for (expose, expected) in [("[]", "www-authenticate"), ("[\"WWW-Authenticate\"]", "WWW-Authenticate")] {
        let gateway = gateway_of(&policy().replace("[cors.app]", &format!("[cors.app]\nexpose = {expose}")));
        assert_eq!(exposed(&gateway, "/mcp").as_deref(), Some(expected));
    }
}

const UNKNOWN: (u16, &str) = (404, "route_unknown");
const AMBIGUOUS: (u16, &str) = (400, "path_ambiguous");
const NOT_ALLOWED: (u16, &str) = (405, "method_not_allowed");

#[test]
fn each_attack_has_its_answer() {
    let (gateway, ports) = setup(&policy());
    let (long, longer) = (format!("/{}", "a".repeat(4_000)), format!("/{}", "a".repeat(5_000)));
    for (attack, method, suffix, expected) in [
        ("no resource at the root", "GET", "", UNKNOWN),
        ("a slash at the root", "GET", "/", UNKNOWN),
        ("a path of no resource", "GET", "/elsewhere", UNKNOWN),
        ("a route of another resource", "GET", "/mcp/one", UNKNOWN),
        ("below a resource", "GET", "/mcp/deep/er", UNKNOWN),
        ("a slash at the end", "GET", "/mcp/", UNKNOWN),
        ("another case", "GET", "/MCP", UNKNOWN),
        ("the beginning of a name", "GET", "/mc", UNKNOWN),
        ("more of a name", "GET", "/mcpx", UNKNOWN),
        ("no slash between", "GET", "mcp", (401, "credentials_missing")),
        ("dots", "GET", "/mcp/../mcp", AMBIGUOUS),
        ("escaped dots", "GET", "/mcp/%2e%2e/mcp", AMBIGUOUS),
        ("an encoded slash", "GET", "/mcp%2Fdeep", AMBIGUOUS),
        ("an encoded slash at the root", "GET", "%2Fmcp", AMBIGUOUS),
        ("twice encoded", "GET", "/%256dcp", AMBIGUOUS),
        ("two slashes", "GET", "//mcp", AMBIGUOUS),
        ("a parameter", "GET", "/mcp;x=1", AMBIGUOUS),
        ("a backslash", "GET", "/mcp%5Cdeep", AMBIGUOUS),
        ("NUL", "GET", "/mcp%00", AMBIGUOUS),
        ("a line break", "GET", "/mcp%0D%0AX-A:%201", AMBIGUOUS),
        ("a URL", "GET", "/https:%2F%2Fevil.example", AMBIGUOUS),
        ("a long path", "GET", &long, UNKNOWN),
        ("a longer path", "GET", &longer, (414, "path_too_long")),
        ("POST", "POST", "/mcp", NOT_ALLOWED),
        ("DELETE", "DELETE", "/mcp", NOT_ALLOWED),
        ("a method in lower case", "get", "/mcp", NOT_ALLOWED),
        ("POST elsewhere", "POST", "/elsewhere", UNKNOWN),
        ("OPTIONS elsewhere", "OPTIONS", "/elsewhere", UNKNOWN),
    ] {
        let seen = ports.send(&gateway, method, &format!("{PLACE}{suffix}"), &[]);
        assert_eq!(verdict(&seen), expected, "{attack}");
        assert!(!answer(&seen).body.contains("\"resource\""), "{attack}");
    }
    assert!(ports.forwarded.borrow().is_empty(), "the route /{{*rest}} gets none of them");
    let with_body = ports.send(&gateway, "GET", &format!("{PLACE}/mcp"), &[("content-length", "1")]);
    assert_eq!(verdict(&with_body), (400, "body_unexpected"));
    let post = ports.send(&gateway, "POST", &format!("{PLACE}/mcp"), &[]);
    assert_eq!(header(answer(&post), "allow"), Some("GET, HEAD, OPTIONS"));
}

/// A cache that takes two hosts for one, or ignores a header, must not serve a client what another one caused.
#[test]
fn nothing_of_a_request_is_in_the_metadata_or_in_a_challenge() {
    let (gateway, ports) = setup(&policy());
    let send = |host: &str, target: &str, more: &[(&str, &str)]| -> Seen {
        let headers = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let head = Head::new("GET".to_owned(), &format!("http://{host}{target}"), headers);
        futures_executor::block_on(gateway.handle(&head, &ports)).into()
    };
    let (metadata, route) = (format!("{PLACE}/mcp"), "/mcp/one");
    let (expected, expected_challenge) = (
        document(&send("api.example.com", &metadata, &[])),
        challenge(&send("api.example.com", route, &[])).unwrap().to_owned(),
    );
    for (host, query, headers) in [
        ("evil.example", "", &[][..]),
        ("api.example.com:8443", "", &[]),
        ("api.example.com.", "", &[]),
        ("api.example.com", "?resource=https://evil.example&k=%22", &[]),
        ("api.example.com", "", &[("host", "evil.example")]),
        ("api.example.com", "", &[("x-forwarded-host", "evil.example"), ("x-forwarded-proto", "http")]),
        ("api.example.com", "", &[("forwarded", "host=evil.example"), ("x-original-url", "/evil")]),
        ("api.example.com", "", &[("x-forwarded-prefix", "/evil"), ("origin", "https://evil.example")]),
        ("api.example.com", "", &[("accept", "application/xml"), ("accept-language", "de")]),
    ] {
        let seen = send(host, &format!("{metadata}{query}"), headers);
        assert_eq!(document(&seen), expected, "{host} {query} {headers:?}");
        let written = format!("{:?}", answer(&seen));
        assert!(!written.contains("evil") && !written.contains("8443"), "{written}");
        let refused = send(host, &format!("{route}{query}"), headers);
        assert_eq!(challenge(&refused), Some(&*expected_challenge), "{host} {query} {headers:?}");
    }
    for host in ["evil.example\"", "evil.example/x", "a b"] {
        assert_ne!(send(host, &metadata, &[]).record.status, 200, "{host}");
    }
    // The scopes of a token are a client's text, too.
    let seen = ports.send_token(&gateway, "GET", "/mcp/one", &token(&json!({ "scope": "a\" b\\ x=\"evil" })));
    assert!(!challenge(&seen).unwrap().contains("evil"));
}

#[test]
fn the_deployments_public_url_replaces_the_policys() {
    let built = |url: Option<&'static str>, is_development: bool, policy: &str| {
        configured(policy, move |name| match name {
            "PUBLIC_URL" => url.map(str::to_owned),
            "DEVELOPMENT" => Some(is_development.to_string()),
            name => name.starts_with("ASSERTION_KEYS_").then(|| SECRET.to_owned()),
        })
    };
    let ports = FakePorts::new();
    for (url, is_development, expected) in [
        (None, false, Ok("https://api.example.com")),
        (Some(""), false, Ok("https://api.example.com")),
        (Some("https://staging.example.com:8443"), false, Ok("https://staging.example.com:8443")),
        (Some("http://127.0.0.1:8787"), true, Ok("http://127.0.0.1:8787")),
        (Some("http://127.0.0.1:8787"), false, Err("plain http:// URL")),
        (Some("http://staging.example.com"), true, Err("plain HTTP")),
        (Some("https://staging.example.com/"), false, Err("without a slash at its end")),
        (Some("https://staging.example.com/base"), false, Err("scheme and host alone")),
        (Some("https://Staging.example.com"), false, Err("lower case")),
        (Some("https://staging.example.com:443"), false, Err("the port that the scheme implies")),
        (Some("https://a\"b.example"), false, Err("no valid host")),
        (Some("staging.example.com"), false, Err("https://")),
    ] {
        match (built(url, is_development, &whole()), expected) {
            (Ok(gateway), Ok(expected)) => {
                assert_eq!(document(&ports.send(&gateway, "GET", PLACE, &[]))["resource"], expected, "{url:?}");
            }
            (Err(fault), Err(expected)) => assert!(fault.0.contains(expected), "{url:?}: {fault:?}"),
            (built, _) => panic!("{url:?}: {built:?}"),
        }
        assert!(built(url, is_development, ME_POLICY).is_ok(), "without resources, the setting has no effect");
    }
    let local = whole() + "authorization_servers = [\"http://127.0.0.1:9000\"]\n";
    assert!(built(None, true, &local).is_ok());
    assert!(built(None, false, &local).unwrap_err().0.contains("authorization server at a plain http:// URL"));
}

#[test]
fn without_resources_the_path_is_an_ordinary_one() {
    let route = format!(
        "{ME_POLICY}[[routes]]\npath = \"{PLACE}\"\nmethods = [\"GET\"]\nupstream = \"app\"\naccess = \"public\"\n"
    );
    let (gateway, ports) = setup(&route);
    assert_eq!(verdict(&ports.send(&gateway, "GET", PLACE, &[])), (200, "ok"));
    assert_eq!(ports.forwarded.borrow().len(), 1, "a service serves its own metadata");
    assert_eq!(verdict(&ports.send(&gateway, "GET", &format!("{PLACE}/me"), &[])), UNKNOWN);
    assert_eq!(challenge(&ports.send(&gateway, "GET", "/me", &[])), Some("Bearer realm=\"portcullis\""));
}

#[test]
fn each_mistake_is_refused() {
    let resource = |more: &str| whole() + more;
    let scoped = |scope: &str| whole().replace("access = \"user\"", &format!("access = {{ scopes = ['{scope}'] }}"));
    let many: Vec<String> = (0..101).map(|n| format!("s{n}")).collect();
    // what, policy, words of the message
    for (what, text, words) in [
        ("no public URL", whole().replace("public_url", "# public_url"), "resources need public_url"),
        ("plain HTTP", whole().replace("https://api", "http://api"), "plain HTTP"),
        ("a path in the public URL", whole().replace(".com\"", ".com/base\""), "scheme and host alone"),
        ("a public URL in upper case", whole().replace("//api", "//API"), "must be in lower case"),
        ("a wildcard", whole().replace("//api", "//*"), "no valid host"),
        ("credentials", whole().replace("//api", "//u:p@api"), "no path, query or credentials"),
        ("quotes", whole().replace("//api", "//a\\\"b"), "no valid host"),
        ("a path with a slash at its end", resource("path = \"/me/\"\n"), "whole fixed segments"),
        ("a path without a slash", resource("path = \"me\"\n"), "whole fixed segments"),
        ("a path of dots", resource("path = \"/..\"\n"), "whole fixed segments"),
        ("a path with quotes", resource("path = '/a\"b'\n"), "whole fixed segments"),
        ("a path with a parameter", resource("path = \"/{id}\"\n"), "whole fixed segments"),
        ("a path with an escape", resource("path = \"/a%2Fb\"\n"), "whole fixed segments"),
        ("a path without a route", resource("path = \"/you\"\n"), "no route that reads tokens"),
        ("half a segment", resource("path = \"/m\"\n"), "no route that reads tokens"),
        ("a path of the metadata", resource(&format!("path = \"{PLACE}\"\n")), "no route that reads tokens"),
        ("public routes alone", whole().replace("\"user\"", "\"public\""), "no route that reads tokens"),
        ("two resources of one path", resource("[[resources]]\n"), "already defined"),
        ("a resource within that has all routes", resource("[[resources]]\npath = \"/me\"\n"), "no route that reads"),
        ("a route at the path", whole().replace("\"/me\"", &format!("\"{PLACE}\"")), "which the gateway serves"),
        (
            "a route below the path",
            whole().replace("\"/me\"", &format!("\"{PLACE}/{{id}}\"")),
            "which the gateway serves",
        ),
        ("no server", resource("authorization_servers = []\n"), "authorization_servers is empty"),
        ("a server without a scheme", resource("authorization_servers = [\"id\"]\n"), "URLs of issuers"),
        ("a server over plain HTTP", resource("authorization_servers = [\"http://a.example\"]\n"), "URLs of issuers"),
        ("a server with a query", resource("authorization_servers = [\"https://a.example?x\"]\n"), "URLs of issuers"),
        (
            "an issuer that is no URL",
            whole().replace("issuer = \"https://id.example\"", "issuer = \"id\""),
            "issuers id are no URLs",
        ),
        (
            "tenants",
            whole().replace(
                "\"https://id.example\"",
                "\"https://id.example/{tenantid}\"\ntenants = [\"secret-customer\"]",
            ),
            "or have tenants",
        ),
        (
            "an issuer behind a proxy",
            whole().replace("jwks_url", "token_header = \"X-Token\"\njwks_url"),
            "no route that reads tokens",
        ),
        (
            "two issuers, which clients cannot choose between",
            whole().replace(
                "[[resources]]",
                "[issuers.second]\nissuer = \"https://secret-customer.example\"\naudience = [\"api\"]\n\
                 algorithms = [\"RS256\"]\njwks_url = \"https://second.example/jwks\"\n[[resources]]",
            ),
            "have 2 issuers",
        ),
        ("a scope with a quote", scoped("a\"b"), "must be visible ASCII"),
        ("a scope that ends the header's quotes", scoped("a\", error=\"x"), "must be visible ASCII"),
        ("a scope with a backslash", scoped("a\\b"), "must be visible ASCII"),
        ("two scopes in one", scoped("a b"), "must be visible ASCII"),
        ("a scope that is not ASCII", scoped("é"), "must be visible ASCII"),
        ("a listed scope with a quote", resource("scopes_supported = ['a\"b']\n"), "must be visible ASCII"),
        ("an empty scope", resource("scopes_supported = [\"\"]\n"), "must be visible ASCII"),
        ("too many scopes", resource(&format!("scopes_supported = {many:?}\n")), "write at most 100"),
        (
            "too many scopes of rules",
            whole().replace(
                "access = \"user\"",
                &format!("access = {{ any = [{{ scopes = {:?} }}, {{ scopes = [\"x\"] }}] }}", &many[1..]),
            ),
            "have 101 scopes",
        ),
        ("an empty name", resource("resource_name = \"\"\n"), "without control characters"),
        ("a name of two lines", resource("resource_name = \"a\\nb\"\n"), "without control characters"),
        ("a page over plain HTTP", resource("resource_documentation = \"http://a.example\"\n"), "plain HTTP"),
        ("a script as a page", resource("resource_documentation = \"javascript:alert(1)\"\n"), "https://"),
        ("another bearer method", resource("bearer_methods_supported = [\"query\"]\n"), "unknown field"),
        ("too many resources", resource(&"[[resources]]\n".repeat(100)), "write at most 100"),
    ] {
        let mistakes = check(&text).err().unwrap_or_else(|| panic!("{what}: no mistake"));
        assert!(mistakes.iter().any(|mistake| mistake.message.contains(words)), "{what}: {mistakes:#?}");
        let shown = format!("{mistakes:?}");
        assert!(!shown.contains("secret-customer"), "{shown}");
    }
    let mistakes = check(&resource("[[resources]]\n")).unwrap_err();
    assert_eq!(mistakes.len(), 1, "{mistakes:#?}");
    assert!(mistakes[0].message.ends_with("(the first is on line 17)"), "{mistakes:#?}");
    // With another server named, the same issuers are no mistake.
    for text in [
        whole().replace("issuer = \"https://id.example\"", "issuer = \"id\""),
        whole().replace("\"https://id.example\"", "\"https://id.example/{tenantid}\"\ntenants = [\"a\"]"),
    ] {
        assert!(check(&(text + "authorization_servers = [\"https://as.example\"]\n")).is_ok());
    }
    // Rules of routes that belong to no resource may name any scope.
    assert!(check(&scoped("a b").replace("[[resources]]\n", "")).is_ok());
}

#[test]
fn a_pushed_policy_is_checked_and_resolved_alike() {
    let policy = check(&policy()).unwrap();
    let json = serde_json::to_string(&policy).unwrap();
    assert_eq!(portcullis_policy::Policy::read(&json), Ok(policy));
    let pushed = json.replace("https://api.example.com", "https://api.example.com/\\\"x");
    assert!(portcullis_policy::Policy::read(&pushed).unwrap_err().contains("public_url"));
}

#[test]
fn the_fewest_scopes_that_suffice_are_asked_for() {
    let rule = |value: Value| -> Access { serde_json::from_value(value).unwrap() };
    let (a, b, c) = (json!({ "scopes": ["a"] }), json!({ "scopes": ["b"] }), json!({ "scopes": ["c", "d"] }));
    let (role, owner) = (json!({ "roles": ["r"] }), json!({ "owner": "id" }));
    let own = vec![("id".to_owned(), "ada".to_owned())];
    // rule; for an unknown caller; for ada with the scope d; for ada with the role r as well
    for (value, unknown, known, with_role) in [
        (json!("user"), "", "", ""),
        (c.clone(), "c", "d", "d"),
        (json!({ "any": [a, b] }), "a", "a", "a"),
        (json!({ "all": [b, a] }), "a b", "a b", "a b"),
        (json!({ "any": [{ "all": [a, b] }, c] }), "c", "d", "d"),
        (json!({ "any": [{ "all": [a, role] }, { "all": [a, b] }] }), "a", "a b", "a"),
        (json!({ "all": [a, role] }), "a", "", "a"),
        (json!({ "all": [a, owner] }), "a", "a", "a"),
        (json!({ "any": [role, a] }), "", "a", ""),
        (json!({ "all": [c, { "any": [b, role] }] }), "c", "b d", "d"),
        (role, "", "", ""),
    ] {
        let rule = rule(value.clone());
        assert_eq!(rule.needed_scopes(None), unknown, "{value}");
        for (roles, expected) in [(&[][..], known), (&["r".to_owned()], with_role)] {
            let scopes = ["d".to_owned()];
            let principal = Principal { user_id: "ada", roles, scopes: &scopes, claims: &[] };
            assert_eq!(rule.needed_scopes(Some((principal, &circumstances(&own)))), expected, "{value} {roles:?}");
        }
    }
}

#[test]
fn a_challenge_with_too_many_scopes_names_none() {
    let scopes: Vec<String> = (0..40).map(|n| format!("{{ scopes = [\"{n}{}\"] }}", "x".repeat(60))).collect();
    let access = format!("access = {{ all = [{}] }}", scopes.join(", "));
    let (gateway, ports) = setup(&whole().replace("access = \"user\"", &access));
    let seen = ports.send(&gateway, "GET", "/me", &[]);
    let expected = format!("Bearer realm=\"portcullis\", resource_metadata=\"https://api.example.com{PLACE}\"");
    assert_eq!(challenge(&seen), Some(&*expected));
}

#[test]
fn status_metrics_and_the_policy_tool_know_resources() {
    let gateway = configured(&policy(), |name| {
        if name == "METRICS_TOKEN" { Some("operators-token-0".to_owned()) } else { setting(name) }
    })
    .unwrap();
    let ports = FakePorts::new();
    ports.send(&gateway, "GET", &format!("{PLACE}/mcp"), &[]);
    let operator = [("authorization", "Bearer operators-token-0")];
    let status = document(&ports.send(&gateway, "GET", "/status", &operator));
    let expected = ["/mcp", "/mcp/deep"].map(|suffix| format!("https://api.example.com{PLACE}{suffix}"));
    assert_eq!(status["resources"], json!(expected));
    let metrics = ports.send(&gateway, "GET", "/metrics", &operator);
    let series = "gateway_requests_total{route=\"gateway\",method=\"GET\",status=\"200\"} ";
    assert!(answer(&metrics).body.contains(series), "{}", answer(&metrics).body);

    let run = |command: Value| -> Value {
        let request = json!({ "command": command, "policy": { "name": "policy", "text": policy(), "files": {} } });
        serde_json::from_str(&portcullis_cli::run(&request.to_string())).unwrap()
    };
    let out = |command: Value| run(command)["out"].as_str().unwrap().to_owned();
    let table = out(json!("table"));
    let note = format!(
        "note: https://api.example.com{PLACE}/mcp leads clients of https://api.example.com/mcp (6 routes) to https://id.example"
    );
    assert!(table.contains(&note), "{table}");
    let lost: Vec<_> = table.lines().filter(|line| line.contains("gets no requests for")).collect();
    assert_eq!(
        lost,
        [format!("note: /{{*rest}} gets no requests for {PLACE} or below, which the gateway answers itself")]
    );
    let decide =
        |path: &str, caller: Value| out(json!({ "decide": { "method": "GET", "path": path, "caller": caller } }));
    let shown = decide(&format!("{PLACE}/mcp"), json!({}));
    assert!(shown.contains("\"resource\": \"https://api.example.com/mcp\""), "{shown}");
    let refused = decide("/mcp/both", json!({ "user": "ada", "scopes": ["run"] }));
    assert!(refused.ends_with("403: not this caller; it would need the scopes: run write"), "{refused}");
    let refused = decide("/mcp/role", json!({ "user": "ada" }));
    assert!(refused.ends_with("403: not this caller"), "{refused}");
}
