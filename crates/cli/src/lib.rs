//! The policy commands behind `npm run check`, `policy:push`, `explain` and the reload of
//! `npm start`. Compiled to wasm, so that they run under Node without a Rust toolchain.
//!
//! Performs no I/O: the scripts read the files and print the [`Output`]. One exported function,
//! [`run`], takes a [`Request`] as JSON and returns an [`Output`] as JSON.

mod access;
mod decision;
mod expectations;
mod explain;
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
    /// Returns where the keys of a token's issuer are, as JSON.
    KeySource {
        /// The policy.
        policy: PolicyFile,
        /// The compact token.
        token: String,
    },
    /// Returns the URL of the key set in a discovery document of a token's issuer.
    DiscoveredUrl {
        /// The policy.
        policy: PolicyFile,
        /// The compact token.
        token: String,
        /// The document.
        document: String,
    },
    /// Prints every check of a token and the decision about a request with it.
    Explain {
        /// The policy.
        policy: PolicyFile,
        /// The token, and what it is checked with.
        subject: explain::Subject,
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
    /// The file of expected decisions next to it. `compile` and `table` run these tests.
    #[serde(default)]
    pub tests: Option<TextFile>,
}

/// A file's name, for messages, and its text.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextFile {
    /// Name.
    pub name: String,
    /// Text.
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
    let (file, command): (_, &dyn Fn(&Policy) -> Output) = match request {
        Request::Compile { policy } => (policy, &|checked| compile(policy, checked)),
        Request::Table { policy } => (policy, &|checked| show_table(policy, checked)),
        Request::Decide { policy, method, path, caller } => {
            let caller = caller.is_described().then_some(caller);
            (policy, &move |checked| Decision::of(checked, method, path, caller).into_output())
        }
        Request::KeySource { policy, token } => (policy, &|checked| explain::key_source(checked, token)),
        Request::DiscoveredUrl { policy, token, document } => {
            (policy, &|checked| explain::discovered_url(checked, token, document))
        }
        Request::Explain { policy, subject } => (policy, &|checked| explain::run(checked, subject)),
    };
    match file.read() {
        Ok(policy) => command(&policy),
        Err(mistakes) => Output::failure(EXIT_REFUSED, mistakes),
    }
}

fn compile(file: &PolicyFile, policy: &Policy) -> Output {
    if let Err(failures) = file.run_tests(policy) {
        return Output::failure(EXIT_REFUSED, failures);
    }
    // As written: the Worker has the defaults and writes out short forms itself.
    match toml::from_str::<serde_json::Value>(&file.text) {
        Ok(document) => Output::success(document.to_string()),
        Err(error) => Output::failure(EXIT_REFUSED, vec![error.to_string()]),
    }
}

fn show_table(file: &PolicyFile, policy: &Policy) -> Output {
    let table = table::render(policy);
    match file.run_tests(policy) {
        Ok(None) => Output::success(table),
        Ok(Some(summary)) => Output::success(format!("{table}\n\n{summary}")),
        Err(failures) => Output { out: table, ..Output::failure(EXIT_REFUSED, failures) },
    }
}

impl PolicyFile {
    fn read(&self) -> Result<Policy, Vec<String>> {
        config::check(&self.text)
            .map_err(|mistakes| mistakes.iter().map(|mistake| format!("{}:{mistake}", self.name)).collect())
    }

    fn run_tests(&self, policy: &Policy) -> Result<Option<String>, Vec<String>> {
        let Some(file) = &self.tests else { return Ok(None) };
        let count = expectations::run(policy, file)?;
        Ok(Some(format!("{}: {count} decisions are as expected.", file.name)))
    }
}

impl Output {
    fn success(out: String) -> Self {
        Self { out, ..Self::default() }
    }

    fn failure(code: u8, errors: Vec<String>) -> Self {
        Self { errors, code, ..Self::default() }
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
