//! `GET /health` and `GET /ready`.

use crate::support::{App, Service};

#[tokio::test]
async fn health_and_readiness_are_public() {
    let app = App::start().await;
    for service in [Service::Auth, Service::Users] {
        for path in ["/health", "/ready"] {
            assert_eq!(app.send_raw(app.http.get(app.url(service, path))).await.status, 200, "{service:?} {path}");
        }
    }
}
