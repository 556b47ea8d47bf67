//! Pushes to the gateway's own endpoints.

use std::time::Duration;

use reqwest::StatusCode;

use super::{Auth, tokens};

/// Pushes to one endpoint.
#[derive(Debug)]
pub(super) struct GatewayClient {
    http: reqwest::Client,
    url: String,
}

/// Why a push failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PushFault {
    /// The gateway did not answer.
    Unreachable,
    /// It answered this status instead of 200 or 204.
    Refused(StatusCode),
    /// No token for it can be issued.
    Token,
}

impl PushFault {
    /// Returns whether the push may be more work than the gateway does in time.
    pub(super) fn is_overload(self) -> bool {
        match self {
            Self::Unreachable => true,
            Self::Refused(status) => status.is_server_error(),
            Self::Token => false,
        }
    }

    /// Returns whether the gateway rejects the items for what they are.
    pub(super) fn is_rejection(self) -> bool {
        matches!(self, Self::Refused(StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE))
    }
}

impl std::fmt::Display for PushFault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable => formatter.write_str("the gateway does not answer; EDGE_URL says where it is"),
            Self::Refused(StatusCode::NOT_FOUND) => formatter.write_str(
                "the gateway accepts no pushes; its policy needs revocations_from for this issuer, and for API keys an issuer \
                 with api_keys that API_KEY_ISSUER names",
            ),
            Self::Refused(status) => write!(formatter, "the gateway answered {}", status.as_u16()),
            Self::Token => formatter.write_str("no token for the gateway can be signed"),
        }
    }
}

impl GatewayClient {
    /// Makes a client of an endpoint of the gateway at a base URL, with a time limit for each push.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub(super) fn new(edge_url: &str, path: &str, time: Duration) -> Result<Self, reqwest::Error> {
        let http =
            reqwest::Client::builder().timeout(time).redirect(reqwest::redirect::Policy::none()).no_proxy().build()?;
        Ok(Self { http, url: format!("{edge_url}{path}") })
    }

    /// Pushes a JSON document. `Ok` means that the gateway has stored it.
    pub(super) async fn post(&self, auth: &Auth, body: String) -> Result<(), PushFault> {
        let token = tokens::service(auth, super::SERVICE, super::GATEWAY).map_err(|_| PushFault::Token)?;
        let request =
            self.http.post(&self.url).bearer_auth(token).header("content-type", "application/json").body(body);
        let answer = request.send().await.map_err(|_| PushFault::Unreachable)?;
        match answer.status() {
            StatusCode::OK | StatusCode::NO_CONTENT => Ok(()),
            status => Err(PushFault::Refused(status)),
        }
    }
}
