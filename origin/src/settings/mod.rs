//! The settings of a process: command-line options, each with an environment variable, validated
//! before anything is opened. Errors name the variable and the correction, and contain no secret.

mod secrets;

use std::{
    net::IpAddr,
    ops::RangeInclusive,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use portcullis_client::secret::Secret;
use portcullis_resilience::is_without_public_name;

pub use secrets::Secrets;

use self::secrets::{MAKE, key_bytes};
use crate::{
    fields::is_service_name,
    limits, secret_file,
    setting_error::SettingError,
    signing::{DEFAULT_ISSUER, MasterKey},
    store::sessions::SessionLimits,
    tls,
};

/// Options of each command that opens a service.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// Address to listen on.
    #[arg(long, env = "BIND_ADDR", default_value = "127.0.0.1")]
    pub bind: IpAddr,
    /// PEM file with the TLS certificate and its chain; requires --tls-key-file.
    #[arg(long, env = "TLS_CERT_FILE")]
    pub tls_cert_file: Option<PathBuf>,
    /// PEM file with the private key of the certificate. Renewed files are loaded automatically.
    #[arg(long, env = "TLS_KEY_FILE")]
    pub tls_key_file: Option<PathBuf>,
    /// Port of the auth service; 0 selects a free port.
    #[arg(long, env = "AUTH_PORT", default_value_t = 8083)]
    pub auth_port: u16,
    /// Port of the user service; 0 selects a free port.
    #[arg(long, env = "USERS_PORT", default_value_t = 8081)]
    pub users_port: u16,
    /// Directory of the SQLite databases.
    #[arg(long, env = "DATA_DIR", default_value = ".data")]
    pub data_dir: PathBuf,
    /// Database of the auth service, sqlite: or postgres: [default: SQLite in the data directory].
    #[arg(long, env = "AUTH_DATABASE_URL", hide_env_values = true)]
    pub auth_database_url: Option<String>,
    /// Database of the user service, sqlite: or postgres: [default: SQLite in the data directory].
    #[arg(long, env = "USERS_DATABASE_URL", hide_env_values = true)]
    pub users_database_url: Option<String>,
    /// URL at which the user service calls the auth service [default: the local one].
    #[arg(long, env = "AUTH_URL")]
    pub auth_url: Option<String>,
    /// URL at which the auth service calls the user service [default: the local one].
    #[arg(long, env = "USERS_URL")]
    pub users_url: Option<String>,
    /// URL of the gateway. The auth service pushes revocations to it, and both services name it in
    /// their answers to callers that bypass it.
    #[arg(long, env = "EDGE_URL", default_value = "http://127.0.0.1:8787")]
    pub edge_url: String,
    /// URL of the gateway as clients write it. With it, clients that send a DPoP proof (RFC 9449) with a login or a
    /// refresh get tokens that are bound to their key [default: proofs are ignored].
    #[arg(long, env = "PUBLIC_URL")]
    pub public_url: Option<String>,
    /// `iss` of tokens, the same for both services and in the gateway's policy: `auth-service`, or for
    /// metadata (RFC 8414) the scheme and host at which clients find it.
    #[arg(long, env = "TOKEN_ISSUER", default_value = DEFAULT_ISSUER)]
    pub token_issuer: String,
    /// What API keys begin with, by which scanners of secrets recognise them.
    #[arg(long, env = "API_KEY_PREFIX", default_value = "pck")]
    pub api_key_prefix: String,
    /// Issuer of API keys in the gateway's policy.
    #[arg(long, env = "API_KEY_ISSUER", default_value = "api-keys")]
    pub api_key_issuer: String,
    /// Whether the network to the gateway is private: EDGE_URL may then be http:// with a private address, a name of one
    /// label, .internal or .local.
    #[arg(long, env = "PRIVATE_NETWORK")]
    pub private_network: bool,
    /// Serves register, login, refresh, logout, revoke, validate-token, me and public-key of the auth
    /// service to programs on this machine without the gateway: `off` or `loopback`.
    #[arg(long, env = "AUTH_DIRECT", value_name = "MODE", default_value = "off")]
    pub auth_direct: String,
    /// Names of services that may read profiles at the user service's internal routes, separated
    /// by commas; the auth service always may.
    #[arg(long, env = "INTERNAL_READERS", value_name = "NAMES", default_value = "", hide_default_value = true)]
    pub internal_readers: String,
    /// File with the master key.
    #[arg(long, env = "MASTER_KEY_FILE")]
    pub master_key_file: Option<PathBuf>,
    /// File with the previous master key, during a change of the master key.
    #[arg(long, env = "MASTER_KEY_OLD_FILE")]
    pub master_key_old_file: Option<PathBuf>,
    /// Seconds between the publication of a signing key and its first signature.
    #[arg(long, env = "KEY_LEAD_S", default_value_t = limits::KEY_LEAD_S)]
    pub key_lead_s: i64,
    /// Seconds after its use in which a refresh token is answered with the same new one; 0 to end
    /// the session at every second use.
    #[arg(long, env = "REFRESH_REUSE_S", default_value_t = limits::REFRESH_REUSE_S)]
    pub refresh_reuse_s: i64,
    /// Days from the login to the end of a session, even if it is refreshed.
    #[arg(long, env = "SESSION_MAX_DAYS", default_value_t = limits::SESSION_MAX_DAYS)]
    pub session_max_days: i64,
    #[arg(skip)]
    pub(crate) secrets: Secrets,
}

/// File in the data directory in which the local set-up stores the services' secrets.
const LOCAL_SECRETS: &str = "origin.env";

const EDGE: &str =
    "set the gateway's scheme and host, such as https://api.example.com (http:// is for 127.0.0.1 and localhost)";

impl Settings {
    /// Adds the secrets from the environment.
    #[must_use]
    pub fn with_secrets(mut self, secrets: Secrets) -> Self {
        self.secrets = secrets;
        self
    }

    /// Adds the master key that the local set-up (`npm start`) stores in the data directory, unless
    /// another one is set.
    ///
    /// # Errors
    /// [`SettingError`] if the file cannot be used.
    pub fn with_local_master_key(mut self) -> Result<Self, SettingError> {
        let file = self.data_dir.join(LOCAL_SECRETS);
        if self.secrets.master_key.is_none() && self.master_key_file.is_none() && file.exists() {
            let text = secret_file::read("the local secrets", &file)?;
            let found = text.expose().lines().find_map(|line| line.trim().strip_prefix("MASTER_KEY="));
            self.secrets.master_key =
                found.map(|value| Secret::new(value.trim_matches(|c: char| c == '"' || c.is_whitespace()).to_owned()));
        }
        Ok(self)
    }

    /// Validates the settings of the services that a process runs.
    ///
    /// # Errors
    /// The first [`SettingError`].
    pub fn validate(&self, auth: bool, users: bool) -> Result<(), SettingError> {
        self.check_databases()?;
        self.edge_url()?;
        self.token_issuer()?;
        self.secrets.check_metrics_token()?;
        if let Some(files) = self.tls_files()? {
            files.load()?;
            self.check_other_service(auth, users)?;
        }
        if auth {
            self.master_key()?;
            self.secrets.assertion_keys_auth()?;
            self.secrets.auth_service()?;
            self.secrets.user_service()?;
            self.key_lead_ms()?;
            self.secrets.first_admin()?;
            self.auth_direct()?;
            self.public_url()?;
            self.session_limits()?;
            self.api_key_prefix()?;
            self.api_key_issuer()?;
        }
        if users {
            self.secrets.assertion_keys_users()?;
            self.secrets.user_service()?;
            self.internal_readers()?;
        }
        Ok(())
    }

    /// Returns the files of the TLS certificate and its key, `None` without TLS.
    ///
    /// # Errors
    /// [`SettingError`] if only one is set.
    pub fn tls_files(&self) -> Result<Option<tls::Files>, SettingError> {
        match (self.tls_cert_file.clone(), self.tls_key_file.clone()) {
            (Some(cert), Some(key)) => Ok(Some(tls::Files { cert, key })),
            (None, None) => Ok(None),
            (Some(_), None) => {
                Err(SettingError("TLS_CERT_FILE is set without TLS_KEY_FILE; set both, or neither".to_owned()))
            }
            (None, Some(_)) => {
                Err(SettingError("TLS_KEY_FILE is set without TLS_CERT_FILE; set both, or neither".to_owned()))
            }
        }
    }

    /// Checks, with TLS, that the URL of a service in another process is set. Only the operator knows
    /// the name in that service's certificate.
    fn check_other_service(&self, auth: bool, users: bool) -> Result<(), SettingError> {
        for (is_here, url, variable, service) in
            [(auth, &self.auth_url, "AUTH_URL", "auth"), (users, &self.users_url, "USERS_URL", "user")]
        {
            if !is_here && url.is_none() {
                return Err(SettingError(format!(
                    "{variable} is not set; with TLS_CERT_FILE the {service} service of another process has no default \
                     URL: set https:// and a name in its certificate, or http:// if it has no certificate"
                )));
            }
        }
        Ok(())
    }

    /// Creates the data directory for a database with this URL, unless it is PostgreSQL. The mode is
    /// 0700, because the databases contain password hashes.
    ///
    /// # Errors
    /// [`SettingError`].
    pub fn create_data_dir(&self, url: &str) -> Result<(), SettingError> {
        if !url.starts_with("sqlite:") {
            return Ok(());
        }
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.data_dir).map_err(|error| {
            SettingError(format!("the directory {} cannot be created: {error}; set DATA_DIR", self.data_dir.display()))
        })
    }

    /// Returns the milliseconds between the publication of a key and its first signature.
    ///
    /// # Errors
    /// [`SettingError`].
    pub fn key_lead_ms(&self) -> Result<i64, SettingError> {
        let range = limits::KEY_LEAD_MIN_S..=limits::SIGNING_KEY_MS / 2000;
        within("KEY_LEAD_S", self.key_lead_s, &range, "seconds").map(|seconds| seconds.saturating_mul(1000))
    }

    /// Returns how long sessions last and how often a refresh token may be presented.
    ///
    /// # Errors
    /// [`SettingError`].
    pub fn session_limits(&self) -> Result<SessionLimits, SettingError> {
        let reuse = 0..=limits::REFRESH_REUSE_MAX_S;
        let reuse_s = within("REFRESH_REUSE_S", self.refresh_reuse_s, &reuse, "seconds")?;
        let days = within("SESSION_MAX_DAYS", self.session_max_days, &limits::SESSION_MAX_DAYS_RANGE, "days")?;
        Ok(SessionLimits {
            reuse_ms: reuse_s.saturating_mul(1000),
            lifetime_ms: days.saturating_mul(24 * 60 * 60 * 1000),
        })
    }

    /// Returns the base URL of the gateway.
    ///
    /// # Errors
    /// [`SettingError`], also for http:// to another machine outside a private network: pushes must not travel unencrypted.
    pub fn edge_url(&self) -> Result<String, SettingError> {
        gateway_url("EDGE_URL", &self.edge_url, self.private_network)
    }

    /// Returns the gateway's URL as clients write it, `None` if proofs are ignored.
    ///
    /// # Errors
    /// [`SettingError`] unless it is `https://`, or `http://` on loopback, without a path.
    pub fn public_url(&self) -> Result<Option<String>, SettingError> {
        let written = self.public_url.as_deref().filter(|text| !text.is_empty());
        written.map(|text| gateway_url("PUBLIC_URL", text, false)).transpose()
    }

    /// Returns `iss` of tokens.
    ///
    /// # Errors
    /// [`SettingError`] unless it is the default, or `https://` (`http://` on loopback) without a path. Verifiers compare
    /// it exactly, so only the form that all clients write is accepted.
    pub fn token_issuer(&self) -> Result<Arc<str>, SettingError> {
        let text = self.token_issuer.as_str();
        if text == DEFAULT_ISSUER {
            return Ok(text.into());
        }
        let url = gateway_url("TOKEN_ISSUER", text, false)?;
        let normal = reqwest::Url::parse(&url).map(|url| url.origin().ascii_serialization()).unwrap_or_default();
        if normal == text {
            return Ok(text.into());
        }
        Err(SettingError(format!("TOKEN_ISSUER is compared exactly; write it as {normal}")))
    }

    /// Returns what API keys begin with.
    ///
    /// # Errors
    /// [`SettingError`].
    pub fn api_key_prefix(&self) -> Result<String, SettingError> {
        let text = &self.api_key_prefix;
        let is_plain = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if is_plain && limits::API_KEY_PREFIX_BYTES.contains(&text.len()) {
            return Ok(text.clone());
        }
        Err(SettingError("API_KEY_PREFIX cannot be used; set it to 2 to 16 lower-case letters and digits".to_owned()))
    }

    /// Returns the issuer of API keys.
    ///
    /// # Errors
    /// [`SettingError`], also for the issuer of tokens: the gateway has one policy for each issuer.
    pub fn api_key_issuer(&self) -> Result<String, SettingError> {
        let text = &self.api_key_issuer;
        let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_plain || !limits::API_KEY_ISSUER_BYTES.contains(&text.len()) {
            return Err(SettingError(
                "API_KEY_ISSUER cannot be used; set it to the issuer of API keys in the gateway's policy, such as api-keys"
                    .to_owned(),
            ));
        }
        if *text == self.token_issuer {
            return Err(SettingError("API_KEY_ISSUER and TOKEN_ISSUER are the same; set one of them".to_owned()));
        }
        Ok(text.clone())
    }

    /// Returns whether the auth service serves loopback callers without the gateway.
    ///
    /// # Errors
    /// [`SettingError`] for an unknown mode, and for a service that listens on other addresses.
    pub fn auth_direct(&self) -> Result<bool, SettingError> {
        match self.auth_direct.as_str() {
            "off" => Ok(false),
            "loopback" if self.bind.to_canonical().is_loopback() => Ok(true),
            "loopback" => Err(SettingError(format!(
                "AUTH_DIRECT=loopback is for a service on 127.0.0.1 or ::1, and BIND_ADDR is {}; unset one of them",
                self.bind
            ))),
            other => Err(SettingError(format!("AUTH_DIRECT is {other:?}; set it to off or loopback, or unset it"))),
        }
    }

    /// Returns the names of the services that may read profiles.
    ///
    /// # Errors
    /// [`SettingError`].
    pub fn internal_readers(&self) -> Result<Arc<[String]>, SettingError> {
        let names = self.internal_readers.split(',').map(str::trim).filter(|name| !name.is_empty());
        let checked = names.map(|name| {
            if is_service_name(name) {
                return Ok(name.to_owned());
            }
            Err(SettingError(format!(
                "INTERNAL_READERS contains {name:?}, which is not the name of a service; a name has lower-case letters, \
                 digits and hyphens, such as billing"
            )))
        });
        checked.collect()
    }

    /// Checks that the services have different databases.
    ///
    /// # Errors
    /// [`SettingError`].
    pub fn check_databases(&self) -> Result<(), SettingError> {
        if self.auth_database() != self.users_database() {
            return Ok(());
        }
        Err(SettingError(
            "AUTH_DATABASE_URL and USERS_DATABASE_URL are the same; each service needs its own database or schema \
             (postgres://…/name?options[search_path]=schema)"
                .to_owned(),
        ))
    }

    /// Returns the URL of the auth service's database.
    pub fn auth_database(&self) -> String {
        self.auth_database_url.clone().unwrap_or_else(|| sqlite_url(&self.data_dir, "auth.db"))
    }

    /// Returns the URL of the user service's database.
    pub fn users_database(&self) -> String {
        self.users_database_url.clone().unwrap_or_else(|| sqlite_url(&self.data_dir, "users.db"))
    }

    /// Returns the key that encrypts private keys at rest, with the previous one if it is set.
    ///
    /// # Errors
    /// [`SettingError`].
    pub fn master_key(&self) -> Result<MasterKey, SettingError> {
        let secrets = &self.secrets;
        let current = key_bytes("MASTER_KEY", secrets.master_key.as_ref(), self.master_key_file.as_deref())?
            .ok_or_else(|| {
                SettingError(format!(
                    "MASTER_KEY (or MASTER_KEY_FILE) is not set, and the data directory {} (DATA_DIR) has no \
                     {LOCAL_SECRETS} with one; {MAKE}",
                    self.data_dir.display()
                ))
            })?;
        let old = key_bytes("MASTER_KEY_OLD", secrets.master_key_old.as_ref(), self.master_key_old_file.as_deref())?;
        let master = MasterKey::new(&current);
        match old {
            Some(old) => master.and_then(|master| master.after(&old)),
            None => master,
        }
        .map_err(|_| SettingError("MASTER_KEY cannot be used".to_owned()))
    }
}

fn within(name: &str, value: i64, range: &RangeInclusive<i64>, unit: &str) -> Result<i64, SettingError> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(SettingError(format!("{name} is {value}; set it to {} to {} {unit}", range.start(), range.end())))
}

fn sqlite_url(directory: &Path, file: &str) -> String {
    format!("sqlite://{}", directory.join(file).display())
}

/// Checks the gateway's URL in a setting, and returns it without a slash at its end.
fn gateway_url(name: &str, text: &str, is_network_private: bool) -> Result<String, SettingError> {
    let text = text.trim_end_matches('/');
    let url = reqwest::Url::parse(text).map_err(|_| SettingError(format!("{name} is not a URL; {EDGE}")))?;
    let is_loopback = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    // Without path, query, fragment and credentials. The latter must not end in a log.
    let is_origin = url.as_str() == format!("{}/", url.origin().ascii_serialization());
    let may_be_plain = is_loopback || (is_network_private && url.host_str().is_some_and(is_without_public_name));
    if !is_origin || !(url.scheme() == "https" || (url.scheme() == "http" && may_be_plain)) {
        return Err(SettingError(format!("{name} cannot be used; {EDGE}")));
    }
    Ok(text.to_owned())
}
