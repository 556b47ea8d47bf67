//! The digest of a request's body (RFC 9530) in the assertion and in `Content-Digest`.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use portcullis::pipeline::{limits::WHOLE_BODY_BYTES, wire::Fault};
use portcullis_policy::check;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::fakes::{FakePorts, setup, verdict};

const POLICY: &str = r#"
[upstreams.app]
url = "https://app.example"
assertion = { content_digest = true }

[upstreams.plain]
url = "https://plain.example"

[[routes]]
path = "/app"
methods = ["GET", "POST"]
upstream = "app"
access = "public"

[[routes]]
path = "/small"
methods = ["POST"]
upstream = "app"
access = "public"
max_body_bytes = 10

[[routes]]
path = "/plain"
methods = ["GET", "POST"]
upstream = "plain"
access = "public"
"#;

fn digest_of(body: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(body)))
}

/// Returns the values of `Content-Digest`, in any spelling, and the claim of the last forwarded request.
fn seen(ports: &FakePorts) -> (Vec<String>, Option<String>) {
    let forwarded = ports.forwarded.borrow();
    let headers = &forwarded.last().unwrap().headers;
    let is_digest = |name: &str| name.replace(['_', '.'], "-").eq_ignore_ascii_case("content-digest");
    let sent = headers.iter().filter(|(name, _)| is_digest(name)).map(|(_, value)| value.clone()).collect();
    let (_, assertion) = headers.iter().find(|(name, _)| name == "x-gateway-assertion").unwrap();
    let claims = URL_SAFE_NO_PAD.decode(assertion.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    (sent, claims["content_digest"].as_str().map(str::to_owned))
}

#[test]
fn the_assertion_and_the_header_have_the_digest_of_the_forwarded_body() {
    let (gateway, ports) = setup(POLICY);
    let most = usize::try_from(WHOLE_BODY_BYTES).unwrap();
    for body in [b"hello".to_vec(), vec![0; most], b"{\"amount\": 1}\r\n".to_vec()] {
        let length = body.len().to_string();
        for framing in [("content-length", length.as_str()), ("transfer-encoding", "chunked")] {
            *ports.body.borrow_mut() = body.clone();
            // What the client says of its body does not pass, in any spelling.
            let forged = [("content-digest", "sha-256=:AAAA:"), ("content_digest", "forged"), framing];
            assert_eq!(verdict(&ports.send(&gateway, "POST", "/app", &forged)), (200, "ok"));
            assert_eq!(seen(&ports), (vec![digest_of(&body)], Some(digest_of(&body))));
        }
    }
    // Without a body, so that a service need not know which requests have one.
    ports.body.borrow_mut().clear();
    for (method, headers) in [("GET", vec![]), ("POST", vec![("content-length", "0")]), ("POST", vec![])] {
        assert_eq!(verdict(&ports.send(&gateway, method, "/app", &headers)), (200, "ok"));
        assert_eq!(seen(&ports), (vec![digest_of(b"")], Some(digest_of(b""))));
    }
}

#[test]
fn a_body_without_a_digest_is_not_forwarded() {
    let (gateway, ports) = setup(POLICY);
    let most = usize::try_from(WHOLE_BODY_BYTES).unwrap();
    let over = (most + 1).to_string();
    *ports.body.borrow_mut() = vec![0; most + 1];
    let chunked = ("transfer-encoding", "chunked");
    let both = [("content-length", "5"), chunked];
    for (path, headers) in [
        ("/app", vec![("content-length", over.as_str())]),
        ("/app", vec![chunked]),
        ("/app", both.to_vec()),
        ("/app", vec![]),
        ("/small", vec![chunked]),
        ("/small", vec![("content-length", "11")]),
    ] {
        assert_eq!(verdict(&ports.send(&gateway, "POST", path, &headers)), (413, "body_too_large"), "{headers:?}");
    }
    for (fault, expected) in [
        (Fault::BodySlow, (408, "body_too_slow")),
        (Fault::ClientGone, (400, "client_gone")),
        (Fault::TooLarge, (413, "body_too_large")),
    ] {
        ports.body.borrow_mut().truncate(5);
        ports.body_fault.set(Some(fault));
        assert_eq!(verdict(&ports.send(&gateway, "POST", "/app", &[("content-length", "5")])), expected);
    }
    assert!(ports.forwarded.borrow().is_empty());
    // None of them says anything about the service.
    ports.body_fault.set(None);
    assert_eq!(verdict(&ports.send(&gateway, "POST", "/app", &[("content-length", "5")])), (200, "ok"));
}

#[test]
fn without_the_option_digests_are_the_clients_own() {
    let (gateway, ports) = setup(POLICY);
    *ports.body.borrow_mut() = vec![0; 100_000];
    let headers = [("content-digest", "sha-256=:AAAA:"), ("content-length", "100000")];
    assert_eq!(verdict(&ports.send(&gateway, "POST", "/plain", &headers)), (200, "ok"));
    assert_eq!(seen(&ports), (vec!["sha-256=:AAAA:".to_owned()], None));
    for wrong in ["\"sha-256\"", "1", "[]"] {
        assert!(check(&POLICY.replace("content_digest = true", &format!("content_digest = {wrong}"))).is_err());
    }
}
