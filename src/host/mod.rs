//! The host: the runtime's events, KV, the objects of revocations and metrics, WebCrypto,
//! upstream fetch, clock, random bytes and log. The only room that touches the world, and
//! nobody imports it. Decides nothing: what it is asked to do was decided in `pipeline`.

mod console;
mod js;
mod live;
mod log;
mod object;
mod sums;
#[cfg(test)]
mod tests;
mod turns;
mod world;

use std::{rc::Rc, sync::Once};

use wasm_bindgen::prelude::*;

use crate::pipeline::{
    Answer, AnswerPlan, BackgroundTask, Denial, Gateway, Handled, LogRecord, Misconfiguration, Outcome, handle_refused,
    wire,
};
use console::log_line;
use turns::{Progress, Turns};
use world::World;

/// A request: its answer, or a promise of it.
#[wasm_bindgen]
#[allow(unreachable_pub, reason = "the export is reached from entry.js")]
pub fn fetch(request: web_sys::Request, env: js::Env, context: js::Context) -> Result<JsValue, JsValue> {
    chain_panic_hook();
    let turns = Rc::new(Turns::default());
    if turns::is_full(turns.now()) {
        return refuse(&request, env, Denial::GatewayBusy);
    }
    let progress = turns::run(handle(request, env, context.clone(), Rc::clone(&turns)), turns);
    if let Progress::Waits(promise) = &progress {
        // Carried out to its end whatever its client does: otherwise the runtime never resumes it,
        // and it keeps what it holds, a place or a question that others wait for.
        context.wait_until(promise);
    }
    progress.into()
}

/// Refuses a request that no gate is asked about.
fn refuse(request: &web_sys::Request, env: js::Env, denial: Denial) -> Result<JsValue, JsValue> {
    let head = wire::parse_head(&js::read_head(request));
    let Handled { outcome, mut record, .. } =
        handle_refused::<web_sys::Response>(&head, denial, &World::without_request(env));
    record.timestamp = timestamp();
    log_line(&record.to_json());
    let sender = Some(request).filter(|_| head.announces_body());
    match outcome {
        Outcome::Answered(answer) => to_response(&answer, sender).map(JsValue::from),
        Outcome::Forwarded { reply, .. } => Ok(reply.into()),
    }
}

async fn handle(
    request: web_sys::Request,
    env: js::Env,
    context: js::Context,
    turns: Rc<Turns>,
) -> Result<JsValue, JsValue> {
    let gate = match live::gate(&env, Some(&context), object::whole_millis(turns.now())).await {
        Ok(gate) => gate,
        Err(Misconfiguration(text)) => {
            return refuse(&request, env, Denial::Misconfigured { fault: text });
        }
    };
    let head = wire::parse_head(&js::read_head(&request));
    let world = World::new(env, request, context.clone(), turns);
    let handled = gate.handle(&head, &world).await;
    let Handled { outcome, mut record } = handled;
    write_log(&mut record, gate.log_successes());
    let answer = match outcome {
        Outcome::Forwarded { reply, plan } => pass_on(&reply, &plan),
        Outcome::Answered(answer) => to_response(&answer, world.request().filter(|_| head.announces_body())),
    }
    .map(JsValue::from);
    for task in world.take_tasks() {
        run_behind(&context, &gate, &world, task);
    }
    answer
}

/// The request's line, and an audit event where it was refused.
fn write_log(record: &mut LogRecord, successes: u8) {
    if !record.is_kept(successes) {
        return;
    }
    record.timestamp = timestamp();
    log_line(&record.to_json());
    if let Some(event) = record.audit().and_then(|event| serde_json::to_string(&event).ok()) {
        log_line(&event);
    }
}

fn timestamp() -> String {
    js_sys::Date::new_0().to_iso_string().into()
}

/// The cron trigger.
#[wasm_bindgen]
#[allow(unreachable_pub, reason = "the export is reached from entry.js")]
pub async fn scheduled(env: js::Env) -> Result<(), JsValue> {
    chain_panic_hook();
    match live::gate(&env, None, object::now()).await {
        Ok(gate) => {
            gate.run_scheduled(&World::without_request(env)).await;
            Ok(())
        }
        Err(Misconfiguration(text)) => Err(JsValue::from_str(&text)),
    }
}

/// `worker` installs a hook that makes the instance start anew after a panic;
/// `console_error_panic_hook` would replace it, so both are called.
fn chain_panic_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let recover = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            console_error_panic_hook::hook(info);
            recover(info);
        }));
    });
}

/// Runs a background task by itself, because one that lets seconds pass must not delay another.
/// The event stays alive for it only if it has to wait.
fn run_behind(context: &js::Context, gate: &Rc<Gateway>, world: &World, task: BackgroundTask) {
    let turns = Rc::new(Turns::default());
    let (gate, world) = (Rc::clone(gate), world.behind_answer(Rc::clone(&turns)));
    let work = async move {
        gate.run(task, &world).await;
        Ok(JsValue::UNDEFINED)
    };
    if let Progress::Waits(promise) = turns::run(work, turns) {
        context.wait_until(&promise);
    }
}

fn pass_on(reply: &web_sys::Response, plan: &AnswerPlan) -> Result<web_sys::Response, JsValue> {
    js::pass_on(reply, plan.status, plan.changes.as_wire(), plan.idle_timeout_ms.map(world::millis))
}

fn to_response(answer: &Answer, sender: Option<&web_sys::Request>) -> Result<web_sys::Response, JsValue> {
    js::answer(sender, answer.status, &wire::write_headers(&answer.headers), &answer.body)
}
