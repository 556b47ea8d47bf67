//! One exchange: sends a request once, reads its answer within limits of time and size, and records
//! it in logs and metrics by the template of its route.

use std::time::{Duration, SystemTime};

use metrics::SharedString;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH};
use time::OffsetDateTime;

use crate::{
    error::{ClientError, Refusal},
    precondition::EntityTag,
    request::{ApiAnswer, ApiRequest, Method},
    trace::TraceContext,
};

/// Bytes of a successful answer: a page of a hundred users or audit events fits well.
const ANSWER_BYTES: usize = 1024 * 1024;

/// Bytes of a refusal. The body of a longer one is ignored.
const REFUSAL_BYTES: usize = 64 * 1024;

/// Header by which a service recognises a repeated call.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Sends a request and reads its answer.
pub(super) async fn send(
    http: &reqwest::Client,
    request: &ApiRequest,
    url: &str,
    time: Duration,
    now: &(dyn Fn() -> OffsetDateTime + Send + Sync),
) -> Result<ApiAnswer, ClientError> {
    let mut builder = http.request(request.method.clone(), url).header(ACCEPT, "application/json");
    if let Some(token) = &request.token {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
            .map_err(|_| ClientError::Invalid("the token contains characters that no token has"))?;
        value.set_sensitive(true);
        builder = builder.header(reqwest::header::AUTHORIZATION, value);
    }
    if let Some((name, secret)) = &request.basic {
        builder = builder.basic_auth(name, Some(secret.expose()));
    }
    if let Some(key) = request.idempotency_key {
        builder = builder.header(IDEMPOTENCY_KEY, key.to_string());
    }
    if let Some(trace) = TraceContext::current() {
        builder = builder.header(TraceContext::HEADER, trace.child().to_string());
    }
    for (name, value) in &request.headers {
        builder = builder.header(name, value);
    }
    if let Some(body) = &request.body {
        builder = builder.header(CONTENT_TYPE, request.content_type).body(body.clone());
    }
    let accepts_not_modified = request.header(IF_NONE_MATCH.as_str()).is_some();
    tokio::time::timeout(time, read(builder, accepts_not_modified, now)).await.unwrap_or(Err(ClientError::Timeout))
}

async fn read(
    builder: reqwest::RequestBuilder,
    accepts_not_modified: bool,
    now: &(dyn Fn() -> OffsetDateTime + Send + Sync),
) -> Result<ApiAnswer, ClientError> {
    let mut answer = builder.send().await.map_err(|error| classify(&error))?;
    let status = answer.status().as_u16();
    match status {
        200..=299 => {
            let body = read_body(&mut answer, ANSWER_BYTES)
                .await?
                .ok_or(ClientError::Malformed { status, reason: "it is too long" })?;
            Ok(with_version(ApiAnswer::new(status, body), &answer))
        }
        304 if accepts_not_modified => Ok(with_version(ApiAnswer::new(status, Vec::new()), &answer)),
        // A redirect could send the token or password to another host.
        300..=399 => Err(ClientError::Malformed { status, reason: "a redirect, which is never followed" }),
        400..=599 => {
            // The status alone is enough, so an unreadable body is ignored.
            let body = read_body(&mut answer, REFUSAL_BYTES).await.ok().flatten().unwrap_or_default();
            Err(Refusal::read(status, answer.headers(), &body, SystemTime::from(now())).into())
        }
        _ => Err(ClientError::Malformed { status, reason: "it has no valid HTTP status" }),
    }
}

/// Adds the version that the service names, if it is valid.
fn with_version(read: ApiAnswer, answer: &reqwest::Response) -> ApiAnswer {
    let version = answer.headers().get(ETAG).and_then(|value| EntityTag::parse(value.to_str().ok()?).ok());
    match version {
        Some(version) => read.with_version(version),
        None => read,
    }
}

/// Reads the body. Returns `None`, and stops reading, if it is longer than `max_bytes`.
async fn read_body(answer: &mut reqwest::Response, max_bytes: usize) -> Result<Option<Vec<u8>>, ClientError> {
    let declared = answer.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| usize::try_from(length).is_ok_and(|length| length > max_bytes)) {
        return Ok(None);
    }
    // As long as the declared length, which is within the limit here.
    let mut body = Vec::with_capacity(declared.and_then(|length| usize::try_from(length).ok()).unwrap_or_default());
    while let Some(part) = answer.chunk().await.map_err(|error| classify(&error))? {
        if body.len().saturating_add(part.len()) > max_bytes {
            return Ok(None);
        }
        body.extend_from_slice(&part);
    }
    Ok(Some(body))
}

/// Maps reqwest's error, which may contain the URL and is dropped.
fn classify(error: &reqwest::Error) -> ClientError {
    if error.is_connect() {
        ClientError::Unreachable
    } else if error.is_timeout() {
        ClientError::Timeout
    } else {
        ClientError::Lost
    }
}

/// Counts an exchange by its status, or by an error code without one.
pub(super) fn count(request: &ApiRequest, status: impl Into<SharedString>) {
    metrics::counter!(
        "auth_client_requests_total",
        "method" => method(request),
        "endpoint" => request.template,
        "status" => status.into(),
    )
    .increment(1);
}

/// Returns the label of the request's method. Other methods share one, so that their number is
/// bounded.
fn method(request: &ApiRequest) -> &'static str {
    match request.method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

/// Counts an exchange, records its duration, and writes a log line.
pub(super) fn record(request: &ApiRequest, result: &Result<ApiAnswer, ClientError>, duration: Duration) {
    let status: SharedString = match (result, result.as_ref().err().and_then(ClientError::status)) {
        (Ok(answer), _) if answer.status() == 200 => "200".into(),
        (Ok(answer), _) => answer.status().to_string().into(),
        (Err(_), Some(status)) => status.to_string().into(),
        (Err(error), None) => error.code().to_owned().into(),
    };
    count(request, status.clone());
    metrics::histogram!(
        "auth_client_request_duration_seconds",
        "method" => method(request),
        "endpoint" => request.template,
    )
    .record(duration.as_secs_f64());
    let (method, endpoint, status) = (request.method.as_str(), request.template, &*status);
    let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    match result {
        Ok(_) => tracing::debug!(method, endpoint, status, duration_ms, "auth client call"),
        Err(error) => tracing::warn!(
            method,
            endpoint,
            status,
            duration_ms,
            code = error.code(),
            request_id = error.request_id(),
            "auth client call failed"
        ),
    }
}
