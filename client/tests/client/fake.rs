//! A fake server: answers by a function and records the requests.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::Request,
    http::{HeaderMap, Method, Response},
    routing::any,
};
use portcullis_client::{
    http::{Builder, HttpAuthClient, RetryPolicy},
    secret::Secret,
    service::ServiceConfig,
};
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt as _, net::TcpListener, task::JoinSet, time::Duration};

/// A received request.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Asked {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// The answer of the fake server.
pub(crate) enum Reply {
    Now(Response<Body>),
    Late(Duration, Response<Body>),
    Never,
}

pub(crate) struct Fake {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    /// Starts a server that answers by a function of the request and of the number of requests before.
    pub(crate) async fn start(answer: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (Arc::clone(&asked), Arc::new(answer));
        let handle = move |request: Request| {
            let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
            async move {
                let (parts, body) = request.into_parts();
                let body = to_bytes(body, usize::MAX).await.unwrap();
                let target = parts.uri.to_string();
                let asked = Asked { method: parts.method, target, headers: parts.headers, body };
                let reply = {
                    let mut seen = seen.lock().unwrap();
                    seen.push(asked.clone());
                    answer(&asked, seen.len() - 1)
                };
                match reply {
                    Reply::Now(response) => response,
                    Reply::Late(wait, response) => {
                        tokio::time::sleep(wait).await;
                        response
                    }
                    Reply::Never => std::future::pending().await,
                }
            }
        };
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(any(handle))).await });
        Self { url, asked }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// Returns the number of fetches of a service token.
    pub(crate) fn token_count(&self) -> usize {
        self.asked().iter().filter(|asked| asked.target == TOKEN_ROUTE).count()
    }

    /// Returns the number of calls other than fetches of a service token.
    pub(crate) fn call_count(&self) -> usize {
        self.count() - self.token_count()
    }

    /// Returns a client without pauses.
    pub(crate) fn client(&self) -> HttpAuthClient {
        quick(&self.url).build().unwrap()
    }
}

/// Route of the fetch of a service token.
pub(crate) const TOKEN_ROUTE: &str = "/api/v1/auth/token";

/// Starts a server that issues service tokens with this lifetime in seconds, and answers other calls by
/// a function of the call and of the number of calls before.
pub(crate) async fn serve_with_tokens(
    lifetime_s: u64,
    answer_to: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static,
) -> Fake {
    let (tokens, calls) = (AtomicUsize::new(1), AtomicUsize::new(0));
    let next = |count: &AtomicUsize| count.fetch_add(1, Ordering::Relaxed);
    Fake::start(move |asked, _| match asked.target.as_str() {
        TOKEN_ROUTE => {
            answer(200, &json!({ "access_token": format!("token-{}", next(&tokens)), "expires_in": lifetime_s }))
        }
        _ => answer_to(asked, next(&calls)),
    })
    .await
}

/// A client builder without pauses between tries.
pub(crate) fn quick(url: &str) -> Builder {
    HttpAuthClient::builder(url).retry(RetryPolicy { first_pause: Duration::ZERO, ..RetryPolicy::default() })
}

/// Runs calls at once, each in its own task, and returns their results.
pub(crate) async fn run_at_once<T: Send + 'static>(
    calls: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    calls.into_iter().collect::<JoinSet<T>>().join_all().await
}

/// The configuration of a service with the secret `hunter2`.
pub(crate) fn service_config(caller: &str, audience: &str, auth_url: &str, target_url: &str) -> ServiceConfig {
    ServiceConfig {
        caller: caller.to_owned(),
        secret: secret("hunter2"),
        auth_url: auth_url.to_owned(),
        audience: audience.to_owned(),
        target_url: target_url.to_owned(),
    }
}

/// Starts a server that reads a request and closes the connection. Returns its URL and the number of
/// requests.
pub(crate) async fn start_hanging_up() -> (String, Arc<Mutex<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(0));
    let seen = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = [0; 4096];
            if stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {
                *seen.lock().unwrap() += 1;
            }
        }
    });
    (url, asked)
}

/// Returns the URL of a port without a listener.
pub(crate) async fn closed_url() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

pub(crate) fn reply(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Reply {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    Reply::Now(response.body(body.into()).unwrap())
}

pub(crate) fn answer(status: u16, body: &Value) -> Reply {
    reply(status, &[("content-type", "application/json")], body.to_string())
}

pub(crate) fn refuse(status: u16, code: &str) -> Reply {
    let body = json!({ "status": status, "code": code, "detail": "No", "request_id": "r1" });
    reply(status, &[("content-type", "application/problem+json")], body.to_string())
}

pub(crate) fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

pub(crate) const USER_ID: &str = "0190b2a4-0000-7000-8000-000000000001";

pub(crate) fn user() -> Value {
    json!({
        "id": USER_ID, "email": "ada@example.com", "first_name": "Ada", "last_name": "", "roles": ["user"],
        "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
    })
}

pub(crate) fn tokens(access: &str, refresh: &str, expires_in: u64) -> Value {
    json!({
        "access_token": access, "refresh_token": refresh, "token_type": "Bearer", "expires_in": expires_in,
        "user": user(),
    })
}
