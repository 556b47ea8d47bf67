//! Rate limits, which the runtime counts: by client address, by user, by route, and by the address
//! that sends refused tokens.
//!
//! Counts belong to one location and are not exact; they stop floods and guessing, and are no
//! quota. A counter that fails refuses no request: it protects against load, not against a
//! missing permission.

use std::{cell::RefCell, net::IpAddr, rc::Rc};

use portcullis_resilience::network;

use super::{
    background::BackgroundTask,
    denial::Denial,
    limited_cache::LimitedCache,
    limits,
    metrics::Metrics,
    ports::{Background, Clock, RateLimitCounter},
};
use portcullis_policy::{Access, Limit, LimitBy, Policy, Route};
use portcullis_token::Identity;

/// The policy's rate limits.
#[derive(Debug)]
pub(super) struct RateLimiter {
    pub(super) limits: Vec<BoundLimit>,
    /// By index of a limit, and address: whether the address is beyond the limit. Otherwise the
    /// runtime is counting a refused token of the address.
    failed_auth: RefCell<LimitedCache<(usize, String), bool>>,
    metrics: Rc<Metrics>,
}

/// A rate limit with the runtime's binding of its counter.
#[derive(Debug)]
pub(super) struct BoundLimit {
    limit: Limit,
    pub(super) binding: String,
}

/// Returns the key of a client's network, or an empty one without an address.
fn address_key(address: Option<IpAddr>) -> String {
    address.map(|address| network(address).to_string()).unwrap_or_default()
}

impl RateLimiter {
    pub(super) fn new(policy: &Policy, metrics: &Rc<Metrics>) -> Self {
        let bind = |limit: &Limit| {
            let binding = format!("LIMIT_{}", limit.name.to_ascii_uppercase().replace('-', "_"));
            BoundLimit { limit: limit.clone(), binding }
        };
        Self {
            limits: policy.limits.iter().map(bind).collect(),
            failed_auth: RefCell::new(LimitedCache::new(limits::FAILED_AUTH_ADDRESSES)),
            metrics: Rc::clone(metrics),
        }
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
                LimitBy::Ip => self.count(bound, &address_key(address), counter).await?,
                LimitBy::Route if route.access == Access::Public => self.count(bound, &route.path, counter).await?,
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
                LimitBy::User => {
                    // Users of two issuers may have the same id.
                    self.count(bound, &format!("{}\n{}", identity.issuer, identity.user_id), counter).await?;
                }
                LimitBy::Route => self.count(bound, &route.path, counter).await?,
                LimitBy::Ip | LimitBy::FailedIp => {}
            }
        }
        Ok(())
    }

    /// Schedules the count of a refused token of an address. The answer does not wait for the count,
    /// so an address beyond a limit is refused from its next request on. Of one address one count is
    /// under way at a time: a flood is counted as fast as the runtime counts, and a slow client
    /// exactly. Good tokens of the address are never refused here: a thousand people may share it.
    ///
    /// # Errors
    /// [`Denial::RateLimited`] when the address is beyond a limit already.
    pub(super) fn record_failed_auth(
        &self,
        address: Option<IpAddr>,
        ports: &(impl Clock + Background),
    ) -> Result<(), Denial> {
        let now = ports.now();
        let mut outcome = Ok(());
        let mut known = self.failed_auth.borrow_mut();
        for (limit, bound) in self.limits.iter().enumerate().filter(|(_, bound)| bound.limit.by == LimitBy::FailedIp) {
            let key = (limit, address_key(address));
            match known.find(&key, now) {
                Some(true) => outcome = Err(self.exceeded(bound)),
                Some(false) => {}
                None => {
                    // Expires in case that the runtime ends the task before its result.
                    known.insert(key.clone(), false, 1, now.plus(limits::COUNT_LOST_MS));
                    ports.defer(BackgroundTask::CountFailedAuth { limit, address: key.1 });
                }
            }
        }
        outcome
    }

    /// Has the runtime count a refused token.
    pub(super) async fn count_failed_auth(
        &self,
        limit: usize,
        address: String,
        ports: &(impl Clock + RateLimitCounter),
    ) {
        let Some(bound) = self.limits.get(limit) else { return };
        let is_over = !ports.limit(&bound.binding, &address).await;
        let now = ports.now();
        let until = if is_over { now.plus(limits::OVER_MS) } else { now };
        // A flood of addresses hides none: an address that is removed for another is counted again.
        self.failed_auth.borrow_mut().insert((limit, address), is_over, 1, until);
    }

    async fn count(&self, bound: &BoundLimit, key: &str, counter: &impl RateLimitCounter) -> Result<(), Denial> {
        if counter.limit(&bound.binding, key).await { Ok(()) } else { Err(self.exceeded(bound)) }
    }

    fn exceeded(&self, BoundLimit { limit, .. }: &BoundLimit) -> Denial {
        self.metrics.count_limited(&limit.name);
        Denial::RateLimited { retry_s: limit.retry_after_s }
    }

    fn limits_of<'a>(&'a self, route: &'a Route) -> impl Iterator<Item = &'a BoundLimit> {
        self.limits.iter().filter(|bound| route.limits.contains(&bound.limit.name))
    }
}
