//! The client library with the services, through a gateway and, in direct mode, against the auth
//! service's own port.

use std::sync::Arc;

use portcullis_client::{
    AdminClient as _, ApiRequest, AuthClient as _, AuthenticatedClient, ClientError, Credentials, ErrorKind, FileStore,
    HttpAuthClient, ProfileFields, Registration, Secret, SessionStore as _,
    admin::{Bearer, UserDraft, UserPatch},
    jwks::{JwksVerifier, TokenError, TokenRule},
    request::Method,
};
use portcullis_origin::limits;
use time::{Duration, OffsetDateTime};

use crate::support::{App, PASSWORD, Service, start_gateway};

const EMAIL: &str = "ada@example.com";

/// How the client reaches the auth service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Gateway,
    Directly,
}

const WAYS: [Way; 2] = [Way::Gateway, Way::Directly];

async fn start(way: Way) -> (Arc<App>, HttpAuthClient) {
    let app = App::start_with("http://127.0.0.1:9", |mut settings| {
        if way == Way::Directly {
            settings.auth_direct = "loopback".to_owned();
        }
        settings
    })
    .await;
    let app = Arc::new(app);
    let url = match way {
        Way::Gateway => start_gateway(&app).await,
        Way::Directly => app.url(Service::Auth, "").replace("127.0.0.1", "localhost"),
    };
    // A password hash takes long on a busy machine.
    let client = HttpAuthClient::builder(&url)
        .call_timeout(std::time::Duration::from_secs(20))
        .whole_timeout(std::time::Duration::from_secs(60))
        .build()
        .unwrap();
    (app, client)
}

fn password() -> Secret {
    Secret::new(PASSWORD.to_owned())
}

/// Repeats a call when the service says after how many seconds it may be repeated, as it does when too many
/// passwords wait to be hashed. How many is too many depends on the machine.
async fn repeat_while_busy<T, F: Future<Output = Result<T, ClientError>>>(
    mut call: impl FnMut() -> F,
) -> Result<T, ClientError> {
    const CALLS: usize = 60;
    for _ in 1..CALLS {
        match call().await {
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                let Some(wait) = error.retry_after() else { return Err(error) };
                tokio::time::sleep(wait).await;
            }
            ended => return ended,
        }
    }
    call().await
}

async fn log_in(client: &HttpAuthClient, path: &std::path::Path) -> Result<AuthenticatedClient, ClientError> {
    let store = Arc::new(FileStore::new(path));
    AuthenticatedClient::login(Arc::new(client.clone()), store, &Credentials::new(EMAIL, password())).await
}

#[tokio::test]
async fn the_library_registers_and_uses_an_account_directly_and_through_the_gateway() {
    for way in WAYS {
        let (_app, client) = start(way).await;
        let profile = ProfileFields { first_name: "Ada".to_owned(), ..ProfileFields::default() };
        let registration = Registration::new(EMAIL, password()).with_profile(profile);
        let user = client.register(&registration).await.unwrap();
        assert_eq!((user.email.as_str(), user.profile.first_name.as_str()), (EMAIL, "Ada"), "{way:?}");
        assert_eq!(client.register(&registration).await.unwrap(), user, "{way:?}: the same key, the same account");
        let again = client.register(&Registration::new(EMAIL, password())).await.unwrap_err();
        assert_eq!((again.kind(), again.code()), (ErrorKind::Conflict, "email_taken"), "{way:?}");
        let short = client.register(&Registration::new("bob@example.com", Secret::new("x".to_owned()))).await;
        assert_eq!(short.unwrap_err().fields()[0].field, "password", "{way:?}");

        let wrong = Credentials::new(EMAIL, Secret::new("not her password".to_owned()));
        assert_eq!(client.login(&wrong).await.unwrap_err().code(), "invalid_credentials", "{way:?}");
        let tokens = client.login(&Credentials::new(EMAIL, password())).await.unwrap();
        assert_eq!(client.me(&tokens.access_token).await.unwrap().id, user.id, "{way:?}");
        let validation = client.validate(&tokens.access_token).await.unwrap();
        assert_eq!(validation.user.id, user.id, "{way:?}");
        assert!(validation.expires_at > OffsetDateTime::now_utc(), "{way:?}");

        let next = client.refresh(&tokens.refresh_token).await.unwrap();
        client.logout(&next.access_token, Some(&next.refresh_token)).await.unwrap();
        let over = client.refresh(&next.refresh_token).await.unwrap_err();
        assert_eq!(over.kind(), ErrorKind::Unauthenticated, "{way:?}");
    }
}

#[tokio::test]
async fn a_session_in_a_file_is_renewed_shared_and_ended() {
    for way in WAYS {
        let (_app, client) = start(way).await;
        client.register(&Registration::new(EMAIL, password())).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session");
        let store = FileStore::new(&path);
        let session = log_in(&client, &path).await.unwrap();
        let first = store.load().await.unwrap().unwrap();
        let late = session.clone().with_clock(|| OffsetDateTime::now_utc() + Duration::seconds(880));
        assert_eq!(late.me().await.unwrap().email, EMAIL, "{way:?}");
        let second = store.load().await.unwrap().unwrap();
        assert_ne!(second.refresh_token, first.refresh_token, "{way:?}");
        let other = AuthenticatedClient::resume(Arc::new(client.clone()), Arc::new(store.clone())).await.unwrap();
        other.logout().await.unwrap();
        assert_eq!(store.load().await.unwrap(), None, "{way:?}");
        assert_eq!(late.me().await.unwrap_err(), ClientError::LoggedOut, "{way:?}");
    }
}

#[tokio::test]
async fn changing_an_address_and_deleting_an_account_require_the_password_or_a_recent_login() {
    const NEXT: &str = "ada@example.org";
    let (app, client) = start(Way::Gateway).await;
    app.clock.stop();
    let ada = client.register(&Registration::new(EMAIL, password())).await.unwrap();
    assert!(!ada.email_verified);
    let folder = tempfile::tempdir().unwrap();
    let session = log_in(&client, &folder.path().join("session")).await.unwrap();
    app.clock.pass(limits::RECENT_LOGIN_MS);

    let patch = |email: &str, current_password: Option<Secret>| UserPatch {
        email: Some(email.to_owned()),
        current_password,
        ..UserPatch::default()
    };
    let draft = |email: &str, current_password: Option<Secret>| UserDraft {
        email: email.to_owned(),
        current_password,
        ..UserDraft::default()
    };
    let wrong = || Secret::new("not her password".to_owned());
    let required = (ErrorKind::ReauthenticationRequired, "reauthentication_required");
    let invalid = (ErrorKind::Unauthenticated, "invalid_credentials");
    for (what, refused, expected) in [
        ("PATCH", session.update_user(ada.id, &patch(NEXT, None), None).await.map(drop), required),
        ("PUT", session.replace_user(ada.id, &draft(NEXT, None), None).await.map(drop), required),
        ("DELETE", session.delete_user(ada.id, None).await, required),
        ("PATCH", session.update_user(ada.id, &patch(NEXT, Some(wrong())), None).await.map(drop), invalid),
        ("PUT", session.replace_user(ada.id, &draft(NEXT, Some(wrong())), None).await.map(drop), invalid),
        ("DELETE", session.delete_own_account(ada.id, &wrong(), None).await, invalid),
    ] {
        let error = refused.unwrap_err();
        assert_eq!((error.kind(), error.code()), expected, "{what}");
        assert!(!format!("{error} {error:?}").contains("not her password"), "{what}");
    }

    let read = session.read_user(ada.id).await.unwrap();
    assert_eq!((read.value.email.as_str(), read.value.email_verified), (EMAIL, false), "nothing has changed");
    let patched = session.update_user(ada.id, &patch(NEXT, Some(password())), Some(&read.version)).await.unwrap();
    assert_eq!((patched.value.email.as_str(), patched.value.email_verified), (NEXT, false));
    let replaced = session.replace_user(ada.id, &draft(EMAIL, Some(password())), Some(&patched.version)).await.unwrap();
    assert_eq!(replaced.value.email, EMAIL);
    let stale = session.delete_own_account(ada.id, &password(), Some(&read.version)).await.unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::Stale);
    session.delete_own_account(ada.id, &password(), Some(&replaced.version)).await.unwrap();
    let over = client.login(&Credentials::new(EMAIL, password())).await.unwrap_err();
    assert_eq!(over.code(), "invalid_credentials", "the account is gone");

    let bob = client.register(&Registration::new("bob@example.com", password())).await.unwrap();
    let tokens = client.login(&Credentials::new("bob@example.com", password())).await.unwrap();
    let recent = Bearer::new(&client, tokens.access_token);
    recent.update_user(bob.id, &patch("bob@example.org", None), None).await.unwrap();
    recent.delete_user(bob.id, None).await.unwrap();
}

/// A proxy that loses the answer to the first refresh.
async fn lose_one_refresh(url: String) -> String {
    let lost = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let pass = move |request: axum::extract::Request| {
        let (lost, http, url) = (Arc::clone(&lost), http.clone(), url.clone());
        async move {
            let (parts, body) = request.into_parts();
            let path = parts.uri.path().to_owned();
            let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
            let mut request = http.request(parts.method, format!("{url}{}", parts.uri)).body(body);
            for name in ["authorization", "content-type"] {
                if let Some(value) = parts.headers.get(name) {
                    request = request.header(name, value);
                }
            }
            let answer = request.send().await.unwrap();
            if path.ends_with("/refresh") && !lost.swap(true, std::sync::atomic::Ordering::Relaxed) {
                assert_eq!(answer.status().as_u16(), 200);
                return (axum::http::StatusCode::BAD_GATEWAY, axum::body::Bytes::new());
            }
            let status = axum::http::StatusCode::from_u16(answer.status().as_u16()).unwrap();
            (status, answer.bytes().await.unwrap())
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(pass)).await.unwrap() });
    format!("http://{addr}")
}

#[tokio::test]
async fn a_session_continues_after_the_answer_to_a_refresh_was_lost() {
    let (app, client) = start(Way::Gateway).await;
    client.register(&Registration::new(EMAIL, password())).await.unwrap();
    let lossy = HttpAuthClient::new(&lose_one_refresh(start_gateway(&app).await).await).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let session = log_in(&lossy, &folder.path().join("session")).await.unwrap();
    let late = session.with_clock(|| OffsetDateTime::now_utc() + Duration::seconds(880));
    assert_eq!(late.me().await.unwrap().email, EMAIL);
    let stored = FileStore::new(folder.path().join("session")).load().await.unwrap().unwrap();
    app.clock.pass(60_000);
    let next = client.refresh(&stored.refresh_token).await.unwrap();
    assert_ne!(next.refresh_token, stored.refresh_token, "what is stored is the successor");
}

#[tokio::test]
async fn a_direct_call_of_a_route_behind_the_gateway_does_not_end_the_session() {
    let (_app, client) = start(Way::Directly).await;
    client.register(&Registration::new(EMAIL, password())).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session");
    let session = log_in(&client, &path).await.unwrap();
    let token = FileStore::new(&path).load().await.unwrap().unwrap().access_token;
    let roles = Bearer::new(&client, token).roles(portcullis_client::admin::Page::default()).await.map(drop);
    for refused in [session.sessions().await.map(drop), roles] {
        let error = refused.unwrap_err();
        assert_eq!((error.status(), error.code(), error.kind()), (Some(401), "gateway_required", ErrorKind::Fault));
        assert!(error.detail().is_some_and(|detail| detail.contains("gateway")), "{error}");
    }
    assert_eq!(session.me().await.unwrap().email, EMAIL, "the session goes on");
    let request = ApiRequest::new(Method::GET, "/api/v1/auth/public-key");
    let key = session.send(request).await.unwrap();
    assert!(key.body().starts_with(b"-----BEGIN PUBLIC KEY-----"));
}

#[tokio::test]
async fn a_receiver_distinguishes_service_tokens_and_access_tokens() {
    let app = App::start().await;
    let service = app.service_token(Service::Users).await;
    let access = app.person(EMAIL).await.access;
    let verifier = |rule| JwksVerifier::new(&app.url(Service::Auth, ""), rule).unwrap();
    for (what, rule, token, expected) in [
        ("its service token", TokenRule::service("user-service"), &service, Ok(())),
        ("another service's", TokenRule::service("billing"), &service, Err(TokenError::Invalid)),
        ("a user's token, for a service's", TokenRule::service("user-service"), &access, Err(TokenError::Invalid)),
        ("a user's token", TokenRule::access(), &access, Ok(())),
        ("a service's token, for a user's", TokenRule::access(), &service, Err(TokenError::Invalid)),
    ] {
        let verified = verifier(rule).verify::<serde_json::Value>(token).await;
        assert_eq!(verified.map(drop), expected, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_concurrent_users_use_the_auth_service_directly() {
    let (app, client) = start(Way::Directly).await;
    let people = (0..50).map(|number| {
        let client = client.clone();
        tokio::spawn(async move {
            let email = format!("person-{number}@example.com");
            let registration = Registration::new(&email, password());
            let user = repeat_while_busy(|| client.register(&registration)).await.unwrap();
            let credentials = Credentials::new(&email, password());
            let tokens = repeat_while_busy(|| client.login(&credentials)).await.unwrap();
            for _ in 0..5 {
                let validation = repeat_while_busy(|| client.validate(&tokens.access_token)).await.unwrap();
                assert_eq!(validation.user.id, user.id);
                let found = repeat_while_busy(|| client.me(&tokens.access_token)).await.unwrap();
                assert_eq!(found.email, email);
            }
            let next = client.refresh(&tokens.refresh_token).await.unwrap();
            client.logout(&next.access_token, Some(&next.refresh_token)).await.unwrap();
        })
    });
    for person in people.collect::<Vec<_>>() {
        person.await.unwrap();
    }
    app.until_synchronised().await;
}
