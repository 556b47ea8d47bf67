//! The request and the parsed answer of each call, one row per call.

use portcullis_client::{
    account::{AuthClient as _, Credentials, PasswordChange, Registration},
    admin::{
        AdminClient, AuditQuery, Bearer, NewUser, Page, PermissionDraft, RoleDraft, UserDraft, UserPatch, UserQuery,
    },
    error::ClientError,
    profile::{ProfileChange, ProfileFields},
};
use serde_json::{Value, json};
use time::macros::datetime;
use uuid::Uuid;

use crate::fake::{Asked, Fake, Reply, USER_ID, answer, secret, tokens, user};

const ROLE_ID: &str = "00000000-0000-7000-8000-000000000001";
const PERMISSION_ID: &str = "00000000-0000-7000-8000-000000000101";

fn ada() -> ProfileFields {
    ProfileFields { first_name: "Ada".into(), ..ProfileFields::default() }
}

/// Adds the fields of a profile to a body.
fn with_profile(mut body: Value, profile: ProfileFields) -> Value {
    body.as_object_mut().unwrap().extend(json!(profile).as_object().unwrap().clone());
    body
}

fn role() -> Value {
    json!({ "id": ROLE_ID, "name": "admin", "description": "May do everything", "built_in": true,
        "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z" })
}

fn permission() -> Value {
    json!({ "id": PERMISSION_ID, "name": "read:users", "resource": "users", "action": "read", "built_in": false })
}

/// Answers like the services.
fn serve(asked: &Asked) -> Reply {
    let path = asked.target.split('?').next().unwrap();
    let pagination = json!({ "limit": 2, "offset": 4, "total": 9 });
    let method = asked.method.as_str();
    if method == "DELETE" {
        return crate::fake::reply(204, &[], "");
    }
    let body = match path.trim_start_matches("/api/v1/") {
        "auth/register" => json!({ "user": user(), "message": "Registration successful" }),
        "auth/login" | "auth/refresh" => tokens("access", "refresh", 900),
        "auth/validate-token" => json!({ "valid": true, "user": user(), "expires_at": "2027-01-15T08:00:00Z" }),
        "auth/me" => json!({ "user": user() }),
        "auth/sessions" => json!({ "sessions": [
            { "id": USER_ID, "created_at": "2026-01-01T00:00:00Z", "user_agent": "curl", "current": true },
            { "id": USER_ID },
        ] }),
        "auth/roles" if method == "GET" => json!({ "roles": [role()], "pagination": pagination }),
        "auth/permissions" if method == "GET" => json!({ "permissions": [permission()], "pagination": pagination }),
        "auth/permissions/check" => json!({ "allowed": true, "user_id": USER_ID, "permission": "read:users" }),
        "auth/keys/rotate" => json!({ "kid": "new", "previous_kid": "old" }),
        "auth/audit" => json!({ "events": [{ "event_type": "login", "result": "success", "user_id": USER_ID,
            "operation": "/api/v1/auth/login", "detail": null, "timestamp": "2026-01-01T00:00:00Z" }], "next": "c2" }),
        "users" if method == "GET" => json!({ "data": [user()], "pagination": pagination }),
        "users" => json!({ "data": user() }),
        path if path.starts_with("users/") => {
            let headers = [("content-type", "application/json"), ("etag", "\"1\"")];
            return crate::fake::reply(200, &headers, json!({ "data": user() }).to_string());
        }
        path if path.starts_with("auth/users/") && path.ends_with("/permissions") => {
            json!({ "user_id": USER_ID, "permissions": ["read:users"] })
        }
        path if path.starts_with("auth/users/") => json!({ "user_id": USER_ID, "roles": [role()] }),
        path if path.starts_with("auth/roles/") && path.ends_with("/permissions") && method == "GET" => {
            json!({ "permissions": [permission()], "pagination": pagination })
        }
        path if path.starts_with("auth/permissions") || path.ends_with("/permissions") => {
            json!({ "permission": permission() })
        }
        path if path.starts_with("auth/roles") => json!({ "role": role() }),
        _ => json!({ "message": "done" }),
    };
    answer(200, &body)
}

/// Makes a call and returns its request: method and target, authorization, body.
macro_rules! sent {
    ($fake:ident, $call:expr) => {{
        $call.await.expect(stringify!($call));
        let asked = $fake.asked().pop().unwrap();
        (format!("{} {}", asked.method, asked.target), asked.header("authorization").map(str::to_owned), asked.json())
    }};
}

#[tokio::test]
async fn the_calls_of_a_program_for_itself_and_its_users() {
    let fake = Fake::start(|asked, _| serve(asked)).await;
    let client = fake.client();
    let (token, id): (_, Uuid) = (secret("access"), USER_ID.parse().unwrap());
    let bearer = Some("Bearer access".to_owned());
    let registration = Registration::new("ada@example.com", secret("password")).with_profile(ada());
    let change = PasswordChange { current_password: secret("old"), new_password: secret("new") };
    for (found, line, authorization, body) in [
        (
            sent!(fake, client.register(&registration)),
            "POST /api/v1/auth/register",
            &None,
            with_profile(json!({ "email": "ada@example.com", "password": "password" }), ada()),
        ),
        (
            sent!(fake, client.login(&Credentials::new("ada@example.com", secret("password")))),
            "POST /api/v1/auth/login",
            &None,
            json!({ "email": "ada@example.com", "password": "password" }),
        ),
        (
            sent!(fake, client.refresh(&secret("refresh"))),
            "POST /api/v1/auth/refresh",
            &None,
            json!({ "refresh_token": "refresh" }),
        ),
        (sent!(fake, client.validate(&token)), "GET /api/v1/auth/validate-token", &bearer, json!(null)),
        (sent!(fake, client.me(&token)), "GET /api/v1/auth/me", &bearer, json!(null)),
        (sent!(fake, client.user(&token, id)), &*format!("GET /api/v1/users/{id}"), &bearer, json!(null)),
        (
            sent!(fake, client.change_password(&token, &change)),
            "POST /api/v1/auth/password",
            &bearer,
            json!({ "current_password": "old", "new_password": "new" }),
        ),
        (sent!(fake, client.sessions(&token)), "GET /api/v1/auth/sessions", &bearer, json!(null)),
        (
            sent!(fake, client.end_session(&token, id)),
            &*format!("DELETE /api/v1/auth/sessions/{id}"),
            &bearer,
            json!(null),
        ),
        (sent!(fake, client.logout(&token, None)), "POST /api/v1/auth/logout", &bearer, json!(null)),
        (
            sent!(fake, client.logout(&token, Some(&secret("refresh")))),
            "POST /api/v1/auth/logout",
            &bearer,
            json!({ "refresh_token": "refresh" }),
        ),
    ] {
        assert_eq!(found, (line.to_owned(), authorization.clone(), body));
    }
}

#[tokio::test]
async fn the_calls_of_administrators() {
    let fake = Fake::start(|asked, _| serve(asked)).await;
    let client = fake.client();
    let admin = Bearer::new(&client, secret("access"));
    let admin: &dyn AdminClient = &admin;
    let [user, role, permission]: [Uuid; 3] = [USER_ID, ROLE_ID, PERMISSION_ID].map(|id| id.parse().unwrap());
    let page = Page { limit: Some(2), offset: Some(4) };
    let role_draft = RoleDraft { name: "editor".into(), description: "Edits".into() };
    let permission_draft =
        PermissionDraft { name: "read:users".into(), resource: "users".into(), action: "read".into() };
    let new_user = NewUser {
        email: "ada@example.com".into(),
        password: secret("password"),
        profile: ProfileFields::default(),
        roles: vec!["admin".into()],
    };
    let patch = UserPatch {
        profile: ProfileChange { first_name: Some("Ada".into()), ..ProfileChange::default() },
        ..UserPatch::default()
    };
    let user_draft = UserDraft { email: "ada@example.com".into(), profile: ada(), ..UserDraft::default() };
    let confirmed_patch = UserPatch {
        email: Some("eve@example.com".into()),
        current_password: Some(secret("old")),
        ..UserPatch::default()
    };
    let confirmed_draft = UserDraft { current_password: Some(secret("old")), ..user_draft.clone() };
    let jump = UserQuery { limit: Some(2), offset: Some(4), ..UserQuery::default() };
    let searched =
        UserQuery { email: Some("ada+x@".into()), limit: Some(2), cursor: Some("a b".into()), ..UserQuery::default() };
    let query = AuditQuery {
        event_type: Some("login".into()),
        from: Some(datetime!(2026-01-01 00:00 UTC)),
        cursor: Some("a b".into()),
        ..AuditQuery::default()
    };
    let every_filter = AuditQuery {
        result: Some("denied".into()),
        user_id: Some(user),
        entity_id: Some("x&y".into()),
        to: Some(datetime!(2026-01-02 00:00 UTC)),
        limit: Some(100),
        ..AuditQuery::default()
    };
    let auth = "/api/v1/auth";
    for (found, line, body) in [
        (sent!(fake, admin.roles(page)), format!("GET {auth}/roles?limit=2&offset=4"), json!(null)),
        (sent!(fake, admin.roles(Page::default())), format!("GET {auth}/roles"), json!(null)),
        (sent!(fake, admin.role(role)), format!("GET {auth}/roles/{role}"), json!(null)),
        (sent!(fake, admin.create_role(&role_draft)), format!("POST {auth}/roles"), json!(role_draft)),
        (sent!(fake, admin.update_role(role, &role_draft)), format!("PUT {auth}/roles/{role}"), json!(role_draft)),
        (sent!(fake, admin.delete_role(role)), format!("DELETE {auth}/roles/{role}"), json!(null)),
        (
            sent!(fake, admin.role_permissions(role, page)),
            format!("GET {auth}/roles/{role}/permissions?limit=2&offset=4"),
            json!(null),
        ),
        (
            sent!(fake, admin.grant_permission(role, permission)),
            format!("POST {auth}/roles/{role}/permissions"),
            json!({ "permission_id": permission }),
        ),
        (
            sent!(fake, admin.revoke_permission(role, permission)),
            format!("DELETE {auth}/roles/{role}/permissions/{permission}"),
            json!(null),
        ),
        (sent!(fake, admin.permissions(page)), format!("GET {auth}/permissions?limit=2&offset=4"), json!(null)),
        (sent!(fake, admin.permission(permission)), format!("GET {auth}/permissions/{permission}"), json!(null)),
        (
            sent!(fake, admin.create_permission(&permission_draft)),
            format!("POST {auth}/permissions"),
            json!(permission_draft),
        ),
        (
            sent!(fake, admin.update_permission(permission, &permission_draft)),
            format!("PUT {auth}/permissions/{permission}"),
            json!(permission_draft),
        ),
        (
            sent!(fake, admin.delete_permission(permission)),
            format!("DELETE {auth}/permissions/{permission}"),
            json!(null),
        ),
        (sent!(fake, admin.user_roles(user)), format!("GET {auth}/users/{user}/roles"), json!(null)),
        (
            sent!(fake, admin.assign_role(user, role)),
            format!("POST {auth}/users/{user}/roles"),
            json!({ "role_id": role }),
        ),
        (
            sent!(fake, admin.set_roles(user, &[role])),
            format!("PUT {auth}/users/{user}/roles"),
            json!({ "role_ids": [role] }),
        ),
        (sent!(fake, admin.remove_role(user, role)), format!("DELETE {auth}/users/{user}/roles/{role}"), json!(null)),
        (sent!(fake, admin.user_permissions(user)), format!("GET {auth}/users/{user}/permissions"), json!(null)),
        (
            sent!(fake, admin.is_allowed(user, "read:users")),
            format!("POST {auth}/permissions/check"),
            json!({ "user_id": user, "permission": "read:users" }),
        ),
        (sent!(fake, admin.users(&jump)), "GET /api/v1/users?limit=2&offset=4".to_owned(), json!(null)),
        (
            sent!(fake, admin.users(&searched)),
            "GET /api/v1/users?limit=2&cursor=a%20b&email=ada%2Bx%40".to_owned(),
            json!(null),
        ),
        (sent!(fake, admin.users(&UserQuery::default())), "GET /api/v1/users".to_owned(), json!(null)),
        (sent!(fake, admin.read_user(user)), format!("GET /api/v1/users/{user}"), json!(null)),
        (
            sent!(fake, admin.replace_user(user, &user_draft, None)),
            format!("PUT /api/v1/users/{user}"),
            with_profile(json!({ "email": "ada@example.com" }), ada()),
        ),
        (
            sent!(fake, admin.audit(&every_filter)),
            format!(
                "GET {auth}/audit?result=denied&user_id={user}&entity_id=x%26y&to=2026-01-02T00%3A00%3A00Z&limit=100"
            ),
            json!(null),
        ),
        (
            sent!(fake, admin.create_user(&new_user)),
            "POST /api/v1/users".to_owned(),
            with_profile(
                json!({ "email": "ada@example.com", "password": "password", "roles": ["admin"] }),
                ProfileFields::default(),
            ),
        ),
        (
            sent!(fake, admin.update_user(user, &patch, None)),
            format!("PATCH /api/v1/users/{user}"),
            json!({ "first_name": "Ada" }),
        ),
        (
            sent!(fake, admin.update_user(user, &confirmed_patch, None)),
            format!("PATCH /api/v1/users/{user}"),
            json!({ "email": "eve@example.com", "current_password": "old" }),
        ),
        (
            sent!(fake, admin.replace_user(user, &confirmed_draft, None)),
            format!("PUT /api/v1/users/{user}"),
            with_profile(json!({ "email": "ada@example.com", "current_password": "old" }), ada()),
        ),
        (
            sent!(fake, admin.delete_own_account(user, &secret("old"), None)),
            format!("DELETE /api/v1/users/{user}"),
            json!({ "current_password": "old" }),
        ),
        (sent!(fake, admin.delete_user(user, None)), format!("DELETE /api/v1/users/{user}"), json!(null)),
        (
            sent!(fake, admin.audit(&query)),
            format!("GET {auth}/audit?event_type=login&from=2026-01-01T00%3A00%3A00Z&cursor=a%20b"),
            json!(null),
        ),
        (sent!(fake, admin.rotate_keys()), format!("POST {auth}/keys/rotate"), json!(null)),
    ] {
        assert_eq!(found, (line, Some("Bearer access".to_owned()), body));
    }
}

#[tokio::test]
async fn answers_are_typed() {
    let fake = Fake::start(|asked, _| serve(asked)).await;
    let client = fake.client();
    let admin = Bearer::new(&client, secret("access"));
    let token = secret("access");
    let set = client.login(&Credentials::new("ada@example.com", secret("password"))).await.unwrap();
    assert_eq!(
        (set.access_token.expose(), set.expires_in, set.user.profile.first_name.as_str()),
        ("access", 900, "Ada")
    );
    let validation = client.validate(&token).await.unwrap();
    assert_eq!(validation.expires_at, datetime!(2027-01-15 08:00 UTC));
    let sessions = client.sessions(&token).await.unwrap();
    assert_eq!((sessions[0].current, sessions[1].current, sessions[1].created_at), (true, false, None));
    let users = admin.users(&UserQuery::default()).await.unwrap();
    assert_eq!((users.entries.len(), users.pagination.total), (1, 9));
    assert!(admin.roles(Page::default()).await.unwrap().entries[0].built_in);
    assert!(admin.is_allowed(USER_ID.parse().unwrap(), "read:users").await.unwrap());
    let audit = admin.audit(&AuditQuery::default()).await.unwrap();
    assert_eq!((audit.events[0].event_type.as_str(), audit.next.as_deref()), ("login", Some("c2")));
}

#[tokio::test]
async fn an_address_is_verified_only_where_the_service_says_so() {
    for (said, verified) in [(None, false), (Some(false), false), (Some(true), true)] {
        let mut user = user();
        if let Some(said) = said {
            user["email_verified"] = json!(said);
        }
        let fake = Fake::start(move |_, _| answer(200, &json!({ "user": user }))).await;
        assert_eq!(fake.client().me(&secret("access")).await.unwrap().email_verified, verified, "{said:?}");
    }
}

#[tokio::test]
async fn a_change_prints_and_serializes_without_its_password() {
    let patch = UserPatch { current_password: Some(secret("hidden")), ..UserPatch::default() };
    let draft = UserDraft { current_password: Some(secret("hidden")), ..UserDraft::default() };
    for text in [format!("{patch:?} {draft:?}"), json!([patch, draft]).to_string()] {
        assert!(!text.contains("hidden"), "{text}");
    }
}

#[tokio::test]
async fn a_token_that_says_invalid_in_a_success_is_not_taken_for_valid() {
    let body = json!({ "valid": false, "user": user(), "expires_at": "2027-01-15T08:00:00Z" });
    let fake = Fake::start(move |_, _| answer(200, &body)).await;
    let error = fake.client().validate(&secret("access")).await.unwrap_err();
    assert!(matches!(error, ClientError::Malformed { .. }));
}

#[tokio::test]
async fn a_token_with_a_line_break_is_not_sent() {
    let fake = Fake::start(|asked, _| serve(asked)).await;
    let error = fake.client().me(&secret("access\r\nX-User-Id: 1")).await.unwrap_err();
    assert!(matches!(error, ClientError::Invalid(_)), "{error:?}");
    assert_eq!(fake.count(), 0);
}
