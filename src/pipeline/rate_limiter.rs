//! Rate limits, which the runtime counts: by client address, by user and by route.
//!
//! Counts belong to one location and are not exact; they stop floods and guessing, and are no
//! quota. A counter that fails refuses no request: it protects against load, not against a
//! missing permission.

use std::rc::Rc;

use portcullis_resilience::network;

use super::{head::Head, headers::client_address, metrics::Metrics, ports::RateLimitCounter};
use portcullis_policy::{Access, Limit, LimitBy, Policy, Route};
use portcullis_token::Identity;

/// The policy's rate limits.
#[derive(Debug)]
pub(super) struct RateLimiter {
    limits: Vec<Limit>,
    metrics: Rc<Metrics>,
}

/// A request is beyond a rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LimitExceeded {
    /// Seconds for `Retry-After`.
    pub(super) retry_s: u64,
}

/// Returns the binding of a limit.
pub(super) fn binding(name: &str) -> String {
    format!("LIMIT_{}", name.to_ascii_uppercase().replace('-', "_"))
}

/// Returns the key of a client's network, or an empty one without an address.
pub(super) fn address_key(head: &Head) -> String {
    let address = client_address(head).and_then(|text| text.parse().ok());
    address.map(|address| network(address).to_string()).unwrap_or_default()
}

impl RateLimiter {
    pub(super) fn new(policy: &Policy, metrics: Rc<Metrics>) -> Self {
        Self { limits: policy.limits.clone(), metrics }
    }

    /// Counts a request to a route before anything is known of its caller.
    pub(super) async fn count_arrival(
        &self,
        route: &Route,
        head: &Head,
        counter: &impl RateLimitCounter,
    ) -> Result<(), LimitExceeded> {
        for limit in self.limits_of(route) {
            let key = match limit.by {
                LimitBy::Ip => address_key(head),
                LimitBy::Route if route.access == Access::Public => route.path.clone(),
                LimitBy::Route | LimitBy::User | LimitBy::FailedIp => continue,
            };
            self.count(limit, &key, counter).await?;
        }
        Ok(())
    }

    /// Counts a request of a user who may enter. Other requests are not counted: a flood of
    /// strangers must not use up what users have.
    pub(super) async fn count_entry(
        &self,
        route: &Route,
        identity: &Identity,
        counter: &impl RateLimitCounter,
    ) -> Result<(), LimitExceeded> {
        for limit in self.limits_of(route) {
            let key = match limit.by {
                // Users of two issuers may have the same id.
                LimitBy::User => format!("{}\n{}", identity.issuer, identity.user_id),
                LimitBy::Route => route.path.clone(),
                LimitBy::Ip | LimitBy::FailedIp => continue,
            };
            self.count(limit, &key, counter).await?;
        }
        Ok(())
    }

    /// Returns the bindings of limits that are not bound.
    pub(super) fn unbound(&self, counter: &impl RateLimitCounter) -> impl Iterator<Item = String> {
        self.limits.iter().map(|limit| binding(&limit.name)).filter(|binding| !counter.has_limit(binding))
    }

    fn limits_of<'a>(&'a self, route: &'a Route) -> impl Iterator<Item = &'a Limit> {
        self.limits.iter().filter(|limit| route.limits.contains(&limit.name))
    }

    async fn count(&self, limit: &Limit, key: &str, counter: &impl RateLimitCounter) -> Result<(), LimitExceeded> {
        if counter.limit(&binding(&limit.name), key).await {
            return Ok(());
        }
        self.metrics.count_limited(&limit.name);
        Err(LimitExceeded { retry_s: limit.retry_after_s })
    }
}
