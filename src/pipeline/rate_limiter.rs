//! Rate limits, which the runtime counts: by client address, by user, by route, and by the address
//! that sends refused tokens.
//!
//! Counts belong to one location and are not exact; they stop floods and guessing, and are no quota. A
//! counter that fails refuses no request: it protects against load, not against a missing permission.

use std::{cell::RefCell, net::IpAddr, rc::Rc};

use portcullis_resilience::network;

use super::{
    denial::Denial,
    limited_cache::LimitedCache,
    limits,
    metrics::Metrics,
    permits::Lease,
    ports::{BackgroundTask, RateLimitCounter},
};
use portcullis_policy::{Access, Limit, LimitBy, Policy, Route};
use portcullis_token::{Identity, UnixMillis};

/// The policy's rate limits.
pub(super) struct RateLimiter {
    pub(super) limits: Vec<BoundLimit>,
    /// By index of a limit, and network: whether the network is beyond the limit. Otherwise the
    /// runtime is counting a refused token of the network.
    failed_auth: RefCell<LimitedCache<(usize, Option<IpAddr>), bool>>,
    metrics: Rc<Metrics>,
}

/// A rate limit with the runtime's binding of its counter.
pub(super) struct BoundLimit {
    limit: Limit,
    pub(super) binding: String,
}

/// Whose request is counted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Caller<'a> {
    /// Nothing but the address is known so far.
    Unknown(Option<IpAddr>),
    /// The access rule permits the user. The revocation log may still refuse the token.
    Permitted(&'a Identity),
}

/// Returns the key of a client's network, or an empty one without an address.
fn network_key(network: Option<IpAddr>) -> String {
    network.map(|network| network.to_string()).unwrap_or_default()
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

    /// Counts a request to a route, and refuses it beyond a limit. Users are counted once they may
    /// enter: a flood of strangers must not use up what users have.
    pub(super) async fn count(
        &self,
        route: &Route,
        caller: Caller<'_>,
        counter: &impl RateLimitCounter,
    ) -> Result<(), Denial> {
        for bound in self.limits.iter().filter(|bound| route.limits.contains(&bound.limit.name)) {
            let key = match (bound.limit.by, caller) {
                (LimitBy::Ip, Caller::Unknown(address)) => network_key(address.map(network)),
                (LimitBy::Route, Caller::Unknown(_)) if route.access == Access::Public => route.path.clone(),
                (LimitBy::Route, Caller::Permitted(_)) => route.path.clone(),
                // Users of two issuers may have the same id.
                (LimitBy::User, Caller::Permitted(user)) => format!("{}\n{}", user.issuer, user.user_id),
                (LimitBy::Ip | LimitBy::Route | LimitBy::User | LimitBy::FailedIp, _) => continue,
            };
            if !counter.limit(&bound.binding, &key).await {
                return Err(self.exceeded(bound));
            }
        }
        Ok(())
    }

    /// Schedules the count of a refused token of an address. The answer does not wait for the count,
    /// so an address beyond a limit is refused from its next request on. Of one address one count is
    /// under way at a time: a flood is counted as fast as the runtime counts, and a slow client
    /// exactly. Good tokens of the address are never refused here: a thousand people may share it.
    /// Returns the denial of an address that is beyond a limit already.
    pub(super) fn record_failed_auth(&self, address: Option<IpAddr>, ports: &impl RateLimitCounter) -> Option<Denial> {
        let now = ports.now();
        let network = address.map(network);
        let mut denial = None;
        let mut known = self.failed_auth.borrow_mut();
        for (limit, bound) in self.limits.iter().enumerate().filter(|(_, bound)| bound.limit.by == LimitBy::FailedIp) {
            let key = (limit, network);
            match known.find(&key, now) {
                Some(true) => denial = Some(self.exceeded(bound)),
                Some(false) => {}
                None => {
                    // Expires in case that the runtime ends the task before its result.
                    known.insert(key, false, 1, Lease { since: now, lasts_ms: limits::COUNT_LOST_MS });
                    ports.defer(BackgroundTask::CountFailedAuth { limit, network });
                }
            }
        }
        denial
    }

    /// Refuses an address that is beyond a limit of refused tokens already, before its next guess costs a question.
    ///
    /// # Errors
    /// [`Denial::RateLimited`].
    pub(super) fn check_failed_auth(&self, address: Option<IpAddr>, now: UnixMillis) -> Result<(), Denial> {
        let network = address.map(network);
        let known = self.failed_auth.borrow();
        let is_over = |limit: usize| known.find(&(limit, network), now) == Some(&true);
        let exceeded = self.limits.iter().enumerate().find(|(limit, _)| is_over(*limit));
        exceeded.map_or(Ok(()), |(_, bound)| Err(self.exceeded(bound)))
    }

    /// Has the runtime count a refused token.
    pub(super) async fn count_failed_auth(&self, limit: usize, network: Option<IpAddr>, ports: &impl RateLimitCounter) {
        let Some(bound) = self.limits.get(limit) else { return };
        let is_over = !ports.limit(&bound.binding, &network_key(network)).await;
        let lease = Lease { since: ports.now(), lasts_ms: if is_over { limits::OVER_MS } else { 0 } };
        // A flood of addresses hides none: an address that is removed for another is counted again.
        self.failed_auth.borrow_mut().insert((limit, network), is_over, 1, lease);
    }

    fn exceeded(&self, BoundLimit { limit, .. }: &BoundLimit) -> Denial {
        self.metrics.count(format_args!("gateway_rate_limited_total{{limit=\"{}\"}}", limit.name));
        Denial::RateLimited { retry_s: limit.retry_after_s }
    }
}
