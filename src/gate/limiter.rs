//! Rate limits, which the runtime counts: by client address, by user, by route, and for
//! refused tokens by address.
//!
//! Counts are a location's own and not exact; they stop floods and guessing, and sell no
//! quota. A limiter that fails refuses nobody: it guards against load, not against a
//! missing right.

use super::{Denial, Gate, Head, headers::client_address, ports::Ports};
use crate::config::{Limit, LimitBy, Route};

/// Binding of a limit.
pub(super) fn binding(name: &str) -> String {
    format!("LIMIT_{}", name.to_ascii_uppercase().replace('-', "_"))
}

impl Gate {
    /// Counts a request to a route, before anything is known of who sends it.
    pub(super) async fn limit_arrival<P: Ports>(&self, route: &Route, head: &Head, ports: &P) -> Result<(), Denial> {
        for limit in self.limits_of(route) {
            let key = match limit.by {
                LimitBy::Ip => client_address(head).unwrap_or_default(),
                LimitBy::Route => route.path.as_str(),
                LimitBy::User | LimitBy::FailedIp => continue,
            };
            self.count_limit(limit, key, ports).await?;
        }
        Ok(())
    }

    /// Counts a request of a user who may enter.
    pub(super) async fn limit_user<P: Ports>(&self, route: &Route, user: &str, ports: &P) -> Result<(), Denial> {
        for limit in self.limits_of(route).filter(|limit| limit.by == LimitBy::User) {
            self.count_limit(limit, user, ports).await?;
        }
        Ok(())
    }

    /// Counts a token that is refused. Good tokens from the same address are never
    /// looked at here: a thousand people may share it.
    pub(super) async fn limit_failure<P: Ports>(&self, denial: Denial, head: &Head, ports: &P) -> Denial {
        if !matches!(denial, Denial::Token(_) | Denial::TokenRevoked | Denial::CredentialsMalformed) {
            return denial;
        }
        for limit in self.policy.limits.iter().filter(|limit| limit.by == LimitBy::FailedIp) {
            if let Err(limited) = self.count_limit(limit, client_address(head).unwrap_or_default(), ports).await {
                return limited;
            }
        }
        denial
    }

    fn limits_of<'a>(&'a self, route: &'a Route) -> impl Iterator<Item = &'a Limit> {
        self.policy.limits.iter().filter(|limit| route.limits.contains(&limit.name))
    }

    async fn count_limit<P: Ports>(&self, limit: &Limit, key: &str, ports: &P) -> Result<(), Denial> {
        if ports.limit(&binding(&limit.name), key).await {
            return Ok(());
        }
        if self.metrics_token.is_some() {
            self.metrics.borrow_mut().note_limited(&limit.name);
        }
        Err(Denial::RateLimited { retry_s: limit.retry_after_s })
    }
}
