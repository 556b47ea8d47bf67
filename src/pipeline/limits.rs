//! Every bound of the Worker, with its unit and its reason.

use std::ops::RangeInclusive;

use portcullis_resilience::Backoff;

/// Header lines of a request. Browsers send about 20.
pub const HEADERS: usize = 100;

/// Bytes of all header names and values of a request together.
pub const HEADER_BYTES: usize = 32 * 1024;

/// Bytes of `X-User-Roles`; a longer header is left out. The assertion has the roles as well, Node services
/// accept 16 KB of headers, and nginx 8 KB for one line.
pub const ROLES_HEADER_BYTES: usize = 4 * 1024;

/// Bytes of a `tracestate` that is passed on (W3C Trace Context, section 3.3.1.5, asks for at least 512).
pub const TRACESTATE_BYTES: usize = 512;

/// Seconds for which an assertion is valid: one hop, and a little clock skew.
pub const ASSERTION_S: u64 = 30;

/// Bytes of an assertion secret: the output size of its hash (RFC 7518, section 3.2, minimum).
pub const ASSERTION_SECRET_BYTES: usize = 32;

/// Secrets that may be live at once: the one in use and, during a rotation, the one before or after it.
pub const ASSERTION_SECRETS: usize = 2;

/// Seconds for which services and caches keep the public keys of assertions. A next key is published for longer before
/// it signs.
pub const JWKS_AGE_S: u64 = 300;

/// Seconds for which clients and caches keep the metadata of a resource. A pushed policy takes about as long.
pub const METADATA_AGE_S: u64 = 300;

/// Bytes of the scopes in a challenge; more are left out. Clients accept 8 KB for one header.
pub const CHALLENGE_SCOPE_BYTES: usize = 2 * 1024;

/// Milliseconds for which an isolate remembers a proof that was used: as long as any proof can be valid.
pub const PROOF_MEMORY_MS: u64 = portcullis_token::limits::PROOF_AGE_MS + portcullis_token::limits::PROOF_AHEAD_MS;

/// Milliseconds for which the gateway gives out one nonce. It is accepted for as long again, and both together are
/// [`PROOF_MEMORY_MS`].
pub const NONCE_MS: u64 = PROOF_MEMORY_MS / 2;

/// Milliseconds for the object that remembers the proofs of strict routes.
pub const PROOF_LOG_MS: u64 = 1_000;

/// Proofs that an isolate remembers within [`PROOF_MEMORY_MS`], and as many of the time before: up to 5 MB, of its 128.
/// That is 700 requests with proofs in each second.
pub const PROOFS: usize = 64 * 1024;

/// Those of one account, so that it cannot fill the memory: 90 requests in each second.
pub const PROOFS_OF_ACCOUNT: u16 = 8 * 1024;

/// Accounts that are counted, by 16 bits of their hashes: 128 KiB. Others share a count.
pub const PROOF_ACCOUNTS: usize = 1 << 16;

/// Bytes that a cached token takes more if it is bound: the confirmation, and the key of its proofs.
pub const TOKEN_CACHE_PROOF_BYTES: usize = 2 * 1024;

/// Characters of `METRICS_TOKEN` and `OPERATORS_TOKEN`, at least: 16 random ones cannot be guessed.
pub const OPERATORS_TOKEN_CHARS: usize = 16;

/// Percentage of successes that are logged by default outside development. The platform charges for each line;
/// the metrics count every request.
pub const LOGGED_SUCCESSES: u8 = 10;

/// Bytes of an isolate's token cache, of its 128 MB: two to three thousand tokens of usual size.
pub const TOKEN_CACHE_BYTES: usize = 8 * 1024 * 1024;

/// Bytes that a cached token takes besides its texts: revocation keys, pointers, times, and the state and the
/// header of its assertions.
pub const TOKEN_CACHE_ENTRY_BYTES: usize = 896;

/// Bytes that a role, a scope, or a name or value of a claim of a cached token takes besides its text.
pub const TOKEN_CACHE_NAME_BYTES: usize = 32;

/// Milliseconds for which a verified token is cached at most, however long it is valid.
pub const TOKEN_CACHE_MS: u64 = 5 * 60 * 1000;

/// The pauses between checks whether another request of this isolate has fetched the keys. A thousand
/// requests that wait for a slow issuer must not keep the isolate busy.
pub const KEY_PAUSE: Backoff = Backoff { first_ms: 20, longest_ms: 320 };

/// Milliseconds after which a request takes no further step for a key: a read of KV, and a fetch that
/// another request may have lost.
pub const KEY_WAIT_MS: u64 = KV_MS + portcullis_token::keys::limits::LOST_MS;

/// Requests of one isolate that wait while another one reads the revocation log, and as many that wait for
/// the keys of issuers, which have equal shares: requests for one issuer's keys leave room for the others.
pub const WAITERS: u32 = 1_024;

/// Readiness checks that ask issuers and the revocation log at once. Probes are few; anyone may send them.
pub const READY_CHECKS: u32 = 16;

/// Milliseconds after which a readiness check counts as lost: twice what it may wait for keys, and the log.
pub const READY_LOST_MS: u64 = 2 * KEY_WAIT_MS + portcullis_token::revocation::limits::WAIT_MS;

/// Milliseconds after the end of its pause at which a waiting request counts as lost.
pub const WAITER_LOST_MS: u64 = 5_000;

/// Bytes of a request with a security event: the longest token, and the name of its field.
pub const EVENT_BYTES: usize = portcullis_token::limits::TOKEN_BYTES + 1024;

/// Characters of the `Authorization` that a transmitter of security events sends, at least: 16 random ones cannot be
/// guessed.
pub const EVENTS_AUTHORIZATION_CHARS: usize = 16;

/// Milliseconds for a client to send the body of a push.
pub const PUSH_BODY_MS: u64 = 10_000;

/// Milliseconds between the first count and the flush.
pub const FLUSH_MS: u64 = 10_000;

/// Milliseconds after which a scheduled flush is lost: the platform ends background work by then.
pub const FLUSH_LOST_MS: u64 = 30_000;

/// Spans that wait or are being sent, at most: some megabytes, however slow the collector is.
pub const SPANS: usize = 1_024;

/// Spans at which a batch is sent at once.
pub const SPANS_BATCH: usize = 256;

/// Milliseconds for a collector to accept a batch.
pub const SPANS_SEND_MS: u64 = 5_000;

/// Client addresses whose refused tokens are being counted or are beyond a limit: a few hundred KB.
pub const FAILED_AUTH_ADDRESSES: usize = 2_048;

/// Milliseconds for which an isolate refuses an address beyond a limit before it counts again.
pub const OVER_MS: u64 = 10_000;

/// Milliseconds after which a count without a result is lost, and the next refused token is counted.
pub const COUNT_LOST_MS: u64 = 5_000;

/// The clients of one network may hold one in so many permits for bodies and questions, so that slow ones leave room for
/// others.
pub const NETWORK_SHARE: u32 = 8;

/// Seconds in `Retry-After` when too many requests wait.
pub const BUSY_RETRY_S: u64 = 1;

/// Questions to one authorizer or introspection endpoint at once, of one isolate.
pub const BACKCHANNEL_QUESTIONS: u32 = 512;

/// Decisions of one authorizer that an isolate caches: half a megabyte.
pub const AUTHORIZER_DECISIONS: usize = 4_096;

/// Milliseconds between two looks whether another request has the answer about the same token. An endpoint takes some ten.
pub const ANSWER_PAUSE_MS: u64 = 20;

/// Bytes of an authorizer's answer, most of which is its context, or of the claims that an introspection endpoint states.
pub const BACKCHANNEL_BYTES: usize = 16 * 1024;

/// Milliseconds for which an inactive token is remembered: it may be repeated in a moment, and may become active.
pub const INACTIVE_MS: u64 = 5_000;

/// Inactive tokens that an isolate remembers for each introspection endpoint: half a megabyte.
pub const INACTIVE_TOKENS: usize = 4_096;

/// API keys without a record that an isolate remembers for each issuer, for [`INACTIVE_MS`].
pub const REFUSED_API_KEYS: usize = INACTIVE_TOKENS;

/// Seconds for which KV keeps a record at least.
pub const KV_LEAST_S: u64 = 60;

/// Milliseconds from the first try, within which a further one must be able to end; otherwise it does not begin.
pub const RETRY_TOTAL_MS: u64 = 30_000;

/// The delay before a retry, of which each retry waits a random part.
pub const RETRY_BACKOFF: Backoff = Backoff { first_ms: 50, longest_ms: 500 };

/// Retries that an upstream's budget holds when an isolate starts.
pub const FIRST_RETRIES: u32 = 5;

/// Milliseconds beyond the upstream's time-out after which a probe is lost and the next one is sent.
pub const PROBE_LOST_MS: u64 = 1_000;

/// Seconds in `Retry-After` of a 502 or 504: about the time of an origin's restart.
pub const UPSTREAM_RETRY_S: u64 = 5;

/// Bytes of a logged method.
pub const LOG_METHOD_BYTES: usize = 16;

/// Bytes of one read from a request's body.
pub const BODY_PART_BYTES: u64 = 64 * 1024;

/// Bytes of a body of known length up to which it is read completely before it is passed on. It takes the
/// memory of one part, and the permits for bodies bound their number: 64 KiB for half of `max_concurrent`. The
/// runtime reads the rest of so short a body by itself, so a late one is not drained.
pub const WHOLE_BODY_BYTES: u64 = BODY_PART_BYTES;
const _: () = assert!(WHOLE_BODY_BYTES <= UNDRAINED_BYTES, "a late body needs no drain");

/// Bytes of a JSON body that is checked against a schema. It is held until the service has answered, as a short one is.
pub const VALIDATED_BODY_BYTES: u64 = WHOLE_BODY_BYTES;

/// Findings in an answer. A client corrects these first.
pub const FINDINGS: usize = 20;

/// Bytes of each text of a finding.
pub const FINDING_BYTES: usize = 300;

/// Bytes of a body above which it waits for an early answer of the upstream before it is sent. An
/// upstream that refuses by the head and closes resets the connection while the body is sent, and the
/// runtime then loses the answer. Services refuse lengths from 1 MiB on; shorter bodies do not wait.
pub const HELD_BODY_BYTES: u64 = 1024 * 1024;

/// Milliseconds of that wait.
pub const HOLD_MS: u64 = 100;

/// Bytes of a body without a length that are read during the wait. A body that ends in them does not wait.
pub const READ_AHEAD_BYTES: u64 = BODY_PART_BYTES;

/// Parts that are read during the wait at most: each is an object, however small.
pub const READ_AHEAD_PARTS: u32 = 64;

/// Milliseconds without a byte from the client after which an upstream that closes the connection may
/// have given up on the client. An upstream that closes sooner has failed.
pub const CLIENT_SILENT_MS: u64 = 1_000;

/// The lowest status with which an upstream that answers early wants no more of the body (RFC 9112,
/// section 9.5).
pub const REFUSAL_STATUS: u16 = 400;

/// Bytes of an early answer that is read completely before it is passed on, because it is lost with
/// the upstream's connection.
pub const EARLY_ANSWER_BYTES: u64 = 64 * 1024;

/// Milliseconds for that.
pub const EARLY_ANSWER_MS: u64 = 1_000;

/// Bytes of a refused body that are read and discarded. A connection that is closed with an unread
/// body is reset, and the client never sees the answer.
pub const DRAIN_BYTES: u64 = 16 * 1024 * 1024;

/// Milliseconds for that.
pub const DRAIN_MS: u64 = 2_000;

/// Bodies that are discarded at once, so that a flood of them cannot hold an isolate's events.
pub const DRAINS: u32 = 256;

/// Bytes of a body that the runtime reads by itself.
pub const UNDRAINED_BYTES: u64 = 64 * 1024;

/// Bytes of an Ed25519 signature (RFC 8032, section 5.1.6).
pub const ED25519_SIGNATURE_BYTES: usize = 64;

/// Imported keys that an isolate caches, of issuers and of clients: issuers have a few each.
pub const IMPORTED_KEYS: usize = 256;

/// Bytes of an answer whose length the runtime can state itself: the integers of JavaScript. A longer one is
/// passed on in chunks.
pub const STATED_LENGTH_BYTES: u64 = (1 << 53) - 1;

/// Milliseconds for each of the runtime's counters, for which requests wait one after another.
pub const COUNTER_MS: u64 = 1_000;
const _: () = assert!(COUNTER_MS < COUNT_LOST_MS, "a count that is under way is not counted again");

/// Milliseconds after which a signature counts as lost, which the runtime checks before it returns.
pub const RUNTIME_MS: u64 = 10_000;

/// Bytes of one call for random bytes: 64 draws, of which a forwarded request takes two or more.
pub const RANDOM_BYTES: usize = 48 * 64;

/// Milliseconds for KV, which normally answers within a second.
pub const KV_MS: u64 = 5_000;

/// Seconds for which a location may cache a KV answer: KV's minimum.
pub const KV_CACHE_S: u32 = 60;

/// Seconds after which KV deletes a set that is not written again: twice its longest use.
pub const KV_KEEP_S: u64 = 2 * portcullis_token::keys::limits::HARD_MS / 1000;

/// Bytes of a pushed policy.
pub const POLICY_BYTES: usize = 16 * 1024 * 1024;

/// Seconds between two reads of the pushed policy by one isolate, unless a variable says otherwise.
pub const POLICY_REREAD_S: u64 = 30;

/// The seconds that the variable may set: not each request reads, and a push is in use within a day.
pub const POLICY_REREAD_RANGE_S: RangeInclusive<u64> = 1..=24 * 60 * 60;

/// The pauses between checks whether another request of a new isolate has read the policy.
pub const POLICY_PAUSE: Backoff = Backoff { first_ms: 10, longest_ms: 320 };

/// Milliseconds for which a request of a new isolate waits for that: the policy and its predecessor.
pub const POLICY_WAIT_MS: u64 = 2 * KV_MS;

/// Milliseconds for the sums of the metrics, for which only the operator's scraper waits.
pub const SUMS_MS: u64 = 5_000;

/// Bytes of the sums.
pub const SUMS_BYTES: usize = 16 * 1024 * 1024;

/// Series of the sums: about a thousand routes with ten methods and statuses each. More are left out.
pub const SERIES: u64 = 50_000;

/// Bytes of the name of a series.
pub const SERIES_NAME_BYTES: usize = 1_024;

/// Milliseconds after which a series without additions is deleted, most likely of a removed route.
pub const SERIES_KEEP_MS: u64 = 30 * 24 * 60 * 60 * 1000;

/// Waiting requests and background tasks from which on an isolate refuses requests: 10 KB each, of its 128 MB.
pub const WAITING: usize = 4_096;

/// Milliseconds after the time-out of a wait after which a request is dropped: the runtime has ended
/// its event. Timers of a busy isolate can be this late.
pub const WAITING_LOST_MS: u64 = 5_000;
