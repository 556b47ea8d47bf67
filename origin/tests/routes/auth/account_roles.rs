//! `/api/v1/auth/users/{id}/roles` and `/api/v1/auth/users/{id}/permissions`.

use portcullis_origin::limits;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    ADMIN, AUTH_ONLY, AdminClient, App, PASSWORD, PERMISSIONS, Person, PushReceiver, ROLES, Reply, Service, USER,
    claims, make_admin,
};

fn of(person: &Person) -> String {
    format!("/api/v1/auth/users/{}/roles", person.id)
}

fn names(body: &Value) -> Vec<String> {
    body["roles"].as_array().unwrap().iter().map(|role| role["name"].as_str().unwrap().to_owned()).collect()
}

/// Returns the roles in the access token of a refresh, and both tokens.
async fn refreshed(app: &App, refresh: &str) -> (Value, String, String) {
    let reply = app.refresh(refresh).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let body = reply.json();
    let text = |name: &str| body[name].as_str().unwrap().to_owned();
    (claims(&text("access_token"))["roles"].clone(), text("access_token"), text("refresh_token"))
}

fn last_admin(reply: &Reply) -> bool {
    reply.status == 409 && reply.code() == "last_admin"
}

#[tokio::test]
async fn changed_roles_are_in_the_next_token() {
    let app = App::start().await;
    let admin = AdminClient::admin(&app).await;
    let ada = app.person("ada@example.com").await;
    let (editor, author) = (admin.role("editor").await, admin.role("author").await);
    assert_eq!(names(&admin.get(&of(&ada)).await), ["user"]);
    let mut token = ada.refresh.clone();
    for (method, path, body, status, expected) in [
        (Method::POST, of(&ada), Some(json!({ "role_id": editor })), 201, &["editor", "user"][..]),
        (Method::POST, of(&ada), Some(json!({ "role_id": editor })), 200, &["editor", "user"]),
        (Method::PUT, of(&ada), Some(json!({ "role_ids": [author, USER, author] })), 200, &["author", "user"]),
        (Method::PUT, of(&ada), Some(json!({ "role_ids": [USER, author] })), 200, &["author", "user"]),
        (Method::DELETE, format!("{}/{editor}", of(&ada)), None, 404, &["author", "user"]),
        (Method::DELETE, format!("{}/{USER}", of(&ada)), None, 204, &["author"]),
        (Method::PUT, of(&ada), Some(json!({ "role_ids": [] })), 200, &[]),
        (Method::POST, of(&ada), Some(json!({ "role_id": USER })), 201, &["user"]),
    ] {
        let reply = admin.ask(method.clone(), &path, body.clone()).await;
        assert_eq!(reply.status, status, "{method} {path} {body:?}: {}", reply.text);
        if status < 204 {
            assert_eq!(reply.json()["user_id"], ada.id.as_str());
            assert_eq!(names(&reply.json()), expected, "{method} {body:?}");
        }
        assert_eq!(names(&admin.get(&of(&ada)).await), expected);
        let (roles, _, next) = refreshed(&app, &token).await;
        assert_eq!(roles, json!(expected), "{method} {path} {body:?}");
        token = next;
    }
    let whole = admin.get(&of(&ada)).await["roles"][0].clone();
    assert_eq!(whole, admin.get(&format!("{ROLES}/{USER}")).await["role"], "a role looks alike everywhere");
}

#[tokio::test]
async fn removing_a_role_revokes_tokens_and_keeps_sessions() {
    let gateway = PushReceiver::start().await;
    let app = App::start_behind(&gateway.url).await;
    let admin = AdminClient::admin(&app).await;
    let ada = app.person("ada@example.com").await;
    let editor = admin.role("editor").await;
    let mut token = ada.refresh.clone();
    let mut access = ada.access.clone();
    for round in 0..4 {
        assert_eq!(admin.post(&of(&ada), json!({ "role_id": editor })).await.status, 201);
        // The token that carries the role, and the one before.
        let (roles, with_it, next) = refreshed(&app, &token).await;
        assert_eq!(roles, json!(["editor", "user"]));
        let taken = if round % 2 == 0 {
            admin.delete(&format!("{}/{editor}", of(&ada))).await.status
        } else {
            admin.put(&of(&ada), json!({ "role_ids": [USER] })).await.status
        };
        assert!(taken < 300, "{taken}");
        // Only these: adding a role revokes nothing.
        let told = gateway.until_received(round + 1).await;
        assert_eq!(told.len(), round + 1);
        assert_eq!(told[round]["user"], ada.id.as_str());
        let until = told[round]["issued_until"].as_i64().unwrap();
        for old in [&access, &with_it] {
            assert!(claims(old)["iat"].as_i64().unwrap() <= until, "a token survived");
        }
        let (roles, newer, next) = refreshed(&app, &next).await;
        assert_eq!(roles, json!(["user"]));
        assert!(claims(&newer)["iat"].as_i64().unwrap() > until, "the next one is none of those");
        assert_eq!(claims(&newer)["sid"], ada.session.as_str());
        (access, token) = (newer, next);
        assert_eq!(app.get(Service::Auth, "/api/v1/auth/me", &ada).await.status, 200, "the session lives");
    }
    assert_eq!(admin.put(&of(&ada), json!({ "role_ids": [USER] })).await.status, 200);
    assert_eq!(admin.delete(&format!("{}/{editor}", of(&ada))).await.status, 404);
    app.send(Service::Auth, Method::POST, "/api/v1/auth/logout", Some(&ada), None).await;
    assert_eq!(
        gateway.until_received(5).await[4]["session"],
        ada.session.as_str(),
        "what changes nothing tells nothing"
    );
}

#[tokio::test]
async fn a_concurrent_login_does_not_restore_a_removed_role() {
    let gateway = PushReceiver::start().await;
    let app = App::start_behind(&gateway.url).await;
    let admin = AdminClient::admin(&app).await;
    let editor = admin.role("editor").await;
    for round in 1..=8 {
        let email = format!("ada{round}@example.com");
        let ada = app.person(&email).await;
        assert_eq!(admin.post(&of(&ada), json!({ "role_id": editor })).await.status, 201);
        let path = format!("{}/{editor}", of(&ada));
        // The verification of the password takes much longer than the removal of the role.
        let (login, taken) = tokio::join!(app.login(&email), admin.delete(&path));
        assert_eq!((login.status, taken.status), (200, 204));
        let token = claims(login.json()["access_token"].as_str().unwrap());
        let until = gateway.until_received(round).await[round - 1]["issued_until"].as_i64().unwrap();
        let is_good = token["iat"].as_i64().unwrap() > until;
        assert!(!is_good || token["roles"] == json!(["user"]), "{token} after {until}");
    }
}

#[tokio::test]
async fn repeated_removals_of_roles_issue_no_token_far_in_the_future() {
    let app = App::start().await;
    let admin = AdminClient::admin(&app).await;
    let ada = app.person("ada@example.com").await;
    let editor = admin.role("editor").await;
    let mut last = None;
    for _ in 0..200 {
        admin.post(&of(&ada), json!({ "role_id": editor })).await;
        let reply = admin.delete(&format!("{}/{editor}", of(&ada))).await;
        if reply.status != 204 {
            last = Some(reply);
            break;
        }
    }
    let reply = last.unwrap();
    assert_eq!((reply.status, reply.code().as_str()), (503, "account_busy"));
    assert!(reply.headers.contains_key("retry-after"));
    assert_eq!(names(&admin.get(&of(&ada)).await), ["editor", "user"], "nothing is half done");
    app.clock.pass(limits::REVOKED_AHEAD_S * 1000);
    assert_eq!(admin.delete(&format!("{}/{editor}", of(&ada))).await.status, 204);
}

#[tokio::test]
async fn the_last_administrator_keeps_the_role_on_every_route() {
    let app = App::start().await;
    let admin = AdminClient::admin(&app).await;
    let ada = app.person("ada@example.com").await;
    let own = of(&admin.who);
    assert!(last_admin(&admin.delete(&format!("{own}/{ADMIN}")).await));
    for role_ids in [json!([]), json!([USER])] {
        assert!(last_admin(&admin.put(&own, json!({ "role_ids": role_ids })).await), "{role_ids}");
    }
    assert_eq!(names(&admin.get(&own).await), ["admin", "user"], "nothing is half done");
    assert_eq!(admin.put(&own, json!({ "role_ids": [ADMIN] })).await.status, 200, "the role alone is enough");

    assert_eq!(admin.post(&of(&ada), json!({ "role_id": ADMIN })).await.status, 201);
    assert_eq!(admin.delete(&format!("{own}/{ADMIN}")).await.status, 204, "another one is there");
    assert_eq!(admin.ask(Method::GET, &own, None).await.status, 403, "from now on");
    let ada = AdminClient { app: &app, who: ada };
    assert!(last_admin(&ada.delete(&format!("{}/{ADMIN}", of(&ada.who))).await));
}

#[tokio::test]
async fn of_two_administrators_who_demote_each_other_one_succeeds() {
    let app = App::start().await;
    let mut one = AdminClient::admin(&app).await;
    let mut two = AdminClient { app: &app, who: app.person("ada@example.com").await };
    for round in 0..10 {
        assert_eq!(one.post(&of(&two.who), json!({ "role_id": ADMIN })).await.status, 201);
        let (first, second) = if round % 2 == 0 {
            let (first, second) = (format!("{}/{ADMIN}", of(&two.who)), format!("{}/{ADMIN}", of(&one.who)));
            tokio::join!(one.delete(&first), two.delete(&second))
        } else {
            let only = json!({ "role_ids": [USER] });
            let (first, second) = (of(&two.who), of(&one.who));
            tokio::join!(one.put(&first, only.clone()), two.put(&second, only.clone()))
        };
        let succeeded = [&first, &second].map(|reply| reply.status < 300);
        assert_eq!(succeeded.iter().filter(|done| **done).count(), 1, "{} {}", first.text, second.text);
        let loser = if succeeded[0] { &second } else { &first };
        assert!(last_admin(loser) || loser.status == 403, "{}", loser.text);
        if succeeded[1] {
            std::mem::swap(&mut one, &mut two);
        }
        assert_eq!(names(&one.get(&of(&one.who)).await), ["admin", "user"]);
        // A revocation in the same second is for the next second; only a few may be ahead.
        app.clock.pass(1000);
    }
}

#[tokio::test]
async fn a_concurrent_deletion_and_demotion_leave_an_administrator() {
    let app = App::start().await;
    let admin = AdminClient::admin(&app).await;
    for round in 0..5 {
        let other = make_admin(&app, &app.person(&format!("ada{round}@example.com")).await).await;
        let path = format!("/api/v1/users/{}", other.id);
        let own = format!("{}/{ADMIN}", of(&admin.who));
        let (deleted, demoted) = tokio::join!(
            app.send(Service::Users, Method::DELETE, &path, Some(&other), None),
            app.send(Service::Auth, Method::DELETE, &own, Some(&other), None)
        );
        // An account that is deleted first has no session for the demotion.
        match (deleted.status, demoted.status) {
            (204, 409 | 401) => {}
            (409, 204) => {
                let back = AdminClient { app: &app, who: other };
                assert_eq!(back.post(&of(&admin.who), json!({ "role_id": ADMIN })).await.status, 201);
                assert_eq!(back.delete(&format!("{}/{ADMIN}", of(&back.who))).await.status, 204);
            }
            statuses => panic!("{statuses:?}"),
        }
        assert_eq!(names(&admin.get(&of(&admin.who)).await), ["admin", "user"]);
        app.clock.pass(1000);
    }
}

#[tokio::test]
async fn each_change_of_roles_schedules_one_profile_synchronisation() {
    let mut app = App::start().await;
    let ada = app.person("ada@example.com").await;
    AdminClient::admin(&app).await;
    // The user service is down, so the entries stay.
    app.restart(AUTH_ONLY).await;
    let admin = AdminClient { app: &app, who: app.log_in("root@example.com").await };
    let pool = app.databases.open(Service::Auth).await;
    let state = async || -> (i64, i64) {
        let version = sqlx::query_scalar("SELECT version FROM accounts WHERE id = $1").bind(&ada.id);
        let changes = sqlx::query_scalar("SELECT changes FROM stale_profiles WHERE account_id = $1").bind(&ada.id);
        let changes: Option<i64> = changes.fetch_optional(&pool).await.unwrap();
        (version.fetch_one(&pool).await.unwrap(), changes.unwrap_or_default())
    };
    let editor = admin.role("editor").await;
    let (version, changes) = state().await;
    let mut steps = 0;
    for (method, path, body, is_change) in [
        (Method::POST, of(&ada), Some(json!({ "role_id": editor })), 1),
        (Method::POST, of(&ada), Some(json!({ "role_id": editor })), 0),
        (Method::PUT, of(&ada), Some(json!({ "role_ids": [editor, USER] })), 0),
        (Method::PUT, of(&ada), Some(json!({ "role_ids": [ADMIN] })), 1),
        (Method::DELETE, format!("{}/{ADMIN}", of(&ada)), None, 1),
        (Method::DELETE, format!("{}/{ADMIN}", of(&ada)), None, 0),
    ] {
        admin.ask(method.clone(), &path, body.clone()).await;
        steps += is_change;
        assert_eq!(state().await, (version + steps, changes + steps), "{method} {body:?}");
    }
    pool.close().await;
}

#[tokio::test]
async fn an_account_has_the_permissions_of_all_its_roles() {
    let app = App::start().await;
    let admin = AdminClient::admin(&app).await;
    let ada = AdminClient { app: &app, who: app.person("ada@example.com").await };
    let grace = AdminClient { app: &app, who: app.person("grace@example.com").await };
    let (editor, author) = (admin.role("editor").await, admin.role("author").await);
    let reports = admin.permission("read:reports").await;
    for role in [&editor, &author] {
        admin.post(&format!("{ROLES}/{role}/permissions"), json!({ "permission_id": reports })).await;
        admin.post(&of(&ada.who), json!({ "role_id": role })).await;
    }
    let path = |person: &Person| format!("/api/v1/auth/users/{}/permissions", person.id);
    let expected = json!({ "user_id": ada.who.id, "permissions": ["read:profile", "read:reports", "update:profile"] });
    for asker in [&ada, &admin] {
        assert_eq!(asker.get(&path(&ada.who)).await, expected, "{}", asker.who.email);
    }
    let all = admin.get(&path(&admin.who)).await["permissions"].as_array().unwrap().len();
    assert_eq!(all, 9, "administrators have all, those that were made later included");
    assert_eq!(grace.ask(Method::GET, &path(&ada.who), None).await.status, 403);

    let check = format!("{PERMISSIONS}/check");
    for (asker, person, permission, status, allowed) in [
        (&ada, &ada.who, "read:reports", 200, true),
        (&ada, &ada.who, "read:profile", 200, true),
        (&ada, &ada.who, "read:users", 200, false),
        (&ada, &ada.who, "no:such.thing", 200, false),
        (&ada, &ada.who, "READ:users", 422, false),
        (&ada, &ada.who, "%", 422, false),
        (&ada, &grace.who, "read:profile", 403, false),
        (&grace, &grace.who, "read:reports", 200, false),
        (&admin, &ada.who, "read:reports", 200, true),
        (&admin, &ada.who, "manage:roles", 200, false),
        (&admin, &admin.who, "manage:roles", 200, true),
        (&admin, &admin.who, "read:reports", 200, true),
    ] {
        let reply = asker.post(&check, json!({ "user_id": person.id, "permission": permission })).await;
        assert_eq!(reply.status, status, "{} {permission}: {}", asker.who.email, reply.text);
        if status == 200 {
            let expected = json!({ "allowed": allowed, "user_id": person.id, "permission": permission });
            assert_eq!(reply.json(), expected, "{}", asker.who.email);
        }
    }
    // The change takes effect at once, whatever roles tokens carry.
    let question = json!({ "user_id": ada.who.id, "permission": "read:reports" });
    admin.delete(&format!("{ROLES}/{editor}/permissions/{reports}")).await;
    assert_eq!(ada.post(&check, question.clone()).await.json()["allowed"], true, "by the other role");
    admin.delete(&format!("{}/{author}", of(&ada.who))).await;
    assert_eq!(ada.post(&check, question).await.json()["allowed"], false);
}

#[tokio::test]
async fn a_token_with_the_most_roles_is_within_the_gateways_limits() {
    let app = App::start().await;
    let admin = AdminClient::admin(&app).await;
    let email = format!("{}@{}.{}.com", "a".repeat(64), "b".repeat(63), "c".repeat(63));
    let ada = app.person(&email).await;
    let mut role_ids = Vec::new();
    for number in 0..=limits::HELD_ROLES {
        role_ids.push(admin.role(&format!("{:a<61}{number:03}", "role")).await);
    }
    let too_many = admin.put(&of(&ada), json!({ "role_ids": role_ids })).await;
    assert_eq!((too_many.status, too_many.code().as_str()), (409, "too_many"));
    let last = role_ids.pop().unwrap();
    assert_eq!(admin.put(&of(&ada), json!({ "role_ids": role_ids })).await.status, 200);
    let too_many = admin.post(&of(&ada), json!({ "role_id": last })).await;
    assert_eq!((too_many.status, too_many.code().as_str()), (409, "too_many"));
    assert_eq!(admin.post(&of(&ada), json!({ "role_id": role_ids[0] })).await.status, 200, "it has that one");
    let again = app.log_in(&email).await;
    assert_eq!(again.roles.len(), limits::HELD_ROLES);
    // The gateway's limits, from crates/token/src/limits.rs.
    assert!(again.access.len() < 8 * 1024, "{} bytes", again.access.len());
}

#[tokio::test]
async fn deleted_and_pending_accounts_have_no_roles() {
    let mut app = App::start().await;
    let admin = AdminClient::admin(&app).await;
    let who = admin.who.clone();
    let ada = app.person("ada@example.com").await;
    app.send(Service::Users, Method::DELETE, &format!("/api/v1/users/{}", ada.id), Some(&ada), None).await;
    app.restart(AUTH_ONLY).await;
    app.post("/api/v1/auth/register", json!({ "email": "half@example.com", "password": PASSWORD })).await;
    let pool = app.databases.open(Service::Auth).await;
    let half: String =
        sqlx::query_scalar("SELECT id FROM accounts WHERE email = 'half@example.com'").fetch_one(&pool).await.unwrap();
    pool.close().await;
    let admin = AdminClient { app: &app, who };
    for id in [&ada.id, &half] {
        let path = format!("/api/v1/auth/users/{id}/roles");
        for (method, path, body) in [
            (Method::GET, path.clone(), None),
            (Method::POST, path.clone(), Some(json!({ "role_id": ADMIN }))),
            (Method::PUT, path.clone(), Some(json!({ "role_ids": [ADMIN] }))),
            (Method::DELETE, format!("{path}/{USER}"), None),
            (Method::GET, format!("/api/v1/auth/users/{id}/permissions"), None),
            (Method::POST, format!("{PERMISSIONS}/check"), Some(json!({ "user_id": id, "permission": "read:users" }))),
        ] {
            assert_eq!(admin.ask(method.clone(), &path, body).await.status, 404, "{method} {path}");
        }
    }
}
