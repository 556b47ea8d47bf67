//! Writes the audit log: one event for each request that changes something or authenticates, and
//! for each denied attempt to read what is for administrators.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    extract::{FromRequestParts, MatchedPath, Request, State},
    http::{HeaderMap, StatusCode, request::Parts},
    middleware::Next,
    response::Response,
};
use portcullis_client::trace::TraceContext;
use portcullis_resilience::network;
use uuid::Uuid;

use super::{
    AuditCap, Auth,
    audit_events::{LOGIN, Recorded, recorded},
};
use crate::{
    clock::Clock,
    http::{self, ApiError, Metrics, ReportedError},
    limits,
    store::{
        self, AuditLog,
        audit::{Event, Outcome},
    },
};

fn outcome(status: StatusCode) -> Outcome {
    match status {
        _ if status.is_success() => Outcome::Success,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => Outcome::Denied,
        _ => Outcome::Failure,
    }
}

/// What is known of a request while it is answered. Handlers that know more than the route does
/// extract it and add to it.
#[derive(Debug, Clone, Default)]
pub(super) struct AuditContext(Arc<Mutex<Facts>>);

#[derive(Debug, Clone, Default)]
struct Facts {
    /// The gateway vouches for the request, or the calling service has authenticated.
    is_identified: bool,
    /// The request changed nothing.
    is_omitted: bool,
    user_id: Option<Uuid>,
    entity_id: Option<String>,
    trace_id: Option<String>,
    span_id: Option<String>,
    ip_address: Option<String>,
    user_agent: Option<String>,
}

impl AuditContext {
    /// Sets the account that the request is about, where the gateway asserts no user.
    pub(super) fn set_user(&self, user: Uuid) {
        self.update(|facts| facts.user_id = Some(user));
    }

    /// Sets the entity that the request is about, where the path does not name it. Where the path
    /// names one, this is the second: for example the role that an account is given.
    pub(super) fn set_entity(&self, entity: impl ToString) {
        self.update(|facts| facts.entity_id = Some(entity.to_string()));
    }

    /// Marks the caller as identified. Requests of unidentified callers leave no event.
    pub(super) fn set_identified(&self) {
        self.update(|facts| facts.is_identified = true);
    }

    /// Leaves no event: the request changed nothing, and anyone may repeat it.
    pub(super) fn omit(&self) {
        self.update(|facts| facts.is_omitted = true);
    }

    fn update(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn facts(&self) -> Facts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for AuditContext {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

/// Middleware inside `require_assertion`: records the user and the client that the gateway
/// asserts. Headers of callers that it does not vouch for never get here.
pub(super) async fn identify_client(
    context: AuditContext,
    user: Result<http::AuthenticatedUser, ApiError>,
    client: http::Client,
    request: Request,
    next: Next,
) -> Response {
    context.update(|facts| {
        let headers = request.headers();
        facts.is_identified = true;
        facts.user_id = user.ok().map(|user| user.id);
        facts.trace_id = traceparent(headers, 1, 32);
        facts.span_id = traceparent(headers, 2, 16);
        facts.ip_address = client.address.map(|address| address.to_string());
        facts.user_agent = Some(client.user_agent).filter(|text| !text.is_empty());
    });
    next.run(request).await
}

/// Middleware inside `require_service`: the calling service has authenticated.
pub(super) async fn identify_service(context: AuditContext, request: Request, next: Next) -> Response {
    context.set_identified();
    next.run(request).await
}

fn traceparent(headers: &HeaderMap, index: usize, length: usize) -> Option<String> {
    let part = headers.get("traceparent")?.to_str().ok()?.split('-').nth(index)?;
    (part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| part.to_owned())
}

/// A recorded request.
struct Pending {
    auth: Auth,
    recorded: Recorded,
    operation: String,
    ids: Vec<Uuid>,
    context: AuditContext,
}

impl Pending {
    fn event(&self, result: Outcome, code: Option<&'static str>, request_id: Option<String>) -> Event {
        let facts = self.context.facts();
        let mut entities = self.ids.iter().rev().map(Uuid::to_string).chain(facts.entity_id);
        let entity_id = entities.next();
        Event {
            event_type: self.recorded.event_type.to_owned(),
            result,
            user_id: facts.user_id,
            entity_id,
            operation: self.operation.clone(),
            request_id,
            trace_id: facts.trace_id,
            span_id: facts.span_id,
            ip_address: facts.ip_address,
            user_agent: facts.user_agent,
            // Where a change is about two entities, the second one: the account that lost a role.
            detail: code.map(str::to_owned).or_else(|| entities.next()),
            at: self.auth.clock.now(),
        }
    }

    /// Returns the event of an answered request unless it is omitted.
    fn admitted(&self, response: &Response) -> Option<Event> {
        if !self.context.facts().is_identified {
            // Anyone who reaches the port could fill the log with these.
            self.auth.metrics.audit_omitted("unidentified");
            return None;
        }
        let event = self.finish(response)?;
        if self.context.facts().is_omitted {
            return None;
        }
        if event.result != Outcome::Success && !self.auth.audit_cap.admits(&cap_key(&event), event.at) {
            self.auth.metrics.audit_omitted("capped");
            return None;
        }
        Some(event)
    }

    /// Returns the event of an answered request, if it leaves one.
    fn finish(&self, response: &Response) -> Option<Event> {
        let status = response.status();
        let result = outcome(status);
        if self.recorded.event_type == LOGIN {
            self.auth.metrics.login(result.as_str());
        }
        // With a method that the path does not take, nothing was attempted.
        if status == StatusCode::METHOD_NOT_ALLOWED || (self.recorded.only_denials && result != Outcome::Denied) {
            return None;
        }
        // The trace of a call between services; that of the gateway is recorded already.
        if let Some(trace) = response.extensions().get::<TraceContext>() {
            self.context.update(|facts| {
                facts.trace_id = Some(trace.trace_id());
                facts.span_id = Some(trace.span_id());
            });
        }
        let code = response.extensions().get::<ReportedError>().map(|error| error.code);
        let request_id = response.headers().get("x-request-id").and_then(|value| value.to_str().ok());
        Some(self.event(result, code, request_id.map(str::to_owned)))
    }
}

/// Key under which refusals are counted together: the user, or the network of the address; one
/// key for all services.
fn cap_key(event: &Event) -> String {
    let user = event.user_id.map(|id| id.to_string());
    let address = || event.ip_address.as_deref()?.parse().ok();
    user.or_else(|| address().map(|address| network(address).to_string())).unwrap_or_default()
}

/// Writes an event; that of a refusal only when few others are being written.
async fn write_bounded(log: &AuditLog, metrics: &Metrics, cap: &AuditCap, event: Event) {
    let begun = Instant::now();
    let mut permit = None;
    if event.result != Outcome::Success {
        permit = tokio::time::timeout(limits::AUDIT_WAIT, cap.acquire()).await.ok().flatten();
        if permit.is_none() {
            return metrics.audit_omitted("busy");
        }
    }
    write(log, Some(metrics), event, limits::AUDIT_WAIT.saturating_sub(begun.elapsed())).await;
    drop(permit);
}

/// Writes an event. When that fails, the event is logged as `audit_failed` and the answer stays:
/// the change is made, and an error would say that it is not.
async fn write(log: &AuditLog, metrics: Option<&Metrics>, event: Event, wait: Duration) {
    let written = tokio::time::timeout(wait, log.add(&event)).await;
    if let Ok(Err(error)) = &written {
        match metrics {
            Some(metrics) => metrics.database_error(error),
            None => store::log_error(error),
        }
    }
    if !matches!(written, Ok(Ok(()))) {
        tracing::error!(
            code = "audit_failed",
            event_type = event.event_type,
            result = event.result.as_str(),
            user_id = event.user_id.map(|id| id.to_string()),
            entity_id = event.entity_id,
            operation = event.operation,
            request_id = event.request_id,
            detail = event.detail,
            "an audit event could not be written"
        );
    }
}

/// Writes the event of a change that no request made: that of a command, or of the program itself.
/// `done` is the entity, or a stable error code.
pub async fn record_command(
    log: &AuditLog,
    event_type: &str,
    operation: &str,
    done: Result<Option<String>, &str>,
    clock: &Clock,
) {
    let (result, entity_id, detail) = match done {
        Ok(entity) => (Outcome::Success, entity, None),
        Err(code) => (Outcome::Failure, None, Some(code.to_owned())),
    };
    let event = Event {
        event_type: event_type.to_owned(),
        result,
        user_id: None,
        entity_id,
        operation: operation.to_owned(),
        request_id: None,
        trace_id: None,
        span_id: None,
        ip_address: None,
        user_agent: None,
        detail,
        at: clock.now(),
    };
    write(log, None, event, limits::AUDIT_WAIT).await;
}

/// Middleware outside `observe`, where the answer is final and has its request id: writes the
/// event. The request runs in a task: when a client disconnects, its change is neither cancelled halfway
/// nor missing from the log. Its event is a failure if [`limits::REQUEST_TIME`] ends it after the commit.
pub(super) async fn record(State(auth): State<Auth>, mut request: Request, next: Next) -> Response {
    let template = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let found = template.as_deref().and_then(|template| recorded(request.method(), template));
    let (Some(recorded), Some(template)) = (found, template) else {
        return next.run(request).await;
    };
    let context = AuditContext::default();
    request.extensions_mut().insert(context.clone());
    let (gateway, operation) = (auth.gateway.clone(), format!("{} {template}", request.method()));
    let Ok(place) = tokio::time::timeout(limits::AUDIT_ENTER, auth.audit_cap.enter()).await else {
        let busy = ApiError::unavailable("request_timeout", "The request took too long");
        return gateway.render(&busy, &template);
    };
    let pending = Pending {
        auth,
        recorded,
        operation,
        // Segments that are no UUID are left out: someone may have pasted a token.
        ids: request.uri().path().split('/').filter_map(|segment| Uuid::parse_str(segment).ok()).collect(),
        context,
    };
    let answered = tokio::spawn(async move {
        let response = next.run(request).await;
        if let Some(event) = pending.admitted(&response) {
            let Auth { audit, audit_cap, metrics, .. } = &pending.auth;
            write_bounded(audit, metrics, audit_cap, event).await;
        }
        drop(place);
        response
    });
    answered.await.unwrap_or_else(|_| gateway.render(&ApiError::internal(), &template))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_by_user_or_by_network() {
        let user = Uuid::from_u128(7);
        for (user_id, ip_address, expected) in [
            (Some(user), Some("192.0.2.1"), user.to_string()),
            (None, Some("192.0.2.1"), "192.0.2.1".to_owned()),
            (None, Some("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::".to_owned()),
            (None, Some("2001:db8:1:2::1"), "2001:db8:1:2::".to_owned()),
            (None, Some("2001:db8:1:3::1"), "2001:db8:1:3::".to_owned()),
            (None, None, String::new()),
        ] {
            let event = Event {
                event_type: LOGIN.to_owned(),
                result: Outcome::Denied,
                user_id,
                entity_id: None,
                operation: String::new(),
                request_id: None,
                trace_id: None,
                span_id: None,
                ip_address: ip_address.map(str::to_owned),
                user_agent: None,
                detail: None,
                at: 0,
            };
            assert_eq!(cap_key(&event), expected, "{ip_address:?}");
        }
    }
}
