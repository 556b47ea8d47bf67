//! Answers of the gateway's own.

use serde::Serialize;
use serde_json::Value;

use super::{denial::Denial, findings::Finding, limits, log::to_json};
use portcullis_policy::Refusal;
use portcullis_token::{EventError, EventForm, object};

/// Status, headers and body of an answer of the gateway's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// All headers.
    pub headers: Vec<(&'static str, String)>,
    /// JSON, HTML or Prometheus text.
    pub body: String,
}

/// A problem document. `error` repeats `detail` for clients that do not know RFC 9457.
#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    family: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    error: &'a str,
    code: &'a str,
    operation: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "<[Finding]>::is_empty")]
    errors: &'a [Finding],
}

impl Answer {
    /// A JSON document that no cache may store, with `Retry-After` when `status` is 503.
    pub(super) fn json(status: u16, request_id: &str, document: &Value) -> Self {
        let mut answer = Self::build(status, "application/json", request_id, document.to_string());
        if status == 503 {
            answer.headers.push(("retry-after", limits::UPSTREAM_RETRY_S.to_string()));
        }
        answer
    }

    /// The problem document of a denial (RFC 9457). `operation` is the route's pattern, never the
    /// path that the client sent.
    pub(super) fn problem(denial: &Denial, operation: &str, request_id: &str) -> Self {
        let (family, title) = denial.family_and_title();
        let (status, code, detail) = (denial.status(), denial.code(), denial.detail());
        let errors = denial.findings();
        let document = Problem { family, title, status, detail, error: detail, code, operation, request_id, errors };
        Self::refusal(denial, "application/problem+json", request_id, to_json(&document))
    }

    /// The same as a page for a person: what happened, what to do next, and the id by which an
    /// operator finds the request.
    pub fn page(denial: &Denial, request_id: &str) -> Self {
        let (status, (_, title), code) = (denial.status(), denial.family_and_title(), denial.code());
        let (detail, next) = (escape(denial.detail()), next_step(status, denial.retry_after_s()));
        let body = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<title>{status} {title}</title>\n\
             <style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n<p>{detail}.</p>\n<p>{next}</p>\n\
             <p><small>{status} {code}, request {}</small></p>\n</main>\n</body>\n</html>\n",
            escape(request_id)
        );
        let mut answer = Self::refusal(denial, "text/html; charset=utf-8", request_id, body);
        answer.headers.push(("content-security-policy", PAGE_POLICY.to_owned()));
        answer
    }

    /// The refusal of a security event, for the program that sent it: with the members of OpenID Connect Back-Channel
    /// Logout 1.0 (section 2.8) or RFC 8935 (section 2.3).
    pub(super) fn event_refusal(denial: &Denial, (form, error): (EventForm, EventError), request_id: &str) -> Self {
        let (code, text) = (error.code(), error.text());
        let [error, reason] = match form {
            EventForm::Logout => [("error", "invalid_request"), ("error_description", text)],
            EventForm::SecurityEvent => [("err", error.delivery_error()), ("description", text)],
        };
        let members = [error, reason, ("code", code), ("request_id", request_id)];
        let document = object(members.map(|(name, text)| (name, text.into())));
        let mut answer = Self::refusal(denial, "application/json", request_id, document.to_string());
        answer.headers.push(("content-language", "en".to_owned()));
        answer
    }

    /// An answer without a body.
    pub(super) fn empty(status: u16, request_id: &str) -> Self {
        let mut answer = Self::build(status, "", request_id, String::new());
        answer.headers.retain(|(name, _)| *name != "content-type");
        answer
    }

    pub(super) fn refusal(denial: &Denial, content_type: &str, request_id: &str, body: String) -> Self {
        let mut answer = Self::build(denial.status(), content_type, request_id, body);
        answer.headers.extend(denial.challenge().map(|challenge| ("www-authenticate", challenge)));
        answer.headers.extend(denial.retry_after_s().map(|seconds| ("retry-after", seconds.to_string())));
        if let Denial::Policy(Refusal::MethodNotAllowed { allow }) = denial {
            answer.headers.push(("allow", allow.clone()));
        }
        answer
    }

    /// An answer that no cache may store.
    pub(super) fn build(status: u16, content_type: &str, request_id: &str, body: String) -> Self {
        let headers = vec![
            ("content-type", content_type.to_owned()),
            ("cache-control", "no-store".to_owned()),
            ("x-content-type-options", "nosniff".to_owned()),
            ("x-request-id", request_id.to_owned()),
        ];
        Self { status, headers, body }
    }
}

/// The page's style. A change of one byte needs another digest in [`PAGE_POLICY`].
const STYLE: &str = include_str!("page.css");

/// Nothing is loaded, run, sent or framed, and no style applies but [`STYLE`].
const PAGE_POLICY: &str = "default-src 'none'; style-src 'sha256-Qww7Rlvsb1YNbAY3PasrM+Sgkogfqz2VUEFOpJmavvM='; \
                           base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Returns what a person can do. The empty link is the page itself.
fn next_step(status: u16, retry_s: Option<u64>) -> String {
    const AGAIN: &str = "<a href=\"\">try again</a>. If that does not help, tell the operator of this site the \
                         request id below.";
    match (status, retry_s) {
        (401, _) => "Log in, then open this page again.".to_owned(),
        (403, _) => "If you need access, ask the operator of this site.".to_owned(),
        (404 | 405, _) => "Check the address, or go back to the page that you came from.".to_owned(),
        (_, Some(1)) => format!("Wait a second, then {AGAIN}"),
        (_, Some(seconds)) => format!("Wait {seconds} seconds, then {AGAIN}"),
        (_, None) => "Go back to the page that you came from, and try again.".to_owned(),
    }
}

/// Escapes text for a page, although only the gateway's own text goes there.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
