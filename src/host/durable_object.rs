//! Requests, answers and table values of this Worker's Durable Objects.

use wasm_bindgen::{JsCast as _, prelude::*};
use wasm_bindgen_futures::JsFuture;
use worker::{SqlStorage, SqlStorageValue, durable::State, worker_sys::DurableObjectState};

use super::{console::log_error, js};
use portcullis_token::UnixMillis;

pub(super) fn now() -> UnixMillis {
    UnixMillis(js::whole(js_sys::Date::now()))
}

pub(super) fn state_of(object: JsValue) -> State {
    super::chain_panic_hook();
    State::from(object.unchecked_into::<DurableObjectState>())
}

/// Answers a request to an object: `handle` gets the path and the body of a POST, and returns the
/// answer's body, empty for a 204, or `None` for a 404. `what` names the object in the log.
pub(super) async fn serve(
    request: web_sys::Request,
    what: &str,
    handle: impl AsyncFnOnce(&str, Option<&str>) -> worker::Result<Option<String>>,
) -> Result<web_sys::Response, JsValue> {
    let body = if request.method() == "POST" { JsFuture::from(request.text()?).await?.as_string() } else { None };
    let url = request.url();
    let path = url.split_once("://").and_then(|(_, rest)| rest.find('/').and_then(|at| rest.get(at..)));
    let (status, text) = match handle(path.unwrap_or_default(), body.as_deref()).await {
        Ok(Some(text)) if text.is_empty() => (204, None),
        Ok(Some(text)) => (200, Some(text)),
        Ok(None) => (404, None),
        Err(error) => {
            // The database's error is about our statements and holds no value of a table.
            log_error(&format!("{what} failed: {error}"));
            (503, None)
        }
    };
    let init = web_sys::ResponseInit::new();
    init.set_status(status);
    web_sys::Response::new_with_opt_str_and_init(text.as_deref(), &init)
}

/// Returns an integer for a statement.
pub(super) fn integer(value: impl TryInto<i64>) -> worker::Result<SqlStorageValue> {
    Ok(SqlStorageValue::Integer(value.try_into().map_err(|_| "a number is out of range")?))
}

/// Returns the only column of the first row, or 0 without a row or for NULL.
pub(super) fn scalar(sql: &SqlStorage, query: &str, bindings: Vec<SqlStorageValue>) -> worker::Result<u64> {
    let row = sql.exec(query, bindings)?.raw().next().transpose()?;
    match row.as_ref().and_then(|columns| columns.first()) {
        Some(SqlStorageValue::Integer(number)) => Ok(u64::try_from(*number).map_err(|_| "a number is out of range")?),
        Some(SqlStorageValue::Null) | None => Ok(0),
        Some(_) => Err("a column is no number".into()),
    }
}
