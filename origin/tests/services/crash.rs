//! The services as processes that are killed while they are at work. Whatever was
//! acknowledged is there afterwards, both databases agree, and no log holds a secret.

use std::{
    collections::HashMap,
    net::{SocketAddr, TcpListener},
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_origin::boot::EnabledServices;
use reqwest::Method;
use serde_json::json;
use sqlx::Row as _;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::app::{
    ASSERTION_SECRET, AUTH_SECRET, App, Databases, PASSWORD, Person, Reply, Service, USERS_SECRET, claims,
};

/// How often one of the two is killed: fifty times in the long run (`npm run test:long` sets
/// `TEST_LONG`), which hits what rarely happens.
fn kills() -> usize {
    if std::env::var_os("TEST_LONG").is_some() { 50 } else { 15 }
}

/// Who asks at once. Each hashes passwords, so a few keep the services busy.
const CLIENTS: usize = 6;

const MASTER: [u8; 32] = [1; 32];

/// A free port, and for as long as the tests run most likely a free one still.
fn port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Random numbers; which ones does not matter.
fn chance(below: u64) -> u64 {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    u64::from_le_bytes(bytes) % below
}

/// One service as a process of its own.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
}

/// Where services run as processes, and what they write there.
pub(crate) struct Place {
    /// Their settings, beyond those that every test needs.
    pub(crate) settings: Vec<(&'static str, String)>,
    folder: String,
    pub(crate) auth: SocketAddr,
    pub(crate) users: SocketAddr,
    pub(crate) lines: Arc<Mutex<Vec<String>>>,
}

impl Place {
    pub(crate) fn of(databases: &Databases) -> Self {
        Self {
            settings: vec![
                ("AUTH_DATABASE_URL", databases.url(Service::Auth)),
                ("USERS_DATABASE_URL", databases.url(Service::Users)),
            ],
            folder: databases.folder.path().display().to_string(),
            auth: port(),
            users: port(),
            lines: Arc::default(),
        }
    }

    pub(crate) fn start(&self, name: &'static str) -> Process {
        let secret = format!("k1:{}", URL_SAFE_NO_PAD.encode(ASSERTION_SECRET));
        let (auth, users) = (self.auth.port().to_string(), self.users.port().to_string());
        let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis-origin"))
            .args(["serve", name])
            .envs(self.settings.iter().map(|(name, url)| (*name, url.as_str())))
            .env("DATA_DIR", &self.folder)
            .env("AUTH_PORT", auth)
            .env("USERS_PORT", users)
            .env("EDGE_URL", "http://127.0.0.1:9")
            .env("MASTER_KEY", URL_SAFE_NO_PAD.encode(MASTER))
            .env("ASSERTION_KEYS_AUTH", &secret)
            .env("ASSERTION_KEYS_USERS", &secret)
            .env("SERVICE_SECRET_AUTH_SERVICE", AUTH_SECRET)
            .env("SERVICE_SECRET_USER_SERVICE", USERS_SECRET)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let lines = Arc::clone(&self.lines);
        tokio::spawn(async move {
            let (mut out, mut err) = (BufReader::new(out).lines(), BufReader::new(err).lines());
            loop {
                let line = tokio::select! {
                    Ok(Some(line)) = out.next_line() => line,
                    Ok(Some(line)) = err.next_line() => line,
                    else => return,
                };
                lines.lock().unwrap().push(line);
            }
        });
        Process { name, child }
    }
}

/// Starts it again if it ended by itself, as whoever runs it would: its port may be
/// another connection's for a moment.
pub(crate) async fn until_ready(app: &App, place: &Place, process: &mut Process) {
    let service = if process.name == "auth" { Service::Auth } else { Service::Users };
    let url = app.url(service, "/ready");
    for _ in 0..1200 {
        if process.child.try_wait().unwrap().is_some() {
            *process = place.start(process.name);
        }
        if app.http.get(&url).send().await.is_ok_and(|answer| answer.status() == 200) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let lines = place.lines.lock().unwrap();
    panic!("{service:?} is not ready again:\n{}", lines[lines.len().saturating_sub(10)..].join("\n"));
}

/// What a client was told of one account.
#[derive(Debug, Clone, Default)]
struct Told {
    id: Option<String>,
    /// First names that may be there: the last one that was acknowledged, and those that
    /// were sent after it and never answered.
    first_names: Vec<String>,
    is_deleted: bool,
    may_be_deleted: bool,
    /// The last refresh token that was given, unless a refresh was never answered since.
    refresh: Option<(String, String)>,
}

async fn live(
    app: &App,
    number: usize,
    stop: &AtomicBool,
    told: &Mutex<HashMap<String, Told>>,
    secrets: &Mutex<Vec<String>>,
) {
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        let email = format!("person-{number}-{turn}@example.com");
        let mut known = Told::default();
        let first = format!("First {number} {turn}");
        let body = json!({ "email": email, "password": PASSWORD, "first_name": first });
        known.first_names.push(first);
        // As people do: again, until it is answered.
        let registered = again(stop, || {
            try_send(app, Service::Auth, Method::POST, "/api/v1/auth/register", None, Some(body.clone()))
        })
        .await;
        // A 409 says that an attempt before was carried out and its answer lost.
        if !registered.as_ref().is_some_and(|reply| matches!(reply.status, 201 | 409)) {
            told.lock().unwrap().insert(email, known);
            continue;
        }
        let body = json!({ "email": email, "password": PASSWORD });
        let Some(login) =
            again(stop, || try_send(app, Service::Auth, Method::POST, "/api/v1/auth/login", None, Some(body.clone())))
                .await
        else {
            told.lock().unwrap().insert(email, known);
            continue;
        };
        assert_eq!(login.status, 200, "who is registered logs in: {}", login.text);
        let mut person = person_of(&login);
        known.id = Some(person.id.clone());
        known.refresh = Some((person.refresh.clone(), person.session.clone()));
        secrets.lock().unwrap().extend([person.refresh.clone(), person.access.clone()]);
        for step in 0..chance(4) {
            if chance(2) == 0 {
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
                        person = person_of(&reply);
                        known.refresh = Some((person.refresh.clone(), person.session.clone()));
                        secrets.lock().unwrap().extend([person.refresh.clone(), person.access.clone()]);
                    }
                    Ok(_) | Err(_) => known.refresh = None,
                }
            }
        }
        if chance(4) == 0 {
            let path = format!("/api/v1/users/{}", person.id);
            known.may_be_deleted = true;
            let sent = try_send(app, Service::Users, Method::DELETE, &path, Some(&person), None).await;
            known.is_deleted = sent.is_ok_and(|reply| reply.status == 204);
        }
        told.lock().unwrap().insert(email, known);
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

/// Sends until there is an answer that is not about our own trouble.
async fn again<F: Future<Output = Result<Reply, reqwest::Error>>>(
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

fn person_of(login: &Reply) -> Person {
    let body = login.json();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let access = text(&body["access_token"]);
    Person {
        id: text(&body["user"]["id"]),
        email: text(&body["user"]["email"]),
        roles: serde_json::from_value(body["user"]["roles"].clone()).unwrap(),
        session: text(&claims(&access)["sid"]),
        refresh: text(&body["refresh_token"]),
        access,
    }
}

/// Id, address and first name of all that a table has.
async fn people(app: &App, service: Service, query: &'static str) -> Vec<(String, String, String)> {
    let pool = app.databases.open(service).await;
    let rows = sqlx::query(query).fetch_all(&pool).await.unwrap();
    pool.close().await;
    let mut people: Vec<_> = rows.iter().map(|row| (row.get("id"), row.get("email"), row.get("first_name"))).collect();
    people.sort();
    people
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_the_services_lose_nothing_that_they_acknowledged() {
    let databases = Databases::make().await;
    let place = Place::of(&databases);
    let mut app = Arc::new(App::before(databases, place.auth, place.users));
    let mut running = [place.start("auth"), place.start("users")];
    for process in &mut running {
        until_ready(&app, &place, process).await;
    }
    let (stop, told, secrets) = (Arc::new(AtomicBool::new(false)), Arc::default(), Arc::default());
    let done = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (app, stop, told, secrets) =
                (Arc::clone(&app), Arc::clone(&stop), Arc::clone(&told), Arc::clone(&secrets));
            let done = Arc::clone(&done);
            tokio::spawn(async move {
                live(&app, number, &stop, &told, &secrets).await;
                done.fetch_add(1, Ordering::Relaxed);
            })
        })
        .collect();
    let kills = kills();
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(50 + chance(350))).await;
        let victim = &mut running[usize::try_from(chance(2)).unwrap()];
        // SIGKILL: nothing of it runs any more.
        victim.child.kill().await.unwrap();
        *victim = place.start(victim.name);
        assert_eq!(done.load(Ordering::Relaxed), 0, "a client gave up");
        until_ready(&app, &place, victim).await;
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    for process in &mut running {
        process.child.kill().await.unwrap();
    }
    let lines = std::mem::take(&mut *place.lines.lock().unwrap());
    let told: HashMap<String, Told> = std::mem::take(&mut *told.lock().unwrap());
    let mut secrets: Vec<String> = std::mem::take(&mut *secrets.lock().unwrap());

    // Registrations that were given up are given up for good after a while.
    let app = Arc::get_mut(&mut app).unwrap();
    app.clock.pass(20 * 60 * 1000);
    app.restart(EnabledServices { auth: true, users: true }).await;
    app.until_agreed().await;
    let agreed = people(app, Service::Users, "SELECT id, email, first_name FROM profiles").await;
    let there: HashMap<&str, &(String, String, String)> = agreed.iter().map(|row| (row.1.as_str(), row)).collect();
    let mut acknowledged = 0;
    for (email, known) in &told {
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
    for (email, known) in told.iter().filter(|(_, known)| !known.may_be_deleted).take(20) {
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
