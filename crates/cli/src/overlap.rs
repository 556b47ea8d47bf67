//! Which path pattern takes precedence where several match one path.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_policy::Policy;

/// The patterns of a policy, each with its rest from a parameter on, by the shape of what stands before the parameter.
pub(crate) struct Overlaps<'a>(BTreeMap<Vec<&'a str>, BTreeSet<(&'a str, &'a str)>>);

impl<'a> Overlaps<'a> {
    pub(crate) fn of(policy: &'a Policy) -> Self {
        let mut by_shape: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for pattern in policy.routes.iter().map(|route| route.path.as_str()) {
            for (prefix, rest) in pattern.match_indices("/{").filter_map(|(at, _)| pattern.split_at_checked(at)) {
                by_shape.entry(shape(prefix)).or_default().insert((pattern, rest));
            }
        }
        Self(by_shape)
    }

    /// Returns the patterns over which `winner` takes precedence: some path matches both, and `winner` has
    /// a fixed segment where they first differ.
    pub(crate) fn outranked_by(&self, winner: &'a str) -> BTreeSet<&'a str> {
        let splits = winner.match_indices('/').filter_map(|(at, _)| winner.split_at_checked(at));
        let splits = splits.filter(|(_, rest)| !rest.starts_with("/{"));
        let candidates = splits.flat_map(|(prefix, rest)| {
            let others = self.0.get(&shape(prefix)).into_iter().flatten();
            others.filter(move |(_, other)| meets(rest, other))
        });
        candidates.map(|(pattern, _)| *pattern).collect()
    }
}

/// Returns the segments of a prefix without the names of parameters, which do not matter to what it matches.
fn shape(prefix: &str) -> Vec<&str> {
    prefix.split('/').map(|segment| if segment.starts_with('{') { "{}" } else { segment }).collect()
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
