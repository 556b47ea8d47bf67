//! Erasure of the data of deleted accounts.

use portcullis_origin::{
    limits,
    store::{
        AuditLog, Database, Schema,
        audit::{Event, Filter, Outcome},
    },
};
use reqwest::Method;
use uuid::Uuid;

use crate::support::{App, Service};

#[tokio::test]
async fn no_database_file_contains_address_or_name_of_a_deleted_user() {
    let mut app = App::start().await;
    let gone = app.person("somebody.quite.unlikely@example.com").await;
    app.person("ada@example.com").await;
    let target = format!("/api/v1/users/{}", gone.id);
    let deleted = app.send(Service::Users, Method::DELETE, &target, Some(&gone), None).await;
    assert_eq!(deleted.status, 204, "{}", deleted.text);
    app.until_synchronised().await;
    // The write-ahead log is merged and deleted.
    app.stop().await;
    let dump = app.databases.dump().await;
    assert!(dump.contains("ada@example.com"));
    assert!(!dump.contains("quite.unlikely"), "what is deleted is overwritten");
}

#[tokio::test]
async fn the_audit_log_erases_network_addresses_of_deleted_users_after_90_days() {
    let app = App::start().await;
    let ada: Uuid = app.person("ada@example.com").await.id.parse().unwrap();
    let database = Database::open(&app.databases.url(Service::Auth), Schema::Auth).await.unwrap();
    let trail = AuditLog(database.clone());
    let now = app.clock.now();
    let gone = Uuid::from_u128(7);
    let old = now - limits::AUDIT_IDENTITY_MS - 1000;
    for (user_id, at) in [(Some(gone), old), (Some(gone), now), (Some(ada), old), (None, old)] {
        let event = Event {
            event_type: "test".to_owned(),
            result: Outcome::Success,
            user_id,
            entity_id: None,
            operation: "POST /test".to_owned(),
            request_id: None,
            trace_id: None,
            span_id: None,
            ip_address: Some("192.0.2.1".to_owned()),
            user_agent: Some("a browser".to_owned()),
            detail: None,
            at,
        };
        trail.add(&event).await.unwrap();
    }
    let (mut after, mut steps) = (0, 0);
    while let Some(last) = trail.erase(after, now - limits::AUDIT_IDENTITY_MS, 1).await.unwrap() {
        assert!(last > after, "it goes on");
        (after, steps) = (last, steps + 1);
    }
    assert_eq!(steps, 3, "only what is old is looked at, one at a time");
    let filter = Filter { event_type: Some("test".to_owned()), ..Filter::default() };
    let events = trail.list(&filter, 10).await.unwrap();
    let kept: Vec<_> = events.iter().rev().map(|(_, event)| event.ip_address.is_some()).collect();
    assert_eq!(kept, [false, true, true, true], "of those who are gone, after its time");
    assert!(events.iter().all(|(_, event)| event.ip_address.is_some() == event.user_agent.is_some()));
    database.close().await;
}

#[tokio::test]
async fn a_sweep_deletes_a_batch_and_returns_its_size() {
    use portcullis_origin::store::Sessions;
    let app = App::start().await;
    for _ in 0..5 {
        if app.login("ada@example.com").await.status != 200 {
            app.person("ada@example.com").await;
        }
    }
    let database = Database::open(&app.databases.url(Service::Auth), Schema::Auth).await.unwrap();
    let sessions = Sessions::of(database.clone());
    let over = app.clock.now() + limits::REFRESH_TOKEN_MS;
    assert_eq!(sessions.sweep(app.clock.now(), 2).await.unwrap(), 0, "all live");
    assert_eq!(sessions.sweep(over + 1000, 2).await.unwrap(), 2);
    assert_eq!(sessions.sweep(over + 1000, 2).await.unwrap(), 2);
    assert_eq!(sessions.sweep(over + 1000, 2).await.unwrap(), 1);
    database.close().await;
}
