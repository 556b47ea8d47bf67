//! Assertions that are checked with the gateway's public keys: of a set at hand, and of the set that a gateway
//! publishes.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that panics has failed, which is its purpose"
)]

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode},
    middleware::from_fn_with_state,
    routing::get,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _};
use portcullis_client::{
    assertion::{AssertedUser, AssertionError, AssertionKeys, Received},
    extract::{Gate, require_assertion},
};
use serde_json::{Value, json};
use sha2::Sha256;
use tower::ServiceExt as _;

const NOW: u64 = 1_800_000_000;

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

enum Signer {
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

struct Key {
    kid: &'static str,
    signer: Signer,
}

impl Key {
    fn ec(kid: &'static str) -> Self {
        Self { kid, signer: Signer::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()) }
    }

    fn ed(kid: &'static str) -> Self {
        Self { kid, signer: Signer::Ed(Ed25519KeyPair::generate().unwrap()) }
    }

    fn jwk(&self) -> Value {
        match &self.signer {
            Signer::Ec(pair) => {
                let point = pair.public_key().as_ref();
                let (x, y) = (encode(&point[1..33]), encode(&point[33..]));
                json!({ "kty": "EC", "crv": "P-256", "kid": self.kid, "x": x, "y": y, "alg": "ES256", "use": "sig" })
            }
            Signer::Ed(pair) => {
                let x = encode(pair.public_key());
                json!({ "kty": "OKP", "crv": "Ed25519", "kid": self.kid, "x": x, "alg": "EdDSA", "use": "sig" })
            }
        }
    }

    fn header(&self) -> Value {
        let alg = if matches!(self.signer, Signer::Ec(_)) { "ES256" } else { "EdDSA" };
        json!({ "alg": alg, "typ": "gateway+jwt", "kid": self.kid })
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let input = [header, claims].map(|part| encode(part.to_string())).join(".");
        let signature = match &self.signer {
            Signer::Ec(pair) => pair.sign(&SystemRandom::new(), input.as_bytes()).unwrap().as_ref().to_vec(),
            Signer::Ed(pair) => pair.sign(input.as_bytes()).as_ref().to_vec(),
        };
        format!("{input}.{}", encode(signature))
    }

    fn assertion(&self) -> String {
        self.sign(&self.header(), &claims())
    }
}

fn claims() -> Value {
    json!({
        "iss": "portcullis", "aud": "shop", "iat": NOW, "exp": NOW + 30, "jti": "r1", "htm": "GET", "htu": "/who",
        "sub": "ada", "roles": ["user"],
        "claims": { "iss": "https://id.example", "tenant": "north", "org": { "id": 7 } },
    })
}

fn with(base: &Value, name: &str, value: Value) -> Value {
    let mut changed = base.clone();
    changed[name] = value;
    changed
}

fn set_of(keys: &[&Key]) -> String {
    json!({ "keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() }).to_string()
}

const RECEIVED: Received<'_> = Received { audience: "shop", method: "GET", target: "/who", now: NOW };

#[test]
fn an_assertion_is_good_by_the_published_key_of_its_id_alone() {
    use AssertionError::{BadClaims, BadSignature, Expired, Malformed, UnknownKey, WrongAudience, WrongRequest};
    let (es, ed, stranger) = (Key::ec("es"), Key::ed("ed"), Key::ec("es"));
    let keys = AssertionKeys::parse_jwks(&set_of(&[&es, &ed])).unwrap();
    let header = es.header();
    let hs256 = {
        let header = with(&header, "alg", json!("HS256"));
        let input = [&header, &claims()].map(|part| encode(part.to_string())).join(".");
        let mut mac = Hmac::<Sha256>::new_from_slice(set_of(&[&es]).as_bytes()).unwrap();
        mac.update(input.as_bytes());
        format!("{input}.{}", encode(mac.finalize().into_bytes()))
    };
    let none = format!("{}.{}.", encode(with(&header, "alg", json!("none")).to_string()), encode(claims().to_string()));
    for (name, assertion, expected) in [
        ("ES256", es.assertion(), None),
        ("EdDSA", ed.assertion(), None),
        ("a stranger's key", stranger.assertion(), Some(BadSignature)),
        ("another key's id", es.sign(&with(&header, "kid", json!("ed")), &claims()), Some(UnknownKey)),
        ("an unknown id", es.sign(&with(&header, "kid", json!("x")), &claims()), Some(UnknownKey)),
        ("no id", es.sign(&with(&header, "kid", json!(null)), &claims()), Some(Malformed)),
        ("HS256 with the public keys as secret", hs256, Some(Malformed)),
        ("none", none, Some(Malformed)),
        ("the other algorithm", es.sign(&with(&header, "alg", json!("EdDSA")), &claims()), Some(UnknownKey)),
        ("RS256", es.sign(&with(&header, "alg", json!("RS256")), &claims()), Some(Malformed)),
        ("a client's token", es.sign(&with(&header, "typ", json!("at+jwt")), &claims()), Some(Malformed)),
        ("an extension", es.sign(&with(&header, "crit", json!(["exp"])), &claims()), Some(BadSignature)),
        ("another issuer", es.sign(&header, &with(&claims(), "iss", json!("https://id.example"))), Some(BadClaims)),
        ("another service", es.sign(&header, &with(&claims(), "aud", json!("users"))), Some(WrongAudience)),
        ("another path", es.sign(&header, &with(&claims(), "htu", json!("/who?x"))), Some(WrongRequest)),
        ("another method", es.sign(&header, &with(&claims(), "htm", json!("POST"))), Some(WrongRequest)),
        (
            "an hour ago",
            es.sign(&header, &with(&with(&claims(), "iat", json!(NOW - 3600)), "exp", json!(NOW - 3570))),
            Some(Expired),
        ),
        ("for an hour", es.sign(&header, &with(&claims(), "exp", json!(NOW + 3600))), Some(BadClaims)),
        ("a list as claims", es.sign(&header, &with(&claims(), "claims", json!(["x"]))), Some(BadClaims)),
    ] {
        assert_eq!(keys.verify(&assertion, &RECEIVED).err(), expected, "{name}");
    }
    // Neither kind of key checks the other's assertions.
    let shared = AssertionKeys::parse(&format!("es:{}", encode([1; 32]))).unwrap();
    assert_eq!(shared.verify(&es.assertion(), &RECEIVED).err(), Some(Malformed));
    // A published private key lets anyone sign, and other types are of no use.
    let private = with(&es.jwk(), "d", json!("AQAB"));
    for bad in [
        json!({ "keys": [private] }),
        json!({ "keys": [] }),
        json!({ "keys": [{ "kty": "oct", "k": "AQAB" }] }),
        es.jwk(),
    ] {
        assert!(AssertionKeys::parse_jwks(&bad.to_string()).is_err());
    }
}

#[test]
fn a_user_has_an_issuer_and_the_claims_that_the_policy_names() {
    let key = Key::ec("es");
    let keys = AssertionKeys::parse_jwks(&set_of(&[&key])).unwrap();
    let user = keys.verify(&key.assertion(), &RECEIVED).unwrap().user.unwrap();
    assert_eq!((user.id.as_str(), user.issuer.as_deref()), ("ada", Some("https://id.example")));
    assert_eq!((user.claim("tenant"), user.claim("org"), user.claim("none")), (Some("north"), None, None));
    assert_eq!(user.claims["org"], json!({ "id": 7 }));
    // Claims of the assertion itself are none of the token.
    assert_eq!(user.claim("aud"), None);
    // The body belongs to the request.
    let digest = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:";
    let digested = keys.verify(&key.sign(&key.header(), &with(&claims(), "content_digest", json!(digest))), &RECEIVED);
    let digested = digested.unwrap();
    assert_eq!((digested.covers_body(b""), digested.covers_body(b"x")), (true, false));
    assert!(!keys.verify(&key.assertion(), &RECEIVED).unwrap().covers_body(b""), "without a digest");
    let mut plain = claims();
    plain.as_object_mut().unwrap().remove("claims");
    let user = keys.verify(&key.sign(&key.header(), &plain), &RECEIVED).unwrap().user.unwrap();
    assert_eq!((user.issuer, user.claims.len()), (None, 0));
}

/// A gateway that publishes a set, or fails.
struct Gateway {
    url: String,
    set: Arc<Mutex<Option<String>>>,
    fetches: Arc<AtomicUsize>,
}

impl Gateway {
    async fn start() -> Self {
        let set = Arc::new(Mutex::new(None::<String>));
        let fetches = Arc::new(AtomicUsize::new(0));
        let (served, counted) = (Arc::clone(&set), Arc::clone(&fetches));
        let serve = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            let set = served.lock().unwrap().clone();
            async move { set.ok_or(StatusCode::SERVICE_UNAVAILABLE) }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().route("/_gateway/jwks.json", get(serve));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, set, fetches }
    }

    fn publish(&self, keys: &[&Key]) {
        *self.set.lock().unwrap() = Some(set_of(keys));
    }

    /// A service with the keys of this gateway.
    fn service(&self) -> Router {
        let gate = Gate::new("shop", AssertionKeys::published(&self.url).unwrap()).with_clock(|| NOW);
        Router::new()
            .route(
                "/who",
                get(|user: AssertedUser| async move { format!("{} of {:?}", user.id, user.claim("tenant")) }),
            )
            .layer(from_fn_with_state(gate, require_assertion))
    }
}

async fn ask(service: &Router, assertion: &str) -> StatusCode {
    let request = Request::get("/who").header("x-gateway-assertion", assertion).body(Body::empty()).unwrap();
    let answer = service.clone().oneshot(request).await.unwrap();
    assert_eq!(answer.headers().contains_key("retry-after"), answer.status() == StatusCode::SERVICE_UNAVAILABLE);
    answer.status()
}

#[tokio::test]
async fn a_service_reads_the_keys_of_the_gateway_once_and_accepts_them_during_a_rotation() {
    let (old, new, stranger) = (Key::ec("old"), Key::ed("new"), Key::ec("old"));
    let gateway = Gateway::start().await;
    gateway.publish(&[&old, &new]);
    let service = gateway.service();
    for (assertion, expected) in [
        (old.assertion(), 200),
        (old.assertion(), 200),
        (new.assertion(), 200),
        (stranger.assertion(), 401),
        ("x.y.z".to_owned(), 401),
        (String::new(), 401),
        ("a".repeat(60_000), 401),
    ] {
        assert_eq!(ask(&service, &assertion).await.as_u16(), expected);
    }
    assert_eq!(gateway.fetches.load(Ordering::Relaxed), 1, "only good forms cause a fetch");
    // Ids that anyone can invent do not cause a fetch each.
    for _ in 0..5 {
        assert_eq!(ask(&service, &Key::ec("invented").assertion()).await, StatusCode::UNAUTHORIZED);
    }
    assert!(gateway.fetches.load(Ordering::Relaxed) <= 2);
}

#[tokio::test]
async fn keys_that_cannot_be_fetched_are_503_and_no_401() {
    let key = Key::ec("es");
    let gateway = Gateway::start().await;
    let service = gateway.service();
    assert_eq!(ask(&service, &key.assertion()).await, StatusCode::SERVICE_UNAVAILABLE);
    let keys = AssertionKeys::published(&gateway.url).unwrap();
    assert_eq!(keys.verify(&key.assertion(), &RECEIVED).err(), Some(AssertionError::KeysUnavailable));
    gateway.publish(&[&key]);
    keys.prepare(&key.assertion()).await;
    assert!(keys.verify(&key.assertion(), &RECEIVED).is_ok());
    assert!(AssertionKeys::published("ftp://gateway.example").is_err());
}

/// The table that the packages for other languages check, too.
#[test]
fn the_assertions_of_the_common_table_are_taken_as_it_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/assertions.json");
    let table: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let secrets = AssertionKeys::parse(&text(&table["secrets"])).unwrap();
    let public = AssertionKeys::parse_jwks(&table["jwks"].to_string()).unwrap();
    let cases = table["cases"].as_array().unwrap();
    assert!(cases.len() > 130);
    for case in cases {
        let keys = if case["algorithm"] == "HS256" { &secrets } else { &public };
        let received = Received {
            audience: table["audience"].as_str().unwrap(),
            method: case["method"].as_str().unwrap(),
            target: case["target"].as_str().unwrap(),
            now: case["at"].as_u64().unwrap(),
        };
        let result = keys.verify(case["assertion"].as_str().unwrap(), &received);
        assert_eq!(result.is_ok(), case["expected"] == "ok", "{}: {}: {result:?}", case["algorithm"], case["name"]);
    }
    for row in table["settings"].as_array().unwrap() {
        let parsed = AssertionKeys::parse(&text(&row["setting"]));
        assert_eq!(parsed.is_ok(), row["isValid"] == true, "{}", row["name"]);
    }
}
