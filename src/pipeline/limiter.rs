//! Rate limits, which the runtime counts: by client address, by user, by route, and for
//! refused tokens by address.
//!
//! Counts are a location's own and not exact; they stop floods and guessing, and sell no
//! quota. A limiter that fails refuses nobody: it guards against load, not against a
//! missing right.

use portcullis_resilience::network;

use super::{Chore, Denial, Gate, Head, headers::client_address, ports::Ports};
use crate::{
    config::{Access, Limit, LimitBy, Route},
    token::{Identity, TokenError},
};

/// Binding of a limit.
pub(super) fn binding(name: &str) -> String {
    format!("LIMIT_{}", name.to_ascii_uppercase().replace('-', "_"))
}

/// Returns the key of a client's network, or an empty one without an address.
fn address_key(head: &Head) -> String {
    let address = client_address(head).and_then(|text| text.parse().ok());
    address.map(|address| network(address).to_string()).unwrap_or_default()
}

impl Gate {
    /// Counts a request to a route, before anything is known of who sends it.
    pub(super) async fn limit_arrival<P: Ports>(&self, route: &Route, head: &Head, ports: &P) -> Result<(), Denial> {
        for limit in self.limits_of(route) {
            let key = match limit.by {
                LimitBy::Ip => address_key(head),
                LimitBy::Route if route.access == Access::Public => route.path.clone(),
                LimitBy::Route | LimitBy::User | LimitBy::FailedIp => continue,
            };
            self.count_limit(limit, &key, ports).await?;
        }
        Ok(())
    }

    /// Counts a request of a user who may enter. Who may not is not counted: a flood of
    /// strangers must not use up what users have.
    pub(super) async fn limit_entry<P: Ports>(&self, route: &Route, who: &Identity, ports: &P) -> Result<(), Denial> {
        for limit in self.limits_of(route) {
            let key = match limit.by {
                // Two issuers may each have a user of one id, and they are two people.
                LimitBy::User => format!("{}\n{}", who.issuer, who.user_id),
                LimitBy::Route => route.path.clone(),
                LimitBy::Ip | LimitBy::FailedIp => continue,
            };
            self.count_limit(limit, &key, ports).await?;
        }
        Ok(())
    }

    /// What a refused token is answered with, which is counted behind the answer. Good tokens
    /// from the same address are never looked at here: a thousand people may share it.
    pub(super) fn limit_failure<P: Ports>(
        &self,
        denial: Denial,
        head: &Head,
        ports: &P,
        chores: &mut Vec<Chore>,
    ) -> Denial {
        // A token that was good once is no guess, and its owner must learn that it is over.
        let is_guess = matches!(&denial, Denial::Token(error) if *error != TokenError::Expired)
            || matches!(&denial, Denial::CredentialsMalformed | Denial::MetricsTokenWrong);
        if !is_guess {
            return denial;
        }
        let (now, mut answer) = (ports.now(), denial);
        for (index, limit) in self.failure_limits() {
            let key = address_key(head);
            let mut failures = self.failures.borrow_mut();
            if failures.is_over(index, &key, now) {
                answer = self.limited(limit);
            } else if failures.note(index, &key, now) {
                chores.push(Chore::CountFailures);
            }
        }
        answer
    }

    fn failure_limits(&self) -> impl Iterator<Item = (usize, &Limit)> {
        self.policy.limits.iter().enumerate().filter(|(_, limit)| limit.by == LimitBy::FailedIp)
    }

    /// Has the runtime count what was refused.
    pub(super) async fn count_failures<P: Ports>(&self, ports: &P) {
        // Not in the loop's head: the loan would last over the wait.
        loop {
            let next = self.failures.borrow_mut().next();
            let Some((index, key)) = next else { return };
            let Some(limit) = self.policy.limits.get(index) else { continue };
            let is_within = ports.limit(&binding(&limit.name), &key).await;
            self.failures.borrow_mut().counted((index, key), is_within, ports.now());
        }
    }

    fn limits_of<'a>(&'a self, route: &'a Route) -> impl Iterator<Item = &'a Limit> {
        self.policy.limits.iter().filter(|limit| route.limits.contains(&limit.name))
    }

    async fn count_limit<P: Ports>(&self, limit: &Limit, key: &str, ports: &P) -> Result<(), Denial> {
        if ports.limit(&binding(&limit.name), key).await {
            return Ok(());
        }
        Err(self.limited(limit))
    }

    fn limited(&self, limit: &Limit) -> Denial {
        if self.metrics_token.is_some() {
            self.metrics.borrow_mut().note_limited(&limit.name);
        }
        Denial::RateLimited { retry_s: limit.retry_after_s }
    }
}
