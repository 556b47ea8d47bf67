//! The body of a push of revocations: what is accepted, and how long its entries are kept.

use portcullis_token::{
    TokenPolicy, UnixMillis,
    limits::{CLAIM_BYTES, DATE_SECS},
    revocation::{Push, RevocationEntry, RevocationKey, RevocationKind, limits, parse_push},
};

use crate::claims::policy;

const NOW: u64 = 1_800_000_000;

fn parse(body: &str) -> Result<Push, String> {
    let policy = TokenPolicy { issuer: "i".into(), leeway_s: 30, max_lifetime_s: 3600, ..policy() };
    parse_push(body.as_bytes(), &policy, UnixMillis::from_secs(NOW))
}

#[test]
fn a_push_becomes_entries_that_are_kept_for_the_longest_life_of_a_token() {
    use RevocationKind::{Key, Session, Token, User};
    // A key set with the key may be used for a day.
    const DAY: u64 = 24 * 3600;
    // Dates may have fractions, so each entry is kept for a second more.
    for (revocation, kind, id, issued_until, kept_s) in [
        (r#""token":"t""#.to_owned(), Token, "t", DATE_SECS, Some(3600 + 120 + 1)),
        (r#""key":"k""#.to_owned(), Key, "k", DATE_SECS, Some(DAY + 3600 + 120 + 1)),
        (r#""session":"s""#.to_owned(), Session, "s", DATE_SECS, Some(3600 + 120 + 1)),
        (format!(r#""session":"s","expires_at":{}"#, NOW + 900), Session, "s", DATE_SECS, Some(900 + 30 + 1)),
        (format!(r#""session":"s","expires_at":{}"#, NOW + 1_000_000), Session, "s", DATE_SECS, Some(3600 + 120 + 1)),
        (format!(r#""session":"s","expires_at":{}"#, NOW - 30), Session, "s", DATE_SECS, Some(1)),
        (format!(r#""session":"s","expires_at":{}"#, NOW - 31), Session, "s", DATE_SECS, None),
        (format!(r#""user":"u","issued_until":{}"#, NOW + 90), User, "u", NOW + 90, Some(90 + 3600 + 30 + 1)),
        (format!(r#""user":"u","issued_until":{NOW}"#), User, "u", NOW, Some(3600 + 30 + 1)),
        (format!(r#""user":"u","issued_until":{}"#, NOW - 3600), User, "u", NOW - 3600, Some(30 + 1)),
        (format!(r#""user":"u","issued_until":{}"#, NOW - 3631), User, "u", NOW - 3631, None),
        (r#""user":"u","issued_until":0"#.to_owned(), User, "u", 0, None),
    ] {
        let push = parse(&format!(r#"{{"revocations":[{{{revocation}}}]}}"#)).unwrap();
        let key = RevocationKey::new(kind, "i", id);
        let entry = kept_s.map(|kept_s| RevocationEntry { key, issued_until, keep_until: NOW + kept_s });
        let expected = Push { received: 1, entries: entry.into_iter().collect(), revokes_key: kind == Key };
        assert_eq!(push, expected, "{revocation}");
    }
}

#[test]
fn a_refused_push_says_where_and_why() {
    for (body, begins) in [
        (r#"{"revocations":[{"token":"t"},{"user":"u"}]}"#, "revocations[1]: a user needs issued_until"),
        (
            r#"{"revocations":[{"user":"u","issued_until":1800000091}]}"#,
            "revocations[0]: issued_until lies in the future",
        ),
        (r#"{"revocations":[{"key":"k","issued_until":5}]}"#, "revocations[0]: issued_until is for a user alone"),
        (r#"{"revocations":[{"token":"t","issued_until":5}]}"#, "revocations[0]: issued_until is for a user alone"),
        (
            r#"{"revocations":[{"token":"t","user":"u","issued_until":5}]}"#,
            "revocations[0]: name one of token, session, user and key",
        ),
        (r#"{"revocations":[{}]}"#, "revocations[0]: name one of token, session, user and key"),
        (r#"{"revocations":[{"token":""}]}"#, "revocations[0]: the id is empty or too long"),
        (r#"{"revocations":[{"token":"t","secret":1}]}"#, "the body is not a push (line 1, column "),
        (r#"{"revocations":{}}"#, "the body is not a push (line 1, column "),
        (r#"{}"#, "the body is not a push (line 1, column "),
        ("", "the body is not a push (line 1, column "),
    ] {
        let reason = parse(body).unwrap_err();
        assert!(reason.starts_with(begins), "{body}: {reason}");
    }
}

#[test]
fn a_push_has_a_bound_of_revocations_and_of_bytes_of_an_id() {
    let body = |count: usize, id: usize| {
        let revocation = format!(r#"{{"token":"{}"}}"#, "t".repeat(id));
        format!(r#"{{"revocations":[{}]}}"#, vec![revocation; count].join(","))
    };
    for (count, id, is_accepted) in [
        (0, 1, true),
        (limits::PUSH_ENTRIES, 1, true),
        (limits::PUSH_ENTRIES + 1, 1, false),
        (1, CLAIM_BYTES, true),
        (1, CLAIM_BYTES + 1, false),
    ] {
        let parsed = parse(&body(count, id));
        assert_eq!(parsed.is_ok_and(|push| push.received == count), is_accepted, "{count} of {id} bytes");
    }
}
