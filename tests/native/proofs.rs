//! Sender-constrained tokens (RFC 9449). The list of attacks in docs/standards/sender-constrained-tokens.md is
//! `each_attack_has_its_answer` and `each_mistake_is_refused`.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis::pipeline::{Gateway, Outcome, limits::NONCE_MS, wire::Fault};
use portcullis_policy::check;
use portcullis_token::{
    ExpectedProof, ProofError, SignatureOutcome, UnixMillis, check_signature,
    limits::{PROOF_AGE_MS, PROOF_AHEAD_MS, PROOF_BYTES, PROOF_ID_BYTES},
    parse_proof,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    fakes::{FakePorts, Seen, Vectors, answer, configured, gateway_of, header, parse_changes, setting, verdict},
    signer::{Signer, claims_at, issuer_table, jwks, with},
};

const URL: &str = "https://api.example.com";

/// The seed of the client's key.
pub(crate) const CLIENT: u8 = 20;

/// Issuers with each value of `proof`, a route for each, and routes with options of their own.
fn policy() -> String {
    let route = |path: &str, issuers: &str, more: &str| {
        format!(
            "[[routes]]\npath = \"{path}\"\nmethods = [\"GET\", \"POST\"]\nupstream = \"app\"\naccess = \"user\"\n\
             issuers = {issuers}\n{more}\n"
        )
    };
    [
        format!("public_url = \"{URL}\"\n"),
        issuer_table("id", 1, "proof = \"optional\"\nrevocations_from = \"id\""),
        issuer_table("bank", 2, "proof = \"required\""),
        issuer_table("plain", 3, ""),
        "[token_cookie]\nname = \"__Host-token\"\n[cors.app]\norigins = [\"https://app.example\"]\n\
         [upstreams.app]\nurl = \"https://app.example\"\n"
            .to_owned(),
        route("/id", "[\"id\"]", "token_cookie = true\nforward_authorization = true\ncors = \"app\""),
        route("/bank", "[\"bank\"]", "cors = \"app\""),
        route("/plain", "[\"plain\"]", "cors = \"app\""),
        route("/strict", "[\"id\", \"plain\"]", "proof = \"required\""),
        route("/once", "[\"id\"]", "revocation = \"strict\""),
        route("/some/{name}", "[\"plain\"]", "proof = \"optional\""),
        "[[routes]]\npath = \"/open\"\nmethods = [\"POST\"]\nupstream = \"app\"\naccess = \"public\"\n".to_owned(),
    ]
    .concat()
}

fn gateway() -> Gateway {
    gateway_of(&policy())
}

fn now() -> u64 {
    Vectors::load().now
}

fn sha256(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(text))
}

/// The public key of a client, with the defining members alone.
fn jwk(seed: u8) -> Value {
    let mut jwk = Signer::new(seed).jwk();
    jwk.as_object_mut().unwrap().remove("kid");
    jwk
}

/// The thumbprint of a client's key (RFC 7638, section 3).
pub(crate) fn thumbprint(seed: u8) -> String {
    let x = jwk(seed)["x"].as_str().unwrap().to_owned();
    sha256(&format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#))
}

fn token_with(issuer: &str, seed: u8, claims: &Value) -> String {
    let base = with(claims_at(now()), &json!({ "iss": format!("https://{issuer}.example") }));
    Signer::new(seed).sign("JWT", &with(base, claims))
}

/// A token of an issuer that is bound to the client's key.
fn bound(issuer: &str, seed: u8) -> String {
    token_with(issuer, seed, &json!({ "cnf": { "jkt": thumbprint(CLIENT) } }))
}

/// A proof of the client for a GET, with these changes of its header and claims.
pub(crate) fn proof_of(seed: u8, token: &str, path: &str, (head, claims): (&Value, &Value)) -> String {
    let header = json!({ "typ": "dpop+jwt", "alg": "EdDSA", "jwk": jwk(seed) });
    let made = json!({ "jti": "1", "htm": "GET", "htu": format!("{URL}{path}"), "iat": now(), "ath": sha256(token) });
    Signer::new(seed).sign_as(&with(header, head), &with(made, claims))
}

fn proof(token: &str, path: &str) -> String {
    proof_of(CLIENT, token, path, (&json!({}), &json!({})))
}

fn send(gateway: &Gateway, ports: &FakePorts, path: &str, token: &str, proof: &str) -> Seen {
    ports.send(gateway, "GET", path, &[("authorization", &format!("DPoP {token}")), ("dpop", proof)])
}

fn challenge(seen: &Seen) -> &str {
    header(answer(seen), "www-authenticate").unwrap()
}

const OK: (u16, &str) = (200, "ok");

#[test]
fn a_bound_token_is_accepted_with_its_proof() {
    for (path, issuer, seed) in
        [("/id", "id", 1), ("/bank", "bank", 2), ("/strict", "id", 1), ("/strict", "plain", 3), ("/some/a", "plain", 3)]
    {
        let (gateway, ports, token) = (gateway(), FakePorts::new(), bound(issuer, seed));
        // The token is cached after the first request.
        for jti in ["1", "2"] {
            let proof = proof_of(CLIENT, &token, path, (&json!({}), &json!({ "jti": jti })));
            assert_eq!(verdict(&send(&gateway, &ports, path, &token, &proof)), OK, "{path} {issuer}");
        }
        assert_eq!(ports.checks.get(), 3, "one check of the token, and one of each proof");
        assert_eq!(ports.client_checks.get(), 2, "keys of proofs are not cached with those of issuers");
    }
}

#[test]
fn bearer_tokens_need_no_proof_where_it_is_optional() {
    let (gateway, ports) = (gateway(), FakePorts::new());
    for (path, issuer, seed, expected) in [
        ("/id", "id", 1, OK),
        ("/plain", "plain", 3, OK),
        ("/some/a", "plain", 3, OK),
        ("/bank", "bank", 2, (401, "token_unbound")),
        ("/strict", "id", 1, (401, "token_unbound")),
    ] {
        let token = format!("Bearer {}", token_with(issuer, seed, &json!({})));
        assert_eq!(verdict(&ports.send(&gateway, "GET", path, &[("authorization", &token)])), expected, "{path}");
    }
}

#[test]
fn each_attack_has_its_answer() {
    let token = &bound("id", 1);
    let changed = |head: Value, claims: Value| proof_of(CLIENT, token, "/id", (&head, &claims));
    let key = |changes: Value| changed(json!({ "jwk": with(jwk(CLIENT), &changes) }), json!({}));
    let good = proof(token, "/id");
    let (unsigned, _) = good.rsplit_once('.').unwrap();
    let secret = json!({ "kty": "oct", "k": "AAAA" });
    let other_token = proof(&token_with("id", 1, &json!({ "sub": "eve" })), "/id");
    let times = [now() - PROOF_AGE_MS / 1000, now() + PROOF_AHEAD_MS / 1000 + 1];
    for (attack, proof, expected) in [
        ("a proof of another key", proof_of(21, token, "/id", (&json!({}), &json!({}))), "proof_key_mismatch"),
        (
            "the owner's key, signed by another",
            {
                let own = json!({ "jwk": jwk(CLIENT) });
                proof_of(21, token, "/id", (&own, &json!({})))
            },
            "proof_signature_invalid",
        ),
        ("a proof of another token", other_token, "proof_token_mismatch"),
        ("a proof without ath, as for a login", changed(json!({}), json!({ "ath": null })), "proof_token_mismatch"),
        ("a proof of another method", changed(json!({}), json!({ "htm": "POST" })), "proof_method_mismatch"),
        ("a method in lower case", changed(json!({}), json!({ "htm": "get" })), "proof_method_mismatch"),
        ("a proof of another path", proof_of(CLIENT, token, "/bank", (&json!({}), &json!({}))), "proof_url_mismatch"),
        (
            "a proof of another host",
            changed(json!({}), json!({ "htu": "https://evil.example/id" })),
            "proof_url_mismatch",
        ),
        (
            "the host as user",
            changed(json!({}), json!({ "htu": format!("{URL}@evil.example/id") })),
            "proof_url_mismatch",
        ),
        ("plain HTTP", changed(json!({}), json!({ "htu": "http://api.example.com/id" })), "proof_url_mismatch"),
        ("another port", changed(json!({}), json!({ "htu": format!("{URL}:8443/id") })), "proof_url_mismatch"),
        ("an ambiguous path", changed(json!({}), json!({ "htu": format!("{URL}/x%2F..%2Fid") })), "proof_url_mismatch"),
        ("a list of URLs", changed(json!({}), json!({ "htu": [format!("{URL}/id")] })), "proof_url_mismatch"),
        ("an old proof", changed(json!({}), json!({ "iat": times[0] })), "proof_time_invalid"),
        ("a proof of the future", changed(json!({}), json!({ "iat": times[1] })), "proof_time_invalid"),
        ("no time", changed(json!({}), json!({ "iat": null })), "proof_time_invalid"),
        ("a time as text", changed(json!({}), json!({ "iat": now().to_string() })), "proof_time_invalid"),
        ("no jti", changed(json!({}), json!({ "jti": null })), "proof_id_invalid"),
        ("an empty jti", changed(json!({}), json!({ "jti": "" })), "proof_id_invalid"),
        ("a long jti", changed(json!({}), json!({ "jti": "j".repeat(PROOF_ID_BYTES + 1) })), "proof_id_invalid"),
        ("a private key", key(json!({ "d": "AAAA" })), "proof_key_invalid"),
        ("a key for encryption", key(json!({ "use": "enc" })), "proof_key_invalid"),
        ("a symmetric key", changed(json!({ "jwk": secret }), json!({})), "proof_key_invalid"),
        (
            "a symmetric algorithm",
            changed(json!({ "alg": "HS256", "jwk": secret }), json!({})),
            "proof_algorithm_not_allowed",
        ),
        ("no algorithm", changed(json!({ "alg": "none" }), json!({})), "proof_algorithm_not_allowed"),
        ("an algorithm of another key", changed(json!({ "alg": "ES256" }), json!({})), "proof_key_invalid"),
        ("no key, but a kid", changed(json!({ "jwk": null, "kid": "1" }), json!({})), "proof_key_invalid"),
        ("an access token as proof", token.clone(), "proof_type_invalid"),
        ("another type", changed(json!({ "typ": "JWT" }), json!({})), "proof_type_invalid"),
        ("an extension", changed(json!({ "crit": ["exp"] }), json!({})), "proof_malformed"),
        ("two headers", format!("{good}, {good}"), "proof_malformed"),
        ("no signature", format!("{unsigned}."), "proof_malformed"),
        ("an empty header", String::new(), "proof_malformed"),
        ("a long proof", "a".repeat(PROOF_BYTES + 1), "proof_too_large"),
    ] {
        let (gateway, ports) = (gateway(), FakePorts::new());
        let seen = send(&gateway, &ports, "/id", token, &proof);
        assert_eq!(verdict(&seen).1, expected, "{attack}");
        let error = if expected == "proof_key_mismatch" { "invalid_token" } else { "invalid_dpop_proof" };
        let challenge = challenge(&seen);
        assert!(
            challenge.starts_with(&format!("DPoP realm=\"portcullis\", error=\"{error}\"")),
            "{attack}: {challenge}"
        );
        assert!(challenge.ends_with("algs=\"ES256 EdDSA RS256 PS256\""), "{attack}: {challenge}");
        assert!(ports.forwarded.borrow().is_empty(), "{attack}");
    }
}

#[test]
fn a_bound_token_is_never_a_bearer_token() {
    let (gateway, ports) = (gateway(), FakePorts::new());
    for (path, issuer, seed) in [("/id", "id", 1), ("/bank", "bank", 2), ("/plain", "plain", 3)] {
        let token = bound(issuer, seed);
        let (bearer, dpop, cookie) =
            (format!("Bearer {token}"), format!("DPoP {token}"), format!("__Host-token={token}"));
        let proof = proof(&token, path);
        let sent = [
            vec![("authorization", &*bearer)],
            vec![("authorization", &bearer), ("dpop", &proof)],
            vec![("cookie", &cookie), ("dpop", &proof)],
            vec![("authorization", &dpop)],
        ];
        for headers in sent {
            let code = verdict(&ports.send(&gateway, "GET", path, &headers)).1;
            let expected = match (path, headers[0]) {
                ("/bank" | "/plain", ("cookie", _)) => "credentials_missing",
                ("/id" | "/bank", ("authorization", value)) if value == dpop => "proof_missing",
                _ => "token_bound",
            };
            assert_eq!(code, expected, "{path} {headers:?}");
        }
    }
    let certificate = token_with("id", 1, &json!({ "cnf": { "x5t#S256": sha256("certificate") } }));
    let seen = ports.send(&gateway, "GET", "/id", &[("authorization", &format!("Bearer {certificate}"))]);
    assert_eq!(verdict(&seen).1, "certificate_mismatch");
    // Also of a policy without proofs.
    let gateway = gateway_of(&policy_without_proofs());
    let bearer = format!("Bearer {}", bound("id", 1));
    assert_eq!(verdict(&ports.send(&gateway, "GET", "/id", &[("authorization", &bearer)])).1, "token_bound");
    let dpop = format!("DPoP {}", bound("id", 1));
    assert_eq!(verdict(&ports.send(&gateway, "GET", "/id", &[("authorization", &dpop)])).1, "credentials_malformed");
}

fn policy_without_proofs() -> String {
    policy().lines().filter(|line| !line.starts_with("proof = ")).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_bound_token_cannot_revoke() {
    let (gateway, ports) = (gateway(), FakePorts::new());
    let cnf = json!({ "jkt": thumbprint(CLIENT) });
    let claims = json!({ "aud": "portcullis", "sub": "id", "token_type": "service", "cnf": cnf });
    let token = Signer::new(1).sign("service+jwt", &with(claims_at(now()), &claims));
    let seen = ports.send(&gateway, "POST", "/_gateway/revocations", &[("authorization", &format!("Bearer {token}"))]);
    assert_eq!(verdict(&seen).1, "token_bound");
}

#[test]
fn a_malformed_confirmation_is_no_bearer_token() {
    let (gateway, ports) = (gateway(), FakePorts::new());
    for (cnf, expected) in [
        (json!("key"), "token_identity_invalid"),
        (json!([]), "token_identity_invalid"),
        (json!({ "jkt": null }), "token_identity_invalid"),
        (json!({ "jkt": "short" }), "token_identity_invalid"),
        (json!({ "jkt": [thumbprint(CLIENT)] }), "token_identity_invalid"),
        (json!({ "x5t#S256": 1 }), "token_identity_invalid"),
        (json!({ "jkt": thumbprint(CLIENT), "x5t#S256": sha256("certificate") }), "certificate_mismatch"),
        // RFC 7800, section 3.1: other methods are ignored.
        (json!({ "kid": "1" }), "ok"),
    ] {
        let token = format!("Bearer {}", token_with("id", 1, &json!({ "cnf": cnf })));
        assert_eq!(verdict(&ports.send(&gateway, "GET", "/id", &[("authorization", &token)])).1, expected, "{cnf}");
    }
}

#[test]
fn a_proof_is_accepted_once() {
    let (gateway, ports, token) = (gateway(), FakePorts::new(), bound("id", 1));
    // Made a little ahead, so it stays valid for as long as possible.
    let iat = now() + PROOF_AHEAD_MS / 1000;
    let ahead = proof_of(CLIENT, &token, "/id", (&json!({}), &json!({ "iat": iat })));
    assert_eq!(verdict(&send(&gateway, &ports, "/id", &token, &ahead)), OK);
    for _ in 0..3 {
        ports.advance((PROOF_AGE_MS + PROOF_AHEAD_MS) / 3 - 1);
        assert_eq!(verdict(&send(&gateway, &ports, "/id", &token, &ahead)).1, "proof_replayed");
    }
    ports.advance(3);
    assert_eq!(verdict(&send(&gateway, &ports, "/id", &token, &ahead)).1, "proof_time_invalid");
    // The same jti of another client is another proof.
    let iat = json!({ "jti": "2", "iat": now() + (PROOF_AGE_MS + PROOF_AHEAD_MS) / 1000 });
    let other = token_with("id", 1, &json!({ "cnf": { "jkt": thumbprint(21) } }));
    for (seed, token) in [(CLIENT, &token), (21, &other)] {
        let proof = proof_of(seed, token, "/id", (&json!({}), &iat));
        assert_eq!(verdict(&send(&gateway, &ports, "/id", token, &proof)), OK);
        assert_eq!(verdict(&send(&gateway, &ports, "/id", token, &proof)).1, "proof_replayed");
    }
}

/// [`policy`] with a route that has a limit by user and an authorizer.
fn limited_policy() -> String {
    let more = "[limits.few]\nby = \"user\"\n[authorizers.pdp]\nurl = \"https://pdp.example\"\n[[routes]]\npath = \"/limited\"\n\
                methods = [\"GET\"]\nupstream = \"app\"\naccess = \"user\"\nissuers = [\"id\"]\nlimits = [\"few\"]\n\
                authorizer = \"pdp\"\n";
    policy() + more
}

#[test]
fn a_replayed_request_does_not_count_against_its_first_senders_limit() {
    let (gateway, ports, token) = (gateway_of(&limited_policy()), FakePorts::new(), bound("id", 1));
    ports.limit.set(2);
    let with_id = |jti: &str| proof_of(CLIENT, &token, "/limited", (&json!({}), &json!({ "jti": jti })));
    assert_eq!(verdict(&send(&gateway, &ports, "/limited", &token, &with_id("1"))), OK);
    for _ in 0..3 {
        assert_eq!(verdict(&send(&gateway, &ports, "/limited", &token, &with_id("1"))), (401, "proof_replayed"));
    }
    assert_eq!(verdict(&send(&gateway, &ports, "/limited", &token, &with_id("2"))), OK);
    assert_eq!(verdict(&send(&gateway, &ports, "/limited", &token, &with_id("3"))), (429, "rate_limited"));
    assert_eq!(ports.questions.borrow().len(), 2);
}

#[test]
fn proofs_of_refused_requests_take_no_memory() {
    let (gateway, ports, token) = (gateway_of(&limited_policy()), FakePorts::new(), bound("id", 1));
    *ports.decision.borrow_mut() = Ok((200, r#"{"decision":false}"#.to_owned()));
    let refused = send(&gateway, &ports, "/limited", &token, &proof(&token, "/limited"));
    assert_eq!(verdict(&refused), (403, "authorization_denied"));
    assert_eq!(status_of(&gateway, &ports)["remembered"], json!(0));
}

#[test]
fn a_new_policy_keeps_the_proofs_of_the_one_before() {
    let (before, ports, token) = (gateway(), FakePorts::new(), bound("id", 1));
    let first = proof(&token, "/id");
    assert_eq!(verdict(&send(&before, &ports, "/id", &token, &first)), OK);
    let mut gateway = gateway_of(&limited_policy());
    gateway.keep_proofs_of(&before);
    assert_eq!(verdict(&send(&gateway, &ports, "/id", &token, &first)), (401, "proof_replayed"));
    // Requests that began before are still answered by the one before.
    let second = proof_of(CLIENT, &token, "/id", (&json!({}), &json!({ "jti": "2" })));
    assert_eq!(verdict(&send(&before, &ports, "/id", &token, &second)), OK);
    assert_eq!(verdict(&send(&gateway, &ports, "/id", &token, &second)), (401, "proof_replayed"));
}

fn status_of(gateway: &Gateway, ports: &FakePorts) -> Value {
    let status: Value = serde_json::from_str(&answer(&ports.send_as_operator(gateway, "/status")).body).unwrap();
    status["proofs"].clone()
}

#[test]
fn a_key_that_the_runtime_cannot_import_is_refused() {
    let n = format!("u{}", "A".repeat(340) + "Q");
    for (e, expected) in [
        ("AQAB", "proof_signature_invalid"),
        ("Aw", "proof_signature_invalid"),
        ("BQ", "proof_key_invalid"),
        ("AQAD", "proof_key_invalid"),
    ] {
        let key = json!({ "kty": "RSA", "n": n, "e": e });
        let jkt = sha256(&format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#));
        let token = token_with("id", 1, &json!({ "cnf": { "jkt": jkt } }));
        let proof = proof_of(CLIENT, &token, "/id", (&json!({ "alg": "RS256", "jwk": key }), &json!({})));
        assert_eq!(verdict(&send(&gateway(), &FakePorts::new(), "/id", &token, &proof)), (401, expected), "{e}");
    }
}

#[test]
fn a_proof_is_accepted_once_by_all_isolates_on_strict_routes() {
    let (ports, token) = (FakePorts::new(), bound("id", 1));
    let twice = |path: &str| {
        let proof = proof(&token, path);
        [gateway(), gateway()].map(|isolate| verdict(&send(&isolate, &ports, path, &token, &proof)))
    };
    assert_eq!(twice("/id"), [OK, OK]);
    ports.proofs.borrow_mut().clear();
    assert_eq!(twice("/once"), [OK, (401, "proof_replayed")]);
    ports.log.borrow_mut().fault = Some(Fault::TimedOut);
    let other = proof_of(CLIENT, &token, "/once", (&json!({}), &json!({ "jti": "2" })));
    assert_eq!(verdict(&send(&gateway(), &ports, "/once", &token, &other)), (503, "proofs_unavailable"));
}

const NONCE_KEYS: &str = "n1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

fn nonce_settings(name: &str) -> Option<String> {
    if name == "DPOP_NONCE_KEYS" { Some(NONCE_KEYS.to_owned()) } else { setting(name) }
}

#[test]
fn nonces_are_given_out_and_rotate() {
    let (gateway, ports, token) = (configured(&policy(), nonce_settings).unwrap(), FakePorts::new(), bound("id", 1));
    let jti = std::cell::Cell::new(0);
    let send_with = |nonce: Value, iat: u64| {
        jti.set(jti.get() + 1);
        let claims = json!({ "nonce": nonce, "jti": jti.get().to_string(), "iat": iat });
        send(&gateway, &ports, "/id", &token, &proof_of(CLIENT, &token, "/id", (&json!({}), &claims)))
    };
    let new_nonce = |seen: &Seen| match &seen.outcome {
        Outcome::Answered(answer) => header(answer, "dpop-nonce").map(str::to_owned),
        Outcome::Forwarded { plan, .. } => {
            let (_, added) = parse_changes(&plan.changes);
            added.iter().find(|(name, _)| *name == "dpop-nonce").map(|(_, value)| (*value).to_owned())
        }
    };
    // To the beginning of a window.
    ports.advance(NONCE_MS - ports.now.get().0 % NONCE_MS);
    for wrong in [json!(null), json!(""), json!("x"), json!(["x"]), json!("AAAAAAAAAAAAAAAAAAAAAA")] {
        let seen = send_with(wrong.clone(), now());
        assert_eq!(verdict(&seen), (401, "proof_nonce_needed"), "{wrong}");
        assert!(challenge(&seen).starts_with("DPoP realm=\"portcullis\", error=\"use_dpop_nonce\""));
        assert!(new_nonce(&seen).is_some());
    }
    let first = new_nonce(&send_with(json!(null), now())).unwrap();
    // A nonce says when the proof was made, whatever the client's clock says.
    let seen = send_with(json!(first), 1_000_000);
    assert_eq!((verdict(&seen), new_nonce(&seen)), (OK, None));
    ports.advance(NONCE_MS);
    let seen = send_with(json!(first), now());
    assert_eq!(verdict(&seen), OK);
    let second = new_nonce(&seen).unwrap();
    assert_ne!(first, second);
    assert_eq!(verdict(&send_with(json!(second), now())), OK);
    ports.advance(NONCE_MS);
    assert_eq!(verdict(&send_with(json!(first), now())).1, "proof_nonce_needed");
    assert_eq!(verdict(&send_with(json!(second), now())), OK);
    // Of another proof error, there is no new nonce.
    let other = proof_of(21, &token, "/id", (&json!({}), &json!({})));
    assert_eq!(new_nonce(&send(&gateway, &ports, "/id", &token, &other)), None);
}

#[test]
fn an_answer_with_a_nonce_is_not_cached() {
    let set = policy().replacen("cors = \"app\"\n", "response_headers = { set = { Cache-Control = \"public\" } }\n", 1);
    for policy in [policy(), set] {
        let (gateway, ports, token) = (configured(&policy, nonce_settings).unwrap(), FakePorts::new(), bound("id", 1));
        let cached = [("cache-control", "public, max-age=60"), ("dpop-nonce", "theirs")];
        *ports.answer_headers.borrow_mut() = cached.to_vec();
        let refused = send(&gateway, &ports, "/id", &token, &proof(&token, "/id"));
        assert_eq!(header(answer(&refused), "cache-control"), Some("no-store"));
        let nonce = header(answer(&refused), "dpop-nonce").unwrap();
        let changes = |jti: &str| {
            let claims = json!({ "nonce": nonce, "jti": jti });
            let proof = proof_of(CLIENT, &token, "/id", (&json!({}), &claims));
            let Outcome::Forwarded { plan, .. } = send(&gateway, &ports, "/id", &token, &proof).outcome else {
                panic!("{jti}")
            };
            let (removed, added) = parse_changes(&plan.changes);
            let values = added.iter().filter(|(name, _)| name.eq_ignore_ascii_case("cache-control"));
            let values: Vec<String> = values.map(|(_, value)| (*value).to_owned()).collect();
            (removed.contains(&"cache-control"), values)
        };
        let is_set = policy.contains("Cache-Control");
        let own = if is_set { vec!["public".to_owned()] } else { Vec::new() };
        assert_eq!(changes("1"), (is_set, own));
        ports.advance(NONCE_MS);
        assert_eq!(changes("2"), (true, vec!["no-store".to_owned()]));
    }
}

#[test]
fn a_nonce_of_the_other_secret_is_accepted_during_a_rotation() {
    let both = |name: &str| {
        let keys = format!("n2:{},{NONCE_KEYS}", URL_SAFE_NO_PAD.encode([7; 32]));
        if name == "DPOP_NONCE_KEYS" { Some(keys) } else { setting(name) }
    };
    let (ports, token) = (FakePorts::new(), bound("id", 1));
    let refused = send(&configured(&policy(), nonce_settings).unwrap(), &ports, "/id", &token, &proof(&token, "/id"));
    let nonce = header(answer(&refused), "dpop-nonce").unwrap();
    let proof = proof_of(CLIENT, &token, "/id", (&json!({}), &json!({ "nonce": nonce })));
    assert_eq!(verdict(&send(&configured(&policy(), both).unwrap(), &ports, "/id", &token, &proof)), OK);
    let malformed = |name: &str| if name == "DPOP_NONCE_KEYS" { Some("secret".to_owned()) } else { setting(name) };
    let fault = configured(&policy(), malformed).unwrap_err().0;
    assert!(fault.contains("DPOP_NONCE_KEYS") && !fault.contains("secret:"), "{fault}");
}

#[test]
fn a_token_of_a_certificate_is_accepted_from_its_client() {
    // RFC 8705, section 3.1, has this thumbprint.
    let thumbprint = "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2";
    let digest = URL_SAFE_NO_PAD.encode(Sha256::digest("certificate"));
    let hex: String = Sha256::digest("certificate").iter().map(|byte| format!("{byte:02x}")).collect();
    let with_key = json!({ "x5t#S256": digest, "jkt": self::thumbprint(CLIENT) });
    let other = "00".repeat(32);
    for (what, issuer, path, cnf, certificate, expected) in [
        ("its certificate", ("id", 1), "/id", json!({ "x5t#S256": digest }), Some(hex.as_str()), "ok"),
        ("where proofs are required", ("bank", 2), "/bank", json!({ "x5t#S256": digest }), Some(&hex), "ok"),
        ("in upper case", ("id", 1), "/id", json!({ "x5t#S256": digest }), Some(&hex.to_uppercase()), "ok"),
        ("no certificate", ("id", 1), "/id", json!({ "x5t#S256": digest }), None, "certificate_mismatch"),
        ("another", ("id", 1), "/id", json!({ "x5t#S256": digest }), Some(&other), "certificate_mismatch"),
        ("a part", ("id", 1), "/id", json!({ "x5t#S256": digest }), Some(&hex[..62]), "certificate_mismatch"),
        ("another text", ("id", 1), "/id", json!({ "x5t#S256": digest }), Some("é"), "certificate_mismatch"),
        ("the RFC's", ("id", 1), "/id", json!({ "x5t#S256": thumbprint }), Some(&hex), "certificate_mismatch"),
        ("no proof option", ("plain", 3), "/plain", json!({ "x5t#S256": digest }), Some(&hex), "token_bound"),
        ("a key as well", ("id", 1), "/id", with_key, Some(&hex), "token_bound"),
        ("an unbound token", ("bank", 2), "/bank", json!({}), Some(&hex), "token_unbound"),
    ] {
        let (gateway, ports) = (gateway(), FakePorts::new());
        *ports.certificate.borrow_mut() = certificate.map(str::to_owned);
        let token = token_with(issuer.0, issuer.1, &json!({ "cnf": cnf }));
        let seen = ports.send(&gateway, "GET", path, &[("authorization", &format!("Bearer {token}"))]);
        assert_eq!(verdict(&seen).1, expected, "{what}");
        if expected == "certificate_mismatch" {
            assert!(challenge(&seen).contains("error=\"invalid_token\""), "{what}");
        }
        // A cached token is checked again.
        *ports.certificate.borrow_mut() = None;
        let seen = ports.send(&gateway, "GET", path, &[("authorization", &format!("Bearer {token}"))]);
        assert_ne!(verdict(&seen), OK, "{what}");
    }
    let (gateway, ports) = (gateway(), FakePorts::new());
    *ports.certificate.borrow_mut() = Some(hex);
    let cnf = json!({ "cnf": { "x5t#S256": digest, "jkt": self::thumbprint(CLIENT) } });
    let token = token_with("id", 1, &cnf);
    assert_eq!(verdict(&send(&gateway, &ports, "/id", &token, &proof(&token, "/id"))), OK, "both");
    let token = token_with("id", 1, &json!({ "cnf": { "x5t#S256": digest } }));
    assert_eq!(verdict(&send(&gateway, &ports, "/id", &token, &proof(&token, "/id"))).1, "token_unbound");
}

#[test]
fn the_metadata_of_a_resource_says_what_its_clients_prove() {
    let policy = format!(
        "{}[[resources]]\npath = \"/bank\"\n[[resources]]\npath = \"/id\"\n[[resources]]\npath = \"/plain\"\n",
        policy()
    );
    let (gateway, ports) = (gateway_of(&policy), FakePorts::new());
    for (path, algorithms) in [
        ("/bank", json!(["ES256", "EdDSA", "RS256", "PS256"])),
        ("/id", json!(["ES256", "EdDSA", "RS256", "PS256"])),
        ("/plain", Value::Null),
    ] {
        let seen = ports.send(&gateway, "GET", &format!("/.well-known/oauth-protected-resource{path}"), &[]);
        let document: Value = serde_json::from_str(&answer(&seen).body).unwrap();
        assert_eq!(document["dpop_signing_alg_values_supported"], algorithms, "{path}");
        // Tokens of certificates are accepted without a proof, from clients of a zone with mTLS.
        for member in ["dpop_bound_access_tokens_required", "tls_client_certificate_bound_access_tokens"] {
            assert!(document.get(member).is_none(), "{path} {member}");
        }
    }
}

#[test]
fn spellings_of_one_url_are_equal() {
    let token = bound("plain", 3);
    for (htu, path) in [
        ("HTTPS://API.example.com/some/a", "/some/a"),
        ("https://api.example.com:443/some/a", "/some/a"),
        ("https://api.example.com/some/a?b=1#c", "/some/a?d=2"),
        ("https://api.example.com/some/%61", "/some/a"),
        ("https://api.example.com/some/a", "/some/%61"),
    ] {
        let (gateway, ports) = (gateway(), FakePorts::new());
        let proof = proof_of(CLIENT, &token, "", (&json!({}), &json!({ "htu": htu })));
        assert_eq!(verdict(&send(&gateway, &ports, path, &token, &proof)), OK, "{htu} {path}");
    }
}

#[test]
fn the_deployments_public_url_counts_and_no_header_does() {
    let url = |name: &str| if name == "PUBLIC_URL" { Some("https://eu.example.com".to_owned()) } else { setting(name) };
    let (gateway, ports, token) = (configured(&policy(), url).unwrap(), FakePorts::new(), bound("id", 1));
    assert_eq!(verdict(&send(&gateway, &ports, "/id", &token, &proof(&token, "/id"))).1, "proof_url_mismatch");
    let proof = proof_of(CLIENT, &token, "", (&json!({}), &json!({ "htu": "https://eu.example.com/id" })));
    let authorization = format!("dpop {token}");
    let headers =
        [("authorization", &*authorization), ("dpop", &proof), ("host", "x.example"), ("x-forwarded-host", URL)];
    assert_eq!(verdict(&ports.send(&gateway, "GET", "/id", &headers)), OK);
    let wrong = |name: &str| if name == "PUBLIC_URL" { Some("api.example.com".to_owned()) } else { setting(name) };
    assert!(configured(&policy(), wrong).unwrap_err().0.contains("PUBLIC_URL"));
}

#[test]
fn a_challenge_names_the_schemes_and_the_algorithms() {
    let (gateway, ports) = (gateway(), FakePorts::new());
    let algs = "algs=\"ES256 EdDSA RS256 PS256\"";
    let bearer = format!("Bearer {}", bound("id", 1));
    let dpop = format!("DPoP {}", token_with("id", 1, &json!({})));
    for (path, headers, expected) in [
        ("/id", &[][..], format!("Bearer realm=\"portcullis\", DPoP realm=\"portcullis\", {algs}")),
        ("/bank", &[], format!("DPoP realm=\"portcullis\", {algs}")),
        ("/strict", &[], format!("DPoP realm=\"portcullis\", {algs}")),
        ("/plain", &[], "Bearer realm=\"portcullis\"".to_owned()),
        (
            "/id",
            &[("authorization", &*bearer)],
            format!(
                "Bearer realm=\"portcullis\", error=\"invalid_token\", error_description=\"Invalid token\", \
                 DPoP realm=\"portcullis\", {algs}"
            ),
        ),
        (
            "/id",
            &[("authorization", &dpop)],
            format!("DPoP realm=\"portcullis\", error=\"invalid_token\", error_description=\"Invalid token\", {algs}"),
        ),
    ] {
        assert_eq!(challenge(&ports.send(&gateway, "GET", path, headers)), expected, "{path} {headers:?}");
    }
}

#[test]
fn the_proof_reaches_the_service_only_where_it_is_not_checked() {
    let (gateway, ports, token) = (gateway(), FakePorts::new(), bound("id", 1));
    let sent = |headers: &[(&str, &str)], method: &str, path: &str| {
        assert_eq!(verdict(&ports.send(&gateway, method, path, headers)), OK, "{path}");
        let headers = ports.forwarded.borrow_mut().remove(0).headers;
        ["dpop", "authorization"]
            .map(|name| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()))
    };
    let (dpop, proof) = (format!("DPoP {token}"), proof(&token, "/id"));
    assert_eq!(sent(&[("authorization", &dpop), ("dpop", &proof)], "GET", "/id"), [None, Some(dpop)]);
    assert_eq!(sent(&[("dpop", &proof)], "POST", "/open"), [Some(proof), None]);
}

#[test]
fn pages_may_send_proofs_and_read_what_is_wrong_with_them() {
    let (gateway, ports) = (gateway(), FakePorts::new());
    let origin = ("origin", "https://app.example");
    for (path, takes_proofs) in [("/id", true), ("/bank", true), ("/plain", false)] {
        let headers = [origin, ("access-control-request-method", "GET")];
        let preflight = ports.send(&gateway, "OPTIONS", path, &headers);
        let allowed = header(answer(&preflight), "access-control-allow-headers").unwrap();
        assert_eq!(allowed.split(", ").any(|name| name == "dpop"), takes_proofs, "{path}");
        let refused = ports.send(&gateway, "GET", path, &[origin]);
        let exposed = header(answer(&refused), "access-control-expose-headers").unwrap();
        assert_eq!(exposed.split(", ").any(|name| name == "www-authenticate"), takes_proofs, "{path}");
    }
}

#[test]
fn a_failure_of_the_runtime_is_no_refusal_of_the_proof() {
    let (gateway, ports, token) = (gateway(), FakePorts::new(), bound("id", 1));
    let other = proof_of(CLIENT, &token, "/id", (&json!({}), &json!({ "jti": "2" })));
    assert_eq!(verdict(&send(&gateway, &ports, "/id", &token, &other)), OK);
    ports.backend_fails.set(true);
    let seen = send(&gateway, &ports, "/id", &token, &proof(&token, "/id"));
    assert_eq!(verdict(&seen), (503, "signature_backend_unavailable"));
}

#[test]
fn the_example_of_the_rfc_is_accepted() {
    // RFC 9449, sections 7.1 (figure 12) and 6.1 (figure 9).
    const PROOF: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUk\
        RZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6Il\
        AtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9w\
        cm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFF\
        byJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA";
    const TOKEN: &str = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
    const KEY: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
    let proof = parse_proof(PROOF).unwrap();
    assert_eq!(proof.unverified_thumbprint(), KEY);
    let key = proof.key().unwrap();
    assert_eq!(key.thumbprint, KEY);
    let outcome = check_signature(&key.public, proof.algorithm(), proof.signing_input(), proof.signature());
    assert_eq!(outcome, SignatureOutcome::Valid);
    let expected = ExpectedProof {
        method: "GET",
        is_url: &|url| url == "https://resource.example.org/protectedresource",
        token: Some(TOKEN),
        is_nonce: None,
    };
    let at = UnixMillis::from_secs(1_562_262_618);
    assert!(proof.admit(outcome, &expected, at).is_ok());
    let outcome = SignatureOutcome::Invalid;
    assert_eq!(parse_proof(PROOF).unwrap().admit(outcome, &expected, at), Err(ProofError::BadSignature));
}

#[test]
fn each_mistake_is_refused() {
    let base = policy();
    for (mistake, written, replaced, place) in [
        ("no public_url", format!("public_url = \"{URL}\"\n"), "", "proof needs public_url"),
        (
            "proof with token_header",
            "proof = \"required\"\n[issuers.plain]".to_owned(),
            "proof = \"required\"\ntoken_header = \"X-Bank\"\n[issuers.plain]",
            "proof does not go with token_header",
        ),
        ("another value", "proof = \"optional\"".to_owned(), "proof = \"always\"", "expected `optional` or `required`"),
        ("true", "proof = \"optional\"".to_owned(), "proof = true", ""),
        (
            "proof on a public route",
            "access = \"public\"".to_owned(),
            "access = \"public\"\nproof = \"required\"",
            "proof needs a token",
        ),
        (
            "tenants by host on a route with proof",
            "access = \"user\"\nissuers = [\"plain\"]\nproof".to_owned(),
            "access = { all = [\"user\", { claim = \"t\", equals_host = \"{t}.example.com\" }] }\n\
             issuers = [\"plain\"]\nproof",
            "equals_host does not go with proof",
        ),
        (
            "tenants by host with tokens of an issuer with proof",
            "access = \"user\"\nissuers = [\"bank\"]".to_owned(),
            "access = { claim = \"t\", equals_host = \"{t}.example.com\" }\nissuers = [\"bank\"]",
            "equals_host does not go with proof",
        ),
        (
            "a cookie of bound tokens",
            "path = \"/bank\"".to_owned(),
            "token_cookie = true\npath = \"/bank\"",
            "token_cookie = true does not go with proof",
        ),
        (
            "proof of a token in a header",
            "[issuers.plain]".to_owned(),
            "[issuers.plain]
token_header = \"X-Plain\"",
            "proof does not go with tokens in a token_header",
        ),
        (
            "DPoP as token_header",
            "[issuers.plain]".to_owned(),
            "[issuers.plain]\ntoken_header = \"DPoP\"",
            "token_header",
        ),
    ] {
        let text = base.replacen(&written, replaced, 1);
        assert!(base.contains(&written), "{mistake}");
        let mistakes = check(&text).unwrap_err();
        assert!(mistakes.iter().any(|found| found.message.contains(place)), "{mistake}: {mistakes:?}");
    }
}

#[test]
fn status_and_the_policy_tool_know_proofs() {
    let (gateway, ports, token) = (gateway(), FakePorts::new(), bound("id", 1));
    assert_eq!(verdict(&send(&gateway, &ports, "/id", &token, &proof(&token, "/id"))), OK);
    assert_eq!(status_of(&gateway, &ports), json!({ "remembered": 1, "nonces": false }));

    let policy = json!({ "name": "p", "text": policy() });
    let run = |request: Value| -> Value { serde_json::from_str(&portcullis_cli::run(&request.to_string())).unwrap() };
    let table = run(json!({ "command": "table", "policy": policy }));
    let lines_of = |path: &str| table["out"].as_str().unwrap().lines().find(|line| line.contains(path)).unwrap();
    assert!(lines_of(" /bank ").contains("bound tokens only"), "{table}");
    assert!(!lines_of(" /id ").contains("bound tokens only"), "{table}");

    let explain = |issuer: &str, seed: u8, token: &str| {
        let keys = jwks(&[&Signer::new(seed)]);
        let subject = json!({ "token": token, "now_ms": now() * 1000, "keys": keys });
        let output = run(json!({ "command": { "explain": subject }, "policy": policy }));
        (output["code"].clone(), format!("{issuer} {}", output["out"].as_str().unwrap()))
    };
    let key = thumbprint(CLIENT);
    let with_certificate = json!({ "cnf": { "jkt": key, "x5t#S256": key } });
    for (issuer, seed, token, code, words) in [
        ("id", 1, bound("id", 1), 0, format!("accepted with Authorization: DPoP and a proof of the key {key}.")),
        ("id", 1, token_with("id", 1, &with_certificate), 0, format!("{key} and the client certificate {key}.")),
        ("id", 1, token_with("id", 1, &json!({})), 0, "The token is accepted.".to_owned()),
        ("bank", 2, token_with("bank", 2, &json!({})), 1, "refused: 401 token_unbound".to_owned()),
        ("plain", 3, bound("plain", 3), 0, format!("{key}, on routes with `proof` only.")),
    ] {
        let (found, out) = explain(issuer, seed, &token);
        assert!(out.contains(&words), "{out}");
        assert_eq!(found, json!(code), "{out}");
    }
}
