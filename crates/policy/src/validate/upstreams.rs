//! Upstreams: where they are, and how long the gateway waits for them.

use super::Validator;
use crate::{error::Place, limits, model::Upstream, url::check_base_url};

impl<'a> Validator<'a> {
    pub(super) fn upstream(&mut self, upstream: &'a Upstream) {
        let table = Place::Document.key("upstreams");
        let at = table.key(&upstream.name);
        self.name(&at, "upstream", &upstream.name);
        let has_one_place = upstream.url.is_some() == upstream.targets.is_empty();
        self.require(has_one_place && upstream.targets.len() <= limits::TARGETS, &at, || {
            format!(
                "say where it is, once: url = \"https://…\", or targets = [{{ url = \"https://…\", weight = 1 }}, …] \
                 with at most {}",
                limits::TARGETS
            )
        });
        if let Some(url) = &upstream.url {
            self.url(&at.key("url"), "its url", url, check_base_url);
        }
        let targets = at.key("targets");
        for (index, target) in upstream.targets.iter().enumerate() {
            let at = targets.index(index);
            self.url(&at.key("url"), "its url", &target.url, check_base_url);
            self.bounds(&at.key("weight"), target.weight, limits::WEIGHT);
        }
        self.bounds(&at.key("timeout_ms"), upstream.timeout_ms, limits::TIMEOUT_MS);
        self.bounds(&at.key("body_timeout_ms"), upstream.body_timeout_ms, limits::BODY_TIMEOUT_MS);
        self.bounds(&at.key("retries"), upstream.retries, limits::RETRIES);
        self.bounds(&at.key("max_concurrent"), upstream.max_concurrent, limits::CONCURRENT);
        let breaker = at.key("breaker");
        self.bounds(&breaker.key("failures"), upstream.breaker.failures, limits::BREAKER_FAILURES);
        self.bounds(&breaker.key("open_s"), upstream.breaker.open_s, limits::BREAKER_OPEN_S);
        if let Some(idle) = upstream.idle_timeout_ms {
            self.bounds(&at.key("idle_timeout_ms"), idle, limits::IDLE_TIMEOUT_MS);
        }
        if let Some(maintenance) = &upstream.maintenance {
            let at = at.key("maintenance");
            self.bounds(&at.key("retry_after_s"), maintenance.retry_after_s, limits::MAINTENANCE_S);
        }
    }
}
