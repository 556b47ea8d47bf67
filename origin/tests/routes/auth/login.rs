//! `POST /api/v1/auth/login`: the issued access token, and the delay after wrong passwords.

use portcullis_origin::{
    limits,
    store::{Database, LoginFailures, Schema},
};
use reqwest::Method;
use serde_json::json;

use crate::support::{App, BOTH, PASSWORD, Reply, Service, claims};

const LOGIN: &str = "/api/v1/auth/login";

const ADA: &str = "ada@example.com";

const WRONG: &str = "not her password";

/// Logs in from a network address, or from an unknown one.
async fn login(app: &App, email: &str, password: &str, address: Option<&str>) -> Reply {
    let body = json!({ "email": email, "password": password });
    let mut request = app.forwarded(Service::Auth, Method::POST, LOGIN, None, Some(body));
    if let Some(address) = address {
        request = request.header("x-forwarded-for", address);
    }
    app.send_raw(request).await
}

/// Returns the status and `Retry-After`.
async fn guess(app: &App, email: &str, address: Option<&str>) -> (u16, Option<u64>) {
    let reply = login(app, email, WRONG, address).await;
    let retry_after = reply.headers.get("retry-after").map(|value| value.to_str().unwrap().parse().unwrap());
    (reply.status, retry_after)
}

/// Sends as many wrong passwords as are free of a delay. The clock stands still, because a busy machine
/// must not wait a delay out.
async fn start() -> App {
    let app = App::start().await;
    app.clock.stop();
    app
}

async fn guess_freely(app: &App, email: &str, address: Option<&str>) {
    for _ in 0..limits::FAILURES_FREE {
        assert_eq!(guess(app, email, address).await, (401, None));
    }
}

/// Guesses from so many networks that the account's unknown networks are delayed.
async fn guess_from_many_networks(app: &App, email: &str) {
    for index in 0..limits::FAILURES_FREE_OF_ALL / limits::FAILURES_FREE {
        guess_freely(app, email, Some(&format!("198.51.100.{index}"))).await;
    }
}

#[tokio::test]
async fn a_stranger_in_one_network_does_not_delay_an_owner_in_another() {
    let app = start().await;
    app.register(ADA).await;
    let stranger = Some("2001:db8:1:3:aaaa::1");
    guess_freely(&app, ADA, stranger).await;
    for _ in 0..limits::FAILURES_FREE_OF_ALL {
        assert_eq!(guess(&app, ADA, stranger).await.0, 429);
        app.clock.pass(limits::FAILURE_DELAY_MAX_MS);
        assert_eq!(guess(&app, ADA, Some("2001:db8:1:3:bbbb::1")).await.0, 401, "the same network");
    }
    assert_eq!(guess(&app, ADA, stranger).await.0, 429);
    assert_eq!(login(&app, ADA, PASSWORD, None).await.status, 200, "an unknown address is a network of its own");
    assert_eq!(login(&app, ADA, PASSWORD, Some("2001:db8:1:4:aaaa::1")).await.status, 200);
}

#[tokio::test]
async fn guesses_from_ten_networks_are_delayed_together_with_and_without_an_account() {
    let app = start().await;
    app.register(ADA).await;
    for email in [ADA, "nobody@example.com"] {
        guess_from_many_networks(&app, email).await;
        for (index, seconds) in (11..).zip([1, 2, 4]) {
            let network = format!("198.51.100.{index}");
            assert_eq!(guess(&app, email, Some(&network)).await, (429, Some(seconds)), "{email}");
            app.clock.pass(i64::try_from(seconds).unwrap() * 1000);
            assert_eq!(guess(&app, email, Some(&network)).await, (401, None), "{email} after {seconds} s");
        }
        app.clock.pass(limits::FAILURES_KEPT_MS);
        assert_eq!(guess(&app, email, Some("198.51.100.11")).await, (401, None), "{email}");
    }
}

#[tokio::test]
async fn an_invalid_body_does_not_count_as_a_wrong_password() {
    let app = start().await;
    app.register(ADA).await;
    for body in [
        json!({}),
        json!({ "email": ADA }),
        json!({ "password": WRONG }),
        json!({ "email": ADA, "password": null }),
        json!({ "email": ADA, "password": 7 }),
        json!([]),
        json!("x"),
    ] {
        for _ in 0..limits::FAILURES_FREE {
            let reply = app.post(LOGIN, body.clone()).await;
            assert!([400, 422].contains(&reply.status), "{body}: {}", reply.text);
        }
    }
    guess_freely(&app, ADA, None).await;
    assert_eq!(guess(&app, ADA, None).await, (429, Some(1)));
}

#[tokio::test]
async fn each_wrong_password_after_the_fifth_doubles_the_delay_with_and_without_an_account() {
    let app = start().await;
    app.register(ADA).await;
    for email in [ADA, "nobody@example.com", "no address"] {
        guess_freely(&app, email, None).await;
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(guess(&app, email, None).await, (429, Some(seconds)), "{email} at once");
            app.clock.pass((i64::try_from(seconds).unwrap() - 1) * 1000);
            let (status, left) = guess(&app, email, None).await;
            assert!(status == 429 && left == Some(1), "{email} after {seconds} - 1 s: {status} {left:?}");
            app.clock.pass(1000);
            assert_eq!(guess(&app, email, None).await, (401, None), "{email} after {seconds} s");
        }
    }
}

#[tokio::test]
async fn during_the_delay_the_right_password_is_429_as_well() {
    let app = start().await;
    app.register(ADA).await;
    guess_freely(&app, ADA, None).await;
    let reply = login(&app, " ADA@example.com", PASSWORD, None).await;
    let document = reply.json();
    assert_eq!(
        (reply.status, document["type"].as_str(), reply.code().as_str()),
        (429, Some("rate_limited"), "login_delayed")
    );
    assert_eq!(reply.headers["content-type"], "application/problem+json");
    app.clock.pass(1000);
    assert_eq!(login(&app, ADA, PASSWORD, None).await.status, 200);
    guess_freely(&app, ADA, None).await;
}

#[tokio::test]
async fn a_success_or_fifteen_minutes_reset_the_failures() {
    let app = start().await;
    app.register(ADA).await;
    for _ in 0..limits::FAILURES_FREE - 1 {
        assert_eq!(guess(&app, ADA, None).await.0, 401);
    }
    assert_eq!(login(&app, ADA, PASSWORD, None).await.status, 200);
    guess_freely(&app, ADA, None).await;
    app.clock.pass(limits::FAILURE_DELAY_MS);
    assert_eq!(guess(&app, ADA, None).await, (401, None));
    app.clock.pass(limits::FAILURES_KEPT_MS);
    guess_freely(&app, ADA, None).await;
    assert_eq!(guess(&app, ADA, None).await, (429, Some(1)));
}

#[tokio::test]
async fn failures_from_elsewhere_do_not_delay_an_owner_at_a_known_address() {
    let app = start().await;
    app.register(ADA).await;
    let (home, ipv6) = ("192.0.2.1", "2001:db8:1:2:aaaa::1");
    for address in [home, ipv6] {
        assert_eq!(login(&app, ADA, PASSWORD, Some(address)).await.status, 200);
    }
    guess_from_many_networks(&app, ADA).await;
    // Other addresses in untrusted headers do not help.
    for stranger in ["203.0.113.10", "192.0.2.1, 203.0.113.9", "2001:db8:1:3:aaaa::1"] {
        assert_eq!(login(&app, ADA, PASSWORD, Some(stranger)).await.status, 429, "{stranger}");
    }
    assert_eq!(login(&app, ADA, PASSWORD, None).await.status, 429, "no address is a stranger's");
    for owner in [home, "10.0.0.1, 192.0.2.1", "::ffff:192.0.2.1", ipv6, "2001:db8:1:2:bbbb::2"] {
        assert_eq!(login(&app, ADA, PASSWORD, Some(owner)).await.status, 200, "{owner}");
    }
    assert_eq!(guess(&app, ADA, Some("203.0.113.9")).await.0, 429, "the owner's success ends no stranger's row");
    // Failures at one known address do not affect the others.
    guess_freely(&app, ADA, Some(home)).await;
    assert_eq!(login(&app, ADA, PASSWORD, Some(home)).await.status, 429);
    assert_eq!(login(&app, ADA, PASSWORD, Some(ipv6)).await.status, 200);
}

#[tokio::test]
async fn an_account_knows_up_to_twenty_addresses_for_ninety_days() {
    let app = start().await;
    app.register(ADA).await;
    app.register("eve@example.com").await;
    assert_eq!(login(&app, "eve@example.com", PASSWORD, Some("203.0.113.9")).await.status, 200);
    let address = |index: i64| format!("192.0.2.{index}");
    for index in 0..=limits::KNOWN_ADDRESSES {
        assert_eq!(login(&app, ADA, PASSWORD, Some(&address(index))).await.status, 200);
        app.clock.pass(1000);
    }
    guess_from_many_networks(&app, ADA).await;
    assert_eq!(login(&app, ADA, PASSWORD, Some("203.0.113.9")).await.status, 429, "Eve's address is not Ada's");
    assert_eq!(login(&app, ADA, PASSWORD, Some(&address(0))).await.status, 429, "the oldest is forgotten");
    assert_eq!(login(&app, ADA, PASSWORD, Some(&address(1))).await.status, 200);
    app.clock.pass(limits::KNOWN_ADDRESS_MS - 1000);
    guess_from_many_networks(&app, ADA).await;
    assert_eq!(login(&app, ADA, PASSWORD, Some(&address(2))).await.status, 429, "not used for so long");
    assert_eq!(login(&app, ADA, PASSWORD, Some(&address(1))).await.status, 200, "used since");
}

#[tokio::test]
async fn concurrent_guesses_are_delayed_like_sequential_ones() {
    let app = start().await;
    app.register(ADA).await;
    for email in [ADA, "nobody@example.com"] {
        let guesses = (0..50).map(|_| {
            let request = app.forwarded(
                Service::Auth,
                Method::POST,
                LOGIN,
                None,
                Some(json!({ "email": email, "password": WRONG })),
            );
            tokio::spawn(async move { request.send().await.unwrap().status().as_u16() })
        });
        let (mut hashed, mut delayed) = (0, 0);
        for guess in guesses.collect::<Vec<_>>() {
            match guess.await.unwrap() {
                401 => hashed += 1,
                429 => delayed += 1,
                // Not hashed in time, on a machine that is busy with other tests.
                503 => {}
                other => panic!("{other}"),
            }
        }
        // As many as are hashed at once may share the last free attempt.
        let most = limits::FAILURES_FREE + i64::try_from(limits::HASHES).unwrap();
        assert!(hashed <= most && delayed >= 50 - 2 * most, "{hashed} hashed, {delayed} told to wait");
    }
}

#[tokio::test]
async fn a_delayed_login_is_neither_hashed_nor_counted() {
    let app = start().await;
    app.register(ADA).await;
    guess_freely(&app, ADA, None).await;
    // A delay that is longer than this test.
    for _ in 0..6 {
        app.clock.pass(limits::FAILURE_DELAY_MAX_MS);
        assert_eq!(guess(&app, ADA, None).await.0, 401);
    }
    // If they were hashed, two at a time, most would time out with 503.
    let guesses = (0..400).map(|_| {
        let body = json!({ "email": ADA, "password": WRONG });
        let request = app.forwarded(Service::Auth, Method::POST, LOGIN, None, Some(body));
        tokio::spawn(async move { request.send().await.unwrap().status().as_u16() })
    });
    for guess in guesses.collect::<Vec<_>>() {
        assert_eq!(guess.await.unwrap(), 429);
    }
    app.clock.pass(limits::FAILURE_DELAY_MAX_MS);
    assert_eq!(login(&app, ADA, PASSWORD, None).await.status, 200, "the last one that was hashed counts, none since");
}

#[tokio::test]
async fn failures_are_stored_as_hashes_and_swept() {
    let mut app = App::start().await;
    app.register(ADA).await;
    assert_eq!(login(&app, ADA, PASSWORD, Some("192.0.2.77")).await.status, 200);
    assert_eq!(guess(&app, "stranger@example.com", Some("192.0.2.78")).await.0, 401);
    let both = BOTH;
    app.restart(both).await;
    // The audit log has addresses, and is for administrators.
    let pool = app.databases.open(Service::Auth).await;
    sqlx::query("DELETE FROM audit").execute(&pool).await.unwrap();
    if app.databases.is_sqlite() {
        for text in ["VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"] {
            sqlx::query(text).execute(&pool).await.unwrap();
        }
    }
    pool.close().await;
    let text = app.databases.dump().await;
    assert!(text.contains(ADA), "databases were looked at");
    for private in ["192.0.2.77", "192.0.2.78", "stranger@example.com", WRONG] {
        assert!(!text.contains(private), "{private}");
    }
    app.clock.pass(limits::KNOWN_ADDRESS_MS);
    let database = Database::open(&app.databases.url(Service::Auth), Schema::Auth).await.unwrap();
    let guesses = LoginFailures(database.clone());
    while guesses.sweep(app.clock.now(), 1).await.unwrap() > 0 {}
    database.close().await;
    let pool = app.databases.open(Service::Auth).await;
    for text in ["SELECT count(*) FROM login_failures", "SELECT count(*) FROM known_addresses"] {
        let left: i64 = sqlx::query_scalar(text).fetch_one(&pool).await.unwrap();
        assert_eq!(left, 0, "{text}");
    }
    pool.close().await;
}

#[tokio::test]
async fn concurrent_correct_logins_are_not_delayed() {
    let app = start().await;
    app.register(ADA).await;
    let logins = (0..12).map(|_| {
        let body = json!({ "email": ADA, "password": PASSWORD });
        let request = app.forwarded(Service::Auth, Method::POST, LOGIN, None, Some(body));
        tokio::spawn(async move { request.send().await.unwrap().status().as_u16() })
    });
    for login in logins.collect::<Vec<_>>() {
        let status = login.await.unwrap();
        // Not hashed in time, on a machine that is busy with other tests.
        assert!(status == 200 || status == 503, "{status}");
    }
}

#[tokio::test]
async fn an_access_token_has_the_claims_of_the_contract() {
    let app = App::start().await;
    let person = app.person("ada@example.com").await;
    let claims = claims(&person.access);
    assert_eq!(claims["iss"], "auth-service");
    assert_eq!(claims["aud"], json!(["api"]));
    assert_eq!(claims["sub"], person.id.as_str());
    assert_eq!(claims["user_id"], claims["sub"]);
    assert_eq!(claims["email"], "ada@example.com");
    assert_eq!(claims["email_verified"], false);
    assert_eq!(claims["roles"], json!(["user"]));
    assert_eq!(claims["token_type"], "access");
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 15 * 60);
    assert_eq!(claims["nbf"], claims["iat"]);
    for name in ["jti", "sid"] {
        assert!(uuid::Uuid::parse_str(claims[name].as_str().unwrap()).is_ok(), "{name}");
    }
}
