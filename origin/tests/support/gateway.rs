//! A gateway for clients such as the client library: it checks the times of a token, not its signature,
//! and forwards the request with an assertion.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use serde_json::json;

use crate::support::{
    app::{App, Person, claims},
    databases::Service,
};

/// Seconds of clock difference that the gateway tolerates (`leeway_s` of its policy).
const LEEWAY_S: i64 = 30;

/// Starts a gateway before both services. Returns its URL.
pub(crate) async fn start_gateway(app: &Arc<App>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let router = Router::new().fallback(pass_on).with_state(Arc::clone(app));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    format!("http://{addr}")
}

fn problem(status: StatusCode, code: &str) -> Response {
    let body = json!({ "status": status.as_u16(), "code": code, "detail": "No" }).to_string();
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
}

async fn pass_on(State(app): State<Arc<App>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let target = uri.path_and_query().unwrap().as_str();
    let service = if target.starts_with("/api/v1/users") { Service::Users } else { Service::Auth };
    let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let now = app.gateway_now() / 1000;
    let is_timely = |token: &str| {
        let claimed = claims(token);
        let time = |name: &str| claimed[name].as_i64().unwrap();
        now < time("exp") + LEEWAY_S && time("iat") <= now + LEEWAY_S && time("nbf") <= now + LEEWAY_S
    };
    if token.is_some_and(|token| !is_timely(token)) {
        return problem(StatusCode::UNAUTHORIZED, "token_expired");
    }
    let who = token.map(|token| {
        let claimed = claims(token);
        let text = |name: &str| claimed[name].as_str().unwrap_or_default().to_owned();
        Person {
            id: text("sub"),
            email: text("email"),
            roles: serde_json::from_value(claimed["roles"].clone()).unwrap(),
            session: text("sid"),
            access: token.to_owned(),
            refresh: String::new(),
        }
    });
    let mut request = app.forwarded(service, method, target, who.as_ref(), None).body(body);
    for name in ["content-type", "idempotency-key", "if-match", "if-none-match"] {
        if let Some(value) = headers.get(name) {
            request = request.header(name, value);
        }
    }
    let answer = request.send().await.unwrap();
    let challenge = answer.headers().get(header::WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
    if challenge.is_some_and(|challenge| challenge.starts_with("Gateway-Assertion ")) {
        return problem(StatusCode::BAD_GATEWAY, "upstream_rejected_assertion");
    }
    let status = StatusCode::from_u16(answer.status().as_u16()).unwrap();
    let mut given = HeaderMap::new();
    for name in [header::CONTENT_TYPE, header::ETAG, header::RETRY_AFTER] {
        if let Some(value) = answer.headers().get(&name) {
            given.insert(name, value.clone());
        }
    }
    (status, given, answer.bytes().await.unwrap()).into_response()
}
