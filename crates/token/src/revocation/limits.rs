//! Bounds of revocation, each with its unit and its reason.

/// Milliseconds after which the next request has an isolate read the log again.
pub const REREAD_MS: u64 = 1_000;

/// Milliseconds for which a location caches the newest page for all its isolates: each location
/// reads the log once in that time.
pub const PAGE_KEEP_MS: u64 = 2_000;

/// Milliseconds for which a location caches the whole log, for new isolates. Shorter than what the
/// newest page covers, so that the two together have no gap.
pub const WHOLE_KEEP_MS: u64 = 30_000;

/// Milliseconds of the past that the newest page covers.
pub const PAGE_COVERS_MS: u64 = 60_000;

/// Entries of the newest page. After a larger burst, isolates read the whole log.
pub const PAGE_ENTRIES: usize = 5_000;

/// Milliseconds up to which a copy is used without waiting: the page's caching, the interval between
/// reads, and the time that a read takes. A revoked token may pass for this long.
pub const STALE_MS: u64 = 4_000;

/// Milliseconds for one read of the log; after that it counts as unreachable.
pub const ASK_MS: u64 = 1_000;

/// Milliseconds for a page from the runtime's cache; after that the log is read. Not part of [`ASK_MS`], so
/// that a slow cache does not make the log unreachable.
pub const CACHE_MS: u64 = ASK_MS / 4;

/// Milliseconds for a read of the whole log, which may be megabytes from another continent.
pub const ASK_WHOLE_MS: u64 = 5_000;

/// Milliseconds from a failed read to the next.
pub const BACK_OFF_MS: u64 = 1_000;

/// Milliseconds between checks whether another request has read the log.
pub const WAIT_STEP_MS: u64 = 10;

/// Milliseconds that one request spends on a copy at most: the newest page and the whole log, each from the
/// cache and then from the log.
pub const WAIT_MS: u64 = 2 * CACHE_MS + ASK_MS + ASK_WHOLE_MS;

/// Entries of one isolate's copy, about 60 bytes each and three times that while a page is read. If
/// the log has more, every route asks the log itself.
pub const COPY_ENTRIES: usize = 100_000;

/// Entries of the log. Beyond that, pushes are refused and wait at their sender.
pub const LOG_ENTRIES: u64 = 1_000_000;

/// Bytes of a page; [`COPY_ENTRIES`] take about 60 each.
pub const PAGE_BYTES: usize = 8 * 1024 * 1024;

/// Milliseconds between two removals of expired entries.
pub const SWEEP_MS: u64 = 600_000;

/// Seconds that `issued_until` of a push may be in the future, beyond the issuer's leeway. An issuer
/// with several processes revokes up to the latest second in which the process whose clock is
/// furthest ahead may have issued a token.
pub const ISSUED_AHEAD_S: u64 = 60;

/// Bytes of a push.
pub const PUSH_BYTES: usize = 256 * 1024;

/// Revocations of a push.
pub const PUSH_ENTRIES: usize = 1_000;

/// Attempts to write a logout that the gateway saw itself to the log.
pub const NOTE_TRIES: u32 = 4;

/// Entries of one read of single ones: those of a token (its own, its session's, its user's and its signing key's), or of
/// the API keys of one push.
pub const ENTRIES_READ: usize = crate::limits::API_KEY_CHANGES;
