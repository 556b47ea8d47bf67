//! Rate limits: which requests share a counter, when they are counted, and the answer beyond the limit.

use futures_executor::block_on;
use portcullis::pipeline::{BackgroundTask, Gateway, Head, limits};
use portcullis_token::UnixMillis;
use serde_json::json;

use crate::{
    fakes::{FakePorts, answer, configured, header, setting, setup, verdict},
    signer::{Signer, claims_at, with},
};

/// Milliseconds by which a clock is ahead for a moment.
const DAYS_MS: u64 = 3 * 24 * 60 * 60 * 1000;

const POLICY: &str = r#"
[issuers.id]
issuer = "https://id.example"
audience = ["api"]
algorithms = ["EdDSA"]
jwks_url = "https://id.example/jwks"

[limits.address]
by = "ip"
retry_after_s = 10

[limits.person]
by = "user"

[limits.all]
by = "route"

[limits.guesses]
by = "failed_ip"

[upstreams.app]
url = "https://app.example"

[[routes]]
path = "/address"
methods = ["GET"]
upstream = "app"
access = "public"
limits = ["address"]

[[routes]]
path = "/person"
methods = ["GET"]
upstream = "app"
access = "user"
limits = ["person"]

[[routes]]
path = "/all"
methods = ["GET"]
upstream = "app"
access = "public"
limits = ["all"]

[[routes]]
path = "/member"
methods = ["GET"]
upstream = "app"
access = "user"
limits = ["all"]

[[routes]]
path = "/free"
methods = ["GET"]
upstream = "app"
access = "user"
"#;

const LIMITED: (u16, &str) = (429, "rate_limited");
const OK: (u16, &str) = (200, "ok");

fn limited() -> (Gateway, FakePorts) {
    let (gateway, ports) = setup(POLICY);
    ports.publish(&[&Signer::new(7)]);
    ports.limit.set(3);
    (gateway, ports)
}

fn bearer(ports: &FakePorts, user: &str) -> String {
    let now = ports.now.get().secs();
    let claims = with(claims_at(now), &json!({ "sub": user }));
    format!("Bearer {}", Signer::new(7).sign("at+jwt", &claims))
}

#[test]
fn each_limit_has_its_own_counter() {
    let (gateway, ports) = limited();
    let (ada, eve) = (bearer(&ports, "ada"), bearer(&ports, "eve"));
    // path, address, authorization, how many of five pass
    for (path, address, token, passes) in [
        ("/address", "192.0.2.1", None, 3),
        ("/address", "192.0.2.2", None, 3),
        ("/address", "192.0.2.1", None, 0),
        ("/person", "192.0.2.1", Some(&ada), 3),
        ("/person", "192.0.2.9", Some(&ada), 0),
        ("/person", "192.0.2.1", Some(&eve), 3),
        ("/all", "192.0.2.1", None, 3),
        ("/all", "192.0.2.2", None, 0),
        ("/free", "192.0.2.1", Some(&ada), 5),
        ("/member", "192.0.2.7", None, 0),
        ("/member", "192.0.2.1", Some(&ada), 3),
        ("/address", "2001:db8:0:1::1", None, 3),
        ("/address", "2001:db8:0:1:ffff::2", None, 0),
        ("/address", "2001:db8:0:2::1", None, 3),
        ("/address", "::ffff:192.0.2.44", None, 3),
        ("/address", "192.0.2.44", None, 0),
    ] {
        let headers: Vec<(&str, &str)> = [("cf-connecting-ip", address)]
            .into_iter()
            .chain(token.map(|token| ("authorization", token.as_str())))
            .collect();
        let actual: Vec<_> = (0..5).map(|_| verdict(&ports.send(&gateway, "GET", path, &headers))).collect();
        let over = if path == "/member" && token.is_none() { (401, "credentials_missing") } else { LIMITED };
        let expected: Vec<_> = (0..5).map(|count| if count < passes { OK } else { over }).collect();
        assert_eq!(actual, expected, "{path} {address}");
    }
    let limited = ports.send(&gateway, "GET", "/address", &[("cf-connecting-ip", "192.0.2.1")]);
    assert_eq!(header(answer(&limited), "retry-after"), Some("10"));
}

#[test]
fn invalid_tokens_are_limited_and_valid_ones_of_the_same_address_are_not() {
    let (gateway, ports) = limited();
    let ada = bearer(&ports, "ada");
    let from = |token: &str| {
        verdict(&ports.send(&gateway, "GET", "/free", &[("cf-connecting-ip", "192.0.2.1"), ("authorization", token)]))
    };
    let actual: Vec<_> = (0..5).map(|count| from(&format!("Bearer a.b.{count}")).0).collect();
    // The first one beyond the limit is answered before it is counted.
    assert_eq!(actual, [401, 401, 401, 401, 429]);
    assert_eq!(from(&ada), OK);
    ports.advance(931 * 1000);
    assert_eq!(from(&ada), (401, "token_expired"), "the owner learns that it has expired");
    assert_eq!(
        verdict(&ports.send(&gateway, "GET", "/free", &[("cf-connecting-ip", "192.0.2.1")])).0,
        401,
        "a request without a token is not counted"
    );
}

/// Sends an invalid token, and returns the answer's status and how many counts it scheduled.
fn guess(gateway: &Gateway, ports: &FakePorts, address: &str) -> (u16, usize) {
    let before = ports.tasks.borrow().len();
    let headers = [("cf-connecting-ip", address), ("authorization", "Bearer a.b.c")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let head = Head::new("GET".to_owned(), "https://edge.example/free", headers);
    let status = block_on(gateway.handle(&head, ports)).record.unwrap().status;
    (status, ports.tasks.borrow().len() - before)
}

/// Runs the scheduled counts, and no flush of the metrics, which waits ten seconds.
fn count_failed_auth(gateway: &Gateway, ports: &FakePorts) {
    for task in ports.tasks.take() {
        if matches!(task, BackgroundTask::CountFailedAuth { .. }) {
            block_on(gateway.run(task, ports));
        }
    }
}

#[test]
fn one_count_is_under_way_for_an_address_and_its_result_is_kept_for_a_while() {
    let (gateway, ports) = limited();
    let send = |address| guess(&gateway, &ports, address);
    assert_eq!(send("192.0.2.1"), (401, 1));
    assert_eq!(send("192.0.2.1"), (401, 0), "it is being counted");
    assert_eq!(send("192.0.2.2"), (401, 1), "another address has another count");
    ports.advance(limits::COUNT_LOST_MS - 1);
    assert_eq!(send("192.0.2.1"), (401, 0));
    ports.advance(1);
    assert_eq!(send("192.0.2.1"), (401, 1), "the runtime may have ended the first count");
    count_failed_auth(&gateway, &ports);
    assert_eq!(send("192.0.2.1"), (401, 1), "within the limit, each is counted");
    ports.limit.set(0);
    count_failed_auth(&gateway, &ports);
    assert_eq!(send("192.0.2.1"), (429, 0));
    ports.advance(limits::OVER_MS - 1);
    assert_eq!(send("192.0.2.1"), (429, 0));
    ports.advance(1);
    assert_eq!(send("192.0.2.1"), (401, 1), "counted again");
    count_failed_auth(&gateway, &ports);
    assert_eq!(send("192.0.2.1"), (429, 0));
    ports.now.set(UnixMillis(ports.now.get().0 - DAYS_MS));
    assert_eq!(send("192.0.2.1"), (401, 1), "the clock was days ahead");
    ports.now.set(UnixMillis(ports.now.get().0 - DAYS_MS));
    assert_eq!(send("192.0.2.1"), (401, 1), "and lost the count meanwhile");
}

#[test]
fn a_flood_of_guesses_from_more_addresses_than_are_kept_leaves_none_uncounted() {
    for are_counts_lost in [false, true] {
        let (gateway, ports) = limited();
        ports.limit.set(0);
        let send = |number: usize| guess(&gateway, &ports, &format!("10.0.{}.{}", number / 256, number % 256));
        for number in 0..limits::FAILED_AUTH_ADDRESSES + 10 {
            assert_eq!(send(number), (401, 1), "{number}");
            if are_counts_lost {
                ports.tasks.take();
            } else {
                count_failed_auth(&gateway, &ports);
            }
        }
        let known = if are_counts_lost { (401, 0) } else { (429, 0) };
        assert_eq!([send(limits::FAILED_AUTH_ADDRESSES + 9), send(10)], [known, known]);
        assert_eq!(send(9), (401, 1), "the oldest was removed");
    }
}

#[test]
fn an_invalid_token_at_the_gateways_own_endpoints_is_counted() {
    let (_, ports) = limited();
    let jwks_url = "jwks_url = \"https://id.example/jwks\"";
    let policy = POLICY.replace(jwks_url, &format!("{jwks_url}\nrevocations_from = \"auth-service\""));
    let token = |name: &str| (name == "METRICS_TOKEN").then(|| "a-token-for-operators".to_owned());
    let gateway = configured(&policy, |name| token(name).or_else(|| setting(name))).unwrap();
    for (number, (method, path)) in
        [("POST", "/_gateway/revocations"), ("GET", "/metrics"), ("GET", "/status"), ("GET", "/ready")]
            .iter()
            .enumerate()
    {
        let address = format!("192.0.2.{}", number + 10);
        let actual: Vec<_> = (0..5)
            .map(|count| {
                let token = format!("Bearer a.b.{count}");
                let sent = [("cf-connecting-ip", address.as_str()), ("authorization", token.as_str())];
                let headers = sent.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
                let head = Head::new((*method).to_owned(), &format!("https://edge.example{path}"), headers);
                let handled = block_on(gateway.handle(&head, &ports)).into();
                count_failed_auth(&gateway, &ports);
                verdict(&handled).0
            })
            .collect();
        assert_eq!(actual, [401, 401, 401, 401, 429], "{method} {path}");
    }
}
