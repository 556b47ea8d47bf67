//! A fake auth service with one session, which a second use of a refresh token ends.

use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::fake::{Asked, Fake, Reply, answer, refuse, tokens, user};

/// The result of the next refresh.
#[derive(Clone, Copy, Default)]
pub(crate) enum Next {
    #[default]
    Done,
    /// The refresh is processed, but another answer is sent.
    Lost(fn() -> Reply),
    /// The refresh is not processed.
    Undone(fn() -> Reply),
}

#[derive(Default)]
pub(crate) struct State {
    /// Number of the latest pair of tokens: `access-3`, `refresh-3`.
    pub(crate) generation: usize,
    /// Number of the oldest valid access token.
    pub(crate) oldest: usize,
    pub(crate) is_dead: bool,
    /// Whether a spent refresh token is only refused, without ending the session.
    pub(crate) is_lenient: bool,
    /// Whether refreshes fail.
    pub(crate) is_out: bool,
    pub(crate) refreshes: usize,
    pub(crate) next: Next,
    pub(crate) expires_in: u64,
}

pub(crate) struct Service {
    pub(crate) fake: Fake,
    pub(crate) state: Arc<Mutex<State>>,
}

impl Service {
    /// Starts a service whose tokens have this lifetime in seconds.
    pub(crate) async fn start(expires_in: u64) -> Self {
        let state = Arc::new(Mutex::new(State { expires_in, ..State::default() }));
        let shared = Arc::clone(&state);
        let fake = Fake::start(move |asked, _| serve(&mut shared.lock().unwrap(), asked)).await;
        Self { fake, state }
    }

    /// Expires all access tokens.
    pub(crate) fn expire(&self) {
        let mut state = self.state.lock().unwrap();
        state.oldest = state.generation + 1;
    }

    /// Sets the result of the next refresh.
    pub(crate) fn next(&self, next: Next) {
        self.state.lock().unwrap().next = next;
    }

    pub(crate) fn refreshes(&self) -> usize {
        self.state.lock().unwrap().refreshes
    }
}

fn pair(state: &State) -> Reply {
    let number = state.generation;
    answer(200, &tokens(&format!("access-{number}"), &format!("refresh-{number}"), state.expires_in))
}

fn serve(state: &mut State, asked: &Asked) -> Reply {
    let body = asked.json();
    match asked.target.as_str() {
        "/api/v1/auth/login" => {
            (state.generation, state.is_dead) = (state.generation + 1, false);
            state.oldest = state.generation;
            pair(state)
        }
        "/api/v1/auth/refresh" => {
            state.refreshes += 1;
            if state.is_out {
                return refuse(503, "unavailable");
            }
            let next = std::mem::take(&mut state.next);
            if let Next::Undone(reply) = next {
                return reply();
            }
            let is_good = body["refresh_token"] == format!("refresh-{}", state.generation);
            state.is_dead |= !is_good && !state.is_lenient;
            if state.is_dead || !is_good {
                return refuse(401, "token_revoked");
            }
            state.generation += 1;
            if let Next::Lost(reply) = next { reply() } else { pair(state) }
        }
        "/api/v1/auth/logout" if is_good(state, asked) => {
            state.is_dead = true;
            answer(200, &json!({ "message": "Logged out" }))
        }
        _ if state.is_dead => refuse(401, "token_revoked"),
        _ if !is_good(state, asked) => refuse(401, "token_expired"),
        "/api/v1/auth/me" => answer(200, &json!({ "user": user() })),
        "/api/v1/auth/password" => refuse(401, "invalid_credentials"),
        _ => answer(200, &json!({ "echo": body })),
    }
}

fn is_good(state: &State, asked: &Asked) -> bool {
    let number = asked.header("authorization").and_then(|text| text.strip_prefix("Bearer access-")?.parse().ok());
    !state.is_dead && number.is_some_and(|number: usize| (state.oldest..=state.generation).contains(&number))
}
