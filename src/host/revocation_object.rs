//! The revocation log: one Durable Object with a table of numbered entries. Only this Worker can reach
//! it, by its binding.
//!
//! Everything between two awaits of an object is one transaction, and the answer waits until the
//! writes are durable, so no acknowledged entry is lost.

use std::time::Duration;

use wasm_bindgen::prelude::*;
use worker::{SqlStorage, SqlStorageValue, durable::State};

use super::durable_object::{integer, now, scalar, serve, state_of};
use portcullis_token::{
    UnixMillis,
    revocation::{LogPage, RevocationEntry, RevocationKey, limits},
};

/// Reads the entries of the last minute.
pub(super) const NEWEST_PATH: &str = "/newest";
/// Reads the whole log.
pub(super) const WHOLE_PATH: &str = "/whole";
/// Reads the entries of the keys that follow, separated by commas. The path and the column `mark` keep
/// their names: a Worker of the previous version may send this path during a deployment, and tables exist.
pub(super) const ENTRIES_PATH: &str = "/marks/";
/// Appends the entries of a page.
pub(super) const APPEND_PATH: &str = "/append";

/// Notes the use of a proof: its id, and the time in milliseconds until which to keep it. The answer has a text if the
/// proof was used before. Objects of their own do this.
pub(super) const PROOF_PATH: &str = "/proof";

const PROOF_SCHEMA: &str = "CREATE TABLE IF NOT EXISTS proofs (id TEXT PRIMARY KEY, keep_until INTEGER NOT NULL) \
    WITHOUT ROWID; CREATE INDEX IF NOT EXISTS proofs_by_expiry ON proofs (keep_until)";

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS entries (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    mark TEXT NOT NULL UNIQUE,
    issued_until INTEGER NOT NULL,
    keep_until INTEGER NOT NULL,
    noted_at INTEGER NOT NULL);
    CREATE INDEX IF NOT EXISTS by_expiry ON entries (keep_until);
    CREATE INDEX IF NOT EXISTS by_time ON entries (noted_at)";

/// Handles a request to the object.
#[wasm_bindgen(js_name = revocationLog)]
#[allow(unreachable_pub, reason = "the export is reached from entry.js")]
pub async fn revocation_log(request: web_sys::Request, state: JsValue) -> Result<web_sys::Response, JsValue> {
    let state = state_of(state);
    let handle = async |path: &str, body: Option<&str>| {
        let page = match (path, body, path.strip_prefix(ENTRIES_PATH)) {
            (PROOF_PATH, Some(text), _) => return note_proof(&state, text).map(Some),
            (APPEND_PATH, Some(text), _) => return append(&state, text).await.map(|()| Some(String::new())),
            (NEWEST_PATH, None, _) => Log::open(&state)?.read_newest()?,
            (WHOLE_PATH, None, _) => Log::open(&state)?.read_whole()?,
            (_, None, Some(keys)) => Log::open(&state)?.read_entries(keys)?,
            _ => return Ok(None),
        };
        Ok(page.to_json())
    };
    serve(request, "the revocation log", handle).await
}

/// Handles the object's alarm: deletes expired entries.
#[wasm_bindgen(js_name = sweepRevocationLog)]
#[allow(unreachable_pub, reason = "the export is reached from entry.js")]
pub async fn sweep_revocation_log(state: JsValue) -> Result<(), JsValue> {
    let state = state_of(state);
    let sweep = async || {
        let is_empty = Log::open(&state)?.sweep()?;
        if is_empty { Ok(()) } else { set_alarm(&state).await }
    };
    sweep().await.map_err(|error: worker::Error| error.to_string().into())
}

/// Notes a proof, and deletes those that have expired, so that the table holds those of the last 90 s only.
fn note_proof(state: &State, text: &str) -> worker::Result<String> {
    let (id, keep_until) = text.split_once(' ').ok_or("the proof cannot be read")?;
    let keep_until: u64 = keep_until.parse().map_err(|_| "the proof cannot be read")?;
    let sql = state.storage().sql();
    sql.exec(PROOF_SCHEMA, None)?;
    sql.exec("DELETE FROM proofs WHERE keep_until <= ?", vec![integer(now().0)?])?;
    let is_used = scalar(&sql, "SELECT EXISTS (SELECT 1 FROM proofs WHERE id = ?)", vec![id.into()])? == 1;
    if is_used {
        return Ok("used".to_owned());
    }
    sql.exec("INSERT INTO proofs VALUES (?, ?)", vec![id.into(), integer(keep_until)?])?;
    Ok(String::new())
}

async fn append(state: &State, text: &str) -> worker::Result<()> {
    let page = LogPage::from_json(text).ok_or("the entries cannot be read")?;
    Log::open(state)?.append(&page.entries)?;
    // An earlier version set alarms decades ahead.
    let latest = now().plus(limits::SWEEP_MS).0;
    let alarm = state.storage().get_alarm().await?.and_then(|at| u64::try_from(at).ok());
    if alarm.is_none_or(|at| at > latest) { set_alarm(state).await } else { Ok(()) }
}

async fn set_alarm(state: &State) -> worker::Result<()> {
    state.storage().set_alarm(Duration::from_millis(limits::SWEEP_MS)).await
}

/// The object's table.
struct Log {
    sql: SqlStorage,
    now: UnixMillis,
}

impl Log {
    fn open(state: &State) -> worker::Result<Self> {
        let sql = state.storage().sql();
        sql.exec(SCHEMA, None)?;
        Ok(Self { sql, now: now() })
    }

    /// Adds entries. An entry that adds nothing keeps its number, so a repeated push causes no work in
    /// the isolates.
    fn append(&self, entries: &[RevocationEntry]) -> worker::Result<()> {
        if !self.has_room(entries.len())? {
            return Err("the log is full".into());
        }
        for entry in entries {
            // A new number, so that isolates read it. It never revokes less than before. Times follow the
            // numbers also when the clock is set back: a page would otherwise leave out the newest entry.
            self.sql.exec(
                "INSERT OR REPLACE INTO entries (mark, issued_until, keep_until, noted_at) SELECT ?1, \
                   max(?2, coalesce((SELECT issued_until FROM entries WHERE mark = ?1), 0)), \
                   max(?3, coalesce((SELECT keep_until FROM entries WHERE mark = ?1), 0)), \
                   max(?4, coalesce((SELECT max(noted_at) FROM entries), 0)) \
                 WHERE NOT EXISTS \
                   (SELECT 1 FROM entries WHERE mark = ?1 AND issued_until >= ?2 AND keep_until >= ?3)",
                vec![
                    String::from(entry.key).into(),
                    integer(entry.issued_until)?,
                    integer(entry.keep_until)?,
                    integer(self.now.0)?,
                ],
            )?;
        }
        Ok(())
    }

    fn has_room(&self, wanted: usize) -> worker::Result<bool> {
        let most = limits::LOG_ENTRIES.saturating_sub(u64::try_from(wanted).unwrap_or(u64::MAX));
        // An upper bound of the count, from the first and the last number.
        let span = "SELECT (SELECT max(number) FROM entries) - (SELECT min(number) FROM entries) + 1";
        if scalar(&self.sql, span, vec![])? <= most {
            return Ok(true);
        }
        self.sweep()?;
        Ok(scalar(&self.sql, "SELECT count(*) FROM entries", vec![])? <= most)
    }

    /// Deletes expired entries. Returns whether the log is empty.
    fn sweep(&self) -> worker::Result<bool> {
        self.sql.exec("DELETE FROM entries WHERE keep_until <= ?", vec![integer(self.now.secs())?])?;
        Ok(scalar(&self.sql, "SELECT EXISTS (SELECT 1 FROM entries)", vec![])? == 0)
    }

    fn read_newest(&self) -> worker::Result<LogPage> {
        let since = integer(self.now.0.saturating_sub(limits::PAGE_COVERS_MS))?;
        // By the time index, because each row that is read is billed.
        let newest = "FROM entries INDEXED BY by_time WHERE noted_at >= ?1 ORDER BY number DESC LIMIT ?2";
        let bindings = vec![since.clone(), integer(limits::PAGE_ENTRIES)?];
        let entries = self.entries(newest, bindings.clone())?;
        let from = if entries.len() >= limits::PAGE_ENTRIES {
            scalar(&self.sql, &format!("SELECT min(number) FROM (SELECT number {newest})"), bindings)?
        } else {
            let before = "SELECT number FROM entries INDEXED BY by_time WHERE noted_at < ? \
                 ORDER BY noted_at DESC, number DESC LIMIT 1";
            scalar(&self.sql, before, vec![since])?.saturating_add(1)
        };
        self.page(entries, from)
    }

    fn read_whole(&self) -> worker::Result<LogPage> {
        let bindings = vec![integer(self.now.secs())?, integer(limits::COPY_ENTRIES.saturating_add(1))?];
        let entries = self.entries("FROM entries WHERE keep_until > ?1 LIMIT ?2", bindings)?;
        let overflows = entries.len() > limits::COPY_ENTRIES;
        Ok(LogPage { overflows, ..self.page(if overflows { Vec::new() } else { entries }, 0)? })
    }

    /// Reads the entries of these keys. Without an error, a key that cannot be read would not count as revoked.
    fn read_entries(&self, keys: &str) -> worker::Result<LogPage> {
        let mut entries = Vec::new();
        for (index, text) in keys.split(',').enumerate() {
            let key = RevocationKey::try_from(text.to_owned()).ok().filter(|_| index < limits::ENTRIES_READ);
            let key = key.ok_or("the keys cannot be read")?;
            entries.extend(self.entries("FROM entries WHERE mark = ?", vec![String::from(key).into()])?);
        }
        self.page(entries, 0)
    }

    /// Reads entries; `query` begins with FROM.
    fn entries(&self, query: &str, bindings: Vec<SqlStorageValue>) -> worker::Result<Vec<RevocationEntry>> {
        self.sql.exec(&format!("SELECT mark AS key, issued_until, keep_until {query}"), bindings)?.to_array()
    }

    fn page(&self, entries: Vec<RevocationEntry>, from: u64) -> worker::Result<LogPage> {
        let newest = scalar(&self.sql, "SELECT max(number) FROM entries", vec![])?;
        Ok(LogPage { as_of: self.now, newest, from, overflows: false, entries })
    }
}
