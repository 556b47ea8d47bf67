//! A fake service for tests of programs that use [`AuthClient`]: answers from a table and records the
//! called routes. Compiled with the feature `mock`.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use serde_json::Value;

use crate::{
    account::AuthClient,
    error::{ClientError, Refusal},
    request::{ApiAnswer, ApiRequest, Method},
};

type Route = (Method, &'static str);
type Answer = Box<dyn FnMut(&ApiRequest) -> Result<ApiAnswer, ClientError> + Send>;

/// An [`AuthClient`] without a service.
///
/// ```
/// # use portcullis_client::{account::{AuthClient, Credentials}, error::ErrorKind, mock::MockAuthClient, request::Method, secret::Secret};
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let auth = MockAuthClient::default().refuse(Method::POST, "/api/v1/auth/login", 401, "invalid_credentials");
///
/// let credentials = Credentials::new("ada@example.com", Secret::new("wrong".to_owned()));
/// let error = auth.login(&credentials).await.unwrap_err();
///
/// assert_eq!(error.kind(), ErrorKind::Unauthenticated);
/// assert_eq!(auth.calls(), [(Method::POST, "/api/v1/auth/login")]);
/// # });
/// ```
#[derive(Default)]
pub struct MockAuthClient {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    answers: HashMap<Route, VecDeque<Answer>>,
    calls: Vec<Route>,
}

impl fmt::Debug for MockAuthClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("MockAuthClient").field("calls", &self.calls()).finish_non_exhaustive()
    }
}

impl MockAuthClient {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a route by a function. Each of several answers serves one call, and the last one all that
    /// follow. A route without an answer is 404.
    #[must_use]
    pub fn on(
        self,
        method: Method,
        template: &'static str,
        answer: impl FnMut(&ApiRequest) -> Result<ApiAnswer, ClientError> + Send + 'static,
    ) -> Self {
        self.state().answers.entry((method, template)).or_default().push_back(Box::new(answer));
        self
    }

    /// Answers a route with JSON.
    #[must_use]
    pub fn answer(self, method: Method, template: &'static str, status: u16, body: &Value) -> Self {
        let body = body.to_string();
        self.on(method, template, move |_| Ok(ApiAnswer::new(status, body.clone())))
    }

    /// Answers a route with a refusal.
    #[must_use]
    pub fn refuse(self, method: Method, template: &'static str, status: u16, code: &str) -> Self {
        self.fail(method, template, Refusal::new(status, code).into())
    }

    /// Answers a route with an error.
    #[must_use]
    pub fn fail(self, method: Method, template: &'static str, error: ClientError) -> Self {
        self.on(method, template, move |_| Err(error.clone()))
    }

    /// Returns the called routes, in order.
    pub fn calls(&self) -> Vec<(Method, &'static str)> {
        self.state().calls.clone()
    }
}

#[async_trait]
impl AuthClient for MockAuthClient {
    async fn exchange(&self, request: ApiRequest) -> Result<ApiAnswer, ClientError> {
        let target = request.target();
        let route = (request.method().clone(), request.template());
        let mut state = self.state();
        state.calls.push(route.clone());
        target?;
        let unknown = || ClientError::from(Refusal::new(404, "route_unknown"));
        let answers = state.answers.get_mut(&route).ok_or_else(unknown)?;
        if answers.len() > 1 {
            return answers.pop_front().map_or_else(|| Err(unknown()), |mut answer| answer(&request));
        }
        answers.front_mut().map_or_else(|| Err(unknown()), |answer| answer(&request))
    }
}
