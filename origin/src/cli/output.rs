//! What a command says: a sentence for people, or one JSON document for scripts.

use std::io::Write as _;

use serde_json::{Value, json};

/// How a command answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    /// As a document.
    pub(super) json: bool,
}

impl Output {
    /// The answer, in both forms.
    pub(super) fn say(self, text: &str, document: &Value) {
        // Nobody to tell is nobody to tell of it.
        let _ =
            if self.json { writeln!(std::io::stdout(), "{document}") } else { writeln!(std::io::stdout(), "{text}") };
    }

    /// Why there is none.
    pub(super) fn fail(self, kind: &str, text: &str) {
        let _ = if self.json {
            writeln!(std::io::stderr(), "{}", json!({ "error": text, "kind": kind }))
        } else {
            writeln!(std::io::stderr(), "portcullis-origin: {text}")
        };
    }
}

/// A table for people: columns as wide as their widest cell.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(String::len);
        cells.chain(head.get(column).map(|title| title.len())).max().unwrap_or_default()
    };
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.enumerate().map(|(column, cell)| format!("{cell:<width$}", width = width(column)));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&mut head.iter().copied())];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}
