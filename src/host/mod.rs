//! The host: the runtime's events, KV, Durable Objects, WebCrypto, upstream fetch, clock, random
//! bytes and log. It implements the ports of `pipeline`, which makes all decisions. No module imports
//! the host.

mod console;
mod durable_object;
mod js;
mod metrics_object;
mod policy_loader;
mod poll_promise;
mod ports;
mod revocation_object;

use std::{rc::Rc, sync::Once};

use wasm_bindgen::prelude::*;

use crate::pipeline::{
    Answer, AnswerPlan, BackgroundTask, Denial, Gateway, Handled, Head, Misconfiguration, Outcome, handle_refused,
    ports::Runtime,
    wire::{self, DrainPlan},
};
use console::log_line;
use poll_promise::PromisePoller;
use ports::WorkerPorts;

/// Handles a request. Returns its answer, or a promise of it.
#[wasm_bindgen]
#[allow(unreachable_pub, reason = "the export is reached from entry.js")]
pub fn fetch(request: web_sys::Request, env: js::Env, context: js::Context) -> Result<JsValue, JsValue> {
    chain_panic_hook();
    let poller = Rc::new(PromisePoller::default());
    if poll_promise::is_full(poller.now()) {
        return refuse(&request, env, Denial::GatewayBusy);
    }
    poll_promise::run(handle(request, env, context.clone(), Rc::clone(&poller)), poller, &context)
}

/// Refuses a request without a gateway.
fn refuse(request: &web_sys::Request, env: js::Env, denial: Denial) -> Result<JsValue, JsValue> {
    let head = wire::parse_head(&js::read_head(request));
    let ports = WorkerPorts::without_request(env);
    answer(handle_refused(&head, denial, &ports), (&head, Some(request)), false, &ports)
}

async fn handle(
    request: web_sys::Request,
    env: js::Env,
    context: js::Context,
    poller: Rc<PromisePoller>,
) -> Result<JsValue, JsValue> {
    let gateway = match policy_loader::gateway(&env, Some(&context), &poller).await {
        Ok(gateway) => gateway,
        Err(Misconfiguration(fault)) => return refuse(&request, env, Denial::Misconfigured { fault }),
    };
    let head = wire::parse_head(&js::read_head(&request));
    let ports = WorkerPorts::new(env, Some((request, context.clone())), poller);
    let handled = gateway.handle(&head, &ports).await;
    let answer = answer(handled, (&head, ports.request()), gateway.has_page(), &ports);
    for task in ports.take_tasks() {
        run_behind(&context, &gateway, &ports, task);
    }
    answer
}

/// Writes the request's line if it is logged, and an audit event where it was refused. Returns its answer.
fn answer(
    Handled { outcome, request_id, record }: Handled<web_sys::Response>,
    (head, request): (&Head, Option<&web_sys::Request>),
    has_page: bool,
    ports: &impl Runtime,
) -> Result<JsValue, JsValue> {
    if let Some(mut record) = record {
        record.worker_version = ports.worker_version();
        record.timestamp = js_sys::Date::new_0().to_iso_string().into();
        let line = record.to_json();
        log_line(&line);
        if has_page && record.code.is_some() {
            js::note_refusal(&line);
        }
        record.audit_event().iter().for_each(|event| log_line(event));
    }
    match outcome {
        Outcome::Forwarded { reply, plan } => pass_on(&reply, &plan, &request_id),
        Outcome::Answered(answer) => to_response(&answer, head, request),
    }
    .map(JsValue::from)
}

/// The cron trigger.
#[wasm_bindgen]
#[allow(unreachable_pub, reason = "the export is reached from entry.js")]
pub async fn scheduled(env: js::Env) -> Result<(), JsValue> {
    chain_panic_hook();
    let gateway = policy_loader::gateway(&env, None, &PromisePoller::of_executor()).await;
    let gateway = gateway.map_err(|Misconfiguration(text)| JsValue::from(text))?;
    gateway.run_scheduled(&WorkerPorts::without_request(env)).await;
    Ok(())
}

/// `worker` installs a hook that restarts the instance after a panic;
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
fn run_behind(context: &js::Context, gateway: &Rc<Gateway>, ports: &WorkerPorts, task: BackgroundTask) {
    let poller = Rc::new(PromisePoller::default());
    let (gateway, ports) = (Rc::clone(gateway), ports.behind_answer(Rc::clone(&poller)));
    let work = async move {
        gateway.run(task, &ports).await;
        Ok(JsValue::UNDEFINED)
    };
    // Its result is nothing, and the event is kept alive for it.
    let _ = poll_promise::run(work, poller, context);
}

fn pass_on(reply: &web_sys::Response, plan: &AnswerPlan, request_id: &str) -> Result<web_sys::Response, JsValue> {
    let message = "an answer's body stood still for too long and was cut off";
    let idle_line = plan.idle_timeout_ms.map(|_| console::warning(message, request_id));
    let idle_ms = plan.idle_timeout_ms.map(ports::number);
    js::pass_on(reply, plan.changes.as_wire(), idle_ms, idle_line.as_deref(), plan.body_bytes)
}

fn to_response(answer: &Answer, head: &Head, request: Option<&web_sys::Request>) -> Result<web_sys::Response, JsValue> {
    let plan = DrainPlan::for_answer(head).map(|plan| wire::write_plan(&plan));
    let request = request.filter(|_| plan.is_some());
    js::answer(answer.status, &wire::write_headers(&answer.headers), &answer.body, request, plan.as_deref())
}
