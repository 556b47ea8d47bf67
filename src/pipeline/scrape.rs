//! `/metrics`, and how counts get to the place that adds them up: behind answers, a few
//! seconds after the first of them, so that a busy isolate asks seldom and an idle one
//! keeps nothing back.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::{
    Answer, Chore, Denial, Gate, Head, LogLine, credentials, limits,
    metrics::{Metrics, Names, page},
    ports::Ports,
};

/// Refuses whoever does not show the operators' token.
pub(super) fn check_operator(head: &Head, expected: &str) -> Result<(), Denial> {
    let shown = credentials::bearer(head)?;
    // Digests, so that the time of the comparison tells nothing of the token.
    if Sha256::digest(shown) == Sha256::digest(expected) { Ok(()) } else { Err(Denial::MetricsTokenWrong) }
}

impl Gate {
    /// Counts a request, and sets off the handing on of what was counted.
    pub(super) fn count<P: Ports>(&self, line: &LogLine, ports: &P, chores: &mut Vec<Chore>) {
        // Where nobody may read them, nothing is counted.
        if self.metrics_token.is_none() {
            return;
        }
        let now = ports.now();
        let mut metrics = self.metrics.borrow_mut();
        metrics.note(line);
        let is_on_its_way = metrics.flushing_since.is_some_and(|since| now.since(since) < limits::FLUSH_LOST_MS);
        if !is_on_its_way {
            metrics.flushing_since = Some(now);
            chores.push(Chore::Flush);
        }
    }

    /// Lets some seconds pass and hands on what was counted.
    pub(super) async fn flush_later<P: Ports>(&self, ports: &P) {
        ports.sleep(limits::FLUSH_MS).await;
        self.metrics.borrow_mut().flushing_since = None;
        self.flush(ports).await;
    }

    /// Hands on what was counted. What does not arrive is kept for the next time.
    pub(super) async fn flush<P: Ports>(&self, ports: &P) {
        if self.metrics_token.is_none() {
            return;
        }
        let mut taken: Metrics = self.metrics.borrow_mut().split();
        if taken.is_empty() {
            return;
        }
        let kept = taken.duplicate();
        let series = self.with_names(|names| taken.take(names));
        let text = serde_json::to_string(&series).unwrap_or_default();
        if !ports.add_metrics(&text).await {
            self.metrics.borrow_mut().put_back(kept);
        }
    }

    fn with_names<T>(&self, work: impl FnOnce(Names<'_>) -> T) -> T {
        let routes: Vec<String> = self.policy.routes.iter().map(|route| route.path.clone()).collect();
        let upstreams: Vec<String> = self.upstreams.iter().map(|upstream| upstream.name.clone()).collect();
        let issuers: Vec<String> = self.issuers.iter().map(|issuer| issuer.name.clone()).collect();
        work(Names { routes: &routes, upstreams: &upstreams, issuers: &issuers })
    }

    /// `GET /metrics`, for whoever has the token.
    pub(super) async fn answer_metrics<P: Ports>(
        &self,
        head: &Head,
        request_id: &str,
        ports: &P,
    ) -> Result<Answer, Denial> {
        let Some(expected) = &self.metrics_token else { return Err(Denial::RouteUnknown) };
        check_operator(head, expected)?;
        self.flush(ports).await;
        let text = ports.read_metrics().await.map_err(|_| Denial::MetricsUnavailable)?;
        let mut series: BTreeMap<String, f64> =
            serde_json::from_slice(text.as_bytes()).map_err(|_| Denial::MetricsUnavailable)?;
        let now = ports.now();
        let seconds = |millis: u64| f64::from(u32::try_from(millis).unwrap_or(u32::MAX)) / 1000.0;
        for upstream in &self.upstreams {
            let worst =
                upstream.targets.iter().map(|target| target.breaker.borrow().state().gauge()).fold(0.0, f64::max);
            series.insert(format!("gateway_breaker_state{{upstream=\"{}\"}}", upstream.name), worst);
        }
        for issuer in &self.issuers {
            if let Some(record) = &issuer.holding.borrow().record {
                let age = seconds(now.since(record.fetched_at));
                series.insert(format!("gateway_keys_age_seconds{{issuer=\"{}\"}}", issuer.name), age);
            }
        }
        if let Some(age) = self.revocations.borrow().age_ms(now) {
            series.insert("gateway_revocation_age_seconds".to_owned(), seconds(age));
        }
        Ok(Answer::text(request_id, "text/plain; version=0.0.4; charset=utf-8", page(&series)))
    }
}
