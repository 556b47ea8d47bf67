//! The services as processes that are killed during load. Afterwards every acknowledged write is there,
//! both databases agree, and no log contains a secret.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::Method;
use serde_json::json;
use sqlx::Row as _;

use crate::support::{
    ASSERTION_SECRET, AUTH_SECRET, App, BOTH, Databases, Deployment, MASTER, PASSWORD, Person, Reply, Service,
    USERS_SECRET, until_ready,
};

/// Number of kills: fifty in the long run (`npm run test:long` sets `TEST_LONG`), which finds rare
/// faults.
fn kills() -> usize {
    if std::env::var_os("TEST_LONG").is_some() { 50 } else { 15 }
}

/// Number of concurrent clients. Each needs password hashes, so a few keep the services busy.
const CLIENTS: usize = 6;

/// Returns a random number below `below`.
fn random_below(below: u64) -> u64 {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    u64::from_le_bytes(bytes) % below
}

/// What a client knows about one account.
#[derive(Debug, Clone, Default)]
struct KnownAccount {
    id: Option<String>,
    /// First names that the account may have: the last acknowledged one, and later ones without an
    /// answer.
    first_names: Vec<String>,
    is_deleted: bool,
    may_be_deleted: bool,
    /// The last refresh token, unless a later refresh had no answer.
    refresh: Option<(String, String)>,
}

async fn run_client(
    app: &App,
    number: usize,
    stop: &AtomicBool,
    known_accounts: &Mutex<HashMap<String, KnownAccount>>,
    secrets: &Mutex<Vec<String>>,
) {
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        let email = format!("person-{number}-{turn}@example.com");
        let mut known = KnownAccount::default();
        let first = format!("First {number} {turn}");
        let body = json!({ "email": email, "password": PASSWORD, "first_name": first });
        known.first_names.push(first);
        // Like a user: retry, until there is an answer.
        let registered = retry(stop, || {
            try_send(app, Service::Auth, Method::POST, "/api/v1/auth/register", None, Some(body.clone()))
        })
        .await;
        // A 409 means that an earlier attempt succeeded and its answer was lost.
        if !registered.as_ref().is_some_and(|reply| matches!(reply.status, 201 | 409)) {
            known_accounts.lock().unwrap().insert(email, known);
            continue;
        }
        let body = json!({ "email": email, "password": PASSWORD });
        let Some(login) =
            retry(stop, || try_send(app, Service::Auth, Method::POST, "/api/v1/auth/login", None, Some(body.clone())))
                .await
        else {
            known_accounts.lock().unwrap().insert(email, known);
            continue;
        };
        assert_eq!(login.status, 200, "who is registered logs in: {}", login.text);
        let mut person = Person::from_login(&login);
        known.id = Some(person.id.clone());
        known.refresh = Some((person.refresh.clone(), person.session.clone()));
        secrets.lock().unwrap().extend([person.refresh.clone(), person.access.clone()]);
        for step in 0..random_below(4) {
            if random_below(2) == 0 {
                let first = format!("First {number} {turn} {step}");
                let path = format!("/api/v1/users/{}", person.id);
                let sent = try_send(
                    app,
                    Service::Users,
                    Method::PATCH,
                    &path,
                    Some(&person),
                    Some(json!({ "first_name": first })),
                )
                .await;
                match sent {
                    Ok(reply) if reply.status == 200 => known.first_names = vec![first],
                    Ok(_) | Err(_) => known.first_names.push(first),
                }
            } else if let Some((refresh, _)) = known.refresh.clone() {
                let sent = try_send(
                    app,
                    Service::Auth,
                    Method::POST,
                    "/api/v1/auth/refresh",
                    None,
                    Some(json!({ "refresh_token": refresh })),
                )
                .await;
                match sent {
                    Ok(reply) if reply.status == 200 => {
                        person = Person::from_login(&reply);
                        known.refresh = Some((person.refresh.clone(), person.session.clone()));
                        secrets.lock().unwrap().extend([person.refresh.clone(), person.access.clone()]);
                    }
                    Ok(_) | Err(_) => known.refresh = None,
                }
            }
        }
        if random_below(4) == 0 {
            let path = format!("/api/v1/users/{}", person.id);
            known.may_be_deleted = true;
            let sent = try_send(app, Service::Users, Method::DELETE, &path, Some(&person), None).await;
            known.is_deleted = sent.is_ok_and(|reply| reply.status == 204);
        }
        known_accounts.lock().unwrap().insert(email, known);
    }
}

async fn try_send(
    app: &App,
    service: Service,
    method: Method,
    path: &str,
    who: Option<&Person>,
    body: Option<serde_json::Value>,
) -> Result<Reply, reqwest::Error> {
    let answer = app.forwarded(service, method, path, who, body).send().await?;
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    Ok(Reply { status, headers, text: answer.text().await? })
}

/// Repeats a request until the answer is not a 429 or 5xx.
pub(crate) async fn retry<F: Future<Output = Result<Reply, reqwest::Error>>>(
    stop: &AtomicBool,
    send: impl Fn() -> F,
) -> Option<Reply> {
    while !stop.load(Ordering::Relaxed) {
        match send().await {
            Ok(reply) if !matches!(reply.status, 429 | 500..) => return Some(reply),
            Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    None
}

/// Waits until one more account was acknowledged that no client has tried to delete.
async fn until_another_is_kept(known_accounts: &Mutex<HashMap<String, KnownAccount>>) {
    let is_kept = |known: &&KnownAccount| known.id.is_some() && !known.may_be_deleted;
    let kept = || known_accounts.lock().unwrap().values().filter(is_kept).count();
    let before = kept();
    let wait = async {
        while kept() == before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("no account was acknowledged for a minute");
}

/// Returns id, address and first name of all rows.
async fn people(app: &App, service: Service, query: &'static str) -> Vec<(String, String, String)> {
    let pool = app.databases.open(service).await;
    let rows = sqlx::query(query).fetch_all(&pool).await.unwrap();
    pool.close().await;
    let mut people: Vec<_> = rows.iter().map(|row| (row.get("id"), row.get("email"), row.get("first_name"))).collect();
    people.sort();
    people
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_that_are_killed_repeatedly_lose_no_acknowledged_write() {
    let databases = Databases::make().await;
    let place = Deployment::of(&databases);
    let mut app = Arc::new(App::connect(databases, place.auth, place.users));
    let mut running = [place.start("auth"), place.start("users")];
    for process in &mut running {
        until_ready(&app, &place, process).await;
    }
    let (stop, known_accounts, secrets) = (Arc::new(AtomicBool::new(false)), Arc::default(), Arc::default());
    let done = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (app, stop, known_accounts, secrets) =
                (Arc::clone(&app), Arc::clone(&stop), Arc::clone(&known_accounts), Arc::clone(&secrets));
            let done = Arc::clone(&done);
            tokio::spawn(async move {
                run_client(&app, number, &stop, &known_accounts, &secrets).await;
                done.fetch_add(1, Ordering::Relaxed);
            })
        })
        .collect();
    let kills = kills();
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(50 + random_below(350))).await;
        until_another_is_kept(&known_accounts).await;
        let victim = &mut running[usize::try_from(random_below(2)).unwrap()];
        // SIGKILL: the process runs no further instruction.
        victim.child.kill().await.unwrap();
        *victim = place.start(victim.name);
        assert_eq!(done.load(Ordering::Relaxed), 0, "a client gave up");
        until_ready(&app, &place, victim).await;
    }
    until_another_is_kept(&known_accounts).await;
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    for process in &mut running {
        process.child.kill().await.unwrap();
    }
    let lines = std::mem::take(&mut *place.lines.lock().unwrap());
    let known_accounts: HashMap<String, KnownAccount> = std::mem::take(&mut *known_accounts.lock().unwrap());
    let mut secrets: Vec<String> = std::mem::take(&mut *secrets.lock().unwrap());

    // Interrupted registrations are deleted after a while.
    let app = Arc::get_mut(&mut app).unwrap();
    app.clock.pass(20 * 60 * 1000);
    app.restart(BOTH).await;
    app.until_synchronised().await;
    let agreed = people(app, Service::Users, "SELECT id, email, first_name FROM profiles").await;
    let there: HashMap<&str, &(String, String, String)> = agreed.iter().map(|row| (row.1.as_str(), row)).collect();
    let mut acknowledged = 0;
    for (email, known) in &known_accounts {
        let row = there.get(email.as_str());
        if known.is_deleted {
            assert!(row.is_none(), "{email} was deleted: {known:?}");
        } else if let (Some(id), false) = (&known.id, known.may_be_deleted) {
            let (found, _, first_name) = row.unwrap_or_else(|| panic!("{email} is lost: {known:?}"));
            assert_eq!(found, id);
            assert!(known.first_names.contains(first_name), "{email} is called {first_name}: {known:?}");
            acknowledged += 1;
        }
    }
    assert!(acknowledged > kills, "{acknowledged} accounts are too few to say anything");
    for (email, known) in known_accounts.iter().filter(|(_, known)| !known.may_be_deleted).take(20) {
        if let Some((refresh, _)) = &known.refresh {
            assert_eq!(app.refresh(refresh).await.status, 200, "{email}'s session is lost");
        }
    }
    secrets.extend([PASSWORD, AUTH_SECRET, USERS_SECRET].map(str::to_owned));
    secrets.push(URL_SAFE_NO_PAD.encode(MASTER));
    secrets.push(URL_SAFE_NO_PAD.encode(ASSERTION_SECRET));
    assert!(lines.len() > kills, "logs were looked at");
    for line in &lines {
        for secret in &secrets {
            assert!(!line.contains(secret.as_str()), "a secret is in the log");
        }
        assert!(!line.contains("panicked"), "{line}");
    }
}
