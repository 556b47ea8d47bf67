//! The output of commands: text, or one JSON document for scripts.

use std::io::Write as _;

use portcullis_origin::boot::StartError;
use serde_json::{Value, json};

/// The form of the output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    /// Whether the output is JSON.
    pub(super) json: bool,
}

impl Output {
    /// Prints the result of a command. A result that is lost, such as a new secret, is a failure.
    pub(super) fn print(self, text: &str, document: &Value) -> Result<(), StartError> {
        let mut stdout = std::io::stdout();
        let printed = if self.json { writeln!(stdout, "{document}") } else { writeln!(stdout, "{text}") };
        printed.map_err(|error| StartError::Other(format!("done, but the result cannot be printed: {error}")))
    }

    /// Prints the error of a command.
    pub(super) fn fail(self, kind: &str, text: &str) {
        let _ = if self.json {
            writeln!(std::io::stderr(), "{}", json!({ "error": text, "kind": kind }))
        } else {
            writeln!(std::io::stderr(), "portcullis-origin: {text}")
        };
    }
}

/// Formats a table whose columns are as wide as their widest cell.
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
