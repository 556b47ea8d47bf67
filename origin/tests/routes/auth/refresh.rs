//! `POST /api/v1/auth/refresh`: rotation of refresh tokens, and the lifetime of sessions.

use portcullis_origin::{boot, limits};
use reqwest::Method;
use serde_json::json;

use crate::support::{AUTH_ONLY, App, Person, Service, claims, settings};

pub(crate) const ME: &str = "/api/v1/auth/me";

pub(crate) async fn rotate(app: &App, token: &str) -> Result<String, String> {
    let reply = app.refresh(token).await;
    match reply.status {
        200 => Ok(reply.json()["refresh_token"].as_str().unwrap().to_owned()),
        401 => Err(reply.json()["detail"].as_str().unwrap().to_owned()),
        other => panic!("{other} {}", reply.text),
    }
}

#[tokio::test]
async fn the_reuse_of_a_refresh_token_ends_the_session() {
    let app = App::start().await;
    let person = app.person("ada@example.com").await;
    let bystander = app.log_in("ada@example.com").await;
    let second = rotate(&app, &person.refresh).await.unwrap();
    let third = rotate(&app, &second).await.unwrap();
    assert_ne!(second, third);
    app.clock.pass(limits::REFRESH_REUSE_S * 1000);
    assert_eq!(rotate(&app, &person.refresh).await, Err("Token has been revoked".to_owned()));
    assert!(rotate(&app, &third).await.is_err(), "the family is dead");
    assert_eq!(app.get(Service::Auth, ME, &person).await.status, 401, "with its access tokens");
    assert!(rotate(&app, &bystander.refresh).await.is_ok(), "another session of the account is not");
}

#[tokio::test]
async fn concurrent_refreshes_get_the_same_successor() {
    let app = App::start().await;
    for round in 0..10 {
        let person = app.person(&format!("ada{round}@example.com")).await;
        let (one, two) = tokio::join!(rotate(&app, &person.refresh), rotate(&app, &person.refresh));
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_eq!(one, two);
        assert!(rotate(&app, &one).await.is_ok(), "and keep the session");
    }
}

#[tokio::test]
async fn concurrent_refreshes_at_two_processes_get_the_same_successor() {
    let app = App::start().await;
    let other = settings(&app.databases, 0, 0, [1; 32], "http://127.0.0.1:9");
    let other = boot::start(&other, AUTH_ONLY, app.clock.clone()).await.unwrap();
    let target = "/api/v1/auth/refresh";
    let urls = [app.url(Service::Auth, target), format!("http://{}{target}", other.auth.unwrap())];
    // SQLite has one writer at a time, and a request waits for it only a few seconds.
    let counts: &[usize] = if app.databases.is_sqlite() { &[64] } else { &[64, 500] };
    for count in counts {
        let person = app.person(&format!("ada{count}@example.com")).await;
        let refreshes = urls.iter().cycle().take(*count).map(|url| {
            let request = app
                .http
                .post(url)
                .header("x-gateway-assertion", app.assertion(Service::Auth, &Method::POST, target, None))
                .header("content-type", "application/json")
                .body(json!({ "refresh_token": person.refresh }).to_string());
            tokio::spawn(async move {
                loop {
                    let answer = request.try_clone().unwrap().send().await.unwrap();
                    let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
                    // A busy machine may be late, which does not end the session.
                    if status != 503 {
                        return (status, text);
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            })
        });
        // On a machine that is busy with other tests, concurrent requests take a while.
        let clock = app.clock.clone();
        let standing_still = tokio::spawn(async move {
            let instant = clock.now();
            loop {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                clock.pass(instant - clock.now());
            }
        });
        let mut successors = std::collections::BTreeSet::new();
        for refresh in refreshes.collect::<Vec<_>>() {
            let (status, text) = refresh.await.unwrap();
            let body: serde_json::Value = serde_json::from_str(&text).unwrap();
            let _ = match status {
                200 => successors.insert(body["refresh_token"].as_str().unwrap().to_owned()),
                _ => panic!("{status} {text}"),
            };
        }
        standing_still.abort();
        assert_eq!(successors.len(), 1, "{count}");
        assert!(rotate(&app, successors.first().unwrap()).await.is_ok(), "the family lives");
    }
    other.stop().await;
}

#[tokio::test]
async fn a_repeated_refresh_gets_the_same_successor_for_ten_seconds() {
    let app = App::start().await;
    app.clock.stop();
    for (wait_ms, lives) in [(0, true), (9_999, true), (10_000, false), (3_600_000, false)] {
        let person = app.person(&format!("ada{wait_ms}@example.com")).await;
        let lost = rotate(&app, &person.refresh).await.unwrap();
        app.clock.pass(wait_ms);
        let again = rotate(&app, &person.refresh).await;
        let expected = if lives { Ok(lost.clone()) } else { Err("Token has been revoked".to_owned()) };
        assert_eq!(again, expected, "after {wait_ms} ms");
        assert_eq!(rotate(&app, &lost).await.is_ok(), lives, "the family after {wait_ms} ms");
    }
}

#[tokio::test]
async fn a_token_that_an_older_version_spent_is_rejected_and_ends_the_session_only_later() {
    let app = App::start().await;
    app.clock.stop();
    let pool = app.databases.open(Service::Auth).await;
    for (wait_ms, lives) in [(0, true), (9_999, true), (10_000, false), (3_600_000, false)] {
        let person = app.person(&format!("ada{wait_ms}@example.com")).await;
        let second = rotate(&app, &person.refresh).await.unwrap();
        // Older versions store no successor.
        sqlx::query("UPDATE refresh_tokens SET successor = NULL").execute(&pool).await.unwrap();
        app.clock.pass(wait_ms);
        let detail = if lives { "Invalid token" } else { "Token has been revoked" };
        assert_eq!(rotate(&app, &person.refresh).await, Err(detail.to_owned()), "after {wait_ms} ms");
        let third = rotate(&app, &second).await;
        assert_eq!(third.is_ok(), lives, "the family after {wait_ms} ms");
        app.clock.pass(limits::REFRESH_REUSE_S * 1000);
        assert!(rotate(&app, &person.refresh).await.is_err(), "later");
        if let Ok(third) = third {
            assert!(rotate(&app, &third).await.is_err(), "a later reuse ends the family");
        }
    }
    pool.close().await;
}

#[tokio::test]
async fn no_token_is_issued_far_ahead_after_a_revocation_with_a_wrong_clock() {
    const DAY_S: i64 = 24 * 60 * 60;
    let app = App::start().await;
    app.clock.stop();
    let pool = app.databases.open(Service::Auth).await;
    let bound = limits::REVOKED_AHEAD_S + limits::CLOCKS_APART_S;
    for (ahead_s, expected) in [(0, 200), (bound, 200), (bound + 1, 503), (3 * DAY_S, 503)] {
        let email = format!("ada{ahead_s}@example.com");
        let person = app.person(&email).await;
        sqlx::query("UPDATE accounts SET revoked_until = $1 WHERE id = $2")
            .bind(app.clock.now() / 1000 + ahead_s)
            .bind(&person.id)
            .execute(&pool)
            .await
            .unwrap();
        for reply in [app.login(&email).await, app.refresh(&person.refresh).await] {
            assert_eq!(reply.status, expected, "{ahead_s} s ahead: {}", reply.text);
            if expected == 503 {
                assert_eq!(reply.code(), "clock_behind", "{ahead_s} s ahead");
                assert!(reply.headers.contains_key("retry-after"), "{ahead_s} s ahead");
            }
        }
        if expected == 503 {
            app.clock.pass((ahead_s + 1) * 1000);
            assert_eq!(app.refresh(&person.refresh).await.status, 200, "the token was not spent: {ahead_s} s");
        }
    }
    pool.close().await;
}

#[tokio::test]
async fn a_repeated_refresh_gets_its_successor_even_if_that_is_spent() {
    let app = App::start().await;
    app.clock.stop();
    let person = app.person("ada@example.com").await;
    let second = rotate(&app, &person.refresh).await.unwrap();
    let third = rotate(&app, &second).await.unwrap();
    assert_eq!(rotate(&app, &person.refresh).await.as_ref(), Ok(&second), "two clients that are slow");
    assert_eq!(rotate(&app, &second).await.as_ref(), Ok(&third));
    let access = app.refresh(&person.refresh).await.json()["access_token"].as_str().unwrap().to_owned();
    let who = Person { session: claims(&access)["sid"].as_str().unwrap().to_owned(), access, ..person };
    assert_eq!(app.get(Service::Auth, ME, &who).await.status, 200, "with an access token of the same session");
}

#[tokio::test]
async fn a_successor_is_stored_encrypted_under_the_spent_token_and_deleted_soon() {
    let app = App::start().await;
    let person = app.person("ada@example.com").await;
    let second = rotate(&app, &person.refresh).await.unwrap();
    app.clock.pass(limits::REFRESH_REUSE_S * 1000);
    let third = rotate(&app, &second).await.unwrap();
    let stored = app.databases.dump().await;
    for token in [&person.refresh, &second, &third] {
        assert!(!stored.contains(token.as_str()), "no refresh token is in the database");
    }
    let pool = app.databases.open(Service::Auth).await;
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM refresh_tokens WHERE successor IS NOT NULL")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(kept, 1, "the last one; the first was forgotten");
    pool.close().await;
}

#[tokio::test]
async fn without_the_grace_period_any_second_use_ends_the_session() {
    let app = App::start_with("http://127.0.0.1:9", |mut settings| {
        settings.refresh_reuse_s = 0;
        settings
    })
    .await;
    app.clock.stop();
    // The second of two simultaneous uses may be presented before the first one spends the token.
    for waited_ms in [0, 1] {
        let person = app.person(&format!("ada{waited_ms}@example.com")).await;
        let second = rotate(&app, &person.refresh).await.unwrap();
        app.clock.pass(-waited_ms);
        let detail = "Token has been revoked".to_owned();
        assert_eq!(rotate(&app, &person.refresh).await, Err(detail), "{waited_ms} ms before");
        assert!(rotate(&app, &second).await.is_err(), "{waited_ms} ms before");
    }
}

#[tokio::test]
async fn a_clock_that_is_set_back_makes_no_repeat_of_a_reuse() {
    let app = App::start().await;
    app.clock.stop();
    let request_ms = i64::try_from(limits::REQUEST_TIME.as_millis()).unwrap();
    for (back_ms, lives) in [(request_ms - 1, true), (request_ms, false), (3_600_000, false)] {
        let person = app.person(&format!("ada{back_ms}@example.com")).await;
        let second = rotate(&app, &person.refresh).await.unwrap();
        app.clock.pass(-back_ms);
        assert_eq!(rotate(&app, &person.refresh).await.is_ok(), lives, "{back_ms} ms back");
        assert_eq!(rotate(&app, &second).await.is_ok(), lives, "the family, {back_ms} ms back");
    }
}

#[tokio::test]
async fn a_session_ends_at_its_longest_lifetime() {
    const DAY_MS: i64 = 24 * 60 * 60 * 1000;
    for (set, days) in [(None, 90), (Some(30), 30)] {
        let app = App::start_with("http://127.0.0.1:9", |mut settings| {
            settings.session_max_days = set.unwrap_or(settings.session_max_days);
            settings
        })
        .await;
        let person = app.person("ada@example.com").await;
        let mut token = person.refresh.clone();
        for _ in 0..days / 5 - 1 {
            app.clock.pass(5 * DAY_MS);
            token = rotate(&app, &token).await.unwrap();
        }
        assert_eq!(app.get(Service::Auth, ME, &person).await.status, 200);
        app.clock.pass(5 * DAY_MS);
        assert_eq!(rotate(&app, &token).await, Err("Invalid token".to_owned()), "after {days} days");
        assert_eq!(app.get(Service::Auth, ME, &person).await.status, 401);
        assert_eq!(app.login("ada@example.com").await.status, 200);
    }
}

#[tokio::test]
async fn a_refresh_token_is_valid_for_seven_days() {
    let app = App::start().await;
    let person = app.person("ada@example.com").await;
    app.clock.pass(limits::REFRESH_TOKEN_MS - 1000);
    let second = rotate(&app, &person.refresh).await.unwrap();
    app.clock.pass(limits::REFRESH_TOKEN_MS - 1000);
    let third = rotate(&app, &second).await.unwrap();
    app.clock.pass(limits::REFRESH_TOKEN_MS + 1000);
    assert_eq!(rotate(&app, &third).await, Err("Invalid token".to_owned()));
}

#[tokio::test]
async fn an_invalid_refresh_token_is_401() {
    let app = App::start().await;
    let person = app.person("ada@example.com").await;
    let shorter: String = person.refresh.chars().skip(1).collect();
    for text in ["", "x", person.access.as_str(), shorter.as_str(), &format!("{}=", person.refresh), &"A".repeat(43)] {
        let reply = app.refresh(text).await;
        assert_eq!((reply.status, reply.code().as_str()), (401, "token_invalid"), "{}", text.len());
    }
}
