//! Rate limits: what is counted together, when, and what a client is told.

use futures_executor::block_on;
use portcullis::pipeline::{BackgroundTask, Gateway, Head};
use serde_json::json;

use crate::{
    fakes::{Issuer, Vectors, World, answer, header, setting, verdict},
    signer::{Signer, jwks},
};

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

fn setup() -> (Gateway, World) {
    let policy = portcullis_policy::check(POLICY).unwrap();
    let gate = Gateway::new(&serde_json::to_string(&policy).unwrap(), setting).unwrap();
    let world = World::new(&Vectors::load());
    *world.issuer.borrow_mut() = Issuer::Serves(jwks(&[&Signer::new(7)]));
    world.limit.set(3);
    (gate, world)
}

fn bearer(world: &World, user: &str) -> String {
    let now = world.now.get().secs();
    let claims = json!({ "iss": "https://id.example", "aud": "api", "sub": user, "iat": now, "exp": now + 900 });
    format!("Bearer {}", Signer::new(7).sign("at+jwt", &claims))
}

#[test]
fn each_limit_counts_its_own() {
    let (gate, world) = setup();
    let (ada, eve) = (bearer(&world, "ada"), bearer(&world, "eve"));
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
        let said: Vec<_> = (0..5).map(|_| verdict(&world.send(&gate, "GET", path, &headers))).collect();
        let over = if path == "/member" && token.is_none() { (401, "credentials_missing") } else { LIMITED };
        let expected: Vec<_> = (0..5).map(|count| if count < passes { OK } else { over }).collect();
        assert_eq!(said, expected, "{path} {address}");
    }
    let limited = world.send(&gate, "GET", "/address", &[("cf-connecting-ip", "192.0.2.1")]);
    assert_eq!(header(answer(&limited), "retry-after"), Some("10"));
}

#[test]
fn guesses_are_limited_and_good_tokens_of_the_same_address_are_not() {
    let (gate, world) = setup();
    let ada = bearer(&world, "ada");
    let from = |token: &str| {
        verdict(&world.send(&gate, "GET", "/free", &[("cf-connecting-ip", "192.0.2.1"), ("authorization", token)]))
    };
    let said: Vec<_> = (0..5).map(|count| from(&format!("Bearer a.b.{count}")).0).collect();
    // The one beyond the limit is answered before it is counted.
    assert_eq!(said, [401, 401, 401, 401, 429]);
    assert_eq!(from(&ada), OK);
    world.pass(931 * 1000);
    assert_eq!(from(&ada), (401, "token_expired"), "its owner must learn that it is over");
    assert_eq!(
        verdict(&world.send(&gate, "GET", "/free", &[("cf-connecting-ip", "192.0.2.1")])).0,
        401,
        "no token is no guess"
    );
}

#[test]
fn a_guess_at_the_gateways_own_endpoints_counts_like_any_other() {
    let (_, world) = setup();
    let jwks_url = "jwks_url = \"https://id.example/jwks\"";
    let policy = POLICY.replace(jwks_url, &format!("{jwks_url}\nrevocations_from = \"auth-service\""));
    let policy = serde_json::to_string(&portcullis_policy::check(&policy).unwrap()).unwrap();
    let token = |name: &str| (name == "METRICS_TOKEN").then(|| "a-token-for-operators".to_owned());
    let gate = Gateway::new(&policy, |name| token(name).or_else(|| setting(name))).unwrap();
    for (number, (method, path)) in
        [("POST", "/_gateway/revocations"), ("GET", "/metrics"), ("GET", "/status"), ("GET", "/ready")]
            .iter()
            .enumerate()
    {
        let address = format!("192.0.2.{}", number + 10);
        let said: Vec<_> = (0..5)
            .map(|count| {
                let token = format!("Bearer a.b.{count}");
                let sent = [("cf-connecting-ip", address.as_str()), ("authorization", token.as_str())];
                let headers = sent.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
                let head = Head::new((*method).to_owned(), &format!("https://edge.example{path}"), headers);
                let handled = block_on(gate.handle(&head, &world));
                // Not the flush of the metrics, which waits ten seconds.
                if world.tasks.take().contains(&BackgroundTask::CountFailedAuth) {
                    block_on(gate.run(BackgroundTask::CountFailedAuth, &world));
                }
                verdict(&handled).0
            })
            .collect();
        assert_eq!(said, [401, 401, 401, 401, 429], "{method} {path}");
    }
}
