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
mod patterns;
mod table;

use serde::Deserialize;
use wasm_bindgen::prelude::wasm_bindgen;

use decision::{Caller, Decider};
use expectations::TextFile;
use output::{EXIT_REFUSED, EXIT_USAGE, Output};

/// A command and the policy that it works on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    command: Command,
    policy: PolicyFile,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Command {
    /// Validates the policy and returns the JSON that the Worker reads.
    Compile,
    /// Validates the policy and prints the effective route table.
    Table,
    /// Prints who may call a path and, if a caller is described, whether this caller may.
    Decide {
        /// In upper case.
        method: String,
        /// Path and query, as a client sends them.
        path: String,
        caller: Caller,
    },
    /// Returns where the keys of a token's issuer are, as JSON.
    KeySource { token: String },
    /// Returns the URL of the key set in a discovery document of a token's issuer.
    DiscoveredUrl { token: String, document: String },
    /// Prints every check of a token and the decision about a request with it.
    Explain(explain::Subject),
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

fn execute(Request { command, policy: file }: &Request) -> Output {
    let policy = match portcullis_policy::check(&file.text) {
        Ok(policy) => policy,
        Err(mistakes) => {
            let lines = mistakes.iter().map(|mistake| format!("{}:{mistake}", file.name));
            return Output::failure(EXIT_REFUSED, lines.collect());
        }
    };
    let Ok(decider) = Decider::new(&policy) else {
        return Output::failure(EXIT_REFUSED, vec![format!("{}: two routes collide, or name no upstream", file.name)]);
    };
    match command {
        Command::Compile => compile(file, &decider),
        Command::Table => show_table(file, &decider),
        Command::Decide { method, path, caller } => decider.decide(method, path, Ok(caller.with_token())).into_output(),
        Command::KeySource { token } => explain::key_source(&policy, token),
        Command::DiscoveredUrl { token, document } => explain::discovered_url(&policy, token, document),
        Command::Explain(subject) => explain::run(&decider, subject),
    }
}

fn compile(file: &PolicyFile, decider: &Decider<'_>) -> Output {
    if let Err(failures) = file.run_tests(decider) {
        return Output::failure(EXIT_REFUSED, failures);
    }
    // As written: the Worker has the defaults and writes out short forms itself.
    match toml::from_str::<serde_json::Value>(&file.text) {
        Ok(document) => Output::success(document.to_string()),
        Err(error) => Output::failure(EXIT_REFUSED, vec![error.to_string()]),
    }
}

fn show_table(file: &PolicyFile, decider: &Decider<'_>) -> Output {
    let table = table::render(decider);
    match file.run_tests(decider) {
        Ok(None) => Output::success(table),
        Ok(Some(summary)) => Output::success(format!("{table}\n\n{summary}")),
        Err(failures) => Output { out: table, ..Output::failure(EXIT_REFUSED, failures) },
    }
}

impl PolicyFile {
    fn run_tests(&self, decider: &Decider<'_>) -> Result<Option<String>, Vec<String>> {
        let Some(file) = &self.tests else { return Ok(None) };
        let count = expectations::run(decider, file)?;
        Ok(Some(format!("{}: {count} decisions are as expected.", file.name)))
    }
}
