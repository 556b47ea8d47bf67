//! The policy's routes as a radix tree (crate `matchit`). Of several patterns that match a path, the
//! one with a fixed segment wins over those with a parameter or a rest, whatever the order in the
//! file. The method is checked afterwards.

use std::collections::HashMap;

use crate::{
    access::Params,
    lenient::Lenient,
    model::{EncodedPath, Policy},
    reserved::{METADATA_PATH, is_below, is_own_path},
    sorted,
    target::{Target, decode},
};

/// Finds routes.
#[derive(Debug)]
pub struct Table {
    /// Indices into `entries`, because the code of a router exists once for each type of its values.
    paths: matchit::Router<usize>,
    /// The entries of each pattern.
    entries: Vec<Vec<Entry>>,
    /// Present if some route refuses variants of its path.
    lenient: Option<Lenient>,
    /// Whether the gateway answers at [`METADATA_PATH`].
    has_metadata: bool,
}

#[derive(Debug, Clone)]
struct Entry {
    method: String,
    route: usize,
    upstream: usize,
    /// Whether it accepts paths that are not plain.
    is_encoded: bool,
}

/// A matching route.
#[derive(Debug, PartialEq, Eq)]
pub struct Match {
    /// Index into the policy's routes.
    pub route: usize,
    /// Index into the policy's upstreams.
    pub upstream: usize,
    /// The path's parameters, percent-decoded once.
    pub params: Params,
}

/// The reason why no route matches.
#[derive(Debug, PartialEq, Eq)]
pub enum Miss {
    /// No route names this path.
    Path,
    /// The path is not plain and its route does not forward such paths, or it is a variant of a path
    /// that refuses variants.
    Ambiguous,
    /// Routes name the path, with these methods.
    Method {
        /// Value for `Allow`.
        allow: String,
        /// Index of one of these routes, which share the path.
        route: usize,
    },
}

/// The policy's routes make no table. Validation finds this first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableError;

impl Table {
    /// Builds the table.
    ///
    /// # Errors
    /// Two paths collide, or an upstream is not defined.
    pub fn build(policy: &Policy) -> Result<Self, TableError> {
        let mut grouped: HashMap<&str, Vec<Entry>> = HashMap::new();
        for (index, route) in policy.routes.iter().enumerate() {
            let upstream = policy.upstreams.binary_search_by(|upstream| upstream.name.cmp(&route.upstream));
            let upstream = upstream.map_err(|_| TableError)?;
            let is_encoded = route.encoded_path == EncodedPath::Forward;
            let methods = route.methods.iter().cloned();
            let entries = methods.map(|method| Entry { method, route: index, upstream, is_encoded });
            grouped.entry(&route.path).or_default().extend(entries);
        }
        let (mut paths, mut entries) = (matchit::Router::new(), Vec::with_capacity(grouped.len()));
        for (path, mut of_path) in grouped {
            // GET includes HEAD (RFC 9110, section 9.3.2), unless another route of the path names it.
            let named = |name| of_path.iter().find(|entry| entry.method == name);
            if let (Some(get), None) = (named("GET"), named("HEAD")) {
                of_path.push(Entry { method: "HEAD".to_owned(), ..get.clone() });
            }
            paths.insert(path, entries.len()).map_err(|_| TableError)?;
            entries.push(of_path);
        }
        let lenient = Lenient::of(&policy.routes).map_err(|_| TableError)?;
        Ok(Self { paths, entries, lenient, has_metadata: !policy.resources.is_empty() })
    }

    /// Returns whether a path is one of the gateway's own.
    pub fn is_own_path(&self, path: &str) -> bool {
        is_own_path(path) || (self.has_metadata && is_below(path, METADATA_PATH))
    }

    /// Finds the route for a method and a canonical target.
    ///
    /// # Errors
    /// [`Miss`].
    pub fn find(&self, method: &str, target: &Target) -> Result<Match, Miss> {
        let Ok(found) = self.paths.at(target.path()) else {
            return Err(if target.is_plain() { Miss::Path } else { Miss::Ambiguous });
        };
        let entries = self.entries.get(*found.value).map_or(&[][..], Vec::as_slice);
        let route = entries.first().map_or(usize::MAX, |entry| entry.route);
        let is_variant = self.lenient.as_ref().is_some_and(|lenient| lenient.refuses(target.path(), route));
        let takes = |entry: &&Entry| target.is_plain() || entry.is_encoded;
        if is_variant || !entries.iter().any(|entry| takes(&entry)) {
            return Err(Miss::Ambiguous);
        }
        // Methods are case-sensitive (RFC 9110, section 9.1): `get` is not GET.
        let Some(entry) = entries.iter().find(|entry| entry.method == method) else {
            let mut allow: Vec<&str> = Vec::new();
            entries.iter().for_each(|entry| sorted::insert(&mut allow, &entry.method));
            return Err(Miss::Method { allow: allow.join(", "), route });
        };
        if !takes(&entry) {
            return Err(Miss::Ambiguous);
        }
        // Valid, because the whole path's escapes are.
        let text_of = |value: &str| String::from_utf8(decode(value.as_bytes(), |_| {})).ok();
        let params = found.params.iter().filter_map(|(name, value)| Some((name.to_owned(), text_of(value)?)));
        Ok(Match { route: entry.route, upstream: entry.upstream, params: params.collect() })
    }
}
