//! Every bound of revocation, with its unit and its reason.

/// Milliseconds after which an isolate looks at the log again, once a request comes.
pub const REREAD_MS: u64 = 1_000;

/// Milliseconds for which a location keeps the newest page for all its isolates: the
/// log is asked once in that time from each location.
pub const PAGE_KEEP_MS: u64 = 2_000;

/// Milliseconds for which a location keeps the whole log, for isolates that begin.
/// Shorter than what the newest page covers, so that the two together have no gap.
pub const WHOLE_KEEP_MS: u64 = 30_000;

/// Milliseconds of the past that the newest page covers.
pub const PAGE_COVERS_MS: u64 = 60_000;

/// Entries of the newest page. A burst beyond that has isolates read the whole log.
pub const PAGE_ENTRIES: usize = 5_000;

/// Milliseconds up to which a copy is used without a wait: page, reread, and the time
/// that reading takes. The window in which a revoked token may still pass.
pub const STALE_MS: u64 = 4_000;

/// Milliseconds for one question to the log; who takes longer counts as out of reach.
pub const ASK_MS: u64 = 1_000;

/// Milliseconds for the whole log, which may be megabytes from another continent.
pub const ASK_WHOLE_MS: u64 = 5_000;

/// Milliseconds after a failed look before the next.
pub const BACK_OFF_MS: u64 = 1_000;

/// Milliseconds between two looks at whether another request has brought the copy.
pub const WAIT_STEP_MS: u64 = 10;

/// Milliseconds that one request spends on getting a copy, whatever happens: the newest
/// page, again past what kept it, and the whole log.
pub const WAIT_MS: u64 = 2 * ASK_MS + ASK_WHOLE_MS;

/// Entries of one isolate's copy, about 60 bytes each and three times that while a page
/// is read. A log that has more makes every route ask the log itself.
pub const COPY_ENTRIES: usize = 100_000;

/// Entries of the log. Past it pushes are refused, and wait where they come from.
pub const LOG_ENTRIES: usize = 1_000_000;

/// Bytes of a page; [`COPY_ENTRIES`] take about 60 each.
pub const PAGE_BYTES: usize = 8 * 1024 * 1024;

/// Milliseconds between two sweeps of what has expired.
pub const SWEEP_MS: u64 = 600_000;

/// Seconds, beyond the issuer's leeway, that `issued_until` of a push may lie ahead. An
/// issuer of several processes revokes up to the latest second in which one of them, whose
/// clock is ahead of the others', may have issued a token. A push that is refused leaves
/// tokens alive until it is sent again.
pub const ISSUED_AHEAD_S: u64 = 60;

/// Bytes of a push.
pub const PUSH_BYTES: usize = 256 * 1024;

/// Revocations of a push.
pub const PUSH_ENTRIES: usize = 1_000;

/// Bytes of an id in a push: as many as the token room takes in a claim.
pub const SUBJECT_BYTES: usize = crate::limits::CLAIM_BYTES;

/// Tries to tell the log of an end that this gateway saw itself.
pub const NOTE_TRIES: u32 = 4;
