//! Other paths to the service's path behind a strict route.
//!
//! - Variants of the route's path, which many services treat as the path itself: with `/app/admin` for
//!   administrators and `/app/{*rest}` for every user, every user may call `/app/Admin`.
//! - Paths that a looser route rewrites to the same path: with `strip_prefix = "/shop"`, every user of
//!   `/shop/{*rest}` may call `/admin` as `/shop/admin`.
//!
//! Unifies the patterns of two routes, as the upstream gets them. Reports a path only if the table sends
//! it to the looser route, and the path that it stands for to the strict one.

use std::{cell::Cell, collections::HashMap, iter};

use crate::{
    access::{Access, RequestClaim},
    lenient::fold_path,
    limits,
    model::{EncodedPath, METHODS, Policy, RevocationCheck, Route, Variants},
    sorted,
    table::{Match, Table},
    target::Target,
    url::place,
};

/// Returns the index of each route whose rule other paths bypass, with the message for the policy's
/// author, up to [`limits::BYPASSES`].
pub(super) fn find_bypasses(policy: &Policy, table: &Table) -> Vec<(usize, String)> {
    let search = Search::new(policy, table);
    let routes = policy.routes.iter().enumerate();
    let checked = routes.filter(|(_, route)| !matches!(route.variants, Some(Variants::Allow { .. })));
    let checked = checked.take_while(|_| search.steps.get() > 0);
    let found = checked.flat_map(|(index, route)| search.bypasses_of(index, route));
    let mut found: Vec<_> = found.take(limits::BYPASSES).collect();
    if search.steps.get() == 0 {
        let fault = "so many routes lead to the same paths of a service that their rules cannot be compared; make the \
                     paths differ in fixed segments, or write variants = { allow = \"why no path bypasses a rule\" }";
        found.push((0, fault.to_owned()));
    }
    found
}

struct Search<'a> {
    policy: &'a Policy,
    table: &'a Table,
    /// Where the service is, by the upstream's name: hosts and ports, and its binding. Upstreams with one binding are one
    /// service, whatever their URLs.
    places: HashMap<&'a str, Vec<String>>,
    families: Vec<Family<'a>>,
    /// The families at each of these.
    by_place: HashMap<String, Patterns>,
    has_encoded_paths: bool,
    /// Steps that are left.
    steps: Cell<u32>,
}

/// Takes a step of a search; false if none is left.
fn take(steps: &Cell<u32>) -> bool {
    steps.replace(steps.get().saturating_sub(1)) > 0
}

/// Routes that differ only in the replaced prefix and in parameter names. Thousands of routes may have a
/// prefix of their own.
struct Family<'a> {
    /// Segments of the path as the upstream gets it.
    pattern: Vec<String>,
    rule: &'a Route,
    routes: Vec<(usize, &'a Route)>,
}

/// Indices of families, as a tree by the segments of their patterns.
#[derive(Default)]
struct Patterns {
    families: Vec<usize>,
    /// In the order of the segments.
    longer: Vec<(String, Patterns)>,
}

impl Patterns {
    fn insert(&mut self, pattern: &[String], family: usize) {
        match pattern.split_first() {
            Some((first, rest)) => {
                if let Some(longer) = sorted::entry(&mut self.longer, step(first)) {
                    longer.insert(rest, family);
                }
            }
            None => self.families.push(family),
        }
    }

    fn add_to(&self, found: &mut Vec<usize>) {
        self.families.iter().for_each(|family| sorted::insert(found, *family));
    }

    fn after(&self, step: &str) -> Option<&(String, Self)> {
        self.longer.get(self.longer.binary_search_by(|(known, _)| known.as_str().cmp(step)).ok()?)
    }

    /// Finds the families whose patterns can be unified with one. Each pattern that it visits is a step.
    fn find(&self, pattern: &[String], found: &mut Vec<usize>, steps: &Cell<u32>) {
        if !take(steps) {
            return;
        }
        let Some((first, rest)) = pattern.split_first() else { return self.add_to(found) };
        let wanted = step(first);
        let fixed = [PARAMETER, REST, &wanted].map(|step| self.after(step));
        let any = self.longer.iter().filter(|_| is_parameter(first));
        for (step, longer) in any.chain(fixed.into_iter().flatten().filter(|_| !is_parameter(first))) {
            if is_rest(first) || is_rest(step) {
                longer.all(found, steps);
            } else {
                longer.find(rest, found, steps);
            }
        }
    }

    fn all(&self, found: &mut Vec<usize>, steps: &Cell<u32>) {
        if take(steps) {
            self.add_to(found);
            self.longer.iter().for_each(|(_, longer)| longer.all(found, steps));
        }
    }
}

impl<'a> Search<'a> {
    fn new(policy: &'a Policy, table: &'a Table) -> Self {
        let places = policy.upstreams.iter().map(|upstream| {
            let urls = upstream.url.iter().chain(upstream.targets.iter().map(|target| &target.url));
            let mut places: Vec<String> = urls.map(|url| place(url)).collect();
            // No host and port: those end with a number.
            places.extend(upstream.binding.as_ref().map(|binding| ["binding:", binding].concat()));
            (upstream.name.as_str(), places)
        });
        let places: HashMap<&str, Vec<String>> = places.collect();
        let (mut families, mut by_place): (Vec<Family<'_>>, HashMap<_, Patterns>) = (Vec::new(), HashMap::new());
        let mut known: HashMap<String, usize> = HashMap::new();
        for (index, route) in policy.routes.iter().enumerate() {
            let pattern = upstream_pattern(route);
            let next = families.len();
            let at = *known.entry(format!("{pattern:?} {}", rule_of(route))).or_insert(next);
            if let Some(family) = families.get_mut(at) {
                family.routes.push((index, route));
                continue;
            }
            for place in places.get(route.upstream.as_str()).into_iter().flatten() {
                by_place.entry(place.clone()).or_default().insert(&pattern, at);
            }
            families.push(Family { pattern, rule: route, routes: vec![(index, route)] });
        }
        let has_encoded_paths = policy.routes.iter().any(|route| route.encoded_path == EncodedPath::Forward);
        Self { policy, table, places, families, by_place, has_encoded_paths, steps: Cell::new(limits::SEARCH_STEPS) }
    }

    fn bypasses_of(&self, index: usize, strict: &'a Route) -> impl Iterator<Item = (usize, String)> {
        let forms = forms(upstream_pattern(strict), self.has_encoded_paths);
        let mut families = Vec::new();
        let patterns = self
            .places
            .get(strict.upstream.as_str())
            .into_iter()
            .flatten()
            .filter_map(|place| self.by_place.get(place));
        for patterns in patterns {
            forms.iter().for_each(|form| patterns.find(form, &mut families, &self.steps));
        }
        families.into_iter().filter_map(move |at| {
            let family = self.families.get(at)?;
            if !take(&self.steps) || self.is_as_strict(family.rule, strict, |_, _| false) {
                return None;
            }
            let mut forms = forms.iter().take_while(|_| take(&self.steps));
            Some((index, forms.find_map(|form| self.bypass(index, strict, form, family))?))
        })
    }

    /// Returns the message about the first route of a looser family that matches other paths to the
    /// service's path.
    fn bypass(&self, index: usize, strict: &Route, form: &[String], family: &Family<'_>) -> Option<String> {
        let unified = Unified::of(form, &family.pattern)?;
        let (meant, variants) = (join(&unified.looser), unified.variants(form, family));
        let whole = client_path(strict, &join(&unified.strict).replace("%2F", "/"))?;
        // `HEAD` is answered wherever `GET` is.
        let takes =
            |method: &&str| family.rule.methods.iter().any(|own| own == *method || (own == "GET" && *method == "HEAD"));
        let (method, ours) =
            METHODS.into_iter().filter(takes).find_map(|method| Some((method, self.find(method, &whole, index)?)))?;
        // The rule of a route for this one path of the service is an exception that its author wants.
        let is_exception = unified.is_narrower && unified.strict == unified.looser;
        let others = family.routes.iter().filter(|(_, looser)| looser.path != strict.path);
        let others = others.filter(|(_, looser)| !is_exception || looser.rewrite().is_some());
        for &(at, looser) in others.take_while(|_| take(&self.steps)) {
            // Whether the rule of the strict route applies to a path; `None` if another route matches it.
            let applies = |path: &String| {
                let theirs = self.find(method, path, at)?;
                let is_same_owner = |their: &str, our: &str| {
                    let is_ours = |value: &String| ours.params.contains(&(our.to_owned(), value.clone()));
                    theirs.params.iter().any(|(name, value)| name == their && is_ours(value))
                };
                Some(self.is_as_strict(looser, strict, is_same_owner))
            };
            let mut is_matched = false;
            // A path that needs no variant says it all.
            for upstream_paths in [std::slice::from_ref(&meant), &variants] {
                let mut paths: Vec<String> =
                    upstream_paths.iter().filter_map(|path| client_path(looser, path)).collect();
                paths.retain(|path| {
                    let applies = applies(path);
                    is_matched |= applies.is_some();
                    applies == Some(false)
                });
                if !paths.is_empty() {
                    return Some(message(&paths, strict, looser));
                }
            }
            // The others of the family have the same rule and the same parameters.
            if is_matched {
                return None;
            }
        }
        None
    }

    /// Returns the match of a path if it is the wanted route's.
    fn find(&self, method: &str, path: &str, wanted: usize) -> Option<Match> {
        let target = Target::parse(path).ok()?;
        self.table.find(method, &target).ok().filter(|found| found.route == wanted)
    }

    /// Returns whether `strict` permits every caller that `looser` permits, with the same rate limits,
    /// revocation checks and validation. Routes with an authorizer never count as equal, because its decisions are about
    /// a route.
    fn is_as_strict(&self, looser: &Route, strict: &Route, is_same_owner: impl Fn(&str, &str) -> bool) -> bool {
        let accepts_issuers_of = |taken: &Vec<String>| match &looser.issuers {
            Some(names) => names.iter().all(|name| taken.contains(name)),
            None => self.policy.issuers.iter().all(|issuer| taken.contains(&issuer.name)),
        };
        let comparisons = Cell::new(limits::ACCESS_COMPARISONS);
        let implies = || {
            let implies = looser.access.implies(&strict.access, &is_same_owner, &comparisons);
            let used = limits::ACCESS_COMPARISONS.saturating_sub(comparisons.get());
            self.steps.set(self.steps.get().saturating_sub(used));
            implies
        };
        (looser.revocation == RevocationCheck::Strict || strict.revocation == RevocationCheck::Copy)
            && looser.proof >= strict.proof
            && (looser.validate || !strict.validate)
            // It would be asked about another route.
            && strict.authorizer.is_none()
            && strict.limits.iter().all(|limit| looser.limits.contains(limit))
            && implies()
            && (strict.access == Access::Public || strict.issuers.as_ref().is_none_or(accepts_issuers_of))
    }
}

/// A path that two patterns match, as each route's upstream gets it. A segment that both leave open is
/// `~0`, `~1` and so on, which no fixed segment of a policy is likely to be.
#[derive(Default)]
struct Unified {
    strict: Vec<String>,
    looser: Vec<String>,
    /// Where the strict pattern has a fixed segment, and the looser one takes any.
    open: Vec<usize>,
    /// Whether the looser pattern has a fixed segment where the strict one takes any.
    is_narrower: bool,
}

impl Unified {
    fn of(strict: &[String], looser: &[String]) -> Option<Self> {
        let mut unified = Self::default();
        let mut samples = (0..).map(|number| format!("~{number}"));
        for at in 0..strict.len().max(looser.len()) {
            let (one, other) = (segment_at(strict, at)?, segment_at(looser, at)?);
            let (one, other) = match (is_parameter(one), is_parameter(other)) {
                (true, true) => {
                    let sample = samples.next()?;
                    (sample.clone(), sample)
                }
                (true, false) => {
                    unified.is_narrower = true;
                    (other.clone(), other.clone())
                }
                (false, true) => {
                    unified.open.push(at);
                    (one.clone(), one.clone())
                }
                (false, false) if fold_path(one) == fold_path(other) => (one.clone(), other.clone()),
                (false, false) => return None,
            };
            unified.strict.push(one);
            unified.looser.push(other);
        }
        Some(unified)
    }

    /// Returns spellings that many services read as the path, of each kind.
    fn variants(&self, strict: &[String], looser: &Family<'_>) -> Vec<String> {
        let mut spellings: Vec<fn(&str) -> String> = vec![other_case];
        if looser.rule.encoded_path == EncodedPath::Forward {
            spellings.push(|segment| format!("{segment};x"));
            spellings.push(|segment| format!("%2F{segment}"));
        }
        let all = (self.open.len() > 1).then_some(self.open.as_slice());
        let mut found = Vec::new();
        for spell in spellings {
            for places in self.open.chunks(1).chain(all) {
                let segments = self.looser.iter().enumerate();
                let spelt = segments.map(|(at, own)| if places.contains(&at) { spell(own) } else { own.clone() });
                found.push(join(&spelt.collect::<Vec<_>>()));
            }
        }
        // With a slash at its end; of a rest, which has one character at least, without it.
        let rest = strict.iter().position(|segment| is_rest(segment)).unwrap_or(self.looser.len());
        found.push(format!("{}/", join(self.looser.get(..rest).unwrap_or_default())));
        found
    }
}

/// Returns the message for the policy's author.
fn message(paths: &[String], strict: &Route, looser: &Route) -> String {
    let end = if paths.len() == 1 { "es" } else { "" };
    let (paths, route) = (paths.join(", "), &looser.path);
    // Paths that are rewritten differently are no variants of the route's path.
    if strict.rewrite() != looser.rewrite() {
        return format!(
            "{paths} reach{end} the same path of the service through the looser route {route:?}; give both the same \
             rule, or write variants = {{ allow = \"why its callers may do so\" }}"
        );
    }
    format!(
        "{paths} match{end} the looser route {route:?}, and a service may take that for the path of this route; write \
         variants = \"refuse\" (then it is 400), or variants = {{ allow = \"why the service does not\" }}"
    )
}

/// A segment with a parameter, whatever its name.
const PARAMETER: &str = "{}";

/// A segment with a rest.
const REST: &str = "{*}";

/// Returns a route's pattern as its upstream gets it, in segments.
fn upstream_pattern(route: &Route) -> Vec<String> {
    let (from, to) = route.rewrite().unwrap_or_default();
    let rest = route.path.strip_prefix(from).unwrap_or_default();
    let segments = to.split('/').chain(rest.split('/')).filter(|segment| !segment.is_empty());
    let nameless = segments.map(|segment| match (is_rest(segment), is_parameter(segment)) {
        (true, _) => REST,
        (false, true) => PARAMETER,
        (false, false) => segment,
    });
    nameless.map(str::to_owned).collect()
}

/// Returns a segment as a lenient service reads it: what it is compared by.
fn step(segment: &str) -> String {
    if is_parameter(segment) { segment.to_owned() } else { fold_path(segment) }
}

/// Returns a pattern, and what it is for a service that decodes escaped slashes.
fn forms(pattern: Vec<String>, has_encoded_paths: bool) -> Vec<Vec<String>> {
    let joined = |from: usize, to: usize| {
        let sample = |segment: &String| if is_parameter(segment) { "~".to_owned() } else { segment.clone() };
        let part = pattern.get(from..to)?.iter().map(sample).collect::<Vec<_>>().join("%2F");
        Some([pattern.get(..from)?, &[part], pattern.get(to..)?].concat())
    };
    let most = if has_encoded_paths { pattern.len() } else { 0 };
    let pairs = (2..=most).filter_map(|to| joined(to.checked_sub(2)?, to));
    let all = joined(0, most).filter(|_| most > 2);
    let joined: Vec<_> = pairs.chain(all).collect();
    iter::once(pattern).chain(joined).collect()
}

/// Returns the client's path for a path of the upstream.
fn client_path(route: &Route, path: &str) -> Option<String> {
    let (from, to) = route.rewrite().unwrap_or_default();
    let path = format!("{from}{}", path.strip_prefix(to)?);
    Some(if path.is_empty() { "/".to_owned() } else { path })
}

fn join(segments: &[String]) -> String {
    segments.iter().map(|segment| format!("/{segment}")).collect()
}

/// Returns a segment of a pattern. A rest stands for each segment from its place on.
fn segment_at(pattern: &[String], at: usize) -> Option<&String> {
    pattern.get(at).or_else(|| pattern.last().filter(|last| is_rest(last)))
}

fn is_parameter(segment: &str) -> bool {
    segment.starts_with('{')
}

fn is_rest(segment: &str) -> bool {
    segment.starts_with("{*")
}

/// Returns the segment with the case of its first letter changed, or with a dot at its end.
fn other_case(segment: &str) -> String {
    let Some(letter) = segment.chars().find(char::is_ascii_alphabetic) else { return format!("{segment}.") };
    let other = if letter.is_ascii_lowercase() { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() };
    segment.replacen(letter, &other.to_string(), 1)
}

/// Returns which requests a route permits, apart from their paths, as a key for comparison.
fn rule_of(route: &Route) -> String {
    let Route {
        upstream, access, methods, issuers, authorizer, limits, revocation, proof, validate, encoded_path, ..
    } = route;
    let access = with_positions(access, &route.path);
    format!("{:?}", (upstream, access, methods, issuers, authorizer, limits, revocation, proof, validate, encoded_path))
}

/// Returns a rule with the position of each parameter that it names, from the end of the path, for its name.
fn with_positions(access: &Access, path: &str) -> Access {
    let each = |rules: &[Access]| rules.iter().map(|rule| with_positions(rule, path)).collect();
    let position = |name: &String| {
        let is_named = |segment: &str| segment.trim_matches(['{', '*', '}']) == name && is_parameter(segment);
        format!("{:?}", path.rsplit('/').position(is_named))
    };
    match access {
        Access::Owner(name) => Access::Owner(position(name)),
        Access::RequestClaim(rule) => {
            let equals_path = rule.equals_path.as_ref().map(position);
            Access::RequestClaim(RequestClaim { equals_path, ..rule.clone() })
        }
        Access::Any(rules) => Access::Any(each(rules)),
        Access::All(rules) => Access::All(each(rules)),
        Access::Public
        | Access::User
        | Access::Roles(_)
        | Access::Scopes(_)
        | Access::Claim(_)
        | Access::Country(_)
        | Access::Network(_)
        | Access::MaxAge(_)
        | Access::Acr(_) => access.clone(),
    }
}
