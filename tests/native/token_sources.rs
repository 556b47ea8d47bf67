//! Tokens in a header that their issuer names, and keys that the policy holds. The list of attacks in
//! docs/standards/token-sources.md is `each_attack_has_its_answer`.

use portcullis::pipeline::{Gateway, Outcome};
use portcullis_token::limits::TOKEN_BYTES;
use serde_json::{Value, json};

use crate::{
    fakes::{FakePorts, Seen, Vectors, gateway_of, parse_changes, verdict},
    signer::{Signer, claims_at, issuer_table, with},
};

const ACCESS: &str = "cf-access-jwt-assertion";
const CUSTOM: &str = "x-api-token";

/// Issuers with their keys in the policy: `id` sends tokens in `Authorization`, `access` in `ACCESS`, and `custom` and
/// `twin` in `CUSTOM`.
fn policy() -> String {
    let route = |path: &str, issuers: &str, more: &str| {
        format!(
            "[[routes]]\npath = \"{path}\"\nmethods = [\"GET\", \"POST\"]\nupstream = \"app\"\n\
             access = \"user\"\nissuers = {issuers}\n{more}\n"
        )
    };
    [
        issuer_table("id", 1, "revocable = true"),
        issuer_table("access", 2, "token_header = \"Cf-Access-Jwt-Assertion\"\nrevocations_from = \"access\""),
        issuer_table("custom", 3, "token_header = \"X-Api-Token\""),
        issuer_table("twin", 4, "token_header = \"x-API-token\""),
        "[token_cookie]\nname = \"__Host-token\"\n[cors.app]\norigins = [\"https://app.example\"]\n\
         credentials = true\n[upstreams.app]\nurl = \"https://app.example\"\n"
            .to_owned(),
        route("/all", "[\"id\", \"access\", \"custom\", \"twin\"]", "token_cookie = true\ncors = \"app\""),
        route("/id", "[\"id\"]", "token_cookie = true"),
        route("/access", "[\"access\"]", "token_cookie = true\nforward_authorization = true"),
        "[[routes]]\npath = \"/open\"\nmethods = [\"GET\"]\nupstream = \"app\"\naccess = \"public\"\n".to_owned(),
    ]
    .concat()
}

fn gateway() -> Gateway {
    gateway_of(&policy())
}

fn token_of(name: &str, seed: u8) -> String {
    let iss = json!({ "iss": format!("https://{name}.example") });
    Signer::new(seed).sign("JWT", &with(claims_at(Vectors::load().now), &iss))
}

fn tokens() -> [String; 4] {
    [token_of("id", 1), token_of("access", 2), token_of("custom", 3), token_of("twin", 4)]
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// The headers of the only request that a service got.
fn forwarded(ports: &FakePorts) -> Vec<(String, String)> {
    let mut sent = ports.forwarded.borrow_mut();
    assert_eq!(sent.len(), 1);
    sent.remove(0).headers
}

fn value<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

const OK: (u16, &str) = (200, "ok");
const MISSING: (u16, &str) = (401, "credentials_missing");
const MALFORMED: (u16, &str) = (401, "credentials_malformed");
const AMBIGUOUS: (u16, &str) = (401, "credentials_ambiguous");
const MISPLACED: (u16, &str) = (401, "token_source_invalid");
const CROSS_SITE: (u16, &str) = (403, "cross_site");

#[test]
fn a_token_is_accepted_from_the_source_of_its_issuer() {
    let (gateway, ports) = (gateway(), FakePorts::new());
    let [id, access, custom, twin] = &tokens();
    let cookie = format!("__Host-token={id}");
    for (what, path, headers) in [
        ("Authorization", "/all", &[("authorization", &*bearer(id))][..]),
        ("the cookie", "/all", &[("cookie", &cookie)]),
        ("a token header", "/all", &[(ACCESS, access)]),
        ("a token header on a route of its issuer", "/access", &[(ACCESS, access)]),
        ("another token header", "/all", &[(CUSTOM, custom)]),
        ("the token header of two issuers", "/all", &[(CUSTOM, twin)]),
        // What is no source of the route is ignored.
        ("a token header that the route does not use", "/id", &[("authorization", &bearer(id)), (ACCESS, access)]),
        (
            "Authorization, which the route does not use",
            "/access",
            &[("authorization", "Basic eA=="), (ACCESS, access)],
        ),
        ("a cookie that the route does not use", "/access", &[("cookie", &cookie), (ACCESS, access)]),
        ("the empty cookie of a logout", "/all", &[("cookie", "__Host-token="), (ACCESS, access)]),
        // Another host of the domain can set these.
        ("a look-alike of the cookie", "/all", &[("cookie", "a=1, __Host-token=x"), (ACCESS, access)]),
        ("a cookie that is no token", "/all", &[("cookie", "__Host-token=\"x\""), (ACCESS, access)]),
    ] {
        assert_eq!(verdict(&ports.send(&gateway, "GET", path, headers)), OK, "{what}");
        assert_eq!(value(&forwarded(&ports), "x-user-id"), Some("ada"), "{what}");
    }
}

#[test]
fn each_attack_has_its_answer() {
    let [id, access, custom, _] = &tokens();
    let claims = with(claims_at(Vectors::load().now), &json!({ "iss": "https://access.example" }));
    let none = Signer::new(2).sign_as(&json!({ "alg": "none", "kid": "2" }), &claims);
    let unsigned = format!("{}.", none.rsplit_once('.').unwrap().0);
    let stranger = Signer::new(9).sign_as(&json!({ "alg": "EdDSA", "kid": "2" }), &claims);
    let (joined, scheme, long) = (format!("{access}, {access}"), bearer(access), "a".repeat(TOKEN_BYTES + 1));
    let (id_bearer, id_cookie) = (bearer(id), format!("__Host-token={id}"));
    for (attack, path, headers, expected) in [
        ("two different tokens", "/all", &[("authorization", &*id_bearer), (ACCESS, access)][..], AMBIGUOUS),
        ("the same token twice", "/all", &[("authorization", &scheme), (ACCESS, access)], AMBIGUOUS),
        ("a token and a password", "/all", &[("authorization", "Basic eA=="), (ACCESS, access)], AMBIGUOUS),
        ("a token and an empty Authorization", "/all", &[("authorization", ""), (ACCESS, access)], AMBIGUOUS),
        ("a header and the cookie", "/all", &[("cookie", &id_cookie), (ACCESS, access)], AMBIGUOUS),
        (
            "a header and two cookies",
            "/all",
            &[("cookie", "__Host-token=; __Host-token=x"), (ACCESS, access)],
            AMBIGUOUS,
        ),
        ("two token headers", "/all", &[(ACCESS, access), (CUSTOM, custom)], AMBIGUOUS),
        ("an empty second token header", "/all", &[(ACCESS, access), (CUSTOM, "")], AMBIGUOUS),
        ("a token moved to Authorization", "/all", &[("authorization", &scheme)], MISPLACED),
        ("and where the header is the only source", "/access", &[("authorization", &scheme)], MISSING),
        ("and to the cookie there", "/access", &[("cookie", &format!("__Host-token={access}"))], MISSING),
        ("another issuer's token there", "/access", &[("authorization", &id_bearer)], MISSING),
        ("a token moved to the cookie", "/all", &[("cookie", &format!("__Host-token={access}"))], MISPLACED),
        ("a token of Authorization in a header", "/all", &[(ACCESS, id)], MISPLACED),
        ("a token in the header of another issuer", "/all", &[(CUSTOM, access)], MISPLACED),
        ("a header that the route does not use", "/id", &[(ACCESS, access)], MISSING),
        ("its token in Authorization there", "/id", &[("authorization", &scheme)], MISPLACED),
        ("another spelling of the header", "/all", &[("cf_access_jwt_assertion", access)], MISSING),
        ("two lines of the header", "/all", &[(ACCESS, &joined)], MALFORMED),
        ("an empty header", "/all", &[(ACCESS, "")], MALFORMED),
        ("a header with a scheme", "/all", &[(ACCESS, &scheme)], MALFORMED),
        ("a header that is too long", "/all", &[(ACCESS, &long)], (401, "token_too_large")),
        ("the algorithm none", "/all", &[(ACCESS, &none)], (401, "token_algorithm_not_allowed")),
        ("no signature", "/all", &[(ACCESS, &unsigned)], (401, "token_signature_invalid")),
        ("the key of a stranger", "/all", &[(ACCESS, &stranger)], (401, "token_signature_invalid")),
    ] {
        // With the token unknown, and with it in the cache of tokens.
        for is_cached in [false, true] {
            let (gateway, ports) = (gateway(), FakePorts::new());
            if is_cached {
                for (name, token) in [("authorization", &id_bearer), (ACCESS, access), (CUSTOM, custom)] {
                    assert_eq!(verdict(&ports.send(&gateway, "GET", "/all", &[(name, token)])), OK);
                }
                ports.forwarded.borrow_mut().clear();
            }
            let handled = ports.send(&gateway, "GET", path, headers);
            assert_eq!(verdict(&handled), expected, "{attack}, cached: {is_cached}");
            assert!(ports.forwarded.borrow().is_empty(), "{attack}");
            // Nothing is verified that is no source of the route.
            assert!(is_cached || ports.checks.get() == 0 || ![MISSING, AMBIGUOUS].contains(&expected), "{attack}");
        }
    }
}

#[test]
fn a_token_header_never_reaches_a_service() {
    let (gateway, ports) = (gateway(), FakePorts::new());
    let [_, access, _, _] = &tokens();
    for (path, headers) in [
        ("/open", &[(ACCESS, &**access), (CUSTOM, "x")][..]),
        ("/open", &[("x_api_token", "x"), ("x.api.token", "x"), ("cf_access_jwt_assertion", "x")]),
        // Access lets browsers keep the same token in a cookie.
        ("/open", &[("cookie", "CF_Authorization=x.y; a=1; __Host-token=x")]),
        ("/access", &[("cookie", "a=1; CF_Authorization=x.y"), (ACCESS, access)]),
        ("/access", &[(ACCESS, access), (CUSTOM, "x")]),
        // `Connection` can remove only headers of the client.
        ("/access", &[("connection", "cf-access-jwt-assertion, x-user-id, x-gateway-assertion"), (ACCESS, access)]),
    ] {
        assert_eq!(verdict(&ports.send(&gateway, "GET", path, headers)), OK, "{headers:?}");
        let sent = forwarded(&ports);
        let is_token_header = |name: &str| [ACCESS, CUSTOM].contains(&&*name.replace(['_', '.'], "-"));
        assert!(!sent.iter().any(|(name, _)| is_token_header(name)), "{headers:?}: {sent:?}");
        let cookie = value(&sent, "cookie");
        assert_eq!(cookie, headers.iter().any(|(name, _)| *name == "cookie").then_some("a=1"), "{headers:?}");
        assert_eq!(value(&sent, "x-user-id").is_some(), path == "/access", "{headers:?}");
    }
}

#[test]
fn a_service_gets_the_verified_token_in_authorization_if_the_policy_says_so() {
    let (gateway, ports) = (gateway(), FakePorts::new());
    let [id, access, _, _] = &tokens();
    for headers in [&[(ACCESS, &**access)][..], &[("authorization", &bearer(id)), (ACCESS, access)]] {
        assert_eq!(verdict(&ports.send(&gateway, "GET", "/access", headers)), OK);
        assert_eq!(value(&forwarded(&ports), "authorization"), Some(&*bearer(access)));
    }
}

/// A proxy that authenticates browsers by a cookie adds its header to a request of any page.
#[test]
fn a_browsers_request_with_a_token_header_needs_an_allowed_page() {
    let (gateway, ports) = (gateway(), FakePorts::new());
    let [_, access, _, _] = &tokens();
    let cross = ("sec-fetch-site", "cross-site");
    for (method, headers, expected) in [
        ("POST", &[][..], OK),
        ("GET", &[], OK),
        ("POST", &[("sec-fetch-site", "same-origin")], OK),
        ("POST", &[("origin", "https://edge.example")], OK),
        ("POST", &[cross, ("origin", "https://app.example")], OK),
        ("GET", &[cross, ("sec-fetch-mode", "navigate")], OK),
        ("POST", &[cross], CROSS_SITE),
        ("POST", &[cross, ("sec-fetch-mode", "navigate")], CROSS_SITE),
        ("POST", &[("origin", "https://evil.example")], CROSS_SITE),
        ("POST", &[("origin", "null")], CROSS_SITE),
        ("GET", &[cross], CROSS_SITE),
        ("GET", &[("upgrade", "websocket"), ("origin", "https://evil.example")], CROSS_SITE),
    ] {
        let handled = ports.send(&gateway, method, "/all", &[&[(ACCESS, &**access)], headers].concat());
        assert_eq!(verdict(&handled), expected, "{method} {headers:?}");
    }
}

/// Some proxies in front of the gateway have a cache before them, which does not see the token.
#[test]
fn shared_caches_store_no_answer_for_a_user_unless_the_service_says_so() {
    let text = policy() + "response_headers = { set = { Cache-Control = \"max-age=9\" } }\n";
    let text =
        text.replace("/open\"", "/set\"").replace("access = \"public\"", "access = \"user\"\nissuers = [\"access\"]");
    let (gateways, ports) = ([gateway(), gateway_of(&text)], FakePorts::new());
    let [id, access, _, _] = &tokens();
    let (bearer, cookie) = (bearer(id), format!("__Host-token={id}"));
    let (in_header, in_cookie, in_authorization) =
        ((ACCESS, &**access), ("cookie", &*cookie), ("authorization", &*bearer));
    for (path, credential, sent, is_private) in [
        ("/all", in_header, None, true),
        ("/all", in_header, Some("max-age=60, must-revalidate"), true),
        ("/all", in_header, Some("no-cache"), true),
        ("/all", in_header, Some("private=\"set-cookie\""), true),
        ("/all", in_header, Some("x-public"), true),
        ("/all", in_header, Some("max-age=60, no-cache=\"x-a, public\""), true),
        ("/all", in_header, Some("max-age=60, Public"), false),
        ("/all", in_header, Some("s-maxage=60"), false),
        ("/all", in_header, Some("PRIVATE , max-age=60"), false),
        ("/all", in_header, Some("no-store"), false),
        ("/all", in_cookie, None, true),
        ("/all", in_cookie, Some("max-age=60"), true),
        ("/all", in_cookie, Some("public"), false),
        ("/all", in_authorization, None, false),
        ("/all", in_authorization, Some("max-age=60"), false),
        ("/set", in_header, Some("public"), true),
    ] {
        *ports.answer_headers.borrow_mut() = sent.map(|value| ("cache-control", value)).into_iter().collect();
        let gateway = &gateways[usize::from(path == "/set")];
        let Seen { outcome, .. } = ports.send(gateway, "GET", path, &[credential, ("sec-fetch-site", "none")]);
        let Outcome::Forwarded { plan, .. } = outcome else { panic!("{outcome:?}") };
        let (_, added) = parse_changes(&plan.changes);
        assert_eq!(added.contains(&("cache-control", "private")), is_private, "{path} {credential:?} {sent:?}");
        assert_eq!(added.contains(&("vary", ACCESS)), credential == in_header, "{path} {credential:?} {sent:?}");
    }
}

#[test]
fn two_sources_are_no_guess_and_no_refusal_names_a_token() {
    let limit = "[limits.failed]\nby = \"failed_ip\"\n";
    let gateway = gateway_of(&format!("{limit}{}", policy()));
    let [id, access, _, _] = &tokens();
    for (headers, guesses) in [
        ([("authorization", &*bearer(id)), (ACCESS, access)], 0),
        ([("authorization", &bearer(access)), ("a", "b")], 1),
    ] {
        let ports = FakePorts::new();
        let handled =
            ports.send(&gateway, "GET", "/all", &[&[("cf-connecting-ip", "192.0.2.7")], &headers[..]].concat());
        assert_eq!(ports.counted.borrow().len(), guesses, "{headers:?}");
        let Outcome::Answered(answer) = handled.outcome else { panic!("forwarded") };
        let written = format!("{answer:?}{:?}", handled.record);
        assert!(![id, access].iter().any(|token| written.contains(token.as_str())), "{written}");
    }
}

#[test]
fn pushes_stay_in_authorization() {
    let (gateway, ports) = (gateway(), FakePorts::new());
    let now = Vectors::load().now;
    let claims = with(
        claims_at(now),
        &json!({ "iss": "https://access.example", "sub": "access", "aud": "portcullis", "token_type": "service" }),
    );
    let push = Signer::new(2).sign("service+jwt", &claims);
    *ports.body.borrow_mut() = br#"{"revocations":[{"token":"t"}]}"#.to_vec();
    for (headers, status) in [([("authorization", &*bearer(&push))], 200), ([(ACCESS, &push)], 401)] {
        assert_eq!(ports.send(&gateway, "POST", "/_gateway/revocations", &headers).record.status, status);
    }
}

#[test]
fn keys_of_the_policy_are_neither_fetched_nor_stored_and_do_not_expire() {
    let (gateway, ports) = (gateway(), FakePorts::new());
    let day_ms = 24 * 60 * 60 * 1000;
    for day in 0..3 {
        let now = ports.now.get().secs();
        let sign = |kid: &str| {
            let claims = with(claims_at(now), &json!({ "iss": "https://access.example" }));
            Signer::new(2).sign_as(&json!({ "alg": "EdDSA", "kid": kid }), &claims)
        };
        assert_eq!(verdict(&ports.send(&gateway, "GET", "/access", &[(ACCESS, &sign("2"))])), OK, "day {day}");
        let unknown = ports.send(&gateway, "GET", "/access", &[(ACCESS, &sign("3"))]);
        assert_eq!(verdict(&unknown), (401, "token_key_unknown"), "day {day}");
        assert_eq!(ports.send_as_operator(&gateway, "/ready").record.status, 200);
        futures_executor::block_on(gateway.run_scheduled(&ports));
        ports.run_tasks(&gateway);
        ports.advance(day_ms);
    }
    assert_eq!((ports.fetches.get(), ports.store_reads.get(), ports.store_writes.get()), (0, 0, 0));
    let Outcome::Answered(status) = ports.send_as_operator(&gateway, "/status").outcome else { panic!("forwarded") };
    let status: Value = serde_json::from_str(&status.body).unwrap();
    for issuer in status["issuers"].as_array().unwrap() {
        let shown =
            ["key_source", "keys", "keys_age_s", "last_refresh_s_ago", "status"].map(|name| issuer[name].clone());
        assert_eq!(shown, [json!("policy"), json!(1), Value::Null, Value::Null, json!("healthy")]);
    }
}

#[test]
fn a_token_header_has_no_other_use() {
    let check = |header: &str| portcullis_policy::check(&policy().replace("X-Api-Token", header));
    let free = "Cf-Access-Jwt-Assertion X-Goog-Iap-Jwt-Assertion x-auth-request-access-token X-Amzn-Oidc-Accesstoken \
                X-MS-TOKEN-AAD-ID-TOKEN X-Pomerium-Jwt-Assertion X-Authentik-Jwt X-Vouch-Idp-AccessToken Api-Token token \
                Accept-Token Cookie-Token Origin-Jwt Date-Token";
    free.split_whitespace().for_each(|header| assert!(check(header).is_ok(), "{header}"));
    let used = "Authorization authorization Proxy-Authorization Cookie Host Connection TE X-User-Id X_User_Token \
                X-Gateway-Assertion X-Internal-Token X-Service-Token X-Forwarded-Access-Token X-Request-Id traceparent \
                Origin Referer Sec-Fetch-Site Sec-WebSocket-Protocol Access-Control-Request-Headers User-Agent Accept \
                Content-Type Content-Length Content-Encoding CF-Connecting-IP CF-Ray Remote-User Client-Cert If-Match \
                If_None_Match Range Cache-Control Via Date Expect Priority X-Requested-With Idempotency-Key \
                Accept-Encoding Accept-Language";
    for header in used.split_whitespace() {
        let mistakes = check(header).unwrap_err();
        assert!(mistakes[0].message.contains("uses otherwise"), "{header}: {mistakes:?}");
    }
}

#[test]
fn requests_are_searched_for_sixteen_token_headers_at_most() {
    let issuers = |headers: usize| -> String {
        let issuer = |index: usize| {
            format!(
                "[issuers.more-{index}]\nissuer = \"https://more-{index}.example\"\naudience = [\"api\"]\n\
                 algorithms = [\"EdDSA\"]\njwks_url = \"https://more.example/jwks\"\ntoken_header = \"X-Token-{}\"\n",
                index % headers
            )
        };
        (0..20).map(issuer).collect()
    };
    // The policy has two of its own.
    for (headers, is_accepted) in [(1, true), (14, true), (15, false), (20, false)] {
        let checked = portcullis_policy::check(&(policy() + &issuers(headers)));
        assert_eq!(checked.is_ok(), is_accepted, "{headers}: {checked:?}");
        let mistakes = checked.err().unwrap_or_default();
        assert!(mistakes.iter().all(|mistake| mistake.message.contains("16 different token headers")), "{mistakes:?}");
    }
}

#[test]
fn each_key_of_a_policy_is_usable_or_reported() {
    let good = Signer::new(1).jwk();
    let key = |changes: Value| with(good.clone(), &changes);
    let (other, set) = (Signer::new(2).jwk(), |keys: &[&Value]| json!({ "keys": keys }).to_string());
    let rsa = json!({ "kty": "RSA", "e": "AQAB", "n": "u".repeat(171) });
    for (jwks, fault) in [
        (set(&[&good]), None),
        (set(&[&good, &other]), None),
        (
            with(json!({ "keys": [key(json!({ "x5c": ["AA"], "note": "c2VjcmV0" }))] }), &json!({ "d": "AA" }))
                .to_string(),
            None,
        ),
        (set(&[&key(json!({ "kid": null }))]), None),
        // RFC 7517, section 4.5.
        (set(&[&good, &with(other.clone(), &json!({ "kid": "1" }))]), None),
        (set(&[&good, &key(json!({ "d": "AA" }))]), Some("keys[1] is a private or symmetric key")),
        (set(&[&json!({ "kty": "oct", "k": "AA" })]), Some("keys[0] is a private or symmetric key")),
        (set(&[&json!({ "kty": "oct" })]), Some("keys[0] fits none of algorithms")),
        (set(&[&key(json!({ "alg": "none" }))]), Some("keys[0] fits none of algorithms")),
        (set(&[&key(json!({ "alg": "HS256" }))]), Some("keys[0] fits none of algorithms")),
        (set(&[&key(json!({ "use": "enc" }))]), Some("keys[0] is not for checking signatures")),
        (set(&[&key(json!({ "kid": 1 }))]), Some("keys[0] has a kid or an issuer")),
        (set(&[&key(json!({ "x": "AA" }))]), Some("keys[0] is malformed, too weak")),
        // A point of small order.
        (set(&[&key(json!({ "x": "A".repeat(43) }))]), Some("keys[0] is malformed, too weak")),
        (set(&[&rsa]), Some("keys[0] is malformed, too weak")),
        (set(&[&good, &good]), Some("keys[1] is there twice")),
        (
            format!("{{\"keys\":[{{\"kty\":\"OKP\",{}]}}", &good.to_string()[1..]),
            Some("keys[0] is not an object of unique"),
        ),
        ("{\"keys\":[7]}".to_owned(), Some("keys[0] is not an object")),
        (set(&[]), Some("has 0 keys; write 1 to 256")),
        (set(&vec![&good; 257]), Some("has 257 keys; write 1 to 256")),
        ("{}".to_owned(), Some("is not a key set")),
        ("<html>".to_owned(), Some("is not a key set")),
        (good.to_string(), Some("is not a key set")),
        (format!("{{\"a\":\"{}\"}}", "a".repeat(512 * 1024)), Some("has more than 524288 bytes")),
    ] {
        let head = "[issuers.id]\nissuer = \"https://id.example\"\naudience = [\"api\"]\nalgorithms = [\"EdDSA\", \"RS256\"]\n";
        let rest = "[upstreams.app]\nurl = \"https://app.example\"\n[[routes]]\npath = \"/me\"\nmethods = [\"GET\"]\n\
                    upstream = \"app\"\naccess = \"user\"\n";
        let files = [("keys/id.json".to_owned(), jwks.clone())].into();
        let in_file = portcullis_policy::check_with(&format!("{head}jwks_file = \"keys/id.json\"\n{rest}"), &files);
        let text = portcullis_policy::check(&format!("{head}jwks = '''{jwks}'''\n{rest}"));
        for (option, checked) in [("jwks_file", in_file), ("jwks", text)] {
            let Some(fault) = fault else {
                let written = checked.unwrap().issuers[0].jwks.clone().unwrap();
                // Of a file, only what the gateway needs is copied.
                assert_eq!(written.as_str() == Some(&*jwks), option == "jwks", "{option}");
                let written: Value = serde_json::from_str(written.as_str().unwrap()).unwrap();
                let members = ["alg", "crv", "kid", "kty", "x"];
                for key in written["keys"].as_array().unwrap().iter().filter(|_| option == "jwks_file") {
                    assert!(key.as_object().unwrap().keys().all(|name| members.contains(&&**name)), "{key}");
                }
                continue;
            };
            let mistakes = checked.unwrap_err();
            let [mistake] = &mistakes[..] else { panic!("{mistakes:?}") };
            assert!(mistake.message.contains(fault), "{option} {fault}: {mistake}");
            assert!(mistake.message.starts_with(&format!("issuer \"id\": {option} ")), "{mistake}");
            assert_eq!((mistake.line, mistake.column), (5, option.len() + 4), "{mistake}");
        }
    }
}

#[test]
fn a_key_set_is_written_as_a_table_or_as_text() {
    let jwk = Signer::new(1).jwk();
    let table = format!("{{ keys = [{{ kty = \"OKP\", crv = \"Ed25519\", kid = \"1\", x = {} }}] }}", jwk["x"]);
    let text = policy().replacen(&format!("'{}'", json!({ "keys": [jwk] })), &table, 1);
    assert!(text.contains(&table));
    let [id, ..] = &tokens();
    let handled = FakePorts::new().send_token(&gateway_of(&text), "GET", "/id", id);
    assert_eq!(verdict(&handled), OK);
}

/// As the Worker refuses them: it reads no files.
#[test]
fn a_pushed_policy_with_a_file_or_a_private_key_is_refused() {
    let document = |issuer: Value| {
        let base = json!({ "issuer": "https://id.example", "audience": ["api"], "algorithms": ["EdDSA"] });
        json!({
            "issuers": { "id": with(base, &issuer) },
            "upstreams": { "app": { "url": "https://app.example" } },
            "routes": [{ "path": "/me", "methods": ["GET"], "upstream": "app", "access": "user" }]
        })
    };
    let private = with(Signer::new(1).jwk(), &json!({ "d": "c2VjcmV0" }));
    for (issuer, words) in [
        (json!({ "jwks_file": "keys.json" }), "cannot be read"),
        (json!({ "jwks": { "keys": [private] } }), "is a private or symmetric key"),
        (json!({ "jwks": { "keys": [Signer::new(1).jwk()], "twice": 1 } }), "repeated member"),
        (json!({ "jwks": { "keys": [with(Signer::new(1).jwk(), &json!({ "twice": 1 }))] } }), "repeated member"),
    ] {
        // A member that is written twice: parsers understand it differently.
        let text = document(issuer).to_string().replace("\"twice\":1", "\"d\":\"c2VjcmV0\",\"d\":null");
        let fault = portcullis_policy::Policy::read(&text).unwrap_err();
        assert!(fault.contains(words) && !fault.contains("c2VjcmV0"), "{fault}");
    }
}

#[test]
fn a_policy_has_a_bounded_number_of_keys() {
    let keys = |count: u8| Vec::from_iter((0..count).map(|seed| Signer::new(seed).jwk()));
    for (sets, mistakes) in [(vec![128, 124], 0), (vec![128, 124, 3, 128], 1)] {
        // Four more are in `policy`.
        let issuers = sets.into_iter().enumerate().map(|(index, count)| {
            format!(
                "[issuers.i{index}]\nissuer = \"https://i{index}.example\"\naudience = [\"api\"]\n\
                 algorithms = [\"EdDSA\"]\njwks = '{}'\n",
                json!({ "keys": keys(count) })
            )
        });
        let text = issuers.collect::<String>() + &policy();
        let found = portcullis_policy::check(&text).err().unwrap_or_default();
        assert_eq!(found.len(), mistakes, "{found:?}");
        for mistake in found {
            let words = "with jwks, the policy has 257 keys, of all issuers together; write at most 256";
            assert!(mistake.message.contains(words), "{mistake}");
        }
    }
}
