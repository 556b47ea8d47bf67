//! Validation, normalisation and schemas of the fields that users write.

pub mod schemas;

use portcullis_client::secret::Secret;
use unicode_normalization::UnicodeNormalization as _;
use uuid::Uuid;

use crate::{
    http::{ApiError, FieldError},
    limits,
};

/// Collects the validation errors of a request, so that an answer contains all of them.
#[derive(Debug, Default)]
pub struct Check(Vec<FieldError>);

impl Check {
    /// Adds an error.
    pub fn reject(&mut self, field: &'static str, message: &'static str) {
        self.0.push(FieldError { field, message });
    }

    /// Adds an error if a field is missing.
    pub fn required(&mut self, field: &'static str, is_there: bool) {
        if !is_there {
            self.reject(field, "must be given");
        }
    }

    /// Validates and normalises an e-mail address: trimmed and in lower case.
    ///
    /// The local part is ASCII: addresses that look alike and differ (`а` and `a`) would be two
    /// accounts. An internationalised domain becomes punycode. The local part is lower-cased as well,
    /// because people and mail servers do not distinguish `Ada@` from `ada@`.
    pub fn email(&mut self, text: Option<&str>) -> String {
        let normal = normal_email(text.unwrap_or_default());
        if normal.is_none() {
            self.reject("email", "must be an e-mail address of at most 254 ASCII characters");
        }
        normal.unwrap_or_default()
    }

    /// Validates and trims a name; a missing name is empty.
    pub fn name(&mut self, field: &'static str, text: Option<&str>) -> String {
        let name = text.unwrap_or_default().trim();
        if name.chars().count() > limits::NAME_CHARS || name.chars().any(char::is_control) {
            self.reject(field, "must be at most 100 characters without control characters");
        }
        name.to_owned()
    }

    /// Validates a text from another service: one line without control characters.
    pub fn line(&mut self, field: &'static str, text: &str) {
        if text.chars().any(char::is_control) {
            self.reject(field, "must have no control characters");
        }
    }

    /// Validates a time from another service.
    pub fn instant(&mut self, field: &'static str, at: i64) {
        if !limits::INSTANT_MS.contains(&at) {
            self.reject(field, "must be milliseconds since 1970, up to the year 9999");
        }
    }

    /// Validates a new password in the field `password`.
    pub fn password(&mut self, text: Option<&Secret>) -> Secret {
        self.password_in("password", text)
    }

    /// Validates a new password in another field.
    pub fn password_in(&mut self, field: &'static str, text: Option<&Secret>) -> Secret {
        let password = text.cloned().unwrap_or_else(|| Secret::new(String::new()));
        if !limits::PASSWORD_CHARS.contains(&normal_password(&password).expose().chars().count()) {
            self.reject(field, "must have 8 to 128 characters");
        }
        password
    }

    /// Validates the name of a role. Headers join roles with commas, and `service` is the role of
    /// service tokens, so a name may be neither.
    pub fn role(&mut self, field: &'static str, text: Option<&str>) -> String {
        let name = text.unwrap_or_default();
        if !is_word(name, false) {
            self.reject(field, "must be at most 64 of a-z, 0-9, _, . and -, the first a letter");
        } else if name == "service" {
            self.reject(field, "must not be service, the role of services");
        }
        name.to_owned()
    }

    /// Validates a name of a permission, a resource or an action.
    pub fn permission(&mut self, field: &'static str, text: Option<&str>) -> String {
        let name = text.unwrap_or_default();
        if !is_word(name, true) {
            self.reject(field, "must be at most 64 of a-z, 0-9, _, ., : and -, the first a letter");
        }
        name.to_owned()
    }

    /// Validates and trims a description; a missing description is empty.
    pub fn description(&mut self, field: &'static str, text: Option<&str>) -> String {
        let description = text.unwrap_or_default().trim();
        if description.chars().count() > limits::DESCRIPTION_CHARS || description.chars().any(char::is_control) {
            self.reject(field, "must be at most 200 characters without control characters");
        }
        description.to_owned()
    }

    /// Validates an id.
    pub fn id(&mut self, field: &'static str, text: Option<&str>) -> Uuid {
        let id = text.and_then(|text| Uuid::parse_str(text).ok());
        if id.is_none() {
            self.reject(field, "must be an id");
        }
        id.unwrap_or_default()
    }

    /// Ends the validation and returns all errors.
    pub fn faults(self) -> Vec<FieldError> {
        self.0
    }

    /// Ends the validation.
    ///
    /// # Errors
    /// 422 with all errors.
    pub fn done(self) -> Result<(), ApiError> {
        if self.0.is_empty() { Ok(()) } else { Err(ApiError::invalid(self.0)) }
    }
}

/// Checks the id that is the only field of a body.
///
/// # Errors
/// 422.
pub fn only_id(field: &'static str, text: Option<&str>) -> Result<Uuid, ApiError> {
    let mut check = Check::default();
    let id = check.id(field, text);
    check.done()?;
    Ok(id)
}

/// Returns whether a text is a name that is safe in a header, a log, a path and a list with commas.
fn is_word(text: &str, with_colon: bool) -> bool {
    let is_part =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.-".contains(c) || (with_colon && c == ':');
    text.len() <= limits::RIGHT_NAME_BYTES
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(is_part)
}

/// Normalises an e-mail address. `None` if it is not of the supported subset of RFC 5321, section
/// 4.1.2.
pub fn normal_email(text: &str) -> Option<String> {
    let (local, domain) = text.trim().rsplit_once('@')?;
    // A domain with other letters than ASCII's is converted to punycode (UTS #46, as in browsers),
    // because both spellings are one address.
    let domain = if domain.is_ascii() { domain.to_owned() } else { idna::domain_to_ascii_strict(domain).ok()? };
    let email = format!("{local}@{domain}").to_ascii_lowercase();
    let (local, domain) = email.rsplit_once('@')?;
    let atom = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+/=?^_`{|}~-".contains(c);
    let good_local = local.len() <= 64 && local.split('.').all(|part| !part.is_empty() && part.chars().all(atom));
    let label = |part: &str| {
        !part.is_empty()
            && part.len() <= 63
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    let good = email.len() <= limits::EMAIL_BYTES && good_local && domain.contains('.') && domain.split('.').all(label);
    good.then_some(email)
}

/// Normalises a password to NFC, the form that is hashed (NIST SP 800-63B, section 5.1.1.2). Keyboards
/// and systems produce `é` as one character or as two.
pub fn normal_password(password: &Secret) -> Secret {
    Secret::new(password.expose().nfc().collect())
}

/// Returns whether a text is a valid name of a service. The name appears in tokens, in headers and
/// before the colon of Basic credentials.
pub fn is_service_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_lowercase())
        && limits::SERVICE_NAME_BYTES.contains(&text.len())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}
