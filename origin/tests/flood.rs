//! A flood of logins from many addresses, while owners log in from known addresses.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use portcullis_origin::limits;
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::support::{App, PASSWORD, Reply, Service, until};

const LOGIN: &str = "/api/v1/auth/login";

const ADA: &str = "ada@example.com";

const HOME: &str = "192.0.2.1";

/// Concurrent logins of the flood.
const FLOOD: usize = 200;

/// Number of attacked accounts: on a single account, most guesses would wait for each other.
const TARGETS: usize = 40;

/// Pause of a guesser after an answer without a hash.
const PAUSE: Duration = Duration::from_millis(250);

/// A hash of no password whose cost makes a queue of [`FLOOD`] too long on any machine.
const COSTLY: &str =
    "$argon2id$v=19$m=131072,t=4,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn target(number: usize) -> String {
    format!("target-{}@example.com", number % TARGETS)
}

/// Creates accounts whose passwords are costly to verify.
async fn make_targets(app: &App) {
    let pool = app.databases.open(Service::Auth).await;
    for number in 0..TARGETS {
        sqlx::query(
            "INSERT INTO accounts (id, email, password_hash, first_name, last_name, state, attempt, created_at, updated_at) \
             VALUES ($1, $2, $3, '', '', 'active', '', 1, 1)",
        )
        .bind(format!("00000000-0000-7000-8000-{number:012}"))
        .bind(target(number))
        .bind(COSTLY)
        .execute(&pool)
        .await
        .unwrap();
    }
    pool.close().await;
}

async fn login(app: &App, email: &str, password: &str, address: &str) -> Reply {
    let body = json!({ "email": email, "password": password });
    let request = app.forwarded(Service::Auth, Method::POST, LOGIN, None, Some(body));
    app.send_raw(request.header("x-forwarded-for", address)).await
}

/// The answer to a guess, and its time.
struct GuessResult {
    status: u16,
    retry_after_s: Option<u64>,
    after: Duration,
}

/// Guesses from one address until it is stopped.
async fn guess(app: &App, number: usize, stop: &AtomicBool, told: &Mutex<Vec<GuessResult>>) {
    let address = format!("198.51.{}.{}", 100 + number / 250, 1 + number % 250);
    let mut turn = number;
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let reply = login(app, &target(turn), "not their password", &address).await;
        let retry_after_s = reply.headers.get("retry-after").map(|value| value.to_str().unwrap().parse().unwrap());
        told.lock().unwrap().push(GuessResult { status: reply.status, retry_after_s, after: begun.elapsed() });
        turn += 1;
        if reply.status != 401 {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn during_a_flood_of_guesses_owners_log_in_from_known_addresses() {
    let app = Arc::new(App::start().await);
    app.register(ADA).await;
    assert_eq!(login(&app, ADA, PASSWORD, HOME).await.status, 200, "the address is known from now on");
    make_targets(&app).await;
    let (stop, told) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let guessers: Vec<JoinHandle<()>> = (0..FLOOD)
        .map(|number| {
            let (app, stop, told) = (Arc::clone(&app), Arc::clone(&stop), Arc::clone(&told));
            tokio::spawn(async move { guess(&app, number, &stop, &told).await })
        })
        .collect();
    let refused = || told.lock().unwrap().iter().filter(|told| told.status == 503).count();
    until("the queue is never too long", || refused() > 0).await;

    for time in 0..4 {
        let before = refused();
        let reply = login(&app, ADA, PASSWORD, HOME).await;
        assert_eq!(reply.status, 200, "login {time}: {}", reply.text);
        // The flood continues: the next guess is rejected as well.
        until("the flood has ended", || refused() > before).await;
    }
    stop.store(true, Ordering::Relaxed);
    for guesser in guessers {
        guesser.await.unwrap();
    }

    let told = told.lock().unwrap();
    for GuessResult { status, retry_after_s, after } in told.iter() {
        match status {
            401 => assert_eq!(*retry_after_s, None),
            429 | 503 => assert!(retry_after_s.is_some_and(|seconds| seconds > 0), "{status} without Retry-After"),
            other => panic!("{other} after {after:?}"),
        }
    }
    let earliest = told.iter().filter(|told| told.status == 503).map(|told| told.after).min().unwrap();
    assert!(earliest < limits::HASH_WAIT / 2, "refused after {earliest:?}, and not at once");
    assert!(told.iter().any(|told| told.status == 401), "guessers have their turns, too");
}
