//! The key set.

use serde_json::Value;

use crate::support::{app::App, databases::Service};

pub(crate) async fn jwks(app: &App) -> (Value, reqwest::header::HeaderMap) {
    let reply = app.send_raw(app.http.get(app.url(Service::Auth, "/.well-known/jwks.json"))).await;
    assert_eq!(reply.status, 200);
    (reply.json(), reply.headers)
}

pub(crate) async fn kids(app: &App) -> Vec<String> {
    let (set, _) = jwks(app).await;
    set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

pub(crate) const ROTATE: &str = "/api/v1/auth/keys/rotate";
