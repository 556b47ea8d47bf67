//! Logins and refreshes with proofs of possession (RFC 9449, section 5).

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_origin::limits;
use reqwest::{Method, header};
use serde_json::{Value, json};

use crate::support::{App, PASSWORD, Person, Reply, Service, claims};

const URL: &str = "https://api.example.com";
const LOGIN: &str = "/api/v1/auth/login";
const REFRESH: &str = "/api/v1/auth/refresh";

const REUSE_MS: i64 = limits::REFRESH_REUSE_S * 1000;

/// How far ahead a proof may be.
const AHEAD_MS: i64 = 30_000;

/// A client's key.
struct Key(Ed25519KeyPair);

impl Key {
    fn new(seed: u8) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
    }

    fn x(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0.public_key().as_ref())
    }

    fn thumbprint(&self) -> String {
        let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, self.x());
        URL_SAFE_NO_PAD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, canonical.as_bytes()))
    }

    fn proof(&self, app: &App, (method, url): (&str, &str), age_s: i64) -> String {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": self.x() });
        let header = part(json!({ "typ": "dpop+jwt", "alg": "EdDSA", "jwk": jwk }));
        let iat = app.clock.now() / 1000 - age_s;
        let claims = part(json!({ "jti": "1", "htm": method, "htu": url, "iat": iat }));
        let input = format!("{header}.{claims}");
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(self.0.sign(input.as_bytes())))
    }
}

async fn start() -> App {
    App::start_with("http://127.0.0.1:9", |mut settings| {
        settings.public_url = Some(format!("{URL}/"));
        settings
    })
    .await
}

async fn post(app: &App, path: &str, body: Value, proofs: &[&str]) -> Reply {
    let request = app.forwarded(Service::Auth, Method::POST, path, None, Some(body));
    app.send_raw(proofs.iter().fold(request, |request, proof| request.header("dpop", *proof))).await
}

fn login() -> Value {
    json!({ "email": "ada@example.com", "password": PASSWORD })
}

fn binding(reply: &Reply) -> (String, Value) {
    let document = reply.json();
    let token = document["access_token"].as_str().unwrap();
    (document["token_type"].as_str().unwrap().to_owned(), claims(token)["cnf"]["jkt"].clone())
}

#[tokio::test]
async fn a_client_with_a_proof_gets_bound_tokens_for_the_whole_session() {
    let app = start().await;
    app.register("ada@example.com").await;
    let (key, thief) = (Key::new(1), Key::new(2));
    let proof = key.proof(&app, ("POST", &format!("{URL}{LOGIN}")), 0);
    let session = post(&app, LOGIN, login(), &[&proof]).await;
    assert_eq!(session.status, 200, "{}", session.text);
    assert_eq!(binding(&session), ("DPoP".to_owned(), json!(key.thumbprint())));
    let at = format!("{URL}{REFRESH}");
    let stolen = json!({ "refresh_token": session.json()["refresh_token"] });
    // Without the key, a refresh token yields nothing, and stays valid.
    let of_thief = thief.proof(&app, ("POST", &at), 0);
    for proofs in [vec![], vec![of_thief.as_str()]] {
        let refused = post(&app, REFRESH, stolen.clone(), &proofs).await;
        assert_eq!((refused.status, refused.code().as_str()), (400, "invalid_dpop_proof"));
    }
    let proof = key.proof(&app, ("POST", &at), 0);
    for _ in 0..2 {
        // Repeated within ten seconds, too.
        let renewed = post(&app, REFRESH, stolen.clone(), &[&proof]).await;
        assert_eq!(binding(&renewed), ("DPoP".to_owned(), json!(key.thumbprint())));
    }
    // Also a spent one ends no session without the key.
    app.clock.pass(REUSE_MS + AHEAD_MS + 1000);
    assert_eq!(post(&app, REFRESH, stolen.clone(), &[]).await.status, 400);
    let reused = post(&app, REFRESH, stolen, &[&key.proof(&app, ("POST", &at), 0)]).await;
    assert_eq!((reused.status, reused.code().as_str()), (401, "token_revoked"));
}

#[tokio::test]
async fn a_captured_refresh_ends_no_session() {
    let app = start().await;
    app.register("ada@example.com").await;
    let (key, at) = (Key::new(1), format!("{URL}{REFRESH}"));
    // The client's clock is right, late, and ahead.
    for age_s in [0, 40, -30] {
        let proof = |url: &str| key.proof(&app, ("POST", url), age_s);
        let session = post(&app, LOGIN, login(), &[&proof(&format!("{URL}{LOGIN}"))]).await;
        let token_of = |reply: &Reply| json!({ "refresh_token": reply.json()["refresh_token"] });
        let (spent, captured) = (token_of(&session), proof(&at));
        let renewed = post(&app, REFRESH, spent.clone(), &[&captured]).await;
        // Repeated because the answer was lost, and captured again.
        app.clock.pass(REUSE_MS - 1000);
        let repeated = proof(&at);
        assert_eq!(post(&app, REFRESH, spent.clone(), &[&repeated]).await.status, 200);
        app.clock.pass(1000);
        // A later refresh, whose proof is combined with the token of the first.
        let later = proof(&at);
        let renewed = post(&app, REFRESH, token_of(&renewed), &[&later]).await;
        assert_eq!(renewed.status, 200, "{}", renewed.text);
        for captured in [captured, repeated, later] {
            let replayed = post(&app, REFRESH, spent.clone(), &[&captured]).await;
            assert_eq!((replayed.status, replayed.code().as_str()), (400, "invalid_dpop_proof"), "{age_s}");
        }
        app.clock.pass(REUSE_MS);
        let renewed = post(&app, REFRESH, token_of(&renewed), &[&proof(&at)]).await;
        assert_eq!(renewed.status, 200, "the session goes on: {}", renewed.text);
    }
}

#[tokio::test]
async fn a_bound_token_can_be_validated() {
    let app = start().await;
    app.register("ada@example.com").await;
    let key = Key::new(1);
    let session = post(&app, LOGIN, login(), &[&key.proof(&app, ("POST", &format!("{URL}{LOGIN}")), 0)]).await;
    let (person, validate) = (Person::from_login(&session), "/api/v1/auth/validate-token");
    for (authorization, expected) in [
        (format!("DPoP {}", person.access), 200),
        (format!("dpop {}", person.access), 200),
        (format!("DPoP {}x", person.access), 401),
        ("DPoP ".to_owned(), 401),
        (format!("Basic {}", person.access), 401),
    ] {
        for method in [Method::GET, Method::POST] {
            // As the gateway forwards it after it has checked the proof.
            let headers = [(header::AUTHORIZATION, authorization.parse().unwrap())];
            let request = app.forwarded(Service::Auth, method, validate, Some(&person), None);
            let reply = app.send_raw(request.headers(headers.into_iter().collect())).await;
            assert_eq!(reply.status, expected, "{authorization}: {}", reply.text);
        }
    }
}

#[tokio::test]
async fn a_client_without_a_proof_gets_bearer_tokens() {
    let app = start().await;
    app.register("ada@example.com").await;
    let session = post(&app, LOGIN, login(), &[]).await;
    assert_eq!(binding(&session), ("Bearer".to_owned(), Value::Null));
    // A refresh with a proof binds the access token alone.
    let key = Key::new(1);
    let proof = key.proof(&app, ("POST", &format!("{URL}{REFRESH}")), 0);
    let renewed = post(&app, REFRESH, json!({ "refresh_token": session.json()["refresh_token"] }), &[&proof]).await;
    assert_eq!(binding(&renewed), ("DPoP".to_owned(), json!(key.thumbprint())));
    let again = post(&app, REFRESH, json!({ "refresh_token": renewed.json()["refresh_token"] }), &[]).await;
    assert_eq!(binding(&again), ("Bearer".to_owned(), Value::Null));
}

#[tokio::test]
async fn a_wrong_proof_is_refused() {
    let app = start().await;
    app.register("ada@example.com").await;
    let key = Key::new(1);
    let url = format!("{URL}{LOGIN}");
    let good = key.proof(&app, ("POST", &url), 0);
    let (head, _) = good.rsplit_once('.').unwrap();
    for (attack, proofs) in [
        ("another method", vec![key.proof(&app, ("GET", &url), 0)]),
        ("another path", vec![key.proof(&app, ("POST", &format!("{URL}{REFRESH}")), 0)]),
        ("another host", vec![key.proof(&app, ("POST", &format!("https://evil.example{LOGIN}")), 0)]),
        ("an old proof", vec![key.proof(&app, ("POST", &url), 61)]),
        ("a proof of the future", vec![key.proof(&app, ("POST", &url), -32)]),
        ("no signature", vec![format!("{head}.")]),
        ("another signature", vec![format!("{head}.{}", URL_SAFE_NO_PAD.encode([1; 64]))]),
        ("two proofs", vec![good.clone(), good.clone()]),
        ("no proof", vec![String::new()]),
        ("a long proof", vec!["a".repeat(4097)]),
    ] {
        let proofs: Vec<&str> = proofs.iter().map(String::as_str).collect();
        let refused = post(&app, LOGIN, login(), &proofs).await;
        assert_eq!((refused.status, refused.code().as_str()), (400, "invalid_dpop_proof"), "{attack}");
    }
}

#[tokio::test]
async fn proofs_are_ignored_without_a_public_url() {
    let app = App::start().await;
    app.register("ada@example.com").await;
    let session = post(&app, LOGIN, login(), &["nonsense"]).await;
    assert_eq!(binding(&session), ("Bearer".to_owned(), Value::Null));
}
