//! The limits of both services, with unit and reason.

use std::time::Duration;

use portcullis_resilience::Backoff;

/// Bytes of a request body. The largest legitimate one is a profile, below 2 KB.
pub const BODY_BYTES: usize = 64 * 1024;

/// Bytes of a request body that are read and discarded before the request is rejected. A longer body
/// ends in a reset connection.
pub const DRAIN_BYTES: usize = 8 * 1024 * 1024;

/// Time to read the rest of a body after its answer: as long as the gateway waits for it.
pub const DRAIN_WAIT: Duration = Duration::from_secs(5);

/// Time for the head of a request to arrive. Limits how long a client that sends single bytes holds a
/// connection.
pub const HEAD_TIME: Duration = Duration::from_secs(10);

/// Time for a TLS handshake: two round trips, of up to a second each on a slow line.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// Bytes that are read of a file with certificates or a key. A chain has about 6 KB.
pub const PEM_BYTES: u64 = 256 * 1024;

/// Bytes of a file with a key or a password. A password has at most 128 characters, and
/// each local secret about a hundred.
pub const SECRET_FILE_BYTES: u64 = 16 * 1024;

/// Characters of `METRICS_TOKEN`, at least, as at the gateway: 16 random ones cannot be guessed.
pub const METRICS_TOKEN_CHARS: usize = 16;

/// Time between two checks for a renewed certificate. An operator who renews it by hand sees the
/// result within seconds.
pub const CERTIFICATE_LOOK: Duration = Duration::from_secs(5);

/// Time for a whole request, body included. Together with the audit event after it ([`AUDIT_WAIT`]) it
/// is below the 15 seconds of the gateway's `timeout_ms`: a timeout there counts as an outage and opens
/// the circuit, a 503 from here does not.
pub const REQUEST_TIME: Duration = Duration::from_secs(13);

/// Concurrent connections. Further ones wait in the kernel's queue.
pub const CONNECTIONS: usize = 1024;

/// Concurrent connections of one peer: an IPv4 address, or the first 64 bits of an IPv6 address. Half of
/// all, because a proxy in front of the service is one peer. Loopback peers have no limit.
pub const PEER_CONNECTIONS: usize = CONNECTIONS / 2;

/// Pause after a failed `accept`.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Time for a client to accept a part of an answer. A client that reads nothing holds connection and
/// answer no longer than this.
pub const WRITE_TIME: Duration = Duration::from_secs(10);

/// Time for requests in progress when the process stops.
pub const DRAIN_TIME: Duration = Duration::from_secs(10);

/// Database connections of one service.
pub const POOL: u32 = 8;

/// Time to wait for a database connection or lock before the answer is 503.
pub const STORE_WAIT: Duration = Duration::from_secs(3);

/// Queues in which the writers of a process wait for locks of PostgreSQL: much more than [`POOL`], so
/// that writers with different locks hardly ever wait for each other.
pub const LOCK_QUEUES: usize = 64;

/// Pause between two attempts to connect to a database that refuses connections.
pub const REACH_PAUSE: Duration = Duration::from_millis(200);

/// Time for a database connection to answer a ping: a round trip on a busy machine. Well below
/// [`STORE_WAIT`], so that a caller with a dead connection gets another one in time.
pub const PING_TIME: Duration = Duration::from_secs(1);

/// Time for a statement or transaction of a background task: [`STORE_WAIT`] each for a queue and a
/// lock. Background tasks retry.
pub const STATEMENT_TIME: Duration = Duration::from_secs(6);

/// Time for the database connections to close when the process stops. SQLite moves its write-ahead log
/// into the file.
pub const CLOSE_TIME: Duration = Duration::from_secs(5);

/// Time for which `/ready` caches the result of its test write.
pub const READY_KEEP: Duration = Duration::from_secs(2);

/// Characters of a password (NIST SP 800-63B requires at least 8, and at least 64 to be allowed).
pub const PASSWORD_CHARS: std::ops::RangeInclusive<usize> = 8..=128;

/// Bytes of an e-mail address (RFC 5321, section 4.5.3.1).
pub const EMAIL_BYTES: usize = 254;

/// Characters of a first or last name.
pub const NAME_CHARS: usize = 100;

/// Bytes of the name of a role or permission.
pub const RIGHT_NAME_BYTES: usize = 64;

/// Characters of a role's description: a line or two.
pub const DESCRIPTION_CHARS: usize = 200;

/// Roles in all. Without a limit, a faulty script could fill the database.
pub const ROLES: i64 = 1000;

/// Permissions in all, and thus of one role and of one account. The answer with an account's
/// permissions stays below 70 KB.
pub const PERMISSIONS: i64 = 1000;

/// Roles of one account. With names of the greatest length an access token stays below 8 KB, which
/// servers accept in a header.
pub const HELD_ROLES: usize = 64;

/// Bytes of an `Idempotency-Key`. A UUID has 36; a key shorter than 16 may collide with that of another
/// client.
pub const IDEMPOTENCY_KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=128;

/// Milliseconds in which a registration may be repeated with its key.
pub const IDEMPOTENCY_KEY_MS: i64 = 24 * 60 * 60 * 1000;

/// Concurrent password hashes. Each takes a core and 19 MiB; more at a time make every login slower.
pub const HASHES: usize = 2;

/// Time that a login waits for a password hash before the answer is 503. Enough for fifty concurrent
/// registrations on two busy cores. Together with a registration's call of the user service (at most
/// 2.5 s) it stays below [`REQUEST_TIME`].
pub const HASH_WAIT: Duration = Duration::from_secs(8);

/// Assumed time of a hash until the first ones are measured.
pub const HASH_EXPECTED: Duration = Duration::from_millis(50);

/// Callers that wait for a hash, even if the wait is short.
pub const HASH_QUEUE: usize = 1000;

/// Hashes for known callers in a row before one for an unknown caller. A known caller may be a thief.
pub const KNOWN_IN_A_ROW: usize = 3;

/// Memory in KiB of a stored hash with other parameters than ours. Twice the second recommendation of
/// RFC 9106, for up to [`HASHES`] at a time.
pub const HASH_MEMORY_KIB_MAX: u32 = 128 * 1024;

/// Passes of such a hash.
pub const HASH_PASSES_MAX: u32 = 8;

/// Lanes of such a hash.
pub const HASH_LANES_MAX: u32 = 4;

/// Consecutive wrong passwords of one account from one network without a delay, and consecutive changes of
/// the e-mail address: people mistype.
pub const FAILURES_FREE: i64 = 5;

/// Such wrong passwords, from networks that the account does not know, without a delay for all of these
/// networks. Delaying the owner takes ten networks, or several for an hour; nine have 12,960 attempts a day.
pub const FAILURES_FREE_OF_ALL: i64 = 10 * FAILURES_FREE;

/// Milliseconds between the last of these and the next attempt; doubles with each further failure.
pub const FAILURE_DELAY_MS: i64 = 1000;

/// The longest such delay, in milliseconds. A network has 1440 attempts a day. So have all unknown
/// networks together once [`FAILURES_FREE_OF_ALL`] is reached: an owner at an unknown address competes
/// with the guesses until they end.
pub const FAILURE_DELAY_MAX_MS: i64 = 60 * 1000;

/// Milliseconds after the login in which an access token may change the e-mail address or delete the
/// account without the password: enough for a form, and shorter than the lifetime of a stolen token.
pub const RECENT_LOGIN_MS: i64 = 5 * 60 * 1000;

/// Milliseconds after the last failure for which consecutive failures count.
pub const FAILURES_KEPT_MS: i64 = 15 * 60 * 1000;

/// Milliseconds for which an address stays known after a login from it.
pub const KNOWN_ADDRESS_MS: i64 = 90 * 24 * 60 * 60 * 1000;

/// Known addresses of one account: home, work, several mobile networks.
pub const KNOWN_ADDRESSES: i64 = 20;

/// Milliseconds for which a key signs.
pub const SIGNING_KEY_MS: i64 = 30 * 24 * 60 * 60 * 1000;

/// Default of the seconds between the publication of a key and its first signature: three times as
/// long as a verifier may cache the set.
pub const KEY_LEAD_S: i64 = 15 * 60;

/// Minimum of [`KEY_LEAD_S`]. A gateway fetches the set for an unknown key every 30 seconds, and another
/// process may publish the key some seconds later.
pub const KEY_LEAD_MIN_S: i64 = 40;

/// Time between two reloads of the signing keys from the database.
pub const KEYS_RELOAD: Duration = Duration::from_secs(5);

/// Milliseconds by which the creation of a signing key may be ahead of the clock. If it is further
/// ahead, the clock is wrong, and verifiers would reject the tokens. Also by which a host's clock may
/// differ from the database's for the host to rotate and delete keys.
pub const KEYS_AHEAD_MS: i64 = 60 * 1000;

/// Lifetime of an access token in milliseconds.
pub const ACCESS_TOKEN_MS: i64 = 15 * 60 * 1000;

/// Lifetime of a service token in milliseconds.
pub const SERVICE_TOKEN_MS: i64 = 5 * 60 * 1000;

/// Lifetime of a refresh token in milliseconds.
pub const REFRESH_TOKEN_MS: i64 = 7 * 24 * 60 * 60 * 1000;

/// Live sessions of one account. A new session beyond the limit revokes the oldest one.
pub const SESSIONS: i64 = 100;

/// Default of the seconds in which a spent refresh token is answered with the same successor, for
/// concurrent tabs and for a client that lost the answer. A later use revokes the session.
pub const REFRESH_REUSE_S: i64 = 10;

/// Maximum of [`REFRESH_REUSE_S`]. A client that lost an answer repeats the request within its timeout.
pub const REFRESH_REUSE_MAX_S: i64 = 60;

/// Default of the days from the login to the end of a session, even if it is refreshed.
pub const SESSION_MAX_DAYS: i64 = 90;

/// Range of [`SESSION_MAX_DAYS`]: from one day to ten years.
pub const SESSION_MAX_DAYS_RANGE: std::ops::RangeInclusive<i64> = 1..=3650;

/// Clock difference in milliseconds that is accepted for service tokens.
pub const LEEWAY_MS: i64 = 30 * 1000;

/// Bytes of an access or service token. One with [`HELD_ROLES`] roles of the greatest length fits. The
/// gateway takes longer ones, of other issuers.
pub const TOKEN_BYTES: usize = 8 * 1024;

/// Time for which the user service uses the key set without a fetch: how long it trusts a key after
/// every process of the auth service knows the revocation.
pub const JWKS_FRESH: Duration = Duration::from_secs(5);

/// Milliseconds for which a key set is used while the auth service is not reachable, here and at the
/// gateway. After that, revocations may be unknown.
pub const JWKS_KEPT_MS: i64 = 24 * 60 * 60 * 1000;

/// Time between two fetches of the key set for unknown `kid`s.
pub const JWKS_COOL_DOWN: Duration = Duration::from_secs(5);

/// Time from a failed fetch to the next one: spares a service that is down, and notices its return
/// quickly.
pub const JWKS_BACK_OFF: Duration = Duration::from_millis(500);

/// Seconds by which the `iat` of a token may be ahead of the clock, after the sessions of an account
/// were revoked several times within a second, or by a process whose clock is ahead: the gateway's
/// leeway.
pub const REVOKED_AHEAD_S: i64 = 30;

/// Longest wait of an answer with tokens for the second of their `iat` to begin. One revocation
/// puts it off by less than a second.
pub const ISSUE_WAIT: Duration = Duration::from_secs(1);

/// Seconds by which the clocks of two processes may differ: the gateway's leeway. It rejects tokens of
/// a clock that is further ahead.
pub const CLOCKS_APART_S: i64 = 30;

/// Time for one push of revocations to the gateway.
pub const PUSH_TIME: Duration = Duration::from_secs(3);

/// Revocations of one push; the gateway accepts twice as many.
pub const PUSH_ITEMS: i64 = 500;

/// Time between two checks for revocations that another process wrote.
pub const OUTBOX_LOOK: Duration = Duration::from_secs(1);

/// Pauses after failed pushes. The longest one is how soon the gateway gets revocations after its return.
pub const PUSH_BACK_OFF: Backoff = Backoff { first_ms: 200, longest_ms: 5_000 };

/// Revocations that the gateway rejected and that are set apart. More of them mean that it rejects every
/// push.
pub const REJECTED_PUSHES: usize = 500;

/// Live API keys of one account: many programs with a key each, and no more than a faulty script notices soon.
pub const API_KEYS: i64 = 100;

/// Bytes of the prefix of API keys.
pub const API_KEY_PREFIX_BYTES: std::ops::RangeInclusive<usize> = 2..=16;

/// Bytes of the issuer of API keys, as of other issuers at the gateway.
pub const API_KEY_ISSUER_BYTES: std::ops::RangeInclusive<usize> = 1..=255;

/// Scopes of an API key. With [`SCOPE_BYTES`] they stay below 2.1 KB.
pub const API_KEY_SCOPES: std::ops::RangeInclusive<usize> = 1..=32;

/// Bytes of a scope.
pub const SCOPE_BYTES: std::ops::RangeInclusive<usize> = 1..=64;

/// Days for which an API key is valid: a year and a day to replace it.
pub const API_KEY_DAYS: std::ops::RangeInclusive<i64> = 1..=366;

/// Default of the days for which an API key is valid.
pub const API_KEY_DAYS_DEFAULT: i64 = 90;

/// API keys of one push. The gateway stores each by a request of its own, and accepts five times as many.
pub const API_KEY_PUSH_ITEMS: i64 = 20;

/// Time for one push of API keys to the gateway, which takes up to ten seconds.
pub const API_KEY_PUSH_TIME: Duration = Duration::from_secs(15);

/// API keys in a row that the gateway rejects one by one. More of them mean that it rejects every key.
pub const API_KEY_REJECTIONS: usize = 5;

/// Milliseconds after which the end of an API key is pushed again: longer than [`API_KEY_PUSH_TIME`] and [`CLOCKS_APART_S`]
/// together.
pub const API_KEY_END_REPEAT_MS: i64 = 60 * 1000;

/// Milliseconds by which the time of a postponed push may be ahead of the clock: the longest delay, and [`CLOCKS_APART_S`]. A
/// clock that was wrong wrote a later one.
pub const API_KEY_DUE_AHEAD_MS: i64 = API_KEY_END_REPEAT_MS + CLOCKS_APART_S * 1000;

/// Milliseconds until an API key that the gateway rejected is pushed again. A rejection is a fault that needs a correction.
pub const API_KEY_REFUSED_MS: i64 = 60 * 1000;

/// Rows of one page of a list.
pub const PAGE: std::ops::RangeInclusive<i64> = 1..=100;

/// Milliseconds since 1970 that RFC 3339 can express: years have four digits.
pub const INSTANT_MS: std::ops::RangeInclusive<i64> = 0..=253_402_300_799_999;

/// Rows before a page. Further pages need cursors, with which the database skips no rows.
pub const OFFSET: std::ops::RangeInclusive<i64> = 0..=1_000_000;

/// Rows of a page by default.
pub const PAGE_DEFAULT: i64 = 10;

/// Entity tags of one condition. A legitimate condition names one or two.
pub const ENTITY_TAGS: usize = 32;

/// Roles of a new user.
pub const ROLES_GIVEN: usize = 32;

/// Milliseconds after which an interrupted registration is deleted: much longer than a registration
/// takes.
pub const PENDING_MS: i64 = 15 * 60 * 1000;

/// Milliseconds in which the caller of a change may write the profile before the auth service does:
/// twice as long as a call between the services takes.
pub const PROFILE_SYNC_GRACE_MS: i64 = 5 * 1000;

/// Profiles that are synchronised before the next check for due ones.
pub const PROFILE_SYNC_ROWS: i64 = 100;

/// Time between two checks for profiles to synchronise.
pub const PROFILE_SYNC_LOOK: Duration = Duration::from_secs(1);

/// Milliseconds for which a process claims the synchronisation of a profile.
pub const PROFILE_SYNC_LEASE_MS: i64 = 30 * 1000;

/// Milliseconds until a profile that the user service rejected is tried again. A rejection is a bug
/// that needs a correction.
pub const PROFILE_SYNC_REFUSED_MS: i64 = 60 * 1000;

/// Pauses after calls that did not reach the user service. The longest one is how soon profiles are
/// synchronised after it returns.
pub const PROFILE_SYNC_BACK_OFF: Backoff = Backoff { first_ms: 200, longest_ms: 5_000 };

/// Milliseconds for which the user service remembers the deletion of a profile, so that a delayed write
/// does not restore it. No process delays a write by a day.
pub const DELETED_PROFILE_MS: i64 = 24 * 60 * 60 * 1000;

/// Seconds for which clients may cache the key set. Shorter than the time between the publication of a
/// key and its first signature.
pub const JWKS_MAX_AGE_S: u32 = 300;

/// Milliseconds for which an audit event is kept: a year, and a month to examine it.
pub const AUDIT_MS: i64 = 400 * 24 * 60 * 60 * 1000;

/// Milliseconds after which network address and user agent of an audit event are erased if the
/// caller's account is deleted: a quarter in which abuse can be investigated.
pub const AUDIT_IDENTITY_MS: i64 = 90 * 24 * 60 * 60 * 1000;

/// Time between two deletions of expired rows: sessions, failed logins, audit events.
pub const SWEEP: Duration = Duration::from_secs(3600);

/// Time for which the clock is observed before sweeps and the rotation of keys trust it.
pub const CLOCK_WATCH: Duration = Duration::from_secs(60);

/// Milliseconds that the clock may gain or lose meanwhile, because time servers slew it.
pub const CLOCK_SLEW_MS: u64 = 5 * 1000;

/// Milliseconds for which expired rows are kept, in case the clock is ahead.
pub const SWEEP_MARGIN_MS: i64 = 60 * 60 * 1000;

/// Rows of one kind that a sweep deletes at a time: some milliseconds of work, even for sessions with
/// hundreds of tokens each.
pub const SWEEP_ROWS: i64 = 200;

/// Pause between two such batches, in which other writers continue.
pub const SWEEP_PAUSE: Duration = Duration::from_millis(20);

/// Time for another process to apply the migrations before the start fails.
pub const MIGRATE_WAIT: Duration = Duration::from_secs(60);

/// Pause between two checks whether it has.
pub const MIGRATE_PAUSE: Duration = Duration::from_millis(50);

/// Time to write an audit event, waits included. [`REQUEST_TIME`] and this together are a second below the
/// gateway's timeout.
pub const AUDIT_WAIT: Duration = Duration::from_secs(1);

/// Time that a recorded request waits for others before the answer is 503: half of the second that
/// [`AUDIT_WAIT`] leaves.
pub const AUDIT_ENTER: Duration = Duration::from_millis(500);

/// Audit events of rejected or failed requests per minute and user or, without a user, network address.
/// A person causes a few. Successful operations have no limit, because the audit log must contain each
/// change.
pub const AUDIT_REFUSALS: usize = 60;

/// Such events per minute of all users and addresses: below a gigabyte a day.
pub const AUDIT_REFUSALS_OF_ALL: usize = 1_000;

/// Concurrent writes of events of rejected requests. Half of the database connections are left to
/// successful operations.
pub const AUDIT_REFUSALS_AT_ONCE: usize = 4;

/// Audit events of a page by default.
pub const AUDIT_PAGE_DEFAULT: i64 = 50;

/// Bytes of a filter for events: an event type, or an id that is not a UUID, such as a key's or a
/// service's.
pub const AUDIT_WORD_BYTES: usize = 100;

/// Bytes of a service's name.
pub const SERVICE_NAME_BYTES: std::ops::RangeInclusive<usize> = 2..=63;

/// Services that may be added. The list of all is one page.
pub const SERVICES: i64 = 500;

/// Services that one service may call.
pub const SERVICE_AUDIENCES: usize = 32;

/// Time between two aggregations of measured times, which the recorder keeps individually until then.
pub const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// Time between two attempts to create the first administrator while the user service starts.
pub const FIRST_ADMIN_PAUSE: Duration = Duration::from_millis(500);
