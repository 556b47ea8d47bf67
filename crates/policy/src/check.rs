//! Policy files: TOML text to a [`Policy`], with the line and column of every mistake.

use std::{collections::BTreeMap, ops::Range};

use toml::de::{DeArray, DeTable};

use crate::{
    error::{Mistake, Path, Step},
    model::Policy,
    suggest::{explain, slip},
    validate::{is_inside_folder, validate},
};

/// Misspelt names that are reported at once.
const SLIPS_MAX: usize = 20;

/// Checks the text of a policy file and returns the policy, resolved.
///
/// # Errors
/// Every mistake, in the order of the file. A syntax error or an unknown name hides the others,
/// unless the name is like a known one.
pub fn check(text: &str) -> Result<Policy, Vec<Mistake>> {
    check_with(text, &BTreeMap::new())
}

/// Checks the text of a policy file as [`check`] does, with the contents of the files that it names, by name.
///
/// # Errors
/// As [`check`].
pub fn check_with(text: &str, files: &BTreeMap<String, String>) -> Result<Policy, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let (text, mut policy) = parse(text, &mut mistakes)?;
    for issuer in &mut policy.issuers {
        issuer.jwks_file_text = issuer.jwks_file.as_ref().and_then(|name| files.get(name)).cloned();
    }
    for refusal in &mut policy.refusals {
        let file = refusal.html_file.as_ref().filter(|name| is_inside_folder(name));
        refusal.html_file_text = file.and_then(|name| files.get(name)).cloned();
    }
    let violations = validate(&policy);
    if violations.is_empty() && mistakes.is_empty() {
        policy.resolve();
        return Ok(policy);
    }
    let document = DeTable::parse(&text).map(|document| document.into_inner()).unwrap_or_default();
    for violation in violations {
        let (line, column) = position_of(&text, span_of(&document, &violation.path).start);
        let mut message = violation.message;
        if let Some(first) = violation.first {
            let (line, _) = position_of(&text, span_of(&document, &first).start);
            message.push_str(&format!(" (the first is on line {line})"));
        }
        mistakes.push(Mistake { line, column, message });
    }
    mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
    mistakes.dedup();
    Err(mistakes)
}

/// Reads the document. A misspelt name is noted among the `slips` and read as the one that is
/// meant, so that other mistakes are found, too; returns the text with the names corrected.
fn parse(text: &str, slips: &mut Vec<Mistake>) -> Result<(String, Policy), Vec<Mistake>> {
    let mut text = text.to_owned();
    loop {
        let error = match toml::from_str(&text) {
            Ok(policy) => return Ok((text, policy)),
            Err(error) => error,
        };
        // Both the misspelt key and the right one are there: the slip has been noted.
        if slips.is_empty() || !error.message().starts_with("duplicate") {
            let (line, column) = position_of(&text, error.span().map_or(0, |span| span.start));
            slips.push(Mistake { line, column, message: explain(error.message()) });
        }
        let replaced = slip(error.message()).zip(error.span()).and_then(|((wanted, meant), span)| {
            let written = text.get(span.clone()).filter(|written| written.contains(wanted))?;
            Some((span, written.replacen(wanted, meant, 1)))
        });
        match replaced {
            Some((span, meant)) if slips.len() < SLIPS_MAX => text.replace_range(span, &meant),
            Some(_) | None => return Err(std::mem::take(slips)),
        }
    }
}

/// Returns where a path, or the part of it that is written, stands: a table under its name, any
/// other value itself.
fn span_of(document: &DeTable<'_>, path: &Path) -> Range<usize> {
    let mut span = 0..0;
    let (mut table, mut list) = (Some(document), None);
    for step in &path.0 {
        let (name, value) = match step {
            Step::Key(key) => table.and_then(|table| table.get_key_value(key.as_str())).unzip(),
            Step::Index(index) => (None, list.and_then(|list: &DeArray<'_>| list.get(*index))),
        };
        let Some(value) = value else { break };
        table = value.get_ref().as_table();
        list = value.get_ref().as_array();
        span = name.filter(|_| table.is_some()).map_or(value.span(), |name| name.span());
    }
    span
}

/// A place in a policy file.
#[derive(Debug, Clone, Copy)]
pub enum Spot<'a> {
    /// An option of a route, by the route's index.
    Route(usize, &'a str),
    /// An option of an upstream, by the upstream's name.
    Upstream(&'a str, &'a str),
}

/// Returns the line and the column of each place in the text of a policy file: of the option if it is written,
/// otherwise of its table.
pub fn positions_of(text: &str, spots: &[Spot<'_>]) -> Vec<(usize, usize)> {
    let document = DeTable::parse(text).map(|document| document.into_inner()).unwrap_or_default();
    let key = |name: &str| Step::Key(name.to_owned());
    let paths = spots.iter().map(|spot| match *spot {
        Spot::Route(index, option) => Path(vec![key("routes"), Step::Index(index), key(option)]),
        Spot::Upstream(name, option) => Path(vec![key("upstreams"), key(name), key(option)]),
    });
    // Once for all places: a policy may have thousands of lines and options.
    let starts =
        Vec::from_iter(std::iter::once(0).chain(text.match_indices('\n').map(|(end, _)| end.saturating_add(1))));
    let position = |offset: usize| {
        let line = starts.partition_point(|start| *start <= offset);
        let start = starts.get(line.saturating_sub(1)).copied().unwrap_or_default();
        (line, text.get(start..offset).unwrap_or_default().chars().count().saturating_add(1))
    };
    paths.map(|path| position(span_of(&document, &path).start)).collect()
}

/// Returns the line and the column, in characters, of a byte offset in a text. Both count from 1.
pub fn position_of(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let last_line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count().saturating_add(1), last_line.chars().count().saturating_add(1))
}
