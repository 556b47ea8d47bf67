//! Other paths to the service's path behind a strict route.
//!
//! - Variants of the route's path, which many services treat as the path itself: with `/app/admin` for
//!   administrators and `/app/{*rest}` for every user, every user may call `/app/Admin`.
//! - Paths that a looser route rewrites to the same path: with `strip_prefix = "/shop"`, every user of
//!   `/shop/{*rest}` may call `/admin` as `/shop/admin`.
//!
//! Owns how these paths are made, and which of them bypass a stricter rule.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
};

use crate::{
    access::Access,
    lenient::fold_path,
    model::{EncodedPath, Policy, RevocationCheck, Route, Variants},
};

/// A route whose rule does not apply to other paths that lead to the same path of the service.
pub(super) struct Bypass<'a> {
    /// Index of the route.
    pub(super) route: usize,
    /// The route that matches these paths.
    looser: &'a Route,
    paths: Vec<String>,
    /// Whether the looser route rewrites them, so that they are no variants of the route's path.
    is_rewritten: bool,
}

impl fmt::Display for Bypass<'_> {
    /// Writes the message for the policy's author.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (paths, looser) = (self.paths.join(", "), &self.looser.path);
        let is_one = self.paths.len() == 1;
        if self.is_rewritten {
            let verb = if is_one { "reaches" } else { "reach" };
            return write!(
                formatter,
                "{paths} {verb} the same path of the service through the looser route {looser:?}; give both the same \
                 rule, or write variants = {{ allow = \"why its callers may do so\" }}"
            );
        }
        let verb = if is_one { "matches" } else { "match" };
        write!(
            formatter,
            "{paths} {verb} the looser route {looser:?}, and a service may take that for the path of this route; write \
             variants = \"refuse\" (then it is 400), or variants = {{ allow = \"why the service does not\" }}"
        )
    }
}

/// Returns every bypass of a route's rule.
pub(super) fn find_bypasses(policy: &Policy) -> Vec<Bypass<'_>> {
    let search = Search::new(policy);
    let routes = policy.routes.iter().enumerate();
    routes.flat_map(|(index, route)| search.bypasses_of(index, route)).collect()
}

struct Search<'a> {
    policy: &'a Policy,
    router: matchit::Router<Vec<&'a Route>>,
    /// URLs by the upstream's name.
    urls: HashMap<&'a str, Vec<&'a str>>,
    /// By the URL of their upstream.
    rewrites: HashMap<&'a str, Vec<Rewrites<'a>>>,
    has_encoded_paths: bool,
}

/// Prefixes that routes with the same rule replace. Grouped, because thousands of routes may have a
/// prefix of their own, but few rules.
struct Rewrites<'a> {
    rule: &'a Route,
    /// To and from.
    prefixes: BTreeSet<(&'a str, &'a str)>,
}

impl<'a> Search<'a> {
    fn new(policy: &'a Policy) -> Self {
        let mut urls: HashMap<&str, Vec<&str>> = HashMap::new();
        for upstream in &policy.upstreams {
            let places = upstream.url.iter().chain(upstream.targets.iter().map(|target| &target.url));
            urls.entry(&upstream.name).or_default().extend(places.map(|url| url.trim_end_matches('/')));
        }
        // Most policies rewrite nothing; then no two paths lead to the same one.
        let has_rewrites = policy.routes.iter().any(|route| route.rewrite().is_some());
        let mut by_path: BTreeMap<&str, Vec<&Route>> = BTreeMap::new();
        let mut rewrites: HashMap<&str, Vec<Rewrites<'_>>> = HashMap::new();
        for route in &policy.routes {
            by_path.entry(&route.path).or_default().push(route);
            if !has_rewrites {
                continue;
            }
            let (from, to) = route.rewrite().unwrap_or_default();
            for &url in urls.get(route.upstream.as_str()).into_iter().flatten() {
                let rules = rewrites.entry(url).or_default();
                match rules.iter_mut().find(|known| have_same_rule(known.rule, route)) {
                    Some(known) => _ = known.prefixes.insert((to, from)),
                    None => rules.push(Rewrites { rule: route, prefixes: [(to, from)].into() }),
                }
            }
        }
        let mut router = matchit::Router::new();
        for (path, routes) in by_path {
            // Paths that collide are reported elsewhere.
            let _ = router.insert(path, routes);
        }
        let has_encoded_paths = policy.routes.iter().any(|route| route.encoded_path == EncodedPath::Forward);
        Self { policy, router, urls, rewrites, has_encoded_paths }
    }

    fn urls_of(&self, route: &Route) -> &[&'a str] {
        self.urls.get(route.upstream.as_str()).map_or(&[], Vec::as_slice)
    }

    fn bypasses_of(&self, index: usize, strict: &Route) -> Vec<Bypass<'a>> {
        let mut found: Vec<Bypass<'a>> = Vec::new();
        let sample = Sample::of(&strict.path);
        let mut candidates = Vec::new();
        if strict.variants.is_none() {
            candidates = sample.variants(self.has_encoded_paths);
        }
        if !matches!(strict.variants, Some(Variants::Allow { .. })) {
            candidates.extend(self.rewritten_to(strict, &sample.path()));
        }
        for Candidate { path, of, needs_encoded_path, is_rewritten } in candidates {
            let Ok(matched) = self.router.at(&path) else { continue };
            let is_same_owner = |ours: &str, theirs: &str| {
                matched.params.get(ours).is_some_and(|value| sample.value_of(theirs) == Some(value))
            };
            for &looser in matched.value {
                let is_bypass = looser.path != strict.path
                    && (!needs_encoded_path || looser.encoded_path == EncodedPath::Forward)
                    && shares_method(looser, strict)
                    && self.share_service(looser, strict)
                    && fold_path(&rewritten(strict, &of)) == fold_path(&rewritten(looser, &path))
                    && !self.is_as_strict(looser, strict, &is_same_owner);
                if !is_bypass {
                    continue;
                }
                let is_known =
                    |one: &&mut Bypass<'_>| std::ptr::eq(one.looser, looser) && one.is_rewritten == is_rewritten;
                match found.iter_mut().find(is_known) {
                    Some(known) => known.paths.push(path.clone()),
                    None => found.push(Bypass { route: index, looser, paths: vec![path.clone()], is_rewritten }),
                }
            }
        }
        found
    }

    /// Returns the paths that less strict routes to the same service rewrite to the upstream's path for
    /// `sample`.
    fn rewritten_to(&self, strict: &Route, sample: &str) -> Vec<Candidate> {
        let target = rewritten(strict, sample);
        let rewrites = self.urls_of(strict).iter().filter_map(|url| self.rewrites.get(url)).flatten();
        let looser = rewrites.filter(|Rewrites { rule, .. }| {
            shares_method(rule, strict) && !self.is_as_strict(rule, strict, &|_, _| false)
        });
        let paths = looser.flat_map(|looser| &looser.prefixes).filter_map(|(to, from)| {
            let rest = target.strip_prefix(to)?;
            // A route that takes nothing but the prefix.
            let rest = if rest == "/" && !from.is_empty() { "" } else { rest };
            (rest.is_empty() || rest.starts_with('/')).then(|| format!("{from}{rest}"))
        });
        let paths: BTreeSet<String> = paths.filter(|path| path != sample).collect();
        let candidate = |path| Candidate { path, of: sample.to_owned(), needs_encoded_path: false, is_rewritten: true };
        paths.into_iter().map(candidate).collect()
    }

    fn share_service(&self, one: &Route, other: &Route) -> bool {
        one.upstream == other.upstream || self.urls_of(one).iter().any(|url| self.urls_of(other).contains(url))
    }

    /// Returns whether `strict` permits every caller that `looser` permits, with the same rate limits and
    /// revocation checks.
    fn is_as_strict(&self, looser: &Route, strict: &Route, is_same_owner: &dyn Fn(&str, &str) -> bool) -> bool {
        let takes = |route: &Route, name: &String| route.issuers.as_ref().is_none_or(|taken| taken.contains(name));
        let mut names = self.policy.issuers.iter().map(|issuer| &issuer.name);
        (strict.access == Access::Public || names.all(|name| !takes(looser, name) || takes(strict, name)))
            && looser.access.implies(&strict.access, is_same_owner)
            && strict.limits.iter().all(|limit| looser.limits.contains(limit))
            && (looser.revocation == RevocationCheck::Strict || strict.revocation == RevocationCheck::Copy)
    }
}

/// A path that may lead to the same path of the service as a strict route.
struct Candidate {
    path: String,
    /// The path of the strict route that it stands for.
    of: String,
    /// Whether only routes that forward encoded paths match it.
    needs_encoded_path: bool,
    /// Whether a route rewrites it.
    is_rewritten: bool,
}

/// A path that a pattern matches: its parameters are `~0`, `~1` and so on, which no fixed segment of a
/// policy is likely to be.
struct Sample<'a> {
    pattern: Vec<&'a str>,
    segments: Vec<String>,
}

impl<'a> Sample<'a> {
    fn of(pattern: &'a str) -> Self {
        let pattern: Vec<&str> = pattern.split('/').skip(1).collect();
        let mut numbers = 0..;
        let segments = pattern.iter().map(|segment| match parameter(segment) {
            Some(_) => format!("~{}", numbers.next().unwrap_or_default()),
            None => (*segment).to_owned(),
        });
        Self { segments: segments.collect(), pattern }
    }

    fn path(&self) -> String {
        format!("/{}", self.segments.join("/"))
    }

    /// Returns the value of a parameter.
    fn value_of(&self, param: &str) -> Option<&str> {
        let at = self.pattern.iter().position(|segment| parameter(segment) == Some(param))?;
        self.segments.get(at).map(String::as_str)
    }

    /// Returns the path with another text for a segment.
    fn with(&self, at: usize, text: &str) -> String {
        let segments = self.segments.iter().enumerate();
        let segments: Vec<&str> = segments.map(|(index, own)| if index == at { text } else { own.as_str() }).collect();
        format!("/{}", segments.join("/"))
    }

    /// Returns variants of each kind.
    fn variants(&self, has_encoded_paths: bool) -> Vec<Candidate> {
        let whole = self.path();
        let fixed =
            self.pattern.iter().enumerate().filter(|(_, segment)| !segment.is_empty() && !segment.starts_with('{'));
        let variant = |needs_encoded_path| {
            let of = whole.clone();
            move |path| Candidate { path, of: of.clone(), needs_encoded_path, is_rewritten: false }
        };
        let other = |segment: &str| match other_case(segment) {
            same if same == segment => format!("{segment}."),
            other => other,
        };
        let mut found: Vec<Candidate> =
            fixed.clone().map(|(at, segment)| self.with(at, &other(segment))).map(variant(false)).collect();
        match self.pattern.split_last() {
            // The prefix of a catch-all, which matches one character at least.
            Some((last, before)) if last.starts_with("{*") && !before.is_empty() => {
                let of = format!("/{}", self.segments.get(..before.len()).unwrap_or_default().join("/"));
                found.push(Candidate { path: format!("{of}/"), of, needs_encoded_path: false, is_rewritten: false });
            }
            Some((last, _)) if !last.starts_with("{*") && !last.is_empty() => {
                found.push(variant(false)(format!("{whole}/")));
            }
            Some(_) | None => {}
        }
        if has_encoded_paths {
            let in_segment = fixed.flat_map(|(at, segment)| {
                [self.with(at, &format!("{segment};x")), self.with(at, &format!("%2F{segment}"))]
            });
            let slashes = (1..self.segments.len()).filter_map(|at| self.segments.split_at_checked(at));
            let slashes = slashes.map(|(before, behind)| format!("/{}%2F{}", before.join("/"), behind.join("/")));
            let all = (self.segments.len() > 2).then(|| format!("/{}", self.segments.join("%2F")));
            found.extend(in_segment.chain(slashes).chain(all).map(variant(true)));
        }
        found
    }
}

/// Returns the name of a parameter's segment.
fn parameter(segment: &str) -> Option<&str> {
    let inner = segment.strip_prefix('{')?.strip_suffix('}')?;
    Some(inner.strip_prefix('*').unwrap_or(inner))
}

/// Returns the segment with the case of its first letter changed.
fn other_case(segment: &str) -> String {
    let Some(at) = segment.find(|c: char| c.is_ascii_alphabetic()) else { return segment.to_owned() };
    let (before, rest) = segment.split_at_checked(at).unwrap_or_default();
    let (letter, rest) = rest.split_at_checked(1).unwrap_or_default();
    let upper = letter.to_ascii_uppercase();
    let other = if upper == letter { letter.to_ascii_lowercase() } else { upper };
    format!("{before}{other}{rest}")
}

/// Returns whether two routes share a method. `HEAD` is answered wherever `GET` is.
fn shares_method(one: &Route, other: &Route) -> bool {
    fn read(method: &str) -> &str {
        if method == "HEAD" { "GET" } else { method }
    }
    one.methods.iter().any(|method| other.methods.iter().any(|known| read(method) == read(known)))
}

/// Returns whether two routes permit the same requests, apart from their paths.
fn have_same_rule(one: &Route, other: &Route) -> bool {
    one.access == other.access
        && one.methods == other.methods
        && one.issuers == other.issuers
        && one.limits == other.limits
        && one.revocation == other.revocation
}

/// Returns a route's path as the upstream gets it.
fn rewritten(route: &Route, path: &str) -> String {
    let (from, to) = route.rewrite().unwrap_or_default();
    let rest = path.strip_prefix(from).unwrap_or_default();
    if to.is_empty() && rest.is_empty() { "/".to_owned() } else { format!("{to}{rest}") }
}
