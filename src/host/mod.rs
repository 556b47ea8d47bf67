//! The rim: the runtime's events, KV, the objects of revocations and metrics, WebCrypto,
//! upstream fetch, clock, random bytes and log. The only room that touches the world, and
//! nobody imports it. Decides nothing: what it is asked to do was decided in `pipeline`.

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
    Answer, BackgroundTask, CorsHeaders, Denial, Gateway, Handled, Head, LogRecord, Misconfiguration, Outcome, Passing,
    handle_refused,
};
use turns::{Progress, Turns};
use world::{Reply, World};

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
    let head = read_head(request);
    let Handled { outcome, mut record, .. } = handle_refused::<Reply>(&head, denial, &World::without_request(env));
    record.timestamp = timestamp();
    say(&record.to_json());
    let sender = Some(request).filter(|_| head.announces_body());
    match outcome {
        Outcome::Answered(answer) => to_response(&answer, sender, &CorsHeaders::default()).map(JsValue::from),
        Outcome::Forwarded(reply) => Ok(reply.response.into()),
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
    let head = read_head(&request);
    let world = World::new(env, request, context.clone(), turns);
    let handled = gate.handle(&head, &world).await;
    let Handled { outcome, mut record, cors, passing } = handled;
    write_log(&mut record, gate.log_successes());
    let answer = match outcome {
        Outcome::Forwarded(reply) => {
            let references = published(&gate, &head, &passing, &reply);
            pass_on(&reply, &cors, &passing, &references, &record.request_id)
        }
        Outcome::Answered(answer) => to_response(&answer, world.request().filter(|_| head.announces_body()), &cors),
    }
    .map(JsValue::from);
    for task in world.take_tasks() {
        run_behind(&context, &gate, &world, task);
    }
    answer
}

fn say(line: &str) {
    web_sys::console::log_1(&JsValue::from_str(line));
}

/// The request's line, and an audit event where it was refused.
fn write_log(record: &mut LogRecord, successes: u8) {
    if !record.is_kept(successes) {
        return;
    }
    record.timestamp = timestamp();
    say(&record.to_json());
    if let Some(event) = record.audit().and_then(|event| serde_json::to_string(&event).ok()) {
        say(&event);
    }
}

fn timestamp() -> String {
    js_sys::Date::new_0().to_iso_string().into()
}

/// Names and new values of the answer's headers that would lead the client to an upstream.
fn published<'a>(gate: &Gateway, head: &Head, passing: &Passing, reply: &'a Reply) -> Vec<(&'a str, String)> {
    let leads = reply.leads().filter(|(name, _)| !passing.removes(name));
    leads
        .filter_map(|(name, value)| {
            let public = gate.publish_references(head, passing, (name, value), reply.asked(), js::resolve)?;
            Some((name, public))
        })
        .collect()
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

fn read_head(request: &web_sys::Request) -> Head {
    let packed = js::read_head(request);
    let mut lines = packed.split('\n');
    let method = lines.next().unwrap_or_default().to_owned();
    let url = lines.next().unwrap_or_default();
    let mut headers = Vec::new();
    while let (Some(name), Some(value)) = (lines.next(), lines.next()) {
        headers.push((name.to_owned(), value.to_owned()));
    }
    Head::new(method, url, headers)
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

/// Keeps browsers from taking an answer for something other than its content type says.
const CONTENT_TYPE_OPTIONS: &str = "x-content-type-options";

fn pass_on(
    reply: &Reply,
    cors: &CorsHeaders,
    passing: &Passing,
    references: &[(&str, String)],
    request_id: &str,
) -> Result<web_sys::Response, JsValue> {
    let is_replaced = |name: &str| name == "x-request-id" || references.iter().any(|(replaced, _)| *replaced == name);
    let removed = reply.header_names().filter(|name| passing.removes(name) || is_replaced(name));
    let set = passing.headers.set.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let added = cors.iter().map(|(name, value)| (*name, value.as_str())).chain(set);
    let added = added.chain(references.iter().map(|(name, value)| (*name, value.as_str())));
    let is_guarded = passing.nosniff && !reply.header_names().any(|name| name == CONTENT_TYPE_OPTIONS);
    let added = added.chain(is_guarded.then_some((CONTENT_TYPE_OPTIONS, "nosniff")));
    // The id last, where `rim.js` looks for it.
    let added = added.chain([("x-request-id", request_id)]).flat_map(|(name, value)| [name, value]);
    let lines: Vec<&str> = removed.chain([""]).chain(added).collect();
    let packed = lines.join("\n");
    let idle_ms = passing.idle_timeout_ms.map(world::millis);
    js::pass_on(&reply.response, reply.status().unwrap_or_default(), &packed, idle_ms)
}

fn to_response(
    answer: &Answer,
    sender: Option<&web_sys::Request>,
    cors: &CorsHeaders,
) -> Result<web_sys::Response, JsValue> {
    let headers = answer.headers.iter().chain(cors);
    let lines: Vec<&str> = headers.flat_map(|(name, value)| [*name, value.as_str()]).collect();
    js::answer(sender, answer.status, &lines.join("\n"), &answer.body)
}
