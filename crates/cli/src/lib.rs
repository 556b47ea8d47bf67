//! The policy commands behind `npm run check`, `policy:push`, `explain` and the reload of
//! `npm start`. Compiled to wasm, so that they run under Node without a Rust toolchain.
//!
//! Performs no I/O: the scripts read the files and print the output. One exported function,
//! [`run`], takes a command as JSON and returns its output as JSON.

mod access;
mod decision;
mod drift;
mod expectations;
mod explain;
mod overlap;
mod table;

use std::collections::BTreeMap;

use portcullis_policy::{Spot, is_inside_folder, positions_of};
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
    /// Returns the lines of the routes' options, as JSON.
    Lines,
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
    /// The OpenAPI documents that it names, by upstream. `compile` and `table` compare them with its routes.
    documents: Option<BTreeMap<String, drift::Document>>,
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
    documents: Vec<NeededDocument>,
}

/// An OpenAPI document next to a policy, or below its folder.
#[derive(Serialize)]
struct NeededDocument {
    upstream: String,
    file: String,
    prefix: Option<String>,
    /// Whether requests are checked against it.
    validates: bool,
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
    let needs_documents = matches!(command, Command::Compile | Command::Table);
    if file.files.is_none() {
        let document = toml::from_str(&file.text).unwrap_or_default();
        let (names, documents) =
            (files_of(&document), if needs_documents { documents_of(&document) } else { Vec::new() });
        if !names.is_empty() || !documents.is_empty() {
            let files = NeededFiles { names, max_bytes: JWKS_BYTES, documents };
            return Ok(Output { files: Some(files), ..Output::default() });
        }
    }
    let files = file.files.clone().unwrap_or_default();
    let policy = &portcullis_policy::check_with(&file.text, &files)
        .map_err(|mistakes| Vec::from_iter(mistakes.iter().map(|mistake| format!("{}:{mistake}", file.name))))?;
    let decider = &Decider::new(policy).map_err(|_| vec![format!("{}: two routes collide", file.name)])?;
    let run_tests = || file.tests.as_ref().map(|tests| expectations::run(decider, tests)).transpose();
    let compare = || drift::compare(decider, (&file.name, &file.text), file.documents.as_ref());
    match command {
        Command::Compile => {
            run_tests()?;
            compare().into_result()?;
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
            for read in &policy.refusals {
                let refusal = document.get_mut("refusals").and_then(|refusals| refusals.get_mut(&read.name));
                let Some(refusal) = refusal.and_then(Value::as_object_mut) else { continue };
                if refusal.remove("html_file").is_some() {
                    refusal.insert("html".to_owned(), read.html.clone().into());
                }
            }
            let digest_of = |name: &str| file.documents.as_ref()?.get(name)?.digest.clone();
            for (name, upstream) in document.get_mut("upstreams").and_then(Value::as_object_mut).into_iter().flatten() {
                let Some(upstream) = upstream.as_object_mut() else { continue };
                for option in ["openapi", "openapi_prefix", "openapi_digest"] {
                    upstream.remove(option);
                }
                upstream.extend(digest_of(name).map(|digest| ("openapi_digest".to_owned(), digest.into())));
            }
            Ok(Output::success(document.to_string()))
        }
        Command::Lines => Ok(Output::success(lines_of(&file.text).to_string())),
        Command::Table => {
            let drift = compare();
            let mut lines = vec![table::render(decider)];
            lines.extend(drift.notes.iter().map(|note| format!("note: {note}")));
            let (summary, failures) = match run_tests() {
                Ok(summary) => (summary, Vec::new()),
                Err(failures) => (None, failures),
            };
            lines.extend(summary.map(|summary| format!("\n{summary}")));
            let errors = Vec::from_iter(drift.errors.into_iter().chain(failures));
            let code = if errors.is_empty() { 0 } else { EXIT_REFUSED };
            Ok(Output { out: lines.join("\n"), errors, code, files: None })
        }
        Command::Decide { method, path, caller, origin } => Ok(decide(decider, (method, path), caller, origin)),
        Command::KeySource { token } => Ok(Output::success(explain::key_source(policy, token).to_string())),
        Command::DiscoveredUrl { token, document } => {
            explain::discovered_url(policy, token, document).map(Output::success).map_err(|fault| vec![fault])
        }
        Command::Explain(subject) => Ok(explain::run(decider, subject)),
    }
}

/// Returns the line of each option of the routes as it is written, by the order of the routes.
fn lines_of(text: &str) -> Value {
    let document: Value = toml::from_str(text).unwrap_or_default();
    let routes = Vec::from_iter(document.get("routes").and_then(Value::as_array).into_iter().flatten());
    let options_of = |route: &&Value| route.as_object().map(|route| Vec::from_iter(route.keys().cloned()));
    let options = Vec::from_iter(routes.iter().map(|route| options_of(route).unwrap_or_default()));
    let spots = options.iter().enumerate();
    let spots = Vec::from_iter(
        spots.flat_map(|(index, of_route)| of_route.iter().map(move |option| Spot::Route(index, option))),
    );
    let mut positions = positions_of(text, &spots).into_iter();
    let lines = options.into_iter().map(|of_route| {
        let placed = of_route.into_iter().zip(&mut positions).map(|(option, (line, _))| (option, line.into()));
        Value::Object(placed.collect())
    });
    lines.collect()
}

/// Returns the files of keys and of pages that a policy may name.
fn files_of(document: &Value) -> Vec<String> {
    let issuers = document.get("issuers").and_then(Value::as_object);
    let keys = issuers.into_iter().flat_map(Map::values).filter_map(|issuer| issuer.get("jwks_file")?.as_str());
    let refusals = document.get("refusals").and_then(Value::as_object);
    let pages = refusals.into_iter().flat_map(Map::values).filter_map(|refusal| refusal.get("html_file")?.as_str());
    keys.chain(pages).filter(|file| is_inside_folder(file)).map(str::to_owned).collect()
}

/// Returns the OpenAPI documents that a policy may name.
fn documents_of(document: &Value) -> Vec<NeededDocument> {
    let upstreams = document.get("upstreams").and_then(Value::as_object);
    let routes = || document.get("routes").and_then(Value::as_array).into_iter().flatten();
    let documents = upstreams.into_iter().flatten().filter_map(|(name, upstream)| {
        let text = |option: &str| upstream.get(option).and_then(Value::as_str).map(str::to_owned);
        let file = text("openapi").filter(|file| is_inside_folder(file))?;
        let is = |route: &Value, option: &str, value: Value| route.get(option) == Some(&value);
        let mut of_upstream = routes().filter(|route| is(route, "upstream", name.clone().into()));
        let validates = of_upstream.any(|route| is(route, "validate", true.into()));
        Some(NeededDocument { upstream: name.clone(), file, prefix: text("openapi_prefix"), validates })
    });
    documents.collect()
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
