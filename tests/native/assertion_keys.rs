//! Assertions with a private key, and the public keys that services read. The list of attacks in
//! docs/standards/assertion-keys.md is `each_unusable_secret_is_refused_and_shows_nothing` and the tests below it.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis::pipeline::Gateway;
use portcullis_token::{Algorithm, SignatureOutcome, check_signature, keys::KeySet};
use serde_json::{Value, json};

use crate::{
    fakes::{FakePorts, SECRET, Vectors, answer, configured, header, setting, verdict},
    signer::{Signer, claims_at, ed25519_jwk, issuer_table, p256_jwk, with},
};

const PLACE: &str = "/_gateway/jwks.json";

/// An upstream whose services have public keys, one with a shared secret, and a route that would take every path.
fn policy(algorithm: &str) -> String {
    let route = |path: &str, upstream: &str, access: &str| {
        format!(
            "[[routes]]\npath = \"{path}\"\nmethods = [\"GET\", \"POST\"]\nupstream = \"{upstream}\"\naccess = \"{access}\"\n"
        )
    };
    [
        issuer_table("id", 1, ""),
        format!("[upstreams.app]\nurl = \"https://app.example\"\nassertion = {{ algorithm = \"{algorithm}\" }}\n"),
        "[upstreams.web]\nurl = \"https://web.example\"\n".to_owned(),
        route("/app", "app", "public"),
        route("/me", "app", "user"),
        route("/{*rest}", "web", "public"),
    ]
    .concat()
}

/// The gateway of the policy whose upstream `app` has this secret.
fn gateway_with(algorithm: &str, secret: &str) -> Gateway {
    configured(
        &policy(algorithm),
        |name| {
            if name == "ASSERTION_KEYS_APP" { Some(secret.to_owned()) } else { setting(name) }
        },
    )
    .unwrap()
}

fn secret_of(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

fn assertion_of(ports: &FakePorts, gateway: &Gateway) -> String {
    let seen = ports.send(gateway, "GET", "/app", &[]);
    assert_eq!(verdict(&seen), (200, "ok"));
    last_assertion(ports)
}

fn last_assertion(ports: &FakePorts) -> String {
    let forwarded = ports.forwarded.borrow();
    let headers = &forwarded.last().unwrap().headers;
    headers.iter().find(|(name, _)| name == "x-gateway-assertion").unwrap().1.clone()
}

fn published(ports: &FakePorts, gateway: &Gateway) -> String {
    answer(&ports.send(gateway, "GET", PLACE, &[])).body.clone()
}

/// Verifies an assertion as a service does: by the key of its `kid` in the published set.
fn open(assertion: &str, set: &str) -> Option<(Value, Value)> {
    let json = |part: &str| -> Value { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap() };
    let (input, signature) = assertion.rsplit_once('.').unwrap();
    let (jose, claims) = input.split_once('.').unwrap();
    let jose = json(jose);
    let algorithm = Algorithm::from_name(jose["alg"].as_str().unwrap())?;
    let set = KeySet::parse_strict(set.as_bytes(), &[algorithm]).unwrap();
    let key = set.keys().iter().find(|key| key.kid.as_deref() == jose["kid"].as_str())?;
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let outcome = check_signature(&key.public, algorithm, input.as_bytes(), &signature);
    (outcome == SignatureOutcome::Valid).then(|| (jose, json(claims)))
}

#[test]
fn the_first_key_signs_and_its_public_part_verifies() {
    for (algorithm, jwk) in [("ES256", p256_jwk(7)), ("EdDSA", ed25519_jwk(7))] {
        let ports = FakePorts::new();
        let gateway = gateway_with(algorithm, &secret_of(std::slice::from_ref(&jwk)));
        let assertion = assertion_of(&ports, &gateway);
        let (jose, claims) = open(&assertion, &published(&ports, &gateway)).unwrap();
        assert_eq!(jose, json!({ "alg": algorithm, "kid": jwk["kid"], "typ": "gateway+jwt" }));
        let now = Vectors::load().now;
        assert_eq!((&claims["iss"], &claims["aud"]), (&json!("portcullis"), &json!("app")));
        assert_eq!((&claims["iat"], &claims["exp"]), (&json!(now), &json!(now + 30)));
        assert_eq!((&claims["htm"], &claims["htu"]), (&json!("GET"), &json!("/app")));
        // A caller's opening is kept with the token, and serves the next request, too.
        let token = Signer::new(1).sign("JWT", &claims_at(now));
        for _ in 0..2 {
            assert_eq!(verdict(&ports.send_token(&gateway, "GET", "/me", &token)), (200, "ok"));
            let (_, claims) = open(&last_assertion(&ports), &published(&ports, &gateway)).unwrap();
            assert_eq!((&claims["sub"], &claims["htu"]), (&json!("ada"), &json!("/me")));
        }
        // The other upstream's shared secret stays what it was, and is in no set.
        ports.send(&gateway, "GET", "/other", &[]);
        let jose = URL_SAFE_NO_PAD.decode(last_assertion(&ports).split('.').next().unwrap()).unwrap();
        assert!(jose.starts_with(br#"{"alg":"HS256","kid":"k1""#));
        assert!(!published(&ports, &gateway).contains("k1"));
    }
}

#[test]
fn the_set_has_the_public_members_of_all_keys_and_caches_may_keep_it() {
    let ports = FakePorts::new();
    let exported =
        with(p256_jwk(7), &json!({ "key_ops": ["sign"], "ext": true, "x5u": "https://a.example", "issuer": "x" }));
    let unnamed = with(p256_jwk(8), &json!({ "kid": null, "alg": "ES256", "use": "sig" }));
    let retired = with(p256_jwk(9), &json!({ "d": null }));
    let gateway = gateway_with("ES256", &secret_of(&[exported.clone(), unnamed.clone(), retired.clone()]));
    let seen = ports.send(&gateway, "GET", PLACE, &[]);
    let sent = answer(&seen);
    let of = |jwk: &Value, kid: Value| {
        json!({
            "kty": "EC", "crv": "P-256", "x": jwk["x"], "y": jwk["y"], "kid": kid, "alg": "ES256", "use": "sig",
        })
    };
    let document: Value = serde_json::from_str(&sent.body).unwrap();
    // Without a `kid`, the thumbprint (RFC 7638) is the id.
    let thumbprint = document["keys"][1]["kid"].clone();
    assert_eq!(thumbprint.as_str().unwrap().len(), 43);
    let expected = [of(&exported, json!("p7")), of(&unnamed, thumbprint), of(&retired, json!("p9"))];
    assert_eq!(document, json!({ "keys": expected }));
    assert_eq!(header(sent, "content-type"), Some("application/jwk-set+json"));
    assert_eq!(header(sent, "cache-control"), Some("public, max-age=300"));
    assert_eq!(verdict(&ports.send(&gateway, "HEAD", PLACE, &[])), (200, "ok"));
    for (method, target, expected) in [
        ("POST", PLACE, (405, "method_not_allowed")),
        ("GET", "/_gateway/jwks.json/", (404, "route_unknown")),
        ("GET", "/_gateway/JWKS.json", (404, "route_unknown")),
        ("GET", "/_gateway%2Fjwks.json", (400, "path_ambiguous")),
        ("GET", "/_gateway/jwks", (404, "route_unknown")),
    ] {
        assert_eq!(verdict(&ports.send(&gateway, method, target, &[])), expected, "{method} {target}");
    }
    assert!(ports.forwarded.borrow().is_empty(), "the route for every path got none of them");
}

#[test]
fn a_rotation_refuses_no_request() {
    let (old, new) = (p256_jwk(7), p256_jwk(8));
    let steps = [vec![&old], vec![&old, &new], vec![&new, &old], vec![&new]];
    let ports = FakePorts::new();
    let gateways: Vec<Gateway> = steps
        .iter()
        .map(|keys| gateway_with("ES256", &secret_of(&keys.iter().map(|key| (*key).clone()).collect::<Vec<_>>())))
        .collect();
    // During a deployment, isolates of two steps sign, and a service may have the set of either.
    for step in gateways.windows(2) {
        for signing in step {
            let assertion = assertion_of(&ports, signing);
            for publishing in step {
                assert!(open(&assertion, &published(&ports, publishing)).is_some());
            }
        }
    }
    // Without the step in which both are published, a service would refuse requests.
    let hasty = assertion_of(&ports, &gateways[3]);
    assert!(open(&hasty, &published(&ports, &gateways[0])).is_none());
}

#[test]
fn upstreams_without_such_an_algorithm_leave_the_path_as_it_is() {
    let ports = FakePorts::new();
    let gateway = gateway_with("HS256", SECRET);
    assert_eq!(verdict(&ports.send(&gateway, "GET", PLACE, &[])), (404, "route_unknown"));
    assert_eq!(verdict(&ports.send(&gateway, "GET", "/app", &[])), (200, "ok"));
}

#[test]
fn each_unusable_secret_is_refused_and_shows_nothing() {
    let good = p256_jwk(7);
    let changed = |changes: Value| secret_of(&[with(good.clone(), &changes)]);
    let p384 = json!({ "kty": "EC", "crv": "P-384", "x": good["x"], "y": good["y"], "d": good["d"] });
    let rsa = json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB", "d": "AQAB", "p": "AQAB" });
    let cases = [
        ("a shared secret", SECRET.to_owned()),
        ("nothing", String::new()),
        ("a key that is no set", good.to_string()),
        ("an empty set", secret_of(&[])),
        ("text", "{\"keys\": [\"secret-of-the-key\"]}".to_owned()),
        ("no JSON", "secret-of-the-key".to_owned()),
        ("a member twice", secret_of(std::slice::from_ref(&good)).replacen("\"d\"", "\"kid\":\"a\",\"d\"", 1)),
        ("Ed25519", secret_of(&[ed25519_jwk(7)])),
        ("P-384", secret_of(&[p384])),
        ("P-384 with the curve's name of P-256 and short coordinates", changed(json!({ "x": "AQAB" }))),
        ("a point that is not on the curve", changed(json!({ "y": good["x"] }))),
        ("RSA", secret_of(&[rsa])),
        ("an oct key", secret_of(&[json!({ "kty": "oct", "k": "c2VjcmV0LW9mLXRoZS1rZXk" })])),
        ("an oct key's member", changed(json!({ "k": "c2VjcmV0LW9mLXRoZS1rZXk" }))),
        ("the public part alone", changed(json!({ "d": null }))),
        ("a private part that is no text", changed(json!({ "d": 7 }))),
        ("a short private part", changed(json!({ "d": "AQAB" }))),
        ("a private part of another encoding", changed(json!({ "d": "+".repeat(43) }))),
        ("for encryption", changed(json!({ "use": "enc" }))),
        ("for key agreement", changed(json!({ "key_ops": ["deriveBits"] }))),
        ("another algorithm", changed(json!({ "alg": "ES384" }))),
        ("the algorithm of shared secrets", changed(json!({ "alg": "HS256" }))),
        ("a kid that is no text", changed(json!({ "kid": 7 }))),
        ("a kid with a line break", changed(json!({ "kid": "a\r\nb" }))),
        ("a key twice", secret_of(&[good.clone(), good.clone()])),
        ("a key with two ids", secret_of(&[good.clone(), with(good.clone(), &json!({ "kid": "other" }))])),
        ("an id of two keys", secret_of(&[good.clone(), with(p256_jwk(8), &json!({ "kid": "p7" }))])),
        ("five keys", secret_of(&(1..=5).map(p256_jwk).collect::<Vec<_>>())),
        ("too much text", format!("{}{}", secret_of(std::slice::from_ref(&good)), " ".repeat(600_000))),
    ];
    for (what, secret) in cases {
        let ports = FakePorts::new();
        let gateway = gateway_with("ES256", &secret);
        let seen = ports.send(&gateway, "GET", "/app", &[]);
        assert_eq!(verdict(&seen), (503, "gateway_misconfigured"), "{what}");
        assert_eq!(header(answer(&seen), "retry-after"), Some("5"));
        // Other upstreams go on, and the set is no empty one that caches would keep.
        assert_eq!(verdict(&ports.send(&gateway, "GET", "/other", &[])), (200, "ok"), "{what}");
        assert_eq!(verdict(&ports.send(&gateway, "GET", PLACE, &[])), (503, "gateway_misconfigured"), "{what}");
        let ready = ports.send_as_operator(&gateway, "/ready");
        let fault = seen.record.detail.unwrap();
        let ready = answer(&ready).body.clone();
        assert!(
            fault.starts_with("secret ASSERTION_KEYS_APP ") && ready.contains("ASSERTION_KEYS_APP"),
            "{what}: {fault}"
        );
        let members =
            [good["d"].as_str().unwrap(), good["x"].as_str().unwrap(), "secret-of-the-key", "c2Vj", &SECRET[3..]];
        for part in members {
            assert!(!fault.contains(part) && !ready.contains(part), "{what}: {fault}");
        }
    }
    // A set is no shared secret either.
    let ports = FakePorts::new();
    let gateway = gateway_with("HS256", &secret_of(&[good]));
    assert_eq!(verdict(&ports.send(&gateway, "GET", "/app", &[])), (503, "gateway_misconfigured"));
}

#[test]
fn a_key_whose_parts_do_not_belong_together_signs_nothing() {
    let crossed = with(p256_jwk(7), &json!({ "d": p256_jwk(8)["d"] }));
    let ports = FakePorts::new();
    let gateway = gateway_with("ES256", &secret_of(std::slice::from_ref(&crossed)));
    let seen = ports.send(&gateway, "GET", "/app", &[]);
    assert_eq!(verdict(&seen), (503, "gateway_misconfigured"));
    assert!(seen.record.detail.unwrap().contains("\"p7\""));
    assert!(ports.forwarded.borrow().is_empty());
    // As the next key it refuses no request, but the gateway is not ready for the rotation.
    let gateway = gateway_with("ES256", &secret_of(&[p256_jwk(9), crossed]));
    assert_eq!(verdict(&ports.send(&gateway, "GET", "/app", &[])), (200, "ok"));
    let ready = ports.send_as_operator(&gateway, "/ready");
    assert_eq!(ready.record.status, 503);
    assert!(answer(&ready).body.contains("assertion key \\\"p7\\\""), "{}", answer(&ready).body);
}

#[test]
fn a_fault_of_the_signer_is_the_gateways_own() {
    let ports = FakePorts::new();
    let gateway = gateway_with("ES256", &secret_of(&[p256_jwk(7)]));
    let token = Signer::new(1).sign("JWT", &claims_at(Vectors::load().now));
    ports.signer_fails.set(true);
    let seen = ports.send_token(&gateway, "GET", "/me", &token);
    assert_eq!(verdict(&seen), (503, "assertion_unavailable"));
    assert_eq!(header(answer(&seen), "retry-after"), Some("5"));
    assert_eq!(ports.send_as_operator(&gateway, "/ready").record.status, 503);
    assert!(ports.forwarded.borrow().is_empty());
    // It says nothing about the upstream, and the next request is signed again.
    ports.signer_fails.set(false);
    assert_eq!(verdict(&ports.send_token(&gateway, "GET", "/me", &token)), (200, "ok"));
    assert_eq!(ports.send_as_operator(&gateway, "/ready").record.status, 200);
}

#[test]
fn one_id_never_means_two_keys() {
    let policy = policy("ES256").replace(
        "[upstreams.web]\nurl = \"https://web.example\"",
        "[upstreams.web]\nurl = \"https://web.example\"\nassertion = { algorithm = \"ES256\" }",
    );
    let gateway_of = |app: Value, web: Value| {
        let (app, web) = (secret_of(&[app]), secret_of(&[web]));
        configured(&policy, move |name| match name {
            "ASSERTION_KEYS_APP" => Some(app.clone()),
            "ASSERTION_KEYS_WEB" => Some(web.clone()),
            _ => setting(name),
        })
        .unwrap()
    };
    let ports = FakePorts::new();
    let keys = |gateway: &Gateway| {
        let set: Value = serde_json::from_str(&published(&ports, gateway)).unwrap();
        set["keys"].as_array().unwrap().len()
    };
    let own = gateway_of(p256_jwk(7), p256_jwk(8));
    assert_eq!(keys(&own), 2);
    let shared = gateway_of(p256_jwk(7), p256_jwk(7));
    assert_eq!(keys(&shared), 1);
    assert_eq!(verdict(&ports.send(&shared, "GET", "/other", &[])), (200, "ok"));
    let crossed = gateway_of(p256_jwk(7), with(p256_jwk(8), &json!({ "kid": "p7" })));
    assert_eq!(keys(&crossed), 1);
    assert_eq!(verdict(&ports.send(&crossed, "GET", "/app", &[])), (200, "ok"));
    let seen = ports.send(&crossed, "GET", "/other", &[]);
    assert_eq!(verdict(&seen), (503, "gateway_misconfigured"));
    // Caches would keep a set without the second key beyond the repair.
    for (gateway, expected) in [(&own, "public, max-age=300"), (&shared, "public, max-age=300"), (&crossed, "no-store")]
    {
        let seen = ports.send(gateway, "GET", PLACE, &[]);
        assert_eq!(header(answer(&seen), "cache-control"), Some(expected));
    }
}

#[test]
fn an_assertion_is_no_token_of_a_client() {
    let ports = FakePorts::new();
    let gateway = gateway_with("EdDSA", &secret_of(&[ed25519_jwk(7)]));
    let token = Signer::new(1).sign("JWT", &claims_at(Vectors::load().now));
    ports.send_token(&gateway, "GET", "/me", &token);
    let assertion = last_assertion(&ports);
    assert_eq!(verdict(&ports.send_token(&gateway, "GET", "/me", &assertion)), (401, "token_issuer_unknown"));
    // A client's own header of that name is removed in every spelling.
    for name in ["x-gateway-assertion", "x_gateway_assertion", "x.gateway-assertion"] {
        let bearer = format!("Bearer {token}");
        ports.send(&gateway, "GET", "/me", &[(name, "forged"), ("authorization", &bearer)]);
        let forwarded = ports.forwarded.borrow();
        let headers = &forwarded.last().unwrap().headers;
        assert!(!headers.iter().any(|(_, value)| value == "forged"), "{name}");
    }
}

#[test]
fn status_and_the_policy_tool_name_algorithm_and_keys_and_no_part_of_them() {
    let ports = FakePorts::new();
    let gateway = gateway_with("ES256", &secret_of(&[p256_jwk(7), p256_jwk(8)]));
    let seen = ports.send_as_operator(&gateway, "/status");
    let status: Value = serde_json::from_str(&answer(&seen).body).unwrap();
    let app = &status["upstreams"][0];
    assert_eq!((&app["assertion_algorithm"], &app["assertion_keys"]), (&json!("ES256"), &json!(["p7", "p8"])));
    assert_eq!(status["upstreams"][1]["assertion_algorithm"], "HS256");
    assert!(!answer(&seen).body.contains(p256_jwk(7)["d"].as_str().unwrap()));
    let table = json!({ "command": "table", "policy": { "name": "policy", "text": policy("ES256"), "files": {} } });
    let printed = portcullis_cli::run(&table.to_string());
    assert!(printed.contains("note: app checks requests with ES256 and the keys at /_gateway/jwks.json"), "{printed}");
}
