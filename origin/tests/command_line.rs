//! The command line: the output of each command, and its effect.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_origin::{limits, settings::Settings};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    AUTH_SECRET, App, BOTH, Databases, PASSWORD, Person, Service, Serving, USERS_SECRET, program, run, write_private,
};

const ROOT: &str = "root@example.com";

async fn admin_of(app: &App, email: &str) -> Person {
    let person = app.log_in(email).await;
    assert_eq!(person.roles, ["admin", "user"]);
    person
}

/// Returns result, operation, entity and detail of the newest event of a type.
async fn event(app: &App, admin: &Person, event_type: &str) -> (Value, Value, Value, Value) {
    let path = format!("/api/v1/auth/audit?event_type={event_type}&limit=1");
    let event = app.get(Service::Auth, &path, admin).await.json()["events"][0].clone();
    assert_eq!(event["user_id"], Value::Null, "nobody was logged in");
    (event["result"].clone(), event["operation"].clone(), event["entity_id"].clone(), event["detail"].clone())
}

fn parsed(arguments: &[&str]) -> Settings {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        settings: Settings,
    }
    <Line as clap::Parser>::parse_from([&["test"], arguments].concat()).settings
}

#[tokio::test]
async fn migrate_prints_which_databases_are_up_to_date() {
    let databases = Databases::make().await;
    for _ in 0..2 {
        let result = run(&databases, &["migrate", "--json"], "").await;
        assert_eq!(result.document(), json!({ "up_to_date": ["auth", "users"] }));
    }
    let result = run(&databases, &["migrate"], "").await;
    assert_eq!((result.code, result.out.as_str(), result.err.as_str()), (0, "both databases are up to date\n", ""));
}

#[tokio::test]
async fn keys_list_and_rotate_print_text_and_json() {
    let app = App::start().await;
    let databases = &app.databases;
    run(databases, &["admin", "create", "--email", ROOT, "--password-file", "-"], PASSWORD).await;
    let root = admin_of(&app, ROOT).await;
    let before = run(databases, &["keys", "list", "--json"], "").await.document();
    let first = before["keys"][0]["kid"].clone();
    let rotated = run(databases, &["--json", "keys", "rotate"], "").await.document();
    assert_eq!(rotated["previous_kid"], first);
    assert!(rotated["signs_from"].as_str().unwrap().ends_with('Z'));
    let after = run(databases, &["keys", "list", "--json"], "").await.document();
    assert_eq!(after["keys"].as_array().unwrap().len(), 2, "{after}");
    let text = run(databases, &["keys", "list"], "").await.out;
    assert!(text.starts_with("kid ") && text.lines().count() == 3, "{text}");
    assert!(text.contains(rotated["kid"].as_str().unwrap()), "{text}");
    assert_eq!(
        event(&app, &root, "keys.rotate").await,
        (json!("success"), json!("cli keys rotate"), rotated["kid"].clone(), Value::Null)
    );
    let mut command = program(databases, &["keys", "rotate", "--json"]);
    command.env("MASTER_KEY", URL_SAFE_NO_PAD.encode([2; 32]));
    assert_eq!(command.status().unwrap().code(), Some(1));
    assert_eq!(event(&app, &root, "keys.rotate").await.0, "failure");
}

#[tokio::test]
async fn admin_create_reads_the_password_from_a_file_or_standard_input() {
    let app = App::start().await;
    let databases = &app.databases;
    let file = databases.folder.path().join("password");
    write_private(&file, format!("{PASSWORD}\nthe second line\n"));
    let file = file.to_str().unwrap();
    let create = ["admin", "create", "--email", ROOT];
    let result = run(databases, &[&create[..], &["--password-file", file, "--json"]].concat(), "").await.document();
    let root = admin_of(&app, ROOT).await;
    assert_eq!(result, json!({ "id": root.id, "promoted": false }));
    assert_eq!(
        event(&app, &root, "admin.create").await,
        (json!("success"), json!("cli admin create"), json!(root.id), Value::Null)
    );
    let ada = app.person("ada@example.com").await;
    let promote = ["admin", "create", "--email", "ada@example.com", "--password-file", "-"];
    let result = run(databases, &promote, PASSWORD).await;
    assert_eq!((result.code, result.err.contains("--promote")), (1, true), "{result:?}");
    assert_eq!(event(&app, &root, "admin.create").await.0, "failure");
    let result = run(databases, &[&promote[..], &["--promote", "--json"]].concat(), PASSWORD).await;
    assert_eq!(result.document(), json!({ "id": ada.id, "promoted": true, "password_kept": false }));
    admin_of(&app, "ada@example.com").await;
    let profile = app.get(Service::Users, &format!("/api/v1/users/{}", ada.id), &root).await.json();
    assert_eq!(profile["data"]["roles"], json!(["admin", "user"]));
    for (arguments, input, code, text) in [
        (&create[..], PASSWORD, 2, "--password-file"),
        (&["admin", "create", "--email", "x@example.com", "--password-file", "/nowhere"], "", 2, "/nowhere"),
        (&["admin", "create", "--email", "x@example.com", "--password-file", "-"], "short", 1, "8 to 128"),
        (&["admin", "create", "--email", "nobody", "--password-file", "-"], PASSWORD, 1, "not valid"),
    ] {
        let result = run(databases, arguments, input).await;
        assert_eq!((result.code, result.err.contains(text), result.out.as_str()), (code, true, ""), "{result:?}");
        assert!(result.err.starts_with("portcullis-origin: "), "{result:?}");
        assert!(!result.err.contains(PASSWORD), "{result:?}");
    }
}

#[tokio::test]
async fn promote_sets_the_password_and_ends_all_sessions() {
    const GIVEN: &str = "the operator's own words";
    let app = App::start().await;
    let databases = &app.databases;
    let stranger = app.person("ada@example.com").await;
    let promote = ["admin", "create", "--email", "ada@example.com", "--promote"];
    let result = run(databases, &[&promote[..], &["--password-file", "-"]].concat(), GIVEN).await;
    assert_eq!((result.code, result.err.as_str()), (0, ""), "{result:?}");
    assert!(result.out.contains("all its sessions are ended"), "{result:?}");
    assert_eq!(app.login("ada@example.com").await.status, 401, "the stranger's password");
    assert_eq!(app.refresh(&stranger.refresh).await.status, 401, "the stranger's session");
    assert_eq!(app.get(Service::Auth, "/api/v1/auth/me", &stranger).await.status, 401, "and its access token");
    let login = json!({ "email": "ada@example.com", "password": GIVEN });
    let login = app.post("/api/v1/auth/login", login).await;
    assert_eq!(login.json()["user"]["roles"], json!(["admin", "user"]), "{}", login.text);

    let grace = app.person("grace@example.com").await;
    let keep = ["admin", "create", "--email", "grace@example.com", "--promote", "--keep-password"];
    let result = run(databases, &keep, "").await;
    assert_eq!((result.code, result.out.contains("its password is unchanged")), (0, true), "{result:?}");
    assert_eq!(app.refresh(&grace.refresh).await.status, 200, "her session");
    admin_of(&app, "grace@example.com").await;

    for (arguments, code, text) in [
        (&["--email", "adda@example.com", "--promote", "--keep-password"][..], 1, "no account with this address"),
        (&["--email", "adda@example.com", "--keep-password"], 2, "--promote"),
        (&["--email", "ada@example.com", "--promote", "--keep-password", "--password-file", "-"], 2, "cannot be used"),
    ] {
        let result = run(databases, &[&["admin", "create"], arguments].concat(), PASSWORD).await;
        assert_eq!((result.code, result.err.contains(text)), (code, true), "{result:?}");
        assert_eq!(app.login("adda@example.com").await.status, 401, "nobody was made");
    }
}

#[tokio::test]
async fn a_command_in_a_wrong_directory_creates_no_database() {
    let databases = Databases::make().await;
    let place = if databases.is_sqlite() { "auth.db" } else { "AUTH_DATABASE_URL" };
    let create = ["admin", "create", "--email", ROOT, "--password-file", "-"];
    for arguments in [
        &create[..],
        &["admin", "create", "--email", ROOT, "--promote", "--keep-password"],
        &["keys", "list"],
        &["keys", "rotate"],
        &["keys", "revoke", "x"],
        // One in 64 key ids begins with a hyphen.
        &["keys", "revoke", "-x"],
        &["service", "list"],
        &["service", "add", "billing", "--audience", "stock"],
        &["reconcile"],
    ] {
        let result = run(&databases, arguments, PASSWORD).await;
        assert_eq!(result.code, 2, "{arguments:?}: {result:?}");
        assert!(result.err.contains("does not exist") && result.err.contains(place), "{result:?}");
        assert_eq!(std::fs::read_dir(databases.folder.path()).unwrap().count(), 0, "{arguments:?}");
    }
    let result = run(&databases, &[&create[..], &["--init"]].concat(), PASSWORD).await;
    assert_eq!((result.code, result.out.starts_with("created administrator")), (0, true), "{result:?}");
    assert_eq!(run(&databases, &["keys", "list"], "").await.code, 0);
}

#[tokio::test]
async fn the_master_key_of_the_local_set_up_is_found_in_the_data_directory() {
    let app = App::start().await;
    let databases = &app.databases;
    let local = databases.folder.path().join("origin.env");
    let rotate = || {
        let mut command = program(databases, &["keys", "rotate"]);
        command.env_remove("MASTER_KEY");
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = rotate();
    assert!(code == Some(2) && text.contains("MASTER_KEY") && text.contains("origin.env"), "{text}");
    let key = URL_SAFE_NO_PAD.encode([1; 32]);
    write_private(&local, format!("# Secrets\nMASTER_KEY={key}\nSERVICE_SECRET_AUTH_SERVICE=x\n"));
    assert_eq!(rotate(), (Some(0), String::new()));
}

#[tokio::test]
async fn secret_files_that_other_users_can_read_are_rejected() {
    use std::os::unix::fs::PermissionsExt as _;
    let app = App::start().await;
    let databases = &app.databases;
    let file = databases.folder.path().join("secret");
    let path = file.to_str().unwrap().to_owned();
    let key = URL_SAFE_NO_PAD.encode([1; 32]);
    write_private(&file, &key);
    for (mode, is_taken) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o644, false)] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let mut command = program(databases, &["keys", "rotate"]);
        command.env_remove("MASTER_KEY").env("MASTER_KEY_FILE", &path);
        let mut old = program(databases, &["keys", "rotate"]);
        old.env("MASTER_KEY_OLD_FILE", &path);
        for mut command in [command, old] {
            let output = command.output().unwrap();
            let text = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.success(), is_taken, "{mode:o}: {text}");
            assert_eq!(text.contains(&format!("chmod 600 {path}")), !is_taken, "{mode:o}: {text}");
            assert!(!text.contains(&key), "{text}");
        }
    }
    let create = ["admin", "create", "--email", ROOT, "--password-file", &path];
    let result = run(databases, &create, "").await;
    assert_eq!((result.code, result.err.contains("chmod 600")), (2, true), "{result:?}");
    let pair = [("TLS_CERT_FILE", &path), ("TLS_KEY_FILE", &path)];
    let admin = [("ADMIN_PASSWORD_FILE", &path)];
    for variables in [&pair[..], &admin[..]] {
        let mut command = program(databases, &["serve"]);
        command.env("ADMIN_EMAIL", ROOT).envs(variables.iter().copied());
        if variables.len() == 2 {
            command.env_remove("ADMIN_EMAIL");
        }
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(&format!("{} {path}", variables.last().unwrap().0)), "{text}");
        assert!(text.contains("chmod 600"), "{text}");
    }
}

#[tokio::test]
async fn a_start_makes_a_readable_database_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut app = App::start().await;
    if !app.databases.is_sqlite() {
        eprintln!("skipped: a server's files are its own");
        return;
    }
    app.stop().await;
    let file = app.databases.folder.path().join("auth.db");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    app.restart(BOTH).await;
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_refused_postgresql_connection_is_reported() {
    let databases = Databases::make().await;
    // Nothing listens on the discard port.
    let url = "postgres://portcullis:secret@127.0.0.1:9/portcullis";
    for arguments in [&["migrate"][..], &["keys", "list"], &["serve"]] {
        let mut command = program(&databases, arguments);
        command.env("AUTH_DATABASE_URL", url);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("PostgreSQL at 127.0.0.1:9 refuses the connection"), "{arguments:?}: {text}");
        assert!(!text.contains("secret") && !text.contains("pool"), "{text}");
    }
}

#[tokio::test]
async fn services_are_added_listed_and_removed() {
    let app = App::start().await;
    let databases = &app.databases;
    run(databases, &["admin", "create", "--email", ROOT, "--password-file", "-"], PASSWORD).await;
    let root = admin_of(&app, ROOT).await;
    let add = ["service", "add", "billing", "--audience", "user-service", "--audience", "stock"];
    let result = run(databases, &[&add[..], &["--json"]].concat(), "").await.document();
    assert_eq!((&result["name"], &result["audiences"]), (&json!("billing"), &json!(["user-service", "stock"])));
    let secret = result["secret"].as_str().unwrap().to_owned();
    let ask = |secret: String| {
        let request = app.http.post(app.url(Service::Auth, "/api/v1/auth/token")).basic_auth("billing", Some(secret));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        app.send_raw(request.body("grant_type=client_credentials&audience=stock"))
    };
    assert_eq!(ask(secret.clone()).await.status, 200);
    assert_eq!(
        event(&app, &root, "service.add").await,
        (json!("success"), json!("cli service add"), json!("billing"), Value::Null)
    );
    let again = run(databases, &[&add[..], &["--json"]].concat(), "").await;
    assert_eq!((again.code, again.failure()["kind"].as_str()), (1, Some("other")));
    assert_eq!(
        event(&app, &root, "service.add").await,
        (json!("failure"), json!("cli service add"), Value::Null, json!("name_taken"))
    );
    let listed = run(databases, &["service", "list", "--json"], "").await;
    assert_eq!(listed.document()["services"][0]["audiences"], json!(["stock", "user-service"]));
    let text = run(databases, &["service", "list"], "").await.out;
    assert!(text.starts_with("name ") && text.contains("billing") && text.contains("stock,user-service"), "{text}");
    for result in [&listed.out, &text] {
        assert!(!result.contains(&secret), "a secret is shown once");
    }
    let removed = run(databases, &["service", "remove", "billing", "--json"], "").await;
    assert_eq!(removed.document(), json!({ "name": "billing", "removed": true }));
    assert_eq!(ask(secret).await.status, 401);
    assert_eq!(run(databases, &["service", "remove", "billing"], "").await.code, 1);
    let person = run(databases, &["service", "add", "billing", "--audience", "user-service"], "").await;
    assert_eq!(person.out.lines().count(), 2, "{person:?}");
    let secret = person.out.lines().nth(1).unwrap().to_owned();
    assert_eq!(ask(secret).await.code(), "invalid_target", "a new secret, and another audience");
}

#[tokio::test]
async fn the_printed_openapi_document_is_the_served_one() {
    let app = App::start().await;
    for (name, service) in [("auth", Service::Auth), ("users", Service::Users)] {
        let served = app.send_raw(app.http.get(app.url(service, "/openapi.json"))).await.json();
        let printed = run(&app.databases, &["openapi", name], "").await;
        assert_eq!((printed.code, printed.err.as_str()), (0, ""));
        assert!(printed.out.lines().count() > 100, "for people to read");
        assert_eq!(serde_json::from_str::<Value>(&printed.out).unwrap(), served);
        assert_eq!(run(&app.databases, &["openapi", name, "--json"], "").await.document(), served);
    }
    assert_eq!(run(&app.databases, &["openapi", "edge", "--json"], "").await.failure()["kind"], "usage");
}

#[tokio::test]
async fn a_wrong_setting_is_reported_with_name_and_correction_before_anything_is_opened() {
    let databases = Databases::make().await;
    let shared = databases.url(Service::Auth);
    for (variable, value, expected) in [
        ("ASSERTION_KEYS_AUTH", "", "ASSERTION_KEYS_AUTH is not set"),
        ("ASSERTION_KEYS_USERS", "k1:short", "ASSERTION_KEYS_USERS must be one or two kid:base64url-of-32-bytes"),
        ("SERVICE_SECRET_USER_SERVICE", "", "SERVICE_SECRET_USER_SERVICE is not set"),
        ("SERVICE_SECRET_AUTH_SERVICE", "too short", "SERVICE_SECRET_AUTH_SERVICE is shorter than 32 characters"),
        ("MASTER_KEY", "", "MASTER_KEY"),
        ("USERS_DATABASE_URL", &shared, "AUTH_DATABASE_URL and USERS_DATABASE_URL are the same"),
        ("KEY_LEAD_S", "1", "KEY_LEAD_S is 1; set it to 40"),
        ("EDGE_URL", "http://example.com", "EDGE_URL"),
        ("EDGE_URL", "https://example.com?x=1", "EDGE_URL"),
        ("EDGE_URL", "https://example.com#x", "EDGE_URL"),
        ("EDGE_URL", "https://ada:hunter2@example.com", "EDGE_URL"),
        ("INTERNAL_READERS", "Not A Name", "INTERNAL_READERS"),
    ] {
        let mut command = program(&databases, &["serve"]);
        command.env(variable, value);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{variable}: {text}");
        assert!(text.contains(expected), "{variable}: {text}");
        assert!(!["k1:short", "too short", "hunter2"].iter().any(|secret| text.contains(secret)), "a secret: {text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_secret_that_cannot_be_printed_is_a_failure() {
    let databases = Databases::make().await;
    assert_eq!(run(&databases, &["migrate"], "").await.code, 0);
    let mut command = program(&databases, &["service", "add", "billing", "--audience", "user-service"]);
    command.stdout(std::fs::File::options().write(true).open("/dev/full").unwrap());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("the result cannot be printed"), "{text}");
}

#[tokio::test]
async fn with_json_a_failure_is_one_object() {
    let databases = Databases::make().await;
    assert_eq!(run(&databases, &["migrate"], "").await.code, 0);
    for (arguments, code, kind) in [
        (&["service", "add", "Billing", "--audience", "user-service", "--json"][..], 2, "setting"),
        (&["service", "add", "portcullis", "--audience", "user-service", "--json"], 2, "setting"),
        (&["service", "add", "billing", "--json"], 2, "usage"),
        (&["--json", "nonsense"], 2, "usage"),
        (&["keys", "rotate", "--key-lead-s", "1", "--json"], 2, "setting"),
        (&["migrate", "--auth-database-url", "mysql://x", "--json"], 1, "other"),
        (&["service", "remove", "nobody", "--json"], 1, "other"),
        (&["serve", "--internal-readers", "No Body", "--json"], 2, "setting"),
    ] {
        let result = run(&databases, arguments, "").await;
        let failure = result.failure();
        assert_eq!((result.code, failure["kind"].as_str()), (code, Some(kind)), "{result:?}");
        assert!(failure["error"].as_str().is_some_and(|text| !text.is_empty()), "{result:?}");
    }
}

#[tokio::test]
async fn help_has_examples_and_no_secrets_from_the_environment() {
    let databases = Databases::make().await;
    for arguments in [
        &["--help"][..],
        &["serve", "--help"],
        &["migrate", "--help"],
        &["backup", "--help"],
        &["reconcile", "--help"],
        &["keys", "list", "--help"],
        &["keys", "rotate", "--help"],
        &["admin", "create", "--help"],
        &["service", "add", "--help"],
        &["service", "remove", "--help"],
        &["api-key", "create", "--help"],
        &["api-key", "end", "--help"],
        &["api-key", "push", "--help"],
    ] {
        let result = run(&databases, arguments, "").await;
        assert_eq!(result.code, 0, "{arguments:?}");
        assert!(result.out.contains("Example"), "{arguments:?}: {}", result.out);
        for secret in [AUTH_SECRET, USERS_SECRET, databases.url(Service::Auth).as_str()] {
            assert!(!result.out.contains(secret), "{arguments:?}");
        }
    }
}

/// Runs `serve` with a first administrator until the log contains a text. Returns the whole log.
async fn serve_with_admin(databases: &Databases, email: &str, until: &'static str) -> String {
    let file = databases.folder.path().join("password");
    write_private(&file, PASSWORD);
    let mut command = program(databases, &["serve"]);
    command.env("ADMIN_EMAIL", email).env("ADMIN_PASSWORD_FILE", &file);
    tokio::task::spawn_blocking(move || {
        let mut serving = Serving::start(command);
        serving.until(until);
        // Both services, in any order.
        while serving.read.matches("\"message\":\"listening\"").count() < 2 {
            serving.until("listening");
        }
        serving.stop()
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn the_environment_creates_the_first_administrator_once() {
    let mut app = App::start().await;
    app.stop().await;
    let log = serve_with_admin(&app.databases, "Root@Example.com", "made the first administrator").await;
    let second = serve_with_admin(&app.databases, "eve@example.com", "there is an administrator").await;
    for log in [&log, &second] {
        assert!(!log.to_lowercase().contains("example.com") && !log.contains(PASSWORD), "{log}");
        assert!(log.contains("\"message\":\"listening\"") && log.contains("\"message\":\"stopped\""), "{log}");
    }
    app.restart(BOTH).await;
    let root = admin_of(&app, ROOT).await;
    assert_eq!(app.login("eve@example.com").await.status, 401, "there was one");
    assert_eq!(
        event(&app, &root, "admin.create").await,
        (json!("success"), json!("serve"), json!(root.id), Value::Null)
    );
    let profile = app.get(Service::Users, &format!("/api/v1/users/{}", root.id), &root).await.json();
    assert_eq!(profile["data"]["roles"], json!(["admin", "user"]));
}

#[tokio::test]
async fn an_account_with_the_first_administrators_address_is_not_promoted() {
    let mut app = App::start().await;
    app.person(ROOT).await;
    app.stop().await;
    serve_with_admin(&app.databases, ROOT, "ADMIN_EMAIL is an account").await;
    app.restart(BOTH).await;
    let person = app.log_in(ROOT).await;
    assert_eq!(person.roles, ["user"]);
    let rotate = app.send(Service::Auth, Method::POST, "/api/v1/auth/keys/rotate", Some(&person), None).await;
    assert_eq!(rotate.status, 403);
}

#[tokio::test]
async fn an_incomplete_first_administrator_is_a_wrong_setting() {
    let databases = Databases::make().await;
    for (settings, text) in [
        (&[("ADMIN_EMAIL", ROOT)][..], "ADMIN_PASSWORD"),
        (&[("ADMIN_PASSWORD", PASSWORD)], "ADMIN_EMAIL"),
        (&[("ADMIN_EMAIL", "nobody"), ("ADMIN_PASSWORD", PASSWORD)], "ADMIN_EMAIL"),
        (&[("ADMIN_EMAIL", ROOT), ("ADMIN_PASSWORD", "short")], "8 to 128"),
        // Eight characters, and four after normalisation.
        (&[("ADMIN_EMAIL", ROOT), ("ADMIN_PASSWORD", "e\u{301}e\u{301}e\u{301}e\u{301}")], "8 to 128"),
        (&[("ADMIN_EMAIL", ROOT), ("ADMIN_PASSWORD_FILE", "/nowhere")], "/nowhere"),
    ] {
        let mut command = program(&databases, &["serve", "auth"]);
        command.envs(settings.iter().copied());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), err.contains(text)), (Some(2), true), "{settings:?}: {err}");
    }
}

#[test]
fn the_gateway_is_reached_by_plain_http_on_loopback_or_a_private_network() {
    for (url, is_private, expected) in [
        ("http://127.0.0.1:8787", false, true),
        ("http://edge:8787", false, false),
        ("http://edge:8787", true, true),
        ("http://edge.default.svc.cluster.local", true, true),
        ("http://10.0.0.7:8787", true, true),
        ("http://edge.example.com", true, false),
        ("http://192.0.2.1", true, false),
        ("https://edge.example.com", false, true),
    ] {
        let mut settings = parsed(&["--edge-url", url]);
        settings.private_network = is_private;
        assert_eq!(settings.edge_url().is_ok(), expected, "{url} {is_private}");
    }
}

#[tokio::test]
async fn health_says_whether_the_services_are_ready() {
    let mut app = App::start().await;
    let port = |service| app.url(service, "").rsplit(':').next().unwrap().to_owned();
    let (auth, users) = (port(Service::Auth), port(Service::Users));
    let ask = |which: &'static str, auth: &str, users: &str| {
        let arguments = ["health", which, "--json", "--auth-port", auth, "--users-port", users].map(str::to_owned);
        let databases = &app.databases;
        async move { run(databases, &arguments.each_ref().map(String::as_str), "").await }
    };
    assert_eq!(ask("all", &auth, &users).await.document(), json!({ "ready": ["auth", "users"] }));
    assert_eq!(ask("auth", &auth, "9").await.document(), json!({ "ready": ["auth"] }));
    let result = ask("all", &auth, "9").await;
    assert_eq!((result.code, result.err.contains("the users service does not answer at 127.0.0.1:9")), (1, true));
    app.stop().await;
    let result = run(&app.databases, &["health", "users", "--users-port", &users], "").await;
    assert_eq!((result.code, result.err.contains("does not answer")), (1, true), "{result:?}");
}

#[tokio::test]
async fn secrets_are_read_from_private_files() {
    const NAMES: [&str; 5] = [
        "ASSERTION_KEYS_AUTH",
        "ASSERTION_KEYS_USERS",
        "SERVICE_SECRET_AUTH_SERVICE",
        "SERVICE_SECRET_USER_SERVICE",
        "METRICS_TOKEN",
    ];
    use std::os::unix::fs::PermissionsExt as _;
    let databases = Databases::make().await;
    let mut command = program(&databases, &["serve"]);
    command.env("METRICS_TOKEN", "a token for the metrics");
    let values: Vec<(String, String)> = command
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_str()?.to_owned(), value?.to_str()?.to_owned())))
        .filter(|(name, _)| NAMES.contains(&name.as_str()))
        .collect();
    assert_eq!(values.len(), NAMES.len());
    for (name, value) in &values {
        let file = databases.folder.path().join(name);
        write_private(&file, format!("{value}\n"));
        command.env_remove(name).env(format!("{name}_FILE"), file);
    }
    let mut serving = Serving::start(command);
    let line = serving.until("\"service\":\"auth\"");
    drop(serving);
    assert!(!values.iter().any(|(_, value)| line.contains(value.as_str())));

    for name in NAMES {
        let file = databases.folder.path().join(name);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let mut command = program(&databases, &["serve"]);
        let output = command.env_remove(name).env(format!("{name}_FILE"), &file).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{name}: {text}");
        assert!(text.contains(&format!("{name}_FILE")) && text.contains("chmod 600"), "{text}");
    }
}

#[tokio::test]
async fn a_secret_file_that_is_empty_or_too_long_is_not_read_in_part() {
    let databases = Databases::make().await;
    let most = usize::try_from(limits::SECRET_FILE_BYTES).unwrap();
    let file = databases.folder.path().join("secret");
    let (path, secret) = (file.to_str().unwrap(), "an-unlikely-secret-of-32-characters");
    for (text, reason) in [
        (String::new(), "has an empty first line"),
        (" \n".to_owned(), "has an empty first line"),
        (format!("\n{secret}\n"), "has an empty first line"),
        (secret.repeat(most / secret.len() + 1), "has more than 16384 bytes"),
        (format!("{secret}\n{}", " ".repeat(most)), "has more than 16384 bytes"),
    ] {
        write_private(&file, &text);
        for name in ["ASSERTION_KEYS_AUTH", "SERVICE_SECRET_USER_SERVICE", "METRICS_TOKEN", "ADMIN_PASSWORD"] {
            let mut command = program(&databases, &["serve"]);
            command.env("ADMIN_EMAIL", ROOT).env("ADMIN_PASSWORD", PASSWORD);
            let output = command.env_remove(name).env(format!("{name}_FILE"), path).output().unwrap();
            let err = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{name}: {err}");
            assert!(err.contains(&format!("{name}_FILE {path} {reason}")) && !err.contains(secret), "{name}: {err}");
        }
    }
}

#[tokio::test]
async fn a_short_token_for_the_metrics_is_a_wrong_setting() {
    let databases = Databases::make().await;
    let file = databases.folder.path().join("secret");
    write_private(&file, "fifteen-letters\n");
    for (name, value) in [("METRICS_TOKEN", "fifteen-letters"), ("METRICS_TOKEN_FILE", file.to_str().unwrap())] {
        for which in ["auth", "users"] {
            let output = program(&databases, &["serve", which]).env(name, value).output().unwrap();
            let err = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{name}: {err}");
            assert!(err.contains("METRICS_TOKEN is shorter than 16 characters") && !err.contains("fifteen"), "{err}");
        }
    }
}
