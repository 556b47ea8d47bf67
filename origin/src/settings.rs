//! What a process is told: flags, each with an environment variable behind it,
//! checked before anything is opened. Errors name the variable and the mend,
//! and hold nothing of a secret.

use std::{
    fmt,
    io::Read as _,
    net::IpAddr,
    ops::RangeInclusive,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::Args;
use portcullis_client::{assertion::AssertionKeys, secret::Secret};

use crate::{
    auth::FirstAdmin,
    fields::{is_service_name, normal_email, normal_password},
    limits,
    signing::MasterKey,
    store::sessions::Rules,
    tls,
};

/// Flags of every command that opens a service.
#[derive(Debug, Clone, Args)]
pub struct Flags {
    /// Address to listen on.
    #[arg(long, env = "BIND_ADDR", default_value = "127.0.0.1")]
    pub bind: IpAddr,
    /// File with the certificate for TLS and its chain, PEM; with --tls-key-file.
    #[arg(long, env = "TLS_CERT_FILE")]
    pub tls_cert_file: Option<PathBuf>,
    /// File with the certificate's private key, PEM. Renewed files are taken up by themselves.
    #[arg(long, env = "TLS_KEY_FILE")]
    pub tls_key_file: Option<PathBuf>,
    /// Port of the auth service; 0 chooses a free one.
    #[arg(long, env = "AUTH_PORT", default_value_t = 8083)]
    pub auth_port: u16,
    /// Port of the user service; 0 chooses a free one.
    #[arg(long, env = "USERS_PORT", default_value_t = 8081)]
    pub users_port: u16,
    /// Folder of the databases.
    #[arg(long, env = "DATA_DIR", default_value = ".data")]
    pub data_dir: PathBuf,
    /// Database of the auth service, sqlite: or postgres: [default: sqlite in the data folder].
    #[arg(long, env = "AUTH_DATABASE_URL", hide_env_values = true)]
    pub auth_database_url: Option<String>,
    /// Database of the user service, sqlite: or postgres: [default: sqlite in the data folder].
    #[arg(long, env = "USERS_DATABASE_URL", hide_env_values = true)]
    pub users_database_url: Option<String>,
    /// Where the user service finds the auth service [default: the local one].
    #[arg(long, env = "AUTH_URL")]
    pub auth_url: Option<String>,
    /// Where the auth service finds the user service [default: the local one].
    #[arg(long, env = "USERS_URL")]
    pub users_url: Option<String>,
    /// Where the gateway is: the auth service pushes revoked tokens there, and both services name
    /// it to callers that did not come through it.
    #[arg(long, env = "EDGE_URL", default_value = "http://127.0.0.1:8787")]
    pub edge_url: String,
    /// Serves register, login, refresh, logout, validate-token, me and public-key of the auth
    /// service to programs on this machine without the gateway: `off` or `loopback`.
    #[arg(long, env = "AUTH_DIRECT", value_name = "MODE", default_value = "off")]
    pub auth_direct: String,
    /// Services that may read profiles at the user service's internal routes, by name, with
    /// commas between; the auth service may anyway.
    #[arg(long, env = "INTERNAL_READERS", value_name = "NAMES", default_value = "", hide_default_value = true)]
    pub internal_readers: String,
    /// File that holds the master key.
    #[arg(long, env = "MASTER_KEY_FILE")]
    pub master_key_file: Option<PathBuf>,
    /// File that holds the master key that `MASTER_KEY` replaces.
    #[arg(long, env = "MASTER_KEY_OLD_FILE")]
    pub master_key_old_file: Option<PathBuf>,
    /// Seconds between a signing key's publication and its first signature.
    #[arg(long, env = "KEY_LEAD_S", default_value_t = limits::KEY_LEAD_S)]
    pub key_lead_s: i64,
    /// Seconds after its use in which a refresh token is answered with the same new one; 0
    /// to end the session at any second use.
    #[arg(long, env = "REFRESH_REUSE_S", default_value_t = limits::REFRESH_REUSE_S)]
    pub refresh_reuse_s: i64,
    /// Days after its login at which a session ends, however often it is refreshed.
    #[arg(long, env = "SESSION_MAX_DAYS", default_value_t = limits::SESSION_MAX_DAYS)]
    pub session_max_days: i64,
    // Secrets have no flags: a process list shows those to everybody.
    #[arg(skip)]
    pub(crate) secrets: Secrets,
}

/// Secrets, from the environment alone.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    /// `MASTER_KEY`.
    pub master_key: Option<Secret>,
    /// `MASTER_KEY_OLD`.
    pub master_key_old: Option<Secret>,
    /// `ASSERTION_KEYS_AUTH`.
    pub assertion_keys_auth: Option<Secret>,
    /// `ASSERTION_KEYS_USERS`.
    pub assertion_keys_users: Option<Secret>,
    /// `SERVICE_SECRET_AUTH_SERVICE`.
    pub auth_service: Option<Secret>,
    /// `SERVICE_SECRET_USER_SERVICE`.
    pub user_service: Option<Secret>,
    /// `ADMIN_EMAIL`: of the first administrator.
    pub admin_email: Option<String>,
    /// `ADMIN_PASSWORD`.
    pub admin_password: Option<Secret>,
    /// `ADMIN_PASSWORD_FILE`: its first line is the password.
    pub admin_password_file: Option<PathBuf>,
    /// `METRICS_TOKEN`, which opens /metrics; without one it is open.
    pub metrics_token: Option<Secret>,
}

/// A setting that is missing or wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadSetting(pub String);

impl fmt::Display for BadSetting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for BadSetting {}

/// File in the data folder in which the local set-up keeps the services' secrets.
const LOCAL_SECRETS: &str = "origin.env";

/// Characters of a service's secret, at least.
const SERVICE_SECRET_CHARS: usize = 32;

const EDGE: &str =
    "write the gateway's scheme and host, such as https://api.example.com (http:// is for 127.0.0.1 and localhost)";

const MAKE: &str = "make one with: node -p \"require('crypto').randomBytes(32).toString('base64url')\"";

impl Secrets {
    /// Reads the environment.
    pub fn from_env() -> Self {
        let read = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty()).map(Secret::new);
        Self {
            master_key: read("MASTER_KEY"),
            master_key_old: read("MASTER_KEY_OLD"),
            assertion_keys_auth: read("ASSERTION_KEYS_AUTH"),
            assertion_keys_users: read("ASSERTION_KEYS_USERS"),
            auth_service: read("SERVICE_SECRET_AUTH_SERVICE"),
            user_service: read("SERVICE_SECRET_USER_SERVICE"),
            admin_email: read("ADMIN_EMAIL").map(|text| text.expose().to_owned()),
            admin_password: read("ADMIN_PASSWORD"),
            admin_password_file: read("ADMIN_PASSWORD_FILE").map(|text| text.expose().into()),
            metrics_token: read("METRICS_TOKEN"),
        }
    }
}

impl Flags {
    /// With secrets from the environment.
    #[must_use]
    pub fn with_secrets(mut self, secrets: Secrets) -> Self {
        self.secrets = secrets;
        self
    }

    /// With the master key that the local set-up keeps in the data folder, where nothing else
    /// names one: commands find what `npm start` made.
    ///
    /// # Errors
    /// [`BadSetting`] for a file that cannot be used.
    pub fn with_local_master_key(mut self) -> Result<Self, BadSetting> {
        let file = self.data_dir.join(LOCAL_SECRETS);
        if self.secrets.master_key.is_none() && self.master_key_file.is_none() && file.exists() {
            let text = read_private("the local secrets", &file)?;
            let found = text.expose().lines().find_map(|line| line.trim().strip_prefix("MASTER_KEY="));
            self.secrets.master_key =
                found.map(|value| Secret::new(value.trim_matches(|c: char| c == '"' || c.is_whitespace()).to_owned()));
        }
        Ok(self)
    }

    /// Everything that services need, before anything is opened for them.
    ///
    /// # Errors
    /// [`BadSetting`], the first.
    pub fn check(&self, auth: bool, users: bool) -> Result<(), BadSetting> {
        self.check_databases()?;
        self.edge_url()?;
        if let Some(files) = self.tls_files()? {
            files.load()?;
            self.check_other_service(auth, users)?;
        }
        if auth {
            self.master_key()?;
            self.assertion_keys_auth()?;
            self.auth_service_secret()?;
            self.user_service_secret()?;
            self.key_lead_ms()?;
            self.first_admin()?;
            self.auth_direct()?;
            self.session_rules()?;
        }
        if users {
            self.assertion_keys_users()?;
            self.user_service_secret()?;
            self.edge_url()?;
            self.internal_readers()?;
        }
        Ok(())
    }

    /// Where the certificate for TLS and its key lie; nothing without TLS.
    ///
    /// # Errors
    /// [`BadSetting`] for one without the other.
    pub fn tls_files(&self) -> Result<Option<tls::Files>, BadSetting> {
        match (self.tls_cert_file.clone(), self.tls_key_file.clone()) {
            (Some(cert), Some(key)) => Ok(Some(tls::Files { cert, key })),
            (None, None) => Ok(None),
            (Some(_), None) => {
                Err(BadSetting("TLS_CERT_FILE is set without TLS_KEY_FILE; set both, or neither".to_owned()))
            }
            (None, Some(_)) => {
                Err(BadSetting("TLS_KEY_FILE is set without TLS_CERT_FILE; set both, or neither".to_owned()))
            }
        }
    }

    /// That a service of another process is not looked for where it would be without TLS: a
    /// certificate is for a name, and only the operator knows that.
    fn check_other_service(&self, auth: bool, users: bool) -> Result<(), BadSetting> {
        for (is_here, url, variable, service) in
            [(auth, &self.auth_url, "AUTH_URL", "auth"), (users, &self.users_url, "USERS_URL", "user")]
        {
            if !is_here && url.is_none() {
                return Err(BadSetting(format!(
                    "{variable} is not set; with TLS_CERT_FILE the {service} service of another process is not guessed:                      set https:// and a name that its certificate is for, or http:// where it has none"
                )));
            }
        }
        Ok(())
    }

    /// Makes the data folder, for its owner alone: the databases hold password
    /// hashes.
    ///
    /// # Errors
    /// [`BadSetting`].
    pub fn make_folder(&self) -> Result<(), BadSetting> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.data_dir).map_err(|error| {
            BadSetting(format!("the folder {} cannot be made: {error}; set DATA_DIR", self.data_dir.display()))
        })
    }

    /// Milliseconds between a key's publication and its first signature.
    ///
    /// # Errors
    /// [`BadSetting`].
    pub fn key_lead_ms(&self) -> Result<i64, BadSetting> {
        let range = limits::KEY_LEAD_MIN_S..=limits::SIGNING_KEY_MS / 2000;
        if !range.contains(&self.key_lead_s) {
            return Err(BadSetting(format!(
                "KEY_LEAD_S is {}; set it to {} to {} seconds",
                self.key_lead_s,
                range.start(),
                range.end()
            )));
        }
        Ok(self.key_lead_s.saturating_mul(1000))
    }

    /// How long sessions live, and how often a refresh token may be shown.
    ///
    /// # Errors
    /// [`BadSetting`].
    pub fn session_rules(&self) -> Result<Rules, BadSetting> {
        let within = |name: &str, value: i64, range: &RangeInclusive<i64>, unit: &str| {
            if range.contains(&value) {
                return Ok(value);
            }
            Err(BadSetting(format!("{name} is {value}; set it to {} to {} {unit}", range.start(), range.end())))
        };
        let reuse = 0..=limits::REFRESH_REUSE_MAX_S;
        let reuse_s = within("REFRESH_REUSE_S", self.refresh_reuse_s, &reuse, "seconds")?;
        let days = within("SESSION_MAX_DAYS", self.session_max_days, &limits::SESSION_MAX_DAYS_RANGE, "days")?;
        Ok(Rules { reuse_ms: reuse_s.saturating_mul(1000), lifetime_ms: days.saturating_mul(24 * 60 * 60 * 1000) })
    }

    /// Base URL of the gateway.
    ///
    /// # Errors
    /// [`BadSetting`]: what is sent there is not for everybody on the wire.
    pub fn edge_url(&self) -> Result<String, BadSetting> {
        let text = self.edge_url.trim_end_matches('/');
        let url =
            reqwest::Url::parse(text).map_err(|_| BadSetting(format!("EDGE_URL {text:?} is not a URL; {EDGE}")))?;
        let is_loopback = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
        if url.path() != "/" || !(url.scheme() == "https" || (url.scheme() == "http" && is_loopback)) {
            return Err(BadSetting(format!("EDGE_URL {text:?} cannot be used; {EDGE}")));
        }
        Ok(text.to_owned())
    }

    /// Whether the auth service serves loopback callers without the gateway.
    ///
    /// # Errors
    /// [`BadSetting`] for another word, and beyond loopback.
    pub fn auth_direct(&self) -> Result<bool, BadSetting> {
        match self.auth_direct.as_str() {
            "off" => Ok(false),
            "loopback" if self.bind.to_canonical().is_loopback() => Ok(true),
            "loopback" => Err(BadSetting(format!(
                "AUTH_DIRECT=loopback is for a service on 127.0.0.1 or ::1, and BIND_ADDR is {}; unset one of them",
                self.bind
            ))),
            other => Err(BadSetting(format!("AUTH_DIRECT is {other:?}; set it to off or loopback, or unset it"))),
        }
    }

    /// Services that may read profiles.
    ///
    /// # Errors
    /// [`BadSetting`].
    pub fn internal_readers(&self) -> Result<Arc<[String]>, BadSetting> {
        let names = self.internal_readers.split(',').map(str::trim).filter(|name| !name.is_empty());
        let checked = names.map(|name| {
            if is_service_name(name) {
                return Ok(name.to_owned());
            }
            Err(BadSetting(format!(
                "INTERNAL_READERS holds {name:?}, which no service is called; a name is lower-case letters, digits and \
                 hyphens, such as billing"
            )))
        });
        checked.collect()
    }

    /// Who is to be the first administrator, if the environment says so.
    ///
    /// # Errors
    /// [`BadSetting`].
    pub fn first_admin(&self) -> Result<Option<FirstAdmin>, BadSetting> {
        let Secrets { admin_email, admin_password, admin_password_file, .. } = &self.secrets;
        let password = match (admin_password, admin_password_file) {
            (Some(password), _) => Some(password.clone()),
            (None, Some(file)) => Some(read_first_line("ADMIN_PASSWORD_FILE", file)?),
            (None, None) => None,
        };
        let (email, password) = match (admin_email, password) {
            (Some(email), Some(password)) => (email, password),
            (None, None) => return Ok(None),
            (Some(_), None) => {
                return Err(BadSetting(
                    "ADMIN_EMAIL is set without ADMIN_PASSWORD or ADMIN_PASSWORD_FILE; set one of them, too".to_owned(),
                ));
            }
            (None, Some(_)) => {
                return Err(BadSetting("ADMIN_PASSWORD is set without ADMIN_EMAIL; set both".to_owned()));
            }
        };
        let email = normal_email(email).ok_or_else(|| BadSetting("ADMIN_EMAIL is not an e-mail address".to_owned()))?;
        // As it is hashed: the account is made with this length, or never.
        let password = normal_password(&password);
        if !limits::PASSWORD_CHARS.contains(&password.expose().chars().count()) {
            return Err(BadSetting("ADMIN_PASSWORD must have 8 to 128 characters".to_owned()));
        }
        Ok(Some(FirstAdmin { email, password }))
    }

    /// That the services do not share a database: their tables would be one heap.
    ///
    /// # Errors
    /// [`BadSetting`].
    pub fn check_databases(&self) -> Result<(), BadSetting> {
        if self.auth_database() != self.users_database() {
            return Ok(());
        }
        Err(BadSetting(
            "AUTH_DATABASE_URL and USERS_DATABASE_URL are the same; each service wants a database, or a schema, of its \
             own (postgres://…/name?options[search_path]=schema)"
                .to_owned(),
        ))
    }

    /// URL of the auth service's database.
    pub fn auth_database(&self) -> String {
        self.auth_database_url.clone().unwrap_or_else(|| sqlite_url(&self.data_dir, "auth.db"))
    }

    /// URL of the user service's database.
    pub fn users_database(&self) -> String {
        self.users_database_url.clone().unwrap_or_else(|| sqlite_url(&self.data_dir, "users.db"))
    }

    /// What encrypts private keys at rest: `MASTER_KEY`, in the place of `MASTER_KEY_OLD` if
    /// that is set.
    ///
    /// # Errors
    /// [`BadSetting`].
    pub fn master_key(&self) -> Result<MasterKey, BadSetting> {
        let secrets = &self.secrets;
        let current = key_bytes("MASTER_KEY", secrets.master_key.as_ref(), self.master_key_file.as_deref())?
            .ok_or_else(|| BadSetting(format!(
                    "MASTER_KEY (or MASTER_KEY_FILE) is not set, and the data folder {} holds no {LOCAL_SECRETS} with one \
                     (DATA_DIR says where it is); {MAKE}",
                    self.data_dir.display()
                )))?;
        let old = key_bytes("MASTER_KEY_OLD", secrets.master_key_old.as_ref(), self.master_key_old_file.as_deref())?;
        let master = MasterKey::new(&current);
        match old {
            Some(old) => master.and_then(|master| master.after(&old)),
            None => master,
        }
        .map_err(|_| BadSetting("MASTER_KEY cannot be used".to_owned()))
    }

    /// The gateway's secrets for the auth service.
    ///
    /// # Errors
    /// [`BadSetting`].
    pub fn assertion_keys_auth(&self) -> Result<AssertionKeys, BadSetting> {
        assertion_keys("ASSERTION_KEYS_AUTH", self.secrets.assertion_keys_auth.as_ref())
    }

    /// The gateway's secrets for the user service.
    ///
    /// # Errors
    /// [`BadSetting`].
    pub fn assertion_keys_users(&self) -> Result<AssertionKeys, BadSetting> {
        assertion_keys("ASSERTION_KEYS_USERS", self.secrets.assertion_keys_users.as_ref())
    }

    /// The secret of `auth-service`.
    ///
    /// # Errors
    /// [`BadSetting`].
    pub fn auth_service_secret(&self) -> Result<Secret, BadSetting> {
        service_secret("SERVICE_SECRET_AUTH_SERVICE", self.secrets.auth_service.as_ref())
    }

    /// The secret of `user-service`.
    ///
    /// # Errors
    /// [`BadSetting`].
    pub fn user_service_secret(&self) -> Result<Secret, BadSetting> {
        service_secret("SERVICE_SECRET_USER_SERVICE", self.secrets.user_service.as_ref())
    }
}

/// The 32 bytes of a variable, or of the file that `<name>_FILE` names.
fn key_bytes(name: &str, text: Option<&Secret>, file: Option<&Path>) -> Result<Option<[u8; 32]>, BadSetting> {
    let text = match (text, file) {
        (Some(text), _) => text.clone(),
        (None, Some(file)) => read_private(&format!("{name}_FILE"), file)?,
        (None, None) => return Ok(None),
    };
    let bytes = URL_SAFE_NO_PAD.decode(text.expose().trim()).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.map(Some).ok_or_else(|| BadSetting(format!("{name} is not the base64url of 32 bytes; {MAKE}")))
}

/// A file's first line, as a secret. `name` is the setting that names the file.
///
/// # Errors
/// [`BadSetting`], also when others may read the file.
pub fn read_first_line(name: &str, file: &Path) -> Result<Secret, BadSetting> {
    let text = read_private(name, file)?;
    Ok(Secret::new(text.expose().lines().next().unwrap_or_default().to_owned()))
}

/// A small file that holds a secret.
fn read_private(name: &str, file: &Path) -> Result<Secret, BadSetting> {
    let mut text = String::new();
    open_private(name, file)?
        .take(limits::SECRET_FILE_BYTES)
        .read_to_string(&mut text)
        .map_err(|error| unreadable(name, file, &error))?;
    Ok(Secret::new(text))
}

/// Opens a file that holds a secret. One that others may read holds none: whoever reads it
/// first may have taken it. Pipes and devices are whoever's who opened them.
///
/// # Errors
/// [`BadSetting`].
pub fn open_private(name: &str, file: &Path) -> Result<std::fs::File, BadSetting> {
    let open = std::fs::File::open(file).map_err(|error| unreadable(name, file, &error))?;
    let about = open.metadata().map_err(|error| unreadable(name, file, &error))?;
    let ours = rustix::process::geteuid().as_raw();
    if about.is_file() && !is_private(about.mode(), about.uid(), ours) {
        return Err(BadSetting(format!(
            "{name} {file} can be read by others than its owner; run: chmod 600 {file} (of a file that root owns and the \
             service's group reads: chmod 640; in Kubernetes, defaultMode: 0440 and an fsGroup)",
            file = file.display()
        )));
    }
    Ok(open)
}

/// Whether a secret file with this mode and owner is private to a process of the user `ours`:
/// nobody but its owner has access, or it is root's and a group may read it. PostgreSQL has the
/// same rule. A mounted secret is root's, and a service that is not root cannot change its mode.
const fn is_private(mode: u32, owner: u32, ours: u32) -> bool {
    const ROOT: u32 = 0;
    let forbidden = if owner == ROOT && ours != ROOT { 0o037 } else { 0o077 };
    mode & forbidden == 0
}

fn unreadable(name: &str, file: &Path, error: &std::io::Error) -> BadSetting {
    BadSetting(format!("{name} {} cannot be read: {error}", file.display()))
}

fn assertion_keys(name: &str, text: Option<&Secret>) -> Result<AssertionKeys, BadSetting> {
    let text = text.ok_or_else(|| {
        BadSetting(format!("{name} is not set; it is the gateway's secret of the same name, kid:base64url-of-32-bytes"))
    })?;
    AssertionKeys::parse(text.expose())
        .map_err(|_| BadSetting(format!("{name} must be one or two kid:base64url-of-32-bytes with a comma between")))
}

fn service_secret(name: &str, text: Option<&Secret>) -> Result<Secret, BadSetting> {
    match text {
        Some(secret) if secret.expose().len() >= SERVICE_SECRET_CHARS => Ok(secret.clone()),
        Some(_) => Err(BadSetting(format!("{name} is shorter than {SERVICE_SECRET_CHARS} characters; {MAKE}"))),
        None => Err(BadSetting(format!("{name} is not set; {MAKE}"))),
    }
}

fn sqlite_url(folder: &Path, file: &str) -> String {
    format!("sqlite://{}", folder.join(file).display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_file_is_its_owners_alone_or_roots_and_readable_by_a_group() {
        const ROOT: u32 = 0;
        const OURS: u32 = 1000;
        const OTHER: u32 = 1001;
        for (mode, owner, ours, expected) in [
            (0o600, OURS, OURS, true),
            (0o400, OURS, OURS, true),
            (0o640, OURS, OURS, false),
            (0o440, OURS, OURS, false),
            (0o604, OURS, OURS, false),
            // A secret of Kubernetes with `defaultMode: 0440`; Debian's root:ssl-cert.
            (0o440, ROOT, OURS, true),
            (0o640, ROOT, OURS, true),
            (0o600, ROOT, OURS, true),
            (0o100_640, ROOT, OURS, true),
            (0o660, ROOT, OURS, false),
            (0o650, ROOT, OURS, false),
            (0o644, ROOT, OURS, false),
            (0o642, ROOT, OURS, false),
            (0o641, ROOT, OURS, false),
            // Root itself needs no group.
            (0o600, ROOT, ROOT, true),
            (0o640, ROOT, ROOT, false),
            (0o600, OTHER, ROOT, true),
            (0o640, OTHER, ROOT, false),
            (0o640, OTHER, OURS, false),
        ] {
            assert_eq!(is_private(mode, owner, ours), expected, "{mode:o} of {owner} for {ours}");
        }
    }
}
