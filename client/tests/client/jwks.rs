//! Tokens verified with a key set: which are accepted, and when the set is fetched.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_client::jwks::{Algorithm, JwksVerifier, KeyPolicy, TokenError, TokenRule};
use serde_json::{Value, json};
use tokio::time::Duration;

use crate::fake::{Fake, Reply, answer, refuse, reply, run_at_once};

const NOW: u64 = 1_800_000_000;

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

enum Signer {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

/// A signing key of an issuer.
struct Key {
    kid: &'static str,
    signer: Signer,
}

impl Key {
    fn rsa(kid: &'static str) -> Self {
        Self { kid, signer: Signer::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()) }
    }

    fn ec(kid: &'static str) -> Self {
        Self { kid, signer: Signer::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()) }
    }

    fn ed(kid: &'static str) -> Self {
        Self { kid, signer: Signer::Ed(Ed25519KeyPair::generate().unwrap()) }
    }

    fn alg(&self) -> &'static str {
        match self.signer {
            Signer::Rsa(_) => "RS256",
            Signer::Ec(_) => "ES256",
            Signer::Ed(_) => "EdDSA",
        }
    }

    fn jwk(&self) -> Value {
        match &self.signer {
            Signer::Rsa(pair) => {
                let public = pair.public_key();
                let n = encode(public.modulus().big_endian_without_leading_zero());
                let e = encode(public.exponent().big_endian_without_leading_zero());
                json!({ "kty": "RSA", "kid": self.kid, "n": n, "e": e })
            }
            Signer::Ec(pair) => {
                let point = pair.public_key().as_ref();
                let (x, y) = (encode(&point[1..33]), encode(&point[33..]));
                json!({ "kty": "EC", "crv": "P-256", "kid": self.kid, "x": x, "y": y, "alg": "ES256", "use": "sig" })
            }
            Signer::Ed(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "kid": self.kid, "x": encode(pair.public_key()) })
            }
        }
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let input = [header, claims].map(|part| encode(part.to_string())).join(".");
        let random = SystemRandom::new();
        let signature = match &self.signer {
            Signer::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, input.as_bytes(), &mut signature).unwrap();
                signature
            }
            Signer::Ec(pair) => pair.sign(&random, input.as_bytes()).unwrap().as_ref().to_vec(),
            Signer::Ed(pair) => pair.sign(input.as_bytes()).as_ref().to_vec(),
        };
        format!("{input}.{}", encode(signature))
    }

    fn header(&self) -> Value {
        json!({ "alg": self.alg(), "typ": "service+jwt", "kid": self.kid })
    }

    fn token(&self) -> String {
        self.sign(&self.header(), &claims())
    }
}

fn claims() -> Value {
    json!({
        "iss": "auth-service", "sub": "billing", "aud": "shop", "token_type": "service",
        "iat": NOW, "nbf": NOW, "exp": NOW + 300,
    })
}

fn with(base: &Value, name: &str, value: Value) -> Value {
    let mut changed = base.clone();
    changed[name] = value;
    changed
}

fn without(base: &Value, name: &str) -> Value {
    let mut changed = base.clone();
    changed.as_object_mut().unwrap().remove(name);
    changed
}

fn verifier(fake: &Fake) -> JwksVerifier {
    JwksVerifier::new(&fake.url, TokenRule::service("shop")).unwrap().with_clock(|| NOW)
}

async fn verify(verifier: &JwksVerifier, token: &str) -> Result<String, TokenError> {
    let claims: Value = verifier.verify(token).await?;
    Ok(claims["sub"].as_str().unwrap().to_owned())
}

async fn verify_at_once(verifier: &JwksVerifier, token: &str, count: usize) -> Vec<Result<String, TokenError>> {
    let call = |verifier: JwksVerifier, token: String| async move { verify(&verifier, &token).await };
    run_at_once((0..count).map(|_| call(verifier.clone(), token.to_owned()))).await
}

/// An issuer whose key set a test changes; `None` during an outage.
async fn issuer(keys: Vec<Value>) -> (Fake, Arc<Mutex<Option<Vec<Value>>>>) {
    let keys = Arc::new(Mutex::new(Some(keys)));
    let shared = Arc::clone(&keys);
    let fake = Fake::start(move |asked, _| {
        assert_eq!(asked.target, "/.well-known/jwks.json");
        match &*shared.lock().unwrap() {
            Some(keys) => answer(200, &json!({ "keys": keys })),
            None => refuse(503, "unavailable"),
        }
    })
    .await;
    (fake, keys)
}

#[tokio::test]
async fn a_token_is_taken_by_the_key_that_signed_it_and_by_every_word_of_the_rule() {
    use TokenError::{Expired, Invalid};
    let keys = [Key::rsa("r1"), Key::ec("e1"), Key::ed("d1")];
    let stranger = Key::rsa("r1");
    let (fake, _) = issuer(keys.iter().map(Key::jwk).collect()).await;
    let verifier = verifier(&fake);
    for key in &keys {
        assert_eq!(verify(&verifier, &key.token()).await.as_deref(), Ok("billing"), "{}", key.kid);
        let nameless = key.sign(&without(&key.header(), "kid"), &claims());
        assert_eq!(verify(&verifier, &nameless).await.as_deref(), Ok("billing"), "{} without kid", key.kid);
    }
    let [rsa, ec, _] = &keys;
    let (header, good) = (rsa.header(), claims());
    let cases = [
        ("an array of audiences", rsa.sign(&header, &with(&good, "aud", json!(["x", "shop"]))), Ok(())),
        ("a fraction of a second", rsa.sign(&header, &with(&good, "exp", json!(1_800_000_000.25))), Ok(())),
        ("29 s past its end", rsa.sign(&header, &with(&good, "exp", json!(NOW - 29))), Ok(())),
        ("30 s past its end", rsa.sign(&header, &with(&good, "exp", json!(NOW - 30))), Err(Expired)),
        ("30 s from now", rsa.sign(&header, &with(&good, "nbf", json!(NOW + 30))), Ok(())),
        ("31 s from now", rsa.sign(&header, &with(&good, "nbf", json!(NOW + 31))), Err(Invalid)),
        ("issued 31 s from now", rsa.sign(&header, &with(&good, "iat", json!(NOW + 31))), Err(Invalid)),
        ("without an end", rsa.sign(&header, &without(&good, "exp")), Err(Invalid)),
        ("an end in words", rsa.sign(&header, &with(&good, "exp", json!("tomorrow"))), Err(Invalid)),
        ("another audience", rsa.sign(&header, &with(&good, "aud", json!("users"))), Err(Invalid)),
        ("no audience", rsa.sign(&header, &without(&good, "aud")), Err(Invalid)),
        ("another issuer", rsa.sign(&header, &with(&good, "iss", json!("auth-service/"))), Err(Invalid)),
        ("an access token", rsa.sign(&with(&header, "typ", json!("at+jwt")), &good), Err(Invalid)),
        ("crit", rsa.sign(&with(&header, "crit", json!([])), &good), Err(Invalid)),
        ("alg none", rsa.sign(&with(&header, "alg", json!("none")), &good), Err(Invalid)),
        ("HS256", rsa.sign(&with(&header, "alg", json!("HS256")), &good), Err(Invalid)),
        ("another key's algorithm", ec.sign(&with(&ec.header(), "alg", json!("RS256")), &good), Err(Invalid)),
        ("a stranger's key of that name", stranger.token(), Err(Invalid)),
        ("a kid that is no text", rsa.sign(&with(&header, "kid", json!(7)), &good), Err(Invalid)),
        ("no claims of the wanted form", rsa.sign(&header, &json!([])), Err(Invalid)),
        ("too long", rsa.sign(&header, &with(&good, "x", json!("x".repeat(20_000)))), Err(Invalid)),
        ("no token", "x".to_owned(), Err(Invalid)),
        ("nothing", String::new(), Err(Invalid)),
        ("one part more", format!("{}.x", rsa.token()), Err(Invalid)),
        ("padded", format!("{}=", rsa.token()), Err(Invalid)),
    ];
    for (case, token, expected) in cases {
        assert_eq!(verify(&verifier, &token).await.map(drop), expected, "{case}");
    }
    assert_eq!(fake.count(), 1, "one set serves them all, whatever strangers send");
}

#[tokio::test]
async fn only_the_algorithms_of_the_rule_are_taken() {
    let (rsa, ed) = (Key::rsa("r1"), Key::ed("d1"));
    let (fake, _) = issuer(vec![rsa.jwk(), ed.jwk()]).await;
    let rule = TokenRule { algorithms: vec![Algorithm::EdDSA], ..TokenRule::service("shop") };
    let verifier = JwksVerifier::new(&fake.url, rule).unwrap().with_clock(|| NOW);
    assert_eq!(verify(&verifier, &rsa.token()).await, Err(TokenError::Invalid));
    assert_eq!(verify(&verifier, &ed.token()).await.as_deref(), Ok("billing"));
}

#[tokio::test]
async fn keys_that_are_not_for_this_are_passed_over_and_the_good_ones_used() {
    let key = Key::rsa("r1");
    let good = key.jwk();
    let (fake, _) = issuer(vec![
        json!(7),
        json!({ "kty": "oct", "kid": "r1", "k": "AAAA" }),
        with(&good, "d", json!("AAAA")),
        with(&good, "use", json!("enc")),
        with(&good, "alg", json!("PS256")),
        json!({ "kty": "RSA", "kid": "r1", "n": "AAAA", "e": "AQAB" }),
        good,
    ])
    .await;
    assert_eq!(verify(&verifier(&fake), &key.token()).await.as_deref(), Ok("billing"));
}

#[tokio::test]
async fn a_new_key_is_fetched_once_and_made_up_names_cost_one_fetch_in_a_while() {
    let (old, new) = (Key::rsa("old"), Key::rsa("new"));
    // Signed before the clock matters: signatures are slow on a busy machine.
    let sign = |number: u32| old.sign(&with(&old.header(), "kid", json!(format!("kid-{number}"))), &claims());
    let made_up: Vec<_> = (0..100).map(sign).collect();
    let (fake, keys) = issuer(vec![old.jwk()]).await;
    let verifier =
        verifier(&fake).with_policy(KeyPolicy { cool_down: Duration::from_millis(200), ..KeyPolicy::default() });
    assert!(verify(&verifier, &old.token()).await.is_ok());
    *keys.lock().unwrap() = Some(vec![old.jwk(), new.jwk()]);
    tokio::time::sleep(Duration::from_millis(210)).await;
    assert!(verify(&verifier, &new.token()).await.is_ok());
    let asked = fake.count();
    for made_up in &made_up {
        assert_eq!(verify(&verifier, made_up).await, Err(TokenError::Invalid));
    }
    assert!(verify(&verifier, &old.token()).await.is_ok());
    assert!(asked == 2 && fake.count() <= asked + 1, "{asked}, {}", fake.count());
}

#[tokio::test]
async fn keys_that_cannot_be_had_are_no_fault_of_the_token() {
    let key = Key::rsa("r1");
    let never: fn() -> Reply = || reply(200, &[], r#"{"keys":[]}"#);
    let html: fn() -> Reply = || reply(200, &[], "<html>");
    let out: fn() -> Reply = || refuse(503, "unavailable");
    let huge: fn() -> Reply = || reply(200, &[], format!("{{\"keys\":[{}]}}", "7,".repeat(100_000)));
    for (case, reply) in [("no keys", never), ("HTML", html), ("503", out), ("too long", huge)] {
        let fake = Fake::start(move |_, _| reply()).await;
        let verifier = verifier(&fake);
        for _ in 0..5 {
            assert_eq!(verify(&verifier, &key.token()).await, Err(TokenError::KeysUnavailable), "{case}");
        }
        assert_eq!(fake.count(), 1, "{case}: the issuer is left alone for a moment");
    }
}

#[tokio::test]
async fn an_issuer_that_is_out_costs_no_token_until_its_keys_are_too_old() {
    let (key, new) = (Key::rsa("r1"), Key::rsa("new"));
    let (fake, keys) = issuer(vec![key.jwk()]).await;
    let policy = KeyPolicy {
        refresh_after: Duration::from_millis(20),
        max_age: Duration::from_millis(600),
        cool_down: Duration::ZERO,
        back_off: Duration::from_millis(10),
    };
    let verifier = verifier(&fake).with_policy(policy);
    assert!(verify(&verifier, &key.token()).await.is_ok());
    *keys.lock().unwrap() = None;
    let out_since = std::time::Instant::now();
    while out_since.elapsed() < Duration::from_millis(300) {
        assert!(verify(&verifier, &key.token()).await.is_ok());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(verify(&verifier, &new.token()).await, Err(TokenError::KeysUnavailable), "it may be a new key's");
    assert!(fake.count() > 2, "the issuer is asked again and again");
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(
        verify(&verifier, &key.token()).await,
        Err(TokenError::KeysUnavailable),
        "keys that the issuer does not confirm"
    );

    // The issuer answers again, without the key.
    *keys.lock().unwrap() = Some(vec![new.jwk()]);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(verify(&verifier, &new.token()).await.is_ok());
    assert_eq!(verify(&verifier, &key.token()).await, Err(TokenError::Invalid), "a key that was withdrawn");
}

#[tokio::test]
async fn a_key_that_was_revoked_while_no_token_came_is_not_accepted_once_more() {
    let (leaked, new) = (Key::ed("leaked"), Key::ed("new"));
    let (fake, keys) = issuer(vec![leaked.jwk()]).await;
    let policy = KeyPolicy { refresh_after: Duration::from_millis(20), ..KeyPolicy::default() };
    let verifier = verifier(&fake).with_policy(policy);
    assert!(verify(&verifier, &leaked.token()).await.is_ok());
    *keys.lock().unwrap() = Some(vec![new.jwk()]);
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(verify(&verifier, &leaked.token()).await, Err(TokenError::Invalid));
    assert!(verify(&verifier, &new.token()).await.is_ok());
    assert!(KeyPolicy::default().refresh_after <= Duration::from_secs(60), "the window of a revoked key");
}

#[tokio::test]
async fn a_refresh_that_hangs_is_awaited_once_by_all_and_then_the_keys_at_hand_are_used() {
    let key = Key::ed("d1");
    let jwk = key.jwk();
    let fake = Fake::start(move |_, before| match before {
        0 => answer(200, &json!({ "keys": [jwk] })),
        _ => Reply::Never,
    })
    .await;
    let policy = KeyPolicy { refresh_after: Duration::from_millis(20), ..KeyPolicy::default() };
    let shared = verifier(&fake).with_policy(policy);
    assert!(verify(&shared, &key.token()).await.is_ok());
    tokio::time::sleep(Duration::from_millis(30)).await;
    let begun = std::time::Instant::now();
    // A cancelled caller does not end a fetch that others wait for.
    for _ in 0..3 {
        assert!(tokio::time::timeout(Duration::from_millis(50), verify(&shared, &key.token())).await.is_err());
    }
    let token = key.token();
    for result in verify_at_once(&shared, &token, 20).await {
        assert_eq!(result.as_deref(), Ok("billing"));
    }
    assert_eq!(fake.count(), 2, "one fetch for all of them");
    // During the back-off the next token does not wait.
    assert!(verify(&shared, &token).await.is_ok());
    assert_eq!(fake.count(), 2);
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_tokens_at_once_cost_one_fetch() {
    let key = Key::ed("d1");
    let (fake, _) = issuer(vec![key.jwk()]).await;
    for result in verify_at_once(&verifier(&fake), &key.token(), 50).await {
        assert_eq!(result.as_deref(), Ok("billing"));
    }
    assert_eq!(fake.count(), 1);
}

#[tokio::test]
async fn a_verification_that_is_kept_and_not_polled_holds_up_no_other() {
    let key = Key::ed("new");
    let (fake, _) = issuer(vec![key.jwk()]).await;
    let verifier = verifier(&fake);
    let token = key.token();
    let mut kept = Box::pin(verify(&verifier, &token));
    assert!(tokio::time::timeout(Duration::ZERO, &mut kept).await.is_err());
    assert_eq!(verify(&verifier, &token).await.as_deref(), Ok("billing"));
    assert_eq!((kept.await.as_deref(), fake.count()), (Ok("billing"), 1));
}

#[tokio::test]
async fn keys_age_by_the_wall_clock_too() {
    let key = Key::ed("k1");
    let (fake, keys) = issuer(vec![key.jwk()]).await;
    let now = Arc::new(AtomicU64::new(NOW));
    let clock = Arc::clone(&now);
    let verifier = verifier(&fake).with_clock(move || clock.load(Ordering::Relaxed));
    let claims = with(&claims(), "exp", json!(NOW + 1_000_000));
    let token = key.sign(&key.header(), &claims);
    assert!(verify(&verifier, &token).await.is_ok());
    *keys.lock().unwrap() = None;
    now.fetch_add(24 * 60 * 60 - 1, Ordering::Relaxed);
    assert!(verify(&verifier, &token).await.is_ok());
    assert_eq!(fake.count(), 2, "a refresh was tried");
    now.fetch_add(1, Ordering::Relaxed);
    assert_eq!(verify(&verifier, &token).await, Err(TokenError::KeysUnavailable));
}

#[tokio::test]
async fn an_issuer_that_never_answers_holds_no_token_for_ever_and_other_paths_are_asked() {
    let key = Key::ed("d1");
    let fake = Fake::start(|_, _| Reply::Never).await;
    let begun = std::time::Instant::now();
    assert_eq!(verify(&verifier(&fake), &key.token()).await, Err(TokenError::KeysUnavailable));
    assert!(begun.elapsed() < Duration::from_secs(5));
    let jwk = key.jwk();
    let fake = Fake::start(move |asked, _| match asked.target.as_str() {
        "/keys" => answer(200, &json!({ "keys": [jwk] })),
        _ => refuse(404, "not_found"),
    })
    .await;
    let (first, at_keys) = (verifier(&fake), verifier(&fake).with_path("/keys"));
    assert!(verify(&at_keys, &key.token()).await.is_ok());
    assert!(verify(&first.clone().with_path("/keys"), &key.token()).await.is_ok(), "a clone is changed");
    assert_eq!(verify(&first, &key.token()).await, Err(TokenError::KeysUnavailable), "alone");
    let clock = Arc::new(AtomicU64::new(NOW + 1000));
    let read = Arc::clone(&clock);
    let late = JwksVerifier::new(&fake.url, TokenRule::service("shop")).unwrap().with_path("/keys");
    let late = late.with_clock(move || read.load(Ordering::Relaxed));
    assert_eq!(verify(&late, &key.token()).await, Err(TokenError::Expired));
    clock.store(NOW, Ordering::Relaxed);
    assert!(verify(&late, &key.token()).await.is_ok());
}

#[tokio::test]
async fn an_internal_route_is_behind_the_verifier() {
    use axum::{Router, body::Body, http::Request, middleware::from_fn_with_state, routing::get};
    use portcullis_client::extract::{ServiceCaller, ServiceRule, require_service};
    use tower::ServiceExt as _;
    let (key, stranger) = (Key::rsa("r1"), Key::rsa("r1"));
    let (fake, keys) = issuer(vec![key.jwk()]).await;
    *keys.lock().unwrap() = None;
    let policy = KeyPolicy { back_off: Duration::ZERO, ..KeyPolicy::default() };
    let rule = ServiceRule {
        verifier: Arc::new(verifier(&fake).with_policy(policy)),
        issuer: "auth-service".into(),
        audience: "shop",
        callers: ["billing".to_owned()].into(),
    };
    let app = Router::new()
        .route("/internal", get(|caller: ServiceCaller| async move { caller.name }))
        .layer(from_fn_with_state(rule, require_service));
    let mail = key.sign(&key.header(), &with(&claims(), "sub", json!("mail")));
    for (caller, token, is_out, status, retries) in [
        ("billing", key.token(), true, 503, Some("2")),
        ("billing", key.token(), false, 200, None),
        ("billing", stranger.token(), false, 401, None),
        ("mail", mail, false, 403, None),
        ("billing", key.token(), false, 200, None),
    ] {
        if !is_out {
            *keys.lock().unwrap() = Some(vec![key.jwk()]);
        }
        let request = Request::get("/internal")
            .header("x-service-caller", caller)
            .header("authorization", format!("Bearer {token}"))
            .body(Body::empty())
            .unwrap();
        let answer = app.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), status, "{caller}");
        let retry_after = answer.headers().get("retry-after").map(|value| value.to_str().unwrap());
        assert_eq!(retry_after, retries, "{caller}");
    }
}
