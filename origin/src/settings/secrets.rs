//! Secrets, from the environment and from files.

use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_client::{assertion::AssertionKeys, secret::Secret};

use crate::{
    auth::FirstAdmin,
    fields::{normal_email, normal_password},
    limits, secret_file,
    setting_error::SettingError,
};

/// Secrets from the environment, or from the files that variables with the suffix `_FILE` name. They have no command-line
/// options, because every user can read a process list.
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
    /// `ADMIN_EMAIL`: address of the first administrator.
    pub admin_email: Option<String>,
    /// `ADMIN_PASSWORD`.
    pub admin_password: Option<Secret>,
    /// `ADMIN_PASSWORD_FILE`, whose first line is the password.
    pub admin_password_file: Option<PathBuf>,
    /// `METRICS_TOKEN`, which /metrics requires if it is set.
    pub metrics_token: Option<Secret>,
}

/// Characters of a service's secret, at least.
const SERVICE_SECRET_CHARS: usize = 32;

/// How to make a secret, for error messages.
pub(super) const MAKE: &str = "make one with: node -p \"require('crypto').randomBytes(32).toString('base64url')\"";

impl Secrets {
    /// Reads the environment, and the files that it names. A variable takes precedence over its file.
    ///
    /// # Errors
    /// [`SettingError`]: a file cannot be read or is empty, or other users can read it.
    pub fn from_env() -> Result<Self, SettingError> {
        let read = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty()).map(Secret::new);
        let read_or_file = |name: &str| match (read(name), format!("{name}_FILE")) {
            (Some(secret), _) => Ok(Some(secret)),
            (None, variable) => {
                let file = read(&variable).map(|path| PathBuf::from(path.expose()));
                file.map(|file| secret_file::read_first_line(&variable, &file)).transpose()
            }
        };
        Ok(Self {
            // The options of the command line name the files of these.
            master_key: read("MASTER_KEY"),
            master_key_old: read("MASTER_KEY_OLD"),
            assertion_keys_auth: read_or_file("ASSERTION_KEYS_AUTH")?,
            assertion_keys_users: read_or_file("ASSERTION_KEYS_USERS")?,
            auth_service: read_or_file("SERVICE_SECRET_AUTH_SERVICE")?,
            user_service: read_or_file("SERVICE_SECRET_USER_SERVICE")?,
            admin_email: read("ADMIN_EMAIL").map(|text| text.expose().to_owned()),
            admin_password: read("ADMIN_PASSWORD"),
            admin_password_file: read("ADMIN_PASSWORD_FILE").map(|text| text.expose().into()),
            metrics_token: read_or_file("METRICS_TOKEN")?,
        })
    }

    /// Returns the keys of the gateway's assertions for the auth service.
    pub(crate) fn assertion_keys_auth(&self) -> Result<AssertionKeys, SettingError> {
        assertion_keys("ASSERTION_KEYS_AUTH", self.assertion_keys_auth.as_ref())
    }

    /// Returns the keys of the gateway's assertions for the user service.
    pub(crate) fn assertion_keys_users(&self) -> Result<AssertionKeys, SettingError> {
        assertion_keys("ASSERTION_KEYS_USERS", self.assertion_keys_users.as_ref())
    }

    /// Returns the secret of `auth-service`.
    pub(crate) fn auth_service(&self) -> Result<Secret, SettingError> {
        service_secret("SERVICE_SECRET_AUTH_SERVICE", self.auth_service.as_ref())
    }

    /// Returns the secret of `user-service`.
    pub(crate) fn user_service(&self) -> Result<Secret, SettingError> {
        service_secret("SERVICE_SECRET_USER_SERVICE", self.user_service.as_ref())
    }

    /// Checks the token for the metrics.
    pub(crate) fn check_metrics_token(&self) -> Result<(), SettingError> {
        let least = limits::METRICS_TOKEN_CHARS;
        match &self.metrics_token {
            Some(token) if token.expose().len() < least => {
                Err(SettingError(format!("METRICS_TOKEN is shorter than {least} characters; {MAKE}")))
            }
            _ => Ok(()),
        }
    }

    /// Returns the first administrator, if the environment names one.
    pub(crate) fn first_admin(&self) -> Result<Option<FirstAdmin>, SettingError> {
        let password = match (&self.admin_password, &self.admin_password_file) {
            (Some(password), _) => Some(password.clone()),
            (None, Some(file)) => Some(secret_file::read_first_line("ADMIN_PASSWORD_FILE", file)?),
            (None, None) => None,
        };
        let (email, password) = match (&self.admin_email, password) {
            (Some(email), Some(password)) => (email, password),
            (None, None) => return Ok(None),
            (Some(_), None) => {
                return Err(SettingError(
                    "ADMIN_EMAIL is set without ADMIN_PASSWORD or ADMIN_PASSWORD_FILE; set one of them".to_owned(),
                ));
            }
            (None, Some(_)) => {
                return Err(SettingError("ADMIN_PASSWORD is set without ADMIN_EMAIL; set both".to_owned()));
            }
        };
        let email =
            normal_email(email).ok_or_else(|| SettingError("ADMIN_EMAIL is not an e-mail address".to_owned()))?;
        // The length is checked in the normal form, which is hashed.
        let password = normal_password(&password);
        if !limits::PASSWORD_CHARS.contains(&password.expose().chars().count()) {
            return Err(SettingError("ADMIN_PASSWORD must have 8 to 128 characters".to_owned()));
        }
        Ok(Some(FirstAdmin { email, password }))
    }
}

/// Decodes the 32 bytes of a variable, or of the file that `<name>_FILE` names.
pub(super) fn key_bytes(
    name: &str,
    text: Option<&Secret>,
    file: Option<&Path>,
) -> Result<Option<[u8; 32]>, SettingError> {
    let text = match (text, file) {
        (Some(text), _) => text.clone(),
        (None, Some(file)) => secret_file::read(&format!("{name}_FILE"), file)?,
        (None, None) => return Ok(None),
    };
    let bytes = URL_SAFE_NO_PAD.decode(text.expose().trim()).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.map(Some).ok_or_else(|| SettingError(format!("{name} is not the base64url of 32 bytes; {MAKE}")))
}

fn assertion_keys(name: &str, text: Option<&Secret>) -> Result<AssertionKeys, SettingError> {
    let text = text.ok_or_else(|| {
        SettingError(format!(
            "{name} is not set; it is the gateway's secret of the same name, kid:base64url-of-32-bytes"
        ))
    })?;
    AssertionKeys::parse(text.expose())
        .map_err(|_| SettingError(format!("{name} must be one or two kid:base64url-of-32-bytes with a comma between")))
}

fn service_secret(name: &str, text: Option<&Secret>) -> Result<Secret, SettingError> {
    match text {
        Some(secret) if secret.expose().len() >= SERVICE_SECRET_CHARS => Ok(secret.clone()),
        Some(_) => Err(SettingError(format!("{name} is shorter than {SERVICE_SECRET_CHARS} characters; {MAKE}"))),
        None => Err(SettingError(format!("{name} is not set; {MAKE}"))),
    }
}
