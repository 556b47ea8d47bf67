//! The path patterns of a policy, as a tree of their segments: which of them match one path.

use std::collections::BTreeMap;

use portcullis_policy::Policy;

/// Key of a parameter, whatever its name.
const PARAMETER: &str = "{";
/// Key of a rest, whatever its name.
const REST: &str = "{*";

/// The patterns with common leading segments.
#[derive(Default)]
pub(crate) struct Patterns<'a> {
    /// The pattern that ends here.
    pattern: Option<&'a str>,
    /// By the next segment.
    following: BTreeMap<&'a str, Self>,
}

impl<'a> Patterns<'a> {
    pub(crate) fn of(policy: &'a Policy) -> Self {
        let mut patterns = Self::default();
        for route in &policy.routes {
            let last = route
                .path
                .split('/')
                .fold(&mut patterns, |node, segment| node.following.entry(key(segment)).or_default());
            last.pattern = Some(&route.path);
        }
        patterns
    }

    /// Returns the patterns that match a path, in alphabetical order.
    pub(crate) fn matching(&self, path: &str) -> Vec<&'a str> {
        self.find(path, true)
    }

    /// Returns the patterns over which `winner` takes precedence, in alphabetical order: some path
    /// matches both, and `winner` has a fixed segment where they first differ.
    pub(crate) fn outranked_by(&self, winner: &str) -> Vec<&'a str> {
        self.find(winner, false)
    }

    fn find(&self, text: &str, wins: bool) -> Vec<&'a str> {
        let segments: Vec<&str> = text.split('/').collect();
        let mut found = Vec::new();
        self.collect(&segments, wins, &mut found);
        found.sort_unstable();
        found
    }

    /// Collects the patterns that match some path of `segments`. `wins` says whether an earlier segment was
    /// fixed where these patterns have none; no other pattern is outranked.
    fn collect(&self, segments: &[&str], wins: bool, found: &mut Vec<&'a str>) {
        let Some((segment, rest)) = segments.split_first() else {
            found.extend(self.pattern.filter(|_| wins));
            return;
        };
        let mut follow = |key: &str, rest: &[&str], wins| {
            if let Some(next) = self.following.get(key) {
                next.collect(rest, wins, found);
            }
        };
        match key(segment) {
            PARAMETER if !wins => follow(PARAMETER, rest, false),
            REST if !wins => {}
            open @ (PARAMETER | REST) => {
                for (other, next) in &self.following {
                    next.collect(if *other == REST { &[] } else { rest }, wins, found);
                    if open == REST {
                        next.collect(segments, wins, found);
                    }
                }
            }
            // The end of `/`. Parameters and rests match no empty segment.
            "" => follow("", rest, wins),
            fixed => {
                follow(fixed, rest, wins);
                follow(PARAMETER, rest, true);
                follow(REST, &[], true);
            }
        }
    }
}

fn key(segment: &str) -> &str {
    match segment {
        _ if segment.starts_with(REST) => REST,
        _ if segment.starts_with(PARAMETER) => PARAMETER,
        _ => segment,
    }
}
