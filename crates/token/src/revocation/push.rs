//! The body by which an issuer revokes its tokens.
//!
//! ```json
//! {"revocations": [
//!   {"token": "<jti>", "expires_at": 1800000000},
//!   {"session": "<sid>"},
//!   {"user": "<user id>", "issued_until": 1799999999},
//!   {"key": "<kid>"}
//! ]}
//! ```
//!
//! Times are seconds since 1970. `issued_until` is required for `user` and allowed for nothing else:
//! tokens issued up to that second are revoked. `expires_at` is when the last of the tokens expires,
//! if that is earlier than the issuer's policy allows. A revoked `key` is no longer trusted, not even
//! to sign the token of a push.

use serde::Deserialize;

use super::{
    key::{RevocationKey, RevocationKind},
    limits,
    page::RevocationEntry,
};
use crate::{keys::limits::HARD_MS, time::UnixMillis};

/// One revocation. Its issuer is known from the token of the push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// What is revoked.
    pub kind: RevocationKind,
    /// The id of the token, session, user or key.
    pub id: String,
    /// Revokes tokens issued up to this second.
    pub issued_until: u64,
    /// Second in which the last of them expires, if the issuer says so.
    pub expires_at: Option<u64>,
}

/// A refused push; the text says where and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadPush(pub String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Push {
    revocations: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    token: Option<String>,
    session: Option<String>,
    user: Option<String>,
    key: Option<String>,
    issued_until: Option<u64>,
    expires_at: Option<u64>,
}

/// Parses a push.
///
/// # Errors
/// [`BadPush`] if any part is invalid.
pub fn parse_push(body: &[u8], leeway_s: u64, now: UnixMillis) -> Result<Vec<Revocation>, BadPush> {
    // The parser's message quotes its input, so it is not shown.
    let push: Push = serde_json::from_slice(body).map_err(|error| {
        BadPush(format!("the body is not a push (line {}, column {})", error.line(), error.column()))
    })?;
    if push.revocations.len() > limits::PUSH_ENTRIES {
        return Err(BadPush(format!("more than {} revocations; send them in several pushes", limits::PUSH_ENTRIES)));
    }
    let latest = now.secs().saturating_add(leeway_s).saturating_add(limits::ISSUED_AHEAD_S);
    let item = |(index, item): (usize, Item)| {
        read(item, latest).map_err(|reason| BadPush(format!("revocations[{index}]: {reason}")))
    };
    push.revocations.into_iter().enumerate().map(item).collect()
}

fn read(item: Item, latest: u64) -> Result<Revocation, &'static str> {
    let (kind, id) = match (item.token, item.session, item.user, item.key) {
        (Some(id), None, None, None) => (RevocationKind::Token, id),
        (None, Some(id), None, None) => (RevocationKind::Session, id),
        (None, None, Some(id), None) => (RevocationKind::User, id),
        (None, None, None, Some(id)) => (RevocationKind::Key, id),
        _ => return Err("name one of token, session, user and key"),
    };
    if id.is_empty() || id.len() > limits::SUBJECT_BYTES {
        return Err("the id is empty or too long");
    }
    let issued_until = match (kind, item.issued_until) {
        // A later time would revoke tokens that are not issued yet.
        (RevocationKind::User, Some(until)) if until > latest => return Err("issued_until lies in the future"),
        (RevocationKind::User, Some(until)) => until,
        (RevocationKind::User, None) => return Err("a user needs issued_until"),
        (RevocationKind::Token | RevocationKind::Session | RevocationKind::Key, None) => crate::limits::DATE_SECS,
        (RevocationKind::Token | RevocationKind::Session | RevocationKind::Key, Some(_)) => {
            return Err("issued_until is for a user alone");
        }
    };
    Ok(Revocation { kind, id, issued_until, expires_at: item.expires_at })
}

impl Revocation {
    /// Converts to an entry of the log, or `None` if every such token has expired.
    ///
    /// `max_lifetime_s` and `leeway_s` are of the issuer's policy: it accepts no token issued later
    /// than the leeway from now, or with a longer lifetime.
    pub fn to_entry(
        &self,
        issuer: &str,
        max_lifetime_s: u64,
        leeway_s: u64,
        now: UnixMillis,
    ) -> Option<RevocationEntry> {
        let now = now.secs();
        let latest_issue = match self.kind {
            RevocationKind::User => self.issued_until,
            RevocationKind::Token | RevocationKind::Session => now.saturating_add(leeway_s),
            // A key set with the key may be used for that long.
            RevocationKind::Key => now.saturating_add(HARD_MS / 1000).saturating_add(leeway_s),
        };
        let bound = latest_issue.saturating_add(max_lifetime_s);
        let end = self.expires_at.map_or(bound, |expires_at| expires_at.min(bound));
        let keep_until = end.saturating_add(leeway_s);
        let key = RevocationKey::new(self.kind, issuer, &self.id);
        (keep_until > now).then_some(RevocationEntry { key, issued_until: self.issued_until, keep_until })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis::from_secs(1_800_000_000);

    #[test]
    fn a_push_is_read_or_refused_with_place_and_reason() {
        let ever = crate::limits::DATE_SECS;
        for (body, expected) in [
            (r#"{"revocations":[]}"#, Ok(vec![])),
            (r#"{"revocations":[{"token":"t"}]}"#, Ok(vec![(RevocationKind::Token, "t", ever, None)])),
            (r#"{"revocations":[{"key":"k"}]}"#, Ok(vec![(RevocationKind::Key, "k", ever, None)])),
            (
                r#"{"revocations":[{"key":"k","issued_until":5}]}"#,
                Err("revocations[0]: issued_until is for a user alone"),
            ),
            (
                r#"{"revocations":[{"session":"s","expires_at":7}]}"#,
                Ok(vec![(RevocationKind::Session, "s", ever, Some(7))]),
            ),
            (
                r#"{"revocations":[{"user":"u","issued_until":1800000090}]}"#,
                Ok(vec![(RevocationKind::User, "u", 1_800_000_090, None)]),
            ),
            (
                r#"{"revocations":[{"user":"u","issued_until":1800000091}]}"#,
                Err("revocations[0]: issued_until lies in the future"),
            ),
            (r#"{"revocations":[{"token":"t"},{"user":"u"}]}"#, Err("revocations[1]: a user needs issued_until")),
            (
                r#"{"revocations":[{"token":"t","issued_until":5}]}"#,
                Err("revocations[0]: issued_until is for a user alone"),
            ),
            (
                r#"{"revocations":[{"token":"t","user":"u","issued_until":5}]}"#,
                Err("revocations[0]: name one of token, session, user and key"),
            ),
            (r#"{"revocations":[{}]}"#, Err("revocations[0]: name one of token, session, user and key")),
            (r#"{"revocations":[{"token":""}]}"#, Err("revocations[0]: the id is empty or too long")),
            (r#"{"revocations":[{"token":"t","secret":1}]}"#, Err("the body is not a push (line 1, column ")),
            (r#"{"revocations":{}}"#, Err("the body is not a push (line 1, column ")),
            (r#"{}"#, Err("the body is not a push (line 1, column ")),
            ("", Err("the body is not a push (line 1, column ")),
        ] {
            let read = parse_push(body.as_bytes(), 30, NOW);
            match (read, expected) {
                (Err(BadPush(said)), Err(begins)) => assert!(said.starts_with(begins), "{body}: {said}"),
                (Ok(read), Ok(expected)) => {
                    let parts = |one: &Revocation| (one.kind, one.id.clone(), one.issued_until, one.expires_at);
                    let wanted = |(kind, id, until, expires): &(RevocationKind, &str, u64, Option<u64>)| {
                        (*kind, (*id).to_owned(), *until, *expires)
                    };
                    assert_eq!(
                        read.iter().map(parts).collect::<Vec<_>>(),
                        expected.iter().map(wanted).collect::<Vec<_>>(),
                        "{body}"
                    );
                }
                (read, expected) => panic!("{body}: {read:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn more_than_a_push_may_hold_is_refused() {
        let body = |count: usize| format!(r#"{{"revocations":[{}]}}"#, vec![r#"{"token":"t"}"#; count].join(","));
        assert_eq!(
            parse_push(body(limits::PUSH_ENTRIES).as_bytes(), 30, NOW).map(|list| list.len()),
            Ok(limits::PUSH_ENTRIES)
        );
        assert!(parse_push(body(limits::PUSH_ENTRIES + 1).as_bytes(), 30, NOW).is_err());
        let long = format!(r#"{{"revocations":[{{"token":"{}"}}]}}"#, "t".repeat(limits::SUBJECT_BYTES + 1));
        assert!(parse_push(long.as_bytes(), 30, NOW).is_err());
    }

    #[test]
    fn an_entry_is_kept_as_long_as_its_tokens_may_live() {
        let now = NOW.secs();
        let ever = crate::limits::DATE_SECS;
        // kind, issued_until, expires_at, kept for (seconds from now)
        for (kind, issued_until, expires_at, expected) in [
            (RevocationKind::Token, ever, None, Some(3600 + 60)),
            (RevocationKind::Session, ever, Some(now + 900), Some(900 + 30)),
            (RevocationKind::Session, ever, Some(now + 1_000_000), Some(3600 + 60)),
            (RevocationKind::Session, ever, Some(now - 29), Some(1)),
            (RevocationKind::Session, ever, Some(now - 30), None),
            (RevocationKind::Key, ever, None, Some(24 * 3600 + 3600 + 60)),
            (RevocationKind::User, now, None, Some(3600 + 30)),
            (RevocationKind::User, now - 3600, None, Some(30)),
            (RevocationKind::User, now - 3630, None, None),
            (RevocationKind::User, 0, None, None),
        ] {
            let revocation = Revocation { kind, id: "x".to_owned(), issued_until, expires_at };
            let entry = revocation.to_entry("i", 3600, 30, NOW);
            assert_eq!(entry.map(|entry| entry.keep_until - now), expected, "{revocation:?}");
        }
    }
}
