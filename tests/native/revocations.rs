//! Revoked tokens through the whole gate: by logout and by push, on other isolates, on
//! strict routes, and while the log is out of reach.

use portcullis::pipeline::{BackgroundTask, Gateway, wire::Fault};
use portcullis_token::revocation::limits;
use serde_json::{Value, json};

use crate::{
    fakes::{Issuer, Vectors, World, answer, header, setting, verdict},
    signer::{Signer, jwks, with},
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

[[routes]]
path = "/logout"
methods = ["POST"]
upstream = "app"
access = "user"
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

fn gate() -> Gateway {
    let policy = portcullis_policy::check(POLICY).unwrap();
    Gateway::new(&serde_json::to_string(&policy).unwrap(), setting).unwrap()
}

fn signer() -> Signer {
    Signer::new(7)
}

fn world() -> World {
    let world = World::new(&Vectors::load());
    *world.issuer.borrow_mut() = Issuer::Serves(jwks(&[&signer()]));
    world
}

fn access(world: &World, changes: &Value) -> String {
    let now = world.now.get().secs();
    let claims = json!({ "iss": "https://id.example", "aud": "api", "sub": "ada", "iat": now, "exp": now + 900, "jti": "t1", "sid": "s1" });
    signer().sign("at+jwt", &with(claims, changes))
}

/// A service token with which `issuer`'s own tokens may be revoked.
fn service(world: &World, changes: &Value) -> String {
    let now = world.now.get().secs();
    let claims = json!({ "iss": "https://id.example", "aud": "portcullis", "sub": "accounts", "iat": now, "exp": now + 300, "token_type": "service" });
    signer().sign("service+jwt", &with(claims, changes))
}

fn push(gate: &Gateway, world: &World, body: &Value) -> (u16, &'static str) {
    *world.body.borrow_mut() = body.to_string().into_bytes();
    verdict(&world.send_token(gate, "POST", PUSH, &service(world, &json!({}))))
}

fn status(gate: &Gateway, world: &World) -> Value {
    let handled = world.ask_as_operator(gate, "/status");
    serde_json::from_str(&answer(&handled).body).unwrap()
}

#[test]
fn a_logout_ends_the_session_here_at_once_and_elsewhere_within_the_window() {
    let (here, elsewhere, world) = (gate(), gate(), world());
    let token = access(&world, &json!({}));
    let sibling = access(&world, &json!({ "jti": "t2" }));
    let bystander = access(&world, &json!({ "jti": "t3", "sid": "s2" }));
    for gate in [&here, &elsewhere] {
        assert_eq!(verdict(&world.send_token(gate, "GET", "/me", &token)), OK);
    }
    assert_eq!(verdict(&world.send_token(&here, "POST", "/logout", &token)), OK);
    for (token, expected) in [(&token, REVOKED), (&sibling, REVOKED), (&bystander, OK)] {
        assert_eq!(verdict(&world.send_token(&here, "GET", "/me", token)), expected);
        assert_eq!(verdict(&world.send_token(&elsewhere, "GET", "/strict", token)), expected, "a strict route");
    }
    let answer = world.send_token(&here, "GET", "/me", &token);
    let challenge = header(crate::fakes::answer(&answer), "www-authenticate").unwrap().to_owned();
    assert!(challenge.contains("Token has been revoked"), "{challenge}");
}

#[test]
fn no_isolate_lets_a_revoked_token_in_past_the_window_whatever_it_was_asked_when() {
    // Requests at these distances keep another isolate's copy in different states.
    for step in [50, 333, 999, 1001, 1999, 2500, 3999, 4001, 60_000] {
        let (here, elsewhere, world) = (gate(), gate(), world());
        let token = access(&world, &json!({}));
        for _ in 0..(10_000 / step).max(1) {
            assert_eq!(verdict(&world.send_token(&elsewhere, "GET", "/me", &token)), OK);
            world.pass(step);
        }
        assert_eq!(verdict(&world.send_token(&here, "POST", "/logout", &token)), OK);
        let ended_at = world.now.get();
        loop {
            let said = verdict(&world.send_token(&elsewhere, "GET", "/me", &token));
            if said == REVOKED {
                break;
            }
            assert_eq!(said, OK);
            assert!(
                world.now.get().since(ended_at) <= limits::STALE_MS,
                "let in {} ms later",
                world.now.get().since(ended_at)
            );
            world.pass(step);
        }
    }
}

#[test]
fn a_place_that_keeps_pages_for_ever_does_not_widen_the_window() {
    let (here, elsewhere, world) = (gate(), gate(), world());
    world.log.borrow_mut().keeps_for_ever = true;
    let token = access(&world, &json!({}));
    assert_eq!(verdict(&world.send_token(&elsewhere, "GET", "/me", &token)), OK);
    assert_eq!(verdict(&world.send_token(&here, "POST", "/logout", &token)), OK);
    world.pass(limits::STALE_MS + 1);
    assert_eq!(verdict(&world.send_token(&elsewhere, "GET", "/me", &token)), REVOKED);
}

#[test]
fn a_push_revokes_by_token_by_session_and_by_user_up_to_an_instant() {
    let now = world().now.get().secs();
    for (revocation, refused) in [
        (json!({ "token": "t1" }), &["first"][..]),
        (json!({ "session": "s1" }), &["first", "second"]),
        (json!({ "user": "ada", "issued_until": now }), &["first", "second", "another session"]),
        (json!({ "user": "ada", "issued_until": now - 1 }), &[]),
        (json!({ "user": "eve", "issued_until": now }), &["another user"]),
        (json!({ "session": "S1" }), &[]),
        (json!({ "token": "t1", "expires_at": now - 3600 }), &[]),
    ] {
        let (here, elsewhere, world) = (gate(), gate(), world());
        let tokens = [
            ("first", json!({})),
            ("second", json!({ "jti": "t2" })),
            ("another session", json!({ "jti": "t3", "sid": "s3" })),
            ("another user", json!({ "jti": "t4", "sid": "s4", "sub": "eve" })),
            ("of the same ids, by another issuer", json!({ "iss": "https://other.example" })),
            ("of the same ids, by an issuer that revokes nothing", json!({ "iss": "https://plain.example" })),
        ]
        .map(|(name, changes)| (name, access(&world, &changes)));
        assert_eq!(push(&here, &world, &json!({ "revocations": [revocation] })), OK);
        for gate in [&here, &elsewhere] {
            for (name, token) in &tokens {
                let expected = if refused.contains(name) { REVOKED } else { OK };
                assert_eq!(
                    verdict(&world.send_token(gate, "GET", "/me", token)),
                    expected,
                    "{name} after {revocation}"
                );
            }
        }
        world.pass(1000);
        let later = access(&world, &json!({ "jti": "t9", "sid": "s9" }));
        assert_eq!(verdict(&world.send_token(&here, "GET", "/me", &later)), OK, "who logs in again is let in");
    }
}

#[test]
fn a_revoked_key_is_believed_nowhere_and_revokes_nothing_itself() {
    let (here, elsewhere, world) = (gate(), gate(), world());
    let next = Signer::new(8);
    let token = access(&world, &json!({}));
    for gate in [&here, &elsewhere] {
        assert_eq!(verdict(&world.send_token(gate, "GET", "/me", &token)), OK);
    }
    *world.issuer.borrow_mut() = Issuer::Serves(jwks(&[&next]));
    // A key's seed is its `kid`.
    assert_eq!(push(&here, &world, &json!({ "revocations": [{ "key": "7" }] })), OK);
    let said = push(&elsewhere, &world, &json!({ "revocations": [{ "key": "8" }] }));
    assert_eq!(said, REVOKED, "a gateway that has not read the log");
    // Here the set was asked for again, too, and lacks the key.
    assert_eq!(verdict(&world.send_token(&here, "GET", "/me", &token)).0, 401);
    assert_eq!(verdict(&world.send_token(&elsewhere, "GET", "/strict", &token)), REVOKED, "at once");
    world.pass(limits::STALE_MS + 1);
    for gate in [&here, &elsewhere] {
        let forged = access(&world, &json!({ "jti": "t7", "sid": "s7", "sub": "root" }));
        let verdict = verdict(&world.send_token(gate, "GET", "/me", &forged));
        assert!(matches!(verdict, (401, "token_revoked" | "token_key_unknown")), "{verdict:?}");
    }
    let said = push(&elsewhere, &world, &json!({ "revocations": [{ "user": "ada", "issued_until": 1 }] }));
    assert_eq!(said.0, 401, "{said:?}");
}

#[test]
fn after_a_revoked_key_the_set_is_asked_for_at_once() {
    let (gate, world) = (gate(), world());
    let next = Signer::new(8);
    assert_eq!(verdict(&world.send_token(&gate, "GET", "/me", &access(&world, &json!({})))), OK);
    *world.issuer.borrow_mut() = Issuer::Serves(jwks(&[&next]));
    assert_eq!(push(&gate, &world, &json!({ "revocations": [{ "key": "7" }] })), OK);
    let now = world.now.get().secs();
    let claims = json!({ "iss": "https://id.example", "aud": "api", "sub": "ada", "iat": now, "exp": now + 900, "jti": "t8", "sid": "s8" });
    let token = next.sign("at+jwt", &claims);
    assert_eq!(verdict(&world.send_token(&gate, "GET", "/me", &token)), OK, "within the pause between two fetches");
}

#[test]
fn only_the_named_service_of_an_issuer_may_push() {
    let (gate, world) = (gate(), world());
    let body = json!({ "revocations": [{ "session": "s1" }] });
    let now = world.now.get().secs();
    for (name, token, expected) in [
        ("an access token", access(&world, &json!({})), (401, "token_type_header_invalid")),
        (
            "an access token that claims more",
            access(&world, &json!({ "aud": "portcullis", "sub": "accounts", "token_type": "service" })),
            (401, "token_type_header_invalid"),
        ),
        ("for another service", service(&world, &json!({ "aud": "users" })), (401, "token_audience_invalid")),
        ("for clients", service(&world, &json!({ "aud": "api" })), (401, "token_audience_invalid")),
        ("another service's", service(&world, &json!({ "sub": "users" })), (401, "token_requirement_unmet")),
        ("not a service's", service(&world, &json!({ "token_type": "access" })), (401, "token_type_invalid")),
        ("expired", service(&world, &json!({ "iat": now - 900, "exp": now - 31 })), (401, "token_expired")),
        (
            "of an issuer that revokes nothing",
            service(&world, &json!({ "iss": "https://plain.example" })),
            (401, "token_issuer_unknown"),
        ),
        (
            "of nobody's issuer",
            service(&world, &json!({ "iss": "https://evil.example" })),
            (401, "token_issuer_unknown"),
        ),
        ("right, for another issuer's tokens", service(&world, &json!({ "iss": "https://other.example" })), OK),
    ] {
        *world.body.borrow_mut() = body.to_string().into_bytes();
        assert_eq!(verdict(&world.send_token(&gate, "POST", PUSH, &token)), expected, "{name}");
    }
    assert_eq!(verdict(&world.send(&gate, "POST", PUSH, &[])), (401, "credentials_missing"));
    assert_eq!(
        verdict(&world.send_token(&gate, "GET", PUSH, &service(&world, &json!({})))),
        (405, "method_not_allowed")
    );
    assert_eq!(verdict(&world.send_token(&gate, "GET", "/me", &access(&world, &json!({})))), OK, "nothing was revoked");
    assert_eq!(
        verdict(&world.send_token(&gate, "GET", "/me", &service(&world, &json!({})))),
        (401, "token_audience_invalid")
    );
}

#[test]
fn a_push_that_cannot_be_taken_says_why_and_notes_nothing() {
    let (gate, world) = (gate(), world());
    let token = service(&world, &json!({}));
    let long = vec![b' '; limits::PUSH_BYTES + 1];
    for (body, expected) in [
        (&b"{}"[..], (400, "push_malformed")),
        (br#"{"revocations":[{"session":"s1"},{"session":""}]}"#, (400, "push_malformed")),
        (&long, (413, "push_too_large")),
    ] {
        *world.body.borrow_mut() = body.to_vec();
        let handled = world.send_token(&gate, "POST", PUSH, &token);
        assert_eq!(verdict(&handled), expected);
        if expected.0 == 400 {
            let document: Value = serde_json::from_str(&answer(&handled).body).unwrap();
            let detail = document["detail"].as_str().unwrap();
            assert!(detail.starts_with("the body") || detail.starts_with("revocations[1]"), "{detail}");
        }
    }
    assert!(world.log.borrow().entries.is_empty());
    world.log.borrow_mut().fault = Some(Fault::Unreachable);
    assert_eq!(push(&gate, &world, &json!({ "revocations": [{ "session": "s1" }] })), UNKNOWN);
    world.log.borrow_mut().fault = None;
    assert_eq!(verdict(&world.send_token(&gate, "GET", "/me", &access(&world, &json!({})))), OK, "it was not taken");
}

#[test]
fn a_log_out_of_reach_costs_nobody_anything_up_to_the_limit_and_then_denies() {
    let (gate, world) = (gate(), world());
    let token = access(&world, &json!({}));
    assert_eq!(verdict(&world.send_token(&gate, "GET", "/me", &token)), OK);
    world.log.borrow_mut().fault = Some(Fault::Unreachable);
    let began = world.now.get();
    assert_eq!(verdict(&world.send_token(&gate, "GET", "/strict", &token)), UNKNOWN, "strict is strict");
    for second in 1..=60 {
        world.pass(1000);
        let handled = world.send_token(&gate, "GET", "/me", &token);
        assert_eq!(verdict(&handled), OK, "{second} s");
        assert_eq!(handled.record.duration_ms, 0, "nobody waits");
    }
    assert_eq!(status(&gate, &world)["revocation"]["status"], "degraded");
    world.pass(1);
    let handled = world.send_token(&gate, "GET", "/me", &token);
    assert_eq!(verdict(&handled), UNKNOWN);
    assert_eq!(header(answer(&handled), "retry-after"), Some("1"));
    assert_eq!(status(&gate, &world)["revocation"]["status"], "unhealthy");
    assert_eq!(verdict(&world.ask_as_operator(&gate, "/ready")).0, 503);
    let plain = access(&world, &json!({ "iss": "https://plain.example" }));
    assert_eq!(verdict(&world.send_token(&gate, "GET", "/me", &plain)), OK, "a token that cannot be revoked");
    assert_eq!(verdict(&world.send(&gate, "GET", "/open", &[])), OK);
    assert!(world.log.borrow().asked <= 64, "asked {} times in a minute", world.log.borrow().asked);
    world.log.borrow_mut().fault = None;
    world.pass(limits::BACK_OFF_MS);
    assert_eq!(verdict(&world.send_token(&gate, "GET", "/me", &token)), OK);
    assert!(world.now.get().since(began) < 63_000);
    assert_eq!(status(&gate, &world)["revocation"]["status"], "healthy");
}

#[test]
fn an_isolate_that_never_saw_the_log_lets_nobody_in() {
    let (gate, world) = (gate(), world());
    world.log.borrow_mut().fault = Some(Fault::TimedOut);
    let token = access(&world, &json!({}));
    for _ in 0..3 {
        assert_eq!(verdict(&world.send_token(&gate, "GET", "/me", &token)), UNKNOWN);
    }
    assert_eq!(world.log.borrow().asked, 1, "and asks once a second");
    assert_eq!(verdict(&world.send_token(&gate, "GET", "/me", "not.a.token")).0, 401, "a bad token is a bad token");
}

#[test]
fn a_logout_that_the_log_did_not_take_is_told_again() {
    let (gate, world) = (gate(), world());
    let token = access(&world, &json!({}));
    assert_eq!(verdict(&world.send_token(&gate, "GET", "/me", &token)), OK);
    world.log.borrow_mut().fault = Some(Fault::Unreachable);
    let headers = vec![("authorization".to_owned(), format!("Bearer {token}"))];
    let head = portcullis::pipeline::Head::new("POST".to_owned(), "https://edge.example/logout", headers);
    let handled = futures_executor::block_on(gate.handle(&head, &world));
    let tasks = world.tasks.take();
    assert_eq!(verdict(&handled), OK, "the upstream has ended it: that is what the client asked for");
    assert_eq!(verdict(&world.send_token(&gate, "GET", "/me", &token)), REVOKED, "and here it is ended, too");
    world.log.borrow_mut().fault = None;
    for task in tasks.into_iter().filter(|task| matches!(task, BackgroundTask::AppendRevocation(_))) {
        futures_executor::block_on(gate.run(task, &world));
    }
    assert_eq!(world.log.borrow().entries.len(), 1);
}

#[test]
fn a_logout_that_the_upstream_refused_ends_nothing() {
    let (gate, world) = (gate(), world());
    let token = access(&world, &json!({}));
    for status in [400, 401, 500, 302] {
        world.upstream.set(Ok(status));
        world.send_token(&gate, "POST", "/logout", &token);
    }
    world.upstream.set(Ok(200));
    assert_eq!(verdict(&world.send_token(&gate, "GET", "/me", &token)), OK);
}

#[test]
fn who_has_no_right_to_a_strict_route_costs_the_log_nothing() {
    let (gate, world) = (gate(), world());
    let token = access(&world, &json!({}));
    for _ in 0..100 {
        assert_eq!(verdict(&world.send_token(&gate, "GET", "/admin", &token)), (403, "rights_missing"));
    }
    assert_eq!(world.log.borrow().asked, 0);
    let admin = access(&world, &json!({ "roles": ["admin"] }));
    assert_eq!(verdict(&world.send_token(&gate, "GET", "/admin", &admin)), OK);
    assert_eq!(world.log.borrow().asked, 1);
}

#[test]
fn a_log_too_large_for_a_copy_is_asked_about_each_token_and_is_no_outage() {
    let (gate, world) = (gate(), world());
    world.log.borrow_mut().overflows = true;
    let (token, other) = (access(&world, &json!({})), access(&world, &json!({ "sid": "s2" })));
    assert_eq!(verdict(&world.send_token(&gate, "GET", "/me", &token)), OK);
    assert_eq!(world.log.borrow().asked, 3, "the newest page, the whole log, and this token");
    assert_eq!(verdict(&world.send_token(&gate, "GET", "/me", &other)), OK);
    assert_eq!(world.log.borrow().asked, 4);
    assert_eq!(push(&gate, &world, &json!({ "revocations": [{ "session": "s1" }] })), OK);
    assert_eq!(verdict(&world.send_token(&gate, "GET", "/me", &token)), REVOKED);
    assert_eq!(verdict(&world.ask_as_operator(&gate, "/ready")).0, 200);
    let status = status(&gate, &world);
    assert_eq!(
        (&status["revocation"]["status"], &status["revocation"]["last_error"]),
        (&json!("degraded"), &Value::Null)
    );
    world.log.borrow_mut().overflows = false;
    world.pass(limits::SWEEP_MS);
    let later = access(&world, &json!({ "sid": "s3" }));
    for _ in 0..5 {
        assert_eq!(verdict(&world.send_token(&gate, "GET", "/me", &later)), OK);
    }
    assert_eq!(world.log.borrow().asked, 7, "about the push's token, and a copy is tried again in a while");
}

#[test]
fn an_hour_of_requests_asks_the_log_once_in_two_seconds_from_one_location() {
    let (world, isolates) = (world(), [gate(), gate(), gate()]);
    let (mut token, mut ended) = (String::new(), "s".to_owned());
    for second in 0..3600 {
        if second % 60 == 0 {
            let session = format!("s{second}");
            token = access(&world, &json!({ "sid": session }));
            assert_eq!(push(&isolates[0], &world, &json!({ "revocations": [{ "session": ended }] })), OK);
            ended = session;
        }
        for gate in &isolates {
            for _ in 0..3 {
                assert_eq!(verdict(&world.send_token(gate, "GET", "/me", &token)), OK);
            }
        }
        world.pass(1000);
    }
    let asked = world.log.borrow().asked;
    // The newest page every two seconds, the whole log when the isolates begin, and each push's token.
    assert!((1760..=1870).contains(&asked), "asked {asked} times");
    let held = status(&isolates[1], &world)["revocation"]["entries"].as_u64().unwrap();
    assert!((58..=60).contains(&held), "holds {held} entries");
}
