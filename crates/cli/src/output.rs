//! What a command prints, and its exit code.

use serde::Serialize;

/// The result of a command.
#[derive(Default, Serialize)]
pub(crate) struct Output {
    /// Text for standard output.
    pub(crate) out: String,
    /// Lines for standard error.
    pub(crate) errors: Vec<String>,
    /// Exit code: 0, [`EXIT_REFUSED`] or [`EXIT_USAGE`].
    pub(crate) code: u8,
}

/// Exit code: the policy is invalid, or the decision is a refusal.
pub(crate) const EXIT_REFUSED: u8 = 1;

/// Exit code: the command cannot be used like this.
pub(crate) const EXIT_USAGE: u8 = 2;

impl Output {
    pub(crate) fn success(out: String) -> Self {
        Self { out, ..Self::default() }
    }

    pub(crate) fn failure(code: u8, errors: Vec<String>) -> Self {
        Self { errors, code, ..Self::default() }
    }

    /// Returns an answer that is printed whether or not it is a refusal.
    pub(crate) fn decided(lines: &[String], is_refused: bool) -> Self {
        Self { out: lines.join("\n"), code: if is_refused { EXIT_REFUSED } else { 0 }, ..Self::default() }
    }
}
