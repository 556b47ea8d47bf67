//! Bounds of key sets, each with its unit and its reason.

use portcullis_resilience::Backoff;

/// Bytes of a JWKS body. Most public sets have less than 20 KB; a hundred RSA-4096 keys with
/// certificates have 400 KB. Parsing takes a few times that in memory. A larger set is 503, never 401.
pub const JWKS_BYTES: usize = 512 * 1024;

/// Keys of one set that are validated, which takes up to 0.5 ms each. Providers publish 2 to 10,
/// multi-tenant ones up to a hundred. In a larger set, a key that is not found is 503, never 401.
pub const KEYS: usize = 256;

/// Keys of one service's assertions: the one that signs, the one before or after it, and one more for a rotation that
/// was not finished.
pub const SIGNING_KEYS: usize = 4;

/// Bytes of the private member of a key of P-256 or Ed25519.
pub(super) const PRIVATE_BYTES: usize = 32;

/// Keys tried for one token, where several fit equally. Each costs a signature check.
pub const CANDIDATES: usize = 4;

/// Smallest RSA modulus in bits (RFC 7518, section 3.3).
pub const RSA_BITS_MIN: usize = 2048;

/// Largest RSA modulus in bits; the cost of verification grows with its square.
pub const RSA_BITS_MAX: usize = 4096;

/// Bytes of a key set's URL in a discovery document.
pub const URL_BYTES: usize = 2048;

/// Milliseconds for which a fetched set is fresh, unless its issuer says otherwise.
pub const FRESH_MS: u64 = 10 * 60 * 1000;

/// Shortest freshness in milliseconds that an issuer can set: at most one fetch a minute.
pub const FRESH_MIN_MS: u64 = 60 * 1000;

/// Longest freshness in milliseconds that an issuer can set: a removed key is used for this long.
pub const FRESH_MAX_MS: u64 = 60 * 60 * 1000;

/// Milliseconds for which a set is used while its issuer cannot be reached. After that, what the
/// issuer has withdrawn is unknown: 503.
pub const HARD_MS: u64 = 24 * 60 * 60 * 1000;

/// Milliseconds from the end of a fetch to the next for a kid that is not in the set. Bounds the
/// fetches that random kids can cause.
pub const COOL_DOWN_MS: u64 = 30 * 1000;

/// The pauses before a failed fetch is repeated. The first is short, because every request is 503
/// while there are no keys.
pub const BACKOFF: Backoff = Backoff { first_ms: 1000, longest_ms: COOL_DOWN_MS };

/// Milliseconds for each fetch of a key set or a discovery document, body included.
pub const FETCH_MS: u64 = 3000;

/// Milliseconds after which an unfinished fetch counts as lost: the runtime may have cancelled the
/// request that made it.
pub const LOST_MS: u64 = 2 * FETCH_MS + 500;

/// Milliseconds after which an unchanged set is stored again, so that its age in the store stays
/// far below [`HARD_MS`] while its issuer answers.
pub const REWRITE_MS: u64 = 60 * 60 * 1000;

/// Milliseconds between two reads of the store by one isolate for a missing key.
pub const CACHE_LOOK_MS: u64 = 5 * 1000;
