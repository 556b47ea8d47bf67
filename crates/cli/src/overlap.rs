//! Which path pattern takes precedence where several match one path.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_policy::Policy;

/// The patterns of a policy, by what stands before one of their parameters.
pub(crate) struct Overlaps<'a>(BTreeMap<&'a str, BTreeSet<&'a str>>);

impl<'a> Overlaps<'a> {
    pub(crate) fn of(policy: &'a Policy) -> Self {
        let mut by_prefix: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for pattern in policy.routes.iter().map(|route| route.path.as_str()) {
            for prefix in pattern.match_indices("/{").filter_map(|(at, _)| pattern.get(..at)) {
                by_prefix.entry(prefix).or_default().insert(pattern);
            }
        }
        Self(by_prefix)
    }

    /// Returns the patterns over which `winner` takes precedence: some path matches both, and `winner` has
    /// a fixed segment where they first differ.
    pub(crate) fn outranked_by(&self, winner: &str) -> BTreeSet<&'a str> {
        let splits = winner.match_indices('/').filter_map(|(at, _)| winner.split_at_checked(at));
        let splits = splits.filter(|(_, rest)| !rest.starts_with("/{"));
        let outranked = splits.flat_map(|(prefix, rest)| {
            let candidates = self.0.get(prefix).into_iter().flatten();
            candidates.filter(move |other| other.get(prefix.len()..).is_some_and(|other| meets(rest, other)))
        });
        outranked.copied().collect()
    }
}

/// Returns whether some path matches both patterns. A path is a pattern without parameters.
pub(crate) fn meets(one: &str, other: &str) -> bool {
    let (mut ours, mut theirs) = (one.split('/'), other.split('/'));
    loop {
        match (ours.next(), theirs.next()) {
            (Some(our), Some(their)) if our == their => {}
            // Parameters match no empty segment.
            (Some(our), Some(their)) if our.is_empty() || their.is_empty() => return false,
            (Some(our), Some(their)) if our.starts_with("{*") || their.starts_with("{*") => return true,
            (Some(our), Some(their)) if our.starts_with('{') || their.starts_with('{') => {}
            (our, their) => return our.is_none() && their.is_none(),
        }
    }
}
