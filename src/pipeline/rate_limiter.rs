//! Rate limits, which the runtime counts: by client address, by user and by route.
//!
//! Counts belong to one location and are not exact; they stop floods and guessing, and are no
//! quota. A counter that fails refuses no request: it protects against load, not against a
//! missing permission.

use std::{net::IpAddr, rc::Rc};

use portcullis_resilience::network;

use super::{denial::Denial, metrics::Metrics, ports::RateLimitCounter};
use portcullis_policy::{Access, Limit, LimitBy, Policy, Route};
use portcullis_token::Identity;

/// The policy's rate limits.
#[derive(Debug)]
pub(super) struct RateLimiter {
    pub(super) limits: Vec<BoundLimit>,
}

/// A rate limit with its counter.
#[derive(Debug)]
pub(super) struct BoundLimit {
    pub(super) limit: Limit,
    /// The runtime's binding of the counter.
    pub(super) binding: String,
    metrics: Rc<Metrics>,
}

impl BoundLimit {
    pub(super) fn new(limit: &Limit, metrics: &Rc<Metrics>) -> Self {
        let binding = format!("LIMIT_{}", limit.name.to_ascii_uppercase().replace('-', "_"));
        Self { limit: limit.clone(), binding, metrics: Rc::clone(metrics) }
    }

    async fn count(&self, key: &str, counter: &impl RateLimitCounter) -> Result<(), Denial> {
        if counter.limit(&self.binding, key).await { Ok(()) } else { Err(self.exceeded()) }
    }

    /// Counts a request that is beyond the limit, and returns its denial.
    pub(super) fn exceeded(&self) -> Denial {
        self.metrics.count_limited(&self.limit.name);
        Denial::RateLimited { retry_s: self.limit.retry_after_s }
    }
}

/// Returns the key of a client's network, or an empty one without an address.
pub(super) fn address_key(address: Option<IpAddr>) -> String {
    address.map(|address| network(address).to_string()).unwrap_or_default()
}

impl RateLimiter {
    pub(super) fn new(policy: &Policy, metrics: &Rc<Metrics>) -> Self {
        Self { limits: policy.limits.iter().map(|limit| BoundLimit::new(limit, metrics)).collect() }
    }

    /// Counts a request to a route before anything is known of its caller.
    ///
    /// # Errors
    /// [`Denial::RateLimited`].
    pub(super) async fn count_arrival(
        &self,
        route: &Route,
        address: Option<IpAddr>,
        counter: &impl RateLimitCounter,
    ) -> Result<(), Denial> {
        for bound in self.limits_of(route) {
            match bound.limit.by {
                LimitBy::Ip => bound.count(&address_key(address), counter).await?,
                LimitBy::Route if route.access == Access::Public => bound.count(&route.path, counter).await?,
                LimitBy::Route | LimitBy::User | LimitBy::FailedIp => {}
            }
        }
        Ok(())
    }

    /// Counts a request of a user who may enter. Other requests are not counted: a flood of
    /// strangers must not use up what users have.
    ///
    /// # Errors
    /// [`Denial::RateLimited`].
    pub(super) async fn count_entry(
        &self,
        route: &Route,
        identity: &Identity,
        counter: &impl RateLimitCounter,
    ) -> Result<(), Denial> {
        for bound in self.limits_of(route) {
            match bound.limit.by {
                // Users of two issuers may have the same id.
                LimitBy::User => bound.count(&format!("{}\n{}", identity.issuer, identity.user_id), counter).await?,
                LimitBy::Route => bound.count(&route.path, counter).await?,
                LimitBy::Ip | LimitBy::FailedIp => {}
            }
        }
        Ok(())
    }

    fn limits_of<'a>(&'a self, route: &'a Route) -> impl Iterator<Item = &'a BoundLimit> {
        self.limits.iter().filter(|bound| route.limits.contains(&bound.limit.name))
    }
}
