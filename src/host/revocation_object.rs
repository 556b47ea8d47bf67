//! The revocation log: one Durable Object with a table of numbered entries. Only this Worker can reach
//! it, by its binding.
//!
//! Everything between two awaits of an object is one transaction, and the answer waits until the
//! writes are durable, so no acknowledged entry is lost.

use wasm_bindgen::{JsCast as _, prelude::*};
use wasm_bindgen_futures::JsFuture;
use worker::{SqlStorage, SqlStorageValue, durable::State, worker_sys::DurableObjectState};

use super::{
    console::log_error,
    durable_object::{now, number, path_of, reply, rows, scalar, whole},
};
use portcullis_token::{
    UnixMillis,
    revocation::{LogPage, RevocationEntry, RevocationKey, limits},
};

/// Reads the entries of the last minute.
pub(super) const NEWEST_PATH: &str = "/newest";
/// Reads the whole log.
pub(super) const WHOLE_PATH: &str = "/whole";
/// Reads the entries of the keys that follow, separated by commas.
pub(super) const MARKS_PATH: &str = "/marks/";
/// Appends the entries of a page.
pub(super) const APPEND_PATH: &str = "/append";

const TABLE: &str = "CREATE TABLE IF NOT EXISTS entries (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    mark TEXT NOT NULL UNIQUE,
    issued_until INTEGER NOT NULL,
    keep_until INTEGER NOT NULL,
    noted_at INTEGER NOT NULL)";
const BY_EXPIRY: &str = "CREATE INDEX IF NOT EXISTS by_expiry ON entries (keep_until)";
const BY_TIME: &str = "CREATE INDEX IF NOT EXISTS by_time ON entries (noted_at)";

/// Handles a request to the object.
#[wasm_bindgen(js_name = revocationLog)]
#[allow(unreachable_pub, reason = "the export is reached from entry.js")]
pub async fn revocation_log(request: web_sys::Request, state: JsValue) -> Result<web_sys::Response, JsValue> {
    let state = State::from(state.unchecked_into::<DurableObjectState>());
    let url = request.url();
    let path = path_of(&url);
    if request.method() == "POST" && path == APPEND_PATH {
        let text = JsFuture::from(request.text()?).await?.as_string().unwrap_or_default();
        return match append(&state, &text).await {
            Ok(()) => reply(204, None),
            Err(error) => {
                // The database's error is about our statements and holds no entry.
                log_error(&format!("the revocation log cannot be written: {error}"));
                reply(503, None)
            }
        };
    }
    match Log::open(&state).and_then(|log| log.read(path)).map(|page| page.and_then(|page| page.to_json())) {
        Ok(Some(text)) => reply(200, Some(&text)),
        Ok(None) => reply(404, None),
        Err(error) => {
            // The database's error is about our statements and holds no entry.
            log_error(&format!("the revocation log cannot be read: {error}"));
            reply(503, None)
        }
    }
}

/// Handles the object's alarm: deletes expired entries.
#[wasm_bindgen(js_name = sweepRevocationLog)]
#[allow(unreachable_pub, reason = "the export is reached from entry.js")]
pub async fn sweep_revocation_log(state: JsValue) -> Result<(), JsValue> {
    let state = State::from(state.unchecked_into::<DurableObjectState>());
    let is_empty = Log::open(&state).and_then(|log| log.sweep()).map_err(|error| JsValue::from(error.to_string()))?;
    if !is_empty {
        set_alarm(&state).await.map_err(|error| JsValue::from(error.to_string()))?;
    }
    Ok(())
}

async fn append(state: &State, text: &str) -> worker::Result<()> {
    let page = LogPage::from_json(text).ok_or("the entries cannot be read")?;
    Log::open(state)?.append(&page.entries)?;
    if state.storage().get_alarm().await?.is_none() {
        set_alarm(state).await?;
    }
    Ok(())
}

async fn set_alarm(state: &State) -> worker::Result<()> {
    let at = now().plus(limits::SWEEP_MS);
    state.storage().set_alarm(i64::try_from(at.0).unwrap_or(i64::MAX)).await
}

/// The object's table.
struct Log {
    sql: SqlStorage,
    now: UnixMillis,
}

impl Log {
    fn open(state: &State) -> worker::Result<Self> {
        let sql = state.storage().sql();
        for statement in [TABLE, BY_EXPIRY, BY_TIME] {
            sql.exec(statement, None)?;
        }
        Ok(Self { sql, now: now() })
    }

    /// Adds entries. An entry that adds nothing keeps its number, so a repeated push causes no work in
    /// the isolates.
    fn append(&self, entries: &[RevocationEntry]) -> worker::Result<()> {
        if !self.has_room(entries.len())? {
            log_error("the revocation log is full");
            return Err("the log is full".into());
        }
        for entry in entries {
            let mark = SqlStorageValue::String(entry.key.to_text());
            // A new number, so that isolates read it. It never revokes less than before. Times follow the
            // numbers also when the clock is set back: a page would otherwise leave out the newest entry.
            self.sql.exec(
                "INSERT OR REPLACE INTO entries (mark, issued_until, keep_until, noted_at) SELECT ?1, \
                   max(?2, coalesce((SELECT issued_until FROM entries WHERE mark = ?1), 0)), \
                   max(?3, coalesce((SELECT keep_until FROM entries WHERE mark = ?1), 0)), \
                   max(?4, coalesce((SELECT max(noted_at) FROM entries), 0)) \
                 WHERE NOT EXISTS \
                   (SELECT 1 FROM entries WHERE mark = ?1 AND issued_until >= ?2 AND keep_until >= ?3)",
                vec![mark, whole(entry.issued_until)?, whole(entry.keep_until)?, whole(self.now.0)?],
            )?;
        }
        Ok(())
    }

    fn has_room(&self, wanted: usize) -> worker::Result<bool> {
        let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
        let fits = |held: u64| held.saturating_add(wanted) <= u64::try_from(limits::LOG_ENTRIES).unwrap_or(u64::MAX);
        // An upper bound of the count, from the first and the last number.
        let span = "SELECT (SELECT max(number) FROM entries) - (SELECT min(number) FROM entries) + 1";
        if fits(scalar(&self.sql, span, vec![])?) {
            return Ok(true);
        }
        self.sweep()?;
        Ok(fits(scalar(&self.sql, "SELECT count(*) FROM entries", vec![])?))
    }

    /// Deletes expired entries. Returns whether the log is empty.
    fn sweep(&self) -> worker::Result<bool> {
        self.sql.exec("DELETE FROM entries WHERE keep_until <= ?", vec![whole(self.now.secs())?])?;
        Ok(scalar(&self.sql, "SELECT count(*) FROM (SELECT 1 FROM entries LIMIT 1)", vec![])? == 0)
    }

    fn read(&self, path: &str) -> worker::Result<Option<LogPage>> {
        if let Some(marks) = path.strip_prefix(MARKS_PATH) {
            return self.read_marks(marks).map(Some);
        }
        match path {
            NEWEST_PATH => self.read_newest().map(Some),
            WHOLE_PATH => self.read_whole().map(Some),
            _ => Ok(None),
        }
    }

    fn read_newest(&self) -> worker::Result<LogPage> {
        let since = whole(self.now.0.saturating_sub(limits::PAGE_COVERS_MS))?;
        let limit = u64::try_from(limits::PAGE_ENTRIES).unwrap_or(u64::MAX);
        let rows = rows(
            &self.sql,
            // By the time index, because each row that is read is billed.
            "SELECT mark, issued_until, keep_until, number FROM entries INDEXED BY by_time \
             WHERE noted_at >= ?1 ORDER BY number DESC LIMIT ?2",
            vec![since.clone(), whole(limit)?],
        )?;
        let from = if rows.len() < limits::PAGE_ENTRIES {
            let before = "SELECT number FROM entries INDEXED BY by_time WHERE noted_at < ? ORDER BY noted_at DESC, number DESC LIMIT 1";
            let before = scalar(&self.sql, before, vec![since])?;
            before.saturating_add(1)
        } else {
            rows.last().and_then(|row| number(row.get(3))).unwrap_or(u64::MAX)
        };
        self.page(&rows, from, false)
    }

    fn read_whole(&self) -> worker::Result<LogPage> {
        let limit = u64::try_from(limits::COPY_ENTRIES).unwrap_or(u64::MAX).saturating_add(1);
        let rows = rows(
            &self.sql,
            "SELECT mark, issued_until, keep_until FROM entries WHERE keep_until > ?1 LIMIT ?2",
            vec![whole(self.now.secs())?, whole(limit)?],
        )?;
        if rows.len() > limits::COPY_ENTRIES { self.page(&[], 0, true) } else { self.page(&rows, 0, false) }
    }

    fn read_marks(&self, marks: &str) -> worker::Result<LogPage> {
        // A token has four keys at most.
        let marks: Vec<RevocationKey> = marks.split(',').take(4).filter_map(RevocationKey::from_text).collect();
        let mut found = Vec::new();
        for mark in marks {
            found.extend(rows(
                &self.sql,
                "SELECT mark, issued_until, keep_until FROM entries WHERE mark = ?",
                vec![SqlStorageValue::String(mark.to_text())],
            )?);
        }
        self.page(&found, 0, false)
    }

    fn page(&self, rows: &[Vec<SqlStorageValue>], from: u64, overflows: bool) -> worker::Result<LogPage> {
        let newest = scalar(&self.sql, "SELECT max(number) FROM entries", vec![])?;
        let entry = |row: &Vec<SqlStorageValue>| {
            let Some(SqlStorageValue::String(mark)) = row.first() else { return None };
            Some(RevocationEntry {
                key: RevocationKey::from_text(mark)?,
                issued_until: number(row.get(1))?,
                keep_until: number(row.get(2))?,
            })
        };
        let entries = rows.iter().map(entry).collect::<Option<Vec<_>>>().ok_or("an entry cannot be read")?;
        Ok(LogPage { as_of: self.now, newest, from, overflows, entries })
    }
}
