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
use crate::{
    keys::limits::HARD_MS,
    limits::{CLAIM_BYTES, DATE_SECS},
    policy::TokenPolicy,
    time::UnixMillis,
};

/// What a push revokes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// Number of revocations.
    pub received: usize,
    /// Entries for the log: none for a revocation whose tokens have all expired.
    pub entries: Vec<RevocationEntry>,
    /// Whether a key is revoked.
    pub revokes_key: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    revocations: Vec<Revocation>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Revocation {
    token: Option<String>,
    session: Option<String>,
    user: Option<String>,
    key: Option<String>,
    issued_until: Option<u64>,
    expires_at: Option<u64>,
}

/// Parses the push of an issuer. `policy` is that of its access tokens.
///
/// # Errors
/// Where and why a part is invalid.
pub fn parse_push(body: &[u8], policy: &TokenPolicy, now: UnixMillis) -> Result<Push, String> {
    // The parser's message quotes its input, so it is not shown.
    let body: Body = serde_json::from_slice(body)
        .map_err(|error| format!("the body is not a push (line {}, column {})", error.line(), error.column()))?;
    let received = body.revocations.len();
    if received > limits::PUSH_ENTRIES {
        return Err(format!("more than {} revocations; send them in several pushes", limits::PUSH_ENTRIES));
    }
    let mut push = Push { received, entries: Vec::new(), revokes_key: false };
    for (index, revocation) in body.revocations.iter().enumerate() {
        let entry = revocation.to_entry(policy, now.secs());
        push.entries.extend(entry.map_err(|reason| format!("revocations[{index}]: {reason}"))?);
        push.revokes_key |= revocation.key.is_some();
    }
    Ok(push)
}

/// Returns the largest `iat`, in seconds, of a token that exists at `now`. Its issuer's clock may be ahead.
pub fn latest_issue(policy: &TokenPolicy, now: u64) -> u64 {
    now.saturating_add(policy.leeway_s).saturating_add(limits::ISSUED_AHEAD_S)
}

/// Returns the second after which every token issued up to `latest_issue` has expired: the policy accepts no
/// token with a longer lifetime. `expires_at` is when the last of them expires, if that is known.
pub fn keep_until(policy: &TokenPolicy, latest_issue: u64, expires_at: Option<u64>) -> u64 {
    let bound = latest_issue.saturating_add(policy.max_lifetime_s);
    let end = expires_at.map_or(bound, |expires_at| expires_at.min(bound));
    // A token's dates may have fractions: it may expire up to a second later.
    end.saturating_add(policy.leeway_s).saturating_add(1)
}

impl Revocation {
    /// Converts to an entry of the log, or `None` if every such token has expired. Times are seconds.
    fn to_entry(&self, policy: &TokenPolicy, now: u64) -> Result<Option<RevocationEntry>, &'static str> {
        let (kind, id) = match (&self.token, &self.session, &self.user, &self.key) {
            (Some(id), None, None, None) => (RevocationKind::Token, id),
            (None, Some(id), None, None) => (RevocationKind::Session, id),
            (None, None, Some(id), None) => (RevocationKind::User, id),
            (None, None, None, Some(id)) => (RevocationKind::Key, id),
            _ => return Err("name one of token, session, user and key"),
        };
        if id.is_empty() || id.len() > CLAIM_BYTES {
            return Err("the id is empty or too long");
        }
        let youngest = latest_issue(policy, now);
        let (issued_until, last_issue) = match (kind, self.issued_until) {
            // A later time would revoke tokens that are not issued yet.
            (RevocationKind::User | RevocationKind::SessionlessUser, Some(until)) if until > youngest => {
                return Err("issued_until lies in the future");
            }
            (RevocationKind::User | RevocationKind::SessionlessUser, Some(until)) => (until, until),
            (RevocationKind::User | RevocationKind::SessionlessUser, None) => return Err("a user needs issued_until"),
            (_, Some(_)) => return Err("issued_until is for a user alone"),
            (RevocationKind::Token | RevocationKind::Session, None) => (DATE_SECS, youngest),
            // A key set with the key may be used for that long.
            (RevocationKind::Key, None) => (DATE_SECS, youngest.saturating_add(HARD_MS / 1000)),
        };
        let kept_until = keep_until(policy, last_issue, self.expires_at);
        let key = RevocationKey::new(kind, &policy.issuer, id);
        Ok((kept_until > now).then_some(RevocationEntry { key, issued_until, keep_until: kept_until }))
    }
}
