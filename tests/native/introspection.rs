//! Introspection (RFC 7662). The list of attacks in docs/standards/introspection.md is
//! `each_answer_has_its_outcome`, `a_jwt_is_never_shown_to_the_endpoint` and the tests behind them.

use base64::{Engine as _, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis::pipeline::{Gateway, Misconfiguration, limits, wire::Fault};
use portcullis_policy::check;
use serde_json::{Value, json};

use crate::{
    fakes::{FakePorts, SECRET, Seen, answer, configured, header, setting, verdict},
    proofs::{CLIENT, proof_of, thumbprint},
    signer::{Signer, claims_at, issuer_table, with},
    token_cache::cache_of,
};

const PLACE: &str = "https://id.example/introspect";
const PARTNER_PLACE: &str = "https://partner.example/introspect";
const PARTNER: &str = "x-partner-token";
const HOME: &str = "192.0.2.1";

/// Two issuers of opaque tokens, one of them with tokens in a header, and one of JWTs.
fn policy() -> String {
    let route = |path: &str, more: &str| {
        format!("[[routes]]\npath = \"{path}\"\nmethods = [\"GET\", \"POST\"]\nupstream = \"app\"\n{more}\n")
    };
    let opaque = |name: &str, url: &str, client: &str, more: &str| {
        format!(
            "[issuers.{name}]\nissuer = \"https://{name}.example\"\naudience = [\"api\"]\n{more}\n\
             introspection = {{ url = \"{url}\"{client} }}\n"
        )
    };
    [
        "public_url = \"https://api.example.com\"\n".to_owned(),
        opaque("opaque", PLACE, ", client_id = \"gate:way\"", "revocable = true\nproof = \"optional\""),
        opaque("partner", PARTNER_PLACE, "", "token_header = \"X-Partner-Token\""),
        issuer_table("id", 7, ""),
        "[upstreams.app]\nurl = \"https://app.example\"\nassertion = { claims = [\"jti\", \"tenant\"] }\n".to_owned(),
        "[limits.guesses]\nby = \"failed_ip\"\n".to_owned(),
        route("/opaque", "access = \"user\"\nissuers = [\"opaque\"]"),
        route("/partner", "access = \"user\"\nissuers = [\"partner\"]"),
        route("/jwt", "access = \"user\"\nissuers = [\"id\"]"),
        route("/any", "access = \"user\"\nissuers = [\"opaque\", \"id\"]"),
        route("/admin", "access = { roles = [\"admin\"] }\nissuers = [\"opaque\"]"),
        route("/strict", "access = \"user\"\nissuers = [\"opaque\"]\nrevocation = \"strict\""),
        route("/logout", "access = \"user\"\nissuers = [\"opaque\"]\nends_session = true"),
    ]
    .concat()
}

fn settings(name: &str) -> Option<String> {
    match name {
        "INTROSPECTION_SECRET_OPAQUE" => Some("s3cret/with space".to_owned()),
        "INTROSPECTION_SECRET_PARTNER" => Some("partner-secret".to_owned()),
        name => setting(name),
    }
}

fn gateway() -> Gateway {
    configured(&policy(), settings).unwrap()
}

fn world() -> (Gateway, FakePorts) {
    let ports = FakePorts::new();
    states(&ports, &json!({}));
    (gateway(), ports)
}

/// The answer about an active token of `ada`, with these changes.
fn active(ports: &FakePorts, changes: &Value) -> Value {
    let now = ports.now.get().secs();
    let answer = json!({ "active": true, "token_type": "Bearer", "aud": "api", "sub": "ada" });
    with(with(answer, &json!({ "iat": now - 10, "exp": now + 900 })), changes)
}

fn states(ports: &FakePorts, changes: &Value) {
    answers(ports, 200, &active(ports, changes).to_string());
}

fn answers(ports: &FakePorts, status: u64, body: &str) {
    *ports.decision.borrow_mut() = Ok((status, body.to_owned()));
}

fn send((gateway, ports): &(Gateway, FakePorts), path: &str, token: &str, address: &str) -> Seen {
    let bearer = format!("Bearer {token}");
    ports.send(gateway, "GET", path, &[("authorization", &bearer), ("cf-connecting-ip", address)])
}

/// Returns the outcome of a request, and how many questions it caused.
fn outcome(world: &(Gateway, FakePorts), path: &str, token: &str) -> ((u16, &'static str), usize) {
    let before = world.1.questions.borrow().len();
    let seen = send(world, path, token, HOME);
    (verdict(&seen), world.1.questions.borrow().len() - before)
}

fn assertion(ports: &FakePorts) -> Value {
    let forwarded = ports.forwarded.borrow();
    let (_, jws) = forwarded.last().unwrap().headers.iter().find(|(name, _)| name == "x-gateway-assertion").unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(jws.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

const OK: (u16, &str) = (200, "ok");
const INACTIVE: (u16, &str) = (401, "token_inactive");
const REVOKED: (u16, &str) = (401, "token_revoked");
const LIMITED: (u16, &str) = (429, "rate_limited");
const UNAVAILABLE: (u16, &str) = (503, "introspection_unavailable");

#[test]
fn an_active_token_is_asked_about_once_and_its_answer_is_the_identity() {
    let world = world();
    let ports = &world.1;
    states(ports, &json!({ "scope": "read write", "roles": ["admin"], "client_id": "app", "tenant": "shop" }));
    let seen = send(&world, "/admin", "opaque-token-1", HOME);
    assert_eq!(
        (verdict(&seen), seen.record.cache, seen.record.user_id.as_deref()),
        (OK, Some("introspection"), Some("ada"))
    );
    {
        let questions = ports.questions.borrow();
        let [asked] = questions.as_slice() else { panic!("{questions:?}") };
        assert_eq!((asked.url.as_str(), &asked.body), (PLACE, &json!("opaque-token-1")));
        // RFC 6749, section 2.3.1: both parts are form-encoded first.
        let basic = format!("Basic {}", STANDARD.encode("gate%3Away:s3cret%2Fwith%20space"));
        assert_eq!(asked.authorization.as_deref(), Some(basic.as_str()));
        assert_eq!(asked.request_id, seen.record.request_id);
    }
    let claims = assertion(ports);
    assert_eq!((&claims["sub"], &claims["roles"]), (&json!("ada"), &json!(["admin"])));
    let text = format!("{:?} {}", ports.forwarded.borrow(), seen.record.to_json());
    assert!(!text.contains("opaque-token-1") && !text.contains("s3cret"), "{text}");
    let again = send(&world, "/admin", "opaque-token-1", HOME);
    assert_eq!((verdict(&again), again.record.cache, ports.questions.borrow().len()), (OK, Some("token"), 1));
    // The answer is no decision: each route has its own rule.
    states(ports, &json!({ "sub": "eve" }));
    assert_eq!(outcome(&world, "/admin", "opaque-token-2"), ((403, "rights_missing"), 1));
    assert_eq!(outcome(&world, "/opaque", "opaque-token-2"), (OK, 0));
    assert_eq!(outcome(&world, "/jwt", "opaque-token-2"), ((403, "rights_missing"), 0));
}

#[test]
fn the_example_of_the_rfc_needs_a_token_type() {
    // RFC 7662, section 2.2.
    let example = json!({
        "active": true, "client_id": "l238j323ds-23ij4", "username": "jdoe", "scope": "read write dolphin",
        "sub": "Z5O3upPC88QrAjx00dis", "aud": "https://protected.example.net/resource",
        "iss": "https://server.example.com/", "exp": 1_419_356_238, "iat": 1_419_350_238,
        "extension_field": "twenty-seven",
    });
    let policy = policy().replace("https://opaque.example", "https://server.example.com/").replacen(
        "audience = [\"api\"]",
        "audience = [\"https://protected.example.net/resource\"]",
        1,
    );
    let world = (configured(&policy, settings).unwrap(), FakePorts::new());
    world.1.now.set(portcullis_token::UnixMillis::from_secs(1_419_350_300));
    answers(&world.1, 200, &example.to_string());
    assert_eq!(outcome(&world, "/opaque", "2YotnFZFEjr1zCsicMWpAA").0, (401, "token_type_invalid"));
    answers(&world.1, 200, &with(example, &json!({ "token_type": "Bearer" })).to_string());
    let seen = send(&world, "/opaque", "mF_9.B5f-4.1JqM", HOME);
    assert_eq!((verdict(&seen), seen.record.user_id.as_deref()), (OK, Some("Z5O3upPC88QrAjx00dis")));
}

#[test]
fn each_answer_has_its_outcome() {
    let (gateway, ports) = world();
    let now = ports.now.get().secs();
    let long = active(&ports, &json!({ "x": "x".repeat(16 * 1024) })).to_string();
    let deep = format!("{{\"active\":true,\"x\":{}{}}}", "[".repeat(200), "]".repeat(200));
    let text = |changes: Value| active(&ports, &changes).to_string();
    let (wrong_type, wrong_issuer) = ((401, "token_type_invalid"), (401, "token_issuer_unknown"));
    let (wrong_audience, wrong_identity) = ((401, "token_audience_invalid"), (401, "token_identity_invalid"));
    let wrong_dates = (401, "token_dates_invalid");
    let cases = [
        ("active", 200, text(json!({})), OK, ""),
        ("another case of the type", 200, text(json!({ "token_type": "bearer" })), OK, ""),
        ("its own issuer", 200, text(json!({ "iss": "https://opaque.example" })), OK, ""),
        ("a list of audiences", 200, text(json!({ "aud": ["other", "api"] })), OK, ""),
        ("no dates", 200, text(json!({ "iat": null, "exp": null })), OK, ""),
        ("inactive", 200, r#"{"active":false}"#.to_owned(), INACTIVE, ""),
        ("inactive with the claims of an active one", 200, text(json!({ "active": false })), INACTIVE, ""),
        // What is no answer says nothing about the token.
        ("true as text", 200, text(json!({ "active": "true" })), UNAVAILABLE, "bad_answer"),
        ("false as text", 200, text(json!({ "active": "false" })), UNAVAILABLE, "bad_answer"),
        ("a number", 200, text(json!({ "active": 1 })), UNAVAILABLE, "bad_answer"),
        ("claims alone", 200, text(json!({ "active": null })), UNAVAILABLE, "bad_answer"),
        ("another case", 200, r#"{"Active":true,"sub":"ada"}"#.to_owned(), UNAVAILABLE, "bad_answer"),
        ("two answers", 200, r#"{"active":false,"active":true}"#.to_owned(), UNAVAILABLE, "bad_answer"),
        (
            "two users",
            200,
            text(json!({})).replace("\"sub\":\"ada\"", "\"sub\":\"ada\",\"sub\":\"root\""),
            UNAVAILABLE,
            "bad_answer",
        ),
        (
            "an answer within",
            200,
            json!({ "token_introspection": active(&ports, &json!({})) }).to_string(),
            UNAVAILABLE,
            "bad_answer",
        ),
        ("a list", 200, format!("[{}]", text(json!({}))), UNAVAILABLE, "bad_answer"),
        ("more behind it", 200, format!("{}{{}}", text(json!({}))), UNAVAILABLE, "bad_answer"),
        ("a page", 200, "<html>active</html>".to_owned(), UNAVAILABLE, "bad_answer"),
        ("nothing", 200, String::new(), UNAVAILABLE, "bad_answer"),
        ("too deep", 200, deep, UNAVAILABLE, "bad_answer"),
        ("too long", 200, long, UNAVAILABLE, "too_large"),
        ("created", 201, text(json!({})), UNAVAILABLE, "status"),
        ("no content", 204, String::new(), UNAVAILABLE, "status"),
        ("a redirect", 302, text(json!({})), UNAVAILABLE, "redirect"),
        ("a bad question", 400, text(json!({})), UNAVAILABLE, "status"),
        ("a wrong secret", 401, r#"{"active":false}"#.to_owned(), UNAVAILABLE, "status"),
        ("forbidden", 403, r#"{"active":false}"#.to_owned(), UNAVAILABLE, "status"),
        ("no such endpoint", 404, String::new(), UNAVAILABLE, "status"),
        ("too many questions", 429, String::new(), UNAVAILABLE, "status"),
        ("a fault", 500, text(json!({})), UNAVAILABLE, "status"),
        // Other tokens of the same server.
        ("a refresh token", 200, text(json!({ "token_type": "refresh_token" })), wrong_type, ""),
        ("a refresh token of Keycloak", 200, text(json!({ "token_type": "Refresh" })), wrong_type, ""),
        ("a refresh token of oidc-provider", 200, text(json!({ "token_type": null })), wrong_type, ""),
        ("a list of types", 200, text(json!({ "token_type": ["Bearer"] })), wrong_type, ""),
        ("an ID token", 200, text(json!({ "token_type": "N_A" })), wrong_type, ""),
        ("an event", 200, text(json!({ "events": {} })), wrong_type, ""),
        // Bound tokens whose key is not named.
        ("DPoP without cnf", 200, text(json!({ "token_type": "DPoP" })), wrong_type, ""),
        ("DPoP with an empty cnf", 200, text(json!({ "token_type": "DPoP", "cnf": {} })), wrong_type, ""),
        ("DPoP with another method", 200, text(json!({ "token_type": "dpop", "cnf": { "kid": "1" } })), wrong_type, ""),
        (
            "DPoP with a certificate",
            200,
            text(json!({ "token_type": "DPoP", "cnf": { "x5t#S256": thumbprint(CLIENT) } })),
            wrong_type,
            "",
        ),
        ("cnf as text", 200, text(json!({ "cnf": "jkt" })), wrong_identity, ""),
        ("a short key", 200, text(json!({ "cnf": { "jkt": "AAAA" } })), wrong_identity, ""),
        ("a bound token", 200, text(json!({ "cnf": { "jkt": thumbprint(CLIENT) } })), (401, "token_bound"), ""),
        // Tokens of others.
        ("another issuer", 200, text(json!({ "iss": "https://id.example" })), wrong_issuer, ""),
        ("a slash more", 200, text(json!({ "iss": "https://opaque.example/" })), wrong_issuer, ""),
        ("a list of issuers", 200, text(json!({ "iss": ["https://opaque.example"] })), wrong_issuer, ""),
        ("another audience", 200, text(json!({ "aud": "bank" })), wrong_audience, ""),
        ("no audience", 200, text(json!({ "aud": null })), wrong_audience, ""),
        ("an audience in an object", 200, text(json!({ "aud": { "api": true } })), wrong_audience, ""),
        ("an audience among others than texts", 200, text(json!({ "aud": ["api", 1] })), wrong_audience, ""),
        ("no user", 200, text(json!({ "sub": null })), wrong_identity, ""),
        ("an empty user", 200, text(json!({ "sub": "" })), wrong_identity, ""),
        ("a user as number", 200, text(json!({ "sub": 7 })), wrong_identity, ""),
        ("a user of two lines", 200, text(json!({ "sub": "ada\r\nx-user-id: root" })), wrong_identity, ""),
        ("roles in an object", 200, text(json!({ "roles": { "admin": true } })), wrong_identity, ""),
        // Dates.
        ("expired", 200, text(json!({ "iat": now - 900, "exp": now - 31 })), (401, "token_expired"), ""),
        ("expired, and no iat", 200, text(json!({ "iat": null, "exp": now - 31 })), (401, "token_expired"), ""),
        ("an end before the beginning", 200, text(json!({ "exp": now - 20 })), wrong_dates, ""),
        ("an end as text", 200, text(json!({ "exp": (now + 900).to_string() })), wrong_dates, ""),
        ("an end at the beginning of time", 200, text(json!({ "iat": null, "exp": 0 })), wrong_dates, ""),
        ("an end beyond all time", 200, text(json!({ "exp": 1e300 })), wrong_dates, ""),
        ("milliseconds", 200, text(json!({ "exp": (now + 900) * 1000 })), wrong_dates, ""),
        ("a long life", 200, text(json!({ "exp": now + 90_000 })), (401, "token_lifetime_too_long"), ""),
        (
            "a long life, and no iat",
            200,
            text(json!({ "iat": null, "exp": now + 90_000 })),
            (401, "token_lifetime_too_long"),
            "",
        ),
        (
            "old, and no exp",
            200,
            text(json!({ "iat": now - 90_000, "exp": null })),
            (401, "token_lifetime_too_long"),
            "",
        ),
        (
            "issued tomorrow",
            200,
            text(json!({ "iat": now + 86_400, "exp": now + 86_500 })),
            (401, "token_not_yet_valid"),
            "",
        ),
        ("valid from tomorrow", 200, text(json!({ "nbf": now + 86_400 })), (401, "token_not_yet_valid"), ""),
    ];
    let world = (gateway, ports);
    let ports = &world.1;
    for (index, (attack, status, body, expected, fault)) in cases.iter().enumerate() {
        ports.forwarded.borrow_mut().clear();
        answers(ports, *status, body);
        let token = format!("token-{index}");
        let seen = send(&world, "/opaque", &token, HOME);
        assert_eq!(verdict(&seen), *expected, "{attack}");
        assert_eq!(ports.forwarded.borrow().len(), usize::from(*expected == OK), "{attack}");
        assert_eq!(seen.record.detail.as_deref().unwrap_or_default(), *fault, "{attack}");
        if *expected == OK {
            continue;
        }
        let refused = answer(&seen);
        let retry = (*expected == UNAVAILABLE).then_some("5");
        assert_eq!(header(refused, "retry-after"), retry, "{attack}");
        assert_eq!(header(refused, "www-authenticate").is_some(), expected.0 == 401, "{attack}");
        let shown = format!("{} {} {:?}", refused.body, seen.record.to_json(), seen.record.audit_event());
        assert!(!shown.contains(&token) && !shown.contains("root") && !shown.contains("introspect\""), "{shown}");
        assert_eq!(seen.record.audit_event().is_some(), expected.0 == 401, "{attack}");
        // A refusal is remembered, and a fault is not.
        let asked = outcome(&world, "/opaque", &token);
        // That of a bound token is an active one, whose refusal depends on the request.
        let is_remembered = expected.0 == 401;
        assert_eq!(asked, (*expected, usize::from(!is_remembered)), "{attack}");
    }
    for (fault, detail) in [(Fault::TimedOut, "timeout"), (Fault::Unreachable, "unreachable")] {
        *ports.decision.borrow_mut() = Err(fault);
        let seen = send(&world, "/opaque", "another", HOME);
        assert_eq!((verdict(&seen), seen.record.detail.as_deref()), (UNAVAILABLE, Some(detail)));
    }
}

#[test]
fn a_jwt_is_never_shown_to_the_endpoint() {
    let world = world();
    let ports = &world.1;
    let claims = |changes: Value| with(claims_at(ports.now.get().secs()), &changes);
    let signed = |header: &str, claims: &Value| {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let good = Signer::new(7).sign_as(&json!({ "alg": "EdDSA" }), claims);
        format!("{}.{}.{}", part(header), part(&claims.to_string()), good.rsplit_once('.').unwrap().1)
    };
    let token = Signer::new(7).sign("at+jwt", &claims(json!({})));
    assert_eq!(outcome(&world, "/any", &token), (OK, 0));
    assert_eq!(outcome(&world, "/opaque", &token), ((403, "rights_missing"), 0));
    let own = claims(json!({ "iss": "https://opaque.example" }));
    let bad_signature = (401, "token_signature_invalid");
    for (attack, token, expected) in [
        ("of the issuer of opaque tokens", Signer::new(7).sign("at+jwt", &own), (401, "token_algorithm_not_allowed")),
        ("without a signature", format!("{}.", token.rsplit_once('.').unwrap().0), bad_signature),
        ("with another one", signed(r#"{"alg":"EdDSA","kid":"7"}"#, &claims(json!({}))), bad_signature),
        ("with spaces in its header", signed("{ \"alg\": \"EdDSA\" }", &claims(json!({}))), bad_signature),
        ("with a line break before it", signed("\r\n{\"alg\":\"EdDSA\"}", &claims(json!({}))), bad_signature),
        ("of alg none", signed(r#"{"alg":"none"}"#, &own), (401, "token_algorithm_not_allowed")),
        (
            "of another server",
            signed(r#"{"alg":"EdDSA"}"#, &claims(json!({ "iss": "x" }))),
            (401, "token_issuer_unknown"),
        ),
        ("with an extension", signed(r#"{"alg":"EdDSA","crit":["x"]}"#, &own), (401, "token_header_extension")),
        ("with two algorithms", signed(r#"{"alg":"EdDSA","alg":"none"}"#, &own), (401, "token_header_malformed")),
        ("with half a header", signed(r#"{"alg":"EdDSA""#, &own), (401, "token_header_malformed")),
        ("with an empty header", signed("{}", &own), (401, "token_header_malformed")),
        ("that is broken", "e30.e30.=".to_owned(), (401, "token_header_malformed")),
        ("with a dot behind it", format!("{token}."), (401, "token_malformed")),
        ("with padding behind it", format!("{token}="), (401, "token_malformed")),
        ("without its last part", token.rsplit_once('.').unwrap().0.replacen('.', ".a.", 1), (401, "token_malformed")),
    ] {
        for path in ["/any", "/opaque"] {
            assert_eq!(outcome(&world, path, &token), (expected, 0), "{attack}");
        }
    }
    // Tokens that no one but their server reads.
    let encrypted = format!("{}..aaaa.bbbb.cccc", URL_SAFE_NO_PAD.encode(r#"{"alg":"dir","enc":"A256GCM"}"#));
    for text in
        [&encrypted, "v4.public.aaaa", "v4.local.aaaa.e30", "a.b.c", "e31.a.b", "a.b", ".", "...", "x", "QUJD==", "~+/"]
    {
        assert_eq!(outcome(&world, "/any", text), (OK, 1), "{text}");
        assert_eq!(outcome(&world, "/jwt", text).0, (403, "rights_missing"), "{text}");
    }
    assert_eq!(outcome(&world, "/jwt", "never-seen"), ((401, "token_malformed"), 0));
    assert_eq!(outcome(&world, "/opaque", &"x".repeat(16 * 1024 + 1)), ((401, "token_too_large"), 0));
}

#[test]
fn a_cached_opaque_token_counts_with_what_its_answer_states() {
    let world = world();
    let ports = &world.1;
    let cached = |token: &str, roles: &[String]| {
        let bytes = || cache_of(&world.0, ports)["bytes"].as_u64().unwrap();
        let answer = active(ports, &json!({ "roles": roles }));
        *ports.decision.borrow_mut() = Ok((200, answer.to_string()));
        let before = bytes();
        assert_eq!(outcome(&world, "/opaque", token).0, OK);
        bytes() - before
    };
    let small = cached("one", &[]);
    let large: Vec<String> = (0..10).map(|index| format!("{index}{}", "r".repeat(1_000))).collect();
    assert!(cached("two", &large) >= small + 3 * 10_000);
}

#[test]
fn a_token_is_asked_about_at_the_server_of_its_place_alone() {
    let world = world();
    let (gateway, ports) = &world;
    let places =
        || ports.questions.take().into_iter().map(|asked| (asked.url, asked.authorization)).collect::<Vec<_>>();
    let by_header = |path: &str, token: &str| verdict(&ports.send(gateway, "GET", path, &[(PARTNER, token)]));
    assert_eq!(outcome(&world, "/opaque", "one").0, OK);
    assert_eq!(places()[0].0, PLACE);
    assert_eq!(by_header("/partner", "two"), OK);
    assert_eq!(places(), [(PARTNER_PLACE.to_owned(), Some("Bearer partner-secret".to_owned()))]);
    // A cached token opens nothing from another place, and is not asked about there.
    assert_eq!(by_header("/partner", "one"), (401, "token_source_invalid"));
    assert_eq!(outcome(&world, "/opaque", "two").0, (401, "token_source_invalid"));
    assert_eq!(outcome(&world, "/partner", "three").0, (401, "credentials_missing"));
    assert_eq!(by_header("/opaque", "three"), (401, "credentials_missing"));
    assert_eq!(places(), []);
    // What one server does not know, another may.
    answers(ports, 200, r#"{"active":false}"#);
    assert_eq!(by_header("/partner", "four"), INACTIVE);
    states(ports, &json!({}));
    assert_eq!(outcome(&world, "/opaque", "four").0, OK);
    // One server cannot speak for the users of another.
    states(ports, &json!({ "iss": "https://opaque.example" }));
    assert_eq!(by_header("/partner", "five"), (401, "token_issuer_unknown"));
}

#[test]
fn an_answer_is_used_until_exp_or_the_bound() {
    let world = world();
    let ports = &world.1;
    let now = || ports.now.get().secs();
    let asks = |token: &str| outcome(&world, "/opaque", token);
    // Changes of the answer, milliseconds for which it is used.
    for (index, (changes, lasts_ms)) in [
        (json!({}), 30_000),
        (json!({ "exp": null }), 30_000),
        (json!({ "iat": null, "exp": null }), 30_000),
        (json!({ "exp": now() + 29 }), 29_000),
        (json!({ "exp": now() + 1 }), 1_000),
        // Within the leeway. It is accepted, and asked about each time.
        (json!({ "exp": now() - 5 }), 0),
    ]
    .into_iter()
    .enumerate()
    {
        let (begun, token) = (ports.now.get(), format!("token-{index}"));
        states(ports, &changes);
        assert_eq!(asks(&token), (OK, 1), "{changes}");
        answers(ports, 200, r#"{"active":false}"#);
        if lasts_ms > 0 {
            assert_eq!(asks(&token), (OK, 0), "{changes}");
            ports.advance(lasts_ms - 1);
            assert_eq!(asks(&token), (OK, 0), "{changes}");
            ports.advance(1);
        }
        assert_eq!(asks(&token), (INACTIVE, 1), "{changes}");
        ports.now.set(begun);
    }
    // A refusal, for five seconds.
    assert_eq!(asks("young"), (INACTIVE, 1));
    states(ports, &json!({}));
    ports.advance(limits::INACTIVE_MS - 1);
    assert_eq!(asks("young"), (INACTIVE, 0));
    ports.advance(1);
    assert_eq!(asks("young"), (OK, 1));
    // Other texts are other tokens.
    assert_eq!(asks("Young"), (OK, 1));
    assert_eq!(asks("young="), (OK, 1));
}

#[test]
fn a_logout_ends_an_opaque_token_at_once_and_for_as_long_as_it_may_live() {
    // What the server states, and further texts of the same token or session.
    for (changes, ended, others) in [
        (json!({ "sid": "s1" }), ["token", "sibling"].as_slice(), [].as_slice()),
        // oidc-provider states the token itself.
        (json!({ "jti": "token" }), ["token", "token=", "TOKEN"].as_slice(), [].as_slice()),
        (json!({}), ["token"].as_slice(), ["other"].as_slice()),
        (json!({ "jti": "" }), ["token"].as_slice(), ["other"].as_slice()),
        (json!({ "jti": 7, "exp": null }), ["token"].as_slice(), ["other"].as_slice()),
        (json!({ "jti": "1", "iat": null, "exp": null }), ["token"].as_slice(), [].as_slice()),
    ] {
        let world = world();
        let (here, ports) = &world;
        let elsewhere = gateway();
        states(ports, &changes);
        for text in ended.iter().chain(others) {
            assert_eq!(outcome(&world, "/opaque", text).0, OK, "{changes}");
        }
        assert_eq!(verdict(&ports.send_token(here, "POST", "/logout", "token")), OK);
        // Longer than an answer is used. The server still says that it is active.
        for wait_ms in [0, 31_000, 600_000] {
            ports.advance(wait_ms);
            states(ports, &changes);
            for text in ended {
                assert_eq!(outcome(&world, "/opaque", text).0, REVOKED, "{changes} {text} {wait_ms}");
                let strict = verdict(&ports.send_token(&elsewhere, "GET", "/strict", text));
                assert_eq!(strict, REVOKED, "{changes} {text} {wait_ms}");
            }
            for text in others {
                assert_eq!(outcome(&world, "/opaque", text).0, OK, "{changes} {text}");
            }
        }
    }
}

#[test]
fn services_get_no_token_although_its_server_states_it() {
    let world = world();
    let ports = &world.1;
    states(ports, &json!({ "jti": "opaque-token-1", "tenant": "shop" }));
    assert_eq!(outcome(&world, "/opaque", "opaque-token-1").0, OK);
    let claims = assertion(ports);
    assert_eq!(claims["claims"]["tenant"], "shop");
    assert_eq!(claims["claims"]["jti"].as_str().unwrap().len(), 43, "a digest");
    assert!(!format!("{claims} {:?}", ports.forwarded.borrow()).contains("opaque-token-1"));
}

#[test]
fn a_bound_token_needs_its_proof() {
    let (gateway, ports) = world();
    let bound = json!({ "token_type": "DPoP", "cnf": { "jkt": thumbprint(CLIENT) } });
    for changes in [bound.clone(), with(bound, &json!({ "token_type": "Bearer" }))] {
        states(&ports, &changes);
        let token = format!("token-of-{}", changes["token_type"].as_str().unwrap());
        let dpop = format!("DPoP {token}");
        let proof = |seed: u8, jti: &str| proof_of(seed, &token, "/opaque", (&json!({}), &json!({ "jti": jti })));
        let shows = |scheme: &str, proof: &str| {
            let credentials = format!("{scheme} {token}");
            verdict(&ports.send(&gateway, "GET", "/opaque", &[("authorization", &credentials), ("dpop", proof)]))
        };
        // The first is asked about; the others find the token in the cache.
        assert_eq!(shows("DPoP", &proof(CLIENT, &token)), OK);
        assert_eq!(shows("DPoP", &proof(CLIENT, &token)), (401, "proof_replayed"));
        assert_eq!(shows("DPoP", &proof(CLIENT + 1, "2")), (401, "proof_key_mismatch"));
        assert_eq!(shows("Bearer", &proof(CLIENT, "3")), (401, "token_bound"));
        let alone = ports.send(&gateway, "GET", "/opaque", &[("authorization", &dpop)]);
        assert_eq!(verdict(&alone), (401, "proof_missing"));
        assert_eq!(verdict(&ports.send_token(&gateway, "GET", "/opaque", &token)), (401, "token_bound"));
    }
    states(&ports, &json!({}));
    let unbound = [("authorization", "DPoP free"), ("dpop", "x")];
    assert_eq!(verdict(&ports.send(&gateway, "GET", "/opaque", &unbound)), (401, "token_unbound"));
    // A token of a certificate (RFC 8705, section 3.2).
    let digest = [7_u8; 32];
    states(&ports, &json!({ "cnf": { "x5t#S256": URL_SAFE_NO_PAD.encode(digest) } }));
    let world = (gateway, ports);
    assert_eq!(outcome(&world, "/opaque", "mtls").0, (401, "certificate_mismatch"));
    *world.1.certificate.borrow_mut() = Some("07".repeat(32));
    assert_eq!(outcome(&world, "/opaque", "mtls").0, OK);
}

#[test]
fn an_address_beyond_the_limit_of_guesses_causes_no_question() {
    let world = world();
    let ports = &world.1;
    ports.limit.set(3);
    assert_eq!(outcome(&world, "/opaque", "good"), (OK, 1));
    answers(ports, 200, r#"{"active":false}"#);
    for guess in 0..4 {
        assert_eq!(outcome(&world, "/opaque", &format!("guess-{guess}")), (INACTIVE, 1));
    }
    for guess in 4..10 {
        assert_eq!(outcome(&world, "/opaque", &format!("guess-{guess}")), (LIMITED, 0));
    }
    assert_eq!(outcome(&world, "/opaque", "guess-0"), (LIMITED, 0), "one that is known to be inactive");
    // Others are asked about, and of this address what was active once: its owner may share the address.
    assert_eq!(verdict(&send(&world, "/opaque", "guess-a", "192.0.2.2")), INACTIVE);
    states(ports, &json!({}));
    assert_eq!(outcome(&world, "/opaque", "good"), (OK, 0));
    ports.advance(9_000);
    assert_eq!(outcome(&world, "/opaque", "guess-b"), (LIMITED, 0));
    ports.advance(1_000);
    assert_eq!(outcome(&world, "/opaque", "guess-b"), (OK, 1));
    answers(ports, 200, r#"{"active":false}"#);
    assert_eq!(outcome(&world, "/opaque", "guess-c"), (INACTIVE, 1));
    assert_eq!(outcome(&world, "/opaque", "guess-d"), (LIMITED, 0));
    ports.advance(20_500);
    answers(ports, 200, r#"{"active":false}"#);
    assert_eq!(outcome(&world, "/opaque", "guess-e"), (INACTIVE, 1));
    states(ports, &json!({}));
    assert_eq!(outcome(&world, "/opaque", "guess-f"), (LIMITED, 0));
    assert_eq!(outcome(&world, "/opaque", "good"), (OK, 1), "its answer is past cache_s");
}

#[test]
fn the_circuit_opens_by_outages_alone_and_readiness_says_so() {
    let world = world();
    let (gateway, ports) = &world;
    let ready = || -> Value {
        let seen = ports.send_as_operator(gateway, "/ready");
        serde_json::from_str(&answer(&seen).body).unwrap()
    };
    let detail = |token: &str| send(&world, "/opaque", token, HOME).record.detail.unwrap_or_default();
    assert_eq!(outcome(&world, "/opaque", "cached"), (OK, 1));
    assert_eq!(ready(), json!({ "ready": true, "missing": [] }));
    for status in [302, 400, 401, 429, 500] {
        answers(ports, status, "");
        (0..10).for_each(|_| assert_eq!(detail("x").replace("redirect", "status"), "status", "{status}"));
    }
    for status in [502, 503, 504] {
        answers(ports, status, "");
        assert_eq!(detail("x"), "status");
    }
    *ports.decision.borrow_mut() = Err(Fault::TimedOut);
    (0..2).for_each(|_| assert_eq!(detail("x"), "timeout"));
    ports.questions.take();
    let seen = send(&world, "/opaque", "x", HOME);
    assert_eq!((verdict(&seen), seen.record.detail.as_deref()), (UNAVAILABLE, Some("resting")));
    assert_eq!(header(answer(&seen), "retry-after"), Some("1"));
    assert_eq!(ports.questions.borrow().len(), 0);
    let missing = json!(["the introspection endpoint of issuer opaque does not answer"]);
    assert_eq!(ready(), json!({ "ready": false, "missing": missing }));
    // Known tokens, and those of others, do not need it.
    assert_eq!(outcome(&world, "/opaque", "cached"), (OK, 0));
    states(ports, &json!({}));
    assert_eq!(verdict(&ports.send(gateway, "GET", "/partner", &[(PARTNER, "p")])), OK);
    let jwt = Signer::new(7).sign("at+jwt", &claims_at(ports.now.get().secs()));
    assert_eq!(outcome(&world, "/jwt", &jwt), (OK, 0));
    // A probe needs a request, so readiness must not wait for it.
    ports.advance(1_000);
    assert_eq!(ready()["ready"], true);
    assert_eq!(outcome(&world, "/opaque", "x"), (OK, 1));
    assert_eq!(outcome(&world, "/opaque", "y"), (OK, 1));
}

#[test]
fn a_deployment_sets_the_url_and_the_secrets() {
    let with = |name: &'static str, value: &'static str| -> Result<Gateway, Misconfiguration> {
        configured(&policy(), move |key| if key == name { Some(value.to_owned()) } else { settings(key) })
    };
    let other = "http://127.0.0.1:1/introspect";
    let world = (with("INTROSPECTION_OPAQUE_URL", other).unwrap(), FakePorts::new());
    states(&world.1, &json!({}));
    assert_eq!(outcome(&world, "/opaque", "x"), (OK, 1));
    assert_eq!(world.1.questions.borrow()[0].url, other);
    // Without the secret, the server would refuse the gateway, and see a token.
    let world = (with("INTROSPECTION_SECRET_OPAQUE", "").unwrap(), FakePorts::new());
    states(&world.1, &json!({}));
    let seen = send(&world, "/opaque", "x", HOME);
    assert_eq!((verdict(&seen), seen.record.detail.as_deref()), (UNAVAILABLE, Some("secret")));
    assert_eq!(world.1.questions.borrow().len(), 0);
    let ready = world.1.send_as_operator(&world.0, "/ready");
    assert_eq!(ready.record.status, 503);
    assert!(answer(&ready).body.contains("secret INTROSPECTION_SECRET_OPAQUE is not set"));
    assert_eq!(world.1.send_as_operator(&world.0, "/status").record.status, 503);
    for (name, value, words) in [
        ("INTROSPECTION_SECRET_PARTNER", "a b", "INTROSPECTION_SECRET_PARTNER has other characters"),
        ("INTROSPECTION_SECRET_PARTNER", "a\r\nx: y", "INTROSPECTION_SECRET_PARTNER has other characters"),
        ("INTROSPECTION_OPAQUE_URL", "http://id.example/", "sends tokens over plain HTTP"),
        ("INTROSPECTION_OPAQUE_URL", "file:///etc", "must begin with https://"),
    ] {
        let fault = with(name, value).err().unwrap().0;
        assert!(fault.contains(words) && !fault.contains(value), "{fault}");
    }
    let deployed = |name: &str| match name {
        "INTROSPECTION_OPAQUE_URL" => Some("http://127.0.0.1:1".to_owned()),
        name => name.starts_with("ASSERTION_KEYS_").then(|| SECRET.to_owned()),
    };
    let fault = configured(&policy(), deployed).err().unwrap().0;
    assert!(fault.contains("the introspection endpoint of issuer \"opaque\" is at a plain http:// URL"), "{fault}");
}

#[test]
fn status_metrics_and_the_policy_tool_know_introspection() {
    let gateway = configured(&policy(), |name| {
        if name == "METRICS_TOKEN" { Some("operators-token-0".to_owned()) } else { settings(name) }
    });
    let world = (gateway.unwrap(), FakePorts::new());
    let (gateway, ports) = &world;
    states(ports, &json!({}));
    let operator = [("authorization", "Bearer operators-token-0")];
    let issuers = || -> Value {
        let seen = ports.send(gateway, "GET", "/status", &operator);
        let document: Value = serde_json::from_str(&answer(&seen).body).unwrap();
        assert!(!document.to_string().contains("id.example"));
        document["issuers"].as_array().unwrap()[1..].to_vec().into()
    };
    let part = |name: &str, status: &str, error: Value| json!({ "name": name, "status": status, "introspection_secret": true, "breaker": "closed", "last_error": error });
    let begun = ports.now.get();
    // The task that sends the metrics waits for ten seconds.
    let at_once = |token: &str| {
        ports.now.set(begun);
        outcome(&world, "/opaque", token)
    };
    assert_eq!(at_once("one"), (OK, 1));
    assert_eq!(at_once("one"), (OK, 0));
    answers(ports, 200, r#"{"active":false}"#);
    assert_eq!(at_once("two"), (INACTIVE, 1));
    assert_eq!(at_once("two"), (INACTIVE, 0));
    assert_eq!(issuers(), json!([part("opaque", "healthy", Value::Null), part("partner", "healthy", Value::Null)]));
    answers(ports, 401, "");
    assert_eq!(at_once("three"), (UNAVAILABLE, 1));
    assert_eq!(issuers()[0], part("opaque", "degraded", json!("status")));
    let metrics = ports.send(gateway, "GET", "/metrics", &operator);
    for result in ["active", "refused", "cached", "status"] {
        let series = format!("gateway_introspection_total{{issuer=\"opaque\",result=\"{result}\"}} 1\n");
        assert!(answer(&metrics).body.contains(&series), "{series}");
    }
    for (result, count) in [("hit", 1), ("miss", 4)] {
        let series = format!("gateway_token_cache_total{{result=\"{result}\"}} {count}\n");
        assert!(answer(&metrics).body.contains(&series), "{series}");
    }
    let run = |command: Value| -> Value {
        let request = json!({ "command": command, "policy": { "name": "policy", "text": policy(), "files": {} } });
        serde_json::from_str(&portcullis_cli::run(&request.to_string())).unwrap()
    };
    let table = run(json!("table"));
    let note = format!("note: tokens of opaque are opaque; {PLACE} is asked what they mean, again after 30 s");
    assert!(table["out"].as_str().unwrap().contains(&note), "{table}");
    let explain =
        |token: &str| run(json!({ "explain": { "token": token, "now_ms": 0, "request": ["GET", "/opaque"] } }));
    let explained = explain("opaque-token-1");
    let out = explained["out"].as_str().unwrap();
    assert!(out.starts_with("The token is opaque: it has no claims of its own."), "{out}");
    assert!(out.contains(&format!("\n  from Authorization: issuer opaque, at {PLACE}\n")), "{out}");
    assert!(out.contains(&format!("\n  from x-partner-token: issuer partner, at {PARTNER_PLACE}\n")), "{out}");
    assert!(!out.contains("opaque-token-1"));
    assert_eq!(explained["code"], 1);
    let jwt = Signer::new(7).sign("at+jwt", &claims_at(0));
    assert!(explain(&jwt)["out"].as_str().unwrap().contains("is issuer id"));
}

#[test]
fn each_mistake_of_introspection_is_refused() {
    let swap = |from: &str, to: &str| {
        let text = policy();
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    };
    let more = |option: &str| swap("introspection =", &format!("{option}\nintrospection ="));
    let own = |option: &str| swap(", client_id = \"gate:way\"", &format!(", {option}"));
    for (text, words) in [
        (swap(PLACE, "http://id.example/introspect"), "plain HTTP"),
        (swap(PLACE, "https://user:pw@id.example/"), "no valid"),
        (swap(PLACE, "id.example"), "must begin with https://"),
        (own("client_id = \"\""), "client_id is empty"),
        (own("client_secret = \"x\""), "unknown"),
        (own("cache_s = 0"), "write 1 to 300"),
        (own("cache_s = 301"), "write 1 to 300"),
        (own("timeout_ms = 0"), "write 1 to 10000"),
        (own("breaker = { failures = 0 }"), "out of range"),
        (swap("token_header = \"X-Partner-Token\"", ""), "several issuers have opaque tokens in the same place"),
        (
            swap("proof = \"optional\"", "token_header = \"x_partner-token\""),
            "several issuers have opaque tokens in the same place",
        ),
        (more("provider = \"keycloak\""), "provider is for tokens with a signature"),
        (more("algorithms = [\"RS256\"]"), "algorithms is for tokens with a signature"),
        (more("types = [\"at+jwt\"]"), "types is for tokens with a signature"),
        (more("token_type = \"access\""), "token_type is for tokens with a signature"),
        (more("discovery = true"), "discovery is for tokens with a signature"),
        (more("revocations_from = \"accounts\""), "revocations_from is for tokens with a signature"),
        (more("logout = { audience = [\"web\"] }"), "logout is for tokens with a signature"),
        (more("events = { audience = [\"web\"] }"), "events is for tokens with a signature"),
        (more("jwks_url = \"https://id.example/jwks\""), "has no keys"),
        (swap("issuer = \"https://opaque.example\"", "issuer = \"https://id.example\""), "the same `iss`"),
    ] {
        let mistakes = check(&text).err().unwrap_or_else(|| panic!("{words}: it is accepted"));
        assert!(mistakes.iter().any(|mistake| mistake.message.contains(words)), "{words}: {mistakes:?}");
    }
}
