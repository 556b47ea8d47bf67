//! Requests, answers and table values of this Worker's Durable Objects.

use wasm_bindgen::prelude::*;
use worker::{SqlStorage, SqlStorageValue};

use super::js;
use portcullis_token::UnixMillis;

pub(super) fn now() -> UnixMillis {
    UnixMillis(js::whole(js_sys::Date::now()))
}

/// Returns the path of an absolute URL with the rest that follows it.
pub(super) fn path_of(url: &str) -> &str {
    url.split_once("://").and_then(|(_, rest)| rest.find('/').and_then(|at| rest.get(at..))).unwrap_or_default()
}

pub(super) fn reply(status: u16, body: Option<&str>) -> Result<web_sys::Response, JsValue> {
    let init = web_sys::ResponseInit::new();
    init.set_status(status);
    web_sys::Response::new_with_opt_str_and_init(body, &init)
}

pub(super) fn whole(value: u64) -> worker::Result<SqlStorageValue> {
    Ok(SqlStorageValue::Integer(i64::try_from(value).map_err(|_| "a number is out of range")?))
}

pub(super) fn number(value: Option<&SqlStorageValue>) -> Option<u64> {
    match value {
        Some(SqlStorageValue::Integer(value)) => u64::try_from(*value).ok(),
        _ => None,
    }
}

pub(super) fn rows(
    sql: &SqlStorage,
    query: &str,
    bindings: Vec<SqlStorageValue>,
) -> worker::Result<Vec<Vec<SqlStorageValue>>> {
    sql.exec(query, bindings)?.raw().collect()
}

/// Returns the first column of the first row, or 0 without a row.
pub(super) fn scalar(sql: &SqlStorage, query: &str, bindings: Vec<SqlStorageValue>) -> worker::Result<u64> {
    Ok(rows(sql, query, bindings)?.first().and_then(|row| number(row.first())).unwrap_or_default())
}
