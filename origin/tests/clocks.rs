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
