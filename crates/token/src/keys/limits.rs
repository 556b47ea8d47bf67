//! Every bound of the key room, with its unit and its reason.

use portcullis_resilience::Backoff;

/// Bytes of a JWKS body. Most public sets are below 20 KB; a hundred RSA-4096 keys with
/// their certificates are 400 KB. In memory a set takes a few times as much while it is
/// read. Larger ones are 503, never 401.
pub const JWKS_BYTES: usize = 512 * 1024;

/// Keys of one set that are looked at closely, which is arithmetic: half a millisecond each
/// at worst. Providers publish 2 to 10, multi-tenant ones up to a hundred. Where there are
/// more, a key that is not found is 503, never 401.
pub const KEYS: usize = 256;

/// Keys that are tried for one token at most, where several fit it equally. Each costs a
/// signature check.
pub const CANDIDATES: usize = 4;

/// Smallest RSA modulus in bits (RFC 7518, section 3.3).
pub const RSA_BITS_MIN: usize = 2048;

/// Largest RSA modulus in bits; verification cost grows with its square.
pub const RSA_BITS_MAX: usize = 4096;

/// Bytes of a key set's URL in a discovery document.
pub const URL_BYTES: usize = 2048;

/// Milliseconds for which a fetched set is used without a thought, where its issuer
/// says nothing of that.
pub const FRESH_MS: u64 = 10 * 60 * 1000;

/// The least that an issuer's word can make of it: more fetches than one a minute
/// are no use to anybody.
pub const FRESH_MIN_MS: u64 = 60 * 1000;

/// The most: for so long a removed key may live on, and no longer.
pub const FRESH_MAX_MS: u64 = 60 * 60 * 1000;

/// Milliseconds for which a set is still used while its issuer cannot be
/// reached. Past it we no longer know what the issuer revoked: 503.
pub const HARD_MS: u64 = 24 * 60 * 60 * 1000;

/// Milliseconds between two fetches for kids that are not in the set, counted
/// from the last attempt's end. Bounds what random kids can make us do.
pub const COOL_DOWN_MS: u64 = 30 * 1000;

/// Milliseconds before a failed fetch is tried again, doubled for each further
/// failure up to [`COOL_DOWN_MS`]. Short, because while there are no keys at
/// all every request is a 503.
pub const BACK_OFF_MS: u64 = 1000;

/// The pauses between failing fetches.
pub const BACKOFF: Backoff = Backoff { first_ms: BACK_OFF_MS, longest_ms: COOL_DOWN_MS };

/// Milliseconds that each of the one or two fetches that lead to a key set may take,
/// body included.
pub const FETCH_MS: u64 = 3000;

/// Milliseconds after which an unfinished attempt is taken for lost: the
/// request that owned it was cancelled together with its fetch.
pub const LOST_MS: u64 = 2 * FETCH_MS + 500;

/// Milliseconds after which an unchanged set is written to KV again, so that
/// its recorded age never nears [`HARD_MS`] while its issuer is well.
pub const REWRITE_MS: u64 = 60 * 60 * 1000;

/// Milliseconds between two looks into KV by one isolate for a key that it
/// lacks.
pub const CACHE_LOOK_MS: u64 = 5 * 1000;
