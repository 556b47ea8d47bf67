//! Answers for browsers: preflights, and the headers by which pages of listed origins may
//! read an answer (Fetch standard, section 3.2). A gateway that says nothing here is closed
//! to all pages of other origins.

use super::{Answer, Denial, Gate, Head};
use crate::{
    config::{Cors, Route},
    route::{Target, allows},
};

/// Names and values to add for a page's sake.
pub type CorsHeaders = Vec<(&'static str, String)>;

impl Gate {
    /// The answer to a preflight of a route that has a policy; `None` for anything else.
    /// No token is looked at: browsers send none.
    pub(super) fn answer_preflight(
        &self,
        head: &Head,
        target: &Target,
        request_id: &str,
    ) -> Option<Result<Answer, Denial>> {
        let (origin, method) = (head.header("origin")?, head.header("access-control-request-method")?);
        if head.method != "OPTIONS" {
            return None;
        }
        let found = self.table.find(method, target).ok()?;
        let route = self.policy.routes.get(found.route)?;
        let cors = self.cors_of(route)?;
        if !allows(cors, origin) {
            return Some(Err(Denial::OriginUnlisted));
        }
        let mut headers = vec![("cache-control", "no-store".to_owned()), ("x-request-id", request_id.to_owned())];
        headers.extend(common(cors, origin));
        headers.push(("access-control-allow-methods", route.methods.join(", ")));
        headers.push(("access-control-allow-headers", cors.headers.join(", ")));
        headers.push(("access-control-max-age", cors.max_age_s.to_string()));
        Some(Ok(Answer { status: 204, headers, body: String::new() }))
    }

    /// What is to be added to the answer of a route.
    pub(super) fn cors_headers(&self, head: &Head, route: Option<usize>) -> CorsHeaders {
        let cors = route.and_then(|route| self.policy.routes.get(route)).and_then(|route| self.cors_of(route));
        let Some(cors) = cors else { return CorsHeaders::default() };
        let mut added = match head.header("origin").filter(|origin| allows(cors, origin)) {
            Some(origin) => common(cors, origin),
            // Whoever keeps answers must not give this one to a listed origin's page.
            None => vec![("vary", "Origin".to_owned())],
        };
        if added.len() > 1 && !cors.expose.is_empty() {
            added.push(("access-control-expose-headers", cors.expose.join(", ")));
        }
        added
    }

    pub(super) fn cors_of(&self, route: &Route) -> Option<&Cors> {
        let name = route.cors.as_ref()?;
        self.policy.cors.iter().find(|cors| cors.name == *name)
    }
}

fn common(cors: &Cors, origin: &str) -> Vec<(&'static str, String)> {
    // The star and credentials exclude each other; the policy's check holds that.
    let is_any = cors.origins.iter().any(|pattern| pattern == "*");
    let mut headers = vec![
        ("vary", "Origin".to_owned()),
        ("access-control-allow-origin", if is_any { "*".to_owned() } else { origin.to_owned() }),
    ];
    if cors.credentials && !is_any {
        headers.push(("access-control-allow-credentials", "true".to_owned()));
    }
    headers
}
