//! Which path pattern takes precedence where several match one path.

use std::collections::BTreeSet;

use portcullis_policy::Policy;

/// Returns each pattern that takes precedence over others, with those others, both in
/// alphabetical order.
pub(crate) fn find(policy: &Policy) -> Vec<(&str, Vec<&str>)> {
    let paths: BTreeSet<&str> = policy.routes.iter().map(|route| route.path.as_str()).collect();
    let outranked = |winner| paths.iter().copied().filter(|other| precedes(winner, other)).collect::<Vec<_>>();
    let winners = paths.iter().map(|winner| (*winner, outranked(*winner)));
    winners.filter(|(_, others)| !others.is_empty()).collect()
}

/// Whether some path matches both patterns and goes to `winner`, which has a fixed segment
/// where they first differ.
fn precedes(winner: &str, other: &str) -> bool {
    let (mut ours, mut theirs) = (winner.split('/'), other.split('/'));
    let mut wins = false;
    loop {
        let (our, their) = match (ours.next(), theirs.next()) {
            (None, None) => return wins,
            (Some(our), Some(their)) => (our, their),
            (None, Some(_)) | (Some(_), None) => return false,
        };
        let (is_our_open, is_their_open) = (our.starts_with('{'), their.starts_with('{'));
        if their.starts_with("{*") {
            // The rest matches all further segments of `winner`.
            return (wins || !is_our_open) && !our.is_empty();
        }
        if our.starts_with("{*") {
            return wins;
        }
        match (is_our_open, is_their_open) {
            (false, false) if our != their => return false,
            (false, true) => wins = true,
            (true, false) if !wins => return false,
            (true | false, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_segment_wins_where_two_paths_first_differ() {
        for (one, other, expected) in [
            ("/users/me", "/users/{id}", true),
            ("/users/{id}", "/users/me", false),
            ("/app/admin", "/app/{*rest}", true),
            ("/app/admin/{*rest}", "/app/{*rest}", true),
            ("/app/{*rest}", "/app/admin/{*rest}", false),
            ("/app/{*rest}", "/{*rest}", true),
            ("/app", "/app/{*rest}", false),
            ("/", "/{*rest}", false),
            ("/{a}/x", "/b/{c}", false),
            ("/b/{c}", "/{a}/x", true),
            ("/b/y", "/{a}/x", false),
            ("/users/me", "/users/{id}/posts", false),
            ("/a", "/b", false),
            ("/{x}/a", "/{x}/{y}", true),
        ] {
            assert_eq!(precedes(one, other), expected, "{one} {other}");
        }
    }
}
