//! Revoked tokens in the whole gateway: by logout and by push, in other isolates, on strict routes, and
//! while the log is unreachable.

use std::{
    future::Future as _,
    task::{Context, Waker},
};

use portcullis::pipeline::{BackgroundTask, Gateway, Head, wire::Fault};
use portcullis_token::{keys, revocation::limits};
use serde_json::{Value, json};

use crate::{
    fakes::{FakePorts, answer, configured, gateway_of, header, setting, verdict},
    signer::{Signer, claims_at, with},
};

const POLICY: &str = r#"
[issuers.id]
issuer = "https://id.example"
audience = ["api"]
algorithms = ["EdDSA"]
jwks_url = "https://id.example/jwks"
revocations_from = "accounts"

[issuers.other]
issuer = "https://other.example"
audience = ["api"]
algorithms = ["EdDSA"]
jwks_url = "https://other.example/jwks"
revocations_from = "accounts"

[issuers.plain]
issuer = "https://plain.example"
audience = ["api"]
algorithms = ["EdDSA"]
jwks_url = "https://plain.example/jwks"

[limits.person]
by = "user"

[upstreams.app]
url = "https://app.example"

[[routes]]
path = "/me"
methods = ["GET"]
upstream = "app"
access = "user"

[[routes]]
path = "/strict"
methods = ["GET"]
upstream = "app"
access = "user"
revocation = "strict"

[[routes]]
path = "/admin"
methods = ["GET"]
upstream = "app"
access = { roles = ["admin"] }
issuers = ["id", "other", "plain"]
revocation = "strict"
limits = ["person"]

[[routes]]
path = "/logout"
methods = ["POST"]
upstream = "app"
access = "user"
issuers = ["id", "other"]
ends_session = true

[[routes]]
path = "/open"
methods = ["GET"]
upstream = "app"
access = "public"
"#;

const PUSH: &str = "/_gateway/revocations";
const REVOKED: (u16, &str) = (401, "token_revoked");
const UNKNOWN: (u16, &str) = (503, "revocation_unavailable");
const OK: (u16, &str) = (200, "ok");

fn gateway() -> Gateway {
    gateway_of(POLICY)
}

fn signer() -> Signer {
    Signer::new(7)
}

fn ports() -> FakePorts {
    let ports = FakePorts::new();
    ports.publish(&[&signer()]);
    ports
}

fn access(ports: &FakePorts, changes: &Value) -> String {
    let now = ports.now.get().secs();
    let claims = with(claims_at(now), &json!({ "jti": "t1", "sid": "s1" }));
    signer().sign("at+jwt", &with(claims, changes))
}

/// A service token with which `issuer`'s own tokens may be revoked.
fn service(ports: &FakePorts, changes: &Value) -> String {
    let now = ports.now.get().secs();
    let claims = json!({ "aud": "portcullis", "sub": "accounts", "exp": now + 300, "token_type": "service" });
    let claims = with(claims_at(now), &claims);
    signer().sign("service+jwt", &with(claims, changes))
}

fn push(gateway: &Gateway, ports: &FakePorts, body: &Value) -> (u16, &'static str) {
    *ports.body.borrow_mut() = body.to_string().into_bytes();
    verdict(&ports.send_token(gateway, "POST", PUSH, &service(ports, &json!({}))))
}

fn status(gateway: &Gateway, ports: &FakePorts) -> Value {
    let handled = ports.send_as_operator(gateway, "/status");
    serde_json::from_str(&answer(&handled).body).unwrap()
}

#[test]
fn a_logout_ends_the_session_at_once_in_its_isolate_and_on_strict_routes() {
    let (here, elsewhere, ports) = (gateway(), gateway(), ports());
    let token = access(&ports, &json!({}));
    let sibling = access(&ports, &json!({ "jti": "t2" }));
    let other = access(&ports, &json!({ "jti": "t3", "sid": "s2" }));
    for gateway in [&here, &elsewhere] {
        assert_eq!(verdict(&ports.send_token(gateway, "GET", "/me", &token)), OK);
    }
    assert_eq!(verdict(&ports.send_token(&here, "POST", "/logout", &token)), OK);
    for (token, expected) in [(&token, REVOKED), (&sibling, REVOKED), (&other, OK)] {
        assert_eq!(verdict(&ports.send_token(&here, "GET", "/me", token)), expected);
        assert_eq!(verdict(&ports.send_token(&elsewhere, "GET", "/strict", token)), expected, "a strict route");
    }
    let answer = ports.send_token(&here, "GET", "/me", &token);
    let challenge = header(crate::fakes::answer(&answer), "www-authenticate").unwrap().to_owned();
    assert!(challenge.contains("Token has been revoked"), "{challenge}");
}

#[test]
fn a_logout_with_a_token_that_names_no_session_is_logged() {
    let silent = |name: &str| if name == "LOG_SUCCESSES" { Some("0".to_owned()) } else { setting(name) };
    let (gateway, ports) = (configured(POLICY, silent).unwrap(), ports());
    let token = access(&ports, &json!({ "jti": null, "sid": null }));
    let handled = ports.send_token(&gateway, "POST", "/logout", &token);
    assert_eq!(verdict(&handled), OK);
    let detail = handled.record.detail.as_deref();
    assert_eq!(detail, Some("the logout revoked nothing: the token has neither sid nor jti"));
    assert!(handled.is_logged, "although it is a success");
}

#[test]
fn each_isolate_refuses_a_revoked_token_within_the_window() {
    // Requests at these intervals keep the copy of another isolate in different states.
    for step in [50, 333, 999, 1001, 1999, 2500, 3999, 4001, 60_000] {
        let (here, elsewhere, ports) = (gateway(), gateway(), ports());
        let token = access(&ports, &json!({}));
        for _ in 0..(10_000 / step).max(1) {
            assert_eq!(verdict(&ports.send_token(&elsewhere, "GET", "/me", &token)), OK);
            ports.advance(step);
        }
        assert_eq!(verdict(&ports.send_token(&here, "POST", "/logout", &token)), OK);
        let ended_at = ports.now.get();
        loop {
            let actual = verdict(&ports.send_token(&elsewhere, "GET", "/me", &token));
            if actual == REVOKED {
                break;
            }
            assert_eq!(actual, OK);
            assert!(
                ports.now.get().since(ended_at) <= limits::STALE_MS,
                "admitted {} ms later",
                ports.now.get().since(ended_at)
            );
            ports.advance(step);
        }
    }
}

#[test]
fn a_cache_that_never_expires_does_not_widen_the_window() {
    let (here, elsewhere, ports) = (gateway(), gateway(), ports());
    ports.log.borrow_mut().cache_never_expires = true;
    let token = access(&ports, &json!({}));
    assert_eq!(verdict(&ports.send_token(&elsewhere, "GET", "/me", &token)), OK);
    assert_eq!(verdict(&ports.send_token(&here, "POST", "/logout", &token)), OK);
    ports.advance(limits::STALE_MS + 1);
    assert_eq!(verdict(&ports.send_token(&elsewhere, "GET", "/me", &token)), REVOKED);
}

#[test]
fn a_push_revokes_a_token_a_session_or_a_user_up_to_a_time() {
    let now = ports().now.get().secs();
    for (revocation, refused) in [
        (json!({ "token": "t1" }), &["first"][..]),
        (json!({ "session": "s1" }), &["first", "second"]),
        (json!({ "user": "ada", "issued_until": now }), &["first", "second", "another session"]),
        (json!({ "user": "ada", "issued_until": now - 1 }), &[]),
        (json!({ "user": "eve", "issued_until": now }), &["another user"]),
        (json!({ "session": "S1" }), &[]),
        (json!({ "token": "t1", "expires_at": now - 3600 }), &[]),
    ] {
        let (here, elsewhere, ports) = (gateway(), gateway(), ports());
        let tokens = [
            ("first", json!({})),
            ("second", json!({ "jti": "t2" })),
            ("another session", json!({ "jti": "t3", "sid": "s3" })),
            ("another user", json!({ "jti": "t4", "sid": "s4", "sub": "eve" })),
            ("of the same ids, by another issuer", json!({ "iss": "https://other.example" })),
            ("of the same ids, by an issuer that revokes nothing", json!({ "iss": "https://plain.example" })),
        ]
        .map(|(name, changes)| (name, access(&ports, &changes)));
        assert_eq!(push(&here, &ports, &json!({ "revocations": [revocation] })), OK);
        for gateway in [&here, &elsewhere] {
            for (name, token) in &tokens {
                let expected = if refused.contains(name) { REVOKED } else { OK };
                assert_eq!(
                    verdict(&ports.send_token(gateway, "GET", "/me", token)),
                    expected,
                    "{name} after {revocation}"
                );
            }
        }
        ports.advance(1000);
        let later = access(&ports, &json!({ "jti": "t9", "sid": "s9" }));
        assert_eq!(verdict(&ports.send_token(&here, "GET", "/me", &later)), OK, "a later login is admitted");
    }
}

#[test]
fn a_revoked_key_verifies_no_token_and_no_push() {
    let (here, elsewhere, ports) = (gateway(), gateway(), ports());
    let next = Signer::new(8);
    let token = access(&ports, &json!({}));
    for gateway in [&here, &elsewhere] {
        assert_eq!(verdict(&ports.send_token(gateway, "GET", "/me", &token)), OK);
    }
    ports.publish(&[&next]);
    // A key's seed is its `kid`.
    assert_eq!(push(&here, &ports, &json!({ "revocations": [{ "key": "7" }] })), OK);
    let actual = push(&elsewhere, &ports, &json!({ "revocations": [{ "key": "8" }] }));
    assert_eq!(actual, REVOKED, "an isolate that has not read the log");
    // This isolate has also fetched the set, which lacks the key.
    assert_eq!(verdict(&ports.send_token(&here, "GET", "/me", &token)).0, 401);
    assert_eq!(verdict(&ports.send_token(&elsewhere, "GET", "/strict", &token)), REVOKED, "at once");
    ports.advance(limits::STALE_MS + 1);
    for gateway in [&here, &elsewhere] {
        let forged = access(&ports, &json!({ "jti": "t7", "sid": "s7", "sub": "root" }));
        let verdict = verdict(&ports.send_token(gateway, "GET", "/me", &forged));
        assert!(matches!(verdict, (401, "token_revoked" | "token_key_unknown")), "{verdict:?}");
    }
    let actual = push(&elsewhere, &ports, &json!({ "revocations": [{ "user": "ada", "issued_until": 1 }] }));
    assert_eq!(actual.0, 401, "{actual:?}");
}

#[test]
fn a_revoked_key_causes_a_fetch_of_the_key_set() {
    let (gateway, ports) = (gateway(), ports());
    let next = Signer::new(8);
    assert_eq!(verdict(&ports.send_token(&gateway, "GET", "/me", &access(&ports, &json!({})))), OK);
    ports.publish(&[&next]);
    assert_eq!(push(&gateway, &ports, &json!({ "revocations": [{ "key": "7" }] })), OK);
    let now = ports.now.get().secs();
    let claims = with(claims_at(now), &json!({ "jti": "t8", "sid": "s8" }));
    let token = next.sign("at+jwt", &claims);
    assert_eq!(verdict(&ports.send_token(&gateway, "GET", "/me", &token)), OK, "within the pause between two fetches");
}

#[test]
fn only_the_named_service_of_an_issuer_may_push() {
    let (gateway, ports) = (gateway(), ports());
    let body = json!({ "revocations": [{ "session": "s1" }] });
    let now = ports.now.get().secs();
    for (name, token, expected) in [
        ("an access token", access(&ports, &json!({})), (401, "token_type_header_invalid")),
        (
            "an access token that claims more",
            access(&ports, &json!({ "aud": "portcullis", "sub": "accounts", "token_type": "service" })),
            (401, "token_type_header_invalid"),
        ),
        ("for another service", service(&ports, &json!({ "aud": "users" })), (401, "token_audience_invalid")),
        ("for clients", service(&ports, &json!({ "aud": "api" })), (401, "token_audience_invalid")),
        ("another service's", service(&ports, &json!({ "sub": "users" })), (401, "token_requirement_unmet")),
        ("not a service's", service(&ports, &json!({ "token_type": "access" })), (401, "token_type_invalid")),
        ("expired", service(&ports, &json!({ "iat": now - 900, "exp": now - 31 })), (401, "token_expired")),
        (
            "of an issuer that revokes nothing",
            service(&ports, &json!({ "iss": "https://plain.example" })),
            (401, "token_issuer_unknown"),
        ),
        (
            "of an unknown issuer",
            service(&ports, &json!({ "iss": "https://evil.example" })),
            (401, "token_issuer_unknown"),
        ),
        ("right, for another issuer's tokens", service(&ports, &json!({ "iss": "https://other.example" })), OK),
    ] {
        *ports.body.borrow_mut() = body.to_string().into_bytes();
        assert_eq!(verdict(&ports.send_token(&gateway, "POST", PUSH, &token)), expected, "{name}");
    }
    assert_eq!(verdict(&ports.send(&gateway, "POST", PUSH, &[])), (401, "credentials_missing"));
    assert_eq!(
        verdict(&ports.send_token(&gateway, "GET", PUSH, &service(&ports, &json!({})))),
        (405, "method_not_allowed")
    );
    assert_eq!(
        verdict(&ports.send_token(&gateway, "GET", "/me", &access(&ports, &json!({})))),
        OK,
        "nothing was revoked"
    );
    assert_eq!(
        verdict(&ports.send_token(&gateway, "GET", "/me", &service(&ports, &json!({})))),
        (401, "token_audience_invalid")
    );
}

#[test]
fn a_refused_push_has_a_reason_and_appends_nothing() {
    let (gateway, ports) = (gateway(), ports());
    let token = service(&ports, &json!({}));
    let long = vec![b' '; limits::PUSH_BYTES + 1];
    for (body, expected) in [
        (&b"{}"[..], (400, "push_malformed")),
        (br#"{"revocations":[{"session":"s1"},{"session":""}]}"#, (400, "push_malformed")),
        (&long, (413, "push_too_large")),
    ] {
        *ports.body.borrow_mut() = body.to_vec();
        let handled = ports.send_token(&gateway, "POST", PUSH, &token);
        assert_eq!(verdict(&handled), expected);
        if expected.0 == 400 {
            let document: Value = serde_json::from_str(&answer(&handled).body).unwrap();
            let detail = document["detail"].as_str().unwrap();
            assert!(detail.starts_with("the body") || detail.starts_with("revocations[1]"), "{detail}");
        }
    }
    assert!(ports.log.borrow().entries.is_empty());
    ports.log.borrow_mut().fault = Some(Fault::Unreachable);
    assert_eq!(push(&gateway, &ports, &json!({ "revocations": [{ "session": "s1" }] })), UNKNOWN);
    ports.log.borrow_mut().fault = None;
    assert_eq!(
        verdict(&ports.send_token(&gateway, "GET", "/me", &access(&ports, &json!({})))),
        OK,
        "nothing was appended"
    );
}

#[test]
fn an_unreachable_log_delays_no_request_until_the_copy_is_too_old() {
    let (gateway, ports) = (gateway(), ports());
    let token = access(&ports, &json!({}));
    assert_eq!(verdict(&ports.send_token(&gateway, "GET", "/me", &token)), OK);
    ports.log.borrow_mut().fault = Some(Fault::Unreachable);
    let began = ports.now.get();
    assert_eq!(verdict(&ports.send_token(&gateway, "GET", "/strict", &token)), UNKNOWN, "a strict route needs the log");
    for second in 1..=60 {
        ports.advance(1000);
        let handled = ports.send_token(&gateway, "GET", "/me", &token);
        assert_eq!(verdict(&handled), OK, "{second} s");
        assert_eq!(handled.record.duration_ms, 0, "no request waits");
    }
    assert_eq!(status(&gateway, &ports)["revocation"]["status"], "degraded");
    ports.advance(1);
    let handled = ports.send_token(&gateway, "GET", "/me", &token);
    assert_eq!(verdict(&handled), UNKNOWN);
    assert_eq!(header(answer(&handled), "retry-after"), Some("1"));
    assert_eq!(status(&gateway, &ports)["revocation"]["status"], "unhealthy");
    assert_eq!(verdict(&ports.send_as_operator(&gateway, "/ready")).0, 503);
    let plain = access(&ports, &json!({ "iss": "https://plain.example" }));
    assert_eq!(verdict(&ports.send_token(&gateway, "GET", "/me", &plain)), OK, "a token that cannot be revoked");
    assert_eq!(verdict(&ports.send(&gateway, "GET", "/open", &[])), OK);
    assert!(ports.log.borrow().reads <= 64, "{} reads in a minute", ports.log.borrow().reads);
    ports.log.borrow_mut().fault = None;
    ports.advance(limits::BACK_OFF_MS);
    assert_eq!(verdict(&ports.send_token(&gateway, "GET", "/me", &token)), OK);
    assert!(ports.now.get().since(began) < 63_000);
    assert_eq!(status(&gateway, &ports)["revocation"]["status"], "healthy");
}

#[test]
fn an_isolate_that_never_read_the_log_admits_no_revocable_token() {
    let (gateway, ports) = (gateway(), ports());
    ports.log.borrow_mut().fault = Some(Fault::TimedOut);
    let token = access(&ports, &json!({}));
    for _ in 0..3 {
        assert_eq!(verdict(&ports.send_token(&gateway, "GET", "/me", &token)), UNKNOWN);
    }
    assert_eq!(ports.log.borrow().reads, 1, "one read in a second");
    assert_eq!(
        verdict(&ports.send_token(&gateway, "GET", "/me", "not.a.token")).0,
        401,
        "an invalid token is still 401"
    );
}

#[test]
fn a_logout_that_the_log_did_not_take_is_appended_again() {
    let (gateway, ports) = (gateway(), ports());
    let token = access(&ports, &json!({}));
    assert_eq!(verdict(&ports.send_token(&gateway, "GET", "/me", &token)), OK);
    ports.log.borrow_mut().fault = Some(Fault::Unreachable);
    let headers = vec![("authorization".to_owned(), format!("Bearer {token}"))];
    let head = Head::new("POST".to_owned(), "https://edge.example/logout", headers);
    let handled = futures_executor::block_on(gateway.handle(&head, &ports)).into();
    let tasks = ports.tasks.take();
    assert_eq!(verdict(&handled), OK, "the upstream has ended the session");
    assert_eq!(
        verdict(&ports.send_token(&gateway, "GET", "/me", &token)),
        REVOKED,
        "this isolate refuses the token at once"
    );
    ports.log.borrow_mut().fault = None;
    for task in tasks.into_iter().filter(|task| matches!(task, BackgroundTask::AppendRevocation(_))) {
        futures_executor::block_on(gateway.run(task, &ports));
    }
    assert_eq!(ports.log.borrow().entries.len(), 1);
}

#[test]
fn a_logout_is_kept_for_as_long_as_a_push_of_the_same() {
    let (gateway, ports) = (gateway(), ports());
    let now = ports.now.get().secs();
    let expires_at = f64::from(u32::try_from(now).unwrap()) + 900.25;
    for (changes, revocation) in [
        (json!({}), json!({ "session": "s1" })),
        (json!({ "sid": null, "exp": expires_at }), json!({ "token": "t1", "expires_at": now + 900 })),
    ] {
        assert_eq!(verdict(&ports.send_token(&gateway, "POST", "/logout", &access(&ports, &changes))), OK);
        assert_eq!(push(&gateway, &ports, &json!({ "revocations": [revocation] })), OK);
        let entries = std::mem::take(&mut ports.log.borrow_mut().entries);
        assert_eq!(entries[0], entries[1], "{revocation}");
    }
}

#[test]
fn a_logout_that_the_upstream_refuses_revokes_nothing() {
    let (gateway, ports) = (gateway(), ports());
    let token = access(&ports, &json!({}));
    for status in [400, 401, 500, 302] {
        ports.upstream.set(Ok(status));
        ports.send_token(&gateway, "POST", "/logout", &token);
    }
    ports.upstream.set(Ok(200));
    assert_eq!(verdict(&ports.send_token(&gateway, "GET", "/me", &token)), OK);
}

#[test]
fn a_caller_without_access_to_a_strict_route_or_beyond_its_limit_causes_no_read_of_the_log() {
    let (gateway, ports) = (gateway(), ports());
    let token = access(&ports, &json!({}));
    for _ in 0..100 {
        assert_eq!(verdict(&ports.send_token(&gateway, "GET", "/admin", &token)), (403, "rights_missing"));
    }
    assert_eq!(ports.log.borrow().reads, 0);
    let admin = access(&ports, &json!({ "roles": ["admin"] }));
    assert_eq!(verdict(&ports.send_token(&gateway, "GET", "/admin", &admin)), OK);
    assert_eq!(ports.log.borrow().reads, 1);
    ports.limit.set(0);
    assert_eq!(verdict(&ports.send_token(&gateway, "GET", "/admin", &admin)), (429, "rate_limited"));
    assert_eq!(ports.log.borrow().reads, 1);
}

#[test]
fn a_log_too_large_for_a_copy_is_read_for_each_token() {
    let (gateway, ports) = (gateway(), ports());
    ports.log.borrow_mut().overflows = true;
    let (token, other) = (access(&ports, &json!({})), access(&ports, &json!({ "sid": "s2" })));
    assert_eq!(verdict(&ports.send_token(&gateway, "GET", "/me", &token)), OK);
    assert_eq!(ports.log.borrow().reads, 3, "the newest page, the whole log, and this token");
    assert_eq!(verdict(&ports.send_token(&gateway, "GET", "/me", &other)), OK);
    assert_eq!(ports.log.borrow().reads, 4);
    assert_eq!(push(&gateway, &ports, &json!({ "revocations": [{ "session": "s1" }] })), OK);
    assert_eq!(verdict(&ports.send_token(&gateway, "GET", "/me", &token)), REVOKED);
    assert_eq!(verdict(&ports.send_as_operator(&gateway, "/ready")).0, 200);
    let status = status(&gateway, &ports);
    assert_eq!(
        (&status["revocation"]["status"], &status["revocation"]["last_error"]),
        (&json!("degraded"), &Value::Null)
    );
    ports.log.borrow_mut().overflows = false;
    ports.advance(limits::SWEEP_MS);
    let later = access(&ports, &json!({ "sid": "s3" }));
    for _ in 0..5 {
        assert_eq!(verdict(&ports.send_token(&gateway, "GET", "/me", &later)), OK);
    }
    assert_eq!(ports.log.borrow().reads, 7, "one for the token of the push, then the copy is read again");
}

#[test]
fn requests_that_wait_for_the_keys_of_one_issuer_leave_room_for_other_waits() {
    let (gateway, ports) = (gateway(), ports());
    assert_eq!(verdict(&ports.send_token(&gateway, "GET", "/me", &access(&ports, &json!({})))), OK);
    ports.advance(keys::limits::COOL_DOWN_MS);
    ports.issuer_never_answers.set(true);
    ports.log.borrow_mut().never_answers = true;
    let head = |token: String| {
        let headers = vec![("authorization".to_owned(), format!("Bearer {token}"))];
        Head::new("GET".to_owned(), "https://edge.example/me", headers)
    };
    let claims = json!({ "iss": "https://id.example" });
    let (unknown, good, of_other) = (
        head(Signer::new(9).sign("at+jwt", &claims)),
        head(access(&ports, &json!({}))),
        head(access(&ports, &json!({ "iss": "https://other.example" }))),
    );
    let begin = |head| {
        let mut request = Box::pin(gateway.handle(head, &ports));
        let is_waiting = request.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
        is_waiting.then_some(request)
    };
    let _waiting: Vec<_> = std::iter::from_fn(|| begin(&unknown)).collect();
    // The first of each reads or fetches, the second waits for it.
    let _others = [&good, &good, &of_other, &of_other].map(|head| begin(head).unwrap());
}

#[test]
fn one_location_reads_the_log_once_in_two_seconds() {
    let (ports, isolates) = (ports(), [gateway(), gateway(), gateway()]);
    let (mut token, mut ended) = (String::new(), "s".to_owned());
    for second in 0..3600 {
        if second % 60 == 0 {
            let session = format!("s{second}");
            token = access(&ports, &json!({ "sid": session }));
            assert_eq!(push(&isolates[0], &ports, &json!({ "revocations": [{ "session": ended }] })), OK);
            ended = session;
        }
        for gateway in &isolates {
            for _ in 0..3 {
                assert_eq!(verdict(&ports.send_token(gateway, "GET", "/me", &token)), OK);
            }
        }
        ports.advance(1000);
    }
    let reads = ports.log.borrow().reads;
    // The newest page every two seconds, the whole log when the isolates begin, and each push's token.
    assert!((1760..=1870).contains(&reads), "{reads} reads");
    let held = status(&isolates[1], &ports)["revocation"]["entries"].as_u64().unwrap();
    assert!((58..=60).contains(&held), "holds {held} entries");
}
