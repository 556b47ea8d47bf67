//! Every bound of the origin, with its unit and its reason.

use std::time::Duration;

/// Bytes of a request body. The largest honest one is a profile: below 2 KB.
pub const BODY_BYTES: usize = 64 * 1024;

/// Bytes of a request body that are read and thrown away before it is refused. Who
/// sends more gets a reset connection.
pub const DRAIN_BYTES: usize = 8 * 1024 * 1024;

/// Time for what is left of a body after its answer: as long as the gateway waits for that.
pub const DRAIN_WAIT: Duration = Duration::from_secs(5);

/// Time for a request's head to arrive: a client that sends a byte at a time
/// holds a connection no longer.
pub const HEAD_TIME: Duration = Duration::from_secs(10);

/// Time for a TLS handshake: two round trips, of which the slowest honest line needs a second
/// each. Until it is done nobody has asked for anything, and a connection is held.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// Bytes of a file with certificates or a key that are read. A chain has some 6 KB; what is
/// longer is another file.
pub const PEM_BYTES: u64 = 256 * 1024;

/// Bytes of a file with a key or a password that are read. A password has 128 characters at
/// most, and the local secrets some hundred each; what is longer is another file.
pub const SECRET_FILE_BYTES: u64 = 16 * 1024;

/// Time between two looks whether the certificate was renewed. Nobody waits for it; a few
/// seconds spare whoever renews by hand the question whether it worked.
pub const CERTIFICATE_LOOK: Duration = Duration::from_secs(5);

/// Time for a whole request, body included. With the audit event after it ([`AUDIT_WAIT`]) it
/// stays below the 15 seconds that the gateway waits for us (`timeout_ms` in `gateway.toml`):
/// a time-out there counts as an outage and opens the circuit, a 503 from here does not.
pub const REQUEST_TIME: Duration = Duration::from_secs(12);

/// Connections at once; more wait in the kernel's queue.
pub const CONNECTIONS: usize = 1024;

/// Connections of one peer at once: one IPv4 address, or 64 bits of an IPv6 one. Half of all,
/// because a proxy in front of the service is one peer. One on loopback has no such bound.
pub const PEER_CONNECTIONS: usize = CONNECTIONS / 2;

/// Pause after a connection that could not be accepted.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Time for a client to take something of an answer: one that reads nothing holds neither a
/// connection nor the answer any longer.
pub const WRITE_TIME: Duration = Duration::from_secs(10);

/// Time given to requests under way when the process is told to stop.
pub const DRAIN_TIME: Duration = Duration::from_secs(10);

/// Database connections of one service.
pub const POOL: u32 = 8;

/// Time to wait for a database connection or lock before it is a 503.
pub const STORE_WAIT: Duration = Duration::from_secs(3);

/// Pause between two tries to reach a database where none is listening.
pub const REACH_PAUSE: Duration = Duration::from_millis(200);

/// Time for a connection to the database to say that it is there: a round trip, on a busy
/// machine. Well below [`STORE_WAIT`], so that who meets a dead one gets another in time.
pub const PING_TIME: Duration = Duration::from_secs(1);

/// Time for a statement or transaction of the background: the wait for a connection and for
/// a lock ([`STORE_WAIT`] each). Whoever is late tries again anyway.
pub const STATEMENT_TIME: Duration = Duration::from_secs(6);

/// Time for the connections to the database to close when the process stops: for SQLite's
/// log to be folded in. Whoever does not answer is given up.
pub const CLOSE_TIME: Duration = Duration::from_secs(5);

/// Time for which `/ready` repeats what it found out by writing.
pub const READY_KEEP: Duration = Duration::from_secs(2);

/// Characters of a password (NIST SP 800-63B asks for 8 and at least 64).
pub const PASSWORD_CHARS: std::ops::RangeInclusive<usize> = 8..=128;

/// Bytes of an e-mail address (RFC 5321, section 4.5.3.1).
pub const EMAIL_BYTES: usize = 254;

/// Characters of a first or last name.
pub const NAME_CHARS: usize = 100;

/// Bytes of a role's or permission's name: what the gateway takes of a role in a token.
pub const RIGHT_NAME_BYTES: usize = 64;

/// Characters of a role's description: a line or two.
pub const DESCRIPTION_CHARS: usize = 200;

/// Roles in all. Hundreds are more than anybody can oversee; without a bound a script that
/// runs away fills the database.
pub const ROLES: i64 = 1000;

/// Permissions in all, and so of one role and of one account: what is told of an account
/// stays below 70 KB.
pub const PERMISSIONS: i64 = 1000;

/// Roles of one account: the gateway takes no more of them from a token, and with the
/// longest names an access token stays below 8 KB, which is what it takes in all.
pub const HELD_ROLES: usize = 64;

/// Bytes of an `Idempotency-Key`: a UUID has 36, and what is shorter than 16 may be another
/// client's by chance.
pub const IDEMPOTENCY_KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=128;

/// Milliseconds for which a registration may be sent again with its key.
pub const IDEMPOTENCY_KEY_MS: i64 = 24 * 60 * 60 * 1000;

/// Password hashes computed at once. Each takes a core and 19 MiB; more at a
/// time make every login slower and none faster.
pub const HASHES: usize = 2;

/// Time that a login waits for its turn before it is told to come back: fifty registrations
/// at once on two busy cores have theirs. With a registration's call to the user service
/// (2.5 s at most) it stays below [`REQUEST_TIME`].
pub const HASH_WAIT: Duration = Duration::from_secs(8);

/// Time of a hash, until the first ones are measured.
pub const HASH_EXPECTED: Duration = Duration::from_millis(50);

/// Callers that wait for their turn, however short it is.
pub const HASH_QUEUE: usize = 1000;

/// Turns of known callers in a row before a stranger's: a known caller may be a thief, too.
pub const KNOWN_IN_A_ROW: usize = 3;

/// Memory in KiB for a stored hash that was made at other figures than ours. Twice the second
/// recommendation of RFC 9106, and as often at once as [`HASHES`] says.
pub const HASH_MEMORY_KIB_MAX: u32 = 128 * 1024;

/// Passes of such a hash.
pub const HASH_PASSES_MAX: u32 = 8;

/// Lanes of such a hash.
pub const HASH_LANES_MAX: u32 = 4;

/// Wrong passwords in a row, of one account, that cost no wait: people mistype.
pub const FAILURES_FREE: i64 = 5;

/// Milliseconds between the last of these and the next try; twice as many with each
/// further failure.
pub const FAILURE_DELAY_MS: i64 = 1000;

/// The longest of these waits, in milliseconds: a guesser has 1440 tries a day, and an
/// owner at a new place loses a minute.
pub const FAILURE_DELAY_MAX_MS: i64 = 60 * 1000;

/// Milliseconds after its login in which a session's access token may change the e-mail
/// address or delete the account without the password: longer than a form takes, and shorter
/// than a stolen token is good.
pub const RECENT_LOGIN_MS: i64 = 5 * 60 * 1000;

/// Milliseconds after the last failure for which a row of them counts.
pub const FAILURES_KEPT_MS: i64 = 15 * 60 * 1000;

/// Milliseconds for which an address stays known after a login from there.
pub const KNOWN_ADDRESS_MS: i64 = 90 * 24 * 60 * 60 * 1000;

/// Known addresses of one account: home, work, some mobile networks.
pub const KNOWN_ADDRESSES: i64 = 20;

/// Milliseconds for which a key signs.
pub const SIGNING_KEY_MS: i64 = 30 * 24 * 60 * 60 * 1000;

/// Seconds between a key's publication and its first signature, unless set otherwise:
/// three times as long as anybody may keep the set.
pub const KEY_LEAD_S: i64 = 15 * 60;

/// The least that may be set. A gateway asks for an unknown key once in 30 seconds, and
/// another process of ours may publish some seconds later.
pub const KEY_LEAD_MIN_S: i64 = 40;

/// Time between two looks at what other processes did with the keys.
pub const KEYS_RELOAD: Duration = Duration::from_secs(5);

/// Milliseconds by which the signing keys may have been made later than our clock says. More
/// of it is a clock that is wrong, and tokens that nobody takes.
pub const KEYS_AHEAD_MS: i64 = 60 * 1000;

/// Milliseconds that an access token is good.
pub const ACCESS_TOKEN_MS: i64 = 15 * 60 * 1000;

/// Milliseconds that a service token is good.
pub const SERVICE_TOKEN_MS: i64 = 5 * 60 * 1000;

/// Milliseconds that a refresh token is good.
pub const REFRESH_TOKEN_MS: i64 = 7 * 24 * 60 * 60 * 1000;

/// Sessions of one account that live at once: far more than anybody has devices. The oldest
/// ends when a further one begins.
pub const SESSIONS: i64 = 100;

/// Seconds after a refresh token was spent in which the same token is answered with the same
/// successor, unless set otherwise: two tabs, or a client that lost the answer and tried
/// again. Any later use ends the session.
pub const REFRESH_REUSE_S: i64 = 10;

/// The most that may be set. A client that lost an answer tries again within its time-out.
pub const REFRESH_REUSE_MAX_S: i64 = 60;

/// Days after its login at which a session ends however often it is refreshed, unless set
/// otherwise.
pub const SESSION_MAX_DAYS: i64 = 90;

/// What may be set: from one refresh token's lifetime ([`REFRESH_TOKEN_MS`]) to ten years.
pub const SESSION_MAX_DAYS_RANGE: std::ops::RangeInclusive<i64> = 1..=3650;

/// Milliseconds of clock difference forgiven on service tokens.
pub const LEEWAY_MS: i64 = 30 * 1000;

/// Bytes of a token of ours: an access token with the most and the longest roles
/// ([`HELD_ROLES`]) fits, and the gateway takes no longer one.
pub const TOKEN_BYTES: usize = 8 * 1024;

/// Bytes of a key set that the user service reads from the auth service.
pub const JWKS_BYTES: usize = 64 * 1024;

/// Milliseconds for which that set is used without another look: how long a key is believed
/// after it was revoked and every process of the auth service knows of it.
pub const JWKS_FRESH_MS: i64 = 5 * 1000;

/// Milliseconds for which a set is used while the auth service cannot be asked, here and at
/// the gateway. Past it nobody knows what was revoked.
pub const JWKS_KEPT_MS: i64 = 24 * 60 * 60 * 1000;

/// Time between two fetches of that set for kids that are not in it, and after one that
/// failed while a set is at hand.
pub const JWKS_COOL_DOWN: Duration = Duration::from_secs(5);

/// Time after a fetch that failed before the next one: long enough to spare a
/// service that is down, short enough to be there when it is back.
pub const JWKS_BACK_OFF: Duration = Duration::from_millis(500);

/// Characters of a path, a user agent or an address in the log.
pub const LOG_TEXT_CHARS: usize = 256;

/// Bytes of one word there: a UUID has 36, and what is longer may be a token.
pub const LOG_WORD_BYTES: usize = 36;

/// Seconds by which tokens may be issued ahead of the clock, after all sessions of an
/// account were ended several times within one second, or by a process whose clock is
/// behind another's: the gateway's leeway.
pub const REVOKED_AHEAD_S: i64 = 30;

/// Seconds by which the clocks of two processes may differ: the gateway's leeway. It takes
/// no token of a clock that is further ahead.
pub const CLOCKS_APART_S: i64 = 30;

/// Time for one push of revocations to the gateway.
pub const PUSH_TIME: Duration = Duration::from_secs(3);

/// Revocations of one push; the gateway takes twice as many.
pub const PUSH_ITEMS: i64 = 500;

/// Time between two looks for revocations that another process wrote.
pub const OUTBOX_LOOK: Duration = Duration::from_secs(1);

/// Pause after the first push that failed; it doubles with each further one.
pub const PUSH_BACK_OFF: Duration = Duration::from_millis(200);

/// The longest of these pauses: how long after the gateway's return it is told.
pub const PUSH_BACK_OFF_MAX: Duration = Duration::from_secs(5);

/// Rows of one page of a list.
pub const PAGE: std::ops::RangeInclusive<i64> = 1..=100;

/// What an instant may be, in milliseconds: RFC 3339 has years of four digits.
pub const INSTANT_MS: std::ops::RangeInclusive<i64> = 0..=253_402_300_799_999;

/// Rows before a page. Who wants to go further takes cursors, for which nothing that is passed
/// over is read.
pub const OFFSET: std::ops::RangeInclusive<i64> = 0..=1_000_000;

/// Rows of a page when none is asked for.
pub const PAGE_DEFAULT: i64 = 10;

/// Entity tags of one condition. An honest one names one or two.
pub const ENTITY_TAGS: usize = 32;

/// Roles that a new user is given at once.
pub const ROLES_GIVEN: usize = 32;

/// Milliseconds after which a registration that got stuck is undone. Longer by far than
/// one takes, so that none is undone under way.
pub const PENDING_MS: i64 = 15 * 60 * 1000;

/// Milliseconds that the caller of a change has to write it to the profile before the auth
/// service does: twice as long as a call between the services takes at most.
pub const PROFILE_SYNC_GRACE_MS: i64 = 5 * 1000;

/// Profiles that one look makes equal, before it looks what has become due meanwhile.
pub const PROFILE_SYNC_ROWS: i64 = 100;

/// Time between two looks for profiles to make equal.
pub const PROFILE_SYNC_LOOK: Duration = Duration::from_secs(1);

/// Milliseconds for which other processes leave a profile to the one that took it on.
pub const PROFILE_SYNC_LEASE_MS: i64 = 30 * 1000;

/// Milliseconds until a profile is tried again that the user service refused: a fault of
/// ours, which takes a person to mend.
pub const PROFILE_SYNC_REFUSED_MS: i64 = 60 * 1000;

/// Pause after the first time that the user service was out of reach; it doubles.
pub const PROFILE_SYNC_BACK_OFF: Duration = Duration::from_millis(200);

/// The longest of these pauses: how long after its return profiles are made equal.
pub const PROFILE_SYNC_BACK_OFF_MAX: Duration = Duration::from_secs(5);

/// Milliseconds for which the user service knows that a profile was deleted, so that a
/// write that was long on its way does not bring it back. No process holds one for a day.
pub const DELETED_PROFILE_MS: i64 = 24 * 60 * 60 * 1000;

/// Seconds for which clients may keep the key set. Shorter than the time
/// between a key's publication and its first signature.
pub const JWKS_MAX_AGE_S: u32 = 300;

/// Milliseconds for which an audit event is kept: a year, and the month in which somebody
/// looks back at it.
pub const AUDIT_MS: i64 = 400 * 24 * 60 * 60 * 1000;

/// Milliseconds after which the network address and the program of an audit event are erased
/// when the account that asked is no more: a quarter in which abuse can be looked into.
pub const AUDIT_IDENTITY_MS: i64 = 90 * 24 * 60 * 60 * 1000;

/// Time between two sweeps of what is old: sessions, failed logins, audit events.
pub const SWEEP: Duration = Duration::from_secs(3600);

/// Time for which the clock is watched before a sweep believes it.
pub const SWEEP_WATCH: Duration = Duration::from_secs(60);

/// Milliseconds that the clock may gain or lose in that time: time servers slew it.
pub const SWEEP_SLEW_MS: i64 = 5 * 1000;

/// Milliseconds for which what is over is kept yet, should the clock be ahead all that time.
pub const SWEEP_MARGIN_MS: i64 = 60 * 60 * 1000;

/// Rows of one kind that a sweep deletes at a time: some milliseconds' work, also for
/// sessions with some hundred tokens each.
pub const SWEEP_ROWS: i64 = 200;

/// Pause between two such portions, in which others write.
pub const SWEEP_PAUSE: Duration = Duration::from_millis(20);

/// Time for another process to bring the tables up to date, before it is a fault.
pub const MIGRATE_WAIT: Duration = Duration::from_secs(60);

/// Pause between two looks whether it has.
pub const MIGRATE_PAUSE: Duration = Duration::from_millis(50);

/// Time for the writing of an audit event. With [`REQUEST_TIME`] before it, it stays
/// below the time that the gateway waits for us.
pub const AUDIT_WAIT: Duration = Duration::from_secs(1);

/// Audit events of refused or failed requests for one user and minute; without a user, for one
/// network address. A person leaves a few. Successes have no such bound: each is a change that
/// was made, and the trail must have it.
pub const AUDIT_REFUSALS: usize = 60;

/// Users and addresses of which refusals are counted at once. Beyond it all share one count.
pub const AUDIT_COUNTED: usize = 10_000;

/// Refusals that are written at once: half of the database's connections are left to
/// successes.
pub const AUDIT_REFUSALS_AT_ONCE: usize = 4;

/// Audit events of a page when none is asked for.
pub const AUDIT_PAGE_DEFAULT: i64 = 50;

/// Bytes of an event's name, or of an id that is no UUID (a key's, a service's), by which
/// events are looked for.
pub const AUDIT_WORD_BYTES: usize = 100;

/// Bytes of a service's name.
pub const SERVICE_NAME_BYTES: std::ops::RangeInclusive<usize> = 2..=63;

/// Services that may be added: more than anybody oversees, and a page that is listed whole.
pub const SERVICES: i64 = 500;

/// Services that one service may call.
pub const SERVICE_AUDIENCES: usize = 32;

/// Time between two foldings of what was timed: until then every single time is kept.
pub const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// Time between two tries to make the first administrator, while the user service starts.
pub const FIRST_ADMIN_PAUSE: Duration = Duration::from_millis(500);
