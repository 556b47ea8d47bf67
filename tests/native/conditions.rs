//! Rules on where a client is, which tenant a request is for, and how recent its login is. The list of attacks in
//! docs/standards/fine-grained-control.md is `each_attack_has_its_answer` and `each_mistake_is_refused`.

use portcullis::pipeline::Gateway;
use portcullis_policy::{Access, Principal, StepUp, check};
use serde_json::{Value, json};

use crate::{
    access::circumstances,
    fakes::{FakePorts, Seen, answer, header, setup, verdict},
    signer::{Signer, claims_at, issuer_table, with},
};

/// A policy of these routes, each with its rule.
fn policy(routes: &[(&str, &str)]) -> String {
    let mut text = issuer_table("id", 7, "");
    text += "\n[upstreams.app]\nurl = \"https://app.example\"\n";
    for (path, access) in routes {
        text +=
            &format!("\n[[routes]]\npath = \"{path}\"\nmethods = [\"GET\"]\nupstream = \"app\"\naccess = {access}\n");
    }
    text
}

const ROUTES: &[(&str, &str)] = &[
    ("/plain", "\"user\""),
    ("/office", "{ network = [\"192.0.2.0/24\", \"198.51.100.7\", \"2001:db8::/32\"] }"),
    ("/land", "{ country = [\"DE\", \"FR\"] }"),
    ("/here", "{ all = [{ country = [\"DE\"] }, { network = [\"192.0.2.0/24\"] }, { scopes = [\"pay\"] }] }"),
    ("/either", "{ any = [{ roles = [\"auditor\"] }, { network = [\"192.0.2.0/24\"] }] }"),
    ("/t/{tenant}/items", "{ claim = [\"org\", \"tenant\"], equals_path = \"tenant\" }"),
    ("/host", "{ claim = \"tenant\", equals_host = \"{tenant}.api.example.com\" }"),
    ("/both/{tenant}", "{ claim = \"tenant\", equals_path = \"tenant\", equals_host = \"{tenant}.api.example.com\" }"),
    ("/pay", "{ max_age = 300 }"),
    ("/sign", "{ acr = [\"urn:mfa\", \"urn:key\"] }"),
    ("/close", "{ all = [{ scopes = [\"pay\"] }, { max_age = 300 }, { acr = [\"urn:key\"] }] }"),
];

fn gateway() -> (Gateway, FakePorts) {
    setup(&policy(ROUTES))
}

fn token(ports: &FakePorts, changes: &Value) -> String {
    Signer::new(7).sign("at+jwt", &with(claims_at(ports.now.get().secs()), changes))
}

/// Sends a request with a token of these claims, from an address, a country, and to a host.
fn send(
    (gateway, ports): &(Gateway, FakePorts),
    path: &str,
    claims: &Value,
    (address, country, host): (&str, &str, &str),
    more: &[(&str, &str)],
) -> Seen {
    let bearer = format!("Bearer {}", token(ports, claims));
    *ports.country.borrow_mut() = Some(country.to_owned()).filter(|country| !country.is_empty());
    let mut headers = vec![("authorization", bearer.as_str())];
    headers.extend(Some(("cf-connecting-ip", address)).filter(|_| !address.is_empty()));
    headers.extend(more);
    ports.send_to(&format!("https://{host}"), gateway, "GET", path, &headers)
}

const EDGE: &str = "edge.example";
const OK: (u16, &str) = (200, "ok");
const NO: (u16, &str) = (403, "rights_missing");
const LOGIN: (u16, &str) = (401, "authentication_insufficient");
const AMBIGUOUS: (u16, &str) = (400, "path_ambiguous");

#[test]
fn a_route_admits_clients_of_its_countries_and_networks() {
    let world = gateway();
    for (path, claims, (address, country), expected) in [
        ("/office", json!({}), ("192.0.2.1", ""), OK),
        ("/office", json!({}), ("192.0.3.1", ""), NO),
        ("/office", json!({}), ("198.51.100.7", ""), OK),
        ("/office", json!({}), ("198.51.100.8", ""), NO),
        ("/office", json!({}), ("2001:db8:ffff::1", ""), OK),
        ("/office", json!({}), ("2001:DB8:0:0::1", ""), OK),
        ("/office", json!({}), ("2001:db9::1", ""), NO),
        ("/land", json!({}), ("", "DE"), OK),
        ("/land", json!({}), ("", "FR"), OK),
        ("/land", json!({}), ("", "US"), NO),
        ("/here", json!({ "scope": "pay" }), ("192.0.2.1", "DE"), OK),
        ("/here", json!({ "scope": "pay" }), ("192.0.2.1", "FR"), NO),
        ("/here", json!({ "scope": "pay" }), ("203.0.113.1", "DE"), NO),
        ("/here", json!({}), ("192.0.2.1", "DE"), NO),
        ("/either", json!({}), ("192.0.2.1", ""), OK),
        ("/either", json!({ "roles": ["auditor"] }), ("203.0.113.1", ""), OK),
        ("/either", json!({ "roles": ["auditors"] }), ("203.0.113.1", ""), NO),
    ] {
        // A cached token is checked by the same rules.
        for _ in 0..2 {
            let seen = send(&world, path, &claims, (address, country, EDGE), &[]);
            assert_eq!(verdict(&seen), expected, "{path} {claims} {address} {country}");
        }
    }
}

#[test]
fn a_condition_alone_needs_a_token() {
    let (gateway, ports) = gateway();
    *ports.country.borrow_mut() = Some("DE".to_owned());
    for path in ["/office", "/land", "/host", "/pay", "/sign"] {
        let seen = ports.send(&gateway, "GET", path, &[("cf-connecting-ip", "192.0.2.1")]);
        assert_eq!(verdict(&seen), (401, "credentials_missing"), "{path}");
    }
}

#[test]
fn the_platform_is_asked_for_the_country_only_by_rules_that_need_it() {
    let world = gateway();
    for (path, times) in [("/plain", 0), ("/office", 0), ("/pay", 0), ("/host", 0), ("/land", 1)] {
        world.1.countries_asked.set(0);
        send(&world, path, &json!({}), ("192.0.2.1", "DE", EDGE), &[]);
        assert_eq!(world.1.countries_asked.get(), times, "{path}");
    }
}

#[test]
fn a_claim_equals_the_tenant_of_the_path_and_of_the_host() {
    let world = gateway();
    let (shop, host) = (json!({ "org": { "tenant": "shop" }, "tenant": "shop" }), "shop.api.example.com");
    for (path, claims, host, expected) in [
        ("/t/shop/items", &shop, EDGE, OK),
        ("/t/bank/items", &shop, EDGE, NO),
        ("/t/%73hop/items", &shop, EDGE, OK),
        ("/t/shop/items", &json!({ "tenant": "shop" }), EDGE, NO),
        ("/host", &shop, host, OK),
        ("/host", &shop, "shop.api.example.com:8443", OK),
        ("/host", &shop, "SHOP.API.Example.com", OK),
        ("/host", &shop, "bank.api.example.com", NO),
        ("/both/shop", &shop, host, OK),
        ("/both/bank", &shop, host, NO),
        ("/both/shop", &shop, "bank.api.example.com", NO),
    ] {
        let seen = send(&world, path, claims, ("", "", host), &[]);
        assert_eq!(verdict(&seen), expected, "{path} {claims} {host}");
    }
}

/// Seconds before now.
fn ago(ports: &FakePorts, seconds: u64) -> Value {
    json!({ "auth_time": ports.now.get().secs() - seconds })
}

#[test]
fn a_login_that_is_too_old_or_too_weak_is_answered_with_what_suffices() {
    let world = gateway();
    let (gateway, ports) = &world;
    let error = "Bearer realm=\"portcullis\", error=\"insufficient_user_authentication\", \
                 error_description=\"A more recent or a stronger login is required\"";
    let recent = ago(ports, 10);
    for (path, claims, expected) in [
        ("/pay", ago(ports, 300), ""),
        ("/pay", ago(ports, 301), ", max_age=\"300\""),
        ("/pay", json!({}), ", max_age=\"300\""),
        ("/sign", json!({ "acr": "urn:key" }), ""),
        ("/sign", json!({ "acr": "urn:password" }), ", acr_values=\"urn:mfa urn:key\""),
        ("/close", with(recent.clone(), &json!({ "scope": "pay", "acr": "urn:key" })), ""),
        ("/close", with(recent, &json!({ "scope": "pay" })), ", acr_values=\"urn:key\""),
        ("/close", json!({ "scope": "pay", "acr": "urn:mfa" }), ", acr_values=\"urn:key\", max_age=\"300\""),
    ] {
        let seen = send(&world, path, &claims, ("192.0.2.1", "", EDGE), &[]);
        if expected.is_empty() {
            assert_eq!(verdict(&seen), OK, "{path} {claims}");
            continue;
        }
        assert_eq!(verdict(&seen), LOGIN, "{path} {claims}");
        let challenge = header(answer(&seen), "www-authenticate").unwrap();
        assert_eq!(challenge, format!("{error}{expected}"), "{path} {claims}");
    }
    // The same token becomes too old while it is cached.
    let bearer = format!("Bearer {}", token(ports, &ago(ports, 250)));
    for (advance_ms, expected) in [(0, OK), (50_000, OK), (1_000, LOGIN)] {
        ports.advance(advance_ms);
        let seen = ports.send(gateway, "GET", "/pay", &[("authorization", &bearer)]);
        assert_eq!(verdict(&seen), expected, "{advance_ms}");
    }
}

#[test]
fn a_refused_login_is_no_guess() {
    let limited = policy(ROUTES) + "\n[limits.guesses]\nby = \"failed_ip\"\n";
    let world = setup(&limited);
    for _ in 0..5 {
        assert_eq!(verdict(&send(&world, "/pay", &json!({}), ("192.0.2.1", "", EDGE), &[])), LOGIN);
    }
    assert_eq!(*world.1.counted.borrow(), [].into());
}

#[test]
fn the_scopes_of_a_resource_are_asked_for_with_the_login() {
    let text = policy(ROUTES).replacen("[issuers", "public_url = \"https://edge.example\"\n[issuers", 1);
    let world = setup(&(text + "\n[[resources]]\npath = \"/\"\nauthorization_servers = [\"https://id.example\"]\n"));
    let challenge = |path: &str, claims: &Value| {
        let seen = send(&world, path, claims, ("203.0.113.1", "US", EDGE), &[]);
        header(answer(&seen), "www-authenticate").unwrap().to_owned()
    };
    let all = challenge("/close", &json!({}));
    assert!(all.contains("acr_values=\"urn:key\", max_age=\"300\", scope=\"pay\", resource_metadata="), "{all}");
    // No scope suffices for a client in another country.
    let elsewhere = challenge("/here", &json!({}));
    assert!(elsewhere.contains("insufficient_scope") && !elsewhere.contains(" scope="), "{elsewhere}");
}

#[test]
fn pages_may_read_which_login_suffices() {
    let text = policy(ROUTES).replace("access = { max_age", "cors = \"app\"\naccess = { max_age");
    let world = setup(&(text + "\n[cors.app]\norigins = [\"https://app.example\"]\n"));
    let seen = send(&world, "/pay", &json!({}), ("", "", EDGE), &[("origin", "https://app.example")]);
    let exposed = header(answer(&seen), "access-control-expose-headers").unwrap();
    assert!(exposed.ends_with("www-authenticate"), "{exposed}");
}

#[test]
fn each_attack_has_its_answer() {
    let world = gateway();
    let (shop, host) = (json!({ "tenant": "shop", "org": { "tenant": "shop" } }), "shop.api.example.com");
    let now = world.1.now.get().secs();
    let tenant = |value: Value| json!({ "tenant": value, "org": { "tenant": value } });
    let at = |value: Value| json!({ "auth_time": value });
    let none = json!({});
    let nowhere = ("203.0.113.1", "US", EDGE);
    for (attack, path, claims, from, headers, expected) in [
        ("a forged country", "/land", none.clone(), nowhere, &[("cf-ipcountry", "DE")][..], NO),
        ("a forged country of an unknown client", "/land", none.clone(), ("", "", EDGE), &[("cf-ipcountry", "DE")], NO),
        ("a forged address", "/office", none.clone(), nowhere, &[("x-forwarded-for", "192.0.2.1")], NO),
        ("another header", "/office", none.clone(), nowhere, &[("x-real-ip", "192.0.2.1")], NO),
        ("another client", "/office", none.clone(), nowhere, &[("forwarded", "for=192.0.2.1")], NO),
        ("True-Client-IP", "/office", none.clone(), nowhere, &[("true-client-ip", "192.0.2.1")], NO),
        ("no address", "/office", none.clone(), ("", "", EDGE), &[], NO),
        ("two addresses", "/office", none.clone(), ("192.0.2.1, 203.0.113.1", "", EDGE), &[], NO),
        ("an address with a port", "/office", none.clone(), ("192.0.2.1:80", "", EDGE), &[], NO),
        ("octal", "/office", none.clone(), ("192.0.02.1", "", EDGE), &[], NO),
        ("a zone", "/office", none.clone(), ("2001:db8::1%eth0", "", EDGE), &[], NO),
        // The same client, however it is written.
        ("IPv4-mapped", "/office", none.clone(), ("::ffff:192.0.2.1", "", EDGE), &[], OK),
        ("IPv4-mapped, another", "/office", none.clone(), ("::ffff:203.0.113.1", "", EDGE), &[], NO),
        ("IPv4-compatible", "/office", none.clone(), ("::192.0.2.1", "", EDGE), &[], NO),
        ("NAT64", "/office", none.clone(), ("64:ff9b::192.0.2.1", "", EDGE), &[], NO),
        ("no country", "/land", none.clone(), ("", "", EDGE), &[], NO),
        ("Tor", "/land", none.clone(), ("", "T1", EDGE), &[], NO),
        ("an unknown country", "/land", none.clone(), ("", "XX", EDGE), &[], NO),
        ("lower case", "/land", none.clone(), ("", "de", EDGE), &[], NO),
        ("two countries", "/land", none, ("", "DE,US", EDGE), &[], NO),
        ("a claim that says where", "/land", json!({ "country": "DE" }), nowhere, &[], NO),
        ("another tenant's path, encoded", "/t/%62ank/items", shop.clone(), nowhere, &[], NO),
        ("another case", "/t/Shop/items", shop.clone(), nowhere, &[], NO),
        ("encoded twice", "/t/%2573hop/items", shop.clone(), nowhere, &[], AMBIGUOUS),
        ("a slash", "/t/shop%2Fx/items", tenant(json!("shop/x")), nowhere, &[], AMBIGUOUS),
        ("a parameter", "/t/shop;x/items", tenant(json!("shop;x")), nowhere, &[], AMBIGUOUS),
        ("dots", "/t/bank/../shop/items", shop.clone(), nowhere, &[], AMBIGUOUS),
        ("a space at the end", "/t/shop%20/items", shop.clone(), nowhere, &[], NO),
        ("a query", "/t/bank/items?tenant=shop", shop.clone(), nowhere, &[], NO),
        ("the parameter's name", "/t/%7Btenant%7D/items", tenant(json!("tenant")), nowhere, &[], NO),
        ("a list of tenants", "/t/shop/items", tenant(json!(["shop", "bank"])), nowhere, &[], NO),
        ("a tenant that is a number", "/t/7/items", tenant(json!(7)), nowhere, &[], NO),
        ("no tenant", "/t/null/items", tenant(Value::Null), nowhere, &[], NO),
        ("an empty tenant", "/host", tenant(json!("")), ("", "", "api.example.com"), &[], NO),
        ("a dot at the end of the host", "/host", shop.clone(), ("", "", "shop.api.example.com."), &[], NO),
        ("another suffix", "/host", shop.clone(), ("", "", "shop.api.example.com.evil.example"), &[], NO),
        ("another domain", "/host", shop.clone(), ("", "", "shop.evil-api.example.com"), &[], NO),
        ("two labels", "/host", tenant(json!("a.shop")), ("", "", "a.shop.api.example.com"), &[], NO),
        ("the domain itself", "/host", tenant(json!("api")), ("", "", "api.example.com"), &[], NO),
        ("a tenant in upper case", "/host", tenant(json!("SHOP")), ("", "", "SHOP.api.example.com"), &[], NO),
        ("an empty port", "/host", shop.clone(), ("", "", "shop.api.example.com:"), &[], NO),
        ("a forwarded host", "/host", shop, nowhere, &[("x-forwarded-host", host)], NO),
        ("auth_time as text", "/pay", at(json!(now.to_string())), nowhere, &[], LOGIN),
        ("auth_time in the future", "/pay", at(json!(now + 3_600)), nowhere, &[], LOGIN),
        ("auth_time within the leeway", "/pay", at(json!(now + 20)), nowhere, &[], OK),
        ("auth_time in milliseconds", "/pay", at(json!(now * 1_000)), nowhere, &[], LOGIN),
        ("a negative auth_time", "/pay", at(json!(-1)), nowhere, &[], LOGIN),
        ("auth_time beyond all times", "/pay", at(json!(1e300)), nowhere, &[], LOGIN),
        ("auth_time in a list", "/pay", at(json!([now])), nowhere, &[], LOGIN),
        ("a fresh token of an old login", "/pay", at(json!(now - 3_600)), nowhere, &[], LOGIN),
        ("acr as a list", "/sign", json!({ "acr": ["urn:key"] }), nowhere, &[], LOGIN),
        ("acr with two values", "/sign", json!({ "acr": "urn:mfa urn:key" }), nowhere, &[], LOGIN),
        ("acr in another case", "/sign", json!({ "acr": "URN:KEY" }), nowhere, &[], LOGIN),
        ("a number as acr", "/sign", json!({ "acr": 2 }), nowhere, &[], LOGIN),
        ("amr in place of acr", "/sign", json!({ "amr": ["urn:key"] }), nowhere, &[], LOGIN),
        ("acr_values in place of acr", "/sign?acr=urn:key", json!({ "acr_values": "urn:key" }), nowhere, &[], LOGIN),
    ] {
        world.1.forwarded.borrow_mut().clear();
        let seen = send(&world, path, &claims, from, headers);
        assert_eq!(verdict(&seen), expected, "{attack}");
        assert_eq!(world.1.forwarded.borrow().len(), usize::from(expected == OK), "{attack}");
    }
}

#[test]
fn each_mistake_is_refused() {
    for (access, words) in [
        ("{ network = [] }", "network is empty"),
        ("{ network = [\"192.0.2.1/24\"] }", "has bits behind its prefix"),
        ("{ network = [\"192.0.2.0/33\"] }", "no valid prefix"),
        ("{ network = [\"192.0.2.0/024\"] }", "no valid prefix"),
        ("{ network = [\"192.0.2.0/+24\"] }", "no valid prefix"),
        ("{ network = [\"0.0.0.0/0\"] }", "no valid prefix"),
        ("{ network = [\"192.0.2.0/\"] }", "no valid prefix"),
        ("{ network = [\"192.0.2\"] }", "is no network"),
        ("{ network = [\"office.example\"] }", "is no network"),
        ("{ network = [\"::ffff:192.0.2.0/120\"] }", "IPv4-mapped"),
        ("{ network = \"192.0.2.0/24\" }", "sequence"),
        ("{ country = [] }", "country is empty"),
        ("{ country = [\"de\"] }", "ISO 3166-1"),
        ("{ country = [\"UK\"] }", "ISO 3166-1"),
        ("{ country = [\"XX\"] }", "ISO 3166-1"),
        ("{ country = [\"T1\"] }", "ISO 3166-1"),
        ("{ country = [\"DEU\"] }", "ISO 3166-1"),
        ("{ any = [\"public\", { country = [\"DE\"] }] }", "open the whole route"),
        ("{ all = [\"public\", { country = [\"DE\"] }] }", "open the whole route"),
        ("{ claim = \"a\", equals_path = \"tenant\" }", "is not a parameter of the path"),
        ("{ claim = \"a\", equals_path = \"id\", equals = \"x\" }", "unknown field `equals`"),
        ("{ claim = \"\", equals_path = \"id\" }", "a claim is a name"),
        ("{ equals_path = \"id\" }", "missing field `claim`"),
        ("{ claim = \"a\", equals_host = \"api.example.com\" }", "placeholder for its first label"),
        ("{ claim = \"a\", equals_host = \"x-{t}.example.com\" }", "placeholder for its first label"),
        ("{ claim = \"a\", equals_host = \"{t}.Example.com\" }", "placeholder for its first label"),
        ("{ claim = \"a\", equals_host = \"{t}.example.com.\" }", "placeholder for its first label"),
        ("{ claim = \"a\", equals_host = \"{t}.example.com:8443\" }", "placeholder for its first label"),
        ("{ claim = \"a\", equals_host = \"{t}\" }", "placeholder for its first label"),
        ("{ claim = \"a\", equals_host = \"{t}.{u}.example.com\" }", "placeholder for its first label"),
        ("{ max_age = 0 }", "out of range"),
        ("{ max_age = 3000000 }", "out of range"),
        ("{ max_age = \"5m\" }", "u64"),
        ("{ acr = [] }", "acr is empty"),
        ("{ acr = [\"a b\"] }", "challenges list values"),
        ("{ acr = [\"a\\\"\"] }", "challenges list values"),
        ("{ max_age = 300, acr = [\"a\"] }", "one key"),
        ("{ claim = \"tenant\", equals_path = [\"id\"] }", "string"),
    ] {
        let mistakes = check(&policy(&[("/a/{id}", access)])).err().unwrap_or_else(|| panic!("{access} is accepted"));
        assert!(mistakes[0].message.contains(words), "{access}: {mistakes:?}");
    }
}

#[test]
fn another_login_is_asked_for_only_if_it_suffices() {
    let rule = |value: Value| -> Access { serde_json::from_value(value).unwrap() };
    let (pay, old, key) = (json!({ "scopes": ["pay"] }), json!({ "max_age": 60 }), json!({ "acr": ["key", "mfa"] }));
    let step_up = |max_age_s: Option<u64>, acr_values: &str, scopes: &str| {
        let [acr_values, scopes] = [acr_values, scopes].map(str::to_owned);
        Some(StepUp { max_age_s, acr_values, scopes })
    };
    let mut route: portcullis_policy::Route =
        serde_json::from_value(json!({ "path": "/", "methods": ["GET"], "upstream": "a", "access": "user" })).unwrap();
    for (value, expected) in [
        (json!({ "all": [old, key] }), step_up(Some(60), "key mfa", "")),
        (json!({ "all": [old, { "max_age": 30 }] }), step_up(Some(30), "", "")),
        (json!({ "all": [key, { "acr": ["mfa", "pin"] }] }), step_up(None, "mfa", "")),
        (json!({ "all": [key, { "acr": ["pin"] }] }), None),
        (json!({ "all": [old, pay] }), step_up(Some(60), "", "pay")),
        (json!({ "all": [old, { "roles": ["admin"] }] }), None),
        (json!({ "all": [old, { "network": ["192.0.2.0/24"] }] }), None),
        (json!({ "any": [old, { "roles": ["admin"] }] }), step_up(Some(60), "", "")),
        (json!({ "any": [old, pay] }), None),
    ] {
        route.access = rule(value.clone());
        let principal = Principal { user_id: "ada", roles: &[], scopes: &[], claims: &[] };
        let params = Vec::new();
        let refusal = portcullis_policy::authorize(&route, &circumstances(&params), "id", principal).unwrap_err();
        let found = match refusal {
            portcullis_policy::Refusal::LoginInsufficient { step_up } => Some(step_up),
            _ => None,
        };
        assert_eq!(found, expected, "{value}");
        // A caller who is not known yet is asked for scopes alone.
        assert_eq!(
            route.access.needed_scopes(None),
            if value.to_string().contains("pay") && value["all"].is_array() { "pay" } else { "" },
            "{value}"
        );
    }
}

#[test]
fn the_policy_tool_decides_by_the_conditions_as_well() {
    let text = policy(ROUTES);
    let run = |command: Value| -> Value {
        let request = json!({ "command": command, "policy": { "name": "policy", "text": text, "files": {} } });
        serde_json::from_str(&portcullis_cli::run(&request.to_string())).unwrap()
    };
    let table = run(json!("table"))["out"].as_str().unwrap().to_owned();
    for words in [
        "network 192.0.2.0/24 or 198.51.100.7/32 or 2001:db8::/32",
        "country DE or FR",
        "claim org/tenant = {tenant} ",
        "claim tenant = {tenant} = {tenant}.api.example.com",
        "a login at most 300 s ago",
        "acr urn:mfa or urn:key",
    ] {
        assert!(table.contains(words), "{words}: {table}");
    }
    let decide = |path: &str, caller: Value, origin: Value| {
        let command = json!({ "method": "GET", "path": path, "caller": caller, "origin": origin });
        run(json!({ "decide": command }))["out"].as_str().unwrap().to_owned()
    };
    let user = || json!({ "user": "ada" });
    for (path, caller, origin, end) in [
        ("/office", user(), json!({ "address": "192.0.2.1" }), "\nyes"),
        ("/office", user(), json!({}), "\n403: not this caller"),
        ("/land", user(), json!({ "country": "DE" }), "\nyes"),
        ("/land", json!({}), json!({ "country": "DE" }), "say who calls"),
        ("/host", json!({ "claims": [[["tenant"], "shop"]] }), json!({ "host": "shop.api.example.com" }), "\nyes"),
        (
            "/pay",
            json!({ "claims": [[["auth_time"], 1_000]] }),
            json!({ "now_ms": 1_301_000 }),
            "\n401: the caller needs a login at most 300 s ago (auth_time)",
        ),
        ("/sign", user(), json!({}), "\n401: the caller needs a login of acr urn:mfa urn:key"),
    ] {
        let out = decide(path, caller, origin);
        assert!(out.ends_with(end), "{path}: {out}");
    }
}
