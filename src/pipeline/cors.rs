//! Cross-origin requests of browsers: preflights, and the headers by which pages of listed origins
//! may read an answer (Fetch standard, section 3.2). Without a CORS policy a route is closed to
//! pages of all other origins.

use super::{answer::Answer, denial::Denial, gateway::Gateway, head::Head, proofs::NONCE_HEADER};
use portcullis_policy::{Cors, Destination, Route, Target, allows};

impl Gateway {
    /// Answers a preflight of a route with a CORS policy; returns `None` for any other request.
    /// Browsers send no token with a preflight.
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
        let Ok(Destination::Route(found)) = Destination::find(&self.table, method, target) else { return None };
        let route = self.policy.routes.get(found.route)?;
        let cors = self.cors_of(route)?;
        if !allows(cors, origin) {
            return Some(Err(Denial::OriginUnlisted));
        }
        let mut headers = vec![("cache-control", "no-store".to_owned()), ("x-request-id", request_id.to_owned())];
        headers.extend(common(cors, origin));
        headers.push(("access-control-allow-methods", route.methods.join(", ")));
        let mut allowed: Vec<&str> = cors.headers.iter().map(String::as_str).collect();
        if self.takes_proofs(route) {
            add(&mut allowed, "dpop");
        }
        headers.push(("access-control-allow-headers", allowed.join(", ")));
        headers.push(("access-control-max-age", cors.max_age_s.to_string()));
        Some(Ok(Answer { status: 204, headers, body: String::new() }))
    }

    /// Returns whether clients of a route may send proofs.
    fn takes_proofs(&self, route: &Route) -> bool {
        self.proofs.is_some() && self.policy.proofs_of(route).1.is_some()
    }

    /// Returns the CORS headers of a route's answer.
    pub(super) fn cors_headers(&self, head: &Head, route: Option<&Route>) -> Vec<(&'static str, String)> {
        let Some(cors) = route.and_then(|route| self.cors_of(route)) else { return Vec::new() };
        let Some(origin) = head.header("origin").filter(|origin| allows(cors, origin)) else {
            // A cache must not give this answer to a page of a listed origin.
            return vec![("vary", "Origin".to_owned())];
        };
        let mut added = common(cors, origin);
        let mut exposed: Vec<&str> = cors.expose.iter().map(String::as_str).collect();
        // A page finds the authorization server, the login that it needs, and what is wrong with its proof, by the challenge.
        let is_read =
            |route: &Route| self.resource_of(route).is_some() || route.access.may_step_up() || self.takes_proofs(route);
        if route.is_some_and(is_read) {
            add(&mut exposed, "www-authenticate");
        }
        if route.is_some_and(|route| self.takes_proofs(route)) {
            add(&mut exposed, NONCE_HEADER);
        }
        if !exposed.is_empty() {
            added.push(("access-control-expose-headers", exposed.join(", ")));
        }
        added
    }
}

/// Adds a header's name unless it is there.
fn add<'a>(names: &mut Vec<&'a str>, name: &'a str) {
    if !names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
        names.push(name);
    }
}

fn common(cors: &Cors, origin: &str) -> Vec<(&'static str, String)> {
    // The star excludes credentials, which the policy's validation enforces.
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
