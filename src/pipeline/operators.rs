//! Operators: who reads the gateway's state, who changes it, and where their page is.
//!
//! `METRICS_TOKEN` reads metrics and details. `OPERATORS_TOKEN` also opens the operators' page and its operations.
//!
//! Any page on the origin of the operators' page could open it and read it, or replace it by a service worker. So the
//! page has a host of its own, `OPERATORS_HOST`, at which no upstream answers. A development machine needs none.

use sha2::{Digest as _, Sha256};

use super::{
    credentials,
    denial::Denial,
    head::Head,
    settings::{Misconfiguration, Settings},
};

/// Why there is no page, for operators.
const NO_HOST: &str = "OPERATORS_TOKEN is set without OPERATORS_HOST, a host name without scheme and port";

/// The secrets of operators, and the host of their page.
pub(super) struct Operators {
    metrics_token: Option<String>,
    /// Opens the page.
    token: Option<String>,
    /// Without port.
    host: Option<String>,
    is_development: bool,
}

impl Operators {
    /// # Errors
    /// A secret is too short, or no bearer token.
    pub(super) fn new(settings: &Settings<'_>) -> Result<Self, Misconfiguration> {
        Ok(Self {
            metrics_token: settings.operators_secret("METRICS_TOKEN")?,
            token: settings.operators_secret("OPERATORS_TOKEN")?,
            host: settings.non_empty("OPERATORS_HOST").filter(|host| name_of(host) == host && !host.contains('/')),
            is_development: settings.is_development,
        })
    }

    /// Returns whether the deployment has metrics.
    pub(super) const fn has_metrics(&self) -> bool {
        self.metrics_token.is_some() || self.token.is_some()
    }

    /// Returns whether there is a page at any host.
    pub(super) const fn has_page(&self) -> bool {
        self.token.is_some() && (self.host.is_some() || self.is_development)
    }

    /// Returns why there is no page although its secret is set.
    pub(super) fn fault(&self) -> Option<&'static str> {
        (self.token.is_some() && !self.has_page()).then_some(NO_HOST)
    }

    /// Returns whether the page is at this host.
    pub(super) fn has_page_at(&self, host: &str) -> bool {
        self.has_page() && (self.host.is_none() || self.is_host(host))
    }

    /// Returns whether this is the host of the page alone, also while there is no page: what an upstream stored in browsers
    /// there would stay.
    pub(super) fn is_host(&self, host: &str) -> bool {
        self.host.as_ref().is_some_and(|own| name_of(host).eq_ignore_ascii_case(own))
    }

    /// Refuses a caller who may not read metrics and details.
    pub(super) fn check_reader(&self, head: &Head) -> Result<(), Denial> {
        check(head, &[&self.metrics_token, &self.token])
    }

    /// Refuses a caller who may not use the page's operations.
    pub(super) fn check_operator(&self, head: &Head) -> Result<(), Denial> {
        check(head, &[&self.token])
    }
}

/// Refuses a caller without one of these tokens.
fn check(head: &Head, accepted: &[&Option<String>]) -> Result<(), Denial> {
    let shown = Sha256::digest(credentials::bearer(head)?);
    // Digests, so that the time of the comparison reveals nothing about a token.
    let is_accepted = accepted.iter().copied().flatten().any(|token| Sha256::digest(token) == shown);
    if is_accepted { Ok(()) } else { Err(Denial::MetricsTokenWrong) }
}

/// Returns a host without its port.
fn name_of(host: &str) -> &str {
    host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).map_or(host, |(name, _)| name)
}
