//! What users may write into the fields of both services, and its one normal
//! form. Pure.

use portcullis_client::secret::Secret;

use crate::{
    http::{ApiError, FieldError},
    limits,
};

/// Collects what is wrong with a request, so that all of it is told at once.
#[derive(Debug, Default)]
pub struct Check(Vec<FieldError>);

impl Check {
    /// Notes a fault.
    pub fn complain(&mut self, field: &'static str, message: &'static str) {
        self.0.push(FieldError { field, message });
    }

    /// Notes that a field is missing.
    pub fn required(&mut self, field: &'static str, is_there: bool) {
        if !is_there {
            self.complain(field, "must be given");
        }
    }

    /// An e-mail address in its normal form: trimmed and in lower case.
    ///
    /// ASCII only: two addresses that look alike and are not (`а` and `a`) would
    /// be two accounts. Lower case throughout, because people and mail servers
    /// do not tell `Ada@` from `ada@`.
    pub fn email(&mut self, text: Option<&str>) -> String {
        let normal = normal_email(text.unwrap_or_default());
        if normal.is_none() {
            self.complain("email", "must be an e-mail address of at most 254 ASCII characters");
        }
        normal.unwrap_or_default()
    }

    /// A name, trimmed; empty when there is none.
    pub fn name(&mut self, field: &'static str, text: Option<&str>) -> String {
        let name = text.unwrap_or_default().trim();
        if name.chars().count() > limits::NAME_CHARS || name.chars().any(char::is_control) {
            self.complain(field, "must be at most 100 characters without control characters");
        }
        name.to_owned()
    }

    /// A new password, exactly as written.
    pub fn password(&mut self, text: Option<&Secret>) -> Secret {
        let password = text.cloned().unwrap_or_else(|| Secret::new(String::new()));
        if !limits::PASSWORD_CHARS.contains(&password.expose().chars().count()) {
            self.complain("password", "must have 8 to 128 characters");
        }
        password
    }

    /// Ends the check.
    ///
    /// # Errors
    /// 422 with every fault.
    pub fn done(self) -> Result<(), ApiError> {
        if self.0.is_empty() { Ok(()) } else { Err(ApiError::invalid(self.0)) }
    }
}

/// The normal form of an e-mail address, or `None` when it is not one that we
/// take (a practical part of RFC 5321, section 4.1.2).
pub fn normal_email(text: &str) -> Option<String> {
    let email = text.trim().to_ascii_lowercase();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_one_form_or_none() {
        let long = format!("{}@example.com", "a".repeat(65));
        let longer = format!("a@{}.com", "b.".repeat(130));
        for (text, expected) in [
            ("ada@example.com", Some("ada@example.com")),
            ("  Ada@Example.COM ", Some("ada@example.com")),
            ("ada+tag@mail.example.co.uk", Some("ada+tag@mail.example.co.uk")),
            ("o'brien@example.com", Some("o'brien@example.com")),
            ("", None),
            ("ada", None),
            ("@example.com", None),
            ("ada@", None),
            ("ada@localhost", None),
            ("ada@@example.com", None),
            ("ada@example..com", None),
            (".ada@example.com", None),
            ("ada.@example.com", None),
            ("ada b@example.com", None),
            ("ada@-example.com", None),
            ("ada\r\n@example.com", None),
            ("ada\0@example.com", None),
            ("\u{430}da@example.com", None),
            ("ada@exämple.com", None),
            ("<ada@example.com>", None),
            ("\"ada\"@example.com", None),
            (&long, None),
            (&longer, None),
        ] {
            assert_eq!(normal_email(text).as_deref(), expected, "{text:?}");
        }
    }
}
