//! Loads the policy: the one deployed with the Worker, or one pushed into KV, which isolates use
//! without a deploy. An invalid policy never replaces a valid one.

use std::{
    cell::{OnceCell, RefCell},
    rc::Rc,
};

use wasm_bindgen::JsValue;
use wasm_bindgen_futures::JsFuture;

use super::{
    console::log_error,
    js,
    ports::{KEYS_BINDING, number, prefers_rust},
};
use crate::pipeline::{Gateway, Misconfiguration, PolicyOrigin, limits};
use portcullis_token::UnixMillis;

/// KV keys of the newest pushed policy and of its predecessor.
const CURRENT: &str = "policy/current";
const PREVIOUS: &str = "policy/previous";

/// Variable that enables pushed policies: `true`.
const SWITCH: &str = "LIVE_POLICY";

/// Variable for the seconds between two reads.
const REREAD_VARIABLE: &str = "POLICY_REREAD_S";

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
    /// Milliseconds between two reads; `None` without pushed policies. Variables do not change within an
    /// isolate.
    static REREAD_MS: OnceCell<Option<u64>> = const { OnceCell::new() };
}

type Built = Result<Rc<Gateway>, Misconfiguration>;

#[derive(Default)]
struct State {
    /// The gateway in use.
    in_use: Option<Built>,
    /// The gateway of the built-in policy, while a new isolate reads KV.
    built_in: Option<Built>,
    /// When the last read of KV began.
    read_at: Option<UnixMillis>,
    /// Number of the last reload that began, and of the one whose result is in use.
    last_reload: u64,
    applied_reload: u64,
}

/// Returns the gateway for an event. A new isolate reads KV first, so that its first requests do not
/// use a replaced policy. Later reads happen after an answer.
pub(super) async fn gateway(env: &js::Env, context: Option<&js::Context>, now: UnixMillis) -> Built {
    let Some(reread_ms) = REREAD_MS.with(|known| *known.get_or_init(|| reread_ms(env))) else {
        return STATE.with_borrow_mut(|state| state.in_use.get_or_insert_with(|| build_built_in(env)).clone());
    };
    let (in_use, is_due) = STATE.with_borrow_mut(|state| {
        let is_due = state.read_at.is_none_or(|at| now.since(at) >= reread_ms);
        if is_due {
            state.read_at = Some(now);
        }
        (state.in_use.clone(), is_due)
    });
    match (in_use, context) {
        (Some(in_use), _) if !is_due => return in_use,
        (Some(in_use), Some(context)) => {
            let env = env.clone();
            context.wait_until(&wasm_bindgen_futures::future_to_promise(async move {
                reload(&env).await;
                Ok(JsValue::UNDEFINED)
            }));
            return in_use;
        }
        (Some(_) | None, _) => reload(env).await,
    }
    STATE.with_borrow_mut(|state| {
        if state.in_use.is_none() {
            // The next request reads again.
            state.read_at = None;
        }
        let unread = "the policy cannot be read from KV; requests are refused until it can";
        state.in_use.clone().unwrap_or_else(|| Err(Misconfiguration(unread.to_owned())))
    })
}

fn reread_ms(env: &js::Env) -> Option<u64> {
    env.text(SWITCH).filter(|value| value == "true")?;
    let set = env.text(REREAD_VARIABLE).and_then(|value| value.parse::<u64>().ok());
    Some(set.unwrap_or(limits::POLICY_REREAD_S).saturating_mul(1000))
}

fn build(env: &js::Env, policy: &str) -> Built {
    if prefers_rust(env) && !cfg!(feature = "rust-signatures") {
        return Err(Misconfiguration(
            "SIGNATURE_BACKEND is rust, and this worker was built without it; build it with RUST_SIGNATURES=true"
                .to_owned(),
        ));
    }
    Gateway::new(policy, |name| env.text(name)).map(Rc::new)
}

fn build_built_in(env: &js::Env) -> Built {
    build(env, &js::built_in_policy())
}

/// Reads the pushed policy and uses it if it is valid. When KV fails, the policy in use stays.
async fn reload(env: &js::Env) {
    let number = STATE.with_borrow_mut(|state| {
        state.last_reload = state.last_reload.saturating_add(1);
        state.last_reload
    });
    // A new isolate builds the built-in policy, the most likely result, while it reads KV.
    let prepare = || {
        STATE.with_borrow_mut(|state| {
            if state.in_use.is_none() {
                state.built_in.get_or_insert_with(|| build_built_in(env));
            }
        });
    };
    let Ok(pushed) = read_policy(env, CURRENT, prepare).await else { return };
    let (in_use, built_in) = STATE.with_borrow_mut(|state| {
        let built_in = if pushed.is_none() { state.built_in.take() } else { None };
        (state.in_use.clone().and_then(Result::ok), built_in)
    });
    let origin = if pushed.is_some() { PolicyOrigin::Pushed } else { PolicyOrigin::BuiltIn };
    let text = pushed.unwrap_or_else(js::built_in_policy);
    let version = Gateway::version_of(&text);
    if let Some(gateway) = in_use.as_ref().filter(|gateway| gateway.version == version) {
        return put_in_use(number, Ok(Rc::clone(gateway)), None);
    }
    let fault = match built_in.unwrap_or_else(|| build(env, &text)) {
        Ok(gateway) => {
            gateway.origin.set(origin);
            return put_in_use(number, Ok(gateway), None);
        }
        Err(Misconfiguration(fault)) => fault,
    };
    log_error(&format!("policy {version} ({origin:?}) is not used: {fault}"));
    // The predecessor takes precedence over the built-in policy.
    let fallback = match in_use {
        Some(gateway) if gateway.origin.get() != PolicyOrigin::BuiltIn => Ok(gateway),
        built_in => {
            // On failure it is not known whether a policy was pushed.
            let Ok(previous) = read_policy(env, PREVIOUS, || {}).await else { return };
            let previous = previous.and_then(|text| build(env, &text).ok());
            previous.iter().for_each(|gateway| gateway.origin.set(PolicyOrigin::PushedBefore));
            previous.or(built_in).map_or_else(|| build_built_in(env), Ok)
        }
    };
    put_in_use(number, fallback, Some(fault));
}

/// Uses the result of a reload and notes the fault of a newer policy, unless a reload that began later
/// has a result: requests of a new isolate reload at the same time, and the slowest read the oldest policy.
fn put_in_use(reload: u64, gateway: Built, newer_fault: Option<String>) {
    STATE.with_borrow_mut(|state| {
        if reload < state.applied_reload {
            return;
        }
        state.applied_reload = reload;
        if let Ok(gateway) = &gateway {
            gateway.newer_fault.replace(newer_fault);
        }
        state.in_use = Some(gateway);
        state.built_in = None;
    });
}

/// Reads a policy from KV and calls `meanwhile` before the answer. An error is logged.
async fn read_policy(env: &js::Env, key: &str, meanwhile: impl FnOnce()) -> Result<Option<String>, ()> {
    let store = env.binding(KEYS_BINDING).ok_or(())?;
    let read = JsFuture::from(js::read_store(&store, key, limits::KV_CACHE_S, number(limits::KV_MS)));
    meanwhile();
    let text = read.await.map_err(|_| log_error("the policy cannot be read from KV"))?.as_string();
    // A policy that is too long is invalid, not absent.
    Ok(text.map(|text| if text.len() > limits::POLICY_BYTES { String::new() } else { text }))
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    #[wasm_bindgen_test]
    fn a_slow_reload_does_not_replace_the_result_of_a_later_one() {
        for (reload, fault) in [(2, "second"), (1, "first")] {
            put_in_use(reload, Err(Misconfiguration(fault.to_owned())), None);
        }
        let in_use = STATE.with_borrow(|state| state.in_use.clone());
        assert_eq!(in_use.and_then(Result::err), Some(Misconfiguration("second".to_owned())));
    }
}
