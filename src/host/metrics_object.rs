//! The metrics of all isolates, summed: one Durable Object with a row for each series. Only this Worker
//! can reach it, by its binding.

use serde_json::Value;
use wasm_bindgen::prelude::*;
use worker::{SqlStorage, SqlStorageValue};

use super::durable_object::{integer, now, serve, state_of};
use crate::pipeline::limits;

/// Adds a JSON object of numbers by series.
pub(super) const ADD_PATH: &str = "/add";
/// Reads the sums, in the same form.
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
#[wasm_bindgen(js_name = metrics)]
#[allow(unreachable_pub, reason = "the export is reached from entry.js")]
pub async fn metrics(request: web_sys::Request, state: JsValue) -> Result<web_sys::Response, JsValue> {
    let sql = state_of(state).storage().sql();
    let handle = async |path: &str, body: Option<&str>| match (path, body) {
        (ADD_PATH, Some(text)) => add(&sql, text).map(|()| Some(String::new())),
        (READ_PATH, None) => read(&sql).map(Some),
        _ => Ok(None),
    };
    serve(request, "the object of the metrics", handle).await
}

fn add(sql: &SqlStorage, text: &str) -> worker::Result<()> {
    let Ok(Value::Object(added)) = serde_json::from_slice(text.as_bytes()) else {
        return Err("the numbers cannot be read".into());
    };
    sql.exec(TABLE, None)?;
    let (at, most) = (integer(now().0)?, integer(limits::SERIES)?);
    for (name, value) in added {
        if let Some(value) = value.as_f64()
            && name.len() <= limits::SERIES_NAME_BYTES
            && value.is_finite()
        {
            sql.exec(ADD, vec![name.into(), value.into(), at.clone(), most.clone()])?;
        }
    }
    Ok(())
}

fn read(sql: &SqlStorage) -> worker::Result<String> {
    sql.exec(TABLE, None)?;
    let oldest = now().0.saturating_sub(limits::SERIES_KEEP_MS);
    sql.exec("DELETE FROM series WHERE added_at < ?", vec![integer(oldest)?])?;
    // Joined here, because a value of the database has at most 2 MB.
    let mut members = String::new();
    for row in sql.exec("SELECT json_quote(name) || ':' || json_quote(value) FROM series", None)?.raw() {
        let Some(SqlStorageValue::String(member)) = row?.pop() else { return Err("the sums cannot be read".into()) };
        // Series that do not fit are left out, as those above their number are.
        if members.len().saturating_add(member.len()) < limits::SUMS_BYTES.saturating_sub(2) {
            members.extend([",", &member]);
        }
    }
    Ok(format!("{{{}}}", members.trim_start_matches(',')))
}
