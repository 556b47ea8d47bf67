//! The two services, and requests as the gateway sends them.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::atomic::{AtomicI64, Ordering},
};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::Parser;
use portcullis_client::secret::Secret;
use portcullis_origin::{
    auth::{AdminWish, create_admin},
    boot::{self, EnabledServices, RunningServices, StartError},
    clock::Clock,
    limits,
    settings::{Secrets, Settings},
    store::{Database, Schema},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::databases::{Databases, Service};

/// Both services.
pub(crate) const BOTH: EnabledServices = EnabledServices { auth: true, users: true };
/// The auth service only.
pub(crate) const AUTH_ONLY: EnabledServices = EnabledServices { auth: true, users: false };
/// The user service only.
pub(crate) const USERS_ONLY: EnabledServices = EnabledServices { auth: false, users: true };

pub(crate) const PASSWORD: &str = "correct horse battery";

pub(crate) const AUTH_SECRET: &str = "the secret of the auth service, for tests";

pub(crate) const USERS_SECRET: &str = "the secret of the user service, for tests";

pub(crate) const ASSERTION_SECRET: [u8; 32] = [7; 32];

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    settings: Settings,
}

/// Writes a file with mode 0600.
pub(crate) fn write_private(path: impl AsRef<std::path::Path>, text: impl AsRef<[u8]>) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Makes settings as from a command line.
pub(crate) fn settings(
    databases: &Databases,
    auth_port: u16,
    users_port: u16,
    master: [u8; 32],
    edge_url: &str,
) -> Settings {
    settings_with_old_master_key(databases, auth_port, users_port, master, None, edge_url)
}

/// The same, with a previous master key.
pub(crate) fn settings_with_old_master_key(
    databases: &Databases,
    auth_port: u16,
    users_port: u16,
    master: [u8; 32],
    old: Option<[u8; 32]>,
    edge_url: &str,
) -> Settings {
    let folder = databases.folder.path().to_str().unwrap();
    let (auth, users) = (auth_port.to_string(), users_port.to_string());
    let mut line =
        vec!["origin", "--data-dir", folder, "--auth-port", &auth, "--users-port", &users, "--edge-url", edge_url];
    // SQLite is the default.
    let (auth_url, users_url) = (databases.url(Service::Auth), databases.url(Service::Users));
    if !databases.is_sqlite() {
        line.extend(["--auth-database-url", &auth_url, "--users-database-url", &users_url]);
    }
    CommandLine::try_parse_from(line).ok().unwrap().settings.with_secrets(Secrets {
        master_key_old: old.map(|old| Secret::new(URL_SAFE_NO_PAD.encode(old))),
        ..secrets(master)
    })
}

/// Makes the secrets of the services.
pub(crate) fn secrets(master: [u8; 32]) -> Secrets {
    let keys = Secret::new(format!("k1:{}", URL_SAFE_NO_PAD.encode(ASSERTION_SECRET)));
    Secrets {
        master_key: Some(Secret::new(URL_SAFE_NO_PAD.encode(master))),
        assertion_keys_auth: Some(keys.clone()),
        assertion_keys_users: Some(keys),
        auth_service: Some(Secret::new(AUTH_SECRET.to_owned())),
        user_service: Some(Secret::new(USERS_SECRET.to_owned())),
        ..Secrets::default()
    }
}

/// A response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// Returns status and error code.
pub(crate) fn status_and_code(reply: &Reply) -> (u16, String) {
    (reply.status, reply.code())
}

/// A logged-in user.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    pub(crate) id: String,
    pub(crate) email: String,
    pub(crate) roles: Vec<String>,
    pub(crate) session: String,
    pub(crate) access: String,
    pub(crate) refresh: String,
}

impl Person {
    /// Reads the person from the response to a login.
    pub(crate) fn from_login(login: &Reply) -> Self {
        let body = login.json();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let access = text(&body["access_token"]);
        Self {
            id: text(&body["user"]["id"]),
            email: text(&body["user"]["email"]),
            roles: serde_json::from_value(body["user"]["roles"].clone()).unwrap(),
            session: text(&claims(&access)["sid"]),
            refresh: text(&body["refresh_token"]),
            access,
        }
    }
}

pub(crate) struct App {
    pub(crate) databases: Databases,
    pub(crate) clock: Clock,
    pub(crate) http: reqwest::Client,
    /// `https` in tests of TLS, with a client that trusts the certificate.
    pub(crate) scheme: &'static str,
    running: Option<RunningServices>,
    /// Seconds by which the gateway's clock is ahead of the services'.
    pub(crate) gateway_ahead_s: AtomicI64,
    auth: SocketAddr,
    users: SocketAddr,
    edge_url: String,
}

impl App {
    /// Starts both services.
    pub(crate) async fn start() -> Self {
        // Nothing listens on the discard port.
        Self::start_behind("http://127.0.0.1:9").await
    }

    /// Starts both services behind a gateway that receives revocations.
    pub(crate) async fn start_behind(edge_url: &str) -> Self {
        Self::start_with(edge_url, |settings| settings).await
    }

    /// Starts both services with other settings, which a restart resets.
    pub(crate) async fn start_with(edge_url: &str, set: impl FnOnce(Settings) -> Settings) -> Self {
        let databases = Databases::make().await;
        let clock = Clock::default();
        let both = BOTH;
        let settings = set(settings(&databases, 0, 0, [1; 32], edge_url));
        let running = boot::start(&settings, both, clock.clone()).await.unwrap();
        let (auth, users) = (running.auth.unwrap(), running.users.unwrap());
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self {
            databases,
            clock,
            http,
            scheme: "http",
            running: Some(running),
            gateway_ahead_s: AtomicI64::new(0),
            auth,
            users,
            edge_url: edge_url.to_owned(),
        }
    }

    /// Sets the gateway of later starts.
    pub(crate) fn set_edge(&mut self, url: &str) {
        url.clone_into(&mut self.edge_url);
    }

    /// Stops all services and starts `which` on the same ports and databases.
    pub(crate) async fn restart(&mut self, which: EnabledServices) {
        self.restart_with(which, [1; 32]).await.unwrap();
    }

    pub(crate) async fn restart_with(&mut self, which: EnabledServices, master: [u8; 32]) -> Result<(), StartError> {
        self.restart_with_old(which, master, None).await
    }

    pub(crate) async fn restart_with_old(
        &mut self,
        which: EnabledServices,
        master: [u8; 32],
        old: Option<[u8; 32]>,
    ) -> Result<(), StartError> {
        self.stop().await;
        // Kept connections lead to the stopped services.
        self.http = reqwest::Client::builder().no_proxy().build().unwrap();
        let settings = settings_with_old_master_key(
            &self.databases,
            self.auth.port(),
            self.users.port(),
            master,
            old,
            &self.edge_url,
        );
        self.running = Some(boot::start(&settings, which, self.clock.clone()).await?);
        Ok(())
    }

    pub(crate) async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
    }

    /// Starts another service in the same process.
    pub(crate) async fn start_additional(&self, which: EnabledServices) -> RunningServices {
        let settings = settings(&self.databases, self.auth.port(), self.users.port(), [1; 32], &self.edge_url);
        boot::start(&settings, which, self.clock.clone()).await.unwrap()
    }

    /// Starts another process of the auth service, on its own port.
    pub(crate) async fn start_second_auth(&self) -> RunningServices {
        let settings = settings(&self.databases, 0, self.users.port(), [1; 32], &self.edge_url);
        boot::start(&settings, AUTH_ONLY, self.clock.clone()).await.unwrap()
    }

    /// Creates an administrator and logs in.
    pub(crate) async fn admin(&self, email: &str) -> Person {
        let auth = Database::open(&self.databases.url(Service::Auth), Schema::Auth).await.unwrap();
        let users = Database::open(&self.databases.url(Service::Users), Schema::Users).await.unwrap();
        let password = Secret::new(PASSWORD.to_owned());
        create_admin(auth.clone(), users.clone(), email, AdminWish::Make(&password), &self.clock).await.unwrap();
        auth.close().await;
        users.close().await;
        self.log_in(email).await
    }

    /// Requests a token with which one service calls the other.
    pub(crate) async fn service_token(&self, to: Service) -> String {
        let (name, secret, audience) = match to {
            Service::Auth => ("user-service", USERS_SECRET, "auth-service"),
            Service::Users => ("auth-service", AUTH_SECRET, "user-service"),
        };
        let request = self
            .http
            .post(self.url(Service::Auth, "/api/v1/auth/token"))
            .basic_auth(name, Some(secret))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("grant_type=client_credentials&audience={audience}"));
        self.send_raw(request).await.json()["access_token"].as_str().unwrap().to_owned()
    }

    /// Makes a call from one service to the other.
    pub(crate) fn internal(&self, to: Service, method: Method, url: &str, token: &str) -> reqwest::RequestBuilder {
        let caller = match to {
            Service::Auth => "user-service",
            Service::Users => "auth-service",
        };
        self.http.request(method, url).bearer_auth(token).header("x-service-caller", caller)
    }

    /// Waits until every active account has an equal profile, there is no other profile, and no
    /// synchronisation is pending.
    pub(crate) async fn until_synchronised(&self) {
        // Entries that a crashed process claimed become due again.
        self.clock.pass(limits::PROFILE_SYNC_GRACE_MS.max(limits::PROFILE_SYNC_LEASE_MS));
        let (auth, users) = (self.databases.open(Service::Auth).await, self.databases.open(Service::Users).await);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            let accounts = rows(
                &auth,
                "SELECT accounts.*, (SELECT string_agg(r.name, ',' ORDER BY r.name) FROM account_roles h \
                   JOIN roles r ON r.id = h.role_id WHERE h.account_id = accounts.id) AS roles \
                 FROM accounts WHERE state = 'active' ORDER BY id",
            )
            .await;
            let profiles = rows(&users, "SELECT * FROM profiles ORDER BY id").await;
            let pending = rows(
                &auth,
                "SELECT account_id FROM stale_profiles \
                 WHERE NOT EXISTS (SELECT 1 FROM accounts WHERE id = account_id AND state = 'pending')",
            )
            .await;
            // An account has every column of its profile, and more.
            let of_account = accounts
                .iter()
                .zip(&profiles)
                .all(|(account, profile)| profile.iter().all(|(column, value)| account.get(column) == Some(value)));
            if accounts.len() == profiles.len() && of_account && pending.is_empty() {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "never agreed:\n{accounts:#?}\n{profiles:#?}\n{pending:#?}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        auth.close().await;
        users.close().await;
    }

    /// Makes requests to services that run elsewhere.
    pub(crate) fn connect(databases: Databases, auth: SocketAddr, users: SocketAddr) -> Self {
        let http = reqwest::Client::builder().no_proxy().timeout(std::time::Duration::from_secs(10)).build().unwrap();
        let edge_url = "http://127.0.0.1:9".to_owned();
        Self {
            databases,
            clock: Clock::default(),
            http,
            scheme: "http",
            running: None,
            gateway_ahead_s: AtomicI64::new(0),
            auth,
            users,
            edge_url,
        }
    }

    pub(crate) fn url(&self, service: Service, target: &str) -> String {
        let addr = match service {
            Service::Auth => self.auth,
            Service::Users => self.users,
        };
        format!("{}://{addr}{target}", self.scheme)
    }

    /// Sends a request without an assertion.
    pub(crate) async fn send_raw(&self, request: reqwest::RequestBuilder) -> Reply {
        let answer = request.send().await.unwrap();
        Reply {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            text: answer.text().await.unwrap(),
        }
    }

    /// Sends a request as the gateway forwards it.
    pub(crate) async fn send(
        &self,
        service: Service,
        method: Method,
        target: &str,
        who: Option<&Person>,
        body: Option<Value>,
    ) -> Reply {
        self.send_raw(self.forwarded(service, method, target, who, body)).await
    }

    /// The same request, to which a test can add headers.
    pub(crate) fn forwarded(
        &self,
        service: Service,
        method: Method,
        target: &str,
        who: Option<&Person>,
        body: Option<Value>,
    ) -> reqwest::RequestBuilder {
        let mut request = self
            .http
            .request(method.clone(), self.url(service, target))
            .header("x-gateway-assertion", self.assertion(service, &method, target, who));
        if let Some(person) = who {
            request = request.bearer_auth(&person.access);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        request
    }

    /// Returns the milliseconds since 1970 by the gateway's clock.
    pub(crate) fn gateway_now(&self) -> i64 {
        self.clock.now() + self.gateway_ahead_s.load(Ordering::Relaxed) * 1000
    }

    pub(crate) fn assertion(&self, service: Service, method: &Method, target: &str, who: Option<&Person>) -> String {
        let now = self.gateway_now() / 1000;
        let mut claims = json!({
            "iss": "portcullis", "aud": service.name(), "iat": now, "exp": now + 30,
            "jti": uuid::Uuid::from_u128(u128::try_from(now).unwrap()).to_string(),
            "htm": method.as_str(), "htu": target,
        });
        if let Some(person) = who {
            claims["sub"] = json!(person.id);
            claims["email"] = json!(person.email);
            claims["roles"] = json!(person.roles);
            claims["sid"] = json!(person.session);
        }
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({ "alg": "HS256", "typ": "gateway+jwt", "kid": "k1" });
        let input = format!("{}.{}", part(&header), part(&claims));
        let key = hmac::Key::new(hmac::HMAC_SHA256, &ASSERTION_SECRET);
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, input.as_bytes())))
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.send(Service::Auth, Method::POST, path, None, Some(body)).await
    }

    pub(crate) async fn register(&self, email: &str) -> Reply {
        self.post("/api/v1/auth/register", json!({ "email": email, "password": PASSWORD, "first_name": "Ada" })).await
    }

    pub(crate) async fn login(&self, email: &str) -> Reply {
        self.post("/api/v1/auth/login", json!({ "email": email, "password": PASSWORD })).await
    }

    pub(crate) async fn refresh(&self, token: &str) -> Reply {
        self.post("/api/v1/auth/refresh", json!({ "refresh_token": token })).await
    }

    /// Registers an account and logs in.
    pub(crate) async fn person(&self, email: &str) -> Person {
        let registered = self.register(email).await;
        assert_eq!(registered.status, 201, "{}", registered.text);
        self.log_in(email).await
    }

    /// Logs in again.
    pub(crate) async fn log_in(&self, email: &str) -> Person {
        let login = self.login(email).await;
        assert_eq!(login.status, 200, "{}", login.text);
        Person::from_login(&login)
    }

    pub(crate) async fn get(&self, service: Service, target: &str, who: &Person) -> Reply {
        self.send(service, Method::GET, target, Some(who), None).await
    }
}

/// Returns the texts and numbers of rows by their columns; roles are sorted names.
async fn rows(pool: &sqlx::AnyPool, query: &'static str) -> Vec<BTreeMap<String, String>> {
    use sqlx::{Column as _, Row as _};
    let rows = sqlx::query(query).fetch_all(pool).await.unwrap();
    let value = |row: &sqlx::any::AnyRow, column: &str| {
        let number = row.try_get::<i64, _>(column).map(|number| number.to_string());
        let value = row.try_get::<String, _>(column).or(number).unwrap_or_default();
        if column != "roles" {
            return value;
        }
        let mut roles: Vec<&str> = value.split(|c: char| !c.is_alphanumeric()).filter(|n| !n.is_empty()).collect();
        roles.sort_unstable();
        roles.join(",")
    };
    let described = |row: &sqlx::any::AnyRow| {
        row.columns().iter().map(|column| (column.name().to_owned(), value(row, column.name()))).collect()
    };
    rows.iter().map(described).collect()
}

/// Decodes the claims of a token without verification.
pub(crate) fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}
