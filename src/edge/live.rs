//! The gate that is in use: built from the compiled policy, or from one that was pushed
//! into KV, which isolates take up without a deploy. A policy that cannot be used never
//! replaces one that can.

use std::{cell::RefCell, rc::Rc};

use wasm_bindgen::JsValue;

use super::{
    js,
    world::{complain, prefers_rust},
};
use crate::{
    gate::{Gate, Misconfiguration, PolicyOrigin},
    token::UnixMillis,
};

/// The compiled policy; the build wrote it.
const BUILT_IN: &str = include_str!(concat!(env!("OUT_DIR"), "/policy.json"));

/// KV keys of the newest pushed policy and of the one before it, in the namespace of the
/// key sets.
const CURRENT: &str = "policy/current";
const PREVIOUS: &str = "policy/previous";
const BINDING: &str = "KEYS";

/// Variable that lets policies be pushed: `true`.
const SWITCH: &str = "LIVE_POLICY";

/// Variable for the seconds between two looks.
const REREAD_VARIABLE: &str = "POLICY_REREAD_S";

/// Seconds between two looks of one isolate, unless set otherwise.
const REREAD_S: u64 = 30;

/// Seconds for which a location may keep what KV said.
const KV_CACHE_S: u64 = 60;

/// Bytes of a policy.
const POLICY_BYTES: usize = 16 * 1024 * 1024;

thread_local! {
    static HELD: RefCell<Held> =
        const { RefCell::new(Held { gate: None, looked_at: None, is_live: None, reread_ms: None }) };
}

struct Held {
    gate: Option<Result<Rc<Gate>, Misconfiguration>>,
    /// When KV was last asked, or is being asked.
    looked_at: Option<UnixMillis>,
    /// The variables, which no isolate sees change.
    is_live: Option<bool>,
    reread_ms: Option<u64>,
}

/// The gate for an event. A new isolate looks into KV first, or its first requests would
/// be judged by what a push replaced; later ones look behind an answer.
pub(super) async fn gate(
    env: &worker::Env,
    context: Option<&js::Context>,
    now: UnixMillis,
) -> Result<Rc<Gate>, Misconfiguration> {
    let is_live = HELD.with_borrow_mut(|held| *held.is_live.get_or_insert_with(|| is_live(env)));
    if !is_live {
        return HELD.with_borrow_mut(|held| held.gate.get_or_insert_with(|| build(env, BUILT_IN)).clone());
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

fn is_live(env: &worker::Env) -> bool {
    env.var(SWITCH).is_ok_and(|value| value.to_string() == "true")
}

fn reread_ms(env: &worker::Env) -> u64 {
    let set = env.var(REREAD_VARIABLE).ok().and_then(|value| value.to_string().parse::<u64>().ok());
    set.unwrap_or(REREAD_S).saturating_mul(1000)
}

fn build(env: &worker::Env, policy: &str) -> Result<Rc<Gate>, Misconfiguration> {
    if prefers_rust(env) && !cfg!(feature = "rust-signatures") {
        return Err(Misconfiguration(
            "SIGNATURE_BACKEND is rust, and this worker was built without it; build it with RUST_SIGNATURES=true"
                .to_owned(),
        ));
    }
    Gate::new(policy, |name| env.var(name).ok().map(|value| value.to_string())).map(Rc::new)
}

/// Reads what is pushed and puts it in use, if it can be. When KV fails, what is in use
/// stays.
async fn look(env: &worker::Env) {
    let Ok(pushed) = read(env, CURRENT).await else { return };
    let in_use = HELD.with_borrow(|held| held.gate.clone()).and_then(Result::ok);
    let version = Gate::version_of(pushed.as_deref().unwrap_or(BUILT_IN));
    if let Some(gate) = in_use.as_ref().filter(|gate| gate.version() == version) {
        gate.newer_is_bad(None);
        return;
    }
    let origin = if pushed.is_some() { PolicyOrigin::Pushed } else { PolicyOrigin::BuiltIn };
    let fault = match build(env, pushed.as_deref().unwrap_or(BUILT_IN)) {
        Ok(gate) => {
            gate.came_from(origin);
            return HELD.with_borrow_mut(|held| held.gate = Some(Ok(gate)));
        }
        Err(Misconfiguration(fault)) => fault,
    };
    complain(&format!("policy {version} ({origin:?}) is not used: {fault}"));
    // The built-in one is nobody's last word: what was pushed before is.
    let fallback = match in_use {
        Some(gate) if gate.origin() != PolicyOrigin::BuiltIn => Ok(gate),
        built_in => match older(env).await {
            Ok(Some(gate)) => Ok(gate),
            Ok(None) => built_in.map_or_else(|| build(env, BUILT_IN), Ok),
            // Not known, so not guessed.
            Err(()) => return,
        },
    };
    if let Ok(gate) = &fallback {
        gate.newer_is_bad(Some(fault));
    }
    HELD.with_borrow_mut(|held| held.gate = Some(fallback));
}

/// The policy that was pushed before the newest, if it can be used.
async fn older(env: &worker::Env) -> Result<Option<Rc<Gate>>, ()> {
    let gate = read(env, PREVIOUS).await?.and_then(|text| build(env, &text).ok());
    if let Some(gate) = &gate {
        gate.came_from(PolicyOrigin::PushedBefore);
    }
    Ok(gate)
}

async fn read(env: &worker::Env, key: &str) -> Result<Option<String>, ()> {
    let store = env.kv(BINDING).map_err(|_| complain("the KV namespace KEYS is not bound; see wrangler.toml"))?;
    let text = store.get(key).cache_ttl(KV_CACHE_S).text().await;
    let text = text.map_err(|_| complain("the policy cannot be read from KV"))?;
    // One that is too long is none that can be used, which is not the same as none.
    Ok(text.map(|text| if text.len() > POLICY_BYTES { String::new() } else { text }))
}
