//! A deployment's own settings: variables and secrets, looked up by name.

use super::{credentials, limits};
use portcullis_policy::{Policy, check_public_url, is_private_http};

/// The policy or a setting cannot be used. The text names it and holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misconfiguration(pub String);

impl Misconfiguration {
    pub(super) fn unusable_issuer(name: &str) -> Self {
        Self(format!("issuer {name:?} cannot be used; build the worker again"))
    }
}

/// The settings of a deployment.
pub(super) struct Settings<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    /// Whether plain HTTP on loopback is allowed, and the machine's own user is an operator.
    pub(super) is_development: bool,
    /// Whether the network to the services is private, so that plain HTTP is allowed to hosts without a public name.
    pub(super) is_network_private: bool,
    /// Share of successful requests that is logged: 0 to 1.
    pub(super) log_share: f64,
}

impl<'a> Settings<'a> {
    /// Reads the settings that concern the whole gateway, and checks their form.
    pub(super) fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Result<Self, Misconfiguration> {
        let is_development = lookup("DEVELOPMENT").is_some_and(|value| value == "true");
        let is_network_private = lookup("PRIVATE_NETWORK").is_some_and(|value| value == "true");
        let percentage = lookup("LOG_SUCCESSES").map_or_else(
            || Some(if is_development { 100 } else { limits::LOGGED_SUCCESSES }),
            |text| text.parse().ok().filter(|percent| *percent <= 100),
        );
        let log_share = f64::from(percentage.ok_or_else(|| {
            let text = "LOG_SUCCESSES is not a whole number from 0 to 100, the percentage of successes that are logged";
            Misconfiguration(text.to_owned())
        })?) / 100.0;
        Ok(Self { lookup, is_development, is_network_private, log_share })
    }

    /// Returns a secret that operators send as a bearer token.
    ///
    /// # Errors
    /// It is too short, or no bearer token.
    pub(super) fn operators_secret(&self, name: &str) -> Result<Option<String>, Misconfiguration> {
        let secret = self.value(name);
        let least = limits::OPERATORS_TOKEN_CHARS;
        if secret.as_ref().is_some_and(|token| token.len() < least || !credentials::is_token(token)) {
            let text =
                format!("{name} is shorter than {least} characters or has others than letters, digits and -._~+/=");
            return Err(Misconfiguration(text));
        }
        Ok(secret)
    }

    /// Returns a setting's value.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        (self.lookup)(name)
    }

    /// Returns a setting's value unless it is empty.
    pub(super) fn non_empty(&self, name: &str) -> Option<String> {
        self.value(name).filter(|value| !value.is_empty())
    }

    /// Returns the gateway's own URL: `PUBLIC_URL`, or else `public_url` of the policy; `None` without both.
    ///
    /// # Errors
    /// It is not a URL, or plain HTTP outside development.
    pub(super) fn public_url(&self, policy: &Policy) -> Result<Option<String>, Misconfiguration> {
        let Some(written) = &policy.public_url else { return Ok(None) };
        let url = self.non_empty("PUBLIC_URL").unwrap_or_else(|| written.clone());
        check_public_url(&url).map_err(|fault| Misconfiguration(format!("PUBLIC_URL {fault}")))?;
        self.check_https(
            &url,
            || "public_url is a plain http:// URL".to_owned(),
            "the gateway's https:// URL into PUBLIC_URL",
        )?;
        Ok(Some(url))
    }

    /// Refuses a plain HTTP URL outside development and a private network. The error says `what` is at such a URL and which
    /// `fix` to write, and holds no URL.
    pub(super) fn check_https(&self, url: &str, what: impl Fn() -> String, fix: &str) -> Result<(), Misconfiguration> {
        if self.is_development || !is_plain_http(url) || (self.is_network_private && is_private_http(url)) {
            return Ok(());
        }
        Err(Misconfiguration(format!(
            "{}; write {fix}, or set PRIVATE_NETWORK to true if it is in a network of your own, or DEVELOPMENT on a \
             development machine",
            what()
        )))
    }
}

/// Returns whether a URL is plain HTTP, which the policy's checks allow on loopback alone.
pub(super) fn is_plain_http(url: &str) -> bool {
    url.starts_with("http://")
}
