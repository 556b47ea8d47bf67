//! Differences between the routes of a policy and the OpenAPI documents of its upstreams.
//!
//! A route that lets more callers in than the document says is an error. Everything else is a note: documents often leave
//! out operations, and policies often leave out routes.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_policy::{Access, Miss, Policy, Route, Spot, Table, Target, positions_of};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{access::describe, decision::Decider, overlap::meets};

/// Pairs of a path of a policy and a path of a document that are compared: thousands of each take a second.
const PAIRS: usize = 10_000_000;

/// Lines of errors, and of each kind of notes, for one document.
const SHOWN: usize = 100;

/// Stands for the value of a parameter: no fixed segment is likely to be the same.
const ANY: &str = "any-value-of-a-parameter";

/// Stands for a segment of a loose operation that is a parameter and more.
const PARTIAL: &str = "{partial";

/// An OpenAPI document, or why it cannot be used.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document {
    /// The file's name in messages.
    name: String,
    operations: Vec<Operation>,
    /// Operations that can be no route of their own, because their paths have parameters within segments, or are those
    /// of other operations.
    #[serde(default)]
    loose: Vec<Operation>,
    /// Operations that cannot be compared.
    faults: Vec<Fault>,
    /// Why the document cannot be used at all, each line with its place.
    #[serde(default)]
    refused: Vec<String>,
    /// Digest of the validators that were compiled from it.
    pub(crate) digest: Option<String>,
}

/// An operation, with its path as the service sees it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Operation {
    method: String,
    path: String,
    access: Option<Access>,
    line: usize,
    column: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fault {
    line: usize,
    column: usize,
    message: String,
}

/// What differs, each line with its place.
#[derive(Default)]
pub(crate) struct Drift {
    pub(crate) errors: Vec<String>,
    pub(crate) notes: Vec<String>,
}

impl Drift {
    pub(crate) fn into_result(self) -> Result<(), Vec<String>> {
        if self.errors.is_empty() { Ok(()) } else { Err(self.errors) }
    }
}

/// Compares each document with the routes of its upstream. `policy` is the name and the text of the policy file.
pub(crate) fn compare(
    decider: &Decider<'_>,
    (file, text): (&str, &str),
    documents: Option<&BTreeMap<String, Document>>,
) -> Drift {
    let mut drift = Drift::default();
    for (upstream, document) in documents.into_iter().flatten() {
        let mut found = Found::default();
        if document.refused.is_empty() {
            if let Err(fault) = found.compare(decider, upstream, document) {
                found.errors.push((Spot::Upstream(upstream, "openapi"), fault.to_owned()));
            }
        } else {
            found
                .errors
                .push((Spot::Upstream(upstream, "openapi"), "the document of openapi cannot be used:".to_owned()));
        }
        let placed = |lines: Vec<(Spot<'_>, String)>| {
            let spots = Vec::from_iter(lines.iter().map(|(spot, _)| *spot));
            let lines = positions_of(text, &spots).into_iter().zip(lines);
            Vec::from_iter(lines.map(|((line, column), (_, message))| format!("{file}:{line}:{column}: {message}")))
        };
        drift.errors.extend(bounded(placed(found.errors)));
        drift.errors.extend(document.refused.iter().cloned());
        let in_document = found.in_document.into_iter().map(|(operation, message)| {
            format!("{}:{}:{}: {message}", document.name, operation.line, operation.column)
        });
        let faults = document.faults.iter();
        let faults =
            faults.map(|fault| format!("{}:{}:{}: {}", document.name, fault.line, fault.column, fault.message));
        // Each list for itself: what is not checked must not be cut off by what has no route.
        drift.notes.extend(bounded(Vec::from_iter(faults)));
        drift.notes.extend(bounded(placed(found.notes)));
        drift.notes.extend(bounded(Vec::from_iter(in_document)));
    }
    drift
}

fn bounded(mut lines: Vec<String>) -> Vec<String> {
    let more = lines.len().saturating_sub(SHOWN);
    lines.truncate(SHOWN);
    lines.extend((more > 0).then(|| format!("… and {more} more")));
    lines
}

/// Differences, with the places that they are about.
#[derive(Default)]
struct Found<'a> {
    errors: Vec<(Spot<'a>, String)>,
    notes: Vec<(Spot<'a>, String)>,
    in_document: Vec<(&'a Operation, String)>,
}

impl<'a> Found<'a> {
    fn compare(
        &mut self,
        decider: &Decider<'a>,
        upstream: &'a str,
        document: &'a Document,
    ) -> Result<(), &'static str> {
        let policy = decider.policy;
        let routes = Vec::from_iter(policy.routes.iter().enumerate().filter(|(_, route)| route.upstream == upstream));
        let by_path = paths_of(document);
        if routes.len().saturating_mul(by_path.len().saturating_add(document.loose.len())) > PAIRS {
            return Err("its document and its routes are too many to compare; leave openapi out");
        }
        // The document's own precedence is that of routes: a fixed segment wins (OpenAPI 3.1, "Path Templating Matching").
        let described = described(document, upstream);
        let described_table = described.as_ref().and_then(|described| Table::build(described).ok());
        let described_table = described_table.ok_or("two paths of its document match the same requests")?;
        // The operations that a route takes, and the methods that others' paths take instead.
        let (mut with_route, mut with_methods) = (BTreeSet::new(), BTreeMap::new());
        for (index, route) in routes {
            let mut with_operation = BTreeSet::new();
            let pattern = pattern_at_service(route);
            for (path, operations) in &by_path {
                let Some(requests) = Requests::of(route, &pattern, path) else { continue };
                for (number, operation) in operations {
                    let method = operation.method.as_str();
                    if described_table.find(method, &requests.service).ok().map(|found| found.route) != Some(*number) {
                        continue;
                    }
                    match decider.table.find(method, &requests.client) {
                        Ok(found) if found.route == index => {
                            with_route.insert(*number);
                            with_operation.insert(if method == "HEAD" { "GET" } else { method });
                            self.judge((index, route), operation, document);
                        }
                        Err(Miss::Method { allow, .. }) => {
                            with_methods.insert(*number, allow);
                        }
                        Ok(_) | Err(Miss::Path | Miss::Ambiguous) => {}
                    }
                }
            }
            if route.access == Access::Public {
                self.judge_loose(decider, (index, route), &pattern, document);
            }
            for method in &route.methods {
                let named = if method == "HEAD" { "GET" } else { method.as_str() };
                if with_operation.contains(named) {
                    continue;
                }
                let message = format!("{method} {} is no operation of {}", route.path, document.name);
                if route.validate {
                    let message = format!("{message}, so validate would refuse every request");
                    self.errors.push((Spot::Route(index, "validate"), message));
                } else {
                    self.notes.push((Spot::Route(index, "path"), message));
                }
            }
        }
        for (number, operation) in document.operations.iter().enumerate() {
            if !with_route.contains(&number) {
                let reason = match with_methods.get(&number) {
                    Some(allow) => format!("has no route; its path takes {allow}"),
                    None => format!("has no route to {upstream}"),
                };
                self.in_document.push((operation, format!("{} {} {reason}", operation.method, operation.path)));
            }
        }
        let is_fault = |operation: &Operation| document.faults.iter().any(|fault| fault.line == operation.line);
        let silent =
            document.operations.iter().filter(|operation| operation.access.is_none() && !is_fault(operation)).count();
        if silent > 0 {
            let message = format!("{} does not say who may call {silent} of its operations", document.name);
            self.notes.push((Spot::Upstream(upstream, "openapi"), message));
        }
        Ok(())
    }

    /// Compares a public route with the loose operations whose requests it takes.
    fn judge_loose(
        &mut self,
        decider: &Decider<'a>,
        (index, route): (usize, &Route),
        pattern: &str,
        document: &'a Document,
    ) {
        for operation in &document.loose {
            // Whether a fixed segment is one of them is not known.
            let is_open = |(our, their): (&str, &str)| our.starts_with('{') || !their.starts_with(PARTIAL);
            if !pattern.split('/').zip(operation.path.split('/')).all(is_open) {
                continue;
            }
            let Some(requests) = Requests::of(route, pattern, &operation.path) else { continue };
            let found = decider.table.find(&operation.method, &requests.client).ok();
            if found.map(|found| found.route) == Some(index) {
                self.judge((index, route), operation, document);
            }
        }
    }

    /// Compares the rule of a route with that of an operation whose requests it takes.
    fn judge(&mut self, (index, route): (usize, &Route), operation: &'a Operation, document: &Document) {
        let Some(wanted) = &operation.access else { return };
        let (method, place) = (&operation.method, format!("{}:{}", document.name, operation.line));
        if !route.access.is_as_strict_as(wanted) {
            let message = format!(
                "{method} {} lets in {}, but {place} wants {} for {method} {}",
                route.path,
                describe(&route.access),
                describe(wanted),
                operation.path
            );
            self.errors.push((Spot::Route(index, "access"), message));
        } else if *wanted == Access::Public && route.access != Access::Public {
            let message =
                format!("{method} {} lets in {}, but is public in {place}", route.path, describe(&route.access));
            self.notes.push((Spot::Route(index, "access"), message));
        }
    }
}

/// Returns the operations of each path, with their numbers.
fn paths_of(document: &Document) -> BTreeMap<&str, Vec<(usize, &Operation)>> {
    let mut paths = BTreeMap::<_, Vec<_>>::new();
    for (number, operation) in document.operations.iter().enumerate() {
        paths.entry(operation.path.as_str()).or_default().push((number, operation));
    }
    paths
}

/// Returns a policy whose routes are the operations of a document, in their order.
fn described(document: &Document, upstream: &str) -> Option<Policy> {
    let routes = document.operations.iter().map(|operation| {
        let path = positional(&operation.path);
        json!({ "path": path, "methods": [operation.method], "upstream": upstream, "access": "public" })
    });
    let routes = Value::from_iter(routes);
    serde_json::from_value(json!({ "upstreams": { upstream: {} }, "routes": routes })).ok()
}

/// Returns a pattern whose parameters are named by their position, so that other names make no other pattern.
fn positional(pattern: &str) -> String {
    let segments = pattern.split('/').enumerate();
    let named = segments
        .map(|(index, segment)| if segment.starts_with('{') { format!("{{p{index}}}") } else { segment.to_owned() });
    Vec::from_iter(named).join("/")
}

/// Returns the pattern of a route as its service sees it.
fn pattern_at_service(route: &Route) -> String {
    let Some((from, to)) = route.rewrite() else { return route.path.clone() };
    let rest = route.path.strip_prefix(from).unwrap_or_default();
    if to.is_empty() && rest.is_empty() { "/".to_owned() } else { format!("{to}{rest}") }
}

/// The requests that a route and a path of the service have in common, as a path of them.
struct Requests {
    client: Target,
    service: Target,
}

impl Requests {
    /// Returns `None` if they have none in common.
    fn of(route: &Route, pattern: &str, path: &str) -> Option<Self> {
        if !meets(pattern, path) {
            return None;
        }
        let mut segments = Vec::new();
        let mut ours = pattern.split('/');
        let mut is_rest = false;
        for their in path.split('/') {
            let our = if is_rest { their } else { ours.next()? };
            is_rest |= our.starts_with("{*");
            let fixed = [our, their].into_iter().find(|segment| !segment.starts_with('{'));
            segments.push(fixed.unwrap_or(ANY));
        }
        let service = segments.join("/");
        let client = match route.rewrite() {
            Some((from, to)) => format!("{from}{}", service.strip_prefix(to)?.trim_end_matches('/')),
            None => service.clone(),
        };
        // Fixed segments are canonical, so the paths are.
        Some(Self { client: Target::parse(&client).ok()?, service: Target::parse(&service).ok()? })
    }
}
