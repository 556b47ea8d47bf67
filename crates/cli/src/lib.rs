//! The policy commands behind `npm run check`, `policy:push`, `explain` and the reload of
//! `npm start`. Compiled to wasm, so that they run under Node without a Rust toolchain.
//!
//! Performs no I/O: the scripts read the files and print the output. One exported function,
//! [`run`], takes a command as JSON and returns its output as JSON.

mod access;
mod decision;
mod expectations;
mod explain;
mod output;
mod overlap;
mod table;

use portcullis_policy::Policy;
use serde::Deserialize;
use wasm_bindgen::prelude::wasm_bindgen;

use decision::{Caller, Decision};
use expectations::TextFile;
use output::{EXIT_REFUSED, EXIT_USAGE, Output};

/// A command and what it works on.
#[derive(Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
enum Request {
    /// Validates a policy and returns the JSON that the Worker reads.
    Compile { policy: PolicyFile },
    /// Validates a policy and prints the effective route table.
    Table { policy: PolicyFile },
    /// Prints who may call a path and, if a caller is described, whether this caller may.
    Decide {
        policy: PolicyFile,
        /// In upper case.
        method: String,
        /// Path and query, as a client sends them.
        path: String,
        /// Without any field set, a request without a token.
        #[serde(default)]
        caller: Caller,
    },
    /// Returns where the keys of a token's issuer are, as JSON.
    KeySource { policy: PolicyFile, token: String },
    /// Returns the URL of the key set in a discovery document of a token's issuer.
    DiscoveredUrl { policy: PolicyFile, token: String, document: String },
    /// Prints every check of a token and the decision about a request with it.
    Explain { policy: PolicyFile, subject: explain::Subject },
}

/// A policy file's content.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    /// For messages.
    name: String,
    /// TOML.
    text: String,
    /// The file of expected decisions next to it. `compile` and `table` run these tests.
    #[serde(default)]
    tests: Option<TextFile>,
}

/// Runs a command given as JSON and returns its output as JSON: `out`, `errors` and `code`.
#[wasm_bindgen]
pub fn run(request: &str) -> String {
    let output = match serde_json::from_str(request) {
        Ok(request) => execute(&request),
        Err(error) => Output::failure(EXIT_USAGE, vec![format!("the request is malformed: {error}")]),
    };
    serde_json::to_string(&output).unwrap_or_default()
}

fn execute(request: &Request) -> Output {
    let (file, command): (_, &dyn Fn(&Policy) -> Output) = match request {
        Request::Compile { policy } => (policy, &|checked| compile(policy, checked)),
        Request::Table { policy } => (policy, &|checked| show_table(policy, checked)),
        Request::Decide { policy, method, path, caller } => {
            let caller = caller.is_described().then_some(caller);
            (policy, &move |checked| Decision::of(checked, method, path, Ok(caller)).into_output())
        }
        Request::KeySource { policy, token } => (policy, &|checked| explain::key_source(checked, token)),
        Request::DiscoveredUrl { policy, token, document } => {
            (policy, &|checked| explain::discovered_url(checked, token, document))
        }
        Request::Explain { policy, subject } => (policy, &|checked| explain::run(checked, subject)),
    };
    match portcullis_policy::check(&file.text) {
        Ok(policy) => command(&policy),
        Err(mistakes) => {
            let lines = mistakes.iter().map(|mistake| format!("{}:{mistake}", file.name));
            Output::failure(EXIT_REFUSED, lines.collect())
        }
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
    fn run_tests(&self, policy: &Policy) -> Result<Option<String>, Vec<String>> {
        let Some(file) = &self.tests else { return Ok(None) };
        let count = expectations::run(policy, file)?;
        Ok(Some(format!("{}: {count} decisions are as expected.", file.name)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn answer(request: &Value) -> Value {
        serde_json::from_str(&run(&request.to_string())).unwrap()
    }

    #[test]
    fn a_malformed_request_is_a_usage_error() {
        for request in [json!(null), json!({}), json!({ "command": "fly" }), json!({ "command": "table" })] {
            assert_eq!(answer(&request)["code"], EXIT_USAGE, "{request}");
        }
    }

    #[test]
    fn a_compiled_policy_is_the_one_that_was_checked() {
        let text = include_str!("../../../gateway.toml");
        let output = answer(&json!({ "command": "compile", "policy": { "name": "gateway.toml", "text": text } }));
        assert_eq!(
            Policy::read(output["out"].as_str().unwrap()),
            portcullis_policy::check(text).map_err(|_| String::new())
        );
    }
}
