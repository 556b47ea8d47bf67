//! One call of the gateway's API and its answer, as bytes that can be sent again. The template of
//! the route is the only part of the path that logs and metrics contain.

use std::{fmt, time::Duration};

use bytes::Bytes;
pub use reqwest::Method;
use reqwest::header::{self, HeaderName, HeaderValue};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use uuid::Uuid;

use crate::{error::ClientError, precondition::EntityTag, secret::Secret};

/// Bytes of a path with its query. The gateway accepts at most 16 KB per header line.
const PATH_BYTES: usize = 8 * 1024;

/// Headers that a call may set.
const HEADERS: usize = 16;

/// Bytes of the value of such a header. All together stay within the limits of servers.
const HEADER_BYTES: usize = 1024;

/// Headers that other methods, HTTP itself or the client's settings decide. Duplicates would allow
/// request smuggling (RFC 9112, section 11.2).
const RESERVED: [HeaderName; 17] = [
    header::ACCEPT,
    header::AUTHORIZATION,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::EXPECT,
    header::HOST,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::USER_AGENT,
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("traceparent"),
];

/// Why an answer is malformed whose body has other members than the contract's.
const UNEXPECTED_JSON: &str = "not the JSON that was expected";

/// When a failed call may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Always: the call is idempotent.
    Always,
    /// Only if the failed call was not sent.
    IfUnsent,
}

/// A call: method, path, query, headers, JSON body. It is sent to the client's base URL only. Cloning
/// is cheap.
#[derive(Clone)]
pub struct ApiRequest {
    pub(crate) method: Method,
    pub(crate) template: &'static str,
    /// The rest of the template, after the filled segments.
    rest: &'static str,
    path: String,
    query: String,
    pub(crate) body: Option<Bytes>,
    pub(crate) token: Option<Secret>,
    pub(crate) idempotency_key: Option<Uuid>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) repeat: Repeat,
    /// Time for the call, retries included, instead of the client's.
    pub(crate) time: Option<Duration>,
    /// Name and secret of a client (RFC 6749, section 2.3.1), instead of a token.
    pub(crate) basic: Option<(String, Secret)>,
    pub(crate) content_type: &'static str,
    fault: Option<&'static str>,
}

impl fmt::Debug for ApiRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ApiRequest")
            .field("method", &self.method)
            .field("template", &self.template)
            .finish_non_exhaustive()
    }
}

impl ApiRequest {
    /// Returns a call of a route, such as `/api/v1/users/{id}`. [`ApiRequest::with_segment`] fills each
    /// `{…}` in order.
    ///
    /// GET, HEAD, OPTIONS and PUT may be sent again (RFC 9110, section 9.2.2). DELETE may not: if the
    /// answer to the first was lost, the second would be answered 404.
    pub fn new(method: Method, template: &'static str) -> Self {
        let repeats = [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT].contains(&method);
        Self {
            method,
            template,
            rest: template,
            path: String::new(),
            query: String::new(),
            body: None,
            token: None,
            idempotency_key: None,
            headers: Vec::new(),
            repeat: if repeats { Repeat::Always } else { Repeat::IfUnsent },
            time: None,
            basic: None,
            content_type: "application/json",
            fault: if template.starts_with('/') { None } else { Some("a route starts with a slash") },
        }
    }

    /// Fills the next `{…}` of the template with the encoded text.
    #[must_use]
    pub fn with_segment(mut self, segment: &str) -> Self {
        let Some((before, (_, after))) =
            self.rest.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
        else {
            self.fault = Some("the route has fewer parameters");
            return self;
        };
        // URLs resolve them to another route (RFC 3986, section 5.2.4).
        if matches!(segment, "" | "." | "..") {
            self.fault = Some("a parameter of the path is empty or dots");
        }
        self.path.push_str(before);
        encode(segment, &mut self.path);
        self.rest = after;
        self
    }

    /// Adds an encoded query parameter.
    #[must_use]
    pub fn with_query(mut self, name: &str, value: &str) -> Self {
        self.query.push(if self.query.is_empty() { '?' } else { '&' });
        encode(name, &mut self.query);
        self.query.push('=');
        encode(value, &mut self.query);
        self
    }

    /// Sets a JSON body.
    #[must_use]
    pub fn with_json<T: Serialize + ?Sized>(mut self, body: &T) -> Self {
        match serde_json::to_vec(body) {
            Ok(bytes) => self.body = Some(bytes.into()),
            Err(_) => self.fault = Some("the body cannot be written as JSON"),
        }
        self
    }

    /// Sets a body of form parameters, which must not need encoding.
    pub(crate) fn with_form(mut self, form: String) -> Self {
        self.body = Some(form.into());
        self.content_type = "application/x-www-form-urlencoded";
        self
    }

    /// Sets the name and the secret of a client.
    pub(crate) fn with_basic(mut self, name: &str, secret: &Secret) -> Self {
        self.basic = Some((name.to_owned(), secret.clone()));
        self
    }

    /// Sets `If-Match` as received from another client: a list of tags, or `*`.
    pub(crate) fn with_condition(mut self, if_match: Option<&str>) -> Self {
        match if_match.map(HeaderValue::from_str) {
            Some(Ok(value)) => self.headers.push((header::IF_MATCH, value)),
            Some(Err(_)) => self.fault = Some("a header holds what no header may"),
            None => {}
        }
        self
    }

    /// Sets the time for the call, retries included, instead of the client's.
    #[must_use]
    pub const fn with_timeout(mut self, time: Duration) -> Self {
        self.time = Some(time);
        self
    }

    /// Sets the access token.
    #[must_use]
    pub fn with_token(mut self, access_token: &Secret) -> Self {
        self.token = Some(access_token.clone());
        self
    }

    /// Sets an `Idempotency-Key`, for routes that support it: a repeated call receives the answer to
    /// the first.
    #[must_use]
    pub fn with_idempotency_key(mut self, key: Uuid) -> Self {
        self.idempotency_key = Some(key);
        self.repeat = Repeat::Always;
        self
    }

    /// Applies the change to this version only: if the resource has another, the answer is 412 and
    /// nothing is changed.
    ///
    /// The call is not sent again once it was sent: if the first was processed, the second would
    /// conflict with it.
    #[must_use]
    pub fn with_if_match(mut self, version: &EntityTag) -> Self {
        if version.is_weak() {
            self.fault = Some("a weak entity tag names no version that can be changed");
        }
        self.repeat = Repeat::IfUnsent;
        self.put_header(header::IF_MATCH, version.as_str())
    }

    /// Requests the resource unless it has this version: then the answer is 304 without a body
    /// ([`ApiAnswer::is_not_modified`]).
    #[must_use]
    pub fn with_if_none_match(self, version: &EntityTag) -> Self {
        self.put_header(header::IF_NONE_MATCH, version.as_str())
    }

    /// Sets a header, such as `Accept-Language`, and replaces one of that name. A header that other
    /// methods, the client's settings or HTTP itself set makes the call invalid.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: &str) -> Self {
        match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) if !RESERVED.contains(&name) => self.put_header(name, value),
            Ok(_) => {
                self.fault = Some("a header that is not the call's to set");
                self
            }
            Err(_) => {
                self.fault = Some("not a header's name");
                self
            }
        }
    }

    fn put_header(mut self, name: HeaderName, value: &str) -> Self {
        match HeaderValue::from_str(value) {
            Ok(mut value) if value.len() <= HEADER_BYTES => {
                // A caller may put a secret there.
                value.set_sensitive(true);
                self.headers.retain(|(set, _)| *set != name);
                self.headers.push((name, value));
                if self.headers.len() > HEADERS {
                    self.fault = Some("too many headers");
                }
            }
            Ok(_) => self.fault = Some("a header is too long"),
            Err(_) => self.fault = Some("a header holds what no header may"),
        }
        self
    }

    /// Sets when the call may be sent again, instead of the method's default.
    #[must_use]
    pub fn with_repeat(mut self, repeat: Repeat) -> Self {
        self.repeat = repeat;
        self
    }

    /// Returns the method.
    pub const fn method(&self) -> &Method {
        &self.method
    }

    /// Returns the template of the route.
    pub const fn template(&self) -> &'static str {
        self.template
    }

    /// Returns path and query as they are sent.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] if the call cannot be sent.
    pub fn target(&self) -> Result<String, ClientError> {
        if let Some(fault) = self.fault {
            return Err(ClientError::Invalid(fault));
        }
        if self.rest.contains('{') {
            return Err(ClientError::Invalid("a parameter of the path is missing"));
        }
        let target = format!("{}{}{}", self.path, self.rest, self.query);
        if target.len() > PATH_BYTES { Err(ClientError::Invalid("the path is too long")) } else { Ok(target) }
    }

    /// Returns the body, which may contain a password; for fakes in tests.
    pub fn body(&self) -> &[u8] {
        self.body.as_deref().unwrap_or_default()
    }

    /// Returns the token, for fakes in tests.
    pub const fn token(&self) -> Option<&Secret> {
        self.token.as_ref()
    }

    /// Returns a header that [`ApiRequest::with_header`] or a condition set.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(set, _)| set.as_str().eq_ignore_ascii_case(name))?.1.to_str().ok()
    }

    /// Returns the `Idempotency-Key`.
    pub const fn idempotency_key(&self) -> Option<Uuid> {
        self.idempotency_key
    }
}

/// Percent-encodes all but RFC 3986's unreserved characters.
fn encode(text: &str, into: &mut String) {
    const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or_default();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

/// A successful answer.
#[derive(Clone)]
pub struct ApiAnswer {
    status: u16,
    version: Option<EntityTag>,
    body: Bytes,
}

impl fmt::Debug for ApiAnswer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ApiAnswer").field("status", &self.status).finish_non_exhaustive()
    }
}

impl ApiAnswer {
    /// Returns an answer with a status from 200 to 299, or 304.
    pub fn new(status: u16, body: impl Into<Bytes>) -> Self {
        Self { status, version: None, body: body.into() }
    }

    /// Sets the version of the content.
    #[must_use]
    pub fn with_version(mut self, version: EntityTag) -> Self {
        self.version = Some(version);
        self
    }

    /// Returns the version of the content: its `ETag`.
    pub const fn version(&self) -> Option<&EntityTag> {
        self.version.as_ref()
    }

    /// Whether the known version is current: 304, after [`ApiRequest::with_if_none_match`].
    pub const fn is_not_modified(&self) -> bool {
        self.status == 304
    }

    /// Returns the status.
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// Returns the body, at most a megabyte.
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// Parses the body as JSON.
    ///
    /// # Errors
    /// [`ClientError::Malformed`]
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        // serde's error may quote the body, which may contain a token.
        serde_json::from_slice(&self.body).map_err(|_| self.unexpected())
    }

    /// Parses one member of the body.
    ///
    /// # Errors
    /// [`ClientError::Malformed`]
    pub(crate) fn member<T: DeserializeOwned>(&self, name: &str) -> Result<T, ClientError> {
        let mut document: Value = self.json()?;
        let value = document.get_mut(name).map(Value::take);
        value.and_then(|value| serde_json::from_value(value).ok()).ok_or_else(|| self.unexpected())
    }

    /// Returns the error of a body of another form.
    pub(crate) fn unexpected(&self) -> ClientError {
        ClientError::Malformed { status: self.status, reason: UNEXPECTED_JSON }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// JSON has no such keys.
    type Pairs = std::collections::HashMap<[u8; 1], u8>;

    #[test]
    fn parameters_are_encoded_and_cannot_name_another_route() {
        let route = || ApiRequest::new(Method::GET, "/api/v1/users/{id}/roles/{role_id}");
        let target = |request: ApiRequest| request.target().map_err(|error| error.to_string());
        for (request, expected) in [
            (route().with_segment("7").with_segment("8"), Ok("/api/v1/users/7/roles/8")),
            (route().with_segment("a/../b").with_segment("ä?#"), Ok("/api/v1/users/a%2F..%2Fb/roles/%C3%A4%3F%23")),
            (route().with_segment("7"), Err("missing")),
            (route().with_segment("7").with_segment("8").with_segment("9"), Err("fewer")),
            (route().with_segment("..").with_segment("8"), Err("dots")),
            (route().with_segment("").with_segment("8"), Err("empty")),
            (ApiRequest::new(Method::GET, "users"), Err("slash")),
            (ApiRequest::new(Method::PUT, "/u").with_json(&[([1], 2)].into_iter().collect::<Pairs>()), Err("JSON")),
            (
                ApiRequest::new(Method::GET, "/u").with_query("limit", "1").with_query("q", "a&b=c d"),
                Ok("/u?limit=1&q=a%26b%3Dc%20d"),
            ),
            (ApiRequest::new(Method::GET, "/u").with_query("q", &"x".repeat(9000)), Err("too long")),
        ] {
            match (target(request), expected) {
                (Ok(target), Ok(expected)) => assert_eq!(target, expected),
                (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
                (found, expected) => panic!("{found:?} instead of {expected:?}"),
            }
        }
    }

    #[test]
    fn a_call_has_headers_of_its_own_and_none_of_anothers() {
        let get = || ApiRequest::new(Method::GET, "/x");
        let tag = |text| EntityTag::parse(text).unwrap();
        for (request, name, expected) in [
            (get().with_header("accept-language", "de"), "Accept-Language", Ok(Some("de"))),
            (get().with_header("x-a", "1").with_header("X-A", "2"), "x-a", Ok(Some("2"))),
            (get(), "x-a", Ok(None)),
            (get().with_if_match(&tag("\"7\"")), "if-match", Ok(Some("\"7\""))),
            (get().with_if_match(&tag("W/\"7\"")), "", Err("weak")),
            (get().with_if_none_match(&tag("W/\"7\"")), "if-none-match", Ok(Some("W/\"7\""))),
            (get().with_header("authorization", "Basic eDp5"), "", Err("not the call's")),
            (get().with_header("Host", "elsewhere"), "", Err("not the call's")),
            (get().with_header("transfer-encoding", "chunked"), "", Err("not the call's")),
            (get().with_header("if-match", "*"), "", Err("not the call's")),
            (get().with_header("x a", "1"), "", Err("not a header's name")),
            (get().with_header("x-a", "1\r\nx-b: 2"), "", Err("no header may")),
            (get().with_header("x-a", &"1".repeat(1025)), "", Err("too long")),
        ] {
            match (request.target(), expected) {
                (Ok(_), Ok(expected)) => assert_eq!(request.header(name), expected),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (found, expected) => panic!("{found:?} instead of {expected:?}"),
            }
        }
        let many = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q"];
        let with = |count| many.iter().take(count).fold(get(), |request, name| request.with_header(name, "1"));
        assert!(with(16).target().is_ok() && with(17).target().is_err());
    }

    #[test]
    fn a_conditional_change_is_not_sent_again_once_it_was_sent() {
        let put = ApiRequest::new(Method::PUT, "/x");
        assert_eq!(put.repeat, Repeat::Always);
        assert_eq!(put.with_if_match(&EntityTag::parse("\"7\"").unwrap()).repeat, Repeat::IfUnsent);
    }

    #[test]
    fn a_call_prints_its_route_and_nothing_of_its_path_body_or_token() {
        let request = ApiRequest::new(Method::POST, "/u/{id}")
            .with_segment("parameter")
            .with_query("q", "searched")
            .with_json("password")
            .with_header("x-key", "header-value")
            .with_token(&Secret::new("token".into()));
        let printed = format!("{request:?} {:?}", ApiAnswer::new(200, "password"));
        for hidden in ["parameter", "searched", "password", "header-value", "token\""] {
            assert!(!printed.contains(hidden), "{printed}");
        }
    }
}
