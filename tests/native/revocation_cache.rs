//! An isolate's copy of the revocation log: when it is used, read again or refused, and how pages
//! change it.

use portcullis_token::{
    Identity, UnixMillis,
    revocation::{
        LogPage, RevocationCache, RevocationEntry, RevocationKey, RevocationKeys, RevocationKind, RevocationPlan,
        limits,
    },
};

const NOW: UnixMillis = UnixMillis::from_secs(1_800_000_000);
const MAX_AGE_MS: u64 = 60_000;

fn entry(kind: RevocationKind, id: &str, issued_until: u64) -> RevocationEntry {
    RevocationEntry { key: RevocationKey::new(kind, "i", id), issued_until, keep_until: NOW.secs() + 900 }
}

fn session(id: &str) -> RevocationEntry {
    entry(RevocationKind::Session, id, NOW.secs() + 1000)
}

fn page(as_of: u64, from: u64, newest: u64, sessions: &[&str]) -> LogPage {
    let entries = sessions.iter().map(|id| session(id)).collect();
    LogPage { as_of: NOW.plus(as_of), newest, from, overflows: false, entries }
}

/// The keys of a token of user `u`.
fn keys(session: &str, issued_at: u64) -> RevocationKeys {
    let identity = Identity {
        confirmation: None,
        user_id: "u".into(),
        email: None,
        roles: vec![],
        scopes: vec![],
        asserted: Vec::new(),
        claims: vec![],
        session_id: Some(session.into()),
        token_id: Some("t".into()),
        issued_at: UnixMillis::from_secs(issued_at),
        expires_at: UnixMillis(0),
        issuer: "i".into(),
    };
    RevocationKeys::of(&identity, Some("k"))
}

/// A copy of a log with session `first`, as of [`NOW`].
fn fresh_copy() -> RevocationCache {
    let mut copy = RevocationCache::default();
    copy.begin(1000, NOW);
    assert!(copy.apply(&page(0, 0, 5, &["first"]), Some(NOW), NOW));
    copy.succeed(NOW);
    copy
}

#[test]
fn the_plan_depends_on_the_age_of_the_copy_and_the_state_of_the_log() {
    let failed = |mut copy: RevocationCache, at: u64| {
        copy.fail("log_unreachable", NOW.plus(at));
        copy
    };
    let reading = |at: u64| {
        let mut copy = fresh_copy();
        copy.begin(1000, NOW.plus(at));
        copy
    };
    for (name, copy, at, expected) in [
        ("no page yet", RevocationCache::default(), 0, RevocationPlan::Read),
        ("fresh", fresh_copy(), 0, RevocationPlan::Use),
        ("fresh", fresh_copy(), 999, RevocationPlan::Use),
        ("a read is due", fresh_copy(), 1000, RevocationPlan::UseAndRead),
        ("a read is due", fresh_copy(), 4000, RevocationPlan::UseAndRead),
        ("another request reads", reading(3500), 4000, RevocationPlan::Use),
        ("no request for a while", fresh_copy(), 4001, RevocationPlan::Read),
        ("no request for an hour", fresh_copy(), 3_600_000, RevocationPlan::Read),
        ("another request reads", reading(4500), 4600, RevocationPlan::Wait),
        ("the read of another request is lost", reading(4500), 5500, RevocationPlan::Read),
        ("unreachable", failed(fresh_copy(), 4500), 4600, RevocationPlan::Use),
        ("unreachable, after the back-off", failed(fresh_copy(), 4500), 5500, RevocationPlan::UseAndRead),
        ("unreachable long ago, without a read since", failed(fresh_copy(), 4500), 8500, RevocationPlan::Read),
        ("unreachable, at the limit", failed(fresh_copy(), 59_500), 60_000, RevocationPlan::Use),
        ("past the limit", failed(fresh_copy(), 59_500), 60_001, RevocationPlan::Unavailable { retry_ms: 499 }),
        ("past the limit, after the back-off", failed(fresh_copy(), 59_000), 60_001, RevocationPlan::Read),
        ("never read", failed(RevocationCache::default(), 0), 1, RevocationPlan::Unavailable { retry_ms: 999 }),
        ("never read, after the back-off", failed(RevocationCache::default(), 0), 1000, RevocationPlan::Read),
    ] {
        assert_eq!(copy.plan(MAX_AGE_MS, NOW.plus(at)), expected, "{name}, at {at} ms");
    }
}

#[test]
fn a_page_continues_the_copy_or_leaves_a_gap() {
    // from, newest, as_of
    for (from, newest, as_of, expected) in
        [(6, 7, 1, true), (2, 5, 1, true), (7, 7, 1, false), (0, 9, 1, true), (0, 0, 1, true), (1, 2, 1, false)]
    {
        let mut copy = fresh_copy();
        let applied = copy.apply(&page(as_of, from, newest, &["second"]), None, NOW.plus(as_of));
        assert_eq!(applied, expected, "{from} {newest}");
        assert!(copy.revokes(&keys("first", 0)), "known entries stay");
        assert_eq!(copy.revokes(&keys("second", 0)), expected);
    }
    let mut copy = fresh_copy();
    assert!(copy.apply(&page(1000, 6, 6, &[]), None, NOW.plus(1500)));
    assert!(copy.apply(&page(500, 6, 6, &["second"]), None, NOW.plus(1600)));
    assert_eq!(copy.age_ms(NOW.plus(1600)), Some(600));
    assert!(!RevocationCache::default().apply(&page(0, 1, 1, &[]), Some(NOW), NOW));
}

#[test]
fn a_cached_page_makes_a_copy_older_and_never_younger() {
    for (as_of, asked_at, now, expected) in [
        (0, None, 1900, 1900),
        (0, Some(1800), 1900, 100),
        // The log's clock is ahead: the age is not negative, and does not stay 0 for longer.
        (5000, None, 1900, 0),
        (5000, Some(1800), 1900, 0),
    ] {
        let mut copy = RevocationCache::default();
        copy.apply(&page(as_of, 0, 1, &[]), asked_at.map(|at| NOW.plus(at)), NOW.plus(now));
        assert_eq!(copy.age_ms(NOW.plus(now)), Some(expected), "{as_of} {asked_at:?} {now}");
    }
}

/// Three days in milliseconds.
const AHEAD_MS: u64 = 3 * 24 * 3600 * 1000;

#[test]
fn after_an_isolates_clock_was_ahead_no_copy_stays_fresh_and_no_entry_is_lost() {
    let ahead = NOW.plus(AHEAD_MS);
    for (asked_at, expected) in [(None, RevocationPlan::UseAndRead), (Some(ahead), RevocationPlan::Read)] {
        let mut copy = fresh_copy();
        assert!(copy.apply(&page(1000, 6, 6, &[]), asked_at, ahead));
        copy.succeed(ahead);
        assert!(!copy.revokes(&keys("first", 0)), "it counted as expired");
        assert_eq!(copy.plan(MAX_AGE_MS, NOW.plus(2000)), expected, "{asked_at:?}");
        assert!(copy.is_read_due(NOW.plus(2000)));
        assert!(!copy.apply(&page(2000, 6, 6, &[]), Some(NOW), NOW.plus(2000)));
        assert!(copy.apply(&page(2000, 0, 6, &["first"]), Some(NOW), NOW.plus(2000)));
        assert!(copy.revokes(&keys("first", 0)));
        assert!(copy.apply(&page(3000, 7, 7, &[]), Some(NOW), NOW.plus(3000)));
    }
    let mut failed = fresh_copy();
    failed.fail("log_unreachable", ahead);
    assert_eq!(failed.plan(MAX_AGE_MS, NOW.plus(5000)), RevocationPlan::Read);
    let mut reading = fresh_copy();
    reading.begin(limits::ASK_WHOLE_MS, ahead);
    assert_eq!(reading.plan(MAX_AGE_MS, NOW.plus(5000)), RevocationPlan::Read);
}

#[test]
fn pages_are_applied_after_the_logs_clock_was_ahead() {
    let mut copy = fresh_copy();
    assert!(copy.apply(&page(AHEAD_MS, 6, 6, &[]), None, NOW.plus(1000)));
    assert!(copy.apply(&page(2000, 6, 7, &["second"]), None, NOW.plus(2000)));
    assert!(copy.revokes(&keys("second", 0)));
}

#[test]
fn a_page_of_the_log_is_applied_although_the_logs_clock_was_set_back() {
    let mut copy = RevocationCache::default();
    assert!(copy.apply(&page(30_000, 0, 5, &["first"]), Some(NOW.plus(30_000)), NOW.plus(30_010)));
    // The log's clock is 30 seconds slow from now on.
    for (number, asked_at) in [(5, 31_000), (6, 32_000)] {
        let newest = page(asked_at - 30_000, 5, number, &["second"][..usize::from(number == 6)]);
        assert!(copy.apply(&newest, Some(NOW.plus(asked_at)), NOW.plus(asked_at + 20)));
        assert_eq!(copy.age_ms(NOW.plus(asked_at + 20)), Some(20), "{number}");
    }
    assert!(copy.revokes(&keys("second", 0)));
    // A read that began before and ended after it.
    assert!(copy.apply(&page(1_900, 5, 5, &[]), Some(NOW.plus(31_900)), NOW.plus(32_030)));
    assert_eq!(copy.age_ms(NOW.plus(32_030)), Some(30));
}

#[test]
fn a_later_entry_of_a_key_does_not_undo_an_earlier_one() {
    let mut copy = fresh_copy();
    for issued_until in [NOW.secs(), NOW.secs() - 50] {
        copy.insert(&[entry(RevocationKind::User, "u", issued_until)], NOW);
    }
    assert!(copy.revokes(&keys("s", NOW.secs())));
    assert!(!copy.revokes(&keys("s", NOW.secs() + 1)));
}

#[test]
fn an_entry_is_removed_when_it_expires_and_not_before() {
    let mut copy = fresh_copy();
    for (as_of, count) in [(899_000, 1), (900_000 + limits::SWEEP_MS, 0)] {
        assert!(copy.apply(&page(as_of, 6, 6, &[]), None, NOW.plus(as_of)));
        assert_eq!(copy.count(), count);
    }
}

#[test]
fn expired_entries_do_not_make_a_copy_too_large() {
    let half = limits::COPY_ENTRIES / 2 + 1;
    let many = |name: &str, keep_until: u64| {
        let entry = |number: usize| RevocationEntry { keep_until, ..session(&format!("{name}{number}")) };
        (0..half).map(entry).collect::<Vec<_>>()
    };
    let mut copy = fresh_copy();
    copy.apply(&LogPage { entries: many("a", NOW.secs() + 1), ..page(1, 6, 300_000, &[]) }, None, NOW);
    copy.apply(&LogPage { entries: many("b", NOW.secs() + 900), ..page(2000, 6, 400_000, &[]) }, None, NOW.plus(2000));
    assert!(!copy.overflows() && copy.count() > half / 2, "{}", copy.count());
}

#[test]
fn a_log_too_large_for_a_copy_is_asked_about_each_token_until_the_next_attempt() {
    let mut by_flag = RevocationCache::default();
    by_flag.apply(&LogPage { overflows: true, ..page(0, 0, 9, &[]) }, Some(NOW), NOW);
    let mut by_count = fresh_copy();
    let many = (0..=limits::COPY_ENTRIES).map(|number| session(&number.to_string())).collect();
    by_count.apply(&LogPage { entries: many, ..page(1, 6, 300_000, &[]) }, None, NOW);
    for copy in [by_flag, by_count] {
        assert_eq!(copy.plan(MAX_AGE_MS, NOW.plus(limits::SWEEP_MS - 1)), RevocationPlan::AskLog);
        assert_eq!(copy.plan(MAX_AGE_MS, NOW.plus(limits::SWEEP_MS)), RevocationPlan::Read);
        assert_eq!(copy.count(), 0);
    }
}

#[test]
fn inserted_entries_that_do_not_fit_have_the_log_asked_about_each_token() {
    // An isolate whose routes are all strict reads no page.
    for mut copy in [fresh_copy(), RevocationCache::default()] {
        let more = limits::COPY_ENTRIES - copy.count();
        let many: Vec<_> = (0..more).map(|number| session(&number.to_string())).collect();
        copy.insert(&many, NOW);
        copy.insert(&many[..9], NOW);
        assert!(!copy.overflows() && copy.count() == limits::COPY_ENTRIES, "held ones take no room");
        copy.insert(&[session("one"), session("other")], NOW);
        assert_eq!((copy.plan(MAX_AGE_MS, NOW), copy.count()), (RevocationPlan::AskLog, 2));
        assert!(copy.revokes(&keys("one", 0)) && copy.revokes(&keys("other", 0)));
    }
}

#[test]
fn expired_entries_make_room_for_inserted_ones() {
    let mut copy = RevocationCache::default();
    let entry = |number: usize| RevocationEntry { keep_until: NOW.secs() + 1, ..session(&number.to_string()) };
    copy.insert(&(0..limits::COPY_ENTRIES).map(entry).collect::<Vec<_>>(), NOW);
    copy.insert(&[session("one")], NOW.plus(2000));
    assert!(!copy.overflows() && copy.count() == 1, "{}", copy.count());
}

#[test]
fn each_kind_issuer_and_id_has_its_own_key_and_an_encoded_key_is_decoded_unchanged() {
    let mut seen = Vec::new();
    for (kind, issuer, id) in [
        (RevocationKind::Token, "i", "1"),
        (RevocationKind::Session, "i", "1"),
        (RevocationKind::User, "i", "1"),
        (RevocationKind::Key, "i", "1"),
        (RevocationKind::User, "i1", ""),
        (RevocationKind::User, "", "i1"),
        (RevocationKind::User, "j", "1"),
    ] {
        let key = RevocationKey::new(kind, issuer, id);
        assert!(!seen.contains(&key), "{kind:?} {issuer:?} {id:?}");
        assert_eq!(RevocationKey::try_from(String::from(key)), Ok(key));
        seen.push(key);
    }
    for text in ["", "AAAA", "AAAAAAAAAAAAAAAAAAAAAB", "AAAAAAAAAAAAAAAAAAAA==", "AAAAAAAAAAAAAAAAAAAAAAAA"] {
        assert!(RevocationKey::try_from(text.to_owned()).is_err(), "{text:?}");
    }
}

#[test]
fn a_page_is_json_with_an_array_for_each_entry() {
    let page = page(0, 3, 4, &["first"]);
    let text = page.to_json().unwrap();
    let key = String::from(session("first").key);
    let expected = format!(
        r#"{{"as_of":1800000000000,"newest":4,"from":3,"overflows":false,"entries":[["{key}",1800001000,1800000900]]}}"#
    );
    assert_eq!(text, expected);
    assert_eq!(LogPage::from_json(&text), Some(page));
    for bad in
        ["", "{}", &text.replace(&key, "AAAA"), &text.replace("1800001000", "-1"), &text.replace(",1800000900", "")]
    {
        assert_eq!(LogPage::from_json(bad), None, "{bad}");
    }
}
