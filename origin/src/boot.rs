//! Starts the services: opens databases and keys, builds both services' states, and connects them.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use axum::Router;
use portcullis_client::{assertion::AssertionKeys, internal::InternalClient, service::ServiceConfig};
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    auth::{self, ApiKeyPush, AuditCap, Auth, Keyring, Passwords, ProfileDelivery, RevocationPush},
    clock::{Clock, ClockWatch},
    http::{GatewayAuth, Metrics, starting},
    limits,
    server::{self, Bound},
    setting_error::SettingError,
    settings::Settings,
    store::{
        AccountRoles, Accounts, ApiKeys, AuditLog, Database, LoginFailures, Outbox, Permissions, ProfileSync, Profiles,
        Roles, Schema, Services, Sessions, SigningKeys, describe_open_error,
    },
    tls::{Configs, Renewal},
    users::{self, Users},
};

/// Why a service does not start. The text says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartError {
    /// A setting is wrong.
    Setting(String),
    /// A port cannot be bound.
    Port(String),
    /// A database or a key cannot be opened.
    Other(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Setting(text) | Self::Port(text) | Self::Other(text)) = self;
        formatter.write_str(text)
    }
}

impl std::error::Error for StartError {}

impl From<SettingError> for StartError {
    fn from(bad: SettingError) -> Self {
        Self::Setting(bad.0)
    }
}

fn other(text: impl Into<String>) -> StartError {
    StartError::Other(text.into())
}

/// The services that a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnabledServices {
    /// The auth service.
    pub auth: bool,
    /// The user service.
    pub users: bool,
}

/// Started services.
#[derive(Debug)]
pub struct RunningServices {
    /// Address of the auth service.
    pub auth: Option<SocketAddr>,
    /// Address of the user service.
    pub users: Option<SocketAddr>,
    tasks: Vec<JoinHandle<()>>,
    databases: Vec<Database>,
    audit_cap: Option<AuditCap>,
    stop: watch::Sender<bool>,
}

impl RunningServices {
    /// Stops listening and completes requests in progress.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        for task in self.tasks {
            let _ = task.await;
        }
        if let Some(audit_cap) = self.audit_cap {
            audit_cap.drain().await;
        }
        for database in self.databases {
            database.close().await;
        }
    }
}

/// The ports of one service.
struct Listeners {
    public: Bound,
    /// A loopback port for the services of this process, if the public port uses TLS: the name in the
    /// certificate may not lead to this process.
    private: Option<Bound>,
}

impl Listeners {
    /// Returns the URL for the services of this process.
    fn url(&self) -> String {
        format!("http://{}", self.private.as_ref().unwrap_or(&self.public).addr)
    }
}

/// A service that listens, and the app that answers.
struct Listening {
    addr: SocketAddr,
    is_tls: bool,
    app: watch::Sender<Router>,
    tasks: Vec<JoinHandle<()>>,
}

impl Listening {
    /// Serves the app of a starting service until [`Self::ready`].
    fn begin(ports: Listeners, gateway: GatewayAuth, tls: Option<Configs>, stopped: &watch::Receiver<bool>) -> Self {
        let (addr, is_tls) = (ports.public.addr, tls.is_some());
        let (app, apps) = watch::channel(starting(gateway));
        let public = server::serve(ports.public, apps.clone(), tls, stopped.clone());
        let private = ports.private.map(|bound| server::serve(bound, apps, None, stopped.clone()));
        let tasks = std::iter::once(tokio::spawn(public)).chain(private.map(tokio::spawn)).collect();
        Self { addr, is_tls, app, tasks }
    }

    fn ready(self, service: &str, app: Router, tasks: &mut Vec<JoinHandle<()>>) -> SocketAddr {
        let _ = self.app.send(app);
        tracing::info!(service, addr = %self.addr, tls = self.is_tls, "listening");
        tasks.extend(self.tasks);
        self.addr
    }
}

/// Starts services. They answer as starting once their settings are valid and their ports bound, and
/// are ready when this returns.
///
/// # Errors
/// [`StartError`]; no port is bound then.
pub async fn start(settings: &Settings, which: EnabledServices, clock: Clock) -> Result<RunningServices, StartError> {
    settings.validate(which.auth, which.users)?;
    let first_admin = settings.secrets.first_admin()?;
    let (renewal, tls) = settings.tls_files()?.map(Renewal::begin).transpose()?.unzip();
    check_authorities()?;
    let auth_ports = if which.auth { Some(bind(settings, &AUTH_PORTS).await?) } else { None };
    let users_ports = if which.users { Some(bind(settings, &USERS_PORTS).await?) } else { None };
    let auth_url = service_url(settings, &AUTH_PORTS, auth_ports.as_ref());
    let users_url = service_url(settings, &USERS_PORTS, users_ports.as_ref());
    if which.auth {
        settings.create_data_dir(&settings.auth_database())?;
    }
    if which.users {
        settings.create_data_dir(&settings.users_database())?;
    }
    if tls.is_none() && !settings.bind.is_loopback() && !settings.private_network {
        tracing::warn!(
            bind = %settings.bind,
            "passwords and tokens arrive unencrypted; set TLS_CERT_FILE and TLS_KEY_FILE, or PRIVATE_NETWORK=true if a proxy \
             terminates TLS and the network behind it is private"
        );
    }
    if which.auth && settings.auth_direct()? {
        tracing::warn!(
            "AUTH_DIRECT=loopback is for development: the auth service serves programs on this machine without the \
             gateway, and a proxy that adds no header counts as one; set it to off in a deployment"
        );
    }

    let (stop, stopped) = watch::channel(false);
    let listen = |ports: Option<Listeners>, gateway: Result<GatewayAuth, SettingError>| {
        ports.map(|ports| Ok::<_, StartError>(Listening::begin(ports, gateway?, tls.clone(), &stopped))).transpose()
    };
    let auth_listening = listen(auth_ports, auth_gateway(settings, &clock))?;
    let users_listening = listen(users_ports, users_gateway(settings, &clock))?;
    let states = async {
        let auth = match auth_listening {
            Some(_) => Some(auth_state(settings, &auth_url, &users_url, clock.clone()).await?),
            None => None,
        };
        let users = match users_listening {
            Some(_) => Some(users_state(settings, &auth_url, clock.clone()).await?),
            None => None,
        };
        Ok((auth, users))
    };
    let (auth_state, users_state) = match states.await {
        Ok(states) => states,
        Err(fault) => {
            let _ = stop.send(true);
            for listening in [auth_listening, users_listening].into_iter().flatten() {
                for task in listening.tasks {
                    let _ = task.await;
                }
            }
            return Err(fault);
        }
    };
    if let Some(renewal) = renewal {
        tokio::spawn(renewal.run(stopped.clone()));
    }
    let audit_cap = auth_state.as_ref().map(|state| state.audit_cap.clone());
    let (tasks, databases) = (Vec::new(), Vec::new());
    let mut running = RunningServices { auth: None, users: None, tasks, databases, audit_cap, stop };
    if let (Some(listening), Some(state)) = (auth_listening, auth_state) {
        running.databases.push(state.database.clone());
        running.auth = Some(listening.ready("auth", auth::app(state.clone()), &mut running.tasks));
        tokio::spawn(maintain_metrics(state.metrics.clone(), stopped.clone()));
        tokio::spawn(maintain_keys(state.clone(), stopped.clone()));
        tokio::spawn(auth::clean_up(state.clone(), stopped.clone()));
        tokio::spawn(auth::push_revocations(state.clone(), stopped.clone()));
        tokio::spawn(auth::push_api_keys(state.clone(), stopped.clone()));
        if let Some(first) = first_admin {
            tokio::spawn(auth::make_first_admin(state.clone(), first, stopped.clone()));
        }
        tokio::spawn(auth::deliver_profiles(state, stopped.clone()));
    }
    if let (Some(listening), Some(state)) = (users_listening, users_state) {
        running.databases.push(state.database.clone());
        tokio::spawn(maintain_metrics(state.metrics.clone(), stopped.clone()));
        running.users = Some(listening.ready("users", users::app(state), &mut running.tasks));
    }
    Ok(running)
}

fn auth_gateway(settings: &Settings, clock: &Clock) -> Result<GatewayAuth, SettingError> {
    Ok(gateway_auth(settings, "auth", settings.secrets.assertion_keys_auth()?, clock)?
        .with_direct(settings.auth_direct()?))
}

fn users_gateway(settings: &Settings, clock: &Clock) -> Result<GatewayAuth, SettingError> {
    gateway_auth(settings, "users", settings.secrets.assertion_keys_users()?, clock)
}

fn gateway_auth(
    settings: &Settings,
    audience: &'static str,
    keys: AssertionKeys,
    clock: &Clock,
) -> Result<GatewayAuth, SettingError> {
    GatewayAuth::new(audience, keys, &settings.edge_url()?, clock.clone())
        .map_err(|bad| SettingError(format!("EDGE_URL: {bad}")))
}

/// The settings of one service's ports.
struct PortSettings {
    service: &'static str,
    variable: &'static str,
    port: fn(&Settings) -> u16,
    url: fn(&Settings) -> Option<&String>,
}

const AUTH_PORTS: PortSettings = PortSettings {
    service: "auth",
    variable: "AUTH_PORT",
    port: |settings| settings.auth_port,
    url: |settings| settings.auth_url.as_ref(),
};

const USERS_PORTS: PortSettings = PortSettings {
    service: "users",
    variable: "USERS_PORT",
    port: |settings| settings.users_port,
    url: |settings| settings.users_url.as_ref(),
};

async fn bind(settings: &Settings, port_settings: &PortSettings) -> Result<Listeners, StartError> {
    let (port, service, variable) = ((port_settings.port)(settings), port_settings.service, port_settings.variable);
    let public = server::bind(SocketAddr::new(settings.bind, port)).await.map_err(|error| {
        StartError::Port(format!(
            "port {port} for the {service} service cannot be opened ({error}); set {variable} to another"
        ))
    })?;
    let wants_private = settings.tls_files()?.is_some() && (port_settings.url)(settings).is_none();
    let private = if wants_private {
        let bound = server::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await;
        Some(bound.map_err(|error| StartError::Port(format!("no port on 127.0.0.1 can be opened: {error}")))?)
    } else {
        None
    };
    Ok(Listeners { public, private })
}

/// Returns the URL of a service for the services of this process.
fn service_url(settings: &Settings, port_settings: &PortSettings, ports: Option<&Listeners>) -> String {
    match ((port_settings.url)(settings), ports) {
        (Some(url), _) => url.trim_end_matches('/').to_owned(),
        (None, Some(ports)) => ports.url(),
        (None, None) => format!("http://{}", SocketAddr::new(settings.bind, (port_settings.port)(settings))),
    }
}

/// Checks that there are CA certificates, without which no HTTP client can be made.
fn check_authorities() -> Result<(), StartError> {
    reqwest::Client::builder().no_proxy().build().map(drop).map_err(|_| {
        StartError::Setting(
            "there are no CA certificates, which https:// URLs such as EDGE_URL need; install the system's \
             (ca-certificates), or set SSL_CERT_FILE to a PEM file of trusted certificates"
                .to_owned(),
        )
    })
}

async fn open(url: &str, schema: Schema, variable: &str) -> Result<Database, StartError> {
    Database::open(url, schema).await.map_err(|error| {
        other(format!("the database of {variable} cannot be opened: {}", describe_open_error(url, &error)))
    })
}

fn metrics(settings: &Settings, service: &'static str) -> Result<Metrics, StartError> {
    Metrics::new(service, settings.secrets.metrics_token.as_ref()).map_err(|_| other("the metrics cannot be set up"))
}

async fn auth_state(settings: &Settings, auth_url: &str, users_url: &str, clock: Clock) -> Result<Auth, StartError> {
    let master = settings.master_key()?;
    let gateway = auth_gateway(settings, &clock)?;
    let own_secret = settings.secrets.auth_service()?;
    let users_secret = settings.secrets.user_service()?;
    let edge_url = settings.edge_url()?;
    let metrics = metrics(settings, "auth")?;
    let database = open(&settings.auth_database(), Schema::Auth, "AUTH_DATABASE_URL").await?;
    let lead_ms = settings.key_lead_ms()?;
    let keyring = Keyring::open(SigningKeys(database.clone()), master, lead_ms, clock.now())
        .await
        .map_err(|fault| other(fault.to_string()))?;
    let users = InternalClient::new(ServiceConfig {
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
        session_limits: settings.session_limits()?,
        issuer: settings.token_issuer()?,
        public_url: settings.public_url()?.map(Into::into),
        roles: Roles(database.clone()),
        permissions: Permissions(database.clone()),
        account_roles: AccountRoles(database.clone()),
        login_failures: LoginFailures(database.clone()),
        outbox: Outbox(database.clone()),
        api_keys: ApiKeys(database.clone()),
        api_key_push: Arc::new(
            ApiKeyPush::new(&edge_url, settings.api_key_issuer()?).map_err(|_| other("no HTTP client can be made"))?,
        ),
        api_key_prefix: settings.api_key_prefix()?.into(),
        profile_sync: ProfileSync(database.clone()),
        profile_delivery: Arc::new(ProfileDelivery::default()),
        audit: AuditLog(database.clone()),
        audit_cap: AuditCap::default(),
        services: Services(database.clone()),
        revocation_push: Arc::new(RevocationPush::new(&edge_url).map_err(|_| other("no HTTP client can be made"))?),
        database,
        keyring: Arc::new(keyring),
        passwords: passwords.timed_by(metrics.clone()),
        metrics,
        users: Arc::new(users),
        built_in: auth::built_in(&own_secret, &users_secret),
        gateway,
        clock,
    })
}

async fn users_state(settings: &Settings, auth_url: &str, clock: Clock) -> Result<Users, StartError> {
    let gateway = users_gateway(settings, &clock)?;
    let secret = settings.secrets.user_service()?;
    let readers = settings.internal_readers()?;
    let database = open(&settings.users_database(), Schema::Users, "USERS_DATABASE_URL").await?;
    let auth = InternalClient::new(ServiceConfig {
        caller: users::SERVICE.to_owned(),
        secret,
        auth_url: auth_url.to_owned(),
        audience: auth::SERVICE.to_owned(),
        target_url: auth_url.to_owned(),
    })
    .map_err(|error| other(error.to_string()))?;
    let issuer = settings.token_issuer()?;
    let keys = users::service_verifier(auth_url, &issuer, clock.clone()).map_err(|error| other(error.to_string()))?;
    Ok(Users {
        profiles: Profiles(database.clone()),
        database,
        auth: Arc::new(auth),
        readers,
        metrics: metrics(settings, "users")?,
        issuer,
        keys: Arc::new(keys),
        gateway,
        clock,
    })
}

async fn maintain_keys(auth: Auth, mut stopped: watch::Receiver<bool>) {
    let mut watch = ClockWatch::start(&auth.clock);
    loop {
        tokio::select! {
            () = tokio::time::sleep(limits::KEYS_RELOAD) => {}
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
        if let Err(fault) = auth.keyring.maintain(&auth.clock, watch.trusted(&auth.clock)).await {
            tracing::error!(%fault, "the signing keys are not maintained; the loaded ones stay in use");
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
