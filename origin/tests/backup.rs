//! Backups of both databases while they are written to, their loss, and the state after the restore.
//! The steps are those of the documentation.
//!
//! On PostgreSQL the tests use `pg_dump` and `pg_restore` if this machine has versions that fit the
//! server. Otherwise a transaction with one snapshot copies every table, like `pg_dump`.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use portcullis_origin::store::{Database, Schema};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _};

use crate::support::{App, BOTH, Databases, Person, Service, run};

const MASTER: [u8; 32] = [1; 32];

async fn execute(connection: &mut AnyConnection, text: String) {
    sqlx::query(AssertSqlSafe(text.clone()))
        .execute(connection)
        .await
        .unwrap_or_else(|error| panic!("{text}: {error}"));
}

async fn texts(connection: &mut AnyConnection, text: String) -> Vec<String> {
    sqlx::query_scalar(AssertSqlSafe(text)).fetch_all(connection).await.unwrap()
}

async fn connect(server: &str) -> AnyConnection {
    sqlx::any::install_default_drivers();
    AnyConnection::connect(server).await.unwrap()
}

/// Returns whether there is a `pg_dump` for this server.
async fn has_pg_dump(server: &str) -> bool {
    let Ok(result) = Command::new("pg_dump").arg("--version").output() else { return false };
    let result = String::from_utf8(result.stdout).unwrap();
    let major: i64 = result.split_whitespace().find_map(|word| word.split('.').next()?.parse().ok()).unwrap_or(0);
    let version = texts(&mut connect(server).await, "SELECT current_setting('server_version_num')".to_owned()).await;
    version[0].parse::<i64>().unwrap() / 10_000 <= major
}

async fn tool(name: &'static str, arguments: Vec<String>) {
    let output = tokio::task::spawn_blocking(move || Command::new(name).args(arguments).output().unwrap());
    let output = output.await.unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
}

async fn tables(connection: &mut AnyConnection, schema: &str) -> Vec<String> {
    texts(connection, format!("SELECT tablename::text FROM pg_tables WHERE schemaname = '{schema}'")).await
}

/// Backs up one service's database into a directory.
async fn back_up(databases: &Databases, service: Service, folder: &Path) {
    let Some((server, schema)) = databases.schema(service) else {
        let to = folder.to_str().unwrap();
        let result = run(databases, &["backup", service.name(), "--to", to, "--json"], "").await.document();
        let file = folder.canonicalize().unwrap().join(format!("{}.db", service.name()));
        assert_eq!(result, json!({ "files": [file.to_str().unwrap()] }));
        return;
    };
    if has_pg_dump(&server).await {
        let file = folder.join(format!("{}.dump", service.name())).display().to_string();
        let [format, schema] = ["--format=custom".to_owned(), format!("--schema={schema}")];
        return tool("pg_dump", vec![format, schema, "--file".to_owned(), file, "--dbname".to_owned(), server]).await;
    }
    let mut connection = connect(&server).await;
    let copy = copy_of(&schema, folder);
    execute(&mut connection, format!("CREATE SCHEMA {copy}")).await;
    execute(&mut connection, "BEGIN ISOLATION LEVEL REPEATABLE READ".to_owned()).await;
    for table in tables(&mut connection, &schema).await {
        execute(&mut connection, format!("CREATE TABLE {copy}.{table} AS TABLE {schema}.{table}")).await;
    }
    execute(&mut connection, "COMMIT".to_owned()).await;
}

/// Returns the file of the copy without `pg_dump`; each backup has its own.
fn copy_of(schema: &str, folder: &Path) -> String {
    format!("{schema}_{}", folder.file_name().unwrap().to_str().unwrap())
}

/// Destroys a database.
async fn destroy(databases: &Databases, service: Service) {
    if let Some((server, schema)) = databases.schema(service) {
        return execute(&mut connect(&server).await, format!("DROP SCHEMA {schema} CASCADE")).await;
    }
    for rest in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(databases.folder.path().join(format!("{}.db{rest}", service.name())));
    }
}

/// Restores a backup.
async fn restore(databases: &Databases, service: Service, folder: &Path) {
    let Some((server, schema)) = databases.schema(service) else {
        let file = format!("{}.db", service.name());
        std::fs::copy(folder.join(&file), databases.folder.path().join(file)).unwrap();
        return;
    };
    if has_pg_dump(&server).await {
        let file = folder.join(format!("{}.dump", service.name())).display().to_string();
        return tool("pg_restore", vec!["--exit-on-error".to_owned(), "--dbname".to_owned(), server, file]).await;
    }
    let mut connection = connect(&server).await;
    execute(&mut connection, format!("CREATE SCHEMA {schema}")).await;
    let kind = if service == Service::Auth { Schema::Auth } else { Schema::Users };
    Database::open(&databases.url(service), kind).await.unwrap().close().await;
    // Like pg_restore: rows first, without checks of foreign keys.
    execute(&mut connection, "SET session_replication_role = replica".to_owned()).await;
    let copy = copy_of(&schema, folder);
    for table in tables(&mut connection, &schema).await {
        execute(&mut connection, format!("DELETE FROM {schema}.{table}")).await;
        let columns = format!(
            "SELECT string_agg(column_name::text, ', ') FROM information_schema.columns \
             WHERE table_schema = '{schema}' AND table_name = '{table}'"
        );
        let columns = texts(&mut connection, columns).await.concat();
        let rows = format!("({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {copy}.{table}");
        execute(&mut connection, format!("INSERT INTO {schema}.{table} {rows}")).await;
    }
    let counted = "SELECT table_name::text FROM information_schema.columns WHERE is_identity = 'YES'";
    for table in texts(&mut connection, format!("{counted} AND table_schema = '{schema}'")).await {
        let next = format!("(SELECT coalesce(max(id), 0) + 1 FROM {schema}.{table})");
        let sequence = format!("pg_get_serial_sequence('{schema}.{table}', 'id')");
        execute(&mut connection, format!("SELECT setval({sequence}, {next}, false)")).await;
    }
}

/// Registers, renames and refreshes until it is stopped. Counts what was acknowledged.
async fn write(app: &App, stop: &AtomicBool, count: &AtomicUsize) {
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        let person = app.person(&format!("writer-{turn}@example.com")).await;
        let path = format!("/api/v1/users/{}", person.id);
        let change = Some(json!({ "first_name": format!("Turn {turn}") }));
        let renamed = app.send(Service::Users, Method::PATCH, &path, Some(&person), change).await;
        assert_eq!(renamed.status, 200, "{}", renamed.text);
        assert_eq!(app.refresh(&person.refresh).await.status, 200);
        count.fetch_add(1, Ordering::Relaxed);
    }
}

async fn until_more(count: &AtomicUsize, than: usize) {
    while count.load(Ordering::Relaxed) <= than {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A backup during which something was written.
async fn back_up_in_use(app: &App, service: Service, count: &AtomicUsize) -> PathBuf {
    for turn in 0..100 {
        let folder = app.databases.folder.path().join(format!("backup{turn}_{}", service.name()));
        std::fs::create_dir(&folder).unwrap();
        let before = count.load(Ordering::Relaxed);
        back_up(&app.databases, service, &folder).await;
        if count.load(Ordering::Relaxed) > before {
            return folder;
        }
    }
    panic!("nothing was written meanwhile");
}

async fn kids(app: &App) -> Value {
    let set = app.send_raw(app.http.get(app.url(Service::Auth, "/.well-known/jwks.json"))).await.json();
    set["keys"].as_array().unwrap().iter().map(|key| key["kid"].clone()).collect()
}

async fn rename(app: &App, person: &Person, name: &str) {
    let path = format!("/api/v1/users/{}", person.id);
    let reply = app.send(Service::Users, Method::PATCH, &path, Some(person), Some(json!({ "first_name": name }))).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
}

async fn first_name(app: &App, person: &Person) -> (u16, Value) {
    let reply = app.get(Service::Users, &format!("/api/v1/users/{}", person.id), person).await;
    let name = if reply.status == 200 { reply.json()["data"]["first_name"].clone() } else { Value::Null };
    (reply.status, name)
}

/// The users before the backups, and the changes between the two backups.
struct Story {
    admin: Person,
    ada: Person,
    renamed: Person,
    deleted: Person,
    between: Option<Person>,
    /// The administrator's refresh token from after both backups.
    renewed: String,
}

/// Backs up both databases in an order, with changes in between, destroys them, and restores them.
async fn lose_and_restore(app: &mut App, order: [Service; 2], story: &mut Story) {
    let (stop, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    let asking: &App = app;
    let backing_up = async {
        until_more(&count, 0).await;
        let first = back_up_in_use(asking, order[0], &count).await;
        story.between = Some(asking.person("between@example.com").await);
        rename(asking, &story.renamed, "Later").await;
        let path = format!("/api/v1/users/{}", story.deleted.id);
        let gone = asking.send(Service::Users, Method::DELETE, &path, Some(&story.deleted), None).await;
        assert_eq!(gone.status, 204, "{}", gone.text);
        until_more(&count, count.load(Ordering::Relaxed)).await;
        let second = back_up_in_use(asking, order[1], &count).await;
        asking.person("late@example.com").await;
        let renewed = asking.refresh(&story.admin.refresh).await.json();
        story.renewed = renewed["refresh_token"].as_str().unwrap().to_owned();
        stop.store(true, Ordering::Relaxed);
        [first, second]
    };
    let (folders, ()) = tokio::join!(backing_up, write(asking, &stop, &count));
    app.stop().await;
    for service in order {
        destroy(&app.databases, service).await;
    }
    for (service, folder) in order.into_iter().zip(&folders) {
        restore(&app.databases, service, folder).await;
    }
    let result = run(&app.databases, &["reconcile", "--json"], "").await.document();
    let number = |name: &str| result[name].as_u64().unwrap();
    assert!(number("accounts") >= 4 && number("stale") >= 2 && number("orphaned") >= 1, "{result}");
    app.restart_with(BOTH, MASTER).await.unwrap();
    app.until_synchronised().await;
    let again = run(&app.databases, &["reconcile", "--json"], "").await.document();
    assert_eq!((&again["stale"], &again["orphaned"]), (&json!(0), &json!(0)), "{again}");
}

async fn restored_in(order: [Service; 2]) -> (App, Story) {
    let mut app = App::start().await;
    let admin = app.admin("root@example.com").await;
    let role = app
        .send(Service::Auth, Method::POST, "/api/v1/auth/roles", Some(&admin), Some(json!({ "name": "reader" })))
        .await;
    assert_eq!(role.status, 201, "{}", role.text);
    let ada = app.person("ada@example.com").await;
    let path = format!("/api/v1/auth/users/{}/roles", ada.id);
    let body = json!({ "role_id": role.json()["role"]["id"] });
    let granted = app.send(Service::Auth, Method::POST, &path, Some(&admin), Some(body)).await;
    assert!(granted.status < 300, "{}", granted.text);
    let ada = app.log_in(&ada.email).await;
    let mut story = Story {
        admin,
        ada,
        renamed: app.person("renamed@example.com").await,
        deleted: app.person("deleted@example.com").await,
        between: None,
        renewed: String::new(),
    };
    let rotated = app.send(Service::Auth, Method::POST, "/api/v1/auth/keys/rotate", Some(&story.admin), None).await;
    assert!(rotated.status < 300, "{}", rotated.text);
    let keys = kids(&app).await;
    assert_eq!(keys.as_array().unwrap().len(), 2);
    lose_and_restore(&mut app, order, &mut story).await;

    assert_eq!(kids(&app).await, keys);
    let me = app.get(Service::Auth, "/api/v1/auth/me", &story.ada).await;
    assert_eq!(me.status, 200, "a token of before is good: {}", me.text);
    let refreshed = app.refresh(&story.ada.refresh).await;
    assert_eq!(refreshed.status, 200, "a session of before goes on: {}", refreshed.text);
    assert_eq!(app.refresh(&story.renewed).await.status, 401, "nobody has a copy of the later token");
    assert_eq!(app.log_in("ada@example.com").await.roles, ["reader", "user"]);
    let root = app.log_in("root@example.com").await;
    assert_eq!(root.roles, ["admin", "user"]);
    let events = app.get(Service::Auth, "/api/v1/auth/audit?event_type=databases.reconcile", &root).await.json();
    assert_eq!(events["events"][0]["result"], json!("success"), "{events}");
    let listed = app.get(Service::Users, "/api/v1/users?limit=100&email=ada", &root).await.json();
    assert_eq!(listed["data"][0]["id"], json!(story.ada.id), "{listed}");
    assert_eq!(listed["data"][0]["roles"], json!(["reader", "user"]), "{listed}");
    assert_eq!(app.login("late@example.com").await.status, 401, "nobody has a copy of what came later");
    app.person("late@example.com").await;
    (app, story)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_later_copy_of_the_accounts_profiles_are_updated_after_the_restore() {
    let (mut app, story) = restored_in([Service::Users, Service::Auth]).await;
    let between = app.log_in("between@example.com").await;
    assert_eq!(Some(&between.id), story.between.as_ref().map(|person| &person.id));
    assert_eq!(first_name(&app, &between).await, (200, json!("Ada")), "its profile was in no copy");
    assert_eq!(first_name(&app, &story.renamed).await, (200, json!("Later")));
    assert_eq!(app.login("deleted@example.com").await.status, 401);
    let root = app.log_in("root@example.com").await;
    let path = format!("/api/v1/users/{}", story.deleted.id);
    assert_eq!(app.get(Service::Users, &path, &root).await.status, 404, "its profile was in the earlier copy");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_an_earlier_copy_of_the_accounts_profiles_are_reverted_after_the_restore() {
    let (mut app, story) = restored_in([Service::Auth, Service::Users]).await;
    let root = app.log_in("root@example.com").await;
    let path = format!("/api/v1/users/{}", story.between.as_ref().unwrap().id);
    assert_eq!(app.get(Service::Users, &path, &root).await.status, 404, "a profile without an account");
    app.person("between@example.com").await;
    assert_eq!(first_name(&app, &story.renamed).await, (200, json!("Ada")));
    rename(&app, &story.renamed, "Last").await;
    app.until_synchronised().await;
    assert_eq!(first_name(&app, &story.renamed).await, (200, json!("Last")), "the profile takes newer names again");
    let deleted = app.log_in("deleted@example.com").await;
    assert_eq!(first_name(&app, &deleted).await, (200, json!("Ada")), "its account was in the earlier copy");
    app.stop().await;
}

#[tokio::test]
async fn unrelated_databases_are_not_reconciled() {
    let mut app = App::start().await;
    app.person("ada@example.com").await;
    app.stop().await;
    // Restored to a wrong directory, so that an empty database is created in the right one.
    destroy(&app.databases, Service::Auth).await;
    if let Some((server, schema)) = app.databases.schema(Service::Auth) {
        execute(&mut connect(&server).await, format!("CREATE SCHEMA IF NOT EXISTS {schema}")).await;
    }
    for is_made in [false, true] {
        if is_made {
            assert_eq!(run(&app.databases, &["migrate"], "").await.code, 0);
        }
        let result = run(&app.databases, &["reconcile", "--json"], "").await;
        let failure = result.failure();
        assert_eq!((result.code, failure["kind"].as_str()), (2, Some("setting")), "{result:?}");
        assert!(failure["error"].as_str().unwrap().contains("AUTH_DATABASE_URL"), "{result:?}");
    }
    let pool = app.databases.open(Service::Auth).await;
    let pending: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM stale_profiles").fetch_one(&pool).await.unwrap();
    assert_eq!(pending, 0, "no deletion is pending");
    pool.close().await;
}

#[tokio::test]
async fn a_copy_is_private_and_overwrites_no_file() {
    let app = App::start().await;
    let databases = &app.databases;
    let folder = databases.folder.path().join("copies").join("today");
    let to = folder.to_str().unwrap();
    let backup = ["backup", "--to", to, "--json"];
    if !databases.is_sqlite() {
        let result = run(databases, &backup, "").await;
        let failure = result.failure();
        assert_eq!((result.code, failure["error"].as_str().unwrap().contains("pg_dump")), (2, true), "{result:?}");
        assert!(!failure["error"].as_str().unwrap().contains("postgres"), "a URL may hold a password: {result:?}");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        return;
    }
    let files = run(databases, &backup, "").await.document();
    assert_eq!(files["files"].as_array().unwrap().len(), 2);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for name in ["auth.db", "users.db"] {
        assert_eq!(mode(&folder.join(name)), 0o600, "{name}");
    }
    let before = std::fs::read(folder.join("auth.db")).unwrap();
    let result = run(databases, &backup, "").await;
    assert_eq!((result.code, result.failure()["kind"].as_str()), (2, Some("setting")), "{result:?}");
    assert_eq!(std::fs::read(folder.join("auth.db")).unwrap(), before);

    // The first copy is removed if the second one fails.
    std::fs::remove_file(folder.join("users.db")).unwrap();
    assert_eq!(run(databases, &backup, "").await.code, 2);
    assert!(!folder.join("users.db").exists(), "half a back-up is none");

    let nothing = databases.folder.path().join("nothing");
    let other = folder.join("other");
    let data = nothing.join("auth.db");
    let url = format!("sqlite://{}", data.display());
    let lost = ["backup", "auth", "--to", other.to_str().unwrap(), "--auth-database-url", &url];
    let result = run(databases, &lost, "").await;
    assert_eq!((result.code, result.err.contains("AUTH_DATABASE_URL")), (1, true), "{result:?}");
    assert!(!data.exists() && !other.join("auth.db").exists(), "no database is made up");

    // A copy of another database would be noticed only when it is needed.
    let (auth, users) = (databases.url(Service::Auth), databases.url(Service::Users));
    let empty = format!("sqlite://{}", nothing.with_extension("db").display());
    std::fs::write(nothing.with_extension("db"), "").unwrap();
    for (case, urls) in [
        ("an empty file", [&empty, &users]),
        ("one for both", [&auth, &auth]),
        ("each in the other's place", [&users, &auth]),
    ] {
        let to = databases.folder.path().join(case.replace(' ', "-").replace('\'', ""));
        let [auth, users] = urls;
        let arguments =
            ["backup", "--to", to.to_str().unwrap(), "--auth-database-url", auth, "--users-database-url", users];
        let result = run(databases, &arguments, "").await;
        assert_eq!((result.code, result.err.contains("_DATABASE_URL")), (2, true), "{case}: {result:?}");
        let kept = std::fs::read_dir(&to).map_or(0, Iterator::count);
        assert_eq!(kept, 0, "{case}");
    }
}
