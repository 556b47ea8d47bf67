//! From settings to services that run: opens databases and keys, builds both
//! services' states, and joins them.

use std::{fmt, net::SocketAddr, sync::Arc};

use axum::Router;
use portcullis_client::internal::{InternalClient, Settings};
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    auth::{self, Auth, Keyring, Passwords, Pusher, Reconciler},
    clock::Clock,
    http::{Gate, Metrics, starting},
    limits,
    server::{self, Bound},
    settings::{BadSetting, Flags},
    store::{
        Accounts, AuditTrail, Database, Guessing, Outbox, Permissions, Profiles, Rights, Roles, Schema, Services,
        Sessions, SigningKeys, Stale,
    },
    users::{self, FetchedKeys, Users},
};

/// Why a service does not start; the text says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootFault {
    /// A setting.
    Setting(String),
    /// A port.
    Port(String),
    /// A database, a key.
    Other(String),
}

impl fmt::Display for BootFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Setting(text) | Self::Port(text) | Self::Other(text)) = self;
        formatter.write_str(text)
    }
}

impl std::error::Error for BootFault {}

impl From<BadSetting> for BootFault {
    fn from(bad: BadSetting) -> Self {
        Self::Setting(bad.0)
    }
}

fn other(text: impl Into<String>) -> BootFault {
    BootFault::Other(text.into())
}

/// Which services one process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Which {
    /// The auth service.
    pub auth: bool,
    /// The user service.
    pub users: bool,
}

/// Services that listen.
#[derive(Debug)]
pub struct Running {
    /// Where the auth service listens.
    pub auth: Option<SocketAddr>,
    /// Where the user service listens.
    pub users: Option<SocketAddr>,
    tasks: Vec<JoinHandle<()>>,
    databases: Vec<Database>,
    stop: watch::Sender<bool>,
}

impl Running {
    /// Stops listening, and waits until requests under way are answered.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        for task in self.tasks {
            let _ = task.await;
        }
        for database in self.databases {
            database.close().await;
        }
    }
}

/// A port that answers, with what it answers.
struct Listening {
    addr: SocketAddr,
    app: watch::Sender<Router>,
    task: JoinHandle<()>,
}

impl Listening {
    /// Answers that the service is starting, from now until it has another app.
    fn begin(bound: Bound, gate: Gate, stopped: &watch::Receiver<bool>) -> Self {
        let addr = bound.addr;
        let (app, apps) = watch::channel(starting(gate));
        Self { addr, app, task: tokio::spawn(server::serve(bound, apps, stopped.clone())) }
    }

    fn ready(self, service: &str, app: Router, tasks: &mut Vec<JoinHandle<()>>) -> SocketAddr {
        let _ = self.app.send(app);
        tracing::info!(service, addr = %self.addr, "listening");
        tasks.push(self.task);
        self.addr
    }
}

/// Starts services: they answer as soon as their settings are right and their ports bound,
/// and do their work when this returns.
///
/// # Errors
/// [`BootFault`]; nothing listens then.
pub async fn start(flags: &Flags, which: Which, clock: Clock) -> Result<Running, BootFault> {
    let auth_bound = if which.auth { Some(bind(flags, "auth", flags.auth_port, "AUTH_PORT").await?) } else { None };
    let users_bound =
        if which.users { Some(bind(flags, "users", flags.users_port, "USERS_PORT").await?) } else { None };
    let place = |bound: &Option<Bound>, port: u16| {
        let addr = bound.as_ref().map_or_else(|| SocketAddr::new(flags.bind, port), |bound| bound.addr);
        format!("http://{addr}")
    };
    let trim = |url: &String| url.trim_end_matches('/').to_owned();
    let auth_url = flags.auth_url.as_ref().map_or_else(|| place(&auth_bound, flags.auth_port), trim);
    let users_url = flags.users_url.as_ref().map_or_else(|| place(&users_bound, flags.users_port), trim);
    flags.check(which.auth, which.users)?;
    let first_admin = flags.first_admin()?;
    flags.make_folder()?;

    let (stop, stopped) = watch::channel(false);
    let listen = |bound: Option<Bound>, gate: Result<Gate, BadSetting>| {
        bound.map(|bound| Ok::<_, BootFault>(Listening::begin(bound, gate?, &stopped))).transpose()
    };
    let auth_listening = listen(auth_bound, auth_gate(flags, &clock))?;
    let users_listening = listen(users_bound, users_gate(flags, &clock))?;
    let states = async {
        let auth = match auth_listening {
            Some(_) => Some(auth_state(flags, &auth_url, &users_url, clock.clone()).await?),
            None => None,
        };
        let users = match users_listening {
            Some(_) => Some(users_state(flags, &auth_url, clock.clone()).await?),
            None => None,
        };
        Ok((auth, users))
    };
    let (auth_state, users_state) = match states.await {
        Ok(states) => states,
        Err(fault) => {
            let _ = stop.send(true);
            for listening in [auth_listening, users_listening].into_iter().flatten() {
                let _ = listening.task.await;
            }
            return Err(fault);
        }
    };
    let mut running = Running { auth: None, users: None, tasks: Vec::new(), databases: Vec::new(), stop };
    if let (Some(listening), Some(state)) = (auth_listening, auth_state) {
        running.databases.push(state.database.clone());
        running.auth = Some(listening.ready("auth", auth::app(state.clone()), &mut running.tasks));
        tokio::spawn(maintain_metrics(state.metrics.clone(), stopped.clone()));
        tokio::spawn(maintain_keys(state.clone(), stopped.clone()));
        tokio::spawn(sweep(state.clone(), stopped.clone()));
        tokio::spawn(push(state.clone(), stopped.clone()));
        if let Some(first) = first_admin {
            tokio::spawn(auth::make_first_admin(state.clone(), first, stopped.clone()));
        }
        tokio::spawn(reconcile(state, stopped.clone()));
    }
    if let (Some(listening), Some(state)) = (users_listening, users_state) {
        running.databases.push(state.database.clone());
        tokio::spawn(maintain_metrics(state.metrics.clone(), stopped.clone()));
        running.users = Some(listening.ready("users", users::app(state), &mut running.tasks));
    }
    Ok(running)
}

fn auth_gate(flags: &Flags, clock: &Clock) -> Result<Gate, BadSetting> {
    Ok(Gate { audience: "auth", keys: flags.assertion_keys_auth()?, clock: clock.clone() })
}

fn users_gate(flags: &Flags, clock: &Clock) -> Result<Gate, BadSetting> {
    Ok(Gate { audience: "users", keys: flags.assertion_keys_users()?, clock: clock.clone() })
}

async fn bind(flags: &Flags, service: &str, port: u16, variable: &str) -> Result<Bound, BootFault> {
    server::bind(SocketAddr::new(flags.bind, port)).await.map_err(|error| {
        BootFault::Port(format!(
            "port {port} for the {service} service cannot be opened ({error}); set {variable} to another"
        ))
    })
}

async fn open(url: &str, schema: Schema, variable: &str) -> Result<Database, BootFault> {
    Database::open(url, schema)
        .await
        .map_err(|error| other(format!("the database of {variable} cannot be opened: {error}")))
}

fn metrics(flags: &Flags, service: &'static str) -> Result<Metrics, BootFault> {
    Metrics::new(service, flags.secrets.metrics_token.as_ref()).map_err(|_| other("nothing can be counted"))
}

async fn auth_state(flags: &Flags, auth_url: &str, users_url: &str, clock: Clock) -> Result<Auth, BootFault> {
    let master = flags.master_key()?;
    let gate = auth_gate(flags, &clock)?;
    let own_secret = flags.auth_service_secret()?;
    let users_secret = flags.user_service_secret()?;
    let edge_url = flags.edge_url()?;
    let metrics = metrics(flags, "auth")?;
    let database = open(&flags.auth_database(), Schema::Auth, "AUTH_DATABASE_URL").await?;
    let lead_ms = flags.key_lead_ms()?;
    let keyring = Keyring::open(SigningKeys(database.clone()), master, lead_ms, clock.now())
        .await
        .map_err(|fault| other(fault.to_string()))?;
    let users = InternalClient::new(Settings {
        caller: auth::SERVICE.to_owned(),
        secret: own_secret.clone(),
        auth_url: auth_url.to_owned(),
        audience: users::SERVICE.to_owned(),
        target_url: users_url.to_owned(),
    })
    .map_err(|error| other(error.to_string()))?;
    let passwords = Passwords::new().await.map_err(|_| other("passwords cannot be hashed on this machine"))?;
    Ok(Auth {
        accounts: Accounts(database.clone()),
        sessions: Sessions(database.clone()),
        roles: Roles(database.clone()),
        permissions: Permissions(database.clone()),
        rights: Rights(database.clone()),
        guessing: Guessing(database.clone()),
        outbox: Outbox(database.clone()),
        stale: Stale(database.clone()),
        reconciler: Arc::new(Reconciler::default()),
        audit: AuditTrail(database.clone()),
        services: Services(database.clone()),
        pusher: Arc::new(Pusher::new(&edge_url).map_err(|_| other("no HTTP client can be made"))?),
        database,
        keyring: Arc::new(keyring),
        passwords: passwords.timed_by(metrics.clone()),
        metrics,
        users: Arc::new(users),
        built_in: auth::built_in(&own_secret, &users_secret),
        gate,
        clock,
    })
}

async fn users_state(flags: &Flags, auth_url: &str, clock: Clock) -> Result<Users, BootFault> {
    let gate = users_gate(flags, &clock)?;
    let secret = flags.user_service_secret()?;
    let readers = flags.internal_readers()?;
    let database = open(&flags.users_database(), Schema::Users, "USERS_DATABASE_URL").await?;
    let auth = InternalClient::new(Settings {
        caller: users::SERVICE.to_owned(),
        secret,
        auth_url: auth_url.to_owned(),
        audience: auth::SERVICE.to_owned(),
        target_url: auth_url.to_owned(),
    })
    .map_err(|error| other(error.to_string()))?;
    let fetched = FetchedKeys::new(auth_url, clock.clone()).map_err(|_| other("no HTTP client can be made"))?;
    Ok(Users {
        profiles: Profiles(database.clone()),
        database,
        auth: Arc::new(auth),
        readers,
        metrics: metrics(flags, "users")?,
        keys: Arc::new(fetched),
        gate,
        clock,
    })
}

/// Time between two sweeps of what is old: sessions, failed logins, audit events.
const SWEEP: std::time::Duration = std::time::Duration::from_secs(3600);

async fn maintain_keys(auth: Auth, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(limits::KEYS_RELOAD) => {}
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
        if let Err(fault) = auth.keyring.maintain(auth.clock.now()).await {
            tracing::error!(%fault, "the signing keys cannot be looked after; those at hand stay in use");
        }
    }
}

async fn maintain_metrics(metrics: Metrics, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(limits::METRICS_UPKEEP) => metrics.upkeep(),
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
    }
}

async fn push(auth: Auth, stopped: watch::Receiver<bool>) {
    let pusher = Arc::clone(&auth.pusher);
    pusher.run(&auth, stopped).await;
}

async fn reconcile(auth: Auth, stopped: watch::Receiver<bool>) {
    let reconciler = Arc::clone(&auth.reconciler);
    reconciler.run(&auth, stopped).await;
}

async fn sweep(auth: Auth, mut stopped: watch::Receiver<bool>) {
    loop {
        if let Err(error) = auth.sessions.sweep(auth.clock.now()).await {
            auth.metrics.store_fault(&error);
        }
        if let Err(error) = auth.guessing.sweep(auth.clock.now()).await {
            auth.metrics.store_fault(&error);
        }
        if let Err(error) = auth.audit.sweep(auth.clock.now().saturating_sub(limits::AUDIT_MS)).await {
            auth.metrics.store_fault(&error);
        }
        tokio::select! {
            () = tokio::time::sleep(SWEEP) => {}
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
    }
}
