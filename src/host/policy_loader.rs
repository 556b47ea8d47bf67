//! Loads the policy: the one deployed with the Worker, or one pushed into KV, which isolates use
//! without a deploy. An invalid policy never replaces a valid one.

use std::{
    cell::{OnceCell, RefCell},
    rc::Rc,
};

use wasm_bindgen::JsValue;

use super::{
    console::log_error,
    js,
    poll_promise::{self, PromisePoller},
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
    /// When the last read of KV began.
    read_at: Option<UnixMillis>,
    /// Reads that failed and for whose result requests waited.
    failures: u64,
    /// Number of the last reload that began, and of the one whose result is in use.
    last_reload: u64,
    applied_reload: u64,
}

/// Returns the gateway for an event. In a new isolate one request reads KV and the others wait for it, so
/// that none uses a replaced policy. Later reads run behind a request, which does not wait.
pub(super) async fn gateway(env: &js::Env, context: Option<&js::Context>, poller: &Rc<PromisePoller>) -> Built {
    let Some(reread_ms) = REREAD_MS.with(|known| *known.get_or_init(|| reread_ms(env))) else {
        return STATE.with_borrow_mut(|state| {
            state.in_use.get_or_insert_with(|| build(env, &js::built_in_policy(), None)).clone()
        });
    };
    let now = || UnixMillis(js::whole(poller.now()));
    let (begun, failures) = (now(), STATE.with_borrow(|state| state.failures));
    let mut pauses = 0_u32;
    loop {
        let (in_use, is_due, has_failed) = STATE.with_borrow_mut(|state| {
            let has_failed = state.failures != failures || now().abs_diff(begun) >= limits::POLICY_WAIT_MS;
            // The request that reads for a new isolate may be lost.
            let wait_ms = if state.in_use.is_some() { reread_ms } else { limits::KV_MS };
            let is_due = !has_failed && state.read_at.is_none_or(|at| now().abs_diff(at) >= wait_ms);
            if is_due {
                state.read_at = Some(now());
            }
            (state.in_use.clone(), is_due, has_failed)
        });
        match (in_use, context) {
            (Some(in_use), Some(context)) if is_due => {
                reload_behind(env.clone(), context);
                return in_use;
            }
            (Some(in_use), _) if !is_due || pauses > 0 => return in_use,
            (None, _) if has_failed => {
                let unread = "the policy cannot be read from KV; requests are refused until it can";
                return Err(Misconfiguration(unread.to_owned()));
            }
            _ if is_due => {
                if reload(env, poller).await.is_none() {
                    STATE.with_borrow_mut(|state| {
                        // The next request of a new isolate reads again.
                        state.read_at = state.read_at.filter(|_| state.in_use.is_some());
                        state.failures = state.failures.saturating_add(1);
                    });
                }
            }
            _ => {
                let pause_ms = limits::POLICY_PAUSE.delay_ms(pauses);
                let _ = poller.wait(js::sleep(number(pause_ms)), pause_ms).await;
            }
        }
        pauses = pauses.saturating_add(1);
    }
}

fn reread_ms(env: &js::Env) -> Option<u64> {
    env.text(SWITCH).filter(|value| value == "true")?;
    let set = env.text(REREAD_VARIABLE).and_then(|value| value.parse::<u64>().ok());
    let (least, most) = limits::POLICY_REREAD_RANGE_S.into_inner();
    Some(set.unwrap_or(limits::POLICY_REREAD_S).clamp(least, most).saturating_mul(1000))
}

fn build(env: &js::Env, policy: &str, before: Option<&Gateway>) -> Built {
    if prefers_rust(env) && !cfg!(feature = "rust-signatures") {
        return Err(Misconfiguration(
            "SIGNATURE_BACKEND is rust, and this worker was built without it; build it with RUST_SIGNATURES=true"
                .to_owned(),
        ));
    }
    let mut gateway = Gateway::new(policy, |name| env.text(name))?;
    gateway.check_validators(js::validator_digest)?;
    if let Some(before) = before {
        gateway.keep_proofs_of(before);
    }
    Ok(Rc::new(gateway))
}

fn reload_behind(env: js::Env, context: &js::Context) {
    let poller = Rc::new(PromisePoller::default());
    let waiting = Rc::clone(&poller);
    let work = async move {
        let _ = reload(&env, &waiting).await;
        Ok(JsValue::UNDEFINED)
    };
    // Its result is nothing, and the event is kept alive for it.
    let _ = poll_promise::run(work, poller, context);
}

/// Reads the pushed policy and uses it if it is valid. Returns `None` when KV fails: the policy in use stays.
async fn reload(env: &js::Env, poller: &PromisePoller) -> Option<()> {
    let number = STATE.with_borrow_mut(|state| {
        state.last_reload = state.last_reload.saturating_add(1);
        state.last_reload
    });
    let pushed = read_policy(env, poller, CURRENT).await?;
    let in_use = STATE.with_borrow(|state| state.in_use.clone()).and_then(Result::ok);
    let origin = if pushed.is_some() { PolicyOrigin::Pushed } else { PolicyOrigin::BuiltIn };
    let text = pushed.unwrap_or_else(js::built_in_policy);
    let version = Gateway::version_of(&text);
    let known = in_use.clone().filter(|gateway| gateway.version == version);
    let before = in_use.clone();
    let build = |text: &str| build(env, text, before.as_deref());
    let (gateway, origin, newer_fault) = match known.map_or_else(|| build(&text), Ok) {
        Ok(gateway) => (Ok(gateway), origin, None),
        Err(Misconfiguration(fault)) => {
            log_error(&format!("policy {version} ({origin:?}) is not used: {fault}"));
            // The predecessor takes precedence over the built-in policy.
            let (fallback, origin) = match in_use.map(|gateway| (gateway.origin.get(), gateway)) {
                Some((origin, gateway)) if origin != PolicyOrigin::BuiltIn => (Ok(gateway), origin),
                built_in => {
                    // On failure it is not known whether a policy was pushed.
                    let previous = read_policy(env, poller, PREVIOUS).await?;
                    match (previous.and_then(|text| build(&text).ok()), built_in) {
                        (Some(gateway), _) => (Ok(gateway), PolicyOrigin::PushedBefore),
                        (None, Some((origin, gateway))) => (Ok(gateway), origin),
                        (None, None) => (build(&js::built_in_policy()), PolicyOrigin::BuiltIn),
                    }
                }
            };
            (fallback, origin, Some(fault))
        }
    };
    put_in_use(number, gateway, origin, newer_fault);
    Some(())
}

/// Uses the result of a reload and notes the fault of a newer policy, unless a reload that began later
/// has a result: the slowest of several reads the oldest policy.
fn put_in_use(reload: u64, gateway: Built, origin: PolicyOrigin, newer_fault: Option<String>) {
    STATE.with_borrow_mut(|state| {
        if reload < state.applied_reload {
            return;
        }
        state.applied_reload = reload;
        if let Ok(gateway) = &gateway {
            gateway.origin.set(origin);
            gateway.newer_fault.replace(newer_fault);
        }
        state.in_use = Some(gateway);
    });
}

/// Reads a policy from KV; `None` when KV fails, which is logged.
async fn read_policy(env: &js::Env, poller: &PromisePoller, key: &str) -> Option<Option<String>> {
    let read = js::read_store(&env.binding(KEYS_BINDING)?, key, limits::KV_CACHE_S, number(limits::KV_MS));
    let read = poller.wait(read, limits::KV_MS).await;
    let text = read.inspect_err(|_| log_error("the policy cannot be read from KV")).ok()?.as_string();
    // A policy that is too long is invalid, not absent.
    Some(text.map(|text| if text.len() > limits::POLICY_BYTES { String::new() } else { text }))
}

#[cfg(test)]
#[path = "../../tests/wasm/policy_loader.rs"]
mod tests;
