//! A gateway and services with different clocks, and a session of the client library through both:
//! within the tolerance nothing is rejected, and beyond it no session is lost.

use std::sync::{Arc, atomic::Ordering};

use portcullis_client::{
    AuthClient as _, AuthenticatedClient, HttpAuthClient, Secret,
    account::{Credentials, Registration},
    error::ErrorKind,
    http::BreakerPolicy,
    session::{MemoryStore, SessionStore as _},
};
use portcullis_origin::{
    clock::{Clock, ClockWatch},
    limits,
};
use time::{Duration, OffsetDateTime};

use crate::support::{App, PASSWORD, start_gateway};

fn credentials() -> Credentials {
    Credentials::new("ada@example.com", Secret::new(PASSWORD.to_owned()))
}

async fn client(app: &Arc<App>) -> Arc<HttpAuthClient> {
    let breaker = BreakerPolicy { outages: 0, ..BreakerPolicy::default() };
    Arc::new(HttpAuthClient::builder(&start_gateway(app).await).breaker(breaker).build().unwrap())
}

/// The same session, whose token is about to expire by the client's clock.
fn late(session: &AuthenticatedClient) -> AuthenticatedClient {
    session.clone().with_clock(|| OffsetDateTime::now_utc() + Duration::seconds(880))
}

#[test]
fn a_clock_is_trusted_once_it_ran_evenly_for_a_minute() {
    let minute = i64::try_from(limits::CLOCK_WATCH.as_millis()).unwrap();
    let slew = i64::try_from(limits::CLOCK_SLEW_MS).unwrap();
    let day = 24 * 3_600_000;
    // The time that passes, and what the wall clock gains in it. A second is left for a busy machine.
    for (passed, gained, is_trusted) in [
        (minute, 0, true),
        (minute, slew - 1000, true),
        (minute, 1000 - slew, true),
        (minute - 1000, 0, false),
        (minute, slew + 1000, false),
        (minute, -slew - 1000, false),
        (minute, 365 * day, false),
        (minute, -8 * day, false),
    ] {
        let clock = Clock::default();
        let mut watch = ClockWatch::start(&clock);
        clock.pass(passed);
        let moved = clock.apart(gained);
        let trusted = watch.trusted(&moved);
        assert_eq!(trusted.is_some(), is_trusted, "{passed} {gained}");
        assert!(trusted.is_none_or(|time| time <= moved.now() && time <= clock.now()), "{passed} {gained}");
        moved.pass(minute);
        assert!(watch.trusted(&moved).is_some(), "a minute after a jump: {passed} {gained}");
    }
}

#[tokio::test]
async fn clocks_thirty_seconds_apart_cost_no_token_and_no_session() {
    for apart_s in [-30, 0, 30] {
        let app = Arc::new(App::start().await);
        app.gateway_ahead_s.store(apart_s, Ordering::Relaxed);
        let client = client(&app).await;
        let registration = Registration::new("ada@example.com", Secret::new(PASSWORD.to_owned()));
        client.register(&registration).await.unwrap_or_else(|error| panic!("{apart_s} s: {error}"));
        let store = Arc::new(MemoryStore::default());
        let session = AuthenticatedClient::login(client.clone(), store.clone(), &credentials()).await.unwrap();
        for round in 0..3 {
            let me = session.me().await.unwrap_or_else(|error| panic!("{apart_s} s, {round}: {error}"));
            session.user(me.id).await.unwrap_or_else(|error| panic!("{apart_s} s, {round}: {error}"));
            let token = store.load().await.unwrap().unwrap().access_token;
            client.validate(&token).await.unwrap_or_else(|error| panic!("{apart_s} s, {round}: {error}"));
            late(&session).me().await.unwrap_or_else(|error| panic!("{apart_s} s, {round}: {error}"));
        }
        assert!(store.load().await.unwrap().is_some(), "{apart_s} s");
        session.logout().await.unwrap_or_else(|error| panic!("{apart_s} s: {error}"));
    }
}

#[tokio::test]
async fn with_clocks_further_apart_calls_fail_and_sessions_continue_once_they_agree() {
    // An assertion is valid for 30 s, which is an additional tolerance if the gateway's clock is behind.
    for apart_s in [-63, 33] {
        let app = Arc::new(App::start().await);
        let client = client(&app).await;
        let registration = Registration::new("ada@example.com", Secret::new(PASSWORD.to_owned()));
        client.register(&registration).await.unwrap();
        let store = Arc::new(MemoryStore::default());
        let session = AuthenticatedClient::login(client, store.clone(), &credentials()).await.unwrap();
        // The services' clock is wrong, and earlier tokens are still valid.
        app.gateway_ahead_s.store(apart_s, Ordering::Relaxed);
        for _ in 0..3 {
            let error = late(&session).me().await.unwrap_err();
            assert_eq!((error.kind(), error.status()), (ErrorKind::Unavailable, Some(502)), "{apart_s} s: {error}");
        }
        assert!(store.load().await.unwrap().is_some(), "{apart_s} s");
        app.gateway_ahead_s.store(0, Ordering::Relaxed);
        assert_eq!(late(&session).me().await.unwrap().email, "ada@example.com", "{apart_s} s");
    }
}
