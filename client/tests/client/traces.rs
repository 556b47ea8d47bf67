//! Metrics and trace headers of a call, which contain no secret. `tests/logs.rs` checks the log.

use std::sync::{Arc, Mutex};

use metrics::{Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, SharedString, Unit};
use portcullis_client::{
    account::{AuthClient as _, Credentials, PasswordChange, Registration},
    admin::NewUser,
    http::{HttpAuthClient, RetryPolicy},
    profile::ProfileFields,
    session::{AuthenticatedClient, FileStore, SessionStore as _},
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    fake::{Fake, answer, quick, refuse, secret, user},
    service::Service,
};

/// Records each count and each duration as `name{label=value}`.
#[derive(Clone, Default)]
struct Noted(Arc<Mutex<Vec<String>>>);

struct One(Noted, String);

impl CounterFn for One {
    fn increment(&self, _: u64) {
        self.0.0.lock().unwrap().push(self.1.clone());
    }

    fn absolute(&self, _: u64) {}
}

impl HistogramFn for One {
    fn record(&self, value: f64) {
        assert!((0.0..60.0).contains(&value), "seconds");
        self.0.0.lock().unwrap().push(self.1.clone());
    }
}

impl Noted {
    fn one(&self, key: &Key) -> Arc<One> {
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        Arc::new(One(self.clone(), format!("{}{{{}}}", key.name(), labels.join(","))))
    }
}

impl metrics::Recorder for Noted {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.one(key))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.one(key))
    }
}

#[tokio::test]
async fn calls_are_counted_by_their_route_and_never_by_their_path() {
    let noted = Noted::default();
    let _recorder = metrics::set_default_local_recorder(&noted);
    let fake = Fake::start(|asked, _| {
        if asked.target.contains("users") {
            answer(200, &json!({ "data": user() }))
        } else {
            refuse(401, "token_expired")
        }
    })
    .await;
    let client = quick(&fake.url).retry(RetryPolicy { retries: 0, ..RetryPolicy::default() }).build().unwrap();
    client.user(&secret("access"), Uuid::nil()).await.unwrap();
    client.me(&secret("access")).await.unwrap_err();
    let lost = HttpAuthClient::builder(&crate::fake::closed_url().await);
    let lost = lost.retry(RetryPolicy { retries: 0, ..RetryPolicy::default() }).build().unwrap();
    lost.me(&secret("access")).await.unwrap_err();
    let (requests, durations) = ("auth_client_requests_total", "auth_client_request_duration_seconds");
    let expected = [
        format!("{requests}{{method=GET,endpoint=/api/v1/users/{{id}},status=200}}"),
        format!("{durations}{{method=GET,endpoint=/api/v1/users/{{id}}}}"),
        format!("{requests}{{method=GET,endpoint=/api/v1/auth/me,status=401}}"),
        format!("{durations}{{method=GET,endpoint=/api/v1/auth/me}}"),
        format!("{requests}{{method=GET,endpoint=/api/v1/auth/me,status=unreachable}}"),
        format!("{durations}{{method=GET,endpoint=/api/v1/auth/me}}"),
    ];
    assert_eq!(*noted.0.lock().unwrap(), expected);
}

#[tokio::test]
async fn nothing_prints_a_secret() {
    const HIDDEN: &str = "hunter2-hunter2";
    let hidden = || secret(HIDDEN);
    let fake = Fake::start(|asked, _| {
        // A service that echoes the request in an answer that violates the contract.
        answer(if asked.target.ends_with("me") { 400 } else { 200 }, &json!(String::from_utf8_lossy(&asked.body)))
    })
    .await;
    let client = fake.client();
    let credentials = Credentials::new("ada@example.com", hidden());
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(900).await;
    let store = Arc::new(FileStore::new(folder.path().join("session")));
    let auth = Arc::new(service.fake.client());
    let session = AuthenticatedClient::login(auth, store.clone(), &credentials).await.unwrap();
    let new_user =
        NewUser { email: String::new(), password: hidden(), profile: ProfileFields::default(), roles: vec![] };
    let printed = [
        format!("{:?}", hidden()),
        format!("{credentials:?}"),
        format!("{:?}", Registration::new("ada@example.com", hidden())),
        format!("{:?}", PasswordChange { current_password: hidden(), new_password: hidden() }),
        format!("{new_user:?}"),
        format!("{client:?} {session:?} {store:?}"),
        format!("{:?}", store.load().await.unwrap()),
        format!("{0:?} {0}", client.login(&credentials).await.unwrap_err()),
        format!("{0:?} {0}", client.refresh(&hidden()).await.unwrap_err()),
        format!("{0:?} {0}", client.me(&hidden()).await.unwrap_err()),
    ];
    for text in printed {
        assert!(!text.contains(HIDDEN) && !text.contains("access-1") && !text.contains("refresh-1"), "{text}");
    }
}
