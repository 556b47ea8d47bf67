//! Logout tokens and security events: what they revoke, what is refused, and what their senders are answered.

use portcullis::pipeline::{Gateway, wire::Fault};
use portcullis_token::limits::TOKEN_BYTES;
use serde_json::{Value, json};

use crate::{
    fakes::{FakePorts, Issuer, answer, configured, gateway_of, header, setting, verdict},
    signer::{Signer, claims_at, jwks, with},
};

const POLICY: &str = r#"
[issuers.id]
issuer = "https://id.example"
audience = ["api"]
algorithms = ["EdDSA"]
jwks_url = "https://id.example/jwks"
logout = { audience = ["web", "app"] }
events = { audience = ["https://edge.example"] }

[issuers.other]
issuer = "https://other.example"
audience = ["api", "web"]
algorithms = ["EdDSA"]
jwks_url = "https://other.example/jwks"
revocations_from = "accounts"
logout = { audience = ["web"] }
events = { issuer = "https://signals.example/", audience = ["edge"], authorization = true }

[issuers.plain]
issuer = "https://plain.example"
audience = ["api"]
algorithms = ["EdDSA"]
jwks_url = "https://plain.example/jwks"

[limits.guesses]
by = "failed_ip"

[upstreams.app]
url = "https://app.example"

[[routes]]
path = "/me"
methods = ["GET"]
upstream = "app"
access = "user"

[[routes]]
path = "/logout"
methods = ["POST"]
upstream = "app"
access = "user"
issuers = ["id", "other"]
ends_session = true
"#;

const LOGOUT: &str = "/_gateway/logout/id";
const EVENTS: &str = "/_gateway/events/id";
const FORM: &str = "application/x-www-form-urlencoded";
const SET: &str = "application/secevent+jwt";
const REVOKED: (u16, &str) = (401, "token_revoked");
const OK: (u16, &str) = (200, "ok");
const ACCEPTED: (u16, &str) = (202, "ok");
const SECRET: &str = "Bearer the transmitter's secret";

/// `id` and `plain` have the key 7, `other` has 8.
fn signer() -> Signer {
    Signer::new(7)
}

fn ports() -> FakePorts {
    let ports = FakePorts::new();
    *ports.issuer.borrow_mut() = Issuer::ServesAt(vec![
        ("https://id.example/jwks", jwks(&[&signer()])),
        ("https://plain.example/jwks", jwks(&[&signer()])),
        ("https://other.example/jwks", jwks(&[&Signer::new(8)])),
    ]);
    ports
}

fn gateway() -> Gateway {
    configured(POLICY, |name| match name {
        "EVENTS_AUTHORIZATION_OTHER" => Some(SECRET.to_owned()),
        "METRICS_TOKEN" => Some("a-token-of-the-operator".to_owned()),
        name => setting(name),
    })
    .unwrap()
}

fn post(gateway: &Gateway, ports: &FakePorts, path: &str, content_type: &str, body: &str) -> crate::fakes::Seen {
    *ports.body.borrow_mut() = body.as_bytes().to_vec();
    let headers = [("content-type", content_type), ("authorization", SECRET), ("cf-connecting-ip", "203.0.113.7")];
    ports.send(gateway, "POST", path, &headers)
}

fn logout(gateway: &Gateway, ports: &FakePorts, token: &str) -> (u16, &'static str) {
    verdict(&post(gateway, ports, LOGOUT, FORM, &format!("logout_token={token}")))
}

fn notify(gateway: &Gateway, ports: &FakePorts, token: &str) -> (u16, &'static str) {
    verdict(&post(gateway, ports, EVENTS, SET, token))
}

fn now(ports: &FakePorts) -> u64 {
    ports.now.get().secs()
}

/// A logout token of `ada`'s session `s1`.
fn logout_claims(ports: &FakePorts) -> Value {
    let events = json!({ "http://schemas.openid.net/event/backchannel-logout": {} });
    let claims = json!({ "aud": "web", "jti": "l1", "sid": "s1", "exp": now(ports) + 120, "events": events });
    with(claims_at(now(ports)), &claims)
}

fn logout_token(ports: &FakePorts, changes: &Value) -> String {
    signer().sign("logout+jwt", &with(logout_claims(ports), changes))
}

fn caep(name: &str) -> String {
    format!("https://schemas.openid.net/secevent/caep/event-type/{name}")
}

/// An event of the user `ada`.
fn event_claims(ports: &FakePorts) -> Value {
    json!({
        "iss": "https://id.example", "aud": "https://edge.example", "iat": now(ports), "jti": "e1",
        "sub_id": { "format": "iss_sub", "iss": "https://id.example", "sub": "ada" },
        "events": { caep("session-revoked"): { "event_timestamp": now(ports) } },
    })
}

fn event(ports: &FakePorts, changes: &Value) -> String {
    signer().sign("secevent+jwt", &with(event_claims(ports), changes))
}

/// Access tokens of different users and sessions, by name.
fn tokens(ports: &FakePorts) -> [(&'static str, String); 6] {
    let sign = |changes: &Value| signer().sign("at+jwt", &with(claims_at(now(ports)), changes));
    let other = json!({ "iss": "https://other.example", "sid": "s1", "jti": "t6" });
    [
        ("first", sign(&json!({ "sid": "s1", "jti": "t1" }))),
        ("second", sign(&json!({ "sid": "s2", "jti": "t2" }))),
        ("without a session", sign(&json!({ "jti": "t3" }))),
        ("of eve", sign(&json!({ "sub": "eve", "sid": "s4", "jti": "t4" }))),
        ("of eve without a session", sign(&json!({ "sub": "eve", "jti": "t5" }))),
        ("of the same ids, by another issuer", Signer::new(8).sign("at+jwt", &with(claims_at(now(ports)), &other))),
    ]
}

/// Expects that the tokens of these names are revoked, and no others, in this isolate and in another.
fn expect_revoked(here: &Gateway, ports: &FakePorts, tokens: &[(&str, String)], refused: &[&str], name: &str) {
    for gateway in [here, &gateway()] {
        for (token_name, token) in tokens {
            let expected = if refused.contains(token_name) { REVOKED } else { OK };
            let actual = verdict(&ports.send_token(gateway, "GET", "/me", token));
            assert_eq!(actual, expected, "{name}: {token_name}");
        }
    }
}

#[test]
fn a_logout_token_revokes_its_session_or_its_user() {
    let iat = now(&ports());
    for (changes, refused) in [
        // A token that names no session may be of this one.
        (json!({}), &["first", "without a session"][..]),
        (json!({ "sub": null }), &["first"]),
        (json!({ "sid": null }), &["first", "second", "without a session"]),
        (json!({ "sid": "" }), &["first", "second", "without a session"]),
        (json!({ "sub": "eve", "sid": null }), &["of eve", "of eve without a session"]),
        (json!({ "sid": "S1", "sub": null }), &[]),
        (json!({ "exp": null }), &["first", "without a session"]),
        (json!({ "aud": ["someone", "app"] }), &["first", "without a session"]),
        // Of a session, the leeway of 30 s covers the clocks of the provider's nodes.
        (json!({ "iat": iat - 30 }), &["first"]),
        (json!({ "iat": iat - 31 }), &[]),
        (json!({ "iat": iat - 1, "sid": null }), &[]),
        (json!({ "iat": 1_000_000, "exp": null }), &[]),
    ] {
        let (gateway, ports) = (gateway(), ports());
        let tokens = tokens(&ports);
        expect_revoked(&gateway, &ports, &tokens, &[], "before");
        assert_eq!(logout(&gateway, &ports, &logout_token(&ports, &changes)), OK, "{changes}");
        expect_revoked(&gateway, &ports, &tokens, refused, &changes.to_string());
    }
}

#[test]
fn an_event_revokes_its_session_or_its_user() {
    let iss_sub = |sub: &str| json!({ "format": "iss_sub", "iss": "https://id.example", "sub": sub });
    let opaque = |id: &str| json!({ "format": "opaque", "id": id });
    let of_type = |name: &str, payload: Value| json!({ "events": { caep(name): payload } });
    let risc =
        |name: &str| json!({ "events": { format!("https://schemas.openid.net/secevent/risc/event-type/{name}"): {} } });
    let all = &["first", "second", "without a session"][..];
    let subject = |subject: Value| json!({ "sub_id": subject });
    let of_both = subject(json!({ "format": "complex", "session": opaque("s1"), "user": iss_sub("ada") }));
    let both = |event: &Value| with(event.clone(), &of_both);
    for (changes, refused) in [
        (json!({}), all),
        (subject(opaque("ada")), all),
        (subject(opaque("s1")), &["first"]),
        (subject(json!({ "format": "complex", "user": iss_sub("ada") })), all),
        (subject(json!({ "format": "complex", "user": opaque("eve") })), &["of eve", "of eve without a session"]),
        (subject(json!({ "format": "complex", "session": opaque("s1") })), &["first"]),
        (
            subject(
                json!({ "format": "complex", "session": opaque("s1"), "user": iss_sub("ada"), "tenant": opaque("t") }),
            ),
            &["first", "without a session"],
        ),
        (subject(json!({ "format": "complex", "user": iss_sub("ada"), "device": iss_sub("d") })), all),
        // Without a user or a session, and in formats that tokens have nothing of.
        (subject(json!({ "format": "complex", "device": opaque("ada") })), &[]),
        (subject(json!({ "format": "email", "email": "ada@example.com" })), &[]),
        (subject(json!({ "format": "complex", "user": { "format": "email", "email": "ada" } })), &[]),
        // Of earlier drafts.
        (json!({ "sub_id": null, "events": { caep("session-revoked"): { "subject": iss_sub("ada") } } }), all),
        (
            json!({ "sub_id": null, "events": { caep("session-revoked"): { "subject": { "user": iss_sub("ada") } } } }),
            all,
        ),
        (subject(json!({ "subject_type": "iss-sub", "iss": "https://id.example", "sub": "ada" })), all),
        (of_type("credential-change", json!({ "change_type": "revoke", "credential_type": "password" })), all),
        (of_type("credential-change", json!({ "change_type": "update", "credential_type": "password" })), all),
        (of_type("credential-change", json!({ "change_type": "delete", "credential_type": "pin" })), all),
        (of_type("credential-change", json!({})), all),
        (of_type("credential-change", json!({ "change_type": "create", "credential_type": "fido2-roaming" })), &[]),
        (of_type("token-claims-change", json!({ "claims": {} })), &[]),
        (of_type("session-revoked-2", json!({})), &[]),
        (risc("account-disabled"), all),
        (risc("sessions-revoked"), all),
        (risc("account-enabled"), &[]),
        // They are about the account, also with the session in which that was noticed.
        (both(&risc("account-disabled")), all),
        (both(&risc("account-purged")), all),
        (both(&risc("credential-compromise")), all),
        (both(&risc("sessions-revoked")), all),
        (both(&of_type("credential-change", json!({}))), &["first", "without a session"]),
        (
            with(both(&risc("account-disabled")), &subject(json!({ "format": "complex", "session": opaque("s1") }))),
            &["first"],
        ),
        (
            json!({ "events": { "https://schemas.openid.net/secevent/ssf/event-type/verification": { "state": "x" } } }),
            &[],
        ),
    ] {
        let (gateway, ports) = (gateway(), ports());
        let tokens = tokens(&ports);
        assert_eq!(notify(&gateway, &ports, &event(&ports, &changes)), ACCEPTED, "{changes}");
        expect_revoked(&gateway, &ports, &tokens, refused, &changes.to_string());
    }
}

#[test]
fn a_replay_revokes_nothing_that_was_issued_since() {
    let (gateway, ports) = (gateway(), ports());
    let (token, set) = (logout_token(&ports, &json!({ "sid": null, "exp": null })), event(&ports, &json!({})));
    let before = tokens(&ports);
    assert_eq!(logout(&gateway, &ports, &token), OK);
    assert_eq!(notify(&gateway, &ports, &set), ACCEPTED);
    ports.advance(1000);
    let later = tokens(&ports);
    for seconds in [0, 60, 3600] {
        assert_eq!(logout(&gateway, &ports, &token), OK);
        assert_eq!(notify(&gateway, &ports, &set), ACCEPTED);
        if seconds == 0 {
            expect_revoked(&gateway, &ports, &before, &["first", "second", "without a session"], "before");
            expect_revoked(&gateway, &ports, &later, &[], "issued since");
        }
        ports.advance(seconds * 1000);
    }
    // Every token that it would revoke has expired: the log keeps nothing for a late replay.
    ports.advance(2 * 86_400 * 1000);
    let entries = ports.log.borrow().entries.len();
    assert_eq!(logout(&gateway, &ports, &token), OK);
    assert_eq!(ports.log.borrow().entries.len(), entries);
}

#[test]
fn each_attack_on_the_logout_endpoint_has_its_answer() {
    let ports = ports();
    let now = now(&ports);
    let event = |name: &str| json!({ "events": { name: {} } });
    let field = |token: &str| format!("logout_token={token}");
    let good = logout_token(&ports, &json!({}));
    let token = |changes: Value| field(&logout_token(&ports, &changes));
    let typed = |typ: &str, claims: &Value| field(&signer().sign(typ, claims));
    let signed_as = |header: Value| field(&signer().sign_as(&header, &logout_claims(&ports)));
    let access = with(claims_at(now), &json!({ "sid": "s1", "jti": "t1" }));
    let access_for_web = with(access.clone(), &json!({ "aud": "web" }));
    let mut flipped = good.clone();
    flipped.replace_range(
        good.len() - 10..good.len() - 9,
        if &good[good.len() - 10..good.len() - 9] == "A" { "B" } else { "A" },
    );
    for (name, body, expected) in [
        ("a nonce: an ID token", token(json!({ "nonce": "n" })), "event_claim_prohibited"),
        (
            "a nonce of null",
            format!(
                "logout_token={}",
                signer().sign("logout+jwt", &{
                    let mut claims = logout_claims(&ports);
                    claims["nonce"] = Value::Null;
                    claims
                })
            ),
            "event_claim_prohibited",
        ),
        ("no events", token(json!({ "events": null })), "event_missing"),
        ("another event", token(event(&caep("session-revoked"))), "event_missing"),
        (
            "an event that is no object",
            token(json!({ "events": { "http://schemas.openid.net/event/backchannel-logout": true } })),
            "event_missing",
        ),
        (
            "events as a list",
            token(json!({ "events": ["http://schemas.openid.net/event/backchannel-logout"] })),
            "event_missing",
        ),
        ("no jti", token(json!({ "jti": null })), "event_id_missing"),
        ("an empty jti", token(json!({ "jti": "" })), "event_id_missing"),
        ("a jti of a kilobyte", token(json!({ "jti": "j".repeat(1024) })), "token_identity_invalid"),
        ("neither sub nor sid", token(json!({ "sub": null, "sid": null })), "event_subject_invalid"),
        ("a sub that is a number", token(json!({ "sub": 7 })), "token_identity_invalid"),
        ("for another client", token(json!({ "aud": "admin" })), "token_audience_invalid"),
        ("no audience", token(json!({ "aud": null })), "token_audience_invalid"),
        ("for the audience of access tokens", token(json!({ "aud": "api" })), "token_audience_invalid"),
        ("of the far future", token(json!({ "iat": now + 3600, "exp": now + 7200 })), "token_not_yet_valid"),
        ("of the year 9999", token(json!({ "iat": 253_402_300_799_u64, "exp": null })), "token_not_yet_valid"),
        ("no iat", token(json!({ "iat": null })), "token_dates_invalid"),
        ("expired", token(json!({ "iat": now - 200, "exp": now - 31 })), "token_expired"),
        ("an exp that is a text", token(json!({ "exp": "soon" })), "token_dates_invalid"),
        ("of another issuer", token(json!({ "iss": "https://other.example" })), "token_issuer_unknown"),
        ("of no issuer", token(json!({ "iss": null })), "token_issuer_unknown"),
        ("of an issuer but for a slash", token(json!({ "iss": "https://id.example/" })), "token_issuer_unknown"),
        (
            "by another issuer's key",
            field(&Signer::new(8).sign("logout+jwt", &logout_claims(&ports))),
            "token_key_unknown",
        ),
        (
            "by another issuer's key with this issuer's kid",
            field(&Signer::new(8).sign_as(&json!({ "alg": "EdDSA", "kid": "7" }), &logout_claims(&ports))),
            "token_signature_invalid",
        ),
        ("alg none", signed_as(json!({ "alg": "none", "kid": "7" })), "token_algorithm_not_allowed"),
        ("HS256 with the public key", signed_as(json!({ "alg": "HS256", "kid": "7" })), "token_algorithm_not_allowed"),
        (
            "an algorithm that the issuer does not use",
            signed_as(json!({ "alg": "RS256", "kid": "7" })),
            "token_algorithm_not_allowed",
        ),
        ("one bit of the signature", field(&flipped), "token_signature_invalid"),
        ("an access token", typed("at+jwt", &access), "token_type_header_invalid"),
        (
            "an access token without a type",
            field(&signer().sign_as(&json!({ "alg": "EdDSA", "kid": "7" }), &access_for_web)),
            "event_missing",
        ),
        ("an access token for the client", typed("JWT", &access_for_web), "event_missing"),
        ("an event of shared signals", typed("secevent+jwt", &event_claims(&ports)), "token_type_header_invalid"),
        ("crit", signed_as(json!({ "alg": "EdDSA", "kid": "7", "crit": ["exp"] })), "token_header_extension"),
        (
            "a claim twice",
            {
                let parts: Vec<&str> = good.split('.').collect();
                field(&format!("{}.eyJhIjoxLCJhIjoyfQ.{}", parts[0], parts[2]))
            },
            "token_claims_malformed",
        ),
        ("two tokens", format!("logout_token={good}&logout_token={good}"), "event_request_invalid"),
        ("an empty token first", format!("logout_token&logout_token={good}"), "event_request_invalid"),
        ("two tokens, one name escaped", format!("logout_token={good}&logout%5Ftoken={good}"), "event_request_invalid"),
        ("no field of this name", format!("token={good}"), "event_request_invalid"),
        ("no body", String::new(), "event_request_invalid"),
        ("no token", field(""), "token_malformed"),
        ("a token with a blank", field(&format!("{good}+")), "token_malformed"),
        ("more than 16 KiB", field(&"a".repeat(TOKEN_BYTES + 1)), "token_too_large"),
    ] {
        let seen = post(&gateway(), &ports, LOGOUT, FORM, &body);
        assert_eq!(verdict(&seen), (400, expected), "{name}");
        let text = &answer(&seen).body;
        assert!(!text.contains("s1") && !text.contains("ada"), "{name}: {text}");
    }
    assert!(ports.log.borrow().entries.is_empty(), "nothing was revoked");
    let good = logout_token(&ports, &json!({}));
    // A path of another issuer, and requests that are no form.
    for (path, content_type, body, expected) in [
        ("/_gateway/logout/other", FORM, field(&good), (400, "token_issuer_unknown")),
        ("/_gateway/logout/plain", FORM, field(&good), (404, "route_unknown")),
        ("/_gateway/logout/", FORM, field(&good), (404, "route_unknown")),
        ("/_gateway/logout", FORM, field(&good), (404, "route_unknown")),
        ("/_gateway/logout/id/", FORM, field(&good), (404, "route_unknown")),
        ("/_gateway/logout/ID", FORM, field(&good), (404, "route_unknown")),
        ("/_gateway/logout/%69d/x", FORM, field(&good), (404, "route_unknown")),
        (LOGOUT, "application/json", json!({ "logout_token": good }).to_string(), (400, "event_request_invalid")),
        (LOGOUT, "multipart/form-data", field(&good), (400, "event_request_invalid")),
        (LOGOUT, "", field(&good), (400, "event_request_invalid")),
        (LOGOUT, FORM, "x".repeat(TOKEN_BYTES + 2000), (413, "body_too_large")),
        // In good form, whatever else is sent.
        (LOGOUT, "Application/X-WWW-Form-Urlencoded; charset=UTF-8", format!("a=b&{}&c", field(&good)), OK),
        (LOGOUT, FORM, field(&good).replace('.', "%2E").replace("logout_token", "logout%5Ftoken"), OK),
    ] {
        assert_eq!(verdict(&post(&gateway(), &ports, path, content_type, &body)), expected, "{path} {content_type}");
    }
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        let seen = ports.send(&gateway(), method, LOGOUT, &[]);
        assert_eq!(verdict(&seen), (405, "method_not_allowed"), "{method}");
        assert_eq!(header(answer(&seen), "allow"), Some("POST"));
    }
}

#[test]
fn each_attack_on_the_events_endpoint_has_its_answer() {
    let ports = ports();
    let now = now(&ports);
    let claims = event_claims(&ports);
    let token = |changes: Value| event(&ports, &changes);
    let subject = |subject: Value| event(&ports, &json!({ "sub_id": subject }));
    for (name, body, expected) in [
        ("an access token", signer().sign("at+jwt", &claims_at(now)), "token_type_header_invalid"),
        (
            "without a type",
            signer().sign_as(&json!({ "alg": "EdDSA", "kid": "7" }), &claims),
            "token_type_header_invalid",
        ),
        ("of type JWT", signer().sign("JWT", &claims), "token_type_header_invalid"),
        (
            "a logout token",
            logout_token(&ports, &json!({ "aud": "https://edge.example" })),
            "token_type_header_invalid",
        ),
        (
            "an access token in an event's type",
            signer().sign("secevent+jwt", &with(claims_at(now), &json!({ "aud": "https://edge.example", "jti": "t" }))),
            "event_missing",
        ),
        ("with exp", token(json!({ "exp": now + 60 })), "event_claim_prohibited"),
        ("with sub", token(json!({ "sub": "ada" })), "event_claim_prohibited"),
        ("no event", token(json!({ "events": {} })), "event_missing"),
        ("an event that is a text", token(json!({ "events": { caep("session-revoked"): "yes" } })), "event_missing"),
        ("no jti", token(json!({ "jti": null })), "event_id_missing"),
        ("no subject", token(json!({ "sub_id": null })), "event_subject_invalid"),
        (
            "two subjects",
            token(json!({ "events": { caep("session-revoked"): { "subject": { "format": "opaque", "id": "eve" } } } })),
            "event_subject_invalid",
        ),
        (
            "a user of another issuer",
            subject(json!({ "format": "iss_sub", "iss": "https://other.example", "sub": "ada" })),
            "event_subject_invalid",
        ),
        (
            "a subject without its issuer",
            subject(json!({ "format": "iss_sub", "sub": "ada" })),
            "event_subject_invalid",
        ),
        ("a subject without an id", subject(json!({ "format": "opaque" })), "event_subject_invalid"),
        ("a subject with an empty id", subject(json!({ "format": "opaque", "id": "" })), "event_subject_invalid"),
        ("a subject with a line break", subject(json!({ "format": "opaque", "id": "a\nb" })), "event_subject_invalid"),
        ("a subject that is a text", subject(json!("ada")), "event_subject_invalid"),
        ("a user that is a text", subject(json!({ "format": "complex", "user": "ada" })), "event_subject_invalid"),
        (
            "a complex subject in a complex one",
            subject(
                json!({ "format": "complex", "user": { "format": "complex", "user": { "format": "opaque", "id": "ada" } } }),
            ),
            "ok",
        ),
        ("for another receiver", token(json!({ "aud": "https://evil.example" })), "token_audience_invalid"),
        ("for the audience of access tokens", token(json!({ "aud": "api" })), "token_audience_invalid"),
        ("of another issuer", token(json!({ "iss": "https://other.example" })), "token_issuer_unknown"),
        ("of the far future", token(json!({ "iat": now + 3600 })), "token_not_yet_valid"),
        ("by another issuer's key", Signer::new(8).sign("secevent+jwt", &claims), "token_key_unknown"),
        (
            "alg none",
            signer().sign_as(&json!({ "alg": "none", "typ": "secevent+jwt" }), &claims),
            "token_algorithm_not_allowed",
        ),
        ("two tokens", format!("{0}\n{0}", token(json!({}))), "token_malformed"),
        ("a JSON body", claims.to_string(), "token_malformed"),
    ] {
        let expected = if expected == "ok" { ACCEPTED } else { (400, expected) };
        assert_eq!(notify(&gateway(), &ports, &body), expected, "{name}");
    }
    assert!(ports.log.borrow().entries.is_empty(), "nothing was revoked");
    let good = token(json!({}));
    for (path, content_type, body, expected) in [
        (EVENTS, FORM, good.clone(), (400, "event_request_invalid")),
        (EVENTS, "application/jwt", good.clone(), (400, "event_request_invalid")),
        (EVENTS, SET, "x".repeat(TOKEN_BYTES + 2000), (413, "body_too_large")),
        ("/_gateway/events/plain", SET, good.clone(), (404, "route_unknown")),
        ("/_gateway/events/other", SET, good, (400, "token_issuer_unknown")),
    ] {
        assert_eq!(verdict(&post(&gateway(), &ports, path, content_type, &body)), expected, "{path} {content_type}");
    }
}

#[test]
fn no_event_passes_as_an_access_token() {
    let (gateway, ports) = (gateway(), ports());
    // An issuer whose access tokens are for the client itself and have any type: its logout tokens have all the rest.
    let other = |changes: &Value| {
        let claims = with(logout_claims(&ports), &json!({ "iss": "https://other.example" }));
        Signer::new(8).sign("JWT", &with(claims, changes))
    };
    let send = |token: &str| verdict(&ports.send_token(&gateway, "GET", "/me", token));
    assert_eq!(send(&other(&json!({ "events": null }))), OK, "apart from events");
    for changes in [json!({}), json!({ "events": {} }), json!({ "events": { caep("session-revoked"): {} } })] {
        assert_eq!(send(&other(&changes)), (401, "token_type_invalid"), "{changes}");
    }
    // A claim of this name that marks no security event.
    assert_eq!(send(&other(&json!({ "events": ["concert"] }))), OK);
    // Neither does one push revocations.
    let service = json!({ "aud": "portcullis", "sub": "accounts", "token_type": "service" });
    let claims = with(with(logout_claims(&ports), &json!({ "iss": "https://other.example" })), &service);
    let pusher = Signer::new(8).sign("service+jwt", &claims);
    let seen = ports.send_token(&gateway, "POST", "/_gateway/revocations", &pusher);
    assert_eq!(verdict(&seen), (401, "token_type_invalid"));
}

#[test]
fn the_answers_have_the_form_of_their_specifications() {
    let (gateway, ports) = (gateway(), ports());
    for (path, content_type, body, status) in [
        (LOGOUT, FORM, format!("logout_token={}", logout_token(&ports, &json!({}))), 200),
        (EVENTS, SET, event(&ports, &json!({})), 202),
    ] {
        let seen = post(&gateway, &ports, path, content_type, &body);
        let answer = answer(&seen);
        assert_eq!((answer.status, answer.body.as_str()), (status, ""));
        assert_eq!(header(answer, "cache-control"), Some("no-store"));
        assert_eq!(header(answer, "content-type"), None);
    }
    let refusal = |path: &str, content_type: &str, body: &str| {
        let seen = post(&gateway, &ports, path, content_type, body);
        let answer = answer(&seen);
        assert_eq!(answer.status, 400);
        assert_eq!(header(answer, "cache-control"), Some("no-store"));
        assert_eq!(header(answer, "content-type"), Some("application/json"));
        assert_eq!(header(answer, "content-language"), Some("en"));
        let document: Value = serde_json::from_str(&answer.body).unwrap();
        assert!(document["request_id"].is_string());
        document
    };
    let refused = refusal(LOGOUT, FORM, &format!("logout_token={}", logout_token(&ports, &json!({ "jti": null }))));
    assert_eq!(refused["error"], "invalid_request");
    assert_eq!(refused["error_description"], "The claim jti is missing");
    assert_eq!(refused["code"], "event_id_missing");
    for (body, expected) in [
        (event(&ports, &json!({ "aud": "x" })), "invalid_audience"),
        (event(&ports, &json!({ "iss": "x" })), "invalid_issuer"),
        (Signer::new(8).sign("secevent+jwt", &event_claims(&ports)), "invalid_key"),
        (event(&ports, &json!({ "jti": null })), "invalid_request"),
        ("no token".to_owned(), "invalid_request"),
    ] {
        let refused = refusal(EVENTS, SET, &body);
        assert_eq!(refused["err"], expected);
        assert!(refused["description"].is_string());
    }
}

#[test]
fn an_event_that_cannot_be_recorded_or_checked_is_503_and_may_be_repeated() {
    let (gateway, ports) = (gateway(), ports());
    let tokens = tokens(&ports);
    let token = logout_token(&ports, &json!({}));
    let issuer = ports.issuer.replace(Issuer::Fails(Fault::TimedOut));
    let seen = post(&gateway, &ports, LOGOUT, FORM, &format!("logout_token={token}"));
    assert_eq!(verdict(&seen), (503, "keys_unavailable"));
    assert!(header(answer(&seen), "retry-after").is_some());
    *ports.issuer.borrow_mut() = issuer;
    ports.advance(60_000);
    ports.log.borrow_mut().fault = Some(Fault::TimedOut);
    let seen = post(&gateway, &ports, LOGOUT, FORM, &format!("logout_token={token}"));
    assert_eq!(verdict(&seen), (503, "revocation_unavailable"));
    let audit: Value = serde_json::from_str(&seen.record.audit_event().unwrap()).unwrap();
    assert_eq!((&audit["event_type"], &audit["result"]), (&json!("gateway.logout"), &json!("failed")));
    ports.log.borrow_mut().fault = None;
    assert_eq!(logout(&gateway, &ports, &token), OK);
    expect_revoked(&gateway, &ports, &tokens, &["first", "without a session"], "repeated");
}

#[test]
fn a_transmitter_shows_the_secret_that_was_agreed() {
    let ports = ports();
    let claims = with(
        event_claims(&ports),
        &json!({
            "iss": "https://signals.example/", "aud": "edge",
            "sub_id": { "format": "iss_sub", "iss": "https://other.example", "sub": "ada" },
        }),
    );
    *ports.body.borrow_mut() = Signer::new(8).sign("secevent+jwt", &claims).into_bytes();
    let send = |gateway: &Gateway, authorization: Option<&str>| {
        let mut headers = vec![("content-type", SET)];
        headers.extend(authorization.map(|value| ("authorization", value)));
        let seen = ports.send(gateway, "POST", "/_gateway/events/other", &headers);
        let body = &answer(&seen).body;
        assert!(!body.contains("secret") && !body.contains("EVENTS"), "{body}");
        verdict(&seen)
    };
    for refused in [
        None,
        Some(""),
        Some("Bearer another secret"),
        Some("bearer the transmitter's secret"),
        Some("Bearer the transmitter's secret, x"),
    ] {
        assert_eq!(send(&gateway(), refused), (400, "event_sender_unknown"), "{refused:?}");
    }
    assert_eq!(send(&gateway(), Some(SECRET)), ACCEPTED);
    // Without the secret, or with a short one, nothing is accepted, and operators learn why.
    for (value, fault) in [(None, "is not set"), (Some("short"), "is shorter than 16 characters")] {
        let lookup = |name: &str| if name.starts_with("EVENTS_") { value.map(str::to_owned) } else { setting(name) };
        let gateway = configured(POLICY, lookup).unwrap();
        assert_eq!(send(&gateway, Some(SECRET)), (503, "gateway_misconfigured"));
        assert_eq!(send(&gateway, value), (503, "gateway_misconfigured"));
        let ready = ports.send_as_operator(&gateway, "/ready");
        let missing = &answer(&ready).body;
        assert!(missing.contains("EVENTS_AUTHORIZATION_OTHER") && missing.contains(fault), "{missing}");
        let status: Value = serde_json::from_str(&answer(&ports.send_as_operator(&gateway, "/status")).body).unwrap();
        assert_eq!(status["issuers"][1]["status"], "degraded");
    }
}

#[test]
fn a_revoked_key_signs_no_logout_token() {
    let (gateway, ports) = (gateway(), ports());
    let service =
        json!({ "iss": "https://other.example", "aud": "portcullis", "sub": "accounts", "token_type": "service" });
    let pusher = Signer::new(8).sign("service+jwt", &with(claims_at(now(&ports)), &service));
    let claims = with(logout_claims(&ports), &json!({ "iss": "https://other.example" }));
    let body = format!("logout_token={}", Signer::new(8).sign("logout+jwt", &claims));
    let send = || verdict(&post(&gateway, &ports, "/_gateway/logout/other", FORM, &body));
    assert_eq!(send(), OK);
    *ports.body.borrow_mut() = br#"{"revocations":[{"key":"8"}]}"#.to_vec();
    assert_eq!(verdict(&ports.send_token(&gateway, "POST", "/_gateway/revocations", &pusher)), OK);
    assert_eq!(send(), (400, "token_key_unknown"));
}

#[test]
fn refused_tokens_count_as_guesses_and_malformed_requests_do_not() {
    let ports = ports();
    let guesses = |body: &str| {
        ports.limit.set(0);
        // Without metrics, whose flush takes longer than an address is refused.
        let gateway = gateway_of(POLICY);
        (0..2).map(|_| verdict(&post(&gateway, &ports, LOGOUT, FORM, body)).0).last().unwrap()
    };
    let by_stranger = Signer::new(9).sign("logout+jwt", &logout_claims(&ports));
    assert_eq!(guesses(&format!("logout_token={by_stranger}")), 429);
    assert_eq!(guesses("a=b"), 400);
    assert_eq!(guesses(&format!("logout_token={}", logout_token(&ports, &json!({ "jti": null })))), 400);
    assert_eq!(guesses(&format!("logout_token={}", logout_token(&ports, &json!({ "iat": 1, "exp": 2 })))), 400);
}

#[test]
fn status_metrics_log_and_audit_know_events() {
    let (gateway, ports) = (gateway(), ports());
    let seen = post(&gateway, &ports, LOGOUT, FORM, &format!("logout_token={}", logout_token(&ports, &json!({}))));
    assert!(seen.is_logged);
    let audit: Value = serde_json::from_str(&seen.record.audit_event().unwrap()).unwrap();
    assert_eq!(audit["event_type"], "gateway.logout");
    assert_eq!(audit["result"], "success");
    assert_eq!(audit["detail"], "session_revoked");
    assert_eq!(audit["entity_id"], LOGOUT);
    assert!(!seen.record.to_json().contains("ada") && !seen.record.to_json().contains("s1"));
    let refused = post(&gateway, &ports, EVENTS, SET, &event(&ports, &json!({ "jti": null })));
    let audit: Value = serde_json::from_str(&refused.record.audit_event().unwrap()).unwrap();
    assert_eq!(audit["event_type"], "gateway.security_event");
    assert_eq!((&audit["result"], &audit["detail"]), (&json!("denied"), &json!("event_id_missing")));
    ports.advance(5000);
    ports.run_tasks(&gateway);
    let token = [("authorization", "Bearer a-token-of-the-operator")];
    let page = ports.send(&gateway, "GET", "/metrics", &token);
    for series in [
        r#"gateway_security_events_total{issuer="id",form="logout",result="session_revoked"} 1"#,
        r#"gateway_security_events_total{issuer="id",form="security_event",result="event_id_missing"} 1"#,
    ] {
        assert!(answer(&page).body.contains(series), "{}", answer(&page).body);
    }
    let status: Value = serde_json::from_str(&answer(&ports.send(&gateway, "GET", "/status", &token)).body).unwrap();
    assert!(status["issuers"][0]["last_logout_s_ago"].as_u64().unwrap() >= 5);
    assert!(status["issuers"][0]["last_event_s_ago"].is_null());
    assert!(status["issuers"][2].get("last_logout_s_ago").is_none());
}

#[test]
fn without_the_options_nothing_is_received() {
    let policy = POLICY.replace("logout = { audience = [\"web\", \"app\"] }\n", "");
    let policy = policy.replace("events = { audience = [\"https://edge.example\"] }", "revocable = true");
    let (gateway, ports) = (gateway_of(&policy), ports());
    assert_eq!(logout(&gateway, &ports, &logout_token(&ports, &json!({}))), (404, "route_unknown"));
    assert_eq!(notify(&gateway, &ports, &event(&ports, &json!({}))), (404, "route_unknown"));
}
