//! The policy commands behind `npm run check`, `policy:push`, `explain` and the reload of
//! `npm start`. Compiled to wasm, so that they run under Node without a Rust toolchain.
//!
//! Performs no I/O: the scripts read the files and print the [`Output`]. One exported function,
//! [`run`], takes a [`Request`] as JSON and returns an [`Output`] as JSON.

mod access;
mod decision;
mod overlap;
mod table;

use portcullis_policy::config::{self, Policy};
use serde::{Deserialize, Serialize};
use wasm_bindgen::prelude::wasm_bindgen;

use decision::{Caller, Decision};

/// A command and what it works on.
#[derive(Debug, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Validates a policy and returns the JSON that the Worker reads.
    Compile {
        /// The policy.
        policy: PolicyFile,
    },
    /// Validates a policy and prints the effective route table.
    Table {
        /// The policy.
        policy: PolicyFile,
    },
    /// Prints who may call a path and, if a caller is described, whether this caller may.
    Decide {
        /// The policy.
        policy: PolicyFile,
        /// Method, in upper case.
        method: String,
        /// Path and query, as a client sends them.
        path: String,
        /// The caller; without any field set, a request without a token.
        #[serde(default)]
        caller: Caller,
    },
}

/// A policy file's content.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyFile {
    /// Name, for messages.
    pub name: String,
    /// TOML text.
    pub text: String,
}

/// The result of a command.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Output {
    /// Text for standard output.
    pub out: String,
    /// Lines for standard error.
    pub errors: Vec<String>,
    /// Exit code: 0, [`EXIT_REFUSED`] or [`EXIT_USAGE`].
    pub code: u8,
}

/// Exit code: the policy is invalid, or the decision is a refusal.
pub const EXIT_REFUSED: u8 = 1;

/// Exit code: the command cannot be used like this.
pub const EXIT_USAGE: u8 = 2;

/// Runs a [`Request`] given as JSON and returns an [`Output`] as JSON.
#[wasm_bindgen]
pub fn run(request: &str) -> String {
    let output = match serde_json::from_str(request) {
        Ok(request) => execute(&request),
        Err(error) => Output::failure(EXIT_USAGE, vec![format!("the request is malformed: {error}")]),
    };
    serde_json::to_string(&output).unwrap_or_default()
}

/// Runs a command.
pub fn execute(request: &Request) -> Output {
    match request {
        Request::Compile { policy } => policy.read().map_or_else(Output::invalid, |policy| compile(&policy)),
        Request::Table { policy } => {
            policy.read().map_or_else(Output::invalid, |policy| Output::success(table::render(&policy)))
        }
        Request::Decide { policy, method, path, caller } => policy
            .read()
            .map_or_else(Output::invalid, |policy| Decision::of(&policy, method, path, caller).into_output()),
    }
}

fn compile(policy: &Policy) -> Output {
    match serde_json::to_string(policy) {
        Ok(json) => Output::success(json),
        Err(error) => Output::failure(EXIT_REFUSED, vec![error.to_string()]),
    }
}

impl PolicyFile {
    fn read(&self) -> Result<Policy, Vec<String>> {
        config::check(&self.text)
            .map_err(|mistakes| mistakes.iter().map(|mistake| format!("{}:{mistake}", self.name)).collect())
    }
}

impl Output {
    fn success(out: String) -> Self {
        Self { out, ..Self::default() }
    }

    fn failure(code: u8, errors: Vec<String>) -> Self {
        Self { errors, code, ..Self::default() }
    }

    fn invalid(mistakes: Vec<String>) -> Self {
        Self::failure(EXIT_REFUSED, mistakes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_request_is_a_usage_error() {
        for request in ["", "{}", r#"{"command":"fly"}"#, r#"{"command":"table"}"#] {
            let output: serde_json::Value = serde_json::from_str(&run(request)).unwrap();
            assert_eq!(output["code"], EXIT_USAGE, "{request}");
        }
    }
}
