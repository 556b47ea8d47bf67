//! Compares the cost of a call through the client with the same call through reqwest: an authenticated
//! GET of a small server in this process, with the same headers and the same kind of connection, in
//! alternating batches. `npm run bench:origin` passes the duration in seconds; prints one line of JSON.
//!
//! The reported ratio is the median of the ratios of adjacent batches.

#![allow(clippy::print_stdout, reason = "its one line is what it is for")]

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    routing::{get, post},
};
use portcullis_client::{
    AuthClient as _, AuthenticatedClient, HttpAuthClient, Secret,
    account::Credentials,
    request::{ApiRequest, Method},
    session::MemoryStore,
};
use reqwest::header::{ACCEPT, AUTHORIZATION};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Calls per batch: about ten milliseconds, so that other load on the machine affects all three kinds.
const BATCH: u32 = 100;

const USER_ID: &str = "0190b2a4-0000-7000-8000-000000000001";

type Fault = Box<dyn Error + Send + Sync>;

fn user() -> Value {
    json!({
        "id": USER_ID, "email": "ada@example.com", "first_name": "Ada", "last_name": "Lovelace", "roles": ["user"],
        "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
    })
}

/// A token of the length of a real access token.
fn token() -> String {
    format!("{0}.{0}{0}.{0}", "eyJhbGciOiJSUzI1NiIs".repeat(8))
}

/// Starts the server on a thread of its own.
fn serve() -> Result<String, Fault> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let url = format!("http://{}", listener.local_addr()?);
    let login = || async {
        Json(json!({
            "access_token": token(), "refresh_token": "r".repeat(43), "token_type": "Bearer", "expires_in": 900,
            "user": user(),
        }))
    };
    let app = Router::new()
        .route("/api/v1/auth/login", post(login))
        .route("/api/v1/users/{id}", get(|| async { Json(json!({ "data": user() })) }));
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { axum::serve(TcpListener::from_std(listener)?, app).await })
    });
    Ok(url)
}

/// The three kinds of call.
struct Ways {
    bare: reqwest::Client,
    url: String,
    plain: HttpAuthClient,
    session: AuthenticatedClient,
    token: Secret,
}

impl Ways {
    async fn open(base: &str) -> Result<Self, Fault> {
        let plain = HttpAuthClient::new(base)?;
        let credentials = Credentials::new("ada@example.com", Secret::new("correct horse battery".to_owned()));
        let session =
            AuthenticatedClient::login(Arc::new(plain.clone()), Arc::new(MemoryStore::default()), &credentials).await?;
        let bare = reqwest::Client::builder()
            .user_agent(concat!("portcullis-client/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self { bare, url: format!("{base}/api/v1/users/{USER_ID}"), plain, session, token: Secret::new(token()) })
    }

    async fn bare(&self) -> Result<usize, Fault> {
        let request = self.bare.get(&self.url).header(ACCEPT, "application/json");
        let answer = request.header(AUTHORIZATION, format!("Bearer {}", self.token.expose())).send().await?;
        Ok(answer.error_for_status()?.bytes().await?.len())
    }

    async fn plain(&self) -> Result<usize, Fault> {
        Ok(self.plain.exchange(request().with_token(&self.token)).await?.body().len())
    }

    async fn session(&self) -> Result<usize, Fault> {
        Ok(self.session.send(request()).await?.body().len())
    }
}

fn request() -> ApiRequest {
    ApiRequest::new(Method::GET, "/api/v1/users/{id}").with_segment(USER_ID)
}

/// Measures a batch and returns the microseconds per call.
async fn time<F: Future<Output = Result<usize, Fault>>>(call: impl Fn() -> F) -> Result<f64, Fault> {
    let begun = Instant::now();
    for _ in 0..BATCH {
        if call().await? == 0 {
            return Err("an answer without a body".into());
        }
    }
    Ok(begun.elapsed().as_secs_f64() * 1e6 / f64::from(BATCH))
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Fault> {
    let seconds = std::env::args().find_map(|text| text.parse::<u32>().ok()).unwrap_or(10);
    let ways = Ways::open(&serve()?).await?;
    // Warms up connections, caches and the clock frequency.
    for _ in 0..10 {
        time(|| ways.bare()).await?;
        time(|| ways.plain()).await?;
        time(|| ways.session()).await?;
    }

    let end = Instant::now().checked_add(Duration::from_secs(seconds.into())).ok_or("too many seconds")?;
    let (mut bare, mut plain, mut session) = (Vec::new(), Vec::new(), Vec::new());
    // The order alternates, because the first batch after a pause is slower.
    for turn in (0..3).cycle() {
        if Instant::now() >= end {
            break;
        }
        for way in 0..3_u8 {
            match way.wrapping_add(turn) % 3 {
                0 => bare.push(time(|| ways.bare()).await?),
                1 => plain.push(time(|| ways.plain()).await?),
                _ => session.push(time(|| ways.session()).await?),
            }
        }
    }
    let to_bare = |values: &[f64]| median(values.iter().zip(&bare).map(|(value, bare)| value / bare).collect());
    let (plain_ratio, session_ratio) = (to_bare(&plain), to_bare(&session));
    let told = json!({
        "batches": bare.len(),
        "bare_us": median(bare), "plain_us": median(plain), "session_us": median(session),
        "plain_ratio": plain_ratio, "session_ratio": session_ratio,
    });
    println!("{told}");
    Ok(())
}
