//! `GET /api/v1/users`.

use std::collections::BTreeSet;

use portcullis_origin::limits;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    routes::users::delete::as_admin,
    support::{App, Person, Reply, Service},
};

pub(crate) const USERS: &str = "/api/v1/users";

async fn list(app: &App, who: &Person, query: &str) -> Reply {
    app.get(Service::Users, &format!("{USERS}{query}"), who).await
}

fn emails(reply: &Reply) -> Vec<String> {
    let body = reply.json();
    body["data"].as_array().unwrap().iter().map(|user| user["email"].as_str().unwrap().to_owned()).collect()
}

/// Adds profiles directly to the database, created one millisecond after the other, except that each
/// third is as old as the one before.
async fn seed(app: &App, from: usize, count: usize) {
    let pool = app.databases.open(Service::Users).await;
    for number in from..from + count {
        sqlx::query(
            "INSERT INTO profiles (id, email, first_name, last_name, roles, created_at, updated_at, version) \
             VALUES ($1, $2, '', '', '[\"user\"]', $3, $3, 1)",
        )
        .bind(format!("01890000-0000-7000-8000-{number:012}"))
        .bind(format!("user{number:03}@example.com"))
        .bind(1000 + i64::try_from(number - usize::from(number % 3 == 2)).unwrap())
        .execute(&pool)
        .await
        .unwrap();
    }
    pool.close().await;
}

async fn walk(app: &App, who: &Person, query: &str, limit: usize) -> Vec<String> {
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = list(app, who, &format!("?limit={limit}{query}{cursor}")).await;
        assert_eq!(page.status, 200, "{}", page.text);
        let found = emails(&page);
        assert!(found.len() <= limit);
        seen.extend(found);
        match page.json()["pagination"]["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return seen,
        }
    }
}

#[tokio::test]
async fn pagination_by_cursor_returns_each_user_once() {
    let app = App::start().await;
    let admin = app.admin("root@example.com").await;
    seed(&app, 0, 20).await;
    let all = emails(&list(&app, &admin, "?limit=100").await);
    assert_eq!(all.len(), 21);
    for limit in [1, 2, 7, 20, 21, 22, 100] {
        assert_eq!(walk(&app, &admin, "", limit).await, all, "{limit}");
        assert_eq!(walk(&app, &admin, "&email=user", limit).await, all[..20], "{limit}");
    }
    let first = list(&app, &admin, "?limit=5").await.json()["pagination"].clone();
    assert_eq!((&first["limit"], &first["offset"], &first["total"]), (&json!(5), &json!(0), &json!(21)));
    let next = first["next"].as_str().unwrap();
    let second = list(&app, &admin, &format!("?limit=5&cursor={next}")).await.json()["pagination"].clone();
    assert_eq!((&second["offset"], &second["total"]), (&Value::Null, &json!(21)));
    assert!(second.get("offset").is_none(), "a cursor has no number");
    let last = list(&app, &admin, "?limit=5&offset=20").await.json()["pagination"].clone();
    assert_eq!((&last["offset"], &last["next"]), (&json!(20), &Value::Null));
}

#[tokio::test]
async fn concurrent_changes_neither_repeat_nor_skip_users() {
    let app = App::start().await;
    let admin = app.admin("root@example.com").await;
    seed(&app, 10, 10).await;
    for query in ["", "&email=user"] {
        let page = list(&app, &admin, &format!("?limit=4{query}")).await;
        let mut seen = emails(&page);
        let next = page.json()["pagination"]["next"].as_str().unwrap().to_owned();
        // Before, at and after the position.
        seed(&app, if query.is_empty() { 0 } else { 5 }, 5).await;
        let pool = app.databases.open(Service::Users).await;
        sqlx::query("DELETE FROM profiles WHERE email IN ('user013@example.com', 'user011@example.com')")
            .execute(&pool)
            .await
            .unwrap();
        pool.close().await;
        let rest = list(&app, &admin, &format!("?limit=100{query}&cursor={next}")).await;
        seen.extend(emails(&rest));
        let once: BTreeSet<&String> = seen.iter().collect();
        assert_eq!(once.len(), seen.len(), "nobody twice");
        for number in 14..20 {
            assert!(seen.contains(&format!("user{number:03}@example.com")), "{number}");
        }
    }
}

#[tokio::test]
async fn a_search_finds_addresses_with_the_prefix_only() {
    let app = App::start().await;
    let admin = app.admin("root@example.com").await;
    let pool = app.databases.open(Service::Users).await;
    let found = ["a_b@example.com", "ada+x@example.com", "ada@example.com", "adam@example.com", "ada~@example.com"];
    for (number, email) in found.iter().chain(&["axb@example.com", "bada@example.com", "z%@example.com"]).enumerate() {
        sqlx::query("INSERT INTO profiles (id, email, first_name, last_name, roles, created_at, updated_at) VALUES ($1, $2, '', '', '[]', 1, 1)")
            .bind(format!("01890000-0000-7000-8000-{number:012}"))
            .bind(*email)
            .execute(&pool)
            .await
            .unwrap();
    }
    pool.close().await;
    for (query, expected) in [
        ("ada", &found[1..]),
        ("ADA", &found[1..]),
        ("%20ada", &found[1..]),
        ("ada@", &found[2..3]),
        ("ada@example.com", &found[2..3]),
        ("ada~", &found[4..5]),
        ("ada%2B", &found[1..2]),
        ("a_", &found[..1]),
        ("z%25", &["z%@example.com"]),
        ("%25", &[]),
        ("ad%25", &[]),
        ("a%20OR%201=1", &[]),
        ("nobody", &[]),
    ] {
        let reply = list(&app, &admin, &format!("?email={query}")).await;
        if query.contains("%20OR") {
            assert_eq!(reply.code(), "search_invalid", "an address has no blank");
            continue;
        }
        assert_eq!(emails(&reply), expected, "{query}");
        assert_eq!(reply.json()["pagination"]["total"], expected.len(), "{query}");
    }
    assert_eq!(list(&app, &admin, "?email=").await.json()["pagination"]["total"], 9, "no search");
}

#[tokio::test]
async fn an_invalid_page_is_400() {
    let app = App::start().await;
    let admin = app.admin("root@example.com").await;
    seed(&app, 0, 3).await;
    let cursor = |query: &str| {
        let (app, admin, query) = (&app, &admin, query.to_owned());
        async move { list(app, admin, &query).await.json()["pagination"]["next"].as_str().unwrap().to_owned() }
    };
    let (created, addressed) = (cursor("?limit=1").await, cursor("?limit=1&email=u").await);
    let encode = |text: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
    };
    let long = "x".repeat(limits::EMAIL_BYTES + 1);
    for (query, code) in [
        (format!("?cursor={created}&offset=0"), "page_invalid"),
        ("?limit=0".to_owned(), "page_invalid"),
        ("?limit=1&limit=2".to_owned(), "page_invalid"),
        (format!("?cursor={addressed}"), "cursor_invalid"),
        (format!("?cursor={created}&email=u"), "cursor_invalid"),
        ("?cursor=".to_owned(), "cursor_invalid"),
        ("?cursor=%00".to_owned(), "cursor_invalid"),
        (format!("?cursor={created}x"), "cursor_invalid"),
        (format!("?cursor={}", encode("[1,\"x\"]")), "cursor_invalid"),
        (format!("?cursor={}", encode("[1]")), "cursor_invalid"),
        (format!("?cursor={}", encode("{}")), "cursor_invalid"),
        (
            format!("?email=u&cursor={}", encode("[\"\\u0000\",\"01890000-0000-7000-8000-000000000001\"]")),
            "cursor_invalid",
        ),
        ("?email=a%00".to_owned(), "search_invalid"),
        ("?email=%D0%B0da".to_owned(), "search_invalid"),
        (format!("?email={long}"), "search_invalid"),
    ] {
        let reply = list(&app, &admin, &query).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, code), "{query}");
    }
}

#[tokio::test]
async fn the_internal_list_has_the_same_pages() {
    let app = App::start().await;
    seed(&app, 0, 3).await;
    let token = app.service_token(Service::Users).await;
    let ask = |query: &str| {
        let url = app.url(Service::Users, &format!("/api/v1/internal/users{query}"));
        app.send_raw(app.internal(Service::Users, Method::GET, &url, &token))
    };
    let first = ask("?limit=2").await;
    let next = first.json()["pagination"]["next"].as_str().unwrap().to_owned();
    assert_eq!(emails(&ask(&format!("?limit=2&cursor={next}")).await), ["user002@example.com"]);
}

#[tokio::test]
async fn the_list_is_for_administrators_in_pages_of_up_to_100() {
    let app = App::start().await;
    let ada = app.person("ada@example.com").await;
    for number in 0..11 {
        app.register(&format!("user{number}@example.com")).await;
    }
    let admin = as_admin(&ada);
    assert_eq!(app.get(Service::Users, "/api/v1/users", &ada).await.status, 403);
    for (query, rows) in [("", 10), ("?limit=100", 12), ("?limit=5&offset=10", 2), ("?offset=100", 0), ("?limit=1", 1)]
    {
        let reply = app.get(Service::Users, &format!("/api/v1/users{query}"), &admin).await;
        assert_eq!(reply.status, 200, "{query}");
        let body = reply.json();
        assert_eq!(body["data"].as_array().unwrap().len(), rows, "{query}");
        assert_eq!(body["pagination"]["total"], 12, "{query}");
    }
    for query in ["?limit=0", "?limit=101", "?limit=-1", "?limit=x", "?offset=-1", "?limit=99999999999999999999"] {
        let reply = app.get(Service::Users, &format!("/api/v1/users{query}"), &admin).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "page_invalid"), "{query}");
    }
}
