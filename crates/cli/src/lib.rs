//! The policy commands behind `npm run check`, `policy:push`, `explain` and the reload of
//! `npm start`. Compiled to wasm, so that they run under Node without a Rust toolchain.
//!
//! Performs no I/O: the scripts read the files and print the output. One exported function,
//! [`run`], takes a command as JSON and returns its output as JSON.

mod access;
mod decision;
mod expectations;
mod explain;
mod overlap;
mod table;

use std::collections::BTreeMap;

use portcullis_policy::is_inside_folder;
use portcullis_token::keys::limits::JWKS_BYTES;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use wasm_bindgen::prelude::wasm_bindgen;

use decision::{Caller, Decider, Origin};
use expectations::TextFile;

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
        #[serde(default)]
        origin: Origin,
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
    tests: Option<TextFile>,
    /// Contents of the files that it names, without those that cannot be read. Without this member, the output of a
    /// command may list them instead.
    files: Option<BTreeMap<String, String>>,
}

/// The result of a command.
#[derive(Default, Serialize)]
pub(crate) struct Output {
    /// Text for standard output.
    pub(crate) out: String,
    /// Lines for standard error.
    pub(crate) errors: Vec<String>,
    /// Exit code: 0, [`EXIT_REFUSED`] or [`EXIT_USAGE`].
    pub(crate) code: u8,
    /// Files that the policy names. The command did not run; repeat it with their contents.
    pub(crate) files: Option<NeededFiles>,
}

/// Files next to a policy, or below its folder.
#[derive(Serialize)]
pub(crate) struct NeededFiles {
    names: Vec<String>,
    /// Bytes of each at most. Of a longer one, one byte more is enough to refuse it.
    max_bytes: usize,
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

/// Runs a command given as JSON and returns its output as JSON: `out`, `errors` and `code`.
#[wasm_bindgen]
pub fn run(request: &str) -> String {
    let output = match serde_json::from_str(request) {
        Ok(request) => execute(&request).unwrap_or_else(|errors| Output::failure(EXIT_REFUSED, errors)),
        Err(error) => Output::failure(EXIT_USAGE, vec![format!("the request is malformed: {error}")]),
    };
    serde_json::to_string(&output).unwrap_or_default()
}

fn execute(Request { command, policy: file }: &Request) -> Result<Output, Vec<String>> {
    let needed = if file.files.is_none() { files_of(&file.text) } else { Vec::new() };
    if !needed.is_empty() {
        let files = NeededFiles { names: needed, max_bytes: JWKS_BYTES };
        return Ok(Output { files: Some(files), ..Output::default() });
    }
    let files = file.files.clone().unwrap_or_default();
    let policy = &portcullis_policy::check_with(&file.text, &files)
        .map_err(|mistakes| Vec::from_iter(mistakes.iter().map(|mistake| format!("{}:{mistake}", file.name))))?;
    let decider = &Decider::new(policy).map_err(|_| vec![format!("{}: two routes collide", file.name)])?;
    let run_tests = || file.tests.as_ref().map(|tests| expectations::run(decider, tests)).transpose();
    match command {
        Command::Compile => {
            run_tests()?;
            // As written: the Worker has the defaults and writes out short forms itself.
            let mut document: Value = toml::from_str(&file.text).map_err(|error| vec![error.to_string()])?;
            // But for files, which it cannot read.
            for read in &policy.issuers {
                let issuer = document.get_mut("issuers").and_then(|issuers| issuers.get_mut(&read.name));
                let Some(issuer) = issuer.and_then(Value::as_object_mut) else { continue };
                if issuer.remove("jwks_file").is_some() {
                    issuer.insert("jwks".to_owned(), read.jwks.clone().into());
                }
            }
            Ok(Output::success(document.to_string()))
        }
        Command::Table => {
            let table = table::render(decider);
            Ok(match run_tests() {
                Ok(None) => Output::success(table),
                Ok(Some(summary)) => Output::success(format!("{table}\n\n{summary}")),
                Err(failures) => Output { out: table, ..Output::failure(EXIT_REFUSED, failures) },
            })
        }
        Command::Decide { method, path, caller, origin } => Ok(decide(decider, (method, path), caller, origin)),
        Command::KeySource { token } => Ok(Output::success(explain::key_source(policy, token).to_string())),
        Command::DiscoveredUrl { token, document } => {
            explain::discovered_url(policy, token, document).map(Output::success).map_err(|fault| vec![fault])
        }
        Command::Explain(subject) => Ok(explain::run(decider, subject)),
    }
}

/// Returns the files that a policy may name. A policy that cannot be read names none.
fn files_of(text: &str) -> Vec<String> {
    let document: Value = toml::from_str(text).unwrap_or_default();
    let issuers = document.get("issuers").and_then(Value::as_object);
    let files = issuers.into_iter().flat_map(Map::values).filter_map(|issuer| issuer.get("jwks_file")?.as_str());
    files.filter(|file| is_inside_folder(file)).map(str::to_owned).collect()
}

fn decide(decider: &Decider<'_>, (method, path): (&str, &str), caller: &Caller, origin: &Origin) -> Output {
    let mut lines = Vec::new();
    let verdict = decider.decide(method, path, Ok(caller.with_token()), origin, &mut lines);
    lines.extend(match &verdict {
        Ok("") => None,
        Ok(words) => Some((*words).to_owned()),
        Err(((status, _), reason)) => Some(format!("{status}{reason}")),
    });
    Output::decided(&lines, verdict.is_err())
}
