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
    static HELD: RefCell<Held> = RefCell::default();
    /// Milliseconds between two reads; `None` without pushed policies. Variables do not change within an
    /// isolate.
    static REREAD_MS: OnceCell<Option<u64>> = const { OnceCell::new() };
}

#[derive(Default)]
struct Held {
    gate: Option<Result<Rc<Gateway>, Misconfiguration>>,
    /// The gateway of the built-in policy, while a new isolate reads KV.
    ready: Option<Result<Rc<Gateway>, Misconfiguration>>,
    /// When the last read of KV began.
    looked_at: Option<UnixMillis>,
}

/// Returns the gateway for an event. A new isolate reads KV first, so that its first requests do not
/// use a replaced policy. Later reads happen after an answer.
pub(super) async fn gate(
    env: &js::Env,
    context: Option<&js::Context>,
    now: UnixMillis,
) -> Result<Rc<Gateway>, Misconfiguration> {
    let Some(reread_ms) = REREAD_MS.with(|known| *known.get_or_init(|| reread_ms(env))) else {
        return HELD
            .with_borrow_mut(|held| held.gate.get_or_insert_with(|| build(env, &js::built_in_policy())).clone());
    };
    let (known, is_due) = HELD.with_borrow_mut(|held| {
        let is_due = held.looked_at.is_none_or(|at| now.since(at) >= reread_ms);
        if is_due {
            held.looked_at = Some(now);
        }
        (held.gate.clone(), is_due)
    });
    match (known, context) {
        (Some(known), _) if !is_due => known,
        (Some(known), Some(context)) => {
            let env = env.clone();
            context.wait_until(&wasm_bindgen_futures::future_to_promise(async move {
                look(&env).await;
                Ok(JsValue::UNDEFINED)
            }));
            known
        }
        (Some(_) | None, _) => {
            look(env).await;
            let gate = HELD.with_borrow(|held| held.gate.clone());
            gate.unwrap_or_else(|| {
                // The next request reads again.
                HELD.with_borrow_mut(|held| held.looked_at = None);
                Err(Misconfiguration("the policy cannot be read from KV; requests are refused until it can".to_owned()))
            })
        }
    }
}

fn reread_ms(env: &js::Env) -> Option<u64> {
    env.text(SWITCH).filter(|value| value == "true")?;
    let set = env.text(REREAD_VARIABLE).and_then(|value| value.parse::<u64>().ok());
    Some(set.unwrap_or(limits::POLICY_REREAD_S).saturating_mul(1000))
}

fn build(env: &js::Env, policy: &str) -> Result<Rc<Gateway>, Misconfiguration> {
    if prefers_rust(env) && !cfg!(feature = "rust-signatures") {
        return Err(Misconfiguration(
            "SIGNATURE_BACKEND is rust, and this worker was built without it; build it with RUST_SIGNATURES=true"
                .to_owned(),
        ));
    }
    Gateway::new(policy, |name| env.text(name)).map(Rc::new)
}

/// Reads the pushed policy and uses it if it is valid. When KV fails, the policy in use stays.
async fn look(env: &js::Env) {
    let Some(asked) = ask(env, CURRENT) else { return };
    // A new isolate prepares the built-in policy, the most likely result, while it reads KV.
    HELD.with_borrow_mut(|held| {
        if held.gate.is_none() {
            held.ready.get_or_insert_with(|| build(env, &js::built_in_policy()));
        }
    });
    let Ok(pushed) = hear(asked).await else { return };
    let ready = pushed.is_none().then(|| HELD.with_borrow_mut(|held| held.ready.take())).flatten();
    let in_use = HELD.with_borrow(|held| held.gate.clone()).and_then(Result::ok);
    let origin = if pushed.is_some() { PolicyOrigin::Pushed } else { PolicyOrigin::BuiltIn };
    let text = pushed.unwrap_or_else(js::built_in_policy);
    if let Some(gate) = in_use.as_ref().filter(|gate| gate.version == Gateway::version_of(&text)) {
        gate.newer_fault.take();
        return;
    }
    let fault = match ready.unwrap_or_else(|| build(env, &text)) {
        Ok(gate) => {
            gate.origin.set(origin);
            return put_in_use(Ok(gate));
        }
        Err(Misconfiguration(fault)) => fault,
    };
    log_error(&format!("policy {} ({origin:?}) is not used: {fault}", Gateway::version_of(&text)));
    // The predecessor takes precedence over the built-in policy.
    let fallback = match in_use {
        Some(gate) if gate.origin.get() != PolicyOrigin::BuiltIn => Ok(gate),
        built_in => match older(env).await {
            Ok(Some(gate)) => Ok(gate),
            Ok(None) => built_in.map_or_else(|| build(env, &js::built_in_policy()), Ok),
            // Whether a policy was pushed is not known.
            Err(()) => return,
        },
    };
    if let Ok(gate) = &fallback {
        gate.newer_fault.replace(Some(fault));
    }
    put_in_use(fallback);
}

fn put_in_use(gate: Result<Rc<Gateway>, Misconfiguration>) {
    HELD.with_borrow_mut(|held| {
        held.gate = Some(gate);
        held.ready = None;
    });
}

/// Returns the predecessor of the newest pushed policy, if it is valid.
async fn older(env: &js::Env) -> Result<Option<Rc<Gateway>>, ()> {
    let gate = hear(ask(env, PREVIOUS).ok_or(())?).await?.and_then(|text| build(env, &text).ok());
    if let Some(gate) = &gate {
        gate.origin.set(PolicyOrigin::PushedBefore);
    }
    Ok(gate)
}

fn ask(env: &js::Env, key: &str) -> Option<JsFuture> {
    let store = env.binding(KEYS_BINDING)?;
    Some(js::read_store(&store, key, limits::KV_CACHE_S, number(limits::KV_MS)).into())
}

async fn hear(asked: JsFuture) -> Result<Option<String>, ()> {
    let text = asked.await.map_err(|_| log_error("the policy cannot be read from KV"))?.as_string();
    // A policy that is too long is invalid, not absent.
    Ok(text.map(|text| if text.len() > limits::POLICY_BYTES { String::new() } else { text }))
}
