//! `GET /api/v1/users/{id}`.

use serde_json::json;

use crate::{
    routes::users::delete::as_admin,
    support::{App, Service},
};

#[tokio::test]
async fn a_profile_is_visible_to_its_owner_and_administrators() {
    let app = App::start().await;
    let (ada, grace) = (app.person("ada@example.com").await, app.person("grace@example.com").await);
    let path = |id: &str| format!("/api/v1/users/{id}");
    for (who, id, expected) in [
        (&ada, ada.id.as_str(), 200),
        (&ada, grace.id.as_str(), 403),
        (&as_admin(&ada), grace.id.as_str(), 200),
        (&ada, "00000000-0000-4000-8000-000000000000", 403),
        (&as_admin(&ada), "00000000-0000-4000-8000-000000000000", 404),
        (&as_admin(&ada), "not-a-uuid", 404),
        (&ada, "' OR 1=1 --", 404),
    ] {
        let target = path(&id.replace(' ', "%20"));
        let reply = app.get(Service::Users, &target, who).await;
        assert_eq!(reply.status, expected, "{} {id}", who.email);
    }
    let profile = app.get(Service::Users, &path(&ada.id), &ada).await.json()["data"].clone();
    assert_eq!(profile["email"], "ada@example.com");
    assert_eq!(profile["first_name"], "Ada");
    assert_eq!(profile["last_name"], "");
    assert_eq!(profile["roles"], json!(["user"]));
}
