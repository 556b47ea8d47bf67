//! The sums of all isolates' metrics: one Durable Object with a row for each series. Only this Worker
//! can reach it, by its binding.

use std::collections::BTreeMap;

use wasm_bindgen::{JsCast as _, prelude::*};
use wasm_bindgen_futures::JsFuture;
use worker::{SqlStorage, SqlStorageValue, durable::State, worker_sys::DurableObjectState};

use super::{
    console::log_error,
    durable_object::{now, path_of, reply, rows, whole},
};
use crate::pipeline::limits;

/// Adds a JSON object of numbers by series.
pub(super) const ADD_PATH: &str = "/add";
/// Reads the sums.
pub(super) const READ_PATH: &str = "/read";

const TABLE: &str = "CREATE TABLE IF NOT EXISTS series (
    name TEXT PRIMARY KEY,
    value REAL NOT NULL,
    added_at INTEGER NOT NULL) WITHOUT ROWID";

/// Adds to a series, or begins one while there is room. The rows are counted for a new series only.
const ADD: &str = "INSERT INTO series (name, value, added_at) SELECT ?1, ?2, ?3
    WHERE EXISTS (SELECT 1 FROM series WHERE name = ?1) OR (SELECT count(*) FROM series) < ?4
    ON CONFLICT (name) DO UPDATE SET value = value + excluded.value, added_at = excluded.added_at";

/// Handles a request to the object.
#[wasm_bindgen(js_name = metricSums)]
#[allow(unreachable_pub, reason = "the export is reached from entry.js")]
pub async fn metric_sums(request: web_sys::Request, state: JsValue) -> Result<web_sys::Response, JsValue> {
    let state = State::from(state.unchecked_into::<DurableObjectState>());
    let url = request.url();
    let done = match path_of(&url) {
        ADD_PATH => {
            let text = JsFuture::from(request.text()?).await?.as_string().unwrap_or_default();
            add(&state.storage().sql(), &text).map(|()| None)
        }
        READ_PATH => read(&state.storage().sql()).map(Some),
        _ => return reply(404, None),
    };
    match done {
        Ok(None) => reply(204, None),
        Ok(Some(text)) => reply(200, Some(&text)),
        Err(error) => {
            log_error(&format!("the sums of the metrics failed: {error}"));
            reply(503, None)
        }
    }
}

fn add(sql: &SqlStorage, text: &str) -> worker::Result<()> {
    let added: BTreeMap<String, f64> =
        serde_json::from_slice(text.as_bytes()).map_err(|_| "the numbers cannot be read")?;
    sql.exec(TABLE, None)?;
    let (at, most) = (whole(now().0)?, whole(limits::SERIES)?);
    for (name, value) in added {
        if name.len() <= limits::SERIES_NAME_BYTES && value.is_finite() {
            let values = vec![SqlStorageValue::String(name), SqlStorageValue::Float(value), at.clone(), most.clone()];
            sql.exec(ADD, values)?;
        }
    }
    Ok(())
}

fn read(sql: &SqlStorage) -> worker::Result<String> {
    sql.exec(TABLE, None)?;
    sql.exec("DELETE FROM series WHERE added_at < ?", vec![whole(now().0.saturating_sub(limits::SERIES_KEEP_MS))?])?;
    let sums = rows(sql, "SELECT json_group_object(name, value) FROM series", vec![])?;
    match sums.into_iter().next().and_then(|row| row.into_iter().next()) {
        Some(SqlStorageValue::String(text)) => Ok(text),
        _ => Err("the sums cannot be read".into()),
    }
}
