//! Variants of a route's path: in another case, with a trailing slash, with a `;` parameter, with an
//! escaped slash. Many services treat them as the path itself. If a looser route matches a variant,
//! its rule applies: with `/app/admin` for administrators and `/app/{*rest}` for every user, every
//! user may call `/app/Admin`.
//!
//! Owns how variants are made and recognised, and which of them bypass a stricter rule.

use std::collections::{BTreeMap, HashSet};

use super::{Access, EncodedPath, Issuer, Policy, RevocationCheck, Route, Upstream, Variants};

/// Stands for the parameter of this number in a sample path. No fixed segment of a policy is
/// likely to be the same.
fn sample_of(number: usize) -> String {
    format!("~{number}")
}

/// Returns the name of a parameter's segment.
fn parameter(segment: &str) -> Option<&str> {
    let inner = segment.strip_prefix('{')?.strip_suffix('}')?;
    Some(inner.strip_prefix('*').unwrap_or(inner))
}

/// A route whose rule does not apply to a variant of its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Passed {
    /// Index of the route.
    pub(super) route: usize,
    /// Index of the route that matches the variant.
    pub(super) taken_by: usize,
    /// The variants, as paths.
    pub(super) variants: Vec<String>,
}

impl Passed {
    /// Returns the message for the policy's author.
    pub(super) fn message(&self, routes: &[Route]) -> String {
        let path = |index: usize| routes.get(index).map_or("", |route| route.path.as_str());
        let (strict, looser) = (path(self.route), path(self.taken_by));
        let verb = if self.variants.len() == 1 { "matches" } else { "match" };
        format!(
            "route {strict:?}: {} {verb} the looser route {looser:?}, and a service may take that for {strict:?}; write variants = \"refuse\" (then it is 400), or variants = {{ allow = \"why the service does not\" }}",
            self.variants.join(", ")
        )
    }
}

/// Returns every route whose rule a variant of its path would bypass.
pub(super) fn find_passed(policy: &Policy) -> Vec<Passed> {
    let routes = &policy.routes;
    let mut by_path: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, route) in routes.iter().enumerate() {
        by_path.entry(&route.path).or_default().push(index);
    }
    let mut router = matchit::Router::new();
    for (path, indices) in by_path {
        // Paths that collide are reported elsewhere.
        let _ = router.insert(path, indices);
    }
    let forwards = routes.iter().any(|route| route.encoded_path == EncodedPath::Forward);
    let mut passed: Vec<Passed> = Vec::new();
    for (index, strict) in routes.iter().enumerate() {
        if strict.variants != Variants::Check {
            continue;
        }
        for Variant { path, of, needs_forward } in variants_of(&strict.path, forwards) {
            let Ok(found) = router.at(&path) else { continue };
            for &candidate in found.value {
                let Some(looser) = routes.get(candidate) else { continue };
                let is_same_owner = |ours: &str, theirs: &str| {
                    let number = strict.path.split('/').filter_map(parameter).position(|name| name == theirs);
                    found.params.get(ours).is_some_and(|value| number.is_some_and(|number| value == sample_of(number)))
                };
                let is_passed = looser.path != strict.path
                    && (!needs_forward || looser.encoded_path == EncodedPath::Forward)
                    && shares_method(looser, strict)
                    && shares_upstream(looser, strict, &policy.upstreams)
                    && leads_to_same(strict, &of, looser, &path)
                    && !is_as_strict(looser, strict, &policy.issuers, &is_same_owner);
                if !is_passed {
                    continue;
                }
                match passed.iter_mut().rev().find(|one| one.route == index && one.taken_by == candidate) {
                    Some(known) => known.variants.push(path.clone()),
                    None => {
                        passed.push(Passed { route: index, taken_by: candidate, variants: vec![path.clone()] });
                    }
                }
            }
        }
    }
    passed
}

struct Variant {
    path: String,
    /// The path that a service may read instead.
    of: String,
    /// Whether only routes that forward encoded paths match it.
    needs_forward: bool,
}

/// Returns a sample of each kind of variant of a pattern.
fn variants_of(pattern: &str, forwards: bool) -> Vec<Variant> {
    let segments: Vec<&str> = pattern.split('/').skip(1).collect();
    let is_fixed = |segment: &str| !segment.starts_with('{') && !segment.is_empty();
    let mut numbers = 0..;
    let samples: Vec<String> = segments
        .iter()
        .map(|segment| match parameter(segment) {
            Some(_) => sample_of(numbers.next().unwrap_or_default()),
            None => (*segment).to_owned(),
        })
        .collect();
    let sample: Vec<&str> = samples.iter().map(String::as_str).collect();
    let of = format!("/{}", sample.join("/"));
    let mut variants = Vec::new();
    let mut add = |path: String, of: &str, needs_forward: bool| {
        if path != of {
            variants.push(Variant { path, of: of.to_owned(), needs_forward });
        }
    };
    let replaced = |index: usize, text: &str| {
        let mut other = sample.clone();
        if let Some(segment) = other.get_mut(index) {
            *segment = text;
        }
        format!("/{}", other.join("/"))
    };
    for (index, segment) in segments.iter().enumerate().filter(|(_, segment)| is_fixed(segment)) {
        add(replaced(index, &other_case(segment)), &of, false);
        // Where there is no letter to change.
        if !segment.contains(|c: char| c.is_ascii_alphabetic()) {
            add(replaced(index, &format!("{segment}.")), &of, false);
        }
    }
    match segments.split_last() {
        Some((last, before)) if last.starts_with("{*") => {
            // The prefix of a catch-all, which matches one character at least.
            if !before.is_empty() {
                let prefix = format!("/{}", sample.get(..before.len()).unwrap_or_default().join("/"));
                add(format!("{prefix}/"), &prefix, false);
            }
        }
        Some((last, _)) if !last.is_empty() => add(format!("{of}/"), &of, false),
        Some(_) | None => {}
    }
    if forwards {
        for (index, segment) in segments.iter().enumerate().filter(|(_, segment)| is_fixed(segment)) {
            add(replaced(index, &format!("{segment};x")), &of, true);
            add(replaced(index, &format!("%2F{segment}")), &of, true);
        }
        for index in 1..segments.len() {
            let (before, behind) = sample.split_at_checked(index).unwrap_or_default();
            add(format!("/{}%2F{}", before.join("/"), behind.join("/")), &of, true);
        }
        add(format!("/{}", sample.join("%2F")), &of, true);
    }
    variants
}

/// Returns the segment with the case of its first letter changed.
fn other_case(segment: &str) -> String {
    let mut changed = false;
    let swap = |c: char| {
        if changed || !c.is_ascii_alphabetic() {
            return c;
        }
        changed = true;
        if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }
    };
    segment.chars().map(swap).collect()
}

/// Returns whether two routes share a method. `HEAD` is answered wherever `GET` is.
fn shares_method(one: &Route, other: &Route) -> bool {
    let reads = |method: &str| matches!(method, "GET" | "HEAD");
    let is_same = |one: &str, other: &str| one == other || (reads(one) && reads(other));
    one.methods.iter().any(|method| other.methods.iter().any(|known| is_same(method, known)))
}

fn shares_upstream(one: &Route, other: &Route, upstreams: &[Upstream]) -> bool {
    let urls = |name: &str| -> HashSet<&str> {
        let named = upstreams.iter().filter(|upstream| upstream.name == name);
        let urls =
            named.flat_map(|upstream| upstream.url.iter().chain(upstream.targets.iter().map(|target| &target.url)));
        urls.map(|url| url.trim_end_matches('/')).collect()
    };
    one.upstream == other.upstream || !urls(&one.upstream).is_disjoint(&urls(&other.upstream))
}

/// Returns whether a service may read `variant`, as `looser` rewrites it, as `path`, as `strict`
/// rewrites it.
fn leads_to_same(strict: &Route, path: &str, looser: &Route, variant: &str) -> bool {
    let rewritten = |route: &Route, path: &str| match route.rewrite() {
        None => fold_path(path),
        Some((from, to)) => fold_path(&path.strip_prefix(from).map_or_else(String::new, |rest| format!("{to}{rest}"))),
    };
    rewritten(strict, path) == rewritten(looser, variant)
}

/// Returns whether `strict` permits every caller that `looser` permits, with the same rate limits and
/// revocation checks.
fn is_as_strict(
    looser: &Route,
    strict: &Route,
    issuers: &[Issuer],
    is_same_owner: &dyn Fn(&str, &str) -> bool,
) -> bool {
    let takes = |route: &Route, name: &String| route.issuers.as_ref().is_none_or(|taken| taken.contains(name));
    let all_taken = issuers.iter().all(|issuer| !takes(looser, &issuer.name) || takes(strict, &issuer.name));
    (strict.access == Access::Public || all_taken)
        && looser.access.implies(&strict.access, is_same_owner)
        && strict.limits.iter().all(|limit| looser.limits.contains(limit))
        && (looser.revocation == RevocationCheck::Strict || strict.revocation == RevocationCheck::Copy)
}

/// Returns the path that a lenient service may read: in lower case, with escaped slashes decoded, and
/// without parameters, empty segments, and dots and spaces at the end of a segment.
pub(crate) fn fold_path(path: &str) -> String {
    let slashes = path.replace("%2F", "/");
    let mut folded = String::with_capacity(path.len());
    for segment in slashes.split('/') {
        let name = segment.split(';').next().unwrap_or_default().split("%3B").next().unwrap_or_default();
        let mut name = name.trim_end_matches(['.', ' ']);
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

/// Returns a pattern for folded paths: in lower case, with parameters named by their position.
fn fold_pattern(pattern: &str) -> String {
    let mut folded = String::with_capacity(pattern.len());
    for (index, segment) in pattern.split('/').skip(1).enumerate() {
        // A folded path has no slash at the end.
        if index > 0 && segment.is_empty() {
            continue;
        }
        folded.push('/');
        if segment.starts_with("{*") {
            folded.push_str("{*rest}");
        } else if segment.starts_with('{') {
            folded.push_str(&format!("{{p{index}}}"));
        } else {
            folded.push_str(&segment.to_lowercase());
        }
    }
    folded
}

/// Finds the patterns that a lenient service may match with a path.
#[derive(Debug)]
pub(crate) struct Lenient(matchit::Router<Meant>);

#[derive(Debug, Default)]
struct Meant {
    patterns: Vec<String>,
    refuses: bool,
}

impl Lenient {
    /// Returns `None` when no route refuses variants.
    ///
    /// # Errors
    /// Two patterns collide once they are folded, such as `/a/{name}` and `/A/{*rest}`.
    pub(crate) fn of(routes: &[Route]) -> Result<Option<Self>, matchit::InsertError> {
        if routes.iter().all(|route| route.variants != Variants::Refuse) {
            return Ok(None);
        }
        let mut meant: BTreeMap<String, Meant> = BTreeMap::new();
        for route in routes {
            let entry = meant.entry(fold_pattern(&route.path)).or_default();
            entry.patterns.push(route.path.clone());
            entry.refuses |= route.variants == Variants::Refuse;
        }
        let whole: HashSet<String> = meant.keys().cloned().collect();
        for route in routes {
            // The prefix of the rest, with or without a slash.
            let folded = fold_pattern(&route.path);
            let Some(prefix) = folded.strip_suffix("/{*rest}").filter(|prefix| !prefix.is_empty()) else { continue };
            let entry = meant.entry(prefix.to_owned()).or_default();
            entry.refuses |= route.variants == Variants::Refuse;
            // If the prefix is a route, the rule of the rest does not apply to it.
            if !whole.contains(prefix) {
                entry.patterns.push(route.path.clone());
            }
        }
        let mut router = matchit::Router::new();
        for (pattern, meant) in meant {
            router.insert(pattern, meant)?;
        }
        Ok(Some(Self(router)))
    }

    /// Returns whether a path that `found` matches is a variant of a pattern that refuses variants.
    pub(crate) fn refuses(&self, path: &str, found: &str) -> bool {
        let folded = fold_path(path);
        self.0
            .at(&folded)
            .is_ok_and(|meant| meant.value.refuses && !meant.value.patterns.iter().any(|pattern| pattern == found))
    }
}
