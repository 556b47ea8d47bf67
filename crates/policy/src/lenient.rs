//! Variants of a path that many services treat as the path itself: in another case, with a trailing
//! slash, with a `;` parameter, decoded once more. A route with `variants = "refuse"` refuses them.

use std::{borrow::Cow, collections::HashMap};

use crate::{
    limits,
    model::{Route, Variants},
    target::decode,
};

/// Finds the patterns that a lenient service may match with a path.
#[derive(Debug)]
pub(crate) struct Lenient {
    /// Indices into `meant`, because the code of a router exists once for each type of its values.
    patterns: matchit::Router<usize>,
    meant: Vec<Meant>,
}

#[derive(Debug, Default)]
struct Meant {
    /// Indices of the routes.
    routes: Vec<usize>,
    refuses: bool,
}

/// Patterns in the order of the routes, and their places by pattern: there may be thousands.
#[derive(Default)]
struct Patterns {
    entries: Vec<(String, Meant)>,
    places: HashMap<String, usize>,
}

impl Patterns {
    fn get(&mut self, pattern: &str) -> Option<&mut Meant> {
        self.entries.get_mut(*self.places.get(pattern)?).map(|(_, meant)| meant)
    }

    fn insert(&mut self, pattern: &str, meant: Meant) {
        self.places.insert(pattern.to_owned(), self.entries.len());
        self.entries.push((pattern.to_owned(), meant));
    }

    fn add(&mut self, pattern: &str, route: usize, refuses: bool) {
        if let Some(meant) = self.get(pattern) {
            meant.routes.push(route);
            meant.refuses |= refuses;
        } else {
            self.insert(pattern, Meant { routes: vec![route], refuses });
        }
    }
}

impl Lenient {
    /// Returns `None` when no route refuses variants.
    ///
    /// # Errors
    /// Two patterns collide once they are folded, such as `/a/{name}` and `/A/{*rest}`.
    pub(crate) fn of(routes: &[Route]) -> Result<Option<Self>, matchit::InsertError> {
        let refuses = |route: &Route| route.variants == Some(Variants::Refuse);
        if !routes.iter().any(refuses) {
            return Ok(None);
        }
        let (mut whole, mut prefixes) = (Patterns::default(), Patterns::default());
        for (index, route) in routes.iter().enumerate() {
            let folded = fold_pattern(&route.path);
            // The prefix of the rest, with or without a slash.
            if let Some(prefix) = folded.strip_suffix("/{*rest}").filter(|prefix| !prefix.is_empty()) {
                prefixes.add(prefix, index, refuses(route));
            }
            whole.add(&folded, index, refuses(route));
        }
        for (prefix, rest) in prefixes.entries {
            // If the prefix is a route, the rule of the rest does not apply to it.
            match whole.get(&prefix) {
                Some(meant) => meant.refuses |= rest.refuses,
                None => whole.insert(&prefix, rest),
            }
        }
        let mut patterns = matchit::Router::new();
        for (index, (pattern, _)) in whole.entries.iter().enumerate() {
            patterns.insert(pattern.as_str(), index)?;
        }
        Ok(Some(Self { patterns, meant: whole.entries.into_iter().map(|(_, meant)| meant).collect() }))
    }

    /// Returns whether a service can read a path of the route `found` as one that refuses variants: by
    /// decoding it before it looks for `?` and `#`, or by decoding it more than once.
    pub(crate) fn refuses(&self, path: &str, found: usize) -> bool {
        let mut reading = Cow::Borrowed(path);
        // The layers that the target's parser looks through, and the path itself.
        for _ in 0..=limits::ESCAPE_LAYERS {
            let before = reading.split(['?', '#']).next().unwrap_or_default();
            if self.is_variant(&reading, found) || (before.len() < reading.len() && self.is_variant(before, found)) {
                return true;
            }
            let decoded = decode(reading.as_bytes(), |_| {});
            if decoded == reading.as_bytes() {
                return false;
            }
            reading = Cow::Owned(String::from_utf8_lossy(&decoded).into_owned());
        }
        true
    }

    /// Returns whether a path of `found` folds to another pattern that refuses variants: as it is, or
    /// without its parameters. An escaped slash in a parameter is removed with it, as by a service that
    /// splits the path first.
    fn is_variant(&self, path: &str, found: usize) -> bool {
        let folds_to_other = |path: &str| {
            let meant = self.patterns.at(&fold_path(path)).ok().and_then(|hit| self.meant.get(*hit.value));
            meant.is_some_and(|meant| meant.refuses && !meant.routes.contains(&found))
        };
        let bare = || path.split('/').map(without_parameters).collect::<Vec<_>>().join("/");
        folds_to_other(path) || ((path.contains(';') || path.contains("%3B")) && folds_to_other(&bare()))
    }
}

/// Returns the path that a lenient service may read: in lower case, with escaped slashes decoded, and
/// without parameters, empty segments, and dots and spaces at the end of a segment.
pub(crate) fn fold_path(path: &str) -> String {
    let mut folded = String::with_capacity(path.len());
    for segment in path.replace("%2F", "/").split('/') {
        let mut name = without_parameters(segment).trim_end_matches(['.', ' ']);
        while let Some(shorter) = name.strip_suffix("%20") {
            name = shorter.trim_end_matches(['.', ' ']);
        }
        if !name.is_empty() {
            folded.push('/');
            // Through upper case, which some services compare: dotless i and long s are ASCII letters
            // there.
            folded.push_str(&name.to_uppercase().to_lowercase());
        }
    }
    if folded.is_empty() {
        folded.push('/');
    }
    folded
}

/// Returns a segment without its `;` parameters.
fn without_parameters(segment: &str) -> &str {
    let before = segment.split(';').next().unwrap_or_default();
    before.split("%3B").next().unwrap_or_default()
}

/// Returns a pattern for folded paths: in lower case, with parameters named by their position.
fn fold_pattern(pattern: &str) -> String {
    // A folded path has no slash at the end.
    let segments = pattern.split('/').skip(1).enumerate().filter(|(index, segment)| *index == 0 || !segment.is_empty());
    let folded = segments.map(|(index, segment)| match (segment.starts_with("{*"), segment.starts_with('{')) {
        (true, _) => "/{*rest}".to_owned(),
        (false, true) => format!("/{{p{index}}}"),
        (false, false) => format!("/{}", segment.to_lowercase()),
    });
    folded.collect()
}
