//! The audit trail's writer: one event for each request that changes something or
//! authenticates, and for each refused look at what is the administrators'.
//!
//! What an event is called is decided here alone, by method and template of the route, so
//! that no handler can forget to leave one: a route that nobody gave a name leaves an event
//! all the same.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    extract::{FromRequestParts, MatchedPath, Request, State},
    http::{HeaderMap, Method, StatusCode, request::Parts},
    middleware::Next,
    response::Response,
};
use portcullis_client::trace::TraceContext;
use uuid::Uuid;

use super::{AuditCap, Auth};
use crate::{
    clock::Clock,
    http::{self, ApiError, Metrics, ReportedError},
    limits,
    peers::network,
    store::{
        self, AuditLog,
        audit::{Event, Outcome},
    },
};

/// Routes that change something or authenticate. What stands in braces has other names in
/// other places and is left out.
const CHANGES: &[(&str, &str, &str)] = &[
    ("POST", "/api/v1/auth/register", "auth.register"),
    ("POST", "/api/v1/auth/login", LOGIN),
    ("POST", "/api/v1/auth/refresh", "auth.refresh"),
    ("POST", "/api/v1/auth/logout", "auth.logout"),
    ("POST", "/api/v1/auth/password", "auth.password.change"),
    ("DELETE", "/api/v1/auth/sessions", "session.end"),
    ("DELETE", "/api/v1/auth/sessions/{}", "session.end"),
    ("POST", "/api/v1/auth/roles", "role.create"),
    ("PUT", "/api/v1/auth/roles/{}", "role.update"),
    ("DELETE", "/api/v1/auth/roles/{}", "role.delete"),
    ("POST", "/api/v1/auth/roles/{}/permissions", "role.permission.grant"),
    ("DELETE", "/api/v1/auth/roles/{}/permissions/{}", "role.permission.revoke"),
    ("POST", "/api/v1/auth/permissions", "permission.create"),
    ("PUT", "/api/v1/auth/permissions/{}", "permission.update"),
    ("DELETE", "/api/v1/auth/permissions/{}", "permission.delete"),
    ("POST", "/api/v1/auth/users/{}/roles", "user.role.grant"),
    ("PUT", "/api/v1/auth/users/{}/roles", "user.roles.replace"),
    ("DELETE", "/api/v1/auth/users/{}/roles/{}", "user.role.revoke"),
    ("POST", "/api/v1/auth/keys/rotate", "keys.rotate"),
    ("POST", "/api/v1/auth/token", "service.token"),
    ("POST", "/api/v1/internal/accounts", "account.create"),
    ("PATCH", "/api/v1/internal/accounts/{}", "account.change"),
    ("DELETE", "/api/v1/internal/accounts/{}", "account.delete"),
    ("POST", "/api/v1/internal/accounts/{}/revoke", "account.revoke"),
];

/// Routes that only tell: an event when they refuse, because that is somebody who looks for
/// what is not theirs. Services ask some of them with each of their own requests; an event
/// for every answer would bury the others.
const QUESTIONS: &[(&str, &str, &str)] = &[
    ("POST", "/api/v1/auth/validate-token", "auth.validate"),
    ("POST", "/api/v1/auth/permissions/check", "permission.check"),
    ("GET", "/api/v1/auth/roles", "role.read"),
    ("GET", "/api/v1/auth/roles/{}", "role.read"),
    ("GET", "/api/v1/auth/roles/{}/permissions", "role.read"),
    ("GET", "/api/v1/auth/permissions", "permission.read"),
    ("GET", "/api/v1/auth/permissions/{}", "permission.read"),
    ("GET", "/api/v1/auth/users/{}/roles", "user.roles.read"),
    ("GET", "/api/v1/auth/users/{}/permissions", "user.permissions.read"),
    ("GET", "/api/v1/auth/audit", "audit.read"),
];

/// The name of logins, which are counted, too.
const LOGIN: &str = "auth.login";

/// The name of what changes something and has none.
const UNNAMED: &str = "auth.other";

/// What a request is called in the trail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Named {
    event_type: &'static str,
    /// Only a refusal leaves an event.
    if_refused: bool,
}

/// `None` for what leaves no event.
fn name(method: &Method, template: &str) -> Option<Named> {
    // A HEAD request is answered as a GET.
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    let bare = without_names(template);
    let find = |table: &[(&str, &str, &'static str)]| {
        let found = table.iter().find(|(verb, path, _)| *verb == method && *path == bare);
        found.map(|(_, _, event_type)| *event_type)
    };
    if let Some(event_type) = find(QUESTIONS) {
        return Some(Named { event_type, if_refused: true });
    }
    match method {
        "GET" | "OPTIONS" | "TRACE" => None,
        _ => Some(Named { event_type: find(CHANGES).unwrap_or(UNNAMED), if_refused: false }),
    }
}

/// A template without the names of its parameters.
fn without_names(template: &str) -> String {
    let segments = template.split('/').map(|segment| if segment.starts_with('{') { "{}" } else { segment });
    segments.collect::<Vec<_>>().join("/")
}

fn outcome(status: StatusCode) -> Outcome {
    match status {
        _ if status.is_success() => Outcome::Success,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => Outcome::Denied,
        _ => Outcome::Failure,
    }
}

/// What is told of a request while it is answered. A handler that knows more than the
/// route does extracts it and says so.
#[derive(Debug, Clone, Default)]
pub(super) struct Notes(Arc<Mutex<Noted>>);

#[derive(Debug, Clone, Default)]
struct Noted {
    /// The gateway vouches for the request, or a service has shown who it is.
    is_identified: bool,
    user_id: Option<Uuid>,
    other_id: Option<String>,
    trace_id: Option<String>,
    span_id: Option<String>,
    ip_address: Option<String>,
    user_agent: Option<String>,
}

impl Notes {
    /// Whose account it is about, where the gateway names nobody.
    pub(super) fn by(&self, user: Uuid) {
        self.with(|noted| noted.user_id = Some(user));
    }

    /// What it is about, where the path does not say; else the second thing, such as the
    /// role that is given.
    pub(super) fn about(&self, entity: impl ToString) {
        self.with(|noted| noted.other_id = Some(entity.to_string()));
    }

    /// That the caller is known: before, nothing of a request leaves an event.
    pub(super) fn identified(&self) {
        self.with(|noted| noted.is_identified = true);
    }

    fn with(&self, note: impl FnOnce(&mut Noted)) {
        note(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn noted(&self) -> Noted {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Notes {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

/// The layer inside `require_assertion` that notes what the gateway vouches for: the user
/// and the client. What a stranger writes into these headers never gets here.
pub(super) async fn note_client(
    notes: Notes,
    user: Result<http::User, ApiError>,
    client: http::Client,
    request: Request,
    next: Next,
) -> Response {
    notes.with(|noted| {
        let headers = request.headers();
        noted.is_identified = true;
        noted.user_id = user.ok().map(|user| user.id);
        noted.trace_id = traceparent(headers, 1, 32);
        noted.span_id = traceparent(headers, 2, 16);
        noted.ip_address = client.address.map(|address| address.to_string());
        noted.user_agent = Some(client.user_agent).filter(|text| !text.is_empty());
    });
    next.run(request).await
}

/// The layer inside `require_service` that notes that a service has shown who it is.
pub(super) async fn note_service(notes: Notes, request: Request, next: Next) -> Response {
    notes.identified();
    next.run(request).await
}

fn traceparent(headers: &HeaderMap, index: usize, length: usize) -> Option<String> {
    let part = headers.get("traceparent")?.to_str().ok()?.split('-').nth(index)?;
    (part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| part.to_owned())
}

/// An event that is not written yet. When a client hangs up, the request ends where it
/// stands and this is dropped: nobody can keep what they did out of the trail by not
/// waiting for the answer.
struct Pending {
    auth: Auth,
    named: Named,
    operation: String,
    ids: Vec<Uuid>,
    notes: Notes,
    is_written: bool,
}

impl Pending {
    fn event(&self, result: Outcome, code: Option<&'static str>, request_id: Option<String>) -> Event {
        let noted = self.notes.noted();
        let mut entities = self.ids.iter().rev().map(Uuid::to_string).chain(noted.other_id);
        let entity_id = entities.next();
        Event {
            event_type: self.named.event_type.to_owned(),
            result,
            user_id: noted.user_id,
            entity_id,
            operation: self.operation.clone(),
            request_id,
            trace_id: noted.trace_id,
            span_id: noted.span_id,
            ip_address: noted.ip_address,
            user_agent: noted.user_agent,
            // Of what was done with two things, the other one: whose role was taken.
            detail: code.map(str::to_owned).or_else(|| entities.next()),
            at: self.auth.clock.now(),
        }
    }

    /// Leaves no event.
    fn forget(mut self) {
        self.is_written = true;
    }

    /// The event that an answer makes of it, if any.
    fn end(mut self, response: &Response) -> Option<Event> {
        self.is_written = true;
        let status = response.status();
        let result = outcome(status);
        if self.named.event_type == LOGIN {
            self.auth.metrics.login(result.as_str());
        }
        // A path that does not take the method was asked for nothing.
        if status == StatusCode::METHOD_NOT_ALLOWED || (self.named.if_refused && result != Outcome::Denied) {
            return None;
        }
        // Of calls between services; what the gateway says is noted already.
        if let Some(trace) = response.extensions().get::<TraceContext>() {
            self.notes.with(|noted| {
                noted.trace_id = Some(trace.trace_id());
                noted.span_id = Some(trace.span_id());
            });
        }
        let code = response.extensions().get::<ReportedError>().map(|refused| refused.code);
        let request_id = response.headers().get("x-request-id").and_then(|value| value.to_str().ok());
        Some(self.event(result, code, request_id.map(str::to_owned)))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.is_written || self.named.if_refused {
            return;
        }
        if !self.notes.noted().is_identified {
            self.auth.metrics.audit_omitted("unidentified");
            return;
        }
        let event = self.event(Outcome::Failure, Some("client_gone"), None);
        if !self.auth.audit_cap.admits(&counted_for(&event), event.at) {
            self.auth.metrics.audit_omitted("capped");
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let Auth { audit, audit_cap, metrics, .. } = &self.auth;
            runtime.spawn(write_in_turn(audit.clone(), metrics.clone(), audit_cap.clone(), event));
        }
    }
}

/// Whose refusals are counted together: the user's, or those of the network of the address;
/// of services, all.
fn counted_for(event: &Event) -> String {
    let user = event.user_id.map(|id| id.to_string());
    let address = || event.ip_address.as_deref()?.parse().ok();
    user.or_else(|| address().map(|address| network(address).to_string())).unwrap_or_default()
}

/// Writes an event; one of a refusal once it is its turn.
async fn write_in_turn(trail: AuditLog, metrics: Metrics, cap: AuditCap, event: Event) {
    if event.result == Outcome::Success {
        return write(trail, Some(metrics), event).await;
    }
    match tokio::time::timeout(limits::AUDIT_WAIT, cap.turn()).await {
        Ok(Some(_turn)) => write(trail, Some(metrics), event).await,
        Ok(None) | Err(_) => metrics.audit_omitted("busy"),
    }
}

/// Writes an event. When that fails, it is logged as `audit_failed` and the answer goes
/// out: what the request changed is changed, and an error would say that it is not.
async fn write(trail: AuditLog, metrics: Option<Metrics>, event: Event) {
    let written = tokio::time::timeout(limits::AUDIT_WAIT, trail.add(&event)).await;
    if let Ok(Err(error)) = &written {
        match &metrics {
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

/// Leaves an event of what was done without a request: by a command, or by the program of
/// itself. `done` is the thing that it was about, or a stable code.
pub async fn record_command(
    trail: &AuditLog,
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
    write(trail.clone(), None, event).await;
}

/// The layer outside `observe`, where an answer is final and has its request's id, that
/// writes the event.
pub(super) async fn record(State(auth): State<Auth>, mut request: Request, next: Next) -> Response {
    let template = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let named = template.as_deref().and_then(|template| name(request.method(), template));
    let (Some(named), Some(template)) = (named, template) else {
        return next.run(request).await;
    };
    let notes = Notes::default();
    request.extensions_mut().insert(notes.clone());
    let (trail, metrics, cap) = (auth.audit.clone(), auth.metrics.clone(), auth.audit_cap.clone());
    let pending = Pending {
        auth,
        named,
        operation: format!("{} {template}", request.method()),
        // What is no id names nothing, and may be a token that somebody pasted.
        ids: request.uri().path().split('/').filter_map(|segment| Uuid::parse_str(segment).ok()).collect(),
        notes,
        is_written: false,
    };
    let response = next.run(request).await;
    if !pending.notes.noted().is_identified {
        // Whoever reaches the port could fill the trail with these.
        pending.forget();
        metrics.audit_omitted("unidentified");
        return response;
    }
    let Some(event) = pending.end(&response) else { return response };
    if event.result != Outcome::Success && !cap.admits(&counted_for(&event), event.at) {
        metrics.audit_omitted("capped");
        return response;
    }
    // In a task of its own, so that it is written even if the client does not wait.
    let _ = tokio::spawn(write_in_turn(trail, metrics, cap, event)).await;
    response
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
            assert_eq!(counted_for(&event), expected, "{ip_address:?}");
        }
    }

    #[test]
    fn a_route_has_the_name_of_what_it_does_whatever_its_parameters_are_called() {
        let always = |event_type| Some(Named { event_type, if_refused: false });
        let refused = |event_type| Some(Named { event_type, if_refused: true });
        for (method, template, expected) in [
            ("POST", "/api/v1/auth/login", always("auth.login")),
            ("DELETE", "/api/v1/auth/users/{id}/roles/{role_id}", always("user.role.revoke")),
            ("DELETE", "/api/v1/auth/users/{user}/roles/{role}", always("user.role.revoke")),
            ("POST", "/api/v1/auth/novelties/{id}", always(UNNAMED)),
            ("PURGE", "/api/v1/auth/roles", always(UNNAMED)),
            ("GET", "/api/v1/auth/roles/{role_id}", refused("role.read")),
            ("HEAD", "/api/v1/auth/roles/{role_id}", refused("role.read")),
            ("POST", "/api/v1/auth/permissions/check", refused("permission.check")),
            ("GET", "/api/v1/auth/me", None),
            ("HEAD", "/health", None),
            ("OPTIONS", "/api/v1/auth/login", None),
        ] {
            assert_eq!(name(&method.parse().unwrap(), template), expected, "{method} {template}");
        }
    }
}
