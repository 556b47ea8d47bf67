//! The gate that is in use: built from the policy that was deployed with the Worker, or from
//! one that was pushed into KV, which isolates take up without a deploy. A policy that cannot
//! be used never replaces one that can.

use std::{cell::RefCell, rc::Rc};

use wasm_bindgen::JsValue;
use wasm_bindgen_futures::JsFuture;

use super::{
    console::log_error,
    js,
    ports::{KV_CACHE_S, KV_MS, millis, prefers_rust, store},
};
use crate::pipeline::{Gateway, Misconfiguration, PolicyOrigin};
use portcullis_token::UnixMillis;

/// KV keys of the newest pushed policy and of the one before it, in the namespace of the
/// key sets.
const CURRENT: &str = "policy/current";
const PREVIOUS: &str = "policy/previous";

/// Variable that lets policies be pushed: `true`.
const SWITCH: &str = "LIVE_POLICY";

/// Variable for the seconds between two looks.
const REREAD_VARIABLE: &str = "POLICY_REREAD_S";

/// Seconds between two looks of one isolate, unless set otherwise.
const REREAD_S: u64 = 30;

/// Bytes of a policy.
const POLICY_BYTES: usize = 16 * 1024 * 1024;

thread_local! {
    static HELD: RefCell<Held> =
        const { RefCell::new(Held { gate: None, ready: None, looked_at: None, is_live: None, reread_ms: None }) };
}

struct Held {
    gate: Option<Result<Rc<Gateway>, Misconfiguration>>,
    /// The built-in policy's gate, while a new isolate waits for KV's word.
    ready: Option<Result<Rc<Gateway>, Misconfiguration>>,
    /// When KV was last asked, or is being asked.
    looked_at: Option<UnixMillis>,
    /// The variables, which no isolate sees change.
    is_live: Option<bool>,
    reread_ms: Option<u64>,
}

/// The gate for an event. A new isolate looks into KV first, or its first requests would
/// be judged by what a push replaced; later ones look behind an answer.
pub(super) async fn gate(
    env: &js::Env,
    context: Option<&js::Context>,
    now: UnixMillis,
) -> Result<Rc<Gateway>, Misconfiguration> {
    let is_live = HELD.with_borrow_mut(|held| *held.is_live.get_or_insert_with(|| is_live(env)));
    if !is_live {
        return HELD
            .with_borrow_mut(|held| held.gate.get_or_insert_with(|| build(env, &js::built_in_policy())).clone());
    }
    let (known, is_due) = HELD.with_borrow_mut(|held| {
        let reread_ms = *held.reread_ms.get_or_insert_with(|| reread_ms(env));
        let is_due = held.looked_at.is_none_or(|at| now.since(at) >= reread_ms);
        if is_due {
            held.looked_at = Some(now);
        }
        (held.gate.clone(), is_due)
    });
    match (known, context) {
        (Some(known), Some(context)) => {
            if is_due {
                let env = env.clone();
                context.wait_until(&wasm_bindgen_futures::future_to_promise(async move {
                    look(&env).await;
                    Ok(JsValue::UNDEFINED)
                }));
            }
            known
        }
        (Some(known), None) if !is_due => known,
        (Some(_) | None, _) => {
            look(env).await;
            let gate = HELD.with_borrow(|held| held.gate.clone());
            gate.unwrap_or_else(|| {
                // Not looked at, as far as the next request is concerned.
                HELD.with_borrow_mut(|held| held.looked_at = None);
                Err(Misconfiguration("the policy cannot be read from KV; requests are refused until it can".to_owned()))
            })
        }
    }
}

fn is_live(env: &js::Env) -> bool {
    env.text(SWITCH).is_some_and(|value| value == "true")
}

fn reread_ms(env: &js::Env) -> u64 {
    let set = env.text(REREAD_VARIABLE).and_then(|value| value.parse::<u64>().ok());
    set.unwrap_or(REREAD_S).saturating_mul(1000)
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

/// Reads what is pushed and puts it in use, if it can be. When KV fails, what is in use
/// stays.
async fn look(env: &js::Env) {
    let Some(asked) = ask(env, CURRENT) else { return };
    // What is built in is mostly what it will be: made ready for a new isolate's first request
    // while KV is asked, which takes as long.
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
    if let Some(gate) = in_use.as_ref().filter(|gate| gate.version() == Gateway::version_of(&text)) {
        gate.set_newer_fault(None);
        return;
    }
    let fault = match ready.unwrap_or_else(|| build(env, &text)) {
        Ok(gate) => {
            gate.set_origin(origin);
            return put_in_use(Ok(gate));
        }
        Err(Misconfiguration(fault)) => fault,
    };
    log_error(&format!("policy {} ({origin:?}) is not used: {fault}", Gateway::version_of(&text)));
    // The built-in one is nobody's last word: what was pushed before is.
    let fallback = match in_use {
        Some(gate) if gate.origin() != PolicyOrigin::BuiltIn => Ok(gate),
        built_in => match older(env).await {
            Ok(Some(gate)) => Ok(gate),
            Ok(None) => built_in.map_or_else(|| build(env, &js::built_in_policy()), Ok),
            // Not known, so not guessed.
            Err(()) => return,
        },
    };
    if let Ok(gate) = &fallback {
        gate.set_newer_fault(Some(fault));
    }
    put_in_use(fallback);
}

fn put_in_use(gate: Result<Rc<Gateway>, Misconfiguration>) {
    HELD.with_borrow_mut(|held| {
        held.gate = Some(gate);
        held.ready = None;
    });
}

/// The policy that was pushed before the newest, if it can be used.
async fn older(env: &js::Env) -> Result<Option<Rc<Gateway>>, ()> {
    let gate = hear(ask(env, PREVIOUS).ok_or(())?).await?.and_then(|text| build(env, &text).ok());
    if let Some(gate) = &gate {
        gate.set_origin(PolicyOrigin::PushedBefore);
    }
    Ok(gate)
}

fn ask(env: &js::Env, key: &str) -> Option<JsFuture> {
    store(env).map(|store| js::read_store(&store, key, KV_CACHE_S, millis(KV_MS)).into())
}

async fn hear(asked: JsFuture) -> Result<Option<String>, ()> {
    let text = asked.await.map_err(|_| log_error("the policy cannot be read from KV"))?.as_string();
    // One that is too long is none that can be used, which is not the same as none.
    Ok(text.map(|text| if text.len() > POLICY_BYTES { String::new() } else { text }))
}
